#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <flambeau/comm/world.h>

#include "comm/group_priv.h"
#include "comm/world_priv.h"
#include "core/base/log_priv.h"
#include "core/tensor/context_priv.h"
#include "io/checkpoint_priv.h"
#include "io/file_priv.h"
#include "io/lease_priv.h"
#include "io/memory_priv.h"

/* Remove what is older than the newest `keep`, and older folders that never became a checkpoint. */
static void remove_old(const char *dir, int64_t newest, int keep)
{
    int n, kept = 0;
    int64_t *steps = fbi_checkpoint_list(dir, &n);
    for (int i = 0; i < n; i++) {
        char path[FBI_CHECKPOINT_PATH];
        fbi_checkpoint_path(dir, steps[i], path, sizeof path);
        if (steps[i] > newest)
            continue; /* another run's: not ours to judge */
        json_t *root = NULL;
        if (keep < 0 || kept < keep)
            root = fbi_manifest_load(path, false, (char[512]){0}, 512);
        if (root)
            kept++;
        else
            fbi_checkpoint_remove(path);
        json_decref(root);
    }
    free(steps);
}

static int64_t number_of(const char *dir, fb_state *state)
{
    int64_t step = fbi_state_step(state);
    if (step >= 0)
        return step;
    int n;
    int64_t *steps = fbi_checkpoint_list(dir, &n);
    step = n ? steps[0] + 1 : 0;
    free(steps);
    return step;
}

/* Whether path is a whole checkpoint, and of exactly this state. */
static bool whole_checkpoint(const char *path, fb_state *state, bool *same)
{
    char digest[17];
    json_t *root = fbi_manifest_load(path, true, (char[512]){0}, 512);
    const char *saved = json_string_value(json_object_get(root, "digest"));
    *same = saved && !strcmp(saved, fb_state_digest(state, digest));
    json_decref(root);
    return root != NULL;
}

static void cannot_make(const char *path)
{
    fbi_logline("warning: checkpoint %s: cannot make the folder: %s; training goes on, the next "
                "save tries again",
                path, strerror(errno));
}

/* What rank 0 does in a save; failures are warnings. @return whether the state is saved */
static bool save_here(fb_world *world, const char *dir, fb_state *state, int keep)
{
    fbi_lease_enter(world, dir);
    if (fbi_lease_guard(world, dir))
        return false;
    char path[FBI_CHECKPOINT_PATH], text[512] = "";
    int64_t step = number_of(dir, state);
    fbi_checkpoint_path(dir, step, path, sizeof path);
    fb_context *ctx = fbi_state_context(state);
    /* There may be one of the same step: of an epoch's last step before its end, or of another run.
     * It stays until the new one exists. */
    bool same, whole = whole_checkpoint(path, state, &same);
    if (same) {
        fbi_lease_saved_here(world, step, path);
        return true;
    }
    if (!whole)
        fbi_checkpoint_remove(path);
    if (!fbi_make_folder(path) || !fbi_file_sync(dir)) {
        cannot_make(path);
        return false;
    }
    if (fbi_checkpoint_write(world, state, dir, step, text, sizeof text)) {
        fbi_lease_saved_here(world, step, path);
        if (!fbi_lease_guard(world, dir))
            remove_old(dir, step, keep);
        return true;
    }
    if (!fb_ok(ctx))
        return false; /* a tensor cannot be read, or another job has taken over: that stands */
    fbi_logline(
        "warning: checkpoint %s was not saved: %s; earlier ones are untouched, training goes on, "
        "the next save tries again: free space or choose another folder",
        path, text);
    if (!whole)
        fbi_checkpoint_remove(path);
    return false;
}

fb_status fb_checkpoint_save_with(fb_world *world, const char *dir, fb_state *state,
                                  const fb_checkpoint_options *opts)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    int keep = opts && opts->keep ? opts->keep : FBI_CHECKPOINT_KEEP;
    if (!state || !dir || strlen(dir) > FBI_CHECKPOINT_PATH - 64)
        return fbi_fail(ctx, FB_E_ARG,
                        "checkpoint: a state and a folder with a path of at most %d "
                        "characters are needed",
                        FBI_CHECKPOINT_PATH - 64);
    if (keep < -1)
        return fbi_fail(ctx, FB_E_ARG, "checkpoint: keep %d: a number, or -1 for all, is needed",
                        keep);
    fb_status st = fbi_state_share(state, fb_world_group(world));
    if (st)
        return st;
    int saved = 0;
    if (fb_world_root(world))
        saved = save_here(world, dir, state, keep);
    /* Nobody goes on before the save is done: a rank that ends early must not take rank 0 with it.
     */
    st = fbi_group_broadcast(fb_world_group(world), "checkpoint", &saved, sizeof saved, 0);
    world->unsaved = !saved;
    return st;
}

