/* The graph: nodes, edges, saved tensors, leaves. */
#ifndef FLAMBEAU_CORE_AUTOGRAD_NODE_PRIV_H
#define FLAMBEAU_CORE_AUTOGRAD_NODE_PRIV_H

#include <flambeau/core/autograd/autograd.h>

#include "core/tensor/context_priv.h"

/* Where the gradient of an input goes; NULL: not wanted, kernels skip it. */
typedef struct fbi_edge {
    fbi_node *to;
    uint32_t out_index;
} fbi_edge;

enum {
    FBI_SAVED_OUTPUT = 1, /* a detached twin of the node's own output: no cycle */
    FBI_SAVED_PACKED = 2  /* by hooks: `packed` */
};

struct fbi_packed;

typedef struct fbi_saved {
    union {
        fb_tensor *t; /* counted; NULL: nothing */
        struct fbi_packed *packed;
    };
    uint32_t version; /* of the storage when saved */
    uint32_t flags;   /* out_index << 8 of an output */
} fbi_saved;

typedef enum fbi_save_what {
    FBI_SAVE_INPUT = 0,
    FBI_SAVE_OUTPUT,   /* the node's own */
    FBI_SAVE_UNWRITTEN /* the same, but its values come later: fbi_save_written */
} fbi_save_what;

struct fbi_hook_list;

/* Header of a node; edges[n_in], grad[n_out], saved[n_saved] and attributes follow in one slab. */
struct fbi_node {
    int32_t refs;
    uint16_t op; /* FBI_OP_none: a leaf's accumulation node */
    uint8_t n_out, flags;
    uint16_t n_in, n_saved;
    uint32_t bytes; /* whole size, for the slab */
    uint32_t mark;  /* of the walk that has seen it */
    uint64_t seq;   /* order of recording; backward runs downwards */
    const void *site;
    fbi_leaf *leaf;              /* of an accumulation node */
    struct fbi_hook_list *hooks; /* on outputs, and a note of fb_detect_anomaly */
    fbi_node *next;              /* list of the walk, free list */
};

enum {
    FBI_NODE_SPENT = 1,  /* backward has been through and freed what was saved */
    FBI_NODE_CUSTOM = 2, /* fb_function, checkpoint: `attrs` holds a fbi_custom */
    FBI_NODE_NEEDED = 4, /* during a walk that returns gradients: leads to one of them */
    FBI_NODE_PACKED = 8  /* something that it saved is packed */
};

static inline fbi_edge *fbi_edges(fbi_node *n)
{
    return (fbi_edge *)(n + 1);
}
static inline fb_tensor **fbi_grads(fbi_node *n)
{
    return (fb_tensor **)(fbi_edges(n) + n->n_in);
}
static inline fbi_saved *fbi_saves(fbi_node *n)
{
    return (fbi_saved *)(fbi_grads(n) + n->n_out);
}
static inline void *fbi_attrs(fbi_node *n)
{
    return fbi_saves(n) + n->n_saved;
}

/* State of a leaf's gradient. */
typedef enum fbi_grad_state {
    FBI_GRAD_NONE = 0, /* nothing written: fb_grad_of is NULL; the next write overwrites */
    FBI_GRAD_LIVE,     /* the next write adds */
    FBI_GRAD_SPENT     /* an optimizer has used it: readable, the next write overwrites */
} fbi_grad_state;

/* What losses that are sums counted, for the parameters of one root, or the loose tensors of one
 * optimizer: every backward that reaches one of them counts once. */
typedef struct fbi_tally {
    int32_t refs; /* of leaves and optimizers */
    uint32_t pass;
    double count;
    fbi_storage *sum;    /* the count of a device, which the host does not know: one double */
    bool counted, plain; /* some backward gave a count; some other gave none */
    bool spent;          /* the gradients are used or given up: the next backward begins anew */
} fbi_tally;

/* Where a parameter lies in the whole: filled for parameters, buffers and optimizer state. */
typedef struct fbi_placement {
    enum { FBI_REPLICATED = 0, FBI_SHARDED, FBI_FLAT_RANGE, FBI_PARTIAL } kind;
    int dim;         /* sharded dimension */
    int64_t offset;  /* of this piece, in elements of `dim`, or of the flattened tensor */
    fb_shape global; /* sizes of the whole */
} fbi_placement;

