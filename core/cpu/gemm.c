/* Matrix products: how threads share one. Each packs what it needs for itself: nothing is shared,
 * and there is one region and no barrier. */
#include "core/cpu/gemm_priv.h"
#include "core/cpu/lanes_priv.h"
#include "core/cpu/state_priv.h"

/* c of one item is cut into `down` x `across` parts. */
typedef struct grid {
    int64_t panel, wide;   /* rows and columns of a tile */
    int64_t panels, wides; /* tiles */
    int64_t down, across;
} grid;

static int64_t up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit;
}

/* The cut whose largest part takes least time: multiply-adds, and packing, of which an element
 * costs as much as PACK multiply-adds. */
static grid grid_of(const fbi_mm *g, int threads)
{
    enum { PACK = 8 };
    grid r = {.panel = fbi_mm_panel(g->m),
              .wide = 2 * FBI_VECTOR_BYTES / (int64_t)fb_dtype_size(g->dtype)};
    r.panels = up(g->m, r.panel);
    r.wides = up(g->n, r.wide);
    double least = 0;
    for (int64_t down = 1; down <= threads; down++) {
        int64_t across = threads / down;
        double rows = (double)(up(r.panels, down) * r.panel);
        double cols = (double)(up(r.wides, across) * r.wide);
        double cost = rows * cols + PACK * (rows + cols);
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
                     .m0 = r->panels * y / r->down * r->panel,
                     .m1 = r->panels * (y + 1) / r->down * r->panel,
                     .n0 = r->wides * x / r->across * r->wide,
                     .n1 = r->wides * (x + 1) / r->across * r->wide};
    p.m1 = p.m1 < g->m ? p.m1 : g->m;
    p.n1 = p.n1 < g->n ? p.n1 : g->n;
    return p;
}

static void run_part(const fbi_mm *g, const grid *r, int64_t i, void *work)
{
    fbi_mm_part p = part_of(g, r, i);
    if (g->dtype == FB_F32)
        fbi_mm_part_f32(g, &p, work);
    else if (g->dtype == FB_F64)
        fbi_mm_part_f64(g, &p, work);
    else
        fbi_mm_part_i64(g, &p, work);
}

/* Below this many multiply-adds a team gains nothing, and loses much when a core is busy. */
enum { ALONE = 1 << 19 };

fb_status fbi_cpu_gemm(const fbi_call *c, const fbi_mm *g)
{
    if (g->batch * g->m * g->n == 0)
        return FB_OK;
    double size = (double)g->batch * (double)g->m * (double)g->n * (double)g->k;
    int threads = size < ALONE ? 1 : c->threads;
    /* items as a whole, unless some threads had one more than others */
    bool whole = g->batch % threads == 0 || g->batch >= 8 * threads;
    grid r = grid_of(g, whole ? 1 : threads);
    int64_t parts = g->batch * r.down * r.across;
    threads = threads < parts ? threads : (int)parts;
    size_t bytes = fbi_mm_work(g, up(r.panels, r.down) * r.panel, up(r.wides, r.across) * r.wide);
    fb_status st = fbi_cpu_work_for(c, threads, bytes);
    if (st)
        return st;
    const fbi_cpu_work *work = fbi_cpu_state_of(c->ctx)->work;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++)
        for (int64_t i = parts * t / threads; i < parts * (t + 1) / threads; i++)
            run_part(g, &r, i, work[t].data);
    return FB_OK;
}
