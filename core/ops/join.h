/* Joining tensors. Local, not collective. NULL on error. */
#ifndef FLAMBEAU_CORE_OPS_JOIN_H
#define FLAMBEAU_CORE_OPS_JOIN_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** One after the other along `dim`: same sizes except along dim, dtypes are promoted. Any number of
 * inputs >= 1. */
FB_API FB_USE_RESULT fb_tensor *fb_cat(fb_tensors x, int dim);
/** Side by side in a new dimension `dim` of size x.n: same shape, dtypes are promoted. */
FB_API FB_USE_RESULT fb_tensor *fb_stack(fb_tensors x, int dim);
/** Along dimension 1; of vectors and scalars along 0. */
FB_API FB_USE_RESULT fb_tensor *fb_hstack(fb_tensors x);
/** Along dimension 0, vectors as rows (fb_atleast_2d). */
FB_API FB_USE_RESULT fb_tensor *fb_vstack(fb_tensors x);
/** Along dimension 2 (fb_atleast_3d). */
FB_API FB_USE_RESULT fb_tensor *fb_dstack(fb_tensors x);
/** Along dimension 1, vectors as columns. */
FB_API FB_USE_RESULT fb_tensor *fb_column_stack(fb_tensors x);

FB_END
#endif
