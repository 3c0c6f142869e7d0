/* One walk of backward, and what core/ops provides to it. */
#ifndef FLAMBEAU_CORE_AUTOGRAD_PASS_PRIV_H
#define FLAMBEAU_CORE_AUTOGRAD_PASS_PRIV_H

#include "core/autograd/node_priv.h"

/* A leaf met in a walk, and what an outer walk had stored there. */
typedef struct fbi_pass_leaf {
    fbi_node *node;
    fb_tensor *grad;
    uint32_t pending;
} fbi_pass_leaf;

typedef struct fbi_pass {
    fb_context *ctx;
    bool linked; /* create_graph */
    bool retain;
    bool capture;     /* gradients are returned and not accumulated: nodes flagged NEEDED only */
    bool nested;      /* of a checkpoint: hooks of leaves run in the outer walk */
    fbi_node **order; /* counted references, descending seq */
    int n, cap;
    fbi_pass_leaf *leaves;
    int n_leaves, cap_leaves;
} fbi_pass;

/* One gradient to return: output `out_index` of `node`. */
typedef struct fbi_capture {
    fbi_node *node;
    uint32_t out_index;
    fb_tensor *grad; /* owned result */
} fbi_capture;

/* Walk from outputs `out` with gradients `seed` (of the same shapes); fills caps in capture mode.
 */
fb_status fbi_pass_run(fbi_pass *pass, fb_tensors out, fb_tensor *const *seed, fbi_capture *caps,
                       int n_caps);

/* Where backward of input i may write directly: the leaf's gradient, or NULL. *beta: 0 or 1. */
fb_tensor *fbi_pass_dst(fbi_pass *pass, fbi_node *n, int i, float *beta);
/* The kernel has written there. */
void fbi_pass_written(fbi_node *n, int i);

/* A node whose backward is user code; lies where attributes lie. */
typedef struct fbi_custom {
    const char *name;
    void *self;
    fb_status (*backward)(void *self, fbi_pass *pass, fbi_node *n, fb_tensor *const *grad,
                          fb_tensor **in_grad);
    void (*drop)(void *self); /* with the node */
} fbi_custom;

/* Hooks of a node's outputs (hooks.c). */
fb_status fbi_hooks_run(fb_context *ctx, fbi_node *n, uint32_t out_index, fb_tensor **grad);
void fbi_hooks_free(fbi_node *n);

/* Put into the scope one level up; used to hand results out of a scope of ours. */
fb_status fbi_leaf_write(fb_context *ctx, fbi_leaf *leaf, fb_tensor *g);

/* --- implemented by core/ops --- */

const char *fbi_node_name(const fbi_node *n);
/* Run the node's backward; in_grad[i]: owned references or NULL. */
fb_status fbi_node_backward(fbi_pass *pass, fbi_node *n, fb_tensor *const *grad,
                            fb_tensor **in_grad);
fb_tensor *fbi_grad_sum(fb_tensor *a, fb_tensor *b); /* a + b, recorded if recording */
fb_status fbi_grad_add(fb_context *ctx, fb_tensor *dst, fb_tensor *g); /* dst += g */
fb_status fbi_grad_copy(fb_context *ctx, fb_tensor *dst, fb_tensor *g);
fb_tensor *fbi_grad_full(fb_tensor *like, double value);
fb_tensor *fbi_grad_scale(fb_tensor *g, double factor);

#endif
