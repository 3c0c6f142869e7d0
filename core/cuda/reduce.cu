/* Kernels of sum, mean, var, amax, amin, any, all, and of their like over flat memory. A reduction
 * is [outer, n, inner]; partial results lie in blocks that only the sizes decide. */
#include "core/cuda/columns_priv.h"
#include "core/cuda/reduction_priv.h"

/* Elements of a row that one block of threads reduces. */
static const int64_t FBI_ROW_BLOCK = 8192;

/* What is reduced: values of type T, read by get, joined, and finished by put. */
template <class T> struct sum_of {
    typedef fbi_add<T> J;
    static __device__ T get(const void *p, int dtype, int64_t i, T)
    {
        return fbi_load<T>(p, dtype, i);
    }
    static __device__ void put(void *p, int dtype, int64_t i, T v, double)
    {
        fbi_store<T>(p, dtype, i, v);
    }
};
template <class T> struct mean_of : sum_of<T> {
    static __device__ void put(void *p, int dtype, int64_t i, T v, double n)
    {
        fbi_store<T>(p, dtype, i, v / (T)n);
    }
};
/* Squares of the distances from `shift`, divided by n. */
template <class T> struct squares_of : mean_of<T> {
    static __device__ T get(const void *p, int dtype, int64_t i, T shift)
    {
        T v = fbi_load<T>(p, dtype, i) - shift;
        return v * v;
    }
};
template <class T> struct largest {
    static __device__ T first() { return -(T)INFINITY; }
    static __device__ T join(T a, T b) { return b > a || b != b ? b : a; }
};
template <class T> struct smallest {
    static __device__ T first() { return (T)INFINITY; }
    static __device__ T join(T a, T b) { return b < a || b != b ? b : a; }
};
template <> __device__ inline int64_t largest<int64_t>::first()
{
    return INT64_MIN;
}
template <> __device__ inline int64_t smallest<int64_t>::first()
{
    return INT64_MAX;
}
template <class T, class Join> struct extreme_of : sum_of<T> {
    typedef Join J;
};
/* Whether elements are set, as 0 and 1; any is their largest, all their smallest. */
template <class Join> struct logical_of {
    typedef Join J;
    static __device__ int64_t get(const void *p, int dtype, int64_t i, int64_t)
    {
        return dtype >= FB_F32 && dtype <= FB_BF16 ? fbi_load<double>(p, dtype, i) != 0
                                                   : fbi_load_int(p, dtype, i) != 0;
    }
    static __device__ void put(void *p, int dtype, int64_t i, int64_t v, double)
    {
        fbi_store_int(p, dtype, i, v == 1);
    }
};

/* RAW: the input is partial results of type T. */
template <class R, class T, bool RAW>
static __device__ inline T get(const void *p, int dtype, int64_t i, T shift)
{
    return RAW ? ((const T *)p)[i] : R::get(p, dtype, i, shift);
}

/* A block of threads for FBI_ROW_BLOCK elements of a row; `out` gets the partial, or, if there is
 * one block a row, the result. */
template <class R, class T, bool RAW>
__global__ void reduce_rows(const void *x, int dtype, int64_t n, int64_t blocks, const T *shift,
                            void *out, int out_dtype, double count)
{
    int64_t row = blockIdx.x / blocks, begin = blockIdx.x % blocks * FBI_ROW_BLOCK;
    int64_t end = begin + FBI_ROW_BLOCK < n ? begin + FBI_ROW_BLOCK : n;
    T v = R::J::first(), s = shift ? shift[row] : (T)0;
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x)
        v = R::J::join(v, get<R, T, RAW>(x, dtype, row * n + i, s));
    v = fbi_join_block<typename R::J>(v);
    if (threadIdx.x)
        return;
    if (blocks == 1)
        R::put(out, out_dtype, row, v, count);
    else
        ((T *)out)[blockIdx.x] = v;
}

/* The same, with a thread a column: blocks of FBI_COLUMN_ROWS. */
template <class R, class T, bool RAW>
__global__ void reduce_columns(const void *x, int dtype, int64_t outer, int64_t n, int64_t inner,
                               int64_t blocks, void *out, int out_dtype, double count)
{
    FBI_EACH(k, outer * blocks * inner)
    {
        int64_t j = k % inner, block = k / inner % blocks, o = k / inner / blocks;
        int64_t begin = block * FBI_COLUMN_ROWS, end = begin + FBI_COLUMN_ROWS;
        T v = R::J::first();
        for (int64_t i = begin; i < end && i < n; i++)
            v = R::J::join(v, get<R, T, RAW>(x, dtype, (o * n + i) * inner + j, (T)0));
        if (blocks == 1)
            R::put(out, out_dtype, k, v, count);
        else
            ((T *)out)[k] = v;
    }
}

