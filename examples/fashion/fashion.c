/* A convolutional network on Fashion-MNIST: any number of ranks, checkpoints, resume. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <flambeau/flambeau.h>

#include "options.h"

typedef struct run {
    fashion_options o;
    fb_world *world;
    fb_context *ctx;
    fb_module *model;
    fb_optimizer *opt;
    fb_schedule *schedule;
    fb_loader *train, *test;
    fb_state *state;
    fb_meter *loss, *accuracy;
    int64_t steps; /* done, since the first start */
    double begun;  /* of this process's training, seconds */
    int64_t samples;
} run;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static fb_module *network(fb_context *ctx)
{
    const fb_conv_options *same = FB_OPTS(fb_conv_options, .padding = {1});
    return fb_nn_sequential(
        ctx, fb_nn_conv2d(ctx, 1, 32, 3, same), fb_nn_batch_norm2d(ctx, 32, NULL), fb_nn_relu(ctx),
        fb_nn_max_pool2d(ctx, 2, NULL), fb_nn_conv2d(ctx, 32, 64, 3, same),
        fb_nn_batch_norm2d(ctx, 64, NULL), fb_nn_relu(ctx), fb_nn_max_pool2d(ctx, 2, NULL),
        fb_nn_flatten(ctx), fb_nn_dropout(ctx, 0.25), fb_nn_linear(ctx, 64 * 7 * 7, 128, NULL),
        fb_nn_relu(ctx), fb_nn_linear(ctx, 128, 10, NULL));
}

/* --- data --- */

static fb_dataset *open_data(run *r, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", r->o.data, name);
    return fb_dataset_open(r->ctx, path);
}

static void open_loaders(run *r)
{
    fb_group *all = fb_world_group(r->world);
    fb_loader_options o = {.global_batch = r->o.batch,
                           .shuffle = true,
                           .seed = (uint64_t)r->o.seed,
                           .limit = r->o.limit};
    r->train = fb_loader_open(all, open_data(r, "train.h5"), &o);
    r->test = fb_loader_open(all, open_data(r, "test.h5"),
                             FB_OPTS(fb_loader_options, .global_batch = 500));
}

static void trace(run *r, const fb_batch *b)
{
    int64_t n;
    const int64_t *index = fb_loader_indices(r->train, &n);
    for (int64_t i = 0; i < n; i++)
        printf("trace step %" PRId64 " rank %d sample %" PRId64 "\n", b->at.step,
               fb_world_rank(r->world), index[i]);
}

/* --- one run --- */

/* mpirun gives each rank a terminal of its own, so "flambeau run" says whether a person looks on.
 */
static bool on_terminal(void)
{
    const char *known = getenv("FLAMBEAU_TERMINAL");
    return known ? *known == '1' : isatty(STDOUT_FILENO);
}

static int64_t total_steps(const run *r)
{
    return r->o.steps ? r->o.steps : fb_loader_steps(r->train) * r->o.epochs;
}

static void report(run *r, double loss)
{
    bool root = fb_world_root(r->world), terminal = on_terminal();
    if (!root)
        return;
    if (r->o.print_bits) {
        printf("step %" PRId64 " loss %a\n", r->steps, loss);
        return;
    }
    int64_t total = total_steps(r);
    if (!terminal && r->steps % 100 && r->steps != total)
        return;
    double rate = (double)r->samples / (now() - r->begun);
    double left = (double)(total - r->steps) * (double)r->o.batch / rate;
    printf("%sstep %" PRId64 "/%" PRId64 " loss %.4f, %.0f samples/s, %.0f s left%s",
           terminal ? "\r\033[K" : "", r->steps, total, loss, rate, left > 0 ? left : 0,
           terminal ? "" : "\n");
    fflush(stdout);
}

static void save(run *r)
{
    if (r->o.checkpoint)
        fb_checkpoint_save(r->world, r->o.checkpoint, r->state);
}

static bool finished(const run *r)
{
    return (r->o.steps && r->steps >= r->o.steps) ||
           (r->o.stop_after && r->steps >= r->o.stop_after);
}

