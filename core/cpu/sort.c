/* Kernels of sort, searchsorted and of mode's longest run. */
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"

#define IS_NAN(v) ((v) != (v)) /* of integers never */
#define T         float
#define X(name)   name##_f32
#include "core/cpu/sort_body_priv.h"
#undef T
#undef X
#define T       double
#define X(name) name##_f64
#include "core/cpu/sort_body_priv.h"
#undef T
#undef X
#define T       int64_t
#define X(name) name##_i64
#include "core/cpu/sort_body_priv.h"
#undef T
#undef X

/* A chunk of lines a thread, each with room for two lines of pairs. */
#define SORT_LINES(T, suffix)                                                                      \
    _Pragma("omp parallel for num_threads(team) schedule(static, 1) if (team > 1)") for (int t =   \
                                                                                             0;    \
                                                                                         t < team; \
                                                                                         t++)      \
    {                                                                                              \
        pair##suffix *own = (pair##suffix *)room + t * 2 * l.n;                                    \
        for (int64_t i = lines * t / team; i < lines * (t + 1) / team; i++) {                      \
            int64_t at = i / l.inner * l.n * l.inner + i % l.inner;                                \
            sort##suffix((const T *)f.p + at, l.n, l.inner, down, own, (T *)values + at,           \
                         indices + at);                                                            \
        }                                                                                          \
    }

fb_status FBI_KERNEL(sort)(const fbi_call *c)
{
    const fbi_attrs_sort *a = c->attrs;
    bool down = a->descending != 0;
    fbi_line l = fbi_line_of(c->in[0], a->dim);
    fbi_flat f;
    if (c->in[0]->numel == 0)
        return FB_OK;
    if (!fbi_flat_of(c, c->in[0], &f))
        return FB_E_NOMEM;
    void *values = fbi_ptr(c->out[0]);
    int64_t *indices = fbi_ptr(c->out[1]), lines = l.outer * l.inner;
    int team = fbi_team(c, c->in[0]->numel);
    team = team < lines ? team : (int)lines;
    void *room = fbi_scratch(c, team * 2 * l.n, sizeof(pair_f64));
    if (room && c->in[0]->dtype == FB_F32)
        SORT_LINES(float, _f32)
    else if (room && c->in[0]->dtype == FB_F64)
        SORT_LINES(double, _f64)
    else if (room)
        SORT_LINES(int64_t, _i64)
    free(room);
    fbi_flat_free(&f);
    return room ? FB_OK : FB_E_NOMEM;
}

fb_status FBI_KERNEL(searchsorted)(const fbi_call *c)
{
    const fb_tensor *sorted = c->in[0], *x = c->in[1];
    bool right = ((const fbi_attrs_searchsorted *)c->attrs)->right != 0;
    fbi_flat s, v = {NULL, NULL};
    bool ok = fbi_flat_of(c, sorted, &s);
    ok = ok && fbi_flat_of(c, x, &v);
    int64_t n = sorted->size[sorted->ndim - 1], *y = fbi_ptr(c->out[0]);
    int64_t each = sorted->ndim > 1 ? x->size[x->ndim - 1] : x->numel; /* values of one line */
    int team = fbi_team(c, x->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < (ok ? x->numel : 0); i++) {
        int64_t line = i / each * n;
        if (x->dtype == FB_F32)
            y[i] = search_f32((const float *)s.p + line, n, ((const float *)v.p)[i], right);
        else if (x->dtype == FB_F64)
            y[i] = search_f64((const double *)s.p + line, n, ((const double *)v.p)[i], right);
        else
            y[i] = search_i64((const int64_t *)s.p + line, n, ((const int64_t *)v.p)[i], right);
    }
    fbi_flat_free(&s);
    fbi_flat_free(&v);
    return ok ? FB_OK : FB_E_NOMEM;
}

fb_status FBI_KERNEL(longest_run)(const fbi_call *c)
{
    fbi_line l = fbi_line_of(c->in[0], ((const fbi_attrs_longest_run *)c->attrs)->dim);
    fbi_flat f;
    if (!fbi_flat_of(c, c->in[0], &f))
        return FB_E_NOMEM;
    int64_t *y = fbi_ptr(c->out[0]);
    int team = fbi_team(c, c->in[0]->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < c->out[0]->numel; i++) {
        int64_t at = i / l.inner * l.n * l.inner + i % l.inner;
        if (c->in[0]->dtype == FB_F32)
            y[i] = longest_f32((const float *)f.p + at, l.n, l.inner);
        else if (c->in[0]->dtype == FB_F64)
            y[i] = longest_f64((const double *)f.p + at, l.n, l.inner);
        else
            y[i] = longest_i64((const int64_t *)f.p + at, l.n, l.inner);
    }
    fbi_flat_free(&f);
    return FB_OK;
}
