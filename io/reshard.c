/* A checkpoint written again, in another number of files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/save_priv.h"
#include "io/stored_priv.h"

typedef struct resharding {
    fbi_snapshot to;
    fbi_stored from;
    char *text;
    size_t size;
} resharding;

static bool no_memory(resharding *r)
{
    snprintf(r->text, r->size, "no memory");
    return false;
}

static bool take_tensor(resharding *r, fbi_item *item, json_t *entry)
{
    fbi_stored_tensor t;
    if (!fbi_stored_tensor_of(entry, &t)) {
        snprintf(r->text, r->size, "%s is described by nonsense", item->key);
        return false;
    }
    item->kind = t.kind;
    item->dtype = t.dtype;
    item->shape = t.shape;
    item->bytes = (size_t)t.bytes;
    item->data = item->own = malloc(item->bytes + 1);
    return item->own ? fbi_stored_read(&r->from, item->key, &t, item->own) : no_memory(r);
}

static void take_value(fbi_item *item, json_t *value)
{
    item->real = json_is_string(value);
    double real = item->real ? strtod(json_string_value(value), NULL) : 0;
    item->value = json_integer_value(value);
    if (item->real)
        memcpy(&item->value, &real, sizeof real);
    item->data = (const char *)&item->value;
    item->bytes = sizeof item->value;
}

/* An item for each entry; their number is known, so they keep their places. */
static bool take_all(resharding *r, json_t *root)
{
    json_t *tensors = json_object_get(root, "tensors"), *values = json_object_get(root, "values");
    const char *key;
    json_t *entry;
    size_t n = json_object_size(tensors) + json_object_size(values);
    fbi_snapshot *s = &r->to;
    s->items = calloc(n + 1, sizeof *s->items);
    if (!s->items)
        return no_memory(r);
    json_object_foreach(tensors, key, entry)
    {
        fbi_item *item = &s->items[s->n++];
        item->key = strdup(key);
        if (!item->key || !take_tensor(r, item, entry))
            return item->key ? false : no_memory(r);
    }
    json_object_foreach(values, key, entry)
    {
        fbi_item *item = &s->items[s->n++];
        item->key = strdup(key);
        if (!item->key)
            return no_memory(r);
        take_value(item, entry);
    }
    return true;
}

static bool write_again(resharding *r, json_t *root, const char *dir, int64_t files)
{
    struct stat info;
    fbi_saving s = {.snapshot = &r->to,
                    .step = json_integer_value(json_object_get(root, "step")),
                    .keep = -1,
                    .best = json_is_true(json_object_get(root, "best")),
                    .run = json_incref(json_object_get(root, "run")),
                    .files = files};
    const char *digest = json_string_value(json_object_get(root, "digest"));
    snprintf(s.dir, sizeof s.dir, "%s", dir);
    snprintf(s.digest, sizeof s.digest, "%s", digest ? digest : "");
    fbi_checkpoint_path(dir, s.step, s.path, sizeof s.path);
    fbi_save_end end = FBI_SAVE_FAILED;
    if (!stat(s.path, &info))
        snprintf(s.text, sizeof s.text, "%s is there already: name another folder", s.path);
    else
        end = fbi_save_run(&s);
    if (end != FBI_SAVE_DONE)
        snprintf(r->text, r->size, "%s", s.text);
    json_decref(s.run);
    return end == FBI_SAVE_DONE;
}

bool fbi_checkpoint_reshard(const char *path, const char *dir, int64_t files, char *text,
                            size_t size)
{
    resharding r = {.text = text, .size = size};
    json_t *root = fbi_manifest_load(path, true, text, size);
    if (!root)
        return false;
    bool good = fbi_snapshot_open(&r.to, NULL);
    if (good && fbi_stored_open(&r.from, path, root, text, size)) {
        good = take_all(&r, root) && write_again(&r, root, dir, files);
        fbi_stored_close(&r.from);
    } else {
        good = false;
    }
    fbi_snapshot_close(&r.to);
    json_decref(root);
    return good;
}
