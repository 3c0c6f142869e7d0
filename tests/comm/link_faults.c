/* What test_link_faults.py runs on several ranks with a simulated card each: what goes wrong
 * between the cards ends in a message on every rank, or the host does the work. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/world.h>
#include <flambeau/core/ops/create.h>

enum { MOST = 200000 };

static fb_world *world;
static fb_context *ctx;
static fb_group *all;
static int rank;
static float values[MOST];

/* Sums of ones, each of which is read: that waits for the card. */
static void sums(int64_t n, int times)
{
    for (int i = 0; i < times && fb_ok(ctx); i++) {
        FB_SCOPE(ctx);
        fb_tensor *t = fb_ones(ctx, FB_F32, FB_SHAPE(n));
        fb_all_reduce_(all, t, FB_SUM);
        fb_read(t, values, (size_t)n * sizeof *values);
    }
}

/* Sums that nobody reads: only the queues have them. */
static void launches(int64_t n, int times)
{
    for (int i = 0; i < times && fb_ok(ctx); i++) {
        FB_SCOPE(ctx);
        fb_all_reduce_(all, fb_ones(ctx, FB_F32, FB_SHAPE(n)), FB_SUM);
    }
}

static void right(void)
{
    sums(1000, 4);
    if (fb_ok(ctx))
        printf("rank %d has %g\n", rank, (double)values[999]);
}

static void other_count(void)
{
    sums(rank == 1 ? 1001 : 1000, 1);
}

static void other_kind(void)
{
    FB_SCOPE(ctx);
    fb_tensor *t = fb_ones(ctx, FB_F32, FB_SHAPE(1000));
    if (rank == 1)
        fb_broadcast_(all, t, 0);
    else
        fb_all_reduce_(all, t, FB_SUM);
    fb_read(t, values, 1000 * sizeof *values);
}

/* It never makes the call. */
static void killed(void)
{
    sums(MOST, 3);
    if (rank == 1)
        raise(SIGKILL);
    sums(MOST, 3);
}

/* It has made the call, and dies before its card has done its part. */
static void killed_later(void)
{
    sums(MOST, 3);
    launches(MOST, 1);
    if (rank == 1)
        raise(SIGKILL);
    sums(MOST, 1);
}

static void leaves_early(void)
{
    sums(1000, 2);
    if (rank != 1)
        sums(1000, 1);
}

static void own_error(void)
{
    sums(1000, 1);
    if (rank == 1)
        fb_fail(ctx, FB_E_IO, "the disk is on fire");
    sums(1000, 1);
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"right", right},        {"other_count", other_count},   {"other_kind", other_kind},
    {"killed", killed},      {"killed_later", killed_later}, {"leaves_early", leaves_early},
    {"own_error", own_error}};

/* Give rank 1 the value of `own` as `name`. */
static void rank1(const char *own, const char *name)
{
    const char *number = getenv("OMPI_COMM_WORLD_RANK"), *value = getenv(own);
    if (number && value && strcmp(number, "1") == 0)
        setenv(name, value, 1);
}

int main(int argc, char **argv)
{
    rank1("RANK1_NCCL", "CUDASIM_NCCL_VERSION");
    rank1("RANK1_DEVICE", "FLAMBEAU_DEVICE");
    rank1("RANK1_FAIL", "CUDASIM_FAIL");
    world = fb_world_open(&argc, &argv);
    if (!world)
        return 3;
    ctx = fb_world_context(world);
    all = fb_world_group(world);
    rank = fb_world_rank(world);
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        if (argc > 1 && strcmp(argv[1], scenarios[i].name) == 0)
            scenarios[i].run();
    return (int)fb_world_close(world);
}
