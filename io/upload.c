/* Batches on their way to a device: while kernels work on one, the copy queue brings the next from
 * a pinned slot. Events keep the order; the host waits only before a slot is filled again. */
#include <string.h>

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/pointwise.h>

#include "core/tensor/device_priv.h"
#include "io/loader_priv.h"

static void forget(fb_context *ctx, fbi_upload *u)
{
    for (int f = 0; f < FB_MAX_FIELDS; f++)
        fbi_storage_unref(ctx, u->fields[f]);
    ctx->backend->event_drop(ctx, u->arrived);
    *u = (fbi_upload){0};
}

/* The device no longer reads the slot. */
static void wait_for_slot(fb_context *ctx, fbi_upload *u)
{
    if (u->copied)
        ctx->backend->wait(ctx, FBI_WAIT_SLOT, u->copied);
    u->copied = NULL;
}

static fb_status copy_field(fb_loader *l, fbi_upload *u, int f, int64_t n)
{
    size_t bytes = (size_t)n * (size_t)u->slot->rows[f] * l->fields[f].bytes;
    u->fields[f] = fbi_storage_new_on(l->ctx, FBI_QUEUE_COPY, bytes);
    if (!u->fields[f])
        return fb_status_of(l->ctx);
    return l->ctx->backend->copy_on(l->ctx, FBI_QUEUE_COPY, u->fields[f]->data, u->slot->fields[f],
                                    bytes);
}

static bool start(fb_loader *l, fbi_upload *u, fbi_slot *slot)
{
    const fbi_backend *b = l->ctx->backend;
    fb_status st = FB_OK;
    u->slot = slot;
    for (int f = 0; f < l->n_fields && !st; f++)
        st = copy_field(l, u, f, slot->unit.n ? slot->unit.n : 1);
    if (!st) {
        u->arrived = b->event_record_on(l->ctx, FBI_QUEUE_COPY);
        u->copied = b->event_record_on(l->ctx, FBI_QUEUE_COPY);
        if (u->arrived && u->copied)
            return true;
    }
    b->sync(l->ctx); /* the slot stays the threads' */
    b->event_drop(l->ctx, u->copied);
    forget(l->ctx, u);
    return false;
}

fbi_slot *fbi_upload_take(fb_loader *l)
{
    if (l->shown.slot) {
        wait_for_slot(l->ctx, &l->shown);
        forget(l->ctx, &l->shown);
        fbi_prefetch_give_back(l);
    }
    if (!l->ahead.slot) {
        fbi_slot *slot = fbi_prefetch_take(l, 0, true);
        if (!slot || !start(l, &l->ahead, slot))
            return NULL;
    }
    l->shown = l->ahead;
    l->ahead = (fbi_upload){0};
    fb_status st = l->ctx->backend->wait(l->ctx, FBI_WAIT_BATCH, l->shown.arrived);
    l->shown.arrived = NULL;
    return st ? NULL : l->shown.slot;
}

void fbi_upload_next(fb_loader *l)
{
    fbi_slot *slot = fbi_prefetch_take(l, 1, false);
    if (slot)
        start(l, &l->ahead, slot);
}

void fbi_upload_drop(fb_loader *l)
{
    wait_for_slot(l->ctx, &l->shown);
    wait_for_slot(l->ctx, &l->ahead);
    if (l->shown.slot)
        forget(l->ctx, &l->shown);
    if (l->ahead.slot)
        forget(l->ctx, &l->ahead);
}

/* F32 is made there: fewer bytes pass the bus. The same operations in the same order as in
 * fbi_dataset_convert, hence the same bits. */
static fb_tensor *converted(fb_tensor *stored, const fb_dataset_field *field)
{
    fb_no_grad(stored->ctx);
    fb_tensor *t = fb_to(stored, FB_F32);
    return fb_add_scalar(fb_mul_scalar(t, (float)field->scale), (float)field->shift);
}

fb_tensor *fbi_upload_tensor(fb_loader *l, int f, fb_shape shape)
{
    const fb_dataset_field *field = &l->fields[f].form;
    fb_tensor *t = fbi_tensor_new(l->ctx);
    if (!t)
        return NULL;
    fbi_set_shape(t, field->dtype, shape);
    t->storage = l->shown.fields[f];
    l->shown.fields[f] = NULL;
    return field->scale != 0 ? converted(t, field) : t;
}
