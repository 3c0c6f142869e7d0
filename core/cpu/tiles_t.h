/* Small products for one element type: T, V (a vector of T), M and FN(name). No include guard. */

/* A strip of `vectors` vectors and at most ROWS rows; rows that are not there repeat the first. */
static inline __attribute__((always_inline)) void FN(tile)(int vectors, int64_t rows, int64_t k,
                                                           M a, M b, M c, bool add)
{
    enum { LANES = sizeof(V) / sizeof(T) };
    const T *x[ROWS];
    V sum[ROWS][VECTORS];
    for (int i = 0; i < ROWS; i++) {
        x[i] = a.p + (i < rows ? i : 0) * a.row;
        for (int j = 0; j < vectors; j++)
            sum[i][j] = (V){0};
    }
    const T *y = b.p;
    for (int64_t at = 0, p = 0; p < k; p++, at += a.col, y += b.row) {
        V v[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            memcpy(&v[j], y + j * LANES, sizeof(V));
#pragma GCC unroll 4
        for (int i = 0; i < ROWS; i++) {
            T s = x[i][at];
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                sum[i][j] += s * v[j];
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < ROWS; i++) {
        if (i >= rows)
            break;
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            T *to = c.p + i * c.row + j * LANES;
            V old = {0};
            if (add)
                memcpy(&old, to, sizeof old);
            old += sum[i][j];
            memcpy(to, &old, sizeof old);
        }
    }
}

static inline __attribute__((always_inline)) void FN(strip)(int vectors, int64_t m, int64_t k, M a,
                                                            M b, M c, bool add)
{
    for (int64_t i = 0; i < m; i += ROWS) {
        FN(tile)(vectors, m - i, k, a, b, c, add);
        a.p += ROWS * a.row;
        c.p += ROWS * c.row;
    }
}

void FN(fbi_cpu_tiles)(int64_t m, int64_t n, int64_t k, M a, M b, M c, bool add)
{
    int64_t lanes = sizeof(V) / sizeof(T), width = VECTORS * lanes;
    for (int64_t j = 0; j < n; j += width) {
        int64_t left = (n - j) / lanes;
        if (left >= VECTORS)
            FN(strip)(VECTORS, m, k, a, b, c, add);
        else if (left == 3)
            FN(strip)(VECTORS < 3 ? VECTORS : 3, m, k, a, b, c, add);
        else if (left == 2)
            FN(strip)(2, m, k, a, b, c, add);
        else
            FN(strip)(1, m, k, a, b, c, add);
        b.p += width;
        c.p += width;
    }
}
