/* Samples that the program pushes while it trains. */
#include "io/loader_priv.h"
#include "io/ring_priv.h"
#include "tests/io/io_test_priv.h"

enum { WIDE = 33 };

/* Sample i: i, and as many bytes i. */
static const fb_dataset_field fields[] = {
    {.name = "input", .dtype = FB_I64},
    {.name = "target", .dtype = FB_U8, .shape = {.n = 1, .d = {WIDE}}}};

static void push(fb_dataset *ring, int64_t first, int64_t n)
{
    int64_t *x = malloc((size_t)n * sizeof *x);
    uint8_t *y = malloc((size_t)n * WIDE);
    for (int64_t i = 0; i < n; i++) {
        x[i] = first + i;
        memset(y + i * WIDE, (int)(first + i), WIDE);
    }
    assert_int_equal(fb_dataset_push(ring, n, (const void *const[]){x, y}), FB_OK);
    free(x);
    free(y);
}

static fb_dataset *open_ring(fb_context *ctx, int64_t capacity, bool once)
{
    fb_dataset *ring =
        fb_dataset_ring(ctx, capacity, fields, 2, FB_OPTS(fb_ring_options, .once = once));
    check_ok(ctx);
    return ring;
}

/* The numbers of a batch; each sample has its values. */
static void take(const fb_loader *l, const fb_batch *b, int64_t *numbers)
{
    int64_t n;
    const int64_t *index = fb_loader_indices(l, &n), *x = fb_data(b->input);
    const uint8_t *y = fb_data(b->target);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(x[i], index[i]);
        for (int k = 0; k < WIDE; k++)
            assert_int_equal(y[i * WIDE + k], (uint8_t)index[i]);
        numbers[i] = index[i];
    }
}

/* An epoch of samples first .. first + n, in order. */
static void check_epoch(fb_loader *l, int64_t first, int64_t n)
{
    int64_t numbers[64], seen = 0;
    fb_batch b;
    assert_true(fb_loader_epoch(l, INT64_MAX));
    while (fb_loader_next(l, &b)) {
        take(l, &b, numbers);
        for (int64_t i = 0; i < b.n; i++)
            assert_int_equal(numbers[i], first + seen++);
    }
    check_ok(l->ctx);
    assert_int_equal(seen, n);
}

static void an_epoch_has_what_was_pushed_before_it(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset *ring = open_ring(ctx, 10, false);
    fb_loader *l = fb_loader_open(NULL, ring, FB_OPTS(fb_loader_options, .global_batch = 2));
    fb_batch b;
    int64_t numbers[2], seen = 0;
    push(ring, 0, 5);
    assert_int_equal(fb_dataset_size(ring), 5);
    assert_true(fb_loader_epoch(l, INT64_MAX));
    assert_int_equal(fb_loader_steps(l), 3);
    while (fb_loader_next(l, &b)) {
        take(l, &b, numbers);
        seen += b.n;
        if (seen == 2)
            push(ring, 5, 3);
    }
    assert_int_equal(seen, 5);
    assert_int_equal(fb_loader_epoch_number(l), 1);
    check_epoch(l, 0, 8);
    check_close(ctx);
}

static void the_oldest_give_way_but_not_those_of_the_epoch(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset *ring = open_ring(ctx, 6, false);
    fb_loader *l =
        fb_loader_open(NULL, ring, FB_OPTS(fb_loader_options, .global_batch = 2, .prefetch = 1));
    push(ring, 0, 10);
    check_epoch(l, 4, 6);
    fb_batch b;
    int64_t numbers[2], seen = 4, pushed = 10;
    assert_true(fb_loader_epoch(l, INT64_MAX));
    while (fb_loader_next(l, &b)) {
        take(l, &b, numbers);
        for (int64_t i = 0; i < b.n; i++)
            assert_int_equal(numbers[i], seen++);
        for (int k = 0; k < 5; k++) /* many times as many as there is room for */
            push(ring, pushed + 4 * k, 4);
        pushed += 20;
    }
    assert_int_equal(seen, 10);
    check_epoch(l, pushed - 6, 6);
    push(ring, pushed, 100); /* at once */
    check_epoch(l, pushed + 94, 6);
    check_close(ctx);
}

