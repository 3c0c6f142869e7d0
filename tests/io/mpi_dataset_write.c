/* ranks: 1 2 3 */
#include <flambeau/comm/world.h>

#include "comm/group_priv.h"
#include "io/dataset_priv.h"
#include "tests/io/io_test_priv.h"

enum { LEAST = 7 }; /* rank r writes LEAST + r samples */

static fb_world *world;
static fb_group *all;
static fb_context *ctx;
static int rank, size;
static char folder[64], path[128]; /* the same on every rank */

static int set_up(void **unused)
{
    (void)unused;
    if (rank == 0) {
        make_folder(folder);
        snprintf(path, sizeof path, "%s/train.h5", folder);
    }
    return fbi_group_broadcast(all, "test", folder, sizeof folder, 0) ||
           fbi_group_broadcast(all, "test", path, sizeof path, 0);
}

static int tear_down(void **unused)
{
    (void)unused;
    assert_int_equal(fb_world_barrier(world), FB_OK);
    if (rank == 0)
        remove_folder(folder);
    return 0;
}

static const char *const names[] = {"cat", "dog"};
static const fb_dataset_field fields[] = {
    {.name = "input", .dtype = FB_I32, .varies = true},
    {.name = "target", .dtype = FB_I64, .labels = names, .n_labels = 2}};

/* Sample k of rank r in round `round`: k + r numbers 100 r + k, and the target 1000 round + ... */
static void append(fb_dataset *ds, int round)
{
    for (int64_t k = 0; k < LEAST + rank; k++) {
        int32_t x[64];
        int64_t y = 1000 * round + 100 * rank + k, n = k + rank;
        for (int64_t i = 0; i < n; i++)
            x[i] = (int32_t)y;
        fb_dataset_append_rows(ds, 1, (const void *const[]){x, &y},
                               (const int64_t *const[]){&n, NULL});
    }
}

static int64_t check_round(fb_dataset *ds, int64_t at, int round)
{
    for (int r = 0; r < size; r++)
        for (int64_t k = 0; k < LEAST + r; k++, at++) {
            FB_SCOPE(ctx);
            int64_t y = 1000 * round + 100 * r + k;
            assert_int_equal(fb_item_int(fb_dataset_sample(ds, "target", at)), y);
            fb_tensor *x = fb_dataset_sample(ds, "input", at);
            assert_int_equal(fb_size(x, 0), k + r);
            for (int64_t i = 0; i < k + r; i++)
                assert_int_equal(((const int32_t *)fb_data(x))[i], y);
        }
    return at;
}

static fb_dataset *create(void)
{
    return fb_dataset_create(ctx, path, fields, 2,
                             FB_OPTS(fb_dataset_options, .group = all, .shard_samples = 3));
}

static void samples_of_all_ranks_lie_in_the_order_of_ranks(void **unused)
{
    (void)unused;
    fb_dataset *ds = create();
    check_ok(ctx);
    append(ds, 0);
    assert_int_equal(fb_dataset_finish(ds), FB_OK);
    fb_dataset_close(ds);
    ds = fb_dataset_open_shared(all, path);
    check_ok(ctx);
    assert_int_equal(check_round(ds, 0, 0), fb_dataset_size(ds));
    assert_int_equal(fb_dataset_field_at(ds, 0).longest, LEAST + 2 * (size - 1) - 1);
    assert_string_equal(fb_dataset_label(ds, "target", 1), "dog");
    assert_int_equal(fb_dataset_check(ds), FB_OK);
}

static void all_ranks_append_to_what_is_there(void **unused)
{
    (void)unused;
    fb_dataset *ds = create();
    append(ds, 0);
    assert_int_equal(fb_dataset_finish(ds), FB_OK);
    for (int round = 1; round < 3; round++) {
        ds = fb_dataset_extend(ctx, path, FB_OPTS(fb_dataset_options, .group = all));
        check_ok(ctx);
        append(ds, round);
        fb_dataset_set_splits(ds, &(fb_dataset_split){"few", 1, 4, 9, 0}, 1);
        assert_int_equal(fb_dataset_finish(ds), FB_OK);
    }
    ds = fb_dataset_open_shared(all, path);
    int64_t at = 0;
    for (int round = 0; round < 3; round++)
        at = check_round(ds, at, round);
    assert_int_equal(at, fb_dataset_size(ds));
    assert_int_equal(fb_dataset_select(ds, "few"), FB_OK);
    assert_int_equal(fb_dataset_size(ds), 4);
    fb_loader *l = fb_loader_open(all, ds, FB_OPTS(fb_loader_options, .global_batch = 4));
    check_ok(ctx);
    assert_int_equal(fb_loader_steps(l), 1);
}

static void ranks_without_samples_take_part(void **unused)
{
    (void)unused;
    fb_dataset *ds = create();
    if (rank == size - 1)
        append(ds, 0);
    assert_int_equal(fb_dataset_finish(ds), FB_OK);
    ds = fb_dataset_open_shared(all, path);
    check_ok(ctx);
    assert_int_equal(fb_dataset_size(ds), LEAST + size - 1);
}

static void a_rank_that_cannot_write_fails_all_of_them(void **unused)
{
    (void)unused;
    fb_dataset *ds = create();
    append(ds, 0);
    if (rank == size - 1)
        fb_fail(ctx, FB_E_USER, "no more samples");
    assert_int_not_equal(fb_dataset_finish(ds), FB_OK);
    fb_dataset_close(ds);
    check_error(ctx, FB_E_USER, "no more samples");
    assert_int_equal(fb_world_barrier(world), FB_OK);
    DIR *dir = opendir(folder); /* nothing is left */
    for (struct dirent *e; (e = readdir(dir));)
        assert_true(e->d_name[0] == '.');
    closedir(dir);
}

static void ranks_that_write_different_things_are_told(void **unused)
{
    (void)unused;
    if (size == 1)
        return;
    fb_dataset_field field = {.name = "input", .dtype = rank == size - 1 ? FB_F32 : FB_I64};
    assert_null(fb_dataset_create(ctx, path, &field, 1, FB_OPTS(fb_dataset_options, .group = all)));
    check_error(ctx, FB_E_ARG, "do not write the same path and fields");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    all = fb_world_group(world);
    ctx = fb_world_context(world);
    rank = fb_world_rank(world);
    size = fb_world_size(world);
    const struct CMUnitTest tests[] = {
        CASE(samples_of_all_ranks_lie_in_the_order_of_ranks),
        CASE(all_ranks_append_to_what_is_there),
        CASE(ranks_without_samples_take_part),
        CASE(a_rank_that_cannot_write_fails_all_of_them),
        CASE(ranks_that_write_different_things_are_told),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
