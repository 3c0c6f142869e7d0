/* Products of matrices. */
#ifndef FLAMBEAU_CORE_OPS_LINALG_H
#define FLAMBEAU_CORE_OPS_LINALG_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/**
 * Matrix product with the rules of numpy.matmul.
 *
 * [M, K] x [K, N] -> [M, N]; leading dimensions are a batch and broadcast. A vector on the left is
 * a row and one on the right a column, whose dimension of 1 is dropped from the result. Views of
 * any strides are read as they are.
 *
 * @param a [..., M, K] or [K], any dtype but BOOL; integers wrap around
 * @param b [..., K, N] or [K], same dtype
 * @return  NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_NOMEM
 */
FB_API FB_USE_RESULT fb_tensor *fb_matmul(fb_tensor *a, fb_tensor *b);

/**
 * y = x w^T + b: an affine map of the last dimension.
 *
 * @param x [..., in], any dtype but BOOL
 * @param w [out, in], same dtype, as b
 * @param b [out] or NULL
 * @return  [..., out], or NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_NOMEM
 */
FB_API FB_USE_RESULT fb_tensor *fb_linear(fb_tensor *x, fb_tensor *w, fb_tensor *b);

/** Activations that a product can end with. */
typedef enum fb_activation {
    FB_ACT_RELU = 1,  /**< fb_relu */
    FB_ACT_GELU_TANH, /**< fb_gelu_tanh; no product ends with fb_gelu, the exact one */
} fb_activation;

/**
 * act(x w^T + b) in one pass over the result; its backward makes the gradients of the activation
 * and of b in one, too. fb_nn_sequential calls it for a Linear before a ReLU or GELUTanh.
 *
 * @param x [..., in] F32 F64 F16 BF16
 * @param w [out, in], same dtype, as b
 * @param b [out] or NULL
 * @return  [..., out], or NULL: FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG, FB_E_NOMEM
 */
FB_API FB_USE_RESULT fb_tensor *fb_linear_act(fb_tensor *x, fb_tensor *w, fb_tensor *b,
                                              fb_activation act);

/* What follows returns NULL on error: FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG, FB_E_NOMEM. Operands are of
 * one dtype, any but BOOL, unless said otherwise. With F16 and BF16 the steps are F32 and the
 * result is rounded once. Local, not collective. Source: the functions of these names of torch. */

/** [M, K] x [K, N] -> [M, N]; no broadcasting. */
FB_API FB_USE_RESULT fb_tensor *fb_mm(fb_tensor *a, fb_tensor *b);
/** [B, M, K] x [B, K, N] -> [B, M, N]; no broadcasting. */
FB_API FB_USE_RESULT fb_tensor *fb_bmm(fb_tensor *a, fb_tensor *b);
/** [M, K] x [K] -> [M]. */
FB_API FB_USE_RESULT fb_tensor *fb_mv(fb_tensor *a, fb_tensor *v);
/** Sum of products of two vectors [N], a scalar. */
FB_API FB_USE_RESULT fb_tensor *fb_dot(fb_tensor *a, fb_tensor *b);
/** The same: our numbers are real. */
FB_API FB_USE_RESULT fb_tensor *fb_vdot(fb_tensor *a, fb_tensor *b);
/** [M] and [N] -> [M, N]; dtypes are promoted. */
FB_API FB_USE_RESULT fb_tensor *fb_outer(fb_tensor *a, fb_tensor *b);
/** Sums of products over the last dimension of both: [.., K] and [,,, K] -> [.., ,,,]; with a
 * scalar, the product. */
FB_API FB_USE_RESULT fb_tensor *fb_inner(fb_tensor *a, fb_tensor *b);
/** beta input + alpha (a x b) of [M, K] x [K, N]; input broadcasts to [M, N]. With beta 0 nothing
 * of input shows, not even a NaN; of integers both scales must be integers. */
FB_API FB_USE_RESULT fb_tensor *fb_addmm(fb_tensor *input, fb_tensor *a, fb_tensor *b, double beta,
                                         double alpha);
/** The same of [M, K] x [K]. */
FB_API FB_USE_RESULT fb_tensor *fb_addmv(fb_tensor *input, fb_tensor *a, fb_tensor *v, double beta,
                                         double alpha);
/** The same of the outer product of [M] and [N]. */
FB_API FB_USE_RESULT fb_tensor *fb_addr(fb_tensor *input, fb_tensor *a, fb_tensor *b, double beta,
                                        double alpha);
