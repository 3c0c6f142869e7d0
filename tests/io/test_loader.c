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

/* The same number as every dtype stores it. */
static void put(fb_dtype dtype, void *out, int value)
{
    switch (dtype) {
    case FB_F32:
        *(float *)out = (float)value;
        break;
    case FB_F64:
        *(double *)out = value;
        break;
    case FB_F16:
        *(uint16_t *)out = value == 0 ? 0 : value == 1 ? 0x3c00 : 0x4000; /* 0, 1, 2 */
        break;
    case FB_BF16:
        *(uint16_t *)out = value == 0 ? 0 : value == 1 ? 0x3f80 : 0x4000;
        break;
    case FB_I64:
        *(int64_t *)out = value;
        break;
    case FB_I32:
        *(int32_t *)out = value;
        break;
    case FB_I16:
    case FB_U16:
        *(int16_t *)out = (int16_t)value;
        break;
    default:
        *(int8_t *)out = (int8_t)value;
    }
}

typedef struct stored {
    fb_dtype dtype;
} stored;

static int make_stored(void *user, int64_t index, void *const *out)
{
    put(((stored *)user)->dtype, out[0], (int)(index % 3));
    put(((stored *)user)->dtype, out[1], (int)(index % 3));
    return 0;
}

static void every_dtype_is_scaled_to_f32_or_given_as_it_is(void **state)
{
    (void)state;
    for (int d = FB_F32; d < FB_DTYPE_COUNT; d++) {
        fb_context *ctx = check_open(1);
        stored kind = {.dtype = (fb_dtype)d};
        fb_dataset_field fields[] = {
            {.name = "input", .dtype = kind.dtype, .shape = FB_SCALAR, .scale = 3, .shift = -0.5},
            {.name = "target", .dtype = kind.dtype, .shape = FB_SCALAR}};
        fb_dataset *ds = fb_dataset_custom(ctx, 6, fields, 2, make_stored, &kind);
        fb_loader *l = fb_loader_open(NULL, ds, FB_OPTS(fb_loader_options, .global_batch = 6));
        fb_batch b;
        fb_loader_rewind(l);
        assert_true(fb_loader_next(l, &b));
        assert_int_equal(fb_dtype_of(b.input), FB_F32);
        assert_int_equal(fb_dtype_of(b.target), d);
        const float *x = fb_data(b.input);
        for (int i = 0; i < 6; i++) {
            char want[8] = {0}, got[48];
            put(kind.dtype, want, i % 3);
            fb_read(b.target, got, 6 * fb_dtype_size(kind.dtype));
            size_t bytes = fb_dtype_size(kind.dtype);
            assert_memory_equal(got + (size_t)i * bytes, want, bytes);
            if (d != FB_BOOL) /* a BOOL is 0 or 1 */
                assert_true(x[i] == 3 * (float)(i % 3) - 0.5f);
        }
        check_close(ctx);
    }
}

/* --- position --- */

typedef struct seen {
    int of[SAMPLES]; /* how often, each position of the epoch */
    int leaf[SAMPLES];
} seen;

static void walk(seen *s, int64_t position, int64_t end, int ranks)
{
    enum { V = 6 };
    for (int rank = 0; rank < ranks; rank++) {
        int64_t first = (int64_t)rank * V / ranks, past = (int64_t)(rank + 1) * V / ranks;
        fbi_plan plan = {.size = SAMPLES,
                         .batch = 20,
                         .leaves = V,
                         .micro = 2,
                         .first_leaf = first,
                         .n_leaves = past - first,
                         .position = position};
        fbi_unit u;
        while (fbi_plan_next(&plan, &u) && u.position < end)
            for (int64_t i = u.begin; i < u.begin + u.n; i++) {
                s->of[i]++;
                s->leaf[i] = (int)u.leaf;
            }
    }
}

static void an_epoch_that_other_ranks_go_on_with_is_the_same_epoch(void **state)
{
    (void)state;
    static seen whole, parts;
    walk(&whole, 0, SAMPLES, 1);
    for (int before = 1; before <= 6; before++)
        for (int after = 1; after <= 6; after++) {
            memset(&parts, 0, sizeof parts);
            walk(&parts, 0, 40, before);
            walk(&parts, 40, SAMPLES, after);
            assert_memory_equal(&parts, &whole, sizeof whole);
        }
}

static void shares_of_an_uneven_tail_are_its_samples_over_all(void **state)
{
    (void)state;
    enum { V = 4 };
    fbi_plan plan = {.size = 23, .batch = 16, .leaves = V, .n_leaves = V, .position = 16};
    fbi_unit u;
    int64_t n = 0;
    for (int leaf = 0; leaf < V; leaf++) {
        assert_true(fbi_plan_next(&plan, &u));
        assert_int_equal(u.step_n, 7);
        assert_true(u.n == 1 || u.n == 2);
        n += u.n;
    }
    assert_int_equal(n, 7);
    assert_true(u.last);
    assert_false(fbi_plan_next(&plan, &u));
}

