/* Two NumPy arrays of the same length, FILE.npy or FILE.npz:NAME: input [n, ...] and target
 * [n, ...]. */
#include <stdio.h>
#include <string.h>

#include <flambeau/core/ops/cast.h>
#include <flambeau/io/interchange.h>

#include "launch/import_priv.h"

static bool same_length(const fbi_import *job, fb_context *ctx, fb_tensor *const t[2])
{
    char a[128], b[128];
    fb_shape x = fb_shape_of(t[0]), y = fb_shape_of(t[1]);
    if (x.n > 0 && y.n > 0 && x.d[0] == y.d[0])
        return true;
    fb_fail(ctx, FB_E_SHAPE, "import: %s is %s, %s is %s: they must have the same first size",
            job->input, fb_shape_text(x, a, sizeof a), job->target, fb_shape_text(y, b, sizeof b));
    return false;
}

static fb_tensor *load(fb_context *ctx, const char *path)
{
    const char *colon = strrchr(path, ':');
    char file[4096];
    if (!colon || colon - path < 4 || strncmp(colon - 4, ".npz", 4))
        return fb_npy_load(ctx, path);
    snprintf(file, sizeof file, "%.*s", (int)(colon - path), path);
    return fb_npz_load(ctx, file, colon + 1);
}

int fbi_import_npy(const fbi_import *job, fb_context *ctx)
{
    /* Contiguous: a file in Fortran order is read as a view. */
    fb_tensor *t[2] = {fb_contiguous(load(ctx, job->input)), fb_contiguous(load(ctx, job->target))};
    bool good = t[0] && t[1] && same_length(job, ctx, t);
    fb_dataset_field fields[2] = {{.name = "input"}, {.name = "target"}};
    const char *values[2];
    int64_t begin, end;
    fbi_import_range(job, good ? fb_size(t[0], 0) : 0, &begin, &end);
    for (int i = 0; good && i < 2; i++) {
        fb_shape shape = fb_shape_of(t[i]);
        fields[i].dtype = fb_dtype_of(t[i]);
        fields[i].shape = fb_shape_make(shape.n - 1, shape.d + 1);
        size_t sample = (size_t)fb_shape_numel(fields[i].shape) * fb_dtype_size(fields[i].dtype);
        values[i] = (const char *)fb_data(t[i]) + (size_t)begin * sample;
    }
    fb_dataset *ds = fbi_import_create(job, ctx, fields, 2);
    if (ds && good)
        fb_dataset_append(ds, end - begin, (const void *const *)values);
    return fbi_import_finish(ds);
}
