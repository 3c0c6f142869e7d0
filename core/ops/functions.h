/* Mathematical functions, further activations, remainders, logic and bits. As in pointwise.h: any
 * layout, F16 and BF16 computed in F32, derivatives of first and second order, broadcasting and
 * promotion of two tensors as in PyTorch. Integers give F32 where nothing else is said; trunc,
 * ceil, floor, round, sign, positive, hardtanh, relu6, threshold, fmod, remainder, floor_divide,
 * heaviside, fmax, fmin, clamp_min and clamp_max keep them. Special functions (erfinv, digamma,
 * polygamma, i0, sinc; on the CPU lgamma) are computed in F64. Errors: NULL, and the context keeps
 * FB_E_SHAPE, FB_E_DTYPE, or FB_E_ARG for a scalar that the function refuses. Local, not
 * collective. Formulas: one row each in functions.def. */
#ifndef FLAMBEAU_CORE_OPS_FUNCTIONS_H
#define FLAMBEAU_CORE_OPS_FUNCTIONS_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** 2 to the x. */
FB_API FB_USE_RESULT fb_tensor *fb_exp2(fb_tensor *x);
/** exp(x) - 1, exact near 0. */
FB_API FB_USE_RESULT fb_tensor *fb_expm1(fb_tensor *x);
/** logarithm to the base 2. */
FB_API FB_USE_RESULT fb_tensor *fb_log2(fb_tensor *x);
/** logarithm to the base 10. */
FB_API FB_USE_RESULT fb_tensor *fb_log10(fb_tensor *x);
/** log(sigmoid(x)), without overflow. */
FB_API FB_USE_RESULT fb_tensor *fb_logsigmoid(fb_tensor *x);
/** tangent. */
FB_API FB_USE_RESULT fb_tensor *fb_tan(fb_tensor *x);
/** arc sine; NaN beyond 1, as the other inverses outside of their ranges. */
FB_API FB_USE_RESULT fb_tensor *fb_asin(fb_tensor *x);
/** arc cosine. */
FB_API FB_USE_RESULT fb_tensor *fb_acos(fb_tensor *x);
/** arc tangent. */
FB_API FB_USE_RESULT fb_tensor *fb_atan(fb_tensor *x);
/** hyperbolic sine. */
FB_API FB_USE_RESULT fb_tensor *fb_sinh(fb_tensor *x);
/** hyperbolic cosine. */
FB_API FB_USE_RESULT fb_tensor *fb_cosh(fb_tensor *x);
/** inverse hyperbolic sine. */
FB_API FB_USE_RESULT fb_tensor *fb_asinh(fb_tensor *x);
/** inverse hyperbolic cosine. */
FB_API FB_USE_RESULT fb_tensor *fb_acosh(fb_tensor *x);
/** inverse hyperbolic tangent. */
FB_API FB_USE_RESULT fb_tensor *fb_atanh(fb_tensor *x);
/** sin(pi x) / (pi x), 1 at 0. */
FB_API FB_USE_RESULT fb_tensor *fb_sinc(fb_tensor *x);
/** degrees to radians. */
FB_API FB_USE_RESULT fb_tensor *fb_deg2rad(fb_tensor *x);
/** radians to degrees. */
FB_API FB_USE_RESULT fb_tensor *fb_rad2deg(fb_tensor *x);
/** 1 - erf(x), exact for large x. */
FB_API FB_USE_RESULT fb_tensor *fb_erfc(fb_tensor *x);
/** the inverse of erf; infinite at -1 and 1. */
FB_API FB_USE_RESULT fb_tensor *fb_erfinv(fb_tensor *x);
/** logarithm of |gamma(x)|. */
FB_API FB_USE_RESULT fb_tensor *fb_lgamma(fb_tensor *x);
/** derivative of lgamma; NaN at negative integers. */
FB_API FB_USE_RESULT fb_tensor *fb_digamma(fb_tensor *x);
/** n-th derivative of digamma, n from 0 to 100. */
FB_API FB_USE_RESULT fb_tensor *fb_polygamma(int n, fb_tensor *x);
/** modified Bessel function of the first kind, order 0. */
FB_API FB_USE_RESULT fb_tensor *fb_i0(fb_tensor *x);
/** distribution function of the normal distribution. */
FB_API FB_USE_RESULT fb_tensor *fb_ndtr(fb_tensor *x);
/** -x log(x), 0 at 0, -inf below. */
FB_API FB_USE_RESULT fb_tensor *fb_entr(fb_tensor *x);
/** towards 0. Rounding has the gradient 0 and keeps integers. */
FB_API FB_USE_RESULT fb_tensor *fb_trunc(fb_tensor *x);
/** up. */
FB_API FB_USE_RESULT fb_tensor *fb_ceil(fb_tensor *x);
/** down. */
FB_API FB_USE_RESULT fb_tensor *fb_floor(fb_tensor *x);
/** to the nearest integer, halves to the even one. */
FB_API FB_USE_RESULT fb_tensor *fb_round(fb_tensor *x);
/** x - trunc(x). */
FB_API FB_USE_RESULT fb_tensor *fb_frac(fb_tensor *x);
/** -1, 0 or 1; gradient 0. */
FB_API FB_USE_RESULT fb_tensor *fb_sign(fb_tensor *x);
/** x itself, computed. */
FB_API FB_USE_RESULT fb_tensor *fb_positive(fb_tensor *x);
/** x * relu6(x + 3) / 6. */
FB_API FB_USE_RESULT fb_tensor *fb_hardswish(fb_tensor *x);
/** relu6(x + 3) / 6. */
FB_API FB_USE_RESULT fb_tensor *fb_hardsigmoid(fb_tensor *x);
/** x, limited to [0, 6]; gradient 0 on the limits. */
FB_API FB_USE_RESULT fb_tensor *fb_relu6(fb_tensor *x);
/** x * tanh(softplus(x)). */
FB_API FB_USE_RESULT fb_tensor *fb_mish(fb_tensor *x);
/** x / (1 + |x|). */
FB_API FB_USE_RESULT fb_tensor *fb_softsign(fb_tensor *x);
/** scaled ELU with the constants of self-normalising networks, arXiv:1706.02515. */
FB_API FB_USE_RESULT fb_tensor *fb_selu(fb_tensor *x);
/** x - tanh(x). */
FB_API FB_USE_RESULT fb_tensor *fb_tanhshrink(fb_tensor *x);
/** x above 0, alpha * (exp(x / alpha) - 1) below; alpha is not 0. */
FB_API FB_USE_RESULT fb_tensor *fb_celu(fb_tensor *x, double alpha);
/** x, but 0 within [-lambda, lambda]. */
FB_API FB_USE_RESULT fb_tensor *fb_hardshrink(fb_tensor *x, double lambda);
/** x moved towards 0 by lambda, 0 within [-lambda, lambda]; lambda is not negative. */
FB_API FB_USE_RESULT fb_tensor *fb_softshrink(fb_tensor *x, double lambda);
/** log(x / (1 - x)), of x limited to [eps, 1 - eps]; eps below 0: not limited. */
FB_API FB_USE_RESULT fb_tensor *fb_logit(fb_tensor *x, double eps);
/** x, limited to [lo, hi]; unlike fb_clamp, gradient 0 on the limits. */
FB_API FB_USE_RESULT fb_tensor *fb_hardtanh(fb_tensor *x, double lo, double hi);
/** x above the limit, elsewhere the value. */
FB_API FB_USE_RESULT fb_tensor *fb_threshold(fb_tensor *x, double limit, double value);

