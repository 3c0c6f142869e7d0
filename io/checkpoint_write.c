#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/world_priv.h"
#include "core/tensor/context_priv.h"
#include "io/checkpoint_priv.h"
#include "io/file_priv.h"
#include "io/h5_priv.h"
#include "io/lease_priv.h"

/* --- tensors into data.h5, their description into the manifest --- */

typedef struct writer {
    hid_t file;
    json_t *tensors, *values;
    char *text;
    size_t size;
} writer;

/* One entry as a dataset: a tensor, or bytes of the program's own. */
typedef struct blob {
    const char *key, *kind; /* kind: dtype in the manifest */
    fb_dtype dtype;
    fb_shape shape;
    const void *data;
    size_t bytes;
} blob;

static bool write_dataset(hid_t file, const blob *b)
{
    fbi_h5_lock();
    hid_t set = fbi_h5_create(file, b->key, b->dtype, -1, b->shape);
    bool good = set >= 0 && fbi_h5_put_text(set, "dtype", b->kind);
    if (good && b->bytes > 0)
        good = H5Dwrite(set, fbi_h5_type(b->dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, b->data) >= 0;
    if (set >= 0)
        good = H5Dclose(set) >= 0 && good;
    fbi_h5_unlock();
    return good;
}

static fb_status write_blob(writer *w, const blob *b)
{
    errno = 0;
    if (!write_dataset(w->file, b)) {
        snprintf(w->text, w->size, "%s: %s", b->key,
                 errno ? strerror(errno) : "HDF5 cannot write it");
        return FB_E_IO;
    }
    char hex[17];
    fbi_hash_hex(b->data, b->bytes, hex);
    json_t *shape = json_array();
    for (int i = 0; i < b->shape.n; i++)
        json_array_append_new(shape, json_integer(b->shape.d[i]));
    json_object_set_new(
        w->tensors, b->key,
        json_pack("{s:s, s:o, s:s}", "dtype", b->kind, "shape", shape, "xxh3", hex));
    return FB_OK;
}

static fb_status write_tensor(writer *w, const fbi_state_entry *e)
{
    fb_dtype dtype = fb_dtype_of(e->t);
    blob b = {.key = e->key,
              .kind = fb_dtype_name(dtype),
              .dtype = dtype,
              .shape = fb_shape_of(e->t),
              .bytes = (size_t)fb_numel(e->t) * fb_dtype_size(dtype)};
    void *data = malloc(b.bytes + 1);
    if (!data) {
        snprintf(w->text, w->size, "no memory for a copy of %s", e->key);
        return FB_E_NOMEM;
    }
    b.data = data;
    fb_status st = fb_read(e->t, data, b.bytes);
    st = st ? st : write_blob(w, &b);
    free(data);
    return st;
}

static fb_status write_custom(writer *w, const fbi_state_entry *e)
{
    size_t bytes;
    void *data = fbi_custom_bytes(e->custom, &bytes);
    if (!data) {
        snprintf(w->text, w->size, "the program's callback for %s failed, or there is no memory",
                 e->key);
        return FB_E_USER;
    }
    blob b = {.key = e->key,
              .kind = FBI_CHECKPOINT_BYTES,
              .dtype = FB_U8,
              .shape = FB_SHAPE((int64_t)bytes),
              .data = data,
              .bytes = bytes};
    fb_status st = write_blob(w, &b);
    free(data);
    return st;
}

static fb_status write_entry(const fbi_state_entry *e, void *user)
{
    writer *w = user;
    if (e->t)
        return write_tensor(w, e);
    if (e->custom)
        return write_custom(w, e);
    if (e->i) {
        json_object_set_new(w->values, e->key, json_integer(*e->i));
        return FB_OK;
    }
    char hex[64];
    snprintf(hex, sizeof hex, "%a", *e->f); /* exact, unlike a decimal number */
    json_object_set_new(w->values, e->key, json_string(hex));
    return FB_OK;
}

/* All tensors into one file at `path`. */
static bool write_data(fb_state *state, const char *path, writer *w, int64_t *bytes, char hash[17])
{
    fbi_h5_lock();
    w->file = fbi_h5_memory();
    fbi_h5_unlock();
    if (w->file < 0) {
        snprintf(w->text, w->size, "HDF5 cannot make a file in memory");
        return false;
    }
    fb_status st = fbi_state_each(state, write_entry, w);
    if (st) {
        fbi_h5_lock();
        H5Fclose(w->file);
        fbi_h5_unlock();
        return false;
    }
    if (fbi_h5_save(w->file, path, false, bytes, hash))
        return true;
    snprintf(w->text, w->size, "cannot write %s: %s", path,
             errno ? strerror(errno) : "HDF5 failed");
    return false;
}

/* *exists: it has taken its place, so that the data it names must stay. */
static bool write_manifest(const char *path, const writer *w, json_t *root, bool *exists)
{
    char part[FBI_CHECKPOINT_PATH + 32], name[FBI_CHECKPOINT_PATH + 32];
    snprintf(part, sizeof part, "%s/manifest.json.tmp", path);
    snprintf(name, sizeof name, "%s/manifest.json", path);
    char hex[17];
    char *text = NULL;
    if (fbi_manifest_hash(root, hex) && !json_object_set_new(root, "xxh3", json_string(hex)))
        text = json_dumps(root, JSON_INDENT(1));
    errno = ENOMEM;
    /* The manifest is what makes a checkpoint exist, so it is renamed into place last. */
    *exists = text && fbi_file_write(part, text, strlen(text)) && rename(part, name) == 0;
    bool good = *exists && fbi_file_sync(path);
    if (!good)
        snprintf(w->text, w->size, "cannot write %s: %s", name, strerror(errno));
    if (!*exists)
        unlink(part);
    free(text);
    return good;
}

typedef struct commit_paths {
    const char *folder, *part; /* part: where the data have been written */
    const char *mine, *old;    /* what they will be called; what an older manifest may name */
} commit_paths;

/* The data take their place, then the manifest. Another job may have taken over while they were
 * being written: its files are left alone. */
static bool commit(fb_world *world, const char *dir, const commit_paths *p, const writer *w,
                   json_t *root)
{
    bool exists = false;
    if (!root || fbi_lease_guard(world, dir))
        return false;
    if (rename(p->part, p->mine)) {
        snprintf(w->text, w->size, "cannot write %s: %s", p->mine, strerror(errno));
        return false;
    }
    bool good = write_manifest(p->folder, w, root, &exists);
    if (good)
        unlink(p->old);
    else if (!exists)
        unlink(p->mine);
    return good;
}

bool fbi_checkpoint_write(fb_world *world, fb_state *state, const char *dir, int64_t step,
                          char *text, size_t size)
{
    writer w = {.file = H5I_INVALID_HID,
                .tensors = json_object(),
                .values = json_object(),
                .text = text,
                .size = size};
    char path[FBI_CHECKPOINT_PATH], data[FBI_CHECKPOINT_PATH + 32], other[FBI_CHECKPOINT_PATH + 32],
        part[FBI_CHECKPOINT_PATH + 64];
    char hash[17], digest[17], time[32];
    fbi_checkpoint_path(dir, step, path, sizeof path);
    snprintf(data, sizeof data, "%s/%s", path, FBI_CHECKPOINT_DATA);
    snprintf(other, sizeof other, "%s/%s", path, FBI_CHECKPOINT_OTHER);
    bool taken = access(data, F_OK) == 0;
    commit_paths p = {path, part, taken ? other : data, taken ? data : other};
    snprintf(part, sizeof part, "%s.%ld.tmp", p.mine, (long)getpid());
    int64_t bytes;
    if (!write_data(state, part, &w, &bytes, hash)) {
        unlink(part);
        json_decref(w.tensors);
        json_decref(w.values);
        return false;
    }
    fbi_utc_time(time);
    json_t *root = json_pack("{s:i, s:I, s:s, s:s, s:o, s:[{s:s, s:I, s:s}], s:o, s:o}", "format",
                             FBI_CHECKPOINT_FORMAT, "step", (json_int_t)step, "saved", time,
                             "digest", fb_state_digest(state, digest), "run",
                             fbi_run_describe(fbi_state_context(state), fb_world_size(world)),
                             "files", "name", strrchr(p.mine, '/') + 1, "bytes", (json_int_t)bytes,
                             "xxh3", hash, "values", w.values, "tensors", w.tensors);
    bool good = commit(world, dir, &p, &w, root);
    json_decref(root);
    if (!good)
        unlink(part);
    return good;
}
