/* ranks: 1 2 3 */
#include <unistd.h>

#include <flambeau/comm/world.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/io/checkpoint.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>

#include "comm/group_priv.h"
#include "tests/io/io_test_priv.h"

static fb_world *world;
static fb_context *ctx;
static char folder[64]; /* the same on every rank */

static bool root(void)
{
    return fb_world_root(world);
}
static void meet(void)
{
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

static fb_module *net(int64_t width)
{
    return fb_nn_sequential(ctx, fb_nn_linear(ctx, 5, width, NULL), fb_nn_relu(ctx),
                            fb_nn_linear(ctx, width, 2, NULL));
}

static void train(fb_module *m, fb_optimizer *opt, int steps)
{
    for (int i = 0; i < steps; i++) {
        FB_SCOPE(ctx);
        fb_tensor *y = fb_nn_forward(m, fb_ones(ctx, FB_F32, FB_SHAPE(4, 5)));
        fb_backward(fb_mean(fb_mul(y, y), FB_ALL, false));
        fb_optim_step(opt);
    }
    check_ok(ctx);
}

static fb_state *state_of(fb_module *m, fb_optimizer *opt, int64_t *step)
{
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "model", m);
    fb_state_add(s, "optimizer", opt);
    fb_state_add(s, "step", step);
    return s;
}

static int set_up(void **unused)
{
    (void)unused;
    if (root())
        make_folder(folder);
    return fbi_group_broadcast(fb_world_group(world), "test", folder, sizeof folder, 0);
}

static int tear_down(void **unused)
{
    (void)unused;
    meet();
    if (root())
        remove_folder(folder);
    return 0;
}

static void a_resumed_state_has_the_digest_of_the_saved_one(void **unused)
{
    (void)unused;
    char saved[17], found[17];
    int64_t step = 7, other = 0;
    fb_module *m = net(8);
    fb_optimizer *opt = fb_optim_adam(ctx, m, NULL);
    fb_state *s = state_of(m, opt, &step);
    train(m, opt, 3);
    assert_int_equal(fb_checkpoint_save(world, folder, s), FB_OK);
    fb_state_digest(s, saved);
    fb_module *m2 = net(8);
    fb_optimizer *opt2 = fb_optim_adam(ctx, m2, NULL);
    fb_state *s2 = state_of(m2, opt2, &other);
    train(m2, opt2, 1);
    assert_int_equal(fb_checkpoint_resume(world, folder, s2), FB_OK);
    check_ok(ctx);
    fb_state_digest(s2, found);
    assert_string_equal(saved, found);
    assert_int_equal(other, 7);
    assert_int_equal(fb_optim_steps(opt2), 3);
}

static void nothing_to_resume_is_fine(void **unused)
{
    (void)unused;
    int64_t step = 5;
    fb_module *m = net(8);
    fb_state *s = state_of(m, fb_optim_sgd(ctx, m, NULL), &step);
    assert_int_equal(fb_checkpoint_resume(world, folder, s), FB_OK);
    assert_int_equal(step, 5);
}

static void save_twice(fb_state **state, int64_t *step, fb_optimizer **opt)
{
    fb_module *m = net(8);
    *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .momentum = 0.9));
    *state = state_of(m, *opt, step);
    for (int i = 0; i < 2; i++) {
        train(m, *opt, 1);
        *step = fb_optim_steps(*opt);
        fb_checkpoint_save(world, folder, *state);
    }
    check_ok(ctx);
}

static void a_damaged_newest_one_is_passed_over(void **unused)
{
    (void)unused;
    int64_t step = 0;
    fb_state *s;
    fb_optimizer *opt;
    save_twice(&s, &step, &opt);
    char path[256], text[512], latest[256];
    if (root()) {
        snprintf(path, sizeof path, "%s/step-000000002/data.h5", folder);
        assert_int_equal(truncate(path, 1000), 0);
        snprintf(path, sizeof path, "%s/step-000000002", folder);
        assert_false(fb_checkpoint_verify(path, text, sizeof text));
        assert_non_null(strstr(text, "data.h5 is 1000 bytes, the manifest says"));
        assert_true(fb_checkpoint_latest(folder, latest, sizeof latest));
        assert_non_null(strstr(latest, "step-000000001"));
    }
    meet();
    assert_int_equal(fb_checkpoint_resume(world, folder, s), FB_OK);
    assert_int_equal(step, 1);
}

