/* attention(q, k, v): softmax(q k^T scale) v without a [T, S] tensor, causal or not; and the
 * logarithms of the softmax's sums, for backward. */
#include "core/ops/attend_priv.h"

#include "core/ops/half_priv.h"

#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

static bool same_batch(const fb_tensor *a, const fb_tensor *b)
{
    for (int i = 0; i < a->ndim - 2; i++)
        if (a->size[i] != b->size[i])
            return false;
    return true;
}

static bool shapes_fit(const fb_tensor *q, const fb_tensor *k, const fb_tensor *v)
{
    int n = q->ndim;
    return n >= 2 && k->ndim == n && v->ndim == n && same_batch(q, k) && same_batch(q, v) &&
           q->size[n - 1] == k->size[n - 1] && k->size[n - 2] == v->size[n - 2];
}

bool fbi_attention_fits(const fb_tensor *q, const fb_tensor *k, const fb_tensor *v)
{
    return fbi_has_kernel(q->ctx, FBI_OP_attention) && shapes_fit(q, k, v) && q->numel > 0 &&
           k->numel > 0 && v->numel > 0;
}

fb_status fbi_infer_attention(fbi_call *c)
{
    const fb_tensor *q = c->in[0], *k = c->in[1], *v = c->in[2];
    fb_status st = fbi_need_float(c, 0);
    for (int i = 1; i < 3 && !st; i++)
        st = fbi_need_dtype(c, i, (fb_dtype)q->dtype);
    if (st)
        return st;
    if (!shapes_fit(q, k, v) || q->numel == 0 || k->numel == 0 || v->numel == 0)
        return fbi_op_fail(c, FB_E_SHAPE,
                           "q [.., T, D], k [.., S, D], v [.., S, E] wanted: %s, %s, %s",
                           fbi_text(q), fbi_text(k), fbi_text(v));
    fb_shape y = fb_shape_of(q), lse = y;
    y.d[y.n - 1] = v->size[v->ndim - 1];
    lse.n--;
    st = fbi_out_order(c, 0, (fb_dtype)q->dtype, y, q);
    return st ? st : fbi_out(c, 1, fbi_stat_dtype(q), lse);
}

/* g, q, k, v, y, lse -> dq, dk, dv */
fb_status fbi_infer_attention_bwd(fbi_call *c)
{
    fb_status st = FB_OK;
    for (int i = 0; i < 3 && !st; i++) {
        const fb_tensor *t = c->in[i + 1];
        st = fbi_out_order(c, i, (fb_dtype)t->dtype, fb_shape_of(t), t);
    }
    return st;
}

fb_status fbi_bwd_attention(fbi_bw *bw)
{
    const fbi_attrs_attention *a = bw->attrs;
    fbi_attrs_attention_bwd p = {.scale = a->scale, .causal = a->causal};
    fb_tensor *in[6] = {bw->grad[0],      fbi_bw_in(bw, 0),  fbi_bw_in(bw, 1),
                        fbi_bw_in(bw, 2), fbi_bw_out(bw, 0), fbi_bw_out(bw, 1)};
    fb_tensor *out[3];
    for (int i = 0; i < 6; i++)
        if (!in[i])
            return bw->ctx->status;
    fb_status st = fbi_run(bw->ctx, FBI_OP_attention_bwd, &p, in, 6, out);
    for (int i = 0; i < 3 && !st; i++)
        st = fbi_bw_give(bw, i, out[i]);
    return st;
}

fb_status fbi_bwd_ops_attention(fbi_bw *bw)
{
    const fbi_attrs_attention *a = bw->attrs;
    fbi_attrs_masked_softmax m = {.scale = a->scale, .causal = a->causal};
    fb_tensor *saved = fbi_bw_in(bw, 0), *q = fbi_exact(saved), *k = fbi_exact(fbi_bw_in(bw, 1));
    fb_tensor *v = fbi_exact(fbi_bw_in(bw, 2)), *g = fbi_exact(bw->grad[0]);
    if (!q || !k || !v)
        return bw->ctx->status;
    fb_dtype dtype = (fb_dtype)saved->dtype;
    fb_tensor *scores = fb_matmul(q, fb_transpose(k, -2, -1));
    fb_tensor *p = scores ? FBI_RUN(masked_softmax, &m, scores, NULL) : NULL;
    if (!p)
        return bw->ctx->status;
    fb_tensor *dp = fb_mul(fb_matmul(g, fb_transpose(v, -2, -1)), p);
    fb_tensor *ds = fb_mul_scalar(fb_sub(dp, fb_mul(p, fb_sum(dp, FB_SHAPE(-1), true))), a->scale);
    fb_status st = fbi_bw_give(bw, 0, fb_to(fb_matmul(ds, k), dtype));
    if (!st)
        st = fbi_bw_give(bw, 1, fb_to(fb_matmul(fb_transpose(ds, -2, -1), q), dtype));
    return st ? st : fbi_bw_give(bw, 2, fb_to(fb_matmul(fb_transpose(p, -2, -1), g), dtype));
}

void fbi_sample_attention(fbi_samples *s)
{
    const fbi_attrs_attention plain = {.scale = 0.7}, causal = {.scale = 0.4, .causal = 1};
    const struct {
        fb_shape q, k, v;
    } ok[] = {{FB_SHAPE(2, 3, 5), FB_SHAPE(2, 3, 5), FB_SHAPE(2, 3, 5)},
              {FB_SHAPE(7, 2), FB_SHAPE(4, 2), FB_SHAPE(4, 3)},
              {FB_SHAPE(1, 2, 3, 16), FB_SHAPE(1, 2, 18, 16), FB_SHAPE(1, 2, 18, 2)}};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        fbi_sample_in in[3] = {{.shape = ok[i].q, .lo = -1, .hi = 1},
                               {.shape = ok[i].k, .lo = -1, .hi = 1},
                               {.shape = ok[i].v, .lo = -1, .hi = 1}};
        fbi_sample_add(s, &plain, 3, in);
        fbi_sample_add(s, &causal, 3, in);
    }
    fbi_sample_in bad[3] = {{.shape = FB_SHAPE(3, 4), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(5, 4), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(6, 4), .lo = -1, .hi = 1}};
    fbi_sample_bad(
        s, &plain, 3, bad, FB_E_SHAPE,
        "attention: q [.., T, D], k [.., S, D], v [.., S, E] wanted: [3, 4], [5, 4], [6");
}
