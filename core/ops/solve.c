/* Linear systems, inverses and determinants: shapes, derivatives, samples. */
#include <math.h>

#include "core/ops/decompose_priv.h"
#include "core/ops/half_priv.h"

#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/strided.h>

fb_tensor *fbi_identity(fb_context *ctx, fb_dtype dtype, int64_t n)
{
    fb_tensor *ones = fb_ones(ctx, dtype, FB_SHAPE(n));
    return ones ? fb_diag_embed(ones, 0, 0, 1) : NULL;
}

/* Batch sizes of a and b, made equal by views. */
static bool same_batches(const char *op, fb_tensor **a, fb_tensor **b)
{
    fb_shape batch, sa = fb_shape_of(*a), sb = fb_shape_of(*b);
    if (sa.n < 2 || sb.n < 2)
        return true; /* infer says it */
    if (!fbi_broadcast(fbi_without_last(*a, 2), fbi_without_last(*b, 2), &batch)) {
        fbi_fail((*a)->ctx, FB_E_SHAPE, "%s: batch sizes do not broadcast: %s and %s", op,
                 fbi_text(*a), fbi_text(*b));
        return false;
    }
    fb_shape ea = batch, eb = batch;
    for (int i = 2; i > 0; i--) {
        ea.d[ea.n++] = sa.d[sa.n - i];
        eb.d[eb.n++] = sb.d[sb.n - i];
    }
    *a = fb_shape_equal(ea, sa) ? *a : fb_expand(*a, ea);
    *b = fb_shape_equal(eb, sb) ? *b : fb_expand(*b, eb);
    return *a && *b;
}

/* Square in[0] and in[1] with as many rows (or columns, `right`) and the same batch. */
static fb_status need_system(const fbi_call *c, bool right)
{
    const fb_tensor *a = c->in[0], *b = c->in[1];
    fb_status st = fbi_need_square(c, 0);
    if (!st)
        st = fbi_need_matrix(c, 1);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)a->dtype);
    if (st)
        return st;
    bool fits = a->ndim == b->ndim && a->size[a->ndim - 1] == b->size[b->ndim - (right ? 1 : 2)];
    for (int i = 0; fits && i < a->ndim - 2; i++)
        fits = a->size[i] == b->size[i];
    return fits ? FB_OK
                : fbi_op_fail(c, FB_E_SHAPE, "right-hand sides %s do not fit the matrix %s",
                              fbi_text(b), fbi_text(a));
}

/* --- solve_triangular --- */

static fb_tensor *triangular(fb_tensor *a, fb_tensor *b, bool upper, bool left, bool unit)
{
    fbi_attrs_solve_triangular s = {upper, left, unit};
    return FBI_RUN(solve_triangular, &s, a, b);
}

fb_status fbi_infer_solve_triangular(fbi_call *c)
{
    const fbi_attrs_solve_triangular *s = c->attrs;
    fb_status st = need_system(c, !s->left);
    return st ? st : fbi_out(c, 0, (fb_dtype)c->in[1]->dtype, fb_shape_of(c->in[1]));
}

fb_status fbi_bwd_ops_solve_triangular(fbi_bw *bw)
{
    const fbi_attrs_solve_triangular *s = bw->attrs;
    fb_tensor *a = fbi_bw_in(bw, 0), *x = fbi_bw_out(bw, 0);
    if (!a || !x)
        return bw->ctx->status;
    fb_tensor *gb = triangular(fbi_mt(a), bw->grad[0], !s->upper, s->left, s->unitriangular);
    if (!gb)
        return bw->ctx->status;
    if (fbi_bw_needs(bw, 0)) {
        fb_tensor *g = fb_neg(s->left ? fbi_nt(gb, x) : fbi_tn(x, gb));
        int64_t unit = s->unitriangular != 0;
        g = g ? s->upper ? fb_triu(g, unit) : fb_tril(g, -unit) : NULL;
        fb_status st = fbi_bw_give(bw, 0, g);
        if (st)
            return st;
    }
    return fbi_bw_give(bw, 1, gb);
}

