/* Reductions over dimensions. `dims` lists them (negative counts from the end); FB_ALL: all.
 * keepdim leaves them in place with size 1. Sums have a fixed order: the bits depend neither on the
 * instruction set nor on the number of threads. Local, not collective. NULL on error. */
#ifndef FLAMBEAU_CORE_OPS_REDUCE_H
#define FLAMBEAU_CORE_OPS_REDUCE_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** Sum. Floats keep their dtype (F16 and BF16 are summed in F32); integers and BOOL give I64. */
FB_API FB_USE_RESULT fb_tensor *fb_sum(fb_tensor *x, fb_shape dims, bool keepdim);
/** Arithmetic mean of floats; NaN over no elements. */
FB_API FB_USE_RESULT fb_tensor *fb_mean(fb_tensor *x, fb_shape dims, bool keepdim);
/** Variance of floats, in two passes. unbiased: divided by n - 1 (torch's default), else by n. */
FB_API FB_USE_RESULT fb_tensor *fb_var(fb_tensor *x, fb_shape dims, bool unbiased, bool keepdim);
/** Largest value; NaN wins. Equal largest values share the gradient evenly, as torch.amax. */
FB_API FB_USE_RESULT fb_tensor *fb_amax(fb_tensor *x, fb_shape dims, bool keepdim);
/** Smallest value; NaN wins. */
FB_API FB_USE_RESULT fb_tensor *fb_amin(fb_tensor *x, fb_shape dims, bool keepdim);
/** BOOL: whether any element is not zero; false over no elements. */
FB_API FB_USE_RESULT fb_tensor *fb_any(fb_tensor *x, fb_shape dims, bool keepdim);
/** BOOL: whether every element is not zero; true over no elements. */
FB_API FB_USE_RESULT fb_tensor *fb_all(fb_tensor *x, fb_shape dims, bool keepdim);

FB_END
#endif
