/* matmul and linear: shapes, derivatives, samples. */
#include <flambeau/core/ops/linalg.h>

#include "core/ops/linear_priv.h"

#include <flambeau/core/ops/view.h>

/* --- views that are not recorded --- */

static fb_tensor *transposed(fb_tensor *t)
{
    fb_shape size = fb_shape_of(t), stride = fbi_strides_of(t);
    int i = t->ndim - 2, j = t->ndim - 1;
    size.d[i] = t->size[j];
    size.d[j] = t->size[i];
    stride.d[i] = t->stride[j];
    stride.d[j] = t->stride[i];
    return fbi_view(t, size, stride, t->offset);
}

/* --- matmul --- */

fb_status fbi_infer_matmul(fbi_call *c)
{
    const fb_tensor *a = c->in[0], *b = c->in[1];
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)a->dtype);
    if (st)
        return st;
    int n = a->ndim;
    if (n < 2 || b->ndim != n)
        return fbi_op_fail(c, FB_E_SHAPE, "matrices or batches of the same rank wanted: %s x %s",
                           fbi_text(a), fbi_text(b));
    if (a->size[n - 1] != b->size[n - 2])
        return fbi_op_fail(c, FB_E_SHAPE, "inner sizes differ: %s x %s", fbi_text(a), fbi_text(b));
    for (int i = 0; i < n - 2; i++)
        if (a->size[i] != b->size[i])
            return fbi_op_fail(c, FB_E_SHAPE, "batch sizes differ: %s x %s", fbi_text(a),
                               fbi_text(b));
    fb_shape s = fb_shape_of(a);
    s.d[n - 1] = b->size[n - 1];
    return fbi_out(c, 0, (fb_dtype)a->dtype, s);
}

fb_status fbi_bwd_matmul(fbi_bw *bw)
{
    fb_tensor *g = bw->grad[0];
    fb_status st = FB_OK;
    if (fbi_bw_needs(bw, 0)) {
        fb_tensor *b = fbi_bw_in(bw, 1), *bt = b ? transposed(b) : NULL;
        st = bt ? FBI_BW_RUN(bw, 0, matmul, NULL, g, bt) : bw->ctx->status;
    }
    if (!st && fbi_bw_needs(bw, 1)) {
        fb_tensor *a = fbi_bw_in(bw, 0), *at = a ? transposed(a) : NULL;
        st = at ? FBI_BW_RUN(bw, 1, matmul, NULL, at, g) : bw->ctx->status;
    }
    return st;
}

fb_status fbi_bwd_ops_matmul(fbi_bw *bw)
{
    fb_tensor *g = bw->grad[0], *a = fbi_bw_in(bw, 0), *b = fbi_bw_in(bw, 1);
    fb_status st = FB_OK;
    if (!a || !b)
        return bw->ctx->status;
    if (fbi_bw_needs(bw, 0))
        st = fbi_bw_give(bw, 0, fb_matmul(g, fb_transpose(b, -2, -1)));
    if (!st && fbi_bw_needs(bw, 1))
        st = fbi_bw_give(bw, 1, fb_matmul(fb_transpose(a, -2, -1), g));
    return st;
}

void fbi_sample_matmul(fbi_samples *s)
{
    const fb_shape ok[][2] = {{FB_SHAPE(3, 4), FB_SHAPE(4, 5)},
                              {FB_SHAPE(1, 7), FB_SHAPE(7, 1)},
                              {FB_SHAPE(2, 3, 5), FB_SHAPE(2, 5, 4)},
                              {FB_SHAPE(2, 3, 2, 3), FB_SHAPE(2, 3, 3, 2)}};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        fbi_sample_in in[2] = {{.shape = ok[i][0], .lo = -1, .hi = 1},
                               {.shape = ok[i][1], .lo = -1, .hi = 1}};
        fbi_sample_add(s, NULL, 2, in);
    }
    fbi_sample_in bad[2] = {{.shape = FB_SHAPE(3, 4), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(5, 6), .lo = -1, .hi = 1}};
    fbi_sample_bad(s, NULL, 2, bad, FB_E_SHAPE, "matmul: inner sizes differ: [3, 4] x [5, 6]");
    bad[1].shape = FB_SHAPE(1, 4, 6);
    fbi_sample_bad(s, NULL, 2, bad, FB_E_SHAPE, "matmul: matrices or batches of the same rank");
}

