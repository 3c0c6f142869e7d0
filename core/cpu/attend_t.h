/* Heads of attention for one element type: T, M (a matrix of T), EXP, LOG and FN(name). No include
 * guard. */

static M FN(matrix)(const fb_tensor *t, int64_t head)
{
    return (M){(T *)fbi_ptr(t) + start_of(t, head), t->stride[t->ndim - 2], t->stride[t->ndim - 1]};
}

static M FN(plain)(T *p, int64_t row)
{
    return (M){p, row, 1};
}

/* Rows from `i` on. */
static M FN(below)(M m, int64_t i)
{
    m.p += i * m.row;
    return m;
}

/* m [rows, cols] as to [cols, ld]; columns beyond `rows` are zero. */
static void FN(transpose)(M m, int64_t rows, int64_t cols, T *to, int64_t ld)
{
    for (int64_t i0 = 0; i0 < ld; i0 += 16) {
        int64_t n = rows - i0 < 16 ? rows - i0 : 16;
        const T *from = m.p + i0 * m.row;
        for (int64_t j = 0; j < cols; j++) {
            T *at = to + j * ld + i0;
            const T *x = from + j * m.col;
            for (int64_t i = 0; i < 16 && n == 16; i++)
                at[i] = x[i * m.row];
            for (int64_t i = 0; i < 16 && i0 + i < ld && n < 16; i++)
                at[i] = i < n ? x[i * m.row] : 0;
        }
    }
}

/* m [rows, cols] itself if its rows are whole vectors, else a padded copy. */
static M FN(padded)(M m, int64_t rows, int64_t cols, T *to, int64_t ld)
{
    if (m.col == 1 && cols == ld)
        return m;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++)
            to[i * ld + j] = m.p[i * m.row + j * m.col];
        for (int64_t j = cols; j < ld; j++)
            to[i * ld + j] = 0;
    }
    return FN(plain)(to, ld);
}

static void FN(put)(M to, const T *from, int64_t rows, int64_t cols, int64_t ld)
{
    for (int64_t i = 0; i < rows; i++, from += ld) {
        T *row = to.p + i * to.row;
        if (to.col == 1)
            memcpy(row, from, (size_t)cols * sizeof(T));
        else
            for (int64_t j = 0; j < cols; j++)
                row[j * to.col] = from[j];
    }
}

/* Products x of row `row` become scores; those beyond n, and those that the mask leaves out, -inf.
 */
static void FN(scores)(T *restrict x, int64_t n, int64_t whole, const sizes *z, int64_t row)
{
    const fbi_mask_row m = fbi_mask_row_of(z->mask, row);
    const T *add = m.data, scale = (T)z->a->scale;
    const uint8_t *takes_part = m.data;
    for (int64_t j = 0; j < whole; j++)
        x[j] *= scale;
    for (int64_t j = 0; m.add && j < n; j++)
        x[j] += add[j * m.stride];
    for (int64_t j = 0; m.data && !m.add && j < n; j++)
        x[j] = takes_part[j * m.stride] ? x[j] : -(T)INFINITY;
    for (int64_t j = n; j < whole; j++)
        x[j] = -(T)INFINITY;
}

/* x becomes e^(x - the largest); the log of their sum, with the largest, is returned. Nothing takes
 * part: zeros, and +inf, with which backward finds zeros again. */
static T FN(weights)(T *restrict x, int64_t whole, T *sum)
{
    T top = FN(largest)(x, whole);
    if (top == -(T)INFINITY) {
        memset(x, 0, (size_t)whole * sizeof(T));
        *sum = 1;
        return (T)INFINITY;
    }
    for (int64_t j = 0; j < whole; j++)
        x[j] = EXP(x[j] - top);
    *sum = FN(run)(x, whole, 0, false);
    return top + LOG(*sum);
}

