/* Works between devices: what they ask the library for, one call after the other, each when the one
 * before is in the communication queue. All links of a rank share that queue, so works set out in
 * the order in which they were started, whatever their groups. Sums of fixed order need to know
 * which pieces there are, so they wait for the signatures; everything else does not. */
#include "comm/link_priv.h"

#include <stdlib.h>

#include "comm/mail_priv.h"
#include "comm/shm_priv.h"

static const fbi_device_comm *comm_of(const fb_work *w)
{
    return w->group->world->ctx->backend->comm;
}

static bool is_float(fb_dtype dtype)
{
    return dtype == FB_F32 || dtype == FB_F64 || dtype == FB_F16 || dtype == FB_BF16;
}

/* Whether the library's own reduction would not do. */
static bool is_fixed(const fb_work *w)
{
    const fbi_task *t = &w->task;
    bool ordered = is_float(t->dtype) && (t->op == FB_SUM || t->op == FB_PROD);
    return fbi_is_reduction((int)t->kind) &&
           ((ordered && w->group->world->shards) || t->dtype != t->out_dtype ||
            !comm_of(w)->reduces((int)t->op, t->dtype));
}

bool fbi_link_serves(const fb_work *w)
{
    if (!w->task.on_device || !w->group->link)
        return false;
    switch (w->task.kind) {
    case FBI_KIND_ALL_REDUCE:
    case FBI_KIND_REDUCE_SCATTER:
    case FBI_KIND_GRADIENTS:
    case FBI_KIND_ALL_GATHER:
    case FBI_KIND_ALL_TO_ALL:
    case FBI_KIND_BROADCAST:
        return true;
    default:
        /* A transfer would hold up the queue until the other rank comes, and two ranks that send
         * to each other first would wait for ever where nobody sees it: pairs go by the host. */
        return false;
    }
}

bool fbi_link_begin(fb_work *w)
{
    fb_context *ctx = w->group->world->ctx;
    fbi_task *t = &w->task;
    w->linked = true;
    w->fixed = is_fixed(w);
    w->calls = t->count > 0;
    if (w->fixed && t->count && !fbi_link_fixed_begin(w))
        return false;
    if (fbi_is_reduction((int)t->kind) && !w->fixed && !t->src[0] && t->count) {
        /* An absent rank, and no promise of bits: zeros do. */
        if (ctx->backend->fill_zero(ctx, t->dst, (size_t)t->count * w->size))
            return false;
        t->src[0] = t->dst;
    }
    w->ready = ctx->backend->event_record_on(ctx, FBI_QUEUE_COMPUTE);
    return w->ready != NULL;
}

/* --- one call --- */

static bool reserve(fb_world *world, int64_t n, fbi_transfers *t)
{
    if (world->transfers_cap < n) {
        free(world->transfers);
        world->transfers = malloc((size_t)n * sizeof(fbi_link_transfer));
        world->transfers_cap = world->transfers ? n : 0;
    }
    *t = (fbi_transfers){world->transfers, 0};
    return t->list != NULL;
}

fb_status fbi_link_exchange(fb_work *w, void (*list)(fb_work *, fbi_transfers *), int64_t most)
{
    fbi_transfers t;
    if (!reserve(w->group->world, most, &t))
        return fbi_fail(w->group->world->ctx, FB_E_NOMEM, "no memory");
    list(w, &t);
    if (t.n == 0)
        return FB_OK;
    const fbi_link_call call = {.kind = FBI_LINK_EXCHANGE, .transfers = t.list, .n = t.n};
    return comm_of(w)->start(w->group->link, &call);
}

static void list_parts(fb_work *w, fbi_transfers *t)
{
    int64_t part = w->task.count / w->group->size;
    for (int r = 0; r < w->group->size; r++) {
        fbi_transfers_add(t, r, true, fbi_work_src(w, 0, r * part), (size_t)part * w->size);
        fbi_transfers_add(t, r, false, fbi_work_dst(w, r * part), (size_t)part * w->size);
    }
}

