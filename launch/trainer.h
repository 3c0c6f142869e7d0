/* The trainer: epochs, steps, validation, checkpoints and progress around a program's own
 * functions; PyTorch Lightning's Trainer in C. */
#ifndef FLAMBEAU_LAUNCH_TRAINER_H
#define FLAMBEAU_LAUNCH_TRAINER_H

#include <flambeau/comm/world.h>
#include <flambeau/io/state.h>
#include <flambeau/launch/options.h>

FB_BEGIN

typedef struct fb_trainer fb_trainer;

/** What parameters are stored in, and what is computed in. */
typedef enum fb_precision {
    FB_PRECISION_F32 = 1,
    FB_PRECISION_BF16,       /**< parameters in BF16, updated through masters in F32 */
    FB_PRECISION_F16,        /**< parameters in F16, with a scaler of losses */
    FB_PRECISION_BF16_MIXED, /**< parameters in F32, operators in BF16 where that is safe
                                (fb_autocast) */
    FB_PRECISION_F16_MIXED   /**< the same in F16, with a scaler of losses */
} fb_precision;

/** What becomes of a step whose gradients are not finite. It is never applied. */
typedef enum fb_nan_policy {
    FB_NAN_SKIP = 1, /**< go on; the log tells of the first, second, fourth, eighth ... */
    FB_NAN_WARN,     /**< go on, with a line for each */
    FB_NAN_STOP      /**< FB_E_USER */
} fb_nan_policy;

/** Whether less or more of the monitored value is better. */
typedef enum fb_monitor_mode { FB_MONITOR_MIN = 1, FB_MONITOR_MAX } fb_monitor_mode;

/**
 * Zero is the default of every field. Each one is also an option of the group "trainer" in YAML
 * files and on the command line (but the last three).
 */
typedef struct fb_trainer_options {
    /* how long: whatever comes first */
    int64_t max_epochs; /**< 0: 1000 if max_steps and max_time are 0 too, else no limit */
    int64_t max_steps;
    double max_time;      /**< seconds since this process began to fit */
    int64_t fast_dev_run; /**< a trial of so many steps and validation batches; nothing is saved */
    int64_t overfit_batches; /**< learn the first so many batches again and again, an epoch each
                                  time; nothing is saved */
    /* a step */
    int64_t accumulate; /**< batches of the loader in one step; 0: 1. With more than one leaf on a
                             rank a larger global_batch with a micro_batch does it */
    double clip_norm;   /**< as fb_optim_clip_norm; 0: the optimizer's own */
    double clip_value;  /**< as fb_optim_clip_value; 0: the optimizer's own */
    int precision;      /**< fb_precision; F32 */
    double ema_decay;   /**< average parameters, and validate with the average; 0: no average */
    int on_nan;         /**< fb_nan_policy; SKIP */
    /* validation */
    int64_t validate_every;   /**< epochs between; 0: 1; -1: at the end only */
    int64_t validate_steps;   /**< steps between; 0: after epochs only */
    int64_t validate_batches; /**< of validations and tests; 0: all */
    const char *monitor; /**< metric of the validation that says which step is best: "val_loss" */
    int mode;            /**< fb_monitor_mode; MIN */
    int64_t patience;    /**< stop after so many validations without a better value; 0: never.
                              Monitors "val_loss" if nothing else is */
    double min_delta;    /**< what counts as better, at least */
    /* checkpoints */
    const char *checkpoint; /**< folder: go on from its newest one, save there; the best step of a
                                 monitored run stays, too. NULL: "checkpoints" in the run directory
                                 of `flambeau run --dir`, if there is one */
    int64_t save_every;     /**< epochs between saves; 0: 1; -1: at the end only */
    int64_t save_steps;     /**< steps between saves, too; 0: none */
    int64_t memory_checkpoint; /**< steps between copies in the memory of the nodes, which a restart
                                    goes on from, too (fb_checkpoint_remember); 0: none. Needs
                                    `checkpoint`; a last save removes them */
    int64_t keep;              /**< newest ones kept; 0: 2; -1: all */
    bool save_async;           /**< training goes on during saves (fb_checkpoint_save_async) */
    int64_t save_files;        /**< fb_checkpoint_options.files */
    bool fresh;                /**< do not go on: FB_E_STATE if the folder has checkpoints (unless
                                    `flambeau run` or a batch system has started this job again) */
    const char *from;          /**< one checkpoint to begin with, if the folder has none: a path */
    /* what is said, by rank 0 on stdout */
    int64_t log_every;    /**< steps between lines; 0: 100 (10 on a terminal) */
    const char *log_file; /**< a line of JSON for each line and each validation is added to it */
    bool quiet;
    const char *profile; /**< some steps are profiled: rank 0 says what took how long, and with
                              several ranks who waits for whom; each rank writes a Chrome trace:
                            rank 0 to this file (fb_profile_write_ranks) */
    const char *profile_steps; /**< "FROM:TO": which, of this process; NULL: "10:30" */
    /* the world (fb_world_options) */
    const char *device;
    int64_t shards, threads, seed;
    bool allow_tf32, tune;
    /* of the program only */
    const fb_option_group *groups; /**< its own options, ended by {0} */
    const char *about;             /**< a line for --help */
    bool keep_arguments; /**< leave what is not the trainer's in argv: the program reads it */
} fb_trainer_options;

