#include <flambeau/io/interchange.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/tensor/context_priv.h"

static const struct {
    fb_dtype dtype;
    const char *descr;
} types[] = {{FB_F32, "<f4"}, {FB_F64, "<f8"}, {FB_F16, "<f2"}, {FB_I32, "<i4"},
             {FB_I64, "<i8"}, {FB_U8, "|u1"},  {FB_BOOL, "|b1"}};
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

static fb_tensor *load(fb_context *ctx, const char *path, FILE *file)
{
    char head[HEAD_BYTES];
    fb_shape shape;
    if (!read_head(file, head) || !parse_shape(value_of(head, "shape"), &shape)) {
        fbi_fail(ctx, FB_E_IO, "npy %s: is no NumPy array, or is cut", path);
        return NULL;
    }
    const char *descr = value_of(head, "descr"), *order = value_of(head, "fortran_order");
    fb_dtype dtype = FB_DTYPE_DEFAULT;
    for (int i = 0; descr && i < N_TYPES; i++)
        if (!strncmp(descr + 1, types[i].descr, 3) && descr[4] == *descr)
            dtype = types[i].dtype;
    if (!dtype) {
        fbi_fail(ctx, FB_E_DTYPE, "npy %s: dtype %.8s cannot be read: save it as float32 or int64",
                 path, descr ? descr : "(none)");
        return NULL;
    }
    int64_t n = fb_shape_numel(shape);
    size_t bytes = n < 0 ? 0 : (size_t)n * fb_dtype_size(dtype);
    char *data = n < 0 ? NULL : malloc(bytes + 1);
    if (!data) {
        fbi_fail(ctx, FB_E_NOMEM, "npy %s: no memory for its %lld elements", path, (long long)n);
        return NULL;
    }
    fb_tensor *t = NULL;
    if (fread(data, 1, bytes, file) != bytes)
        fbi_fail(ctx, FB_E_IO, "npy %s: ends before its %lld elements", path, (long long)n);
    else
        t = order && *order == 'T' ? from_fortran(ctx, dtype, shape, data)
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
    unsigned char fixed[10] = {0x93,
                               'N',
                               'U',
                               'M',
                               'P',
                               'Y',
                               1,
                               0,
                               (unsigned char)(padded & 255),
                               (unsigned char)(padded >> 8)};
    return fwrite(fixed, 1, 10, file) == 10 && fprintf(file, "%-*s\n", padded - 1, head) == padded;
}

fb_status fb_npy_save(fb_tensor *t, const char *path)
{
    if (!t)
        return FB_E_ARG;
    fb_context *ctx = fb_context_of(t);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    fb_dtype dtype = fb_dtype_of(t), written = dtype == FB_BF16 ? FB_F32 : dtype;
    int64_t n = fb_numel(t);
    size_t bytes = (size_t)n * fb_dtype_size(dtype), out = (size_t)n * fb_dtype_size(written);
    char *data = malloc(out + 1);
    if (!data)
        return fbi_fail(ctx, FB_E_NOMEM, "npy %s: no memory", path);
    fb_status st = fb_read(t, data, bytes);
    if (dtype == FB_BF16) /* widened from the end, in place */
        for (int64_t i = n - 1; i >= 0; i--)
            ((float *)(void *)data)[i] = fbi_bf16_to_f32(((uint16_t *)(void *)data)[i]);
    FILE *file = st ? NULL : fopen(path, "wb");
    bool good =
        file && write_head(file, written, fb_shape_of(t)) && fwrite(data, 1, out, file) == out;
    if (file)
        good = fclose(file) == 0 && good;
    free(data);
    if (!st && !good)
        st = fbi_fail(ctx, FB_E_IO, "npy %s: cannot write it: %s", path, strerror(errno));
    return st;
}
