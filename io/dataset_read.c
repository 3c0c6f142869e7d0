#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include <errno.h>

#include "io/dataset_priv.h"
#include "io/file_priv.h"
#include "io/h5_priv.h"

/* What an attempt to read the head found; filled under the HDF5 lock, judged outside it. */
typedef struct head {
    fb_dataset_field fields[FB_MAX_FIELDS];
    char names[FB_MAX_FIELDS][FBI_NAME_BYTES];
    int n_fields;
    char id[17];
    int64_t samples;
    char *shards;             /* JSON */
    char bad[FBI_NAME_BYTES]; /* a field that cannot be read */
} head;

static herr_t add_field(hid_t file, const char *name, const H5L_info_t *info, void *user)
{
    (void)info;
    head *h = user;
    if (!strcmp(name, "flambeau_shards"))
        return 0;
    snprintf(h->bad, sizeof h->bad, "%s", name);
    if (h->n_fields == FB_MAX_FIELDS || strlen(name) >= FBI_NAME_BYTES)
        return -1;
    hid_t data = H5Dopen2(file, name, H5P_DEFAULT);
    if (data < 0)
        return -1;
    fb_dataset_field *f = &h->fields[h->n_fields];
    hid_t type = H5Dget_type(data), space = H5Dget_space(data);
    hsize_t dims[H5S_MAX_RANK];
    int rank = H5Sget_simple_extent_dims(space, dims, NULL);
    char tag[16] = "";
    fbi_h5_get_text(data, "dtype", tag, sizeof tag);
    f->dtype = fbi_h5_dtype(type, tag);
    bool good = rank >= 1 && rank <= FB_MAX_DIMS && f->dtype;
    if (good) {
        snprintf(h->names[h->n_fields], FBI_NAME_BYTES, "%s", name);
        f->name = h->names[h->n_fields];
        f->shape.n = rank - 1;
        for (int i = 1; i < rank; i++)
            f->shape.d[i - 1] = (int64_t)dims[i];
        fbi_h5_get_double(data, "scale", &f->scale);
        fbi_h5_get_double(data, "shift", &f->shift);
        int n = fbi_h5_get_ints(data, "sample_shape", FB_MAX_DIMS - 1, f->deliver.d);
        f->deliver.n = n > 0 ? n : 0;
        h->n_fields++;
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(data);
    return good ? 0 : -1;
}

static char *read_text(hid_t file, const char *name)
{
    hid_t data = H5Lexists(file, name, H5P_DEFAULT) > 0 ? H5Dopen2(file, name, H5P_DEFAULT)
                                                        : H5I_INVALID_HID;
    if (data < 0)
        return NULL;
    hid_t type = H5Dget_type(data);
    size_t size = H5Tget_size(type);
    char *text = H5Tget_class(type) == H5T_STRING ? malloc(size + 1) : NULL;
    if (text && H5Dread(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) < 0) {
        free(text);
        text = NULL;
    }
    if (text)
        text[size] = '\0';
    H5Tclose(type);
    H5Dclose(data);
    return text;
}

/* Reads the head; a message in `text` says what is wrong with it. */
static fb_status read_head(const char *path, head *h, char *text, size_t size)
{
    if (access(path, R_OK)) {
        snprintf(text, size, "%s; check the path, or make it with \"flambeau data import\"",
                 strerror(errno));
        return FB_E_NOT_FOUND;
    }
    fb_status st = FB_E_IO;
    if (!fbi_file_seal_holds(path)) { /* first: HDF5 may never return from a damaged global heap */
        snprintf(text, size, "is damaged: its bytes do not have its checksum; import it again");
        return st;
    }
    fbi_h5_lock();
    hid_t file = fbi_h5_open(path);
    char kind[32] = "";
    int64_t format = 0;
    if (file < 0)
        snprintf(text, size, "is not an HDF5 file, or is damaged");
    else if (!fbi_h5_get_text(file, "flambeau", kind, sizeof kind))
        snprintf(text, size,
                 "is an HDF5 file, but no Flambeau dataset: make one with \"flambeau "
                 "data import\"");
    else if (strcmp(kind, "dataset"))
        snprintf(text, size, "is a %s; open the dataset's head instead", kind);
    else if (!fbi_h5_get_int(file, "format", &format) || format > FBI_DATASET_FORMAT)
        snprintf(text, size, "has format %lld; this version reads up to %d: update Flambeau",
                 (long long)format, FBI_DATASET_FORMAT);
    else if (!fbi_h5_get_text(file, "id", h->id, sizeof h->id) ||
             !fbi_h5_get_int(file, "samples", &h->samples) ||
             !(h->shards = read_text(file, "flambeau_shards")))
        snprintf(text, size, "has no list of shards: it is damaged; import it again");
    else if (h->samples < 1)
        snprintf(text, size, "has no samples");
    else
        st = FB_OK;
    if (!st && H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, NULL, add_field, h) < 0) {
        snprintf(text, size, "field \"%s\" cannot be read: it is damaged; import it again", h->bad);
        st = FB_E_IO;
    }
    if (file >= 0)
        H5Fclose(file);
    fbi_h5_unlock();
    return st;
}

