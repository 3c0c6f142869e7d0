/* Products with a packed matrix inside recurrent layers. */
#ifndef FLAMBEAU_CORE_CPU_RECURRENT_PRIV_H
#define FLAMBEAU_CORE_CPU_RECURRENT_PRIV_H

#include "core/cpu/kernels_isa.h"
#include "core/cpu/lanes_priv.h"

/* Columns of a panel: those of two vectors. */
enum {
    FBI_PANEL_f32 = 2 * FBI_VECTOR_BYTES / (int)sizeof(float),
    FBI_PANEL_f64 = 2 * FBI_VECTOR_BYTES / (int)sizeof(double)
};

/* c [m, a panel's columns] = a [m, k] b, where b [k, a panel's columns] has no gaps; rows of a are
 * lda apart, those of c follow each other. The sum over k is in order, whatever m is. */
void FBI_K(fbi_cpu_panel_f32)(int64_t m, int64_t k, const float *a, int64_t lda, const float *b,
                              float *c);
void FBI_K(fbi_cpu_panel_f64)(int64_t m, int64_t k, const double *a, int64_t lda, const double *b,
                              double *c);
#define fbi_cpu_panel_f32 FBI_K(fbi_cpu_panel_f32)
#define fbi_cpu_panel_f64 FBI_K(fbi_cpu_panel_f64)

#endif
