/* Softmax of one floating type T with T X_EXP(T), T X_LOG(T); X(name). No guard. Rows [n] are
 * contiguous; lines [n] with stride `inner` go in groups of 64, one column each. */

static void X(softmax_row)(const T *restrict x, T *restrict y, int64_t n, bool logs)
{
    T top = X(largest)(x, n);
    for (int64_t i = 0; i < n; i++)
        y[i] = X_EXP(x[i] - top);
    T total = X(run)(y, n, 0, false);
    if (logs) {
        T down = X_LOG(total);
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - top) - down;
    } else {
        T scale = 1 / total;
        for (int64_t i = 0; i < n; i++)
            y[i] *= scale;
    }
}

static void X(softmax_columns)(const T *x, T *y, int64_t n, int64_t inner, int w, bool logs)
{
    T top[64], total[64];
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

static void X(softmax)(const fbi_call *c, fbi_line l, const T *x, bool logs)
{
    T *y = fbi_ptr(c->out[0]);
    int64_t groups = (l.inner + 63) / 64;
    int team = fbi_team(c, c->in[0]->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < l.outer * groups; i++) {
        int64_t first = i % groups * 64, at = i / groups * l.n * l.inner + first;
        if (l.inner == 1)
            X(softmax_row)(x + at, y + at, l.n, logs);
        else
            X(softmax_columns)
        (x + at, y + at, l.n, l.inner, (int)(l.inner - first < 64 ? l.inner - first : 64), logs);
    }
}

/* softmax: y * (g - sum(g * y)); log_softmax: g - exp(y) * sum(g) */
static void X(bwd_row)(const T *restrict g, const T *restrict y, T *restrict out, int64_t n,
                       bool logs)
{
    if (logs) {
        T total = X(run)(g, n, 0, false);
        for (int64_t i = 0; i < n; i++)
            out[i] = g[i] - X_EXP(y[i]) * total;
        return;
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = g[i] * y[i];
    T total = X(run)(out, n, 0, false);
    for (int64_t i = 0; i < n; i++)
        out[i] = y[i] * (g[i] - total);
}

static void X(bwd_columns)(const T *g, const T *y, T *out, int64_t n, int64_t inner, int w,
                           bool logs)
{
    T total[64] = {0};
    for (int64_t j = 0; j < n; j++)
        for (int k = 0; k < w; k++)
            total[k] += logs ? g[j * inner + k] : g[j * inner + k] * y[j * inner + k];
    for (int64_t j = 0; j < n; j++)
        for (int k = 0; k < w; k++) {
            int64_t i = j * inner + k;
            out[i] = logs ? g[i] - X_EXP(y[i]) * total[k] : y[i] * (g[i] - total[k]);
        }
}

static void X(softmax_bwd)(const fbi_call *c, fbi_line l, const T *g, const T *y, bool logs)
{
    T *out = fbi_ptr(c->out[0]);
    int64_t groups = (l.inner + 63) / 64;
    int team = fbi_team(c, c->in[0]->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < l.outer * groups; i++) {
        int64_t first = i % groups * 64, at = i / groups * l.n * l.inner + first;
        if (l.inner == 1)
            X(bwd_row)(g + at, y + at, out + at, l.n, logs);
        else
            X(bwd_columns)
        (g + at, y + at, out + at, l.n, l.inner, (int)(l.inner - first < 64 ? l.inner - first : 64),
         logs);
    }
}