static void a_manifest_that_names_files_outside_is_refused(void **unused)
{
    (void)unused;
    int64_t step = 0;
    fb_state *s;
    fb_optimizer *opt;
    save_twice(&s, &step, &opt);
    char command[512], path[256], text[512];
    snprintf(path, sizeof path, "%s/step-000000002", folder);
    if (root()) {
        snprintf(command, sizeof command,
                 "sed -i 's#\"data.h5\"#\"../../data.h5\"#' %s/manifest.json", path);
        assert_int_equal(system(command), 0);
        assert_false(fb_checkpoint_verify(path, text, sizeof text));
        assert_non_null(strstr(text, "lies outside the checkpoint: refused"));
    }
    meet();
    assert_int_equal(fb_checkpoint_load(world, path, s), FB_E_IO);
    check_error(ctx, FB_E_IO, "lies outside the checkpoint: refused");
    meet();
}

static void a_checkpoint_of_another_model_lists_what_differs_and_changes_nothing(void **unused)
{
    (void)unused;
    int64_t step = 0, other = 99;
    fb_state *s;
    fb_optimizer *opt;
    save_twice(&s, &step, &opt);
    fb_module *m = net(9);
    fb_state *s2 = fb_state_open(ctx);
    fb_state_add(s2, "model", m);
    fb_state_add(s2, "step", &other);
    fb_state_add(s2, "epochs", &step);
    fb_checkpoint_resume(world, folder, s2);
    char text[1024];
    assert_int_equal(fb_error_take(ctx, text, sizeof text), FB_E_SHAPE);
    assert_non_null(strstr(text, "model/0.weight is F32 [8, 5] there and F32 [9, 5] here"));
    assert_non_null(strstr(text, "model/2.weight is F32 [2, 8] there"));
    assert_non_null(strstr(text, "epochs is not in it"));
    assert_int_equal(other, 99);
    meet();
}

/* Change the manifest of the second checkpoint with sed. */
static void change_manifest(const char *expression)
{
    char command[512];
    snprintf(command, sizeof command, "sed -i '%s' %s/step-000000002/manifest.json", expression,
             folder);
    if (root())
        assert_int_equal(system(command), 0);
    meet();
}

static void a_number_changed_in_the_manifest_is_found(void **unused)
{
    (void)unused;
    int64_t step = 0;
    fb_state *s;
    fb_optimizer *opt;
    save_twice(&s, &step, &opt);
    change_manifest("s/\"step\": 2/\"step\": 3/");
    assert_int_equal(fb_checkpoint_resume(world, folder, s), FB_OK);
    check_ok(ctx);
    assert_int_equal(step, 1);
}

static void a_checkpoint_of_a_newer_version_is_refused_by_name(void **unused)
{
    (void)unused;
    int64_t step = 0;
    fb_state *s;
    fb_optimizer *opt;
    save_twice(&s, &step, &opt);
    change_manifest("s/\"format\": 2/\"format\": 9/");
    assert_int_equal(fb_checkpoint_resume(world, folder, s), FB_E_IO);
    check_error(ctx, FB_E_IO, "step-000000002: has format 9; this version reads up to 2");
    assert_int_equal(step, 2);
}

static void entries_that_the_program_lacks_are_listed(void **unused)
{
    (void)unused;
    int64_t step = 0, other = 0;
    fb_state *s;
    fb_optimizer *opt;
    save_twice(&s, &step, &opt);
    fb_module *m = fb_nn_sequential(ctx, fb_nn_linear(ctx, 5, 8, NULL));
    fb_state *s2 = fb_state_open(ctx);
    fb_state_add(s2, "model", m);
    fb_state_add(s2, "step", &other);
    assert_int_equal(fb_checkpoint_resume(world, folder, s2), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "model/2.weight is in it and not in the program");
    assert_int_equal(other, 0);
    meet();
}

static void another_runs_checkpoint_of_the_same_step_is_replaced(void **unused)
{
    (void)unused;
    char want[17], found[17];
    int64_t step = 0;
    fb_state *s;
    fb_optimizer *opt;
    save_twice(&s, &step, &opt);
    fb_optimizer *again;
    save_twice(&s, &step, &again); /* another model: roots are numbered, so other weights */
    fb_state_digest(s, want);
    assert_int_equal(fb_checkpoint_resume(world, folder, s), FB_OK);
    fb_state_digest(s, found);
    assert_string_equal(want, found);
}

