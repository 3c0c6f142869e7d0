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

static bool put_values(sink *k, const fbi_item *item, XXH3_state_t *own, XXH3_state_t *digest)
{
    for (size_t at = 0; at < item->bytes; at += CHUNK) {
        size_t left = item->bytes - at, bytes = left < CHUNK ? left : CHUNK;
        XXH3_64bits_update(own, item->data + at, bytes);
        if (digest)
            XXH3_64bits_update(digest, item->data + at, bytes);
        if (!put(k, item->data + at, bytes))
            return false;
    }
    return true;
}

/* --- what is to be where --- */

static bool has_values(const fbi_item *item)
{
    return item->kind && item->bytes;
}

static int64_t lay_out_item(hid_t file, const fbi_item *item)
{
    hid_t set = fbi_h5_create(file, item->key, item->dtype, -1, item->shape);
    if (set < 0)
        return -1;
    int64_t at = fbi_h5_put_text(set, "dtype", item->kind) ? fbi_frame_offset(set) : -1;
    bool good = H5Dclose(set) >= 0 && (at >= 0 || !item->bytes);
    return good ? at : -2;
}

/* The frame, and a piece for each item that has values, in their order. */
static bool lay_out(fbi_saving *s, fbi_frame *frame, fbi_file_pieces *pieces)
{
    const char *what = "the file";
    fbi_h5_lock();
    errno = 0;
    bool good = fbi_frame_begin(frame);
    for (int64_t i = 0; good && i < s->snapshot->n; i++) {
        const fbi_item *item = &s->snapshot->items[i];
        if (!item->kind)
            continue;
        what = item->key;
        int64_t at = lay_out_item(frame->file, item);
        good = at >= -1;
        if (!good || !item->bytes)
            continue;
        fbi_file_piece p = fbi_piece_whole(item->shape);
        p.offset = at;
        p.bytes = (int64_t)item->bytes;
        good = fbi_pieces_add(pieces, p);
    }
    good = good && fbi_frame_end(frame);
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

typedef struct place {
    int64_t offset, piece;
    const fbi_item *item;
} place;

static int by_offset(const void *a, const void *b)
{
    int64_t x = ((const place *)a)->offset, y = ((const place *)b)->offset;
    return x < y ? -1 : x > y;
}

/* Items with values in the order of the file; NULL: no memory. */
static place *places_of(const fbi_snapshot *s, const fbi_file_pieces *p)
{
    place *places = malloc((size_t)(p->n + 1) * sizeof *places);
    int64_t n = 0;
    for (int64_t i = 0; places && i < s->n; i++)
        if (has_values(&s->items[i])) {
            places[n] = (place){p->v[n].offset, n, &s->items[i]};
            n++;
        }
    if (places)
        qsort(places, (size_t)n, sizeof *places, by_offset);
    return places;
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

static bool stream(fbi_saving *s, sink *k, const fbi_frame *frame, fbi_data_file *out,
                   const hashes *h)
{
    const fbi_snapshot *snap = s->snapshot;
    const fbi_item *next = snap->items;
    bool one_pass = in_order(&out->pieces), good = true;
    place *places = places_of(snap, &out->pieces);
    errno = ENOMEM;
    if (!places)
        return false;
    for (int64_t i = 0; good && i < out->pieces.n; i++) {
        fbi_file_piece *p = &out->pieces.v[places[i].piece];
        XXH3_64bits_reset(h->piece);
        if (one_pass)
            next = digest_until(h->digest, next, places[i].item + 1);
        good = put_frame(k, frame, p->offset) &&
               put_values(k, places[i].item, h->piece, one_pass ? h->digest : NULL);
        p->hash = XXH3_64bits_digest(h->piece);
    }
    free(places);
    good = good && put_frame(k, frame, frame->bytes) && flush(k);
    if (!one_pass) {
        fbi_snapshot_digest(snap, out->digest);
        return good;
    }
    digest_until(h->digest, next, snap->items + snap->n);
    snprintf(out->digest, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(h->digest));
    return good;
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
                       const hashes *h)
{
    bool direct = s->pace.rest != NULL;
    int fd = open_new(path, &direct);
    sink k = {.fd = fd,
              .direct = direct,
              .buf = aligned_alloc(BLOCK, CHUNK),
              .outside = h->outside,
              .pace = &s->pace};
    XXH3_64bits_reset(h->outside);
    XXH3_64bits_reset(h->digest);
    bool good = k.fd >= 0 && k.buf && stream(s, &k, frame, out, h) && fsync(k.fd) == 0;
    int why = errno;
    if (k.fd >= 0 && close(k.fd) && good) { /* some file systems say it here */
        good = false;
        why = errno;
    }
    free(k.buf);
    out->bytes = frame->bytes;
    snprintf(out->hash, 17, "%016llx", (unsigned long long)XXH3_64bits_digest(h->outside));
    errno = why;
    return good;
}

bool fbi_save_data(fbi_saving *s, const char *path, fbi_data_file *out)
{
    fbi_frame frame = {.fd = -1, .file = H5I_INVALID_HID};
    *out = (fbi_data_file){0};
    bool good = lay_out(s, &frame, &out->pieces);
    if (good) {
        hashes h = {XXH3_createState(), XXH3_createState(), XXH3_createState()};
        errno = ENOMEM;
        good = h.outside && h.piece && h.digest && write_file(s, path, &frame, out, &h);
        if (!good)
            snprintf(s->text, sizeof s->text, "cannot write %s: %s", path, strerror(errno));
        XXH3_freeState(h.outside);
        XXH3_freeState(h.piece);
        XXH3_freeState(h.digest);
    }
    fbi_frame_free(&frame);
    return good;
}