/** angle of the point (b, a), in (-pi, pi]. */
FB_API FB_USE_RESULT fb_tensor *fb_atan2(fb_tensor *a, fb_tensor *b);
/** sqrt(a^2 + b^2). */
FB_API FB_USE_RESULT fb_tensor *fb_hypot(fb_tensor *a, fb_tensor *b);
/** remainder with the sign of a. Integers are kept; on a CPU a divisor 0 of integers is refused, on
 * a card it counts as an infinite one. */
FB_API FB_USE_RESULT fb_tensor *fb_fmod(fb_tensor *a, fb_tensor *b);
/** remainder with the sign of b; integers as fb_fmod. */
FB_API FB_USE_RESULT fb_tensor *fb_remainder(fb_tensor *a, fb_tensor *b);
/** floor(a / b), of F32 and F64 as exactly as fb_remainder; integers as fb_fmod. */
FB_API FB_USE_RESULT fb_tensor *fb_floor_divide(fb_tensor *a, fb_tensor *b);
/** |a| with the sign of b. */
FB_API FB_USE_RESULT fb_tensor *fb_copysign(fb_tensor *a, fb_tensor *b);
/** log(exp(a) + exp(b)), without overflow. */
FB_API FB_USE_RESULT fb_tensor *fb_logaddexp(fb_tensor *a, fb_tensor *b);
/** log2(2^a + 2^b). */
FB_API FB_USE_RESULT fb_tensor *fb_logaddexp2(fb_tensor *a, fb_tensor *b);
/** a * log(b), 0 where a is 0 and b is no NaN. */
FB_API FB_USE_RESULT fb_tensor *fb_xlogy(fb_tensor *a, fb_tensor *b);
/** a * log(1 + b), 0 where a is 0 and b is no NaN. */
FB_API FB_USE_RESULT fb_tensor *fb_xlog1py(fb_tensor *a, fb_tensor *b);
/** 0 below 0, 1 above, b where a is 0. */
FB_API FB_USE_RESULT fb_tensor *fb_heaviside(fb_tensor *a, fb_tensor *b);
/** the larger one; a number wins over NaN. */
FB_API FB_USE_RESULT fb_tensor *fb_fmax(fb_tensor *a, fb_tensor *b);
/** the smaller one; a number wins over NaN. */
FB_API FB_USE_RESULT fb_tensor *fb_fmin(fb_tensor *a, fb_tensor *b);
/** the larger one; NaN wins; equal ones share the gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_clamp_min(fb_tensor *a, fb_tensor *b);
/** the smaller one; NaN wins; equal ones share the gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_clamp_max(fb_tensor *a, fb_tensor *b);
/** a above 0, b * a elsewhere; b is the slope, broadcast to a. */
FB_API FB_USE_RESULT fb_tensor *fb_prelu(fb_tensor *a, fb_tensor *b);
/** -(b log a + (1 - b) log(1 - a)) of probabilities a and b; logarithms are at least -100. The
 * elements of fb_binary_cross_entropy. */
