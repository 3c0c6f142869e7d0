#include "model.h"

#include <math.h>

/* --- one block --- */

typedef struct block {
    fb_module *ln1, *qkv, *proj, *ln2, *fc, *out, *drop;
    int64_t heads;
} block;

static const fb_field block_fields[] = {
    FB_CHILD(block, ln1), FB_CHILD(block, qkv), FB_CHILD(block, proj), FB_CHILD(block, ln2),
    FB_CHILD(block, fc),  FB_CHILD(block, out), FB_CHILD(block, drop), {0}};

/* [B, T, C] -> [B, heads, T, C / heads] */
static fb_tensor *split_heads(fb_tensor *x, int64_t heads)
{
    fb_shape by_head = FB_SHAPE(fb_size(x, 0), fb_size(x, 1), heads, fb_size(x, 2) / heads);
    return fb_permute(fb_reshape(x, by_head), FB_DIMS(0, 2, 1, 3));
}

static fb_tensor *attend(block *self, fb_tensor *x)
{
    fb_tensor *qkv[3];
    fb_chunk(fb_nn_forward(self->qkv, x), 3, 2, qkv);
    fb_tensor *q = split_heads(qkv[0], self->heads);
    fb_tensor *k = split_heads(qkv[1], self->heads);
    fb_tensor *v = split_heads(qkv[2], self->heads);
    fb_tensor *y =
        fb_scaled_dot_product_attention(q, k, v, FB_OPTS(fb_sdpa_options, .causal = true));
    return fb_nn_forward(self->proj, fb_flatten(fb_permute(y, FB_DIMS(0, 2, 1, 3)), 2, 3));
}

/* *x += r, and the norm of that: one pass over both. */
static fb_tensor *add_norm(fb_module *ln, fb_tensor **x, fb_tensor *r)
{
    fb_tensor *y = NULL, *sum = NULL;
    fb_nn_forward_n(ln, FB_TENSORS(*x, r), FB_OUTS(&y, &sum));
    *x = sum;
    return y;
}

/* (x, what is still to be added to it) -> the same; the next norm adds it. */
static void block_forward(fb_module *m, fb_tensors in, fb_outs out)
{
    block *self = fb_nn_self(m);
    fb_tensor *x = in.t[0];
    fb_tensor *y = in.n == 1 ? fb_nn_forward(self->ln1, x) : add_norm(self->ln1, &x, in.t[1]);
    y = fb_nn_forward(self->drop, attend(self, y));
    y = fb_gelu(fb_nn_forward(self->fc, add_norm(self->ln2, &x, y)));
    *out.t[0] = x;
    *out.t[1] = fb_nn_forward(self->drop, fb_nn_forward(self->out, y));
}

static const fb_module_type block_type = {
    .name = "Block", .size = sizeof(block), .fields = block_fields, .forward_n = block_forward};

static fb_module *linear(fb_context *ctx, const gpt_config *c, int64_t in, int64_t out,
                         const fb_linear_options *opts)
{
    return (c->linear ? c->linear : fb_nn_linear)(ctx, in, out, opts);
}

static fb_module *block_open(fb_context *ctx, const gpt_config *c)
{
    block self = {.ln1 = fb_nn_layer_norm(ctx, FB_SHAPE(c->width), NULL),
                  .qkv = linear(ctx, c, c->width, 3 * c->width, NULL),
                  .proj = linear(ctx, c, c->width, c->width, NULL),
                  .ln2 = fb_nn_layer_norm(ctx, FB_SHAPE(c->width), NULL),
                  .fc = linear(ctx, c, c->width, 4 * c->width, NULL),
                  .out = linear(ctx, c, 4 * c->width, c->width, NULL),
                  .drop = fb_nn_dropout(ctx, c->dropout),
                  .heads = c->heads};
    return fb_nn_new(ctx, &block_type, &self);
}

/* --- the whole --- */

typedef struct gpt {
    fb_module *wte, *wpe, *h, *ln_f, *lm_head;
} gpt;

static const fb_field gpt_fields[] = {FB_CHILD(gpt, wte),  FB_CHILD(gpt, wpe),     FB_CHILD(gpt, h),
                                      FB_CHILD(gpt, ln_f), FB_CHILD(gpt, lm_head), {0}};

static fb_tensor *gpt_forward(fb_module *m, fb_tensor *tokens)
{
    gpt *self = fb_nn_self(m);
    double time = (double)fb_size(tokens, 1);
    fb_tensor *at = fb_arange(fb_nn_context(m), FB_I64, 0, time, 1);
    fb_tensor *x = fb_add(fb_nn_forward(self->wte, tokens), fb_nn_forward(self->wpe, at));
    fb_tensor *more = NULL;
    for (int64_t i = 0; i < fb_nn_list_size(self->h); i++) {
        fb_tensors in = more ? FB_TENSORS(x, more) : FB_TENSORS(x);
        fb_nn_forward_n(fb_nn_list_at(self->h, i), in, FB_OUTS(&x, &more));
    }
    return fb_nn_forward(self->lm_head, add_norm(self->ln_f, &x, more));
}

static const fb_module_type gpt_type = {
    .name = "GPT", .size = sizeof(gpt), .fields = gpt_fields, .forward = gpt_forward};

fb_module *gpt_open(fb_context *ctx, const gpt_config *c)
{
    gpt self = {
        .wte = fb_nn_embedding(ctx, c->vocab, c->width, NULL),
        .wpe = fb_nn_embedding(ctx, c->context, c->width, NULL),
        .h = fb_nn_list(ctx, c->layers),
        .ln_f = fb_nn_layer_norm(ctx, FB_SHAPE(c->width), NULL),
        .lm_head = linear(ctx, c, c->width, c->vocab, FB_OPTS(fb_linear_options, .no_bias = true))};
    for (int64_t i = 0; i < c->layers; i++)
        fb_nn_list_set(self.h, i, block_open(ctx, c));
    fb_module *m = fb_nn_new(ctx, &gpt_type, &self);
    double residual = 0.02 / sqrt(2.0 * (double)c->layers);
    fb_nn_tie(m, "lm_head.weight", "wte.weight");
    fb_nn_init(m, "w?e.weight", fb_init_normal(0, 0.02));
    fb_nn_init(m, "h.*.qkv.weight", fb_init_normal(0, 0.02));
    fb_nn_init(m, "h.*.fc.weight", fb_init_normal(0, 0.02));
    fb_nn_init(m, "h.*.proj.weight", fb_init_normal(0, residual));
    fb_nn_init(m, "h.*.out.weight", fb_init_normal(0, residual));
    fb_nn_init(m, "h.*.bias", fb_init_zeros());
    return m;
}
