/* Compositions of pointwise operators. */
#include <flambeau/core/ops/blend.h>

#include <math.h>

#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/softmax.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/compose_priv.h"

static fb_status need_floats(const fbi_call *c, int n)
{
    fb_status st = FB_OK;
    for (int i = 0; i < n && !st; i++)
        st = fbi_need_float(c, i);
    return st;
}

fb_status fbi_compose_addcmul(fbi_call *c)
{
    double value = ((const fbi_attrs_addcmul *)c->attrs)->value;
    fb_tensor *p = fb_mul(c->in[1], c->in[2]);
    return fbi_composed(c, fb_add(c->in[0], value == 1 ? p : fb_mul_scalar(p, value)));
}

fb_status fbi_compose_addcdiv(fbi_call *c)
{
    double value = ((const fbi_attrs_addcdiv *)c->attrs)->value;
    fb_status st = need_floats(c, 3);
    if (st)
        return st;
    fb_tensor *p = fb_div(value == 1 ? c->in[1] : fb_mul_scalar(c->in[1], value), c->in[2]);
    return fbi_composed(c, fb_add(c->in[0], p));
}

/* From the nearer end, so that weight 1 gives the end itself. */
fb_status fbi_compose_lerp(fbi_call *c)
{
    fb_tensor *start = c->in[0], *end = c->in[1], *w = c->in[2];
    fb_status st = need_floats(c, 3);
    if (st)
        return st;
    fb_tensor *way = fb_sub(end, start), *rest = fb_add_scalar(fb_neg(w), 1);
    fb_tensor *near = fb_lt(fb_abs(w), fbi_scalar(w, 0.5));
    return fbi_composed(
        c, fb_where(near, fb_add(start, fb_mul(w, way)), fb_sub(end, fb_mul(way, rest))));
}

fb_status fbi_compose_lerp_scalar(fbi_call *c)
{
    double w = ((const fbi_attrs_lerp_scalar *)c->attrs)->weight;
    fb_status st = need_floats(c, 2);
    if (st)
        return st;
    fb_tensor *way = fb_sub(c->in[1], c->in[0]);
    return fbi_composed(c, fabs(w) < 0.5 ? fb_add(c->in[0], fb_mul_scalar(way, w))
                                         : fb_sub(c->in[1], fb_mul_scalar(way, 1 - w)));
}

fb_status fbi_compose_clamp_tensor(fbi_call *c)
{
    fb_tensor *y = c->in[0], *lo = c->in[1], *hi = c->in[2];
    if (!lo && !hi)
        return fbi_op_fail(c, FB_E_ARG, "needs a lower limit, an upper one, or both");
    if (lo)
        y = fb_clamp_min(y, lo);
    return fbi_composed(c, y && hi ? fb_clamp_max(y, hi) : y);
}

fb_status fbi_compose_masked_fill(fbi_call *c)
{
    double value = ((const fbi_attrs_masked_fill *)c->attrs)->value;
    fb_dtype d = (fb_dtype)c->in[0]->dtype;
    fb_status st = fbi_need_dtype(c, 1, FB_BOOL);
    if (st)
        return st;
    if (!fb_dtype_is_float(d) && floor(value) != value)
        return fbi_op_fail(c, FB_E_DTYPE, "%g is no integer and the tensor is %s: convert it",
                           value, fb_dtype_name(d));
    return fbi_composed(c, fb_where(c->in[1], fbi_scalar(c->in[0], value), c->in[0]));
}

fb_status fbi_compose_masked_fill_tensor(fbi_call *c)
{
    fb_tensor *x = c->in[0], *v = c->in[2];
    fb_status st = fbi_need_dtype(c, 1, FB_BOOL);
    if (st)
        return st;
    if (v->ndim)
        return fbi_op_fail(c, FB_E_SHAPE, "the value has sizes %s; needs none", fbi_text(v));
    if (!fb_dtype_is_float((fb_dtype)x->dtype) && fb_dtype_is_float((fb_dtype)v->dtype))
        return fbi_op_fail(c, FB_E_DTYPE, "the value is %s and the tensor is %s: convert it",
                           fb_dtype_name((fb_dtype)v->dtype), fb_dtype_name((fb_dtype)x->dtype));
    return fbi_composed(c, fb_where(c->in[1], fb_to(v, (fb_dtype)x->dtype), x));
}

