/* A state filled from a checkpoint: rank 0 reads the files, the others are told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "comm/group_priv.h"
#include "io/checkpoint_priv.h"
#include "io/file_priv.h"
#include "io/h5_priv.h"

enum { PROBLEM_BYTES = 700 };

typedef struct reader {
    fb_context *ctx;
    fb_group *group;
    const char *path;
    hid_t file;                      /* of rank 0 */
    const char *data;                /* the file's name */
    json_t *tensors, *values, *seen; /* seen: what the program has, and the names of its objects */
    uint64_t keys;                   /* hash of the names of all entries, in order */
    int misfits;
    char problems[PROBLEM_BYTES];
} reader;

/* --- first pass: compare only, so that a misfit changes nothing --- */

static void misfit(reader *r, const char *key, const char *what)
{
    size_t at = strlen(r->problems);
    if (r->misfits++ < 8 && at < PROBLEM_BYTES - 1)
        snprintf(r->problems + at, PROBLEM_BYTES - at, "%s%s %s", at ? "; " : "", key, what);
}

static void check_tensor(reader *r, const fbi_state_entry *e)
{
    json_t *tensor = json_object_get(r->tensors, e->key);
    const char *dtype = json_string_value(json_object_get(tensor, "dtype"));
    if (!dtype) {
        misfit(r, e->key, "is not in it");
        return;
    }
    if (e->custom && !strcmp(dtype, FBI_CHECKPOINT_BYTES))
        return;
    json_t *sizes = json_object_get(tensor, "shape");
    fb_shape saved = {.n = (int)json_array_size(sizes)};
    for (int i = 0; i < saved.n && i < FB_MAX_DIMS; i++)
        saved.d[i] = json_integer_value(json_array_get(sizes, (size_t)i));
    if (e->t && saved.n <= FB_MAX_DIMS && fb_shape_equal(fb_shape_of(e->t), saved) &&
        !strcmp(dtype, fb_dtype_name(fb_dtype_of(e->t))))
        return;
    char a[96], b[96], what[256];
    snprintf(what, sizeof what, "is %s %s there and %s %s here", dtype,
             fb_shape_text(saved, a, sizeof a),
             e->t ? fb_dtype_name(fb_dtype_of(e->t)) : FBI_CHECKPOINT_BYTES,
             e->t ? fb_shape_text(fb_shape_of(e->t), b, sizeof b) : "of the program");
    misfit(r, e->key, what);
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
    r->keys = XXH3_64bits_withSeed(key, strlen(key) + 1, r->keys);
}

static fb_status check_entry(const fbi_state_entry *e, void *user)
{
    reader *r = user;
    mark(r, e->key);
    if (e->t || e->custom) {
        check_tensor(r, e);
        return FB_OK;
    }
    json_t *value = json_object_get(r->values, e->key);
    if (e->i ? !json_is_integer(value) : !json_is_string(value))
        misfit(r, e->key, "is not in it");
    return FB_OK;
}

static fb_status check_all(reader *r, fb_state *state)
{
    r->seen = json_object();
    fb_status st = fbi_state_each(state, check_entry, r);
    if (!st) {
        check_rest(r, r->tensors);
        check_rest(r, r->values);
    }
    json_decref(r->seen);
    if (st || !r->misfits)
        return st;
    return fbi_fail(r->ctx, FB_E_SHAPE, "checkpoint %s does not fit this program (%d entries): %s",
                    r->path, r->misfits, r->problems);
}

/* Every rank must bring the same entries, or they would be given each other's values. */
static fb_status same_entries(reader *r)
{
    uint64_t *all = malloc((size_t)r->group->size * sizeof *all);
    if (!all)
        return fbi_fail(r->ctx, FB_E_NOMEM, "checkpoint %s: no memory", r->path);
    fb_status st = fbi_group_gather(r->group, "checkpoint", &r->keys, sizeof r->keys, all);
    for (int i = 1; !st && i < r->group->size; i++) {
        char who[96];
        if (all[i] != all[0])
            st = fbi_fail(r->ctx, FB_E_ARG,
                          "checkpoint %s: the state of %s has other objects than that of rank %d: "
                          "add the same ones in the same order on every rank",
                          r->path,
                          fbi_rank_text(r->group->world, r->group->ranks[i], who, sizeof who),
                          r->group->ranks[0]);
    }
    free(all);
    return st;
}

/* --- second pass --- */

