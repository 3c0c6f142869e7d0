/* Integers and BOOL where PyTorch has them: dtypes kept, wrapped, widened or refused. */
#include "tests/core/ops/ops_test_priv.h"

#include <flambeau/core/ops/conv.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/extreme.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/pool.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

enum { N = 4 };
static const int32_t i32[N] = {INT32_MAX, -7, 0, 3};
static const int64_t i64[N] = {INT64_MAX, INT64_MIN, -2, 3};
static const uint8_t u8[N] = {255, 1, 0, 7}, truth[N] = {1, 0, 0, 1};

#define I32  fb_from(ctx, FB_I32, FB_SHAPE(N), i32)
#define I64  fb_from(ctx, FB_I64, FB_SHAPE(N), i64)
#define U8   fb_from(ctx, FB_U8, FB_SHAPE(N), u8)
#define BOOL fb_from(ctx, FB_BOOL, FB_SHAPE(N), truth)

#define EXPECT(t, dtype, T, ...)                       \
    do {                                               \
        const T want_[] = {__VA_ARGS__};               \
        expect_ints((t), dtype, want_, sizeof(want_)); \
    } while (0)

static void arithmetic_keeps_integers_and_wraps(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    EXPECT(fb_add(I32, I32), FB_I32, int32_t, -2, -14, 0, 6);
    EXPECT(fb_sub(I64, fb_full_like(I64, 1)), FB_I64, int64_t, INT64_MAX - 1, INT64_MAX, -3, 2);
    EXPECT(fb_mul(I64, I64), FB_I64, int64_t, 1, 0, 4, 9);
    EXPECT(fb_add(U8, U8), FB_U8, uint8_t, 254, 2, 0, 14);
    EXPECT(fb_neg(U8), FB_U8, uint8_t, 1, 255, 0, 249);
    EXPECT(fb_abs(I64), FB_I64, int64_t, INT64_MAX, INT64_MIN, 2, 3);
    EXPECT(fb_square(I32), FB_I32, int32_t, 1, 49, 0, 9);
    EXPECT(fb_relu(I32), FB_I32, int32_t, INT32_MAX, 0, 0, 3);
    EXPECT(fb_clamp(I32, -5, 5), FB_I32, int32_t, 5, -5, 0, 3);
    EXPECT(fb_clamp(I64, -INFINITY, 0), FB_I64, int64_t, 0, INT64_MIN, -2, 0);
    EXPECT(fb_add_scalar(U8, 2), FB_U8, uint8_t, 1, 3, 2, 9);
    EXPECT(fb_mul_scalar(I32, -2), FB_I32, int32_t, 2, 14, 0, -6);
    EXPECT(fb_pow_scalar(I32, 3), FB_I32, int32_t, INT32_MAX, -343, 0, 27);
    EXPECT(fb_pow(fb_add_scalar(fb_mul_scalar(I32, 0), 2), fb_relu(fb_clamp(I32, 0, 4))), FB_I32,
           int32_t, 16, 1, 1, 8);
    EXPECT(fb_maximum(I32, fb_mul_scalar(I32, 0)), FB_I32, int32_t, INT32_MAX, 0, 0, 3);
}

static void integers_of_two_dtypes_meet_in_the_wider(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    EXPECT(fb_add(U8, fb_mul_scalar(I32, 0)), FB_I32, int32_t, 255, 1, 0, 7);
    EXPECT(fb_mul(BOOL, I64), FB_I64, int64_t, INT64_MAX, 0, 0, 3);
    fb_tensor *two[2] = {U8, I64};
    EXPECT(fb_cat((fb_tensors){two, 2}, 0), FB_I64, int64_t, 255, 1, 0, 7, INT64_MAX, INT64_MIN, -2,
           3);
    assert_int_equal(fb_dtype_of(fb_add(I64, fb_full(ctx, FB_BF16, FB_SHAPE(N), 1))), FB_BF16);
}

