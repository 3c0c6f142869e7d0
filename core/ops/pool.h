/* Pooling of lines [N, C, L], images [N, C, H, W] and volumes [N, C, D, H, W], also without N;
 * results lie in memory as channels-last. NULL, or a status, on error: FB_E_SHAPE, FB_E_DTYPE,
 * FB_E_ARG, FB_E_NOMEM. Local, not collective. */
#ifndef FLAMBEAU_CORE_OPS_POOL_H
#define FLAMBEAU_CORE_OPS_POOL_H

#include <flambeau/core/ops/conv.h>

FB_BEGIN

/**
 * The largest element of each window; NaN wins. Padding is never chosen.
 *
 * @param x    [N, C, H, W], any dtype but BOOL
 * @param kh   rows of the window; kw its columns
 * @param opts stride 0 is the window's size; padding at most half of the window; dilation,
 * ceil_mode; NULL: defaults
 * @return     [N, C, OH, OW], OH = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1
 */
FB_API FB_USE_RESULT fb_tensor *fb_max_pool2d(fb_tensor *x, int64_t kh, int64_t kw,
                                              const fb_conv_options *opts);
/** The same of lines. */
FB_API FB_USE_RESULT fb_tensor *fb_max_pool1d(fb_tensor *x, int64_t k, const fb_conv_options *opts);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_tensor *fb_max_pool3d(fb_tensor *x, int64_t kd, int64_t kh, int64_t kw,
                                              const fb_conv_options *opts);
/** The same of kernel.n = 1, 2 or 3 dimensions, and (I64) where each element was in its line, image
 * or volume, row by row. Either may be NULL. */
FB_API fb_status fb_max_pool_with_indices(fb_tensor *x, fb_shape kernel,
                                          const fb_conv_options *opts, fb_tensor **values,
                                          fb_tensor **indices);
/** Its inverse: floats x at their places in zeros of output.n sizes. Of equal places the last
 * counts; one out of range is FB_E_ARG. */
FB_API FB_USE_RESULT fb_tensor *fb_max_unpool(fb_tensor *x, fb_tensor *indices, fb_shape output);

/** The mean of each window of floats, padding counted as zeros unless exclude_pad; ceil_mode,
 * divisor. Dilation is not accepted. */
FB_API FB_USE_RESULT fb_tensor *fb_avg_pool2d(fb_tensor *x, int64_t kh, int64_t kw,
                                              const fb_conv_options *opts);
/** The same of lines. */
FB_API FB_USE_RESULT fb_tensor *fb_avg_pool1d(fb_tensor *x, int64_t k, const fb_conv_options *opts);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_tensor *fb_avg_pool3d(fb_tensor *x, int64_t kd, int64_t kh, int64_t kw,
                                              const fb_conv_options *opts);
/** (sum of x^norm)^(1 / norm) over windows of kernel.n = 1, 2 or 3 dimensions; stride, ceil_mode.
 */
FB_API FB_USE_RESULT fb_tensor *fb_lp_pool(fb_tensor *x, double norm, fb_shape kernel,
                                           const fb_conv_options *opts);

/* A grid of cells; cell i from floor(i H / oh) to ceil((i + 1) H / oh). -1: as many as the size. */
/** Means of oh x ow cells of floats. */
FB_API FB_USE_RESULT fb_tensor *fb_adaptive_avg_pool2d(fb_tensor *x, int64_t oh, int64_t ow);
/** The same of lines. */
FB_API FB_USE_RESULT fb_tensor *fb_adaptive_avg_pool1d(fb_tensor *x, int64_t ow);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_tensor *fb_adaptive_avg_pool3d(fb_tensor *x, int64_t od, int64_t oh,
                                                       int64_t ow);
/** The largest of each of oh x ow cells. */
FB_API FB_USE_RESULT fb_tensor *fb_adaptive_max_pool2d(fb_tensor *x, int64_t oh, int64_t ow);
/** The same of lines. */
FB_API FB_USE_RESULT fb_tensor *fb_adaptive_max_pool1d(fb_tensor *x, int64_t ow);
/** The same of volumes. */
FB_API FB_USE_RESULT fb_tensor *fb_adaptive_max_pool3d(fb_tensor *x, int64_t od, int64_t oh,
                                                       int64_t ow);
/** The same of output.n = 1, 2 or 3 dimensions, and where each was; either may be NULL. */
FB_API fb_status fb_adaptive_max_pool_with_indices(fb_tensor *x, fb_shape output,
                                                   fb_tensor **values, fb_tensor **indices);
/**
 * The largest of windows at random distances, whose steps differ by at most one: kernel.n = 2 or 3
 * dimensions of floats, output.n sizes. Either result may be NULL.
 *
 * @param samples [N, C, kernel.n] in [0, 1), same dtype, in PyTorch's order; NULL: drawn
 * Graham: Fractional max-pooling, arXiv:1412.6071.
 */
FB_API fb_status fb_fractional_max_pool(fb_tensor *x, fb_shape kernel, fb_shape output,
                                        fb_tensor *samples, fb_tensor **values,
                                        fb_tensor **indices);

FB_END
#endif
