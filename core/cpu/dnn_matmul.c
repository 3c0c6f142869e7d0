/* Products of BF16 by oneDNN, on the processor's units for them: tiles (AMX) or dot products of
 * pairs (AVX512-BF16).
 *
 * c is cut into blocks that depend on the sizes only, and a thread runs the primitive of a block
 * alone: bits do not depend on the number of threads. Threads share primitives; memory objects,
 * stream and scratch memory are a thread's own. */
#include <string.h>

#include "core/cpu/dnn_state_priv.h"
#include "core/cpu/gemm_priv.h"
#include "core/cpu/state_priv.h"

/* Rows and columns of a block: so many at first, halved until there are BLOCKS of them or the
 * larger is LEAST. */
enum { MOST = 256, LEAST = 128, BLOCKS = 16, UNIT = 16 };
/* A product is taken from so many rows and columns, so large a k (64 took 1.2 to 1.6 times as long
 * as F32, 96 about as long, 128 less) and so many multiply-adds of an item; small results of long
 * sums are not: they would have too few blocks. */
enum { SIDE = 16, DEEP = 128, WORK = 1 << 19, SMALL = 4096, LONG = 4096 };
/* Below this many multiply-adds a team gains nothing. */
enum { ALONE = 1 << 20 };

bool fbi_dnn_has_bf16(void)
{
    enum { UNITS = dnnl_cpu_isa_avx512_core_bf16 }; /* bits, which AMX includes */
    return ((unsigned)dnnl_get_effective_cpu_isa() & UNITS) == UNITS;
}

/* Rows or columns are dense and do not overlap. */
static bool is_plain(int64_t rows, int64_t cols, int64_t row, int64_t col)
{
    return (col == 1 && row >= cols) || (row == 1 && col >= rows);
}

static bool takes(const fbi_mm *g)
{
    double size = (double)g->m * (double)g->n;
    return g->m >= SIDE && g->n >= SIDE && g->k >= DEEP && size * (double)g->k >= WORK &&
           !(size <= SMALL && g->k >= LONG) && is_plain(g->m, g->k, g->a_m, g->a_k) &&
           is_plain(g->k, g->n, g->b_k, g->b_n);
}

/* --- blocks --- */

typedef struct product {
    const fbi_mm *g;
    fbi_dnn *dnn;
    int64_t rows, cols, down, across;
    fbi_dnn_entry *entry[2][2]; /* of the last row of blocks or not, the last column or not */
} product;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit;
}

static void cut(product *p, int64_t panel)
{
    const fbi_mm *g = p->g;
    int64_t rows = least(MOST, g->m), cols = least(MOST, g->n);
    while (g->batch * up(g->m, rows) * up(g->n, cols) < BLOCKS && (rows > LEAST || cols > LEAST)) {
        int64_t *larger = rows >= cols ? &rows : &cols;
        *larger = up(*larger, 2 * UNIT) * UNIT;
    }
    p->rows = least(up(rows, panel) * panel, g->m);
    p->cols = cols;
    p->down = up(g->m, p->rows);
    p->across = up(g->n, p->cols);
}

static int64_t rows_of(const product *p, bool last)
{
    return last ? p->g->m - (p->down - 1) * p->rows : p->rows;
}

static int64_t cols_of(const product *p, bool last)
{
    return last ? p->g->n - (p->across - 1) * p->cols : p->cols;
}

/* --- primitives --- */

static fbi_md matrix(dnnl_data_type_t type, int64_t rows, int64_t cols, int64_t row, int64_t col)
{
    return fbi_md_of(type, 2, (int64_t[]){rows, cols}, (int64_t[]){row, col});
}

/* oneDNN's plain loops, which round in other places. */
static bool is_reference(dnnl_primitive_desc_t pd)
{
    const char *name = NULL;
    return dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) || !name ||
           !strncmp(name, "ref", 3);
}

static void make(const product *p, fbi_dnn_entry *e, int64_t rows, int64_t cols)
{
    const fbi_mm *g = p->g;
    fbi_md src = matrix(dnnl_bf16, rows, g->k, g->a_m, g->a_k);
    fbi_md weight = matrix(dnnl_bf16, g->k, cols, g->b_k, g->b_n);
    fbi_md dst = matrix(dnnl_f32, rows, cols, g->c_m, 1);
    fbi_md bias = g->bias ? matrix(dnnl_f32, 1, cols, cols, 1) : NULL;
    dnnl_primitive_attr_t attr = fbi_dnn_attr(g->beta != 0);
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t st =
        src && weight && dst && attr && (bias || !g->bias) ? dnnl_success : dnnl_unimplemented;
    st = st ? st : fbi_pd_matmul(&pd, p->dnn->engine, src, weight, bias, dst, attr);
    if (!st && !is_reference(pd)) {
        st = fbi_dnn_arg(p->dnn, e, DNNL_ARG_SRC, src);
        st = st ? st : fbi_dnn_arg(p->dnn, e, DNNL_ARG_WEIGHTS, weight);
        st = st ? st : fbi_dnn_arg(p->dnn, e, DNNL_ARG_DST, dst);
        if (bias)
            st = st ? st : fbi_dnn_arg(p->dnn, e, DNNL_ARG_BIAS, bias);
        if (!st)
            fbi_dnn_make(p->dnn, e, pd);
    }
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    fbi_md_free(src);
    fbi_md_free(weight);
    fbi_md_free(dst);
    fbi_md_free(bias);
}

