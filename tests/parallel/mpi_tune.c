/* ranks: 2 */
/* labels: cudasim */
/* Ranks on simulated cards whose timings differ: they compute with rank 0's algorithms, from the
 * end of the first step on. */
#include "tests/check.h"

#include <flambeau/comm/mpi.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/init.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/parallel/ddp.h>

/* The simulated algorithms 0, 1 and 2 add 1, 1e8, -1e8 and 2 in other orders: 2, 1 and 0. */
static fb_tensor *rows(fb_context *ctx, int n)
{
    static const float row[] = {1, 1e8f, -1e8f, 2, 1, 1e8f, -1e8f, 2};
    return fb_from(ctx, FB_F32, FB_SHAPE(n, 4), row);
}

static double sum_of_a_row(fb_module *m, int n)
{
    fb_context *ctx = fb_nn_context(m);
    FB_SCOPE(ctx);
    fb_no_grad(ctx);
    return fb_item(fb_mean(fb_nn_forward(m, rows(ctx, n)), FB_ALL, false));
}

typedef struct outcome {
    double before, after, other_shape;
} outcome;

static outcome train(const fb_world_options *options)
{
    fb_world *world = fb_world_open_comm(MPI_COMM_WORLD, options);
    assert_non_null(world);
    fb_context *ctx = fb_world_context(world);
    /* what a rank times would make it choose algorithm 1 + its number */
    setenv("CUDASIM_LT_FASTEST", fb_world_rank(world) ? "2" : "1", 1);
    fb_module *m = fb_nn_linear(ctx, 4, 1, FB_OPTS(fb_linear_options, .no_bias = true));
    fb_nn_init(m, "weight", fb_init_constant(1));
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1e-30));
    fb_ddp_attach(fb_world_group(world), m, NULL);
    outcome o = {.before = sum_of_a_row(m, 1)};
    for (int step = 0; step < 2; step++) {
        fb_backward(fb_sum(fb_nn_forward(m, rows(ctx, 1)), FB_ALL, false));
        fb_optim_step(opt);
    }
    o.after = sum_of_a_row(m, 1);
    o.other_shape = sum_of_a_row(m, 2);
    check_ok(ctx);
    assert_int_equal(fb_world_close(world), FB_OK);
    return o;
}

static void ranks_take_over_what_rank_0_found_in_the_first_step(void **state)
{
    (void)state;
    outcome o = train(FB_OPTS(fb_world_options, .tune = true, .device = "cudasim"));
    assert_true(o.before == 2);
    assert_true(o.after == 1);
    assert_true(o.other_shape == 2); /* nobody has timed it: the first heuristic */
}

static void with_fixed_shards_nothing_is_timed(void **state)
{
    (void)state;
    outcome o = train(FB_OPTS(fb_world_options, .shards = 2, .tune = true, .device = "cudasim"));
    assert_true(o.before == 2 && o.after == 2 && o.other_shape == 2);
}

static void without_the_option_nothing_is_timed(void **state)
{
    (void)state;
    outcome o = train(FB_OPTS(fb_world_options, .device = "cudasim"));
    assert_true(o.before == 2 && o.after == 2 && o.other_shape == 2);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_take_over_what_rank_0_found_in_the_first_step),
        cmocka_unit_test(with_fixed_shards_nothing_is_timed),
        cmocka_unit_test(without_the_option_nothing_is_timed),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
