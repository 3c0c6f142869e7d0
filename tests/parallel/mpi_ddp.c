/* ranks: 1 2 3 4 */
#include <math.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/world.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/parallel/ddp.h>

#include "comm/group_priv.h"
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
    const float *a = check_data(fb_nn_param(m, "weight")),
                *b = check_data(fb_nn_param(alone, "weight"));
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
    assert_true(((const float *)check_data(fb_nn_param(m, "bias")))[0] == 10);
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
    assert_true(fabs((double)((const float *)check_data(running))[0] - 0.1 * mean) < 1e-6);
}

static fb_status add_bytes(const char *name, fb_tensor *t, void *user)
{
    char **at = user;
    size_t bytes = (size_t)fb_numel(t) * fb_dtype_size(fb_dtype_of(t));
    fb_status st = fb_read(t, *at, bytes);
    (void)name;
    *at += bytes;
    return st;
}

/* Of two models' values: equal bits, or, where NCCL sums in its own order, about so. */
static void check_equal(const char *a, const char *b, size_t bytes)
{
    if (!all->link) {
        assert_memory_equal(a, b, bytes);
        return;
    }
    for (size_t i = 0; i < bytes; i += sizeof(float)) {
        float x, y;
        memcpy(&x, a + i, sizeof x);
        memcpy(&y, b + i, sizeof y);
        assert_true(fabsf(x - y) <= 1e-5f * (1 + fabsf(y)));
    }
}

/* Gradients arrive once, drop-outs are drawn again, statistics are taken once. */
static void checkpointed_modules_have_the_bits_of_plain_ones(void **state)
{
    (void)state;
    static char bytes[2][4096];
    fb_module *m[2];
    m[0] =
        fb_nn_sequential(ctx, fb_nn_linear(ctx, IN, 8, NULL),
                         fb_nn_sequential(ctx, fb_nn_batch_norm1d(ctx, 8, NULL), fb_nn_tanh(ctx),
                                          fb_nn_dropout(ctx, 0.3), fb_nn_linear(ctx, 8, 8, NULL)),
                         fb_nn_linear(ctx, 8, 2, NULL));
    m[1] = fb_nn_clone(m[0]);
    assert_int_equal(fb_nn_checkpoint(m[1], "1", true), FB_OK);
    size_t n[2];
    for (int k = 0; k < 2; k++) {
        fb_optimizer *opt = fb_optim_sgd(ctx, m[k], FB_OPTS(fb_sgd_options, .lr = 0.1));
        assert_int_equal(fb_ddp_attach(all, m[k], NULL), FB_OK);
        for (int i = 0; i < 3; i++) {
            FB_SCOPE(ctx);
            backward_of_part(m[k]);
            fb_optim_step(opt);
            fb_context_batch(ctx, NULL);
        }
        check_ok(ctx);
        char *at = bytes[k];
        assert_int_equal(fb_nn_each_param(m[k], add_bytes, &at), FB_OK);
        assert_int_equal(fb_nn_each_buffer(m[k], add_bytes, &at), FB_OK);
        n[k] = (size_t)(at - bytes[k]);
    }
    assert_int_equal(n[0], n[1]);
    check_equal(bytes[0], bytes[1], n[0]);
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

/* Two paths, of which each rank may use either: loss = sum of a parameter, times `weight`. */
typedef struct forked {
    fb_tensor *left, *right;
} forked;
static const fb_field forked_fields[] = {FB_PARAM(forked, left), FB_PARAM(forked, right), {0}};
static const fb_module_type forked_type = {
    .name = "forked", .size = sizeof(forked), .fields = forked_fields};

static fb_module *make_forked(void)
{
    forked f = {fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(3), fb_init_constant(1)),
                fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(100), fb_init_constant(1))};
    return fb_nn_new(ctx, &forked_type, &f);
}

static void backward_through(fb_module *m, const char *path, double weight)
{
    FB_SCOPE(ctx);
    fb_backward(fb_mul_scalar(fb_sum(fb_nn_param(m, path), FB_ALL, false), weight));
}

static float gradient_at(fb_module *m, const char *path)
{
    fb_tensor *g = fb_grad_of(fb_nn_param(m, path));
    return g ? ((const float *)check_data(g))[0] : NAN;
}

static void gradients_are_averages_as_soon_as_backward_returns(void **state)
{
    (void)state;
    fb_module *m = make_forked();
    fb_ddp_attach(all, m, NULL);
    backward_through(m, "left", 1 + fb_world_rank(world));
    check_ok(ctx);
    assert_true(fabsf(gradient_at(m, "left") - (float)(fb_world_size(world) + 1) / 2) < 1e-6f);
}

