/* The kernel table of one instruction set, from the rows. A row without its kernel does not link.
 */
#include "core/cpu/kernels_isa.h"

#define FBI_ENTRY_OF(name) [FBI_OP_##name] = FBI_KERNEL(name),

const fbi_kernel FBI_K(fbi_cpu_kernels)[FBI_OP_COUNT] = {
#define UNARY(name, ...)   FBI_ENTRY_OF(name) FBI_ENTRY_OF(name##_bwd) FBI_ENTRY_OF(name##_bwd2)
#define UNARY_S(name, ...) FBI_ENTRY_OF(name) FBI_ENTRY_OF(name##_bwd) FBI_ENTRY_OF(name##_bwd2)
#define BINARY(name, ...)   \
    FBI_ENTRY_OF(name)      \
    FBI_ENTRY_OF(name##_ga) \
    FBI_ENTRY_OF(name##_gb) \
    FBI_ENTRY_OF(name##_gaa) FBI_ENTRY_OF(name##_gab) FBI_ENTRY_OF(name##_gbb)
#define COMPARE(name, ...)       FBI_ENTRY_OF(name)
#define OP(name, ...)            FBI_ENTRY_OF(name)
#define OP_SLOW(name, ...)       FBI_ENTRY_OF(name)
#define OP_NODIFF(name, ...)     FBI_ENTRY_OF(name)
#define OP_INNER(name, ...)      FBI_ENTRY_OF(name)
#define OP_INNER_DIFF(name, ...) FBI_ENTRY_OF(name)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
};
