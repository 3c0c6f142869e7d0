/* Views: rows reshape, permute, expand, narrow; those of view_dims.c are made of them. */
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/view.h>

#include "core/autograd/pass_priv.h"
#include "core/ops/call_priv.h"

/* Strides of `to` on t's storage, if no copy is needed. */
static bool fbi_view_strides(const fb_tensor *t, fb_shape to, fb_shape *strides)
{
    strides->n = to.n;
    int64_t inner = 1;
    if (t->numel == 0 || fbi_contiguous(t)) {
        for (int i = to.n - 1; i >= 0; i--) {
            strides->d[i] = inner;
            inner *= to.d[i] > 0 ? to.d[i] : 1;
        }
        return true;
    }
    int k = to.n - 1;
    for (int i = t->ndim - 1; i >= 0;) { /* runs of old dimensions that lie in one piece */
        int64_t base = t->stride[i], run = t->size[i];
        while (i > 0 && (t->size[i - 1] == 1 || t->stride[i - 1] == run * base)) {
            i--;
            run *= t->size[i];
        }
        i--;
        int64_t have = 1;
        while (k >= 0 && (have < run || to.d[k] == 1)) {
            strides->d[k] = have * base;
            have *= to.d[k--];
        }
        if (have != run)
            return false;
    }
    return true;
}

fb_status fbi_infer_reshape(fbi_call *c)
{
    fbi_attrs_reshape *a = (fbi_attrs_reshape *)(uintptr_t)c->attrs; /* a copy of the engine's */
    fb_tensor *t = c->in[0];
    fb_shape to = a->sizes, strides;
    int64_t known = 1, unknown = -1;
    for (int i = 0; i < to.n; i++) {
        if (to.d[i] == -1 && unknown < 0)
            unknown = i;
        else
            known *= to.d[i];
    }
    if (unknown >= 0 && known > 0 && t->numel % known == 0)
        to.d[unknown] = t->numel / known;
    if (fb_shape_numel(to) != t->numel)
        return fbi_op_fail(c, FB_E_SHAPE, "%s (%lld elements) cannot become %s", fbi_text(t),
                           (long long)t->numel, fbi_shape_text(c->ctx, a->sizes));
    if (!fbi_view_strides(t, to, &strides))
        return fbi_op_fail(c, FB_E_SHAPE,
                           "%s is not laid out so that %s is a view; use fb_reshape "
                           "or fb_contiguous",
                           fbi_text(t), fbi_shape_text(c->ctx, to));
    a->sizes = to;
    a->from = fb_shape_of(t);
    return fbi_out_view(c, 0, t, to, strides, t->offset);
}

fb_status fbi_bwd_ops_reshape(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0,
                       fb_reshape(bw->grad[0], ((const fbi_attrs_reshape *)bw->attrs)->from));
}

fb_status fbi_infer_permute(fbi_call *c)
{
    const fbi_attrs_permute *a = c->attrs;
    fb_tensor *t = c->in[0];
    fb_shape sizes = {.n = t->ndim}, strides = {.n = t->ndim};
    unsigned seen = 0;
    for (int i = 0; i < a->dims.n && a->dims.n == t->ndim; i++) {
        int64_t d = a->dims.d[i] < 0 ? a->dims.d[i] + t->ndim : a->dims.d[i];
        if (d < 0 || d >= t->ndim)
            break;
        seen |= 1u << d;
        sizes.d[i] = t->size[d];
        strides.d[i] = t->stride[d];
    }
    if (a->dims.n != t->ndim || seen != (1u << t->ndim) - 1)
        return fbi_op_fail(c, FB_E_ARG, "%s is not an order of the %d dimensions of %s",
                           fbi_shape_text(c->ctx, a->dims), t->ndim, fbi_text(t));
    return fbi_out_view(c, 0, t, sizes, strides, t->offset);
}

fb_status fbi_bwd_ops_permute(fbi_bw *bw)
{
    fb_shape dims = ((const fbi_attrs_permute *)bw->attrs)->dims, inverse = {.n = dims.n};
    for (int i = 0; i < dims.n; i++)
        inverse.d[dims.d[i] < 0 ? dims.d[i] + dims.n : dims.d[i]] = i;
    return fbi_bw_give(bw, 0, fb_permute(bw->grad[0], inverse));
}

