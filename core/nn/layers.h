/* Layers. Weights are made at the model's first use; first values are PyTorch's. */
#ifndef FLAMBEAU_CORE_NN_LAYERS_H
#define FLAMBEAU_CORE_NN_LAYERS_H

#include <flambeau/core/nn/module.h>
#include <flambeau/core/ops/conv.h>
#include <flambeau/core/ops/interpolate.h>
#include <flambeau/core/ops/norm.h>

FB_BEGIN

/* All functions return NULL on error: FB_E_ARG for sizes below 1, FB_E_NOMEM. */

/* --- containers --- */

/** One module after the other; children are named "0", "1", ... */
FB_API FB_USE_RESULT fb_module *fb_nn_sequential_n(fb_context *ctx, fb_modules modules);
#define fb_nn_sequential(ctx, ...) fb_nn_sequential_n((ctx), FB_MODULES(__VA_ARGS__))
/** n empty places for modules, named by index; has no forward of its own. */
FB_API FB_USE_RESULT fb_module *fb_nn_list(fb_context *ctx, int64_t n);
/** Put a module in an empty place, before the first use; from then on the list owns it. */
FB_API fb_status fb_nn_list_set(fb_module *list, int64_t i, fb_module *m);
/** Module i of a list or sequential; NULL: FB_E_ARG. */
FB_API fb_module *fb_nn_list_at(fb_module *list, int64_t i);
/** Places of a list or sequential; 0 for other modules. */
FB_API int64_t fb_nn_list_size(const fb_module *list);

/* --- with parameters --- */

typedef struct fb_linear_options {
    bool no_bias;
    fb_module *tie; /**< use this layer's "weight", of shape [out, in] */
} fb_linear_options;

/** y = x W^T + b: [..., in] -> [..., out]. weight [out, in], bias [out]. */
FB_API FB_USE_RESULT fb_module *fb_nn_linear(fb_context *ctx, int64_t in, int64_t out,
                                             const fb_linear_options *opts);
/** [n, in, h, w] -> [n, out, h', w']. weight [out, in / groups, k, k], bias [out]. */
FB_API FB_USE_RESULT fb_module *fb_nn_conv2d(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                                             const fb_conv_options *opts);
/** [n, in, l] -> [n, out, l']. weight [out, in / groups, k], bias [out]. */
FB_API FB_USE_RESULT fb_module *fb_nn_conv1d(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                                             const fb_conv_options *opts);
/** [n, in, d, h, w] -> [n, out, d', h', w']. weight [out, in / groups, k, k, k], bias [out]. */
FB_API FB_USE_RESULT fb_module *fb_nn_conv3d(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                                             const fb_conv_options *opts);
/** Transposed: weight [in, out / groups, k], bias [out]; output_padding in the options. */
FB_API FB_USE_RESULT fb_module *fb_nn_conv_transpose1d(fb_context *ctx, int64_t in, int64_t out,
                                                       int64_t k, const fb_conv_options *opts);
/** The same of images. */
FB_API FB_USE_RESULT fb_module *fb_nn_conv_transpose2d(fb_context *ctx, int64_t in, int64_t out,
                                                       int64_t k, const fb_conv_options *opts);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_module *fb_nn_conv_transpose3d(fb_context *ctx, int64_t in, int64_t out,
                                                       int64_t k, const fb_conv_options *opts);

typedef struct fb_norm_options {
    double eps;      /**< 1e-5 */
    double momentum; /**< weight of the new batch in running statistics: 0.1 */
    bool no_affine;  /**< no weight and bias */
    bool no_stats;   /**< no running statistics: those of the batch in eval too */
    bool no_bias;
} fb_norm_options;

/** Normalise each channel over batch and space: [n, channels, h, w]. Ioffe, Szegedy:
 * arXiv:1502.03167. */
FB_API FB_USE_RESULT fb_module *fb_nn_batch_norm2d(fb_context *ctx, int64_t channels,
                                                   const fb_norm_options *opts);
/** The same for [n, channels] or [n, channels, length]. */
FB_API FB_USE_RESULT fb_module *fb_nn_batch_norm1d(fb_context *ctx, int64_t channels,
                                                   const fb_norm_options *opts);
/** Normalise the last `shape.n` dimensions. With two inputs and two outputs (fb_nn_forward_n) it is
 * fb_add_layer_norm: x and residual give y and x + residual. Ba, Kiros, Hinton: arXiv:1607.06450.
 */
FB_API FB_USE_RESULT fb_module *fb_nn_layer_norm(fb_context *ctx, fb_shape shape,
                                                 const fb_norm_options *opts);

typedef struct fb_embedding_options {
    fb_module *tie; /**< use this layer's "weight", of shape [n, dim] */
} fb_embedding_options;