/* Batch dimensions of a and b, made equal by views. */
static fb_tensor *batched_matmul(fb_tensor *a, fb_tensor *b)
{
    fb_shape sa = fb_shape_of(a), sb = fb_shape_of(b), batch;
    fb_shape ba = {sa.n - 2, {0}}, bb = {sb.n - 2, {0}};
    for (int i = 0; i < ba.n; i++)
        ba.d[i] = sa.d[i];
    for (int i = 0; i < bb.n; i++)
        bb.d[i] = sb.d[i];
    if (fb_shape_equal(ba, bb))
        return FBI_RUN(matmul, NULL, a, b);
    if (!fbi_broadcast(ba, bb, &batch)) {
        fbi_fail(a->ctx, FB_E_SHAPE, "matmul: batch sizes do not broadcast: %s x %s", fbi_text(a),
                 fbi_text(b));
        return NULL;
    }
    fb_shape ea = batch, eb = batch;
    ea.n = eb.n = batch.n + 2;
    for (int i = 0; i < 2; i++) {
        ea.d[batch.n + i] = sa.d[ba.n + i];
        eb.d[batch.n + i] = sb.d[bb.n + i];
    }
    return FBI_RUN(matmul, NULL, fb_expand(a, ea), fb_expand(b, eb));
}

fb_tensor *fb_matmul(fb_tensor *a, fb_tensor *b)
{
    fb_context *ctx = fb_context_of(a);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, a, "matmul", "a") || !fbi_tensor_check(ctx, b, "matmul", "b"))
        return NULL;
    if (a->ndim == 0 || b->ndim == 0) {
        fbi_fail(ctx, FB_E_SHAPE, "matmul: a scalar is no matrix: %s x %s", fbi_text(a),
                 fbi_text(b));
        return NULL;
    }
    bool row = a->ndim == 1, column = b->ndim == 1;
    if (a->size[a->ndim - 1] != b->size[column ? 0 : b->ndim - 2]) {
        fbi_fail(ctx, FB_E_SHAPE, "matmul: inner sizes differ: %s x %s", fbi_text(a), fbi_text(b));
        return NULL;
    }
    if (row)
        a = fb_unsqueeze(a, 0);
    if (column)
        b = fb_unsqueeze(b, 1);
    if (!a || !b)
        return NULL;
    fb_tensor *y;
    if (b->ndim == 2 && a->ndim > 2) { /* one matrix for the whole batch: a single large product */
        fb_shape s = fb_shape_of(a);
        s.d[s.n - 1] = b->size[1];
        y = FBI_RUN(matmul, NULL, fb_flatten(a, 0, -2), b);
        y = y ? fb_reshape(y, s) : NULL;
    } else {
        y = batched_matmul(a, b);
    }
    if (y && column)
        y = fb_squeeze(y, -1);
    if (y && row)
        y = fb_squeeze(y, column ? -1 : -2);
    return y;
}

/* --- linear --- */

static fb_shape with_last(const fb_tensor *t, int64_t last)
{
    fb_shape s = fb_shape_of(t);
    s.d[s.n - 1] = last;
    return s;
}

fb_status fbi_infer_linear(fbi_call *c)
{
    const fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)x->dtype);
    if (!st)
        st = fbi_need_ndim(c, 1, 2);
    if (st)
        return st;
    if (x->ndim < 1 || x->size[x->ndim - 1] != w->size[1])
        return fbi_op_fail(c, FB_E_SHAPE, "inner sizes differ: %s x %s", fbi_text(x), fbi_text(w));
    if (b) {
        st = fbi_need_dtype(c, 2, (fb_dtype)x->dtype);
        if (st)
            return st;
        if (b->ndim != 1 || b->size[0] != w->size[0])
            return fbi_op_fail(c, FB_E_SHAPE, "bias %s does not fit weight %s", fbi_text(b),
                               fbi_text(w));
    }
    return fbi_out(c, 0, (fb_dtype)x->dtype, with_last(x, w->size[0]));
}

fb_status fbi_infer_linear_dx(fbi_call *c)
{
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, with_last(c->in[0], c->in[1]->size[1]));
}

fb_status fbi_infer_linear_dw(fbi_call *c)
{
    const fb_tensor *g = c->in[0], *x = c->in[1];
    return fbi_out(c, 0, (fb_dtype)g->dtype, FB_SHAPE(g->size[g->ndim - 1], x->size[x->ndim - 1]));
}

