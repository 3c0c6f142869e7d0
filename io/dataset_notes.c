/* What a head says beside its fields, as JSON: {"shards": [{"name", "samples", "bytes", "xxh3"}],
 * "fields": [...], "splits": [{"name", "begin", "samples", "seed", "of"}], "labels": {FIELD:
 * [...]}}. HDF5 gives fields by the alphabet, "fields" in the order in which they are appended. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "io/dataset_priv.h"

static json_t *shards_of(const fb_dataset *ds)
{
    json_t *list = json_array();
    for (int s = 0; s < ds->n_shards; s++)
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:s}", "name", ds->shards[s].name,
                                              "samples", (json_int_t)ds->shards[s].n, "bytes",
                                              (json_int_t)ds->shards[s].bytes, "xxh3",
                                              ds->shards[s].hash));
    return list;
}

static json_t *fields_of(const fb_dataset *ds)
{
    json_t *list = json_array();
    for (int f = 0; f < ds->n_fields; f++)
        json_array_append_new(list, json_string_nocheck(ds->names[f]));
    return list;
}

static json_t *splits_of(const fb_dataset *ds)
{
    json_t *list = json_array();
    for (int i = 0; i < ds->n_splits; i++) {
        const fb_dataset_split *s = &ds->splits[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", ds->split_names[i],
                                        "begin", (json_int_t)s->begin, "samples", (json_int_t)s->n,
                                        "seed", (json_int_t)s->seed, "of", (json_int_t)s->of));
    }
    return list;
}

static json_t *labels_of(const fb_dataset *ds)
{
    json_t *all = json_object();
    for (int f = 0; f < ds->n_fields; f++) {
        const fb_dataset_field *field = &ds->fields[f];
        if (!field->n_labels)
            continue;
        json_t *list = json_array();
        for (int64_t i = 0; i < field->n_labels; i++)
            json_array_append_new(list, json_string_nocheck(field->labels[i]));
        json_object_set_new(all, ds->names[f], list);
    }
    return all;
}

char *fbi_dataset_notes(const fb_dataset *ds)
{
    json_t *root = json_pack("{s:o, s:o, s:o, s:o}", "shards", shards_of(ds), "fields",
                             fields_of(ds), "splits", splits_of(ds), "labels", labels_of(ds));
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    return text;
}

void fbi_dataset_sort_fields(const char *text, fb_dataset_field *fields, int n)
{
    json_t *root = json_loads(text, 0, NULL), *list = json_object_get(root, "fields");
    for (int to = 0; to < n; to++) {
        const char *name = json_string_value(json_array_get(list, (size_t)to));
        for (int from = to + 1; name && from < n; from++)
            if (!strcmp(fields[from].name, name)) {
                fb_dataset_field field = fields[from];
                fields[from] = fields[to];
                fields[to] = field;
            }
    }
    json_decref(root);
}

static fb_status damaged(fb_dataset *ds, const char *list, size_t i)
{
    return fbi_fail(ds->ctx, FB_E_IO, "dataset %s: its list of %s is damaged at entry %zu",
                    ds->path, list, i);
}

static fb_status read_shard(fb_dataset *ds, json_t *entry, size_t i)
{
    const char *name = "", *hash = "";
    json_int_t samples = 0, bytes = 0;
    if (json_unpack(entry, "{s:s, s:I, s:I, s:s}", "name", &name, "samples", &samples, "bytes",
                    &bytes, "xxh3", &hash) ||
        samples < 1 || samples > ds->total - ds->size || bytes < 0)
        return damaged(ds, "shards", i);
    fbi_shard *shard = &ds->shards[ds->n_shards++];
    atomic_init(&shard->fd, -1);
    snprintf(shard->name, sizeof shard->name, "%s", name);
    snprintf(shard->hash, sizeof shard->hash, "%s", hash);
    shard->n = samples;
    shard->bytes = bytes;
    shard->begin = ds->size;
    ds->size += samples;
    return FB_OK;
}

static fb_status read_split(fb_dataset *ds, json_t *entry, size_t i)
{
    const char *name = "";
    json_int_t begin = 0, n = 0, seed = 0, of = 0;
    if (json_unpack(entry, "{s:s, s:I, s:I, s:I, s:I}", "name", &name, "begin", &begin, "samples",
                    &n, "seed", &seed, "of", &of))
        return damaged(ds, "splits", i);
    return fbi_dataset_add_split(
        ds, &(fb_dataset_split){
                .name = name, .begin = begin, .n = n, .seed = (uint64_t)seed, .of = of});
}

static fb_status read_labels(fb_dataset *ds, int f, json_t *list)
{
    size_t n = json_array_size(list);
    const char **labels = malloc((n + 1) * sizeof *labels);
    bool good = labels != NULL;
    fb_status st = FB_OK;
    for (size_t i = 0; good && !st && i < n; i++)
        if (!(labels[i] = json_string_value(json_array_get(list, i))))
            st = damaged(ds, "labels", i);
    if (!st && (!good || !fbi_dataset_set_labels(ds, f, labels, (int64_t)n)))
        st = fbi_fail(ds->ctx, FB_E_NOMEM, "dataset %s: no memory for labels", ds->path);
    free(labels);
    return st;
}

static fb_status read_lists(fb_dataset *ds, json_t *root)
{
    json_t *shards = json_object_get(root, "shards"), *splits = json_object_get(root, "splits"),
           *labels = json_object_get(root, "labels");
    size_t n = json_array_size(shards);
    ds->shards = n ? calloc(n, sizeof *ds->shards) : NULL;
    if (n && !ds->shards)
        return fbi_fail(ds->ctx, FB_E_NOMEM, "dataset %s: no memory", ds->path);
    fb_status st = FB_OK;
    for (size_t i = 0; !st && i < n; i++)
        st = read_shard(ds, json_array_get(shards, i), i);
    if (!st && ds->size != ds->total)
        st = fbi_fail(ds->ctx, FB_E_IO,
                      "dataset %s: the head says %lld samples, its shards hold %lld", ds->path,
                      (long long)ds->total, (long long)ds->size);
    for (size_t i = 0; !st && i < json_array_size(splits); i++)
        st = read_split(ds, json_array_get(splits, i), i);
    st = st ? st : fbi_dataset_check_splits(ds);
    for (int f = 0; !st && f < ds->n_fields; f++)
        st = read_labels(ds, f, json_object_get(labels, ds->names[f]));
    return st;
}

fb_status fbi_dataset_read_notes(fb_dataset *ds, const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    fb_status st =
        root ? read_lists(ds, root)
             : fbi_fail(ds->ctx, FB_E_IO,
                        "dataset %s: its list of shards is damaged: it is no JSON", ds->path);
    json_decref(root);
    return st;
}
