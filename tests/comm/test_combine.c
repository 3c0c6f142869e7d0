/* Sums and their like along a program, on the device of the context: every operand and every join
 * is done once more here, element by element. */
#include "tests/check.h"

#include <math.h>

#include <flambeau/core/ops/create.h>

#include "comm/reduce_priv.h"
#include "comm/tree_priv.h"
#include "core/base/half.h"
#include "core/tensor/tensor_priv.h"

enum { N = 300, MOST = 40 };

static fb_context *ctx;

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 24;
}

/* Large, small and negative ones, so that the order of additions matters. */
static double draw(uint64_t *seed)
{
    uint64_t x = next(seed);
    return ldexp((double)(x >> 8 & 0xffff) / 0x8000 - 1, (int)(x & 15) - 6);
}

/* --- the definition: values of the widest type that holds them --- */

typedef union value {
    float f;
    double d;
    int64_t i;
} value;

static value load(fb_dtype dtype, const void *p, int i)
{
    switch ((int)dtype) {
    case FB_F32:
        return (value){.f = ((const float *)p)[i]};
    case FB_F16:
        return (value){.f = fbi_f16_to_f32(((const uint16_t *)p)[i])};
    case FB_BF16:
        return (value){.f = fbi_bf16_to_f32(((const uint16_t *)p)[i])};
    case FB_F64:
        return (value){.d = ((const double *)p)[i]};
    case FB_I32:
        return (value){.i = ((const int32_t *)p)[i]};
    case FB_I64:
        return (value){.i = ((const int64_t *)p)[i]};
    default:
        return (value){.i = ((const uint8_t *)p)[i]};
    }
}

static void store(fb_dtype dtype, void *p, int i, value v)
{
    switch ((int)dtype) {
    case FB_F32:
        ((float *)p)[i] = v.f;
        break;
    case FB_F16:
        ((uint16_t *)p)[i] = fbi_f32_to_f16(v.f);
        break;
    case FB_BF16:
        ((uint16_t *)p)[i] = fbi_f32_to_bf16(v.f);
        break;
    case FB_F64:
        ((double *)p)[i] = v.d;
        break;
    case FB_I32:
        ((int32_t *)p)[i] = (int32_t)(uint32_t)v.i;
        break;
    case FB_I64:
        ((int64_t *)p)[i] = v.i;
        break;
    default:
        ((uint8_t *)p)[i] = (uint8_t)v.i;
    }
}

static bool lower(fb_dtype dtype, value a, value b)
{
    return dtype == FB_F64 ? a.d < b.d : dtype <= FB_BF16 ? a.f < b.f : a.i < b.i;
}

static bool is_nan(fb_dtype dtype, value a)
{
    return dtype == FB_F64 ? isnan(a.d) : dtype <= FB_BF16 && isnan(a.f);
}

static value join(fb_dtype dtype, fb_reduce_op op, value a, value b)
{
    bool f64 = dtype == FB_F64, f32 = dtype <= FB_BF16 && !f64;
    if (op == FB_MIN)
        return lower(dtype, a, b) || is_nan(dtype, a) ? a : b;
    if (op == FB_MAX)
        return lower(dtype, b, a) || is_nan(dtype, a) ? a : b;
    if (op == FB_SUM)
        return f64   ? (value){.d = a.d + b.d}
               : f32 ? (value){.f = a.f + b.f}
                     : (value){.i = (int64_t)((uint64_t)a.i + (uint64_t)b.i)};
    return f64   ? (value){.d = a.d * b.d}
           : f32 ? (value){.f = a.f * b.f}
                 : (value){.i = (int64_t)((uint64_t)a.i * (uint64_t)b.i)};
}

/* Integers of the dtype wrap around at each join. */
static value wrapped(fb_dtype dtype, value v)
{
    char room[8];
    if (dtype <= FB_BF16)
        return v;
    store(dtype, room, 0, v);
    return load(dtype, room, 0);
}

static void define(fb_reduce_op op, fb_dtype dtype, fb_dtype out_dtype, const int16_t *program,
                   int n, char (*data)[N * 8], void *out)
{
    for (int i = 0; i < N; i++) {
        value stack[MOST] = {{0}};
        int top = 0;
        for (int k = 0; k < n; k++) {
            if (program[k] != FBI_ADD) {
                stack[top++] = load(dtype, data[program[k]], i);
                continue;
            }
            top--;
            stack[top - 1] = wrapped(dtype, join(dtype, op, stack[top - 1], stack[top]));
        }
        store(out_dtype, out, i, n ? stack[0] : (value){0});
    }
}

/* --- the same on the device --- */

static char data[MOST][N * 8];

