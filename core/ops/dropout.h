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

FB_END
#endif
