/* Dropout. */
#ifndef FLAMBEAU_CORE_OPS_DROPOUT_H
#define FLAMBEAU_CORE_OPS_DROPOUT_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/**
 * Zero each element with probability p and scale the others by 1 / (1 - p).
 *
 * Which ones is decided by the random numbers of the context (see fb_batch_info) and by the
 * element's row-major index, so it depends neither on threads nor on the layout. The mask is not
 * stored but drawn again in backward. p = 0 returns x.
 *
 * @param x any shape, floats
 * @param p 0 <= p <= 1
 * @return  like x, or NULL: FB_E_ARG, FB_E_DTYPE, FB_E_NOMEM
 *
 * Srivastava et al.: Dropout, JMLR 15 (2014).
 */
FB_API FB_USE_RESULT fb_tensor *fb_dropout(fb_tensor *x, double p);

/** Whole channels at once: x [N, C, L], or [C, L] without a batch. */
FB_API FB_USE_RESULT fb_tensor *fb_dropout1d(fb_tensor *x, double p);
/** The same for [N, C, H, W]; as in PyTorch [N, C, L] is taken too. */
FB_API FB_USE_RESULT fb_tensor *fb_dropout2d(fb_tensor *x, double p);
/** The same for [N, C, D, H, W], or [C, D, H, W]. */
FB_API FB_USE_RESULT fb_tensor *fb_dropout3d(fb_tensor *x, double p);
/**
 * Dropout that keeps mean 0 and variance 1 of what a SELU made: elements become what SELU is far
 * below 0, then all are scaled and shifted. p = 0 returns x, p = 1 gives zeros.
 *
 * Klambauer et al.: Self-Normalizing Neural Networks, NIPS 2017.
 */
FB_API FB_USE_RESULT fb_tensor *fb_alpha_dropout(fb_tensor *x, double p);
/** The same for whole channels, x [N, C, ...]. */
FB_API FB_USE_RESULT fb_tensor *fb_feature_alpha_dropout(fb_tensor *x, double p);

FB_END
#endif
