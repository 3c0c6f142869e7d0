/* Running results against loops in double, over lines of one tile and of several. */
#include "tests/core/ops/ops_test_priv.h"

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/scan.h>
#include <flambeau/core/ops/view.h>

enum { LONGEST = 5000 };
static float x[2 * LONGEST], got[2 * LONGEST];
static int64_t at[2 * LONGEST];

typedef double (*step)(double before, double v, int64_t k);

static double add(double before, double v, int64_t k)
{
    return k ? before + v : v;
}
static double multiply(double before, double v, int64_t k)
{
    return k ? before * v : v;
}
static double add_logs(double before, double v, int64_t k)
{
    return k ? log(exp(before) + exp(v)) : v;
}

static void running(fb_context *ctx, fb_tensor *(*f)(fb_tensor *, int), step of, int64_t n,
                    float lo, float hi)
{
    FB_SCOPE(ctx);
    fill(x, 2 * n, lo, hi);
    fb_tensor *y = f(fb_from(ctx, FB_F32, FB_SHAPE(2, n), x), 1);
    assert_non_null(y);
    assert_int_equal(fb_read(y, got, (size_t)(2 * n) * sizeof *got), FB_OK);
    for (int64_t i = 0; i < 2 * n; i++) {
        static double want;
        want = of(want, (double)x[i], i % n);
        if (!(fabs((double)got[i] - want) <= 1e-5 * (1 + fabs(want))))
            fail_msg("element %lld of lines of %lld: %.9g, not %.9g", (long long)i, (long long)n,
                     (double)got[i], want);
    }
}

static void running_results_are_those_of_a_loop(void **state)
{
    static const int64_t lengths[] = {1, 7, 64, 65, 2048, 2049, LONGEST};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        running(*state, fb_cumsum, add, lengths[i], -1, 1);
        running(*state, fb_cumprod, multiply, lengths[i], 0.99f, 1.01f);
        running(*state, fb_logcumsumexp, add_logs, lengths[i], -4, 4);
    }
}

static void a_running_sum_along_the_first_dimension_takes_columns(void **state)
{
    fb_context *ctx = *state;
    double want[6] = {1, 2, 3, 5, 7, 9};
    float v[6] = {1, 2, 3, 4, 5, 6};
    expect_values(fb_cumsum(fb_from(ctx, FB_F32, FB_SHAPE(2, 3), v), 0), want, 6, 1e-6);
    double across[6] = {1, 5, 2, 7, 3, 9};
    fb_tensor *t = fb_transpose(fb_from(ctx, FB_F32, FB_SHAPE(2, 3), v), 0, 1);
    expect_values(fb_cumsum(t, -1), across, 6, 1e-6);
}

static void integers_and_bool_are_summed_in_i64(void **state)
{
    fb_context *ctx = *state;
    uint8_t b[4] = {1, 0, 1, 1};
    int32_t v[3] = {2, -3, 4};
    int64_t sums[4] = {1, 1, 2, 3}, products[3] = {2, -6, -24};
    expect_ints(fb_cumsum(fb_from(ctx, FB_BOOL, FB_SHAPE(4), b), 0), FB_I64, sums, sizeof sums);
    expect_ints(fb_cumprod(fb_from(ctx, FB_I32, FB_SHAPE(3), v), 0), FB_I64, products,
                sizeof products);
}

/* Of equal values the last index; NaN stays. */
static void running_extremes_give_the_last_index_and_keep_nan(void **state)
{
    fb_context *ctx = *state;
    float v[6] = {2, 1, 2, NAN, 9, NAN};
    int64_t largest[6] = {0, 0, 2, 3, 3, 5}, smallest[6] = {0, 1, 1, 3, 3, 5};
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(6), v), *values, *indices;
    assert_int_equal(fb_cummax(t, 0, &values, &indices), FB_OK);
    expect_ints(indices, FB_I64, largest, sizeof largest);
    assert_int_equal(fb_read(values, got, 6 * sizeof *got), FB_OK);
    assert_true(got[2] == 2 && isnan(got[4]));
    assert_int_equal(fb_cummin(t, 0, NULL, &indices), FB_OK);
    expect_ints(indices, FB_I64, smallest, sizeof smallest);
}

static void running_extremes_of_long_lines_are_those_of_a_loop(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *values, *indices;
    fill(x, 2 * LONGEST, -1, 1);
    for (int i = 0; i < 2 * LONGEST; i++)
        x[i] = floorf(20 * x[i]); /* with many equal ones */
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(2, LONGEST), x);
    assert_int_equal(fb_cummin(t, 1, &values, &indices), FB_OK);
    assert_int_equal(fb_read(values, got, sizeof got), FB_OK);
    assert_int_equal(fb_read(indices, at, sizeof at), FB_OK);
    for (int i = 0, where = 0; i < 2 * LONGEST; i++) {
        int k = i % LONGEST, line = i - k;
        where = k == 0 || x[i] <= x[line + where] ? k : where;
        assert_int_equal(at[i], where);
        assert_true(got[i] == x[line + where]);
    }
}

static void the_gradient_of_a_running_product_is_right_at_zeros(void **state)
{
    fb_context *ctx = *state;
    float v[4] = {2, 0, 3, 0};
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(4), v);
    fb_requires_grad(t, true);
    fb_tensor *y = fb_cumprod(t, 0), *one = fb_ones(ctx, FB_F32, FB_SHAPE(4)), *g = NULL;
    fb_gradient_options o = {.seeds = {&one, 1}};
    assert_int_equal(fb_gradients((fb_tensors){&y, 1}, (fb_tensors){&t, 1}, &o, &g), FB_OK);
    double want[4] = {1, 2 + 2 * 3, 0, 0}; /* y = a, ab, abc, abcd */
    expect_values(g, want, 4, 1e-6);
}

static void differences_lose_an_element_each_time(void **state)
{
    fb_context *ctx = *state;
    float v[4] = {1, 4, 9, 16};
    double once[3] = {3, 5, 7}, twice[2] = {2, 2};
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(4), v);
    expect_values(fb_diff(t, 1, 0), once, 3, 1e-6);
    expect_values(fb_diff(t, 2, -1), twice, 2, 1e-6);
    assert_int_equal(fb_numel(fb_diff(t, 9, 0)), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        TEST(running_results_are_those_of_a_loop),
        TEST(a_running_sum_along_the_first_dimension_takes_columns),
        TEST(integers_and_bool_are_summed_in_i64),
        TEST(running_extremes_give_the_last_index_and_keep_nan),
        TEST(running_extremes_of_long_lines_are_those_of_a_loop),
        TEST(the_gradient_of_a_running_product_is_right_at_zeros),
        TEST(differences_lose_an_element_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
