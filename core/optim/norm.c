/* Norms whose bits do not depend on threads: fixed blocks, pairwise sums. */
#include <math.h>
#include <stdlib.h>

#include "core/base/half.h"
#include "core/optim/optimizer_priv.h"

double fbi_pairwise(const double *v, int64_t n)
{
    if (n <= 2)
        return n == 2 ? v[0] + v[1] : n == 1 ? v[0] : 0;
    return fbi_pairwise(v, n / 2) + fbi_pairwise(v + n / 2, n - n / 2);
}

/* Eight interleaved sums, so that the loop vectorises in one fixed order. */
#define BLOCK(name, T, wide)                        \
    static double name(const void *data, int64_t n) \
    {                                               \
        const T *x = data;                          \
        double s[8] = {0};                          \
        int64_t i = 0;                              \
        for (; i + 8 <= n; i += 8)                  \
            for (int j = 0; j < 8; j++) {           \
                double v = (double)wide(x[i + j]);  \
                s[j] += v * v;                      \
            }                                       \
        for (int j = 0; i < n; i++, j++) {          \
            double v = (double)wide(x[i]);          \
            s[j] += v * v;                          \
        }                                           \
        return fbi_pairwise(s, 8);                  \
    }
BLOCK(block_f32, float, )
BLOCK(block_f64, double, )
BLOCK(block_f16, uint16_t, fbi_f16_to_f32)
BLOCK(block_bf16, uint16_t, fbi_bf16_to_f32)

static double (*const blocks_of[FB_DTYPE_COUNT])(const void *x, int64_t n) = {
    [FB_F32] = block_f32, [FB_F64] = block_f64, [FB_F16] = block_f16, [FB_BF16] = block_bf16};

/* NaN: no memory. */
static double sum_squares(const fbi_flat_view *v, int threads)
{
    int64_t n = v->n, blocks = (n + FBI_NORM_BLOCK - 1) / FBI_NORM_BLOCK;
    if (blocks == 0)
        return 0;
    double *part = malloc((size_t)blocks * sizeof *part);
    if (!part)
        return NAN;
    const char *x = v->data;
    size_t size = fb_dtype_size(v->dtype);
#pragma omp parallel for num_threads(threads) if (blocks > 8)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t at = b * FBI_NORM_BLOCK;
        int64_t len = n - at < FBI_NORM_BLOCK ? n - at : FBI_NORM_BLOCK;
        part[b] = blocks_of[v->dtype](x + (size_t)at * size, len);
    }
    double sum = fbi_pairwise(part, blocks);
    free(part);
    return sum;
}

void fbi_sums_of_squares(const fb_context *ctx, const fbi_flat_view *v, int64_t n, double *sums)
{
    for (int64_t i = 0; i < n; i++)
        sums[i] = sum_squares(&v[i], ctx->threads);
}

double fbi_sum_squares(const fb_tensor *t)
{
    fbi_flat_view v = {(fb_dtype)t->dtype, fbi_ptr(t), t->numel};
    return sum_squares(&v, t->ctx->threads);
}
