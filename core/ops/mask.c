/* masked_select, masked_scatter, nonzero: shapes, backward, samples. */
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/mask.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/op_priv.h"

/* --- the rows: x and mask have one shape --- */

/* x, mask: the elements of x where mask is true, then zeros, `size` in all */
fb_status fbi_infer_take_masked(fbi_call *c)
{
    const fbi_attrs_take_masked *a = c->attrs;
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, FB_SHAPE(a->size));
}

/* x, mask, source [n]: x, but where mask is true, the source's elements in order */
fb_status fbi_infer_put_masked(fbi_call *c)
{
    fbi_attrs_put_masked *a = (fbi_attrs_put_masked *)c->attrs; /* infer completes it */
    a->size = c->in[2]->numel;
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[0]));
}

/* mask: coordinates of the `count` that are true */
fb_status fbi_infer_masked_places(fbi_call *c)
{
    const fbi_attrs_masked_places *a = c->attrs;
    return fbi_out(c, 0, FB_I64, FB_SHAPE(a->count, c->in[0]->ndim));
}

static fb_tensor *take_masked(fb_tensor *x, fb_tensor *mask, int64_t size)
{
    fbi_attrs_take_masked a = {.size = size};
    return x && mask ? FBI_RUN(take_masked, &a, x, mask) : NULL;
}

static fb_tensor *put_masked(fb_tensor *x, fb_tensor *mask, fb_tensor *source)
{
    fbi_attrs_put_masked a = {0};
    return x && mask && source ? FBI_RUN(put_masked, &a, x, mask, source) : NULL;
}

static fb_tensor *zeros_of(fb_tensor *mask, fb_tensor *like)
{
    return mask ? fb_zeros(mask->ctx, (fb_dtype)like->dtype, fb_shape_of(mask)) : NULL;
}

fb_status fbi_bwd_ops_take_masked(fbi_bw *bw)
{
    fb_tensor *mask = fbi_bw_in(bw, 1), *g = bw->grad[0];
    return fbi_bw_give(bw, 0, put_masked(zeros_of(mask, g), mask, g));
}

fb_status fbi_bwd_ops_put_masked(fbi_bw *bw)
{
    const fbi_attrs_put_masked *a = bw->attrs;
    fb_tensor *mask = fbi_bw_in(bw, 1), *g = bw->grad[0];
    fb_status st = FB_OK;
    if (!mask)
        return bw->ctx->status;
    if (fbi_bw_needs(bw, 0)) {
        fb_tensor *zero = fb_zeros(bw->ctx, (fb_dtype)g->dtype, FB_SCALAR);
        st = fbi_bw_give(bw, 0, zero ? fb_where(mask, zero, g) : NULL);
    }
    return st || !fbi_bw_needs(bw, 2) ? st : fbi_bw_give(bw, 2, take_masked(g, mask, a->size));
}

/* --- what is made of them --- */

/* Inputs 0 and 1 of c in one shape; an error if they have none, or the mask is not BOOL. */
static fb_status together(const fbi_call *c, fb_tensor **x, fb_tensor **mask)
{
    fb_shape s;
    if (c->in[1]->dtype != FB_BOOL)
        return fbi_op_fail(c, FB_E_DTYPE, "the mask is %s; needs BOOL",
                           fb_dtype_name((fb_dtype)c->in[1]->dtype));
    if (!fbi_broadcast(fb_shape_of(c->in[0]), fb_shape_of(c->in[1]), &s))
        return fbi_op_fail(c, FB_E_SHAPE, "input %s and mask %s cannot be broadcast",
                           fbi_text(c->in[0]), fbi_text(c->in[1]));
    *x = fb_expand(c->in[0], s);
    *mask = *x ? fb_expand(c->in[1], s) : NULL;
    return *mask ? FB_OK : c->ctx->status;
}

/* How many are true: waits for the device. -1: the error is set. */
static int64_t count_of(fb_tensor *mask)
{
    fb_tensor *n = fb_sum(mask, FB_ALL, false);
    int64_t count = n ? fb_item_int(n) : -1;
    return mask->ctx->status ? -1 : count;
}

