/* What test_faults.py runs on several ranks: each scenario ends badly, in its own way. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/world.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/parallel/ddp.h>

static fb_world *world;
static fb_context *ctx;
static fb_group *all;
static int rank;

static void sums(int64_t n, int times)
{
    for (int i = 0; i < times && fb_ok(ctx); i++) {
        FB_SCOPE(ctx);
        fb_all_reduce_(all, fb_zeros(ctx, FB_F32, FB_SHAPE(n)), FB_SUM);
    }
}

static void other_count(void)
{
    sums(rank == 1 ? 1001 : 1000, 1);
}

static void other_kind(void)
{
    if (rank == 1)
        fb_group_barrier(all);
    else
        sums(1000, 1);
}

static void killed(void)
{
    sums(100000, 5);
    if (rank == 1)
        raise(SIGKILL);
    sums(100000, 5);
}

/* Within an operator of its own, after some sums. */
static void crashed(void)
{
    sums(100000, 5);
    if (rank == 1)
        *(volatile int *)8 = 1;
    sums(100000, 5);
}

static void silent_exit(void)
{
    sums(10, 3);
    if (rank == 1)
        _exit(0);
    sums(10, 1);
}

static void leaves_early(void)
{
    if (rank != 1)
        sums(10, 1);
}

static void own_error(void)
{
    sums(10, 1);
    if (rank == 1)
        fb_fail(ctx, FB_E_IO, "the disk is on fire");
    else
        sums(10, 1);
}

static void error_then_collective(void)
{
    if (rank == 1)
        fb_fail(ctx, FB_E_IO, "the disk is on fire");
    fb_group_barrier(all);
}

static void error_taken(void)
{
    if (rank == 1) {
        fb_fail(ctx, FB_E_IO, "the disk is on fire");
        fb_error_take(ctx, NULL, 0);
    }
    fb_group_barrier(all);
}

static void same_error(void)
{
    fb_fail(ctx, FB_E_NOT_FOUND, "dataset x.h5: no such file");
}

static void stopped(void)
{
    sums(1000, 3);
    if (rank == 1)
        raise(SIGSTOP);
    sums(1000, 1);
}

static void endless(void)
{
    sums(1000, 3);
    if (rank == 1)
        for (volatile int i = 0;; i++)
            ;
    sums(1000, 1);
}

/* Every rank waits for ever, but rank 2 for less. */
static void endless_in_a_group(void)
{
    fb_group *g = fb_group_split(all, 0, rank);
    fb_group_set_timeout(g, rank == 2 ? 1.0 : -1.0);
    if (rank == 1)
        for (volatile int i = 0;; i++)
            ;
    fb_group_barrier(g);
}

/* Rank 1 leaves out one of ten; the others find out when it leaves. */
static void skipped(void)
{
    sums(1000, rank == 1 ? 9 : 10);
}

static void disagrees(void)
{
    fb_world_agree(world, "train.h5", rank == 1 ? 0xbadu : 0x600du);
}

static void circle(void)
{
    FB_SCOPE(ctx);
    fb_tensor *t = fb_zeros(ctx, FB_F32, FB_SHAPE(4));
    if (rank < 2)
        fb_recv(all, t, 1 - rank);
    else
        fb_group_barrier(all);
}

static void wrong_parcel(void)
{
    FB_SCOPE(ctx);
    fb_tensor *t = fb_zeros(ctx, FB_F32, FB_SHAPE(rank ? 5 : 4));
    if (rank == 0)
        fb_send(all, t, 1);
    else if (rank == 1)
        fb_recv(all, t, 0);
}

static void asked_to_stop(void)
{
    int steps = 0;
    while (fb_world_running(world)) {
        if (rank == 1 && steps == 7)
            raise(SIGUSR1);
        steps++;
    }
    printf("rank %d stopped after %d\n", rank, steps);
}

/* Until something happens; a file says that it goes on. */
static void forever(void)
{
    char path[512];
    sums(1000, 100);
    snprintf(path, sizeof path, "%s/started.%d", getenv("FLAMBEAU_RUN_DIR"), rank);
    FILE *f = fopen(path, "w");
    if (f)
        fclose(f);
    while (fb_ok(ctx))
        sums(1000, 1);
}

