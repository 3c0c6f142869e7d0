/* The weight's gradient by Winograd's F(4x4, 3x3): the adjoint of the forward convolution.
 *
 * Tiles are taken in chunks. The transformed inputs and gradients of a chunk are multiplied over
 * its tiles for each point and each pair of channel panels; chunks are added in order. Where the
 * sums are small the tiles are cut into groups with sums of their own, so that what a thread
 * transforms stays in its cache; the groups' sums are added in order. Groups and chunks depend on
 * the shape alone. */
#include <stdlib.h>

#include "core/cpu/dense_priv.h"
#include "core/cpu/winograd_tile_priv.h"

enum { L = FBI_WINO_LANES, W = FBI_WINO_WIDE, POINTS = FBI_WINO_POINTS };
enum { SUM = POINTS * L * W };    /* floats of a pair of panels */
enum { CHUNK = 64, WHOLE = 256 }; /* tiles of a chunk; all, if they are not more than WHOLE */
enum { GROUPS = 8, GROUP_SUMS = 1 << 22 }; /* most groups; most floats of their sums */

typedef struct job {
    fbi_wino_grid g;
    int64_t k, panels, wides, chunk, groups, per_group; /* per_group: tiles */
    const float *src, *grad;
    float *dst;
    bool add, at_once; /* at_once: one chunk, whose sums are given back where they are made */
} job;

/* What is transformed: v [panel][point][tile][LANES], y [wide][point][tile][WIDE]; its sums
 * [wide][panel], or one pair for each thread. */
typedef struct store {
    float *v, *y, *sums;
} store;

/* Floats from one point to the next, as in winograd.c. */
static int64_t v_point(const job *q)
{
    return q->chunk * L + L;
}

static int64_t y_point(const job *q)
{
    return q->chunk * W + L;
}

FBI_WINO void take_panel(const job *q, const float *image, int64_t y0, int64_t x0, int64_t n,
                         const bool inside, const bool full, int64_t ahead, float *to)
{
    const fbi_wino_grid *g = &q->g;
    int64_t point = y_point(q);
    FBI_WINO_ALIGNED fbi_wv t[6][4];
    for (int j = 0; j < 4; j++) {
        fbi_wv d[4], r[6];
        for (int i = 0; i < 4; i++)
            if (inside || (y0 + i < g->oh && x0 + j < g->ow)) {
                const float *from = image + ((y0 + i) * g->ow + x0 + j) * q->k;
                __builtin_prefetch(from + ahead);
                d[i] = fbi_wino_load(from, full ? L : n);
            } else
                d[i] = (fbi_wv){0};
        fbi_wino_a(d, r);
        for (int i = 0; i < 6; i++)
            t[i][j] = r[i];
    }
    for (int i = 0; i < 6; i++) {
        fbi_wv r[6];
        fbi_wino_a(t[i], r);
        for (int j = 0; j < 6; j++)
            fbi_wino_store(to + (i * 6 + j) * point, r[j], L);
    }
}

/* The 4 x 4 gradients of a tile, transformed; those past the image and past k are 0. */
static void take_gradient(const job *q, int64_t tile, float *to)
{
    const fbi_wino_grid *g = &q->g;
    int64_t per = g->down * g->across, y0 = tile % per / g->across * 4;
    int64_t x0 = tile % g->across * 4;
    const float *image = q->grad + tile / per * g->oh * g->ow * q->k;
    bool inside = y0 + 4 <= g->oh && x0 + 4 <= g->ow;
    int64_t ahead = fbi_wino_ahead(g, tile, g->oh, g->ow) * q->k;
    for (int64_t k = 0; k < q->wides * W; k += L) {
        float *at = to + k / W * POINTS * y_point(q) + k % W;
        if (inside && k + L <= q->k)
            take_panel(q, image + k, y0, x0, L, true, true, ahead, at);
        else if (k + L <= q->k)
            take_panel(q, image + k, y0, x0, L, false, true, ahead, at);
        else
            take_panel(q, image + k, y0, x0, q->k - k, false, false, ahead, at);
    }
}

/* The sums of a pair of panels, transformed back: 3 x 3 taps of LANES x WIDE channels. */
static void give_pair(const job *q, int64_t wide, int64_t panel, const float *sums)
{
    int64_t n = q->k - wide * W < W ? q->k - wide * W : W;
    FBI_WINO_ALIGNED float taps[9][W];
    for (int64_t c = panel * L; c < panel * L + L && c < q->g.c; c++, sums += W) {
        for (int h = 0; h < W; h += L) {
            FBI_WINO_ALIGNED fbi_wv t[3][6];
            for (int j = 0; j < 6; j++) {
                fbi_wv u[6], r[3];
                for (int i = 0; i < 6; i++)
                    u[i] = fbi_wino_load(sums + (i * 6 + j) * L * W + h, L);
                fbi_wino_gt(u, r);
                for (int i = 0; i < 3; i++)
                    t[i][j] = r[i];
            }
            for (int i = 0; i < 3; i++) {
                fbi_wv r[3];
                fbi_wino_gt(t[i], r);
                for (int j = 0; j < 3; j++)
                    fbi_wino_store(taps[i * 3 + j] + h, r[j], L);
            }
        }
        for (int64_t k = 0; k < n; k++) {
            float *to = q->dst + ((wide * W + k) * q->g.c + c) * 9;
            for (int i = 0; i < 9; i++)
                to[i] = (q->add ? to[i] : 0) + taps[i][k];
        }
    }
}

