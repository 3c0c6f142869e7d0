/* sum, mean, var, prod, amax, amin, any, all: shapes, backward (prod: scan.c), samples. */
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/half_priv.h"

/* Bit i: dimension i is reduced. No dims: all. */
static fb_status mask_of(const fbi_call *c, fb_shape dims, unsigned *mask)
{
    const fb_tensor *x = c->in[0];
    *mask = 0;
    for (int i = 0; i < dims.n; i++) {
        int64_t given = dims.d[i], d = given < 0 ? given + x->ndim : given;
        if (d < 0 || d >= x->ndim)
            return fbi_op_fail(c, FB_E_ARG, "no dimension %lld in input %s", (long long)given,
                               fbi_text(x));
        if (*mask & 1u << d)
            return fbi_op_fail(c, FB_E_ARG, "dimension %lld is listed twice", (long long)given);
        *mask |= 1u << d;
    }
    if (dims.n == 0)
        *mask = (1u << x->ndim) - 1;
    return FB_OK;
}

static fb_shape reduced(const int64_t *size, int ndim, unsigned mask, bool keepdim)
{
    fb_shape s = {0, {0}};
    for (int i = 0; i < ndim; i++)
        if (!(mask & 1u << i))
            s.d[s.n++] = size[i];
        else if (keepdim)
            s.d[s.n++] = 1;
    return s;
}

static fb_status infer(fbi_call *c, fb_dtype dtype, fb_shape dims, bool keepdim)
{
    unsigned mask;
    fb_status st = mask_of(c, dims, &mask);
    if (st)
        return st;
    const fb_tensor *x = c->in[0];
    return fbi_out(c, 0, dtype, reduced(x->size, x->ndim, mask, keepdim));
}

/* The same for rows that have no value over no elements. */
static fb_status infer_extreme(fbi_call *c, fb_shape dims, bool keepdim)
{
    const fb_tensor *x = c->in[0];
    if (x->numel == 0)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s has no elements", fbi_text(x));
    return infer(c, (fb_dtype)x->dtype, dims, keepdim);
}

/* Backward needs the size of what was reduced and not its values: infer notes it in the attributes,
 * which the node copies afterwards. */
fb_status fbi_infer_sum(fbi_call *c)
{
    fbi_attrs_sum *a = (fbi_attrs_sum *)c->attrs;
    const fb_tensor *x = c->in[0];
    a->size = fb_shape_of(x);
    bool real = fb_dtype_is_float((fb_dtype)x->dtype);
    return infer(c, real ? (fb_dtype)x->dtype : FB_I64, a->dims, a->keepdim != 0);
}

fb_status fbi_infer_mean(fbi_call *c)
{
    fbi_attrs_mean *a = (fbi_attrs_mean *)c->attrs;
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    a->size = fb_shape_of(c->in[0]);
    return infer(c, (fb_dtype)c->in[0]->dtype, a->dims, a->keepdim != 0);
}

fb_status fbi_infer_var(fbi_call *c)
{
    const fbi_attrs_var *a = c->attrs;
    fb_status st = fbi_need_float(c, 0);
    return st ? st : infer(c, (fb_dtype)c->in[0]->dtype, a->dims, a->keepdim != 0);
}

fb_status fbi_infer_amax(fbi_call *c)
{
    const fbi_attrs_amax *a = c->attrs;
    return infer_extreme(c, a->dims, a->keepdim != 0);
}

fb_status fbi_infer_amin(fbi_call *c)
{
    const fbi_attrs_amin *a = c->attrs;
    return infer_extreme(c, a->dims, a->keepdim != 0);
}

fb_status fbi_infer_prod(fbi_call *c)
{
    const fbi_attrs_prod *a = c->attrs;
    bool real = fb_dtype_is_float((fb_dtype)c->in[0]->dtype);
    return infer(c, real ? (fb_dtype)c->in[0]->dtype : FB_I64, a->dims, a->keepdim != 0);
}

fb_status fbi_infer_any(fbi_call *c)
{
    const fbi_attrs_any *a = c->attrs;
    return infer(c, FB_BOOL, a->dims, a->keepdim != 0);
}

fb_status fbi_infer_all(fbi_call *c)
{
    const fbi_attrs_all *a = c->attrs;
    return infer(c, FB_BOOL, a->dims, a->keepdim != 0);
}

/* --- backward --- */

static unsigned known_mask(fb_shape dims, int ndim)
{
    unsigned mask = 0;
    for (int i = 0; i < dims.n; i++)
        mask |= 1u << (dims.d[i] < 0 ? dims.d[i] + ndim : dims.d[i]);
    return dims.n ? mask : (1u << ndim) - 1;
}

/* A result (or its gradient) with the reduced dimensions put back as 1. */
static fb_tensor *with_ones(fb_tensor *t, fb_shape dims, bool keepdim, fb_shape size)
{
    return keepdim ? t : fb_reshape(t, reduced(size.d, size.n, known_mask(dims, size.n), true));
}

static int64_t count(fb_shape dims, fb_shape size)
{
    unsigned mask = known_mask(dims, size.n);
    int64_t n = 1;
    for (int i = 0; i < size.n; i++)
        if (mask & 1u << i)
            n *= size.d[i];
    return n;
}

