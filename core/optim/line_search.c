/* The line search of L-BFGS as in torch.optim.LBFGS (and minFunc): bracket, then zoom by cubics.
 * Nocedal, Wright: Numerical Optimization, algorithms 3.5 and 3.6. */
#include <math.h>

#include "core/optim/lbfgs_priv.h"

static const double enough = 1e-4, curvature = 0.9; /* c1 and c2 */

/* Minimum of the cubic through two places, within [low, high]. */
static double cubic(const fbi_probe *a, const fbi_probe *b, double low, double high)
{
    double d1 = a->slope + b->slope - 3 * (a->f - b->f) / (a->t - b->t);
    double square = d1 * d1 - a->slope * b->slope;
    if (!(square >= 0))
        return (low + high) / 2;
    const fbi_probe *near = a->t <= b->t ? a : b, *far = near == a ? b : a;
    double d2 = sqrt(square);
    double at = far->t -
                (far->t - near->t) * ((far->slope + d2 - d1) / (far->slope - near->slope + 2 * d2));
    return fmin(fmax(at, low), high);
}

static bool too_high(const fbi_probe *p, const fbi_probe *from)
{
    return p->f > from->f + enough * p->t * from->slope;
}

static bool flat(const fbi_probe *p, const fbi_probe *from)
{
    return fabs(p->slope) <= -curvature * from->slope;
}

static bool usable(const fbi_probe *p)
{
    return isfinite(p->f) && isfinite(p->slope);
}

/* Two places with a good one between them. `done`: the second is good. */
typedef struct bracket {
    fbi_probe a, b;
    int64_t looks;
    bool done;
} bracket;

static fb_status widen(const fbi_search *s, const fbi_probe *from, double t, bracket *k)
{
    fb_status st = s->look(s->self, t, &k->b);
    k->a = *from;
    while (!st && usable(&k->b) && k->looks < s->most) {
        if (too_high(&k->b, from) || (k->looks > 1 && k->b.f >= k->a.f))
            return FB_OK;
        k->done = flat(&k->b, from);
        if (k->done || k->b.slope >= 0)
            return FB_OK;
        double low = k->b.t + 0.01 * (k->b.t - k->a.t);
        double next = cubic(&k->a, &k->b, low, 10 * k->b.t);
        k->a = k->b;
        st = s->look(s->self, next, &k->b);
        k->looks++;
    }
    if (!st && k->looks == s->most)
        k->a = *from;
    return st;
}

/* Where to look next: the cubic's minimum, but not twice in a row near an end. */
static double inside(const bracket *k, bool *slow)
{
    double low = fmin(k->a.t, k->b.t), high = fmax(k->a.t, k->b.t);
    double t = cubic(&k->a, &k->b, low, high), margin = 0.1 * (high - low);
    if (fmin(high - t, t - low) >= margin) {
        *slow = false;
        return t;
    }
    if (!*slow && t < high && t > low) {
        *slow = true;
        return t;
    }
    *slow = false;
    return fabs(t - high) < fabs(t - low) ? high - margin : low + margin;
}

static fb_status zoom(const fbi_search *s, const fbi_probe *from, bracket *k, fbi_probe *found)
{
    fbi_probe *low = k->a.f <= k->b.f ? &k->a : &k->b, *high = low == &k->a ? &k->b : &k->a;
    bool slow = false, done = false;
    fb_status st = FB_OK;
    while (!done && k->looks < s->most && fabs(k->b.t - k->a.t) * s->largest >= s->tolerance) {
        fbi_probe p;
        st = s->look(s->self, inside(k, &slow), &p);
        k->looks++;
        if (st || !usable(&p)) {
            *found = p;
            return st;
        }
        if (too_high(&p, from) || p.f >= low->f) {
            *high = p;
            low = k->a.f <= k->b.f ? &k->a : &k->b;
            high = low == &k->a ? &k->b : &k->a;
            continue;
        }
        done = flat(&p, from);
        if (!done && p.slope * (high->t - low->t) >= 0)
            *high = *low;
        *low = p;
    }
    *found = *low;
    return st;
}

fb_status fbi_line_search(const fbi_search *s, const fbi_probe *from, double t, fbi_probe *found)
{
    bracket k = {0};
    fb_status st = widen(s, from, t, &k);
    *found = k.b;
    if (st || k.done || !usable(&k.b))
        return st;
    return zoom(s, from, &k, found);
}
