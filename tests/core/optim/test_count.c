/* Losses that are sums: the optimizer divides by what they counted. */
#include <math.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/base/log.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/optim/optim.h>

#include "tests/check.h"

static fb_context *ctx;

static int open_context(void **state)
{
    (void)state;
    ctx = check_open_device(1);
    return 0;
}

static int close_context(void **state)
{
    (void)state;
    return fb_context_close(ctx) != FB_OK;
}

static fb_tensor *number(int64_t n)
{
    return fb_from(ctx, FB_I64, FB_SCALAR, &n);
}

/* A leaf of the value v, and an optimizer that subtracts its gradient. */
static fb_tensor *leaf(float v)
{
    return fb_requires_grad(fb_from(ctx, FB_F32, FB_SCALAR, &v), true);
}

static fb_optimizer *subtract(fb_tensor *t)
{
    fb_optimizer *opt = fb_optim_sgd(ctx, NULL, FB_OPTS(fb_sgd_options, .lr = 1));
    if (t)
        fb_optim_add_tensor(opt, "t", t);
    return opt;
}

/* backward of weight * t, which counts n */
static fb_status sum_over(fb_tensor *t, double weight, int64_t n)
{
    return fb_backward_with(fb_mul_scalar(t, weight),
                            FB_OPTS(fb_backward_options, .count = number(n)));
}

static void a_sum_is_divided_by_its_count(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *t = leaf(10);
    fb_optimizer *opt = subtract(t);
    sum_over(t, 6, 4);
    assert_true(fb_item(fb_grad_of(t)) == 6); /* the gradient itself is the sum's */
    fb_optim_step(opt);
    assert_true(fb_item(t) == 10 - 1.5);
    sum_over(t, 6, 3); /* counts begin anew */
    fb_optim_step(opt);
    assert_true(fb_item(t) == 10 - 1.5 - 2);
}

static void micro_batches_of_different_size_add_up(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *t = leaf(0);
    fb_optimizer *opt = subtract(t);
    fb_context_batch(ctx, FB_OPTS(fb_batch_info, .first = true, .share = 0.75));
    sum_over(t, 6, 6);
    fb_optim_step(opt);
    assert_true(fb_item(t) == 0);
    fb_context_batch(ctx, FB_OPTS(fb_batch_info, .last = true, .share = 0.25));
    sum_over(t, 10, 2);
    fb_optim_step(opt);
    assert_true(fb_item(t) == -2);
    fb_context_batch(ctx, NULL);
}

/* What a whole batch gives at once is what two parts give, where some targets do not count. */
static void ignored_targets_count_nothing(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    enum { N = 7, IN = 3, OUT = 4 };
    float x[N * IN];
    int64_t y[N] = {0, 3, -100, 1, -100, -100, 2};
    for (int i = 0; i < N * IN; i++)
        x[i] = (float)((i * 37) % 11) / 5 - 1;
    fb_module *m = fb_nn_linear(ctx, IN, OUT, NULL), *whole = fb_nn_clone(m);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_optimizer *opt_whole = fb_optim_sgd(ctx, whole, FB_OPTS(fb_sgd_options, .lr = 1));
    for (int part = 0; part < 2; part++) {
        int64_t begin = part ? 2 : 0, n = part ? 5 : 2, counted = 2;
        fb_tensor *loss = fb_cross_entropy(
            fb_nn_forward(m, fb_from(ctx, FB_F32, FB_SHAPE(n, IN), x + begin * IN)),
            fb_from(ctx, FB_I64, FB_SHAPE(n), y + begin),
            FB_OPTS(fb_cross_entropy_options, .reduction = FB_LOSS_SUM));
        fb_backward_with(loss, FB_OPTS(fb_backward_options, .count = number(counted)));
    }
    fb_optim_step(opt);
    fb_backward(fb_cross_entropy(fb_nn_forward(whole, fb_from(ctx, FB_F32, FB_SHAPE(N, IN), x)),
                                 fb_from(ctx, FB_I64, FB_SHAPE(N), y), NULL));
    fb_optim_step(opt_whole);
    check_ok(ctx);
    const float *a = check_data(fb_nn_param(m, "weight"));
    const float *b = check_data(fb_nn_param(whole, "weight"));
    for (int i = 0; i < IN * OUT; i++)
        assert_true(fabsf(a[i] - b[i]) < 1e-6f);
}

/* A parameter that one of the micro-batches did not reach is divided by all of them. */
static void what_a_backward_did_not_reach_is_divided_by_its_count_too(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_module *m = fb_nn_sequential(ctx, fb_nn_linear(ctx, 1, 1, NULL));
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_nn_materialize(m);
    fb_tensor *w = fb_nn_param(m, "0.weight"), *b = fb_nn_param(m, "0.bias");
    double w0 = fb_item(w), b0 = fb_item(b);
    sum_over(fb_sum(w, FB_ALL, false), 4, 1);
    sum_over(fb_sum(b, FB_ALL, false), 4, 3);
    fb_optim_step(opt);
    assert_true(fabs(fb_item(w) - (w0 - 1)) < 1e-6);
    assert_true(fabs(fb_item(b) - (b0 - 1)) < 1e-6);
}

static void models_count_apart(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *a = leaf(0), *b = leaf(0);
    fb_optimizer *step_a = subtract(a), *step_b = subtract(b);
    sum_over(a, 6, 2);
    sum_over(b, 6, 3);
    fb_optim_step(step_a);
    fb_optim_step(step_b);
    assert_true(fb_item(a) == -3);
    assert_true(fb_item(b) == -2);
}

