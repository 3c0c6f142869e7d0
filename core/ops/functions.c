/* Public functions of the rows of functions.def. */
#include <flambeau/core/ops/functions.h>

#include "core/ops/call_priv.h"

#define PUBLIC_1(name)                 \
    fb_tensor *fb_##name(fb_tensor *x) \
    {                                  \
        return FBI_RUN(name, NULL, x); \
    }
#define PUBLIC_S(name, type)                                   \
    fb_tensor *fb_##name(fb_tensor *x, type a)                 \
    {                                                          \
        return FBI_RUN(name, (&(fbi_attrs_scalars){a, 0}), x); \
    }
#define PUBLIC_SS(name)                                        \
    fb_tensor *fb_##name(fb_tensor *x, double a, double b)     \
    {                                                          \
        return FBI_RUN(name, (&(fbi_attrs_scalars){a, b}), x); \
    }
#define PUBLIC_2(name)                               \
    fb_tensor *fb_##name(fb_tensor *a, fb_tensor *b) \
    {                                                \
        return FBI_RUN(name, NULL, a, b);            \
    }

PUBLIC_1(exp2)
PUBLIC_1(expm1)
PUBLIC_1(log2)
PUBLIC_1(log10)
PUBLIC_1(logsigmoid)
PUBLIC_1(tan)
PUBLIC_1(asin)
PUBLIC_1(acos)
PUBLIC_1(atan)
PUBLIC_1(sinh)
PUBLIC_1(cosh)
PUBLIC_1(asinh)
PUBLIC_1(acosh)
PUBLIC_1(atanh)
PUBLIC_1(sinc)
PUBLIC_1(deg2rad)
PUBLIC_1(rad2deg)
PUBLIC_1(erfc)
PUBLIC_1(erfinv)
PUBLIC_1(lgamma)
PUBLIC_1(digamma)
PUBLIC_1(i0)
PUBLIC_1(ndtr)
PUBLIC_1(entr)
PUBLIC_1(trunc)
PUBLIC_1(ceil)
PUBLIC_1(floor)
PUBLIC_1(round)
PUBLIC_1(frac)
PUBLIC_1(sign)
PUBLIC_1(positive)
PUBLIC_1(hardswish)
PUBLIC_1(hardsigmoid)
PUBLIC_1(relu6)
PUBLIC_1(mish)
PUBLIC_1(softsign)
PUBLIC_1(selu)
PUBLIC_1(tanhshrink)
PUBLIC_S(celu, double)
PUBLIC_S(hardshrink, double)
PUBLIC_S(softshrink, double)
PUBLIC_S(logit, double)
PUBLIC_SS(hardtanh)
PUBLIC_SS(threshold)
PUBLIC_2(atan2)
PUBLIC_2(hypot)
PUBLIC_2(fmod)
PUBLIC_2(remainder)
PUBLIC_2(floor_divide)
PUBLIC_2(copysign)
PUBLIC_2(logaddexp)
PUBLIC_2(logaddexp2)
PUBLIC_2(xlogy)
PUBLIC_2(xlog1py)
PUBLIC_2(heaviside)
PUBLIC_2(fmax)
PUBLIC_2(fmin)
PUBLIC_2(clamp_min)
PUBLIC_2(clamp_max)
PUBLIC_2(prelu)
PUBLIC_2(bce)
PUBLIC_2(bce_with_logits)
PUBLIC_2(bitwise_and)
PUBLIC_2(bitwise_or)
PUBLIC_2(bitwise_xor)
PUBLIC_2(bitwise_left_shift)
PUBLIC_2(bitwise_right_shift)
PUBLIC_2(gcd)
PUBLIC_2(lcm)
PUBLIC_2(logical_and)
PUBLIC_2(logical_or)
PUBLIC_2(logical_xor)
PUBLIC_1(logical_not)
PUBLIC_1(isnan)
PUBLIC_1(isinf)
PUBLIC_1(isfinite)
PUBLIC_1(isposinf)
PUBLIC_1(isneginf)
PUBLIC_1(signbit)

fb_tensor *fb_polygamma(int n, fb_tensor *x)
{
    return FBI_RUN(polygamma, (&(fbi_attrs_scalars){n, 0}), x);
}
