/* Pooling of [n, c, d, h, w]: shapes, derivatives, samples. pool_nd.c has fewer dimensions. */
#include "core/ops/pool_shape_priv.h"

#include <flambeau/core/ops/cast.h>

/* --- windows and grids --- */

static fb_status complete(const fbi_call *c, int nd, const char *what, fb_shape *s, fb_shape def)
{
    if (s->n == 0)
        *s = def;
    if (s->n == nd)
        return FB_OK;
    return fbi_op_fail(c, FB_E_ARG, "%s %s has not %d numbers", what, fbi_shape_text(c->ctx, *s),
                       nd);
}

static fb_shape all(int nd, int64_t value)
{
    fb_shape s = {nd, {0}};
    for (int d = 0; d < nd; d++)
        s.d[d] = value;
    return s;
}

/* As PyTorch: with ceil_mode a last window may hang over the end, but begins before it. */
static int64_t pooled(int64_t in, int64_t k, int64_t stride, int64_t pad, int64_t dil, bool ceil)
{
    int64_t room = in + 2 * pad - dil * (k - 1) - 1 + (ceil ? stride - 1 : 0);
    int64_t out = room < 0 ? 0 : room / stride + 1;
    return ceil && out > 0 && (out - 1) * stride >= in + pad ? out - 1 : out;
}

fb_status fbi_pool_windows(const fbi_call *c, int nd, fbi_windows *w, int64_t out[3])
{
    const fb_tensor *x = c->in[0];
    fb_status st = complete(c, nd, "a window", &w->kernel, (fb_shape){0});
    if (!st)
        st = complete(c, nd, "a stride", &w->stride, w->kernel);
    if (!st)
        st = complete(c, nd, "a padding", &w->padding, all(nd, 0));
    if (!st)
        st = complete(c, nd, "a dilation", &w->dilation, all(nd, 1));
    for (int d = 0; d < nd && !st; d++) {
        int64_t k = w->kernel.d[d], stride = w->stride.d[d], pad = w->padding.d[d];
        int64_t dil = w->dilation.d[d], in = x->size[x->ndim - nd + d];
        if (k < 1 || stride < 1 || dil < 1 || k > INT32_MAX || stride > INT32_MAX ||
            dil > INT32_MAX)
            return fbi_op_fail(c, FB_E_ARG, "window, stride and dilation are at least 1");
        if (pad < 0 || pad > k / 2)
            return fbi_op_fail(c, FB_E_ARG,
                               "padding %lld is not within 0 .. half of the window %lld",
                               (long long)pad, (long long)k);
        out[d] = pooled(in, k, stride, pad, dil, w->ceil_mode);
        if (out[d] < 1 || in < 1)
            return fbi_op_fail(c, FB_E_SHAPE, "a window of %s is larger than the padded input %s",
                               fbi_shape_text(c->ctx, w->kernel), fbi_text(x));
    }
    return st;
}

fb_status fbi_pool_grid(const fbi_call *c, int nd, fb_shape *output)
{
    const fb_tensor *x = c->in[0];
    fb_shape given = *output;
    fb_status st = complete(c, nd, "a grid", output, (fb_shape){0});
    for (int d = 0; d < nd && !st; d++) {
        int64_t in = x->size[x->ndim - nd + d];
        if (output->d[d] == -1)
            output->d[d] = in;
        if (output->d[d] < 1 || in < 1)
            return fbi_op_fail(c, FB_E_ARG, "a grid of %s cells over input %s",
                               fbi_shape_text(c->ctx, given), fbi_text(x));
    }
    return st;
}

fb_status fbi_need_images(const fbi_call *c, int nd)
{
    const fb_tensor *x = c->in[0];
    if (x->ndim == nd + 2)
        return FB_OK;
    return fbi_op_fail(c, FB_E_SHAPE, "input 0 has %d dimensions %s; needs %d", x->ndim,
                       fbi_text(x), nd + 2);
}

/* Outputs of the smaller image's sizes: values, and (with_index) places in the larger one. */
static fb_status images_out(fbi_call *c, const int64_t out[3], bool with_index, fb_shape *size)
{
    const fb_tensor *x = c->in[0];
    fb_shape s = FB_SHAPE(x->size[0], x->size[1], out[0], out[1], out[2]);
    *size = FB_SHAPE(x->size[2], x->size[3], x->size[4]);
    if (with_index && fb_shape_numel(*size) > INT32_MAX)
        return fbi_op_fail(c, FB_E_SHAPE, "images of %s have more than 2^31 elements", fbi_text(x));
    fb_status st = fbi_out_nhwc(c, 0, (fb_dtype)x->dtype, s);
    return st || !with_index ? st : fbi_out_nhwc(c, 1, FB_I32, s);
}

