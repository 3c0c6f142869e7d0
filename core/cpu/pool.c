/* Pooling on channels-last images: the loop over channels is the innermost one. */
#include <stdlib.h>
#include <string.h>

#include "core/cpu/kernels_isa.h"
#include "core/cpu/flat_priv.h"
#include "core/cpu/nhwc_priv.h"
#include "core/ops/pool_priv.h"

typedef enum kind { MAX, RANDOM_MAX, MAX_BWD, UNPOOL, PICK, MEAN, MEAN_BWD } kind;

typedef struct job {
    kind what;
    fbi_pool pool;
    const void *in, *samples; /* samples: [n, c, 3] */
    const int32_t *index;
    void *out;
    int32_t *index_out; /* output of MAX */
} job;

static inline int64_t places(const int64_t size[3])
{
    return size[0] * size[1] * size[2];
}

/* What cell o of the smaller image looks at. */
static inline void spans(const fbi_pool *p, int64_t o, fbi_span s[3])
{
    for (int d = 2; d >= 0; d--) {
        s[d] = fbi_pool_span(p, d, o % p->out[d]);
        o /= p->out[d];
    }
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

static void run_images(const fbi_call *c, const job *j)
{
    const fbi_pool *p = &j->pool;
    int64_t in = places(p->in), out = places(p->out);
    int team = fbi_team(c, (in > out ? in : out) * p->n * p->c);
    fb_dtype dtype = (fb_dtype)c->in[0]->dtype;
#pragma omp parallel for num_threads(team) if (team > 1) schedule(static)
    for (int64_t n = 0; n < p->n; n++) {
        if (dtype == FB_F64)
            image_f64(j, n);
        else if (dtype == FB_F32)
            image_f32(j, n);
        else
            image_i64(j, n);
    }
}

/* Indices that a user gave. */
static fb_status check_indices(const fbi_call *c, const int32_t *index, int64_t n, int64_t size)
{
    for (int64_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= size)
            return fbi_op_fail(c, FB_E_ARG, "index %d, but an image has %lld elements",
                               (int)index[i], (long long)size);
    return FB_OK;
}

static fb_status run(const fbi_call *c, kind what, fbi_pool pool)
{
    void *copy[2] = {NULL};
    job j = {.what = what, .pool = pool, .out = fbi_ptr(c->out[0])};
    fbi_flat samples = {NULL, NULL};
    fb_status st = FB_OK;
    j.in = fbi_cpu_nhwc(c, c->in[0], &copy[0]);
    if (what == MAX || what == RANDOM_MAX)
        j.index_out = fbi_ptr(c->out[1]);
    else if (what == MAX_BWD || what == UNPOOL || what == PICK)
        j.index = fbi_cpu_nhwc(c, c->in[1], &copy[1]);
    if (what == RANDOM_MAX && fbi_flat_of(c, c->in[1], &samples))
        j.samples = samples.p;
    st = c->ctx->status;
    if (!st && what == UNPOOL)
        st = check_indices(c, j.index, c->in[1]->numel, places(pool.in));
    if (!st)
        run_images(c, &j);
    fbi_flat_free(&samples);
    free(copy[0]);
    free(copy[1]);
    return st;
}

fb_status FBI_KERNEL(max_pool3d)(const fbi_call *c)
{
    return run(c, MAX, fbi_pool_max(c->attrs, c->in[0], c->out[0]));
}

fb_status FBI_KERNEL(adaptive_max_pool3d)(const fbi_call *c)
{
    return run(c, MAX, fbi_pool_of(c->in[0], c->out[0], FBI_POOL_CELLS));
}

fb_status FBI_KERNEL(fractional_max_pool3d)(const fbi_call *c)
{
    return run(c, RANDOM_MAX, fbi_pool_fraction(c->attrs, c->in[0], c->out[0]));
}

fb_status FBI_KERNEL(max_pool3d_bwd)(const fbi_call *c)
{
    bool unpool = ((const fbi_attrs_max_pool3d_bwd *)c->attrs)->unpool;
    return run(c, unpool ? UNPOOL : MAX_BWD, fbi_pool_of(c->out[0], c->in[0], FBI_POOL_CELLS));
}

fb_status FBI_KERNEL(max_pool3d_pick)(const fbi_call *c)
{
    return run(c, PICK, fbi_pool_of(c->in[0], c->out[0], FBI_POOL_CELLS));
}

fb_status FBI_KERNEL(avg_pool3d)(const fbi_call *c)
{
    return run(c, MEAN, fbi_pool_mean(c->attrs, c->in[0], c->out[0]));
}

fb_status FBI_KERNEL(avg_pool3d_bwd)(const fbi_call *c)
{
    return run(c, MEAN_BWD, fbi_pool_mean(c->attrs, c->out[0], c->in[0]));
}

fb_status FBI_KERNEL(adaptive_avg_pool3d)(const fbi_call *c)
{
    return run(c, MEAN, fbi_pool_of(c->in[0], c->out[0], FBI_POOL_CELLS));
}

fb_status FBI_KERNEL(adaptive_avg_pool3d_bwd)(const fbi_call *c)
{
    return run(c, MEAN_BWD, fbi_pool_of(c->out[0], c->in[0], FBI_POOL_CELLS));
}
