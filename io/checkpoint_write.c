/* The folder of one checkpoint: its files take their places, the manifest last. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "core/base/log_priv.h"
#include "io/file_priv.h"
#include "io/spread_priv.h"

enum { HASH_CHUNK = 1 << 20 }; /* stays in the cache for two hashes */

typedef struct writing {
    fbi_saving *s;
    int64_t n; /* files of values */
    fbi_save_part *data, index;
    fbi_data_file *out;  /* what they have */
    fbi_file_pieces all; /* the index: in the order of items, then of files */
    int64_t *counts;     /* pieces of each item */
    int64_t index_bytes;
    char index_hash[17];
} writing;

/* Names of a series that an older checkpoint of the same step does not use: data.h5, data.1.h5, ...
 * or data-2.h5, data-2.1.h5, ... The process is in the name of what is being written: the orphan of
 * a killed launcher shares no file with the job that replaced it. */
static void name_part(fbi_save_part *p, const fbi_saving *s, const char *what, bool other,
                      int64_t number)
{
    char tail[32] = "", token[FBI_SAVE_TOKEN];
    if (number)
        snprintf(tail, sizeof tail, ".%lld", (long long)number);
    snprintf(token, sizeof token, "%ld", (long)getpid());
    snprintf(p->name, sizeof p->name, "%s/%s%s%s.h5", s->path, what, other ? "-2" : "", tail);
    snprintf(p->part, sizeof p->part, "%s.%s.tmp", p->name, *s->token ? s->token : token);
}

void fbi_save_name(fbi_save_part *p, const fbi_saving *s, const char *what, int64_t number)
{
    name_part(p, s, what, false, number);
}

static const char *file_name(const fbi_save_part *p)
{
    return strrchr(p->name, '/') + 1;
}

static bool open_writing(writing *w, fbi_saving *s)
{
    char first[FBI_CHECKPOINT_PATH + 32];
    int64_t n = s->files ? s->files : 1;
    *w = (writing){.s = s,
                   .n = n,
                   .data = calloc((size_t)n, sizeof *w->data),
                   .out = calloc((size_t)n, sizeof *w->out),
                   .counts = calloc((size_t)s->snapshot->n + 1, sizeof *w->counts)};
    if (!w->data || !w->out || !w->counts) {
        snprintf(s->text, sizeof s->text, "no memory");
        return false;
    }
    snprintf(first, sizeof first, "%s/data.h5", s->path);
    bool other = access(first, F_OK) == 0;
    for (int64_t k = 0; k < n; k++)
        name_part(&w->data[k], s, "data", other, k);
    name_part(&w->index, s, "index", other, 0);
    return true;
}

static void close_writing(writing *w)
{
    for (int64_t k = 0; w->out && k < w->n; k++)
        fbi_pieces_free(&w->out[k].pieces);
    fbi_pieces_free(&w->all);
    free(w->data);
    free(w->out);
    free(w->counts);
}

/* What the files have of each item, one after the other. */
static bool merge(writing *w)
{
    int64_t *at = calloc((size_t)w->n, sizeof *at);
    bool good = at != NULL;
    for (int64_t i = 0; good && i < w->s->snapshot->n; i++)
        for (int64_t k = 0; good && k < w->n; k++) {
            const fbi_file_pieces *p = &w->out[k].pieces;
            if (at[k] == p->n || p->v[at[k]].file != i)
                continue;
            fbi_file_piece piece = p->v[at[k]++];
            piece.file = k + 1; /* of the manifest's files, of which the index is the first */
            w->counts[i]++;
            good = fbi_pieces_add(&w->all, piece);
        }
    free(at);
    if (!good)
        snprintf(w->s->text, sizeof w->s->text, "no memory for the index");
    return good;
}

/* --- the manifest --- */

/* The entries of the state; false: no memory. */
static bool describe_items(const writing *w, json_t *tensors, json_t *values)
{
    const fbi_snapshot *s = w->s->snapshot;
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
        good = !json_object_set_new(tensors, item->key,
                                    json_pack("{s:s, s:o, s:[I, I]}", "dtype", item->kind, "shape",
                                              shape, "pieces", (json_int_t)piece,
                                              (json_int_t)w->counts[i]));
        piece += w->counts[i];
    }
    return good;
}

static json_t *describe_file(const fbi_save_part *p, int64_t bytes, const char *hash)
{
    return json_pack("{s:s, s:I, s:s}", "name", file_name(p), "bytes", (json_int_t)bytes, "xxh3",
                     hash);
}

static json_t *describe_files(const writing *w)
{
    json_t *files = json_array();
    json_array_append_new(files, describe_file(&w->index, w->index_bytes, w->index_hash));
    for (int64_t k = 0; k < w->n; k++)
        json_array_append_new(files, describe_file(&w->data[k], w->out[k].bytes, w->out[k].hash));
    return files;
}

