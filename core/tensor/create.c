/* Tensors that no operator makes: empty ones, copies of host data, wrapped memory, views. */
#include <stdlib.h>
#include <string.h>

#include "core/tensor/access_priv.h"
#include "core/tensor/device_priv.h"

/* Shape and dtype make sense and their bytes fit; else the error names op. */
static bool sizes_ok(fb_context *ctx, const char *op, fb_dtype dtype, fb_shape shape, size_t *bytes)
{
    size_t size = fb_dtype_size(dtype);
    if (size == 0) {
        fbi_fail(ctx, FB_E_DTYPE, "%s: %d is no dtype", op, (int)dtype);
        return false;
    }
    if (shape.n < 0 || shape.n > FB_MAX_DIMS) {
        fbi_fail(ctx, FB_E_SHAPE, "%s: %d dimensions: at most %d", op, shape.n, FB_MAX_DIMS);
        return false;
    }
    int64_t n = fb_shape_numel(shape);
    if (n < 0 || __builtin_mul_overflow((size_t)n, size, bytes) || *bytes > (size_t)INT64_MAX) {
        fbi_fail(ctx, FB_E_SHAPE, "%s: %s has negative or too many elements", op,
                 fbi_shape_text(ctx, shape));
        return false;
    }
    return true;
}

fb_tensor *fbi_empty(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    size_t bytes = 0;
    dtype = dtype == FB_DTYPE_DEFAULT ? FB_F32 : dtype;
    if (!sizes_ok(ctx, "empty", dtype, shape, &bytes))
        return NULL;
    fbi_storage *s = fbi_storage_new(ctx, bytes);
    fb_tensor *t = s ? fbi_tensor_new(ctx) : NULL;
    if (!t) {
        fbi_storage_unref(ctx, s);
        return NULL;
    }
    fbi_set_shape(t, dtype, shape);
    t->storage = s;
    return t;
}

fb_tensor *fbi_view(fb_tensor *t, fb_shape sizes, fb_shape strides, int64_t offset)
{
    fb_tensor *v = fbi_tensor_new(t->ctx);
    if (!v)
        return NULL;
    fbi_set_shape(v, (fb_dtype)t->dtype, sizes);
    for (int i = 0; i < sizes.n; i++)
        v->stride[i] = strides.d[i];
    v->flags |= FBI_T_VIEW;
    v->offset = offset;
    v->storage = t->storage;
    v->storage->refs++;
    return v;
}

FB_API fb_tensor *fb_from(fb_context *ctx, fb_dtype dtype, fb_shape shape, const void *data)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_tensor *t = fbi_empty(ctx, dtype, shape);
    if (!t || t->numel == 0)
        return t;
    if (!data) {
        fbi_fail(ctx, FB_E_ARG, "from: data is NULL");
        return NULL;
    }
    fb_status st = ctx->backend->copy_in(ctx, t->storage->data, data, t->storage->bytes);
    if (st == FB_OK)
        return t;
    fbi_fail(ctx, st, "from: copying %zu bytes to %s failed", t->storage->bytes, ctx->device_name);
    return NULL;
}

/* All elements of t, row-major, into fresh memory of another context. */
static fb_status cross(fb_tensor *t, fb_tensor *copy)
{
    size_t bytes = copy->storage->bytes;
    if (copy->ctx->backend->host_memory)
        return fbi_copy_to_host(t, copy->storage->data);
    if (t->ctx->backend->host_memory && fbi_contiguous(t))
        return copy->ctx->backend->copy_in(copy->ctx, copy->storage->data, fbi_ptr(t), bytes);
    void *host = malloc(bytes);
    if (!host)
        return FB_E_NOMEM;
    fb_status st = fbi_copy_to_host(t, host);
    if (!st)
        st = copy->ctx->backend->copy_in(copy->ctx, copy->storage->data, host, bytes);
    free(host);
    return st;
}

FB_API fb_tensor *fb_to_device(fb_tensor *t, fb_context *to)
{
    fb_context *from = t ? t->ctx : NULL;
    if (!to || from == to)
        return to ? t : NULL;
    FBI_ENTRY(to);
    if (!fbi_enter(to))
        return NULL;
    fb_status st = FB_OK;
    fb_tensor *copy = NULL;
    if (!fbi_tensor_check(NULL, t, "to_device", "the tensor"))
        st = from ? fb_status_of(from) : FB_E_ARG;
    else
        copy = fbi_empty(to, (fb_dtype)t->dtype, fb_shape_of(t));
    if (copy && copy->numel > 0)
        st = cross(t, copy);
    if (!st)
        return copy;
    fbi_fail(from, st, "to_device: copying from %s failed", from ? from->device_name : "nowhere");
    fbi_fail(to, st, "to_device: no values came from %s: %s", from ? from->device_name : "NULL",
             fb_error_message(from));
    return NULL;
}

