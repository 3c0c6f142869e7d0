/* A thread's part of a product on the tiles of AMX (amx_priv.h). Of rows and columns that hold an
 * infinity, or what becomes one as a BF16, the products are made one by one. */
#include "core/cpu/gemm_priv.h"

#if defined __AVX512F__
#include <string.h>

#include "core/cpu/amx_priv.h"
#include "core/cpu/lanes_priv.h"

#define T     float
#define MASK  int32_t
#define FN(x) x##_f32
#include "core/cpu/square_t.h"
#undef T
#undef MASK
#undef FN

enum { LINES = FBI_AMX_LINES, CHUNK = FBI_AMX_CHUNK, SIDE = FBI_AMX_SIDE };
/* Chunks of a row that are asked for before they are packed. */
enum { AHEAD = 4 };

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* --- which products --- */

/* Packing costs a row or column of an element as much as PACK multiply-adds of a pair of them, and
 * so much must be won. */
bool fbi_amx_takes(const fbi_mm *g)
{
    enum { PACK = 48, WORK = 1 << 18 };
    double size = (double)g->m * (double)g->n;
    return g->dtype == FB_F32 && !g->bf16 && !(g->bias && g->beta != 0) && g->m >= LINES &&
           g->n >= LINES && up(g->k, CHUNK) * 4 <= g->k * 5 && size * (double)g->k >= WORK &&
           size >= (double)PACK * (double)(g->m + g->n);
}

/* --- packing --- */

/* Where the lines of a tile are: lane l of line i, in half h of the chunk, is
 * at[i * line + h * half + l * lane]. So many lines and lanes are there in each half. */
typedef struct source {
    const float *at;
    int64_t line, half, lane;
    int lines[2], lanes[2];
} source;

static __mmask16 first(int n)
{
    return (__mmask16)((1u << n) - 1);
}

/* The square of a half whose lanes are not adjacent. */
static void square_of(const source *s, int h, float *to)
{
    const float *from = s->at + h * s->half;
    if (s->line == 1 && s->lines[h] == LINES) {
        turn_f32(s->lanes[h] == LINES, s->lanes[h], from, s->lane, to, LINES);
        return;
    }
    memset(to, 0, LINES * LINES * sizeof *to);
    for (int i = 0; i < s->lines[h]; i++)
        for (int l = 0; l < s->lanes[h]; l++)
            to[i * LINES + l] = from[i * s->line + l * s->lane];
}

/* A tile of each part. `all`: of full halves. Returns the lines, or lanes, that have infinities. */
static inline __attribute__((always_inline)) uint32_t lines_of(const source *s, const float *x,
                                                               const float *y, int64_t line,
                                                               char *to, const bool all,
                                                               const bool lanes)
{
    __mmask16 of_x = first(s->lanes[0]), of_y = first(s->lanes[1]);
    int64_t ahead = 2 * s->half * (s->half == LINES ? AHEAD : 1);
    int64_t apart = s->lane == 1 ? s->line : s->lane;
    const float *next = s->at + ahead;
    uint32_t found = 0;
    for (int i = 0; i < LINES; i++, x += line, y += line, next += apart) {
        if (lanes || s->lane != 1) {
            __builtin_prefetch(next);
            __builtin_prefetch(next + s->half);
        }
        __m512 p, q;
        if (all) {
            p = _mm512_loadu_ps(x);
            q = _mm512_loadu_ps(y);
        } else {
            p = _mm512_maskz_loadu_ps(i < s->lines[0] ? of_x : 0, x);
            q = _mm512_maskz_loadu_ps(i < s->lines[1] ? of_y : 0, y);
        }
        uint32_t infinite = fbi_amx_put_line(to + i * FBI_AMX_LINE, p, q, false);
        found |= lanes ? infinite : (uint32_t)(infinite != 0) << i;
    }
    return found;
}

static inline __attribute__((always_inline)) uint32_t pack_tile(const source *s, char *to,
                                                                const bool lanes)
{
    _Alignas(64) float square[2][LINES * LINES];
    if (s->lane != 1) {
        square_of(s, 0, square[0]);
        square_of(s, 1, square[1]);
        return lines_of(s, square[0], square[1], LINES, to, true, lanes);
    }
    const float *y = s->at + s->half;
    bool all = s->lines[0] + s->lines[1] + s->lanes[0] + s->lanes[1] == 4 * LINES;
    return all ? lines_of(s, s->at, y, s->line, to, true, lanes)
               : lines_of(s, s->at, y, s->line, to, false, lanes);
}

/* n rows of a, 32 at most, whose elements for k are `k` apart. Returns the rows with infinities. */
static uint32_t pack_rows(int64_t n, int64_t k, const float *src, int64_t a_m, int64_t a_k,
                          char *to)
{
    uint32_t found = 0;
    for (int64_t q = 0; q < k; q += CHUNK, to += FBI_AMX_PANEL)
        for (int64_t i = 0; i < n; i += LINES) {
            source s = {src + i * a_m + q * a_k, a_m, LINES * a_k, a_k, {0}, {0}};
            for (int h = 0; h < 2; h++) {
                s.lines[h] = (int)least(LINES, n - i);
                s.lanes[h] = (int)least(LINES, k - q > h * LINES ? k - q - h * LINES : 0);
            }
            found |= pack_tile(&s, to + i / LINES * FBI_AMX_TILE, false) << i;
        }
    return found;
}

