/* sort, searchsorted and what is composed of them along one dimension. */
#include <flambeau/core/ops/sort.h>

#include <math.h>

#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/pair_priv.h"

fb_status fbi_run_pair(const void *site, fbi_op op, const void *attrs, fb_tensor *x,
                       fb_tensor **first, fb_tensor **second)
{
    fb_context *ctx = fb_context_of(x);
    fb_tensor *out[2] = {NULL, NULL};
    fbi_site_guard guard __attribute__((cleanup(fbi_site_end), unused)) = fbi_site_begin(ctx, site);
    fb_status st = ctx ? fbi_run(ctx, op, attrs, &x, 1, out) : FB_E_ARG;
    if (first)
        *first = out[0];
    if (second)
        *second = out[1];
    return st;
}

/* --- the rows with kernels --- */

fb_status fbi_infer_sort(fbi_call *c)
{
    const fb_tensor *x = c->in[0];
    int64_t dim = ((const fbi_attrs_sort *)c->attrs)->dim;
    bool one = x->ndim == 0 && (dim == 0 || dim == -1);
    fb_status st = one || fbi_dim_of(c, dim) >= 0 ? FB_OK : FB_E_ARG;
    if (!st)
        st = fbi_out(c, 0, (fb_dtype)x->dtype, fb_shape_of(x));
    return st ? st : fbi_out(c, 1, FB_I64, fb_shape_of(x));
}

fb_status fbi_bwd_ops_sort(fbi_bw *bw)
{
    const fbi_attrs_sort *a = bw->attrs;
    return bw->grad[0] ? fbi_bwd_to_index(bw, a->dim, fb_shape_of(bw->grad[0])) : FB_OK;
}

fb_status fbi_infer_searchsorted(fbi_call *c)
{
    const fb_tensor *sorted = c->in[0], *x = c->in[1];
    bool fits = sorted->ndim == 1 || (sorted->ndim == x->ndim && x->ndim > 0);
    for (int i = 0; i + 1 < sorted->ndim && fits; i++)
        fits = sorted->size[i] == x->size[i];
    if (!fits)
        return fbi_op_fail(c, FB_E_SHAPE, "sorted values %s and searched values %s do not fit",
                           fbi_text(sorted), fbi_text(x));
    fb_status st = fbi_need_dtype(c, 1, (fb_dtype)sorted->dtype);
    return st ? st : fbi_out(c, 0, FB_I64, fb_shape_of(x));
}

fb_status fbi_infer_longest_run(fbi_call *c)
{
    const fb_tensor *x = c->in[0];
    int64_t dim = ((const fbi_attrs_longest_run *)c->attrs)->dim;
    fb_shape s = fb_shape_of(x);
    if (s.n)
        s.d[dim < 0 ? dim + s.n : dim] = 1;
    return fbi_out(c, 0, FB_I64, s);
}

/* --- composed --- */

/* The dimension, 0 of a tensor without dimensions; -1 with the error set, also if it is empty. */
static int dim_with_elements(const fbi_call *c, int64_t dim)
{
    const fb_tensor *x = c->in[0];
    if (x->ndim == 0 && (dim == 0 || dim == -1))
        return 0;
    int d = fbi_dim_of(c, dim);
    if (d >= 0 && x->size[d] == 0) {
        fbi_op_fail(c, FB_E_SHAPE, "dimension %lld of input %s is empty", (long long)dim,
                    fbi_text(x));
        return -1;
    }
    return d;
}

static int64_t length(const fb_tensor *x, int d)
{
    return x->ndim ? x->size[d] : 1;
}

static fb_status failed(const fbi_call *c)
{
    return c->ctx->status ? c->ctx->status : FB_E_ARG;
}

static bool sorted(fb_tensor *x, int d, bool descending, fb_tensor *out[2])
{
    return fb_sort(x, d, descending, &out[0], &out[1]) == FB_OK;
}

