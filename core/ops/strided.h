/* Views by strides, and their opposite. Errors: NULL, and the context keeps FB_E_SHAPE or FB_E_ARG.
 * Negative dimensions count from the end. Local, not collective. */
#ifndef FLAMBEAU_CORE_OPS_STRIDED_H
#define FLAMBEAU_CORE_OPS_STRIDED_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/**
 * A view of t's storage of any sizes and strides (not negative), from element `offset` of the
 * storage on; offset -1: from where t begins. Elements may lie on one another: the gradient of each
 * place is the sum of theirs. Source: torch.as_strided.
 */
FB_API FB_USE_RESULT fb_tensor *fb_as_strided(fb_tensor *t, fb_shape sizes, fb_shape strides,
                                              int64_t offset);
/** The elements t[.. i .. i + offset ..] of dimensions dim1 and dim2, as a last dimension instead
 * of the two; offset < 0: below the main diagonal. A view. */
FB_API FB_USE_RESULT fb_tensor *fb_diagonal(fb_tensor *t, int64_t offset, int dim1, int dim2);
/** All slices of `size` along a dimension, one every `step`, as a last dimension of that size. A
 * view: slices may overlap. torch.Tensor.unfold; for torch.nn.functional.unfold see fb_im2col. */
FB_API FB_USE_RESULT fb_tensor *fb_unfold(fb_tensor *t, int dim, int64_t size, int64_t step);
/** The last dimension of t as diagonals of squares of zeros; dim1 and dim2 are dimensions of the
 * result. */
FB_API FB_USE_RESULT fb_tensor *fb_diag_embed(fb_tensor *t, int64_t offset, int dim1, int dim2);
/** Of a vector the matrix with that diagonal, of a matrix a copy of its diagonal. */
FB_API FB_USE_RESULT fb_tensor *fb_diag(fb_tensor *t, int64_t diagonal);

/** The elements of t, row by row, on a diagonal of a matrix of zeros. */
FB_API FB_USE_RESULT fb_tensor *fb_diagflat(fb_tensor *t, int64_t offset);

FB_END
#endif
