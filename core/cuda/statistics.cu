/* Batch statistics for data parallelism. */
#include "core/cuda/kernel_priv.h"

__global__ void add_statistics(int64_t n, double *row, double *weight, const float *mean,
                               const float *var, double share)
{
    if (blockIdx.x == 0 && threadIdx.x == 0)
        *weight += share;
    FBI_EACH(i, n)
    {
        row[i] += share * (double)mean[i];
        row[n + i] += share * (double)var[i];
    }
}

__global__ void blend_statistics(int64_t n, float *mean, float *var, int64_t *count,
                                 const double *row, const double *total, double momentum,
                                 const int64_t *fine)
{
    double weight = *total;
    if (!(weight > 0) || (fine && !*fine))
        return;
    FBI_EACH(i, n)
    {
        mean[i] = (float)((1 - momentum) * (double)mean[i] + momentum * row[i] / weight);
        var[i] = (float)((1 - momentum) * (double)var[i] + momentum * row[n + i] / weight);
        if (i == 0 && count)
            ++*count;
    }
}

extern "C" fb_status fbi_cuda_statistics(fb_context *ctx, const fbi_statistics *s)
{
    fb_status st = fbi_cuda_use(ctx);
    unsigned grid = fbi_blocks(ctx, s->n);
    if (st)
        return st;
    if (s->total)
        FBI_LAUNCH_ON(ctx, blend_statistics, grid, FBI_BLOCK, s->n, s->mean, s->var, s->count,
                      s->row, s->total, s->momentum, s->fine);
    else
        FBI_LAUNCH_ON(ctx, add_statistics, grid, FBI_BLOCK, s->n, s->row, s->weight, s->mean,
                      s->var, s->share);
    return FB_OK;
}
