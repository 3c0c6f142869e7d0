/* What the profiler says that calls cost: floating-point operations, and bytes. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/attention.h>
#include <flambeau/core/ops/conv.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/profile.h>
#include <flambeau/core/ops/reduce.h>

static int open_context(void **state)
{
    *state = check_open_device(1);
    return 0;
}

static int close_context(void **state)
{
    return fb_context_close(*state) == FB_OK ? 0 : -1;
}

static fb_profile *profile_of(fb_context *ctx)
{
    fb_profile *p = fb_profile_open(ctx, NULL);
    assert_non_null(p);
    return p;
}

static const fb_profile_row *row_of(fb_profile *p, fb_profile_kind kind, const char *name)
{
    const fb_profile_row *rows;
    int64_t n = fb_profile_rows(p, &rows);
    for (int64_t i = 0; i < n; i++)
        if (rows[i].kind == kind && !strcmp(rows[i].name, name))
            return &rows[i];
    fail_msg("no row %s", name);
    return NULL;
}

static double flops_of(fb_profile *p)
{
    fb_profile_totals t;
    assert_int_equal(fb_profile_totals_of(p, &t), FB_OK);
    return t.flops;
}

static fb_tensor *leaf(fb_context *ctx, fb_shape shape)
{
    return fb_requires_grad(fb_randn(ctx, FB_F32, shape), true);
}

/* Forward once, backward `ways` times as much (the gradients of two operands, mostly). */
static void costs(fb_context *ctx, fb_tensor *(*y)(fb_context *ctx), double flops, double ways)
{
    FB_SCOPE(ctx);
    fb_profile *p = profile_of(ctx);
    fb_tensor *sum = fb_sum(y(ctx), FB_ALL, false);
    assert_float_equal(flops_of(p), flops, 0);
    fb_backward(sum);
    assert_float_equal(row_of(p, FB_PROFILE_BACKWARD, "backward")->flops, flops * ways, 0);
    assert_float_equal(flops_of(p), flops * (1 + ways), 0);
    fb_profile_close(p);
    check_ok(ctx);
}

static fb_tensor *product(fb_context *ctx)
{
    return fb_matmul(leaf(ctx, FB_SHAPE(3, 16, 40)), leaf(ctx, FB_SHAPE(3, 40, 24)));
}

static fb_tensor *layer(fb_context *ctx)
{
    return fb_linear(leaf(ctx, FB_SHAPE(2, 8, 40)), leaf(ctx, FB_SHAPE(24, 40)),
                     leaf(ctx, FB_SHAPE(24)));
}

static fb_tensor *image(fb_context *ctx)
{
    return fb_conv2d(leaf(ctx, FB_SHAPE(2, 6, 9, 10)), leaf(ctx, FB_SHAPE(8, 3, 3, 3)), NULL,
                     FB_OPTS(fb_conv_options, .stride = {2}, .padding = {1}, .groups = 2));
}

static fb_tensor *volume(fb_context *ctx)
{
    return fb_conv_transpose2d(leaf(ctx, FB_SHAPE(2, 6, 5, 7)), leaf(ctx, FB_SHAPE(6, 4, 3, 2)),
                               NULL, NULL);
}

static fb_tensor *attention(fb_context *ctx)
{
    return fb_scaled_dot_product_attention(leaf(ctx, FB_SHAPE(2, 3, 12, 16)),
                                           leaf(ctx, FB_SHAPE(2, 3, 20, 16)),
                                           leaf(ctx, FB_SHAPE(2, 3, 20, 8)), NULL);
}

static void products_cost_what_their_formulas_say(void **state)
{
    costs(*state, product, 2.0 * 3 * 16 * 40 * 24, 2);
    costs(*state, layer, 2.0 * 2 * 8 * 40 * 24, 2);
    costs(*state, image, 2.0 * (2 * 8 * 5 * 5) * (3 * 3 * 3), 2);
    costs(*state, volume, 2.0 * (2 * 6 * 5 * 7) * (4 * 3 * 2), 2);
}

static void attention_costs_two_products_and_five_on_the_way_back(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    double rows = 2 * 3 * 12, scores = 2 * rows * 20 * 16, values = 2 * rows * 20 * 8;
    fb_profile *p = profile_of(ctx);
    fb_tensor *sum = fb_sum(attention(ctx), FB_ALL, false);
    assert_float_equal(flops_of(p), scores + values, 0);
    fb_backward(sum);
    assert_float_equal(row_of(p, FB_PROFILE_BACKWARD, "backward")->flops, 3 * scores + 2 * values,
                       0);
    fb_profile_close(p);
}

static void bytes_are_those_of_operands_and_result(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *a = fb_randn(ctx, FB_F32, FB_SHAPE(64, 32)),
              *row = fb_randn(ctx, FB_F32, FB_SHAPE(32));
    fb_profile *p = profile_of(ctx);
    (void)!fb_add(a, row);
    assert_float_equal(row_of(p, FB_PROFILE_FORWARD, "add")->bytes, 4 * (2 * 64 * 32 + 32), 0);
    fb_profile_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_cost_what_their_formulas_say),
        cmocka_unit_test(attention_costs_two_products_and_five_on_the_way_back),
        cmocka_unit_test(bytes_are_those_of_operands_and_result),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
