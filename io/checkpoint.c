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
#include "io/memory_priv.h"
#include "io/saver_priv.h"

/* What can be checked before anything is done. */
static fb_status check_order(fb_context *ctx, const fbi_save_order *o)
{
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (!o->state || !o->dir || strlen(o->dir) > FBI_CHECKPOINT_PATH - 64)
        return fbi_fail(ctx, FB_E_ARG,
                        "checkpoint: a state and a folder with a path of at most %d "
                        "characters are needed",
                        FBI_CHECKPOINT_PATH - 64);
    if (o->keep < -1)
        return fbi_fail(ctx, FB_E_ARG, "checkpoint: keep %d: a number, or -1 for all, is needed",
                        o->keep);
    if (o->files < 0)
        return fbi_fail(ctx, FB_E_ARG,
                        "checkpoint: files %lld: a number, or 0 for one per node, is needed",
                        (long long)o->files);
    return FB_OK;
}

static fbi_save_order order_of(fb_world *world, const char *dir, fb_state *state,
                               const fb_checkpoint_options *opts)
{
    return (fbi_save_order){.world = world,
                            .state = state,
                            .dir = dir,
                            .keep = opts && opts->keep ? opts->keep : FBI_CHECKPOINT_KEEP,
                            .best = opts && opts->best,
                            .files = opts ? opts->files : 0};
}

/* Nobody goes on before it is done: a rank that ends early must not take rank 0 with it. */
static fb_status save_by(bool (*save)(const fbi_save_order *), const fbi_save_order *o)
{
    fb_group *all = fb_world_group(o->world);
    fb_status st = check_order(fb_world_context(o->world), o);
    if (!st)
        st = fbi_state_share(o->state, all);
    if (st)
        return st;
    int saved = save(o);
    st = fbi_group_broadcast(all, "checkpoint", &saved, sizeof saved, 0);
    o->world->unsaved = !saved;
    return st;
}

fb_status fb_checkpoint_save_with(fb_world *world, const char *dir, fb_state *state,
                                  const fb_checkpoint_options *opts)
{
    FBI_ENTRY(fb_world_context(world));
    fbi_save_order order = order_of(world, dir, state, opts);
    return save_by(fbi_saver_save, &order);
}

fb_status fb_checkpoint_save(fb_world *world, const char *dir, fb_state *state)
{
    FBI_ENTRY(fb_world_context(world));
    return fb_checkpoint_save_with(world, dir, state, NULL);
}

fb_status fb_checkpoint_save_async(fb_world *world, const char *dir, fb_state *state,
                                   const fb_checkpoint_options *opts)
{
    FBI_ENTRY(fb_world_context(world));
    fbi_save_order order = order_of(world, dir, state, opts);
    return save_by(fbi_saver_begin, &order);
}

fb_status fb_checkpoint_wait(fb_world *world)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    int saved = fbi_saver_wait(world);
    fb_status st =
        fbi_group_broadcast(fb_world_group(world), "checkpoint", &saved, sizeof saved, 0);
    world->unsaved = !saved;
    return st || saved ? st : FB_E_IO;
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
static fb_status read_found(fb_world *world, fb_state *state, found *f, bool resuming,
                            const fb_load_options *opts)
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
    st = fbi_checkpoint_read(state, group, f->path, root, opts);
    if (!st && resuming)
        fbi_run_resume(world, f->path, json_object_get(root, "run"));
    json_decref(root);
    return st;
}

fb_status fb_checkpoint_load_with(fb_world *world, const char *path, fb_state *state,
                                  const fb_load_options *opts)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (!path || !*path || !state || strlen(path) >= FBI_CHECKPOINT_PATH)
        return fbi_fail(ctx, FB_E_ARG, "checkpoint: a path and a state are needed");
    found f = {0};
    fbi_saver_wait(world);
    if (fb_world_root(world))
        snprintf(f.path, sizeof f.path, "%s", path);
    return read_found(world, state, &f, false, opts);
}

fb_status fb_checkpoint_load(fb_world *world, const char *path, fb_state *state)
{
    FBI_ENTRY(fb_world_context(world));
    return fb_checkpoint_load_with(world, path, state, NULL);
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
    fbi_saver_wait(world);
    if (fb_world_root(world))
        choose(dir, &f);
    const char *step = strrchr(f.path, '-');
    bool taken;
    fb_status st = fbi_memory_resume(world, dir, state, step ? atoll(step + 1) : -1, &taken);
    return st || taken ? st : read_found(world, state, &f, true, NULL);
}
