/* Elements of a view by strides that lie at one place of what it looks at, for all devices. */
#ifndef FLAMBEAU_CORE_OPS_STRIDED_PRIV_H
#define FLAMBEAU_CORE_OPS_STRIDED_PRIV_H

#include <string.h>

#include "core/base/philox_priv.h" /* FBI_BOTH */
#include "core/tensor/tensor_priv.h"

/* Dimensions by falling stride. */
typedef struct fbi_strided {
    int ndim;
    int64_t offset, size[FB_MAX_DIMS], stride[FB_MAX_DIMS];
    int64_t rest[FB_MAX_DIMS + 1]; /* the farthest that dimensions d .. can go */
    int64_t step[FB_MAX_DIMS];     /* in the view's elements, row-major */
} fbi_strided;

static inline fbi_strided fbi_strided_of(fb_shape sizes, fb_shape strides, int64_t offset)
{
    fbi_strided s;
    int64_t step = 1;
    memset(&s, 0, sizeof s);
    s.ndim = sizes.n;
    s.offset = offset;
    for (int d = sizes.n - 1, n = 0; d >= 0; d--, n++) { /* inserted among those before */
        int k = n;
        for (; k > 0 && s.stride[k - 1] < strides.d[d]; k--) {
            s.size[k] = s.size[k - 1];
            s.stride[k] = s.stride[k - 1];
            s.step[k] = s.step[k - 1];
        }
        s.size[k] = sizes.d[d];
        s.stride[k] = strides.d[d];
        s.step[k] = step;
        step *= sizes.d[d];
    }
    for (int d = sizes.n - 1; d >= 0; d--)
        s.rest[d] = s.rest[d + 1] + (s.size[d] - 1) * s.stride[d];
    return s;
}

/* Whether two elements may share a place. */
static inline bool fbi_strided_overlaps(const fbi_strided *s)
{
    for (int d = 0; d < s->ndim; d++)
        if (s->size[d] > 1 && s->stride[d] <= s->rest[d + 1])
            return true;
    return false;
}

/* A walk over the elements at one place. */
typedef struct fbi_strided_walk {
    int d;
    int64_t i[FB_MAX_DIMS + 1], left[FB_MAX_DIMS + 1], at[FB_MAX_DIMS + 1];
} fbi_strided_walk;

/* The first index of dimension d from which the others can reach what is left. */
static inline FBI_BOTH int64_t fbi_strided_low(const fbi_strided *s, const fbi_strided_walk *w,
                                               int d)
{
    int64_t far = w->left[d] - s->rest[d + 1];
    return s->stride[d] == 0 || far <= 0 ? 0 : (far + s->stride[d] - 1) / s->stride[d];
}

static inline FBI_BOTH void fbi_strided_begin(const fbi_strided *s, fbi_strided_walk *w,
                                              int64_t place)
{
    w->d = 0;
    w->left[0] = place - s->offset;
    w->at[0] = 0;
    w->i[0] = s->ndim ? fbi_strided_low(s, w, 0) : 0;
}

/* The next element of the view, -1 after the last. Always in the same order. */
static inline FBI_BOTH int64_t fbi_strided_next(const fbi_strided *s, fbi_strided_walk *w)
{
    while (w->d >= 0) {
        int d = w->d;
        bool found = d == s->ndim && w->left[d] == 0;
        if (d == s->ndim || w->i[d] >= s->size[d] || w->i[d] * s->stride[d] > w->left[d]) {
            w->d = d - 1;
            if (d > 0)
                w->i[d - 1]++;
            if (found)
                return w->at[d];
            continue;
        }
        w->left[d + 1] = w->left[d] - w->i[d] * s->stride[d];
        w->at[d + 1] = w->at[d] + w->i[d] * s->step[d];
        w->d = d + 1;
        if (d + 1 < s->ndim)
            w->i[d + 1] = fbi_strided_low(s, w, d + 1);
    }
    return -1;
}

#endif
