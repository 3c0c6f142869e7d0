/* Leaves: what requires a gradient, and where it accumulates. */
#include "core/autograd/pass_priv.h"

fb_tensor *fb_requires_grad(fb_tensor *t, bool required)
{
    if (!t || !fbi_enter(t->ctx))
        return NULL;
    FBI_ENTRY(t->ctx);
    if (!fbi_tensor_check(t->ctx, t, "fb_requires_grad", "t"))
        return NULL;
    if (!required && !t->leaf)
        return t;
    if (t->node) {
        fbi_fail(t->ctx, FB_E_STATE,
                 "fb_requires_grad: %s is the result of %s, not a leaf; "
                 "fb_detach it first",
                 fbi_text(t), fbi_node_name(t->node));
        return NULL;
    }
    if (required && !fb_dtype_is_float((fb_dtype)t->dtype)) {
        fbi_fail(t->ctx, FB_E_DTYPE, "fb_requires_grad: %s has no gradient",
                 fb_dtype_name((fb_dtype)t->dtype));
        return NULL;
    }
    fbi_leaf *leaf = fbi_leaf_of(t);
    if (!leaf)
        return NULL;
    leaf->required = required;
    return t;
}

bool fb_needs_grad(const fb_tensor *t)
{
    return t && (t->node || (t->leaf && t->leaf->required));
}

fb_tensor *fb_detach(fb_tensor *t)
{
    if (!t || !fbi_enter(t->ctx))
        return NULL;
    FBI_ENTRY(t->ctx);
    if (!fbi_tensor_check(t->ctx, t, "fb_detach", "t"))
        return NULL;
    return fbi_tensor_alias(t);
}

fb_tensor *fb_grad_of(fb_tensor *leaf)
{
    if (!leaf || !leaf->leaf)
        return NULL;
    fbi_leaf *l = leaf->leaf;
    if (l->linked)
        return l->linked;
    return l->state == FBI_GRAD_NONE ? NULL : l->grad;
}

fb_status fb_set_grad(fb_tensor *t, fb_tensor *grad)
{
    if (!t || !fbi_enter(t->ctx))
        return t && t->ctx->status ? t->ctx->status : FB_E_ARG;
    FBI_ENTRY(t->ctx);
    fb_context *ctx = t->ctx;
    if (grad && (!fbi_same_shape(t, grad) || t->dtype != grad->dtype))
        return fbi_fail(ctx, FB_E_SHAPE, "fb_set_grad: gradient %s for a leaf %s", fbi_text(grad),
                        fbi_text(t));
    fbi_leaf *leaf = fbi_leaf_of(t);
    if (!leaf)
        return ctx->status;
    fbi_tensor_unref(leaf->linked);
    leaf->linked = NULL;
    if (!grad) {
        leaf->state = FBI_GRAD_NONE;
        return FB_OK;
    }
    leaf->state = FBI_GRAD_NONE;
    return fbi_leaf_write(ctx, leaf, grad);
}

/* Memory for the gradient, if there is none yet. */
static fb_status fbi_leaf_room(fb_context *ctx, fbi_leaf *leaf)
{
    if (leaf->grad)
        return FB_OK;
    fb_tensor *t = leaf->tensor;
    FB_SCOPE(ctx);
    fb_tensor *g = fbi_empty(ctx, (fb_dtype)t->dtype, fb_shape_of(t));
    if (!g)
        return ctx->status;
    fbi_tensor_ref(g);
    leaf->grad = g;
    leaf->state = FBI_GRAD_NONE;
    return FB_OK;
}

fb_status fbi_leaf_write(fb_context *ctx, fbi_leaf *leaf, fb_tensor *g)
{
    fb_status st = fbi_leaf_room(ctx, leaf);
    if (st)
        return st;
    if (leaf->state == FBI_GRAD_LIVE)
        st = fbi_grad_add(ctx, leaf->grad, g);
    else
        st = fbi_grad_copy(ctx, leaf->grad, g);
    fbi_bump(leaf->grad);
    leaf->state = FBI_GRAD_LIVE;
    return st;
}

/* A leaf node whose contributions may be written without being looked at first. */
static bool fbi_plain(const fbi_pass *pass, const fbi_node *n)
{
    return (!pass->capture || (n->flags & FBI_NODE_STRAIGHT)) && !pass->linked &&
           !pass->ctx->anomaly && !n->op && n->leaf && !n->hooks && !(n->flags & FBI_NODE_CUSTOM);
}

fb_tensor *fbi_pass_dst(fbi_pass *pass, fbi_node *n, int i, float *beta)
{
    fbi_node *to = fbi_edges(n)[i].to;
    if (!to || !fbi_plain(pass, to) || fbi_leaf_room(pass->ctx, to->leaf))
        return NULL;
    *beta = to->leaf->state == FBI_GRAD_LIVE ? 1.0f : 0.0f;
    return to->leaf->grad;
}

void fbi_pass_written(fbi_node *n, int i)
{
    fbi_leaf *leaf = fbi_edges(n)[i].to->leaf;
    fbi_bump(leaf->grad);
    leaf->state = FBI_GRAD_LIVE;
}
