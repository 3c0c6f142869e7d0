/* Attention of several heads with its projections. Inside, sequences are [N, T, dim] and heads
 * [N, H, T, D]; the weights are kept only if they are asked for. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/nn/transformer.h>
#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/attention.h>
#include <flambeau/core/ops/blend.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/dropout.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/split.h>
#include <flambeau/core/ops/view.h>
#include <inttypes.h>
#include <math.h>

#include "core/nn/nn_priv.h"
#include "core/ops/op_priv.h"

typedef struct mha {
    fb_tensor *q_proj_weight, *k_proj_weight, *v_proj_weight, *in_proj_weight, *in_proj_bias;
    fb_tensor *bias_k, *bias_v;
    fb_module *out_proj;
    int64_t dim, heads, kdim, vdim;
    double dropout;
    bool zero_attn, batch_first;
} mha;

static const fb_field mha_fields[] = {
    FB_PARAM(mha, q_proj_weight),  FB_PARAM(mha, k_proj_weight), FB_PARAM(mha, v_proj_weight),
    FB_PARAM(mha, in_proj_weight), FB_PARAM(mha, in_proj_bias),  FB_PARAM(mha, bias_k),
    FB_PARAM(mha, bias_v),         FB_CHILD(mha, out_proj),      {0}};
static const char name[] = "MultiheadAttention";

/* A call; after `enter` q, k and v are [N, T, ...]. */
typedef struct call {
    fb_tensor *q, *k, *v;
    fb_attend_options o;
    bool want_weights;
} call;

/* --- checks; false: the error is set --- */

static bool input_fits(fb_module *m, const char *what, fb_tensor *t, int ndim, int64_t features)
{
    if (!fbi_tensor_check(m->ctx, t, name, what))
        return false;
    if (t->ndim == ndim && t->size[ndim - 1] == features)
        return true;
    fbi_fail(m->ctx, FB_E_SHAPE, "%s: %s is %s; it takes %d dimensions, the last %" PRId64, name,
             what, fbi_text(t), ndim, features);
    return false;
}

static bool inputs_fit(fb_module *m, const call *c)
{
    const mha *a = m->self;
    if (!fbi_tensor_check(m->ctx, c->q, name, "q"))
        return false;
    int n = c->q->ndim == 2 ? 2 : 3, time = n == 3 && a->batch_first, batch = 1 - time;
    if (!input_fits(m, "q", c->q, n, a->dim) || !input_fits(m, "k", c->k, n, a->kdim) ||
        !input_fits(m, "v", c->v, n, a->vdim))
        return false;
    if (c->k->size[time] == c->v->size[time] &&
        (n == 2 ||
         (c->q->size[batch] == c->k->size[batch] && c->q->size[batch] == c->v->size[batch])))
        return true;
    fbi_fail(m->ctx, FB_E_SHAPE,
             "%s: q %s, k %s and v %s: k and v need the same length, all three the same batch",
             name, fbi_text(c->q), fbi_text(c->k), fbi_text(c->v));
    return false;
}

static bool mask_fits(fb_module *m, const char *what, fb_tensor *t, fb_shape want, fb_shape or)
{
    if (!t)
        return true;
    if (!fbi_tensor_check(m->ctx, t, name, what))
        return false;
    if (t->dtype != FB_BOOL && !fb_dtype_is_float((fb_dtype)t->dtype)) {
        fbi_fail(m->ctx, FB_E_DTYPE, "%s: %s is %s, not BOOL or a float", name, what,
                 fb_dtype_name((fb_dtype)t->dtype));
        return false;
    }
    if (fb_shape_equal(fb_shape_of(t), want) || fb_shape_equal(fb_shape_of(t), or))
        return true;
    fbi_fail(m->ctx, FB_E_SHAPE, "%s: %s is %s, not %s%s%s", name, what, fbi_text(t),
             fbi_shape_text(m->ctx, want), fb_shape_equal(want, or) ? "" : " or ",
             fb_shape_equal(want, or) ? "" : fbi_shape_text(m->ctx, or));
    return false;
}

/* --- masks --- */

/* All masks as one for the scores [N, H, T, S + extra]: BOOL, true for what may be looked at, or a
 * float to be added; NULL: none (or an error). Columns from S on may always be looked at. */
typedef struct masks {
    fb_tensor *allowed, *added;
} masks;

