/* The workloads of tests/bench/compare and tests/gpu/first_contact, which run them beside the same
 * ones in peer.py.
 *
 *     workloads [options] THREADS        reads lines "NAME REPETITIONS", answers with seconds
 *     workloads [options] THREADS NAME   a line after the first step; seconds of five more; the end
 *
 *     --device NAME   "cpu"; seconds are those until the device has done the work
 *     --batch N       other than the workload's own
 *     --tiny          networks and batches that a simulated card can take
 *     --profile       after each line, or after the five steps, where the time went, on stderr
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/flambeau.h>

#include "examples/chargpt/model.h"
#include "tests/bench/models/models.h"
#include "tests/bench/parts/parts.h"

/* --- the models --- */

static fb_module *open_mlp(fb_context *ctx)
{
    return fb_nn_sequential(ctx, fb_nn_linear(ctx, 784, 256, NULL), fb_nn_relu(ctx),
                            fb_nn_linear(ctx, 256, 256, NULL), fb_nn_relu(ctx),
                            fb_nn_linear(ctx, 256, 10, NULL));
}

/* The network of PyTorch's MNIST example, without dropout. */
static fb_module *open_cnn(fb_context *ctx)
{
    return fb_nn_sequential(ctx, fb_nn_conv2d(ctx, 1, 32, 3, NULL), fb_nn_relu(ctx),
                            fb_nn_conv2d(ctx, 32, 64, 3, NULL), fb_nn_relu(ctx),
                            fb_nn_max_pool2d(ctx, 2, NULL), fb_nn_flatten(ctx),
                            fb_nn_linear(ctx, 64 * 12 * 12, 128, NULL), fb_nn_relu(ctx),
                            fb_nn_linear(ctx, 128, 10, NULL));
}

static fb_module *open_gpt(fb_context *ctx)
{
    return gpt_open(
        ctx, &(gpt_config){.layers = 4, .heads = 4, .width = 256, .context = 128, .vocab = 256});
}

/* nanoGPT's recipe for characters. */
static fb_module *open_nanogpt(fb_context *ctx)
{
    return gpt_open(
        ctx, &(gpt_config){.layers = 6, .heads = 6, .width = 384, .context = 256, .vocab = 65});
}

static fb_module *open_lstm(fb_context *ctx)
{
    return fb_nn_sequential(
        ctx, fb_nn_embedding(ctx, 65, 256, NULL),
        fb_nn_lstm(ctx, 256, 256, FB_OPTS(fb_rnn_options, .layers = 2, .batch_first = true)),
        fb_nn_linear(ctx, 256, 65, NULL));
}

/* GPT-2 124M; the vocabulary is 50257, rounded up to a multiple of 128. */
static fb_module *open_gpt2(fb_context *ctx)
{
    return gpt_open(ctx, &(gpt_config){.layers = 12,
                                       .heads = 12,
                                       .width = 768,
                                       .context = 1024,
                                       .vocab = 50304,
                                       .linear = linear16_open});
}

static fb_module *open_tiny_gpt2(fb_context *ctx)
{
    return gpt_open(ctx, &(gpt_config){.layers = 2,
                                       .heads = 2,
                                       .width = 32,
                                       .context = 16,
                                       .vocab = 64,
                                       .linear = linear16_open});
}

static fb_module *open_resnet50(fb_context *ctx)
{
    return resnet50_open(ctx, 64, 1000);
}

static fb_module *open_tiny_resnet50(fb_context *ctx)
{
    return resnet50_open(ctx, 4, 10);
}

static fb_optimizer *open_adam(fb_context *ctx, fb_module *model)
{
    return fb_optim_adam(ctx, model, NULL);
}

static fb_optimizer *open_adamw(fb_context *ctx, fb_module *model)
{
    return fb_optim_adamw(ctx, model, FB_OPTS(fb_adamw_options, .weight_decay = 0.1));
}

