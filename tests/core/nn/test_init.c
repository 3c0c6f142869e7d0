/* First values: what each initialiser promises, measured. */
#include "tests/check.h"

#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>
#include <math.h>

/* The weight of a fresh linear layer [rows, cols] drawn so. */
static fb_tensor *drawn(fb_context *ctx, int64_t rows, int64_t cols, fb_init init)
{
    fb_module *m = fb_nn_linear(ctx, cols, rows, NULL);
    assert_int_equal(fb_nn_init(m, "weight", init), FB_OK);
    return fb_nn_param(m, "weight");
}

static void constants_and_the_diagonal(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    const float one[6] = {1, 1, 1, 1, 1, 1}, eye[6] = {1, 0, 0, 0, 1, 0};
    assert_memory_equal(check_data(drawn(ctx, 2, 3, fb_init_ones())), one, sizeof one);
    assert_memory_equal(check_data(drawn(ctx, 2, 3, fb_init_eye())), eye, sizeof eye);
    check_close(ctx);
}

static void distributions_have_their_deviations(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    double relu = fb_init_gain(FB_GAIN_RELU, 0);
    const struct {
        fb_init init;
        double deviation, most; /* most: a bound, or 0 */
    } laws[] = {
        {fb_init_xavier_normal(2), 2 * sqrt(2. / 500), 0},
        {fb_init_kaiming_normal_of(FB_FAN_OUT, relu), sqrt(2. / 200), 0},
        {fb_init_kaiming_normal_of(FB_FAN_IN, 1), sqrt(1. / 300), 0},
        {fb_init_kaiming_uniform_of(FB_FAN_OUT, relu), sqrt(2. / 200), sqrt(6. / 200)},
        {fb_init_kaiming_uniform_of(FB_FAN_IN, relu), sqrt(2. / 300), sqrt(6. / 300)},
    };
    for (size_t i = 0; i < sizeof laws / sizeof laws[0]; i++) {
        FB_SCOPE(ctx);
        fb_tensor *w = drawn(ctx, 200, 300, laws[i].init);
        double got = fb_item(fb_std(w, FB_ALL, true, false)), want = laws[i].deviation;
        if (!(fabs(got - want) < 0.02 * want))
            fail_msg("law %zu has deviation %g, not %g", i, got, want);
        assert_true(fabs(fb_item(fb_mean(w, FB_ALL, false))) < 0.02 * want);
        double most = fb_item(fb_max(fb_abs(w)));
        if (laws[i].most > 0)
            assert_true(most <= laws[i].most && most > 0.99 * laws[i].most);
    }
    check_close(ctx);
}

static void gains_are_pytorchs(void **state)
{
    (void)state;
    assert_true(fb_init_gain(FB_GAIN_LINEAR, 0) == 1 && fb_init_gain(FB_GAIN_SIGMOID, 0) == 1);
    assert_true(fabs(fb_init_gain(FB_GAIN_TANH, 0) - 1.6666666666666667) < 1e-15);
    assert_true(fabs(fb_init_gain(FB_GAIN_RELU, 0) - 1.4142135623730951) < 1e-15);
    assert_true(fabs(fb_init_gain(FB_GAIN_LEAKY_RELU, 0.2) - 1.3867504905630728) < 1e-15);
    assert_true(fb_init_gain(FB_GAIN_SELU, 0) == 0.75);
}

/* Means of the normal distribution between bounds, near its middle and far from it. */
static void truncated_numbers_lie_within_their_bounds(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    const struct {
        double mean, std, lo, hi, want;
    } laws[] = {{1, 2, 0, 2, 1},
                {0, 1, -1, 3, 0.282786}, /* (f(-1) - f(3)) / (F(3) - F(-1)) */
                {0, 1, 6, 8, 6.158481},  /* scipy.stats.truncnorm(6, 8).mean() */
                {0, 1, -8, -6, -6.158481},
                {0, 0.5, -0.25, -0.25, -0.25}};
    for (size_t i = 0; i < sizeof laws / sizeof laws[0]; i++) {
        FB_SCOPE(ctx);
        fb_tensor *w =
            drawn(ctx, 100, 200,
                  fb_init_trunc_normal_within(laws[i].mean, laws[i].std, laws[i].lo, laws[i].hi));
        assert_true(fb_item(fb_max(w)) <= laws[i].hi && fb_item(fb_min(w)) >= laws[i].lo);
        double got = fb_item(fb_mean(w, FB_ALL, false));
        if (!(fabs(got - laws[i].want) < 0.02))
            fail_msg("law %zu has the mean %g, not %g", i, got, laws[i].want);
    }
    fb_module *m = fb_nn_linear(ctx, 3, 2, NULL);
    assert_int_equal(fb_nn_init(m, "weight", fb_init_trunc_normal_within(0, 1, 2, 1)), FB_OK);
    assert_int_equal(fb_nn_materialize(m), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "first values of weight: a normal distribution of std 1 in 2 .. 1");
    check_close(ctx);
}

