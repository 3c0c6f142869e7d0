/* Kernels of sum, mean, var, amax, amin, any, all, and of their like over flat memory. A reduction
 * is [outer, n, inner]; partial results lie in blocks that only the sizes decide. */
#include "core/cuda/columns_priv.h"
#include "core/cuda/reduction_priv.h"

/* Elements of a row that one block of threads reduces. */
static const int64_t FBI_ROW_BLOCK = 8192;

/* What is reduced: values of type T, made from an element by get, joined, and finished by put.
 * grouped: V elements are loaded together where they lie so; columns: inner sizes above 1 occur. */
template <class T> struct sum_of {
    typedef T type;
    typedef fbi_add<T> J;
    enum { grouped = 1, columns = 1 };
    static __device__ T get(T v, T) { return v; }
    /* n: by which the sum is divided, or 1 */
    static __device__ void put(void *p, int dtype, int64_t i, T v, double n)
    {
        fbi_store<T>(p, dtype, i, v / (T)n);
    }
};
/* Squares of the distances from `shift`. */
template <class T> struct squares_of : sum_of<T> {
    enum { columns = 0 };
    static __device__ T get(T v, T shift) { return (v - shift) * (v - shift); }
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
    enum { grouped = 0 };
};
/* Whether elements are set, as 0 and 1; any is their largest, all their smallest. */
template <class Join> struct logical_of {
    typedef int64_t type;
    typedef Join J;
    enum { grouped = 0, columns = 1 };
    template <class U> static __device__ int64_t get(U v, int64_t) { return v != 0; }
    static __device__ void put(void *p, int dtype, int64_t i, int64_t v, double)
    {
        fbi_store_int(p, dtype, i, v == 1);
    }
};

/* How integers of any dtype are stored; they are computed in I64. */
struct fbi_ints {
    uint8_t first;
};
template <> struct fbi_storage_of<fbi_ints> {
    typedef int64_t type;
    enum { width = 1 };
};

template <int V, class S>
static __device__ inline void elements(fbi_of<S> *v, const S *x, int64_t at, int, bool wide)
{
    fbi_get<V>(v, x + at, wide);
}
template <int V>
static __device__ inline void elements(int64_t *v, const fbi_ints *x, int64_t at, int dtype, bool)
{
    *v = fbi_load_int(x, dtype, at);
}

/* What the V elements from `at` on contribute. RAW: they are partial results. */
template <class R, bool RAW, int V, class S>
static __device__ inline void contributions(typename R::type *v, const S *x, int64_t at, int dtype,
                                            bool wide, typename R::type shift)
{
    fbi_of<S> element[V];
    elements<V>(element, x, at, dtype, wide);
    for (int i = 0; i < V; i++)
        v[i] = RAW ? (typename R::type)element[i] : R::get(element[i], shift);
}

/* A block of threads for FBI_ROW_BLOCK elements of a row; `out` gets the partial, or, if there is
 * one block a row, the result. */
template <class R, class S, bool RAW, int V, class T = typename R::type>
__global__ void reduce_rows(const S *x, int dtype, int64_t n, int64_t blocks, const T *shift,
                            void *out, int out_dtype, double count, bool wide)
{
    int64_t row = blockIdx.x / blocks, begin = blockIdx.x % blocks * FBI_ROW_BLOCK;
    int64_t here = n - begin < FBI_ROW_BLOCK ? n - begin : FBI_ROW_BLOCK;
    T v = R::J::first(), s = shift ? shift[row] : (T)0, more[V];
    FBI_EACH_GROUP(i, here)
    {
        contributions<R, RAW, V>(more, x, row * n + begin + i, dtype, wide, s);
        for (int k = 0; k < V; k++)
            v = R::J::join(v, more[k]);
    }
    v = fbi_join_block<typename R::J>(v);
    if (threadIdx.x)
        return;
    if (blocks == 1)
        R::put(out, out_dtype, row, v, count);
    else
        ((T *)out)[blockIdx.x] = v;
}

