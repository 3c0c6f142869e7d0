/* Layers of one function, and layers of several inputs, against numbers of PyTorch 2.15. */
#include "tests/core/nn/wave_priv.h"

#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/view.h>

static void activations_compute_what_pytorch_does(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    const struct {
        fb_module *m;
        double want;
    } layers[] = {
        {fb_nn_relu6(ctx), 2.6810722797},
        {fb_nn_selu(ctx), 7.92067171233},
        {fb_nn_mish(ctx), 3.35488851319},
        {fb_nn_hardswish(ctx), 3.22544552745},
        {fb_nn_hardsigmoid(ctx), 0.726284445992},
        {fb_nn_tanhshrink(ctx), 5.97779629164},
        {fb_nn_logsigmoid(ctx), 7.59013855491},
        {fb_nn_softsign(ctx), 3.04132186396},
        {fb_nn_softmax2d(ctx), 3.65369548211},
        {fb_nn_elu(ctx, 0.7), 4.7131340703},
        {fb_nn_celu(ctx, 0.7), 4.86864580807},
        {fb_nn_hardshrink(ctx, 0.5), 10.1959755778},
        {fb_nn_softshrink(ctx, 0.5), 7.87728073155},
        {fb_nn_leaky_relu(ctx, 0.1), 3.43256260951},
        {fb_nn_hardtanh(ctx, -1.5, 0.5), 5.6104345095},
        {fb_nn_threshold(ctx, 0.5, -2), 9.26455160618},
        {fb_nn_softplus(ctx, 2, 3), 2.74352501757},
        {fb_nn_rrelu(ctx, 0.1, 0.4), 4.55979810423},
        {fb_nn_log_softmax(ctx, 1), 16.5089036222},
        {fb_nn_softmin(ctx, 1), -2.12302101188},
        {fb_nn_glu(ctx, 1), 1.1976586596},
        {fb_nn_softmax(ctx, -2), 0.67263192151},
        {fb_nn_identity(ctx), 0},
    };
    fb_tensor *x = wave(ctx, FB_SHAPE(2, 4, 3), 3, 0.9, 0.2);
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        fb_nn_eval(layers[i].m);
        fb_tensor *y = fb_nn_forward(layers[i].m, x);
        check_ok(ctx);
        close_to(digest(y), layers[i].want ? layers[i].want : digest(x), "y", i);
    }
    check_close(ctx);
}

static void a_prelu_learns_a_slope_for_each_channel(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_prelu(ctx, 3, 0.25);
    assert_memory_equal(check_data(fb_nn_param(m, "weight")), ((float[]){0.25f, 0.25f, 0.25f}), 12);
    m = waved(fb_nn_prelu(ctx, 4, 0.25));
    fb_tensor *x = fb_requires_grad(wave(ctx, FB_SHAPE(2, 4, 3), 3, 0.9, 0.2), true);
    fb_tensor *y = fb_nn_forward(m, x);
    assert_int_equal(fb_backward(digested(y)), FB_OK);
    close_to(digest(y), 7.32479400488, "y", 0);
    close_to(digest(fb_grad_of(x)), 9.13509313452, "the gradient of x", 0);
    close_to(gradient_digest(m), 3.73322036997, "the gradient of the weight", 0);
    assert_null(fb_nn_forward(m, fb_select(x, 0, 0)));
    check_error(ctx, FB_E_SHAPE, "PReLU: input [4, 3] must have 4 channels as dimension 1");
    check_close(ctx);
}

static void an_rrelu_draws_its_slopes_in_training(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_rrelu(ctx, 0.1, 0.4);
    fb_tensor *x = fb_full(ctx, FB_F32, FB_SHAPE(1000), -2), *y = fb_nn_forward(m, x);
    assert_true(fb_item(fb_max(y)) <= -0.2 && fb_item(fb_min(y)) >= -0.8);
    assert_true(fabs(fb_item(fb_mean(y, FB_ALL, false)) + 0.5) < 0.03);
    assert_true(fabs(fb_item(fb_std(y, FB_ALL, true, false)) - 0.6 / sqrt(12)) < 0.02);
    y = fb_nn_forward(m, fb_neg(x));
    assert_true(fb_item(fb_min(y)) == 2 && fb_item(fb_max(y)) == 2);
    check_close(ctx);
}

