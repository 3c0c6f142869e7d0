/* cumsum, cumprod, cummax, cummin, logcumsumexp, diff; backward of prod. Rows have an attribute
 * `reverse` for their backwards: from the end. */
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/scan.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/compose_priv.h"
#include "core/ops/half_priv.h"
#include "core/ops/pair_priv.h"

/* A tensor without dimensions is a line of one element. */
static fb_status check_dim(const fbi_call *c, int64_t dim)
{
    if (c->in[0]->ndim == 0 && (dim == 0 || dim == -1))
        return FB_OK;
    return fbi_dim_of(c, dim) < 0 ? FB_E_ARG : FB_OK;
}

static fb_status infer_running(fbi_call *c, int64_t dim)
{
    const fb_tensor *x = c->in[0];
    fb_status st = check_dim(c, dim);
    fb_dtype d = fb_dtype_is_float((fb_dtype)x->dtype) ? (fb_dtype)x->dtype : FB_I64;
    return st ? st : fbi_out(c, 0, d, fb_shape_of(x));
}

fb_status fbi_infer_cumsum(fbi_call *c)
{
    return infer_running(c, ((const fbi_attrs_cumsum *)c->attrs)->dim);
}

fb_status fbi_infer_cumprod(fbi_call *c)
{
    return infer_running(c, ((const fbi_attrs_cumprod *)c->attrs)->dim);
}

fb_status fbi_infer_logcumsumexp(fbi_call *c)
{
    fb_status st = fbi_need_float(c, 0);
    return st ? st : infer_running(c, ((const fbi_attrs_logcumsumexp *)c->attrs)->dim);
}

static fb_status infer_extremes(fbi_call *c, int64_t dim)
{
    const fb_tensor *x = c->in[0];
    fb_status st = check_dim(c, dim);
    if (!st)
        st = fbi_out(c, 0, (fb_dtype)x->dtype, fb_shape_of(x));
    return st ? st : fbi_out(c, 1, FB_I64, fb_shape_of(x));
}

fb_status fbi_infer_cummax(fbi_call *c)
{
    return infer_extremes(c, ((const fbi_attrs_cummax *)c->attrs)->dim);
}

fb_status fbi_infer_cummin(fbi_call *c)
{
    return infer_extremes(c, ((const fbi_attrs_cummin *)c->attrs)->dim);
}

/* --- backward --- */

static fb_tensor *cumsum(fb_tensor *x, int64_t dim, bool reverse)
{
    return FBI_RUN(cumsum, (&(fbi_attrs_cumsum){.dim = dim, .reverse = reverse}), x);
}

static fb_tensor *cumprod(fb_tensor *x, int64_t dim, bool reverse)
{
    return FBI_RUN(cumprod, (&(fbi_attrs_cumprod){.dim = dim, .reverse = reverse}), x);
}

static fb_tensor *logcumsumexp(fb_tensor *x, int64_t dim, bool reverse)
{
    return FBI_RUN(logcumsumexp, (&(fbi_attrs_logcumsumexp){.dim = dim, .reverse = reverse}), x);
}

fb_status fbi_bwd_ops_cumsum(fbi_bw *bw)
{
    const fbi_attrs_cumsum *a = bw->attrs;
    fbi_attrs_cumsum back = {.dim = a->dim, .reverse = !a->reverse};
    return FBI_BW_APPLY(bw, 0, cumsum, &back, bw->grad[0]);
}

/* Before the first 0 the gradient is the rest's sum of g y, over x. At the first 0 it is that with
 * the 0 left out of the products; behind it nothing is left. */
fb_status fbi_bwd_ops_cumprod(fbi_bw *bw)
{
    const fbi_attrs_cumprod *a = bw->attrs;
    bool rev = a->reverse != 0;
    fb_tensor *saved = fbi_bw_in(bw, 0), *x = fbi_exact(saved), *g = fbi_exact(bw->grad[0]);
    if (!x || !g)
        return bw->ctx->status;
    fb_tensor *nought = fbi_scalar(x, 0), *one = fbi_scalar(x, 1),
              *whole = fb_full(bw->ctx, FB_I64, FB_SCALAR, 1);
    fb_tensor *zero = fb_eq(x, nought), *count = cumsum(fb_to(zero, FB_I64), a->dim, rev);
    fb_tensor *before = fb_lt(count, whole), *first = fb_logical_and(zero, fb_eq(count, whole));
    fb_tensor *filled = fb_where(first, one, x);
    fb_tensor *rest = cumsum(fb_mul(g, cumprod(x, a->dim, rev)), a->dim, !rev);
    fb_tensor *rest1 = cumsum(fb_mul(g, cumprod(filled, a->dim, rev)), a->dim, !rev);
    fb_tensor *dx =
        fb_where(before, fb_div(rest, fb_where(zero, one, x)), fb_where(first, rest1, nought));
    return fbi_bw_give(bw, 0, fb_to(dx, (fb_dtype)saved->dtype));
}

