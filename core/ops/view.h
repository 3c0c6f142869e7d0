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
/** The same under its other name. */
FB_API FB_USE_RESULT fb_tensor *fb_swapdims(fb_tensor *t, int dim0, int dim1);
/** The same under NumPy's name. */
FB_API FB_USE_RESULT fb_tensor *fb_swapaxes(fb_tensor *t, int dim0, int dim1);
/** A matrix with rows and columns exchanged; tensors of fewer dimensions as they are. */
FB_API FB_USE_RESULT fb_tensor *fb_t(fb_tensor *t);
/** Dimension from.d[i] of t becomes dimension to.d[i] of the result; the others keep their order.
 */
FB_API FB_USE_RESULT fb_tensor *fb_movedim(fb_tensor *t, fb_shape from, fb_shape to);
/** The same under NumPy's name. */
FB_API FB_USE_RESULT fb_tensor *fb_moveaxis(fb_tensor *t, fb_shape from, fb_shape to);
/** Dimensions from .. to (inclusive) become one; of a scalar a vector of one. */
FB_API FB_USE_RESULT fb_tensor *fb_flatten(fb_tensor *t, int from, int to);
/** All dimensions become one. */
FB_API FB_USE_RESULT fb_tensor *fb_ravel(fb_tensor *t);
/** A dimension becomes several of these sizes; one may be -1. */
FB_API FB_USE_RESULT fb_tensor *fb_unflatten(fb_tensor *t, int dim, fb_shape sizes);
/** Remove a dimension if its size is 1. */
FB_API FB_USE_RESULT fb_tensor *fb_squeeze(fb_tensor *t, int dim);
/** Remove those of `dims` whose size is 1; FB_ALL: of all dimensions. */
FB_API FB_USE_RESULT fb_tensor *fb_squeeze_dims(fb_tensor *t, fb_shape dims);
/** Insert a dimension of size 1 before `dim` of the result. */
FB_API FB_USE_RESULT fb_tensor *fb_unsqueeze(fb_tensor *t, int dim);
/** Of a scalar a vector of one; others as they are. */
FB_API FB_USE_RESULT fb_tensor *fb_atleast_1d(fb_tensor *t);
/** With dimensions of size 1 in front, until there are two. */
FB_API FB_USE_RESULT fb_tensor *fb_atleast_2d(fb_tensor *t);
/** With three dimensions: a matrix gets its third at the end, a vector one on either side. */
FB_API FB_USE_RESULT fb_tensor *fb_atleast_3d(fb_tensor *t);
/** Repeat dimensions of size 1 without copying; -1 keeps a size. New dimensions may come in front.
 */
FB_API FB_USE_RESULT fb_tensor *fb_expand(fb_tensor *t, fb_shape sizes);
/** The same, without -1: torch.broadcast_to. */
FB_API FB_USE_RESULT fb_tensor *fb_broadcast_to(fb_tensor *t, fb_shape sizes);
/** Elements start .. start + len - 1 of a dimension; negative start counts from the end. */
FB_API FB_USE_RESULT fb_tensor *fb_narrow(fb_tensor *t, int dim, int64_t start, int64_t len);
/** Element i of a dimension, which goes away; negative i counts from the end. */
FB_API FB_USE_RESULT fb_tensor *fb_select(fb_tensor *t, int dim, int64_t i);
/** Sum over the dimensions in which t was broadcast from `shape`: the backward of fb_expand. */
FB_API FB_USE_RESULT fb_tensor *fb_sum_to(fb_tensor *t, fb_shape shape);

/** fb_reshape to the sizes of another tensor. */
FB_API FB_USE_RESULT fb_tensor *fb_reshape_as(fb_tensor *t, fb_tensor *other);
/** fb_view to the sizes of another tensor. */
FB_API FB_USE_RESULT fb_tensor *fb_view_as(fb_tensor *t, fb_tensor *other);
/** fb_expand to the sizes of another tensor. */
FB_API FB_USE_RESULT fb_tensor *fb_expand_as(fb_tensor *t, fb_tensor *other);

FB_END
#endif
