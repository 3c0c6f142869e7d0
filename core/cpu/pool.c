/* Pooling on channels-last images: the loop over channels is the innermost one. */
#include <stdlib.h>
#include <string.h>

#include "core/cpu/kernels_isa.h"
#include "core/cpu/nhwc_priv.h"

typedef struct pool {
    int64_t n, c, h, w, oh, ow;
    int64_t k[2], stride[2], pad[2], dil[2];
    bool adaptive;
    int32_t *index; /* output of MAX */
} pool;

enum { MAX, MAX_BWD, PICK, MEAN, MEAN_BWD };

/* Where the elements of one mean lie, and how many they count for (padding included). */
typedef struct cell {
    int64_t y0, y1, x0, x1, count;
} cell;

static inline int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static cell cell_of(const pool *p, int64_t oy, int64_t ox)
{
    if (p->adaptive) {
        cell q = {oy * p->h / p->oh, ((oy + 1) * p->h + p->oh - 1) / p->oh, ox * p->w / p->ow,
                  ((ox + 1) * p->w + p->ow - 1) / p->ow, 0};
        q.count = (q.y1 - q.y0) * (q.x1 - q.x0);
        return q;
    }
    int64_t y = oy * p->stride[0] - p->pad[0], x = ox * p->stride[1] - p->pad[1];
    return (cell){most(y, 0), least(y + p->k[0], p->h), most(x, 0), least(x + p->k[1], p->w),
                  (least(y + p->k[0], p->h + p->pad[0]) - y) *
                      (least(x + p->k[1], p->w + p->pad[1]) - x)};
}

#define T     float
#define FN(x) x##_f32
#include "core/cpu/pool_t.h"
#undef T
#undef FN
#define T     double
#define FN(x) x##_f64
#include "core/cpu/pool_t.h"
#undef T
#undef FN
#define T     int64_t /* max only */
#define FN(x) x##_i64
#include "core/cpu/pool_t.h"
#undef T
#undef FN

static fb_status run(const fbi_call *c, int what, const pool *p)
{
    const fb_tensor *x = c->in[0], *index = c->n_in > 1 ? c->in[1] : NULL;
    void *copy[2] = {NULL}, *out = fbi_ptr(c->out[0]);
    void *in = fbi_cpu_nhwc(c, x, &copy[0]);
    int32_t *at = index ? fbi_cpu_nhwc(c, index, &copy[1]) : NULL;
    fb_status st = c->ctx->status;
    if (in && (at || !index)) {
        int64_t work = most(p->h * p->w, p->oh * p->ow) * p->n * p->c;
        int threads = work > FBI_PAR_MIN ? c->threads : 1;
        fb_dtype dtype = (fb_dtype)x->dtype;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
        for (int64_t n = 0; n < p->n; n++) {
            if (dtype == FB_F64)
                image_f64(what, p, n, in, at, out);
            else if (dtype == FB_F32)
                image_f32(what, p, n, in, at, out);
            else
                image_i64(what, p, n, in, at, out);
        }
    }
    free(copy[0]);
    free(copy[1]);
    return st;
}

/* Sizes from the larger and the smaller image. */
static pool sizes(const fb_tensor *big, const fb_tensor *small)
{
    return (pool){.n = big->size[0],
                  .c = big->size[1],
                  .h = big->size[2],
                  .w = big->size[3],
                  .oh = small->size[2],
                  .ow = small->size[3]};
}

fb_status FBI_KERNEL(max_pool2d)(const fbi_call *c)
{
    const fbi_attrs_max_pool2d *a = c->attrs;
    pool p = sizes(c->in[0], c->out[0]);
    p.k[0] = a->kh, p.k[1] = a->kw;
    p.stride[0] = a->sh, p.stride[1] = a->sw;
    p.pad[0] = a->ph, p.pad[1] = a->pw;
    p.dil[0] = a->dh, p.dil[1] = a->dw;
    p.index = fbi_ptr(c->out[1]);
    return run(c, MAX, &p);
}

fb_status FBI_KERNEL(max_pool2d_bwd)(const fbi_call *c)
{
    pool p = sizes(c->out[0], c->in[0]);
    return run(c, MAX_BWD, &p);
}

fb_status FBI_KERNEL(max_pool2d_pick)(const fbi_call *c)
{
    pool p = sizes(c->in[0], c->out[0]);
    return run(c, PICK, &p);
}

#define MEAN_WINDOWS(p, a)                                                                     \
    ((p).k[0] = (a)->kh, (p).k[1] = (a)->kw, (p).stride[0] = (a)->sh, (p).stride[1] = (a)->sw, \
     (p).pad[0] = (a)->ph, (p).pad[1] = (a)->pw)

fb_status FBI_KERNEL(avg_pool2d)(const fbi_call *c)
{
    const fbi_attrs_avg_pool2d *a = c->attrs;
    pool p = sizes(c->in[0], c->out[0]);
    MEAN_WINDOWS(p, a);
    return run(c, MEAN, &p);
}

fb_status FBI_KERNEL(avg_pool2d_bwd)(const fbi_call *c)
{
    const fbi_attrs_avg_pool2d_bwd *a = c->attrs;
    pool p = sizes(c->out[0], c->in[0]);
    MEAN_WINDOWS(p, a);
    return run(c, MEAN_BWD, &p);
}

fb_status FBI_KERNEL(adaptive_avg_pool2d)(const fbi_call *c)
{
    pool p = sizes(c->in[0], c->out[0]);
    p.adaptive = true;
    return run(c, MEAN, &p);
}

fb_status FBI_KERNEL(adaptive_avg_pool2d_bwd)(const fbi_call *c)
{
    pool p = sizes(c->out[0], c->in[0]);
    p.adaptive = true;
    return run(c, MEAN_BWD, &p);
}