fb_status fbi_infer_linear_db(fbi_call *c)
{
    const fb_tensor *g = c->in[0];
    return fbi_out(c, 0, (fb_dtype)g->dtype, FB_SHAPE(g->size[g->ndim - 1]));
}

/* g, x -> the gradients of w and b */
fb_status fbi_infer_linear_dwb(fbi_call *c)
{
    const fb_tensor *g = c->in[0], *x = c->in[1];
    int64_t out = g->size[g->ndim - 1];
    fb_status st = fbi_out(c, 0, (fb_dtype)g->dtype, FB_SHAPE(out, x->size[x->ndim - 1]));
    return st ? st : fbi_out(c, 1, (fb_dtype)g->dtype, FB_SHAPE(out));
}

fb_status fbi_bwd_linear(fbi_bw *bw)
{
    fb_tensor *g = bw->grad[0];
    if (!fbi_bw_needs(bw, 1) || !fbi_bw_needs(bw, 2)) {
        fb_status st = FBI_BW_RUN(bw, 2, linear_db, NULL, g);
        st = st ? st : fbi_linear_bwd_w(bw, g);
        return st ? st : fbi_linear_bwd_x(bw, g);
    }
    fb_tensor *in[2] = {g, fbi_bw_in(bw, 0)};
    fb_status st = in[1] ? fbi_bw_run_pair(bw, 1, 2, FBI_OP_linear_dwb, in, 2) : bw->ctx->status;
    return st ? st : fbi_linear_bwd_x(bw, g);
}

/* [..., n] as a matrix. */
static fb_tensor *as_rows(fb_tensor *t)
{
    if (!t || t->ndim == 2)
        return t;
    return t->ndim == 1 ? fb_unsqueeze(t, 0) : fb_flatten(t, 0, -2);
}

fb_status fbi_linear_bwd_ops(fbi_bw *bw, fb_tensor *g)
{
    fb_tensor *x = fbi_bw_in(bw, 0), *w = fbi_bw_in(bw, 1);
    fb_status st = FB_OK;
    if (!x || !w)
        return bw->ctx->status;
    if (fbi_bw_needs(bw, 0))
        st = fbi_bw_give(bw, 0, fb_matmul(g, w));
    if (!st && fbi_bw_needs(bw, 1)) {
        fb_tensor *rows = as_rows(g);
        st = rows ? fbi_bw_give(bw, 1, fb_matmul(fb_transpose(rows, 0, 1), as_rows(x)))
                  : bw->ctx->status;
    }
    if (!st && fbi_bw_needs(bw, 2))
        st = fbi_bw_give(bw, 2, fbi_sum_to(g, FB_SHAPE(w->size[0])));
    return st;
}

fb_status fbi_bwd_ops_linear(fbi_bw *bw)
{
    return fbi_linear_bwd_ops(bw, bw->grad[0]);
}

void fbi_sample_linear(fbi_samples *s)
{
    const fb_shape xs[] = {FB_SHAPE(5, 4), FB_SHAPE(4), FB_SHAPE(2, 3, 4), FB_SHAPE(1, 4)};
    for (size_t i = 0; i < sizeof xs / sizeof xs[0]; i++) {
        fbi_sample_in in[3] = {{.shape = xs[i], .lo = -1, .hi = 1},
                               {.shape = FB_SHAPE(3, 4), .lo = -1, .hi = 1},
                               {.shape = FB_SHAPE(3), .lo = -1, .hi = 1, .absent = i == 3}};
        fbi_sample_add(s, NULL, 3, in);
    }
    fbi_sample_in bad[3] = {{.shape = FB_SHAPE(64, 784), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(10, 700), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(10), .lo = -1, .hi = 1}};
    fbi_sample_bad(s, NULL, 3, bad, FB_E_SHAPE,
                   "linear: inner sizes differ: [64, 784] x [10, 700]");
    bad[0].shape = FB_SHAPE(64, 700);
    bad[2].shape = FB_SHAPE(9);
    fbi_sample_bad(s, NULL, 3, bad, FB_E_SHAPE, "linear: bias [9] does not fit weight [10, 700]");
}

fb_tensor *fb_linear(fb_tensor *x, fb_tensor *w, fb_tensor *b)
{
    return FBI_RUN(linear, NULL, x, w, b);
}
