/* Samples per second of the loader: batch 128, shuffled, 28 x 28 bytes to F32, as PyTorch's
 * DataLoader is measured.
 *
 *     loader FILE.h5 [EPOCHS]      FILE.h5: made by "flambeau data import idx"
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <flambeau/flambeau.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    enum { MAX = 1000 };
    int epochs = argc > 2 ? atoi(argv[2]) : 15;
    if (argc < 2 || epochs < 1 || epochs > MAX) {
        fprintf(stderr, "usage: loader FILE.h5 [EPOCHS]\n");
        return 2;
    }
    fb_context *ctx = fb_context_open(FB_OPTS(fb_context_options, .device = "cpu", .threads = 1));
    fb_loader *l = fb_loader_open(NULL, fb_dataset_open(ctx, argv[1]),
                                  FB_OPTS(fb_loader_options, .global_batch = 128, .shuffle = true));
    double rate[MAX];
    int n = 0;
    while (fb_loader_epoch(l, epochs)) {
        double begun = now();
        int64_t samples = 0;
        fb_batch b;
        while (fb_loader_next(l, &b))
            samples += b.n;
        rate[n++] = (double)samples / (now() - begun);
    }
    if (n == 0)
        return fb_context_close(ctx);
    qsort(rate, (size_t)n, sizeof *rate, ascending);
    printf("loader: %.0f samples/s median, %.0f best of %d epochs\n", rate[n / 2], rate[n - 1], n);
    return fb_context_close(ctx);
}