#define REGULAR(...)                                                     \
    {                                                                    \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1, .matrix = 'r' \
    }
#define IN(...)                                           \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1 \
    }

void fbi_sample_solve_triangular(fbi_samples *s)
{
    const fbi_attrs_solve_triangular left[] = {{0, 1, 0}, {1, 1, 0}, {1, 1, 1}, {0, 1, 1}};
    fbi_sample_in in[2] = {REGULAR(2, 3, 3), IN(2, 3, 2)};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++)
        fbi_sample_add(s, &left[i], 2, in);
    in[1].shape = FB_SHAPE(2, 4, 3);
    fbi_sample_add(s, &(fbi_attrs_solve_triangular){0, 0, 0}, 2, in);
    fbi_sample_add(s, &(fbi_attrs_solve_triangular){1, 0, 0}, 2, in);
    fbi_sample_bad(s, &left[0], 2, in, FB_E_SHAPE,
                   "solve_triangular: right-hand sides [2, 4, 3] do not fit the matrix [2, 3, 3]");
    in[0].shape = FB_SHAPE(2, 3, 4);
    fbi_sample_bad(s, &left[0], 2, in, FB_E_SHAPE,
                   "solve_triangular: input 0 [2, 3, 4] is not square");
}

fb_tensor *fb_solve_triangular(fb_tensor *a, fb_tensor *b, const fb_triangular_options *opts)
{
    static const fb_triangular_options none;
    fb_context *ctx = fb_context_of(a);
    FBI_ENTRY(ctx);
    const fb_triangular_options *o = opts ? opts : &none;
    if (!fbi_tensor_check(ctx, a, "solve_triangular", "a") ||
        !fbi_tensor_check(ctx, b, "solve_triangular", "b") ||
        !same_batches("solve_triangular", &a, &b))
        return NULL;
    return triangular(a, b, o->upper, !o->right, o->unitriangular);
}

/* --- solve --- */

fb_status fbi_infer_solve(fbi_call *c)
{
    fb_status st = need_system(c, false);
    return st ? st : fbi_out(c, 0, (fb_dtype)c->in[1]->dtype, fb_shape_of(c->in[1]));
}

fb_status fbi_bwd_ops_solve(fbi_bw *bw)
{
    fb_tensor *a = fbi_bw_in(bw, 0), *x = fbi_bw_out(bw, 0);
    if (!a || !x)
        return bw->ctx->status;
    fb_tensor *gb = FBI_RUN(solve, NULL, fbi_mt(a), bw->grad[0]);
    if (!gb)
        return bw->ctx->status;
    fb_status st = fbi_bw_needs(bw, 0) ? fbi_bw_give(bw, 0, fb_neg(fbi_nt(gb, x))) : FB_OK;
    return st ? st : fbi_bw_give(bw, 1, gb);
}

void fbi_sample_solve(fbi_samples *s)
{
    fbi_sample_in in[2] = {REGULAR(3, 3), IN(3, 2)};
    fbi_sample_add(s, NULL, 2, in);
    in[0].shape = FB_SHAPE(2, 4, 4);
    in[1].shape = FB_SHAPE(2, 4, 3);
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = FB_SHAPE(2, 3, 4);
    fbi_sample_bad(s, NULL, 2, in, FB_E_SHAPE,
                   "solve: right-hand sides [2, 3, 4] do not fit the matrix [2, 4, 4]");
    fbi_sample_in zero[2] = {{.shape = FB_SHAPE(2, 3, 3)}, IN(2, 3, 1)};
    fbi_sample_bad(s, NULL, 2, zero, FB_E_ARG,
                   "solve: item 0 of the batch [2, 3, 3] is singular (LAPACK's getrf: info 1)");
}

