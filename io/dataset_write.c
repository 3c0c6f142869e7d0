#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <xxhash.h>

#include "io/dataset_priv.h"
#include "io/file_priv.h"
#include "io/h5_priv.h"

enum { SHARD_BYTES = 64 << 20, MOST_STEM = FBI_NAME_BYTES - 32 };

/* One shard's samples are held in memory, so that a shard file is written once, with its right
 * size. */
struct fbi_dataset_writer {
    int64_t capacity, n;
    char *rows[FB_MAX_FIELDS];
};

static void free_writer(fb_dataset *ds)
{
    for (int f = 0; f < ds->n_fields; f++)
        free(ds->writer->rows[f]);
    free(ds->writer);
    ds->writer = NULL;
}

void fbi_dataset_writer_free(fb_dataset *ds)
{
    if (!ds->writer)
        return;
    for (int s = 0; s < ds->n_shards; s++) {
        char path[FBI_PATH_BYTES];
        fbi_dataset_beside(ds, ds->shards[s].name, path);
        unlink(path);
    }
    free_writer(ds);
}

/* Name of the head without its folder. */
static const char *base_of(const fb_dataset *ds)
{
    const char *slash = strrchr(ds->path, '/');
    return slash ? slash + 1 : ds->path;
}

/* How much of the head's name is left without ".h5": shards begin with it. */
static int stem_of(const fb_dataset *ds)
{
    const char *base = base_of(ds), *dot = strrchr(base, '.');
    return (int)(dot && !strcmp(dot, ".h5") ? (size_t)(dot - base) : strlen(base));
}

/* Tells this dataset's shards from others of the same name. */
static void make_id(fb_dataset *ds)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char seed[FBI_PATH_BYTES + 64];
    int n = snprintf(seed, sizeof seed, "%s %lld %ld %d", ds->path, (long long)now.tv_sec,
                     now.tv_nsec, (int)getpid());
    snprintf(ds->id, sizeof ds->id, "%08x", (unsigned)XXH3_64bits(seed, (size_t)n));
}

/* Memory for the samples of one shard; 0: as many as make SHARD_BYTES. */
static bool make_room(fb_dataset *ds, int64_t samples)
{
    fbi_dataset_writer *w = ds->writer = calloc(1, sizeof *w);
    if (!w)
        return false;
    size_t sample = 0;
    for (int f = 0; f < ds->n_fields; f++)
        sample += ds->bytes[f];
    if (!samples)
        samples = sample < SHARD_BYTES ? (int64_t)(SHARD_BYTES / sample) : 1;
    w->capacity = samples;
    for (int f = 0; f < ds->n_fields; f++) {
        size_t bytes;
        if (__builtin_mul_overflow((size_t)samples, ds->bytes[f], &bytes) ||
            !(w->rows[f] = malloc(bytes)))
            return false;
    }
    return true;
}

fb_dataset *fb_dataset_create(fb_context *ctx, const char *path, const fb_dataset_field *fields,
                              int n_fields, const fb_dataset_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_dataset *ds = fbi_dataset_new(ctx, path, fields, n_fields);
    if (!ds)
        return NULL;
    make_id(ds);
    int64_t samples = opts ? opts->shard_samples : 0;
    if (stem_of(ds) > MOST_STEM || samples < 0)
        fbi_fail(ctx, FB_E_ARG,
                 "dataset %s: a name of at most %d characters and a positive number of samples a "
                 "shard are needed, got %lld",
                 path, MOST_STEM, (long long)samples);
    else if (!make_room(ds, samples))
        fbi_fail(ctx, FB_E_NOMEM,
                 "dataset %s: no memory for one shard; ask for fewer samples a shard", path);
    else
        return ds;
    fb_dataset_close(ds);
    return NULL;
}

static fb_status write_failed(fb_dataset *ds, const char *file)
{
    return fbi_fail(ds->ctx, FB_E_IO,
                    "dataset %s: cannot write %s: %s; is the folder there, writable and not full?",
                    ds->path, file, errno ? strerror(errno) : "HDF5 failed");
}

