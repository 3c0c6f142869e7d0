/* ranks: 1 2 3 */
#include <flambeau/comm/world.h>

#include "comm/group_priv.h"
#include "io/dataset_priv.h"
#include "tests/io/io_test_priv.h"

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
        make_dataset(ctx, path);
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

/* An error of rank `who`: there as it is, elsewhere with the name of the rank. */
static void check_told(int who, fb_status status, const char *text)
{
    char want[512], name[32];
    snprintf(name, sizeof name, "rank %d (", who);
    if (rank != who)
        assert_non_null(strstr(fb_error_message(ctx), name));
    snprintf(want, sizeof want, "%s", text);
    check_error(ctx, status, want);
}

static void every_rank_reads_what_rank_0_has_looked_at(void **unused)
{
    (void)unused;
    fb_dataset *ds = fb_dataset_open_shared(all, path);
    check_ok(ctx);
    assert_int_equal(fb_dataset_size(ds), SAMPLES);
    assert_string_equal(fb_dataset_field_at(ds, 0).name, "input");
    assert_true(fb_dataset_field_at(ds, 0).scale == 0.5);
    if (rank != 0)
        assert_int_equal(ds->n_open, 0); /* the labels came with the message */
    unsigned char x[WIDTH];
    int32_t y;
    char text[256];
    for (int64_t i = 0; i < SAMPLES; i++) {
        assert_int_equal(fbi_dataset_fetch(ds, i, (void *const[]){x, &y}, NULL, text, sizeof text),
                         0);
        assert_int_equal(y, 3 * i);
        assert_int_equal(x[WIDTH - 1], (i + WIDTH - 1) & 255);
    }
    assert_int_equal(fb_dataset_check(ds), FB_OK);
}

static void a_missing_file_is_an_error_on_every_rank(void **unused)
{
    (void)unused;
    assert_null(fb_dataset_open_shared(all, "/nowhere/train.h5"));
    check_told(0, FB_E_NOT_FOUND, "dataset /nowhere/train.h5: No such file");
}

static void a_damaged_shard_is_an_error_on_every_rank(void **unused)
{
    (void)unused;
    char shard[512];
    if (rank == 0) {
        shard_path(folder, 1, shard);
        assert_int_equal(truncate(shard, 100), 0);
    }
    assert_null(fb_dataset_open_shared(all, path));
    check_told(0, FB_E_IO, "-00001.h5 is 100 bytes, the head says");
}

static void ranks_that_open_different_files_are_named(void **unused)
{
    (void)unused;
    char other[160];
    snprintf(other, sizeof other, "%s/train%d.h5", folder, rank);
    fb_dataset *ds = fb_dataset_open_shared(all, rank ? other : path);
    if (size == 1) {
        assert_non_null(ds);
        return;
    }
    assert_null(ds);
    check_error(ctx, FB_E_ARG, "all ranks must open the same");
}

/* --- loaders --- */

static int make_number(void *user, int64_t index, void *const *out)
{
    (void)user;
    *(int64_t *)out[0] = index;
    return 0;
}

static fb_dataset *numbers(int64_t n, fb_dtype dtype)
{
    fb_dataset_field field = {.name = "input", .dtype = dtype, .shape = FB_SCALAR};
    return fb_dataset_custom(ctx, n, &field, 1, make_number, NULL);
}

static void loader_differs(fb_dataset *ds, const fb_loader_options *o, const char *text)
{
    fb_loader *l = fb_loader_open(all, ds, o);
    if (size == 1) {
        assert_non_null(l);
        return;
    }
    assert_null(l);
    check_error(ctx, FB_E_ARG, text);
}

static void ranks_that_disagree_about_a_loader_are_told_in_what(void **unused)
{
    (void)unused;
    bool last = rank == size - 1;
    char text[128];
    loader_differs(numbers(last ? 90 : 80, FB_I64), NULL,
                   "do not have the same dataset (number of samples): 90 and 80");
    loader_differs(numbers(80, last ? FB_F64 : FB_I64), NULL,
                   "do not have the same dataset (fields)");
    snprintf(text, sizeof text, "rank %d (", size - 1);
    loader_differs(numbers(80, FB_I64), FB_OPTS(fb_loader_options, .global_batch = last ? 20 : 10),
                   text);
    loader_differs(numbers(80, FB_I64), FB_OPTS(fb_loader_options, .shuffle = last),
                   "do not have the same shuffle: 1 and 0");
    loader_differs(numbers(80, FB_I64), FB_OPTS(fb_loader_options, .seed = last ? 7 : 8),
                   "do not have the same seed: 7 and 8");
}