static fb_status one_call(fb_work *w)
{
    const fbi_task *t = &w->task;
    fbi_link_call call = {.op = (int)t->op,
                          .root = t->root,
                          .dtype = t->dtype,
                          .count = t->count,
                          .src = t->src[0],
                          .dst = t->dst};
    if (t->kind == FBI_KIND_ALL_TO_ALL)
        return fbi_link_exchange(w, list_parts, 2 * (int64_t)w->group->size);
    if (w->fixed)
        return fbi_link_fixed_call(w);
    if (t->kind == FBI_KIND_ALL_GATHER)
        call.kind = FBI_LINK_ALL_GATHER;
    else if (t->kind == FBI_KIND_BROADCAST)
        call.kind = FBI_LINK_BROADCAST;
    else if (t->kind == FBI_KIND_REDUCE_SCATTER)
        call.kind = FBI_LINK_REDUCE_SCATTER;
    if (t->kind == FBI_KIND_REDUCE_SCATTER)
        call.count /= w->group->size;
    return comm_of(w)->start(w->group->link, &call);
}

/* --- progress --- */

static void fail(fb_work *w)
{
    fb_world *world = w->group->world;
    const char *reason =
        world->ctx->status ? fb_error_message(world->ctx) : comm_of(w)->reason(world->ctx);
    w->failed = w->done = true;
    fbi_link_failed(world, &w->sig, reason);
}

/* Works that were started before it are in the queue. */
static bool is_next(const fb_work *w)
{
    for (const fb_work *f = w->group->world->flying; f && f != w; f = f->next)
        if (f->linked && !f->launched && !f->done)
            return false;
    return true;
}

static void launch(fb_work *w)
{
    fb_world *world = w->group->world;
    const fbi_backend *backend = world->ctx->backend;
    if (w->ready && w->call == 0)
        backend->wait(world->ctx, FBI_WAIT_COLLECTIVE_INPUT, w->ready);
    w->ready = NULL;
    world->last_link = w->sig;
    while (w->asked || w->call < w->calls) {
        fb_status st = w->asked ? comm_of(w)->poll(w->group->link) : one_call(w);
        w->asked = st == FB_AGAIN;
        if (w->asked)
            return;
        if (st) {
            fail(w);
            return;
        }
        w->call++;
    }
    w->passed = backend->event_record_on(world->ctx, FBI_QUEUE_COMM);
    w->launched = true;
    if (!w->passed)
        fail(w);
}

static void advance_header(fb_work *w)
{
    if (!w->done && w->mail_used)
        fbi_mail_advance(w);
    else if (!w->done)
        fbi_shm_advance(w);
    w->headed = w->done && !w->failed;
    w->done = w->failed;
}

void fbi_link_advance(fb_work *w)
{
    if (!w->headed)
        advance_header(w);
    if (w->done || !w->group->link)
        return;
    if (!w->launched && (w->headed || !w->fixed) && is_next(w))
        launch(w);
    w->done = w->failed || (w->headed && w->launched);
}

static bool has_left(void *self)
{
    const fb_work *w = self;
    return w->launched || w->done;
}

fb_status fbi_link_finish(fb_work *w)
{
    fb_world *world = w->group->world;
    fb_status status = FB_OK;
    if (!has_left(w))
        status = fbi_link_wait(world, has_left, w);
    if (!status && !w->failed && w->passed)
        status = world->ctx->backend->wait(world->ctx, FBI_WAIT_COLLECTIVE_RESULT, w->passed);
    else if (w->passed)
        world->ctx->backend->event_drop(world->ctx, w->passed);
    w->passed = NULL;
    fbi_link_release(w);
    return status ? status : w->failed ? FB_E_COMM : FB_OK;
}

bool fbi_link_passed(fb_work *w)
{
    fb_context *ctx = w->group->world->ctx;
    if (!w->launched)
        return false;
    if (w->passed && ctx->backend->event_done(ctx, w->passed))
        w->passed = NULL;
    return !w->passed;
}

void fbi_link_release(fb_work *w)
{
    fb_context *ctx = w->group->world->ctx;
    if (w->ready)
        ctx->backend->event_drop(ctx, w->ready);
    if (w->passed)
        ctx->backend->event_drop(ctx, w->passed);
    if (w->scratch)
        fbi_storage_unref(ctx, w->scratch);
    w->ready = w->passed = NULL;
    w->scratch = NULL;
}
