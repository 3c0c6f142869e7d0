/* One rank looks at the files of a dataset, the others are told: many ranks opening every shard are
 * a storm for a parallel file system. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "comm/group_priv.h"
#include "io/dataset_priv.h"

/* What all ranks must give alike. */
typedef struct request {
    uint64_t hash;
    char path[184];
} request;

static fb_status same_path(fb_group *group, const char *path)
{
    fb_context *ctx = fbi_group_context(group);
    request mine = {.hash = XXH3_64bits(path, strlen(path))};
    snprintf(mine.path, sizeof mine.path, "%s", path);
    request *all = malloc((size_t)group->size * sizeof *all);
    if (!all)
        return fbi_fail(ctx, FB_E_NOMEM, "dataset %s: no memory", path);
    fb_status st = fbi_group_gather(group, "dataset", &mine, sizeof mine, all);
    for (int r = 1; !st && r < group->size; r++) {
        char who[96];
        if (all[r].hash != all[0].hash)
            st = fbi_fail(ctx, FB_E_ARG,
                          "dataset: %s opens %s, rank %d opens %s: all ranks must open the same",
                          fbi_rank_text(group->world, group->ranks[r], who, sizeof who),
                          all[r].path, group->ranks[0], all[0].path);
    }
    free(all);
    return st;
}

/* --- the image: the dataset's struct, its shards and its labels, as they lie in memory --- */

/* Bytes of a field's labels, each with its end. */
static size_t label_bytes(const fb_dataset *ds, int f)
{
    size_t bytes = 0;
    for (int64_t i = 0; i < ds->fields[f].n_labels; i++)
        bytes += strlen(ds->labels[f][i]) + 1;
    return bytes;
}

static size_t image_bytes(const fb_dataset *ds)
{
    size_t bytes = sizeof *ds + (size_t)ds->n_shards * sizeof *ds->shards;
    for (int f = 0; f < ds->n_fields; f++)
        bytes += label_bytes(ds, f);
    return bytes;
}

static void *pack(const fb_dataset *ds)
{
    char *image = malloc(image_bytes(ds));
    if (!image)
        return NULL;
    char *at = mempcpy(image, ds, sizeof *ds);
    at = mempcpy(at, ds->shards, (size_t)ds->n_shards * sizeof *ds->shards);
    for (int f = 0; f < ds->n_fields; f++)
        if (ds->fields[f].n_labels) /* they lie in one block, one behind the other */
            at = mempcpy(at, ds->labels[f][0], label_bytes(ds, f));
    return image;
}

/* Pointers of the image are those of another rank: only whether they are NULL counts. */
static bool unpack_shards(fb_dataset *ds, const char *at, int n)
{
    ds->shards = malloc((size_t)n * sizeof *ds->shards);
    if (!ds->shards)
        return false;
    memcpy(ds->shards, at, (size_t)n * sizeof *ds->shards);
    ds->n_shards = n;
    bool good = true;
    for (int s = 0; s < n; s++) {
        fbi_shard *shard = &ds->shards[s];
        atomic_init(&shard->fd, -1);
        for (int f = 0; f < ds->n_fields; f++) {
            shard->held[f] =
                shard->held[f] ? malloc(fbi_dataset_field_bytes(ds, shard, f) + 1) : NULL;
            shard->starts[f] =
                shard->starts[f] ? malloc((size_t)(shard->n + 1) * sizeof(int64_t)) : NULL;
        }
    }
    for (int s = 0; s < n; s++)
        for (int f = 0; f < ds->n_fields; f++) {
            const fbi_shard *theirs = (const fbi_shard *)at + s;
            good = good && !theirs->held[f] == !ds->shards[s].held[f] &&
                   !theirs->starts[f] == !ds->shards[s].starts[f];
        }
    return good;
}

static bool unpack_labels(fb_dataset *ds, const fb_dataset *from, const char *at)
{
    bool good = true;
    for (int f = 0; f < ds->n_fields && good; f++) {
        int64_t n = from->fields[f].n_labels;
        const char **labels = malloc((size_t)(n + 1) * sizeof *labels);
        good = labels != NULL;
        for (int64_t i = 0; good && i < n; i++) {
            labels[i] = at;
            at += strlen(at) + 1;
        }
        good = good && fbi_dataset_set_labels(ds, f, labels, n);
        free(labels);
    }
    return good;
}

