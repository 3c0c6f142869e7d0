#include "io/dataset_priv.h"

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
    if (!f->name || !*f->name || strlen(f->name) >= FBI_NAME_BYTES || strchr(f->name, '/')) {
        fbi_fail(ctx, FB_E_ARG,
                 "dataset %s: a field's name must have 1 to %d characters and no '/'", path,
                 FBI_NAME_BYTES - 1);
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
    if (f->deliver.n && fb_shape_numel(f->deliver) != n) {
        fbi_fail(ctx, FB_E_SHAPE, "dataset %s: field %s: stored %s cannot be delivered as %s", path,
                 f->name, fbi_shape_text(ctx, f->shape), fbi_shape_text(ctx, f->deliver));
        return false;
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
    for (int i = 0; i < n_fields; i++)
        if (!check_field(ctx, path, &fields[i]))
            return NULL;
    fb_dataset *ds = calloc(1, sizeof *ds);
    if (!ds || fbi_context_adopt(ctx, ds, fbi_dataset_free)) {
        free(ds);
        fbi_fail(ctx, FB_E_NOMEM, "dataset %s: no memory", path);
        return NULL;
    }
    ds->ctx = ctx;
    ds->max_open = shards_at_once();
    snprintf(ds->path, sizeof ds->path, "%s", path);
    ds->n_fields = n_fields;
    for (int i = 0; i < n_fields; i++) {
        ds->fields[i] = fields[i];
        snprintf(ds->names[i], FBI_NAME_BYTES, "%s", fields[i].name);
        ds->fields[i].name = ds->names[i];
        ds->bytes[i] = (size_t)fb_shape_numel(fields[i].shape) * fb_dtype_size(fields[i].dtype);
    }
    return ds;
}

void fbi_dataset_free(void *object)
{
    fb_dataset *ds = object;
    fbi_dataset_writer_free(ds);
    for (int i = 0; i < ds->n_shards; i++) {
        int fd = atomic_load(&ds->shards[i].fd);
        if (fd >= 0)
            close(fd);
        for (int f = 0; f < ds->n_fields; f++)
            free(ds->shards[i].held[f]);
    }
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
    ds->size = size;
    ds->read = read;
    ds->user = user;
    return ds;
}

int64_t fb_dataset_size(const fb_dataset *ds)
{
    return ds ? ds->size : 0;
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