static void add_mask(masks *all, fb_tensor *mask)
{
    if (!mask)
        return;
    if (mask->dtype == FB_BOOL) {
        fb_tensor *yes = fb_logical_not(mask);
        all->allowed = all->allowed && yes ? fb_logical_and(all->allowed, yes) : yes;
    } else {
        all->added = all->added ? fb_add(all->added, mask) : mask;
    }
}

static fb_tensor *one_mask(fb_module *m, const call *c, int64_t t, int64_t s, int64_t extra)
{
    const mha *a = m->self;
    masks all = {NULL, NULL};
    if (c->o.padding)
        add_mask(&all, fb_reshape(c->o.padding, FB_SHAPE(c->q->size[0], 1, 1, s)));
    if (c->o.mask)
        add_mask(&all, c->o.mask->ndim == 2
                           ? c->o.mask
                           : fb_reshape(c->o.mask, FB_SHAPE(c->q->size[0], a->heads, t, s)));
    if (c->o.causal && fb_ok(m->ctx)) {
        fb_tensor *square = fb_ones(m->ctx, FB_BOOL, FB_SHAPE(t, s));
        fb_tensor *seen = square ? fb_tril(square, 0) : NULL;
        all.allowed = all.allowed && seen ? fb_logical_and(all.allowed, seen) : seen;
    }
    fb_tensor *mask = all.allowed;
    if (all.added && all.allowed)
        mask = fb_masked_fill(all.added, fb_logical_not(all.allowed), -INFINITY);
    else if (all.added)
        mask = all.added;
    if (!mask || !fb_ok(m->ctx))
        return NULL;
    if (mask->dtype != FB_BOOL)
        mask = fb_to(mask, (fb_dtype)c->q->dtype);
    return extra && mask ? fb_pad(mask, FB_SHAPE(0, extra), FB_PAD_CONSTANT, mask->dtype == FB_BOOL)
                         : mask;
}

/* --- projections --- */

static fb_tensor *rows(fb_tensor *t, int64_t n, int64_t count, int64_t dim)
{
    return t ? fb_narrow(t, 0, n * dim, count * dim) : NULL;
}

/* Rows n .. n + count of the joint weight, applied to x: `count` tensors into out. */
static void project_joint(const mha *a, fb_tensor *x, int64_t n, int64_t count, fb_tensor **out)
{
    bool all = count == 3;
    fb_tensor *w = all ? a->in_proj_weight : rows(a->in_proj_weight, n, count, a->dim);
    fb_tensor *b = all ? a->in_proj_bias : rows(a->in_proj_bias, n, count, a->dim);
    fb_tensor *y = w ? fb_linear(x, w, b) : NULL;
    if (count == 1)
        out[0] = y;
    else if (y)
        fb_chunk(y, (int)count, -1, out);
}

/* Equal inputs go through one product. */
static void project(const mha *a, const call *c, fb_tensor *out[3])
{
    if (!a->in_proj_weight) {
        out[0] = fb_linear(c->q, a->q_proj_weight, rows(a->in_proj_bias, 0, 1, a->dim));
        out[1] = fb_linear(c->k, a->k_proj_weight, rows(a->in_proj_bias, 1, 1, a->dim));
        out[2] = fb_linear(c->v, a->v_proj_weight, rows(a->in_proj_bias, 2, 1, a->dim));
    } else if (c->q == c->k && c->k == c->v) {
        project_joint(a, c->q, 0, 3, out);
    } else {
        project_joint(a, c->q, 0, 1, out);
        project_joint(a, c->k, 1, c->k == c->v ? 2 : 1, out + 1);
        if (c->k != c->v)
            project_joint(a, c->v, 2, 1, out + 2);
    }
}

/* The learned key or value behind those of t [N, S, dim]. */
static fb_tensor *with_bias(fb_tensor *t, fb_tensor *bias)
{
    if (!bias || !t)
        return t;
    fb_tensor *all = fb_expand(bias, FB_SHAPE(t->size[0], 1, t->size[2]));
    return all ? fb_cat(FB_TENSORS(t, all), 1) : NULL;
}

