/* Matrix products by cuBLASLt, with one plan a shape. Always its first heuristic, never timing: the
 * bits of a run must not depend on how busy a card was. */
#include <stdlib.h>
#include <string.h>

#include "core/cuda/cuda_priv.h"

/* Everything that a plan depends on, and nothing else: compared as bytes. */
typedef struct plan_key {
    int64_t m, n, k, batch, lda, ldb, ldc, stride_a, stride_b, stride_c;
    int32_t type, compute, ta, tb, bias;
    uint32_t align_a, align_b, align_c;
} plan_key;

typedef struct plan {
    plan_key key;
    bool used;
    cublasLtMatmulDescOpaque_t op;
    cublasLtMatrixLayoutOpaque_t a, b, c;
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
} plan;

/* Open addressing; a power of two, at most half full. */
struct fbi_cuda_plans {
    plan **slots;
    uint64_t n, cap;
};

void fbi_cuda_plans_free(fbi_cuda *d)
{
    if (!d->plans)
        return;
    for (uint64_t i = 0; i < d->plans->cap; i++)
        free(d->plans->slots[i]);
    free(d->plans->slots);
    free(d->plans);
    d->plans = NULL;
}

static uint64_t hash_of(const plan_key *key)
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
static plan **slot_of(fbi_cuda_plans *p, const plan_key *key)
{
    uint64_t i = hash_of(key) & (p->cap - 1);
    while (p->slots[i] && memcmp(&p->slots[i]->key, key, sizeof *key) != 0)
        i = (i + 1) & (p->cap - 1);
    return &p->slots[i];
}

static bool grow(fbi_cuda *d)
{
    fbi_cuda_plans *p = d->plans, bigger = {NULL, 0, p ? p->cap * 2 : 64};
    if (p && p->n * 2 < p->cap)
        return true;
    if (!p && !(p = d->plans = calloc(1, sizeof *p)))
        return false;
    bigger.slots = calloc(bigger.cap, sizeof(plan *));
    if (!bigger.slots)
        return false;
    for (uint64_t i = 0; i < p->cap; i++)
        if (p->slots[i])
            *slot_of(&bigger, &p->slots[i]->key) = p->slots[i];
    free(p->slots);
    bigger.n = p->n;
    *p = bigger;
    return true;
}

static cudaDataType cuda_type(fb_dtype d)
{
    return d == FB_F64   ? CUDA_R_64F
           : d == FB_F32 ? CUDA_R_32F
           : d == FB_F16 ? CUDA_R_16F
                         : CUDA_R_16BF;
}

static cublasComputeType_t compute_type(const fb_context *ctx, fb_dtype d)
{
    return d == FB_F64                      ? CUBLAS_COMPUTE_64F
           : d == FB_F32 && ctx->allow_tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                            : CUBLAS_COMPUTE_32F;
}

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

static fb_status describe(fb_context *ctx, plan *p, const void *bias)
{
    const plan_key *k = &p->key;
    cudaDataType type = (cudaDataType)k->type;
    bool f64 = type == CUDA_R_64F;
    int32_t ta = k->ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb = k->tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    FBI_LT_TRY(ctx, cublasLtMatmulDescInit(&p->op, (cublasComputeType_t)k->compute,
                                           f64 ? CUDA_R_64F : CUDA_R_32F));
    FBI_LT_TRY(ctx,
               cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
    FBI_LT_TRY(ctx,
               cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
    if (k->bias) {
        cublasLtEpilogue_t e = CUBLASLT_EPILOGUE_BIAS;
        FBI_LT_TRY(ctx, cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &e,
                                                       sizeof e));
        FBI_LT_TRY(ctx, cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                       &bias, sizeof bias));
    }
    fb_status st = layout(ctx, &p->a, type, k->ta ? k->k : k->m, k->ta ? k->m : k->k, k->lda,
                          k->batch, k->stride_a);
    if (!st)
        st = layout(ctx, &p->b, type, k->tb ? k->n : k->k, k->tb ? k->k : k->n, k->ldb, k->batch,
                    k->stride_b);
    return st ? st : layout(ctx, &p->c, type, k->m, k->n, k->ldc, k->batch, k->stride_c);
}

