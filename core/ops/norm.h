/* Normalisation. Statistics are computed in double and kept in the dtype of x, of F16 and BF16 in
 * F32. Weight and bias have the dtype of x, or, as in PyTorch, both are F32 where x is F16 or BF16.
 */
#ifndef FLAMBEAU_CORE_OPS_NORM_H
#define FLAMBEAU_CORE_OPS_NORM_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/**
 * Normalise each channel with the mean and the biased variance of the batch.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias. The result depends on the whole batch.
 *
 * @param x      [N, C] or [N, C, L] or [N, C, H, W], F32 F64 F16 BF16, at least one element per
 * channel
 * @param weight [C] or NULL for ones
 * @param bias   [C] or NULL for zeros
 * @param mean   receives [C], the mean, for running statistics; NULL: not wanted
 * @param var    receives [C], the biased variance; NULL: not wanted
 * @return       like x, or NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_NOMEM
 *
 * Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167.
 */
FB_API FB_USE_RESULT fb_tensor *fb_batch_norm(fb_tensor *x, fb_tensor *weight, fb_tensor *bias,
                                              double eps, fb_tensor **mean, fb_tensor **var);
/** The same with given statistics [C]: samples do not depend on each other. */
FB_API FB_USE_RESULT fb_tensor *fb_batch_norm_eval(fb_tensor *x, fb_tensor *weight, fb_tensor *bias,
                                                   fb_tensor *mean, fb_tensor *var, double eps);

/**
 * Normalise the last `shape.n` dimensions to zero mean and unit variance, then scale and shift.
 *
 * y = (x - mean) / sqrt(var + eps) * weight + bias, with the biased variance.
 *
 * @param x      [..., shape] F32 F64 F16 BF16
 * @param weight [shape] or NULL for ones
 * @param bias   [shape] or NULL for zeros
 * @return       like x, or NULL: FB_E_SHAPE if x does not end in `shape`, FB_E_DTYPE, FB_E_NOMEM
 *
 * Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450.
 */
FB_API FB_USE_RESULT fb_tensor *fb_layer_norm(fb_tensor *x, fb_shape shape, fb_tensor *weight,
                                              fb_tensor *bias, double eps);

/**
 * fb_layer_norm of x + residual, and that sum, in one pass; backward is one pass, too. So it goes
 * from one block of a transformer to the next.
 *
 * @param residual of x's shape; dtypes of the two are promoted, as in x + residual
 * @param sum      receives x + residual
 * @return         like the sum; errors as in fb_layer_norm; also FB_E_SHAPE if the shapes differ
 */
FB_API FB_USE_RESULT fb_tensor *fb_add_layer_norm(fb_tensor *x, fb_tensor *residual, fb_shape shape,
                                                  fb_tensor *weight, fb_tensor *bias, double eps,
                                                  fb_tensor **sum);

FB_END
#endif
