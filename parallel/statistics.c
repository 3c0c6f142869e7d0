#include <stdlib.h>
#include <string.h>

#include "parallel/ddp_priv.h"

static double share_of(const fbi_ddp *d)
{
    return d->ctx->in_step ? d->ctx->batch.share : 1.0 / d->group->size;
}

static int leaf_of(const fbi_ddp *d)
{
    return d->ctx->in_step ? (int)d->ctx->batch.shard : d->group->first_leaf;
}

static fb_status give(void *self, fb_module *layer, fb_tensor *mean, fb_tensor *var)
{
    (void)layer;
    fbi_norm *norm = self;
    fbi_ddp *d = norm->ddp;
    double share = share_of(d);
    double *row = d->values + (int64_t)leaf_of(d) * d->row + norm->at;
    if (fb_dtype_of(mean) != FB_F32 || !fbi_contiguous(mean) || !fbi_contiguous(var))
        return fbi_fail(d->ctx, FB_E_DTYPE, "ddp: batch statistics must be F32, got %s",
                        fb_dtype_name(fb_dtype_of(mean)));
    const float *m = fbi_ptr(mean), *v = fbi_ptr(var);
    for (int64_t i = 0; i < norm->n; i++) {
        row[i] += share * (double)m[i];
        row[norm->n + i] += share * (double)v[i];
    }
    d->have_stats = true;
    return FB_OK;
}

static fb_status add_norm(fb_module *layer, fbi_running running, void *user)
{
    fbi_ddp *d = user;
    if (!running.mean)
        return FB_OK;
    fbi_norm *norms = realloc(d->norms, (size_t)(d->n_norms + 1) * sizeof *norms);
    if (!norms)
        return fbi_fail(d->ctx, FB_E_NOMEM, "fb_ddp_attach: no memory");
    d->norms = norms;
    norms[d->n_norms++] = (fbi_norm){
        .layer = layer, .running = running, .at = d->row, .n = fb_numel(running.mean), .ddp = d};
    d->row += 2 * fb_numel(running.mean);
    return FB_OK;
}

fb_status fbi_ddp_norms_open(fbi_ddp *d)
{
    fb_status st = fbi_nn_each_norm(d->root, add_norm, d);
    if (st || !d->row)
        return st;
    d->values = calloc((size_t)(d->group->shards * d->row), sizeof *d->values);
    d->total = calloc((size_t)d->row, sizeof *d->total);
    if (!d->values || !d->total)
        return fbi_fail(d->ctx, FB_E_NOMEM, "fb_ddp_attach: no memory for batch statistics");
    for (int i = 0; i < d->n_norms; i++) { /* the array moves no more */
        d->norms[i].sink = (fbi_stat_sink){.self = &d->norms[i], .give = give};
        fbi_nn_set_stat_sink(d->norms[i].layer, &d->norms[i].sink);
    }
    return FB_OK;
}

void fbi_ddp_norms_close(fbi_ddp *d)
{
    for (int i = 0; d->values && i < d->n_norms; i++)
        fbi_nn_set_stat_sink(d->norms[i].layer, NULL);
    free(d->norms);
    free(d->values);
    free(d->total);
}

static void update(const fbi_norm *norm, const double *total)
{
    float *mean = fbi_ptr(norm->running.mean), *var = fbi_ptr(norm->running.var);
    double momentum = norm->running.momentum;
    for (int64_t i = 0; i < norm->n; i++) {
        mean[i] = (float)((1 - momentum) * (double)mean[i] + momentum * total[i]);
        var[i] = (float)((1 - momentum) * (double)var[i] + momentum * total[norm->n + i]);
    }
    fbi_bump(norm->running.mean);
    fbi_bump(norm->running.var);
    if (norm->running.count)
        ++*(int64_t *)fbi_ptr(norm->running.count);
}

fb_status fbi_ddp_norms_update(fbi_ddp *d)
{
    if (!d->row)
        return FB_OK;
    fb_status st = fbi_group_leaf_sum(d->group, d->values, (int)d->row, d->total);
    for (int i = 0; !st && d->have_stats && i < d->n_norms; i++)
        update(&d->norms[i], d->total + d->norms[i].at);
    memset(d->values, 0, (size_t)(d->group->shards * d->row) * sizeof *d->values);
    d->have_stats = false;
    return st;
}
