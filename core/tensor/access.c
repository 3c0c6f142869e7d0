/* Reading and writing elements, and what is known about a tensor. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/tensor/access_priv.h"
#include "core/tensor/device_priv.h"
#include "core/tensor/scope_priv.h"

/* Copy between a row-major array and strided elements, the last dimension in the inner loop. */
typedef struct walk {
    const fb_tensor *t;
    char *flat;    /* row-major, moves on */
    char *strided; /* element 0 of the view */
    size_t size;
    bool gather; /* strided -> flat */
} walk;

static void walk_from(walk *w, int dim, int64_t offset)
{
    const fb_tensor *t = w->t;
    if (dim == t->ndim) {
        char *p = w->strided + offset * (int64_t)w->size;
        memcpy(w->gather ? w->flat : p, w->gather ? p : w->flat, w->size);
        w->flat += w->size;
        return;
    }
    for (int64_t i = 0; i < t->size[dim]; i++)
        walk_from(w, dim + 1, offset + i * t->stride[dim]);
}

/* Bytes from the first to one behind the last element of a view. */
static size_t span_of(const fb_tensor *t)
{
    int64_t last = 0;
    for (int i = 0; i < t->ndim; i++)
        last += (t->size[i] - 1) * t->stride[i];
    return ((size_t)last + 1) * fbi_dtype_bytes[t->dtype];
}

static bool on_host(const fb_tensor *t)
{
    return t->ctx->backend->host_memory || (t->storage->flags & FBI_S_HOST);
}

/* The view's memory where the host can reach it; `temp` is set if it had to be copied. */
static char *host_span(fb_tensor *t, char **temp)
{
    fb_context *ctx = t->ctx;
    if (on_host(t))
        return ctx->backend->sync(ctx) == FB_OK ? fbi_ptr(t) : NULL;
    *temp = malloc(span_of(t));
    if (!*temp || ctx->backend->copy_out(ctx, *temp, fbi_ptr(t), span_of(t)) != FB_OK)
        return NULL;
    return *temp;
}

fb_status fbi_copy_to_host(fb_tensor *t, void *dst)
{
    fb_context *ctx = t->ctx;
    size_t size = fbi_dtype_bytes[t->dtype];
    if (t->numel == 0)
        return FB_OK;
    if (fbi_contiguous(t) && !(t->storage->flags & FBI_S_HOST))
        return ctx->backend->copy_out(ctx, dst, fbi_ptr(t), (size_t)t->numel * size);
    char *temp = NULL, *from = host_span(t, &temp);
    if (from)
        walk_from(&(walk){t, dst, from, size, true}, 0, 0);
    free(temp);
    return from ? FB_OK : FB_E_DEVICE;
}

static fb_status copy_from_host(fb_tensor *t, const void *src)
{
    fb_context *ctx = t->ctx;
    size_t size = fbi_dtype_bytes[t->dtype];
    if (t->numel == 0)
        return FB_OK;
    if (fbi_contiguous(t) && !(t->storage->flags & FBI_S_HOST))
        return ctx->backend->copy_in(ctx, fbi_ptr(t), src, (size_t)t->numel * size);
    char *temp = NULL, *to = host_span(t, &temp);
    fb_status st = to ? FB_OK : FB_E_DEVICE;
    if (to)
        walk_from(&(walk){t, (char *)(uintptr_t)src, to, size, false}, 0, 0);
    if (to && temp)
        st = ctx->backend->copy_in(ctx, fbi_ptr(t), temp, span_of(t));
    free(temp);
    return st;
}

/* Status of a context that is off, for returning. */
static fb_status why(const fb_tensor *t)
{
    fb_status st = t ? fb_status_of(t->ctx) : FB_E_ARG;
    return st == FB_OK ? FB_E_STATE : st;
}

static bool bytes_ok(fb_tensor *t, const char *op, const void *data, size_t bytes)
{
    size_t needed = (size_t)t->numel * fbi_dtype_bytes[t->dtype];
    if (bytes != needed) {
        fbi_fail(t->ctx, FB_E_SHAPE, "%s: %zu bytes given, %s %s has %zu", op, bytes,
                 fb_dtype_name((fb_dtype)t->dtype), fbi_text(t), needed);
        return false;
    }
    if (!data && bytes > 0) {
        fbi_fail(t->ctx, FB_E_ARG, "%s: the host pointer is NULL", op);
        return false;
    }
    return true;
}

FB_API fb_status fb_read(fb_tensor *t, void *dst, size_t bytes)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    if (fbi_tensor_check(NULL, t, "read", "the tensor") && bytes_ok(t, "read", dst, bytes)) {
        fb_status st = fbi_copy_to_host(t, dst);
        if (st == FB_OK)
            return FB_OK;
        fbi_fail(t->ctx, st, "read: copying %zu bytes from %s failed", bytes, t->ctx->device_name);
    }
    if (dst)
        memset(dst, 0, bytes);
    return why(t);
}

