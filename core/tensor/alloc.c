#include "core/tensor/alloc_priv.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/pages_priv.h"
#include "core/tensor/device_priv.h"

/* 64, 128 .. 512 bytes, then eight classes per power of two: at most 1/8 of a block above 512
 * bytes is unused. The last class is 1 TiB. */
enum { CLASSES = 256, FIRST = 64, LINEAR = 8 };

/* A block of the host that is used again for the STEADY-th time gets huge pages: a loop uses it. At
 * the first use they would make the first step wait. */
enum { STEADY = 3 };

/* Queues that memory is given to: COMPUTE and COPY. */
enum { HOMES = FBI_QUEUE_COPY + 1 };
static const fbi_wait_id reuse_waits[HOMES] = {FBI_WAIT_REUSE_COMPUTE, FBI_WAIT_REUSE_COPY};

/* What another queue still does with a block. */
struct fbi_use {
    struct fbi_use *next;
    void *event;
    fbi_queue queue;
};

typedef struct free_block {
    void *data;
    fbi_use *uses;
    uint8_t reuses; /* up to STEADY */
} free_block;

typedef struct free_list {
    free_block *blocks;
    uint32_t n, cap;
} free_list;

struct fbi_alloc {
    free_list free[HOMES][CLASSES];
    fb_memory_stats stats;
    fbi_use *spare;
    int64_t fail_at;
    bool kept; /* although the backend has exact_memory, see fbi_alloc_exact */
};

static size_t class_bytes(int klass)
{
    if (klass < LINEAR)
        return (size_t)FIRST * (size_t)(klass + 1);
    int octave = (klass - LINEAR) / 8, step = (klass - LINEAR) % 8;
    return (size_t)(8 + step + 1) * FIRST << octave;
}

/* CLASSES: larger than any. */
static int class_of(size_t bytes)
{
    if (bytes <= (size_t)FIRST * LINEAR)
        return bytes ? (int)((bytes - 1) / FIRST) : 0;
    int top = 63 - __builtin_clzll(bytes - 1); /* 2^top < bytes <= 2^(top + 1) */
    int octave = top - 9;
    int step = (int)((bytes - 1) >> (top - 3)) - 8;
    int klass = LINEAR + octave * 8 + step;
    return klass < CLASSES ? klass : CLASSES;
}

size_t fbi_block_bytes(size_t bytes)
{
    int klass = class_of(bytes);
    return klass < CLASSES ? class_bytes(klass) : 0;
}

/* FLAMBEAU_EXACT_MEMORY=off: the simulated card's blocks are kept, too. */
fbi_alloc *fbi_alloc_new(void)
{
    fbi_alloc *a = calloc(1, sizeof *a);
    const char *exact = getenv("FLAMBEAU_EXACT_MEMORY");
    if (a)
        a->kept = exact && !strcmp(exact, "off");
    return a;
}

void fbi_alloc_fail_at(fb_context *ctx, int64_t n)
{
    ctx->alloc->fail_at = n;
}

void fbi_alloc_exact(fb_context *ctx, bool exact)
{
    ctx->alloc->kept = !exact;
}

static bool exact(const fb_context *ctx)
{
    return ctx->backend->exact_memory && !ctx->alloc->kept;
}

/* --- uses by other queues --- */

fb_status fbi_uses_add(fb_context *ctx, fbi_queue home, fbi_use **uses, fbi_queue queue,
                       void *event)
{
    fbi_alloc *a = ctx->alloc;
    for (fbi_use *u = *uses; u; u = u->next) {
        if (u->queue != queue)
            continue;
        ctx->backend->event_drop(ctx, u->event); /* the later one of a queue passes later */
        u->event = event;
        return FB_OK;
    }
    fbi_use *u = a->spare;
    if (u)
        a->spare = u->next;
    else
        u = malloc(sizeof *u);
    if (!u) /* no room to remember it: wait at once */
        return ctx->backend->wait(ctx, reuse_waits[home], event);
    *u = (fbi_use){*uses, event, queue};
    *uses = u;
    return FB_OK;
}

void fbi_uses_settle(fb_context *ctx, fbi_queue home, fbi_use *uses)
{
    for (fbi_use *u = uses, *next; u; u = next) {
        next = u->next;
        ctx->backend->wait(ctx, reuse_waits[home], u->event); /* an error stays in the context */
        u->next = ctx->alloc->spare;
        ctx->alloc->spare = u;
    }
}

/* --- blocks --- */

/* Give a block back to the system, in the order of its queue. */
static void give_back(fb_context *ctx, fbi_queue home, free_block b, size_t bytes)
{
    fbi_uses_settle(ctx, home, b.uses);
    ctx->backend->free(ctx, home, b.data, bytes);
    ctx->alloc->stats.reserved -= bytes;
}

static void trim(fb_context *ctx)
{
    for (int home = 0; home < HOMES; home++)
        for (int k = 0; k < CLASSES; k++) {
            free_list *f = &ctx->alloc->free[home][k];
            while (f->n > 0)
                give_back(ctx, (fbi_queue)home, f->blocks[--f->n], class_bytes(k));
            free(f->blocks);
            *f = (free_list){0};
        }
}

