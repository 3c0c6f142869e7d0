/* Sums over the rows of a matrix, column by column, in an order that only the sizes decide: blocks
 * of 64 rows, whose sums are added in blocks of 64, and so on. */
#ifndef FLAMBEAU_CORE_CUDA_COLUMNS_PRIV_H
#define FLAMBEAU_CORE_CUDA_COLUMNS_PRIV_H

#include "core/cuda/vector_priv.h"

static const int64_t FBI_COLUMN_ROWS = 64;

/* G: a functor; at<V>(i, j, v0, v1) are the values of row i and of the V columns from j on that s0
 * and s1 sum. The pointers that it reads are passed beside it, so that a simulator sees them. */
template <class G, class T, int V>
__global__ void sum_columns(G from, const void *, const void *, int64_t outer, int64_t rows,
                            int64_t cols, int64_t blocks, T *s0, T *s1)
{
    FBI_EACH(k, outer * blocks * (cols / V))
    {
        int64_t j = k % (cols / V) * V, part = k / (cols / V), o = part / blocks;
        int64_t begin = part % blocks * FBI_COLUMN_ROWS, end = begin + FBI_COLUMN_ROWS;
        T a[V] = {0}, b[V] = {0};
        for (int64_t i = begin; i < end && i < rows; i++) {
            T v0[V] = {0}, v1[V] = {0};
            from.template at<V>(o * rows + i, j, v0, v1);
            for (int v = 0; v < V; v++) {
                a[v] += v0[v];
                b[v] += v1[v];
            }
        }
        for (int v = 0; v < V; v++) {
            s0[part * cols + j + v] = a[v];
            if (s1)
                s1[part * cols + j + v] = b[v];
        }
    }
}

template <class T> struct fbi_partial_columns {
    const T *p0, *p1;
    int64_t cols;
    template <int V> __device__ void at(int64_t i, int64_t j, T *v0, T *v1) const
    {
        for (int v = 0; v < V; v++) {
            v0[v] = p0[i * cols + j + v];
            v1[v] = p1 ? p1[i * cols + j + v] : (T)0;
        }
    }
};

/* s0[o, j] and s1[o, j] (which may be NULL) over `rows` rows of each of `outer` matrices. A thread
 * sums W columns where that divides them: the bits are the same. */
template <class G, class T, int W = 1>
static fb_status fbi_cuda_columns(const fbi_call *c, const G &from, const void *a, const void *b,
                                  int64_t outer, int64_t rows, int64_t cols, T *s0, T *s1)
{
    if (outer * cols == 0)
        return FB_OK;
    int64_t blocks = rows ? (rows + FBI_COLUMN_ROWS - 1) / FBI_COLUMN_ROWS : 1;
    fbi_temps temps(c);
    T *p0 = blocks == 1 ? s0 : temps.array<T>(outer * blocks * cols);
    T *p1 = blocks == 1 || !s1 || !p0 ? s1 : temps.array<T>(outer * blocks * cols);
    if (!p0 || (s1 && !p1))
        return c->ctx->status;
    int64_t threads = outer * blocks * cols;
    if (W > 1 && cols % W == 0)
        FBI_LAUNCH(c, (sum_columns<G, T, W>), fbi_blocks(c->ctx, threads / W), FBI_BLOCK, from, a,
                   b, outer, rows, cols, blocks, p0, p1);
    else
        FBI_LAUNCH(c, (sum_columns<G, T, 1>), fbi_blocks(c->ctx, threads), FBI_BLOCK, from, a, b,
                   outer, rows, cols, blocks, p0, p1);
    if (blocks == 1)
        return FB_OK;
    typedef fbi_partial_columns<T> parts;
    return fbi_cuda_columns<parts, T, 1>(c, parts{p0, p1, cols}, p0, p1, outer, blocks, cols, s0,
                                         s1);
}

template <class S> struct fbi_strided_columns {
    const S *x;
    int64_t row_stride, col_stride;
    bool wide; /* neighbours are side by side, rows begin at 16 bytes */
    template <int V> __device__ void at(int64_t i, int64_t j, fbi_of<S> *v0, fbi_of<S> *) const
    {
        if (V > 1 && wide) {
            fbi_get<V>(v0, x + i * row_stride + j, true);
            return;
        }
        for (int v = 0; v < V; v++)
            v0[v] = fbi_up(x[i * row_stride + (j + v) * col_stride]);
    }
};

template <class T> __global__ void fbi_add_to(void *out, int dtype, const T *v, int64_t n)
{
    FBI_EACH(i, n)
    fbi_store<T>(out, dtype, i, fbi_load<T>(out, dtype, i) + v[i]);
}

/* out[0] (+)= sums over the rows of x: the gradient of a bias. */
template <class S>
static fb_status fbi_cuda_column_sums(const fbi_call *c, const S *x, int64_t rows, int64_t cols,
                                      int64_t row_stride, int64_t col_stride)
{
    typedef fbi_of<S> T;
    typedef fbi_strided_columns<S> get;
    enum { W = fbi_storage_of<S>::width };
    fbi_temps temps(c);
    T *to = c->beta != 0 ? temps.array<T>(cols) : fbi_result<T>(temps, c->out[0]);
    bool wide = col_stride == 1 && row_stride % W == 0 && fbi_aligned(x);
    if (!to)
        return c->ctx->status;
    fb_status st = fbi_cuda_columns<get, T, W>(c, get{x, row_stride, col_stride, wide}, x, NULL, 1,
                                               rows, cols, to, (T *)NULL);
    if (st || c->beta == 0)
        return st ? st : fbi_deliver(c, (const T *)to, c->out[0]);
    if (cols)
        FBI_LAUNCH(c, fbi_add_to<T>, fbi_blocks(c->ctx, cols), FBI_BLOCK, fbi_cuda_data(c->out[0]),
                   (int)c->out[0]->dtype, (const T *)to, cols);
    return FB_OK;
}

#endif
