/* Heads of attention for one element type: T, M (a matrix of T), POW2, LOG and FN(name). No include
 * guard. Rows of scores are worked on STRIP at a time and STRIP elements at a time: so many chains
 * of sums side by side hide what each waits for. Scores are to the base 2. */

static M FN(matrix)(const fb_tensor *t, int64_t head)
{
    return (M){(T *)fbi_ptr(t) + start_of(t, head), t->stride[t->ndim - 2], t->stride[t->ndim - 1]};
}

static M FN(plain)(T *p, int64_t row)
{
    return (M){p, row, 1};
}

/* --- copies --- */

static void FN(riffle)(const T *restrict x, T *restrict y)
{
    for (int i = 0; i < STRIP * STRIP / 2; i++) {
        y[2 * i] = x[i];
        y[2 * i + 1] = x[STRIP * STRIP / 2 + i];
    }
}

/* x [16, 16] becomes its transpose: each perfect shuffle moves one bit of the place. */
static void FN(turn)(T *x)
{
    _Alignas(64) T y[STRIP * STRIP];
    for (int i = 0; i < 2; i++) {
        FN(riffle)(x, y);
        FN(riffle)(y, x);
    }
}

/* Rows `at` .. `at` + rows of m, with zeros after their ends. */
static void FN(pack)(M m, int64_t at, int64_t rows, int64_t cols, T *to, int64_t ld)
{
    const T *from = m.p + at * m.row;
    for (int64_t i = 0; i < rows; i++, from += m.row, to += ld) {
        if (m.col == 1)
            memcpy(to, from, (size_t)cols * sizeof(T));
        for (int64_t j = 0; j < cols && m.col != 1; j++)
            to[j] = from[j * m.col];
        for (int64_t j = cols; j < ld; j++)
            to[j] = 0;
    }
}

/* At most 16 rows and columns of m, with zeros beyond them. */
static void FN(corner)(M m, int64_t rows, int64_t cols, T *x)
{
    if (m.col != 1 || rows < STRIP || cols < STRIP) {
        memset(x, 0, STRIP * STRIP * sizeof(T));
        FN(pack)(m, 0, at_most(rows, STRIP), at_most(cols, STRIP), x, STRIP);
        return;
    }
    for (int i = 0; i < STRIP; i++)
        memcpy(x + i * STRIP, m.p + i * m.row, STRIP * sizeof(T));
}

/* factor * m [rows, cols], transposed: panels [cols, PANEL], each of PANEL rows of m. */
static void FN(pack_panels)(M m, int64_t rows, int64_t cols, T factor, T *to)
{
    _Alignas(64) T x[STRIP * STRIP];
    for (int64_t i0 = 0; i0 < rows; i0 += STRIP)
        for (int64_t j0 = 0; j0 < cols; j0 += STRIP) {
            M part = {m.p + i0 * m.row + j0 * m.col, m.row, m.col};
            FN(corner)(part, rows - i0, cols - j0, x);
            FN(turn)(x);
            T *at = to + i0 / PANEL * PANEL * cols + i0 % PANEL + j0 * PANEL;
            for (int64_t j = 0; j < cols - j0 && j < STRIP; j++)
                for (int i = 0; i < STRIP; i++)
                    at[j * PANEL + i] = x[j * STRIP + i] * factor;
        }
}

/* Rows at `at` of m become from [rows, cols]. */
static void FN(put)(M m, int64_t at, const T *from, int64_t rows, int64_t cols, int64_t ld)
{
    T *to = m.p + at * m.row;
    for (int64_t i = 0; i < rows; i++, from += ld, to += m.row) {
        if (m.col == 1)
            memcpy(to, from, (size_t)cols * sizeof(T));
        for (int64_t j = 0; j < cols && m.col != 1; j++)
            to[j * m.col] = from[j];
    }
}

/* --- products --- */

/* x [m, s] = a [m, d] panels, for rows i0 on and the keys that each strip of them sees. */
static void FN(scores_of)(const sizes *z, int64_t i0, int64_t m, int64_t d, M a, T *panels, T *x)
{
    for (int64_t j0 = 0; j0 < seen(z, i0 + m - 1); j0 += PANEL)
        for (int64_t i = 0; i < m; i += STRIP) {
            int64_t rows = at_most(m - i, STRIP), n = seen(z, i0 + i + rows - 1) - j0;
            if (n > 0)
                FN(fbi_cpu_tiles)
            (rows, at_most(rounded(n, STRIP), PANEL), d, (M){a.p + i * a.row, a.row, a.col},
             FN(plain)(panels + j0 * d, PANEL), FN(plain)(x + i * z->ld + j0, z->ld), false);
        }
}

