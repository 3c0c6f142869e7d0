/* Kernels of embedding, index_select, gather and their backwards. */
#include "core/cpu/index_priv.h"
#include "core/cpu/kernels_isa.h"

/* Slices of [outer, size, inner] at the n indices; those at `blank` become zeros. */
static void take(const fbi_call *c, fbi_line l, const char *x, const int64_t *at, int64_t n,
                 int64_t blank)
{
    size_t bytes = (size_t)l.inner * fb_dtype_size((fb_dtype)c->out[0]->dtype);
    char *out = fbi_ptr(c->out[0]);
    int team = fbi_team(c, c->out[0]->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < l.outer * n; i++) {
        int64_t j = at[i % n];
        if (j == blank)
            memset(out + (size_t)i * bytes, 0, bytes);
        else
            memcpy(out + (size_t)i * bytes, x + (size_t)(i / n * l.n + j) * bytes, bytes);
    }
}

static fb_status select_slices(const fbi_call *c, int64_t dim, int64_t blank)
{
    fbi_flat x;
    fbi_line l = fbi_line_of(c->in[0], dim);
    int64_t *at = fbi_indices_of(c, c->in[1], l.n);
    if (!at || !fbi_flat_of(c, c->in[0], &x)) {
        free(at);
        return fbi_index_failed(c);
    }
    take(c, l, x.p, at, c->in[1]->numel, blank);
    fbi_flat_free(&x);
    free(at);
    return FB_OK;
}

fb_status FBI_KERNEL(embedding)(const fbi_call *c)
{
    const fbi_attrs_embedding *a = c->attrs;
    return select_slices(c, 0, a->blank ? a->padding_index : -1);
}

fb_status FBI_KERNEL(index_select)(const fbi_call *c)
{
    return select_slices(c, ((const fbi_attrs_index_select *)c->attrs)->dim, -1);
}

/* out[o][at[j]][k] += g[o][j][k]. A thread owns a range of the destination and sees all indices in
 * order: no two threads write one place, and each place is added to in the order of the indices. */
#define ADD_SLICES(T)                                                                              \
    do {                                                                                           \
        const T *src = g.p;                                                                        \
        T *out = fbi_ptr(c->out[0]);                                                               \
        _Pragma(                                                                                   \
            "omp parallel for num_threads(team) schedule(static) if (team > 1)") for (int64_t      \
                                                                                          part =   \
                                                                                              0;   \
                                                                                      part < team; \
                                                                                      part++)      \
        {                                                                                          \
            int64_t lo = l.n * part / team, hi = l.n * (part + 1) / team;                          \
            for (int64_t o = 0; o < l.outer; o++)                                                  \
                for (int64_t j = 0; j < n; j++) {                                                  \
                    if (at[j] < lo || at[j] >= hi || at[j] == skip)                                \
                        continue;                                                                  \
                    T *restrict y = out + (o * l.n + at[j]) * l.inner;                             \
                    const T *restrict from = src + (o * n + j) * l.inner;                          \
                    for (int64_t k = 0; k < l.inner; k++)                                          \
                        y[k] += from[k];                                                           \
                }                                                                                  \
        }                                                                                          \
    } while (0)

static fb_status add_slices(const fbi_call *c, int64_t dim, int64_t skip)
{
    fbi_flat g;
    const fb_tensor *to = c->out[0];
    fbi_line l = fbi_line_of(to, dim);
    int64_t n = c->in[1]->numel, *at = fbi_indices_of(c, c->in[1], l.n);
    if (!at || !fbi_flat_of(c, c->in[0], &g)) {
        free(at);
        return fbi_index_failed(c);
    }
    if (c->beta == 0)
        memset(fbi_ptr(to), 0, (size_t)to->numel * fb_dtype_size((fb_dtype)to->dtype));
    int team = fbi_team(c, c->in[0]->numel);
    if (to->dtype == FB_F32)
        ADD_SLICES(float);
    else
        ADD_SLICES(double);
    fbi_flat_free(&g);
    free(at);
    return FB_OK;
}

fb_status FBI_KERNEL(embedding_bwd)(const fbi_call *c)
{
    return add_slices(c, 0, ((const fbi_attrs_embedding_bwd *)c->attrs)->padding_index);
}

fb_status FBI_KERNEL(index_sum)(const fbi_call *c)
{
    return add_slices(c, ((const fbi_attrs_index_sum *)c->attrs)->dim, -1);
}

fb_status FBI_KERNEL(gather)(const fbi_call *c)
{
    const fb_tensor *x = c->in[0], *index = c->in[1];
    fbi_walk w = fbi_walk_from(index, x, ((const fbi_attrs_gather *)c->attrs)->dim);
    int64_t *at = fbi_indices_of(c, index, x->size[w.dim]), step = x->stride[w.dim];
    if (!at)
        return fbi_index_failed(c);
    size_t bytes = fb_dtype_size((fb_dtype)x->dtype);
    const char *src = fbi_ptr(x);
    char *out = fbi_ptr(c->out[0]);
    for (int64_t i = 0; i < index->numel; i++, fbi_walk_next(&w))
        memcpy(out + (size_t)i * bytes, src + (w.base + at[i] * step) * (int64_t)bytes, bytes);
    free(at);
    return FB_OK;
}

fb_status FBI_KERNEL(scatter_sum)(const fbi_call *c)
{
    const fb_tensor *index = c->in[1], *to = c->out[0];
    fbi_walk w = fbi_walk_from(index, to, ((const fbi_attrs_scatter_sum *)c->attrs)->dim);
    int64_t *at = fbi_indices_of(c, index, to->size[w.dim]), step = to->stride[w.dim];
    fbi_flat g;
    if (!at || !fbi_flat_of(c, c->in[0], &g)) {
        free(at);
        return fbi_index_failed(c);
    }
    memset(fbi_ptr(to), 0, (size_t)to->numel * fb_dtype_size((fb_dtype)to->dtype));
    if (to->dtype == FB_F32) {
        float *out = fbi_ptr(to);
        for (int64_t i = 0; i < index->numel; i++, fbi_walk_next(&w))
            out[w.base + at[i] * step] += ((const float *)g.p)[i];
    } else {
        double *out = fbi_ptr(to);
        for (int64_t i = 0; i < index->numel; i++, fbi_walk_next(&w))
            out[w.base + at[i] * step] += ((const double *)g.p)[i];
    }
    fbi_flat_free(&g);
    free(at);
    return FB_OK;
}