FB_API FB_USE_RESULT fb_tensor *fb_bce(fb_tensor *a, fb_tensor *b);
/** The same of sigmoid(a), exact for large a. */
FB_API FB_USE_RESULT fb_tensor *fb_bce_with_logits(fb_tensor *a, fb_tensor *b);
/** a and b; of BOOL too. Bitwise operators refuse floats. */
FB_API FB_USE_RESULT fb_tensor *fb_bitwise_and(fb_tensor *a, fb_tensor *b);
/** a or b. */
FB_API FB_USE_RESULT fb_tensor *fb_bitwise_or(fb_tensor *a, fb_tensor *b);
/** a or b, not both. */
FB_API FB_USE_RESULT fb_tensor *fb_bitwise_xor(fb_tensor *a, fb_tensor *b);
/** a * 2^b; not of BOOL. 0 for b below 0. */
FB_API FB_USE_RESULT fb_tensor *fb_bitwise_left_shift(fb_tensor *a, fb_tensor *b);
/** a / 2^b, rounded down; not of BOOL. -1 or 0 for b below 0. */
FB_API FB_USE_RESULT fb_tensor *fb_bitwise_right_shift(fb_tensor *a, fb_tensor *b);
/** greatest common divisor, not negative; of integers. */
FB_API FB_USE_RESULT fb_tensor *fb_gcd(fb_tensor *a, fb_tensor *b);
/** least common multiple, not negative; of integers. */
FB_API FB_USE_RESULT fb_tensor *fb_lcm(fb_tensor *a, fb_tensor *b);

/* BOOL, no gradient; NaN is not 0. */
/** Whether both are not 0. */
FB_API FB_USE_RESULT fb_tensor *fb_logical_and(fb_tensor *a, fb_tensor *b);
/** Whether one is not 0. */
FB_API FB_USE_RESULT fb_tensor *fb_logical_or(fb_tensor *a, fb_tensor *b);
/** Whether one is not 0 and the other is. */
FB_API FB_USE_RESULT fb_tensor *fb_logical_xor(fb_tensor *a, fb_tensor *b);
/** Whether x is 0. */
FB_API FB_USE_RESULT fb_tensor *fb_logical_not(fb_tensor *x);
/** Whether x is NaN. */
FB_API FB_USE_RESULT fb_tensor *fb_isnan(fb_tensor *x);
/** Whether x is infinite. */
FB_API FB_USE_RESULT fb_tensor *fb_isinf(fb_tensor *x);
/** Whether x is neither infinite nor NaN. */
FB_API FB_USE_RESULT fb_tensor *fb_isfinite(fb_tensor *x);
/** Whether x is inf. */
FB_API FB_USE_RESULT fb_tensor *fb_isposinf(fb_tensor *x);
/** Whether x is -inf. */
FB_API FB_USE_RESULT fb_tensor *fb_isneginf(fb_tensor *x);
/** Whether the sign of x is negative, that of -0 too. */
FB_API FB_USE_RESULT fb_tensor *fb_signbit(fb_tensor *x);

FB_END
#endif
