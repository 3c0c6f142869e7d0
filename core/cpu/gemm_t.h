/* A thread's part of a product for one element type: T, MASK (an integer of its size) and FN(name).
 * No include guard.
 *
 * Of a block of k, b is packed in panels of two vectors of columns, and rows of a whose elements
 * are not adjacent become rows that are. */

typedef T FN(vec) __attribute__((vector_size(FBI_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef MASK FN(mask) __attribute__((vector_size(FBI_VECTOR_BYTES)));
enum { FN(lanes) = FBI_VECTOR_BYTES / sizeof(T), FN(wide) = 2 * FN(lanes) };

static inline FN(vec) FN(load)(const T *p)
{
    return *(const FN(vec) *)(const void *)p;
}

static inline void FN(store)(T *p, FN(vec) v)
{
    *(FN(vec) *)(void *)p = v;
}

/* --- tiles --- */

typedef struct FN(panels) {
    const T *a, *b, *bias; /* bias may be NULL; columns of b are adjacent */
    int64_t k, a_row, a_k, b_k;
    T *c;
    int64_t c_row;
    bool add;
} FN(panels);

/* All loops over rows and vectors are unrolled, so that s lives in registers. */
static inline __attribute__((always_inline)) void FN(tile_of)(const int rows, const int vectors,
                                                              const FN(panels) * p)
{
    FN(vec) s[MR][2];
    const T *a = p->a, *b = p->b;
    T *c = p->c;
    int64_t a_row = p->a_row, a_k = p->a_k, b_k = p->b_k;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
        s[i][0] = s[i][1] = (FN(vec)){0};
    for (int64_t q = 0; q < p->k; q++, a += a_k, b += b_k) {
        FN(vec) y[2] = {FN(load)(b)};
        if (vectors == 2)
            y[1] = FN(load)(b + FN(lanes));
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            T x = a[i * a_row];
            s[i][0] += x * y[0];
            if (vectors == 2)
                s[i][1] += x * y[1];
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++, c += p->c_row)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) {
            T *to = c + j * FN(lanes);
            if (p->add)
                s[i][j] += FN(load)(to);
            if (p->bias)
                s[i][j] += FN(load)(p->bias + j * FN(lanes));
            FN(store)(to, s[i][j]);
        }
}

static void FN(tile)(int64_t rows, bool two, const FN(panels) * p)
{
    switch (rows) {
#define HEIGHT(n)                 \
    case n:                       \
        if (two)                  \
            FN(tile_of)(n, 2, p); \
        else                      \
            FN(tile_of)(n, 1, p); \
        break;
        EACH_HEIGHT(HEIGHT)
#undef HEIGHT
    }
}

/* A tile of which only n columns are there. */
static void FN(edge)(int64_t rows, int64_t n, const FN(panels) * p)
{
    T whole[MR * FN(wide)] __attribute__((aligned(64)));
    FN(panels) q = *p;
    q.c = whole;
    q.c_row = FN(wide);
    q.bias = NULL;
    q.add = false;
    FN(tile)(rows, n > FN(lanes), &q);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) {
            T *to = p->c + i * p->c_row + j, v = whole[i * FN(wide) + j];
            v = p->add ? v + *to : v;
            *to = p->bias ? v + p->bias[j] : v;
        }
}

/* --- packing --- */

/* r[i][j] and r[j][i] change places where bit s of i and j differs. */
static inline __attribute__((always_inline)) void FN(swap)(FN(vec) * r, const int s)
{
    FN(mask) low, high;
    for (int j = 0; j < FN(lanes); j++) {
        low[j] = j & s ? FN(lanes) + j - s : j;
        high[j] = j & s ? FN(lanes) + j : j + s;
    }
#pragma GCC unroll 16
    for (int i = 0; i < FN(lanes); i++) {
        if (i & s)
            continue;
        FN(vec) t = r[i], u = r[i + s];
        r[i] = __builtin_shuffle(t, u, low);
        r[i + s] = __builtin_shuffle(t, u, high);
    }
}

/* dst[j][i] = src[i][j] for a square of one vector; with `all` false only n rows are there, and the
 * others are 0. */
static inline __attribute__((always_inline)) void FN(turn)(const bool all, int64_t n, const T *src,
                                                           int64_t src_row, T *dst, int64_t dst_row)
{
    FN(vec) r[FN(lanes)];
#pragma GCC unroll 16
    for (int i = 0; i < FN(lanes); i++)
        r[i] = all || i < n ? FN(load)(src + i * src_row) : (FN(vec)){0};
    if (FN(lanes) == 16)
        FN(swap)(r, 8);
    if (FN(lanes) >= 8)
        FN(swap)(r, 4);
    if (FN(lanes) >= 4)
        FN(swap)(r, 2);
    FN(swap)(r, 1);
#pragma GCC unroll 16
    for (int i = 0; i < FN(lanes); i++)
        FN(store)(dst + i * dst_row, r[i]);
}

/* m rows of a to lines that are `line` apart, one for each k. */
static void FN(pack_a)(int64_t m, int64_t k, const T *src, int64_t a_m, int64_t a_k, T *dst,
                       int64_t line)
{
    for (int64_t q = 0; q < k; q++, src += a_k, dst += line)
        if (a_m == 1)
            memcpy(dst, src, (size_t)m * sizeof(T));
        else
            for (int64_t i = 0; i < m; i++)
                dst[i] = src[i * a_m];
}

/* n columns of b, a panel at most, to lines of `width`; those past n are 0. */
static void FN(pack_panel)(int64_t n, int64_t k, const T *src, int64_t b_k, int64_t b_n, T *dst,
                           int64_t width)
{
    if (b_k == 1 && k >= FN(lanes)) {
        for (int64_t q = 0; q < k; q += FN(lanes))
            for (int64_t j = 0; j < width; j += FN(lanes)) {
                int64_t q0 = least(q, k - FN(lanes)); /* the last squares overlap */
                const T *from = src + j * b_n + q0;
                T *to = dst + q0 * width + j;
                if (n - j >= FN(lanes))
                    FN(turn)(true, 0, from, b_n, to, width);
                else
                    FN(turn)(false, n - j, from, b_n, to, width);
            }
        return;
    }
    for (int64_t q = 0; q < k; q++, src += b_k)
        for (int64_t j = 0; j < width; j++)
            *dst++ = j < n ? src[j * b_n] : 0;
}

/* Panels of b whose columns are adjacent: a whole line of b at a time. */
static void FN(copy_panels)(int64_t n, int64_t k, const T *src, int64_t b_k, T *dst)
{
    for (int64_t q = 0; q < k; q++, src += b_k)
        for (int64_t j = 0; j + FN(wide) <= n; j += FN(wide))
            memcpy(dst + j * k + q * FN(wide), src + j, FN(wide) * sizeof(T));
}

/* Elements of a line of the panel that has n columns. */
static int64_t FN(width_of)(int64_t n)
{
    return n > FN(lanes) ? FN(wide) : FN(lanes);
}

#include "core/cpu/gemm_dots_t.h"

/* --- a part --- */

/* What a part is doing: block [k0, k0 + k) of k, columns n0 .. n0 + n. */
typedef struct FN(state) {
    const fbi_mm *g;
    blocks each;
    int64_t batch, panel, k0, k, n0, n;
    int64_t line; /* of what is packed of a; 0: a is read where it is */
    bool pack_b;  /* false: b is read where it is, but for its last columns */
    T *a, *b;     /* b: of this block of k */
} FN(state);

static void FN(columns)(const FN(state) * s)
{
    const fbi_mm *g = s->g;
    const T *b = (const T *)g->b + s->batch * g->b_b + s->k0 * g->b_k + s->n0 * g->b_n;
    int64_t done = 0;
    if (!s->pack_b) {
        done = s->n / FN(lanes) * FN(lanes) == s->n ? s->n : s->n / FN(wide) * FN(wide);
    } else if (g->b_n == 1) {
        done = s->n / FN(wide) * FN(wide);
        FN(copy_panels)(done, s->k, b, g->b_k, s->b);
    }
    for (int64_t j = done; j < s->n; j += FN(wide)) {
        int64_t n = least(FN(wide), s->n - j);
        FN(pack_panel)(n, s->k, b + j * g->b_n, g->b_k, g->b_n, s->b + j * s->k, FN(width_of)(n));
    }
}

/* Rows m0 .. m0 + m; b is packed. */
static void FN(rows)(const FN(state) * s, int64_t m0, int64_t m)
{
    const fbi_mm *g = s->g;
    const T *a = (const T *)g->a + s->batch * g->a_b + m0 * g->a_m + s->k0 * g->a_k;
    const T *b = (const T *)g->b + s->batch * g->b_b + s->k0 * g->b_k + s->n0;
    const T *bias = g->bias && s->k0 + s->k >= g->k ? (const T *)g->bias + s->n0 : NULL;
    T *c = (T *)g->c + s->batch * g->c_b + m0 * g->c_m + s->n0;
    FN(panels) p = {.k = s->k, .a_row = g->a_m, .a_k = g->a_k, .c_row = g->c_m};
    p.add = s->k0 > 0 || g->beta != 0;
    if (s->line) {
        FN(pack_a)(m, s->k, a, g->a_m, g->a_k, s->a, s->line);
        a = s->a;
        p.a_row = 1;
        p.a_k = s->line;
    }
    for (int64_t j = 0; j < s->n; j += FN(wide)) {
        int64_t n = least(FN(wide), s->n - j);
        bool packed = s->pack_b || n % FN(lanes) != 0;
        p.b = packed ? s->b + j * s->k : b + j;
        p.b_k = packed ? FN(width_of)(n) : g->b_k;
        p.bias = bias ? bias + j : NULL;
        for (int64_t i = 0; i < m; i += s->panel) {
            int64_t rows = least(s->panel, m - i);
            p.a = a + i * p.a_row;
            p.c = c + i * g->c_m + j;
            if (n % FN(lanes) == 0)
                FN(tile)(rows, n == FN(wide), &p);
            else
                FN(edge)(rows, n, &p);
        }
    }
}

/* To block `k0` of those of k from `from` to `to`. */
static void FN(at)(FN(state) * s, T *b, int64_t k0, int64_t from, int64_t to)
{
    s->k0 = k0;
    s->k = least(s->each.k, to - k0);
    s->b = b + (k0 - from) * s->each.n;
}

/* k from `from` to `to`: b is packed as a whole, so that a block of rows stays in the cache from
 * its first sum to its last. */
static void FN(sums)(FN(state) * s, const fbi_mm_part *p, T *b, int64_t from, int64_t to)
{
    const fbi_mm *g = s->g;
    int64_t blocks_k = to > from ? (to - from + s->each.k - 1) / s->each.k : 1;
    for (int64_t q = 0; q < blocks_k; q++) {
        FN(at)(s, b, from + q * s->each.k, from, to);
        FN(columns)(s);
    }
    for (int64_t i = p->m0; i < p->m1; i += s->each.m) {
        int64_t m = least(s->each.m, p->m1 - i);
        for (int64_t q = 0; q < blocks_k; q++) {
            FN(at)(s, b, from + q * s->each.k, from, to);
            FN(rows)(s, i, m);
        }
        if (g->finish && to == g->k)
            g->finish(g, i, i + m, s->n0, s->n0 + s->n);
    }
}

void FN(fbi_mm_part)(const fbi_mm *g, const fbi_mm_part *p, void *work)
{
    if (are_dots(g)) {
        FN(dots)(g, p);
        return;
    }
    FN(state) s = {.g = g, .batch = p->batch, .panel = fbi_mm_panel(g->m), .a = work};
    s.each = blocks_of(g, p->m1 - p->m0, p->n1 - p->n0, FN(wide));
    bool few_columns = p->n1 - p->n0 <= IN_PLACE * FN(wide);
    s.line = g->a_k == 1 || few_columns ? 0 : line_of(s.each.m);
    s.pack_b = g->b_n != 1 || p->m1 - p->m0 > IN_PLACE * s.panel;
    T *b = s.a + s.line * s.each.k;
    for (s.n0 = p->n0; s.n0 < p->n1; s.n0 += s.each.n) {
        s.n = least(s.each.n, p->n1 - s.n0);
        int64_t k0 = 0;
        do {
            int64_t to = least(k0 + s.each.all_k, g->k);
            FN(sums)(&s, p, b, k0, to);
            k0 = to;
        } while (k0 < g->k);
    }
}
