/* The trainer as its own files see it. */
#ifndef FLAMBEAU_LAUNCH_TRAINER_PRIV_H
#define FLAMBEAU_LAUNCH_TRAINER_PRIV_H

#include <stdio.h>

#include <flambeau/core/ops/profile.h>
#include <flambeau/launch/trainer.h>

/* --- options (trainer_options.c, trainer_yaml.c) --- */

enum { FBI_OPTION_TEXT = 640 };

/* Where the text of an option stands and what is wrong with it, and the copies of texts. */
typedef struct fbi_option_reader {
    const fb_option_group *groups; /* ended by {0} */
    char **texts;                  /* copies that TEXT options point to */
    int n_texts;
    char where[256];             /* "runs/a.yaml:3", "--set model.width=3" */
    char wrong[FBI_OPTION_TEXT]; /* "" while all is well */
} fbi_option_reader;

/* The first complaint, after where it is. @return false */
bool fbi_option_wrong(fbi_option_reader *r, const char *fmt, ...) FB_PRINTF(2, 3);
/* The group, or the row of a group, of n characters; NULL after a complaint that names the nearest.
 */
const fb_option_group *fbi_option_group(fbi_option_reader *r, const char *name, size_t n);
const fb_option *fbi_option_find(fbi_option_reader *r, const fb_option_group *g, const char *name);
bool fbi_option_put(fbi_option_reader *r, const fb_option_group *g, const fb_option *row,
                    const char *text);
/* "group.name=value"; a flag needs no value. */
bool fbi_option_assign(fbi_option_reader *r, const char *text);
/* The values that the program has given itself lie within their limits. */
bool fbi_option_check(fbi_option_reader *r, const fb_option_group *g);
/* All options with their lines. */
void fbi_option_help(const fb_option_group *groups, FILE *to);
/* --config, --set and --help of a command line, which loses them. @return false: r->wrong, or help
 * was wanted and given (*helped) */
bool fbi_option_arguments(fbi_option_reader *r, int *argc, char **argv, const char *about,
                          bool keep, bool *helped);
void fbi_option_free(fbi_option_reader *r);
bool fbi_yaml_read(fbi_option_reader *r, const char *path);

/* The options of the group "trainer". */
extern const fb_option fbi_trainer_rows[];

/* --- the trainer --- */

/* A mean over many micro-batches under a name. */
typedef struct fbi_metric {
    char name[64];
    const char *prefix; /* "" in training, "val", "test" */
    fb_meter *meter;
    bool fed; /* since the last mean */
    double value;
} fbi_metric;

struct fb_trainer {
    fb_trainer_options o;
    fb_option_group *groups; /* "trainer" and the program's */
    fbi_option_reader reader;
    fb_world *world;
    fb_context *ctx;
    bool owns_world;

    fb_trainer_task task;
    bool prepared; /* attached, state complete, read */
    fb_state *state;
    fb_ema *ema;
    fb_scaler *scaler;
    fb_dtype half;  /* of parameters; 0: F32 */
    fb_dtype mixed; /* of operators where that is safe; 0: F32 */

    int64_t steps, epochs; /* done */
    int64_t max_epochs;
    int64_t global_batch; /* samples of the last step */
    bool stop;            /* early stopping, or time is over: agreed */
    bool in_valid;        /* a validation or test runs */
    const char *prefix;   /* of metrics */
    const fb_batch *batch;

    fbi_metric *metrics;
    int n_metrics;
    int64_t skipped; /* steps that were not finite, as far as they have been told of */

    /* the monitor, in checkpoints */
    double best;
    int64_t best_step, waits, judged; /* judged: step of the last validation; -1: none */

    /* words */
    bool terminal, speaks; /* a person looks on; this rank speaks */
    int64_t log_every;
    double began, shown; /* this fit; the progress line */
    int64_t samples;
    double away;                      /* seconds of validations and saves */
    double loss;                      /* of the last line */
    fb_profile *profile;              /* NULL: none runs */
    int64_t profile_from, profile_to; /* steps; -1: it is over */
    FILE *log;
    int64_t saved;             /* step of the last save */
    char run_checkpoint[4096]; /* options.checkpoint of a run directory */
};

/* trainer_task.c: what must be so before anything runs */
fb_status fbi_trainer_bind(fb_trainer *t, const fb_trainer_task *task, bool fit);
/* trainer_step.c: the next micro-batch of an epoch; training on it; *whole: the step is done */
bool fbi_trainer_next(fb_trainer *t, fb_batch *b);
/* What a step says of a micro-batch, in the precision that is wanted. */
fb_tensor *fbi_trainer_call(fb_trainer *t, fb_batch *b, fb_trainer_step step);
fb_status fbi_trainer_micro(fb_trainer *t, fb_batch *b, bool *whole);
/* trainer_save.c */
fb_status fbi_trainer_state_fill(fb_trainer *t);
fb_status fbi_trainer_resume(fb_trainer *t);
fb_status fbi_trainer_save(fb_trainer *t);
fb_status fbi_trainer_save_best(fb_trainer *t);
fb_status fbi_trainer_remember(fb_trainer *t);
fb_status fbi_trainer_forget(fb_trainer *t); /* unless the last save has failed */
fb_status fbi_trainer_saved(fb_trainer *t);  /* all saves are on the disk, or have failed */
bool fbi_trainer_saves(const fb_trainer *t);
/* trainer_valid.c: a pass over a loader without gradients; the monitor */
fb_status fbi_trainer_pass(fb_trainer *t, fb_loader *loader, const char *prefix);
fb_status fbi_trainer_judge(fb_trainer *t);
const char *fbi_trainer_monitor(const fb_trainer *t);
/* trainer_profile.c: before the first step of a fit; then after each, and when it is over */
fb_status fbi_trainer_profile_bind(fb_trainer *t);
fb_status fbi_trainer_profile(fb_trainer *t, bool over);
/* trainer_report.c */
double fbi_trainer_now(void);
fb_status fbi_trainer_means(fb_trainer *t, const char *prefix);
fb_status fbi_trainer_report(fb_trainer *t);
void fbi_trainer_say(fb_trainer *t, const char *fmt, ...) FB_PRINTF(2, 3);
void fbi_trainer_say_validation(fb_trainer *t, const char *prefix);
fb_status fbi_trainer_open_log(fb_trainer *t);

#endif
