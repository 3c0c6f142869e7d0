/* Matrix products: how threads share one. Each packs what it needs for itself: nothing is shared,
 * and there is one region and no barrier. */
#include "core/cpu/dense_priv.h"
#include "core/cpu/dnn_priv.h"
#include "core/cpu/gemm_priv.h"
#include "core/cpu/lanes_priv.h"
#include "core/cpu/state_priv.h"

/* How a part is made: rows and columns that parts are multiples of, multiply-adds that packing an
 * element takes as long as. */
typedef struct maker {
    int64_t panel, wide, pack;
    void (*part)(const fbi_mm *g, const fbi_mm_part *p, void *work);
    size_t (*work)(const fbi_mm *g, int64_t rows, int64_t cols);
} maker;

static maker maker_of(const fbi_call *c, const fbi_mm *g)
{
#if defined __AVX512F__
    if (fbi_cpu_state_of(c->ctx)->amx && fbi_amx_takes(g))
        return (maker){fbi_amx_rows(g), FBI_AMX_SIDE, 32, fbi_amx_part, fbi_amx_work};
#endif
    (void)c;
    maker r = {.panel = fbi_mm_panel(g->m), .pack = 8, .work = fbi_mm_work};
    r.wide = 2 * FBI_VECTOR_BYTES / (int64_t)fb_dtype_size(g->dtype);
    r.part = g->dtype == FB_F32   ? fbi_mm_part_f32
             : g->dtype == FB_F64 ? fbi_mm_part_f64
                                  : fbi_mm_part_i64;
    return r;
}

/* c of one item is cut into `down` x `across` parts. */
typedef struct grid {
    maker by;
    int64_t panels, wides; /* tiles */
    int64_t down, across;
} grid;

static int64_t up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit;
}

/* The cut whose largest part takes least time. */
static grid grid_of(const fbi_mm *g, const maker *by, int threads)
{
    grid r = {.by = *by, .panels = up(g->m, by->panel), .wides = up(g->n, by->wide)};
    double least = 0;
    for (int64_t down = 1; down <= threads; down++) {
        int64_t across = threads / down;
        double rows = (double)(up(r.panels, down) * by->panel);
        double cols = (double)(up(r.wides, across) * by->wide);
        double cost = rows * cols + (double)by->pack * (rows + cols);
        if (down == 1 || cost < least) {
            least = cost;
            r.down = down < r.panels ? down : r.panels;
            r.across = across < r.wides ? across : r.wides;
        }
    }
    return r;
}

static fbi_mm_part part_of(const fbi_mm *g, const grid *r, int64_t i)
{
    int64_t x = i % r->across, y = i / r->across % r->down;
    fbi_mm_part p = {.batch = i / r->across / r->down,
                     .m0 = r->panels * y / r->down * r->by.panel,
                     .m1 = r->panels * (y + 1) / r->down * r->by.panel,
                     .n0 = r->wides * x / r->across * r->by.wide,
                     .n1 = r->wides * (x + 1) / r->across * r->by.wide};
    p.m1 = p.m1 < g->m ? p.m1 : g->m;
    p.n1 = p.n1 < g->n ? p.n1 : g->n;
    return p;
}

/* Below this many multiply-adds a team gains nothing, and loses much when a core is busy. */
enum { ALONE = 1 << 19 };

static fb_status share(const fbi_call *c, const fbi_mm *g)
{
    double size = (double)g->batch * (double)g->m * (double)g->n * (double)g->k;
    int threads = size < ALONE ? 1 : c->threads;
    /* items as a whole, unless some threads had one more than others */
    bool whole = g->batch % threads == 0 || g->batch >= 8 * threads;
    maker by = maker_of(c, g);
    grid r = grid_of(g, &by, whole ? 1 : threads);
    int64_t parts = g->batch * r.down * r.across;
    threads = threads < parts ? threads : (int)parts;
    size_t bytes = by.work(g, up(r.panels, r.down) * by.panel, up(r.wides, r.across) * by.wide);
    fb_status st = fbi_cpu_work_for(c, threads, bytes);
    if (st)
        return st;
    const fbi_cpu_work *work = fbi_cpu_state_of(c->ctx)->work;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++)
        for (int64_t i = parts * t / threads; i < parts * (t + 1) / threads; i++) {
            fbi_mm_part p = part_of(g, &r, i);
            by.part(g, &p, work[t].data);
        }
    return FB_OK;
}

/* --- small results of long sums: pieces of k are the items of a batch --- */

enum { SMALL = 4096, PIECE = 2048, PIECES = 16 }; /* elements of c; least k of a piece; most */

static bool has_pieces(const fbi_mm *g)
{
    return g->batch == 1 && !g->finish && g->m * g->n <= SMALL && g->k >= 2 * PIECE;
}

#define JOIN(T, name)                                                          \
    static void name(const fbi_mm *g, const T *parts, int64_t pieces)          \
    {                                                                          \
        const T *bias = g->bias;                                               \
        for (int64_t i = 0; i < g->m; i++)                                     \
            for (int64_t j = 0; j < g->n; j++) {                               \
                T *to = (T *)g->c + i * g->c_m + j, sum = parts[i * g->n + j]; \
                for (int64_t p = 1; p < pieces; p++)                           \
                    sum += parts[(p * g->m + i) * g->n + j];                   \
                sum = g->beta != 0 ? *to + sum : sum;                          \
                *to = bias ? sum + bias[j] : sum;                              \
            }                                                                  \
    }
JOIN(float, join_pieces_f32)
JOIN(double, join_pieces_f64)
JOIN(uint64_t, join_pieces_i64)

static void join_pieces(const fbi_mm *g, const void *parts, int64_t pieces)
{
    if (g->dtype == FB_F32)
        join_pieces_f32(g, parts, pieces);
    else if (g->dtype == FB_F64)
        join_pieces_f64(g, parts, pieces);
    else
        join_pieces_i64(g, parts, pieces);
}

static fb_status by_pieces(const fbi_call *c, const fbi_mm *g)
{
    int64_t pieces = g->k / PIECE < PIECES ? g->k / PIECE : PIECES, each = g->k / pieces;
    size_t size = fb_dtype_size(g->dtype);
    fbi_mm p = *g, rest = *g;
    p.batch = pieces;
    p.k = each;
    p.a_b = each * g->a_k;
    p.b_b = each * g->b_k;
    p.c_b = g->m * g->n;
    p.c_m = g->n;
    p.bias = NULL;
    p.beta = 0;
    p.c = fbi_cpu_scratch(c, (size_t)(pieces * p.c_b) * size);
    if (!p.c)
        return c->ctx->status;
    fb_status st = share(c, &p);
    join_pieces(g, p.c, pieces);
    free(p.c);
    rest.k = g->k - pieces * each;
    rest.a = (const char *)g->a + pieces * p.a_b * (int64_t)size;
    rest.b = (const char *)g->b + pieces * p.b_b * (int64_t)size;
    rest.bias = NULL;
    rest.beta = 1;
    return st || rest.k == 0 ? st : share(c, &rest);
}

fb_status fbi_cpu_gemm(const fbi_call *c, const fbi_mm *g)
{
    if (g->batch * g->m * g->n == 0)
        return FB_OK;
    if (g->bf16)
        return fbi_dnn_matmul(c, g, fbi_mm_panel(g->m));
    return has_pieces(g) ? by_pieces(c, g) : share(c, g);
}
