/* Random numbers from distributions, element by element, for all devices: element i is a function
 * of key, stream and i. All arithmetic is in double, so that devices differ by what their exp, log
 * and cos differ: nothing for uniform and bernoulli, an ulp of double for others. */
#ifndef FLAMBEAU_CORE_OPS_RANDOM_PRIV_H
#define FLAMBEAU_CORE_OPS_RANDOM_PRIV_H

#include <math.h>
#include <stdbool.h>

#include "core/base/normal_priv.h"
#include "core/base/philox_priv.h"

/* Uniform in [0, 1), 53 bits: as fbi_rng_uniform_f64. */
static inline FBI_BOTH double fbi_draw_unit(uint64_t key, uint64_t stream, uint64_t i)
{
    uint32_t w[4];
    fbi_philox(key, stream, i / 2, w);
    int at = (int)(i % 2) * 2;
    return fbi_u64_to_f64((uint64_t)w[at + 1] << 32 | w[at]);
}

/* Standard normal by Box and Muller, of two words. */
static inline FBI_BOTH double fbi_draw_gauss(uint32_t w0, uint32_t w1)
{
    return fbi_normal_of(((double)w0 + 0.5) * 0x1p-32,
                         (double)w1 * 0x1p-32); /* the first is not 0 */
}

static inline FBI_BOTH double fbi_draw_normal(uint64_t key, uint64_t stream, uint64_t i)
{
    uint32_t w[4];
    fbi_philox(key, stream, i / 2, w);
    int at = (int)(i % 2) * 2;
    return fbi_draw_gauss(w[at], w[at + 1]);
}

/* Words of attempt `attempt` for element i: elements lie below 2^42. */
static inline FBI_BOTH void fbi_draw_words(uint64_t key, uint64_t stream, uint64_t i,
                                           uint64_t attempt, uint32_t w[4])
{
    fbi_philox(key, stream, attempt << 42 | i, w);
}

static inline FBI_BOTH double fbi_draw_pair(const uint32_t w[4], int pair)
{
    return fbi_u64_to_f64((uint64_t)w[2 * pair + 1] << 32 | w[2 * pair]);
}

/* Gamma of shape a > 0 and scale 1. Marsaglia, Tsang: A simple method for generating gamma
 * variables, ACM TOMS 26 (2000). */
static inline FBI_BOTH double fbi_draw_gamma(double a, uint64_t key, uint64_t stream, uint64_t i)
{
    uint32_t w[4];
    double boost = 1;
    if (a < 1) {
        fbi_draw_words(key, stream, i, 0, w);
        boost = pow(1 - fbi_draw_pair(w, 0), 1 / a);
        a += 1;
    }
    double d = a - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (uint64_t attempt = 1; attempt < 1u << 20; attempt++) {
        fbi_draw_words(key, stream, i, attempt, w);
        double x = fbi_draw_gauss(w[0], w[1]), u = 1 - fbi_draw_pair(w, 1), v = 1 + c * x;
        v = v * v * v;
        if (v > 0 &&
            (u < 1 - 0.0331 * x * x * x * x || log(u) < 0.5 * x * x + d * (1 - v + log(v))))
            return boost * d * v;
    }
    return boost * d; /* not in the age of the universe: 19 in 20 attempts end it */
}

/* Poisson of rate r below 10: as many factors as keep a product above exp(-r). */
static inline FBI_BOTH double fbi_draw_poisson_small(double r, uint64_t key, uint64_t stream,
                                                     uint64_t i)
{
    double least = exp(-r), product = 1;
    uint32_t w[4] = {0, 0, 0, 0};
    for (uint64_t k = 0; k < 1u << 20; k++) {
        if (k % 2 == 0)
            fbi_draw_words(key, stream, i, k / 2, w);
        product *= 1 - fbi_draw_pair(w, (int)(k % 2));
        if (product <= least)
            return (double)k;
    }
    return 0;
}

/* Poisson of rate r >= 0. Hoermann: The transformed rejection method for generating Poisson random
 * variables, Insurance: Mathematics and Economics 12 (1993). */
static inline FBI_BOTH double fbi_draw_poisson(double r, uint64_t key, uint64_t stream, uint64_t i)
{
    if (r < 10)
        return fbi_draw_poisson_small(r, key, stream, i);
    double b = 0.931 + 2.53 * sqrt(r), a = -0.059 + 0.02483 * b;
    double per_alpha = 1.1239 + 1.1328 / (b - 3.4), vr = 0.9277 - 3.6224 / (b - 2);
    for (uint64_t attempt = 0; attempt < 1u << 20; attempt++) {
        uint32_t w[4];
        fbi_draw_words(key, stream, i, attempt, w);
        double u = fbi_draw_pair(w, 0) - 0.5, v = 1 - fbi_draw_pair(w, 1), us = 0.5 - fabs(u);
        double k = floor((2 * a / us + b) * u + r + 0.43);
        if (us >= 0.07 && v <= vr)
            return k;
        if (k < 0 || (us < 0.013 && v > us))
            continue;
        if (log(v) + log(per_alpha) - log(a / (us * us) + b) <= k * log(r) - r - lgamma(k + 1))
            return k;
    }
    return floor(r);
}

/* What parameters must be, of a kernel's message. */
#define FBI_NO_PROBABILITY "%g at position %lld is no probability: 0 .. 1"
#define FBI_NO_RATE        "%g at position %lld is no rate: finite, at least 0"
#define FBI_NO_GAMMA_SHAPE "%g at position %lld is no shape: finite, above 0"
#define FBI_NO_WEIGHT      "%g at position %lld is no weight: finite, at least 0"
#define FBI_FEW_WEIGHTS    "row %lld has too few weights above 0"

static inline FBI_BOTH bool fbi_is_probability(double p)
{
    return p >= 0 && p <= 1;
}

static inline FBI_BOTH bool fbi_is_rate(double r)
{
    return r >= 0 && r < (double)INFINITY;
}

static inline FBI_BOTH bool fbi_is_gamma_shape(double a)
{
    return a > 0 && a < (double)INFINITY;
}

/* --- multinomial: weights in chunks, whose sums are summed up --- */

enum { FBI_WEIGHT_CHUNK = 256 };

/* Who comes first in a race of exponential times: the smaller the sooner; never, if w is 0. */
static inline FBI_BOTH double fbi_race_time(double w, uint64_t key, uint64_t stream, uint64_t i)
{
    return w > 0 ? -log1p(-fbi_draw_unit(key, stream, i)) / w : (double)INFINITY;
}

/* The element at `target` of the running sum of n weights; before[k]: the sum of the chunks before
 * k. One of weight 0 is never chosen. */
static inline FBI_BOTH int64_t fbi_pick(const double *weight, int64_t n, const double *before,
                                        int64_t chunks, double target)
{
    int64_t lo = 0, hi = chunks, picked = 0;
    while (hi - lo > 1) {
        int64_t middle = (lo + hi) / 2;
        if (before[middle] <= target)
            lo = middle;
        else
            hi = middle;
    }
    double sum = before[lo];
    for (int64_t i = lo * FBI_WEIGHT_CHUNK; i < n && (sum <= target || weight[picked] == 0); i++) {
        sum += weight[i];
        if (weight[i] > 0)
            picked = i;
    }
    return picked;
}

#endif
