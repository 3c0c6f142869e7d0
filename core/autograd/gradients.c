/* The public doors: fb_backward, fb_backward_with, fb_gradients. */
#include <float.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/autograd/pass_priv.h"
#include "core/tensor/device_priv.h"

/* What this backward counts, and the factor on its gradients: the share; 1 for a sum, which the
 * optimizer divides by the counts of all micro-batches; 0 for a micro-batch that only fills up. */
static fb_status fbi_begin_count(fb_context *ctx, const fb_backward_options *o, double *factor)
{
    const fb_batch_info *b = o && o->batch ? o->batch : ctx->in_step ? &ctx->batch : NULL;
    fb_tensor *count = o ? o->count : NULL;
    fbi_pass_count now = {.pass = ctx->pass_count.pass + 1, .counted = count != NULL};
    now.absent = b && !(b->share > 0);
    if (count) {
        if (!fbi_tensor_check(ctx, count, "fb_backward", "count"))
            return ctx->status;
        if (count->numel != 1 || count->dtype == FB_BOOL)
            return fbi_fail(ctx, FB_E_SHAPE,
                            "fb_backward: count must be one number, for instance of I64; it is %s "
                            "%s",
                            fb_dtype_name((fb_dtype)count->dtype), fbi_text(count));
        if (ctx->backend->host_memory)
            now.count = fb_item(count);
        else
            now.on_device = count; /* a step that finds it negative is not applied */
        if (ctx->status)
            return ctx->status;
        if (!(now.count >= 0 && now.count <= DBL_MAX))
            return fbi_fail(ctx, FB_E_ARG, "fb_backward: count is %g", now.count);
    }
    ctx->pass_count = now;
    *factor = now.absent ? 0.0 : count || !b ? 1.0 : b->share;
    return FB_OK;
}

static fb_tensor *fbi_make_seed(fb_context *ctx, fb_tensor *out, fb_tensor *grad, const char *who,
                                double factor)
{
    if (grad && (!fbi_same_shape(grad, out) || grad->dtype != out->dtype)) {
        fbi_fail(ctx, FB_E_SHAPE, "%s: gradient %s %s for an output %s %s", who,
                 fb_dtype_name((fb_dtype)grad->dtype), fbi_text(grad),
                 fb_dtype_name((fb_dtype)out->dtype), fbi_text(out));
        return NULL;
    }
    if (grad)
        return factor == 1.0 ? grad : fbi_grad_scale(grad, factor);
    if (out->numel != 1) {
        fbi_fail(ctx, FB_E_SHAPE, "%s: the output is %s, not one element; give its gradient", who,
                 fbi_text(out));
        return NULL;
    }
    return fbi_grad_full(out, factor);
}

static bool fbi_output_ok(fb_context *ctx, fb_tensor *out, const char *who, const char *what)
{
    if (!fbi_tensor_check(ctx, out, who, what))
        return false;
    if (fb_needs_grad(out))
        return true;
    fbi_fail(ctx, FB_E_STATE,
             "%s: %s does not depend on anything that requires a gradient "
             "(or was computed under fb_no_grad)",
             who, what);
    return false;
}

fb_status fb_backward_with(fb_tensor *loss, const fb_backward_options *o)
{
    if (!loss)
        return FB_E_ARG;
    fb_context *ctx = loss->ctx;
    if (!fbi_enter(ctx))
        return ctx ? ctx->status : FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!fbi_output_ok(ctx, loss, "fb_backward", "the output"))
        return ctx->status;
    FB_SCOPE(ctx);
    bool create = o && o->create_graph;
    if (!create)
        fb_no_grad(ctx);
    double factor = 1;
    if (fbi_begin_count(ctx, o, &factor))
        return ctx->status;
    fb_tensor *seed = fbi_make_seed(ctx, loss, o ? o->grad : NULL, "fb_backward", factor);
    if (seed && ctx->scaling.scaler)
        seed = ctx->scaling.seed(ctx->scaling.scaler, seed);
    if (!seed)
        return ctx->status;
    fbi_pass pass = {.ctx = ctx, .linked = create, .retain = create || (o && o->retain_graph)};
    return fbi_pass_run(&pass, (fb_tensors){&loss, 1}, &seed, NULL, 0);
}

fb_status fb_backward(fb_tensor *loss)
{
    if (!loss)
        return FB_E_ARG;
    FBI_ENTRY(loss->ctx);
    return fb_backward_with(loss, NULL);
}

