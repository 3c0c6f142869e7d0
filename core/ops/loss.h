/* Losses, and the similarities that some are made of. Local, not collective. NULL on error.
 *
 * Unless another is named: inputs are F32, F64, F16 or BF16 (F16 and BF16 are computed in F32 and
 * rounded once), a target may have another dtype, shapes broadcast, targets have gradients too
 * where that makes sense. Errors: FB_E_DTYPE, FB_E_SHAPE, FB_E_ARG for numbers that make no loss,
 * FB_E_NOMEM. Source: the functions of these names of torch.nn.functional. */
#ifndef FLAMBEAU_CORE_OPS_LOSS_H
#define FLAMBEAU_CORE_OPS_LOSS_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** How the losses of the items become one; 0, the mean, is the default. */
typedef enum fb_loss_reduction {
    FB_LOSS_MEAN = 0,
    FB_LOSS_SUM,
    FB_LOSS_NONE,
    FB_LOSS_BATCHMEAN /**< the sum by the first size; fb_kl_div only */
} fb_loss_reduction;

typedef struct fb_cross_entropy_options {
    fb_tensor *weight;      /**< [C], of the classes; NULL: all 1. It gets no gradient. */
    int64_t ignore_index;   /**< target that does not count; 0: -100; class 0: FB_ZERO_INT */
    double label_smoothing; /**< 0 .. 1: share of the target spread evenly over all classes */
    int reduction;          /**< fb_loss_reduction; the mean is weighted by the targets' weights */
} fb_cross_entropy_options;

/**
 * Cross entropy between logits [N, C], [N, C, d...] or [C] and class indices [N], [N, d...] or a
 * scalar, of any integer dtype. Fused: log-softmax is never stored. The loss has the dtype of
 * the logits (F16 and BF16 are computed in F32). opts may be NULL. Error FB_E_ARG for a target out
 * of range.
 * A floating target of the shape of the logits holds probabilities of the classes (the row
 * cross_entropy_probabilities; composed, with a gradient; the mean is by the number of items and
 * ignore_index is not read).
 * Source: torch.nn.functional.cross_entropy.
 */
FB_API FB_USE_RESULT fb_tensor *fb_cross_entropy(fb_tensor *logits, fb_tensor *target,
                                                 const fb_cross_entropy_options *opts);

typedef struct fb_mse_loss_options {
    int reduction; /**< fb_loss_reduction */
} fb_mse_loss_options;

/** Squared difference of two tensors of one shape, in their common float dtype. opts may be NULL.
 */
FB_API FB_USE_RESULT fb_tensor *fb_mse_loss(fb_tensor *input, fb_tensor *target,
                                            const fb_mse_loss_options *opts);

/**
 * -weight[t] x[t] of log-probabilities x [N, C], [N, C, d...] or [C] and class indices t [N], [N,
 * d...] or [], of any integer dtype.
 *
 * @param weight       [C] or NULL for ones; no gradient
 * @param ignore_index target that does not count; PyTorch's default is -100
 * The mean is weighted by the targets' weights. FB_E_ARG for a target out of range.
 */
FB_API FB_USE_RESULT fb_tensor *fb_nll_loss(fb_tensor *log_probs, fb_tensor *target,
                                            fb_tensor *weight, int64_t ignore_index,
                                            fb_loss_reduction reduction);

/** |input - target|. */
FB_API FB_USE_RESULT fb_tensor *fb_l1_loss(fb_tensor *input, fb_tensor *target,
                                           fb_loss_reduction reduction);
/** d^2 / (2 beta) of differences |d| below beta, |d| - beta / 2 from there on; beta 0: |d|. */
FB_API FB_USE_RESULT fb_tensor *fb_smooth_l1_loss(fb_tensor *input, fb_tensor *target, double beta,
                                                  fb_loss_reduction reduction);
/** d^2 / 2 of differences |d| below delta, delta (|d| - delta / 2) from there on. Huber: Robust
 * Estimation of a Location Parameter, 1964. */
FB_API FB_USE_RESULT fb_tensor *fb_huber_loss(fb_tensor *input, fb_tensor *target, double delta,
                                              fb_loss_reduction reduction);

