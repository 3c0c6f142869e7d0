/* Numbers of alpha dropout, for all devices. */
#ifndef FLAMBEAU_CORE_OPS_DROPOUT_PRIV_H
#define FLAMBEAU_CORE_OPS_DROPOUT_PRIV_H

#include <math.h>

/* What stays becomes x * scale + shift, the rest `dropped`; all 0 for p = 1. */
typedef struct fbi_alpha_numbers {
    double scale, shift, dropped;
} fbi_alpha_numbers;

static inline fbi_alpha_numbers fbi_alpha_numbers_of(double p)
{
    const double alpha = 1.7580993408473766; /* SELU falls to its negative */
    fbi_alpha_numbers n = {0, 0, 0};
    if (p < 1) {
        n.scale = 1 / sqrt((alpha * alpha * p + 1) * (1 - p));
        n.shift = alpha * n.scale * p;
        n.dropped = n.shift - alpha * n.scale;
    }
    return n;
}

#endif
