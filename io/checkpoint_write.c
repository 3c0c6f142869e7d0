#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include <errno.h>

#include "core/tensor/context_priv.h"
#include "io/checkpoint_priv.h"
#include "io/file_priv.h"
#include "io/h5_priv.h"

/* --- tensors into data.h5, their description into the manifest --- */

typedef struct writer {
    hid_t file;
    json_t *tensors, *values;
    char *text;
    size_t size;
} writer;

static bool write_dataset(hid_t file, const fbi_state_entry *e, const void *data)
{
    fbi_h5_lock();
    fb_dtype dtype = fb_dtype_of(e->t);
    hid_t set = fbi_h5_create(file, e->key, dtype, -1, fb_shape_of(e->t));
    bool good = set >= 0 && fbi_h5_put_text(set, "dtype", fb_dtype_name(dtype));
    if (good && fb_numel(e->t) > 0)
        good = H5Dwrite(set, fbi_h5_type(dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    if (set >= 0)
        good = H5Dclose(set) >= 0 && good;
    fbi_h5_unlock();
    return good;
}

static fb_status write_tensor(writer *w, const fbi_state_entry *e)
{
    size_t bytes = (size_t)fb_numel(e->t) * fb_dtype_size(fb_dtype_of(e->t));
    void *data = malloc(bytes + 1);
    if (!data) {
        snprintf(w->text, w->size, "no memory for a copy of %s", e->key);
        return FB_E_NOMEM;
    }
    fb_status st = fb_read(e->t, data, bytes);
    errno = 0;
    if (!st && !write_dataset(w->file, e, data)) {
        snprintf(w->text, w->size, "%s: %s", e->key,
                 errno ? strerror(errno) : "HDF5 cannot write it");
        st = FB_E_IO;
    }
    if (!st) {
        char hex[17];
        snprintf(hex, sizeof hex, "%016llx", (unsigned long long)XXH3_64bits(data, bytes));
        json_t *shape = json_array();
        fb_shape s = fb_shape_of(e->t);
        for (int i = 0; i < s.n; i++)
            json_array_append_new(shape, json_integer(s.d[i]));
        json_object_set_new(w->tensors, e->key,
                            json_pack("{s:s, s:o, s:s}", "dtype", fb_dtype_name(fb_dtype_of(e->t)),
                                      "shape", shape, "xxh3", hex));
    }
    free(data);
    return st;
}

static fb_status write_entry(const fbi_state_entry *e, void *user)
{
    writer *w = user;
    if (e->t)
        return write_tensor(w, e);
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
    if (fbi_h5_save(w->file, path, bytes, hash))
        return true;
    snprintf(w->text, w->size, "cannot write %s: %s", path,
             errno ? strerror(errno) : "HDF5 failed");
    return false;
}

static bool write_manifest(const char *path, const writer *w, json_t *root)
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
    bool good = text && fbi_file_write(part, text, strlen(text)) && rename(part, name) == 0 &&
                fbi_file_sync(path);
    if (!good)
        snprintf(w->text, w->size, "cannot write %s: %s", name, strerror(errno));
    free(text);
    return good;
}

bool fbi_checkpoint_write(fb_state *state, const char *path, int64_t step, char *text, size_t size)
{
    writer w = {.file = H5I_INVALID_HID,
                .tensors = json_object(),
                .values = json_object(),
                .text = text,
                .size = size};
    char data[FBI_CHECKPOINT_PATH + 32], hash[17];
    snprintf(data, sizeof data, "%s/%s", path, FBI_CHECKPOINT_DATA);
    int64_t bytes;
    bool good = write_data(state, data, &w, &bytes, hash);
    if (!good) {
        json_decref(w.tensors);
        json_decref(w.values);
        return false;
    }
    fb_context *ctx = fbi_state_context(state);
    char digest[17];
    json_t *root =
        json_pack("{s:i, s:s, s:I, s:s, s:{s:I, s:i, s:i}, s:[{s:s, s:I, s:s}], s:o, s:o}",
                  "format", FBI_CHECKPOINT_FORMAT, "flambeau", "0.1.0", "step", (json_int_t)step,
                  "digest", fb_state_digest(state, digest), "run", "seed", (json_int_t)ctx->seed,
                  "shards", ctx->hooks.shards ? ctx->hooks.shards : 1, "threads", ctx->threads,
                  "files", "name", FBI_CHECKPOINT_DATA, "bytes", (json_int_t)bytes, "xxh3", hash,
                  "values", w.values, "tensors", w.tensors);
    good = root && write_manifest(path, &w, root);
    json_decref(root);
    return good;
}

void fbi_checkpoint_remove(const char *path)
{
    char name[FBI_CHECKPOINT_PATH + 300];
    snprintf(name, sizeof name, "%s/manifest.json", path);
    unlink(name);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) {
            snprintf(name, sizeof name, "%s/%s", path, e->d_name);
            unlink(name);
        }
    if (dir)
        closedir(dir);
    rmdir(path);
}
