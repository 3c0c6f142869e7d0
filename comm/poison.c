/* Errors between ranks: one text ends the collectives of every rank. */
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "comm/link_priv.h"
#include "comm/mpi_priv.h"
#include "comm/plane_priv.h"
#include "comm/world_priv.h"
#include "core/base/log_priv.h"

const char *fbi_rank_text(const fb_world *world, int rank, char *buf, size_t size)
{
    snprintf(buf, size, "rank %d (%s)", rank, world->peers[rank].host);
    return buf;
}

/* The text, once its writer has finished; a writer that died half-way leaves what it wrote. */
static int settled_poison(fb_world *world)
{
    int poison = atomic_load_explicit(&world->page->poison, memory_order_acquire);
    for (double end = fbi_now() + 1; poison < 0 && fbi_now() < end;) {
        sched_yield();
        poison = atomic_load_explicit(&world->page->poison, memory_order_acquire);
    }
    return poison < 0 ? FB_E_COMM : poison;
}

fb_status fbi_world_check(fb_world *world)
{
    if (__builtin_expect(atomic_load_explicit(&world->page->poison, memory_order_relaxed) == 0, 1))
        return FB_OK;
    if (world->poisoned) {
        fbi_fail(world->ctx, FB_E_COMM, "%s", world->page->verdict.text);
        return FB_E_COMM;
    }
    settled_poison(world);
    world->poisoned = true;
    char text[FBI_MESSAGE_BYTES], call[160], own[256] = "";
    /* The text names the call of the rank that wrote it; ours is news to the reader. */
    if (atomic_load(&world->own->state) == FBI_RANK_WAITING && !world->wrote_poison)
        snprintf(own, sizeof own, "; rank %d waits in %s", world->rank,
                 fbi_call_text(&world->own->sig, call, sizeof call));
    snprintf(text, sizeof text, "%.*s%s", (int)(sizeof text - sizeof own - 1),
             world->page->verdict.text, own);
    fbi_logline("rank %d: %s", world->rank, text);
    atomic_store(&world->own->printed, 1);
    fbi_fail(world->ctx, FB_E_COMM, "%s", text);
    if (world->ctx->backend->halt)
        world->ctx->backend->halt(world->ctx); /* an aborted sum is none */
    fbi_links_abort(world); /* a device that waits for others would wait for ever */
    return FB_E_COMM;
}

/* Put a verdict on this node's page; false if one is there. */
static bool write_poison(fb_world *world, const fbi_finding *verdict)
{
    if (!fbi_page_judge(world->page, verdict))
        return false;
    fbi_verdict_write(verdict, fbi_world_run_dir(world));
    return true;
}

/* Who waits, on this node: the rank that speaks comes first. */
static void note_waiting(const fb_world *world, fbi_finding *v)
{
    for (int r = 0; r < world->size; r++) {
        if (fbi_is_remote(world, r))
            continue;
        const fbi_page_rank *e = &world->page->rank[world->peers[r].local];
        if (r != v->rank && atomic_load(&e->state) == FBI_RANK_WAITING)
            fbi_verdict_waits(v, r, &e->sig);
    }
}

fb_status fbi_world_judge(fb_world *world, fbi_finding *v)
{
    if (v->rank != world->rank && atomic_load(&world->own->state) == FBI_RANK_WAITING)
        fbi_verdict_waits(v, world->rank, &world->own->sig);
    note_waiting(world, v);
    if (write_poison(world, v)) {
        world->wrote_poison = true;
        fbi_plane_wake(world);
        fbi_control_poison(world, v);
    }
    return fbi_world_check(world);
}

fbi_suspect fbi_world_suspect(const fb_world *world, int rank)
{
    const fbi_peer *p = &world->peers[rank];
    fbi_suspect s = {.rank = rank, .pid = p->pid, .host = p->host};
    if (fbi_is_remote(world, rank))
        return s;
    const fbi_page_rank *e = &world->page->rank[p->local];
    s.last = &e->sig;
    s.waiting = atomic_load(&e->state) == FBI_RANK_WAITING;
    return s;
}

fb_status fbi_world_poison(fb_world *world, const char *fmt, ...)
{
    char text[FBI_MESSAGE_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const fbi_suspect self = fbi_world_suspect(world, world->rank);
    fbi_finding v;
    fbi_verdict_say(&v, FBI_VERDICT_FAILED, &self, "%s", text);
    return fbi_world_judge(world, &v);
}

void fbi_world_judged(fb_world *world, const fbi_finding *verdict)
{
    write_poison(world, verdict);
}

fb_status fbi_world_tell(fb_world *world, const fbi_signature *sig)
{
    char who[96], call[160];
    fb_status status = world->ctx->status;
    fbi_world_poison(world, "%s failed before %s: %.640s",
                     fbi_rank_text(world, world->rank, who, sizeof who),
                     fbi_call_text(sig, call, sizeof call), fb_error_message(world->ctx));
    return status;
}