/** Rows of a table: I32 or I64 [...] -> [..., dim]. weight [n, dim]. */
FB_API FB_USE_RESULT fb_module *fb_nn_embedding(fb_context *ctx, int64_t n, int64_t dim,
                                                const fb_embedding_options *opts);

/* --- without --- */

/** In training: zero elements with probability p, scale the others by 1 / (1 - p). */
FB_API FB_USE_RESULT fb_module *fb_nn_dropout(fb_context *ctx, double p);
/* Pools: a window of k in every dimension, stride 0 in the options is k. See ops/pool.h. */
/** The largest of each window of [n, c, l]. */
FB_API FB_USE_RESULT fb_module *fb_nn_max_pool1d(fb_context *ctx, int64_t k,
                                                 const fb_conv_options *opts);
/** The same of images. */
FB_API FB_USE_RESULT fb_module *fb_nn_max_pool2d(fb_context *ctx, int64_t k,
                                                 const fb_conv_options *opts);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_module *fb_nn_max_pool3d(fb_context *ctx, int64_t k,
                                                 const fb_conv_options *opts);
/** Means of windows of [n, c, l]. */
FB_API FB_USE_RESULT fb_module *fb_nn_avg_pool1d(fb_context *ctx, int64_t k,
                                                 const fb_conv_options *opts);
/** The same of images. */
FB_API FB_USE_RESULT fb_module *fb_nn_avg_pool2d(fb_context *ctx, int64_t k,
                                                 const fb_conv_options *opts);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_module *fb_nn_avg_pool3d(fb_context *ctx, int64_t k,
                                                 const fb_conv_options *opts);
/** (sum of x^norm)^(1 / norm) of windows of [n, c, l]. */
FB_API FB_USE_RESULT fb_module *fb_nn_lp_pool1d(fb_context *ctx, double norm, int64_t k,
                                                const fb_conv_options *opts);
/** The same of images. */
FB_API FB_USE_RESULT fb_module *fb_nn_lp_pool2d(fb_context *ctx, double norm, int64_t k,
                                                const fb_conv_options *opts);
/** Means over w cells of lines. */
FB_API FB_USE_RESULT fb_module *fb_nn_adaptive_avg_pool1d(fb_context *ctx, int64_t w);
/** Means over a grid of h x w cells. */
FB_API FB_USE_RESULT fb_module *fb_nn_adaptive_avg_pool2d(fb_context *ctx, int64_t h, int64_t w);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_module *fb_nn_adaptive_avg_pool3d(fb_context *ctx, int64_t d, int64_t h,
                                                          int64_t w);
/** The largest of w cells of lines. */
FB_API FB_USE_RESULT fb_module *fb_nn_adaptive_max_pool1d(fb_context *ctx, int64_t w);
/** The same of images. */
FB_API FB_USE_RESULT fb_module *fb_nn_adaptive_max_pool2d(fb_context *ctx, int64_t h, int64_t w);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_module *fb_nn_adaptive_max_pool3d(fb_context *ctx, int64_t d, int64_t h,
                                                          int64_t w);
/** Channels become r x r elements: fb_pixel_shuffle. */
FB_API FB_USE_RESULT fb_module *fb_nn_pixel_shuffle(fb_context *ctx, int64_t r);
/** r x r elements become channels: fb_pixel_unshuffle. */
FB_API FB_USE_RESULT fb_module *fb_nn_pixel_unshuffle(fb_context *ctx, int64_t r);
/** fb_interpolate to `size`, or (FB_ALL) by opts->scale. */
FB_API FB_USE_RESULT fb_module *fb_nn_upsample(fb_context *ctx, fb_shape size,
                                               const fb_interpolate_options *opts);
/** [n, ...] -> [n, product]. */
FB_API FB_USE_RESULT fb_module *fb_nn_flatten(fb_context *ctx);
/** max(x, 0). */
FB_API FB_USE_RESULT fb_module *fb_nn_relu(fb_context *ctx);
/** The exact one, by erf. */
FB_API FB_USE_RESULT fb_module *fb_nn_gelu(fb_context *ctx);
/** fb_gelu_tanh. */
FB_API FB_USE_RESULT fb_module *fb_nn_gelu_tanh(fb_context *ctx);
/** x * sigmoid(x). */
FB_API FB_USE_RESULT fb_module *fb_nn_silu(fb_context *ctx);
/** Hyperbolic tangent. */
FB_API FB_USE_RESULT fb_module *fb_nn_tanh(fb_context *ctx);
/** 1 / (1 + exp(-x)). */
FB_API FB_USE_RESULT fb_module *fb_nn_sigmoid(fb_context *ctx);
/** exp(x) / sum of exp(x) along `dim`, which may be negative. */
FB_API FB_USE_RESULT fb_module *fb_nn_softmax(fb_context *ctx, int dim);
/** x above 0, slope * x below. */
FB_API FB_USE_RESULT fb_module *fb_nn_leaky_relu(fb_context *ctx, double slope);

FB_END
#endif
