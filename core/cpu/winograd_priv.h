/* Winograd's F(4x4, 3x3): 3 x 3 convolutions by a quarter of the multiplications.
 *
 * Images are cut into tiles of 4 x 4 results. In the transformed domain a convolution is a matrix
 * product of tiles x channels for each point. Lavin, Gray: arXiv:1509.09308. With stride 1 a tile
 * is made from 6 x 6 inputs, transformed to 36 points. With stride 2 (and padding 1) it is made
 * from 9 x 9: in each direction the inputs of the outer taps, two of three, go through F(4, 2), 5
 * points, and those of the middle tap are taken as they are, 4 points. So there are 81 products
 * for 16 results instead of 144, with 36 transformed weights, as one tap has one for all its
 * points.
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
enum { FBI_WINO_WIDE = 2 * FBI_WINO_LANES };
enum { FBI_WINO_WEIGHTS = 36 }; /* transformed weights of a pair of channels */

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

/* Points of a tile: of one direction squared. */
static inline int64_t fbi_wino_points(const fbi_conv *p)
{
    return p->stride[0] == 1 ? 36 : 81;
}

/* The weight that a point's product has. */
static inline int64_t fbi_wino_weight_of(int64_t points, int64_t point)
{
    int64_t i = point / 9, j = point % 9;
    return points == 36 ? point : (i < 5 ? i : 5) * 6 + (j < 5 ? j : 5);
}

/* In multiply-adds: the products, transforms of tiles and weights (as many as take their time),
 * against a plain sum at 4/5 of the products' speed. Measured on a Zen 4 core. */
static inline bool fbi_wino_takes(const fbi_call *c, const fbi_conv *p)
{
    int64_t s = p->stride[0], most = s == 1 ? 2 : 1, least = s == 1 ? 0 : 1;
    if (c->ctx->exact_conv || p->dtype != FB_F32 || p->groups != 1 || p->kh != 3 || p->kw != 3 ||
        s > 2 || p->stride[1] != s || p->dilation[0] != 1 || p->dilation[1] != 1)
        return false;
    for (int i = 0; i < 2; i++)
        if (p->padding[i] < least || p->padding[i] > most)
            return false;
    double tiles = (double)p->n * (double)((p->oh + 3) / 4) * (double)((p->ow + 3) / 4);
    double pairs = (double)p->c * (double)p->k, both = (double)(p->c + p->k);
    double plain = 9 * pairs * (double)(p->n * p->oh * p->ow) * 1.25;
    double points = (double)fbi_wino_points(p);
    return points * tiles * pairs + 22 * points * tiles * both + 800 * pairs < plain;
}

/* What is transformed to points, the size of its tiles, and their distance. */
typedef enum fbi_wino_source {
    FBI_WINO_INPUT,           /* 6 x 6, 4 */
    FBI_WINO_GRADIENT,        /* 4 x 4, 4: for the weight's gradient */
    FBI_WINO_INPUT_HALVED,    /* with stride 2: 9 x 9, 8 */
    FBI_WINO_GRADIENT_HALVED, /* 4 x 4, 4: for the weight's gradient */
    FBI_WINO_DOUBLED          /* 5 x 5, 4: for the data's gradient */
} fbi_wino_source;

/* Images [n, h, w, c] and their tiles; the first one begins at (-ph, -pw). */
typedef struct fbi_wino_tiles {
    fbi_wino_source source;
    const float *from;
    int64_t c, h, w, ph, pw, down, across;
    bool shared; /* several threads will read the points: fbi_stream_end when they are made */
} fbi_wino_tiles;

/* A tile transformed: point q of channel j goes to to[q * point + j / width * panel + j % width];
 * channels from c up to a multiple of `width` are 0. */
void FBI_K(fbi_wino_take)(const fbi_wino_tiles *t, int64_t tile, float *to, int64_t point,
                          int64_t panel, int64_t width);
#define fbi_wino_take FBI_K(fbi_wino_take)

/* Where products become images [n, h, w, c]: tiles of `size` results in each direction, 4, or 8
 * (the data's gradient with stride 2). */
typedef struct fbi_wino_results {
    float *to;
    const float *bias; /* NULL: none */
    int64_t c, h, w, down, across, points, size;
    bool relu;     /* results that are not above 0 become 0 */
    bool streamed; /* past the caches: whole vectors, aligned; fbi_stream_end when all are made */
} fbi_wino_results;

/* WIDE channels from c0 on of a tile: point q is at m[q * point]. */
void FBI_K(fbi_wino_give)(const fbi_wino_results *r, int64_t tile, int64_t c0, const float *m,
                          int64_t point);
#define fbi_wino_give FBI_K(fbi_wino_give)

/* Weights between memory and points. Channel c's tap i with channel k is at
 * w[c * step_c + k * step_k + i]. */
typedef struct fbi_wino_weights {
    const float *from;
    float *to;
    int64_t c, k, step_c, step_k, points;
    bool turned; /* taps in reverse, step_k is 9; otherwise step_c is */
    bool add;    /* to what is there */
    bool shared; /* as that of tiles */
} fbi_wino_weights;

/* LANES channels from c0 on with WIDE channels from k0 on: u[q * point + (c - c0) * WIDE + k - k0],
 * 0 where there are none. */
void FBI_K(fbi_wino_forth)(const fbi_wino_weights *w, int64_t c0, int64_t k0, float *u,
                           int64_t point);
/* The same way back, of gradients, not turned. */
void FBI_K(fbi_wino_back)(const fbi_wino_weights *w, int64_t c0, int64_t k0, const float *u,
                          int64_t point);
#define fbi_wino_forth FBI_K(fbi_wino_forth)
#define fbi_wino_back  FBI_K(fbi_wino_back)

#endif
