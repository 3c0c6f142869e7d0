/* Passes of the norms over dense rows [rows, cols] for one element type: T and FN(name).
 * No include guard. */

/* y = x * scale[j] + shift[j] */
static void FN(affine)(const T *x, int64_t rows, int64_t cols, const double *scale,
                       const double *shift, T *y, int threads)
{
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            y[i * cols + j] = (T)((double)x[i * cols + j] * scale[j] + shift[j]);
}

/* dx = g * a[j] + (x - mean[j]) * b[j] + d[j] */
static void FN(batch_dx)(const T *g, const T *x, int64_t rows, int64_t cols, const double *mean,
                         const double *a, const double *b, const double *d, T *dx, int threads)
{
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            int64_t at = i * cols + j;
            dx[at] = (T)((double)g[at] * a[j] + ((double)x[at] - mean[j]) * b[j] + d[j]);
        }
}

/* Sums over a row with a fixed number of lanes: the same bits on every instruction set. */
static double FN(fold)(const double s[LANES])
{
    double t[LANES];
    memcpy(t, s, sizeof t);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            t[j] += t[j + half];
    return t[0];
}

/* Partial sums of a row, or of the squares of what is beyond m. */
static inline void FN(row_sums)(const T *v, int64_t cols, double m, bool squares, double s[LANES])
{
    int64_t j = 0;
    for (int l = 0; l < LANES; l++)
        s[l] = 0;
    for (; j + LANES <= cols; j += LANES)
        for (int l = 0; l < LANES; l++) {
            double d = (double)v[j + l] - m;
            s[l] += squares ? d * d : d;
        }
    for (; j < cols; j++) {
        double d = (double)v[j] - m;
        s[j % LANES] += squares ? d * d : d;
    }
}

/* At most GROUP rows; with r: of x + r, which goes to `sum`. */
static void FN(layer_group)(const T *x, const T *r, T *sum, int64_t rows, int64_t cols, const T *w,
                            const T *b, double eps, T *y, T *mean, T *rstd)
{
    double s[GROUP][LANES], m[GROUP], root[GROUP];
    for (int64_t j = 0; r && j < rows * cols; j++)
        sum[j] = x[j] + r[j];
    x = r ? sum : x;
    for (int64_t i = 0; i < rows; i++)
        FN(row_sums)(x + i * cols, cols, 0, false, s[i]);
    for (int64_t i = 0; i < rows; i++) {
        m[i] = FN(fold)(s[i]) / (double)cols;
        mean[i] = (T)m[i];
    }
    for (int64_t i = 0; i < rows; i++)
        FN(row_sums)(x + i * cols, cols, m[i], true, s[i]);
    for (int64_t i = 0; i < rows; i++) {
        root[i] = 1 / sqrt(FN(fold)(s[i]) / (double)cols + eps);
        rstd[i] = (T)root[i];
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            T h = (T)(((double)x[i * cols + j] - m[i]) * root[i]);
            y[i * cols + j] = h * (w ? w[j] : 1) + (b ? b[j] : 0);
        }
}

static void FN(layer)(const T *x, const T *r, T *sum, int64_t rows, int64_t cols, const T *w,
                      const T *b, double eps, T *y, T *mean, T *rstd, int threads)
{
    int64_t group = cols * GROUP <= NEAR ? GROUP : cols < NEAR ? NEAR / cols : 1;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int64_t i = 0; i < rows; i += group) {
        int64_t n = rows - i < group ? rows - i : group, at = i * cols;
        FN(layer_group)
        (x + at, r ? r + at : NULL, r ? sum + at : NULL, n, cols, w, b, eps, y + at, mean + i,
         rstd + i);
    }
}

/* Rows i0 .. i1 - 1 of the gradient of a layer norm's input, which may take the place of g, with
 * `more` added to it; and to sg, sgh what the columns of g and of g h have, h = (x - mean) rstd. */
static void FN(layer_back)(const void *what, int64_t i0, int64_t i1, double *restrict sg,
                           double *restrict sgh)
{
    const layer_grads *p = what;
    const T *w = p->w;
    int64_t cols = p->cols;
    for (int64_t i = i0; i < i1; i++) {
        const T *v = (const T *)p->x + i * cols, *u = (const T *)p->g + i * cols;
        const T *more = p->more ? (const T *)p->more + i * cols : NULL;
        T *to = (T *)p->dx + i * cols;
        double m = (double)((const T *)p->mean)[i], r = (double)((const T *)p->rstd)[i];
        double s[LANES] = {0}, q[LANES] = {0};
        int64_t j0 = 0;
        for (; j0 + LANES <= cols; j0 += LANES)
            for (int l = 0; l < LANES; l++) {
                double gw = (double)u[j0 + l] * (w ? (double)w[j0 + l] : 1);
                s[l] += gw;
                q[l] += gw * (((double)v[j0 + l] - m) * r);
            }
        for (int l = 0; j0 < cols; j0++, l++) {
            double gw = (double)u[j0] * (w ? (double)w[j0] : 1);
            s[l] += gw;
            q[l] += gw * (((double)v[j0] - m) * r);
        }
        double a = FN(fold)(s) / (double)cols, b = FN(fold)(q) / (double)cols;
#pragma omp simd
        for (int64_t j = 0; j < cols; j++) {
            double g = (double)u[j], h = ((double)v[j] - m) * r;
            T d = (T)((g * (w ? (double)w[j] : 1) - a - h * b) * r);
            sg[j] += g;
            sgh[j] += g * h;
            to[j] = more ? d + more[j] : d;
        }
    }
}
