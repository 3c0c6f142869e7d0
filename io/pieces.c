#include "io/pieces_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint_priv.h"
#include "io/file_priv.h"
#include "io/frame_priv.h"

/* A row of the data set "pieces". */
enum {
    FILE_AT,
    OFFSET_AT,
    BYTES_AT,
    HASH_AT,
    FLAT_AT,
    BEGIN_AT,
    COUNT_AT = BEGIN_AT + FB_MAX_DIMS,
    COLUMNS = COUNT_AT + FB_MAX_DIMS
};
static const char columns[] =
    "file offset bytes xxh3 flat begin[8] count[8]: file is a number among the manifest's files, "
    "offset and bytes are in it; a flat piece is begin[0] and count[0] of the elements";

bool fbi_pieces_add(fbi_file_pieces *p, fbi_file_piece piece)
{
    if (p->n == p->cap) {
        int64_t cap = p->cap ? 2 * p->cap : 64;
        fbi_file_piece *v = realloc(p->v, (size_t)cap * sizeof *v);
        if (!v)
            return false;
        p->v = v;
        p->cap = cap;
    }
    p->v[p->n++] = piece;
    return true;
}

void fbi_pieces_free(fbi_file_pieces *p)
{
    free(p->v);
    *p = (fbi_file_pieces){0};
}

fbi_file_piece fbi_piece_whole(fb_shape shape)
{
    return (fbi_file_piece){.begin = {.n = shape.n}, .count = shape};
}

int64_t fbi_piece_numel(const fbi_file_piece *p)
{
    int64_t n = 1;
    for (int i = 0; i < p->count.n; i++)
        n *= p->count.d[i];
    return n;
}

/* --- the index --- */

static void pack(const fbi_file_piece *p, int64_t row[COLUMNS])
{
    memset(row, 0, COLUMNS * sizeof *row);
    row[FILE_AT] = p->file;
    row[OFFSET_AT] = p->offset;
    row[BYTES_AT] = p->bytes;
    memcpy(&row[HASH_AT], &p->hash, sizeof p->hash);
    row[FLAT_AT] = p->flat;
    memcpy(&row[BEGIN_AT], p->begin.d, (size_t)p->begin.n * sizeof *row);
    memcpy(&row[COUNT_AT], p->count.d, (size_t)p->count.n * sizeof *row);
}

/* The number of dimensions is the tensor's: see fbi_pieces_cover. */
static fbi_file_piece unpack(const int64_t row[COLUMNS])
{
    fbi_file_piece p = {.file = row[FILE_AT],
                        .offset = row[OFFSET_AT],
                        .bytes = row[BYTES_AT],
                        .flat = row[FLAT_AT] != 0};
    memcpy(&p.hash, &row[HASH_AT], sizeof p.hash);
    memcpy(p.begin.d, &row[BEGIN_AT], sizeof p.begin.d);
    memcpy(p.count.d, &row[COUNT_AT], sizeof p.count.d);
    return p;
}

static bool write_rows(hid_t file, const int64_t *rows, int64_t n)
{
    hid_t set = fbi_h5_create(file, "pieces", FB_I64, n, FB_SHAPE(COLUMNS));
    bool good = set >= 0 && fbi_h5_put_text(set, "columns", columns) &&
                (!n || H5Dwrite(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) >= 0);
    return set >= 0 && H5Dclose(set) >= 0 && good;
}

bool fbi_pieces_save(const fbi_file_pieces *p, const char *path, int64_t *bytes, char hex[17])
{
    int64_t *rows = malloc((size_t)(p->n + 1) * COLUMNS * sizeof *rows);
    errno = ENOMEM;
    if (!rows)
        return false;
    for (int64_t i = 0; i < p->n; i++)
        pack(&p->v[i], rows + i * COLUMNS);
    fbi_frame frame;
    fbi_h5_lock();
    errno = 0;
    bool good =
        fbi_frame_begin(&frame) && write_rows(frame.file, rows, p->n) && fbi_frame_end(&frame);
    fbi_h5_unlock();
    free(rows);
    if (good) {
        *bytes = frame.bytes;
        fbi_hash_hex(frame.image, (size_t)frame.bytes, hex);
        good = fbi_file_write(path, frame.image, (size_t)frame.bytes);
    }
    fbi_frame_free(&frame);
    return good;
}

