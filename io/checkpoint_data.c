/* The values of a checkpoint: a file of HDF5, written in one pass in which everything is hashed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "io/file_priv.h"
#include "io/frame_priv.h"
#include "io/save_priv.h"

enum {
    CHUNK = 1 << 20,     /* stays in the cache between hashing and writing */
    BLOCK = 4096,        /* of direct writes: in memory and in the file */
    WRITE_BACK = 8 << 20 /* the disk begins after so many bytes, and not when fsync is called */
};

/* A file that is written from its beginning to its end. */
typedef struct sink {
    int fd;
    bool direct; /* past the page cache: slower, but the processors have nearly nothing to do */
    char *buf;
    size_t n;              /* in buf */
    int64_t at, behind;    /* written; asked to be written back */
    XXH3_state_t *outside; /* of all that is no values */
    const fbi_pace *pace;
} sink;

/* From now on; false: that is so already. */
static bool write_through_cache(sink *k)
{
    if (!k->direct)
        return false;
    k->direct = false;
    return fcntl(k->fd, F_SETFL, fcntl(k->fd, F_GETFL) & ~O_DIRECT) == 0;
}

static bool write_out(sink *k, const char *data, size_t bytes)
{
    while (bytes) {
        ssize_t n = write(k->fd, data, bytes);
        if (n < 0 && (errno == EINTR || (errno == EINVAL && write_through_cache(k))))
            continue;
        if (n <= 0)
            return false;
        data += n;
        bytes -= (size_t)n;
        k->at += n;
    }
    if (!k->direct && k->at - k->behind >= WRITE_BACK) {
        sync_file_range(k->fd, k->behind, k->at - k->behind, SYNC_FILE_RANGE_WRITE);
        k->behind = k->at;
    }
    if (k->pace->rest)
        k->pace->rest(k->pace->self);
    return true;
}

static bool flush(sink *k)
{
    size_t n = k->n;
    k->n = 0;
    if (n % BLOCK)
        write_through_cache(k); /* the end of the file */
    return !n || write_out(k, k->buf, n);
}

/* Whole blocks only. */
static bool put_blocks(sink *k, const char *data, size_t bytes)
{
    while (bytes) {
        size_t n = CHUNK - k->n < bytes ? CHUNK - k->n : bytes;
        memcpy(k->buf + k->n, data, n);
        k->n += n;
        data += n;
        bytes -= n;
        if (k->n == CHUNK && !flush(k))
            return false;
    }
    return true;
}

/* At most CHUNK bytes. */
static bool put(sink *k, const char *data, size_t bytes)
{
    if (k->direct)
        return put_blocks(k, data, bytes);
    if (k->n + bytes > CHUNK && !flush(k))
        return false;
    if (bytes == CHUNK)
        return write_out(k, data, bytes);
    memcpy(k->buf + k->n, data, bytes);
    k->n += bytes;
    return true;
}

/* Bytes of the frame, up to place `to` of the file. */
static bool put_frame(sink *k, const fbi_frame *f, int64_t to)
{
    for (int64_t at = k->at + (int64_t)k->n; at < to; at = k->at + (int64_t)k->n) {
        size_t bytes = to - at < CHUNK ? (size_t)(to - at) : CHUNK;
        XXH3_64bits_update(k->outside, f->image + at, bytes);
        if (!put(k, f->image + at, bytes))
            return false;
    }
    return true;
}

static bool put_values(sink *k, const char *data, size_t n, XXH3_state_t *own, XXH3_state_t *digest)
{
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t left = n - at, bytes = left < CHUNK ? left : CHUNK;
        XXH3_64bits_update(own, data + at, bytes);
        if (digest)
            XXH3_64bits_update(digest, data + at, bytes);
        if (!put(k, data + at, bytes))
            return false;
    }
    return true;
}

/* --- what is to be where --- */

/* A data set of a piece, which says what it is part of. */
static bool lay_out_piece(hid_t file, const fbi_item *item, fbi_file_piece *p)
{
    hid_t set = fbi_h5_create(file, item->key, item->dtype, -1, p->count);
    bool good = set >= 0 && fbi_h5_put_text(set, "dtype", item->kind);
    if (good && p->bytes < (int64_t)item->bytes)
        good = fbi_h5_put_ints(set, "whole_shape", item->shape.n, item->shape.d) &&
               fbi_h5_put_ints(set, p->flat ? "begin_flat" : "begin", p->begin.n, p->begin.d);
    p->offset = good ? fbi_frame_offset(set) : -1;
    return set >= 0 && H5Dclose(set) >= 0 && good && (p->offset >= 0 || !p->bytes);
}

static bool lay_out_share(fbi_saving *s, fbi_frame *frame, fbi_share share, fbi_file_pieces *pieces,
                          const char **what)
{
    const fbi_snapshot *snap = s->snapshot;
    int64_t at = 0, total = fbi_share_total(snap);
    for (int64_t i = 0; i < snap->n; i++) {
        const fbi_item *item = &snap->items[i];
        fbi_file_piece p = fbi_piece_whole(item->shape);
        bool here = fbi_share_piece(snap, i, share, total, &at, &p);
        bool empty = item->kind && !item->bytes && share.number == 0;
        *what = item->key;
        if ((here || empty) && !lay_out_piece(frame->file, item, &p))
            return false;
        if (here && !fbi_pieces_add(pieces, p))
            return false;
    }
    return true;
}

