/* Learning-rate schedules: the optimizer's rate as a function of the steps done. */
#ifndef FLAMBEAU_CORE_OPTIM_SCHEDULE_H
#define FLAMBEAU_CORE_OPTIM_SCHEDULE_H

#include <flambeau/core/optim/optim.h>

FB_BEGIN

typedef struct fb_schedule fb_schedule;

typedef struct fb_cosine_options {
    int64_t warmup; /**< steps of linear growth from 0 */
    double min_lr;  /**< where the cosine ends */
} fb_cosine_options;

/** lr * gamma^(floor(step / every)). */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_step_lr(fb_optimizer *opt, int64_t every,
                                                      double gamma);
/** Warm-up, then a half cosine to min_lr at step `total`. Loshchilov, Hutter: arXiv:1608.03983. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_cosine(fb_optimizer *opt, int64_t total,
                                                     const fb_cosine_options *opts);
/** lr * fn(step). */
FB_API FB_USE_RESULT fb_schedule *
fb_schedule_lambda(fb_optimizer *opt, double (*fn)(int64_t step, void *user), void *user);
/** Advance; acts only after the last micro-batch of a step. */
FB_API fb_status fb_schedule_step(fb_schedule *s);
/** The rate that the schedule has set; NaN for NULL. */
FB_API double fb_schedule_lr(const fb_schedule *s);
/** Let go; the rate stays as it is. NULL is allowed. */
FB_API void fb_schedule_close(fb_schedule *s);

FB_END
#endif
