/* Backward: visit nodes by descending seq, deliver gradients, free what was saved. The order of
 * accumulation is that of the visits, hence fixed. */
#include <stdlib.h>
#include <string.h>

#include "core/autograd/walk_priv.h"

static bool ours_alone(const fb_tensor *t)
{
    return t->refs == 1 && t->storage->refs == 1 && fbi_dense(t);
}

/* Add g (owned) to a pending gradient. */
static fb_status fbi_gather(fbi_pass *p, fb_tensor **slot, fb_tensor *g)
{
    if (!*slot) {
        *slot = g;
        return FB_OK;
    }
    fb_tensor *old = *slot;
    if (!p->linked && (ours_alone(g) || ours_alone(old))) { /* g is the warmer one */
        fb_tensor *sum = ours_alone(g) ? g : old, *other = sum == g ? old : g;
        *slot = sum;
        fb_status st = fbi_grad_add(p->ctx, sum, other);
        fbi_tensor_unref(other);
        return st;
    }
    FB_SCOPE(p->ctx);
    fb_tensor *sum = fbi_grad_sum(old, g);
    fbi_tensor_unref(old);
    fbi_tensor_unref(g);
    *slot = NULL;
    if (!sum)
        return p->ctx->status;
    fbi_tensor_ref(sum);
    *slot = sum;
    return FB_OK;
}

/* Everything for this leaf has arrived. */
static fb_status fbi_leaf_done(fbi_pass *p, fbi_node *n)
{
    fb_context *ctx = p->ctx;
    fb_tensor **slot = &fbi_grads(n)[0];
    fb_status st = *slot && !p->nested ? fbi_hooks_run(ctx, n, 0, slot) : FB_OK;
    if (st || p->capture || !n->leaf)
        return st;
    fbi_leaf *leaf = n->leaf;
    if (*slot) {
        st = fbi_leaf_write(ctx, leaf, *slot);
        if (!st && p->linked) {
            fbi_tensor_ref(*slot);
            fbi_tensor_unref(leaf->linked);
            leaf->linked = *slot;
        }
        fbi_tensor_unref(*slot);
        *slot = NULL;
    }
    if (!st && leaf->sink && leaf->sink->ready)
        leaf->sink->ready(leaf->sink->self, leaf);
    return st ? st : ctx->status;
}

static fb_status fbi_deliver(fbi_pass *p, fbi_node *to, uint32_t out_index, fb_tensor *g)
{
    if (!fbi_is_leaf_node(to))
        return fbi_gather(p, &fbi_grads(to)[out_index], g);
    bool straight = !p->capture || (to->flags & FBI_NODE_STRAIGHT);
    if (!straight || p->linked || to->hooks)
        return fbi_gather(p, &fbi_grads(to)[0], g);
    fb_status st = to->leaf ? fbi_leaf_write(p->ctx, to->leaf, g) : FB_OK;
    fbi_tensor_unref(g);
    return st;
}

static fb_status fbi_check_spent(fbi_pass *p, const fbi_node *n)
{
    if (!(n->flags & FBI_NODE_SPENT))
        return FB_OK;
    char site[160];
    return fbi_fail(p->ctx, FB_E_STATE,
                    "backward: the graph through %s (recorded at %s) was freed by an earlier "
                    "backward; set retain_graph there",
                    fbi_node_name(n), fbi_site_text(n->site, site, sizeof site));
}

/* Free what the node saved and cut it from its inputs. */
static void fbi_spend(fbi_pass *p, fbi_node *n)
{
    for (int i = 0; i < n->n_saved; i++)
        fbi_unsave(&fbi_saves(n)[i]);
    for (int i = 0; i < n->n_in; i++) {
        fbi_node *to = fbi_edges(n)[i].to;
        fbi_edges(n)[i].to = NULL;
        fbi_node_unref(p->ctx, to);
    }
    n->flags |= FBI_NODE_SPENT;
}

