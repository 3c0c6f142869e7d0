/* Winograd convolutions of images, forward and to the data's gradient, which is the same with the
 * weight's taps reversed and its channels exchanged.
 *
 * Tiles are worked on in blocks, result channels in panels of WIDE. Of the transformed inputs and
 * weights the smaller one is made first, as a whole; the larger one is made part by part, where it
 * is used, so that it never leaves the cache. */
#include <stdlib.h>

#include "core/cpu/dense_priv.h"
#include "core/cpu/winograd_tile_priv.h"

enum { L = FBI_WINO_LANES, W = FBI_WINO_WIDE, POINTS = FBI_WINO_POINTS };

typedef struct job {
    fbi_wino_grid g;
    int64_t k;                 /* result channels */
    int64_t panels;            /* of LANES input channels */
    int64_t wides;             /* of WIDE result channels */
    int64_t block, blocks;     /* tiles of a block, blocks */
    int64_t from_in, from_out; /* strides of the weight's channels */
    bool turned;               /* taps in reverse */
    bool tiles_first;          /* the inputs are transformed as a whole */
    const float *src, *weight, *bias;
    float *dst, *first;
} job;

/* --- inputs --- */

/* One panel of channels, n of them; `inside`: no input is beyond the border; `full`: n >= LANES;
 * ahead: to the next tile. */
FBI_WINO void take_panel(const fbi_wino_grid *g, const float *image, int64_t y0, int64_t x0,
                         int64_t n, const bool inside, const bool full, int64_t ahead, float *to,
                         int64_t point)
{
    FBI_WINO_ALIGNED fbi_wv t[6][6];
    for (int j = 0; j < 6; j++) {
        fbi_wv d[6], r[6];
        for (int i = 0; i < 6; i++) {
            int64_t y = y0 + i, x = x0 + j;
            if (inside || (y >= 0 && y < g->h && x >= 0 && x < g->w)) {
                __builtin_prefetch(image + (y * g->w + x) * g->c + ahead);
                d[i] = fbi_wino_load(image + (y * g->w + x) * g->c, full ? L : n);
            } else
                d[i] = (fbi_wv){0};
        }
        fbi_wino_bt(d, r);
        for (int i = 0; i < 6; i++)
            t[i][j] = r[i];
    }
    for (int i = 0; i < 6; i++) {
        fbi_wv r[6];
        fbi_wino_bt(t[i], r);
        for (int j = 0; j < 6; j++)
            fbi_wino_store(to + (i * 6 + j) * point, r[j], L);
    }
}

void fbi_wino_take(const fbi_wino_grid *g, const float *src, int64_t tile, float *to, int64_t point,
                   int64_t panel)
{
    int64_t per = g->down * g->across, y0 = tile % per / g->across * 4 - g->ph;
    int64_t x0 = tile % g->across * 4 - g->pw, c = 0;
    const float *image = src + tile / per * g->h * g->w * g->c;
    bool inside = y0 >= 0 && y0 + 6 <= g->h && x0 >= 0 && x0 + 6 <= g->w;
    int64_t ahead = fbi_wino_ahead(g, tile, g->h, g->w) * g->c;
    for (; c + L <= g->c; c += L, to += panel)
        if (inside)
            take_panel(g, image + c, y0, x0, L, true, true, ahead, to, point);
        else
            take_panel(g, image + c, y0, x0, L, false, true, ahead, to, point);
    if (c < g->c)
        take_panel(g, image + c, y0, x0, g->c - c, false, false, ahead, to, point);
}

/* Floats from one point to the next: a vector more than needed, as powers of two would make the 36
 * points meet in the same lines of the cache. */
static int64_t block_point(const job *q)
{
    return q->panels * q->block * L + L;
}

static int64_t wide_point(const job *q)
{
    return q->panels * L * W + L;
}

static int64_t block_size(const job *q)
{
    return POINTS * block_point(q);
}

static void take_block(const job *q, int64_t block, float *v)
{
    for (int64_t t = 0; t < q->block && block * q->block + t < q->g.tiles; t++)
        fbi_wino_take(&q->g, q->src, block * q->block + t, v + t * L, block_point(q), q->block * L);
}

