/* Kernels of sum, mean, var, amax, amin, any, all. */
#include "core/cpu/kernels_isa.h"
#include "core/cpu/lanes_priv.h"
#include "core/cpu/reduction_priv.h"

#define T       float
#define X(name) name##_f32
#include "core/cpu/sum_body_priv.h"
#undef T
#undef X
#define T       double
#define X(name) name##_f64
#include "core/cpu/sum_body_priv.h"
#undef T
#undef X

/* Integer sums are exact (modulo 2^64) in any order. */
static void sum_integers(const fbi_call *c, const fbi_reduction *r)
{
    uint64_t *out = fbi_ptr(c->out[0]);
    memset(out, 0, (size_t)c->out[0]->numel * sizeof *out);
    uint8_t dtype = c->in[0]->dtype;
    for (int64_t o = 0; o < r->outer; o++)
        for (int64_t j = 0; j < r->n; j++)
            for (int64_t k = 0; k < r->inner; k++)
                out[o * r->inner + k] +=
                    (uint64_t)fbi_index_at(r->flat.p, dtype, (o * r->n + j) * r->inner + k);
}

static fb_status sum(const fbi_call *c, fb_shape dims, bool mean)
{
    fbi_reduction r;
    fb_status st = FB_OK;
    if (!fbi_reduction_open(c, dims, false, &r))
        return FB_E_NOMEM;
    if (c->in[0]->dtype == FB_F32)
        st = sum_f32(c, &r, mean);
    else if (c->in[0]->dtype == FB_F64)
        st = sum_f64(c, &r, mean);
    else
        sum_integers(c, &r);
    fbi_flat_free(&r.flat);
    return st;
}

fb_status FBI_KERNEL(sum)(const fbi_call *c)
{
    return sum(c, ((const fbi_attrs_sum *)c->attrs)->dims, false);
}

fb_status FBI_KERNEL(mean)(const fbi_call *c)
{
    return sum(c, ((const fbi_attrs_mean *)c->attrs)->dims, true);
}

fb_status FBI_KERNEL(var)(const fbi_call *c)
{
    const fbi_attrs_var *a = c->attrs;
    fbi_reduction r;
    if (!fbi_reduction_open(c, a->dims, true, &r))
        return FB_E_NOMEM;
    if (c->in[0]->dtype == FB_F32)
        var_f32(c, &r, a->correction);
    else
        var_f64(c, &r, a->correction);
    fbi_flat_free(&r.flat);
    return FB_OK;
}

/* out = the extreme of T by `v OP best`; NaN wins. First row, then the others against it. */
#define EXTREME(T, OP)                                                                       \
    do {                                                                                     \
        const T *x = r.flat.p;                                                               \
        T *out = fbi_ptr(c->out[0]);                                                         \
        _Pragma("omp parallel for num_threads(team) schedule(static) if (team > 1)") for (   \
            int64_t o = 0; o < r.outer; o++) for (int64_t j = 0; j < r.n;                    \
                                                  j++) for (int64_t k = 0; k < r.inner; k++) \
        {                                                                                    \
            T v = x[(o * r.n + j) * r.inner + k], *best = out + o * r.inner + k;             \
            if (j == 0 || v OP * best || v != v)                                             \
                *best = v;                                                                   \
        }                                                                                    \
    } while (0)

#define EXTREME_OF(OP)         \
    switch (c->in[0]->dtype) { \
    case FB_F32:               \
        EXTREME(float, OP);    \
        break;                 \
    case FB_F64:               \
        EXTREME(double, OP);   \
        break;                 \
    case FB_I32:               \
        EXTREME(int32_t, OP);  \
        break;                 \
    case FB_I64:               \
        EXTREME(int64_t, OP);  \
        break;                 \
    default:                   \
        EXTREME(uint8_t, OP);  \
        break;                 \
    }

fb_status FBI_KERNEL(amax)(const fbi_call *c)
{
    fbi_reduction r;
    if (!fbi_reduction_open(c, ((const fbi_attrs_amax *)c->attrs)->dims, false, &r))
        return FB_E_NOMEM;
    int team = fbi_team(c, c->in[0]->numel);
    EXTREME_OF(>)
    fbi_flat_free(&r.flat);
    return FB_OK;
}

fb_status FBI_KERNEL(amin)(const fbi_call *c)
{
    fbi_reduction r;
    if (!fbi_reduction_open(c, ((const fbi_attrs_amin *)c->attrs)->dims, false, &r))
        return FB_E_NOMEM;
    int team = fbi_team(c, c->in[0]->numel);
    EXTREME_OF(<)
    fbi_flat_free(&r.flat);
    return FB_OK;
}

static bool is_set(const void *p, uint8_t dtype, int64_t i)
{
    if (dtype == FB_F32)
        return ((const float *)p)[i] != 0;
    if (dtype == FB_F64)
        return ((const double *)p)[i] != 0;
    return fbi_index_at(p, dtype, i) != 0;
}

/* any: start 0, stop at the first set; all: start 1, stop at the first unset. */
static fb_status logical(const fbi_call *c, fb_shape dims, bool start)
{
    fbi_reduction r;
    if (!fbi_reduction_open(c, dims, false, &r))
        return FB_E_NOMEM;
    uint8_t *out = fbi_ptr(c->out[0]);
    for (int64_t i = 0; i < c->out[0]->numel; i++) {
        int64_t o = i / r.inner, k = i % r.inner;
        out[i] = start;
        for (int64_t j = 0; j < r.n && out[i] == start; j++)
            out[i] = is_set(r.flat.p, c->in[0]->dtype, (o * r.n + j) * r.inner + k);
    }
    fbi_flat_free(&r.flat);
    return FB_OK;
}

fb_status FBI_KERNEL(any)(const fbi_call *c)
{
    return logical(c, ((const fbi_attrs_any *)c->attrs)->dims, false);
}

fb_status FBI_KERNEL(all)(const fbi_call *c)
{
    return logical(c, ((const fbi_attrs_all *)c->attrs)->dims, true);
}
