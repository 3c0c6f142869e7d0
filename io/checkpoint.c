#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <flambeau/comm/world.h>

#include "comm/group_priv.h"
#include "core/base/log_priv.h"
#include "core/tensor/context_priv.h"
#include "io/checkpoint_priv.h"
#include "io/file_priv.h"

enum { MAX_LISTED = 4096 };

/* mkdir -p */
static bool make_folder(const char *path)
{
    char part[FBI_CHECKPOINT_PATH];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0777) && errno != EEXIST)
            return false;
        *slash = '/';
    }
    return mkdir(part, 0777) == 0 || errno == EEXIST;
}

/* Remove what is older than the newest FBI_CHECKPOINT_KEEP, and older folders that never became a
 * checkpoint. */
static void remove_old(const char *dir, int64_t newest)
{
    int64_t *steps = malloc(MAX_LISTED * sizeof *steps);
    int n = steps ? fbi_checkpoint_list(dir, steps, MAX_LISTED) : 0;
    int kept = 0;
    for (int i = 0; i < n; i++) {
        char path[FBI_CHECKPOINT_PATH];
        fbi_checkpoint_path(dir, steps[i], path, sizeof path);
        if (steps[i] > newest)
            continue; /* another run's: not ours to judge */
        json_t *root = fbi_manifest_load(path, false, (char[512]){0}, 512);
        if (root && kept < FBI_CHECKPOINT_KEEP)
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
    int64_t newest[1];
    return fbi_checkpoint_list(dir, newest, 1) > 0 ? newest[0] + 1 : 0;
}

/* Whether path is a whole checkpoint of exactly this state. */
static bool saved_already(const char *path, fb_state *state)
{
    char digest[17];
    json_t *root = fbi_manifest_load(path, true, (char[512]){0}, 512);
    const char *saved = json_string_value(json_object_get(root, "digest"));
    bool same = saved && !strcmp(saved, fb_state_digest(state, digest));
    json_decref(root);
    return same;
}

static void cannot_make(const char *path)
{
    fbi_logline("warning: checkpoint %s: cannot make the folder: %s; training goes on, the next "
                "save tries again",
                path, strerror(errno));
}

/* What rank 0 does in a save; failures are warnings. */
static void save_here(const char *dir, fb_state *state)
{
    char path[FBI_CHECKPOINT_PATH], text[512] = "";
    int64_t step = number_of(dir, state);
    fbi_checkpoint_path(dir, step, path, sizeof path);
    fb_context *ctx = fbi_state_context(state);
    if (saved_already(path, state))
        return;
    fbi_checkpoint_remove(path); /* of another run, or never finished */
    if (!make_folder(path) || !fbi_file_sync(dir)) {
        cannot_make(path);
        return;
    }
    if (fbi_checkpoint_write(state, path, step, text, sizeof text)) {
        remove_old(dir, step);
        return;
    }
    if (!fb_ok(ctx))
        return; /* reading a tensor failed: that error stands */
    fbi_logline(
        "warning: checkpoint %s was not saved: %s; earlier ones are untouched, training goes on, "
        "the next save tries again: free space or choose another folder",
        path, text);
    fbi_checkpoint_remove(path);
}

fb_status fb_checkpoint_save(fb_world *world, const char *dir, fb_state *state)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (!state || !dir || strlen(dir) > FBI_CHECKPOINT_PATH - 64)
        return fbi_fail(ctx, FB_E_ARG,
                        "checkpoint: a state and a folder with a path of at most %d "
                        "characters are needed",
                        FBI_CHECKPOINT_PATH - 64);
    if (fb_world_root(world))
        save_here(dir, state);
    /* Nobody goes on before the save is done: a rank that ends early must not take rank 0 with it.
     */
    int done = 1;
    return fbi_group_broadcast(fb_world_group(world), "checkpoint", &done, sizeof done, 0);
}

/* The newest checkpoint that verifies, with a word about newer ones that do not. */
static bool choose(const char *dir, char *path, size_t size)
{
    int64_t *steps = malloc(MAX_LISTED * sizeof *steps);
    int n = steps ? fbi_checkpoint_list(dir, steps, MAX_LISTED) : 0;
    bool found = false;
    for (int i = 0; !found && i < n; i++) {
        char text[512], manifest[FBI_CHECKPOINT_PATH + 32];
        fbi_checkpoint_path(dir, steps[i], path, size);
        /* One of a newer version is chosen, and then refused by name: going back would lose work.
         */
        found = fb_checkpoint_verify(path, text, sizeof text) || fbi_manifest_newer(path);
        snprintf(manifest, sizeof manifest, "%s/manifest.json", path);
        struct stat info;
        if (!found && stat(manifest, &info) == 0)
            fbi_logline("warning: checkpoint %s is damaged: %s; trying the one before", path, text);
    }
    free(steps);
    return found;
}

fb_status fb_checkpoint_load(fb_world *world, const char *path, fb_state *state)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (!path || !state)
        return fbi_fail(ctx, FB_E_ARG, "checkpoint: a path and a state are needed");
    return fbi_checkpoint_read(state, path);
}

fb_status fb_checkpoint_resume(fb_world *world, const char *dir, fb_state *state)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (!state || !dir)
        return fbi_fail(ctx, FB_E_ARG, "checkpoint: a folder and a state are needed");
    /* Rank 0 chooses, so that all read the same one whatever their file system shows them. */
    char path[FBI_CHECKPOINT_PATH] = "";
    if (fb_world_root(world) && !choose(dir, path, sizeof path))
        path[0] = '\0';
    fb_status st = fbi_group_broadcast(fb_world_group(world), "checkpoint", path, sizeof path, 0);
    if (st || !*path)
        return st;
    return fbi_checkpoint_read(state, path);
}
