/* Activation checkpointing. The first run records, to learn which leaves it uses, and its graph is
 * dropped at once; those leaves become inputs of the node, so that their contributions are counted
 * in the walk like all others. Peak memory is that of one segment, which recomputation needs
 * anyway. */
#include <stdlib.h>
#include <string.h>

#include "core/autograd/walk_priv.h"

typedef struct fbi_segment {
    fb_checkpoint_fn fn;
    void *user;
    fbi_rng_state rng;
    uint8_t autocast;
    int n_in, n_out;
    fb_tensor **in; /* [n_in], counted */
} fbi_segment;

static void fbi_segment_drop(void *self)
{
    fbi_segment *s = self;
    for (int i = 0; i < s->n_in; i++)
        fbi_tensor_unref(s->in[i]);
    free(s->in);
    free(s);
}

/* Run fn on detached inputs, recording. */
static fb_status fbi_segment_run(fb_context *ctx, fbi_segment *s, fb_tensor **inner,
                                 fb_tensor **out)
{
    for (int i = 0; i < s->n_in; i++) {
        inner[i] = s->in[i] ? fbi_tensor_alias(s->in[i]) : NULL;
        if (s->in[i] && !inner[i])
            return ctx->status;
        if (s->in[i] && fb_needs_grad(s->in[i]) && !fb_requires_grad(inner[i], true))
            return ctx->status;
    }
    fb_status st = s->fn(s->user, (fb_tensors){inner, s->n_in}, out);
    for (int i = 0; i < s->n_out && !st && !ctx->status; i++)
        if (!out[i])
            st = fbi_fail(ctx, FB_E_USER, "checkpoint: fn left output %d empty", i);
    if (st && !ctx->status)
        fbi_fail(ctx, st, "checkpoint: fn failed");
    return ctx->status;
}

static fb_status fbi_segment_backward(void *self, fbi_pass *outer, fbi_node *n,
                                      fb_tensor *const *grad, fb_tensor **in_grad)
{
    fbi_segment *s = self;
    fb_context *ctx = outer->ctx;
    if (outer->linked)
        return fbi_fail(ctx, FB_E_UNSUPPORTED, "checkpoint: create_graph through it");
    fb_tensor **inner = calloc((size_t)s->n_in + 2 * (size_t)s->n_out, sizeof *inner);
    fbi_capture *caps = calloc(n->n_in, sizeof *caps);
    fb_status st = inner && caps ? FB_OK : fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory");
    if (!st) {
        fb_tensor **out = inner + s->n_in, **seed = out + s->n_out;
        fbi_rng_state now = fbi_rng_save(ctx);
        fbi_rng_restore(ctx, s->rng);
        fb_enable_grad(ctx);
        ctx->autocast = s->autocast;
        st = fbi_segment_run(ctx, s, inner, out);
        ctx->autocast = 0;
        fb_no_grad(ctx);
        fbi_rng_restore(ctx, now);
        for (int i = 0; i < n->n_in; i++) {
            fbi_node *to = fbi_edges(n)[i].to;
            if (i >= s->n_in)
                caps[i].node = to;
            else if (to && inner[i])
                caps[i].node = fbi_node_of(inner[i]);
        }
        for (int i = 0; i < s->n_out; i++)
            seed[i] = grad[i];
        fbi_pass pass = {.ctx = ctx, .capture = true, .nested = true};
        if (!st)
            st = fbi_pass_run(&pass, (fb_tensors){out, s->n_out}, seed, caps, n->n_in);
        for (int i = 0; i < n->n_in; i++)
            in_grad[i] = caps[i].grad;
    }
    free(inner);
    free(caps);
    return st;
}

