/* Backward of one node, as the walk of core/autograd sees it. */
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/view.h>

#include "core/autograd/pass_priv.h"
#include "core/autograd/walk_priv.h"
#include "core/ops/call_priv.h"

typedef struct fbi_pass_bw {
    fbi_bw bw; /* first: the public face */
    fbi_pass *pass;
} fbi_pass_bw;

const char *fbi_node_name(const fbi_node *n)
{
    if (n->flags & FBI_NODE_CUSTOM)
        return ((const fbi_custom *)fbi_attrs((fbi_node *)(uintptr_t)n))->name;
    return fbi_opdefs[n->op].name;
}

fb_status fbi_node_backward(fbi_pass *pass, fbi_node *n, fb_tensor *const *grad,
                            fb_tensor **in_grad)
{
    if (n->flags & FBI_NODE_CUSTOM) {
        const fbi_custom *custom = fbi_attrs(n);
        return custom->backward(custom->self, pass, n, grad, in_grad);
    }
    const fbi_opdef *d = &fbi_opdefs[n->op];
    fbi_pass_bw b = {{.ctx = pass->ctx,
                      .node = n,
                      .op = d,
                      .attrs = fbi_attrs(n),
                      .grad = grad,
                      .in_grad = in_grad,
                      .linked = pass->linked},
                     pass};
    fb_status st = (d->bwd && !pass->linked) ? d->bwd(&b.bw) : d->bwd_ops(&b.bw);
    return st ? st : pass->ctx->status;
}

static fb_tensor *fbi_bw_saved(fbi_bw *bw, uint32_t bit)
{
    if (!(bw->op->saves & bit)) {
        fbi_fail(bw->ctx, FB_E_STATE, "backward of %s: reads what its row does not save",
                 bw->op->name);
        return NULL;
    }
    int slot = __builtin_popcount(bw->op->saves & (bit - 1));
    return fbi_unpack(bw->ctx, bw->node, slot, bw->linked);
}

fb_tensor *fbi_bw_in(fbi_bw *bw, int i)
{
    return fbi_bw_saved(bw, 1u << i);
}

fb_tensor *fbi_bw_out(fbi_bw *bw, int i)
{
    return fbi_bw_saved(bw, 256u << i);
}

fb_status fbi_bw_give(fbi_bw *bw, int i, fb_tensor *g)
{
    if (!g)
        return bw->ctx->status;
    if (!fbi_bw_needs(bw, i))
        return FB_OK;
    fbi_tensor_ref(g);
    if (bw->in_grad[i]) { /* given in parts */
        fb_tensor *sum = fbi_grad_sum(bw->in_grad[i], g);
        fbi_tensor_unref(g);
        if (!sum)
            return bw->ctx->status;
        fbi_tensor_unref(bw->in_grad[i]);
        fbi_tensor_ref(sum);
        g = sum;
    }
    bw->in_grad[i] = g;
    return FB_OK;
}

fb_tensor *fbi_bw_spare(const fbi_bw *bw)
{
    fb_tensor *g = bw->grad[0];
    return g && g->refs == 1 && g->storage->refs == 1 && !(g->storage->flags & FBI_S_READ_ONLY)
               ? g
               : NULL;
}

fb_tensor *fbi_bw_pending(const fbi_bw *bw, int i)
{
    fbi_edge e = fbi_edges(bw->node)[i];
    if (bw->linked || !e.to || fbi_is_leaf_node(e.to) || bw->ctx->anomaly)
        return NULL;
    fb_tensor *t = fbi_grads(e.to)[e.out_index];
    return t && t->refs == 1 && t->storage->refs == 1 && fbi_dense(t) ? t : NULL;
}

fb_status fbi_bw_run(fbi_bw *bw, int i, fbi_op op, const void *attrs, int n_in,
                     fb_tensor *const *in)
{
    if (!fbi_bw_needs(bw, i))
        return FB_OK;
    const fbi_opdef *d = &fbi_opdefs[op];
    fb_status st = fbi_check_inputs(bw->ctx, d, in, n_in);
    if (st)
        return st;
    float beta = 0;
    fb_tensor *dst =
        d->n_out == 1 ? fbi_pass_dst(((fbi_pass_bw *)bw)->pass, bw->node, i, &beta) : NULL;
    if (dst && beta != 0 && !(d->flags & FBI_BETA))
        dst = NULL;
    bool one_pass = (d->flags & FBI_POINTWISE) && bw->node->n_in == 1; /* g is read once */
    fb_tensor *out[4] = {dst ? dst : one_pass ? fbi_bw_spare(bw) : NULL};
    fbi_call c = {.ctx = bw->ctx,
                  .op = d,
                  .attrs = attrs,
                  .in = (fb_tensor **)(uintptr_t)in,
                  .out = out,
                  .n_in = (uint16_t)n_in,
                  .n_out = d->n_out,
                  .threads = bw->ctx->threads};
    st = d->infer(&c);
    if (st)
        return st;
    bool direct = dst && out[0] == dst;
    c.beta = direct ? beta : 0;
    c.inplace = out[0] == in[0];
    st = fbi_launch(&c);
    if (st)
        return st;
    if (!direct)
        return fbi_bw_give(bw, i, out[0]);
    fbi_pass_written(bw->node, i);
    return FB_OK;
}

