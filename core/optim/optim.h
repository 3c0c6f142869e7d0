/* Optimizers: reduce, unscale, clip, update, in that order, in one call. */
#ifndef FLAMBEAU_CORE_OPTIM_OPTIM_H
#define FLAMBEAU_CORE_OPTIM_OPTIM_H

#include <flambeau/core/nn/module.h>

FB_BEGIN

typedef struct fb_optimizer fb_optimizer;

/** Kingma, Ba: arXiv:1412.6980; AdamW: Loshchilov, Hutter: arXiv:1711.05101. Zero is the default.
 */
typedef struct fb_adam_options {
    double lr;           /**< 1e-3 */
    double beta1, beta2; /**< 0.9, 0.999 */
    double eps;          /**< 1e-8 */
    double weight_decay; /**< 0, for AdamW too (PyTorch: 0.01) */
    bool amsgrad;
} fb_adam_options;
typedef fb_adam_options fb_adamw_options;

typedef struct fb_sgd_options {
    double lr; /**< 1e-3 */
    double momentum, dampening, weight_decay;
    bool nesterov;
} fb_sgd_options;

/* Parameters in F16 or BF16 are updated through a copy in F32, "NAME.master" in checkpoints, and
 * have their state in F32; torch.optim computes in the parameter's dtype, where small updates are
 * lost. One that a program changes by itself is taken over. */

/** What differs for the parameters that a rule matches. */
typedef struct fb_group_options {
    double lr_scale;     /**< 1; FB_ZERO for 0 */
    double weight_decay; /**< 0: the optimizer's; FB_ZERO for 0 */
    bool no_decay, frozen;
    bool only_1d; /**< the rule holds for parameters of at most one dimension only */
} fb_group_options;

/**
 * Stochastic gradient descent as torch.optim.SGD: momentum, Nesterov, L2 decay.
 *
 * `model` may be NULL: add parameters later. Options NULL: defaults. NULL: FB_E_ARG, FB_E_NOMEM.
 */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_sgd(fb_context *ctx, fb_module *model,
                                                const fb_sgd_options *opts);
/** Adam; weight_decay is added to the gradient (L2). */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_adam(fb_context *ctx, fb_module *model,
                                                 const fb_adam_options *opts);
/** AdamW; weight_decay shrinks the weights directly. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_adamw(fb_context *ctx, fb_module *model,
                                                  const fb_adamw_options *opts);
/** Let go; the parameters stay. NULL is allowed. */
FB_API void fb_optim_close(fb_optimizer *opt);

/** Options for parameters whose full name matches; the last match wins. */
FB_API fb_status fb_optim_rule(fb_optimizer *opt, const char *glob, const fb_group_options *opts);
/** Add the parameters of a module: "prefix.name", or "name" if prefix is NULL. */
FB_API fb_status fb_optim_add_module(fb_optimizer *opt, const char *prefix, fb_module *m);
/** Add one leaf that requires a gradient, contiguous. FB_E_ARG for others. */
FB_API fb_status fb_optim_add_tensor(fb_optimizer *opt, const char *name, fb_tensor *leaf);

/**
 * Update the parameters; acts only after the last micro-batch of a step. Afterwards the gradients
 * are spent: the next backward overwrites them. Collective if the model is attached to a group.
 *
 * Gradients of losses that are sums (fb_backward_options.count) are divided by the total count; if
 * that is 0 nothing is updated. If gradients of an attached model are not finite, or clipping finds
 * that their norm is not, the step is skipped, on all ranks alike, and the log says so. A scaler
 * (fb_optim_scaler) skips it too. Without any of the three nobody looks, as in PyTorch.
 *
 * On a card nothing of it waits: whether a step was skipped is known, and told, some steps later,
 * or when fb_optim_steps or fb_optim_grad_norm is called, which wait for the card.
 */
FB_API fb_status fb_optim_step(fb_optimizer *opt);
/** Forget the gradients: give up an accumulation. */
FB_API fb_status fb_optim_zero_grad(fb_optimizer *opt);
/** Gradients survive fb_optim_step and accumulate until fb_optim_zero_grad, as in PyTorch. */
FB_API void fb_optim_keep_grad(fb_optimizer *opt, bool keep);
/** Scale gradients so that their joint 2-norm is at most max_norm; 0 ends it. */
FB_API fb_status fb_optim_clip_norm(fb_optimizer *opt, double max_norm);
/** Norm of the gradients in the last step, before clipping, after division by counts; computed if
 * clipping is on. */
FB_API double fb_optim_grad_norm(fb_optimizer *opt);
/** The rate that the next step uses, before lr_scale of rules; NaN for NULL. */
FB_API double fb_optim_lr(const fb_optimizer *opt);
/** Change it. FB_E_ARG for negative or NaN. */
FB_API fb_status fb_optim_set_lr(fb_optimizer *opt, double lr);
/** Steps done; skipped ones do not count. */
FB_API int64_t fb_optim_steps(const fb_optimizer *opt);

FB_END
#endif
