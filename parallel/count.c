/* What the losses of a step count, where that is known on a device only: one number a leaf, summed
 * over the ranks there. */
#include "parallel/ddp_priv.h"

static int leaves_of(const fbi_ddp *d)
{
    return d->group->n_leaves;
}

fb_status fbi_ddp_count_clear(fbi_ddp *d)
{
    size_t bytes = (size_t)(leaves_of(d) + 1) * sizeof(double);
    if (!d->count)
        d->count = fbi_storage_new(d->ctx, bytes);
    return d->count ? d->ctx->backend->fill_zero(d->ctx, d->count->data, bytes) : d->ctx->status;
}

fb_status fbi_ddp_count_add(fbi_ddp *d)
{
    return fbi_count_on(d->ctx, (double *)d->count->data + (d->leaf - d->group->first_leaf));
}

fb_status fbi_ddp_count_sum(fbi_ddp *d, const double **total)
{
    double *counts = d->count->data;
    fbi_carry carry = {.ctx = d->ctx, .dtype = FB_F64, .acc = FB_F64, .n = 1};
    fb_status st = FB_OK;
    for (int k = 0; k < leaves_of(d) && !st; k++)
        st = fbi_carry_push(&carry, d->group->first_leaf + k, counts + k, true);
    fbi_task task = {.kind = FBI_KIND_GRADIENTS,
                     .op = FB_SUM,
                     .dtype = FB_F64,
                     .count = 1,
                     .layout = d->group->leaves,
                     .dst = counts + leaves_of(d),
                     .site = d->ctx->site,
                     .tag = "counts"};
    if (!st) {
        fbi_carry_sources(&carry, &task);
        st = fbi_work_run(d->group, &task);
    }
    fbi_carry_close(&carry);
    *total = counts + leaves_of(d);
    return st;
}
