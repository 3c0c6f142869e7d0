/* pixel_shuffle and its kin, made of views and one copy; select_scatter and its kin, of index_copy.
 */
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/scatter.h>
#include <flambeau/core/ops/shuffle.h>
#include <flambeau/core/ops/strided.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/op_priv.h"

/* x as [outer, ...six], its middle ones in another order, as `to`. */
static fb_tensor *rearranged(fb_tensor *x, fb_shape six, fb_shape order, fb_shape to)
{
    fb_tensor *y = fb_reshape(x, six);
    y = y ? fb_permute(y, order) : NULL;
    return y ? fb_reshape(y, to) : NULL;
}

/* Sizes of the last three dimensions, and the product of those before. */
static fb_status images_of(const fbi_call *c, int64_t *outer, int64_t chw[3])
{
    const fb_tensor *x = c->in[0];
    if (x->ndim < 3)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s must be [..., C, H, W]", fbi_text(x));
    *outer = 1;
    for (int i = 0; i < x->ndim; i++) {
        int at = i - (x->ndim - 3);
        if (at < 0)
            *outer *= x->size[i];
        else
            chw[at] = x->size[i];
    }
    return FB_OK;
}

static fb_shape with_images(const fb_tensor *x, int64_t c, int64_t h, int64_t w)
{
    fb_shape s = fb_shape_of(x);
    s.d[s.n - 3] = c;
    s.d[s.n - 2] = h;
    s.d[s.n - 1] = w;
    return s;
}

fb_status fbi_compose_pixel_shuffle(fbi_call *c)
{
    int64_t r = ((const fbi_attrs_pixel_shuffle *)c->attrs)->r, outer = 1, n[3] = {0};
    fb_status st = images_of(c, &outer, n);
    if (st)
        return st;
    if (r < 1 || r > INT32_MAX / 2 || n[0] % (r * r))
        return fbi_op_fail(c, FB_E_SHAPE,
                           "%lld channels of input %s are no multiple of %lld squared",
                           (long long)n[0], fbi_text(c->in[0]), (long long)r);
    int64_t ch = n[0] / (r * r);
    return fbi_composed(c, rearranged(c->in[0], FB_SHAPE(outer, ch, r, r, n[1], n[2]),
                                      FB_DIMS(0, 1, 4, 2, 5, 3),
                                      with_images(c->in[0], ch, n[1] * r, n[2] * r)));
}

fb_status fbi_compose_pixel_unshuffle(fbi_call *c)
{
    int64_t r = ((const fbi_attrs_pixel_unshuffle *)c->attrs)->r, outer = 1, n[3] = {0};
    fb_status st = images_of(c, &outer, n);
    if (st)
        return st;
    if (r < 1 || r > INT32_MAX / 2 || n[1] % r || n[2] % r)
        return fbi_op_fail(c, FB_E_SHAPE, "rows and columns of input %s are no multiples of %lld",
                           fbi_text(c->in[0]), (long long)r);
    int64_t h = n[1] / r, w = n[2] / r;
    return fbi_composed(c, rearranged(c->in[0], FB_SHAPE(outer, n[0], h, r, w, r),
                                      FB_DIMS(0, 1, 3, 5, 2, 4),
                                      with_images(c->in[0], n[0] * r * r, h, w)));
}

fb_status fbi_compose_channel_shuffle(fbi_call *c)
{
    int64_t groups = ((const fbi_attrs_channel_shuffle *)c->attrs)->groups, inner = 1;
    fb_tensor *x = c->in[0];
    if (x->ndim < 3)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s must be [N, C, ...]", fbi_text(x));
    if (groups < 1 || x->size[1] % groups)
        return fbi_op_fail(c, FB_E_ARG, "%lld channels of input %s in %lld groups",
                           (long long)x->size[1], fbi_text(x), (long long)groups);
    for (int i = 2; i < x->ndim; i++)
        inner *= x->size[i];
    return fbi_composed(c, rearranged(x, FB_SHAPE(x->size[0], groups, x->size[1] / groups, inner),
                                      FB_DIMS(0, 2, 1, 3), fb_shape_of(x)));
}

/* --- a part written anew --- */

static fb_status wrong_source(const fbi_call *c, fb_shape part)
{
    return fbi_op_fail(c, FB_E_SHAPE, "source %s of input %s must be %s", fbi_text(c->in[1]),
                       fbi_text(c->in[0]), fbi_shape_text(c->ctx, part));
}

