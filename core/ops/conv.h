/* Convolutions. Tensors are logically [N, C, H, W]; results lie in memory as [N, H, W, C]. */
#ifndef FLAMBEAU_CORE_OPS_CONV_H
#define FLAMBEAU_CORE_OPS_CONV_H

#include <flambeau/core/ops/arrange.h>

FB_BEGIN

/** Of convolutions and of pooling. Zero in every field is the default. */
typedef struct fb_conv_options {
    int64_t stride[3];   /**< 0: 1, of pools the window; if only stride[0] is given it holds for
                              every dimension */
    int64_t padding[3];  /**< zeros on both sides; if only padding[0] is given it holds for all;
                              FB_ZERO_INT: really none in this dimension */
    int64_t dilation[3]; /**< 0: 1; like stride */
    int64_t groups;      /**< 0: 1; must divide the channels on both sides */
    bool no_bias;        /**< read by modules only */
    bool same;           /**< torch's padding="same": the result has the size of the input; needs a
                              stride of 1. torch's "valid" is no padding */
    fb_pad_mode padding_mode;  /**< read by modules only: what the padding is instead of zeros */
    int64_t output_padding[3]; /**< of transposed convolutions: more elements at the end, less than
                                    the stride or the dilation */
    bool ceil_mode;            /**< of pools: a last window may hang over the end */
    bool exclude_pad; /**< of means: padding is not counted (torch's count_include_pad=False) */
    int64_t divisor;  /**< of means: sums are divided by it (torch's divisor_override) */
} fb_conv_options;

/**
 * Cross-correlation of images with a bank of filters, plus a bias per output channel.
 *
 * @param x    [N, C, H, W] or [C, H, W], any dtype but BOOL, any strides
 * @param w    [K, C / groups, kh, kw], same dtype, as b
 * @param b    [K] or NULL
 * @param opts NULL: stride 1, no padding, no dilation, one group
 * @return     [N, K, OH, OW], OH = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1,
 *             or NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG, FB_E_NOMEM
 */
FB_API FB_USE_RESULT fb_tensor *fb_conv2d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                                          const fb_conv_options *opts);
/** The same of lines [N, C, L] or [C, L], w [K, C / groups, k]: fb_conv2d of images of one row. */
FB_API FB_USE_RESULT fb_tensor *fb_conv1d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                                          const fb_conv_options *opts);
/** The same of volumes [N, C, D, H, W] or [C, D, H, W], w [K, C / groups, kd, kh, kw]: fb_conv2d of
 * slices whose channels are those of the kd slices of a window, which takes memory for kd copies of
 * x. */
FB_API FB_USE_RESULT fb_tensor *fb_conv3d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
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
 * @param x [N, K, H, W] or [K, H, W]
 * @param w [K, C / groups, kh, kw]
 * @param b [C] or NULL
 * @return  [N, C, OH, OW], OH = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding +
 * 1, or NULL as above
 */
FB_API FB_USE_RESULT fb_tensor *fb_conv_transpose2d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                                                    const fb_conv_options *opts);
/** That of fb_conv1d. */
FB_API FB_USE_RESULT fb_tensor *fb_conv_transpose1d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                                                    const fb_conv_options *opts);
/** That of fb_conv3d; of floats. */
FB_API FB_USE_RESULT fb_tensor *fb_conv_transpose3d(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                                                    const fb_conv_options *opts);

FB_END
#endif
