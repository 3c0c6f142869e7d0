/* Works on the memory of a device, through pinned host memory: a copy out when the work starts, the
 * host's collective once it has arrived, a copy in when that is done. Both copies take their turn
 * in the compute queue; the host never waits for them, it only looks whether they have happened. */
#include "comm/device_priv.h"

#include <stdlib.h>

#include "core/tensor/device_priv.h"

enum { LEAST = 4096, ALIGN = 64 };

/* Pinned memory for the data of one work; used again when `event` has happened. */
struct fbi_pinned {
    char *data;
    size_t bytes;
    void *event; /* NULL: nobody touches it */
    struct fbi_pinned *next;
};

static bool is_idle(fb_context *ctx, fbi_pinned *p)
{
    if (p->event && ctx->backend->event_done(ctx, p->event))
        p->event = NULL;
    return !p->event;
}

static void free_pinned(fb_context *ctx, fbi_pinned *p)
{
    if (p->data)
        ctx->backend->host_free(ctx, p->data);
    free(p);
}

static fbi_pinned *new_pinned(fb_context *ctx, size_t bytes)
{
    fbi_pinned *p = calloc(1, sizeof *p);
    size_t room = LEAST;
    while (room < bytes)
        room *= 2; /* few sizes, so that works find each other's memory fitting */
    if (p)
        p->data = ctx->backend->host_alloc(ctx, room);
    if (p && p->data) {
        p->bytes = room;
        return p;
    }
    if (!ctx->status)
        fbi_fail(ctx, FB_E_NOMEM, "collective: no memory for a copy of %zu bytes on the host",
                 bytes);
    free(p);
    return NULL;
}

/* Idle memory that is neither too small nor far too large; else new. */
static fbi_pinned *take_pinned(fb_world *world, size_t bytes)
{
    for (fbi_pinned **at = &world->pinned; *at; at = &(*at)->next) {
        fbi_pinned *p = *at;
        bool fits = p->bytes >= bytes && (p->bytes <= LEAST || p->bytes / 4 < bytes);
        if (!fits || !is_idle(world->ctx, p))
            continue;
        *at = p->next;
        p->next = NULL;
        return p;
    }
    return new_pinned(world->ctx, bytes);
}

static void give_pinned(fb_world *world, fbi_pinned *p)
{
    p->next = world->pinned;
    world->pinned = p;
}

/* --- what a work brings and what it leaves --- */

/* Whether this rank's source is read at all. */
static bool brings(const fb_work *w)
{
    const fbi_task *t = &w->task;
    return t->kind != FBI_KIND_RECV && (t->kind != FBI_KIND_BROADCAST || t->root == w->group->rank);
}

/* Elements of the result. */
static int64_t result_of(const fb_work *w)
{
    const fbi_task *t = &w->task;
    switch (t->kind) {
    case FBI_KIND_ALL_GATHER:
        return t->count * w->group->size;
    case FBI_KIND_REDUCE_SCATTER:
        return t->count / w->group->size;
    case FBI_KIND_SEND:
        return 0;
    case FBI_KIND_BROADCAST:
        return t->root == w->group->rank ? 0 : t->count;
    default:
        return t->count;
    }
}

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* A slot for each source, then the result, unless it takes the place of a source. */
static void place(fb_work *w, char *data, size_t each)
{
    fbi_task *t = &w->task;
    const void *dst = t->dst;
    t->dst = data + (size_t)t->n_src * each;
    for (int i = 0; i < t->n_src; i++) {
        if (!t->src[i])
            continue;
        if (t->src[i] == dst && w->size == w->out_size)
            t->dst = data + (size_t)i * each;
        t->src[i] = data + (size_t)i * each;
    }
}

static bool to_host(fb_work *w)
{
    fb_world *world = w->group->world;
    const fbi_backend *backend = world->ctx->backend;
    const fbi_task from = w->task;
    size_t bytes = (size_t)from.count * w->size, each = aligned(bytes);
    w->result_bytes = (size_t)result_of(w) * w->out_size;
    w->pinned = take_pinned(world, (size_t)from.n_src * each + aligned(w->result_bytes));
    if (!w->pinned)
        return false;
    place(w, w->pinned->data, each);
    w->device_dst = from.dst;
    for (int i = 0; i < from.n_src && brings(w) && bytes; i++)
        if (from.src[i] && backend->copy_on(world->ctx, FBI_QUEUE_COMPUTE,
                                            w->pinned->data + (size_t)i * each, from.src[i], bytes))
            return false;
    w->event = brings(w) && bytes ? backend->event_record_on(world->ctx, FBI_QUEUE_COMPUTE) : NULL;
    return world->ctx->status == FB_OK;
}

bool fbi_device_begin(fb_work *w)
{
    return to_host(w);
}

bool fbi_device_arrived(fb_work *w)
{
    fb_world *world = w->group->world;
    if (!w->event)
        return true;
    bool passed = world->ctx->backend->event_done(world->ctx, w->event);
    if (passed)
        w->event = NULL;
    if (world->ctx->status) {
        fbi_world_tell(world, &w->sig);
        w->pinned = NULL;
        w->failed = w->done = true;
        return false;
    }
    return passed;
}

void fbi_device_end(fb_work *w)
{
    fb_context *ctx = w->group->world->ctx;
    if (w->result_bytes && !w->failed) {
        w->failed = ctx->backend->copy_on(ctx, FBI_QUEUE_COMPUTE, w->device_dst, w->task.dst,
                                          w->result_bytes) != 0;
        w->pinned->event = w->failed ? NULL : ctx->backend->event_record_on(ctx, FBI_QUEUE_COMPUTE);
    }
    give_pinned(w->group->world, w->pinned);
    w->pinned = NULL;
}

void fbi_device_abandon(fb_work *w)
{
    fb_context *ctx = w->group->world->ctx;
    if (w->event)
        ctx->backend->event_drop(ctx, w->event);
    w->event = NULL;
    w->pinned = NULL;
}

void fbi_device_free(fb_world *world)
{
    if (world->pinned)
        world->ctx->backend->sync(world->ctx);
    for (fbi_pinned *p = world->pinned, *next; p; p = next) {
        next = p->next;
        if (p->event)
            world->ctx->backend->event_drop(world->ctx, p->event);
        free_pinned(world->ctx, p);
    }
    world->pinned = NULL;
}
