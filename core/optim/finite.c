/* Gradients that are not finite: finding them, and saying so. */
#include <stdarg.h>
#include <stdio.h>

#include "core/base/log_priv.h"
#include "core/optim/optimizer_priv.h"

/* The exponent of Inf and NaN is all ones. No early exit: the loop vectorises. */
#define ALL_FINITE(name, T, exponent)                      \
    static bool name(const T *x, int64_t n)                \
    {                                                      \
        T bad = 0;                                         \
        for (int64_t i = 0; i < n; i++)                    \
            bad |= (T)((x[i] & (exponent)) == (exponent)); \
        return !bad;                                       \
    }
ALL_FINITE(finite_f16, uint16_t, 0x7c00u)
ALL_FINITE(finite_bf16, uint16_t, 0x7f80u)
ALL_FINITE(finite_f32, uint32_t, 0x7f800000u)
ALL_FINITE(finite_f64, uint64_t, 0x7ff0000000000000u)

static bool finite_block(const char *data, fb_dtype dtype, int64_t n)
{
    const void *x = data;
    return dtype == FB_F64    ? finite_f64(x, n)
           : dtype == FB_F16  ? finite_f16(x, n)
           : dtype == FB_BF16 ? finite_bf16(x, n)
                              : finite_f32(x, n);
}

static bool finite_run(const fbi_flat_view *v, int threads)
{
    int64_t blocks = (v->n + FBI_NORM_BLOCK - 1) / FBI_NORM_BLOCK;
    int bad = 0;
#pragma omp parallel for num_threads(threads) if (blocks > 64) reduction(| : bad)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t at = b * FBI_NORM_BLOCK, left = v->n - at;
        const char *from = (const char *)v->data + (size_t)at * fb_dtype_size(v->dtype);
        bad |= !finite_block(from, v->dtype, left < FBI_NORM_BLOCK ? left : FBI_NORM_BLOCK);
    }
    return !bad;
}

bool fbi_all_finite(const fb_context *ctx, const fbi_flat_view *v, int64_t n)
{
    bool finite = true;
    for (int64_t i = 0; i < n && finite; i++)
        finite = finite_run(&v[i], ctx->threads);
    return finite;
}

const fb_batch_info *fbi_step_of(const fb_context *ctx)
{
    return ctx->in_step ? &ctx->batch : NULL;
}

void fbi_skipped(const fb_batch_info *at, int64_t n, const char *why, ...)
{
    char text[256], times[48] = "";
    if (n & (n - 1))
        return;
    va_list args;
    va_start(args, why);
    vsnprintf(text, sizeof text, why, args);
    va_end(args);
    if (n > 1)
        snprintf(times, sizeof times, " (%lld skipped so far)", (long long)n);
    if (at)
        fbi_logline("optim_step: epoch %lld, step %lld: %s; the step is skipped%s",
                    (long long)at->epoch, (long long)at->step, text, times);
    else
        fbi_logline("optim_step: %s; the step is skipped%s", text, times);
}