static void with_once_nothing_is_lost_and_nothing_comes_twice(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset *ring = open_ring(ctx, 6, true);
    fb_loader *l = fb_loader_open(NULL, ring, FB_OPTS(fb_loader_options, .global_batch = 4));
    const int64_t x[3] = {5, 6, 7};
    uint8_t y[3 * WIDE];
    for (int i = 0; i < 3; i++)
        memset(y + i * WIDE, 5 + i, WIDE);
    push(ring, 0, 5);
    assert_int_equal(fb_dataset_push(ring, 3, (const void *const[]){x, y}), FB_AGAIN);
    check_ok(ctx);
    assert_int_equal(fb_dataset_size(ring), 5);
    check_epoch(l, 0, 5);
    assert_int_equal(fb_dataset_size(ring), 0);
    assert_int_equal(fb_dataset_push(ring, 3, (const void *const[]){x, y}), FB_OK);
    check_epoch(l, 5, 3);
    assert_false(fb_loader_epoch(l, INT64_MAX));
    check_error(ctx, FB_E_STATE, "has no samples: push some before an epoch begins");
    push(ring, 8, 1);
    check_epoch(l, 8, 1);
    check_close(ctx);
}

/* Orders of three epochs over 20, 20 and 31 samples. */
static void record(int threads, int64_t order[71])
{
    fb_context *ctx = check_open(1);
    fb_dataset *ring = open_ring(ctx, 40, false);
    fb_loader *l = fb_loader_open(NULL, ring,
                                  FB_OPTS(fb_loader_options, .global_batch = 8, .micro_batch = 3,
                                          .shuffle = true, .seed = 9, .threads = threads));
    fb_batch b;
    int64_t at = 0;
    push(ring, 0, 20);
    for (int epoch = 0; epoch < 3; epoch++) {
        bool seen[31] = {false};
        if (epoch == 2)
            push(ring, 20, 11);
        int64_t begin = at;
        assert_true(fb_loader_epoch(l, INT64_MAX));
        for (; fb_loader_next(l, &b); at += b.n)
            take(l, &b, order + at);
        assert_int_equal(at - begin, epoch == 2 ? 31 : 20);
        for (int64_t i = begin; i < at; i++) {
            assert_false(seen[order[i]]);
            seen[order[i]] = true;
        }
    }
    check_close(ctx);
}

static void an_epoch_is_shuffled_alike_by_any_number_of_threads(void **state)
{
    (void)state;
    int64_t one[71], many[71];
    record(1, one);
    assert_memory_not_equal(one, one + 20, 20 * sizeof *one);
    for (int threads = 2; threads <= 4; threads++) {
        record(threads, many);
        assert_memory_equal(one, many, sizeof one);
    }
}

static void a_loader_that_goes_on_begins_an_epoch_with_what_is_there(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset *ring = open_ring(ctx, 10, false);
    fb_loader *l = fb_loader_open(NULL, ring, FB_OPTS(fb_loader_options, .global_batch = 4));
    l->epoch = 7; /* as from a checkpoint in the middle of an epoch */
    l->position = 8;
    l->step = 30;
    push(ring, 0, 4);
    fb_batch b;
    int64_t numbers[4];
    assert_true(fb_loader_epoch(l, 8));
    assert_true(fb_loader_next(l, &b));
    take(l, &b, numbers);
    assert_int_equal(numbers[0], 0);
    assert_int_equal(b.at.step, 30);
    assert_int_equal(b.at.epoch, 7);
    assert_false(fb_loader_next(l, &b));
    assert_false(fb_loader_epoch(l, 8));
    check_close(ctx);
}

static void *push_many(void *ring)
{
    for (int64_t i = 0; i < 500; i += 5)
        push(ring, i, 5);
    return NULL;
}

