/* Pooling: shapes, derivatives, samples. */
#include <flambeau/core/ops/pool.h>

#include "core/ops/conv_priv.h"
#include "core/ops/op_priv.h"

static fb_status need_images(const fbi_call *c)
{
    fb_status st = fbi_need_float(c, 0);
    return st ? st : fbi_need_ndim(c, 0, 4);
}

static fb_status windows(const fbi_call *c, const int64_t k[2], const int64_t stride[2],
                         const int64_t pad[2], const int64_t dil[2], fb_shape *out)
{
    const fb_tensor *x = c->in[0];
    *out = FB_SHAPE(x->size[0], x->size[1], 0, 0);
    for (int i = 0; i < 2; i++) {
        if (k[i] < 1 || stride[i] < 1 || dil[i] < 1)
            return fbi_op_fail(c, FB_E_ARG, "window, stride and dilation are at least 1");
        if (pad[i] < 0 || pad[i] > k[i] / 2)
            return fbi_op_fail(c, FB_E_ARG,
                               "padding %lld is not within 0 .. half of the window %lld",
                               (long long)pad[i], (long long)k[i]);
        out->d[2 + i] = fbi_conv_size(x->size[2 + i], k[i], stride[i], pad[i], dil[i]);
        if (out->d[2 + i] < 1)
            return fbi_op_fail(c, FB_E_SHAPE,
                               "a window of %lld x %lld is larger than the padded "
                               "input %s",
                               (long long)k[0], (long long)k[1], fbi_text(x));
    }
    return FB_OK;
}

/* Backward needs the size of the image and not the image: infer notes it in the attributes. */
static void note_size(const fb_tensor *x, int64_t *h, int64_t *w)
{
    *h = x->size[2];
    *w = x->size[3];
}

/* --- max --- */

fb_status fbi_infer_max_pool2d(fbi_call *c)
{
    fbi_attrs_max_pool2d *a = (fbi_attrs_max_pool2d *)c->attrs;
    fb_shape s;
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_ndim(c, 0, 4);
    if (!st)
        st = windows(c, (int64_t[]){a->kh, a->kw}, (int64_t[]){a->sh, a->sw},
                     (int64_t[]){a->ph, a->pw}, (int64_t[]){a->dh, a->dw}, &s);
    if (!st)
        note_size(c->in[0], &a->h, &a->w);
    if (!st)
        st = fbi_out_nhwc(c, 0, (fb_dtype)c->in[0]->dtype, s);
    return st ? st : fbi_out_nhwc(c, 1, FB_I32, s);
}

fb_status fbi_bwd_ops_max_pool2d(fbi_bw *bw)
{
    const fbi_attrs_max_pool2d *a = bw->attrs;
    fbi_attrs_max_pool2d_bwd p = {a->h, a->w};
    fb_tensor *index = fbi_bw_out(bw, 1);
    if (!index)
        return bw->ctx->status;
    if (!bw->grad[0] || !fbi_bw_needs(bw, 0))
        return FB_OK;
    return fbi_bw_give(bw, 0, FBI_RUN(max_pool2d_bwd, &p, bw->grad[0], index));
}

fb_status fbi_infer_max_pool2d_bwd(fbi_call *c)
{
    const fbi_attrs_max_pool2d_bwd *a = c->attrs;
    const fb_tensor *g = c->in[0];
    return fbi_out_nhwc(c, 0, (fb_dtype)g->dtype, FB_SHAPE(g->size[0], g->size[1], a->h, a->w));
}

fb_status fbi_bwd_ops_max_pool2d_bwd(fbi_bw *bw)
{
    const fbi_attrs_max_pool2d_bwd *a = bw->attrs;
    fbi_attrs_max_pool2d_pick p = {a->h, a->w};
    fb_tensor *index = fbi_bw_in(bw, 1);
    if (!index)
        return bw->ctx->status;
    return fbi_bw_give(bw, 0, FBI_RUN(max_pool2d_pick, &p, bw->grad[0], index));
}

fb_status fbi_infer_max_pool2d_pick(fbi_call *c)
{
    return fbi_out_nhwc(c, 0, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[1]));
}

