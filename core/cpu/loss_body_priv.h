/* Losses of one floating type T; X(name), X_EXP, X_LOG. No guard. */

typedef struct X(ce) {
    int64_t outer, classes, inner;
    const T *x, *weight; /* weight may be NULL */
    const int64_t *target;
    int64_t ignore;
    T smoothing, weight_sum;
} X(ce);

static T X(weight_of)(const X(ce) * e, int64_t class_index)
{
    return e->weight ? e->weight[class_index] : 1;
}

/* Fills what depends on the weights only. */
static void X(prepare)(X(ce) * e)
{
    e->weight_sum = e->weight ? X(run)(e->weight, e->classes, 0, false) : (T)e->classes;
}

/* Sum of the targets' weights, by which the mean divides. False: the error is set. */
static bool X(denominator)(const fbi_call *c, const X(ce) * e, T *sum)
{
    int64_t n = e->outer * e->inner;
    T *w = fbi_scratch(c, n, sizeof(T));
    if (!w)
        return false;
    for (int64_t i = 0; i < n; i++)
        w[i] = e->target[i] == e->ignore ? 0 : X(weight_of)(e, e->target[i]);
    *sum = X(run)(w, n, 0, false);
    free(w);
    return true;
}

/* log(sum(exp(x))) over the classes of one item, in blocks. */
static T X(log_sum_exp)(const T *x, int64_t n, int64_t step)
{
    T buf[FBI_BLOCK], top = -(T)INFINITY, total = 0;
    if (step == 1)
        top = X(largest)(x, n);
    for (int64_t i = 0; step != 1 && i < n; i++)
        top = x[i * step] > top ? x[i * step] : top;
    for (int64_t first = 0; first < n; first += FBI_BLOCK) {
        int64_t w = n - first < FBI_BLOCK ? n - first : FBI_BLOCK;
        if (step == 1) {
            for (int64_t i = 0; i < w; i++)
                buf[i] = X_EXP(x[first + i] - top);
        } else {
            for (int64_t i = 0; i < w; i++)
                buf[i] = X_EXP(x[(first + i) * step] - top);
        }
        total += X(block)(buf, w, 0, false);
    }
    return top + X_LOG(total);
}

static T X(item)(const X(ce) * e, const T *x, int64_t target, T lse)
{
    T loss = X(weight_of)(e, target) * (lse - x[target * e->inner]);
    if (e->smoothing == 0)
        return loss;
    T spread = 0;
    for (int64_t j = 0; j < e->classes; j++)
        spread += X(weight_of)(e, j) * (lse - x[j * e->inner]);
    return (1 - e->smoothing) * loss + e->smoothing / (T)e->classes * spread;
}

static fb_status X(ce_forward)(const fbi_call *c, X(ce) * e, int64_t reduction)
{
    int64_t n = e->outer * e->inner;
    T *out = fbi_ptr(c->out[0]), *lse = fbi_ptr(c->out[1]), *loss = out, down = 1;
    X(prepare)(e);
    if (reduction != 2 && !(loss = fbi_scratch(c, n, sizeof(T))))
        return FB_E_NOMEM;
    int team = fbi_team(c, n * e->classes);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < n; i++) {
        const T *x = e->x + i / e->inner * e->classes * e->inner + i % e->inner;
        lse[i] = X(log_sum_exp)(x, e->classes, e->inner);
        loss[i] = e->target[i] == e->ignore ? 0 : X(item)(e, x, e->target[i], lse[i]);
    }
    if (reduction == 2)
        return FB_OK;
    T total = X(run)(loss, n, 0, false);
    free(loss);
    if (reduction == 0 && !X(denominator)(c, e, &down))
        return FB_E_NOMEM;
    out[0] = total / down;
    return FB_OK;
}

