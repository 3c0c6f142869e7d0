/* Gradients by sample: against the gradient of each sample alone, and clipping with them. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/nn/per_sample.h>
#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>
#include <math.h>

static int open_context(void **state)
{
    *state = check_open_device(1);
    return 0;
}

static int close_context(void **state)
{
    return fb_context_close(*state) == FB_OK ? 0 : -1;
}

enum { BATCH = 5, IN = 3, HIDDEN = 4, OUT = 2, PARAMS = 4 };

static fb_module *mlp(fb_context *ctx)
{
    return fb_nn_sequential(ctx, fb_nn_linear(ctx, IN, HIDDEN, NULL), fb_nn_tanh(ctx),
                            fb_nn_linear(ctx, HIDDEN, OUT, NULL));
}

/* Half the squared distance. */
static fb_tensor *distance(fb_module *m, fb_tensors sample, void *user)
{
    if (user)
        ++*(int *)user;
    fb_tensor *d = fb_sub(fb_nn_forward(m, sample.t[0]), sample.t[1]);
    return fb_mul_scalar(fb_sum(fb_mul(d, d), FB_ALL, false), 0.5);
}

static void batch_of(fb_context *ctx, fb_tensor **x, fb_tensor **y)
{
    *x = fb_randn(ctx, FB_F32, FB_SHAPE(BATCH, IN));
    *y = fb_randn(ctx, FB_F32, FB_SHAPE(BATCH, OUT));
}

/* Of a linear layer y = W x + b with half the squared distance: g = y - t, dW = g x^T, db = g. */
static void a_linear_layer_has_outer_products(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *m = fb_nn_linear(ctx, IN, OUT, NULL);
    fb_tensor *x, *t, *g[2];
    int calls = 0;
    batch_of(ctx, &x, &t);
    assert_int_equal(fb_nn_sample_gradients(m, distance, &calls, FB_TENSORS(x, t), 2, g), FB_OK);
    assert_int_equal(calls, BATCH);
    assert_true(fb_shape_equal(fb_shape_of(g[0]), FB_SHAPE(BATCH, OUT, IN)));
    assert_true(fb_shape_equal(fb_shape_of(g[1]), FB_SHAPE(BATCH, OUT)));
    float xs[BATCH][IN], ts[BATCH][OUT], w[OUT][IN], b[OUT], gw[BATCH][OUT][IN], gb[BATCH][OUT];
    fb_read(x, xs, sizeof xs);
    fb_read(t, ts, sizeof ts);
    fb_read(fb_nn_param(m, "weight"), w, sizeof w);
    fb_read(fb_nn_param(m, "bias"), b, sizeof b);
    fb_read(g[0], gw, sizeof gw);
    fb_read(g[1], gb, sizeof gb);
    for (int s = 0; s < BATCH; s++)
        for (int o = 0; o < OUT; o++) {
            double d = b[o] - ts[s][o];
            for (int i = 0; i < IN; i++)
                d += (double)w[o][i] * xs[s][i];
            assert_float_equal(gb[s][o], d, 1e-5);
            for (int i = 0; i < IN; i++)
                assert_float_equal(gw[s][o][i], d * xs[s][i], 1e-5);
        }
    assert_null(fb_grad_of(fb_nn_param(m, "weight")));
}

static void rows_are_the_gradients_of_the_samples(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *m = mlp(ctx);
    fb_tensor *x, *t, *g[PARAMS];
    batch_of(ctx, &x, &t);
    assert_int_equal(fb_nn_freeze(m, "0.bias"), FB_OK);
    {
        FB_SCOPE(ctx);
        fb_no_grad(ctx); /* which does not matter */
        assert_int_equal(fb_nn_sample_gradients(m, distance, NULL, FB_TENSORS(x, t), PARAMS, g),
                         FB_OK);
        for (int k = 0; k < PARAMS; k++)
            (void)fb_keep(g[k]);
    }
    assert_null(g[1]);
    static const char *const names[] = {"0.weight", "0.bias", "2.weight", "2.bias"};
    for (int s = 0; s < BATCH; s++) {
        FB_SCOPE(ctx);
        assert_int_equal(fb_nn_zero_grad(m), FB_OK);
        fb_tensor *xs = fb_narrow(x, 0, s, 1), *ts = fb_narrow(t, 0, s, 1);
        assert_int_equal(fb_backward(distance(m, FB_TENSORS(xs, ts), NULL)), FB_OK);
        for (int k = 0; k < PARAMS; k++) {
            if (k == 1)
                continue;
            fb_tensor *want = fb_grad_of(fb_nn_param(m, names[k])), *row = fb_narrow(g[k], 0, s, 1);
            size_t bytes = (size_t)fb_numel(want) * sizeof(float);
            assert_memory_equal(check_data(row), check_data(want), bytes);
        }
    }
}

