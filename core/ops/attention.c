/* Attention: the row `attention`, or two products and masked_softmax(scores, mask) between them,
 * the scaled and masked softmax. */
#include <math.h>

#include <flambeau/core/ops/attention.h>

#include "core/ops/attend_priv.h"
#include "core/ops/half_priv.h"

#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

fb_status fbi_infer_masked_softmax(fbi_call *c)
{
    const fb_tensor *s = c->in[0], *m = c->in[1];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (s->ndim < 2)
        return fbi_op_fail(c, FB_E_SHAPE, "scores [..., T, S] wanted, not %s", fbi_text(s));
    if (m && m->dtype != FB_BOOL) {
        st = fbi_need_dtype(c, 1, (fb_dtype)s->dtype);
        if (st)
            return st;
    }
    if (m && !fbi_same_shape(m, s))
        return fbi_op_fail(c, FB_E_SHAPE, "mask %s does not fit the scores %s", fbi_text(m),
                           fbi_text(s));
    return fbi_out(c, 0, (fb_dtype)s->dtype, fb_shape_of(s));
}

fb_status fbi_infer_masked_softmax_bwd(fbi_call *c)
{
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[0]));
}

fb_status fbi_bwd_masked_softmax(fbi_bw *bw)
{
    const fbi_attrs_masked_softmax *a = bw->attrs;
    fb_tensor *y = fbi_bw_out(bw, 0);
    fb_status st = FB_OK;
    if (!y)
        return bw->ctx->status;
    for (int i = 0; i < 2 && !st; i++) { /* the mask is added after the scaling */
        fbi_attrs_masked_softmax_bwd p = {.scale = i == 0 ? a->scale : 1};
        if (fbi_bw_needs(bw, i))
            st = FBI_BW_RUN(bw, i, masked_softmax_bwd, &p, bw->grad[0], y);
    }
    return st;
}

fb_status fbi_bwd_ops_masked_softmax(fbi_bw *bw)
{
    const fbi_attrs_masked_softmax *a = bw->attrs;
    fb_tensor *g = bw->grad[0], *y = fbi_bw_out(bw, 0);
    if (!y)
        return bw->ctx->status;
    fb_dtype dtype = (fb_dtype)y->dtype;
    y = fbi_exact(y);
    fb_tensor *gy = fb_mul(g, y);
    fb_tensor *d = fb_sub(gy, fb_mul(y, fb_sum(gy, FB_SHAPE(-1), true)));
    fb_status st = FB_OK;
    if (fbi_bw_needs(bw, 0))
        st = fbi_bw_give(bw, 0, fb_to(fb_mul_scalar(d, a->scale), dtype));
    if (!st && fbi_bw_needs(bw, 1))
        st = fbi_bw_give(bw, 1, fb_to(fb_mul_scalar(d, 1), dtype));
    return st;
}

void fbi_sample_masked_softmax(fbi_samples *s)
{
    const fbi_attrs_masked_softmax plain = {.scale = 0.7}, causal = {.scale = 1.3, .causal = 1};
    fbi_sample_in in[2] = {{.shape = FB_SHAPE(2, 3, 5), .lo = -2, .hi = 2},
                           {.shape = FB_SHAPE(2, 3, 5), .lo = -2, .hi = 2}};
    fbi_sample_add(s, &plain, 2, in);
    in[1].absent = true;
    fbi_sample_add(s, &causal, 2, in);
    in[0].shape = FB_SHAPE(6, 4);
    fbi_sample_add(s, &causal, 2, in);
    in[1] = (fbi_sample_in){.shape = FB_SHAPE(6, 4), .dtype = FB_BOOL, .lo = 0, .hi = 2};
    fbi_sample_add(s, &plain, 2, in);
    in[1].shape = FB_SHAPE(6, 3);
    fbi_sample_bad(s, &plain, 2, in, FB_E_SHAPE,
                   "masked_softmax: mask [6, 3] does not fit the scores [6, 4]");
}

static const char name[] = "scaled_dot_product_attention";

static int64_t heads_of(const fb_tensor *t)
{
    return t->ndim > 2 ? t->size[t->ndim - 3] : 1;
}

