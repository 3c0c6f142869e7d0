#include "io/saver_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <flambeau/comm/world.h>

#include "comm/world_priv.h"
#include "core/tensor/context_priv.h"
#include "io/spread_priv.h"

/* A thread that saves rests so many times as long as it works: a step that has all cores loses no
 * more than a few percent of one. */
enum { REST = 8 };

struct fbi_saver {
    fb_world *world;
    fbi_snapshot snapshot;
    fbi_saving save;
    fbi_save_end end;
    fbi_spread spread;
    pthread_t thread;
    bool running; /* there is a thread */
    bool spreads; /* there are, or have been, some on several nodes */
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

/* What this rank has to write: all, or a share. */
static void write_now(fbi_saver *v)
{
    int64_t number = fb_world_root(v->world) ? 0 : fbi_spread_number(&v->spread);
    if (number == 0)
        v->end = fbi_save_run(&v->save);
    else
        v->end = fbi_spread_write(&v->save, number) ? FBI_SAVE_DONE : FBI_SAVE_FAILED;
}

static void *work(void *arg)
{
    fbi_saver *v = arg;
    bool copied = fbi_snapshot_copy(&v->snapshot);
    v->worked = thread_seconds();
    if (copied) {
        write_now(v);
        return NULL;
    }
    v->end = FBI_SAVE_FAILED;
    snprintf(v->save.text, sizeof v->save.text, "the device has failed");
    if (v->save.spread && fb_world_root(v->world))
        fbi_spread_wait(v->save.spread, &v->save, false); /* who waits for us is met */
    return NULL;
}

/* The same on the context's thread. */
static void work_here(fbi_saver *v)
{
    fbi_snapshot_settle(&v->snapshot);
    work(v);
}

/* --- of the context's thread --- */

static void saver_free(fbi_saver *v)
{
    fbi_spread_close(&v->spread);
    fbi_snapshot_close(&v->snapshot);
    pthread_cond_destroy(&v->changed);
    pthread_mutex_destroy(&v->lock);
    free(v);
}

/* The world ends. Collective if a save is spread. */
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
                fbi_snapshot_open(&v->snapshot, fb_world_context(world)) &&
                fbi_spread_open(&v->spread, world);
    pthread_condattr_destroy(&clock);
    if (!good) {
        free(v);
        return NULL;
    }
    world->saver = v;
    world->saver_finish = finish;
    return v;
}

/* Say what became of a save, on rank 0. @return whether it is saved */
static bool finished(fbi_saver *v)
{
    fb_context *ctx = fb_world_context(v->world);
    bool saved = v->end == FBI_SAVE_DONE;
    fbi_snapshot_drop(&v->snapshot);
    json_decref(v->save.run);
    v->save.run = NULL;
    if (!fb_world_root(v->world))
        return saved;
    if (v->end == FBI_SAVE_REPLACED)
        fbi_fail(ctx, FB_E_STATE, "%s", v->save.text);
    if (v->end == FBI_SAVE_FAILED && fb_ok(ctx))
        fbi_save_warn(&v->save);
    v->world->unsaved = !saved;
    return saved;
}

static void join(fbi_saver *v)
{
    if (!v->running)
        return;
    fbi_snapshot_settle(&v->snapshot);
    pthread_mutex_lock(&v->lock);
    v->hurry = true;
    pthread_cond_broadcast(&v->changed);
    pthread_mutex_unlock(&v->lock);
    pthread_join(v->thread, NULL);
    v->running = v->hurry = false;
}

/* Rank 0 ends last: it makes a checkpoint of what the others have written. */
static bool wait_for_all(fbi_saver *v)
{
    bool root = fb_world_root(v->world), late = root && !v->running;
    v->spreads = false;
    if (!root)
        join(v);
    bool failed = !root && v->end == FBI_SAVE_FAILED;
    fbi_spread_meet(&v->spread, failed ? v->save.text : NULL);
    if (late)
        work_here(v);
    join(v);
    return finished(v);
}

