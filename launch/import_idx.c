/* The IDX format of MNIST: http://yann.lecun.com/exdb/mnist. Plain or compressed with gzip. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>
#include <zlib.h>

#include "launch/import_priv.h"

enum { IDX_U8 = 0x08, BLOCK_BYTES = 1 << 22 };

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

static void say_end(const idx *x, fb_context *ctx, const char *where)
{
    fb_fail(ctx, FB_E_IO, "import %s: ends %s: copy or download it again", x->path, where);
}

/* Fills `out`, or says why not: a damaged gzip file is not a short one. */
static bool read_bytes(idx *x, fb_context *ctx, void *out, size_t bytes, const char *where)
{
    int code = Z_OK;
    if (gzread(x->file, out, (unsigned)bytes) == (int)bytes)
        return true;
    const char *text = gzerror(x->file, &code);
    if (code == Z_ERRNO)
        fb_fail(ctx, FB_E_IO, "import %s: cannot read it: %s", x->path, strerror(errno));
    else if (code == Z_OK || code == Z_STREAM_END)
        say_end(x, ctx, where);
    else
        fb_fail(ctx, FB_E_IO,
                "import %s: is a damaged or cut gzip file (%s): copy or download it "
                "again",
                x->path, text);
    return false;
}

static bool read_head(idx *x, fb_context *ctx, const unsigned char head[4])
{
    if (head[0] || head[1]) {
        fb_fail(ctx, FB_E_IO,
                "import %s: is no IDX file: it begins with %02x %02x %02x %02x, IDX with 00 00",
                x->path, head[0], head[1], head[2], head[3]);
        return false;
    }
    if (head[2] != IDX_U8 || head[3] < 1 || head[3] > FB_MAX_DIMS) {
        fb_fail(ctx, FB_E_UNSUPPORTED,
                "import %s: IDX type 0x%02x with %d dimensions; bytes (0x08) with "
                "1 to %d dimensions can be read",
                x->path, head[2], head[3], FB_MAX_DIMS);
        return false;
    }
    for (int i = 0; i < head[3]; i++) {
        unsigned char size[4];
        if (!read_bytes(x, ctx, size, 4, "within its head"))
            return false;
        if (i == 0)
            x->n = big_endian(size);
        else
            x->sample.d[x->sample.n++] = big_endian(size);
    }
    return true;
}

static void before_end(const idx *x, char *out, size_t size)
{
    snprintf(out, size, "before its %lld samples", (long long)x->n);
}

/* Memory is asked for only if the file can hold what its head says. */
static bool holds_samples(idx *x, fb_context *ctx)
{
    enum { MOST_RATIO = 1032 }; /* of deflate: zlib's technical notes */
    struct stat info;
    int64_t bytes, most, sample = fb_shape_numel(x->sample);
    if (stat(x->path, &info) || !S_ISREG(info.st_mode))
        return true; /* a pipe: who knows */
    most = gzdirect(x->file) ? info.st_size : info.st_size * MOST_RATIO;
    if (sample >= 0 && !__builtin_mul_overflow(x->n, sample, &bytes) && bytes <= most)
        return true;
    char where[64];
    before_end(x, where, sizeof where);
    say_end(x, ctx, where);
    return false;
}

static bool open_idx(idx *x, fb_context *ctx, const char *path)
{
    unsigned char head[4];
    errno = 0;
    *x = (idx){.path = path, .file = gzopen(path, "rb")};
    if (!x->file) {
        fb_fail(ctx, FB_E_NOT_FOUND, "import %s: cannot open it: %s", path,
                errno ? strerror(errno) : "no memory");
        return false;
    }
    return read_bytes(x, ctx, head, 4, "within its head") && read_head(x, ctx, head) &&
           holds_samples(x, ctx);
}

static bool read_rows(idx *x, fb_context *ctx, void *out, int64_t rows)
{
    char where[64];
    before_end(x, where, sizeof where);
    return read_bytes(x, ctx, out, (size_t)(rows * fb_shape_numel(x->sample)), where);
}

static bool at_end(idx *x, fb_context *ctx)
{
    char more;
    if (gzread(x->file, &more, 1) <= 0)
        return true;
    fb_fail(ctx, FB_E_IO, "import %s: has more bytes than its head says: copy or download it again",
            x->path);
    return false;
}

static fb_dataset *create(const fbi_import *job, fb_context *ctx, const idx *images,
                          const idx *labels)
{
    if (!fb_ok(ctx))
        return fbi_import_create(job, ctx, NULL, 0);
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
    return fbi_import_create(job, ctx, fields, 2);
}

/* Samples from `done` on that are read at once: none of them on the other side of a border. */
static int64_t stop_at(int64_t done, int64_t rows, int64_t first, int64_t last, int64_t n)
{
    int64_t border = done < first ? first : done < last ? last : n;
    return border - done < rows ? border - done : rows;
}

/* Every rank reads all of it, which may be compressed, and keeps its part. */
static void copy(const fbi_import *job, fb_context *ctx, fb_dataset *ds, idx *images, idx *labels)
{
    int64_t first, last;
    fbi_import_range(job, images->n, &first, &last);
    int64_t sample = fb_shape_numel(images->sample);
    int64_t rows = sample < BLOCK_BYTES ? BLOCK_BYTES / sample : 1;
    void *x = sample < INT32_MAX ? malloc((size_t)(rows * sample)) : NULL,
         *y = malloc((size_t)rows);
    bool good = x && y;
    if (!good)
        fb_fail(ctx, FB_E_NOMEM, "import %s: no memory for samples of %lld bytes", images->path,
                (long long)sample);
    if (good && job->rank == 0)
        fbi_progress_begin(job->progress, "samples", images->n);
    for (int64_t done = 0, n; good && done < images->n; done += n) {
        n = stop_at(done, rows, first, last, images->n);
        good = read_rows(images, ctx, x, n) && read_rows(labels, ctx, y, n);
        if (good && done >= first && done < last)
            good = !fb_dataset_append(ds, n, (const void *const[]){x, y});
        fbi_progress_add(job->progress, n);
    }
    free(x);
    free(y);
    if (good && at_end(images, ctx))
        at_end(labels, ctx);
}

int fbi_import_idx(const fbi_import *job, fb_context *ctx)
{
    idx images = {0}, labels = {0};
    if (open_idx(&images, ctx, job->input) && open_idx(&labels, ctx, job->target)) {
        if (images.n != labels.n)
            fb_fail(ctx, FB_E_SHAPE, "import: %s has %lld samples, %s has %lld", job->input,
                    (long long)images.n, job->target, (long long)labels.n);
        else if (labels.sample.n)
            fb_fail(ctx, FB_E_SHAPE,
                    "import %s: has %d dimensions, labels have one: are these the "
                    "images?",
                    job->target, labels.sample.n + 1);
    }
    fb_dataset *ds = create(job, ctx, &images, &labels); /* checks the shapes */
    if (ds)
        copy(job, ctx, ds, &images, &labels);
    if (images.file)
        gzclose(images.file);
    if (labels.file)
        gzclose(labels.file);
    return fbi_import_finish(ds);
}
