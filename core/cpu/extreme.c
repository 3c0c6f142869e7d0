/* Kernels of max_dim, min_dim, argmax, argmin. */
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"

/* First index of the extreme value by `v OP best`; NaN wins. values may be NULL. */
#define FIND(T, OP)                                                                                \
    do {                                                                                           \
        const T *x = f.p;                                                                          \
        T *out = values ? fbi_ptr(values) : NULL;                                                  \
        _Pragma(                                                                                   \
            "omp parallel for num_threads(team) schedule(static) if (team > 1)") for (int64_t i =  \
                                                                                          0;       \
                                                                                      i <          \
                                                                                      l.outer *    \
                                                                                          l.inner; \
                                                                                      i++)         \
        {                                                                                          \
            const T *line = x + i / l.inner * l.n * l.inner + i % l.inner;                         \
            T best = line[0];                                                                      \
            int64_t where = 0;                                                                     \
            for (int64_t j = 1; j < l.n && best == best; j++) {                                    \
                T v = line[j * l.inner];                                                           \
                if (v OP best || v != v) {                                                         \
                    best = v;                                                                      \
                    where = j;                                                                     \
                }                                                                                  \
            }                                                                                      \
            at[i] = where;                                                                         \
            if (out)                                                                               \
                out[i] = best;                                                                     \
        }                                                                                          \
    } while (0)

#define FIND_OF(OP)            \
    switch (c->in[0]->dtype) { \
    case FB_F32:               \
        FIND(float, OP);       \
        break;                 \
    case FB_F64:               \
        FIND(double, OP);      \
        break;                 \
    case FB_I32:               \
        FIND(int32_t, OP);     \
        break;                 \
    case FB_I64:               \
        FIND(int64_t, OP);     \
        break;                 \
    default:                   \
        FIND(uint8_t, OP);     \
        break;                 \
    }

static fb_status find(const fbi_call *c, int64_t dim, bool largest, fb_tensor *values,
                      fb_tensor *indices)
{
    fbi_flat f;
    if (!fbi_flat_of(c, c->in[0], &f))
        return FB_E_NOMEM;
    fbi_line l = fbi_line_of(c->in[0], dim);
    int64_t *at = fbi_ptr(indices);
    int team = fbi_team(c, c->in[0]->numel);
    if (largest)
        FIND_OF(>)
    else
        FIND_OF(<)
    fbi_flat_free(&f);
    return FB_OK;
}

fb_status FBI_KERNEL(max_dim)(const fbi_call *c)
{
    return find(c, ((const fbi_attrs_max_dim *)c->attrs)->dim, true, c->out[0], c->out[1]);
}

fb_status FBI_KERNEL(min_dim)(const fbi_call *c)
{
    return find(c, ((const fbi_attrs_min_dim *)c->attrs)->dim, false, c->out[0], c->out[1]);
}

fb_status FBI_KERNEL(argmax)(const fbi_call *c)
{
    return find(c, ((const fbi_attrs_argmax *)c->attrs)->dim, true, NULL, c->out[0]);
}

fb_status FBI_KERNEL(argmin)(const fbi_call *c)
{
    return find(c, ((const fbi_attrs_argmin *)c->attrs)->dim, false, NULL, c->out[0]);
}