static void another_thread_may_push(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset *ring = open_ring(ctx, 20, false);
    fb_loader *l =
        fb_loader_open(NULL, ring, FB_OPTS(fb_loader_options, .global_batch = 8, .threads = 2));
    pthread_t simulation;
    push(ring, 0, 1);
    assert_int_equal(pthread_create(&simulation, NULL, push_many, ring), 0);
    for (int epoch = 0; epoch < 50; epoch++) {
        FB_SCOPE(ctx);
        fb_batch b;
        int64_t last = -1, n;
        assert_true(fb_loader_epoch(l, INT64_MAX));
        while (fb_loader_next(l, &b)) { /* whole samples, in order; pushes begin again at 0 */
            const int64_t *index = fb_loader_indices(l, &n), *x = fb_data(b.input);
            const uint8_t *y = fb_data(b.target);
            for (int64_t i = 0; i < n; i++) {
                assert_true(last < 0 || index[i] == last + 1);
                last = index[i];
                assert_int_equal(x[i], last ? last - 1 : 0);
                assert_int_equal(y[i * WIDE], (uint8_t)x[i]);
                assert_int_equal(y[(i + 1) * WIDE - 1], (uint8_t)x[i]);
            }
        }
        check_ok(ctx);
    }
    pthread_join(simulation, NULL);
    check_close(ctx);
}

static int nothing(void *user, int64_t index, void *const *out)
{
    (void)user, (void)index, (void)out;
    return 0;
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    fb_context *ctx = check_open(1);
    fb_dataset *ring = open_ring(ctx, 50, false);
    const fb_dataset_field text = {.name = "text", .dtype = FB_U8, .varies = true};
    assert_null(fb_loader_open(NULL, ring, FB_OPTS(fb_loader_options, .limit = 40)));
    check_error(ctx, FB_E_ARG, "gives what has been pushed when an epoch begins: leave limit out");
    assert_null(fb_loader_open(NULL, ring,
                               FB_OPTS(fb_loader_options, .shuffle = true, .shuffle_block = 4)));
    check_error(ctx, FB_E_ARG, "leave shuffle_block out");
    assert_null(fb_loader_open(NULL, ring, FB_OPTS(fb_loader_options, .cache = "/tmp")));
    check_error(ctx, FB_E_ARG, "a dataset of the program's own has no shards");
    assert_non_null(fb_loader_open(NULL, ring, NULL));
    assert_null(fb_loader_open(NULL, ring, NULL));
    check_error(ctx, FB_E_STATE, "dataset (ring) has a loader already: close that one first");
    assert_null(fb_dataset_ring(ctx, 0, fields, 2, NULL));
    check_error(ctx, FB_E_ARG, "room for 0 samples: at least one is needed");
    assert_null(fb_dataset_ring(ctx, 5, &text, 1, NULL));
    check_error(ctx, FB_E_UNSUPPORTED, "field text varies: samples of a ring have a fixed shape");
    assert_null(fb_dataset_sample(ring, "input", 0));
    check_error(ctx, FB_E_UNSUPPORTED, "its samples are given by a loader only");
    assert_null(fb_dataset_mix(ctx, &ring, NULL, 1, NULL));
    check_error(ctx, FB_E_ARG, "source 0 is a ring: a loader reads it alone");
    assert_int_equal(fb_dataset_push(ring, 2, (const void *const[]){&text, NULL}), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "2 samples, some of whose values are NULL");
    fb_dataset *own = fb_dataset_custom(ctx, 9, fields, 2, nothing, NULL);
    assert_int_equal(fb_dataset_push(own, 1, (const void *const[]){&text, &text}), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "samples are pushed to rings only: see fb_dataset_ring");
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_epoch_has_what_was_pushed_before_it),
        cmocka_unit_test(the_oldest_give_way_but_not_those_of_the_epoch),
        cmocka_unit_test(with_once_nothing_is_lost_and_nothing_comes_twice),
        cmocka_unit_test(an_epoch_is_shuffled_alike_by_any_number_of_threads),
        cmocka_unit_test(a_loader_that_goes_on_begins_an_epoch_with_what_is_there),
        cmocka_unit_test(another_thread_may_push),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
