/* A thread's part of a product for one element type: T, MASK (an integer of its size) and FN(name).
 * No include guard.
 *
 * Of a block of k, b is packed in panels of two vectors of columns. Rows of a whose elements are
 * not adjacent become panels as high as a tile: an Intel core reads such a panel from its
 * second-level cache at 96 % of its peak, lines of many panels at 87 %. */

#include "core/cpu/square_t.h"

enum { FN(wide) = 2 * FN(lanes) };

/* --- tiles --- */

typedef struct FN(panels) {
    const T *a, *b, *bias; /* bias may be NULL; columns of b are adjacent */
    int64_t k, a_row, a_k, b_k;
    T *c;
    int64_t c_row;
    bool add;
    const T *ahead; /* from here, memory comes to the caches */
} FN(panels);

/* Where a tile is in a and b. Three rows of a have a pointer: an address can have the distance of
 * rows once or twice. */
typedef struct FN(place) {
    const T *a[(MR + 2) / 3], *b;
} FN(place);

/* Adds one k to the sums. */
static inline __attribute__((always_inline)) void FN(add_one)(const int rows, const int vectors,
                                                              FN(place) * at, int64_t a_row,
                                                              int64_t a_k, int64_t b_k,
                                                              FN(vec) s[MR][2])
{
    FN(vec) y[2] = {FN(load)(at->b)};
    if (vectors == 2)
        y[1] = FN(load)(at->b + FN(lanes));
    at->b += b_k;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        T x = at->a[i / 3][i % 3 * a_row];
        s[i][0] += x * y[0];
        if (vectors == 2)
            s[i][1] += x * y[1];
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i += 3)
        at->a[i / 3] += a_k;
}

/* All loops over rows and vectors are unrolled, so that s lives in registers. `line`: the elements
 * of a for one k are adjacent; else those of a row are. */
