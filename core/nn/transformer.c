/* Layers of transformers, stacks of them, and the two stacks together. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/nn/transformer.h>
#include <flambeau/core/ops/dropout.h>
#include <flambeau/core/ops/norm.h>
#include <flambeau/core/ops/pointwise.h>
#include <inttypes.h>

#include "core/nn/nn_priv.h"

/* Encoders have neither multihead_attn nor norm3. */
typedef struct layer {
    fb_module *self_attn, *multihead_attn, *linear1, *linear2, *norm1, *norm2, *norm3;
    double dropout;
    bool gelu, norm_first;
} layer;

static const fb_field layer_fields[] = {FB_CHILD(layer, self_attn), FB_CHILD(layer, multihead_attn),
                                        FB_CHILD(layer, linear1),   FB_CHILD(layer, linear2),
                                        FB_CHILD(layer, norm1),     FB_CHILD(layer, norm2),
                                        FB_CHILD(layer, norm3),     {0}};

/* A call of a layer or a stack: memory is NULL for encoders. */
typedef struct call {
    fb_tensor *x, *memory;
    const fb_attend_options *self, *cross;
} call;

/* --- one layer --- */

static fb_tensor *dropped(const fb_module *m, fb_tensor *x)
{
    const layer *l = m->self;
    return m->training && l->dropout > 0 && x ? fb_dropout(x, l->dropout) : x;
}

typedef fb_tensor *(*part_fn)(fb_module *m, const call *c, fb_tensor *x);

static fb_tensor *look_at_itself(fb_module *m, const call *c, fb_tensor *x)
{
    const layer *l = m->self;
    return dropped(m, fb_nn_attend(l->self_attn, x, x, x, c->self, NULL));
}

static fb_tensor *look_at_memory(fb_module *m, const call *c, fb_tensor *x)
{
    const layer *l = m->self;
    return dropped(m, fb_nn_attend(l->multihead_attn, x, c->memory, c->memory, c->cross, NULL));
}

static fb_tensor *feed_forward(fb_module *m, const call *c, fb_tensor *x)
{
    const layer *l = m->self;
    (void)c;
    if (l->gelu) {
        x = fb_nn_forward(l->linear1, x);
        x = x ? fb_gelu(x) : NULL;
    } else {
        x = fbi_nn_linear_act(l->linear1, x, FB_ACT_RELU);
    }
    x = dropped(m, x);
    return x ? dropped(m, fb_nn_forward(l->linear2, x)) : NULL;
}

/* norm(x + y), in one pass. */
static fb_tensor *added_norm(fb_module *norm, fb_tensor *x, fb_tensor *y)
{
    fb_tensor *n = NULL, *sum = NULL;
    if (!x || !y)
        return NULL;
    return fb_nn_forward_n(norm, FB_TENSORS(y, x), FB_OUTS(&n, &sum)) ? NULL : n;
}

static fb_tensor *layer_call(fb_module *m, void *args)
{
    const layer *l = m->self;
    const call *c = args;
    const struct {
        part_fn fn;
        fb_module *norm;
    } encoder[] = {{look_at_itself, l->norm1}, {feed_forward, l->norm2}},
      decoder[] = {{look_at_itself, l->norm1},
                   {look_at_memory, l->norm2},
                   {feed_forward, l->norm3}},
      *parts = l->multihead_attn ? decoder : encoder;
    fb_tensor *x = c->x;
    if (!fbi_tensor_check(m->ctx, x, m->type->name, "x"))
        return NULL;
    for (int i = 0; i < (l->multihead_attn ? 3 : 2) && x; i++) {
        if (l->norm_first) {
            fb_tensor *n = fb_nn_forward(parts[i].norm, x);
            fb_tensor *y = n ? parts[i].fn(m, c, n) : NULL;
            x = y ? fb_add(x, y) : NULL;
        } else {
            x = added_norm(parts[i].norm, x, parts[i].fn(m, c, x));
        }
    }
    return x;
}

/* What of a call is no tensor; those are x, memory, and mask and padding of both. */
typedef struct looks {
    bool given[2], causal[2], per_head[2];
} looks;

