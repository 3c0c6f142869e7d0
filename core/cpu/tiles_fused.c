/* See tiles_priv.h. Files named _fused are compiled with fused multiply-adds where the level has
 * them. */
#include <string.h>

#include "core/cpu/lanes_priv.h"
#include "core/cpu/tiles_priv.h"

/* Rows and vectors of the tile that stays in registers: of 32, or of 16. */
enum { ROWS = 4, VECTORS = FBI_VECTOR_BYTES == 64 ? 4 : 3 };

#define T     float
#define V     fbi_v_f32
#define M     fbi_m_f32
#define FN(x) x##_f32
#include "core/cpu/tiles_t.h"
#undef T
#undef V
#undef M
#undef FN
#define T     double
#define V     fbi_v_f64
#define M     fbi_m_f64
#define FN(x) x##_f64
#include "core/cpu/tiles_t.h"