fb_status fbi_compose_where_scalar(fbi_call *c)
{
    double value = ((const fbi_attrs_where_scalar *)c->attrs)->value;
    fb_tensor *x = c->in[1];
    fb_dtype d = (fb_dtype)x->dtype;
    fb_status st = fbi_need_dtype(c, 0, FB_BOOL);
    if (st)
        return st;
    if (!fb_dtype_is_float(d) && floor(value) != value)
        x = fb_to(x, FB_F32);
    else if (d == FB_BOOL && value != 0 && value != 1)
        x = fb_to(x, FB_I64);
    return fbi_composed(c, x ? fb_where(c->in[0], x, fbi_scalar(x, value)) : NULL);
}

fb_status fbi_compose_mvlgamma(fbi_call *c)
{
    int64_t p = ((const fbi_attrs_mvlgamma *)c->attrs)->p;
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (p < 1)
        return fbi_op_fail(c, FB_E_ARG, "%lld dimensions", (long long)p);
    fb_tensor *sum = fb_lgamma(c->in[0]);
    for (int64_t j = 2; j <= p && sum; j++)
        sum = fb_add(sum, fb_lgamma(fb_add_scalar(c->in[0], -(double)(j - 1) / 2)));
    double shift = (double)p * (double)(p - 1) / 4 * log(acos(-1));
    return fbi_composed(c, fb_add_scalar(sum, shift));
}

/* The largest number of a floating dtype. */
static double largest(fb_dtype d)
{
    return d == FB_F64   ? 0x1.fffffffffffffp1023
           : d == FB_F32 ? 0x1.fffffep127
           : d == FB_F16 ? 65504
                         : 0x1.fep127;
}

fb_status fbi_compose_nan_to_num(fbi_call *c)
{
    const fbi_attrs_nan_to_num *a = c->attrs;
    fb_tensor *x = c->in[0];
    fb_dtype d = (fb_dtype)x->dtype;
    if (!fb_dtype_is_float(d))
        return fbi_composed(c, fb_clone(x));
    fb_tensor *y = fb_where(fb_isnan(x), fbi_scalar(x, a->nan), x);
    y = fb_where(fb_isposinf(x), fbi_scalar(x, a->posinf == INFINITY ? largest(d) : a->posinf), y);
    y = fb_where(fb_isneginf(x), fbi_scalar(x, a->neginf == -INFINITY ? -largest(d) : a->neginf),
                 y);
    return fbi_composed(c, y);
}

fb_status fbi_compose_glu(fbi_call *c)
{
    const fb_tensor *x = c->in[0];
    int64_t dim = ((const fbi_attrs_glu *)c->attrs)->dim;
    fb_status st = fbi_need_float(c, 0);
    int d = st ? -1 : fbi_dim_of(c, dim);
    if (d < 0)
        return st ? st : FB_E_ARG;
    int64_t half = x->size[d] / 2;
    if (2 * half != x->size[d])
        return fbi_op_fail(c, FB_E_SHAPE, "dimension %lld of %s has no two halves", (long long)dim,
                           fbi_text(x));
    fb_tensor *gate = fb_sigmoid(fb_narrow(c->in[0], d, half, half));
    return fbi_composed(c, fb_mul(fb_narrow(c->in[0], d, 0, half), gate));
}

fb_status fbi_compose_softmin(fbi_call *c)
{
    return fbi_composed(
        c, fb_softmax(fb_neg(c->in[0]), (int)((const fbi_attrs_softmin *)c->attrs)->dim));
}

fb_status fbi_compose_ldexp(fbi_call *c)
{
    return fbi_composed(c, fb_mul(c->in[0], fb_exp2(c->in[1])));
}

fb_status fbi_compose_float_power(fbi_call *c)
{
    return fbi_composed(c, fb_pow(fb_to(c->in[0], FB_F64), fb_to(c->in[1], FB_F64)));
}

