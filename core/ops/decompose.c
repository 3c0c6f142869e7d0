/* Decompositions of matrices: shapes, derivatives, samples. */
#include "core/ops/decompose_priv.h"

#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/strided.h>

#define MATRIX(kind, ...)                                                 \
    {                                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1, .matrix = kind \
    }

static fb_tensor *solve_by(fb_tensor *a, fb_tensor *b, bool upper, bool right)
{
    fb_triangular_options o = {.upper = upper, .right = right};
    return a && b ? fb_solve_triangular(a, b, &o) : NULL;
}

/* --- cholesky --- */

fb_status fbi_infer_cholesky(fbi_call *c)
{
    fb_status st = fbi_need_square(c, 0);
    return st ? st : fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[0]));
}

/* L^-T S L^-1 with S = (P + P^T) / 2, P the lower triangle of L^T g with half its diagonal. */
fb_status fbi_bwd_ops_cholesky(fbi_bw *bw)
{
    bool upper = ((const fbi_attrs_cholesky *)bw->attrs)->upper;
    fb_tensor *l = fbi_bw_out(bw, 0), *g = bw->grad[0];
    if (!l)
        return bw->ctx->status;
    l = upper ? fbi_mt(l) : l;
    g = upper ? fbi_mt(g) : g;
    fb_tensor *m = l && g ? fbi_tn(l, g) : NULL;
    fb_tensor *s = m ? fb_add(fb_tril(m, 0), fbi_mt(fb_tril(m, -1))) : NULL;
    fb_tensor *x = s ? solve_by(fbi_mt(l), fb_mul_scalar(s, 0.5), true, false) : NULL;
    return fbi_bw_give(bw, 0, x ? solve_by(l, x, false, true) : NULL);
}

void fbi_sample_cholesky(fbi_samples *s)
{
    fbi_sample_in in = MATRIX('p', 3, 3), not = {.shape = FB_SHAPE(2, 2, 2), .lo = -2, .hi = -1};
    fbi_sample_add(s, &(fbi_attrs_cholesky){0}, 1, &in);
    in.shape = FB_SHAPE(2, 4, 4);
    fbi_sample_add(s, &(fbi_attrs_cholesky){0}, 1, &in);
    fbi_sample_add(s, &(fbi_attrs_cholesky){1}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_cholesky){0}, 1, &not, FB_E_ARG,
                   "cholesky: item 0 of the batch [2, 2, 2] is not positive definite (LAPACK's "
                   "potrf: info 1)");
    not .shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, &(fbi_attrs_cholesky){0}, 1, &not, FB_E_SHAPE,
                   "cholesky: input 0 [2, 3] is not square");
}

fb_tensor *fb_cholesky(fb_tensor *a, bool upper)
{
    return FBI_RUN(cholesky, (&(fbi_attrs_cholesky){upper}), a);
}

/* --- qr --- */

fb_status fbi_infer_qr(fbi_call *c)
{
    bool complete = ((const fbi_attrs_qr *)c->attrs)->complete;
    const fb_tensor *a = c->in[0];
    fb_status st = fbi_need_matrix(c, 0);
    if (st)
        return st;
    int64_t m = fbi_rows_of(a), n = fbi_cols_of(a), k = complete || m < n ? m : n;
    fb_dtype dtype = (fb_dtype)a->dtype;
    st = fbi_out(c, 0, dtype, fbi_with_matrix(a, m, k));
    return st ? st : fbi_out(c, 1, dtype, fbi_with_matrix(a, k, n));
}

/* (gq + q S) r^-T for a square r, S the symmetric matrix with the upper triangle of
 * gr r^T - q^T gq. */
static fb_tensor *square_qr(fb_tensor *q, fb_tensor *r, fb_tensor *gq, fb_tensor *gr)
{
    fb_tensor *m = gr ? fbi_nt(gr, r) : NULL;
    m = gq ? fbi_plus(m, fb_neg(fbi_tn(q, gq))) : m;
    fb_tensor *s = m ? fb_add(fb_triu(m, 0), fbi_mt(fb_triu(m, 1))) : NULL;
    fb_tensor *x = s ? fbi_plus(gq, fb_matmul(q, s)) : NULL;
    return x ? solve_by(fbi_mt(r), x, false, true) : NULL;
}