bool fbi_saver_wait(fb_world *world)
{
    fbi_saver *v = world->saver;
    if (v && v->spreads)
        return wait_for_all(v);
    if (!v || !v->running)
        return !world->unsaved;
    join(v);
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

/* The values of a share; of number 0 all. */
static bool take(fbi_saver *v, const fbi_save_order *o, fbi_share share, bool copies)
{
    fbi_saving *s = &v->save;
    return (copies ? fbi_snapshot_take_copies : fbi_snapshot_take)(&v->snapshot, o->state, share,
                                                                   s->text, sizeof s->text);
}

/* Of rank 0: what `order` is about. false: it cannot be, a warning or the context's error says why.
 */
static bool take_order(fbi_saver *v, const fbi_save_order *o, bool copies)
{
    fb_world *world = o->world;
    fbi_lease_enter(world, o->dir);
    if (fbi_lease_guard(world, o->dir))
        return false;
    fbi_saving *s = &v->save;
    s->step = number_of(o->dir, o->state);
    s->keep = o->keep;
    s->best = o->best;
    s->run = fbi_run_describe(fb_world_context(world), fb_world_size(world));
    fbi_lease_copy(world, o->dir, s->leases);
    fbi_checkpoint_path(o->dir, s->step, s->path, sizeof s->path);
    if (take(v, o, (fbi_share){0, 1}, copies))
        return true;
    finished(v);
    return false;
}

/* What everybody needs for a save; NULL: there is none, on rank 0 because it cannot be. */
static fbi_saver *enter(const fbi_save_order *o, bool copies)
{
    fb_world *world = o->world;
    bool root = fb_world_root(world);
    fbi_saver_wait(world);
    if (!root && world->nodes == 1)
        return NULL;
    fbi_saver *v = saver_of(world);
    if (!v) {
        fbi_fail(fb_world_context(world), FB_E_NOMEM, "checkpoint: no memory");
        return NULL;
    }
    v->save = (fbi_saving){.snapshot = &v->snapshot};
    v->end = FBI_SAVE_FAILED;
    snprintf(v->save.dir, sizeof v->save.dir, "%s", o->dir);
    bool ready = root && take_order(v, o, copies);
    if (world->nodes == 1)
        return ready ? v : NULL;
    v->spread.now = !copies;
    if (fbi_spread_agree(&v->spread, &v->save, ready, o->files)) {
        finished(v);
        return NULL;
    }
    return ready || (!root && v->save.spread) ? v : NULL;
}

/* Of a rank that is not the first: the values of its share, if it has one. */
static bool has_share(fbi_saver *v, const fbi_save_order *o, bool copies)
{
    int64_t number = fbi_spread_number(&v->spread);
    if (number >= 1 && take(v, o, (fbi_share){number, v->spread.writers}, copies))
        return true;
    v->end = number < 1 ? FBI_SAVE_DONE : FBI_SAVE_FAILED;
    return false;
}

bool fbi_saver_save(const fbi_save_order *order)
{
    fbi_saver *v = enter(order, false);
    if (!v)
        return false;
    bool root = fb_world_root(order->world);
    if (root || has_share(v, order, false))
        write_now(v);
    if (!root)
        fbi_spread_meet(&v->spread, v->end == FBI_SAVE_DONE ? NULL : v->save.text);
    return finished(v);
}

bool fbi_saver_begin(const fbi_save_order *order)
{
    fbi_saver *v = enter(order, true);
    if (!v)
        return false;
    v->spreads = v->save.spread != NULL;
    if (!fb_world_root(order->world) && !has_share(v, order, true))
        return true;
    v->save.pace = (fbi_pace){rest, v};
    if (!pthread_create(&v->thread, NULL, work, v)) {
        v->running = true;
        return true;
    }
    v->save.pace = (fbi_pace){0}; /* without a thread the save takes its time now */
    if (v->spreads && fb_world_root(order->world))
        return true; /* and on rank 0 when the others have written */
    work_here(v);
    return v->spreads || finished(v);
}