static int64_t *read_rows(hid_t file, int64_t *n)
{
    hsize_t dims[2] = {0, 0};
    int64_t *rows = NULL;
    hid_t set = file >= 0 ? H5Dopen2(file, "pieces", H5P_DEFAULT) : H5I_INVALID_HID;
    if (set < 0)
        return NULL;
    hid_t space = H5Dget_space(set);
    if (H5Sget_simple_extent_ndims(space) == 2 &&
        H5Sget_simple_extent_dims(space, dims, NULL) == 2 && dims[1] == COLUMNS &&
        dims[0] <= H5Dget_storage_size(set) / (COLUMNS * sizeof *rows))
        rows = malloc((dims[0] + 1) * COLUMNS * sizeof *rows);
    if (rows && dims[0] &&
        H5Dread(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) < 0) {
        free(rows);
        rows = NULL;
    }
    *n = (int64_t)dims[0];
    H5Sclose(space);
    H5Dclose(set);
    return rows;
}

bool fbi_pieces_load(fbi_file_pieces *p, const char *path, char *text, size_t size)
{
    int64_t n = 0;
    fbi_h5_lock();
    hid_t file = fbi_h5_open(path);
    int64_t *rows = read_rows(file, &n);
    if (file >= 0)
        H5Fclose(file);
    fbi_h5_unlock();
    bool good = rows != NULL;
    for (int64_t i = 0; good && i < n; i++)
        good = fbi_pieces_add(p, unpack(rows + i * COLUMNS));
    free(rows);
    if (!good)
        snprintf(text, size, "%s is no index of pieces", strrchr(path, '/') + 1);
    return good;
}

/* --- what the manifest says of a tensor --- */

static fb_dtype dtype_named(const char *kind)
{
    if (!strcmp(kind, FBI_CHECKPOINT_BYTES))
        return FB_U8;
    for (int d = FB_F32; d < FB_DTYPE_COUNT; d++)
        if (!strcmp(kind, fb_dtype_name((fb_dtype)d)))
            return (fb_dtype)d;
    return FB_DTYPE_DEFAULT;
}

bool fbi_stored_tensor_of(json_t *entry, fbi_stored_tensor *t)
{
    json_t *shape = json_object_get(entry, "shape"), *pieces = json_object_get(entry, "pieces");
    *t = (fbi_stored_tensor){.kind = json_string_value(json_object_get(entry, "dtype")),
                             .numel = 1,
                             .first = json_integer_value(json_array_get(pieces, 0)),
                             .n = json_integer_value(json_array_get(pieces, 1))};
    t->dtype = t->kind ? dtype_named(t->kind) : FB_DTYPE_DEFAULT;
    if (t->dtype == FB_DTYPE_DEFAULT || !json_is_array(shape) ||
        json_array_size(shape) > FB_MAX_DIMS)
        return false;
    for (size_t i = 0; i < json_array_size(shape); i++) {
        int64_t d = json_integer_value(json_array_get(shape, i));
        if (d < 0 || __builtin_mul_overflow(t->numel, d, &t->numel))
            return false;
        t->shape.d[t->shape.n++] = d;
    }
    return !__builtin_mul_overflow(t->numel, (int64_t)fb_dtype_size(t->dtype), &t->bytes);
}

/* --- places --- */

static bool within(const fbi_file_piece *p, const fbi_stored_tensor *t)
{
    int n = p->flat ? 1 : t->shape.n;
    int64_t numel = 1;
    for (int i = 0; i < n; i++) {
        int64_t room = p->flat ? t->numel : t->shape.d[i];
        if (p->begin.d[i] < 0 || p->count.d[i] < 0 || p->begin.d[i] > room ||
            p->count.d[i] > room - p->begin.d[i])
            return false;
        numel *= p->count.d[i];
    }
    return p->offset >= 0 && p->bytes == numel * (int64_t)fb_dtype_size(t->dtype);
}