fb_status fbi_bwd_ops_qr(fbi_bw *bw)
{
    fb_tensor *q = fbi_bw_out(bw, 0), *r = fbi_bw_out(bw, 1);
    fb_tensor *gq = bw->grad[0], *gr = bw->grad[1];
    if (!q || !r)
        return bw->ctx->status;
    int64_t m = fbi_rows_of(q), k = fbi_cols_of(q), n = fbi_cols_of(r);
    if (n == 0)
        return fbi_bw_give(bw, 0, fb_matmul(q, r));
    if (k == m && m > n) { /* complete: the first n columns and rows are the reduced ones */
        if (gq)
            return fbi_fail(bw->ctx, FB_E_UNSUPPORTED,
                            "backward of qr: a complete Q of more rows than columns has no "
                            "derivative: use the reduced one");
        q = fb_narrow(q, -1, 0, n);
        r = fb_narrow(r, -2, 0, n);
        gr = fb_narrow(gr, -2, 0, n);
    }
    if (k < n) { /* a = q [u v]: u is square, and the columns behind give q a gradient */
        fb_tensor *u = fb_narrow(r, -1, 0, k), *v = fb_narrow(r, -1, k, n - k);
        fb_tensor *gu = gr ? fb_narrow(gr, -1, 0, k) : NULL;
        fb_tensor *gv = gr ? fb_narrow(gr, -1, k, n - k) : NULL;
        if (gv)
            gq = fbi_plus(gq, fbi_nt(fb_matmul(q, v), gv));
        fb_tensor *gx = u ? square_qr(q, u, gq, gu) : NULL;
        fb_tensor *gy = gv ? fb_matmul(q, gv) : gx ? fb_mul_scalar(fb_matmul(q, v), 0) : NULL;
        return fbi_bw_give(bw, 0, gx && gy ? fb_cat(FB_TENSORS(gx, gy), -1) : NULL);
    }
    return q && r ? fbi_bw_give(bw, 0, square_qr(q, r, gq, gr)) : bw->ctx->status;
}

void fbi_sample_qr(fbi_samples *s)
{
    fbi_sample_in in = MATRIX('r', 4, 3);
    fbi_sample_add(s, &(fbi_attrs_qr){0}, 1, &in);
    in.shape = FB_SHAPE(2, 3, 3);
    fbi_sample_add(s, &(fbi_attrs_qr){0}, 1, &in);
    fbi_sample_add(s, &(fbi_attrs_qr){1}, 1, &in);
    in.shape = FB_SHAPE(2, 2, 4);
    fbi_sample_add(s, &(fbi_attrs_qr){0}, 1, &in);
    in.matrix = 0;
    in.shape = FB_SHAPE(3);
    fbi_sample_bad(s, &(fbi_attrs_qr){0}, 1, &in, FB_E_SHAPE, "qr: input 0 [3] is no matrix");
}

fb_status fb_qr(fb_tensor *a, bool complete, fb_tensor **q, fb_tensor **r)
{
    fb_tensor *out[2] = {NULL};
    fb_context *ctx = fb_context_of(a);
    FBI_ENTRY(ctx);
    fb_status st = ctx ? fbi_run(ctx, FBI_OP_qr, &(fbi_attrs_qr){complete}, &a, 1, out) : FB_E_ARG;
    return fbi_hand_out(st, out, (fb_tensor * *const[]){q, r}, 2);
}

/* --- eigh --- */

fb_status fbi_infer_eigh(fbi_call *c)
{
    const fb_tensor *a = c->in[0];
    const fbi_attrs_eigh *s = c->attrs;
    fb_status st = fbi_need_square(c, 0);
    if (!st)
        st = fbi_out(c, 0, (fb_dtype)a->dtype, fbi_without_last(a, 1));
    int64_t n = st || s->values_only ? 0 : fbi_cols_of(a);
    return st ? st : fbi_out(c, 1, (fb_dtype)a->dtype, fbi_with_matrix(a, n, n));
}

/* v_j - v_i for i, j, and 1 where i is j. */
static fb_tensor *gaps(fb_tensor *v, fb_tensor *identity)
{
    fb_tensor *d = fb_sub(fb_unsqueeze(v, -2), fb_unsqueeze(v, -1));
    return d ? fb_add(d, identity) : NULL;
}

/* V (diag(gw) + V^T gv / gaps of w) V^T, without the diagonal of the second; its symmetric part */
fb_status fbi_bwd_ops_eigh(fbi_bw *bw)
{
    fb_tensor *w = fbi_bw_out(bw, 0), *v = fbi_bw_out(bw, 1);
    fb_tensor *gw = bw->grad[0], *gv = bw->grad[1], *m = gw ? fb_diag_embed(gw, 0, -2, -1) : NULL;
    if (!w || !v || (gw && !m))
        return bw->ctx->status;
    if (gv) {
        fb_tensor *one = fbi_identity(bw->ctx, (fb_dtype)w->dtype, fbi_cols_of(v));
        fb_tensor *ratio = one ? fb_div(fbi_tn(v, gv), gaps(w, one)) : NULL;
        m = ratio ? fbi_plus(m, fb_mul(ratio, fb_sub(fb_full_like(one, 1), one))) : NULL;
    }
    fb_tensor *left = m ? fb_matmul(v, m) : NULL, *g = left ? fbi_nt(left, v) : NULL;
    return fbi_bw_give(bw, 0, g ? fb_mul_scalar(fb_add(g, fbi_mt(g)), 0.5) : NULL);
}

