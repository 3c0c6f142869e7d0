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
    bool maximize; /**< walk up instead of down */
} fb_adam_options;
typedef fb_adam_options fb_adamw_options;

typedef struct fb_sgd_options {
    double lr; /**< 1e-3 */
    double momentum, dampening, weight_decay;
    bool nesterov, maximize;
} fb_sgd_options;

/** Hinton: lecture 6e of "Neural Networks for Machine Learning"; centered: Graves, arXiv:1308.0850.
 */
typedef struct fb_rmsprop_options {
    double lr, alpha, eps; /**< 1e-2, 0.99, 1e-8 */
    double weight_decay, momentum;
    bool centered, maximize;
} fb_rmsprop_options;

/** Duchi, Hazan, Singer: JMLR 12, 2011. */
typedef struct fb_adagrad_options {
    double lr, lr_decay, weight_decay; /**< 1e-2, 0, 0 */
    double initial_accumulator_value;  /**< 0: what the sums of squares begin with */
    double eps;                        /**< 1e-10 */
    bool maximize;
} fb_adagrad_options;

/** Zeiler: arXiv:1212.5701. */
typedef struct fb_adadelta_options {
    double lr, rho, eps, weight_decay; /**< 1, 0.9, 1e-6, 0 */
    bool maximize;
} fb_adadelta_options;

/** Kingma, Ba: arXiv:1412.6980, section 7.1. */
typedef struct fb_adamax_options {
    double lr, beta1, beta2, eps, weight_decay; /**< 2e-3, 0.9, 0.999, 1e-8, 0 */
    bool maximize;
} fb_adamax_options;

/** Dozat: Incorporating Nesterov Momentum into Adam, ICLR workshop 2016. The product of momenta is
 * that of the present beta1, also if a schedule has changed it. */
typedef struct fb_nadam_options {
    double lr, beta1, beta2, eps, weight_decay; /**< 2e-3, 0.9, 0.999, 1e-8, 0 */
    double momentum_decay;                      /**< 4e-3 */
    bool decoupled_weight_decay, maximize;
} fb_nadam_options;

/** Liu et al.: arXiv:1908.03265. */
typedef struct fb_radam_options {
    double lr, beta1, beta2, eps, weight_decay; /**< 1e-3, 0.9, 0.999, 1e-8, 0 */
    bool decoupled_weight_decay, maximize;
} fb_radam_options;

/** Riedmiller, Braun: ICNN 1993. For gradients of all data: a mini-batch's signs are noise. */
typedef struct fb_rprop_options {
    double lr;                 /**< 1e-2: size of the first step */
    double etaminus, etaplus;  /**< 0.5, 1.2 */
    double step_min, step_max; /**< 1e-6, 50 */
    bool maximize;
} fb_rprop_options;

/** Chen et al.: arXiv:2302.06675; weight_decay is decoupled. Not in PyTorch. */
typedef struct fb_lion_options {
    double lr, beta1, beta2, weight_decay; /**< 1e-4, 0.9, 0.99, 0 */
    bool maximize;
} fb_lion_options;

/** You et al.: arXiv:1904.00962, with Adam's bias corrections; a weight or a step of norm 0 has the
 * ratio 1. Not in PyTorch. */
typedef struct fb_lamb_options {
    double lr, beta1, beta2, eps, weight_decay; /**< 1e-3, 0.9, 0.999, 1e-6, 0 */
    bool maximize;
} fb_lamb_options;

/** Shazeer, Stern: arXiv:1804.04235, as torch.optim.Adafactor. */
typedef struct fb_adafactor_options {
    double lr, beta2_decay; /**< 1e-2, -0.8 */
    double eps1, eps2;      /**< epsilon of the dtype that it computes in, 1e-3 */
    double d, weight_decay; /**< 1 (the largest RMS of a step), 0 */
    bool maximize;
} fb_adafactor_options;

/** How Muon's rate follows the shape [a, b] of a matrix. */
typedef enum fb_muon_rate {
    FB_MUON_ORIGINAL,           /**< sqrt(max(1, a / b)) */
    FB_MUON_MATCH_RMS_ADAMW,    /**< 0.2 sqrt(max(a, b)) */
    FB_MUON_SPECTRAL_UNCLAMPED, /**< sqrt(a / b) */
} fb_muon_rate;

/** Jordan et al.: Muon, an optimizer for hidden layers in neural networks, 2024, as
 * torch.optim.Muon, whose products are in BF16; here they are in F32 or F64. Parameters that have
 * not two dimensions, and those with a rule `adamw` (embeddings, the last layer), get AdamW. */
typedef struct fb_muon_options {
    double lr, weight_decay, momentum; /**< 1e-3, 0.1, 0.95; decay is decoupled, AdamW's too */
    bool plain;                        /**< no Nesterov momentum */
    double a, b, c;                    /**< of Newton and Schulz: 3.4445, -4.775, 2.0315 */
    double eps;                        /**< 1e-7 */
    int64_t ns_steps;                  /**< 5 */
    fb_muon_rate rate;
    double adamw_lr;                /**< lr; schedules change both by the same factor */
    double beta1, beta2, adamw_eps; /**< 0.9, 0.999, 1e-8: AdamW's */
} fb_muon_options;

/** Nocedal: Math. of Computation 35, 1980; Wolfe's conditions as in minFunc, as torch.optim.LBFGS.
 */
