/* A GPT whose blocks are called with arguments of their own (a cache of keys and values), with tied
 * weights; it learns a sentence and says it. */
#include <math.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { LAYERS = 2, HEADS = 2, WIDTH = 16, VOCAB = 32, CONTEXT = 24 };

typedef struct block {
    fb_module *ln1, *qkv, *proj, *ln2, *fc, *out;
} block;

static const fb_field block_fields[] = {FB_CHILD(block, ln1),
                                        FB_CHILD(block, qkv),
                                        FB_CHILD(block, proj),
                                        FB_CHILD(block, ln2),
                                        FB_CHILD(block, fc),
                                        FB_CHILD(block, out),
                                        {0}};

/* What a call of the model or of a block is about. */
typedef struct call {
    fb_tensor *x;
    fb_kv_cache *cache; /* NULL: none */
    int64_t layer;
} call;

static fb_tensor *heads(fb_tensor *x)
{
    fb_shape by_head = FB_SHAPE(fb_size(x, 0), fb_size(x, 1), HEADS, WIDTH / HEADS);
    return fb_permute(fb_reshape(x, by_head), FB_DIMS(0, 2, 1, 3));
}

static fb_tensor *attend(const call *k, fb_tensor *const *qkv)
{
    fb_tensor *q = heads(qkv[0]), *key = heads(qkv[1]), *value = heads(qkv[2]);
    if (k->cache)
        return fb_kv_cache_attend(k->cache, k->layer, q, key, value);
    return fb_scaled_dot_product_attention(q, key, value, FB_OPTS(fb_sdpa_options, .causal = true));
}

static fb_tensor *block_call(fb_module *m, void *args)
{
    block *b = fb_nn_self(m);
    const call *k = args;
    fb_tensor *qkv[3];
    fb_chunk(fb_nn_forward(b->qkv, fb_nn_forward(b->ln1, k->x)), 3, 2, qkv);
    fb_tensor *y = fb_flatten(fb_permute(attend(k, qkv), FB_DIMS(0, 2, 1, 3)), 2, 3);
    fb_tensor *x = fb_add(k->x, fb_nn_forward(b->proj, y));
    y = fb_gelu(fb_nn_forward(b->fc, fb_nn_forward(b->ln2, x)));
    return fb_add(x, fb_nn_forward(b->out, y));
}

static fb_tensor *block_forward(fb_module *m, fb_tensor *x)
{
    return block_call(m, &(call){.x = x});
}

static const fb_module_type block_type = {
    .name = "Block", .size = sizeof(block), .fields = block_fields, .forward = block_forward};

typedef struct gpt {
    fb_module *wte, *wpe, *h, *ln_f, *lm_head;
} gpt;

static const fb_field gpt_fields[] = {FB_CHILD(gpt, wte),  FB_CHILD(gpt, wpe),     FB_CHILD(gpt, h),
                                      FB_CHILD(gpt, ln_f), FB_CHILD(gpt, lm_head), {0}};

static fb_tensor *gpt_call(fb_module *m, void *args)
{
    gpt *g = fb_nn_self(m);
    const call *k = args;
    int64_t past = k->cache ? fb_kv_cache_length(k->cache) : 0, n = fb_size(k->x, 1);
    fb_tensor *at = fb_arange(fb_context_of(k->x), FB_I64, (double)past, (double)(past + n), 1);
    fb_tensor *x = fb_add(fb_nn_forward(g->wte, k->x), fb_nn_forward(g->wpe, at));
    for (int64_t i = 0; i < fb_nn_list_size(g->h); i++)
        x = fb_nn_call(fb_nn_list_at(g->h, i), block_call, &(call){x, k->cache, i});
    if (k->cache)
        fb_kv_cache_advance(k->cache, n);
    return fb_nn_forward(g->lm_head, fb_nn_forward(g->ln_f, x));
}

static fb_tensor *gpt_forward(fb_module *m, fb_tensor *tokens)
{
    return gpt_call(m, &(call){.x = tokens});
}

static const fb_module_type gpt_type = {
    .name = "GPT", .size = sizeof(gpt), .fields = gpt_fields, .forward = gpt_forward};

static fb_module *block_open(fb_context *c)
{
    block b = {.ln1 = fb_nn_layer_norm(c, FB_SHAPE(WIDTH), NULL),
               .qkv = fb_nn_linear(c, WIDTH, 3 * WIDTH, NULL),
               .proj = fb_nn_linear(c, WIDTH, WIDTH, NULL),
               .ln2 = fb_nn_layer_norm(c, FB_SHAPE(WIDTH), NULL),
               .fc = fb_nn_linear(c, WIDTH, 4 * WIDTH, NULL),
               .out = fb_nn_linear(c, 4 * WIDTH, WIDTH, NULL)};
    return fb_nn_new(c, &block_type, &b);
}

