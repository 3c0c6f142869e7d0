/* Masks of attention scores. */
#ifndef FLAMBEAU_CORE_CUDA_MASK_PRIV_H
#define FLAMBEAU_CORE_CUDA_MASK_PRIV_H

#include "core/cuda/kernel_priv.h"

/* Where the rows of a mask [.., S] lie; ndim 0: there is none. */
struct fbi_mask {
    int ndim, dtype; /* BOOL: 0 excludes; floats are added */
    int64_t size[FB_MAX_DIMS], stride[FB_MAX_DIMS];
};

static inline fbi_mask fbi_mask_of(const fb_tensor *mask)
{
    fbi_mask m = {};
    for (int i = 0; mask && i < mask->ndim; i++) {
        m.ndim = mask->ndim;
        m.dtype = mask->dtype;
        m.size[i] = mask->size[i];
        m.stride[i] = mask->stride[i];
    }
    return m;
}

/* The first element of a row, in row-major order; and from one to the next. */
static __device__ inline int64_t fbi_mask_row(const fbi_mask &m, int64_t row)
{
    int64_t at = 0;
    for (int d = m.ndim - 2; d >= 0; d--) {
        at += row % m.size[d] * m.stride[d];
        row /= m.size[d];
    }
    return at;
}

static __device__ inline int64_t fbi_mask_step(const fbi_mask &m)
{
    return m.ndim ? m.stride[m.ndim - 1] : 0;
}

template <class T>
static __device__ inline T fbi_score(T x, T scale, const fbi_mask &m, const void *mask, int64_t at)
{
    T v = x * scale;
    if (!mask)
        return v;
    if (m.dtype == FB_BOOL)
        return ((const uint8_t *)mask)[at] ? v : -(T)INFINITY;
    return v + fbi_load<T>(mask, m.dtype, at);
}

#endif
