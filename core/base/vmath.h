/* Private: elementary functions that the compiler can vectorise: no branch, no table, no libm in
 * the float ones. Errors are measured by tests/core/base/test_vmath.c. Do not compile with
 * -ffast-math: rounding to integers adds and subtracts a large number. Loops over all but
 * fbi_f32_to_bf16 vectorise with -fno-trapping-math only. */
#ifndef FLAMBEAU_CORE_BASE_VMATH_H
#define FLAMBEAU_CORE_BASE_VMATH_H

#include <math.h>

#include "core/base/half.h"

#define FBI_VMATH static inline __attribute__((always_inline))

/* a b + c, rounded once where that is one instruction: v3 and v4 agree to the bit, v2 has others.
 */
FBI_VMATH float fbi_fma(float a, float b, float c)
{
#if defined(__FMA__) || defined(__FP_FAST_FMAF)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* (e^r - 1 - r) / r^2 for |r| <= log(2) / 2; Cephes' polynomial. */
FBI_VMATH float fbi_exp_polynomial(float r)
{
    float p = 1.9875691500e-4f;
    p = fbi_fma(p, r, 1.3981999507e-3f);
    p = fbi_fma(p, r, 8.3334519073e-3f);
    p = fbi_fma(p, r, 4.1665795894e-2f);
    p = fbi_fma(p, r, 1.6666665459e-1f);
    return fbi_fma(p, r, 5.0000001201e-1f);
}

/* e^x, at most 1 ulp or so; overflows to inf, denormal results are right. The bounds are those of
 * an integer: comparisons of floats become branches to the compiler, which then computes all sides.
 */
FBI_VMATH float fbi_expf(float x)
{
    uint32_t sign = fbi_f32_bits(x) & 0x80000000u, size = fbi_f32_bits(x) & 0x7FFFFFFFu;
    float v = fbi_bits_f32((size < 0x42D00000u ? size : 0x42D00000u) | sign); /* 104 */
    float shifted = fbi_fma(v, 1.44269504f, 12582912.0f);
    float k = shifted - 12582912.0f;
    float r = fbi_fma(k, -0.693359375f, v);
    r = fbi_fma(k, 2.12194440e-4f, r);
    float p = fbi_fma(fbi_exp_polynomial(r), r * r, r) + 1.0f;
    /* 2^k in two factors, so that neither leaves the range of normal numbers */
    int32_t n = (int32_t)fbi_f32_bits(shifted) - 0x4B400000, half = n >> 1;
    float a = fbi_bits_f32((uint32_t)(half + 127) << 23);
    float b = fbi_bits_f32((uint32_t)(n - half + 127) << 23);
    float y = p * a * b;
    return x == x ? y : x;
}

/* 2^x for x that is at most a rounding above 0: 3 ulp, and 0 instead of denormals. */
FBI_VMATH float fbi_pow2f(float x)
{
    float v = x < -127.0f ? -127.0f : x; /* comparisons with NaN are false: it passes through */
    float shifted = v + 12582912.0f;
    float r = v - (shifted - 12582912.0f);
    float p = 1.32647261e-3f;
    p = fbi_fma(p, r, 9.67151299e-3f);
    p = fbi_fma(p, r, 5.55073358e-2f);
    p = fbi_fma(p, r, 2.40222424e-1f);
    p = fbi_fma(p, r, 6.93147004e-1f);
    p = fbi_fma(p, r, 1.0f);
    return p * fbi_bits_f32((fbi_f32_bits(shifted) + 127) << 23);
}

/* Natural logarithm, at most 1 ulp or so; -inf at 0, NaN below. Polynomial of FreeBSD's msun. */
FBI_VMATH float fbi_logf(float x)
{
    uint32_t tiny = fbi_f32_bits(x) < 0x00800000u;
    float v = tiny ? x * 0x1p25f : x;
    uint32_t u = fbi_f32_bits(v) + (0x3F800000u - 0x3F3504F3u);
    int32_t e = (int32_t)(u >> 23) - 127 - (tiny ? 25 : 0);
    float m = fbi_bits_f32((u & 0x007FFFFFu) + 0x3F3504F3u); /* in [sqrt(1/2), sqrt(2)) */
    float f = m - 1.0f, s = f / (2.0f + f);
    float z = s * s, w = z * z;
    float t1 = w * (0.40000972152f + w * 0.24279078841f);
    float t2 = z * (0.66666662693f + w * 0.28498786688f);
    float hfsq = 0.5f * f * f, k = (float)e;
    float r = s * (hfsq + (t2 + t1)) + k * 9.0580006145e-06f;
    r = r - hfsq + f + k * 6.9313812256e-01f;
    r = x > 3.40282347e38f ? x : r; /* inf */
    r = x == 0.0f ? -INFINITY : r;
    return x >= 0.0f ? r : NAN;
}

/* Hyperbolic tangent, at most 2 ulp. */
FBI_VMATH float fbi_tanhf(float x)
{
    float a = fbi_bits_f32(fbi_f32_bits(x) & 0x7FFFFFFFu), z = x * x;
    float p = -5.70498872745e-3f;
    p = fbi_fma(p, z, 2.06390887954e-2f);
    p = fbi_fma(p, z, -5.37397155531e-2f);
    p = fbi_fma(p, z, 1.33314422036e-1f);
    p = fbi_fma(p, z, -3.33332819422e-1f);
    float near = fbi_fma(p * z, x, x);
    float far = 1.0f - 2.0f / (fbi_expf(a + a) + 1.0f);
    far = fbi_bits_f32(fbi_f32_bits(far) | (fbi_f32_bits(x) & 0x80000000u));
    return a < 0.625f ? near : far;
}

/* Error function, at most 2 ulp. Polynomials by N. Juffa. */
FBI_VMATH float fbi_erff(float x)
{
    float a = fbi_bits_f32(fbi_f32_bits(x) & 0x7FFFFFFFu);
    float t = a > 4.0f ? 4.0f : a, s = t * t;
    float r = fbi_fma(-1.72853470e-5f, t, 3.83197126e-4f);
    float u = fbi_fma(-3.88396438e-3f, t, 2.42546219e-2f);
    r = fbi_fma(r, s, u);
    r = fbi_fma(r, t, -1.06777877e-1f);
    r = fbi_fma(r, t, -6.34846687e-1f);
    r = fbi_fma(r, t, -1.28717512e-1f);
    r = fbi_fma(r, t, -t);
    float far = 1.0f - fbi_expf(r);
    far = fbi_bits_f32(fbi_f32_bits(far) | (fbi_f32_bits(x) & 0x80000000u));
    float q = -5.96761703e-4f;
    q = fbi_fma(q, s, 4.99119423e-3f);
    q = fbi_fma(q, s, -2.67681349e-2f);
    q = fbi_fma(q, s, 1.12819925e-1f);
    q = fbi_fma(q, s, -3.76125336e-1f);
    q = fbi_fma(q, s, 1.28379166e-1f);
    float near = fbi_fma(q, x, x);
    return t > 0.927734375f ? far : near;
}

/* Density of the normal distribution, within 1e-7. */
FBI_VMATH float fbi_npdff(float x)
{
    return 0.398942280f * fbi_pow2f(-0.721347520f * x * x);
}

/* The normal distribution, within 2.2e-7, and within 2e-5 of itself where it is small: e^(-x^2 / 2)
 * times a polynomial in t = 1 / (1 + 0.35 |x|), a minimax one of the rest. */
FBI_VMATH float fbi_ncdff(float x)
{
    float t = 1.0f / fbi_fma(0.35f, fbi_bits_f32(fbi_f32_bits(x) & 0x7FFFFFFFu), 1.0f);
    float p = 4.45587263e-2f;
    p = fbi_fma(p, t, -1.84006199e-1f);
    p = fbi_fma(p, t, 2.10031867e-1f);
    p = fbi_fma(p, t, 1.01483287e-2f);
    p = fbi_fma(p, t, 1.42438948e-1f);
    p = fbi_fma(p, t, 1.37071803e-1f);
    p = fbi_fma(p, t, 1.39756575e-1f);
    float tail = p * t * fbi_pow2f(-0.721347520f * x * x);
    return x > 0.0f ? 1.0f - tail : tail;
}

/* 1 / (1 + e^-x), without overflow on either side. */
FBI_VMATH float fbi_sigmoidf(float x)
{
    float e = fbi_expf(fbi_bits_f32(fbi_f32_bits(x) | 0x80000000u)); /* e^-|x| */
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* 2^x, at most 2 ulp. */
FBI_VMATH float fbi_exp2f(float x)
{
    float v = x > 129.0f ? 129.0f : x;
    v = v < -151.0f ? -151.0f : v;
    float shifted = v + 12582912.0f;
    float k = shifted - 12582912.0f;
    float r = (v - k) * 0.693147181f;
    float p = fbi_fma(fbi_exp_polynomial(r), r * r, r) + 1.0f;
    int32_t n = (int32_t)(fbi_f32_bits(shifted) & 0x7FFFFFu) - 0x400000;
    int32_t half = n >> 1;
    float a = fbi_bits_f32((uint32_t)(half + 127) << 23);
    float b = fbi_bits_f32((uint32_t)(n - half + 127) << 23);
    return p * a * b;
}

/* e^x - 1, at most 2 ulp: with e^x = 2^k (1 + q) it is 2 (q 2^(k-1) + (2^(k-1) - 1/2)). */
FBI_VMATH float fbi_expm1f(float x)
{
    float v = x > 89.0f ? 89.0f : x;
    v = v < -18.0f ? -18.0f : v;
    float shifted = fbi_fma(v, 1.44269504f, 12582912.0f);
    float k = shifted - 12582912.0f;
    float r = fbi_fma(k, -0.693359375f, v);
    r = fbi_fma(k, 2.12194440e-4f, r);
    float q = fbi_fma(fbi_exp_polynomial(r), r * r, r);
    int32_t n = (int32_t)(fbi_f32_bits(shifted) & 0x7FFFFFu) - 0x400000;
    float a = fbi_bits_f32((uint32_t)(n + 126) << 23);
    float y = 2.0f * (q * a + (a - 0.5f));
    return x == 0.0f ? x : y;
}

/* x = 2^*k * m with m in [sqrt(1/2), sqrt(2)): the logarithm of m. For positive numbers. */
FBI_VMATH float fbi_log_of_mantissa(float x, float *k)
{
    uint32_t tiny = fbi_f32_bits(x) < 0x00800000u;
    float v = tiny ? x * 0x1p25f : x;
    uint32_t u = fbi_f32_bits(v) + (0x3F800000u - 0x3F3504F3u);
    *k = (float)((int32_t)(u >> 23) - 127 - (tiny ? 25 : 0));
    float m = fbi_bits_f32((u & 0x007FFFFFu) + 0x3F3504F3u);
    float f = m - 1.0f, s = f / (2.0f + f);
    float z = s * s, w = z * z;
    float t1 = w * (0.40000972152f + w * 0.24279078841f);
    float t2 = z * (0.66666662693f + w * 0.28498786688f);
    float hfsq = 0.5f * f * f;
    return s * (hfsq + (t2 + t1)) - hfsq + f;
}

/* What a logarithm is where it is no number between others. */
FBI_VMATH float fbi_log_edges(float x, float y)
{
    y = x > 3.40282347e38f ? x : y; /* inf */
    y = x == 0.0f ? -INFINITY : y;
    return x >= 0.0f ? y : NAN;
}

/* Logarithm to the base 2, at most 3 ulp. */
FBI_VMATH float fbi_log2f(float x)
{
    float k, l = fbi_log_of_mantissa(x, &k);
    return fbi_log_edges(x, l * 1.44269504f + k);
}

/* Logarithm to the base 10, at most 3 ulp. */
FBI_VMATH float fbi_log10f(float x)
{
    float k, l = fbi_log_of_mantissa(x, &k);
    return fbi_log_edges(x, l * 0.434294482f + k * 3.28894916e-06f + k * 3.01026702e-01f);
}

/* log(1 + x), at most 3 ulp: that of the rounded sum, and what the rounding took. */
FBI_VMATH float fbi_log1pf(float x)
{
    float u = 1.0f + x;
    float lost = x < 1.0f ? x - (u - 1.0f) : 1.0f - (u - x);
    float y = fbi_logf(u) + lost / u;
    y = x > 3.40282347e38f || x == 0.0f ? x : y;
    return x == -1.0f ? -INFINITY : y;
}

/* Of |x| <= 1/2; Cephes' polynomial. */
FBI_VMATH float fbi_asin_near(float x)
{
    float z = x * x;
    float p = 4.2163199048e-2f;
    p = p * z + 2.4181311049e-2f;
    p = p * z + 4.5470025998e-2f;
    p = p * z + 7.4953002686e-2f;
    p = p * z + 1.6666752422e-1f;
    return p * z * x + x;
}

/* Arc sine, at most 3 ulp; NaN beyond 1. */
FBI_VMATH float fbi_asinf(float x)
{
    float a = fbi_bits_f32(fbi_f32_bits(x) & 0x7FFFFFFFu);
    float far = 1.57079633f - 2.0f * fbi_asin_near(sqrtf(0.5f * (1.0f - a)));
    far = fbi_bits_f32(fbi_f32_bits(far) ^ (fbi_f32_bits(x) & 0x80000000u));
    return a <= 0.5f ? fbi_asin_near(x) : far;
}

/* Arc cosine, at most 3 ulp; NaN beyond 1. */
FBI_VMATH float fbi_acosf(float x)
{
    float a = fbi_bits_f32(fbi_f32_bits(x) & 0x7FFFFFFFu);
    float far = 2.0f * fbi_asin_near(sqrtf(0.5f * (1.0f - a)));
    far = x < 0.0f ? 3.14159265f - far : far;
    float near = 1.57079633f - fbi_asin_near(x);
    return a <= 0.5f ? near : far;
}

/* Arc tangent, at most 3 ulp; Cephes' polynomial. */
FBI_VMATH float fbi_atanf(float x)
{
    float a = fbi_bits_f32(fbi_f32_bits(x) & 0x7FFFFFFFu);
    float base = a > 2.41421356f ? 1.57079633f : a > 0.41421356f ? 0.785398163f : 0.0f;
    float r = a > 2.41421356f ? -1.0f / a : a > 0.41421356f ? (a - 1.0f) / (a + 1.0f) : a;
    float z = r * r;
    float p = 8.05374449538e-2f;
    p = p * z - 1.38776856032e-1f;
    p = p * z + 1.99777106478e-1f;
    p = p * z - 3.33329491539e-1f;
    float y = base + (p * z * r + r);
    return fbi_bits_f32(fbi_f32_bits(y) | (fbi_f32_bits(x) & 0x80000000u));
}

/* Hyperbolic sine, at most 3 ulp. Beyond 80 as a product, which overflows where the sine does. */
FBI_VMATH float fbi_sinhf(float x)
{
    float a = fbi_bits_f32(fbi_f32_bits(x) & 0x7FFFFFFFu);
    float e = fbi_expm1f(a), t = fbi_expf(0.5f * a);
    float y = a > 80.0f ? 0.5f * t * t : 0.5f * (e + e / (e + 1.0f));
    return fbi_bits_f32(fbi_f32_bits(y) | (fbi_f32_bits(x) & 0x80000000u));
}

/* Hyperbolic cosine, at most 3 ulp. */
FBI_VMATH float fbi_coshf(float x)
{
    float a = fbi_bits_f32(fbi_f32_bits(x) & 0x7FFFFFFFu);
    float e = fbi_expf(a), t = fbi_expf(0.5f * a);
    return a > 80.0f ? 0.5f * t * t : 0.5f * (e + 1.0f / e);
}

/* Inverse hyperbolic sine, at most 4 ulp. */
FBI_VMATH float fbi_asinhf(float x)
{
    float a = fbi_bits_f32(fbi_f32_bits(x) & 0x7FFFFFFFu);
    float near = fbi_log1pf(a + a * a / (1.0f + sqrtf(a * a + 1.0f)));
    float far = fbi_logf(a) + 0.693147181f;
    float y = a > 1e4f ? far : near;
    return fbi_bits_f32(fbi_f32_bits(y) | (fbi_f32_bits(x) & 0x80000000u));
}

/* Inverse hyperbolic cosine, at most 4 ulp; NaN below 1. */
FBI_VMATH float fbi_acoshf(float x)
{
    float t = x - 1.0f;
    float near = fbi_log1pf(t + sqrtf(2.0f * t + t * t));
    float far = fbi_logf(x) + 0.693147181f;
    float y = x > 1e4f ? far : near;
    return x >= 1.0f ? y : NAN;
}

/* Inverse hyperbolic tangent, at most 4 ulp; NaN beyond 1. */
FBI_VMATH float fbi_atanhf(float x)
{
    float a = fbi_bits_f32(fbi_f32_bits(x) & 0x7FFFFFFFu);
    float y = 0.5f * fbi_log1pf(2.0f * a / (1.0f - a));
    return fbi_bits_f32(fbi_f32_bits(y) | (fbi_f32_bits(x) & 0x80000000u));
}

/* The double versions are the C library's. */
FBI_VMATH double fbi_exp(double x)
{
    return exp(x);
}
FBI_VMATH double fbi_log(double x)
{
    return log(x);
}
FBI_VMATH double fbi_tanh(double x)
{
    return tanh(x);
}
FBI_VMATH double fbi_erf(double x)
{
    return erf(x);
}
FBI_VMATH double fbi_sigmoid(double x)
{
    double e = exp(-fabs(x));
    return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

#endif
