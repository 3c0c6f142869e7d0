/* The one-dimensional transforms of F(4, 3) at the points 0, 1, -1, 2, -2 and infinity, on vectors
 * of channels. */
#ifndef FLAMBEAU_CORE_CPU_WINOGRAD_TILE_PRIV_H
#define FLAMBEAU_CORE_CPU_WINOGRAD_TILE_PRIV_H

#include "core/cpu/winograd_priv.h"

#define FBI_WINO static inline __attribute__((always_inline))

/* B^T d: six inputs */
FBI_WINO void fbi_wino_bt(const fbi_wv d[6], fbi_wv r[6])
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
FBI_WINO void fbi_wino_at(const fbi_wv m[6], fbi_wv r[4])
{
    fbi_wv a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    r[0] = m[0] + a + c;
    r[1] = b + 2 * e;
    r[2] = a + 4 * c;
    r[3] = b + 8 * e + m[5];
}

/* A y: four gradients of results */
FBI_WINO void fbi_wino_a(const fbi_wv y[4], fbi_wv r[6])
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
FBI_WINO void fbi_wino_g(const fbi_wv g[3], fbi_wv r[6])
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
FBI_WINO void fbi_wino_gt(const fbi_wv u[6], fbi_wv r[3])
{
    fbi_wv a = u[1] + u[2], b = u[2] - u[1], c = u[3] + u[4], e = u[3] - u[4];
    r[0] = 0.25f * u[0] - (1 / 6.f) * a + (1 / 24.f) * c;
    r[1] = (1 / 6.f) * b + (1 / 12.f) * e;
    r[2] = (1 / 6.f) * (c - a) + u[5];
}

#endif
