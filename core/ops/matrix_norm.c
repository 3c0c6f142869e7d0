/* matrix_norm, cond, tensorinv, tensorsolve. */
#include "core/ops/decompose_priv.h"

#include <math.h>

#include <flambeau/core/ops/reduce.h>

/* --- norms --- */

static fb_status need_order(const fbi_call *c, double order, int64_t kind)
{
    double size = fabs(order);
    if (kind == FB_NORM_FROBENIUS || kind == FB_NORM_NUCLEAR ||
        (kind == FB_NORM_ORDER && (size == 1 || size == 2 || isinf(size))))
        return FB_OK;
    return fbi_op_fail(c, FB_E_ARG,
                       "order %g of kind %lld: needs 1, 2 or infinity, or their negatives, or a "
                       "kind that there is",
                       order, (long long)kind);
}

/* The largest or, for negative orders, the smallest along the last dimension. */
static fb_tensor *extreme(fb_tensor *x, double order)
{
    return order > 0 ? fb_amax(x, FB_SHAPE(-1), false) : fb_amin(x, FB_SHAPE(-1), false);
}

static fb_tensor *norm_of(fb_tensor *a, double order, int64_t kind)
{
    if (kind == FB_NORM_FROBENIUS)
        return fb_norm(a, 2, FB_SHAPE(-2, -1), false);
    if (kind == FB_NORM_NUCLEAR)
        return fb_sum(fb_svdvals(a), FB_SHAPE(-1), false);
    if (fabs(order) == 2)
        return extreme(fb_svdvals(a), order);
    return extreme(fb_sum(fb_abs(a), FB_SHAPE(fabs(order) == 1 ? -2 : -1), false), order);
}

fb_status fbi_compose_matrix_norm(fbi_call *c)
{
    const fbi_attrs_matrix_norm *a = c->attrs;
    fb_status st = fbi_need_matrix(c, 0);
    if (!st)
        st = need_order(c, a->order, a->kind);
    if (st)
        return st;
    fb_tensor *y = norm_of(c->in[0], a->order, a->kind);
    return fbi_composed(c, y && a->keepdim ? fb_unsqueeze(fb_unsqueeze(y, -1), -1) : y);
}

fb_status fbi_compose_cond(fbi_call *c)
{
    const fbi_attrs_cond *a = c->attrs;
    bool by_values = a->kind == FB_NORM_ORDER && fabs(a->order) == 2;
    fb_status st = by_values ? fbi_need_matrix(c, 0) : fbi_need_square(c, 0);
    if (!st)
        st = need_order(c, a->order, a->kind);
    if (st)
        return st;
    fb_tensor *x = c->in[0];
    if (!by_values) {
        fb_tensor *y = norm_of(x, a->order, a->kind);
        return fbi_composed(c, y ? fb_mul(y, norm_of(fb_inv(x), a->order, a->kind)) : NULL);
    }
    fb_tensor *s = fb_svdvals(x), *large = s ? extreme(s, 1) : NULL;
    fb_tensor *small = large ? extreme(s, -1) : NULL;
    return fbi_composed(c, a->order > 0 ? fb_div(large, small) : fb_div(small, large));
}

/* --- tensors as matrices --- */

static int64_t product(const fb_tensor *t, int from, int to)
{
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= t->size[i];
    return n;
}

fb_status fbi_compose_tensorinv(fbi_call *c)
{
    int64_t ind = ((const fbi_attrs_tensorinv *)c->attrs)->ind;
    fb_tensor *a = c->in[0];
    fb_status st = fbi_need_lapack(c, 0);
    if (st)
        return st;
    if (ind < 1 || ind >= a->ndim || product(a, 0, (int)ind) != product(a, (int)ind, a->ndim))
        return fbi_op_fail(c, FB_E_SHAPE,
                           "the first %lld sizes of %s must have the product of the others",
                           (long long)ind, fbi_text(a));
    int64_t n = product(a, 0, (int)ind);
    fb_shape s = {.n = a->ndim};
    for (int i = 0; i < a->ndim; i++)
        s.d[i] = a->size[(i + (int)ind) % a->ndim];
    fb_tensor *y = fb_inv(fb_reshape(a, FB_SHAPE(n, n)));
    return fbi_composed(c, y ? fb_reshape(y, s) : NULL);
}