/* One place along dimension d of both tensors; without keepdim the dimension goes. */
static fb_status one_place(fbi_call *c, fb_tensor *pair[2], int d, int64_t at, bool keepdim)
{
    for (int i = 0; i < 2; i++) {
        fb_tensor *t = pair[i];
        c->out[i] = t->ndim == 0 ? fb_clone(t)
                    : keepdim    ? fb_narrow(t, d, at, 1)
                                 : fb_select(t, d, at);
        if (!c->out[i])
            return failed(c);
    }
    return FB_OK;
}

/* The same where the place is a tensor of x's sizes but 1 along d: values of x by the index there.
 */
static fb_status places(fbi_call *c, fb_tensor *x, fb_tensor *indices, int d, fb_tensor *at,
                        bool keepdim)
{
    if (x->ndim == 0) {
        c->out[0] = fb_clone(x);
        c->out[1] = fb_clone(indices);
        return c->out[0] && c->out[1] ? FB_OK : failed(c);
    }
    fb_tensor *index = fb_gather(indices, d, at), *value = fb_gather(x, d, index);
    c->out[0] = keepdim ? value : fb_squeeze(value, d);
    c->out[1] = keepdim ? index : fb_squeeze(index, d);
    return c->out[0] && c->out[1] ? FB_OK : failed(c);
}

fb_status fbi_compose_argsort(fbi_call *c)
{
    const fbi_attrs_argsort *a = c->attrs;
    fbi_attrs_sort s = {.dim = a->dim, .descending = a->descending};
    fb_tensor *indices = NULL;
    fb_status st = fbi_run_pair(FBI_SITE, FBI_OP_sort, &s, c->in[0], NULL, &indices);
    return st ? st : fbi_composed(c, indices);
}

fb_status fbi_compose_msort(fbi_call *c)
{
    fb_tensor *values = NULL;
    fb_status st = fb_sort(c->in[0], 0, false, &values, NULL);
    return st ? st : fbi_composed(c, values);
}

fb_status fbi_compose_topk(fbi_call *c)
{
    const fbi_attrs_topk *a = c->attrs;
    fb_tensor *x = c->in[0], *pair[2];
    int d = x->ndim == 0 && (a->dim == 0 || a->dim == -1) ? 0 : fbi_dim_of(c, a->dim);
    if (d < 0)
        return FB_E_ARG;
    if (a->k < 0 || a->k > length(x, d))
        return fbi_op_fail(c, FB_E_ARG, "no %lld values along dimension %lld of %s",
                           (long long)a->k, (long long)a->dim, fbi_text(x));
    if (!sorted(x, d, a->largest != 0, pair))
        return failed(c);
    for (int i = 0; i < 2; i++)
        c->out[i] = x->ndim ? fb_narrow(pair[i], d, 0, a->k) : fb_clone(pair[i]);
    return c->out[0] && c->out[1] ? FB_OK : failed(c);
}

fb_status fbi_compose_kthvalue(fbi_call *c)
{
    const fbi_attrs_kthvalue *a = c->attrs;
    fb_tensor *x = c->in[0], *pair[2];
    int d = dim_with_elements(c, a->dim);
    if (d < 0)
        return failed(c);
    if (a->k < 1 || a->k > length(x, d))
        return fbi_op_fail(c, FB_E_ARG, "there is no value number %lld along dimension %lld of %s",
                           (long long)a->k, (long long)a->dim, fbi_text(x));
    return sorted(x, d, false, pair) ? one_place(c, pair, d, a->k - 1, a->keepdim != 0) : failed(c);
}

/* How many values along d are numbers, dimension kept; I64. */
static fb_tensor *numbers(fb_tensor *x, int d)
{
    return fb_sum(fb_logical_not(fb_isnan(x)), x->ndim ? FB_SHAPE(d) : FB_ALL, true);
}

static fb_tensor *whole(fb_context *ctx, int64_t value)
{
    return fb_full(ctx, FB_I64, FB_SCALAR, (double)value);
}

