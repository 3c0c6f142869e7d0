/* ranks: 1 2 timeout: 200 labels: trainer */
/* Steps of a fit under the profiler: its file, its options, and what is said. */
#include "tests/launch/trainer_test_priv.h"

#include <jansson.h>

/* The trace of this rank. */
static json_t *trace_of(const char *name)
{
    char path[256];
    int rank = fb_world_rank(world);
    if (rank)
        snprintf(path, sizeof path, "%s/%s.rank%d.json", folder, name, rank);
    else
        snprintf(path, sizeof path, "%s/%s.json", folder, name);
    return json_load_file(path, 0, NULL);
}

static int events_named(const json_t *trace, const char *name)
{
    int n = 0;
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(trace, "traceEvents"), i, e) n +=
        strcmp(json_string_value(json_object_get(e, "name")), name) == 0;
    return n;
}

static void the_steps_that_are_asked_for_are_in_the_file(void **unused)
{
    (void)unused;
    char path[256];
    fb_trainer_task task = task_of(net(0));
    snprintf(path, sizeof path, "%s/trace.json", folder);
    fb_trainer *t = OPEN(.max_steps = 9, .profile = path, .profile_steps = "2:6");
    assert_int_equal(fit(t, &task), 9);
    json_t *trace = trace_of("trace");
    assert_non_null(trace);
    assert_int_equal(events_named(trace, "optim_step"), 4);
    assert_int_equal(events_named(trace, "backward"), 4);
    assert_int_equal(events_named(trace, "Sequential"), 4);
    assert_true(events_named(trace, "loader") >= 4);
    json_decref(trace);
    assert_string_equal(lines, "");
    fb_trainer_close(t);
}

static void a_run_that_ends_earlier_has_what_there_was(void **unused)
{
    (void)unused;
    char path[256];
    fb_trainer_task task = task_of(net(0));
    snprintf(path, sizeof path, "%s/short.json", folder);
    fb_trainer *t = OPEN(.max_steps = 4, .profile = path, .profile_steps = "0:100");
    assert_int_equal(fit(t, &task), 4);
    json_t *trace = trace_of("short");
    assert_non_null(trace);
    assert_int_equal(events_named(trace, "optim_step"), 4);
    json_decref(trace);
    fb_trainer_close(t);
}

static void a_run_that_ends_before_it_says_so(void **unused)
{
    (void)unused;
    char path[256];
    snprintf(path, sizeof path, "%s/none.json", folder);
    assert_int_equal(STEPS(.max_steps = 3, .profile = path), 3);
    assert_int_equal(strstr(lines, "the run ended before step 10, where its profile would have "
                                   "begun: give an earlier profile_steps") != NULL,
                     fb_world_root(world));
}

static void steps_that_make_no_sense_are_refused(void **unused)
{
    (void)unused;
    static const char *const bad[] = {"5", "5:5", "7:3", "-1:4", "2:6x", "a:b", ""};
    fb_trainer_task task = task_of(net(0));
    char path[256], want[64];
    snprintf(path, sizeof path, "%s/bad.json", folder);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(want, sizeof want, "trainer: profile_steps: \"%s\" is not FROM:TO", bad[i]);
        refused((fb_trainer_options){.max_steps = 1, .profile = path, .profile_steps = bad[i]},
                &task, FB_E_ARG, want);
    }
}

/* Found out before the first step, on all ranks. */
static void a_file_that_cannot_be_written_is_refused_at_once(void **unused)
{
    (void)unused;
    fb_trainer_task task = task_of(net(0));
    refused((fb_trainer_options){.max_steps = 1, .profile = "/nowhere/trace.json"}, &task, FB_E_IO,
            "trainer: profile /nowhere/trace.json: No such file or directory");
}

/* It can be opened, but takes nothing: a warning, and the run goes on. */
static void a_full_disk_is_a_warning(void **unused)
{
    (void)unused;
    if (fb_world_size(world) > 1)
        return; /* other ranks write elsewhere */
    assert_int_equal(STEPS(.max_steps = 5, .profile = "/dev/full", .profile_steps = "1:3"), 5);
    assert_non_null(strstr(lines, "warning: trainer: "));
    assert_non_null(strstr(lines, "fb_profile: cannot write /dev/full: No space left on device"));
}

int main(int argc, char **argv)
{
    fb_log_set(hear, NULL);
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(the_steps_that_are_asked_for_are_in_the_file),
        CASE(a_run_that_ends_earlier_has_what_there_was),
        CASE(a_run_that_ends_before_it_says_so),
        CASE(steps_that_make_no_sense_are_refused),
        CASE(a_file_that_cannot_be_written_is_refused_at_once),
        CASE(a_full_disk_is_a_warning),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
