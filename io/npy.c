#include "io/npy_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <flambeau/io/interchange.h>

#include "core/base/half.h"
#include "core/tensor/context_priv.h"
#include "core/tensor/device_priv.h"

/* Types of NumPy, without their byte order, and what holds their values here. */
static const struct {
    const char *descr;
    fb_dtype dtype;
} types[] = {{"f4", FB_F32}, {"f8", FB_F64}, {"f2", FB_F16},  {"i4", FB_I32},
             {"i8", FB_I64}, {"u1", FB_U8},  {"b1", FB_BOOL}, {"i1", FB_I8},
             {"i2", FB_I16}, {"u2", FB_U16}, {"u4", FB_I64},  {"u8", FB_I64}};
enum { N_TYPES = sizeof types / sizeof types[0], N_WRITTEN = N_TYPES - 2 };

/* --- the head --- */

/* The value behind 'key': in the header's dictionary. */
static const char *value_of(const char *head, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *at = strstr(head, quoted);
    if (!at)
        return NULL;
    at += strlen(quoted);
    return at + strspn(at, " ");
}

static bool parse_shape(const char *at, fb_shape *shape)
{
    if (!at || *at++ != '(')
        return false;
    for (shape->n = 0;;) {
        at += strspn(at, " ,");
        if (*at == ')')
            return true;
        char *end;
        long long size = strtoll(at, &end, 10);
        if (end == at || size < 0 || shape->n == FB_MAX_DIMS)
            return false;
        shape->d[shape->n++] = size;
        at = end;
    }
}

/* Magic, version and dictionary; gives where the data begins, 0: it is none. */
static size_t read_head(const unsigned char *bytes, size_t n, char head[FBI_NPY_HEAD])
{
    if (n < 12 || memcmp(bytes, "\x93NUMPY", 6) || bytes[6] < 1 || bytes[6] > 3)
        return 0;
    size_t at = bytes[6] == 1 ? 10 : 12, length = bytes[8] | (size_t)bytes[9] << 8;
    if (bytes[6] > 1)
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (length >= FBI_NPY_HEAD || length > n - at)
        return 0;
    memcpy(head, bytes + at, length);
    head[length] = '\0';
    return at + length;
}

/* '<f4': byte order, kind, bytes. */
static bool parse_descr(const char *descr, fbi_npy *a)
{
    static const bool big_machine = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
    char quote = descr ? *descr : '\0', order = quote ? descr[1] : '\0';
    if (!order || !strchr("<>|=", order) || (quote != '\'' && quote != '"'))
        return false;
    for (int i = 0; i < N_TYPES; i++)
        if (!strncmp(descr + 2, types[i].descr, 2) && descr[4] == quote) {
            a->dtype = types[i].dtype;
            a->kind = descr[2];
            a->stored = (size_t)(descr[3] - '0');
            a->swapped = a->stored > 1 && order == (big_machine ? '<' : '>');
            return true;
        }
    return false;
}

bool fbi_npy_head(fb_context *ctx, const char *path, const void *bytes, size_t n, fbi_npy *a)
{
    char head[FBI_NPY_HEAD];
    *a = (fbi_npy){.at = read_head(bytes, n, head)};
    if (!a->at || !parse_shape(value_of(head, "shape"), &a->shape)) {
        fbi_fail(ctx, FB_E_IO, "npy %s: is no NumPy array of at most %d dimensions, or is cut",
                 path, FB_MAX_DIMS);
        return false;
    }
    const char *descr = value_of(head, "descr"), *order = value_of(head, "fortran_order");
    if (!parse_descr(descr, a)) {
        int length = descr ? (int)strcspn(descr, ",:}") : 0;
        fbi_fail(ctx, FB_E_DTYPE,
                 "npy %s: dtype %.*s cannot be read: save it in NumPy as float, integer or bool, "
                 "e.g. x.astype('<f4')",
                 path, length < 24 ? length : 24, length ? descr : "");
        return false;
    }
    a->fortran = order && *order == 'T';
    int64_t count = fb_shape_numel(a->shape), size;
    /* 16: what is made of it must fit, too */
    if (count < 0 || __builtin_mul_overflow(count, (int64_t)16, &size)) {
        fbi_fail(ctx, FB_E_IO, "npy %s: its header speaks of more elements than fit in memory",
                 path);
        return false;
    }
    a->bytes = (size_t)count * a->stored;
    return true;
}

bool fbi_npy_fits(fb_context *ctx, const char *path, const fbi_npy *a, size_t have)
{
    if (have - a->at >= a->bytes)
        return true;
    fbi_fail(ctx, FB_E_IO, "npy %s: is %zu bytes, its header speaks of %zu more: copy it again",
             path, have, a->bytes - (have - a->at));
    return false;
}

/* --- elements --- */

bool fbi_npy_is_plain(const fbi_npy *a)
{
    return !a->swapped && a->stored == fb_dtype_size(a->dtype) &&
           !(a->kind == 'u' && a->stored == 8);
}

