/* Layers against formulas, and one whole training loop. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/optim/optim.h>
#include <math.h>

#include "core/nn/module_priv.h"

static void linear_is_x_times_w_transposed_plus_b(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *l = fb_nn_linear(ctx, 3, 2, NULL);
    float x[6] = {1, 2, 3, -1, 0.5f, 2}, w[6], b[2], y[4];
    fb_read(fb_nn_param(l, "weight"), w, sizeof w);
    fb_read(fb_nn_param(l, "bias"), b, sizeof b);
    fb_read(fb_nn_forward(l, fb_from(ctx, FB_F32, FB_SHAPE(2, 3), x)), y, sizeof y);
    for (int i = 0; i < 2; i++)
        for (int o = 0; o < 2; o++) {
            double want = b[o];
            for (int k = 0; k < 3; k++)
                want += (double)x[3 * i + k] * w[3 * o + k];
            assert_true(fabs(want - y[2 * i + o]) < 1e-5);
        }
    for (int i = 0; i < 6; i++)
        assert_true(fabsf(w[i]) <= 0.57736f);
    assert_null(fb_nn_linear(ctx, 0, 2, NULL));
    check_error(ctx, FB_E_ARG, "0 to 2 features");
    check_close(ctx);
}

static void a_tied_layer_shares_the_weight(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *e = fb_nn_embedding(ctx, 5, 3, NULL);
    fb_module *l = fb_nn_linear(ctx, 3, 5, FB_OPTS(fb_linear_options, .no_bias = true, .tie = e));
    fb_module *m = fb_nn_sequential(ctx, e, l);
    assert_int_equal(fb_nn_param_count(m), 15);
    assert_ptr_equal(fb_nn_param(m, "1.weight"), fb_nn_param(m, "0.weight"));
    assert_null(fb_nn_linear(ctx, 4, 5, FB_OPTS(fb_linear_options, .tie = e)));
    check_error(ctx, FB_E_SHAPE, "the tied weight is [5, 3], needed [5, 4]");
    check_close(ctx);
}

static void batch_norm_keeps_running_statistics(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *bn = fb_nn_batch_norm1d(ctx, 2, NULL);
    float x[8] = {1, 10, 2, 20, 3, 30, 6, 60}, y[8], mean[2], var[2];
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(4, 2), x);
    fb_read(fb_nn_forward(bn, t), y, sizeof y);
    assert_true(fabs(y[0] - (1 - 3) / sqrt(3.5 + 1e-5)) < 1e-5);
    fb_read(fb_nn_param(bn, "running_mean"), mean, sizeof mean);
    fb_read(fb_nn_param(bn, "running_var"), var, sizeof var);
    assert_true(fabsf(mean[0] - 0.3f) < 1e-6f && fabsf(mean[1] - 3) < 1e-5f);
    assert_true(fabs(var[0] - (0.9 + 0.1 * 14 / 3)) < 1e-5);
    assert_int_equal(fb_item_int(fb_nn_param(bn, "num_batches_tracked")), 1);
    fb_nn_eval(bn);
    fb_read(fb_nn_forward(bn, t), y, sizeof y);
    assert_true(fabs(y[0] - (1 - 0.3) / sqrt(var[0] + 1e-5)) < 1e-5);
    fb_nn_freeze(bn, "*");
    fb_nn_train(bn);
    assert_false(fb_nn_is_training(bn));
    fb_nn_unfreeze(bn, "*");
    assert_true(fb_nn_is_training(bn));
    assert_null(fb_nn_forward(bn, fb_from(ctx, FB_F32, FB_SHAPE(2, 4), x)));
    check_error(ctx, FB_E_SHAPE, "BatchNorm1d: input [2, 4]");
    check_close(ctx);
}

typedef struct given {
    int calls;
    double mean;
} given;
static fb_status take(void *self, fb_module *layer, fb_tensor *mean, fb_tensor *var)
{
    (void)layer;
    (void)var;
    given *g = self;
    g->calls++;
    g->mean = ((const float *)check_data(mean))[0];
    return FB_OK;
}

static void a_layer_norm_takes_the_residual_along(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *norm = fb_nn_layer_norm(ctx, FB_SHAPE(4), NULL);
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(1, 4), ((float[]){1, 2, 3, 4}));
    fb_tensor *r = fb_from(ctx, FB_F32, FB_SHAPE(1, 4), ((float[]){1, 0, 1, 0}));
    fb_tensor *y = NULL, *sum = NULL;
    assert_int_equal(fb_nn_forward_n(norm, FB_TENSORS(x, r), FB_OUTS(&y, &sum)), FB_OK);
    float s[4], got[4], want[4];
    assert_int_equal(fb_read(sum, s, sizeof s), FB_OK);
    assert_memory_equal(s, ((float[]){2, 2, 4, 4}), sizeof s);
    assert_int_equal(fb_read(y, got, sizeof got), FB_OK);
    assert_int_equal(fb_read(fb_nn_forward(norm, sum), want, sizeof want), FB_OK);
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(got[i] - want[i]) < 1e-6f);
    assert_int_equal(fb_nn_forward_n(norm, FB_TENSORS(x, r), FB_OUTS(&y)), FB_E_ARG);
    check_error(ctx, FB_E_ARG,
                "LayerNorm: called with 2 inputs and 1 outputs: it makes y from x, or y and x + "
                "residual from x and residual");
    check_close(ctx);
}

/* x [4, 2], or x and residual, through a batch norm and a ReLU: the layer with the option, the
 * sequence, and one by one; in training or not. */
