/* Winograd convolutions of images, forward and to the data's gradient, which is the same with the
 * weight's taps reversed and its channels exchanged.
 *
 * Tiles are worked on in blocks, result channels in panels of WIDE. Of the transformed inputs and
 * weights the smaller one is made first, as a whole; the larger one is made part by part, where it
 * is used, so that it never leaves the cache. */
#include <stdlib.h>

#include "core/base/stream_priv.h"
#include "core/cpu/dense_priv.h"
#include "core/cpu/state_priv.h"
#include "core/cpu/winograd_priv.h"

enum { L = FBI_WINO_LANES, W = FBI_WINO_WIDE };

typedef struct job {
    fbi_wino_tiles in;
    fbi_wino_results out;
    int64_t tiles, points;
    int64_t panels;        /* of LANES input channels */
    int64_t wides;         /* of WIDE result channels */
    int64_t block, blocks; /* tiles of a block, blocks */
    bool tiles_first;      /* the inputs are transformed as a whole */
    fbi_wino_weights weight;
    float *first;
} job;

/* Floats from one point to the next: a vector more than needed, as powers of two would make the
 * points meet in the same lines of the cache. */
static int64_t block_point(const job *q)
{
    return q->panels * q->block * L + L;
}

static int64_t wide_point(const job *q)
{
    return q->panels * L * W + L;
}

static int64_t product_point(const job *q)
{
    return q->block * W + L;
}

static int64_t block_size(const job *q)
{
    return q->points * block_point(q);
}

static int64_t wide_size(const job *q)
{
    return FBI_WINO_WEIGHTS * wide_point(q);
}

/* A tile of a block at v. */
static void take_tile(const job *q, int64_t tile, float *v)
{
    fbi_wino_take(&q->in, tile, v + tile % q->block * L, block_point(q), q->block * L, L);
}

/* U[point][channel][WIDE] of a panel of result channels. */
static void take_wide(const job *q, int64_t wide, float *u)
{
    for (int64_t i = 0; i < q->panels; i++)
        fbi_wino_forth(&q->weight, i * L, wide * W, u + i * L * W, wide_point(q));
}

/* A block of tiles times a panel of weights; m: points * product_point floats of scratch. */
static void multiply(const job *q, int64_t block, int64_t wide, const float *v, const float *u,
                     float *m)
{
    int64_t t0 = block * q->block, n = q->tiles - t0 < q->block ? q->tiles - t0 : q->block;
    int64_t parts = (n + FBI_WINO_ROWS - 1) / FBI_WINO_ROWS;
    for (int64_t p = 0; p < q->points; p++)
        for (int64_t i = 0; i < parts; i++) {
            int64_t a = n * i / parts, b = n * (i + 1) / parts;
            fbi_wino_rows((int)(b - a), q->panels, v + p * block_point(q) + a * L, q->block * L,
                          u + fbi_wino_weight_of(q->points, p) * wide_point(q),
                          m + p * product_point(q) + a * W);
        }
    for (int64_t t = 0; t < n; t++)
        fbi_wino_give(&q->out, t0 + t, wide * W, m + t * W, product_point(q));
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
    for (int64_t t = i * q->block; t < (i + 1) * q->block && t < q->tiles; t++)
        take_tile(q, t, scratch);
    for (int64_t w = 0; w < q->wides; w++)
        multiply(q, i, w, scratch, q->first + w * wide_size(q), m);
}

/* Threads have parts side by side: rows of images stay with the thread that norms and pointwise
 * kernels give them to, and scratch memory with its own. */
