/* attention(q, k, v, mask): softmax(q k^T scale + mask) v without a [T, S] tensor, causal or not,
 * its weights dropped out or not; several heads of q may share one of k and v. And the logarithms
 * of the softmax's sums, for backward. */
#include "core/ops/attend_priv.h"

#include "core/ops/half_priv.h"

#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

/* All but the heads, which are the dimension before the matrices. */
static bool same_batch(const fb_tensor *a, const fb_tensor *b)
{
    for (int i = 0; i < a->ndim - 3; i++)
        if (a->size[i] != b->size[i])
            return false;
    return true;
}

static int64_t heads_of(const fb_tensor *t)
{
    return t->ndim > 2 ? t->size[t->ndim - 3] : 1;
}

static bool shapes_fit(const fb_tensor *q, const fb_tensor *k, const fb_tensor *v)
{
    int n = q->ndim;
    if (n < 2 || k->ndim != n || v->ndim != n || !same_batch(q, k) || !same_batch(q, v))
        return false;
    if (q->numel == 0 || k->numel == 0 || v->numel == 0)
        return false;
    return q->size[n - 1] == k->size[n - 1] && k->size[n - 2] == v->size[n - 2] &&
           heads_of(k) == heads_of(v) && heads_of(q) % heads_of(k) == 0;
}

bool fbi_attention_fits(const fb_tensor *q, const fb_tensor *k, const fb_tensor *v, bool grouped)
{
    return fbi_has_kernel(q->ctx, FBI_OP_attention) && shapes_fit(q, k, v) &&
           (grouped || heads_of(q) == heads_of(k));
}

/* The mask of every score: BOOL, or a float that q's scores are computed in or stored in. */
static fb_status need_mask(const fbi_call *c)
{
    const fb_tensor *q = c->in[0], *k = c->in[1], *m = c->in[3];
    int n = q->ndim;
    if (!m)
        return FB_OK;
    if (m->dtype != FB_BOOL && m->dtype != q->dtype && (fb_dtype)m->dtype != fbi_stat_dtype(q))
        return fbi_op_fail(c, FB_E_DTYPE, "a mask of BOOL or %s wanted, not %s",
                           fb_dtype_name((fb_dtype)q->dtype), fb_dtype_name((fb_dtype)m->dtype));
    bool fits =
        m->ndim == n && m->size[n - 2] == q->size[n - 2] && m->size[n - 1] == k->size[n - 2];
    for (int i = 0; i < n - 2 && fits; i++)
        fits = m->size[i] == q->size[i];
    return fits ? FB_OK
                : fbi_op_fail(c, FB_E_SHAPE, "mask %s does not fit the scores of q %s and k %s",
                              fbi_text(m), fbi_text(q), fbi_text(k));
}

fb_status fbi_infer_attention(fbi_call *c)
{
    const fbi_attrs_attention *a = c->attrs;
    const fb_tensor *q = c->in[0], *k = c->in[1], *v = c->in[2];
    fb_status st = fbi_need_float(c, 0);
    for (int i = 1; i < 3 && !st; i++)
        st = fbi_need_dtype(c, i, (fb_dtype)q->dtype);
    if (st)
        return st;
    if (!shapes_fit(q, k, v))
        return fbi_op_fail(c, FB_E_SHAPE,
                           "q [.., T, D], k [.., S, D], v [.., S, E] wanted: %s, %s, %s",
                           fbi_text(q), fbi_text(k), fbi_text(v));
    st = need_mask(c);
    if (st)
        return st;
    if (!(a->dropout >= 0 && a->dropout <= 1))
        return fbi_op_fail(c, FB_E_ARG, "dropout = %g is not within 0 .. 1", a->dropout);
    fb_shape y = fb_shape_of(q), lse = y;
    y.d[y.n - 1] = v->size[v->ndim - 1];
    lse.n--;
    st = fbi_out_order(c, 0, (fb_dtype)q->dtype, y, q);
    return st ? st : fbi_out(c, 1, fbi_stat_dtype(q), lse);
}

/* q, k, v, mask, y, lse, g -> dq, dk, dv */
fb_status fbi_infer_attention_bwd(fbi_call *c)
{
    fb_status st = FB_OK;
    for (int i = 0; i < 3 && !st; i++) {
        const fb_tensor *t = c->in[i];
        st = fbi_out_order(c, i, (fb_dtype)t->dtype, fb_shape_of(t), t);
    }
    return st;
}

/* Whether q, k and v are the thirds, in any order, of dense memory [.., 3, n]: what one linear
 * layer makes of a sequence. *first: where that begins. */
