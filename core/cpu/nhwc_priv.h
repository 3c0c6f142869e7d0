/* Images and volumes as dense [n, h, w, c] or [n, d, h, w, c] memory. */
#ifndef FLAMBEAU_CORE_CPU_NHWC_PRIV_H
#define FLAMBEAU_CORE_CPU_NHWC_PRIV_H

#include "core/cpu/dense_priv.h"

/* Element order is that of channels-last; dimensions of size 1 may have any stride. */
static inline bool fbi_cpu_is_nhwc(const fb_tensor *t)
{
    int64_t want = 1;
    for (int i = 0; i < t->ndim; i++) { /* dimensions 1, last, ..., 2, 0 */
        int d = i == 0 ? 1 : i == t->ndim - 1 ? 0 : t->ndim - i;
        if (t->size[d] != 1 && t->stride[d] != want)
            return false;
        want *= t->size[d];
    }
    return true;
}

/* The elements in that order: the tensor's own memory, or *copy, which the caller frees.
 * NULL: error is set. */
static inline void *fbi_cpu_nhwc(const fbi_call *c, const fb_tensor *t, void **copy)
{
    *copy = NULL;
    if (fbi_cpu_is_nhwc(t))
        return fbi_ptr(t);
    fb_tensor v = *t;
    for (int i = 1; i < t->ndim; i++) {
        int d = i == t->ndim - 1 ? 1 : i + 1;
        v.size[i] = t->size[d];
        v.stride[i] = t->stride[d];
    }
    return *copy = fbi_cpu_dense(c, &v);
}

#endif
