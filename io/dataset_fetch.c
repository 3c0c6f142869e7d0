/* Samples of a dataset, for the loader's threads: no context, no HDF5, no locks. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/dataset_priv.h"

/* The shard that holds a sample: shards but the last are equally long in practice, so try there
 * first. */
static fbi_shard *shard_of(fb_dataset *ds, int64_t index)
{
    int64_t guess = index / ds->shards[0].n;
    if (guess >= ds->n_shards)
        guess = ds->n_shards - 1;
    while (index < ds->shards[guess].begin)
        guess--;
    while (index >= ds->shards[guess].begin + ds->shards[guess].n)
        guess++;
    return &ds->shards[guess];
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

static bool read_fully(int fd, char *out, size_t bytes, int64_t at)
{
    errno = 0;
    while (bytes) {
        ssize_t got = pread(fd, out, bytes, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        out += got;
        at += got;
        bytes -= (size_t)got;
    }
    return true;
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

fb_status fbi_dataset_fetch(fb_dataset *ds, int64_t index, void *const *out, char *text,
                            size_t size)
{
    if (ds->read)
        return call_back(ds, index, out, text, size);
    fbi_shard *shard = shard_of(ds, index);
    int64_t row = index - shard->begin;
    char what[160] = "";
    int fd = -1;
    for (int f = 0; f < ds->n_fields && !*what; f++) {
        size_t bytes = ds->bytes[f];
        if (shard->held[f]) {
            memcpy(out[f], shard->held[f] + (size_t)row * bytes, bytes);
            continue;
        }
        if (fd < 0)
            fd = acquire(ds, shard, what, sizeof what);
        if (fd >= 0 && !read_fully(fd, out[f], bytes, shard->at[f] + row * (int64_t)bytes))
            snprintf(what, sizeof what, "cannot read sample %lld: %s", (long long)index,
                     errno ? strerror(errno) : "the file ends too early");
    }
    release(shard, fd);
    if (!*what)
        return FB_OK;
    snprintf(text, size, "dataset %s: shard %s: %s; was the dataset changed during the run?",
             ds->path, shard->name, what);
    return FB_E_IO;
}

static fb_status hold(fb_dataset *ds, fbi_shard *shard, int f)
{
    char what[160] = "";
    size_t bytes = (size_t)shard->n * ds->bytes[f];
    shard->held[f] = malloc(bytes);
    if (!shard->held[f])
        return fbi_fail(ds->ctx, FB_E_NOMEM, "dataset %s: no memory for field %s", ds->path,
                        ds->names[f]);
    int fd = acquire(ds, shard, what, sizeof what);
    if (fd >= 0 && !read_fully(fd, shard->held[f], bytes, shard->at[f]))
        snprintf(what, sizeof what, "%s", errno ? strerror(errno) : "the file ends too early");
    release(shard, fd);
    if (!*what)
        return FB_OK;
    return fbi_fail(ds->ctx, FB_E_IO, "dataset %s: shard %s: cannot read field %s: %s", ds->path,
                    shard->name, ds->names[f], what);
}

fb_status fbi_dataset_hold(fb_dataset *ds)
{
    enum { MOST = 64 << 20 };
    fb_status st = FB_OK;
    for (int f = 0; f < ds->n_fields; f++) {
        if (ds->size > (int64_t)(MOST / ds->bytes[f]))
            continue;
        for (int s = 0; !st && s < ds->n_shards; s++)
            st = hold(ds, &ds->shards[s], f);
    }
    return st;
}
