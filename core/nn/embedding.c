/* Tables of vectors: one a number, or one a bag of numbers. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/embedding.h>
#include <inttypes.h>

#include "core/nn/nn_priv.h"

typedef struct embedding {
    fb_tensor *weight;
    fb_bag_options bag;
    int64_t padding; /* row; -1: none */
} embedding;

static const fb_field embedding_fields[] = {FB_PARAM(embedding, weight), {0}};

static fb_tensor *embedding_forward(fb_module *m, fb_tensor *x)
{
    const embedding *e = m->self;
    return e->padding < 0 ? fb_embedding(e->weight, x)
                          : fb_embedding_padded(e->weight, x, e->padding);
}

static const fb_module_type embedding_type = {.name = "Embedding",
                                              .size = sizeof(embedding),
                                              .fields = embedding_fields,
                                              .forward = embedding_forward};

fb_tensor *fbi_nn_small_table(fb_module *m, const fb_tensor *x)
{
    const embedding *e = m->type == &embedding_type ? m->self : NULL;
    bool small = e && e->padding < 0 && x && e->weight->size[0] < x->numel / 2;
    return small ? e->weight : NULL;
}

/* (index), (index, offsets), (index, offsets, weights) */
static void bag_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    const embedding *e = m->self;
    if (in.n < 1 || in.n > 3 || out.n != 1) {
        fbi_fail(m->ctx, FB_E_ARG,
                 "EmbeddingBag: called with %d inputs and %d outputs: it makes y of (index, "
                 "offsets, weights)",
                 in.n, out.n);
        return;
    }
    fb_bag_options o = e->bag;
    o.weights = in.n > 2 ? in.t[2] : NULL;
    *out.t[0] = fb_embedding_bag(e->weight, in.t[0], in.n > 1 ? in.t[1] : NULL, &o);
}

static const fb_module_type bag_type = {.name = "EmbeddingBag",
                                        .size = sizeof(embedding),
                                        .fields = embedding_fields,
                                        .forward_n = bag_forward_n};

/* `padding`: the row, or -1 if !pads. */
static fb_module *embedding_new(fb_context *ctx, const fb_module_type *type, int64_t n, int64_t dim,
                                fb_module *tie, bool pads, int64_t padding, fb_bag_options bag)
{
    if (!fbi_enter(ctx))
        return NULL;
    if (n < 1 || dim < 1) {
        fbi_fail(ctx, FB_E_ARG, "%s: %" PRId64 " rows of %" PRId64, type->name, n, dim);
        return NULL;
    }
    if (pads && (padding < -n || padding >= n)) {
        fbi_fail(ctx, FB_E_ARG, "%s: padding_index %" PRId64 " of %" PRId64 " rows", type->name,
                 padding, n);
        return NULL;
    }
    fb_shape shape = FB_SHAPE(n, dim);
    embedding e = {.bag = bag, .padding = !pads ? -1 : padding < 0 ? padding + n : padding};
    fb_init init = pads ? fbi_init_normal_padded(e.padding) : fb_init_normal(0, 1);
    e.weight = tie ? fbi_nn_tied_weight(ctx, "fb_nn_embedding", tie, shape)
                   : fb_nn_declare_param(ctx, FB_F32, shape, init);
    return fb_nn_new(ctx, type, &e);
}

fb_module *fb_nn_embedding(fb_context *ctx, int64_t n, int64_t dim,
                           const fb_embedding_options *opts)
{
    FBI_ENTRY(ctx);
    fb_embedding_options o = opts ? *opts : (fb_embedding_options){.tie = NULL};
    return embedding_new(ctx, &embedding_type, n, dim, o.tie, o.pads, o.padding_index,
                         (fb_bag_options){.pads = false});
}

fb_module *fb_nn_embedding_bag(fb_context *ctx, int64_t n, int64_t dim, const fb_bag_options *opts)
{
    FBI_ENTRY(ctx);
    fb_bag_options o = opts ? *opts : (fb_bag_options){.pads = false};
    return embedding_new(ctx, &bag_type, n, dim, NULL, o.pads, o.padding_index, o);
}
