/* Passes of the norms over dense rows [rows, cols] for one element type: T, V (a vector of T) and
 * FN(name). No include guard. */

enum { FN(WIDTH) = sizeof(V) / sizeof(T), FN(AHEAD) = AHEAD / sizeof(T) };

static inline V FN(load)(const T *p)
{
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* LANES elements are needed soon. Beyond an array this does nothing. */
static inline void FN(ask)(const T *p)
{
    for (size_t k = 0; k < LANES * sizeof(T); k += LINE)
        __builtin_prefetch((const char *)p + k);
}

/* A piece like n elements at `at`, which may be NULL, is needed soon. */
static inline void FN(ask_piece)(const void *from, int64_t at, int64_t n)
{
    for (int64_t j = 0; from && j < n; j += LINE / (int64_t)sizeof(T))
        __builtin_prefetch((const T *)from + at + j + FN(AHEAD));
}

/* y = x * scale[j] + shift[j]; with relu: ReLU of that (+ r). */
static inline __attribute__((always_inline)) void FN(affine_of)(const T *x, const T *r,
                                                                int64_t cols, const affine_args *p,
                                                                int64_t from, bool relu, T *y)
{
    const double *scale = p->scale + from, *shift = p->shift + from;
#pragma GCC ivdep
    for (int64_t j = 0; j < cols; j++) {
        double v = (double)x[j] * scale[j] + shift[j];
        v = r ? v + (double)r[j] : v;
        y[j] = (T)(relu && v <= 0 ? 0 : v);
    }
}

/* Columns `from` .. from + cols - 1 of row i. */
static inline void FN(affine_row)(const affine_args *p, int64_t i, int64_t from, int64_t cols, T *y)
{
    int64_t at = i * p->cols + from;
    const T *x = (const T *)p->x + at, *r = p->r ? (const T *)p->r + at : NULL;
    if (r)
        FN(affine_of)(x, r, cols, p, from, true, y);
    else if (p->relu)
        FN(affine_of)(x, NULL, cols, p, from, true, y);
    else
        FN(affine_of)(x, NULL, cols, p, from, false, y);
}

/* The same past the caches, in pieces. */
static void FN(affine_past)(const affine_args *p, int64_t i, T *y)
{
    T piece[PIECE];
    fbi_stream_ahead(y, (size_t)p->cols * sizeof(T));
    for (int64_t j = 0; j < p->cols; j += PIECE) {
        int64_t n = p->cols - j < PIECE ? p->cols - j : PIECE;
        FN(ask_piece)(p->x, i * p->cols + j, n);
        FN(ask_piece)(p->r, i * p->cols + j, n);
        FN(affine_row)(p, i, j, n, piece);
        fbi_stream_lines(y + j, piece, (size_t)n * sizeof(T));
    }
}

static void FN(affine)(const affine_args *p, int64_t rows, T *y, int threads)
{
    bool past = goes_past(y, rows, p->cols, sizeof(T));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++)
            if (past)
                FN(affine_past)(p, i, y + i * p->cols);
            else
                FN(affine_row)(p, i, 0, p->cols, y + i * p->cols);
        if (past)
            fbi_stream_end();
    }
}

/* dx = g * a[j] + (x - mean[j]) * b[j] + d[j]; with y: of the g that a ReLU with this result lets
 * through. */
static inline __attribute__((always_inline)) void
FN(batch_dx_of)(const batch_grads *p, int64_t at, const T *y, int64_t from, int64_t cols, T *dx)
{
    const T *g = (const T *)p->g + at, *x = (const T *)p->x + at;
    const double *mean = p->mean + from, *a = p->a + from, *b = p->b + from, *d = p->d + from;
#pragma GCC ivdep
    for (int64_t j = 0; j < cols; j++) {
        T in = g[j];
        in = y && y[j] <= 0 ? 0 : in;
        dx[j] = (T)((double)in * a[j] + ((double)x[j] - mean[j]) * b[j] + d[j]);
    }
}

static inline void FN(batch_dx_row)(const batch_grads *p, int64_t i, int64_t from, int64_t cols,
                                    T *dx)
{
    int64_t at = i * p->cols + from;
    if (p->y)
        FN(batch_dx_of)(p, at, (const T *)p->y + at, from, cols, dx);
    else
        FN(batch_dx_of)(p, at, NULL, from, cols, dx);
}

