/* Fixed-lane sums for F32 and F64: run_f32(x, n, shift, square), block_f32, join_f32; and
 * largest_f32. */
#ifndef FLAMBEAU_CORE_CPU_LANES_PRIV_H
#define FLAMBEAU_CORE_CPU_LANES_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined __AVX512F__
#include <immintrin.h>
#endif

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
typedef int32_t fbi_v_i32 __attribute__((vector_size(FBI_VECTOR_BYTES)));
typedef int64_t fbi_v_i64 __attribute__((vector_size(FBI_VECTOR_BYTES)));

/* A vector, past the caches or not. */
static inline void put_vector(void *to, const void *from, bool past)
{
#if defined __AVX512F__
    if (past) {
        _mm512_stream_si512(to, _mm512_loadu_si512(from));
        return;
    }
#endif
    (void)past;
    memcpy(to, from, FBI_VECTOR_BYTES);
}

#define T       float
#define V       fbi_v_f32
#define I       fbi_v_i32
#define X(name) name##_f32
#include "core/cpu/lanes_body_priv.h"
#undef T
#undef V
#undef I
#undef X
#define T       double
#define V       fbi_v_f64
#define I       fbi_v_i64
#define X(name) name##_f64
#include "core/cpu/lanes_body_priv.h"
#undef T
#undef V
#undef I
#undef X

#endif
