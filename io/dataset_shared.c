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

/* --- the image: the dataset's struct and its shards, as they lie in memory --- */

static size_t image_bytes(const fb_dataset *ds)
{
    return sizeof *ds + (size_t)ds->n_shards * sizeof *ds->shards;
}

static void *pack(const fb_dataset *ds)
{
    char *image = malloc(image_bytes(ds));
    if (!image)
        return NULL;
    memcpy(image, ds, sizeof *ds);
    memcpy(image + sizeof *ds, ds->shards, (size_t)ds->n_shards * sizeof *ds->shards);
    return image;
}

static size_t held_bytes(const fb_dataset *ds, const fbi_shard *shard, int f)
{
    return shard->held[f] ? (size_t)shard->n * ds->bytes[f] : 0;
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
            size_t bytes = held_bytes(ds, shard, f);
            shard->held[f] = bytes ? malloc(bytes) : NULL;
            good = good && (!bytes || shard->held[f]);
        }
    }
    return good;
}

static fb_dataset *unpack(fb_context *ctx, const char *image)
{
    fb_dataset *from = malloc(sizeof *from);
    if (!from) {
        fbi_fail(ctx, FB_E_NOMEM, "dataset: no memory");
        return NULL;
    }
    memcpy(from, image, sizeof *from);
    for (int f = 0; f < from->n_fields; f++)
        from->fields[f].name = from->names[f];
    fb_dataset *ds = fbi_dataset_new(ctx, from->path, from->fields, from->n_fields);
    if (ds) {
        ds->size = from->size;
        memcpy(ds->id, from->id, sizeof ds->id);
        if (!unpack_shards(ds, image + sizeof *from, from->n_shards)) {
            fbi_fail(ctx, FB_E_NOMEM, "dataset %s: no memory for its small fields", from->path);
            fb_dataset_close(ds);
            ds = NULL;
        }
    }
    free(from);
    return ds;
}

static fb_status tell_held(fb_group *group, fb_dataset *ds)
{
    fb_status st = FB_OK;
    for (int s = 0; s < ds->n_shards; s++)
        for (int f = 0; !st && f < ds->n_fields; f++) {
            char *held = ds->shards[s].held[f];
            if (held)
                st = fbi_group_broadcast(group, "dataset", held, held_bytes(ds, &ds->shards[s], f),
                                         0);
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
