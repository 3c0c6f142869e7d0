/* Made of decompositions: pinv, matrix_rank, lstsq. */
#include <float.h>

#include "core/ops/decompose_priv.h"

#include <flambeau/core/ops/reduce.h>

/* rtol, or by default PyTorch's. */
static double rtol_of(const fb_tensor *a, double rtol)
{
    int64_t m = a->size[a->ndim - 2], n = a->size[a->ndim - 1];
    double epsilon = a->dtype == FB_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
    return rtol != 0 ? rtol : (double)(m > n ? m : n) * epsilon;
}

static fb_status need_rtol(const fbi_call *c, double rtol)
{
    fb_status st = fbi_need_matrix(c, 0);
    if (st || rtol >= 0)
        return st;
    return fbi_op_fail(c, FB_E_ARG, "rtol is %g; needs at least 0", rtol);
}

/* --- pinv --- */

fb_status fbi_infer_pinv(fbi_call *c)
{
    fbi_attrs_pinv *s = (fbi_attrs_pinv *)(uintptr_t)c->attrs; /* infer completes it */
    const fb_tensor *a = c->in[0];
    fb_status st = need_rtol(c, s->rtol);
    if (st)
        return st;
    s->rtol = rtol_of(a, s->rtol);
    return fbi_out(c, 0, (fb_dtype)a->dtype,
                   fbi_with_matrix(a, a->size[a->ndim - 1], a->size[a->ndim - 2]));
}

/* Golub, Pereyra: The differentiation of pseudo-inverses and nonlinear least squares problems whose
 * variables separate (1973), transposed; whichever products are smaller. */
fb_status fbi_bwd_ops_pinv(fbi_bw *bw)
{
    fb_tensor *a = fbi_bw_in(bw, 0), *y = fbi_bw_out(bw, 0), *gt = fbi_mt(bw->grad[0]), *g;
    if (!a || !y || !gt)
        return bw->ctx->status;
    fb_tensor *yt = fbi_mt(y);
    if (a->size[a->ndim - 2] <= a->size[a->ndim - 1]) {
        fb_tensor *k = fb_matmul(gt, y), *kyt = fb_matmul(k, yt);
        g = fb_sub(kyt, fb_matmul(fb_matmul(a, y), kyt));
        g = g ? fb_sub(g, fbi_mt(fb_matmul(y, k))) : NULL;
        fb_tensor *rest = fb_sub(gt, fb_matmul(k, a));
        g = g && rest ? fb_add(g, fb_matmul(fb_matmul(yt, y), rest)) : NULL;
    } else {
        fb_tensor *k = fb_matmul(y, gt), *ytk = fb_matmul(yt, k);
        g = fb_sub(ytk, fb_matmul(fb_matmul(ytk, y), a));
        g = g ? fb_sub(g, fbi_mt(fb_matmul(k, y))) : NULL;
        fb_tensor *rest = fb_sub(gt, fb_matmul(a, k));
        g = g && rest ? fb_add(g, fb_matmul(fb_matmul(rest, y), yt)) : NULL;
    }
    return fbi_bw_give(bw, 0, g);
}

#define MATRIX(...)                                                      \
    {                                                                    \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1, .matrix = 'r' \
    }

void fbi_sample_pinv(fbi_samples *s)
{
    fbi_sample_in in = MATRIX(3, 3);
    const fb_shape ok[] = {FB_SHAPE(3, 3), FB_SHAPE(2, 4, 2), FB_SHAPE(2, 2, 3)};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        in.shape = ok[i];
        fbi_sample_add(s, &(fbi_attrs_pinv){0}, 1, &in);
    }
    fbi_sample_bad(s, &(fbi_attrs_pinv){-1}, 1, &in, FB_E_ARG, "pinv: rtol is -1");
    in.matrix = 0;
    in.shape = FB_SHAPE(3);
    fbi_sample_bad(s, &(fbi_attrs_pinv){0}, 1, &in, FB_E_SHAPE, "pinv: input 0 [3] is no matrix");
}

