/* Layers of lines, images and volumes: shapes, first values, padding that is not zeros. */
#include "tests/core/ops/ops_test_priv.h"

#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/pool.h>
#include <flambeau/core/ops/reduce.h>

static void expect_shape(fb_tensor *t, fb_shape want)
{
    char got[80], text[80];
    assert_non_null(t);
    if (!fb_shape_equal(fb_shape_of(t), want))
        fail_msg("%s, not %s", fb_shape_text(fb_shape_of(t), got, sizeof got),
                 fb_shape_text(want, text, sizeof text));
}

static void convolutions_have_pytorchs_weights_and_first_values(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    const struct {
        fb_module *m;
        fb_shape x, weight, y;
        double fan_in;
    } layers[] = {
        {fb_nn_conv1d(ctx, 4, 6, 3, FB_OPTS(fb_conv_options, .groups = 2)), FB_SHAPE(2, 4, 9),
         FB_SHAPE(6, 2, 3), FB_SHAPE(2, 6, 7), 6},
        {fb_nn_conv3d(ctx, 2, 5, 2, NULL), FB_SHAPE(2, 2, 4, 5, 6), FB_SHAPE(5, 2, 2, 2, 2),
         FB_SHAPE(2, 5, 3, 4, 5), 16},
        {fb_nn_conv_transpose1d(ctx, 4, 6, 3,
                                FB_OPTS(fb_conv_options, .stride = {2}, .output_padding = {1})),
         FB_SHAPE(2, 4, 5), FB_SHAPE(4, 6, 3), FB_SHAPE(2, 6, 12), 18},
        {fb_nn_conv_transpose2d(ctx, 4, 6, 2, FB_OPTS(fb_conv_options, .groups = 2)),
         FB_SHAPE(2, 4, 5, 3), FB_SHAPE(4, 3, 2, 2), FB_SHAPE(2, 6, 6, 4), 12},
        {fb_nn_conv_transpose3d(ctx, 2, 3, 2, NULL), FB_SHAPE(1, 2, 2, 3, 4),
         FB_SHAPE(2, 3, 2, 2, 2), FB_SHAPE(1, 3, 3, 4, 5), 24},
    };
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        expect_shape(fb_nn_forward(layers[i].m, fb_ones(ctx, FB_F32, layers[i].x)), layers[i].y);
        fb_tensor *w = fb_nn_param(layers[i].m, "weight"), *b = fb_nn_param(layers[i].m, "bias");
        expect_shape(w, layers[i].weight);
        double bound = 1 / sqrt(layers[i].fan_in),
               most = fb_item(fb_amax(fb_abs(w), FB_ALL, false));
        assert_true(most <= bound && most > 0.6 * bound);
        assert_true(fb_item(fb_amax(fb_abs(b), FB_ALL, false)) <= bound);
    }
    assert_null(fb_nn_conv_transpose3d(ctx, 4, 6, 3, FB_OPTS(fb_conv_options, .groups = 4)));
    expect_error(ctx, FB_E_ARG, "fb_nn_conv_transpose3d: 4 to 6 channels, kernel 3, 4 groups");
}

static void padding_may_be_reflected(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *m = fb_nn_conv2d(
        ctx, 1, 1, 3, FB_OPTS(fb_conv_options, .padding = {1, 2}, .padding_mode = FB_PAD_REFLECT));
    fb_tensor *x = fb_rand(ctx, FB_F32, FB_SHAPE(1, 1, 4, 5)), *y = fb_nn_forward(m, x);
    fb_tensor *wide = fb_pad(x, FB_SHAPE(2, 2, 1, 1), FB_PAD_REFLECT, 0);
    fb_tensor *want = fb_conv2d(wide, fb_nn_param(m, "weight"), fb_nn_param(m, "bias"), NULL);
    expect_shape(y, FB_SHAPE(1, 1, 4, 7));
    assert_true(fb_item(fb_amax(fb_abs(fb_sub(y, want)), FB_ALL, false)) < 1e-6);
    m = fb_nn_conv1d(ctx, 1, 1, 4,
                     FB_OPTS(fb_conv_options, .same = true, .padding_mode = FB_PAD_CIRCULAR));
    expect_shape(fb_nn_forward(m, fb_ones(ctx, FB_F32, FB_SHAPE(1, 1, 6))), FB_SHAPE(1, 1, 6));
}

