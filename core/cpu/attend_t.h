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

/* x becomes e^(scale x - the largest) over its first n elements, 0 up to `whole`; the log of their
 * sum, with the largest, is returned. */
static T FN(weights)(T *restrict x, int64_t n, int64_t whole, T scale, T *sum)
{
    for (int64_t j = 0; j < whole; j++)
        x[j] *= scale;
    for (int64_t j = n; j < whole; j++)
        x[j] = -(T)INFINITY;
    T top = FN(largest)(x, whole);
    for (int64_t j = 0; j < whole; j++)
        x[j] = EXP(x[j] - top);
    for (int64_t j = n; j < whole; j++)
        x[j] = 0;
    *sum = FN(run)(x, whole, 0, false);
    return top + LOG(*sum);
}

static void FN(forward)(const fbi_call *c, const sizes *z, int64_t from, int64_t to, void *work)
{
    T scale = (T)((const fbi_attrs_attention *)c->attrs)->scale;
    T *kt = work, *x = kt + z->d * z->sp, *o = x + ROWS * z->sp, *vs = o + ROWS * z->ep;
    T *lse = fbi_ptr(c->out[1]);
    int64_t lanes = 64 / (int64_t)sizeof(T);
    for (int64_t h = from; h < to; h++) {
        M q = FN(matrix)(c->in[0], h), y = FN(matrix)(c->out[0], h);
        M v = FN(padded)(FN(matrix)(c->in[2], h), z->s, z->e, vs, z->ep);
        FN(transpose)(FN(matrix)(c->in[1], h), z->s, z->d, kt, z->sp);
        for (int64_t i0 = 0; i0 < z->t; i0 += ROWS) {
            int64_t m = z->t - i0 < ROWS ? z->t - i0 : ROWS, n = seen(z, i0 + m - 1);
            int64_t whole = (n + lanes - 1) / lanes * lanes;
            FN(fbi_cpu_tiles)
            (m, whole, z->d, FN(below)(q, i0), FN(plain)(kt, z->sp), FN(plain)(x, z->sp), false);
            T sum[ROWS];
            for (int64_t i = 0; i < m; i++)
                lse[h * z->t + i0 + i] =
                    FN(weights)(x + i * z->sp, seen(z, i0 + i), whole, scale, &sum[i]);
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

/* From the scores x and the gradients dp of the weights: the weights p, in place of x, and the
 * gradients of the scores, in place of dp. */
static void FN(scores_back)(T *restrict x, T *restrict dp, int64_t n, int64_t whole, T scale, T lse,
                            T delta)
{
    for (int64_t j = 0; j < whole; j++)
        x[j] = EXP(x[j] * scale - lse);
    for (int64_t j = n; j < whole; j++)
        x[j] = 0;
    for (int64_t j = 0; j < whole; j++)
        dp[j] = x[j] * (dp[j] - delta) * scale;
}

static void FN(backward)(const fbi_call *c, const sizes *z, int64_t from, int64_t to, void *work)
{
    T scale = (T)((const fbi_attrs_attention_bwd *)c->attrs)->scale;
    T *kt = work, *vt = kt + z->d * z->sp, *x = vt + z->e * z->sp, *dx = x + ROWS * z->sp;
    T *dq = dx + ROWS * z->sp, *dk = dq + ROWS * z->dp, *ks = dk + z->s * z->dp;
    T *qs = ks + z->s * z->dp, *dv = qs + z->t * z->dp, *gs = dv + z->s * z->ep;
    const T *lse = fbi_ptr(c->in[5]);
    int64_t lanes = 64 / (int64_t)sizeof(T);
    for (int64_t h = from; h < to; h++) {
        M g = FN(matrix)(c->in[0], h), q = FN(matrix)(c->in[1], h), k = FN(matrix)(c->in[2], h);
        M v = FN(matrix)(c->in[3], h), y = FN(matrix)(c->in[4], h), d = FN(matrix)(c->out[0], h);
        FN(transpose)(k, z->s, z->d, kt, z->sp);
        FN(transpose)(v, z->s, z->e, vt, z->sp);
        M kp = FN(padded)(k, z->s, z->d, ks, z->dp), qp = FN(padded)(q, z->t, z->d, qs, z->dp);
        M gp = FN(padded)(g, z->t, z->e, gs, z->ep);
        memset(dk, 0, (size_t)(z->s * z->dp) * sizeof(T));
        memset(dv, 0, (size_t)(z->s * z->ep) * sizeof(T));
        for (int64_t i0 = 0; i0 < z->t; i0 += ROWS) {
            int64_t m = z->t - i0 < ROWS ? z->t - i0 : ROWS, n = seen(z, i0 + m - 1);
            int64_t whole = (n + lanes - 1) / lanes * lanes;
            FN(fbi_cpu_tiles)
            (m, whole, z->d, FN(below)(q, i0), FN(plain)(kt, z->sp), FN(plain)(x, z->sp), false);
            FN(fbi_cpu_tiles)
            (m, whole, z->e, FN(below)(g, i0), FN(plain)(vt, z->sp), FN(plain)(dx, z->sp), false);
            for (int64_t i = 0; i < m; i++)
                FN(scores_back)
            (x + i * z->sp, dx + i * z->sp, seen(z, i0 + i), whole, scale, lse[h * z->t + i0 + i],
             FN(dot)(g, y, i0 + i, z->e));
            FN(fbi_cpu_tiles)(m, z->dp, n, FN(plain)(dx, z->sp), kp, FN(plain)(dq, z->dp), false);
            FN(put)(FN(below)(d, i0), dq, m, z->d, z->dp);
            FN(fbi_cpu_tiles)
            (n, z->ep, m, (M){x, 1, z->sp}, FN(below)(gp, i0), FN(plain)(dv, z->ep), true);
            FN(fbi_cpu_tiles)
            (n, z->dp, m, (M){dx, 1, z->sp}, FN(below)(qp, i0), FN(plain)(dk, z->dp), true);
        }
        FN(put)(FN(matrix)(c->out[1], h), dk, z->s, z->d, z->dp);
        FN(put)(FN(matrix)(c->out[2], h), dv, z->s, z->e, z->ep);
    }
}
