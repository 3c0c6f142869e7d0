/* softmax and log_softmax: shapes, backward, samples. */
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/softmax.h>

#include "core/ops/half_priv.h"

static fb_status infer(fbi_call *c, int64_t dim)
{
    const fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (dim < -x->ndim || dim >= x->ndim)
        return fbi_op_fail(c, FB_E_ARG, "no dimension %lld in input %s", (long long)dim,
                           fbi_text(x));
    return fbi_out(c, 0, (fb_dtype)x->dtype, fb_shape_of(x));
}

fb_status fbi_infer_softmax(fbi_call *c)
{
    return infer(c, ((const fbi_attrs_softmax *)c->attrs)->dim);
}

fb_status fbi_infer_log_softmax(fbi_call *c)
{
    return infer(c, ((const fbi_attrs_log_softmax *)c->attrs)->dim);
}

fb_status fbi_infer_softmax_bwd(fbi_call *c)
{
    return infer(c, ((const fbi_attrs_softmax_bwd *)c->attrs)->dim);
}

fb_status fbi_infer_log_softmax_bwd(fbi_call *c)
{
    return infer(c, ((const fbi_attrs_log_softmax_bwd *)c->attrs)->dim);
}

fb_status fbi_bwd_softmax(fbi_bw *bw)
{
    fbi_attrs_softmax_bwd a = {.dim = ((const fbi_attrs_softmax *)bw->attrs)->dim};
    return FBI_BW_RUN(bw, 0, softmax_bwd, &a, bw->grad[0], fbi_bw_out(bw, 0));
}

fb_status fbi_bwd_log_softmax(fbi_bw *bw)
{
    fbi_attrs_log_softmax_bwd a = {.dim = ((const fbi_attrs_log_softmax *)bw->attrs)->dim};
    return FBI_BW_RUN(bw, 0, log_softmax_bwd, &a, bw->grad[0], fbi_bw_out(bw, 0));
}

/* y * (g - sum(g * y)) */
fb_status fbi_bwd_ops_softmax(fbi_bw *bw)
{
    int64_t dim = ((const fbi_attrs_softmax *)bw->attrs)->dim;
    fb_tensor *y = fbi_exact(fbi_bw_out(bw, 0)), *g = fbi_exact(bw->grad[0]);
    fb_tensor *total = fb_sum(fb_mul(g, y), FB_DIMS(dim), true);
    return fbi_bw_give(bw, 0, fb_to(fb_mul(y, fb_sub(g, total)), fb_dtype_of(bw->grad[0])));
}

/* g - exp(y) * sum(g) */
fb_status fbi_bwd_ops_log_softmax(fbi_bw *bw)
{
    int64_t dim = ((const fbi_attrs_log_softmax *)bw->attrs)->dim;
    fb_tensor *y = fbi_exact(fbi_bw_out(bw, 0)), *g = fbi_exact(bw->grad[0]);
    fb_tensor *dx = fb_sub(g, fb_mul(fb_exp(y), fb_sum(g, FB_DIMS(dim), true)));
    return fbi_bw_give(bw, 0, fb_to(dx, fb_dtype_of(bw->grad[0])));
}

fb_tensor *fb_softmax(fb_tensor *x, int dim)
{
    return FBI_RUN(softmax, (&(fbi_attrs_softmax){.dim = dim}), x);
}

fb_tensor *fb_log_softmax(fb_tensor *x, int dim)
{
    return FBI_RUN(log_softmax, (&(fbi_attrs_log_softmax){.dim = dim}), x);
}

#define IN(...) (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -3, .hi = 3})
#define SAMPLES(name)                                                             \
    void fbi_sample_##name(fbi_samples *s)                                        \
    {                                                                             \
        fbi_attrs_##name a = {.dim = -1};                                         \
        fbi_sample_add(s, &a, 1, IN(7));                                          \
        fbi_sample_add(s, &a, 1, IN(2, 37));                                      \
        a.dim = 1;                                                                \
        fbi_sample_add(s, &a, 1, IN(2, 5, 3));                                    \
        fbi_sample_bad(s, &a, 1, IN(4), FB_E_ARG, "no dimension 1 in input [4]"); \
    }
SAMPLES(softmax)
SAMPLES(log_softmax)
