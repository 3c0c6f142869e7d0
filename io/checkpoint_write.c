/* The folder of one checkpoint: its files take their places, the manifest last. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log_priv.h"
#include "io/file_priv.h"
#include "io/save_priv.h"

/* A file beside its name until it may take it. */
typedef struct part {
    char name[FBI_CHECKPOINT_PATH + 32], part[FBI_CHECKPOINT_PATH + 64];
} part;

typedef struct writing {
    fbi_saving *s;
    part data, index;
    fbi_data_file file;
    int64_t index_bytes;
    char index_hash[17];
} writing;

/* Names of a series that an older checkpoint of the same step does not use. The process is in the
 * name of what is being written: the orphan of a killed launcher shares no file with the job that
 * replaced it. */
static void name_part(part *p, const char *path, const char *what, bool other)
{
    snprintf(p->name, sizeof p->name, "%s/%s%s.h5", path, what, other ? "-2" : "");
    snprintf(p->part, sizeof p->part, "%s.%ld.tmp", p->name, (long)getpid());
}

static const char *file_name(const part *p)
{
    return strrchr(p->name, '/') + 1;
}

/* --- the manifest --- */

/* The entries of the state; false: no memory. */
static bool describe_items(const fbi_snapshot *s, json_t *tensors, json_t *values)
{
    int64_t piece = 0;
    bool good = tensors && values;
    for (int64_t i = 0; good && i < s->n; i++) {
        const fbi_item *item = &s->items[i];
        if (!item->kind) {
            char hex[64];
            double real;
            memcpy(&real, item->data, sizeof real);
            snprintf(hex, sizeof hex, "%a", real); /* exact, unlike a decimal number */
            good = !json_object_set_new(values, item->key,
                                        item->real ? json_string(hex) : json_integer(item->value));
            continue;
        }
        json_t *shape = json_array();
        for (int d = 0; d < item->shape.n; d++)
            json_array_append_new(shape, json_integer(item->shape.d[d]));
        json_int_t n = item->bytes > 0;
        good = !json_object_set_new(tensors, item->key,
                                    json_pack("{s:s, s:o, s:[I, I]}", "dtype", item->kind, "shape",
                                              shape, "pieces", (json_int_t)piece, n));
        piece += n;
    }
    return good;
}

static json_t *describe_file(const part *p, int64_t bytes, const char *hash)
{
    return json_pack("{s:s, s:I, s:s}", "name", file_name(p), "bytes", (json_int_t)bytes, "xxh3",
                     hash);
}

static json_t *describe(const writing *w)
{
    char time[32], hex[17];
    fbi_saving *s = w->s;
    json_t *tensors = json_object(), *values = json_object();
    bool good = describe_items(s->snapshot, tensors, values);
    fbi_utc_time(time);
    json_t *root = json_pack(
        "{s:i, s:I, s:s, s:s, s:b, s:O, s:[o, o], s:o, s:o}", "format", FBI_CHECKPOINT_FORMAT,
        "step", (json_int_t)s->step, "saved", time, "digest", w->file.digest, "best", s->best,
        "run", s->run, "files", describe_file(&w->index, w->index_bytes, w->index_hash),
        describe_file(&w->data, w->file.bytes, w->file.hash), "values", values, "tensors", tensors);
    if (good && root && fbi_manifest_hash(root, hex) &&
        !json_object_set_new(root, "xxh3", json_string(hex)))
        return root;
    json_decref(root);
    return NULL;
}

/* *exists: it has taken its place, so that the data it names must stay. */
static bool write_manifest(fbi_saving *s, json_t *root, bool *exists)
{
    char tmp[FBI_CHECKPOINT_PATH + 32], name[FBI_CHECKPOINT_PATH + 32];
    snprintf(tmp, sizeof tmp, "%s/manifest.json.tmp", s->path);
    snprintf(name, sizeof name, "%s/manifest.json", s->path);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    errno = ENOMEM;
    /* The manifest is what makes a checkpoint exist, so it is renamed into place last. */
    *exists = text && fbi_file_write(tmp, text, strlen(text)) && rename(tmp, name) == 0;
    bool good = *exists && fbi_file_sync(s->path);
    if (!good)
        snprintf(s->text, sizeof s->text, "cannot write %s: %s", name, strerror(errno));
    if (!*exists)
        unlink(tmp);
    free(text);
    return good;
}

/* --- the commit --- */

static bool still_ours(fbi_saving *s)
{
    char text[FBI_CHECKPOINT_PATH + 512];
    for (int i = 0; i < 2; i++)
        if (*s->leases[i].dir && !fbi_lease_held(&s->leases[i], text, sizeof text)) {
            snprintf(s->text, sizeof s->text, "%s", text);
            return false;
        }
    return true;
}

static bool take_place(fbi_saving *s, const part *p)
{
    if (!rename(p->part, p->name))
        return true;
    snprintf(s->text, sizeof s->text, "cannot write %s: %s", p->name, strerror(errno));
    return false;
}

/* What the folder holds beside the files of its manifest. */
static void remove_rest(const writing *w)
{
    char path[FBI_CHECKPOINT_PATH + 300];
    DIR *dir = opendir(w->s->path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
            !strcmp(e->d_name, "manifest.json") || !strcmp(e->d_name, file_name(&w->data)) ||
            !strcmp(e->d_name, file_name(&w->index)))
            continue;
        snprintf(path, sizeof path, "%s/%s", w->s->path, e->d_name);
        unlink(path);
    }
    if (dir)
        closedir(dir);
}

