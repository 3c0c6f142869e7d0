/* Pointwise operators. Inputs of any layout; the result keeps a dense layout. F16 and BF16 are
 * computed in F32. Integers are kept by neg, relu, abs, square, clamp, add, sub, mul, pow, maximum,
 * minimum and by add_scalar, mul_scalar, pow_scalar, whose scalar must then be an integer; they
 * wrap around, and of one BOOL operand they make I64. Other operators give F32 for integers.
 * Derivatives of first and second order; of third order where composed of others.
 *
 * With two tensors, shapes are broadcast and dtypes promoted as in PyTorch. Errors: NULL, and the
 * context keeps FB_E_SHAPE or FB_E_DTYPE. Formulas: one row each in ops.def. */
#ifndef FLAMBEAU_CORE_OPS_POINTWISE_H
#define FLAMBEAU_CORE_OPS_POINTWISE_H

#include <flambeau/core/ops/cast.h>

FB_BEGIN

/** -x. */
FB_API FB_USE_RESULT fb_tensor *fb_neg(fb_tensor *x);
/** e to the x. */
FB_API FB_USE_RESULT fb_tensor *fb_exp(fb_tensor *x);
/** natural logarithm. */
FB_API FB_USE_RESULT fb_tensor *fb_log(fb_tensor *x);
/** log(1 + x). */
FB_API FB_USE_RESULT fb_tensor *fb_log1p(fb_tensor *x);
/** square root. */
FB_API FB_USE_RESULT fb_tensor *fb_sqrt(fb_tensor *x);
/** 1 / sqrt(x). */
FB_API FB_USE_RESULT fb_tensor *fb_rsqrt(fb_tensor *x);
/** 1 / x. */
FB_API FB_USE_RESULT fb_tensor *fb_reciprocal(fb_tensor *x);
/** sine. */
FB_API FB_USE_RESULT fb_tensor *fb_sin(fb_tensor *x);
/** cosine. */
FB_API FB_USE_RESULT fb_tensor *fb_cos(fb_tensor *x);
/** hyperbolic tangent. */
FB_API FB_USE_RESULT fb_tensor *fb_tanh(fb_tensor *x);
/** error function. */
FB_API FB_USE_RESULT fb_tensor *fb_erf(fb_tensor *x);
/** 1 / (1 + exp(-x)). */
FB_API FB_USE_RESULT fb_tensor *fb_sigmoid(fb_tensor *x);
/** max(x, 0); NaN stays. */
FB_API FB_USE_RESULT fb_tensor *fb_relu(fb_tensor *x);
/** x times the normal distribution function, by erf. */
FB_API FB_USE_RESULT fb_tensor *fb_gelu(fb_tensor *x);
/** 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), close to fb_gelu, as GPT-2 has it. */
FB_API FB_USE_RESULT fb_tensor *fb_gelu_tanh(fb_tensor *x);
/** x * sigmoid(x). */
FB_API FB_USE_RESULT fb_tensor *fb_silu(fb_tensor *x);
/** log(1 + exp(x)), without overflow. */
FB_API FB_USE_RESULT fb_tensor *fb_softplus(fb_tensor *x);
/** absolute value; gradient 0 at 0. */
FB_API FB_USE_RESULT fb_tensor *fb_abs(fb_tensor *x);
/** x * x. */
FB_API FB_USE_RESULT fb_tensor *fb_square(fb_tensor *x);

/** x + s. */
FB_API FB_USE_RESULT fb_tensor *fb_add_scalar(fb_tensor *x, double s);
/** x * s. */
FB_API FB_USE_RESULT fb_tensor *fb_mul_scalar(fb_tensor *x, double s);
/** x to the power s. */
FB_API FB_USE_RESULT fb_tensor *fb_pow_scalar(fb_tensor *x, double s);
/** x above 0, slope * x below. */
FB_API FB_USE_RESULT fb_tensor *fb_leaky_relu(fb_tensor *x, double slope);
/** x above 0, alpha * (exp(x) - 1) below. */
FB_API FB_USE_RESULT fb_tensor *fb_elu(fb_tensor *x, double alpha);
/** x, limited to [lo, hi]; gradient 1 on the limits, 0 beyond. */
FB_API FB_USE_RESULT fb_tensor *fb_clamp(fb_tensor *x, double lo, double hi);

