/* Tensors: handles on reference-counted storage plus a view. Operators live in core/ops. */
#ifndef FLAMBEAU_CORE_TENSOR_TENSOR_H
#define FLAMBEAU_CORE_TENSOR_TENSOR_H

#include <flambeau/core/tensor/context.h>
#include <flambeau/core/tensor/dtype.h>
#include <flambeau/core/tensor/scope.h>
#include <flambeau/core/tensor/shape.h>

FB_BEGIN

typedef struct fb_wrap_options {
    const int64_t *strides;                  /**< in elements; NULL: row-major */
    const char *device;                      /**< where the data lies; NULL: host */
    bool read_only;                          /**< in-place operators refuse it */
    void (*deleter)(void *data, void *user); /**< once, on the context's thread, after the last use;
                                                  not called if fb_wrap fails */
    void *user;
} fb_wrap_options;

/** A tensor with a copy of `shape`'s worth of row-major host data. */
FB_API FB_USE_RESULT fb_tensor *fb_from(fb_context *ctx, fb_dtype dtype, fb_shape shape,
                                        const void *data);
/** A tensor on the caller's memory, which must stay until the deleter is called. */
FB_API FB_USE_RESULT fb_tensor *fb_wrap(fb_context *ctx, fb_dtype dtype, fb_shape shape, void *data,
                                        const fb_wrap_options *opts);
/** The same on constant memory: read_only is implied. */
FB_API FB_USE_RESULT fb_tensor *fb_wrap_const(fb_context *ctx, fb_dtype dtype, fb_shape shape,
                                              const void *data, const fb_wrap_options *opts);
/**
 * A copy of t's values in another context and so on its device, row-major: torch.Tensor.to. t
 * itself if it is of that context. Waits for the device that t is on. A failure of either side is
 * an error of both.
 *
 * The copy has no history, because a graph lies in one context. A model over two devices carries
 * the gradient across by hand: fb_requires_grad(copy, true), backward there, then
 * fb_backward_with(t, &{.grad = fb_to_device(fb_grad_of(copy), context of t)}).
 */
FB_API FB_USE_RESULT fb_tensor *fb_to_device(fb_tensor *t, fb_context *to);
/** Wrapped memory was changed from outside: saved uses of it are errors from now on. */
FB_API fb_status fb_touch(fb_tensor *t);

/** Copy all elements to the host, row-major; `bytes` must be numel * dtype size. Zero-fills on
 * error. */
FB_API fb_status fb_read(fb_tensor *t, void *dst, size_t bytes);
/** Copy row-major host data into the tensor; counts as an in-place change. */
FB_API fb_status fb_write(fb_tensor *t, const void *src, size_t bytes);
/** The elements of a contiguous host tensor; NULL on error. */
FB_API const void *fb_data(fb_tensor *t);
/** The same for writing: counts as an in-place change. */
FB_API void *fb_data_mut(fb_tensor *t);
/** The value of a tensor of one element, as double; NaN on error. Waits for the device. */
FB_API double fb_item(fb_tensor *t);
/** The same as an exact integer; floats are truncated; 0 on error. */
FB_API int64_t fb_item_int(fb_tensor *t);

/* Getters: never fail on a live handle; on NULL or stale handles sizes are 1, ndim 0. */
/** Size of one dimension; negative counts from the end; 1 on error. */
FB_API int64_t fb_size(const fb_tensor *t, int dim);
/** Number of dimensions. */
FB_API int fb_ndim(const fb_tensor *t);
/** Number of elements. */
FB_API int64_t fb_numel(const fb_tensor *t);
/** Stride of one dimension, in elements. */
FB_API int64_t fb_stride(const fb_tensor *t, int dim);
/** Sizes of all dimensions. */
FB_API fb_shape fb_shape_of(const fb_tensor *t);
/** The dtype. */
FB_API fb_dtype fb_dtype_of(const fb_tensor *t);
/** "cpu" or "cuda:0". */
FB_API const char *fb_device_of(const fb_tensor *t);
/** NULL for NULL. */
FB_API fb_context *fb_context_of(const fb_tensor *t);
/** Row-major without gaps. */
FB_API bool fb_is_contiguous(const fb_tensor *t);
/** Whether both look at the same memory. */
FB_API bool fb_same_storage(const fb_tensor *a, const fb_tensor *b);

/** Write values as PyTorch prints them, shortened in the middle. @return bytes needed, as snprintf
 */
FB_API int64_t fb_to_string(fb_tensor *t, char *buf, size_t size);
/** The same on stdout, with a name before it (may be NULL). */
FB_API fb_status fb_print(fb_tensor *t, const char *name);

FB_END
#endif
