/* Dropout, off in eval. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/dropout.h>

#include "core/nn/nn_priv.h"

typedef struct dropout {
    double p;
} dropout;

static const fb_field dropout_fields[] = {{0}};

static fb_tensor *dropout_forward(fb_module *m, fb_tensor *x)
{
    const dropout *d = m->self;
    return m->training && d->p > 0 ? fb_dropout(x, d->p) : x;
}

static const fb_module_type dropout_type = {.name = "Dropout",
                                            .size = sizeof(dropout),
                                            .fields = dropout_fields,
                                            .forward = dropout_forward};

fb_module *fb_nn_dropout(fb_context *ctx, double p)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    if (p >= 0 && p < 1)
        return fb_nn_new(ctx, &dropout_type, &(dropout){.p = p});
    fbi_fail(ctx, FB_E_ARG, "fb_nn_dropout: p is %g, not in [0, 1)", p);
    return NULL;
}
