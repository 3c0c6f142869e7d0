/* Initialisers: values, drawn per element from (seed, root number, name, element index). */
#ifndef FLAMBEAU_CORE_NN_INIT_H
#define FLAMBEAU_CORE_NN_INIT_H

#include <flambeau/core/base/status.h>

FB_BEGIN

/** How a parameter gets its first values; by value, compared with nothing. */
typedef struct fb_init {
    int kind;
    double a, b;
} fb_init;

/** All 0. */
FB_API fb_init fb_init_zeros(void);
/** All `value`. */
FB_API fb_init fb_init_constant(double value);
/** Normal. */
FB_API fb_init fb_init_normal(double mean, double std);
/** Uniform in [lo, hi). */
FB_API fb_init fb_init_uniform(double lo, double hi);
FB_API fb_init fb_init_trunc_normal(double mean, double std); /**< within two std */
FB_API fb_init fb_init_xavier_uniform(double gain);
/** Normal, deviation sqrt(2 / (1 + slope^2) / fan in). He et al.: arXiv:1502.01852. */
FB_API fb_init fb_init_kaiming_normal(double negative_slope);
FB_API fb_init fb_init_kaiming_uniform(double negative_slope); /**< sqrt(5): PyTorch's default */

FB_END
#endif
