/* Matrix products by cuBLASLt: from strides to its column-major operands. */
#include "core/cuda/gemm_priv.h"

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
    fb_dtype dtype_c = g->wide ? FB_F32 : g->dtype;
    int64_t bytes = fbi_cuda_bytes((int)g->dtype), bytes_c = fbi_cuda_bytes((int)dtype_c);
    if (g->batch * g->m * g->n == 0)
        return FB_OK;
    fbi_lt_key key = {
        .m = g->n, .n = g->m, .k = g->k, .batch = g->batch, .type = cuda_type(g->dtype)};
    key.type_c = cuda_type(dtype_c);
    key.compute = compute_type(ctx, g->dtype);
    as_columns(g->k, g->n, g->b_k, g->b_n, &key.ta, &key.lda);
    as_columns(g->m, g->k, g->a_m, g->a_k, &key.tb, &key.ldb);
    key.ldc = g->m > 1 ? g->c_m : g->n;
    key.stride_a = g->batch > 1 ? g->b_b : 0;
    key.stride_b = g->batch > 1 ? g->a_b : 0;
    key.stride_c = g->batch > 1 ? g->c_b : 0;
    key.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    if (g->epilogue || g->bias)
        key.epilogue = g->epilogue ? (int32_t)g->epilogue : CUBLASLT_EPILOGUE_BIAS;
    key.align_a = alignment(g->b, key.lda, key.stride_a, bytes);
    key.align_b = alignment(g->a, key.ldb, key.stride_b, bytes);
    key.align_c = alignment(g->c, key.ldc, key.stride_c, bytes_c);
    key.align_bias = alignment(g->bias, 0, 0, bytes_c);
    key.align_aux = alignment(g->aux, 0, 0, bytes_c);
    const fbi_lt_data data = {.a = g->b,
                              .b = g->a,
                              .bias = (void *)(uintptr_t)g->bias,
                              .aux = g->aux,
                              .c = g->c,
                              .beta = g->beta};
    fbi_lt_plan *p = NULL;
    fb_status st = fbi_lt_plan_of(c, &key, &data, &p);
    if (st)
        return st;
    if (!p->refused)
        return fbi_lt_start(ctx, p, &data);
    if (key.epilogue != CUBLASLT_EPILOGUE_DEFAULT)
        return FB_E_UNSUPPORTED;
    return fbi_cuda_of(ctx)->core->fail(
        ctx, FB_E_DEVICE, "%s: cuBLASLt has no algorithm for a product of %lld x %lld x %lld",
        ctx->device_name, (long long)g->m, (long long)g->n, (long long)g->k);
}