/**
 * -(t log x + (1 - t) log(1 - x)) of probabilities x and targets t of one shape; logarithms are at
 * least -100.
 *
 * @param weight factors that broadcast to the input, or NULL
 * @return       NULL, FB_E_ARG: on the CPU, an x outside 0 .. 1 (a card gives NaN there)
 */
FB_API FB_USE_RESULT fb_tensor *fb_binary_cross_entropy(fb_tensor *input, fb_tensor *target,
                                                        fb_tensor *weight,
                                                        fb_loss_reduction reduction);
/** The same of x = sigmoid(input), exact for large inputs; pos_weight (NULL: 1) multiplies t. */
FB_API FB_USE_RESULT fb_tensor *
fb_binary_cross_entropy_with_logits(fb_tensor *input, fb_tensor *target, fb_tensor *weight,
                                    fb_tensor *pos_weight, fb_loss_reduction reduction);
/** t (log t - x) of log-probabilities x and probabilities t (log_target: their logarithms).
 * Kullback, Leibler: On Information and Sufficiency, 1951. */
FB_API FB_USE_RESULT fb_tensor *fb_kl_div(fb_tensor *input, fb_tensor *target, bool log_target,
                                          fb_loss_reduction reduction);

typedef struct fb_poisson_nll_options {
    bool rates; /**< the input is the rate (torch's log_input=False), not its logarithm */
    bool full;  /**< add Stirling's approximation of log(t!) where t is above 1 */
    double eps; /**< added to a rate before its logarithm: 1e-8; FB_ZERO for 0 */
    fb_loss_reduction reduction;
} fb_poisson_nll_options;
/** exp(x) - t x of logarithms x of rates and counts t. opts may be NULL. */
FB_API FB_USE_RESULT fb_tensor *fb_poisson_nll_loss(fb_tensor *input, fb_tensor *target,
                                                    const fb_poisson_nll_options *opts);
typedef struct fb_gaussian_nll_options {
    bool full;  /**< add log(2 pi) / 2 */
    double eps; /**< least variance: 1e-6; its gradient passes */
    fb_loss_reduction reduction;
} fb_gaussian_nll_options;
/**
 * (log(var) + (x - t)^2 / var) / 2.
 *
 * @param var  of the input's shape, or without its last dimension, or with 1 there, or []. Below 0:
 *             FB_E_ARG on the CPU
 * @param opts may be NULL
 * Nix, Weigend: Estimating the mean and variance of the target probability distribution, 1994.
 */
FB_API FB_USE_RESULT fb_tensor *fb_gaussian_nll_loss(fb_tensor *input, fb_tensor *target,
                                                     fb_tensor *var,
                                                     const fb_gaussian_nll_options *opts);

/* Targets are 1 or -1. */
/** log(1 + exp(-t x)). */
FB_API FB_USE_RESULT fb_tensor *fb_soft_margin_loss(fb_tensor *input, fb_tensor *target,
                                                    fb_loss_reduction reduction);
/** x where t is 1, max(0, margin - x) where t is -1. */
FB_API FB_USE_RESULT fb_tensor *fb_hinge_embedding_loss(fb_tensor *input, fb_tensor *target,
                                                        double margin, fb_loss_reduction reduction);
/** max(0, margin - t (a - b)). */
FB_API FB_USE_RESULT fb_tensor *fb_margin_ranking_loss(fb_tensor *a, fb_tensor *b,
                                                       fb_tensor *target, double margin,
                                                       fb_loss_reduction reduction);
/** Of rows a and b [N, D] and t [N], or [D] and []: 1 - cos(a, b) where t is 1, max(0, cos(a, b) -
 * margin) where it is -1. */
FB_API FB_USE_RESULT fb_tensor *fb_cosine_embedding_loss(fb_tensor *a, fb_tensor *b,
                                                         fb_tensor *target, double margin,
                                                         fb_loss_reduction reduction);

/** Cosines of a and b along a dimension of their common shape; norms are at least eps (1e-8 in
 * PyTorch). */
FB_API FB_USE_RESULT fb_tensor *fb_cosine_similarity(fb_tensor *a, fb_tensor *b, int dim,
                                                     double eps);
