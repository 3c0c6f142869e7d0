/* Which random numbers an operator draws: a function of seed and place, never of timing. */
#include "core/base/philox_priv.h"
#include "core/tensor/context_priv.h"

fbi_rng_stream fbi_next_stream(fb_context *ctx)
{
    if (!ctx->in_step) /* its own key: steps never meet it */
        return (fbi_rng_stream){fbi_mix64(ctx->seed), ctx->counter++};
    uint64_t step = (uint64_t)ctx->batch.step + 1;
    uint64_t key = fbi_mix64(fbi_mix64(ctx->seed) ^ fbi_mix64(step));
    uint64_t stream = (uint64_t)ctx->batch.shard << 32 | ctx->op_number++;
    return (fbi_rng_stream){key, stream};
}

fbi_rng_state fbi_rng_save(const fb_context *ctx)
{
    return (fbi_rng_state){ctx->counter, ctx->op_number, ctx->batch, ctx->in_step};
}

void fbi_rng_restore(fb_context *ctx, fbi_rng_state state)
{
    ctx->counter = state.counter;
    ctx->op_number = state.op_number;
    ctx->batch = state.batch;
    ctx->in_step = state.in_step;
}

FB_API fb_status fb_manual_seed(fb_context *ctx, uint64_t seed)
{
    if (!ctx)
        return FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    ctx->seed = seed;
    ctx->counter = 0;
    ctx->op_number = 0;
    return FB_OK;
}

FB_API fb_status fb_context_batch(fb_context *ctx, const fb_batch_info *info)
{
    if (!ctx)
        return FB_E_ARG;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return fb_status_of(ctx);
    if (info && (info->step < 0 || info->shard < 0 || info->shard > INT32_MAX))
        return fbi_fail(ctx, FB_E_ARG,
                        "context_batch: step %lld, shard %lld: neither may be negative",
                        (long long)info->step, (long long)info->shard);
    if (info && !(info->share >= 0 && info->share <= 1))
        return fbi_fail(ctx, FB_E_ARG, "context_batch: share is %g: it lies between 0 and 1",
                        info->share);
    /* Further micro-batches of a leaf go on with its numbers: they must not draw the same again. */
    bool goes_on = info && ctx->in_step && !info->first && info->step == ctx->batch.step &&
                   info->shard == ctx->batch.shard;
    ctx->in_step = info != NULL;
    ctx->batch = info ? *info : (fb_batch_info){0};
    if (!goes_on)
        ctx->op_number = 0;
    return FB_OK;
}
