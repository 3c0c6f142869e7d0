/* Kernels of the rows of pointwise.def, made from the row: computed in F32 for F32, F16 and BF16,
 * in F64 for F64, in I64 for integers. Flat operands move 16 bytes at a time. */
#include "core/cuda/kernel_priv.h"
#include "core/cuda/loop_priv.h"

/* --- the functions: p, q, r are the inputs, a and b the scalars of a UNARY_S row --- */

#define V_SEL(c, x, y) ((c) ? (T)(x) : (T)(y))
#define V_C(x)         ((T)(x))
#define V_EXP(x)       fbi_e((T)(x))
#define V_LOG(x)       fbi_ln((T)(x))
#define V_LOG1P(x)     fbi_log1p((T)(x))
#define V_EXPM1(x)     fbi_expm1((T)(x))
#define V_SQRT(x)      fbi_root((T)(x))
#define V_SIN(x)       fbi_sin((T)(x))
#define V_COS(x)       fbi_cos((T)(x))
#define V_TANH(x)      fbi_tanh((T)(x))
#define V_ERF(x)       fbi_erf((T)(x))
#define V_SIGMOID(x)   fbi_sigmoid((T)(x))
#define V_POW(x, y)    fbi_pow((T)(x), (T)(y))
#define V_ABS(x)       ((x) < 0 ? -(x) : (x) == 0 ? (T)0 : (x))
#define V_NCDF(x)      ((T)0.5 * ((T)1 + fbi_erf((T)(x) * (T)0.70710678118654752440)))
#define V_NPDF(x)      ((T)0.39894228040143267794 * fbi_e((T)-0.5 * (x) * (x)))
#define V_SOFTPLUS(x)  (V_SEL((x) > 0, (x), 0) + fbi_log1p(fbi_e(-V_ABS(x))))

#define BOTH(name, of_float, of_double)                  \
    static __device__ inline float fbi_##name(float x)   \
    {                                                    \
        return of_float(x);                              \
    }                                                    \
    static __device__ inline double fbi_##name(double x) \
    {                                                    \
        return of_double(x);                             \
    }
BOTH(log1p, log1pf, log1p)
BOTH(expm1, expm1f, expm1)
BOTH(sin, sinf, sin)
BOTH(cos, cosf, cos)
BOTH(tanh, tanhf, tanh)
BOTH(erf, erff, erf)

static __device__ inline float fbi_pow(float x, float y)
{
    return powf(x, y);
}
static __device__ inline double fbi_pow(double x, double y)
{
    return pow(x, y);
}

/* Without overflow on either side. */
template <class T> static __device__ inline T fbi_sigmoid(T x)
{
    T e = fbi_e(x < 0 ? x : -x);
    return (x < 0 ? e : (T)1) / ((T)1 + e);
}

#define FUNCTION(name, in, setup, expression)                     \
    template <class T> struct fn_##name {                         \
        enum { n_in = in };                                       \
        static __device__ inline T run(T p, T q, T r, T sa, T sb) \
        {                                                         \
            setup;                                                \
            return (T)(expression);                               \
        }                                                         \
    };
#define UNARY_OF                   \
    const T x = p, a = sa, b = sb; \
    (void)x, (void)a, (void)b, (void)q, (void)r
#define SLOPE_OF                          \
    const T x = q, y = q, a = sa, b = sb; \
    (void)x, (void)y, (void)a, (void)b, (void)r
#define BINARY_OF         \
    const T a = p, b = q; \
    (void)a, (void)b, (void)r, (void)sa, (void)sb
#define PART_OF           \
    const T a = q, b = r; \
    (void)a, (void)b, (void)sa, (void)sb

