/* Ranks that attach a model must have built the same one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "core/base/log_priv.h"
#include "core/tensor/access_priv.h"
#include "core/tensor/device_priv.h"
#include "parallel/ddp_priv.h"

enum { TEXT = 192 };

/* A parameter or buffer as the ranks compare it. */
typedef struct entry {
    uint64_t shape, values; /* hashes: of name, dtype and sizes; of the elements */
    char text[TEXT];        /* "fc.weight F32 [10, 784]" */
} entry;

typedef struct list {
    fb_context *ctx;
    entry *e;
    fb_tensor **t;
    int n, cap;
    void *room; /* for the elements of a tensor */
    size_t room_bytes;
} list;

static bool grow(list *l)
{
    if (l->n < l->cap)
        return true;
    int cap = l->cap ? 2 * l->cap : 64;
    entry *e = realloc(l->e, (size_t)cap * sizeof *e);
    if (e)
        l->e = e;
    fb_tensor **t = realloc(l->t, (size_t)cap * sizeof(fb_tensor *));
    if (t)
        l->t = t;
    if (e && t)
        l->cap = cap;
    return e && t;
}

static size_t bytes_of(const fb_tensor *t)
{
    return (size_t)fb_numel(t) * fb_dtype_size(fb_dtype_of(t));
}

/* Hash of the elements; the context's status tells whether they could be read. */
static uint64_t hash_of(list *l, fb_tensor *t)
{
    size_t bytes = bytes_of(t);
    if (!bytes)
        return 0;
    if (l->ctx->backend->host_memory)
        return XXH3_64bits(fbi_ptr(t), bytes);
    void *room = l->room_bytes < bytes ? realloc(l->room, bytes) : l->room;
    if (!room) {
        fbi_fail(l->ctx, FB_E_NOMEM, "ddp_attach: no memory for a copy of %zu bytes", bytes);
        return 0;
    }
    l->room = room;
    l->room_bytes = l->room_bytes < bytes ? bytes : l->room_bytes;
    return fbi_copy_to_host(t, room) ? 0 : XXH3_64bits(room, bytes);
}

static fb_status add(const char *name, fb_tensor *t, void *user)
{
    list *l = user;
    char text[512], shape[96];
    if (!grow(l))
        return fbi_fail(l->ctx, FB_E_NOMEM, "ddp_attach: no memory");
    if (!fbi_contiguous(t))
        return fbi_fail(l->ctx, FB_E_ARG, "ddp_attach: %s is not contiguous: %s", name,
                        fbi_text(t));
    int n = snprintf(text, sizeof text, "%.380s %s %s", name, fb_dtype_name(fb_dtype_of(t)),
                     fb_shape_text(fb_shape_of(t), shape, sizeof shape));
    entry *e = &l->e[l->n];
    memset(e, 0, sizeof *e);
    e->shape = XXH3_64bits(text, (size_t)n);
    e->values = hash_of(l, t);
    snprintf(e->text, sizeof e->text, "%.191s", text);
    l->t[l->n++] = t;
    return l->ctx->status;
}

static fb_status differs(fbi_ddp *d, int r, const char *theirs, const char *first)
{
    return fbi_fail(
        d->ctx, FB_E_COMM,
        "ddp_attach: rank %d has %s where rank 0 has %s: do all ranks build the same model?", r,
        theirs, first);
}

/* All ranks come to the same words: the first rank that differs from rank 0, and where. */
static fb_status compare(fbi_ddp *d, const entry *all, const size_t *at)
{
    size_t n0 = (at[1] - at[0]) / sizeof *all;
    for (int r = 1; r < d->group->size; r++) {
        const entry *first = all, *theirs = all + at[r] / sizeof *all;
        size_t n = (at[r + 1] - at[r]) / sizeof *all;
        for (size_t i = 0; i < n && i < n0; i++)
            if (theirs[i].shape != first[i].shape)
                return differs(d, r, theirs[i].text, first[i].text);
        if (n < n0)
            return differs(d, r, "nothing", first[n].text);
        if (n > n0)
            return differs(d, r, theirs[n0].text, "nothing");
    }
    return FB_OK;
}

/* Other values are no error: often only rank 0 has read a file. But they may be a surprise. */
static void note_values(const fbi_ddp *d, const entry *all, const size_t *at)
{
    if (d->group->rank)
        return;
    size_t n = at[1] / sizeof *all;
    for (int r = 1; r < d->group->size; r++)
        for (size_t i = 0; i < n; i++)
            if (all[(size_t)r * n + i].values != all[i].values) {
                fbi_logline("ddp_attach: rank %d had other values in %s; all ranks take rank 0's",
                            r, all[i].text);
                return;
            }
}

static fb_status broadcast(fbi_ddp *d, const list *l)
{
    fb_status st = FB_OK;
    for (int i = 0; i < l->n && !st; i++)
        st = fbi_group_broadcast_tensor(d->group, "parameters", l->t[i], 0);
    return st;
}

static uint64_t layout_of(const list *l)
{
    uint64_t h = (uint64_t)l->n;
    for (int i = 0; i < l->n; i++)
        h = h * 0x9E3779B97F4A7C15u + l->e[i].shape;
    return h;
}

fb_status fbi_ddp_agree(fbi_ddp *d)
{
    list l = {.ctx = d->ctx};
    void *all = NULL;
    size_t *at = calloc((size_t)d->group->size + 1, sizeof *at);
    fb_status st = at ? FB_OK : fbi_fail(d->ctx, FB_E_NOMEM, "ddp_attach: no memory");
    if (!st)
        st = fb_nn_each_param(d->root, add, &l);
    if (!st)
        st = fb_nn_each_buffer(d->root, add, &l);
    if (!st)
        st = fbi_group_all_gather_bytes(d->group, "parameters", l.e, (size_t)l.n * sizeof *l.e,
                                        &all, at);
    if (!st)
        st = compare(d, all, at);
    if (!st)
        note_values(d, all, at);
    if (!st)
        st = broadcast(d, &l);
    d->layout = layout_of(&l);
    free(all);
    free(at);
    free(l.e);
    free(l.t);
    free(l.room);
    return st;
}
