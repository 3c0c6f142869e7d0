/* Attaching a model to a group. */
#include <stdlib.h>

#include "parallel/ddp_priv.h"

static void detach(fbi_ddp *d)
{
    for (fbi_block *k = d->blocks; k; k = k->next)
        for (int i = 0; i < k->flat->n_params; i++)
            if (k->flat->params[i].t->leaf->sink == &k->sink)
                k->flat->params[i].t->leaf->sink = NULL;
    fbi_ddp_norms_close(d);
    fbi_ddp_buckets_close(d);
    fbi_ddp_commit_close(d);
    free(d);
}

/* The model is closed; its parameters are still there. */
static void close_ddp(void *object)
{
    fbi_ddp *d = object;
    fbi_backward_hook_remove(d->ctx, &d->hook);
    fbi_reducer_set(d->root, NULL);
    d->group->world->attached--;
    detach(d);
}

static fb_status open_ddp(fbi_ddp *d)
{
    fb_status st = fbi_ddp_buckets_open(d);
    if (!st)
        st = fbi_ddp_norms_open(d);
    if (!st)
        st = fbi_ddp_commit_open(d);
    if (!st)
        st = fbi_ddp_agree(d);
    if (!st)
        st = fbi_nn_adopt(d->root, d, close_ddp);
    return st;
}

FB_API fb_status fb_ddp_attach(fb_group *group, fb_module *model, const fb_ddp_options *opts)
{
    if (!group)
        return FB_E_ARG;
    fb_context *ctx = fbi_group_context(group);
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (!model)
        return fbi_fail(ctx, FB_E_ARG, "ddp_attach: model is NULL");
    fbi_ddp *d = calloc(1, sizeof *d);
    if (!d)
        return fbi_fail(ctx, FB_E_NOMEM, "ddp_attach: no memory");
    *d = (fbi_ddp){.ctx = ctx,
                   .group = group,
                   .root = model,
                   .next = group->first_leaf,
                   .step = -1,
                   .summed = true};
    d->bucket_bytes = opts ? opts->bucket_bytes : 0;
    d->hook = (fbi_backward_hook){.begin = fbi_ddp_begin, .finished = fbi_ddp_finished, .self = d};
    d->reducer = (fbi_reducer){.self = d,
                               .root = model,
                               .commit = fbi_ddp_commit,
                               .zeroed = fbi_ddp_zeroed,
                               .judged = fbi_ddp_judged,
                               .learned = fbi_ddp_learned};
    fb_status st = fbi_reducer_set(model, &d->reducer);
    if (st) {
        free(d);
        return st;
    }
    st = open_ddp(d);
    if (st) {
        fbi_reducer_set(model, NULL);
        detach(d);
        return st;
    }
    group->world->attached++;
    return fbi_backward_hook_add(ctx, &d->hook);
}

static fbi_ddp *ddp_of(fb_module *model)
{
    fbi_reducer *r = model ? fbi_reducer_of(model) : NULL;
    return r && r->commit == fbi_ddp_commit ? r->self : NULL;
}

FB_API fb_status fb_ddp_no_sync(fb_module *model, bool on)
{
    fbi_ddp *d = ddp_of(model);
    if (d)
        d->no_sync = on;
    else if (model)
        fbi_fail(fb_nn_context(model), FB_E_STATE, "ddp_no_sync: the model is not attached");
    return d ? FB_OK : FB_E_STATE;
}

FB_API fb_status fb_ddp_stats_of(fb_module *model, fb_ddp_stats *stats)
{
    fbi_ddp *d = ddp_of(model);
    if (d)
        fbi_optim_settle_all(d->ctx);
    *stats = d ? d->stats : (fb_ddp_stats){0};
    if (!d && model)
        fbi_fail(fb_nn_context(model), FB_E_STATE, "ddp_stats_of: the model is not attached");
    return d ? FB_OK : FB_E_STATE;
}
