/* Writing datasets: samples wait in memory until they make a shard. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "comm/group_priv.h"
#include "io/dataset_priv.h"

enum { SHARD_BYTES = 512 << 20, MOST_STEM = FBI_NAME_BYTES - 32, LEAST_ROOM = 1 << 16 };

static void free_writer(fb_dataset *ds)
{
    for (int f = 0; f < ds->n_fields; f++) {
        free(ds->writer->fields[f].data);
        free(ds->writer->fields[f].starts);
    }
    free(ds->writer);
    ds->writer = NULL;
}

void fbi_dataset_writer_free(fb_dataset *ds)
{
    if (!ds->writer)
        return;
    for (int s = ds->writer->n_old; s < ds->n_shards; s++) {
        char path[FBI_PATH_BYTES];
        fbi_dataset_beside(ds, ds->shards[s].name, path);
        unlink(path);
    }
    free_writer(ds);
}

const char *fbi_dataset_base(const fb_dataset *ds)
{
    const char *slash = strrchr(ds->path, '/');
    return slash ? slash + 1 : ds->path;
}

int fbi_dataset_stem(const fb_dataset *ds)
{
    const char *base = fbi_dataset_base(ds), *dot = strrchr(base, '.');
    return (int)(dot && !strcmp(dot, ".h5") ? (size_t)(dot - base) : strlen(base));
}

/* Tells this dataset's shards from others of the same name. */
static void make_id(fb_dataset *ds)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char seed[FBI_PATH_BYTES + 64];
    int n = snprintf(seed, sizeof seed, "%s %lld %ld %d", ds->path, (long long)now.tv_sec,
                     now.tv_nsec, (int)getpid());
    snprintf(ds->id, sizeof ds->id, "%08x", (unsigned)XXH3_64bits(seed, (size_t)n));
}

/* The number behind the largest of the shards that are there. */
static int next_number(const fb_dataset *ds)
{
    int next = 0;
    for (int s = 0; s < ds->n_shards; s++) {
        const char *dash = strrchr(ds->shards[s].name, '-');
        int number = dash ? atoi(dash + 1) : 0;
        next = number >= next ? number + 1 : next;
    }
    return next;
}

static fb_status writer_new(fb_dataset *ds, const fb_dataset_options *o)
{
    if (fbi_dataset_stem(ds) > MOST_STEM || o->shard_samples < 0 || o->shard_bytes < 0)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "dataset %s: a name of at most %d characters and a positive number of "
                        "samples or bytes a shard are needed, got %lld",
                        ds->path, MOST_STEM,
                        (long long)(o->shard_samples ? o->shard_samples : o->shard_bytes));
    fbi_dataset_writer *w = calloc(1, sizeof *w);
    if (!w)
        return fbi_fail(ds->ctx, FB_E_NOMEM, "dataset %s: no memory", ds->path);
    size_t sample = 0;
    w->group = o->group;
    w->most = o->shard_bytes ? (size_t)o->shard_bytes : SHARD_BYTES;
    w->capacity = o->shard_samples;
    for (int f = 0; f < ds->n_fields; f++)
        sample += ds->fields[f].varies ? sizeof(int64_t) : ds->bytes[f];
    if (!w->capacity)
        w->capacity = sample < w->most ? (int64_t)(w->most / sample) : 1;
    else
        w->most = SIZE_MAX;
    w->n_old = ds->n_shards;
    w->step = o->group ? o->group->size : 1;
    w->next = next_number(ds) + (o->group ? o->group->rank : 0);
    ds->writer = w;
    ds->written = true;
    return FB_OK;
}

/* --- a group's ranks --- */

/* What the ranks must give alike. */
typedef struct request {
    uint64_t fields;
    char id[24];
} request;

