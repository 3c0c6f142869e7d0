/* ranks: 1 2 3
 * What a manifest says of the run, and what a resumed run says of it. */
#include <jansson.h>

#include <flambeau/comm/world.h>
#include <flambeau/core/ops/create.h>

#include "comm/group_priv.h"
#include "core/ops/backend.h"
#include "io/checkpoint_priv.h"
#include "tests/io/io_test_priv.h"

static fb_world *world;
static fb_group *all;
static fb_context *ctx;
static char folder[64], path[128]; /* the same on every rank; path: of the checkpoint */
static char lines[4096];           /* what went to the log */

static void take_line(const char *line, void *user)
{
    (void)user;
    size_t at = strlen(lines);
    snprintf(lines + at, sizeof lines - at, "%s\n", line);
}

static void meet(void)
{
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

/* A checkpoint of one number. */
static int set_up(void **unused)
{
    (void)unused;
    if (fb_world_root(world))
        make_folder(folder);
    if (fbi_group_broadcast(all, "test", folder, sizeof folder, 0))
        return 1;
    int64_t step = 3;
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "step", &step);
    assert_int_equal(fb_checkpoint_save(world, folder, s), FB_OK);
    snprintf(path, sizeof path, "%s/step-000000000", folder);
    *lines = '\0';
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    meet();
    if (fb_world_root(world))
        remove_folder(folder);
    return 0;
}

static int64_t resume(void)
{
    int64_t step = 0;
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "step", &step);
    assert_int_equal(fb_checkpoint_resume(world, folder, s), FB_OK);
    fb_state_close(s);
    return step;
}

/* Another value in the manifest's "run", with a right checksum; NULL removes it. */
static void change(const char *key, json_t *value)
{
    if (fb_world_root(world)) {
        char name[160], hex[17];
        snprintf(name, sizeof name, "%s/manifest.json", path);
        json_t *root = json_load_file(name, 0, NULL);
        if (value)
            json_object_set(json_object_get(root, "run"), key, value);
        else
            json_object_del(json_object_get(root, "run"), key);
        assert_true(fbi_manifest_hash(root, hex));
        json_object_set_new(root, "xxh3", json_string(hex));
        assert_int_equal(json_dump_file(root, name, 0), 0);
        json_decref(root);
    }
    json_decref(value);
    meet();
}

static void a_manifest_says_what_decides_the_bits(void **unused)
{
    (void)unused;
    char name[160], onednn[32];
    snprintf(name, sizeof name, "%s/manifest.json", path);
    json_t *root = json_load_file(name, 0, NULL), *run = json_object_get(root, "run");
    fbi_dnn_version(onednn, sizeof onednn);
    assert_string_equal(json_string_value(json_object_get(run, "onednn")), onednn);
    assert_string_equal(json_string_value(json_object_get(run, "kernels")),
                        fbi_cpu_kernels_of(ctx));
    assert_string_equal(json_string_value(json_object_get(run, "flambeau")), "0.1.0");
    assert_string_equal(json_string_value(json_object_get(run, "device")), "cpu");
    assert_true(strlen(json_string_value(json_object_get(run, "processor"))) > 0);
    assert_true(strlen(json_string_value(json_object_get(run, "compiler"))) > 0);
    assert_int_equal(json_integer_value(json_object_get(run, "ranks")), fb_world_size(world));
    assert_int_equal(json_integer_value(json_object_get(run, "shards")), 4);
    assert_int_equal(json_integer_value(json_object_get(run, "threads")), 1);
    assert_int_equal(json_integer_value(json_object_get(run, "seed")), 11);
    assert_int_equal(json_integer_value(json_object_get(root, "format")), 2);
    assert_int_equal(strlen(json_string_value(json_object_get(root, "saved"))), 20);
    json_decref(root);
}

static void the_same_run_resumes_without_a_note(void **unused)
{
    (void)unused;
    assert_int_equal(resume(), 3);
    assert_string_equal(lines, "");
}

