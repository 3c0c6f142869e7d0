/* ranks: 1 2 3 4
 * What the ranks tell each other at a step: counts, and gradients that are not finite. */
#include <math.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/world.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/base/log.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/optim/scaler.h>
#include <flambeau/parallel/ddp.h>

#include "tests/check.h"

enum { IN = 5, OUT = 3, MOST = 29, STEPS = 4 };

static fb_world *world;
static fb_context *ctx;
static fb_group *all;

static double input(int step, int64_t i, int k)
{
    return sin(0.7 * (double)(i + 1) * (k + 1) + step);
}

/* Every third target does not count; of sample 1 neither. */
static int64_t target(int step, int64_t i)
{
    return (i + step) % 3 == 2 || i == 1 ? -100 : (i * 7 + step) % OUT;
}

/* --- the reference: softmax regression in double, all samples at once --- */

typedef struct reference {
    double w[OUT][IN], b[OUT];
} reference;

static void reference_step(reference *r, int step, int64_t n, double lr)
{
    double gw[OUT][IN] = {{0}}, gb[OUT] = {0}, counted = 0;
    for (int64_t i = 0; i < n; i++) {
        double z[OUT], sum = 0;
        if (target(step, i) < 0)
            continue;
        counted++;
        for (int o = 0; o < OUT; o++) {
            z[o] = r->b[o];
            for (int k = 0; k < IN; k++)
                z[o] += r->w[o][k] * input(step, i, k);
            sum += exp(z[o]);
        }
        for (int o = 0; o < OUT; o++) {
            double d = exp(z[o]) / sum - (target(step, i) == o);
            gb[o] += d;
            for (int k = 0; k < IN; k++)
                gw[o][k] += d * input(step, i, k);
        }
    }
    for (int o = 0; o < OUT && counted > 0; o++) {
        r->b[o] -= lr * gb[o] / counted;
        for (int k = 0; k < IN; k++)
            r->w[o][k] -= lr * gw[o][k] / counted;
    }
}

/* Samples begin .. begin + n as one micro-batch: a sum, and how many targets it is over. */
static void backward_of(fb_module *m, int step, int64_t begin, int64_t n)
{
    float x[MOST * IN];
    int64_t y[MOST], counted = 0;
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k < IN; k++)
            x[i * IN + k] = (float)input(step, begin + i, k);
        y[i] = target(step, begin + i);
        counted += y[i] >= 0;
    }
    fb_tensor *loss = fb_cross_entropy(fb_nn_forward(m, fb_from(ctx, FB_F32, FB_SHAPE(n, IN), x)),
                                       fb_from(ctx, FB_I64, FB_SHAPE(n), y),
                                       FB_OPTS(fb_cross_entropy_options, .reduction = FB_LOSS_SUM));
    fb_backward_with(
        loss, FB_OPTS(fb_backward_options, .count = fb_from(ctx, FB_I64, FB_SCALAR, &counted)));
}

/* This rank's part of a step, in micro-batches of two samples, the last one uneven. An empty part
 * is filled with one sample that has no share. */
static void part_of_step(fb_module *m, fb_optimizer *opt, int step, int64_t total)
{
    int r = fb_world_rank(world), size = fb_world_size(world);
    int64_t begin = total * r / size, end = total * (r + 1) / size;
    for (int64_t at = begin; at == begin || at < end; at += 2) {
        FB_SCOPE(ctx);
        int64_t n = end - at < 2 ? end - at : 2;
        fb_batch_info info = {.step = step,
                              .shard = r,
                              .first = at == begin,
                              .last = at + 2 >= end,
                              .share = (double)n / (double)total};
        fb_context_batch(ctx, &info);
        backward_of(m, step, at, n ? n : 1);
        fb_optim_step(opt);
    }
    fb_context_batch(ctx, NULL);
}

