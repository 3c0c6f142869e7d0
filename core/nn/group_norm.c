/* Norms without running statistics: of groups, of mean squares, of neighbouring channels. */
#include <flambeau/core/nn/layers.h>
#include <inttypes.h>

#include "core/nn/nn_priv.h"

/* --- group norm --- */

typedef struct group_norm {
    fb_tensor *weight, *bias;
    int64_t groups, channels;
    double eps;
} group_norm;

static const fb_field group_norm_fields[] = {
    FB_PARAM(group_norm, weight), FB_PARAM(group_norm, bias), {0}};

static fb_tensor *group_norm_forward(fb_module *m, fb_tensor *x)
{
    const group_norm *g = m->self;
    if (x && (x->ndim < 2 || x->size[1] != g->channels)) {
        fbi_fail(m->ctx, FB_E_SHAPE, "GroupNorm: input %s; its second size must be %" PRId64,
                 fbi_text(x), g->channels);
        return NULL;
    }
    return fb_group_norm(x, g->groups, g->weight, g->bias, g->eps);
}

static const fb_module_type group_norm_type = {.name = "GroupNorm",
                                               .size = sizeof(group_norm),
                                               .fields = group_norm_fields,
                                               .forward = group_norm_forward};

fb_module *fb_nn_group_norm(fb_context *ctx, int64_t groups, int64_t channels,
                            const fb_norm_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx) || !fbi_nn_norm_has_no_relu(ctx, "fb_nn_group_norm", opts))
        return NULL;
    if (groups < 1 || channels < 1 || channels % groups) {
        fbi_fail(ctx, FB_E_ARG, "fb_nn_group_norm: %" PRId64 " channels in %" PRId64 " groups",
                 channels, groups);
        return NULL;
    }
    fb_norm_options o = opts ? *opts : (fb_norm_options){0};
    group_norm g = {.groups = groups, .channels = channels, .eps = o.eps == 0 ? 1e-5 : o.eps};
    if (!o.no_affine)
        g.weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(channels), fb_init_constant(1));
    if (!o.no_affine && !o.no_bias)
        g.bias = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(channels), fb_init_zeros());
    return fb_nn_new(ctx, &group_norm_type, &g);
}

/* --- rms norm --- */

typedef struct rms_norm {
    fb_tensor *weight;
    fb_shape shape;
    double eps;
} rms_norm;

static const fb_field rms_norm_fields[] = {FB_PARAM(rms_norm, weight), {0}};

static fb_tensor *rms_norm_forward(fb_module *m, fb_tensor *x)
{
    const rms_norm *r = m->self;
    return fb_rms_norm(x, r->shape, r->weight, r->eps);
}

static const fb_module_type rms_norm_type = {.name = "RMSNorm",
                                             .size = sizeof(rms_norm),
                                             .fields = rms_norm_fields,
                                             .forward = rms_norm_forward};

fb_module *fb_nn_rms_norm(fb_context *ctx, fb_shape shape, const fb_norm_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx) || !fbi_nn_norm_has_no_relu(ctx, "fb_nn_rms_norm", opts))
        return NULL;
    if (shape.n < 1 || fb_shape_numel(shape) < 1) {
        fbi_fail(ctx, FB_E_ARG, "fb_nn_rms_norm: shape %s", fbi_shape_text(ctx, shape));
        return NULL;
    }
    fb_norm_options o = opts ? *opts : (fb_norm_options){0};
    rms_norm r = {.shape = shape, .eps = o.eps};
    if (!o.no_affine)
        r.weight = fb_nn_declare_param(ctx, FB_F32, shape, fb_init_constant(1));
    return fb_nn_new(ctx, &rms_norm_type, &r);
}

/* --- local response norm --- */

typedef struct response_norm {
    int64_t size;
    double alpha, beta, k;
} response_norm;

static const fb_field no_fields[] = {{0}};

static fb_tensor *response_norm_forward(fb_module *m, fb_tensor *x)
{
    const response_norm *r = m->self;
    return fb_local_response_norm(x, r->size, r->alpha, r->beta, r->k);
}

static const fb_module_type response_norm_type = {.name = "LocalResponseNorm",
                                                  .size = sizeof(response_norm),
                                                  .fields = no_fields,
                                                  .forward = response_norm_forward};

fb_module *fb_nn_local_response_norm(fb_context *ctx, int64_t size,
                                     const fb_response_norm_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    if (size < 1) {
        fbi_fail(ctx, FB_E_ARG, "fb_nn_local_response_norm: size %" PRId64, size);
        return NULL;
    }
    fb_response_norm_options o = opts ? *opts : (fb_response_norm_options){0};
    response_norm r = {.size = size,
                       .alpha = o.alpha == 0 ? 1e-4 : o.alpha,
                       .beta = o.beta == 0 ? 0.75 : o.beta,
                       .k = o.k == 0 ? 1 : o.k};
    return fb_nn_new(ctx, &response_norm_type, &r);
}
