/* A state filled from a checkpoint: rank 0 reads the files, the others are told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "comm/group_priv.h"
#include "io/load_priv.h"
#include "io/stored_priv.h"

enum { PROBLEM_BYTES = 700 };

typedef struct reader {
    fb_context *ctx;
    fb_group *group;
    const char *path;
    const fb_load_options *opts;
    fbi_stored stored; /* of rank 0 */
    bool open;
    json_t *tensors, *values; /* of the manifest */
    json_t *names;            /* the file's names, by those that they have in the program */
    json_t *seen;             /* what the program has, and the names of its objects */
    uint64_t keys;            /* hash of the names of all entries, in order */
    fb_load_report report;
    int misfits;
    char problems[PROBLEM_BYTES];
} reader;

static void misfit(reader *r, const char *key, const char *what)
{
    size_t at = strlen(r->problems);
    if (r->misfits++ < 8 && at < PROBLEM_BYTES - 1)
        snprintf(r->problems + at, PROBLEM_BYTES - at, "%s%s %s", at ? "; " : "", key, what);
}

/* --- names --- */

static bool add_names(reader *r, json_t *entries)
{
    const char *key;
    json_t *value;
    char name[FBI_KEY_BYTES];
    json_object_foreach(entries, key, value)
    {
        if (fbi_rename(r->opts->rename, key, name, sizeof name) &&
            json_object_set_new(r->names, name, json_string(key)))
            return false;
    }
    return true;
}

/* What the file calls an entry of the program; NULL: it has none. */
static const char *name_in_file(const reader *r, const char *key)
{
    return json_string_value(json_object_get(r->names, key));
}

/* An entry that the file has not: whether that is a misfit. */
static void miss(reader *r, const char *key)
{
    r->report.missing++;
    if (!fbi_load_allows(r->opts->allow_missing, key))
        misfit(r, key, "is not in it");
}

/* --- first pass: compare only, so that a misfit changes nothing --- */

static void check_tensor(reader *r, const fbi_state_entry *e)
{
    const char *name = name_in_file(r, e->key);
    json_t *entry = name ? json_object_get(r->tensors, name) : NULL;
    fbi_stored_tensor t;
    if (!entry) {
        miss(r, e->key);
        return;
    }
    r->report.loaded++;
    if (!fbi_stored_tensor_of(entry, &t)) {
        misfit(r, e->key, "is described by nonsense");
        return;
    }
    if (e->custom && !strcmp(t.kind, FBI_CHECKPOINT_BYTES))
        return;
    if (e->t && fb_shape_equal(fb_shape_of(e->t), t.shape) &&
        !strcmp(t.kind, fb_dtype_name(fb_dtype_of(e->t))))
        return;
    char a[96], b[96], what[256];
    snprintf(what, sizeof what, "is %s %s there and %s %s here", t.kind,
             fb_shape_text(t.shape, a, sizeof a),
             e->t ? fb_dtype_name(fb_dtype_of(e->t)) : FBI_CHECKPOINT_BYTES,
             e->t ? fb_shape_text(fb_shape_of(e->t), b, sizeof b) : "of the program");
    misfit(r, e->key, what);
}

/* What the checkpoint has for an object of this program, and the program has not. Whole objects may
 * be left out: a model without its optimizer. */