static fb_status check_dtype(const fbi_call *c)
{
    if (c->in[0]->dtype == c->in[1]->dtype)
        return FB_OK;
    return fbi_op_fail(c, FB_E_DTYPE, "source is %s, input is %s",
                       fb_dtype_name((fb_dtype)c->in[1]->dtype),
                       fb_dtype_name((fb_dtype)c->in[0]->dtype));
}

fb_status fbi_compose_select_scatter(fbi_call *c)
{
    const fbi_attrs_select_scatter *a = c->attrs;
    fb_tensor *x = c->in[0];
    int d = fbi_dim_of(c, a->dim);
    fb_status st = d < 0 ? FB_E_ARG : check_dtype(c);
    if (st)
        return st;
    int64_t n = x->size[d], i = a->index < 0 ? a->index + n : a->index;
    if (i < 0 || i >= n)
        return fbi_op_fail(c, FB_E_ARG, "index %lld is out of range: dimension %d of %s",
                           (long long)a->index, d, fbi_text(x));
    fb_shape part = {0};
    for (int k = 0; k < x->ndim; k++)
        if (k != d)
            part.d[part.n++] = x->size[k];
    if (!fb_shape_equal(part, fb_shape_of(c->in[1])))
        return wrong_source(c, part);
    fb_tensor *at = fb_full(c->ctx, FB_I64, FB_SHAPE(1), (double)i);
    fb_tensor *slice = at ? fb_unsqueeze(c->in[1], d) : NULL;
    return fbi_composed(c, slice ? fb_index_copy(x, d, at, slice) : NULL);
}

/* As Python's slices take an end. */
static int64_t clipped(int64_t at, int64_t size)
{
    at = at < 0 ? at + size : at;
    return at < 0 ? 0 : at > size ? size : at;
}

fb_status fbi_compose_slice_scatter(fbi_call *c)
{
    const fbi_attrs_slice_scatter *a = c->attrs;
    fb_tensor *x = c->in[0];
    int d = fbi_dim_of(c, a->dim);
    fb_status st = d < 0 ? FB_E_ARG : check_dtype(c);
    if (st)
        return st;
    if (a->step < 1)
        return fbi_op_fail(c, FB_E_ARG, "step is %lld, must be positive", (long long)a->step);
    int64_t lo = clipped(a->start, x->size[d]), hi = clipped(a->end, x->size[d]);
    fb_shape part = fb_shape_of(x);
    part.d[d] = hi > lo ? (hi - lo - 1) / a->step + 1 : 0;
    if (!fb_shape_equal(part, fb_shape_of(c->in[1])))
        return wrong_source(c, part);
    double end = (double)lo + (double)part.d[d] * (double)a->step;
    fb_tensor *at = fb_arange(c->ctx, FB_I64, (double)lo, end, (double)a->step);
    return fbi_composed(c, at ? fb_index_copy(x, d, at, c->in[1]) : NULL);
}

fb_status fbi_compose_diagonal_scatter(fbi_call *c)
{
    const fbi_attrs_diagonal_scatter *a = c->attrs;
    fb_tensor *x = c->in[0];
    fb_status st = check_dtype(c);
    fb_tensor *line = st ? NULL : fb_arange(c->ctx, FB_I64, 0, (double)x->numel, 1);
    fb_tensor *at = line ? fb_reshape(line, fb_shape_of(x)) : NULL;
    at = at ? fb_diagonal(at, a->offset, (int)a->dim1, (int)a->dim2) : NULL;
    if (!at)
        return c->ctx->status;
    if (!fbi_same_shape(at, c->in[1]))
        return wrong_source(c, fb_shape_of(at));
    return fbi_composed(c, fb_put(x, at, c->in[1], false));
}

/* --- public --- */

fb_tensor *fb_pixel_shuffle(fb_tensor *x, int64_t r)
{
    return FBI_RUN(pixel_shuffle, (&(fbi_attrs_pixel_shuffle){.r = r}), x);
}

fb_tensor *fb_pixel_unshuffle(fb_tensor *x, int64_t r)
{
    return FBI_RUN(pixel_unshuffle, (&(fbi_attrs_pixel_unshuffle){.r = r}), x);
}

