/* Composed reductions and blends against values worked out by hand or by loops in double. */
#include "tests/core/ops/ops_test_priv.h"

#include <flambeau/core/ops/blend.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/reduce.h>

static fb_tensor *row(fb_context *ctx, int64_t n, const float *v)
{
    return fb_from(ctx, FB_F32, FB_SHAPE(n), v);
}

static void norms_of_every_order(void **state)
{
    fb_context *ctx = *state;
    float v[4] = {3, -4, 0, 1};
    const struct {
        double p, want;
    } orders[] = {{2, sqrt(26)},
                  {1, 8},
                  {0, 3},
                  {INFINITY, 4},
                  {-INFINITY, 0},
                  {3, cbrt(92)},
                  {0.5, pow(sqrt(3) + 3, 2)},
                  {-1, 0}};
    fb_tensor *t = row(ctx, 4, v);
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++)
        expect_values(fb_norm(t, orders[i].p, FB_ALL, false), &orders[i].want, 1, 1e-6);
    double want = sqrt(2);
    expect_values(fb_dist(row(ctx, 2, v), row(ctx, 2, (float[]){2, -3}), 2), &want, 1, 1e-6);
}

static void the_norm_and_the_deviation_of_nothing_that_varies_have_the_gradient_0(void **state)
{
    fb_context *ctx = *state;
    for (int k = 0; k < 2; k++) {
        fb_tensor *t = fb_zeros(ctx, FB_F32, FB_SHAPE(3)), *g = NULL;
        fb_requires_grad(t, true);
        fb_tensor *y = k ? fb_std(t, FB_ALL, true, false) : fb_norm(t, 2, FB_ALL, false);
        assert_int_equal(fb_gradients((fb_tensors){&y, 1}, (fb_tensors){&t, 1}, NULL, &g), FB_OK);
        expect_values(g, (double[]){0, 0, 0}, 3, 0);
    }
}

static void moments_and_products(void **state)
{
    fb_context *ctx = *state;
    float v[6] = {1, 2, 4, -1, 0, 3};
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(2, 3), v), *a, *b;
    double deviations[2] = {sqrt(7 / 3.0), sqrt(13 / 3.0)};
    expect_values(fb_std(t, FB_SHAPE(1), true, false), deviations, 2, 1e-6);
    assert_int_equal(fb_std_mean(t, FB_SHAPE(1), true, false, &a, &b), FB_OK);
    expect_values(a, deviations, 2, 1e-6);
    expect_values(b, (double[]){7 / 3.0, 2 / 3.0}, 2, 1e-6);
    assert_int_equal(fb_var_mean(t, FB_SHAPE(0), false, true, &a, &b), FB_OK);
    expect_values(a, (double[]){1, 1, 0.25}, 3, 1e-6);
    expect_values(fb_prod(t, FB_SHAPE(1), false), (double[]){8, 0}, 2, 0);
    assert_int_equal(fb_aminmax(t, FB_SHAPE(1), false, &a, &b), FB_OK);
    expect_values(a, (double[]){1, -1}, 2, 0);
    expect_values(b, (double[]){4, 3}, 2, 0);
    expect_values(fb_max(t), (double[]){4}, 1, 0);
    expect_values(fb_min(t), (double[]){-1}, 1, 0);
    expect_ints(fb_count_nonzero(t, FB_SHAPE(1)), FB_I64, (int64_t[]){3, 2}, 16);
    expect_ints(fb_prod(fb_to(t, FB_I32), FB_SHAPE(0), false), FB_I64, (int64_t[]){-1, 0, 12}, 24);
    double nothing = 1;
    expect_values(fb_prod(fb_zeros(ctx, FB_F32, FB_SHAPE(0)), FB_ALL, false), &nothing, 1, 0);
}

static void the_gradient_of_a_product_is_right_at_zeros(void **state)
{
    fb_context *ctx = *state;
    float v[3] = {2, 0, 5};
    fb_tensor *t = row(ctx, 3, v), *g = NULL;
    fb_requires_grad(t, true);
    fb_tensor *y = fb_prod(t, FB_ALL, false);
    assert_int_equal(fb_gradients((fb_tensors){&y, 1}, (fb_tensors){&t, 1}, NULL, &g), FB_OK);
    expect_values(g, (double[]){0, 10, 0}, 3, 0);
}