fb_status fbi_bwd_ops_max_pool2d_pick(fbi_bw *bw)
{
    const fbi_attrs_max_pool2d_pick *a = bw->attrs;
    fbi_attrs_max_pool2d_bwd p = {a->h, a->w};
    fb_tensor *index = fbi_bw_in(bw, 1);
    if (!index)
        return bw->ctx->status;
    return fbi_bw_give(bw, 0, FBI_RUN(max_pool2d_bwd, &p, bw->grad[0], index));
}

void fbi_sample_max_pool2d(fbi_samples *s)
{
    const fbi_attrs_max_pool2d ok[] = {{2, 2, 2, 2, 0, 0, 1, 1, 0, 0},
                                       {3, 3, 2, 2, 1, 1, 1, 1, 0, 0},
                                       {2, 2, 1, 1, 0, 0, 2, 2, 0, 0}};
    fbi_sample_in in = {.shape = FB_SHAPE(2, 3, 5, 6), .lo = -1, .hi = 1, .distinct = true};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++)
        fbi_sample_add(s, &ok[i], 1, &in);
    const fbi_attrs_max_pool2d bad = {7, 7, 7, 7, 0, 0, 1, 1, 5, 6};
    fbi_sample_bad(s, &bad, 1, &in, FB_E_SHAPE, "is larger than the padded input [2, 3, 5, 6]");
    const fbi_attrs_max_pool2d pad = {2, 2, 2, 2, 2, 2, 1, 1, 5, 6};
    fbi_sample_bad(s, &pad, 1, &in, FB_E_ARG, "max_pool2d: padding 2 is not within");
}

fb_tensor *fb_max_pool2d(fb_tensor *x, int64_t kh, int64_t kw, const fb_conv_options *opts)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    fbi_conv_opts o = fbi_conv_opts_of(opts, (int64_t[]){kh, kw});
    fbi_attrs_max_pool2d a = {
        kh, kw, o.stride[0], o.stride[1], o.padding[0], o.padding[1], o.dilation[0], o.dilation[1],
        0,  0};
    fb_tensor *out[2] = {NULL};
    if (!ctx || fbi_run(ctx, FBI_OP_max_pool2d, &a, &x, 1, out))
        return NULL;
    fb_drop(out[1]); /* the graph keeps the indices if it needs them */
    return out[0];
}

/* --- mean --- */

fb_status fbi_infer_avg_pool2d(fbi_call *c)
{
    fbi_attrs_avg_pool2d *a = (fbi_attrs_avg_pool2d *)c->attrs;
    fb_shape s;
    fb_status st = need_images(c);
    if (!st)
        st = windows(c, (int64_t[]){a->kh, a->kw}, (int64_t[]){a->sh, a->sw},
                     (int64_t[]){a->ph, a->pw}, (int64_t[]){1, 1}, &s);
    if (!st)
        note_size(c->in[0], &a->h, &a->w);
    return st ? st : fbi_out_nhwc(c, 0, (fb_dtype)c->in[0]->dtype, s);
}

fb_status fbi_bwd_ops_avg_pool2d(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, FBI_RUN(avg_pool2d_bwd, bw->attrs, bw->grad[0]));
}

fb_status fbi_infer_avg_pool2d_bwd(fbi_call *c)
{
    const fbi_attrs_avg_pool2d_bwd *a = c->attrs;
    const fb_tensor *g = c->in[0];
    return fbi_out_nhwc(c, 0, (fb_dtype)g->dtype, FB_SHAPE(g->size[0], g->size[1], a->h, a->w));
}

fb_status fbi_bwd_ops_avg_pool2d_bwd(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, FBI_RUN(avg_pool2d, bw->attrs, bw->grad[0]));
}

void fbi_sample_avg_pool2d(fbi_samples *s)
{
    const fbi_attrs_avg_pool2d ok[] = {{2, 2, 2, 2, 0, 0, 0, 0}, {3, 2, 2, 1, 1, 1, 0, 0}};
    fbi_sample_in in = {.shape = FB_SHAPE(2, 3, 5, 6), .lo = -1, .hi = 1};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++)
        fbi_sample_add(s, &ok[i], 1, &in);
    const fbi_attrs_avg_pool2d bad = {7, 7, 7, 7, 0, 0, 5, 6};
    fbi_sample_bad(s, &bad, 1, &in, FB_E_SHAPE, "is larger than the padded input [2, 3, 5, 6]");
}

