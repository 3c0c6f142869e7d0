/* Exponential moving average of a module's parameters. */
#ifndef FLAMBEAU_CORE_OPTIM_EMA_H
#define FLAMBEAU_CORE_OPTIM_EMA_H

#include <flambeau/core/nn/module.h>

FB_BEGIN

typedef struct fb_ema fb_ema;

/**
 * A copy of the module that follows it; decay in [0, 1], e.g. 0.999.
 */
FB_API FB_USE_RESULT fb_ema *fb_ema_open(fb_module *m, double decay);
/** avg = decay * avg + (1 - decay) * m; buffers are copied. Acts on the last micro-batch only. */
FB_API fb_status fb_ema_update(fb_ema *ema);
/** The averaged module; belongs to the EMA. */
FB_API fb_module *fb_ema_module(fb_ema *ema);
/** Let go of the averaged module too. NULL is allowed. */
FB_API void fb_ema_close(fb_ema *ema);

FB_END
#endif
