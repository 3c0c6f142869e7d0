/* Sums and products of matrices and vectors that other rows make: kron, trace, cross, vecdot,
 * tensordot, multi_dot, cdist. */
#include <math.h>
#include <stdlib.h>

#include <flambeau/core/ops/linalg.h>

#include "core/ops/half_priv.h"

#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/strided.h>
#include <flambeau/core/ops/view.h>

#define IN(...)                                           \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1 \
    }

static fb_tensor *rounded(fb_tensor *y, const fb_tensor *like)
{
    return y ? fb_to(y, (fb_dtype)like->dtype) : NULL;
}

/* --- kron --- */

/* Every element of a times the whole of b: a's sizes and b's lie in turn, then two become one. */
fb_status fbi_compose_kron(fbi_call *c)
{
    fb_tensor *a = c->in[0], *b = c->in[1];
    int n = a->ndim > b->ndim ? a->ndim : b->ndim;
    if (2 * n > FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_SHAPE, "at most %d dimensions: %s and %s", FB_MAX_DIMS / 2,
                           fbi_text(a), fbi_text(b));
    fb_shape sa = {2 * n, {0}}, sb = {2 * n, {0}}, to = {n, {0}};
    for (int i = 0; i < n; i++) {
        int ia = i - (n - a->ndim), ib = i - (n - b->ndim);
        sa.d[2 * i] = ia < 0 ? 1 : a->size[ia];
        sb.d[2 * i + 1] = ib < 0 ? 1 : b->size[ib];
        sa.d[2 * i + 1] = sb.d[2 * i] = 1;
        to.d[i] = sa.d[2 * i] * sb.d[2 * i + 1];
    }
    fb_tensor *y = fb_mul(fb_reshape(a, sa), fb_reshape(b, sb));
    return fbi_composed(c, y ? fb_reshape(y, to) : NULL);
}

void fbi_sample_kron(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(2, 3), IN(3, 2)};
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = FB_SHAPE(4);
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = FB_SHAPE(1, 1, 1, 1, 2);
    fbi_sample_bad(s, NULL, 2, in, FB_E_SHAPE,
                   "kron: at most 4 dimensions: [2, 3] and [1, 1, 1, 1, 2]");
}

fb_tensor *fb_kron(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(kron, NULL, a, b);
}

/* --- trace --- */

fb_status fbi_compose_trace(fbi_call *c)
{
    fb_status st = fbi_need_ndim(c, 0, 2);
    if (st)
        return st;
    return fbi_composed(c, fb_sum(fb_diagonal(c->in[0], 0, 0, 1), FB_ALL, false));
}

void fbi_sample_trace(fbi_samples *s)
{
    fbi_sample_in in = IN(3, 4);
    fbi_sample_add(s, NULL, 1, &in);
    in.shape = FB_SHAPE(2, 3, 3);
    fbi_sample_bad(s, NULL, 1, &in, FB_E_SHAPE, "trace: input 0 has 3 dimensions [2, 3, 3]");
}

fb_tensor *fb_trace(fb_tensor *x)
{
    return FBI_RUN(trace, NULL, x);
}

/* --- cross --- */

/* The dimension of both operands, or -1 with the error set. */
static int shared_dim(const fbi_call *c, int64_t dim)
{
    const fb_tensor *a = c->in[0], *b = c->in[1];
    if (a->ndim != b->ndim) {
        fbi_op_fail(c, FB_E_SHAPE, "inputs of one rank wanted: %s and %s", fbi_text(a),
                    fbi_text(b));
        return -1;
    }
    return fbi_dim_of(c, dim);
}

/* Elements 1 2 0 (or 2 0 1) of a dimension of 3. */
static fb_tensor *turned(fb_tensor *t, int dim, int by)
{
    fb_tensor *part[2] = {fb_narrow(t, dim, by, 3 - by), fb_narrow(t, dim, 0, by)};
    return fb_cat((fb_tensors){part, 2}, dim);
}

