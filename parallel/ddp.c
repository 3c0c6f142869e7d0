#include <stdlib.h>

#include "core/optim/optim_priv.h"
#include "parallel/ddp_priv.h"

static void ddp_close(void *object)
{
    fbi_ddp *d = object;
    fbi_backward_hook_remove(d->ctx, &d->hook);
    fbi_reducer_set(d->root, NULL);
    fbi_ddp_norms_close(d);
    fbi_ddp_blocks_close(d);
    free(d);
}

/* A backward begins: if it belongs to another leaf, the one before is complete. */
static void begin(void *self)
{
    fbi_ddp *d = self;
    int leaf = d->ctx->in_step ? (int)d->ctx->batch.shard : d->group->first_leaf;
    d->by_hand = !d->ctx->in_step;
    if (d->leaf >= 0 && d->leaf != leaf)
        fbi_ddp_push(d); /* a failure is on the context */
    d->leaf = leaf;
}

static fb_status finished(void *self)
{
    (void)self;
    return FB_OK;
}

/* Squared norm of the summed gradients: the same on every rank, since the sums are. */
static double norm2(const fbi_ddp *d)
{
    double total = 0;
    for (const fbi_block *b = d->blocks; b; b = b->next)
        for (int i = 0; i < b->flat->n_params; i++)
            total += fbi_sum_squares(b->flat->params[i].t->leaf->grad, d->ctx->threads);
    return total;
}

/* What every rank tells the others once per step. */
typedef struct packet {
    int64_t step, stop;
} packet;

static fb_status exchange(fbi_ddp *d)
{
    fb_world *w = d->group->world;
    packet mine = {.step = d->stats.steps, .stop = w->stop_wanted || fbi_signal_stop()};
    packet *all = malloc((size_t)d->group->size * sizeof *all);
    if (!all)
        return fbi_fail(d->ctx, FB_E_NOMEM, "fb_optim_step: no memory");
    fb_status st = fbi_group_gather(d->group, "commit", &mine, sizeof mine, all);
    for (int r = 0; !st && r < d->group->size; r++) {
        if (all[r].step != mine.step)
            st = fbi_fail(d->ctx, FB_E_COMM,
                          "fb_optim_step: rank %d is at step %lld, rank %d at %lld: every rank "
                          "must make the same calls",
                          r, (long long)all[r].step, d->group->rank, (long long)mine.step);
        w->stop_agreed |= all[r].stop != 0;
    }
    free(all);
    return st;
}

static fb_status commit(void *self, fbi_commit *c)
{
    fbi_ddp *d = self;
    double t0 = fbi_now();
    if (d->by_hand && d->group->shards != d->group->size)
        return fbi_fail(d->ctx, FB_E_STATE,
                        "fb_optim_step: %d shards on %d ranks need a loader (or fb_context_batch), "
                        "which says which leaf is computed",
                        d->group->shards, d->group->size);
    if (d->leaf < 0)
        d->leaf = d->group->first_leaf; /* no backward: zeros */
    fb_status st = fbi_ddp_push(d);
    if (!st)
        st = fbi_ddp_sum(d);
    if (!st)
        st = fbi_ddp_norms_update(d);
    if (!st)
        st = exchange(d);
    d->leaf = -1;
    if (st)
        return st;
    c->scale = d->by_hand ? 1.0 / d->group->size : 1;
    c->norm2 = c->want_norm ? norm2(d) : 0;
    d->stats.steps++;
    d->stats.seconds += fbi_now() - t0;
    return FB_OK;
}

fb_status fb_ddp_attach(fb_group *group, fb_module *model, const fb_ddp_options *opts)
{
    if (!group || !model)
        return group ? fb_status_of(fbi_group_context(group)) : FB_E_ARG;
    fb_context *ctx = fbi_group_context(group);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    fbi_ddp *d = calloc(1, sizeof *d);
    if (!d)
        return fbi_fail(ctx, FB_E_NOMEM, "fb_ddp_attach: no memory");
    d->ctx = ctx;
    d->group = group;
    d->root = model;
    d->leaf = -1;
    d->bucket_bytes = opts ? opts->bucket_bytes : 0;
    d->hook = (fbi_backward_hook){.begin = begin, .finished = finished, .self = d};
    d->reducer = (fbi_reducer){.self = d, .root = model, .commit = commit};
    fb_status st = fbi_reducer_set(model, &d->reducer);
    if (st) {
        free(d);
        return st;
    }
    st = fbi_ddp_blocks_open(d);
    if (!st)
        st = fbi_ddp_agree(d);
    if (!st)
        st = fbi_ddp_norms_open(d);
    if (!st)
        st = fbi_nn_adopt(model, d, ddp_close);
    if (st) {
        fbi_reducer_set(model, NULL);
        fbi_ddp_norms_close(d);
        fbi_ddp_blocks_close(d);
        free(d);
        return st;
    }
    group->world->attached++;
    return fbi_backward_hook_add(ctx, &d->hook);
}

fb_status fb_ddp_stats_of(fb_module *model, fb_ddp_stats *stats)
{
    *stats = (fb_ddp_stats){0};
    fbi_reducer *r = model ? fbi_reducer_of(model) : NULL;
    if (!r || r->commit != commit)
        return FB_E_STATE;
    *stats = ((fbi_ddp *)r->self)->stats;
    return FB_OK;
}
