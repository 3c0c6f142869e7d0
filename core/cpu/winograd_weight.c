/* The weight's gradient by Winograd's transforms: the adjoint of the forward convolution.
 *
 * Tiles are taken in chunks. The transformed inputs and gradients of a chunk are multiplied over
 * its tiles for each point and each pair of channel panels; chunks are added in order. Where the
 * sums are small the tiles are cut into groups with sums of their own, so that what a thread
 * transforms stays in its cache; the groups' sums are added in order. Groups and chunks depend on
 * the shape alone. */
#include <stdlib.h>

#include "core/base/stream_priv.h"
#include "core/cpu/dense_priv.h"
#include "core/cpu/state_priv.h"
#include "core/cpu/winograd_priv.h"

enum { L = FBI_WINO_LANES, W = FBI_WINO_WIDE };
enum { SUM = FBI_WINO_WEIGHTS * L * W };   /* floats of a pair of panels */
enum { CHUNK = 64, WHOLE = 256 };          /* tiles of a chunk; all, if not more than WHOLE */
enum { GROUPS = 8, GROUP_SUMS = 1 << 22 }; /* most groups; most floats of their sums */

typedef struct job {
    fbi_wino_tiles in, grad;
    int64_t tiles, points, panels, wides, chunk, groups, per_group; /* per_group: tiles */
    fbi_wino_weights dst;
    bool at_once; /* one chunk, whose sums are given back where they are made */
    int64_t both; /* floats of v and y in a store, behind which a thread has sums of a pair */
    const fbi_cpu_work *work;
} job;

/* What is transformed: v [panel][point][tile][LANES], y [wide][point][tile][WIDE]; its sums
 * [wide][panel], NULL if at_once. */
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

static float *own(const job *q, int thread)
{
    return (float *)(void *)q->work[thread].data;
}

/* n tiles of a pair of panels. */
static void multiply(const job *q, const store *s, int64_t wide, int64_t panel, int64_t n,
                     float *sums, bool add)
{
    uint64_t begun = add ? ~UINT64_C(0) : 0; /* the weights whose sums are to be added to */
    for (int64_t p = 0; p < q->points; p++) {
        const float *v = s->v + (panel * q->points + p) * v_point(q);
        const float *y = s->y + (wide * q->points + p) * y_point(q);
        int64_t u = fbi_wino_weight_of(q->points, p);
        for (int m = 0; m < L; m += FBI_WINO_FEW)
            fbi_wino_outer(n, v + m, y, sums + (u * L + m) * W, begun >> u & 1);
        begun |= UINT64_C(1) << u;
    }
}

static void collect(const job *q, int64_t group, const store *s, int threads)
{
    int64_t pairs = q->wides * q->panels, from = group * q->per_group;
    int64_t to = from + q->per_group < q->tiles ? from + q->per_group : q->tiles;
    for (int64_t t0 = from; t0 < to; t0 += q->chunk) {
        int64_t n = to - t0 < q->chunk ? to - t0 : q->chunk;
#pragma omp parallel num_threads(threads) if (threads > 1)
        {
#pragma omp for schedule(static) nowait
            for (int64_t t = 0; t < n; t++) {
                fbi_wino_take(&q->in, t0 + t, s->v + t * L, v_point(q), q->points * v_point(q), L);
                fbi_wino_take(&q->grad, t0 + t, s->y + t * W, y_point(q), q->points * y_point(q),
                              W);
            }
            fbi_stream_end();
        }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
        for (int i = 0; i < threads; i++)
            for (int64_t j = pairs * i / threads; j < pairs * (i + 1) / threads; j++) {
                float *sums = q->at_once ? own(q, i) + q->both : s->sums + j * SUM;
                multiply(q, s, j / q->panels, j % q->panels, n, sums, t0 > from);
                if (q->at_once)
                    fbi_wino_back(&q->dst, j % q->panels * L, j / q->panels * W, sums, L * W);
            }
    }
}