static void a_step_is_divided_by_all_that_all_ranks_counted(void **state)
{
    (void)state;
    static const int64_t totals[STEPS] = {MOST, 13, 2, 3}; /* at the end ranks have no sample */
    fb_module *m = fb_nn_linear(ctx, IN, OUT, NULL);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 0.5));
    fb_ddp_attach(all, m, NULL);
    reference r;
    const float *w = check_data(fb_nn_param(m, "weight")), *b = check_data(fb_nn_param(m, "bias"));
    for (int o = 0; o < OUT; o++) {
        r.b[o] = (double)b[o];
        for (int k = 0; k < IN; k++)
            r.w[o][k] = (double)w[o * IN + k];
    }
    for (int step = 0; step < STEPS; step++) {
        part_of_step(m, opt, step, totals[step]);
        reference_step(&r, step, totals[step], 0.5);
    }
    check_ok(ctx);
    w = check_data(fb_nn_param(m, "weight"));
    b = check_data(fb_nn_param(m, "bias"));
    for (int o = 0; o < OUT; o++) {
        assert_true(fabs((double)b[o] - r.b[o]) < 1e-5);
        for (int k = 0; k < IN; k++)
            assert_true(fabs((double)w[o * IN + k] - r.w[o][k]) < 1e-5);
    }
}

/* Without a loader: each rank's backward sums over rank + 1 samples of gradient 2. */
static void without_a_loader_sums_are_not_averaged(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    int64_t mine = fb_world_rank(world) + 1;
    fb_module *m = fb_nn_linear(ctx, 1, 1, NULL);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_optim_clip_norm(opt, 100);
    fb_ddp_attach(all, m, NULL);
    fb_tensor *w = fb_nn_param(m, "weight");
    double before = fb_item(w);
    fb_backward_with(fb_mul_scalar(fb_sum(w, FB_ALL, false), 2.0 * (double)mine),
                     FB_OPTS(fb_backward_options, .count = fb_from(ctx, FB_I64, FB_SCALAR, &mine)));
    int size = fb_world_size(world);
    assert_true(fb_item(fb_grad_of(w)) == size * (size + 1));
    fb_optim_step(opt);
    check_ok(ctx);
    assert_true(fabs(fb_item(w) - (before - 2)) < 1e-6);
    assert_true(fabs(fb_optim_grad_norm(opt) - 2) < 1e-6);
}

static void ranks_must_all_count_or_none(void **state)
{
    (void)state;
    if (fb_world_size(world) == 1)
        return;
    FB_SCOPE(ctx);
    int64_t one = 1;
    fb_module *m = fb_nn_linear(ctx, 1, 1, NULL);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_ddp_attach(all, m, NULL);
    fb_backward_with(
        fb_sum(fb_nn_param(m, "weight"), FB_ALL, false),
        FB_OPTS(fb_backward_options,
                .count = fb_world_rank(world) == 1 ? NULL : fb_from(ctx, FB_I64, FB_SCALAR, &one)));
    assert_int_equal(fb_optim_step(opt), FB_E_STATE);
    check_error(ctx, FB_E_STATE,
                "a backward of rank 0 gave a count and one of rank 1 did not; all backwards of a "
                "step must, or none");
}

/* --- not finite --- */

static void keep_line(const char *line, void *user)
{
    snprintf(user, 256, "%s", line);
}

/* One rank's gradient is `bad`; nobody applies the step, and the next one is as if it had not
 * been. */