#define UNARY(name, f, df, ddf, ...)              \
    FUNCTION(name, 1, UNARY_OF, f)                \
    FUNCTION(name##_bwd, 2, SLOPE_OF, p *(T)(df)) \
    FUNCTION(name##_bwd2, 2, SLOPE_OF, p *(T)(ddf))
#define UNARY_S UNARY
#define UNARY_GATE(name, f, open, df, ddf, ...)                   \
    FUNCTION(name, 1, UNARY_OF, f)                                \
    FUNCTION(name##_bwd, 2, SLOPE_OF, (open) ? p *(T)(df) : (T)0) \
    FUNCTION(name##_bwd2, 2, SLOPE_OF, (open) ? p *(T)(ddf) : (T)0)
#define UNARY_GATE_S UNARY_GATE
#define BINARY(name, f, fa, fb, faa, fab, fbb, ...) \
    FUNCTION(name, 2, BINARY_OF, f)                 \
    FUNCTION(name##_ga, 3, PART_OF, p *(T)(fa))     \
    FUNCTION(name##_gb, 3, PART_OF, p *(T)(fb))     \
    FUNCTION(name##_gaa, 3, PART_OF, p *(T)(faa))   \
    FUNCTION(name##_gab, 3, PART_OF, p *(T)(fab))   \
    FUNCTION(name##_gbb, 3, PART_OF, p *(T)(fbb))
#define COMPARE(name, e) FUNCTION(name, 2, BINARY_OF, (e) ? 1 : 0)
#include "core/ops/ops_begin.h"
#include "core/ops/pointwise.def"
#include "core/ops/ops_end.h"

/* Integer forms: in 64 bits. */
static __device__ inline uint64_t fbi_ipow(int64_t base, int64_t n)
{
    uint64_t b = (uint64_t)base, y = 1;
    if (n < 0)
        return base == 1 ? 1 : base == -1 ? (n % 2 ? (uint64_t)-1 : 1) : 0;
    for (; n; n /= 2, b *= b)
        y *= n % 2 ? b : 1;
    return y;
}

#define U(x)         ((uint64_t)(x))
#define V_IPOW(x, n) fbi_ipow(x, n)
#define INT_FUNCTION(name, in, setup, expression)                                       \
    struct int_##name {                                                                 \
        enum { n_in = in };                                                             \
        static __device__ inline int64_t run(int64_t p, int64_t q, int64_t, int64_t sa, \
                                             int64_t sb)                                \
        {                                                                               \
            setup;                                                                      \
            return (int64_t)(expression);                                               \
        }                                                                               \
    };
#define INT_UNARY_OF                     \
    const int64_t x = p, a = sa, b = sb; \
    (void)x, (void)a, (void)b, (void)q
#define INT_BINARY_OF           \
    const int64_t a = p, b = q; \
    (void)a, (void)b, (void)sa, (void)sb
#define UNARY_INT(name, f)  INT_FUNCTION(name, 1, INT_UNARY_OF, f)
#define BINARY_INT(name, f) INT_FUNCTION(name, 2, INT_BINARY_OF, f)
#include "core/ops/ops_begin.h"
#include "core/ops/pointwise.def"
#include "core/ops/ops_end.h"

/* --- the loops --- */

/* 16 bytes as W values: W is 4 (F32), 8 (F16, BF16) or 2 (F64). */
template <int W, class T>
static __device__ inline void unpack(T *v, const void *p, int dtype, int64_t g)
{
    const uint4 raw = ((const uint4 *)p)[g];
    if (W * sizeof(T) == 16) {
        memcpy(v, &raw, 16);
        return;
    }
    uint16_t half[8];
    memcpy(half, &raw, 16);
    for (int i = 0; i < W; i++)
        v[i] = (T)(dtype == FB_F16 ? fbi_f16_to_f32(half[i & 7]) : fbi_bf16_to_f32(half[i & 7]));
}

template <int W, class T>
static __device__ inline void pack(void *p, int dtype, int64_t g, const T *v)
{
    uint4 raw;
    if (W * sizeof(T) == 16) {
        memcpy(&raw, v, 16);
    } else {
        uint16_t half[8];
        for (int i = 0; i < W; i++)
            half[i & 7] =
                dtype == FB_F16 ? fbi_f32_to_f16((float)v[i]) : fbi_f32_to_bf16((float)v[i]);
        memcpy(&raw, half, 16);
    }
    ((uint4 *)p)[g] = raw;
}

template <class F, int W, class T>
static __device__ inline void groups(const fbi_loop &p, void *out, const void *x, const void *y,
                                     const void *z, T a, T b)
{
    FBI_EACH(g, p.n / W)
    {
        T v[W], w[W] = {0}, u[W] = {0};
        unpack<W>(v, x, p.dtype[0], g);
        if (F::n_in > 1)
            unpack<W>(w, y, p.dtype[0], g);
        if (F::n_in > 2)
            unpack<W>(u, z, p.dtype[0], g);
        for (int i = 0; i < W; i++)
            v[i] = F::run(v[i], w[i], u[i], a, b);
        pack<W>(out, p.dtype[0], g, v);
    }
}

/* The last p.n % W elements are done one by one. C: what is stored: T, or int64_t of a comparison.
 */
template <class F, class T, class C>
__global__ void pointwise(fbi_loop p, void *out, const void *x, const void *y, const void *z, T a,
                          T b)
{
    int64_t done = 0;
    if (sizeof(T) == sizeof(C) && p.width == (int)(16 / sizeof(T))) {
        groups<F, 16 / sizeof(T)>(p, out, x, y, z, a, b);
        done = p.n - p.n % p.width;
    } else if (sizeof(T) == sizeof(C) && p.width == (int)(32 / sizeof(T))) {
        groups<F, 32 / sizeof(T)>(p, out, x, y, z, a, b);
        done = p.n - p.n % p.width;
    }
    FBI_EACH(k, p.n - done)
    {
        int64_t at[FBI_LOOP_ARGS];
        fbi_places(p, done + k, at, 1 + F::n_in);
        T v = fbi_load<T>(x, p.dtype[1], at[1]), w = 0, u = 0;
        if (F::n_in > 1)
            w = fbi_load<T>(y, p.dtype[2], at[2]);
        if (F::n_in > 2)
            u = fbi_load<T>(z, p.dtype[3], at[3]);
        fbi_store<C>(out, p.dtype[0], at[0], (C)F::run(v, w, u, a, b));
    }
}

template <class T> static T scalar_of(double s)
{
    return (T)s;
}
/* As far as int64_t goes; infinite bounds of clamp too. */
template <> int64_t scalar_of<int64_t>(double s)
{
    return s >= 0x1p63 ? INT64_MAX : s < -0x1p63 ? INT64_MIN : (int64_t)s;
}

template <class F, class T, class C> static fb_status run(const fbi_call *c)
{
    const fb_tensor *t[FBI_LOOP_ARGS] = {c->out[0], c->in[0]};
    for (int i = 1; i < F::n_in; i++)
        t[1 + i] = c->in[i] ? c->in[i] : c->in[0]; /* a constant slope reads nothing of it */
    fbi_loop p;
    fbi_cuda_loop(&p, t, 1 + F::n_in);
    if (p.n == 0)
        return FB_OK;
    const fbi_attrs_scalars *s = (const fbi_attrs_scalars *)c->attrs;
    const void *data[3] = {NULL, NULL, NULL};
    for (int i = 0; i < F::n_in; i++)
        data[i] = fbi_cuda_data(t[1 + i]);
    T a = s ? scalar_of<T>(s->a) : (T)0, b = s ? scalar_of<T>(s->b) : (T)0;
    FBI_LAUNCH(c, (pointwise<F, T, C>), fbi_blocks(c->ctx, p.width ? p.n / p.width : p.n),
               FBI_BLOCK, p, fbi_cuda_data(c->out[0]), data[0], data[1], data[2], a, b);
    return FB_OK;
}

/* F32, F16 and BF16 are computed in F32; integers become floats on the way where the row has no
 * form for them. */
template <template <class> class F> static fb_status run_floats(const fbi_call *c)
{
    return c->out[0]->dtype == FB_F64 ? run<F<double>, double, double>(c)
                                      : run<F<float>, float, float>(c);
}

static fb_status check_integers(const fbi_call *c, int n_in)
{
    const fbi_core_api *core = fbi_cuda_of(c->ctx)->core;
    const fbi_attrs_scalars *s = (const fbi_attrs_scalars *)c->attrs;
    const char *dtype = fbi_cuda_dtype_name(c->out[0]->dtype), *name = c->op->name;
    if (n_in == 1 && c->out[0]->dtype == FB_BOOL)
        return core->fail(c->ctx, FB_E_DTYPE, "%s: in place, the I64 result does not fit into BOOL",
                          name);
    for (int i = 0; i < 2 && s && c->op->attrs_bytes; i++) {
        double v = i ? s->b : s->a;
        if (floor(v) != v)
            return core->fail(c->ctx, FB_E_DTYPE,
                              "%s: %g is no integer and the tensor is %s: convert it", name, v,
                              dtype);
    }
    if (c->op->op == FBI_OP_pow_scalar && s && s->a < 0)
        return core->fail(c->ctx, FB_E_ARG, "%s: %s to the negative power %g", name, dtype, s->a);
    return FB_OK;
}

template <class F> static fb_status run_integers(const fbi_call *c)
{
    fb_status st = check_integers(c, F::n_in);
    return st ? st : run<F, int64_t, int64_t>(c);
}

template <template <class> class F> static fb_status run_compare(const fbi_call *c)
{
    if (c->in[0]->dtype == FB_F64)
        return run<F<double>, double, int64_t>(c);
    return fbi_cuda_is_float(c->in[0]->dtype) ? run<F<float>, float, int64_t>(c)
                                              : run<F<int64_t>, int64_t, int64_t>(c);
}

/* The gradients of a product: operands of one dtype and layout. */
template <class T>
__global__ void products(int64_t n, const T *g, const T *a, const T *b, T *ga, T *gb)
{
    FBI_EACH(i, n)
    {
        const T v = g[i];
        ga[i] = v * b[i];
        gb[i] = v * a[i];
    }
}

template <class T> static fb_status run_products(const fbi_call *c)
{
    int64_t n = c->in[0]->numel;
    const T *in[3];
    for (int i = 0; i < 3; i++)
        in[i] = (const T *)fbi_cuda_data(c->in[i]);
    if (n)
        FBI_LAUNCH(c, (products<T>), fbi_blocks(c->ctx, n), FBI_BLOCK, n, in[0], in[1], in[2],
                   (T *)fbi_cuda_data(c->out[0]), (T *)fbi_cuda_data(c->out[1]));
    return FB_OK;
}

FBI_CUDA_KERNEL(mul_bwd)
{
    return c->in[0]->dtype == FB_F64 ? run_products<double>(c) : run_products<float>(c);
}

/* The integer form of a row, where it has one. */
template <int OP> struct integers_of {
    static fb_status run_it(const fbi_call *c)
    {
        return fbi_cuda_of(c->ctx)->core->fail(c->ctx, FB_E_DTYPE, "%s: has no kernel for %s",
                                               c->op->name, fbi_cuda_dtype_name(c->out[0]->dtype));
    }
};
#define UNARY_INT(name, f)                                                                 \
    template <> struct integers_of<FBI_OP_##name> {                                        \
        static fb_status run_it(const fbi_call *c) { return run_integers<int_##name>(c); } \
    };
#define BINARY_INT UNARY_INT
#include "core/ops/ops_begin.h"
#include "core/ops/pointwise.def"
#include "core/ops/ops_end.h"

#define KERNEL_F(name)                                                                      \
    FBI_CUDA_KERNEL(name)                                                                   \
    {                                                                                       \
        return fbi_cuda_is_float(c->out[0]->dtype) ? run_floats<fn_##name>(c)               \
                                                   : integers_of<FBI_OP_##name>::run_it(c); \
    }
#define UNARY(name, ...) KERNEL_F(name) KERNEL_F(name##_bwd) KERNEL_F(name##_bwd2)
#define UNARY_S          UNARY
#define BINARY(name, ...) \
    KERNEL_F(name)        \
    KERNEL_F(name##_ga)   \
    KERNEL_F(name##_gb) KERNEL_F(name##_gaa) KERNEL_F(name##_gab) KERNEL_F(name##_gbb)
#define COMPARE(name, e)                  \
    FBI_CUDA_KERNEL(name)                 \
    {                                     \
        return run_compare<fn_##name>(c); \
    }
#include "core/ops/ops_begin.h"
#include "core/ops/pointwise.def"
#include "core/ops/ops_end.h"
