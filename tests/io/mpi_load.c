/* ranks: 1 2
 * Parts of a checkpoint, under other names; the best one; checkpoints of every format there was. */
#include <unistd.h>

#include <flambeau/comm/world.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/io/checkpoint.h>

#include "comm/group_priv.h"
#include "io/checkpoint_priv.h"
#include "io/load_priv.h"
#include "tests/io/io_test_priv.h"

static fb_world *world;
static fb_context *ctx;
static char folder[64], path[128]; /* the same on every rank */

static int set_up(void **unused)
{
    (void)unused;
    if (fb_world_root(world))
        make_folder(folder);
    fb_status st = fbi_group_broadcast(fb_world_group(world), "test", folder, sizeof folder, 0);
    snprintf(path, sizeof path, "%s/step-000000000", folder);
    return st;
}

static int tear_down(void **unused)
{
    (void)unused;
    assert_int_equal(fb_world_barrier(world), FB_OK);
    if (fb_world_root(world))
        remove_folder(folder);
    return 0;
}

static fb_tensor *filled(float value)
{
    return fb_full(ctx, FB_F32, FB_SHAPE(2), value);
}

/* "a" 1, "b" 2, "n" 3. */
static void save_three(void)
{
    int64_t n = 3;
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "a", filled(1));
    fb_state_add(s, "b", filled(2));
    fb_state_add(s, "n", &n);
    assert_int_equal(fb_checkpoint_save(world, folder, s), FB_OK);
    fb_state_close(s);
    check_ok(ctx);
}

static void has_value(fb_tensor *t, float want)
{
    float found[2];
    assert_int_equal(fb_read(t, found, sizeof found), FB_OK);
    assert_true(found[0] == want && found[1] == want);
}

static void a_rule_changes_names_and_the_first_one_counts(void **unused)
{
    (void)unused;
    const fb_rename rules[] = {{"encoder.*.gamma", "model/*.weight"},
                               {"encoder.*", "model/*"},
                               {"head", "model/9.weight"},
                               {"*.unused", NULL},
                               {0}};
    const char *const names[][2] = {{"encoder.0.gamma", "model/0.weight"},
                                    {"encoder.0.beta", "model/0.beta"},
                                    {"head", "model/9.weight"},
                                    {"header", "header"},
                                    {"encoder.", "model/"},
                                    {"a.unused", NULL},
                                    {"encoder.unused", "model/unused"},
                                    {"unused", "unused"}};
    char out[64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool kept = fbi_rename(rules, names[i][0], out, sizeof out);
        assert_int_equal(kept, names[i][1] != NULL);
        if (kept)
            assert_string_equal(out, names[i][1]);
    }
    assert_false(fbi_rename(NULL, "longer than eight", out, 8));
}

static void tensors_are_loaded_under_other_names(void **unused)
{
    (void)unused;
    int64_t n = 0;
    save_three();
    fb_load_report report;
    fb_state *s = fb_state_open(ctx);
    fb_tensor *x = filled(0), *y = filled(0);
    fb_state_add(s, "x", x);
    fb_state_add(s, "y", y);
    fb_state_add(s, "count", &n);
    const fb_rename rules[] = {{"a", "y"}, {"b", "x"}, {"n", "count"}, {0}};
    assert_int_equal(
        fb_checkpoint_load_with(world, path, s,
                                FB_OPTS(fb_load_options, .rename = rules, .report = &report)),
        FB_OK);
    check_ok(ctx);
    has_value(x, 2);
    has_value(y, 1);
    assert_int_equal(n, 3);
    assert_int_equal(report.loaded, 3);
    assert_int_equal(report.missing + report.unexpected, 0);
}

