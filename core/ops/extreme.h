/* Largest and smallest along one dimension, with where they are. The first of equal values counts,
 * NaN wins. keepdim leaves the dimension with size 1. Local, not collective. */
#ifndef FLAMBEAU_CORE_OPS_EXTREME_H
#define FLAMBEAU_CORE_OPS_EXTREME_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** values: dtype of x; indices: I64. Either may be NULL. The gradient goes to the chosen element.
 */
FB_API fb_status fb_max_dim(fb_tensor *x, int dim, bool keepdim, fb_tensor **values,
                            fb_tensor **indices);
/** The same for the smallest. */
FB_API fb_status fb_min_dim(fb_tensor *x, int dim, bool keepdim, fb_tensor **values,
                            fb_tensor **indices);
/** I64 index of the largest value. NULL on error. */
FB_API FB_USE_RESULT fb_tensor *fb_argmax(fb_tensor *x, int dim, bool keepdim);
/** I64 index of the smallest value. NULL on error. */
FB_API FB_USE_RESULT fb_tensor *fb_argmin(fb_tensor *x, int dim, bool keepdim);

/** I64 []: the place of the largest element of all, counted row by row; of equal ones the first. */
FB_API FB_USE_RESULT fb_tensor *fb_argmax_all(fb_tensor *x);
/** Of the smallest. */
FB_API FB_USE_RESULT fb_tensor *fb_argmin_all(fb_tensor *x);

FB_END
#endif
