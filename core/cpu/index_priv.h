/* What kernels that take or write by index share. */
#ifndef FLAMBEAU_CORE_CPU_INDEX_PRIV_H
#define FLAMBEAU_CORE_CPU_INDEX_PRIV_H

#include "core/cpu/flat_priv.h"

/* Index tensor as I64, every value checked against `size`. NULL: the error is set. */
static inline int64_t *fbi_indices_of(const fbi_call *c, const fb_tensor *t, int64_t size)
{
    fbi_flat f;
    int64_t *out = fbi_scratch(c, t->numel, sizeof *out);
    if (!out || !fbi_flat_of(c, t, &f)) {
        free(out);
        return NULL;
    }
    for (int64_t i = 0; i < t->numel; i++) {
        out[i] = fbi_index_at(f.p, t->dtype, i);
        if (out[i] >= 0 && out[i] < size)
            continue;
        fbi_op_fail(c, FB_E_ARG, "index %lld at position %lld is out of range: the size is %lld",
                    (long long)out[i], (long long)i, (long long)size);
        free(out);
        out = NULL;
        break;
    }
    fbi_flat_free(&f);
    return out;
}

static inline fb_status fbi_index_failed(const fbi_call *c)
{
    return c->ctx->status ? c->ctx->status : FB_E_NOMEM;
}

/* Walks the elements of an index tensor and the places in `t` that they name. */
typedef struct fbi_walk {
    const fb_tensor *index, *t;
    int dim;
    int64_t at[FB_MAX_DIMS], base; /* base: offset in t of the coordinates other than dim */
} fbi_walk;

static inline void fbi_walk_next(fbi_walk *w)
{
    for (int i = w->index->ndim - 1; i >= 0; i--) {
        int64_t step = i == w->dim ? 0 : w->t->stride[i];
        w->base += step;
        if (++w->at[i] < w->index->size[i])
            return;
        w->base -= step * w->index->size[i];
        w->at[i] = 0;
    }
}

static inline fbi_walk fbi_walk_from(const fb_tensor *index, const fb_tensor *t, int64_t dim)
{
    return (fbi_walk){.index = index, .t = t, .dim = (int)(dim < 0 ? dim + t->ndim : dim)};
}

#endif