fb_status fbi_compose_cross(fbi_call *c)
{
    fb_tensor *a = c->in[0], *b = c->in[1];
    fb_shape s;
    int d = shared_dim(c, ((const fbi_attrs_cross *)c->attrs)->dim);
    if (d < 0)
        return c->ctx->status;
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_numbers(c, 1);
    if (st)
        return st;
    if (a->size[d] != 3 || b->size[d] != 3)
        return fbi_op_fail(c, FB_E_SHAPE, "dimension %d of %s and %s is not 3", d, fbi_text(a),
                           fbi_text(b));
    if (!fbi_broadcast(fb_shape_of(a), fb_shape_of(b), &s))
        return fbi_op_fail(c, FB_E_SHAPE, "%s and %s do not broadcast", fbi_text(a), fbi_text(b));
    fb_dtype dtype = fb_promote((fb_dtype)a->dtype, (fb_dtype)b->dtype);
    a = fbi_exact(a);
    b = fbi_exact(b);
    fb_tensor *y = a && b ? fb_sub(fb_mul(turned(a, d, 1), turned(b, d, 2)),
                                   fb_mul(turned(a, d, 2), turned(b, d, 1)))
                          : NULL;
    return fbi_composed(c, y ? fb_to(y, dtype) : NULL);
}

void fbi_sample_cross(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(2, 3), IN(2, 3)};
    fbi_sample_add(s, &(fbi_attrs_cross){-1}, 2, in);
    in[1].shape = FB_SHAPE(1, 3);
    fbi_sample_add(s, &(fbi_attrs_cross){1}, 2, in);
    fbi_sample_bad(s, &(fbi_attrs_cross){0}, 2, in, FB_E_SHAPE,
                   "cross: dimension 0 of [2, 3] and [1, 3] is not 3");
    fbi_sample_bad(s, &(fbi_attrs_cross){2}, 2, in, FB_E_ARG, "cross: no dimension 2");
}

fb_tensor *fb_cross(fb_tensor *a, fb_tensor *b, int dim)
{
    return FBI_RUN(cross, (&(fbi_attrs_cross){dim}), a, b);
}

/* --- vecdot --- */

fb_status fbi_compose_vecdot(fbi_call *c)
{
    fb_tensor *a = c->in[0], *b = c->in[1];
    fb_shape s;
    int64_t dim = ((const fbi_attrs_vecdot *)c->attrs)->dim;
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = fbi_need_float(c, 1);
    if (st)
        return st;
    if (!fbi_broadcast(fb_shape_of(a), fb_shape_of(b), &s))
        return fbi_op_fail(c, FB_E_SHAPE, "%s and %s do not broadcast", fbi_text(a), fbi_text(b));
    if (dim < -s.n || dim >= s.n)
        return fbi_op_fail(c, FB_E_ARG, "no dimension %lld in %s", (long long)dim,
                           fbi_shape_text(c->ctx, s));
    fb_dtype dtype = fb_promote((fb_dtype)a->dtype, (fb_dtype)b->dtype);
    a = fbi_exact(a);
    b = fbi_exact(b);
    fb_tensor *y = a && b ? fb_sum(fb_mul(a, b), FB_SHAPE(dim), false) : NULL;
    return fbi_composed(c, y ? fb_to(y, dtype) : NULL);
}

void fbi_sample_vecdot(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(2, 3), IN(2, 3)};
    fbi_sample_add(s, &(fbi_attrs_vecdot){-1}, 2, in);
    in[1].shape = FB_SHAPE(3);
    fbi_sample_add(s, &(fbi_attrs_vecdot){0}, 2, in);
    fbi_sample_bad(s, &(fbi_attrs_vecdot){2}, 2, in, FB_E_ARG, "vecdot: no dimension 2 in [2, 3]");
    in[1].shape = FB_SHAPE(2);
    fbi_sample_bad(s, &(fbi_attrs_vecdot){0}, 2, in, FB_E_SHAPE,
                   "vecdot: [2, 3] and [2] do not broadcast");
}

fb_tensor *fb_vecdot(fb_tensor *a, fb_tensor *b, int dim)
{
    return FBI_RUN(vecdot, (&(fbi_attrs_vecdot){dim}), a, b);
}

/* --- tensordot --- */

/* t as a matrix: the listed dimensions last (or first), the others before (behind) them and into
 * `rest`. NULL: error. */
