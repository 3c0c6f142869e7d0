/* linear_act: act(x w^T + b). The second output is what backward wants of the first's making: the
 * argument of a GELU, nothing of a ReLU. */
#include <flambeau/core/ops/linalg.h>

#include "core/ops/call_priv.h"
#include "core/ops/linear_priv.h"

#include <flambeau/core/ops/pointwise.h>

fb_status fbi_infer_linear_act(fbi_call *c)
{
    const fbi_attrs_linear_act *a = c->attrs;
    fb_status st = fbi_need_float(c, 0);
    st = st ? st : fbi_infer_linear(c);
    if (st)
        return st;
    if (a->act != FB_ACT_RELU && a->act != FB_ACT_GELU_TANH)
        return fbi_op_fail(c, FB_E_ARG,
                           "%lld is no activation: use FB_ACT_RELU or FB_ACT_GELU_TANH",
                           (long long)a->act);
    fb_dtype dtype = (fb_dtype)c->in[0]->dtype;
    fb_shape argument = a->act == FB_ACT_RELU ? FB_SHAPE(0) : fb_shape_of(c->out[0]);
    return fbi_out(c, 1, dtype, argument);
}

static fb_shape last_of(const fb_tensor *t)
{
    return FB_SHAPE(t->size[t->ndim - 1]);
}

/* g, y or the argument -> the argument's gradient, and its sum over the rows */
fb_status fbi_infer_linear_act_dz(fbi_call *c)
{
    const fb_tensor *g = c->in[0];
    fb_status st = fbi_out(c, 0, (fb_dtype)g->dtype, fb_shape_of(g));
    return st ? st : fbi_out(c, 1, (fb_dtype)g->dtype, last_of(g));
}

/* g, w, y or the argument of the linear_act below -> the same of g w */
fb_status fbi_infer_linear_dact(fbi_call *c)
{
    const fb_tensor *s = c->in[2];
    fb_status st = fbi_out(c, 0, (fb_dtype)s->dtype, fb_shape_of(s));
    return st ? st : fbi_out(c, 1, (fb_dtype)s->dtype, last_of(s));
}

/* --- backward --- */

/* What the derivative of the activation is made from. */
static fb_tensor *source_of(fbi_bw *bw)
{
    const fbi_attrs_linear_act *a = bw->attrs;
    return fbi_bw_out(bw, a->act == FB_ACT_RELU ? 0 : 1);
}

/* dz, where nobody else holds it in the place of g, and db. */
static fb_status argument_gradient(fbi_bw *bw, fb_tensor *out[2])
{
    const fbi_attrs_linear_act *a = bw->attrs;
    const fbi_attrs_linear_act_dz p = {.act = a->act};
    fb_tensor *in[2] = {bw->grad[0], source_of(bw)};
    if (!in[1])
        return bw->ctx->status;
    out[0] = fbi_bw_spare(bw);
    out[1] = NULL;
    fbi_call c = {.ctx = bw->ctx,
                  .op = &fbi_opdefs[FBI_OP_linear_act_dz],
                  .attrs = &p,
                  .in = in,
                  .out = out,
                  .n_in = 2,
                  .n_out = 2,
                  .threads = bw->ctx->threads};
    fb_status st = c.op->infer(&c);
    c.inplace = out[0] == in[0];
    return st ? st : fbi_launch(&c);
}

fb_status fbi_bwd_linear_act(fbi_bw *bw)
{
    fb_tensor *dz = bw->grad[0], *db = bw->grad[1];
    if (!db) { /* else fbi_linear_bwd_x of the layer above has done it */
        fb_tensor *out[2];
        if (argument_gradient(bw, out))
            return bw->ctx->status;
        dz = out[0];
        db = out[1];
    }
    fb_status st = fbi_bw_needs(bw, 2) ? fbi_bw_give(bw, 2, db) : FB_OK;
    st = st ? st : fbi_linear_bwd_w(bw, dz);
    return st ? st : fbi_linear_bwd_x(bw, dz);
}

fb_status fbi_bwd_ops_linear_act(fbi_bw *bw)
{
    const fbi_attrs_linear_act *a = bw->attrs;
    fb_tensor *g = bw->grad[0], *dz = NULL;
    if (a->act == FB_ACT_RELU) {
        fb_tensor *y = fbi_bw_out(bw, 0);
        dz = y ? FBI_RUN(relu_bwd, NULL, g, y) : NULL;
    } else {
        fb_tensor *x = fbi_bw_in(bw, 0), *w = fbi_bw_in(bw, 1);
        fb_tensor *z = x && w ? fb_linear(x, w, fbi_bw_in(bw, 2)) : NULL;
        dz = z ? FBI_RUN(gelu_tanh_bwd, NULL, g, z) : NULL;
    }
    return dz ? fbi_linear_bwd_ops(bw, dz) : bw->ctx->status;
}

