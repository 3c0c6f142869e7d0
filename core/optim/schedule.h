/* Learning-rate schedules: the optimizer's rate as a function of the steps done, as those of
 * torch.optim.lr_scheduler. NULL from any of them: FB_E_ARG with the numbers, or FB_E_NOMEM. */
#ifndef FLAMBEAU_CORE_OPTIM_SCHEDULE_H
#define FLAMBEAU_CORE_OPTIM_SCHEDULE_H

#include <flambeau/core/optim/optim.h>

FB_BEGIN

/* "lr" below is the rate that the optimizer had before its first schedule; one that fb_optim_set_lr
 * has given since then is a new beginning. Where a schedule multiplies, it multiplies the rate of
 * now, so that several of them work together. A checkpoint needs the optimizer, too. */
typedef struct fb_schedule fb_schedule;

typedef double (*fb_schedule_fn)(int64_t step, void *user);

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
FB_API FB_USE_RESULT fb_schedule *fb_schedule_lambda(fb_optimizer *opt, fb_schedule_fn fn,
                                                     void *user);
/** The rate times fn(step), at every step from 1 on: MultiplicativeLR. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_multiplicative(fb_optimizer *opt, fb_schedule_fn fn,
                                                             void *user);
/** The rate times gamma at each of n steps, given in ascending order: MultiStepLR. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_multistep(fb_optimizer *opt, const int64_t *steps,
                                                        int n, double gamma);
/** The rate times factor before step `total`: ConstantLR. factor in [0, 1]. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_constant(fb_optimizer *opt, double factor,
                                                       int64_t total);
/** The rate times a factor that goes from `first` to `last` in `total` steps: LinearLR; a warm-up
 * if last is 1. first in (0, 1], last in [0, 1]. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_linear(fb_optimizer *opt, double first, double last,
                                                     int64_t total);
/** The rate times gamma at every step: ExponentialLR. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_exponential(fb_optimizer *opt, double gamma);
/** The rate times (1 - step / total)^power: PolynomialLR. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_polynomial(fb_optimizer *opt, int64_t total,
                                                         double power);
/** Cosines between lr and min_lr, `total` steps down and as many up, for ever: CosineAnnealingLR.
 */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_cosine_annealing(fb_optimizer *opt, int64_t total,
                                                               double min_lr);
/** Half cosines from lr to min_lr, the first of `first` steps, each `times` as long as the one
 * before: CosineAnnealingWarmRestarts. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_warm_restarts(fb_optimizer *opt, int64_t first,
                                                            int64_t times, double min_lr);

typedef enum fb_cycle {
    FB_CYCLE_TRIANGULAR,
    FB_CYCLE_TRIANGULAR2, /**< each cycle half as high as the one before */
    FB_CYCLE_EXP_RANGE    /**< heights times gamma^step */
} fb_cycle;

/** Smith: arXiv:1506.01186. */
typedef struct fb_cyclic_options {
    double base_lr, max_lr;
    int64_t up, down; /**< steps: 2000; as many as up */
    fb_cycle mode;
    double gamma;                          /**< 1 */
    bool keep_momentum;                    /**< else it goes the other way */
    double base_momentum, max_momentum;    /**< 0.8, 0.9 */
    double (*scale)(double x, void *user); /**< instead of a mode */
    void *user;
    bool scale_steps; /**< scale(step) instead of scale(number of the cycle, from 1) */
} fb_cyclic_options;
/** Between base_lr and max_lr and back: CyclicLR. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_cyclic(fb_optimizer *opt,
                                                     const fb_cyclic_options *opts);

/** Smith, Topin: arXiv:1708.07120. */
typedef struct fb_one_cycle_options {
    double max_lr;
    int64_t total;                       /**< steps */
    double pct_start;                    /**< 0.3 of them up */
    double div_factor, final_div_factor; /**< 25 (max_lr / the first), 1e4 (the first / the last) */
    bool linear, three_phase;
    bool keep_momentum;                 /**< else it goes the other way */
    double base_momentum, max_momentum; /**< 0.85, 0.95 */
} fb_one_cycle_options;
/** One cycle, and far down at its end: OneCycleLR. A step beyond `total` is FB_E_STATE. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_one_cycle(fb_optimizer *opt,
                                                        const fb_one_cycle_options *opts);

typedef struct fb_plateau_options {
    bool max;         /**< larger metrics are better */
    double factor;    /**< 0.1 */
    int64_t patience; /**< 10 metrics that are no better; -1 for 0 */
    double threshold; /**< 1e-4: better by less is no better */
    bool absolute;    /**< the threshold is a difference, not a part */
    int64_t cooldown; /**< metrics after a reduction that do not count */
    double min_lr;
    double eps; /**< 1e-8: smaller changes are not made */
} fb_plateau_options;
/** The rate times factor when metrics get no better: ReduceLROnPlateau; fb_schedule_step_metric. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_plateau(fb_optimizer *opt,
                                                      const fb_plateau_options *opts);
/** To swa_lr in `total` steps, by a half cosine or a line, and then constant: SWALR. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_swa(fb_optimizer *opt, double swa_lr, int64_t total,
                                                  bool linear);
/** Schedule 0 up to step at[0], then schedule 1 from its beginning, and so on: SequentialLR. `at`
 * has n - 1 steps in ascending order. They belong to the sequence from now on. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_sequence(fb_schedule *const *of, int n,
                                                       const int64_t *at);
/** All of them at every step, in this order: ChainedScheduler. They belong to the chain from now
 * on. */
FB_API FB_USE_RESULT fb_schedule *fb_schedule_chain(fb_schedule *const *of, int n);

/** Advance; acts only after the last micro-batch of a step. */
FB_API fb_status fb_schedule_step(fb_schedule *s);
/** Advance a plateau schedule by what was measured, e.g. once an epoch; all ranks must say the
 * same. FB_E_ARG for NaN and for other schedules. */
FB_API fb_status fb_schedule_step_metric(fb_schedule *s, double metric);
/** The rate that the schedule has set; NaN for NULL. */
FB_API double fb_schedule_lr(const fb_schedule *s);
/** Let go; the rate stays as it is. NULL is allowed; FB_E_STATE for a part of another schedule. */
FB_API void fb_schedule_close(fb_schedule *s);

FB_END
#endif
