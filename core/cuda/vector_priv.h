/* Kernels that take each floating dtype as it is stored, and move 16 bytes at a time. S is how an
 * element is stored, T (fbi_of<S>) the type that it is computed in. */
#ifndef FLAMBEAU_CORE_CUDA_VECTOR_PRIV_H
#define FLAMBEAU_CORE_CUDA_VECTOR_PRIV_H

#include "core/cuda/kernel_priv.h"

struct fbi_f16 {
    uint16_t bits;
};
struct fbi_bf16 {
    uint16_t bits;
};

/* width: elements in 16 bytes */
template <class S> struct fbi_storage_of {
    typedef S type;
    enum { width = 16 / sizeof(S) };
};
template <> struct fbi_storage_of<fbi_f16> {
    typedef float type;
    enum { width = 8 };
};
template <> struct fbi_storage_of<fbi_bf16> {
    typedef float type;
    enum { width = 8 };
};
template <class S> using fbi_of = typename fbi_storage_of<S>::type;

/* function<S>(...) for the floating dtype. */
#define FBI_BY_STORAGE(dtype, function, ...)                  \
    ((dtype) == FB_F64    ? (function<double>)(__VA_ARGS__)   \
     : (dtype) == FB_F16  ? (function<fbi_f16>)(__VA_ARGS__)  \
     : (dtype) == FB_BF16 ? (function<fbi_bf16>)(__VA_ARGS__) \
                          : (function<float>)(__VA_ARGS__))

/* --- the host's side --- */

template <class... P> static inline bool fbi_aligned(const P *...p)
{
    return ((uintptr_t)p | ... | 0) % 16 == 0;
}

/* Dense elements of t as T: its own memory where it is so already. NULL: the error is set. */
template <class T> static inline const T *fbi_as(fbi_temps &temps, const fb_tensor *t)
{
    if (t->dtype == fbi_dtype_of<T>::value || t->numel == 0)
        return (const T *)temps.dense(t);
    fb_tensor to = *t;
    int64_t step = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        to.stride[i] = step;
        step *= to.size[i];
    }
    to.dtype = fbi_dtype_of<T>::value;
    to.offset = 0;
    T *data = temps.array<T>(t->numel);
    if (!data)
        return NULL;
    to.storage = temps.s[temps.n - 1];
    return fbi_cuda_copy_strided(temps.c, &to, t) ? NULL : data;
}

/* Where elements of the dense tensor `t` are made as T: in place if they are stored so. */
template <class T> static inline T *fbi_result(fbi_temps &temps, const fb_tensor *t)
{
    return t->dtype == fbi_dtype_of<T>::value ? (T *)fbi_cuda_data(t) : temps.array<T>(t->numel);
}

template <class T> __global__ void fbi_store_row(const T *v, int64_t n, void *to, int dtype)
{
    FBI_EACH(i, n)
    fbi_store<T>(to, dtype, i, v[i]);
}

/* The elements of a dense tensor, in its dtype. */
template <class T>
static fb_status fbi_cuda_store_row(const fbi_call *c, const T *v, const fb_tensor *to)
{
    if (to->numel)
        FBI_LAUNCH(c, fbi_store_row<T>, fbi_blocks(c->ctx, to->numel), FBI_BLOCK, v, to->numel,
                   fbi_cuda_data(to), (int)to->dtype);
    return FB_OK;
}

/* What was made in fbi_result, as it is stored. */
template <class T> static fb_status fbi_deliver(const fbi_call *c, const T *v, const fb_tensor *t)
{
    return t->dtype == fbi_dtype_of<T>::value ? FB_OK : fbi_cuda_store_row(c, v, t);
}

/* --- the device's side --- */

/* for (int64_t j = ...; j < n; ...): where the groups of V neighbours in a row of n elements begin,
 * over the threads of a block. V divides n, or is 1: sizes decide it, so that sums do not depend on
 * where memory begins. */
#define FBI_EACH_GROUP(j, n) \
    for (int64_t j = (int64_t)threadIdx.x * V; j < (n); j += (int64_t)blockDim.x * V)

static __device__ inline float fbi_up(float v)
{
    return v;
}
static __device__ inline double fbi_up(double v)
{
    return v;
}
static __device__ inline int64_t fbi_up(int64_t v)
{
    return v;
}
static __device__ inline float fbi_up(fbi_f16 v)
{
    return fbi_f16_to_f32(v.bits);
}
static __device__ inline float fbi_up(fbi_bf16 v)
{
    return fbi_bf16_to_f32(v.bits);
}
static __device__ inline void fbi_down(float v, float *to)
{
    *to = v;
}
static __device__ inline void fbi_down(double v, double *to)
{
    *to = v;
}
static __device__ inline void fbi_down(float v, fbi_f16 *to)
{
    to->bits = fbi_f32_to_f16(v);
}
static __device__ inline void fbi_down(float v, fbi_bf16 *to)
{
    to->bits = fbi_f32_to_bf16(v);
}

/* V elements from p on. wide: p is aligned to 16 bytes; otherwise they come one by one. */
template <int V, class S> static __device__ inline void fbi_get(fbi_of<S> *v, const S *p, bool wide)
{
    S s[V];
    if (V * sizeof(S) % 16 == 0 && wide) {
        for (int k = 0; k < (int)(V * sizeof(S) / 16); k++) {
            const uint4 raw = ((const uint4 *)p)[k];
            memcpy((char *)s + 16 * k, &raw, 16);
        }
    } else {
        for (int i = 0; i < V; i++)
            s[i] = p[i];
    }
    for (int i = 0; i < V; i++)
        v[i] = fbi_up(s[i]);
}

template <int V, class S> static __device__ inline void fbi_put(S *p, const fbi_of<S> *v, bool wide)
{
    S s[V];
    for (int i = 0; i < V; i++)
        fbi_down(v[i], &s[i]);
    if (V * sizeof(S) % 16 == 0 && wide) {
        for (int k = 0; k < (int)(V * sizeof(S) / 16); k++) {
            uint4 raw;
            memcpy(&raw, (const char *)s + 16 * k, 16);
            ((uint4 *)p)[k] = raw;
        }
    } else {
        for (int i = 0; i < V; i++)
            p[i] = s[i];
    }
}

/* V parameters, or `without` where there are none. */
template <int V, class T>
static __device__ inline void fbi_get_or(T *v, const T *p, int64_t at, T without, bool wide)
{
    if (p) {
        fbi_get<V>(v, p + at, wide);
        return;
    }
    for (int i = 0; i < V; i++)
        v[i] = without;
}

#endif