/* Where the gradient of a leaf goes. NULL sink: `grad` is allocated when first needed. */
typedef struct fbi_grad_sink {
    void *self;
    /* Called once per backward and leaf, before the first write: may repoint leaf->grad and state.
     */
    void (*prepare)(void *self, fbi_leaf *leaf);
    /* Called once per backward, when every contribution of this pass is in leaf->grad. */
    void (*ready)(void *self, fbi_leaf *leaf);
} fbi_grad_sink;

struct fbi_leaf {
    fb_tensor *tensor; /* the leaf; not counted */
    fb_tensor *grad;   /* owned; may be a view into a flat bucket that was there before */
    fb_tensor *linked; /* owned; gradient with its graph, after backward with create_graph */
    fbi_node *node;    /* accumulation node, made at first use; counted */
    fbi_grad_state state;
    bool required;
    bool frozen; /* fb_nn_freeze: norm layers stay in eval */
    char *name;  /* full name of a parameter or buffer, owned; NULL */
    fbi_placement place;
    struct {
        int kind;
        double a, b;
    } draw; /* core/nn: how a declared parameter gets its first values */
    const fbi_grad_sink *sink;
    fbi_tally *tally; /* counted; NULL: nobody divides by counts */
    uint32_t index;   /* of the parameter in its flat storage */
    uint32_t pending; /* contributions still expected in this pass */
};

/* --- core/autograd/node.c --- */
/* A node with room for everything; refs 1. NULL: error is set. */
fbi_node *fbi_node_new(fb_context *ctx, uint16_t op, int n_in, int n_out, int n_saved,
                       size_t attrs_bytes);
void fbi_node_unref(fb_context *ctx, fbi_node *n);
/* The leaf record of a tensor, made if missing. */
fbi_leaf *fbi_leaf_of(fb_tensor *t);
void fbi_leaf_free(fb_context *ctx, fbi_leaf *leaf); /* called when the tensor goes */
/* The node that stands for t as an input: its producer, or its leaf's accumulation node, or NULL.
 */
fbi_node *fbi_node_of(fb_tensor *t);
/* Keep t for backward, by the context's hooks if it has some. */
fb_status fbi_save(fbi_node *n, int slot, fb_tensor *t, fbi_save_what what);
/* The own outputs of t's node have their values now, which are t's. */
fb_status fbi_save_written(fb_tensor *t);
/* The saved tensor, version checked; in linked mode an own output is linked to the node again. */
fb_tensor *fbi_unpack(fb_context *ctx, fbi_node *n, int slot, bool linked);
/* Give up what a slot holds. */
void fbi_unsave(fbi_saved *s);
/* What unpacking made is not needed any more. */
void fbi_unpacked_forget(fbi_node *n);

/* --- core/autograd/relay.c --- */
struct fbi_custom;
/* Put another handle in the place of each t[i] that needs a gradient, all made by one new node
 * whose backward is `custom`: it gets their gradients (NULL: none) and gives those of the old
 * handles. The node owns custom.self, unless this fails. */
fb_status fbi_relay(fb_context *ctx, const struct fbi_custom *custom, fb_tensor **t, int n);

/* --- core/autograd/anomaly.c --- */
/* How many elements of a tensor are not finite. */
typedef struct fbi_oddity {
    int64_t nan, inf;
} fbi_oddity;
/* Of t, read by the host; nothing for NULL and what is no float. */
fbi_oddity fbi_odd(fb_tensor *t);
/* Remember for messages what the node was recorded for: its inputs, the context's label. */
void fbi_anomaly_note(fb_context *ctx, fbi_node *n, fb_tensor *const *in, int n_in);

/* --- core/autograd/tally.c --- */
fbi_tally *fbi_tally_new(fb_context *ctx); /* refs 1. NULL: error is set */
void fbi_tally_unref(fb_context *ctx, fbi_tally *tally);
void fbi_tally_set(fb_context *ctx, fbi_leaf *leaf, fbi_tally *tally);
/* *sum (device memory) += the count of the backward that runs, which is on the device. */
fb_status fbi_count_on(fb_context *ctx, double *sum);
/* Add what this backward counts, once. */
void fbi_tally_note(fb_context *ctx, fbi_tally *tally);

fb_status fbi_backward_hook_add(fb_context *ctx, fbi_backward_hook *hook); /* caller's memory */
void fbi_backward_hook_remove(fb_context *ctx, fbi_backward_hook *hook);

#endif
