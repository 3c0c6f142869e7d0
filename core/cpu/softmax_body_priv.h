/* Softmax of one floating type T, V a vector of T, with T X_EXP(T), T X_LOG(T); X(name). No guard.
 * Rows [n] are contiguous; lines [n] with stride `inner` go in groups of SIDE, one column each. */

static inline V X(load)(const T *p)
{
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* `made` is y, or memory near for what goes past the caches. */
static void X(softmax_row)(const T *restrict x, T *y, T *restrict made, int64_t n, bool logs)
{
    T top = X(largest)(x, n);
    X(exponentials)(x, top, made, n);
    T total = X(run)(made, n, 0, false);
    T last = logs ? X_LOG(total) : 1 / total;
    if (y != made) {
        for (int64_t i = 0; i < n; i += WIDTH_OF(V)) {
            V v = logs ? (X(load)(x + i) - top) - last : X(load)(made + i) * last;
            put_vector(y + i, &v, true);
        }
    } else if (logs) {
        for (int64_t i = 0; i < n; i++)
            made[i] = (x[i] - top) - last;
    } else {
        for (int64_t i = 0; i < n; i++)
            made[i] *= last;
    }
}

static void X(softmax_columns)(const T *x, T *y, int64_t n, int64_t inner, int w, bool logs)
{
    T top[SIDE], total[SIDE];
    for (int k = 0; k < w; k++) {
        top[k] = -(T)INFINITY;
        total[k] = 0;
    }
    for (int64_t j = 0; j < n; j++)
        for (int k = 0; k < w; k++)
            top[k] = x[j * inner + k] > top[k] ? x[j * inner + k] : top[k];
    for (int64_t j = 0; j < n; j++)
        for (int k = 0; k < w; k++) {
            T e = X_EXP(x[j * inner + k] - top[k]);
            y[j * inner + k] = e;
            total[k] += e;
        }
    for (int k = 0; k < w; k++)
        total[k] = logs ? X_LOG(total[k]) : 1 / total[k];
    for (int64_t j = 0; j < n; j++)
        for (int k = 0; k < w; k++) {
            int64_t i = j * inner + k;
            y[i] = logs ? (x[i] - top[k]) - total[k] : y[i] * total[k];
        }
}

static void X(softmax_line)(const line_args *p, int64_t i, void *near)
{
    const T *x = p->x;
    T *y = p->out;
    int64_t groups = (p->l.inner + SIDE - 1) / SIDE, first = i % groups * SIDE;
    int64_t at = i / groups * p->l.n * p->l.inner + first, left = p->l.inner - first;
    if (p->l.inner != 1)
        X(softmax_columns)
    (x + at, y + at, p->l.n, p->l.inner, (int)(left < SIDE ? left : SIDE), p->logs);
    else X(softmax_row)(x + at, y + at, near ? near : y + at, p->l.n, p->logs);
}

/* softmax: y * (g - sum(g * y)); log_softmax: g - exp(y) * sum(g) */
static void X(bwd_row)(const T *restrict g, const T *restrict y, T *out, T *restrict made,
                       int64_t n, bool logs)
{
    for (int64_t i = 0; i < n && !logs; i++)
        made[i] = g[i] * y[i];
    T total = X(run)(logs ? g : made, n, 0, false);
    for (int64_t i = 0; i < n; i++)
        made[i] = logs ? g[i] - X_EXP(y[i]) * total : y[i] * (g[i] - total);
    if (out != made)
        fbi_stream_lines(out, made, (size_t)n * sizeof(T));
}

static void X(bwd_columns)(const T *g, const T *y, T *out, int64_t n, int64_t inner, int w,
                           bool logs)
{
    T total[SIDE] = {0};
    for (int64_t j = 0; j < n; j++)
        for (int k = 0; k < w; k++)
            total[k] += logs ? g[j * inner + k] : g[j * inner + k] * y[j * inner + k];
    for (int64_t j = 0; j < n; j++)
        for (int k = 0; k < w; k++) {
            int64_t i = j * inner + k;
            out[i] = logs ? g[i] - X_EXP(y[i]) * total[k] : y[i] * (g[i] - total[k]);
        }
}

static void X(bwd_line)(const line_args *p, int64_t i, void *near)
{
    const T *g = p->x, *y = p->y;
    T *out = p->out;
    int64_t groups = (p->l.inner + SIDE - 1) / SIDE, first = i % groups * SIDE;
    int64_t at = i / groups * p->l.n * p->l.inner + first, left = p->l.inner - first;
    if (p->l.inner != 1)
        X(bwd_columns)
    (g + at, y + at, out + at, p->l.n, p->l.inner, (int)(left < SIDE ? left : SIDE), p->logs);
    else X(bwd_row)(g + at, y + at, out + at, near ? near : out + at, p->l.n, p->logs);
}
