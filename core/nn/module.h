/* Modules: a struct plus a constant descriptor. */
#ifndef FLAMBEAU_CORE_NN_MODULE_H
#define FLAMBEAU_CORE_NN_MODULE_H

#include <flambeau/core/nn/init.h>
#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

typedef enum fb_field_kind {
    FB_FIELD_END = 0,
    FB_FIELD_CHILD,  /**< fb_module * */
    FB_FIELD_PARAM,  /**< fb_tensor *, trained */
    FB_FIELD_BUFFER, /**< fb_tensor *, saved but not trained */
    FB_FIELD_SLOT    /**< fb_tensor *, neither: carried state */
} fb_field_kind;

typedef struct fb_field {
    fb_field_kind kind;
    const char *name;
    size_t offset;
} fb_field;

#define FB_CHILD(type, f)                     \
    {                                         \
        FB_FIELD_CHILD, #f, offsetof(type, f) \
    }
#define FB_PARAM(type, f)                     \
    {                                         \
        FB_FIELD_PARAM, #f, offsetof(type, f) \
    }
#define FB_BUFFER(type, f)                     \
    {                                          \
        FB_FIELD_BUFFER, #f, offsetof(type, f) \
    }
#define FB_SLOT(type, f)                     \
    {                                        \
        FB_FIELD_SLOT, #f, offsetof(type, f) \
    }

typedef struct fb_module_type {
    const char *name;
    size_t size;            /**< of the struct */
    const fb_field *fields; /**< ends with {0} */
    fb_tensor *(*forward)(fb_module *m, fb_tensor *x);
    void (*forward_n)(fb_module *m, fb_tensors in,
                      fb_outs out); /**< a NULL output is the failure */
    void (*free)(void *self);       /**< for what is not a field */
} fb_module_type;

/** A module with a copy of *self. A NULL child is absent, unless an error is set. */
FB_API FB_USE_RESULT fb_module *fb_nn_new(fb_context *ctx, const fb_module_type *type,
                                          const void *self);
/** The module's own struct. */
FB_API void *fb_nn_self(fb_module *m);
/** The context that the module was made in; NULL for NULL. */
FB_API fb_context *fb_nn_context(const fb_module *m);
/** A parameter to be made at first use: for the fields of a struct given to fb_nn_new. */
FB_API FB_USE_RESULT fb_tensor *fb_nn_declare_param(fb_context *ctx, fb_dtype dtype, fb_shape shape,
                                                    fb_init init);
/** The same for a buffer. */
FB_API FB_USE_RESULT fb_tensor *fb_nn_declare_buffer(fb_context *ctx, fb_dtype dtype,
                                                     fb_shape shape, fb_init init);

/** Run the module in a scope of its own, keeping only the output. Materialises on first use. */
FB_API FB_USE_RESULT fb_tensor *fb_nn_forward(fb_module *m, fb_tensor *x);
/**
 * The same for modules of several inputs and outputs: fills out. FB_E_ARG if the type has no
 * forward_n.
 */
FB_API fb_status fb_nn_forward_n(fb_module *m, fb_tensors in, fb_outs out);
/** Run any function of the module as a module call. */
FB_API FB_USE_RESULT fb_tensor *fb_nn_call(fb_module *m, fb_tensor *(*fn)(fb_module *m, void *args),
                                           void *args);
/** Let go; the context frees what is left. Children belong to their parent. */
FB_API void fb_nn_close(fb_module *m);
/** A copy with its own parameters and buffers. */
FB_API FB_USE_RESULT fb_module *fb_nn_clone(fb_module *m);

/**
 * Training mode for the module and all below it (but norms that are frozen): dropout drops, batch
 * norm takes the statistics of the batch.
 */
FB_API void fb_nn_train(fb_module *m);
/** Evaluation mode for the module and all below it. */
FB_API void fb_nn_eval(fb_module *m);
/** The mode of this module; false for NULL. */
FB_API bool fb_nn_is_training(const fb_module *m);
/**
 * Parameters of another dtype, F64 say: before they are made (afterwards: FB_E_STATE). Buffers stay
 * as they are.
 */