/* [N, S, dim] -> [N, H, S, D], and zeros behind, if wanted. */
static fb_tensor *heads_of(const mha *a, fb_tensor *t, bool zeros)
{
    if (!t)
        return NULL;
    int64_t n = t->size[0], s = t->size[1], d = a->dim / a->heads;
    fb_tensor *h = fb_permute(fb_reshape(t, FB_SHAPE(n, s, a->heads, d)), FB_DIMS(0, 2, 1, 3));
    if (!h || !zeros)
        return h;
    fb_tensor *zero = fb_zeros(h->ctx, (fb_dtype)h->dtype, FB_SHAPE(n, a->heads, 1, d));
    return zero ? fb_cat(FB_TENSORS(h, zero), 2) : NULL;
}

/* --- calls --- */

/* softmax(...) v with the weights [N, H, T, S], which *weights receives. */
static fb_tensor *explicit_attention(fb_module *m, fb_tensor *h[3], fb_tensor *mask, bool causal,
                                     fb_tensor **weights)
{
    const mha *a = m->self;
    fbi_attrs_masked_softmax p = {.scale = 1 / sqrt((double)(a->dim / a->heads)), .causal = causal};
    fb_tensor *scores = fb_matmul(h[0], fb_transpose(h[1], -2, -1));
    if (scores && mask && mask->dtype != FB_BOOL)
        mask = fb_to(mask, (fb_dtype)scores->dtype);
    if (scores && mask)
        mask = fb_expand(mask, fb_shape_of(scores));
    if (!scores || !fb_ok(m->ctx))
        return NULL;
    fb_tensor *w = FBI_RUN(masked_softmax, &p, scores, mask);
    if (w && m->training && a->dropout > 0)
        w = fb_dropout(w, a->dropout);
    *weights = w;
    return w ? fb_matmul(w, h[2]) : NULL;
}

/* out[0]: [N, T, dim]; out[1], if there: the weights. */
static void attend(fb_module *m, const call *c, fb_tensor **y, fb_tensor **weights)
{
    const mha *a = m->self;
    int64_t n = c->q->size[0], t = c->q->size[1], s = c->k->size[1];
    int64_t extra = (a->bias_k != NULL) + a->zero_attn;
    bool plain = c->o.causal && !c->o.mask && !c->o.padding && !extra;
    fb_tensor *mask = plain ? NULL : one_mask(m, c, t, s, extra);
    fb_tensor *p[3] = {NULL, NULL, NULL}, *h[3];
    if (fb_ok(m->ctx))
        project(a, c, p);
    h[0] = heads_of(a, p[0], false);
    h[1] = heads_of(a, with_bias(p[1], a->bias_k), a->zero_attn);
    h[2] = heads_of(a, with_bias(p[2], a->bias_v), a->zero_attn);
    if (!h[0] || !h[1] || !h[2] || !fb_ok(m->ctx))
        return;
    fb_sdpa_options o = {.mask = mask, .causal = plain, .dropout = m->training ? a->dropout : 0};
    fb_tensor *r = weights ? explicit_attention(m, h, mask, plain, weights)
                           : fb_scaled_dot_product_attention(h[0], h[1], h[2], &o);
    if (!r)
        return;
    r = fb_reshape(fb_permute(r, FB_DIMS(0, 2, 1, 3)), FB_SHAPE(n, t, a->dim));
    *y = r ? fb_nn_forward(a->out_proj, r) : NULL;
    if (weights && !c->o.per_head)
        *weights = fb_mean(*weights, FB_SHAPE(1), false);
}

static fb_tensor *inside(const mha *a, fb_tensor *t, bool single)
{
    if (single)
        return fb_unsqueeze(t, 0);
    return a->batch_first ? t : fb_transpose(t, 0, 1);
}

static void attend_call(fb_module *m, void *args, fb_outs out)
{
    const mha *a = m->self;
    call c = *(const call *)args;
    if (!inputs_fit(m, &c))
        return;
    bool single = c.q->ndim == 2;
    fb_tensor *q = c.q, *k = c.k, *v = c.v;
    c.q = inside(a, q, single);
    c.k = k == q ? c.q : inside(a, k, single);
    c.v = v == q ? c.q : v == k ? c.k : inside(a, v, single);
    if (!c.q || !c.k || !c.v)
        return;
    int64_t n = c.q->size[0], t = c.q->size[1], s = c.k->size[1];
    fb_shape rows_of = single ? FB_SHAPE(s) : FB_SHAPE(n, s);
    if (!mask_fits(m, "the padding mask", c.o.padding, rows_of, rows_of) ||
        !mask_fits(m, "the mask", c.o.mask, FB_SHAPE(t, s), FB_SHAPE(n * a->heads, t, s)))
        return;
    fb_tensor *y = NULL, *w = NULL;
    attend(m, &c, &y, out.n > 1 ? &w : NULL);
    if (!y || !fb_ok(m->ctx))
        return;
    *out.t[0] = single ? fb_squeeze(y, 0) : a->batch_first ? y : fb_transpose(y, 0, 1);
    if (out.n > 1)
        *out.t[1] = single ? fb_squeeze(w, 0) : w;
}

