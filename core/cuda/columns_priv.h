/* Sums over the rows of a matrix, column by column, in an order that only the sizes decide: blocks
 * of 64 rows, whose sums are added in blocks of 64, and so on. */
#ifndef FLAMBEAU_CORE_CUDA_COLUMNS_PRIV_H
#define FLAMBEAU_CORE_CUDA_COLUMNS_PRIV_H

#include "core/cuda/kernel_priv.h"

static const int64_t FBI_COLUMN_ROWS = 64;

/* G: a functor; get(i, j, &v0, &v1) are the values of row i and column j that s0 and s1 sum. The
 * pointers that it reads are passed beside it, so that a simulator sees them. */
template <class G, class T>
__global__ void sum_columns(G get, const void *, const void *, int64_t outer, int64_t rows,
                            int64_t cols, int64_t blocks, T *s0, T *s1)
{
    FBI_EACH(k, outer * blocks * cols)
    {
        int64_t j = k % cols, block = k / cols % blocks, o = k / cols / blocks;
        int64_t begin = block * FBI_COLUMN_ROWS, end = begin + FBI_COLUMN_ROWS;
        T a = 0, b = 0;
        for (int64_t i = begin; i < end && i < rows; i++) {
            T v0 = 0, v1 = 0;
            get(o * rows + i, j, &v0, &v1);
            a += v0;
            b += v1;
        }
        s0[k] = a;
        if (s1)
            s1[k] = b;
    }
}

template <class T> struct fbi_partial_columns {
    const T *p0, *p1;
    int64_t cols;
    __device__ void operator()(int64_t i, int64_t j, T *v0, T *v1) const
    {
        *v0 = p0[i * cols + j];
        *v1 = p1 ? p1[i * cols + j] : (T)0;
    }
};

/* s0[o, j] and s1[o, j] (which may be NULL) over `rows` rows of each of `outer` matrices. */
template <class G, class T>
static fb_status fbi_cuda_columns(const fbi_call *c, const G &get, const void *a, const void *b,
                                  int64_t outer, int64_t rows, int64_t cols, T *s0, T *s1)
{
    if (outer * cols == 0)
        return FB_OK;
    int64_t blocks = rows ? (rows + FBI_COLUMN_ROWS - 1) / FBI_COLUMN_ROWS : 1;
    unsigned grid = fbi_blocks(c->ctx, outer * blocks * cols);
    if (blocks == 1) {
        FBI_LAUNCH(c, (sum_columns<G, T>), grid, FBI_BLOCK, get, a, b, outer, rows, cols, blocks,
                   s0, s1);
        return FB_OK;
    }
    fbi_temps temps(c);
    T *p0 = temps.array<T>(outer * blocks * cols);
    T *p1 = s1 && p0 ? temps.array<T>(outer * blocks * cols) : NULL;
    if (!p0 || (s1 && !p1))
        return c->ctx->status;
    FBI_LAUNCH(c, (sum_columns<G, T>), grid, FBI_BLOCK, get, a, b, outer, rows, cols, blocks, p0,
               p1);
    fbi_partial_columns<T> part = {p0, p1, cols};
    return fbi_cuda_columns<fbi_partial_columns<T>, T>(c, part, p0, p1, outer, blocks, cols, s0,
                                                       s1);
}

template <class T> struct fbi_strided_columns {
    const T *x;
    int64_t row_stride, col_stride;
    __device__ void operator()(int64_t i, int64_t j, T *v0, T *) const
    {
        *v0 = x[i * row_stride + j * col_stride];
    }
};

template <class T> __global__ void fbi_add_to(T *out, const T *v, int64_t n)
{
    FBI_EACH(i, n)
    out[i] += v[i];
}

/* out[0] (+)= sums over the rows of x: the gradient of a bias. */
template <class T>
static fb_status fbi_cuda_column_sums(const fbi_call *c, const T *x, int64_t rows, int64_t cols,
                                      int64_t row_stride, int64_t col_stride)
{
    typedef fbi_strided_columns<T> get;
    fbi_temps temps(c);
    T *out = (T *)fbi_cuda_data(c->out[0]), *to = c->beta != 0 ? temps.array<T>(cols) : out;
    if (!to)
        return c->ctx->status;
    fb_status st = fbi_cuda_columns<get, T>(c, get{x, row_stride, col_stride}, x, NULL, 1, rows,
                                            cols, to, (T *)NULL);
    if (!st && to != out && cols)
        FBI_LAUNCH(c, fbi_add_to<T>, fbi_blocks(c->ctx, cols), FBI_BLOCK, out, (const T *)to, cols);
    return st;
}
template <class T> __global__ void fbi_store_row(const T *v, int64_t n, void *to, int dtype)
{
    FBI_EACH(i, n)
    fbi_store<T>(to, dtype, i, v[i]);
}

/* The elements of a dense tensor, in its dtype. */
template <class T> static fb_status fbi_cuda_store_row(const fbi_call *c, const T *v, fb_tensor *to)
{
    if (to->numel)
        FBI_LAUNCH(c, fbi_store_row<T>, fbi_blocks(c->ctx, to->numel), FBI_BLOCK, v, to->numel,
                   fbi_cuda_data(to), (int)to->dtype);
    return FB_OK;
}

#endif
