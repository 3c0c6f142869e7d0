/* Which nodes a backward visits, in which order. */
#include "core/autograd/walk_priv.h"

#include <stdlib.h>

static fb_status fbi_push(fbi_pass *p, fbi_node *n)
{
    if (p->n == p->cap) {
        int cap = p->cap ? 2 * p->cap : 256;
        fbi_node **more = realloc(p->order, (size_t)cap * sizeof *more);
        if (!more)
            return fbi_fail(p->ctx, FB_E_NOMEM, "backward: no memory for %d nodes", cap);
        p->order = more;
        p->cap = cap;
    }
    n->mark = p->ctx->mark;
    n->refs++;
    p->order[p->n++] = n;
    return FB_OK;
}

static fb_status fbi_push_leaf(fbi_pass *p, fbi_node *n)
{
    if (p->n_leaves == p->cap_leaves) {
        int cap = p->cap_leaves ? 2 * p->cap_leaves : 64;
        fbi_pass_leaf *more = realloc(p->leaves, (size_t)cap * sizeof *more);
        if (!more)
            return fbi_fail(p->ctx, FB_E_NOMEM, "backward: no memory for %d leaves", cap);
        p->leaves = more;
        p->cap_leaves = cap;
    }
    n->mark = p->ctx->mark;
    n->refs++;
    p->leaves[p->n_leaves++] = (fbi_pass_leaf){n, fbi_grads(n)[0], n->leaf ? n->leaf->pending : 0};
    fbi_grads(n)[0] = NULL;
    if (n->leaf)
        n->leaf->pending = 0;
    return FB_OK;
}

bool fbi_is_leaf_node(const fbi_node *n)
{
    return n->op == 0 && !(n->flags & FBI_NODE_CUSTOM);
}

static fb_status fbi_visit(fbi_pass *p, fbi_node *n)
{
    if (n->mark == p->ctx->mark)
        return FB_OK;
    return fbi_is_leaf_node(n) ? fbi_push_leaf(p, n) : fbi_push(p, n);
}

static int fbi_by_seq(const void *a, const void *b)
{
    uint64_t x = (*(fbi_node *const *)a)->seq, y = (*(fbi_node *const *)b)->seq;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* As found, the nodes of a chain are in order already. */
static void fbi_sort(fbi_pass *p)
{
    int i = 1;
    while (i < p->n && p->order[i - 1]->seq > p->order[i]->seq)
        i++;
    if (i < p->n)
        qsort(p->order, (size_t)p->n, sizeof *p->order, fbi_by_seq);
}

fb_status fbi_walk_collect(fbi_pass *p, fb_tensors out)
{
    p->ctx->mark++;
    for (int i = 0; i < out.n; i++) {
        fbi_node *n = fbi_node_of(out.t[i]);
        fb_status st = n ? fbi_visit(p, n) : FB_OK;
        if (st)
            return st;
        if (n && fbi_is_leaf_node(n) && n->leaf)
            n->leaf->pending++;
    }
    for (int i = 0; i < p->n; i++) {
        fbi_node *n = p->order[i];
        for (int k = 0; k < n->n_in; k++) {
            fbi_node *to = fbi_edges(n)[k].to;
            fb_status st = to ? fbi_visit(p, to) : FB_OK;
            if (st)
                return st;
            if (to && fbi_is_leaf_node(to) && to->leaf)
                to->leaf->pending++;
        }
    }
    fbi_sort(p);
    return FB_OK;
}

void fbi_walk_needed(fbi_pass *p, fbi_capture *caps, int n_caps)
{
    for (int i = 0; i < n_caps; i++) {
        fbi_node *n = caps[i].node;
        if (!n)
            continue;
        caps[i].flags = n->flags;
        n->flags |= (uint8_t)(FBI_NODE_NEEDED | (caps[i].straight ? FBI_NODE_STRAIGHT : 0));
    }
    for (int i = p->n - 1; i >= 0; i--) /* inputs have the smaller seq */
        for (int k = 0; k < p->order[i]->n_in; k++) {
            fbi_node *to = fbi_edges(p->order[i])[k].to;
            if (to && (to->flags & FBI_NODE_NEEDED))
                p->order[i]->flags |= FBI_NODE_NEEDED;
        }
}

void fbi_walk_end(fbi_pass *p, const fbi_capture *caps, int n_caps)
{
    const uint8_t ours = FBI_NODE_NEEDED | FBI_NODE_STRAIGHT;
    for (int i = 0; i < p->n; i++)
        if (p->order[i])
            p->order[i]->flags &= (uint8_t)~FBI_NODE_NEEDED;
    for (int i = n_caps - 1; i >= 0; i--) /* backwards: of a node twice, the first has what was */
        if (caps[i].node)
            caps[i].node->flags = (uint8_t)((caps[i].node->flags & ~ours) | (caps[i].flags & ours));
    for (int i = 0; i < p->n; i++) {
        fbi_node *n = p->order[i];
        if (!n)
            continue;
        for (int k = 0; k < n->n_out; k++) {
            fbi_tensor_unref(fbi_grads(n)[k]);
            fbi_grads(n)[k] = NULL;
        }
        fbi_node_unref(p->ctx, n);
    }
    for (int i = 0; i < p->n_leaves; i++) {
        fbi_node *n = p->leaves[i].node;
        fbi_tensor_unref(fbi_grads(n)[0]);
        fbi_grads(n)[0] = p->leaves[i].grad;
        if (n->leaf)
            n->leaf->pending = p->leaves[i].pending;
        fbi_node_unref(p->ctx, n);
    }
    free(p->order);
    free(p->leaves);
}
