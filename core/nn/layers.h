/* Layers. Weights are made at the model's first use; first values are PyTorch's. */
#ifndef FLAMBEAU_CORE_NN_LAYERS_H
#define FLAMBEAU_CORE_NN_LAYERS_H

#include <flambeau/core/nn/activations.h>
#include <flambeau/core/nn/module.h>
#include <flambeau/core/ops/conv.h>
#include <flambeau/core/ops/embedding.h>
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

/** No places yet, for modules with names; has no forward of its own. */
FB_API FB_USE_RESULT fb_module *fb_nn_dict(fb_context *ctx);
/** Add a module under a new name, without dots, before the first use; the dict owns it. */
FB_API fb_status fb_nn_dict_set(fb_module *dict, const char *name, fb_module *m);
/** The module of this name; NULL: FB_E_NOT_FOUND. */
FB_API fb_module *fb_nn_dict_at(fb_module *dict, const char *name);
/**
 * Parameters by themselves, named "0", "1", ...: tensors of the user's, whose values stay, or of
 * fb_nn_declare_param. fb_nn_param finds them. Has no forward of its own.
 */
FB_API FB_USE_RESULT fb_module *fb_nn_parameter_list(fb_context *ctx, fb_tensors params);
/** The same with names, without dots. */
FB_API FB_USE_RESULT fb_module *fb_nn_parameter_dict(fb_context *ctx, const char *const *names,
                                                     fb_tensors params);

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
    bool relu; /**< of batch norms: a ReLU of the result, in the same passes over memory */
} fb_norm_options;

/** Normalise each channel over batch and space: [n, channels, h, w]. With two inputs and one output
 * (fb_nn_forward_n) a residual of x's shape is added, before the ReLU if there is one: so a block
 * of a residual network ends (fb_batch_norm_relu). Ioffe, Szegedy: arXiv:1502.03167. */
FB_API FB_USE_RESULT fb_module *fb_nn_batch_norm2d(fb_context *ctx, int64_t channels,
                                                   const fb_norm_options *opts);
/** The same for [n, channels] or [n, channels, length]. */
FB_API FB_USE_RESULT fb_module *fb_nn_batch_norm1d(fb_context *ctx, int64_t channels,
                                                   const fb_norm_options *opts);
/** The same of volumes: [n, channels, d, h, w]. */
FB_API FB_USE_RESULT fb_module *fb_nn_batch_norm3d(fb_context *ctx, int64_t channels,
                                                   const fb_norm_options *opts);

typedef struct fb_instance_norm_options {
    double eps;      /**< 1e-5 */
    double momentum; /**< 0.1, of running statistics */
    bool affine;     /**< a weight and a bias [channels] */
    bool stats;      /**< running statistics (means over the batch), which eval uses */
} fb_instance_norm_options;
/** Normalise each channel of each sample: [n, channels, l], or of one sample [channels, l].
 * Ulyanov, Vedaldi, Lempitsky: arXiv:1607.08022. */
FB_API FB_USE_RESULT fb_module *fb_nn_instance_norm1d(fb_context *ctx, int64_t channels,
                                                      const fb_instance_norm_options *opts);
/** The same of images. */
FB_API FB_USE_RESULT fb_module *fb_nn_instance_norm2d(fb_context *ctx, int64_t channels,
                                                      const fb_instance_norm_options *opts);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_module *fb_nn_instance_norm3d(fb_context *ctx, int64_t channels,
                                                      const fb_instance_norm_options *opts);
/** Normalise `groups` groups of channels of each sample: [n, channels, ...]. Wu, He:
 * arXiv:1803.08494. */
FB_API FB_USE_RESULT fb_module *fb_nn_group_norm(fb_context *ctx, int64_t groups, int64_t channels,
                                                 const fb_norm_options *opts);
/** Divide by the root mean square of the last `shape.n` dimensions; eps 0: fb_rms_norm's. Zhang,
 * Sennrich: arXiv:1910.07467. */
FB_API FB_USE_RESULT fb_module *fb_nn_rms_norm(fb_context *ctx, fb_shape shape,
                                               const fb_norm_options *opts);
