/* New tensors. dtype 0 is F32. Random values depend on seed, position of the call and index of the
 * element only, not on threads. Errors: NULL, and the context keeps them. */
#ifndef FLAMBEAU_CORE_OPS_CREATE_H
#define FLAMBEAU_CORE_OPS_CREATE_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** Uninitialised. */
FB_API FB_USE_RESULT fb_tensor *fb_empty(fb_context *ctx, fb_dtype dtype, fb_shape shape);
/** All 0. */
FB_API FB_USE_RESULT fb_tensor *fb_zeros(fb_context *ctx, fb_dtype dtype, fb_shape shape);
/** All 1. */
FB_API FB_USE_RESULT fb_tensor *fb_ones(fb_context *ctx, fb_dtype dtype, fb_shape shape);
/** All `value`, converted to the dtype. */
FB_API FB_USE_RESULT fb_tensor *fb_full(fb_context *ctx, fb_dtype dtype, fb_shape shape,
                                        double value);
/** n numbers from start to end, both included, at equal distances: as PyTorch, integers are cut. */
FB_API FB_USE_RESULT fb_tensor *fb_linspace(fb_context *ctx, fb_dtype dtype, double start,
                                            double end, int64_t n);
/** base to the power of these. */
FB_API FB_USE_RESULT fb_tensor *fb_logspace(fb_context *ctx, fb_dtype dtype, double start,
                                            double end, int64_t n, double base);
/** [rows, cols], 1 on the diagonal and 0 elsewhere. */
FB_API FB_USE_RESULT fb_tensor *fb_eye(fb_context *ctx, fb_dtype dtype, int64_t rows, int64_t cols);
/** I64 [2, n]: rows and columns of the elements with column - row <= offset of a rows x cols
 * matrix, in row-major order. */
FB_API FB_USE_RESULT fb_tensor *fb_tril_indices(fb_context *ctx, int64_t rows, int64_t cols,
                                                int64_t offset);
/** The same of those with column - row >= offset. */
FB_API FB_USE_RESULT fb_tensor *fb_triu_indices(fb_context *ctx, int64_t rows, int64_t cols,
                                                int64_t offset);
/** start, start + step, ... while before end (after it, if step is negative). */
FB_API FB_USE_RESULT fb_tensor *fb_arange(fb_context *ctx, fb_dtype dtype, double start, double end,
                                          double step);
/** Uniform in [0, 1); a floating dtype. */
FB_API FB_USE_RESULT fb_tensor *fb_rand(fb_context *ctx, fb_dtype dtype, fb_shape shape);
/** Normal, mean 0, deviation 1; a floating dtype. */
FB_API FB_USE_RESULT fb_tensor *fb_randn(fb_context *ctx, fb_dtype dtype, fb_shape shape);
/** I64, uniform in lo .. hi - 1. */
FB_API FB_USE_RESULT fb_tensor *fb_randint(fb_context *ctx, int64_t lo, int64_t hi, fb_shape shape);
/** Shape and dtype of t. */
FB_API FB_USE_RESULT fb_tensor *fb_zeros_like(fb_tensor *t);
/** Shape and dtype of t, all `value`. */
FB_API FB_USE_RESULT fb_tensor *fb_full_like(fb_tensor *t, double value);
/** Shape and dtype of t, all 1. */
FB_API FB_USE_RESULT fb_tensor *fb_ones_like(fb_tensor *t);
/** Shape and dtype of t, uninitialised. */
FB_API FB_USE_RESULT fb_tensor *fb_empty_like(fb_tensor *t);

FB_END
#endif