static void giving_up_an_accumulation_forgets_its_count(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *t = leaf(0);
    fb_optimizer *opt = subtract(t);
    sum_over(t, 100, 100);
    fb_optim_zero_grad(opt);
    sum_over(t, 6, 2);
    fb_optim_step(opt);
    assert_true(fb_item(t) == -3);
}

static void clipping_sees_the_divided_gradient(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *t = leaf(0);
    fb_optimizer *opt = subtract(t);
    fb_optim_clip_norm(opt, 1);
    sum_over(t, 8, 4);
    fb_optim_step(opt);
    assert_true(fb_optim_grad_norm(opt) == 2);
    assert_true(fabs(fb_item(t) + 1) < 1e-5);
}

static void weights_may_be_counted(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *t = leaf(0);
    fb_optimizer *opt = subtract(t);
    float weight = 0.5f;
    fb_backward_with(
        fb_mul_scalar(t, 3),
        FB_OPTS(fb_backward_options, .count = fb_from(ctx, FB_F32, FB_SHAPE(1), &weight)));
    fb_optim_step(opt);
    assert_true(fb_item(t) == -6);
}

static void a_step_that_counted_nothing_is_not_applied(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *t = leaf(1);
    fb_optimizer *opt =
        fb_optim_sgd(ctx, NULL, FB_OPTS(fb_sgd_options, .lr = 1, .weight_decay = 0.5));
    fb_optim_add_tensor(opt, "t", t);
    sum_over(t, 0, 0);
    fb_optim_step(opt);
    check_ok(ctx);
    assert_true(fb_item(t) == 1);
    assert_int_equal(fb_optim_steps(opt), 0);
}

static void a_filler_contributes_nothing(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *t = leaf(0);
    fb_optimizer *opt = subtract(t);
    fb_context_batch(ctx, FB_OPTS(fb_batch_info, .first = true, .share = 1));
    sum_over(t, 6, 2);
    fb_context_batch(ctx, FB_OPTS(fb_batch_info, .shard = 1, .last = true, .share = 0));
    sum_over(t, 100, 100);
    fb_optim_step(opt);
    fb_context_batch(ctx, NULL);
    assert_true(fb_item(t) == -3);
}

static void some_with_a_count_and_some_without_is_an_error(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *t = leaf(0);
    fb_optimizer *opt = subtract(t);
    sum_over(t, 1, 1);
    fb_backward(fb_mul_scalar(t, 1));
    assert_int_equal(fb_optim_step(opt), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "some gave a count and some did not");
}

static void a_count_is_one_number_that_is_not_negative(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    bool host = !strcmp(fb_context_device(ctx), "cpu");
    fb_tensor *t = leaf(0);
    fb_optimizer *opt = subtract(t);
    fb_status st = sum_over(t, 1, -3);
    if (!host) { /* nobody waits to look at it, but the step is not applied, and then it is told */
        fb_optim_step(opt);
        fb_optim_steps(opt);
    }
    assert_int_equal(st, host ? FB_E_ARG : FB_OK);
    check_error(ctx, FB_E_ARG,
                host ? "fb_backward: count is -3"
                     : "fb_optim_step: a count given to fb_backward was negative or not finite");
    assert_true(fb_item(t) == 0);
    fb_tensor *two = fb_ones(ctx, FB_I64, FB_SHAPE(2));
    fb_backward_with(fb_mul_scalar(t, 1), FB_OPTS(fb_backward_options, .count = two));
    check_error(ctx, FB_E_SHAPE, "count must be one number, for instance of I64; it is I64 [2]");
}

static void keep_line(const char *line, void *user)
{
    snprintf(user, 256, "%s", line);
}

static void a_norm_that_is_not_finite_skips_the_step(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    char line[256] = "";
    fb_tensor *t = leaf(1);
    fb_optimizer *opt = subtract(t);
    fb_optim_clip_norm(opt, 1);
    fb_log_set(keep_line, line);
    fb_backward(fb_mul_scalar(t, INFINITY));
    fb_optim_step(opt);
    assert_int_equal(fb_optim_steps(opt), 0); /* a device is asked what it found */
    fb_log_set(NULL, NULL);
    check_ok(ctx);
    assert_non_null(strstr(line, "optim_step: the norm of the gradients is inf; the step is "
                                 "skipped"));
    assert_true(fb_item(t) == 1);
    fb_backward(fb_mul_scalar(t, 0.5)); /* and training goes on */
    fb_optim_step(opt);
    assert_true(fabs(fb_item(t) - 0.5) < 1e-5);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_sum_is_divided_by_its_count),
        T(micro_batches_of_different_size_add_up),
        T(ignored_targets_count_nothing),
        T(what_a_backward_did_not_reach_is_divided_by_its_count_too),
        T(models_count_apart),
        T(giving_up_an_accumulation_forgets_its_count),
        T(clipping_sees_the_divided_gradient),
        T(weights_may_be_counted),
        T(a_step_that_counted_nothing_is_not_applied),
        T(a_filler_contributes_nothing),
        T(some_with_a_count_and_some_without_is_an_error),
        T(a_count_is_one_number_that_is_not_negative),
        T(a_norm_that_is_not_finite_skips_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
