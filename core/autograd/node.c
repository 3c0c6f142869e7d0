/* Nodes and leaves: making, counting, freeing. */
#include <stdlib.h>

#include "core/autograd/pass_priv.h"

fbi_node *fbi_node_new(fb_context *ctx, uint16_t op, int n_in, int n_out, int n_saved,
                       size_t attrs_bytes)
{
    size_t bytes = sizeof(fbi_node) + (size_t)n_in * sizeof(fbi_edge) +
                   (size_t)n_out * sizeof(fb_tensor *) + (size_t)n_saved * sizeof(fbi_saved) +
                   attrs_bytes;
    fbi_node *n = fbi_slab_node(ctx, bytes); /* zeroed */
    if (!n)
        return NULL;
    n->refs = 1;
    n->op = op;
    n->n_in = (uint16_t)n_in;
    n->n_out = (uint8_t)n_out;
    n->n_saved = (uint16_t)n_saved;
    n->bytes = (uint32_t)bytes;
    n->seq = ++ctx->seq;
    n->site = ctx->site;
    return n;
}

/* Frees what the node holds; nodes that die with it are put on *dead. */
static void fbi_node_release(fb_context *ctx, fbi_node *n, fbi_node **dead)
{
    fbi_hooks_free(n);
    if ((n->flags & FBI_NODE_CUSTOM)) {
        fbi_custom *custom = fbi_attrs(n);
        if (custom->drop)
            custom->drop(custom->self);
    }
    for (int i = 0; i < n->n_saved; i++)
        fbi_unsave(&fbi_saves(n)[i]); /* before the edges: those still hold the producers */
    for (int i = 0; i < n->n_out; i++)
        fbi_tensor_unref(fbi_grads(n)[i]);
    for (int i = 0; i < n->n_in; i++) {
        fbi_node *to = fbi_edges(n)[i].to;
        if (to && --to->refs == 0) {
            to->next = *dead;
            *dead = to;
        }
    }
    fbi_slab_node_free(ctx, n, n->bytes);
}

void fbi_node_unref(fb_context *ctx, fbi_node *n)
{
    if (!n || --n->refs)
        return;
    n->next = NULL;
    fbi_node *dead = n; /* a loop and no recursion: graphs are deep */
    while (dead) {
        fbi_node *next = dead;
        dead = next->next;
        fbi_node_release(ctx, next, &dead);
    }
}

fbi_leaf *fbi_leaf_of(fb_tensor *t)
{
    if (t->leaf)
        return t->leaf;
    fbi_leaf *leaf = calloc(1, sizeof *leaf);
    if (!leaf) {
        fbi_fail(t->ctx, FB_E_NOMEM, "no memory for a leaf");
        return NULL;
    }
    leaf->tensor = t;
    t->leaf = leaf;
    return leaf;
}

void fbi_leaf_free(fb_context *ctx, fbi_leaf *leaf)
{
    if (!leaf)
        return;
    if (leaf->node) {
        leaf->node->leaf = NULL;
        fbi_node_unref(ctx, leaf->node);
    }
    fbi_tensor_unref(leaf->grad);
    fbi_tensor_unref(leaf->linked);
    fbi_tally_unref(ctx, leaf->tally);
    free(leaf->name);
    free(leaf);
}

fbi_node *fbi_node_of(fb_tensor *t)
{
    if (t->node)
        return t->node;
    fbi_leaf *leaf = t->leaf;
    if (!leaf || !leaf->required)
        return NULL;
    if (!leaf->node) {
        leaf->node = fbi_node_new(t->ctx, 0, 0, 1, 0, 0);
        if (leaf->node)
            leaf->node->leaf = leaf;
    }
    return leaf->node;
}