void fbi_alloc_free(fb_context *ctx)
{
    if (!ctx->alloc)
        return;
    if (ctx->backend)
        trim(ctx);
    for (fbi_use *u = ctx->alloc->spare, *next; u; u = next) {
        next = u->next;
        free(u);
    }
    free(ctx->alloc);
    ctx->alloc = NULL;
}

/* Bytes that the system is asked for. */
static size_t taken(const fb_context *ctx, size_t bytes, int klass)
{
    return exact(ctx) ? (bytes ? bytes : 1) : class_bytes(klass);
}

/* From the system; once more after giving back what lies unused. */
static void *fresh(fb_context *ctx, fbi_queue home, size_t bytes)
{
    fbi_alloc *a = ctx->alloc;
    a->stats.system_allocations++;
    void *p = ctx->backend->alloc(ctx, home, bytes);
    if (!p && a->stats.reserved > 0) {
        trim(ctx);
        ctx->backend->sync(ctx); /* it is given back in the order of its queue */
        a->stats.system_allocations++;
        a->stats.retries++;
        p = ctx->backend->alloc(ctx, home, bytes);
    }
    if (p)
        a->stats.reserved += bytes;
    if (a->stats.reserved > a->stats.reserved_peak)
        a->stats.reserved_peak = a->stats.reserved;
    return p;
}

/* One that was used before. */
static void *again(fb_context *ctx, fbi_queue home, free_list *f, fbi_storage *s)
{
    free_block b = f->blocks[--f->n];
    fbi_uses_settle(ctx, home, b.uses);
    s->reuses = b.reuses < STEADY ? (uint8_t)(b.reuses + 1) : b.reuses;
    if (s->reuses != b.reuses && s->reuses == STEADY && ctx->backend->host_memory)
        fbi_pages_join(b.data, s->bytes);
    return b.data;
}

bool fbi_block_get(fb_context *ctx, fbi_storage *s)
{
    fbi_alloc *a = ctx->alloc;
    fbi_queue home = (fbi_queue)s->queue;
    int k = class_of(s->bytes);
    bool refused = a->fail_at > 0 && --a->fail_at == 0;
    s->reuses = 0;
    s->data = NULL;
    if (k < CLASSES && !refused && a->free[home][k].n > 0)
        s->data = again(ctx, home, &a->free[home][k], s);
    else if (k < CLASSES && !refused)
        s->data = fresh(ctx, home, taken(ctx, s->bytes, k));
    if (!s->data) {
        a->stats.failures++;
        fbi_out_of_memory(ctx, s->bytes, &a->stats);
        return false;
    }
    s->klass = (uint8_t)k;
    a->stats.in_use += s->bytes;
    if (a->stats.in_use > a->stats.peak)
        a->stats.peak = a->stats.in_use;
    a->stats.blocks++;
    a->stats.allocations++;
    return true;
}

void fbi_block_put(fb_context *ctx, fbi_storage *s)
{
    fbi_alloc *a = ctx->alloc;
    fbi_queue home = (fbi_queue)s->queue;
    free_block b = {s->data, s->uses, s->reuses};
    free_list *f = &a->free[home][s->klass];
    a->stats.in_use -= s->bytes;
    a->stats.blocks--;
    if (exact(ctx)) {
        give_back(ctx, home, b, taken(ctx, s->bytes, s->klass));
        return;
    }
    if (f->n == f->cap) {
        uint32_t cap = f->cap ? f->cap * 2 : 8;
        free_block *p = realloc(f->blocks, cap * sizeof *p);
        if (!p) { /* no room to remember it: the system gets it back */
            give_back(ctx, home, b, class_bytes(s->klass));
            return;
        }
        f->blocks = p;
        f->cap = cap;
    }
    f->blocks[f->n++] = b;
}

FB_API fb_status fb_memory_stats_of(fb_context *ctx, fb_memory_stats *stats)
{
    if (!ctx)
        return FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!stats)
        return fbi_fail(ctx, FB_E_ARG, "memory_stats_of: stats is NULL");
    *stats = ctx->alloc->stats;
    if (ctx->backend->memory) {
        fbi_device_memory m = {0};
        ctx->backend->memory(ctx, &m);
        stats->device_free = m.unused;
        stats->device_total = m.total;
        stats->pinned = m.pinned;
    }
    stats->handles = ctx->live_handles;
    stats->nodes = ctx->live_nodes;
    return FB_OK;
}

FB_API void fb_memory_reset_peak(fb_context *ctx)
{
    if (!ctx)
        return;
    ctx->alloc->stats.peak = ctx->alloc->stats.in_use;
    ctx->alloc->stats.reserved_peak = ctx->alloc->stats.reserved;
}

FB_API void fb_memory_trim(fb_context *ctx)
{
    if (!ctx)
        return;
    trim(ctx);
    ctx->backend->sync(ctx);
}
