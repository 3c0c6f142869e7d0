/* Counts of losses that are sums: added up here, divided by in fb_optim_step. */
#include <stdlib.h>

#include "core/autograd/node_priv.h"
#include "core/tensor/device_priv.h"

fbi_tally *fbi_tally_new(fb_context *ctx)
{
    fbi_tally *tally = calloc(1, sizeof *tally);
    if (!tally) {
        fbi_fail(ctx, FB_E_NOMEM, "no memory for a count of samples");
        return NULL;
    }
    tally->refs = 1;
    return tally;
}

void fbi_tally_unref(fb_context *ctx, fbi_tally *tally)
{
    if (!tally || --tally->refs > 0)
        return;
    fbi_storage_unref(ctx, tally->sum);
    free(tally);
}

void fbi_tally_set(fb_context *ctx, fbi_leaf *leaf, fbi_tally *tally)
{
    tally->refs++;
    fbi_tally_unref(ctx, leaf->tally);
    leaf->tally = tally;
}

fb_status fbi_count_on(fb_context *ctx, double *sum)
{
    const fb_tensor *x = ctx->pass_count.on_device;
    return ctx->backend->add_to(ctx, sum, (fb_dtype)x->dtype, fbi_ptr(x), 1, true);
}

/* A failure is on the context, and ends the backward. */
static void count_on_device(fb_context *ctx, fbi_tally *tally, bool first)
{
    if (!tally->sum)
        tally->sum = fbi_storage_new(ctx, sizeof(double));
    if (!tally->sum)
        return;
    if (!first || !ctx->backend->fill_zero(ctx, tally->sum->data, sizeof(double)))
        fbi_count_on(ctx, tally->sum->data);
}

void fbi_tally_note(fb_context *ctx, fbi_tally *tally)
{
    const fbi_pass_count *now = &ctx->pass_count;
    if (tally->pass == now->pass)
        return;
    if (tally->spent)
        *tally = (fbi_tally){.refs = tally->refs, .sum = tally->sum};
    tally->pass = now->pass;
    if (now->absent)
        return;
    if (now->on_device)
        count_on_device(ctx, tally, !tally->counted);
    tally->counted |= now->counted;
    tally->plain |= !now->counted;
    tally->count += now->counted ? now->count : 0;
}