static request request_of(const fb_dataset *ds)
{
    request mine = {.fields = XXH3_64bits(ds->path, strlen(ds->path))};
    for (int f = 0; f < ds->n_fields; f++) {
        const int64_t what[3] = {ds->fields[f].dtype, (int64_t)ds->bytes[f], ds->fields[f].varies};
        mine.fields = XXH3_64bits_withSeed(ds->names[f], strlen(ds->names[f]), mine.fields);
        mine.fields = XXH3_64bits_withSeed(what, sizeof what, mine.fields);
    }
    snprintf(mine.id, sizeof mine.id, "%s", ds->id);
    return mine;
}

/* All ranks write the same dataset, under rank 0's id. */
static fb_status agree(fb_group *group, fb_dataset *ds)
{
    fb_context *ctx = fbi_group_context(group);
    request mine = request_of(ds), all[group->size];
    fb_status st = fbi_group_gather(group, "dataset", &mine, sizeof mine, all);
    for (int r = 1; !st && r < group->size; r++) {
        char who[96];
        if (all[r].fields != all[0].fields)
            st = fbi_fail(ctx, FB_E_ARG,
                          "dataset %s: %s and rank %d do not write the same path and fields",
                          ds->path, fbi_rank_text(group->world, group->ranks[r], who, sizeof who),
                          group->ranks[0]);
    }
    if (!st)
        snprintf(ds->id, sizeof ds->id, "%.16s", all[0].id);
    return st;
}

/* Shards of all ranks, in the order of ranks, and the longest samples. */
static fb_status gather_shards(fb_group *group, fb_dataset *ds)
{
    fbi_dataset_writer *w = ds->writer;
    size_t at[group->size + 1];
    int64_t longest[FB_MAX_FIELDS], all_longest[group->size][FB_MAX_FIELDS];
    for (int f = 0; f < FB_MAX_FIELDS; f++)
        longest[f] = ds->fields[f].longest;
    void *all = NULL;
    fb_status st = fbi_group_gather(group, "dataset", longest, sizeof longest, all_longest);
    if (!st)
        st = fbi_group_all_gather_bytes(group, "dataset", ds->shards + w->n_old,
                                        (size_t)(ds->n_shards - w->n_old) * sizeof *ds->shards,
                                        &all, at);
    if (st)
        return st;
    int n_new = (int)(at[group->size] / sizeof *ds->shards);
    fbi_shard *shards = realloc(ds->shards, (size_t)(w->n_old + n_new + 1) * sizeof *shards);
    if (!shards) {
        free(all);
        return fbi_fail(ds->ctx, FB_E_NOMEM, "dataset %s: no memory", ds->path);
    }
    memcpy(shards + w->n_old, all, at[group->size]);
    free(all);
    ds->shards = shards;
    ds->n_shards = w->n_old + n_new;
    ds->total = 0;
    for (int s = 0; s < ds->n_shards; s++) {
        shards[s].begin = ds->total;
        ds->total += shards[s].n;
    }
    for (int r = 0; r < group->size; r++)
        for (int f = 0; f < ds->n_fields; f++)
            if (all_longest[r][f] > ds->fields[f].longest)
                ds->fields[f].longest = all_longest[r][f];
    return FB_OK;
}

/* --- the public side --- */

/* Turn an open dataset, or NULL, into one that is written. */
static fb_dataset *begin(fb_context *ctx, fb_dataset *ds, const fb_dataset_options *o)
{
    fb_status st = ds ? writer_new(ds, o) : fb_status_of(ctx);
    if (o->group) {
        st = fbi_group_agree(o->group, "dataset", st);
        st = st ? st : fbi_group_agree(o->group, "dataset", agree(o->group, ds));
    }
    if (!st)
        return ds;
    fb_dataset_close(ds);
    return NULL;
}

fb_dataset *fb_dataset_create(fb_context *ctx, const char *path, const fb_dataset_field *fields,
                              int n_fields, const fb_dataset_options *opts)
{
    FBI_ENTRY(ctx);
    fb_dataset_options o = opts ? *opts : (fb_dataset_options){0};
    fb_dataset *ds = fbi_enter(ctx) ? fbi_dataset_new(ctx, path, fields, n_fields) : NULL;
    if (ds)
        make_id(ds);
    return ctx ? begin(ctx, ds, &o) : NULL;
}

