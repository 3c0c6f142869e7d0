/* Products of few rows or few columns, whose operands both have adjacent elements along k: dot
 * products, for which nothing is packed. For one element type, after gemm_t.h. No include guard.
 *
 * A sum has 64 bytes of lanes on every level; they are halved at the end. */

enum { FN(parts) = 64 / FBI_VECTOR_BYTES, FN(sum_lanes) = 64 / sizeof(T) };

static inline T FN(halve)(const FN(vec) * s)
{
    T lane[FN(sum_lanes)];
    memcpy(lane, s, sizeof lane);
    for (int half = FN(sum_lanes) / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

typedef FN(vec) FN(dot_sums)[DOTS][DOTS][FN(parts)];

/* s[i][j] += x[i] * y[j], of the elements of a sum's lanes. */
static inline __attribute__((always_inline)) void FN(dots_add)(const int rows, const int cols,
                                                               const T *x, int64_t x_row,
                                                               const T *y, int64_t y_row,
                                                               FN(dot_sums) s)
{
#pragma GCC unroll 4
    for (int v = 0; v < FN(parts); v++) {
        FN(vec) u[DOTS];
#pragma GCC unroll 4
        for (int j = 0; j < cols; j++)
            u[j] = FN(load)(y + j * y_row + v * FN(lanes));
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            FN(vec) w = FN(load)(x + i * x_row + v * FN(lanes));
#pragma GCC unroll 4
            for (int j = 0; j < cols; j++)
                s[i][j][v] += w * u[j];
        }
    }
}

/* sum[i][j] = x[i] . y[j] */
static inline __attribute__((always_inline)) void FN(dots_of)(const int rows, const int cols,
                                                              int64_t k, const T *x, int64_t x_row,
                                                              const T *y, int64_t y_row,
                                                              T (*sum)[DOTS])
{
    FN(dot_sums) s;
    int64_t q = 0;
#pragma GCC unroll 16
    for (int i = 0; i < rows * cols * FN(parts); i++)
        s[i / FN(parts) / cols][i / FN(parts) % cols][i % FN(parts)] = (FN(vec)){0};
    for (; q + FN(sum_lanes) <= k; q += FN(sum_lanes))
        FN(dots_add)(rows, cols, x + q, x_row, y + q, y_row, s);
    if (q < k) { /* what is left, with zeros */
        T rest[2][DOTS][FN(sum_lanes)] = {{{0}}};
        for (int i = 0; i < rows; i++)
            memcpy(rest[0][i], x + i * x_row + q, (size_t)(k - q) * sizeof(T));
        for (int j = 0; j < cols; j++)
            memcpy(rest[1][j], y + j * y_row + q, (size_t)(k - q) * sizeof(T));
        FN(dots_add)(rows, cols, rest[0][0], FN(sum_lanes), rest[1][0], FN(sum_lanes), s);
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < cols; j++)
            sum[i][j] = FN(halve)(s[i][j]);
}

static void FN(dots_tile)(int64_t rows, int64_t cols, int64_t k, const T *x, int64_t x_row,
                          const T *y, int64_t y_row, T (*sum)[DOTS])
{
    for (; rows < DOTS && rows > 0; rows--, x += x_row, sum++) /* the last ones, one by one */
        for (int64_t j = 0; j < cols; j++)
            FN(dots_of)(1, 1, k, x, 0, y + j * y_row, 0, (T(*)[DOTS]) & sum[0][j]);
    if (rows == 0)
        return;
    switch (cols) {
#define COLUMNS(n)                                        \
    case n:                                               \
        FN(dots_of)(DOTS, n, k, x, x_row, y, y_row, sum); \
        break;
        COLUMNS(1)
        COLUMNS(2)
#if defined __AVX512F__
        COLUMNS(3)
        COLUMNS(4)
#endif
#undef COLUMNS
    }
}

/* x: the operand with many rows, y: that with few. */
static void FN(dots)(const fbi_mm *g, const fbi_mm_part *p)
{
    const T *a = (const T *)g->a + p->batch * g->a_b, *b = (const T *)g->b + p->batch * g->b_b;
    const T *bias = g->bias;
    bool few_rows = g->m <= FEW_ROWS;
    const T *x = few_rows ? b : a, *y = few_rows ? a : b;
    int64_t x_row = few_rows ? g->b_n : g->a_m, y_row = few_rows ? g->a_m : g->b_n;
    int64_t from = few_rows ? p->n0 : p->m0, to = few_rows ? p->n1 : p->m1;
    int64_t few = few_rows ? g->m : g->n;
    for (int64_t i = from; i < to; i += DOTS)
        for (int64_t j = 0; j < few; j += DOTS) {
            T sum[DOTS][DOTS];
            int64_t rows = least(DOTS, to - i), cols = least(DOTS, few - j);
            FN(dots_tile)(rows, cols, g->k, x + i * x_row, x_row, y + j * y_row, y_row, sum);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t l = 0; l < cols; l++) {
                    int64_t m = few_rows ? j + l : i + r, n = few_rows ? i + r : j + l;
                    T *to_c = (T *)g->c + p->batch * g->c_b + m * g->c_m + n;
                    T v = g->beta != 0 ? *to_c + sum[r][l] : sum[r][l];
                    *to_c = bias ? v + bias[n] : v;
                }
        }
    if (g->finish)
        g->finish(g, p->m0, p->m1, p->n0, p->n1);
}
