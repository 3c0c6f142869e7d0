/* Order statistics of whole tensors, and quantiles that leave NaN out. */
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/extreme.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/sort.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/compose_priv.h"

/* in[0] as a line, which has elements. NULL: the error is set. */
static fb_tensor *line_of(const fbi_call *c)
{
    if (c->in[0]->numel)
        return fb_reshape(c->in[0], FB_SHAPE(c->in[0]->numel));
    fbi_op_fail(c, FB_E_SHAPE, "input %s has no elements", fbi_text(c->in[0]));
    return NULL;
}

fb_status fbi_compose_argmax_all(fbi_call *c)
{
    fb_tensor *x = line_of(c);
    return fbi_composed(c, x ? fb_argmax(x, 0, false) : NULL);
}

fb_status fbi_compose_argmin_all(fbi_call *c)
{
    fb_tensor *x = line_of(c);
    return fbi_composed(c, x ? fb_argmin(x, 0, false) : NULL);
}

fb_status fbi_compose_median_all(fbi_call *c)
{
    fb_tensor *x = line_of(c), *y = NULL;
    return fbi_composed(c, x && !fb_median(x, 0, false, &y, NULL) ? y : NULL);
}

fb_status fbi_compose_nanmedian_all(fbi_call *c)
{
    fb_tensor *x = line_of(c), *y = NULL;
    return fbi_composed(c, x && !fb_nanmedian(x, 0, false, &y, NULL) ? y : NULL);
}

/* The value at place `at` (of numbers, I64) of each line. */
static fb_tensor *value_at(fb_tensor *sorted, int d, fb_tensor *at)
{
    return at ? fb_gather(sorted, d, fb_to(at, FB_I64)) : NULL;
}

/* NaN is sorted to the end: a line of nothing else gives it. */
fb_status fbi_compose_nanquantile(fbi_call *c)
{
    const fbi_attrs_nanquantile *a = c->attrs;
    fb_tensor *x = c->in[0], *sorted = NULL;
    fb_status st = fbi_need_float(c, 0);
    int d = st ? -1 : fbi_dim_of(c, a->dim);
    if (d < 0)
        return st ? st : FB_E_ARG;
    if (x->size[d] == 0)
        return fbi_op_fail(c, FB_E_SHAPE, "dimension %lld of input %s is empty", (long long)a->dim,
                           fbi_text(x));
    if (!(a->q >= 0 && a->q <= 1))
        return fbi_op_fail(c, FB_E_ARG, "the share %g is not between 0 and 1", a->q);
    if (fb_sort(x, d, false, &sorted, NULL))
        return c->ctx->status;
    fb_tensor *n = fb_sum(fb_logical_not(fb_isnan(x)), FB_SHAPE(d), true);
    fb_tensor *last = fb_clamp(fb_add_scalar(fb_to(n, FB_F64), -1), 0, __builtin_inf());
    fb_tensor *place = fb_mul_scalar(last, a->q), *low = fb_floor(place);
    fb_tensor *high = fb_minimum(fb_add_scalar(low, 1), last);
    fb_tensor *part = fb_to(fb_sub(place, low), (fb_dtype)x->dtype);
    fb_tensor *v = value_at(sorted, d, low), *w = value_at(sorted, d, high);
    v = fb_add(v, fb_mul(fb_sub(w, v), part));
    return fbi_composed(c, a->keepdim ? v : fb_squeeze(v, d));
}

/* --- public --- */

#define PUBLIC(name)                   \
    fb_tensor *fb_##name(fb_tensor *x) \
    {                                  \
        return FBI_RUN(name, NULL, x); \
    }
PUBLIC(argmax_all)
PUBLIC(argmin_all)
PUBLIC(median_all)
PUBLIC(nanmedian_all)

fb_tensor *fb_nanquantile(fb_tensor *x, double q, int dim, bool keepdim)
{
    return FBI_RUN(nanquantile, (&(fbi_attrs_nanquantile){q, dim, keepdim}), x);
}

/* --- samples --- */

#define IN(...) \
    (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2, .distinct = true})

static void sample_all(fbi_samples *s)
{
    fbi_sample_add(s, NULL, 1, IN(7));
    fbi_sample_add(s, NULL, 1, IN(3, 4, 2));
    fbi_sample_bad(s, NULL, 1, IN(3, 0), FB_E_SHAPE, "input [3, 0] has no elements");
}
#define SAMPLES(name)                      \
    void fbi_sample_##name(fbi_samples *s) \
    {                                      \
        sample_all(s);                     \
    }
SAMPLES(argmax_all)
SAMPLES(argmin_all)
SAMPLES(median_all)
SAMPLES(nanmedian_all)

void fbi_sample_nanquantile(fbi_samples *s)
{
    fbi_attrs_nanquantile a = {.q = 0.3, .dim = -1};
    fbi_sample_add(s, &a, 1, IN(7));
    a = (fbi_attrs_nanquantile){.q = 0.5, .dim = 0, .keepdim = 1};
    fbi_sample_add(s, &a, 1, IN(4, 3));
    a.q = 2;
    fbi_sample_bad(s, &a, 1, IN(4, 3), FB_E_ARG, "the share 2 is not between 0 and 1");
    a.dim = 2;
    fbi_sample_bad(s, &a, 1, IN(4, 3), FB_E_ARG, "nanquantile: no dimension 2 in input [4, 3]");
}
