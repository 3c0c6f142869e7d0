/* Samples of a dataset, for the loader's threads: no context, no HDF5, no locks. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/cache_priv.h"
#include "io/dataset_priv.h"
#include "io/file_priv.h"
#include "io/ring_priv.h"

/* The shard that holds a sample: shards but the last are equally long in most datasets, so try
 * there first. */
static fbi_shard *shard_of(fb_dataset *ds, int64_t index)
{
    int64_t guess = index / ds->shards[0].n;
    if (guess < ds->n_shards && index >= ds->shards[guess].begin &&
        index - ds->shards[guess].begin < ds->shards[guess].n)
        return &ds->shards[guess];
    int low = 0, high = ds->n_shards; /* begin of low <= index < begin of high */
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (ds->shards[middle].begin <= index)
            low = middle;
        else
            high = middle;
    }
    return &ds->shards[low];
}

/* A shard's file, opened at its first use: a job of many ranks must not open every shard on each of
 * them. -1: `text` says why. Give it back with release. */
static int acquire(fb_dataset *ds, fbi_shard *shard, char *text, size_t size)
{
    int fd = atomic_load_explicit(&shard->fd, memory_order_acquire);
    if (fd >= 0)
        return fd;
    char path[FBI_PATH_BYTES];
    struct stat info;
    fbi_dataset_beside(ds, shard->name, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info)) {
        snprintf(text, size, "cannot open it: %s", strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    if (info.st_size != shard->bytes) {
        snprintf(text, size, "is %lld bytes, the head says %lld", (long long)info.st_size,
                 (long long)shard->bytes);
        close(fd);
        return -1;
    }
    int none = -1;
    if (atomic_fetch_add(&ds->n_open, 1) >= ds->max_open ||
        !atomic_compare_exchange_strong(&shard->fd, &none, fd))
        atomic_fetch_sub(&ds->n_open, 1); /* too many, or another thread was faster */
    return fd;
}

static void release(fbi_shard *shard, int fd)
{
    if (fd >= 0 && fd != atomic_load_explicit(&shard->fd, memory_order_relaxed))
        close(fd);
}

static fb_status call_back(const fb_dataset *ds, int64_t index, void *const *out, char *text,
                           size_t size)
{
    int rc = ds->read(ds->user, index, out);
    if (!rc)
        return FB_OK;
    snprintf(text, size, "dataset (custom): the read callback failed with %d at sample %lld", rc,
             (long long)index);
    return FB_E_USER;
}

bool fbi_dataset_read_at(fb_dataset *ds, fbi_shard *shard, void *out, size_t bytes, int64_t at,
                         char *text, size_t size)
{
    int fd = acquire(ds, shard, text, size);
    if (fd < 0)
        return false;
    bool good = fbi_file_read_at(fd, out, bytes, at);
    if (!good)
        snprintf(text, size, "cannot read it: %s",
                 errno ? strerror(errno) : "the file ends too early");
    release(shard, fd);
    return good;
}

/* A shard during one fetch; its file is opened when it is needed. */
typedef struct reader {
    fb_dataset *ds;
    fbi_shard *shard;
    int fd;
    char what[160]; /* what went wrong */
} reader;

static bool read_file(reader *r, void *out, size_t bytes, int64_t at)
{
    if (r->ds->cache && fbi_cache_read(r->ds, r->shard, out, bytes, at))
        return true;
    if (r->fd < 0)
        r->fd = acquire(r->ds, r->shard, r->what, sizeof r->what);
    if (r->fd < 0)
        return false;
    if (fbi_file_read_at(r->fd, out, bytes, at))
        return true;
    snprintf(r->what, sizeof r->what, "cannot read it: %s",
             errno ? strerror(errno) : "the file ends too early");
    return false;
}

/* The rows of a sample of a field that varies: [span[0], span[1]). */
static bool find_rows(reader *r, int f, int64_t row, int64_t span[2])
{
    const fbi_place *place = &r->shard->place[f];
    if (r->shard->starts[f])
        memcpy(span, r->shard->starts[f] + row, 2 * sizeof *span);
    else if (!read_file(r, span, 2 * sizeof *span, place->offsets + row * (int64_t)sizeof *span))
        return false;
    if (0 <= span[0] && span[0] <= span[1] && span[1] <= place->rows)
        return true;
    snprintf(r->what, sizeof r->what, "its offsets are damaged: rows %lld to %lld of %lld",
             (long long)span[0], (long long)span[1], (long long)place->rows);
    return false;
}

/* Rows (of a fixed field: samples) of a shard. */
static bool copy_rows(reader *r, int f, int64_t first, int64_t n, void *out)
{
    size_t bytes = (size_t)n * r->ds->bytes[f];
    int64_t begin = first * (int64_t)r->ds->bytes[f];
    if (r->shard->held[f])
        memcpy(out, r->shard->held[f] + begin, bytes);
    return r->shard->held[f] || !bytes || read_file(r, out, bytes, r->shard->place[f].at + begin);
}

/* One field of a sample; `rows` as in fbi_dataset_fetch. */
static bool fetch_field(reader *r, int f, int64_t row, void *out, int64_t *rows)
{
    int64_t span[2] = {row, row + 1};
    if (r->ds->fields[f].varies) {
        if (!find_rows(r, f, row, span))
            return false;
        int64_t has = span[1] - span[0];
        span[1] = span[0] + (has < *rows ? has : *rows);
        *rows = has;
    }
    return copy_rows(r, f, span[0], span[1] - span[0], out);
}

static fb_status fetched(const reader *r, bool good, int64_t index, char *text, size_t size)
{
    if (good)
        return FB_OK;
    snprintf(text, size,
             "dataset %s: shard %s: %s (sample %lld); was the dataset changed during the run?",
             r->ds->path, r->shard->name, r->what, (long long)index);
    return FB_E_IO;
}

fb_status fbi_dataset_fetch(fb_dataset *ds, int64_t index, void *const *out, int64_t *rows,
                            char *text, size_t size)
{
    if (ds->read)
        return call_back(ds, index, out, text, size);
    if (ds->ring) {
        fbi_ring_fetch(ds, index, out);
        return FB_OK;
    }
    if (ds->view)
        return ds->view->fetch(ds, index, out, rows, text, size);
    index = fbi_dataset_place(ds, index);
    reader r = {.ds = ds, .shard = shard_of(ds, index), .fd = -1};
    bool good = true;
    for (int f = 0; f < ds->n_fields && good; f++)
        if (out[f] && (rows || !ds->fields[f].varies))
            good = fetch_field(&r, f, index - r.shard->begin, out[f], rows ? &rows[f] : NULL);
    release(r.shard, r.fd);
    return fetched(&r, good, index, text, size);
}

fb_status fbi_dataset_fetch_rows(fb_dataset *ds, int f, int64_t index, int64_t first, int64_t n,
                                 void *out, char *text, size_t size)
{
    if (ds->view)
        return ds->view->fetch_rows(ds, f, index, first, n, out, text, size);
    index = fbi_dataset_place(ds, index);
    reader r = {.ds = ds, .shard = shard_of(ds, index), .fd = -1};
    int64_t span[2];
    bool good = find_rows(&r, f, index - r.shard->begin, span);
    if (good && (first < 0 || n < 0 || n > span[1] - span[0] - first)) {
        snprintf(r.what, sizeof r.what, "has %lld rows of field %s, not %lld",
                 (long long)(span[1] - span[0]), ds->names[f], (long long)(first + n));
        good = false;
    }
    good = good && copy_rows(&r, f, span[0] + first, n, out);
    release(r.shard, r.fd);
    return fetched(&r, good, index, text, size);
}

bool fbi_dataset_waits(const fb_dataset *ds)
{
    bool held = !ds->read && !ds->view;
    if (ds->ring)
        return false;
    for (int f = 0; held && f < ds->n_fields; f++)
        held = ds->shards[0].held[f] != NULL;
    return !held;
}

/* --- long reads --- */

/* Bytes of field f in rows first .. first + n of a shard, whose samples they are if it is fixed.
 * false: nothing is known about them yet. */
static bool bytes_of(reader *r, int f, int64_t first, int64_t n, int64_t *at, int64_t *bytes)
{
    int64_t begin[2] = {first, 0}, end[2] = {first + n, 0};
    if (r->ds->fields[f].varies &&
        (!find_rows(r, f, first, begin) || !find_rows(r, f, first + n - 1, end)))
        return false;
    int64_t stop = r->ds->fields[f].varies ? end[1] : end[0];
    *at = r->shard->place[f].at + begin[0] * (int64_t)r->ds->bytes[f];
    *bytes = (stop - begin[0]) * (int64_t)r->ds->bytes[f];
    return true;
}

/* The kernel reads no more than its read-ahead at a time. */
static void ask_for(reader *r, int f, int64_t first, int64_t n)
{
    enum { PIECE = 128 << 10 };
    int64_t at, bytes;
    if (r->shard->held[f] || !bytes_of(r, f, first, n, &at, &bytes))
        return;
    if (r->fd < 0)
        r->fd = acquire(r->ds, r->shard, r->what, sizeof r->what);
    for (int64_t k = 0; r->fd >= 0 && k < bytes; k += PIECE)
        posix_fadvise(r->fd, (off_t)(at + k), bytes - k < PIECE ? bytes - k : PIECE,
                      POSIX_FADV_WILLNEED);
}

void fbi_dataset_ahead(fb_dataset *ds, int64_t first, int64_t n)
{
    if (ds->read || ds->view || ds->cache || !fbi_dataset_waits(ds))
        return;
    int64_t at = fbi_dataset_place(ds, first), end = at + n;
    while (at < end) {
        reader r = {.ds = ds, .shard = shard_of(ds, at), .fd = -1};
        int64_t stop = r.shard->begin + r.shard->n < end ? r.shard->begin + r.shard->n : end;
        for (int f = 0; f < ds->n_fields; f++)
            ask_for(&r, f, at - r.shard->begin, stop - at);
        release(r.shard, r.fd);
        at = stop;
    }
}

/* --- one sample as a tensor --- */

static fb_status check_sample(fb_dataset *ds, const char *field, int64_t index)
{
    if (ds->written)
        return fbi_fail(ds->ctx, FB_E_STATE,
                        "dataset %s: was opened for writing: finish it, then open it", ds->path);
    if (fbi_dataset_field(ds, field) < 0)
        return fbi_fail(ds->ctx, FB_E_NOT_FOUND, "dataset %s: has no field \"%s\"", ds->path,
                        field ? field : "(null)");
    if (ds->ring)
        return fbi_fail(ds->ctx, FB_E_UNSUPPORTED,
                        "dataset (ring): its samples are given by a loader only");
    if (index < 0 || index >= ds->size)
        return fbi_fail(ds->ctx, FB_E_ARG, "dataset %s: sample %lld of %lld", ds->path,
                        (long long)index, (long long)ds->size);
    return FB_OK;
}

/* Room for one sample of a field, and of the others if the dataset gives all of them. */
static bool make_room(const fb_dataset *ds, int f, char *out[FB_MAX_FIELDS],
                      int64_t rows[FB_MAX_FIELDS])
{
    bool good = true;
    for (int i = 0; i < ds->n_fields; i++) {
        rows[i] = ds->fields[i].varies ? ds->fields[i].longest : 1;
        out[i] = ds->whole || i == f ? malloc((size_t)rows[i] * ds->bytes[i] + 1) : NULL;
        good = good && (out[i] || !(ds->whole || i == f));
    }
    return good;
}

fb_tensor *fb_dataset_sample(fb_dataset *ds, const char *field, int64_t index)
{
    if (!ds)
        return NULL;
    FBI_ENTRY(ds->ctx);
    if (!fbi_enter(ds->ctx) || check_sample(ds, field, index))
        return NULL;
    int f = fbi_dataset_field(ds, field);
    char *out[FB_MAX_FIELDS] = {NULL}, text[512];
    int64_t rows[FB_MAX_FIELDS];
    fb_tensor *t = NULL;
    fb_status st = FB_E_NOMEM;
    snprintf(text, sizeof text, "dataset %s: no memory for sample %lld", ds->path,
             (long long)index);
    if (make_room(ds, f, out, rows))
        st = fbi_dataset_fetch(ds, index, (void *const *)out, rows, text, sizeof text);
    fb_shape shape = ds->fields[f].shape;
    if (ds->fields[f].varies) {
        shape = (fb_shape){.n = shape.n + 1, .d = {rows[f]}};
        memcpy(shape.d + 1, ds->fields[f].shape.d, (size_t)(shape.n - 1) * sizeof *shape.d);
    }
    if (st)
        fbi_fail(ds->ctx, st, "%s", text);
    else
        t = fb_from(ds->ctx, ds->fields[f].dtype, shape, out[f]);
    for (int i = 0; i < ds->n_fields; i++)
        free(out[i]);
    return t;
}

/* --- small fields in memory --- */

static bool hold_field(fb_dataset *ds, fbi_shard *shard, int f, char *what, size_t size)
{
    const fbi_place *place = &shard->place[f];
    size_t bytes = fbi_dataset_field_bytes(ds, shard, f);
    int64_t first, last;
    if (!fbi_dataset_read_at(ds, shard, shard->held[f], bytes, place->at, what, size) ||
        (ds->fields[f].varies &&
         !fbi_dataset_read_at(ds, shard, shard->starts[f], (size_t)(shard->n + 1) * sizeof(int64_t),
                              place->offsets, what, size)))
        return false;
    if (fbi_dataset_find_damage(ds, shard, f, shard->held[f], &first, &last, what, size))
        snprintf(what, size,
                 "samples %lld to %lld do not have their checksum; copy the shard again",
                 (long long)first, (long long)last);
    return !*what;
}

static fb_status hold(fb_dataset *ds, fbi_shard *shard, int f)
{
    char what[160] = "";
    bool varies = ds->fields[f].varies;
    shard->held[f] = malloc(fbi_dataset_field_bytes(ds, shard, f) + 1);
    shard->starts[f] = varies ? malloc((size_t)(shard->n + 1) * sizeof(int64_t)) : NULL;
    if (!shard->held[f] || (varies && !shard->starts[f]))
        return fbi_fail(ds->ctx, FB_E_NOMEM, "dataset %s: no memory for field %s", ds->path,
                        ds->names[f]);
    if (hold_field(ds, shard, f, what, sizeof what))
        return FB_OK;
    return fbi_fail(ds->ctx, FB_E_IO, "dataset %s: shard %s: cannot read field %s: %s", ds->path,
                    shard->name, ds->names[f], what);
}

fb_status fbi_dataset_hold(fb_dataset *ds)
{
    enum { MOST = 64 << 20 };
    fb_status st = FB_OK;
    for (int f = 0; f < ds->n_fields; f++) {
        size_t bytes = 0;
        for (int s = 0; s < ds->n_shards; s++) {
            bytes += fbi_dataset_field_bytes(ds, &ds->shards[s], f);
            if (ds->fields[f].varies)
                bytes += (size_t)(ds->shards[s].n + 1) * sizeof(int64_t);
        }
        for (int s = 0; !st && s < ds->n_shards && bytes <= MOST; s++)
            st = hold(ds, &ds->shards[s], f);
    }
    return st;
}
