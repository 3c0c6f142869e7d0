/* Columns of a convolution for one element type: T and FN(name). No include guard.
 * col[p][q]: p = output position, q = (channel of the group, kernel row, kernel column). */

static void FN(im2col)(const fbi_conv *p, const T *x, int64_t group, T *col, int threads)
{
    int64_t cg = p->c / p->groups, q = cg * p->kh * p->kw;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t oy = 0; oy < p->oh; oy++)
        for (int64_t ox = 0; ox < p->ow; ox++) {
            T *to = col + (oy * p->ow + ox) * q;
            for (int64_t r = 0; r < p->kh; r++)
                for (int64_t s = 0; s < p->kw; s++) {
                    int64_t y = oy * p->stride[0] - p->padding[0] + r * p->dilation[0];
                    int64_t xx = ox * p->stride[1] - p->padding[1] + s * p->dilation[1];
                    bool inside = y >= 0 && y < p->h && xx >= 0 && xx < p->w;
                    const T *from = inside ? x + (y * p->w + xx) * p->c + group * cg : NULL;
                    for (int64_t c = 0; c < cg; c++)
                        to[(c * p->kh + r) * p->kw + s] = inside ? from[c] : 0;
                }
        }
}

/* Adds the columns into x; a channel is one thread's, so the order of its sums is fixed. */
static void FN(col2im)(const fbi_conv *p, const T *col, int64_t group, T *x, int threads)
{
    int64_t cg = p->c / p->groups, q = cg * p->kh * p->kw;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t c = 0; c < cg; c++)
        for (int64_t oy = 0; oy < p->oh; oy++)
            for (int64_t ox = 0; ox < p->ow; ox++)
                for (int64_t r = 0; r < p->kh; r++)
                    for (int64_t s = 0; s < p->kw; s++) {
                        int64_t y = oy * p->stride[0] - p->padding[0] + r * p->dilation[0];
                        int64_t xx = ox * p->stride[1] - p->padding[1] + s * p->dilation[1];
                        if (y < 0 || y >= p->h || xx < 0 || xx >= p->w)
                            continue;
                        x[(y * p->w + xx) * p->c + group * cg + c] +=
                            col[(oy * p->ow + ox) * q + (c * p->kh + r) * p->kw + s];
                    }
}

/* Row i of dz = g but where y <= 0, added to sums. */
static inline void FN(relu_dz_row)(const void *g, const void *y, int64_t i, int64_t cols, void *dz,
                                   double *sums)
{
    const T *from = (const T *)g + i * cols, *at = (const T *)y + i * cols;
    T *to = (T *)dz + i * cols;
#pragma omp simd
    for (int64_t j = 0; j < cols; j++) {
        T v = at[j] <= 0 ? 0 : from[j];
        to[j] = v;
        sums[j] += (double)v;
    }
}