/* NULL: error is set. */
static fbi_dnn_entry *entry_of(const product *p, int64_t rows, int64_t cols)
{
    const fbi_mm *g = p->g;
    fbi_dnn_key key = {.kind = 1,
                       .threads = 1,
                       .v = {rows, cols, g->k, g->a_m, g->a_k, g->b_k, g->b_n, g->c_m,
                             g->bias != NULL, g->beta != 0}};
    bool found;
    fbi_dnn_entry *e = fbi_dnn_find(p->dnn, &key, &found);
    if (e && !found)
        make(p, e, rows, cols); /* on failure the entry has no primitive */
    return e;
}

/* All are asked for twice: a new entry may empty the cache of those that were found before. */
static fb_status find_all(product *p, size_t *scratch)
{
    for (int i = 0; i < 8; i++) {
        int y = i / 2 % 2, x = i % 2;
        fbi_dnn_entry *e = entry_of(p, rows_of(p, y), cols_of(p, x));
        if (!e)
            return p->dnn->ctx->status;
        if (!e->primitive)
            return FB_E_UNSUPPORTED;
        p->entry[y][x] = e;
        *scratch = e->scratchpad_bytes > *scratch ? e->scratchpad_bytes : *scratch;
    }
    return FB_OK;
}

/* --- work of a thread --- */

/* `data` in the order of the entry's arguments. */
static dnnl_status_t run(const product *p, const fbi_dnn_entry *e, dnnl_stream_t stream,
                         void *const *data)
{
    dnnl_exec_arg_t args[FBI_DNN_ARGS];
    dnnl_status_t st = dnnl_success;
    int n = 0;
    for (; n < e->n_args && !st; n += !st) {
        fbi_cmd md;
        args[n].arg = e->args[n].arg;
        st = dnnl_memory_get_memory_desc(e->args[n].memory, &md);
        st = st ? st : dnnl_memory_create(&args[n].memory, md, p->dnn->engine, data[n]);
    }
    st = st ? st : dnnl_primitive_execute(e->primitive, stream, n, args);
    while (n > 0)
        dnnl_memory_destroy(args[--n].memory);
    return st;
}

static dnnl_status_t run_block(const product *p, int64_t i, dnnl_stream_t stream, void *scratch)
{
    const fbi_mm *g = p->g;
    int64_t x = i % p->across, y = i / p->across % p->down, item = i / p->across / p->down;
    int64_t m0 = y * p->rows, n0 = x * p->cols;
    bool last_y = y == p->down - 1, last_x = x == p->across - 1;
    const uint16_t *a = (const uint16_t *)g->a + item * g->a_b + m0 * g->a_m;
    const uint16_t *b = (const uint16_t *)g->b + item * g->b_b + n0 * g->b_n;
    float *c = (float *)g->c + item * g->c_b + m0 * g->c_m + n0;
    void *data[FBI_DNN_ARGS] = {(void *)(uintptr_t)a, (void *)(uintptr_t)b, c};
    int n = 3;
    if (g->bias)
        data[n++] = (void *)(uintptr_t)((const float *)g->bias + n0);
    data[n] = scratch;
    dnnl_status_t st = run(p, p->entry[last_y][last_x], stream, data);
    if (!st && g->finish)
        g->finish(g, m0, m0 + rows_of(p, last_y), n0, n0 + cols_of(p, last_x));
    return st;
}

/* Blocks from .. to. */
static bool run_blocks(const product *p, int64_t from, int64_t to, void *scratch)
{
    dnnl_stream_t stream;
    dnnl_status_t st = dnnl_stream_create(&stream, p->dnn->engine, dnnl_stream_default_flags);
    if (st)
        return false;
    for (int64_t i = from; i < to && !st; i++)
        st = run_block(p, i, stream, scratch);
    dnnl_stream_destroy(stream);
    return !st;
}

static fb_status share(const fbi_call *c, const product *p, size_t scratch)
{
    const fbi_mm *g = p->g;
    double size = (double)g->batch * (double)g->m * (double)g->n * (double)g->k;
    int64_t blocks = g->batch * p->down * p->across;
    int threads = size < ALONE ? 1 : (int)least(c->threads, blocks);
    fb_status st = fbi_cpu_work_for(c, threads, scratch);
    if (st)
        return st;
    const fbi_cpu_work *work = fbi_cpu_state_of(c->ctx)->work;
    int done = 0;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1) \
    reduction(+ : done)
    for (int t = 0; t < threads; t++)
        done += run_blocks(p, blocks * t / threads, blocks * (t + 1) / threads, work[t].data);
    return done == threads ? FB_OK
                           : fbi_fail(c->ctx, FB_E_DEVICE, "%s: oneDNN failed", c->op->name);
}

fb_status fbi_dnn_matmul(const fbi_call *c, const fbi_mm *g, int64_t panel)
{
    if (!takes(g))
        return FB_E_UNSUPPORTED;
    product p = {.g = g, .dnn = fbi_dnn_of(c->ctx)};
    if (!p.dnn)
        return c->ctx->status;
    cut(&p, panel);
    size_t scratch = 0;
    int before = fbi_dnn_threads_begin(1); /* of a primitive */
    fb_status st = find_all(&p, &scratch);
    st = st ? st : share(c, &p, scratch);
    fbi_dnn_threads_end(before);
    return st;
}
