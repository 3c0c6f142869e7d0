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

FB_END
#endif