static void logarithms_of_sums_do_not_overflow(void **state)
{
    fb_context *ctx = *state;
    float v[3] = {1000, 1000, -INFINITY}, one;
    double want = 1000 + log(2);
    expect_values(fb_logsumexp(row(ctx, 3, v), FB_ALL, false), &want, 1, 1e-6);
    fb_tensor *y = fb_logsumexp(row(ctx, 1, v + 2), FB_ALL, false);
    assert_int_equal(fb_read(y, &one, sizeof one), FB_OK);
    assert_true(one == -INFINITY);
}

static void nan_is_left_out_of_sums(void **state)
{
    fb_context *ctx = *state;
    float v[4] = {1, NAN, 4, 1};
    expect_values(fb_nansum(row(ctx, 4, v), FB_ALL, false), (double[]){6}, 1, 0);
    expect_values(fb_nanmean(row(ctx, 4, v), FB_ALL, false), (double[]){2}, 1, 0);
}

static void blends_have_their_values(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *a = row(ctx, 3, (float[]){1, 2, 3}), *b = row(ctx, 3, (float[]){4, 5, 8});
    fb_tensor *w = row(ctx, 3, (float[]){0, 0.5f, 1});
    expect_values(fb_addcmul(a, b, w, 2), (double[]){1, 7, 19}, 3, 1e-6);
    expect_values(fb_addcdiv(w, b, a, 0.5), (double[]){2, 1.75, 1 + 4 / 3.0}, 3, 1e-6);
    expect_values(fb_lerp(a, b, w), (double[]){1, 3.5, 8}, 3, 1e-6);
    expect_values(fb_lerp_scalar(a, b, 0.25), (double[]){1.75, 2.75, 4.25}, 3, 1e-6);
    expect_values(fb_clamp_tensor(b, NULL, row(ctx, 1, (float[]){5})), (double[]){4, 5, 5}, 3, 0);
    expect_values(fb_clamp_tensor(a, row(ctx, 3, (float[]){2, 0, 9}), b), (double[]){2, 2, 8}, 3,
                  0);
    fb_tensor *mask = fb_from(ctx, FB_BOOL, FB_SHAPE(3), (uint8_t[]){1, 0, 1});
    expect_values(fb_masked_fill(a, mask, -1), (double[]){-1, 2, -1}, 3, 0);
    expect_values(fb_ldexp(a, fb_from(ctx, FB_I32, FB_SHAPE(3), (int32_t[]){1, 0, -1})),
                  (double[]){2, 2, 1.5}, 3, 1e-6);
    expect_values(fb_glu(row(ctx, 2, (float[]){3, 0}), 0), (double[]){1.5}, 1, 1e-6);
    fb_tensor *odd = row(ctx, 3, (float[]){NAN, INFINITY, -INFINITY});
    expect_values(fb_nan_to_num(odd, 7, INFINITY, -2), (double[]){7, 3.4028234663852886e38, -2}, 3,
                  1e-7);
    uint8_t close[3] = {1, 0, 0};
    expect_ints(fb_isclose(a, row(ctx, 3, (float[]){1.0000001f, 2.1f, NAN}), 1e-5, 1e-8, true),
                FB_BOOL, close, sizeof close);
    uint8_t turned[2] = {0xFE, 0};
    expect_ints(fb_bitwise_not(fb_from(ctx, FB_U8, FB_SHAPE(2), (uint8_t[]){1, 255})), FB_U8,
                turned, sizeof turned);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        TEST(norms_of_every_order),
        TEST(the_norm_and_the_deviation_of_nothing_that_varies_have_the_gradient_0),
        TEST(moments_and_products),
        TEST(the_gradient_of_a_product_is_right_at_zeros),
        TEST(logarithms_of_sums_do_not_overflow),
        TEST(nan_is_left_out_of_sums),
        TEST(blends_have_their_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
