/* The table of operators, from the rows of ops.def. */
#include "core/ops/attr_priv.h"

#include "core/ops/pointwise_priv.h"

/* Names that rows use bare. */
enum {
    IN0 = FBI_IN0,
    IN1 = FBI_IN1,
    IN2 = FBI_IN2,
    IN3 = FBI_IN3,
    IN4 = FBI_IN4,
    IN5 = FBI_IN5,
    OUT0 = FBI_OUT0,
    OUT1 = FBI_OUT1,
    OUT2 = FBI_OUT2,
    OUT3 = FBI_OUT3,
    OPT1 = FBI_OPT1,
    OPT2 = FBI_OPT2,
    OPT3 = FBI_OPT3,
    VARIADIC = FBI_VARIADIC,
    VIEW = FBI_VIEW,
    RANDOM = FBI_RANDOM,
    BETA = FBI_BETA,
    COUPLES = FBI_COUPLES,
    THREAD_BITS = FBI_THREAD_BITS,
    CPU_HALF = FBI_CPU_HALF,
    AUX = FBI_AUX,
    AUX_LAST = FBI_AUX_LAST,
    INTS = FBI_INTS,
    LAPACK = FBI_LAPACK,
    WIDE = FBI_WIDE,
    NO_GRADIENT = FBI_NO_GRADIENT
};

enum { SAVE_N = 0, SAVE_X = FBI_IN0, SAVE_Y = FBI_OUT0, SAVE_AB = FBI_IN0 | FBI_IN1 };

#define S(x) (x)

/* Attribute descriptions: the row's attributes are seen through the struct `T`. */
#define FBI_CODE_int     'i'
#define FBI_CODE_f64     'f'
#define FBI_CODE_u64     'u'
#define FBI_CODE_shape   's'
#define FBI_DEF_int(d)   (double)(d)
#define FBI_DEF_f64(d)   (double)(d)
#define FBI_DEF_u64(d)   (double)(d)
#define FBI_DEF_shape(d) 0
/* Offsets follow from the order: every field is 8 bytes, a shape is sizeof(fb_shape). */
#define NOATTRS
#define A(type, field, def) {#field, FBI_CODE_##type, FBI_DEF_##type(def)},
#define FBI_ROW_INFO(name, ...) \
    static const fbi_attr_info fbi_info_##name[] = {__VA_ARGS__{NULL, 0, 0}};
#define OP(name, in, out, attrs, saves, flags)        FBI_ROW_INFO(name, attrs)
#define OP_SLOW(name, in, out, attrs, saves, flags)   FBI_ROW_INFO(name, attrs)
#define OP_NODIFF(name, in, out, attrs, saves, flags) FBI_ROW_INFO(name, attrs)
#define OP_FUSED                                      OP
#define OP_COMPOSED(name, in, out, attrs, flags)      FBI_ROW_INFO(name, attrs)
#define OP_LAPACK(name, in, out, attrs, saves)        FBI_ROW_INFO(name, attrs)
#define OP_VIEW(name, attrs)                          FBI_ROW_INFO(name, attrs)
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"

static const fbi_attr_info fbi_info_scalars[] = {{"a", 'f', 0}, {"b", 'f', 0}, {NULL, 0, 0}};

#define FBI_N_INFO(name) (int)(sizeof fbi_info_##name / sizeof fbi_info_##name[0]) - 1
#define FBI_ROW(row, in, out, mask, flag) \
    .name = #row, .op = FBI_OP_##row, .n_in = (in), .n_out = (out), .saves = (mask), .flags = (flag)
