/* The one-dimensional transforms of Winograd's convolutions, on vectors of channels. */
#ifndef FLAMBEAU_CORE_CPU_WINOGRAD_TILE_PRIV_H
#define FLAMBEAU_CORE_CPU_WINOGRAD_TILE_PRIV_H

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "core/cpu/winograd_priv.h"

#define FBI_WINO static inline __attribute__((always_inline))

/* --- F(4, 3) at the points 0, 1, -1, 2, -2 and infinity --- */

/* B^T d: six inputs */
FBI_WINO void fbi_wino_bt(const fbi_wv *d, fbi_wv *r)
{
    fbi_wv a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
    r[0] = 4 * d[0] - 5 * d[2] + d[4];
    r[1] = a + b;
    r[2] = a - b;
    r[3] = c + e;
    r[4] = c - e;
    r[5] = 4 * d[1] - 5 * d[3] + d[5];
}

/* A^T m: four results */
FBI_WINO void fbi_wino_at(const fbi_wv *m, fbi_wv *r)
{
    fbi_wv a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    r[0] = m[0] + a + c;
    r[1] = b + 2 * e;
    r[2] = a + 4 * c;
    r[3] = b + 8 * e + m[5];
}

/* A y: four gradients of results */
FBI_WINO void fbi_wino_a(const fbi_wv *y, fbi_wv *r)
{
    fbi_wv a = y[0] + y[2], b = y[1] + y[3], c = y[0] + 4 * y[2], e = 2 * y[1] + 8 * y[3];
    r[0] = y[0];
    r[1] = a + b;
    r[2] = a - b;
    r[3] = c + e;
    r[4] = c - e;
    r[5] = y[3];
}

/* G g: three weights */
FBI_WINO void fbi_wino_g(const fbi_wv *g, fbi_wv *r)
{
    fbi_wv a = (g[0] + g[2]) * (1 / 6.f), b = g[1] * (1 / 6.f);
    fbi_wv c = (g[0] + 4 * g[2]) * (1 / 24.f), e = g[1] * (1 / 12.f);
    r[0] = 0.25f * g[0];
    r[1] = -a - b;
    r[2] = b - a;
    r[3] = c + e;
    r[4] = c - e;
    r[5] = g[2];
}

/* G^T u: three gradients of weights */
FBI_WINO void fbi_wino_gt(const fbi_wv *u, fbi_wv *r)
{
    fbi_wv a = u[1] + u[2], b = u[2] - u[1], c = u[3] + u[4], e = u[3] - u[4];
    r[0] = 0.25f * u[0] - (1 / 6.f) * a + (1 / 24.f) * c;
    r[1] = (1 / 6.f) * b + (1 / 12.f) * e;
    r[2] = (1 / 6.f) * (c - a) + u[5];
}

/* --- stride 2: F(4, 2) of the outer taps at the points 0, 1, -1, 2 and infinity, then 4 points of
 * the middle one --- */

FBI_WINO void fbi_wino_bt2(const fbi_wv d0, const fbi_wv d1, const fbi_wv d2, const fbi_wv d3,
                           const fbi_wv d4, fbi_wv *r)
{
    fbi_wv c = d3 - d1;
    r[0] = 2 * (d0 - d2) + c;
    r[1] = c - d1 - d2;
    r[2] = c + 3 * (d1 - d2);
    r[3] = c;
    r[4] = d4 - d2 - 2 * c;
}

FBI_WINO void fbi_wino_at2(const fbi_wv *m, fbi_wv *r)
{
    fbi_wv a = m[1] + m[2], b = m[1] - m[2];
    r[0] = m[0] + a + m[3];
    r[1] = b + 2 * m[3];
    r[2] = a + 4 * m[3];
    r[3] = b + 8 * m[3] + m[4];
}

/* Nine inputs: the outer taps read the even ones. */
FBI_WINO void fbi_wino_bt_halved(const fbi_wv *d, fbi_wv *r)
{
    fbi_wino_bt2(d[0], d[2], d[4], d[6], d[8], r);
    for (int i = 0; i < 4; i++)
        r[5 + i] = d[2 * i + 1];
}

/* Four results */
FBI_WINO void fbi_wino_at_halved(const fbi_wv *m, fbi_wv *r)
{
    fbi_wino_at2(m, r);
    for (int i = 0; i < 4; i++)
        r[i] += m[5 + i];
}