static void pools_and_samplers_give_their_sizes(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *l = fb_ones(ctx, FB_F32, FB_SHAPE(1, 4, 8)),
              *i = fb_ones(ctx, FB_F32, FB_SHAPE(1, 4, 8, 6));
    fb_tensor *v = fb_ones(ctx, FB_F32, FB_SHAPE(1, 4, 8, 6, 4));
    const struct {
        fb_module *m;
        fb_tensor *x;
        fb_shape y;
        double value;
    } layers[] = {
        {fb_nn_max_pool1d(ctx, 2, NULL), l, FB_SHAPE(1, 4, 4), 1},
        {fb_nn_max_pool3d(ctx, 2, NULL), v, FB_SHAPE(1, 4, 4, 3, 2), 1},
        {fb_nn_avg_pool1d(ctx, 4, NULL), l, FB_SHAPE(1, 4, 2), 1},
        {fb_nn_avg_pool2d(ctx, 3, FB_OPTS(fb_conv_options, .ceil_mode = true)), i,
         FB_SHAPE(1, 4, 3, 2), 1},
        {fb_nn_avg_pool3d(ctx, 2, FB_OPTS(fb_conv_options, .divisor = 4)), v,
         FB_SHAPE(1, 4, 4, 3, 2), 2},
        {fb_nn_lp_pool1d(ctx, 2, 4, NULL), l, FB_SHAPE(1, 4, 2), 2},
        {fb_nn_lp_pool2d(ctx, 1, 2, NULL), i, FB_SHAPE(1, 4, 4, 3), 4},
        {fb_nn_adaptive_avg_pool1d(ctx, 3), l, FB_SHAPE(1, 4, 3), 1},
        {fb_nn_adaptive_avg_pool3d(ctx, 3, 2, 1), v, FB_SHAPE(1, 4, 3, 2, 1), 1},
        {fb_nn_adaptive_max_pool1d(ctx, 5), l, FB_SHAPE(1, 4, 5), 1},
        {fb_nn_adaptive_max_pool2d(ctx, 5, 1), i, FB_SHAPE(1, 4, 5, 1), 1},
        {fb_nn_adaptive_max_pool3d(ctx, 1, 2, 3), v, FB_SHAPE(1, 4, 1, 2, 3), 1},
        {fb_nn_pixel_shuffle(ctx, 2), i, FB_SHAPE(1, 1, 16, 12), 1},
        {fb_nn_pixel_unshuffle(ctx, 2), i, FB_SHAPE(1, 16, 4, 3), 1},
        {fb_nn_upsample(ctx, FB_SHAPE(5, 9), NULL), i, FB_SHAPE(1, 4, 5, 9), 1},
        {fb_nn_upsample(ctx, FB_ALL,
                        FB_OPTS(fb_interpolate_options, .mode = FB_LINEAR, .scale = {2})),
         v, FB_SHAPE(1, 4, 16, 12, 8), 1},
    };
    for (size_t k = 0; k < sizeof layers / sizeof layers[0]; k++) {
        fb_tensor *y = fb_nn_forward(layers[k].m, layers[k].x);
        expect_shape(y, layers[k].y);
        assert_true(fabs(fb_item(fb_mean(y, FB_ALL, false)) - layers[k].value) < 1e-5);
    }
    assert_null(fb_nn_max_pool3d(ctx, 0, NULL));
    expect_error(ctx, FB_E_ARG, "MaxPool3d: 0 x 0 x 0: must be positive");
    assert_null(fb_nn_upsample(ctx, FB_ALL, NULL));
    expect_error(ctx, FB_E_ARG, "Upsample: neither a size nor a positive scale");
}

