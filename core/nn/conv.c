/* Convolution and pooling layers. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/pool.h>
#include <inttypes.h>
#include <math.h>

#include "core/nn/nn_priv.h"

typedef struct conv {
    fb_tensor *weight, *bias;
    fb_conv_options o;
} conv;

static const fb_field conv_fields[] = {FB_PARAM(conv, weight), FB_PARAM(conv, bias), {0}};

static fb_tensor *conv2d_forward(fb_module *m, fb_tensor *x)
{
    const conv *c = m->self;
    return fb_conv2d(x, c->weight, c->bias, &c->o);
}

static const fb_module_type conv2d_type = {
    .name = "Conv2d", .size = sizeof(conv), .fields = conv_fields, .forward = conv2d_forward};

bool fbi_nn_is_conv2d(const fb_module *m)
{
    return m->type == &conv2d_type;
}

static fb_tensor *forward_with_relu(fb_module *m, void *x)
{
    const conv *c = m->self;
    return fb_conv2d_relu(x, c->weight, c->bias, &c->o);
}

fb_tensor *fbi_nn_conv2d_relu(fb_module *m, fb_tensor *x)
{
    return fb_nn_call(m, forward_with_relu, x);
}

fb_module *fb_nn_conv2d(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                        const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    conv c = {.o = opts ? *opts : (fb_conv_options){.groups = 0}};
    int64_t groups = c.o.groups ? c.o.groups : 1;
    if (in < 1 || out < 1 || k < 1 || groups < 1 || in % groups || out % groups) {
        fbi_fail(ctx, FB_E_ARG,
                 "fb_nn_conv2d: %" PRId64 " to %" PRId64 " channels, kernel %" PRId64 ", %" PRId64
                 " groups: all must be positive and groups divide both",
                 in, out, k, groups);
        return NULL;
    }
    double bound = 1 / sqrt((double)(in / groups * k * k));
    c.weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(out, in / groups, k, k),
                                   fb_init_kaiming_uniform(sqrt(5)));
    if (c.weight && !c.o.no_bias)
        c.bias = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(out), fb_init_uniform(-bound, bound));
    return fb_nn_new(ctx, &conv2d_type, &c);
}

typedef struct pool {
    int64_t a, b; /* kernel; or height and width of the result */
    fb_conv_options o;
} pool;

static const fb_field no_fields[] = {{0}};

static fb_tensor *max_pool2d_forward(fb_module *m, fb_tensor *x)
{
    const pool *p = m->self;
    return fb_max_pool2d(x, p->a, p->b, &p->o);
}

static fb_tensor *adaptive_avg_pool2d_forward(fb_module *m, fb_tensor *x)
{
    const pool *p = m->self;
    return fb_adaptive_avg_pool2d(x, p->a, p->b);
}

static const fb_module_type max_pool2d_type = {
    .name = "MaxPool2d", .size = sizeof(pool), .fields = no_fields, .forward = max_pool2d_forward};
static const fb_module_type adaptive_type = {.name = "AdaptiveAvgPool2d",
                                             .size = sizeof(pool),
                                             .fields = no_fields,
                                             .forward = adaptive_avg_pool2d_forward};

static fb_module *pool_new(fb_context *ctx, const fb_module_type *type, pool p)
{
    if (!fbi_enter(ctx))
        return NULL;
    if (p.a >= 1 && p.b >= 1)
        return fb_nn_new(ctx, type, &p);
    fbi_fail(ctx, FB_E_ARG, "%s: %" PRId64 " x %" PRId64 ": must be positive", type->name, p.a,
             p.b);
    return NULL;
}

fb_module *fb_nn_max_pool2d(fb_context *ctx, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &max_pool2d_type,
                    (pool){.a = k, .b = k, .o = opts ? *opts : (fb_conv_options){.groups = 0}});
}

fb_module *fb_nn_adaptive_avg_pool2d(fb_context *ctx, int64_t h, int64_t w)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &adaptive_type, (pool){.a = h, .b = w});
}
