/* What kernels that take or write by index share: indices, and their order by place. */
#ifndef FLAMBEAU_CORE_CUDA_INDEX_PRIV_H
#define FLAMBEAU_CORE_CUDA_INDEX_PRIV_H

#include "core/cuda/kernel_priv.h"
#include "core/cuda/note_priv.h"

/* Index j of the call, or -1 if it is out of range. */
struct fbi_indices {
    int op, dtype;
    int64_t size;
    fbi_cuda_bad *bad;
    __device__ int64_t at(const void *index, int64_t j) const
    {
        int64_t v = fbi_load_int(index, dtype, j);
        if (v >= 0 && v < size)
            return v;
        fbi_note_bad(bad, op, v, j, size, 0);
        return -1;
    }
};

static inline fbi_indices fbi_indices_of(const fbi_call *c, int64_t size)
{
    return fbi_indices{fbi_noted_op(c), c->in[1]->dtype, size, fbi_cuda_of(c->ctx)->bad};
}

/* Sizes of an index tensor, and the strides of the tensor that it points into. */
struct fbi_walk {
    int ndim, dim;
    int64_t size[FB_MAX_DIMS], stride[FB_MAX_DIMS];
    /* Offset of the coordinates of element i other than that along dim. */
    __device__ int64_t base(int64_t i) const
    {
        int64_t at = 0;
        for (int d = ndim - 1; d >= 0; d--) {
            at += d == dim ? 0 : i % size[d] * stride[d];
            i /= size[d];
        }
        return at;
    }
};

static inline fbi_walk fbi_walk_of(const fb_tensor *index, const fb_tensor *t, int64_t dim)
{
    fbi_walk w = {};
    w.ndim = index->ndim;
    w.dim = (int)(dim < 0 ? dim + t->ndim : dim);
    for (int i = 0; i < w.ndim; i++) {
        w.size[i] = index->size[i];
        w.stride[i] = t->stride[i];
    }
    return w;
}

/* What is sorted: places in the upper word, so that equal ones keep their order. */
struct fbi_key {
    uint64_t place, position;
};

static const int64_t FBI_NOWHERE = -1; /* as uint64_t the last of all */

static __global__ void fbi_keys_of_slices(fbi_indices ix, const void *index, int64_t n,
                                          int64_t skip, int64_t padded, fbi_key *keys)
{
    FBI_EACH(i, padded)
    {
        int64_t at = i < n ? ix.at(index, i) : FBI_NOWHERE;
        keys[i] = fbi_key{(uint64_t)(at == skip ? FBI_NOWHERE : at), (uint64_t)i};
    }
}

static __global__ void fbi_keys_of_elements(fbi_indices ix, fbi_walk w, const void *index,
                                            int64_t n, int64_t padded, fbi_key *keys)
{
    FBI_EACH(i, padded)
    {
        int64_t at = i < n ? ix.at(index, i) : FBI_NOWHERE;
        if (at >= 0)
            at = w.base(i) + at * w.stride[w.dim];
        keys[i] = fbi_key{(uint64_t)at, (uint64_t)i};
    }
}

/* One step of a bitonic sort: pairs at distance `half` in sequences of `length`. */
static __global__ void fbi_sort_step(fbi_key *keys, int64_t pairs, int64_t length, int64_t half)
{
    FBI_EACH(k, pairs)
    {
        int64_t i = k / half * half * 2 + k % half, j = i + half;
        fbi_key a = keys[i], b = keys[j];
        bool above = a.place > b.place || (a.place == b.place && a.position > b.position);
        if (above == ((i & length) == 0)) {
            keys[i] = b;
            keys[j] = a;
        }
    }
}

static fb_status fbi_sort_keys(const fbi_call *c, fbi_key *keys, int64_t padded)
{
    for (int64_t length = 2; length <= padded; length *= 2)
        for (int64_t half = length / 2; half > 0; half /= 2)
            FBI_LAUNCH(c, fbi_sort_step, fbi_blocks(c->ctx, padded / 2), FBI_BLOCK, keys,
                       padded / 2, length, half);
    return FB_OK;
}

static inline int64_t fbi_padded_of(int64_t n)
{
    int64_t padded = 1;
    while (padded < n)
        padded *= 2;
    return padded;
}

#endif
