/* all_reduce beside MPI_Allreduce, float sums.
 *
 *     mpirun -n 2 all_reduce [repetitions]   a table: medians, in turn, in GB/s and microseconds
 *     mpirun -n 2 all_reduce -               reads lines "BYTES TIMES" (each rank its own), answers
 *                                            with the least seconds; -BYTES: of MPI_Allreduce
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/mpi.h>
#include <flambeau/core/ops/create.h>

enum { SIZES = 5, MOST = 101 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds of the slowest rank, after all have begun together. */
static double one(fb_group *group, fb_tensor *t, float *plain, int64_t n, bool ours)
{
    MPI_Barrier(MPI_COMM_WORLD);
    int times = n <= 10 << 10 ? 100 : n < 1 << 20 ? (int)((1 << 20) / n) : 1;
    double t0 = MPI_Wtime(), took, most;
    for (int i = 0; i < times; i++) {
        if (ours)
            fb_all_reduce_(group, t, FB_SUM);
        else
            MPI_Allreduce(MPI_IN_PLACE, plain, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    }
    took = (MPI_Wtime() - t0) / times;
    MPI_Allreduce(&took, &most, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return most;
}

/* What gloo's side in peer.py does, too. */
static void answer_lines(fb_world *world)
{
    fb_context *ctx = fb_world_context(world);
    long long bytes, times;
    while (fb_ok(ctx) && scanf("%lld %lld", &bytes, &times) == 2) {
        FB_SCOPE(ctx);
        int64_t n = llabs(bytes) / 4;
        fb_tensor *t = fb_zeros(ctx, FB_F32, FB_SHAPE(n));
        float *plain = calloc((size_t)n, sizeof *plain);
        double least = HUGE_VAL;
        for (int64_t i = 0; i < times; i++)
            least = fmin(least, one(fb_world_group(world), t, plain, n, bytes > 0));
        free(plain);
        printf("%.9f\n", least);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    static const int64_t bytes[SIZES] = {4096, 65536, 1 << 20, 16 << 20, 256 << 20};
    static double took[2][MOST];
    fb_world *world = fb_world_open(&argc, &argv);
    fb_context *ctx = fb_world_context(world);
    if (argc > 1 && !strcmp(argv[1], "-")) {
        answer_lines(world);
        return fb_world_close(world);
    }
    int asked = argc > 1 ? atoi(argv[1]) : 15;
    if (fb_world_root(world))
        printf("%d ranks\n%10s %12s %12s %12s %12s %8s\n", fb_world_size(world), "bytes", "ours us",
               "GB/s", "MPI us", "GB/s", "ratio");
    for (int s = 0; s < SIZES; s++) {
        FB_SCOPE(ctx);
        int64_t n = bytes[s] / 4;
        int rounds = bytes[s] > 64 << 20 ? asked / 3 + 1 : asked;
        rounds = rounds > MOST ? MOST : rounds;
        fb_tensor *t = fb_zeros(ctx, FB_F32, FB_SHAPE(n));
        float *plain = calloc((size_t)n, sizeof *plain);
        for (int i = -2; i < rounds; i++)
            for (int k = 0; k < 2; k++) {
                double seconds = one(fb_world_group(world), t, plain, n, k == 0);
                if (i >= 0)
                    took[k][i] = seconds;
            }
        free(plain);
        for (int k = 0; k < 2; k++)
            qsort(took[k], (size_t)rounds, sizeof(double), by_value);
        double ours = took[0][rounds / 2], mpi = took[1][rounds / 2];
        if (fb_world_root(world))
            printf("%10lld %12.1f %12.2f %12.1f %12.2f %8.2f\n", (long long)bytes[s], ours * 1e6,
                   (double)bytes[s] / ours * 1e-9, mpi * 1e6, (double)bytes[s] / mpi * 1e-9,
                   mpi / ours);
    }
    return fb_world_close(world);
}
