/* The head: what the dataset is, its shards, and what other programs read as one file. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/dataset_priv.h"
#include "io/file_priv.h"
#include "io/h5_priv.h"

/* A virtual dataset over the shards: what h5py, MATLAB and h5dump read as one. */
static hid_t create_virtual(fb_dataset *ds, hid_t where, const char *name, const char *member,
                            int f)
{
    const fb_dataset_field *field = &ds->fields[f];
    hsize_t dims[FB_MAX_DIMS + 1] = {0}, start[FB_MAX_DIMS + 1] = {0}, count[FB_MAX_DIMS + 1];
    for (int i = 0; i < field->shape.n; i++)
        dims[i + 1] = count[i + 1] = (hsize_t)field->shape.d[i];
    for (int s = 0; s < ds->n_shards; s++)
        dims[0] += (hsize_t)ds->shards[s].place[f].rows;
    int rank = field->shape.n + 1;
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    uint64_t ones = UINT64_MAX; /* a missing shard shows as NaN or all ones, never as zeros */
    H5Pset_fill_value(create, fbi_h5_type(field->dtype), &ones);
    bool good = true;
    for (int s = 0; good && s < ds->n_shards; s++) {
        count[0] = dims[0] = (hsize_t)ds->shards[s].place[f].rows;
        if (!count[0])
            continue;
        hid_t source = H5Screate_simple(rank, dims, NULL);
        good = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
               H5Pset_virtual(create, space, ds->shards[s].name, member, source) >= 0;
        H5Sclose(source);
        start[0] += count[0];
    }
    H5Sselect_all(space);
    hid_t data = good ? H5Dcreate2(where, name, fbi_h5_type(field->dtype), space, H5P_DEFAULT,
                                   create, H5P_DEFAULT)
                      : H5I_INVALID_HID;
    H5Pclose(create);
    H5Sclose(space);
    return data;
}

static bool put_attributes(const fb_dataset_field *field, hid_t where)
{
    bool good = fbi_h5_put_text(where, "dtype", fb_dtype_name(field->dtype));
    if (field->scale != 0)
        good = good && fbi_h5_put_double(where, "scale", field->scale) &&
               fbi_h5_put_double(where, "shift", field->shift);
    if (field->deliver.n)
        good = good && fbi_h5_put_ints(where, "sample_shape", field->deliver.n, field->deliver.d);
    return good && (!field->varies || fbi_h5_put_int(where, "longest", field->longest));
}

/* The first rows of a shard's samples within the whole dataset; the lock is not held: this reads
 * the shard without HDF5. */
static int64_t *starts_of(fb_dataset *ds, fbi_shard *shard, int f, int64_t base)
{
    char text[160];
    size_t n = (size_t)shard->n + 1;
    int64_t *starts = malloc(n * sizeof *starts);
    if (!starts || !fbi_dataset_read_at(ds, shard, starts, n * sizeof *starts,
                                        shard->place[f].offsets, text, sizeof text)) {
        free(starts);
        return NULL;
    }
    for (size_t i = 0; i < n; i++)
        starts[i] += base;
    return starts;
}

/* Real data: those of the shards each begin at zero. */
static bool write_offsets(fb_dataset *ds, hid_t where, int f)
{
    hid_t data = fbi_h5_create(where, "offsets", FB_I64, ds->total + 1, FB_SCALAR);
    hid_t space = H5Dget_space(data);
    bool good = data >= 0 && fbi_h5_put_text(data, "dtype", fb_dtype_name(FB_I64));
    int64_t base = 0;
    for (int s = 0; good && s < ds->n_shards; s++) {
        fbi_shard *shard = &ds->shards[s];
        hsize_t begin = (hsize_t)shard->begin, n = (hsize_t)shard->n + 1;
        int64_t *starts = starts_of(ds, shard, f, base);
        hid_t memory = H5Screate_simple(1, &n, NULL);
        good = starts && H5Sselect_hyperslab(space, H5S_SELECT_SET, &begin, NULL, &n, NULL) >= 0 &&
               H5Dwrite(data, H5T_NATIVE_INT64, memory, space, H5P_DEFAULT, starts) >= 0;
        H5Sclose(memory);
        free(starts);
        base += shard->place[f].rows;
    }
    H5Sclose(space);
    return data >= 0 && H5Dclose(data) >= 0 && good;
}