/* The same, with a thread for V columns: blocks of FBI_COLUMN_ROWS. */
template <class R, class S, bool RAW, int V, class T = typename R::type>
__global__ void reduce_columns(const S *x, int dtype, int64_t outer, int64_t n, int64_t inner,
                               int64_t blocks, void *out, int out_dtype, double count, bool wide)
{
    FBI_EACH(k, outer * blocks * (inner / V))
    {
        int64_t j = k % (inner / V) * V, part = k / (inner / V), o = part / blocks;
        int64_t begin = part % blocks * FBI_COLUMN_ROWS, end = begin + FBI_COLUMN_ROWS;
        T v[V], more[V];
        for (int c = 0; c < V; c++)
            v[c] = R::J::first();
        for (int64_t i = begin; i < end && i < n; i++) {
            contributions<R, RAW, V>(more, x, (o * n + i) * inner + j, dtype, wide, (T)0);
            for (int c = 0; c < V; c++)
                v[c] = R::J::join(v[c], more[c]);
        }
        for (int c = 0; c < V; c++)
            if (blocks == 1)
                R::put(out, out_dtype, part * inner + j + c, v[c], count);
            else
                ((T *)out)[part * inner + j + c] = v[c];
    }
}

/* Where results, or the partial ones of several blocks, go. */
struct fbi_reduced {
    void *out;
    int dtype;
    double count;
    int64_t blocks;
};

template <class R, class S, bool RAW, int V, class T = typename R::type>
static fb_status launch(const fbi_call *c, const S *x, const fbi_reduction &r, const T *shift,
                        const fbi_reduced &to)
{
    bool wide = fbi_aligned(x);
    int dtype = c->in[0]->dtype; /* of integers */
    if (!R::columns || r.inner == 1)
        FBI_LAUNCH(c, (reduce_rows<R, S, RAW, V>), r.outer * to.blocks, fbi_row_threads(r.n), x,
                   dtype, r.n, to.blocks, shift, to.out, to.dtype, to.count, wide);
    else if constexpr (R::columns)
        FBI_LAUNCH(c, (reduce_columns<R, S, RAW, V>),
                   fbi_blocks(c->ctx, r.outer * r.inner * to.blocks / V), FBI_BLOCK, x, dtype,
                   r.outer, r.n, r.inner, to.blocks, to.out, to.dtype, to.count, wide);
    return FB_OK;
}

template <class R, class S, bool RAW, class T = typename R::type>
static fb_status reduce(const fbi_call *c, const S *x, const fbi_reduction &r, const T *shift,
                        void *out, int out_dtype, double count)
{
    enum { W = R::grouped && !RAW ? (int)fbi_storage_of<S>::width : 1 };
    bool rows = r.inner == 1;
    int64_t most = rows ? FBI_ROW_BLOCK : FBI_COLUMN_ROWS;
    int64_t blocks = r.n ? (r.n + most - 1) / most : 1, results = r.outer * r.inner;
    if (results == 0)
        return FB_OK;
    fbi_temps temps(c);
    fbi_reduced to = {blocks == 1 ? out : temps.array<T>(results * blocks), out_dtype, count,
                      blocks};
    if (!to.out)
        return c->ctx->status;
    fb_status st = (rows ? r.n : r.inner) % W == 0 ? launch<R, S, RAW, W>(c, x, r, shift, to)
                                                   : launch<R, S, RAW, 1>(c, x, r, shift, to);
    if (st || blocks == 1)
        return st;
    fbi_reduction rest = {r.outer, blocks, r.inner};
    return reduce<R, T, true>(c, (const T *)to.out, rest, (const T *)NULL, out, out_dtype, count);
}

/* Input 0 over `dims`. */
template <class R, class S> static fb_status run(const fbi_call *c, fb_shape dims, double count)
{
    fbi_temps temps(c);
    fbi_reduction r;
    const S *x = (const S *)fbi_cuda_reduction(c->in[0], dims, false, &r, temps);
    if (!x)
        return c->ctx->status;
    return reduce<R, S, false>(c, x, r, (const typename R::type *)NULL, fbi_cuda_data(c->out[0]),
                               c->out[0]->dtype, count);
}

