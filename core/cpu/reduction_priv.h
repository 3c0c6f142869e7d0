/* A reduction as [outer, n, inner]: out[outer, inner] over n. */
#ifndef FLAMBEAU_CORE_CPU_REDUCTION_PRIV_H
#define FLAMBEAU_CORE_CPU_REDUCTION_PRIV_H

#include "core/cpu/flat_priv.h"

typedef struct fbi_reduction {
    int64_t outer, n, inner;
    fbi_flat flat;
} fbi_reduction;

/* `rows`: inner must be 1. Data is packed, kept dimensions first, unless memory already has the
 * reduced dimensions side by side. False: the error is set. */
static inline bool fbi_reduction_open(const fbi_call *c, fb_shape dims, bool rows, fbi_reduction *r)
{
    const fb_tensor *t = c->in[0];
    unsigned mask = 0;
    for (int i = 0; i < dims.n; i++)
        mask |= 1u << (dims.d[i] < 0 ? dims.d[i] + t->ndim : dims.d[i]);
    if (dims.n == 0)
        mask = (1u << t->ndim) - 1;
    int order[FB_MAX_DIMS], k = 0, state = 0;
    *r = (fbi_reduction){1, 1, 1, {fbi_ptr(t), NULL}};
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < t->ndim; i++)
            if ((mask >> i & 1) == (unsigned)pass)
                order[k++] = i;
    bool plain = fbi_contiguous(t);
    for (int i = 0; i < t->ndim; i++) {
        bool is_reduced = mask >> i & 1;
        if (t->size[i] == 1)
            continue;
        if (is_reduced ? state == 2 : state == 1)
            state++; /* 0: outer, 1: reduced, 2: inner, 3: reduced again */
        else if (is_reduced && state == 0)
            state = 1;
        if (is_reduced)
            r->n *= t->size[i];
        else
            *(state == 0 ? &r->outer : &r->inner) *= t->size[i];
    }
    plain = plain && state < 3 && !(rows && r->inner != 1);
    if (plain)
        return true;
    r->outer *= r->inner;
    r->inner = 1;
    if (t->numel == 0)
        return true;
    r->flat.p = r->flat.copy = fbi_scratch(c, t->numel, fb_dtype_size((fb_dtype)t->dtype));
    if (r->flat.p)
        fbi_pack_to(t, order, r->flat.copy);
    return r->flat.p != NULL;
}

#endif