static void a_folder_that_cannot_be_made_is_a_warning(void **unused)
{
    (void)unused;
    int64_t step = 0;
    fb_module *m = net(8);
    fb_state *s = state_of(m, fb_optim_sgd(ctx, m, NULL), &step);
    assert_int_equal(fb_checkpoint_save(world, "/proc/nowhere", s), FB_OK);
    check_ok(ctx);
}

static int64_t count_checkpoints(void)
{
    char path[256];
    int64_t n = 0;
    for (int64_t step = 0; step < 10; step++) {
        snprintf(path, sizeof path, "%s/step-%09lld/manifest.json", folder, (long long)step);
        n += access(path, F_OK) == 0;
    }
    return n;
}

/* Saves at steps 1 to 5, each with this option; how many are there after the last. */
static int64_t kept_of_five(int keep)
{
    int64_t step = 0;
    fb_module *m = net(8);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, NULL);
    fb_state *s = state_of(m, opt, &step);
    for (int i = 0; i < 5; i++) {
        train(m, opt, 1);
        step++;
        assert_int_equal(
            fb_checkpoint_save_with(world, folder, s, FB_OPTS(fb_checkpoint_options, .keep = keep)),
            FB_OK);
    }
    check_ok(ctx);
    return count_checkpoints();
}

static void two_checkpoints_are_kept_unless_told_otherwise(void **unused)
{
    (void)unused;
    assert_int_equal(kept_of_five(0), 2);
}

static void so_many_as_asked_for_are_kept(void **unused)
{
    (void)unused;
    assert_int_equal(kept_of_five(4), 4);
    assert_int_equal(fb_checkpoint_save_with(world, folder, fb_state_open(ctx),
                                             FB_OPTS(fb_checkpoint_options, .keep = -7)),
                     FB_E_ARG);
    check_error(ctx, FB_E_ARG, "keep -7: a number, or -1 for all, is needed");
}

static void all_are_kept_if_asked_for(void **unused)
{
    (void)unused;
    assert_int_equal(kept_of_five(-1), 5);
}

static void a_state_without_steps_is_numbered_onwards(void **unused)
{
    (void)unused;
    int64_t value = 0;
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "value", &value);
    for (value = 10; value < 15; value++)
        fb_checkpoint_save_with(world, folder, s, FB_OPTS(fb_checkpoint_options, .keep = -1));
    assert_int_equal(count_checkpoints(), 5);
    meet();
    assert_int_equal(fb_checkpoint_resume(world, folder, s), FB_OK);
    assert_int_equal(value, 14);
}

/* The third good step in a row doubles it, whether or not the program was stopped in between. */
static void a_scaler_goes_on_where_it_was(void **unused)
{
    (void)unused;
    int64_t step = 1;
    char straight[17], resumed[17];
    fb_module *m = net(4);
    fb_optimizer *opt = fb_optim_adam(ctx, m, NULL);
    fb_scaler *scaler =
        fb_optim_scaler(opt, FB_OPTS(fb_scaler_options, .scale = 64, .interval = 3));
    fb_state *s = state_of(m, opt, &step);
    assert_int_equal(fb_state_add(s, "scaler", scaler), FB_OK);
    train(m, opt, 2);
    assert_int_equal(fb_checkpoint_save(world, folder, s), FB_OK);
    train(m, opt, 2);
    assert_true(fb_scaler_value(scaler) == 128);
    fb_state_digest(s, straight);
    assert_int_equal(fb_checkpoint_resume(world, folder, s), FB_OK);
    assert_true(fb_scaler_value(scaler) == 64);
    train(m, opt, 2);
    fb_state_digest(s, resumed);
    assert_string_equal(straight, resumed);
    fb_scaler_close(scaler);
}

static fb_optimizer *made(int k, fb_module *m)
{
    switch (k) {
    case 0:
        return fb_optim_rmsprop(ctx, m,
                                FB_OPTS(fb_rmsprop_options, .centered = true, .momentum = 0.9));
    case 1:
        return fb_optim_nadam(ctx, m, NULL);
    case 2:
        return fb_optim_rprop(ctx, m, NULL);
    case 3:
        return fb_optim_adafactor(ctx, m, NULL);
    default:
        return fb_optim_muon(ctx, m, NULL);
    }
}

