/* Functions of core/base/vmath.h for 16 floats at once, where AVX-512 is: the same bits, but 2^k is
 * one instruction (e^x: 6.5 cycles, not 10). */
#ifndef FLAMBEAU_CORE_CPU_SIXTEEN_PRIV_H
#define FLAMBEAU_CORE_CPU_SIXTEEN_PRIV_H

#if defined __AVX512F__
#include <immintrin.h>

/* What is added and taken away again to round to an integer. */
#define FBI_ROUNDER 12582912.0f

/* a x^5 + ... + f, from the highest coefficient on. */
static inline __m512 fbi_polynomial_16(__m512 x, const float *c, int n)
{
    __m512 p = _mm512_set1_ps(c[0]);
#pragma GCC unroll 8
    for (int i = 1; i < n; i++)
        p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(c[i]));
    return p;
}

/* fbi_expf; NaN is the second operand of min and max, which they give then. */
static inline __m512 fbi_expf_16(__m512 x)
{
    static const float c[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                              4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    const __m512 rounder = _mm512_set1_ps(FBI_ROUNDER), most = _mm512_set1_ps(104.0f);
    const __m512 least = _mm512_set1_ps(-104.0f);
    __m512 v = _mm512_max_ps(least, _mm512_min_ps(most, x));
    __m512 k = _mm512_sub_ps(_mm512_fmadd_ps(v, _mm512_set1_ps(1.44269504f), rounder), rounder);
    __m512 r = _mm512_fmadd_ps(k, _mm512_set1_ps(-0.693359375f), v);
    r = _mm512_fmadd_ps(k, _mm512_set1_ps(2.12194440e-4f), r);
    __m512 p = _mm512_fmadd_ps(fbi_polynomial_16(r, c, 6), _mm512_mul_ps(r, r), r);
    return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), k);
}

/* fbi_pow2f */
static inline __m512 fbi_pow2f_16(__m512 x)
{
    static const float c[] = {1.32647261e-3f, 9.67151299e-3f, 5.55073358e-2f,
                              2.40222424e-1f, 6.93147004e-1f, 1.0f};
    const __m512 rounder = _mm512_set1_ps(FBI_ROUNDER);
    __m512 k = _mm512_sub_ps(_mm512_add_ps(x, rounder), rounder), r = _mm512_sub_ps(x, k);
    __mmask16 normal = _mm512_cmp_ps_mask(k, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(normal, fbi_polynomial_16(r, c, 6), k);
}

/* fbi_ncdff; e is fbi_normal_exp_16 of x */
static inline __m512 fbi_ncdff_16(__m512 x, __m512 e)
{
    static const float c[] = {4.45587263e-2f, -1.84006199e-1f, 2.10031867e-1f, 1.01483287e-2f,
                              1.42438948e-1f, 1.37071803e-1f,  1.39756575e-1f};
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 t = _mm512_fmadd_ps(_mm512_set1_ps(0.35f), _mm512_abs_ps(x), one);
    t = _mm512_div_ps(one, t);
    __m512 tail = _mm512_mul_ps(_mm512_mul_ps(fbi_polynomial_16(t, c, 7), t), e);
    __mmask16 above = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mask_sub_ps(tail, above, one, tail);
}

/* e^(-x^2 / 2) */
static inline __m512 fbi_normal_exp_16(__m512 x)
{
    return fbi_pow2f_16(_mm512_mul_ps(_mm512_mul_ps(_mm512_set1_ps(-0.721347520f), x), x));
}

/* fbi_npdff of what e is made of */
static inline __m512 fbi_npdff_16(__m512 e)
{
    return _mm512_mul_ps(_mm512_set1_ps(0.398942280f), e);
}
#endif

#endif