static void what_no_rank_used_has_no_gradient_and_does_not_move(void **state)
{
    (void)state;
    fb_module *m = make_forked();
    fb_optimizer *opt =
        fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 0.1, .weight_decay = 0.5));
    fb_ddp_attach(all, m, FB_OPTS(fb_ddp_options, .bucket_bytes = 4));
    backward_through(m, "left", 1);
    fb_optim_step(opt);
    check_ok(ctx);
    assert_null(fb_grad_of(fb_nn_param(m, "right")));
    assert_true(((const float *)check_data(fb_nn_param(m, "right")))[99] == 1);
    assert_true(((const float *)check_data(fb_nn_param(m, "left")))[0] < 0.9f);
}

static void what_one_rank_used_moves_on_all(void **state)
{
    (void)state;
    int size = fb_world_size(world);
    fb_module *m = make_forked();
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_ddp_attach(all, m, FB_OPTS(fb_ddp_options, .bucket_bytes = 4));
    backward_through(m, fb_world_rank(world) == size - 1 ? "right" : "left", size);
    fb_optim_step(opt);
    check_ok(ctx);
    assert_true(fabsf(((const float *)check_data(fb_nn_param(m, "right")))[5] - 0) < 1e-6f);
}

static void a_frozen_parameter_is_not_sent(void **state)
{
    (void)state;
    fb_module *m = make_forked();
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_ddp_attach(all, m, FB_OPTS(fb_ddp_options, .bucket_bytes = 4));
    fb_nn_freeze(m, "right");
    backward_through(m, "left", 1);
    fb_optim_step(opt);
    check_ok(ctx);
    fb_ddp_stats stats;
    fb_ddp_stats_of(m, &stats);
    assert_int_equal(stats.buckets, 1);
    assert_int_equal(stats.early, 1);
    assert_true(((const float *)check_data(fb_nn_param(m, "right")))[0] == 1);
}

static void without_sync_passes_accumulate_until_the_step(void **state)
{
    (void)state;
    fb_module *m = make_forked();
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_ddp_attach(all, m, NULL);
    assert_int_equal(fb_ddp_no_sync(m, true), FB_OK);
    backward_through(m, "left", 1);
    backward_through(m, "left", 2.0 + fb_world_rank(world));
    assert_true(fabsf(gradient_at(m, "left") - (float)(3 + fb_world_rank(world))) < 1e-6f);
    fb_optim_step(opt);
    check_ok(ctx);
    float want = 3 + (float)(fb_world_size(world) - 1) / 2;
    assert_true(fabsf(((const float *)check_data(fb_nn_param(m, "left")))[0] - (1 - want)) < 1e-5f);
}

static void a_second_backward_adds_to_the_sums(void **state)
{
    (void)state;
    fb_module *m = make_forked();
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_optim_keep_grad(opt, true);
    fb_ddp_attach(all, m, NULL);
    backward_through(m, "left", 1.0 + fb_world_rank(world));
    backward_through(m, "left", 1);
    float want = 1 + (float)(fb_world_size(world) + 1) / 2;
    assert_true(fabsf(gradient_at(m, "left") - want) < 1e-5f);
    fb_optim_step(opt); /* the gradients stay, and the next ones are added */
    backward_through(m, "left", 1);
    assert_true(fabsf(gradient_at(m, "left") - (want + 1)) < 1e-5f);
    fb_optim_zero_grad(opt);
    backward_through(m, "left", 1);
    assert_true(fabsf(gradient_at(m, "left") - 1) < 1e-5f);
    check_ok(ctx);
}

