/* A vector of doubles from elements side by side, for sums of F32 in F64. */
#ifndef FLAMBEAU_CORE_CPU_DOUBLES_PRIV_H
#define FLAMBEAU_CORE_CPU_DOUBLES_PRIV_H

#if defined __AVX__
#include <immintrin.h>
#endif

#include "core/cpu/lanes_priv.h"

/* As many elements as a vector has doubles; GCC 12 makes halves of __builtin_convertvector. */
static inline fbi_v_f64 wide_f32(const float *p)
{
#if defined __AVX512F__
    return (fbi_v_f64)_mm512_cvtps_pd(_mm256_loadu_ps(p));
#elif defined __AVX__
    return (fbi_v_f64)_mm256_cvtps_pd(_mm_loadu_ps(p));
#else
    return (fbi_v_f64){(double)p[0], (double)p[1]};
#endif
}

static inline fbi_v_f64 wide_f64(const double *p)
{
    fbi_v_f64 v;
    memcpy(&v, p, sizeof v);
    return v;
}

#endif
