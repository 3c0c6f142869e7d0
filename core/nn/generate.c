/* A cache of keys and values, and the choice of tokens. */
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/generate.h>
#include <flambeau/core/ops/attention.h>
#include <flambeau/core/ops/blend.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/extreme.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/random.h>
#include <flambeau/core/ops/scan.h>
#include <flambeau/core/ops/scatter.h>
#include <flambeau/core/ops/softmax.h>
#include <flambeau/core/ops/sort.h>
#include <flambeau/core/ops/view.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/autograd/node_priv.h"

/* --- the cache --- */

enum { LENGTH_STEP = 64 };

struct fb_kv_cache {
    fb_context *ctx;
    int64_t layers, batch, heads, max_len, dim, length;
    fb_tensor *k, *v; /* [layers, batch, heads, max_len, dim] */
};

static void free_cache(void *object)
{
    fb_kv_cache *c = object;
    fbi_tensor_unref(c->k);
    fbi_tensor_unref(c->v);
    free(c);
}

/* Held by the caller, in no scope; NULL: error is set. */
static fb_tensor *zeros(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    FB_SCOPE(ctx);
    fb_tensor *t = fb_zeros(ctx, dtype, shape);
    if (t)
        fbi_tensor_ref(t);
    return t;
}

fb_kv_cache *fb_kv_cache_open(fb_context *ctx, int64_t layers, int64_t batch, int64_t heads,
                              int64_t max_len, int64_t head_dim, fb_dtype dtype)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    dtype = dtype ? dtype : FB_F32;
    if (layers < 1 || batch < 1 || heads < 1 || max_len < 1 || head_dim < 1)
        fbi_fail(ctx, FB_E_ARG,
                 "fb_kv_cache_open: %" PRId64 " layers, %" PRId64 " sequences, %" PRId64
                 " heads, %" PRId64 " tokens of %" PRId64 " features: must be positive",
                 layers, batch, heads, max_len, head_dim);
    else if (!fb_dtype_is_float(dtype))
        fbi_fail(ctx, FB_E_DTYPE, "fb_kv_cache_open: %s is no float", fb_dtype_name(dtype));
    fb_kv_cache *c = fb_ok(ctx) ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        fbi_fail(ctx, FB_E_NOMEM, "fb_kv_cache_open: no memory");
        return NULL;
    }
    *c = (fb_kv_cache){ctx, layers, batch, heads, max_len, head_dim, 0, NULL, NULL};
    fb_shape shape = FB_SHAPE(layers, batch, heads, max_len, head_dim);
    c->k = zeros(ctx, dtype, shape);
    c->v = c->k ? zeros(ctx, dtype, shape) : NULL;
    if (c->v && !fbi_context_adopt(ctx, c, free_cache))
        return c;
    free_cache(c);
    return NULL;
}

void fb_kv_cache_close(fb_kv_cache *c)
{
    if (!c)
        return;
    fbi_context_forget(c->ctx, c);
    free_cache(c);
}

int64_t fb_kv_cache_length(const fb_kv_cache *c)
{
    return c ? c->length : 0;
}

void fb_kv_cache_reset(fb_kv_cache *c)
{
    if (c)
        c->length = 0;
}

fb_status fb_kv_cache_advance(fb_kv_cache *c, int64_t n)
{
    if (!c)
        return FB_E_ARG;
    FBI_ENTRY(c->ctx);
    if (!fbi_enter(c->ctx))
        return c->ctx->status;
    if (n > c->max_len - c->length || n < -c->length)
        return fbi_fail(c->ctx, FB_E_STATE,
                        "fb_kv_cache_advance: %" PRId64 " tokens after %" PRId64
                        ": the cache holds 0 .. %" PRId64,
                        n, c->length, c->max_len);
    c->length += n;
    return FB_OK;
}

/* False: the error is set. */
static bool tensor_fits(const fb_kv_cache *c, const fb_tensor *t, const char *what, int64_t tokens)
{
    if (!fbi_tensor_check(c->ctx, t, "fb_kv_cache_attend", what))
        return false;
    bool q = *what == 'q';
    if (t->ndim == 4 && t->size[0] == c->batch && t->size[3] == c->dim &&
        (q ? t->size[1] > 0 && t->size[1] % c->heads == 0 : t->size[1] == c->heads) &&
        (tokens < 0 || t->size[2] == tokens)) {
        if (fb_dtype_is_float((fb_dtype)t->dtype))
            return true;
        fbi_fail(c->ctx, FB_E_DTYPE, "fb_kv_cache_attend: %s is %s", what,
                 fb_dtype_name((fb_dtype)t->dtype));
        return false;
    }
    fbi_fail(c->ctx, FB_E_SHAPE,
             "fb_kv_cache_attend: %s is %s, not [%" PRId64 ", %s%" PRId64 ", T, %" PRId64 "]", what,
             fbi_text(t), c->batch, q ? "a multiple of " : "", c->heads, c->dim);
    return false;
}

