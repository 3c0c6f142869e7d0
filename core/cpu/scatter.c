/* Kernels of set_elements, join_elements, set_slices and index_places. What meets at one place is
 * joined in the order of the indices. */
#include "core/cpu/index_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/loop.h"
#include "core/ops/scatter_priv.h"

/* out = x, if they are not one. */
static void start_from(const fbi_call *c)
{
    if (c->out[0] != c->in[0])
        fbi_copy_strided(c->threads, c->out[0], c->in[0]);
}

/* b joined to a; NaN wins of extremes. */
#define JOINED(T)                                     \
    static inline T joined_##T(int64_t how, T a, T b) \
    {                                                 \
        if (how == FBI_SET_COPY)                      \
            return b;                                 \
        if (how == FBI_SET_PROD)                      \
            return (T)(a * b);                        \
        if (how == FBI_SET_MAX)                       \
            return b > a || b != b ? b : a;           \
        if (how == FBI_SET_MIN)                       \
            return b < a || b != b ? b : a;           \
        return (T)(a + b);                            \
    }
JOINED(float)
JOINED(double)

/* Integers wrap around. */
static inline int64_t joined_int64_t(int64_t how, int64_t a, int64_t b)
{
    if (how == FBI_SET_COPY)
        return b;
    if (how == FBI_SET_PROD)
        return (int64_t)((uint64_t)a * (uint64_t)b);
    if (how == FBI_SET_MAX)
        return b > a ? b : a;
    if (how == FBI_SET_MIN)
        return b < a ? b : a;
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static inline float mean_float(float sum, int64_t n)
{
    return sum / (float)n;
}
static inline double mean_double(double sum, int64_t n)
{
    return sum / (double)n;
}
static inline int64_t mean_int64_t(int64_t sum, int64_t n)
{
    return sum / n - (sum % n < 0);
}

typedef struct job {
    const int64_t *at; /* indices */
    const void *src;   /* NULL: value */
    double value;
    int64_t how, dim;
    int32_t *met; /* how many have met at each place of the output; NULL: it does not matter */
    bool self;    /* the output's own element counts */
} job;

#define ELEMENTS(T)                                                      \
    static void elements_##T(const fbi_call *c, const job *j)            \
    {                                                                    \
        const fb_tensor *index = c->in[1], *o = c->out[0];               \
        fbi_walk w = fbi_walk_from(index, o, j->dim);                    \
        T *out = fbi_ptr(o), value = (T)j->value;                        \
        const T *src = j->src;                                           \
        for (int64_t i = 0; i < index->numel; i++, fbi_walk_next(&w)) {  \
            int64_t place = w.base + j->at[i] * o->stride[w.dim];        \
            T v = src ? src[i] : value;                                  \
            bool first = j->met && j->met[place]++ == 0 && !j->self;     \
            out[place] = first ? v : joined_##T(j->how, out[place], v);  \
        }                                                                \
        for (int64_t p = 0; j->how == FBI_SET_MEAN && p < o->numel; p++) \
            if (j->met[p])                                               \
                out[p] = mean_##T(out[p], j->met[p] + (int64_t)j->self); \
    }
ELEMENTS(float)
ELEMENTS(double)
ELEMENTS(int64_t)

static fb_status elements(const fbi_call *c, int64_t dim, int64_t how, bool self, double value)
{
    const fb_tensor *o = c->out[0];
    fbi_flat src = {0};
    job j = {.how = how, .dim = dim, .self = self, .value = value};
    int64_t *at = fbi_indices_of(c, c->in[1], o->size[dim]);
    bool ok = at && (!c->in[2] || fbi_flat_of(c, c->in[2], &src));
    bool counts = how == FBI_SET_MEAN || !self;
    if (ok && counts) {
        j.met = fbi_scratch(c, o->numel, sizeof *j.met);
        ok = j.met != NULL;
        if (ok)
            memset(j.met, 0, (size_t)o->numel * sizeof *j.met);
    }
    if (ok) {
        start_from(c);
        j.at = at;
        j.src = c->in[2] ? src.p : NULL;
        if (o->dtype == FB_F32)
            elements_float(c, &j);
        else if (o->dtype == FB_F64)
            elements_double(c, &j);
        else
            elements_int64_t(c, &j);
    }
    free(j.met);
    fbi_flat_free(&src);
    free(at);
    return ok ? FB_OK : fbi_index_failed(c);
}

fb_status FBI_KERNEL(set_elements)(const fbi_call *c)
{
    const fbi_attrs_set_elements *a = c->attrs;
    return elements(c, a->dim, a->how, a->self != 0, a->value);
}

fb_status FBI_KERNEL(join_elements)(const fbi_call *c)
{
    const fbi_attrs_join_elements *a = c->attrs;
    return elements(c, a->dim, a->how, a->self != 0, 0);
}

/* --- slices --- */

/* A thread owns a range of the destination and sees all indices in order. */
#define SLICES(T)                                                                               \
    static void slices_##T(const job *j, fbi_line l, int64_t n, T *out, int64_t lo, int64_t hi) \
    {                                                                                           \
        const T *src = j->src;                                                                  \
        T value = (T)j->value;                                                                  \
        for (int64_t o = 0; o < l.outer; o++)                                                   \
            for (int64_t i = 0; i < n; i++) {                                                   \
                if (j->at[i] < lo || j->at[i] >= hi)                                            \
                    continue;                                                                   \
                T *restrict y = out + (o * l.n + j->at[i]) * l.inner;                           \
                const T *restrict from = src ? src + (o * n + i) * l.inner : NULL;              \
                for (int64_t k = 0; k < l.inner; k++)                                           \
                    y[k] = joined_##T(j->how, y[k], from ? from[k] : value);                    \
            }                                                                                   \
    }
SLICES(float)
SLICES(double)
SLICES(int64_t)

fb_status FBI_KERNEL(set_slices)(const fbi_call *c)
{
    const fbi_attrs_set_slices *a = c->attrs;
    const fb_tensor *o = c->out[0];
    fbi_line l = fbi_line_of(o, a->dim);
    fbi_flat src = {0};
    int64_t n = c->in[1]->numel, *at = fbi_indices_of(c, c->in[1], l.n);
    if (!at || (c->in[2] && !fbi_flat_of(c, c->in[2], &src))) {
        free(at);
        return fbi_index_failed(c);
    }
    start_from(c);
    job j = {.at = at, .src = c->in[2] ? src.p : NULL, .value = a->value, .how = a->how};
    int team = fbi_team(c, l.outer * n * l.inner);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t part = 0; part < team; part++) {
        int64_t lo = l.n * part / team, hi = l.n * (part + 1) / team;
        if (o->dtype == FB_F32)
            slices_float(&j, l, n, fbi_ptr(o), lo, hi);
        else if (o->dtype == FB_F64)
            slices_double(&j, l, n, fbi_ptr(o), lo, hi);
        else
            slices_int64_t(&j, l, n, fbi_ptr(o), lo, hi);
    }
    fbi_flat_free(&src);
    free(at);
    return FB_OK;
}

