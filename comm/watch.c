/* Looking at the processes that we wait for: dead, stopped, gone, or waiting for us elsewhere. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm/mpi_priv.h"
#include "comm/work_priv.h"
#include "comm/world_priv.h"
#include "core/base/log_priv.h"

/* How long the last messages of a rank that closes may be on their way. */
static const double late_s = 5;

double fbi_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint64_t fbi_process_start(int pid, char *state)
{
    char path[40], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    char *got = fgets(line, sizeof line, f);
    fclose(f);
    /* "pid (name) state ..."; the name may hold anything, so look for its last parenthesis. */
    const char *at = got ? strrchr(line, ')') : NULL;
    if (!at)
        return 0;
    unsigned long long start = 0;
    char c = '?';
    /* After the state, field 3, the 19th number is field 22: the start in clock ticks. */
    int n = sscanf(
        at + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
        &c, &start);
    if (state)
        *state = c;
    return n == 2 ? (uint64_t)start : 0;
}

static const fbi_page_rank *entry_of(const fb_world *world, int rank)
{
    if (!world->page_shared || world->peers[rank].node != world->node)
        return NULL;
    return &world->page->rank[world->peers[rank].local];
}

/* "; its last call was all_reduce #16 at train.c:88", or "" */
static void last_call(const fb_world *world, int rank, char *buf, size_t size)
{
    const fbi_page_rank *e = entry_of(world, rank);
    char call[160];
    buf[0] = '\0';
    if (!e || e->sig.kind == FBI_KIND_NONE)
        return;
    bool waiting = atomic_load(&e->state) == FBI_RANK_WAITING;
    snprintf(buf, size, "; it %s %s", waiting ? "was in" : "last called",
             fbi_call_text(&e->sig, call, sizeof call));
}

/* "rank 0 waits for it in all_reduce #17 at train.c:90 with F32 [1000]" */
static void our_call(const fb_world *world, const fbi_waitable *what, char *buf, size_t size)
{
    char call[160], brought[256];
    snprintf(buf, size, "rank %d waits for it in %s with %s", world->rank,
             fbi_call_text(what->sig, call, sizeof call),
             fbi_brought_text(what->sig, brought, sizeof brought));
}

static fb_status say_dead(fb_world *world, const fbi_waitable *what, int rank)
{
    char last[256], ours[512];
    last_call(world, rank, last, sizeof last);
    our_call(world, what, ours, sizeof ours);
    return fbi_world_poison(world,
                            "rank %d (%s, pid %d) is dead: killed, or it ended without "
                            "fb_world_close%s; %s",
                            rank, world->peers[rank].host, world->peers[rank].pid, last, ours);
}

static fb_status say_closing(fb_world *world, const fbi_waitable *what, int rank)
{
    const fbi_page_rank *e = entry_of(world, rank);
    char who[96], ours[512];
    our_call(world, what, ours, sizeof ours);
    fbi_rank_text(world, rank, who, sizeof who);
    const char *error = e && e->status ? e->text : NULL;
    if (!e && world->mpi->failure.kind && world->mpi->failure.rank == rank)
        error = world->mpi->failure.text;
    if (error)
        return fbi_world_poison(world, "%s has ended with an error: %.600s; %s", who, error, ours);
    return fbi_world_poison(world,
                            "%s has ended its program (fb_world_close); %s: do all ranks make the "
                            "same calls?",
                            who, ours);
}

static fb_status say_stopped(fb_world *world, const fbi_waitable *what, int rank, double seconds)
{
    char last[256], ours[512];
    last_call(world, rank, last, sizeof last);
    our_call(world, what, ours, sizeof ours);
    return fbi_world_poison(
        world,
        "rank %d (%s, pid %d) has been stopped for %.0f s (SIGSTOP)%s; %s: kill "
        "-CONT it sooner, or set FLAMBEAU_STOPPED_SECONDS",
        rank, world->peers[rank].host, world->peers[rank].pid, seconds, last, ours);
}

/* Whether a rank that closes will not do its part any more. It may have done it between our two
 * looks; and what it sent last may be behind the news of its closing, because MPI keeps no order
 * between communicators, nor between messages and memory. */
static bool has_gone(const fb_world *world, fbi_watch *watch, const fbi_waitable *what, int rank,
                     bool failed)
{
    if (what->ready(what->self) || what->missing(what->self, rank) != rank)
        return false;
    if (failed || (!world->notices && !fbi_works_use_messages(world)))
        return true;
    double now = fbi_now();
    if (watch->gone_since == 0)
        watch->gone_since = now;
    return now - watch->gone_since > late_s;
}

