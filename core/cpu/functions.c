/* Kernels of the rows of functions.def: one inner loop per row and compute type, made from the row.
 */
#include "core/cpu/functions_priv.h"
#include "core/cpu/pointwise_priv.h"

/* --- F32 --- */
#define V_C(x)                       ((float)(x))
#define V_INFINITY                   INFINITY
#define V_SIGNBIT(x)                 (signbit((double)(x)) != 0)
#define V(name, ...)                 v_##name##_f32(__VA_ARGS__)
#define UNARY(name, f, df, ddf, ...) UNARY_INNERS(name, float, _f32, f, df, ddf)
#define UNARY_S                      UNARY
#define BINARY(name, f, fa, fb, faa, fab, fbb, ...) \
    BINARY_INNERS(name, float, _f32, f, fa, fb, faa, fab, fbb)
#define UNARY_GATE(name, f, open, df, ddf, ...) GATE_INNERS(name, float, _f32, f, open, df, ddf)
#define UNARY_GATE_S                            UNARY_GATE
#define COMPARE(name, e)                        EACH_TYPE(INNER_C, name, e)
#define PREDICATE(name, e)                      EACH_TYPE(INNER_P, name, e)
#include "core/ops/ops_begin.h"
#include "core/ops/functions.def"
#include "core/ops/ops_end.h"
#undef V_C
#undef V_INFINITY
#undef V

/* --- F64 --- */
#define V_C(x)                       (x)
#define V_INFINITY                   ((double)INFINITY)
#define V(name, ...)                 v_##name##_f64(__VA_ARGS__)
#define UNARY(name, f, df, ddf, ...) UNARY_INNERS(name, double, _f64, f, df, ddf)
#define UNARY_S                      UNARY
#define BINARY(name, f, fa, fb, faa, fab, fbb, ...) \
    BINARY_INNERS(name, double, _f64, f, fa, fb, faa, fab, fbb)
#define UNARY_GATE(name, f, open, df, ddf, ...) GATE_INNERS(name, double, _f64, f, open, df, ddf)
#define UNARY_GATE_S                            UNARY_GATE
#include "core/ops/ops_begin.h"
#include "core/ops/functions.def"
#include "core/ops/ops_end.h"

/* --- integers --- */

#define V_IDIV(a, b)   fbi_idiv(a, b)
#define V_IFLOOR(a, b) fbi_ifloor(a, b)
#define V_IGCD(a, b)   fbi_igcd(a, b)
#define V_ILCM(a, b)   fbi_ilcm(a, b)
#define UNARY_INT      UNARY_INT_INNER
#define BINARY_INT     BINARY_INT_INNER
#define BITS           BINARY_INT
#include "core/ops/ops_begin.h"
#include "core/ops/functions.def"
#include "core/ops/ops_end.h"

static const fbi_inner int_inners[FBI_OP_COUNT] = {
#define UNARY_INT(name, f) [FBI_OP_##name] = name##_int,
#define BINARY_INT         UNARY_INT
#define BITS               UNARY_INT
#include "core/ops/ops_begin.h"
#include "core/ops/functions.def"
#include "core/ops/ops_end.h"
};

#define PAST_OF(op)        NULL
#define UNARY(name, ...)   UNARY_KERNELS(name)
#define UNARY_S(name, ...) UNARY_KERNELS(name)
#define BINARY(name, ...)  BINARY_KERNELS(name)
#define COMPARE(name, e)   KERNEL_C(name, 2)
#define PREDICATE(name, e) KERNEL_C(name, 1)
#define BITS(name, f)                                                            \
    fb_status FBI_KERNEL(name)(const fbi_call *c)                                \
    {                                                                            \
        return fbi_loop(c, 2, (fb_dtype[]){FB_I64, FB_I64, FB_I64}, name##_int); \
    }
#include "core/ops/ops_begin.h"
#include "core/ops/functions.def"
#include "core/ops/ops_end.h"
