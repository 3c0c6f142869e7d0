#include "io/stored_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "io/file_priv.h"

enum { CHUNK = 1 << 20 };

static json_t *file_at(const fbi_stored *s, int i)
{
    return json_array_get(json_object_get(s->root, "files"), (size_t)i);
}

static const char *name_at(const fbi_stored *s, int i)
{
    return json_string_value(json_object_get(file_at(s, i), "name"));
}

static int64_t size_at(const fbi_stored *s, int i)
{
    return json_integer_value(json_object_get(file_at(s, i), "bytes"));
}

static void path_of(const fbi_stored *s, int i, char out[FBI_CHECKPOINT_PATH + 300])
{
    snprintf(out, FBI_CHECKPOINT_PATH + 300, "%s/%s", s->path, name_at(s, i));
}

static bool no_memory(fbi_stored *s)
{
    snprintf(s->text, s->size, "no memory");
    return false;
}

/* --- opening --- */

/* HDF5 may hang or crash on a damaged file: it sees none. */
static bool checksum_holds(fbi_stored *s, int i, const char *path)
{
    char now[17] = "";
    const char *want = json_string_value(json_object_get(file_at(s, i), "xxh3"));
    if (want && fbi_file_hash(path, now) && !strcmp(now, want))
        return true;
    snprintf(s->text, s->size, "%s has checksum %s, the manifest says %s", name_at(s, i), now,
             want ? want : "nothing");
    return false;
}

static bool open_h5(fbi_stored *s, const char *path)
{
    fbi_h5_lock();
    s->h5 = fbi_h5_open(path);
    fbi_h5_unlock();
    if (s->h5 < 0)
        snprintf(s->text, s->size, "%s is damaged", name_at(s, 0));
    return s->h5 >= 0;
}

/* Every tensor is there, in pieces that lie within their files. */
static bool check_pieces(fbi_stored *s)
{
    const char *key;
    json_t *entry;
    for (int64_t i = 0; i < s->pieces.n; i++) {
        const fbi_file_piece *p = &s->pieces.v[i];
        if (p->file < 1 || p->file >= s->n_files || p->offset < 0 || p->bytes < 0 ||
            p->offset > size_at(s, (int)p->file) ||
            p->bytes > size_at(s, (int)p->file) - p->offset) {
            snprintf(s->text, s->size, "a piece of it lies outside its files: refused");
            return false;
        }
    }
    json_object_foreach(json_object_get(s->root, "tensors"), key, entry)
    {
        fbi_stored_tensor t;
        if (fbi_stored_tensor_of(entry, &t) && fbi_pieces_cover(&s->pieces, &t))
            continue;
        snprintf(s->text, s->size, "the pieces of %s do not make the whole of it: refused", key);
        return false;
    }
    return true;
}

static bool open_pieces(fbi_stored *s, const char *index)
{
    s->fds = malloc((size_t)s->n_files * sizeof *s->fds);
    if (!s->fds)
        return no_memory(s);
    for (int i = 0; i < s->n_files; i++)
        s->fds[i] = -1;
    return fbi_pieces_load(&s->pieces, index, s->text, s->size) && check_pieces(s);
}

bool fbi_stored_open(fbi_stored *s, const char *path, json_t *root, char *text, size_t size)
{
    char first[FBI_CHECKPOINT_PATH + 300];
    *s = (fbi_stored){.path = path,
                      .root = root,
                      .pieced = json_integer_value(json_object_get(root, "format")) > 1,
                      .h5 = H5I_INVALID_HID,
                      .n_files = (int)json_array_size(json_object_get(root, "files")),
                      .text = text,
                      .size = size};
    path_of(s, 0, first);
    if (checksum_holds(s, 0, first) && (s->pieced ? open_pieces(s, first) : open_h5(s, first)))
        return true;
    fbi_stored_close(s);
    return false;
}

void fbi_stored_close(fbi_stored *s)
{
    if (s->h5 >= 0) {
        fbi_h5_lock();
        H5Fclose(s->h5);
        fbi_h5_unlock();
    }
    for (int i = 0; s->fds && i < s->n_files; i++)
        if (s->fds[i] >= 0)
            close(s->fds[i]);
    free(s->fds);
    s->fds = NULL;
    s->h5 = H5I_INVALID_HID;
    fbi_pieces_free(&s->pieces);
}

/* --- reading --- */

/* The file with number i; -1: `text`. */
static int open_file(fbi_stored *s, int i)
{
    char path[FBI_CHECKPOINT_PATH + 300];
    path_of(s, i, path);
    if (s->fds[i] < 0)
        s->fds[i] = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fds[i] < 0)
        snprintf(s->text, s->size, "%s: %s", name_at(s, i), strerror(errno));
    return s->fds[i];
}

static bool read_at(fbi_stored *s, int i, int64_t offset, char *data, size_t bytes)
{
    int fd = open_file(s, i);
    while (fd >= 0 && bytes) {
        ssize_t n = pread(fd, data, bytes, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            snprintf(s->text, s->size, "%s: %s", name_at(s, i),
                     n ? strerror(errno) : "it is too short");
            return false;
        }
        data += n;
        offset += n;
        bytes -= (size_t)n;
    }
    return fd >= 0;
}

