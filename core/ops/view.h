/* Views: other sizes and strides on the same storage. Errors: NULL, and the context keeps
 * FB_E_SHAPE or FB_E_ARG. Negative dimensions count from the end. */
#ifndef FLAMBEAU_CORE_OPS_VIEW_H
#define FLAMBEAU_CORE_OPS_VIEW_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** Other sizes, same elements in row-major order; one size may be -1. A view where strides allow
 * it, else a copy. */
FB_API FB_USE_RESULT fb_tensor *fb_reshape(fb_tensor *t, fb_shape sizes);
/** The same, but an error where a copy would be needed. */
FB_API FB_USE_RESULT fb_tensor *fb_view(fb_tensor *t, fb_shape sizes);
/** Dimension i of the result is dimension dims.d[i] of t. */
FB_API FB_USE_RESULT fb_tensor *fb_permute(fb_tensor *t, fb_shape dims);
/** Exchange two dimensions. */
FB_API FB_USE_RESULT fb_tensor *fb_transpose(fb_tensor *t, int dim0, int dim1);
/** Dimensions from .. to (inclusive) become one. */
FB_API FB_USE_RESULT fb_tensor *fb_flatten(fb_tensor *t, int from, int to);
/** Remove a dimension of size 1. */
FB_API FB_USE_RESULT fb_tensor *fb_squeeze(fb_tensor *t, int dim);
/** Insert a dimension of size 1 before `dim` of the result. */
FB_API FB_USE_RESULT fb_tensor *fb_unsqueeze(fb_tensor *t, int dim);
/** Repeat dimensions of size 1 without copying; -1 keeps a size. New dimensions may come in front.
 */
FB_API FB_USE_RESULT fb_tensor *fb_expand(fb_tensor *t, fb_shape sizes);
/** Elements start .. start + len - 1 of a dimension. */
FB_API FB_USE_RESULT fb_tensor *fb_narrow(fb_tensor *t, int dim, int64_t start, int64_t len);
/** Element i of a dimension, which goes away; negative i counts from the end. */
FB_API FB_USE_RESULT fb_tensor *fb_select(fb_tensor *t, int dim, int64_t i);
/** n pieces along a dimension, which n must divide; fills out[0 .. n). */
FB_API fb_status fb_chunk(fb_tensor *t, int n, int dim, fb_tensor **out);
/** Sum over the dimensions in which t was broadcast from `shape`: the backward of fb_expand. */
FB_API FB_USE_RESULT fb_tensor *fb_sum_to(fb_tensor *t, fb_shape shape);

FB_END
#endif
