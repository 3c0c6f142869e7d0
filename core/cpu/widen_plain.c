/* See widen_priv.h. */
#include "core/cpu/widen_priv.h"

#include "core/cpu/loop.h"
#include "core/cpu/state_priv.h"

enum { FBI_WIDE_MAX = 8 };

/* Like t, of dtype d; a dense layout is kept, so that the kernel goes the way it would have gone.
 */
static fb_tensor *fbi_wide_like(const fb_tensor *t, fb_dtype d)
{
    fb_tensor *w = fbi_empty(t->ctx, d, fb_shape_of(t));
    if (w && fbi_dense(t))
        for (int i = 0; i < t->ndim; i++)
            w->stride[i] = t->stride[i];
    return w;
}

/* Replace t[i] by a wide copy where one is needed; `filled`: with the values. */
static fb_status fbi_widen_all(const fbi_call *c, fb_tensor **t, int n, bool filled)
{
    for (int i = 0; i < n; i++) {
        fb_tensor *narrow = t[i];
        fb_dtype d = narrow ? fbi_wide_dtype(c->op, (fb_dtype)narrow->dtype) : FB_F32;
        if (!narrow || d == narrow->dtype)
            continue;
        t[i] = fbi_wide_like(narrow, d);
        if (!t[i]) {
            t[i] = narrow;
            return c->ctx->status;
        }
        if (filled && narrow->numel)
            fbi_copy_strided(c->threads, t[i], narrow);
    }
    return FB_OK;
}

static void fbi_drop_wide(fb_tensor *const *wide, fb_tensor *const *own, int n)
{
    for (int i = 0; i < n; i++)
        if (wide[i] != own[i])
            fb_drop(wide[i]);
}

/* With the first `kept` inputs as they are. */
static fb_status fbi_widened(const fbi_call *c, fbi_kernel kernel, int kept)
{
    fb_tensor *in[FBI_WIDE_MAX], *out[FBI_WIDE_MAX];
    for (int i = 0; i < c->n_in; i++)
        in[i] = c->in[i];
    for (int i = 0; i < c->n_out; i++)
        out[i] = c->out[i];
    int results = c->op->flags & FBI_INTS ? 1 : c->n_out; /* a second output of theirs is indices */
    fb_status st = fbi_widen_all(c, in + kept, c->n_in - kept, true);
    if (!st)
        st = fbi_widen_all(c, out, results, c->beta != 0);
    if (!st) {
        fbi_call wide = *c;
        wide.in = in;
        wide.out = out;
        st = kernel(&wide);
    }
    for (int i = 0; i < results && !st; i++)
        if (out[i] != c->out[i] && out[i]->numel)
            fbi_copy_strided(c->threads, c->out[i], out[i]);
    fbi_drop_wide(in, c->in, c->n_in);
    fbi_drop_wide(out, c->out, c->n_out);
    return st;
}

/* A product that may read BF16: of its first two inputs. */
static bool fbi_reads_bf16(const fbi_call *c)
{
    static const fbi_op products[] = {FBI_OP_matmul,      FBI_OP_linear,    FBI_OP_linear_act,
                                      FBI_OP_linear_dact, FBI_OP_linear_dx, FBI_OP_linear_dw,
                                      FBI_OP_linear_dwb};
    bool product = false;
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        product = product || c->op->op == products[i];
    return product && fbi_cpu_state_of(c->ctx)->bf16 && c->n_in >= 2 &&
           c->in[0]->dtype == FB_BF16 && c->in[1]->dtype == FB_BF16;
}

fb_status fbi_cpu_widened(const fbi_call *c, fbi_kernel kernel)
{
    if (c->n_in > FBI_WIDE_MAX || c->n_out > FBI_WIDE_MAX)
        return fbi_op_fail(c, FB_E_UNSUPPORTED, "%d inputs of narrow dtypes", (int)c->n_in);
    if (fbi_reads_bf16(c)) {
        fb_status st = fbi_widened(c, kernel, 2);
        if (st != FB_E_UNSUPPORTED || c->ctx->status)
            return st;
    }
    return fbi_widened(c, kernel, 0);
}
