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

FB_END
#endif
