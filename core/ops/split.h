/* Several tensors from one, or several brought to one shape: all views. The caller says how many
 * places `out` has; another number of pieces is FB_E_ARG. On an error all of out[] is NULL, and the
 * context keeps it. Negative dimensions count from the end. Local, not collective. */
#ifndef FLAMBEAU_CORE_OPS_SPLIT_H
#define FLAMBEAU_CORE_OPS_SPLIT_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** At most n pieces of one size, ceil(size / n), along a dimension; the last may be smaller, and
 * those that would be empty are NULL (a dimension of size 0 gives n empty ones). */
FB_API fb_status fb_chunk(fb_tensor *t, int n, int dim, fb_tensor **out);
/** The ceil(size / len) pieces of size len; the last may be smaller. */
FB_API fb_status fb_split(fb_tensor *t, int64_t len, int dim, int n, fb_tensor **out);
/** n pieces of the given sizes, which add up to that of the dimension. */
FB_API fb_status fb_split_with_sizes(fb_tensor *t, const int64_t *sizes, int n, int dim,
                                     fb_tensor **out);
/** n pieces; the first (size mod n) are one longer than the others. */
FB_API fb_status fb_tensor_split(fb_tensor *t, int n, int dim, fb_tensor **out);
/** The n + 1 pieces before, between and after n places, which may be negative or too large as in
 * Python's slices. */
FB_API fb_status fb_tensor_split_at(fb_tensor *t, const int64_t *places, int n, int dim,
                                    fb_tensor **out);
/** The n = size slices of a dimension, which goes away. */
FB_API fb_status fb_unbind(fb_tensor *t, int dim, int n, fb_tensor **out);

/** All expanded to the shape that they have when broadcast together. */
FB_API fb_status fb_broadcast_tensors(fb_tensors t, fb_tensor **out);
/**
 * Coordinates of a grid: out[i] has a dimension for each of the vectors (or scalars) t, and varies
 * along that of t[i]. xy: the first two dimensions are exchanged, as for images.
 */
FB_API fb_status fb_meshgrid(fb_tensors t, bool xy, fb_tensor **out);

/** fb_tensor_split along dimension 1, of a line along 0. */
FB_API fb_status fb_hsplit(fb_tensor *t, int n, fb_tensor **out);
/** fb_tensor_split along dimension 0, of at least two. */
FB_API fb_status fb_vsplit(fb_tensor *t, int n, fb_tensor **out);
/** fb_tensor_split along dimension 2. These three want pieces of equal size: FB_E_SHAPE. */
FB_API fb_status fb_dsplit(fb_tensor *t, int n, fb_tensor **out);

FB_END
#endif