/* Differential privacy: each sample's gradient is scaled to a norm of at most C before the sum. */
static void samples_can_be_clipped_by_their_norms(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    const double limit = 0.7;
    fb_module *m = mlp(ctx);
    fb_tensor *x, *t, *g[PARAMS], *square = fb_zeros(ctx, FB_F32, FB_SHAPE(BATCH));
    batch_of(ctx, &x, &t);
    x = fb_mul_scalar(x, 0.5);
    assert_int_equal(fb_nn_sample_gradients(m, distance, NULL, FB_TENSORS(x, t), PARAMS, g), FB_OK);
    for (int k = 0; k < PARAMS; k++) {
        fb_tensor *flat = fb_reshape(g[k], FB_SHAPE(BATCH, fb_numel(g[k]) / BATCH));
        square = fb_add(square, fb_sum(fb_mul(flat, flat), FB_SHAPE(1), false));
    }
    fb_tensor *norm = fb_sqrt(square);
    fb_tensor *factor = fb_clamp(fb_div(fb_full(ctx, FB_F32, FB_SHAPE(BATCH), limit), norm), 0, 1);
    double want[64] = {0}, norms[BATCH] = {0};
    float v[PARAMS][BATCH * 16];
    for (int k = 0; k < PARAMS; k++) {
        int n = (int)fb_numel(g[k]) / BATCH;
        fb_read(g[k], v[k], (size_t)(n * BATCH) * sizeof(float));
        for (int s = 0; s < BATCH; s++)
            for (int i = 0; i < n; i++)
                norms[s] += (double)v[k][s * n + i] * v[k][s * n + i];
    }
    int clipped = 0;
    for (int s = 0; s < BATCH; s++) {
        norms[s] = sqrt(norms[s]);
        clipped += norms[s] > limit;
    }
    assert_in_range(clipped, 1, BATCH - 1); /* else the test tells nothing */
    for (int k = 0; k < PARAMS; k++) {
        int64_t n = fb_numel(g[k]) / BATCH;
        fb_tensor *flat = fb_reshape(g[k], FB_SHAPE(BATCH, n));
        fb_tensor *sum = fb_matmul(factor, flat);
        const float *got = check_data(sum);
        for (int64_t i = 0; i < n; i++) {
            want[i] = 0;
            for (int s = 0; s < BATCH; s++)
                want[i] += fmin(1, limit / norms[s]) * v[k][s * n + i];
            assert_float_equal(got[i], want[i], 1e-5);
        }
    }
}

static fb_tensor *token_loss(fb_module *m, fb_tensors sample, void *user)
{
    (void)user;
    fb_tensor *e = fb_nn_forward(m, sample.t[0]); /* [1, tokens, dim] */
    return fb_sum(fb_mul(e, e), FB_ALL, false);
}

static void rows_of_an_embedding_belong_to_their_samples(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *m = fb_nn_embedding(ctx, 4, 2, NULL);
    assert_int_equal(fb_nn_init(m, "*", fb_init_constant(3)), FB_OK);
    static const int64_t tokens[2][3] = {{0, 0, 2}, {3, 1, 1}};
    fb_tensor *x = fb_from(ctx, FB_I64, FB_SHAPE(2, 3), tokens), *g;
    assert_int_equal(fb_nn_sample_gradients(m, token_loss, NULL, FB_TENSORS(x), 1, &g), FB_OK);
    static const float want[2][4][2] = {{{12, 12}, {0, 0}, {6, 6}, {0, 0}},
                                        {{0, 0}, {12, 12}, {0, 0}, {6, 6}}};
    assert_memory_equal(check_data(g), want, sizeof want);
}

static fb_tensor *no_loss(fb_module *m, fb_tensors sample, void *user)
{
    (void)m;
    return user ? sample.t[0] : NULL;
}

static void what_is_wrong_is_said(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *m = mlp(ctx),
              *bn = fb_nn_sequential(ctx, mlp(ctx), fb_nn_batch_norm1d(ctx, OUT, NULL));
    fb_tensor *x, *t, *g[8], *one = fb_ones(ctx, FB_F32, FB_SCALAR);
    batch_of(ctx, &x, &t);
    fb_tensors both = FB_TENSORS(x, t);
    assert_int_equal(fb_nn_sample_gradients(m, distance, NULL, both, 3, g), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "places for 3 gradients; Sequential has 4 parameters");
    assert_int_equal(fb_nn_sample_gradients(m, NULL, NULL, both, 4, g), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_nn_sample_gradients: the loss is NULL");
    assert_int_equal(fb_nn_sample_gradients(m, distance, NULL, (fb_tensors){0}, 4, g), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_nn_sample_gradients: no batch");
    assert_int_equal(fb_nn_sample_gradients(m, distance, NULL, FB_TENSORS(x, one), 4, g),
                     FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "tensor 1 of the batch is [], the first is [5, 3]");
    assert_int_equal(fb_nn_sample_gradients(m, no_loss, NULL, both, 4, g), FB_E_USER);
    check_error(ctx, FB_E_USER, "the loss of sample 0 is NULL");
    assert_int_equal(fb_nn_sample_gradients(m, no_loss, m, both, 4, g), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "the loss of a sample is [1, 3], not one element");
    assert_int_equal(fb_nn_sample_gradients(bn, distance, NULL, both, 6, g), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "BatchNorm1d \"1\" takes the statistics of the batch");
    fb_nn_eval(bn);
    assert_int_equal(fb_nn_sample_gradients(bn, distance, NULL, both, 6, g), FB_OK);
    assert_int_equal(fb_nn_freeze(m, "*"), FB_OK);
    assert_int_equal(fb_nn_sample_gradients(m, distance, NULL, both, 4, g), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "no parameter of Sequential wants a gradient");
    for (int k = 0; k < 4; k++)
        assert_null(g[k]);
    assert_int_equal(fb_nn_sample_gradients(m, distance, NULL, both, 4, NULL), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "the place for gradients is NULL");
    assert_int_equal(fb_nn_sample_gradients(NULL, distance, NULL, both, 0, g), FB_E_ARG);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_linear_layer_has_outer_products),
        T(rows_are_the_gradients_of_the_samples),
        T(samples_can_be_clipped_by_their_norms),
        T(rows_of_an_embedding_belong_to_their_samples),
        T(what_is_wrong_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