fb_status fbi_infer_expand(fbi_call *c)
{
    fbi_attrs_expand *a = (fbi_attrs_expand *)(uintptr_t)c->attrs;
    fb_tensor *t = c->in[0];
    fb_shape to = a->sizes, strides = {.n = to.n};
    int front = to.n - t->ndim;
    bool ok = front >= 0;
    for (int i = 0; i < to.n && ok; i++) {
        int64_t have = i < front ? 1 : t->size[i - front];
        if (to.d[i] == -1 && i >= front)
            to.d[i] = have;
        ok = to.d[i] == have || (have == 1 && to.d[i] >= 0);
        strides.d[i] = i < front || (have == 1 && to.d[i] != 1) ? 0 : t->stride[i - front];
    }
    if (!ok)
        return fbi_op_fail(c, FB_E_SHAPE, "%s cannot be expanded to %s", fbi_text(t),
                           fbi_shape_text(c->ctx, a->sizes));
    a->sizes = to;
    a->from = fb_shape_of(t);
    return fbi_out_view(c, 0, t, to, strides, t->offset);
}

fb_status fbi_bwd_ops_expand(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, fbi_sum_to(bw->grad[0], ((const fbi_attrs_expand *)bw->attrs)->from));
}

fb_status fbi_infer_narrow(fbi_call *c)
{
    fbi_attrs_narrow *a = (fbi_attrs_narrow *)(uintptr_t)c->attrs;
    fb_tensor *t = c->in[0];
    int d = fbi_dim(c->ctx, t, (int)a->dim, c->op->name);
    if (d < 0)
        return c->ctx->status;
    int64_t given = a->start, n = t->size[d];
    a->start += given < 0 ? n : 0;
    if (a->start < 0 || a->start > n || a->len < 0 || a->len > n - a->start)
        return fbi_op_fail(c, FB_E_ARG, "elements %lld .. %lld of dimension %d of %s",
                           (long long)given, (long long)given + (long long)a->len - 1, d,
                           fbi_text(t));
    a->dim = d;
    a->from = t->size[d];
    fb_shape sizes = fb_shape_of(t);
    sizes.d[d] = a->len;
    return fbi_out_view(c, 0, t, sizes, fbi_strides_of(t), t->offset + a->start * t->stride[d]);
}

fb_status fbi_bwd_ops_narrow(fbi_bw *bw)
{
    const fbi_attrs_narrow *a = bw->attrs;
    fb_tensor *whole = fbi_bw_pending(bw, 0);
    if (whole) { /* other pieces have their gradients there: no second whole full of zeros */
        fb_shape sizes = fb_shape_of(bw->grad[0]);
        int64_t at = whole->offset + a->start * whole->stride[a->dim];
        fb_tensor *piece = fbi_view(whole, sizes, fbi_strides_of(whole), at);
        return piece ? fbi_grad_add(bw->ctx, piece, bw->grad[0]) : bw->ctx->status;
    }
    fbi_attrs_narrow_pad pad = {.dim = a->dim, .start = a->start, .size = a->from, .len = a->len};
    return fbi_bw_give(bw, 0, FBI_RUN(narrow_pad, &pad, bw->grad[0]));
}

fb_status fbi_infer_narrow_pad(fbi_call *c)
{
    const fbi_attrs_narrow_pad *a = c->attrs;
    fb_shape s = fb_shape_of(c->in[0]);
    s.d[a->dim] = a->size;
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, s);
}

fb_status fbi_bwd_ops_narrow_pad(fbi_bw *bw)
{
    const fbi_attrs_narrow_pad *a = bw->attrs;
    return fbi_bw_give(bw, 0, fb_narrow(bw->grad[0], (int)a->dim, a->start, a->len));
}

/* --- public --- */

fb_tensor *fb_view(fb_tensor *t, fb_shape sizes)
{
    return FBI_RUN(reshape, (&(fbi_attrs_reshape){.sizes = sizes}), t);
}

fb_tensor *fb_reshape(fb_tensor *t, fb_shape sizes)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    fb_shape to = sizes, strides;
    int64_t known = 1;
    int unknown = -1;
    for (int i = 0; i < to.n; i++) {
        if (to.d[i] == -1)
            unknown = i;
        else
            known *= to.d[i];
    }
    if (unknown >= 0 && known > 0)
        to.d[unknown] = t->numel / known;
    if (fb_shape_numel(to) != t->numel || fbi_view_strides(t, to, &strides))
        return fb_view(t, sizes);
    fb_tensor *copy = fb_contiguous(t);
    fb_tensor *view = copy ? fb_view(copy, sizes) : NULL;
    if (copy && copy != t)
        fb_drop(copy);
    return view;
}

fb_tensor *fb_permute(fb_tensor *t, fb_shape dims)
{
    return FBI_RUN(permute, (&(fbi_attrs_permute){.dims = dims}), t);
}