static fb_status X(ce_backward)(const fbi_call *c, X(ce) * e, int64_t reduction, const T *g,
                                const T *lse)
{
    T *out = fbi_ptr(c->out[0]), down = 1;
    int64_t n = e->outer * e->inner, step = e->inner;
    X(prepare)(e);
    if (reduction == 0 && !X(denominator)(c, e, &down))
        return FB_E_NOMEM;
    int team = fbi_team(c, n * e->classes);
    T even = e->smoothing / (T)e->classes;
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < n; i++) {
        int64_t at = i / step * e->classes * step + i % step, t = e->target[i];
        if (t == e->ignore) {
            for (int64_t j = 0; j < e->classes; j++)
                out[at + j * step] = 0;
            continue;
        }
        T s = reduction == 2 ? g[i] : g[0] / down, hit = (1 - e->smoothing) * X(weight_of)(e, t);
        T k = s * (hit + even * e->weight_sum), l = lse[i];
        if (step == 1) {
            const T *restrict x = e->x + at;
            T *restrict y = out + at;
            for (int64_t j = 0; j < e->classes; j++)
                y[j] = k * X_EXP(x[j] - l);
        } else {
            for (int64_t j = 0; j < e->classes; j++)
                out[at + j * step] = k * X_EXP(e->x[at + j * step] - l);
        }
        if (e->smoothing > 0)
            for (int64_t j = 0; j < e->classes; j++)
                out[at + j * step] -= s * even * X(weight_of)(e, j);
        out[at + t * step] -= s * hit;
    }
    return FB_OK;
}

/* a and b of fbi_infer_cross_entropy_coef. */
static fb_status X(ce_coef)(const fbi_call *c, X(ce) * e, int64_t reduction)
{
    T *a = fbi_ptr(c->out[0]), *b = fbi_ptr(c->out[1]), down = 1;
    X(prepare)(e);
    if (reduction == 0 && !X(denominator)(c, e, &down))
        return FB_E_NOMEM;
    T even = e->smoothing / (T)e->classes;
    for (int64_t i = 0; i < e->outer * e->inner; i++) {
        int64_t at = i / e->inner * e->classes * e->inner + i % e->inner, t = e->target[i];
        T s = t == e->ignore ? 0 : 1 / down;
        T hit = t == e->ignore ? 0 : (1 - e->smoothing) * X(weight_of)(e, t);
        a[i] = s * (hit + even * e->weight_sum);
        for (int64_t j = 0; j < e->classes; j++)
            b[at + j * e->inner] = s * (even * X(weight_of)(e, j) + (j == t ? hit : 0));
    }
    return FB_OK;
}

static fb_status X(mse)(const fbi_call *c, const T *x, const T *t, int64_t n, int64_t reduction)
{
    T *out = fbi_ptr(c->out[0]);
    int team = fbi_team(c, n);
    if (reduction == 2) {
        for (int64_t i = 0; i < n; i++)
            out[i] = (x[i] - t[i]) * (x[i] - t[i]);
        return FB_OK;
    }
    int64_t blocks = n ? (n + FBI_BLOCK - 1) / FBI_BLOCK : 1;
    T *part = fbi_scratch(c, blocks, sizeof(T));
    if (!part)
        return FB_E_NOMEM;
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t b = 0; b < blocks; b++) {
        T buf[FBI_BLOCK];
        int64_t first = b * FBI_BLOCK, w = n - first < FBI_BLOCK ? n - first : FBI_BLOCK;
        for (int64_t i = 0; i < w; i++)
            buf[i] = (x[first + i] - t[first + i]) * (x[first + i] - t[first + i]);
        part[b] = X(block)(buf, w, 0, false);
    }
    out[0] = X(join)(part, blocks) / (T)(reduction == 0 ? (double)n : 1.0);
    free(part);
    return FB_OK;
}

static void X(mse_backward)(const fbi_call *c, const T *g, const T *x, const T *t, int64_t n,
                            int64_t reduction)
{
    T *out = fbi_ptr(c->out[0]);
    T k = reduction == 0 ? 2 / (T)n : 2;
    int team = fbi_team(c, n);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < n; i++)
        out[i] = k * (x[i] - t[i]) * g[reduction == 2 ? i : 0];
}