void fbi_sample_eigh(fbi_samples *s)
{
    fbi_sample_in in = MATRIX('s', 3, 3);
    fbi_sample_add(s, &(fbi_attrs_eigh){0, 0}, 1, &in);
    in.shape = FB_SHAPE(2, 4, 4);
    fbi_sample_add(s, &(fbi_attrs_eigh){1, 0}, 1, &in);
    in.matrix = 0;
    in.shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, &(fbi_attrs_eigh){0, 0}, 1, &in, FB_E_SHAPE,
                   "eigh: input 0 [2, 3] is not square");
}

fb_status fb_eigh(fb_tensor *a, bool upper, fb_tensor **values, fb_tensor **vectors)
{
    fb_tensor *out[2] = {NULL};
    fb_context *ctx = fb_context_of(a);
    FBI_ENTRY(ctx);
    fbi_attrs_eigh s = {upper, 0};
    fb_status st = ctx ? fbi_run(ctx, FBI_OP_eigh, &s, &a, 1, out) : FB_E_ARG;
    return fbi_hand_out(st, out, (fb_tensor * *const[]){values, vectors}, 2);
}

/* Backward needs the vectors; without it they are not computed. */
fb_status fbi_compose_eigvalsh(fbi_call *c)
{
    fb_tensor *a = c->in[0], *out[2];
    fb_status st = fbi_need_square(c, 0);
    bool alone = !fb_needs_grad(a) || !c->ctx->grad_on;
    fbi_attrs_eigh s = {((const fbi_attrs_eigvalsh *)c->attrs)->upper, alone};
    if (!st)
        st = fbi_run(c->ctx, FBI_OP_eigh, &s, &a, 1, out);
    return st ? st : fbi_composed(c, out[0]);
}

void fbi_sample_eigvalsh(fbi_samples *s)
{
    fbi_sample_in in = MATRIX('s', 2, 3, 3);
    fbi_sample_add(s, &(fbi_attrs_eigvalsh){0}, 1, &in);
    fbi_sample_add(s, &(fbi_attrs_eigvalsh){1}, 1, &in);
    in.matrix = 0;
    in.shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, &(fbi_attrs_eigvalsh){0}, 1, &in, FB_E_SHAPE,
                   "eigvalsh: input 0 [2, 3] is not square");
}

fb_tensor *fb_eigvalsh(fb_tensor *a, bool upper)
{
    return FBI_RUN(eigvalsh, (&(fbi_attrs_eigvalsh){upper}), a);
}

/* --- svd --- */

fb_status fbi_infer_svd(fbi_call *c)
{
    const fb_tensor *a = c->in[0];
    const fbi_attrs_svd *s = c->attrs;
    fb_status st = fbi_need_matrix(c, 0);
    if (st)
        return st;
    int64_t m = fbi_rows_of(a), n = fbi_cols_of(a), k = m < n ? m : n;
    int64_t nu = s->values_only ? 0 : s->full_matrices ? m : k;
    int64_t nv = s->values_only ? 0 : s->full_matrices ? n : k;
    fb_shape values = fbi_without_last(a, 1);
    values.d[values.n - 1] = k;
    st = fbi_out(c, 0, (fb_dtype)a->dtype, fbi_with_matrix(a, m, nu));
    if (!st)
        st = fbi_out(c, 1, (fb_dtype)a->dtype, values);
    return st ? st : fbi_out(c, 2, (fb_dtype)a->dtype, fbi_with_matrix(a, nv, n));
}

/* m - m^T, over the differences of the squares of s. */
static fb_tensor *skew_ratio(fb_tensor *m, fb_tensor *gap)
{
    return m ? fb_div(fb_sub(m, fbi_mt(m)), gap) : NULL;
}

/* x - a (a^T x): what is orthogonal to the columns of a. */
static fb_tensor *beside(fb_tensor *a, fb_tensor *x)
{
    return fb_sub(x, fb_matmul(a, fbi_tn(a, x)));
}

typedef struct svd_grad {
    fb_tensor *u, *s, *v, *gu, *gs, *gv; /* v and gv: columns */
} svd_grad;

