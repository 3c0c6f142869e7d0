/* What must be so before anything runs: the task fits, the model is attached, the state is whole.
 */
#include "launch/trainer_priv.h"

#include <stdlib.h>
#include <string.h>

#include "core/optim/optim_priv.h"
#include "io/lease_priv.h"
#include <flambeau/parallel/ddp.h>

static fb_status refuse(fb_trainer *t, const char *why)
{
    return fbi_fail(t->ctx, FB_E_ARG, "trainer: %s", why);
}

static fb_status check_fit(fb_trainer *t, const fb_trainer_task *k)
{
    if (!k->step)
        return refuse(t, "the task has no `step`: a function from a batch to its loss");
    if (!k->train)
        return refuse(t, "the task has no `train`: a loader");
    if (!k->optimizer)
        return refuse(t, "the task has no `optimizer`");
    if (!k->valid && fbi_trainer_monitor(t))
        return refuse(t, "a monitored value comes from validation, and the task has no `valid`: "
                         "give a loader, or no monitor and patience");
    if (k->valid == k->train)
        return refuse(t, "`train` and `valid` are one loader: open another for the validation");
    if (t->o.accumulate > 1 && k->manual)
        return refuse(t, "accumulate is for steps that are not `manual`");
    if (k->schedule_metric && !fbi_trainer_monitor(t))
        return refuse(t, "schedule_metric: options.monitor names no metric that the rate follows");
    const fb_group *all = fb_world_group(t->world);
    if (t->o.accumulate > 1 && fb_group_shards(all) > fb_group_size(all))
        return refuse(t, "accumulate needs one shard on each rank: give the loader a larger "
                         "global_batch and a micro_batch instead");
    return FB_OK;
}

static fb_status check_task(fb_trainer *t, const fb_trainer_task *k, bool fit)
{
    if (!k || !k->model)
        return refuse(t, "a task with a `model` is needed");
    if (t->task.model && t->task.model != k->model)
        return refuse(t, "another model than before: a trainer has one");
    if (t->prepared && t->task.optimizer && k->optimizer && t->task.optimizer != k->optimizer)
        return refuse(t, "another optimizer than before: a trainer has one");
    return fit ? check_fit(t, k) : FB_OK;
}

/* --- precision --- */

static fb_status store_in(fb_trainer *t, fb_dtype dtype)
{
    t->half = dtype;
    return fb_nn_to(t->task.model, dtype);
}

static fb_status set_precision(fb_trainer *t)
{
    switch ((fb_precision)t->o.precision) {
    case FB_PRECISION_F32:
        return FB_OK;
    case FB_PRECISION_BF16:
        return store_in(t, FB_BF16);
    case FB_PRECISION_F16:
        return store_in(t, FB_F16);
    case FB_PRECISION_BF16_MIXED:
        t->mixed = FB_BF16;
        return FB_OK;
    case FB_PRECISION_F16_MIXED:
        t->mixed = FB_F16;
        return FB_OK;
    }
    return FB_OK;
}

/* --- once --- */

static bool wants_scaler(const fb_trainer *t)
{
    return t->o.precision == FB_PRECISION_F16 || t->o.precision == FB_PRECISION_F16_MIXED;
}

static fb_status prepare(fb_trainer *t)
{
    fb_module *model = t->task.model;
    fb_status st = set_precision(t);
    if (!st && !fbi_reducer_of(model))
        st = fb_ddp_attach(fb_world_group(t->world), model, NULL);
    if (!st && t->o.clip_norm > 0)
        st = fb_optim_clip_norm(t->task.optimizer, t->o.clip_norm);
    if (!st && t->o.clip_value > 0)
        st = fb_optim_clip_value(t->task.optimizer, t->o.clip_value);
    if (!st && wants_scaler(t) && !t->ctx->scaling.scaler &&
        !(t->scaler = fb_optim_scaler(t->task.optimizer, NULL)))
        st = fb_status_of(t->ctx);
    if (!st && t->o.ema_decay > 0 && !(t->ema = fb_ema_open(model, t->o.ema_decay)))
        st = fb_status_of(t->ctx);
    if (!st)
        st = fbi_trainer_state_fill(t);
    if (!st)
        st = fbi_trainer_resume(t);
    t->prepared = !st;
    return st;
}

/* What options say together, and their defaults. */
static void settle(fb_trainer *t)
{
    fb_trainer_options *o = &t->o;
    if (o->fast_dev_run)
        o->log_file = NULL;
    const char *run = getenv(FBI_RUN_DIR);
    if (!o->checkpoint && run && *run) {
        snprintf(t->run_checkpoint, sizeof t->run_checkpoint, "%s/checkpoints", run);
        o->checkpoint = t->run_checkpoint;
    }
    bool limited = o->max_steps || o->max_time > 0 || o->fast_dev_run;
    t->max_epochs = o->max_epochs ? o->max_epochs : limited ? INT64_MAX : 1000;
}

fb_status fbi_trainer_bind(fb_trainer *t, const fb_trainer_task *task, bool fit)
{
    fb_status st = check_task(t, task, fit);
    if (st)
        return st;
    t->task = *task;
    settle(t);
    if (t->o.memory_checkpoint && !t->o.checkpoint)
        return fbi_fail(t->ctx, FB_E_ARG,
                        "trainer: memory_checkpoint needs a folder by which its copies are found "
                        "again: trainer.checkpoint, or `flambeau run --dir`");
    if (!t->log)
        st = fbi_trainer_open_log(t);
    return st || !fit || t->prepared ? st : prepare(t);
}