static fb_status layer_inner(fb_module *m, void *args, fb_tensors in, fb_outs out)
{
    const looks *how = args;
    fb_attend_options o[2];
    for (int i = 0; i < 2; i++)
        o[i] = (fb_attend_options){.mask = in.t[2 + 2 * i],
                                   .padding = in.t[3 + 2 * i],
                                   .causal = how->causal[i],
                                   .per_head = how->per_head[i]};
    call c = {in.t[0], in.t[1], how->given[0] ? &o[0] : NULL, how->given[1] ? &o[1] : NULL};
    *out.t[0] = layer_call(m, &c);
    return m->ctx->status;
}

static fb_tensor *call_layer(fb_module *m, const call *c)
{
    const fb_attend_options *o[2] = {c->self, c->cross}, none = {0};
    looks how = {0};
    for (int i = 0; i < 2; i++) {
        how.given[i] = o[i];
        o[i] = o[i] ? o[i] : &none;
        how.causal[i] = o[i]->causal;
        how.per_head[i] = o[i]->per_head;
    }
    fb_tensor *y = NULL;
    fb_tensors in =
        FB_TENSORS(c->x, c->memory, o[0]->mask, o[0]->padding, o[1]->mask, o[1]->padding);
    return fbi_nn_call_with(m, layer_inner, &how, sizeof how, in, FB_OUTS(&y)) ? NULL : y;
}

/* --- stacks --- */

typedef struct stack {
    fb_module *layers, *norm; /* norm may be NULL */
} stack;

static const fb_field stack_fields[] = {FB_CHILD(stack, layers), FB_CHILD(stack, norm), {0}};

static fb_tensor *stack_call(fb_module *m, void *args)
{
    const stack *s = m->self;
    call c = *(const call *)args;
    if (!fbi_tensor_check(m->ctx, c.x, m->type->name, "x"))
        return NULL;
    for (int64_t i = 0; i < fb_nn_list_size(s->layers) && c.x; i++)
        c.x = call_layer(fb_nn_list_at(s->layers, i), &c);
    return c.x && s->norm ? fb_nn_forward(s->norm, c.x) : c.x;
}

/* --- modules --- */

static fb_tensor *encoder_forward(fb_module *m, fb_tensor *x)
{
    call c = {.x = x};
    return m->type->fields == layer_fields ? layer_call(m, &c) : stack_call(m, &c);
}

/* (x), (x, padding), (x, padding, mask) */
static void encoder_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    if (in.n < 1 || in.n > 3 || out.n != 1) {
        fbi_fail(m->ctx, FB_E_ARG,
                 "%s: called with %d inputs and %d outputs: it makes y of (x, padding, mask)",
                 m->type->name, in.n, out.n);
        return;
    }
    fb_attend_options o = {.padding = in.n > 1 ? in.t[1] : NULL, .mask = in.n > 2 ? in.t[2] : NULL};
    call c = {.x = in.t[0], .self = &o};
    *out.t[0] = m->type->fields == layer_fields ? layer_call(m, &c) : stack_call(m, &c);
}

static void decoder_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    if (in.n != 2 || out.n != 1) {
        fbi_fail(m->ctx, FB_E_ARG,
                 "%s: called with %d inputs and %d outputs: it makes y of (x, memory)",
                 m->type->name, in.n, out.n);
        return;
    }
    call c = {.x = in.t[0], .memory = in.t[1]};
    *out.t[0] = m->type->fields == layer_fields ? layer_call(m, &c) : stack_call(m, &c);
}

static const fb_module_type encoder_layer_type = {.name = "TransformerEncoderLayer",
                                                  .size = sizeof(layer),
                                                  .fields = layer_fields,
                                                  .forward = encoder_forward,
                                                  .forward_n = encoder_forward_n};
static const fb_module_type decoder_layer_type = {.name = "TransformerDecoderLayer",
                                                  .size = sizeof(layer),
                                                  .fields = layer_fields,
                                                  .forward_n = decoder_forward_n};
static const fb_module_type encoder_type = {.name = "TransformerEncoder",
                                            .size = sizeof(stack),
                                            .fields = stack_fields,
                                            .forward = encoder_forward,
                                            .forward_n = encoder_forward_n};
static const fb_module_type decoder_type = {.name = "TransformerDecoder",
                                            .size = sizeof(stack),
                                            .fields = stack_fields,
                                            .forward_n = decoder_forward_n};

