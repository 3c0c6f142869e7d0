#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/dataset_priv.h"
#include "io/file_priv.h"
#include "io/limited_priv.h"
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

/* Type and shape of the rows of a dataset of HDF5. */
static bool read_form(hid_t data, fb_dataset_field *f)
{
    hid_t type = H5Dget_type(data), space = H5Dget_space(data);
    hsize_t dims[H5S_MAX_RANK];
    int rank = H5Sget_simple_extent_dims(space, dims, NULL);
    char tag[16] = "";
    fbi_h5_get_text(data, "dtype", tag, sizeof tag);
    f->dtype = fbi_h5_dtype(type, tag);
    H5Sclose(space);
    H5Tclose(type);
    if (rank < 1 || rank > FB_MAX_DIMS || !f->dtype)
        return false;
    f->shape.n = rank - 1;
    for (int i = 1; i < rank; i++)
        f->shape.d[i - 1] = (int64_t)dims[i];
    return true;
}

static void read_attributes(hid_t where, fb_dataset_field *f)
{
    fbi_h5_get_double(where, "scale", &f->scale);
    fbi_h5_get_double(where, "shift", &f->shift);
    int n = fbi_h5_get_ints(where, "sample_shape", FB_MAX_DIMS - 1, f->deliver.d);
    f->deliver.n = n > 0 ? n : 0;
}

/* A group with `values`: its samples vary. */
static bool read_varying(hid_t group, fb_dataset_field *f)
{
    char tag[16] = "";
    hid_t values = H5Lexists(group, "values", H5P_DEFAULT) > 0
                       ? H5Dopen2(group, "values", H5P_DEFAULT)
                       : H5I_INVALID_HID;
    bool good = values >= 0 && read_form(values, f) &&
                fbi_h5_get_int(group, "longest", &f->longest) && f->longest >= 0;
    if (good && fbi_h5_get_text(group, "dtype", tag, sizeof tag) &&
        fb_dtype_size(f->dtype) == fb_dtype_size(fbi_h5_dtype(fbi_h5_type(f->dtype), tag)))
        f->dtype = fbi_h5_dtype(fbi_h5_type(f->dtype), tag);
    f->varies = true;
    if (values >= 0)
        H5Dclose(values);
    return good;
}

static herr_t add_field(hid_t file, const char *name, const H5L_info_t *info, void *user)
{
    (void)info;
    head *h = user;
    if (!strcmp(name, "flambeau_shards"))
        return 0;
    snprintf(h->bad, sizeof h->bad, "%s", name);
    if (h->n_fields == FB_MAX_FIELDS || strlen(name) >= FBI_NAME_BYTES)
        return -1;
    hid_t object = H5Oopen(file, name, H5P_DEFAULT);
    if (object < 0)
        return -1;
    fb_dataset_field *f = &h->fields[h->n_fields];
    H5I_type_t kind = H5Iget_type(object);
    bool good = (kind == H5I_DATASET && read_form(object, f)) ||
                (kind == H5I_GROUP && read_varying(object, f));
    if (good) {
        snprintf(h->names[h->n_fields], FBI_NAME_BYTES, "%s", name);
        f->name = h->names[h->n_fields];
        read_attributes(object, f);
        h->n_fields++;
    }
    H5Oclose(object);
    return good ? 0 : -1;
}

/* NULL: errno is ENOMEM, or it is damaged. */
static char *read_text(hid_t file, const char *name)
{
    hid_t data = H5Lexists(file, name, H5P_DEFAULT) > 0 ? H5Dopen2(file, name, H5P_DEFAULT)
                                                        : H5I_INVALID_HID;
    if (data < 0)
        return NULL;
    hid_t type = H5Dget_type(data);
    size_t size = H5Tget_size(type);
    bool is_text = H5Tget_class(type) == H5T_STRING;
    char *text = is_text ? malloc(size + 1) : NULL;
    errno = is_text && !text ? ENOMEM : 0;
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

static fb_status no_shards(char *text, size_t size)
{
    bool memory = errno == ENOMEM;
    snprintf(text, size, "%s",
             memory ? "no memory for its list of shards"
                    : "has no list of shards: it is damaged; import it again");
    return memory ? FB_E_NOMEM : FB_E_IO;
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
    fbi_seal seal = fbi_file_seal(path); /* first: HDF5 may never return from a damaged file */
    if (seal == FBI_SEAL_BROKEN) {
        snprintf(text, size, "is damaged: its bytes do not have its checksum; import it again");
        return st;
    }
    if (seal == FBI_SEAL_NONE && !fbi_h5_probe(path, text, size))
        return st; /* another program's, or forged */
    fbi_h5_lock();
    hid_t file = fbi_h5_open(path);
    char kind[32] = "";
    int64_t format = 0;
    errno = 0;
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
        st = no_shards(text, size);
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

/* All shards are there, and no sample is longer than what they hold. */
static fb_status look_at_shards(fb_dataset *ds)
{
    int64_t most[FB_MAX_FIELDS] = {0};
    fb_status st = FB_OK;
    for (int s = 0; !st && s < ds->n_shards; s++) {
        st = fbi_dataset_look_at_shard(ds, &ds->shards[s]);
        for (int f = 0; !st && f < ds->n_fields; f++)
            if (ds->shards[s].place[f].rows > most[f])
                most[f] = ds->shards[s].place[f].rows;
    }
    for (int f = 0; !st && f < ds->n_fields; f++)
        if (ds->fields[f].varies && ds->fields[f].longest > most[f])
            st = fbi_fail(ds->ctx, FB_E_IO,
                          "dataset %s: field %s: its longest sample has %lld rows, no shard has "
                          "more than %lld: it is damaged; import it again",
                          ds->path, ds->names[f], (long long)ds->fields[f].longest,
                          (long long)most[f]);
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
    fbi_dataset_sort_fields(h->shards, h->fields, h->n_fields);
    ds = fbi_dataset_new(ctx, path, h->fields, h->n_fields);
    if (!ds)
        goto free_head;
    ds->total = h->samples;
    snprintf(ds->id, sizeof ds->id, "%s", h->id);
    st = fbi_dataset_read_notes(ds, h->shards);
    st = st ? st : look_at_shards(ds);
    if (st || fbi_dataset_hold(ds)) {
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

/* A shard whose checksum is another: says which samples are damaged, if it can be known. */
static fb_status report_damage(fb_dataset *ds, fbi_shard *shard, const char *hash)
{
    char text[160] = "";
    int64_t first, last;
    for (int f = 0; f < ds->n_fields && !*text; f++)
        if (fbi_dataset_find_damage(ds, shard, f, NULL, &first, &last, text, sizeof text))
            snprintf(text, sizeof text, "; field %s is damaged within samples %lld to %lld",
                     ds->names[f], (long long)first, (long long)last);
    return fbi_fail(ds->ctx, FB_E_IO,
                    "dataset %s: shard %s has checksum %s, the head says %s%s: copy it again",
                    ds->path, shard->name, hash, shard->hash, text);
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
            return report_damage(ds, &ds->shards[s], hash);
    }
    return FB_OK;
}
