/* Pooling of images [N, C, H, W]; results lie in memory as [N, H, W, C]. */
#ifndef FLAMBEAU_CORE_OPS_POOL_H
#define FLAMBEAU_CORE_OPS_POOL_H

#include <flambeau/core/ops/conv.h>

FB_BEGIN

/**
 * The largest element of each window; NaN wins. Padding is never chosen.
 *
 * @param x    [N, C, H, W] of floats
 * @param kh   rows of the window; kw its columns
 * @param opts stride 0 is the window's size; padding at most half of the window; NULL: defaults
 * @return     [N, C, OH, OW], OH = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1, or NULL:
 *             FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG, FB_E_NOMEM
 */
FB_API FB_USE_RESULT fb_tensor *fb_max_pool2d(fb_tensor *x, int64_t kh, int64_t kw,
                                              const fb_conv_options *opts);
/** The mean of each window, padding counted as zeros. Dilation is not accepted. */
FB_API FB_USE_RESULT fb_tensor *fb_avg_pool2d(fb_tensor *x, int64_t kh, int64_t kw,
                                              const fb_conv_options *opts);
/** Means over a grid of oh x ow cells, cell i from floor(i H / oh) to ceil((i + 1) H / oh). */
FB_API FB_USE_RESULT fb_tensor *fb_adaptive_avg_pool2d(fb_tensor *x, int64_t oh, int64_t ow);

FB_END
#endif