/* dx_i is the sum over k >= i of g_k exp(x_i - y_k); positive and negative g apart, as logarithms.
 */
static fb_tensor *lse_part(fb_tensor *g, fb_tensor *sign, fb_tensor *x, fb_tensor *y, int64_t dim,
                           bool rev)
{
    fb_tensor *log_g = fb_log(fb_where(sign, fb_abs(g), fbi_scalar(g, 1)));
    fb_tensor *masked = fb_where(sign, fb_sub(log_g, y), fbi_scalar(g, -__builtin_inf()));
    return fb_exp(fb_add(logcumsumexp(masked, dim, !rev), x));
}

fb_status fbi_bwd_ops_logcumsumexp(fbi_bw *bw)
{
    const fbi_attrs_logcumsumexp *a = bw->attrs;
    bool rev = a->reverse != 0;
    fb_tensor *saved = fbi_bw_in(bw, 0), *x = fbi_exact(saved), *y = fbi_exact(fbi_bw_out(bw, 0));
    fb_tensor *g = fbi_exact(bw->grad[0]);
    if (!x || !y || !g)
        return bw->ctx->status;
    fb_tensor *nought = fbi_scalar(g, 0);
    y = fb_where(fb_isneginf(y), nought, y);
    fb_tensor *plus = lse_part(g, fb_gt(g, nought), x, y, a->dim, rev);
    fb_tensor *minus = lse_part(g, fb_lt(g, nought), x, y, a->dim, rev);
    return fbi_bw_give(bw, 0, fb_to(fb_sub(plus, minus), (fb_dtype)saved->dtype));
}

fb_status fbi_bwd_to_index(fbi_bw *bw, int64_t dim, fb_shape size)
{
    fb_tensor *g = bw->grad[0], *at = fbi_bw_out(bw, 1);
    if (!g)
        return FB_OK;
    if (size.n == 0)
        return fbi_bw_give(bw, 0, g);
    fbi_attrs_scatter_sum a = {.dim = dim < 0 ? dim + size.n : dim, .size = size};
    return fbi_bw_give(bw, 0, FBI_RUN(scatter_sum, &a, g, at));
}

fb_status fbi_bwd_ops_cummax(fbi_bw *bw)
{
    const fbi_attrs_cummax *a = bw->attrs;
    return bw->grad[0] ? fbi_bwd_to_index(bw, a->dim, fb_shape_of(bw->grad[0])) : FB_OK;
}

fb_status fbi_bwd_ops_cummin(fbi_bw *bw)
{
    const fbi_attrs_cummin *a = bw->attrs;
    return bw->grad[0] ? fbi_bwd_to_index(bw, a->dim, fb_shape_of(bw->grad[0])) : FB_OK;
}

/* The products of the elements before and behind each one along the last dimension. */
static fb_tensor *products_of_others(fb_tensor *rows)
{
    int last = fb_ndim(rows) - 1;
    int64_t n = fb_size(rows, last);
    fb_shape edge = fb_shape_of(rows);
    edge.d[last] = 1;
    fb_tensor *one = fb_ones(rows->ctx, (fb_dtype)rows->dtype, edge);
    fb_tensor *before[2] = {one, fb_narrow(rows, last, 0, n - 1)};
    fb_tensor *behind[2] = {fb_narrow(rows, last, 1, n - 1), one};
    return fb_mul(cumprod(fb_cat((fb_tensors){before, 2}, last), last, false),
                  cumprod(fb_cat((fb_tensors){behind, 2}, last), last, true));
}

/* Without a division, so that an element may be 0. */
fb_status fbi_bwd_ops_prod(fbi_bw *bw)
{
    const fbi_attrs_prod *a = bw->attrs;
    fb_tensor *saved = fbi_bw_in(bw, 0), *x = fbi_exact(saved), *g = fbi_exact(bw->grad[0]);
    if (!x || !g)
        return bw->ctx->status;
    fb_shape size = fb_shape_of(x), order = {size.n, {0}}, back = {size.n, {0}}, moved = size;
    unsigned mask = a->dims.n ? 0 : (1u << size.n) - 1;
    for (int i = 0; i < a->dims.n; i++)
        mask |= 1u << (a->dims.d[i] < 0 ? a->dims.d[i] + size.n : a->dims.d[i]);
    fb_shape rows = {0, {0}};
    int64_t n = 1;
    int k = 0;
    for (unsigned pass = 0; pass < 2; pass++)
        for (int i = 0; i < size.n; i++)
            if ((mask >> i & 1) == pass) {
                moved.d[k] = size.d[i];
                back.d[i] = k;
                order.d[k++] = i;
                if (!pass)
                    rows.d[rows.n++] = size.d[i];
                else
                    n *= size.d[i];
            }
    rows.d[rows.n++] = 1;
    fb_tensor *gr = fb_reshape(g, rows);
    rows.d[rows.n - 1] = n;
    if (saved->numel == 0)
        return fbi_bw_give(bw, 0, fb_zeros_like(saved));
    fb_tensor *flat = fb_reshape(fb_permute(x, order), rows);
    fb_tensor *dx = n == 1 ? fb_expand(gr, rows) : fb_mul(products_of_others(flat), gr);
    dx = fb_permute(fb_reshape(dx, moved), back);
    return fbi_bw_give(bw, 0, fb_to(dx, (fb_dtype)saved->dtype));
}

