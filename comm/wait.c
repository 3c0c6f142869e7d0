/* Waiting: spin, yield, sleep, and never without an eye on the poison and on the ranks waited for.
 */
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "comm/link_priv.h"
#include "comm/mpi_priv.h"
#include "comm/work_priv.h"

enum { SPINS = 200, MESSAGE_SPINS = 10, SLEEP_NS = 10 * 1000 * 1000, DOZE_NS = 50 * 1000 };
/* A core that is given away for nothing comes back late, if others want it: where it serves this
 * rank alone, a wait spins for longer. */
static const double yield_s = 200e-6, look_s = 0.05, message_yield_s = 2e-3;

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void doze(long ns)
{
    struct timespec t = {0, ns};
    nanosleep(&t, NULL);
}

/* Sleep until the word changes, but not for long. Who changes it looks at `sleepers` afterwards. */
static void sleep_on(fb_world *world, atomic_uint *word, unsigned value)
{
    struct timespec t = {0, SLEEP_NS};
    atomic_fetch_add(&world->page->sleepers, 1);
    if (atomic_load(word) == value)
        syscall(SYS_futex, (void *)word, FUTEX_WAIT, value, &t, NULL, 0);
    atomic_fetch_sub(&world->page->sleepers, 1);
}

void fbi_wake(fb_world *world, atomic_uint *word)
{
    if (atomic_load(&world->page->sleepers))
        syscall(SYS_futex, (void *)word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void fbi_world_poke(fb_world *world)
{
    fb_work *next;
    for (fb_work *w = world->flying; w; w = next) {
        next = w->next;
        fbi_work_advance(w);
    }
}

/* The rest of who is missing: the next ones, and in the last place the highest. */
static void publish_also(fb_world *world, const fbi_waitable *what, int missing)
{
    int also[FBI_ALSO], n = 0;
    for (int i = 0; i < FBI_ALSO; i++)
        also[i] = -1;
    for (int r = missing; r >= 0 && (r = what->missing(what->self, r + 1)) >= 0;)
        also[n < FBI_ALSO - 1 ? n++ : n] = r;
    for (int i = 0; i < FBI_ALSO; i++)
        atomic_store(&world->own->also[i], also[i]);
}

/* Others read what we do from the page. */
static void publish(fb_world *world, const fbi_waitable *what, int missing)
{
    if (what->sig != &world->own->sig)
        world->own->sig = *what->sig;
    atomic_store(&world->own->limit_ms, (int)(1e3 * fbi_world_limit(world, what)));
    atomic_store(&world->own->waits_for, missing);
    if (!what->closing)
        atomic_store(&world->own->state, FBI_RANK_WAITING);
}

static void rest(fb_world *world, const fbi_waitable *what, double waited, int missing)
{
    unsigned value = 0;
    atomic_uint *word = NULL;
    if (missing >= 0 && what->word && !world->notices && !fbi_works_use_messages(world))
        word = what->word(what->self, missing, &value);
    if (waited < world->spin_s)
        relax();
    else if (waited < (word ? yield_s : message_yield_s))
        sched_yield();
    else if (word)
        sleep_on(world, word, value);
    else
        doze(DOZE_NS);
}

/* Profilers are told whom this rank has stood still for: of several, the lowest that is missing. */
typedef struct standstill {
    int rank;
    double since;
} standstill;

static void stand_for(fb_world *world, standstill *s, int missing, double now)
{
    if (missing == s->rank)
        return;
    for (const fbi_trace *t = world->ctx->trace; t; t = t->next)
        if (t->waited && s->rank >= 0)
            t->waited(t->self, s->rank, now - s->since);
    *s = (standstill){missing, now};
}

static fb_status wait_long(fb_world *world, const fbi_waitable *what)
{
    fbi_watch watch = {.began = fbi_now()};
    fb_status status = FB_OK;
    watch.last = watch.began;
    standstill still = {-1, watch.began};
    publish(world, what, what->missing(what->self, 0));
    for (;;) {
        fbi_world_poke(world);
        if (what->ready(what->self))
            break;
        status = fbi_world_check(world);
        if (status)
            break;
        double now = fbi_now();
        int missing = what->missing(what->self, 0);
        stand_for(world, &still, missing, now);
        if (world->notices)
            fbi_control_poll(world);
        if (now - watch.last > look_s) {
            publish(world, what, missing);
            publish_also(world, what, missing);
            status = fbi_watch_look(world, &watch, what);
            if (!status)
                status = fbi_links_look(world);
            if (status)
                break;
            watch.last = now;
        }
        rest(world, what, now - watch.began, missing);
    }
    stand_for(world, &still, -1, fbi_now());
    world->waited_s += fbi_now() - watch.began;
    atomic_store(&world->own->waits_for, -1);
    if (!what->closing)
        atomic_store(&world->own->state, FBI_RANK_RUNNING);
    return status;
}

fb_status fbi_wait(fb_world *world, const fbi_waitable *what)
{
    /* Looking for messages takes longer, and others must soon know that this rank waits. */
    int spins = world->notices || world->messages ? MESSAGE_SPINS : SPINS;
    for (int i = 0; i < spins; i++) {
        fbi_world_poke(world);
        if (what->ready(what->self))
            return FB_OK;
        relax();
    }
    return wait_long(world, what);
}