fb_tensor *fb_pinv(fb_tensor *a, double rtol)
{
    return FBI_RUN(pinv, (&(fbi_attrs_pinv){rtol}), a);
}

/* --- matrix_rank --- */

fb_status fbi_compose_matrix_rank(fbi_call *c)
{
    double rtol = ((const fbi_attrs_matrix_rank *)c->attrs)->rtol;
    fb_status st = need_rtol(c, rtol);
    if (st)
        return st;
    fb_tensor *a = fb_detach(c->in[0]), *s = a ? fb_svdvals(a) : NULL;
    if (!s)
        return c->ctx->status;
    fb_tensor *largest = s->size[s->ndim - 1] ? fb_narrow(s, -1, 0, 1) : s; /* they fall */
    fb_tensor *limit = largest ? fb_mul_scalar(largest, rtol_of(a, rtol)) : NULL;
    return fbi_composed(c, limit ? fb_sum(fb_gt(s, limit), FB_SHAPE(-1), false) : NULL);
}

void fbi_sample_matrix_rank(fbi_samples *s)
{
    fbi_sample_in in = MATRIX(2, 4, 3);
    fbi_sample_add(s, &(fbi_attrs_matrix_rank){0}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_matrix_rank){-1}, 1, &in, FB_E_ARG, "matrix_rank: rtol is -1");
}

fb_tensor *fb_matrix_rank(fb_tensor *a, double rtol)
{
    return FBI_RUN(matrix_rank, (&(fbi_attrs_matrix_rank){rtol}), a);
}

/* --- lstsq --- */

/* Tall: x = R^-1 Q^T b of a = Q R. Wide: x = Q R^-T b of a^T = Q R, the smallest of all. */
static fb_tensor *least_squares(fb_tensor *a, fb_tensor *b)
{
    fb_tensor *q, *r, *y;
    bool wide = a->size[a->ndim - 2] < a->size[a->ndim - 1];
    if (fb_qr(wide ? fbi_mt(a) : a, false, &q, &r))
        return NULL;
    if (!wide) {
        y = fbi_tn(q, b);
        return y ? fb_solve_triangular(r, y, FB_OPTS(fb_triangular_options, .upper = true)) : NULL;
    }
    y = fb_solve_triangular(fbi_mt(r), b, NULL);
    return y ? fb_matmul(q, y) : NULL;
}

fb_status fbi_compose_lstsq(fbi_call *c)
{
    fb_tensor *a = c->in[0], *b = c->in[1];
    fb_shape batch;
    fb_status st = fbi_need_matrix(c, 0);
    if (!st)
        st = fbi_need_matrix(c, 1);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)a->dtype);
    if (st)
        return st;
    if (a->size[a->ndim - 2] != b->size[b->ndim - 2] ||
        !fbi_broadcast(fbi_without_last(a, 2), fbi_without_last(b, 2), &batch))
        return fbi_op_fail(c, FB_E_SHAPE, "right-hand sides %s do not fit the matrix %s",
                           fbi_text(b), fbi_text(a));
    return fbi_composed(c, least_squares(a, b));
}

void fbi_sample_lstsq(fbi_samples *s)
{
    fbi_sample_in in[2] = {MATRIX(4, 3), {.shape = FB_SHAPE(4, 2), .lo = -1, .hi = 1}};
    fbi_sample_add(s, NULL, 2, in);
    in[0].shape = FB_SHAPE(2, 2, 3);
    in[1].shape = FB_SHAPE(2, 2, 1);
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = FB_SHAPE(3, 1);
    fbi_sample_bad(s, NULL, 2, in, FB_E_SHAPE,
                   "lstsq: right-hand sides [3, 1] do not fit the matrix [2, 2, 3]");
}

fb_tensor *fb_lstsq(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(lstsq, NULL, a, b);
}
