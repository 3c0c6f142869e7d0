/* Epochs and steps, and what happens between them. */
#include "launch/trainer_priv.h"

#include <math.h>

#include "core/tensor/context_priv.h"

/* --- limits --- */

static int64_t least_step(const fb_trainer *t)
{
    int64_t dev = t->o.fast_dev_run, most = t->o.max_steps;
    if (!dev || !most)
        return dev + most;
    return dev < most ? dev : most;
}

/* All ranks agree, since the clock is rank 0's. */
static void look_at_clock(fb_trainer *t)
{
    if (!(t->o.max_time > 0) || t->stop)
        return;
    bool over = fb_world_root(t->world) && fbi_trainer_now() - t->began >= t->o.max_time;
    t->stop = fb_world_any(t->world, over);
    if (t->stop)
        fbi_trainer_say(t, "trainer: max_time of %g s is over after step %lld", t->o.max_time,
                        (long long)t->steps);
}

static bool finished(const fb_trainer *t)
{
    int64_t most = least_step(t);
    return t->stop || (most && t->steps >= most) || t->epochs >= t->max_epochs;
}

static bool goes_on(fb_trainer *t)
{
    return !finished(t) && fb_ok(t->ctx) && fb_world_running(t->world);
}

/* --- between steps --- */

static fb_status validate(fb_trainer *t)
{
    double began = fbi_trainer_now();
    fb_status st = fbi_trainer_pass(t, t->task.valid, t->task.valid_name);
    if (!st)
        st = fbi_trainer_judge(t);
    t->away += fbi_trainer_now() - began;
    return st ? st : fb_status_of(t->ctx);
}

/* Not twice at the same step. */
static fb_status validate_once(fb_trainer *t)
{
    return t->task.valid && t->judged != t->steps ? validate(t) : FB_OK;
}

static bool every(int64_t n, int64_t period)
{
    return period > 0 && n % period == 0;
}

static fb_status after_step(fb_trainer *t)
{
    look_at_clock(t);
    fb_status st = fbi_trainer_profile(t, false);
    if (!st)
        st = fbi_trainer_report(t);
    if (!st && t->task.on_step)
        t->task.on_step(t);
    if (!st && every(t->steps, t->o.validate_steps))
        st = validate_once(t);
    if (!st && every(t->steps, t->o.save_steps))
        st = fbi_trainer_save(t);
    if (!st && every(t->steps, t->o.memory_checkpoint))
        st = fbi_trainer_remember(t);
    return st ? st : fb_status_of(t->ctx);
}

static int64_t period(int64_t option)
{
    return option ? option : 1;
}

/* A whole epoch is over. */
static fb_status after_epoch(fb_trainer *t)
{
    fb_status st = FB_OK;
    if (t->task.schedule && t->task.schedule_epochs && !t->task.schedule_metric)
        st = fb_schedule_step(t->task.schedule);
    if (!st && every(t->epochs, period(t->o.validate_every)))
        st = validate_once(t);
    if (!st && every(t->epochs, period(t->o.save_every)))
        st = fbi_trainer_save(t);
    if (!st && t->task.on_epoch)
        t->task.on_epoch(t);
    return st ? st : fb_status_of(t->ctx);
}

/* --- epochs --- */

/* An epoch that a limit, an error or a wish to stop cuts short is not over. */
static bool run_epoch(fb_trainer *t)
{
    fb_batch b;
    bool whole;
    fb_nn_train(t->task.model);
    while (goes_on(t)) {
        if (!fbi_trainer_next(t, &b))
            return fb_ok(t->ctx);
        if (fbi_trainer_micro(t, &b, &whole) || (whole && after_step(t)))
            return false;
    }
    return false;
}

/* Of a loader whose epoch ended exactly with the last step the end has not been asked for. */
static bool next_epoch(fb_trainer *t)
{
    if (!t->o.overfit_batches)
        return fb_loader_epoch(t->task.train, INT64_MAX);
    fb_loader_rewind(t->task.train);
    return true;
}

static void run(fb_trainer *t)
{
    while (goes_on(t) && next_epoch(t) && run_epoch(t)) {
        t->epochs++;
        fb_context_batch(t->ctx, NULL);
        if (after_epoch(t))
            return;
    }
}

/* A run that was stopped between an epoch's last step and its validation makes up for it. */
static fb_status catch_up(fb_trainer *t)
{
    bool at_end = t->steps > 0 && fb_loader_position(t->task.train) == 0 && !t->o.overfit_batches;
    bool due = (at_end && every(t->epochs, period(t->o.validate_every))) ||
               (t->steps > 0 && every(t->steps, t->o.validate_steps));
    return due && fbi_trainer_monitor(t) && fb_world_running(t->world) ? validate_once(t) : FB_OK;
}

static fb_status end(fb_trainer *t)
{
    bool told_to_stop = !finished(t) && !fb_world_running(t->world); /* time is short */
    fb_status st = fb_status_of(t->ctx);
    if (!st)
        st = fbi_trainer_profile(t, true);
    if (!st && !told_to_stop)
        st = validate_once(t);
    if (!st)
        st = fbi_trainer_save(t);
    if (!st)
        st = fbi_trainer_saved(t);
    if (!st)
        st = fbi_trainer_forget(t);
    if (!st && t->task.on_end)
        t->task.on_end(t);
    return st ? st : fb_status_of(t->ctx);
}

fb_status fb_trainer_fit(fb_trainer *t, const fb_trainer_task *task)
{
    if (!t)
        return FB_E_ARG;
    FBI_ENTRY(t->ctx);
    if (!fbi_enter(t->ctx))
        return fb_status_of(t->ctx);
    t->began = fbi_trainer_now();
    t->samples = 0;
    t->away = 0;
    t->stop = false;
    if (fbi_trainer_bind(t, task, true))
        return fb_status_of(t->ctx);
    if (t->task.on_start)
        t->task.on_start(t);
    fb_status st = fb_ok(t->ctx) ? catch_up(t) : fb_status_of(t->ctx);
    if (!st)
        st = fbi_trainer_profile_bind(t);
    if (!st)
        st = fbi_trainer_profile(t, false);
    if (!st)
        run(t);
    return st ? st : end(t);
}
