/* Layers without parameters that apply one operator. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/softmax.h>
#include <flambeau/core/ops/view.h>

#include "core/nn/nn_priv.h"

typedef struct activation {
    double a;
    int dim;
} activation;

static const fb_field no_fields[] = {{0}};

/* A layer type and its constructor for an operator of one argument. */
#define ACTIVATION(Name, op, expression)                       \
    static fb_tensor *op##_forward(fb_module *m, fb_tensor *x) \
    {                                                          \
        const activation *o = m->self;                         \
        (void)o;                                               \
        return expression;                                     \
    }                                                          \
    static const fb_module_type op##_type = {                  \
        .name = Name, .size = sizeof(activation), .fields = no_fields, .forward = op##_forward};
#define PLAIN(Name, op, expression)                          \
    ACTIVATION(Name, op, expression)                         \
    fb_module *fb_nn_##op(fb_context *ctx)                   \
    {                                                        \
        FBI_ENTRY(ctx);                                      \
        return fb_nn_new(ctx, &op##_type, &(activation){0}); \
    }

PLAIN("ReLU", relu, fb_relu(x))
PLAIN("GELU", gelu, fb_gelu(x))
PLAIN("GELUTanh", gelu_tanh, fb_gelu_tanh(x))
PLAIN("SiLU", silu, fb_silu(x))
PLAIN("Tanh", tanh, fb_tanh(x))
PLAIN("Sigmoid", sigmoid, fb_sigmoid(x))
PLAIN("Flatten", flatten, fb_flatten(x, 1, -1))
ACTIVATION("Softmax", softmax, fb_softmax(x, o->dim))
ACTIVATION("LeakyReLU", leaky_relu, fb_leaky_relu(x, o->a))

fb_activation fbi_nn_activation_of(const fb_module *m)
{
    if (m->type == &relu_type)
        return FB_ACT_RELU;
    return m->type == &gelu_tanh_type ? FB_ACT_GELU_TANH : (fb_activation)0;
}

fb_module *fb_nn_softmax(fb_context *ctx, int dim)
{
    FBI_ENTRY(ctx);
    return fb_nn_new(ctx, &softmax_type, &(activation){.dim = dim});
}

fb_module *fb_nn_leaky_relu(fb_context *ctx, double slope)
{
    FBI_ENTRY(ctx);
    return fb_nn_new(ctx, &leaky_relu_type, &(activation){.a = slope});
}