/* The files take their places, then the manifest. The folder is on the disk in between: the
 * manifest of a lost power supply names nothing that is not there. */
static fbi_save_end commit(writing *w)
{
    fbi_saving *s = w->s;
    bool exists = false;
    if (!still_ours(s))
        return FBI_SAVE_REPLACED;
    bool good = take_place(s, &w->data) && take_place(s, &w->index);
    if (good && !fbi_file_sync(s->path)) {
        snprintf(s->text, sizeof s->text, "cannot write %s: %s", s->path, strerror(errno));
        good = false;
    }
    if (good) {
        json_t *root = describe(w);
        good = write_manifest(s, root, &exists);
        json_decref(root);
    }
    if (good)
        remove_rest(w);
    if (!good && !exists) {
        unlink(w->data.name);
        unlink(w->index.name);
    }
    return good ? FBI_SAVE_DONE : FBI_SAVE_FAILED;
}

static fbi_save_end write_files(fbi_saving *s)
{
    char first[FBI_CHECKPOINT_PATH + 32];
    writing w = {.s = s};
    snprintf(first, sizeof first, "%s/data.h5", s->path);
    bool other = access(first, F_OK) == 0;
    name_part(&w.data, s->path, "data", other);
    name_part(&w.index, s->path, "index", other);
    bool good = fbi_save_data(s, w.data.part, &w.file);
    for (int64_t i = 0; i < w.file.pieces.n; i++)
        w.file.pieces.v[i].file = 1; /* of the manifest's files */
    if (good && !fbi_pieces_save(&w.file.pieces, w.index.part, &w.index_bytes, w.index_hash)) {
        snprintf(s->text, sizeof s->text, "cannot write %s: %s", w.index.part,
                 errno ? strerror(errno) : "HDF5 failed");
        good = false;
    }
    fbi_save_end end = good ? commit(&w) : FBI_SAVE_FAILED;
    if (end != FBI_SAVE_DONE) {
        unlink(w.data.part);
        unlink(w.index.part);
    }
    fbi_pieces_free(&w.file.pieces);
    return end;
}

/* --- a save --- */

/* Remove what is older than the newest `keep` and not the best, and older folders that never became
 * a checkpoint. */
static void remove_old(const fbi_saving *s)
{
    int n, kept = 0;
    bool best = false;
    int64_t *steps = fbi_checkpoint_list(s->dir, &n);
    for (int i = 0; i < n; i++) {
        char path[FBI_CHECKPOINT_PATH];
        fbi_checkpoint_path(s->dir, steps[i], path, sizeof path);
        if (steps[i] > s->step)
            continue; /* another run's: not ours to judge */
        json_t *root = fbi_manifest_load(path, false, (char[512]){0}, 512);
        bool is_best = !best && json_is_true(json_object_get(root, "best"));
        if (root && (s->keep < 0 || kept < s->keep || is_best)) {
            kept++;
            best |= is_best;
        } else {
            fbi_checkpoint_remove(path);
        }
        json_decref(root);
    }
    free(steps);
}

/* Whether path is a whole checkpoint, and of exactly these values. */
static bool whole_checkpoint(const fbi_saving *s, bool *same)
{
    char digest[17];
    json_t *root = fbi_manifest_load(s->path, true, (char[512]){0}, 512);
    *same = false;
    if (!root)
        return false;
    const char *saved = json_string_value(json_object_get(root, "digest"));
    fbi_snapshot_digest(s->snapshot, digest);
    *same = saved && !strcmp(saved, digest) &&
            (!s->best || json_is_true(json_object_get(root, "best")));
    json_decref(root);
    return true;
}

static void note_saved(const fbi_saving *s)
{
    if (*s->leases[0].dir)
        fbi_lease_note_saved(s->leases[0].dir, s->step, s->path);
}

fbi_save_end fbi_save_run(fbi_saving *s)
{
    if (!still_ours(s))
        return FBI_SAVE_REPLACED;
    /* There may be one of the same step: of an epoch's last step before its end, or of another run.
     * It stays until the new one exists. */
    bool same, whole = whole_checkpoint(s, &same);
    if (same) {
        note_saved(s);
        return FBI_SAVE_DONE;
    }
    if (!whole)
        fbi_checkpoint_remove(s->path);
    if (!fbi_make_folder(s->path) || !fbi_file_sync(s->dir)) {
        snprintf(s->text, sizeof s->text, "cannot make the folder: %s", strerror(errno));
        return FBI_SAVE_FAILED;
    }
    fbi_save_end end = write_files(s);
    if (end == FBI_SAVE_DONE) {
        note_saved(s);
        if (still_ours(s))
            remove_old(s);
    } else if (end == FBI_SAVE_FAILED && !whole) {
        fbi_checkpoint_remove(s->path);
    }
    return end;
}

void fbi_save_warn(const fbi_saving *s)
{
    fbi_logline(
        "warning: checkpoint %s was not saved: %s; earlier ones are untouched, training goes on, "
        "the next save tries again: free space or choose another folder",
        s->path, s->text);
}