static void datasets_of_the_same_form_and_other_content_are_told_apart(void **unused)
{
    (void)unused;
    char other[160];
    snprintf(other, sizeof other, "%s/other.h5", folder);
    if (rank == 0)
        make_dataset(ctx, other);
    assert_int_equal(fb_world_barrier(world), FB_OK);
    loader_differs(fb_dataset_open(ctx, rank == size - 1 ? other : path), NULL,
                   "do not have the same dataset (id)");
}

static void a_rank_without_the_dataset_is_named_to_the_others(void **unused)
{
    (void)unused;
    int who = size - 1;
    fb_dataset *ds = fb_dataset_open(ctx, rank == who ? "/nowhere/train.h5" : path);
    assert_null(fb_loader_open(all, ds, NULL));
    check_told(who, FB_E_NOT_FOUND, "dataset /nowhere/train.h5: No such file");
}

static void a_batch_larger_than_the_dataset_is_refused_on_every_rank(void **unused)
{
    (void)unused;
    assert_null(
        fb_loader_open(all, numbers(5, FB_I64), FB_OPTS(fb_loader_options, .global_batch = 6)));
    check_error(ctx, FB_E_ARG, "a batch of 6 is larger than dataset (custom) with its 5 samples");
}

static void loaders_of_two_groups_at_a_time_are_refused(void **unused)
{
    (void)unused;
    fb_group *part = fb_group_split(all, rank % 2, rank);
    assert_non_null(part);
    fb_loader *l = fb_loader_open(all, numbers(80, FB_I64), NULL);
    assert_non_null(l);
    char text[128];
    snprintf(text, sizeof text, "batches are divided over another group of %d rank", size);
    assert_null(fb_loader_open(part, numbers(80, FB_I64), NULL));
    check_error(ctx, FB_E_STATE, text);
    fb_loader_close(l);
}

static void all_ranks_together_see_every_sample_once(void **unused)
{
    (void)unused;
    fb_loader *l = fb_loader_open(all, numbers(SAMPLES, FB_I64),
                                  FB_OPTS(fb_loader_options, .global_batch = 20, .micro_batch = 3,
                                          .shuffle = true, .seed = 4));
    check_ok(ctx);
    int64_t mine[SAMPLES] = {0}, *ours = calloc((size_t)size, sizeof mine);
    fb_batch b;
    assert_true(fb_loader_epoch(l, 1));
    while (fb_loader_next(l, &b)) {
        FB_SCOPE(ctx);
        const int64_t *x = fb_data(b.input);
        for (int64_t i = 0; i < b.n; i++)
            mine[x[i]]++;
    }
    check_ok(ctx);
    assert_int_equal(fbi_group_gather(all, "test", mine, sizeof mine, ours), FB_OK);
    for (int i = 0; i < SAMPLES; i++) {
        int64_t n = 0;
        for (int r = 0; r < size; r++)
            n += ours[r * SAMPLES + i];
        assert_int_equal(n, 1);
    }
    free(ours);
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
        CASE(every_rank_reads_what_rank_0_has_looked_at),
        CASE(a_missing_file_is_an_error_on_every_rank),
        CASE(a_damaged_shard_is_an_error_on_every_rank),
        CASE(ranks_that_open_different_files_are_named),
        CASE(ranks_that_disagree_about_a_loader_are_told_in_what),
        CASE(datasets_of_the_same_form_and_other_content_are_told_apart),
        CASE(a_rank_without_the_dataset_is_named_to_the_others),
        CASE(a_batch_larger_than_the_dataset_is_refused_on_every_rank),
        CASE(loaders_of_two_groups_at_a_time_are_refused),
        CASE(all_ranks_together_see_every_sample_once),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
