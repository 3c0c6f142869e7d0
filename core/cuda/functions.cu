/* Kernels of the rows of functions.def. They share one kernel for each type, which asks the row for
 * its function: a jump an element, hidden by the memory. F32, F16 and BF16 are computed in F32,
 * special functions in F64. */
#include "core/cuda/kernel_priv.h"
#include "core/cuda/loop_priv.h"

#include "core/base/special_priv.h"

/* --- functions of either type --- */

#define OF_ONE(name, of_float, of_double)              \
    static __device__ inline float v_##name(float x)   \
    {                                                  \
        return of_float(x);                            \
    }                                                  \
    static __device__ inline double v_##name(double x) \
    {                                                  \
        return of_double(x);                           \
    }
#define OF_TWO(name, of_float, of_double)                        \
    static __device__ inline float v_##name(float a, float b)    \
    {                                                            \
        return of_float(a, b);                                   \
    }                                                            \
    static __device__ inline double v_##name(double a, double b) \
    {                                                            \
        return of_double(a, b);                                  \
    }
OF_ONE(exp, expf, exp)
OF_ONE(exp2, exp2f, exp2)
OF_ONE(expm1, expm1f, expm1)
OF_ONE(log, logf, log)
OF_ONE(log1p, log1pf, log1p)
OF_ONE(log2, log2f, log2)
OF_ONE(log10, log10f, log10)
OF_ONE(sqrt, sqrtf, sqrt)
OF_ONE(tan, tanf, tan)
OF_ONE(asin, asinf, asin)
OF_ONE(acos, acosf, acos)
OF_ONE(atan, atanf, atan)
OF_ONE(sinh, sinhf, sinh)
OF_ONE(cosh, coshf, cosh)
OF_ONE(tanh, tanhf, tanh)
OF_ONE(asinh, asinhf, asinh)
OF_ONE(acosh, acoshf, acosh)
OF_ONE(atanh, atanhf, atanh)
OF_ONE(erfc, erfcf, erfc)
OF_ONE(lgamma, lgammaf, lgamma)
OF_ONE(trunc, truncf, trunc)
OF_ONE(ceil, ceilf, ceil)
OF_ONE(floor, floorf, floor)
OF_ONE(rint, rintf, rint)
OF_ONE(fabs, fabsf, fabs)
OF_TWO(atan2, atan2f, atan2)
OF_TWO(hypot, hypotf, hypot)
OF_TWO(fmod, fmodf, fmod)
OF_TWO(copysign, copysignf, copysign)

#define SPECIAL(name)                                           \
    template <class T> static __device__ inline T v_##name(T x) \
    {                                                           \
        return (T)fbi_##name((double)x);                        \
    }
SPECIAL(digamma)
SPECIAL(erfinv)
SPECIAL(sinc)
SPECIAL(sinc1)
SPECIAL(sinc2)

