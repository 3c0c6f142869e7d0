#include <flambeau/io/interchange.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/half.h"
#include "core/tensor/context_priv.h"

static const struct {
    fb_dtype dtype;
    const char *descr;
} types[] = {{FB_F32, "<f4"}, {FB_F64, "<f8"},  {FB_F16, "<f2"}, {FB_I32, "<i4"}, {FB_I64, "<i8"},
             {FB_U8, "|u1"},  {FB_BOOL, "|b1"}, {FB_I8, "|i1"},  {FB_I16, "<i2"}, {FB_U16, "<u2"}};
enum { N_TYPES = sizeof types / sizeof types[0], HEAD_BYTES = 4096 };

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

/* Reads magic, version and dictionary; the file stands at the data afterwards. */
static bool read_head(FILE *file, char *head)
{
    unsigned char fixed[8], size[4] = {0};
    if (fread(fixed, 1, 8, file) != 8 || memcmp(fixed, "\x93NUMPY", 6) || fixed[6] < 1 ||
        fixed[6] > 3)
        return false;
    size_t width = fixed[6] == 1 ? 2 : 4;
    if (fread(size, 1, width, file) != width)
        return false;
    size_t n = size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24;
    if (n >= HEAD_BYTES || fread(head, 1, n, file) != n)
        return false;
    head[n] = '\0';
    return true;
}

/* A Fortran-ordered array is the transpose of what lies in the file. */
static fb_tensor *from_fortran(fb_context *ctx, fb_dtype dtype, fb_shape shape, const void *data)
{
    fb_shape strides = {.n = shape.n};
    int64_t step = 1;
    for (int i = 0; i < shape.n; i++) {
        strides.d[i] = step;
        step *= shape.d[i];
    }
    fb_tensor *flat = fb_from(ctx, dtype, FB_SHAPE(step), data);
    return flat ? fbi_view(flat, shape, strides, 0) : NULL;
}

/* The dtype of a header's 'descr', with a message if there is none. */
static fb_dtype parse_dtype(fb_context *ctx, const char *path, const char *descr)
{
    for (int i = 0; descr && i < N_TYPES; i++)
        if (!strncmp(descr + 1, types[i].descr, 3) && descr[4] == *descr)
            return types[i].dtype;
    int n = descr ? (int)strcspn(descr, ",:}") : 0;
    fbi_fail(ctx, FB_E_DTYPE,
             "npy %s: dtype %.*s cannot be read: save it in NumPy as little-endian float, integer "
             "or bool, e.g. x.astype('<f4')",
             path, n < 24 ? n : 24, n ? descr : "");
    return FB_DTYPE_DEFAULT;
}

/* The data of an array of `bytes`, malloc'ed; NULL with a message. Asks how long the file is before
 * it asks for memory: the header may be damaged. */
static char *read_data(fb_context *ctx, const char *path, FILE *file, size_t bytes)
{
    struct stat info;
    long at = ftell(file);
    if (at < 0 || fstat(fileno(file), &info) || (size_t)(info.st_size - at) < bytes) {
        fbi_fail(ctx, FB_E_IO,
                 "npy %s: is %lld bytes, its header speaks of %zu more: copy it again", path,
                 at < 0 ? -1 : (long long)info.st_size, bytes - (size_t)(info.st_size - at));
        return NULL;
    }
    char *data = malloc(bytes + 1);
    if (!data) {
        fbi_fail(ctx, FB_E_NOMEM, "npy %s: no memory for its %zu bytes", path, bytes);
        return NULL;
    }
    if (fread(data, 1, bytes, file) == bytes)
        return data;
    fbi_fail(ctx, FB_E_IO, "npy %s: cannot read it: %s", path, strerror(errno));
    free(data);
    return NULL;
}

static fb_tensor *load(fb_context *ctx, const char *path, FILE *file)
{
    char head[HEAD_BYTES];
    fb_shape shape;
    if (!read_head(file, head) || !parse_shape(value_of(head, "shape"), &shape)) {
        fbi_fail(ctx, FB_E_IO, "npy %s: is no NumPy array of at most %d dimensions, or is cut",
                 path, FB_MAX_DIMS);
        return NULL;
    }
    fb_dtype dtype = parse_dtype(ctx, path, value_of(head, "descr"));
    if (!dtype)
        return NULL;
    int64_t n = fb_shape_numel(shape), bytes;
    if (n < 0 || __builtin_mul_overflow(n, (int64_t)fb_dtype_size(dtype), &bytes)) {
        fbi_fail(ctx, FB_E_IO, "npy %s: its header speaks of more elements than fit in memory",
                 path);
        return NULL;
    }
    char *data = read_data(ctx, path, file, (size_t)bytes);
    if (!data)
        return NULL;
    const char *order = value_of(head, "fortran_order");
    fb_tensor *t = order && *order == 'T' ? from_fortran(ctx, dtype, shape, data)
                                          : fb_from(ctx, dtype, shape, data);
    free(data);
    return t;
}

fb_tensor *fb_npy_load(fb_context *ctx, const char *path)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (!file) {
        fbi_fail(ctx, FB_E_NOT_FOUND, "npy %s: %s", path ? path : "(null)", strerror(errno));
        return NULL;
    }
    fb_tensor *t = load(ctx, path, file);
    fclose(file);
    return t;
}

static int write_head(FILE *file, fb_dtype dtype, fb_shape shape)
{
    const char *descr = "";
    for (int i = 0; i < N_TYPES; i++)
        if (types[i].dtype == dtype)
            descr = types[i].descr;
    char sizes[256] = "", head[512];
    for (int i = 0; i < shape.n; i++)
        snprintf(sizes + strlen(sizes), sizeof sizes - strlen(sizes), "%lld,",
                 (long long)shape.d[i]);
    int n = snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                     descr, sizes);
    int padded = (10 + n + 1 + 63) / 64 * 64 - 10; /* the data begins at a multiple of 64 */
    const unsigned char size[2] = {(unsigned char)(padded & 255), (unsigned char)(padded >> 8)};
    return fwrite("\x93NUMPY\x01\x00", 1, 8, file) == 8 && fwrite(size, 1, 2, file) == 2 &&
           fprintf(file, "%-*s\n", padded - 1, head) == padded;
}

/* NumPy knows no BF16: such values are written as F32, exactly. */
static void widen(const uint16_t *src, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = fbi_bf16_to_f32(src[i]);
}

/* The bytes to be written, malloc'ed; NULL with a message. */
static void *data_of(fb_tensor *t, const char *path, fb_dtype written)
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
    fb_dtype written = fb_dtype_of(t) == FB_BF16 ? FB_F32 : fb_dtype_of(t);
    size_t bytes = (size_t)fb_numel(t) * fb_dtype_size(written);
    void *data = data_of(t, path, written);
    if (!data)
        return fb_status_of(ctx);
    errno = 0;
    FILE *file = fopen(path, "wb");
    bool good =
        file && write_head(file, written, fb_shape_of(t)) && fwrite(data, 1, bytes, file) == bytes;
    if (file)
        good = fclose(file) == 0 && good;
    free(data);
    if (good)
        return FB_OK;
    return fbi_fail(ctx, FB_E_IO, "npy %s: cannot write it: %s; is the folder there and not full?",
                    path, strerror(errno));
}