static int64_t product_point(const job *q)
{
    return q->block * W + L;
}

/* --- weights: U[point][channel][WIDE] of a panel of result channels --- */

static int64_t wide_size(const job *q)
{
    return POINTS * wide_point(q);
}

static void take_wide(const job *q, int64_t wide, float *u)
{
    int64_t point = wide_point(q), n = q->k - wide * W < W ? q->k - wide * W : W;
    const float *w = q->weight + wide * W * q->from_out;
    FBI_WINO_ALIGNED float taps[9][W] = {{0}};
    for (int64_t c = 0; c < q->panels * L; c++) {
        if (c == q->g.c)
            memset(taps, 0, sizeof taps);
        for (int64_t k = 0; k < n && c < q->g.c; k++) {
            const float *f = w + k * q->from_out + c * q->from_in;
            for (int i = 0; i < 9; i++)
                taps[q->turned ? 8 - i : i][k] = f[i];
        }
        for (int h = 0; h < W; h += L) {
            FBI_WINO_ALIGNED fbi_wv t[6][3];
            for (int j = 0; j < 3; j++) {
                fbi_wv g[3], r[6];
                for (int i = 0; i < 3; i++)
                    g[i] = fbi_wino_load(taps[i * 3 + j] + h, L);
                fbi_wino_g(g, r);
                for (int i = 0; i < 6; i++)
                    t[i][j] = r[i];
            }
            for (int i = 0; i < 6; i++) {
                fbi_wv r[6];
                fbi_wino_g(t[i], r);
                for (int j = 0; j < 6; j++)
                    fbi_wino_store(u + (i * 6 + j) * point + c * W + h, r[j], L);
            }
        }
    }
}

/* --- results --- */

/* One panel of channels, n of them; `inside`: all 4 x 4 results are; `full`: n >= LANES. */
FBI_WINO void give_panel(const fbi_wino_grid *g, float *image, int64_t k, int64_t y0, int64_t x0,
                         int64_t n, const bool inside, const bool full, fbi_wv bias, const float *m,
                         int64_t point)
{
    FBI_WINO_ALIGNED fbi_wv t[4][6];
    for (int j = 0; j < 6; j++) {
        fbi_wv d[6], r[4];
        for (int i = 0; i < 6; i++)
            d[i] = fbi_wino_load(m + (i * 6 + j) * point, L);
        fbi_wino_at(d, r);
        for (int i = 0; i < 4; i++)
            t[i][j] = r[i];
    }
    for (int i = 0; i < 4; i++) {
        fbi_wv r[4];
        fbi_wino_at(t[i], r);
        for (int j = 0; j < 4; j++)
            if (inside || (y0 + i < g->oh && x0 + j < g->ow))
                fbi_wino_store(image + ((y0 + i) * g->ow + x0 + j) * k, r[j] + bias, full ? L : n);
    }
}

static void give_tile(const job *q, int64_t tile, int64_t k0, const float *m, int64_t point)
{
    const fbi_wino_grid *g = &q->g;
    int64_t per = g->down * g->across, y0 = tile % per / g->across * 4;
    int64_t x0 = tile % g->across * 4;
    float *image = q->dst + tile / per * g->oh * g->ow * q->k;
    bool inside = y0 + 4 <= g->oh && x0 + 4 <= g->ow;
    for (int64_t k = k0; k < k0 + W && k < q->k; k += L, m += L) {
        fbi_wv bias = q->bias ? fbi_wino_load(q->bias + k, q->k - k) : (fbi_wv){0};
        if (inside && k + L <= q->k)
            give_panel(g, image + k, q->k, y0, x0, L, true, true, bias, m, point);
        else if (k + L <= q->k)
            give_panel(g, image + k, q->k, y0, x0, L, false, true, bias, m, point);
        else
            give_panel(g, image + k, q->k, y0, x0, q->k - k, false, false, bias, m, point);
    }
}

