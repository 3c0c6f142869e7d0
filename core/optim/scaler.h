/* Loss scaling: gradients in F16 that would be too small for it. */
#ifndef FLAMBEAU_CORE_OPTIM_SCALER_H
#define FLAMBEAU_CORE_OPTIM_SCALER_H

#include <flambeau/core/optim/optim.h>

FB_BEGIN

typedef struct fb_scaler fb_scaler;

/** Zero is the default. */
typedef struct fb_scaler_options {
    double scale;     /**< to begin with; 65536 */
    double growth;    /**< factor after `interval` steps in a row that were finite; 2 */
    double backoff;   /**< factor after a step that was not; 0.5 */
    int64_t interval; /**< 2000 */
} fb_scaler_options;

/**
 * Scale the losses of the optimizer's context, as torch.amp.GradScaler.
 *
 * From now on fb_backward multiplies the gradient that it begins with, and fb_optim_step of every
 * optimizer of the context divides by the same number, before it clips: rates, norms and the values
 * of losses stay what they are. A step whose gradients are not finite is skipped (on all ranks
 * alike, if the model is attached) and the scale falls; it grows after many good ones. On a card
 * all this happens there, and nobody waits.
 *
 * Between fb_backward and fb_optim_step the gradients are the scaled ones. The scale changes when a
 * backward begins, so gradients that several backwards add up must not have a step between them.
 * fb_gradients scales nothing. With factors that are powers of two no bits of a finite step change.
 *
 * NULL: FB_E_ARG for scale, growth < 1, backoff or interval that make no sense; FB_E_STATE if the
 * context has a scaler; FB_E_NOMEM.
 */
FB_API FB_USE_RESULT fb_scaler *fb_optim_scaler(fb_optimizer *opt, const fb_scaler_options *opts);
/** What the next backward multiplies by. Waits for the card. NaN for NULL or on error. */
FB_API double fb_scaler_value(fb_scaler *scaler);
/** Steps that were skipped because they were not finite. Waits for the card. */
FB_API int64_t fb_scaler_skipped(fb_scaler *scaler);
/** Losses are no longer scaled. NULL is allowed. */
FB_API void fb_scaler_close(fb_scaler *scaler);

FB_END
#endif
