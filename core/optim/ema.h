/* Averages of a module's parameters over its steps: exponential ones, equal ones (SWA), others. */
#ifndef FLAMBEAU_CORE_OPTIM_EMA_H
#define FLAMBEAU_CORE_OPTIM_EMA_H

#include <flambeau/core/nn/module.h>

FB_BEGIN

typedef struct fb_ema fb_ema;

/**
 * A copy of the module that follows it; decay in [0, 1], e.g. 0.999.
 */
FB_API FB_USE_RESULT fb_ema *fb_ema_open(fb_module *m, double decay);
/** A copy that is the mean of what the module was at each update:
 * torch.optim.swa_utils.AveragedModel. Izmailov et al.: arXiv:1803.05407; rates: fb_schedule_swa.
 */
FB_API FB_USE_RESULT fb_ema *fb_swa_open(fb_module *m);
/** A copy whose decay is decay(n, user) at the update after n others. A value outside of [0, 1] is
 * FB_E_USER. */
FB_API FB_USE_RESULT fb_ema *fb_average_open(fb_module *m, double (*decay)(int64_t n, void *user),
                                             void *user);
/** avg = decay * avg + (1 - decay) * m; buffers are copied. Acts on the last micro-batch only. */
FB_API fb_status fb_ema_update(fb_ema *ema);
/** The averaged module; belongs to the EMA. */
FB_API fb_module *fb_ema_module(fb_ema *ema);
/** Updates so far; 0 for NULL. */
FB_API int64_t fb_ema_updates(const fb_ema *ema);
/**
 * Running statistics of batch norms anew, as means over batches, e.g. of an averaged module: as
 * torch.optim.swa_utils.update_bn.
 *
 * `next` gives one batch after the other, and NULL at the end. They pass through m in training mode
 * without gradients; the mode is what it was afterwards. FB_E_STATE if m is attached to a group:
 * its ranks see other batches; use an average of it, and the same batches on every rank.
 */
FB_API fb_status fb_norms_refresh(fb_module *m, fb_tensor *(*next)(void *user), void *user);
/** Let go of the averaged module too. NULL is allowed. */
FB_API void fb_ema_close(fb_ema *ema);

FB_END
#endif
