/* What the plans of matrix products depend on, on the simulated card, which rounds to TF32 as a
 * card does. Values of products: tests/core/ops. */
#include <math.h>
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

/* A step of two layers with a GELU between them, in this dtype; [loss, gradients of the first
 * bias]. */
static void step(fb_dtype dtype, double out[9])
{
    fb_context *ctx = open_with(NULL);
    fb_tensor *x = fb_to(fb_rand(ctx, FB_F32, FB_SHAPE(5, 16)), dtype), *y = NULL;
    fb_tensor *w1 = fb_requires_grad(fb_to(fb_rand(ctx, FB_F32, FB_SHAPE(8, 16)), dtype), true);
    fb_tensor *b1 = fb_requires_grad(fb_to(fb_rand(ctx, FB_F32, FB_SHAPE(8)), dtype), true);
    fb_tensor *w2 = fb_requires_grad(fb_to(fb_rand(ctx, FB_F32, FB_SHAPE(8, 8)), dtype), true);
    {
        FB_SCOPE(ctx);
        y = fb_keep(fb_linear(fb_linear_act(x, w1, b1, FB_ACT_GELU_TANH), w2, NULL));
    }
    fb_tensor *loss = fb_mean(y, FB_ALL, false);
    out[0] = fb_item(loss);
    assert_int_equal(fb_backward(loss), FB_OK);
    fb_tensor *g = fb_to(fb_grad_of(b1), FB_F64);
    assert_int_equal(fb_read(g, out + 1, 8 * sizeof *out), FB_OK);
    check_close(ctx);
}

static void without_epilogues_the_results_are_the_same(void **state)
{
    (void)state;
    const struct {
        fb_dtype dtype;
        double error;
    } all[] = {{FB_F32, 1e-6}, {FB_BF16, 0x1p-8}, {FB_F16, 0x1p-11}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        double with[9], without[9];
        step(all[i].dtype, with);
        setenv("CUDASIM_LT_EPILOGUES", "0", 1);
        step(all[i].dtype, without);
        unsetenv("CUDASIM_LT_EPILOGUES");
        for (int k = 0; k < 9; k++)
            if (!(fabs(with[k] - without[k]) <= 2 * all[i].error * fabs(with[k])))
                fail_msg("dtype %d, value %d: %.9g with, %.9g without", (int)all[i].dtype, k,
                         with[k], without[k]);
    }
}

/* Gradients of 2^24, 0 .., 1, 1 in 66 rows. cuBLASLt's sum goes from row to row and loses the ones;
 * ours adds blocks of 64 rows. So the bias's gradient says who made it. */
static double bias_gradient(fb_context *ctx, fb_dtype dtype, int passes)
{
    enum { ROWS = 66, OUT = 3 };
    FB_SCOPE(ctx);
    float g[ROWS * OUT] = {0};
    double db[OUT];
    for (int j = 0; j < OUT; j++) {
        g[j] = 16777216;
        g[64 * OUT + j] = g[65 * OUT + j] = 1;
    }
    fb_tensor *seed = fb_to(fb_from(ctx, FB_F32, FB_SHAPE(ROWS, OUT), g), dtype);
    fb_tensor *x = fb_full(ctx, dtype, FB_SHAPE(ROWS, 4), 0.5);
    fb_tensor *w = fb_requires_grad(fb_ones(ctx, dtype, FB_SHAPE(OUT, 4)), true);
    fb_tensor *b = fb_requires_grad(fb_zeros(ctx, dtype, FB_SHAPE(OUT)), true);
    for (int i = 0; i < passes; i++)
        assert_int_equal(fb_backward(fb_sum(fb_mul(fb_linear(x, w, b), seed), FB_ALL, false)),
                         FB_OK);
    assert_int_equal(fb_read(fb_to(fb_grad_of(b), FB_F64), db, sizeof db), FB_OK);
    assert_true(db[0] == db[1] && db[0] == db[2]);
    double dw = fb_item(fb_amax(fb_to(fb_grad_of(w), FB_F64), FB_ALL, false));
    assert_true(fabs(dw - passes * 8388608) <= 2);
    check_ok(ctx);
    return db[0];
}