typedef struct fb_response_norm_options {
    double alpha; /**< 1e-4 */
    double beta;  /**< 0.75 */
    double k;     /**< 1 */
} fb_response_norm_options;
/** fb_local_response_norm over `size` channels. */
FB_API FB_USE_RESULT fb_module *fb_nn_local_response_norm(fb_context *ctx, int64_t size,
                                                          const fb_response_norm_options *opts);
/** Normalise the last `shape.n` dimensions. With two inputs and two outputs (fb_nn_forward_n) it is
 * fb_add_layer_norm: x and residual give y and x + residual. Ba, Kiros, Hinton: arXiv:1607.06450.
 */
FB_API FB_USE_RESULT fb_module *fb_nn_layer_norm(fb_context *ctx, fb_shape shape,
                                                 const fb_norm_options *opts);

typedef struct fb_embedding_options {
    fb_module *tie;        /**< use this layer's "weight", of shape [n, dim] */
    bool pads;             /**< row padding_index begins as zeros and gets no gradient */
    int64_t padding_index; /**< read if `pads`; negative ones count from the end */
} fb_embedding_options;

/** Rows of a table: I32 or I64 [...] -> [..., dim]. weight [n, dim]. */
FB_API FB_USE_RESULT fb_module *fb_nn_embedding(fb_context *ctx, int64_t n, int64_t dim,
                                                const fb_embedding_options *opts);

/** fb_embedding_bag: (index), (index, offsets) or (index, offsets, weights) give [bags, dim].
 * weight [n, dim]. The options' own `weights` are not read. */
FB_API FB_USE_RESULT fb_module *fb_nn_embedding_bag(fb_context *ctx, int64_t n, int64_t dim,
                                                    const fb_bag_options *opts);
/** y_k = a^T W_k b + bias_k: (a [..., in1], b [..., in2]) -> [..., out]. weight [out, in1, in2],
 * bias [out]; `tie` of the options is not read. */
FB_API FB_USE_RESULT fb_module *fb_nn_bilinear(fb_context *ctx, int64_t in1, int64_t in2,
                                               int64_t out, const fb_linear_options *opts);

/* --- without --- */

/** In training: zero elements with probability p, scale the others by 1 / (1 - p). */
FB_API FB_USE_RESULT fb_module *fb_nn_dropout(fb_context *ctx, double p);
/** fb_dropout1d: whole channels of [N, C, L] or [C, L]. */
FB_API FB_USE_RESULT fb_module *fb_nn_dropout1d(fb_context *ctx, double p);
/** The same of images. */
FB_API FB_USE_RESULT fb_module *fb_nn_dropout2d(fb_context *ctx, double p);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_module *fb_nn_dropout3d(fb_context *ctx, double p);
/** fb_alpha_dropout, for what SELU makes. */
FB_API FB_USE_RESULT fb_module *fb_nn_alpha_dropout(fb_context *ctx, double p);
/** fb_feature_alpha_dropout: the same of whole channels. */
FB_API FB_USE_RESULT fb_module *fb_nn_feature_alpha_dropout(fb_context *ctx, double p);
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
/** The same of volumes. */
FB_API FB_USE_RESULT fb_module *fb_nn_lp_pool3d(fb_context *ctx, double norm, int64_t k,
                                                const fb_conv_options *opts);
/* fb_nn_forward_n of fb_nn_max_pool1d .. 3d gives (values, indices) of (x); it takes (values,
 * indices) for these: */
/** The inverse of a max pool of the same k, stride and padding: zeros but for the values. */
FB_API FB_USE_RESULT fb_module *fb_nn_max_unpool1d(fb_context *ctx, int64_t k,
                                                   const fb_conv_options *opts);
/** The same of images. */
FB_API FB_USE_RESULT fb_module *fb_nn_max_unpool2d(fb_context *ctx, int64_t k,
                                                   const fb_conv_options *opts);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_module *fb_nn_max_unpool3d(fb_context *ctx, int64_t k,
                                                   const fb_conv_options *opts);
/** fb_fractional_max_pool: windows of k, a result of `output` (output.n = 2 or 3 sizes), or of
 * `ratio` times the size in each dimension (output = FB_ALL, 0 < ratio < 1). */