/** A micro-batch in, its mean loss out. NULL without an error: no loss (validation only). */
typedef fb_tensor *(*fb_trainer_step)(fb_trainer *t, const fb_batch *batch);
/** Called on every rank. */
typedef void (*fb_trainer_hook)(fb_trainer *t);

/** What is trained, and the program's functions. Only `model` is always needed. */
typedef struct fb_trainer_task {
    fb_module *model;
    fb_optimizer *optimizer; /**< NULL: nothing to fit */
    fb_schedule *schedule;   /**< NULL: the rate stays */
    bool schedule_epochs;    /**< the schedule steps at the end of epochs, not of steps */
    bool schedule_metric; /**< it steps with the monitored value of each validation (a plateau) */
    fb_loader *train, *valid;   /**< valid NULL: no validation */
    const char *valid_name;     /**< prefix of its metrics; NULL: "val" */
    fb_trainer_step step;       /**< loss of a micro-batch in training */
    fb_trainer_step valid_step; /**< in validation; NULL: `step` */
    bool manual; /**< `step` itself calls fb_backward and fb_optim_step (a GAN); its value is only
                      reported */
    /* all of these may be NULL */
    fb_trainer_hook on_start;      /**< after what is to go on was read */
    fb_trainer_hook on_epoch;      /**< after an epoch, its validation and its save */
    fb_trainer_hook on_step;       /**< after a step */
    fb_trainer_hook on_log;        /**< instead of the line of a step */
    fb_trainer_hook on_validation; /**< instead of the line of a validation */
    fb_trainer_hook on_end;        /**< after the last save */
    void *user;                    /**< fb_trainer_user */
} fb_trainer_task;

/**
 * Read the command line, join the job (fb_world_open), and be ready to train. Collective.
 *
 * --config FILE reads a YAML file, --set GROUP.NAME=VALUE sets one option and wins over the file,
 * which wins over `opts`; --help prints all options and ends the program with 0. They are taken out
 * of argv; anything else is an error, unless keep_arguments. argc and argv may be NULL.
 *
 * Wrong options are an error of the context (FB_E_ARG with the file, the line and the nearest name
 * there is), so that fb_trainer_close says it once for all ranks. NULL only if the job cannot be
 * joined; the reason has been printed.
 */
FB_API fb_trainer *fb_trainer_open(int *argc, char ***argv, const fb_trainer_options *opts);
/** The same in a world that is open; what concerns the world is not looked at. NULL: FB_E_NOMEM. */
FB_API fb_trainer *fb_trainer_open_in(fb_world *world, int *argc, char ***argv,
                                      const fb_trainer_options *opts);
/**
 * Let go, and leave the job if fb_trainer_open joined it. Collective. The context of
 * fb_trainer_open_in closes what is left.
 *
 * @return as fb_world_close; of fb_trainer_open_in: the context's status. FB_E_ARG for NULL
 */
FB_API fb_status fb_trainer_close(fb_trainer *t);

