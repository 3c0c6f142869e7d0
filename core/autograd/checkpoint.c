/* Activation checkpointing. The inputs are saved as those of operators are. The first run records,
 * to learn which leaves it uses, and its graph is dropped at once; those leaves become inputs of
 * the node, so that their contributions are counted in the walk like all others. Peak memory is
 * that of one segment, which recomputation needs anyway. */
#include <stdlib.h>
#include <string.h>

#include "core/autograd/walk_priv.h"

typedef struct fbi_segment {
    fb_checkpoint_fn fn;
    void *user;
    void (*drop)(void *user);
    fbi_rng_state rng;
    uint8_t autocast;
    int n_in, n_out; /* the inputs are what the node saves */
} fbi_segment;

static void fbi_segment_drop(void *self)
{
    fbi_segment *s = self;
    if (s->drop)
        s->drop(s->user);
    free(s);
}

/* A leaf that requires a gradient, or what was unpacked for one. */
static bool fbi_is_leaf(const fb_tensor *t)
{
    return t->node ? fbi_is_leaf_node(t->node) : t->leaf && t->leaf->required;
}

/* What fn gets for t: another handle without history, a leaf if its gradient is wanted; leaves as
 * they are, like those that fn knows by itself. NULL: error is set. */
static fb_tensor *fbi_segment_input(fb_tensor *t, bool wanted)
{
    if (fbi_is_leaf(t))
        return t;
    fb_tensor *a = fbi_tensor_alias(t);
    return a && wanted ? fb_requires_grad(a, true) : a;
}

static fb_status fbi_segment_run(fb_context *ctx, fbi_segment *s, fb_tensor *const *inner,
                                 fb_tensor **out)
{
    fb_status st = s->fn(s->user, (fb_tensors){inner, s->n_in}, out);
    for (int i = 0; i < s->n_out && !st && !ctx->status; i++)
        if (!out[i])
            st = fbi_fail(ctx, FB_E_USER, "checkpoint: fn left output %d empty", i);
    if (st && !ctx->status)
        fbi_fail(ctx, st, "checkpoint: fn failed");
    return ctx->status;
}

/* The second run. What it records is used up within this visit: no hooks pack it. */
static fb_status fbi_segment_again(fb_context *ctx, fbi_segment *s, fbi_node *n, fb_tensor **inner,
                                   fb_tensor **out)
{
    for (int i = 0; i < s->n_in && !ctx->status; i++) {
        fb_tensor *t = fbi_unpack(ctx, n, i, true); /* linked: leaves are known by it */
        inner[i] = t ? fbi_segment_input(t, fbi_edges(n)[i].to != NULL) : NULL;
    }
    if (ctx->status)
        return ctx->status;
    fbi_rng_state now = fbi_rng_save(ctx);
    bool was = ctx->recomputing;
    fbi_rng_restore(ctx, s->rng);
    ctx->recomputing = true;
    ctx->autocast = s->autocast;
    ctx->saver = NULL;
    fb_enable_grad(ctx);
    fb_status st = fbi_segment_run(ctx, s, inner, out);
    fb_no_grad(ctx);
    ctx->autocast = 0;
    ctx->recomputing = was;
    fbi_rng_restore(ctx, now);
    return st;
}

/* Gradients are added in the order in which they would be without the checkpoint: those of leaves
 * where they accumulate, those of an input to what has come for it already. */
static fbi_capture fbi_segment_wants(const fbi_pass *outer, fbi_edge e, fb_tensor *inner)
{
    fbi_capture cap = {0};
    if (!e.to)
        return cap;
    if (!inner) {
        cap.node = e.to;
        cap.straight =
            (!outer->capture || (e.to->flags & FBI_NODE_STRAIGHT)) && !e.to->hooks && e.to->leaf;
        return cap;
    }
    cap.node = fbi_node_of(inner);
    fb_tensor **pending = &fbi_grads(e.to)[e.out_index];
    if (cap.node) {
        cap.begin = *pending;
        *pending = NULL;
    }
    return cap;
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
        FB_SCOPE(ctx);
        st = fbi_segment_again(ctx, s, n, inner, out);
        for (int i = 0; i < n->n_in && !st; i++)
            caps[i] = fbi_segment_wants(outer, fbi_edges(n)[i], i < s->n_in ? inner[i] : NULL);
        for (int i = 0; i < s->n_out; i++)
            seed[i] = grad[i];
        fbi_pass pass = {.ctx = ctx, .capture = true, .nested = true};
        if (!st)
            st = fbi_pass_run(&pass, (fb_tensors){out, s->n_out}, seed, caps, n->n_in);
        for (int i = 0; i < n->n_in; i++) {
            in_grad[i] = caps[i].grad;
            fbi_tensor_unref(caps[i].begin); /* after an error */
        }
    }
    free(inner);
    free(caps);
    return st;
}

static fb_status fbi_segment_edges(fbi_node *n, const fbi_segment *s, fb_tensors in,
                                   fbi_node *const *extra)
{
    fb_status st = FB_OK;
    for (int i = 0; i < n->n_in; i++) {
        fb_tensor *t = i < s->n_in ? in.t[i] : NULL;
        fbi_node *to = i >= s->n_in           ? extra[i - s->n_in]
                       : t && !fbi_is_leaf(t) ? fbi_node_of(t)
                                              : NULL;
        if (t && !st)
            st = fbi_save(n, i, t, FBI_SAVE_INPUT);
        if (!to)
            continue;
        to->refs++;
        fbi_edges(n)[i] = (fbi_edge){to, t && t->node ? t->out_index : 0};
    }
    return st;
}