static fb_optimizer *open_sgd(fb_context *ctx, fb_module *model)
{
    return fb_optim_sgd(ctx, model,
                        FB_OPTS(fb_sgd_options, .lr = 0.1, .momentum = 0.9, .weight_decay = 1e-4));
}

/* --- training one of them --- */

typedef struct workload {
    const char *name;
    fb_module *(*open)(fb_context *ctx);
    fb_optimizer *(*optimizer)(fb_context *ctx, fb_module *model);
    fb_shape input; /* with the batch in front; images: [N, H, W, C], seen as [N, C, H, W] */
    int64_t tokens; /* input is I64 below this; 0: it is F32 */
    int64_t classes, targets;
} workload;

/* A workload, and what its first use makes. */
typedef struct training {
    workload w;
    fb_module *model;
    fb_optimizer *opt;
    fb_tensor *x, *y;
} training;

static const workload full_size[] = {
    {"mlp", open_mlp, open_adam, FB_SHAPE(128, 784), 0, 10, 128},
    {"cnn", open_cnn, open_adam, FB_SHAPE(64, 28, 28, 1), 0, 10, 64},
    {"gpt", open_gpt, open_adam, FB_SHAPE(8, 128), 256, 256, 8 * 128},
    {"resnet18", resnet18_open, open_adam, FB_SHAPE(32, 32, 32, 3), 0, 10, 32},
    {"nanogpt", open_nanogpt, open_adam, FB_SHAPE(12, 256), 65, 65, 12 * 256},
    {"lstm", open_lstm, open_adam, FB_SHAPE(32, 64), 65, 65, 32 * 64},
    {"gpt2", open_gpt2, open_adamw, FB_SHAPE(64, 1024), 50304, 50304, 64 * 1024},
    {"resnet50", open_resnet50, open_sgd, FB_SHAPE(128, 224, 224, 3), 0, 1000, 128},
    {0}};

static const workload tiny_size[] = {
    {"mlp", open_mlp, open_adam, FB_SHAPE(2, 784), 0, 10, 2},
    {"cnn", open_cnn, open_adam, FB_SHAPE(1, 28, 28, 1), 0, 10, 1},
    {"gpt2", open_tiny_gpt2, open_adamw, FB_SHAPE(2, 16), 64, 64, 2 * 16},
    {"resnet50", open_tiny_resnet50, open_sgd, FB_SHAPE(2, 32, 32, 3), 0, 10, 2},
    {0}};

enum { MOST = sizeof full_size / sizeof full_size[0] };

static void set_batch(workload *w, int64_t batch)
{
    w->targets = w->targets / w->input.d[0] * batch;
    w->input.d[0] = batch;
}

static fb_tensor *draw(fb_context *ctx, const workload *w)
{
    if (w->tokens)
        return fb_randint(ctx, 0, w->tokens, w->input);
    fb_tensor *x = fb_randn(ctx, FB_F32, w->input);
    return w->input.n == 4 ? fb_permute(x, FB_DIMS(0, 3, 1, 2)) : x;
}

static void prepare(fb_context *ctx, training *t)
{
    if (t->model)
        return;
    t->model = t->w.open(ctx);
    t->opt = t->w.optimizer(ctx, t->model);
    fb_set(&t->x, draw(ctx, &t->w));
    fb_set(&t->y, fb_randint(ctx, 0, t->w.classes, FB_SHAPE(t->w.targets)));
}

static void train(fb_context *ctx, training *t, int64_t steps)
{
    FB_SCOPE(ctx);
    prepare(ctx, t);
    for (int64_t i = 0; i < steps && fb_ok(ctx); i++) {
        FB_SCOPE(ctx);
        fb_tensor *logits = fb_nn_forward(t->model, t->x);
        if (t->w.tokens)
            logits = fb_flatten(logits, 0, 1);
        fb_backward(fb_cross_entropy(logits, t->y, NULL));
        fb_optim_step(t->opt);
    }
    fb_context_sync(ctx);
}