/* What dropout multiplies the first n weights of row `row` with. */
static void FN(kept)(T *f, int64_t n, const sizes *z, int64_t row)
{
    enum { CHUNK = 256 };
    float u[CHUNK], p = (float)z->a->dropout;
    T scale = z->a->dropout < 1 ? (T)(1 / (1 - z->a->dropout)) : 0;
    for (int64_t j = 0; j < n; j += CHUNK) {
        int64_t m = n - j < CHUNK ? n - j : CHUNK;
        fbi_rng_uniform_f32(z->a->key, z->a->stream, (uint64_t)(row * z->s + j), u, (size_t)m);
        for (int64_t i = 0; i < m; i++)
            f[j + i] = u[i] < p ? 0 : scale;
    }
}

static void FN(forward)(const fbi_call *c, const sizes *z, int64_t from, int64_t to, void *work)
{
    T *kt = work, *x = kt + z->d * z->sp, *o = x + ROWS * z->sp, *vs = o + ROWS * z->ep;
    T *f = vs + z->s * z->ep, *lse = fbi_ptr(c->out[1]);
    int64_t lanes = 64 / (int64_t)sizeof(T);
    M v = {0};
    for (int64_t h = from; h < to; h++) {
        M q = FN(matrix)(c->in[0], h), y = FN(matrix)(c->out[0], h);
        if (h == from || h % z->group == 0) {
            v = FN(padded)(FN(matrix)(c->in[2], h / z->group), z->s, z->e, vs, z->ep);
            FN(transpose)(FN(matrix)(c->in[1], h / z->group), z->s, z->d, kt, z->sp);
        }
        for (int64_t i0 = 0; i0 < z->t; i0 += ROWS) {
            int64_t m = z->t - i0 < ROWS ? z->t - i0 : ROWS, n = seen(z, i0 + m - 1);
            int64_t whole = (n + lanes - 1) / lanes * lanes;
            FN(fbi_cpu_tiles)
            (m, whole, z->d, FN(below)(q, i0), FN(plain)(kt, z->sp), FN(plain)(x, z->sp), false);
            T sum[ROWS];
            for (int64_t i = 0; i < m; i++) {
                T *w = x + i * z->sp;
                int64_t row = h * z->t + i0 + i;
                FN(scores)(w, seen(z, i0 + i), whole, z, row);
                lse[row] = FN(weights)(w, whole, &sum[i]);
                if (z->a->dropout == 0)
                    continue;
                FN(kept)(f, n, z, row);
                for (int64_t j = 0; j < n; j++)
                    w[j] *= f[j];
            }
            FN(fbi_cpu_tiles)(m, z->ep, n, FN(plain)(x, z->sp), v, FN(plain)(o, z->ep), false);
            for (int64_t i = 0; i < m; i++) {
                T *row = o + i * z->ep, r = 1 / sum[i];
                for (int64_t j = 0; j < z->ep; j++)
                    row[j] *= r;
            }
            FN(put)(FN(below)(y, i0), o, m, z->e, z->ep);
        }
    }
}

