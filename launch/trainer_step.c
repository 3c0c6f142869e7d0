/* One micro-batch of training: loss, backward, step. */
#include "launch/trainer_priv.h"

#include <math.h>

#include "core/base/log_priv.h"
#include "core/tensor/context_priv.h"
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/autocast.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/parallel/ddp.h>

/* --- several batches in one step --- */

static int64_t per_step(const fb_trainer *t)
{
    return t->o.accumulate > 1 ? t->o.accumulate : 1;
}

static int64_t batches_of_epoch(const fb_trainer *t)
{
    return t->o.overfit_batches ? t->o.overfit_batches : fb_loader_steps(t->task.train);
}

/* The loader's steps become micro-batches of one step. */
static void gather(fb_trainer *t, fb_batch *b)
{
    int64_t n = per_step(t), number = b->at.batch % n, begin = b->at.batch - number;
    int64_t left = batches_of_epoch(t) - begin, together = left < n ? left : n;
    b->at.first = b->at.first && number == 0;
    b->at.last = b->at.last && number == together - 1;
    b->at.share /= (double)together;
}

bool fbi_trainer_next(fb_trainer *t, fb_batch *b)
{
    fb_loader *train = t->task.train;
    int64_t only = t->o.overfit_batches;
    fbi_rng_state before = fbi_rng_save(t->ctx);
    if (!fb_loader_next(train, b) || (only && b->at.batch >= only))
        return false;
    if (!only && per_step(t) == 1)
        return true;
    /* The loader says its own place, or none: random numbers go on where the batch before stopped.
     */
    gather(t, b);
    b->at.epoch = t->epochs;
    b->at.step = t->steps;
    fbi_rng_restore(t->ctx, before);
    return !fb_context_batch(t->ctx, &b->at);
}

/* --- what is not finite --- */

static fb_status look_for_nan(fb_trainer *t)
{
    fb_ddp_stats stats;
    if (t->scaler || t->task.manual || fb_ddp_stats_of(t->task.model, &stats))
        return fb_status_of(t->ctx);
    bool more = stats.skipped > t->skipped;
    t->skipped = stats.skipped;
    if (!more || (t->o.on_nan != FB_NAN_STOP && t->o.on_nan != FB_NAN_WARN))
        return FB_OK;
    if (t->o.on_nan == FB_NAN_STOP)
        return fbi_fail(t->ctx, FB_E_USER,
                        "trainer: step %lld: the gradients are not finite, and trainer.on_nan is "
                        "stop; the step was not applied",
                        (long long)t->steps);
    if (fb_world_root(t->world))
        fbi_logline("warning: trainer: step %lld: the gradients are not finite; the step was not "
                    "applied (%lld so far)",
                    (long long)t->steps, (long long)t->skipped);
    return FB_OK;
}

/* --- one micro-batch --- */

/* Samples of the whole step: what a rank has, by its share. */
static void count_samples(fb_trainer *t, const fb_batch *b)
{
    if (b->at.share > 0)
        t->global_batch = (int64_t)llround((double)b->n / b->at.share);
    if (b->at.last)
        t->samples += t->global_batch;
}

fb_tensor *fbi_trainer_call(fb_trainer *t, fb_batch *b, fb_trainer_step step)
{
    fb_tensor *x = b->input;
    bool wide = x && (fb_dtype_of(x) == FB_F32 || fb_dtype_of(x) == FB_F64);
    if (t->half && wide)
        b->input = fb_to(x, t->half);
    if (!t->mixed)
        return step ? step(t, b) : fb_nn_forward(fb_trainer_model(t), b->input);
    FB_SCOPE(t->ctx);
    fb_autocast(t->ctx, t->mixed);
    return fb_keep(step ? step(t, b) : fb_nn_forward(fb_trainer_model(t), b->input));
}

static fb_status learn(fb_trainer *t, fb_batch *b)
{
    fb_tensor *loss = fbi_trainer_call(t, b, t->task.step);
    if (!fb_ok(t->ctx))
        return fb_status_of(t->ctx);
    if (!loss)
        return fbi_fail(t->ctx, FB_E_USER, "trainer: step %lld: `step` returned no loss",
                        (long long)t->steps);
    fb_status st = t->task.manual ? FB_OK : fb_backward(loss);
    if (!st)
        st = fb_trainer_log(t, "loss", loss);
    if (!st && !t->task.manual)
        st = fb_optim_step(t->task.optimizer);
    if (!st && t->task.schedule && !t->task.schedule_epochs && !t->task.schedule_metric)
        st = fb_schedule_step(t->task.schedule);
    if (!st && t->ema)
        st = fb_ema_update(t->ema);
    return st;
}

fb_status fbi_trainer_micro(fb_trainer *t, fb_batch *b, bool *whole)
{
    FB_SCOPE(t->ctx);
    *whole = false;
    t->batch = b;
    fb_status st = learn(t, b);
    count_samples(t, b);
    t->batch = NULL;
    if (st || !b->at.last || !fb_ok(t->ctx))
        return st ? st : fb_status_of(t->ctx);
    t->steps++;
    *whole = true;
    return look_for_nan(t);
}