static void FN(batch_dx_past)(const batch_grads *p, int64_t i, T *dx)
{
    T piece[PIECE];
    fbi_stream_ahead(dx, (size_t)p->cols * sizeof(T));
    for (int64_t j = 0; j < p->cols; j += PIECE) {
        int64_t n = p->cols - j < PIECE ? p->cols - j : PIECE;
        FN(batch_dx_row)(p, i, j, n, piece);
        fbi_stream_lines(dx + j, piece, (size_t)n * sizeof(T));
    }
}

static void FN(batch_dx)(const batch_grads *p, int64_t rows, T *dx, int threads)
{
    bool past = dx != p->g && goes_past(dx, rows, p->cols, sizeof(T));
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++)
            if (past)
                FN(batch_dx_past)(p, i, dx + i * p->cols);
            else
                FN(batch_dx_row)(p, i, 0, p->cols, dx + i * p->cols);
        if (past)
            fbi_stream_end();
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

/* --- layer norm --- */

/* A row whose statistics are to be made; with r: that of x + r, which goes to `sum`. Distances are
 * from m, its first value, so that one pass has the mean and the squares. */
typedef struct FN(new_row) {
    const T *x, *r;
    T *sum;
    double m;
} FN(new_row);

/* A row whose statistics are known: the mean is what T has of it, and the rest. */
typedef struct FN(known_row) {
    const T *x;
    T *y, high, low, rstd;
} FN(known_row);

/* LANES elements of the row at j. */
static inline const T *FN(lanes_of)(FN(new_row) row, int64_t j)
{
    FN(ask)(row.x + j + FN(AHEAD));
    if (!row.r)
        return row.x + j;
    FN(ask)(row.r + j + FN(AHEAD));
    for (int k = 0; k < LANES; k += FN(WIDTH)) {
        V sum = FN(load)(row.x + j + k) + FN(load)(row.r + j + k);
        memcpy(row.sum + j + k, &sum, sizeof sum);
    }
    return row.sum + j;
}

/* y = (x - mean) rstd w + b of LANES elements at j */
static inline void FN(scale_lanes)(FN(known_row) row, int64_t j, const T *w, const T *b, bool past)
{
#pragma GCC unroll 8
    for (int k = 0; k < LANES; k += FN(WIDTH)) {
        V y = ((FN(load)(row.x + j + k) - row.high) - row.low) * row.rstd;
        y = w ? y * FN(load)(w + j + k) : y;
        y = b ? y + FN(load)(b + j + k) : y;
        put_vector(row.y + j + k, &y, past);
    }
}

static inline void FN(add_one)(FN(new_row) row, int64_t j, double *s, double *q)
{
    T v = row.r ? row.x[j] + row.r[j] : row.x[j];
    double d = (double)v - row.m;
    if (row.r)
        row.sum[j] = v;
    *s += d;
    *q += d * d;
}

static inline void FN(scale_one)(FN(known_row) row, int64_t j, const T *w, const T *b)
{
    T y = ((row.x[j] - row.high) - row.low) * row.rstd;
    y = w ? y * w[j] : y;
    row.y[j] = b ? y + b[j] : y;
}

/* Sums over one row while another one is scaled, so that reads and writes overlap; either may be
 * absent. */
static inline __attribute__((always_inline)) void FN(layer_step)(const layer_args *p,
                                                                 const FN(new_row) * next,
                                                                 const FN(known_row) * row,
                                                                 double s[LANES], double q[LANES])
{
    const FN(new_row) to_sum = next ? *next : (FN(new_row)){0};
    const FN(known_row) to_scale = row ? *row : (FN(known_row)){0};
    fbi_v_f64 a[VECTORS] = {0}, d2[VECTORS] = {0};
    const T *w = p->w, *b = p->b;
    int64_t cols = p->cols, j = 0;
    bool past = p->past;
    for (; j + LANES <= cols; j += LANES) {
        const T *v = next ? FN(lanes_of)(to_sum, j) : NULL;
#pragma GCC unroll 8
        for (int k = 0; k < VECTORS && next; k++) {
            fbi_v_f64 d = FN(wide)(v + k * STEP) - to_sum.m;
            a[k] += d;
            d2[k] += d * d;
        }
        if (row)
            FN(scale_lanes)(to_scale, j, w, b, past);
    }
    memcpy(s, a, sizeof a);
    memcpy(q, d2, sizeof d2);
    for (int l = 0; j < cols; j++, l++) {
        if (next)
            FN(add_one)(to_sum, j, &s[l], &q[l]);
        if (row)
            FN(scale_one)(to_scale, j, w, b);
    }
}

static FN(new_row) FN(new_row_of)(const layer_args *p, int64_t i)
{
    int64_t at = i * p->cols;
    FN(new_row) row = {.x = (const T *)p->x + at};
    if (p->r) {
        row.r = (const T *)p->r + at;
        row.sum = (T *)p->sum + at;
    }
    if (p->cols)
        row.m = first_value((double)(p->r ? row.x[0] + row.r[0] : row.x[0]));
    return row;
}

