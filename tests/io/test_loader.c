#include "tests/io/io_test_priv.h"

#include <flambeau/core/tensor/tensor.h>

#include "io/loader_priv.h"

static int counts[SAMPLES];

static int make_sample(void *user, int64_t index, void *const *out)
{
    (void)user;
    *(int64_t *)out[0] = index;
    return 0;
}

static fb_dataset *numbers(fb_context *ctx, int64_t n)
{
    fb_dataset_field field = {.name = "input", .dtype = FB_I64, .shape = FB_SCALAR};
    return fb_dataset_custom(ctx, n, &field, 1, make_sample, NULL);
}

static void an_epoch_gives_every_sample_once_with_shares_that_add_up(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_loader *l = fb_loader_open(
        NULL, numbers(ctx, SAMPLES),
        FB_OPTS(fb_loader_options, .global_batch = 10, .micro_batch = 4, .shuffle = true));
    assert_int_equal(fb_loader_steps(l), 11);
    memset(counts, 0, sizeof counts);
    double share = 0;
    int64_t steps = 0;
    fb_batch b;
    assert_true(fb_loader_epoch(l, 1));
    while (fb_loader_next(l, &b)) {
        FB_SCOPE(ctx);
        const int64_t *x = fb_data(b.input);
        for (int64_t i = 0; i < b.n; i++)
            counts[x[i]]++;
        share = b.at.first ? b.at.share : share + b.at.share;
        if (b.at.last) {
            assert_true(share > 1 - 1e-12 && share < 1 + 1e-12);
            assert_int_equal(b.at.step, steps++);
        }
    }
    assert_int_equal(steps, 11);
    for (int i = 0; i < SAMPLES; i++)
        assert_int_equal(counts[i], 1);
    assert_false(fb_loader_epoch(l, 1));
    assert_true(fb_loader_epoch(l, 2));
    assert_int_equal(fb_context_close(ctx), FB_OK);
}

/* Leaves of all ranks together, for R ranks: each sample once, and the same leaf whatever R. */
static void leaves_do_not_depend_on_the_number_of_ranks(void **state)
{
    (void)state;
    enum { V = 6 };
    int64_t leaf_of[SAMPLES];
    for (int ranks = 1; ranks <= V; ranks++) {
        int64_t seen = 0;
        for (int rank = 0; rank < ranks; rank++) {
            int64_t first = (int64_t)rank * V / ranks, end = (int64_t)(rank + 1) * V / ranks;
            fbi_plan plan = {.size = SAMPLES,
                             .batch = 20,
                             .leaves = V,
                             .first_leaf = first,
                             .n_leaves = end - first};
            fbi_unit u;
            while (fbi_plan_next(&plan, &u))
                for (int64_t i = u.begin; i < u.begin + u.n; i++, seen++) {
                    if (ranks == 1)
                        leaf_of[i] = u.leaf;
                    assert_int_equal(leaf_of[i], u.leaf);
                }
        }
        assert_int_equal(seen, SAMPLES);
    }
}

static void an_empty_leaf_is_there_with_share_zero(void **state)
{
    (void)state;
    fbi_plan plan = {.size = 3, .batch = 3, .leaves = 4, .n_leaves = 4};
    fbi_unit u;
    int empty = 0, units = 0;
    while (fbi_plan_next(&plan, &u)) {
        empty += u.n == 0;
        units++;
    }
    assert_int_equal(units, 4);
    assert_int_equal(empty, 1);
}

static void fields_are_scaled_and_shaped(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    char folder[64], path[128];
    make_folder(folder);
    snprintf(path, sizeof path, "%s/d.h5", folder);
    make_dataset(ctx, path);
    fb_loader *l = fb_loader_open(NULL, fb_dataset_open(ctx, path),
                                  FB_OPTS(fb_loader_options, .global_batch = 50));
    fb_batch b;
    fb_loader_rewind(l);
    assert_true(fb_loader_next(l, &b));
    check_ok(ctx);
    assert_true(fb_shape_equal(fb_shape_of(b.input), FB_SHAPE(50, 2, 3)));
    assert_int_equal(fb_dtype_of(b.target), FB_I32);
    const float *x = fb_data(b.input);
    const int32_t *y = fb_data(b.target);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(y[i], 3 * i);
        for (int k = 0; k < WIDTH; k++)
            assert_true(x[i * WIDTH + k] == 0.5f * (float)(i + k) - 1);
    }
    remove_folder(folder);
    assert_int_equal(fb_context_close(ctx), FB_OK);
}

static void a_batch_larger_than_the_dataset_is_refused(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    assert_null(
        fb_loader_open(NULL, numbers(ctx, 5), FB_OPTS(fb_loader_options, .global_batch = 6)));
    check_error(ctx, FB_E_ARG, "a batch of 6 is larger than dataset (custom) with its 5 samples");
    fb_context_close(ctx);
}

static int fail_late(void *user, int64_t index, void *const *out)
{
    return index == 7 ? 5 : make_sample(user, index, out);
}

static void a_failing_read_ends_the_epoch_with_its_message(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset_field field = {.name = "input", .dtype = FB_I64, .shape = FB_SCALAR};
    fb_dataset *ds = fb_dataset_custom(ctx, 20, &field, 1, fail_late, NULL);
    fb_loader *l = fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .global_batch = 5));
    fb_batch b;
    int n = 0;
    while (fb_loader_epoch(l, 3))
        while (fb_loader_next(l, &b))
            n++;
    assert_int_equal(n, 1);
    check_error(ctx, FB_E_USER, "the read callback failed with 5 at sample 7");
    fb_context_close(ctx);
}

static void next_outside_an_epoch_is_an_error(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_loader *l = fb_loader_open(NULL, numbers(ctx, 64), NULL);
    fb_batch b;
    assert_false(fb_loader_next(l, &b));
    check_error(ctx, FB_E_STATE, "call fb_loader_epoch or fb_loader_rewind first");
    fb_context_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_epoch_gives_every_sample_once_with_shares_that_add_up),
        cmocka_unit_test(leaves_do_not_depend_on_the_number_of_ranks),
        cmocka_unit_test(an_empty_leaf_is_there_with_share_zero),
        cmocka_unit_test(fields_are_scaled_and_shaped),
        cmocka_unit_test(a_batch_larger_than_the_dataset_is_refused),
        cmocka_unit_test(a_failing_read_ends_the_epoch_with_its_message),
        cmocka_unit_test(next_outside_an_epoch_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
