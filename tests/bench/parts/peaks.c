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

/* --- streams --- */

typedef void (*stream_fn)(float *const *a, int64_t n);

#if defined(__x86_64__) && defined(__GNUC__)
#define EACH_LEVEL __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define EACH_LEVEL
#endif

EACH_LEVEL static void triad(float *const *a, int64_t n)
{
    float *restrict to = a[0];
    const float *b = a[1], *c = a[2];
    for (int64_t i = 0; i < n; i++)
        to[i] = b[i] + 0.5F * c[i];
}

EACH_LEVEL static void copy(float *const *a, int64_t n)
{
    float *restrict to = a[0];
    const float *b = a[1];
    for (int64_t i = 0; i < n; i++)
        to[i] = 0.5F * b[i];
}

EACH_LEVEL static void update2(float *const *a, int64_t n)
{
    float *restrict p = a[0], *restrict m = a[1];
    const float *g = a[3];
    for (int64_t i = 0; i < n; i++) {
        m[i] = 0.5F * m[i] + g[i];
        p[i] -= 0.5F * m[i];
    }
}

EACH_LEVEL static void update3(float *const *a, int64_t n)
{
    float *restrict p = a[0], *restrict m = a[1], *restrict v = a[2];
    const float *g = a[3];
    for (int64_t i = 0; i < n; i++) {
        m[i] = 0.5F * m[i] + g[i];
        v[i] = 0.5F * v[i] + g[i];
        p[i] -= 0.5F * (m[i] + v[i]);
    }
}

/* The first two, past the caches. */
#if defined(__x86_64__)
static void triad_past(float *const *a, int64_t n)
{
    const __m128 half = _mm_set1_ps(0.5F);
    for (int64_t i = 0; i + 4 <= n; i += 4)
        _mm_stream_ps(a[0] + i,
                      _mm_add_ps(_mm_load_ps(a[1] + i), _mm_mul_ps(half, _mm_load_ps(a[2] + i))));
    _mm_sfence();
}

static void copy_past(float *const *a, int64_t n)
{
    const __m128 half = _mm_set1_ps(0.5F);
    for (int64_t i = 0; i + 4 <= n; i += 4)
        _mm_stream_ps(a[0] + i, _mm_mul_ps(half, _mm_load_ps(a[1] + i)));
    _mm_sfence();
}
#else
static stream_fn const triad_past = triad, copy_past = copy;
#endif

static const struct {
    int arrays; /* that are read or written; twice if both */
    stream_fn loop, past;
} streams[] = {[PEAK_TRIAD] = {3, triad, triad_past},
               [PEAK_COPY] = {2, copy, copy_past},
               [PEAK_UPDATE2] = {5, update2, update2},
               [PEAK_UPDATE3] = {7, update3, update3}};

static double speed_of(const peak_room *r, peak_stream_kind kind, stream_fn fn, int64_t times)
{
    double begun = bench_now();
#pragma omp parallel for schedule(static, 1) num_threads(r->threads)
    for (int t = 0; t < r->threads; t++) {
        float *a[PEAK_ARRAYS];
        for (int k = 0; k < PEAK_ARRAYS; k++)
            a[k] = r->data + (t * PEAK_ARRAYS + k) * r->n;
        for (int64_t i = 0; i < times; i++)
            fn(a, r->n);
    }
    double took = bench_now() - begun;
    return (double)sizeof(float) * streams[kind].arrays * (double)(r->n * times) * r->threads /
           took * 1e-9;
}

bool peak_room_open(peak_room *r, size_t bytes, int threads)
{
    *r = (peak_room){.n = (int64_t)(bytes / sizeof(float)) / 16 * 16, .threads = threads};
    int64_t each = PEAK_ARRAYS * r->n;
    size_t whole = (size_t)(each * threads) * sizeof(float);
    whole = (whole + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    r->data = aligned_alloc(HUGE_PAGE, whole);
    if (!r->data)
        return false;
    madvise(r->data, whole, MADV_HUGEPAGE);
    /* Each thread writes its own first: that is where the pages are. */
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int t = 0; t < threads; t++)
        for (int64_t i = 0; i < each; i++)
            r->data[t * each + i] = 1;
    return true;
}

void peak_room_close(peak_room *r)
{
    free(r->data);
    r->data = NULL;
}

double peak_room_speed(const peak_room *r, peak_stream_kind kind)
{
    int64_t times = 1 + (4 << 20) / r->n;
    double plain = speed_of(r, kind, streams[kind].loop, times);
    double past = speed_of(r, kind, streams[kind].past, times);
    return plain > past ? plain : past;
}

double peak_stream(size_t bytes, int threads)
{
    peak_room r;
    if (!peak_room_open(&r, bytes / 3, threads))
        return 0;
    double best = 0;
    for (int try = 0; try <= TRIES; try++) {
        double speed = peak_room_speed(&r, PEAK_TRIAD);
        best = try && speed > best ? speed : best;
    }
    peak_room_close(&r);
    return best;
}
