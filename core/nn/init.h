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

FB_API fb_init fb_init_zeros(void);
FB_API fb_init fb_init_constant(double value);
FB_API fb_init fb_init_normal(double mean, double std);
FB_API fb_init fb_init_uniform(double lo, double hi);
FB_API fb_init fb_init_trunc_normal(double mean, double std); /**< within two std */
FB_API fb_init fb_init_xavier_uniform(double gain);
FB_API fb_init fb_init_kaiming_normal(double negative_slope);
FB_API fb_init fb_init_kaiming_uniform(double negative_slope); /**< sqrt(5): PyTorch's default */

FB_END
#endif
