/* See recurrent_priv.h. Files named _fused are compiled with fused multiply-adds where the level
 * has them. */
#include "core/cpu/recurrent_priv.h"

/* Rows of the tile that stays in registers: of 32 of them, or of 16. */
enum { ROWS = FBI_VECTOR_BYTES == 64 ? 8 : 4 };

#define T     float
#define V     fbi_v_f32
#define FN(x) x##_f32
#include "core/cpu/recurrent_panel_t.h"
#undef T
#undef V
#undef FN
#define T     double
#define V     fbi_v_f64
#define FN(x) x##_f64
#include "core/cpu/recurrent_panel_t.h"