/* Townsend: Differentiating the singular value decomposition (2016). */
static fb_tensor *svd_backward(fbi_bw *bw, const svd_grad *p)
{
    fb_tensor *row = fb_unsqueeze(p->s, -2), *column = fb_unsqueeze(p->s, -1);
    fb_tensor *m = p->gs ? fb_diag_embed(p->gs, 0, -2, -1) : NULL, *g;
    fb_tensor *one = fbi_identity(bw->ctx, (fb_dtype)p->s->dtype, p->s->size[p->s->ndim - 1]);
    fb_tensor *gap = one && row && column ? gaps(fb_square(p->s), one) : NULL;
    if (!gap)
        return NULL;
    if (p->gu)
        m = fbi_plus(m, fb_mul(skew_ratio(fbi_tn(p->u, p->gu), gap), row));
    if (p->gv)
        m = fbi_plus(m, fb_mul(column, skew_ratio(fbi_tn(p->v, p->gv), gap)));
    g = m ? fb_matmul(p->u, fbi_nt(m, p->v)) : NULL;
    if (g && p->gu && fbi_rows_of(p->u) > fbi_cols_of(p->u))
        g = fb_add(g, fbi_nt(fb_div(beside(p->u, p->gu), row), p->v));
    if (g && p->gv && fbi_rows_of(p->v) > fbi_cols_of(p->v))
        g = fb_add(g, fbi_nt(p->u, fb_div(beside(p->v, p->gv), row)));
    return g;
}

fb_status fbi_bwd_ops_svd(fbi_bw *bw)
{
    fb_tensor *u = fbi_bw_out(bw, 0), *s = fbi_bw_out(bw, 1), *vh = fbi_bw_out(bw, 2);
    if (!u || !s || !vh)
        return bw->ctx->status;
    int64_t k = s->size[s->ndim - 1];
    fb_tensor *gu = bw->grad[0], *gv = bw->grad[2];
    svd_grad p = {.u = fb_narrow(u, -1, 0, k),
                  .s = s,
                  .v = fbi_mt(fb_narrow(vh, -2, 0, k)),
                  .gu = gu ? fb_narrow(gu, -1, 0, k) : NULL,
                  .gs = bw->grad[1],
                  .gv = gv ? fbi_mt(fb_narrow(gv, -2, 0, k)) : NULL};
    return p.u && p.v ? fbi_bw_give(bw, 0, svd_backward(bw, &p)) : bw->ctx->status;
}

void fbi_sample_svd(fbi_samples *s)
{
    fbi_sample_in in = MATRIX('r', 3, 3);
    fbi_sample_add(s, &(fbi_attrs_svd){0, 0}, 1, &in);
    in.shape = FB_SHAPE(2, 4, 3);
    fbi_sample_add(s, &(fbi_attrs_svd){0, 0}, 1, &in);
    in.shape = FB_SHAPE(2, 2, 4);
    fbi_sample_add(s, &(fbi_attrs_svd){0, 0}, 1, &in);
    in.shape = FB_SHAPE(2, 3, 3);
    fbi_sample_add(s, &(fbi_attrs_svd){1, 0}, 1, &in);
    in.matrix = 0;
    in.shape = FB_SHAPE(3);
    fbi_sample_bad(s, &(fbi_attrs_svd){0, 0}, 1, &in, FB_E_SHAPE, "svd: input 0 [3] is no matrix");
}

fb_status fb_svd(fb_tensor *a, bool full, fb_tensor **u, fb_tensor **s, fb_tensor **vh)
{
    fb_tensor *out[3] = {NULL};
    fb_context *ctx = fb_context_of(a);
    FBI_ENTRY(ctx);
    fbi_attrs_svd attrs = {full, 0};
    fb_status st = ctx ? fbi_run(ctx, FBI_OP_svd, &attrs, &a, 1, out) : FB_E_ARG;
    return fbi_hand_out(st, out, (fb_tensor * *const[]){u, s, vh}, 3);
}

fb_status fbi_compose_svdvals(fbi_call *c)
{
    fb_tensor *a = c->in[0], *out[3];
    fb_status st = fbi_need_matrix(c, 0);
    fbi_attrs_svd s = {0, !fb_needs_grad(a) || !c->ctx->grad_on};
    if (!st)
        st = fbi_run(c->ctx, FBI_OP_svd, &s, &a, 1, out);
    return st ? st : fbi_composed(c, out[1]);
}

void fbi_sample_svdvals(fbi_samples *s)
{
    fbi_sample_in in = MATRIX('r', 2, 4, 3);
    fbi_sample_add(s, NULL, 1, &in);
    in.matrix = 0;
    in.shape = FB_SHAPE(3);
    fbi_sample_bad(s, NULL, 1, &in, FB_E_SHAPE, "svdvals: input 0 [3] is no matrix");
}

fb_tensor *fb_svdvals(fb_tensor *a)
{
    return FBI_RUN(svdvals, NULL, a);
}
