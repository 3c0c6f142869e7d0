/* Layers that compare two tensors. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/loss.h>

#include "core/nn/nn_priv.h"

typedef struct distance {
    int dim;
    double p, eps;
    bool keepdim;
} distance;

static const fb_field no_fields[] = {{0}};

/* False: the error is set. */
static bool called_with_two(const fb_module *m, fb_tensors in, fb_outs out)
{
    if (in.n == 2 && out.n == 1)
        return true;
    fbi_fail(m->ctx, FB_E_ARG, "%s: called with %d inputs and %d outputs: it makes y of (a, b)",
             m->type->name, in.n, out.n);
    return false;
}

static void cosine_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    const distance *d = m->self;
    if (called_with_two(m, in, out))
        *out.t[0] = fb_cosine_similarity(in.t[0], in.t[1], d->dim, d->eps);
}

static void pairwise_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    const distance *d = m->self;
    if (called_with_two(m, in, out))
        *out.t[0] = fb_pairwise_distance(in.t[0], in.t[1], d->p, d->eps, d->keepdim);
}

static const fb_module_type cosine_type = {.name = "CosineSimilarity",
                                           .size = sizeof(distance),
                                           .fields = no_fields,
                                           .forward_n = cosine_forward_n};
static const fb_module_type pairwise_type = {.name = "PairwiseDistance",
                                             .size = sizeof(distance),
                                             .fields = no_fields,
                                             .forward_n = pairwise_forward_n};

fb_module *fb_nn_cosine_similarity(fb_context *ctx, int dim, double eps)
{
    FBI_ENTRY(ctx);
    return fb_nn_new(ctx, &cosine_type, &(distance){.dim = dim, .eps = eps});
}

fb_module *fb_nn_pairwise_distance(fb_context *ctx, double p, double eps, bool keepdim)
{
    FBI_ENTRY(ctx);
    return fb_nn_new(ctx, &pairwise_type, &(distance){.p = p, .eps = eps, .keepdim = keepdim});
}
