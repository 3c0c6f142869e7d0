/* lu_factor, lu, lu_solve: Gaussian elimination with pivots, by LAPACK. */
#include "core/ops/decompose_priv.h"

#include <stdlib.h>

#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/scatter.h>

fb_status fbi_infer_lu_factor(fbi_call *c)
{
    const fb_tensor *a = c->in[0];
    fb_status st = fbi_need_matrix(c, 0);
    if (st)
        return st;
    fb_shape pivots = fbi_without_last(a, 1);
    pivots.d[pivots.n - 1] = fbi_rows_of(a) < fbi_cols_of(a) ? fbi_rows_of(a) : fbi_cols_of(a);
    st = fbi_out(c, 0, (fb_dtype)a->dtype, fb_shape_of(a));
    return st ? st : fbi_out(c, 1, FB_I32, pivots);
}

/* --- permutations: row i of P^T a is row order[i] of a --- */

static void swap_rows(int64_t *order, int64_t rows, const int32_t *pivots, int64_t n)
{
    for (int64_t i = 0; i < rows; i++)
        order[i] = i;
    for (int64_t i = 0; i < n; i++) {
        int64_t with = pivots[i] - 1, was = order[i];
        order[i] = order[with];
        order[with] = was;
    }
}

/* I64 [..., rows] from pivots, which LAPACK counts from 1; NULL: the error is set. `to`: where each
 * row of a goes, instead of where each row comes from. */
static fb_tensor *order_of(fb_tensor *pivots, int64_t rows, bool to)
{
    fb_context *ctx = pivots->ctx;
    int64_t n = fbi_cols_of(pivots), items = n ? pivots->numel / n : 0;
    fb_shape s = fb_shape_of(pivots);
    s.d[s.n - 1] = rows;
    int64_t total = fb_shape_numel(s);
    int32_t *p = calloc((size_t)pivots->numel + 1, sizeof *p);
    int64_t *order = p ? calloc(2 * (size_t)total + 1, sizeof *order) : NULL;
    fb_tensor *y = NULL;
    if (!order)
        fbi_fail(ctx, FB_E_NOMEM, "lu: no memory for the order of %lld rows", (long long)total);
    else if (!fb_read(pivots, p, (size_t)pivots->numel * sizeof *p)) {
        items = n ? items : total / (rows ? rows : 1);
        for (int64_t b = 0; b < items; b++) {
            int64_t *at = order + b * rows;
            swap_rows(at, rows, p + b * n, n);
            for (int64_t i = 0; i < rows; i++)
                order[total + b * rows + at[i]] = i;
        }
        y = fb_from(ctx, FB_I64, s, order + (to ? total : 0));
    }
    free(order);
    free(p);
    return y;
}

/* Rows of a in the order [..., rows]. */
static fb_tensor *reordered(fb_tensor *a, fb_tensor *order)
{
    fb_tensor *at = order ? fb_unsqueeze(order, -1) : NULL;
    return at && a ? fb_gather(a, -2, fb_expand(at, fb_shape_of(a))) : NULL;
}

static fb_tensor *solve_by(fb_tensor *a, fb_tensor *b, bool upper, bool right, bool unit)
{
    fb_triangular_options o = {.upper = upper, .right = right, .unitriangular = unit};
    return a && b ? fb_solve_triangular(a, b, &o) : NULL;
}

/* L with ones on its diagonal: the first k columns of lu below it. */
static fb_tensor *lower_of(fb_tensor *lu)
{
    int64_t m = fbi_rows_of(lu), n = fbi_cols_of(lu), k = m < n ? m : n;
    fb_tensor *one = fb_eye(lu->ctx, (fb_dtype)lu->dtype, m, k);
    return one ? fb_add(fb_tril(fb_narrow(lu, -1, 0, k), -1), one) : NULL;
}

static fb_tensor *upper_of(fb_tensor *lu)
{
    int64_t m = fbi_rows_of(lu), n = fbi_cols_of(lu), k = m < n ? m : n;
    return fb_triu(fb_narrow(lu, -2, 0, k), 0);
}

/* Of a square matrix: L^-T (tril(L^T gL, -1) + triu(gU U^T)) U^-T. `less` (or NULL) comes off what
 * becomes the lower (`low`) or the upper triangle. */
static fb_tensor *square_slope(fb_tensor *lu, fb_tensor *g, fb_tensor *less, bool low)
{
    fb_tensor *l = lower_of(lu), *u = upper_of(lu);
    fb_tensor *gl = l ? fbi_tn(l, fb_tril(g, -1)) : NULL, *gu = u ? fbi_nt(fb_triu(g, 0), u) : NULL;
    if (less && gl && gu)
        *(low ? &gl : &gu) = fb_sub(low ? gl : gu, less);
    fb_tensor *inner = gl && gu ? fb_add(fb_tril(gl, -1), fb_triu(gu, 0)) : NULL;
    fb_tensor *x = inner ? solve_by(fbi_mt(l), inner, true, false, true) : NULL;
    return x ? solve_by(fbi_mt(u), x, false, true, false) : NULL;
}