/* n tiles of a pair of panels. */
static void multiply(const job *q, const store *s, int64_t wide, int64_t panel, int64_t n,
                     float *sums, bool add)
{
    for (int64_t p = 0; p < POINTS; p++) {
        const float *v = s->v + (panel * POINTS + p) * v_point(q);
        const float *y = s->y + (wide * POINTS + p) * y_point(q);
        for (int m = 0; m < L; m += FBI_WINO_FEW)
            fbi_wino_outer(n, v + m, y, sums + (p * L + m) * W, add);
    }
}

static void collect(const job *q, int64_t group, const store *s, int threads)
{
    int64_t pairs = q->wides * q->panels, from = group * q->per_group;
    int64_t to = from + q->per_group < q->g.tiles ? from + q->per_group : q->g.tiles;
    for (int64_t t0 = from; t0 < to; t0 += q->chunk) {
        int64_t n = to - t0 < q->chunk ? to - t0 : q->chunk;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic, 4)
        for (int64_t t = 0; t < n; t++) {
            fbi_wino_take(&q->g, q->src, t0 + t, s->v + t * L, v_point(q), POINTS * v_point(q));
            take_gradient(q, t0 + t, s->y + t * W);
        }
        int64_t next = 0;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
        for (int i = 0; i < threads; i++)
            for (;;) {
                int64_t j;
#pragma omp atomic capture
                j = next++;
                if (j >= pairs)
                    break;
                float *sums = s->sums + (q->at_once ? i : j) * SUM;
                multiply(q, s, j / q->panels, j % q->panels, n, sums, t0 > from);
                if (q->at_once)
                    give_pair(q, j / q->panels, j % q->panels, sums);
            }
    }
}

/* Groups are shared out to threads; the threads share the chunks of an only one. */
static void collect_all(const job *q, int threads, float *sums, float *stores)
{
    int64_t v = q->panels * POINTS * v_point(q), own = v + q->wides * POINTS * y_point(q);
    int64_t next = 0;
    if (q->groups == 1) { /* not within a region, even of one thread: it would have no team */
        collect(q, 0, &(store){stores, stores + v, sums}, threads);
        return;
    }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++)
        for (;;) {
            int64_t g;
#pragma omp atomic capture
            g = next++;
            if (g >= q->groups)
                break;
            store s = {stores + t * own, stores + t * own + v,
                       sums + g * q->wides * q->panels * SUM};
            collect(q, g, &s, 1);
        }
}

static void run(const job *q, int threads, float *sums, float *stores)
{
    int64_t pairs = q->wides * q->panels;
    collect_all(q, threads, sums, stores);
    if (q->at_once)
        return;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t j = 0; j < pairs; j++) {
        float *total = sums + j * SUM;
        for (int64_t g = 1; g < q->groups; g++)
            for (int64_t i = 0; i < SUM; i++)
                total[i] += total[g * pairs * SUM + i];
        give_pair(q, j / q->panels, j % q->panels, total);
    }
}

fb_status fbi_wino_weight(const fbi_call *c, const fbi_conv *p, const float *src, const float *grad,
                          float *weight, bool add)
{
    job q = {.src = src, .grad = grad, .dst = weight, .add = add};
    q.g = fbi_wino_grid_of(p->n, p->c, p->h, p->w, p->oh, p->ow, p->padding[0], p->padding[1]);
    q.k = p->k;
    q.panels = (p->c + L - 1) / L;
    q.wides = (p->k + W - 1) / W;
    q.at_once = q.g.tiles <= WHOLE;
    q.chunk = q.at_once ? q.g.tiles : CHUNK;
    int64_t pairs = q.wides * q.panels, most = GROUP_SUMS / (pairs * SUM);
    q.groups = q.at_once ? 1 : most < 1 ? 1 : most < GROUPS ? most : GROUPS;
    q.per_group = fbi_wino_up((q.g.tiles + q.groups - 1) / q.groups, CHUNK);
    q.groups = (q.g.tiles + q.per_group - 1) / q.per_group;
    int64_t sums = (q.at_once ? c->threads : q.groups * pairs) * SUM;
    int64_t own = POINTS * (q.panels * v_point(&q) + q.wides * y_point(&q));
    int64_t stores = q.groups > 1 ? c->threads : 1;
    float *scratch = fbi_cpu_scratch(c, (size_t)(sums + stores * own) * sizeof(float));
    if (!scratch)
        return c->ctx->status;
    run(&q, c->threads, scratch, scratch + sums);
    free(scratch);
    return FB_OK;
}
