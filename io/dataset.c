#include "io/cache_priv.h"
#include "io/dataset_priv.h"
#include "io/ring_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Shards that may stay open: a quarter of the files that the process may have. */
static int shards_at_once(void)
{
    enum { LEAST = 4, MOST = 4096 };
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur / 4 > MOST)
        return MOST;
    return limit.rlim_cur / 4 < LEAST ? LEAST : (int)(limit.rlim_cur / 4);
}

static bool check_field(fb_context *ctx, const char *path, const fb_dataset_field *f)
{
    if (!f->name || !*f->name || strlen(f->name) >= FBI_NAME_BYTES || strchr(f->name, '/') ||
        !strncmp(f->name, "flambeau_", 9)) {
        fbi_fail(ctx, FB_E_ARG,
                 "dataset %s: a field's name must have 1 to %d characters and no '/', and not "
                 "begin with \"flambeau_\"",
                 path, FBI_NAME_BYTES - 1);
        return false;
    }
    if (fb_dtype_size(f->dtype) == 0) {
        fbi_fail(ctx, FB_E_DTYPE, "dataset %s: field %s has no dtype", path, f->name);
        return false;
    }
    int64_t n = fb_shape_numel(f->shape);
    if (n <= 0 || f->shape.n >= FB_MAX_DIMS) {
        fbi_fail(ctx, FB_E_SHAPE,
                 "dataset %s: field %s: a sample has shape %s; sizes must be positive "
                 "and at most %d",
                 path, f->name, fbi_shape_text(ctx, f->shape), FB_MAX_DIMS - 1);
        return false;
    }
    if (f->deliver.n && f->varies) {
        fbi_fail(ctx, FB_E_SHAPE,
                 "dataset %s: field %s varies: it is delivered as stored, not as %s", path, f->name,
                 fbi_shape_text(ctx, f->deliver));
        return false;
    }
    if (f->n_labels < 0 || (f->n_labels && !f->labels)) {
        fbi_fail(ctx, FB_E_ARG, "dataset %s: field %s: %lld labels%s", path, f->name,
                 (long long)f->n_labels, f->labels ? "" : ", which are NULL");
        return false;
    }
    for (int64_t i = 0; i < f->n_labels; i++)
        if (!f->labels[i]) {
            fbi_fail(ctx, FB_E_ARG, "dataset %s: field %s: label %lld is NULL", path, f->name,
                     (long long)i);
            return false;
        }
    if (f->deliver.n && fb_shape_numel(f->deliver) != n) {
        fbi_fail(ctx, FB_E_SHAPE, "dataset %s: field %s: stored %s cannot be delivered as %s", path,
                 f->name, fbi_shape_text(ctx, f->shape), fbi_shape_text(ctx, f->deliver));
        return false;
    }
    return true;
}

/* Every field is as it may be, and has a name of its own. */
static bool check_fields(fb_context *ctx, const char *path, const fb_dataset_field *fields, int n)
{
    for (int i = 0; i < n; i++) {
        if (!check_field(ctx, path, &fields[i]))
            return false;
        for (int k = 0; k < i; k++)
            if (!strcmp(fields[i].name, fields[k].name)) {
                fbi_fail(ctx, FB_E_ARG, "dataset %s: two fields have the name %s", path,
                         fields[i].name);
                return false;
            }
    }
    return true;
}

fb_dataset *fbi_dataset_new(fb_context *ctx, const char *path, const fb_dataset_field *fields,
                            int n_fields)
{
    if (!path || !*path || strlen(path) >= FBI_PATH_BYTES - FBI_NAME_BYTES) {
        fbi_fail(ctx, FB_E_ARG, "dataset: a path is needed, of less than %d characters",
                 FBI_PATH_BYTES - FBI_NAME_BYTES);
        return NULL;
    }
    if (n_fields < 1 || n_fields > FB_MAX_FIELDS) {
        fbi_fail(ctx, FB_E_ARG, "dataset %s: %d fields; 1 to %d are possible", path, n_fields,
                 FB_MAX_FIELDS);
        return NULL;
    }
    if (!check_fields(ctx, path, fields, n_fields))
        return NULL;
    fb_dataset *ds = calloc(1, sizeof *ds);
    if (!ds || fbi_context_adopt(ctx, ds, fbi_dataset_free)) {
        free(ds);
        fbi_fail(ctx, FB_E_NOMEM, "dataset %s: no memory", path);
        return NULL;
    }
    ds->ctx = ctx;
    ds->selected = -1;
    ds->max_open = shards_at_once();
    snprintf(ds->path, sizeof ds->path, "%s", path);
    ds->n_fields = n_fields;
    for (int i = 0; i < n_fields; i++) {
        ds->fields[i] = fields[i];
        snprintf(ds->names[i], FBI_NAME_BYTES, "%s", fields[i].name);
        ds->fields[i].name = ds->names[i];
        ds->fields[i].labels = NULL;
        ds->bytes[i] = (size_t)fb_shape_numel(fields[i].shape) * fb_dtype_size(fields[i].dtype);
        if (!fbi_dataset_set_labels(ds, i, fields[i].labels, fields[i].n_labels)) {
            fbi_fail(ctx, FB_E_NOMEM, "dataset %s: no memory for labels", path);
            fb_dataset_close(ds);
            return NULL;
        }
    }
    return ds;
}

