/* Kernels of the pointwise rows: one inner loop per row and compute type, made from the row. */
#include "core/base/vmath.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/loop.h"

/* F16 and BF16 are computed in F32. */
static fb_dtype compute_dtype(const fb_tensor *t)
{
    fb_dtype d = (fb_dtype)t->dtype;
    return d == FB_F16 || d == FB_BF16 ? FB_F32 : d;
}

#define ATTR_AB(T)                                              \
    const fbi_attrs_scalars *sc = attrs;                        \
    const T a = sc ? (T)sc->a : (T)0, b = sc ? (T)sc->b : (T)0; \
    (void)a, (void)b;

/* x in, y out */
#define INNER_F(name, T, suffix, f)                                                          \
    static void name##suffix(void *out, const void *const *in, int64_t n, const void *attrs) \
    {                                                                                        \
        ATTR_AB(T)                                                                           \
        T *o = out;                                                                          \
        const T *p = in[0];                                                                  \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)                                 \
        {                                                                                    \
            const T x = p[i];                                                                \
            o[i] = (T)(f);                                                                   \
        }                                                                                    \
    }
/* g * derivative; s is x or y by the row, or absent */
#define INNER_D(name, T, suffix, d)                                                          \
    static void name##suffix(void *out, const void *const *in, int64_t n, const void *attrs) \
    {                                                                                        \
        ATTR_AB(T)                                                                           \
        T *o = out;                                                                          \
        const T *g = in[0], *s = in[1] ? in[1] : in[0];                                      \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)                                 \
        {                                                                                    \
            const T x = s[i], y = x;                                                         \
            (void)x, (void)y;                                                                \
            o[i] = g[i] * (T)(d);                                                            \
        }                                                                                    \
    }
#define INNER_B(name, T, suffix, f)                                                          \
    static void name##suffix(void *out, const void *const *in, int64_t n, const void *attrs) \
    {                                                                                        \
        (void)attrs;                                                                         \
        T *o = out;                                                                          \
        const T *p = in[0], *q = in[1];                                                      \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)                                 \
        {                                                                                    \
            const T a = p[i], b = q[i];                                                      \
            o[i] = (T)(f);                                                                   \
        }                                                                                    \
    }
#define INNER_BG(name, T, suffix, d)                                                         \
    static void name##suffix(void *out, const void *const *in, int64_t n, const void *attrs) \
    {                                                                                        \
        (void)attrs;                                                                         \
        T *o = out;                                                                          \
        const T *g = in[0], *p = in[1], *q = in[2];                                          \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)                                 \
        {                                                                                    \
            const T a = p[i], b = q[i];                                                      \
            (void)a, (void)b;                                                                \
            o[i] = g[i] * (T)(d);                                                            \
        }                                                                                    \
    }
#define INNER_C(name, T, suffix, e)                                                          \
    static void name##suffix(void *out, const void *const *in, int64_t n, const void *attrs) \
    {                                                                                        \
        (void)attrs;                                                                         \
        uint8_t *o = out;                                                                    \
        const T *p = in[0], *q = in[1];                                                      \
        for (int64_t i = 0; i < n; i++) {                                                    \
            const T a = p[i], b = q[i];                                                      \
            o[i] = (e);                                                                      \
        }                                                                                    \
    }

#define V_SEL(c, a, b) ((c) ? (a) : (b))