static void bool_adds_as_or_and_multiplies_as_and(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *other = fb_eq(U8, fb_full_like(U8, 1));
    EXPECT(fb_add(BOOL, other), FB_BOOL, uint8_t, 1, 1, 0, 1);
    EXPECT(fb_mul(BOOL, other), FB_BOOL, uint8_t, 0, 0, 0, 0);
    EXPECT(fb_add_scalar(BOOL, 2), FB_I64, int64_t, 3, 2, 2, 3);
    assert_int_equal(fb_mul_scalar_(BOOL, 2), FB_E_DTYPE);
    expect_error(ctx, FB_E_DTYPE, "mul_scalar: in place, the I64 result does not fit into BOOL");
    assert_null(fb_sub(BOOL, other));
    expect_error(ctx, FB_E_DTYPE, "sub: input 0 is BOOL; needs numbers");
    assert_null(fb_matmul(fb_unsqueeze(BOOL, 0), fb_unsqueeze(other, 1)));
    expect_error(ctx, FB_E_DTYPE, "matmul: input 0 is BOOL; needs numbers");
}

static void division_and_functions_give_f32(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    expect_values(fb_div(U8, fb_full_like(U8, 2)), (double[]){127.5, 0.5, 0, 3.5}, N, 0);
    expect_values(fb_exp(fb_mul_scalar(U8, 0)), (double[]){1, 1, 1, 1}, N, 0);
    expect_values(fb_sqrt(BOOL), (double[]){1, 0, 0, 1}, N, 0);
    assert_int_equal(fb_dtype_of(fb_div(I64, fb_full(ctx, FB_F64, FB_SHAPE(N), 2))), FB_F64);
}

static void comparisons_are_exact_in_64_bits(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    EXPECT(fb_gt(I64, fb_sub(I64, fb_full_like(I64, 1))), FB_BOOL, uint8_t, 1, 0, 1, 1);
    EXPECT(fb_where(BOOL, I64, fb_mul_scalar(I64, 0)), FB_I64, int64_t, INT64_MAX, 0, 0, 3);
}

static void sums_are_i64_and_extremes_keep_the_dtype(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    EXPECT(fb_sum(I32, FB_ALL, false), FB_I64, int64_t, (int64_t)INT32_MAX - 4);
    EXPECT(fb_sum(U8, FB_ALL, false), FB_I64, int64_t, 263);
    EXPECT(fb_sum(BOOL, FB_ALL, false), FB_I64, int64_t, 2);
    EXPECT(fb_amax(U8, FB_ALL, false), FB_U8, uint8_t, 255);
    EXPECT(fb_amin(I64, FB_ALL, false), FB_I64, int64_t, INT64_MIN);
    EXPECT(fb_argmax(I32, 0, false), FB_I64, int64_t, 0);
    assert_null(fb_mean(I64, FB_ALL, false));
    expect_error(ctx, FB_E_DTYPE, "mean: input 0 is I64");
}

static void products_of_integer_matrices_wrap(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *a = fb_reshape(I64, FB_SHAPE(2, 2)), *b = fb_reshape(U8, FB_SHAPE(2, 2));
    uint64_t x = INT64_MAX, y = (uint64_t)INT64_MIN;
    EXPECT(fb_matmul(a, a), FB_I64, int64_t, (int64_t)(x * x + y * (uint64_t)-2),
           (int64_t)(x * y + y * 3), (int64_t)((uint64_t)-2 * x + 3 * (uint64_t)-2),
           (int64_t)((uint64_t)-2 * y + 9));
    EXPECT(fb_matmul(b, b), FB_U8, uint8_t, (uint8_t)(255 * 255), (uint8_t)(255 + 7), 0, 49);
    EXPECT(fb_linear(b, b, fb_reshape(fb_narrow(U8, 0, 0, 2), FB_SHAPE(2))), FB_U8, uint8_t,
           (uint8_t)(255 * 255 + 1 + 255), 8, (uint8_t)(7 + 255), 50);
}