/* ~x is -x - 1. */
fb_status fbi_compose_bitwise_not(fbi_call *c)
{
    fb_dtype d = (fb_dtype)c->in[0]->dtype;
    if (fb_dtype_is_float(d))
        return fbi_op_fail(c, FB_E_DTYPE, "the operand is %s; needs integers or BOOL",
                           fb_dtype_name(d));
    return fbi_composed(c, d == FB_BOOL ? fb_logical_not(c->in[0])
                                        : fb_add_scalar(fb_neg(c->in[0]), -1));
}

fb_status fbi_compose_isclose(fbi_call *c)
{
    const fbi_attrs_isclose *at = c->attrs;
    fb_tensor *a = c->in[0], *b = c->in[1];
    fb_no_grad(c->ctx);
    if (at->rtol < 0 || at->atol < 0)
        return fbi_op_fail(c, FB_E_ARG, "tolerances %g and %g cannot be negative", at->rtol,
                           at->atol);
    if (!fb_dtype_is_float((fb_dtype)a->dtype) && !fb_dtype_is_float((fb_dtype)b->dtype)) {
        a = fb_to(a, FB_F64);
        b = fb_to(b, FB_F64);
    }
    fb_tensor *close = fb_eq(a, b), *off = fb_abs(fb_sub(a, b));
    fb_tensor *allowed = fb_add_scalar(fb_mul_scalar(fb_abs(b), at->rtol), at->atol);
    close = fb_logical_or(close, fb_logical_and(fb_isfinite(off), fb_le(off, allowed)));
    if (at->equal_nan)
        close = fb_logical_or(close, fb_logical_and(fb_isnan(a), fb_isnan(b)));
    return fbi_composed(c, close);
}

/* --- public --- */

fb_tensor *fb_addcmul(fb_tensor *x, fb_tensor *a, fb_tensor *b, double value)
{
    return FBI_RUN(addcmul, (&(fbi_attrs_addcmul){.value = value}), x, a, b);
}

fb_tensor *fb_addcdiv(fb_tensor *x, fb_tensor *a, fb_tensor *b, double value)
{
    return FBI_RUN(addcdiv, (&(fbi_attrs_addcdiv){.value = value}), x, a, b);
}

fb_tensor *fb_lerp(fb_tensor *start, fb_tensor *end, fb_tensor *weight)
{
    return FBI_RUN(lerp, NULL, start, end, weight);
}

fb_tensor *fb_lerp_scalar(fb_tensor *start, fb_tensor *end, double weight)
{
    return FBI_RUN(lerp_scalar, (&(fbi_attrs_lerp_scalar){.weight = weight}), start, end);
}

fb_tensor *fb_clamp_tensor(fb_tensor *x, fb_tensor *lo, fb_tensor *hi)
{
    return FBI_RUN(clamp_tensor, NULL, x, lo, hi);
}

fb_tensor *fb_masked_fill(fb_tensor *x, fb_tensor *mask, double value)
{
    return FBI_RUN(masked_fill, (&(fbi_attrs_masked_fill){.value = value}), x, mask);
}

fb_tensor *fb_masked_fill_tensor(fb_tensor *x, fb_tensor *mask, fb_tensor *value)
{
    return FBI_RUN(masked_fill_tensor, NULL, x, mask, value);
}

fb_tensor *fb_where_scalar(fb_tensor *cond, fb_tensor *x, double value)
{
    return FBI_RUN(where_scalar, (&(fbi_attrs_where_scalar){.value = value}), cond, x);
}

fb_tensor *fb_mvlgamma(fb_tensor *x, int p)
{
    return FBI_RUN(mvlgamma, (&(fbi_attrs_mvlgamma){.p = p}), x);
}

/* Whether every element of a BOOL tensor is true. */
static bool all_true(fb_tensor *t)
{
    fb_tensor *all = t ? fb_all(t, FB_ALL, false) : NULL;
    return all && fb_item_int(all) != 0;
}

bool fb_allclose(fb_tensor *a, fb_tensor *b, double rtol, double atol, bool equal_nan)
{
    FBI_ENTRY(fb_context_of(a));
    if (!a || !b)
        return false;
    FB_SCOPE(a->ctx);
    return all_true(fb_isclose(a, b, rtol, atol, equal_nan));
}

