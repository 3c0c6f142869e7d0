/* Kernels of softmax, log_softmax and their backwards. */
#include <math.h>

#include "core/base/stream_priv.h"
#include "core/base/vmath.h"
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/lanes_priv.h"
#include "core/cpu/sixteen_priv.h"

/* Columns of a group; elements of the longest row that goes past the caches; bytes of a line, and
 * of how far ahead operands are asked for. */
enum { SIDE = 64, NEAR = 4096, LINE = 64, AHEAD = 8 << 10 };
#define WIDTH_OF(V) ((int64_t)(sizeof(V) / sizeof(T)))

/* e^(x - top) */
static void exponentials_f32(const float *restrict x, float top, float *restrict y, int64_t n)
{
    int64_t i = 0;
#if defined __AVX512F__
    for (; i + 16 <= n; i += 16) {
        __m512 v = _mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(top));
        _mm512_storeu_ps(y + i, fbi_expf_16(v));
    }
#endif
    for (; i < n; i++)
        y[i] = fbi_expf(x[i] - top);
}

static void exponentials_f64(const double *restrict x, double top, double *restrict y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = exp(x[i] - top);
}

/* Forward has no y; x is the gradient in backward. */
typedef struct line_args {
    const void *x, *y;
    void *out;
    fbi_line l;
    bool logs;
} line_args;

#define T       float
#define V       fbi_v_f32
#define X(name) name##_f32
#define X_EXP   fbi_expf
#define X_LOG   fbi_logf
#include "core/cpu/softmax_body_priv.h"
#undef T
#undef V
#undef X
#undef X_EXP
#undef X_LOG
#define T       double
#define V       fbi_v_f64
#define X(name) name##_f64
#define X_EXP   exp
#define X_LOG   log
#include "core/cpu/softmax_body_priv.h"
#undef T
#undef V
#undef X
#undef X_EXP
#undef X_LOG

/* Whether rows go past the caches, which needs vectors and rows of whole lines. */
static bool goes_past(const line_args *p, size_t size)
{
    size_t row = (size_t)p->l.n * size;
    return p->l.inner == 1 && p->l.n <= NEAR && sizeof(fbi_v_f32) == LINE && row % LINE == 0 &&
           (uintptr_t)p->out % LINE == 0 && fbi_streams((size_t)p->l.outer * row);
}

/* What comes soon is asked for, before row i is made. Beyond an array this does nothing. */
static void ask(const line_args *p, int64_t i, size_t size)
{
    size_t row = (size_t)p->l.n * size, at = (size_t)i * row;
    for (size_t k = 0; k < row; k += LINE) {
        __builtin_prefetch((const char *)p->x + at + AHEAD + k);
        if (p->y)
            __builtin_prefetch((const char *)p->y + at + AHEAD + k);
    }
    fbi_stream_ahead((char *)p->out + at, row);
}

/* near: memory for a row that goes past the caches, or NULL */
typedef void (*line_fn)(const line_args *p, int64_t i, void *near);

static void some_past(const line_args *p, int64_t begin, int64_t end, size_t size, line_fn fn)
{
    _Alignas(LINE) char near[NEAR * sizeof(double)];
    for (int64_t i = begin; i < end; i++) {
        ask(p, i, size);
        fn(p, i, near);
    }
    fbi_stream_end();
}

static void run_lines(const fbi_call *c, const line_args *p, line_fn fn)
{
    size_t size = fb_dtype_size((fb_dtype)c->in[0]->dtype);
    bool past = goes_past(p, size);
    int64_t lines = p->l.outer * ((p->l.inner + SIDE - 1) / SIDE);
    int team = fbi_team(c, c->in[0]->numel);
#pragma omp parallel for num_threads(team) schedule(static, 1) if (team > 1)
    for (int t = 0; t < team; t++) {
        int64_t begin = lines * t / team, end = lines * (t + 1) / team;
        if (past)
            some_past(p, begin, end, size, fn);
        for (int64_t i = begin; i < end && !past; i++)
            fn(p, i, NULL);
    }
}

static fb_status forward(const fbi_call *c, int64_t dim, bool logs)
{
    fbi_flat x;
    if (!fbi_flat_of(c, c->in[0], &x))
        return FB_E_NOMEM;
    const line_args p = {
        .x = x.p, .out = fbi_ptr(c->out[0]), .l = fbi_line_of(c->in[0], dim), .logs = logs};
    run_lines(c, &p, c->in[0]->dtype == FB_F32 ? softmax_line_f32 : softmax_line_f64);
    fbi_flat_free(&x);
    return FB_OK;
}

static fb_status backward(const fbi_call *c, int64_t dim, bool logs)
{
    fbi_flat g = {NULL, NULL}, y = {NULL, NULL};
    fb_status st = FB_E_NOMEM;
    if (fbi_flat_of(c, c->in[0], &g) && fbi_flat_of(c, c->in[1], &y)) {
        const line_args p = {.x = g.p,
                             .y = y.p,
                             .out = fbi_ptr(c->out[0]),
                             .l = fbi_line_of(c->in[0], dim),
                             .logs = logs};
        run_lines(c, &p, c->in[0]->dtype == FB_F32 ? bwd_line_f32 : bwd_line_f64);
        st = FB_OK;
    }
    fbi_flat_free(&g);
    fbi_flat_free(&y);
    return st;
}

fb_status FBI_KERNEL(softmax)(const fbi_call *c)
{
    return forward(c, ((const fbi_attrs_softmax *)c->attrs)->dim, false);
}

fb_status FBI_KERNEL(log_softmax)(const fbi_call *c)
{
    return forward(c, ((const fbi_attrs_log_softmax *)c->attrs)->dim, true);
}

fb_status FBI_KERNEL(softmax_bwd)(const fbi_call *c)
{
    return backward(c, ((const fbi_attrs_softmax_bwd *)c->attrs)->dim, false);
}

fb_status FBI_KERNEL(log_softmax_bwd)(const fbi_call *c)
{
    return backward(c, ((const fbi_attrs_log_softmax_bwd *)c->attrs)->dim, true);
}