static void train_epoch(run *r)
{
    fb_batch b;
    fb_nn_train(r->model);
    while (!finished(r) && fb_world_running(r->world) && fb_loader_next(r->train, &b)) {
        FB_SCOPE(r->ctx);
        if (r->o.trace)
            trace(r, &b);
        fb_tensor *loss = fb_cross_entropy(fb_nn_forward(r->model, b.input), b.target, NULL);
        fb_backward(loss);
        fb_meter_add(r->loss, loss, (double)b.n);
        fb_optim_step(r->opt);
        fb_schedule_step(r->schedule);
        if (!b.at.last || !fb_ok(r->ctx))
            continue;
        r->steps++;
        r->samples += r->o.batch;
        report(r, fb_meter_mean(r->loss));
        if (r->o.save_every && r->steps % r->o.save_every == 0)
            save(r);
    }
}

static double evaluate(run *r)
{
    fb_batch b;
    fb_nn_eval(r->model);
    for (fb_loader_rewind(r->test); fb_loader_next(r->test, &b);) {
        FB_SCOPE(r->ctx);
        fb_no_grad(r->ctx);
        fb_tensor *guess = fb_argmax(fb_nn_forward(r->model, b.input), 1, false);
        fb_tensor *hit = fb_eq(guess, fb_to(b.target, FB_I64));
        fb_meter_add(r->accuracy, fb_mean(fb_to(hit, FB_F32), FB_ALL, false), (double)b.n);
    }
    return fb_meter_mean(r->accuracy);
}

static void train(run *r)
{
    int64_t epochs = r->o.steps ? INT64_MAX : r->o.epochs;
    r->begun = now();
    while (!finished(r) && fb_loader_epoch(r->train, epochs)) {
        train_epoch(r);
        save(r);
        if (finished(r) || !fb_ok(r->ctx))
            break;
        double accuracy = r->o.print_bits ? 0 : evaluate(r);
        if (fb_world_root(r->world) && fb_ok(r->ctx) && !r->o.print_bits)
            printf("\nepoch %" PRId64 ": test accuracy %.4f\n", fb_loader_epoch_number(r->train),
                   accuracy);
    }
    if (r->o.print_bits) {
        char digest[17];
        fb_state_digest(r->state, digest);
        if (fb_world_root(r->world) && fb_ok(r->ctx))
            printf("digest %s\n", digest);
        return;
    }
    double accuracy = evaluate(r);
    if (fb_world_root(r->world) && fb_ok(r->ctx))
        printf("test accuracy %.4f\n", accuracy);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* lines reach a log as they are written */
    run r = {0};
    if (!fashion_parse(argc, argv, &r.o))
        return 2;
    r.world = fb_world_open_with(&argc, &argv,
                                 FB_OPTS(fb_world_options, .shards = (int)r.o.shards,
                                         .threads = (int)r.o.threads, .seed = (uint64_t)r.o.seed));
    if (!r.world)
        return 1;
    r.ctx = fb_world_context(r.world);
    r.model = network(r.ctx);
    r.opt = fb_optim_adam(r.ctx, r.model, FB_OPTS(fb_adam_options, .lr = r.o.lr));
    fb_ddp_attach(fb_world_group(r.world), r.model, NULL);
    open_loaders(&r);
    r.schedule = fb_schedule_cosine(r.opt, total_steps(&r),
                                    FB_OPTS(fb_cosine_options, .min_lr = r.o.lr / 20));
    r.state = fb_state_open(r.ctx);
    fb_state_add(r.state, "model", r.model);
    fb_state_add(r.state, "optimizer", r.opt);
    fb_state_add(r.state, "schedule", r.schedule);
    fb_state_add(r.state, "data", r.train);
    fb_state_add(r.state, "steps", &r.steps);
    r.loss = fb_meter_open(r.ctx, "loss");
    r.accuracy = fb_meter_open(r.ctx, "accuracy");
    if (r.o.checkpoint)
        fb_checkpoint_resume(r.world, r.o.checkpoint, r.state);
    if (fb_ok(r.ctx))
        train(&r);
    return fb_world_close(r.world);
}
