/* What infer functions call: outputs and checks. */
#include <stdio.h>
#include <string.h>

#include "core/ops/op_priv.h"

fb_status fbi_op_fail(const fbi_call *c, fb_status st, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return fbi_fail(c->ctx, st, "%s: %s", c->ctx->composing ? c->ctx->composing : c->op->name,
                    text);
}

/* Whether the caller has put a fitting destination in place (a leaf's gradient). */
static bool fbi_preset(fbi_call *c, int i, fb_dtype dtype, fb_shape shape)
{
    fb_tensor *o = c->out[i];
    return o && o->dtype == dtype && fb_shape_equal(fb_shape_of(o), shape) && fbi_contiguous(o);
}

fb_status fbi_out(fbi_call *c, int i, fb_dtype dtype, fb_shape shape)
{
    if (fbi_preset(c, i, dtype, shape))
        return FB_OK;
    c->out[i] = fbi_empty(c->ctx, dtype, shape);
    return c->out[i] ? FB_OK : c->ctx->status;
}

/* A fresh tensor with the sizes of `like`. What recording an operator costs is mostly this, so no
 * shape is copied on the way. */
static fb_tensor *fresh_like(fb_context *ctx, fb_dtype dtype, const fb_tensor *like)
{
    size_t bytes;
    if (__builtin_mul_overflow((size_t)like->numel, fb_dtype_size(dtype), &bytes))
        return fbi_empty(ctx, dtype, fb_shape_of(like)); /* says what is wrong */
    fbi_storage *s = fbi_storage_new(ctx, bytes);
    fb_tensor *t = s ? fbi_tensor_new(ctx) : NULL;
    if (!t) {
        fbi_storage_unref(ctx, s);
        return NULL;
    }
    t->storage = s;
    t->dtype = (uint8_t)dtype;
    t->ndim = like->ndim;
    t->numel = like->numel;
    int64_t stride = 1;
    for (int i = like->ndim - 1; i >= 0; i--) {
        t->size[i] = like->size[i];
        t->stride[i] = stride;
        stride *= like->size[i] > 0 ? like->size[i] : 1;
    }
    return t;
}

fb_status fbi_out_like(fbi_call *c, int i, fb_dtype dtype, const fb_tensor *like)
{
    if (c->out[i] && fbi_preset(c, i, dtype, fb_shape_of(like)))
        return FB_OK;
    fb_tensor *t = c->out[i] = fresh_like(c->ctx, dtype, like);
    if (!t)
        return c->ctx->status;
    if (!fbi_contiguous(like) && fbi_dense(like))
        for (int k = 0; k < like->ndim; k++)
            t->stride[k] = like->stride[k];
    return FB_OK;
}

fb_status fbi_out_order(fbi_call *c, int i, fb_dtype dtype, fb_shape shape, const fb_tensor *like)
{
    fb_status st = fbi_out(c, i, dtype, shape);
    bool done[FB_MAX_DIMS] = {false};
    int64_t step = 1;
    for (int left = shape.n; left > 0 && !st; left--) {
        int d = -1; /* the smallest stride; of equal ones the last */
        for (int k = shape.n - 1; k >= 0; k--)
            if (!done[k] && (d < 0 || like->stride[k] < like->stride[d]))
                d = k;
        done[d] = true;
        c->out[i]->stride[d] = step;
        step *= shape.d[d];
    }
    return st;
}

fb_status fbi_out_view(fbi_call *c, int i, fb_tensor *base, fb_shape sizes, fb_shape strides,
                       int64_t offset)
{
    c->out[i] = fbi_view(base, sizes, strides, offset);
    return c->out[i] ? FB_OK : c->ctx->status;
}

fb_status fbi_out_nhwc(fbi_call *c, int i, fb_dtype dtype, fb_shape sizes)
{
    int64_t stride[FB_MAX_DIMS] = {0}, step = sizes.d[1];
    stride[1] = 1;
    for (int d = sizes.n - 1; d > 1; d--) {
        stride[d] = step;
        step *= sizes.d[d];
    }
    stride[0] = step;
    size_t bytes = (size_t)sizes.n * sizeof stride[0];
    fb_tensor *t = c->out[i];
    if (t && t->dtype == dtype && fb_shape_equal(fb_shape_of(t), sizes) &&
        !memcmp(t->stride, stride, bytes))
        return FB_OK;
    t = c->out[i] = fbi_empty(c->ctx, dtype, sizes);
    if (!t)
        return c->ctx->status;
    memcpy(t->stride, stride, bytes);
    return FB_OK;
}

int fbi_dim_of(const fbi_call *c, int64_t dim)
{
    const fb_tensor *x = c->in[0];
    int64_t d = dim < 0 ? dim + x->ndim : dim;
    if (d >= 0 && d < x->ndim)
        return (int)d;
    fbi_op_fail(c, FB_E_ARG, "no dimension %lld in input %s", (long long)dim, fbi_text(x));
    return -1;
}

fb_status fbi_need_float(const fbi_call *c, int i)
{
    if (fb_dtype_is_float(c->in[i]->dtype))
        return FB_OK;
    return fbi_op_fail(c, FB_E_DTYPE, "input %d is %s; needs F32, F64, F16 or BF16", i,
                       fb_dtype_name(c->in[i]->dtype));
}

fb_status fbi_need_numbers(const fbi_call *c, int i)
{
    if (c->in[i]->dtype != FB_BOOL)
        return FB_OK;
    return fbi_op_fail(c, FB_E_DTYPE, "input %d is BOOL; needs numbers", i);
}

fb_status fbi_need_dtype(const fbi_call *c, int i, fb_dtype dtype)
{
    if (c->in[i]->dtype == dtype)
        return FB_OK;
    return fbi_op_fail(c, FB_E_DTYPE, "input %d is %s; needs %s", i, fb_dtype_name(c->in[i]->dtype),
                       fb_dtype_name(dtype));
}

fb_status fbi_need_ndim(const fbi_call *c, int i, int n)
{
    if (c->in[i]->ndim == n)
        return FB_OK;
    return fbi_op_fail(c, FB_E_SHAPE, "input %d has %d dimensions %s; needs %d", i, c->in[i]->ndim,
                       fbi_text(c->in[i]), n);
}
