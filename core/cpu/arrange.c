/* Kernels of flip, tril, triu, extend and its backward. */
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/loop.h"
#include "core/ops/extend_priv.h"

fb_status FBI_KERNEL(flip)(const fbi_call *c)
{
    fb_shape dims = ((const fbi_attrs_flip *)c->attrs)->dims;
    fb_tensor backwards = *c->in[0];
    for (int i = 0; i < dims.n && backwards.numel; i++) {
        int64_t d = dims.d[i];
        backwards.offset += (backwards.size[d] - 1) * backwards.stride[d];
        backwards.stride[d] = -backwards.stride[d];
    }
    fbi_copy_strided(c->threads, c->out[0], &backwards);
    return FB_OK;
}

/* Of row r of each matrix, columns lo .. hi - 1 stay: lo or hi is r + diagonal (+ 1). */
static fb_status triangle(const fbi_call *c, int64_t diagonal, bool upper)
{
    fb_tensor *o = c->out[0];
    fbi_flat x;
    if (o->numel == 0)
        return FB_OK;
    if (!fbi_flat_of(c, c->in[0], &x))
        return FB_E_NOMEM;
    int64_t cols = o->size[o->ndim - 1], rows = o->size[o->ndim - 2], all = o->numel / cols;
    size_t b = fb_dtype_size((fb_dtype)o->dtype);
    char *out = fbi_ptr(o);
    const char *from = x.p;
    int team = fbi_team(c, o->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t i = 0; i < all; i++) {
        int64_t cut = i % rows + diagonal + !upper;
        cut = cut < 0 ? 0 : cut > cols ? cols : cut;
        int64_t lo = upper ? cut : 0, hi = upper ? cols : cut;
        char *row = out + (size_t)(i * cols) * b;
        memset(row, 0, (size_t)lo * b);
        memcpy(row + (size_t)lo * b, from + (size_t)(i * cols + lo) * b, (size_t)(hi - lo) * b);
        memset(row + (size_t)hi * b, 0, (size_t)(cols - hi) * b);
    }
    fbi_flat_free(&x);
    return FB_OK;
}

fb_status FBI_KERNEL(tril)(const fbi_call *c)
{
    return triangle(c, ((const fbi_attrs_tril *)c->attrs)->diagonal, false);
}

fb_status FBI_KERNEL(triu)(const fbi_call *c)
{
    return triangle(c, ((const fbi_attrs_triu *)c->attrs)->diagonal, true);
}

/* --- extend --- */

/* Row of the input that a row of the result comes from; -1: it is constant. */
static int64_t source_row(const fbi_attrs_extend *a, int64_t row)
{
    int64_t at = 0, step = 1;
    for (int d = a->size.n - 2; d >= 0; d--) {
        int64_t i = row % a->size.d[d] - a->before.d[d];
        i = fbi_extend_source(a->mode, i, a->from.d[d]);
        if (i < 0)
            return -1;
        at += i * step;
        step *= a->from.d[d];
        row /= a->size.d[d];
    }
    return at;
}

/* A row of the result from its row of the input, or of constants where that is NULL. */
static void extend_row(const fbi_attrs_extend *a, const char *x, char *y, const char *value,
                       size_t b)
{
    int last = a->size.n - 1;
    int64_t size = a->size.d[last], n = a->from.d[last], before = a->before.d[last];
    for (int64_t o = 0; o < size;) {
        int64_t i = x ? fbi_extend_source(a->mode, o - before, n) : -1, run = 1;
        if (i >= 0 && (a->mode == FBI_EXTEND_CIRCULAR || o >= before)) {
            run = n - i < size - o ? n - i : size - o; /* a stretch in order, up to the end */
            run = o - before >= n && a->mode != FBI_EXTEND_CIRCULAR ? 1 : run;
        }
        memcpy(y + (size_t)o * b, i < 0 ? value : x + (size_t)i * b, (size_t)run * b);
        o += run;
    }
}

