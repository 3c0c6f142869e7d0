/* ranks: 1 2 3 4 */
#include <math.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/world.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/parallel/ddp.h>

#include "tests/check.h"

enum { SAMPLES = 24, IN = 3 };

static fb_world *world;
static fb_context *ctx;
static fb_group *all;

/* Sample i is (i, 2 i, 1) / 10 for every rank. */
static fb_tensor *samples(int64_t begin, int64_t n)
{
    float x[SAMPLES * IN];
    for (int64_t i = 0; i < n; i++) {
        x[i * IN] = (float)(begin + i) / 10;
        x[i * IN + 1] = (float)(begin + i) / 5;
        x[i * IN + 2] = 0.1f;
    }
    return fb_from(ctx, FB_F32, FB_SHAPE(n, IN), x);
}

/* This rank's part of the samples; the mean over a part, weighted by its share. */
static void backward_of_part(fb_module *m)
{
    int r = fb_world_rank(world), size = fb_world_size(world);
    int64_t begin = (int64_t)SAMPLES * r / size, end = (int64_t)SAMPLES * (r + 1) / size;
    fb_batch_info at = {
        .shard = r, .first = true, .last = true, .share = (double)(end - begin) / SAMPLES};
    fb_context_batch(ctx, &at);
    fb_tensor *y = fb_nn_forward(m, samples(begin, end - begin));
    fb_backward(fb_mean(fb_mul(y, y), FB_ALL, false));
}

static void a_step_is_that_of_one_process_with_all_samples(void **state)
{
    (void)state;
    fb_module *m = fb_nn_linear(ctx, IN, 2, NULL), *alone = fb_nn_clone(m);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 0.1));
    fb_optimizer *own = fb_optim_sgd(ctx, alone, FB_OPTS(fb_sgd_options, .lr = 0.1));
    assert_int_equal(fb_ddp_attach(all, m, NULL), FB_OK);
    for (int i = 0; i < 3; i++) {
        FB_SCOPE(ctx);
        backward_of_part(m);
        fb_optim_step(opt);
        fb_context_batch(ctx, NULL);
        fb_tensor *y = fb_nn_forward(alone, samples(0, SAMPLES));
        fb_backward(fb_mean(fb_mul(y, y), FB_ALL, false));
        fb_optim_step(own);
    }
    check_ok(ctx);
    const float *a = fb_data(fb_nn_param(m, "weight")), *b = fb_data(fb_nn_param(alone, "weight"));
    for (int i = 0; i < 2 * IN; i++)
        assert_true(fabsf(a[i] - b[i]) <= 1e-5f * (1 + fabsf(b[i])));
    fb_ddp_stats stats;
    assert_int_equal(fb_ddp_stats_of(m, &stats), FB_OK);
    assert_int_equal(stats.steps, 3);
}

static void every_rank_starts_from_rank_zeros_values(void **state)
{
    (void)state;
    fb_module *m = fb_nn_linear(ctx, IN, 2, NULL);
    fb_nn_materialize(m);
    fb_fill_(fb_nn_param(m, "bias"), 10.0 + fb_world_rank(world));
    fb_ddp_attach(all, m, NULL);
    assert_true(((const float *)fb_data(fb_nn_param(m, "bias")))[0] == 10);
}

static fb_status find_running_mean(const char *name, fb_tensor *t, void *user)
{
    if (!strcmp(name, "running_mean"))
        *(fb_tensor **)user = t;
    return FB_OK;
}

static void running_statistics_are_the_mean_over_ranks(void **state)
{
    (void)state;
    fb_module *m = fb_nn_batch_norm1d(ctx, IN, NULL);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, NULL);
    fb_ddp_attach(all, m, NULL);
    {
        FB_SCOPE(ctx);
        backward_of_part(m);
        fb_optim_step(opt);
        fb_context_batch(ctx, NULL);
    }
    check_ok(ctx);
    double mean = 0; /* of column 0 over all samples */
    for (int i = 0; i < SAMPLES; i++)
        mean += i / 10.0 / SAMPLES;
    fb_tensor *running = NULL;
    fb_nn_each_buffer(m, find_running_mean, &running);
    assert_non_null(running);
    assert_true(fabs((double)((const float *)fb_data(running))[0] - 0.1 * mean) < 1e-6);
}

static void a_differing_parameter_is_named(void **state)
{
    (void)state;
    if (fb_world_size(world) == 1)
        return;
    bool odd = fb_world_rank(world) == 1;
    fb_module *m = fb_nn_sequential(ctx, fb_nn_linear(ctx, IN, 4, NULL),
                                    fb_nn_linear(ctx, 4, odd ? 5 : 2, NULL));
    assert_int_equal(fb_ddp_attach(all, m, NULL), FB_E_COMM);
    check_error(ctx, FB_E_COMM,
                "rank 1 has 1.weight F32 [5, 4] where rank 0 has 1.weight F32 [2, 4]: do all ranks "
                "build the same model?");
}

static void attaching_twice_is_an_error(void **state)
{
    (void)state;
    fb_module *m = fb_nn_linear(ctx, IN, 2, NULL);
    fb_ddp_attach(all, m, NULL);
    check_ok(ctx);
    assert_int_equal(fb_ddp_attach(all, m, NULL), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "is attached to a group already");
}

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    all = fb_world_group(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_is_that_of_one_process_with_all_samples),
        cmocka_unit_test(every_rank_starts_from_rank_zeros_values),
        cmocka_unit_test(running_statistics_are_the_mean_over_ranks),
        cmocka_unit_test(attaching_twice_is_an_error),
        cmocka_unit_test(a_differing_parameter_is_named),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
