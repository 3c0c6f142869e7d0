/* Saves of tests/long/save_speed: a chain of layers of 2048 x 2048, whose weights and moments are
 * 48 MiB each.
 *
 *     save FOLDER LAYERS BATCH
 *
 * reads lines and answers each with one: "save" with the MB (10^6 bytes) and the seconds of a save
 * that is waited for; "steps N" with the seconds of N steps, their median and their longest;
 * "during N" with the same, an asynchronous save having begun before the first of them, and the
 * seconds that it went on after the last. By hand: echo save | save FOLDER 4 16
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <flambeau/flambeau.h>

enum { WIDTH = 2048, MOST_LAYERS = 64, MOST_STEPS = 10000 };

static fb_world *world;
static fb_context *ctx;
static fb_module *model;
static fb_optimizer *opt;
static fb_state *state;
static const char *folder;
static int64_t batch;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void make(int layers)
{
    fb_module *chain[2 * MOST_LAYERS];
    for (int i = 0; i < layers; i++) {
        chain[2 * i] = fb_nn_linear(ctx, WIDTH, WIDTH, NULL);
        chain[2 * i + 1] = fb_nn_relu(ctx);
    }
    model = fb_nn_sequential_n(ctx, (fb_modules){chain, 2 * layers});
    opt = fb_optim_adam(ctx, model, NULL);
    state = fb_state_open(ctx);
    fb_state_add(state, "model", model);
    fb_state_add(state, "optimizer", opt);
}

static void step(void)
{
    FB_SCOPE(ctx);
    fb_tensor *y = fb_nn_forward(model, fb_randn(ctx, FB_F32, FB_SHAPE(batch, WIDTH)));
    fb_backward(fb_mean(fb_mul(y, y), FB_ALL, false));
    fb_optim_step(opt);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The first of them includes what begins it. */
static void steps(int n, bool save)
{
    static double seconds[MOST_STEPS];
    n = n < 1 ? 1 : n > MOST_STEPS ? MOST_STEPS : n;
    double begun = now(), before = begun;
    if (save)
        fb_checkpoint_save_async(world, folder, state, FB_OPTS(fb_checkpoint_options, .keep = 1));
    for (int i = 0; i < n; i++) {
        step();
        double at = now();
        seconds[i] = at - before;
        before = at;
    }
    double total = before - begun;
    qsort(seconds, (size_t)n, sizeof *seconds, ascending);
    printf("%.6f %.6f %.6f", total, seconds[n / 2], seconds[n - 1]);
    if (save) {
        fb_checkpoint_wait(world);
        printf(" %.6f", now() - before);
    }
    printf("\n");
}

static void save(int layers)
{
    double mb = 1e-6 * layers * (3.0 * sizeof(float) * WIDTH * (WIDTH + 1));
    step(); /* or there would be nothing to save */
    double begun = now();
    fb_checkpoint_save_with(world, folder, state, FB_OPTS(fb_checkpoint_options, .keep = -1));
    printf("%.3f %.6f\n", mb, now() - begun);
}

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    int layers = argc == 4 ? atoi(argv[2]) : 0;
    batch = argc == 4 ? atoll(argv[3]) : 0;
    if (layers < 1 || layers > MOST_LAYERS || batch < 1) {
        fprintf(stderr, "usage: save FOLDER LAYERS BATCH\n");
        fb_world_close(world);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    folder = argv[1];
    make(layers);
    step();
    char line[64];
    for (int n; fb_ok(ctx) && fgets(line, sizeof line, stdin);)
        if (!strncmp(line, "save", 4))
            save(layers);
        else if (sscanf(line, "steps %d", &n) == 1)
            steps(n, false);
        else if (sscanf(line, "during %d", &n) == 1)
            steps(n, true);
    return fb_world_close(world);
}
