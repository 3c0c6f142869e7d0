/* Batch-norm statistics: given by each leaf's forward, averaged over the leaves along the same tree
 * as the gradients, in double, and put into the running buffers once per step. */
#include <stdlib.h>
#include <string.h>

#include "core/nn/module_priv.h"
#include "core/ops/backend.h"
#include "parallel/ddp_priv.h"

static fb_status close_leaf(fbi_ddp *d)
{
    fbi_norms *s = &d->norms;
    int next = s->carry.depth ? s->next : d->group->first_leaf;
    fb_status st = FB_OK;
    for (int k = next; k < s->leaf && !st; k++)
        st = fbi_carry_push(&s->carry, k, NULL, false);
    if (!st)
        st = fbi_carry_push(&s->carry, s->leaf, s->values->data, false);
    s->next = s->leaf + 1;
    s->leaf = -1;
    return st;
}

/* Make the row that of the leaf which the context works on, beginning it if need be. */
static fb_status open_leaf(fbi_ddp *d)
{
    fbi_norms *s = &d->norms;
    int leaf = fbi_ddp_leaf(d);
    fb_status st = s->leaf < 0 || s->leaf == leaf ? FB_OK : close_leaf(d);
    if (!st && s->carry.depth && leaf < s->next) { /* of a step that was given up */
        fbi_carry_clear(&s->carry);
        s->leaf = -1;
    }
    if (st || s->leaf >= 0)
        return st;
    s->leaf = leaf;
    return d->ctx->backend->fill_zero(d->ctx, s->values->data, (size_t)s->row * sizeof(double));
}

/* --- the loops, where the host has the memory; core/cuda/statistics.cu are the others --- */

static void add_to_row(const fbi_statistics *s)
{
    *s->weight += s->share;
    for (int64_t i = 0; i < s->n; i++) {
        s->row[i] += s->share * (double)s->mean[i];
        s->row[s->n + i] += s->share * (double)s->var[i];
    }
}

static void blend(const fbi_statistics *s)
{
    double momentum = s->momentum, total = *s->total;
    if (!(total > 0))
        return;
    for (int64_t i = 0; i < s->n; i++) {
        s->mean[i] = (float)((1 - momentum) * (double)s->mean[i] + momentum * s->row[i] / total);
        s->var[i] =
            (float)((1 - momentum) * (double)s->var[i] + momentum * s->row[s->n + i] / total);
    }
    if (s->count)
        ++*s->count;
}

static fb_status run(fb_context *ctx, const fbi_statistics *s)
{
    if (!ctx->backend->host_memory)
        return ctx->backend->statistics(ctx, s);
    (s->total ? blend : add_to_row)(s);
    return FB_OK;
}

/* Place of a layer's weight in the row of a leaf. */
static int64_t weight_of(const fbi_ddp *d, const fbi_norm *norm)
{
    return d->norms.row - d->norms.n + (norm - d->norms.norm);
}

/* A layer that is called several times for one leaf counts with the mean of its calls;
 * micro-batches of a leaf count by their shares. */
static fb_status give(void *self, fb_module *layer, fb_tensor *mean, fb_tensor *var)
{
    (void)layer;
    fbi_norm *norm = self;
    fbi_ddp *d = norm->ddp;
    if (fbi_ddp_is_absent(d))
        return FB_OK; /* a copy of some sample that fills an empty leaf */
    if (fb_dtype_of(mean) != FB_F32 || !fbi_contiguous(mean) || !fbi_contiguous(var))
        return fbi_fail(d->ctx, FB_E_DTYPE, "ddp: batch statistics must be F32, got %s",
                        fb_dtype_name(fb_dtype_of(mean)));
    fb_status st = open_leaf(d);
    if (st)
        return st;
    double share = d->ctx->in_step ? d->ctx->batch.share : 1.0 / d->group->size;
    double *row = d->norms.values->data;
    return run(d->ctx, &(fbi_statistics){.n = norm->n,
                                         .row = row + norm->at,
                                         .weight = row + weight_of(d, norm),
                                         .share = share,
                                         .mean = fbi_ptr(mean),
                                         .var = fbi_ptr(var)});
}

