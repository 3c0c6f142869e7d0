/* Which elements a cell of a pool looks at, for all devices. Images have three dimensions; those
 * that a call has not are of size 1 and come first. */
#ifndef FLAMBEAU_CORE_OPS_POOL_PRIV_H
#define FLAMBEAU_CORE_OPS_POOL_PRIV_H

#include "core/base/philox_priv.h" /* FBI_BOTH */
#include "core/ops/op_priv.h"

/* Windows at equal distances, a grid of cells over the image, or windows at random distances. */
enum { FBI_POOL_WINDOWS, FBI_POOL_CELLS, FBI_POOL_RANDOM };

typedef struct fbi_pool {
    int64_t n, c, in[3], out[3]; /* sizes of the larger and of the smaller image */
    int64_t k[3], stride[3], pad[3], dil[3];
    int64_t divisor; /* of a mean; 0: what it counts */
    int kind, count_pad;
} fbi_pool;

/* Elements begin, begin + step, ... before end; how many a mean counts, with padding. */
typedef struct fbi_span {
    int64_t begin, end, step, count;
} fbi_span;

static inline FBI_BOTH fbi_span fbi_pool_span(const fbi_pool *p, int d, int64_t o)
{
    fbi_span s;
    s.step = 1;
    if (p->kind == FBI_POOL_CELLS) {
        s.begin = o * p->in[d] / p->out[d];
        s.end = ((o + 1) * p->in[d] + p->out[d] - 1) / p->out[d];
        s.count = s.end - s.begin;
        return s;
    }
    int64_t at = o * p->stride[d] - p->pad[d], far = at + (p->k[d] - 1) * p->dil[d] + 1;
    int64_t last = p->in[d] + p->pad[d];
    s.step = p->dil[d];
    s.begin = at < 0 ? at + (-at + s.step - 1) / s.step * s.step : at;
    s.end = far < p->in[d] ? far : p->in[d];
    s.count = p->count_pad ? (far < last ? far : last) - at : s.end - s.begin;
    return s;
}

/* Where window o of dimension d begins for the random number u; `single`: computed as PyTorch does
 * for F32. */
static inline FBI_BOTH int64_t fbi_pool_random(const fbi_pool *p, int d, int64_t o, double u,
                                               bool single)
{
    int64_t room = p->in[d] - p->k[d], steps = p->out[d] - 1;
    if (o == steps)
        return room;
    if (!single) {
        double alpha = (double)room / (double)steps;
        return (int64_t)(((double)o + u) * alpha) - (int64_t)(u * alpha);
    }
    float alpha = (float)room / (float)steps, v = (float)u;
    return (int64_t)(((float)o + v) * alpha) - (int64_t)(v * alpha);
}

/* The windows [first, last] that may hold element `at`, of those without gaps. */
static inline FBI_BOTH void fbi_pool_cells(const fbi_pool *p, int d, int64_t at, int64_t *first,
                                           int64_t *last)
{
    if (p->kind == FBI_POOL_CELLS) {
        *first = at * p->out[d] / p->in[d];
        *last = ((at + 1) * p->out[d] + p->in[d] - 1) / p->in[d] - 1;
    } else {
        int64_t from = at + p->pad[d] - p->k[d] + 1;
        *first = from > 0 ? (from + p->stride[d] - 1) / p->stride[d] : 0;
        *last = (at + p->pad[d]) / p->stride[d];
    }
    *last = *last < p->out[d] - 1 ? *last : p->out[d] - 1;
}

/* Sizes from the larger and the smaller image [n, c, d, h, w]. */
static inline fbi_pool fbi_pool_of(const fb_tensor *big, const fb_tensor *small, int kind)
{
    fbi_pool p;
    p.n = big->size[0];
    p.c = big->size[1];
    p.divisor = 0;
    p.kind = kind;
    p.count_pad = 0;
    for (int d = 0; d < 3; d++) {
        p.in[d] = big->size[2 + d];
        p.out[d] = small->size[2 + d];
        p.k[d] = p.stride[d] = p.dil[d] = 1;
        p.pad[d] = 0;
    }
    return p;
}

static inline fbi_pool fbi_pool_max(const fbi_attrs_max_pool3d *a, const fb_tensor *big,
                                    const fb_tensor *small)
{
    fbi_pool p = fbi_pool_of(big, small, FBI_POOL_WINDOWS);
    for (int d = 0; d < 3; d++) {
        p.k[d] = a->kernel.d[d];
        p.stride[d] = a->stride.d[d];
        p.pad[d] = a->padding.d[d];
        p.dil[d] = a->dilation.d[d];
    }
    return p;
}

static inline fbi_pool fbi_pool_mean(const fbi_attrs_avg_pool3d *a, const fb_tensor *big,
                                     const fb_tensor *small)
{
    fbi_pool p = fbi_pool_of(big, small, FBI_POOL_WINDOWS);
    p.count_pad = a->count_include_pad != 0;
    p.divisor = a->divisor_override;
    for (int d = 0; d < 3; d++) {
        p.k[d] = a->kernel.d[d];
        p.stride[d] = a->stride.d[d];
        p.pad[d] = a->padding.d[d];
    }
    return p;
}

static inline fbi_pool fbi_pool_fraction(const fbi_attrs_fractional_max_pool3d *a,
                                         const fb_tensor *big, const fb_tensor *small)
{
    fbi_pool p = fbi_pool_of(big, small, FBI_POOL_RANDOM);
    for (int d = 0; d < 3; d++)
        p.k[d] = a->kernel.d[d];
    return p;
}

#endif