static bool call_fits(const fb_kv_cache *c, int64_t layer, const fb_tensor *q, const fb_tensor *k,
                      const fb_tensor *v)
{
    if (!tensor_fits(c, q, "q", -1) || !tensor_fits(c, k, "k", q->size[2]) ||
        !tensor_fits(c, v, "v", q->size[2]))
        return false;
    if (layer < 0 || layer >= c->layers)
        fbi_fail(c->ctx, FB_E_ARG, "fb_kv_cache_attend: layer %" PRId64 " of %" PRId64, layer,
                 c->layers);
    else if (q->size[2] > c->max_len - c->length)
        fbi_fail(c->ctx, FB_E_STATE,
                 "fb_kv_cache_attend: %" PRId64 " tokens after %" PRId64
                 ": the cache holds %" PRId64,
                 q->size[2], c->length, c->max_len);
    else if (c->ctx->grad_on && (fb_needs_grad(q) || fb_needs_grad(k) || fb_needs_grad(v)))
        fbi_fail(c->ctx, FB_E_STATE,
                 "fb_kv_cache_attend: a gradient is recorded, which a cache does not have; call "
                 "fb_no_grad first");
    return fb_ok(c->ctx);
}

/* `t` behind the tokens of a layer; the first n of them are what comes back. */
static fb_tensor *stored(const fb_kv_cache *c, fb_tensor *all, int64_t layer, fb_tensor *t,
                         int64_t n)
{
    fb_tensor *of = fb_select(all, 0, layer);
    fb_tensor *place = of ? fb_narrow(of, 2, c->length, t->size[2]) : NULL;
    return place && !fb_copy_(place, t) ? fb_narrow(of, 2, 0, n) : NULL;
}

/* BOOL [T, n]: token t is that at c->length + t. NULL and no error: all of them. */
static fb_tensor *not_later(const fb_kv_cache *c, int64_t t, int64_t n)
{
    if (t == 1 && c->length + 1 == n)
        return NULL;
    fb_tensor *own = fb_arange(c->ctx, FB_I64, (double)c->length, (double)(c->length + t), 1);
    fb_tensor *at = fb_arange(c->ctx, FB_I64, 0, (double)n, 1);
    return own && at ? fb_le(at, fb_reshape(own, FB_SHAPE(t, 1))) : NULL;
}

fb_tensor *fb_kv_cache_attend(fb_kv_cache *c, int64_t layer, fb_tensor *q, fb_tensor *k,
                              fb_tensor *v)
{
    FBI_ENTRY(c ? c->ctx : NULL);
    if (!c || !fbi_enter(c->ctx) || !call_fits(c, layer, q, k, v))
        return NULL;
    FB_SCOPE(c->ctx);
    fb_no_grad(c->ctx);
    int64_t t = q->size[2];
    int64_t n = (c->length + t + LENGTH_STEP - 1) / LENGTH_STEP * LENGTH_STEP;
    n = n < c->max_len ? n : c->max_len;
    fb_tensor *keys = stored(c, c->k, layer, k, n), *values = stored(c, c->v, layer, v, n);
    fb_sdpa_options o = {.mask = not_later(c, t, n), .enable_gqa = q->size[1] != c->heads};
    fb_tensor *own = keys && values ? fb_to(q, (fb_dtype)c->k->dtype) : NULL;
    fb_tensor *y =
        own && fb_ok(c->ctx) ? fb_scaled_dot_product_attention(own, keys, values, &o) : NULL;
    return y ? fb_keep(fb_to(y, (fb_dtype)q->dtype)) : NULL;
}

fb_status fb_kv_cache_reorder(fb_kv_cache *c, fb_tensor *index)
{
    if (!c)
        return FB_E_ARG;
    FBI_ENTRY(c->ctx);
    if (!fbi_tensor_check(c->ctx, index, "fb_kv_cache_reorder", "index"))
        return c->ctx->status;
    if (index->ndim != 1 || index->size[0] != c->batch)
        return fbi_fail(c->ctx, FB_E_SHAPE,
                        "fb_kv_cache_reorder: index %s for %" PRId64 " sequences", fbi_text(index),
                        c->batch);
    FB_SCOPE(c->ctx);
    fb_no_grad(c->ctx);
    fb_tensor *k = fb_index_select(c->k, 1, index), *v = k ? fb_index_select(c->v, 1, index) : NULL;
    fb_status st = v ? fb_copy_(c->k, k) : c->ctx->status;
    return st ? st : fb_copy_(c->v, v);
}

/* --- tokens --- */