static fb_status add_norm(fb_module *layer, fbi_running running, void *user)
{
    fbi_ddp *d = user;
    fbi_norms *s = &d->norms;
    if (!running.mean)
        return FB_OK;
    fbi_norm *grown = realloc(s->norm, (size_t)(s->n + 1) * sizeof *grown);
    if (!grown)
        return fbi_fail(d->ctx, FB_E_NOMEM, "ddp_attach: no memory");
    s->norm = grown;
    grown[s->n++] = (fbi_norm){
        .layer = layer, .running = running, .at = s->row, .n = fb_numel(running.mean), .ddp = d};
    s->row += 2 * fb_numel(running.mean);
    return FB_OK;
}

fb_status fbi_ddp_norms_open(fbi_ddp *d)
{
    fbi_norms *s = &d->norms;
    s->leaf = -1;
    fb_status st = fbi_nn_each_norm(d->root, add_norm, d);
    if (st || !s->row)
        return st;
    s->row += s->n; /* the weight of each layer, behind its statistics */
    s->values = fbi_storage_new(d->ctx, (size_t)s->row * sizeof(double));
    s->total = s->values ? fbi_storage_new(d->ctx, (size_t)s->row * sizeof(double)) : NULL;
    if (!s->total)
        return d->ctx->status;
    s->carry = (fbi_carry){.ctx = d->ctx, .dtype = FB_F64, .acc = FB_F64, .n = s->row};
    for (int i = 0; i < s->n; i++) { /* the array moves no more */
        s->norm[i].sink = (fbi_stat_sink){.self = &s->norm[i], .give = give};
        fbi_nn_set_stat_sink(s->norm[i].layer, &s->norm[i].sink);
    }
    return FB_OK;
}

void fbi_ddp_norms_close(fbi_ddp *d)
{
    fbi_norms *s = &d->norms;
    for (int i = 0; s->total && i < s->n; i++)
        fbi_nn_set_stat_sink(s->norm[i].layer, NULL);
    fbi_carry_close(&s->carry);
    fbi_storage_unref(d->ctx, s->values);
    fbi_storage_unref(d->ctx, s->total);
    free(s->norm);
}

static fb_status fill_up(fbi_ddp *d)
{
    fbi_norms *s = &d->norms;
    fb_status st = s->leaf < 0 ? FB_OK : close_leaf(d);
    int next = s->carry.depth ? s->next : d->group->first_leaf;
    for (int k = next; k < d->group->first_leaf + d->group->n_leaves && !st; k++)
        st = fbi_carry_push(&s->carry, k, NULL, false);
    return st;
}

fb_status fbi_ddp_norms_sum(fbi_ddp *d)
{
    fbi_norms *s = &d->norms;
    if (!s->row)
        return FB_OK;
    fb_status st = fill_up(d);
    if (st)
        return st;
    fbi_task task = {.kind = FBI_KIND_GRADIENTS,
                     .op = FB_SUM,
                     .dtype = FB_F64,
                     .count = s->row,
                     .layout = d->group->leaves,
                     .dst = s->total->data,
                     .site = d->ctx->site,
                     .tag = "batch statistics"};
    fbi_carry_sources(&s->carry, &task);
    st = fbi_work_run(d->group, &task);
    fbi_ddp_norms_forget(d);
    return st;
}

/* Total weights of a step add up to 1 for each call of the layer: dividing by them gives the mean.
 */
static fb_status update(const fbi_ddp *d, const fbi_norm *norm, double *total, const int64_t *fine)
{
    const fbi_running *r = &norm->running;
    fbi_bump(r->mean);
    fbi_bump(r->var);
    if (r->count)
        fbi_bump(r->count);
    return run(d->ctx, &(fbi_statistics){.n = norm->n,
                                         .row = total + norm->at,
                                         .momentum = r->momentum,
                                         .total = total + weight_of(d, norm),
                                         .fine = fine,
                                         .mean = fbi_ptr(r->mean),
                                         .var = fbi_ptr(r->var),
                                         .count = r->count ? fbi_ptr(r->count) : NULL});
}

fb_status fbi_ddp_norms_apply(fbi_ddp *d, const int64_t *fine)
{
    fb_status st = FB_OK;
    for (int i = 0; i < d->norms.n && !st; i++)
        st = update(d, &d->norms.norm[i], d->norms.total->data, fine);
    return st;
}

void fbi_ddp_norms_forget(fbi_ddp *d)
{
    fbi_carry_clear(&d->norms.carry);
    d->norms.leaf = -1;
}