/* Where each field's bytes begin in a shard; false with a message if it is not as the head says. */
static bool locate(fb_dataset *ds, fbi_shard *shard, const char *path, char *text, size_t size)
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
            hid_t data = H5Dopen2(file, ds->fields[f].name, H5P_DEFAULT);
            haddr_t at = data >= 0 ? H5Dget_offset(data) : HADDR_UNDEF;
            int64_t end = (int64_t)at + shard->n * (int64_t)ds->bytes[f];
            good = at != HADDR_UNDEF && end <= shard->bytes &&
                   H5Dget_storage_size(data) == (hsize_t)shard->n * ds->bytes[f];
            shard->at[f] = (int64_t)at;
            if (data >= 0)
                H5Dclose(data);
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

static fb_status check_shard(fb_dataset *ds, fbi_shard *shard)
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

static fb_status read_shards(fb_dataset *ds, const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    json_t *list = json_object_get(root, "shards");
    size_t n = json_array_size(list);
    fb_status st = FB_OK;
    ds->shards = n ? calloc(n, sizeof *ds->shards) : NULL;
    if (n && !ds->shards)
        st = fbi_fail(ds->ctx, FB_E_NOMEM, "dataset %s: no memory", ds->path);
    int64_t begin = 0;
    for (size_t i = 0; !st && i < n; i++) {
        fbi_shard *shard = &ds->shards[ds->n_shards++];
        atomic_init(&shard->fd, -1);
        const char *name = "", *hash = "";
        json_int_t samples = 0, bytes = 0;
        if (json_unpack(json_array_get(list, i), "{s:s, s:I, s:I, s:s}", "name", &name, "samples",
                        &samples, "bytes", &bytes, "xxh3", &hash) ||
            samples < 1) {
            st = fbi_fail(ds->ctx, FB_E_IO,
                          "dataset %s: its list of shards is damaged at entry %zu", ds->path, i);
            break;
        }
        snprintf(shard->name, sizeof shard->name, "%s", name);
        snprintf(shard->hash, sizeof shard->hash, "%s", hash);
        shard->n = samples;
        shard->bytes = bytes;
        shard->begin = begin;
        begin += samples;
        st = check_shard(ds, shard);
    }
    json_decref(root);
    if (!st && begin != ds->size)
        st = fbi_fail(ds->ctx, FB_E_IO,
                      "dataset %s: the head says %lld samples, its shards hold %lld", ds->path,
                      (long long)ds->size, (long long)begin);
    return st;
}

fb_dataset *fbi_dataset_open_here(fb_context *ctx, const char *path)
{
    if (!path) {
        fbi_fail(ctx, FB_E_ARG, "dataset: path is NULL");
        return NULL;
    }
    head *h = calloc(1, sizeof *h);
    if (!h) {
        fbi_fail(ctx, FB_E_NOMEM, "dataset %s: no memory", path);
        return NULL;
    }
    char text[256];
    fb_dataset *ds = NULL;
    fb_status st = read_head(path, h, text, sizeof text);
    if (st) {
        fbi_fail(ctx, st, "dataset %s: %s", path, text);
        goto free_head;
    }
    ds = fbi_dataset_new(ctx, path, h->fields, h->n_fields);
    if (!ds)
        goto free_head;
    ds->size = h->samples;
    snprintf(ds->id, sizeof ds->id, "%s", h->id);
    if (read_shards(ds, h->shards) || fbi_dataset_hold(ds)) {
        fb_dataset_close(ds);
        ds = NULL;
    }
free_head:
    free(h->shards);
    free(h);
    return ds;
}

fb_dataset *fb_dataset_open(fb_context *ctx, const char *path)
{
    FBI_ENTRY(ctx);
    return fbi_enter(ctx) ? fbi_dataset_open_here(ctx, path) : NULL;
}

fb_status fb_dataset_check(fb_dataset *ds)
{
    if (!ds)
        return FB_E_ARG;
    FBI_ENTRY(ds->ctx);
    if (!fbi_enter(ds->ctx))
        return fb_status_of(ds->ctx);
    for (int s = 0; s < ds->n_shards; s++) {
        char path[FBI_PATH_BYTES], hash[17];
        fbi_dataset_beside(ds, ds->shards[s].name, path);
        if (!fbi_file_hash(path, hash))
            return fbi_fail(ds->ctx, FB_E_IO, "dataset %s: shard %s: cannot read it: %s", ds->path,
                            ds->shards[s].name, strerror(errno));
        if (strcmp(hash, ds->shards[s].hash))
            return fbi_fail(ds->ctx, FB_E_IO,
                            "dataset %s: shard %s has checksum %s, the head says %s: "
                            "copy it again",
                            ds->path, ds->shards[s].name, hash, ds->shards[s].hash);
    }
    return FB_OK;
}
