/* The products of Winograd convolutions. This file alone is compiled with contraction: s += x * b
 * is one fused multiply-add where the processor has it, 99 % of a Zen 4 core's peak for 512
 * channels and 92 % for 64. */
#include "core/cpu/winograd_priv.h"

enum { L = FBI_WINO_LANES, W = FBI_WINO_WIDE };
enum { AHEAD = 4 }; /* panels: rows of a are too short for the processor to guess the next ones */

static inline fbi_wv at(const float *p)
{
    return *(const fbi_wv *)(const void *)p;
}

static inline void put(float *p, fbi_wv v)
{
    *(fbi_wv *)(void *)p = v;
}

/* All loops over rows are unrolled, so that s lives in registers. */
static inline __attribute__((always_inline)) void
rows_of(const int rows, int64_t panels, const float *a, int64_t panel, const float *b, float *out)
{
    fbi_wv s[FBI_WINO_ROWS][2];
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++)
        s[m][0] = s[m][1] = (fbi_wv){0};
    for (int64_t j = 0; j < panels; j++, a += panel) {
#pragma GCC unroll 16
        for (int m = 0; m < rows; m++)
            __builtin_prefetch(a + AHEAD * panel + m * L);
#pragma GCC unroll 4 /* see UNROLL in gemm_fused.c */
        for (int64_t l = 0; l < L; l++, b += W) {
            fbi_wv b0 = at(b), b1 = at(b + L);
#pragma GCC unroll 16
            for (int m = 0; m < rows; m++) {
                float x = a[m * L + l];
                s[m][0] += x * b0;
                s[m][1] += x * b1;
            }
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++) {
        put(out + m * W, s[m][0]);
        put(out + m * W + L, s[m][1]);
    }
}

void fbi_wino_rows(int rows, int64_t panels, const float *a, int64_t panel, const float *b,
                   float *out)
{
    switch (rows) {
#define ROWS(n)                               \
    case n:                                   \
        rows_of(n, panels, a, panel, b, out); \
        break;
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
        ROWS(5)
        ROWS(6)
#if defined(__AVX512F__)
        ROWS(7)
        ROWS(8)
        ROWS(9)
        ROWS(10)
        ROWS(11)
        ROWS(12)
        ROWS(13)
        ROWS(14)
#endif
    }
}

void fbi_wino_outer(int64_t n, const float *a, const float *b, float *out, bool add)
{
    enum { M = FBI_WINO_FEW };
    fbi_wv s[M][2];
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
        s[m][0] = s[m][1] = (fbi_wv){0};
#pragma GCC unroll 4
    for (int64_t t = 0; t < n; t++, a += L, b += W) {
        fbi_wv b0 = at(b), b1 = at(b + L);
#pragma GCC unroll 16
        for (int m = 0; m < M; m++) {
            s[m][0] += a[m] * b0;
            s[m][1] += a[m] * b1;
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; m++)
        for (int h = 0; h < 2; h++) {
            float *o = out + m * W + h * L;
            if (add)
                s[m][h] += at(o);
            put(o, s[m][h]);
        }
}