fb_status fbi_bwd_ops_sum(fbi_bw *bw)
{
    const fbi_attrs_sum *a = bw->attrs;
    fb_tensor *g = with_ones(bw->grad[0], a->dims, a->keepdim != 0, a->size);
    return fbi_bw_give(bw, 0, fb_expand(g, a->size));
}

fb_status fbi_bwd_ops_mean(fbi_bw *bw)
{
    const fbi_attrs_mean *a = bw->attrs;
    fb_tensor *g = fb_mul_scalar(bw->grad[0], 1.0 / (double)count(a->dims, a->size));
    g = with_ones(g, a->dims, a->keepdim != 0, a->size);
    return fbi_bw_give(bw, 0, fb_expand(g, a->size));
}

fb_status fbi_bwd_ops_var(fbi_bw *bw)
{
    const fbi_attrs_var *a = bw->attrs;
    fb_tensor *saved = fbi_bw_in(bw, 0), *x = fbi_exact(saved), *g = fbi_exact(bw->grad[0]);
    if (!x || !g)
        return bw->ctx->status;
    fb_shape size = fb_shape_of(x);
    double k = 2 / ((double)count(a->dims, size) - a->correction);
    g = with_ones(fb_mul_scalar(g, k), a->dims, a->keepdim != 0, size);
    fb_tensor *dx = fb_mul(g, fb_sub(x, fb_mean(x, a->dims, true)));
    return fbi_bw_give(bw, 0, fb_to(dx, (fb_dtype)saved->dtype));
}

/* Equal extreme values share the gradient evenly. */
static fb_status bwd_extreme(fbi_bw *bw, fb_shape dims, bool keepdim)
{
    fb_tensor *x = fbi_bw_in(bw, 0), *y = fbi_bw_out(bw, 0);
    if (!x || !y)
        return bw->ctx->status;
    fb_shape size = fb_shape_of(x);
    fb_tensor *hit = fb_to(fb_eq(x, with_ones(y, dims, keepdim, size)), fbi_stat_dtype(x));
    fb_tensor *g = with_ones(fbi_exact(bw->grad[0]), dims, keepdim, size);
    fb_tensor *dx = fb_mul(hit, fb_div(g, fb_sum(hit, dims, true)));
    return fbi_bw_give(bw, 0, fb_to(dx, (fb_dtype)x->dtype));
}

fb_status fbi_bwd_ops_amax(fbi_bw *bw)
{
    const fbi_attrs_amax *a = bw->attrs;
    return bwd_extreme(bw, a->dims, a->keepdim != 0);
}

fb_status fbi_bwd_ops_amin(fbi_bw *bw)
{
    const fbi_attrs_amin *a = bw->attrs;
    return bwd_extreme(bw, a->dims, a->keepdim != 0);
}

/* --- public --- */

fb_tensor *fb_sum(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return FBI_RUN(sum, (&(fbi_attrs_sum){.dims = dims, .keepdim = keepdim}), x);
}

fb_tensor *fb_mean(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return FBI_RUN(mean, (&(fbi_attrs_mean){.dims = dims, .keepdim = keepdim}), x);
}

fb_tensor *fb_var(fb_tensor *x, fb_shape dims, bool unbiased, bool keepdim)
{
    fbi_attrs_var a = {.dims = dims, .keepdim = keepdim, .correction = unbiased ? 1 : 0};
    return FBI_RUN(var, &a, x);
}

fb_tensor *fb_amax(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return FBI_RUN(amax, (&(fbi_attrs_amax){.dims = dims, .keepdim = keepdim}), x);
}

fb_tensor *fb_amin(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return FBI_RUN(amin, (&(fbi_attrs_amin){.dims = dims, .keepdim = keepdim}), x);
}

fb_tensor *fb_any(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return FBI_RUN(any, (&(fbi_attrs_any){.dims = dims, .keepdim = keepdim}), x);
}

fb_tensor *fb_all(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return FBI_RUN(all, (&(fbi_attrs_all){.dims = dims, .keepdim = keepdim}), x);
}

/* --- samples --- */

#define IN(...) \
    (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2, .distinct = true})

#define SAMPLES(name, more)                                                             \
    void fbi_sample_##name(fbi_samples *s)                                              \
    {                                                                                   \
        fbi_attrs_##name a = {.dims = FB_ALL more};                                     \
        fbi_sample_add(s, &a, 1, IN(7));                                                \
        a.dims = FB_SHAPE(1);                                                           \
        fbi_sample_add(s, &a, 1, IN(3, 5, 2));                                          \
        a.dims = FB_SHAPE(0, -1);                                                       \
        a.keepdim = 1;                                                                  \
        fbi_sample_add(s, &a, 1, IN(3, 5, 2));                                          \
        a.dims = FB_SHAPE(2);                                                           \
        fbi_sample_bad(s, &a, 1, IN(3, 5), FB_E_ARG, "no dimension 2 in input [3, 5]"); \
        a.dims = FB_SHAPE(0, -2);                                                       \
        fbi_sample_bad(s, &a, 1, IN(3, 5), FB_E_ARG, "dimension -2 is listed twice");   \
    }
#define NO_MORE
SAMPLES(sum, NO_MORE)
SAMPLES(mean, NO_MORE)
#define UNBIASED , .correction = 1
SAMPLES(var, UNBIASED)
SAMPLES(prod, NO_MORE)
SAMPLES(amax, NO_MORE)
SAMPLES(amin, NO_MORE)
SAMPLES(any, NO_MORE)
SAMPLES(all, NO_MORE)
