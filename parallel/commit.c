/* The end of a step: every rank tells every other one where it is; nothing is applied unless all
 * are at the same place. */
#include <stdlib.h>
#include <string.h>

#include "parallel/ddp_priv.h"

/* What a rank tells, followed by what its leaves counted (a double each, as many for every rank),
 * and by one byte for each parameter: it has had a gradient. */
typedef struct packet {
    int64_t commits, epoch, step; /* step and epoch of fb_context_batch */
    uint64_t layout, weights;
    double busy;
    uint8_t stop, not_finite, counted, plain, pad[4];
} packet;

/* What all of them told. */
typedef struct verdict {
    bool not_finite;
    int counted, plain; /* a rank whose losses gave a count; one whose losses gave none; -1: none */
    double count;
} verdict;

static int most_leaves(const fb_group *g)
{
    return (g->shards + g->size - 1) / g->size;
}

static double *counts_of(char *p)
{
    return (double *)(void *)(p + sizeof(packet));
}

static bool *used_of(const fbi_ddp *d, char *p)
{
    return (bool *)(counts_of(p) + most_leaves(d->group));
}

fb_status fbi_ddp_commit_open(fbi_ddp *d)
{
    size_t counts = (size_t)most_leaves(d->group) * sizeof(double), used = (size_t)d->n_params;
    d->packet_bytes = (sizeof(packet) + counts + used + 7) / 8 * 8;
    d->packets = calloc((size_t)d->group->size + 1, d->packet_bytes);
    d->counts = calloc((size_t)d->group->n_leaves + 1, sizeof *d->counts);
    d->leaf_counts = calloc((size_t)d->group->shards + 1, sizeof *d->leaf_counts);
    /* A view for each bucket and the statistics, or one for each parameter, which are no fewer. */
    d->views = calloc((size_t)d->n_params + 1, sizeof *d->views);
    d->named = calloc((size_t)d->n_params + 1, sizeof *d->named);
    d->squares = calloc((size_t)d->n_params + 1, sizeof *d->squares);
    d->hashes = calloc((size_t)d->group->size, sizeof *d->hashes);
    if (!d->packets || !d->counts || !d->leaf_counts || !d->views || !d->named || !d->squares ||
        !d->hashes || !fbi_ddp_pace_open(d))
        return fbi_fail(d->ctx, FB_E_NOMEM, "ddp_attach: no memory");
    return FB_OK;
}

void fbi_ddp_commit_close(fbi_ddp *d)
{
    free(d->packets);
    free(d->counts);
    free(d->leaf_counts);
    free(d->views);
    free(d->named);
    fbi_storage_unref(d->ctx, d->count);
    free(d->squares);
    free(d->hashes);
    free(d->pace.busy);
}

/* --- are they finite? --- */

static fbi_flat_view view_of(const fbi_block *k, int64_t begin, int64_t n)
{
    const char *grads = fbi_ptr(k->flat->grads);
    return (fbi_flat_view){k->flat->dtype, grads + (size_t)begin * k->size, n};
}

/* The sums are the same on every rank: each looks at its part of them. */
static bool own_part_finite(const fbi_ddp *d)
{
    const fb_group *g = d->group;
    int64_t n = 0;
    for (int i = 0; i < d->n_buckets; i++) {
        const fbi_bucket *b = &d->buckets[i];
        int64_t begin = b->n * g->rank / g->size, end = b->n * (g->rank + 1) / g->size;
        if (fbi_ddp_trained(b))
            d->views[n++] = view_of(b->block, b->begin + begin, end - begin);
    }
    if (d->norms.row)
        d->views[n++] = (fbi_flat_view){FB_F64, d->norms.total->data, d->norms.row};
    return fbi_all_finite(d->ctx, d->views, n);
}

/* The blocks begin with what backward reaches first: trouble of the loss shows there. */
static const char *first_bad(const fbi_ddp *d)
{
    for (const fbi_block *k = d->blocks; k; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++) {
            const fbi_flat_param *p = &k->flat->params[i];
            fbi_flat_view v = view_of(k, p->begin, p->n);
            if (p->t->leaf->state == FBI_GRAD_LIVE && !fbi_all_finite(d->ctx, &v, 1))
                return p->name;
        }
    return NULL;
}

void fbi_ddp_learned(void *self, const fb_batch_info *at, const char *name)
{
    fbi_ddp *d = self;
    d->stats.skipped++;
    if (d->group->rank)
        return;
    if (name)
        fbi_skipped(at, d->stats.skipped, "the gradient of %s is not finite", name);
    else
        fbi_skipped(at, d->stats.skipped, "batch statistics are not finite");
}

/* --- the exchange --- */

