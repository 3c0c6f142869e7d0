/* Passes over a loader without gradients, and what becomes of a monitored value. */
#include "launch/trainer_priv.h"

#include <math.h>
#include <string.h>

#include "core/tensor/context_priv.h"

/* --- a pass --- */

typedef struct pass {
    fb_trainer_step step;
    fb_trainer_take take; /* prediction */
    fb_loader *loader;
    int64_t most; /* batches; 0: all */
} pass;

static fb_status visit(fb_trainer *t, const pass *p, fb_batch *b)
{
    FB_SCOPE(t->ctx);
    fb_no_grad(t->ctx);
    t->batch = b;
    fb_tensor *y = fbi_trainer_call(t, b, p->step);
    fb_status st = fb_status_of(t->ctx);
    int64_t n;
    if (!st && p->take)
        p->take(t, y, fb_loader_indices(p->loader, &n), b->n);
    else if (!st && y)
        st = fb_trainer_log(t, "loss", y);
    t->batch = NULL;
    return st ? st : fb_status_of(t->ctx);
}

static fb_status run_pass(fb_trainer *t, const pass *p)
{
    fb_module *model = t->ema ? fb_ema_module(t->ema) : t->task.model;
    fbi_rng_state before = fbi_rng_save(t->ctx);
    fb_context_batch(t->ctx, NULL);
    fb_nn_eval(model);
    t->in_valid = true;
    fb_status st = fb_status_of(t->ctx);
    fb_batch b;
    fb_loader_rewind(p->loader);
    while (!st && fb_loader_next(p->loader, &b)) {
        if (p->most && b.at.batch >= p->most)
            break;
        st = visit(t, p, &b);
    }
    t->in_valid = false;
    fb_nn_train(model);
    fbi_rng_restore(t->ctx, before);
    return st ? st : fb_status_of(t->ctx);
}

fb_status fbi_trainer_pass(fb_trainer *t, fb_loader *loader, const char *prefix)
{
    pass p = {.step = t->task.valid_step ? t->task.valid_step : t->task.step,
              .loader = loader,
              .most = t->o.fast_dev_run ? t->o.fast_dev_run : t->o.validate_batches};
    if (!p.step || !loader)
        return fbi_fail(t->ctx, FB_E_ARG,
                        "trainer: a validation needs a loader, and `valid_step` "
                        "or `step` in the task");
    t->prefix = prefix ? prefix : "val";
    fb_status st = run_pass(t, &p);
    if (!st)
        st = fbi_trainer_means(t, t->prefix);
    if (!st)
        fbi_trainer_say_validation(t, t->prefix);
    if (!st && t->task.on_validation)
        t->task.on_validation(t);
    t->prefix = "";
    return st;
}

/* --- the monitored value --- */

const char *fbi_trainer_monitor(const fb_trainer *t)
{
    return t->o.monitor ? t->o.monitor : t->o.patience ? "val_loss" : NULL;
}

static fb_status no_such_metric(fb_trainer *t, const char *name)
{
    char names[256] = "";
    for (int i = 0; i < t->n_metrics; i++) {
        const fbi_metric *m = &t->metrics[i];
        size_t at = strlen(names);
        if (*m->prefix)
            snprintf(names + at, sizeof names - at, "%s%s_%s", at ? ", " : "", m->prefix, m->name);
    }
    return fbi_fail(t->ctx, FB_E_ARG,
                    "trainer: monitor \"%s\": validation has no such metric; it has %s", name,
                    *names ? names : "none");
}

static bool is_better(const fb_trainer *t, double value)
{
    double gain = t->o.mode == FB_MONITOR_MAX ? value - t->best : t->best - value;
    return isfinite(value) && (t->best_step < 0 || gain > t->o.min_delta);
}

static fb_status be_patient(fb_trainer *t, const char *name)
{
    t->waits++;
    if (!t->o.patience || t->waits < t->o.patience)
        return FB_OK;
    t->stop = true;
    fbi_trainer_say(t,
                    "trainer: %s was not better in %lld validation%s: the best was %g after step "
                    "%lld",
                    name, (long long)t->waits, t->waits == 1 ? "" : "s", t->best,
                    (long long)t->best_step);
    return FB_OK;
}

fb_status fbi_trainer_judge(fb_trainer *t)
{
    const char *name = fbi_trainer_monitor(t);
    t->judged = t->steps;
    if (!name)
        return FB_OK;
    bool known = false;
    for (int i = 0; i < t->n_metrics && !known; i++) {
        const fbi_metric *m = &t->metrics[i];
        size_t n = strlen(m->prefix);
        known =
            n && !strncmp(name, m->prefix, n) && name[n] == '_' && !strcmp(name + n + 1, m->name);
    }
    if (!known)
        return no_such_metric(t, name);
    double value = fb_trainer_metric(t, name);
    if (t->task.schedule && t->task.schedule_metric &&
        fb_schedule_step_metric(t->task.schedule, value))
        return fb_status_of(t->ctx);
    if (!is_better(t, value))
        return be_patient(t, name);
    t->best = value;
    t->best_step = t->steps;
    t->waits = 0;
    return fbi_trainer_save_best(t);
}

/* --- by hand --- */

static fb_status by_hand(fb_trainer *t, const fb_trainer_task *task, fb_loader *loader,
                         const char *prefix)
{
    fb_status st = fbi_trainer_bind(t, task, false);
    return st ? st : fbi_trainer_pass(t, loader, prefix);
}

fb_status fb_trainer_validate(fb_trainer *t, const fb_trainer_task *task)
{
    if (!t)
        return FB_E_ARG;
    FBI_ENTRY(t->ctx);
    if (!fbi_enter(t->ctx))
        return fb_status_of(t->ctx);
    return by_hand(t, task, task ? task->valid : NULL, task ? task->valid_name : NULL);
}

fb_status fb_trainer_test(fb_trainer *t, const fb_trainer_task *task, fb_loader *test)
{
    if (!t)
        return FB_E_ARG;
    FBI_ENTRY(t->ctx);
    return fbi_enter(t->ctx) ? by_hand(t, task, test, "test") : fb_status_of(t->ctx);
}

fb_status fb_trainer_predict(fb_trainer *t, const fb_trainer_task *task, fb_loader *loader,
                             fb_trainer_step step, fb_trainer_take take)
{
    if (!t)
        return FB_E_ARG;
    FBI_ENTRY(t->ctx);
    if (!fbi_enter(t->ctx))
        return fb_status_of(t->ctx);
    if (!loader || !take)
        return fbi_fail(t->ctx, FB_E_ARG,
                        "trainer: a prediction needs a loader and a function "
                        "that takes what comes out");
    fb_status st = fbi_trainer_bind(t, task, false);
    pass p = {.step = step, .take = take, .loader = loader};
    return st ? st : run_pass(t, &p);
}