template <class S> static fb_status sum(const fbi_call *c, fb_shape dims)
{
    return run<sum_of<fbi_of<S>>, S>(c, dims, 1);
}

FBI_CUDA_KERNEL(sum)
{
    int dtype = c->in[0]->dtype;
    return fbi_cuda_is_float(dtype) ? FBI_BY_STORAGE(dtype, sum, c, FBI_ATTRS(sum).dims)
                                    : sum<fbi_ints>(c, FBI_ATTRS(sum).dims);
}

static double reduced(const fbi_call *c)
{
    int64_t results = c->out[0]->numel;
    return results ? (double)(c->in[0]->numel / results) : 0;
}

template <class S> static fb_status mean(const fbi_call *c, fb_shape dims)
{
    return run<sum_of<fbi_of<S>>, S>(c, dims, reduced(c));
}

FBI_CUDA_KERNEL(mean)
{
    return FBI_BY_STORAGE(c->in[0]->dtype, mean, c, FBI_ATTRS(mean).dims);
}

template <class S> static fb_status variance(const fbi_call *c, fb_shape dims, double correction)
{
    typedef fbi_of<S> T;
    fbi_temps temps(c);
    fbi_reduction r;
    const S *x = (const S *)fbi_cuda_reduction(c->in[0], dims, true, &r, temps);
    T *mean = x ? temps.array<T>(r.outer) : NULL;
    if (!mean)
        return c->ctx->status;
    fb_status st = reduce<sum_of<T>, S, false>(c, x, r, (const T *)NULL, mean,
                                               fbi_dtype_of<T>::value, (double)r.n);
    if (st)
        return st;
    return reduce<squares_of<T>, S, false>(c, x, r, (const T *)mean, fbi_cuda_data(c->out[0]),
                                           c->out[0]->dtype, (double)r.n - correction);
}

FBI_CUDA_KERNEL(var)
{
    const fbi_attrs_var &a = FBI_ATTRS(var);
    return FBI_BY_STORAGE(c->in[0]->dtype, variance, c, a.dims, a.correction);
}

template <class S> static fb_status amax(const fbi_call *c, fb_shape dims)
{
    return run<extreme_of<fbi_of<S>, largest<fbi_of<S>>>, S>(c, dims, 1);
}

FBI_CUDA_KERNEL(amax)
{
    int dtype = c->in[0]->dtype;
    return fbi_cuda_is_float(dtype) ? FBI_BY_STORAGE(dtype, amax, c, FBI_ATTRS(amax).dims)
                                    : amax<fbi_ints>(c, FBI_ATTRS(amax).dims);
}

template <class S> static fb_status amin(const fbi_call *c, fb_shape dims)
{
    return run<extreme_of<fbi_of<S>, smallest<fbi_of<S>>>, S>(c, dims, 1);
}

FBI_CUDA_KERNEL(amin)
{
    int dtype = c->in[0]->dtype;
    return fbi_cuda_is_float(dtype) ? FBI_BY_STORAGE(dtype, amin, c, FBI_ATTRS(amin).dims)
                                    : amin<fbi_ints>(c, FBI_ATTRS(amin).dims);
}

template <class Join> static fb_status logical(const fbi_call *c, fb_shape dims)
{
    typedef logical_of<Join> R;
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64            ? run<R, double>(c, dims, 1)
           : fbi_cuda_is_float(dtype) ? run<R, float>(c, dims, 1)
                                      : run<R, fbi_ints>(c, dims, 1);
}

FBI_CUDA_KERNEL(any)
{
    return logical<largest<int64_t>>(c, FBI_ATTRS(any).dims);
}

FBI_CUDA_KERNEL(all)
{
    return logical<smallest<int64_t>>(c, FBI_ATTRS(all).dims);
}
