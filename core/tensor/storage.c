#include "core/tensor/alloc_priv.h"
#include "core/tensor/device_priv.h"
#include "core/tensor/slab_priv.h"

fbi_storage *fbi_storage_new(fb_context *ctx, size_t bytes)
{
    fbi_storage *s = fbi_slab_storage(ctx);
    if (!s)
        return NULL;
    s->data = fbi_block_get(ctx, bytes, &s->klass);
    if (!s->data) {
        fbi_slab_storage_free(ctx, s);
        return NULL;
    }
    s->refs = 1;
    s->bytes = bytes;
    return s;
}

fbi_storage *fbi_storage_wrap(fb_context *ctx, void *data, size_t bytes,
                              void (*release)(fbi_storage *), void *owner, bool read_only)
{
    fbi_storage *s = fbi_slab_storage(ctx);
    if (!s)
        return NULL;
    s->refs = 1;
    s->data = data;
    s->bytes = bytes;
    s->release = release;
    s->owner = owner;
    s->flags = read_only ? FBI_S_READ_ONLY : 0;
    return s;
}

void fbi_storage_unref(fb_context *ctx, fbi_storage *s)
{
    if (!s || --s->refs > 0)
        return;
    if (s->packs)
        ctx->backend->pack_free(ctx, s->packs);
    if (s->release)
        s->release(s);
    else
        fbi_block_put(ctx, s->data, s->bytes, s->klass);
    fbi_slab_storage_free(ctx, s);
}

void fbi_tensor_repoint(fb_tensor *t, fbi_storage *s, int64_t offset)
{
    fbi_storage *old = t->storage;
    s->refs++;
    t->storage = s;
    t->offset = offset;
    if (old)
        fbi_storage_unref(t->ctx, old);
}
