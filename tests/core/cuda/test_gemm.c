/* What the plans of matrix products depend on, on the simulated card, which rounds to TF32 as a
 * card does. Values of products: tests/core/ops. */
#include <stdlib.h>

#include <flambeau/flambeau.h>

#include "tests/check.h"

/* Needs 12 bits of mantissa: 1 in TF32. */
#define FINE (1 + 0x1p-12)

static fb_context *open_with(const fb_context_options *o)
{
    fb_context_options options = o ? *o : (fb_context_options){0};
    options.device = getenv("FLAMBEAU_DEVICE");
    fb_context *ctx = fb_context_open(&options);
    assert_non_null(ctx);
    return ctx;
}

static double product(fb_context *ctx, fb_dtype dtype, double a, double b)
{
    FB_SCOPE(ctx);
    double v = fb_item(
        fb_matmul(fb_full(ctx, dtype, FB_SHAPE(1, 1), a), fb_full(ctx, dtype, FB_SHAPE(1, 1), b)));
    check_ok(ctx);
    return v;
}

static void products_are_exact_until_tf32_is_allowed(void **state)
{
    (void)state;
    fb_context *ctx = open_with(NULL);
    assert_false(fb_context_allows_tf32(ctx));
    assert_true(product(ctx, FB_F32, FINE, 1) == FINE);
    assert_int_equal(fb_context_allow_tf32(ctx, true), FB_OK);
    assert_true(fb_context_allows_tf32(ctx));
    assert_true(product(ctx, FB_F32, FINE, 1) == 1);
    assert_true(product(ctx, FB_F32, 1, FINE) == 1);
    assert_true(product(ctx, FB_F32, 1 + 0x1p-10, 1) == 1 + 0x1p-10);
    assert_true(product(ctx, FB_F64, FINE, 1) == FINE);
    assert_int_equal(fb_context_allow_tf32(ctx, false), FB_OK);
    assert_true(product(ctx, FB_F32, FINE, 1) == FINE);
    check_close(ctx);
}

static void sums_stay_f32_with_tf32(void **state)
{
    (void)state;
    fb_context *ctx = open_with(FB_OPTS(fb_context_options, .allow_tf32 = true));
    fb_tensor *ones = fb_ones(ctx, FB_F32, FB_SHAPE(1, 4097));
    assert_true(fb_item(fb_matmul(ones, fb_transpose(ones, 0, 1))) == 4097);
    check_close(ctx);
}

static void gradients_of_linear_follow_the_switch(void **state)
{
    (void)state;
    fb_context *ctx = open_with(FB_OPTS(fb_context_options, .allow_tf32 = true));
    fb_tensor *x = fb_full(ctx, FB_F32, FB_SHAPE(1, 1), FINE);
    fb_tensor *w = fb_requires_grad(fb_full(ctx, FB_F32, FB_SHAPE(1, 1), 1), true);
    assert_int_equal(fb_backward(fb_sum(fb_linear(x, w, NULL), FB_ALL, false)), FB_OK);
    assert_true(fb_item(fb_grad_of(w)) == 1);
    check_close(ctx);
}

static void the_switch_can_come_from_the_environment(void **state)
{
    (void)state;
    setenv("FLAMBEAU_TF32", "1", 1);
    fb_context *ctx = open_with(NULL);
    unsetenv("FLAMBEAU_TF32");
    assert_true(fb_context_allows_tf32(ctx));
    assert_true(product(ctx, FB_F32, FINE, 1) == 1);
    check_close(ctx);
}

static void the_cpu_never_rounds(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    assert_int_equal(fb_context_allow_tf32(ctx, true), FB_OK);
    assert_true(product(ctx, FB_F32, FINE, 1) == FINE);
    check_close(ctx);
    assert_int_equal(fb_context_allow_tf32(NULL, true), FB_E_ARG);
    assert_false(fb_context_allows_tf32(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_exact_until_tf32_is_allowed),
        cmocka_unit_test(sums_stay_f32_with_tf32),
        cmocka_unit_test(gradients_of_linear_follow_the_switch),
        cmocka_unit_test(the_switch_can_come_from_the_environment),
        cmocka_unit_test(the_cpu_never_rounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
