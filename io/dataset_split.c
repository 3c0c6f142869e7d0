/* Parts of a dataset under names: places of a seeded order. */
#include <stdio.h>
#include <string.h>

#include "io/dataset_priv.h"

int fb_dataset_split_count(const fb_dataset *ds)
{
    return ds ? ds->n_splits : 0;
}

fb_dataset_split fb_dataset_split_at(const fb_dataset *ds, int i)
{
    if (!ds || i < 0 || i >= ds->n_splits)
        return (fb_dataset_split){0};
    fb_dataset_split split = ds->splits[i];
    split.name = ds->split_names[i]; /* the struct may have come from another rank */
    return split;
}

static int find_split(const fb_dataset *ds, const char *name)
{
    for (int i = 0; i < ds->n_splits; i++)
        if (!strcmp(ds->split_names[i], name))
            return i;
    return -1;
}

fb_status fbi_dataset_add_split(fb_dataset *ds, const fb_dataset_split *split)
{
    if (!split->name || !*split->name || strlen(split->name) >= FBI_NAME_BYTES ||
        find_split(ds, split->name) >= 0 || ds->n_splits == FBI_MAX_SPLITS)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "dataset %s: split \"%s\": at most %d splits with different names of 1 to "
                        "%d characters are possible",
                        ds->path, split->name ? split->name : "(null)", FBI_MAX_SPLITS,
                        FBI_NAME_BYTES - 1);
    snprintf(ds->split_names[ds->n_splits], FBI_NAME_BYTES, "%s", split->name);
    ds->splits[ds->n_splits++] = *split;
    return FB_OK;
}

fb_status fbi_dataset_check_splits(fb_dataset *ds)
{
    for (int i = 0; i < ds->n_splits; i++) {
        fb_dataset_split *s = &ds->splits[i];
        if (!s->of)
            s->of = ds->total;
        if (s->begin < 0 || s->n < 1 || s->of < 1 || s->of > ds->total || s->begin > s->of - s->n)
            return fbi_fail(ds->ctx, FB_E_ARG,
                            "dataset %s: split %s is %lld samples from %lld on, of %lld: the "
                            "dataset has %lld",
                            ds->path, ds->split_names[i], (long long)s->n, (long long)s->begin,
                            (long long)s->of, (long long)ds->total);
    }
    return FB_OK;
}

fb_status fb_dataset_set_splits(fb_dataset *ds, const fb_dataset_split *splits, int n)
{
    if (!ds)
        return FB_E_ARG;
    FBI_ENTRY(ds->ctx);
    if (!fbi_enter(ds->ctx))
        return fb_status_of(ds->ctx);
    if (!ds->writer)
        return fbi_fail(ds->ctx, FB_E_STATE, "dataset %s: is finished, or open for reading",
                        ds->path);
    if (n < 0 || (n && !splits))
        return fbi_fail(ds->ctx, FB_E_ARG, "dataset %s: %d splits%s", ds->path, n,
                        splits ? "" : ", which are NULL");
    ds->n_splits = 0;
    fb_status st = FB_OK;
    for (int i = 0; i < n && !st; i++)
        st = fbi_dataset_add_split(ds, &splits[i]);
    return st;
}

/* "train, valid" */
static const char *names_of(const fb_dataset *ds, char *out, size_t size)
{
    size_t used = 0;
    snprintf(out, size, "none");
    for (int i = 0; i < ds->n_splits && used < size; i++)
        used +=
            (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", ds->split_names[i]);
    return out;
}

fb_status fb_dataset_select(fb_dataset *ds, const char *split)
{
    if (!ds)
        return FB_E_ARG;
    FBI_ENTRY(ds->ctx);
    if (!fbi_enter(ds->ctx))
        return fb_status_of(ds->ctx);
    if (ds->writer)
        return fbi_fail(ds->ctx, FB_E_STATE, "dataset %s: is being written", ds->path);
    ds->selected = split ? find_split(ds, split) : -1;
    if (split && ds->selected < 0) {
        char names[512];
        return fbi_fail(ds->ctx, FB_E_NOT_FOUND,
                        "dataset %s: has no split %s: its splits are: %s; \"flambeau data split\" "
                        "makes them",
                        ds->path, split, names_of(ds, names, sizeof names));
    }
    const fb_dataset_split *s = split ? &ds->splits[ds->selected] : NULL;
    ds->size = s ? s->n : ds->total;
    if (s && s->seed)
        ds->order = fbi_order_make(s->of, s->seed, 0);
    return FB_OK;
}

int64_t fbi_dataset_place(const fb_dataset *ds, int64_t index)
{
    if (ds->selected < 0)
        return index;
    const fb_dataset_split *s = &ds->splits[ds->selected];
    return s->seed ? fbi_order_at(&ds->order, s->begin + index) : s->begin + index;
}