/* --- max --- */

fb_status fbi_infer_max_pool3d(fbi_call *c)
{
    fbi_attrs_max_pool3d *a = (fbi_attrs_max_pool3d *)(uintptr_t)c->attrs; /* infer completes it */
    fbi_windows w = {a->kernel, a->stride, a->padding, a->dilation, a->ceil_mode};
    int64_t out[3];
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_images(c, 3);
    if (!st)
        st = fbi_pool_windows(c, 3, &w, out);
    if (st)
        return st;
    a->stride = w.stride;
    a->padding = w.padding;
    a->dilation = w.dilation;
    return images_out(c, out, true, &a->size);
}

fb_status fbi_infer_adaptive_max_pool3d(fbi_call *c)
{
    fbi_attrs_adaptive_max_pool3d *a = (fbi_attrs_adaptive_max_pool3d *)(uintptr_t)c->attrs;
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_images(c, 3);
    if (!st)
        st = fbi_pool_grid(c, 3, &a->output);
    return st ? st : images_out(c, a->output.d, true, &a->size);
}

fb_status fbi_infer_fractional_max_pool3d(fbi_call *c)
{
    fbi_attrs_fractional_max_pool3d *a = (fbi_attrs_fractional_max_pool3d *)(uintptr_t)c->attrs;
    const fb_tensor *x = c->in[0], *u = c->in[1];
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)x->dtype);
    if (!st)
        st = fbi_need_images(c, 3);
    if (!st)
        st = complete(c, 3, "a window", &a->kernel, (fb_shape){0});
    if (!st)
        st = fbi_pool_grid(c, 3, &a->output);
    if (st)
        return st;
    for (int d = 0; d < 3; d++)
        if (a->kernel.d[d] < 1 || a->output.d[d] + a->kernel.d[d] - 1 > x->size[2 + d])
            return fbi_op_fail(c, FB_E_SHAPE, "%lld windows of %lld elements in dimension %d of %s",
                               (long long)a->output.d[d], (long long)a->kernel.d[d], d + 2,
                               fbi_text(x));
    if (u->ndim != 3 || u->size[0] != x->size[0] || u->size[1] != x->size[1] || u->size[2] != 3)
        return fbi_op_fail(c, FB_E_SHAPE, "random numbers %s do not fit input %s", fbi_text(u),
                           fbi_text(x));
    return images_out(c, a->output.d, true, &a->size);
}

/* To where the values came from. The attributes end with the larger image's sizes. */
static fb_status give_back(fbi_bw *bw, fb_shape size)
{
    fbi_attrs_max_pool3d_bwd p = {.size = size};
    fb_tensor *index = fbi_bw_out(bw, 1);
    if (!index)
        return bw->ctx->status;
    if (!bw->grad[0] || !fbi_bw_needs(bw, 0))
        return FB_OK;
    return fbi_bw_give(bw, 0, FBI_RUN(max_pool3d_bwd, &p, bw->grad[0], index));
}

fb_status fbi_bwd_ops_max_pool3d(fbi_bw *bw)
{
    return give_back(bw, ((const fbi_attrs_max_pool3d *)bw->attrs)->size);
}
fb_status fbi_bwd_ops_adaptive_max_pool3d(fbi_bw *bw)
{
    return give_back(bw, ((const fbi_attrs_adaptive_max_pool3d *)bw->attrs)->size);
}
fb_status fbi_bwd_ops_fractional_max_pool3d(fbi_bw *bw)
{
    return give_back(bw, ((const fbi_attrs_fractional_max_pool3d *)bw->attrs)->size);
}

static fb_shape with_sizes(const fb_tensor *t, fb_shape size)
{
    return FB_SHAPE(t->size[0], t->size[1], size.d[0], size.d[1], size.d[2]);
}

fb_status fbi_infer_max_pool3d_bwd(fbi_call *c)
{
    const fbi_attrs_max_pool3d_bwd *a = c->attrs;
    return fbi_out_nhwc(c, 0, (fb_dtype)c->in[0]->dtype, with_sizes(c->in[0], a->size));
}

