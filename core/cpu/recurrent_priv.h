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

/* --- F32 on the tiles of AMX (recurrent_amx.c, v4 alone) --- */

/* The same for a run of panels, b in the form of tiles; c [panels, up to a multiple of 16 rows,
 * 32]. packed: room for a in that form. m is 32 at most. Rows with an infinity are NaN. */
void FBI_K(fbi_amx_panels)(int64_t m, int64_t k, const void *a, int64_t lda, int64_t panels,
                           const void *b, void *c, void *packed);
/* b [k, 32] in that form. */
void FBI_K(fbi_amx_pack_panel)(int64_t k, const void *b, void *to);
#define fbi_amx_panels     FBI_K(fbi_amx_panels)
#define fbi_amx_pack_panel FBI_K(fbi_amx_pack_panel)

/* Rows of c; floats of a panel of b, or of packed. */
static inline int64_t fbi_amx_rows_of(int64_t m)
{
    return (m + 15) / 16 * 16;
}

static inline int64_t fbi_amx_panel_size(int64_t k)
{
    return (k + 31) / 32 * 32 * 48;
}

#endif
