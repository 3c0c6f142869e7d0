/* Datasets of any HDF5 file, in any layout that HDF5 reads: one becomes one field. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/h5_priv.h"
#include "io/limited_priv.h"
#include "launch/import_priv.h"

enum { BLOCK_BYTES = 8 << 20 };

typedef struct source {
    char name[64];
    const char *path;
    hid_t data, type; /* type: in memory */
    fb_dtype dtype;
    fb_shape shape;   /* of a sample */
    int64_t n, chunk; /* samples, and those of a chunk */
    char *rows;
} source;

/* --- what a dataset is --- */

/* bool of h5py is an enumeration of FALSE and TRUE. */
static bool is_bool(hid_t type)
{
    return H5Tget_class(type) == H5T_ENUM && H5Tget_size(type) == 1 && H5Tget_nmembers(type) == 2;
}

static fb_dtype integer_of(hid_t type)
{
    bool negative = H5Tget_sign(type) == H5T_SGN_2;
    switch (H5Tget_size(type)) {
    case 1:
        return negative ? FB_I8 : FB_U8;
    case 2:
        return negative ? FB_I16 : FB_U16;
    case 4:
        return negative ? FB_I32 : FB_I64;
    case 8:
        return negative ? FB_I64 : FB_DTYPE_DEFAULT;
    }
    return FB_DTYPE_DEFAULT;
}

/* Our dtype that holds all values of a type, or FB_DTYPE_DEFAULT. */
static fb_dtype dtype_of(hid_t type)
{
    if (is_bool(type))
        return FB_BOOL;
    if (H5Tget_class(type) == H5T_INTEGER)
        return integer_of(type);
    if (H5Tget_class(type) != H5T_FLOAT)
        return FB_DTYPE_DEFAULT;
    return H5Tget_size(type) <= 4 ? FB_F32 : H5Tget_size(type) == 8 ? FB_F64 : FB_DTYPE_DEFAULT;
}

/* "8-byte unsigned integer" */
static const char *type_text(hid_t type, char *out, size_t size)
{
    static const char *const names[] = {"integer",  "float",           "time",     "string",
                                        "bitfield", "opaque",          "compound", "reference",
                                        "enum",     "variable-length", "array"};
    int class = (int)H5Tget_class(type);
    snprintf(out, size, "%zu-byte %s", H5Tget_size(type),
             class >= 0 && class < 11 ? names[class] : "unknown");
    return out;
}

static int64_t chunk_of(hid_t data)
{
    hid_t create = H5Dget_create_plist(data);
    hsize_t dims[H5S_MAX_RANK] = {1};
    int rank = H5Pget_layout(create) == H5D_CHUNKED ? H5Pget_chunk(create, H5S_MAX_RANK, dims) : 0;
    H5Pclose(create);
    return rank > 0 ? (int64_t)dims[0] : 1;
}

/* false: `text` says why it cannot be imported. Under the lock. */
static bool look_at(source *s, hid_t file, char *text, size_t size)
{
    s->data = H5Dopen2(file, s->path, H5P_DEFAULT);
    if (s->data < 0) {
        snprintf(text, size, "has no dataset %s: \"h5ls -r\" lists what it has", s->path);
        return false;
    }
    hid_t type = H5Dget_type(s->data), space = H5Dget_space(s->data);
    hsize_t dims[H5S_MAX_RANK];
    int rank = H5Sget_simple_extent_dims(space, dims, NULL);
    char what[64];
    s->dtype = dtype_of(type);
    bool good = false;
    if (!s->dtype)
        snprintf(text, size, "%s holds values of %s, which no dtype here can hold", s->path,
                 type_text(type, what, sizeof what));
    else if (rank < 1 || rank > FB_MAX_DIMS)
        snprintf(text, size, "%s has %d dimensions; 1 to %d are possible, the first are samples",
                 s->path, rank, FB_MAX_DIMS);
    else
        good = true;
    for (int i = 1; good && i < rank; i++)
        s->shape.d[s->shape.n++] = (int64_t)dims[i];
    s->n = good ? (int64_t)dims[0] : 0;
    s->chunk = chunk_of(s->data);
    s->type = s->dtype == FB_BOOL ? H5Tget_native_type(type, H5T_DIR_ASCEND)
                                  : H5Tcopy(fbi_h5_type(s->dtype));
    H5Sclose(space);
    H5Tclose(type);
    return good;
}

/* Rows begin .. begin + n of it. Under the lock. */
static bool read_rows(source *s, int64_t begin, int64_t n)
{
    hsize_t start[FB_MAX_DIMS] = {(hsize_t)begin}, count[FB_MAX_DIMS] = {(hsize_t)n};
    for (int i = 0; i < s->shape.n; i++)
        count[i + 1] = (hsize_t)s->shape.d[i];
    hid_t space = H5Dget_space(s->data), memory = H5Screate_simple(s->shape.n + 1, count, NULL);
    bool good = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                H5Dread(s->data, s->type, memory, space, H5P_DEFAULT, s->rows) >= 0;
    H5Sclose(memory);
    H5Sclose(space);
    return good;
}

/* --- which datasets --- */

static bool add_source(source *all, int *n, fb_context *ctx, const char *name, size_t length,
                       const char *path)
{
    if (*n == FB_MAX_FIELDS || length >= sizeof all->name) {
        fb_fail(ctx, FB_E_ARG, "import: at most %d fields, with names of less than %zu characters",
                FB_MAX_FIELDS, sizeof all->name);
        return false;
    }
    source *s = &all[(*n)++];
    *s = (source){.path = path, .data = H5I_INVALID_HID, .type = H5I_INVALID_HID};
    snprintf(s->name, sizeof s->name, "%.*s", (int)length, name);
    return true;
}