/* --- the cost of an operator --- */

/* Record `n` additions of 16 floats, in graphs of 100; then, if asked, go back through them. */
static void record(fb_context *ctx, int64_t n, bool backward)
{
    FB_SCOPE(ctx);
    fb_tensor *one = fb_ones(ctx, FB_F32, FB_SHAPE(16));
    fb_tensor *leaf = fb_requires_grad(fb_zeros(ctx, FB_F32, FB_SHAPE(16)), true);
    for (int64_t i = 0; i < n; i += 100) {
        FB_SCOPE(ctx);
        fb_tensor *t = leaf;
        for (int k = 0; k < 100; k++)
            t = fb_add(t, one);
        if (backward)
            fb_backward(fb_sum(t, FB_ALL, false));
    }
}

/* --- the talk with compare --- */

static training *find(training *all, const char *name)
{
    for (; all->w.name; all++)
        if (!strcmp(all->w.name, name))
            return all;
    return NULL;
}

static void run(fb_context *ctx, training *all, const char *name, int64_t n)
{
    training *t = find(all, name);
    if (t)
        train(ctx, t, n);
    else if (!strcmp(name, "record") || !strcmp(name, "chain"))
        record(ctx, n, name[0] == 'c');
    else
        fb_fail(ctx, FB_E_ARG, "workloads: %s: there is no such workload", name);
}

static void timed_run(fb_context *ctx, training *all, const char *name, int64_t n, bool profile)
{
    if (profile)
        profile_begin(ctx);
    double begun = bench_now();
    run(ctx, all, name, n);
    double took = bench_now() - begun;
    if (profile)
        profile_print(n);
    if (fb_ok(ctx))
        printf("%.9f\n", took);
}

static void forget(training *all)
{
    for (; all->w.name; all++) {
        fb_set(&all->x, NULL);
        fb_set(&all->y, NULL);
    }
}

typedef struct settings {
    const char *device;
    int64_t batch; /* 0: each workload's own */
    bool tiny, profile;
    int threads;
    const char *name; /* NULL: read lines */
} settings;

static bool parse(int argc, char **argv, settings *o)
{
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"batch", required_argument, NULL, 'b'},
                                            {"tiny", no_argument, NULL, 't'},
                                            {"profile", no_argument, NULL, 'p'},
                                            {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd')
            o->device = optarg;
        else if (c == 't')
            o->tiny = true;
        else if (c == 'p')
            o->profile = true;
        else if (c != 'b' || (o->batch = atoll(optarg)) < 1)
            return false;
    }
    o->threads = optind < argc ? atoi(argv[optind]) : 0;
    o->name = optind + 1 < argc ? argv[optind + 1] : NULL;
    return o->threads >= 1;
}

int main(int argc, char **argv)
{
    settings o = {.device = "cpu"};
    training all[MOST] = {{.model = NULL}};
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "usage: workloads [--device NAME] [--batch N] [--tiny] [--profile] "
                        "THREADS [NAME]\n");
        return 2;
    }
    const workload *rows = o.tiny ? tiny_size : full_size;
    for (int i = 0; rows[i].name; i++) {
        all[i].w = rows[i];
        if (o.batch)
            set_batch(&all[i].w, o.batch);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    fb_context *ctx =
        fb_context_open(FB_OPTS(fb_context_options, .device = o.device, .threads = o.threads));
    if (o.name) {
        run(ctx, all, o.name, 1);
        puts("first step");
        timed_run(ctx, all, o.name, 5, o.profile);
        forget(all);
        return fb_context_close(ctx);
    }
    char name[16];
    for (long long n; fb_ok(ctx) && scanf("%15s %lld", name, &n) == 2;)
        timed_run(ctx, all, name, n, o.profile);
    forget(all);
    return fb_context_close(ctx);
}