/* Of row i, whose sums are known: its statistics, and what they make of it. */
static FN(known_row) FN(known_row_of)(const layer_args *p, int64_t i, const FN(new_row) * sums,
                                      const double s[LANES], const double q[LANES])
{
    double off = FN(fold)(s) / (double)p->cols;
    double var = FN(fold)(q) / (double)p->cols - off * off, mean = sums->m + off;
    FN(known_row)
    row = {.x = sums->r ? sums->sum : sums->x,
           .y = (T *)p->y + i * p->cols,
           .high = (T)mean,
           .rstd = (T)(1 / sqrt((var < 0 ? 0 : var) + p->eps))};
    row.low = (T)(mean - (double)row.high);
    if (p->past)
        fbi_stream_ahead(row.y, (size_t)p->cols * sizeof(T));
    ((T *)p->mean)[i] = row.high;
    ((T *)p->rstd)[i] = row.rstd;
    return row;
}

/* Groups of rows: the sums of one are made while the one before it is scaled. */
static void FN(layer_rows)(const layer_args *p, int64_t i0, int64_t i1)
{
    FN(new_row) next[GROUP] = {{0}};
    FN(known_row) known[GROUP] = {{0}};
    double s[GROUP][LANES], q[GROUP][LANES];
    int64_t group = p->cols * GROUP <= NEAR ? GROUP : 1, before = 0, now = 0;
    for (int64_t i = i0; i < i1 || now; i += group, before = now) {
        now = i1 - i < group ? i1 - i : group;
        now = now > 0 ? now : 0;
        for (int k = 0; k < now || k < before; k++) {
            if (k < now)
                next[k] = FN(new_row_of)(p, i + k);
            if (k < now && k < before)
                FN(layer_step)(p, &next[k], &known[k], s[k], q[k]);
            else if (k < now)
                FN(layer_step)(p, &next[k], NULL, s[k], q[k]);
            else
                FN(layer_step)(p, NULL, &known[k], s[k], q[k]);
        }
        for (int k = 0; k < now; k++)
            known[k] = FN(known_row_of)(p, i + k, &next[k], s[k], q[k]);
    }
    if (p->past)
        fbi_stream_end();
}

static void FN(layer)(const layer_args *p, int64_t rows, int threads)
{
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static, 1)
    for (int t = 0; t < threads; t++)
        FN(layer_rows)(p, rows * t / threads, rows * (t + 1) / threads);
}

/* dx = (g w - mean(g w) - h mean(g w h)) rstd (+ more), h = (x - m) rstd, as
 * g rstd w - a - (x - m) c. */
typedef struct FN(back_row) {
    const T *g, *x, *more;
    T *dx, m, rstd, a, c;
} FN(back_row);

/* Partial sums over a row of g w and of g w (x - m): those of RUN elements in T, of them in double.
 */
static inline void FN(back_sums)(const FN(back_row) * row, const T *w, int64_t cols, int64_t ahead,
                                 double s[LANES], double q[LANES])
{
    fbi_v_f64 a[VECTORS] = {0}, b[VECTORS] = {0};
    const T *g = row->g, *x = row->x, m = row->m;
    int64_t whole = cols / LANES * LANES, j = 0;
    while (j < whole) {
        V sum[LANES / FN(WIDTH)] = {0}, along[LANES / FN(WIDTH)] = {0};
        T lanes[2][LANES];
        for (int64_t end = j + RUN < whole ? j + RUN : whole; j < end; j += LANES) {
#pragma GCC unroll 8
            for (int k = 0; k < LANES / FN(WIDTH); k++) {
                int64_t at = j + k * FN(WIDTH);
                V gw = FN(load)(g + at);
                gw = w ? gw * FN(load)(w + at) : gw;
                sum[k] += gw;
                along[k] += gw * (FN(load)(x + at) - m);
            }
            FN(ask)(g + j + ahead);
        }
        memcpy(lanes[0], sum, sizeof sum);
        memcpy(lanes[1], along, sizeof along);
#pragma GCC unroll 8
        for (int k = 0; k < VECTORS; k++) {
            a[k] += FN(wide)(lanes[0] + k * STEP);
            b[k] += FN(wide)(lanes[1] + k * STEP);
        }
    }
    memcpy(s, a, sizeof a);
    memcpy(q, b, sizeof b);
    for (int l = 0; j < cols; j++, l++) {
        T gw = w ? g[j] * w[j] : g[j];
        s[l] += (double)gw;
        q[l] += (double)(gw * (x[j] - m));
    }
}

