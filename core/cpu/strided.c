/* Kernel of strided_sum: each place adds the elements that lie on it, always in one order. */
#include "core/ops/strided_priv.h"
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/loop.h"

#define SUM_PLACES(T)                                                                             \
    static void sum_places_##T(const fbi_strided *s, const T *g, T *out, int64_t n, int team)     \
    {                                                                                             \
        _Pragma(                                                                                  \
            "omp parallel for num_threads(team) schedule(static) if (team > 1)") for (int64_t p = \
                                                                                          0;      \
                                                                                      p < n; p++) \
        {                                                                                         \
            fbi_strided_walk w;                                                                   \
            T sum = 0;                                                                            \
            fbi_strided_begin(s, &w, p);                                                          \
            for (int64_t i; (i = fbi_strided_next(s, &w)) >= 0;)                                  \
                sum += g[i];                                                                      \
            out[p] = sum;                                                                         \
        }                                                                                         \
    }
SUM_PLACES(float)
SUM_PLACES(double)

/* No two elements share a place: a copy into zeros, of any dtype. */
static void place_all(const fbi_call *c, const fbi_attrs_strided_sum *a)
{
    fb_tensor part = *c->out[0];
    part.ndim = (uint8_t)a->sizes.n;
    part.numel = c->in[0]->numel;
    part.offset += a->offset;
    for (int i = 0; i < a->sizes.n; i++) {
        part.size[i] = a->sizes.d[i];
        part.stride[i] = a->strides.d[i];
    }
    fbi_copy_strided(c->threads, &part, c->in[0]);
}

fb_status FBI_KERNEL(strided_sum)(const fbi_call *c)
{
    const fbi_attrs_strided_sum *a = c->attrs;
    const fb_tensor *o = c->out[0];
    fbi_strided s = fbi_strided_of(a->sizes, a->strides, a->offset);
    if (c->in[0]->numel == 0 || !fbi_strided_overlaps(&s)) {
        if (o->numel)
            memset(fbi_ptr(o), 0, (size_t)o->numel * fb_dtype_size((fb_dtype)o->dtype));
        if (c->in[0]->numel)
            place_all(c, a);
        return FB_OK;
    }
    fbi_flat g;
    if (!fbi_flat_of(c, c->in[0], &g))
        return FB_E_NOMEM;
    int team = fbi_team(c, c->in[0]->numel);
    if (o->dtype == FB_F64)
        sum_places_double(&s, g.p, fbi_ptr(o), o->numel, team);
    else
        sum_places_float(&s, g.p, fbi_ptr(o), o->numel, team);
    fbi_flat_free(&g);
    return FB_OK;
}
