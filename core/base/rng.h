/* Random numbers for a program's own functions, as a pure function of who asks. */
#ifndef FLAMBEAU_CORE_BASE_RNG_H
#define FLAMBEAU_CORE_BASE_RNG_H

#include <flambeau/core/base/status.h>

FB_BEGIN

/** A stream of random numbers, and how many were drawn from it; a copy goes on from there. Two
 * streams with other keys or numbers have nothing in common (Philox4x32-10). */
typedef struct fb_rng {
    uint64_t key, stream, next;
} fb_rng;

/** The beginning of a stream: the same numbers for the same seed and stream, anywhere. */
FB_API fb_rng fb_rng_make(uint64_t seed, uint64_t stream);
/** Uniform in [low, high), with 53 bits; `low` for NULL. */
FB_API double fb_rng_uniform(fb_rng *rng, double low, double high);
/** Normal; `mean` for NULL. Box-Muller. */
FB_API double fb_rng_normal(fb_rng *rng, double mean, double std);
/** A whole number in [low, high); `low` for NULL and where there is none. */
FB_API int64_t fb_rng_int(fb_rng *rng, int64_t low, int64_t high);

FB_END
#endif
