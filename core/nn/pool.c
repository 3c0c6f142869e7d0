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

/* Max pools give indices, too. */
static fb_shape kernel_of(const pool *p, int nd)
{
    return fb_shape_make(nd, p->size);
}

static void max_pool_forward_n(fb_module *m, fb_tensors in, fb_outs out, int nd)
{
    const pool *p = m->self;
    if (in.n == 1 && (out.n == 1 || out.n == 2))
        (void)fb_max_pool_with_indices(in.t[0], kernel_of(p, nd), &p->o, out.t[0],
                                       out.n > 1 ? out.t[1] : NULL);
    else
        fbi_fail(m->ctx, FB_E_ARG,
                 "%s: called with %d inputs and %d outputs: it makes (values, indices) of (x)",
                 m->type->name, in.n, out.n);
}

/* What a max pool of these sizes has left of the result. */
static void max_unpool_forward_n(fb_module *m, fb_tensors in, fb_outs out, int nd)
{
    const pool *p = m->self;
    fb_shape size = {.n = nd};
    if (in.n != 2 || out.n != 1) {
        fbi_fail(m->ctx, FB_E_ARG,
                 "%s: called with %d inputs and %d outputs: it makes x of (values, indices)",
                 m->type->name, in.n, out.n);
        return;
    }
    fb_tensor *x = in.t[0];
    if (!fbi_tensor_check(m->ctx, x, m->type->name, "input"))
        return;
    if (x->ndim != nd + 1 && x->ndim != nd + 2) {
        fbi_fail(m->ctx, FB_E_SHAPE, "%s: input %s must have %d or %d dimensions", m->type->name,
                 fbi_text(x), nd + 1, nd + 2);
        return;
    }
    for (int d = 0; d < nd; d++) {
        int64_t k = p->size[d], stride = p->o.stride[d] ? p->o.stride[d] : p->o.stride[0];
        int64_t pad = p->o.padding[d] ? p->o.padding[d] : p->o.padding[0];
        pad = pad == FB_ZERO_INT ? 0 : pad;
        size.d[d] = (x->size[x->ndim - nd + d] - 1) * (stride ? stride : k) - 2 * pad + k;
    }
    *out.t[0] = fb_max_unpool(x, in.t[1], size);
}

/* The layer NAME calls `call` with its dimensions; max pools have a faster way without indices. */
#define POOL_N(name_, text, call, nd, single)                               \
    static void name_##_forward_n(fb_module *m, fb_tensors in, fb_outs out) \
    {                                                                       \
        call(m, in, out, nd);                                               \
    }                                                                       \
    static const fb_module_type name_##_type = {.name = (text),             \
                                                .size = sizeof(pool),       \
                                                .fields = no_fields,        \
                                                .forward = (single),        \
                                                .forward_n = name_##_forward_n}

static fb_tensor *max_pool1d_forward(fb_module *m, fb_tensor *x)
{
    const pool *p = m->self;
    return fb_max_pool1d(x, p->size[0], &p->o);
}
static fb_tensor *max_pool2d_forward(fb_module *m, fb_tensor *x)
{
    const pool *p = m->self;
    return fb_max_pool2d(x, p->size[0], p->size[1], &p->o);
}
static fb_tensor *max_pool3d_forward(fb_module *m, fb_tensor *x)
{
    const pool *p = m->self;
    return fb_max_pool3d(x, p->size[0], p->size[1], p->size[2], &p->o);
}

POOL_N(max_pool1d, "MaxPool1d", max_pool_forward_n, 1, max_pool1d_forward);
POOL_N(max_pool2d, "MaxPool2d", max_pool_forward_n, 2, max_pool2d_forward);
POOL_N(max_pool3d, "MaxPool3d", max_pool_forward_n, 3, max_pool3d_forward);
POOL_N(max_unpool1d, "MaxUnpool1d", max_unpool_forward_n, 1, NULL);
POOL_N(max_unpool2d, "MaxUnpool2d", max_unpool_forward_n, 2, NULL);
POOL_N(max_unpool3d, "MaxUnpool3d", max_unpool_forward_n, 3, NULL);
POOL(avg_pool1d, "AvgPool1d", fb_avg_pool1d(x, p->size[0], &p->o));
POOL(avg_pool2d, "AvgPool2d", fb_avg_pool2d(x, p->size[0], p->size[1], &p->o));
POOL(avg_pool3d, "AvgPool3d", fb_avg_pool3d(x, p->size[0], p->size[1], p->size[2], &p->o));
POOL(lp_pool1d, "LPPool1d", fb_lp_pool(x, p->norm, kernel_of(p, 1), &p->o));
POOL(lp_pool2d, "LPPool2d", fb_lp_pool(x, p->norm, kernel_of(p, 2), &p->o));
POOL(lp_pool3d, "LPPool3d", fb_lp_pool(x, p->norm, kernel_of(p, 3), &p->o));
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
fb_module *fb_nn_lp_pool3d(fb_context *ctx, double norm, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &lp_pool3d_type, k, k, k, norm, opts);
}
fb_module *fb_nn_max_unpool1d(fb_context *ctx, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &max_unpool1d_type, k, 1, 1, 0, opts);
}
fb_module *fb_nn_max_unpool2d(fb_context *ctx, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &max_unpool2d_type, k, k, 1, 0, opts);
}
fb_module *fb_nn_max_unpool3d(fb_context *ctx, int64_t k, const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return pool_new(ctx, &max_unpool3d_type, k, k, k, 0, opts);
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

/* --- windows at random distances --- */

typedef struct fractional {
    fb_shape kernel, output;
    double ratio;
} fractional;

static fb_tensor *fractional_forward(fb_module *m, fb_tensor *x)
{
    const fractional *f = m->self;
    fb_shape size = f->output;
    int nd = f->kernel.n;
    if (!fbi_tensor_check(m->ctx, x, m->type->name, "input"))
        return NULL;
    for (int d = 0; d < nd && f->ratio > 0 && x->ndim > nd; d++)
        size.d[d] = (int64_t)((double)x->size[x->ndim - nd + d] * f->ratio);
    fb_tensor *y = NULL;
    return fb_fractional_max_pool(x, f->kernel, size, NULL, &y, NULL) ? NULL : y;
}

static const fb_module_type fractional_type = {.name = "FractionalMaxPool",
                                               .size = sizeof(fractional),
                                               .fields = no_fields,
                                               .forward = fractional_forward};

fb_module *fb_nn_fractional_max_pool(fb_context *ctx, fb_shape kernel, fb_shape output,
                                     double ratio)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    bool sized = output.n > 0;
    if (kernel.n != 2 && kernel.n != 3)
        fbi_fail(ctx, FB_E_ARG, "FractionalMaxPool: kernel %s must have 2 or 3 sizes",
                 fbi_shape_text(ctx, kernel));
    else if (sized && output.n != kernel.n)
        fbi_fail(ctx, FB_E_ARG, "FractionalMaxPool: output %s for the kernel %s",
                 fbi_shape_text(ctx, output), fbi_shape_text(ctx, kernel));
    else if (!sized && !(ratio > 0 && ratio < 1))
        fbi_fail(ctx, FB_E_ARG, "FractionalMaxPool: neither an output nor a ratio between 0 and 1");
    if (!fb_ok(ctx))
        return NULL;
    fractional f = {kernel, sized ? output : (fb_shape){.n = kernel.n}, sized ? 0 : ratio};
    return fb_nn_new(ctx, &fractional_type, &f);
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