static bool packed(fb_tensor *const *in, int64_t *first)
{
    const fb_tensor *q = in[0];
    int64_t want = 1, third = 0, low = q->offset;
    bool done[FB_MAX_DIMS] = {false}, at[3] = {false};
    for (int i = 1; i < 3; i++) {
        if (in[i]->storage != q->storage || !fbi_same_shape(in[i], q))
            return false;
        for (int d = 0; d < q->ndim; d++)
            if (in[i]->stride[d] != q->stride[d])
                return false;
        low = in[i]->offset < low ? in[i]->offset : low;
    }
    for (int left = q->ndim; left > 0; left--) {
        int d = -1; /* the smallest stride */
        for (int k = 0; k < q->ndim; k++)
            if (!done[k] && (d < 0 || q->stride[k] < q->stride[d]))
                d = k;
        done[d] = true;
        if (q->size[d] == 1)
            continue;
        if (!third && q->stride[d] == 3 * want) {
            third = want;
            want *= 3;
        }
        if (q->stride[d] != want)
            return false;
        want *= q->size[d];
    }
    for (int i = 0; i < 3 && third; i++)
        for (int k = 0; k < 3; k++)
            at[k] = at[k] || in[i]->offset - low == k * third;
    *first = low;
    return at[0] && at[1] && at[2];
}

/* dq, dk and dv; together in one piece of memory if q, k and v are. */
static fb_status gradients(fbi_bw *bw, fb_tensor **in, fb_tensor **out)
{
    int64_t first;
    if (!packed(in, &first))
        return fbi_run(bw->ctx, FBI_OP_attention_bwd, bw->attrs, in, 7, out); /* the same ones */
    fb_tensor *all = fbi_empty(bw->ctx, (fb_dtype)in[0]->dtype, FB_SHAPE(3 * in[0]->numel));
    for (int i = 0; i < 3 && all; i++) {
        out[i] = fbi_view(all, fb_shape_of(in[i]), fbi_strides_of(in[i]), in[i]->offset - first);
        if (!out[i])
            return bw->ctx->status;
    }
    if (!all)
        return bw->ctx->status;
    fb_drop(all);
    return fbi_kernel_run(bw->ctx, FBI_OP_attention_bwd, bw->attrs, in, 7, out, 3, 0);
}

fb_status fbi_bwd_attention(fbi_bw *bw)
{
    if (fbi_bw_needs(bw, 3)) /* the gradient of a mask is as large as the scores */
        return fbi_bwd_ops_attention(bw);
    fb_tensor *in[7] = {fbi_bw_in(bw, 0),  fbi_bw_in(bw, 1),  fbi_bw_in(bw, 2), fbi_bw_in(bw, 3),
                        fbi_bw_out(bw, 0), fbi_bw_out(bw, 1), bw->grad[0]};
    fb_tensor *out[3];
    for (int i = 0; i < 7; i++)
        if (!in[i] && i != 3)
            return bw->ctx->status;
    fb_status st = gradients(bw, in, out);
    for (int i = 0; i < 3 && !st; i++)
        st = fbi_bw_give(bw, i, out[i]);
    return st;
}

/* --- of operators --- */

fb_tensor *fbi_repeat_heads(fb_tensor *t, int64_t heads)
{
    if (!t || heads_of(t) == heads)
        return t;
    int n = t->ndim;
    fb_tensor *one = fb_unsqueeze(t, n - 2);
    fb_shape s = one ? fb_shape_of(one) : FB_SCALAR;
    s.d[n - 2] = heads / heads_of(t);
    fb_tensor *all = one ? fb_expand(one, s) : NULL;
    return all ? fb_flatten(all, n - 3, n - 2) : NULL;
}

/* The gradient of t from that of fbi_repeat_heads(t), in t's dtype. */
static fb_tensor *sum_heads(fb_tensor *g, const fb_tensor *t)
{
    if (g && heads_of(g) != heads_of(t)) {
        fb_shape s = fb_shape_of(t);
        int n = s.n++;
        s.d[n] = s.d[n - 1];
        s.d[n - 1] = s.d[n - 2];
        s.d[n - 2] = heads_of(g) / heads_of(t);
        g = fb_reshape(g, s);
        g = g ? fb_sum(g, FB_SHAPE(n - 2), false) : NULL;
    }
    return g ? fb_to(g, (fb_dtype)t->dtype) : NULL;
}

fb_tensor *fbi_attention_weights(fb_tensor *q, fb_tensor *k, fb_tensor *mask,
                                 const fbi_attrs_attention *a)
{
    const fbi_attrs_masked_softmax m = {.scale = a->scale, .causal = a->causal};
    fb_tensor *scores = fb_matmul(q, fb_transpose(k, -2, -1));
    if (scores && mask)
        mask = fb_expand(fbi_exact(mask), fb_shape_of(scores));
    if (!scores || fb_context_of(scores)->status)
        return NULL;
    return FBI_RUN(masked_softmax, &m, scores, mask);
}

fb_tensor *fbi_attention_dropped(fb_tensor *w, const fbi_attrs_attention *a)
{
    const fbi_attrs_dropout d = {.p = a->dropout, .key = a->key, .stream = a->stream};
    return w && a->dropout != 0 ? FBI_RUN(dropout, &d, w) : w;
}

