#include "core/tensor/alloc_priv.h"

#include <stdlib.h>

#include "core/tensor/device_priv.h"

/* 64, 128 .. 512 bytes, then eight classes per power of two: at most 1/8 of a block above 512
 * bytes is unused. The last class is 1 TiB. */
enum { CLASSES = 256, FIRST = 64, LINEAR = 8 };

typedef struct free_list {
    void **blocks;
    uint32_t n, cap;
} free_list;

struct fbi_alloc {
    free_list free[CLASSES];
    fb_memory_stats stats;
    int64_t fail_at;
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

fbi_alloc *fbi_alloc_new(void)
{
    return calloc(1, sizeof(fbi_alloc));
}

void fbi_alloc_fail_at(fb_context *ctx, int64_t n)
{
    ctx->alloc->fail_at = n;
}

static void trim(fb_context *ctx)
{
    fbi_alloc *a = ctx->alloc;
    for (int k = 0; k < CLASSES; k++) {
        free_list *f = &a->free[k];
        while (f->n > 0) {
            ctx->backend->free(ctx, f->blocks[--f->n], class_bytes(k));
            a->stats.reserved -= class_bytes(k);
        }
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
    free(ctx->alloc);
    ctx->alloc = NULL;
}

/* Bytes that the system is asked for. */
static size_t taken(const fb_context *ctx, size_t bytes, int klass)
{
    return ctx->backend->exact_memory ? (bytes ? bytes : 1) : class_bytes(klass);
}

/* From the system; once more after giving back what lies unused. */
static void *fresh(fb_context *ctx, size_t bytes)
{
    fbi_alloc *a = ctx->alloc;
    a->stats.system_allocations++;
    void *p = ctx->backend->alloc(ctx, bytes);
    if (!p && a->stats.reserved > 0) {
        ctx->backend->sync(ctx); /* blocks may still be in the queue of a device */
        trim(ctx);
        a->stats.system_allocations++;
        p = ctx->backend->alloc(ctx, bytes);
    }
    if (p)
        a->stats.reserved += bytes;
    return p;
}

static void no_memory(fb_context *ctx, size_t bytes)
{
    const fb_memory_stats *s = &ctx->alloc->stats;
    fbi_fail(ctx, FB_E_NOMEM,
             "memory: %zu bytes wanted on %s: %zu in use, peak %zu, %zu reserved: use a smaller "
             "micro-batch, more ranks or fb_checkpoint_call",
             bytes, ctx->device_name, s->in_use, s->peak, s->reserved);
}

void *fbi_block_get(fb_context *ctx, size_t bytes, uint8_t *klass)
{
    fbi_alloc *a = ctx->alloc;
    int k = class_of(bytes);
    bool refused = a->fail_at > 0 && --a->fail_at == 0;
    void *p = NULL;
    if (k < CLASSES && !refused)
        p = a->free[k].n > 0 ? a->free[k].blocks[--a->free[k].n] : fresh(ctx, taken(ctx, bytes, k));
    if (!p) {
        no_memory(ctx, bytes);
        return NULL;
    }
    *klass = (uint8_t)k;
    a->stats.in_use += bytes;
    if (a->stats.in_use > a->stats.peak)
        a->stats.peak = a->stats.in_use;
    a->stats.blocks++;
    a->stats.allocations++;
    return p;
}

void fbi_block_put(fb_context *ctx, void *data, size_t bytes, uint8_t klass)
{
    fbi_alloc *a = ctx->alloc;
    free_list *f = &a->free[klass];
    a->stats.in_use -= bytes;
    a->stats.blocks--;
    if (ctx->backend->exact_memory) {
        ctx->backend->free(ctx, data, bytes);
        a->stats.reserved -= taken(ctx, bytes, klass);
        return;
    }
    if (f->n == f->cap) {
        uint32_t cap = f->cap ? f->cap * 2 : 8;
        void **p = realloc(f->blocks, cap * sizeof *p);
        if (!p) { /* no room to remember it: the system gets it back */
            ctx->backend->free(ctx, data, class_bytes(klass));
            a->stats.reserved -= class_bytes(klass);
            return;
        }
        f->blocks = p;
        f->cap = cap;
    }
    f->blocks[f->n++] = data;
}

FB_API fb_status fb_memory_stats_of(fb_context *ctx, fb_memory_stats *stats)
{
    if (!ctx)
        return FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!stats)
        return fbi_fail(ctx, FB_E_ARG, "memory_stats_of: stats is NULL");
    *stats = ctx->alloc->stats;
    stats->handles = ctx->live_handles;
    stats->nodes = ctx->live_nodes;
    return FB_OK;
}

FB_API void fb_memory_reset_peak(fb_context *ctx)
{
    if (ctx)
        ctx->alloc->stats.peak = ctx->alloc->stats.in_use;
}

FB_API void fb_memory_trim(fb_context *ctx)
{
    if (!ctx)
        return;
    ctx->backend->sync(ctx);
    trim(ctx);
}