/* In a walk that returns gradients: hide the inputs that lead nowhere, or show them again. */
static void fbi_hide(fbi_pass *p, fbi_node *n, fbi_node **to, bool hide)
{
    if (!p->capture)
        return;
    for (int i = 0; i < n->n_in; i++) {
        fbi_edge *e = &fbi_edges(n)[i];
        if (hide) {
            to[i] = e->to;
            if (e->to && !(e->to->flags & FBI_NODE_NEEDED))
                e->to = NULL;
        } else {
            e->to = to[i];
        }
    }
}

/* Hand out the gradients of n that are to be returned, as hooks have left them. */
static void fbi_capture_from(fbi_pass *p, fbi_node *n)
{
    for (int i = 0; i < p->n_caps; i++) {
        fbi_capture *cap = &p->caps[i];
        fb_tensor *g = cap->node == n ? fbi_grads(n)[cap->out_index] : NULL;
        if (g && !cap->grad) {
            fbi_tensor_ref(g);
            cap->grad = g;
        }
    }
}

static fb_status fbi_visit_node(fbi_pass *p, fbi_node *n, fb_tensor **in_grad, fbi_node **hidden)
{
    fb_context *ctx = p->ctx;
    fb_tensor **grad = fbi_grads(n);
    bool any = false;
    fb_status st = FB_OK;
    for (int i = 0; i < n->n_out && !st; i++) {
        if (grad[i] && n->hooks)
            st = fbi_hooks_run(ctx, n, (uint32_t)i, &grad[i]);
        any = any || grad[i];
    }
    if (__builtin_expect(ctx->anomaly, 0) && any && !st)
        st = fbi_anomaly_given(p, n);
    if (p->n_caps && !st)
        fbi_capture_from(p, n);
    bool wanted = any && (!p->capture || (n->flags & FBI_NODE_NEEDED));
    memset(in_grad, 0, n->n_in * sizeof *in_grad);
    if (!st && wanted)
        st = fbi_check_spent(p, n);
    if (any && !wanted && (n->flags & FBI_NODE_SPENT))
        p->spent = n;
    if (!st && wanted) {
        fbi_hide(p, n, hidden, true);
        fb_scope scope = fb_scope_begin(ctx);
        if (p->linked)
            fb_enable_grad(ctx);
        else
            fb_no_grad(ctx);
        const char *before = fbi_doing_begin_of(ctx, FBI_SPAN_NODE, fbi_node_name(n), n);
        st = fbi_node_backward(p, n, grad, in_grad);
        if (__builtin_expect(ctx->anomaly, 0) && !st)
            st = fbi_anomaly_made(p, n, in_grad);
        fbi_doing_end(ctx, before);
        if (n->flags & FBI_NODE_PACKED)
            fbi_unpacked_forget(n);
        fb_scope_end(&scope);
        fbi_hide(p, n, hidden, false);
    }
    for (int i = 0; i < n->n_out; i++) {
        fbi_tensor_unref(grad[i]);
        grad[i] = NULL;
    }
    for (int i = 0; i < n->n_in; i++) {
        fbi_edge e = fbi_edges(n)[i];
        if (in_grad[i] && e.to && !st)
            st = fbi_deliver(p, e.to, e.out_index, in_grad[i]);
        else
            fbi_tensor_unref(in_grad[i]);
    }
    for (int i = 0; i < n->n_in && !st; i++) {
        fbi_node *to = fbi_edges(n)[i].to;
        if (to && fbi_is_leaf_node(to) && to->leaf && to->leaf->pending && --to->leaf->pending == 0)
            st = fbi_leaf_done(p, to);
    }
    if (!p->retain && wanted)
        fbi_spend(p, n);
    return st;
}

/* What contributions to a leaf begin with: in a nested walk, what has come from outside of it. */
static void fbi_begin_leaves(fbi_pass *p)
{
    for (int i = 0; i < p->n_caps; i++) {
        fbi_capture *cap = &p->caps[i];
        if (!cap->begin)
            continue;
        bool met = cap->node->mark == p->ctx->mark; /* else nothing will be added */
        *(met ? &fbi_grads(cap->node)[0] : &cap->grad) = cap->begin;
        cap->begin = NULL;
    }
}