/* The last columns: U2 = L^-1 A2, which takes part in L's gradient. */
static fb_tensor *wide_slope(fb_tensor *lu, fb_tensor *g, int64_t m, int64_t n)
{
    fb_tensor *lu1 = fb_narrow(lu, -1, 0, m), *u2 = fb_narrow(lu, -1, m, n - m);
    fb_tensor *g1 = fb_narrow(g, -1, 0, m), *g2 = fb_narrow(g, -1, m, n - m);
    fb_tensor *a2 = lu1 ? solve_by(fbi_mt(lower_of(lu1)), g2, true, false, true) : NULL;
    fb_tensor *a1 = a2 ? square_slope(lu1, g1, fbi_nt(g2, u2), true) : NULL;
    return a1 ? fb_cat(FB_TENSORS(a1, a2), -1) : NULL;
}

/* The last rows: L2 = A2 U^-1, which takes part in U's gradient. */
static fb_tensor *tall_slope(fb_tensor *lu, fb_tensor *g, int64_t m, int64_t n)
{
    fb_tensor *lu1 = fb_narrow(lu, -2, 0, n), *l2 = fb_narrow(lu, -2, n, m - n);
    fb_tensor *g1 = fb_narrow(g, -2, 0, n), *g2 = fb_narrow(g, -2, n, m - n);
    fb_tensor *a2 = lu1 ? solve_by(fbi_mt(upper_of(lu1)), g2, false, true, false) : NULL;
    fb_tensor *a1 = a2 ? square_slope(lu1, g1, fbi_tn(l2, g2), false) : NULL;
    return a1 ? fb_cat(FB_TENSORS(a1, a2), -2) : NULL;
}

fb_status fbi_bwd_ops_lu_factor(fbi_bw *bw)
{
    fb_tensor *lu = fbi_bw_out(bw, 0), *pivots = fbi_bw_out(bw, 1), *g = bw->grad[0];
    if (!lu || !pivots || !g)
        return bw->ctx->status;
    int64_t m = fbi_rows_of(lu), n = fbi_cols_of(lu);
    fb_tensor *x = lu->numel == 0 ? fb_mul_scalar(g, 0)
                   : m == n       ? square_slope(lu, g, NULL, true)
                   : m < n        ? wide_slope(lu, g, m, n)
                                  : tall_slope(lu, g, m, n);
    if (x && lu->numel)
        x = reordered(x, order_of(pivots, m, true));
    return fbi_bw_give(bw, 0, x);
}

/* --- composed --- */

fb_status fbi_compose_lu(fbi_call *c)
{
    fb_tensor *lu = NULL, *pivots = NULL;
    fb_status st = fbi_need_matrix(c, 0);
    if (!st)
        st = fb_lu_factor(c->in[0], &lu, &pivots);
    if (st)
        return st;
    int64_t m = fbi_rows_of(lu);
    fb_tensor *one = fbi_identity(c->ctx, (fb_dtype)lu->dtype, m);
    fb_shape s = fbi_with_matrix(lu, m, m);
    c->out[0] = reordered(one ? fb_expand(one, s) : NULL, order_of(pivots, m, true));
    c->out[1] = c->out[0] ? lower_of(lu) : NULL;
    c->out[2] = c->out[1] ? upper_of(lu) : NULL;
    return c->out[2] ? FB_OK : c->ctx->status;
}

static fb_status need_factors(const fbi_call *c, bool left)
{
    const fb_tensor *lu = c->in[0], *pivots = c->in[1], *b = c->in[2];
    fb_status st = fbi_need_square(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, FB_I32);
    if (!st)
        st = fbi_need_matrix(c, 2);
    if (!st)
        st = fbi_need_dtype(c, 2, (fb_dtype)lu->dtype);
    if (st)
        return st;
    fb_shape want = fbi_without_last(lu, 1), batch = fbi_without_last(lu, 2);
    bool fits = fb_shape_equal(want, fb_shape_of(pivots)) &&
                fb_shape_equal(batch, fbi_without_last(b, 2)) &&
                (left ? fbi_rows_of(b) : fbi_cols_of(b)) == fbi_rows_of(lu);
    return fits ? FB_OK
                : fbi_op_fail(c, FB_E_SHAPE,
                              "factors %s, pivots %s and right-hand sides %s do not fit",
                              fbi_text(lu), fbi_text(pivots), fbi_text(b));
}

static fb_status need_pivots(const fbi_call *c, int64_t n)
{
    fb_tensor *p = fb_to(c->in[1], FB_I64);
    if (!c->in[1]->numel)
        return FB_OK;
    int64_t least = fb_item_int(fb_amin(p, FB_ALL, false));
    int64_t most = fb_item_int(fb_amax(p, FB_ALL, false));
    if (c->ctx->status || (least >= 1 && most <= n))
        return c->ctx->status;
    return fbi_op_fail(c, FB_E_ARG, "pivots go from %lld to %lld, not within 1 .. %lld",
                       (long long)least, (long long)most, (long long)n);
}

