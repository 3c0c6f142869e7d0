/* Tensors kept for backward, and the check that nobody has changed them since. */
#include "core/autograd/saver_priv.h"

/* Another handle on t's data that no scope owns. */
static fb_tensor *fbi_twin(fb_tensor *t)
{
    fb_tensor *a = fbi_tensor_new_owned(t->ctx);
    if (!a)
        return NULL;
    a->ndim = t->ndim;
    a->dtype = t->dtype;
    a->flags |= FBI_T_TWIN;
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

fb_status fbi_save(fbi_node *n, int slot, fb_tensor *t, fbi_save_what what)
{
    fbi_saved *s = &fbi_saves(n)[slot];
    s->version = t->storage->version;
    s->flags = what == FBI_SAVE_INPUT ? 0 : FBI_SAVED_OUTPUT | (uint32_t)t->out_index << 8;
    if (__builtin_expect(t->ctx->saver != NULL, 0) && what != FBI_SAVE_UNWRITTEN) {
        fb_status st = fbi_save_packed(n, slot, t);
        if (st || (s->flags & FBI_SAVED_PACKED))
            return st;
    }
    if (what != FBI_SAVE_INPUT) {
        s->t = fbi_twin(t);
        return s->t ? FB_OK : t->ctx->status;
    }
    s->t = t;
    fbi_tensor_ref(t);
    return FB_OK;
}

fb_status fbi_save_written(fb_tensor *t)
{
    fbi_node *n = t->node;
    fb_status st = FB_OK;
    for (int i = 0; n && i < n->n_saved && !st; i++) {
        fbi_saved *s = &fbi_saves(n)[i];
        if (!(s->flags & FBI_SAVED_OUTPUT) || (s->flags & FBI_SAVED_PACKED))
            continue;
        s->version = t->storage->version;
        fb_tensor *twin = s->t;
        if (t->ctx->saver && twin)
            st = fbi_save_packed(n, i, t);
        if (s->flags & FBI_SAVED_PACKED)
            fbi_tensor_unref(twin);
    }
    return st;
}

void fbi_unsave(fbi_saved *s)
{
    if (s->flags & FBI_SAVED_PACKED)
        fbi_packed_free(s->packed);
    else
        fbi_tensor_unref(s->t);
    s->t = NULL;
    s->flags &= ~(uint32_t)FBI_SAVED_PACKED;
}

fb_status fbi_saved_changed(fb_context *ctx, const fbi_node *n, const fbi_saved *s,
                            const fb_tensor *t)
{
    char site[160];
    return fbi_fail(
        ctx, FB_E_STATE,
        "backward of %s (recorded at %s): a tensor %s that it saved was changed in place "
        "since (version %u, saved %u); change a copy instead",
        fbi_node_name(n), fbi_site_text(n->site, site, sizeof site), fbi_text(t),
        t->storage->version, s->version);
}

fb_tensor *fbi_unpack(fb_context *ctx, fbi_node *n, int slot, bool linked)
{
    fbi_saved *s = &fbi_saves(n)[slot];
    if (!s->t) {
        if (n->flags & FBI_NODE_SPENT)
            fbi_fail(ctx, FB_E_STATE,
                     "backward of %s: its saved tensors were freed by an earlier "
                     "backward; use retain_graph",
                     fbi_node_name(n));
        return NULL;
    }
    fb_tensor *t = s->flags & FBI_SAVED_PACKED ? fbi_unpacked(ctx, n, slot, linked) : s->t;
    if (!t)
        return NULL;
    if (!(s->flags & FBI_SAVED_PACKED) && s->version != t->storage->version) {
        fbi_saved_changed(ctx, n, s, t);
        return NULL;
    }
    if (!(s->flags & FBI_SAVED_OUTPUT) || !linked)
        return t;
    fb_tensor *a = fbi_tensor_alias(t);
    if (a) {
        a->node = n;
        n->refs++;
        a->out_index = (uint8_t)(s->flags >> 8);
    }
    return a;
}
