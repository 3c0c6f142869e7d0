/* Pooling of dense [n, h, w, c] images for one element type: T and FN(name). No include guard.
 * An image is one thread's, so sums have a fixed order. */

static void FN(max)(const pool *p, const T *x, T *y, int32_t *index)
{
    for (int64_t oy = 0; oy < p->oh; oy++)
        for (int64_t ox = 0; ox < p->ow; ox++, y += p->c, index += p->c) {
            bool first = true;
            for (int64_t r = 0; r < p->k[0]; r++)
                for (int64_t s = 0; s < p->k[1]; s++) {
                    int64_t iy = oy * p->stride[0] - p->pad[0] + r * p->dil[0];
                    int64_t ix = ox * p->stride[1] - p->pad[1] + s * p->dil[1];
                    if (iy < 0 || iy >= p->h || ix < 0 || ix >= p->w)
                        continue;
                    const T *v = x + (iy * p->w + ix) * p->c;
                    int32_t at = (int32_t)(iy * p->w + ix);
                    if (first) {
                        memcpy(y, v, (size_t)p->c * sizeof(T));
                        for (int64_t c = 0; c < p->c; c++)
                            index[c] = at;
                        first = false;
                        continue;
                    }
                    for (int64_t c = 0; c < p->c; c++) {
                        bool more = v[c] > y[c] || v[c] != v[c];
                        y[c] = more ? v[c] : y[c];
                        index[c] = more ? at : index[c];
                    }
                }
        }
}

/* dx[index] += g */
static void FN(max_bwd)(const pool *p, const T *g, const int32_t *index, T *dx)
{
    memset(dx, 0, (size_t)(p->h * p->w * p->c) * sizeof(T));
    for (int64_t i = 0; i < p->oh * p->ow; i++, g += p->c, index += p->c)
        for (int64_t c = 0; c < p->c; c++)
            dx[index[c] * p->c + c] += g[c];
}

static void FN(pick)(const pool *p, const T *u, const int32_t *index, T *y)
{
    for (int64_t i = 0; i < p->oh * p->ow; i++, y += p->c, index += p->c)
        for (int64_t c = 0; c < p->c; c++)
            y[c] = u[index[c] * p->c + c];
}

static void FN(mean)(const pool *p, const T *x, T *y)
{
    for (int64_t oy = 0; oy < p->oh; oy++)
        for (int64_t ox = 0; ox < p->ow; ox++, y += p->c) {
            cell q = cell_of(p, oy, ox);
            memset(y, 0, (size_t)p->c * sizeof(T));
            for (int64_t iy = q.y0; iy < q.y1; iy++)
                for (int64_t ix = q.x0; ix < q.x1; ix++)
                    for (int64_t c = 0; c < p->c; c++)
                        y[c] += x[(iy * p->w + ix) * p->c + c];
            T scale = (T)1 / (T)q.count;
            for (int64_t c = 0; c < p->c; c++)
                y[c] *= scale;
        }
}

static void FN(mean_bwd)(const pool *p, const T *g, T *dx)
{
    memset(dx, 0, (size_t)(p->h * p->w * p->c) * sizeof(T));
    for (int64_t oy = 0; oy < p->oh; oy++)
        for (int64_t ox = 0; ox < p->ow; ox++, g += p->c) {
            cell q = cell_of(p, oy, ox);
            T scale = (T)1 / (T)q.count;
            for (int64_t iy = q.y0; iy < q.y1; iy++)
                for (int64_t ix = q.x0; ix < q.x1; ix++)
                    for (int64_t c = 0; c < p->c; c++)
                        dx[(iy * p->w + ix) * p->c + c] += g[c] * scale;
        }
}

/* Image n: `big` has the sizes h w, `small` oh ow. */
static void FN(image)(int what, const pool *p, int64_t n, const void *in, const int32_t *index,
                      void *out)
{
    int64_t big = n * p->h * p->w * p->c, small = n * p->oh * p->ow * p->c;
    switch (what) {
    case MAX:
        FN(max)(p, (const T *)in + big, (T *)out + small, p->index + small);
        break;
    case MAX_BWD:
        FN(max_bwd)(p, (const T *)in + small, index + small, (T *)out + big);
        break;
    case PICK:
        FN(pick)(p, (const T *)in + big, index + small, (T *)out + small);
        break;
    case MEAN:
        FN(mean)(p, (const T *)in + big, (T *)out + small);
        break;
    case MEAN_BWD:
        FN(mean_bwd)(p, (const T *)in + small, (T *)out + big);
        break;
    }
}
