/* The workloads of tests/bench/compare and tests/gpu/first_contact, which run them beside the same
 * ones in peer.py.
 *
 *     workloads [options] THREADS        reads lines, answers each with a line:
 *         NAME REPETITIONS                   seconds
 *         losses NAME                        the losses of the 20 first steps
 *     workloads [options] THREADS NAME   a line after the first step; seconds of five more; the end
 *
 *     --device NAME   "cpu"; seconds are those until the device has done the work
 *     --batch N       other than the workload's own
 *     --data DIR      first weights and 20 batches, in turn, that peer.py has written there
 *     --tiny          networks and batches that a simulated card can take
 *     --ranks         under mpirun: a batch is shared among the ranks; each reads its own lines
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

/* For ResNet-18: at 1e-3 PyTorch's losses with NCHW and NHWC are 2 % apart after five steps; so
 * they are 6e-5 apart after twenty, and the steps still change them by 2 %. */
static fb_optimizer *open_slow_adam(fb_context *ctx, fb_module *model)
{
    return fb_optim_adam(ctx, model, FB_OPTS(fb_adam_options, .lr = 1e-5));
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

static const workload full_size[] = {
    {"mlp", open_mlp, open_adam, FB_SHAPE(128, 784), 0, 10, 128},
    {"cnn", open_cnn, open_adam, FB_SHAPE(64, 28, 28, 1), 0, 10, 64},
    {"gpt", open_gpt, open_adam, FB_SHAPE(8, 128), 256, 256, 8 * 128},
    {"resnet18", resnet18_open, open_slow_adam, FB_SHAPE(32, 32, 32, 3), 0, 10, 32},
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

/* --- the options and what they open --- */

typedef struct settings {
    const char *device;
    int64_t batch; /* 0: each workload's own */
    bool tiny, profile, ranks;
    int threads;
    const char *data; /* folder of peer.py's weights and batches; NULL: draw them */
    const char *name; /* NULL: read lines */
    fb_world *world;  /* NULL: one process */
    fb_context *ctx;
} settings;

enum { BATCHES = 20 };

/* A workload, and what its first use makes. */
typedef struct training {
    workload w;
    fb_module *model;
    fb_optimizer *opt;
    fb_tensor *x[BATCHES], *y[BATCHES];
    int batches, next;
} training;

/* Images lie as NHWC and are seen as NCHW. */
static fb_tensor *seen(fb_tensor *x)
{
    return x && fb_ndim(x) == 4 ? fb_permute(x, FB_DIMS(0, 3, 1, 2)) : x;
}

static void draw(fb_context *ctx, training *t)
{
    const workload *w = &t->w;
    fb_tensor *x =
        w->tokens ? fb_randint(ctx, 0, w->tokens, w->input) : fb_randn(ctx, FB_F32, w->input);
    fb_set(&t->x[0], seen(x));
    fb_set(&t->y[0], fb_randint(ctx, 0, w->classes, FB_SHAPE(w->targets)));
    t->batches = 1;
}

/* This rank's part of the first dimension. */
static fb_tensor *share(const settings *o, fb_tensor *t)
{
    if (!o->world || !t)
        return t;
    int64_t n = fb_size(t, 0) / fb_world_size(o->world);
    return fb_contiguous(fb_narrow(t, 0, n * fb_world_rank(o->world), n));
}

static void load(const settings *o, training *t)
{
    char dir[256], name[16];
    snprintf(dir, sizeof dir, "%s/%s", o->data, t->w.name);
    exchange_weights(t->model, dir);
    for (int i = 0; i < BATCHES && fb_ok(o->ctx); i++) {
        FB_SCOPE(o->ctx);
        snprintf(name, sizeof name, "x%d", i);
        fb_set(&t->x[i], seen(share(o, exchange_load(o->ctx, dir, name))));
        snprintf(name, sizeof name, "y%d", i);
        fb_set(&t->y[i], share(o, exchange_load(o->ctx, dir, name)));
    }
    t->batches = BATCHES;
}

/* --- training one of them --- */

static void prepare(const settings *o, training *t)
{
    if (t->model)
        return;
    t->model = t->w.open(o->ctx);
    t->opt = t->w.optimizer(o->ctx, t->model);
    if (o->data)
        load(o, t);
    else
        draw(o->ctx, t);
    if (o->world)
        fb_ddp_attach(fb_world_group(o->world), t->model, NULL);
}

/* The loss before it. */
static fb_tensor *step(training *t)
{
    int i = t->next;
    t->next = (i + 1) % t->batches;
    fb_tensor *logits = fb_nn_forward(t->model, t->x[i]);
    if (t->w.tokens)
        logits = fb_flatten(logits, 0, 1);
    fb_tensor *loss = fb_cross_entropy(logits, t->y[i], NULL);
    fb_backward(loss);
    fb_optim_step(t->opt);
    return loss;
}

static void train(const settings *o, training *t, int64_t steps)
{
    FB_SCOPE(o->ctx);
    prepare(o, t);
    for (int64_t i = 0; i < steps && fb_ok(o->ctx); i++) {
        FB_SCOPE(o->ctx);
        (void)step(t);
    }
    fb_context_sync(o->ctx);
}

/* A line with the loss of each batch, from the first weights on. */
static void print_losses(const settings *o, training *t)
{
    FB_SCOPE(o->ctx);
    prepare(o, t);
    for (int i = 0; i < t->batches && fb_ok(o->ctx); i++) {
        FB_SCOPE(o->ctx);
        printf("%s%.9g", i ? " " : "", fb_item(step(t)));
    }
    putchar('\n');
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

static void run(const settings *o, training *all, const char *name, int64_t n)
{
    training *t = find(all, name);
    if (t)
        train(o, t, n);
    else if (!strcmp(name, "record") || !strcmp(name, "chain"))
        record(o->ctx, n, name[0] == 'c');
    else
        fb_fail(o->ctx, FB_E_ARG, "workloads: %s: there is no such workload", name);
}

static void timed_run(const settings *o, training *all, const char *name, int64_t n)
{
    fb_profile *profile =
        o->profile ? fb_profile_open(o->ctx, FB_OPTS(fb_profile_options, .max_events = -1)) : NULL;
    double begun = bench_now();
    run(o, all, name, n);
    double took = bench_now() - begun;
    if (profile) {
        fb_profile_stop(profile);
        fb_profile_print(profile, "/dev/stderr");
        fb_profile_close(profile);
    }
    if (fb_ok(o->ctx))
        printf("%.9f\n", took);
}

static void answer_lines(const settings *o, training *all)
{
    char name[16];
    while (fb_ok(o->ctx) && scanf("%15s", name) == 1) {
        long long n;
        training *t;
        if (strcmp(name, "losses"))
            scanf("%lld", &n) == 1 ? timed_run(o, all, name, n) : (void)0;
        else if (scanf("%15s", name) == 1 && (t = find(all, name)))
            print_losses(o, t);
    }
}

static void forget(training *all)
{
    for (; all->w.name; all++)
        for (int i = 0; i < all->batches; i++) {
            fb_set(&all->x[i], NULL);
            fb_set(&all->y[i], NULL);
        }
}

static bool parse(int argc, char **argv, settings *o)
{
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"batch", required_argument, NULL, 'b'},
                                            {"data", required_argument, NULL, 'w'},
                                            {"tiny", no_argument, NULL, 't'},
                                            {"ranks", no_argument, NULL, 'r'},
                                            {"profile", no_argument, NULL, 'p'},
                                            {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd')
            o->device = optarg;
        else if (c == 'w')
            o->data = optarg;
        else if (c == 't')
            o->tiny = true;
        else if (c == 'r')
            o->ranks = true;
        else if (c == 'p')
            o->profile = true;
        else if (c != 'b' || (o->batch = atoll(optarg)) < 1)
            return false;
    }
    o->threads = optind < argc ? atoi(argv[optind]) : 0;
    o->name = optind + 1 < argc ? argv[optind + 1] : NULL;
    return o->threads >= 1;
}

static bool open_all(settings *o, int argc, char **argv)
{
    if (o->ranks) {
        o->world = fb_world_open_with(
            &argc, &argv, FB_OPTS(fb_world_options, .device = o->device, .threads = o->threads));
        o->ctx = fb_world_context(o->world);
    } else {
        o->ctx = fb_context_open(
            FB_OPTS(fb_context_options, .device = o->device, .threads = o->threads));
    }
    return o->ctx != NULL;
}

int main(int argc, char **argv)
{
    settings o = {.device = "cpu"};
    training all[MOST] = {{.model = NULL}};
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "usage: workloads [--device NAME] [--batch N] [--data DIR] [--tiny] "
                        "[--ranks] [--profile] THREADS [NAME]\n");
        return 2;
    }
    const workload *rows = o.tiny ? tiny_size : full_size;
    for (int i = 0; rows[i].name; i++) {
        all[i].w = rows[i];
        if (o.batch)
            set_batch(&all[i].w, o.batch);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!open_all(&o, argc, argv))
        return 1;
    if (o.name) {
        run(&o, all, o.name, 1);
        puts("first step");
        timed_run(&o, all, o.name, 5);
    } else {
        answer_lines(&o, all);
    }
    forget(all);
    return o.world ? fb_world_close(o.world) : fb_context_close(o.ctx);
}