/** a + b; of BOOL: or. */
FB_API FB_USE_RESULT fb_tensor *fb_add(fb_tensor *a, fb_tensor *b);
/** a - b; not of BOOL. */
FB_API FB_USE_RESULT fb_tensor *fb_sub(fb_tensor *a, fb_tensor *b);
/** a * b; of BOOL: and. */
FB_API FB_USE_RESULT fb_tensor *fb_mul(fb_tensor *a, fb_tensor *b);
/** a / b; integers are divided as F32. */
FB_API FB_USE_RESULT fb_tensor *fb_div(fb_tensor *a, fb_tensor *b);
/** a to the power b. */
FB_API FB_USE_RESULT fb_tensor *fb_pow(fb_tensor *a, fb_tensor *b);
/** the larger one; of equal ones each gets half of the gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_maximum(fb_tensor *a, fb_tensor *b);
/** the smaller one; of equal ones each gets half of the gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_minimum(fb_tensor *a, fb_tensor *b);

/* Comparisons: BOOL, no gradient. */
/** a == b. */
FB_API FB_USE_RESULT fb_tensor *fb_eq(fb_tensor *a, fb_tensor *b);
/** a != b. */
FB_API FB_USE_RESULT fb_tensor *fb_ne(fb_tensor *a, fb_tensor *b);
/** a < b. */
FB_API FB_USE_RESULT fb_tensor *fb_lt(fb_tensor *a, fb_tensor *b);
/** a <= b. */
FB_API FB_USE_RESULT fb_tensor *fb_le(fb_tensor *a, fb_tensor *b);
/** a > b. */
FB_API FB_USE_RESULT fb_tensor *fb_gt(fb_tensor *a, fb_tensor *b);
/** a >= b. */
FB_API FB_USE_RESULT fb_tensor *fb_ge(fb_tensor *a, fb_tensor *b);

/** a where cond (BOOL) is true, b elsewhere; all three are broadcast. */
FB_API FB_USE_RESULT fb_tensor *fb_where(fb_tensor *cond, fb_tensor *a, fb_tensor *b);

/* In place: the second operand is broadcast to the target's shape and takes its dtype, which must
 * not be of a lower kind (float, integer, BOOL) except in a copy. A leaf that requires a gradient,
 * and a view, are refused while recording. */
/** dst := src. */
FB_API fb_status fb_copy_(fb_tensor *dst, fb_tensor *src);
/** a += b. */
FB_API fb_status fb_add_(fb_tensor *a, fb_tensor *b);
/** a *= b. */
FB_API fb_status fb_mul_(fb_tensor *a, fb_tensor *b);
/** a -= b. */
FB_API fb_status fb_sub_(fb_tensor *a, fb_tensor *b);
/** a /= b; a is of floats. */
FB_API fb_status fb_div_(fb_tensor *a, fb_tensor *b);
/** a += s. */
FB_API fb_status fb_add_scalar_(fb_tensor *a, double s);
/** x := fb_clamp(x, lo, hi). */
FB_API fb_status fb_clamp_(fb_tensor *x, double lo, double hi);
/* The functions of that name, in place; integers where those keep them. */
/** x := fb_neg(x). */
FB_API fb_status fb_neg_(fb_tensor *x);
/** x := fb_abs(x). */
FB_API fb_status fb_abs_(fb_tensor *x);
/** x := fb_exp(x). */
FB_API fb_status fb_exp_(fb_tensor *x);
/** x := fb_sqrt(x). */
FB_API fb_status fb_sqrt_(fb_tensor *x);
/** x := fb_tanh(x). */
FB_API fb_status fb_tanh_(fb_tensor *x);
/** x := fb_sigmoid(x). */
FB_API fb_status fb_sigmoid_(fb_tensor *x);
/** x := fb_relu(x). */
FB_API fb_status fb_relu_(fb_tensor *x);
/** x := fb_floor(x). */
FB_API fb_status fb_floor_(fb_tensor *x);
/** x := fb_ceil(x). */
FB_API fb_status fb_ceil_(fb_tensor *x);
/** x := fb_round(x). */
FB_API fb_status fb_round_(fb_tensor *x);
/** x := fb_trunc(x). */
FB_API fb_status fb_trunc_(fb_tensor *x);
/** a *= s. */
FB_API fb_status fb_mul_scalar_(fb_tensor *a, double s);
/** All elements := value. */
FB_API fb_status fb_fill_(fb_tensor *t, double value);
/** All elements := 0. */
FB_API fb_status fb_zero_(fb_tensor *t);

FB_END
#endif
