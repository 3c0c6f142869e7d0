/* Pooling layers, and layers that change the size of images. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/interpolate.h>
#include <flambeau/core/ops/pool.h>
#include <flambeau/core/ops/shuffle.h>
#include <inttypes.h>

#include "core/nn/nn_priv.h"

typedef struct pool {
    int64_t size[3]; /* of the window, or of the result */
    double norm;
    fb_conv_options o;
} pool;

static const fb_field no_fields[] = {{0}};

/* The layer NAME applies `call` to its pool p. */
#define POOL(name_, text, call)                                   \
    static fb_tensor *name_##_forward(fb_module *m, fb_tensor *x) \
    {                                                             \
        const pool *p = m->self;                                  \
        return call;                                              \
    }                                                             \
    static const fb_module_type name_##_type = {                  \
        .name = (text), .size = sizeof(pool), .fields = no_fields, .forward = name_##_forward}

POOL(max_pool1d, "MaxPool1d", fb_max_pool1d(x, p->size[0], &p->o));
POOL(max_pool2d, "MaxPool2d", fb_max_pool2d(x, p->size[0], p->size[1], &p->o));
POOL(max_pool3d, "MaxPool3d", fb_max_pool3d(x, p->size[0], p->size[1], p->size[2], &p->o));
POOL(avg_pool1d, "AvgPool1d", fb_avg_pool1d(x, p->size[0], &p->o));
POOL(avg_pool2d, "AvgPool2d", fb_avg_pool2d(x, p->size[0], p->size[1], &p->o));
POOL(avg_pool3d, "AvgPool3d", fb_avg_pool3d(x, p->size[0], p->size[1], p->size[2], &p->o));
POOL(lp_pool1d, "LPPool1d", fb_lp_pool(x, p->norm, FB_SHAPE(p->size[0]), &p->o));
POOL(lp_pool2d, "LPPool2d", fb_lp_pool(x, p->norm, FB_SHAPE(p->size[0], p->size[1]), &p->o));
POOL(adaptive_avg1d, "AdaptiveAvgPool1d", fb_adaptive_avg_pool1d(x, p->size[0]));
POOL(adaptive_avg2d, "AdaptiveAvgPool2d", fb_adaptive_avg_pool2d(x, p->size[0], p->size[1]));
POOL(adaptive_avg3d, "AdaptiveAvgPool3d",
     fb_adaptive_avg_pool3d(x, p->size[0], p->size[1], p->size[2]));
POOL(adaptive_max1d, "AdaptiveMaxPool1d", fb_adaptive_max_pool1d(x, p->size[0]));
POOL(adaptive_max2d, "AdaptiveMaxPool2d", fb_adaptive_max_pool2d(x, p->size[0], p->size[1]));
POOL(adaptive_max3d, "AdaptiveMaxPool3d",
     fb_adaptive_max_pool3d(x, p->size[0], p->size[1], p->size[2]));
POOL(pixel_shuffle, "PixelShuffle", fb_pixel_shuffle(x, p->size[0]));
POOL(pixel_unshuffle, "PixelUnshuffle", fb_pixel_unshuffle(x, p->size[0]));

static fb_module *pool_new(fb_context *ctx, const fb_module_type *type, int64_t a, int64_t b,
                           int64_t c, double norm, const fb_conv_options *opts)
{
    if (!fbi_enter(ctx))
        return NULL;
    pool p = {{a, b, c}, norm, opts ? *opts : (fb_conv_options){.groups = 0}};
    if (a >= 1 && b >= 1 && c >= 1)
        return fb_nn_new(ctx, type, &p);
    fbi_fail(ctx, FB_E_ARG, "%s: %" PRId64 " x %" PRId64 " x %" PRId64 ": must be positive",
             type->name, a, b, c);
    return NULL;
}

fb_module *fb_nn_max_pool1d(fb_context *ctx, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &max_pool1d_type, k, 1, 1, 0, opts);
}
fb_module *fb_nn_max_pool2d(fb_context *ctx, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &max_pool2d_type, k, k, 1, 0, opts);
}
fb_module *fb_nn_max_pool3d(fb_context *ctx, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &max_pool3d_type, k, k, k, 0, opts);
}
fb_module *fb_nn_avg_pool1d(fb_context *ctx, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &avg_pool1d_type, k, 1, 1, 0, opts);
}
fb_module *fb_nn_avg_pool2d(fb_context *ctx, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &avg_pool2d_type, k, k, 1, 0, opts);
}
fb_module *fb_nn_avg_pool3d(fb_context *ctx, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &avg_pool3d_type, k, k, k, 0, opts);
}
fb_module *fb_nn_lp_pool1d(fb_context *ctx, double norm, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &lp_pool1d_type, k, 1, 1, norm, opts);
}
fb_module *fb_nn_lp_pool2d(fb_context *ctx, double norm, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &lp_pool2d_type, k, k, 1, norm, opts);
}
fb_module *fb_nn_adaptive_avg_pool1d(fb_context *ctx, int64_t w)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &adaptive_avg1d_type, w, 1, 1, 0, NULL);
}
fb_module *fb_nn_adaptive_avg_pool2d(fb_context *ctx, int64_t h, int64_t w)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &adaptive_avg2d_type, h, w, 1, 0, NULL);
}
fb_module *fb_nn_adaptive_avg_pool3d(fb_context *ctx, int64_t d, int64_t h, int64_t w)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &adaptive_avg3d_type, d, h, w, 0, NULL);
}
fb_module *fb_nn_adaptive_max_pool1d(fb_context *ctx, int64_t w)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &adaptive_max1d_type, w, 1, 1, 0, NULL);
}
fb_module *fb_nn_adaptive_max_pool2d(fb_context *ctx, int64_t h, int64_t w)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &adaptive_max2d_type, h, w, 1, 0, NULL);
}
fb_module *fb_nn_adaptive_max_pool3d(fb_context *ctx, int64_t d, int64_t h, int64_t w)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &adaptive_max3d_type, d, h, w, 0, NULL);
}
fb_module *fb_nn_pixel_shuffle(fb_context *ctx, int64_t r)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &pixel_shuffle_type, r, 1, 1, 0, NULL);
}
fb_module *fb_nn_pixel_unshuffle(fb_context *ctx, int64_t r)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &pixel_unshuffle_type, r, 1, 1, 0, NULL);
}

/* --- upsampling --- */

typedef struct upsample {
    fb_shape size;
    fb_interpolate_options o;
} upsample;

static fb_tensor *upsample_forward(fb_module *m, fb_tensor *x)
{
    const upsample *u = m->self;
    return fb_interpolate(x, u->size, &u->o);
}

static const fb_module_type upsample_type = {
    .name = "Upsample", .size = sizeof(upsample), .fields = no_fields, .forward = upsample_forward};

fb_module *fb_nn_upsample(fb_context *ctx, fb_shape size, const fb_interpolate_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    upsample u = {size, opts ? *opts : (fb_interpolate_options){.mode = FB_NEAREST}};
    if (size.n || u.o.scale[0] > 0)
        return fb_nn_new(ctx, &upsample_type, &u);
    fbi_fail(ctx, FB_E_ARG, "Upsample: neither a size nor a positive scale");
    return NULL;
}
