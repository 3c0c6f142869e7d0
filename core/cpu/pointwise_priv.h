/* Inner loops made from the pointwise rows, one per row and compute type, and what runs them. */
#ifndef FLAMBEAU_CORE_CPU_POINTWISE_PRIV_H
#define FLAMBEAU_CORE_CPU_POINTWISE_PRIV_H

#include "core/base/vmath.h"
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/loop.h"

/* F16 and BF16 are computed in F32. */
static inline fb_dtype compute_dtype(const fb_tensor *t)
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
/* The same where open, which looks at x or y, and 0 elsewhere. */
#define INNER_G(name, T, suffix, open, d)                                                    \
    static void name##suffix(void *out, const void *const *in, int64_t n, const void *attrs) \
    {                                                                                        \
        ATTR_AB(T)                                                                           \
        T *o = out;                                                                          \
        const T *g = in[0], *s = in[1];                                                      \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++)                                 \
        {                                                                                    \
            const T x = s[i], y = x;                                                         \
            (void)x, (void)y;                                                                \
            o[i] = (open) ? g[i] * (T)(d) : 0;                                               \
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

#define INNER_P(name, T, suffix, e)                                                          \
    static void name##suffix(void *out, const void *const *in, int64_t n, const void *attrs) \
    {                                                                                        \
        (void)attrs;                                                                         \
        uint8_t *o = out;                                                                    \
        const T *p = in[0];                                                                  \
        for (int64_t i = 0; i < n; i++) {                                                    \
            const T x = p[i];                                                                \
            o[i] = (e);                                                                      \
        }                                                                                    \
    }

/* Of a whole row, in one type. */
#define UNARY_INNERS(name, T, suffix, f, df, ddf) \
    INNER_F(name, T, suffix, f)                   \
    INNER_D(name##_bwd, T, suffix, df) INNER_D(name##_bwd2, T, suffix, ddf)
#define GATE_INNERS(name, T, suffix, f, open, df, ddf) \
    INNER_F(name, T, suffix, f)                        \
    INNER_G(name##_bwd, T, suffix, open, df) INNER_G(name##_bwd2, T, suffix, open, ddf)
#define BINARY_INNERS(name, T, suffix, f, fa, fb, faa, fab, fbb) \
    INNER_B(name, T, suffix, f)                                  \
    INNER_BG(name##_ga, T, suffix, fa)                           \
    INNER_BG(name##_gb, T, suffix, fb)                           \
    INNER_BG(name##_gaa, T, suffix, faa)                         \
    INNER_BG(name##_gab, T, suffix, fab) INNER_BG(name##_gbb, T, suffix, fbb)
#define EACH_TYPE(INNER, name, e) \
    INNER(name, float, _f32, e)   \
    INNER(name, double, _f64, e)  \
    INNER(name, int32_t, _i32, e) \
    INNER(name, int64_t, _i64, e) \
    INNER(name, uint8_t, _u8, e)

#define V_SEL(c, a, b) ((c) ? (a) : (b))

/* --- integers: in 64 bits, stored in the dtype --- */

/* As far as int64_t goes; infinite bounds of clamp too. */
static inline int64_t whole(double s)
{
    return s >= 0x1p63 ? INT64_MAX : s < -0x1p63 ? INT64_MIN : (int64_t)s;
}

#define U(x) ((uint64_t)(x))
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
#define NO_SCALARS
#define TWO_OPERANDS              const int64_t a = p[i], b = q[i]
#define UNARY_INT_INNER(name, f)  INNER_I(name, const int64_t x = p[i], TWO_SCALARS, f)
#define BINARY_INT_INNER(name, f) INNER_I(name, TWO_OPERANDS, NO_SCALARS, f)

static bool has_zero(const fbi_call *c, const fb_tensor *t, fb_status *st)
{
    fbi_flat f;
    *st = fbi_flat_of(c, t, &f) ? FB_OK : FB_E_NOMEM;
    bool found = false;
    for (int64_t i = 0; i < t->numel && !*st && !found; i++)
        found = fbi_index_at(f.p, t->dtype, i) == 0;
    fbi_flat_free(&f);
    return found;
}

/* As PyTorch's ZeroDivisionError. */
static fb_status check_divisor(const fbi_call *c)
{
    fbi_op op = c->op->op;
    fb_status st = FB_OK;
    if (op != FBI_OP_fmod && op != FBI_OP_remainder && op != FBI_OP_floor_divide)
        return FB_OK;
    if (has_zero(c, c->in[1], &st))
        return fbi_op_fail(c, FB_E_ARG,
                           "the divisor %s has a 0, and integers have no quotient by 0",
                           fbi_text(c->in[1]));
    return st;
}

static fb_status run_integers(const fbi_call *c, int n_in, fbi_inner fn)
{
    const fbi_attrs_scalars *s = c->op->attrs_bytes ? c->attrs : NULL;
    const char *dtype = fb_dtype_name((fb_dtype)c->out[0]->dtype);
    if (n_in == 1 && c->out[0]->dtype == FB_BOOL && c->op->op != FBI_OP_sign)
        return fbi_op_fail(c, FB_E_DTYPE, "in place, the I64 result does not fit into BOOL");
    for (int i = 0; i < 2 && s; i++) {
        double v = i ? s->b : s->a;
        if (floor(v) != v)
            return fbi_op_fail(c, FB_E_DTYPE, "%g is no integer and the tensor is %s: convert it",
                               v, dtype);
    }
    if (c->op->op == FBI_OP_pow_scalar && s && s->a < 0)
        return fbi_op_fail(c, FB_E_ARG, "%s to the negative power %g", dtype, s->a);
    if (!fn)
        return fbi_op_fail(c, FB_E_DTYPE, "in place, the result does not fit into %s", dtype);
    fb_status st = check_divisor(c);
    return st ? st : fbi_loop(c, n_in, (fb_dtype[]){FB_I64, FB_I64, FB_I64}, fn);
}

/* Integers become floats on the way where the row has no form for them. `past`: see
 * fbi_loop_past, for F32. */
static inline fb_status run_pointwise(const fbi_call *c, int n_in, fbi_inner f32, fbi_inner f64,
                                      fbi_inner integers, fbi_inner past)
{
    fb_dtype d = compute_dtype(c->out[0]);
    if (d != FB_F32 && d != FB_F64)
        return run_integers(c, n_in, integers);
    fb_dtype as[4] = {d, d, d, d};
    return fbi_loop_past(c, n_in, as, d == FB_F32 ? f32 : f64, d == FB_F32 ? past : NULL);
}

/* fn: of F32, F64, I32, I64, U8 */
static inline fb_status run_compare(const fbi_call *c, int n_in, const fbi_inner fn[5])
{
    fb_dtype d = compute_dtype(c->in[0]);
    int k = d == FB_F32 ? 0 : d == FB_F64 ? 1 : d == FB_I32 ? 2 : d == FB_I64 ? 3 : 4;
    if (k == 4 && d != FB_U8 && d != FB_BOOL) {
        d = FB_I64;
        k = 3;
    }
    return fbi_loop(c, n_in, (fb_dtype[]){FB_BOOL, d, d}, fn[k]);
}

/* The kernels of a row; int_inners is the file's table of integer forms, PAST_OF(op) what an
 * operator has for fbi_loop_past. */
#define KERNEL_F(name, n_in)                                                         \
    fb_status FBI_KERNEL(name)(const fbi_call *c)                                    \
    {                                                                                \
        return run_pointwise(c, n_in, name##_f32, name##_f64, int_inners[c->op->op], \
                             PAST_OF(c->op->op));                                    \
    }
#define UNARY_KERNELS(name) KERNEL_F(name, 1) KERNEL_F(name##_bwd, 2) KERNEL_F(name##_bwd2, 2)
#define BINARY_KERNELS(name) \
    KERNEL_F(name, 2)        \
    KERNEL_F(name##_ga, 3)   \
    KERNEL_F(name##_gb, 3)   \
    KERNEL_F(name##_gaa, 3) KERNEL_F(name##_gab, 3) KERNEL_F(name##_gbb, 3)
#define KERNEL_C(name, n_in)                                                                 \
    fb_status FBI_KERNEL(name)(const fbi_call *c)                                            \
    {                                                                                        \
        const fbi_inner fn[5] = {name##_f32, name##_f64, name##_i32, name##_i64, name##_u8}; \
        return run_compare(c, n_in, fn);                                                     \
    }

#endif
