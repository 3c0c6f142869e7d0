/* Dropouts, off in eval. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/dropout.h>

#include "core/nn/nn_priv.h"

typedef struct dropout {
    double p;
} dropout;

static const fb_field dropout_fields[] = {{0}};

static fb_module *dropout_new(fb_context *ctx, const fb_module_type *type, double p)
{
    if (!fbi_enter(ctx))
        return NULL;
    if (p >= 0 && p <= 1)
        return fb_nn_new(ctx, type, &(dropout){.p = p});
    fbi_fail(ctx, FB_E_ARG, "%s: p is %g, not within 0 .. 1", type->name, p);
    return NULL;
}

#define DROPOUT(Name, op)                                                                          \
    static fb_tensor *op##_forward(fb_module *m, fb_tensor *x)                                     \
    {                                                                                              \
        const dropout *d = m->self;                                                                \
        return m->training && d->p > 0 ? fb_##op(x, d->p) : x;                                     \
    }                                                                                              \
    static const fb_module_type op##_type = {                                                      \
        .name = Name, .size = sizeof(dropout), .fields = dropout_fields, .forward = op##_forward}; \
    fb_module *fb_nn_##op(fb_context *ctx, double p)                                               \
    {                                                                                              \
        FBI_ENTRY(ctx);                                                                            \
        return dropout_new(ctx, &op##_type, p);                                                    \
    }

DROPOUT("Dropout", dropout)
DROPOUT("Dropout1d", dropout1d)
DROPOUT("Dropout2d", dropout2d)
DROPOUT("Dropout3d", dropout3d)
DROPOUT("AlphaDropout", alpha_dropout)
DROPOUT("FeatureAlphaDropout", feature_alpha_dropout)