/* A block of tiles times a panel of weights; m: POINTS * product_point floats of scratch. */
static void multiply(const job *q, int64_t block, int64_t wide, const float *v, const float *u,
                     float *m)
{
    int64_t t0 = block * q->block, n = q->g.tiles - t0 < q->block ? q->g.tiles - t0 : q->block;
    int64_t parts = (n + FBI_WINO_ROWS - 1) / FBI_WINO_ROWS;
    for (int64_t p = 0; p < POINTS; p++)
        for (int64_t i = 0; i < parts; i++) {
            int64_t a = n * i / parts, b = n * (i + 1) / parts;
            fbi_wino_rows((int)(b - a), q->panels, v + p * block_point(q) + a * L, q->block * L,
                          u + p * wide_point(q), m + p * product_point(q) + a * W);
        }
    for (int64_t t = 0; t < n; t++)
        give_tile(q, t0 + t, wide * W, m + t * W, product_point(q));
}

/* What a thread does with one part of the larger operand; scratch: the part, then products. */
static void part(const job *q, int64_t i, float *scratch)
{
    if (q->tiles_first) {
        float *m = scratch + wide_size(q);
        take_wide(q, i, scratch);
        for (int64_t b = 0; b < q->blocks; b++)
            multiply(q, b, i, q->first + b * block_size(q), scratch, m);
        return;
    }
    float *m = scratch + block_size(q);
    take_block(q, i, scratch);
    for (int64_t w = 0; w < q->wides; w++)
        multiply(q, i, w, scratch, q->first + w * wide_size(q), m);
}

static fb_status run(const fbi_call *c, job *q)
{
    int64_t firsts = q->tiles_first ? q->blocks : q->wides;
    int64_t parts = q->tiles_first ? q->wides : q->blocks;
    int64_t first = q->tiles_first ? block_size(q) : wide_size(q);
    int64_t own = (q->tiles_first ? wide_size(q) : block_size(q)) + POINTS * product_point(q);
    int threads = c->threads < parts ? c->threads : (int)parts;
    own = fbi_wino_up(own, 64);
    float *scratch = fbi_cpu_scratch(c, (size_t)(firsts * first + threads * own) * sizeof(float));
    if (!scratch)
        return c->ctx->status;
    int64_t next = 0;
    q->first = scratch + threads * own;
#pragma omp parallel for num_threads(c->threads) if (c->threads > 1) schedule(dynamic)
    for (int64_t i = 0; i < firsts; i++) {
        if (q->tiles_first)
            take_block(q, i, q->first + i * first);
        else
            take_wide(q, i, q->first + i * first);
    }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++)
        for (;;) {
            int64_t i;
#pragma omp atomic capture
            i = next++;
            if (i >= parts)
                break;
            part(q, i, scratch + t * own);
        }
    free(scratch);
    return FB_OK;
}

fb_status fbi_wino_images(const fbi_call *c, fbi_conv_kind kind, const fbi_conv *p,
                          const float *src, const float *weight, const float *bias, float *dst)
{
    enum { BLOCK = 4 * FBI_WINO_ROWS };
    bool data = kind == FBI_CONV_DATA;
    job q = {.src = src, .weight = weight, .bias = bias, .dst = dst, .turned = data};
    q.g =
        data ? fbi_wino_grid_of(p->n, p->k, p->oh, p->ow, p->h, p->w, 2 - p->padding[0],
                                2 - p->padding[1])
             : fbi_wino_grid_of(p->n, p->c, p->h, p->w, p->oh, p->ow, p->padding[0], p->padding[1]);
    q.k = data ? p->c : p->k;
    q.from_out = data ? 9 : 9 * p->c;
    q.from_in = data ? 9 * p->c : 9;
    q.panels = (q.g.c + L - 1) / L;
    q.wides = (q.k + W - 1) / W;
    q.block = q.g.tiles < BLOCK ? q.g.tiles : BLOCK;
    q.blocks = (q.g.tiles + q.block - 1) / q.block;
    q.tiles_first = q.g.tiles < q.k;
    return run(c, &q);
}