static fb_transformer_options options_of(const fb_transformer_options *opts)
{
    fb_transformer_options o = opts ? *opts : (fb_transformer_options){.ff = 0};
    o.ff = o.ff ? o.ff : 2048;
    return o;
}

static fb_module *layer_new(fb_context *ctx, const fb_module_type *type, int64_t dim, int64_t heads,
                            const fb_transformer_options *opts)
{
    if (!fbi_enter(ctx))
        return NULL;
    fb_transformer_options o = options_of(opts);
    if (!(o.dropout >= 0 && o.dropout <= 1)) {
        fbi_fail(ctx, FB_E_ARG, "%s: dropout is %g, not within 0 .. 1", type->name, o.dropout);
        return NULL;
    }
    bool decoder = type == &decoder_layer_type;
    fb_mha_options mha = {.dropout = o.dropout, .no_bias = o.no_bias, .batch_first = o.batch_first};
    fb_linear_options linear = {.no_bias = o.no_bias};
    fb_norm_options norm = {.eps = o.eps, .no_bias = o.no_bias};
    fb_shape shape = FB_SHAPE(dim);
    layer l = {.dropout = o.dropout, .gelu = o.gelu, .norm_first = o.norm_first};
    l.self_attn = fb_nn_multihead_attention(ctx, dim, heads, &mha);
    l.multihead_attn = decoder ? fb_nn_multihead_attention(ctx, dim, heads, &mha) : NULL;
    l.linear1 = fb_nn_linear(ctx, dim, o.ff, &linear);
    l.linear2 = fb_nn_linear(ctx, o.ff, dim, &linear);
    l.norm1 = fb_nn_layer_norm(ctx, shape, &norm);
    l.norm2 = fb_nn_layer_norm(ctx, shape, &norm);
    l.norm3 = decoder ? fb_nn_layer_norm(ctx, shape, &norm) : NULL;
    return fb_ok(ctx) ? fb_nn_new(ctx, type, &l) : NULL;
}

static fb_module *stack_new(fb_context *ctx, const fb_module_type *type, int64_t dim, int64_t heads,
                            int64_t n, const fb_transformer_options *opts)
{
    const fb_module_type *of = type == &decoder_type ? &decoder_layer_type : &encoder_layer_type;
    fb_transformer_options o = options_of(opts);
    if (!fbi_enter(ctx))
        return NULL;
    if (n < 1) {
        fbi_fail(ctx, FB_E_ARG, "%s: %" PRId64 " layers", type->name, n);
        return NULL;
    }
    stack s = {.layers = fb_nn_list(ctx, n)};
    for (int64_t i = 0; i < n && fb_ok(ctx); i++) {
        fb_module *l = layer_new(ctx, of, dim, heads, &o);
        if (l)
            fb_nn_list_set(s.layers, i, l);
    }
    if (o.final_norm && fb_ok(ctx))
        s.norm = fb_nn_layer_norm(ctx, FB_SHAPE(dim),
                                  FB_OPTS(fb_norm_options, .eps = o.eps, .no_bias = o.no_bias));
    return fb_ok(ctx) ? fb_nn_new(ctx, type, &s) : NULL;
}

fb_module *fb_nn_transformer_encoder_layer(fb_context *ctx, int64_t dim, int64_t heads,
                                           const fb_transformer_options *opts)
{
    FBI_ENTRY(ctx);
    return layer_new(ctx, &encoder_layer_type, dim, heads, opts);
}
fb_module *fb_nn_transformer_decoder_layer(fb_context *ctx, int64_t dim, int64_t heads,
                                           const fb_transformer_options *opts)
{
    FBI_ENTRY(ctx);
    return layer_new(ctx, &decoder_layer_type, dim, heads, opts);
}
fb_module *fb_nn_transformer_encoder(fb_context *ctx, int64_t dim, int64_t heads, int64_t n,
                                     const fb_transformer_options *opts)
{
    FBI_ENTRY(ctx);
    return stack_new(ctx, &encoder_type, dim, heads, n, opts);
}
fb_module *fb_nn_transformer_decoder(fb_context *ctx, int64_t dim, int64_t heads, int64_t n,
                                     const fb_transformer_options *opts)
{
    FBI_ENTRY(ctx);
    return stack_new(ctx, &decoder_type, dim, heads, n, opts);
}