/* --- diff --- */

fb_status fbi_compose_diff(fbi_call *c)
{
    const fbi_attrs_diff *a = c->attrs;
    fb_tensor *x = c->in[0];
    int d = fbi_dim_of(c, a->dim);
    if (d < 0)
        return FB_E_ARG;
    if (a->n < 0)
        return fbi_op_fail(c, FB_E_ARG, "cannot be taken %lld times", (long long)a->n);
    for (int64_t i = 0; i < a->n && x; i++) {
        int64_t left = x->size[d] > 0 ? x->size[d] - 1 : 0;
        fb_tensor *high = fb_narrow(x, d, x->size[d] - left, left), *low = fb_narrow(x, d, 0, left);
        x = x->dtype == FB_BOOL ? fb_logical_xor(high, low) : fb_sub(high, low);
    }
    return fbi_composed(c, x == c->in[0] ? fb_clone(x) : x);
}

/* --- public --- */

fb_tensor *fb_cumsum(fb_tensor *x, int dim)
{
    return FBI_RUN(cumsum, (&(fbi_attrs_cumsum){.dim = dim}), x);
}

fb_tensor *fb_cumprod(fb_tensor *x, int dim)
{
    return FBI_RUN(cumprod, (&(fbi_attrs_cumprod){.dim = dim}), x);
}

fb_tensor *fb_logcumsumexp(fb_tensor *x, int dim)
{
    return FBI_RUN(logcumsumexp, (&(fbi_attrs_logcumsumexp){.dim = dim}), x);
}

fb_tensor *fb_diff(fb_tensor *x, int n, int dim)
{
    return FBI_RUN(diff, (&(fbi_attrs_diff){.n = n, .dim = dim}), x);
}

fb_status fb_cummax(fb_tensor *x, int dim, fb_tensor **values, fb_tensor **indices)
{
    fbi_attrs_cummax a = {.dim = dim};
    return fbi_run_pair(FBI_SITE, FBI_OP_cummax, &a, x, values, indices);
}

fb_status fb_cummin(fb_tensor *x, int dim, fb_tensor **values, fb_tensor **indices)
{
    fbi_attrs_cummin a = {.dim = dim};
    return fbi_run_pair(FBI_SITE, FBI_OP_cummin, &a, x, values, indices);
}

/* --- samples --- */

#define IN(...) \
    (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2.1, .distinct = true})
#define SAMPLES(name)                                                             \
    void fbi_sample_##name(fbi_samples *s)                                        \
    {                                                                             \
        fbi_attrs_##name a = {.dim = -1};                                         \
        fbi_sample_add(s, &a, 1, IN(7));                                          \
        fbi_sample_add(s, &a, 1, &(fbi_sample_in){.lo = 1, .hi = 2});             \
        a.dim = 1;                                                                \
        fbi_sample_add(s, &a, 1, IN(3, 5, 2));                                    \
        fbi_sample_add(s, &a, 1, IN(2, 70));                                      \
        fbi_sample_bad(s, &a, 1, IN(3), FB_E_ARG, "no dimension 1 in input [3]"); \
    }
SAMPLES(cumsum)
SAMPLES(cumprod)
SAMPLES(cummax)
SAMPLES(cummin)
SAMPLES(logcumsumexp)

void fbi_sample_diff(fbi_samples *s)
{
    fbi_attrs_diff a = {.n = 1, .dim = -1};
    fbi_sample_add(s, &a, 1, IN(7));
    a.n = 2;
    a.dim = 1;
    fbi_sample_add(s, &a, 1, IN(3, 5, 2));
    fbi_sample_bad(s, &a, 1, IN(3), FB_E_ARG, "no dimension 1 in input [3]");
    a.n = -1;
    fbi_sample_bad(s, &a, 1, IN(3, 2), FB_E_ARG, "cannot be taken -1 times");
}
