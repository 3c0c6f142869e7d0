/* A convolutional network on Fashion-MNIST: any number of ranks, checkpoints, resume. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <flambeau/flambeau.h>

#include "../options.h"

typedef struct options {
    const char *data, *checkpoint;
    int64_t shards, threads, epochs, steps, stop_after, batch, limit, seed, save_every;
    double lr;
    bool print_bits, trace;
} options;

typedef struct run {
    options o;
    fb_world *world;
    fb_context *ctx;
    fb_module *model;
    fb_optimizer *opt;
    fb_schedule *schedule;
    fb_loader *train, *test;
    fb_state *state;
    fb_meter *loss, *accuracy;
    int64_t steps;           /* done, since the first start */
    int64_t samples;         /* of this process's training, */
    double seconds, resumed; /* the time that they took, and since when it runs again */
    double shown;            /* when the progress line was last written */
} run;

static bool parse(int argc, char **argv, options *o, int *exit_code)
{
    *o = (options){.epochs = 5, .batch = 128, .lr = 1e-3};
    const option_row rows[] = {
        {"data", OPTION_TEXT, &o->data, "FOLDER",
         .about = "train.h5 and test.h5, made by \"flambeau data import idx\"", .needed = true},
        {"epochs", OPTION_COUNT, &o->epochs, "N", .about = "times through the data", .least = 1},
        {"steps", OPTION_COUNT, &o->steps, "N",
         .about = "stop after so many steps, over as many epochs as that takes"},
        {"batch", OPTION_COUNT, &o->batch, "N", .about = "images of a step, over all ranks",
         .least = 1},
        {"lr", OPTION_NUMBER, &o->lr, "X",
         .about = "learning rate of Adam, going down to a twentieth along a cosine"},
        {"limit", OPTION_COUNT, &o->limit, "N", .about = "train on the first N images only"},
        {"shards", OPTION_COUNT, &o->shards, "V",
         .about = "same bits for every number of ranks up to V", .most = 4096},
        {"threads", OPTION_COUNT, &o->threads, "T", .about = "threads of a kernel", .most = 1024},
        {"seed", OPTION_COUNT, &o->seed, "N", .about = "another run"},
        {"checkpoint", OPTION_TEXT, &o->checkpoint, "DIR",
         .about = "save here after each epoch, and go on from what is there"},
        {"save-every", OPTION_COUNT, &o->save_every, "N", .about = "save every N steps, too"},
        {"stop-after", OPTION_COUNT, &o->stop_after, "N",
         .about = "save and stop after step N, as if interrupted"},
        {"print-bits", OPTION_FLAG, &o->print_bits, NULL,
         .about = "each step's loss as an exact number, and a digest at the end"},
        {"trace", OPTION_FLAG, &o->trace, NULL, .about = "which rank computed which image"},
        {0}};
    return options_parse("Trains a convolutional network on Fashion-MNIST.", rows, argc, argv,
                         exit_code);
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

/* Rank 0 looks at the files and tells the others. */
static fb_dataset *open_data(run *r, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", r->o.data, name);
    return fb_dataset_open_shared(fb_world_group(r->world), path);
}

static void open_loaders(run *r)
{
    fb_group *all = fb_world_group(r->world);
    fb_loader_options o = {.global_batch = r->o.batch,
                           .shuffle = true,
                           .seed = (uint64_t)r->o.seed,
                           .limit = r->o.limit};
    r->train = fb_loader_open(all, open_data(r, "train.h5"), &o);
    fb_dataset *test = open_data(r, "test.h5");
    int64_t most = fb_dataset_size(test);
    r->test = fb_loader_open(all, test,
                             FB_OPTS(fb_loader_options, .global_batch = most < 500 ? most : 500));
}

static void trace(run *r, const fb_batch *b)
{
    int64_t n;
    const int64_t *index = fb_loader_indices(r->train, &n);
    for (int64_t i = 0; i < n; i++)
        printf("trace step %" PRId64 " rank %d sample %" PRId64 "\n", b->at.step,
               fb_world_rank(r->world), index[i]);
}

/* --- progress --- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

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

/* Whether a line is due: every hundredth step in a log, ten times a second for a person. */
static bool line_due(run *r, int64_t total, bool terminal)
{
    double time = now();
    if (r->steps == total)
        return true;
    if (!terminal)
        return r->steps % 100 == 0;
    if (time - r->shown < 0.1)
        return false;
    r->shown = time;
    return true;
}

static void report(run *r, double loss)
{
    if (!fb_world_root(r->world) || !fb_ok(r->ctx))
        return;
    if (r->o.print_bits) {
        printf("step %" PRId64 " loss %a\n", r->steps, loss);
        return;
    }
    int64_t total = total_steps(r);
    bool terminal = on_terminal();
    if (!line_due(r, total, terminal))
        return;
    double rate = (double)r->samples / (r->seconds + now() - r->resumed);
    int64_t left = (int64_t)((double)(total - r->steps) * (double)r->o.batch / rate);
    printf("%sstep %" PRId64 "/%" PRId64 " loss %.4f, %.0f samples/s, %" PRId64 ":%02" PRId64
           " left%s",
           terminal ? "\r\033[K" : "", r->steps, total, loss, rate, left / 60, left % 60,
           terminal ? "" : "\n");
    fflush(stdout);
}

static void say_accuracy(run *r, double accuracy)
{
    if (fb_world_root(r->world) && fb_ok(r->ctx))
        printf("%sepoch %" PRId64 ": test accuracy %.4f\n", on_terminal() ? "\r\033[K" : "",
               fb_loader_epoch_number(r->train), accuracy);
}

static void say_digest(run *r)
{
    char digest[17];
    fb_state_digest(r->state, digest);
    if (fb_world_root(r->world) && fb_ok(r->ctx))
        printf("digest %s\n", digest);
}

/* --- training --- */

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
    r->resumed = now();
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
    r->seconds += now() - r->resumed;
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
    while (!finished(r) && fb_loader_epoch(r->train, epochs)) {
        train_epoch(r);
        save(r);
        if (finished(r) || !fb_world_running(r->world))
            break;
        if (!r->o.print_bits && fb_loader_epoch_number(r->train) < epochs)
            say_accuracy(r, evaluate(r));
    }
    if (r->o.print_bits)
        say_digest(r);
    else if (finished(r) || fb_world_running(r->world)) /* else: asked to stop, time is short */
        say_accuracy(r, evaluate(r));
}