/* A gradient that is missing may be so because the graph has been cut. */
static fb_status fbi_check_captured(fbi_pass *p)
{
    for (int i = 0; i < p->n_caps && p->spent; i++)
        if (p->caps[i].node && !p->caps[i].grad && !p->caps[i].straight)
            return fbi_check_spent(p, p->spent);
    return FB_OK;
}

static fb_status fbi_seed(fbi_pass *p, fb_tensors out, fb_tensor *const *seed)
{
    fb_status st = FB_OK;
    for (int i = 0; i < out.n && !st; i++) {
        fbi_node *n = fbi_node_of(out.t[i]);
        if (!n || !seed[i])
            continue;
        fbi_tensor_ref(seed[i]);
        st = fbi_deliver(p, n, out.t[i]->node ? out.t[i]->out_index : 0, seed[i]);
        if (!st && fbi_is_leaf_node(n) && n->leaf && --n->leaf->pending == 0)
            st = fbi_leaf_done(p, n);
    }
    return st;
}

static void fbi_prepare_leaves(fbi_pass *p)
{
    for (int i = 0; i < p->n_leaves; i++) {
        fbi_leaf *leaf = p->leaves[i].node->leaf;
        if (leaf && leaf->tally)
            fbi_tally_note(p->ctx, leaf->tally);
        if (leaf && leaf->sink && leaf->sink->prepare)
            leaf->sink->prepare(leaf->sink->self, leaf);
    }
}

static fb_status fbi_pass_nodes(fbi_pass *p)
{
    int widest = 1;
    for (int i = 0; i < p->n; i++)
        widest = p->order[i]->n_in > widest ? p->order[i]->n_in : widest;
    fb_tensor **in_grad = calloc((size_t)widest, sizeof *in_grad);
    fbi_node **hidden = calloc((size_t)widest, sizeof *hidden);
    fb_status st = in_grad && hidden ? FB_OK : fbi_fail(p->ctx, FB_E_NOMEM, "backward: no memory");
    for (int i = 0; i < p->n && !st; i++) {
        fbi_node *n = p->order[i];
        st = fbi_visit_node(p, n, in_grad, hidden);
        if (!st && p->ctx->hooks.poll)
            st = p->ctx->hooks.poll(p->ctx->hooks.self);
        if (!p->capture) {
            p->order[i] = NULL;
            fbi_node_unref(p->ctx, n);
        }
    }
    free(in_grad);
    free(hidden);
    return st ? st : p->ctx->status;
}

fb_status fbi_pass_run(fbi_pass *p, fb_tensors out, fb_tensor *const *seed, fbi_capture *caps,
                       int n_caps)
{
    fb_context *ctx = p->ctx;
    p->caps = caps;
    p->n_caps = n_caps;
    bool was = ctx->in_backward;
    uint8_t autocast = ctx->autocast; /* a backward has the dtypes of its forward */
    const char *before = fbi_doing_begin(ctx, FBI_SPAN_BACKWARD, "backward");
    ctx->in_backward = true;
    ctx->autocast = 0;
    fb_status st = fbi_walk_collect(p, out);
    if (p->capture)
        fbi_walk_needed(p, caps, n_caps);
    for (fbi_backward_hook *h = ctx->backward_hooks; h && !st && !p->capture; h = h->next)
        if (h->begin)
            h->begin(h->self);
    if (!st && !p->capture)
        fbi_prepare_leaves(p);
    if (!st) {
        fbi_begin_leaves(p);
        st = fbi_seed(p, out, seed);
    }
    if (!st)
        st = fbi_pass_nodes(p);
    for (int i = 0; i < p->n_leaves && !st; i++)
        fbi_capture_from(p, p->leaves[i].node);
    if (!st)
        st = fbi_check_captured(p);
    fbi_walk_end(p, caps, n_caps);
    for (fbi_backward_hook *h = ctx->backward_hooks; h && !st && !p->capture; h = h->next)
        if (h->finished)
            st = h->finished(h->self);
    ctx->in_backward = was;
    ctx->autocast = autocast;
    if (ctx->casts.n && !was)
        ctx->casts.forget(ctx); /* their nodes may be spent */
    fbi_doing_end(ctx, before);
    return st ? st : ctx->status;
}
