/* Checkpoints: what is in them, going on from one, the newest and the best. */
#include "launch/trainer_priv.h"

#include <stdlib.h>
#include <string.h>

#include "comm/world_priv.h"
#include "core/tensor/context_priv.h"
#include "io/lease_priv.h"
#include <flambeau/io/checkpoint.h>
#include <flambeau/io/memory.h>

enum { PATH_BYTES = 4096 };

bool fbi_trainer_saves(const fb_trainer *t)
{
    return t->o.checkpoint && !t->o.fast_dev_run && !t->o.overfit_batches;
}

/* The names of entries are part of digests: what is not in use is not there. */
fb_status fbi_trainer_state_fill(fb_trainer *t)
{
    fb_state *s = t->state;
    fb_status st = fb_state_add_module(s, "model", t->task.model);
    if (!st)
        st = fb_state_add_optimizer(s, "optimizer", t->task.optimizer);
    if (!st && t->task.schedule)
        st = fb_state_add_schedule(s, "schedule", t->task.schedule);
    if (!st)
        st = fb_state_add_loader(s, "data", t->task.train);
    if (!st)
        st = fb_state_add_int(s, "steps", &t->steps);
    if (!st && t->ema)
        st = fb_state_add_ema(s, "ema", t->ema);
    if (!st && t->scaler)
        st = fb_state_add_scaler(s, "scaler", t->scaler);
    if (st || !fbi_trainer_monitor(t))
        return st;
    st = fb_state_add_double(s, "monitor.best", &t->best);
    if (!st)
        st = fb_state_add_int(s, "monitor.step", &t->best_step);
    if (!st)
        st = fb_state_add_int(s, "monitor.waits", &t->waits);
    return st ? st : fb_state_add_int(s, "monitor.judged", &t->judged);
}

/* Rank 0 looks at the folder. */
static bool has_checkpoint(const fb_trainer *t, const char *folder)
{
    char path[PATH_BYTES];
    bool there = fb_world_root(t->world) && fb_checkpoint_latest(folder, path, sizeof path);
    return fb_world_any(t->world, there);
}

fb_status fbi_trainer_resume(fb_trainer *t)
{
    const fb_trainer_options *o = &t->o;
    bool there = fbi_trainer_saves(t) && has_checkpoint(t, o->checkpoint);
    bool anew = o->fresh && !getenv(FBI_RUN_AGAIN);
    if (fbi_trainer_saves(t) && !getenv("FLAMBEAU_RUN_DIR"))
        fbi_world_report_to(t->world, o->checkpoint);
    if (there && anew)
        return fbi_fail(t->ctx, FB_E_STATE,
                        "trainer: %s has checkpoints, and trainer.fresh asks to begin anew: name "
                        "another folder, or go on from them",
                        o->checkpoint);
    if (fbi_trainer_saves(t))
        fbi_lease_enter(t->world, o->checkpoint);
    fb_status st = anew ? fbi_trainer_forget(t) : FB_OK;
    if (!st && fbi_trainer_saves(t)) /* even if there is none: one that is damaged is named */
        st = fb_checkpoint_resume(t->world, o->checkpoint, t->state);
    there |= t->steps > 0; /* from memory */
    if (!st && !there && o->from)
        st = fb_checkpoint_load(t->world, o->from, t->state);
    if (st || (!there && !o->from))
        return st;
    t->epochs = fb_loader_epoch_number(t->task.train);
    fbi_trainer_say(t, "trainer: goes on after step %lld", (long long)t->steps);
    return FB_OK;
}

static fb_status save(fb_trainer *t)
{
    const fb_checkpoint_options o = {
        .keep = (int)t->o.keep, .best = t->best_step == t->steps, .files = (int)t->o.save_files};
    return (t->o.save_async ? fb_checkpoint_save_async
                            : fb_checkpoint_save_with)(t->world, t->o.checkpoint, t->state, &o);
}

fb_status fbi_trainer_save(fb_trainer *t)
{
    if (!fbi_trainer_saves(t))
        return FB_OK;
    double began = fbi_trainer_now();
    fb_status st = save(t);
    t->saved = t->steps;
    t->away += fbi_trainer_now() - began;
    return st;
}

fb_status fbi_trainer_remember(fb_trainer *t)
{
    if (!fbi_trainer_saves(t))
        return FB_OK;
    double began = fbi_trainer_now();
    fb_status st = fb_checkpoint_remember(t->world, t->o.checkpoint, t->state);
    t->away += fbi_trainer_now() - began;
    return st;
}

fb_status fbi_trainer_forget(fb_trainer *t)
{
    if (!fbi_trainer_saves(t))
        return FB_OK;
    return fb_world_any(t->world, t->world->unsaved)
               ? fb_status_of(t->ctx)
               : fb_checkpoint_forget(t->world, t->o.checkpoint);
}

fb_status fbi_trainer_save_best(fb_trainer *t)
{
    return fbi_trainer_saves(t) ? save(t) : FB_OK;
}

fb_status fbi_trainer_saved(fb_trainer *t)
{
    if (!fbi_trainer_saves(t) || !t->o.save_async)
        return FB_OK;
    fb_status st = fb_checkpoint_wait(t->world);
    return st == FB_E_IO ? FB_OK : st; /* a warning has said so, and fb_trainer_close will */
}

/* --- weights alone --- */

/* The path of a checkpoint on rank 0, which tells the others. */
static fb_status find(fb_trainer *t, const char *which, char path[PATH_BYTES])
{
    bool best = !strcmp(which, "best"), last = !strcmp(which, "last");
    snprintf(path, PATH_BYTES, "%s", which);
    if (!best && !last)
        return FB_OK;
    if (!t->o.checkpoint)
        return fbi_fail(t->ctx, FB_E_ARG,
                        "trainer: load \"%s\": options.checkpoint names no folder", which);
    bool there = fb_world_root(t->world) && (best ? fb_checkpoint_best : fb_checkpoint_latest)(
                                                t->o.checkpoint, path, PATH_BYTES);
    return fb_world_any(t->world, there)
               ? FB_OK
               : fbi_fail(t->ctx, FB_E_IO, "trainer: load \"%s\": %s has no such checkpoint", which,
                          t->o.checkpoint);
}

fb_status fb_trainer_load(fb_trainer *t, const fb_trainer_task *task, const char *which)
{
    if (!t)
        return FB_E_ARG;
    FBI_ENTRY(t->ctx);
    if (!fbi_enter(t->ctx))
        return fb_status_of(t->ctx);
    if (!which || !*which)
        return fbi_fail(t->ctx, FB_E_ARG, "trainer: load: \"best\", \"last\" or a path is needed");
    char path[PATH_BYTES];
    fb_status st = fbi_trainer_bind(t, task, false);
    if (!st)
        st = find(t, which, path);
    fb_state *weights = st ? NULL : fb_state_open(t->ctx);
    if (!st)
        st = fb_state_add_module(weights, "model", t->task.model);
    if (!st && t->ema)
        st = fb_state_add_ema(weights, "ema", t->ema);
    if (!st)
        st = fb_checkpoint_load(t->world, path, weights);
    fb_state_close(weights);
    return st;
}
