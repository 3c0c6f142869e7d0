/* How many rows each sample of a field has: all at once, by long reads. */
#include <stdio.h>
#include <stdlib.h>

#include "comm/group_priv.h"
#include "io/dataset_priv.h"

/* Lengths of a shard's samples; `starts` has room for its n + 1 first rows. */
static bool shard_lengths(fb_dataset *ds, fbi_shard *shard, int f, int64_t *starts, int32_t *out,
                          char *what, size_t size)
{
    const int64_t *at = shard->starts[f];
    if (!at && !fbi_dataset_read_at(ds, shard, starts, (size_t)(shard->n + 1) * sizeof *starts,
                                    shard->place[f].offsets, what, size))
        return false;
    at = at ? at : starts;
    for (int64_t i = 0; i < shard->n; i++) {
        if (at[i] < 0 || at[i + 1] < at[i] || at[i + 1] > shard->place[f].rows) {
            snprintf(what, size, "its offsets are damaged: rows %lld to %lld of %lld",
                     (long long)at[i], (long long)at[i + 1], (long long)shard->place[f].rows);
            return false;
        }
        out[shard->begin + i] = (int32_t)(at[i + 1] - at[i]);
    }
    return true;
}

/* Of all samples, whatever split is selected. */
static fb_status all_lengths(fb_dataset *ds, int f, int32_t *out, char *text, size_t size)
{
    char what[160] = "no memory";
    int64_t most = 0;
    for (int s = 0; s < ds->n_shards; s++)
        most = ds->shards[s].n > most ? ds->shards[s].n : most;
    int64_t *starts = malloc((size_t)(most + 1) * sizeof *starts);
    fb_status st = starts ? FB_E_IO : FB_E_NOMEM;
    bool good = starts != NULL;
    int s = 0;
    for (; good && s < ds->n_shards; s++)
        good = shard_lengths(ds, &ds->shards[s], f, starts, out, what, sizeof what);
    free(starts);
    if (good)
        return FB_OK;
    snprintf(text, size, "dataset %s: shard %s: lengths of field %s: %s", ds->path,
             ds->shards[s ? s - 1 : 0].name, ds->names[f], what);
    return st;
}

fb_status fbi_dataset_lengths_here(fb_dataset *ds, int f, int32_t *out, char *text, size_t size)
{
    if (ds->fields[f].longest > INT32_MAX) {
        snprintf(text, size, "dataset %s: field %s: samples of more than 2^31 rows", ds->path,
                 ds->names[f]);
        return FB_E_UNSUPPORTED;
    }
    if (ds->view)
        return ds->view->lengths(ds, f, out, text, size);
    if (ds->selected < 0)
        return all_lengths(ds, f, out, text, size);
    int32_t *all = malloc((size_t)ds->total * sizeof *all);
    snprintf(text, size, "dataset %s: no memory for lengths", ds->path);
    fb_status st = all ? all_lengths(ds, f, all, text, size) : FB_E_NOMEM;
    for (int64_t i = 0; !st && i < ds->size; i++)
        out[i] = all[fbi_dataset_place(ds, i)];
    free(all);
    return st;
}

int32_t *fbi_dataset_lengths(fb_dataset *ds, fb_group *group, int f)
{
    char text[512] = "no memory";
    size_t bytes = (size_t)ds->size * sizeof(int32_t);
    int32_t *lengths = malloc(bytes);
    fb_status st = lengths ? FB_OK : FB_E_NOMEM;
    if (!st && (!group || group->rank == 0))
        st = fbi_dataset_lengths_here(ds, f, lengths, text, sizeof text);
    if (st)
        fbi_fail(ds->ctx, st, "%s", text);
    if (group)
        st = fbi_group_agree(group, "lengths", st);
    if (group && !st)
        st = fbi_group_broadcast(group, "lengths", lengths, bytes, 0);
    if (!st)
        return lengths;
    free(lengths);
    return NULL;
}

double fbi_dataset_sample_bytes(const fb_dataset *ds)
{
    double bytes = 0;
    for (int f = 0; f < ds->n_fields; f++) {
        double rows = ds->fields[f].varies ? 0 : 1;
        for (int s = 0; ds->fields[f].varies && s < ds->n_shards; s++)
            rows += (double)ds->shards[s].place[f].rows / (double)ds->total;
        bytes += rows * (double)ds->bytes[f];
    }
    return bytes;
}