static bool write_field(fb_dataset *ds, hid_t file, int f)
{
    const fb_dataset_field *field = &ds->fields[f];
    hid_t data = fbi_h5_create(file, field->name, field->dtype, ds->writer->n, field->shape);
    if (data < 0)
        return false;
    bool good = H5Dwrite(data, fbi_h5_type(field->dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT,
                         ds->writer->rows[f]) >= 0 &&
                fbi_h5_put_text(data, "dtype", fb_dtype_name(field->dtype));
    return H5Dclose(data) >= 0 && good;
}

static fb_status write_shard(fb_dataset *ds)
{
    fbi_dataset_writer *w = ds->writer;
    fbi_shard *shards = realloc(ds->shards, sizeof *shards * (size_t)(ds->n_shards + 1));
    if (!shards)
        return fbi_fail(ds->ctx, FB_E_NOMEM, "dataset %s: no memory", ds->path);
    ds->shards = shards;
    fbi_shard *shard = &shards[ds->n_shards];
    memset(shard, 0, sizeof *shard);
    shard->begin = ds->size - w->n;
    shard->n = w->n;
    atomic_init(&shard->fd, -1);
    char path[FBI_PATH_BYTES];
    snprintf(shard->name, sizeof shard->name, "%.*s-%s-%05d.h5", stem_of(ds), base_of(ds), ds->id,
             ds->n_shards);
    fbi_dataset_beside(ds, shard->name, path);

    errno = 0;
    fbi_h5_lock();
    hid_t file = fbi_h5_memory();
    bool good = file >= 0 && fbi_h5_put_text(file, "flambeau", "dataset shard") &&
                fbi_h5_put_int(file, "format", FBI_DATASET_FORMAT) &&
                fbi_h5_put_text(file, "id", ds->id) && fbi_h5_put_text(file, "head", base_of(ds)) &&
                fbi_h5_put_int(file, "begin", shard->begin);
    for (int f = 0; good && f < ds->n_fields; f++)
        good = write_field(ds, file, f);
    fbi_h5_unlock();
    if (!fbi_h5_save(file, path, false, &shard->bytes, shard->hash) || !good) {
        fb_status st = write_failed(ds, path);
        unlink(path);
        return st;
    }
    ds->n_shards++;
    w->n = 0;
    return FB_OK;
}

fb_status fb_dataset_append(fb_dataset *ds, int64_t n, const void *const *values)
{
    if (!ds)
        return FB_E_ARG;
    FBI_ENTRY(ds->ctx);
    if (!fbi_enter(ds->ctx))
        return ds->ctx->status;
    fbi_dataset_writer *w = ds->writer;
    if (!w)
        return fbi_fail(ds->ctx, FB_E_STATE, "dataset %s: is finished, or open for reading",
                        ds->path);
    if (n < 0 || !values)
        return fbi_fail(ds->ctx, FB_E_ARG, "dataset %s: cannot append %lld samples%s", ds->path,
                        (long long)n, values ? "" : " of NULL");
    for (int64_t done = 0; done < n;) {
        int64_t some = n - done < w->capacity - w->n ? n - done : w->capacity - w->n;
        for (int f = 0; f < ds->n_fields; f++)
            memcpy(w->rows[f] + (size_t)w->n * ds->bytes[f],
                   (const char *)values[f] + (size_t)done * ds->bytes[f],
                   (size_t)some * ds->bytes[f]);
        w->n += some;
        ds->size += some;
        done += some;
        if (w->n == w->capacity) {
            fb_status st = write_shard(ds);
            if (st)
                return st;
        }
    }
    return FB_OK;
}

/* A virtual dataset over the shards: what h5py, MATLAB and h5dump read as one. */
static bool write_virtual(fb_dataset *ds, hid_t file, int f)
{
    const fb_dataset_field *field = &ds->fields[f];
    hsize_t dims[FB_MAX_DIMS + 1] = {(hsize_t)ds->size}, start[FB_MAX_DIMS + 1] = {0},
                               count[FB_MAX_DIMS + 1];
    for (int i = 0; i < field->shape.n; i++)
        dims[i + 1] = count[i + 1] = (hsize_t)field->shape.d[i];
    int rank = field->shape.n + 1;
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    uint64_t ones = UINT64_MAX; /* a missing shard shows as NaN or all ones, never as zeros */
    H5Pset_fill_value(create, fbi_h5_type(field->dtype), &ones);
    bool good = true;
    for (int s = 0; good && s < ds->n_shards; s++) {
        start[0] = (hsize_t)ds->shards[s].begin;
        count[0] = dims[0] = (hsize_t)ds->shards[s].n;
        hid_t source = H5Screate_simple(rank, dims, NULL);
        good = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
               H5Pset_virtual(create, space, ds->shards[s].name, field->name, source) >= 0;
        H5Sclose(source);
    }
    H5Sselect_all(space);
    hid_t data = good ? H5Dcreate2(file, field->name, fbi_h5_type(field->dtype), space, H5P_DEFAULT,
                                   create, H5P_DEFAULT)
                      : H5I_INVALID_HID;
    H5Pclose(create);
    H5Sclose(space);
    if (data < 0)
        return false;
    good = fbi_h5_put_text(data, "dtype", fb_dtype_name(field->dtype));
    if (field->scale != 0)
        good = good && fbi_h5_put_double(data, "scale", field->scale) &&
               fbi_h5_put_double(data, "shift", field->shift);
    if (field->deliver.n)
        good = good && fbi_h5_put_ints(data, "sample_shape", field->deliver.n, field->deliver.d);
    return H5Dclose(data) >= 0 && good;
}

/* What the head says of its shards, as text: {"shards": [{"name", "samples", "bytes", "xxh3"}]}. */
static char *shards_text(const fb_dataset *ds)
{
    json_t *list = json_array();
    for (int s = 0; s < ds->n_shards; s++)
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:s}", "name", ds->shards[s].name,
                                              "samples", (json_int_t)ds->shards[s].n, "bytes",
                                              (json_int_t)ds->shards[s].bytes, "xxh3",
                                              ds->shards[s].hash));
    json_t *root = json_pack("{s:o}", "shards", list);
    char *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    return text;
}