fb_status fbi_bwd_ops_max_pool3d_bwd(fbi_bw *bw)
{
    fb_tensor *index = fbi_bw_in(bw, 1);
    if (!index)
        return bw->ctx->status;
    return fbi_bw_give(
        bw, 0, FBI_RUN(max_pool3d_pick, (&(fbi_attrs_max_pool3d_pick){{0}}), bw->grad[0], index));
}

fb_status fbi_infer_max_pool3d_pick(fbi_call *c)
{
    fbi_attrs_max_pool3d_pick *a = (fbi_attrs_max_pool3d_pick *)(uintptr_t)c->attrs;
    const fb_tensor *u = c->in[0];
    if (a)
        a->size = FB_SHAPE(u->size[2], u->size[3], u->size[4]);
    return fbi_out_nhwc(c, 0, (fb_dtype)u->dtype, fb_shape_of(c->in[1]));
}

fb_status fbi_bwd_ops_max_pool3d_pick(fbi_bw *bw)
{
    fbi_attrs_max_pool3d_bwd p = {.size = ((const fbi_attrs_max_pool3d_pick *)bw->attrs)->size};
    fb_tensor *index = fbi_bw_in(bw, 1);
    if (!index)
        return bw->ctx->status;
    return fbi_bw_give(bw, 0, FBI_RUN(max_pool3d_bwd, &p, bw->grad[0], index));
}

void fbi_sample_max_pool3d(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(1, 2, 3, 4, 5), .lo = -1, .hi = 1, .distinct = true};
    const fbi_attrs_max_pool3d ok[] = {
        {.kernel = FB_SHAPE(2, 2, 2)},
        {.kernel = FB_SHAPE(2, 3, 3), .stride = FB_SHAPE(1, 2, 2), .padding = FB_SHAPE(1, 1, 1)},
        {.kernel = FB_SHAPE(2, 2, 2), .dilation = FB_SHAPE(1, 2, 3), .ceil_mode = 1}};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++)
        fbi_sample_add(s, &ok[i], 1, &in);
    fbi_attrs_max_pool3d bad = {.kernel = FB_SHAPE(5, 1, 1)};
    fbi_sample_bad(s, &bad, 1, &in, FB_E_SHAPE,
                   "max_pool3d: a window of [5, 1, 1] is larger than the padded input");
    bad = (fbi_attrs_max_pool3d){.kernel = FB_SHAPE(2, 2)};
    fbi_sample_bad(s, &bad, 1, &in, FB_E_ARG, "max_pool3d: a window [2, 2] has not 3 numbers");
    bad = (fbi_attrs_max_pool3d){.kernel = FB_SHAPE(2, 2, 2), .stride = FB_SHAPE(1, 0, 1)};
    fbi_sample_bad(s, &bad, 1, &in, FB_E_ARG, "max_pool3d: window, stride and dilation");
}

void fbi_sample_adaptive_max_pool3d(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(1, 2, 3, 4, 5), .lo = -1, .hi = 1, .distinct = true};
    fbi_sample_add(s, &(fbi_attrs_adaptive_max_pool3d){.output = FB_SHAPE(1, 2, 3)}, 1, &in);
    fbi_sample_add(s, &(fbi_attrs_adaptive_max_pool3d){.output = FB_SHAPE(3, 7, -1)}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_adaptive_max_pool3d){.output = FB_SHAPE(0, 1, 1)}, 1, &in,
                   FB_E_ARG, "adaptive_max_pool3d: a grid of [0, 1, 1] cells over input");
}

void fbi_sample_fractional_max_pool3d(fbi_samples *s)
{
    fbi_sample_in in[2] = {{.shape = FB_SHAPE(1, 2, 3, 4, 5), .lo = -1, .hi = 1, .distinct = true},
                           {.shape = FB_SHAPE(1, 2, 3), .lo = 0.05, .hi = 0.95, .constant = true}};
    fbi_attrs_fractional_max_pool3d a = {.kernel = FB_SHAPE(2, 2, 3), .output = FB_SHAPE(1, 3, 2)};
    fbi_sample_add(s, &a, 2, in);
    a.output.d[0] = 4;
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE,
                   "fractional_max_pool3d: 4 windows of 2 elements in dimension 2 of");
    a.output.d[0] = 1;
    in[1].shape = FB_SHAPE(1, 2, 2);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE,
                   "fractional_max_pool3d: random numbers [1, 2, 2] do not fit input");
}