/* A warm-up, then a cycle with its momentum where there is one. */
static fb_schedule *sequence(fb_optimizer *opt, bool momentum)
{
    const int64_t at = 4;
    fb_schedule *parts[] = {
        fb_schedule_linear(opt, 0.1, 1, 4),
        fb_schedule_cyclic(opt, FB_OPTS(fb_cyclic_options, .base_lr = 0.001, .max_lr = 0.01,
                                        .up = 3, .keep_momentum = !momentum))};
    return fb_schedule_sequence(parts, 2, &at);
}

/* Five steps, or three and two by another program. */
static void other_methods_and_schedules_go_on_where_they_were(void **unused)
{
    (void)unused;
    for (int k = 0; k < 5; k++) {
        int64_t step = 50 + k, other = 0;
        char straight[17], resumed[17];
        bool momentum = k == 0 || k == 1 || k == 4;
        fb_module *m[2] = {net(8), net(8)};
        fb_optimizer *opt[2] = {made(k, m[0]), made(k, m[1])};
        fb_schedule *schedule[2] = {sequence(opt[0], momentum), sequence(opt[1], momentum)};
        fb_state *s[2] = {state_of(m[0], opt[0], &step), state_of(m[1], opt[1], &other)};
        for (int i = 0; i < 2; i++)
            assert_int_equal(fb_state_add(s[i], "schedule", schedule[i]), FB_OK);
        for (int i = 0; i < 7; i++) {
            train(m[0], opt[0], 1);
            assert_int_equal(fb_schedule_step(schedule[0]), FB_OK);
            if (i == 4) {
                step++; /* so that it is the newest */
                assert_int_equal(fb_checkpoint_save(world, folder, s[0]), FB_OK);
            }
        }
        assert_int_equal(fb_checkpoint_resume(world, folder, s[1]), FB_OK);
        for (int i = 0; i < 2; i++) {
            train(m[1], opt[1], 1);
            assert_int_equal(fb_schedule_step(schedule[1]), FB_OK);
        }
        fb_state_digest(s[0], straight);
        fb_state_digest(s[1], resumed);
        assert_string_equal(straight, resumed);
        fb_state_close(s[0]);
        fb_state_close(s[1]);
    }
}

static fb_tensor *distance(void *m)
{
    fb_tensor *y = fb_nn_forward(m, fb_ones(ctx, FB_F32, FB_SHAPE(4, 5)));
    fb_tensor *loss = fb_mean(fb_square(fb_add_scalar(fb_mul(y, y), -1)), FB_ALL, false);
    return fb_backward(loss) ? NULL : loss;
}

static void lbfgs_goes_on_where_it_was(void **unused)
{
    (void)unused;
    int64_t step = 60, other = 0;
    char straight[17], resumed[17];
    const fb_lbfgs_options o = {.max_iter = 3, .history_size = 4, .strong_wolfe = true};
    fb_module *m[2] = {net(8), net(8)};
    fb_optimizer *opt[2] = {fb_optim_lbfgs(ctx, m[0], &o), fb_optim_lbfgs(ctx, m[1], &o)};
    fb_state *s[2] = {state_of(m[0], opt[0], &step), state_of(m[1], opt[1], &other)};
    for (int i = 0; i < 4; i++) {
        FB_SCOPE(ctx);
        assert_non_null(fb_optim_step_closure(opt[0], distance, m[0]));
        if (i == 1)
            assert_int_equal(fb_checkpoint_save(world, folder, s[0]), FB_OK);
    }
    assert_int_equal(fb_checkpoint_resume(world, folder, s[1]), FB_OK);
    for (int i = 0; i < 2; i++) {
        FB_SCOPE(ctx);
        assert_non_null(fb_optim_step_closure(opt[1], distance, m[1]));
    }
    fb_state_digest(s[0], straight);
    fb_state_digest(s[1], resumed);
    assert_string_equal(straight, resumed);
}

/* --- objects of the program's own --- */

typedef struct notebook {
    char text[64];
    int fail; /* what load returns */
} notebook;

static size_t save_notebook(void *user, void *out, size_t bytes)
{
    const notebook *n = user;
    size_t length = strlen(n->text);
    if (n->fail)
        return SIZE_MAX;
    if (out && length <= bytes)
        memcpy(out, n->text, length);
    return length;
}

