/* The workloads of tests/bench/compare, which runs them beside the same ones in peer.py.
 *
 *     workloads THREADS          reads lines "NAME REPETITIONS", answers each with its seconds
 *     workloads THREADS NAME     prints a line after the first step, makes five more and ends
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <flambeau/flambeau.h>

#include "examples/chargpt/model.h"

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

typedef struct residual {
    fb_module *conv1, *bn1, *conv2, *bn2, *shortcut; /* shortcut NULL: the input itself */
} residual;

static const fb_field residual_fields[] = {FB_CHILD(residual, conv1),    FB_CHILD(residual, bn1),
                                           FB_CHILD(residual, conv2),    FB_CHILD(residual, bn2),
                                           FB_CHILD(residual, shortcut), {0}};

static fb_tensor *residual_forward(fb_module *m, fb_tensor *x)
{
    residual *self = fb_nn_self(m);
    fb_tensor *y = fb_nn_forward(self->bn1, fb_nn_forward(self->conv1, x));
    y = fb_nn_forward(self->bn2, fb_nn_forward(self->conv2, fb_relu(y)));
    return fb_relu(fb_add(y, self->shortcut ? fb_nn_forward(self->shortcut, x) : x));
}

static const fb_module_type residual_type = {.name = "Residual",
                                             .size = sizeof(residual),
                                             .fields = residual_fields,
                                             .forward = residual_forward};

static fb_module *open_conv(fb_context *ctx, int64_t in, int64_t out, int64_t k, int64_t stride)
{
    return fb_nn_conv2d(
        ctx, in, out, k,
        FB_OPTS(fb_conv_options, .stride = {stride}, .padding = {k / 2}, .no_bias = true));
}

static fb_module *open_residual(fb_context *ctx, int64_t in, int64_t out, int64_t stride)
{
    residual self = {.conv1 = open_conv(ctx, in, out, 3, stride),
                     .bn1 = fb_nn_batch_norm2d(ctx, out, NULL),
                     .conv2 = open_conv(ctx, out, out, 3, 1),
                     .bn2 = fb_nn_batch_norm2d(ctx, out, NULL)};
    if (in != out)
        self.shortcut = fb_nn_sequential(ctx, open_conv(ctx, in, out, 1, stride),
                                         fb_nn_batch_norm2d(ctx, out, NULL));
    return fb_nn_new(ctx, &residual_type, &self);
}

/* He et al.: arXiv:1512.03385, with the 3 x 3 stem for images of 32 x 32. */
static fb_module *open_resnet18(fb_context *ctx)
{
    return fb_nn_sequential(ctx, open_conv(ctx, 3, 64, 3, 1), fb_nn_batch_norm2d(ctx, 64, NULL),
                            fb_nn_relu(ctx), open_residual(ctx, 64, 64, 1),
                            open_residual(ctx, 64, 64, 1), open_residual(ctx, 64, 128, 2),
                            open_residual(ctx, 128, 128, 1), open_residual(ctx, 128, 256, 2),
                            open_residual(ctx, 256, 256, 1), open_residual(ctx, 256, 512, 2),
                            open_residual(ctx, 512, 512, 1), fb_nn_adaptive_avg_pool2d(ctx, 1, 1),
                            fb_nn_flatten(ctx), fb_nn_linear(ctx, 512, 10, NULL));
}

/* --- training one of them --- */

typedef struct workload {
    const char *name;
    fb_module *(*open)(fb_context *ctx);
    fb_shape input;
    int64_t tokens; /* input is I64 below this; 0: it is F32 */
    int64_t classes, targets;
    fb_module *model;
    fb_optimizer *opt;
    fb_tensor *x, *y;
} workload;

static void prepare(fb_context *ctx, workload *w)
{
    if (w->model)
        return;
    w->model = w->open(ctx);
    w->opt = fb_optim_adam(ctx, w->model, NULL);
    fb_set(&w->x,
           w->tokens ? fb_randint(ctx, 0, w->tokens, w->input) : fb_randn(ctx, FB_F32, w->input));
    fb_set(&w->y, fb_randint(ctx, 0, w->classes, FB_SHAPE(w->targets)));
}

static void train(fb_context *ctx, workload *w, int64_t steps)
{
    FB_SCOPE(ctx);
    prepare(ctx, w);
    for (int64_t i = 0; i < steps && fb_ok(ctx); i++) {
        FB_SCOPE(ctx);
        fb_tensor *logits = fb_nn_forward(w->model, w->x);
        if (w->tokens)
            logits = fb_flatten(logits, 0, 1);
        fb_backward(fb_cross_entropy(logits, w->y, NULL));
        fb_optim_step(w->opt);
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

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static workload *find(workload *all, const char *name)
{
    for (; all->name; all++)
        if (!strcmp(all->name, name))
            return all;
    return NULL;
}

static void run(fb_context *ctx, workload *all, const char *name, int64_t n)
{
    workload *w = find(all, name);
    if (w)
        train(ctx, w, n);
    else if (!strcmp(name, "record") || !strcmp(name, "chain"))
        record(ctx, n, name[0] == 'c');
    else
        fb_fail(ctx, FB_E_ARG, "workloads: %s: there is no such workload", name);
}

static void forget(workload *all)
{
    for (; all->name; all++) {
        fb_set(&all->x, NULL);
        fb_set(&all->y, NULL);
    }
}

int main(int argc, char **argv)
{
    workload all[] = {
        {.name = "mlp",
         .open = open_mlp,
         .input = FB_SHAPE(128, 784),
         .classes = 10,
         .targets = 128},
        {.name = "cnn",
         .open = open_cnn,
         .input = FB_SHAPE(64, 1, 28, 28),
         .classes = 10,
         .targets = 64},
        {.name = "gpt",
         .open = open_gpt,
         .input = FB_SHAPE(8, 128),
         .tokens = 256,
         .classes = 256,
         .targets = 8 * 128},
        {.name = "resnet18",
         .open = open_resnet18,
         .input = FB_SHAPE(32, 3, 32, 32),
         .classes = 10,
         .targets = 32},
        {0},
    };
    if (argc < 2 || atoi(argv[1]) < 1) {
        fprintf(stderr, "usage: workloads THREADS [NAME]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    fb_context *ctx =
        fb_context_open(FB_OPTS(fb_context_options, .device = "cpu", .threads = atoi(argv[1])));
    if (argc > 2) {
        run(ctx, all, argv[2], 1);
        puts("first step");
        run(ctx, all, argv[2], 5);
        forget(all);
        return fb_context_close(ctx);
    }
    char name[16];
    for (long long n; fb_ok(ctx) && scanf("%15s %lld", name, &n) == 2;) {
        double begun = now();
        run(ctx, all, name, n);
        printf("%.9f\n", now() - begun);
    }
    forget(all);
    return fb_context_close(ctx);
}
