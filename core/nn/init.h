/* Initialisers: values, drawn per element from (seed, root number, name, element index). */
#ifndef FLAMBEAU_CORE_NN_INIT_H
#define FLAMBEAU_CORE_NN_INIT_H

#include <flambeau/core/base/status.h>

FB_BEGIN

/** How a parameter gets its first values; by value, compared with nothing. */
typedef struct fb_init {
    int kind;
    double a, b, c, d;
} fb_init;

/** All 0. */
FB_API fb_init fb_init_zeros(void);
/** All 1. */
FB_API fb_init fb_init_ones(void);
/** All `value`. */
FB_API fb_init fb_init_constant(double value);
/** Normal. */
FB_API fb_init fb_init_normal(double mean, double std);
/** Uniform in [lo, hi). */
FB_API fb_init fb_init_uniform(double lo, double hi);
FB_API fb_init fb_init_trunc_normal(double mean, double std); /**< within two std */
/** Normal, drawn again outside of lo .. hi. All four are taken as floats. */
FB_API fb_init fb_init_trunc_normal_within(double mean, double std, double lo, double hi);
/** Uniform within gain sqrt(6 / (fan in + fan out)). Glorot, Bengio: AISTATS 2010. */
FB_API fb_init fb_init_xavier_uniform(double gain);
/** Normal, deviation gain sqrt(2 / (fan in + fan out)). */
FB_API fb_init fb_init_xavier_normal(double gain);
/** Normal, deviation sqrt(2 / (1 + slope^2) / fan in). He et al.: arXiv:1502.01852. */
FB_API fb_init fb_init_kaiming_normal(double negative_slope);
FB_API fb_init fb_init_kaiming_uniform(double negative_slope); /**< sqrt(5): PyTorch's default */

/** What keeps its variance: the forward or the backward pass. */
typedef enum fb_fan { FB_FAN_IN, FB_FAN_OUT } fb_fan;

/** What follows a layer, for fb_init_gain. */
typedef enum fb_nonlinearity {
    FB_GAIN_LINEAR, /**< nothing: 1 */
    FB_GAIN_SIGMOID,
    FB_GAIN_TANH,
    FB_GAIN_RELU,
    FB_GAIN_LEAKY_RELU, /**< param: its slope */
    FB_GAIN_SELU
} fb_nonlinearity;

/** The factor by which the nonlinearity asks for larger weights: torch.nn.init.calculate_gain. */
FB_API double fb_init_gain(fb_nonlinearity of, double param);
/** Normal, deviation gain / sqrt(fan). */
FB_API fb_init fb_init_kaiming_normal_of(fb_fan fan, double gain);
/** Uniform within gain sqrt(3 / fan). */
FB_API fb_init fb_init_kaiming_uniform_of(fb_fan fan, double gain);

/* What follows asks for some number of dimensions; drawing says so, FB_E_SHAPE. */
/** 1 on the diagonal of a matrix, else 0. */
FB_API fb_init fb_init_eye(void);
/** A convolution [out, in, k...] that copies its channels, in `groups` groups of outputs. */
FB_API fb_init fb_init_dirac(int64_t groups);
/** gain times a matrix [size 0, the others] whose rows, or columns if they are fewer, are
 * orthonormal. Saxe et al.: arXiv:1312.6120. */
FB_API fb_init fb_init_orthogonal(double gain);
/** A matrix of normal numbers, of whose columns each has a share `sparsity` of zeros, rounded up.
 * Martens: ICML 2010. */
FB_API fb_init fb_init_sparse(double sparsity, double std);

FB_END
#endif