/* --- F32 --- */
#define V_C(x)        ((float)(x))
#define V_EXP(x)      fbi_expf(x)
#define V_LOG(x)      fbi_logf(x)
#define V_LOG1P(x)    log1pf(x)
#define V_EXPM1(x)    expm1f(x)
#define V_SQRT(x)     sqrtf(x)
#define V_SIN(x)      sinf(x)
#define V_COS(x)      cosf(x)
#define V_TANH(x)     fbi_tanhf(x)
#define V_ERF(x)      fbi_erff(x)
#define V_SIGMOID(x)  fbi_sigmoidf(x)
#define V_POW(x, y)   powf(x, y)
#define V_ABS(x)      fabsf(x)
#define V_NCDF(x)     (0.5f * (1.0f + fbi_erff((x)*0.70710678f)))
#define V_NPDF(x)     (0.39894228f * fbi_expf(-0.5f * (x) * (x)))
#define V_SOFTPLUS(x) (V_SEL((x) > 0, (x), 0) + log1pf(fbi_expf(-fabsf(x))))
#define UNARY(name, f, df, ddf, ...) \
    INNER_F(name, float, _f32, f)    \
    INNER_D(name##_bwd, float, _f32, df) INNER_D(name##_bwd2, float, _f32, ddf)
#define UNARY_S UNARY
#define BINARY(name, f, fa, fb, faa, fab, fbb, ...) \
    INNER_B(name, float, _f32, f)                   \
    INNER_BG(name##_ga, float, _f32, fa)            \
    INNER_BG(name##_gb, float, _f32, fb)            \
    INNER_BG(name##_gaa, float, _f32, faa)          \
    INNER_BG(name##_gab, float, _f32, fab) INNER_BG(name##_gbb, float, _f32, fbb)
#define COMPARE(name, e)           \
    INNER_C(name, float, _f32, e)  \
    INNER_C(name, double, _f64, e) \
    INNER_C(name, int32_t, _i32, e) INNER_C(name, int64_t, _i64, e) INNER_C(name, uint8_t, _u8, e)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
#undef V_C
#undef V_EXP
#undef V_LOG
#undef V_LOG1P
#undef V_EXPM1
#undef V_SQRT
#undef V_SIN
#undef V_COS
#undef V_TANH
#undef V_ERF
#undef V_SIGMOID
#undef V_POW
#undef V_ABS
#undef V_NCDF
#undef V_NPDF
#undef V_SOFTPLUS

/* --- F64 --- */
#define V_C(x)        (x)
#define V_EXP(x)      exp(x)
#define V_LOG(x)      log(x)
#define V_LOG1P(x)    log1p(x)
#define V_EXPM1(x)    expm1(x)
#define V_SQRT(x)     sqrt(x)
#define V_SIN(x)      sin(x)
#define V_COS(x)      cos(x)
#define V_TANH(x)     tanh(x)
#define V_ERF(x)      erf(x)
#define V_SIGMOID(x)  fbi_sigmoid(x)
#define V_POW(x, y)   pow(x, y)
#define V_ABS(x)      fabs(x)
#define V_NCDF(x)     (0.5 * (1.0 + erf((x)*0.70710678118654752440)))
#define V_NPDF(x)     (0.39894228040143267794 * exp(-0.5 * (x) * (x)))
#define V_SOFTPLUS(x) (V_SEL((x) > 0, (x), 0) + log1p(exp(-fabs(x))))
#define UNARY(name, f, df, ddf, ...) \
    INNER_F(name, double, _f64, f)   \
    INNER_D(name##_bwd, double, _f64, df) INNER_D(name##_bwd2, double, _f64, ddf)
#define UNARY_S UNARY
#define BINARY(name, f, fa, fb, faa, fab, fbb, ...) \
    INNER_B(name, double, _f64, f)                  \
    INNER_BG(name##_ga, double, _f64, fa)           \
    INNER_BG(name##_gb, double, _f64, fb)           \
    INNER_BG(name##_gaa, double, _f64, faa)         \
    INNER_BG(name##_gab, double, _f64, fab) INNER_BG(name##_gbb, double, _f64, fbb)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"

/* --- integers: in 64 bits, stored in the dtype --- */

/* As far as int64_t goes; infinite bounds of clamp too. */
static int64_t whole(double s)
{
    return s >= 0x1p63 ? INT64_MAX : s < -0x1p63 ? INT64_MIN : (int64_t)s;
}

static int64_t fbi_ipow(int64_t base, int64_t n)
{
    uint64_t b = (uint64_t)base, y = 1;
    if (n < 0)
        return base == 1 ? 1 : base == -1 ? (n % 2 ? -1 : 1) : 0;
    for (; n; n /= 2, b *= b)
        y *= n % 2 ? b : 1;
    return (int64_t)y;
}

#define U(x)         ((uint64_t)(x))
#define V_IPOW(x, n) (uint64_t) fbi_ipow(x, n)
#define INNER_I(name, first, scalars, f)                                                   \
    static void name##_int(void *out, const void *const *in, int64_t n, const void *attrs) \
    {                                                                                      \
        (void)attrs;                                                                       \
        scalars int64_t *o = out;                                                          \
        const int64_t *p = in[0], *q = in[1];                                              \
        (void)q;                                                                           \
        for (int64_t i = 0; i < n; i++) {                                                  \
            first;                                                                         \
            o[i] = (int64_t)(f);                                                           \
        }                                                                                  \
    }
#define TWO_SCALARS                                                     \
    const fbi_attrs_scalars *sc = attrs;                                \
    const int64_t a = sc ? whole(sc->a) : 0, b = sc ? whole(sc->b) : 0; \
    (void)a, (void)b;
#define UNARY_INT(name, f) INNER_I(name, const int64_t x = p[i], TWO_SCALARS, f)
#define NO_SCALARS
#define TWO_OPERANDS        const int64_t a = p[i], b = q[i]
#define BINARY_INT(name, f) INNER_I(name, TWO_OPERANDS, NO_SCALARS, f)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"

static const fbi_inner int_inners[FBI_OP_COUNT] = {
#define UNARY_INT(name, f) [FBI_OP_##name] = name##_int,
#define BINARY_INT         UNARY_INT
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
};

static fb_status run_integers(const fbi_call *c, int n_in)
{
    const fbi_attrs_scalars *s = c->op->attrs_bytes ? c->attrs : NULL;
    const char *dtype = fb_dtype_name((fb_dtype)c->out[0]->dtype);
    if (n_in == 1 && c->out[0]->dtype == FB_BOOL)
        return fbi_op_fail(c, FB_E_DTYPE, "in place, the I64 result does not fit into BOOL");
    for (int i = 0; i < 2 && s; i++) {
        double v = i ? s->b : s->a;
        if (floor(v) != v)
            return fbi_op_fail(c, FB_E_DTYPE, "%g is no integer and the tensor is %s: convert it",
                               v, dtype);
    }
    if (c->op->op == FBI_OP_pow_scalar && s && s->a < 0)
        return fbi_op_fail(c, FB_E_ARG, "%s to the negative power %g", dtype, s->a);
    return fbi_loop(c, n_in, (fb_dtype[]){FB_I64, FB_I64, FB_I64}, int_inners[c->op->op]);
}

/* Integers become floats on the way where the row has no form for them. */
static fb_status run_pointwise(const fbi_call *c, int n_in, fbi_inner f32, fbi_inner f64)
{
    fb_dtype d = compute_dtype(c->out[0]);
    if (d != FB_F32 && d != FB_F64)
        return run_integers(c, n_in);
    fb_dtype as[4] = {d, d, d, d};
    return fbi_loop(c, n_in, as, d == FB_F32 ? f32 : f64);
}

static fb_status run_compare(const fbi_call *c, const fbi_inner fn[5])
{
    fb_dtype d = compute_dtype(c->in[0]);
    int k = d == FB_F32 ? 0 : d == FB_F64 ? 1 : d == FB_I32 ? 2 : d == FB_I64 ? 3 : 4;
    if (k == 4 && d != FB_U8 && d != FB_BOOL) {
        d = FB_I64;
        k = 3;
    }
    return fbi_loop(c, 2, (fb_dtype[]){FB_BOOL, d, d}, fn[k]);
}

#define KERNEL_F(name, n_in)                                   \
    fb_status FBI_KERNEL(name)(const fbi_call *c)              \
    {                                                          \
        return run_pointwise(c, n_in, name##_f32, name##_f64); \
    }
#define UNARY(name, ...) KERNEL_F(name, 1) KERNEL_F(name##_bwd, 2) KERNEL_F(name##_bwd2, 2)
#define UNARY_S          UNARY
#define BINARY(name, ...)  \
    KERNEL_F(name, 2)      \
    KERNEL_F(name##_ga, 3) \
    KERNEL_F(name##_gb, 3) \
    KERNEL_F(name##_gaa, 3) KERNEL_F(name##_gab, 3) KERNEL_F(name##_gbb, 3)
#define COMPARE(name, e)                                                                     \
    fb_status FBI_KERNEL(name)(const fbi_call *c)                                            \
    {                                                                                        \
        const fbi_inner fn[5] = {name##_f32, name##_f64, name##_i32, name##_i64, name##_u8}; \
        return run_compare(c, fn);                                                           \
    }
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
