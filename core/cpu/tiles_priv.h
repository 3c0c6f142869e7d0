/* Small dense products inside other kernels: blocks of attention. */
#ifndef FLAMBEAU_CORE_CPU_TILES_PRIV_H
#define FLAMBEAU_CORE_CPU_TILES_PRIV_H

#include "core/cpu/kernels_isa.h"

/* A matrix: element [i, j] at p[i * row + j * col]. */
typedef struct fbi_m_f32 {
    float *p;
    int64_t row, col;
} fbi_m_f32;
typedef struct fbi_m_f64 {
    double *p;
    int64_t row, col;
} fbi_m_f64;

/* c[m, n] = (add ? c : 0) + a[m, k] b[k, n], on the calling thread; the sum over k is in order. b
 * and c have adjacent columns, and n is a multiple of 64 bytes. */
void FBI_K(fbi_cpu_tiles_f32)(int64_t m, int64_t n, int64_t k, fbi_m_f32 a, fbi_m_f32 b,
                              fbi_m_f32 c, bool add);
void FBI_K(fbi_cpu_tiles_f64)(int64_t m, int64_t n, int64_t k, fbi_m_f64 a, fbi_m_f64 b,
                              fbi_m_f64 c, bool add);
#define fbi_cpu_tiles_f32 FBI_K(fbi_cpu_tiles_f32)
#define fbi_cpu_tiles_f64 FBI_K(fbi_cpu_tiles_f64)

#endif