/* Elements that are the same within channels, or not. */
static void dropouts_drop_in_training_only(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    const struct {
        fb_module *m;
        fb_shape x;
        bool channels;
    } layers[] = {{fb_nn_dropout(ctx, 0.5), FB_SHAPE(10, 20, 9), false},
                  {fb_nn_dropout1d(ctx, 0.5), FB_SHAPE(10, 20, 9), true},
                  {fb_nn_dropout2d(ctx, 0.5), FB_SHAPE(10, 20, 3, 3), true},
                  {fb_nn_dropout3d(ctx, 0.5), FB_SHAPE(10, 20, 1, 3, 3), true},
                  {fb_nn_alpha_dropout(ctx, 0.5), FB_SHAPE(10, 20, 9), false},
                  {fb_nn_feature_alpha_dropout(ctx, 0.5), FB_SHAPE(10, 20, 9), true}};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        fb_tensor *x = fb_ones(ctx, FB_F32, layers[i].x);
        const float *y = check_data(fb_nn_forward(layers[i].m, x));
        int high = 0, mixed = 0;
        for (int c = 0; c < 200; c++) {
            int own = 0;
            for (int k = 0; k < 9; k++)
                own += y[9 * c + k] > 0.9f;
            high += own;
            mixed += own > 0 && own < 9;
        }
        assert_true(high > 600 && high < 1200);
        assert_true(layers[i].channels ? mixed == 0 : mixed > 150);
        fb_nn_eval(layers[i].m);
        assert_ptr_equal(fb_nn_forward(layers[i].m, x), x);
    }
    fb_tensor *all = fb_nn_forward(fb_nn_dropout(ctx, 1), fb_ones(ctx, FB_F32, FB_SHAPE(9)));
    assert_true(fb_item(fb_max(all)) == 0);
    assert_null(fb_nn_dropout2d(ctx, 1.5));
    check_error(ctx, FB_E_ARG, "Dropout2d: p is 1.5, not within 0 .. 1");
    check_close(ctx);
}

static void layers_of_several_inputs(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = waved(fb_nn_bilinear(ctx, 3, 2, 2, NULL));
    fb_tensor *a = wave(ctx, FB_SHAPE(4, 3), 1, 0.9, 0.2), *y = NULL;
    fb_tensor *b = wave(ctx, FB_SHAPE(4, 2), 1, 0.6, 1);
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(a, b), FB_OUTS(&y)), FB_OK);
    close_to(digest(y), 0.615297819009, "y", 0);
    fb_bag_options o = {.mode = FB_BAG_MEAN, .pads = true, .padding_index = 1};
    fb_module *bag = waved(fb_nn_embedding_bag(ctx, 5, 3, &o));
    fb_tensor *index = fb_from(ctx, FB_I64, FB_SHAPE(6), ((int64_t[]){0, 3, 1, 4, 2, 1}));
    fb_tensor *offsets = fb_from(ctx, FB_I64, FB_SHAPE(3), ((int64_t[]){0, 3, 5}));
    assert_int_equal(fb_nn_forward_n(bag, FB_TENSORS(index, offsets), FB_OUTS(&y)), FB_OK);
    close_to(digest(y), 1.15008617761, "y", 1);
    fb_tensor *c = wave(ctx, FB_SHAPE(4, 3), 1, 0.6, 1);
    fb_module *cosine = fb_nn_cosine_similarity(ctx, 1, 1e-8);
    assert_int_equal(fb_nn_forward_n(cosine, FB_TENSORS(a, c), FB_OUTS(&y)), FB_OK);
    close_to(digest(y), 1.10219510566, "y", 2);
    fb_module *pairs = fb_nn_pairwise_distance(ctx, 3, 1e-6, true);
    assert_int_equal(fb_nn_forward_n(pairs, FB_TENSORS(a, c), FB_OUTS(&y)), FB_OK);
    close_to(digest(y), -1.80342612053, "y", 3);
    assert_null(fb_nn_forward(pairs, a));
    check_error(ctx, FB_E_ARG, "PairwiseDistance: called with 1 inputs and 1 outputs");
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(b, b), FB_OUTS(&y)), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "bilinear: ");
    assert_null(fb_nn_forward(m, a));
    check_error(ctx, FB_E_ARG, "Bilinear: called with 1 inputs and 1 outputs");
    assert_null(fb_nn_bilinear(ctx, 3, 0, 2, NULL));
    check_error(ctx, FB_E_ARG, "fb_nn_bilinear: 3 and 0 to 2 features");
    fb_tensor *x[4] = {index, offsets, NULL, NULL};
    assert_int_equal(fb_nn_forward_n(bag, (fb_tensors){x, 4}, FB_OUTS(&y)), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "EmbeddingBag: called with 4 inputs and 1 outputs");
    check_close(ctx);
}

