/* The IDX format of MNIST: http://yann.lecun.com/exdb/mnist. Plain or compressed with gzip. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "launch/import_priv.h"

enum { IDX_U8 = 0x08, BLOCK = 1024 };

typedef struct idx {
    const char *path;
    gzFile file;
    int64_t n;
    fb_shape sample;
} idx;

static uint32_t big_endian(const unsigned char *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static bool open_idx(idx *x, fb_context *ctx, const char *path)
{
    *x = (idx){.path = path, .file = gzopen(path, "rb")};
    unsigned char head[4], size[4];
    if (!x->file) {
        fb_fail(ctx, FB_E_NOT_FOUND, "import %s: cannot open it: check the path", path);
        return false;
    }
    if (gzread(x->file, head, 4) != 4 || head[0] || head[1]) {
        fb_fail(ctx, FB_E_IO, "import %s: is no IDX file", path);
        return false;
    }
    if (head[2] != IDX_U8 || head[3] < 1 || head[3] > FB_MAX_DIMS) {
        fb_fail(ctx, FB_E_UNSUPPORTED,
                "import %s: IDX type 0x%02x with %d dimensions; bytes (0x08) with "
                "1 to %d dimensions can be read",
                path, head[2], head[3], FB_MAX_DIMS);
        return false;
    }
    for (int i = 0; i < head[3]; i++) {
        if (gzread(x->file, size, 4) != 4) {
            fb_fail(ctx, FB_E_IO, "import %s: ends within its head", path);
            return false;
        }
        if (i == 0)
            x->n = big_endian(size);
        else
            x->sample.d[x->sample.n++] = big_endian(size);
    }
    return true;
}

static bool read_rows(idx *x, fb_context *ctx, void *out, int64_t rows)
{
    int64_t bytes = rows * fb_shape_numel(x->sample);
    if (gzread(x->file, out, (unsigned)bytes) == bytes)
        return true;
    fb_fail(ctx, FB_E_IO, "import %s: ends before its %lld samples: copy or download it again",
            x->path, (long long)x->n);
    return false;
}

static int copy(const fbi_import *job, fb_context *ctx, idx *images, idx *labels)
{
    /* Grey images get their channel. */
    fb_shape deliver = images->sample;
    if (deliver.n == 2)
        deliver = FB_SHAPE(1, deliver.d[0], deliver.d[1]);
    fb_dataset_field fields[] = {{.name = "input",
                                  .dtype = FB_U8,
                                  .shape = images->sample,
                                  .deliver = deliver,
                                  .scale = job->scale,
                                  .shift = job->shift},
                                 {.name = "target", .dtype = FB_U8, .shape = labels->sample}};
    fb_dataset *ds = fb_dataset_create(
        ctx, job->out, fields, 2, FB_OPTS(fb_dataset_options, .shard_samples = job->shard_samples));
    void *x = malloc((size_t)BLOCK * (size_t)fb_shape_numel(images->sample));
    void *y = malloc((size_t)BLOCK * (size_t)fb_shape_numel(labels->sample));
    bool good = ds && x && y;
    for (int64_t done = 0; good && done < images->n; done += BLOCK) {
        int64_t n = images->n - done < BLOCK ? images->n - done : BLOCK;
        good = read_rows(images, ctx, x, n) && read_rows(labels, ctx, y, n) &&
               !fb_dataset_append(ds, n, (const void *const[]){x, y});
    }
    free(x);
    free(y);
    return good && !fb_dataset_finish(ds) ? 0 : 1;
}

int fbi_import_idx(const fbi_import *job, fb_context *ctx)
{
    idx images = {0}, labels = {0};
    int rc = 1;
    if (open_idx(&images, ctx, job->input) && open_idx(&labels, ctx, job->target)) {
        if (images.n != labels.n)
            fb_fail(ctx, FB_E_SHAPE, "import: %s has %lld samples, %s has %lld", job->input,
                    (long long)images.n, job->target, (long long)labels.n);
        else
            rc = copy(job, ctx, &images, &labels);
    }
    if (images.file)
        gzclose(images.file);
    if (labels.file)
        gzclose(labels.file);
    return rc;
}