/** The same of the sum of a batch of products [B, M, K] x [B, K, N]; input broadcasts to [M, N]. */
FB_API FB_USE_RESULT fb_tensor *fb_addbmm(fb_tensor *input, fb_tensor *a, fb_tensor *b, double beta,
                                          double alpha);
/** The same of each product of a batch [B, M, K] x [B, K, N]; input broadcasts to [B, M, N]. */
FB_API FB_USE_RESULT fb_tensor *fb_baddbmm(fb_tensor *input, fb_tensor *a, fb_tensor *b,
                                           double beta, double alpha);
/**
 * Sums of products by Einstein's convention, e.g. "bij,bjk->bik".
 *
 * Letters name dimensions, one list for each operand; "..." stands for dimensions that broadcast; a
 * letter twice in one operand takes its diagonal; what is not in the result is summed. Without "->"
 * the result has the dimensions of "...", then the letters that occur once, capitals first, in the
 * order of the alphabet. Sizes of 1 go with any size. Two operands at a time are contracted, by
 * batched matrix products where something is summed; first those whose product is smallest beside
 * them. At most 32 operands, 8 dimensions of each and of every partial result. Called by name the
 * row takes an equation of at most 64 characters, eight to a number of the attribute.
 */
FB_API FB_USE_RESULT fb_tensor *fb_einsum(const char *equation, fb_tensors x);
/** Sum of products over dimension dims_a.d[i] of a and dims_b.d[i] of b; the other dimensions of a
 * come before those of b. */
FB_API FB_USE_RESULT fb_tensor *fb_tensordot(fb_tensor *a, fb_tensor *b, fb_shape dims_a,
                                             fb_shape dims_b);
/** Product of 2 .. 32 matrices in the order that needs the fewest multiplications. The first may be
 * a vector (a row), the last too (a column). torch.linalg.multi_dot, torch.chain_matmul. */
FB_API FB_USE_RESULT fb_tensor *fb_multi_dot(fb_tensors factors);
/** Kronecker's product: [M, N] and [P, Q] -> [M P, N Q]; up to 4 dimensions of any sizes, dtypes
 * are promoted. */
FB_API FB_USE_RESULT fb_tensor *fb_kron(fb_tensor *a, fb_tensor *b);
/** Sum of the diagonal of a matrix; of integers I64. */
FB_API FB_USE_RESULT fb_tensor *fb_trace(fb_tensor *x);
/** Vector product along a dimension of size 3; the others broadcast, dtypes are promoted.
 * torch.linalg.cross. */
FB_API FB_USE_RESULT fb_tensor *fb_cross(fb_tensor *a, fb_tensor *b, int dim);
/** Sum of products of floats along a dimension of the broadcast operands. torch.linalg.vecdot. */
FB_API FB_USE_RESULT fb_tensor *fb_vecdot(fb_tensor *a, fb_tensor *b, int dim);
/** Distances between points of floats [..., N, D] and [..., M, D] in the p-norm: [..., N, M]. p is
 * at least 0, INFINITY too. Uses memory for N M D elements. */
FB_API FB_USE_RESULT fb_tensor *fb_cdist(fb_tensor *a, fb_tensor *b, double p);

/** Distances of order p between all pairs of the rows of [n, d], in the order of fb_triu_indices:
 * [n (n - 1) / 2]. Floats. */
FB_API FB_USE_RESULT fb_tensor *fb_pdist(fb_tensor *x, double p);
/** x^T W[o] y + bias[o] of rows: x [..., a], y [..., b], weight [out, a, b], bias [out] or NULL. */
FB_API FB_USE_RESULT fb_tensor *fb_bilinear(fb_tensor *x, fb_tensor *y, fb_tensor *weight,
                                            fb_tensor *bias);
/** Powers of x [..., m] in n columns (0: m) [..., m, n], falling or (increasing) rising. */
FB_API FB_USE_RESULT fb_tensor *fb_vander(fb_tensor *x, int64_t n, bool increasing);
/** exp of matrices [..., n, n] by Taylor's series of a / 2^k, squared k times. The host reads the
 * norm of a, so the device is waited for. Moler, Van Loan: Nineteen Dubious Ways to Compute the
 * Exponential of a Matrix, 2003. */
FB_API FB_USE_RESULT fb_tensor *fb_matrix_exp(fb_tensor *a);

FB_END
#endif