static fb_tensor *as_matrix(const fbi_call *c, int i, fb_shape dims, bool last, fb_shape *rest)
{
    fb_tensor *t = c->in[i];
    fb_shape order = {0};
    bool seen[FB_MAX_DIMS] = {false};
    int64_t inner = 1, outer = 1;
    for (int k = 0; k < dims.n; k++) {
        int64_t d = dims.d[k] < 0 ? dims.d[k] + t->ndim : dims.d[k];
        if (d < 0 || d >= t->ndim || seen[d]) {
            fbi_op_fail(c, FB_E_ARG, "dimension %lld of input %d %s", (long long)dims.d[k], i,
                        fbi_text(t));
            return NULL;
        }
        seen[d] = true;
        inner *= t->size[d];
        dims.d[k] = d;
    }
    for (int k = 0; k < dims.n && !last; k++)
        order.d[order.n++] = dims.d[k];
    for (int d = 0; d < t->ndim; d++) {
        if (seen[d])
            continue;
        order.d[order.n++] = d;
        outer *= t->size[d];
        if (rest->n == FB_MAX_DIMS) {
            fbi_op_fail(c, FB_E_SHAPE, "the result has more than %d dimensions", FB_MAX_DIMS);
            return NULL;
        }
        rest->d[rest->n++] = t->size[d];
    }
    for (int k = 0; k < dims.n && last; k++)
        order.d[order.n++] = dims.d[k];
    t = fb_permute(t, order);
    return t ? fb_reshape(t, last ? FB_SHAPE(outer, inner) : FB_SHAPE(inner, outer)) : NULL;
}

fb_status fbi_compose_tensordot(fbi_call *c)
{
    const fbi_attrs_tensordot *s = c->attrs;
    fb_shape to = {0};
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)c->in[0]->dtype);
    if (st)
        return st;
    if (s->dims_a.n != s->dims_b.n)
        return fbi_op_fail(c, FB_E_ARG, "%d dimensions of input 0, %d of input 1", s->dims_a.n,
                           s->dims_b.n);
    fb_tensor *a = as_matrix(c, 0, s->dims_a, true, &to);
    fb_tensor *b = a ? as_matrix(c, 1, s->dims_b, false, &to) : NULL;
    if (!b)
        return c->ctx->status;
    for (int k = 0; k < s->dims_a.n; k++) {
        int64_t m = fb_size(c->in[0], (int)s->dims_a.d[k]);
        int64_t n = fb_size(c->in[1], (int)s->dims_b.d[k]);
        if (m != n)
            return fbi_op_fail(c, FB_E_SHAPE, "dimension %lld of %s is not dimension %lld of %s",
                               (long long)s->dims_a.d[k], fbi_text(c->in[0]),
                               (long long)s->dims_b.d[k], fbi_text(c->in[1]));
    }
    fb_tensor *y = fb_matmul(a, b);
    return fbi_composed(c, y ? fb_reshape(y, to) : NULL);
}

void fbi_sample_tensordot(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(2, 3, 4), IN(4, 3, 2)};
    fbi_sample_add(s, &(fbi_attrs_tensordot){FB_SHAPE(1, 2), FB_SHAPE(1, 0)}, 2, in);
    fbi_sample_add(s, &(fbi_attrs_tensordot){FB_SHAPE(-1), FB_SHAPE(0)}, 2, in);
    fbi_sample_bad(s, &(fbi_attrs_tensordot){FB_SHAPE(0), FB_SHAPE(0)}, 2, in, FB_E_SHAPE,
                   "tensordot: dimension 0 of [2, 3, 4] is not dimension 0 of [4, 3, 2]");
    fbi_sample_bad(s, &(fbi_attrs_tensordot){FB_SHAPE(3), FB_SHAPE(0)}, 2, in, FB_E_ARG,
                   "tensordot: dimension 3 of input 0");
}

fb_tensor *fb_tensordot(fb_tensor *a, fb_tensor *b, fb_shape dims_a, fb_shape dims_b)
{
    return FBI_RUN(tensordot, (&(fbi_attrs_tensordot){dims_a, dims_b}), a, b);
}

/* --- multi_dot --- */

enum { CHAIN = 32 };

typedef struct chain {
    fb_tensor *t[CHAIN];
    int split[CHAIN][CHAIN]; /* the last product of i .. j is (i .. split) (split + 1 .. j) */
} chain;

/* Cormen, Leiserson, Rivest, Stein: Introduction to Algorithms, matrix-chain order. */
static void best_order(chain *p, int n)
{
    double cost[CHAIN][CHAIN] = {{0}};
    for (int len = 1; len < n; len++)
        for (int i = 0; i + len < n; i++) {
            int j = i + len;
            for (int k = i; k < j; k++) {
                double work =
                    cost[i][k] + cost[k + 1][j] +
                    (double)p->t[i]->size[0] * (double)p->t[k]->size[1] * (double)p->t[j]->size[1];
                if (k > i && work >= cost[i][j])
                    continue;
                cost[i][j] = work;
                p->split[i][j] = k;
            }
        }
}