static bool read_dataset(reader *r, const char *key, fb_dtype dtype, int64_t n, void *data)
{
    fbi_h5_lock();
    hid_t set = H5Dopen2(r->file, key, H5P_DEFAULT);
    bool good = set >= 0;
    if (good && n) {
        hid_t space = H5Dget_space(set);
        good = H5Sget_simple_extent_npoints(space) == (hssize_t)n &&
               H5Dread(set, fbi_h5_type(dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
        H5Sclose(space);
    }
    if (set >= 0)
        H5Dclose(set);
    fbi_h5_unlock();
    return good;
}

/* The values of an entry, malloc'ed: read and compared with their checksum by rank 0. NULL: error
 * is set. */
static void *fetch(reader *r, const char *key, fb_dtype dtype, int64_t n)
{
    size_t bytes = (size_t)n * fb_dtype_size(dtype);
    char *data = malloc(bytes + 1), hex[17]; /* the last byte tells whether the others are good */
    if (!data) {
        fbi_fail(r->ctx, FB_E_NOMEM, "checkpoint %s: no memory for %s", r->path, key);
        return NULL;
    }
    if (r->group->rank == 0) {
        const char *want =
            json_string_value(json_object_get(json_object_get(r->tensors, key), "xxh3"));
        data[bytes] = want && read_dataset(r, key, dtype, n, data);
        fbi_hash_hex(data, data[bytes] ? bytes : 0, hex);
        data[bytes] = data[bytes] && !strcmp(hex, want);
    }
    fb_status st = fbi_group_broadcast(r->group, "checkpoint", data, bytes + 1, 0);
    if (!st && data[bytes])
        return data;
    if (!st)
        fbi_fail(r->ctx, FB_E_IO, "checkpoint %s: the values of %s are damaged", r->path, key);
    free(data);
    return NULL;
}

static fb_status fill_tensor(reader *r, const fbi_state_entry *e)
{
    fb_dtype dtype = fb_dtype_of(e->t);
    void *data = fetch(r, e->key, dtype, fb_numel(e->t));
    if (!data)
        return fb_status_of(r->ctx);
    fb_status st = fb_write(e->t, data, (size_t)fb_numel(e->t) * fb_dtype_size(dtype));
    free(data);
    return st;
}

static fb_status fill_custom(reader *r, const fbi_state_entry *e)
{
    json_t *shape = json_object_get(json_object_get(r->tensors, e->key), "shape");
    int64_t n = json_integer_value(json_array_get(shape, 0));
    void *data = fetch(r, e->key, FB_U8, n < 0 ? 0 : n);
    if (!data)
        return fb_status_of(r->ctx);
    int rc = e->custom->load(e->custom->user, data, (size_t)n);
    free(data);
    if (!rc)
        return FB_OK;
    return fbi_fail(r->ctx, FB_E_USER,
                    "checkpoint %s: the program's callback for %s failed with %d", r->path, e->key,
                    rc);
}

static fb_status fill_entry(const fbi_state_entry *e, void *user)
{
    reader *r = user;
    if (e->t)
        return fill_tensor(r, e);
    if (e->custom)
        return fill_custom(r, e);
    json_t *value = json_object_get(r->values, e->key);
    if (e->i)
        *e->i = json_integer_value(value);
    else
        *e->f = strtod(json_string_value(value), NULL);
    return FB_OK;
}

static fb_status open_data(reader *r)
{
    char data[FBI_CHECKPOINT_PATH + 300];
    if (r->group->rank != 0)
        return FB_OK;
    snprintf(data, sizeof data, "%s/%s", r->path, r->data);
    fbi_h5_lock();
    r->file = fbi_h5_open(data);
    fbi_h5_unlock();
    if (r->file >= 0)
        return FB_OK;
    return fbi_fail(r->ctx, FB_E_IO, "checkpoint %s: %s is damaged", r->path, r->data);
}

fb_status fbi_checkpoint_read(fb_state *state, fb_group *group, const char *path, json_t *root)
{
    reader r = {.ctx = fbi_state_context(state),
                .group = group,
                .path = path,
                .file = H5I_INVALID_HID,
                .data = fbi_manifest_data(root),
                .tensors = json_object_get(root, "tensors"),
                .values = json_object_get(root, "values")};
    fb_status st = check_all(&r, state);
    st = st ? st : open_data(&r);
    st = fbi_group_agree(group, "checkpoint", st);
    st = st ? st : same_entries(&r);
    st = st ? st : fbi_state_each(state, fill_entry, &r);
    fbi_h5_lock();
    if (r.file >= 0)
        H5Fclose(r.file);
    fbi_h5_unlock();
    return st;
}