template <class N, class T> static __device__ inline T v_polygamma(N n, T x)
{
    return (T)fbi_polygamma((double)n, (double)x);
}
template <class T> static __device__ inline T v_i0(T x)
{
    return (T)(fbi_bessel_ie(0, (double)x) * exp(fabs((double)x)));
}
template <class T> static __device__ inline T v_i1(T x)
{
    return (T)(fbi_bessel_ie(1, (double)x) * exp(fabs((double)x)));
}
template <class T> static __device__ inline T v_sigmoid(T x)
{
    T e = v_exp(-v_fabs(x));
    return (x < 0 ? e : (T)1) / ((T)1 + e);
}
template <class T> static __device__ inline T v_logit(T x)
{
    return v_log(x / (1 - x));
}
template <class T> static __device__ inline T v_logsigmoid(T x)
{
    return (x < 0 ? x : (T)0) - v_log1p(v_exp(-v_fabs(x)));
}
template <class T> static __device__ inline T v_mish_t(T x)
{
    return v_tanh((x > 0 ? x : (T)0) + v_log1p(v_exp(-v_fabs(x))));
}
/* Remainder with the sign of b. */
template <class T> static __device__ inline T v_mod(T a, T b)
{
    T r = v_fmod(a, b);
    return r != 0 && (b < 0) != (r < 0) ? r + b : r;
}
/* The quotient that goes with that remainder, rounded to the integer that it is but for errors. */
template <class T> static __device__ inline T v_floor_divide(T a, T b)
{
    T r = v_fmod(a, b), q = (a - r) / b;
    if (b == 0)
        return a / b;
    if (r != 0 && (b < 0) != (r < 0))
        q -= 1;
    if (q == 0)
        return v_copysign((T)0, a / b);
    return q - v_floor(q) > (T)0.5 ? v_floor(q) + 1 : v_floor(q);
}
template <class T> static __device__ inline T v_logaddexp(T a, T b)
{
    T most = a > b ? a : b, apart = a == b ? (T)0 : v_fabs(a - b); /* infinities are equal */
    return most + v_log1p(v_exp(-apart));
}
template <class T> static __device__ inline T v_logaddexp2(T a, T b)
{
    T most = a > b ? a : b, apart = a == b ? (T)0 : v_fabs(a - b);
    return most + v_log1p(v_exp2(-apart)) * (T)1.4426950408889634;
}

/* Quotients of integers; 0 where the divisor is 0, and -a wraps. */
static __device__ inline int64_t fbi_idiv(int64_t a, int64_t b)
{
    return b == 0 ? 0 : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
}
static __device__ inline int64_t fbi_ifloor(int64_t a, int64_t b)
{
    int64_t q = fbi_idiv(a, b);
    return b != 0 && b != -1 && a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}
static __device__ inline int64_t fbi_igcd(int64_t a, int64_t b)
{
    uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
    while (y) {
        uint64_t r = x % y;
        x = y;
        y = r;
    }
    return (int64_t)x;
}
static __device__ inline int64_t fbi_ilcm(int64_t a, int64_t b)
{
    int64_t g = fbi_igcd(a, b);
    uint64_t m = g ? (uint64_t)fbi_idiv(a, g) * (uint64_t)b : 0;
    return (int64_t)m < 0 ? (int64_t)(0 - m) : (int64_t)m;
}

/* --- the rows: p, q, r are the inputs, sa and sb the scalars of a UNARY_S row --- */

#define V(name, ...)   v_##name(__VA_ARGS__)
#define V_SEL(c, x, y) ((c) ? (T)(x) : (T)(y))
#define V_C(x)         ((T)(x))
#define V_INFINITY     ((T)INFINITY)
#define V_SIGNBIT(x)   (signbit((double)(x)) != 0)
#define U(x)           ((uint64_t)(x))
#define V_IDIV(x, y)   fbi_idiv(x, y)
#define V_IFLOOR(x, y) fbi_ifloor(x, y)
#define V_IGCD(x, y)   fbi_igcd(x, y)
#define V_ILCM(x, y)   fbi_ilcm(x, y)

#define CASE(name, setup, expression) \
    case FBI_OP_##name: {             \
        setup;                        \
        return (expression);          \
    }
#define UNARY_OF                   \
    const T x = p, a = sa, b = sb; \
    (void)x, (void)a, (void)b
#define SLOPE_OF                          \
    const T x = q, y = q, a = sa, b = sb; \
    (void)x, (void)y, (void)a, (void)b
#define BINARY_OF         \
    const T a = p, b = q; \
    (void)a, (void)b
#define PART_OF           \
    const T a = q, b = r; \
    (void)a, (void)b

