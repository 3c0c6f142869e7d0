/* Averages of parameters, and running statistics that are made anew, against naive ones. */
#include "tests/check.h"

#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/pointwise.h>
#include <math.h>

#include "core/optim/optim_priv.h"

enum { IN = 3, OUT = 2, BATCH = 4 };

static fb_module *net(fb_context *ctx)
{
    return fb_nn_sequential(ctx, fb_nn_linear(ctx, IN, OUT, NULL),
                            fb_nn_batch_norm1d(ctx, OUT, NULL));
}

static void set(fb_context *ctx, fb_tensor *t, double seed)
{
    float v[IN * OUT];
    for (int i = 0; i < IN * OUT; i++)
        v[i] = (float)sin(seed + i);
    FB_SCOPE(ctx);
    fb_no_grad(ctx);
    assert_int_equal(fb_copy_(t, fb_from(ctx, FB_F32, fb_shape_of(t), v)), FB_OK);
}

static void equal_weights_give_the_mean(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = net(ctx);
    fb_nn_materialize(m);
    fb_ema *swa = fb_swa_open(m);
    float v[IN * OUT];
    for (int n = 0; n < 5; n++) {
        set(ctx, fb_nn_param(m, "0.weight"), n);
        assert_int_equal(fb_ema_update(swa), FB_OK);
    }
    fb_read(fb_nn_param(fb_ema_module(swa), "0.weight"), v, sizeof v);
    for (int i = 0; i < IN * OUT; i++) {
        double mean = 0;
        for (int n = 0; n < 5; n++)
            mean += sin(n + i) / 5;
        assert_true(fabs(v[i] - mean) < 1e-6);
    }
    assert_int_equal(fb_ema_updates(swa), 5);
    assert_int_equal(fb_ema_updates(NULL), 0);
    check_close(ctx);
}

/* 0, then 1 / 2, then what is wrong. */
static double some(int64_t n, void *user)
{
    (*(int *)user)++;
    return n < 2 ? 0.5 * (double)n : 1.5;
}

static void a_decay_may_be_a_function(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = net(ctx);
    int calls = 0;
    fb_nn_materialize(m);
    fb_ema *avg = fb_average_open(m, some, &calls);
    float v[IN * OUT];
    for (int n = 0; n < 2; n++) {
        set(ctx, fb_nn_param(m, "0.weight"), n);
        assert_int_equal(fb_ema_update(avg), FB_OK);
    }
    fb_read(fb_nn_param(fb_ema_module(avg), "0.weight"), v, sizeof v);
    for (int i = 0; i < IN * OUT; i++)
        assert_true(fabs(v[i] - 0.5 * (sin(i) + sin(1.0 + i))) < 1e-6);
    assert_int_equal(fb_ema_update(avg), FB_E_USER);
    check_error(ctx, FB_E_USER, "fb_ema_update: decay 1.5 is not in [0, 1]");
    assert_int_equal(calls, 3);
    assert_null(fb_average_open(m, NULL, NULL));
    check_error(ctx, FB_E_ARG, "fb_average_open: the function is NULL");
    check_close(ctx);
}

typedef struct batches {
    fb_context *ctx;
    int at, n;
    int64_t width;
} batches;

static double value(int batch, int i)
{
    return 2 + batch + sin(5.0 * batch + 1.3 * i);
}

static fb_tensor *next(void *user)
{
    batches *b = user;
    float v[BATCH * OUT];
    if (b->at == b->n)
        return NULL;
    for (int i = 0; i < BATCH * OUT; i++)
        v[i] = (float)value(b->at, i);
    b->at++;
    return fb_from(b->ctx, FB_F32, FB_SHAPE(BATCH * OUT / b->width, b->width), v);
}

static fb_status take(const char *name, fb_tensor *t, void *user)
{
    static const char *const names[] = {"0.running_mean", "0.running_var", "0.num_batches_tracked"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, names[i]))
            ((fb_tensor **)user)[i] = t;
    return FB_OK;
}

static void refreshed_statistics_are_means_over_batches(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_sequential(ctx, fb_nn_batch_norm1d(ctx, OUT, NULL), fb_nn_relu(ctx));
    batches b = {.ctx = ctx, .n = 3, .width = OUT};
    float mean[OUT], var[OUT];
    int64_t count;
    fb_nn_eval(m);
    assert_int_equal(fb_norms_refresh(m, next, &b), FB_OK);
    assert_false(fb_nn_is_training(m));
    b.at = 0;
    assert_int_equal(fb_norms_refresh(m, next, &b), FB_OK); /* the first time leaves nothing */
    fb_tensor *buffers[3] = {NULL};
    fb_nn_each_buffer(m, take, buffers);
    fb_read(buffers[0], mean, sizeof mean);
    fb_read(buffers[1], var, sizeof var);
    fb_read(buffers[2], &count, sizeof count);
    assert_int_equal(count, 3);
    for (int c = 0; c < OUT; c++) {
        double mu = 0, sigma = 0;
        for (int k = 0; k < 3; k++) {
            double sum = 0, squares = 0;
            for (int i = 0; i < BATCH; i++)
                sum += value(k, i * OUT + c) / BATCH;
            for (int i = 0; i < BATCH; i++)
                squares += pow(value(k, i * OUT + c) - sum, 2) / (BATCH - 1);
            mu += sum / 3;
            sigma += squares / 3;
        }
        assert_true(fabs(mean[c] - mu) < 1e-5);
        assert_true(fabs(var[c] - sigma) < 1e-5);
    }
    check_close(ctx);
}

static void a_refresh_names_what_is_wrong(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = fb_nn_batch_norm1d(ctx, OUT, NULL);
    batches b = {.ctx = ctx, .n = 1, .width = OUT * 2};
    assert_int_equal(fb_norms_refresh(m, NULL, NULL), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_norms_refresh: the function is NULL");
    assert_int_equal(fb_norms_refresh(m, next, &b), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "BatchNorm1d: input [2, 4]");
    assert_int_equal(fb_norms_refresh(NULL, next, &b), FB_E_ARG);
    fbi_stat_sink sink = {0};
    fbi_nn_set_stat_sink(m, &sink);
    b.at = 0;
    assert_int_equal(fb_norms_refresh(m, next, &b), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "attached to a group; refresh an average of it");
    fbi_nn_set_stat_sink(m, NULL);
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_weights_give_the_mean),
        cmocka_unit_test(a_decay_may_be_a_function),
        cmocka_unit_test(refreshed_statistics_are_means_over_batches),
        cmocka_unit_test(a_refresh_names_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