/* n columns of b, 32 at most. Returns the columns with infinities. */
static uint32_t pack_columns(int64_t n, int64_t k, const float *src, int64_t b_k, int64_t b_n,
                             char *to)
{
    uint32_t found = 0;
    for (int64_t q = 0; q < k; q += CHUNK, to += FBI_AMX_PANEL)
        for (int64_t j = 0; j < n; j += LINES) {
            source s = {src + j * b_n + q * b_k, b_k, LINES * b_k, b_n, {0}, {0}};
            for (int h = 0; h < 2; h++) {
                s.lines[h] = (int)least(LINES, k - q > h * LINES ? k - q - h * LINES : 0);
                s.lanes[h] = (int)least(LINES, n - j);
            }
            found |= pack_tile(&s, to + j / LINES * FBI_AMX_TILE, true) << j;
        }
    return found;
}

/* --- a part --- */

/* Largest k of a block; bytes of b, packed, that stay in the second-level cache, while 32 rows of a
 * at a time are packed beside them. */
enum { MOST_K = FBI_MM_K, MOST_BYTES = 5 << 18 };

/* What a part is doing: block [k0, k0 + k) of k, columns n0 .. n0 + n. */
typedef struct state {
    const fbi_mm *g;
    int64_t batch, k0, k, n0, n, each_k, each_n;
    char *a, *b;
    uint32_t *infinite; /* of each panel of b: columns with infinities */
} state;

static int64_t part_size(int64_t n, int64_t most, int64_t unit)
{
    int64_t blocks = n > most ? (n + most - 1) / most : 1;
    return up((n + blocks - 1) / blocks, unit);
}

/* Bytes of `n` rows or columns, packed. */
static int64_t bytes_of(int64_t n, int64_t k)
{
    return up(n, SIDE) / SIDE * (up(k, CHUNK) / CHUNK) * FBI_AMX_PANEL;
}

/* Columns of b that are packed at a time, at most. */
static int64_t most_columns(int64_t each_k)
{
    return MOST_BYTES / bytes_of(SIDE, each_k) * SIDE;
}

static int64_t each_k_of(const fbi_mm *g)
{
    return part_size(g->k, MOST_K, CHUNK);
}

size_t fbi_amx_work(const fbi_mm *g, int64_t rows, int64_t cols)
{
    (void)rows;
    int64_t each_k = each_k_of(g), each_n = least(up(cols, SIDE), most_columns(each_k));
    return (size_t)bytes_of(SIDE + each_n, each_k) + (size_t)(each_n / SIDE) * sizeof(uint32_t);
}

/* Adds rows m .., columns n .. to sum, in order of k and without tiles. */
static void plain_sums(const state *s, int64_t m, int64_t n, int64_t rows, int64_t cols, float *sum)
{
    const fbi_mm *g = s->g;
    const float *a = (const float *)g->a + s->batch * g->a_b + m * g->a_m + s->k0 * g->a_k;
    const float *b = (const float *)g->b + s->batch * g->b_b + n * g->b_n + s->k0 * g->b_k;
    float y[SIDE] = {0};
    for (int64_t q = 0; q < s->k; q++, a += g->a_k, b += g->b_k) {
        for (int64_t j = 0; j < cols; j++)
            y[j] = b[j * g->b_n];
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < SIDE; j++)
                sum[i * SIDE + j] += a[i * g->a_m] * y[j];
    }
}

static inline __attribute__((always_inline)) void put_sums(int64_t rows, int64_t cols,
                                                           const float *restrict sum,
                                                           float *restrict to, int64_t to_row,
                                                           bool add)
{
    for (int64_t i = 0; i < rows; i++, sum += SIDE, to += to_row)
        for (int64_t j = 0; j < cols; j++)
            to[j] = add ? to[j] + sum[j] : sum[j];
}

/* A block by way of memory of its own: its sums are added to what is there, not all of it is there,
 * or rows or columns have infinities. */
static void run_apart(const state *s, int64_t m, int64_t n, int64_t rows, int64_t cols,
                      const fbi_amx_block *t, bool add, uint32_t infinite_rows,
                      uint32_t infinite_cols)
{
    _Alignas(64) float from[SIDE] = {0}, sum[SIDE * SIDE], plain[SIDE * SIDE];
    fbi_amx_block own = *t;
    if (t->from) {
        memcpy(from, t->from, (size_t)cols * sizeof *from);
        own.from = from;
    }
    own.to = sum;
    own.to_row = SIDE;
    fbi_amx_run(rows, cols, &own);
    if (infinite_rows | infinite_cols) {
        for (int64_t i = 0; i < rows; i++)
            memcpy(plain + i * SIDE, from, sizeof from);
        plain_sums(s, m, n, rows, cols, plain);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                if ((infinite_rows >> i | infinite_cols >> j) & 1)
                    sum[i * SIDE + j] = plain[i * SIDE + j];
    }
    if (cols == SIDE && add)
        put_sums(rows, SIDE, sum, t->to, t->to_row, true);
    else
        put_sums(rows, cols, sum, t->to, t->to_row, add);
}

