/* Activations: layers of one operator. */
#include <flambeau/core/nn/activations.h>
#include <flambeau/core/ops/blend.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/random.h>
#include <flambeau/core/ops/softmax.h>
#include <flambeau/core/ops/view.h>
#include <inttypes.h>

#include "core/nn/nn_priv.h"

typedef struct activation {
    double a, b;
    int dim;
} activation;

static const fb_field no_fields[] = {{0}};

/* A layer type for an expression of x and the layer's own numbers, o. */
#define TYPE(Name, op, expression)                             \
    static fb_tensor *op##_forward(fb_module *m, fb_tensor *x) \
    {                                                          \
        const activation *o = m->self;                         \
        (void)o;                                               \
        return expression;                                     \
    }                                                          \
    static const fb_module_type op##_type = {                  \
        .name = Name, .size = sizeof(activation), .fields = no_fields, .forward = op##_forward};
/* And its constructor, of one number. */
#define LAYER(Name, op, expression, type, number, field)                   \
    TYPE(Name, op, expression)                                             \
    fb_module *fb_nn_##op(fb_context *ctx, type number)                    \
    {                                                                      \
        FBI_ENTRY(ctx);                                                    \
        return fb_nn_new(ctx, &op##_type, &(activation){.field = number}); \
    }
/* The same of none. */
#define PLAIN(Name, op, expression)                                 \
    TYPE(Name, op, expression)                                      \
    fb_module *fb_nn_##op(fb_context *ctx)                          \
    {                                                               \
        FBI_ENTRY(ctx);                                             \
        return fb_nn_new(ctx, &op##_type, &(activation){.dim = 0}); \
    }

/* --- of several operators --- */

/* log(1 + exp(beta x)) / beta where it is not x but for rounding. */
static fb_tensor *softplus(fb_tensor *x, double beta, double threshold)
{
    fb_tensor *scaled = beta == 1 ? x : fb_mul_scalar(x, beta),
              *y = scaled ? fb_softplus(scaled) : NULL;
    fb_tensor *line = y ? fb_gt(scaled, fb_full_like(scaled, threshold)) : NULL;
    y = y && beta != 1 ? fb_mul_scalar(y, 1 / beta) : y;
    return line ? fb_where(line, x, y) : NULL;
}

static fb_tensor *rrelu(const fb_module *m, fb_tensor *x)
{
    const activation *o = m->self;
    return m->training ? fb_rrelu(x, o->a, o->b) : fb_leaky_relu(x, (o->a + o->b) / 2);
}

static fb_tensor *softmax2d(fb_tensor *x)
{
    if (x && x->ndim != 3 && x->ndim != 4) {
        fbi_fail(x->ctx, FB_E_SHAPE, "Softmax2d: input %s must be [N, C, H, W] or [C, H, W]",
                 fbi_text(x));
        return NULL;
    }
    return fb_softmax(x, -3);
}

PLAIN("ReLU", relu, fb_relu(x))
PLAIN("ReLU6", relu6, fb_relu6(x))
PLAIN("SELU", selu, fb_selu(x))
PLAIN("GELU", gelu, fb_gelu(x))
PLAIN("GELUTanh", gelu_tanh, fb_gelu_tanh(x))
PLAIN("SiLU", silu, fb_silu(x))
PLAIN("Mish", mish, fb_mish(x))
PLAIN("Hardswish", hardswish, fb_hardswish(x))
PLAIN("Hardsigmoid", hardsigmoid, fb_hardsigmoid(x))
PLAIN("Tanh", tanh, fb_tanh(x))
PLAIN("Tanhshrink", tanhshrink, fb_tanhshrink(x))
PLAIN("Sigmoid", sigmoid, fb_sigmoid(x))
PLAIN("LogSigmoid", logsigmoid, fb_logsigmoid(x))
PLAIN("Softsign", softsign, fb_softsign(x))
PLAIN("Softmax2d", softmax2d, softmax2d(x))
LAYER("LeakyReLU", leaky_relu, fb_leaky_relu(x, o->a), double, slope, a)
LAYER("ELU", elu, fb_elu(x, o->a), double, alpha, a)
LAYER("CELU", celu, fb_celu(x, o->a), double, alpha, a)
LAYER("Hardshrink", hardshrink, fb_hardshrink(x, o->a), double, lambda, a)
LAYER("Softshrink", softshrink, fb_softshrink(x, o->a), double, lambda, a)
LAYER("Softmax", softmax, fb_softmax(x, o->dim), int, dim, dim)
LAYER("LogSoftmax", log_softmax, fb_log_softmax(x, o->dim), int, dim, dim)
LAYER("Softmin", softmin, fb_softmin(x, o->dim), int, dim, dim)
LAYER("GLU", glu, fb_glu(x, o->dim), int, dim, dim)
TYPE("Hardtanh", hardtanh, fb_hardtanh(x, o->a, o->b))
TYPE("Threshold", threshold, fb_threshold(x, o->a, o->b))
TYPE("Softplus", softplus, softplus(x, o->a, o->b))
TYPE("RReLU", rrelu, rrelu(m, x))

fb_activation fbi_nn_activation_of(const fb_module *m)
{
    if (m->type == &relu_type)
        return FB_ACT_RELU;
    return m->type == &gelu_tanh_type ? FB_ACT_GELU_TANH : (fb_activation)0;
}

/* The layer, unless its numbers make no sense. */
static fb_module *checked(fb_context *ctx, const fb_module_type *type, double a, double b, bool fit,
                          const char *rule)
{
    if (!fbi_enter(ctx))
        return NULL;
    if (fit)
        return fb_nn_new(ctx, type, &(activation){.a = a, .b = b});
    fbi_fail(ctx, FB_E_ARG, "%s: %g and %g: %s", type->name, a, b, rule);
    return NULL;
}

fb_module *fb_nn_hardtanh(fb_context *ctx, double lo, double hi)
{
    FBI_ENTRY(ctx);
    return checked(ctx, &hardtanh_type, lo, hi, lo <= hi, "the limits are in the wrong order");
}
fb_module *fb_nn_threshold(fb_context *ctx, double limit, double value)
{
    FBI_ENTRY(ctx);
    return checked(ctx, &threshold_type, limit, value, true, "");
}
fb_module *fb_nn_softplus(fb_context *ctx, double beta, double threshold)
{
    FBI_ENTRY(ctx);
    return checked(ctx, &softplus_type, beta, threshold, beta != 0, "beta must not be 0");
}
fb_module *fb_nn_rrelu(fb_context *ctx, double lower, double upper)
{
    FBI_ENTRY(ctx);
    return checked(ctx, &rrelu_type, lower, upper, lower <= upper,
                   "the slopes are in the wrong order");
}

/* --- with a parameter --- */

typedef struct prelu {
    fb_tensor *weight;
} prelu;

static const fb_field prelu_fields[] = {FB_PARAM(prelu, weight), {0}};

static fb_tensor *prelu_forward(fb_module *m, fb_tensor *x)
{
    fb_tensor *w = ((const prelu *)m->self)->weight;
    if (!fbi_tensor_check(m->ctx, x, "PReLU", "input"))
        return NULL;
    if (w->numel == 1)
        return fb_prelu(x, w);
    if (x->ndim < 2 || x->size[1] != w->numel) {
        fbi_fail(m->ctx, FB_E_SHAPE,
                 "PReLU: input %s must have %" PRId64 " channels as dimension 1", fbi_text(x),
                 w->numel);
        return NULL;
    }
    fb_shape s = {.n = x->ndim - 1};
    for (int i = 0; i < s.n; i++)
        s.d[i] = i ? 1 : w->numel;
    return fb_prelu(x, fb_reshape(w, s));
}

static const fb_module_type prelu_type = {
    .name = "PReLU", .size = sizeof(prelu), .fields = prelu_fields, .forward = prelu_forward};

fb_module *fb_nn_prelu(fb_context *ctx, int64_t n, double slope)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    if (n < 1) {
        fbi_fail(ctx, FB_E_ARG, "PReLU: %" PRId64 " channels", n);
        return NULL;
    }
    prelu p = {fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(n), fb_init_constant(slope))};
    return fb_nn_new(ctx, &prelu_type, &p);
}