/* Groups are shared out to threads; the threads share the chunks of an only one. */
static void collect_all(const job *q, int threads, float *sums)
{
    int64_t v = q->panels * q->points * v_point(q), pairs = q->wides * q->panels;
    if (q->groups == 1) { /* not within a region, even of one thread: it would have no team */
        collect(q, 0, &(store){own(q, 0), own(q, 0) + v, sums}, threads);
        return;
    }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++)
        for (int64_t g = q->groups * t / threads; g < q->groups * (t + 1) / threads; g++)
            collect(q, g, &(store){own(q, t), own(q, t) + v, sums + g * pairs * SUM}, 1);
}

static void run(const job *q, int threads, float *sums)
{
    int64_t pairs = q->wides * q->panels;
    collect_all(q, threads, sums);
    if (q->at_once)
        return;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t j = 0; j < pairs; j++) {
        float *total = sums + j * SUM;
        for (int64_t g = 1; g < q->groups; g++)
            for (int64_t i = 0; i < SUM; i++)
                total[i] += total[g * pairs * SUM + i];
        fbi_wino_back(&q->dst, j % q->panels * L, j / q->panels * W, total, L * W);
    }
}

fb_status fbi_wino_weight(const fbi_call *c, const fbi_conv *p, const float *src, const float *grad,
                          float *weight, bool add)
{
    job q = {.points = fbi_wino_points(p)};
    bool unit = q.points == 36;
    int64_t chunk = unit ? CHUNK : CHUNK / 2, whole = unit ? WHOLE : WHOLE / 4;
    int64_t down = (p->oh + 3) / 4, across = (p->ow + 3) / 4;
    q.in = (fbi_wino_tiles){.source = unit ? FBI_WINO_INPUT : FBI_WINO_INPUT_HALVED,
                            .from = src,
                            .c = p->c,
                            .h = p->h,
                            .w = p->w,
                            .ph = p->padding[0],
                            .pw = p->padding[1],
                            .down = down,
                            .across = across};
    q.grad = (fbi_wino_tiles){.source = unit ? FBI_WINO_GRADIENT : FBI_WINO_GRADIENT_HALVED,
                              .from = grad,
                              .c = p->k,
                              .h = p->oh,
                              .w = p->ow,
                              .down = down,
                              .across = across};
    q.dst = (fbi_wino_weights){.to = weight,
                               .c = p->c,
                               .k = p->k,
                               .step_c = 9,
                               .step_k = 9 * p->c,
                               .points = q.points,
                               .add = add};
    q.tiles = p->n * down * across;
    q.panels = (p->c + L - 1) / L;
    q.wides = (p->k + W - 1) / W;
    q.at_once = q.tiles <= whole;
    q.chunk = q.at_once ? q.tiles : chunk;
    int64_t pairs = q.wides * q.panels, most = GROUP_SUMS / (pairs * SUM);
    q.groups = q.at_once ? 1 : most < 1 ? 1 : most < GROUPS ? most : GROUPS;
    q.per_group = fbi_wino_up((q.tiles + q.groups - 1) / q.groups, chunk);
    q.groups = (q.tiles + q.per_group - 1) / q.per_group;
    q.in.shared = q.grad.shared = q.groups == 1 && c->threads > 1;
    q.both = q.points * (q.panels * v_point(&q) + q.wides * y_point(&q));
    if (fbi_cpu_work_for(c, c->threads, (size_t)(q.both + SUM) * sizeof(float)))
        return c->ctx->status;
    q.work = fbi_cpu_state_of(c->ctx)->work;
    float *sums = NULL;
    if (!q.at_once && !(sums = fbi_cpu_scratch(c, (size_t)(q.groups * pairs * SUM) * sizeof *sums)))
        return c->ctx->status;
    run(&q, c->threads, sums);
    free(sums);
    return FB_OK;
}
