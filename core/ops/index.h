/* Taking elements by index, of any dtype. Indices are integers of any dtype, 0 .. size - 1; one out
 * of range is FB_E_ARG and named in the message. Gradients are added in the order of the indices,
 * so their bits depend on nothing else. Local, not collective. NULL on error. */
#ifndef FLAMBEAU_CORE_OPS_INDEX_H
#define FLAMBEAU_CORE_OPS_INDEX_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** The slices of x along dim that index [n] lists, in its order. */
FB_API FB_USE_RESULT fb_tensor *fb_index_select(fb_tensor *x, int dim, fb_tensor *index);
/**
 * out[i][j][k] = x[i][index[i][j][k]][k] for dim = 1: the shape of index. index has as many
 * dimensions as x and is nowhere longer than x, except along dim. Source: torch.gather.
 */
FB_API FB_USE_RESULT fb_tensor *fb_gather(fb_tensor *x, int dim, fb_tensor *index);

FB_END
#endif
