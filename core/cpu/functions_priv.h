/* The functions that rows of functions.def call by V(name, x), in F32 and F64. */
#ifndef FLAMBEAU_CORE_CPU_FUNCTIONS_PRIV_H
#define FLAMBEAU_CORE_CPU_FUNCTIONS_PRIV_H

#include "core/base/special_priv.h"
#include "core/base/vmath.h"

#define OF_ONE(name, of_float, of_double)     \
    FBI_VMATH float v_##name##_f32(float x)   \
    {                                         \
        return of_float(x);                   \
    }                                         \
    FBI_VMATH double v_##name##_f64(double x) \
    {                                         \
        return of_double(x);                  \
    }
#define OF_TWO(name, of_float, of_double)               \
    FBI_VMATH float v_##name##_f32(float a, float b)    \
    {                                                   \
        return of_float(a, b);                          \
    }                                                   \
    FBI_VMATH double v_##name##_f64(double a, double b) \
    {                                                   \
        return of_double(a, b);                         \
    }
/* Computed in F64 for both. */
#define SPECIAL(name)                         \
    FBI_VMATH float v_##name##_f32(float x)   \
    {                                         \
        return (float)fbi_##name((double)x);  \
    }                                         \
    FBI_VMATH double v_##name##_f64(double x) \
    {                                         \
        return fbi_##name(x);                 \
    }

OF_ONE(exp, fbi_expf, exp)
OF_ONE(exp2, fbi_exp2f, exp2)
OF_ONE(expm1, fbi_expm1f, expm1)
OF_ONE(log, fbi_logf, log)
OF_ONE(log1p, fbi_log1pf, log1p)
OF_ONE(log2, fbi_log2f, log2)
OF_ONE(log10, fbi_log10f, log10)
OF_ONE(sqrt, sqrtf, sqrt)
OF_ONE(tan, tanf, tan)
OF_ONE(asin, fbi_asinf, asin)
OF_ONE(acos, fbi_acosf, acos)
OF_ONE(atan, fbi_atanf, atan)
OF_ONE(sinh, fbi_sinhf, sinh)
OF_ONE(cosh, fbi_coshf, cosh)
OF_ONE(tanh, fbi_tanhf, tanh)
OF_ONE(asinh, fbi_asinhf, asinh)
OF_ONE(acosh, fbi_acoshf, acosh)
OF_ONE(atanh, fbi_atanhf, atanh)
OF_ONE(sigmoid, fbi_sigmoidf, fbi_sigmoid)
OF_ONE(erfc, erfcf, erfc)
OF_ONE(trunc, truncf, trunc)
OF_ONE(ceil, ceilf, ceil)
OF_ONE(floor, floorf, floor)
OF_ONE(rint, rintf, rint)
OF_ONE(fabs, fabsf, fabs)
OF_TWO(atan2, atan2f, atan2)
OF_TWO(hypot, hypotf, hypot)
OF_TWO(fmod, fmodf, fmod)
OF_TWO(copysign, copysignf, copysign)
SPECIAL(digamma)
SPECIAL(erfinv)
SPECIAL(sinc)
SPECIAL(sinc1)
SPECIAL(sinc2)

FBI_VMATH double v_lgamma_f64(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}
FBI_VMATH float v_lgamma_f32(float x)
{
    return (float)v_lgamma_f64((double)x);
}
FBI_VMATH double v_polygamma_f64(double n, double x)
{
    return fbi_polygamma(n, x);
}
FBI_VMATH float v_polygamma_f32(float n, float x)
{
    return (float)fbi_polygamma((double)n, (double)x);
}
FBI_VMATH double v_i0_f64(double x)
{
    return fbi_bessel_ie(0, x) * exp(fabs(x));
}
FBI_VMATH double v_i1_f64(double x)
{
    return fbi_bessel_ie(1, x) * exp(fabs(x));
}
FBI_VMATH float v_i0_f32(float x)
{
    return (float)v_i0_f64((double)x);
}
FBI_VMATH float v_i1_f32(float x)
{
    return (float)v_i1_f64((double)x);
}

/* Made of the others, in either type: T, with X(name) for a function of it. */
#define T       float
#define X(name) v_##name##_f32
#include "core/cpu/functions_body_priv.h"
#undef T
#undef X
#define T       double
#define X(name) v_##name##_f64
#include "core/cpu/functions_body_priv.h"
#undef T
#undef X

/* Quotients of integers; 0 where the divisor is 0 (the kernel refuses it), and -a wraps. */
static inline int64_t fbi_idiv(int64_t a, int64_t b)
{
    return b == 0 ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
}
static inline int64_t fbi_ifloor(int64_t a, int64_t b)
{
    int64_t q = fbi_idiv(a, b);
    return b != 0 && b != -1 && a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}
static inline int64_t fbi_igcd(int64_t a, int64_t b)
{
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    while (y) {
        uint64_t r = x % y;
        x = y;
        y = r;
    }
    return (int64_t)x;
}
static inline int64_t fbi_ilcm(int64_t a, int64_t b)
{
    int64_t g = fbi_igcd(a, b);
    uint64_t m = g ? (uint64_t)fbi_idiv(a, g) * (uint64_t)b : 0;
    return (int64_t)m < 0 ? (int64_t)(0 - m) : (int64_t)m;
}

#endif
