/* unique, bincount, histc: sizes depend on the data, so that the device is waited for. Made of
 * sort, cumsum and searchsorted; no gradient. */
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/scan.h>
#include <flambeau/core/ops/sort.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/half_priv.h"

static fb_tensor *integers_below(fb_context *ctx, int64_t n)
{
    return fb_arange(ctx, FB_I64, 0, (double)n, 1);
}

/* Runs of equal neighbours of v [n] or [n, m], n > 0. ids: the number of the run of each element.
 */
static fb_tensor *runs_of(fb_tensor *v, fb_tensor **ids, fb_tensor **counts)
{
    fb_context *ctx = v->ctx;
    int64_t n = v->size[0];
    fb_tensor *differs = fb_ne(fb_narrow(v, 0, 1, n - 1), fb_narrow(v, 0, 0, n - 1));
    if (differs && v->ndim > 1)
        differs = fb_any(differs, FB_SHAPE(1), false);
    fb_tensor *flags[2] = {fb_zeros(ctx, FB_I64, FB_SHAPE(1)), fb_to(differs, FB_I64)};
    *ids = fb_cumsum(fb_cat((fb_tensors){flags, 2}, 0), 0);
    if (!*ids)
        return NULL;
    fb_tensor *numbers = integers_below(ctx, fb_item_int(fb_select(*ids, 0, n - 1)) + 1);
    fb_tensor *first = fb_searchsorted(*ids, numbers, false);
    *counts = fb_sub(fb_searchsorted(*ids, numbers, true), first);
    return fb_index_select(v, 0, first);
}

static fb_status unique(fbi_call *c, bool sorted)
{
    fb_tensor *x = c->in[0], *at = NULL, *ids = NULL;
    fb_no_grad(c->ctx);
    fb_tensor *v = fb_reshape(x, FB_SHAPE(x->numel));
    if (!v)
        return c->ctx->status;
    if (x->numel == 0) {
        c->out[0] = fb_clone(v);
        c->out[1] = fb_zeros(c->ctx, FB_I64, fb_shape_of(x));
        c->out[2] = fb_zeros(c->ctx, FB_I64, FB_SHAPE(0));
        return c->ctx->status;
    }
    if (sorted && fb_sort(v, 0, false, &v, &at))
        return c->ctx->status;
    c->out[0] = runs_of(v, &ids, &c->out[2]);
    if (sorted && ids) /* from the sorted places to those in x */
        ids = fb_gather(ids, 0, fb_argsort(at, 0, false));
    c->out[1] = fb_reshape(ids, fb_shape_of(x));
    return c->ctx->status;
}

fb_status fbi_compose_unique(fbi_call *c)
{
    return unique(c, true);
}

fb_status fbi_compose_unique_consecutive(fbi_call *c)
{
    return unique(c, false);
}

/* The rows of v [n, m] in rising order: the last column is sorted first, and stable. */
static fb_tensor *sorted_rows(fb_tensor *v, fb_tensor **order)
{
    *order = integers_below(v->ctx, v->size[0]);
    for (int64_t j = v->size[1] - 1; j >= 0 && *order; j--) {
        fb_tensor *column = fb_index_select(fb_select(v, 1, j), 0, *order);
        *order = fb_index_select(*order, 0, fb_argsort(column, 0, false));
    }
    return *order ? fb_index_select(v, 0, *order) : NULL;
}

fb_status fbi_compose_unique_dim(fbi_call *c)
{
    fb_tensor *x = c->in[0], *ids = NULL, *order = NULL;
    int d = fbi_dim_of(c, ((const fbi_attrs_unique_dim *)c->attrs)->dim);
    if (d < 0)
        return FB_E_ARG;
    if (x->numel == 0)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s has no elements", fbi_text(x));
    fb_no_grad(c->ctx);
    fb_tensor *front = fb_movedim(x, FB_SHAPE(d), FB_SHAPE(0));
    int64_t n = x->size[d];
    fb_tensor *v = front ? fb_reshape(front, FB_SHAPE(n, x->numel / n)) : NULL;
    v = v ? sorted_rows(v, &order) : NULL;
    v = v ? runs_of(v, &ids, &c->out[2]) : NULL;
    if (!v || !ids)
        return c->ctx->status;
    fb_shape s = fb_shape_of(front);
    s.d[0] = v->size[0];
    c->out[0] = fb_contiguous(fb_movedim(fb_reshape(v, s), FB_SHAPE(0), FB_SHAPE(d)));
    c->out[1] = fb_gather(ids, 0, fb_argsort(order, 0, false));
    return c->ctx->status;
}

/* How often 0 .. n - 1 occur among integers. */
static fb_tensor *occurrences(fb_tensor *x, int64_t n)
{
    fb_tensor *sorted = NULL;
    if (fb_sort(fb_to(x, FB_I64), 0, false, &sorted, NULL))
        return NULL;
    fb_tensor *numbers = integers_below(x->ctx, n);
    return fb_sub(fb_searchsorted(sorted, numbers, true), fb_searchsorted(sorted, numbers, false));
}

