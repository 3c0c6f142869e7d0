/* Two NumPy arrays of the same length: input [n, ...] and target [n, ...]. */
#include <flambeau/io/interchange.h>

#include "launch/import_priv.h"

int fbi_import_npy(const fbi_import *job, fb_context *ctx)
{
    fb_tensor *t[2] = {fb_npy_load(ctx, job->input), fb_npy_load(ctx, job->target)};
    if (!t[0] || !t[1])
        return 1;
    fb_dataset_field fields[2] = {{.name = "input"}, {.name = "target"}};
    const void *values[2];
    for (int i = 0; i < 2; i++) {
        fb_shape shape = fb_shape_of(t[i]);
        if (shape.n < 1 || shape.d[0] != fb_size(t[0], 0)) {
            fb_fail(ctx, FB_E_SHAPE, "import: %s and %s must have the same first size", job->input,
                    job->target);
            return 1;
        }
        fields[i].dtype = fb_dtype_of(t[i]);
        fields[i].shape = fb_shape_make(shape.n - 1, shape.d + 1);
        values[i] = fb_data(t[i]); /* NULL with a message for Fortran order */
    }
    if (!fb_ok(ctx))
        return 1;
    fb_dataset *ds = fb_dataset_create(
        ctx, job->out, fields, 2, FB_OPTS(fb_dataset_options, .shard_samples = job->shard_samples));
    return !fb_dataset_append(ds, fb_size(t[0], 0), values) && !fb_dataset_finish(ds) ? 0 : 1;
}