/* Every missing rank of this node: alive, in the job, not stopped? */
static fb_status look_at_processes(fb_world *world, fbi_watch *watch, const fbi_waitable *what,
                                   double passed)
{
    int stopped = -1;
    for (int r = what->missing(what->self, 0); r >= 0; r = what->missing(what->self, r + 1)) {
        const fbi_peer *peer = &world->peers[r];
        if (peer->node != world->node || r == world->rank)
            continue;
        const fbi_page_rank *e = entry_of(world, r);
        if (e && atomic_load(&e->state) == FBI_RANK_CLOSING && !what->closing) {
            if (has_gone(world, watch, what, r, e->status))
                return say_closing(world, what, r);
            continue;
        }
        if (!peer->watched)
            continue;
        char state = '?';
        uint64_t start = fbi_process_start(peer->pid, &state);
        if (start != peer->start || state == 'Z' || state == 'X') {
            /* It may have done its part between our two looks. */
            if (what->ready(what->self) || what->missing(what->self, r) != r)
                continue;
            return say_dead(world, what, r);
        }
        if (state == 'T')
            stopped = r;
    }
    /* We may have been stopped ourselves in between: count what we saw, not what the clock says. */
    watch->stopped = stopped < 0 ? 0 : watch->stopped + (passed < 0.2 ? passed : 0.2);
    if (watch->stopped > world->stopped_s)
        return say_stopped(world, what, stopped, watch->stopped);
    return FB_OK;
}

/* Ranks of other nodes: what their notices said; and mpirun ends a job without saying why. */
static fb_status look_at_notices(fb_world *world, fbi_watch *watch, const fbi_waitable *what)
{
    for (int r = what->missing(what->self, 0); r >= 0; r = what->missing(what->self, r + 1)) {
        if (!fbi_is_remote(world, r))
            continue;
        bool failed = world->mpi->failure.kind && world->mpi->failure.rank == r;
        if (world->mpi->closing[r] && !what->closing && has_gone(world, watch, what, r, failed))
            return say_closing(world, what, r);
        if (fbi_signal_age() > 0.7) {
            char who[96], ours[512];
            our_call(world, what, ours, sizeof ours);
            return fbi_world_poison(world,
                                    "%s does not answer, and SIGTERM asks rank %d to end; %s",
                                    fbi_rank_text(world, r, who, sizeof who), world->rank, ours);
        }
    }
    return FB_OK;
}

/* Follow "waits for" from this rank; the key of the circle, or 0. */
static uint64_t find_circle(const fb_world *world, int missing)
{
    uint64_t key = atomic_load(&world->own->calls) * 31u + 1;
    for (int r = missing, steps = 0; steps < world->local_size; steps++) {
        if (r == world->rank)
            return key | 1;
        const fbi_page_rank *e = r < 0 ? NULL : entry_of(world, r);
        if (!e || atomic_load(&e->state) != FBI_RANK_WAITING)
            return 0;
        key = key * 0x9E3779B97F4A7C15u + atomic_load(&e->calls) * 64u + (uint64_t)r;
        r = atomic_load(&e->waits_for);
    }
    return 0;
}

static fb_status say_circle(fb_world *world, int missing)
{
    char text[700];
    size_t at = 0;
    int r = world->rank;
    for (int next = missing, n = 0; n < 4 && at < sizeof text; n++) {
        const fbi_page_rank *e = entry_of(world, r);
        char call[160];
        at += (size_t)snprintf(text + at, sizeof text - at, "%srank %d waits for rank %d in %s",
                               n ? ", " : "", r, next, fbi_call_text(&e->sig, call, sizeof call));
        if (next == world->rank)
            break;
        r = next;
        next = atomic_load(&entry_of(world, r)->waits_for);
        if (next < 0)
            break;
    }
    return fbi_world_poison(world,
                            "ranks wait for each other: %s: do all ranks make the same calls in "
                            "the same order?",
                            text);
}

static fb_status look_for_circles(fb_world *world, fbi_watch *watch, const fbi_waitable *what,
                                  double now)
{
    int missing = what->missing(what->self, 0);
    uint64_t key = watch->stopped > 0 || what->closing ? 0 : find_circle(world, missing);
    if (key != watch->cycle_key) {
        watch->cycle_key = key;
        watch->cycle_since = now;
    }
    if (key && now - watch->cycle_since > world->stuck_s)
        return say_circle(world, missing);
    return FB_OK;
}

/* Waiting long for a rank that works is no error; say it once. */
static void note_long_wait(fb_world *world, fbi_watch *watch, const fbi_waitable *what, double now)
{
    if (watch->noted || now - watch->began < 60)
        return;
    watch->noted = true;
    for (int i = 0; i < world->local_rank; i++)
        if (world->page_shared && atomic_load(&world->page->rank[i].state) == FBI_RANK_WAITING)
            return; /* the lowest waiting rank of a node speaks */
    char who[96], call[160];
    int missing = what->missing(what->self, 0);
    if (missing >= 0)
        fbi_logline("rank %d has waited 60 s for %s in %s, and goes on waiting", world->rank,
                    fbi_rank_text(world, missing, who, sizeof who),
                    fbi_call_text(what->sig, call, sizeof call));
}

fb_status fbi_watch_look(fb_world *world, fbi_watch *watch, const fbi_waitable *what)
{
    double now = fbi_now();
    fb_status status = look_at_processes(world, watch, what, now - watch->last);
    if (!status && world->notices)
        status = look_at_notices(world, watch, what);
    if (!status)
        status = look_for_circles(world, watch, what, now);
    if (!status)
        note_long_wait(world, watch, what, now);
    return status;
}
