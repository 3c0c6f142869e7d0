/* Reductions that are composed of others. */
#include <math.h>

#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/extreme.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/compose_priv.h"
#include "core/ops/pair_priv.h"

/* x to the power p of numbers that are not negative; where x is 0, 0 with the gradient 0. */
static fb_tensor *power_above(fb_tensor *x, double p)
{
    if (!x)
        return NULL;
    fb_tensor *nought = fbi_scalar(x, 0), *zero = fb_eq(x, nought),
              *y = fb_where(zero, fbi_scalar(x, 1), x);
    return fb_where(zero, nought, p == 0.5 ? fb_sqrt(y) : fb_pow_scalar(y, p));
}

static fb_tensor *variance(fb_tensor *x, fb_shape dims, int64_t keepdim, double correction)
{
    fbi_attrs_var a = {.dims = dims, .keepdim = keepdim, .correction = correction};
    return FBI_RUN(var, &a, x);
}

fb_status fbi_compose_std(fbi_call *c)
{
    const fbi_attrs_std *a = c->attrs;
    fb_status st = fbi_need_float(c, 0);
    return st ? st
              : fbi_composed(
                    c, power_above(variance(c->in[0], a->dims, a->keepdim, a->correction), 0.5));
}

static fb_status with_mean(fbi_call *c, fb_shape dims, int64_t keepdim, double correction,
                           bool root)
{
    fb_status st = fbi_need_float(c, 0);
    fb_tensor *v = st ? NULL : variance(c->in[0], dims, keepdim, correction);
    c->out[1] = v ? fb_mean(c->in[0], dims, keepdim != 0) : NULL;
    st = fbi_composed(c, root ? power_above(v, 0.5) : v);
    return st || c->out[1] ? st : c->ctx->status;
}

fb_status fbi_compose_var_mean(fbi_call *c)
{
    const fbi_attrs_var_mean *a = c->attrs;
    return with_mean(c, a->dims, a->keepdim, a->correction, false);
}

fb_status fbi_compose_std_mean(fbi_call *c)
{
    const fbi_attrs_std_mean *a = c->attrs;
    return with_mean(c, a->dims, a->keepdim, a->correction, true);
}

/* How many elements are not 0, as a float whose gradient is 0. */
static fb_tensor *norm_0(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return fb_sum(fb_where(fb_isnan(x), fbi_scalar(x, 1), fb_square(fb_sign(x))), dims, keepdim);
}

static fb_tensor *norm_of(fb_tensor *x, double p, fb_shape dims, bool keepdim)
{
    if (p == 0)
        return norm_0(x, dims, keepdim);
    if (p == 1)
        return fb_sum(fb_abs(x), dims, keepdim);
    if (p == 2)
        return power_above(fb_sum(fb_square(x), dims, keepdim), 0.5);
    if (isinf(p))
        return p > 0 ? fb_amax(fb_abs(x), dims, keepdim) : fb_amin(fb_abs(x), dims, keepdim);
    fb_tensor *size = fb_abs(x);
    if (p < 0) /* 0 is infinite here */
        return fb_pow_scalar(fb_sum(fb_pow_scalar(size, p), dims, keepdim), 1 / p);
    return power_above(fb_sum(power_above(size, p), dims, keepdim), 1 / p);
}

fb_status fbi_compose_norm(fbi_call *c)
{
    const fbi_attrs_norm *a = c->attrs;
    fb_status st = fbi_need_float(c, 0);
    if (!st && a->p != a->p)
        st = fbi_op_fail(c, FB_E_ARG, "the order is NaN");
    return st ? st : fbi_composed(c, norm_of(c->in[0], a->p, a->dims, a->keepdim != 0));
}

fb_status fbi_compose_dist(fbi_call *c)
{
    double p = ((const fbi_attrs_dist *)c->attrs)->p;
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = fbi_need_float(c, 1);
    return st ? st : fbi_composed(c, norm_of(fb_sub(c->in[0], c->in[1]), p, FB_ALL, false));
}

/* What exp is protected by: the largest element, where that is finite; no gradient. */
static fb_tensor *shift_of(fb_tensor *x, fb_shape dims)
{
    FB_SCOPE(x->ctx);
    fb_no_grad(x->ctx);
    fb_tensor *m = fb_amax(x, dims, true);
    return m ? fb_keep(fb_where(fb_isfinite(m), m, fbi_scalar(m, 0))) : NULL;
}

