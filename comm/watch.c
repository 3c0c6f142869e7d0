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
/* Ranks may take so many times longer with files. */
static const double files_factor = 10;

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

static fbi_waiter ourselves(const fb_world *world, const fbi_waitable *what)
{
    return (fbi_waiter){world->rank, what->sig};
}

static fb_status say_dead(fb_world *world, const fbi_waitable *what, int rank)
{
    const fbi_suspect s = fbi_world_suspect(world, rank);
    const fbi_waiter w = ourselves(world, what);
    fbi_finding v;
    fbi_verdict_dead(&v, &s, &w);
    return fbi_world_judge(world, &v);
}

static fb_status say_closing(fb_world *world, const fbi_waitable *what, int rank)
{
    const fbi_page_rank *e = entry_of(world, rank);
    const fbi_suspect s = fbi_world_suspect(world, rank);
    const fbi_waiter w = ourselves(world, what);
    char who[96], ours[512];
    fbi_waiter_text(&w, ours, sizeof ours);
    fbi_rank_text(world, rank, who, sizeof who);
    const char *error = e && e->status ? e->text : NULL;
    fbi_finding v;
    if (!e && world->mpi->failure.kind && world->mpi->failure.rank == rank)
        error = world->mpi->failure.verdict.text;
    if (error)
        fbi_verdict_say(&v, FBI_VERDICT_FAILED, &s, "%s has ended with an error: %.600s; %s", who,
                        error, ours);
    else
        fbi_verdict_say(&v, FBI_VERDICT_LEFT, &s,
                        "%s has ended its program (fb_world_close); %s: do all ranks make the same "
                        "calls?",
                        who, ours);
    fbi_verdict_waits(&v, w.rank, w.sig);
    return fbi_world_judge(world, &v);
}

/* Stopped, or stuck, for some seconds. */
static fb_status say_late(fb_world *world, const fbi_waitable *what, int rank, double seconds,
                          void (*words)(fbi_finding *v, const fbi_suspect *s, const fbi_waiter *w,
                                        double seconds))
{
    const fbi_suspect s = fbi_world_suspect(world, rank);
    const fbi_waiter w = ourselves(world, what);
    fbi_finding v;
    words(&v, &s, &w, seconds);
    return fbi_world_judge(world, &v);
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
        return say_late(world, what, stopped, watch->stopped, fbi_verdict_stopped);
    return FB_OK;
}

static fb_status say_ended(fb_world *world, const fbi_waitable *what, int rank)
{
    const fbi_suspect s = fbi_world_suspect(world, rank);
    const fbi_waiter w = ourselves(world, what);
    char who[96], ours[512];
    fbi_finding v;
    fbi_verdict_say(&v, FBI_VERDICT_UNREACHABLE, &s,
                    "%s does not answer, and SIGTERM asks rank %d to end; %s",
                    fbi_rank_text(world, rank, who, sizeof who), world->rank,
                    fbi_waiter_text(&w, ours, sizeof ours));
    fbi_verdict_waits(&v, w.rank, w.sig);
    return fbi_world_judge(world, &v);
}

/* mpirun ends a job with SIGTERM and, a second later, SIGKILL: there is no time to wait for others.
 * Slurm gives half a minute, PBS and LSF 10 s, in which they can save. */
static double term_patience(void)
{
    static const struct {
        const char *launcher;
        double s;
    } known[] = {{"srun", 25}, {"held", 8}};
    const char *launcher = getenv(FBI_LAUNCHER);
    for (size_t i = 0; launcher && i < sizeof known / sizeof *known; i++)
        if (!strcmp(launcher, known[i].launcher))
            return known[i].s;
    return 0.7;
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
        if (fbi_signal_age() > term_patience())
            return say_ended(world, what, r);
    }
    return FB_OK;
}

/* Where the waiting of this rank leads to. */
typedef struct chain {
    uint64_t key; /* of what the ranks on the way were doing; 0: it leads nowhere */
    int end;      /* a rank that waits for nobody; -1: back here */
    bool passed;  /* a rank on the way has done its part of what it is waited for in */
} chain;