static void orthogonal_rows_or_columns_are_orthonormal(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    const int64_t sizes[][2] = {{40, 90}, {90, 40}, {33, 33}, {1, 5}};
    for (int i = 0; i < 4; i++) {
        FB_SCOPE(ctx);
        fb_tensor *w = drawn(ctx, sizes[i][0], sizes[i][1], fb_init_orthogonal(3));
        bool wide = sizes[i][0] < sizes[i][1];
        fb_tensor *t = fb_transpose(w, 0, 1), *gram = wide ? fb_matmul(w, t) : fb_matmul(t, w);
        fb_tensor *want = fb_mul_scalar(fb_eye(ctx, FB_F32, fb_size(gram, 0), fb_size(gram, 0)), 9);
        assert_true(fb_item(fb_max(fb_abs(fb_sub(gram, want)))) < 1e-4);
    }
    check_close(ctx);
}

/* Images go through such a convolution as they are. */
static void dirac_copies_channels(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_conv2d(
        ctx, 4, 6, 3, FB_OPTS(fb_conv_options, .padding = {1}, .no_bias = true, .groups = 2));
    assert_int_equal(fb_nn_init(m, "weight", fb_init_dirac(2)), FB_OK);
    fb_tensor *x = fb_rand(ctx, FB_F32, FB_SHAPE(1, 4, 5, 6)), *y = fb_nn_forward(m, x);
    for (int i = 0; i < 6; i++) { /* of three channels of a group the third is 0 */
        fb_tensor *got = fb_select(y, 1, i), *from = fb_select(x, 1, i / 3 * 2 + (i % 3) % 2);
        double most = fb_item(i % 3 == 2 ? fb_max(fb_abs(got)) : fb_max(fb_abs(fb_sub(got, from))));
        assert_true(most == 0);
    }
    check_close(ctx);
}

static void sparse_columns_have_their_share_of_zeros(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_tensor *w = drawn(ctx, 21, 50, fb_init_sparse(0.3, 0.01));
    const float *v = check_data(w);
    int rows_hit = 0;
    for (int row = 0; row < 21; row++) {
        int zeros = 0;
        for (int col = 0; col < 50; col++)
            zeros += v[50 * row + col] == 0;
        rows_hit += zeros > 0;
    }
    for (int col = 0; col < 50; col++) {
        int zeros = 0;
        for (int row = 0; row < 21; row++)
            zeros += v[50 * row + col] == 0;
        assert_int_equal(zeros, 7); /* 6.3, rounded up */
    }
    assert_int_equal(rows_hit, 21);
    assert_true(fabs(fb_item(fb_std(w, FB_ALL, true, false)) - 0.01 * sqrt(2. / 3)) < 1e-3);
    check_close(ctx);
}

/* Neither threads nor the device change a bit; drawing anew gives the same again. */
static void values_depend_on_the_name_only(void **state)
{
    (void)state;
    const fb_init inits[] = {fb_init_orthogonal(1), fb_init_sparse(0.5, 1),
                             fb_init_trunc_normal_within(0, 1, 3, 4), fb_init_xavier_normal(1)};
    for (int i = 0; i < 4; i++) {
        fb_context *one = check_open(1), *three = check_open_device(3);
        const float *a = check_data(drawn(one, 150, 130, inits[i]));
        fb_module *m = fb_nn_linear(three, 130, 150, NULL);
        assert_int_equal(fb_nn_materialize(m), FB_OK);
        assert_int_equal(fb_nn_init(m, "weight", inits[i]), FB_OK);
        assert_memory_equal(a, check_data(fb_nn_param(m, "weight")), 150 * 130 * sizeof(float));
        check_close(one);
        check_close(three);
    }
}

static void bad_shapes_are_named(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    const struct {
        fb_init init;
        const char *glob;
        fb_status status;
        const char *text;
    } bad[] = {
        {fb_init_eye(), "bias", FB_E_SHAPE, "bias: fb_init_eye needs 2 dimensions, it is [6]"},
        {fb_init_dirac(1), "bias", FB_E_SHAPE, "fb_init_dirac needs 3 to 5 dimensions"},
        {fb_init_dirac(4), "weight", FB_E_ARG, "first values of weight: 4 groups of [6, 4, 3]"},
        {fb_init_orthogonal(1), "bias", FB_E_SHAPE,
         "fb_init_orthogonal needs 2 dimensions or more"},
        {fb_init_sparse(0.1, 1), "weight", FB_E_SHAPE, "fb_init_sparse needs 2 dimensions"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        fb_module *m = fb_nn_conv1d(ctx, 4, 6, 3, NULL);
        assert_int_equal(fb_nn_materialize(m), FB_OK);
        assert_int_equal(fb_nn_init(m, bad[i].glob, bad[i].init), bad[i].status);
        check_error(ctx, bad[i].status, bad[i].text);
        fb_nn_close(m);
    }
    fb_module *m = fb_nn_linear(ctx, 3, 2, NULL);
    assert_int_equal(fb_nn_materialize(m), FB_OK);
    assert_int_equal(fb_nn_init(m, "weight", fb_init_sparse(1.5, 1)), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "first values of weight: sparsity is 1.5, not within 0 .. 1");
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constants_and_the_diagonal),
        cmocka_unit_test(distributions_have_their_deviations),
        cmocka_unit_test(gains_are_pytorchs),
        cmocka_unit_test(truncated_numbers_lie_within_their_bounds),
        cmocka_unit_test(orthogonal_rows_or_columns_are_orthonormal),
        cmocka_unit_test(dirac_copies_channels),
        cmocka_unit_test(sparse_columns_have_their_share_of_zeros),
        cmocka_unit_test(values_depend_on_the_name_only),
        cmocka_unit_test(bad_shapes_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