static fb_status check_bincount(const fbi_call *c)
{
    const fb_tensor *x = c->in[0], *w = c->in[1];
    int64_t least = ((const fbi_attrs_bincount *)c->attrs)->minlength;
    if (fb_dtype_is_float((fb_dtype)x->dtype) || x->dtype == FB_BOOL)
        return fbi_op_fail(c, FB_E_DTYPE, "input 0 is %s; needs integers",
                           fb_dtype_name((fb_dtype)x->dtype));
    if (x->ndim != 1 || (w && (w->ndim != 1 || w->numel != x->numel)))
        return fbi_op_fail(c, FB_E_SHAPE, "input %s and weights %s: one dimension, of equal length",
                           fbi_text(x), w ? fbi_text(w) : "none");
    if (least < 0)
        return fbi_op_fail(c, FB_E_ARG, "minlength %lld is negative", (long long)least);
    return FB_OK;
}

fb_status fbi_compose_bincount(fbi_call *c)
{
    fb_tensor *x = c->in[0], *w = c->in[1];
    int64_t n = ((const fbi_attrs_bincount *)c->attrs)->minlength;
    fb_status st = check_bincount(c);
    if (st)
        return st;
    fb_no_grad(c->ctx);
    if (x->numel) {
        int64_t least = fb_item_int(fb_amin(x, FB_ALL, false));
        int64_t most = fb_item_int(fb_amax(x, FB_ALL, false));
        if (c->ctx->status)
            return c->ctx->status;
        if (least < 0)
            return fbi_op_fail(c, FB_E_ARG, "input %s has %lld: numbers cannot be negative",
                               fbi_text(x), (long long)least);
        n = most >= n ? most + 1 : n;
    }
    if (!w)
        return fbi_composed(c, occurrences(x, n));
    fb_dtype d = w->dtype == FB_F32 ? FB_F32 : FB_F64;
    fbi_attrs_index_sum a = {.dim = 0, .size = FB_SHAPE(n)};
    if (!x->numel)
        return fbi_composed(c, fb_zeros(c->ctx, d, FB_SHAPE(n)));
    return fbi_composed(c, FBI_RUN(index_sum, &a, fb_to(w, d), fb_to(x, FB_I64)));
}

static fb_status check_histc(const fbi_call *c)
{
    const fbi_attrs_histc *a = c->attrs;
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (a->bins < 1)
        return fbi_op_fail(c, FB_E_ARG, "%lld bins", (long long)a->bins);
    if (!(a->lo <= a->hi) || a->hi - a->lo - (a->hi - a->lo) != 0)
        return fbi_op_fail(c, FB_E_ARG, "no bins from %g to %g", a->lo, a->hi);
    return FB_OK;
}

/* The elements' own range where none is given. */
static fb_status range_of(const fbi_call *c, fb_tensor *v, double *lo, double *hi)
{
    if (*lo == *hi && v->numel) {
        *lo = fb_item(fb_amin(v, FB_ALL, false));
        *hi = fb_item(fb_amax(v, FB_ALL, false));
        if (c->ctx->status)
            return c->ctx->status;
        if (*hi - *lo - (*hi - *lo) != 0)
            return fbi_op_fail(c, FB_E_ARG, "the elements of %s go from %g to %g: give a range",
                               fbi_text(v), *lo, *hi);
    }
    if (*lo == *hi) {
        *lo -= 1;
        *hi += 1;
    }
    return FB_OK;
}

fb_status fbi_compose_histc(fbi_call *c)
{
    const fbi_attrs_histc *a = c->attrs;
    fb_tensor *x = c->in[0];
    double lo = a->lo, hi = a->hi, bins = (double)a->bins;
    fb_status st = check_histc(c);
    if (st)
        return st;
    fb_no_grad(c->ctx);
    fb_tensor *v = fbi_exact(fb_reshape(x, FB_SHAPE(x->numel)));
    st = v ? range_of(c, v, &lo, &hi) : c->ctx->status;
    if (st)
        return st;
    fb_dtype d = (fb_dtype)v->dtype;
    fb_tensor *low = fb_full(c->ctx, d, FB_SCALAR, lo), *high = fb_full(c->ctx, d, FB_SCALAR, hi);
    fb_tensor *place =
        fb_div(fb_mul_scalar(fb_sub(v, low), bins), fb_full(c->ctx, d, FB_SCALAR, hi - lo));
    place = fb_clamp(fb_floor(place), 0, bins - 1);
    fb_tensor *within =
        fb_logical_and(fb_ge(v, low), fb_le(v, high)); /* the others: one bin more */
    place = fb_where(within, place, fb_full(c->ctx, d, FB_SCALAR, bins));
    fb_tensor *counts = occurrences(place, a->bins);
    return fbi_composed(c, counts ? fb_to(counts, (fb_dtype)x->dtype) : NULL);
}

/* --- public --- */

