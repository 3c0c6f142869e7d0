/* Reductions over dimensions. `dims` lists them (negative counts from the end); FB_ALL: all.
 * keepdim leaves them in place with size 1. Sums have a fixed order: the bits depend neither on the
 * instruction set nor on the number of threads. Local, not collective. NULL on error. */
#ifndef FLAMBEAU_CORE_OPS_REDUCE_H
#define FLAMBEAU_CORE_OPS_REDUCE_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** Sum. Floats keep their dtype (F16 and BF16 are summed in F32); integers and BOOL give I64. */
FB_API FB_USE_RESULT fb_tensor *fb_sum(fb_tensor *x, fb_shape dims, bool keepdim);
/** Arithmetic mean of floats; NaN over no elements. */
FB_API FB_USE_RESULT fb_tensor *fb_mean(fb_tensor *x, fb_shape dims, bool keepdim);
/** Variance of floats, in two passes. unbiased: divided by n - 1 (torch's default), else by n. */
FB_API FB_USE_RESULT fb_tensor *fb_var(fb_tensor *x, fb_shape dims, bool unbiased, bool keepdim);
/** Largest value; NaN wins. Equal largest values share the gradient evenly, as torch.amax. */
FB_API FB_USE_RESULT fb_tensor *fb_amax(fb_tensor *x, fb_shape dims, bool keepdim);
/** Smallest value; NaN wins. */
FB_API FB_USE_RESULT fb_tensor *fb_amin(fb_tensor *x, fb_shape dims, bool keepdim);
/** BOOL: whether any element is not zero; false over no elements. */
FB_API FB_USE_RESULT fb_tensor *fb_any(fb_tensor *x, fb_shape dims, bool keepdim);
/** BOOL: whether every element is not zero; true over no elements. */
FB_API FB_USE_RESULT fb_tensor *fb_all(fb_tensor *x, fb_shape dims, bool keepdim);

/** Product. Floats keep their dtype, integers and BOOL give I64; 1 over no elements. The gradient
 * is exact where elements are 0. */
FB_API FB_USE_RESULT fb_tensor *fb_prod(fb_tensor *x, fb_shape dims, bool keepdim);
/** Square root of fb_var; the gradient is 0 where it is 0. */
FB_API FB_USE_RESULT fb_tensor *fb_std(fb_tensor *x, fb_shape dims, bool unbiased, bool keepdim);
/** fb_var and fb_mean; either place may be NULL, here and below. */
FB_API fb_status fb_var_mean(fb_tensor *x, fb_shape dims, bool unbiased, bool keepdim,
                             fb_tensor **var, fb_tensor **mean);
/** fb_std and fb_mean. */
FB_API fb_status fb_std_mean(fb_tensor *x, fb_shape dims, bool unbiased, bool keepdim,
                             fb_tensor **std, fb_tensor **mean);
/** Norm of order p of floats, as vectors: the p-th root of the sum of |x|^p; 0: how many are not 0;
 * INFINITY and -INFINITY: the largest and smallest |x|. Where it is 0 so is the gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_norm(fb_tensor *x, double p, fb_shape dims, bool keepdim);
/** fb_norm of a - b over all elements. */
FB_API FB_USE_RESULT fb_tensor *fb_dist(fb_tensor *a, fb_tensor *b, double p);
/** log of the sum of exp, without overflow; -inf over no elements. */
FB_API FB_USE_RESULT fb_tensor *fb_logsumexp(fb_tensor *x, fb_shape dims, bool keepdim);
/** I64: how many elements are not 0; NaN is not. No gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_count_nonzero(fb_tensor *x, fb_shape dims);
/** fb_sum with 0 for NaN. */
FB_API FB_USE_RESULT fb_tensor *fb_nansum(fb_tensor *x, fb_shape dims, bool keepdim);
/** fb_mean of the elements that are no NaN. */
FB_API FB_USE_RESULT fb_tensor *fb_nanmean(fb_tensor *x, fb_shape dims, bool keepdim);
/** Largest of all elements; fb_max_dim is along a dimension. */
FB_API FB_USE_RESULT fb_tensor *fb_max(fb_tensor *x);
/** Smallest of all elements. */
FB_API FB_USE_RESULT fb_tensor *fb_min(fb_tensor *x);
/** fb_amin and fb_amax. */
FB_API fb_status fb_aminmax(fb_tensor *x, fb_shape dims, bool keepdim, fb_tensor **min,
                            fb_tensor **max);

/**
 * Covariances [n, n] of variables x [n, observations], or the variance [] of one.
 *
 * @param frequencies how often each observation counts, integers [observations], or NULL
 * @param weights     of the observations, [observations], or NULL
 * @param correction  subtracted from the number of observations: 1 in PyTorch
 */
FB_API FB_USE_RESULT fb_tensor *fb_cov(fb_tensor *x, fb_tensor *frequencies, fb_tensor *weights,
                                       int64_t correction);
/** Pearson's correlations [n, n] of variables [n, observations]. */
FB_API FB_USE_RESULT fb_tensor *fb_corrcoef(fb_tensor *x);
/** x with each slice along `dim` whose norm of order p is larger scaled down to maxnorm. */
FB_API FB_USE_RESULT fb_tensor *fb_renorm(fb_tensor *x, double p, int dim, double maxnorm);

FB_END
#endif
