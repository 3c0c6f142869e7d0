/* max, min, argmax, argmin along one dimension: shapes, backward, samples. */
#include <flambeau/core/ops/extreme.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/pair_priv.h"

static fb_shape without(const fb_tensor *x, int dim, bool keepdim)
{
    fb_shape s = {0, {0}};
    for (int i = 0; i < x->ndim; i++)
        if (i != dim)
            s.d[s.n++] = x->size[i];
        else if (keepdim)
            s.d[s.n++] = 1;
    return s;
}

static fb_status check(const fbi_call *c, int64_t given, int *dim)
{
    const fb_tensor *x = c->in[0];
    int64_t d = given < 0 ? given + x->ndim : given;
    if (d < 0 || d >= x->ndim)
        return fbi_op_fail(c, FB_E_ARG, "no dimension %lld in input %s", (long long)given,
                           fbi_text(x));
    if (x->size[d] == 0)
        return fbi_op_fail(c, FB_E_SHAPE, "dimension %lld of input %s is empty", (long long)given,
                           fbi_text(x));
    *dim = (int)d;
    return FB_OK;
}

static fb_status infer_values(fbi_call *c, int64_t dim, bool keepdim)
{
    int d = 0;
    fb_status st = check(c, dim, &d);
    if (!st)
        st = fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, without(c->in[0], d, keepdim));
    return st ? st : fbi_out(c, 1, FB_I64, without(c->in[0], d, keepdim));
}

static fb_status infer_index(fbi_call *c, int64_t dim, bool keepdim)
{
    int d = 0;
    fb_status st = check(c, dim, &d);
    return st ? st : fbi_out(c, 0, FB_I64, without(c->in[0], d, keepdim));
}

/* Backward needs the input's size: infer notes it, the node copies the attributes afterwards. */
fb_status fbi_infer_max_dim(fbi_call *c)
{
    fbi_attrs_max_dim *a = (fbi_attrs_max_dim *)c->attrs;
    a->size = fb_shape_of(c->in[0]);
    return infer_values(c, a->dim, a->keepdim != 0);
}

fb_status fbi_infer_min_dim(fbi_call *c)
{
    fbi_attrs_min_dim *a = (fbi_attrs_min_dim *)c->attrs;
    a->size = fb_shape_of(c->in[0]);
    return infer_values(c, a->dim, a->keepdim != 0);
}

fb_status fbi_infer_argmax(fbi_call *c)
{
    const fbi_attrs_argmax *a = c->attrs;
    return infer_index(c, a->dim, a->keepdim != 0);
}

fb_status fbi_infer_argmin(fbi_call *c)
{
    const fbi_attrs_argmin *a = c->attrs;
    return infer_index(c, a->dim, a->keepdim != 0);
}

/* The gradient goes where the value came from. */
static fb_status bwd(fbi_bw *bw, int64_t dim, bool keepdim, fb_shape size)
{
    if (!bw->grad[0])
        return FB_OK;
    int d = (int)(dim < 0 ? dim + size.n : dim);
    fb_tensor *g = bw->grad[0], *at = fbi_bw_out(bw, 1);
    if (!keepdim) {
        g = fb_unsqueeze(g, d);
        at = fb_unsqueeze(at, d);
    }
    fbi_attrs_scatter_sum a = {.dim = d, .size = size};
    return fbi_bw_give(bw, 0, FBI_RUN(scatter_sum, &a, g, at));
}

fb_status fbi_bwd_ops_max_dim(fbi_bw *bw)
{
    const fbi_attrs_max_dim *a = bw->attrs;
    return bwd(bw, a->dim, a->keepdim != 0, a->size);
}

fb_status fbi_bwd_ops_min_dim(fbi_bw *bw)
{
    const fbi_attrs_min_dim *a = bw->attrs;
    return bwd(bw, a->dim, a->keepdim != 0, a->size);
}

fb_status fb_max_dim(fb_tensor *x, int dim, bool keepdim, fb_tensor **values, fb_tensor **indices)
{
    fbi_attrs_max_dim a = {.dim = dim, .keepdim = keepdim};
    return fbi_run_pair(FBI_SITE, FBI_OP_max_dim, &a, x, values, indices);
}

fb_status fb_min_dim(fb_tensor *x, int dim, bool keepdim, fb_tensor **values, fb_tensor **indices)
{
    fbi_attrs_min_dim a = {.dim = dim, .keepdim = keepdim};
    return fbi_run_pair(FBI_SITE, FBI_OP_min_dim, &a, x, values, indices);
}

fb_tensor *fb_argmax(fb_tensor *x, int dim, bool keepdim)
{
    return FBI_RUN(argmax, (&(fbi_attrs_argmax){.dim = dim, .keepdim = keepdim}), x);
}

fb_tensor *fb_argmin(fb_tensor *x, int dim, bool keepdim)
{
    return FBI_RUN(argmin, (&(fbi_attrs_argmin){.dim = dim, .keepdim = keepdim}), x);
}

#define IN(...) \
    (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2, .distinct = true})
#define SAMPLES(name)                                                                           \
    void fbi_sample_##name(fbi_samples *s)                                                      \
    {                                                                                           \
        fbi_attrs_##name a = {.dim = -1};                                                       \
        fbi_sample_add(s, &a, 1, IN(7));                                                        \
        a.dim = 1;                                                                              \
        fbi_sample_add(s, &a, 1, IN(3, 5, 2));                                                  \
        a.keepdim = 1;                                                                          \
        fbi_sample_add(s, &a, 1, IN(3, 5));                                                     \
        fbi_sample_bad(s, &a, 1, IN(3), FB_E_ARG, "no dimension 1 in input [3]");               \
        fbi_sample_bad(s, &a, 1, IN(3, 0), FB_E_SHAPE, "dimension 1 of input [3, 0] is empty"); \
    }
SAMPLES(max_dim)
SAMPLES(min_dim)
SAMPLES(argmax)
SAMPLES(argmin)
