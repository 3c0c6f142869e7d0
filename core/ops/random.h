/* Random numbers of distributions. Values depend on the seed, the position of the call (see
 * fb_batch_info) and the index of the element, not on threads; cards draw the same, up to what
 * their exp, log and cos differ by. Nothing here has a derivative. dtype 0 is F32. Local, not
 * collective. Errors: NULL, and the context keeps FB_E_SHAPE, FB_E_DTYPE or FB_E_ARG; a parameter
 * out of range is named, on a card by the next wait. */
#ifndef FLAMBEAU_CORE_OPS_RANDOM_H
#define FLAMBEAU_CORE_OPS_RANDOM_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** Uniform in [from, to); a floating dtype. */
FB_API FB_USE_RESULT fb_tensor *fb_uniform(fb_context *ctx, fb_dtype dtype, fb_shape shape,
                                           double from, double to);
/** Normal; deviation >= 0; a floating dtype. */
FB_API FB_USE_RESULT fb_tensor *fb_normal(fb_context *ctx, fb_dtype dtype, fb_shape shape,
                                          double mean, double deviation);
/** Exponential of density rate exp(-rate x), rate > 0; a floating dtype. */
FB_API FB_USE_RESULT fb_tensor *fb_exponential(fb_context *ctx, fb_dtype dtype, fb_shape shape,
                                               double rate);
/** I64: 0 .. n - 1 in a random order. */
FB_API FB_USE_RESULT fb_tensor *fb_randperm(fb_context *ctx, int64_t n);

/** 1 with probability p (0 .. 1, floats), else 0: like p. */
FB_API FB_USE_RESULT fb_tensor *fb_bernoulli(fb_tensor *p);
/** Poisson numbers of these rates (>= 0, floats): like rate. */
FB_API FB_USE_RESULT fb_tensor *fb_poisson(fb_tensor *rate);
/** Gamma numbers of these shapes (> 0, floats) and scale 1: like shape. */
FB_API FB_USE_RESULT fb_tensor *fb_gamma(fb_tensor *shape);
/**
 * Indices, drawn in proportion to weights: I64 [count] or [rows, count].
 *
 * @param weights     [n] or [rows, n] of floats, finite, >= 0, the sum of each row above 0
 * @param replacement false: no index twice in a row, whose weights above 0 must be enough
 */
FB_API FB_USE_RESULT fb_tensor *fb_multinomial(fb_tensor *weights, int64_t count, bool replacement);

/** Uniform in [0, 1), like t. */
FB_API FB_USE_RESULT fb_tensor *fb_rand_like(fb_tensor *t);
/** Normal of mean 0 and deviation 1, like t. */
FB_API FB_USE_RESULT fb_tensor *fb_randn_like(fb_tensor *t);
/** I64 of t's shape, uniform in lo .. hi - 1. */
FB_API FB_USE_RESULT fb_tensor *fb_randint_like(fb_tensor *t, int64_t lo, int64_t hi);

/** exp of normal numbers. */
FB_API FB_USE_RESULT fb_tensor *fb_log_normal(fb_context *ctx, fb_dtype dtype, fb_shape shape,
                                              double mean, double deviation);
/** Cauchy's distribution around the median. */
FB_API FB_USE_RESULT fb_tensor *fb_cauchy(fb_context *ctx, fb_dtype dtype, fb_shape shape,
                                          double median, double sigma);
/** Tries until the first success, which has probability p in each: 1, 2, ... */
FB_API FB_USE_RESULT fb_tensor *fb_geometric(fb_context *ctx, fb_dtype dtype, fb_shape shape,
                                             double p);
/** mean + deviation z with normal z, of tensors that broadcast; gradients are those of that sum
 * (PyTorch's are 0). */
FB_API FB_USE_RESULT fb_tensor *fb_normal_of(fb_tensor *mean, fb_tensor *deviation);
/** x above 0, x times a slope that is uniform in lower .. upper elsewhere: torch's rrelu in
 * training (in evaluation it is fb_leaky_relu with the mean slope). Xu et al., arXiv:1505.00853. */
FB_API FB_USE_RESULT fb_tensor *fb_rrelu(fb_tensor *x, double lower, double upper);
/** softmax((x + g) / tau) along dim, g of Gumbel's distribution; hard: 1 at the largest and 0
 * elsewhere, with the gradient of the soft one. Jang, Gu, Poole: arXiv:1611.01144. */
FB_API FB_USE_RESULT fb_tensor *fb_gumbel_softmax(fb_tensor *x, double tau, bool hard, int dim);

FB_END
#endif