static void mha_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    if (in.n < 3 || in.n > 5 || out.n < 1 || out.n > 2) {
        fbi_fail(m->ctx, FB_E_ARG,
                 "%s: called with %d inputs and %d outputs: it takes (q, k, v, padding, mask) and "
                 "gives (y, weights)",
                 name, in.n, out.n);
        return;
    }
    call c = {in.t[0],
              in.t[1],
              in.t[2],
              {.padding = in.n > 3 ? in.t[3] : NULL, .mask = in.n > 4 ? in.t[4] : NULL},
              false};
    attend_call(m, &c, out);
}

static const fb_module_type mha_type = {
    .name = name, .size = sizeof(mha), .fields = mha_fields, .forward_n = mha_forward_n};

fb_tensor *fb_nn_attend(fb_module *m, fb_tensor *q, fb_tensor *k, fb_tensor *v,
                        const fb_attend_options *opts, fb_tensor **weights)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    fb_tensor *y = NULL, *w = NULL;
    if (weights)
        *weights = NULL;
    if (!fbi_nn_enter(m))
        return NULL;
    if (m->type != &mha_type) {
        fbi_fail(m->ctx, FB_E_ARG, "fb_nn_attend: a %s is no attention", m->type->name);
        return NULL;
    }
    call c = {q, k, v, opts ? *opts : (fb_attend_options){.causal = false}, weights != NULL};
    if (fbi_nn_call_n(m, attend_call, &c, weights ? FB_OUTS(&y, &w) : FB_OUTS(&y)))
        return NULL;
    if (weights)
        *weights = w;
    return y;
}

fb_module *fb_nn_multihead_attention(fb_context *ctx, int64_t dim, int64_t heads,
                                     const fb_mha_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_mha_options o = opts ? *opts : (fb_mha_options){.kdim = 0};
    if (dim < 1 || heads < 1 || dim % heads || o.kdim < 0 || o.vdim < 0)
        fbi_fail(ctx, FB_E_ARG,
                 "%s: %" PRId64 " heads of %" PRId64 " features: heads must divide them", name,
                 heads, dim);
    else if (!(o.dropout >= 0 && o.dropout <= 1))
        fbi_fail(ctx, FB_E_ARG, "%s: dropout is %g, not within 0 .. 1", name, o.dropout);
    if (!fb_ok(ctx))
        return NULL;
    mha a = {.dim = dim,
             .heads = heads,
             .kdim = o.kdim ? o.kdim : dim,
             .vdim = o.vdim ? o.vdim : dim,
             .dropout = o.dropout,
             .zero_attn = o.add_zero_attn,
             .batch_first = o.batch_first};
    fb_init xavier = fb_init_xavier_uniform(1);
    if (a.kdim == dim && a.vdim == dim) {
        a.in_proj_weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(3 * dim, dim), xavier);
    } else {
        a.q_proj_weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(dim, dim), xavier);
        a.k_proj_weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(dim, a.kdim), xavier);
        a.v_proj_weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(dim, a.vdim), xavier);
    }
    if (!o.no_bias)
        a.in_proj_bias = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(3 * dim), fb_init_zeros());
    if (o.add_bias_kv) {
        a.bias_k = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(1, 1, dim), fb_init_xavier_normal(1));
        a.bias_v = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(1, 1, dim), fb_init_xavier_normal(1));
    }
    a.out_proj = fb_nn_linear(ctx, dim, dim, FB_OPTS(fb_linear_options, .no_bias = o.no_bias));
    fb_module *m = fb_nn_new(ctx, &mha_type, &a);
    if (m && !o.no_bias)
        fb_nn_init(m, "out_proj.bias", fb_init_zeros());
    return fb_ok(ctx) ? m : NULL;
}