static void check_skipped(double bad, int who, bool clip)
{
    FB_SCOPE(ctx);
    char line[256] = "";
    fb_module *m =
        fb_nn_sequential(ctx, fb_nn_batch_norm1d(ctx, 2, NULL), fb_nn_linear(ctx, 2, 2, NULL));
    fb_optimizer *opt = fb_optim_adam(ctx, m, NULL);
    if (clip)
        fb_optim_clip_norm(opt, 1);
    fb_ddp_attach(all, m, NULL);
    fb_module *twin = fb_nn_clone(m);
    fb_optimizer *twin_opt = fb_optim_adam(ctx, twin, NULL);
    if (clip)
        fb_optim_clip_norm(twin_opt, 1);
    fb_ddp_attach(all, twin, NULL);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(4, 2));
    fb_log_set(keep_line, line);
    fb_backward(fb_mul_scalar(fb_mean(fb_nn_forward(m, x), FB_ALL, false),
                              fb_world_rank(world) == who ? bad : 1));
    assert_int_equal(fb_optim_step(opt), FB_OK);
    assert_int_equal(fb_optim_steps(opt), 0); /* a device is asked what it found */
    fb_log_set(NULL, NULL);
    if (fb_world_root(world))
        assert_string_equal(line, "optim_step: the gradient of 1.bias is not finite; the step is "
                                  "skipped");
    fb_module *both[] = {m, twin};
    fb_optimizer *steps[] = {opt, twin_opt};
    for (int k = 0; k < 2; k++) {
        fb_tensor *y = fb_nn_forward(both[k], x);
        fb_backward(fb_mean(fb_mul(y, y), FB_ALL, false));
        fb_optim_step(steps[k]);
        assert_int_equal(fb_optim_steps(steps[k]), 1);
    }
    check_ok(ctx);
    static const char *const names[] = {"0.weight", "0.bias", "1.weight", "1.bias"};
    for (int i = 0; i < 4; i++) {
        fb_tensor *a = fb_nn_param(m, names[i]), *b = fb_nn_param(twin, names[i]);
        assert_memory_equal(check_data(a), check_data(b), (size_t)fb_numel(a) * sizeof(float));
    }
    fb_ddp_stats stats;
    fb_ddp_stats_of(m, &stats);
    assert_int_equal(stats.skipped, 1);
    assert_int_equal(stats.steps, 2);
}

static void a_gradient_that_is_not_finite_skips_the_step_on_all_ranks(void **state)
{
    (void)state;
    int last = fb_world_size(world) - 1;
    check_skipped((double)INFINITY, last, false);
    check_skipped((double)NAN, 0, false);
    check_skipped((double)-INFINITY, 0, true);
}

static fb_status find_running_mean(const char *name, fb_tensor *t, void *user)
{
    if (!strcmp(name, "0.running_mean"))
        *(fb_tensor **)user = t;
    return FB_OK;
}

/* The sample is bad, so the loss and the batch's mean are: neither gets into the model. */
static void running_statistics_stay_finite(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    char line[256] = "";
    fb_module *m = fb_nn_sequential(ctx, fb_nn_batch_norm1d(ctx, 1, NULL));
    fb_optimizer *opt = fb_optim_sgd(ctx, m, NULL);
    fb_ddp_attach(all, m, NULL);
    bool last = fb_world_rank(world) == fb_world_size(world) - 1;
    fb_log_set(keep_line, line);
    fb_tensor *x = fb_full(ctx, FB_F32, FB_SHAPE(4, 1), last ? (double)NAN : 1);
    fb_backward(fb_sum(fb_nn_forward(m, x), FB_ALL, false));
    fb_optim_step(opt);
    assert_int_equal(fb_optim_steps(opt), 0);
    fb_log_set(NULL, NULL);
    check_ok(ctx);
    fb_tensor *mean = NULL;
    fb_nn_each_buffer(m, find_running_mean, &mean);
    assert_non_null(mean);
    assert_true(((const float *)check_data(mean))[0] == 0);
    if (fb_world_root(world))
        assert_non_null(strstr(line, "not finite; the step is skipped"));
}