void fbi_dataset_free(void *object)
{
    fb_dataset *ds = object;
    fbi_dataset_writer_free(ds);
    fbi_cache_leave(ds);
    fbi_ring_free(ds->ring);
    for (int i = 0; i < ds->n_shards; i++) {
        int fd = atomic_load(&ds->shards[i].fd);
        if (fd >= 0)
            close(fd);
        for (int f = 0; f < ds->n_fields; f++) {
            free(ds->shards[i].held[f]);
            free(ds->shards[i].starts[f]);
        }
    }
    for (int f = 0; f < ds->n_fields; f++)
        free(ds->labels[f]);
    if (ds->view)
        ds->view->free(ds->parts);
    free(ds->shards);
    free(ds);
}

void fb_dataset_close(fb_dataset *ds)
{
    if (!ds)
        return;
    fbi_context_forget(ds->ctx, ds);
    fbi_dataset_free(ds);
}

fb_dataset *fb_dataset_custom(fb_context *ctx, int64_t size, const fb_dataset_field *fields,
                              int n_fields, fb_dataset_read read, void *user)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    if (!read || size < 1) {
        fbi_fail(ctx, FB_E_ARG,
                 "dataset (custom): needs a read callback and at least one sample, "
                 "got %lld",
                 (long long)size);
        return NULL;
    }
    fb_dataset *ds = fbi_dataset_new(ctx, "(custom)", fields, n_fields);
    if (!ds)
        return NULL;
    for (int f = 0; f < n_fields; f++)
        if (fields[f].varies) {
            fbi_fail(ctx, FB_E_UNSUPPORTED,
                     "dataset (custom): field %s varies: a callback gives samples of a fixed shape",
                     ds->names[f]);
            fb_dataset_close(ds);
            return NULL;
        }
    ds->size = ds->total = size;
    ds->whole = true;
    ds->read = read;
    ds->user = user;
    return ds;
}

int64_t fb_dataset_size(const fb_dataset *ds)
{
    return !ds ? 0 : ds->ring ? fbi_ring_size(ds->ring) : ds->size;
}
int fb_dataset_field_count(const fb_dataset *ds)
{
    return ds ? ds->n_fields : 0;
}

fb_dataset_field fb_dataset_field_at(const fb_dataset *ds, int i)
{
    if (!ds || i < 0 || i >= ds->n_fields)
        return (fb_dataset_field){0};
    return ds->fields[i];
}

int fbi_dataset_field(const fb_dataset *ds, const char *name)
{
    for (int f = 0; name && f < ds->n_fields; f++)
        if (!strcmp(ds->names[f], name))
            return f;
    return -1;
}

size_t fbi_dataset_field_bytes(const fb_dataset *ds, const fbi_shard *shard, int f)
{
    return (size_t)shard->place[f].rows * ds->bytes[f];
}

/* --- labels --- */

bool fbi_dataset_set_labels(fb_dataset *ds, int f, const char *const *labels, int64_t n)
{
    size_t bytes = (size_t)n * sizeof *labels;
    for (int64_t i = 0; i < n; i++)
        bytes += strlen(labels[i]) + 1;
    char **copy = malloc(bytes + 1);
    if (!copy)
        return false;
    char *at = (char *)(copy + n);
    for (int64_t i = 0; i < n; i++) {
        copy[i] = at;
        at = stpcpy(at, labels[i]) + 1;
    }
    free(ds->labels[f]);
    ds->labels[f] = copy;
    ds->fields[f].labels = n ? (const char *const *)copy : NULL;
    ds->fields[f].n_labels = n;
    return true;
}

const char *fb_dataset_label(const fb_dataset *ds, const char *field, int64_t value)
{
    int f = ds ? fbi_dataset_field(ds, field) : -1;
    if (f < 0 || value < 0 || value >= ds->fields[f].n_labels)
        return NULL;
    return ds->fields[f].labels[value];
}

void fbi_dataset_beside(const fb_dataset *ds, const char *name, char *out)
{
    const char *slash = strrchr(ds->path, '/');
    int folder = slash ? (int)(slash - ds->path) + 1 : 0;
    snprintf(out, FBI_PATH_BYTES, "%.*s%s", folder, ds->path, name);
}

fb_shape fbi_dataset_deliver_shape(const fb_dataset_field *field)
{
    return field->deliver.n ? field->deliver : field->shape;
}
