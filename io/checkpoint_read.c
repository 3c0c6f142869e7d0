#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include <errno.h>

#include "core/tensor/context_priv.h"
#include "io/checkpoint_priv.h"
#include "io/file_priv.h"
#include "io/h5_priv.h"

void fbi_checkpoint_path(const char *dir, int64_t step, char *out, size_t size)
{
    snprintf(out, size, "%s/step-%09lld", dir, (long long)step);
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

int fbi_checkpoint_list(const char *dir, int64_t *steps, int max)
{
    DIR *d = opendir(dir);
    if (!d)
        return -1;
    int n = 0;
    for (struct dirent *e; n < max && (e = readdir(d));) {
        char *end;
        if (strncmp(e->d_name, "step-", 5) || !isdigit((unsigned char)e->d_name[5]))
            continue;
        long long step = strtoll(e->d_name + 5, &end, 10);
        if (!*end)
            steps[n++] = step;
    }
    closedir(d);
    qsort(steps, (size_t)n, sizeof *steps, newest_first);
    return n;
}

/* One file of the manifest: inside the folder, of the right size and checksum. */
static bool check_file(const char *path, json_t *file, bool deep, char *text, size_t size)
{
    const char *name = json_string_value(json_object_get(file, "name"));
    const char *hash = json_string_value(json_object_get(file, "xxh3"));
    json_int_t bytes = json_integer_value(json_object_get(file, "bytes"));
    if (!name || !hash || strchr(name, '/') || !strcmp(name, "..") || !*name) {
        snprintf(text, size,
                 "the manifest names the file \"%s\", which lies outside the checkpoint: "
                 "refused",
                 name ? name : "");
        return false;
    }
    char full[FBI_CHECKPOINT_PATH + 300], now[17] = "";
    snprintf(full, sizeof full, "%s/%s", path, name);
    struct stat info;
    if (lstat(full, &info) || !S_ISREG(info.st_mode)) {
        snprintf(text, size, "%s is missing", name);
        return false;
    }
    if (info.st_size != bytes) {
        snprintf(text, size, "%s is %lld bytes, the manifest says %lld", name,
                 (long long)info.st_size, (long long)bytes);
        return false;
    }
    if (deep && (!fbi_file_hash(full, now) || strcmp(now, hash))) {
        snprintf(text, size, "%s has checksum %s, the manifest says %s", name, now, hash);
        return false;
    }
    return true;
}

static json_t *load_json(const char *path, json_error_t *error)
{
    char name[FBI_CHECKPOINT_PATH + 32];
    snprintf(name, sizeof name, "%s/manifest.json", path);
    return json_load_file(name, JSON_REJECT_DUPLICATES, error);
}

bool fbi_manifest_newer(const char *path)
{
    json_t *root = load_json(path, NULL);
    bool newer = json_integer_value(json_object_get(root, "format")) > FBI_CHECKPOINT_FORMAT;
    json_decref(root);
    return newer;
}

bool fbi_manifest_hash(json_t *root, char hex[17])
{
    json_t *own = json_incref(json_object_get(root, "xxh3"));
    json_object_del(root, "xxh3");
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    if (text)
        snprintf(hex, 17, "%016llx", (unsigned long long)XXH3_64bits(text, strlen(text)));
    if (own)
        json_object_set_new(root, "xxh3", own);
    free(text);
    return text != NULL;
}

json_t *fbi_manifest_load(const char *path, bool deep, char *text, size_t size)
{
    json_error_t error;
    char hash[17] = "";
    json_t *root = load_json(path, &error);
    if (!root) {
        snprintf(text, size, "manifest.json: %s", error.text);
        return NULL;
    }
    json_t *files = json_object_get(root, "files");
    json_int_t format = json_integer_value(json_object_get(root, "format"));
    const char *own = json_string_value(json_object_get(root, "xxh3"));
    bool good = false;
    if (format > FBI_CHECKPOINT_FORMAT)
        snprintf(text, size, "has format %lld; this version reads up to %d: update Flambeau",
                 (long long)format, FBI_CHECKPOINT_FORMAT);
    else if (format < 1 || !json_is_object(json_object_get(root, "tensors")) ||
             !json_is_object(json_object_get(root, "values")) || json_array_size(files) == 0)
        snprintf(text, size, "manifest.json is no manifest of a checkpoint");
    else
        good = true;
    for (size_t i = 0; good && i < json_array_size(files); i++)
        good = check_file(path, json_array_get(files, i), deep, text, size);
    if (good && (!own || !fbi_manifest_hash(root, hash) || strcmp(own, hash))) {
        snprintf(text, size, "manifest.json has checksum %s, it says %s itself", hash,
                 own ? own : "nothing");
        good = false;
    }
    if (good)
        return root;
    json_decref(root);
    return NULL;
}

/* --- filling a state --- */

enum { PROBLEM_BYTES = 700 };

typedef struct reader {
    fb_context *ctx;
    const char *path;
    hid_t file;
    json_t *tensors, *values, *seen; /* seen: what the program has, and the names of its objects */
    bool checking; /* first pass: compare only, so that a misfit changes nothing */
    int misfits;
    char problems[PROBLEM_BYTES];
} reader;

static void misfit(reader *r, const char *key, const char *what)
{
    size_t at = strlen(r->problems);
    if (r->misfits++ < 8 && at < PROBLEM_BYTES - 1)
        snprintf(r->problems + at, PROBLEM_BYTES - at, "%s%s %s", at ? "; " : "", key, what);
}

static void check_tensor(reader *r, const fbi_state_entry *e)
{
    json_t *tensor = json_object_get(r->tensors, e->key);
    if (!tensor) {
        misfit(r, e->key, "is not in it");
        return;
    }
    const char *dtype = json_string_value(json_object_get(tensor, "dtype"));
    json_t *sizes = json_object_get(tensor, "shape");
    fb_shape have = fb_shape_of(e->t), saved = {.n = (int)json_array_size(sizes)};
    for (int i = 0; i < saved.n && i < FB_MAX_DIMS; i++)
        saved.d[i] = json_integer_value(json_array_get(sizes, (size_t)i));
    if (saved.n <= FB_MAX_DIMS && fb_shape_equal(have, saved) && dtype &&
        !strcmp(dtype, fb_dtype_name(fb_dtype_of(e->t))))
        return;
    char a[96], b[96], what[256];
    snprintf(what, sizeof what, "is %s %s there and %s %s here", dtype ? dtype : "?",
             fb_shape_text(saved, a, sizeof a), fb_dtype_name(fb_dtype_of(e->t)),
             fb_shape_text(have, b, sizeof b));
    misfit(r, e->key, what);
}

static fb_status read_tensor(reader *r, const fbi_state_entry *e)
{
    fb_dtype dtype = fb_dtype_of(e->t);
    size_t bytes = (size_t)fb_numel(e->t) * fb_dtype_size(dtype);
    void *data = malloc(bytes + 1);
    if (!data)
        return fbi_fail(r->ctx, FB_E_NOMEM, "checkpoint %s: no memory for %s", r->path, e->key);
    fbi_h5_lock();
    hid_t set = H5Dopen2(r->file, e->key, H5P_DEFAULT);
    bool good = set >= 0;
    if (good && bytes) {
        hid_t space = H5Dget_space(set);
        good = H5Sget_simple_extent_npoints(space) == (hssize_t)fb_numel(e->t) &&
               H5Dread(set, fbi_h5_type(dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
        H5Sclose(space);
    }
    if (set >= 0)
        H5Dclose(set);
    fbi_h5_unlock();
    char hex[17];
    snprintf(hex, sizeof hex, "%016llx",
             good ? (unsigned long long)XXH3_64bits(data, bytes) : 0ULL);
    json_t *tensor = json_object_get(r->tensors, e->key);
    const char *want = json_string_value(json_object_get(tensor, "xxh3"));
    fb_status st = good && want && !strcmp(hex, want)
                       ? fb_write(e->t, data, bytes)
                       : fbi_fail(r->ctx, FB_E_IO, "checkpoint %s: the values of %s are damaged",
                                  r->path, e->key);
    free(data);
    return st;
}

/* What the checkpoint has for an object of this program, and the program has not. Whole objects may
 * be left out: a model without its optimizer. */
static void check_rest(reader *r, json_t *entries)
{
    const char *key;
    json_t *value;
    json_object_foreach(entries, key, value)
    {
        char object[FBI_KEY_BYTES];
        snprintf(object, sizeof object, "%.*s", (int)strcspn(key, "/"), key);
        if (json_object_get(r->seen, object) && !json_object_get(r->seen, key))
            misfit(r, key, "is in it and not in the program");
    }
}

static void mark(reader *r, const char *key)
{
    char object[FBI_KEY_BYTES];
    snprintf(object, sizeof object, "%.*s", (int)strcspn(key, "/"), key);
    json_object_set_new(r->seen, object, json_true());
    json_object_set_new(r->seen, key, json_true());
}

static fb_status take_entry(const fbi_state_entry *e, void *user)
{
    reader *r = user;
    if (r->checking)
        mark(r, e->key);
    json_t *value = json_object_get(r->values, e->key);
    if (e->t && r->checking) {
        check_tensor(r, e);
        return FB_OK;
    }
    if (e->t)
        return read_tensor(r, e);
    if (e->i ? !json_is_integer(value) : !json_is_string(value)) {
        if (r->checking)
            misfit(r, e->key, "is not in it");
        return FB_OK;
    }
    if (r->checking)
        return FB_OK;
    if (e->i)
        *e->i = json_integer_value(value);
    else
        *e->f = strtod(json_string_value(value), NULL);
    return FB_OK;
}

fb_status fbi_checkpoint_read(fb_state *state, const char *path)
{
    reader r = {.ctx = fbi_state_context(state), .path = path, .checking = true};
    char text[512], data[FBI_CHECKPOINT_PATH + 32];
    json_t *root = fbi_manifest_load(path, false, text, sizeof text);
    if (!root)
        return fbi_fail(r.ctx, FB_E_IO, "checkpoint %s: %s", path, text);
    r.tensors = json_object_get(root, "tensors");
    r.values = json_object_get(root, "values");
    r.seen = json_object();
    fb_status st = fbi_state_each(state, take_entry, &r);
    if (!st) {
        check_rest(&r, r.tensors);
        check_rest(&r, r.values);
    }
    json_decref(r.seen);
    if (!st && r.misfits)
        st = fbi_fail(r.ctx, FB_E_SHAPE, "checkpoint %s does not fit this program (%d entries): %s",
                      path, r.misfits, r.problems);
    if (st) {
        json_decref(root);
        return st;
    }
    snprintf(data, sizeof data, "%s/%s", path, FBI_CHECKPOINT_DATA);
    fbi_h5_lock();
    r.file = fbi_h5_open(data);
    fbi_h5_unlock();
    r.checking = false;
    st = r.file < 0
             ? fbi_fail(r.ctx, FB_E_IO, "checkpoint %s: %s is damaged", path, FBI_CHECKPOINT_DATA)
             : fbi_state_each(state, take_entry, &r);
    fbi_h5_lock();
    if (r.file >= 0)
        H5Fclose(r.file);
    fbi_h5_unlock();
    json_decref(root);
    return st;
}

bool fb_checkpoint_verify(const char *path, char *text, size_t size)
{
    char spare[512];
    json_t *root = fbi_manifest_load(path, true, text ? text : spare, text ? size : sizeof spare);
    json_decref(root);
    return root != NULL;
}

bool fb_checkpoint_latest(const char *dir, char *path, size_t size)
{
    enum { MAX = 4096 };
    int64_t *steps = malloc(MAX * sizeof *steps);
    int n = steps ? fbi_checkpoint_list(dir, steps, MAX) : 0;
    bool found = false;
    for (int i = 0; !found && i < n; i++) {
        fbi_checkpoint_path(dir, steps[i], path, size);
        found = fb_checkpoint_verify(path, NULL, 0);
    }
    free(steps);
    return found;
}
