/* Copies between host and device, in the order of the compute stream, and waiting for it. */
#include <string.h>

#include "core/cuda/cuda_priv.h"
#include "core/ops/random_priv.h"

enum { STAGE_ALIGN = 64 }; /* divides FBI_CUDA_STAGE_BYTES */

fb_status fbi_cuda_stages_open(fb_context *ctx, fbi_cuda *d)
{
    for (int i = 0; i < FBI_CUDA_STAGES; i++) {
        d->stages[i].host = fbi_cuda_host_alloc(ctx, FBI_CUDA_STAGE_BYTES);
        if (!d->stages[i].host)
            return ctx->status ? ctx->status : FB_E_NOMEM;
        FBI_CUDA_TRY(ctx, cudaEventCreateWithFlags(&d->stages[i].free, cudaEventDisableTiming));
    }
    return FB_OK;
}

/* Errors have nobody to go to: the context is closing. */
void fbi_cuda_stages_close(fb_context *ctx)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    for (int i = 0; i < FBI_CUDA_STAGES; i++) {
        if (d->stages[i].free)
            (void)cudaEventDestroy(d->stages[i].free);
        fbi_cuda_host_free(ctx, d->stages[i].host);
    }
}

/* A stage with room for n bytes. NULL: the error is set. */
static fbi_cuda_stage *stage_for(fb_context *ctx, size_t n)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    fbi_cuda_stage *s = &d->stages[d->next_stage];
    if (FBI_CUDA_STAGE_BYTES - s->used >= n)
        return s;
    cudaError_t e = cudaEventRecord(s->free, d->stream);
    if (e != cudaSuccess) {
        fbi_cuda_failed(ctx, e, "cudaEventRecord", __FILE__, __LINE__);
        return NULL;
    }
    d->next_stage = (d->next_stage + 1) % FBI_CUDA_STAGES;
    s = &d->stages[d->next_stage];
    s->used = 0;
    return fbi_cuda_wait_here(ctx, FBI_WAIT_STAGE, s->free) ? NULL : s;
}

/* The caller's memory is free again on return; the copy itself is not waited for. */
fb_status fbi_cuda_copy_in(fb_context *ctx, void *device, const void *host, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += FBI_CUDA_STAGE_BYTES) {
        size_t n = bytes - at < FBI_CUDA_STAGE_BYTES ? bytes - at : FBI_CUDA_STAGE_BYTES;
        fbi_cuda_stage *s = stage_for(ctx, n);
        if (!s)
            return ctx->status ? ctx->status : FB_E_DEVICE;
        char *from = s->host + s->used;
        s->used += (n + STAGE_ALIGN - 1) / STAGE_ALIGN * STAGE_ALIGN;
        memcpy(from, (const char *)host + at, n);
        FBI_CUDA_TRY(ctx, cudaMemcpyAsync((char *)device + at, from, n, cudaMemcpyHostToDevice,
                                          fbi_cuda_of(ctx)->stream));
    }
    return FB_OK;
}

/* A parameter of random numbers that its row does not allow. */
static fb_status bad_parameter(fb_context *ctx, const char *name, const fbi_cuda_bad *b)
{
    static const struct {
        int op;
        const char *text;
    } rules[] = {{FBI_OP_bernoulli, "%s: " FBI_NO_PROBABILITY},
                 {FBI_OP_poisson, "%s: " FBI_NO_RATE},
                 {FBI_OP_gamma, "%s: " FBI_NO_GAMMA_SHAPE},
                 {FBI_OP_multinomial, "%s: " FBI_NO_WEIGHT}};
    const fbi_core_api *core = fbi_cuda_of(ctx)->core;
    double value;
    memcpy(&value, &b->value, sizeof value);
    if (b->size == FBI_BAD_ROW)
        return core->fail(ctx, FB_E_ARG, "%s: " FBI_FEW_WEIGHTS, name, (long long)b->position);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].op == b->op)
            return core->fail(ctx, FB_E_ARG, rules[i].text, name, value, (long long)b->position);
    return core->fail(ctx, FB_E_ARG, "%s: %g at position %lld", name, value,
                      (long long)b->position);
}

/* What a kernel noted since the last look. The stream is idle. */
static fb_status check_indices(fb_context *ctx)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    const fbi_opdef *last = d->unchecked;
    if (!last)
        return FB_OK;
    d->unchecked = NULL;
    fbi_cuda_bad b;
    FBI_CUDA_TRY(ctx, cudaMemcpyAsync(&b, d->bad, sizeof b, cudaMemcpyDeviceToHost, d->stream));
    FBI_CUDA_TRY(ctx, cudaStreamSynchronize(d->stream));
    if (!b.set)
        return FB_OK;
    FBI_CUDA_TRY(ctx, cudaMemsetAsync(d->bad, 0, sizeof b, d->stream));
    const char *name = (last - last->op + b.op)->name; /* rows lie in the order of their numbers */
    if (b.op == FBI_OP_cross_entropy || b.op == FBI_OP_cross_entropy_bwd ||
        b.op == FBI_OP_cross_entropy_coef)
        return d->core->fail(
            ctx, FB_E_ARG,
            "%s: target %lld at index %lld is not in 0 .. %lld and not ignore_index %lld", name,
            (long long)b.value, (long long)b.position, (long long)b.size - 1, (long long)b.ignore);
    if (b.size < 0)
        return bad_parameter(ctx, name, &b);
    return d->core->fail(ctx, FB_E_ARG,
                         "%s: index %lld at position %lld is out of range: the size is %lld", name,
                         (long long)b.value, (long long)b.position, (long long)b.size);
}

fb_status fbi_cuda_sync(fb_context *ctx)
{
    fb_status st = fbi_cuda_queues_sync(ctx);
    return st ? st : check_indices(ctx);
}

fb_status fbi_cuda_copy_out(fb_context *ctx, void *host, const void *device, size_t bytes)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    /* The copy itself waits for the queue: not before the ranks that the queue waits for are there.
     */
    fb_status st = ctx->hooks.wait ? fbi_cuda_queue_sync(ctx, FBI_QUEUE_COMPUTE) : FB_OK;
    if (st)
        return st;
    if (bytes)
        FBI_CUDA_TRY(ctx, cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, d->stream));
    st = fbi_cuda_queue_sync(ctx, FBI_QUEUE_COMPUTE);
    return st ? st : check_indices(ctx);
}
