/* Images as dense [n, h, w, c] memory. */
#ifndef FLAMBEAU_CORE_CPU_NHWC_PRIV_H
#define FLAMBEAU_CORE_CPU_NHWC_PRIV_H

#include "core/cpu/dense_priv.h"

/* Element order is that of [n, h, w, c]; dimensions of size 1 may have any stride. */
static inline bool fbi_cpu_is_nhwc(const fb_tensor *t)
{
    static const int order[4] = {1, 3, 2, 0};
    int64_t want = 1;
    for (int i = 0; i < 4; i++) {
        int d = order[i];
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
    static const int order[4] = {0, 2, 3, 1};
    for (int i = 0; i < 4; i++) {
        v.size[i] = t->size[order[i]];
        v.stride[i] = t->stride[order[i]];
    }
    return *copy = fbi_cpu_dense(c, &v);
}

#endif