static void the_padding_row_is_zeros_and_stays_so(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_embedding_options o = {.pads = true, .padding_index = -2};
    fb_module *m = fb_nn_embedding(ctx, 4, 3, &o);
    const float *w = check_data(fb_nn_param(m, "weight"));
    for (int i = 0; i < 12; i++)
        assert_true((w[i] == 0) == (i / 3 == 2));
    fb_tensor *index = fb_from(ctx, FB_I64, FB_SHAPE(3), ((int64_t[]){2, 0, 2}));
    assert_int_equal(fb_backward(fb_sum(fb_nn_forward(m, index), FB_ALL, false)), FB_OK);
    const float *g = check_data(fb_grad_of(fb_nn_param(m, "weight")));
    for (int i = 0; i < 12; i++)
        assert_true(g[i] == (float)(i / 3 == 0));
    assert_null(fb_nn_embedding(ctx, 4, 3,
                                FB_OPTS(fb_embedding_options, .pads = true, .padding_index = 4)));
    check_error(ctx, FB_E_ARG, "Embedding: padding_index 4 of 4 rows");
    assert_null(fb_nn_embedding_bag(ctx, 0, 3, NULL));
    check_error(ctx, FB_E_ARG, "EmbeddingBag: 0 rows of 3");
    check_close(ctx);
}

static void numbers_that_make_no_sense_are_named(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    assert_null(fb_nn_hardtanh(ctx, 1, -1));
    check_error(ctx, FB_E_ARG, "Hardtanh: 1 and -1: the limits are in the wrong order");
    assert_null(fb_nn_softplus(ctx, 0, 20));
    check_error(ctx, FB_E_ARG, "Softplus: 0 and 20: beta must not be 0");
    assert_null(fb_nn_rrelu(ctx, 0.5, 0.1));
    check_error(ctx, FB_E_ARG, "RReLU: 0.5 and 0.1: the slopes are in the wrong order");
    assert_null(fb_nn_prelu(ctx, 0, 0.1));
    check_error(ctx, FB_E_ARG, "PReLU: 0 channels");
    assert_null(fb_nn_forward(fb_nn_softmax2d(ctx), fb_ones(ctx, FB_F32, FB_SHAPE(2, 2))));
    check_error(ctx, FB_E_SHAPE, "Softmax2d: input [2, 2] must be [N, C, H, W] or [C, H, W]");
    assert_null(fb_nn_forward(fb_nn_softshrink(ctx, -1), fb_ones(ctx, FB_F32, FB_SHAPE(2))));
    check_error(ctx, FB_E_ARG, "softshrink");
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_compute_what_pytorch_does),
        cmocka_unit_test(a_prelu_learns_a_slope_for_each_channel),
        cmocka_unit_test(an_rrelu_draws_its_slopes_in_training),
        cmocka_unit_test(dropouts_drop_in_training_only),
        cmocka_unit_test(layers_of_several_inputs),
        cmocka_unit_test(the_padding_row_is_zeros_and_stays_so),
        cmocka_unit_test(numbers_that_make_no_sense_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