static void two_models_step_in_turn(void **state)
{
    (void)state;
    fb_module *a = make_forked(), *b = make_forked();
    fb_optimizer *step_a = fb_optim_sgd(ctx, a, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_optimizer *step_b = fb_optim_sgd(ctx, b, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_ddp_attach(all, a, NULL);
    fb_ddp_attach(all, b, NULL);
    for (int i = 0; i < 2; i++) {
        FB_SCOPE(ctx);
        fb_optim_zero_grad(step_a);
        backward_through(a, "left", 1);
        fb_optim_step(step_a);
        fb_optim_zero_grad(step_b);
        /* through both: a's gradients are summed too, and thrown away by the next zero_grad */
        fb_backward(fb_mul(fb_sum(fb_nn_param(a, "left"), FB_ALL, false),
                           fb_sum(fb_nn_param(b, "left"), FB_ALL, false)));
        fb_optim_step(step_b);
    }
    check_ok(ctx);
    assert_true(((const float *)check_data(fb_nn_param(a, "left")))[0] == -1);
    /* a's sums were 0 and -3 when b stepped */
    assert_true(((const float *)check_data(fb_nn_param(b, "left")))[0] == 4);
}

static void ranks_at_different_steps_are_told(void **state)
{
    (void)state;
    if (fb_world_size(world) == 1)
        return;
    fb_module *m = make_forked();
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_ddp_attach(all, m, NULL);
    int r = fb_world_rank(world);
    fb_batch_info at = {
        .step = 7 + (r == 1), .shard = r, .first = true, .last = true, .share = 0.1};
    fb_context_batch(ctx, &at);
    backward_through(m, "left", 1);
    assert_int_equal(fb_optim_step(opt), FB_E_COMM);
    check_error(ctx, FB_E_COMM, "at step 8 of epoch 0");
    assert_true(((const float *)check_data(fb_nn_param(m, "left")))[0] == 1); /* not applied */
    fb_context_batch(ctx, NULL);
}

static void a_shard_of_another_rank_is_refused(void **state)
{
    (void)state;
    fb_module *m = make_forked();
    fb_ddp_attach(all, m, NULL);
    fb_batch_info at = {.shard = fb_world_size(world), .first = true, .last = true, .share = 0.1};
    fb_context_batch(ctx, &at);
    backward_through(m, "left", 1);
    check_error(ctx, FB_E_STATE, "ddp: backward of shard");
    fb_context_batch(ctx, NULL);
    fb_world_barrier(world);
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

/* --- parameters in BF16 --- */

typedef struct half {
    fb_tensor *w;
} half;
static const fb_field half_fields[] = {FB_PARAM(half, w), {0}};
static fb_tensor *half_forward(fb_module *m, fb_tensor *x)
{
    half *h = fb_nn_self(m);
    return fb_to(fb_mul(h->w, x), FB_F32);
}
static const fb_module_type half_type = {
    .name = "Half", .size = sizeof(half), .fields = half_fields, .forward = half_forward};

/* 64 steps of 1/4096 times the mean over ranks of rank + 1: each alone is less than what BF16 tells
 * from 1. */
static void halves_are_trained_through_their_masters(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    enum { STEPS = 64 };
    half h = {fb_nn_declare_param(ctx, FB_BF16, FB_SHAPE(IN), fb_init_constant(1))};
    fb_module *m = fb_nn_new(ctx, &half_type, &h);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1.0 / 4096));
    fb_optim_clip_norm(opt, 1e6);
    assert_int_equal(fb_ddp_attach(all, m, NULL), FB_OK);
    fb_tensor *x = fb_full(ctx, FB_BF16, FB_SHAPE(IN), fb_world_rank(world) + 1);
    double mean = (fb_world_size(world) + 1) / 2.0;
    for (int s = 0; s < STEPS; s++) {
        fb_backward(fb_sum(fb_nn_forward(m, x), FB_ALL, false));
        fb_optim_step(opt);
    }
    float w[IN];
    assert_int_equal(fb_read(fb_to(fb_detach(fb_nn_param(m, "w")), FB_F32), w, sizeof w), FB_OK);
    assert_true((double)w[0] == 1 - STEPS * mean / 4096 && w[IN - 1] == w[0]);
    assert_true(fabs(fb_optim_grad_norm(opt) - mean * sqrt(IN)) < 0.01);
    check_ok(ctx);
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
        cmocka_unit_test(checkpointed_modules_have_the_bits_of_plain_ones),
        cmocka_unit_test(gradients_are_averages_as_soon_as_backward_returns),
        cmocka_unit_test(what_no_rank_used_has_no_gradient_and_does_not_move),
        cmocka_unit_test(what_one_rank_used_moves_on_all),
        cmocka_unit_test(a_frozen_parameter_is_not_sent),
        cmocka_unit_test(without_sync_passes_accumulate_until_the_step),
        cmocka_unit_test(a_second_backward_adds_to_the_sums),
        cmocka_unit_test(two_models_step_in_turn),
        cmocka_unit_test(ranks_at_different_steps_are_told),
        cmocka_unit_test(a_shard_of_another_rank_is_refused),
        cmocka_unit_test(attaching_twice_is_an_error),
        cmocka_unit_test(halves_are_trained_through_their_masters),
        cmocka_unit_test(a_differing_parameter_is_named),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
