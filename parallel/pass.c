/* What a backward means for the gradients of an attached model.
 *
 * Micro-batches of one leaf accumulate in the flat blocks. When a backward of the next leaf begins,
 * the leaf before goes onto the stacks. In the backward of the last micro-batch the buckets leave
 * as they become ready, always in the order of their numbers, and are complete when it ends. */
#include <stdlib.h>
#include <string.h>

#include "core/tensor/device_priv.h"
#include "parallel/ddp_priv.h"

int fbi_ddp_leaf(const fbi_ddp *d)
{
    /* Leaves are counted for one group; in another each rank's backward is one. */
    bool counts = d->ctx->in_step && d->group == d->group->world->lead;
    return counts ? (int)d->ctx->batch.shard : d->group->first_leaf;
}

/* The loader fills an empty leaf with a copy of some sample, and share 0. */
bool fbi_ddp_is_absent(const fbi_ddp *d)
{
    return d->ctx->in_step && !(d->ctx->batch.share > 0);
}

static bool leaf_fits(fbi_ddp *d, int leaf)
{
    const fb_group *g = d->group;
    if (!d->ctx->in_step && g->n_leaves != 1)
        fbi_fail(d->ctx, FB_E_STATE,
                 "ddp: %d shards on %d ranks need a loader (or fb_context_batch), which says which "
                 "shard is computed",
                 g->shards, g->size);
    else if (leaf < g->first_leaf || leaf >= g->first_leaf + g->n_leaves)
        fbi_fail(d->ctx, FB_E_STATE,
                 "ddp: backward of shard %d on rank %d, which has shards %d to %d", leaf, g->rank,
                 g->first_leaf, g->first_leaf + g->n_leaves - 1);
    else if (leaf < d->next)
        fbi_fail(d->ctx, FB_E_STATE,
                 "ddp: backward of shard %d after one of shard %d: shards of a step come in order",
                 leaf, d->next - 1);
    return d->ctx->status == FB_OK;
}

/* Sums that are still wanted make room for new gradients. */
static fb_status keep_sums(fbi_ddp *d)
{
    bool live = fbi_ddp_live(d);
    fb_status st = FB_OK;
    for (fbi_block *k = d->blocks; k && live && !st; k = k->next) {
        size_t bytes = (size_t)k->flat->n * k->size;
        if (!k->kept)
            k->kept = fbi_storage_new(d->ctx, bytes);
        if (!k->kept)
            return d->ctx->status;
        st = d->ctx->backend->copy(d->ctx, k->kept->data, fbi_ptr(k->flat->grads), bytes);
        if (!st)
            st = fbi_ddp_clear_unused(k, k->kept->data, 0, k->flat->n_params);
    }
    d->kept = live && !st;
    return st;
}

/* Nothing of older gradients is wanted any more. */
static fb_status begin_step(fbi_ddp *d)
{
    memset(d->used, 0, (size_t)d->n_params * sizeof *d->used);
    memset(d->counts, 0, (size_t)d->group->n_leaves * sizeof *d->counts);
    d->counted = d->plain = false;
    return d->ctx->backend->host_memory ? FB_OK : fbi_ddp_count_clear(d);
}

static fb_status open_leaf(fbi_ddp *d, int leaf, int64_t step)
{
    fb_status st = FB_OK;
    if (d->next == d->group->first_leaf) {
        st = keep_sums(d);
        if (!d->kept && !st)
            st = begin_step(d);
    }
    d->summed = false;
    d->open = true;
    d->leaf = leaf;
    d->step = step;
    for (fbi_block *k = d->blocks; k; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++)
            k->flat->params[i].t->leaf->state = FBI_GRAD_NONE;
    return st;
}

static fb_status note_count(fbi_ddp *d)
{
    const fbi_pass_count *now = &d->ctx->pass_count;
    if (fbi_ddp_is_absent(d))
        return FB_OK;
    d->counted |= now->counted;
    d->plain |= !now->counted;
    d->counts[d->leaf - d->group->first_leaf] += now->counted ? now->count : 0;
    return now->on_device ? fbi_ddp_count_add(d) : FB_OK;
}

/* The first parameter of ours that this backward reaches. */
static fb_status begin_pass(fbi_ddp *d)
{
    fb_context *ctx = d->ctx;
    int leaf = fbi_ddp_leaf(d);
    int64_t step = ctx->in_step ? ctx->batch.step : -1;
    fb_status st = FB_OK;
    bool begun = d->open || d->next > d->group->first_leaf;
    if (begun &&
        d->step != step) /* the last step was never committed: its sums count as they are */
        st = fbi_ddp_settle(d);
    else if (d->open && d->leaf != leaf)
        st = fbi_ddp_push(d);
    if (d->summed && d->step == step && step >= 0 && d->group->world->shards)
        return fbi_fail(ctx, FB_E_STATE,
                        "ddp: a second backward in the same micro-batch, after the gradients were "
                        "summed: call fb_ddp_no_sync(model, true) before the first");
    if (!st && !leaf_fits(d, leaf))
        st = ctx->status;
    bool absent = fbi_ddp_is_absent(d) && (!d->open || d->absent);
    if (!st && !d->open)
        st = open_leaf(d, leaf, step);
    if (!st)
        st = note_count(d);
    d->absent = absent;
    d->sums = !d->no_sync && (!ctx->in_step || ctx->batch.last);
    d->next_bucket = 0;
    for (int i = 0; i < d->n_buckets; i++)
        d->buckets[i].pending = fbi_ddp_trained(&d->buckets[i]);
    return st;
}

/* With nothing left in the blocks the leaves before are given up too. */
void fbi_ddp_zeroed(void *self)
{
    fbi_ddp *d = self;
    if (d->summed || fbi_ddp_live(d))
        return;
    fbi_ddp_forget(d);
    fbi_ddp_norms_forget(d);
}

void fbi_ddp_begin(void *self)
{
    ((fbi_ddp *)self)->in_pass = false;
}

void fbi_ddp_prepare(void *self, fbi_leaf *leaf)
{
    fbi_ddp *d = ((fbi_block *)self)->ddp;
    (void)leaf;
    if (d->in_pass || d->ctx->off)
        return;
    d->in_pass = true;
    begin_pass(d); /* a failure is on the context, and ends the backward */
}

void fbi_ddp_ready(void *self, fbi_leaf *leaf)
{
    fbi_block *k = self;
    fbi_ddp *d = k->ddp;
    if (!d->in_pass || d->ctx->off)
        return;
    d->used[k->first_used + (int)leaf->index] |= leaf->state == FBI_GRAD_LIVE && !d->absent;
    d->buckets[k->bucket_of[leaf->index]].pending--;
    if (!d->sums)
        return;
    int64_t before = d->stats.buckets;
    while (d->next_bucket < d->n_buckets && d->buckets[d->next_bucket].pending == 0)
        if (fbi_ddp_launch(d, &d->buckets[d->next_bucket++]))
            return;
    d->stats.early += d->stats.buckets - before;
    fbi_world_poke(d->group->world);
}

fb_status fbi_ddp_finished(void *self)
{
    fbi_ddp *d = self;
    if (!d->in_pass || !d->sums)
        return FB_OK;
    double t0 = fbi_now();
    d->in_pass = false;
    fb_status st = fbi_ddp_settle(d);
    d->stats.seconds += fbi_now() - t0;
    return st;
}