static void what_may_be_missing_stays_as_it_is(void **unused)
{
    (void)unused;
    save_three();
    fb_load_report report;
    fb_state *s = fb_state_open(ctx);
    fb_tensor *a = filled(0), *fresh = filled(5);
    fb_state_add(s, "a", a);
    fb_state_add(s, "new", fresh);
    assert_int_equal(fb_checkpoint_load_with(world, path, s, NULL), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "new is not in it");
    assert_int_equal(fb_world_barrier(world), FB_OK);
    assert_int_equal(
        fb_checkpoint_load_with(world, path, s,
                                FB_OPTS(fb_load_options, .allow_missing = "n*", .report = &report)),
        FB_OK);
    has_value(a, 1);
    has_value(fresh, 5);
    assert_int_equal(report.loaded, 1);
    assert_int_equal(report.missing, 1);
}

static void what_the_program_lacks_is_an_error_unless_it_is_allowed(void **unused)
{
    (void)unused;
    fb_module *two =
        fb_nn_sequential(ctx, fb_nn_linear(ctx, 2, 2, NULL), fb_nn_linear(ctx, 2, 2, NULL));
    fb_module *one = fb_nn_sequential(ctx, fb_nn_linear(ctx, 2, 2, NULL));
    fb_state *saved = fb_state_open(ctx), *s = fb_state_open(ctx);
    fb_state_add(saved, "model", two);
    fb_state_add(s, "model", one);
    assert_int_equal(fb_checkpoint_save(world, folder, saved), FB_OK);
    fb_load_report report;
    const fb_load_options allow = {.allow_unexpected = "model/1.*", .report = &report};
    assert_int_equal(fb_checkpoint_load(world, path, s), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "model/1.weight is in it and not in the program");
    assert_int_equal(fb_world_barrier(world), FB_OK);
    assert_int_equal(fb_checkpoint_load_with(world, path, s, &allow), FB_OK);
    assert_int_equal(report.loaded, 2);
    assert_int_equal(report.unexpected, 2);
    const fb_rename drop[] = {{"model/1.*", NULL}, {0}};
    assert_int_equal(
        fb_checkpoint_load_with(world, path, s, FB_OPTS(fb_load_options, .rename = drop)), FB_OK);
    check_ok(ctx);
}

/* Saves 1 to 5 of which the second is the best: it stays beside the newest two. */
static void the_best_one_stays(void **unused)
{
    (void)unused;
    int64_t n = 0;
    char found[256], want[128];
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "n", &n);
    for (n = 0; n < 5; n++)
        assert_int_equal(
            fb_checkpoint_save_with(world, folder, s,
                                    FB_OPTS(fb_checkpoint_options, .keep = 2, .best = n == 1)),
            FB_OK);
    if (fb_world_root(world)) {
        const bool there[] = {false, true, false, true, true};
        for (int i = 0; i < 5; i++) {
            snprintf(want, sizeof want, "%s/step-%09d", folder, i);
            assert_int_equal(access(want, F_OK) == 0, there[i]);
        }
        snprintf(want, sizeof want, "%s/step-000000001", folder);
        assert_true(fb_checkpoint_best(folder, found, sizeof found));
        assert_string_equal(found, want);
        assert_false(fb_checkpoint_best("/proc/nowhere", found, sizeof found));
    }
    assert_int_equal(fb_world_barrier(world), FB_OK);
    check_ok(ctx);
}

/* --- files --- */

static size_t save_note(void *user, void *out, size_t bytes)
{
    size_t n = strlen(user);
    if (out && n <= bytes)
        memcpy(out, user, n);
    return n;
}

static int load_note(void *user, const void *data, size_t bytes)
{
    snprintf(user, 32, "%.*s", (int)bytes, (const char *)data);
    return 0;
}

/* Rows that are short, rows that are long, one element, none, bytes of the program. */
static fb_state *many_shapes(char note[32], int64_t *n)
{
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "rows", fb_rand(ctx, FB_F32, FB_SHAPE(1000, 7)));
    fb_state_add(s, "long", fb_rand(ctx, FB_F64, FB_SHAPE(2, 5, 3001)));
    fb_state_add(s, "bytes", fb_randint(ctx, 0, 255, FB_SHAPE(33)));
    fb_state_add(s, "scalar", fb_full(ctx, FB_F32, FB_SCALAR, 3));
    fb_state_add(s, "none", fb_zeros(ctx, FB_F32, FB_SHAPE(0, 4)));
    fb_state_add(s, "n", n);
    fb_state_add_custom(s, "note", save_note, load_note, note);
    return s;
}