fb_tensor *fb_solve(fb_tensor *a, fb_tensor *b)
{
    fb_context *ctx = fb_context_of(a);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, a, "solve", "a") || !fbi_tensor_check(ctx, b, "solve", "b"))
        return NULL;
    bool vector =
        a->ndim >= 2 && (b->ndim == 1 || fb_shape_equal(fb_shape_of(b), fbi_without_last(a, 1)));
    if (vector)
        b = fb_unsqueeze(b, -1);
    if (!b || !same_batches("solve", &a, &b))
        return NULL;
    fb_tensor *x = FBI_RUN(solve, NULL, a, b);
    return x && vector ? fb_squeeze(x, -1) : x;
}

/* --- inv --- */

fb_status fbi_infer_inv(fbi_call *c)
{
    fb_status st = fbi_need_square(c, 0);
    return st ? st : fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[0]));
}

fb_status fbi_bwd_ops_inv(fbi_bw *bw)
{
    fb_tensor *y = fbi_bw_out(bw, 0);
    if (!y)
        return bw->ctx->status;
    fb_tensor *left = fbi_tn(y, bw->grad[0]);
    return fbi_bw_give(bw, 0, left ? fb_neg(fbi_nt(left, y)) : NULL);
}

void fbi_sample_inv(fbi_samples *s)
{
    fbi_sample_in in = REGULAR(2, 3, 3), zero = {.shape = FB_SHAPE(3, 3)};
    fbi_sample_add(s, NULL, 1, &in);
    in.shape = FB_SHAPE(1, 1);
    fbi_sample_add(s, NULL, 1, &in);
    fbi_sample_bad(s, NULL, 1, &zero, FB_E_ARG,
                   "inv: the matrix [3, 3] is singular (LAPACK's getrf: info 1)");
    in.shape = FB_SHAPE(3);
    in.matrix = 0;
    fbi_sample_bad(s, NULL, 1, &in, FB_E_SHAPE, "inv: input 0 [3] is no matrix");
    in = (fbi_sample_in){.shape = FB_SHAPE(3, 3), .dtype = FB_I64, .hi = 3};
    fbi_sample_bad(s, NULL, 1, &in, FB_E_DTYPE, "inv: input 0 is I64; needs F32 or F64");
}

fb_tensor *fb_inv(fb_tensor *a)
{
    return FBI_RUN(inv, NULL, a);
}

/* --- matrix_power --- */

fb_status fbi_compose_matrix_power(fbi_call *c)
{
    int64_t n = ((const fbi_attrs_matrix_power *)c->attrs)->n;
    fb_tensor *a = c->in[0], *y = NULL;
    fb_status st = n < 0 ? fbi_need_square(c, 0) : fbi_need_numbers(c, 0);
    if (st)
        return st;
    if (a->ndim < 2 || a->size[a->ndim - 2] != a->size[a->ndim - 1])
        return fbi_op_fail(c, FB_E_SHAPE, "input 0 %s is not square", fbi_text(a));
    if (n == 0) {
        y = fbi_identity(c->ctx, (fb_dtype)a->dtype, a->size[a->ndim - 1]);
        fb_tensor *never = fb_full(c->ctx, FB_BOOL, FB_SCALAR, 0); /* a has a gradient, of zeros */
        return fbi_composed(c, y && never ? fb_where(never, a, y) : NULL);
    }
    if (n == INT64_MIN)
        return fbi_op_fail(c, FB_E_ARG, "the power is too small");
    a = n < 0 ? fb_inv(a) : fbi_exact(a);
    for (n = n < 0 ? -n : n; n && a; n /= 2) {
        if (n % 2)
            y = y ? fb_matmul(y, a) : a;
        if (n > 1)
            a = fb_matmul(a, a);
    }
    y = a && y ? fb_to(y, (fb_dtype)c->in[0]->dtype) : NULL;
    return fbi_composed(c, y ? fb_view(fb_contiguous(y), fb_shape_of(y)) : NULL);
}

