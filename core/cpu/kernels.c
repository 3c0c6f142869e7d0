/* The kernel table of one instruction set, from the rows. A row without its kernel does not link.
 */
#include "core/cpu/kernels_isa.h"
#include "core/cpu/widen_priv.h"

/* Pointwise kernels convert in their loop; before the others stands the check for narrow dtypes. */
#define FBI_RUN_OF(name)                                                                       \
    static fb_status run_##name(const fbi_call *c)                                             \
    {                                                                                          \
        return fbi_wants_wide(c) ? fbi_cpu_widened(c, FBI_KERNEL(name)) : FBI_KERNEL(name)(c); \
    }
#define OP(name, ...)             FBI_RUN_OF(name)
#define OP_SLOW(name, ...)        FBI_RUN_OF(name)
#define OP_NODIFF(name, ...)      FBI_RUN_OF(name)
#define OP_FUSED(name, ...)       FBI_RUN_OF(name)
#define OP_FUSED_INNER(name, ...) FBI_RUN_OF(name)
#define OP_INNER(name, ...)       FBI_RUN_OF(name)
#define OP_INNER_DIFF(name, ...)  FBI_RUN_OF(name)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"

#define FBI_ENTRY_OF(name)  [FBI_OP_##name] = FBI_KERNEL(name),
#define FBI_ENTRY_RUN(name) [FBI_OP_##name] = run_##name,

const fbi_kernel FBI_K(fbi_cpu_kernels)[FBI_OP_COUNT] = {
#define UNARY(name, ...)   FBI_ENTRY_OF(name) FBI_ENTRY_OF(name##_bwd) FBI_ENTRY_OF(name##_bwd2)
#define UNARY_S(name, ...) FBI_ENTRY_OF(name) FBI_ENTRY_OF(name##_bwd) FBI_ENTRY_OF(name##_bwd2)
#define BINARY(name, ...)   \
    FBI_ENTRY_OF(name)      \
    FBI_ENTRY_OF(name##_ga) \
    FBI_ENTRY_OF(name##_gb) \
    FBI_ENTRY_OF(name##_gaa) FBI_ENTRY_OF(name##_gab) FBI_ENTRY_OF(name##_gbb)
#define COMPARE(name, ...)        FBI_ENTRY_OF(name)
#define PREDICATE(name, ...)      FBI_ENTRY_OF(name)
#define BITS(name, ...)           FBI_ENTRY_OF(name)
#define OP(name, ...)             FBI_ENTRY_RUN(name)
#define OP_SLOW(name, ...)        FBI_ENTRY_RUN(name)
#define OP_NODIFF(name, ...)      FBI_ENTRY_RUN(name)
#define OP_FUSED(name, ...)       FBI_ENTRY_RUN(name)
#define OP_FUSED_INNER(name, ...) FBI_ENTRY_RUN(name)
#define OP_INNER(name, ...)       FBI_ENTRY_RUN(name)
#define OP_INNER_DIFF(name, ...)  FBI_ENTRY_RUN(name)
#define OP_LAPACK(name, ...)      FBI_ENTRY_OF(name)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
};
