/* Making the parameters of a tree, at its first use. */
#include <stdlib.h>
#include <string.h>

#include "core/nn/nn_priv.h"
#include "core/tensor/device_priv.h"

fb_status fbi_nn_allocate(fb_tensor *t)
{
    fbi_storage *s = fbi_storage_new(t->ctx, (size_t)t->numel * fb_dtype_size(t->dtype));
    if (!s)
        return t->ctx->status;
    t->storage = s;
    t->offset = 0;
    return FB_OK;
}

fb_tensor *fbi_nn_copy_of(fb_tensor *t)
{
    fb_context *ctx = t->ctx;
    fb_tensor *c = fbi_tensor_new_owned(ctx);
    if (!c)
        return NULL;
    fbi_set_shape(c, t->dtype, fb_shape_of(t));
    if (fbi_nn_allocate(c) ||
        (t->numel && ctx->backend->copy(ctx, fbi_ptr(c), fbi_ptr(t),
                                        (size_t)t->numel * fb_dtype_size(t->dtype)))) {
        fbi_tensor_unref(c);
        return NULL;
    }
    return c;
}

static fb_status set_name(fb_tensor *t, const char *name)
{
    fbi_leaf *leaf = fbi_leaf_of(t);
    char *copy = leaf ? strdup(name) : NULL;
    if (!copy)
        return fbi_fail(t->ctx, FB_E_NOMEM, "no memory for the name %s", name);
    free(leaf->name);
    leaf->name = copy;
    if (leaf->place.kind == FBI_REPLICATED)
        leaf->place.global = fb_shape_of(t);
    return FB_OK;
}

static fb_status name_all(const fbi_named_list *list)
{
    fb_status st = FB_OK;
    for (int64_t i = 0; i < list->n && !st; i++)
        st = set_name(list->v[i].t, list->v[i].name);
    return st;
}

static fb_status make_buffers(fb_module *root)
{
    fbi_named_list list;
    fb_status st = fbi_nn_collect(root, FB_FIELD_BUFFER, true, &list);
    if (st)
        return st;
    st = name_all(&list);
    for (int64_t i = 0; i < list.n && !st; i++) {
        fb_tensor *t = list.v[i].t;
        if (t->storage)
            continue;
        st = fbi_nn_allocate(t);
        if (!st)
            st = fbi_nn_draw(t, fbi_nn_draw_of(t->leaf), root->number, list.v[i].name);
    }
    fbi_named_free(&list);
    return st;
}

fb_status fb_nn_materialize(fb_module *m)
{
    if (!m)
        return FB_E_ARG;
    if (!fbi_nn_enter(m))
        return m->ctx->status;
    fb_module *root = fbi_nn_root(m);
    if (root->ready)
        return FB_OK;
    FBI_ENTRY(m->ctx);
    /* Numbered by first use, which the program orders; construction is ordered by the compiler. */
    if (root->number < 0)
        root->number = root->ctx->roots++;
    fbi_named_list params;
    fb_status st = fbi_nn_collect(root, FB_FIELD_PARAM, true, &params);
    if (st)
        return st;
    st = name_all(&params);
    if (!st)
        st = fbi_nn_flat_make(root, &params);
    if (!st)
        st = make_buffers(root);
    fbi_named_free(&params);
    root->ready = !st;
    return st;
}

fb_status fb_nn_to(fb_module *root, fb_dtype dtype)
{
    if (!root)
        return FB_E_ARG;
    if (!fbi_nn_enter(root))
        return root->ctx->status;
    FBI_ENTRY(root->ctx);
    if (!fb_dtype_is_float(dtype))
        return fbi_fail(root->ctx, FB_E_DTYPE,
                        "fb_nn_to: %s cannot be trained; F32 F64 F16 BF16 can",
                        fb_dtype_name(dtype));
    fbi_named_list list;
    fb_status st = fbi_nn_collect(root, FB_FIELD_PARAM, true, &list);
    for (int64_t i = 0; i < list.n && !st; i++) {
        fb_tensor *t = list.v[i].t;
        if (!t->storage)
            t->dtype = (uint8_t)dtype;
        else if (t->dtype != (uint8_t)dtype)
            st = fbi_fail(
                root->ctx, FB_E_STATE,
                "fb_nn_to: %s of %s has values already; change dtypes before the first use",
                list.v[i].name, root->type->name);
    }
    fbi_named_free(&list);
    return st;
}
