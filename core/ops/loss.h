/* Losses. Local, not collective. NULL on error. */
#ifndef FLAMBEAU_CORE_OPS_LOSS_H
#define FLAMBEAU_CORE_OPS_LOSS_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

/** How the losses of the items become one; 0, the mean, is the default. */
typedef enum fb_loss_reduction { FB_LOSS_MEAN = 0, FB_LOSS_SUM, FB_LOSS_NONE } fb_loss_reduction;

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

FB_END
#endif