static bool read_piece(fbi_stored *s, const char *key, const fbi_stored_tensor *t,
                       const fbi_file_piece *p, char *whole)
{
    size_t bytes = (size_t)p->bytes;
    char *values = p->bytes == t->bytes ? whole : malloc(bytes);
    if (!values)
        return no_memory(s);
    bool good = read_at(s, (int)p->file, p->offset, values, bytes);
    if (good && XXH3_64bits(values, bytes) != p->hash) {
        snprintf(s->text, s->size, "the values of %s in %s are damaged", key,
                 name_at(s, (int)p->file));
        good = false;
    }
    if (values == whole)
        return good;
    if (good)
        fbi_piece_place(p, t, values, whole);
    free(values);
    return good;
}

/* A whole tensor is a data set of its name. */
static bool read_dataset(fbi_stored *s, const char *key, const fbi_stored_tensor *t, void *data)
{
    fbi_h5_lock();
    hid_t set = H5Dopen2(s->h5, key, H5P_DEFAULT);
    bool good = set >= 0;
    if (good && t->numel) {
        hid_t space = H5Dget_space(set);
        good = H5Sget_simple_extent_npoints(space) == (hssize_t)t->numel &&
               H5Dread(set, fbi_h5_type(t->dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
        H5Sclose(space);
    }
    if (set >= 0)
        H5Dclose(set);
    fbi_h5_unlock();
    return good;
}

bool fbi_stored_read(fbi_stored *s, const char *key, const fbi_stored_tensor *t, void *data)
{
    json_t *entry = json_object_get(json_object_get(s->root, "tensors"), key);
    bool good = true;
    if (s->pieced) {
        for (int64_t i = 0; good && i < t->n; i++)
            good = read_piece(s, key, t, &s->pieces.v[t->first + i], data);
        return good;
    }
    char hex[17];
    const char *want = json_string_value(json_object_get(entry, "xxh3"));
    good = read_dataset(s, key, t, data);
    fbi_hash_hex(data, good ? (size_t)t->bytes : 0, hex);
    if (good && want && !strcmp(hex, want))
        return true;
    snprintf(s->text, s->size, "the values of %s are damaged", key);
    return false;
}

/* --- verifying --- */

static int by_place(const void *a, const void *b)
{
    const fbi_file_piece *p = a, *q = b;
    if (p->file != q->file)
        return p->file < q->file ? -1 : 1;
    return p->offset < q->offset ? -1 : p->offset > q->offset;
}

/* Bytes of a file into a hash that goes on. */
static bool hash_range(fbi_stored *s, int file, int64_t from, int64_t to, char *buf,
                       XXH3_state_t *hash)
{
    while (from < to) {
        size_t n = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
        if (!read_at(s, file, from, buf, n))
            return false;
        XXH3_64bits_update(hash, buf, n);
        from += (int64_t)n;
    }
    return true;
}

/* One file, its pieces in order: theirs, and that of all the rest. */
static bool verify_file(fbi_stored *s, int file, const fbi_file_piece *p, int64_t n, char *buf,
                        XXH3_state_t *own, XXH3_state_t *rest)
{
    int64_t at = 0;
    char hex[17];
    const char *want = json_string_value(json_object_get(file_at(s, file), "xxh3"));
    XXH3_64bits_reset(rest);
    for (int64_t i = 0; i < n; i++) {
        XXH3_64bits_reset(own);
        if (p[i].offset < at || !hash_range(s, file, at, p[i].offset, buf, rest) ||
            !hash_range(s, file, p[i].offset, p[i].offset + p[i].bytes, buf, own))
            return false;
        at = p[i].offset + p[i].bytes;
        if (XXH3_64bits_digest(own) == p[i].hash)
            continue;
        snprintf(s->text, s->size, "%s: values at %lld to %lld are damaged", name_at(s, file),
                 (long long)p[i].offset, (long long)at);
        return false;
    }
    if (!hash_range(s, file, at, size_at(s, file), buf, rest))
        return false;
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)XXH3_64bits_digest(rest));
    if (want && !strcmp(hex, want))
        return true;
    snprintf(s->text, s->size, "%s has checksum %s beside its values, the manifest says %s",
             name_at(s, file), hex, want ? want : "nothing");
    return false;
}

bool fbi_stored_verify(fbi_stored *s)
{
    int64_t n = s->pieces.n, at = 0;
    if (!s->pieced)
        return true; /* opening has compared all of it */
    fbi_file_piece *sorted = malloc((size_t)(n + 1) * sizeof *sorted);
    char *buf = malloc(CHUNK);
    XXH3_state_t *own = XXH3_createState(), *rest = XXH3_createState();
    bool good = sorted && buf && own && rest;
    snprintf(s->text, s->size, good ? "pieces overlap: refused" : "no memory");
    if (good && n)
        memcpy(sorted, s->pieces.v, (size_t)n * sizeof *sorted);
    if (good)
        qsort(sorted, (size_t)n, sizeof *sorted, by_place);
    for (int file = 1; good && file < s->n_files; file++) {
        int64_t begin = at;
        while (at < n && sorted[at].file == file)
            at++;
        good = verify_file(s, file, sorted + begin, at - begin, buf, own, rest);
    }
    XXH3_freeState(own);
    XXH3_freeState(rest);
    free(sorted);
    free(buf);
    return good;
}