/* a x = b with a = P L U; `adjoint`: a^T x = b; not left: x a = b, which is a^T x^T = b^T. */
fb_status fbi_compose_lu_solve(fbi_call *c)
{
    const fbi_attrs_lu_solve *a = c->attrs;
    bool left = a->left != 0, turned = left == (a->adjoint != 0);
    fb_tensor *lu = c->in[0], *b = c->in[2], *x;
    fb_status st = need_factors(c, left);
    if (!st)
        st = need_pivots(c, fbi_rows_of(lu));
    if (st)
        return st;
    b = left ? b : fbi_mt(b);
    if (!turned) {
        x = solve_by(lu, reordered(b, order_of(c->in[1], fbi_rows_of(lu), false)), false, false,
                     true);
        x = solve_by(lu, x, true, false, false);
    } else {
        x = solve_by(fbi_mt(lu), b, false, false, false);
        x = solve_by(fbi_mt(lu), x, true, false, true);
        x = reordered(x, order_of(c->in[1], fbi_rows_of(lu), true));
    }
    return fbi_composed(c, x && !left ? fbi_mt(x) : x);
}

/* --- public --- */

fb_status fb_lu_factor(fb_tensor *a, fb_tensor **lu, fb_tensor **pivots)
{
    fb_context *ctx = fb_context_of(a);
    fb_tensor *out[2] = {NULL}, **to[2] = {lu, pivots};
    FBI_ENTRY(ctx);
    return fbi_hand_out(ctx ? fbi_run(ctx, FBI_OP_lu_factor, NULL, &a, 1, out) : FB_E_ARG, out, to,
                        2);
}

fb_status fb_lu(fb_tensor *a, fb_tensor **p, fb_tensor **l, fb_tensor **u)
{
    fb_context *ctx = fb_context_of(a);
    fb_tensor *out[3] = {NULL}, **to[3] = {p, l, u};
    FBI_ENTRY(ctx);
    return fbi_hand_out(ctx ? fbi_run(ctx, FBI_OP_lu, NULL, &a, 1, out) : FB_E_ARG, out, to, 3);
}

fb_tensor *fb_lu_solve(fb_tensor *lu, fb_tensor *pivots, fb_tensor *b, bool right, bool adjoint)
{
    return FBI_RUN(lu_solve, (&(fbi_attrs_lu_solve){!right, adjoint}), lu, pivots, b);
}

/* --- samples --- */

#define MATRIX(...)                                                      \
    {                                                                    \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1, .matrix = 'r' \
    }

static void sample_factors(fbi_samples *s, const char *text)
{
    const fb_shape ok[] = {FB_SHAPE(3, 3), FB_SHAPE(2, 4, 2), FB_SHAPE(2, 2, 3)};
    fbi_sample_in in = MATRIX(3, 3);
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        in.shape = ok[i];
        fbi_sample_add(s, NULL, 1, &in);
    }
    in.matrix = 0;
    in.shape = FB_SHAPE(3);
    fbi_sample_bad(s, NULL, 1, &in, FB_E_SHAPE, text);
}

void fbi_sample_lu_factor(fbi_samples *s)
{
    sample_factors(s, "lu_factor: input 0 [3] is no matrix");
}

void fbi_sample_lu(fbi_samples *s)
{
    sample_factors(s, "lu: input 0 [3] is no matrix");
}

void fbi_sample_lu_solve(fbi_samples *s)
{
    fbi_sample_in in[3] = {MATRIX(2, 3, 3),
                           {.shape = FB_SHAPE(2, 3), .lo = 3, .hi = 4, .dtype = FB_I32},
                           {.shape = FB_SHAPE(2, 3, 2), .lo = -1, .hi = 1}};
    fbi_sample_add(s, &(fbi_attrs_lu_solve){1, 0}, 3, in);
    fbi_sample_add(s, &(fbi_attrs_lu_solve){1, 1}, 3, in);
    in[2].shape = FB_SHAPE(2, 2, 3);
    fbi_sample_add(s, &(fbi_attrs_lu_solve){0, 0}, 3, in);
    fbi_sample_add(s, &(fbi_attrs_lu_solve){0, 1}, 3, in);
    fbi_sample_bad(s, &(fbi_attrs_lu_solve){1, 0}, 3, in, FB_E_SHAPE,
                   "factors [2, 3, 3], pivots [2, 3] and right-hand sides [2, 2, 3] do not fit");
    in[1].lo = 0;
    in[1].hi = 1;
    fbi_sample_bad(s, &(fbi_attrs_lu_solve){0, 0}, 3, in, FB_E_ARG,
                   "lu_solve: pivots go from 0 to 0, not within 1 .. 3");
}
