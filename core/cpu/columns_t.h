/* One block of rows of a column sum, for one element type: T and FN(name). No include guard. */

typedef T FN(few) __attribute__((vector_size(STEP * sizeof(T))));

static inline FN(few) FN(few_at)(const T *p)
{
    FN(few) v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* What of g passes a ReLU whose result is y. */
static inline FN(few) FN(passed)(FN(few) g, FN(few) y)
{
    __typeof__(y <= 0) closed = y <= 0;
    return (FN(few))((__typeof__(closed))g & ~closed);
}

/* The same place of the next rows is needed soon. Beyond an array this does nothing. */
static inline void FN(ask)(const T *p, int vectors)
{
    for (size_t k = 0; k < (size_t)vectors * STEP * sizeof(T); k += LINE)
        __builtin_prefetch((const char *)p + k);
}

/* Rows i0 .. i1 - 1 of a strip of columns from j on, whose sums stay in registers. */
static inline __attribute__((always_inline)) void FN(strip)(fbi_column_kind kind,
                                                            const fbi_columns *p, int64_t i0,
                                                            int64_t i1, int64_t j, int vectors,
                                                            double *s0, double *s1)
{
    bool two = kind != FBI_COL_SUM, dot = two && kind != FBI_COL_MOMENTS;
    fbi_v_f64 a[STRIP], b[STRIP], shift[STRIP];
    int64_t n = p->cols, group = (i1 - i0) * n, soon = AHEAD / (int64_t)sizeof(T);
    int64_t ahead = group < soon ? soon / group * group : group;
#pragma GCC unroll 4
    for (int k = 0; k < vectors; k++) {
        a[k] = wide_f64(s0 + j + k * STEP);
        b[k] = two ? wide_f64(s1 + j + k * STEP) : a[k];
        shift[k] = two ? wide_f64(p->shift + j + k * STEP) : a[k];
    }
    for (int64_t i = i0; i < i1; i++) {
        int64_t at = i * n + j;
        const T *x = (const T *)p->a + at, *with = dot ? (const T *)p->b + at : x;
        FN(ask)(x + ahead, vectors);
        if (dot)
            FN(ask)(with + ahead, vectors);
        if (kind == FBI_COL_OPEN_DOT)
            FN(ask)((const T *)p->y + at + ahead, vectors);
#pragma GCC unroll 4
        for (int k = 0; k < vectors; k++) {
            FN(few) g = FN(few_at)(x + k * STEP);
            if (kind == FBI_COL_OPEN_DOT) {
                g = FN(passed)(g, FN(few_at)((const T *)p->y + at + k * STEP));
                if (p->open)
                    memcpy((T *)p->open + at + k * STEP, &g, sizeof g);
            }
            fbi_v_f64 v = FN(wide)((const T *)&g);
            v = kind == FBI_COL_MOMENTS ? v - shift[k] : v;
            a[k] += v;
            if (dot)
                b[k] += v * (FN(wide)(with + k * STEP) - shift[k]);
            else if (two)
                b[k] += v * v;
        }
    }
#pragma GCC unroll 4
    for (int k = 0; k < vectors; k++) {
        memcpy(s0 + j + k * STEP, &a[k], sizeof a[k]);
        if (two)
            memcpy(s1 + j + k * STEP, &b[k], sizeof b[k]);
    }
}

/* The same of the columns from j on, fewer than a vector has. */
static inline __attribute__((always_inline)) void FN(rest)(fbi_column_kind kind,
                                                           const fbi_columns *p, int64_t i0,
                                                           int64_t i1, int64_t j0, double *s0,
                                                           double *s1)
{
    int64_t n = p->cols;
    for (int64_t i = i0; i < i1; i++) {
        const T *x = (const T *)p->a + i * n, *with = p->b ? (const T *)p->b + i * n : x;
        for (int64_t j = j0; j < n; j++) {
            T g = x[j];
            if (kind == FBI_COL_OPEN_DOT) {
                g = ((const T *)p->y)[i * n + j] <= 0 ? 0 : g;
                if (p->open)
                    ((T *)p->open)[i * n + j] = g;
            }
            double v = (double)g - (kind == FBI_COL_MOMENTS ? p->shift[j] : 0);
            s0[j] += v;
            if (kind == FBI_COL_MOMENTS)
                s1[j] += v * v;
            else if (kind != FBI_COL_SUM)
                s1[j] += v * ((double)with[j] - p->shift[j]);
        }
    }
}

static inline __attribute__((always_inline)) void FN(block_of)(fbi_column_kind kind,
                                                               const fbi_columns *p, int64_t i0,
                                                               int64_t i1, double *s0, double *s1)
{
    int64_t n = p->cols, j, group = kind == FBI_COL_SUM || kind == FBI_COL_MOMENTS ? GROUP : 1;
    for (int64_t i = i0, end; i < i1; i = end) {
        end = i + group < i1 ? i + group : i1;
        for (j = 0; j + STRIP * STEP <= n; j += STRIP * STEP)
            FN(strip)(kind, p, i, end, j, STRIP, s0, s1);
        for (; j + STEP <= n; j += STEP)
            FN(strip)(kind, p, i, end, j, 1, s0, s1);
        if (j < n)
            FN(rest)(kind, p, i, end, j, s0, s1);
    }
}

static void FN(block_sums)(fbi_column_kind kind, const fbi_columns *p, int64_t i0, int64_t i1,
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
    case FBI_COL_OPEN_DOT:
        FN(block_of)(FBI_COL_OPEN_DOT, p, i0, i1, s0, s1);
        break;
    }
}
