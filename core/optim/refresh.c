/* Running statistics of batch norms anew: means over batches. */
#include <stdlib.h>

#include <flambeau/core/ops/blend.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>

#include "core/optim/optimizer_priv.h"

/* The batch norms of a module, and what hung on them. */
typedef struct refresh {
    fb_context *ctx;
    struct {
        fb_module *layer;
        fbi_running running;
    } * norms; /* owned */
    int64_t n, batch;
} refresh;

static fb_status note(fb_module *layer, fbi_running running, void *user)
{
    refresh *r = user;
    void *grown = r->norms;
    if (layer->frozen) /* stays in eval, with the statistics that it has */
        return FB_OK;
    if (layer->sink)
        return fbi_fail(r->ctx, FB_E_STATE,
                        "fb_norms_refresh: the module is attached to a group; refresh an average "
                        "of it");
    if (!fbi_grow(&grown, (int)r->n, sizeof *r->norms))
        return fbi_fail(r->ctx, FB_E_NOMEM, "fb_norms_refresh: no memory");
    r->norms = grown;
    r->norms[r->n].layer = layer;
    r->norms[r->n++].running = running;
    return FB_OK;
}

/* The mean over the batches so far; the layer is told at once, there is no sum over leaves. */
static fb_status give(void *self, fb_module *layer, fb_tensor *mean, fb_tensor *var)
{
    refresh *r = self;
    double weight = 1 / (double)r->batch;
    FB_SCOPE(r->ctx);
    fb_no_grad(r->ctx);
    for (int64_t i = 0; i < r->n; i++) {
        const fbi_running *of = &r->norms[i].running;
        if (r->norms[i].layer != layer)
            continue;
        fb_tensor *m = fb_lerp_scalar(of->mean, mean, weight);
        fb_tensor *v = fb_lerp_scalar(of->var, var, weight);
        if (!m || !v || fb_copy_(of->mean, m) || fb_copy_(of->var, v))
            return r->ctx->status;
        return fb_add_scalar_(of->count, 1);
    }
    return FB_OK;
}

static fb_status forget(refresh *r)
{
    fb_status st = FB_OK;
    FB_SCOPE(r->ctx);
    fb_no_grad(r->ctx);
    for (int64_t i = 0; i < r->n && !st; i++) {
        const fbi_running *of = &r->norms[i].running;
        st = fb_copy_(of->mean, fb_zeros_like(of->mean));
        if (!st)
            st = fb_copy_(of->var, fb_ones_like(of->var));
        if (!st)
            st = fb_copy_(of->count, fb_zeros_like(of->count));
    }
    return st;
}

static fb_status pass(refresh *r, fb_module *m, fb_tensor *(*next)(void *user), void *user)
{
    fb_status st = FB_OK;
    for (bool more = true; more && !st;) {
        FB_SCOPE(r->ctx);
        fb_no_grad(r->ctx);
        fb_tensor *x = next(user);
        more = x != NULL;
        r->batch++;
        if (more && !fb_nn_forward(m, x))
            st = r->ctx->status ? r->ctx->status : FB_E_USER;
        st = st ? st : r->ctx->status;
    }
    return st;
}

fb_status fb_norms_refresh(fb_module *m, fb_tensor *(*next)(void *user), void *user)
{
    if (!fbi_nn_enter(m))
        return m ? m->ctx->status : FB_E_ARG;
    FBI_ENTRY(m->ctx);
    if (!next)
        return fbi_fail(m->ctx, FB_E_ARG, "fb_norms_refresh: the function is NULL");
    refresh r = {.ctx = m->ctx};
    const fbi_stat_sink sink = {.self = &r, .give = give};
    bool training = m->training;
    fb_status st = fbi_nn_each_norm(m, note, &r);
    if (!st)
        st = forget(&r);
    if (!st && r.n) {
        for (int64_t i = 0; i < r.n; i++)
            fbi_nn_set_stat_sink(r.norms[i].layer, &sink);
        fb_nn_train(m);
        st = pass(&r, m, next, user);
        if (!training)
            fb_nn_eval(m);
        for (int64_t i = 0; i < r.n; i++)
            fbi_nn_set_stat_sink(r.norms[i].layer, NULL);
    }
    free(r.norms);
    return st;
}
