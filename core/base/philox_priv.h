/* Philox4x32-10: random numbers as a pure function of key and counter (Salmon et al., SC 2011). */
#ifndef FLAMBEAU_CORE_BASE_PHILOX_PRIV_H
#define FLAMBEAU_CORE_BASE_PHILOX_PRIV_H

#include <stdint.h>

/* Kernels of a device say on which sides the functions are compiled. */
#ifndef FBI_BOTH
#define FBI_BOTH
#endif

/* Four random words of counter (block, stream) under key. */
static inline FBI_BOTH void fbi_philox(uint64_t key, uint64_t stream, uint64_t block,
                                       uint32_t out[4])
{
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* [0, 1) in steps of 2^-24. */
static inline FBI_BOTH float fbi_u32_to_f32(uint32_t x)
{
    return (float)(int32_t)(x >> 8) * 0x1p-24f;
}

/* [0, 1) in steps of 2^-53. */
static inline FBI_BOTH double fbi_u64_to_f64(uint64_t x)
{
    return (double)(int64_t)(x >> 11) * 0x1p-53;
}

/* A bijection of 64-bit words that spreads small differences (splitmix64). */
static inline uint64_t fbi_mix64(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

#endif