static void swap_bytes(unsigned char *data, size_t n, size_t width)
{
    for (; n; n--, data += width)
        for (size_t i = 0; i < width / 2; i++) {
            unsigned char byte = data[i];
            data[i] = data[width - 1 - i];
            data[width - 1 - i] = byte;
        }
}

/* uint32 and uint64 as I64; false: one does not fit. */
static bool widen_unsigned(const void *from, size_t width, int64_t *to, size_t n)
{
    uint64_t over = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t small;
        uint64_t large;
        memcpy(width == 4 ? (void *)&small : (void *)&large, (const char *)from + i * width, width);
        to[i] = width == 4 ? (int64_t)small : (int64_t)large;
        over |= width == 4 ? 0 : large;
    }
    return over <= INT64_MAX;
}

/* The elements as a tensor has them, malloc'ed. */
static void *convert(fb_context *ctx, const char *path, const fbi_npy *a, const void *data)
{
    size_t n = a->bytes / a->stored;
    unsigned char *copy = malloc(a->bytes + 1);
    int64_t *wide = a->kind == 'u' && a->stored >= 4 ? malloc(n * sizeof *wide + 1) : NULL;
    bool widen = a->kind == 'u' && a->stored >= 4, good = copy && (wide || !widen);
    if (!good)
        fbi_fail(ctx, FB_E_NOMEM, "npy %s: no memory for its %zu bytes", path, a->bytes);
    if (good)
        memcpy(copy, data, a->bytes);
    if (good && a->swapped)
        swap_bytes(copy, n, a->stored);
    if (good && widen && !widen_unsigned(copy, a->stored, wide, n)) {
        fbi_fail(ctx, FB_E_DTYPE, "npy %s: has uint64 values above those of I64", path);
        good = false;
    }
    if (good && !widen)
        return copy;
    free(copy);
    if (good)
        return wide;
    free(wide);
    return NULL;
}

void fbi_npy_strides(const fbi_npy *a, int64_t *strides)
{
    int64_t step = 1;
    for (int i = 0; i < a->shape.n; i++) {
        int dim = a->fortran ? i : a->shape.n - 1 - i;
        strides[dim] = step;
        step *= a->shape.d[dim];
    }
}

/* A Fortran-ordered array is the transpose of what lies in the file. */
static fb_tensor *from_fortran(fb_context *ctx, const fbi_npy *a, const void *data)
{
    fb_shape strides = {.n = a->shape.n};
    fbi_npy_strides(a, strides.d);
    fb_tensor *flat = fb_from(ctx, a->dtype, FB_SHAPE(fb_shape_numel(a->shape)), data);
    return flat ? fbi_view(flat, a->shape, strides, 0) : NULL;
}

fb_tensor *fbi_npy_tensor(fb_context *ctx, const char *path, const fbi_npy *a, const void *data)
{
    bool plain = fbi_npy_is_plain(a);
    void *own = plain ? NULL : convert(ctx, path, a, data);
    if (!plain && !own)
        return NULL;
    const void *values = plain ? data : own;
    fb_tensor *t =
        a->fortran ? from_fortran(ctx, a, values) : fb_from(ctx, a->dtype, a->shape, values);
    free(own);
    return t;
}

/* --- files --- */

/* A file in memory, read-only; of no bytes: NULL. */
typedef struct mapping {
    void *data;
    size_t bytes;
} mapping;

