/* Norm layers against formulas, and parameters that are computed in each call. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <math.h>

static void are(fb_tensor *t, const double *want, int n, double tol)
{
    assert_non_null(t);
    assert_int_equal(fb_numel(t), n);
    const float *got = check_data(t);
    for (int i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tol))
            fail_msg("element %d is %.9g, not %.9g", i, (double)got[i], want[i]);
}

static void set(fb_tensor *param, const float *v)
{
    fb_context *ctx = fb_context_of(param);
    FB_SCOPE(ctx);
    fb_no_grad(ctx);
    assert_int_equal(fb_copy_(param, fb_from(ctx, FB_F32, fb_shape_of(param), v)), FB_OK);
}

static void a_group_norm_takes_channels_together(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_group_norm(ctx, 2, 4, FB_OPTS(fb_norm_options, .eps = FB_ZERO));
    set(fb_nn_param(m, "weight"), (float[]){1, 2, 3, 4});
    set(fb_nn_param(m, "bias"), (float[]){0, 0, 1, 1});
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(1, 4), ((float[]){1, 3, -2, 2}));
    are(fb_nn_forward(m, x), (double[]){-1, 2, -2, 5}, 4, 1e-6);
    assert_null(fb_nn_forward(m, fb_from(ctx, FB_F32, FB_SHAPE(2, 2), ((float[]){1, 2, 3, 4}))));
    check_error(ctx, FB_E_SHAPE, "GroupNorm: input [2, 2]; its second size must be 4");
    assert_null(fb_nn_group_norm(ctx, 3, 4, NULL));
    check_error(ctx, FB_E_ARG, "fb_nn_group_norm: 4 channels in 3 groups");
    check_close(ctx);
}

static void an_instance_norm_keeps_means_over_the_batch(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_instance_norm1d(ctx, 1, FB_OPTS(fb_instance_norm_options, .stats = true));
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(2, 1, 2), ((float[]){1, 3, 5, 9}));
    double near = 1 / sqrt(1 + 1e-5), far = 2 / sqrt(4 + 1e-5);
    are(fb_nn_forward(m, x), (double[]){-near, near, -far, far}, 4, 1e-6);
    /* means 2 and 7, variances 2 and 8 */
    assert_true(fabs(fb_item(fb_nn_param(m, "running_mean")) - 0.45) < 1e-6);
    assert_true(fabs(fb_item(fb_nn_param(m, "running_var")) - 1.4) < 1e-6);
    assert_int_equal(fb_item_int(fb_nn_param(m, "num_batches_tracked")), 1);
    fb_nn_eval(m);
    double r = 1 / sqrt(1.4 + 1e-5);
    are(fb_nn_forward(m, x), (double[]){0.55 * r, 2.55 * r, 4.55 * r, 8.55 * r}, 4, 1e-5);
    fb_tensor *one = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){1, 3}));
    are(fb_nn_forward(m, one), (double[]){0.55 * r, 2.55 * r}, 2, 1e-5);
    fb_module *plain = fb_nn_instance_norm2d(ctx, 1, NULL);
    assert_int_equal(fb_nn_param_count(plain), 0);
    assert_null(fb_nn_forward(plain, one));
    check_error(ctx, FB_E_SHAPE,
                "InstanceNorm2d: input [1, 2]; it takes 4 dimensions (or 3, of one sample) with 1");
    check_close(ctx);
}