/* healthy SECONDS PAUSE: a first step that takes long on one rank, and a checkpoint on another. */
static double healthy_s = 10, pause_s = 1;
static void healthy(void)
{
    time_t end = time(NULL) + (time_t)healthy_s;
    for (int step = 0; fb_ok(ctx); step++) {
        if ((step == 0 && rank == 1) || (step == 1000 && rank == 0))
            nanosleep(&(struct timespec){(time_t)pause_s, 0}, NULL);
        sums(1000, 1);
        if (step % 100 == 99 && fb_world_any(world, rank == 0 && time(NULL) > end))
            break;
    }
}

/* --- training, in which one rank does something wrong at some step: trial WHAT RANK STEP --- */

enum { TRIAL_STEPS = 150 };
static const char *trial_what = "nothing";
static int trial_rank = -1, trial_step = -1;

static void flip_a_bit(fb_module *model)
{
    uint32_t *bits = (uint32_t *)(uintptr_t)fb_data(fb_nn_param(model, "0.weight"));
    bits[7] ^= 1u << 12;
}

/* What the rank does in place of its all_reduce, if it comes to that. */
static void misbehave(fb_module *model)
{
    if (strcmp(trial_what, "killed") == 0)
        raise(SIGKILL);
    if (strcmp(trial_what, "stopped") == 0)
        raise(SIGSTOP);
    for (volatile int i = 0; strcmp(trial_what, "endless") == 0; i++)
        ;
    if (strcmp(trial_what, "skipped") == 0)
        return;
    if (strcmp(trial_what, "slow") == 0) /* for the rest of the time */
        trial_step++;
    if (strcmp(trial_what, "slow") == 0)
        nanosleep(&(struct timespec){0, 30 * 1000 * 1000}, NULL);
    if (strcmp(trial_what, "flipped") == 0)
        flip_a_bit(model);
    sums(strcmp(trial_what, "shape") == 0 ? 8 : 7, 1);
}

static void trial(void)
{
    fb_module *model = fb_nn_sequential(ctx, fb_nn_linear(ctx, 5, 3, NULL), fb_nn_relu(ctx),
                                        fb_nn_linear(ctx, 3, 1, NULL));
    fb_optimizer *opt = fb_optim_sgd(ctx, model, NULL);
    fb_ddp_attach(all, model, NULL);
    for (int step = 0; step < TRIAL_STEPS && fb_ok(ctx); step++) {
        FB_SCOPE(ctx);
        fb_tensor *out = fb_nn_forward(model, fb_ones(ctx, FB_F32, FB_SHAPE(4, 5)));
        fb_backward(fb_mean(fb_square(out), (fb_shape){0}, false));
        fb_optim_step(opt);
        if (rank == trial_rank && step == trial_step)
            misbehave(model);
        else
            sums(7, 1);
    }
    fb_optim_close(opt);
    fb_nn_close(model);
}

static const struct scenario {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"other_count", other_count},
    {"other_kind", other_kind},
    {"killed", killed},
    {"crashed", crashed},
    {"silent_exit", silent_exit},
    {"leaves_early", leaves_early},
    {"own_error", own_error},
    {"error_then_collective", error_then_collective},
    {"error_taken", error_taken},
    {"same_error", same_error},
    {"stopped", stopped},
    {"endless", endless},
    {"endless_in_a_group", endless_in_a_group},
    {"skipped", skipped},
    {"disagrees", disagrees},
    {"circle", circle},
    {"wrong_parcel", wrong_parcel},
    {"asked_to_stop", asked_to_stop},
    {"forever", forever},
    {"healthy", healthy},
    {"trial", trial},
};

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    all = fb_world_group(world);
    rank = fb_world_rank(world);
    if (argc == 4) {
        healthy_s = atof(argv[2]);
        pause_s = atof(argv[3]);
    }
    if (argc == 5) {
        trial_what = argv[2];
        trial_rank = atoi(argv[3]);
        trial_step = atoi(argv[4]);
    }
    for (size_t i = 0; argc > 1 && i < sizeof scenarios / sizeof *scenarios; i++)
        if (strcmp(argv[1], scenarios[i].name) == 0)
            scenarios[i].run();
    return fb_world_close(world);
}
