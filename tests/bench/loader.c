/* The loader of tests/bench/compare: batches of 128, shuffled, 28 x 28 bytes to F32.
 *
 *     loader FILE.h5     FILE.h5: made by "flambeau data import idx"
 *
 * reads lines "epochs N", answers each with its seconds, and "samples 0" with the samples of an
 * epoch. By hand: echo epochs 10 | loader FILE.h5
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <flambeau/flambeau.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: loader FILE.h5\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    fb_context *ctx = fb_context_open(FB_OPTS(fb_context_options, .device = "cpu", .threads = 1));
    fb_dataset *data = fb_dataset_open(ctx, argv[1]);
    fb_loader *loader = fb_loader_open(
        NULL, data, FB_OPTS(fb_loader_options, .global_batch = 128, .shuffle = true));
    char what[16];
    for (long long n; fb_ok(ctx) && scanf("%15s %lld", what, &n) == 2;) {
        if (!strcmp(what, "samples")) {
            printf("%lld\n", (long long)fb_dataset_size(data));
            continue;
        }
        double begun = now();
        fb_batch b;
        for (; n > 0 && fb_loader_epoch(loader, INT64_MAX); n--)
            while (fb_loader_next(loader, &b))
                ;
        printf("%.9f\n", now() - begun);
    }
    return fb_context_close(ctx);
}