fb_status fbi_compose_tensorsolve(fbi_call *c)
{
    fb_tensor *a = c->in[0], *b = c->in[1];
    fb_status st = fbi_need_lapack(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)a->dtype);
    if (st)
        return st;
    bool fits = b->ndim <= a->ndim && product(a, b->ndim, a->ndim) == b->numel;
    for (int i = 0; fits && i < b->ndim; i++)
        fits = a->size[i] == b->size[i];
    if (!fits)
        return fbi_op_fail(c, FB_E_SHAPE,
                           "%s must begin with the sizes of %s; the others have their product",
                           fbi_text(a), fbi_text(b));
    fb_shape s = {.n = a->ndim - b->ndim};
    for (int i = 0; i < s.n; i++)
        s.d[i] = a->size[b->ndim + i];
    fb_tensor *m = fb_reshape(a, FB_SHAPE(b->numel, b->numel));
    fb_tensor *y = m ? fb_solve(m, fb_reshape(b, FB_SHAPE(b->numel, 1))) : NULL;
    return fbi_composed(c, y ? fb_reshape(y, s) : NULL);
}

/* --- public --- */

fb_tensor *fb_matrix_norm(fb_tensor *a, fb_norm_kind kind, double order, bool keepdim)
{
    return FBI_RUN(matrix_norm, (&(fbi_attrs_matrix_norm){order, kind, keepdim}), a);
}

fb_tensor *fb_cond(fb_tensor *a, fb_norm_kind kind, double order)
{
    return FBI_RUN(cond, (&(fbi_attrs_cond){order, kind}), a);
}

fb_tensor *fb_tensorinv(fb_tensor *a, int ind)
{
    return FBI_RUN(tensorinv, (&(fbi_attrs_tensorinv){ind}), a);
}

fb_tensor *fb_tensorsolve(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(tensorsolve, NULL, a, b);
}

/* --- samples --- */

#define MATRIX(...)                                                      \
    {                                                                    \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1, .matrix = 'r' \
    }

static const double orders[] = {2, -2, 1, -1, INFINITY, -INFINITY};

void fbi_sample_matrix_norm(fbi_samples *s)
{
    fbi_sample_in in = MATRIX(2, 4, 3);
    fbi_attrs_matrix_norm a = {0};
    for (int i = 0; i < 6; i++) {
        a.order = orders[i];
        a.keepdim = i % 2;
        fbi_sample_add(s, &a, 1, &in);
    }
    for (a.kind = FB_NORM_FROBENIUS; a.kind <= FB_NORM_NUCLEAR; a.kind++)
        fbi_sample_add(s, &a, 1, &in);
    fbi_sample_bad(s, &a, 1, &in, FB_E_ARG, "of kind 3: needs 1, 2 or infinity");
    a = (fbi_attrs_matrix_norm){.order = 3};
    fbi_sample_bad(s, &a, 1, &in, FB_E_ARG, "matrix_norm: order 3 of kind 0");
    in.matrix = 0;
    in.shape = FB_SHAPE(3);
    fbi_sample_bad(s, &a, 1, &in, FB_E_SHAPE, "matrix_norm: input 0 [3] is no matrix");
}

void fbi_sample_cond(fbi_samples *s)
{
    fbi_sample_in in = MATRIX(2, 3, 3);
    fbi_attrs_cond a = {0};
    for (int i = 0; i < 6; i++) {
        a.order = orders[i];
        fbi_sample_add(s, &a, 1, &in);
    }
    a.kind = FB_NORM_FROBENIUS;
    fbi_sample_add(s, &a, 1, &in);
    in.shape = FB_SHAPE(4, 3);
    fbi_sample_bad(s, &a, 1, &in, FB_E_SHAPE, "cond: input 0 [4, 3] is not square");
    a = (fbi_attrs_cond){.order = 2};
    fbi_sample_add(s, &a, 1, &in);
}

void fbi_sample_tensorinv(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(2, 3, 6), .lo = -1, .hi = 1};
    fbi_sample_add(s, &(fbi_attrs_tensorinv){2}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_tensorinv){1}, 1, &in, FB_E_SHAPE,
                   "the first 1 sizes of [2, 3, 6] must have the product of the others");
}

void fbi_sample_tensorsolve(fbi_samples *s)
{
    fbi_sample_in in[2] = {{.shape = FB_SHAPE(2, 3, 6), .lo = -1, .hi = 1},
                           {.shape = FB_SHAPE(2, 3), .lo = -1, .hi = 1}};
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = FB_SHAPE(3, 2);
    fbi_sample_bad(s, NULL, 2, in, FB_E_SHAPE, "[2, 3, 6] must begin with the sizes of [3, 2]");
}
