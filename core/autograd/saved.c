/* Tensors kept for backward, and the check that nobody has changed them since. */
#include "core/autograd/pass_priv.h"

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

void fbi_save(fbi_node *n, int slot, fb_tensor *t, bool own_output)
{
    fbi_saved *s = &fbi_saves(n)[slot];
    if (own_output) {
        s->t = fbi_twin(t);
        s->flags = FBI_SAVED_OUTPUT | (uint32_t)t->out_index << 8;
    } else {
        s->t = t;
        fbi_tensor_ref(t);
    }
    s->version = t->storage->version;
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
    if (s->version != s->t->storage->version) {
        char site[160];
        fbi_fail(ctx, FB_E_STATE,
                 "backward of %s (recorded at %s): a tensor %s that it saved was changed in place "
                 "since (version %u, saved %u); change a copy instead",
                 fbi_node_name(n), fbi_site_text(n->site, site, sizeof site), fbi_text(s->t),
                 s->t->storage->version, s->version);
        return NULL;
    }
    if (!(s->flags & FBI_SAVED_OUTPUT) || !linked)
        return s->t;
    fb_tensor *a = fbi_tensor_alias(s->t);
    if (a) {
        a->node = n;
        n->refs++;
        a->out_index = (uint8_t)(s->flags >> 8);
    }
    return a;
}
