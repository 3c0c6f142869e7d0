/* Operands as plain arrays: a kernel that wants row-major data gets a pointer, or a packed copy. */
#ifndef FLAMBEAU_CORE_CPU_FLAT_PRIV_H
#define FLAMBEAU_CORE_CPU_FLAT_PRIV_H

#include <stdlib.h>
#include <string.h>

#include "core/ops/op_priv.h"

/* Threads for `work` elements: below 32 Ki a parallel region costs more than it saves. */
static inline int fbi_team(const fbi_call *c, int64_t work)
{
    return work > 32768 && c->threads > 1 ? c->threads : 1;
}

typedef struct fbi_flat {
    const void *p;
    void *copy; /* to free; NULL: p is the tensor's own memory */
} fbi_flat;

static inline void fbi_flat_free(fbi_flat *f)
{
    free(f->copy);
    *f = (fbi_flat){NULL, NULL};
}

/* malloc that reports; at least one byte. */
static inline void *fbi_scratch(const fbi_call *c, int64_t n, size_t bytes)
{
    void *p = malloc((size_t)(n > 0 ? n : 1) * bytes);
    if (!p)
        fbi_op_fail(c, FB_E_NOMEM, "no memory for %lld scratch elements of %zu bytes", (long long)n,
                    bytes);
    return p;
}

/* Elements in the order of dimensions `order` (outermost first), row-major. */
static inline void fbi_pack_to(const fb_tensor *t, const int *order, char *dst)
{
    size_t b = fb_dtype_size((fb_dtype)t->dtype);
    const char *src = fbi_ptr(t);
    int last = t->ndim - 1;
    if (last < 0) {
        memcpy(dst, src, b);
        return;
    }
    int64_t at[FB_MAX_DIMS] = {0}, n = t->size[order[last]], step = t->stride[order[last]];
    for (int64_t left = n ? t->numel / n : 0; left > 0; left--) {
        int64_t offset = 0;
        for (int i = 0; i < last; i++)
            offset += at[i] * t->stride[order[i]];
        const char *row = src + offset * (int64_t)b;
        for (int64_t i = 0; i < n; i++, dst += b)
            memcpy(dst, row + i * step * (int64_t)b, b);
        for (int i = last - 1; i >= 0 && ++at[i] == t->size[order[i]]; i--)
            at[i] = 0;
    }
}

/* Row-major elements of t. False: the error is set. */
static inline bool fbi_flat_of(const fbi_call *c, const fb_tensor *t, fbi_flat *f)
{
    static const int natural[FB_MAX_DIMS] = {0, 1, 2, 3, 4, 5, 6, 7};
    *f = (fbi_flat){fbi_ptr(t), NULL};
    if (fbi_contiguous(t) || t->numel == 0)
        return true;
    f->p = f->copy = fbi_scratch(c, t->numel, fb_dtype_size((fb_dtype)t->dtype));
    if (f->p)
        fbi_pack_to(t, natural, f->copy);
    return f->p != NULL;
}

/* A tensor around one dimension: [outer, n, inner]. */
typedef struct fbi_line {
    int64_t outer, n, inner;
} fbi_line;

static inline fbi_line fbi_line_of(const fb_tensor *t, int64_t dim)
{
    int64_t d = dim < 0 ? dim + t->ndim : dim;
    fbi_line l = {1, 1, 1};
    for (int i = 0; i < t->ndim; i++)
        *(i < d ? &l.outer : i == d ? &l.n : &l.inner) *= t->size[i];
    return l;
}

/* Element i of an index tensor's flat memory, any integer dtype. */
static inline int64_t fbi_index_at(const void *p, uint8_t dtype, int64_t i)
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

#endif
