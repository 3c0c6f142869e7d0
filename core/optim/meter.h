/* Means over many batches without waiting for the device at each. */
#ifndef FLAMBEAU_CORE_OPTIM_METER_H
#define FLAMBEAU_CORE_OPTIM_METER_H

#include <flambeau/core/tensor/tensor.h>

FB_BEGIN

typedef struct fb_meter fb_meter;

/** A meter without samples; the name is for messages. NULL: FB_E_NOMEM. */
FB_API FB_USE_RESULT fb_meter *fb_meter_open(fb_context *ctx, const char *name);
/** Add a mean over n samples: sum += value * n, count += n, kept per leaf number. Waits for no
 * card. */
FB_API fb_status fb_meter_add(fb_meter *meter, fb_tensor *value, double n);
/** Mean since the last reset over all ranks, summed in leaf order: same bits for any number of
 * ranks. Collective in a world. NaN on error or without samples. Resets. */
FB_API double fb_meter_mean(fb_meter *meter);
/** Forget what was added. */
FB_API void fb_meter_reset(fb_meter *meter);
/** Let go. NULL is allowed. */
FB_API void fb_meter_close(fb_meter *meter);

FB_END
#endif
