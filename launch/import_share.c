/* What all imports share: their part of the work, the dataset, whole files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch/import_priv.h"

void fbi_import_range(const fbi_import *job, int64_t n, int64_t *begin, int64_t *end)
{
    *begin = (int64_t)((__int128)n * job->rank / job->ranks);
    *end = (int64_t)((__int128)n * (job->rank + 1) / job->ranks);
}

/* --- the dataset --- */

static bool same_labels(const fb_dataset_field *a, const fb_dataset_field *b)
{
    bool same = a->n_labels == b->n_labels;
    for (int64_t i = 0; same && i < a->n_labels; i++)
        same = !strcmp(a->labels[i], b->labels[i]);
    return same;
}

/* What is appended must be what is there. */
static bool check_fields(const fbi_import *job, fb_context *ctx, const fb_dataset *ds,
                         const fb_dataset_field *fields, int n)
{
    char a[128], b[128];
    for (int i = 0; i < n; i++) {
        fb_dataset_field f = fb_dataset_field_at(ds, i);
        if (fb_dataset_field_count(ds) != n || strcmp(f.name, fields[i].name) != 0)
            fb_fail(ctx, FB_E_ARG,
                    "import %s: its field %d is \"%s\" of %d, \"%s\" of %d would be "
                    "appended",
                    job->out, i, f.name ? f.name : "", fb_dataset_field_count(ds), fields[i].name,
                    n);
        else if (f.dtype != fields[i].dtype || f.varies != fields[i].varies ||
                 !fb_shape_equal(f.shape, fields[i].shape) || f.scale != fields[i].scale ||
                 f.shift != fields[i].shift)
            fb_fail(
                ctx, FB_E_SHAPE,
                "import %s: field %s is %s %s, x * %g + %g; %s %s, x * %g + %g would be appended",
                job->out, f.name, fb_dtype_name(f.dtype), fb_shape_text(f.shape, a, sizeof a),
                f.scale, f.shift, fb_dtype_name(fields[i].dtype),
                fb_shape_text(fields[i].shape, b, sizeof b), fields[i].scale, fields[i].shift);
        else if (!same_labels(&f, &fields[i]))
            fb_fail(ctx, FB_E_ARG,
                    "import %s: field %s has other labels, or in another order: numbers would mean "
                    "something else",
                    job->out, f.name);
        else
            continue;
        return false;
    }
    return true;
}

fb_dataset *fbi_import_create(const fbi_import *job, fb_context *ctx,
                              const fb_dataset_field *fields, int n_fields)
{
    const fb_dataset_options options = {
        .shard_samples = job->shard_samples, .shard_bytes = job->shard_bytes, .group = job->group};
    if (!job->append)
        return fb_dataset_create(ctx, job->out, fields, n_fields, &options);
    fb_dataset *ds = fb_dataset_extend(ctx, job->out, &options);
    if (ds && check_fields(job, ctx, ds, fields, n_fields))
        return ds;
    fb_dataset_close(ds);
    return NULL;
}

int fbi_import_finish(fb_dataset *ds)
{
    bool good = ds && !fb_dataset_finish(ds);
    fb_dataset_close(ds);
    return good ? 0 : 1;
}

char *fbi_read_file(fb_context *ctx, const char *path, size_t *bytes)
{
    size_t room = 1 << 16;
    FILE *file = fopen(path, "rb");
    char *data = file ? malloc(room) : NULL;
    *bytes = 0;
    while (data && !feof(file) && !ferror(file)) {
        *bytes += fread(data + *bytes, 1, room - *bytes - 1, file);
        char *larger = room - *bytes > 1 ? data : realloc(data, room *= 2);
        if (!larger)
            free(data);
        data = larger;
    }
    bool good = data && !ferror(file);
    if (!good)
        fb_fail(ctx, file ? FB_E_IO : FB_E_NOT_FOUND, "import %s: cannot read it: %s", path,
                strerror(errno));
    if (file)
        fclose(file);
    if (good)
        data[*bytes] = '\0';
    else
        free(data);
    return good ? data : NULL;
}
