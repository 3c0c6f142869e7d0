/* ranks: 8
 * slots: 4
 * One order for any number of ranks; rings whose ranks have different numbers of samples. */
#include <flambeau/comm/world.h>

#include "comm/group_priv.h"
#include "io/loader_priv.h"
#include "tests/io/io_test_priv.h"

enum { N = 203, BATCH = 24, EPOCHS = 2, STEPS = (N + BATCH - 1) / BATCH };

static fb_world *world;
static fb_group *all;
static fb_context *ctx;
static int rank, size;

static int number(void *user, int64_t index, void *const *out)
{
    (void)user;
    *(int64_t *)out[0] = index;
    return 0;
}

static const fb_dataset_field field = {.name = "input", .dtype = FB_I64};

static fb_loader *open_numbers(fb_group *group)
{
    fb_dataset *ds = fb_dataset_custom(ctx, N, &field, 1, number, NULL);
    return fb_loader_open(
        group, ds, FB_OPTS(fb_loader_options, .global_batch = BATCH, .shuffle = true, .seed = 4));
}

/* What one process reads. */
static void read_alone(int64_t order[EPOCHS * N])
{
    fb_loader *l = open_numbers(NULL);
    fb_batch b;
    int64_t at = 0;
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        assert_true(fb_loader_epoch(l, EPOCHS));
        while (fb_loader_next(l, &b)) {
            memcpy(order + at, fb_data(b.input), (size_t)b.n * sizeof *order);
            at += b.n;
        }
    }
    assert_int_equal(at, EPOCHS * N);
    fb_loader_close(l);
}

/* This rank's part of each step is where it stands among all of the step. */
static void check_order(fb_group *group, const int64_t *order)
{
    fb_loader *l = open_numbers(group);
    fb_batch b;
    check_ok(ctx);
    for (int64_t epoch = 0, step = 0; epoch < EPOCHS; epoch++) {
        assert_true(fb_loader_epoch(l, EPOCHS));
        while (fb_loader_next(l, &b)) {
            FB_SCOPE(ctx);
            int64_t parts[8] = {0}, before = 0, total = 0;
            assert_int_equal(b.at.step, step);
            assert_int_equal(fbi_group_gather(group, "test", &b.n, sizeof b.n, parts), FB_OK);
            for (int r = 0; r < group->size; r++) {
                before += r < group->rank ? parts[r] : 0;
                total += parts[r];
            }
            assert_int_equal(total, step % STEPS == STEPS - 1 ? N % BATCH : BATCH);
            const int64_t *want = order + epoch * N + step % STEPS * BATCH + before;
            if (b.n)
                assert_memory_equal(fb_data(b.input), want, (size_t)b.n * sizeof *want);
            step++;
        }
        check_ok(ctx);
        assert_int_equal(step, (epoch + 1) * STEPS);
    }
    fb_loader_close(l);
}

static void any_number_of_ranks_reads_the_same_order(void **unused)
{
    (void)unused;
    static int64_t order[EPOCHS * N];
    read_alone(order);
    for (int ranks = 1; ranks <= size; ranks++) {
        fb_group *group = fb_group_split(all, rank < ranks ? 0 : -1, 0);
        check_ok(ctx);
        if (group)
            check_order(group, order);
        assert_int_equal(fb_world_barrier(world), FB_OK);
    }
}

/* --- rings --- */

/* Rank r has pushed 3 r samples: the first has none at all. */
static fb_loader *open_uneven(bool drop_last)
{
    fb_dataset *ring = fb_dataset_ring(ctx, 100, &field, 1, NULL);
    for (int64_t i = 0; i < 3 * rank + drop_last; i++) {
        int64_t value = 1000 * rank + i;
        assert_int_equal(fb_dataset_push(ring, 1, (const void *const[]){&value}), FB_OK);
    }
    return fb_loader_open(
        all, ring, FB_OPTS(fb_loader_options, .global_batch = 2 * size, .drop_last = drop_last));
}

static void every_sample_of_uneven_ranks_comes_once(void **unused)
{
    (void)unused;
    fb_loader *l = open_uneven(false);
    fb_batch b;
    int64_t seen = 0, steps = 0;
    assert_true(fb_loader_epoch(l, 1));
    check_ok(ctx);
    assert_int_equal(fb_loader_steps(l), (3 * (size - 1) + 1) / 2);
    while (fb_loader_next(l, &b)) {
        FB_SCOPE(ctx);
        double share[8], sum = 0;
        const int64_t *x = fb_data(b.input);
        for (int64_t i = 0; i < b.n; i++)
            assert_int_equal(x[i], 1000 * rank + seen + i);
        if (!b.n)
            assert_int_equal(fb_numel(b.input), 1); /* a leaf that counts for nothing */
        seen += b.n;
        assert_int_equal(fbi_group_gather(all, "test", &b.at.share, sizeof share[0], share), FB_OK);
        for (int r = 0; r < size; r++)
            sum += share[r];
        assert_true(sum > 1 - 1e-12 && sum < 1 + 1e-12);
        assert_true(b.at.batch == steps++);
    }
    check_ok(ctx);
    assert_int_equal(seen, 3 * rank);
    assert_int_equal(steps, (3 * (size - 1) + 1) / 2);
    fb_loader_close(l);
}

static void with_drop_last_the_epoch_ends_with_the_first_rank_that_has_run_out(void **unused)
{
    (void)unused;
    fb_loader *l = open_uneven(true); /* the first rank has one sample, a step needs two */
    fb_batch b;
    assert_true(fb_loader_epoch(l, 1));
    assert_int_equal(fb_loader_steps(l), 0);
    assert_false(fb_loader_next(l, &b));
    check_ok(ctx);
    fb_loader_close(l);
}

static void a_ring_without_samples_is_told_on_all_ranks(void **unused)
{
    (void)unused;
    fb_dataset *ring = fb_dataset_ring(ctx, 100, &field, 1, NULL);
    fb_loader *l = fb_loader_open(all, ring, NULL);
    assert_false(fb_loader_epoch(l, 1));
    check_error(ctx, FB_E_STATE, "has no samples: push some before an epoch begins");
    fb_loader_close(l);
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    all = fb_world_group(world);
    ctx = fb_world_context(world);
    rank = fb_world_rank(world);
    size = fb_world_size(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_ranks_reads_the_same_order),
        cmocka_unit_test(every_sample_of_uneven_ranks_comes_once),
        cmocka_unit_test(with_drop_last_the_epoch_ends_with_the_first_rank_that_has_run_out),
        cmocka_unit_test(a_ring_without_samples_is_told_on_all_ranks),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