static void the_product_of_a_weights_gradient_makes_the_biass(void **state)
{
    (void)state;
    fb_context *ctx = open_with(NULL);
    assert_true(bias_gradient(ctx, FB_F32, 1) == 16777216);
    assert_true(bias_gradient(ctx, FB_F32, 2) == 2 * 16777216);
    assert_true(bias_gradient(ctx, FB_BF16, 1) == 16777216);
    assert_true(bias_gradient(ctx, FB_F64, 1) == 16777218); /* has no epilogue */
    check_close(ctx);
    setenv("CUDASIM_LT_EPILOGUES", "0", 1);
    ctx = open_with(NULL);
    assert_true(bias_gradient(ctx, FB_F32, 1) == 16777218);
    assert_true(bias_gradient(ctx, FB_F32, 2) == 2 * 16777218);
    assert_true(bias_gradient(ctx, FB_BF16, 2) == 2 * 16777216);
    check_close(ctx);
    unsetenv("CUDASIM_LT_EPILOGUES");
}

/* The simulated library would add in two halves and round each: 257 to 256. */
static void partial_sums_of_halves_stay_f32(void **state)
{
    (void)state;
    fb_context *ctx = open_with(NULL);
    fb_tensor *row = fb_from(ctx, FB_F32, FB_SHAPE(1, 4), ((float[]){256, 1, -256, 0}));
    fb_tensor *big = fb_from(ctx, FB_F32, FB_SHAPE(1, 4), ((float[]){2048, 1, -2048, 0}));
    fb_tensor *ones = fb_ones(ctx, FB_F32, FB_SHAPE(4, 1));
    assert_true(fb_item(fb_matmul(fb_to(row, FB_BF16), fb_to(ones, FB_BF16))) == 1);
    assert_true(fb_item(fb_matmul(fb_to(big, FB_F16), fb_to(ones, FB_F16))) == 1);
    check_close(ctx);
}

/* The simulated algorithms add 1, 1e8, -1e8 and 2 in other orders: 2, 1 and 0. */
static double product_of_rows(fb_context *ctx)
{
    FB_SCOPE(ctx);
    fb_tensor *row = fb_from(ctx, FB_F32, FB_SHAPE(1, 4), ((float[]){1, 1e8f, -1e8f, 2}));
    double v = fb_item(fb_matmul(row, fb_ones(ctx, FB_F32, FB_SHAPE(4, 1))));
    check_ok(ctx);
    return v;
}

static void a_context_that_tunes_keeps_the_fastest_algorithm(void **state)
{
    (void)state;
    static const char *const fastest[] = {"0", "1", "2"};
    for (int i = 0; i < 3; i++) {
        setenv("CUDASIM_LT_FASTEST", fastest[i], 1);
        fb_context *plain = open_with(NULL);
        fb_context *tunes = open_with(FB_OPTS(fb_context_options, .tune = true));
        assert_true(product_of_rows(plain) == 2);
        assert_true(product_of_rows(tunes) == 2 - i);
        setenv("CUDASIM_LT_FASTEST", "0", 1); /* what was chosen stays */
        assert_true(product_of_rows(tunes) == 2 - i);
        check_close(tunes);
        check_close(plain);
    }
    setenv("CUDASIM_LT_FASTEST", "1", 1);
    setenv("FLAMBEAU_TUNE", "1", 1);
    fb_context *ctx = open_with(NULL);
    unsetenv("FLAMBEAU_TUNE");
    assert_true(product_of_rows(ctx) == 1);
    check_close(ctx);
    unsetenv("CUDASIM_LT_FASTEST");
}

static void workspaces_are_given_back(void **state)
{
    (void)state;
    fb_context *ctx = open_with(NULL);
    fb_memory_stats first, later;
    for (int i = 0; i < 3; i++) {
        product_of_rows(ctx);
        assert_int_equal(fb_memory_stats_of(ctx, i ? &later : &first), FB_OK);
    }
    assert_true(later.in_use == first.in_use);
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_exact_until_tf32_is_allowed),
        cmocka_unit_test(sums_stay_f32_with_tf32),
        cmocka_unit_test(gradients_of_linear_follow_the_switch),
        cmocka_unit_test(the_switch_can_come_from_the_environment),
        cmocka_unit_test(the_cpu_never_rounds),
        cmocka_unit_test(without_epilogues_the_results_are_the_same),
        cmocka_unit_test(the_product_of_a_weights_gradient_makes_the_biass),
        cmocka_unit_test(partial_sums_of_halves_stay_f32),
        cmocka_unit_test(a_context_that_tunes_keeps_the_fastest_algorithm),
        cmocka_unit_test(workspaces_are_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
