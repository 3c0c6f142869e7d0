/* conv2d and its two gradients: shapes, derivatives, samples. conv_nd.c has all others and the
 * public functions. */
#include "core/ops/call_priv.h"
#include "core/ops/conv_priv.h"
#include "core/ops/op_priv.h"

#include <flambeau/core/ops/reduce.h>

/* The attributes that the three rows share, from one row's to another's. */
#define SHARED(a)                                                                             \
    .sh = (a)->sh, .sw = (a)->sw, .ph = (a)->ph, .pw = (a)->pw, .dh = (a)->dh, .dw = (a)->dw, \
    .groups = (a)->groups

fb_status fbi_infer_conv2d(fbi_call *c)
{
    const fbi_attrs_conv2d *a = c->attrs;
    const fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)x->dtype);
    if (!st)
        st = fbi_need_ndim(c, 0, 4);
    if (!st)
        st = fbi_need_ndim(c, 1, 4);
    if (!st && b)
        st = fbi_need_dtype(c, 2, (fb_dtype)x->dtype);
    if (st)
        return st;
    if (a->sh < 1 || a->sw < 1 || a->dh < 1 || a->dw < 1 || a->ph < 0 || a->pw < 0 || a->groups < 1)
        return fbi_op_fail(c, FB_E_ARG,
                           "stride, dilation and groups are at least 1, padding at "
                           "least 0");
    if (x->size[1] != w->size[1] * a->groups)
        return fbi_op_fail(
            c, FB_E_SHAPE, "input has %lld channels, weight expects %lld: input %s, weight %s",
            (long long)x->size[1], (long long)(w->size[1] * a->groups), fbi_text(x), fbi_text(w));
    if (w->size[0] % a->groups)
        return fbi_op_fail(c, FB_E_SHAPE, "%lld groups do not divide the %lld output channels",
                           (long long)a->groups, (long long)w->size[0]);
    if (b && (b->ndim != 1 || b->size[0] != w->size[0]))
        return fbi_op_fail(c, FB_E_SHAPE, "bias %s does not fit weight %s", fbi_text(b),
                           fbi_text(w));
    int64_t oh = fbi_conv_size(x->size[2], w->size[2], a->sh, a->ph, a->dh);
    int64_t ow = fbi_conv_size(x->size[3], w->size[3], a->sw, a->pw, a->dw);
    if (oh < 1 || ow < 1)
        return fbi_op_fail(c, FB_E_SHAPE, "weight %s is larger than the padded input %s",
                           fbi_text(w), fbi_text(x));
    return fbi_out_nhwc(c, 0, (fb_dtype)x->dtype, FB_SHAPE(x->size[0], w->size[0], oh, ow));
}

fb_status fbi_infer_conv2d_bwd_data(fbi_call *c)
{
    const fbi_attrs_conv2d_bwd_data *a = c->attrs;
    const fb_tensor *g = c->in[0], *w = c->in[1];
    fb_status st = fbi_need_numbers(c, 0);
    if (!st)
        st = fbi_need_dtype(c, 1, (fb_dtype)g->dtype);
    if (st)
        return st;
    if (g->ndim != 4 || w->ndim != 4 || g->size[1] != w->size[0])
        return fbi_op_fail(c, FB_E_SHAPE, "gradient %s does not fit weight %s", fbi_text(g),
                           fbi_text(w));
    return fbi_out_nhwc(c, 0, (fb_dtype)g->dtype,
                        FB_SHAPE(g->size[0], w->size[1] * a->groups, a->h, a->w));
}

fb_status fbi_infer_conv2d_bwd_weight(fbi_call *c)
{
    const fbi_attrs_conv2d_bwd_weight *a = c->attrs;
    const fb_tensor *g = c->in[0], *x = c->in[1];
    return fbi_out(c, 0, (fb_dtype)g->dtype,
                   FB_SHAPE(g->size[1], x->size[1] / a->groups, a->kh, a->kw));
}

fb_status fbi_infer_conv2d_bwd_bias(fbi_call *c)
{
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, FB_SHAPE(c->in[0]->size[1]));
}