fb_status fbi_bw_run_pair(fbi_bw *bw, int i, int j, fbi_op op, fb_tensor *const *in, int n_in)
{
    const fbi_opdef *d = &fbi_opdefs[op];
    fbi_pass *pass = ((fbi_pass_bw *)bw)->pass;
    const int to[2] = {i, j};
    float beta[2] = {0, 0};
    fb_tensor *dst[2] = {fbi_pass_dst(pass, bw->node, i, &beta[0]),
                         fbi_pass_dst(pass, bw->node, j, &beta[1])};
    bool both = dst[0] && dst[1] && dst[0] != dst[1] && beta[0] == beta[1] && /* of one beta */
                (beta[0] == 0 || d->flags & FBI_BETA);
    fb_tensor *out[2] = {both ? dst[0] : NULL, both ? dst[1] : NULL};
    fbi_call c = {.ctx = bw->ctx,
                  .op = d,
                  .in = (fb_tensor **)(uintptr_t)in,
                  .out = out,
                  .n_in = (uint16_t)n_in,
                  .n_out = 2,
                  .threads = bw->ctx->threads};
    fb_status st = fbi_check_inputs(bw->ctx, d, in, n_in);
    st = st ? st : d->infer(&c);
    if (both && !st && (out[0] != dst[0] || out[1] != dst[1])) { /* one does not fit its place */
        both = false;
        out[0] = out[1] = NULL;
        st = d->infer(&c);
    }
    c.beta = both ? beta[0] : 0;
    st = st ? st : fbi_launch(&c);
    for (int k = 0; k < 2 && !st; k++) {
        if (both)
            fbi_pass_written(bw->node, to[k]);
        else
            st = fbi_bw_give(bw, to[k], out[k]);
    }
    return st;
}

fb_status fbi_bw_apply(fbi_bw *bw, int i, fbi_op op, const void *attrs, int n_in,
                       fb_tensor *const *in)
{
    if (!bw->linked)
        return fbi_bw_run(bw, i, op, attrs, n_in, in);
    if (!fbi_bw_needs(bw, i))
        return FB_OK;
    return fbi_bw_give(bw, i, fbi_run1(bw->ctx->site, op, attrs, n_in, in));
}

fb_tensor *fbi_grad_sum(fb_tensor *a, fb_tensor *b)
{
    return FBI_RUN(add, NULL, a, b);
}

fb_status fbi_grad_add(fb_context *ctx, fb_tensor *dst, fb_tensor *g)
{
    return fbi_kernel_run(ctx, FBI_OP_add, NULL, (fb_tensor *[]){dst, g}, 2, &dst, 1, 0);
}

fb_status fbi_grad_copy(fb_context *ctx, fb_tensor *dst, fb_tensor *g)
{
    return fbi_kernel_run(ctx, FBI_OP_copy, NULL, (fb_tensor *[]){dst, g}, 2, &dst, 1, 0);
}

fb_status fbi_grad_fill(fb_tensor *dst, double value)
{
    fbi_attrs_fill attrs = {.value = value};
    return dst->numel ? fbi_kernel_run(dst->ctx, FBI_OP_fill, &attrs, NULL, 0, &dst, 1, 0) : FB_OK;
}

fb_tensor *fbi_grad_const(fb_context *ctx, fb_dtype dtype, fb_shape shape, double value)
{
    fb_tensor *t = fbi_empty(ctx, dtype, shape);
    return !t || fbi_grad_fill(t, value) ? NULL : t;
}

fb_tensor *fbi_grad_full(fb_tensor *like, double value)
{
    return fbi_grad_const(like->ctx, (fb_dtype)like->dtype, fb_shape_of(like), value);
}

fb_tensor *fbi_grad_stack(fb_tensor *const *rows, int n, fb_shape shape)
{
    fb_tensor *all = fb_stack((fb_tensors){rows, n}, 0);
    return all ? fb_reshape(all, shape) : NULL;
}

fb_tensor *fbi_grad_scale(fb_tensor *g, double factor)
{
    fbi_attrs_scalars attrs = {factor, 0};
    return FBI_RUN(mul_scalar, &attrs, g);
}