static void a_position_outside_of_the_dataset_is_told(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_loader *l = fb_loader_open(NULL, numbers(ctx, 64), NULL);
    l->position = 96; /* as from a checkpoint */
    assert_false(fb_loader_epoch(l, 2));
    check_error(ctx, FB_E_STATE, "position 96 lies outside of the 64 samples");
    fb_context_close(ctx);
}

/* --- the thread --- */

static int count_reads(void *user, int64_t index, void *const *out)
{
    atomic_fetch_add((atomic_int *)user, 1);
    *(int64_t *)out[0] = index;
    return 0;
}

static void it_reads_no_further_ahead_than_asked_for(void **state)
{
    (void)state;
    enum { N = 1000, BATCH = 10, AHEAD = 2 };
    fb_context *ctx = check_open(1);
    atomic_int reads = 0;
    fb_dataset_field field = {.name = "input", .dtype = FB_I64, .shape = FB_SCALAR};
    fb_dataset *ds = fb_dataset_custom(ctx, N, &field, 1, count_reads, &reads);
    fb_loader *l = fb_loader_open(
        NULL, ds, FB_OPTS(fb_loader_options, .global_batch = BATCH, .prefetch = AHEAD));
    fb_batch b;
    fb_memory_stats first = {0}, now;
    assert_true(fb_loader_epoch(l, 1));
    for (int taken = 1; fb_loader_next(l, &b); taken++) {
        assert_true(atomic_load(&reads) <= (taken + AHEAD) * BATCH);
        fb_memory_stats_of(ctx, &now);
        if (taken == 2)
            first = now;
        else if (taken > 2)
            assert_int_equal(now.in_use, first.in_use); /* batches do not pile up */
    }
    assert_int_equal(atomic_load(&reads), N);
    check_close(ctx);
}

/* An epoch of 10^12 samples goes on in its middle: nobody can have walked there. */
static void any_position_is_reached_without_what_lies_before_it(void **state)
{
    (void)state;
    enum { BATCH = 10, AHEAD = 2 };
    const int64_t n = INT64_C(1000000000000), places[] = {0, n / 2, n - BATCH};
    fb_dataset_field field = {.name = "input", .dtype = FB_I64, .shape = FB_SCALAR};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        fb_context *ctx = check_open(1);
        atomic_int reads = 0;
        fb_loader *l =
            fb_loader_open(NULL, fb_dataset_custom(ctx, n, &field, 1, count_reads, &reads),
                           FB_OPTS(fb_loader_options, .global_batch = BATCH, .shuffle = true,
                                   .seed = 5, .prefetch = AHEAD));
        fb_batch b;
        int64_t count;
        l->position = places[i]; /* as from a checkpoint */
        assert_true(fb_loader_epoch(l, 1));
        assert_true(fb_loader_next(l, &b));
        assert_true(atomic_load(&reads) <= (1 + AHEAD) * BATCH);
        fbi_order order = fbi_order_make(n, 5, 0);
        const int64_t *index = fb_loader_indices(l, &count);
        assert_int_equal(count, BATCH);
        for (int64_t k = 0; k < BATCH; k++)
            assert_int_equal(index[k], fbi_order_at(&order, places[i] + k));
        check_close(ctx);
    }
}

static void closing_in_the_middle_of_anything_ends_the_thread(void **state)
{
    (void)state;
    enum { BEFORE, WITHIN, REWOUND, OVER, MOMENTS };
    for (int when = BEFORE; when < MOMENTS; when++) {
        fb_context *ctx = check_open(1);
        fb_loader *l =
            fb_loader_open(NULL, numbers(ctx, 64), FB_OPTS(fb_loader_options, .global_batch = 4));
        fb_batch b;
        if (when != BEFORE)
            assert_true(fb_loader_epoch(l, 1) && fb_loader_next(l, &b));
        if (when == REWOUND)
            fb_loader_rewind(l);
        while (when == OVER && fb_loader_next(l, &b))
            continue;
        if (when % 2)
            fb_loader_close(l); /* else the context does */
        check_close(ctx);
    }
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
        cmocka_unit_test(every_dtype_is_scaled_to_f32_or_given_as_it_is),
        cmocka_unit_test(an_epoch_that_other_ranks_go_on_with_is_the_same_epoch),
        cmocka_unit_test(shares_of_an_uneven_tail_are_its_samples_over_all),
        cmocka_unit_test(a_position_outside_of_the_dataset_is_told),
        cmocka_unit_test(it_reads_no_further_ahead_than_asked_for),
        cmocka_unit_test(any_position_is_reached_without_what_lies_before_it),
        cmocka_unit_test(closing_in_the_middle_of_anything_ends_the_thread),
        cmocka_unit_test(a_batch_larger_than_the_dataset_is_refused),
        cmocka_unit_test(a_failing_read_ends_the_epoch_with_its_message),
        cmocka_unit_test(next_outside_an_epoch_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