fb_status FBI_KERNEL(extend)(const fbi_call *c)
{
    const fbi_attrs_extend *a = c->attrs;
    fb_tensor *o = c->out[0];
    fbi_flat x;
    char value[8];
    if (o->numel == 0)
        return FB_OK;
    if (!fbi_flat_of(c, c->in[0], &x))
        return FB_E_NOMEM;
    size_t b = fb_dtype_size((fb_dtype)o->dtype);
    fbi_convert(value, (fb_dtype)o->dtype, 1, &a->value, FB_F64, 1, 1);
    int64_t size = a->size.d[a->size.n - 1], n = a->from.d[a->size.n - 1], rows = o->numel / size;
    char *out = fbi_ptr(o);
    const char *from = c->in[0]->numel ? x.p : NULL;
    int team = fbi_team(c, o->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t r = 0; r < rows; r++) {
        int64_t at = from ? source_row(a, r) : -1;
        extend_row(a, at < 0 ? NULL : from + (size_t)(at * n) * b, out + (size_t)(r * size) * b,
                   value, b);
    }
    fbi_flat_free(&x);
    return FB_OK;
}

/* The rows of the gradient that come from one row of the input, one after the other. */
typedef struct rows {
    const fbi_attrs_extend_bwd *a;
    int64_t i[FB_MAX_DIMS], k[FB_MAX_DIMS], at[FB_MAX_DIMS]; /* at[d]: target k[d] of i[d] */
} rows;

static int64_t target(const rows *r, int d)
{
    const fbi_attrs_extend_bwd *a = r->a;
    return fbi_extend_target(a->mode, r->i[d], r->k[d], a->before.d[d], a->from.d[d], a->size.d[d]);
}

/* False: the row has none. */
static bool rows_begin(rows *r, int64_t row)
{
    bool any = true;
    for (int d = r->a->from.n - 2; d >= 0; d--) {
        r->i[d] = row % r->a->from.d[d];
        row /= r->a->from.d[d];
        r->k[d] = 0;
        r->at[d] = target(r, d);
        any = any && r->at[d] >= 0;
    }
    return any;
}

static bool rows_next(rows *r)
{
    for (int d = r->a->from.n - 2; d >= 0; d--) {
        r->k[d]++;
        r->at[d] = target(r, d);
        if (r->at[d] >= 0)
            return true;
        r->k[d] = 0;
        r->at[d] = target(r, d);
    }
    return false;
}

static int64_t rows_at(const rows *r)
{
    int64_t at = 0;
    for (int d = 0; d < r->a->from.n - 1; d++)
        at = at * r->a->size.d[d] + r->at[d];
    return at;
}

#define GATHER_ROW(T)                                                                        \
    static void gather_row_##T(const fbi_attrs_extend_bwd *a, int64_t row, const T *g, T *y) \
    {                                                                                        \
        int last = a->from.n - 1;                                                            \
        int64_t n = a->from.d[last], size = a->size.d[last], before = a->before.d[last];     \
        rows r = {.a = a};                                                                   \
        memset(y, 0, (size_t)n * sizeof *y);                                                 \
        for (bool more = rows_begin(&r, row); more; more = rows_next(&r)) {                  \
            const T *from = g + rows_at(&r) * size;                                          \
            for (int64_t i = 0; i < n; i++)                                                  \
                for (int64_t k = 0, o;                                                       \
                     (o = fbi_extend_target(a->mode, i, k, before, n, size)) >= 0; k++)      \
                    y[i] += from[o];                                                         \
        }                                                                                    \
    }
GATHER_ROW(float)
GATHER_ROW(double)

fb_status FBI_KERNEL(extend_bwd)(const fbi_call *c)
{
    const fbi_attrs_extend_bwd *a = c->attrs;
    fb_tensor *o = c->out[0];
    fbi_flat g;
    if (o->numel == 0)
        return FB_OK;
    if (!fbi_flat_of(c, c->in[0], &g))
        return FB_E_NOMEM;
    int64_t n = a->from.d[a->from.n - 1], all = o->numel / n;
    int team = fbi_team(c, c->in[0]->numel);
#pragma omp parallel for num_threads(team) schedule(static) if (team > 1)
    for (int64_t r = 0; r < all; r++) {
        if (o->dtype == FB_F64)
            gather_row_double(a, r, g.p, (double *)fbi_ptr(o) + r * n);
        else
            gather_row_float(a, r, g.p, (float *)fbi_ptr(o) + r * n);
    }
    fbi_flat_free(&g);
    return FB_OK;
}
