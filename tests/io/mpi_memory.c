/* ranks: 1
 * timeout: 240
 * The n-th block of memory is refused, for every n of a training step, a save, a load and a batch:
 * a message, nothing lost, and the same once more succeeds. */
#include <flambeau/comm/world.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/io/checkpoint.h>

#include "core/tensor/alloc_priv.h"
#include "tests/io/io_test_priv.h"

static fb_world *world;
static fb_context *ctx;
static char folder[64];
static fb_module *model;
static fb_optimizer *opt;
static fb_state *state;

static int set_up(void **unused)
{
    (void)unused;
    make_folder(folder);
    model = fb_nn_sequential(
        ctx, fb_nn_conv2d(ctx, 1, 3, 3, FB_OPTS(fb_conv_options, .padding = {1})),
        fb_nn_batch_norm2d(ctx, 3, NULL), fb_nn_relu(ctx), fb_nn_max_pool2d(ctx, 2, NULL),
        fb_nn_flatten(ctx), fb_nn_dropout(ctx, 0.25), fb_nn_linear(ctx, 12, 5, NULL),
        fb_nn_layer_norm(ctx, FB_SHAPE(5), NULL), fb_nn_linear(ctx, 5, 4, NULL));
    opt = fb_optim_adam(ctx, model, NULL);
    fb_optim_clip_norm(opt, 0.5);
    state = fb_state_open(ctx);
    fb_state_add(state, "model", model);
    fb_state_add(state, "optimizer", opt);
    check_ok(ctx);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    fb_state_close(state);
    fb_optim_close(opt);
    fb_nn_close(model);
    remove_folder(folder);
    return 0;
}

static void step(void)
{
    FB_SCOPE(ctx);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(6, 1, 4, 4));
    fb_tensor *y = fb_randint(ctx, 0, 4, FB_SHAPE(6));
    fb_backward(fb_cross_entropy(fb_nn_forward(model, x), y, NULL));
    fb_optim_step(opt);
}

static void save(void)
{
    fb_checkpoint_save(world, folder, state);
}

static void load(void)
{
    fb_checkpoint_resume(world, folder, state);
}

static int64_t blocks(void)
{
    fb_memory_stats s;
    assert_int_equal(fb_memory_stats_of(ctx, &s), FB_OK);
    return s.blocks;
}

/* Refuse each block of `work` in turn; how many there were. */
static int refuse_each(void (*work)(void))
{
    char text[1024];
    work(); /* what is made once is there from now on */
    check_ok(ctx);
    int64_t before = blocks();
    for (int n = 1;; n++) {
        assert_true(n < 10000);
        fbi_alloc_fail_at(ctx, n);
        work();
        fbi_alloc_fail_at(ctx, 0);
        fb_status st = fb_error_take(ctx, text, sizeof text);
        if (st == FB_OK)
            return n - 1;
        if (st != FB_E_NOMEM || !strstr(text, " wanted"))
            fail_msg("block %d: %s: \"%s\"", n, fb_status_name(st), text);
        work();
        check_ok(ctx);
        if (blocks() != before)
            fail_msg("block %d: %lld blocks were in use, now %lld", n, (long long)before,
                     (long long)blocks());
    }
}

static void any_block_of_a_training_step_may_be_refused(void **unused)
{
    (void)unused;
    int n = refuse_each(step);
    print_message("%d blocks in a step\n", n);
    assert_true(n > 20);
}

static void any_block_of_the_first_step_may_be_refused(void **unused)
{
    (void)unused;
    for (int n = 1, failed = 1; failed; n++) {
        tear_down(NULL);
        set_up(NULL);
        fbi_alloc_fail_at(ctx, n);
        step();
        fbi_alloc_fail_at(ctx, 0);
        failed = fb_error_take(ctx, NULL, 0) != FB_OK;
        step();
        check_ok(ctx);
    }
}

static void any_block_of_a_save_or_load_may_be_refused(void **unused)
{
    (void)unused;
    step();
    refuse_each(save);
    char saved[17], found[17];
    fb_state_digest(state, saved);
    step();
    refuse_each(load);
    fb_state_digest(state, found);
    assert_string_equal(found, saved);
}

static void any_block_of_a_batch_may_be_refused(void **unused)
{
    (void)unused;
    char head[128];
    snprintf(head, sizeof head, "%s/train.h5", folder);
    make_dataset(ctx, head);
    int refused = 0;
    for (int n = 1, failed = 1; failed; n++) {
        fb_loader *loader = fb_loader_open(fb_world_group(world), fb_dataset_open(ctx, head),
                                           FB_OPTS(fb_loader_options, .global_batch = 10));
        check_ok(ctx);
        fb_batch b;
        fbi_alloc_fail_at(ctx, n);
        fb_loader_rewind(loader);
        for (bool more = true; more;) {
            FB_SCOPE(ctx);
            more = fb_loader_next(loader, &b);
        }
        fbi_alloc_fail_at(ctx, 0);
        char text[1024];
        fb_status st = fb_error_take(ctx, text, sizeof text);
        if (st && (st != FB_E_NOMEM || !strstr(text, " wanted")))
            fail_msg("block %d: %s: \"%s\"", n, fb_status_name(st), text);
        failed = st != FB_OK;
        refused += failed;
        fb_loader_close(loader);
    }
    assert_true(refused > 10);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(any_block_of_a_training_step_may_be_refused),
        CASE(any_block_of_the_first_step_may_be_refused),
        CASE(any_block_of_a_save_or_load_may_be_refused),
        CASE(any_block_of_a_batch_may_be_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
