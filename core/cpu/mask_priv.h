/* Masks of attention scores, a row at a time. */
#ifndef FLAMBEAU_CORE_CPU_MASK_PRIV_H
#define FLAMBEAU_CORE_CPU_MASK_PRIV_H

#include "core/cpu/kernels_isa.h"

typedef struct fbi_mask_row {
    const void *data; /* NULL: none */
    int64_t stride;
    bool add; /* of the scores' type; else one byte each, 0 excludes */
} fbi_mask_row;

/* Row `row` of mask m [..., S], in row-major order; m may be NULL. */
static inline fbi_mask_row fbi_mask_row_of(const fb_tensor *m, int64_t row)
{
    if (!m)
        return (fbi_mask_row){NULL, 0, false};
    int64_t at = 0;
    for (int d = m->ndim - 2; d >= 0; d--) {
        at += row % m->size[d] * m->stride[d];
        row /= m->size[d];
    }
    int64_t bytes = (int64_t)fb_dtype_size((fb_dtype)m->dtype);
    return (fbi_mask_row){(const char *)fbi_ptr(m) + at * bytes, m->stride[m->ndim - 1],
                          m->dtype != FB_BOOL};
}

#endif
