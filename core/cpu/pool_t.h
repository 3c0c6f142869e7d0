/* Pooling of dense [n, d, h, w, c] images for one element type: T and FN(name). No include guard.
 * An image is one thread's, so sums have a fixed order. */

static void FN(max)(const fbi_pool *p, const T *x, T *y, int32_t *index)
{
    for (int64_t o = 0; o < places(p->out); o++, y += p->c, index += p->c) {
        fbi_span s[3];
        bool first = true;
        spans(p, o, s);
        for (int64_t z = s[0].begin; z < s[0].end; z += s[0].step)
            for (int64_t r = s[1].begin; r < s[1].end; r += s[1].step)
                for (int64_t q = s[2].begin; q < s[2].end; q += s[2].step) {
                    int64_t at = (z * p->in[1] + r) * p->in[2] + q;
                    const T *v = x + at * p->c;
                    if (first) {
                        memcpy(y, v, (size_t)p->c * sizeof(T));
                        for (int64_t c = 0; c < p->c; c++)
                            index[c] = (int32_t)at;
                        first = false;
                        continue;
                    }
                    for (int64_t c = 0; c < p->c; c++) {
                        bool more = v[c] > y[c] || v[c] != v[c];
                        y[c] = more ? v[c] : y[c];
                        index[c] = more ? (int32_t)at : index[c];
                    }
                }
    }
}

/* Windows of each channel at its own random places. */
static void FN(random_max)(const fbi_pool *p, const T *x, const T *u, T *y, int32_t *index)
{
    for (int64_t i = 0; i < places(p->out) * p->c; i++) {
        int64_t c = i % p->c, o = i / p->c, begin[3], best = -1;
        for (int d = 2; d >= 0; d--) {
            begin[d] = fbi_pool_random(p, d, o % p->out[d], (double)u[c * 3 + d], sizeof(T) == 4);
            o /= p->out[d];
        }
        for (int64_t k = 0; k < p->k[0] * p->k[1] * p->k[2]; k++) {
            int64_t z = begin[0] + k / (p->k[1] * p->k[2]);
            int64_t r = begin[1] + k / p->k[2] % p->k[1];
            int64_t at = (z * p->in[1] + r) * p->in[2] + begin[2] + k % p->k[2];
            const T *v = x + at * p->c + c;
            if (best < 0 || *v > x[best * p->c + c] || *v != *v)
                best = at;
        }
        y[i] = x[best * p->c + c];
        index[i] = (int32_t)best;
    }
}

/* dx[index] += g */
static void FN(max_bwd)(const fbi_pool *p, const T *g, const int32_t *index, T *dx)
{
    memset(dx, 0, (size_t)(places(p->in) * p->c) * sizeof(T));
    for (int64_t i = 0; i < places(p->out); i++, g += p->c, index += p->c)
        for (int64_t c = 0; c < p->c; c++)
            dx[index[c] * p->c + c] += g[c];
}

/* dx[index] = g */
static void FN(unpool)(const fbi_pool *p, const T *g, const int32_t *index, T *dx)
{
    memset(dx, 0, (size_t)(places(p->in) * p->c) * sizeof(T));
    for (int64_t i = 0; i < places(p->out); i++, g += p->c, index += p->c)
        for (int64_t c = 0; c < p->c; c++)
            dx[index[c] * p->c + c] = g[c];
}

static void FN(pick)(const fbi_pool *p, const T *u, const int32_t *index, T *y)
{
    for (int64_t i = 0; i < places(p->out); i++, y += p->c, index += p->c)
        for (int64_t c = 0; c < p->c; c++)
            y[c] = u[index[c] * p->c + c];
}

static T FN(scale)(const fbi_pool *p, const fbi_span *s)
{
    return (T)1 / (T)(p->divisor ? p->divisor : s[0].count * s[1].count * s[2].count);
}

static void FN(mean)(const fbi_pool *p, const T *x, T *y)
{
    for (int64_t o = 0; o < places(p->out); o++, y += p->c) {
        fbi_span s[3];
        spans(p, o, s);
        memset(y, 0, (size_t)p->c * sizeof(T));
        for (int64_t z = s[0].begin; z < s[0].end; z++)
            for (int64_t r = s[1].begin; r < s[1].end; r++)
                for (int64_t q = s[2].begin; q < s[2].end; q++) {
                    const T *v = x + ((z * p->in[1] + r) * p->in[2] + q) * p->c;
                    for (int64_t c = 0; c < p->c; c++)
                        y[c] += v[c];
                }
        T scale = FN(scale)(p, s);
        for (int64_t c = 0; c < p->c; c++)
            y[c] *= scale;
    }
}

static void FN(mean_bwd)(const fbi_pool *p, const T *g, T *dx)
{
    memset(dx, 0, (size_t)(places(p->in) * p->c) * sizeof(T));
    for (int64_t o = 0; o < places(p->out); o++, g += p->c) {
        fbi_span s[3];
        spans(p, o, s);
        T scale = FN(scale)(p, s);
        for (int64_t z = s[0].begin; z < s[0].end; z++)
            for (int64_t r = s[1].begin; r < s[1].end; r++)
                for (int64_t q = s[2].begin; q < s[2].end; q++) {
                    T *v = dx + ((z * p->in[1] + r) * p->in[2] + q) * p->c;
                    for (int64_t c = 0; c < p->c; c++)
                        v[c] += g[c] * scale;
                }
    }
}

/* Image n. */
static void FN(image)(const job *j, int64_t n)
{
    const fbi_pool *p = &j->pool;
    int64_t big = n * places(p->in) * p->c, small = n * places(p->out) * p->c;
    const T *in = j->in;
    T *out = j->out;
    switch (j->what) {
    case MAX:
        FN(max)(p, in + big, out + small, j->index_out + small);
        break;
    case RANDOM_MAX:
        FN(random_max)
        (p, in + big, (const T *)j->samples + n * p->c * 3, out + small, j->index_out + small);
        break;
    case MAX_BWD:
        FN(max_bwd)(p, in + small, j->index + small, out + big);
        break;
    case UNPOOL:
        FN(unpool)(p, in + small, j->index + small, out + big);
        break;
    case PICK:
        FN(pick)(p, in + big, j->index + small, out + small);
        break;
    case MEAN:
        FN(mean)(p, in + big, out + small);
        break;
    case MEAN_BWD:
        FN(mean_bwd)(p, in + small, out + big);
        break;
    }
}
