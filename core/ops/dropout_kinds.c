/* Dropout of whole channels, and for SELU: made of dropout; alpha_dropout has a kernel. */
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/dropout.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/dropout_priv.h"
#include "core/ops/half_priv.h"

static fb_status check(const fbi_call *c, double p)
{
    fb_status st = fbi_need_float(c, 0);
    if (!st && !(p >= 0 && p <= 1))
        return fbi_op_fail(c, FB_E_ARG, "p = %g is not within 0 .. 1", p);
    return st;
}

/* --- channels --- */

/* 1 / (1 - p) or 0 for each channel of x [N, C, ...], as [N, C, 1, ...]. */
static fb_tensor *channel_mask(fb_tensor *x, double p, uint64_t key, uint64_t stream)
{
    fb_shape s = {.n = x->ndim};
    for (int i = 0; i < x->ndim; i++)
        s.d[i] = i < 2 ? x->size[i] : 1;
    fb_tensor *ones = fb_ones(x->ctx, (fb_dtype)x->dtype, s);
    return ones ? FBI_RUN(dropout, (&(fbi_attrs_dropout){p, key, stream}), ones) : NULL;
}

/* `dims`: with a batch; `less`: x may have one less, without it. */
static fb_status drop_channels(fbi_call *c, double p, uint64_t key, uint64_t stream, int dims,
                               bool less)
{
    fb_tensor *x = c->in[0];
    fb_status st = check(c, p);
    if (st)
        return st;
    if (x->ndim != dims && x->ndim != dims - 1)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s must have %d or %d dimensions", fbi_text(x),
                           dims, dims - 1);
    bool single = less && x->ndim < dims;
    fb_tensor *all = fbi_exact(single ? fb_unsqueeze(x, 0) : x);
    fb_tensor *mask = all ? channel_mask(all, p, key, stream) : NULL;
    fb_tensor *y = mask ? fb_mul(all, mask) : NULL;
    y = y ? fb_to(y, (fb_dtype)x->dtype) : NULL;
    return fbi_composed(c, y && single ? fb_squeeze(y, 0) : y);
}

fb_status fbi_compose_dropout1d(fbi_call *c)
{
    const fbi_attrs_dropout1d *a = c->attrs;
    return drop_channels(c, a->p, a->key, a->stream, 3, true);
}

fb_status fbi_compose_dropout2d(fbi_call *c)
{
    const fbi_attrs_dropout2d *a = c->attrs;
    return drop_channels(c, a->p, a->key, a->stream, 4, false);
}

fb_status fbi_compose_dropout3d(fbi_call *c)
{
    const fbi_attrs_dropout3d *a = c->attrs;
    return drop_channels(c, a->p, a->key, a->stream, 5, true);
}

/* --- for SELU --- */

fb_status fbi_infer_alpha_dropout(fbi_call *c)
{
    fb_status st = check(c, ((const fbi_attrs_alpha_dropout *)c->attrs)->p);
    return st ? st : fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[0]));
}

/* What stays is multiplied by a number: the mask of dropout, without its scale. */
fb_status fbi_bwd_ops_alpha_dropout(fbi_bw *bw)
{
    const fbi_attrs_alpha_dropout *a = bw->attrs;
    fbi_alpha_numbers n = fbi_alpha_numbers_of(a->p);
    fb_tensor *g = fbi_exact(bw->grad[0]);
    g = g ? FBI_RUN(dropout, (&(fbi_attrs_dropout){a->p, a->key, a->stream}), g) : NULL;
    g = g ? fb_mul_scalar(g, n.scale * (1 - a->p)) : NULL;
    return fbi_bw_give(bw, 0, g ? fb_to(g, (fb_dtype)bw->grad[0]->dtype) : NULL);
}