/* NaN is sorted to the end; the median of a line with NaN is the first of them. */
fb_status fbi_compose_median(fbi_call *c)
{
    const fbi_attrs_median *a = c->attrs;
    fb_tensor *x = c->in[0], *pair[2];
    int d = dim_with_elements(c, a->dim);
    if (d < 0 || !sorted(x, d, false, pair))
        return failed(c);
    int64_t n = length(x, d), middle = (n - 1) / 2;
    if (!fb_dtype_is_float((fb_dtype)x->dtype) || x->ndim == 0)
        return one_place(c, pair, d, middle, a->keepdim != 0);
    fb_tensor *valid = numbers(x, d);
    fb_tensor *at = fb_where(fb_lt(valid, whole(c->ctx, n)), valid, whole(c->ctx, middle));
    return at ? places(c, x, pair[1], d, at, a->keepdim != 0) : failed(c);
}

fb_status fbi_compose_nanmedian(fbi_call *c)
{
    const fbi_attrs_nanmedian *a = c->attrs;
    fb_tensor *x = c->in[0], *pair[2];
    int d = dim_with_elements(c, a->dim);
    if (d < 0 || !sorted(x, d, false, pair))
        return failed(c);
    if (!fb_dtype_is_float((fb_dtype)x->dtype) || x->ndim == 0)
        return one_place(c, pair, d, (length(x, d) - 1) / 2, a->keepdim != 0);
    fb_tensor *last = fb_clamp_min(fb_add_scalar(numbers(x, d), -1), whole(c->ctx, 0));
    fb_tensor *at = fb_floor_divide(last, whole(c->ctx, 2));
    return at ? places(c, x, pair[1], d, at, a->keepdim != 0) : failed(c);
}

fb_status fbi_compose_mode(fbi_call *c)
{
    const fbi_attrs_mode *a = c->attrs;
    fb_tensor *x = c->in[0], *pair[2];
    int d = dim_with_elements(c, a->dim);
    if (d < 0 || !sorted(x, d, false, pair))
        return failed(c);
    fb_tensor *at = FBI_RUN(longest_run, (&(fbi_attrs_longest_run){.dim = d}), pair[0]);
    return at ? places(c, x, pair[1], d, at, a->keepdim != 0) : failed(c);
}

fb_status fbi_compose_quantile(fbi_call *c)
{
    const fbi_attrs_quantile *a = c->attrs;
    fb_tensor *x = c->in[0], *pair[2];
    fb_status st = fbi_need_float(c, 0);
    int d = st ? -1 : dim_with_elements(c, a->dim);
    if (d < 0)
        return failed(c);
    if (!(a->q >= 0 && a->q <= 1))
        return fbi_op_fail(c, FB_E_ARG, "the share %g is not between 0 and 1", a->q);
    if (!sorted(x, d, false, pair))
        return failed(c);
    if (x->ndim == 0)
        return fbi_composed(c, fb_clone(x));
    int64_t n = x->size[d], low = (int64_t)floor(a->q * (double)(n - 1));
    double part = a->q * (double)(n - 1) - (double)low;
    fb_tensor *v = fb_narrow(pair[0], d, low, 1), *last = fb_narrow(pair[0], d, n - 1, 1);
    fb_tensor *w = fb_narrow(pair[0], d, low + 1 < n ? low + 1 : low, 1);
    v = fb_add(v, fb_mul_scalar(fb_sub(w, v), part));
    v = fb_where(fb_isnan(last), last, v);
    return fbi_composed(c, a->keepdim ? v : fb_squeeze(v, d));
}

fb_status fbi_compose_bucketize(fbi_call *c)
{
    bool right = ((const fbi_attrs_bucketize *)c->attrs)->right != 0;
    if (c->in[1]->ndim != 1)
        return fbi_op_fail(c, FB_E_SHAPE, "boundaries %s need one dimension", fbi_text(c->in[1]));
    return fbi_composed(c, fb_searchsorted(c->in[1], c->in[0], right));
}

