/* Operators of three operands, blends, masks and other compositions of pointwise operators. They
 * have the derivatives of their parts; F16 and BF16 are computed in F32 and rounded once.
 * Broadcasting and promotion as in PyTorch. NULL on error. Local, not collective. */
#ifndef FLAMBEAU_CORE_OPS_BLEND_H
#define FLAMBEAU_CORE_OPS_BLEND_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** x + value * a * b. */
FB_API FB_USE_RESULT fb_tensor *fb_addcmul(fb_tensor *x, fb_tensor *a, fb_tensor *b, double value);
/** x + value * a / b, of floats. */
FB_API FB_USE_RESULT fb_tensor *fb_addcdiv(fb_tensor *x, fb_tensor *a, fb_tensor *b, double value);
/** start + weight * (end - start), of floats. */
FB_API FB_USE_RESULT fb_tensor *fb_lerp(fb_tensor *start, fb_tensor *end, fb_tensor *weight);
/** The same with one weight for all. */
FB_API FB_USE_RESULT fb_tensor *fb_lerp_scalar(fb_tensor *start, fb_tensor *end, double weight);
/** x, limited from below by lo and then from above by hi; one of them may be NULL. */
FB_API FB_USE_RESULT fb_tensor *fb_clamp_tensor(fb_tensor *x, fb_tensor *lo, fb_tensor *hi);
/** value where the mask (BOOL) is set, x elsewhere, in the dtype of x. */
FB_API FB_USE_RESULT fb_tensor *fb_masked_fill(fb_tensor *x, fb_tensor *mask, double value);
/** NaN becomes `nan`; inf and -inf become `posinf` and `neginf`, or, if those are infinite, the
 * largest and smallest numbers of the dtype. */
FB_API FB_USE_RESULT fb_tensor *fb_nan_to_num(fb_tensor *x, double nan, double posinf,
                                              double neginf);
/** Gated linear unit: the first half along dim times the sigmoid of the second. arXiv:1612.08083.
 */
FB_API FB_USE_RESULT fb_tensor *fb_glu(fb_tensor *x, int dim);
/** Softmax of -x along dim. */
FB_API FB_USE_RESULT fb_tensor *fb_softmin(fb_tensor *x, int dim);
/** a * 2^b; floats. */
FB_API FB_USE_RESULT fb_tensor *fb_ldexp(fb_tensor *a, fb_tensor *b);
/** a to the power b, both as F64. */
FB_API FB_USE_RESULT fb_tensor *fb_float_power(fb_tensor *a, fb_tensor *b);
/** All bits turned; of BOOL: not. Floats are refused. */
FB_API FB_USE_RESULT fb_tensor *fb_bitwise_not(fb_tensor *x);
/** BOOL: |a - b| <= atol + rtol |b|, or equal (infinities); equal_nan: or both NaN. No gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_isclose(fb_tensor *a, fb_tensor *b, double rtol, double atol,
                                           bool equal_nan);

/** fb_masked_fill with the element of a tensor without dimensions, which gets a gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_masked_fill_tensor(fb_tensor *x, fb_tensor *mask,
                                                      fb_tensor *value);
/** x where cond (BOOL), a number elsewhere; integers stay if the number is one. */
FB_API FB_USE_RESULT fb_tensor *fb_where_scalar(fb_tensor *cond, fb_tensor *x, double value);
/** Logarithm of the gamma function of p dimensions: p (p - 1) / 4 log(pi) + the sum of
 * lgamma(x - (j - 1) / 2) for j = 1 .. p. */
FB_API FB_USE_RESULT fb_tensor *fb_mvlgamma(fb_tensor *x, int p);
/** Whether all elements are close (fb_isclose); waits for the device. False on error. */
FB_API bool fb_allclose(fb_tensor *a, fb_tensor *b, double rtol, double atol, bool equal_nan);
/** Whether two tensors have the same shape and equal elements; waits for the device. False on
 * error. */
FB_API bool fb_equal(fb_tensor *a, fb_tensor *b);

FB_END
#endif