/* Elements [*from, *to) in row-major order between which all of the piece lies. */
static void span_of(const fbi_file_piece *p, const fbi_stored_tensor *t, int64_t *from, int64_t *to)
{
    *from = p->begin.d[0];
    *to = *from + p->count.d[0];
    if (p->flat)
        return;
    *from = *to = 0;
    for (int i = 0; i < t->shape.n; i++) {
        *from = *from * t->shape.d[i] + p->begin.d[i];
        *to = *to * t->shape.d[i] + p->begin.d[i] + p->count.d[i] - 1;
    }
    ++*to;
}

static bool overlap(const fbi_file_piece *a, const fbi_file_piece *b, const fbi_stored_tensor *t)
{
    int64_t from_a, to_a, from_b, to_b;
    span_of(a, t, &from_a, &to_a);
    span_of(b, t, &from_b, &to_b);
    if (to_a <= from_b || to_b <= from_a)
        return false;
    if (a->flat || b->flat)
        return true; /* boxes and ranges of one tensor are not mixed so finely */
    for (int i = 0; i < t->shape.n; i++)
        if (a->begin.d[i] + a->count.d[i] <= b->begin.d[i] ||
            b->begin.d[i] + b->count.d[i] <= a->begin.d[i])
            return false;
    return true;
}

bool fbi_pieces_cover(const fbi_file_pieces *p, const fbi_stored_tensor *t)
{
    enum { ANY_ORDER = 1 << 14 }; /* pieces that may come in any order: each is compared with all */
    int64_t left = t->bytes, end = 0;
    if (t->first < 0 || t->n < 0 || t->first > p->n || t->n > p->n - t->first)
        return false;
    if (!t->n)
        return left == 0;
    fbi_file_piece *v = p->v + t->first;
    for (int64_t i = 0; i < t->n; i++) {
        if (!within(&v[i], t) || v[i].bytes == 0 || v[i].bytes > left)
            return false;
        v[i].begin.n = v[i].count.n = v[i].flat ? 1 : t->shape.n;
        left -= v[i].bytes;
        int64_t from, to;
        span_of(&v[i], t, &from, &to);
        for (int64_t k = from < end ? 0 : i; k < i; k++)
            if (i > ANY_ORDER || overlap(&v[i], &v[k], t))
                return false;
        if (to > end)
            end = to;
    }
    return left == 0;
}

/* Runs of elements of a box that lie side by side in both, the last dimension in them. */
static void walk_box(const fbi_file_piece *p, const fbi_stored_tensor *t, int dim, int64_t at,
                     char **values, char *whole, bool place)
{
    size_t size = fb_dtype_size(t->dtype);
    if (dim < t->shape.n - 1) {
        for (int64_t i = 0; i < p->count.d[dim]; i++)
            walk_box(p, t, dim + 1, (at + p->begin.d[dim] + i) * t->shape.d[dim + 1], values, whole,
                     place);
        return;
    }
    int64_t begin = t->shape.n ? at + p->begin.d[dim] : 0;
    size_t bytes = (t->shape.n ? (size_t)p->count.d[dim] : 1) * size;
    char *there = whole + (size_t)begin * size;
    memcpy(place ? there : *values, place ? *values : there, bytes);
    *values += bytes;
}

static void move(const fbi_file_piece *p, const fbi_stored_tensor *t, char *values, char *whole,
                 bool place)
{
    char *range = whole + (size_t)p->begin.d[0] * fb_dtype_size(t->dtype);
    if (p->flat)
        memcpy(place ? range : values, place ? values : range, (size_t)p->bytes);
    else
        walk_box(p, t, 0, 0, &values, whole, place);
}

void fbi_piece_place(const fbi_file_piece *p, const fbi_stored_tensor *t, const char *values,
                     char *whole)
{
    move(p, t, (char *)(uintptr_t)values, whole, true);
}

void fbi_piece_take(const fbi_file_piece *p, const fbi_stored_tensor *t, const char *whole,
                    char *values)
{
    move(p, t, values, (char *)(uintptr_t)whole, false);
}