/* The caller's deleter, until the storage goes. */
typedef struct foreign {
    void (*deleter)(void *data, void *user);
    void *data, *user;
} foreign;

static void release_foreign(fbi_storage *s)
{
    foreign *f = s->owner;
    if (!f)
        return;
    f->deleter(f->data, f->user);
    free(f);
}

/* Storage with the deleter, if there is one. */
static fbi_storage *wrap_storage(fb_context *ctx, void *data, size_t bytes,
                                 const fb_wrap_options *o, bool read_only)
{
    if (!o->deleter)
        return fbi_storage_wrap(ctx, data, bytes, release_foreign, NULL, read_only);
    foreign *f = malloc(sizeof *f);
    if (!f) {
        fbi_fail(ctx, FB_E_NOMEM, "wrap: no memory for the deleter");
        return NULL;
    }
    *f = (foreign){o->deleter, data, o->user};
    fbi_storage *s = fbi_storage_wrap(ctx, data, bytes, release_foreign, f, read_only);
    if (!s)
        free(f);
    return s;
}

/* Bytes from the first to the last element that the strides reach; false: error is set. */
static bool extent(fb_context *ctx, fb_dtype dtype, fb_shape shape, const int64_t *strides,
                   size_t *bytes)
{
    int64_t last = 0;
    for (int i = 0; i < shape.n; i++) {
        int64_t reach;
        if (shape.d[i] == 0) {
            *bytes = 0;
            return true;
        }
        if (strides[i] < 0 || __builtin_mul_overflow(shape.d[i] - 1, strides[i], &reach) ||
            __builtin_add_overflow(last, reach, &last)) {
            fbi_fail(ctx, FB_E_ARG, "wrap: stride %lld of dimension %d is negative or too large",
                     (long long)strides[i], i);
            return false;
        }
    }
    *bytes = ((size_t)last + 1) * fb_dtype_size(dtype);
    return true;
}

/* Whether memory at `device` is what this context computes on. */
static bool device_ok(fb_context *ctx, const char *device)
{
    bool host = !device || strcmp(device, "cpu") == 0 || strcmp(device, "host") == 0;
    if (host ? ctx->backend->host_memory : strcmp(device, ctx->device_name) == 0)
        return true;
    fbi_fail(ctx, FB_E_UNSUPPORTED, "wrap: the data is on %s, the context on %s: use fb_from",
             host ? "the host" : device, ctx->device_name);
    return false;
}

static fb_tensor *wrap(fb_context *ctx, fb_dtype dtype, fb_shape shape, void *data,
                       const fb_wrap_options *opts, bool read_only)
{
    fb_wrap_options none = {0};
    const fb_wrap_options *o = opts ? opts : &none;
    size_t bytes = 0;
    dtype = dtype == FB_DTYPE_DEFAULT ? FB_F32 : dtype;
    if (!sizes_ok(ctx, "wrap", dtype, shape, &bytes) || !device_ok(ctx, o->device) ||
        (o->strides && !extent(ctx, dtype, shape, o->strides, &bytes)))
        return NULL;
    if (!data && bytes > 0) {
        fbi_fail(ctx, FB_E_ARG, "wrap: data is NULL");
        return NULL;
    }
    if ((uintptr_t)data % fb_dtype_size(dtype) != 0) {
        fbi_fail(ctx, FB_E_ARG, "wrap: data at %p is not aligned for %s: use fb_from", data,
                 fb_dtype_name(dtype));
        return NULL;
    }
    fb_tensor *t = fbi_tensor_new(ctx);
    if (!t)
        return NULL;
    fbi_storage *s = wrap_storage(ctx, data, bytes, o, read_only || o->read_only);
    if (!s)
        return NULL; /* the blank handle goes with its scope */
    fbi_set_shape(t, dtype, shape);
    for (int i = 0; o->strides && i < shape.n; i++)
        t->stride[i] = o->strides[i];
    t->storage = s;
    return t;
}

FB_API fb_tensor *fb_wrap(fb_context *ctx, fb_dtype dtype, fb_shape shape, void *data,
                          const fb_wrap_options *opts)
{
    FBI_ENTRY(ctx);
    return fbi_enter(ctx) ? wrap(ctx, dtype, shape, data, opts, false) : NULL;
}

FB_API fb_tensor *fb_wrap_const(fb_context *ctx, fb_dtype dtype, fb_shape shape, const void *data,
                                const fb_wrap_options *opts)
{
    FBI_ENTRY(ctx);
    return fbi_enter(ctx) ? wrap(ctx, dtype, shape, (void *)(uintptr_t)data, opts, true) : NULL;
}