static fb_tensor *multiply(const chain *p, int i, int j)
{
    if (i == j)
        return p->t[i];
    fb_tensor *a = multiply(p, i, p->split[i][j]), *b = multiply(p, p->split[i][j] + 1, j);
    return a && b ? fb_matmul(a, b) : NULL;
}

static fb_status need_chain(const fbi_call *c)
{
    if (c->n_in < 2 || c->n_in > CHAIN)
        return fbi_op_fail(c, FB_E_ARG, "%d factors; 2 .. %d are taken", (int)c->n_in, CHAIN);
    for (int i = 0; i < c->n_in; i++) {
        const fb_tensor *t = c->in[i], *next = i + 1 < c->n_in ? c->in[i + 1] : NULL;
        bool end = i == 0 || !next;
        fb_status st = i ? fbi_need_dtype(c, i, (fb_dtype)c->in[0]->dtype) : fbi_need_numbers(c, 0);
        if (!st && !(end && t->ndim == 1))
            st = fbi_need_ndim(c, i, 2);
        if (st)
            return st;
        if (next && next->ndim && t->size[t->ndim - 1] != next->size[0])
            return fbi_op_fail(c, FB_E_SHAPE, "inner sizes differ: factor %d %s x %s", i,
                               fbi_text(t), fbi_text(next));
    }
    return FB_OK;
}

fb_status fbi_compose_multi_dot(fbi_call *c)
{
    chain p;
    int n = c->n_in;
    fb_status st = need_chain(c);
    if (st)
        return st;
    bool row = c->in[0]->ndim == 1, column = c->in[n - 1]->ndim == 1;
    for (int i = 0; i < n; i++) {
        p.t[i] = n > 2 ? fbi_exact(c->in[i]) : c->in[i];
        if (i == 0 && row)
            p.t[i] = fb_unsqueeze(p.t[i], 0);
        if (i == n - 1 && column)
            p.t[i] = fb_unsqueeze(p.t[i], 1);
        if (!p.t[i])
            return c->ctx->status;
    }
    best_order(&p, n);
    fb_tensor *y = multiply(&p, 0, n - 1);
    y = y && column ? fb_squeeze(y, 1) : y;
    y = y && row ? fb_squeeze(y, 0) : y;
    return fbi_composed(c, rounded(y, c->in[0]));
}

void fbi_sample_multi_dot(fbi_samples *s)
{
    fbi_sample_in in[4] = {IN(2, 5), IN(5, 1), IN(1, 4), IN(4, 3)};
    fbi_sample_add(s, NULL, 4, in);
    fbi_sample_add(s, NULL, 2, in);
    in[0].shape = FB_SHAPE(5);
    fbi_sample_add(s, NULL, 4, in);
    in[3].shape = FB_SHAPE(3, 4);
    fbi_sample_bad(s, NULL, 4, in, FB_E_SHAPE,
                   "multi_dot: inner sizes differ: factor 2 [1, 4] x [3, 4]");
    fbi_sample_bad(s, NULL, 1, in, FB_E_ARG, "multi_dot: 1 factors");
}

fb_tensor *fb_multi_dot(fb_tensors factors)
{
    return fbi_run1(FBI_SITE, FBI_OP_multi_dot, NULL, factors.n, factors.t);
}

/* --- cdist --- */

/* Root of a sum of squares whose derivative at 0 is 0. */
static fb_tensor *root(fb_tensor *sum, double p)
{
    fb_tensor *zero = fb_eq(sum, fb_mul_scalar(fb_detach(sum), 0));
    fb_tensor *none = zero ? fb_to(zero, fb_dtype_of(sum)) : NULL;
    fb_tensor *y = none ? fb_pow_scalar(fb_add(sum, none), 1 / p) : NULL;
    return y ? fb_where(zero, fb_mul_scalar(sum, 0), y) : NULL;
}

static fb_tensor *distances(fb_tensor *d, double p)
{
    if (p == 0)
        return fb_to(fb_sum(fb_ne(d, fb_mul_scalar(d, 0)), FB_SHAPE(-1), false), fb_dtype_of(d));
    if (isinf(p) && d->numel)
        return fb_amax(fb_abs(d), FB_SHAPE(-1), false);
    if (p == 1 || isinf(p))
        return fb_sum(fb_abs(d), FB_SHAPE(-1), false);
    fb_tensor *powers = p == 2 ? fb_square(d) : fb_pow_scalar(fb_abs(d), p);
    return powers ? root(fb_sum(powers, FB_SHAPE(-1), false), p) : NULL;
}

