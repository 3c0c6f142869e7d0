/* Kernels of cumsum, cumprod, cummax, cummin, logcumsumexp and prod. A line is cut into tiles that
 * only its length decides; the tiles' results are joined in order, so the bits are the same in
 * every run. */
#include "core/cuda/kernel_priv.h"
#include "core/cuda/reduction_priv.h"

enum { EACH = 8, TILE = FBI_BLOCK * EACH }; /* elements of a thread, of a block */

/* --- what is joined: states of type S, the earlier one first --- */

template <class T> struct sums {
    typedef T in, S;
    static __device__ S none() { return 0; }
    static __device__ S of(T v, int64_t) { return v; }
    static __device__ S join(S a, S b) { return a + b; }
    static __device__ T value(S s) { return s; }
    static __device__ int64_t index(S) { return 0; }
};
/* Integers wrap. */
template <> __device__ inline int64_t sums<int64_t>::join(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

template <class T> struct products : sums<T> {
    static __device__ T none() { return 1; }
    static __device__ T join(T a, T b) { return a * b; }
};
template <> __device__ inline int64_t products<int64_t>::join(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}

/* log(exp(a) + exp(b)) */
template <class T> struct log_sums : sums<T> {
    static __device__ T none() { return -(T)INFINITY; }
    static __device__ T join(T a, T b)
    {
        T most = a > b || a != a ? a : b, least = a > b || a != a ? b : a;
        return most == least && most - most != 0 ? most : most + (T)log1p(fbi_e(least - most));
    }
};

/* The extreme and its index, of equal ones the last; NaN wins; index -1: nothing yet. */
template <class T, bool LARGEST> struct extremes {
    typedef T in;
    struct S {
        T v;
        int64_t at;
    };
    static __device__ S none() { return S{0, -1}; }
    static __device__ S of(T v, int64_t i) { return S{v, i}; }
    static __device__ S join(S a, S b)
    {
        if (a.at < 0 || b.at < 0)
            return a.at < 0 ? b : a;
        return b.v != b.v || (a.v == a.v && (LARGEST ? b.v >= a.v : b.v <= a.v)) ? b : a;
    }
    static __device__ T value(S s) { return s.v; }
    static __device__ int64_t index(S s) { return s.at; }
};

/* --- the scan --- */

struct lines {
    fbi_line l;
    bool reverse;
    /* Memory place of element k of a line, in its order. */
    __device__ int64_t place(int64_t line, int64_t k) const
    {
        return (line / l.inner * l.n + (reverse ? l.n - 1 - k : k)) * l.inner + line % l.inner;
    }
};

/* What lies before this thread's value in the block; *total: all of it. */
template <class M>
static __device__ inline typename M::S before(typename M::S v, typename M::S *total)
{
    typedef typename M::S S;
    __shared__ S part[FBI_BLOCK];
    unsigned t = threadIdx.x;
    part[t] = v;
    __syncthreads();
    for (unsigned d = 1; d < FBI_BLOCK; d *= 2) {
        S w = t >= d ? M::join(part[t - d], part[t]) : part[t];
        __syncthreads();
        part[t] = w;
        __syncthreads();
    }
    S result = t ? part[t - 1] : M::none();
    *total = part[FBI_BLOCK - 1];
    __syncthreads();
    return result;
}

/* The result of each tile. */
template <class M>
__global__ void tile_totals(const void *x, int dtype, lines p, int64_t tiles, typename M::S *total)
{
    int64_t line = blockIdx.x / tiles, begin = blockIdx.x % tiles * TILE + threadIdx.x * EACH;
    typename M::S s = M::none(), all;
    for (int64_t k = begin; k < begin + EACH && k < p.l.n; k++)
        s = M::join(s, M::of(fbi_load<typename M::in>(x, dtype, p.place(line, k)), k));
    before<M>(s, &all);
    if (threadIdx.x == 0)
        total[blockIdx.x] = all;
}

/* Each tile's total becomes what lies before the tile: a block a line. */
template <class M> __global__ void tile_starts(typename M::S *total, int64_t tiles)
{
    typename M::S *t = total + blockIdx.x * tiles, carry = M::none(), all;
    for (int64_t i = 0; i < tiles; i += FBI_BLOCK) {
        int64_t k = i + threadIdx.x;
        typename M::S s = before<M>(k < tiles ? t[k] : M::none(), &all);
        if (k < tiles)
            t[k] = M::join(carry, s);
        carry = M::join(carry, all);
    }
}

template <class M>
__global__ void scan_tiles(const void *x, int dtype, lines p, int64_t tiles,
                           const typename M::S *start, void *y, int y_dtype, int64_t *index)
{
    int64_t line = blockIdx.x / tiles, begin = blockIdx.x % tiles * TILE + threadIdx.x * EACH;
    typename M::S s = M::none(), all;
    for (int64_t k = begin; k < begin + EACH && k < p.l.n; k++)
        s = M::join(s, M::of(fbi_load<typename M::in>(x, dtype, p.place(line, k)), k));
    s = before<M>(s, &all);
    if (start)
        s = M::join(start[blockIdx.x], s);
    for (int64_t k = begin; k < begin + EACH && k < p.l.n; k++) {
        int64_t at = p.place(line, k);
        s = M::join(s, M::of(fbi_load<typename M::in>(x, dtype, at), k));
        fbi_store<typename M::in>(y, y_dtype, at, M::value(s));
        if (index)
            index[at] = M::index(s);
    }
}

/* Short lines and many: a thread a line. */
template <class M>
__global__ void scan_lines(const void *x, int dtype, lines p, void *y, int y_dtype, int64_t *index)
{
    FBI_EACH(line, p.l.outer * p.l.inner)
    {
        typename M::S s = M::none();
        for (int64_t k = 0; k < p.l.n; k++) {
            int64_t at = p.place(line, k);
            s = M::join(s, M::of(fbi_load<typename M::in>(x, dtype, at), k));
            fbi_store<typename M::in>(y, y_dtype, at, M::value(s));
            if (index)
                index[at] = M::index(s);
        }
    }
}

template <class M> static fb_status run(const fbi_call *c, int64_t dim, bool reverse)
{
    fbi_temps temps(c);
    lines p = {fbi_line_of(c->in[0], dim), reverse};
    const void *x = temps.dense(c->in[0]);
    void *y = fbi_cuda_data(c->out[0]);
    int64_t *index = c->n_out > 1 ? (int64_t *)fbi_cuda_data(c->out[1]) : (int64_t *)NULL;
    int dtype = c->in[0]->dtype, y_dtype = c->out[0]->dtype;
    int64_t count = p.l.outer * p.l.inner, tiles = (p.l.n + TILE - 1) / TILE;
    if (!x || c->in[0]->numel == 0)
        return c->ctx->status;
    if (p.l.n <= 64 || count >= 4096) {
        FBI_LAUNCH(c, (scan_lines<M>), fbi_blocks(c->ctx, count), FBI_BLOCK, x, dtype, p, y,
                   y_dtype, index);
        return FB_OK;
    }
    typename M::S *start = NULL;
    if (tiles > 1) {
        start = temps.array<typename M::S>(count * tiles);
        if (!start)
            return c->ctx->status;
        FBI_LAUNCH(c, (tile_totals<M>), count * tiles, FBI_BLOCK, x, dtype, p, tiles, start);
        FBI_LAUNCH(c, (tile_starts<M>), count, FBI_BLOCK, start, tiles);
    }
    FBI_LAUNCH(c, (scan_tiles<M>), count * tiles, FBI_BLOCK, x, dtype, p, tiles,
               (const typename M::S *)start, y, y_dtype, index);
    return FB_OK;
}

#define BY_DTYPE(M, ...)                                                \
    (c->in[0]->dtype == FB_F64            ? run<M<double>>(__VA_ARGS__) \
     : fbi_cuda_is_float(c->in[0]->dtype) ? run<M<float>>(__VA_ARGS__)  \
                                          : run<M<int64_t>>(__VA_ARGS__))

FBI_CUDA_KERNEL(cumsum)
{
    return BY_DTYPE(sums, c, FBI_ATTRS(cumsum).dim, FBI_ATTRS(cumsum).reverse != 0);
}

FBI_CUDA_KERNEL(cumprod)
{
    return BY_DTYPE(products, c, FBI_ATTRS(cumprod).dim, FBI_ATTRS(cumprod).reverse != 0);
}

FBI_CUDA_KERNEL(logcumsumexp)
{
    const fbi_attrs_logcumsumexp &a = FBI_ATTRS(logcumsumexp);
    return c->in[0]->dtype == FB_F64 ? run<log_sums<double>>(c, a.dim, a.reverse != 0)
                                     : run<log_sums<float>>(c, a.dim, a.reverse != 0);
}

template <class T> using largest = extremes<T, true>;
template <class T> using smallest = extremes<T, false>;

FBI_CUDA_KERNEL(cummax)
{
    return BY_DTYPE(largest, c, FBI_ATTRS(cummax).dim, false);
}

FBI_CUDA_KERNEL(cummin)
{
    return BY_DTYPE(smallest, c, FBI_ATTRS(cummin).dim, false);
}

/* --- prod: a block a row --- */

template <class T>
__global__ void multiply_rows(const void *x, int dtype, int64_t n, void *y, int y_dtype)
{
    T v = 1;
    for (int64_t k = threadIdx.x; k < n; k += blockDim.x)
        v = products<T>::join(v, fbi_load<T>(x, dtype, blockIdx.x * n + k));
    v = fbi_join_block<products<T>>(v);
    if (threadIdx.x == 0)
        fbi_store<T>(y, y_dtype, blockIdx.x, v);
}

template <class T> static fb_status multiply(const fbi_call *c, fb_shape dims)
{
    fbi_temps temps(c);
    fbi_reduction r;
    const void *x = fbi_cuda_reduction(c->in[0], dims, true, &r, temps);
    if (!x && c->in[0]->numel)
        return c->ctx->status;
    if (c->out[0]->numel)
        FBI_LAUNCH(c, (multiply_rows<T>), c->out[0]->numel, fbi_row_threads(r.n), x,
                   (int)c->in[0]->dtype, r.n, fbi_cuda_data(c->out[0]), (int)c->out[0]->dtype);
    return FB_OK;
}

FBI_CUDA_KERNEL(prod)
{
    fb_shape dims = FBI_ATTRS(prod).dims;
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64            ? multiply<double>(c, dims)
           : fbi_cuda_is_float(dtype) ? multiply<float>(c, dims)
                                      : multiply<int64_t>(c, dims);
}
