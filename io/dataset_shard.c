/* Shard files: fields as contiguous HDF5 datasets, and the checksums of their blocks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "io/dataset_priv.h"
#include "io/file_priv.h"
#include "io/h5_priv.h"

enum { MEMBER_BYTES = FBI_NAME_BYTES + 32 };

/* Names inside of a shard: NAME, or NAME/values and NAME/offsets; flambeau_xxh3/NAME. */
static const char *values_name(const fb_dataset *ds, int f, char out[MEMBER_BYTES])
{
    snprintf(out, MEMBER_BYTES, ds->fields[f].varies ? "%s/values" : "%s", ds->names[f]);
    return out;
}

static int64_t blocks_of(size_t bytes)
{
    return (int64_t)((bytes + FBI_BLOCK_BYTES - 1) / FBI_BLOCK_BYTES);
}

static uint64_t hash_block(const char *data, size_t bytes, int64_t block)
{
    size_t begin = (size_t)block * FBI_BLOCK_BYTES;
    size_t n = bytes - begin < FBI_BLOCK_BYTES ? bytes - begin : FBI_BLOCK_BYTES;
    return XXH3_64bits(data + begin, n);
}

/* --- writing --- */

static bool write_array(hid_t file, const char *name, fb_dtype dtype, int64_t n, fb_shape shape,
                        const void *values)
{
    hid_t data = fbi_h5_create(file, name, dtype, n, shape);
    if (data < 0)
        return false;
    bool good =
        !n || H5Dwrite(data, fbi_h5_type(dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0;
    good = good && fbi_h5_put_text(data, "dtype", fb_dtype_name(dtype));
    return H5Dclose(data) >= 0 && good;
}

static bool write_checksums(const fb_dataset *ds, hid_t file, int f)
{
    const fbi_field_rows *w = &ds->writer->fields[f];
    int64_t n = blocks_of(w->bytes);
    uint64_t *sums = malloc((size_t)(n + 1) * sizeof *sums);
    for (int64_t i = 0; sums && i < n; i++)
        sums[i] = hash_block(w->data, w->bytes, i);
    char name[MEMBER_BYTES];
    snprintf(name, sizeof name, "flambeau_xxh3/%s", ds->names[f]);
    bool good = sums && write_array(file, name, FB_I64, n, FB_SCALAR, sums);
    free(sums);
    return good;
}

static bool write_field(const fb_dataset *ds, hid_t file, int f)
{
    const fb_dataset_field *field = &ds->fields[f];
    const fbi_field_rows *w = &ds->writer->fields[f];
    int64_t n = ds->writer->n;
    char name[MEMBER_BYTES];
    if (!write_array(file, values_name(ds, f, name), field->dtype,
                     (int64_t)(w->bytes / ds->bytes[f]), field->shape, w->data) ||
        !write_checksums(ds, file, f))
        return false;
    snprintf(name, sizeof name, "%s/offsets", ds->names[f]);
    return !field->varies || write_array(file, name, FB_I64, n + 1, FB_SCALAR, w->starts);
}

static bool build_shard(const fb_dataset *ds, hid_t file)
{
    bool good = file >= 0 && fbi_h5_put_text(file, "flambeau", "dataset shard") &&
                fbi_h5_put_int(file, "format", FBI_DATASET_FORMAT) &&
                fbi_h5_put_text(file, "id", ds->id) &&
                fbi_h5_put_text(file, "head", fbi_dataset_base(ds));
    for (int f = 0; good && f < ds->n_fields; f++)
        good = write_field(ds, file, f);
    return good;
}

static void nothing_waits(fbi_dataset_writer *w, int n_fields)
{
    w->n = 0;
    for (int f = 0; f < n_fields; f++) {
        w->fields[f].bytes = 0;
        w->fields[f].n_starts = 0;
    }
}

fb_status fbi_dataset_write_failed(fb_dataset *ds, const char *file)
{
    return fbi_fail(ds->ctx, FB_E_IO,
                    "dataset %s: cannot write %s: %s; is the folder there, writable and not full?",
                    ds->path, file, errno ? strerror(errno) : "HDF5 failed");
}

fb_status fbi_dataset_write_shard(fb_dataset *ds)
{
    fbi_dataset_writer *w = ds->writer;
    fbi_shard *shards = realloc(ds->shards, sizeof *shards * (size_t)(ds->n_shards + 1));
    if (!shards)
        return fbi_fail(ds->ctx, FB_E_NOMEM, "dataset %s: no memory", ds->path);
    ds->shards = shards;
    fbi_shard *shard = &shards[ds->n_shards];
    memset(shard, 0, sizeof *shard);
    shard->begin = ds->total - w->n;
    shard->n = w->n;
    atomic_init(&shard->fd, -1);
    char path[FBI_PATH_BYTES], part[FBI_PATH_BYTES + 8];
    snprintf(shard->name, sizeof shard->name, "%.*s-%s-%05d.h5", fbi_dataset_stem(ds),
             fbi_dataset_base(ds), ds->id, w->next);
    fbi_dataset_beside(ds, shard->name, path);
    snprintf(part, sizeof part, "%s" FBI_PART, path);

    errno = 0;
    fbi_h5_lock();
    hid_t file = fbi_h5_memory();
    bool good = build_shard(ds, file);
    fbi_h5_unlock();
    good = fbi_h5_save(file, part, false, &shard->bytes, shard->hash) && good;
    if (!good || rename(part, path)) {
        fb_status st = fbi_dataset_write_failed(ds, path);
        unlink(part);
        return st;
    }
    ds->n_shards++;
    w->next += w->step;
    nothing_waits(w, ds->n_fields);
    return FB_OK;
}

/* --- looking at --- */

/* First byte of a contiguous array of `n` rows of `bytes` (n < 0: any number, given back), whole in
 * the file; -1: there is none such. */
static int64_t find_array(hid_t file, const char *name, size_t bytes, int64_t file_bytes,
                          int64_t *n)
{
    hid_t data = H5Dopen2(file, name, H5P_DEFAULT);
    if (data < 0)
        return -1;
    hid_t space = H5Dget_space(data);
    hsize_t dims[H5S_MAX_RANK] = {0};
    int64_t size;
    int rank = H5Sget_simple_extent_dims(space, dims, NULL);
    bool good = rank >= 1 && dims[0] <= INT64_MAX && (*n < 0 || (int64_t)dims[0] == *n) &&
                !__builtin_mul_overflow((int64_t)dims[0], (int64_t)bytes, &size) &&
                H5Dget_storage_size(data) == (hsize_t)size;
    haddr_t at = good && size ? H5Dget_offset(data) : 0; /* nothing lies nowhere */
    good = good && at != HADDR_UNDEF && size <= file_bytes && (int64_t)at <= file_bytes - size;
    *n = (int64_t)dims[0];
    H5Sclose(space);
    H5Dclose(data);
    return good ? (int64_t)at : -1;
}

static bool find_field(const fb_dataset *ds, const fbi_shard *shard, hid_t file, int f,
                       fbi_place *place)
{
    char name[MEMBER_BYTES];
    place->rows = ds->fields[f].varies ? -1 : shard->n;
    place->at =
        find_array(file, values_name(ds, f, name), ds->bytes[f], shard->bytes, &place->rows);
    if (place->at < 0)
        return false;
    if (ds->fields[f].varies) {
        int64_t n = shard->n + 1;
        snprintf(name, sizeof name, "%s/offsets", ds->names[f]);
        place->offsets = find_array(file, name, sizeof(int64_t), shard->bytes, &n);
        if (place->offsets < 0)
            return false;
    }
    int64_t blocks = blocks_of((size_t)place->rows * ds->bytes[f]);
    snprintf(name, sizeof name, "flambeau_xxh3/%s", ds->names[f]);
    if (H5Lexists(file, "flambeau_xxh3", H5P_DEFAULT) <= 0)
        return true; /* format 1 */
    place->checksums = find_array(file, name, sizeof(uint64_t), shard->bytes, &blocks);
    return place->checksums >= 0;
}

/* Where each field's bytes begin in a shard; false with a message if it is not as the head says. */
static bool locate(const fb_dataset *ds, fbi_shard *shard, const char *path, char *text,
                   size_t size)
{
    bool good = false;
    char id[17] = "";
    fbi_h5_lock();
    hid_t file = fbi_h5_open(path);
    if (file < 0) {
        snprintf(text, size, "is damaged");
    } else if (!fbi_h5_get_text(file, "id", id, sizeof id) || strcmp(id, ds->id)) {
        snprintf(text, size, "belongs to another dataset (id \"%s\", wanted \"%s\")", id, ds->id);
    } else {
        good = true;
        for (int f = 0; good && f < ds->n_fields; f++) {
            good = find_field(ds, shard, file, f, &shard->place[f]);
            if (!good)
                snprintf(text, size, "has no field %s as the head describes it",
                         ds->fields[f].name);
        }
    }
    if (file >= 0)
        H5Fclose(file);
    fbi_h5_unlock();
    return good;
}

fb_status fbi_dataset_look_at_shard(fb_dataset *ds, fbi_shard *shard)
{
    const char *what = "copy it again or run \"flambeau data check\"";
    char path[FBI_PATH_BYTES], text[256] = "";
    if (strchr(shard->name, '/') || !strcmp(shard->name, ".."))
        return fbi_fail(ds->ctx, FB_E_IO,
                        "dataset %s: shard \"%s\" lies outside the dataset's folder: "
                        "refused",
                        ds->path, shard->name);
    fbi_dataset_beside(ds, shard->name, path);
    struct stat info;
    if (stat(path, &info))
        return fbi_fail(ds->ctx, FB_E_NOT_FOUND, "dataset %s: shard %s: %s: %s", ds->path,
                        shard->name, strerror(errno), what);
    if (info.st_size != shard->bytes)
        return fbi_fail(ds->ctx, FB_E_IO,
                        "dataset %s: shard %s is %lld bytes, the head says %lld: %s", ds->path,
                        shard->name, (long long)info.st_size, (long long)shard->bytes, what);
    if (!locate(ds, shard, path, text, sizeof text))
        return fbi_fail(ds->ctx, FB_E_IO, "dataset %s: shard %s %s: %s", ds->path, shard->name,
                        text, what);
    return FB_OK;
}

/* --- checksums --- */

static char *read_array(fb_dataset *ds, fbi_shard *shard, int64_t at, size_t bytes, char *text,
                        size_t size)
{
    char *data = malloc(bytes + 1);
    if (!data)
        snprintf(text, size, "no memory for %zu bytes", bytes);
    else if (fbi_dataset_read_at(ds, shard, data, bytes, at, text, size))
        return data;
    free(data);
    return NULL;
}

/* Sample of a shard that a row belongs to. */
static int64_t sample_of(const int64_t *starts, int64_t n, int64_t row)
{
    int64_t low = 0, high = n; /* starts[low] <= row < starts[high] */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (starts[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Samples that a block belongs to. */
static bool name_samples(fb_dataset *ds, fbi_shard *shard, int f, int64_t block, int64_t *first,
                         int64_t *last, char *text, size_t size)
{
    const fbi_place *place = &shard->place[f];
    int64_t row = (int64_t)((size_t)block * FBI_BLOCK_BYTES / ds->bytes[f]);
    int64_t end = (int64_t)(((size_t)(block + 1) * FBI_BLOCK_BYTES - 1) / ds->bytes[f]);
    end = end < place->rows ? end : place->rows - 1;
    *first = shard->begin + row;
    *last = shard->begin + end;
    if (!ds->fields[f].varies)
        return true;
    int64_t *starts = (int64_t *)read_array(ds, shard, place->offsets,
                                            (size_t)(shard->n + 1) * sizeof *starts, text, size);
    if (!starts)
        return false;
    *first = shard->begin + sample_of(starts, shard->n, row);
    *last = shard->begin + sample_of(starts, shard->n, end);
    free(starts);
    return true;
}

bool fbi_dataset_find_damage(fb_dataset *ds, fbi_shard *shard, int f, const char *values,
                             int64_t *first, int64_t *last, char *text, size_t size)
{
    const fbi_place *place = &shard->place[f];
    size_t bytes = fbi_dataset_field_bytes(ds, shard, f);
    int64_t n = blocks_of(bytes);
    if (!place->checksums || !n)
        return false;
    char *own = values ? NULL : read_array(ds, shard, place->at, bytes, text, size);
    uint64_t *sums = (uint64_t *)read_array(ds, shard, place->checksums,
                                            (size_t)n * sizeof(uint64_t), text, size);
    const char *data = values ? values : own;
    int64_t block = 0;
    while (data && sums && block < n && hash_block(data, bytes, block) == sums[block])
        block++;
    bool damaged = data && sums && block < n;
    free(own);
    free(sums);
    return damaged && name_samples(ds, shard, f, block, first, last, text, size);
}
