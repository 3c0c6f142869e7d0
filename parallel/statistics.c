/* Batch-norm statistics: given by each leaf's forward, averaged over the leaves along the same tree
 * as the gradients, in double, and put into the running buffers once per step. */
#include <stdlib.h>
#include <string.h>

#include "core/nn/module_priv.h"
#include "parallel/ddp_priv.h"

static bool close_leaf(fbi_norms *s, int first_leaf)
{
    int next = s->carry.depth ? s->next : first_leaf;
    bool ok = true;
    for (int k = next; k < s->leaf && ok; k++)
        ok = fbi_carry_push(&s->carry, k, NULL, false);
    ok = ok && fbi_carry_push(&s->carry, s->leaf, (char *)s->values, false);
    s->next = s->leaf + 1;
    s->leaf = -1;
    return ok;
}

/* The row of the leaf that the context works on, begun if need be. NULL: error is set. */
static double *row_of_leaf(fbi_ddp *d)
{
    fbi_norms *s = &d->norms;
    int leaf = fbi_ddp_leaf(d);
    bool ok = s->leaf < 0 || s->leaf == leaf || close_leaf(s, d->group->first_leaf);
    if (ok && s->carry.depth && leaf < s->next) { /* of a step that was given up */
        fbi_carry_clear(&s->carry);
        s->leaf = -1;
    }
    if (ok && s->leaf < 0) {
        s->leaf = leaf;
        memset(s->values, 0, (size_t)s->row * sizeof *s->values);
        memset(s->count, 0, (size_t)s->n * sizeof *s->count);
    }
    if (!ok)
        fbi_fail(d->ctx, FB_E_NOMEM, "ddp: no memory for batch statistics");
    return ok ? s->values : NULL;
}

/* A layer that is called several times for one leaf counts with the mean of its calls;
 * micro-batches of a leaf count by their shares. */
static void add_to_row(double *row, int64_t n, const float *mean, const float *var, double share)
{
    for (int64_t i = 0; i < n; i++) {
        row[i] += share * (double)mean[i];
        row[n + i] += share * (double)var[i];
    }
}

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
    double *values = row_of_leaf(d);
    if (!values)
        return fb_status_of(d->ctx);
    double share = d->ctx->in_step ? d->ctx->batch.share : 1.0 / d->group->size;
    add_to_row(values + norm->at, norm->n, fbi_ptr(mean), fbi_ptr(var), share);
    d->norms.count[norm - d->norms.norm] += share;
    return FB_OK;
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
    s->values = calloc((size_t)s->row, sizeof *s->values);
    s->total = calloc((size_t)s->row, sizeof *s->total);
    if (!s->values || !s->total)
        return fbi_fail(d->ctx, FB_E_NOMEM, "ddp_attach: no memory for batch statistics");
    s->count = s->values + s->row - s->n;
    s->carry = (fbi_carry){.dtype = FB_F64, .acc = FB_F64, .n = s->row};
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
    free(s->norm);
    free(s->values);
    free(s->total);
}

/* Total weights of a step add up to 1 for each call of the layer: dividing by them gives the mean.
 */
static void update(const fbi_norm *norm, const double *total, double weight)
{
    float *mean = fbi_ptr(norm->running.mean), *var = fbi_ptr(norm->running.var);
    double momentum = norm->running.momentum;
    if (!(weight > 0))
        return;
    for (int64_t i = 0; i < norm->n; i++) {
        mean[i] = (float)((1 - momentum) * (double)mean[i] + momentum * total[i] / weight);
        var[i] = (float)((1 - momentum) * (double)var[i] + momentum * total[norm->n + i] / weight);
    }
    fbi_bump(norm->running.mean);
    fbi_bump(norm->running.var);
    if (norm->running.count)
        ++*(int64_t *)fbi_ptr(norm->running.count);
}

static bool fill_up(fbi_ddp *d)
{
    fbi_norms *s = &d->norms;
    bool ok = s->leaf < 0 || close_leaf(s, d->group->first_leaf);
    int next = s->carry.depth ? s->next : d->group->first_leaf;
    for (int k = next; k < d->group->first_leaf + d->group->n_leaves && ok; k++)
        ok = fbi_carry_push(&s->carry, k, NULL, false);
    return ok;
}

fb_status fbi_ddp_norms_sum(fbi_ddp *d)
{
    fbi_norms *s = &d->norms;
    if (!s->row)
        return FB_OK;
    if (!fill_up(d))
        return fbi_fail(d->ctx, FB_E_NOMEM, "ddp: no memory for batch statistics");
    fbi_task task = {.kind = FBI_KIND_GRADIENTS,
                     .op = FB_SUM,
                     .dtype = FB_F64,
                     .count = s->row,
                     .layout = d->group->leaves,
                     .dst = s->total,
                     .site = d->ctx->site,
                     .tag = "batch statistics"};
    fbi_carry_sources(&s->carry, &task);
    fb_status st = fbi_work_run(d->group, &task);
    fbi_ddp_norms_forget(d);
    return st;
}

void fbi_ddp_norms_apply(fbi_ddp *d)
{
    const fbi_norms *s = &d->norms;
    const double *weight = s->total + s->row - s->n;
    for (int i = 0; i < s->n; i++)
        update(&s->norm[i], s->total + s->norm[i].at, weight[i]);
}

void fbi_ddp_norms_forget(fbi_ddp *d)
{
    fbi_carry_clear(&d->norms.carry);
    d->norms.leaf = -1;
}