/* What another rank has found out about its files; labels follow. */
static fb_dataset *new_like(fb_context *ctx, const fb_dataset *from)
{
    fb_dataset_field fields[FB_MAX_FIELDS];
    for (int f = 0; f < from->n_fields; f++) {
        fields[f] = from->fields[f];
        fields[f].name = from->names[f];
        fields[f].labels = NULL;
        fields[f].n_labels = 0;
    }
    fb_dataset *ds = fbi_dataset_new(ctx, from->path, fields, from->n_fields);
    if (!ds)
        return NULL;
    ds->size = ds->total = from->total;
    memcpy(ds->id, from->id, sizeof ds->id);
    memcpy(ds->splits, from->splits, sizeof ds->splits);
    memcpy(ds->split_names, from->split_names, sizeof ds->split_names);
    ds->n_splits = from->n_splits;
    return ds;
}

static fb_dataset *unpack(fb_context *ctx, const char *image)
{
    const fb_dataset *from = (const fb_dataset *)image; /* malloc'ed, so aligned */
    fb_dataset *ds = new_like(ctx, from);
    if (!ds)
        return NULL;
    const char *shards = image + sizeof *from;
    if (unpack_shards(ds, shards, from->n_shards) &&
        unpack_labels(ds, from, shards + (size_t)from->n_shards * sizeof *ds->shards))
        return ds;
    fbi_fail(ctx, FB_E_NOMEM, "dataset %s: no memory for its small fields", from->path);
    fb_dataset_close(ds);
    return NULL;
}

static fb_status tell_held(fb_group *group, fb_dataset *ds)
{
    fb_status st = FB_OK;
    for (int s = 0; s < ds->n_shards; s++)
        for (int f = 0; !st && f < ds->n_fields; f++) {
            fbi_shard *shard = &ds->shards[s];
            if (shard->held[f])
                st = fbi_group_broadcast(group, "dataset", shard->held[f],
                                         fbi_dataset_field_bytes(ds, shard, f), 0);
            if (!st && shard->starts[f])
                st = fbi_group_broadcast(group, "dataset", shard->starts[f],
                                         (size_t)(shard->n + 1) * sizeof(int64_t), 0);
        }
    return st;
}

/* Rank 0 has opened `ds`; the others get theirs. */
static fb_status tell(fb_group *group, fb_dataset **ds)
{
    fb_context *ctx = fbi_group_context(group);
    void *image = *ds ? pack(*ds) : NULL;
    size_t bytes = image ? image_bytes(*ds) : 0;
    fb_status st = FB_OK;
    if (group->rank == 0 && !image)
        st = fbi_fail(ctx, FB_E_NOMEM, "dataset %s: no memory to tell the others", (*ds)->path);
    st = fbi_group_agree(group, "dataset", st);
    if (!st)
        st = fbi_group_broadcast_bytes(group, "dataset", &image, &bytes, 0);
    if (!st && group->rank != 0 && !(*ds = unpack(ctx, image)))
        st = fb_status_of(ctx);
    free(image);
    st = fbi_group_agree(group, "dataset", st);
    return st ? st : tell_held(group, *ds);
}

fb_dataset *fb_dataset_open_shared(fb_group *group, const char *path)
{
    if (!group)
        return NULL;
    fb_context *ctx = fbi_group_context(group);
    FBI_ENTRY(ctx);
    fb_status st = fbi_enter(ctx) ? FB_OK : fb_status_of(ctx);
    if (!st && !path)
        st = fbi_fail(ctx, FB_E_ARG, "dataset: path is NULL");
    st = fbi_group_agree(group, "dataset", st);
    if (!st)
        st = same_path(group, path);
    if (st)
        return NULL;
    fb_dataset *ds = NULL;
    if (group->rank == 0 && !(ds = fbi_dataset_open_here(ctx, path)))
        st = fb_status_of(ctx);
    st = fbi_group_agree(group, "dataset", st);
    if (!st && group->size > 1)
        st = tell(group, &ds);
    if (!st)
        return ds;
    fb_dataset_close(ds);
    return NULL;
}