static fb_module *gpt_open(fb_context *c)
{
    gpt g = {.wte = fb_nn_embedding(c, VOCAB, WIDTH, NULL),
             .wpe = fb_nn_embedding(c, CONTEXT, WIDTH, NULL),
             .h = fb_nn_list(c, LAYERS),
             .ln_f = fb_nn_layer_norm(c, FB_SHAPE(WIDTH), NULL),
             .lm_head = fb_nn_linear(c, WIDTH, VOCAB, FB_OPTS(fb_linear_options, .no_bias = true))};
    for (int i = 0; i < LAYERS; i++)
        fb_nn_list_set(g.h, i, block_open(c));
    fb_module *m = fb_nn_new(c, &gpt_type, &g);
    fb_nn_tie(m, "lm_head.weight", "wte.weight");
    fb_nn_init(m, "w?e.weight", fb_init_normal(0, .02));
    fb_nn_init(m, "h.*.proj.weight", fb_init_normal(0, .01));
    return m;
}

static const char sentence[] = "several wicks, one flame";

/* Letters are numbers from 1, others below. */
static void encode(int64_t *ids)
{
    for (int i = 0; i < CONTEXT; i++)
        ids[i] = sentence[i] >= 'a' ? sentence[i] - 'a' + 2 : sentence[i] == ' ';
}

/* The likeliest token after another, each in turn: the cache has those before. @return how many are
 * the sentence's */
static int say(fb_context *c, fb_module *m, const int64_t *ids)
{
    int64_t said[CONTEXT] = {ids[0]};
    int right = 0;
    fb_nn_eval(m);
    FB_SCOPE(c);
    fb_no_grad(c);
    fb_kv_cache *cache = fb_kv_cache_open(c, LAYERS, 1, HEADS, CONTEXT, WIDTH / HEADS, FB_F32);
    fb_tensor *token = NULL;
    fb_set(&token, fb_from(c, FB_I64, FB_SHAPE(1, 1), ids));
    for (int t = 1; t < CONTEXT && fb_ok(c); t++) {
        FB_SCOPE(c);
        fb_tensor *logits = fb_nn_call(m, gpt_call, &(call){token, cache, 0});
        fb_set(&token, fb_sample_token(fb_select(logits, 1, -1), 0, NULL));
        said[t] = fb_item_int(token);
        right += said[t] == ids[t];
    }
    fb_set(&token, NULL);
    fb_kv_cache_close(cache);
    return right;
}

/* Token by token with the cache, and all at once. */
static double cache_differs(fb_context *c, fb_module *m, const int64_t *ids)
{
    FB_SCOPE(c);
    fb_no_grad(c);
    double most = 0;
    fb_kv_cache *cache = fb_kv_cache_open(c, LAYERS, 1, HEADS, CONTEXT, WIDTH / HEADS, FB_F32);
    fb_tensor *whole = fb_nn_forward(m, fb_from(c, FB_I64, FB_SHAPE(1, CONTEXT), ids));
    for (int t = 0; t < CONTEXT; t++) {
        fb_tensor *token = fb_from(c, FB_I64, FB_SHAPE(1, 1), ids + t);
        fb_tensor *one = fb_nn_call(m, gpt_call, &(call){token, cache, 0});
        double apart = fb_item(fb_max(fb_abs(fb_sub(fb_narrow(whole, 1, t, 1), one))));
        most = fmax(most, apart);
    }
    fb_kv_cache_close(cache);
    return most;
}

/* Logits of the first tokens do not know what comes later. */
static double looks_ahead(fb_context *c, fb_module *m, const int64_t *ids)
{
    FB_SCOPE(c);
    fb_no_grad(c);
    fb_tensor *whole = fb_nn_forward(m, fb_from(c, FB_I64, FB_SHAPE(1, CONTEXT), ids));
    fb_tensor *begin = fb_nn_forward(m, fb_from(c, FB_I64, FB_SHAPE(1, 10), ids));
    return fb_item(fb_max(fb_abs(fb_sub(fb_narrow(whole, 1, 0, 10), begin))));
}

int main(void)
{
    fb_context *c = fb_context_open(NULL);
    fb_module *m = gpt_open(c);
    int64_t ids[CONTEXT];
    encode(ids);
    fb_optimizer *opt = fb_optim_adamw(c, m, FB_OPTS(fb_adamw_options, .lr = 0.01));
    double first = NAN, last = NAN;
    for (int i = 0; i < 150; i++) {
        FB_SCOPE(c);
        fb_tensor *x = fb_from(c, FB_I64, FB_SHAPE(1, CONTEXT - 1), ids);
        fb_tensor *y = fb_from(c, FB_I64, FB_SHAPE(CONTEXT - 1), ids + 1);
        fb_tensor *loss = fb_cross_entropy(fb_flatten(fb_nn_forward(m, x), 0, 1), y, NULL);
        fb_backward(loss);
        fb_optim_step(opt);
        last = fb_item(loss);
        if (i == 0)
            first = last;
    }
    expect(fabs(first - log(VOCAB)) < 0.2, "an untrained model knows nothing: %g", first);
    expect(last < 0.1, "the loss falls to %g", last);
    int right = say(c, m, ids);
    expect(right >= CONTEXT - 3, "it says %d of %d letters", right, CONTEXT - 1);
    double ahead = looks_ahead(c, m, ids);
    expect(ahead < 1e-4, "what comes later changes nothing: %g", ahead);
    double apart = cache_differs(c, m, ids);
    expect(apart < 1e-3, "with a cache the logits are the same: %g apart", apart);
    expect(fb_nn_param(m, "lm_head.weight") == fb_nn_param(m, "wte.weight"),
           "the weights are tied");
    return fb_context_close(c) || failures;
}