fb_status fbi_bwd_ops_attention(fbi_bw *bw)
{
    const fbi_attrs_attention *a = bw->attrs;
    fb_tensor *in[4];
    for (int i = 0; i < 4; i++)
        if (!(in[i] = fbi_bw_in(bw, i)) && i < 3)
            return bw->ctx->status;
    int64_t heads = heads_of(in[0]);
    fb_tensor *q = fbi_exact(in[0]), *k = fbi_repeat_heads(fbi_exact(in[1]), heads);
    fb_tensor *v = fbi_repeat_heads(fbi_exact(in[2]), heads), *g = fbi_exact(bw->grad[0]);
    fb_tensor *p = q && k && v && g ? fbi_attention_weights(q, k, in[3], a) : NULL;
    if (!p)
        return bw->ctx->status;
    fb_tensor *dp = fbi_attention_dropped(fb_matmul(g, fb_transpose(v, -2, -1)), a);
    dp = fb_mul(dp, p);
    fb_tensor *dm = fb_sub(dp, fb_mul(p, fb_sum(dp, FB_SHAPE(-1), true)));
    fb_tensor *ds = fb_mul_scalar(dm, a->scale), *pt = fbi_attention_dropped(p, a);
    fb_status st = fbi_bw_give(bw, 0, fb_to(fb_matmul(ds, k), (fb_dtype)in[0]->dtype));
    if (!st)
        st = fbi_bw_give(bw, 1, sum_heads(fb_matmul(fb_transpose(ds, -2, -1), q), in[1]));
    if (!st)
        st = fbi_bw_give(bw, 2, sum_heads(fb_matmul(fb_transpose(pt, -2, -1), g), in[2]));
    if (!st && fbi_bw_needs(bw, 3))
        st = fbi_bw_give(bw, 3, fb_to(dm, (fb_dtype)in[3]->dtype));
    return st;
}

/* --- samples --- */

void fbi_sample_attention(fbi_samples *s)
{
    const fbi_attrs_attention kinds[] = {{.scale = 0.7},
                                         {.scale = 0.4, .causal = 1},
                                         {.scale = 0.6, .dropout = 0.4, .key = 3, .stream = 5},
                                         {.scale = 0.5, .dropout = 1, .key = 3, .stream = 6}};
    const struct {
        fb_shape q, k, v, mask;
        fb_dtype dtype;
    } ok[] = {{FB_SHAPE(2, 3, 5), FB_SHAPE(2, 3, 5), FB_SHAPE(2, 3, 5), FB_SHAPE(2, 3, 3), 0},
              {FB_SHAPE(7, 2), FB_SHAPE(4, 2), FB_SHAPE(4, 3), FB_SHAPE(7, 4), FB_BOOL},
              {FB_SHAPE(1, 2, 3, 16), FB_SHAPE(1, 2, 18, 16), FB_SHAPE(1, 2, 18, 2),
               FB_SHAPE(1, 2, 3, 18), FB_BOOL},
              {FB_SHAPE(2, 4, 3, 2), FB_SHAPE(2, 2, 5, 2), FB_SHAPE(2, 2, 5, 3),
               FB_SHAPE(2, 4, 3, 5), 0}};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        fbi_sample_in in[4] = {
            {.shape = ok[i].q, .lo = -1, .hi = 1},
            {.shape = ok[i].k, .lo = -1, .hi = 1},
            {.shape = ok[i].v, .lo = -1, .hi = 1},
            {.shape = ok[i].mask, .dtype = ok[i].dtype, .lo = ok[i].dtype ? 0 : -2, .hi = 2}};
        for (int kind = 0; kind < 4; kind++) {
            in[3].absent = kind < 2;
            fbi_sample_add(s, &kinds[kind], 4, in);
        }
        fbi_sample_add(s, &kinds[0], 4, in);
    }
    fbi_sample_in bad[4] = {{.shape = FB_SHAPE(3, 4), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(5, 4), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(6, 4), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(3, 6), .dtype = FB_I32, .hi = 2}};
    fbi_sample_bad(
        s, &kinds[0], 4, bad, FB_E_SHAPE,
        "attention: q [.., T, D], k [.., S, D], v [.., S, E] wanted: [3, 4], [5, 4], [6");
    bad[2].shape = FB_SHAPE(5, 4);
    fbi_sample_bad(s, &kinds[0], 4, bad, FB_E_DTYPE,
                   "attention: a mask of BOOL or F32 wanted, not I32");
    bad[3].dtype = FB_BOOL;
    fbi_sample_bad(s, &kinds[0], 4, bad, FB_E_SHAPE,
                   "attention: mask [3, 6] does not fit the scores of q [3, 4] and k [5, 4]");
    bad[3].absent = true;
    const fbi_attrs_attention often = {.scale = 1, .dropout = 1.5};
    fbi_sample_bad(s, &often, 4, bad, FB_E_ARG, "attention: dropout = 1.5 is not within 0 .. 1");
}