static void layers_that_move_elements_give_their_sizes(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *l = fb_ones(ctx, FB_F32, FB_SHAPE(1, 4, 8)),
              *i = fb_ones(ctx, FB_F32, FB_SHAPE(2, 4, 8, 6)),
              *v = fb_ones(ctx, FB_F32, FB_SHAPE(1, 4, 8, 6, 4));
    const struct {
        fb_module *m;
        fb_tensor *x;
        fb_shape y;
        double value;
    } layers[] = {
        {fb_nn_identity(ctx), l, FB_SHAPE(1, 4, 8), 1},
        {fb_nn_flatten_dims(ctx, 0, 1), i, FB_SHAPE(8, 8, 6), 1},
        {fb_nn_unflatten(ctx, 1, FB_SHAPE(2, -1)), i, FB_SHAPE(2, 2, 2, 8, 6), 1},
        {fb_nn_pad(ctx, FB_SHAPE(1, 2, 0, 3), FB_PAD_CONSTANT, 1), i, FB_SHAPE(2, 4, 11, 9), 1},
        {fb_nn_pad(ctx, FB_SHAPE(3, 2), FB_PAD_REFLECT, 0), l, FB_SHAPE(1, 4, 13), 1},
        {fb_nn_channel_shuffle(ctx, 2), i, FB_SHAPE(2, 4, 8, 6), 1},
        {fb_nn_unfold(ctx, 2, 3, NULL), i, FB_SHAPE(2, 24, 28), 1},
        {fb_nn_fold(ctx, 4, 2, 2, 2, FB_OPTS(fb_conv_options, .stride = {2})),
         fb_ones(ctx, FB_F32, FB_SHAPE(1, 12, 2)), FB_SHAPE(1, 3, 4, 2), 1},
        {fb_nn_lp_pool3d(ctx, 1, 2, NULL), v, FB_SHAPE(1, 4, 4, 3, 2), 8},
        {fb_nn_fractional_max_pool(ctx, FB_SHAPE(2, 2), FB_SHAPE(5, 3), 0), i, FB_SHAPE(2, 4, 5, 3),
         1},
        {fb_nn_fractional_max_pool(ctx, FB_SHAPE(2, 2, 1), FB_ALL, 0.5), v, FB_SHAPE(1, 4, 4, 3, 2),
         1},
    };
    for (size_t k = 0; k < sizeof layers / sizeof layers[0]; k++) {
        fb_tensor *y = fb_nn_forward(layers[k].m, layers[k].x);
        expect_shape(y, layers[k].y);
        assert_true(fabs(fb_item(fb_mean(y, FB_ALL, false)) - layers[k].value) < 1e-5);
    }
    assert_null(fb_nn_fractional_max_pool(ctx, FB_SHAPE(2), FB_SHAPE(5), 0));
    expect_error(ctx, FB_E_ARG, "FractionalMaxPool: kernel [2] must have 2 or 3 sizes");
    assert_null(fb_nn_fractional_max_pool(ctx, FB_SHAPE(2, 2), FB_SHAPE(5), 0));
    expect_error(ctx, FB_E_ARG, "FractionalMaxPool: output [5] for the kernel [2, 2]");
    assert_null(fb_nn_fractional_max_pool(ctx, FB_SHAPE(2, 2), FB_ALL, 1));
    expect_error(ctx, FB_E_ARG, "neither an output nor a ratio between 0 and 1");
}

static void a_max_unpool_puts_values_back_in_their_places(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *pool = fb_nn_max_pool2d(ctx, 2, NULL), *back = fb_nn_max_unpool2d(ctx, 2, NULL);
    const float x[16] = {1, 2, 5, 0, 0, 0, 3, 4, 9, 1, 0, 0, 2, 2, 7, 8};
    fb_tensor *values = NULL, *at = NULL, *y = NULL;
    fb_tensor *image = fb_from(ctx, FB_F32, FB_SHAPE(1, 1, 4, 4), x);
    assert_int_equal(fb_nn_forward_n(pool, FB_TENSORS(image), FB_OUTS(&values, &at)), FB_OK);
    expect_values(values, (double[]){2, 5, 9, 8}, 4, 0);
    expect_values(fb_nn_forward(pool, image), (double[]){2, 5, 9, 8}, 4, 0);
    assert_int_equal(fb_nn_forward_n(back, FB_TENSORS(values, at), FB_OUTS(&y)), FB_OK);
    expect_values(y, (double[]){0, 2, 5, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 8}, 16, 0);
    assert_int_equal(fb_nn_forward_n(pool, FB_TENSORS(image, at), FB_OUTS(&y)), FB_E_ARG);
    expect_error(ctx, FB_E_ARG, "MaxPool2d: called with 2 inputs and 1 outputs");
    assert_null(fb_nn_forward(back, values));
    expect_error(ctx, FB_E_ARG, "MaxUnpool2d: called with 1 inputs and 1 outputs");
    fb_tensor *line = fb_ones(ctx, FB_F32, FB_SHAPE(4));
    assert_int_equal(fb_nn_forward_n(back, FB_TENSORS(line, at), FB_OUTS(&y)), FB_E_SHAPE);
    expect_error(ctx, FB_E_SHAPE, "MaxUnpool2d: input [4] must have 3 or 4 dimensions");
    assert_null(fb_nn_max_unpool3d(ctx, 0, NULL));
    expect_error(ctx, FB_E_ARG, "MaxUnpool3d: 0 x 0 x 0: must be positive");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_have_pytorchs_weights_and_first_values),
        cmocka_unit_test(padding_may_be_reflected),
        cmocka_unit_test(pools_and_samplers_give_their_sizes),
        cmocka_unit_test(layers_that_move_elements_give_their_sizes),
        cmocka_unit_test(a_max_unpool_puts_values_back_in_their_places),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