template <class R, class T, bool RAW>
static fb_status reduce(const fbi_call *c, const void *x, int dtype, const fbi_reduction &r,
                        const T *shift, void *out, int out_dtype, double count)
{
    bool rows = r.inner == 1;
    int64_t most = rows ? FBI_ROW_BLOCK : FBI_COLUMN_ROWS;
    int64_t blocks = r.n ? (r.n + most - 1) / most : 1, results = r.outer * r.inner;
    if (results == 0)
        return FB_OK;
    fbi_temps temps(c);
    void *to = blocks == 1 ? out : temps.array<T>(results * blocks);
    if (!to)
        return c->ctx->status;
    if (rows)
        FBI_LAUNCH(c, (reduce_rows<R, T, RAW>), r.outer * blocks, fbi_row_threads(r.n), x, dtype,
                   r.n, blocks, shift, to, out_dtype, count);
    else
        FBI_LAUNCH(c, (reduce_columns<R, T, RAW>), fbi_blocks(c->ctx, results * blocks), FBI_BLOCK,
                   x, dtype, r.outer, r.n, r.inner, blocks, to, out_dtype, count);
    if (blocks == 1)
        return FB_OK;
    fbi_reduction rest = {r.outer, blocks, r.inner};
    return reduce<R, T, true>(c, to, dtype, rest, (const T *)NULL, out, out_dtype, count);
}

/* Input 0 over `dims`; rows: with the reduced elements side by side. */
template <class R, class T> static fb_status run(const fbi_call *c, fb_shape dims, double count)
{
    fbi_temps temps(c);
    fbi_reduction r;
    const void *x = fbi_cuda_reduction(c->in[0], dims, false, &r, temps);
    if (!x)
        return c->ctx->status;
    return reduce<R, T, false>(c, x, c->in[0]->dtype, r, (const T *)NULL, fbi_cuda_data(c->out[0]),
                               c->out[0]->dtype, count);
}

FBI_CUDA_KERNEL(sum)
{
    fb_shape dims = FBI_ATTRS(sum).dims;
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64            ? run<sum_of<double>, double>(c, dims, 1)
           : fbi_cuda_is_float(dtype) ? run<sum_of<float>, float>(c, dims, 1)
                                      : run<sum_of<int64_t>, int64_t>(c, dims, 1);
}

static double reduced(const fbi_call *c)
{
    int64_t results = c->out[0]->numel;
    return results ? (double)(c->in[0]->numel / results) : 0;
}

FBI_CUDA_KERNEL(mean)
{
    fb_shape dims = FBI_ATTRS(mean).dims;
    return c->in[0]->dtype == FB_F64 ? run<mean_of<double>, double>(c, dims, reduced(c))
                                     : run<mean_of<float>, float>(c, dims, reduced(c));
}

template <class T> static fb_status variance(const fbi_call *c, fb_shape dims, double correction)
{
    fbi_temps temps(c);
    fbi_reduction r;
    const void *x = fbi_cuda_reduction(c->in[0], dims, true, &r, temps);
    T *mean = x ? temps.array<T>(r.outer) : NULL;
    int dtype = c->in[0]->dtype;
    if (!mean)
        return c->ctx->status;
    fb_status st = reduce<mean_of<T>, T, false>(c, x, dtype, r, (const T *)NULL, mean,
                                                fbi_dtype_of<T>::value, (double)r.n);
    if (st)
        return st;
    return reduce<squares_of<T>, T, false>(c, x, dtype, r, mean, fbi_cuda_data(c->out[0]),
                                           c->out[0]->dtype, (double)r.n - correction);
}

FBI_CUDA_KERNEL(var)
{
    const fbi_attrs_var &a = FBI_ATTRS(var);
    return c->in[0]->dtype == FB_F64 ? variance<double>(c, a.dims, a.correction)
                                     : variance<float>(c, a.dims, a.correction);
}

template <template <class> class Join> static fb_status extreme(const fbi_call *c, fb_shape dims)
{
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64 ? run<extreme_of<double, Join<double>>, double>(c, dims, 1)
           : fbi_cuda_is_float(dtype)
               ? run<extreme_of<float, Join<float>>, float>(c, dims, 1)
               : run<extreme_of<int64_t, Join<int64_t>>, int64_t>(c, dims, 1);
}

FBI_CUDA_KERNEL(amax)
{
    return extreme<largest>(c, FBI_ATTRS(amax).dims);
}

FBI_CUDA_KERNEL(amin)
{
    return extreme<smallest>(c, FBI_ATTRS(amin).dims);
}

FBI_CUDA_KERNEL(any)
{
    return run<logical_of<largest<int64_t>>, int64_t>(c, FBI_ATTRS(any).dims, 1);
}

FBI_CUDA_KERNEL(all)
{
    return run<logical_of<smallest<int64_t>>, int64_t>(c, FBI_ATTRS(all).dims, 1);
}