fb_status fbi_compose_isin(fbi_call *c)
{
    fb_tensor *x = c->in[0], *test = fb_reshape(c->in[1], FB_SHAPE(c->in[1]->numel)), *s = NULL;
    fb_dtype d = fb_promote((fb_dtype)x->dtype, (fb_dtype)c->in[1]->dtype);
    if (d == FB_BOOL)
        d = FB_U8;
    if (fb_sort(fb_to(test, d), 0, false, &s, NULL))
        return failed(c);
    x = fb_to(x, d);
    return fbi_composed(c, fb_gt(fb_searchsorted(s, x, true), fb_searchsorted(s, x, false)));
}

/* --- public --- */

#define PUBLIC_PAIR(name)                                                        \
    fb_status fb_##name(fb_tensor *x, int dim, bool keepdim, fb_tensor **values, \
                        fb_tensor **indices)                                     \
    {                                                                            \
        fbi_attrs_##name a = {.dim = dim, .keepdim = keepdim};                   \
        return fbi_run_pair(FBI_SITE, FBI_OP_##name, &a, x, values, indices);    \
    }
PUBLIC_PAIR(median)
PUBLIC_PAIR(nanmedian)
PUBLIC_PAIR(mode)

fb_status fb_sort(fb_tensor *x, int dim, bool descending, fb_tensor **values, fb_tensor **indices)
{
    fbi_attrs_sort a = {.dim = dim, .descending = descending};
    return fbi_run_pair(FBI_SITE, FBI_OP_sort, &a, x, values, indices);
}

fb_tensor *fb_argsort(fb_tensor *x, int dim, bool descending)
{
    return FBI_RUN(argsort, (&(fbi_attrs_argsort){.dim = dim, .descending = descending}), x);
}

fb_tensor *fb_msort(fb_tensor *x)
{
    return FBI_RUN(msort, NULL, x);
}

fb_status fb_topk(fb_tensor *x, int64_t k, int dim, bool largest, fb_tensor **values,
                  fb_tensor **indices)
{
    fbi_attrs_topk a = {.k = k, .dim = dim, .largest = largest};
    return fbi_run_pair(FBI_SITE, FBI_OP_topk, &a, x, values, indices);
}

fb_status fb_kthvalue(fb_tensor *x, int64_t k, int dim, bool keepdim, fb_tensor **values,
                      fb_tensor **indices)
{
    fbi_attrs_kthvalue a = {.k = k, .dim = dim, .keepdim = keepdim};
    return fbi_run_pair(FBI_SITE, FBI_OP_kthvalue, &a, x, values, indices);
}

fb_tensor *fb_quantile(fb_tensor *x, double q, int dim, bool keepdim)
{
    return FBI_RUN(quantile, (&(fbi_attrs_quantile){.q = q, .dim = dim, .keepdim = keepdim}), x);
}

fb_tensor *fb_searchsorted(fb_tensor *from, fb_tensor *x, bool right)
{
    fbi_attrs_searchsorted a = {.right = right};
    if (!from || !x || from->dtype == x->dtype)
        return FBI_RUN(searchsorted, &a, from, x);
    FBI_ENTRY(from->ctx);
    fb_dtype d = fb_promote((fb_dtype)from->dtype, (fb_dtype)x->dtype);
    FB_SCOPE(from->ctx);
    return fb_keep(FBI_RUN(searchsorted, &a, fb_to(from, d), fb_to(x, d)));
}

fb_tensor *fb_bucketize(fb_tensor *x, fb_tensor *boundaries, bool right)
{
    return FBI_RUN(bucketize, (&(fbi_attrs_bucketize){.right = right}), x, boundaries);
}

fb_tensor *fb_isin(fb_tensor *x, fb_tensor *test)
{
    return FBI_RUN(isin, NULL, x, test);
}

/* --- samples --- */

#define IN(...) \
    (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2, .distinct = true})
