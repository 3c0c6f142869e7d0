/* Streams of random numbers. Element i of a stream never depends on how many are drawn
 * together, on threads or on the order of drawing. */
#ifndef FLAMBEAU_CORE_BASE_RNG_PRIV_H
#define FLAMBEAU_CORE_BASE_RNG_PRIV_H

#include <stddef.h>
#include <stdint.h>

/* Elements first .. first + n - 1 of a stream, uniform in [0, 1): element i is word i % 4 of block
 * i / 4, with 24 bits. */
void fbi_rng_uniform_f32(uint64_t key, uint64_t stream, uint64_t first, float *out, size_t n);
/* The same with 53 bits: word pair i % 2 of block i / 2. */
void fbi_rng_uniform_f64(uint64_t key, uint64_t stream, uint64_t first, double *out, size_t n);
/* Standard normal, Box-Muller in double: elements 2j and 2j + 1 are a cosine and sine pair. The
 * float one is the double one, rounded. */
void fbi_rng_normal_f32(uint64_t key, uint64_t stream, uint64_t first, float *out, size_t n);
void fbi_rng_normal_f64(uint64_t key, uint64_t stream, uint64_t first, double *out, size_t n);
/* Element i as a 64-bit word. */
uint64_t fbi_rng_u64(uint64_t key, uint64_t stream, uint64_t i);
/* Element i as an integer in [0, limit), limit > 0; the bias is below limit / 2^64. */
uint64_t fbi_rng_below(uint64_t key, uint64_t stream, uint64_t i, uint64_t limit);

#endif
