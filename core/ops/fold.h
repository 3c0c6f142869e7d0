/* Blocks of images as columns, and back. Local, not collective. */
#ifndef FLAMBEAU_CORE_OPS_FOLD_H
#define FLAMBEAU_CORE_OPS_FOLD_H

#include <flambeau/core/ops/conv.h>

FB_BEGIN

/**
 * Blocks of kh x kw elements of all channels as columns: torch.nn.functional.unfold.
 *
 * @param x    [N, C, H, W] or [C, H, W] of floats; padding is zeros
 * @param opts stride, padding and dilation; NULL: 1, 0 and 1
 * @return     [N, C kh kw, L] or [C kh kw, L], L the number of blocks (as of fb_conv2d), row by
 * row; NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG, FB_E_NOMEM
 */
FB_API FB_USE_RESULT fb_tensor *fb_im2col(fb_tensor *x, int64_t kh, int64_t kw,
                                          const fb_conv_options *opts);
/**
 * The transpose: columns are added where they come from: torch.nn.functional.fold.
 *
 * @param x  [N, C kh kw, L] or [C kh kw, L]
 * @param oh rows of the result; ow its columns
 * @return   [N, C, oh, ow] or [C, oh, ow], or NULL as above
 */
FB_API FB_USE_RESULT fb_tensor *fb_fold(fb_tensor *x, int64_t oh, int64_t ow, int64_t kh,
                                        int64_t kw, const fb_conv_options *opts);

FB_END
#endif