typedef struct fb_lbfgs_options {
    double lr;                               /**< 1 */
    int64_t max_iter, max_eval;              /**< 20 a step; 1.25 max_iter */
    double tolerance_grad, tolerance_change; /**< 1e-7, 1e-9 */
    int64_t history_size;                    /**< 100 */
    bool strong_wolfe;                       /**< line search; else steps of length lr */
    bool maximize;
} fb_lbfgs_options;

/* Parameters in F16 or BF16 are updated through a copy in F32, "NAME.master" in checkpoints, and
 * have their state in F32; torch.optim computes in the parameter's dtype, where small updates are
 * lost. One that a program changes by itself is taken over. */

/** What differs for the parameters that a rule matches. */
typedef struct fb_group_options {
    double lr_scale;     /**< 1; FB_ZERO for 0 */
    double weight_decay; /**< 0: the optimizer's; FB_ZERO for 0 */
    bool no_decay, frozen;
    bool only_1d; /**< the rule holds for parameters of at most one dimension only */
    bool adamw;   /**< of Muon: not by Muon */
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
/** RMSprop: gradients over the root of their mean square. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_rmsprop(fb_context *ctx, fb_module *model,
                                                    const fb_rmsprop_options *opts);
/** Adagrad: over the root of the sum of their squares. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_adagrad(fb_context *ctx, fb_module *model,
                                                    const fb_adagrad_options *opts);
/** Adadelta: steps in the units of the parameters. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_adadelta(fb_context *ctx, fb_module *model,
                                                     const fb_adadelta_options *opts);
/** Adamax: Adam with a decaying maximum. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_adamax(fb_context *ctx, fb_module *model,
                                                   const fb_adamax_options *opts);
/** NAdam: Adam with Nesterov momentum. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_nadam(fb_context *ctx, fb_module *model,
                                                  const fb_nadam_options *opts);
/** RAdam: Adam whose rate waits for its variance. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_radam(fb_context *ctx, fb_module *model,
                                                  const fb_radam_options *opts);
/** Rprop: signs of gradients, a size of steps for each element. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_rprop(fb_context *ctx, fb_module *model,
                                                  const fb_rprop_options *opts);
/** Lion: the sign of the momentum. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_lion(fb_context *ctx, fb_module *model,
                                                 const fb_lion_options *opts);
/* These are made of tensor operators, a parameter at a time, and on a card every step waits for it.
 */
/** LAMB: Adam's steps, as long as the weights are. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_lamb(fb_context *ctx, fb_module *model,
                                                 const fb_lamb_options *opts);
/** Adafactor: the mean squares of a matrix from those of its rows and columns. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_adafactor(fb_context *ctx, fb_module *model,
                                                      const fb_adafactor_options *opts);
/** Muon: momentum made orthogonal; AdamW for what is no matrix. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_muon(fb_context *ctx, fb_module *model,
                                                 const fb_muon_options *opts);
/** L-BFGS, stepped by fb_optim_step_closure; F32 or F64 parameters, all of one dtype. Rules for
 * rates and decays do not hold; a model that is attached to a group, a scaler, counts and clipping
 * are refused. */
FB_API FB_USE_RESULT fb_optimizer *fb_optim_lbfgs(fb_context *ctx, fb_module *model,
                                                  const fb_lbfgs_options *opts);
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
/** Computes the loss, calls fb_backward, and returns the loss; NULL: it failed. */
typedef fb_tensor *(*fb_closure)(void *user);
/**
 * Evaluate and step; L-BFGS evaluates several times. Gradients are forgotten before each call.
 *
 * Returns the loss of the first call, a handle of the innermost scope, or NULL: FB_E_USER if the
 * closure failed. A loss or gradients that are not finite end the step of L-BFGS.
 */
FB_API fb_tensor *fb_optim_step_closure(fb_optimizer *opt, fb_closure closure, void *user);
/** Forget the gradients: give up an accumulation. */
FB_API fb_status fb_optim_zero_grad(fb_optimizer *opt);
/** Gradients survive fb_optim_step and accumulate until fb_optim_zero_grad, as in PyTorch. */
FB_API void fb_optim_keep_grad(fb_optimizer *opt, bool keep);
/** Scale gradients so that their joint 2-norm is at most max_norm; 0 ends it. */
FB_API fb_status fb_optim_clip_norm(fb_optimizer *opt, double max_norm);
/** Clamp each element of the gradients to [-limit, limit], after clip_norm; 0 ends it. */
FB_API fb_status fb_optim_clip_value(fb_optimizer *opt, double limit);
/** Norm of the gradients in the last step, before clipping, after division by counts; computed if
 * clipping is on. */
FB_API double fb_optim_grad_norm(fb_optimizer *opt);
/** The rate that the next step uses, before lr_scale of rules; NaN for NULL. */
FB_API double fb_optim_lr(const fb_optimizer *opt);
/** Change it. FB_E_ARG for negative or NaN. */
FB_API fb_status fb_optim_set_lr(fb_optimizer *opt, double lr);
/** Momentum (SGD, RMSprop, Muon) or beta1 (Adam and its kin, Lion, LAMB); NaN for methods that have
 * none. */
FB_API double fb_optim_momentum(const fb_optimizer *opt);
/** Change it. FB_E_ARG outside of [0, 1); FB_E_UNSUPPORTED for methods without. */
FB_API fb_status fb_optim_set_momentum(fb_optimizer *opt, double momentum);
/** Steps done; skipped ones do not count. */
FB_API int64_t fb_optim_steps(const fb_optimizer *opt);

FB_END
#endif
