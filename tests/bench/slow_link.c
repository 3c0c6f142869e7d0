/* What a slow link between two hosts costs a step of ResNet-18, with sums that leave while backward
 * runs and with sums after it (fb_ddp_no_sync). tests/bench/test_slow_link.sh makes the hosts.
 *
 *     slow_link probe BATCH               bytes of the gradients, seconds of a backward
 *     slow_link measure BATCH WINDOWS     one line of JSON: median milliseconds, and digests of
 * what was trained both ways
 *
 * BATCH is of one rank. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/world_priv.h"
#include "tests/bench/models/models.h"

enum { MOST = 99, PIECE = 1 << 18, PIECES = 512 }; /* elements of a bucket */

static fb_world *world;
static fb_context *ctx;
static fb_tensor *x, *y;

typedef struct twin {
    fb_module *model;
    fb_optimizer *opt;
} twin;

static twin twin_of(fb_module *model)
{
    return (twin){model, fb_optim_sgd(ctx, model, FB_OPTS(fb_sgd_options, .lr = 0.01))};
}

/* Seconds, of the slower rank; NULL: only to be there. */
static double slower(double began)
{
    FB_SCOPE(ctx);
    double took = fbi_now() - began;
    return fb_item(
        fb_all_reduce(fb_world_group(world), fb_full(ctx, FB_F64, FB_SHAPE(1), took), FB_MAX));
}

static double step(const twin *t, double *backward)
{
    fb_world_barrier(world);
    FB_SCOPE(ctx);
    double began = fbi_now();
    fb_tensor *loss = fb_cross_entropy(fb_nn_forward(t->model, x), y, NULL);
    double half = fbi_now();
    fb_backward(loss);
    if (backward)
        *backward = slower(half);
    fb_optim_step(t->opt);
    return slower(began);
}

/* All gradients, in pieces as DDP sends them, with nothing else to do. */
static double transfer(int64_t n)
{
    FB_SCOPE(ctx);
    fb_work *work[PIECES];
    int works = 0;
    fb_tensor *all = fb_zeros(ctx, FB_F32, FB_SHAPE(n));
    fb_world_barrier(world);
    double began = fbi_now();
    for (int64_t at = 0; at < n && works < PIECES; at += PIECE) {
        fb_tensor *piece = fb_narrow(all, 0, at, n - at < PIECE ? n - at : PIECE);
        work[works++] = fb_all_reduce_async(fb_world_group(world), piece, FB_SUM);
    }
    for (int i = 0; i < works; i++)
        fb_work_wait(work[i]);
    return slower(began);
}

static int by_value(const void *a, const void *b)
{
    double x1 = *(const double *)a, x2 = *(const double *)b;
    return (x1 > x2) - (x1 < x2);
}

static double median_ms(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return 1e3 * v[n / 2];
}

static void digest_of(fb_module *model, char digest[17])
{
    fb_state *state = fb_state_open(ctx);
    fb_state_add(state, "model", model);
    fb_state_digest(state, digest);
    fb_state_close(state);
}

/* Backward of a step after the first ones. */
static double backward_of(const twin *alone)
{
    double least = 1e9, took;
    for (int i = 0; i < 4; i++) {
        (void)step(alone, &took);
        least = i && took < least ? took : least;
    }
    return least;
}

static void measure(const twin *alone, const twin *during, const twin *after, int64_t bytes,
                    int windows)
{
    static double took[5][MOST];
    char digests[2][17];
    for (int i = -1; i < windows; i++) { /* the first is not counted */
        double w[5];
        w[0] = step(alone, &w[1]);
        w[2] = transfer(bytes / 4);
        w[3] = step(during, NULL);
        w[4] = step(after, NULL);
        for (int k = 0; k < 5 && i >= 0; k++)
            took[k][i] = w[k];
    }
    digest_of(during->model, digests[0]);
    digest_of(after->model, digests[1]);
    fb_ddp_stats stats;
    fb_ddp_stats_of(during->model, &stats);
    if (fb_world_root(world) && fb_ok(ctx))
        printf("{\"bytes\": %lld, \"compute\": %.2f, \"backward\": %.2f, \"transfer\": %.2f, "
               "\"overlap\": %.2f, \"after\": %.2f, \"early\": %.3f, \"digests\": [\"%s\", "
               "\"%s\"]}\n",
               (long long)bytes, median_ms(took[0], windows), median_ms(took[1], windows),
               median_ms(took[2], windows), median_ms(took[3], windows),
               median_ms(took[4], windows), (double)stats.early / (double)stats.buckets, digests[0],
               digests[1]);
}

int main(int argc, char **argv)
{
    world = fb_world_open_with(&argc, &argv, FB_OPTS(fb_world_options, .threads = 1));
    ctx = fb_world_context(world);
    int64_t batch = argc > 2 ? atoll(argv[2]) : 0;
    int windows = argc > 3 ? atoi(argv[3]) : 1;
    bool probe = argc > 1 && !strcmp(argv[1], "probe");
    if (batch < 1 || windows < 1 || windows > MOST || (!probe && strcmp(argv[1], "measure") != 0)) {
        fb_fail(ctx, FB_E_ARG, "usage: slow_link probe BATCH | slow_link measure BATCH WINDOWS");
        return fb_world_close(world);
    }
    x = fb_randn(ctx, FB_F32, FB_SHAPE(batch, 3, 32, 32));
    y = fb_randint(ctx, 0, 10, FB_SHAPE(batch));
    fb_module *model = resnet18_open(ctx);
    fb_nn_materialize(model);
    twin alone = twin_of(fb_nn_clone(model));
    if (probe) {
        double backward = backward_of(&alone);
        if (fb_world_root(world))
            printf("%lld %.6f\n", (long long)(4 * fb_nn_param_count(model)), backward);
        return fb_world_close(world);
    }
    twin during = twin_of(model), after = twin_of(fb_nn_clone(model));
    fb_ddp_attach(fb_world_group(world), during.model, NULL);
    fb_ddp_attach(fb_world_group(world), after.model, NULL);
    fb_ddp_no_sync(after.model, true);
    fb_ddp_stats stats;
    fb_ddp_stats_of(during.model, &stats);
    measure(&alone, &during, &after, stats.bytes, windows);
    return fb_world_close(world);
}