#define FBI_ROW_OF(row, in, out, mask, flag)                                   \
    FBI_ROW(row, in, out, mask, flag), .attrs_bytes = sizeof(fbi_attrs_##row), \
                                       .infer = fbi_infer_##row
#define FBI_ROW_NAMED(row) .attrs = fbi_info_##row, .n_attrs = FBI_N_INFO(row)

#define FBI_UNARY_ROWS(row, save, l, h, u, bytes, info)                                     \
    [FBI_OP_##row] = {FBI_ROW(row, 1, 1, SAVE_##save, FBI_POINTWISE),                       \
                      .attrs_bytes = (bytes),                                               \
                      .infer = fbi_infer_unary,                                             \
                      .bwd_ops = fbi_bwd_ops_unary,                                         \
                      .sample = fbi_sample_unary_##row,                                     \
                      info.lo = (l),                                                        \
                      .hi = (h),                                                            \
                      .ulp = (u)},                                                          \
    [FBI_OP_##row##_bwd] = {FBI_ROW(row##_bwd, 2, 1, FBI_IN0 | FBI_IN1,                     \
                                    FBI_POINTWISE | FBI_INNER | FBI_OPT1),                  \
                            .attrs_bytes = (bytes), .infer = fbi_infer_unary,               \
                            .bwd_ops = fbi_bwd_ops_unary_bwd},                              \
    [FBI_OP_##row##_bwd2] = {                                                               \
        FBI_ROW(row##_bwd2, 2, 1, FBI_IN0 | FBI_IN1, FBI_POINTWISE | FBI_INNER | FBI_OPT1), \
        .attrs_bytes = (bytes), .infer = fbi_infer_unary, .bwd_ops = fbi_bwd_ops_unary_bwd2},
#define FBI_BINARY_INNER(row, fn)                                                                 \
    [FBI_OP_##row] = {FBI_ROW(row, 3, 1, FBI_IN0 | FBI_IN1 | FBI_IN2, FBI_POINTWISE | FBI_INNER), \
                      .infer = fbi_infer_unary, .bwd_ops = fbi_bwd_ops_binary_##fn},

const fbi_opdef fbi_opdefs[FBI_OP_COUNT] = {
    [FBI_OP_none] = {.name = "leaf"},
#define UNARY(name, f, df, ddf, save, lo, hi, ulp) FBI_UNARY_ROWS(name, save, lo, hi, ulp, 0, )
#define UNARY_S(name, f, df, ddf, save, lo, hi, a0, b0, ulp)           \
    FBI_UNARY_ROWS(name, save, lo, hi, ulp, sizeof(fbi_attrs_scalars), \
                   .attrs = fbi_info_scalars FBI_COMMA.n_attrs = 2 FBI_COMMA)
#define FBI_COMMA ,
#define BINARY(row, f, fa, fb, faa, fab, fbb, save, alo, ahi, blo, bhi, u)                      \
    [FBI_OP_##row] = {FBI_ROW(row, 2, 1, SAVE_##save, FBI_POINTWISE),                           \
                      .infer = fbi_infer_binary,                                                \
                      .bwd_ops = fbi_bwd_ops_binary,                                            \
                      .sample = fbi_sample_binary_##row,                                        \
                      .lo = (alo),                                                              \
                      .hi = (ahi),                                                              \
                      .lo2 = (blo),                                                             \
                      .hi2 = (bhi),                                                             \
                      .ulp = (u)},                                                              \
    FBI_BINARY_INNER(row##_ga, g) FBI_BINARY_INNER(row##_gb, g) FBI_BINARY_INNER(row##_gaa, gg) \
        FBI_BINARY_INNER(row##_gab, gg) FBI_BINARY_INNER(row##_gbb, gg)
#define COMPARE(row, e)                                                                 \
    [FBI_OP_##row] = {FBI_ROW(row, 2, 1, 0, FBI_POINTWISE), .infer = fbi_infer_compare, \
                      .sample = fbi_sample_compare},
#define PREDICATE(row, e)                                                                 \
    [FBI_OP_##row] = {FBI_ROW(row, 1, 1, 0, FBI_POINTWISE), .infer = fbi_infer_predicate, \
                      .sample = fbi_sample_predicate},
#define BITS(row, f)                                                                 \
    [FBI_OP_##row] = {FBI_ROW(row, 2, 1, 0, FBI_POINTWISE), .infer = fbi_infer_bits, \
                      .sample = fbi_sample_bits},
#define OP(row, in, out, attrs_, saves_, flags_)                                      \
    [FBI_OP_##row] = {FBI_ROW_OF(row, in, out, saves_, flags_), .bwd = fbi_bwd_##row, \
                      .bwd_ops = fbi_bwd_ops_##row, .sample = fbi_sample_##row,       \
                      FBI_ROW_NAMED(row)},
#define OP_SLOW(row, in, out, attrs_, saves_, flags_)                                         \
    [FBI_OP_##row] = {FBI_ROW_OF(row, in, out, saves_, flags_), .bwd_ops = fbi_bwd_ops_##row, \
                      .sample = fbi_sample_##row, FBI_ROW_NAMED(row)},
#define OP_NODIFF(row, in, out, attrs_, saves_, flags_)                                     \
    [FBI_OP_##row] = {FBI_ROW_OF(row, in, out, saves_, flags_), .sample = fbi_sample_##row, \
                      FBI_ROW_NAMED(row)},
#define OP_FUSED       OP
#define OP_FUSED_INNER OP_INNER
#define OP_INNER(row, in, out, attrs_, saves_, flags_) \
    [FBI_OP_##row] = {FBI_ROW_OF(row, in, out, saves_, (flags_) | FBI_INNER)},
#define OP_INNER_DIFF(row, in, out, attrs_, saves_, flags_)                   \
    [FBI_OP_##row] = {FBI_ROW_OF(row, in, out, saves_, (flags_) | FBI_INNER), \
                      .bwd_ops = fbi_bwd_ops_##row},
#define OP_COMPOSED(row, in, out, attrs_, flags_)                                               \
    [FBI_OP_##row] = {FBI_ROW(row, in, out, 0, flags_), .attrs_bytes = sizeof(fbi_attrs_##row), \
                      .compose = fbi_compose_##row, .sample = fbi_sample_##row,                 \
                      FBI_ROW_NAMED(row)},
#define OP_LAPACK(row, in, out, attrs_, saves_)                                       \
    [FBI_OP_##row] = {FBI_ROW_OF(row, in, out, saves_, FBI_LAPACK | FBI_THREAD_BITS), \
                      .bwd_ops = fbi_bwd_ops_##row, .sample = fbi_sample_##row,       \
                      FBI_ROW_NAMED(row)},
#define OP_VIEW(row, attrs_)                                                            \
    [FBI_OP_##row] = {FBI_ROW_OF(row, 1, 1, 0, FBI_VIEW), .bwd_ops = fbi_bwd_ops_##row, \
                      .sample = fbi_sample_##row, FBI_ROW_NAMED(row)},
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
};
