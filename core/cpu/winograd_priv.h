/* Winograd's F(4x4, 3x3): 3 x 3 convolutions with stride 1 by a quarter of the multiplications.
 *
 * Images are cut into tiles of 4 x 4 results, each from 6 x 6 inputs. In the transformed domain a
 * convolution is 36 matrix products of tiles x channels. Lavin, Gray: arXiv:1509.09308.
 *
 * Sums run over channels (forward, data) or tiles (weight) in an order that only the sizes decide:
 * the bits do not depend on the number of threads, nor on v3 or v4; v2 has no fused multiply-add.
 * The largest errors are up to 10 times those of a plain sum in F32: 6e-5 of the root mean square
 * of the results for 256 channels, 2e-5 for 32. */
#ifndef FLAMBEAU_CORE_CPU_WINOGRAD_PRIV_H
#define FLAMBEAU_CORE_CPU_WINOGRAD_PRIV_H

#include <string.h>

#include "core/cpu/dnn_priv.h"
#include "core/cpu/kernels_isa.h"

/* The vectors of this instruction set, and the largest tile of a product that its registers hold:
 * FBI_WINO_ROWS rows, or FBI_WINO_FEW where both operands move, of two vectors. */
#if defined(__AVX512F__)
enum { FBI_WINO_LANES = 16, FBI_WINO_ROWS = 14, FBI_WINO_FEW = 8 };
#elif defined(__AVX__)
enum { FBI_WINO_LANES = 8, FBI_WINO_ROWS = 6, FBI_WINO_FEW = 4 };
#else
enum { FBI_WINO_LANES = 4, FBI_WINO_ROWS = 6, FBI_WINO_FEW = 4 };
#endif
enum { FBI_WINO_WIDE = 2 * FBI_WINO_LANES, FBI_WINO_POINTS = 36 };

typedef float fbi_wv __attribute__((vector_size(4 * FBI_WINO_LANES), aligned(4), may_alias));
#define FBI_WINO_ALIGNED __attribute__((aligned(64)))

/* Forward and data as fbi_dnn_conv, for what fbi_wino_takes; src: what is read. */
fb_status FBI_K(fbi_wino_images)(const fbi_call *c, fbi_conv_kind kind, const fbi_conv *p,
                                 const float *src, const float *weight, const float *bias,
                                 float *dst);
fb_status FBI_K(fbi_wino_weight)(const fbi_call *c, const fbi_conv *p, const float *src,
                                 const float *grad, float *weight, bool add);
#define fbi_wino_images FBI_K(fbi_wino_images)
#define fbi_wino_weight FBI_K(fbi_wino_weight)

/* out[m][WIDE] = sum over j < panels * LANES of a[j / LANES][m][j % LANES] * b[j][WIDE], m < rows.
 */
void FBI_K(fbi_wino_rows)(int rows, int64_t panels, const float *a, int64_t panel, const float *b,
                          float *out);
/* out[m][WIDE] (+)= sum over t < n of a[t][LANES][m] * b[t][WIDE], m < FEW. */
void FBI_K(fbi_wino_outer)(int64_t n, const float *a, const float *b, float *out, bool add);
#define fbi_wino_rows  FBI_K(fbi_wino_rows)
#define fbi_wino_outer FBI_K(fbi_wino_outer)

static inline int64_t fbi_wino_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* In multiply-adds: the products, transforms of tiles and weights (as many as take their time),
 * against a plain sum at 4/5 of the products' speed. Measured on a Zen 4 core. */
static inline bool fbi_wino_takes(const fbi_call *c, const fbi_conv *p)
{
    if (c->ctx->exact_conv || p->dtype != FB_F32 || p->groups != 1 || p->kh != 3 || p->kw != 3 ||
        p->stride[0] != 1 || p->stride[1] != 1 || p->dilation[0] != 1 || p->dilation[1] != 1 ||
        p->padding[0] > 2 || p->padding[1] > 2)
        return false;
    double tiles = (double)p->n * (double)((p->oh + 3) / 4) * (double)((p->ow + 3) / 4);
    double pairs = (double)p->c * (double)p->k, both = (double)(p->c + p->k);
    double plain = 9 * pairs * (double)(p->n * p->oh * p->ow) * 1.25;
    return FBI_WINO_POINTS * tiles * pairs + 800 * (tiles * both + pairs) < plain;
}

/* Tiles of the images [n, h, w, c] -> [n, oh, ow, k]. */
typedef struct fbi_wino_grid {
    int64_t c, h, w, oh, ow, ph, pw, down, across, tiles;
} fbi_wino_grid;

static inline fbi_wino_grid fbi_wino_grid_of(int64_t n, int64_t c, int64_t h, int64_t w, int64_t oh,
                                             int64_t ow, int64_t ph, int64_t pw)
{
    fbi_wino_grid g = {.c = c, .h = h, .w = w, .oh = oh, .ow = ow, .ph = ph, .pw = pw};
    g.down = (oh + 3) / 4;
    g.across = (ow + 3) / 4;
    g.tiles = n * g.down * g.across;
    return g;
}

/* Pixels of images [h, w] from a tile's corner to the next one's: what a tile prefetches. */
static inline int64_t fbi_wino_ahead(const fbi_wino_grid *g, int64_t tile, int64_t h, int64_t w)
{
    if ((tile + 1) % g->across)
        return 4;
    int64_t back = 4 * (g->across - 1);
    return (tile + 1) % (g->down * g->across) ? 4 * w - back : (h - 4 * (g->down - 1)) * w - back;
}

/* The 6 x 6 inputs of a tile, transformed: point q of channel panel j goes to
 * to[q * point + j * panel], LANES floats each; channels past c are 0. */
void FBI_K(fbi_wino_take)(const fbi_wino_grid *g, const float *src, int64_t tile, float *to,
                          int64_t point, int64_t panel);
#define fbi_wino_take FBI_K(fbi_wino_take)

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

static inline void fbi_wino_store(float *to, fbi_wv v, int64_t n)
{
    if (n >= FBI_WINO_LANES)
        memcpy(to, &v, sizeof v);
    else if (n > 0)
        memcpy(to, &v, (size_t)n * sizeof(float));
}

#endif