/* y [m, width] = x [m, s] keys [s, width], the same. */
static void FN(over_keys)(const sizes *z, int64_t i0, int64_t m, int64_t width, T *x, T *keys, T *y)
{
    for (int64_t j0 = 0; j0 < seen(z, i0 + m - 1); j0 += PANEL)
        for (int64_t i = 0; i < m; i += STRIP) {
            int64_t rows = at_most(m - i, STRIP), n = seen(z, i0 + i + rows - 1) - j0;
            if (n > 0)
                FN(fbi_cpu_tiles)
            (rows, width, at_most(n, PANEL), FN(plain)(x + i * z->ld + j0, z->ld),
             FN(plain)(keys + j0 * width, width), FN(plain)(y + i * width, width), j0 > 0);
        }
}

/* y [s, width] += x [m, s]^T a [m, width]: keys get what each strip that sees them has. */
static void FN(to_keys)(const sizes *z, int64_t i0, int64_t m, int64_t width, T *x, T *a, T *y)
{
    int64_t n = seen(z, i0 + m - 1);
    for (int64_t j = 0; j < n; j += STRIP) {
        int64_t first = z->a->causal && j > i0 ? j - i0 : 0;
        FN(fbi_cpu_tiles)
        (at_most(n - j, STRIP), width, m - first, (M){x + first * z->ld + j, 1, z->ld},
         FN(plain)(a + first * width, width), FN(plain)(y + j * width, width), true);
    }
}

/* --- rows of scores --- */

/* What the mask says of row `row`, of which n are seen; beyond them -inf. */
static void FN(hide)(T *restrict x, int64_t n, int64_t whole, const sizes *z, int64_t row)
{
    const fbi_mask_row m = fbi_mask_row_of(z->mask, row);
    const T *add = m.data;
    const uint8_t *takes_part = m.data;
    for (int64_t j = 0; m.add && j < n; j++)
        x[j] += add[j * m.stride] * (T)LOG2_E;
    for (int64_t j = 0; m.data && !m.add && j < n; j++)
        x[j] = takes_part[j * m.stride] ? x[j] : -(T)INFINITY;
    for (int64_t j = n; j < whole; j++)
        x[j] = -(T)INFINITY;
}

/* Largest of each row of x [rows, whole]; -inf for rows that are not there. NaN is passed over. */
static void FN(tops)(const T *x, int64_t ld, int64_t rows, int64_t whole, T *restrict top)
{
    _Alignas(64) T lane[STRIP * STRIP];
    for (int i = 0; i < STRIP * STRIP; i++)
        lane[i] = -(T)INFINITY;
    for (int64_t j = 0; j < whole; j += STRIP)
        for (int64_t i = 0; i < rows; i++) {
            const T *restrict from = x + i * ld + j;
            T *restrict to = lane + i * STRIP;
            for (int l = 0; l < STRIP; l++)
                to[l] = from[l] > to[l] ? from[l] : to[l];
        }
    FN(turn)(lane);
    memcpy(top, lane, STRIP * sizeof(T));
    for (int l = 1; l < STRIP; l++)
        for (int i = 0; i < STRIP; i++)
            top[i] = lane[l * STRIP + i] > top[i] ? lane[l * STRIP + i] : top[i];
}

/* lane [16, 16] are partial sums of 16 rows. */
static void FN(add_lanes)(T *lane, T *restrict sum)
{
    FN(turn)(lane);
    memcpy(sum, lane, STRIP * sizeof(T));
    for (int l = 1; l < STRIP; l++)
        for (int i = 0; i < STRIP; i++)
            sum[i] += lane[l * STRIP + i];
}

/* x [rows, whole] become weights before division by their sum; lse: the logarithm of the sums of
 * e^x. Nothing takes part in a row: zeros, and +inf, with which backward finds zeros again. */
static void FN(weights)(T *x, int64_t ld, int64_t rows, int64_t whole, T *restrict lse,
                        T *restrict sum)
{
    _Alignas(64) T lane[STRIP * STRIP] = {0};
    T top[STRIP];
    FN(tops)(x, ld, rows, whole, top);
    for (int i = 0; i < STRIP; i++)
        top[i] = top[i] == -(T)INFINITY ? 0 : top[i];
    for (int64_t j = 0; j < whole; j += STRIP)
        for (int64_t i = 0; i < rows; i++) {
            T *restrict at = x + i * ld + j, *restrict to = lane + i * STRIP, t = top[i];
            for (int l = 0; l < STRIP; l++) {
                T w = POW2(at[l] - t);
                at[l] = w;
                to[l] += w;
            }
        }
    FN(add_lanes)(lane, sum);
    for (int64_t i = 0; i < rows; i++) {
        lse[i] = sum[i] == 0 ? (T)INFINITY : top[i] * (T)LN_2 + LOG(sum[i]);
        sum[i] = sum[i] == 0 ? 1 : sum[i];
    }
}

