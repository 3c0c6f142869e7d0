#include "core/base/rng_priv.h"

#include <math.h>

#include <flambeau/core/base/rng.h>

#include "core/base/philox_priv.h"

void fbi_rng_uniform_f32(uint64_t key, uint64_t stream, uint64_t first, float *out, size_t n)
{
    uint32_t w[4];
    for (size_t i = 0; i < n;) {
        uint64_t e = first + i;
        fbi_philox(key, stream, e / 4, w);
        for (uint64_t j = e % 4; j < 4 && i < n; j++)
            out[i++] = fbi_u32_to_f32(w[j]);
    }
}

uint64_t fbi_rng_u64(uint64_t key, uint64_t stream, uint64_t i)
{
    uint32_t w[4];
    fbi_philox(key, stream, i / 2, w);
    size_t at = (size_t)(i % 2) * 2;
    return (uint64_t)w[at + 1] << 32 | w[at];
}

void fbi_rng_uniform_f64(uint64_t key, uint64_t stream, uint64_t first, double *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = fbi_u64_to_f64(fbi_rng_u64(key, stream, first + i));
}

uint64_t fbi_rng_below(uint64_t key, uint64_t stream, uint64_t i, uint64_t limit)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)(((wide)fbi_rng_u64(key, stream, i) * limit) >> 64);
}

/* The four normals of a block. */
static void normals(uint64_t key, uint64_t stream, uint64_t block, double out[4])
{
    uint32_t w[4];
    fbi_philox(key, stream, block, w);
    for (int p = 0; p < 4; p += 2) {
        double u = ((double)w[p] + 0.5) * 0x1p-32; /* never 0: the logarithm is finite */
        double angle = 6.283185307179586477 * ((double)w[p + 1] * 0x1p-32);
        double r = sqrt(-2.0 * log(u));
        out[p] = r * cos(angle);
        out[p + 1] = r * sin(angle);
    }
}

void fbi_rng_normal_f64(uint64_t key, uint64_t stream, uint64_t first, double *out, size_t n)
{
    double v[4];
    for (size_t i = 0; i < n;) {
        uint64_t e = first + i;
        normals(key, stream, e / 4, v);
        for (uint64_t j = e % 4; j < 4 && i < n; j++)
            out[i++] = v[j];
    }
}

void fbi_rng_normal_f32(uint64_t key, uint64_t stream, uint64_t first, float *out, size_t n)
{
    double v[4];
    for (size_t i = 0; i < n;) {
        uint64_t e = first + i;
        normals(key, stream, e / 4, v);
        for (uint64_t j = e % 4; j < 4 && i < n; j++)
            out[i++] = (float)v[j];
    }
}

/* --- of a program's own functions --- */

fb_rng fb_rng_make(uint64_t seed, uint64_t stream)
{
    return (fb_rng){.key = fbi_mix64(seed), .stream = stream};
}

double fb_rng_uniform(fb_rng *rng, double low, double high)
{
    if (!rng)
        return low;
    return low + (high - low) * fbi_u64_to_f64(fbi_rng_u64(rng->key, rng->stream, rng->next++));
}

double fb_rng_normal(fb_rng *rng, double mean, double std)
{
    if (!rng)
        return mean;
    double u = 1 - fb_rng_uniform(rng, 0, 1); /* never 0: the logarithm is finite */
    double angle = fb_rng_uniform(rng, 0, 6.283185307179586477);
    return mean + std * sqrt(-2 * log(u)) * cos(angle);
}

int64_t fb_rng_int(fb_rng *rng, int64_t low, int64_t high)
{
    if (!rng || high <= low)
        return low;
    uint64_t n = (uint64_t)high - (uint64_t)low;
    return (int64_t)((uint64_t)low + fbi_rng_below(rng->key, rng->stream, rng->next++, n));
}