static bool map_file(fb_context *ctx, const char *path, mapping *m)
{
    struct stat info;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    bool good = fd >= 0 && !fstat(fd, &info);
    *m = (mapping){NULL, good ? (size_t)info.st_size : 0};
    if (good && m->bytes) {
        m->data = mmap(NULL, m->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        good = m->data != MAP_FAILED;
    }
    if (!good)
        fbi_fail(ctx, FB_E_NOT_FOUND, "npy %s: %s", path ? path : "(null)",
                 path ? strerror(errno) : "a path is needed");
    if (fd >= 0)
        close(fd);
    return good;
}

static void unmap(mapping m)
{
    if (m.data)
        munmap(m.data, m.bytes);
}

fb_tensor *fb_npy_load(fb_context *ctx, const char *path)
{
    FBI_ENTRY(ctx);
    mapping m;
    fbi_npy a;
    if (!fbi_enter(ctx) || !map_file(ctx, path, &m))
        return NULL;
    fb_tensor *t = NULL;
    if (fbi_npy_head(ctx, path, m.data, m.bytes, &a) && fbi_npy_fits(ctx, path, &a, m.bytes))
        t = fbi_npy_tensor(ctx, path, &a, (const char *)m.data + a.at);
    unmap(m);
    return t;
}

static void unmap_later(void *data, void *user)
{
    mapping *m = user;
    (void)data;
    unmap(*m);
    free(m);
}

/* A tensor on the file; it takes the mapping. NULL: an error, or it cannot be done so. */
static fb_tensor *tensor_on(fb_context *ctx, const fbi_npy *a, mapping m)
{
    const char *data = (const char *)m.data + a->at;
    if (!ctx->backend->host_memory || !fbi_npy_is_plain(a) || (uintptr_t)data % a->stored)
        return NULL;
    int64_t strides[FB_MAX_DIMS];
    fbi_npy_strides(a, strides);
    mapping *keep = malloc(sizeof *keep);
    if (!keep) {
        fbi_fail(ctx, FB_E_NOMEM, "npy: no memory");
        return NULL;
    }
    *keep = m;
    fb_tensor *t = fb_wrap_const(
        ctx, a->dtype, a->shape, data,
        FB_OPTS(fb_wrap_options, .strides = strides, .deleter = unmap_later, .user = keep));
    if (!t)
        free(keep);
    return t;
}

fb_tensor *fb_npy_map(fb_context *ctx, const char *path)
{
    FBI_ENTRY(ctx);
    mapping m;
    fbi_npy a;
    if (!fbi_enter(ctx) || !map_file(ctx, path, &m))
        return NULL;
    bool good =
        fbi_npy_head(ctx, path, m.data, m.bytes, &a) && fbi_npy_fits(ctx, path, &a, m.bytes);
    fb_tensor *t = good ? tensor_on(ctx, &a, m) : NULL;
    if (t)
        return t;
    if (good && fb_ok(ctx))
        t = fbi_npy_tensor(ctx, path, &a, (const char *)m.data + a.at);
    unmap(m);
    return t;
}

/* --- writing --- */

size_t fbi_npy_write_head(fb_tensor *t, char head[512], fb_dtype *written)
{
    const char *descr = "";
    char sizes[256] = "", dictionary[400];
    fb_shape shape = fb_shape_of(t);
    *written = fb_dtype_of(t) == FB_BF16 ? FB_F32 : fb_dtype_of(t);
    for (int i = 0; i < N_WRITTEN; i++)
        if (types[i].dtype == *written)
            descr = types[i].descr;
    for (int i = 0; i < shape.n; i++)
        snprintf(sizes + strlen(sizes), sizeof sizes - strlen(sizes), "%lld,",
                 (long long)shape.d[i]);
    int n = snprintf(dictionary, sizeof dictionary,
                     "{'descr': '%c%s', 'fortran_order': False, 'shape': (%s), }",
                     fb_dtype_size(*written) == 1             ? '|'
                     : __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? '>'
                                                              : '<',
                     descr, sizes);
    int padded = (10 + n + 1 + 63) / 64 * 64 - 10; /* the data begins at a multiple of 64 */
    memcpy(head, "\x93NUMPY\x01\x00", 8);
    head[8] = (char)(padded & 255);
    head[9] = (char)(padded >> 8);
    snprintf(head + 10, 500, "%-*s\n", padded - 1, dictionary);
    return 10 + (size_t)padded;
}

/* NumPy knows no BF16: such values are written as F32, exactly. */
static void widen(const uint16_t *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = fbi_bf16_to_f32(src[i]);
}

void *fbi_npy_data(fb_tensor *t, const char *path, fb_dtype written)
{
    fb_context *ctx = fb_context_of(t);
    size_t n = (size_t)fb_numel(t), bytes = n * fb_dtype_size(fb_dtype_of(t));
    void *data = malloc(bytes + 1);
    void *wide = written == fb_dtype_of(t) ? data : malloc(n * fb_dtype_size(written) + 1);
    if (!data || !wide)
        fbi_fail(ctx, FB_E_NOMEM, "npy %s: no memory for a copy", path);
    else if (!fb_read(t, data, bytes) && wide != data)
        widen(data, wide, (int64_t)n);
    if (wide != data)
        free(data);
    if (fb_ok(ctx))
        return wide;
    free(wide);
    return NULL;
}

fb_status fb_npy_save(fb_tensor *t, const char *path)
{
    if (!t)
        return FB_E_ARG;
    fb_context *ctx = fb_context_of(t);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (!path)
        return fbi_fail(ctx, FB_E_ARG, "npy: path is NULL");
    char head[512];
    fb_dtype written;
    size_t n = fbi_npy_write_head(t, head, &written);
    size_t bytes = (size_t)fb_numel(t) * fb_dtype_size(written);
    void *data = fbi_npy_data(t, path, written);
    if (!data)
        return fb_status_of(ctx);
    errno = 0;
    FILE *file = fopen(path, "wb");
    bool good = file && fwrite(head, 1, n, file) == n && fwrite(data, 1, bytes, file) == bytes;
    if (file)
        good = fclose(file) == 0 && good;
    free(data);
    if (good)
        return FB_OK;
    return fbi_fail(ctx, FB_E_IO, "npy %s: cannot write it: %s; is the folder there and not full?",
                    path, strerror(errno));
}
