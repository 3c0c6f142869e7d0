#include <stdio.h>
#include <string.h>

#include "core/tensor/context_priv.h"

FB_API bool fb_shape_equal(fb_shape a, fb_shape b)
{
    if (a.n != b.n)
        return false;
    for (int i = 0; i < a.n && i < FB_MAX_DIMS; i++)
        if (a.d[i] != b.d[i])
            return false;
    return true;
}

FB_API int64_t fb_shape_numel(fb_shape shape)
{
    if (shape.n < 0 || shape.n > FB_MAX_DIMS)
        return -1;
    int64_t product = 1; /* of an empty tensor too: its strides must fit */
    bool zero = false;
    for (int i = 0; i < shape.n; i++) {
        zero |= shape.d[i] == 0;
        if (shape.d[i] < 0 ||
            __builtin_mul_overflow(product, shape.d[i] ? shape.d[i] : 1, &product))
            return -1;
    }
    return zero ? 0 : product;
}

FB_API const char *fb_shape_text(fb_shape shape, char *buf, size_t size)
{
    if (size == 0 || !buf)
        return buf ? buf : "";
    size_t at = 0;
    buf[0] = '\0';
    for (int i = 0; i < shape.n && i < FB_MAX_DIMS && at < size; i++)
        at +=
            (size_t)snprintf(buf + at, size - at, "%s%lld", i ? ", " : "[", (long long)shape.d[i]);
    if (at < size)
        snprintf(buf + at, size - at, shape.n > 0 ? "]" : "[]");
    return buf;
}

FB_API fb_shape fb_shape_make(int n, const int64_t *sizes)
{
    fb_shape s = {.n = n < 0 ? 0 : n > FB_MAX_DIMS ? FB_MAX_DIMS : n};
    for (int i = 0; i < s.n; i++)
        s.d[i] = sizes ? sizes[i] : 0;
    return s;
}

void fbi_set_shape(fb_tensor *t, fb_dtype dtype, fb_shape shape)
{
    int64_t stride = 1;
    t->dtype = (uint8_t)dtype;
    t->ndim = (uint8_t)shape.n;
    for (int i = shape.n - 1; i >= 0; i--) {
        t->size[i] = shape.d[i];
        t->stride[i] = stride;
        stride *= shape.d[i] > 0 ? shape.d[i] : 1;
    }
    t->numel = fb_shape_numel(shape);
}

fb_shape fbi_strides_of(const fb_tensor *t)
{
    return fb_shape_make(t->ndim, t->stride);
}

bool fbi_contiguous(const fb_tensor *t)
{
    if (t->numel == 0)
        return true;
    int64_t expected = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->size[i] == 1)
            continue; /* its stride is never used */
        if (t->stride[i] != expected)
            return false;
        expected *= t->size[i];
    }
    return true;
}

bool fbi_dense(const fb_tensor *t)
{
    if (t->numel == 0)
        return true;
    int64_t expected = 1;
    uint32_t used = 0;
    for (;;) { /* at most 8 dimensions: look for the next stride */
        int found = -1;
        bool left = false;
        for (int i = 0; i < t->ndim; i++) {
            if (t->size[i] == 1 || (used >> i & 1))
                continue;
            left = true;
            if (t->stride[i] == expected)
                found = i;
        }
        if (found < 0)
            return !left;
        used |= 1u << found;
        expected *= t->size[found];
    }
}

const char *fbi_shape_text(fb_context *ctx, fb_shape s)
{
    char *buf = ctx->text[ctx->text_at++ % FBI_TEXT_RING];
    return fb_shape_text(s, buf, FBI_TEXT_BYTES);
}

const char *fbi_text(const fb_tensor *t)
{
    return fbi_shape_text(t->ctx, fb_shape_make(t->ndim, t->size));
}

int fbi_dim(fb_context *ctx, const fb_tensor *t, int dim, const char *op)
{
    int n = t->ndim > 0 ? t->ndim : 1; /* a scalar may be reduced over its dimension 0 */
    if (dim >= -n && dim < n)
        return dim < 0 ? dim + n : dim;
    fbi_fail(ctx, FB_E_ARG, "%s: dim %d is out of range for %s: use %d .. %d", op, dim, fbi_text(t),
             -n, n - 1);
    return -1;
}

bool fbi_broadcast(fb_shape a, fb_shape b, fb_shape *out)
{
    int n = a.n > b.n ? a.n : b.n;
    fb_shape r = {.n = n};
    for (int i = 0; i < n; i++) {
        int64_t x = i < n - a.n ? 1 : a.d[i - (n - a.n)];
        int64_t y = i < n - b.n ? 1 : b.d[i - (n - b.n)];
        if (x != y && x != 1 && y != 1)
            return false;
        r.d[i] = x == 1 ? y : x;
    }
    *out = r;
    return true;
}
