/* Counts of losses that are sums: added up here, divided by in fb_optim_step. */
#include <stdlib.h>

#include "core/autograd/node_priv.h"

fbi_tally *fbi_tally_new(fb_context *ctx)
{
    fbi_tally *tally = calloc(1, sizeof *tally);
    if (!tally)
        fbi_fail(ctx, FB_E_NOMEM, "no memory for a count of samples");
    else
        tally->refs = 1;
    return tally;
}

void fbi_tally_unref(fbi_tally *tally)
{
    if (tally && --tally->refs == 0)
        free(tally);
}

void fbi_tally_set(fbi_leaf *leaf, fbi_tally *tally)
{
    tally->refs++;
    fbi_tally_unref(leaf->tally);
    leaf->tally = tally;
}

void fbi_tally_note(fb_context *ctx, fbi_tally *tally)
{
    const fbi_pass_count *now = &ctx->pass_count;
    if (tally->pass == now->pass)
        return;
    if (tally->spent)
        *tally = (fbi_tally){.refs = tally->refs};
    tally->pass = now->pass;
    if (now->absent)
        return;
    tally->counted |= now->counted;
    tally->plain |= !now->counted;
    tally->count += now->counted ? now->count : 0;
}
