/* Softmax and its logarithm. Floats of any shape; F16 and BF16 are computed in F32. Local, not
 * collective. NULL on error. */
#ifndef FLAMBEAU_CORE_OPS_SOFTMAX_H
#define FLAMBEAU_CORE_OPS_SOFTMAX_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** exp(x) / sum(exp(x)) over `dim` (negative counts from the end), without overflow. */
FB_API FB_USE_RESULT fb_tensor *fb_softmax(fb_tensor *x, int dim);
/** x - log(sum(exp(x))) over `dim`, without overflow. */
FB_API FB_USE_RESULT fb_tensor *fb_log_softmax(fb_tensor *x, int dim);

FB_END
#endif