static void convolution_and_max_pooling_take_integers(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = fb_reshape(I64, FB_SHAPE(1, 1, 2, 2)), *u = fb_reshape(U8, FB_SHAPE(1, 1, 2, 2));
    EXPECT(fb_conv2d(x, x, NULL, NULL), FB_I64, int64_t, 1 + 0 + 4 + 9);
    EXPECT(fb_conv2d(u, u, fb_narrow(U8, 0, 0, 1), NULL), FB_U8, uint8_t,
           (uint8_t)(255 * 255 + 1 + 49 + 255));
    EXPECT(fb_max_pool2d(u, 2, 2, NULL), FB_U8, uint8_t, 255);
    EXPECT(fb_max_pool2d(x, 2, 1, NULL), FB_I64, int64_t, INT64_MAX, 3);
}

static void a_target_takes_no_value_of_a_higher_kind(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *t = I32;
    assert_int_equal(fb_add_(t, fb_full(ctx, FB_F32, FB_SHAPE(N), 0.5)), FB_E_DTYPE);
    expect_error(ctx, FB_E_DTYPE, "add: in place, F32 does not fit into I32");
    assert_int_equal(fb_mul_scalar_(t, 0.5), FB_E_DTYPE);
    expect_error(ctx, FB_E_DTYPE, "mul_scalar: 0.5 is no integer and the tensor is I32");
    assert_null(fb_pow_scalar(t, -1));
    expect_error(ctx, FB_E_ARG, "pow_scalar: I32 to the negative power -1");
    assert_int_equal(fb_add_(t, U8), FB_OK);
    EXPECT(t, FB_I32, int32_t, (int32_t)((uint32_t)INT32_MAX + 255), -6, 0, 10);
    assert_int_equal(fb_copy_(t, fb_full(ctx, FB_F32, FB_SHAPE(N), 2.75)), FB_OK);
    EXPECT(t, FB_I32, int32_t, 2, 2, 2, 2);
}

static void integers_of_8_and_16_bits_are_reduced(void **state)
{
    fb_context *ctx = *state;
    const fb_dtype small[] = {FB_I8, FB_I16, FB_U16};
    for (int i = 0; i < 3; i++) {
        FB_SCOPE(ctx);
        fb_tensor *x = fb_from(ctx, FB_I64, FB_SHAPE(2, 3), ((int64_t[]){100, 0, 3, 7, 120, 9}));
        fb_tensor *v = NULL, *at = NULL;
        x = fb_to(x, small[i]);
        EXPECT(fb_sum(x, FB_ALL, false), FB_I64, int64_t, 239);
        EXPECT(fb_argmax(x, 1, false), FB_I64, int64_t, 0, 1);
        EXPECT(fb_all(x, FB_SHAPE(1), false), FB_BOOL, bool, false, true);
        assert_int_equal(fb_dtype_of(fb_amin(x, FB_SHAPE(0), false)), small[i]);
        EXPECT(fb_to(fb_amin(x, FB_SHAPE(0), false), FB_I64), FB_I64, int64_t, 7, 0, 3);
        assert_int_equal(fb_max_dim(x, 0, false, &v, &at), FB_OK);
        assert_int_equal(fb_dtype_of(v), small[i]);
        EXPECT(fb_to(v, FB_I64), FB_I64, int64_t, 100, 120, 9);
        EXPECT(at, FB_I64, int64_t, 0, 1, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arithmetic_keeps_integers_and_wraps),
        cmocka_unit_test(integers_of_two_dtypes_meet_in_the_wider),
        cmocka_unit_test(bool_adds_as_or_and_multiplies_as_and),
        cmocka_unit_test(division_and_functions_give_f32),
        cmocka_unit_test(comparisons_are_exact_in_64_bits),
        cmocka_unit_test(sums_are_i64_and_extremes_keep_the_dtype),
        cmocka_unit_test(integers_of_8_and_16_bits_are_reduced),
        cmocka_unit_test(products_of_integer_matrices_wrap),
        cmocka_unit_test(convolution_and_max_pooling_take_integers),
        cmocka_unit_test(a_target_takes_no_value_of_a_higher_kind),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