static fb_status run_three(const void *site, fbi_op op, const void *attrs, fb_tensor *x,
                           fb_tensor **places[3])
{
    fb_context *ctx = fb_context_of(x);
    fb_tensor *out[3] = {NULL, NULL, NULL};
    fbi_site_guard guard __attribute__((cleanup(fbi_site_end), unused)) = fbi_site_begin(ctx, site);
    fb_status st = ctx ? fbi_run(ctx, op, attrs, &x, 1, out) : FB_E_ARG;
    for (int i = 0; i < 3; i++)
        if (places[i])
            *places[i] = out[i];
    return st;
}

fb_status fb_unique(fb_tensor *x, fb_tensor **values, fb_tensor **inverse, fb_tensor **counts)
{
    return run_three(FBI_SITE, FBI_OP_unique, NULL, x, (fb_tensor * *[3]){values, inverse, counts});
}

fb_status fb_unique_consecutive(fb_tensor *x, fb_tensor **values, fb_tensor **inverse,
                                fb_tensor **counts)
{
    return run_three(FBI_SITE, FBI_OP_unique_consecutive, NULL, x,
                     (fb_tensor * *[3]){values, inverse, counts});
}

fb_status fb_unique_dim(fb_tensor *x, int dim, fb_tensor **values, fb_tensor **inverse,
                        fb_tensor **counts)
{
    return run_three(FBI_SITE, FBI_OP_unique_dim, &(fbi_attrs_unique_dim){dim}, x,
                     (fb_tensor * *[3]){values, inverse, counts});
}

fb_tensor *fb_bincount(fb_tensor *x, fb_tensor *weights, int64_t minlength)
{
    return FBI_RUN(bincount, (&(fbi_attrs_bincount){.minlength = minlength}), x, weights);
}

fb_tensor *fb_histc(fb_tensor *x, int64_t bins, double lo, double hi)
{
    return FBI_RUN(histc, (&(fbi_attrs_histc){.bins = bins, .lo = lo, .hi = hi}), x);
}

/* --- samples --- */

static void sample_unique(fbi_samples *s)
{
    fbi_sample_in in[1] = {{.shape = FB_SHAPE(4, 9), .lo = 0, .hi = 7, .dtype = FB_I64}};
    fbi_sample_add(s, NULL, 1, in);
    in[0] = (fbi_sample_in){.shape = FB_SHAPE(5), .lo = -2, .hi = 2, .constant = true};
    fbi_sample_add(s, NULL, 1, in);
    in[0].shape = FB_SCALAR;
    fbi_sample_add(s, NULL, 1, in);
    in[0].shape = FB_SHAPE(0, 3);
    fbi_sample_add(s, NULL, 1, in);
}

void fbi_sample_unique(fbi_samples *s)
{
    sample_unique(s);
}

void fbi_sample_unique_consecutive(fbi_samples *s)
{
    sample_unique(s);
}

void fbi_sample_unique_dim(fbi_samples *s)
{
    fbi_sample_in in[1] = {{.shape = FB_SHAPE(9, 2), .lo = 0, .hi = 2, .dtype = FB_I64}};
    fbi_attrs_unique_dim a = {.dim = 0};
    fbi_sample_add(s, &a, 1, in);
    a.dim = -2;
    in[0].shape = FB_SHAPE(2, 7, 1);
    fbi_sample_add(s, &a, 1, in);
    a.dim = 3;
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "unique_dim: no dimension 3 in input [2, 7, 1]");
    a.dim = 0;
    in[0].shape = FB_SHAPE(2, 0);
    fbi_sample_bad(s, &a, 1, in, FB_E_SHAPE, "unique_dim: input [2, 0] has no elements");
}

void fbi_sample_bincount(fbi_samples *s)
{
    fbi_sample_in in[2] = {
        {.shape = FB_SHAPE(20), .lo = 0, .hi = 7, .dtype = FB_I64},
        {.shape = FB_SHAPE(20), .lo = 0, .hi = 1, .dtype = FB_F32, .constant = true}};
    fbi_attrs_bincount a = {.minlength = 0};
    fbi_sample_add(s, &a, 2, in);
    in[1].absent = true;
    a.minlength = 9;
    fbi_sample_add(s, &a, 2, in);
    in[0].lo = -3;
    in[0].hi = -2.5;
    fbi_sample_bad(s, &a, 2, in, FB_E_ARG, "has -3: numbers cannot be negative");
    in[0].shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "input [2, 3] and weights none");
    in[0].dtype = FB_F32;
    fbi_sample_bad(s, &a, 2, in, FB_E_DTYPE, "needs integers");
}

void fbi_sample_histc(fbi_samples *s)
{
    fbi_sample_in in[1] = {
        {.shape = FB_SHAPE(40), .lo = -2, .hi = 2, .dtype = FB_F32, .constant = true}};
    fbi_attrs_histc a = {.bins = 5};
    fbi_sample_add(s, &a, 1, in);
    a.lo = -1;
    a.hi = 1.5;
    fbi_sample_add(s, &a, 1, in);
    a.hi = -2;
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "no bins from -1 to -2");
    a.bins = 0;
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "0 bins");
    in[0].dtype = FB_I64;
    fbi_sample_bad(s, &a, 1, in, FB_E_DTYPE, "needs F32");
}