bool fb_equal(fb_tensor *a, fb_tensor *b)
{
    FBI_ENTRY(fb_context_of(a));
    if (!a || !b)
        return false;
    FB_SCOPE(a->ctx);
    return fb_shape_equal(fb_shape_of(a), fb_shape_of(b)) && all_true(fb_eq(a, b));
}

fb_tensor *fb_nan_to_num(fb_tensor *x, double nan, double posinf, double neginf)
{
    fbi_attrs_nan_to_num a = {.nan = nan, .posinf = posinf, .neginf = neginf};
    return FBI_RUN(nan_to_num, &a, x);
}

fb_tensor *fb_glu(fb_tensor *x, int dim)
{
    return FBI_RUN(glu, (&(fbi_attrs_glu){.dim = dim}), x);
}

fb_tensor *fb_softmin(fb_tensor *x, int dim)
{
    return FBI_RUN(softmin, (&(fbi_attrs_softmin){.dim = dim}), x);
}

fb_tensor *fb_ldexp(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(ldexp, NULL, a, b);
}

fb_tensor *fb_float_power(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(float_power, NULL, a, b);
}

fb_tensor *fb_bitwise_not(fb_tensor *x)
{
    return FBI_RUN(bitwise_not, NULL, x);
}

fb_tensor *fb_isclose(fb_tensor *a, fb_tensor *b, double rtol, double atol, bool equal_nan)
{
    fbi_attrs_isclose at = {.rtol = rtol, .atol = atol, .equal_nan = equal_nan};
    return FBI_RUN(isclose, &at, a, b);
}

/* --- samples --- */

#define IN(low, high, ...)                                        \
    {                                                             \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = (low), .hi = (high) \
    }

static void three(fbi_samples *s, const void *attrs, bool floats)
{
    fbi_sample_in in[3] = {IN(-2, 2, 3, 4), IN(-2, 2, 3, 4), IN(0.6, 2, 3, 4)};
    fbi_sample_add(s, attrs, 3, in);
    in[1].shape = FB_SHAPE(4);
    in[2].shape = FB_SHAPE(3, 1);
    fbi_sample_add(s, attrs, 3, in);
    in[1].shape = FB_SHAPE(5);
    fbi_sample_bad(s, attrs, 3, in, FB_E_SHAPE, "cannot be broadcast");
    in[0].dtype = FB_I64;
    if (floats)
        fbi_sample_bad(s, attrs, 3, in, FB_E_DTYPE, "input 0 is I64");
}

void fbi_sample_addcmul(fbi_samples *s)
{
    three(s, &(fbi_attrs_addcmul){.value = 0.7}, false);
}

void fbi_sample_addcdiv(fbi_samples *s)
{
    three(s, &(fbi_attrs_addcdiv){.value = 0.7}, true);
}

void fbi_sample_lerp(fbi_samples *s)
{
    three(s, NULL, true);
}

void fbi_sample_lerp_scalar(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-2, 2, 3, 4), IN(-2, 2, 4)};
    fbi_attrs_lerp_scalar a = {.weight = 0.3};
    fbi_sample_add(s, &a, 2, in);
    a.weight = 0.8;
    fbi_sample_add(s, &a, 2, in);
    in[1].dtype = FB_I64;
    fbi_sample_bad(s, &a, 2, in, FB_E_DTYPE, "input 1 is I64");
}

void fbi_sample_clamp_tensor(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 3, 4), IN(-1, -0.5, 4), IN(0.5, 1, 3, 1)};
    in[0].distinct = true;
    fbi_sample_add(s, NULL, 3, in);
    in[1].absent = true;
    fbi_sample_add(s, NULL, 3, in);
    in[2].absent = true;
    fbi_sample_bad(s, NULL, 3, in, FB_E_ARG, "needs a lower limit");
}

void fbi_sample_masked_fill(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-2, 2, 3, 4), IN(0, 2, 3, 1)};
    fbi_attrs_masked_fill a = {.value = -1.5};
    in[1].dtype = FB_BOOL;
    fbi_sample_add(s, &a, 2, in);
    in[0].dtype = FB_I64;
    fbi_sample_bad(s, &a, 2, in, FB_E_DTYPE, "-1.5 is no integer");
    in[1].dtype = FB_I64;
    fbi_sample_bad(s, &a, 2, in, FB_E_DTYPE, "needs BOOL");
}