void fbi_sample_matrix_power(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(2, 3, 3), .lo = -0.5, .hi = 0.5, .matrix = 'r'};
    const int64_t ns[] = {1, 2, 5, -1, -2, 0};
    for (size_t i = 0; i < sizeof ns / sizeof ns[0]; i++)
        fbi_sample_add(s, &(fbi_attrs_matrix_power){ns[i]}, 1, &in);
    in.matrix = 0;
    in.shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, &(fbi_attrs_matrix_power){2}, 1, &in, FB_E_SHAPE,
                   "matrix_power: input 0 [2, 3] is not square");
}

fb_tensor *fb_matrix_power(fb_tensor *a, int64_t n)
{
    return FBI_RUN(matrix_power, (&(fbi_attrs_matrix_power){n}), a);
}

/* --- determinants --- */

fb_status fbi_infer_det(fbi_call *c)
{
    fb_status st = fbi_need_square(c, 0);
    return st ? st : fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, fbi_without_last(c->in[0], 2));
}

/* g [...] times the transposed inverse of a. */
static fb_tensor *times_inverse(fb_tensor *g, fb_tensor *a)
{
    fb_tensor *y = fb_inv(a), *wide = fb_unsqueeze(g, -1);
    return y && wide ? fb_mul(fb_unsqueeze(wide, -1), fbi_mt(y)) : NULL;
}

fb_status fbi_bwd_ops_det(fbi_bw *bw)
{
    fb_tensor *a = fbi_bw_in(bw, 0), *y = fbi_bw_out(bw, 0);
    if (!a || !y)
        return bw->ctx->status;
    fb_tensor *g = fb_mul(bw->grad[0], y);
    return fbi_bw_give(bw, 0, g ? times_inverse(g, a) : NULL);
}

void fbi_sample_det(fbi_samples *s)
{
    fbi_sample_in in = REGULAR(2, 3, 3);
    fbi_sample_add(s, NULL, 1, &in);
    in.shape = FB_SHAPE(2, 2);
    fbi_sample_add(s, NULL, 1, &in);
    in.matrix = 0;
    in.shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, NULL, 1, &in, FB_E_SHAPE, "det: input 0 [2, 3] is not square");
}

fb_tensor *fb_det(fb_tensor *a)
{
    return FBI_RUN(det, NULL, a);
}

fb_status fbi_infer_slogdet(fbi_call *c)
{
    fb_status st = fbi_infer_det(c);
    return st ? st : fbi_out(c, 1, (fb_dtype)c->in[0]->dtype, fbi_without_last(c->in[0], 2));
}

/* The sign is constant wherever it has a derivative. */
fb_status fbi_bwd_ops_slogdet(fbi_bw *bw)
{
    fb_tensor *a = fbi_bw_in(bw, 0);
    if (!a)
        return bw->ctx->status;
    return bw->grad[1] ? fbi_bw_give(bw, 0, times_inverse(bw->grad[1], a))
                       : fbi_bw_give(bw, 0, fb_mul_scalar(a, 0));
}

void fbi_sample_slogdet(fbi_samples *s)
{
    fbi_sample_in in = REGULAR(2, 3, 3);
    fbi_sample_add(s, NULL, 1, &in);
    in.matrix = 0;
    in.shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, NULL, 1, &in, FB_E_SHAPE, "slogdet: input 0 [2, 3] is not square");
}

fb_status fb_slogdet(fb_tensor *a, fb_tensor **sign, fb_tensor **logabsdet)
{
    fb_tensor *out[2] = {NULL};
    fb_tensor **to[2] = {sign, logabsdet};
    fb_context *ctx = fb_context_of(a);
    FBI_ENTRY(ctx);
    fb_status st = ctx ? fbi_run(ctx, FBI_OP_slogdet, NULL, &a, 1, out) : FB_E_ARG;
    for (int i = 0; i < 2; i++)
        if (to[i])
            *to[i] = out[i];
        else
            fb_drop(out[i]);
    return st;
}

