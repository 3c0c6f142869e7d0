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
    struct fbi_capture *caps; /* in capture mode */
    int n_caps;
    const fbi_node *spent; /* met in capture mode, leading nowhere any more; NULL */
} fbi_pass;

/* One gradient to return: output `out_index` of `node`. */
typedef struct fbi_capture {
    fbi_node *node;
    uint32_t out_index;
    fb_tensor *grad;  /* owned result */
    fb_tensor *begin; /* owned; of a leaf of a nested walk: what contributions are added to */
    bool straight; /* of a leaf: goes where it accumulates, as in the outer walk, into no `grad` */
    uint8_t flags; /* the node's, to be restored */
} fbi_capture;

enum { FBI_NODE_STRAIGHT = 16 }; /* a flag of nodes, beside those of node_priv.h */

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
/* A text that goes with the node; taken over, NULL: no memory, which only loses the text. */
void fbi_node_set_note(fbi_node *n, char *text);
const char *fbi_node_note(const fbi_node *n); /* NULL: none */

/* Anomalies (anomaly.c): an error if the gradients of n's outputs, or those that its backward has
 * made, are not finite. */
fb_status fbi_anomaly_given(fbi_pass *pass, fbi_node *n);
fb_status fbi_anomaly_made(fbi_pass *pass, fbi_node *n, fb_tensor *const *in_grad);
/* Call `op` has made output i: an error if it is odd and no input was. */
fb_status fbi_anomaly_result(fb_context *ctx, const char *op, int i, fb_tensor *out, fbi_oddity odd,
                             fb_tensor *const *in, int n_in);

/* fb_checkpoint_call; drop(user) when fn will not be called again, also after an error. */
fb_status fbi_checkpoint_call(fb_checkpoint_fn fn, void *user, void (*drop)(void *user),
                              fb_tensors in, int n_out, fb_tensor **out);

/* Put into the scope one level up; used to hand results out of a scope of ours. */
fb_status fbi_leaf_write(fb_context *ctx, fbi_leaf *leaf, fb_tensor *g);

/* Row k of `all`, whose rows follow each other, as a view like t (functional.c). */
fb_tensor *fbi_grad_row(fb_tensor *all, int64_t k, const fb_tensor *t);
/* The sizes of a, then those of b; false: too many dimensions. */
bool fbi_joined(fb_shape a, fb_shape b, fb_shape *shape);

/* --- implemented by core/ops --- */

const char *fbi_node_name(const fbi_node *n);
/* Run the node's backward; in_grad[i]: owned references or NULL. */
fb_status fbi_node_backward(fbi_pass *pass, fbi_node *n, fb_tensor *const *grad,
                            fb_tensor **in_grad);
fb_tensor *fbi_grad_sum(fb_tensor *a, fb_tensor *b); /* a + b, recorded if recording */
fb_status fbi_grad_add(fb_context *ctx, fb_tensor *dst, fb_tensor *g); /* dst += g */
fb_status fbi_grad_copy(fb_context *ctx, fb_tensor *dst, fb_tensor *g);
fb_tensor *fbi_grad_const(fb_context *ctx, fb_dtype dtype, fb_shape shape, double value);
fb_tensor *fbi_grad_full(fb_tensor *like, double value);
fb_status fbi_grad_fill(fb_tensor *dst, double value);
/* n tensors of one shape below each other, seen as `shape`; recorded if recording */
fb_tensor *fbi_grad_stack(fb_tensor *const *rows, int n, fb_shape shape);
fb_tensor *fbi_grad_scale(fb_tensor *g, double factor);

#endif
