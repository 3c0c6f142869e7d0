/* Several NumPy arrays in one file: a ZIP archive. PKWARE: APPNOTE.TXT 6.3, its ZIP64 included. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include <flambeau/io/interchange.h>

#include "core/tensor/context_priv.h"
#include "io/npy_priv.h"

enum {
    STORED = 0,
    DEFLATED = 8,
    END_BYTES = 22,
    END64_BYTES = 56,
    FINDER_BYTES = 20,
    ENTRY_BYTES = 46,
    LOCAL_BYTES = 30,
    MOST_NAME = 200,
    ENTRY_MARK = 0x02014b50,
    LOCAL_MARK = 0x04034b50,
    END_MARK = 0x06054b50,
    END64_MARK = 0x06064b50,
    FINDER_MARK = 0x07064b50
};

typedef struct archive {
    fb_context *ctx;
    const char *path;
    const unsigned char *data;
    size_t bytes;
    size_t at, left; /* the next entry of its list, and how many are left */
} archive;

typedef struct entry {
    const char *name; /* not ended */
    size_t length;    /* of the name, without .npy */
    uint32_t crc;
    int method;
    uint64_t packed, size, local;
} entry;

static uint64_t number(const unsigned char *at, int bytes)
{
    uint64_t n = 0;
    for (int i = 0; i < bytes; i++)
        n |= (uint64_t)at[i] << 8 * i;
    return n;
}

static bool damaged(const archive *z, const char *what)
{
    fbi_fail(z->ctx, FB_E_IO, "npz %s: %s: copy it again", z->path, what);
    return false;
}

/* --- reading --- */

