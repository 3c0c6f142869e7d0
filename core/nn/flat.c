/* Flat storage: parameters of a root one after the other, the last registered first. */
#include <stdlib.h>

#include "core/nn/nn_priv.h"
#include "core/tensor/device_priv.h"

enum { FLAT_ALIGN = 256 }; /* bytes */

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static fb_tensor *flat_block(fb_context *ctx, fb_dtype dtype, int64_t n)
{
    fb_tensor *t = fbi_tensor_new_owned(ctx);
    if (!t)
        return NULL;
    fbi_set_shape(t, dtype, (fb_shape){1, {n}});
    if (fbi_nn_allocate(t) ||
        (n && ctx->backend->fill_zero(ctx, fbi_ptr(t), (size_t)n * fb_dtype_size(dtype)))) {
        fbi_tensor_unref(t);
        return NULL;
    }
    return t;
}

static void flat_free(fbi_flat *flat)
{
    if (!flat)
        return;
    fbi_tensor_unref(flat->values);
    fbi_tensor_unref(flat->grads);
    free(flat->params);
    free(flat);
}

void fbi_nn_flat_drop(fb_module *root)
{
    while (root->flat) {
        fbi_flat *next = root->flat->next;
        flat_free(root->flat);
        root->flat = next;
    }
}

/* A handle in no scope on part of a block, shaped like t. */
static fb_tensor *part_of(fb_tensor *block, const fb_tensor *t, int64_t begin)
{
    fb_tensor *v = fbi_tensor_new_owned(block->ctx);
    if (!v)
        return NULL;
    fbi_set_shape(v, t->dtype, fb_shape_of(t));
    v->storage = block->storage;
    v->storage->refs++;
    v->offset = begin;
    v->flags |= FBI_T_VIEW;
    return v;
}

/* Move t into the block at `begin`, keeping its values, or drawing them if it has none. */
static fb_status move_in(fbi_flat *flat, const fb_module *root, fb_tensor *t, const char *name,
                         int64_t begin)
{
    fb_context *ctx = flat->ctx;
    fbi_leaf *leaf = t->leaf;
    fb_tensor *grad = part_of(flat->grads, t, begin);
    if (!grad)
        return ctx->status;
    size_t bytes = (size_t)t->numel * fb_dtype_size(t->dtype);
    fb_status st = FB_OK;
    if (!t->storage) {
        t->storage = flat->values->storage;
        t->storage->refs++;
        t->offset = begin;
        st = fbi_nn_draw(t, fbi_nn_draw_of(leaf), root->number, name);
    } else if (!fbi_contiguous(t)) {
        st = fbi_fail(ctx, FB_E_ARG, "parameter %s %s is not contiguous; give a contiguous tensor",
                      name, fbi_text(t));
    } else {
        char *to = (char *)flat->values->storage->data + (size_t)begin * fb_dtype_size(t->dtype);
        if (bytes)
            st = ctx->backend->copy(ctx, to, fbi_ptr(t), bytes);
        if (!st)
            fbi_tensor_repoint(t, flat->values->storage, begin);
    }
    /* A gradient that is there (the tree was built around a used module) comes along. */
    if (!st && leaf->grad && leaf->state != FBI_GRAD_NONE && bytes && fbi_contiguous(leaf->grad))
        st = ctx->backend->copy(ctx, fbi_ptr(grad), fbi_ptr(leaf->grad), bytes);
    if (st) {
        fbi_tensor_unref(grad);
        return st;
    }
    fbi_tensor_unref(leaf->grad);
    leaf->grad = grad;
    return FB_OK;
}

static fb_status make_block(fb_module *root, const fbi_named_list *params, fb_dtype dtype,
                            fbi_flat **out)
{
    fb_context *ctx = root->ctx;
    int64_t align = FLAT_ALIGN / (int64_t)fb_dtype_size(dtype);
    fbi_flat *flat = calloc(1, sizeof *flat);
    if (flat)
        flat->params = calloc((size_t)params->n, sizeof *flat->params);
    if (!flat || !flat->params) {
        free(flat);
        return fbi_fail(ctx, FB_E_NOMEM, "%s: no memory for its parameters", root->type->name);
    }
    flat->ctx = ctx;
    flat->dtype = dtype;
    for (int64_t i = params->n - 1; i >= 0; i--) {
        fb_tensor *t = params->v[i].t;
        if (t->dtype != dtype)
            continue;
        flat->params[flat->n_params] =
            (fbi_flat_param){.t = t, .name = t->leaf->name, .begin = flat->n, .n = t->numel};
        t->leaf->index = (uint32_t)flat->n_params++;
        flat->n += round_up(t->numel, align);
    }
    flat->values = flat_block(ctx, dtype, flat->n);
    flat->grads = flat->values ? flat_block(ctx, dtype, flat->n) : NULL;
    fb_status st = flat->grads ? FB_OK : ctx->status;
    for (int i = 0; i < flat->n_params && !st; i++)
        st = move_in(flat, root, flat->params[i].t, flat->params[i].name, flat->params[i].begin);
    if (st) {
        flat_free(flat);
        return st;
    }
    *out = flat;
    return FB_OK;
}

/* A root's parameters count together. */
static fb_status share_tally(fb_context *ctx, const fbi_named_list *params)
{
    if (!params->n)
        return FB_OK;
    fbi_tally *tally = params->v[0].t->leaf->tally; /* of a smaller tree that was used before */
    if (!tally)
        tally = fbi_tally_new(ctx);
    else
        tally->refs++;
    for (int64_t i = 0; i < params->n && tally; i++)
        fbi_tally_set(ctx, params->v[i].t->leaf, tally);
    fbi_tally_unref(ctx, tally);
    return tally ? FB_OK : ctx->status;
}

fb_status fbi_nn_flat_make(fb_module *root, const fbi_named_list *params)
{
    static const uint8_t order[] = {FB_F32, FB_F64, FB_F16, FB_BF16};
    fbi_flat **tail = &root->flat;
    fb_status st = share_tally(root->ctx, params);
    fbi_nn_flat_drop(root);
    for (size_t k = 0; k < sizeof order && !st; k++) {
        bool any = false;
        for (int64_t i = 0; i < params->n; i++)
            any |= params->v[i].t->dtype == order[k];
        if (!any)
            continue;
        st = make_block(root, params, (fb_dtype)order[k], tail);
        if (!st)
            tail = &(*tail)->next;
    }
    return st;
}

fbi_flat *fbi_nn_flat(fb_module *m)
{
    if (!m || fb_nn_materialize(m))
        return NULL;
    fb_module *root = fbi_nn_root(m);
    if (!root->flat)
        fbi_fail(root->ctx, FB_E_ARG, "%s has no parameters", root->type->name);
    return root->flat;
}
