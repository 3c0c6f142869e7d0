/* Sums of linear_act's backward for one element type: T, and FN(name). No include guard. */

/* Of columns n0 .. n1 in the panels between rows m0 and m1. */
static void FN(panel_sums)(const gradient *q, int64_t cols, int64_t m0, int64_t m1, int64_t n0,
                           int64_t n1)
{
    const T *dz = (const T *)fbi_ptr(q->c->out[0]) + n0;
    int64_t n = n1 - n0;
    for (int64_t i = m0; i < m1; i += q->panel) {
        T *restrict sum = (T *)q->part + i / q->panel * cols + n0;
        memcpy(sum, dz + i * cols, (size_t)n * sizeof(T));
        for (int64_t r = i + 1; r < i + q->panel && r < m1; r++)
            for (int64_t j = 0; j < n; j++)
                sum[j] += dz[r * cols + j];
    }
}

/* The sums of all panels, added in order in double. */
static void FN(join)(const gradient *q, int64_t panels, T *db, int64_t cols)
{
    enum { WIDE = 256 };
    for (int64_t j0 = 0; j0 < cols; j0 += WIDE) {
        double sum[WIDE] = {0};
        int64_t n = cols - j0 < WIDE ? cols - j0 : WIDE;
        for (int64_t p = 0; p < panels; p++)
            for (int64_t j = 0; j < n; j++)
                sum[j] += (double)((const T *)q->part)[p * cols + j0 + j];
        for (int64_t j = 0; j < n; j++)
            db[j0 + j] = (T)sum[j];
    }
}