/* --- several indices as one --- */

/* Place in a row-major tensor of sizes `sizes` of element i of the indices. -1: the error is set.
 */
static int64_t place_of(const fbi_call *c, const fbi_flat *f, fb_shape sizes, int64_t i)
{
    int64_t place = 0;
    for (int d = 0; d < c->n_in; d++) {
        int64_t given = fbi_index_at(f[d].p, c->in[d]->dtype, i), n = sizes.d[d];
        int64_t at = given < 0 ? given + n : given;
        if (at < 0 || at >= n) {
            fbi_op_fail(c, FB_E_ARG,
                        "index %lld at position %lld is out of range: the size is %lld",
                        (long long)given, (long long)i, (long long)n);
            return -1;
        }
        place = place * n + at;
    }
    return place;
}

fb_status FBI_KERNEL(index_places)(const fbi_call *c)
{
    const fbi_attrs_index_places *a = c->attrs;
    fbi_flat f[FB_MAX_DIMS] = {{0}};
    int64_t *out = fbi_ptr(c->out[0]), n = c->out[0]->numel;
    fb_status st = FB_OK;
    for (int d = 0; d < c->n_in && !st; d++)
        st = fbi_flat_of(c, c->in[d], &f[d]) ? FB_OK : FB_E_NOMEM;
    for (int64_t i = 0; i < n && !st; i++) {
        out[i] = place_of(c, f, a->sizes, i);
        st = out[i] < 0 ? FB_E_ARG : FB_OK;
    }
    for (int d = 0; d < c->n_in; d++)
        fbi_flat_free(&f[d]);
    return st;
}
