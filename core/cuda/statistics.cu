/* What data parallelism asks of flat memory beside sums: is it finite, and batch statistics. */
#include "core/cuda/kernel_priv.h"

template <class T> __global__ void spot(int64_t n, const void *data, int dtype, int *bad)
{
    FBI_EACH(i, n)
    if (!isfinite(fbi_load<T>(data, dtype, i)))
        *bad = 1; /* whoever writes last writes the same */
}

static fb_status look(fb_context *ctx, const fbi_flat_view *v, int *bad)
{
    unsigned grid = fbi_blocks(ctx, v->n);
    if (v->dtype == FB_F64)
        FBI_LAUNCH_ON(ctx, spot<double>, grid, FBI_BLOCK, v->n, v->data, (int)v->dtype, bad);
    else
        FBI_LAUNCH_ON(ctx, spot<float>, grid, FBI_BLOCK, v->n, v->data, (int)v->dtype, bad);
    return FB_OK;
}

extern "C" fb_status fbi_cuda_all_finite(fb_context *ctx, const fbi_flat_view *v, int64_t n,
                                         bool *finite)
{
    fbi_call call = {};
    int bad = 0;
    call.ctx = ctx;
    fb_status st = fbi_cuda_use(ctx);
    fbi_temps temps(&call);
    int *device = st ? NULL : temps.array<int>(1);
    *finite = true;
    if (!device)
        return ctx->status;
    FBI_CUDA_TRY(ctx, cudaMemsetAsync(device, 0, sizeof *device, fbi_cuda_of(ctx)->stream));
    for (int64_t i = 0; i < n && !st; i++)
        if (v[i].n)
            st = look(ctx, &v[i], device);
    if (!st)
        st = fbi_cuda_copy_out(ctx, &bad, device, sizeof bad);
    *finite = !bad;
    return st;
}

__global__ void add_statistics(int64_t n, double *row, const float *mean, const float *var,
                               double share)
{
    FBI_EACH(i, n)
    {
        row[i] += share * (double)mean[i];
        row[n + i] += share * (double)var[i];
    }
}

__global__ void blend_statistics(int64_t n, float *mean, float *var, int64_t *count,
                                 const double *row, const double *total, double momentum)
{
    double weight = *total;
    if (!(weight > 0))
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
                      s->row, s->total, s->momentum);
    else
        FBI_LAUNCH_ON(ctx, add_statistics, grid, FBI_BLOCK, s->n, s->row, s->mean, s->var,
                      s->share);
    return FB_OK;
}
