/* Timing the algorithms of a plan, where fb_context_options.tune asks for it. A process of its own
 * times a plan when it is new. Ranks of a job would choose differently, and each at its own moment:
 * they take cuBLASLt's first heuristic until rank 0 is told to time what it has used so far, and
 * take over its choices together (parallel/tune.c). */
#include <stdlib.h>
#include <string.h>

#include "core/cuda/gemm_priv.h"

enum { CANDIDATES = 8, RUNS = 5, ROUNDS = 3 };
/* A later candidate must take less than this part of the time: the rest is noise. */
static const float GAIN = 0.95f;
/* Larger products are left alone: their operands are made up here. */
static const size_t MOST_SCRATCH = (size_t)2 << 30;

static size_t extent(const fbi_lt_key *k, int64_t rows, int64_t cols, int64_t ld, int64_t stride)
{
    static const size_t most = 8; /* bytes of an element */
    size_t n = (size_t)((k->batch - 1) * stride + (cols - 1) * ld + rows) * most;
    return (n + 255) / 256 * 256;
}

/* Memory for all operands, of numbers that are no NaN; NULL without an error: there is none. */
static fb_status scratch(fb_context *ctx, const fbi_lt_key *k, fbi_lt_data *data, void **memory)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    int64_t longest = k->m > k->n ? k->m : k->n;
    size_t a = extent(k, k->ta ? k->k : k->m, k->ta ? k->m : k->k, k->lda, k->stride_a);
    size_t b = extent(k, k->tb ? k->n : k->k, k->tb ? k->k : k->n, k->ldb, k->stride_b);
    size_t c = extent(k, k->m, k->n, k->ldc, k->stride_c), aux = extent(k, k->m, k->n, k->m, 0);
    size_t total = a + b + c + aux + extent(k, longest, 1, longest, 0);
    *memory = NULL;
    if (total > MOST_SCRATCH)
        return FB_OK;
    cudaError_t e = cudaMallocAsync(memory, total, d->stream);
    if (e == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); /* it is not timed, then */
        *memory = NULL;
        return FB_OK;
    }
    FBI_CUDA_TRY(ctx, e);
    FBI_CUDA_TRY(ctx, cudaMemsetAsync(*memory, 0x3c, total, d->stream));
    char *p = *memory;
    *data = (fbi_lt_data){
        .a = p, .b = p + a, .c = p + a + b, .aux = p + a + b + c, .bias = p + a + b + c + aux};
    return FB_OK;
}

/* Milliseconds of RUNS products. */
static fb_status time_one(fb_context *ctx, fbi_lt_plan *p, const fbi_lt_data *data,
                          const cudaEvent_t at[2], float *ms)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    fb_status st = FB_OK;
    FBI_CUDA_TRY(ctx, cudaEventRecord(at[0], d->stream));
    for (int i = 0; i < RUNS && !st; i++)
        st = fbi_lt_start(ctx, p, data);
    if (st)
        return st;
    FBI_CUDA_TRY(ctx, cudaEventRecord(at[1], d->stream));
    st = fbi_cuda_queue_sync(ctx, FBI_QUEUE_COMPUTE);
    if (!st)
        FBI_CUDA_TRY(ctx, cudaEventElapsedTime(ms, at[0], at[1]));
    return st;
}

/* The best time of each candidate; the first round warms up. */
static fb_status time_all(fb_context *ctx, fbi_lt_plan *p, const fbi_lt_data *data,
                          const cublasLtMatmulHeuristicResult_t *found, int n, float *best)
{
    cudaEvent_t at[2] = {NULL, NULL};
    fb_status st = FB_OK;
    FBI_CUDA_TRY(ctx, cudaEventCreate(&at[0]));
    FBI_CUDA_TRY(ctx, cudaEventCreate(&at[1]));
    for (int round = 0; round <= ROUNDS; round++)
        for (int i = 0; i < n && !st; i++) {
            float ms = 0;
            p->algo = found[i].algo;
            p->workspace = found[i].workspaceSize;
            st = time_one(ctx, p, data, at, &ms);
            best[i] = round <= 1 || ms < best[i] ? ms : best[i];
        }
    FBI_CUDA_TRY(ctx, cudaEventDestroy(at[0]));
    FBI_CUDA_TRY(ctx, cudaEventDestroy(at[1]));
    return st;
}