static void another_run_is_told_once_that_its_bits_differ_and_why(void **unused)
{
    (void)unused;
    change("shards", json_integer(8));
    change("kernels", json_string("v9"));
    change("ranks", json_integer(64)); /* changes no bits */
    assert_int_equal(resume(), 3);
    check_ok(ctx);
    if (!fb_world_root(world)) {
        assert_string_equal(lines, "");
        return;
    }
    assert_non_null(strstr(lines, "note: checkpoint "));
    assert_non_null(strstr(lines, "not with the bits that it would have had: "));
    assert_non_null(strstr(lines, "kernels was \"v9\", is \""));
    assert_non_null(strstr(lines, "shards was 8, is 4"));
    assert_null(strstr(lines, "ranks"));
}

static void a_manifest_that_says_less_is_read_without_a_note(void **unused)
{
    (void)unused;
    change("processor", NULL);
    change("draws", NULL);
    assert_int_equal(resume(), 3);
    assert_string_equal(lines, "");
}

static void random_numbers_go_on_where_the_saved_run_stopped(void **unused)
{
    (void)unused;
    int64_t step = 1;
    float want[4], got[4];
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "step", &step);
    fb_checkpoint_save(world, folder, s);
    fb_read(fb_randn(ctx, FB_F32, FB_SHAPE(4)), want, sizeof want);
    fb_read(fb_randn(ctx, FB_F32, FB_SHAPE(4)), got, sizeof got);
    assert_true(memcmp(want, got, sizeof want) != 0);
    resume();
    fb_read(fb_randn(ctx, FB_F32, FB_SHAPE(4)), got, sizeof got);
    assert_memory_equal(want, got, sizeof want);
}

static void ranks_with_other_objects_in_their_state_are_named(void **unused)
{
    (void)unused;
    int64_t step = 0, more = 0;
    fb_state *s = fb_state_open(ctx), *s2 = fb_state_open(ctx);
    fb_state_add(s, "a", &step);
    fb_state_add(s, "b", &more);
    fb_checkpoint_save(world, folder, s);
    bool last = fb_world_rank(world) == fb_world_size(world) - 1;
    fb_state_add(s2, last ? "b" : "a", &step);
    fb_state_add(s2, last ? "a" : "b", &more);
    fb_status st = fb_checkpoint_resume(world, folder, s2);
    if (fb_world_size(world) == 1) {
        assert_int_equal(st, FB_OK);
        return;
    }
    assert_int_equal(st, FB_E_ARG);
    check_error(ctx, FB_E_ARG, "has other objects than that of rank 0");
}

static void a_misfit_of_one_rank_is_told_to_all(void **unused)
{
    (void)unused;
    int who = fb_world_size(world) - 1;
    int64_t step = 0, other = 5;
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "step", &step);
    if (fb_world_rank(world) == who)
        fb_state_add(s, "other", &other);
    assert_int_equal(fb_checkpoint_resume(world, folder, s), FB_E_SHAPE);
    char name[32];
    snprintf(name, sizeof name, "rank %d (", who);
    if (fb_world_rank(world) != who)
        assert_non_null(strstr(fb_error_message(ctx), name));
    check_error(ctx, FB_E_SHAPE, "other is not in it");
    assert_int_equal(step, 0);
}

static void a_checkpoint_that_is_not_there_is_named_on_every_rank(void **unused)
{
    (void)unused;
    int64_t step = 0;
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "step", &step);
    assert_int_equal(fb_checkpoint_load(world, "/nowhere/step-1", s), FB_E_IO);
    check_error(ctx, FB_E_IO, "checkpoint /nowhere/step-1: manifest.json: ");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    world = fb_world_open_with(
        &argc, &argv,
        FB_OPTS(fb_world_options, .shards = 4, .threads = 1, .seed = 11, .log = take_line));
    all = fb_world_group(world);
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(a_manifest_says_what_decides_the_bits),
        CASE(the_same_run_resumes_without_a_note),
        CASE(another_run_is_told_once_that_its_bits_differ_and_why),
        CASE(a_manifest_that_says_less_is_read_without_a_note),
        CASE(random_numbers_go_on_where_the_saved_run_stopped),
        CASE(ranks_with_other_objects_in_their_state_are_named),
        CASE(a_misfit_of_one_rank_is_told_to_all),
        CASE(a_checkpoint_that_is_not_there_is_named_on_every_rank),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
