/* Layers without parameters that give elements other places, or none. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/fold.h>
#include <flambeau/core/ops/shuffle.h>
#include <flambeau/core/ops/view.h>

#include "core/nn/nn_priv.h"

typedef struct shaper {
    fb_shape s;
    int from, to; /* dimensions */
    fb_pad_mode mode;
    double value;
    fb_conv_options o;
} shaper;

static const fb_field no_fields[] = {{0}};

/* The layer that fb_nn_OP makes of `arguments` does `expression` with these numbers. */
#define SHAPER(Name, op, expression, numbers, arguments)                                     \
    static fb_tensor *op##_forward(fb_module *m, fb_tensor *x)                               \
    {                                                                                        \
        const shaper *o = m->self;                                                           \
        (void)o;                                                                             \
        return expression;                                                                   \
    }                                                                                        \
    static const fb_module_type op##_type = {                                                \
        .name = Name, .size = sizeof(shaper), .fields = no_fields, .forward = op##_forward}; \
    fb_module *fb_nn_##op arguments                                                          \
    {                                                                                        \
        FBI_ENTRY(ctx);                                                                      \
        return fb_nn_new(ctx, &op##_type, &(shaper)numbers);                                 \
    }
#define SELF(...)   \
    {               \
        __VA_ARGS__ \
    }
#define OPTIONS(opts) ((opts) ? *(opts) : (fb_conv_options){.groups = 0})

SHAPER("Identity", identity, x, SELF(.from = 0), (fb_context * ctx))
SHAPER("Flatten", flatten, fb_flatten(x, 1, -1), SELF(.from = 1), (fb_context * ctx))
SHAPER("Flatten", flatten_dims, fb_flatten(x, o->from, o->to), SELF(.from = from, .to = to),
       (fb_context * ctx, int from, int to))
SHAPER("Unflatten", unflatten, fb_unflatten(x, o->from, o->s), SELF(.from = dim, .s = sizes),
       (fb_context * ctx, int dim, fb_shape sizes))
SHAPER("Pad", pad, fb_pad(x, o->s, o->mode, o->value),
       SELF(.s = pads, .mode = mode, .value = value),
       (fb_context * ctx, fb_shape pads, fb_pad_mode mode, double value))
SHAPER("ChannelShuffle", channel_shuffle, fb_channel_shuffle(x, o->s.d[0]),
       SELF(.s = {1, {groups}}), (fb_context * ctx, int64_t groups))
SHAPER("Unfold", unfold, fb_im2col(x, o->s.d[0], o->s.d[1], &o->o),
       SELF(.s = {2, {kh, kw}}, .o = OPTIONS(opts)),
       (fb_context * ctx, int64_t kh, int64_t kw, const fb_conv_options *opts))
SHAPER("Fold", fold, fb_fold(x, o->s.d[0], o->s.d[1], o->s.d[2], o->s.d[3], &o->o),
       SELF(.s = {4, {oh, ow, kh, kw}}, .o = OPTIONS(opts)),
       (fb_context * ctx, int64_t oh, int64_t ow, int64_t kh, int64_t kw,
        const fb_conv_options *opts))