static fb_status fbi_segment_record(fb_context *ctx, fbi_segment *s, const fbi_pass *seen,
                                    fb_tensors in, fb_tensor *const *inner, fb_tensor **out)
{
    int leaves = 0;
    fbi_node **extra = calloc((size_t)seen->n_leaves + 1, sizeof *extra);
    if (!extra)
        return fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory");
    for (int i = 0; i < seen->n_leaves; i++) {
        bool own = false;
        for (int k = 0; k < s->n_in; k++)
            own = own || (inner[k] && inner[k] != in.t[k] && inner[k]->leaf &&
                          inner[k]->leaf->node == seen->leaves[i].node);
        if (!own && seen->leaves[i].node->leaf)
            extra[leaves++] = seen->leaves[i].node;
    }
    fbi_node *n = fbi_node_new(ctx, 0, s->n_in + leaves, s->n_out, s->n_in, sizeof(fbi_custom));
    fbi_custom custom = {"checkpoint", s, fbi_segment_backward, NULL};
    if (n) {
        memcpy(fbi_attrs(n), &custom, sizeof custom);
        n->flags |= FBI_NODE_CUSTOM;
    }
    fb_status st = n ? fbi_segment_edges(n, s, in, extra) : ctx->status;
    free(extra);
    if (ctx->anomaly && !st)
        fbi_anomaly_note(ctx, n, in.t, in.n);
    for (int i = 0; i < s->n_out && !st; i++) {
        if (!fb_dtype_is_float((fb_dtype)out[i]->dtype))
            continue;
        out[i]->node = n;
        out[i]->out_index = (uint8_t)i;
        n->refs++;
    }
    if (!st)
        ((fbi_custom *)fbi_attrs(n))->drop = fbi_segment_drop; /* from here on s is the node's */
    fbi_node_unref(ctx, n);
    return st;
}

static fb_status fbi_segment_first(fb_context *ctx, fbi_segment *s, fb_tensors in,
                                   fb_tensor **inner, fb_tensor **out, bool *recorded)
{
    fb_scope home = fb_scope_current(ctx);
    FB_SCOPE(ctx);
    for (int i = 0; i < s->n_in; i++) {
        inner[i] = in.t[i] ? fbi_segment_input(in.t[i], fb_needs_grad(in.t[i])) : NULL;
        if (in.t[i] && !inner[i])
            return ctx->status;
    }
    fb_scope scope = fb_scope_begin(ctx);
    ctx->saver = NULL; /* its graph goes at once: hooks get the inputs only */
    fb_status st = fbi_segment_run(ctx, s, inner, out);
    fbi_pass seen = {.ctx = ctx};
    if (!st)
        st = fbi_walk_collect(&seen, (fb_tensors){out, s->n_out});
    for (int i = 0; i < s->n_out && !st; i++) {
        out[i] = fb_detach(out[i]);
        if (out[i])
            fb_keep_in(home, out[i]);
        else
            st = ctx->status;
    }
    fb_scope_end(&scope);
    bool any = seen.n_leaves > 0;
    if (!st && any)
        st = fbi_segment_record(ctx, s, &seen, in, inner, out);
    *recorded = !st && any;
    fbi_walk_end(&seen, NULL, 0);
    return st;
}

static fb_status fbi_segment_call(fb_context *ctx, fbi_segment *s, fb_tensors in, fb_tensor **out)
{
    bool recorded = false;
    fb_tensor **inner = calloc((size_t)in.n + 1, sizeof *inner);
    fb_status st = inner ? fbi_segment_first(ctx, s, in, inner, out, &recorded)
                         : fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory");
    free(inner);
    if (!recorded)
        fbi_segment_drop(s);
    return st;
}

static fb_context *fbi_context_in(fb_tensors in)
{
    fb_context *ctx = NULL;
    for (int i = 0; i < in.n && !ctx; i++)
        ctx = in.t[i] ? in.t[i]->ctx : NULL;
    return ctx;
}

fb_status fbi_checkpoint_call(fb_checkpoint_fn fn, void *user, void (*drop)(void *user),
                              fb_tensors in, int n_out, fb_tensor **out)
{
    for (int i = 0; out && i < n_out; i++)
        out[i] = NULL;
    fb_context *ctx = fbi_context_in(in);
    fb_status st = fbi_enter(ctx) ? FB_OK : ctx ? ctx->status : FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!st && (!fn || !out))
        st = fbi_fail(ctx, FB_E_ARG, "checkpoint: %s is NULL", fn ? "out" : "the function");
    bool record = !st && ctx->grad_on;
    if (record && (n_out < 1 || n_out > 255))
        st = fbi_fail(ctx, FB_E_ARG, "checkpoint: %d outputs", n_out);
    fbi_segment *s = record && !st ? malloc(sizeof *s) : NULL;
    if (record && !st && !s)
        st = fbi_fail(ctx, FB_E_NOMEM, "checkpoint: no memory");
    if (!s) {
        st = st ? st : fn(user, in, out);
        if (drop)
            drop(user);
        return st;
    }
    *s = (fbi_segment){fn, user, drop, fbi_rng_save(ctx), ctx->autocast, in.n, n_out};
    st = fbi_segment_call(ctx, s, in, out);
    for (int i = 0; i < n_out && st; i++)
        out[i] = NULL;
    return st;
}

fb_status fb_checkpoint_call(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out,
                             fb_tensor **out)
{
    FBI_ENTRY(fbi_context_in(in));
    return fbi_checkpoint_call(fn, user, NULL, in, n_out, out);
}