static bool write_text(hid_t file, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text) + 1);
    hid_t data = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    bool good = data >= 0 && H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) >= 0;
    if (data >= 0)
        H5Dclose(data);
    H5Sclose(space);
    H5Tclose(type);
    return good;
}

/* Whether `name` is a shard's of this head, of another id than ours. */
static bool is_stale(const fb_dataset *ds, const char *name)
{
    int stem = stem_of(ds), number = 0, end = 0;
    char id[9], path[FBI_PATH_BYTES], kind[32], head[FBI_NAME_BYTES];
    if (strncmp(name, base_of(ds), (size_t)stem) ||
        sscanf(name + stem, "-%8[0-9a-f]-%d.h5%n", id, &number, &end) != 2 || !end ||
        name[stem + end] || !strcmp(id, ds->id))
        return false;
    /* Only what says itself that it is one. */
    fbi_dataset_beside(ds, name, path);
    fbi_h5_lock();
    hid_t file = fbi_h5_open(path);
    bool ours = file >= 0 && fbi_h5_get_text(file, "flambeau", kind, sizeof kind) &&
                !strcmp(kind, "dataset shard") &&
                fbi_h5_get_text(file, "head", head, sizeof head) && !strcmp(head, base_of(ds));
    if (file >= 0)
        H5Fclose(file);
    fbi_h5_unlock();
    return ours;
}

/* Remove the shards of an earlier dataset of this path, and of imports that were killed. */
static void remove_stale(fb_dataset *ds)
{
    char path[FBI_PATH_BYTES];
    fbi_dataset_beside(ds, ".", path);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (is_stale(ds, e->d_name)) {
            fbi_dataset_beside(ds, e->d_name, path);
            unlink(path);
        }
    if (dir)
        closedir(dir);
}

/* Another process that wrote to the same path meanwhile took our shards for old ones. */
static fb_status check_shards(fb_dataset *ds)
{
    char path[FBI_PATH_BYTES];
    for (int s = 0; s < ds->n_shards; s++) {
        fbi_dataset_beside(ds, ds->shards[s].name, path);
        if (access(path, R_OK))
            return fbi_fail(ds->ctx, FB_E_IO,
                            "dataset %s: shard %s has gone: is another program writing the same "
                            "dataset?",
                            ds->path, ds->shards[s].name);
    }
    return FB_OK;
}

/* The head, in memory. */
static hid_t build_head(fb_dataset *ds, const char *shards)
{
    fbi_h5_lock();
    hid_t file = fbi_h5_memory();
    bool good = file >= 0 && fbi_h5_put_text(file, "flambeau", "dataset") &&
                fbi_h5_put_int(file, "format", FBI_DATASET_FORMAT) &&
                fbi_h5_put_text(file, "id", ds->id) && fbi_h5_put_int(file, "samples", ds->size) &&
                write_text(file, "flambeau_shards", shards);
    for (int f = 0; good && f < ds->n_fields; f++)
        good = write_virtual(ds, file, f);
    if (!good && file >= 0) {
        H5Fclose(file);
        file = H5I_INVALID_HID;
    }
    fbi_h5_unlock();
    return file;
}

/* The head is what makes the dataset exist, so it is renamed into place last. */
static bool put_head(fb_dataset *ds, const char *shards)
{
    char part[FBI_PATH_BYTES], folder[FBI_PATH_BYTES], hash[17];
    fbi_dataset_beside(ds, ".", folder);
    snprintf(part, sizeof part, "%.*s.part", FBI_PATH_BYTES - 8, ds->path);
    int64_t bytes;
    errno = 0;
    if (fbi_h5_save(build_head(ds, shards), part, true, &bytes, hash) && !rename(part, ds->path) &&
        fbi_file_sync(folder))
        return true;
    int why = errno;
    unlink(part);
    errno = why;
    return false;
}

fb_status fb_dataset_finish(fb_dataset *ds)
{
    if (!ds)
        return FB_E_ARG;
    FBI_ENTRY(ds->ctx);
    if (!fbi_enter(ds->ctx))
        return ds->ctx->status;
    if (!ds->writer)
        return fbi_fail(ds->ctx, FB_E_STATE, "dataset %s: is finished, or open for reading",
                        ds->path);
    if (ds->size == 0)
        return fbi_fail(ds->ctx, FB_E_ARG, "dataset %s: no samples were appended", ds->path);
    fb_status st = ds->writer->n ? write_shard(ds) : FB_OK;
    st = st ? st : check_shards(ds);
    if (st)
        return st;
    char *text = shards_text(ds);
    if (!text)
        return fbi_fail(ds->ctx, FB_E_NOMEM, "dataset %s: no memory", ds->path);
    bool good = put_head(ds, text);
    free(text);
    if (!good)
        return write_failed(ds, ds->path);
    free_writer(ds);
    remove_stale(ds);
    return FB_OK;
}
