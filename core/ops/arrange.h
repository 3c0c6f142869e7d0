/* The elements of a tensor in other places, or several times. Any dtype; the results are copies.
 * Negative dimensions count from the end. Errors: NULL, and the context keeps FB_E_SHAPE or
 * FB_E_ARG. Local, not collective. */
#ifndef FLAMBEAU_CORE_OPS_ARRANGE_H
#define FLAMBEAU_CORE_OPS_ARRANGE_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** What fb_pad puts beyond the ends. */
typedef enum fb_pad_mode {
    FB_PAD_CONSTANT,
    FB_PAD_REFLECT,   /**< mirrored, without the outermost element: less than the size */
    FB_PAD_REPLICATE, /**< the outermost element */
    FB_PAD_CIRCULAR   /**< the other end: at most the size */
} fb_pad_mode;

/**
 * Longer dimensions: pads = (left, right) of the last one, then of the one before it, ... as in
 * torch.nn.functional.pad. Negative pads take elements away; `value` is that of FB_PAD_CONSTANT.
 * Errors: FB_E_ARG for an odd number of pads, for more than the dimensions have, and where nothing
 * is left or a pad is too long for its mode.
 */
FB_API FB_USE_RESULT fb_tensor *fb_pad(fb_tensor *x, fb_shape pads, fb_pad_mode mode, double value);
/** Backwards along each of `dims`. */
FB_API FB_USE_RESULT fb_tensor *fb_flip(fb_tensor *x, fb_shape dims);
/** Columns (dimension 1) backwards. */
FB_API FB_USE_RESULT fb_tensor *fb_fliplr(fb_tensor *x);
/** Rows (dimension 0) backwards. */
FB_API FB_USE_RESULT fb_tensor *fb_flipud(fb_tensor *x);
/** Turned by shifts.d[i] places along dims.d[i]: what leaves at one end comes in at the other. No
 * dims (FB_ALL): one shift, of the elements in row-major order. */
FB_API FB_USE_RESULT fb_tensor *fb_roll(fb_tensor *x, fb_shape shifts, fb_shape dims);
/** A quarter turn k times, from dimension dim0 towards dim1. */
FB_API FB_USE_RESULT fb_tensor *fb_rot90(fb_tensor *x, int64_t k, int dim0, int dim1);
/** The whole tensor times.d[i] times along dimension i; times may have more dimensions than x,
 * which come in front. */
FB_API FB_USE_RESULT fb_tensor *fb_repeat(fb_tensor *x, fb_shape times);
/** The same; times may have fewer dimensions than x: those in front are not repeated. */
FB_API FB_USE_RESULT fb_tensor *fb_tile(fb_tensor *x, fb_shape times);
/** Each element of a dimension `repeats` times in a row. */
FB_API FB_USE_RESULT fb_tensor *fb_repeat_interleave(fb_tensor *x, int64_t repeats, int dim);
/** Each slice i of a dimension repeats[i] times in a row; repeats [n] are integers >= 0. The size
 * is in the data: waits for the device. */
FB_API FB_USE_RESULT fb_tensor *fb_repeat_interleave_each(fb_tensor *x, fb_tensor *repeats,
                                                          int dim);
/** The lower triangles of the last two dimensions: elements with column - row <= diagonal; zeros
 * elsewhere. */
FB_API FB_USE_RESULT fb_tensor *fb_tril(fb_tensor *x, int64_t diagonal);
/** The upper triangles: elements with column - row >= diagonal. */
FB_API FB_USE_RESULT fb_tensor *fb_triu(fb_tensor *x, int64_t diagonal);

FB_END
#endif
