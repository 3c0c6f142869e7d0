/* Life of a handle: made in a scope, counted, gone with the last reference. */
#include "core/tensor/scope_priv.h"
#include "core/tensor/slab_priv.h"

/* core/autograd lies above this room, so its header is not included here. */
void fbi_leaf_free(fb_context *ctx, fbi_leaf *leaf);
void fbi_node_unref(fb_context *ctx, fbi_node *n);

fb_tensor *fbi_tensor_new(fb_context *ctx)
{
    fb_tensor *t = fbi_slab_handle(ctx);
    if (t && !fbi_arena_push(ctx, t)) {
        fbi_slab_handle_free(ctx, t);
        return NULL;
    }
    return t;
}

fb_tensor *fbi_tensor_new_owned(fb_context *ctx)
{
    fb_tensor *t = fbi_slab_handle(ctx);
    if (t)
        t->flags |= FBI_T_BORROWED;
    return t;
}

void fbi_tensor_ref(fb_tensor *t)
{
    t->refs++;
}

void fbi_tensor_unref(fb_tensor *t)
{
    if (!t || --t->refs > 0)
        return;
    fb_context *ctx = t->ctx;
    fbi_leaf *leaf = t->leaf;
    fbi_node *node = t->node;
    fbi_storage *storage = t->storage;
    /* The handle goes first: what follows may run user code that looks at it. */
    fbi_slab_handle_free(ctx, t);
    if (leaf)
        fbi_leaf_free(ctx, leaf);
    if (node)
        fbi_node_unref(ctx, node);
    if (storage)
        fbi_storage_unref(ctx, storage);
}

fb_tensor *fbi_tensor_alias(fb_tensor *t)
{
    fb_tensor *a = fbi_tensor_new(t->ctx);
    if (!a)
        return NULL;
    a->ndim = t->ndim;
    a->dtype = t->dtype;
    a->flags |= FBI_T_VIEW;
    a->numel = t->numel;
    a->offset = t->offset;
    for (int i = 0; i < t->ndim; i++) {
        a->size[i] = t->size[i];
        a->stride[i] = t->stride[i];
    }
    a->storage = t->storage;
    a->storage->refs++;
    return a;
}

void fbi_stale(const fb_tensor *t, const char *op, const char *what)
{
    char where[128];
    const void *site = fbi_slab_released_at(t);
    if (site)
        fbi_fail(t->ctx, FB_E_STALE,
                 "%s: %s was released with the scope of %s: keep it with fb_keep or fb_set", op,
                 what, fbi_site_text(site, where, sizeof where));
    else
        fbi_fail(t->ctx, FB_E_STALE, "%s: %s was released before: keep it with fb_retain or fb_set",
                 op, what);
}

bool fbi_tensor_check(fb_context *ctx, const fb_tensor *t, const char *op, const char *what)
{
    if (!ctx && t)
        ctx = t->ctx;
    if (!fbi_enter(ctx))
        return false;
    if (__builtin_expect(!t, 0)) {
        fbi_fail(ctx, FB_E_ARG, "%s: %s is NULL", op, what);
        return false;
    }
    if (__builtin_expect(t->ctx != ctx, 0)) {
        fbi_fail(ctx, FB_E_ARG, "%s: %s belongs to another context", op, what);
        return false;
    }
    if (__builtin_expect(!(t->flags & FBI_T_LIVE), 0)) {
        fbi_stale(t, op, what);
        return false;
    }
    return true;
}