fb_status fbi_compose_logdet(fbi_call *c)
{
    fb_tensor *sign, *log_abs;
    fb_status st = fbi_need_square(c, 0);
    if (!st)
        st = fb_slogdet(c->in[0], &sign, &log_abs);
    if (st)
        return st;
    fb_tensor *zero = fb_full(c->ctx, fb_dtype_of(sign), FB_SCALAR, 0);
    fb_tensor *nan = fb_full(c->ctx, fb_dtype_of(sign), FB_SCALAR, NAN);
    return fbi_composed(c, zero && nan ? fb_where(fb_lt(sign, zero), nan, log_abs) : NULL);
}

void fbi_sample_logdet(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(2, 3, 3), .lo = -1, .hi = 1, .matrix = 'p'};
    fbi_sample_add(s, NULL, 1, &in);
    in.matrix = 0;
    in.shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, NULL, 1, &in, FB_E_SHAPE, "logdet: input 0 [2, 3] is not square");
}

fb_tensor *fb_logdet(fb_tensor *a)
{
    return FBI_RUN(logdet, NULL, a);
}

/* --- of a Cholesky factor --- */

fb_status fbi_compose_cholesky_solve(fbi_call *c)
{
    bool upper = ((const fbi_attrs_cholesky_solve *)c->attrs)->upper;
    fb_tensor *b = c->in[0], *l = c->in[1];
    fb_status st = fbi_need_square(c, 1);
    if (!st)
        st = fbi_need_matrix(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)b->dtype);
    if (st)
        return st;
    if (b->size[b->ndim - 2] != l->size[l->ndim - 1])
        return fbi_op_fail(c, FB_E_SHAPE, "right-hand sides %s do not fit the matrix %s",
                           fbi_text(b), fbi_text(l));
    if (!same_batches("cholesky_solve", &l, &b))
        return c->ctx->status;
    l = upper ? fbi_mt(l) : l;
    fb_tensor *y = l ? triangular(l, b, false, true, false) : NULL;
    return fbi_composed(c, y ? triangular(fbi_mt(l), y, true, true, false) : NULL);
}

void fbi_sample_cholesky_solve(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(3, 2), REGULAR(2, 3, 3)};
    fbi_sample_add(s, &(fbi_attrs_cholesky_solve){0}, 2, in);
    fbi_sample_add(s, &(fbi_attrs_cholesky_solve){1}, 2, in);
    in[0].shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, &(fbi_attrs_cholesky_solve){0}, 2, in, FB_E_SHAPE,
                   "cholesky_solve: right-hand sides [2, 3] do not fit the matrix [2, 3, 3]");
}

fb_tensor *fb_cholesky_solve(fb_tensor *b, fb_tensor *l, bool upper)
{
    return FBI_RUN(cholesky_solve, (&(fbi_attrs_cholesky_solve){upper}), b, l);
}

fb_status fbi_compose_cholesky_inverse(fbi_call *c)
{
    bool upper = ((const fbi_attrs_cholesky_inverse *)c->attrs)->upper;
    fb_tensor *l = c->in[0];
    fb_status st = fbi_need_square(c, 0);
    if (st)
        return st;
    fb_tensor *one = fbi_identity(c->ctx, (fb_dtype)l->dtype, l->size[l->ndim - 1]);
    return fbi_composed(c, one ? fb_cholesky_solve(one, l, upper) : NULL);
}

void fbi_sample_cholesky_inverse(fbi_samples *s)
{
    fbi_sample_in in = REGULAR(2, 3, 3);
    fbi_sample_add(s, &(fbi_attrs_cholesky_inverse){0}, 1, &in);
    fbi_sample_add(s, &(fbi_attrs_cholesky_inverse){1}, 1, &in);
    in.matrix = 0;
    in.shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, &(fbi_attrs_cholesky_inverse){0}, 1, &in, FB_E_SHAPE,
                   "cholesky_inverse: input 0 [2, 3] is not square");
}

fb_tensor *fb_cholesky_inverse(fb_tensor *l, bool upper)
{
    return FBI_RUN(cholesky_inverse, (&(fbi_attrs_cholesky_inverse){upper}), l);
}