/* On a device nobody waits to look: every rank looks at all sums there, and finds the same. */
static void fill_own(const fbi_ddp *d, char *p)
{
    const fb_context *ctx = d->ctx;
    bool finite = !ctx->backend->host_memory || own_part_finite(d);
    packet own = {.commits = d->stats.steps,
                  .epoch = ctx->in_step ? ctx->batch.epoch : -1,
                  .step = ctx->in_step ? ctx->batch.step : -1,
                  .layout = d->layout,
                  .weights = fbi_ddp_weights_hash(d),
                  .busy = fbi_ddp_pace_busy(d),
                  .stop = fbi_stop_wish(d->group->world),
                  .not_finite = !finite,
                  .counted = d->counted,
                  .plain = d->plain};
    memcpy(p, &own, sizeof own);
    memcpy(counts_of(p), d->counts, (size_t)d->group->n_leaves * sizeof *d->counts);
    memcpy(used_of(d, p), d->used, (size_t)d->n_params);
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
static void mark_unused(fbi_ddp *d, const bool *used)
{
    for (fbi_block *k = d->blocks; k; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++)
            if (!used[k->first_used + i])
                k->flat->params[i].t->leaf->state = FBI_GRAD_NONE;
}

/* Rank r's part of the verdict; `used` is joined into the first packet. */
static void join(fbi_ddp *d, int r, char *all, verdict *v)
{
    const fb_group *g = d->group;
    char *from = all + (size_t)r * d->packet_bytes;
    packet theirs;
    memcpy(&theirs, from, sizeof theirs);
    fbi_stop_join(g->world, theirs.stop);
    v->not_finite |= theirs.not_finite;
    if (theirs.counted && v->counted < 0)
        v->counted = r;
    if (theirs.plain && v->plain < 0)
        v->plain = r;
    int first = fbi_first_leaf(g->shards, g->size, r);
    int end = fbi_first_leaf(g->shards, g->size, r + 1);
    memcpy(d->leaf_counts + first, counts_of(from), (size_t)(end - first) * sizeof(double));
    bool *used = used_of(d, all);
    const bool *also = used_of(d, from);
    for (int i = 0; i < d->n_params; i++)
        used[i] |= also[i];
}

static fb_status exchange(fbi_ddp *d, verdict *v)
{
    const fb_group *g = d->group;
    char *mine = d->packets, *all = d->packets + d->packet_bytes;
    *v = (verdict){.counted = -1, .plain = -1};
    fill_own(d, mine);
    fb_status st = fbi_group_gather(d->group, "commit", mine, d->packet_bytes, all);
    packet own, theirs;
    memcpy(&own, mine, sizeof own);
    for (int r = 0; r < g->size && !st; r++) {
        memcpy(&theirs, all + (size_t)r * d->packet_bytes, sizeof theirs);
        st = compare(d, &own, r, &theirs);
        d->hashes[r] = theirs.weights;
        fbi_ddp_pace_note(d, r, theirs.busy);
        join(d, r, all, v);
    }
    if (!st)
        st = fbi_ddp_weights_compare(d, d->hashes);
    if (st)
        return st;
    if (v->counted >= 0 && v->plain >= 0)
        return fbi_fail(d->ctx, FB_E_STATE,
                        "optim_step: a backward of rank %d gave a count and one of rank %d did "
                        "not; all backwards of a step must, or none",
                        v->counted, v->plain);
    v->count = v->counted >= 0 ? fbi_tree_sum(d->leaf_counts, g->shards, 1) : 1;
    mark_unused(d, used_of(d, all));
    return FB_OK;
}

/* Squared norm of the summed gradients: the same on every rank, since the sums are. */
static double norm2(const fbi_ddp *d)
{
    int64_t n = 0;
    double total = 0;
    for (const fbi_block *k = d->blocks; k; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++)
            if (k->flat->params[i].t->leaf->state == FBI_GRAD_LIVE)
                d->views[n++] = view_of(k, k->flat->params[i].begin, k->flat->params[i].n);
    fbi_sums_of_squares(d->ctx, d->views, n, d->squares);
    for (int64_t i = 0; i < n; i++)
        total += d->squares[i];
    return total;
}

static fb_status answer(fbi_ddp *d, const verdict *v, fbi_commit *c)
{
    fb_status st = FB_OK;
    if (v->not_finite)
        fbi_ddp_learned(d, fbi_step_of(d->ctx), first_bad(d));
    else
        st = fbi_ddp_norms_apply(d, NULL);
    c->finite = !v->not_finite;
    c->apply = c->finite && v->count > 0;
    c->scale = v->count > 0 ? 1 / v->count : 1;
    if (c->want_norm && !st)
        c->norm2 = norm2(d);
    return st;
}

/* --- on a device: what is to be looked at there --- */

/* In order of the blocks, for the sake of who is blamed; what was not reached is zero. */
static void fill_views(const fbi_ddp *d, fbi_commit *c)
{
    int64_t n = 0;
    for (const fbi_block *k = d->blocks; k; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++) {
            const fbi_flat_param *p = &k->flat->params[i];
            if (fbi_ddp_trained(&d->buckets[k->bucket_of[i]]))
                d->named[n++] = (fbi_named_view){p->name, k->flat->grads->storage, k->flat->dtype,
                                                 k->flat->grads->offset + p->begin, p->n};
        }
    c->views = d->named;
    c->n_views = n;
    if (d->norms.row)
        c->also = (fbi_named_view){
            .block = d->norms.total, .dtype = FB_F64, .begin = 0, .n = d->norms.row};
}

fb_status fbi_ddp_judged(void *self, const int64_t *fine)
{
    return fbi_ddp_norms_apply(self, fine);
}

fb_status fbi_ddp_commit(void *self, fbi_commit *c)
{
    fbi_ddp *d = self;
    bool host = d->ctx->backend->host_memory;
    double t0 = fbi_now();
    verdict v;
    fb_status st = d->summed ? FB_OK : fbi_ddp_settle(d);
    if (!st)
        st = fbi_ddp_norms_sum(d);
    if (!st)
        st = exchange(d, &v);
    if (!st && host)
        st = answer(d, &v, c);
    if (!st && !host)
        fill_views(d, c);
    if (!st && !host && v.counted >= 0)
        st = fbi_ddp_count_sum(d, &c->count);
    c->apply &= !st;
    if (st)
        return st;
    if (d->stats.steps++ == 0)
        st = fbi_ddp_tune(d);
    d->stats.seconds += fbi_now() - t0;
    fbi_ddp_pace_step(d);
    return st;
}
