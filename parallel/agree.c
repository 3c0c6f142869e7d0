#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "parallel/ddp_priv.h"

/* Parameters and buffers, one after the other. */
typedef struct list {
    fb_context *ctx;
    char (*name)[256];
    fb_tensor **t;
    uint64_t *hash; /* of name, dtype and shape */
    int n, cap;
} list;

static fb_status add(const char *name, fb_tensor *t, void *user)
{
    list *l = user;
    if (l->n == l->cap) {
        int cap = l->cap ? 2 * l->cap : 64;
        void *names = realloc(l->name, (size_t)cap * sizeof *l->name);
        l->name = names ? names : l->name;
        void *tensors = realloc(l->t, (size_t)cap * sizeof(fb_tensor *));
        l->t = tensors ? tensors : l->t;
        void *hashes = realloc(l->hash, (size_t)cap * sizeof *l->hash);
        l->hash = hashes ? hashes : l->hash;
        if (!names || !tensors || !hashes)
            return fbi_fail(l->ctx, FB_E_NOMEM, "fb_ddp_attach: no memory");
        l->cap = cap;
    }
    char text[400], shape[96];
    int n = snprintf(text, sizeof text, "%.255s %s %s", name, fb_dtype_name(fb_dtype_of(t)),
                     fb_shape_text(fb_shape_of(t), shape, sizeof shape));
    snprintf(l->name[l->n], sizeof l->name[0], "%.255s", name);
    l->t[l->n] = t;
    l->hash[l->n++] = XXH3_64bits(text, (size_t)n);
    return FB_OK;
}

/* The first rank that differs from this one, with the first entry that does. */
static fb_status report(fbi_ddp *d, const list *l, const uint64_t *all, const int64_t *counts)
{
    for (int r = 0; r < d->group->size; r++)
        if (counts[r] != l->n)
            return fbi_fail(d->ctx, FB_E_COMM,
                            "fb_ddp_attach: rank %d has %lld parameters and buffers, rank %d has "
                            "%d: do all ranks build the same model?",
                            r, (long long)counts[r], d->group->rank, l->n);
    for (int r = 0; r < d->group->size; r++)
        for (int i = 0; i < l->n; i++)
            if (all[(int64_t)r * l->n + i] != l->hash[i])
                return fbi_fail(d->ctx, FB_E_COMM,
                                "fb_ddp_attach: parameter %s, here %s %s, differs on rank %d in "
                                "name, dtype or shape: do all ranks build the same model?",
                                l->name[i], fb_dtype_name(fb_dtype_of(l->t[i])), fbi_text(l->t[i]),
                                r);
    return FB_OK;
}

static fb_status compare(fbi_ddp *d, const list *l)
{
    size_t ranks = (size_t)d->group->size;
    int64_t n = l->n, *counts = calloc(ranks, sizeof *counts);
    uint64_t *all = calloc(ranks * (size_t)(l->n + 1), sizeof *all);
    fb_status st = counts && all ? FB_OK : fbi_fail(d->ctx, FB_E_NOMEM, "fb_ddp_attach: no memory");
    if (!st)
        st = fbi_group_gather(d->group, "parameters", &n, sizeof n, counts);
    bool same = !st;
    for (size_t r = 0; r < ranks && same; r++)
        same = counts[r] == n;
    if (!st && same && n)
        st = fbi_group_gather(d->group, "parameters", l->hash, (size_t)n * sizeof *all, all);
    if (!st)
        st = report(d, l, all, counts);
    free(counts);
    free(all);
    return st;
}

fb_status fbi_ddp_agree(fbi_ddp *d)
{
    list l = {.ctx = d->ctx};
    fb_status st = fb_nn_each_param(d->root, add, &l);
    if (!st)
        st = fb_nn_each_buffer(d->root, add, &l);
    if (!st)
        st = compare(d, &l);
    for (int i = 0; !st && i < l.n; i++) {
        if (!fbi_contiguous(l.t[i]))
            continue;
        st = fbi_group_broadcast(d->group, "parameters", fbi_ptr(l.t[i]),
                                 (size_t)fb_numel(l.t[i]) * fb_dtype_size(fb_dtype_of(l.t[i])), 0);
        fbi_bump(l.t[i]);
    }
    free(l.name);
    free(l.t);
    free(l.hash);
    return st;
}
