/* What kernels share: launching, temporary memory, loads and stores of any dtype, sums of a block.
 */
#ifndef FLAMBEAU_CORE_CUDA_KERNEL_PRIV_H
#define FLAMBEAU_CORE_CUDA_KERNEL_PRIV_H

#include <math.h>

#define FBI_BOTH __host__ __device__ /* of half.h and philox_priv.h */

#include "core/base/half.h"
#include "core/base/philox_priv.h"
#include "core/cuda/cuda_priv.h"
#include "core/cuda/launch_priv.h"

/* --- the host's side --- */

/* fb_status fbi_cuda_row_NAME(const fbi_call *c), the kernel of a row. */
#define FBI_CUDA_KERNEL(name) extern "C" fb_status fbi_cuda_row_##name(const fbi_call *c)
#define FBI_ATTRS(name)       (*(const fbi_attrs_##name *)c->attrs)

/* Launch on the compute stream of context `ctx`; on failure the enclosing function returns. */
#define FBI_LAUNCH_ON(ctx, kernel, grid, block, ...)                                     \
    do {                                                                                 \
        LAUNCH(kernel, (unsigned)(grid), (unsigned)(block), 0, fbi_cuda_of(ctx)->stream, \
               __VA_ARGS__);                                                             \
        FBI_CUDA_TRY(ctx, cudaGetLastError());                                           \
    } while (0)
#define FBI_LAUNCH(c, kernel, grid, block, ...) \
    FBI_LAUNCH_ON((c)->ctx, kernel, grid, block, __VA_ARGS__)

enum { FBI_BLOCK = 256, FBI_WARP = 32 };

/* Blocks for n threads that walk in steps of the grid; at least one. */
static inline unsigned fbi_blocks(const fb_context *ctx, int64_t n)
{
    int64_t blocks = (n + FBI_BLOCK - 1) / FBI_BLOCK, most = fbi_cuda_of(ctx)->blocks;
    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

/* Threads of a block that does one row of n elements. */
static inline unsigned fbi_row_threads(int64_t n)
{
    return n <= 1024 ? FBI_WARP : FBI_BLOCK;
}

template <class T> struct fbi_dtype_of;
template <> struct fbi_dtype_of<float> {
    static const int value = FB_F32;
};
template <> struct fbi_dtype_of<double> {
    static const int value = FB_F64;
};
template <> struct fbi_dtype_of<int64_t> {
    static const int value = FB_I64;
};

/* Device memory of one call; given back at its end, in the order of the stream. */
struct fbi_temps {
    const fbi_call *c;
    fbi_storage *s[8];
    int n;
    explicit fbi_temps(const fbi_call *call) : c(call), n(0) {}
    fbi_temps(const fbi_temps &) = delete;
    ~fbi_temps()
    {
        while (n > 0)
            fbi_cuda_of(c->ctx)->core->storage_unref(c->ctx, s[--n]);
    }
    /* NULL: the error is set. */
    void *get(int64_t bytes)
    {
        s[n] = fbi_cuda_of(c->ctx)->core->storage_new(c->ctx, (size_t)(bytes > 0 ? bytes : 1));
        return s[n] ? s[n++]->data : NULL;
    }
    template <class T> T *array(int64_t count) { return (T *)get(count * (int64_t)sizeof(T)); }
    /* Elements in the order of dimensions `order` (outermost first), or row-major if it is NULL:
     * the tensor's own memory where it is so already. */
    const void *packed(const fb_tensor *t, const int *order)
    {
        fb_tensor from = *t, to = *t;
        for (int i = 0; i < t->ndim && order; i++) {
            from.size[i] = t->size[order[i]];
            from.stride[i] = t->stride[order[i]];
        }
        if (fbi_cuda_contiguous(&from) || t->numel == 0)
            return fbi_cuda_data(t);
        int64_t step = 1;
        for (int i = t->ndim - 1; i >= 0; i--) {
            to.size[i] = from.size[i];
            to.stride[i] = step;
            step *= to.size[i];
        }
        to.offset = 0;
        if (!get(t->numel * fbi_cuda_bytes(t->dtype)))
            return NULL;
        to.storage = s[n - 1];
        return fbi_cuda_copy_strided(c, &to, &from) ? NULL : to.storage->data;
    }
    const void *dense(const fb_tensor *t) { return packed(t, NULL); }
    /* [n, c, h, w] or [n, c, d, h, w] as rows of channels; [n, c] as it is. */
    const void *channels(const fb_tensor *t)
    {
        static const int order[2][5] = {{0, 2, 3, 1}, {0, 2, 3, 4, 1}};
        return t->ndim == 4 || t->ndim == 5 ? packed(t, order[t->ndim - 4]) : dense(t);
    }
};

/* A tensor around one dimension: [outer, n, inner]. */
struct fbi_line {
    int64_t outer, n, inner;
};

static inline fbi_line fbi_line_of(const fb_tensor *t, int64_t dim)
{
    int64_t d = dim < 0 ? dim + t->ndim : dim;
    fbi_line l = {1, 1, 1};
    for (int i = 0; i < t->ndim; i++)
        *(i < d ? &l.outer : i == d ? &l.n : &l.inner) *= t->size[i];
    return l;
}

/* After a kernel that checks indices: the next wait looks at what it noted. */
static inline fb_status fbi_cuda_checked(const fbi_call *c)
{
    fbi_cuda *d = fbi_cuda_of(c->ctx);
    d->unchecked = c->op;
    return d->blocking ? fbi_cuda_sync(c->ctx) : FB_OK;
}

/* --- the device's side --- */

/* for (int64_t i = ...; i < n; ...) over all threads of the grid */
#define FBI_EACH(i, n)                                                        \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); \
         i += (int64_t)gridDim.x * blockDim.x)

