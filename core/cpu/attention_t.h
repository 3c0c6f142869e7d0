/* Rows of a masked softmax for one element type: T, EXP and FN(name). No include guard. */

/* y = softmax(x scale + mask) over the first n of `cols` elements, the rest zero. */
static void FN(softmax_row)(const T *x, int64_t cols, int64_t n, T scale, const fbi_mask_row *m,
                            T *y)
{
    T most = -(T)INFINITY;
    for (int64_t j = 0; j < n; j++) {
        T v = x[j] * scale;
        if (m->add)
            v += ((const T *)m->data)[j * m->stride];
        else if (m->data && !((const uint8_t *)m->data)[j * m->stride])
            v = -(T)INFINITY;
        y[j] = v;
        most = v > most ? v : most;
    }
    if (most == -(T)INFINITY)
        n = 0; /* nothing takes part */
    double s[LANES] = {0};
    for (int64_t j = 0; j < n; j++)
        y[j] = EXP(y[j] - most);
    for (int64_t j = 0; j < n; j++)
        s[j % LANES] += (double)y[j];
    T r = (T)(1 / fold(s));
    for (int64_t j = 0; j < n; j++)
        y[j] *= r;
    for (int64_t j = n; j < cols; j++)
        y[j] = 0;
}

/* dx = scale y (g - sum g y) */
static void FN(softmax_row_bwd)(const T *g, const T *y, int64_t cols, T scale, T *dx)
{
    double s[LANES] = {0};
    for (int64_t j = 0; j < cols; j++)
        s[j % LANES] += (double)g[j] * (double)y[j];
    T sum = (T)fold(s);
    for (int64_t j = 0; j < cols; j++)
        dx[j] = scale * y[j] * (g[j] - sum);
}