static chain follow(const fb_world *world, const fbi_signature *sig, int missing)
{
    const chain nowhere = {0, -1, false};
    const fbi_signature *own = sig;
    uint64_t key = atomic_load(&world->own->calls) * 31u + 1;
    bool apart = false, passed = false;
    for (int r = missing, steps = 0; steps < world->local_size; steps++) {
        if (r == world->rank) { /* all in one call: data are on their way */
            passed |= fbi_has_passed(own, world->own->past, sig);
            return apart ? (chain){(key + 2u * passed) | 1, -1, passed} : nowhere;
        }
        const fbi_page_rank *e = r < 0 ? NULL : entry_of(world, r);
        unsigned state = e ? atomic_load(&e->state) : FBI_RANK_CLOSING;
        if (state == FBI_RANK_CLOSING)
            return nowhere;
        key = key * 0x9E3779B97F4A7C15u + atomic_load(&e->calls) * 64u + (uint64_t)r;
        if (state == FBI_RANK_RUNNING)
            return (chain){key | 1, r, passed};
        apart |= !fbi_same_exchange(sig, &e->sig);
        passed |= fbi_has_passed(&e->sig, e->past, sig);
        sig = &e->sig;
        r = atomic_load(&e->waits_for);
    }
    return nowhere;
}

static fb_status say_circle(fb_world *world, int missing)
{
    char text[700];
    size_t at = 0;
    int r = world->rank;
    const fbi_suspect self = fbi_world_suspect(world, r);
    fbi_finding v;
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
    fbi_verdict_say(&v, FBI_VERDICT_STUCK, &self,
                    "ranks wait for each other: %s: do all ranks make the same calls in the same "
                    "order?",
                    text);
    return fbi_world_judge(world, &v);
}

/* Checkpoints and datasets: one rank writes or reads for all, and file systems have bad days. */
static bool is_about_files(const fbi_signature *sig)
{
    return sig->kind == FBI_KIND_BYTES && strcmp(sig->tag, "commit") != 0;
}

double fbi_world_limit(const fb_world *world, const fbi_waitable *what)
{
    double limit = world->timeout_s;
    if (what->closing)
        return 0; /* whoever closes may wait for one that saves, or goes on alone */
    for (const fb_group *g = world->groups; g; g = g->next)
        if (g->id == what->sig->group && g->timeout_s != 0)
            limit = g->timeout_s;
    if (is_about_files(what->sig))
        limit *= files_factor;
    return limit > 0 ? limit : 0;
}

/* Circles, and ranks that run but do not come. */
static fb_status look_along_chain(fb_world *world, fbi_watch *watch, const fbi_waitable *what,
                                  double passed)
{
    int missing = what->missing(what->self, 0);
    chain c = {0, -1, false};
    bool follows = watch->stopped == 0 && !what->closing;
    if (follows)
        c = follow(world, what->sig, missing);
    /* Of several that are missing some wait themselves: a rank that does not explains more. */
    for (int r = missing; follows && r >= 0 && c.end < 0;) {
        chain other = follow(world, what->sig, r);
        if (other.key && other.end >= 0)
            c = other;
        r = what->missing(what->self, r + 1);
    }
    if (c.key != watch->chain_key) {
        watch->chain_key = c.key;
        watch->chain_s = 0;
    }
    watch->chain_s += passed < 0.2 ? passed : 0.2; /* as for stopped ones */
    double limit = fbi_world_limit(world, what), circle = c.passed ? limit : world->stuck_s;
    if (c.key && c.end < 0 && circle > 0 && watch->chain_s > circle)
        return say_circle(world, missing);
    if (c.key && c.end >= 0 && limit > 0 && watch->chain_s > limit)
        return say_late(world, what, c.end, watch->chain_s, fbi_verdict_stuck);
    return FB_OK;
}

/* Waiting long for a rank that works is no error; say it once. */
static void note_long_wait(fb_world *world, fbi_watch *watch, const fbi_waitable *what, double now)
{
    double limit = fbi_world_limit(world, what), patience = limit > 0 ? limit / 2 : 60;
    if (watch->noted || now - watch->began < patience)
        return;
    watch->noted = true;
    for (int i = 0; i < world->local_rank; i++)
        if (world->page_shared && atomic_load(&world->page->rank[i].state) == FBI_RANK_WAITING)
            return; /* the lowest waiting rank of a node speaks */
    char who[96], call[160], end[64] = "";
    int missing = what->missing(what->self, 0);
    if (limit > 0)
        snprintf(end, sizeof end, ", until %.0f s", limit);
    if (missing >= 0)
        fbi_logline("rank %d has waited %.0f s for %s in %s, and goes on waiting%s", world->rank,
                    patience, fbi_rank_text(world, missing, who, sizeof who),
                    fbi_call_text(what->sig, call, sizeof call), end);
}

fb_status fbi_watch_look(fb_world *world, fbi_watch *watch, const fbi_waitable *what)
{
    double now = fbi_now(), passed = now - watch->last;
    fb_status status = look_at_processes(world, watch, what, passed);
    if (!status && world->notices)
        status = look_at_notices(world, watch, what);
    if (!status)
        status = look_along_chain(world, watch, what, passed);
    if (!status)
        note_long_wait(world, watch, what, now);
    return status;
}
