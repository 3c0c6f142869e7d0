/* Which elements of a line an element of the resampled line is made of, for all devices. The
 * numbers are PyTorch's: aten/src/ATen/native/UpSample.h says where samples lie. */
#ifndef FLAMBEAU_CORE_OPS_RESAMPLE_PRIV_H
#define FLAMBEAU_CORE_OPS_RESAMPLE_PRIV_H

#include <math.h>

#include "core/base/philox_priv.h" /* FBI_BOTH */
#include "core/ops/op_priv.h"

/* The numbers are those of fb_interpolation. */
enum { FBI_NEAREST, FBI_NEAREST_EXACT, FBI_LINEAR, FBI_CUBIC };

typedef struct fbi_resampling {
    int64_t in, out;
    double scale; /* elements of the input to an element of the output */
    int mode, align, antialias;
} fbi_resampling;

/* The taps of one output: n of them, the k-th at element first + k, or the nearest that there is.
 */
typedef struct fbi_taps {
    int64_t first, n;
    double at;    /* of linear and cubic: what is beyond the element; antialiased: the centre */
    double total; /* antialiased: sum of weights */
} fbi_taps;

static inline FBI_BOTH int64_t fbi_resample_clamp(int64_t i, int64_t n)
{
    return i < 0 ? 0 : i < n ? i : n - 1;
}

/* Keys' cubic convolution with the parameter a. */
static inline FBI_BOTH double fbi_resample_cubic(double x, double a)
{
    x = x < 0 ? -x : x;
    if (x <= 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static inline FBI_BOTH double fbi_resample_filter(const fbi_resampling *r, const fbi_taps *t,
                                                  int64_t k)
{
    double shrink = r->scale >= 1 ? 1 / r->scale : 1;
    double x = ((double)(k + t->first) - t->at + 0.5) * shrink;
    if (r->mode == FBI_CUBIC)
        return fbi_resample_cubic(x, -0.5);
    x = x < 0 ? -x : x;
    return x < 1 ? 1 - x : 0;
}

static inline FBI_BOTH void fbi_resample_wide(const fbi_resampling *r, int64_t o, fbi_taps *t)
{
    double support = (r->mode == FBI_CUBIC ? 2 : 1) * (r->scale >= 1 ? r->scale : 1);
    t->at = r->scale * ((double)o + 0.5);
    t->first = (int64_t)(t->at - support + 0.5);
    t->first = t->first > 0 ? t->first : 0;
    int64_t end = (int64_t)(t->at + support + 0.5);
    t->n = (end < r->in ? end : r->in) - t->first;
    t->total = 0;
    for (int64_t k = 0; k < t->n; k++)
        t->total += fbi_resample_filter(r, t, k);
}

static inline FBI_BOTH void fbi_resample_taps(const fbi_resampling *r, int64_t o, fbi_taps *t)
{
    if (r->antialias) {
        fbi_resample_wide(r, o, t);
        return;
    }
    if (r->mode <= FBI_NEAREST_EXACT) { /* in float, as PyTorch, so that edges fall alike */
        double place = r->mode == FBI_NEAREST
                           ? (double)((float)o * (float)r->scale)
                           : (double)(float)(((double)o + 0.5) * (double)(float)r->scale);
        t->first = fbi_resample_clamp((int64_t)floor(place), r->in);
        t->n = 1;
        t->at = t->total = 0;
        return;
    }
    double at = r->align ? r->scale * (double)o : r->scale * ((double)o + 0.5) - 0.5;
    if (r->mode == FBI_LINEAR && at < 0)
        at = 0;
    double whole = floor(at);
    whole = whole < (double)(r->in - 1) ? whole : (double)(r->in - 1);
    t->at = at - whole < 1 ? at - whole : 1;
    t->total = 1;
    t->first = (int64_t)whole - (r->mode == FBI_CUBIC ? 1 : 0);
    t->n = r->mode == FBI_CUBIC ? 4 : 2;
}

static inline FBI_BOTH double fbi_resample_weight(const fbi_resampling *r, const fbi_taps *t,
                                                  int64_t k)
{
    if (r->antialias)
        return fbi_resample_filter(r, t, k) / t->total;
    if (r->mode <= FBI_NEAREST_EXACT)
        return 1;
    if (r->mode == FBI_LINEAR)
        return k ? t->at : 1 - t->at;
    return fbi_resample_cubic((double)(k - 1) - t->at, -0.75);
}

/* The first output that may take something of element i; outputs rise with their taps. */
static inline FBI_BOTH int64_t fbi_resample_users(const fbi_resampling *r, int64_t i)
{
    int64_t lo = 0, hi = r->out;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        fbi_taps t;
        fbi_resample_taps(r, mid, &t);
        if (fbi_resample_clamp(t.first + t.n - 1, r->in) < i)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static inline fbi_resampling fbi_resampling_of(const fbi_attrs_resample *a)
{
    fbi_resampling r;
    r.in = a->in;
    r.out = a->out;
    r.scale = a->scale;
    r.mode = (int)a->mode;
    r.align = a->align_corners != 0;
    r.antialias = a->antialias != 0;
    return r;
}

#endif
