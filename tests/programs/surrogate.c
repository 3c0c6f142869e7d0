/* ranks: 1 2 3
 * A simulation teaches a network while it runs: it pushes pairs of states, of which the newest stay
 * in a ring, and every few steps the network goes over them once. Each rank has a part of its own,
 * of another size. */
#include <math.h>
#include <string.h>

#include <flambeau/flambeau.h>

#include "expect.h"

enum { N = 16, STEPS = 400, EVERY = 20, CAPACITY = 256, BATCH = 48 };

typedef struct run {
    fb_context *ctx;
    fb_group *all;
    fb_module *net;
    fb_optimizer *opt;
    fb_dataset *ring;
    fb_loader *loader;
    float u[4][N]; /* as many chains as the rank has */
    int chains;
    int64_t pushed, given;
} run;

/* Heat on a ring of N points, warmed at times. */
static void simulate(run *r, int t)
{
    for (int c = 0; c < r->chains; c++) {
        float next[N];
        const float *u = r->u[c];
        for (int i = 0; i < N; i++)
            next[i] = u[i] + 0.25f * (u[(i + 1) % N] + u[(i + N - 1) % N] - 2 * u[i]);
        fb_dataset_push(r->ring, 1, (const void *const[]){u, next});
        r->pushed++;
        memcpy(r->u[c], next, sizeof next);
        for (int i = 0; t % 10 == 9 && i < N; i++)
            r->u[c][i] = sinf(0.9f * (float)(i * (t % 7 + 1)) + (float)c);
    }
}

static void open_run(run *r, fb_world *world)
{
    const fb_dataset_field fields[] = {{.name = "input", .dtype = FB_F32, .shape = FB_SHAPE(N)},
                                       {.name = "target", .dtype = FB_F32, .shape = FB_SHAPE(N)}};
    r->ctx = fb_world_context(world);
    r->all = fb_world_group(world);
    r->net = fb_nn_sequential(r->ctx, fb_nn_linear(r->ctx, N, N, NULL));
    r->opt = fb_optim_adam(r->ctx, r->net, FB_OPTS(fb_adam_options, .lr = 0.02));
    fb_ddp_attach(r->all, r->net, NULL);
    r->ring = fb_dataset_ring(r->ctx, CAPACITY, fields, 2, NULL);
    r->loader = fb_loader_open(r->all, r->ring,
                               FB_OPTS(fb_loader_options, .global_batch = BATCH, .shuffle = true));
    r->chains = 1 + fb_world_rank(world);
    for (int c = 0; c < r->chains; c++)
        for (int i = 0; i < N; i++)
            r->u[c][i] = cosf(0.4f * (float)i + (float)c);
}

/* Once over the samples that are there. @return the mean loss of this rank's */
static double learn(run *r)
{
    fb_batch b;
    fb_meter *mean = fb_meter_open(r->ctx, "loss");
    if (!fb_loader_epoch(r->loader, INT64_MAX))
        return NAN;
    while (fb_loader_next(r->loader, &b)) {
        FB_SCOPE(r->ctx);
        fb_tensor *loss = fb_mse_loss(fb_nn_forward(r->net, b.input), b.target, NULL);
        fb_backward(loss);
        fb_optim_step(r->opt);
        fb_meter_add(mean, loss, (double)b.n);
        r->given += b.n;
    }
    double value = fb_meter_mean(mean);
    fb_meter_close(mean);
    return value;
}

int main(int argc, char **argv)
{
    run r = {0};
    double first = NAN, last = NAN;
    int64_t due = 0;
    fb_world *world = fb_world_open_with(&argc, &argv, FB_OPTS(fb_world_options, .threads = 1));
    open_run(&r, world);
    for (int t = 0; t < STEPS && fb_ok(r.ctx); t++) {
        simulate(&r, t);
        if (t % EVERY != EVERY - 1)
            continue;
        due += r.pushed < CAPACITY ? r.pushed : CAPACITY;
        last = learn(&r);
        first = isnan(first) ? last : first;
    }
    expect(last < 0.05 * first, "the loss falls from %g to %g", first, last);
    expect(r.given == due, "each epoch has this rank's newest samples: %lld of %lld",
           (long long)r.given, (long long)due);
    expect(fb_dataset_size(r.ring) == (r.pushed < CAPACITY ? r.pushed : CAPACITY),
           "the ring holds %lld of %lld samples", (long long)fb_dataset_size(r.ring),
           (long long)r.pushed);
    expect(fb_world_close(world) == FB_OK, "all ranks end well");
    return failures != 0;
}