fb_status fbi_compose_logsumexp(fbi_call *c)
{
    const fbi_attrs_logsumexp *a = c->attrs;
    fb_tensor *x = c->in[0];
    x = fb_dtype_is_float((fb_dtype)x->dtype) ? x : fb_to(x, FB_F32);
    if (!x || x->numel == 0)
        return fbi_composed(c, x ? fb_log(fb_sum(fb_exp(x), a->dims, a->keepdim != 0)) : NULL);
    fb_tensor *m = shift_of(x, a->dims);
    fb_tensor *sum = m ? fb_sum(fb_exp(fb_sub(x, m)), a->dims, a->keepdim != 0) : NULL;
    return fbi_composed(c, sum ? fb_add(fb_log(sum), fb_reshape(m, fb_shape_of(sum))) : NULL);
}

fb_status fbi_compose_count_nonzero(fbi_call *c)
{
    const fbi_attrs_count_nonzero *a = c->attrs;
    return fbi_composed(c, fb_sum(fb_ne(c->in[0], fbi_scalar(c->in[0], 0)), a->dims, false));
}

fb_status fbi_compose_nansum(fbi_call *c)
{
    const fbi_attrs_nansum *a = c->attrs;
    fb_tensor *x = c->in[0];
    if (fb_dtype_is_float((fb_dtype)x->dtype))
        x = fb_where(fb_isnan(x), fbi_scalar(x, 0), x);
    return fbi_composed(c, fb_sum(x, a->dims, a->keepdim != 0));
}

fb_status fbi_compose_nanmean(fbi_call *c)
{
    const fbi_attrs_nanmean *a = c->attrs;
    fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    fb_tensor *missing = fb_isnan(x),
              *count = fb_sum(fb_logical_not(missing), a->dims, a->keepdim != 0);
    fb_tensor *sum = fb_sum(fb_where(missing, fbi_scalar(x, 0), x), a->dims, a->keepdim != 0);
    return fbi_composed(c, count ? fb_div(sum, fb_to(count, (fb_dtype)x->dtype)) : NULL);
}

fb_status fbi_compose_max(fbi_call *c)
{
    return fbi_composed(c, fb_amax(c->in[0], FB_ALL, false));
}

fb_status fbi_compose_min(fbi_call *c)
{
    return fbi_composed(c, fb_amin(c->in[0], FB_ALL, false));
}

fb_status fbi_compose_aminmax(fbi_call *c)
{
    const fbi_attrs_aminmax *a = c->attrs;
    c->out[1] = fb_amax(c->in[0], a->dims, a->keepdim != 0);
    fb_status st = fbi_composed(c, c->out[1] ? fb_amin(c->in[0], a->dims, a->keepdim != 0) : NULL);
    return st;
}

/* --- public --- */

fb_tensor *fb_std(fb_tensor *x, fb_shape dims, bool unbiased, bool keepdim)
{
    fbi_attrs_std a = {.dims = dims, .keepdim = keepdim, .correction = unbiased ? 1 : 0};
    return FBI_RUN(std, &a, x);
}

fb_status fb_var_mean(fb_tensor *x, fb_shape dims, bool unbiased, bool keepdim, fb_tensor **var,
                      fb_tensor **mean)
{
    fbi_attrs_var_mean a = {.dims = dims, .keepdim = keepdim, .correction = unbiased ? 1 : 0};
    return fbi_run_pair(FBI_SITE, FBI_OP_var_mean, &a, x, var, mean);
}

fb_status fb_std_mean(fb_tensor *x, fb_shape dims, bool unbiased, bool keepdim, fb_tensor **std,
                      fb_tensor **mean)
{
    fbi_attrs_std_mean a = {.dims = dims, .keepdim = keepdim, .correction = unbiased ? 1 : 0};
    return fbi_run_pair(FBI_SITE, FBI_OP_std_mean, &a, x, std, mean);
}

fb_tensor *fb_norm(fb_tensor *x, double p, fb_shape dims, bool keepdim)
{
    return FBI_RUN(norm, (&(fbi_attrs_norm){.p = p, .dims = dims, .keepdim = keepdim}), x);
}

fb_tensor *fb_dist(fb_tensor *a, fb_tensor *b, double p)
{
    return FBI_RUN(dist, (&(fbi_attrs_dist){.p = p}), a, b);
}

fb_tensor *fb_logsumexp(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return FBI_RUN(logsumexp, (&(fbi_attrs_logsumexp){.dims = dims, .keepdim = keepdim}), x);
}

fb_tensor *fb_count_nonzero(fb_tensor *x, fb_shape dims)
{
    return FBI_RUN(count_nonzero, (&(fbi_attrs_count_nonzero){.dims = dims}), x);
}

fb_tensor *fb_nansum(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return FBI_RUN(nansum, (&(fbi_attrs_nansum){.dims = dims, .keepdim = keepdim}), x);
}