fb_dataset *fb_dataset_extend(fb_context *ctx, const char *path, const fb_dataset_options *opts)
{
    FBI_ENTRY(ctx);
    fb_dataset_options o = opts ? *opts : (fb_dataset_options){0};
    if (o.group) {
        fb_dataset *ds = fb_dataset_open_shared(o.group, path);
        return ds ? begin(ctx, ds, &o) : NULL;
    }
    fb_dataset *ds = fbi_enter(ctx) ? fbi_dataset_open_here(ctx, path) : NULL;
    return ds ? begin(ctx, ds, &o) : NULL;
}

/* Room for so many bytes more. */
static bool grow(void **data, size_t *room, size_t used, size_t more)
{
    if (more <= *room - used)
        return true;
    size_t wanted = *room ? *room : LEAST_ROOM;
    while (wanted - used < more)
        if (__builtin_mul_overflow(wanted, (size_t)2, &wanted))
            return false;
    void *larger = realloc(*data, wanted);
    if (!larger)
        return false;
    *data = larger;
    *room = wanted;
    return true;
}

static bool add_values(fbi_field_rows *w, const void *values, size_t bytes)
{
    void *data = w->data;
    bool good = grow(&data, &w->room, w->bytes, bytes);
    w->data = data;
    if (good && bytes)
        memcpy(w->data + w->bytes, values, bytes);
    w->bytes += good ? bytes : 0;
    return good;
}

/* Where one more sample of a field that varies ends. */
static bool add_start(fbi_field_rows *w, int64_t rows)
{
    void *data = w->starts;
    size_t room = (size_t)w->starts_room * sizeof rows;
    bool good = grow(&data, &room, (size_t)w->n_starts * sizeof rows, 2 * sizeof rows);
    w->starts = data;
    w->starts_room = (int64_t)(room / sizeof rows);
    if (!good)
        return false;
    if (!w->n_starts)
        w->starts[w->n_starts++] = 0;
    w->starts[w->n_starts] = w->starts[w->n_starts - 1] + rows;
    w->n_starts++;
    return true;
}

/* n samples of field f, from sample `done` of the caller's on; *at: his row of that one. */
static bool add_samples(fb_dataset *ds, int f, int64_t n, int64_t done, const void *values,
                        const int64_t *rows, int64_t *at)
{
    fbi_field_rows *w = &ds->writer->fields[f];
    const char *from = (const char *)values + (size_t)*at * ds->bytes[f];
    int64_t all = n;
    if (ds->fields[f].varies) {
        all = 0;
        for (int64_t i = 0; i < n; i++) {
            int64_t some = rows[done + i];
            if (!add_start(w, some))
                return false;
            all += some;
            if (some > ds->fields[f].longest)
                ds->fields[f].longest = some;
        }
    }
    *at += all;
    return add_values(w, from, (size_t)all * ds->bytes[f]);
}

static bool any_varies(const fb_dataset *ds)
{
    for (int f = 0; f < ds->n_fields; f++)
        if (ds->fields[f].varies)
            return true;
    return false;
}

static bool is_full(const fb_dataset *ds)
{
    const fbi_dataset_writer *w = ds->writer;
    size_t bytes = 0;
    for (int f = 0; f < ds->n_fields; f++)
        bytes += w->fields[f].bytes;
    return w->n >= w->capacity || bytes >= w->most;
}

static fb_status append(fb_dataset *ds, int64_t n, const void *const *values,
                        const int64_t *const *rows)
{
    fbi_dataset_writer *w = ds->writer;
    int64_t at[FB_MAX_FIELDS] = {0};
    bool one_by_one = any_varies(ds); /* how large they are is seen as they come */
    for (int64_t done = 0, some; done < n; done += some) {
        some = n - done < w->capacity - w->n ? n - done : w->capacity - w->n;
        some = one_by_one ? 1 : some;
        for (int f = 0; f < ds->n_fields; f++)
            if (!add_samples(ds, f, some, done, values[f], rows ? rows[f] : NULL, &at[f]))
                return fbi_fail(ds->ctx, FB_E_NOMEM,
                                "dataset %s: no memory for one shard; ask for fewer samples a "
                                "shard",
                                ds->path);
        w->n += some;
        ds->total += some;
        fb_status st = is_full(ds) ? fbi_dataset_write_shard(ds) : FB_OK;
        if (st)
            return st;
    }
    ds->size = ds->total;
    return FB_OK;
}