fb_tensor *fb_channel_shuffle(fb_tensor *x, int64_t groups)
{
    return FBI_RUN(channel_shuffle, (&(fbi_attrs_channel_shuffle){.groups = groups}), x);
}

fb_tensor *fb_select_scatter(fb_tensor *x, fb_tensor *src, int dim, int64_t index)
{
    return FBI_RUN(select_scatter, (&(fbi_attrs_select_scatter){.dim = dim, .index = index}), x,
                   src);
}

fb_tensor *fb_slice_scatter(fb_tensor *x, fb_tensor *src, int dim, int64_t start, int64_t end,
                            int64_t step)
{
    fbi_attrs_slice_scatter a = {.dim = dim, .start = start, .end = end, .step = step};
    return FBI_RUN(slice_scatter, &a, x, src);
}

fb_tensor *fb_diagonal_scatter(fb_tensor *x, fb_tensor *src, int64_t offset, int dim1, int dim2)
{
    fbi_attrs_diagonal_scatter a = {.offset = offset, .dim1 = dim1, .dim2 = dim2};
    return FBI_RUN(diagonal_scatter, &a, x, src);
}

/* --- samples --- */

#define IN(...)                                           \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2 \
    }

void fbi_sample_pixel_shuffle(fbi_samples *s)
{
    fbi_sample_in in = IN(2, 8, 2, 3);
    fbi_sample_add(s, &(fbi_attrs_pixel_shuffle){2}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_pixel_shuffle){3}, 1, &in, FB_E_SHAPE,
                   "pixel_shuffle: 8 channels of input [2, 8, 2, 3] are no multiple of 3 squared");
    in.shape = FB_SHAPE(4, 2);
    fbi_sample_bad(s, &(fbi_attrs_pixel_shuffle){2}, 1, &in, FB_E_SHAPE,
                   "pixel_shuffle: input [4, 2] must be [..., C, H, W]");
}

void fbi_sample_pixel_unshuffle(fbi_samples *s)
{
    fbi_sample_in in = IN(2, 4, 6);
    fbi_sample_add(s, &(fbi_attrs_pixel_unshuffle){2}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_pixel_unshuffle){3}, 1, &in, FB_E_SHAPE,
                   "rows and columns of input [2, 4, 6] are no multiples of 3");
}

void fbi_sample_channel_shuffle(fbi_samples *s)
{
    fbi_sample_in in = IN(2, 6, 3);
    fbi_sample_add(s, &(fbi_attrs_channel_shuffle){2}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_channel_shuffle){4}, 1, &in, FB_E_ARG,
                   "channel_shuffle: 6 channels of input [2, 6, 3] in 4 groups");
}

void fbi_sample_select_scatter(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(2, 3, 4), IN(2, 4)};
    fbi_sample_add(s, &(fbi_attrs_select_scatter){1, -2}, 2, in);
    fbi_sample_bad(s, &(fbi_attrs_select_scatter){1, 3}, 2, in, FB_E_ARG,
                   "select_scatter: index 3 is out of range: dimension 1 of [2, 3, 4]");
    fbi_sample_bad(s, &(fbi_attrs_select_scatter){0, 1}, 2, in, FB_E_SHAPE,
                   "select_scatter: source [2, 4] of input [2, 3, 4] must be [3, 4]");
}

void fbi_sample_slice_scatter(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(2, 6), IN(2, 2)};
    fbi_sample_add(s, &(fbi_attrs_slice_scatter){1, 1, -1, 2}, 2, in);
    fbi_sample_bad(s, &(fbi_attrs_slice_scatter){1, 0, 9, 2}, 2, in, FB_E_SHAPE,
                   "slice_scatter: source [2, 2] of input [2, 6] must be [2, 3]");
    fbi_sample_bad(s, &(fbi_attrs_slice_scatter){1, 0, 9, 0}, 2, in, FB_E_ARG,
                   "slice_scatter: step is 0, must be positive");
}

void fbi_sample_diagonal_scatter(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(3, 2, 4), IN(2, 3)};
    fbi_sample_add(s, &(fbi_attrs_diagonal_scatter){1, 0, -1}, 2, in);
    fbi_sample_bad(s, &(fbi_attrs_diagonal_scatter){2, 0, -1}, 2, in, FB_E_SHAPE,
                   "diagonal_scatter: source [2, 3] of input [3, 2, 4] must be [2, 2]");
}