fb_status fbi_compose_feature_alpha_dropout(fbi_call *c)
{
    const fbi_attrs_feature_alpha_dropout *a = c->attrs;
    fbi_alpha_numbers n = fbi_alpha_numbers_of(a->p);
    fb_tensor *x = c->in[0];
    fb_status st = check(c, a->p);
    if (st)
        return st;
    if (x->ndim < 2)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s must be [N, C, ...]", fbi_text(x));
    fb_tensor *wide = fbi_exact(x),
              *mask = wide ? channel_mask(wide, a->p, a->key, a->stream) : NULL;
    fb_tensor *factor = mask ? fb_mul_scalar(mask, n.scale * (1 - a->p)) : NULL;
    fb_tensor *kept = mask ? fb_mul_scalar(mask, (1 - a->p) * (n.shift - n.dropped)) : NULL;
    fb_tensor *shift = kept ? fb_add_scalar(kept, n.dropped) : NULL;
    fb_tensor *y = factor && shift ? fb_add(fb_mul(wide, factor), shift) : NULL;
    return fbi_composed(c, y ? fb_to(y, (fb_dtype)x->dtype) : NULL);
}

/* --- public --- */

/* x itself for p = 0: nothing is drawn. */
#define PUBLIC(row)                                                          \
    fb_tensor *fb_##row(fb_tensor *x, double p)                              \
    {                                                                        \
        fb_context *ctx = fb_context_of(x);                                  \
        FBI_ENTRY(ctx);                                                      \
        if (!ctx || !fbi_enter(ctx) || !fbi_tensor_check(ctx, x, #row, "x")) \
            return NULL;                                                     \
        if (p == 0)                                                          \
            return x;                                                        \
        fbi_rng_stream r = fbi_next_stream(ctx);                             \
        return FBI_RUN(row, (&(fbi_attrs_##row){p, r.key, r.stream}), x);    \
    }
PUBLIC(dropout1d)
PUBLIC(dropout2d)
PUBLIC(dropout3d)
PUBLIC(alpha_dropout)
PUBLIC(feature_alpha_dropout)

/* --- samples --- */

#define IN(...) (&(fbi_sample_in){.shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2})

#define SAMPLES(row, good, bad, text)                                                         \
    void fbi_sample_##row(fbi_samples *s)                                                     \
    {                                                                                         \
        fbi_sample_in in = {.shape = good, .lo = -2, .hi = 2};                                \
        fbi_sample_add(s, &(fbi_attrs_##row){0.5, 1, 2}, 1, &in);                             \
        fbi_sample_add(s, &(fbi_attrs_##row){0.1, 3, 4}, 1, &in);                             \
        fbi_sample_add(s, &(fbi_attrs_##row){1, 3, 4}, 1, &in);                               \
        fbi_sample_bad(s, &(fbi_attrs_##row){-0.5, 1, 2}, 1, &in, FB_E_ARG,                   \
                       #row ": p = -0.5 is not within 0 .. 1");                               \
        in.shape = bad;                                                                       \
        fbi_sample_bad(s, &(fbi_attrs_##row){0.5, 1, 2}, 1, &in, FB_E_SHAPE, #row ": " text); \
    }
SAMPLES(dropout1d, FB_SHAPE(3, 4, 5), FB_SHAPE(3), "input [3] must have 3 or 2 dimensions")
SAMPLES(dropout2d, FB_SHAPE(3, 4, 5, 2), FB_SHAPE(3, 4), "input [3, 4] must have 4 or 3 dimensions")
SAMPLES(dropout3d, FB_SHAPE(4, 5, 2, 2), FB_SHAPE(3, 4), "input [3, 4] must have 5 or 4 dimensions")
SAMPLES(feature_alpha_dropout, FB_SHAPE(4, 5, 2), FB_SHAPE(3), "input [3] must be [N, C, ...]")

void fbi_sample_alpha_dropout(fbi_samples *s)
{
    fbi_sample_add(s, &(fbi_attrs_alpha_dropout){0.5, 1, 2}, 1, IN(4, 5));
    fbi_sample_add(s, &(fbi_attrs_alpha_dropout){0.1, 1, 2}, 1, IN(4, 5));
    fbi_sample_add(s, &(fbi_attrs_alpha_dropout){1, 1, 2}, 1, IN(4, 5));
    fbi_sample_bad(s, &(fbi_attrs_alpha_dropout){1.5, 1, 2}, 1, IN(4, 5), FB_E_ARG,
                   "alpha_dropout: p = 1.5 is not within 0 .. 1");
}
