/* Fixed-lane sums for F32 and F64: run_f32(x, n, shift, square), block_f32, join_f32; and
 * largest_f32. */
#ifndef FLAMBEAU_CORE_CPU_LANES_PRIV_H
#define FLAMBEAU_CORE_CPU_LANES_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { FBI_BLOCK = 4096 };

/* As wide as the machine, or the compiler splits each through memory. The lanes stay the same. */
#if defined __AVX512F__
enum { FBI_VECTOR_BYTES = 64 };
#elif defined __AVX__
enum { FBI_VECTOR_BYTES = 32 };
#else
enum { FBI_VECTOR_BYTES = 16 };
#endif
typedef float fbi_v_f32 __attribute__((vector_size(FBI_VECTOR_BYTES)));
typedef double fbi_v_f64 __attribute__((vector_size(FBI_VECTOR_BYTES)));

#define T       float
#define V       fbi_v_f32
#define X(name) name##_f32
#include "core/cpu/lanes_body_priv.h"
#undef T
#undef V
#undef X
#define T       double
#define V       fbi_v_f64
#define X(name) name##_f64
#include "core/cpu/lanes_body_priv.h"
#undef T
#undef V
#undef X

#endif
