#include "core/tensor/slab_priv.h"

#include <stdlib.h>
#include <string.h>

/* A freed handle rests until this many others have been freed, so that late uses of it are seen. */
enum { HANDLE_REST = 256, CHUNK_BYTES = 64 * 1024, HANDLES = CHUNK_BYTES / 192, NODE_CLASSES = 12 };

typedef struct chunk {
    struct chunk *next;
    void *pieces; /* 64-byte aligned */
} chunk;

typedef struct piece {
    struct piece *next;
} piece;

struct fbi_slabs {
    chunk *handle_chunks, *other_chunks;
    fb_tensor *oldest, *newest; /* queue of free handles, linked through `leaf` */
    uint32_t resting;
    fbi_storage *storages;
    piece *nodes[NODE_CLASSES];
    const void *releasing;
};

static void free_chunks(chunk *c)
{
    while (c) {
        chunk *next = c->next;
        free(c->pieces);
        free(c);
        c = next;
    }
}

fbi_slabs *fbi_slabs_new(void)
{
    return calloc(1, sizeof(fbi_slabs));
}

void fbi_slabs_free(fbi_slabs *slabs)
{
    if (!slabs)
        return;
    free_chunks(slabs->handle_chunks);
    free_chunks(slabs->other_chunks);
    free(slabs);
}

/* A zeroed chunk in front of the list; NULL: error is set. */
static void *new_chunk(fb_context *ctx, chunk **list, const char *what)
{
    chunk *c = malloc(sizeof *c);
    void *pieces = c ? aligned_alloc(64, CHUNK_BYTES) : NULL;
    if (!pieces) {
        free(c);
        fbi_fail(ctx, FB_E_NOMEM, "memory: no room for %s: close scopes, or use less memory", what);
        return NULL;
    }
    memset(pieces, 0, CHUNK_BYTES);
    *c = (chunk){*list, pieces};
    *list = c;
    return pieces;
}

/* --- handles: first in, first out --- */

static fb_tensor *link_of(const fb_tensor *t)
{
    return (fb_tensor *)(void *)t->leaf;
}

static void put_newest(fbi_slabs *s, fb_tensor *t)
{
    t->leaf = NULL;
    if (s->newest)
        s->newest->leaf = (fbi_leaf *)(void *)t;
    else
        s->oldest = t;
    s->newest = t;
    s->resting++;
}

fb_tensor *fbi_slab_handle(fb_context *ctx)
{
    fbi_slabs *s = ctx->slabs;
    if (s->resting <= HANDLE_REST) {
        fb_tensor *t = new_chunk(ctx, &s->handle_chunks, "handles");
        if (!t)
            return NULL;
        for (int i = 0; i < HANDLES; i++)
            put_newest(s, &t[i]);
    }
    fb_tensor *t = s->oldest;
    s->oldest = link_of(t);
    s->resting--;
    memset(t, 0, sizeof *t);
    t->ctx = ctx;
    t->refs = 1;
    t->flags = FBI_T_LIVE;
    t->slot = FBI_NO_SLOT;
    t->numel = 1;
    ctx->live_handles++;
    return t;
}

void fbi_slab_handle_free(fb_context *ctx, fb_tensor *t)
{
    t->flags = 0;
    t->refs = 0;
    t->slot = FBI_NO_SLOT;
    t->storage = NULL;
    t->node = (fbi_node *)(uintptr_t)ctx->slabs->releasing;
    put_newest(ctx->slabs, t);
    ctx->live_handles--;
}

void fbi_slab_each_handle(fb_context *ctx, void (*fn)(fb_tensor *t, void *arg), void *arg)
{
    for (chunk *c = ctx->slabs->handle_chunks; c; c = c->next) {
        fb_tensor *t = c->pieces;
        for (int i = 0; i < HANDLES; i++)
            if (t[i].flags & FBI_T_LIVE)
                fn(&t[i], arg);
    }
}

void fbi_slab_releasing(fb_context *ctx, const void *site)
{
    ctx->slabs->releasing = site;
}

const void *fbi_slab_released_at(const fb_tensor *t)
{
    return t->flags & FBI_T_LIVE ? NULL : (const void *)t->node;
}

/* --- storages: last in, first out --- */

fbi_storage *fbi_slab_storage(fb_context *ctx)
{
    fbi_slabs *s = ctx->slabs;
    if (!s->storages) {
        fbi_storage *fresh = new_chunk(ctx, &s->other_chunks, "storages");
        if (!fresh)
            return NULL;
        for (size_t i = CHUNK_BYTES / sizeof *fresh; i-- > 0;) {
            fresh[i].next = s->storages;
            s->storages = &fresh[i];
        }
    }
    fbi_storage *got = s->storages;
    s->storages = got->next;
    memset(got, 0, sizeof *got);
    return got;
}

void fbi_slab_storage_free(fb_context *ctx, fbi_storage *s)
{
    s->data = NULL;
    s->next = ctx->slabs->storages;
    ctx->slabs->storages = s;
}

/* --- nodes by size class --- */

static size_t node_class_bytes(int klass)
{
    static const size_t small[] = {128, 192, 256, 384};
    return klass < 4 ? small[klass] : (size_t)512 << (klass - 4);
}

/* NODE_CLASSES: larger than any class. */
static int node_class(size_t bytes)
{
    int klass = 0;
    while (klass < NODE_CLASSES && node_class_bytes(klass) < bytes)
        klass++;
    return klass;
}

static bool refill_nodes(fb_context *ctx, int klass)
{
    fbi_slabs *s = ctx->slabs;
    size_t bytes = node_class_bytes(klass);
    char *fresh = new_chunk(ctx, &s->other_chunks, "graph nodes");
    if (!fresh)
        return false;
    for (size_t at = CHUNK_BYTES / bytes * bytes; at > 0; at -= bytes) {
        piece *p = (piece *)(void *)(fresh + at - bytes);
        p->next = s->nodes[klass];
        s->nodes[klass] = p;
    }
    return true;
}

void *fbi_slab_node(fb_context *ctx, size_t bytes)
{
    int klass = node_class(bytes);
    void *node = NULL;
    if (klass == NODE_CLASSES) {
        node = calloc(1, bytes);
        if (!node)
            fbi_fail(ctx, FB_E_NOMEM, "memory: no room for a graph node of %zu bytes", bytes);
    } else if (ctx->slabs->nodes[klass] || refill_nodes(ctx, klass)) {
        piece *p = ctx->slabs->nodes[klass];
        ctx->slabs->nodes[klass] = p->next;
        node = memset(p, 0, bytes);
    }
    ctx->live_nodes += node != NULL;
    return node;
}

void fbi_slab_node_free(fb_context *ctx, void *node, size_t bytes)
{
    int klass = node_class(bytes);
    ctx->live_nodes--;
    if (klass == NODE_CLASSES) {
        free(node);
        return;
    }
    piece *p = node;
    p->next = ctx->slabs->nodes[klass];
    ctx->slabs->nodes[klass] = p;
}