static fb_status time_plan(fb_context *ctx, fbi_lt_plan *p)
{
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    float best[CANDIDATES];
    fbi_lt_data data;
    void *memory = NULL;
    int n = 0, chosen = 0;
    fb_status st = fbi_lt_candidates(ctx, p, CANDIDATES, found, &n);
    if (st || n < 2)
        return st;
    st = scratch(ctx, &p->key, &data, &memory);
    if (st || !memory)
        return st;
    st = time_all(ctx, p, &data, found, n, best);
    for (int i = 1; i < n && !st; i++)
        chosen = best[i] < GAIN * best[chosen] ? i : chosen;
    p->algo = found[chosen].algo;
    p->workspace = found[chosen].workspaceSize;
    p->timed = !st;
    FBI_CUDA_TRY(ctx, cudaFreeAsync(memory, fbi_cuda_of(ctx)->stream));
    return st;
}

fb_status fbi_lt_time(fb_context *ctx, fbi_lt_plan *p)
{
    bool alone = ctx->hooks.shards == 1;
    return ctx->tune && alone && !p->timed ? time_plan(ctx, p) : FB_OK;
}

/* --- choices of rank 0 --- */

fb_status fbi_cuda_tune(fb_context *ctx, void **choices, size_t *bytes)
{
    fbi_cuda_plans *plans = fbi_lt_plans_of(ctx);
    fb_status st = fbi_cuda_use(ctx);
    *choices = NULL;
    *bytes = 0;
    if (st || !plans)
        return ctx->status;
    fbi_lt_choice *all = calloc((size_t)plans->n + 1, sizeof *all);
    if (!all)
        return fbi_cuda_of(ctx)->core->fail(ctx, FB_E_NOMEM, "tuning: no memory for choices");
    int n = 0;
    for (int i = 0; i < FBI_LT_SLOTS && !st; i++) {
        fbi_lt_plan *p = plans->slots[i];
        if (!p || p->refused)
            continue;
        st = p->timed ? FB_OK : time_plan(ctx, p);
        if (!st && p->timed)
            all[n++] = (fbi_lt_choice){p->key, p->algo};
    }
    *choices = all;
    *bytes = (size_t)n * sizeof *all;
    return st;
}

fb_status fbi_lt_adopt(fb_context *ctx, fbi_lt_plan *p)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    const fbi_lt_choice *found = NULL;
    for (int i = 0; i < d->plans->n_choices && !found; i++)
        if (memcmp(&d->plans->choices[i].key, &p->key, sizeof p->key) == 0)
            found = &d->plans->choices[i];
    if (!found)
        return FB_OK;
    cublasLtMatmulHeuristicResult_t result;
    cublasStatus_t e =
        cublasLtMatmulAlgoCheck(d->lt, &p->op, &p->a, &p->b, &p->c, &p->c, &found->algo, &result);
    if (e != CUBLAS_STATUS_SUCCESS)
        return d->core->fail(ctx, FB_E_DEVICE,
                             "%s: this card cannot do a matrix product as rank 0's does (%s): give "
                             "all ranks the same cards and libraries, or do not set FLAMBEAU_TUNE",
                             ctx->device_name, cublasLtGetStatusName(e));
    p->algo = found->algo;
    p->workspace = result.workspaceSize;
    p->timed = true;
    return FB_OK;
}

fb_status fbi_cuda_choose(fb_context *ctx, const void *choices, size_t bytes)
{
    fbi_cuda_plans *plans = fbi_lt_plans_of(ctx);
    fb_status st = fbi_cuda_use(ctx);
    if (st || !plans || bytes == 0)
        return ctx->status;
    fbi_lt_choice *all = malloc(bytes);
    if (!all)
        return fbi_cuda_of(ctx)->core->fail(ctx, FB_E_NOMEM, "tuning: no memory for choices");
    memcpy(all, choices, bytes);
    free(plans->choices);
    plans->choices = all;
    plans->n_choices = (int)(bytes / sizeof *all);
    for (int i = 0; i < FBI_LT_SLOTS && !st; i++)
        if (plans->slots[i] && !plans->slots[i]->refused)
            st = fbi_lt_adopt(ctx, plans->slots[i]);
    return st;
}