static fb_status run(const fbi_call *c, job *q)
{
    int64_t firsts = q->tiles_first ? q->blocks : q->wides;
    int64_t parts = q->tiles_first ? q->wides : q->blocks;
    int64_t first = q->tiles_first ? block_size(q) : wide_size(q);
    int64_t own = (q->tiles_first ? wide_size(q) : block_size(q)) + q->points * product_point(q);
    int threads = c->threads < parts ? c->threads : (int)parts;
    if (fbi_cpu_work_for(c, threads, (size_t)own * sizeof(float)))
        return c->ctx->status;
    q->first = fbi_cpu_scratch(c, (size_t)(firsts * first) * sizeof(float));
    if (!q->first)
        return c->ctx->status;
    const fbi_cpu_work *work = fbi_cpu_state_of(c->ctx)->work;
    int64_t pieces = q->tiles_first ? q->tiles : firsts;
#pragma omp parallel num_threads(c->threads) if (c->threads > 1)
    {
#pragma omp for schedule(static) nowait
        for (int64_t i = 0; i < pieces; i++) {
            if (q->tiles_first)
                take_tile(q, i, q->first + i / q->block * first);
            else
                take_wide(q, i, q->first + i * first);
        }
        fbi_stream_end();
    }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++) {
        for (int64_t i = parts * t / threads; i < parts * (t + 1) / threads; i++)
            part(q, i, (float *)(void *)work[t].data);
        fbi_stream_end();
    }
    free(q->first);
    return FB_OK;
}

static void forward(const fbi_conv *p, job *q)
{
    q->in = (fbi_wino_tiles){.source = q->points == 36 ? FBI_WINO_INPUT : FBI_WINO_INPUT_HALVED,
                             .c = p->c,
                             .h = p->h,
                             .w = p->w,
                             .ph = p->padding[0],
                             .pw = p->padding[1]};
    q->out = (fbi_wino_results){.c = p->k, .h = p->oh, .w = p->ow, .size = 4};
    q->weight.step_c = 9;
    q->weight.step_k = 9 * p->c;
}

static void data(const fbi_conv *p, job *q)
{
    bool unit = q->points == 36;
    q->in = (fbi_wino_tiles){.source = unit ? FBI_WINO_INPUT : FBI_WINO_DOUBLED,
                             .c = p->k,
                             .h = p->oh,
                             .w = p->ow,
                             .ph = unit ? 2 - p->padding[0] : 0,
                             .pw = unit ? 2 - p->padding[1] : 0};
    q->out = (fbi_wino_results){.c = p->c, .h = p->h, .w = p->w, .size = unit ? 4 : 8};
    q->weight.step_c = 9 * p->c;
    q->weight.step_k = 9;
    q->weight.turned = true;
}

/* Into blocks of nearly the same size, an even number of them: two threads end together. */
static void cut(job *q)
{
    enum { BLOCK = 4 * FBI_WINO_ROWS };
    int64_t most = q->points == 36 ? BLOCK : BLOCK / 2;
    int64_t blocks = fbi_wino_up((q->tiles + most - 1) / most, 2);
    q->block = (q->tiles + blocks - 1) / blocks;
    q->blocks = (q->tiles + q->block - 1) / q->block;
}

/* Reading the lines of results before writing them took a seventh of a convolution with 64 channels
 * on a Zen 4 core. */
static bool worth_streaming(const fbi_wino_results *r, int64_t n)
{
    size_t bytes = (size_t)(n * r->h * r->w * r->c) * sizeof(float);
    return fbi_streams_pieces(bytes) && r->c % L == 0 && (uintptr_t)r->to % 64 == 0;
}

fb_status fbi_wino_images(const fbi_call *c, fbi_conv_kind kind, const fbi_conv *p,
                          const float *src, const float *weight, const float *bias, float *dst)
{
    job q = {.points = fbi_wino_points(p)};
    if (kind == FBI_CONV_DATA)
        data(p, &q);
    else
        forward(p, &q);
    q.weight.from = weight;
    q.weight.c = q.in.c;
    q.weight.k = q.out.c;
    q.weight.points = q.points;
    q.in.from = src;
    q.out.to = dst;
    q.out.bias = bias;
    q.out.relu = p->relu;
    q.out.points = q.points;
    q.in.down = q.out.down = (q.out.h + q.out.size - 1) / q.out.size;
    q.in.across = q.out.across = (q.out.w + q.out.size - 1) / q.out.size;
    q.out.streamed = worth_streaming(&q.out, p->n);
    q.tiles = p->n * q.in.down * q.in.across;
    q.panels = (q.in.c + L - 1) / L;
    q.wides = (q.out.c + W - 1) / W;
    cut(&q);
    q.tiles_first = q.tiles < q.out.c;
    q.in.shared = q.tiles_first && c->threads > 1;
    q.weight.shared = !q.tiles_first && c->threads > 1;
    return run(c, &q);
}
