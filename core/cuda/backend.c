/* CUDA as a device: one compute stream a context, memory in the order of that stream. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cuda/cuda_priv.h"

/* What NVIDIA recommends for cuBLAS: Hopper and newer, others. */
enum { FBI_CUDA_WORKSPACE = 32 << 20, FBI_CUDA_OLD_WORKSPACE = 4 << 20 };

fb_status fbi_cuda_use(fb_context *ctx)
{
    FBI_CUDA_TRY(ctx, cudaSetDevice(fbi_cuda_of(ctx)->index));
    return FB_OK;
}

static fb_status open_all(fb_context *ctx, fbi_cuda *d)
{
    int sms = 0, major = 0;
    fb_status st = fbi_cuda_use(ctx);
    if (st)
        return st;
    FBI_CUDA_TRY(ctx, cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, d->index));
    d->blocks = sms > 0 ? sms * 8 : 8;
    st = fbi_cuda_queues_open(ctx, d);
    if (st)
        return st;
    FBI_CUDA_TRY(ctx, cudaMallocAsync((void **)&d->bad, sizeof *d->bad, d->stream));
    FBI_CUDA_TRY(ctx, cudaMemsetAsync(d->bad, 0, sizeof *d->bad, d->stream));
    FBI_CUDA_TRY(ctx, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, d->index));
    d->workspace_bytes = major >= 9 ? FBI_CUDA_WORKSPACE : FBI_CUDA_OLD_WORKSPACE;
    FBI_LT_TRY(ctx, cublasLtCreate(&d->lt));
    d->halted = fbi_cuda_host_alloc(ctx, sizeof *d->halted);
    if (!d->halted)
        return ctx->status;
    *d->halted = 0;
    return fbi_cuda_stages_open(ctx, d);
}

/* Errors have nobody to go to: the context is closing, or opening has failed already. */
static void close_all(fb_context *ctx)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    fbi_cuda_plans_free(d);
    if (d->lt)
        (void)cublasLtDestroy(d->lt);
    if (d->bad)
        (void)cudaFreeAsync(d->bad, d->stream);
    if (d->stream)
        (void)cudaStreamSynchronize(d->stream);
    fbi_cuda_dnn_close(d);
    fbi_cuda_host_free(ctx, d->halted);
    fbi_cuda_stages_close(ctx);
    fbi_cuda_queues_close(d);
    fbi_cuda_comm_close(d);
    free(d);
    ctx->device = NULL;
}

static fb_status cuda_open(fb_context *ctx, int index, const fb_context_options *options,
                           const fbi_core_api *core)
{
    (void)options;
    fbi_cuda *d = calloc(1, sizeof *d);
    if (!d)
        return core->fail(ctx, FB_E_NOMEM, "context: no memory for the device");
    const char *blocking = getenv("FLAMBEAU_CUDA_BLOCKING");
    d->core = core;
    d->index = index;
    d->blocking = blocking && !strcmp(blocking, "1");
    d->blocking_all = blocking && !strcmp(blocking, "all");
    ctx->device = d;
    ctx->kernels = fbi_cuda_kernels;
    ctx->threads = 1;
    ctx->trace = fbi_cuda_trace(&d->ranges) ? &d->ranges : NULL;
    fb_status st = open_all(ctx, d);
    if (st)
        close_all(ctx);
    return st;
}

static void *cuda_alloc(fb_context *ctx, fbi_queue queue, size_t bytes)
{
    void *p = NULL;
    if (fbi_cuda_use(ctx))
        return NULL;
    cudaError_t e = cudaMallocAsync(&p, bytes ? bytes : 1, fbi_cuda_of(ctx)->queues[queue]);
    if (e == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); /* the allocator gives back what lies unused and asks again */
        return NULL;
    }
    if (e != cudaSuccess)
        fbi_cuda_failed(ctx, e, "cudaMallocAsync", __FILE__, __LINE__);
    return e == cudaSuccess ? p : NULL;
}

static void cuda_free(fb_context *ctx, fbi_queue queue, void *data, size_t bytes)
{
    (void)bytes;
    cudaError_t e = cudaFreeAsync(data, fbi_cuda_of(ctx)->queues[queue]);
    if (e != cudaSuccess)
        fbi_cuda_failed(ctx, e, "cudaFreeAsync", __FILE__, __LINE__);
}

static fb_status cuda_copy(fb_context *ctx, void *dst, const void *src, size_t bytes)
{
    if (bytes)
        FBI_CUDA_TRY(ctx, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice,
                                          fbi_cuda_of(ctx)->stream));
    return FB_OK;
}

static fb_status cuda_fill_zero(fb_context *ctx, void *dst, size_t bytes)
{
    if (bytes)
        FBI_CUDA_TRY(ctx, cudaMemsetAsync(dst, 0, bytes, fbi_cuda_of(ctx)->stream));
    return FB_OK;
}

static void cuda_pack_free(fb_context *ctx, fbi_pack *packs)
{
    (void)ctx, (void)packs; /* none are made */
}

const fbi_backend fbi_cuda_backend = {
    .abi = FBI_BACKEND_ABI,
    .name = FBI_CUDA_NAME,
    .open = cuda_open,
    .close = close_all,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .copy_in = fbi_cuda_copy_in,
    .copy_out = fbi_cuda_copy_out,
    .copy = cuda_copy,
    .fill_zero = cuda_fill_zero,
    .sync = fbi_cuda_sync,
    .pack_free = cuda_pack_free,
    .average = fbi_cuda_average,
    .comm = &fbi_cuda_comm,
    .exact_memory = FBI_CUDA_EXACT_MEMORY,
    .event_record_on = fbi_cuda_event_record_on,
    .wait = fbi_cuda_wait,
    .event_drop = fbi_cuda_event_drop,
    .host_alloc = fbi_cuda_host_alloc,
    .host_free = fbi_cuda_host_free,
    .copy_on = fbi_cuda_copy_on,
    .memory = fbi_cuda_memory,
    .combine = fbi_cuda_combine,
    .event_done = fbi_cuda_event_done,
    .stamp = fbi_cuda_stamp,
    .between = fbi_cuda_between,
    .statistics = fbi_cuda_statistics,
    .measure = fbi_cuda_measure,
    .ask = fbi_cuda_ask,
    .judge = fbi_cuda_judge,
    .sweep = fbi_cuda_sweep,
    .advance = fbi_cuda_advance,
    .add_to = fbi_cuda_add_to,
    .halt = fbi_cuda_halt,
    .tune = fbi_cuda_tune,
    .choose = fbi_cuda_choose,
};