void fbi_sample_masked_fill_tensor(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 3, 4), IN(0, 2, 3, 1), {.shape = FB_SCALAR, .lo = 3, .hi = 4}};
    in[1].dtype = FB_BOOL;
    fbi_sample_add(s, NULL, 3, in);
    in[0].dtype = FB_I64;
    fbi_sample_bad(s, NULL, 3, in, FB_E_DTYPE, "the value is F32 and the tensor is I64");
    in[2].shape = FB_SHAPE(1);
    fbi_sample_bad(s, NULL, 3, in, FB_E_SHAPE, "the value has sizes [1]; needs none");
    in[1].dtype = FB_I64;
    fbi_sample_bad(s, NULL, 3, in, FB_E_DTYPE, "needs BOOL");
}

void fbi_sample_where_scalar(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(0, 2, 3, 1), IN(-2, 2, 3, 4)};
    fbi_attrs_where_scalar a = {.value = -1.5};
    in[0].dtype = FB_BOOL;
    fbi_sample_add(s, &a, 2, in);
    in[0].dtype = FB_I64;
    fbi_sample_bad(s, &a, 2, in, FB_E_DTYPE, "needs BOOL");
}

void fbi_sample_mvlgamma(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(2.5, 6, 3, 4)};
    fbi_attrs_mvlgamma a = {.p = 3};
    fbi_sample_add(s, &a, 1, in);
    a.p = 0;
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "mvlgamma: 0 dimensions");
}

void fbi_sample_nan_to_num(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(-2, 2, 3, 4)};
    fbi_attrs_nan_to_num a = {.posinf = INFINITY, .neginf = -INFINITY};
    fbi_sample_add(s, &a, 1, in);
    in[0].dtype = FB_I64;
    fbi_sample_add(s, &a, 1, in);
}

void fbi_sample_glu(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(-2, 2, 3, 4)};
    fbi_attrs_glu a = {.dim = -1};
    fbi_sample_add(s, &a, 1, in);
    a.dim = 0;
    fbi_sample_bad(s, &a, 1, in, FB_E_SHAPE, "dimension 0 of [3, 4] has no two halves");
    a.dim = 2;
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "no dimension 2");
}

void fbi_sample_softmin(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(-2, 2, 3, 4)};
    fbi_attrs_softmin a = {.dim = 0};
    fbi_sample_add(s, &a, 1, in);
    a.dim = 2;
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "2");
}

static void two(fbi_samples *s, const void *attrs, bool constant)
{
    fbi_sample_in in[2] = {IN(0.5, 2, 3, 4), IN(0.5, 2, 4)};
    in[0].constant = in[1].constant = constant;
    fbi_sample_add(s, attrs, 2, in);
    in[1].shape = FB_SHAPE(5);
    fbi_sample_bad(s, attrs, 2, in, FB_E_SHAPE, "cannot be broadcast");
}

void fbi_sample_ldexp(fbi_samples *s)
{
    two(s, NULL, false);
}

void fbi_sample_float_power(fbi_samples *s)
{
    two(s, NULL, false);
}

void fbi_sample_bitwise_not(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(-9, 9, 3, 4)};
    fbi_sample_bad(s, NULL, 1, in, FB_E_DTYPE, "needs integers");
    in[0].dtype = FB_I32;
    fbi_sample_add(s, NULL, 1, in);
    in[0].dtype = FB_BOOL;
    fbi_sample_add(s, NULL, 1, in);
}

void fbi_sample_isclose(fbi_samples *s)
{
    fbi_attrs_isclose a = {.rtol = 0.3, .atol = 0.1, .equal_nan = 1};
    fbi_sample_in in[2] = {IN(0.5, 2, 3, 4), IN(0.5, 2, 4)};
    two(s, &a, true);
    a.rtol = -1;
    fbi_sample_bad(s, &a, 2, in, FB_E_ARG, "tolerances -1 and 0.1");
}