fb_status fbi_compose_masked_select(fbi_call *c)
{
    fb_tensor *x = NULL, *mask = NULL;
    fb_status st = together(c, &x, &mask);
    int64_t n = st ? -1 : count_of(mask);
    return n < 0 ? c->ctx->status : fbi_composed(c, take_masked(x, mask, n));
}

fb_status fbi_compose_masked_scatter(fbi_call *c)
{
    fb_tensor *x = NULL, *mask = NULL, *src = c->in[2];
    if (src->dtype != c->in[0]->dtype)
        return fbi_op_fail(c, FB_E_DTYPE, "source is %s, input is %s",
                           fb_dtype_name((fb_dtype)src->dtype),
                           fb_dtype_name((fb_dtype)c->in[0]->dtype));
    fb_status st = together(c, &x, &mask);
    return st ? st : fbi_composed(c, put_masked(x, mask, fb_ravel(src)));
}

static fb_status places_of(fbi_call *c)
{
    fb_tensor *mask = fb_to(c->in[0], FB_BOOL);
    fbi_attrs_masked_places a = {.count = mask ? count_of(mask) : -1};
    return a.count < 0 ? c->ctx->status : fbi_composed(c, FBI_RUN(masked_places, &a, mask));
}

fb_status fbi_compose_nonzero(fbi_call *c)
{
    return places_of(c);
}

fb_status fbi_compose_argwhere(fbi_call *c)
{
    return places_of(c);
}

/* --- public --- */

fb_tensor *fb_masked_select(fb_tensor *x, fb_tensor *mask)
{
    return FBI_RUN(masked_select, NULL, x, mask);
}

fb_tensor *fb_masked_scatter(fb_tensor *x, fb_tensor *mask, fb_tensor *src)
{
    return FBI_RUN(masked_scatter, NULL, x, mask, src);
}

fb_tensor *fb_nonzero(fb_tensor *x)
{
    return FBI_RUN(nonzero, NULL, x);
}

fb_tensor *fb_argwhere(fb_tensor *x)
{
    return FBI_RUN(argwhere, NULL, x);
}

/* --- samples --- */

#define REALS(...)                                        \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2 \
    }
#define MASK(...)                                                          \
    {                                                                      \
        .shape = FB_SHAPE(__VA_ARGS__), .dtype = FB_BOOL, .lo = 0, .hi = 2 \
    }

void fbi_sample_masked_select(fbi_samples *s)
{
    fbi_sample_in in[2] = {REALS(3, 4), MASK(3, 4)};
    fbi_sample_add(s, NULL, 2, in);
    in[1] = (fbi_sample_in)MASK(2, 1, 4);
    fbi_sample_add(s, NULL, 2, in);
    in[1] = (fbi_sample_in)MASK(3);
    fbi_sample_bad(s, NULL, 2, in, FB_E_SHAPE,
                   "masked_select: input [3, 4] and mask [3] cannot be broadcast");
    in[1].dtype = FB_I64;
    fbi_sample_bad(s, NULL, 2, in, FB_E_DTYPE, "masked_select: the mask is I64; needs BOOL");
}

void fbi_sample_masked_scatter(fbi_samples *s)
{
    fbi_sample_in in[3] = {REALS(3, 4), MASK(3, 4), REALS(2, 6)};
    fbi_sample_add(s, NULL, 3, in);
    in[1] = (fbi_sample_in)MASK(4);
    in[2] = (fbi_sample_in)REALS(15);
    fbi_sample_add(s, NULL, 3, in);
    in[1].lo = 1;
    in[2] = (fbi_sample_in)REALS(11);
    fbi_sample_bad(s, NULL, 3, in, FB_E_ARG,
                   "index 11 at position 11 is out of range: the size is 11");
    in[2].dtype = FB_I64;
    fbi_sample_bad(s, NULL, 3, in, FB_E_DTYPE, "masked_scatter: source is I64, input is");
}

void fbi_sample_nonzero(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(3, 4, 2), .lo = -2, .hi = 2, .constant = true};
    fbi_sample_add(s, NULL, 1, &in);
    in = (fbi_sample_in)MASK(3, 4);
    fbi_sample_add(s, NULL, 1, &in);
}

void fbi_sample_argwhere(fbi_samples *s)
{
    fbi_sample_in in = MASK(3, 4);
    fbi_sample_add(s, NULL, 1, &in);
}
