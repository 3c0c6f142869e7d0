/* Channels and pixels in other places, as copies of any dtype, and tensors with a part of them
 * written anew. Negative dimensions count from the end. Errors: NULL, and the context keeps
 * FB_E_SHAPE or FB_E_ARG. Local, not collective. */
#ifndef FLAMBEAU_CORE_OPS_SHUFFLE_H
#define FLAMBEAU_CORE_OPS_SHUFFLE_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** [..., C r r, H, W] to [..., C, H r, W r]: each pixel becomes r x r of them. Shi et al.:
 * Real-time single image and video super-resolution, CVPR 2016. */
FB_API FB_USE_RESULT fb_tensor *fb_pixel_shuffle(fb_tensor *x, int64_t r);
/** Back again: [..., C, H r, W r] to [..., C r r, H, W]. */
FB_API FB_USE_RESULT fb_tensor *fb_pixel_unshuffle(fb_tensor *x, int64_t r);
/** [N, C, ...] with C = groups * n channels: channel g n + i moves to i groups + g. Zhang et al.:
 * ShuffleNet, CVPR 2018. */
FB_API FB_USE_RESULT fb_tensor *fb_channel_shuffle(fb_tensor *x, int64_t groups);

/** x with src as its slice `index` of a dimension. */
FB_API FB_USE_RESULT fb_tensor *fb_select_scatter(fb_tensor *x, fb_tensor *src, int dim,
                                                  int64_t index);
/** x with src in every step-th of the slices start .. end - 1 of a dimension; as in Python,
 * negative ends count from the end, and those beyond are the end. */
FB_API FB_USE_RESULT fb_tensor *fb_slice_scatter(fb_tensor *x, fb_tensor *src, int dim,
                                                 int64_t start, int64_t end, int64_t step);
/** x with src as what fb_diagonal would show. */
FB_API FB_USE_RESULT fb_tensor *fb_diagonal_scatter(fb_tensor *x, fb_tensor *src, int64_t offset,
                                                    int dim1, int dim2);

FB_END
#endif