static FN(back_row) FN(back_row_of)(const layer_grads *p, int64_t i, int64_t ahead)
{
    int64_t at = i * p->cols;
    FN(back_row)
    row = {.g = (const T *)p->g + at,
           .x = (const T *)p->x + at,
           .more = p->more ? (const T *)p->more + at : NULL,
           .dx = (T *)p->dx + at,
           .m = ((const T *)p->mean)[i],
           .rstd = ((const T *)p->rstd)[i]};
    double s[LANES], q[LANES], r = (double)row.rstd, n = (double)p->cols;
    FN(back_sums)(&row, p->w, p->cols, ahead, s, q);
    if (p->past)
        fbi_stream_ahead(row.dx, (size_t)p->cols * sizeof(T));
    row.a = (T)(FN(fold)(s) / n * r);
    row.c = (T)(FN(fold)(q) / n * r * r * r);
    return row;
}

/* Adds what a vector has to as many doubles. */
static inline void FN(add_wide)(double *to, V v)
{
    T lane[FN(WIDTH)];
    memcpy(lane, &v, sizeof v);
#pragma GCC unroll 2
    for (int k = 0; k < FN(WIDTH); k += STEP) {
        fbi_v_f64 sum;
        memcpy(&sum, to + k, sizeof sum);
        sum += FN(wide)(lane + k);
        memcpy(to + k, &sum, sizeof sum);
    }
}

/* dx of n rows; their sums in T go to the columns' in double. All of g is read before any dx at the
 * same place is written. */
static inline __attribute__((always_inline)) void FN(back_rows)(const FN(back_row) * rows, int n,
                                                                const layer_grads *p, int64_t ahead,
                                                                double *sg, double *sgh)
{
    const T *w = p->w;
    bool past = p->past, more = p->more != NULL;
    int64_t cols = p->cols, j = 0;
    FN(back_row) row[PAIR]; /* of which the compiler knows that no store changes it */
    for (int i = 0; i < n; i++)
        row[i] = rows[i];
    for (; j + FN(WIDTH) <= cols; j += FN(WIDTH)) {
        V sum = {0}, along = {0}, dx[PAIR];
#pragma GCC unroll 2
        for (int i = 0; i < n; i++) {
            V g = FN(load)(row[i].g + j), v = FN(load)(row[i].x + j) - row[i].m;
            V gr = g * row[i].rstd;
            sum += g;
            along += gr * v;
            gr = w ? gr * FN(load)(w + j) : gr;
            dx[i] = (gr - row[i].a) - v * row[i].c;
            dx[i] = more ? dx[i] + FN(load)(row[i].more + j) : dx[i];
        }
#pragma GCC unroll 2
        for (int i = 0; i < n; i++) {
            put_vector(row[i].dx + j, &dx[i], past);
            __builtin_prefetch(row[i].x + j + ahead);
        }
        FN(add_wide)(sg + j, sum);
        FN(add_wide)(sgh + j, along);
    }
    for (; j < cols; j++) {
        T sum = 0, along = 0;
        for (int i = 0; i < n; i++) {
            T g = row[i].g[j], v = row[i].x[j] - row[i].m, gr = g * row[i].rstd;
            sum += g;
            along += gr * v;
            gr = w ? gr * w[j] : gr;
            T dx = (gr - row[i].a) - v * row[i].c;
            row[i].dx[j] = more ? dx + row[i].more[j] : dx;
        }
        sg[j] += (double)sum;
        sgh[j] += (double)along;
    }
}

/* Rows i0 .. i1 - 1 of the gradient of a layer norm's input, which may take the place of g, with
 * `more` added to it; and to sg, sgh what the columns of g and of g h have. */
static void FN(layer_back)(const void *what, int64_t i0, int64_t i1, double *sg, double *sgh)
{
    const layer_grads *p = what;
    int64_t ahead = PAIR * p->cols > FN(AHEAD) ? PAIR * p->cols : FN(AHEAD);
    for (int64_t i = i0; i < i1; i += PAIR) {
        FN(back_row) rows[PAIR];
        int n = (int)(i1 - i < PAIR ? i1 - i : PAIR);
        for (int k = 0; k < n; k++)
            rows[k] = FN(back_row_of)(p, i + k, ahead);
        if (n == PAIR)
            FN(back_rows)(rows, PAIR, p, ahead, sg, sgh);
        else
            FN(back_rows)(rows, 1, p, ahead, sg, sgh);
    }
    if (p->past)
        fbi_stream_end();
}
