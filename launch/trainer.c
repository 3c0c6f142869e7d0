/* Opening and closing a trainer, and what it answers. */
#include "launch/trainer_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/tensor/context_priv.h"

/* --- opening --- */

static void trainer_free(void *object)
{
    fb_trainer *t = object;
    if (t->log)
        fclose(t->log);
    free(t->metrics);
    free(t->groups);
    fbi_option_free(&t->reader);
    free(t);
}

/* "trainer" and the program's groups. */
static bool join_groups(fb_trainer *t)
{
    int n = 0;
    while (t->o.groups && t->o.groups[n].name)
        n++;
    t->groups = calloc((size_t)n + 2, sizeof *t->groups);
    if (!t->groups)
        return false;
    t->groups[0] = (fb_option_group){"trainer", fbi_trainer_rows, &t->o};
    if (n)
        memcpy(t->groups + 1, t->o.groups, (size_t)n * sizeof *t->groups);
    t->reader.groups = t->groups;
    return true;
}

static bool read_options(fb_trainer *t, int *argc, char ***argv)
{
    fbi_option_reader *r = &t->reader;
    bool helped = false, good = true;
    for (const fb_option_group *g = t->groups; good && g->name; g++)
        good = fbi_option_check(r, g);
    if (good && argc && argv && *argc > 0)
        good = fbi_option_arguments(r, argc, *argv, t->o.about, t->o.keep_arguments, &helped);
    if (!helped)
        return good;
    trainer_free(t);
    exit(0);
}

static fb_trainer *trainer_new(int *argc, char ***argv, const fb_trainer_options *opts)
{
    fb_trainer *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    if (opts)
        t->o = *opts;
    t->prefix = "";
    t->best = t->loss = NAN;
    t->best_step = t->judged = t->saved = -1;
    if (!join_groups(t)) {
        free(t);
        return NULL;
    }
    read_options(t, argc, argv); /* what is wrong is told when there is a context */
    return t;
}

/* NULL: the error is on the context. */
static fb_trainer *enter(fb_trainer *t, fb_world *world)
{
    t->world = world;
    t->ctx = fb_world_context(world);
    if (fbi_context_adopt(t->ctx, t, trainer_free)) {
        trainer_free(t);
        return NULL;
    }
    t->speaks = fb_world_root(world) && !t->o.quiet;
    if (t->reader.wrong[0])
        fbi_fail(t->ctx, FB_E_ARG, "trainer: %s", t->reader.wrong);
    t->state = fb_state_open(t->ctx);
    return t;
}

fb_trainer *fb_trainer_open(int *argc, char ***argv, const fb_trainer_options *opts)
{
    fb_trainer *t = trainer_new(argc, argv, opts);
    if (!t) {
        fprintf(stderr, "flambeau: trainer_open: no memory\n");
        return NULL;
    }
    const fb_trainer_options *o = &t->o;
    bool good = !t->reader.wrong[0]; /* a job with senseless options opens, to say so once */
    fb_world_options w = {.shards = good ? (int)o->shards : 0,
                          .threads = good ? (int)o->threads : 0,
                          .device = good ? o->device : "cpu",
                          .seed = (uint64_t)o->seed,
                          .allow_tf32 = o->allow_tf32,
                          .tune = o->tune};
    fb_world *world = fb_world_open_with(argc, argv, &w);
    if (!world) {
        trainer_free(t);
        return NULL;
    }
    t->owns_world = true;
    FBI_ENTRY(fb_world_context(world));
    if (enter(t, world))
        return t;
    fb_world_close(world);
    return NULL;
}

fb_trainer *fb_trainer_open_in(fb_world *world, int *argc, char ***argv,
                               const fb_trainer_options *opts)
{
    fb_context *ctx = fb_world_context(world);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_trainer *t = trainer_new(argc, argv, opts);
    if (!t) {
        fbi_fail(ctx, FB_E_NOMEM, "trainer: no memory");
        return NULL;
    }
    return enter(t, world);
}

fb_status fb_trainer_close(fb_trainer *t)
{
    if (!t)
        return FB_E_ARG;
    if (t->owns_world)
        return fb_world_close(t->world); /* and with its context this */
    fb_context *ctx = t->ctx;
    fb_state_close(t->state);
    fb_scaler_close(t->scaler);
    fb_ema_close(t->ema);
    for (int i = 0; i < t->n_metrics; i++)
        fb_meter_close(t->metrics[i].meter);
    fbi_context_forget(ctx, t);
    trainer_free(t);
    return fb_status_of(ctx);
}

/* --- what it answers --- */

fb_context *fb_trainer_context(const fb_trainer *t)
{
    return t ? t->ctx : NULL;
}

fb_world *fb_trainer_world(const fb_trainer *t)
{
    return t ? t->world : NULL;
}

fb_group *fb_trainer_group(const fb_trainer *t)
{
    return t ? fb_world_group(t->world) : NULL;
}

const fb_trainer_options *fb_trainer_options_of(const fb_trainer *t)
{
    return t ? &t->o : NULL;
}

fb_state *fb_trainer_state(const fb_trainer *t)
{
    return t ? t->state : NULL;
}

fb_module *fb_trainer_model(const fb_trainer *t)
{
    if (!t)
        return NULL;
    return t->in_valid && t->ema ? fb_ema_module(t->ema) : t->task.model;
}

void *fb_trainer_user(const fb_trainer *t)
{
    return t ? t->task.user : NULL;
}

int64_t fb_trainer_steps(const fb_trainer *t)
{
    return t ? t->steps : 0;
}

int64_t fb_trainer_epochs(const fb_trainer *t)
{
    return t ? t->epochs : 0;
}

int64_t fb_trainer_best_step(const fb_trainer *t)
{
    return t ? t->best_step : -1;
}

int64_t fb_trainer_total_steps(const fb_trainer *t, const fb_loader *train)
{
    if (!t)
        return 0;
    const fb_trainer_options *o = &t->o;
    int64_t each = o->accumulate ? o->accumulate : 1;
    int64_t batches = o->overfit_batches ? o->overfit_batches : fb_loader_steps(train);
    int64_t by_epochs = (batches + each - 1) / each * o->max_epochs;
    int64_t least = o->fast_dev_run ? o->fast_dev_run : INT64_MAX;
    if (o->max_steps && o->max_steps < least)
        least = o->max_steps;
    if (by_epochs && by_epochs < least)
        least = by_epochs;
    return least < INT64_MAX ? least : 0;
}

void fb_trainer_stop(fb_trainer *t)
{
    if (t)
        fb_world_stop(t->world);
}