FB_API fb_status fb_nn_to(fb_module *root, fb_dtype dtype);
/** Draw all parameters now: from (seed, root number, full name, element index). */
FB_API fb_status fb_nn_materialize(fb_module *root);
/* Names are paths of field names: "layer1.0.conv.weight"; globs use * and ?. */
/** A module below root by its path; NULL: FB_E_NOT_FOUND. */
FB_API fb_module *fb_nn_find(fb_module *root, const char *path);
/** A parameter by its full name; NULL: FB_E_NOT_FOUND. */
FB_API fb_tensor *fb_nn_param(fb_module *root, const char *path);
FB_API int64_t fb_nn_param_count(fb_module *root); /**< elements; tied ones once */
typedef fb_status (*fb_nn_visit)(const char *name, fb_tensor *t, void *user);
/** Every parameter once (first owner's name), depth first in field order; stops at a non-zero
 * status. */
FB_API fb_status fb_nn_each_param(fb_module *root, fb_nn_visit fn, void *user);
/** The same for buffers. */
FB_API fb_status fb_nn_each_buffer(fb_module *root, fb_nn_visit fn, void *user);
/** Whether matching parameters are trained. FB_E_NOT_FOUND if none matches. */
FB_API fb_status fb_nn_requires_grad(fb_module *root, const char *glob, bool required);
/** requires_grad off, and norm layers stay in eval under fb_nn_train. */
FB_API fb_status fb_nn_freeze(fb_module *root, const char *glob);
/** Undo fb_nn_freeze. */
FB_API fb_status fb_nn_unfreeze(fb_module *root, const char *glob);
/**
 * Activation checkpointing by rule: modules below root whose path matches (names as in fb_nn_find;
 * "" is root itself, which * does not match) keep only their inputs and outputs in training, and
 * run again in backward: torch.utils.checkpoint. `on` false ends it.
 *
 * The same bits as without: random numbers are restored, batch norms count a batch once. Of modules
 * within each other the outermost is the one that counts. Modules without a forward function
 * (lists) are passed over. Plain are calls in eval, under fb_no_grad, and by fb_nn_call or a
 * function of the module's own, but those of transformer layers; create_graph through a checkpoint
 * is refused, and so is eval between forward and backward (FB_E_STATE). Hooks of modules within a
 * marked one run twice; its own, once. FB_E_NOT_FOUND if nothing matches.
 *
 * Chen, Xu, Zhang, Guestrin: Training Deep Nets with Sublinear Memory Cost, arXiv:1604.06174.
 */
FB_API fb_status fb_nn_checkpoint(fb_module *root, const char *glob, bool on);
/** One parameter under two names: `path` becomes `to`. */
FB_API fb_status fb_nn_tie(fb_module *root, const char *path, const char *to);
/** Replace the initialiser of matching parameters (before they are made), or draw them anew. */
FB_API fb_status fb_nn_init(fb_module *root, const char *glob, fb_init init);
/** Forget the gradients of all parameters. */
FB_API fb_status fb_nn_zero_grad(fb_module *root);
/** Print the tree of modules on stdout, with shapes and the number of parameters. */
FB_API fb_status fb_nn_print(fb_module *root);

/** What a model holds and costs. */
typedef struct fb_summary {
    int64_t parameters, trainable; /**< elements; tied ones once */
    int64_t
        macs; /**< multiplications with weights, each with an addition: FLOPs are twice as many */
} fb_summary;

/**
 * Print a table on stdout: each module's name, type, output, parameters, trainable ones and MACs of
 * one call with zeros of an example's shape, in evaluation mode and without gradients; the modes
 * are put back.
 *
 * Counted are products with weights of linear, convolutional and recurrent layers; norms,
 * activations and products of activations (attention) are not, as in torchinfo.
 *
 * @param dtype  of the example; 0: F32. I64 for embeddings
 * @param totals may be NULL
 * @return       FB_E_ARG for NULL, and errors of the model's forward
 */
FB_API fb_status fb_nn_summary(fb_module *root, fb_dtype dtype, fb_shape shape, fb_summary *totals);

FB_END
#endif
