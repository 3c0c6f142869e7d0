/* The cache of plans, by everything that a plan depends on; an algorithm for each. It is cuBLASLt's
 * first heuristic (bits must not depend on how busy a card was), unless gemm_tune.c has another. */
#include <stdlib.h>
#include <string.h>

#include "core/cuda/gemm_priv.h"

static void empty(fbi_cuda_plans *p)
{
    for (int i = 0; i < FBI_LT_SLOTS; i++) {
        free(p->slots[i]);
        p->slots[i] = NULL;
    }
    p->n = 0;
}

void fbi_cuda_plans_free(fbi_cuda *d)
{
    if (!d->plans)
        return;
    empty(d->plans);
    free(d->plans->choices);
    free(d->plans);
    d->plans = NULL;
}

static uint64_t hash_of(const fbi_lt_key *key)
{
    uint64_t h = 0x9E3779B97F4A7C15u, word;
    for (size_t i = 0; i < sizeof *key; i += sizeof word) {
        memcpy(&word, (const char *)key + i, sizeof word);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return h;
}

/* The slot where the key is, or may be put. */
static fbi_lt_plan **slot_of(fbi_cuda_plans *p, const fbi_lt_key *key)
{
    uint64_t i = hash_of(key) % FBI_LT_SLOTS;
    while (p->slots[i] && memcmp(&p->slots[i]->key, key, sizeof *key) != 0)
        i = (i + 1) % FBI_LT_SLOTS;
    return &p->slots[i];
}

/* --- making a plan --- */

static fb_status layout(fb_context *ctx, cublasLtMatrixLayout_t l, cudaDataType type, int64_t rows,
                        int64_t cols, int64_t ld, int64_t batch, int64_t stride)
{
    int32_t count = (int32_t)batch;
    FBI_LT_TRY(ctx, cublasLtMatrixLayoutInit(l, type, (uint64_t)rows, (uint64_t)cols, ld));
    FBI_LT_TRY(ctx, cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                                     sizeof count));
    FBI_LT_TRY(ctx, cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                     &stride, sizeof stride));
    return FB_OK;
}

#define SET(ctx, p, name, value) \
    FBI_LT_TRY(ctx, cublasLtMatmulDescSetAttribute(&(p)->op, name, &(value), sizeof(value)))

static bool has_aux(const fbi_lt_key *k)
{
    return k->epilogue & 128; /* all that write or read one; see cublasLtEpilogue_t */
}

static bool has_bias(const fbi_lt_key *k)
{
    return k->epilogue & (4 | 16 | 256 | 512);
}

static fb_status aim(fb_context *ctx, fbi_lt_plan *p, const fbi_lt_data *data)
{
    if (has_bias(&p->key))
        SET(ctx, p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, data->bias);
    if (has_aux(&p->key))
        SET(ctx, p, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, data->aux);
    return FB_OK;
}

static fb_status describe(fb_context *ctx, fbi_lt_plan *p, const fbi_lt_data *data)
{
    const fbi_lt_key *k = &p->key;
    cudaDataType type = (cudaDataType)k->type;
    int32_t ta = k->ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb = k->tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    FBI_LT_TRY(ctx, cublasLtMatmulDescInit(&p->op, (cublasComputeType_t)k->compute,
                                           type == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F));
    SET(ctx, p, CUBLASLT_MATMUL_DESC_TRANSA, ta);
    SET(ctx, p, CUBLASLT_MATMUL_DESC_TRANSB, tb);
    SET(ctx, p, CUBLASLT_MATMUL_DESC_EPILOGUE, k->epilogue);
    if (has_aux(k))
        SET(ctx, p, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, k->m); /* aux has the shape of c, dense */
    fb_status st = aim(ctx, p, data); /* heuristics look at the alignment of these */
    if (!st)
        st = layout(ctx, &p->a, type, k->ta ? k->k : k->m, k->ta ? k->m : k->k, k->lda, k->batch,
                    k->stride_a);
    if (!st)
        st = layout(ctx, &p->b, type, k->tb ? k->n : k->k, k->tb ? k->k : k->n, k->ldb, k->batch,
                    k->stride_b);
    return st ? st
              : layout(ctx, &p->c, (cudaDataType)k->type_c, k->m, k->n, k->ldc, k->batch,
                       k->stride_c);
}