/* False: the error is set. */
static bool sample_fits(fb_context *ctx, const fb_tensor *logits, double temperature,
                        const fb_sample_options *o)
{
    static const char name[] = "fb_sample_token";
    if ((logits->ndim != 1 && logits->ndim != 2) || logits->numel == 0)
        fbi_fail(ctx, FB_E_SHAPE, "%s: logits %s must be [V] or [B, V]", name, fbi_text(logits));
    else if (!fb_dtype_is_float((fb_dtype)logits->dtype))
        fbi_fail(ctx, FB_E_DTYPE, "%s: logits are %s", name,
                 fb_dtype_name((fb_dtype)logits->dtype));
    else if (!(temperature >= 0))
        fbi_fail(ctx, FB_E_ARG, "%s: temperature is %g, not at least 0", name, temperature);
    else if (o->top_k < 0)
        fbi_fail(ctx, FB_E_ARG, "%s: top_k is %" PRId64 ", not at least 0", name, o->top_k);
    else if (!(o->top_p >= 0 && o->top_p <= 1))
        fbi_fail(ctx, FB_E_ARG, "%s: top_p is %g, not within 0 .. 1", name, o->top_p);
    else if (!(o->min_p >= 0 && o->min_p <= 1))
        fbi_fail(ctx, FB_E_ARG, "%s: min_p is %g, not within 0 .. 1", name, o->min_p);
    else if (!(o->repetition_penalty >= 0))
        fbi_fail(ctx, FB_E_ARG, "%s: repetition_penalty is %g, not above 0", name,
                 o->repetition_penalty);
    else if (o->repetition_penalty > 0 && !o->previous)
        fbi_fail(ctx, FB_E_ARG, "%s: a repetition_penalty without previous tokens", name);
    else if (o->repetition_penalty > 0 && fbi_tensor_check(ctx, o->previous, name, "previous") &&
             (o->previous->ndim != logits->ndim ||
              (logits->ndim == 2 && o->previous->size[0] != logits->size[0])))
        fbi_fail(ctx, FB_E_SHAPE, "%s: previous tokens %s for logits %s", name,
                 fbi_text(o->previous), fbi_text(logits));
    return fb_ok(ctx);
}

/* Logits of tokens that were there are less likely. */
static fb_tensor *penalised(fb_tensor *logits, fb_tensor *previous, double penalty)
{
    if (previous->numel == 0)
        return logits;
    fb_tensor *was = fb_gather(logits, -1, previous);
    if (!was)
        return NULL;
    fb_tensor *below = fb_lt(was, fb_zeros_like(was));
    fb_tensor *now =
        below ? fb_where(below, fb_mul_scalar(was, penalty), fb_mul_scalar(was, 1 / penalty))
              : NULL;
    return now ? fb_scatter(logits, -1, previous, now) : NULL;
}

/* Probabilities in falling order, of those that are allowed; the others are 0. */
static fb_tensor *allowed(fb_tensor *p, const fb_sample_options *o)
{
    if (o->top_p > 0 && o->top_p < 1) { /* as long as those before have not enough */
        fb_tensor *before = fb_sub(fb_cumsum(p, -1), p);
        fb_tensor *enough = before ? fb_ge(before, fb_full_like(before, o->top_p)) : NULL;
        p = enough ? fb_masked_fill(p, enough, 0) : NULL;
    }
    if (o->min_p > 0 && p) {
        fb_tensor *most = fb_mul_scalar(fb_narrow(p, -1, 0, 1), o->min_p);
        fb_tensor *less = most ? fb_lt(p, most) : NULL;
        p = less ? fb_masked_fill(p, less, 0) : NULL;
    }
    return p;
}

static fb_tensor *drawn(fb_tensor *logits, double temperature, const fb_sample_options *o)
{
    fb_tensor *x = fb_mul_scalar(logits, 1 / temperature), *index = NULL;
    if (!x)
        return NULL;
    if (o->top_k == 0 && o->min_p == 0 && (o->top_p == 0 || o->top_p == 1)) {
        fb_tensor *p = fb_softmax(x, -1);
        return p ? fb_multinomial(p, 1, true) : NULL;
    }
    int64_t v = logits->size[logits->ndim - 1];
    fb_tensor *sorted = NULL;
    if (fb_topk(x, o->top_k && o->top_k < v ? o->top_k : v, -1, true, &sorted, &index))
        return NULL;
    fb_tensor *p = allowed(fb_softmax(sorted, -1), o);
    fb_tensor *at = p ? fb_multinomial(p, 1, true) : NULL;
    return at ? fb_gather(index, -1, at) : NULL;
}

fb_tensor *fb_sample_token(fb_tensor *logits, double temperature, const fb_sample_options *opts)
{
    static const fb_sample_options none;
    fb_context *ctx = fb_context_of(logits);
    FBI_ENTRY(ctx);
    const fb_sample_options *o = opts ? opts : &none;
    if (!ctx || !fbi_tensor_check(ctx, logits, "fb_sample_token", "logits") ||
        !sample_fits(ctx, logits, temperature, o))
        return NULL;
    FB_SCOPE(ctx);
    fb_no_grad(ctx);
    fb_tensor *x = fb_to(logits, FB_F64);
    if (x && o->repetition_penalty > 0 && o->repetition_penalty != 1)
        x = penalised(x, o->previous, o->repetition_penalty);
    if (!x)
        return NULL;
    return fb_keep(temperature > 0 ? drawn(x, temperature, o) : fb_argmax(x, -1, true));
}