/* Live, and its memory may be changed. */
static bool writable(fb_tensor *t, const char *op)
{
    if (!fbi_tensor_check(NULL, t, op, "the tensor"))
        return false;
    if (!(t->storage->flags & FBI_S_READ_ONLY))
        return true;
    fbi_fail(t->ctx, FB_E_ARG, "%s: the tensor %s is on read-only memory: change a copy of it", op,
             fbi_text(t));
    return false;
}

FB_API fb_status fb_write(fb_tensor *t, const void *src, size_t bytes)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    if (!writable(t, "write") || !bytes_ok(t, "write", src, bytes))
        return why(t);
    fbi_changing(t);
    fbi_bump(t);
    fb_status st = copy_from_host(t, src);
    if (st != FB_OK)
        fbi_fail(t->ctx, st, "write: copying %zu bytes to %s failed", bytes, t->ctx->device_name);
    return st;
}

FB_API fb_status fb_touch(fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    if (!fbi_tensor_check(NULL, t, "touch", "the tensor"))
        return why(t);
    fbi_bump(t);
    return FB_OK;
}

/* Elements that the host may address as an array. */
static void *data_of(fb_tensor *t, const char *op)
{
    if (!on_host(t)) {
        fbi_fail(t->ctx, FB_E_UNSUPPORTED, "%s: the tensor is on %s: use fb_read or fb_write", op,
                 t->ctx->device_name);
        return NULL;
    }
    if (!fbi_contiguous(t)) {
        fbi_fail(t->ctx, FB_E_SHAPE, "%s: the tensor %s has strides %s: use fb_contiguous first",
                 op, fbi_text(t), fbi_shape_text(t->ctx, fbi_strides_of(t)));
        return NULL;
    }
    return t->ctx->backend->sync(t->ctx) == FB_OK ? fbi_ptr(t) : NULL;
}

FB_API const void *fb_data(fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    return fbi_tensor_check(NULL, t, "data", "the tensor") ? data_of(t, "data") : NULL;
}

FB_API void *fb_data_mut(fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    void *p = writable(t, "data_mut") ? data_of(t, "data_mut") : NULL;
    if (p) {
        fbi_changing(t);
        fbi_bump(t);
    }
    return p;
}

double fbi_element_f64(fb_dtype dtype, const void *at, int64_t i)
{
    switch (dtype) {
    case FB_F32:
        return ((const float *)at)[i];
    case FB_F64:
        return ((const double *)at)[i];
    case FB_F16:
        return fbi_f16_to_f32(((const uint16_t *)at)[i]);
    case FB_BF16:
        return fbi_bf16_to_f32(((const uint16_t *)at)[i]);
    default:
        return (double)fbi_element_i64(dtype, at, i);
    }
}

/* Towards zero; NaN is 0 and what does not fit is the nearest that does. */
static int64_t truncated(double v)
{
    if (!(v > -0x1p63))
        return isnan(v) ? 0 : INT64_MIN;
    return v >= 0x1p63 ? INT64_MAX : (int64_t)v;
}

int64_t fbi_element_i64(fb_dtype dtype, const void *at, int64_t i)
{
    switch (dtype) {
    case FB_I32:
        return ((const int32_t *)at)[i];
    case FB_I64:
        return ((const int64_t *)at)[i];
    case FB_U8:
        return ((const uint8_t *)at)[i];
    case FB_BOOL:
        return ((const uint8_t *)at)[i] != 0;
    case FB_I8:
        return ((const int8_t *)at)[i];
    case FB_I16:
        return ((const int16_t *)at)[i];
    case FB_U16:
        return ((const uint16_t *)at)[i];
    default:
        return truncated(fbi_element_f64(dtype, at, i));
    }
}

/* The only element, as its bytes; false: error is set. */
static bool only_element(fb_tensor *t, const char *op, void *value)
{
    if (!fbi_tensor_check(NULL, t, op, "the tensor"))
        return false;
    if (t->numel != 1) {
        fbi_fail(t->ctx, FB_E_SHAPE, "%s: the tensor has %lld elements: %s", op,
                 (long long)t->numel, fbi_text(t));
        return false;
    }
    fb_status st = fbi_copy_to_host(t, value);
    if (st != FB_OK)
        fbi_fail(t->ctx, st, "%s: copying from %s failed", op, t->ctx->device_name);
    return st == FB_OK;
}

FB_API double fb_item(fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    double raw[1];
    return only_element(t, "item", raw) ? fbi_element_f64((fb_dtype)t->dtype, raw, 0) : NAN;
}

FB_API int64_t fb_item_int(fb_tensor *t)
{
    FBI_ENTRY(t ? t->ctx : NULL);
    int64_t raw[1];
    return only_element(t, "item_int", raw) ? fbi_element_i64((fb_dtype)t->dtype, raw, 0) : 0;
}