/* The frame, and a piece for each item that has values in this file, in their order. */
static bool lay_out(fbi_saving *s, fbi_frame *frame, fbi_share share, fbi_file_pieces *pieces)
{
    const char *what = "the file";
    fbi_h5_lock();
    errno = 0;
    bool good = fbi_frame_begin(frame) && lay_out_share(s, frame, share, pieces, &what) &&
                fbi_frame_end(frame);
    fbi_h5_unlock();
    if (!good)
        snprintf(s->text, sizeof s->text, "%s: %s", what,
                 errno ? strerror(errno) : "HDF5 cannot write it");
    return good;
}

/* HDF5 puts values one behind the other; if it ever does not, they are hashed in a pass of their
 * own. */
static bool in_order(const fbi_file_pieces *p)
{
    for (int64_t i = 1; i < p->n; i++)
        if (p->v[i].offset < p->v[i - 1].offset + p->v[i - 1].bytes)
            return false;
    return true;
}

static int by_offset(const void *a, const void *b)
{
    int64_t x = (*(fbi_file_piece *const *)a)->offset, y = (*(fbi_file_piece *const *)b)->offset;
    return x < y ? -1 : x > y;
}

/* The pieces in the order of the file; NULL: no memory. */
static fbi_file_piece **sorted(const fbi_file_pieces *p)
{
    fbi_file_piece **list = malloc((size_t)(p->n + 1) * sizeof *list);
    for (int64_t i = 0; list && i < p->n; i++)
        list[i] = &p->v[i];
    if (list)
        qsort(list, (size_t)p->n, sizeof *list, by_offset);
    return list;
}

/* Names and numbers on the way to `to` are part of the digest, too. */
static const fbi_item *digest_until(XXH3_state_t *digest, const fbi_item *from, const fbi_item *to)
{
    for (; from < to; from++) {
        XXH3_64bits_update(digest, from->key, strlen(from->key));
        if (!from->kind)
            XXH3_64bits_update(digest, from->data, from->bytes);
    }
    return from;
}

typedef struct hashes {
    XXH3_state_t *outside, *piece, *digest;
} hashes;

/* All of the file; digest: hash everything there is, too. */
static bool stream(fbi_saving *s, sink *k, const fbi_frame *frame, fbi_data_file *out,
                   const hashes *h, bool digest)
{
    const fbi_item *items = s->snapshot->items, *next = items;
    fbi_file_piece **list = sorted(&out->pieces);
    bool good = true;
    errno = ENOMEM;
    if (!list)
        return false;
    for (int64_t i = 0; good && i < out->pieces.n; i++) {
        fbi_file_piece *p = list[i];
        const fbi_item *item = &items[p->file];
        XXH3_64bits_reset(h->piece);
        if (digest)
            next = digest_until(h->digest, next, item + 1);
        good = put_frame(k, frame, p->offset) &&
               put_values(k, item->data + fbi_share_begin(item, p) - item->from, (size_t)p->bytes,
                          h->piece, digest ? h->digest : NULL);
        p->hash = XXH3_64bits_digest(h->piece);
    }
    free(list);
    if (digest)
        digest_until(h->digest, next, items + s->snapshot->n);
    return good && put_frame(k, frame, frame->bytes) && flush(k);
}

/* Who has time writes past the page cache, where the file system can. */
static int open_new(const char *path, bool *direct)
{
    int how = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
    int fd = *direct ? open(path, how | O_DIRECT, 0666) : -1;
    if (fd >= 0)
        return fd;
    *direct = false;
    return open(path, how, 0666);
}

static bool write_file(fbi_saving *s, const char *path, const fbi_frame *frame, fbi_data_file *out,
                       const hashes *h, bool all)
{
    bool digest = all && in_order(&out->pieces); /* in the same pass */
    bool direct = s->pace.rest != NULL;
    int fd = open_new(path, &direct);
    sink k = {.fd = fd,
              .direct = direct,
              .buf = aligned_alloc(BLOCK, CHUNK),
              .outside = h->outside,
              .pace = &s->pace};
    XXH3_64bits_reset(h->outside);
    XXH3_64bits_reset(h->digest);
    bool good = k.fd >= 0 && k.buf && stream(s, &k, frame, out, h, digest) && fsync(k.fd) == 0;
    int why = errno;
    if (k.fd >= 0 && close(k.fd) && good) { /* some file systems say it here */
        good = false;
        why = errno;
    }
    free(k.buf);
    out->bytes = frame->bytes;
    snprintf(out->hash, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(h->outside));
    if (digest)
        snprintf(out->digest, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(h->digest));
    else if (all)
        fbi_snapshot_digest(s->snapshot, out->digest);
    errno = why;
    return good;
}

bool fbi_save_data(fbi_saving *s, const char *path, fbi_share share, fbi_data_file *out)
{
    fbi_frame frame = {.file = H5I_INVALID_HID};
    *out = (fbi_data_file){0};
    bool good = lay_out(s, &frame, share, &out->pieces);
    if (good) {
        hashes h = {XXH3_createState(), XXH3_createState(), XXH3_createState()};
        errno = ENOMEM;
        good =
            h.outside && h.piece && h.digest && write_file(s, path, &frame, out, &h, share.of == 1);
        if (!good)
            snprintf(s->text, sizeof s->text, "cannot write %s: %s", path, strerror(errno));
        XXH3_freeState(h.outside);
        XXH3_freeState(h.piece);
        XXH3_freeState(h.digest);
    }
    fbi_frame_free(&frame);
    return good;
}
