/* Row-major copies of views, for kernels that want adjacent elements. */
#ifndef FLAMBEAU_CORE_CPU_DENSE_PRIV_H
#define FLAMBEAU_CORE_CPU_DENSE_PRIV_H

#include <stdlib.h>
#include <string.h>

#include "core/ops/backend.h"

/* Aligned scratch memory of a kernel, freed with free(). NULL: error is set. */
static inline void *fbi_cpu_scratch(const fbi_call *c, size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 64) & ~(size_t)63);
    if (!p)
        fbi_fail(c->ctx, FB_E_NOMEM, "no memory for %zu bytes of scratch", bytes);
    return p;
}

/* All elements of t, row-major, in scratch memory. NULL: error is set. */
static inline void *fbi_cpu_dense(const fbi_call *c, const fb_tensor *t)
{
    size_t bytes = fb_dtype_size((fb_dtype)t->dtype);
    char *copy = fbi_cpu_scratch(c, (size_t)t->numel * bytes);
    if (!copy || t->numel == 0)
        return copy;
    int last = t->ndim - 1;
    int64_t at[FB_MAX_DIMS] = {0}, step = last >= 0 ? t->stride[last] * (int64_t)bytes : 0;
    int64_t cols = last >= 0 ? t->size[last] : 1;
    for (int64_t i = 0; i < t->numel; i += cols) {
        int64_t from = 0;
        for (int d = 0; d < last; d++)
            from += at[d] * t->stride[d];
        const char *src = (const char *)fbi_ptr(t) + from * (int64_t)bytes;
        char *dst = copy + (size_t)i * bytes;
        if (step == (int64_t)bytes)
            memcpy(dst, src, (size_t)cols * bytes);
        else if (bytes == 4)
            for (int64_t j = 0; j < cols; j++)
                memcpy(dst + j * 4, src + j * step, 4);
        else
            for (int64_t j = 0; j < cols; j++)
                memcpy(dst + j * (int64_t)bytes, src + j * step, bytes);
        for (int d = last - 1; d >= 0 && ++at[d] == t->size[d]; d--)
            at[d] = 0;
    }
    return copy;
}

#endif
