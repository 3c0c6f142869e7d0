/* Ranks that compute with the same algorithms: rank 0 tries them, at a moment that all ranks come
 * to together, and the others take over what it has chosen. */
#include <stdlib.h>

#include "parallel/ddp_priv.h"

#include <flambeau/comm/collective.h>
#include <flambeau/core/ops/create.h>

fb_status fbi_ddp_tune(fbi_ddp *d)
{
    fb_context *ctx = d->ctx;
    if (!ctx->tune || !ctx->backend->tune)
        return FB_OK;
    FB_SCOPE(ctx);
    fb_no_grad(ctx);
    void *choices = NULL;
    size_t bytes = 0;
    if (d->group->rank == 0) /* the others learn of an error when they wait */
        (void)ctx->backend->tune(ctx, &choices, &bytes);
    double size = (double)bytes;
    fb_tensor *n = fb_from(ctx, FB_F64, FB_SHAPE(1), &size);
    fb_status st = fb_broadcast_(d->group, n, 0);
    bytes = st ? 0 : (size_t)fb_item(n);
    fb_tensor *all = NULL;
    if (!st && bytes)
        all = d->group->rank == 0 ? fb_from(ctx, FB_U8, FB_SHAPE((int64_t)bytes), choices)
                                  : fb_zeros(ctx, FB_U8, FB_SHAPE((int64_t)bytes));
    free(choices);
    if (!all)
        return ctx->status;
    st = fb_broadcast_(d->group, all, 0);
    choices = st ? NULL : malloc(bytes);
    if (!st && !choices)
        st = fbi_fail(ctx, FB_E_NOMEM, "optim_step: no memory for rank 0's algorithms");
    st = st ? st : fb_read(all, choices, bytes);
    st = st ? st : ctx->backend->choose(ctx, choices, bytes);
    free(choices);
    return st;
}