/* What dropout multiplies the first n weights of rows `row` .. with: f [rows, sp]. */
static void FN(kept)(T *f, int64_t rows, int64_t n, const sizes *z, int64_t row)
{
    enum { CHUNK = 256 };
    float u[CHUNK], p = (float)z->a->dropout;
    T scale = z->a->dropout < 1 ? (T)(1 / (1 - z->a->dropout)) : 0;
    for (int64_t k = 0; k < rows; k++, row++, f += z->sp)
        for (int64_t j = 0; j < n; j += CHUNK) {
            int64_t m = at_most(n - j, CHUNK);
            fbi_rng_uniform_f32(z->a->key, z->a->stream, (uint64_t)(row * z->s + j), u, (size_t)m);
            for (int64_t i = 0; i < m; i++)
                f[j + i] = u[i] < p ? 0 : scale;
        }
}

static void FN(drop)(T *x, const T *f, int64_t rows, int64_t n, const sizes *z)
{
    for (int64_t i = 0; i < rows; i++, x += z->ld, f += z->sp)
        for (int64_t j = 0; j < n; j++)
            x[j] *= f[j];
}

/* --- forward --- */

/* Weights of block [m, s] at row i0 of head h. f: room for what dropout does, or NULL. */
static void FN(softmax)(const sizes *z, int64_t h, int64_t i0, int64_t m, T *x, T *f, T *lse,
                        T *sum)
{
    for (int64_t i = 0; i < m; i += STRIP) {
        int64_t rows = at_most(m - i, STRIP), n = seen(z, i0 + i + rows - 1);
        int64_t row = h * z->t + i0 + i, whole = rounded(n, STRIP);
        T *at = x + i * z->ld;
        for (int64_t k = 0; k < rows; k++)
            FN(hide)(at + k * z->ld, seen(z, i0 + i + k), whole, z, row + k);
        FN(weights)(at, z->ld, rows, whole, lse + row, sum + i);
        if (!f)
            continue;
        FN(kept)(f, rows, n, z, row);
        FN(drop)(at, f, rows, n, z);
    }
}

static void FN(forward)(const fbi_call *c, const sizes *z, int64_t from, int64_t to, void *work)
{
    T *kt = work, *v = kt + z->d * z->sp, *x = v + z->s * z->ep, *o = x + ROWS * z->ld;
    T *f = z->a->dropout != 0 ? o + ROWS * z->ep : NULL, *lse = fbi_ptr(c->out[1]);
    T sum[ROWS], scale = (T)(z->a->scale * LOG2_E);
    for (int64_t h = from; h < to; h++) {
        M q = FN(matrix)(c->in[0], h), y = FN(matrix)(c->out[0], h);
        if (h == from || h % z->group == 0) {
            FN(pack)(FN(matrix)(c->in[2], h / z->group), 0, z->s, z->e, v, z->ep);
            FN(pack_panels)(FN(matrix)(c->in[1], h / z->group), z->s, z->d, scale, kt);
        }
        for (int64_t i0 = 0; i0 < z->t; i0 += ROWS) {
            int64_t m = at_most(z->t - i0, ROWS);
            FN(scores_of)(z, i0, m, z->d, (M){q.p + i0 * q.row, q.row, q.col}, kt, x);
            FN(softmax)(z, h, i0, m, x, f, lse, sum);
            FN(over_keys)(z, i0, m, z->ep, x, v, o);
            for (int64_t i = 0; i < m; i++) {
                T *row = o + i * z->ep, r = 1 / sum[i];
                for (int64_t j = 0; j < z->ep; j++)
                    row[j] *= r;
            }
            FN(put)(y, i0, o, m, z->e, z->ep);
        }
    }
}

/* --- backward --- */

/* dot[i] = the product of rows i of a and b [rows, ep]. */
static void FN(dots)(const T *a, const T *b, int64_t rows, int64_t ep, T *restrict dot)
{
    _Alignas(64) T lane[STRIP * STRIP] = {0};
    for (int64_t j = 0; j < ep; j += STRIP)
        for (int64_t i = 0; i < rows; i++) {
            const T *restrict x = a + i * ep + j, *restrict y = b + i * ep + j;
            T *restrict to = lane + i * STRIP;
            for (int l = 0; l < STRIP; l++)
                to[l] += x[l] * y[l];
        }
    FN(add_lanes)(lane, dot);
}