static inline __attribute__((always_inline)) void FN(tile_of)(const int rows, const int vectors,
                                                              const bool line, const FN(panels) * p)
{
    FN(vec) s[MR][2];
    FN(place) at = {.b = p->b};
    T *c = p->c;
    int64_t a_row = line ? 1 : p->a_row, a_k = line ? p->a_k : 1, b_k = p->b_k;
#pragma GCC unroll 4
    for (int i = 0; i < rows; i += 3) {
        at.a[i / 3] = p->a + i * a_row;
        if (!line)
            __asm__("" : "+r"(at.a[i / 3])); /* or the compiler makes 11 distances */
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++)
            s[i][j] = (FN(vec)){0};
    /* First the lines of c come near, a row for each turn of the loop, then what is ahead. */
    const T *near = c;
    int64_t next = p->c_row, turns = least(p->k / UNROLL, rows);
#pragma GCC unroll 1
    for (int pass = 0; pass < 2; pass++) {
        for (; turns > 0; turns--, near += next) {
            __builtin_prefetch(near, 1);
            __builtin_prefetch(near + FN(lanes), 1);
#pragma GCC unroll 8
            for (int u = 0; u < UNROLL; u++)
                FN(add_one)(rows, vectors, &at, a_row, a_k, b_k, s);
        }
        near = p->ahead;
        next = FN(wide);
        turns = p->k / UNROLL - least(p->k / UNROLL, rows);
    }
    for (int64_t left = p->k % UNROLL; left > 0; left--)
        FN(add_one)(rows, vectors, &at, a_row, a_k, b_k, s);
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
    bool line = p->a_row == 1;
    switch (rows) {
#define HEIGHT(n)                        \
    case n:                              \
        if (two && line)                 \
            FN(tile_of)(n, 2, true, p);  \
        else if (two)                    \
            FN(tile_of)(n, 2, false, p); \
        else if (line)                   \
            FN(tile_of)(n, 1, true, p);  \
        else                             \
            FN(tile_of)(n, 1, false, p); \
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

/* Four lines of 3/4 of a vector become three vectors, which stay within lines of the cache. */
static inline void FN(pack_four)(const T *src, int64_t a_k, T *dst)
{
    enum { L = FN(lanes) };
    FN(vec) r[4];
    for (int i = 0; i < 4; i++) {
        __builtin_prefetch(src + (i + LINES) * a_k);
        r[i] = FN(load)(src + i * a_k);
    }
    for (int i = 0; i < 3; i++) {
        FN(mask) of;
        int left = L - (i + 1) * (L / 4); /* of line i */
        for (int j = 0; j < L; j++)
            of[j] = j < left ? 3 * L / 4 - left + j : L + j - left;
        FN(store)(dst + i * L, __builtin_shuffle(r[i], r[i + 1], of));
    }
}

/* The panel with rows i .. i + n of a: lines q0 .. q1. */
static inline void FN(pack_lines)(int64_t i, int64_t n, int64_t q0, int64_t q1, const T *src,
                                  int64_t a_m, int64_t a_k, T *dst, int64_t panel)
{
    for (int64_t q = q0; q < q1; q++) {
        const T *from = src + i * a_m + q * a_k;
        T *to = dst + q * panel;
        if (a_m == 1)
            memcpy(to, from, (size_t)n * sizeof(T));
        for (int64_t r = 0; r < n && a_m != 1; r++)
            to[r] = from[r * a_m];
    }
}

/* m rows of a to panels that are `apart`, a few lines of all at a time: those of a are whole. */
static void FN(pack_a)(int64_t m, int64_t k, const T *src, int64_t a_m, int64_t a_k, T *dst,
                       int64_t panel, int64_t apart)
{
    bool fits = a_m == 1 && 4 * panel == 3 * FN(lanes);
    for (int64_t q = 0; q < k; q += LINES)
        for (int64_t i = 0; i < m; i += panel) {
            int64_t n = least(panel, m - i), end = least(q + LINES, k);
            T *to = dst + i / panel * apart;
            if (!fits || end - q < LINES || m - i < FN(lanes)) {
                FN(pack_lines)(i, n, q, end, src, a_m, a_k, to, panel);
                continue;
            }
            for (int64_t l = q; l < end; l += 4)
                FN(pack_four)(src + i + l * a_k, a_k, to + l * panel);
        }
}

/* n columns of b, a panel at most, to lines of `width`; those past n are 0. */
static void FN(pack_panel)(int64_t n, int64_t k, const T *src, int64_t b_k, int64_t b_n, T *dst,
                           int64_t width)
{
    if (b_k == 1 && k >= FN(lanes)) {
        for (int64_t j = 0; j < width; j += FN(lanes))
            for (int64_t q = 0; q < k; q += FN(lanes)) {
                int64_t q0 = least(q, k - FN(lanes)); /* the last squares overlap */
                const T *from = src + j * b_n + q0;
                for (int i = 0; i < FN(lanes); i++)
                    __builtin_prefetch(from + i * b_n + AHEAD * FN(lanes));
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

/* Panels of b whose columns are adjacent, a few lines of all at a time. */
static void FN(copy_panels)(int64_t n, int64_t k, const T *src, int64_t b_k, T *dst)
{
    for (int64_t q0 = 0; q0 < k; q0 += LINES)
        for (int64_t j = 0; j + FN(wide) <= n; j += FN(wide))
            for (int64_t q = q0; q < least(q0 + LINES, k); q++)
                memcpy(dst + j * k + q * FN(wide), src + q * b_k + j, FN(wide) * sizeof(T));
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
    bool pack_a, pack_b; /* false: read where it is, but for the last columns of b */
    T *a, *b;            /* b: of this block of k */
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

/* What the tile of panel i and columns j.. brings near: a piece of the panel of b that follows, or
 * what is near. */
static const T *FN(ahead)(const FN(state) * s, const T *b, int64_t i, int64_t j)
{
    int64_t turns = s->k / UNROLL - s->panel, at = i * turns * FN(wide);
    bool more = s->pack_b && j + FN(wide) < s->n && turns > 0 && at < s->k * FN(wide);
    return more ? s->b + (j + FN(wide)) * s->k + at : b;
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
    int64_t apart = s->panel * g->a_m; /* panels of a */
    if (s->pack_a) {
        apart = apart_of(s->panel, s->k);
        FN(pack_a)(m, s->k, a, g->a_m, g->a_k, s->a, s->panel, apart);
        a = s->a;
        p.a_row = 1;
        p.a_k = s->panel;
    }
    for (int64_t j = 0; j < s->n; j += FN(wide)) {
        int64_t n = least(FN(wide), s->n - j);
        bool packed = s->pack_b || n % FN(lanes) != 0;
        p.b = packed ? s->b + j * s->k : b + j;
        p.b_k = packed ? FN(width_of)(n) : g->b_k;
        p.bias = bias ? bias + j : NULL;
        for (int64_t i = 0; i * s->panel < m; i++) {
            int64_t rows = least(s->panel, m - i * s->panel);
            p.a = a + i * apart;
            p.c = c + i * s->panel * g->c_m + j;
            p.ahead = FN(ahead)(s, p.b, i, j);
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
    s.pack_a = g->a_k != 1 && (g->a_m != 1 || !few_columns);
    s.pack_b = g->b_n != 1 || p->m1 - p->m0 > IN_PLACE * s.panel;
    T *b = s.a + (s.pack_a ? size_of_a(s.each.m, s.panel, s.each.k) : 0);
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