static json_t *describe(const writing *w)
{
    char time[32], hex[17];
    fbi_saving *s = w->s;
    json_t *tensors = json_object(), *values = json_object();
    bool good = describe_items(w, tensors, values);
    fbi_utc_time(time);
    json_t *root =
        json_pack("{s:i, s:I, s:s, s:s, s:b, s:O, s:o, s:o, s:o}", "format", FBI_CHECKPOINT_FORMAT,
                  "step", (json_int_t)s->step, "saved", time, "digest",
                  *s->digest ? s->digest : w->out[0].digest, "best", s->best, "run", s->run,
                  "files", describe_files(w), "values", values, "tensors", tensors);
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

static bool take_place(fbi_saving *s, const fbi_save_part *p)
{
    if (!rename(p->part, p->name))
        return true;
    snprintf(s->text, sizeof s->text, "cannot write %s: %s", p->name, strerror(errno));
    return false;
}

static bool is_ours(const writing *w, const char *name)
{
    bool ours = !strcmp(name, "manifest.json") || !strcmp(name, file_name(&w->index));
    for (int64_t k = 0; !ours && k < w->n; k++)
        ours = !strcmp(name, file_name(&w->data[k]));
    return ours;
}

/* What the folder holds beside the files of its manifest. */
static void remove_rest(const writing *w)
{
    char path[FBI_CHECKPOINT_PATH + 300];
    DIR *dir = opendir(w->s->path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || is_ours(w, e->d_name))
            continue;
        snprintf(path, sizeof path, "%s/%s", w->s->path, e->d_name);
        unlink(path);
    }
    if (dir)
        closedir(dir);
}

/* All files under their names, and known to be so. */
static bool take_places(writing *w)
{
    fbi_saving *s = w->s;
    bool good = take_place(s, &w->index);
    for (int64_t k = 0; good && k < w->n; k++)
        good = take_place(s, &w->data[k]);
    if (good && !fbi_file_sync(s->path)) {
        snprintf(s->text, sizeof s->text, "cannot write %s: %s", s->path, strerror(errno));
        good = false;
    }
    return good;
}

/* The files take their places, then the manifest. The folder is on the disk in between: a manifest
 * that outlives a power cut names nothing that has not. */
static fbi_save_end commit(writing *w)
{
    fbi_saving *s = w->s;
    bool exists = false;
    if (!still_ours(s))
        return FBI_SAVE_REPLACED;
    bool good = take_places(w);
    if (good) {
        json_t *root = describe(w);
        good = write_manifest(s, root, &exists);
        json_decref(root);
    }
    if (good)
        remove_rest(w);
    for (int64_t k = 0; !good && !exists && k < w->n; k++)
        unlink(w->data[k].name);
    if (!good && !exists)
        unlink(w->index.name);
    return good ? FBI_SAVE_DONE : FBI_SAVE_FAILED;
}

static bool write_index(writing *w)
{
    if (fbi_pieces_save(&w->all, w->index.part, &w->index_bytes, w->index_hash))
        return true;
    snprintf(w->s->text, sizeof w->s->text, "cannot write %s: %s", w->index.part,
             errno ? strerror(errno) : "HDF5 failed");
    return false;
}

/* --- what others have written is what rank 0 has --- */

/* The next piece of an item, which begins at byte `at`; NULL: it is not what was to be written. */
static const fbi_file_piece *piece_at(const writing *w, int64_t number, const fbi_item *item,
                                      size_t at)
{
    const fbi_file_piece *p = number < w->all.n ? &w->all.v[number] : NULL;
    bool fits =
        p && fbi_share_begin(item, p) == at && p->bytes > 0 && (size_t)p->bytes <= item->bytes - at;
    return fits ? p : NULL;
}

/* Both hashes go on over the same bytes while they are in the cache. */
static void hash_both(const fbi_saving *s, const char *data, size_t n, XXH3_state_t *own,
                      XXH3_state_t *all)
{
    XXH3_64bits_reset(own);
    for (size_t at = 0; at < n; at += HASH_CHUNK) {
        size_t bytes = n - at < HASH_CHUNK ? n - at : HASH_CHUNK;
        XXH3_64bits_update(own, data + at, bytes);
        XXH3_64bits_update(all, data + at, bytes);
        if (s->pace.rest)
            s->pace.rest(s->pace.self);
    }
}

/* Compares item i, whose pieces begin at number *next. -1: it is the same; else which share is not.
 */
