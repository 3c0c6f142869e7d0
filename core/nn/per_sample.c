/* Gradients by sample: one forward and backward for each. */
#include <flambeau/core/nn/per_sample.h>

#include <inttypes.h>
#include <stdlib.h>

#include "core/autograd/pass_priv.h"
#include "core/nn/nn_priv.h"

typedef struct by_sample {
    fb_module *m;
    fb_sample_loss_fn loss;
    void *user;
    fb_tensors batch;
    int64_t n;         /* samples */
    fb_tensor **param; /* those that are trained, and where their gradients go */
    fb_tensor **all, **one;
    int n_params;
} by_sample;

static fb_status check_module(const char *path, fb_module *m, void *user)
{
    (void)user;
    if (!fbi_nn_mixes_samples(m))
        return FB_OK;
    return fbi_fail(
        m->ctx, FB_E_STATE,
        "fb_nn_sample_gradients: %s \"%s\" takes the statistics of the batch, which mix "
        "its samples; freeze it, use fb_nn_eval, or another norm",
        m->type->name, path);
}

static fb_status check_batch(by_sample *b)
{
    fb_context *ctx = b->m->ctx;
    const char *who = "fb_nn_sample_gradients";
    if (b->batch.n < 1)
        return fbi_fail(ctx, FB_E_ARG, "%s: no batch", who);
    for (int i = 0; i < b->batch.n; i++) {
        fb_tensor *t = b->batch.t[i];
        if (!fbi_tensor_check(ctx, t, who, "a tensor of the batch"))
            return ctx->status;
        if (t->ndim < 1 || t->size[0] != b->batch.t[0]->size[0])
            return fbi_fail(ctx, FB_E_SHAPE, "%s: tensor %d of the batch is %s, the first is %s",
                            who, i, fbi_text(t), fbi_text(b->batch.t[0]));
    }
    b->n = b->batch.t[0]->size[0];
    return FB_OK;
}

/* Sample s of each tensor of the batch. */
static fb_status slice(const by_sample *b, int64_t s, fb_tensor **sample)
{
    for (int i = 0; i < b->batch.n; i++) {
        fb_tensor *t = b->batch.t[i];
        fb_shape size = fb_shape_of(t);
        size.d[0] = 1;
        sample[i] = fbi_view(t, size, fbi_strides_of(t), t->offset + s * t->stride[0]);
        if (!sample[i])
            return b->m->ctx->status;
    }
    return FB_OK;
}

static fb_status one_sample(const by_sample *b, int64_t s, fb_tensor **sample)
{
    fb_context *ctx = b->m->ctx;
    FB_SCOPE(ctx);
    if (slice(b, s, sample))
        return ctx->status;
    fb_enable_grad(ctx);
    fb_tensor *loss = b->loss(b->m, (fb_tensors){sample, b->batch.n}, b->user);
    if (ctx->status)
        return ctx->status;
    if (!loss)
        return fbi_fail(ctx, FB_E_USER,
                        "fb_nn_sample_gradients: the loss of sample %" PRId64 " is NULL", s);
    if (loss->numel != 1)
        return fbi_fail(ctx, FB_E_SHAPE,
                        "fb_nn_sample_gradients: the loss of a sample is %s, not one element",
                        fbi_text(loss));
    fb_gradient_options o = {.materialize_grads = true};
    if (fb_gradients(FB_TENSORS(loss), (fb_tensors){b->param, b->n_params}, &o, b->one))
        return ctx->status;
    for (int k = 0; k < b->n_params && !ctx->status; k++) {
        fb_tensor *row = b->param[k]->numel ? fbi_grad_row(b->all[k], s, b->param[k]) : NULL;
        if (row)
            fbi_grad_copy(ctx, row, b->one[k]);
    }
    return ctx->status;
}

/* Results for the parameters that are trained; grads[k] of the others stays NULL. */
static fb_status make_results(by_sample *b, const fbi_named_list *params, fb_tensor **grads)
{
    fb_context *ctx = b->m->ctx;
    for (int64_t k = 0; k < params->n && !ctx->status; k++) {
        fb_tensor *t = params->v[k].t;
        if (!fb_needs_grad(t))
            continue;
        fb_shape shape;
        if (!fbi_joined(FB_SHAPE(b->n), fb_shape_of(t), &shape))
            return fbi_fail(ctx, FB_E_SHAPE, "fb_nn_sample_gradients: %s has %d dimensions already",
                            params->v[k].name, FB_MAX_DIMS);
        grads[k] = fbi_empty(ctx, (fb_dtype)t->dtype, shape);
        b->param[b->n_params] = t;
        b->all[b->n_params++] = grads[k];
    }
    return ctx->status;
}

static fb_status run(by_sample *b, const fbi_named_list *params, int n, fb_tensor **grads)
{
    fb_context *ctx = b->m->ctx;
    if (params->n != n)
        return fbi_fail(ctx, FB_E_ARG,
                        "fb_nn_sample_gradients: places for %d gradients; %s has %" PRId64
                        " parameters",
                        n, b->m->type->name, params->n);
    size_t room = 3 * (size_t)n + (size_t)b->batch.n + 1;
    fb_tensor **block = calloc(room, sizeof *block), **sample = block + 3 * (size_t)n;
    if (!block)
        return fbi_fail(ctx, FB_E_NOMEM, "fb_nn_sample_gradients: no memory");
    b->param = block;
    b->all = block + n;
    b->one = b->all + n;
    make_results(b, params, grads);
    if (!ctx->status && !b->n_params)
        fbi_fail(ctx, FB_E_ARG, "fb_nn_sample_gradients: no parameter of %s wants a gradient",
                 b->m->type->name);
    for (int64_t s = 0; s < b->n && !ctx->status; s++)
        one_sample(b, s, sample);
    free(block);
    return ctx->status;
}

fb_status fb_nn_sample_gradients(fb_module *m, fb_sample_loss_fn loss, void *user, fb_tensors batch,
                                 int n, fb_tensor **grads)
{
    for (int k = 0; grads && k < n; k++)
        grads[k] = NULL;
    if (!fbi_nn_enter(m))
        return m ? m->ctx->status : FB_E_ARG;
    FBI_ENTRY(m->ctx);
    by_sample b = {.m = m, .loss = loss, .user = user, .batch = batch};
    fbi_named_list params = {0};
    fb_status st = loss && grads ? fb_nn_materialize(m)
                                 : fbi_fail(m->ctx, FB_E_ARG, "fb_nn_sample_gradients: %s is NULL",
                                            loss ? "the place for gradients" : "the loss");
    st = st ? st : check_batch(&b);
    st = st ? st : fbi_nn_each_module(m, check_module, NULL);
    st = st ? st : fbi_nn_collect(m, FB_FIELD_PARAM, true, &params);
    st = st ? st : run(&b, &params, n, grads);
    fbi_named_free(&params);
    for (int k = 0; grads && k < n && st; k++)
        grads[k] = NULL;
    return st;
}
