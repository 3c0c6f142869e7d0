/* One block of rows of a column sum, for one element type: T and FN(name). No include guard. */

static inline __attribute__((always_inline)) void FN(block_of)(fbi_column_kind kind,
                                                               const fbi_columns *p, int64_t i0,
                                                               int64_t i1, double *s0, double *s1)
{
    const T *a = p->a, *b = p->b;
    int64_t n = p->cols;
    for (int64_t i = i0; i < i1; i++) {
        const T *x = a + i * n, *y = b ? b + i * n : x;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) {
            double v = (double)x[j] - (kind == FBI_COL_MOMENTS ? p->shift[j] : 0);
            s0[j] += v;
            if (kind == FBI_COL_MOMENTS)
                s1[j] += v * v;
            if (kind == FBI_COL_DOT)
                s1[j] += v * ((double)y[j] - p->shift[j]);
        }
    }
}

static void FN(block)(fbi_column_kind kind, const fbi_columns *p, int64_t i0, int64_t i1,
                      double *s0, double *s1)
{
    switch (kind) {
    case FBI_COL_SUM:
        FN(block_of)(FBI_COL_SUM, p, i0, i1, s0, s1);
        break;
    case FBI_COL_MOMENTS:
        FN(block_of)(FBI_COL_MOMENTS, p, i0, i1, s0, s1);
        break;
    case FBI_COL_DOT:
        FN(block_of)(FBI_COL_DOT, p, i0, i1, s0, s1);
        break;
    }
}
