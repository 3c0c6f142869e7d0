/* Products with a panel for one element type: T, V (a vector of T) and FN(name). No include guard.
 */

static inline __attribute__((always_inline)) void FN(tile)(int rows, int64_t k, const T *a,
                                                           int64_t lda, const T *b, T *c)
{
    enum { LANES = sizeof(V) / sizeof(T), WIDTH = 2 * LANES };
    V sum[ROWS][2];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
        sum[i][0] = sum[i][1] = (V){0};
    for (int64_t p = 0; p < k; p++, b += WIDTH) {
        V left, right;
        memcpy(&left, b, sizeof left);
        memcpy(&right, b + LANES, sizeof right);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            T s = a[i * lda + p];
            sum[i][0] += s * left;
            sum[i][1] += s * right;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
        memcpy(c + i * WIDTH, sum[i], sizeof sum[i]);
}

void FN(fbi_cpu_panel)(int64_t m, int64_t k, const T *a, int64_t lda, const T *b, T *c)
{
    enum { WIDTH = 2 * sizeof(V) / sizeof(T) };
    for (; m >= ROWS; m -= ROWS, a += ROWS * lda, c += ROWS * WIDTH)
        FN(tile)(ROWS, k, a, lda, b, c);
    if (m >= 4) {
        FN(tile)(4, k, a, lda, b, c);
        m -= 4, a += 4 * lda, c += 4 * WIDTH;
    }
    if (m >= 2) {
        FN(tile)(2, k, a, lda, b, c);
        m -= 2, a += 2 * lda, c += 2 * WIDTH;
    }
    if (m >= 1)
        FN(tile)(1, k, a, lda, b, c);
}