fb_tensor *fb_avg_pool2d(fb_tensor *x, int64_t kh, int64_t kw, const fb_conv_options *opts)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    fbi_conv_opts o = fbi_conv_opts_of(opts, (int64_t[]){kh, kw});
    if (ctx && (o.dilation[0] != 1 || o.dilation[1] != 1)) {
        fbi_fail(ctx, FB_E_ARG, "avg_pool2d: dilation is not accepted");
        return NULL;
    }
    fbi_attrs_avg_pool2d a = {kh, kw, o.stride[0], o.stride[1], o.padding[0], o.padding[1], 0, 0};
    return FBI_RUN(avg_pool2d, &a, x);
}

fb_status fbi_infer_adaptive_avg_pool2d(fbi_call *c)
{
    fbi_attrs_adaptive_avg_pool2d *a = (fbi_attrs_adaptive_avg_pool2d *)c->attrs;
    const fb_tensor *x = c->in[0];
    fb_status st = need_images(c);
    if (st)
        return st;
    if (a->oh < 1 || a->ow < 1 || x->size[2] < 1 || x->size[3] < 1)
        return fbi_op_fail(c, FB_E_ARG, "a grid of %lld x %lld cells over input %s",
                           (long long)a->oh, (long long)a->ow, fbi_text(x));
    note_size(x, &a->h, &a->w);
    return fbi_out_nhwc(c, 0, (fb_dtype)x->dtype, FB_SHAPE(x->size[0], x->size[1], a->oh, a->ow));
}

fb_status fbi_bwd_ops_adaptive_avg_pool2d(fbi_bw *bw)
{
    const fbi_attrs_adaptive_avg_pool2d *a = bw->attrs;
    fbi_attrs_adaptive_avg_pool2d_bwd p = {a->oh, a->ow, a->h, a->w};
    return fbi_bw_give(bw, 0, FBI_RUN(adaptive_avg_pool2d_bwd, &p, bw->grad[0]));
}

fb_status fbi_infer_adaptive_avg_pool2d_bwd(fbi_call *c)
{
    const fbi_attrs_adaptive_avg_pool2d_bwd *a = c->attrs;
    const fb_tensor *g = c->in[0];
    return fbi_out_nhwc(c, 0, (fb_dtype)g->dtype, FB_SHAPE(g->size[0], g->size[1], a->h, a->w));
}

fb_status fbi_bwd_ops_adaptive_avg_pool2d_bwd(fbi_bw *bw)
{
    const fbi_attrs_adaptive_avg_pool2d_bwd *a = bw->attrs;
    fbi_attrs_adaptive_avg_pool2d p = {a->oh, a->ow, a->h, a->w};
    return fbi_bw_give(bw, 0, FBI_RUN(adaptive_avg_pool2d, &p, bw->grad[0]));
}

void fbi_sample_adaptive_avg_pool2d(fbi_samples *s)
{
    const fbi_attrs_adaptive_avg_pool2d ok[] = {{1, 1, 0, 0}, {3, 4, 0, 0}, {7, 7, 0, 0}};
    fbi_sample_in in = {.shape = FB_SHAPE(2, 3, 5, 6), .lo = -1, .hi = 1};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++)
        fbi_sample_add(s, &ok[i], 1, &in);
    const fbi_attrs_adaptive_avg_pool2d bad = {0, 1, 5, 6};
    fbi_sample_bad(s, &bad, 1, &in, FB_E_ARG, "adaptive_avg_pool2d: a grid of 0 x 1 cells");
}

fb_tensor *fb_adaptive_avg_pool2d(fb_tensor *x, int64_t oh, int64_t ow)
{
    fbi_attrs_adaptive_avg_pool2d a = {.oh = oh, .ow = ow};
    return FBI_RUN(adaptive_avg_pool2d, &a, x);
}