/** Norms of order p of the rows (last dimension) of a - b + eps; PyTorch's eps is 1e-6. */
FB_API FB_USE_RESULT fb_tensor *fb_pairwise_distance(fb_tensor *a, fb_tensor *b, double p,
                                                     double eps, bool keepdim);

typedef struct fb_triplet_options {
    double margin; /**< 1; above 0 */
    double p;      /**< order of the norm: 2 */
    double eps;    /**< of fb_pairwise_distance: 1e-6; FB_ZERO for 0 */
    bool swap;     /**< the negative's distance is that to the positive, where this is smaller */
    fb_loss_reduction reduction;
} fb_triplet_options;
/**
 * max(0, d(anchor, positive) - d(anchor, negative) + margin) of rows, with fb_pairwise_distance.
 * Inputs have as many dimensions. opts may be NULL.
 *
 * Balntas, Riba, Ponsa, Mikolajczyk: Learning local feature descriptors with triplets and shallow
 * convolutional neural networks, 2016.
 */
FB_API FB_USE_RESULT fb_tensor *fb_triplet_margin_loss(fb_tensor *anchor, fb_tensor *positive,
                                                       fb_tensor *negative,
                                                       const fb_triplet_options *opts);
/** A distance of two tensors, made of operators; NULL is the failure. */
typedef fb_tensor *(*fb_distance)(fb_tensor *a, fb_tensor *b, void *user);
/** The same with a distance of the user's; opts->p and opts->eps are not read. */
FB_API FB_USE_RESULT fb_tensor *
fb_triplet_margin_with_distance_loss(fb_tensor *anchor, fb_tensor *positive, fb_tensor *negative,
                                     fb_distance fn, void *user, const fb_triplet_options *opts);

/** Sum over the other classes i of weight[t] max(0, margin - x[t] + x[i])^p / C, of x [N, C] or [C]
 * and class indices t [N] or []; p is 1 or 2, weight [C] or NULL. */
FB_API FB_USE_RESULT fb_tensor *fb_multi_margin_loss(fb_tensor *input, fb_tensor *target,
                                                     fb_tensor *weight, int p, double margin,
                                                     fb_loss_reduction reduction);
/** Sum over listed classes j and others i of max(0, 1 - x[j] + x[i]) / C, of x and t [N, C] or [C];
 * t, I64, lists classes up to its first negative number. Takes N C^2 elements of memory. */
FB_API FB_USE_RESULT fb_tensor *fb_multilabel_margin_loss(fb_tensor *input, fb_tensor *target,
                                                          fb_loss_reduction reduction);
/** Mean over the classes (the last dimension) of fb_binary_cross_entropy_with_logits. */
FB_API FB_USE_RESULT fb_tensor *fb_multilabel_soft_margin_loss(fb_tensor *input, fb_tensor *target,
                                                               fb_tensor *weight,
                                                               fb_loss_reduction reduction);

typedef struct fb_ctc_options {
    int64_t blank;      /**< its class: 0 */
    bool zero_infinity; /**< a loss that is infinite (no path is long enough) counts as 0 */
    fb_loss_reduction reduction; /**< the mean is that of losses per label */
} fb_ctc_options;
/**
 * Connectionist temporal classification: -log of the probability that the steps of a sequence spell
 * its labels, with blanks and repetitions anywhere.
 *
 * @param log_probs      [T, N, C] or, of one item, [T, C]: log-probabilities of the classes
 * @param targets        integers, [N, S] or the labels of all items one after the other
 * @param input_lengths  [N] integers, 0 .. T
 * @param target_lengths [N] integers, 0 .. S
 * @param opts           may be NULL
 * @return               [] or, without reduction, [N]; FB_E_ARG for a length or label out of range
 *
 * Lengths are read by the host, so the device is waited for. The gradient is the function's own;
 * PyTorch adds exp(log_probs) to it, which fb_log_softmax makes the same. Both derivatives are
 * exact; the second one runs T steps of operators.
 *
 * Graves, Fernandez, Gomez, Schmidhuber: Connectionist temporal classification, 2006.
 */
FB_API FB_USE_RESULT fb_tensor *fb_ctc_loss(fb_tensor *log_probs, fb_tensor *targets,
                                            fb_tensor *input_lengths, fb_tensor *target_lengths,
                                            const fb_ctc_options *opts);

FB_END
#endif
