/* Products of linear layers in BF16, on the processor's units for them if it has some, and in F32.
 *
 *     bf16 [THREADS]
 */
#include <stdio.h>
#include <stdlib.h>

#include <flambeau/flambeau.h>

#include "tests/bench/parts/parts.h"

enum { TURNS = 9 };

static const struct {
    int64_t m, k, n;
} layers[] = {{512, 512, 512},   {1024, 1024, 1024}, {2048, 2048, 2048},
              {128, 784, 256},   {1024, 256, 768},   {1024, 1024, 256},
              {3072, 384, 1536}, {3072, 1536, 384},  {64, 1024, 1024}};

static fb_tensor *product(int which, fb_tensor *x, fb_tensor *w, fb_tensor *y)
{
    return which == 0   ? fb_linear(x, w, NULL)
           : which == 1 ? fb_matmul(y, w)
                        : fb_matmul(fb_t(y), x);
}

/* Seconds of the fastest window of some milliseconds. */
static double seconds_of(fb_context *ctx, int which, fb_tensor *const *t)
{
    int times = 1;
    for (;;) {
        double begun = bench_now();
        for (int i = 0; i < times; i++) {
            FB_SCOPE(ctx);
            if (!product(which, t[0], t[1], t[2]))
                exit(1);
        }
        double took = bench_now() - begun;
        if (took > 2e-3)
            return took / times;
        times *= 2;
    }
}

static void measure(fb_context *ctx, size_t i)
{
    FB_SCOPE(ctx);
    static const fb_dtype dtypes[] = {FB_F32, FB_BF16};
    int64_t m = layers[i].m, k = layers[i].k, n = layers[i].n;
    double flop = 2.0 * (double)(m * k * n);
    printf("%5lld samples, %4lld to %4lld", (long long)m, (long long)k, (long long)n);
    for (int which = 0; which < 3; which++) {
        double least[2] = {1e9, 1e9};
        for (int turn = 0; turn < TURNS; turn++)
            for (int d = 0; d < 2; d++) {
                FB_SCOPE(ctx);
                fb_tensor *t[3] = {fb_randn(ctx, dtypes[d], FB_SHAPE(m, k)),
                                   fb_randn(ctx, dtypes[d], FB_SHAPE(n, k)),
                                   fb_randn(ctx, dtypes[d], FB_SHAPE(m, n))};
                double took = seconds_of(ctx, which, t);
                least[d] = took < least[d] ? took : least[d];
            }
        printf("   %5.0f %5.0f %5.2f", flop / least[0] * 1e-9, flop / least[1] * 1e-9,
               least[0] / least[1]);
    }
    putchar('\n');
}

int main(int argc, char **argv)
{
    fb_context *ctx = fb_context_open(
        FB_OPTS(fb_context_options, .device = "cpu", .threads = argc > 1 ? atoi(argv[1]) : 0));
    if (!ctx)
        return 1;
    fb_no_grad(ctx);
    printf(
        "%d threads. GFLOP/s in F32, in BF16, and how often: y = x W^T, dx = dy W, dW = dy^T x\n",
        fb_context_threads(ctx));
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        measure(ctx, i);
    return fb_context_close(ctx);
}
