/* What is known about a tensor. A stale handle sets FB_E_STALE and looks like a scalar. */
#include "core/tensor/scope_priv.h"

static bool live(const fb_tensor *t, const char *op)
{
    if (!t)
        return false;
    if (__builtin_expect(t->flags & FBI_T_LIVE, 1))
        return true;
    fbi_stale(t, op, "the tensor");
    return false;
}

/* Index of dim, or -1 with an error. */
static int dim_of(const fb_tensor *t, int dim, const char *op)
{
    if (!live(t, op))
        return -1;
    if (t->ndim == 0) {
        fbi_fail(t->ctx, FB_E_ARG, "%s: a scalar has no dimension %d", op, dim);
        return -1;
    }
    return fbi_dim(t->ctx, t, dim, op);
}

FB_API int64_t fb_size(const fb_tensor *t, int dim)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    int d = dim_of(t, dim, "size");
    return d < 0 ? 1 : t->size[d];
}

FB_API int64_t fb_stride(const fb_tensor *t, int dim)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    int d = dim_of(t, dim, "stride");
    return d < 0 ? 1 : t->stride[d];
}

FB_API int fb_ndim(const fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    return live(t, "ndim") ? t->ndim : 0;
}

FB_API int64_t fb_numel(const fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    return live(t, "numel") ? t->numel : 1;
}

FB_API fb_shape fb_shape_of(const fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    return live(t, "shape_of") ? fb_shape_make(t->ndim, t->size) : FB_SCALAR;
}

FB_API fb_dtype fb_dtype_of(const fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    return live(t, "dtype_of") ? (fb_dtype)t->dtype : FB_DTYPE_DEFAULT;
}

FB_API const char *fb_device_of(const fb_tensor *t)
{
    return fb_context_device(fb_context_of(t));
}

FB_API fb_context *fb_context_of(const fb_tensor *t)
{
    return t ? t->ctx : NULL;
}

FB_API bool fb_is_contiguous(const fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    return !live(t, "is_contiguous") || fbi_contiguous(t);
}

FB_API bool fb_same_storage(const fb_tensor *a, const fb_tensor *b)
{
    FBI_ENTRY(a ? a->ctx : NULL);
    return live(a, "same_storage") && live(b, "same_storage") && a->storage == b->storage;
}