/* False: the error is set. */
static bool operands_fit(fb_context *ctx, const fb_tensor *q, const fb_tensor *k,
                         const fb_tensor *v, const fb_sdpa_options *o)
{
    fb_dtype dtype = (fb_dtype)q->dtype;
    if (q->ndim < 2 || k->ndim < 2 || v->ndim < 2 || q->size[q->ndim - 1] != k->size[k->ndim - 1] ||
        k->size[k->ndim - 2] != v->size[v->ndim - 2])
        fbi_fail(ctx, FB_E_SHAPE, "%s: q [.., T, D], k [.., S, D], v [.., S, E] wanted: %s, %s, %s",
                 name, fbi_text(q), fbi_text(k), fbi_text(v));
    else if (o->mask && o->causal)
        fbi_fail(ctx, FB_E_ARG, "%s: a mask or causal, not both", name);
    else if (k->dtype != dtype || v->dtype != dtype)
        fbi_fail(ctx, FB_E_DTYPE, "%s: q is %s, k %s, v %s", name, fb_dtype_name(dtype),
                 fb_dtype_name((fb_dtype)k->dtype), fb_dtype_name((fb_dtype)v->dtype));
    else if (!(o->dropout >= 0 && o->dropout <= 1))
        fbi_fail(ctx, FB_E_ARG, "%s: dropout = %g is not within 0 .. 1", name, o->dropout);
    else if (o->enable_gqa &&
             (heads_of(k) != heads_of(v) || heads_of(k) == 0 || heads_of(q) % heads_of(k) != 0))
        fbi_fail(ctx, FB_E_SHAPE, "%s: the heads of k and v must divide those of q: %s, %s, %s",
                 name, fbi_text(q), fbi_text(k), fbi_text(v));
    return fb_ok(ctx);
}

/* Of operators: leading dimensions that broadcast, and empty tensors. */
static fb_tensor *composed(fb_tensor *q, fb_tensor *k, fb_tensor *v, fb_tensor *mask,
                           const fbi_attrs_attention *a, bool grouped)
{
    int64_t heads = heads_of(q);
    fb_tensor *keys = fbi_exact(k), *values = fbi_exact(v);
    if (grouped) {
        keys = fbi_repeat_heads(keys, heads);
        values = fbi_repeat_heads(values, heads);
    }
    if (!keys || !values)
        return NULL;
    fb_tensor *w = fbi_attention_dropped(fbi_attention_weights(fbi_exact(q), keys, mask, a), a);
    return w ? fb_to(fb_matmul(w, values), (fb_dtype)q->dtype) : NULL;
}

fb_tensor *fb_scaled_dot_product_attention(fb_tensor *q, fb_tensor *k, fb_tensor *v,
                                           const fb_sdpa_options *opts)
{
    static const fb_sdpa_options none;
    fb_context *ctx = fb_context_of(q);
    FBI_ENTRY(ctx);
    const fb_sdpa_options *o = opts ? opts : &none;
    if (!fbi_tensor_check(ctx, q, name, "q") || !fbi_tensor_check(ctx, k, name, "k") ||
        !fbi_tensor_check(ctx, v, name, "v") ||
        (o->mask && !fbi_tensor_check(ctx, o->mask, name, "mask")) ||
        !operands_fit(ctx, q, k, v, o))
        return NULL;
    double d = (double)q->size[q->ndim - 1];
    fbi_attrs_attention a = {.scale = o->scale != 0 ? o->scale : 1 / sqrt(d),
                             .causal = o->causal,
                             .dropout = o->dropout};
    if (o->dropout != 0) {
        fbi_rng_stream r = fbi_next_stream(ctx);
        a.key = r.key;
        a.stream = r.stream;
    }
    if (!fbi_attention_fits(q, k, v, o->enable_gqa))
        return composed(q, k, v, o->mask, &a, o->enable_gqa);
    fb_shape scores = fb_shape_of(q);
    scores.d[scores.n - 1] = k->size[k->ndim - 2];
    fb_tensor *mask = o->mask ? fb_expand(o->mask, scores) : NULL;
    return mask || !o->mask ? FBI_RUN(attention, &a, q, k, v, mask) : NULL;
}
