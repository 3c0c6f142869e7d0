#include "io/saver_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <flambeau/comm/world.h>

#include "comm/world_priv.h"
#include "core/tensor/context_priv.h"

/* A thread that saves rests so many times as long as it works: a step that has all cores loses no
 * more than a few percent of one. */
enum { REST = 8 };

struct fbi_saver {
    fb_world *world;
    fbi_snapshot snapshot;
    fbi_saving save;
    fbi_save_end end;
    pthread_t thread;
    bool running; /* there is a thread */
    /* of two threads, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hurry;    /* somebody waits */
    double worked; /* processor time at the last rest; of the thread */
};

/* --- the thread --- */

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void rest(void *self)
{
    fbi_saver *v = self;
    struct timespec until;
    double seconds = REST * (thread_seconds() - v->worked);
    clock_gettime(CLOCK_MONOTONIC, &until);
    long long ns = until.tv_nsec + (long long)(1e9 * seconds);
    until.tv_sec += ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&v->lock);
    while (!v->hurry && !pthread_cond_timedwait(&v->changed, &v->lock, &until)) {
    }
    pthread_mutex_unlock(&v->lock);
    v->worked = thread_seconds();
}

static void *work(void *arg)
{
    fbi_saver *v = arg;
    fbi_snapshot_copy(&v->snapshot);
    v->worked = thread_seconds();
    v->end = fbi_save_run(&v->save);
    return NULL;
}

/* --- of the context's thread --- */

static void saver_free(fbi_saver *v)
{
    fbi_snapshot_close(&v->snapshot);
    pthread_cond_destroy(&v->changed);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

/* The world ends. */
static void finish(fb_world *world)
{
    fbi_saver_wait(world);
    saver_free(world->saver);
    world->saver = NULL;
}

/* That of the world; NULL: no memory. */
static fbi_saver *saver_of(fb_world *world)
{
    if (world->saver)
        return world->saver;
    fbi_saver *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    v->world = world;
    bool good = !pthread_mutex_init(&v->lock, NULL) && !pthread_cond_init(&v->changed, &clock) &&
                fbi_snapshot_open(&v->snapshot, fb_world_context(world));
    pthread_condattr_destroy(&clock);
    if (!good) {
        free(v);
        return NULL;
    }
    world->saver = v;
    world->saver_finish = finish;
    return v;
}

/* Say what became of a save. @return whether it is saved */
static bool finished(fbi_saver *v)
{
    fb_context *ctx = fb_world_context(v->world);
    bool saved = v->end == FBI_SAVE_DONE;
    fbi_snapshot_drop(&v->snapshot);
    json_decref(v->save.run);
    v->save.run = NULL;
    if (v->end == FBI_SAVE_REPLACED)
        fbi_fail(ctx, FB_E_STATE, "%s", v->save.text);
    if (v->end == FBI_SAVE_FAILED && fb_ok(ctx))
        fbi_save_warn(&v->save);
    v->world->unsaved = !saved;
    return saved;
}

bool fbi_saver_wait(fb_world *world)
{
    fbi_saver *v = world->saver;
    if (!v || !v->running)
        return !world->unsaved;
    pthread_mutex_lock(&v->lock);
    v->hurry = true;
    pthread_cond_broadcast(&v->changed);
    pthread_mutex_unlock(&v->lock);
    pthread_join(v->thread, NULL);
    v->running = v->hurry = false;
    return finished(v);
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

/* A save that takes `order`; NULL: it cannot be, a warning or the context's error says why. */
static fbi_saver *take(const fbi_save_order *o, bool copies)
{
    fb_world *world = o->world;
    fb_context *ctx = fb_world_context(world);
    fbi_saver *v = saver_of(world);
    if (!v) {
        fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory");
        return NULL;
    }
    fbi_saver_wait(world);
    fbi_lease_enter(world, o->dir);
    if (fbi_lease_guard(world, o->dir))
        return NULL;
    fbi_saving *s = &v->save;
    *s = (fbi_saving){.snapshot = &v->snapshot,
                      .step = number_of(o->dir, o->state),
                      .keep = o->keep,
                      .best = o->best,
                      .run = fbi_run_describe(ctx, fb_world_size(world))};
    fbi_lease_copy(world, o->dir, s->leases);
    snprintf(s->dir, sizeof s->dir, "%s", o->dir);
    fbi_checkpoint_path(o->dir, s->step, s->path, sizeof s->path);
    v->end = FBI_SAVE_FAILED;
    bool good = copies ? fbi_snapshot_take_copies(&v->snapshot, o->state, s->text, sizeof s->text)
                       : fbi_snapshot_take(&v->snapshot, o->state, s->text, sizeof s->text);
    if (good)
        return v;
    finished(v);
    return NULL;
}

bool fbi_saver_save(const fbi_save_order *order)
{
    fbi_saver *v = take(order, false);
    if (!v)
        return false;
    v->end = fbi_save_run(&v->save);
    return finished(v);
}

bool fbi_saver_begin(const fbi_save_order *order)
{
    fbi_saver *v = take(order, true);
    if (!v)
        return false;
    v->save.pace = (fbi_pace){rest, v};
    if (!pthread_create(&v->thread, NULL, work, v)) {
        v->running = true;
        return true;
    }
    v->save.pace = (fbi_pace){0}; /* without a thread the save takes its time now */
    work(v);
    return finished(v);
}
