/* Leaving the world: nobody is left waiting, everybody's error is said once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm/link_priv.h"
#include "comm/mpi_priv.h"
#include "comm/plane_priv.h"
#include "comm/work_priv.h"
#include "core/base/crash_priv.h"
#include "core/base/log_priv.h"

static const double node_patience_s = 5, patience_s = 3;

typedef struct leaving {
    fb_world *world;
    double began;
    bool announced, node_told;
} leaving;

static bool is_closing(const fb_world *world, int rank)
{
    if (fbi_is_remote(world, rank))
        return world->mpi->closing[rank] == FBI_NOTICE_CLOSED;
    const fbi_page_rank *e = &world->page->rank[world->peers[rank].local];
    return rank == world->rank || atomic_load(&e->state) == FBI_RANK_CLOSING;
}

static int next_missing(void *self, int from)
{
    const leaving *l = self;
    for (int r = from; r < l->world->size; r++)
        if (!is_closing(l->world, r))
            return r;
    return -1;
}

static bool node_is_closing(const fb_world *world)
{
    for (int r = 0; r < world->size; r++)
        if (!fbi_is_remote(world, r) && !is_closing(world, r))
            return false;
    return true;
}

/* The first rank of a node speaks for all of it; a rank that waits long speaks for itself, in case
 * another node waits for it. */
static bool all_closing(void *self)
{
    leaving *l = self;
    fb_world *world = l->world;
    if (world->notices && !l->node_told && node_is_closing(world)) {
        l->node_told = true;
        if (world->local_rank == 0 || !world->page_shared)
            fbi_control_send(world, FBI_NOTICE_CLOSED, world->own->text);
    }
    bool late = world->own->status != FB_OK || fbi_now() - l->began > 0.5;
    if (world->notices && !l->announced && !l->node_told && late) {
        l->announced = true;
        fbi_control_send(world, FBI_NOTICE_CLOSING, world->own->text);
    }
    if (world->notices && !l->node_told)
        return false; /* others wait to be told, even if the last rank closes just now */
    return next_missing(l, 0) < 0;
}

/* The context's error with its place, as fb_context_close would print it. */
static void own_error(const fb_context *ctx, char *buf, size_t size)
{
    char where[160];
    if (ctx->error_label[0])
        snprintf(buf, size, "%s (at %s)", fb_error_message(ctx), ctx->error_label);
    else if (ctx->error_site)
        snprintf(buf, size, "%s (at %s)", fb_error_message(ctx),
                 fbi_site_text(ctx->error_site, where, sizeof where));
    else
        snprintf(buf, size, "%s", fb_error_message(ctx));
}

/* Several ranks of a node often have the same error: the lowest of them says it for all. */
static void print_own_error(const fb_world *world)
{
    const char *text = world->own->text;
    if (world->size == 1) {
        fbi_logline("%s", text);
        return;
    }
    bool *same = calloc((size_t)world->size, sizeof *same);
    bool first = true;
    for (int r = 0; r < world->size; r++) {
        const fbi_page_rank *e = &world->page->rank[world->peers[r].local];
        if (r != world->rank && fbi_is_remote(world, r))
            continue;
        bool equal = r == world->rank || (e->status == world->own->status &&
                                          strncmp(e->text, text, sizeof e->text) == 0);
        if (same)
            same[r] = equal;
        if (equal && r < world->rank)
            first = false;
    }
    char ranks[128] = "";
    if (first)
        fbi_logline("%s: %s",
                    same ? fbi_ranks_text(same, world->size, ranks, sizeof ranks) : "rank", text);
    free(same);
}

static bool is_alive(const fbi_peer *p)
{
    char state = '?';
    if (!p->watched)
        return true;
    return fbi_process_start(p->pid, &state) == p->start && state != 'Z' && state != 'X' &&
           state != 'T';
}

/* The living ranks of this node that have not said what ended the job. *alive: there are no others;
 * *first: none of a lower number lives. */