fb_status fb_checkpoint_save(fb_world *world, const char *dir, fb_state *state)
{
    FBI_ENTRY(fb_world_context(world));
    return fb_checkpoint_save_with(world, dir, state, NULL);
}

/* --- reading --- */

/* What rank 0 found, and tells. */
typedef struct found {
    int32_t status;
    char path[FBI_CHECKPOINT_PATH]; /* "": nothing to read */
    char text[512];
} found;

/* The newest checkpoint that verifies, with a word about newer ones that do not. */
static void choose(const char *dir, found *f)
{
    int n;
    int64_t *steps = fbi_checkpoint_list(dir, &n);
    bool good = false;
    for (int i = 0; !good && i < n; i++) {
        char manifest[FBI_CHECKPOINT_PATH + 32];
        fbi_checkpoint_path(dir, steps[i], f->path, sizeof f->path);
        /* One of a newer version is chosen, and then refused by name: going back would lose work.
         */
        good =
            fb_checkpoint_verify(f->path, f->text, sizeof f->text) || fbi_manifest_newer(f->path);
        snprintf(manifest, sizeof manifest, "%s/manifest.json", f->path);
        struct stat info;
        if (!good && stat(manifest, &info) == 0)
            fbi_logline("warning: checkpoint %s is damaged: %s; trying the one before", f->path,
                        f->text);
    }
    if (!good)
        f->path[0] = '\0';
    free(steps);
}

/* The manifest of rank 0 on every rank. NULL: error is set. */
static json_t *tell_manifest(fb_group *group, json_t *root)
{
    fb_context *ctx = fbi_group_context(group);
    void *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    size_t bytes = text ? strlen(text) : 0;
    fb_status st = fbi_group_broadcast_bytes(group, "checkpoint", &text, &bytes, 0);
    if (!st && !root)
        root = json_loadb(text, bytes, 0, NULL);
    if (!st && (!root || !bytes))
        fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory for the manifest");
    free(text);
    if (fb_ok(ctx))
        return root;
    json_decref(root);
    return NULL;
}

/* Read what rank 0 has found. Collective. */
static fb_status read_found(fb_world *world, fb_state *state, found *f, bool resuming)
{
    fb_context *ctx = fb_world_context(world);
    fb_group *group = fb_world_group(world);
    json_t *root = NULL;
    if (*f->path && !(root = fbi_manifest_load(f->path, false, f->text, sizeof f->text)))
        f->status = FB_E_IO;
    fb_status st = fbi_group_broadcast(group, "checkpoint", f, sizeof *f, 0);
    if (!st && f->status)
        st = fbi_fail(ctx, (fb_status)f->status, "checkpoint %s: %s", f->path, f->text);
    if (st || !*f->path)
        return st;
    root = tell_manifest(group, root);
    if (!root)
        return fb_status_of(ctx);
    st = fbi_checkpoint_read(state, group, f->path, root);
    if (!st && resuming)
        fbi_run_resume(world, f->path, json_object_get(root, "run"));
    json_decref(root);
    return st;
}

fb_status fb_checkpoint_load(fb_world *world, const char *path, fb_state *state)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (!path || !*path || !state || strlen(path) >= FBI_CHECKPOINT_PATH)
        return fbi_fail(ctx, FB_E_ARG, "checkpoint: a path and a state are needed");
    found f = {0};
    if (fb_world_root(world))
        snprintf(f.path, sizeof f.path, "%s", path);
    return read_found(world, state, &f, false);
}

fb_status fb_checkpoint_resume(fb_world *world, const char *dir, fb_state *state)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (!state || !dir || strlen(dir) > FBI_CHECKPOINT_PATH - 64)
        return fbi_fail(ctx, FB_E_ARG, "checkpoint: a folder and a state are needed");
    found f = {0};
    if (fb_world_root(world))
        choose(dir, &f);
    const char *step = strrchr(f.path, '-');
    bool taken;
    fb_status st = fbi_memory_resume(world, dir, state, step ? atoll(step + 1) : -1, &taken);
    return st || taken ? st : read_found(world, state, &f, true);
}