static void compare_relu(fb_context *ctx, fb_module *own, fb_module *sequence, bool residual)
{
    FB_SCOPE(ctx);
    float x[8] = {1, 10, 2, 20, 3, 30, 6, 60}, r[8] = {-1, 2, 0, 1, 1, -1, -3, 1}, a[8], b[8];
    fb_tensor *in[2] = {fb_from(ctx, FB_F32, FB_SHAPE(4, 2), x),
                        fb_from(ctx, FB_F32, FB_SHAPE(4, 2), r)};
    fb_tensor *y = NULL, *z = fb_nn_forward(fb_nn_list_at(sequence, 0), in[0]);
    assert_int_equal(fb_nn_forward_n(own, (fb_tensors){in, residual ? 2 : 1}, FB_OUTS(&y)), FB_OK);
    z = fb_relu(residual ? fb_add(z, in[1]) : z);
    assert_int_equal(fb_read(y, a, sizeof a), FB_OK);
    assert_int_equal(fb_read(z, b, sizeof b), FB_OK);
    for (int i = 0; i < 8; i++)
        assert_true(fabsf(a[i] - b[i]) <= 1e-6f);
    assert_true(residual || a[0] == 0);
    assert_int_equal(fb_read(fb_nn_forward(sequence, in[0]), a, sizeof a), FB_OK);
    assert_int_equal(fb_read(fb_nn_forward(own, in[0]), b, sizeof b), FB_OK);
    assert_memory_equal(a, b, sizeof a);
}

static void a_batch_norm_takes_residual_and_relu_along(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *own = fb_nn_batch_norm1d(ctx, 2, FB_OPTS(fb_norm_options, .relu = true));
    fb_module *m = fb_nn_sequential(ctx, fb_nn_batch_norm1d(ctx, 2, NULL), fb_nn_relu(ctx));
    float mean[2][2];
    for (int residual = 0; residual < 2; residual++)
        compare_relu(ctx, own, m, residual);
    fb_read(fb_nn_param(own, "running_mean"), mean[0], sizeof mean[0]);
    fb_read(fb_nn_param(m, "0.running_mean"), mean[1], sizeof mean[1]);
    assert_true(mean[0][0] > 0 && mean[0][1] > mean[0][0]);
    assert_memory_equal(mean[0], mean[1], sizeof mean[0]);
    assert_int_equal(fb_item_int(fb_nn_param(own, "num_batches_tracked")), 4);
    fb_nn_eval(own);
    fb_nn_eval(m);
    for (int residual = 0; residual < 2; residual++)
        compare_relu(ctx, own, m, residual);

    fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(4, 2)), *y = NULL;
    fb_tensor *wrong = fb_ones(ctx, FB_F32, FB_SHAPE(2));
    fb_nn_forward_n(own, FB_TENSORS(x, wrong), FB_OUTS(&y));
    check_error(ctx, FB_E_SHAPE, "BatchNorm1d: input [4, 2] and residual [2] differ");
    fb_nn_forward_n(own, FB_TENSORS(x, x, x), FB_OUTS(&y));
    check_error(ctx, FB_E_ARG,
                "BatchNorm1d: called with 3 inputs and 1 outputs: it makes y from x, or from x and "
                "residual");
    const fb_norm_options relu = {.relu = true};
    assert_null(fb_nn_layer_norm(ctx, FB_SHAPE(2), &relu));
    check_error(ctx, FB_E_ARG,
                "fb_nn_layer_norm: relu is an option of batch norms: put fb_nn_relu behind it");
    assert_null(fb_nn_group_norm(ctx, 1, 2, &relu));
    check_error(ctx, FB_E_ARG, "fb_nn_group_norm: relu is an option of batch norms");
    assert_null(fb_nn_rms_norm(ctx, FB_SHAPE(2), &relu));
    check_error(ctx, FB_E_ARG, "fb_nn_rms_norm: relu is an option of batch norms");
    check_close(ctx);
}