static int64_t other_share(writing *w, int64_t i, int64_t *next, XXH3_state_t *own,
                           XXH3_state_t *all)
{
    const fbi_item *item = &w->s->snapshot->items[i];
    int64_t end = *next + w->counts[i];
    size_t at = 0;
    XXH3_64bits_update(all, item->key, strlen(item->key));
    if (!item->kind)
        XXH3_64bits_update(all, item->data, item->bytes);
    for (; *next < end; ++*next) {
        const fbi_file_piece *p = piece_at(w, *next, item, at);
        if (!p)
            return w->all.v[*next].file - 1;
        hash_both(w->s, item->data + at, (size_t)p->bytes, own, all);
        if (XXH3_64bits_digest(own) != p->hash)
            return p->file - 1;
        at += (size_t)p->bytes;
    }
    return !item->kind || at == item->bytes ? -1 : w->n - 1;
}

/* The digest of all values on the way. false: no memory, or some differ, which is said. */
static bool same_values(writing *w)
{
    fbi_saving *s = w->s;
    XXH3_state_t *own = XXH3_createState(), *all = XXH3_createState();
    int64_t next = 0, share = own && all ? -1 : 0;
    if (all)
        XXH3_64bits_reset(all);
    for (int64_t i = 0; share < 0 && i < s->snapshot->n; i++) {
        share = other_share(w, i, &next, own, all);
        if (share >= 0)
            fbi_spread_differs(s->spread, s, share, s->snapshot->items[i].key);
    }
    if (share < 0)
        snprintf(s->digest, sizeof s->digest, "%016llx",
                 (unsigned long long)XXH3_64bits_digest(all));
    XXH3_freeState(own);
    XXH3_freeState(all);
    return share < 0;
}

/* All values by this process after all. */
static bool write_alone(writing *w)
{
    for (int64_t k = 0; k < w->n; k++) {
        unlink(w->data[k].part);
        fbi_pieces_free(&w->out[k].pieces);
    }
    fbi_pieces_free(&w->all);
    memset(w->counts, 0, (size_t)w->s->snapshot->n * sizeof *w->counts);
    w->n = 1;
    return fbi_save_data(w->s, w->data[0].part, (fbi_share){0, 1}, &w->out[0]) && merge(w);
}

/* Wait for the files of the others. */
static bool gather_files(writing *w, bool good)
{
    fbi_saving *s = w->s;
    good = fbi_spread_wait(s->spread, s, good);
    for (int64_t k = 1; good && k < w->n; k++)
        good = fbi_spread_report(s, k, &w->out[k]);
    return good && merge(w) && (same_values(w) || write_alone(w));
}

/* All files that hold values. */
static bool write_values(writing *w)
{
    fbi_saving *s = w->s;
    int64_t here = s->spread ? 1 : w->n;
    bool good = true;
    for (int64_t k = 0; good && k < here; k++)
        good = fbi_save_data(s, w->data[k].part, (fbi_share){k, w->n}, &w->out[k]);
    return s->spread ? gather_files(w, good) : good && merge(w);
}

static fbi_save_end write_files(fbi_saving *s)
{
    writing w;
    int64_t n = s->files ? s->files : 1;
    bool open = open_writing(&w, s);
    fbi_save_end end = open && write_values(&w) && write_index(&w) ? commit(&w) : FBI_SAVE_FAILED;
    if (!open && s->spread) /* who waits for us is met */
        fbi_spread_wait(s->spread, s, false);
    for (int64_t k = 0; end != FBI_SAVE_DONE && w.data && k < n; k++)
        unlink(w.data[k].part);
    if (end != FBI_SAVE_DONE)
        unlink(w.index.part);
    close_writing(&w);
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

bool fbi_save_open(fbi_saving *s, fbi_save_end *end)
{
    *end = FBI_SAVE_REPLACED;
    if (!still_ours(s))
        return false;
    /* There may be one of the same step: of an epoch's last step before its end, or of another run.
     * It stays until the new one exists. */
    bool same;
    s->whole = whole_checkpoint(s, &same);
    *end = FBI_SAVE_DONE;
    if (same) {
        note_saved(s);
        return false;
    }
    if (!s->whole)
        fbi_checkpoint_remove(s->path);
    s->opened = fbi_make_folder(s->path) && fbi_file_sync(s->dir);
    if (s->opened)
        return true;
    snprintf(s->text, sizeof s->text, "cannot make the folder: %s", strerror(errno));
    *end = FBI_SAVE_FAILED;
    return false;
}

fbi_save_end fbi_save_run(fbi_saving *s)
{
    fbi_save_end end;
    if (!s->opened && !fbi_save_open(s, &end))
        return end;
    end = write_files(s);
    if (end == FBI_SAVE_DONE) {
        note_saved(s);
        if (still_ours(s))
            remove_old(s);
    } else if (end == FBI_SAVE_FAILED && !s->whole) {
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
