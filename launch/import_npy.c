/* Two NumPy arrays of the same length: input [n, ...] and target [n, ...]. */
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

int fbi_import_npy(const fbi_import *job, fb_context *ctx)
{
    /* Contiguous: a file in Fortran order is read as a view. */
    fb_tensor *t[2] = {fb_contiguous(fb_npy_load(ctx, job->input)),
                       fb_contiguous(fb_npy_load(ctx, job->target))};
    if (!t[0] || !t[1] || !same_length(job, ctx, t))
        return 1;
    fb_dataset_field fields[2] = {{.name = "input"}, {.name = "target"}};
    const void *values[2];
    for (int i = 0; i < 2; i++) {
        fb_shape shape = fb_shape_of(t[i]);
        fields[i].dtype = fb_dtype_of(t[i]);
        fields[i].shape = fb_shape_make(shape.n - 1, shape.d + 1);
        values[i] = fb_data(t[i]);
    }
    fb_dataset *ds = fb_dataset_create(
        ctx, job->out, fields, 2, FB_OPTS(fb_dataset_options, .shard_samples = job->shard_samples));
    return ds && !fb_dataset_append(ds, fb_size(t[0], 0), values) && !fb_dataset_finish(ds) ? 0 : 1;
}
