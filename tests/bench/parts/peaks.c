#include "tests/bench/parts/peaks.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "tests/bench/parts/parts.h"

enum { HUGE_PAGE = 2 << 20 };
enum { SUMS = 12, TRIES = 5 }; /* as many sums hide the latency of two units */

/* --- multiply and add, in registers; equal sums would be one to the compiler --- */

#if defined(__x86_64__)
#include <immintrin.h>

static float fma_v2(int64_t n)
{
    __m128 sum[SUMS], m = _mm_set1_ps(0.999F), a = _mm_set1_ps(1e-3F);
    for (int k = 0; k < SUMS; k++)
        sum[k] = _mm_set1_ps((float)k);
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < SUMS; k++)
            sum[k] = _mm_add_ps(_mm_mul_ps(sum[k], m), a);
    for (int k = 1; k < SUMS; k++)
        sum[0] = _mm_add_ps(sum[0], sum[k]);
    return _mm_cvtss_f32(sum[0]);
}

__attribute__((target("avx2,fma"))) static float fma_v3(int64_t n)
{
    __m256 sum[SUMS], m = _mm256_set1_ps(0.999F), a = _mm256_set1_ps(1e-3F);
    for (int k = 0; k < SUMS; k++)
        sum[k] = _mm256_set1_ps((float)k);
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < SUMS; k++)
            sum[k] = _mm256_fmadd_ps(sum[k], m, a);
    for (int k = 1; k < SUMS; k++)
        sum[0] = _mm256_add_ps(sum[0], sum[k]);
    return _mm256_cvtss_f32(sum[0]);
}

__attribute__((target("avx512f"))) static float fma_v4(int64_t n)
{
    __m512 sum[SUMS], m = _mm512_set1_ps(0.999F), a = _mm512_set1_ps(1e-3F);
    for (int k = 0; k < SUMS; k++)
        sum[k] = _mm512_set1_ps((float)k);
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < SUMS; k++)
            sum[k] = _mm512_fmadd_ps(sum[k], m, a);
    for (int k = 1; k < SUMS; k++)
        sum[0] = _mm512_add_ps(sum[0], sum[k]);
    return _mm512_cvtss_f32(sum[0]);
}

static bool has(int level)
{
    __builtin_cpu_init();
    return level == 2 || (level == 3 && __builtin_cpu_supports("avx2")) ||
           (level == 4 && __builtin_cpu_supports("avx512f"));
}
#else
static float plain(int64_t n)
{
    float sum[SUMS];
    for (int k = 0; k < SUMS; k++)
        sum[k] = (float)k;
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < SUMS; k++)
            sum[k] = sum[k] * 0.999F + 1e-3F;
    return sum[0] + sum[SUMS - 1];
}

static float (*const fma_v2)(int64_t) = plain, (*const fma_v3)(int64_t) = plain,
                     (*const fma_v4)(int64_t) = plain;

static bool has(int level)
{
    return level == 2;
}
#endif

double peak_fma(int level, int threads)
{
    float (*const loops[])(int64_t) = {fma_v2, fma_v3, fma_v4};
    static const int lanes[] = {4, 8, 16};
    const int64_t n = 4 << 20;
    if (!has(level))
        return 0;
    double best = 0;
    for (int try = 0; try < TRIES; try++) {
        volatile float sink = 0;
        double begun = bench_now();
#pragma omp parallel num_threads(threads)
        {
            float sum = loops[level - 2](n);
#pragma omp critical
            sink += sum;
        }
        double took = bench_now() - begun;
        double speed = 2.0 * lanes[level - 2] * SUMS * (double)n * threads / took * 1e-9;
        best = speed > best ? speed : best;
    }
    return best;
}

/* --- a = b + s c --- */

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target_clones("default", "avx2", "avx512f")))
#endif
static void
triad(float *restrict a, const float *restrict b, const float *restrict c, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        a[i] = b[i] + 0.5F * c[i];
}

/* The same, past the caches. */
static void triad_past(float *a, const float *b, const float *c, int64_t n)
{
#if defined(__x86_64__)
    const __m128 half = _mm_set1_ps(0.5F);
    for (int64_t i = 0; i + 4 <= n; i += 4)
        _mm_stream_ps(a + i, _mm_add_ps(_mm_load_ps(b + i), _mm_mul_ps(half, _mm_load_ps(c + i))));
    _mm_sfence();
#else
    triad(a, b, c, n);
#endif
}

typedef void (*triad_fn)(float *, const float *, const float *, int64_t);

static double triad_speed(float *data, int64_t n, int threads, triad_fn fn)
{
    int64_t times = 1 + (16 << 20) / n;
    double best = 0;
    for (int try = 0; try <= TRIES; try++) {
        double begun = bench_now();
#pragma omp parallel for schedule(static, 1) num_threads(threads)
        for (int t = 0; t < threads; t++)
            for (int64_t i = 0; i < times; i++)
                fn(data + 3 * t * n, data + (3 * t + 1) * n, data + (3 * t + 2) * n, n);
        double took = bench_now() - begun;
        double speed = 12.0 * (double)(n * times) * threads / took * 1e-9;
        best = try && speed > best ? speed : best;
    }
    return best;
}

double peak_stream(size_t bytes, int threads)
{
    int64_t n = (int64_t)(bytes / 3 / sizeof(float)) / 16 * 16;
    size_t whole =
        (3 * (size_t)(n * threads) * sizeof(float) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    float *data = aligned_alloc(HUGE_PAGE, whole);
    if (!data)
        return 0;
    madvise(data, whole, MADV_HUGEPAGE);
    /* Each thread writes its own first: that is where the pages are. */
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int t = 0; t < threads; t++)
        for (int64_t i = 0; i < 3 * n; i++)
            data[3 * t * n + i] = 1;
    double plain = triad_speed(data, n, threads, triad);
    double past = triad_speed(data, n, threads, triad_past);
    free(data);
    return plain > past ? plain : past;
}