static void volumes_and_mean_squares_and_neighbours_are_normalised(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *bn = fb_nn_batch_norm3d(ctx, 1, FB_OPTS(fb_norm_options, .eps = FB_ZERO));
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(1, 1, 1, 2, 1), ((float[]){1, 3}));
    fb_tensor *y = fb_nn_forward(bn, x);
    are(y, (double[]){-1, 1}, 2, 1e-6);
    assert_int_equal(fb_ndim(y), 5);
    assert_null(fb_nn_forward(bn, fb_from(ctx, FB_F32, FB_SHAPE(1, 1, 2, 1), ((float[]){1, 3}))));
    check_error(ctx, FB_E_SHAPE, "BatchNorm3d: input [1, 1, 2, 1]; it takes 5");
    fb_module *rms = fb_nn_rms_norm(ctx, FB_SHAPE(2), FB_OPTS(fb_norm_options, .eps = FB_ZERO));
    set(fb_nn_param(rms, "weight"), (float[]){1, 2});
    fb_tensor *line = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){1, 7}));
    are(fb_nn_forward(rms, line), (double[]){0.2, 2.8}, 2, 1e-6); /* the root is 5 */
    assert_null(fb_nn_rms_norm(ctx, FB_SHAPE(0), NULL));
    check_error(ctx, FB_E_ARG, "fb_nn_rms_norm: shape [0]");
    fb_response_norm_options o = {.alpha = 2, .beta = 1, .k = 1};
    fb_module *lrn = fb_nn_local_response_norm(ctx, 2, &o);
    fb_tensor *c = fb_from(ctx, FB_F32, FB_SHAPE(1, 2, 1), ((float[]){1, 2}));
    are(fb_nn_forward(lrn, c), (double[]){0.5, 2.0 / 6}, 2, 1e-6); /* 1 + 1, 1 + 1 + 4 */
    assert_null(fb_nn_local_response_norm(ctx, 0, NULL));
    check_error(ctx, FB_E_ARG, "fb_nn_local_response_norm: size 0");
    check_close(ctx);
}

static fb_module *linear_of(fb_context *ctx, const float *w)
{
    fb_module *l = fb_nn_linear(ctx, 2, 2, NULL);
    set(fb_nn_param(l, "weight"), w);
    set(fb_nn_param(l, "bias"), (float[]){0, 1});
    return l;
}

static void weight_norm_trains_lengths_and_directions(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_weight_norm(linear_of(ctx, (float[]){3, 4, 0, 2}), "weight", 0);
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){1, 2}));
    fb_tensor *y = fb_nn_forward(m, x);
    are(y, (double[]){11, 5}, 2, 1e-5); /* as before */
    are(fb_nn_param(m, "parametrization.g"), (double[]){5, 2}, 2, 1e-6);
    assert_int_equal(fb_nn_param_count(m), 4 + 2 + 2);
    fb_tensor *by = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){1, 2}));
    assert_int_equal(fb_backward(fb_sum(fb_mul(y, by), FB_ALL, false)), FB_OK);
    /* the weight's own gradient would be {{1, 2}, {2, 4}} */
    are(fb_grad_of(fb_nn_param(m, "parametrization.g")), (double[]){2.2, 4}, 2, 1e-5);
    are(fb_grad_of(fb_nn_param(m, "original")), (double[]){-0.32, 0.24, 2, 0}, 4, 1e-5);
    are(fb_grad_of(fb_nn_param(m, "layer.bias")), (double[]){1, 2}, 2, 1e-6);
    set(fb_nn_param(m, "parametrization.g"), (float[]){10, 4});
    are(fb_nn_forward(m, x), (double[]){22, 9}, 2, 1e-5);
    fb_module *copy = fb_nn_clone(m);
    set(fb_nn_param(m, "parametrization.g"), (float[]){5, 2});
    are(fb_nn_forward(copy, x), (double[]){22, 9}, 2, 1e-5);
    fb_module *whole = fb_nn_weight_norm(linear_of(ctx, (float[]){1, 2, 4, 10}), "weight", -1);
    are(fb_nn_param(whole, "parametrization.g"), (double[]){11}, 1, 1e-5);
    are(fb_nn_forward(whole, x), (double[]){5, 25}, 2, 1e-5);
    check_close(ctx);
}

static void spectral_norm_divides_by_the_largest_singular_value(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_spectral_norm(linear_of(ctx, (float[]){4, 0, 0, 1}), "weight", NULL);
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){1, 2}));
    fb_tensor *y = fb_nn_forward(m, x);
    are(y, (double[]){1, 1.5}, 2, 1e-5);
    fb_tensor *by = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){1, 2}));
    assert_int_equal(fb_backward(fb_sum(fb_mul(y, by), FB_ALL, false)), FB_OK);
    /* G = {{1, 2}, {2, 4}}: G / 4 - (4 + 4) / 16 u v^T */
    are(fb_grad_of(fb_nn_param(m, "original")), (double[]){-0.25, 0.5, 0.5, 1}, 4, 1e-4);
    set(fb_nn_param(m, "original"), (float[]){1, 0, 0, 4}); /* its vectors are others */
    fb_nn_eval(m);
    are(fb_nn_forward(m, x), (double[]){1, 9}, 2, 1e-2); /* they stay */
    fb_nn_train(m);
    for (int i = 0; i < 30; i++)
        y = fb_nn_forward(m, x);
    are(y, (double[]){0.25, 3}, 2, 1e-4);
    fb_nn_eval(m);
    are(fb_nn_forward(m, x), (double[]){0.25, 3}, 2, 1e-4);
    fb_module *line = fb_nn_spectral_norm(linear_of(ctx, (float[]){1, 0, 0, 1}), "bias", NULL);
    are(fb_nn_forward(line, x), (double[]){1, 3}, 2, 1e-5);
    check_close(ctx);
}

