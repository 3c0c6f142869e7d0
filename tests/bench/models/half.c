/* Layers of F32 parameters that compute in BF16. */
#include "tests/bench/models/models.h"

#include <math.h>

static fb_tensor *half(fb_tensor *t)
{
    return t ? fb_to(t, FB_BF16) : NULL;
}

typedef struct linear16 {
    fb_tensor *weight, *bias;
} linear16;

static const fb_field linear16_fields[] = {
    FB_PARAM(linear16, weight), FB_PARAM(linear16, bias), {0}};

static fb_tensor *linear16_forward(fb_module *m, fb_tensor *x)
{
    const linear16 *self = fb_nn_self(m);
    return fb_linear(half(x), half(self->weight), half(self->bias));
}

static const fb_module_type linear16_type = {.name = "Linear16",
                                             .size = sizeof(linear16),
                                             .fields = linear16_fields,
                                             .forward = linear16_forward};

fb_module *linear16_open(fb_context *ctx, int64_t in, int64_t out, const fb_linear_options *opts)
{
    double bound = 1 / sqrt((double)in);
    linear16 self = {.weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(out, in),
                                                   fb_init_kaiming_uniform(sqrt(5)))};
    if (!opts || !opts->no_bias)
        self.bias = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(out), fb_init_uniform(-bound, bound));
    return fb_nn_new(ctx, &linear16_type, &self);
}

typedef struct conv16 {
    fb_tensor *weight;
    fb_conv_options o;
} conv16;

static const fb_field conv16_fields[] = {FB_PARAM(conv16, weight), {0}};

static fb_tensor *conv16_forward(fb_module *m, fb_tensor *x)
{
    const conv16 *self = fb_nn_self(m);
    return fb_conv2d(half(x), half(self->weight), NULL, &self->o);
}

static const fb_module_type conv16_type = {
    .name = "Conv16", .size = sizeof(conv16), .fields = conv16_fields, .forward = conv16_forward};

fb_module *conv16_open(fb_context *ctx, int64_t in, int64_t out, int64_t k, int64_t stride)
{
    conv16 self = {.weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(out, in, k, k),
                                                 fb_init_kaiming_uniform(sqrt(5))),
                   .o = {.stride = {stride}, .padding = {k / 2}}};
    return fb_nn_new(ctx, &conv16_type, &self);
}