static T FN(dot)(M a, M b, int64_t row, int64_t n)
{
    T s[16] = {0};
    const T *x = a.p + row * a.row, *y = b.p + row * b.row;
    int64_t j = 0;
    for (; a.col == 1 && b.col == 1 && j + 16 <= n; j += 16)
        for (int l = 0; l < 16; l++)
            s[l] += x[j + l] * y[j + l];
    for (int l = 0; j < n; j++, l = (l + 1) % 16)
        s[l] += x[j * a.col] * y[j * b.col];
    for (int half = 8; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            s[l] += s[l + half];
    return s[0];
}

/* From the scores x and the gradients dp of the weights as v met them: those weights, in place of
 * x, and the gradients of the products, in place of dp. f: what dropout does, or NULL. */
static void FN(scores_back)(T *restrict x, T *restrict dp, int64_t n, int64_t whole, T scale, T lse,
                            T delta, const T *restrict f)
{
    for (int64_t j = 0; j < whole; j++)
        x[j] = EXP(x[j] - lse);
    for (int64_t j = 0; f && j < n; j++)
        dp[j] *= f[j];
    for (int64_t j = 0; j < whole; j++)
        dp[j] = x[j] * (dp[j] - delta) * scale;
    for (int64_t j = 0; f && j < n; j++)
        x[j] *= f[j];
}

static void FN(backward)(const fbi_call *c, const sizes *z, int64_t from, int64_t to, void *work)
{
    T scale = (T)z->a->scale;
    T *kt = work, *vt = kt + z->d * z->sp, *x = vt + z->e * z->sp, *dx = x + ROWS * z->sp;
    T *dq = dx + ROWS * z->sp, *dk = dq + ROWS * z->dp, *ks = dk + z->s * z->dp;
    T *qs = ks + z->s * z->dp, *dv = qs + z->t * z->dp, *gs = dv + z->s * z->ep;
    T *kept = gs + z->t * z->ep, *f = z->a->dropout != 0 ? kept : NULL;
    const T *lse = fbi_ptr(c->in[5]);
    int64_t lanes = 64 / (int64_t)sizeof(T);
    M kp = {0};
    for (int64_t h = from; h < to; h++) {
        int64_t shared = h / z->group;
        M g = FN(matrix)(c->in[6], h), q = FN(matrix)(c->in[0], h);
        M y = FN(matrix)(c->in[4], h), d = FN(matrix)(c->out[0], h);
        if (h % z->group == 0) {
            M k = FN(matrix)(c->in[1], shared);
            FN(transpose)(k, z->s, z->d, kt, z->sp);
            FN(transpose)(FN(matrix)(c->in[2], shared), z->s, z->e, vt, z->sp);
            kp = FN(padded)(k, z->s, z->d, ks, z->dp);
            memset(dk, 0, (size_t)(z->s * z->dp) * sizeof(T));
            memset(dv, 0, (size_t)(z->s * z->ep) * sizeof(T));
        }
        M qp = FN(padded)(q, z->t, z->d, qs, z->dp), gp = FN(padded)(g, z->t, z->e, gs, z->ep);
        for (int64_t i0 = 0; i0 < z->t; i0 += ROWS) {
            int64_t m = z->t - i0 < ROWS ? z->t - i0 : ROWS, n = seen(z, i0 + m - 1);
            int64_t whole = (n + lanes - 1) / lanes * lanes;
            FN(fbi_cpu_tiles)
            (m, whole, z->d, FN(below)(q, i0), FN(plain)(kt, z->sp), FN(plain)(x, z->sp), false);
            FN(fbi_cpu_tiles)
            (m, whole, z->e, FN(below)(g, i0), FN(plain)(vt, z->sp), FN(plain)(dx, z->sp), false);
            for (int64_t i = 0; i < m; i++) {
                int64_t row = h * z->t + i0 + i;
                FN(scores)(x + i * z->sp, seen(z, i0 + i), whole, z, row);
                if (f)
                    FN(kept)(f, n, z, row);
                FN(scores_back)
                (x + i * z->sp, dx + i * z->sp, n, whole, scale, lse[row],
                 FN(dot)(g, y, i0 + i, z->e), f);
            }
            FN(fbi_cpu_tiles)(m, z->dp, n, FN(plain)(dx, z->sp), kp, FN(plain)(dq, z->dp), false);
            FN(put)(FN(below)(d, i0), dq, m, z->d, z->dp);
            FN(fbi_cpu_tiles)
            (n, z->ep, m, (M){x, 1, z->sp}, FN(below)(gp, i0), FN(plain)(dv, z->ep), true);
            FN(fbi_cpu_tiles)
            (n, z->dp, m, (M){dx, 1, z->sp}, FN(below)(qp, i0), FN(plain)(dk, z->dp), true);
        }
        if ((h + 1) % z->group == 0) {
            FN(put)(FN(matrix)(c->out[1], shared), dk, z->s, z->d, z->dp);
            FN(put)(FN(matrix)(c->out[2], shared), dv, z->s, z->e, z->ep);
        }
    }
}