/* Gradients of w and x from g, that of the sums. */
static fb_status give_weight_and_input(fbi_bw *bw, fb_tensor *g)
{
    const fbi_attrs_conv2d *a = bw->attrs;
    fb_tensor *x = fbi_bw_in(bw, 0), *w = fbi_bw_in(bw, 1);
    if (!x || !w)
        return bw->ctx->status;
    fbi_attrs_conv2d_bwd_weight pw = {SHARED(a), .kh = w->size[2], .kw = w->size[3]};
    fbi_attrs_conv2d_bwd_data px = {SHARED(a), .h = x->size[2], .w = x->size[3]};
    fb_status st = FBI_BW_APPLY(bw, 1, conv2d_bwd_weight, &pw, g, x);
    return st ? st : FBI_BW_APPLY(bw, 0, conv2d_bwd_data, &px, g, w);
}

fb_status fbi_bwd_ops_conv2d(fbi_bw *bw)
{
    fb_tensor *g = bw->grad[0];
    fb_status st = FB_OK;
    if (bw->linked && fbi_bw_needs(bw, 2))
        st = fbi_bw_give(bw, 2, fb_sum(g, FB_SHAPE(0, 2, 3), false));
    else
        st = FBI_BW_RUN(bw, 2, conv2d_bwd_bias, NULL, g);
    return st ? st : give_weight_and_input(bw, g);
}

/* dx(g, w) is linear in both: with the gradient u of dx, dg = conv(u, w), dw = weight gradient. */
fb_status fbi_bwd_ops_conv2d_bwd_data(fbi_bw *bw)
{
    const fbi_attrs_conv2d_bwd_data *a = bw->attrs;
    fb_tensor *u = bw->grad[0], *g = fbi_bw_in(bw, 0), *w = fbi_bw_in(bw, 1);
    if (!g || !w)
        return bw->ctx->status;
    fbi_attrs_conv2d pg = {SHARED(a)};
    fbi_attrs_conv2d_bwd_weight pw = {SHARED(a), .kh = w->size[2], .kw = w->size[3]};
    fb_status st = FBI_BW_APPLY(bw, 0, conv2d, &pg, u, w, NULL);
    return st ? st : FBI_BW_APPLY(bw, 1, conv2d_bwd_weight, &pw, g, u);
}

/* dw(g, x): with the gradient u of dw, dg = conv(x, u), dx = data gradient of g with weight u. */
fb_status fbi_bwd_ops_conv2d_bwd_weight(fbi_bw *bw)
{
    const fbi_attrs_conv2d_bwd_weight *a = bw->attrs;
    fb_tensor *u = bw->grad[0], *g = fbi_bw_in(bw, 0), *x = fbi_bw_in(bw, 1);
    if (!g || !x)
        return bw->ctx->status;
    fbi_attrs_conv2d pg = {SHARED(a)};
    fbi_attrs_conv2d_bwd_data px = {SHARED(a), .h = x->size[2], .w = x->size[3]};
    fb_status st = FBI_BW_APPLY(bw, 0, conv2d, &pg, x, u, NULL);
    return st ? st : FBI_BW_APPLY(bw, 1, conv2d_bwd_data, &px, g, u);
}

/* --- conv2d_relu --- */

fb_status fbi_infer_conv2d_relu(fbi_call *c)
{
    fb_status st = fbi_need_float(c, 0);
    return st ? st : fbi_infer_conv2d(c);
}

/* g, y -> the gradient of the sums, laid out as y is, and its sum over images and places */
fb_status fbi_infer_conv2d_relu_dz(fbi_call *c)
{
    const fb_tensor *y = c->in[1];
    fb_status st = c->out[0] ? FB_OK : fbi_out_like(c, 0, (fb_dtype)y->dtype, y);
    return st ? st : fbi_out(c, 1, (fb_dtype)y->dtype, FB_SHAPE(y->size[1]));
}

