/* ranks: 1 3 */
/* Profiles of several ranks: the one that the others wait for is named, and each writes its trace.
 */
#include "tests/check.h"

#include <jansson.h>
#include <time.h>
#include <unistd.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/profile.h>
#include <flambeau/comm/world.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>

static fb_world *world;
static const double busy_s = 0.05;

/* The last rank computes before it comes; the others have nothing to do. */
static void work(fb_context *ctx, fb_group *all)
{
    FB_SCOPE(ctx);
    fb_tensor *t = fb_ones(ctx, FB_F32, FB_SHAPE(64));
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    (void)!fb_relu(t);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (fb_group_rank(all) == fb_group_size(all) - 1 &&
             (double)(now.tv_sec - begun.tv_sec) + 1e-9 * (double)(now.tv_nsec - begun.tv_nsec) <
                 busy_s);
    assert_int_equal(fb_all_reduce_(all, t, FB_SUM), FB_OK);
}

static fb_profile *profile_of_work(fb_context *ctx, fb_group *all)
{
    assert_int_equal(fb_group_barrier(all), FB_OK);
    fb_profile *p = fb_profile_open(ctx, NULL);
    assert_non_null(p);
    for (int i = 0; i < 4; i++)
        work(ctx, all);
    assert_int_equal(fb_profile_stop(p), FB_OK);
    return p;
}

static void the_rank_that_others_wait_for_is_named(void **state)
{
    (void)state;
    fb_context *ctx = fb_world_context(world);
    fb_group *all = fb_world_group(world);
    int size = fb_group_size(all), last = size - 1;
    fb_profile *p = profile_of_work(ctx, all);
    fb_profile_rank ranks[8];
    assert_int_equal(fb_profile_ranks(all, p, ranks), FB_OK);
    double still = 0, held = 0;
    for (int r = 0; r < size; r++) {
        const fb_profile_rank *k = &ranks[r];
        assert_true(k->seconds > 3 * busy_s || size == 1);
        assert_float_equal(k->seconds, k->computing + k->collectives + k->loader + k->wait, 1e-9);
        assert_true(k->stood_still <= k->collectives + 1e-3);
        still += k->stood_still;
        held += k->held_up;
        if (r == last)
            continue;
        assert_int_equal(k->most_for, last);
        assert_true(k->most_s > 2 * busy_s && k->most_s <= k->seconds);
    }
    assert_float_equal(still, held, 1e-9);
    assert_true(size == 1 || ranks[last].held_up > ranks[0].held_up);
    fb_profile_close(p);
}

static void the_table_says_who_it_is(void **state)
{
    (void)state;
    fb_context *ctx = fb_world_context(world);
    fb_group *all = fb_world_group(world);
    int size = fb_group_size(all);
    char path[256], text[8192] = "", want[64];
    fb_profile *p = profile_of_work(ctx, all);
    snprintf(path, sizeof path, "/tmp/flambeau-ranks-%d", (int)getppid());
    assert_int_equal(fb_profile_print_ranks(all, p, path), FB_OK);
    fb_profile_close(p);
    if (fb_group_rank(all))
        return;
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    unlink(path);
    snprintf(want, sizeof want, "\nrank %d ", size - 1);
    assert_true(size == 1 || (strstr(text, want) && strstr(text, " is waited for most: ")));
    snprintf(want, sizeof want, "rank %d (0.", size - 1);
    assert_true(size == 1 || strstr(text, want));
}

static void each_rank_writes_a_trace_with_its_number(void **state)
{
    (void)state;
    fb_context *ctx = fb_world_context(world);
    fb_group *all = fb_world_group(world);
    int rank = fb_group_rank(all);
    char path[256], own[256];
    fb_profile *p = profile_of_work(ctx, all);
    snprintf(path, sizeof path, "/tmp/flambeau.traces-%d.json", (int)getppid());
    if (rank)
        snprintf(own, sizeof own, "/tmp/flambeau.traces-%d.rank%d.json", (int)getppid(), rank);
    else
        memcpy(own, path, sizeof own);
    assert_int_equal(fb_profile_write_ranks(all, p, path), FB_OK);
    fb_profile_close(p);
    json_t *root = json_load_file(own, 0, NULL), *e;
    unlink(own);
    assert_non_null(root);
    int sums = 0;
    size_t i;
    json_array_foreach(json_object_get(root, "traceEvents"), i, e)
    {
        assert_int_equal(json_integer_value(json_object_get(e, "pid")), rank);
        const char *kind = json_string_value(json_object_get(e, "cat"));
        sums += kind && !strcmp(kind, "collective");
    }
    assert_true(sums >= 4);
    json_decref(root);
}

/* Last: an error of a rank is one of all. */
static void a_rank_without_a_profile_is_named(void **state)
{
    (void)state;
    fb_context *ctx = fb_world_context(world);
    fb_group *all = fb_world_group(world);
    fb_profile *p = fb_profile_open(ctx, NULL);
    fb_profile_rank ranks[8];
    bool last = fb_group_rank(all) == fb_group_size(all) - 1;
    assert_int_equal(fb_profile_ranks(all, last ? NULL : p, ranks), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_profile_ranks: the profile is NULL");
    fb_profile_close(p);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rank_that_others_wait_for_is_named),
        cmocka_unit_test(the_table_says_who_it_is),
        cmocka_unit_test(each_rank_writes_a_trace_with_its_number),
        cmocka_unit_test(a_rank_without_a_profile_is_named),
    };
    world = fb_world_open(&argc, &argv);
    if (!world)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