static fb_tensor *exp_forward(fb_module *m, fb_tensor *x)
{
    (void)m;
    return fb_exp(x);
}
static fb_tensor *no_forward(fb_module *m, fb_tensor *x)
{
    (void)m, (void)x;
    return NULL;
}
static const fb_field none[] = {{0}};
static const fb_module_type positive = {.name = "Positive", .fields = none, .forward = exp_forward};
static const fb_module_type nothing = {.name = "Nothing", .fields = none, .forward = no_forward};

static void the_users_own_may_follow_one_another(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_parametrize(linear_of(ctx, (float[]){0, 0, 0, 0}), "weight",
                                     fb_nn_new(ctx, &positive, ""));
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){1, 2}));
    are(fb_nn_forward(m, x), (double[]){3, 4}, 2, 1e-6);
    m = fb_nn_parametrize(m, "layer.bias", fb_nn_new(ctx, &positive, ""));
    are(fb_nn_forward(m, x), (double[]){4, 3 + exp(1)}, 2, 1e-6);
    m = fb_nn_parametrize(m, "layer.original", fb_nn_new(ctx, &positive, ""));
    are(fb_nn_forward(m, x), (double[]){3 * exp(1) + 1, 4 * exp(1)}, 2, 1e-5);
    fb_module *net = fb_nn_sequential(ctx, m, fb_nn_relu(ctx));
    are(fb_nn_forward(net, x), (double[]){3 * exp(1) + 1, 4 * exp(1)}, 2, 1e-5);
    check_close(ctx);
}

static void what_cannot_be_parametrized_is_named(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *l = linear_of(ctx, (float[]){0, 0, 0, 0});
    assert_null(fb_nn_weight_norm(l, "wieght", 0));
    check_error(ctx, FB_E_NOT_FOUND, "fb_nn_parametrize: Linear has no parameter wieght");
    assert_null(fb_nn_weight_norm(l, "weight", 2));
    check_error(ctx, FB_E_ARG, "fb_nn_weight_norm: no dimension 2 in weight [2, 2]");
    assert_null(fb_nn_spectral_norm(l, "weight", FB_OPTS(fb_spectral_norm_options, .dim = 3)));
    check_error(ctx, FB_E_ARG, "fb_nn_spectral_norm: dimension 3 of weight [2, 2], 1 iterations");
    fb_module *e = fb_nn_embedding(ctx, 2, 2, NULL);
    fb_module *tied = fb_nn_linear(ctx, 2, 2, FB_OPTS(fb_linear_options, .tie = e));
    fb_module *net = fb_nn_sequential(ctx, e, tied);
    assert_null(fb_nn_weight_norm(net, "0.weight", 0));
    check_error(ctx, FB_E_ARG, "fb_nn_parametrize: 0.weight of Sequential is tied: it has 2 names");
    assert_null(fb_nn_weight_norm(tied, "bias", 0));
    check_error(ctx, FB_E_STATE, "Linear is a child of a Sequential: parametrize it before");
    fb_module *bad = fb_nn_parametrize(l, "weight", fb_nn_new(ctx, &nothing, ""));
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){1, 2}));
    assert_null(fb_nn_forward(bad, x));
    check_error(ctx, FB_E_USER, "Nothing: forward returned NULL");
    assert_null(fb_nn_forward(l, x)); /* without its weight */
    check_error(ctx, FB_E_ARG, "linear: input 1 is NULL");
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_norm_takes_channels_together),
        cmocka_unit_test(an_instance_norm_keeps_means_over_the_batch),
        cmocka_unit_test(volumes_and_mean_squares_and_neighbours_are_normalised),
        cmocka_unit_test(weight_norm_trains_lengths_and_directions),
        cmocka_unit_test(spectral_norm_divides_by_the_largest_singular_value),
        cmocka_unit_test(the_users_own_may_follow_one_another),
        cmocka_unit_test(what_cannot_be_parametrized_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