static void compare(fb_reduce_op op, fb_dtype dtype, fb_dtype out_dtype, const int16_t *program,
                    int n, int operands)
{
    FB_SCOPE(ctx);
    char want[N * 8], got[N * 8];
    const void *src[MOST];
    size_t bytes = N * fb_dtype_size(out_dtype);
    for (int k = 0; k < operands; k++)
        src[k] = fbi_ptr(fb_from(ctx, dtype, FB_SHAPE(N), data[k]));
    fb_tensor *out = fb_empty(ctx, out_dtype, FB_SHAPE(N));
    assert_int_equal(fbi_combine(ctx, op, dtype, out_dtype, program, n, src, fbi_ptr(out), N),
                     FB_OK);
    fb_read(out, got, bytes);
    check_ok(ctx);
    define(op, dtype, out_dtype, program, n, data, want);
    if (memcmp(want, got, bytes) != 0)
        fail_msg("op %d of %s to %s, %d operands: other bits", (int)op, fb_dtype_name(dtype),
                 fb_dtype_name(out_dtype), operands);
}

static void fill(fb_dtype dtype, int operands)
{
    uint64_t seed = 11;
    for (int k = 0; k < operands; k++)
        for (int i = 0; i < N; i++) {
            double v = draw(&seed);
            value x = {.i = (int64_t)(v * 40)};
            if (dtype == FB_F64)
                x.d = v;
            else if (dtype <= FB_BF16)
                x.f = (float)v;
            store(dtype, data[k], i, x);
        }
}

/* The tree over `operands` leaves, of which every seventh may be absent. */
static int tree_of(int operands, bool gaps, int16_t *program)
{
    fbi_layout *l = fbi_layout_new(operands, operands);
    uint32_t present[MOST];
    for (int k = 0; k < operands; k++)
        present[k] = !gaps || k % 7 != 3;
    int n = fbi_layout_program(l, present, program);
    fbi_layout_free(l);
    return n;
}

static void every_dtype_and_way_has_the_bits_of_the_definition(void **state)
{
    (void)state;
    static const fb_dtype dtypes[] = {FB_F32, FB_F64, FB_F16, FB_BF16,
                                      FB_I32, FB_I64, FB_U8,  FB_BOOL};
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++)
        for (int op = FB_SUM; op <= FB_MAX; op++) {
            int16_t program[2 * MOST];
            if (!fbi_reduce_supports((fb_reduce_op)op, dtypes[d]))
                continue;
            fill(dtypes[d], 5);
            compare((fb_reduce_op)op, dtypes[d], dtypes[d], program, tree_of(5, false, program), 5);
        }
}

static void any_number_of_operands_and_any_absences_will_do(void **state)
{
    (void)state;
    for (int operands = 0; operands <= MOST; operands += operands < 20 ? 1 : 5)
        for (int gaps = 0; gaps < 2; gaps++) {
            int16_t program[2 * MOST];
            int n = operands ? tree_of(operands, gaps, program) : 0;
            fill(FB_F32, operands);
            compare(FB_SUM, FB_F32, FB_F32, program, n, operands);
        }
}

static void halves_widen_narrow_and_are_rounded_once(void **state)
{
    (void)state;
    static const fb_dtype halves[] = {FB_F16, FB_BF16};
    for (int h = 0; h < 2; h++)
        for (int operands = 1; operands <= 27; operands += 13) {
            int16_t program[2 * MOST];
            int n = tree_of(operands, false, program);
            fill(halves[h], operands);
            compare(FB_SUM, halves[h], halves[h], program, n, operands);
            compare(FB_SUM, halves[h], FB_F32, program, n, operands);
            fill(FB_F32, operands);
            compare(FB_SUM, FB_F32, halves[h], program, n, operands);
        }
}

static void nan_wins_where_order_is_asked(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    static const int16_t program[] = {0, 1, FBI_ADD};
    static const float left[] = {1, NAN, 3}, right[] = {NAN, 2, -3};
    float got[3];
    fb_tensor *a = fb_from(ctx, FB_F32, FB_SHAPE(3), left);
    fb_tensor *b = fb_from(ctx, FB_F32, FB_SHAPE(3), right);
    const void *src[] = {fbi_ptr(a), fbi_ptr(b)};
    fbi_combine(ctx, FB_MAX, FB_F32, FB_F32, program, 3, src, fbi_ptr(a), 3);
    fb_read(a, got, sizeof got);
    assert_true(isnan(got[0]) && isnan(got[1]) && got[2] == 3);
}

static void the_result_may_take_the_place_of_an_operand(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    char want[N * 8];
    const void *src[11];
    fb_tensor *t[11];
    int16_t program[2 * MOST];
    int n = tree_of(11, false, program);
    fill(FB_F32, 11);
    for (int k = 0; k < 11; k++)
        src[k] = fbi_ptr(t[k] = fb_from(ctx, FB_F32, FB_SHAPE(N), data[k]));
    fbi_combine(ctx, FB_SUM, FB_F32, FB_F32, program, n, src, fbi_ptr(t[4]), N);
    define(FB_SUM, FB_F32, FB_F32, program, n, data, want);
    assert_memory_equal(check_data(t[4]), want, N * sizeof(float));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dtype_and_way_has_the_bits_of_the_definition),
        cmocka_unit_test(any_number_of_operands_and_any_absences_will_do),
        cmocka_unit_test(halves_widen_narrow_and_are_rounded_once),
        cmocka_unit_test(nan_wins_where_order_is_asked),
        cmocka_unit_test(the_result_may_take_the_place_of_an_operand),
    };
    ctx = fb_context_open(NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_context_close(ctx) || failed;
}
