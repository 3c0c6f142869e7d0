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
 * @param x      [N, C], [N, C, L], [N, C, H, W] or [N, C, D, H, W], F32 F64 F16 BF16, at least one
 * element per channel
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
/**
 * relu(fb_batch_norm(x) + residual) in two passes over memory, and two backwards. So ends a block
 * of a residual network; its other batch norms have no residual.
 *
 * @param residual of x's shape; dtypes of the two are promoted, as in x + residual; NULL: nothing
 * @return         like x (+ residual); other parameters and errors as in fb_batch_norm; also
 * FB_E_SHAPE if the shapes differ
 *
 * He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv:1512.03385.
 */
FB_API FB_USE_RESULT fb_tensor *fb_batch_norm_relu(fb_tensor *x, fb_tensor *weight, fb_tensor *bias,
                                                   fb_tensor *residual, double eps,
                                                   fb_tensor **mean, fb_tensor **var);
/** fb_batch_norm with given statistics [C]: samples do not depend on each other. */
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

/**
 * Normalise groups of channels of each sample to zero mean and unit variance, then scale and shift
 * each channel.
 *
 * @param x      [N, C, ...] F32 F64 F16 BF16; sums in F32 or wider
 * @param groups divides C; group g has channels g C / groups ..
 * @param weight [C] or NULL for ones
 * @param bias   [C] or NULL for zeros
 * @return       like x, or NULL: FB_E_SHAPE, FB_E_ARG, FB_E_DTYPE, FB_E_NOMEM
 *
 * Wu, He: Group Normalization, arXiv:1803.08494.
 */
FB_API FB_USE_RESULT fb_tensor *fb_group_norm(fb_tensor *x, int64_t groups, fb_tensor *weight,
                                              fb_tensor *bias, double eps);
/**
 * Normalise each channel of each sample over its places: x [N, C, ...] with more than one place.
 * With given statistics it is fb_batch_norm_eval. Weight, bias and errors as in fb_group_norm.
 *
 * Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022.
 */
FB_API FB_USE_RESULT fb_tensor *fb_instance_norm(fb_tensor *x, fb_tensor *weight, fb_tensor *bias,
                                                 double eps);
/**
 * Divide by the root of the mean square over the last `shape.n` dimensions:
 * y = x / sqrt(mean(x^2) + eps) * weight.
 *
 * @param x      [..., shape] F32 F64 F16 BF16; sums in F32 or wider
 * @param weight [shape] or NULL for ones
 * @param eps    0: the epsilon of F32, of F64 that of F64, as in PyTorch; FB_ZERO for none
 * @return       like x, or NULL: FB_E_SHAPE if x does not end in `shape`, FB_E_DTYPE, FB_E_NOMEM
 *
 * Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467.
 */
FB_API FB_USE_RESULT fb_tensor *fb_rms_norm(fb_tensor *x, fb_shape shape, fb_tensor *weight,
                                            double eps);
/**
 * Divide by what channels around each channel have: y = x / (k + alpha m)^beta, with the mean m of
 * the squares of `size` channels, size / 2 of them before (those outside count as 0).
 *
 * @param x    [N, C, ...] of at least 3 dimensions, F32 F64 F16 BF16
 * @param size above 0
 * @return     like x, or NULL: FB_E_SHAPE, FB_E_ARG, FB_E_DTYPE, FB_E_NOMEM
 *
 * Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks,
 * 2012; torch.nn.functional.local_response_norm.
 */
FB_API FB_USE_RESULT fb_tensor *fb_local_response_norm(fb_tensor *x, int64_t size, double alpha,
                                                       double beta, double k);
/** x divided by its norm of order p along `dim`, or by eps where that is larger. Floats only. */
FB_API FB_USE_RESULT fb_tensor *fb_normalize(fb_tensor *x, double p, int dim, double eps);

FB_END
#endif