static void a_sink_gets_the_statistics_instead(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *bn = fb_nn_batch_norm1d(ctx, 1, NULL);
    given g = {0};
    fbi_stat_sink sink = {.self = &g, .give = take};
    fbi_nn_set_stat_sink(bn, &sink);
    float x[2] = {1, 3};
    assert_non_null(fb_nn_forward(bn, fb_from(ctx, FB_F32, FB_SHAPE(2, 1), x)));
    assert_int_equal(g.calls, 1);
    assert_true(g.mean == 2);
    assert_true(fb_item(fb_nn_param(bn, "running_mean")) == 0);
    check_close(ctx);
}

static void images_go_through(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_sequential(
        ctx, fb_nn_conv2d(ctx, 3, 8, 3, FB_OPTS(fb_conv_options, .padding = {1})),
        fb_nn_batch_norm2d(ctx, 8, NULL), fb_nn_relu(ctx),
        fb_nn_max_pool2d(ctx, 2, FB_OPTS(fb_conv_options, .stride = {2})),
        fb_nn_adaptive_avg_pool2d(ctx, 1, 1), fb_nn_flatten(ctx), fb_nn_dropout(ctx, 0.5),
        fb_nn_linear(ctx, 8, 4, NULL), fb_nn_leaky_relu(ctx, 0.1), fb_nn_gelu(ctx), fb_nn_silu(ctx),
        fb_nn_tanh(ctx), fb_nn_sigmoid(ctx), fb_nn_layer_norm(ctx, FB_SHAPE(4), NULL),
        fb_nn_softmax(ctx, 1));
    float y[8];
    fb_tensor *out = fb_nn_forward(m, fb_randn(ctx, FB_F32, FB_SHAPE(2, 3, 8, 8)));
    check_ok(ctx);
    fb_read(out, y, sizeof y);
    assert_true(fabsf(y[0] + y[1] + y[2] + y[3] - 1) < 1e-5f);
    check_close(ctx);
}

static void a_small_model_learns(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(2);
    fb_module *m = fb_nn_sequential(ctx, fb_nn_linear(ctx, 2, 16, NULL), fb_nn_relu(ctx),
                                    fb_nn_linear(ctx, 16, 2, NULL));
    fb_optimizer *opt = fb_optim_adam(ctx, m, FB_OPTS(fb_adam_options, .lr = 0.02));
    float x[8] = {0, 0, 0, 1, 1, 0, 1, 1};
    int64_t y[4] = {0, 1, 1, 0}; /* exclusive or */
    double loss = 1;
    for (int step = 0; step < 300; step++) {
        FB_SCOPE(ctx);
        fb_tensor *in = fb_from(ctx, FB_F32, FB_SHAPE(4, 2), x);
        fb_tensor *l =
            fb_cross_entropy(fb_nn_forward(m, in), fb_from(ctx, FB_I64, FB_SHAPE(4), y), NULL);
        fb_backward(l);
        fb_optim_step(opt);
        loss = fb_item(l);
    }
    check_ok(ctx);
    assert_true(loss < 0.05);
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_is_x_times_w_transposed_plus_b),
        cmocka_unit_test(a_tied_layer_shares_the_weight),
        cmocka_unit_test(batch_norm_keeps_running_statistics),
        cmocka_unit_test(a_layer_norm_takes_the_residual_along),
        cmocka_unit_test(a_batch_norm_takes_residual_and_relu_along),
        cmocka_unit_test(a_sink_gets_the_statistics_instead),
        cmocka_unit_test(images_go_through),
        cmocka_unit_test(a_small_model_learns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