fb_tensor *fb_expand(fb_tensor *t, fb_shape sizes)
{
    return FBI_RUN(expand, (&(fbi_attrs_expand){.sizes = sizes}), t);
}

fb_tensor *fbi_expand_to(fb_tensor *t, fb_shape sizes, const char *op)
{
    if (fb_shape_equal(fb_shape_of(t), sizes))
        return t;
    fb_shape s;
    if (!fbi_broadcast(fb_shape_of(t), sizes, &s) || !fb_shape_equal(s, sizes)) {
        fbi_fail(t->ctx, FB_E_SHAPE, "%s: %s cannot be broadcast to %s", op, fbi_text(t),
                 fbi_shape_text(t->ctx, sizes));
        return NULL;
    }
    return fb_expand(t, sizes);
}

fb_tensor *fb_narrow(fb_tensor *t, int dim, int64_t start, int64_t len)
{
    return FBI_RUN(narrow, (&(fbi_attrs_narrow){.dim = dim, .start = start, .len = len}), t);
}

fb_tensor *fbi_sum_to(fb_tensor *g, fb_shape shape)
{
    if (!g || fb_shape_equal(fb_shape_of(g), shape))
        return g;
    int front = g->ndim - shape.n;
    fb_shape dims = {0};
    for (int i = 0; i < g->ndim; i++)
        if (i < front || (shape.d[i - front] == 1 && g->size[i] != 1))
            dims.d[dims.n++] = i;
    if (!dims.n)
        return fb_reshape(g, shape);
    fb_tensor *sum = FBI_RUN(sum, (&(fbi_attrs_sum){.dims = dims, .keepdim = 1}), g);
    return !sum || !front ? sum : fb_reshape(sum, shape);
}

fb_tensor *fb_sum_to(fb_tensor *t, fb_shape shape)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    fb_shape s;
    if (!fbi_broadcast(shape, fb_shape_of(t), &s) || !fb_shape_equal(s, fb_shape_of(t))) {
        fbi_fail(t->ctx, FB_E_SHAPE, "sum_to: %s was not broadcast from %s", fbi_text(t),
                 fbi_shape_text(t->ctx, shape));
        return NULL;
    }
    return fbi_sum_to(t, shape);
}

/* --- samples --- */

#define IN(...)                                           \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2 \
    }

void fbi_sample_reshape(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(2, 3, 4)};
    fbi_sample_add(s, &(fbi_attrs_reshape){.sizes = FB_SHAPE(6, 4)}, 1, in);
    fbi_sample_bad(s, &(fbi_attrs_reshape){.sizes = FB_SHAPE(5, 5)}, 1, in, FB_E_SHAPE,
                   "cannot become [5, 5]");
}

void fbi_sample_permute(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(2, 3, 4)};
    fbi_sample_add(s, &(fbi_attrs_permute){.dims = FB_SHAPE(2, 0, 1)}, 1, in);
    fbi_sample_bad(s, &(fbi_attrs_permute){.dims = FB_SHAPE(0, 0, 1)}, 1, in, FB_E_ARG, "order");
}

void fbi_sample_expand(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(3, 1)};
    fbi_sample_add(s, &(fbi_attrs_expand){.sizes = FB_SHAPE(2, 3, 4)}, 1, in);
    fbi_sample_bad(s, &(fbi_attrs_expand){.sizes = FB_SHAPE(2, 4)}, 1, in, FB_E_SHAPE,
                   "cannot be expanded to [2, 4]");
}

void fbi_sample_narrow(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(3, 5)};
    fbi_sample_add(s, &(fbi_attrs_narrow){.dim = 1, .start = 1, .len = 3}, 1, in);
    fbi_sample_add(s, &(fbi_attrs_narrow){.dim = 1, .start = -2, .len = 2}, 1, in);
    fbi_sample_bad(s, &(fbi_attrs_narrow){.dim = 1, .start = -6, .len = 1}, 1, in, FB_E_ARG,
                   "elements -6 .. -6");
    fbi_sample_bad(s, &(fbi_attrs_narrow){.dim = 1, .start = 3, .len = 3}, 1, in, FB_E_ARG,
                   "elements 3 .. 5");
}

fb_tensor *fb_reshape_as(fb_tensor *t, fb_tensor *other)
{
    return other ? fb_reshape(t, fb_shape_of(other)) : NULL;
}

fb_tensor *fb_view_as(fb_tensor *t, fb_tensor *other)
{
    return other ? fb_view(t, fb_shape_of(other)) : NULL;
}

fb_tensor *fb_expand_as(fb_tensor *t, fb_tensor *other)
{
    return other ? fb_expand(t, fb_shape_of(other)) : NULL;
}
