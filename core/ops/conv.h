/* Convolutions. Tensors are logically [N, C, H, W]; results lie in memory as [N, H, W, C]. */
#ifndef FLAMBEAU_CORE_OPS_CONV_H
#define FLAMBEAU_CORE_OPS_CONV_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** Of convolutions and of pooling. Zero in every field is the default. */
typedef struct fb_conv_options {
    int64_t stride[3];   /**< 0: 1; if only stride[0] is given it holds for every dimension */
    int64_t padding[3];  /**< zeros on both sides; if only padding[0] is given it holds for all;
                              FB_ZERO_INT: really none in this dimension */
    int64_t dilation[3]; /**< 0: 1; like stride */
    int64_t groups;      /**< 0: 1; must divide the channels on both sides */
    bool no_bias;        /**< read by modules only */
} fb_conv_options;

/**
 * Cross-correlation of images with a bank of filters, plus a bias per output channel.
 *
 * @param x    [N, C, H, W] of floats, any strides
 * @param w    [K, C / groups, kh, kw]
 * @param b    [K] or NULL
 * @param opts NULL: stride 1, no padding, no dilation, one group
 * @return     [N, K, OH, OW], OH = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1,
 *             or NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG, FB_E_NOMEM
 */
FB_API FB_USE_RESULT fb_tensor *fb_conv2d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                                          const fb_conv_options *opts);

/**
 * relu(fb_conv2d(x, w, b, opts)) in one pass over the result; its backward makes the gradients of
 * the ReLU and of b in one, too. fb_nn_sequential calls it for a Conv2d before a ReLU.
 *
 * @return as above
 */
FB_API FB_USE_RESULT fb_tensor *fb_conv2d_relu(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                                               const fb_conv_options *opts);

/**
 * The transpose of fb_conv2d in x: stride enlarges the image.
 *
 * @param x [N, K, H, W]
 * @param w [K, C / groups, kh, kw]
 * @param b [C] or NULL
 * @return  [N, C, OH, OW], OH = (H - 1) stride - 2 padding + dilation (kh - 1) + 1, or NULL as
 * above
 */
FB_API FB_USE_RESULT fb_tensor *fb_conv_transpose2d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                                                    const fb_conv_options *opts);

FB_END
#endif