static int node_silent(const fb_world *world, bool *alive, bool *first)
{
    int silent = 0;
    *alive = *first = true;
    for (int r = 0; r < world->size; r++) {
        if (r == world->rank || fbi_is_remote(world, r))
            continue;
        bool lives = is_alive(&world->peers[r]);
        *alive = *alive && lives;
        *first = *first && !(lives && r < world->rank);
        silent += lives && !atomic_load(&world->page->rank[world->peers[r].local].printed);
    }
    return silent;
}

static int remote_silent(const fb_world *world)
{
    int silent = 0;
    for (int r = 0; r < world->size && world->notices; r++)
        silent += fbi_is_remote(world, r) && !world->mpi->printed[r];
    return silent;
}

/* Stay until all ranks have said what ended the job: mpirun ends all of them soon after the first
 * has gone. Whether ranks of other nodes live is not known, so they get less time.
 * @return whether all of this node are alive */
static bool wait_until_printed(fb_world *world)
{
    bool told = !world->notices;
    for (double began = fbi_now();;) {
        bool alive, first;
        int silent = node_silent(world, &alive, &first);
        if (!silent && !told && first) {
            told = true;
            fbi_control_send(world, FBI_NOTICE_PRINTED, "");
        }
        if (world->notices)
            fbi_control_poll(world);
        double waited = fbi_now() - began;
        if (silent ? waited > node_patience_s : !remote_silent(world) || waited > patience_s)
            return alive;
        nanosleep(&(struct timespec){0, 5 * 1000 * 1000}, NULL);
    }
}

bool fbi_world_leave(fb_world *world)
{
    fb_context *ctx = world->ctx;
    leaving l = {.world = world, .began = fbi_now()};
    fbi_page_rank *own = world->own;
    own_error(ctx, own->text, sizeof own->text);
    own->status = (int32_t)fb_status_of(ctx);
    own->sig = (fbi_signature){.kind = FBI_KIND_CLOSE};
    fbi_waitable what = {all_closing, next_missing, NULL, &own->sig, &l, true};
    if (!world->poisoned) {
        atomic_store(&own->state, FBI_RANK_CLOSING);
        fbi_wait(world, &what);
        fbi_world_check(world); /* the last one may close because it has poisoned the world */
    }
    if (own->status && !world->poisoned)
        print_own_error(world);
    atomic_store(&own->printed, 1);
    atomic_store(&own->state, FBI_RANK_CLOSING);
    return !world->poisoned;
}

FB_API fb_status fb_world_close(fb_world *world)
{
    if (!world)
        return FB_E_ARG;
    fb_context *ctx = world->ctx;
    if (world->saver)
        world->saver_finish(world);
    fb_status status = fb_status_of(ctx);
    if (!status && world->stop_signalled)
        status = FB_AGAIN;
    if (!status && world->unsaved)
        status = FB_E_IO; /* a warning has said so */
    bool orderly = fbi_world_leave(world);
    if (!orderly && (!status || status == FB_AGAIN))
        status = FB_E_COMM;
    bool alive = orderly || world->guest || wait_until_printed(world);
    if (!alive) {
        fflush(NULL);
        _exit((int)status); /* MPI would wait for the dead */
    }
    fbi_links_close(world, orderly);
    fbi_works_free(world);
    fb_error_take(ctx, NULL, 0); /* it has been printed */
    ctx->is_worlds = false;
    fb_context_close(ctx);
    for (fb_group *g = world->groups, *next; g; g = next) {
        next = g->next;
        fbi_group_free(g);
    }
    if (world->signals)
        fbi_signals_restore();
    if (world->may_speak)
        fbi_crash_restore();
    fbi_plane_close(world);
    fbi_control_close(world);
    fbi_boot_undo(world, orderly);
    if (world->guest)
        fbi_log_quiet(false);
    free(world->leases);
    free(world);
    return status;
}