#define SAMPLES(name, more)                                                                    \
    void fbi_sample_##name(fbi_samples *s)                                                     \
    {                                                                                          \
        fbi_attrs_##name a = {.dim = -1 more};                                                 \
        fbi_sample_add(s, &a, 1, IN(7));                                                       \
        fbi_sample_add(s, &a, 1, &(fbi_sample_in){.lo = 1, .hi = 2});                          \
        a.dim = 1;                                                                             \
        fbi_sample_add(s, &a, 1, IN(3, 5, 2));                                                 \
        fbi_sample_add(s, &a, 1, IN(2, 40));                                                   \
        fbi_sample_add(s, &a, 1,                                                               \
                       (&(fbi_sample_in){.shape = FB_SHAPE(3, 9), .hi = 9, .dtype = FB_I64})); \
        fbi_sample_bad(s, &a, 1, IN(3), FB_E_ARG, "no dimension 1 in input [3]");              \
    }
#define NO_MORE
#define ONE , .k = 1
SAMPLES(sort, NO_MORE)

void fbi_sample_argsort(fbi_samples *s)
{
    fbi_attrs_argsort a = {.dim = 1, .descending = 1};
    fbi_sample_in in[1] = {*IN(3, 5, 2)};
    in[0].constant = true;
    fbi_sample_add(s, &a, 1, in);
    in[0].shape = FB_SHAPE(3);
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "no dimension 1 in input [3]");
}

SAMPLES(topk, ONE)
SAMPLES(kthvalue, ONE)
SAMPLES(median, NO_MORE)
SAMPLES(nanmedian, NO_MORE)
SAMPLES(mode, NO_MORE)

void fbi_sample_quantile(fbi_samples *s)
{
    fbi_attrs_quantile a = {.q = 0.4, .dim = -1};
    fbi_sample_add(s, &a, 1, IN(7));
    a.dim = 1;
    a.keepdim = 1;
    fbi_sample_add(s, &a, 1, IN(3, 5, 2));
    a.q = 1;
    fbi_sample_add(s, &a, 1, IN(3, 5));
    fbi_sample_bad(s, &a, 1, IN(3), FB_E_ARG, "no dimension 1 in input [3]");
    a.q = 2;
    fbi_sample_bad(s, &a, 1, IN(3, 5), FB_E_ARG, "share 2 is not between");
}

void fbi_sample_msort(fbi_samples *s)
{
    fbi_sample_add(s, NULL, 1, IN(7, 3));
    fbi_sample_add(s, NULL, 1, IN(2, 3, 4));
}

void fbi_sample_searchsorted(fbi_samples *s)
{
    fbi_sample_in in[2] = {{.shape = FB_SHAPE(4), .lo = 3, .hi = 3.01},
                           {.shape = FB_SHAPE(3, 5), .lo = 2, .hi = 4}};
    fbi_attrs_searchsorted a = {.right = 0};
    fbi_sample_add(s, &a, 2, in);
    in[0].shape = FB_SHAPE(3, 1);
    a.right = 1;
    fbi_sample_add(s, &a, 2, in);
    in[0].shape = FB_SHAPE(4, 1);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "sorted values [4, 1] and searched values [3, 5]");
}

void fbi_sample_bucketize(fbi_samples *s)
{
    fbi_sample_in in[2] = {{.shape = FB_SHAPE(3, 5), .lo = 2, .hi = 4, .constant = true},
                           {.shape = FB_SHAPE(1), .lo = 3, .hi = 3.01, .constant = true}};
    fbi_attrs_bucketize a = {.right = 0};
    fbi_sample_add(s, &a, 2, in);
    a.right = 1;
    fbi_sample_add(s, &a, 2, in);
    in[1].shape = FB_SHAPE(1, 1);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "boundaries [1, 1] need one dimension");
}

void fbi_sample_isin(fbi_samples *s)
{
    fbi_sample_in in[2] = {{.shape = FB_SHAPE(3, 5), .hi = 9, .dtype = FB_I64},
                           {.shape = FB_SHAPE(2, 2), .hi = 9, .dtype = FB_I64}};
    fbi_sample_add(s, NULL, 2, in);
}