static fb_status fbi_seeds(fb_context *ctx, fb_tensors out, const fb_gradient_options *o,
                           fb_tensor **seed)
{
    int given = o ? o->seeds.n : 0;
    if (given && given != out.n)
        return fbi_fail(ctx, FB_E_ARG, "fb_gradients: %d seeds for %d outputs", given, out.n);
    for (int i = 0; i < out.n; i++) {
        char what[32] = "the output";
        if (out.n > 1)
            snprintf(what, sizeof what, "output %d", i);
        fb_tensor *grad = given ? o->seeds.t[i] : NULL;
        if (!fbi_output_ok(ctx, out.t[i], "fb_gradients", what) ||
            (grad && !fbi_tensor_check(ctx, grad, "fb_gradients", "a seed")))
            return ctx->status;
        seed[i] = fbi_make_seed(ctx, out.t[i], grad, "fb_gradients", 1.0);
        if (!seed[i])
            return ctx->status;
    }
    return FB_OK;
}

/* A handle of its own on the gradient, so that keeping or dropping it touches nobody else. A seed
 * that is a leaf may have come through as it is: then the handle leads to that leaf. */
static fb_tensor *fbi_own_handle(fb_tensor *grad, bool linked)
{
    fb_tensor *g = fbi_tensor_alias(grad);
    fbi_node *n = g && linked ? fbi_node_of(grad) : NULL;
    if (n) {
        g->node = n;
        n->refs++;
        g->out_index = grad->node ? grad->out_index : 0;
    }
    return g;
}

/* The gradient of an input that has none. */
static fb_tensor *fbi_no_gradient(fb_context *ctx, fb_tensor *input, int i,
                                  const fb_gradient_options *o)
{
    if (o && o->materialize_grads && input)
        return fbi_grad_full(input, 0);
    if (!o || !o->allow_unused)
        fbi_fail(ctx, FB_E_ARG, "fb_gradients: %s input %d %s %s; set allow_unused",
                 fb_needs_grad(input) ? "the outputs do not depend on" : "no gradient is wanted of",
                 i, fb_dtype_name((fb_dtype)input->dtype), fbi_text(input));
    return NULL;
}

static void fbi_hand_out(fb_context *ctx, fbi_capture *caps, fb_tensors wrt,
                         const fb_gradient_options *o, fb_tensor **grads)
{
    for (int i = 0; i < wrt.n; i++) {
        fb_tensor *g = caps[i].grad;
        if (!ctx->status)
            grads[i] =
                g ? fbi_own_handle(g, o && o->create_graph) : fbi_no_gradient(ctx, wrt.t[i], i, o);
        fbi_tensor_unref(g);
    }
}

fb_status fb_gradients(fb_tensors out, fb_tensors wrt, const fb_gradient_options *o,
                       fb_tensor **grads)
{
    if (out.n < 1 || !out.t[0])
        return FB_E_ARG;
    fb_context *ctx = out.t[0]->ctx;
    for (int i = 0; grads && i < wrt.n; i++)
        grads[i] = NULL;
    if (!fbi_enter(ctx))
        return ctx ? ctx->status : FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!grads && wrt.n > 0)
        return fbi_fail(ctx, FB_E_ARG, "fb_gradients: grads is NULL: it is where they go");
    bool create = o && o->create_graph;
    fb_tensor **seed = calloc((size_t)out.n, sizeof *seed);
    fbi_capture *caps = calloc((size_t)wrt.n + 1, sizeof *caps);
    fb_status st = seed && caps ? FB_OK : fbi_fail(ctx, FB_E_NOMEM, "fb_gradients: no memory");
    for (int i = 0; i < wrt.n && !st; i++) {
        char what[32];
        snprintf(what, sizeof what, "input %d", i);
        if (!wrt.t[i] && o && (o->allow_unused || o->materialize_grads))
            continue;
        if (!fbi_tensor_check(ctx, wrt.t[i], "fb_gradients", what))
            st = ctx->status;
        else if (fb_needs_grad(wrt.t[i]))
            caps[i] = (fbi_capture){.node = fbi_node_of(wrt.t[i]),
                                    .out_index = wrt.t[i]->node ? wrt.t[i]->out_index : 0};
    }
    if (!st) {
        FB_SCOPE(ctx);
        if (!create)
            fb_no_grad(ctx);
        st = fbi_seeds(ctx, out, o, seed);
        fbi_pass pass = {.ctx = ctx,
                         .linked = create,
                         .capture = true,
                         .retain = create || (o && o->retain_graph)};
        if (!st)
            st = fbi_pass_run(&pass, out, seed, caps, wrt.n);
    }
    if (caps)
        fbi_hand_out(ctx, caps, wrt, o, grads);
    free(seed);
    free(caps);
    st = st ? st : ctx->status;
    for (int i = 0; i < wrt.n && st; i++)
        grads[i] = NULL;
    return st;
}