static fb_status choose(fb_context *ctx, plan *p)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    cublasLtMatmulPreferenceOpaque_t pref;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    const struct {
        cublasLtMatmulPreferenceAttributes_t name;
        uint32_t value;
    } alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p->key.align_a},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p->key.align_b},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p->key.align_c},
                      {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p->key.align_c}};
    FBI_LT_TRY(ctx, cublasLtMatmulPreferenceInit(&pref));
    FBI_LT_TRY(
        ctx, cublasLtMatmulPreferenceSetAttribute(&pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &d->workspace_bytes, sizeof d->workspace_bytes));
    for (int i = 0; i < 4; i++)
        FBI_LT_TRY(ctx, cublasLtMatmulPreferenceSetAttribute(&pref, alignments[i].name,
                                                             &alignments[i].value,
                                                             sizeof alignments[i].value));
    FBI_LT_TRY(ctx, cublasLtMatmulAlgoGetHeuristic(d->lt, &p->op, &p->a, &p->b, &p->c, &p->c, &pref,
                                                   1, &found, &n));
    if (n < 1)
        return d->core->fail(
            ctx, FB_E_DEVICE, "%s: cuBLASLt has no algorithm for a product of %lld x %lld x %lld",
            ctx->device_name, (long long)p->key.m, (long long)p->key.n, (long long)p->key.k);
    p->algo = found.algo;
    p->workspace = found.workspaceSize;
    return FB_OK;
}

static fb_status plan_of(fb_context *ctx, const plan_key *key, const void *bias, plan **out)
{
    fbi_cuda *d = fbi_cuda_of(ctx);
    if (!grow(d))
        return d->core->fail(ctx, FB_E_NOMEM, "matrix product: no memory for a plan");
    plan **slot = slot_of(d->plans, key);
    if (!*slot) {
        plan *p = calloc(1, sizeof *p);
        if (!p)
            return d->core->fail(ctx, FB_E_NOMEM, "matrix product: no memory for a plan");
        p->key = *key;
        fb_status st = describe(ctx, p, bias);
        if (!st)
            st = choose(ctx, p);
        if (st) {
            free(p);
            return st;
        }
        *slot = p;
        d->plans->n++;
    }
    *out = *slot;
    return FB_OK;
}

static uint32_t alignment(const void *p, int64_t ld, int64_t stride, int64_t bytes)
{
    uint64_t bits =
        (uint64_t)(uintptr_t)p | (uint64_t)(ld * bytes) | (uint64_t)(stride * bytes) | 16;
    return (uint32_t)(bits & -bits);
}

/* Whether a row-major operand [rows, cols] has adjacent elements in its rows. */
static bool by_rows(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride)
{
    return (col_stride == 1 || cols == 1) && (row_stride >= cols || rows == 1);
}

bool fbi_cuda_mm_operand(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride)
{
    return by_rows(rows, cols, row_stride, col_stride) ||
           by_rows(cols, rows, col_stride, row_stride);
}

/* The operand as cuBLASLt's column-major one: whether it is read transposed, and its leading
 * dimension. */
static void as_columns(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride,
                       int32_t *transposed, int64_t *ld)
{
    bool plain = by_rows(rows, cols, row_stride, col_stride);
    int64_t stride = plain ? row_stride : col_stride, least = plain ? cols : rows;
    *transposed = !plain;
    *ld = stride > least ? stride : least;
}

/* Row-major c = a b is column-major c' = b' a': what is a here is the second operand there. */
fb_status fbi_cuda_gemm(const fbi_call *c, const fbi_cuda_mm *g)
{
    fb_context *ctx = c->ctx;
    fbi_cuda *d = fbi_cuda_of(ctx);
    int64_t bytes = fbi_cuda_bytes((int)g->dtype);
    if (g->batch * g->m * g->n == 0)
        return FB_OK;
    plan_key key = {
        .m = g->n, .n = g->m, .k = g->k, .batch = g->batch, .type = cuda_type(g->dtype)};
    key.compute = compute_type(ctx, g->dtype);
    as_columns(g->k, g->n, g->b_k, g->b_n, &key.ta, &key.lda);
    as_columns(g->m, g->k, g->a_m, g->a_k, &key.tb, &key.ldb);
    key.ldc = g->m > 1 ? g->c_m : g->n;
    key.stride_a = g->batch > 1 ? g->b_b : 0;
    key.stride_b = g->batch > 1 ? g->a_b : 0;
    key.stride_c = g->batch > 1 ? g->c_b : 0;
    key.bias = g->bias != NULL;
    key.align_a = alignment(g->b, key.lda, key.stride_a, bytes);
    key.align_b = alignment(g->a, key.ldb, key.stride_b, bytes);
    key.align_c = alignment(g->c, key.ldc, key.stride_c, bytes);
    plan *p = NULL;
    fb_status st = plan_of(ctx, &key, g->bias, &p);
    if (st)
        return st;
    if (g->bias)
        FBI_LT_TRY(ctx, cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                       &g->bias, sizeof g->bias));
    const float one = 1, beta = g->beta;
    const double one64 = 1, beta64 = (double)g->beta;
    bool f64 = g->dtype == FB_F64;
    FBI_LT_TRY(ctx,
               cublasLtMatmul(d->lt, &p->op, f64 ? (const void *)&one64 : &one, g->b, &p->a, g->a,
                              &p->b, f64 ? (const void *)&beta64 : &beta, g->c, &p->c, g->c, &p->c,
                              &p->algo, d->workspace, d->workspace_bytes, d->stream));
    return FB_OK;
}
