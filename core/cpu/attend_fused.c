/* attention and its backward: rows in blocks, so that no [T, S] matrix is in memory. A head is one
 * thread's work: bits do not depend on the number of threads. Keys that causal masks hide from 16
 * rows are skipped; the backward computes the weights again. */
#include <math.h>
#include <string.h>

#include "core/base/rng_priv.h"
#include "core/base/vmath.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/mask_priv.h"
#include "core/cpu/tiles_priv.h"

/* Rows of a block, and of one of its strips; keys whose products are made together, which stay in
 * the first cache. Rows in memory of ours are whole strips long. */
enum { ROWS = 64, STRIP = 16, PANEL = 64 };

/* q [t, d], k [s, d], v [s, e]; s, d and e rounded up to whole strips; what is from one row of
 * scores to the next. `group` heads of q share one of k and v. */
typedef struct sizes {
    int64_t heads, group, t, s, d, e, sp, dp, ep, ld;
    const fbi_attrs_attention *a; /* attention_bwd has the same ones */
    const fb_tensor *mask;
} sizes;

static int64_t rounded(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static int64_t at_most(int64_t n, int64_t most)
{
    return n < most ? n : most;
}

static sizes sizes_of(const fbi_call *c)
{
    const fb_tensor *q = c->in[0], *k = c->in[1], *v = c->in[2];
    int n = q->ndim;
    sizes z = {.t = q->size[n - 2],
               .s = k->size[n - 2],
               .d = q->size[n - 1],
               .e = v->size[n - 1],
               .a = c->attrs,
               .mask = c->in[3]};
    z.heads = q->numel / (z.t * z.d); /* nothing is empty */
    z.group = z.heads / (k->numel / (z.s * z.d));
    z.sp = rounded(z.s, PANEL);
    z.dp = rounded(z.d, STRIP);
    z.ep = rounded(z.e, STRIP);
    z.ld = z.sp + STRIP; /* a power of two would put all rows into few lines of the cache */
    return z;
}

/* Elements to the first one of matrix `head`. */
static int64_t start_of(const fb_tensor *t, int64_t head)
{
    int64_t at = 0;
    for (int i = t->ndim - 3; i >= 0; i--) {
        at += head % t->size[i] * t->stride[i];
        head /= t->size[i];
    }
    return at;
}

/* Keys that rows up to `last` see. */
static int64_t seen(const sizes *z, int64_t last)
{
    return z->a->causal ? at_most(last + 1, z->s) : z->s;
}

#define LOG2_E 1.4426950408889634
#define LN_2   0.69314718055994531

#define T     float
#define M     fbi_m_f32
#define POW2  fbi_pow2f
#define LOG   fbi_logf
#define FN(x) x##_f32
#include "core/cpu/attend_t.h"
#undef T
#undef M
#undef POW2
#undef LOG
#undef FN
#define T     double
#define M     fbi_m_f64
#define POW2  exp2
#define LOG   log
#define FN(x) x##_f64
#include "core/cpu/attend_t.h"

typedef void (*run)(const fbi_call *, const sizes *, int64_t from, int64_t to, void *work);

/* Heads in one run a thread, `together` or a multiple of it; each with `bytes` of its own. */
static fb_status over_heads(const fbi_call *c, const sizes *z, int64_t together, int64_t elements,
                            run fn)
{
    int64_t products = z->heads * z->t * z->s, units = z->heads / together;
    int threads = products > FBI_PAR_MIN ? c->threads : 1;
    int64_t per = (units + threads - 1) / threads * together;
    size_t bytes = (size_t)elements * fb_dtype_size((fb_dtype)c->in[0]->dtype);
    bytes = (bytes + 4095) & ~(size_t)4095;
    fb_tensor *block = fbi_empty(c->ctx, FB_U8, FB_SHAPE((int64_t)bytes * threads)); /* kept warm */
    if (!block)
        return c->ctx->status;
    char *work = fbi_ptr(block);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int i = 0; i < threads; i++) {
        int64_t from = i * per, to = from + per < z->heads ? from + per : z->heads;
        if (from < to)
            fn(c, z, from, to, work + (size_t)i * bytes);
    }
    fb_drop(block);
    return FB_OK;
}

fb_status FBI_KERNEL(attention)(const fbi_call *c)
{
    sizes z = sizes_of(c);
    int64_t dropped = z.a->dropout != 0 ? STRIP * z.sp : 0;
    int64_t n = z.d * z.sp + z.s * z.ep + ROWS * (z.ld + z.ep) + dropped;
    return over_heads(c, &z, 1, n, c->in[0]->dtype == FB_F64 ? forward_f64 : forward_f32);
}

/* Heads that share keys are one thread's: their gradients are added in order. */
fb_status FBI_KERNEL(attention_bwd)(const fbi_call *c)
{
    sizes z = sizes_of(c);
    int64_t dropped = z.a->dropout != 0 ? STRIP * z.sp : 0;
    int64_t shared = (z.d + z.e) * z.sp + z.s * (2 * z.dp + z.ep);
    int64_t n = shared + 2 * ROWS * (z.ld + z.dp + z.ep) + dropped;
    return over_heads(c, &z, z.group, n, c->in[0]->dtype == FB_F64 ? backward_f64 : backward_f32);
}
