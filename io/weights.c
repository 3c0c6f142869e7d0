/* Weights of samples, given one by one or by the class that a field names, as a table of draws. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "comm/group_priv.h"
#include "io/sampler_priv.h"

enum { MAX_CLASSES = 1 << 24 };

static fb_status check_values(const fb_dataset *ds, const fb_loader_options *o)
{
    double sum = 0;
    for (int64_t i = 0; i < o->n_weights; i++) {
        if (!(o->weights[i] >= 0) || isinf(o->weights[i]))
            return fbi_fail(ds->ctx, FB_E_ARG,
                            "loader: weight %lld is %g: weights must not be negative, and finite",
                            (long long)i, o->weights[i]);
        sum += o->weights[i];
    }
    return sum > 0 ? FB_OK : fbi_fail(ds->ctx, FB_E_ARG, "loader: all weights are 0");
}

static fb_status check_field(const fb_dataset *ds, const char *name)
{
    int f = fbi_dataset_field(ds, name);
    if (f < 0)
        return fbi_fail(ds->ctx, FB_E_ARG, "loader: weigh_by: dataset %s has no field %s", ds->path,
                        name);
    const fb_dataset_field *field = &ds->fields[f];
    if (field->varies || fb_shape_numel(field->shape) != 1 || field->dtype < FB_I32)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "loader: weigh_by: field %s of dataset %s is no class number: one integer "
                        "a sample is needed",
                        name, ds->path);
    return FB_OK;
}

fb_status fbi_weights_check(const fb_dataset *ds, const fb_loader_options *o)
{
    if (!o->weights && !o->weigh_by)
        return o->n_weights ? fbi_fail(ds->ctx, FB_E_ARG, "loader: n_weights %lld without weights",
                                       (long long)o->n_weights)
                            : FB_OK;
    if (o->shuffle || o->shuffle_block)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "loader: weights draw samples at random: leave shuffle out");
    if (o->limit > UINT32_MAX)
        return fbi_fail(ds->ctx, FB_E_UNSUPPORTED,
                        "loader: weights of %lld samples; at most 2^32 are possible",
                        (long long)o->limit);
    if (o->weights && !o->weigh_by && o->n_weights != o->limit)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "loader: %lld weights for %lld samples: give one for each, or name the "
                        "field of their classes as weigh_by",
                        (long long)o->n_weights, (long long)o->limit);
    if (o->weights && (o->n_weights < 1 || o->n_weights > UINT32_MAX))
        return fbi_fail(ds->ctx, FB_E_ARG, "loader: %lld weights", (long long)o->n_weights);
    fb_status st = o->weights ? check_values(ds, o) : FB_OK;
    return !st && o->weigh_by ? check_field(ds, o->weigh_by) : st;
}

/* --- classes --- */

/* The class of each sample, which is read into out[f]. */
static fb_status read_classes(fb_dataset *ds, int f, int64_t n, uint32_t *classes,
                              int64_t *n_classes, void *const *out, char *text, size_t size)
{
    *n_classes = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t value;
        fb_status st = fbi_dataset_fetch(ds, i, out, NULL, text, size);
        if (st)
            return st;
        fbi_dataset_integers(ds->fields[f].dtype, out[f], 1, &value);
        if (value < 0 || value >= MAX_CLASSES) {
            snprintf(text, size,
                     "loader: weigh_by: field %s of sample %lld is %lld: classes are 0 to %d",
                     ds->names[f], (long long)i, (long long)value, MAX_CLASSES - 1);
            return FB_E_ARG;
        }
        classes[i] = (uint32_t)value;
        *n_classes = value >= *n_classes ? value + 1 : *n_classes;
    }
    return FB_OK;
}

