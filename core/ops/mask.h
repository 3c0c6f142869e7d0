/* Elements that a mask names. x and mask are broadcast together. Local, not collective. Errors:
 * NULL, and the context keeps FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG or FB_E_NOMEM. */
#ifndef FLAMBEAU_CORE_OPS_MASK_H
#define FLAMBEAU_CORE_OPS_MASK_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** The elements of x where mask (BOOL) is true, in row-major order. Their number is in the data:
 * the call waits for the device. */
FB_API FB_USE_RESULT fb_tensor *fb_masked_select(fb_tensor *x, fb_tensor *mask);
/** x, but where mask (BOOL) is true, src's elements, one after the other: src has x's dtype and at
 * least as many elements as mask has trues (on a card the next wait tells). */
FB_API FB_USE_RESULT fb_tensor *fb_masked_scatter(fb_tensor *x, fb_tensor *mask, fb_tensor *src);
/** I64 [n, dimensions of x]: where x is not zero, in row-major order. Waits for the device. */
FB_API FB_USE_RESULT fb_tensor *fb_nonzero(fb_tensor *x);
/** The same: torch.argwhere. */
FB_API FB_USE_RESULT fb_tensor *fb_argwhere(fb_tensor *x);

FB_END
#endif