/* --- calls --- */

static fb_tensor *called(fb_module *m, const char *function, const fb_module_type *one,
                         const fb_module_type *many, call c)
{
    if (!fbi_nn_enter(m))
        return NULL;
    if (m->type == one)
        return call_layer(m, &c);
    if (m->type == many)
        return fb_nn_call(m, stack_call, &c);
    fbi_fail(m->ctx, FB_E_ARG, "%s: a %s is neither a %s nor a layer of one", function,
             m->type->name, many->name);
    return NULL;
}

fb_tensor *fb_nn_transformer_encode(fb_module *m, fb_tensor *x, const fb_attend_options *opts)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    return called(m, "fb_nn_transformer_encode", &encoder_layer_type, &encoder_type,
                  (call){.x = x, .self = opts});
}

fb_tensor *fb_nn_transformer_decode(fb_module *m, fb_tensor *x, fb_tensor *memory,
                                    const fb_attend_options *self, const fb_attend_options *cross)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    return called(m, "fb_nn_transformer_decode", &decoder_layer_type, &decoder_type,
                  (call){x, memory, self, cross});
}

/* --- both stacks --- */

typedef struct transformer {
    fb_module *encoder, *decoder;
} transformer;

static const fb_field transformer_fields[] = {
    FB_CHILD(transformer, encoder), FB_CHILD(transformer, decoder), {0}};

typedef struct both {
    fb_tensor *source, *target;
    const fb_attend_options *encode, *self, *cross;
} both;

static fb_tensor *transformer_call(fb_module *m, void *args)
{
    const transformer *t = m->self;
    const both *b = args;
    fb_tensor *memory = fb_nn_transformer_encode(t->encoder, b->source, b->encode);
    return memory ? fb_nn_transformer_decode(t->decoder, b->target, memory, b->self, b->cross)
                  : NULL;
}

static void transformer_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    if (in.n == 2 && out.n == 1)
        *out.t[0] = transformer_call(m, &(both){.source = in.t[0], .target = in.t[1]});
    else
        fbi_fail(
            m->ctx, FB_E_ARG,
            "Transformer: called with %d inputs and %d outputs: it makes y of (source, target)",
            in.n, out.n);
}

static const fb_module_type transformer_type = {.name = "Transformer",
                                                .size = sizeof(transformer),
                                                .fields = transformer_fields,
                                                .forward_n = transformer_forward_n};

fb_tensor *fb_nn_transformer_apply(fb_module *m, fb_tensor *source, fb_tensor *target,
                                   const fb_attend_options *encode, const fb_attend_options *self,
                                   const fb_attend_options *cross)
{
    FBI_ENTRY(m ? m->ctx : NULL);
    if (!fbi_nn_enter(m))
        return NULL;
    if (m->type == &transformer_type)
        return fb_nn_call(m, transformer_call, &(both){source, target, encode, self, cross});
    fbi_fail(m->ctx, FB_E_ARG, "fb_nn_transformer_apply: a %s is no Transformer", m->type->name);
    return NULL;
}

/* Matrices and what has more dimensions. */
static fb_status draw_matrices(fb_module *m)
{
    fbi_named_list list;
    fb_status st = fbi_nn_collect(m, FB_FIELD_PARAM, true, &list);
    for (int64_t i = 0; i < list.n && !st; i++)
        if (list.v[i].t->ndim > 1)
            fbi_nn_set_draw(list.v[i].t->leaf, fb_init_xavier_uniform(1));
    fbi_named_free(&list);
    return st;
}

fb_module *fb_nn_transformer(fb_context *ctx, int64_t dim, int64_t heads, int64_t encoder_layers,
                             int64_t decoder_layers, const fb_transformer_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_transformer_options o = options_of(opts);
    o.final_norm = true;
    transformer t = {.encoder = stack_new(ctx, &encoder_type, dim, heads, encoder_layers, &o)};
    t.decoder = stack_new(ctx, &decoder_type, dim, heads, decoder_layers, &o);
    fb_module *m = fb_ok(ctx) ? fb_nn_new(ctx, &transformer_type, &t) : NULL;
    return m && !draw_matrices(m) ? m : NULL;
}
