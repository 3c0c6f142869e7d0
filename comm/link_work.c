/* Works between devices: what they ask the library for, one call after the other, each when the one
 * before is in the communication queue. All links of a rank share that queue, so works set out in
 * the order in which they were started, whatever their groups.
 *
 * Sums of fixed order are made of transfers: every rank gets the pieces of its part, adds them
 * along the tree, and sends the result to all. They need to know which pieces there are, so they
 * wait for the signatures; everything else does not. */
#include "comm/link_priv.h"

#include <stdlib.h>

#include "comm/mail_priv.h"
#include "comm/shm_priv.h"

enum { LINE = 64 }; /* elements: parts and rounds are multiples */

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

/* --- plans --- */

static int64_t divide_up(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

static int calls_of_round(const fb_work *w)
{
    return w->task.kind == FBI_KIND_REDUCE_SCATTER ? 2 : 3;
}

/* Pieces of other ranks that come in at once. */
static int64_t slots_of(const fb_work *w)
{
    const fbi_layout *l = w->task.layout;
    int me = w->group->rank;
    return l->n - (l->first[me + 1] - l->first[me]);
}

static bool plan_fixed(fb_work *w)
{
    fb_world *world = w->group->world;
    int64_t size = w->group->size, n = w->task.layout->n;
    bool scatter = w->task.kind == FBI_KIND_REDUCE_SCATTER;
    w->part = divide_up(w->task.count, size);
    if (!scatter)
        w->part = divide_up(w->part, LINE) * LINE;
    /* Rounds are the same on every rank, whatever its pieces. */
    int64_t each = n * (int64_t)w->size + (int64_t)fbi_link_sum_bytes(w->task.dtype, (int)n);
    w->chunk = world->link_room / each / LINE * LINE;
    if (w->chunk < LINE)
        w->chunk = LINE;
    if (w->chunk > w->part)
        w->chunk = divide_up(w->part, LINE) * LINE;
    w->calls = (int)divide_up(w->part, w->chunk) * calls_of_round(w);
    w->scratch = fbi_storage_new(world->ctx, (size_t)(w->chunk * each));
    return w->scratch != NULL;
}

bool fbi_link_begin(fb_work *w)
{
    fb_context *ctx = w->group->world->ctx;
    fbi_task *t = &w->task;
    w->linked = true;
    w->fixed = is_fixed(w);
    w->calls = t->count > 0;
    if (w->fixed && t->count && !plan_fixed(w))
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

typedef struct transfers {
    fbi_link_transfer *list;
    int n;
} transfers;

static void add(transfers *t, int peer, bool out, const void *data, size_t bytes)
{
    if (bytes)
        t->list[t->n++] = (fbi_link_transfer){peer, out, (void *)(uintptr_t)data, bytes};
}

static bool reserve(fb_world *world, int n, transfers *t)
{
    if (world->transfers_cap < n) {
        free(world->transfers);
        world->transfers = malloc((size_t)n * sizeof(fbi_link_transfer));
        world->transfers_cap = world->transfers ? n : 0;
    }
    *t = (transfers){world->transfers, 0};
    return t->list != NULL;
}

/* Elements of rank r's part that belong to this round. */
static int64_t round_of(const fb_work *w, int r, int64_t *at)
{
    int64_t begin, end;
    fbi_work_part(w, r, &begin, &end);
    *at = begin + (int64_t)(w->call / calls_of_round(w)) * w->chunk;
    if (*at > end)
        *at = end;
    return end - *at < w->chunk ? end - *at : w->chunk;
}

/* Where piece k of the layout, of another rank, comes in. */
static char *incoming(const fb_work *w, int k)
{
    const fbi_layout *l = w->task.layout;
    int me = w->group->rank;
    int64_t slot = k < l->first[me] ? k : k - (l->first[me + 1] - l->first[me]);
    return (char *)w->scratch->data + (size_t)(slot * w->chunk) * w->size;
}

static void list_pieces(fb_work *w, transfers *t)
{
    const fbi_layout *l = w->task.layout;
    int me = w->group->rank;
    int64_t at, own = round_of(w, me, &at);
    for (int r = 0; r < w->group->size; r++) {
        if (r == me)
            continue;
        for (int k = l->first[r]; k < l->first[r + 1]; k++)
            if (w->present[r] >> (k - l->first[r]) & 1)
                add(t, r, false, incoming(w, k), (size_t)own * w->size);
        int64_t n = round_of(w, r, &at);
        for (int i = 0; i < w->task.n_src; i++)
            if (w->task.src[i])
                add(t, r, true, fbi_work_src(w, i, at), (size_t)n * w->size);
    }
}

static void list_results(fb_work *w, transfers *t)
{
    int me = w->group->rank;
    int64_t at, own_at, own = round_of(w, me, &own_at);
    for (int r = 0; r < w->group->size; r++) {
        int64_t n = round_of(w, r, &at);
        if (r == me)
            continue;
        add(t, r, true, fbi_work_dst(w, own_at), (size_t)own * w->out_size);
        add(t, r, false, fbi_work_dst(w, at), (size_t)n * w->out_size);
    }
}

static void list_parts(fb_work *w, transfers *t)
{
    int64_t part = w->task.count / w->group->size;
    for (int r = 0; r < w->group->size; r++) {
        add(t, r, true, fbi_work_src(w, 0, r * part), (size_t)part * w->size);
        add(t, r, false, fbi_work_dst(w, r * part), (size_t)part * w->size);
    }
}

static fb_status exchange(fb_work *w, void (*list)(fb_work *, transfers *))
{
    transfers t;
    if (!reserve(w->group->world, 2 * (w->task.layout->n + FBI_MAX_PIECES * w->group->size), &t))
        return fbi_fail(w->group->world->ctx, FB_E_NOMEM, "no memory");
    list(w, &t);
    if (t.n == 0)
        return FB_OK;
    const fbi_link_call call = {.kind = FBI_LINK_EXCHANGE, .transfers = t.list, .n = t.n};
    return comm_of(w)->start(w->group->link, &call);
}

static fb_status add_up(fb_work *w)
{
    const fbi_layout *l = w->task.layout;
    int me = w->group->rank;
    int64_t at, begin, end, n = round_of(w, me, &at);
    fbi_work_part(w, me, &begin, &end);
    for (int k = 0; k < l->n; k++) {
        int i = k - l->first[me];
        bool own = k >= l->first[me] && k < l->first[me + 1];
        w->operands[k] = !own ? incoming(w, k) : w->task.src[i] ? fbi_work_src(w, i, at) : NULL;
    }
    int64_t to = w->task.kind == FBI_KIND_REDUCE_SCATTER ? at - begin : at;
    char *temporary = (char *)w->scratch->data + (size_t)(slots_of(w) * w->chunk) * w->size;
    return n ? fbi_link_sum(w, fbi_work_dst(w, to), n, temporary) : FB_OK;
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
        return exchange(w, list_parts);
    if (w->fixed) {
        int phase = w->call % calls_of_round(w);
        return phase == 1 ? add_up(w) : exchange(w, phase ? list_results : list_pieces);
    }
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
