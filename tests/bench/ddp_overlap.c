/* Training steps of an attached model: sums that leave during backward, beside sums after it
 * (fb_ddp_no_sync). Median milliseconds of interleaved windows.
 * mpirun -n 2 ddp_overlap [windows] [steps of a window] */
#include <stdio.h>
#include <stdlib.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/world.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/parallel/ddp.h>

#include "comm/world_priv.h"

enum { MOST = 201, CLASSES = 10 };

static fb_world *world;
static fb_context *ctx;

typedef struct task {
    const char *name;
    fb_module *model;
    fb_optimizer *opt;
    fb_tensor *x, *y;
} task;

static fb_module *mlp(int64_t width)
{
    return fb_nn_sequential(ctx, fb_nn_linear(ctx, 784, width, NULL), fb_nn_relu(ctx),
                            fb_nn_linear(ctx, width, width, NULL), fb_nn_relu(ctx),
                            fb_nn_linear(ctx, width, CLASSES, NULL));
}

static fb_module *cnn(void)
{
    return fb_nn_sequential(ctx, fb_nn_conv2d(ctx, 1, 32, 3, NULL), fb_nn_relu(ctx),
                            fb_nn_conv2d(ctx, 32, 64, 3, NULL), fb_nn_relu(ctx),
                            fb_nn_max_pool2d(ctx, 2, NULL), fb_nn_flatten(ctx),
                            fb_nn_linear(ctx, 64 * 12 * 12, 128, NULL), fb_nn_relu(ctx),
                            fb_nn_linear(ctx, 128, CLASSES, NULL));
}

static task make(const char *name, fb_module *model, fb_shape shape)
{
    task t = {.name = name, .model = model};
    t.opt = fb_optim_adam(ctx, model, NULL);
    t.x = fb_randn(ctx, FB_F32, shape);
    t.y = fb_randint(ctx, 0, CLASSES, FB_SHAPE(shape.d[0]));
    fb_ddp_attach(fb_world_group(world), model, NULL);
    return t;
}

/* Milliseconds a step, of the slowest rank. */
static double window(const task *t, int steps, bool overlap)
{
    fb_ddp_no_sync(t->model, !overlap);
    fb_world_barrier(world);
    double began = fbi_now();
    for (int i = 0; i < steps; i++) {
        FB_SCOPE(ctx);
        fb_backward(fb_cross_entropy(fb_nn_forward(t->model, t->x), t->y, NULL));
        fb_optim_step(t->opt);
    }
    FB_SCOPE(ctx);
    float took = (float)((fbi_now() - began) / steps * 1e3);
    return fb_item(
        fb_all_reduce(fb_world_group(world), fb_from(ctx, FB_F32, FB_SHAPE(1), &took), FB_MAX));
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const task *t, int windows, int steps)
{
    static double took[2][MOST];
    for (int i = -2; i < windows; i++)
        for (int k = 0; k < 2; k++) {
            double ms = window(t, steps, k == 1);
            if (i >= 0)
                took[k][i] = ms;
        }
    for (int k = 0; k < 2; k++)
        qsort(took[k], (size_t)windows, sizeof(double), by_value);
    fb_ddp_stats stats;
    fb_ddp_stats_of(t->model, &stats);
    double after = took[0][windows / 2], during = took[1][windows / 2];
    if (fb_world_root(world))
        printf("%-24s %9.2f %8.3f %8.3f %7.3f\n", t->name, (double)stats.bytes * 1e-6, after,
               during, after / during);
}

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    int windows = argc > 1 ? atoi(argv[1]) : 15, steps = argc > 2 ? atoi(argv[2]) : 10;
    windows = windows < 1 ? 1 : windows > MOST ? MOST : windows;
    task tasks[] = {make("MLP 784-256-256-10 b64", mlp(256), FB_SHAPE(64, 784)),
                    make("MLP 784-2048-2048-10 b64", mlp(2048), FB_SHAPE(64, 784)),
                    make("CNN 32-64-fc128 b32", cnn(), FB_SHAPE(32, 1, 28, 28))};
    if (fb_world_root(world))
        printf("%d ranks, %d threads each\n%-24s %9s %8s %8s %7s\n", fb_world_size(world),
               fb_context_threads(ctx), "ms a step", "MB", "after", "during", "ratio");
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks && fb_ok(ctx); i++)
        measure(&tasks[i], windows, steps);
    return fb_world_close(world);
}