static void values_in_any_number_of_files_are_the_same(void **unused)
{
    (void)unused;
    static const int64_t counts[] = {1, 2, 3, 7, 40};
    char note[32] = "a note", other[32] = "", dir[128], from[160], text[512], want[17], found[17];
    int64_t n = 5, m = 0;
    fb_state *s = many_shapes(note, &n);
    assert_int_equal(fb_checkpoint_save(world, folder, s), FB_OK);
    fb_state_digest(s, want);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        snprintf(dir, sizeof dir, "%s/in-%lld", folder, (long long)counts[i]);
        snprintf(from, sizeof from, "%s/step-000000000", dir);
        if (fb_world_root(world)) {
            if (!fbi_checkpoint_reshard(path, dir, counts[i], text, sizeof text))
                fail_msg("%s", text);
            assert_true(fb_checkpoint_verify(from, text, sizeof text));
            assert_false(fbi_checkpoint_reshard(path, dir, 1, text, sizeof text));
            assert_non_null(strstr(text, "is there already: name another folder"));
        }
        assert_int_equal(fb_world_barrier(world), FB_OK);
        fb_state *t = many_shapes(other, &m);
        *other = '\0';
        assert_string_not_equal(fb_state_digest(t, found), want);
        assert_int_equal(fb_checkpoint_load(world, from, t), FB_OK);
        check_ok(ctx);
        assert_string_equal(fb_state_digest(t, found), want);
        fb_state_close(t);
    }
}

/* --- formats --- */

static void reads_format(const char *name, const char *digest)
{
    char from[512], note[32] = "", found[17];
    int64_t step = 0;
    double rate = 0;
    uint16_t half[4];
    snprintf(from, sizeof from, "%s/tests/io/formats/%s", getenv("FLAMBEAU_SOURCE"), name);
    fb_module *m =
        fb_nn_sequential(ctx, fb_nn_linear(ctx, 3, 4, NULL), fb_nn_batch_norm1d(ctx, 4, NULL),
                         fb_nn_linear(ctx, 4, 2, NULL));
    fb_optimizer *opt = fb_optim_adam(ctx, m, NULL);
    fb_tensor *h = fb_zeros(ctx, FB_BF16, FB_SHAPE(2, 2));
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "model", m);
    fb_state_add(s, "optimizer", opt);
    fb_state_add(s, "step", &step);
    fb_state_add(s, "rate", &rate);
    fb_state_add(s, "half", h);
    fb_state_add_custom(s, "note", save_note, load_note, note);
    assert_int_equal(fb_checkpoint_load(world, from, s), FB_OK);
    check_ok(ctx);
    assert_int_equal(step, 42);
    assert_true(rate == 0.1);
    assert_string_equal(note, "forty-two");
    assert_int_equal(fb_read(h, half, sizeof half), FB_OK);
    assert_memory_equal(half, ((uint16_t[]){0x3f80, 0x4000, 0x4040, 0xc0a0}), sizeof half);
    assert_int_equal(fb_optim_steps(opt), 2);
    assert_string_equal(fb_state_digest(s, found), digest);
    fb_state_close(s);
}

static void checkpoints_of_every_format_are_read(void **unused)
{
    (void)unused;
    reads_format("checkpoint-1", "28dc6aa798b385e5");
    reads_format("checkpoint-2", "28dc6aa798b385e5");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(a_rule_changes_names_and_the_first_one_counts),
        CASE(tensors_are_loaded_under_other_names),
        CASE(what_may_be_missing_stays_as_it_is),
        CASE(what_the_program_lacks_is_an_error_unless_it_is_allowed),
        CASE(the_best_one_stays),
        CASE(values_in_any_number_of_files_are_the_same),
        CASE(checkpoints_of_every_format_are_read),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
