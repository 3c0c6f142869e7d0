#include "core/tensor/alloc_priv.h"
#include "core/tensor/device_priv.h"
#include "core/tensor/slab_priv.h"

fbi_storage *fbi_storage_new_on(fb_context *ctx, fbi_queue queue, size_t bytes)
{
    fbi_storage *s = fbi_slab_storage(ctx);
    if (!s)
        return NULL;
    s->bytes = bytes;
    s->queue = (uint8_t)queue;
    if (!fbi_block_get(ctx, s)) {
        fbi_slab_storage_free(ctx, s);
        return NULL;
    }
    s->refs = 1;
    return s;
}

fbi_storage *fbi_storage_new(fb_context *ctx, size_t bytes)
{
    return fbi_storage_new_on(ctx, FBI_QUEUE_COMPUTE, bytes);
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

fb_status fbi_storage_used_by(fb_context *ctx, fbi_storage *s, fbi_queue queue, void *event)
{
    if (!event)
        return fb_status_of(ctx);
    if (queue == (fbi_queue)s->queue) {
        ctx->backend->event_drop(ctx, event);
        return FB_OK;
    }
    return fbi_uses_add(ctx, (fbi_queue)s->queue, &s->uses, queue, event);
}

void fbi_storage_unref(fb_context *ctx, fbi_storage *s)
{
    if (!s || --s->refs > 0)
        return;
    if (s->packs)
        ctx->backend->pack_free(ctx, s->packs);
    /* Kernels may have read what another queue brought. */
    if (s->queue != FBI_QUEUE_COMPUTE)
        fbi_storage_used_by(ctx, s, FBI_QUEUE_COMPUTE,
                            ctx->backend->event_record_on(ctx, FBI_QUEUE_COMPUTE));
    if (s->release) {
        fbi_uses_settle(ctx, (fbi_queue)s->queue, s->uses);
        s->release(s);
    } else {
        fbi_block_put(ctx, s);
    }
    fbi_slab_storage_free(ctx, s);
}

void fbi_storage_guarded(fb_context *ctx, fbi_storage *s)
{
    if (ctx->guard.changing)
        ctx->guard.changing(ctx->guard.self, s);
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