/* NAME, or a group NAME with `values` and `offsets`. */
static bool write_field(fb_dataset *ds, hid_t file, int f)
{
    const fb_dataset_field *field = &ds->fields[f];
    char member[FBI_NAME_BYTES + 16];
    if (!field->varies) {
        hid_t data = create_virtual(ds, file, field->name, field->name, f);
        bool good = data >= 0 && put_attributes(field, data);
        return data >= 0 && H5Dclose(data) >= 0 && good;
    }
    snprintf(member, sizeof member, "%s/values", field->name);
    hid_t group = H5Gcreate2(file, field->name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    hid_t data = group >= 0 ? create_virtual(ds, group, "values", member, f) : H5I_INVALID_HID;
    bool good = data >= 0 && put_attributes(field, group) && write_offsets(ds, group, f);
    if (data >= 0)
        H5Dclose(data);
    return group >= 0 && H5Gclose(group) >= 0 && good;
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

/* The head, in memory. */
static hid_t build_head(fb_dataset *ds, const char *notes)
{
    fbi_h5_lock();
    hid_t file = fbi_h5_memory();
    bool good = file >= 0 && fbi_h5_put_text(file, "flambeau", "dataset") &&
                fbi_h5_put_int(file, "format", FBI_DATASET_FORMAT) &&
                fbi_h5_put_text(file, "id", ds->id) && fbi_h5_put_int(file, "samples", ds->total) &&
                write_text(file, "flambeau_shards", notes);
    for (int f = 0; good && f < ds->n_fields; f++)
        good = write_field(ds, file, f);
    if (!good && file >= 0) {
        H5Fclose(file);
        file = H5I_INVALID_HID;
    }
    fbi_h5_unlock();
    return file;
}

/* The head is what makes the dataset exist, so it is renamed into place last. */
static bool put_head(fb_dataset *ds, const char *notes)
{
    char part[FBI_PATH_BYTES], hash[17];
    snprintf(part, sizeof part, "%.*s" FBI_PART, FBI_PATH_BYTES - 8, ds->path);
    int64_t bytes;
    errno = 0;
    if (fbi_h5_save(build_head(ds, notes), part, true, &bytes, hash) && !rename(part, ds->path))
        return true;
    int why = errno;
    unlink(part);
    errno = why;
    return false;
}

static bool is_own(const fb_dataset *ds, const char *name)
{
    for (int s = 0; s < ds->n_shards; s++)
        if (!strcmp(ds->shards[s].name, name))
            return true;
    return false;
}

/* Whether `name` is a shard's of this head, and none that the dataset has; or what was to become
 * one when its program was killed. */
static bool is_stale(const fb_dataset *ds, const char *name)
{
    int stem = fbi_dataset_stem(ds), number = 0, end = 0;
    char id[9], path[FBI_PATH_BYTES], kind[32], head[FBI_NAME_BYTES];
    if (strncmp(name, fbi_dataset_base(ds), (size_t)stem) ||
        sscanf(name + stem, "-%8[0-9a-f]-%d.h5%n", id, &number, &end) != 2 || !end)
        return false;
    if (!strcmp(name + stem + end, FBI_PART))
        return true;
    if (name[stem + end] || is_own(ds, name))
        return false;
    /* Only what says itself that it is one. */
    fbi_dataset_beside(ds, name, path);
    fbi_h5_lock();
    hid_t file = fbi_h5_open(path);
    bool ours = file >= 0 && fbi_h5_get_text(file, "flambeau", kind, sizeof kind) &&
                !strcmp(kind, "dataset shard") &&
                fbi_h5_get_text(file, "head", head, sizeof head) &&
                !strcmp(head, fbi_dataset_base(ds));
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
    fb_status st = FB_OK;
    for (int s = 0; s < ds->n_shards && !st; s++) {
        fbi_dataset_beside(ds, ds->shards[s].name, path);
        if (access(path, R_OK))
            return fbi_fail(ds->ctx, FB_E_IO,
                            "dataset %s: shard %s has gone: is another program writing the same "
                            "dataset?",
                            ds->path, ds->shards[s].name);
        st = fbi_dataset_look_at_shard(ds, &ds->shards[s]);
    }
    return st;
}

fb_status fbi_dataset_write_head(fb_dataset *ds)
{
    fb_status st = check_shards(ds);
    if (st)
        return st;
    char *notes = fbi_dataset_notes(ds);
    if (!notes)
        return fbi_fail(ds->ctx, FB_E_ARG,
                        "dataset %s: labels and names of splits must be UTF-8 text", ds->path);
    char folder[FBI_PATH_BYTES];
    fbi_dataset_beside(ds, ".", folder);
    bool good = fbi_file_sync(folder) && put_head(ds, notes); /* no head outlives its shards */
    free(notes);
    if (!good)
        return fbi_dataset_write_failed(ds, ds->path);
    ds->writer->n_old = ds->n_shards; /* a head names them now: they stay, whatever comes */
    if (!fbi_file_sync(folder))
        return fbi_dataset_write_failed(ds, folder);
    remove_stale(ds);
    return FB_OK;
}
