/* The end of a step: every rank tells every other one where it is; nothing is applied unless all
 * are at the same place. */
#include <stdlib.h>
#include <string.h>

#include "parallel/ddp_priv.h"

/* What a rank tells, followed by one byte for each parameter: it has had a gradient. */
typedef struct packet {
    int64_t commits, epoch, step; /* step and epoch of fb_context_batch */
    uint64_t layout;
    uint64_t stop;
} packet;

static packet own_packet(const fbi_ddp *d)
{
    const fb_context *ctx = d->ctx;
    const fb_world *w = d->group->world;
    return (packet){.commits = d->stats.steps,
                    .epoch = ctx->in_step ? ctx->batch.epoch : -1,
                    .step = ctx->in_step ? ctx->batch.step : -1,
                    .layout = d->layout,
                    .stop = w->stop_wanted || fbi_signal_stop()};
}

static fb_status compare(const fbi_ddp *d, const packet *mine, int r, const packet *theirs)
{
    if (theirs->commits != mine->commits)
        return fbi_fail(
            d->ctx, FB_E_COMM,
            "optim_step: rank %d has done %lld steps, rank %d %lld: every rank must call "
            "it equally often; the step is not applied",
            r, (long long)theirs->commits, d->group->rank, (long long)mine->commits);
    if (theirs->step != mine->step || theirs->epoch != mine->epoch)
        return fbi_fail(
            d->ctx, FB_E_COMM,
            "optim_step: rank %d is at step %lld of epoch %lld, rank %d at step %lld of "
            "epoch %lld: do all ranks use the same loader? The step is not applied",
            r, (long long)theirs->step, (long long)theirs->epoch, d->group->rank,
            (long long)mine->step, (long long)mine->epoch);
    if (theirs->layout != mine->layout)
        return fbi_fail(d->ctx, FB_E_COMM,
                        "optim_step: ranks %d and %d step different models: is there one optimizer "
                        "step for each model on every rank? The step is not applied",
                        r, d->group->rank);
    return FB_OK;
}

/* What no rank used has no gradient. */
static void mark_used(fbi_ddp *d, const bool *used)
{
    for (fbi_block *k = d->blocks; k; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++)
            if (!used[k->first_used + i])
                k->flat->params[i].t->leaf->state = FBI_GRAD_NONE;
    memset(d->used, 0, (size_t)d->n_params * sizeof *d->used);
}

static fb_status exchange(fbi_ddp *d)
{
    size_t bytes = sizeof(packet) + (size_t)d->n_params;
    char *mine = malloc(bytes), *all = malloc(bytes * (size_t)d->group->size);
    packet own = own_packet(d);
    fb_status st = FB_OK;
    if (!mine || !all)
        st = fbi_fail(d->ctx, FB_E_NOMEM, "optim_step: no memory");
    if (!st) {
        memcpy(mine, &own, sizeof own);
        memcpy(mine + sizeof own, d->used, (size_t)d->n_params);
        st = fbi_group_gather(d->group, "commit", mine, bytes, all);
    }
    bool *used = (bool *)(void *)mine + sizeof own;
    for (int r = 0; r < d->group->size && !st; r++) {
        packet theirs;
        const char *from = all + (size_t)r * bytes;
        memcpy(&theirs, from, sizeof theirs);
        st = compare(d, &own, r, &theirs);
        d->group->world->stop_agreed |= theirs.stop != 0;
        for (int i = 0; i < d->n_params; i++)
            used[i] |= from[sizeof own + (size_t)i] != 0;
    }
    if (!st)
        mark_used(d, used);
    free(mine);
    free(all);
    return st;
}

/* Squared norm of the summed gradients: the same on every rank, since the sums are. */
static double norm2(const fbi_ddp *d)
{
    double total = 0;
    for (const fbi_block *k = d->blocks; k; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++)
            if (k->flat->params[i].t->leaf->state == FBI_GRAD_LIVE)
                total += fbi_sum_squares(k->flat->params[i].t->leaf->grad, d->ctx->threads);
    return total;
}

fb_status fbi_ddp_commit(void *self, fbi_commit *c)
{
    fbi_ddp *d = self;
    double t0 = fbi_now();
    fb_status st = d->summed ? FB_OK : fbi_ddp_settle(d);
    if (!st)
        st = fbi_ddp_norms_update(d);
    if (!st)
        st = exchange(d);
    if (st) {
        c->apply = false;
        return st;
    }
    c->scale = 1;
    c->norm2 = c->want_norm ? norm2(d) : 0;
    d->stats.steps++;
    d->stats.seconds += fbi_now() - t0;
    return FB_OK;
}