/**
 * Train until a limit is reached, the monitored value stays, or somebody asks to stop. Collective.
 *
 * The model is attached to the group of all ranks (fb_ddp_attach), unless it is. Checkpoints have
 * the entries "model", "optimizer", "schedule", "data" (where the loader is), "steps", and "ema",
 * "scaler" and "monitor" where there is one; what the program adds to fb_trainer_state comes
 * before. A run that is interrupted and started again has the bits of one that was not. SIGTERM and
 * SIGUSR1 end it after a step with a save; fb_trainer_close then returns FB_AGAIN.
 *
 * FB_E_ARG for a task without a function or loader that is needed, or another one than before;
 * FB_E_STATE; FB_E_USER: `step` gave no loss, or a step was not finite and on_nan is STOP.
 */
FB_API fb_status fb_trainer_fit(fb_trainer *t, const fb_trainer_task *task);
/** One validation: metrics are then "val_loss" and what the step has logged. Collective. */
FB_API fb_status fb_trainer_validate(fb_trainer *t, const fb_trainer_task *task);
/** The same over another loader; metrics are "test_loss" and so on. Collective. */
FB_API fb_status fb_trainer_test(fb_trainer *t, const fb_trainer_task *task, fb_loader *test);

/** Receives what the model says of n samples, and their numbers in the dataset. */
typedef void (*fb_trainer_take)(fb_trainer *t, fb_tensor *output, const int64_t *indices,
                                int64_t n);
/**
 * Run `step` over a loader, without gradients, in evaluation mode; each rank gets the outputs of
 * its samples. `step` NULL: the model's output for batch->input. Collective.
 */
FB_API fb_status fb_trainer_predict(fb_trainer *t, const fb_trainer_task *task, fb_loader *loader,
                                    fb_trainer_step step, fb_trainer_take take);
/**
 * Load the model's weights from a checkpoint: "best" or "last" of the folder of options.checkpoint,
 * or a path. Collective. FB_E_ARG without such a folder, FB_E_IO without such a checkpoint.
 */
FB_API fb_status fb_trainer_load(fb_trainer *t, const fb_trainer_task *task, const char *which);

/** In a step: add the mean of n samples (those of the micro-batch) to a metric of this name.
 * Training has "name", validation "val_name", test "test_name". All ranks must log the same names.
 */
FB_API fb_status fb_trainer_log(fb_trainer *t, const char *name, fb_tensor *value);
/** A metric's last mean over all ranks: "loss" since the last line of the log, "val_loss" of the
 * last validation. NaN if there is none. */
FB_API double fb_trainer_metric(const fb_trainer *t, const char *name);
/** Ask all ranks to stop; they do so after the next step. */
FB_API void fb_trainer_stop(fb_trainer *t);

/** The context; NULL for NULL. */
FB_API fb_context *fb_trainer_context(const fb_trainer *t);
/** The world; NULL for NULL. */
FB_API fb_world *fb_trainer_world(const fb_trainer *t);
/** The group of all ranks, for loaders; NULL for NULL. */
FB_API fb_group *fb_trainer_group(const fb_trainer *t);
/** The options with everything that was read; NULL for NULL. */
FB_API const fb_trainer_options *fb_trainer_options_of(const fb_trainer *t);
/** What checkpoints hold: add a program's own things before the first fit. NULL for NULL. */
FB_API fb_state *fb_trainer_state(const fb_trainer *t);
/** In a step: the model to use, which in validation is the average if there is one. */
FB_API fb_module *fb_trainer_model(const fb_trainer *t);
/** The task's `user`. */
FB_API void *fb_trainer_user(const fb_trainer *t);
/** Steps done since the first start; skipped ones count. */
FB_API int64_t fb_trainer_steps(const fb_trainer *t);
/** Epochs done since the first start. */
FB_API int64_t fb_trainer_epochs(const fb_trainer *t);
/** The limit of steps, as far as it is known: max_steps, or those of max_epochs; 0: unknown. For
 * schedules: fb_schedule_cosine(opt, fb_trainer_total_steps(t, train), NULL). */
FB_API int64_t fb_trainer_total_steps(const fb_trainer *t, const fb_loader *train);
/** Step of the best monitored value so far; -1: none. */
FB_API int64_t fb_trainer_best_step(const fb_trainer *t);

FB_END
#endif
