/* Kernels of the rows of pointwise.def: one inner loop per row and compute type, made from the row.
 */
#include "core/cpu/pointwise_priv.h"
#include "core/cpu/sixteen_priv.h"

/* --- F32 --- */
#define V_C(x)                       ((float)(x))
#define V_EXP(x)                     fbi_expf(x)
#define V_LOG(x)                     fbi_logf(x)
#define V_LOG1P(x)                   fbi_log1pf(x)
#define V_EXPM1(x)                   fbi_expm1f(x)
#define V_SQRT(x)                    sqrtf(x)
#define V_SIN(x)                     sinf(x)
#define V_COS(x)                     cosf(x)
#define V_TANH(x)                    fbi_tanhf(x)
#define V_ERF(x)                     fbi_erff(x)
#define V_SIGMOID(x)                 fbi_sigmoidf(x)
#define V_POW(x, y)                  powf(x, y)
#define V_ABS(x)                     fabsf(x)
#define V_NCDF(x)                    fbi_ncdff(x)
#define V_NPDF(x)                    fbi_npdff(x)
#define V_SOFTPLUS(x)                (V_SEL((x) > 0, (x), 0) + fbi_log1pf(fbi_expf(-fabsf(x))))
#define UNARY(name, f, df, ddf, ...) UNARY_INNERS(name, float, _f32, f, df, ddf)
#define UNARY_S                      UNARY
#define BINARY(name, f, fa, fb, faa, fab, fbb, ...) \
    BINARY_INNERS(name, float, _f32, f, fa, fb, faa, fab, fbb)
#define UNARY_GATE(name, f, open, df, ddf, ...) GATE_INNERS(name, float, _f32, f, open, df, ddf)
#define UNARY_GATE_S                            UNARY_GATE
#define COMPARE(name, e)                        EACH_TYPE(INNER_C, name, e)
#include "core/ops/ops_begin.h"
#include "core/ops/pointwise.def"
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
#define V_C(x)                       (x)
#define V_EXP(x)                     exp(x)
#define V_LOG(x)                     log(x)
#define V_LOG1P(x)                   log1p(x)
#define V_EXPM1(x)                   expm1(x)
#define V_SQRT(x)                    sqrt(x)
#define V_SIN(x)                     sin(x)
#define V_COS(x)                     cos(x)
#define V_TANH(x)                    tanh(x)
#define V_ERF(x)                     erf(x)
#define V_SIGMOID(x)                 fbi_sigmoid(x)
#define V_POW(x, y)                  pow(x, y)
#define V_ABS(x)                     fabs(x)
#define V_NCDF(x)                    (0.5 * (1.0 + erf((x)*0.70710678118654752440)))
#define V_NPDF(x)                    (0.39894228040143267794 * exp(-0.5 * (x) * (x)))
#define V_SOFTPLUS(x)                (V_SEL((x) > 0, (x), 0) + log1p(exp(-fabs(x))))
#define UNARY(name, f, df, ddf, ...) UNARY_INNERS(name, double, _f64, f, df, ddf)
#define UNARY_S                      UNARY
#define BINARY(name, f, fa, fb, faa, fab, fbb, ...) \
    BINARY_INNERS(name, double, _f64, f, fa, fb, faa, fab, fbb)
#define UNARY_GATE(name, f, open, df, ddf, ...) GATE_INNERS(name, double, _f64, f, open, df, ddf)
#define UNARY_GATE_S                            UNARY_GATE
#include "core/ops/ops_begin.h"
#include "core/ops/pointwise.def"
#include "core/ops/ops_end.h"

/* --- integers --- */

static int64_t fbi_ipow(int64_t base, int64_t n)
{
    uint64_t b = (uint64_t)base, y = 1;
    if (n < 0)
        return base == 1 ? 1 : base == -1 ? (n % 2 ? -1 : 1) : 0;
    for (; n; n /= 2, b *= b)
        y *= n % 2 ? b : 1;
    return (int64_t)y;
}

#define V_IPOW(x, n) (uint64_t) fbi_ipow(x, n)
#define UNARY_INT    UNARY_INT_INNER
#define BINARY_INT   BINARY_INT_INNER
#include "core/ops/ops_begin.h"
#include "core/ops/pointwise.def"
#include "core/ops/ops_end.h"

static const fbi_inner int_inners[FBI_OP_COUNT] = {
#define UNARY_INT(name, f) [FBI_OP_##name] = name##_int,
#define BINARY_INT         UNARY_INT
#include "core/ops/ops_begin.h"
#include "core/ops/pointwise.def"
#include "core/ops/ops_end.h"
};

/* --- past the caches --- */

/* GELU computes for as long as the memory takes: stores of its own (one core, of 62 GB/s 61 -> 69
 * %). */
#if defined __AVX512F__
static void gelu_past(void *out, const void *const *in, int64_t n, const void *attrs)
{
    (void)attrs;
    for (int64_t i = 0; i < n; i += 16) {
        __m512 x = _mm512_loadu_ps((const float *)in[0] + i);
        __m512 y = _mm512_mul_ps(x, fbi_ncdff_16(x, fbi_normal_exp_16(x)));
        _mm512_stream_ps((float *)out + i, y);
    }
}

static void gelu_bwd_past(void *out, const void *const *in, int64_t n, const void *attrs)
{
    (void)attrs;
    for (int64_t i = 0; i < n; i += 16) {
        __m512 g = _mm512_loadu_ps((const float *)in[0] + i);
        __m512 x = _mm512_loadu_ps((const float *)in[1] + i), e = fbi_normal_exp_16(x);
        __m512 d = _mm512_add_ps(fbi_ncdff_16(x, e), _mm512_mul_ps(x, fbi_npdff_16(e)));
        _mm512_stream_ps((float *)out + i, _mm512_mul_ps(g, d));
    }
}
#endif

static const fbi_inner past_inners[FBI_OP_COUNT] = {
#if defined __AVX512F__
    [FBI_OP_gelu] = gelu_past,
    [FBI_OP_gelu_bwd] = gelu_bwd_past,
#endif
};

#define PAST_OF(op)        past_inners[op]
#define UNARY(name, ...)   UNARY_KERNELS(name)
#define UNARY_S(name, ...) UNARY_KERNELS(name)
#define BINARY(name, ...)  BINARY_KERNELS(name)
#define COMPARE(name, e)   KERNEL_C(name, 2)
#include "core/ops/ops_begin.h"
#include "core/ops/pointwise.def"
#include "core/ops/ops_end.h"