/* Of T, giving T. */
template <class T> struct real_rows {
    typedef T in, out;
    static __device__ T run(int op, T p, T q, T r, T sa, T sb)
    {
        switch (op) {
#define UNARY(name, f, df, ddf, ...)       \
    CASE(name, UNARY_OF, (T)(f))           \
    CASE(name##_bwd, SLOPE_OF, p *(T)(df)) \
    CASE(name##_bwd2, SLOPE_OF, p *(T)(ddf))
#define UNARY_S UNARY
#define UNARY_GATE(name, f, open, df, ddf, ...)            \
    CASE(name, UNARY_OF, (T)(f))                           \
    CASE(name##_bwd, SLOPE_OF, (open) ? p *(T)(df) : (T)0) \
    CASE(name##_bwd2, SLOPE_OF, (open) ? p *(T)(ddf) : (T)0)
#define UNARY_GATE_S UNARY_GATE
#define BINARY(name, f, fa, fb, faa, fab, fbb, ...) \
    CASE(name, BINARY_OF, (T)(f))                   \
    CASE(name##_ga, PART_OF, p *(T)(fa))            \
    CASE(name##_gb, PART_OF, p *(T)(fb))            \
    CASE(name##_gaa, PART_OF, p *(T)(faa))          \
    CASE(name##_gab, PART_OF, p *(T)(fab))          \
    CASE(name##_gbb, PART_OF, p *(T)(fbb))
#include "core/ops/ops_begin.h"
#include "core/ops/functions.def"
#include "core/ops/ops_end.h"
        default:
            return 0;
        }
    }
};

/* Of T, giving 0 or 1. */
template <class T> struct truth_rows {
    typedef T in;
    typedef int64_t out;
    static __device__ int64_t run(int op, T p, T q, T, T, T)
    {
        const T x = p, a = p, b = q;
        switch (op) {
#define COMPARE(name, e) \
    case FBI_OP_##name:  \
        return (e) ? 1 : 0;
#define PREDICATE COMPARE
#include "core/ops/ops_begin.h"
#include "core/ops/functions.def"
#include "core/ops/ops_end.h"
        default:
            return x != a || b != b;
        }
    }
};

/* Of integers, in 64 bits. */
struct integer_rows {
    typedef int64_t T, in, out;
    static __device__ T run(int op, T p, T q, T, T sa, T sb)
    {
        switch (op) {
#define UNARY_INT(name, f)  CASE(name, UNARY_OF, (int64_t)(f))
#define BINARY_INT(name, f) CASE(name, BINARY_OF, (int64_t)(f))
#define BITS                BINARY_INT
#include "core/ops/ops_begin.h"
#include "core/ops/functions.def"
#include "core/ops/ops_end.h"
        default:
            return 0;
        }
    }
};

template <class R>
__global__ void rows(fbi_loop p, int n_in, int op, void *out, const void *x, const void *y,
                     const void *z, typename R::in a, typename R::in b)
{
    typedef typename R::in T;
    FBI_EACH(i, p.n)
    {
        int64_t at[FBI_LOOP_ARGS];
        fbi_places(p, i, at, 1 + n_in);
        T v = fbi_load<T>(x, p.dtype[1], at[1]), w = 0, u = 0;
        if (n_in > 1)
            w = fbi_load<T>(y, p.dtype[2], at[2]);
        if (n_in > 2)
            u = fbi_load<T>(z, p.dtype[3], at[3]);
        fbi_store<typename R::out>(out, p.dtype[0], at[0], R::run(op, v, w, u, a, b));
    }
}

template <class T> static T scalar_of(double s)
{
    return (T)s;
}
/* As far as int64_t goes; infinite bounds too. */
template <> int64_t scalar_of<int64_t>(double s)
{
    return s >= 0x1p63 ? INT64_MAX : s < -0x1p63 ? INT64_MIN : (int64_t)s;
}

template <class R> static fb_status run(const fbi_call *c, int n_in)
{
    typedef typename R::in T;
    const fb_tensor *t[FBI_LOOP_ARGS] = {c->out[0], c->in[0]};
    for (int i = 1; i < n_in; i++)
        t[1 + i] = c->in[i] ? c->in[i] : c->in[0]; /* a constant slope reads nothing of it */
    fbi_loop p;
    fbi_cuda_loop(&p, t, 1 + n_in);
    if (p.n == 0)
        return FB_OK;
    const fbi_attrs_scalars *s = c->op->attrs_bytes ? (const fbi_attrs_scalars *)c->attrs : NULL;
    const void *data[3] = {NULL, NULL, NULL};
    for (int i = 0; i < n_in; i++)
        data[i] = fbi_cuda_data(t[1 + i]);
    T a = s ? scalar_of<T>(s->a) : (T)0, b = s ? scalar_of<T>(s->b) : (T)0;
    FBI_LAUNCH(c, (rows<R>), fbi_blocks(c->ctx, p.n), FBI_BLOCK, p, n_in, (int)c->op->op,
               fbi_cuda_data(c->out[0]), data[0], data[1], data[2], a, b);
    return FB_OK;
}

static bool has_integer_form(int op)
{
    switch (op) {
#define UNARY_INT(name, f) case FBI_OP_##name:
#define BINARY_INT         UNARY_INT
#define BITS               UNARY_INT
#include "core/ops/ops_begin.h"
#include "core/ops/functions.def"
#include "core/ops/ops_end.h"
        return true;
    default:
        return false;
    }
}

static fb_status run_integers(const fbi_call *c, int n_in)
{
    const fbi_core_api *core = fbi_cuda_of(c->ctx)->core;
    const fbi_attrs_scalars *s = c->op->attrs_bytes ? (const fbi_attrs_scalars *)c->attrs : NULL;
    const char *dtype = fbi_cuda_dtype_name(c->out[0]->dtype);
    bool wider = n_in == 1 && c->out[0]->dtype == FB_BOOL && c->op->op != FBI_OP_sign;
    if (!has_integer_form(c->op->op) || wider)
        return core->fail(c->ctx, FB_E_DTYPE, "%s: in place, the result does not fit into %s",
                          c->op->name, dtype);
    for (int i = 0; i < 2 && s; i++) {
        double v = i ? s->b : s->a;
        if (floor(v) != v)
            return core->fail(c->ctx, FB_E_DTYPE,
                              "%s: %g is no integer and the tensor is %s: convert it", c->op->name,
                              v, dtype);
    }
    return run<integer_rows>(c, n_in);
}

static fb_status run_real(const fbi_call *c, int n_in)
{
    if (!fbi_cuda_is_float(c->out[0]->dtype))
        return run_integers(c, n_in);
    return c->out[0]->dtype == FB_F64 ? run<real_rows<double>>(c, n_in)
                                      : run<real_rows<float>>(c, n_in);
}

static fb_status run_truth(const fbi_call *c, int n_in)
{
    if (c->in[0]->dtype == FB_F64)
        return run<truth_rows<double>>(c, n_in);
    return fbi_cuda_is_float(c->in[0]->dtype) ? run<truth_rows<float>>(c, n_in)
                                              : run<truth_rows<int64_t>>(c, n_in);
}

#define KERNEL(name, of, n_in) \
    FBI_CUDA_KERNEL(name)      \
    {                          \
        return of(c, n_in);    \
    }
#define UNARY(name, ...) \
    KERNEL(name, run_real, 1) KERNEL(name##_bwd, run_real, 2) KERNEL(name##_bwd2, run_real, 2)
#define UNARY_S UNARY
#define BINARY(name, ...)           \
    KERNEL(name, run_real, 2)       \
    KERNEL(name##_ga, run_real, 3)  \
    KERNEL(name##_gb, run_real, 3)  \
    KERNEL(name##_gaa, run_real, 3) \
    KERNEL(name##_gab, run_real, 3) KERNEL(name##_gbb, run_real, 3)
#define COMPARE(name, e)   KERNEL(name, run_truth, 2)
#define PREDICATE(name, e) KERNEL(name, run_truth, 1)
#define BITS(name, f)      KERNEL(name, run_integers, 2)
#include "core/ops/ops_begin.h"
#include "core/ops/functions.def"
#include "core/ops/ops_end.h"
