/* Tables of vectors. The gradient is added in the order of the indices, so its bits depend on
 * nothing else. Local, not collective. NULL on error; an index out of range is FB_E_ARG and named.
 */
#ifndef FLAMBEAU_CORE_OPS_EMBEDDING_H
#define FLAMBEAU_CORE_OPS_EMBEDDING_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** Rows of weight [rows, dim] at `index` (integers of any dtype and shape): [index..., dim]. */
FB_API FB_USE_RESULT fb_tensor *fb_embedding(fb_tensor *weight, fb_tensor *index);
/** The same; row `padding_index` (>= 0) gets no gradient. */
FB_API FB_USE_RESULT fb_tensor *fb_embedding_padded(fb_tensor *weight, fb_tensor *index,
                                                    int64_t padding_index);

FB_END
#endif