/* Every field has values; those that vary have numbers of rows, none of them negative. */
static fb_status check_samples(fb_dataset *ds, int64_t n, const void *const *values,
                               const int64_t *const *rows)
{
    for (int f = 0; f < ds->n_fields; f++) {
        if (n && !values[f])
            return fbi_fail(ds->ctx, FB_E_ARG, "dataset %s: the values of field %s are NULL",
                            ds->path, ds->names[f]);
        if (!ds->fields[f].varies)
            continue;
        if (!rows || !rows[f])
            return fbi_fail(ds->ctx, FB_E_ARG,
                            "dataset %s: field %s varies: say how many rows each sample has, with "
                            "fb_dataset_append_rows",
                            ds->path, ds->names[f]);
        for (int64_t i = 0; i < n; i++)
            if (rows[f][i] < 0)
                return fbi_fail(ds->ctx, FB_E_ARG,
                                "dataset %s: field %s: sample %lld has %lld rows", ds->path,
                                ds->names[f], (long long)i, (long long)rows[f][i]);
    }
    return FB_OK;
}

fb_status fb_dataset_append_rows(fb_dataset *ds, int64_t n, const void *const *values,
                                 const int64_t *const *rows)
{
    if (!ds)
        return FB_E_ARG;
    FBI_ENTRY(ds->ctx);
    if (!fbi_enter(ds->ctx))
        return ds->ctx->status;
    if (!ds->writer)
        return fbi_fail(ds->ctx, FB_E_STATE, "dataset %s: is finished, or open for reading",
                        ds->path);
    if (n < 0 || !values)
        return fbi_fail(ds->ctx, FB_E_ARG, "dataset %s: cannot append %lld samples%s", ds->path,
                        (long long)n, values ? "" : " of NULL");
    fb_status st = check_samples(ds, n, values, rows);
    return st ? st : append(ds, n, values, rows);
}

fb_status fb_dataset_append(fb_dataset *ds, int64_t n, const void *const *values)
{
    return fb_dataset_append_rows(ds, n, values, NULL);
}

static fb_status finish(fb_dataset *ds, fb_group *group)
{
    fb_status st = ds->writer->n ? fbi_dataset_write_shard(ds) : FB_OK;
    if (group) {
        st = fbi_group_agree(group, "dataset", st);
        st = st ? st : fbi_group_agree(group, "dataset", gather_shards(group, ds));
    }
    if (!st && ds->total == 0)
        st = fbi_fail(ds->ctx, FB_E_ARG, "dataset %s: no samples were appended", ds->path);
    st = st ? st : fbi_dataset_check_splits(ds);
    if (!st && (!group || group->rank == 0))
        st = fbi_dataset_write_head(ds);
    return group ? fbi_group_agree(group, "dataset", st) : st;
}

fb_status fb_dataset_finish(fb_dataset *ds)
{
    if (!ds)
        return FB_E_ARG;
    FBI_ENTRY(ds->ctx);
    fb_group *group = ds->writer ? ds->writer->group : NULL;
    fb_status st = fbi_enter(ds->ctx) ? FB_OK : fb_status_of(ds->ctx);
    if (!st && !ds->writer)
        st =
            fbi_fail(ds->ctx, FB_E_STATE, "dataset %s: is finished, or open for reading", ds->path);
    if (group)
        st = fbi_group_agree(group, "dataset", st);
    st = st ? st : finish(ds, group);
    if (st)
        return st;
    ds->size = ds->total;
    free_writer(ds);
    return FB_OK;
}