static bool list_sources(const fbi_import *job, fb_context *ctx, source *all, int *n)
{
    bool good = (!job->input || add_source(all, n, ctx, "input", 5, job->input)) &&
                (!job->target || add_source(all, n, ctx, "target", 6, job->target));
    for (int i = 0; good && i < job->fields.n; i++) {
        const char *equals = strchr(job->fields.name[i], '=');
        good = add_source(all, n, ctx, job->fields.name[i], (size_t)(equals - job->fields.name[i]),
                          equals + 1);
    }
    return good;
}

static bool open_sources(const fbi_import *job, fb_context *ctx, hid_t *file, source *all, int n)
{
    const char *path = job->inputs[0];
    char text[256] = "";
    bool good = fbi_h5_probe(path, text, sizeof text);
    fbi_h5_lock();
    *file = !good || access(path, R_OK) ? H5I_INVALID_HID : fbi_h5_open(path);
    if (good && *file < 0)
        snprintf(text, sizeof text, "is not there, or no HDF5 file");
    good = *file >= 0;
    for (int i = 0; good && i < n; i++)
        good = look_at(&all[i], *file, text, sizeof text);
    fbi_h5_unlock();
    for (int i = 1; good && i < n; i++)
        if (all[i].n != all[0].n) {
            snprintf(text, sizeof text, "%s has %lld samples, %s has %lld", all[0].path,
                     (long long)all[0].n, all[i].path, (long long)all[i].n);
            good = false;
        }
    if (!good)
        fb_fail(ctx, FB_E_IO, "import %s: %s", path, text);
    return good;
}

static void close_sources(hid_t file, source *all, int n)
{
    fbi_h5_lock();
    for (int i = 0; i < n; i++) {
        if (all[i].data >= 0)
            H5Dclose(all[i].data);
        if (all[i].type >= 0)
            H5Tclose(all[i].type);
        free(all[i].rows);
    }
    if (file >= 0)
        H5Fclose(file);
    fbi_h5_unlock();
}

/* --- copying --- */

/* Samples at a time: about BLOCK_BYTES, and whole chunks, which are not unpacked twice. 0: no
 * memory. */
static int64_t make_room(source *all, int n)
{
    int64_t bytes = 0, chunk = 1;
    for (int i = 0; i < n; i++) {
        bytes += fb_shape_numel(all[i].shape) * (int64_t)fb_dtype_size(all[i].dtype);
        chunk = all[i].chunk > chunk ? all[i].chunk : chunk;
    }
    int64_t rows = bytes < BLOCK_BYTES ? BLOCK_BYTES / (bytes + !bytes) : 1;
    rows = (rows + chunk - 1) / chunk * chunk;
    rows = rows > all[0].n ? all[0].n : rows;
    for (int i = 0; i < n; i++) {
        size_t sample = (size_t)fb_shape_numel(all[i].shape) * fb_dtype_size(all[i].dtype),
               all_bytes;
        if (__builtin_mul_overflow(sample, (size_t)rows, &all_bytes) ||
            !(all[i].rows = malloc(all_bytes + 1)))
            return 0;
    }
    return rows;
}

static bool read_block(const fbi_import *job, fb_context *ctx, source *all, int n, int64_t begin,
                       int64_t rows)
{
    int bad = -1;
    fbi_h5_lock();
    for (int i = 0; i < n && bad < 0; i++)
        if (!read_rows(&all[i], begin, rows))
            bad = i;
    fbi_h5_unlock();
    if (bad < 0)
        return true;
    fb_fail(ctx, FB_E_IO,
            "import %s: cannot read samples %lld to %lld of %s: it is damaged, or this HDF5 lacks "
            "a filter of it",
            job->inputs[0], (long long)begin, (long long)(begin + rows - 1), all[bad].path);
    return false;
}

static void copy(const fbi_import *job, fb_context *ctx, fb_dataset *ds, source *all, int n)
{
    const void *values[FB_MAX_FIELDS];
    int64_t begin, end, rows = make_room(all, n);
    fbi_import_range(job, all[0].n, &begin, &end);
    if (!rows && all[0].n) {
        fb_fail(ctx, FB_E_NOMEM, "import %s: no memory for some samples", job->inputs[0]);
        return;
    }
    for (int i = 0; i < n; i++)
        values[i] = all[i].rows;
    if (job->rank == 0)
        fbi_progress_begin(job->progress, "samples", end - begin);
    for (int64_t at = begin, some; at < end; at += some) {
        some = rows - at % rows; /* blocks begin where chunks do */
        some = some < end - at ? some : end - at;
        if (!read_block(job, ctx, all, n, at, some) || fb_dataset_append(ds, some, values))
            return;
        fbi_progress_add(job->progress, some);
    }
}

int fbi_import_hdf5(const fbi_import *job, fb_context *ctx)
{
    source all[FB_MAX_FIELDS];
    hid_t file = H5I_INVALID_HID;
    int n = 0;
    bool good = list_sources(job, ctx, all, &n) && open_sources(job, ctx, &file, all, n);
    fb_dataset_field fields[FB_MAX_FIELDS];
    for (int i = 0; i < n; i++)
        fields[i] =
            (fb_dataset_field){.name = all[i].name, .dtype = all[i].dtype, .shape = all[i].shape};
    if (n && job->input) {
        fields[0].scale = job->scale;
        fields[0].shift = job->shift;
    }
    fb_dataset *ds = fbi_import_create(job, ctx, fields, n);
    if (good && ds)
        copy(job, ctx, ds, all, n);
    close_sources(file, all, n);
    return fbi_import_finish(ds);
}