FB_API FB_USE_RESULT fb_module *fb_nn_fractional_max_pool(fb_context *ctx, fb_shape kernel,
                                                          fb_shape output, double ratio);
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
/** Dimensions from .. to (inclusive) become one. */
FB_API FB_USE_RESULT fb_module *fb_nn_flatten_dims(fb_context *ctx, int from, int to);
/** A dimension becomes several of these sizes; one may be -1. */
FB_API FB_USE_RESULT fb_module *fb_nn_unflatten(fb_context *ctx, int dim, fb_shape sizes);
/** x itself. */
FB_API FB_USE_RESULT fb_module *fb_nn_identity(fb_context *ctx);
/** fb_pad: torch's ZeroPad, ConstantPad, ReflectionPad, ReplicationPad and CircularPad of one, two
 * or three dimensions, by the number of pads. */
FB_API FB_USE_RESULT fb_module *fb_nn_pad(fb_context *ctx, fb_shape pads, fb_pad_mode mode,
                                          double value);
/** fb_channel_shuffle. */
FB_API FB_USE_RESULT fb_module *fb_nn_channel_shuffle(fb_context *ctx, int64_t groups);
/** fb_im2col: columns of blocks of kh x kw. */
FB_API FB_USE_RESULT fb_module *fb_nn_unfold(fb_context *ctx, int64_t kh, int64_t kw,
                                             const fb_conv_options *opts);
/** fb_fold: images of oh x ow of such columns. */
FB_API FB_USE_RESULT fb_module *fb_nn_fold(fb_context *ctx, int64_t oh, int64_t ow, int64_t kh,
                                           int64_t kw, const fb_conv_options *opts);

/* --- parameters that are computed --- */

/**
 * A module that calls m with the parameter `path` ("weight", "0.bias") computed anew in each call:
 * by `how`, a module of one input and one output, from the parameter as it was.
 *
 * The result owns both. Its names: "original" (what is trained in place of the parameter),
 * "layer.*" (the rest of m) and "parametrization.*" (the parameters and buffers of `how`). Made of
 * a result, a second one can compute "original", or another parameter of m ("layer.bias"). m is
 * made (fb_nn_materialize) and must be no child yet; a part of m must not be called by itself.
 *
 * @return NULL: FB_E_NOT_FOUND, FB_E_STATE if m is a child, FB_E_ARG if the parameter is tied
 * Source: torch.nn.utils.parametrize.register_parametrization.
 */
FB_API FB_USE_RESULT fb_module *fb_nn_parametrize(fb_module *m, const char *path, fb_module *how);
/**
 * The parameter is g v / |v|, of norms over all dimensions but dim (-1: over all): "original" is v,
 * "parametrization.g" its first norms, so nothing changes at first. PyTorch's dim is 0.
 * Salimans, Kingma: Weight Normalization, arXiv:1602.07868.
 */
FB_API FB_USE_RESULT fb_module *fb_nn_weight_norm(fb_module *m, const char *path, int dim);

typedef struct fb_spectral_norm_options {
    int dim;        /**< 0: of the rows; PyTorch takes 1 for transposed convolutions */
    int iterations; /**< of the power method in each call in training: 1 */
    double eps;     /**< least norm: 1e-12 */
} fb_spectral_norm_options;
/**
 * The parameter is divided by its largest singular value, as the power method estimates it with
 * the buffers "parametrization.u" and "parametrization.v"; a line by its norm. In eval the buffers
 * stay. opts may be NULL.
 * Miyato, Kataoka, Koyama, Yoshida: Spectral Normalization, arXiv:1802.05957.
 */
FB_API FB_USE_RESULT fb_module *fb_nn_spectral_norm(fb_module *m, const char *path,
                                                    const fb_spectral_norm_options *opts);
/** fb_cosine_similarity of (a, b) along `dim`; PyTorch: 1, 1e-8. */
FB_API FB_USE_RESULT fb_module *fb_nn_cosine_similarity(fb_context *ctx, int dim, double eps);
/** fb_pairwise_distance of (a, b); PyTorch: 2, 1e-6, false. */
FB_API FB_USE_RESULT fb_module *fb_nn_pairwise_distance(fb_context *ctx, double p, double eps,
                                                        bool keepdim);

FB_END
#endif