/* Packs the columns of this block. */
static void columns(const state *s)
{
    const fbi_mm *g = s->g;
    const float *b = (const float *)g->b + s->batch * g->b_b + s->k0 * g->b_k;
    for (int64_t j = 0; j < s->n; j += SIDE)
        s->infinite[j / SIDE] = pack_columns(least(SIDE, s->n - j), s->k, b + (s->n0 + j) * g->b_n,
                                             g->b_k, g->b_n, s->b + bytes_of(j, s->k));
}

/* Rows m .. of a come to the second-level cache: share i of n of them. */
static void ask_for_rows(const state *s, int64_t m, int64_t i, int64_t n)
{
    const fbi_mm *g = s->g;
    const float *a = (const float *)g->a + s->batch * g->a_b + m * g->a_m + s->k0 * g->a_k;
    int64_t lines = g->a_k == 1 ? SIDE * s->k / LINES : 0;
    for (int64_t l = lines * i / n; l < lines * (i + 1) / n; l++)
        __builtin_prefetch(a + l % SIDE * g->a_m + l / SIDE * LINES, 0, 2);
}

/* Rows m .. m + rows, 32 at most, of this block. */
static void panel(const state *s, int64_t m, int64_t rows)
{
    const fbi_mm *g = s->g;
    const float *a = (const float *)g->a + s->batch * g->a_b + m * g->a_m + s->k0 * g->a_k;
    const float *bias = g->bias && s->k0 == 0 ? (const float *)g->bias + s->n0 : NULL;
    float *c = (float *)g->c + s->batch * g->c_b + m * g->c_m + s->n0;
    bool add = s->k0 > 0 || g->beta != 0;
    uint32_t infinite = pack_rows(rows, s->k, a, g->a_m, g->a_k, s->a);
    for (int64_t j = 0; j < s->n; j += SIDE) {
        int64_t cols = least(SIDE, s->n - j);
        fbi_amx_block t = {.a = s->a,
                           .b = s->b + bytes_of(j, s->k),
                           .to = c + j,
                           .to_row = g->c_m,
                           .next_row = g->c_m};
        ask_for_rows(s, m + SIDE, j / SIDE, up(s->n, SIDE) / SIDE);
        t.chunks = up(s->k, CHUNK) / CHUNK;
        t.next = j + SIDE < s->n ? c + j + SIDE : c + SIDE * g->c_m;
        t.from = bias ? bias + j : NULL;
        if (rows % LINES == 0 && cols % LINES == 0 && !add && !(infinite | s->infinite[j / SIDE]))
            fbi_amx_run(rows, cols, &t);
        else
            run_apart(s, m, s->n0 + j, rows, cols, &t, add, infinite, s->infinite[j / SIDE]);
    }
}

/* Rows m0 .. m1 of this block; the last of k finishes some at a time. */
static void rows_of(const state *s, int64_t m0, int64_t m1)
{
    const fbi_mm *g = s->g;
    bool last = s->k0 + s->k == g->k;
    int64_t unit = fbi_amx_rows(g), each = FBI_AMX_M / unit * unit;
    for (int64_t i = m0; i < m1; i += each) {
        int64_t end = least(i + each, m1);
        for (int64_t m = i; m < end; m += SIDE)
            panel(s, m, least(SIDE, end - m));
        if (g->finish && last)
            g->finish(g, i, end, s->n0, s->n0 + s->n);
    }
}

void fbi_amx_part(const fbi_mm *g, const fbi_mm_part *p, void *work)
{
    state s = {.g = g, .batch = p->batch, .a = work, .each_k = each_k_of(g)};
    s.each_n = part_size(p->n1 - p->n0, most_columns(s.each_k), SIDE);
    s.b = s.a + bytes_of(SIDE, s.each_k);
    s.infinite = (uint32_t *)(void *)(s.b + bytes_of(s.each_n, s.each_k));
    fbi_amx_begin();
    for (s.n0 = p->n0; s.n0 < p->n1; s.n0 += s.each_n) {
        s.n = least(s.each_n, p->n1 - s.n0);
        for (s.k0 = 0; s.k0 < g->k; s.k0 += s.each_k) {
            s.k = least(s.each_k, g->k - s.k0);
            ask_for_rows(&s, p->m0, 0, 1);
            columns(&s);
            rows_of(&s, p->m0, p->m1);
        }
    }
    fbi_amx_end();
}

#else /* a level without AMX: the file is empty */
typedef int fbi_amx_none;
#endif
