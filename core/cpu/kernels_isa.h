/* Names of the objects that are compiled once per instruction set.
 *
 * Every file of core/cpu except backend.c, loop.c, dnn*.c and *_plain.c is compiled with
 * -DFBI_ISA=v2, v3 and v4 (x86-64 levels), or v0 where there are no levels. The kernel of row NAME
 * is fb_status FBI_KERNEL(NAME)(const fbi_call *c) with external linkage; everything else in such a
 * file is static, or named with FBI_K. */
#ifndef FLAMBEAU_CORE_CPU_KERNELS_ISA_H
#define FLAMBEAU_CORE_CPU_KERNELS_ISA_H

#include "core/ops/op_priv.h"

#ifndef FBI_ISA
#define FBI_ISA v0
#endif
#define FBI_ISA_CAT_(a, b) a##_##b
#define FBI_ISA_CAT(a, b)  FBI_ISA_CAT_(a, b)
/* name_v3 */
#define FBI_K(name) FBI_ISA_CAT(name, FBI_ISA)
/* fbi_cpu_name_v3 */
#define FBI_KERNEL(name) FBI_K(fbi_cpu_##name)

/* Below this many elements a kernel stays on one thread. */
enum { FBI_PAR_MIN = 32768 };

#define FBI_PROTO_KERNEL(name) fb_status FBI_KERNEL(name)(const fbi_call *c);
#define UNARY(name, ...) \
    FBI_PROTO_KERNEL(name) FBI_PROTO_KERNEL(name##_bwd) FBI_PROTO_KERNEL(name##_bwd2)
#define UNARY_S(name, ...) \
    FBI_PROTO_KERNEL(name) FBI_PROTO_KERNEL(name##_bwd) FBI_PROTO_KERNEL(name##_bwd2)
#define BINARY(name, ...)       \
    FBI_PROTO_KERNEL(name)      \
    FBI_PROTO_KERNEL(name##_ga) \
    FBI_PROTO_KERNEL(name##_gb) \
    FBI_PROTO_KERNEL(name##_gaa) FBI_PROTO_KERNEL(name##_gab) FBI_PROTO_KERNEL(name##_gbb)
#define COMPARE(name, ...)        FBI_PROTO_KERNEL(name)
#define PREDICATE(name, ...)      FBI_PROTO_KERNEL(name)
#define BITS(name, ...)           FBI_PROTO_KERNEL(name)
#define OP(name, ...)             FBI_PROTO_KERNEL(name)
#define OP_SLOW(name, ...)        FBI_PROTO_KERNEL(name)
#define OP_NODIFF(name, ...)      FBI_PROTO_KERNEL(name)
#define OP_FUSED(name, ...)       FBI_PROTO_KERNEL(name)
#define OP_FUSED_INNER(name, ...) FBI_PROTO_KERNEL(name)
#define OP_INNER(name, ...)       FBI_PROTO_KERNEL(name)
#define OP_INNER_DIFF(name, ...)  FBI_PROTO_KERNEL(name)
#define OP_LAPACK(name, ...)      FBI_PROTO_KERNEL(name)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"

/* Loops over flat memory (update.c). */
void FBI_K(fbi_cpu_update)(const fbi_update *u);
void FBI_K(fbi_cpu_average)(const fbi_average *a);

/* The table of this level (kernels.c). */
extern const fbi_kernel FBI_K(fbi_cpu_kernels)[FBI_OP_COUNT];

#endif