/* Integers, of any dtype that is no float. */
static __device__ inline int64_t fbi_load_int(const void *p, int dtype, int64_t i)
{
    switch (dtype) {
    case FB_I64:
        return ((const int64_t *)p)[i];
    case FB_I32:
        return ((const int32_t *)p)[i];
    case FB_I16:
        return ((const int16_t *)p)[i];
    case FB_U16:
        return ((const uint16_t *)p)[i];
    case FB_I8:
        return ((const int8_t *)p)[i];
    default:
        return ((const uint8_t *)p)[i];
    }
}

/* An element of any dtype as T. */
template <class T> static __device__ inline T fbi_load(const void *p, int dtype, int64_t i)
{
    switch (dtype) {
    case FB_F32:
        return (T)((const float *)p)[i];
    case FB_F16:
        return (T)fbi_f16_to_f32(((const uint16_t *)p)[i]);
    case FB_BF16:
        return (T)fbi_bf16_to_f32(((const uint16_t *)p)[i]);
    case FB_F64:
        return (T)((const double *)p)[i];
    default:
        return (T)fbi_load_int(p, dtype, i);
    }
}

/* T as a floating element. */
template <class T> static __device__ inline void fbi_store(void *p, int dtype, int64_t i, T v)
{
    switch (dtype) {
    case FB_F32:
        ((float *)p)[i] = (float)v;
        break;
    case FB_F16:
        ((uint16_t *)p)[i] = fbi_f32_to_f16((float)v);
        break;
    case FB_BF16:
        ((uint16_t *)p)[i] = fbi_f32_to_bf16((float)v);
        break;
    default:
        ((double *)p)[i] = (double)v;
    }
}

static __device__ inline void fbi_store_int(void *p, int dtype, int64_t i, int64_t v)
{
    switch (dtype) {
    case FB_I64:
        ((int64_t *)p)[i] = v;
        break;
    case FB_I32:
        ((int32_t *)p)[i] = (int32_t)v;
        break;
    case FB_I16:
        ((int16_t *)p)[i] = (int16_t)v;
        break;
    case FB_U16:
        ((uint16_t *)p)[i] = (uint16_t)v;
        break;
    case FB_I8:
        ((int8_t *)p)[i] = (int8_t)v;
        break;
    case FB_BOOL:
        ((uint8_t *)p)[i] = v != 0;
        break;
    default:
        ((uint8_t *)p)[i] = (uint8_t)v;
    }
}

template <> __device__ inline int64_t fbi_load<int64_t>(const void *p, int dtype, int64_t i)
{
    return fbi_load_int(p, dtype, i);
}

template <> __device__ inline void fbi_store<int64_t>(void *p, int dtype, int64_t i, int64_t v)
{
    fbi_store_int(p, dtype, i, v);
}

/* As the CPU converts a double. */
static __device__ inline void fbi_store_double(void *p, int dtype, int64_t i, double v)
{
    if (dtype >= FB_F32 && dtype <= FB_BF16)
        fbi_store<double>(p, dtype, i, v);
    else if (dtype == FB_BOOL)
        fbi_store_int(p, FB_BOOL, i, v != 0);
    else
        fbi_store_int(p, dtype, i, (int64_t)v);
}

/* Note a wrong index; of those of one kernel the first position is reported. */
static __device__ inline void fbi_note_bad(fbi_cuda_bad *bad, int op, int64_t value,
                                           int64_t position, int64_t size, int64_t ignore)
{
    while (atomicCAS(&bad->lock, 0, 1) != 0)
        continue;
    volatile fbi_cuda_bad *b = bad;
    if (!b->set || (b->op == op && position < b->position)) {
        b->set = 1;
        b->op = op;
        b->value = value;
        b->position = position;
        b->size = size;
        b->ignore = ignore;
        __threadfence();
    }
    atomicExch(&bad->lock, 0);
}

/* What a block of one or several whole warps joins; every thread gets the result. */
template <class T> struct fbi_add {
    static __device__ T first() { return 0; }
    static __device__ T join(T a, T b) { return a + b; }
};

/* The larger; NaN wins. */
template <class T> struct fbi_larger {
    static __device__ T first() { return -(T)INFINITY; }
    static __device__ T join(T a, T b) { return b > a || b != b ? b : a; }
};

template <class J, class T> static __device__ inline T fbi_join_block(T v)
{
    __shared__ T part[FBI_BLOCK / FBI_WARP];
    for (int d = FBI_WARP / 2; d > 0; d /= 2)
        v = J::join(v, __shfl_xor_sync(0xffffffffu, v, d));
    if (blockDim.x == FBI_WARP)
        return v;
    __syncthreads(); /* the previous use of part is over */
    if (threadIdx.x % FBI_WARP == 0)
        part[threadIdx.x / FBI_WARP] = v;
    __syncthreads();
    v = part[0];
    for (unsigned w = 1; w < blockDim.x / FBI_WARP; w++)
        v = J::join(v, part[w]);
    return v;
}

/* Functions of either type. */
static __device__ inline float fbi_e(float x)
{
    return expf(x);
}
static __device__ inline double fbi_e(double x)
{
    return exp(x);
}
static __device__ inline float fbi_ln(float x)
{
    return logf(x);
}
static __device__ inline double fbi_ln(double x)
{
    return log(x);
}
static __device__ inline float fbi_root(float x)
{
    return sqrtf(x);
}
static __device__ inline double fbi_root(double x)
{
    return sqrt(x);
}

#endif