/* --- mean --- */

fb_status fbi_infer_avg_pool3d(fbi_call *c)
{
    fbi_attrs_avg_pool3d *a = (fbi_attrs_avg_pool3d *)(uintptr_t)c->attrs; /* infer completes it */
    fbi_windows w = {a->kernel, a->stride, a->padding, {0}, a->ceil_mode};
    int64_t out[3];
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = fbi_need_images(c, 3);
    if (!st)
        st = fbi_pool_windows(c, 3, &w, out);
    if (st)
        return st;
    a->stride = w.stride;
    a->padding = w.padding;
    return images_out(c, out, false, &a->size);
}

fb_status fbi_bwd_ops_avg_pool3d(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, FBI_RUN(avg_pool3d_bwd, bw->attrs, bw->grad[0]));
}

fb_status fbi_infer_avg_pool3d_bwd(fbi_call *c)
{
    const fbi_attrs_avg_pool3d_bwd *a = c->attrs;
    return fbi_out_nhwc(c, 0, (fb_dtype)c->in[0]->dtype, with_sizes(c->in[0], a->size));
}

fb_status fbi_bwd_ops_avg_pool3d_bwd(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, FBI_RUN(avg_pool3d, bw->attrs, bw->grad[0]));
}

void fbi_sample_avg_pool3d(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(1, 2, 3, 4, 5), .lo = -1, .hi = 1};
    const fb_shape two = FB_SHAPE(2, 2, 2), three = FB_SHAPE(3, 3, 2), one = FB_SHAPE(1, 1, 1);
    const fbi_attrs_avg_pool3d ok[] = {
        {.kernel = two, .count_include_pad = 1},
        {.kernel = three, .stride = FB_SHAPE(2, 2, 1), .padding = one, .count_include_pad = 1},
        {.kernel = three, .stride = two, .padding = one, .ceil_mode = 1},
        {.kernel = two, .stride = one, .divisor_override = 5}};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++)
        fbi_sample_add(s, &ok[i], 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_avg_pool3d){.kernel = FB_SHAPE(5, 1, 1)}, 1, &in, FB_E_SHAPE,
                   "avg_pool3d: a window of [5, 1, 1] is larger than the padded input");
    fbi_sample_bad(s, &(fbi_attrs_avg_pool3d){.kernel = two, .padding = FB_SHAPE(2, 0, 0)}, 1, &in,
                   FB_E_ARG, "avg_pool3d: padding 2 is not within");
}

fb_status fbi_infer_adaptive_avg_pool3d(fbi_call *c)
{
    fbi_attrs_adaptive_avg_pool3d *a = (fbi_attrs_adaptive_avg_pool3d *)(uintptr_t)c->attrs;
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = fbi_need_images(c, 3);
    if (!st)
        st = fbi_pool_grid(c, 3, &a->output);
    return st ? st : images_out(c, a->output.d, false, &a->size);
}

fb_status fbi_bwd_ops_adaptive_avg_pool3d(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, FBI_RUN(adaptive_avg_pool3d_bwd, bw->attrs, bw->grad[0]));
}

fb_status fbi_infer_adaptive_avg_pool3d_bwd(fbi_call *c)
{
    const fbi_attrs_adaptive_avg_pool3d_bwd *a = c->attrs;
    return fbi_out_nhwc(c, 0, (fb_dtype)c->in[0]->dtype, with_sizes(c->in[0], a->size));
}

fb_status fbi_bwd_ops_adaptive_avg_pool3d_bwd(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, FBI_RUN(adaptive_avg_pool3d, bw->attrs, bw->grad[0]));
}

void fbi_sample_adaptive_avg_pool3d(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(1, 2, 3, 4, 5), .lo = -1, .hi = 1};
    fbi_sample_add(s, &(fbi_attrs_adaptive_avg_pool3d){.output = FB_SHAPE(1, 1, 1)}, 1, &in);
    fbi_sample_add(s, &(fbi_attrs_adaptive_avg_pool3d){.output = FB_SHAPE(3, 7, -1)}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_adaptive_avg_pool3d){.output = FB_SHAPE(0, 1, 1)}, 1, &in,
                   FB_E_ARG, "adaptive_avg_pool3d: a grid of [0, 1, 1] cells over input");
}
