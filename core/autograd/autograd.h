/* Gradients. */
#ifndef FLAMBEAU_CORE_AUTOGRAD_AUTOGRAD_H
#define FLAMBEAU_CORE_AUTOGRAD_AUTOGRAD_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

typedef struct fb_hook fb_hook;

typedef struct fb_backward_options {
    fb_tensor *grad; /**< gradient of the output; NULL: 1, for a tensor of one element */
    const fb_batch_info
        *batch;       /**< overrides the context's batch (its share scales the gradient) */
    fb_tensor *count; /**< the loss is a sum over so many samples, or of so much weight: one number
                         >= 0, exact in integers up to 2^53. The share does not scale it;
                         fb_optim_step divides the gradients of a model by the counts of all
                         backwards of the step that reached it, on all ranks. All of these must
                         give one. On a card nobody waits to see that it is >= 0: then the step is
                         not applied, which is told later. */
    bool retain_graph, create_graph;
} fb_backward_options;

/**
 * Gradients of a scalar with respect to every leaf that requires one, added to the leaf's gradient
 * (or overwriting it, if an optimizer step has spent it). Inside a step (fb_context_batch) the
 * gradient is scaled by the micro-batch's share; with a share of 0 it contributes nothing. The
 * graph is freed as backward proceeds.
 */
FB_API fb_status fb_backward(fb_tensor *loss);
/** The same with options; NULL are all defaults. */
FB_API fb_status fb_backward_with(fb_tensor *loss, const fb_backward_options *opts);

typedef struct fb_gradient_options {
    fb_tensors seeds; /**< gradient of each output; NULL or n = 0: 1, for outputs of one element */
    bool retain_graph, create_graph; /**< create_graph implies retain_graph */
    bool allow_unused;      /**< NULL for an input that was not used, instead of an error */
    bool materialize_grads; /**< zeros for it, and NULL only for an input that is NULL */
} fb_gradient_options;

/**
 * Gradients of sum over i of <seeds[i], out[i]> with respect to `wrt`, returned and not
 * accumulated: torch.autograd.grad.
 *
 * @param out   results that depend on something that requires a gradient
 * @param wrt   leaves, or results on the way, of which hooks (fb_hook_grad) are applied; each may
 * be an output, too. NULL or without a gradient: unused
 * @param grads [wrt.n], each like its input, in the innermost scope; all NULL after an error
 * @return FB_OK; FB_E_ARG if an output does not depend on an input (unless allow_unused or
 *         materialize_grads) or the numbers of outputs and seeds differ; FB_E_SHAPE for a seed
 * unlike its output, or none for an output of several elements; FB_E_STATE for an output without a
 *         graph, or with one that is freed
 */
FB_API fb_status fb_gradients(fb_tensors out, fb_tensors wrt, const fb_gradient_options *opts,
                              fb_tensor **grads);

/** Mark a leaf (a tensor that no recorded operator made). @return t */
FB_API fb_tensor *fb_requires_grad(fb_tensor *t, bool required);
/** A leaf marked so, or a result that depends on one. */
FB_API bool fb_needs_grad(const fb_tensor *t);
/** The same data outside the graph. */
FB_API FB_USE_RESULT fb_tensor *fb_detach(fb_tensor *t);
/** Accumulated gradient of a leaf; NULL (no error) if there is none. */
FB_API fb_tensor *fb_grad_of(fb_tensor *leaf);
/** Replace a leaf's gradient; NULL: none. */
FB_API fb_status fb_set_grad(fb_tensor *leaf, fb_tensor *grad);

/** Called with the gradient of `t` once it is complete; may return another one, or NULL to keep it.
 */
typedef fb_tensor *(*fb_grad_fn)(fb_tensor *grad, void *user);
/**
 * Have fn called in every backward that reaches `t`, until the hook is removed. A hook on a result
 * goes with the result's graph and must not be removed after that. NULL: FB_E_ARG, FB_E_NOMEM.
 */
FB_API fb_hook *fb_hook_grad(fb_tensor *t, fb_grad_fn fn, void *user);
/** End a hook. NULL is allowed. */
FB_API void fb_hook_remove(fb_hook *hook);

/** A function of tensors: fills the outputs. */
typedef fb_status (*fb_checkpoint_fn)(void *user, fb_tensors in, fb_tensor **out);
/**
 * Activation checkpointing: run fn(in), keep only inputs and outputs, run fn again in backward with
 * the same random numbers. `fn` fills out[0 .. n_out) and must not depend on anything that changes;
 * the inputs must not be changed in place before backward (FB_E_STATE). Gradients are added in the
 * order of a plain run and have its bits; batch norms take their statistics in the first run only.
 */
FB_API fb_status fb_checkpoint_call(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out,
                                    fb_tensor **out);

/** What to compare and how closely; zero is the default of every field. */
typedef struct fb_gradcheck_options {
    double eps;  /**< step of the central difference; 1e-6 */
    double atol; /**< 1e-5 */
    double rtol; /**< 1e-3 */
} fb_gradcheck_options;

/**
 * Compare analytic gradients of fn (tensors F64 -> tensors) with central differences.
 * @return FB_OK, or FB_E_USER with the input, element and both values in the message
 */
FB_API fb_status fb_gradcheck(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out,
                              const fb_gradcheck_options *opts);
/** The same for second derivatives. */
FB_API fb_status fb_gradgradcheck(fb_checkpoint_fn fn, void *user, fb_tensors in, int n_out,
                                  const fb_gradcheck_options *opts);

FB_END
#endif
