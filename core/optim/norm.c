/* Norms whose bits do not depend on threads: fixed blocks, pairwise sums. */
#include <math.h>
#include <stdlib.h>

#include "core/optim/optimizer_priv.h"

double fbi_pairwise(const double *v, int64_t n)
{
    if (n <= 2)
        return n == 2 ? v[0] + v[1] : n == 1 ? v[0] : 0;
    return fbi_pairwise(v, n / 2) + fbi_pairwise(v + n / 2, n - n / 2);
}

/* Eight interleaved sums, so that the loop vectorises in one fixed order. */
#define BLOCK(name, T)                                       \
    static double name(const T *x, int64_t n)                \
    {                                                        \
        double s[8] = {0};                                   \
        int64_t i = 0;                                       \
        for (; i + 8 <= n; i += 8)                           \
            for (int j = 0; j < 8; j++)                      \
                s[j] += (double)x[i + j] * (double)x[i + j]; \
        for (int j = 0; i < n; i++, j++)                     \
            s[j] += (double)x[i] * (double)x[i];             \
        return fbi_pairwise(s, 8);                           \
    }
BLOCK(block_f32, float)
BLOCK(block_f64, double)

/* NaN: no memory. */
static double sum_squares(const fbi_flat_view *v, int threads)
{
    int64_t n = v->n, blocks = (n + FBI_NORM_BLOCK - 1) / FBI_NORM_BLOCK;
    if (blocks == 0)
        return 0;
    double *part = malloc((size_t)blocks * sizeof *part);
    if (!part)
        return NAN;
    bool f32 = v->dtype == FB_F32;
    const void *x = v->data;
#pragma omp parallel for num_threads(threads) if (blocks > 8)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t at = b * FBI_NORM_BLOCK;
        int64_t len = n - at < FBI_NORM_BLOCK ? n - at : FBI_NORM_BLOCK;
        part[b] =
            f32 ? block_f32((const float *)x + at, len) : block_f64((const double *)x + at, len);
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