/* Each class as likely as any other that has samples. */
static double *even_weights(const uint32_t *classes, int64_t n, int64_t n_classes)
{
    double *w = calloc((size_t)n_classes, sizeof *w);
    for (int64_t i = 0; w && i < n; i++)
        w[classes[i]]++;
    for (int64_t c = 0; w && c < n_classes; c++)
        w[c] = w[c] > 0 ? 1 / w[c] : 0;
    return w;
}

/* A weight for each sample by its class. */
static fb_status spread(const uint32_t *classes, int64_t n, int64_t n_classes,
                        const fb_loader_options *o, double *out, char *text, size_t size)
{
    double *even = o->weights ? NULL : even_weights(classes, n, n_classes), sum = 0;
    const double *weights = o->weights ? o->weights : even;
    snprintf(text, size, "loader: no memory for weights of %lld classes", (long long)n_classes);
    if (!weights)
        return FB_E_NOMEM;
    if (o->weights && n_classes > o->n_weights) {
        snprintf(text, size, "loader: weigh_by %s: there is a class %lld, but only %lld weights",
                 o->weigh_by, (long long)n_classes - 1, (long long)o->n_weights);
        return FB_E_ARG;
    }
    for (int64_t i = 0; i < n; i++) {
        out[i] = weights[classes[i]];
        sum += out[i];
    }
    free(even);
    snprintf(text, size, "loader: weigh_by %s: no sample is of a class with a weight above 0",
             o->weigh_by);
    return sum > 0 ? FB_OK : FB_E_ARG;
}

static fb_status weigh_classes(fb_dataset *ds, const fb_loader_options *o, double *out, char *text,
                               size_t size)
{
    int f = fbi_dataset_field(ds, o->weigh_by);
    uint32_t *classes = malloc((size_t)o->limit * sizeof *classes);
    void *room[FB_MAX_FIELDS] = {0};
    int64_t n_classes;
    bool good = classes != NULL;
    for (int i = 0; i < ds->n_fields && good; i++) {
        bool needed = i == f || (ds->whole && !ds->fields[i].varies);
        room[i] = needed ? malloc(ds->bytes[i] + 1) : NULL;
        good = room[i] || !needed;
    }
    snprintf(text, size, "loader: no memory for the classes of %lld samples", (long long)o->limit);
    fb_status st =
        good ? read_classes(ds, f, o->limit, classes, &n_classes, room, text, size) : FB_E_NOMEM;
    st = st ? st : spread(classes, o->limit, n_classes, o, out, text, size);
    for (int i = 0; i < ds->n_fields; i++)
        free(room[i]);
    free(classes);
    return st;
}

/* --- the table --- */

static fb_status make_table(fb_dataset *ds, const fb_loader_options *o, fbi_alias *table,
                            char *text, size_t size)
{
    double *weights = o->weigh_by ? malloc((size_t)o->limit * sizeof *weights) : NULL;
    fb_status st = o->weigh_by && !weights ? FB_E_NOMEM : FB_OK;
    snprintf(text, size, "loader: no memory for %lld weights", (long long)o->limit);
    if (weights)
        st = weigh_classes(ds, o, weights, text, size);
    if (!st && !fbi_alias_make(weights ? weights : o->weights, o->limit, table))
        st = FB_E_NOMEM;
    free(weights);
    return st;
}

fbi_alias *fbi_weights_open(fb_group *group, fb_dataset *ds, const fb_loader_options *o)
{
    char text[512] = "loader: no memory for weights";
    size_t bytes = (size_t)o->limit * sizeof(fbi_alias);
    fbi_alias *table = malloc(bytes);
    fb_status st = table ? FB_OK : FB_E_NOMEM;
    if (!st && (!group || group->rank == 0))
        st = make_table(ds, o, table, text, sizeof text);
    if (st)
        fbi_fail(ds->ctx, st, "%s", text);
    if (group)
        st = fbi_group_agree(group, "loader", st);
    if (group && !st)
        st = fbi_group_broadcast(group, "loader", table, bytes, 0);
    if (!st)
        return table;
    free(table);
    return NULL;
}