fb_status fbi_lt_candidates(fb_context *ctx, fbi_lt_plan *p, int want,
                            cublasLtMatmulHeuristicResult_t *found, int *n)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    cublasLtMatmulPreferenceOpaque_t pref;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        uint32_t value;
    } alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p->key.align_a},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p->key.align_b},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p->key.align_c},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p->key.align_c}};
    /* Partial sums of halves stay F32; those of all others are kept in what they are anyway. */
    const uint32_t in_f32 = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    *n = 0;
    FBI_LT_TRY(ctx, cublasLtMatmulPreferenceInit(&pref));
    if (p->key.type == CUDA_R_16F || p->key.type == CUDA_R_16BF)
        FBI_LT_TRY(ctx,
                   cublasLtMatmulPreferenceSetAttribute(
                       &pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &in_f32, sizeof in_f32));
    FBI_LT_TRY(
        ctx, cublasLtMatmulPreferenceSetAttribute(&pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &d->workspace_bytes, sizeof d->workspace_bytes));
    for (int i = 0; i < 4; i++)
        FBI_LT_TRY(ctx, cublasLtMatmulPreferenceSetAttribute(&pref, alignments[i].name,
                                                             &alignments[i].value,
                                                             sizeof alignments[i].value));
    cublasStatus_t e = cublasLtMatmulAlgoGetHeuristic(d->lt, &p->op, &p->a, &p->b, &p->c, &p->c,
                                                      &pref, want, found, n);
    if (e == CUBLAS_STATUS_SUCCESS)
        return FB_OK;
    *n = 0;
    return e == CUBLAS_STATUS_NOT_SUPPORTED
               ? FB_OK
               : fbi_cuda_lt_failed(ctx, e, "cublasLtMatmulAlgoGetHeuristic", __FILE__, __LINE__);
}

static fb_status choose(fb_context *ctx, fbi_lt_plan *p)
{
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    fb_status st = fbi_lt_candidates(ctx, p, 1, &found, &n);
    p->refused = n < 1;
    if (st || p->refused)
        return st;
    p->algo = found.algo;
    p->workspace = found.workspaceSize;
    st = fbi_lt_adopt(ctx, p);
    return st ? st : fbi_lt_time(ctx, p);
}

fbi_cuda_plans *fbi_lt_plans_of(fb_context *ctx)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    if (!d->plans && !(d->plans = calloc(1, sizeof *d->plans)))
        d->core->fail(ctx, FB_E_NOMEM, "matrix product: no memory for plans");
    return d->plans;
}

fb_status fbi_lt_plan_of(const fbi_call *c, const fbi_lt_key *key, const fbi_lt_data *data,
                         fbi_lt_plan **out)
{
    fb_context *ctx = c->ctx;
    fbi_cuda_plans *plans = fbi_lt_plans_of(ctx);
    if (!plans)
        return ctx->status;
    fbi_lt_plan **slot = slot_of(plans, key);
    if (!*slot) {
        if (plans->n == FBI_LT_MOST) {
            empty(plans);
            slot = slot_of(plans, key);
        }
        fbi_lt_plan *p = calloc(1, sizeof *p);
        if (!p)
            return fbi_cuda_of(ctx)->core->fail(ctx, FB_E_NOMEM,
                                                "matrix product: no memory for a plan");
        p->key = *key;
        fb_status st = describe(ctx, p, data);
        st = st ? st : choose(ctx, p);
        if (st) {
            free(p);
            return st;
        }
        *slot = p;
        plans->n++;
    }
    *out = *slot;
    return FB_OK;
}

fb_status fbi_lt_start(fb_context *ctx, fbi_lt_plan *p, const fbi_lt_data *data)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    const float one = 1, beta = data->beta;
    const double one64 = 1, beta64 = (double)data->beta;
    bool f64 = p->key.type == CUDA_R_64F;
    fb_status st = aim(ctx, p, data);
    fbi_storage *w = p->workspace && !st ? d->core->storage_new(ctx, p->workspace) : NULL;
    if (st || (p->workspace && !w))
        return ctx->status;
    cublasStatus_t e =
        cublasLtMatmul(d->lt, &p->op, f64 ? (const void *)&one64 : &one, data->a, &p->a, data->b,
                       &p->b, f64 ? (const void *)&beta64 : &beta, data->c, &p->c, data->c, &p->c,
                       &p->algo, w ? w->data : NULL, p->workspace, d->stream);
    if (w)
        d->core->storage_unref(ctx, w); /* used again in the order of the stream */
    return e == CUBLAS_STATUS_SUCCESS
               ? FB_OK
               : fbi_cuda_lt_failed(ctx, e, "cublasLtMatmul", __FILE__, __LINE__);
}
