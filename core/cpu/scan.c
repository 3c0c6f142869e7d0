/* Kernels of cumsum, cumprod, cummax, cummin, logcumsumexp and prod: a thread a line, in order.
 * Sums and products of F32 are kept in F64. */
#include "core/base/vmath.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/reduction_priv.h"

#define IS_NAN(v) ((v) != (v)) /* of integers never */
#define T         float
#define ACC       double
#define X(name)   name##_f32
#include "core/cpu/scan_body_priv.h"
#undef T
#undef ACC
#undef X
#define T       double
#define ACC     double
#define X(name) name##_f64
#include "core/cpu/scan_body_priv.h"
#undef T
#undef ACC
#undef X
#define T       int64_t
#define ACC     uint64_t
#define X(name) name##_i64
#include "core/cpu/scan_body_priv.h"
#undef T
#undef ACC
#undef X

typedef struct scan {
    fbi_flat x;
    fbi_line l;
    int64_t lines;
    int team;
    uint8_t dtype;
} scan;

static bool scan_open(const fbi_call *c, int64_t dim, scan *s)
{
    s->l = fbi_line_of(c->in[0], dim);
    s->lines = c->in[0]->numel ? s->l.outer * s->l.inner : 0;
    s->team = fbi_team(c, c->in[0]->numel);
    s->dtype = c->in[0]->dtype;
    return fbi_flat_of(c, c->in[0], &s->x);
}

#define EACH_LINE(call)                                                                          \
    _Pragma(                                                                                     \
        "omp parallel for num_threads(s.team) schedule(static) if (s.team > 1)") for (int64_t    \
                                                                                          line = \
                                                                                              0; \
                                                                                      line <     \
                                                                                      s.lines;   \
                                                                                      line++)    \
    {                                                                                            \
        call;                                                                                    \
    }

#define RUNNING(name)                                         \
    fb_status FBI_KERNEL(name)(const fbi_call *c)             \
    {                                                         \
        const fbi_attrs_##name *a = c->attrs;                 \
        bool back = a->reverse != 0;                          \
        scan s;                                               \
        if (!scan_open(c, a->dim, &s))                        \
            return FB_E_NOMEM;                                \
        void *y = fbi_ptr(c->out[0]);                         \
        if (s.dtype == FB_F32)                                \
            EACH_LINE(name##_f32(s.x.p, y, &s.l, line, back)) \
        else if (s.dtype == FB_F64)                           \
            EACH_LINE(name##_f64(s.x.p, y, &s.l, line, back)) \
        else                                                  \
            EACH_LINE(name##_i64(s.x.p, y, &s.l, line, back)) \
        fbi_flat_free(&s.x);                                  \
        return FB_OK;                                         \
    }
RUNNING(cumsum)
RUNNING(cumprod)

static fb_status running_extreme(const fbi_call *c, int64_t dim, bool largest)
{
    scan s;
    if (!scan_open(c, dim, &s))
        return FB_E_NOMEM;
    void *y = fbi_ptr(c->out[0]);
    int64_t *at = fbi_ptr(c->out[1]);
    if (s.dtype == FB_F32)
        EACH_LINE(cumextreme_f32(s.x.p, y, at, &s.l, line, largest))
    else if (s.dtype == FB_F64)
        EACH_LINE(cumextreme_f64(s.x.p, y, at, &s.l, line, largest))
    else
        EACH_LINE(cumextreme_i64(s.x.p, y, at, &s.l, line, largest))
    fbi_flat_free(&s.x);
    return FB_OK;
}

fb_status FBI_KERNEL(cummax)(const fbi_call *c)
{
    return running_extreme(c, ((const fbi_attrs_cummax *)c->attrs)->dim, true);
}

fb_status FBI_KERNEL(cummin)(const fbi_call *c)
{
    return running_extreme(c, ((const fbi_attrs_cummin *)c->attrs)->dim, false);
}

/* log(exp(a) + exp(b)) in F64 for both types. */
static double log_of_sum(double a, double b)
{
    double most = a > b || a != a ? a : b, least = a > b || a != a ? b : a;
    return most == least && most - most != 0 ? most : most + log1p(exp(least - most));
}

static void logcumsumexp(const scan *s, void *y, int64_t line, bool reverse)
{
    const fbi_line *l = &s->l;
    int64_t base = line / l->inner * l->n * l->inner + line % l->inner;
    double sum = -INFINITY;
    for (int64_t k = 0; k < l->n; k++) {
        int64_t at = base + (reverse ? l->n - 1 - k : k) * l->inner;
        bool narrow = s->dtype == FB_F32;
        sum = log_of_sum(sum, narrow ? (double)((const float *)s->x.p)[at]
                                     : ((const double *)s->x.p)[at]);
        if (narrow)
            ((float *)y)[at] = (float)sum;
        else
            ((double *)y)[at] = sum;
    }
}

fb_status FBI_KERNEL(logcumsumexp)(const fbi_call *c)
{
    const fbi_attrs_logcumsumexp *a = c->attrs;
    bool back = a->reverse != 0;
    scan s;
    if (!scan_open(c, a->dim, &s))
        return FB_E_NOMEM;
    void *y = fbi_ptr(c->out[0]);
    EACH_LINE(logcumsumexp(&s, y, line, back))
    fbi_flat_free(&s.x);
    return FB_OK;
}

fb_status FBI_KERNEL(prod)(const fbi_call *c)
{
    fbi_reduction r;
    if (!fbi_reduction_open(c, ((const fbi_attrs_prod *)c->attrs)->dims, true, &r))
        return FB_E_NOMEM;
    void *y = fbi_ptr(c->out[0]);
    int64_t rows = c->out[0]->numel;
    int team = fbi_team(c, c->in[0]->numel);
    uint8_t dtype = c->in[0]->dtype;
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < rows; i++) {
        if (dtype == FB_F32)
            ((float *)y)[i] = product_f32((const float *)r.flat.p + i * r.n, r.n);
        else if (dtype == FB_F64)
            ((double *)y)[i] = product_f64((const double *)r.flat.p + i * r.n, r.n);
        else
            ((int64_t *)y)[i] = product_i64((const int64_t *)r.flat.p + i * r.n, r.n);
    }
    fbi_flat_free(&r.flat);
    return FB_OK;
}
