/* ranks: 1 2 3
 * What many leaves measured is saved whole; a save over one of the same step loses neither. */
#include <sys/stat.h>
#include <unistd.h>

#include <flambeau/comm/world.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/io/checkpoint.h>

#include "comm/group_priv.h"
#include "tests/io/io_test_priv.h"

enum { LEAVES = 12 };

static fb_world *world;
static fb_context *ctx;
static char folder[64]; /* the same on every rank */

static int set_up(void **unused)
{
    (void)unused;
    if (fb_world_root(world))
        make_folder(folder);
    return fbi_group_broadcast(fb_world_group(world), "test", folder, sizeof folder, 0);
}

static int tear_down(void **unused)
{
    (void)unused;
    assert_int_equal(fb_world_barrier(world), FB_OK);
    if (fb_world_root(world))
        remove_folder(folder);
    return 0;
}

/* Leaf k brings k + 1 samples of value 10 k. */
static void measure(fb_meter *meter)
{
    const fb_group *all = fb_world_group(world);
    for (int k = all->first_leaf; k < all->first_leaf + all->n_leaves; k++) {
        FB_SCOPE(ctx);
        fb_context_batch(ctx, &(fb_batch_info){.shard = k,
                                               .first = k == all->first_leaf,
                                               .last = k == all->first_leaf + all->n_leaves - 1,
                                               .share = 1.0 / LEAVES});
        fb_meter_add(meter, fb_full(ctx, FB_F32, FB_SCALAR, 10 * k), k + 1);
    }
}

static void a_meter_of_many_leaves_goes_on_where_it_was_saved(void **unused)
{
    (void)unused;
    int64_t step = 0;
    double sum = 0, count = 0;
    for (int k = 0; k < LEAVES; k++) {
        sum += 10.0 * k * (k + 1);
        count += k + 1;
    }
    fb_meter *meter = fb_meter_open(ctx, "loss");
    fb_state *state = fb_state_open(ctx);
    fb_state_add(state, "loss", meter);
    fb_state_add(state, "step", &step);
    measure(meter);
    assert_int_equal(fb_checkpoint_save(world, folder, state), FB_OK);
    char saved[17], found[17];
    fb_state_digest(state, saved);
    measure(meter);
    measure(meter);
    assert_true(fb_meter_mean(meter) == sum / count);
    assert_int_equal(fb_checkpoint_resume(world, folder, state), FB_OK);
    assert_string_equal(fb_state_digest(state, found), saved);
    fb_meter_add(meter, fb_full(ctx, FB_F32, FB_SCALAR, 0), 0);
    assert_true(fb_meter_mean(meter) == sum / count);
    check_ok(ctx);
    fb_state_close(state);
    fb_meter_close(meter);
}

static void a_failed_save_over_the_same_step_leaves_the_older_one(void **unused)
{
    (void)unused;
    int64_t value = 1;
    fb_module *m = fb_nn_linear(ctx, 2, 2, NULL);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, NULL); /* no step is done: always step 0 */
    fb_state *state = fb_state_open(ctx);
    fb_state_add(state, "model", m);
    fb_state_add(state, "optimizer", opt);
    fb_state_add(state, "value", &value);
    char block[256], data[256];
    snprintf(data, sizeof data, "%s/step-000000000/data.h5", folder);
    snprintf(block, sizeof block, "%s/step-000000000/data-2.h5", folder);
    assert_int_equal(fb_checkpoint_save(world, folder, state), FB_OK);
    if (fb_world_root(world))
        assert_int_equal(mkdir(block, 0777), 0);
    value = 2;
    assert_int_equal(fb_checkpoint_save(world, folder, state), FB_OK); /* a warning */
    assert_int_equal(fb_checkpoint_resume(world, folder, state), FB_OK);
    assert_int_equal(value, 1);
    if (fb_world_root(world))
        assert_int_equal(rmdir(block), 0);
    for (value = 3; value < 6; value++) { /* the name of the data changes to and fro */
        int64_t wanted = value;
        assert_int_equal(fb_checkpoint_save(world, folder, state), FB_OK);
        value = 99;
        assert_int_equal(fb_checkpoint_resume(world, folder, state), FB_OK);
        assert_int_equal(value, wanted);
        if (fb_world_root(world))
            assert_int_not_equal(access(data, F_OK) == 0, access(block, F_OK) == 0);
        assert_int_equal(fb_world_barrier(world), FB_OK);
    }
    check_ok(ctx);
    fb_state_close(state);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    world = fb_world_open_with(&argc, &argv, FB_OPTS(fb_world_options, .shards = LEAVES));
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(a_meter_of_many_leaves_goes_on_where_it_was_saved),
        CASE(a_failed_save_over_the_same_step_leaves_the_older_one),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
