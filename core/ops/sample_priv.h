/* The samples of a row, collected for the test harness. */
#ifndef FLAMBEAU_CORE_OPS_SAMPLE_PRIV_H
#define FLAMBEAU_CORE_OPS_SAMPLE_PRIV_H

#include "core/ops/op_priv.h"

enum { FBI_SAMPLE_INPUTS = 8, FBI_SAMPLE_ATTRS = 512, FBI_SAMPLES_MAX = 64 };

typedef struct fbi_sample {
    _Alignas(8) char attrs[FBI_SAMPLE_ATTRS];
    int n_in;
    fbi_sample_in in[FBI_SAMPLE_INPUTS];
    fb_status status; /* FB_OK: must work */
    const char *text; /* in the message */
} fbi_sample;

struct fbi_samples {
    const fbi_opdef *op;
    int n;
    fbi_sample s[FBI_SAMPLES_MAX];
};

/* The next number in 0 .. 1 of a seed. */
double fbi_sample_random(uint32_t *seed);
/* Values of an input, in double, from a seed that goes on; whole ones if it is not of floats. */
void fbi_sample_values(const fbi_sample_in *in, bool floats, double *v, uint32_t *seed);

#endif