static void open_run(run *r)
{
    r->ctx = fb_world_context(r->world);
    r->model = network(r->ctx);
    r->opt = fb_optim_adam(r->ctx, r->model, FB_OPTS(fb_adam_options, .lr = r->o.lr));
    fb_ddp_attach(fb_world_group(r->world), r->model, NULL);
    open_loaders(r);
    r->schedule = fb_schedule_cosine(r->opt, total_steps(r),
                                     FB_OPTS(fb_cosine_options, .min_lr = r->o.lr / 20));
    r->loss = fb_meter_open(r->ctx, "loss");
    r->accuracy = fb_meter_open(r->ctx, "accuracy");
    r->state = fb_state_open(r->ctx);
    fb_state_add(r->state, "model", r->model);
    fb_state_add(r->state, "optimizer", r->opt);
    fb_state_add(r->state, "schedule", r->schedule);
    fb_state_add(r->state, "data", r->train);
    fb_state_add(r->state, "steps", &r->steps);
    if (r->o.checkpoint)
        fb_checkpoint_resume(r->world, r->o.checkpoint, r->state);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* lines reach a log as they are written */
    run r = {0};
    int exit_code;
    if (!parse(argc, argv, &r.o, &exit_code))
        return exit_code;
    r.world = fb_world_open_with(&argc, &argv,
                                 FB_OPTS(fb_world_options, .shards = (int)r.o.shards,
                                         .threads = (int)r.o.threads, .seed = (uint64_t)r.o.seed));
    if (!r.world)
        return 1;
    open_run(&r);
    if (fb_ok(r.ctx))
        train(&r);
    return fb_world_close(r.world); /* prints the first error, if any; frees everything */
}