static bool open_archive(archive *z)
{
    struct stat info;
    int fd = z->path ? open(z->path, O_RDONLY | O_CLOEXEC) : -1;
    bool good = fd >= 0 && !fstat(fd, &info);
    z->bytes = good ? (size_t)info.st_size : 0;
    void *data = good && z->bytes ? mmap(NULL, z->bytes, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    good = good && data != MAP_FAILED;
    if (!good)
        fbi_fail(z->ctx, FB_E_NOT_FOUND, "npz %s: %s", z->path ? z->path : "(null)",
                 z->path ? strerror(errno) : "a path is needed");
    z->data = good ? data : NULL;
    if (fd >= 0)
        close(fd);
    return good;
}

static void close_archive(archive *z)
{
    if (z->data)
        munmap((void *)(uintptr_t)z->data, z->bytes);
}

/* The end of the archive says where its list is; of large ones, another record before it. */
static bool find_list(archive *z)
{
    size_t at = z->bytes < END_BYTES ? 0 : z->bytes - END_BYTES;
    size_t least = at > UINT16_MAX ? at - UINT16_MAX : 0; /* a comment may follow */
    while (z->bytes >= END_BYTES && at > least && number(z->data + at, 4) != END_MARK)
        at--;
    if (z->bytes < END_BYTES || number(z->data + at, 4) != END_MARK)
        return damaged(z, "is no ZIP archive, or is cut");
    z->left = number(z->data + at + 10, 2);
    z->at = number(z->data + at + 16, 4);
    if (at < FINDER_BYTES || number(z->data + at - FINDER_BYTES, 4) != FINDER_MARK)
        return true;
    uint64_t end64 = number(z->data + at - FINDER_BYTES + 8, 8);
    if (z->bytes < END64_BYTES || end64 > z->bytes - END64_BYTES ||
        number(z->data + end64, 4) != END64_MARK)
        return damaged(z, "its end is damaged");
    z->left = number(z->data + end64 + 32, 8);
    z->at = number(z->data + end64 + 48, 8);
    return true;
}

/* Sizes that did not fit are in the extra field 1, in this order. */
static void read_zip64(const unsigned char *extra, size_t n, entry *e)
{
    while (n >= 4) {
        size_t length = number(extra + 2, 2), at = 4;
        if (length > n - 4)
            return;
        uint64_t *const fields[] = {&e->size, &e->packed, &e->local};
        for (int i = 0; number(extra, 2) == 1 && i < 3; i++)
            if (*fields[i] == UINT32_MAX && at + 8 <= length + 4) {
                *fields[i] = number(extra + at, 8);
                at += 8;
            }
        extra += length + 4;
        n -= length + 4;
    }
}

/* 1: an entry; 0: the end; -1: the error is set. */
static int next_entry(archive *z, entry *e)
{
    if (!z->left)
        return 0;
    if (z->bytes < ENTRY_BYTES || z->at > z->bytes - ENTRY_BYTES ||
        number(z->data + z->at, 4) != ENTRY_MARK)
        return damaged(z, "its list of arrays is damaged") - 1;
    const unsigned char *at = z->data + z->at;
    size_t name = number(at + 28, 2), extra = number(at + 30, 2), comment = number(at + 32, 2);
    if (name + extra + comment > z->bytes - z->at - ENTRY_BYTES)
        return damaged(z, "its list of arrays is damaged") - 1;
    *e = (entry){.name = (const char *)at + ENTRY_BYTES,
                 .length = name,
                 .method = (int)number(at + 10, 2),
                 .crc = (uint32_t)number(at + 16, 4),
                 .packed = number(at + 20, 4),
                 .size = number(at + 24, 4),
                 .local = number(at + 42, 4)};
    read_zip64(at + ENTRY_BYTES + name, extra, e);
    if (name > 4 && !memcmp(e->name + name - 4, ".npy", 4))
        e->length -= 4;
    z->at += ENTRY_BYTES + name + extra + comment;
    z->left--;
    return 1;
}

/* The packed bytes of an entry, or NULL with the error. */
static const unsigned char *packed_bytes(const archive *z, const entry *e)
{
    if (z->bytes >= LOCAL_BYTES && e->local <= z->bytes - LOCAL_BYTES &&
        number(z->data + e->local, 4) == LOCAL_MARK) {
        const unsigned char *local = z->data + e->local;
        uint64_t at = e->local + LOCAL_BYTES + number(local + 26, 2) + number(local + 28, 2);
        if (at <= z->bytes && e->packed <= z->bytes - at)
            return z->data + at;
    }
    damaged(z, "an array lies outside of it");
    return NULL;
}

/* As many bytes as the entry has, from packed ones. */
static bool inflate_all(const archive *z, const entry *e, const unsigned char *packed, void *out)
{
    enum { AT_ONCE = 1 << 30 };
    z_stream s = {.next_in = (unsigned char *)(uintptr_t)packed, .next_out = out};
    uint64_t in = e->packed, room = e->size;
    int code = inflateInit2(&s, -MAX_WBITS);
    while (code == Z_OK) {
        s.avail_in = (uInt)(in < AT_ONCE ? in : AT_ONCE);
        s.avail_out = (uInt)(room < AT_ONCE ? room : AT_ONCE);
        in -= s.avail_in;
        room -= s.avail_out;
        code = inflate(&s, Z_NO_FLUSH);
        in += s.avail_in;
        room += s.avail_out;
    }
    inflateEnd(&s);
    return code == Z_STREAM_END && !room ? true : damaged(z, "an array is damaged (zlib)");
}

/* The bytes of an array, malloc'ed. */
static unsigned char *unpack(const archive *z, const entry *e)
{
    enum { MOST_RATIO = 1100 }; /* zlib packs no better */
    const unsigned char *packed = packed_bytes(z, e);
    if (!packed)
        return NULL;
    if ((e->method != STORED && e->method != DEFLATED) ||
        (e->method == STORED && e->size != e->packed) || e->size / MOST_RATIO > e->packed) {
        damaged(z, "an array is packed in a way that NumPy does not use");
        return NULL;
    }
    unsigned char *data = malloc(e->size + 1);
    if (!data) {
        fbi_fail(z->ctx, FB_E_NOMEM, "npz %s: no memory for %llu bytes", z->path,
                 (unsigned long long)e->size);
        return NULL;
    }
    bool good = true;
    if (e->method == STORED)
        memcpy(data, packed, e->size);
    else
        good = inflate_all(z, e, packed, data);
    if (good && crc32_z(0, data, e->size) != e->crc)
        good = damaged(z, "an array does not have its checksum");
    if (good)
        return data;
    free(data);
    return NULL;
}

static fb_tensor *load_entry(const archive *z, const entry *e)
{
    unsigned char *data = unpack(z, e);
    fbi_npy a;
    fb_tensor *t = NULL;
    if (data && fbi_npy_head(z->ctx, z->path, data, e->size, &a) &&
        fbi_npy_fits(z->ctx, z->path, &a, e->size))
        t = fbi_npy_tensor(z->ctx, z->path, &a, data + a.at);
    free(data);
    return t;
}

fb_tensor *fb_npz_load(fb_context *ctx, const char *path, const char *name)
{
    FBI_ENTRY(ctx);
    archive z = {.ctx = ctx, .path = path};
    entry e;
    fb_tensor *t = NULL;
    if (!fbi_enter(ctx) || !open_archive(&z))
        return NULL;
    int found = find_list(&z) ? 1 : -1;
    while (found > 0 && (found = next_entry(&z, &e)) > 0)
        if (name && strlen(name) == e.length && !memcmp(name, e.name, e.length)) {
            t = load_entry(&z, &e);
            break;
        }
    if (found == 0)
        fbi_fail(ctx, FB_E_NOT_FOUND, "npz %s: has no array \"%s\"", path, name ? name : "(null)");
    close_archive(&z);
    return t;
}

char *fb_npz_names(fb_context *ctx, const char *path)
{
    FBI_ENTRY(ctx);
    archive z = {.ctx = ctx, .path = path};
    entry e;
    if (!fbi_enter(ctx) || !open_archive(&z))
        return NULL;
    char *names = NULL, *at;
    int found = find_list(&z) ? 1 : -1;
    if (found > 0 && !(names = malloc(z.bytes + 1))) /* they lie in the file, further apart */
        fbi_fail(ctx, FB_E_NOMEM, "npz %s: no memory", path);
    at = names;
    while (names && (found = next_entry(&z, &e)) > 0) {
        at = mempcpy(at, e.name, e.length);
        *at++ = '\n';
    }
    if (names)
        *at = '\0';
    close_archive(&z);
    if (found == 0)
        return names;
    free(names);
    return NULL;
}

/* --- writing: every size in 64 bits, as NumPy does --- */

typedef struct writer {
    FILE *file;
    uint64_t at;
    bool good;
} writer;

static void put(writer *w, const void *data, size_t bytes)
{
    w->good = w->good && fwrite(data, 1, bytes, w->file) == bytes;
    w->at += bytes;
}

static void put_number(writer *w, uint64_t n, int bytes)
{
    unsigned char out[8];
    for (int i = 0; i < bytes; i++)
        out[i] = (unsigned char)(n >> 8 * i);
    put(w, out, (size_t)bytes);
}

/* What a local header and an entry of the list have alike, from "version needed" on. */
static void put_common(writer *w, const entry *e, int extra)
{
    put_number(w, 45, 2);
    put_number(w, 0, 4);          /* flags, stored */
    put_number(w, 0x00210000, 4); /* 1980-01-01 */
    put_number(w, e->crc, 4);
    put_number(w, UINT32_MAX, 4);
    put_number(w, UINT32_MAX, 4);
    put_number(w, e->length, 2);
    put_number(w, (uint64_t)extra, 2);
}

static void put_sizes(writer *w, const entry *e, int bytes)
{
    put_number(w, 1, 2);
    put_number(w, (uint64_t)bytes, 2);
    put_number(w, e->size, 8);
    put_number(w, e->size, 8);
}

static void put_array(writer *w, fb_tensor *t, const char *path, entry *e)
{
    char head[512];
    fb_dtype written;
    size_t n = fbi_npy_write_head(t, head, &written);
    size_t bytes = (size_t)fb_numel(t) * fb_dtype_size(written);
    void *data = fbi_npy_data(t, path, written);
    w->good = w->good && data;
    if (!data)
        return;
    e->local = w->at;
    e->size = n + bytes;
    e->crc = (uint32_t)crc32_z(crc32_z(0, (const unsigned char *)head, n), data, bytes);
    put_number(w, LOCAL_MARK, 4);
    put_common(w, e, 20);
    put(w, e->name, e->length);
    put_sizes(w, e, 16);
    put(w, head, n);
    put(w, data, bytes);
    free(data);
}

static void put_list(writer *w, const entry *entries, int n)
{
    uint64_t begin = w->at;
    for (int i = 0; i < n; i++) {
        put_number(w, ENTRY_MARK, 4);
        put_number(w, 45, 2);
        put_common(w, &entries[i], 28);
        put_number(w, 0, 6);
        put_number(w, 0, 4);
        put_number(w, UINT32_MAX, 4);
        put(w, entries[i].name, entries[i].length);
        put_sizes(w, &entries[i], 24);
        put_number(w, entries[i].local, 8);
    }
    uint64_t end = w->at;
    put_number(w, END64_MARK, 4);
    put_number(w, END64_BYTES - 12, 8);
    put_number(w, 45, 2);
    put_number(w, 45, 2);
    put_number(w, 0, 8);
    put_number(w, (uint64_t)n, 8);
    put_number(w, (uint64_t)n, 8);
    put_number(w, end - begin, 8);
    put_number(w, begin, 8);
    put_number(w, FINDER_MARK, 4);
    put_number(w, 0, 4);
    put_number(w, end, 8);
    put_number(w, 1, 4);
    put_number(w, END_MARK, 4);
    put_number(w, 0, 4);
    put_number(w, n < UINT16_MAX ? (uint64_t)n : UINT16_MAX, 2);
    put_number(w, n < UINT16_MAX ? (uint64_t)n : UINT16_MAX, 2);
    put_number(w, UINT32_MAX, 4);
    put_number(w, UINT32_MAX, 4);
    put_number(w, 0, 2);
}

static fb_status check_names(fb_context *ctx, const char *path, const char *const *names,
                             fb_tensor *const *tensors, int n)
{
    if (!path || n < 0 || (n && (!names || !tensors)))
        return fbi_fail(ctx, FB_E_ARG, "npz: a path, names and tensors are needed");
    for (int i = 0; i < n; i++) {
        bool good = tensors[i] && names[i] && *names[i] && strlen(names[i]) <= MOST_NAME;
        for (int k = 0; good && k < i; k++)
            good = strcmp(names[i], names[k]) != 0;
        if (!good)
            return fbi_fail(ctx, FB_E_ARG,
                            "npz %s: array %d, \"%s\": a tensor and a name of its own, of 1 to %d "
                            "characters, are needed",
                            path, i, names[i] ? names[i] : "(null)", MOST_NAME);
    }
    return FB_OK;
}

fb_status fb_npz_save(fb_context *ctx, const char *path, const char *const *names,
                      fb_tensor *const *tensors, int n)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx) || check_names(ctx, path, names, tensors, n))
        return fb_status_of(ctx);
    struct {
        char name[MOST_NAME + 5];
    } *full = malloc((size_t)(n + 1) * sizeof *full);
    entry *entries = calloc((size_t)(n + 1), sizeof *entries);
    errno = full && entries ? 0 : ENOMEM;
    writer w = {.file = full && entries ? fopen(path, "wb") : NULL};
    w.good = w.file != NULL;
    for (int i = 0; w.good && i < n; i++) {
        int length = snprintf(full[i].name, sizeof full[i].name, "%s.npy", names[i]);
        entries[i] = (entry){.name = full[i].name, .length = (size_t)length};
        put_array(&w, tensors[i], path, &entries[i]);
    }
    if (w.good)
        put_list(&w, entries, n);
    if (w.file)
        w.good = fclose(w.file) == 0 && w.good;
    free(full);
    free(entries);
    if (w.good)
        return FB_OK;
    return fbi_fail(ctx, FB_E_IO, "npz %s: cannot write it: %s; is the folder there and not full?",
                    path, strerror(errno));
}