fb_tensor *fb_nanmean(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return FBI_RUN(nanmean, (&(fbi_attrs_nanmean){.dims = dims, .keepdim = keepdim}), x);
}

fb_tensor *fb_max(fb_tensor *x)
{
    return FBI_RUN(max, NULL, x);
}

fb_tensor *fb_min(fb_tensor *x)
{
    return FBI_RUN(min, NULL, x);
}

fb_status fb_aminmax(fb_tensor *x, fb_shape dims, bool keepdim, fb_tensor **min, fb_tensor **max)
{
    fbi_attrs_aminmax a = {.dims = dims, .keepdim = keepdim};
    return fbi_run_pair(FBI_SITE, FBI_OP_aminmax, &a, x, min, max);
}

fb_tensor *fb_prod(fb_tensor *x, fb_shape dims, bool keepdim)
{
    return FBI_RUN(prod, (&(fbi_attrs_prod){.dims = dims, .keepdim = keepdim}), x);
}

/* --- samples --- */

#define IN(...) \
    (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2.1, .distinct = true})

/* `a`: attributes, in which `dims` and `keepdim` (NULL: none) lie. */
static void samples(fbi_samples *s, const void *a, fb_shape *dims, int64_t *keepdim)
{
    fbi_sample_add(s, a, 1, IN(7));
    *dims = FB_SHAPE(1);
    fbi_sample_add(s, a, 1, IN(3, 5, 2));
    *dims = FB_SHAPE(0, -1);
    if (keepdim)
        *keepdim = 1;
    fbi_sample_add(s, a, 1, IN(3, 5, 2));
    *dims = FB_SHAPE(2);
    fbi_sample_bad(s, a, 1, IN(3, 5), FB_E_ARG, "no dimension 2 in input [3, 5]");
    *dims = FB_SHAPE(0, -2);
    fbi_sample_bad(s, a, 1, IN(3, 5), FB_E_ARG, "dimension -2 is listed twice");
}
#define SAMPLES(name, more)                         \
    void fbi_sample_##name(fbi_samples *s)          \
    {                                               \
        fbi_attrs_##name a = {.dims = FB_ALL more}; \
        samples(s, &a, &a.dims, &a.keepdim);        \
    }
#define NO_MORE
#define UNBIASED , .correction = 1
SAMPLES(std, UNBIASED)
SAMPLES(var_mean, UNBIASED)
SAMPLES(std_mean, UNBIASED)
SAMPLES(logsumexp, NO_MORE)
SAMPLES(nansum, NO_MORE)
SAMPLES(nanmean, NO_MORE)
SAMPLES(aminmax, NO_MORE)

void fbi_sample_norm(fbi_samples *s)
{
    static const double orders[] = {2, 1, 0, 3, 1.5, -1, INFINITY, -INFINITY};
    fbi_attrs_norm a = {.p = 2};
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        a = (fbi_attrs_norm){.p = orders[i], .dims = FB_ALL};
        samples(s, &a, &a.dims, &a.keepdim);
    }
    a.p = NAN;
    fbi_sample_bad(s, &a, 1, IN(3, 5), FB_E_ARG, "the order is NaN");
}

void fbi_sample_dist(fbi_samples *s)
{
    fbi_attrs_dist a = {.p = 2};
    fbi_sample_in in[2] = {*IN(3, 5), {.shape = FB_SHAPE(5), .lo = 3, .hi = 4}};
    fbi_sample_add(s, &a, 2, in);
    a.p = 3;
    fbi_sample_add(s, &a, 2, in);
    in[1].dtype = FB_I64;
    fbi_sample_bad(s, &a, 2, in, FB_E_DTYPE, "input 1 is I64");
}

void fbi_sample_count_nonzero(fbi_samples *s)
{
    fbi_attrs_count_nonzero a = {.dims = FB_ALL};
    fbi_sample_in in[1] = {{.shape = FB_SHAPE(3, 5, 2), .lo = 0, .hi = 3, .dtype = FB_I64}};
    fbi_sample_add(s, &a, 1, in);
    a.dims = FB_SHAPE(1);
    in[0].dtype = FB_BOOL;
    fbi_sample_add(s, &a, 1, in);
    a.dims = FB_SHAPE(3);
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "no dimension 3 in input [3, 5, 2]");
}

static void sample_all(fbi_samples *s)
{
    fbi_sample_add(s, NULL, 1, IN(7));
    fbi_sample_add(s, NULL, 1, IN(3, 5, 2));
    fbi_sample_bad(s, NULL, 1, IN(3, 0), FB_E_SHAPE, "has no elements");
}

void fbi_sample_max(fbi_samples *s)
{
    sample_all(s);
}

void fbi_sample_min(fbi_samples *s)
{
    sample_all(s);
}