/* The incoming gradient, if nobody else holds it and it is laid out as y. */
static fb_tensor *spare_like(const fbi_bw *bw, const fb_tensor *y)
{
    fb_tensor *g = fbi_bw_spare(bw);
    for (int i = 0; g && i < y->ndim; i++)
        if (g->stride[i] != y->stride[i])
            return NULL;
    return g;
}

fb_status fbi_bwd_conv2d_relu(fbi_bw *bw)
{
    fb_tensor *in[2] = {bw->grad[0], fbi_bw_out(bw, 0)};
    if (!in[1])
        return bw->ctx->status;
    fb_tensor *out[2] = {spare_like(bw, in[1]), NULL};
    fbi_call c = {.ctx = bw->ctx,
                  .op = &fbi_opdefs[FBI_OP_conv2d_relu_dz],
                  .in = in,
                  .out = out,
                  .n_in = 2,
                  .n_out = 2,
                  .threads = bw->ctx->threads};
    fb_status st = c.op->infer(&c);
    c.inplace = out[0] == in[0];
    st = st ? st : fbi_launch(&c);
    if (!st)
        st = fbi_bw_give(bw, 2, out[1]);
    return st ? st : give_weight_and_input(bw, out[0]);
}

fb_status fbi_bwd_ops_conv2d_relu(fbi_bw *bw)
{
    fb_tensor *y = fbi_bw_out(bw, 0), *dz = y ? FBI_RUN(relu_bwd, NULL, bw->grad[0], y) : NULL;
    fb_status st = dz ? FB_OK : bw->ctx->status;
    if (!st && fbi_bw_needs(bw, 2))
        st = fbi_bw_give(bw, 2, fb_sum(dz, FB_SHAPE(0, 2, 3), false));
    return st ? st : give_weight_and_input(bw, dz);
}

void fbi_sample_conv2d_relu(fbi_samples *s)
{
    fbi_sample_conv2d(s);
}

/* --- samples --- */

void fbi_sample_conv2d(fbi_samples *s)
{
    static const fbi_attrs_conv2d plain = {1, 1, 0, 0, 1, 1, 1};
    const struct {
        fb_shape x, w;
        bool bias;
        fbi_attrs_conv2d a;
    } ok[] = {{FB_SHAPE(2, 3, 5, 6), FB_SHAPE(4, 3, 3, 2), true, {1, 1, 0, 0, 1, 1, 1}},
              {FB_SHAPE(1, 2, 6, 5), FB_SHAPE(3, 2, 3, 3), true, {2, 2, 1, 1, 1, 1, 1}},
              {FB_SHAPE(2, 4, 5, 5), FB_SHAPE(4, 2, 3, 3), false, {1, 1, 1, 1, 1, 1, 2}},
              {FB_SHAPE(1, 2, 7, 6), FB_SHAPE(2, 2, 3, 2), false, {1, 2, 2, 0, 2, 1, 1}},
              {FB_SHAPE(2, 3, 4, 4), FB_SHAPE(5, 3, 1, 1), true, {1, 1, 0, 0, 1, 1, 1}}};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        fbi_sample_in in[3] = {
            {.shape = ok[i].x, .lo = -1, .hi = 1},
            {.shape = ok[i].w, .lo = -1, .hi = 1},
            {.shape = FB_SHAPE(ok[i].w.d[0]), .lo = -1, .hi = 1, .absent = !ok[i].bias}};
        fbi_sample_add(s, &ok[i].a, 3, in);
    }
    fbi_sample_in bad[3] = {{.shape = FB_SHAPE(8, 3, 32, 32), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(16, 4, 3, 3), .lo = -1, .hi = 1},
                            {.absent = true}};
    fbi_sample_bad(s, &plain, 3, bad, FB_E_SHAPE,
                   ": input has 3 channels, weight expects 4: input [8, 3, 32, 32], "
                   "weight [16, 4, 3, 3]");
    bad[0].shape = FB_SHAPE(8, 4, 2, 2);
    fbi_sample_bad(s, &plain, 3, bad, FB_E_SHAPE, "is larger than the padded input [8, 4, 2, 2]");
}
