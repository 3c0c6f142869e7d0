/* Private: F16 and BF16 to and from F32, round to nearest even, without branches. */
#ifndef FLAMBEAU_CORE_BASE_HALF_H
#define FLAMBEAU_CORE_BASE_HALF_H

#include <stdint.h>
#include <string.h>

/* Kernels of a device say on which sides the functions are compiled. */
#ifndef FBI_BOTH
#define FBI_BOTH
#endif

static inline FBI_BOTH uint32_t fbi_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline FBI_BOTH float fbi_bits_f32(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline FBI_BOTH float fbi_bf16_to_f32(uint16_t h)
{
    return fbi_bits_f32((uint32_t)h << 16);
}

static inline FBI_BOTH uint16_t fbi_f32_to_bf16(float x)
{
    uint32_t u = fbi_f32_bits(x);
    uint32_t rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
    uint32_t nan = (u >> 16) | 0x40u; /* stays a NaN, made quiet */
    return (uint16_t)((u & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}

/* After the FP16 library: normal numbers by a multiplication that rebiases the exponent, denormals
 * by a subtraction that normalises them. */
static inline FBI_BOTH float fbi_f16_to_f32(uint16_t h)
{
    uint32_t w = (uint32_t)h << 16, twice = w + w;
    float normal = fbi_bits_f32((twice >> 4) + (0xE0u << 23)) * 0x1p-112f;
    float denormal = fbi_bits_f32((twice >> 17) | (126u << 23)) - 0.5f;
    uint32_t bits = twice < (1u << 27) ? fbi_f32_bits(denormal) : fbi_f32_bits(normal);
    return fbi_bits_f32((w & 0x80000000u) | bits);
}

/* The addition rounds at the place where the half's mantissa ends. */
static inline FBI_BOTH uint16_t fbi_f32_to_f16(float x)
{
    uint32_t w = fbi_f32_bits(x), twice = w + w;
    float base = fbi_bits_f32(w & 0x7FFFFFFFu) * 0x1p112f * 0x1p-110f; /* overflow becomes inf */
    uint32_t bias = twice & 0xFF000000u;
    bias = bias < 0x71000000u ? 0x71000000u : bias;
    uint32_t bits = fbi_f32_bits(fbi_bits_f32((bias >> 1) + 0x07800000u) + base);
    uint32_t value = ((bits >> 13) & 0x7C00u) + (bits & 0x0FFFu);
    return (uint16_t)((w & 0x80000000u) >> 16 | (twice > 0xFF000000u ? 0x7E00u : value));
}

#endif