/* Five gradients of results, for those of the inputs */
FBI_WINO void fbi_wino_bt_doubled(const fbi_wv *d, fbi_wv *r)
{
    fbi_wino_bt2(d[0], d[1], d[2], d[3], d[4], r);
    for (int i = 0; i < 4; i++)
        r[5 + i] = d[i];
}

/* Eight gradients of inputs: the middle tap's are the even ones. */
FBI_WINO void fbi_wino_at_doubled(const fbi_wv *m, fbi_wv *r)
{
    fbi_wv y[4];
    fbi_wino_at2(m, y);
    for (int i = 0; i < 4; i++) {
        r[2 * i] = m[5 + i];
        r[2 * i + 1] = y[i];
    }
}

/* Four gradients of results, for the weights' */
FBI_WINO void fbi_wino_a_halved(const fbi_wv *y, fbi_wv *r)
{
    fbi_wv a = y[0] + y[2], b = y[1] + y[3];
    r[0] = y[0];
    r[1] = a + b;
    r[2] = a - b;
    r[3] = y[0] + 4 * y[2] + (2 * y[1] + 8 * y[3]);
    r[4] = y[3];
    for (int i = 0; i < 4; i++)
        r[5 + i] = y[i];
}

FBI_WINO void fbi_wino_g_halved(const fbi_wv *g, fbi_wv *r)
{
    r[0] = 0.5f * g[0];
    r[1] = -0.5f * (g[0] + g[2]);
    r[2] = (1 / 6.f) * (g[2] - g[0]);
    r[3] = (1 / 6.f) * (g[0] + 2 * g[2]);
    r[4] = g[2];
    r[5] = g[1];
}

FBI_WINO void fbi_wino_gt_halved(const fbi_wv *u, fbi_wv *r)
{
    r[0] = 0.5f * (u[0] - u[1]) + (1 / 6.f) * (u[3] - u[2]);
    r[1] = u[5];
    r[2] = (1 / 6.f) * u[2] - 0.5f * u[1] + (1 / 3.f) * u[3] + u[4];
}

/* n of the vector's lanes, the others 0. */
static inline fbi_wv fbi_wino_load(const float *from, int64_t n)
{
    fbi_wv v = {0};
    if (n >= FBI_WINO_LANES)
        memcpy(&v, from, sizeof v);
    else if (n > 0)
        memcpy(&v, from, (size_t)n * sizeof(float));
    return v;
}

/* In place: lane j of row i becomes lane i of row j. */
FBI_WINO void fbi_wino_transpose(fbi_wv v[FBI_WINO_LANES])
{
    typedef int32_t lanes __attribute__((vector_size(4 * FBI_WINO_LANES)));
    lanes lane;
    for (int l = 0; l < FBI_WINO_LANES; l++)
        lane[l] = l;
#pragma GCC unroll 4
    for (int s = 1; s < FBI_WINO_LANES; s *= 2) {
        lanes odd = (lane & s) != 0, other = lane + FBI_WINO_LANES;
        lanes low = (odd & (other - s)) | (~odd & lane), high = (odd & other) | (~odd & (lane + s));
#pragma GCC unroll 16
        for (int i = 0; i < FBI_WINO_LANES; i++) {
            fbi_wv a = v[i], b = v[i | s];
            v[i] = i & s ? a : __builtin_shuffle(a, b, low);
            v[i | s] = i & s ? b : __builtin_shuffle(a, b, high);
        }
    }
}

/* A vector to where it is aligned; streamed past the caches if other cores will read it, as its
 * lines are still theirs from the last time and slow to take back, or if it is much. */
static inline void fbi_wino_put(float *to, fbi_wv v, bool streamed)
{
#if defined(__AVX512F__) /* a whole line */
    if (streamed) {
        _mm512_stream_ps(to, (__m512)v);
        return;
    }
#endif
    (void)streamed;
    memcpy(to, &v, sizeof v);
}

static inline void fbi_wino_store(float *to, fbi_wv v, int64_t n)
{
    if (n >= FBI_WINO_LANES)
        memcpy(to, &v, sizeof v);
    else if (n > 0)
        memcpy(to, &v, (size_t)n * sizeof(float));
}

#endif