static int load_notebook(void *user, const void *data, size_t bytes)
{
    notebook *n = user;
    snprintf(n->text, sizeof n->text, "%.*s", (int)bytes, (const char *)data);
    return n->fail;
}

static fb_state *state_with(notebook *n)
{
    fb_state *s = fb_state_open(ctx);
    assert_int_equal(fb_state_add_custom(s, "notes", save_notebook, load_notebook, n), FB_OK);
    return s;
}

static void bytes_of_the_programs_own_come_back_on_every_rank(void **unused)
{
    (void)unused;
    const char *texts[] = {"forty-two", ""};
    for (int i = 0; i < 2; i++) {
        notebook n = {0}, back = {.text = "something else"};
        char digest[17], found[17];
        snprintf(n.text, sizeof n.text, "%s", texts[i]);
        fb_state *s = state_with(&n), *s2 = state_with(&back);
        assert_int_equal(fb_checkpoint_save(world, folder, s), FB_OK);
        assert_string_not_equal(fb_state_digest(s, digest), fb_state_digest(s2, found));
        assert_int_equal(fb_checkpoint_resume(world, folder, s2), FB_OK);
        check_ok(ctx);
        assert_string_equal(back.text, texts[i]);
        assert_string_equal(fb_state_digest(s2, found), digest);
        meet();
    }
}

static void a_callback_that_fails_on_loading_is_an_error(void **unused)
{
    (void)unused;
    notebook n = {.text = "x"};
    fb_checkpoint_save(world, folder, state_with(&n));
    n.fail = 9;
    assert_int_equal(fb_checkpoint_resume(world, folder, state_with(&n)), FB_E_USER);
    check_error(ctx, FB_E_USER, "the program's callback for notes failed with 9");
    meet();
}

static void a_callback_that_fails_on_saving_is_a_warning(void **unused)
{
    (void)unused;
    notebook n = {.text = "x", .fail = 1};
    int64_t value = 1;
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "value", &value);
    fb_state_add_custom(s, "notes", save_notebook, load_notebook, &n);
    assert_int_equal(fb_checkpoint_save(world, folder, s), FB_OK);
    check_ok(ctx);
    assert_int_equal(count_checkpoints(), 0);
}

static void a_tensor_is_not_loaded_from_bytes(void **unused)
{
    (void)unused;
    notebook n = {.text = "x"};
    fb_checkpoint_save(world, folder, state_with(&n));
    fb_state *s = fb_state_open(ctx);
    fb_state_add(s, "notes", fb_ones(ctx, FB_U8, FB_SHAPE(1)));
    assert_int_equal(fb_checkpoint_resume(world, folder, s), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "notes is bytes [1] there and U8 [1] here");
    fb_state *s2 = fb_state_open(ctx);
    assert_int_equal(fb_state_add_custom(s2, "notes", NULL, load_notebook, &n), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "\"notes\" is NULL");
    meet();
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(a_resumed_state_has_the_digest_of_the_saved_one),
        CASE(nothing_to_resume_is_fine),
        CASE(a_damaged_newest_one_is_passed_over),
        CASE(a_manifest_that_names_files_outside_is_refused),
        CASE(a_checkpoint_of_another_model_lists_what_differs_and_changes_nothing),
        CASE(a_number_changed_in_the_manifest_is_found),
        CASE(a_checkpoint_of_a_newer_version_is_refused_by_name),
        CASE(entries_that_the_program_lacks_are_listed),
        CASE(another_runs_checkpoint_of_the_same_step_is_replaced),
        CASE(a_folder_that_cannot_be_made_is_a_warning),
        CASE(two_checkpoints_are_kept_unless_told_otherwise),
        CASE(so_many_as_asked_for_are_kept),
        CASE(all_are_kept_if_asked_for),
        CASE(a_scaler_goes_on_where_it_was),
        CASE(other_methods_and_schedules_go_on_where_they_were),
        CASE(lbfgs_goes_on_where_it_was),
        CASE(a_state_without_steps_is_numbered_onwards),
        CASE(bytes_of_the_programs_own_come_back_on_every_rank),
        CASE(a_callback_that_fails_on_loading_is_an_error),
        CASE(a_callback_that_fails_on_saving_is_a_warning),
        CASE(a_tensor_is_not_loaded_from_bytes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