/* From the scores x and the gradients dx of the weights: those weights, in place of x, and the
 * gradients of the products, in place of dx. */
static void FN(scores_back)(T *x, T *dx, int64_t ld, int64_t rows, int64_t whole, T scale,
                            const T *lse, const T *dot)
{
    for (int64_t j = 0; j < whole; j += STRIP)
        for (int64_t i = 0; i < rows; i++) {
            T *restrict w = x + i * ld + j, *restrict d = dx + i * ld + j;
            T down = lse[i] * (T)LOG2_E, delta = dot[i];
            for (int l = 0; l < STRIP; l++) {
                w[l] = POW2(w[l] - down);
                d[l] = w[l] * (d[l] - delta) * scale;
            }
        }
}

/* The same for a block, whose rows of the result are y and of its gradient g. */
static void FN(softmax_back)(const sizes *z, int64_t h, int64_t i0, int64_t m, T *x, T *dx,
                             const T *y, const T *g, T *f, const T *lse)
{
    for (int64_t i = 0; i < m; i += STRIP) {
        int64_t rows = at_most(m - i, STRIP), n = seen(z, i0 + i + rows - 1);
        int64_t row = h * z->t + i0 + i, whole = rounded(n, STRIP);
        T *at = x + i * z->ld, *d = dx + i * z->ld, dot[STRIP];
        for (int64_t k = 0; k < rows; k++)
            FN(hide)(at + k * z->ld, seen(z, i0 + i + k), whole, z, row + k);
        FN(dots)(y + i * z->ep, g + i * z->ep, rows, z->ep, dot);
        if (f) {
            FN(kept)(f, rows, n, z, row);
            FN(drop)(d, f, rows, n, z);
        }
        FN(scores_back)(at, d, z->ld, rows, whole, (T)z->a->scale, lse + row, dot);
        if (f)
            FN(drop)(at, f, rows, n, z);
    }
}

static void FN(backward)(const fbi_call *c, const sizes *z, int64_t from, int64_t to, void *work)
{
    T *kt = work, *vt = kt + z->d * z->sp, *k = vt + z->e * z->sp, *dk = k + z->s * z->dp;
    T *dv = dk + z->s * z->dp, *x = dv + z->s * z->ep, *dx = x + ROWS * z->ld;
    T *q = dx + ROWS * z->ld, *dq = q + ROWS * z->dp, *g = dq + ROWS * z->dp, *y = g + ROWS * z->ep;
    T *f = z->a->dropout != 0 ? y + ROWS * z->ep : NULL, scale = (T)(z->a->scale * LOG2_E);
    const T *lse = fbi_ptr(c->in[5]);
    for (int64_t h = from; h < to; h++) {
        int64_t shared = h / z->group;
        if (h % z->group == 0) {
            FN(pack_panels)(FN(matrix)(c->in[1], shared), z->s, z->d, scale, kt);
            FN(pack_panels)(FN(matrix)(c->in[2], shared), z->s, z->e, 1, vt);
            FN(pack)(FN(matrix)(c->in[1], shared), 0, z->s, z->d, k, z->dp);
            memset(dk, 0, (size_t)(z->s * z->dp) * sizeof(T));
            memset(dv, 0, (size_t)(z->s * z->ep) * sizeof(T));
        }
        for (int64_t i0 = 0; i0 < z->t; i0 += ROWS) {
            int64_t m = at_most(z->t - i0, ROWS);
            FN(pack)(FN(matrix)(c->in[0], h), i0, m, z->d, q, z->dp);
            FN(pack)(FN(matrix)(c->in[4], h), i0, m, z->e, y, z->ep);
            FN(pack)(FN(matrix)(c->in[6], h), i0, m, z->e, g, z->ep);
            FN(scores_of)(z, i0, m, z->d, FN(plain)(q, z->dp), kt, x);
            FN(scores_of)(z, i0, m, z->e, FN(plain)(g, z->ep), vt, dx);
            FN(softmax_back)(z, h, i0, m, x, dx, y, g, f, lse);
            FN(over_keys)(z, i0, m, z->dp, dx, k, dq);
            FN(put)(FN(matrix)(c->out[0], h), i0, dq, m, z->d, z->dp);
            FN(to_keys)(z, i0, m, z->ep, x, g, dv);
            FN(to_keys)(z, i0, m, z->dp, dx, q, dk);
        }
        if ((h + 1) % z->group == 0) {
            FN(put)(FN(matrix)(c->out[1], shared), 0, dk, z->s, z->d, z->dp);
            FN(put)(FN(matrix)(c->out[2], shared), 0, dv, z->s, z->e, z->ep);
        }
    }
}
