/* A reduction as [outer, n, inner]: out[outer, inner] over n. */
#ifndef FLAMBEAU_CORE_CUDA_REDUCTION_PRIV_H
#define FLAMBEAU_CORE_CUDA_REDUCTION_PRIV_H

#include "core/cuda/kernel_priv.h"

struct fbi_reduction {
    int64_t outer, n, inner;
};

/* `rows`: inner must be 1. Data is packed, kept dimensions first, unless memory already has the
 * reduced dimensions side by side. NULL: the error is set. */
static inline const void *fbi_cuda_reduction(const fb_tensor *t, fb_shape dims, bool rows,
                                             fbi_reduction *r, fbi_temps &temps)
{
    unsigned mask = dims.n == 0 ? (1u << t->ndim) - 1 : 0;
    for (int i = 0; i < dims.n; i++)
        mask |= 1u << (dims.d[i] < 0 ? dims.d[i] + t->ndim : dims.d[i]);
    int order[FB_MAX_DIMS], k = 0, state = 0; /* 0: outer, 1: reduced, 2: inner, 3: reduced again */
    *r = fbi_reduction{1, 1, 1};
    for (unsigned pass = 0; pass < 2; pass++)
        for (int i = 0; i < t->ndim; i++)
            if ((mask >> i & 1) == pass)
                order[k++] = i;
    for (int i = 0; i < t->ndim; i++) {
        bool is_reduced = mask >> i & 1;
        if (t->size[i] == 1)
            continue;
        if (is_reduced ? state == 0 || state == 2 : state == 1)
            state++;
        *(is_reduced ? &r->n : state == 0 ? &r->outer : &r->inner) *= t->size[i];
    }
    bool plain = fbi_cuda_contiguous(t) && state < 3 && !(rows && r->inner != 1);
    if (plain)
        return fbi_cuda_data(t);
    r->outer *= r->inner;
    r->inner = 1;
    return temps.packed(t, order);
}

#endif