static fb_status fbi_segment_record(fb_context *ctx, fbi_segment *s, const fbi_pass *seen,
                                    fb_tensor *const *inner, fb_tensor **out)
{
    int leaves = 0;
    fbi_node **extra = calloc((size_t)seen->n_leaves + 1, sizeof *extra);
    if (!extra)
        return fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory");
    for (int i = 0; i < seen->n_leaves; i++) {
        bool own = false;
        for (int k = 0; k < s->n_in; k++)
            own =
                own || (inner[k] && inner[k]->leaf && inner[k]->leaf->node == seen->leaves[i].node);
        if (!own && seen->leaves[i].node->leaf)
            extra[leaves++] = seen->leaves[i].node;
    }
    fbi_node *n = fbi_node_new(ctx, 0, s->n_in + leaves, s->n_out, 0, sizeof(fbi_custom));
    if (!n) {
        free(extra);
        return ctx->status;
    }
    for (int i = 0; i < s->n_in + leaves; i++) {
        fb_tensor *t = i < s->n_in ? s->in[i] : NULL;
        fbi_node *to = i >= s->n_in ? extra[i - s->n_in] : t ? fbi_node_of(t) : NULL;
        if (!to)
            continue;
        to->refs++;
        fbi_edges(n)[i] = (fbi_edge){to, t && t->node ? t->out_index : 0};
    }
    free(extra);
    for (int i = 0; i < s->n_out; i++) {
        out[i]->node = n;
        out[i]->out_index = (uint8_t)i;
        n->refs++;
    }
    fbi_custom custom = {"checkpoint", s, fbi_segment_backward, fbi_segment_drop};
    memcpy(fbi_attrs(n), &custom, sizeof custom);
    n->flags |= FBI_NODE_CUSTOM;
    fbi_node_unref(ctx, n);
    return FB_OK;
}

static fb_status fbi_segment_first(fb_context *ctx, fbi_segment *s, fb_tensor **inner,
                                   fb_tensor **out, bool *recorded)
{
    FB_SCOPE(ctx);
    fb_status st = fbi_segment_run(ctx, s, inner, out);
    if (st)
        return st;
    fbi_pass seen = {.ctx = ctx};
    st = fbi_walk_collect(&seen, (fb_tensors){out, s->n_out});
    bool any = seen.n_leaves > 0;
    for (int i = 0; i < s->n_out && !st; i++) {
        out[i] = fb_detach(out[i]);
        if (out[i])
            fb_keep(out[i]);
        else
            st = ctx->status;
    }
    if (!st && any)
        st = fbi_segment_record(ctx, s, &seen, inner, out);
    *recorded = !st && any;
    fbi_walk_end(&seen, NULL, 0);
    return st;
}

fb_status fb_checkpoint_call(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out,
                             fb_tensor **out)
{
    for (int i = 0; out && i < n_out; i++)
        out[i] = NULL;
    fb_context *ctx = NULL;
    for (int i = 0; i < in.n && !ctx; i++)
        ctx = in.t[i] ? in.t[i]->ctx : NULL;
    if (!fbi_enter(ctx))
        return ctx ? ctx->status : FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!fn || !out)
        return fbi_fail(ctx, FB_E_ARG, "checkpoint: %s is NULL", fn ? "out" : "the function");
    if (!ctx->grad_on)
        return fn(user, in, out);
    if (n_out < 1 || n_out > 255)
        return fbi_fail(ctx, FB_E_ARG, "checkpoint: %d outputs", n_out);
    fbi_segment *s = calloc(1, sizeof *s);
    fb_tensor **inner = calloc((size_t)in.n + 1, sizeof *inner);
    if (s)
        s->in = calloc((size_t)in.n + 1, sizeof *s->in);
    fb_status st = s && s->in && inner ? FB_OK : fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory");
    bool recorded = false;
    if (!st) {
        s->fn = fn;
        s->user = user;
        s->n_in = in.n;
        s->n_out = n_out;
        s->rng = fbi_rng_save(ctx);
        s->autocast = ctx->autocast;
        for (int i = 0; i < in.n; i++) {
            s->in[i] = in.t[i];
            if (in.t[i])
                fbi_tensor_ref(in.t[i]);
        }
        st = fbi_segment_first(ctx, s, inner, out, &recorded);
    }
    free(inner);
    if (s && !recorded) {
        if (!s->in)
            s->n_in = 0;
        fbi_segment_drop(s);
    }
    for (int i = 0; i < n_out && st; i++)
        out[i] = NULL;
    return st;
}