/* x is what a linear_act made, nothing else uses it and nobody can look at its gradient: then that
 * of the argument can be made at once. We hold x, and an edge to its node; so does the walk. */
static bool made_for_us(fbi_bw *bw, fbi_node *from)
{
    if (!from || from->op != FBI_OP_linear_act || (from->flags & FBI_NODE_CUSTOM) || from->hooks)
        return false;
    if (fbi_grads(from)[0]) /* of a user that has had its turn */
        return false;
    const fb_tensor *x = fbi_bw_in(bw, 0);
    return x && x->refs == 1 && x->node == from && from->refs == 3;
}

/* dx, or (see above) dz and db of the linear_act below; db takes the place of the gradient of its
 * second output, which has none. */
static fb_status give_dx(fbi_bw *bw, fb_tensor *g, fb_tensor *w)
{
    fbi_node *from = fbi_edges(bw->node)[0].to;
    if (!made_for_us(bw, from))
        return FBI_BW_RUN(bw, 0, linear_dx, NULL, g, w);
    const fbi_attrs_linear_act *a = fbi_attrs(from);
    const fbi_attrs_linear_dact p = {.act = a->act};
    int slot = a->act == FB_ACT_RELU ? 3 : 4; /* it saves three inputs and two outputs */
    fb_tensor *source = fbi_unpack(bw->ctx, from, slot, false), *out[2];
    fb_tensor *in[3] = {g, w, source};
    if (!source || fbi_run(bw->ctx, FBI_OP_linear_dact, &p, in, 3, out))
        return bw->ctx->status;
    fbi_tensor_ref(out[1]);
    fbi_grads(from)[1] = out[1];
    return fbi_bw_give(bw, 0, out[0]);
}

fb_status fbi_linear_bwd_w(fbi_bw *bw, fb_tensor *g)
{
    if (!fbi_bw_needs(bw, 1))
        return FB_OK;
    fb_tensor *x = fbi_bw_in(bw, 0);
    return x ? FBI_BW_RUN(bw, 1, linear_dw, NULL, g, x) : bw->ctx->status;
}

fb_status fbi_linear_bwd_x(fbi_bw *bw, fb_tensor *g)
{
    if (!fbi_bw_needs(bw, 0))
        return FB_OK;
    fb_tensor *w = fbi_bw_in(bw, 1);
    return w ? give_dx(bw, g, w) : bw->ctx->status;
}

void fbi_sample_linear_act(fbi_samples *s)
{
    const struct {
        fb_shape x;
        int64_t out;
        bool bias;
    } ok[] = {{FB_SHAPE(5, 4), 8, true},
              {FB_SHAPE(4), 3, true},
              {FB_SHAPE(2, 3, 4), 8, true},
              {FB_SHAPE(3, 4), 3, true},
              {FB_SHAPE(2, 4), 8, false}};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++)
        for (int act = FB_ACT_RELU; act <= FB_ACT_GELU_TANH; act++) {
            const fbi_attrs_linear_act a = {.act = act};
            fbi_sample_in in[3] = {
                {.shape = ok[i].x, .lo = -1, .hi = 1},
                {.shape = FB_SHAPE(ok[i].out, 4), .lo = -1, .hi = 1},
                {.shape = FB_SHAPE(ok[i].out), .lo = -1, .hi = 1, .absent = !ok[i].bias}};
            fbi_sample_add(s, &a, 3, in);
        }
    fbi_attrs_linear_act a = {.act = FB_ACT_RELU};
    fbi_sample_in bad[3] = {{.shape = FB_SHAPE(64, 784), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(10, 700), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(10), .lo = -1, .hi = 1}};
    fbi_sample_bad(s, &a, 3, bad, FB_E_SHAPE,
                   "linear_act: inner sizes differ: [64, 784] x [10, 700]");
    a.act = 7;
    bad[0].shape = FB_SHAPE(64, 700);
    fbi_sample_bad(s, &a, 3, bad, FB_E_ARG,
                   "linear_act: 7 is no activation: use FB_ACT_RELU or FB_ACT_GELU_TANH");
}

fb_tensor *fb_linear_act(fb_tensor *x, fb_tensor *w, fb_tensor *b, fb_activation act)
{
    const fbi_attrs_linear_act a = {.act = act};
    return FBI_RUN(linear_act, &a, x, w, b);
}