fb_status fbi_compose_cdist(fbi_call *c)
{
    fb_tensor *a = c->in[0], *b = c->in[1];
    double p = ((const fbi_attrs_cdist *)c->attrs)->p;
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)a->dtype);
    if (st)
        return st;
    if (!(p >= 0))
        return fbi_op_fail(c, FB_E_ARG, "p is %g; needs at least 0", p);
    if (a->ndim < 2 || b->ndim < 2 || a->size[a->ndim - 1] != b->size[b->ndim - 1] ||
        a->ndim == FB_MAX_DIMS || b->ndim == FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_SHAPE, "points [..., n, d] and [..., m, d] wanted: %s and %s",
                           fbi_text(a), fbi_text(b));
    fb_shape s, left = fb_shape_of(a), right = fb_shape_of(b);
    left.n -= 2;
    right.n -= 2;
    if (!fbi_broadcast(left, right, &s))
        return fbi_op_fail(c, FB_E_SHAPE, "batch sizes do not broadcast: %s and %s", fbi_text(a),
                           fbi_text(b));
    a = fbi_exact(a);
    b = fbi_exact(b);
    fb_tensor *d = a && b ? fb_sub(fb_unsqueeze(a, -2), fb_unsqueeze(b, -3)) : NULL;
    return fbi_composed(c, rounded(d ? distances(d, p) : NULL, c->in[0]));
}

void fbi_sample_cdist(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(2, 3, 4), IN(2, 5, 4)};
    const double ps[] = {2, 1, 3, INFINITY, 1.5};
    for (size_t i = 0; i < sizeof ps / sizeof ps[0]; i++)
        fbi_sample_add(s, &(fbi_attrs_cdist){ps[i]}, 2, in);
    fbi_sample_bad(s, &(fbi_attrs_cdist){-1}, 2, in, FB_E_ARG, "cdist: p is -1");
    in[1].shape = FB_SHAPE(5, 3);
    fbi_sample_bad(s, &(fbi_attrs_cdist){2}, 2, in, FB_E_SHAPE,
                   "cdist: points [..., n, d] and [..., m, d] wanted: [2, 3, 4] and [5, 3]");
}

/* --- pdist --- */

fb_status fbi_compose_pdist(fbi_call *c)
{
    fb_tensor *x = c->in[0];
    double p = ((const fbi_attrs_pdist *)c->attrs)->p;
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (!(p >= 0))
        return fbi_op_fail(c, FB_E_ARG, "p is %g; needs at least 0", p);
    if (x->ndim != 2)
        return fbi_op_fail(c, FB_E_SHAPE, "points [n, d] wanted: %s", fbi_text(x));
    int64_t n = x->size[0];
    fb_tensor *pairs = fb_triu_indices(c->ctx, n, n, 1), *wide = fbi_exact(x);
    fb_tensor *a = pairs && wide ? fb_index_select(wide, 0, fb_select(pairs, 0, 0)) : NULL;
    fb_tensor *b = a ? fb_index_select(wide, 0, fb_select(pairs, 0, 1)) : NULL;
    return fbi_composed(c, rounded(b ? distances(fb_sub(a, b), p) : NULL, x));
}

void fbi_sample_pdist(fbi_samples *s)
{
    fbi_sample_in in = IN(5, 3);
    const double ps[] = {2, 1, 3};
    for (size_t i = 0; i < sizeof ps / sizeof ps[0]; i++)
        fbi_sample_add(s, &(fbi_attrs_pdist){ps[i]}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_pdist){-1}, 1, &in, FB_E_ARG, "pdist: p is -1");
    in.shape = FB_SHAPE(5);
    fbi_sample_bad(s, &(fbi_attrs_pdist){2}, 1, &in, FB_E_SHAPE,
                   "pdist: points [n, d] wanted: [5]");
}

fb_tensor *fb_pdist(fb_tensor *x, double p)
{
    return FBI_RUN(pdist, (&(fbi_attrs_pdist){p}), x);
}

fb_tensor *fb_cdist(fb_tensor *a, fb_tensor *b, double p)
{
    return FBI_RUN(cdist, (&(fbi_attrs_cdist){p}), a, b);
}