static void check_rest(reader *r)
{
    const char *key;
    json_t *value;
    json_object_foreach(r->names, key, value)
    {
        char object[FBI_KEY_BYTES];
        snprintf(object, sizeof object, "%.*s", (int)strcspn(key, "/"), key);
        if (!json_object_get(r->seen, object) || json_object_get(r->seen, key))
            continue;
        r->report.unexpected++;
        if (!fbi_load_allows(r->opts->allow_unexpected, key))
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
    const char *name = name_in_file(r, e->key);
    json_t *value = name ? json_object_get(r->values, name) : NULL;
    if (e->i ? json_is_integer(value) : json_is_string(value))
        r->report.loaded++;
    else
        miss(r, e->key);
    return FB_OK;
}

static fb_status check_all(reader *r, fb_state *state)
{
    r->seen = json_object();
    if (!r->seen || !add_names(r, r->tensors) || !add_names(r, r->values))
        return fbi_fail(r->ctx, FB_E_NOMEM, "checkpoint %s: no memory", r->path);
    fb_status st = fbi_state_each(state, check_entry, r);
    if (!st)
        check_rest(r);
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

/* The values of an entry, malloc'ed: read and compared with their checksum by rank 0. NULL: error
 * is set. */
static void *fetch(reader *r, const char *name, const fbi_stored_tensor *t)
{
    size_t bytes = (size_t)t->bytes;
    char *data = malloc(bytes + 1), text[512] = ""; /* the last byte: whether the others are good */
    if (!data) {
        fbi_fail(r->ctx, FB_E_NOMEM, "checkpoint %s: no memory for %s", r->path, name);
        return NULL;
    }
    if (r->group->rank == 0) {
        r->stored.text = text;
        r->stored.size = sizeof text;
        data[bytes] = fbi_stored_read(&r->stored, name, t, data);
    }
    fb_status st = fbi_group_broadcast(r->group, "checkpoint", data, bytes + 1, 0);
    if (!st && data[bytes])
        return data;
    if (!st)
        fbi_fail(r->ctx, FB_E_IO, "checkpoint %s: %s", r->path,
                 *text ? text : "rank 0 finds that values are damaged");
    free(data);
    return NULL;
}

static fb_status fill_custom(reader *r, const fbi_state_entry *e, void *data, int64_t bytes)
{
    int rc = e->custom->load(e->custom->user, data, (size_t)bytes);
    if (!rc)
        return FB_OK;
    return fbi_fail(r->ctx, FB_E_USER,
                    "checkpoint %s: the program's callback for %s failed with %d", r->path, e->key,
                    rc);
}

static fb_status fill_values(reader *r, const fbi_state_entry *e, const char *name)
{
    fbi_stored_tensor t;
    json_t *entry = json_object_get(r->tensors, name);
    if (!entry || !fbi_stored_tensor_of(entry, &t))
        return FB_OK; /* it may be missing, or the first pass had said so */
    void *data = fetch(r, name, &t);
    if (!data)
        return fb_status_of(r->ctx);
    fb_status st = e->t ? fb_write(e->t, data, (size_t)t.bytes) : fill_custom(r, e, data, t.bytes);
    free(data);
    return st;
}

static fb_status fill_entry(const fbi_state_entry *e, void *user)
{
    reader *r = user;
    const char *name = name_in_file(r, e->key);
    if (!name)
        return FB_OK;
    if (e->t || e->custom)
        return fill_values(r, e, name);
    json_t *value = json_object_get(r->values, name);
    if (e->i && json_is_integer(value))
        *e->i = json_integer_value(value);
    if (e->f && json_is_string(value))
        *e->f = strtod(json_string_value(value), NULL);
    return FB_OK;
}

static fb_status open_stored(reader *r, json_t *root)
{
    char text[512];
    if (r->group->rank != 0)
        return FB_OK;
    r->open = fbi_stored_open(&r->stored, r->path, root, text, sizeof text);
    return r->open ? FB_OK : fbi_fail(r->ctx, FB_E_IO, "checkpoint %s: %s", r->path, text);
}

fb_status fbi_checkpoint_read(fb_state *state, fb_group *group, const char *path, json_t *root,
                              const fb_load_options *opts)
{
    static const fb_load_options plain = {0};
    reader r = {.ctx = fbi_state_context(state),
                .group = group,
                .path = path,
                .opts = opts ? opts : &plain,
                .tensors = json_object_get(root, "tensors"),
                .values = json_object_get(root, "values"),
                .names = json_object()};
    fb_status st = check_all(&r, state);
    st = st ? st : open_stored(&r, root);
    st = fbi_group_agree(group, "checkpoint", st);
    st = st ? st : same_entries(&r);
    st = st ? st : fbi_state_each(state, fill_entry, &r);
    if (r.open)
        fbi_stored_close(&r.stored);
    json_decref(r.names);
    if (!st && r.opts->report)
        *r.opts->report = r.report;
    return st;
}
