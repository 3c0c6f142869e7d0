/* Writing elements or slices at places that indices name. Results are new tensors. x and src are of
 * one dtype, any; indices are integers of any dtype, 0 .. size - 1 unless said otherwise. One out
 * of range is FB_E_ARG and named in the message: on the CPU at once, on a card by the next wait.
 *
 * Where several indices are the same, elements are written, added or joined in the row-major order
 * of the indices: the last one stays, and the bits of sums depend on nothing else. Gradients are
 * PyTorch's: of equal indices that only write, each source has the gradient of the place.
 * Negative dimensions count from the end. Local, not collective. Errors: NULL, and the context
 * keeps FB_E_SHAPE, FB_E_DTYPE, FB_E_ARG or FB_E_NOMEM. */
#ifndef FLAMBEAU_CORE_OPS_SCATTER_H
#define FLAMBEAU_CORE_OPS_SCATTER_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

typedef enum fb_scatter_reduction {
    FB_SCATTER_SUM,
    FB_SCATTER_PROD,
    FB_SCATTER_MEAN, /**< of integers: rounded down */
    FB_SCATTER_AMAX, /**< NaN wins; equal ones share the gradient */
    FB_SCATTER_AMIN
} fb_scatter_reduction;

/* --- elements: out[i][index[i][j][k]][k] from src[i][j][k] for dim = 1; index has as many
 * dimensions as x and src, is nowhere longer than src, and but for dim nowhere longer than x --- */

/** x with src's elements written at index. */
FB_API FB_USE_RESULT fb_tensor *fb_scatter(fb_tensor *x, int dim, fb_tensor *index, fb_tensor *src);
/** x with `value` written at index. */
FB_API FB_USE_RESULT fb_tensor *fb_scatter_value(fb_tensor *x, int dim, fb_tensor *index,
                                                 double value);
/** x with src's elements added at index. */
FB_API FB_USE_RESULT fb_tensor *fb_scatter_add(fb_tensor *x, int dim, fb_tensor *index,
                                               fb_tensor *src);
/** x with src's elements joined at index, together with x's own if include_self. */
FB_API FB_USE_RESULT fb_tensor *fb_scatter_reduce(fb_tensor *x, int dim, fb_tensor *index,
                                                  fb_tensor *src, fb_scatter_reduction how,
                                                  bool include_self);

/* --- slices: index [n] of dimension dim; src like x, with n slices --- */

/** x with src's slices written at index. */
FB_API FB_USE_RESULT fb_tensor *fb_index_copy(fb_tensor *x, int dim, fb_tensor *index,
                                              fb_tensor *src);
/** x with alpha times src's slices added at index. */
FB_API FB_USE_RESULT fb_tensor *fb_index_add(fb_tensor *x, int dim, fb_tensor *index,
                                             fb_tensor *src, double alpha);
/** x with `value` in the slices at index. */
FB_API FB_USE_RESULT fb_tensor *fb_index_fill(fb_tensor *x, int dim, fb_tensor *index,
                                              double value);
/** x with src's slices joined at index; not FB_SCATTER_SUM. */
FB_API FB_USE_RESULT fb_tensor *fb_index_reduce(fb_tensor *x, int dim, fb_tensor *index,
                                                fb_tensor *src, fb_scatter_reduction how,
                                                bool include_self);

/* --- several indices: one tensor for each of the first dimensions of x, broadcast together;
 * negative ones count from the end --- */

/** x[indices[0], indices[1], ...]: the shape of the indices, then the rest of x's. */
FB_API FB_USE_RESULT fb_tensor *fb_index(fb_tensor *x, fb_tensors indices);
/** x with `values`, broadcast to the shape of fb_index, written there, or added. */
FB_API FB_USE_RESULT fb_tensor *fb_index_put(fb_tensor *x, fb_tensors indices, fb_tensor *values,
                                             bool accumulate);
/** Elements of x in row-major order: the shape of index; negative ones count from the end. */
FB_API FB_USE_RESULT fb_tensor *fb_take(fb_tensor *x, fb_tensor *index);
/** x with src's elements (as many as index has) written there, or added: torch.Tensor.put. */
FB_API FB_USE_RESULT fb_tensor *fb_put(fb_tensor *x, fb_tensor *index, fb_tensor *src,
                                       bool accumulate);
/** fb_gather, where x and index are broadcast but along dim: torch.take_along_dim. */
FB_API FB_USE_RESULT fb_tensor *fb_take_along_dim(fb_tensor *x, fb_tensor *index, int dim);
/** I64 [index..., classes], 1 at index and 0 elsewhere. classes -1: the largest index + 1, which
 * waits for the device. */
FB_API FB_USE_RESULT fb_tensor *fb_one_hot(fb_tensor *index, int64_t classes);

FB_END
#endif