/* One rank's gradients overflow because of the scale: all skip the step, and halve it. */
static void a_scale_that_is_too_large_falls_on_all_ranks(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    char line[256] = "";
    fb_module *m = fb_nn_sequential(ctx, fb_nn_linear(ctx, 2, 2, NULL));
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_ddp_attach(all, m, NULL);
    fb_scaler *scaler = fb_optim_scaler(opt, FB_OPTS(fb_scaler_options, .scale = 65536));
    fb_tensor *x = fb_zeros(ctx, FB_F32, FB_SHAPE(1, 2)), *bias = fb_nn_param(m, "0.bias");
    float before[2], after[2];
    double mean = 0;
    int last = fb_world_size(world) - 1;
    for (int r = 0; r <= last; r++)
        mean += (r + 1.0) / (last + 1);
    fb_read(bias, before, sizeof before);
    fb_log_set(keep_line, line);
    for (int step = 0; step < 3; step++) {
        double factor = fb_world_rank(world) == last && step == 1 ? 1e35 : fb_world_rank(world) + 1;
        fb_backward(fb_mul_scalar(fb_sum(fb_nn_forward(m, x), FB_ALL, false), factor));
        fb_optim_step(opt);
    }
    assert_int_equal(fb_optim_steps(opt), 2);
    fb_log_set(NULL, NULL);
    check_ok(ctx);
    fb_read(bias, after, sizeof after);
    assert_true(fabs((double)after[0] - ((double)before[0] - 2 * mean)) < 1e-5);
    assert_true(fb_scaler_value(scaler) == 32768);
    assert_int_equal(fb_scaler_skipped(scaler), 1);
    fb_scaler_close(scaler);
}

/* --- several passes, several optimizers --- */

/* One optimizer for the weight, one for the bias of the same model. */
static void two_optimizers_share_a_model(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    int64_t count = 2;
    fb_module *m = fb_nn_linear(ctx, 1, 1, NULL);
    fb_optimizer *first = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_optimizer *second = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_optim_rule(first, "bias", FB_OPTS(fb_group_options, .frozen = true));
    fb_optim_rule(second, "weight", FB_OPTS(fb_group_options, .frozen = true));
    fb_ddp_attach(all, m, NULL);
    fb_tensor *w = fb_nn_param(m, "weight"), *b = fb_nn_param(m, "bias");
    double w0 = fb_item(w), b0 = fb_item(b);
    fb_optim_keep_grad(first, true);
    fb_backward_with(
        fb_add(fb_sum(fb_mul_scalar(w, 2), FB_ALL, false), fb_sum(b, FB_ALL, false)),
        FB_OPTS(fb_backward_options, .count = fb_from(ctx, FB_I64, FB_SCALAR, &count)));
    fb_optim_step(first);
    fb_optim_step(second);
    check_ok(ctx);
    assert_true(fabs(fb_item(w) - (w0 - 1)) < 1e-6);
    assert_true(fabs(fb_item(b) - (b0 - 0.5)) < 1e-6);
}

static void an_accumulation_can_be_given_up(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    int r = fb_world_rank(world), size = fb_world_size(world);
    fb_module *m = fb_nn_linear(ctx, 1, 1, NULL);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_ddp_attach(all, m, NULL);
    fb_tensor *w = fb_nn_param(m, "weight");
    double before = fb_item(w);
    for (int k = 0; k < 2; k++) { /* the first of two micro-batches is given up */
        int64_t count = k ? 1 : 1000;
        fb_batch_info info = {.shard = r, .first = true, .last = k, .share = 1.0 / size};
        fb_context_batch(ctx, &info);
        fb_backward_with(
            fb_mul_scalar(fb_sum(w, FB_ALL, false), k ? 1 : 1000),
            FB_OPTS(fb_backward_options, .count = fb_from(ctx, FB_I64, FB_SCALAR, &count)));
        if (!k)
            fb_optim_zero_grad(opt);
    }
    fb_optim_step(opt);
    fb_context_batch(ctx, NULL);
    check_ok(ctx);
    assert_true(fabs(fb_item(w) - (before - 1)) < 1e-6);
}

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    all = fb_world_group(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_divided_by_all_that_all_ranks_counted),
        cmocka_unit_test(without_a_loader_sums_are_not_averaged),
        cmocka_unit_test(ranks_must_all_count_or_none),
        cmocka_unit_test(a_gradient_that_is_not_finite_skips_the_step_on_all_ranks),
        cmocka_unit_test(running_statistics_stay_finite),
        cmocka_unit_test(a_scale_that_is_too_large_falls_on_all_ranks),
        cmocka_unit_test(two_optimizers_share_a_model),
        cmocka_unit_test(an_accumulation_can_be_given_up),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
