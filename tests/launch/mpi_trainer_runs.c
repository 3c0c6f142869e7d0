/* ranks: 1 2 timeout: 400 labels: trainer */
/* The trainer between steps: calls, the monitored value, checkpoints, metrics, predictions. */
#include "tests/launch/trainer_test_priv.h"

/* --- what stands between --- */

static char calls[256];

static void note(const char *what)
{
    size_t at = strlen(calls);
    snprintf(calls + at, sizeof calls - at, "%s ", what);
}
static void note_start(fb_trainer *t)
{
    (void)t;
    note("start");
}
static void note_step(fb_trainer *t)
{
    (void)t;
    note("step");
}
static void note_log(fb_trainer *t)
{
    (void)t;
    note("log");
}
static void note_validation(fb_trainer *t)
{
    (void)t;
    note("validation");
}
static void note_epoch(fb_trainer *t)
{
    (void)t;
    note("epoch");
}
static void note_end(fb_trainer *t)
{
    (void)t;
    note("end");
}

static void calls_come_in_order(void **unused)
{
    (void)unused;
    fb_trainer_task task = task_of(net(0));
    task.train = loader_of(N / 2, true);
    task.valid = loader_of(BATCH, false);
    task.on_start = note_start;
    task.on_step = note_step;
    task.on_log = note_log;
    task.on_validation = note_validation;
    task.on_epoch = note_epoch;
    task.on_end = note_end;
    calls[0] = '\0';
    fb_trainer *t = OPEN(.max_epochs = 2, .log_every = 3, .validate_every = 2, .validate_steps = 3);
    fit(t, &task);
    assert_string_equal(calls, "start step step epoch log step validation log step validation "
                               "epoch end ");
    fb_trainer_close(t);
}

static void schedules_step_with_steps_or_epochs(void **unused)
{
    (void)unused;
    for (int by_epoch = 0; by_epoch < 2; by_epoch++) {
        fb_trainer_task task = task_of(net(0));
        task.schedule = fb_schedule_step_lr(task.optimizer, 1, 0.5);
        task.schedule_epochs = by_epoch;
        fb_trainer *t = OPEN(.max_epochs = 2);
        fit(t, &task);
        double want = 0.05 * pow(0.5, by_epoch ? 2 : 2 * EPOCH);
        assert_true(fabs(fb_optim_lr(task.optimizer) - want) < 1e-12);
        fb_trainer_close(t);
    }
}

/* --- the monitored value --- */

static double script[16]; /* of validation i */
static int script_at;

static fb_tensor *scripted_validation(fb_trainer *t, const fb_batch *b)
{
    fb_trainer_log(t, "score", fb_full(ctx, FB_F32, FB_SCALAR, script[script_at]));
    (void)b;
    return NULL;
}

static void next_line(fb_trainer *t)
{
    (void)t;
    script_at++;
}

static fb_trainer_task scripted(fb_module *m, const double *values, int n)
{
    fb_trainer_task task = task_of(m);
    task.valid = loader_of(BATCH, false);
    task.valid_step = scripted_validation;
    task.on_validation = next_line;
    memcpy(script, values, (size_t)n * sizeof *values);
    script_at = 0;
    return task;
}

static void patience_ends_and_the_best_is_kept(void **unused)
{
    (void)unused;
    static const double values[] = {5, 4, 4.5, 4.2, 3, 1, 1};
    fb_trainer_task task = scripted(net(0), values, 7);
    fb_trainer *t =
        OPEN(.max_epochs = 7, .monitor = "val_score", .patience = 2, .checkpoint = folder);
    assert_int_equal(fit(t, &task), 4 * EPOCH);
    assert_int_equal(fb_trainer_best_step(t), 2 * EPOCH);
    assert_true(is_there("step-%09lld", 2 * EPOCH)); /* neither of the newest two */
    assert_false(is_there("step-%09lld", EPOCH));
    assert_true(is_there("step-%09lld", 3 * EPOCH));
    assert_true(is_there("step-%09lld", 4 * EPOCH));
    double last = parameter(task.model, "0.weight", 0);
    assert_int_equal(fb_trainer_load(t, &task, "best"), FB_OK);
    assert_true(parameter(task.model, "0.weight", 0) != last);
    assert_int_equal(fb_trainer_load(t, &task, "last"), FB_OK);
    assert_true(parameter(task.model, "0.weight", 0) == last);
    fb_trainer_load(t, &task, "/nowhere/step-000000001");
    check_error(ctx, FB_E_IO, "/nowhere/step-000000001");
    fb_trainer_close(t);
    t = OPEN(0);
    assert_int_equal(fb_trainer_load(t, &task, "best"), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "trainer: load \"best\": options.checkpoint names no folder");
    fb_trainer_close(t);
}

static void a_rate_follows_the_monitored_value(void **unused)
{
    (void)unused;
    static const double values[] = {5, 4, 4, 4, 4};
    fb_trainer_task task = scripted(net(0), values, 5);
    task.schedule = fb_schedule_plateau(task.optimizer,
                                        FB_OPTS(fb_plateau_options, .factor = 0.5, .patience = 1));
    task.schedule_metric = true;
    fb_trainer *t = OPEN(.max_epochs = 5, .monitor = "val_score");
    fit(t, &task);
    assert_true(fabs(fb_optim_lr(task.optimizer) - 0.025) < 1e-12); /* after the fourth */
    fb_trainer_close(t);
}

static void more_is_better_if_the_mode_says_so(void **unused)
{
    (void)unused;
    static const double values[] = {1, 2, 2.05, NAN, 1.9, 7};
    fb_trainer_task task = scripted(net(0), values, 6);
    fb_trainer *t = OPEN(.max_epochs = 6, .monitor = "val_score", .patience = 3,
                         .mode = FB_MONITOR_MAX, .min_delta = 0.1);
    assert_int_equal(fit(t, &task), 5 * EPOCH);
    assert_int_equal(fb_trainer_best_step(t), 2 * EPOCH);
    fb_trainer_close(t);
}

static void a_monitor_that_nobody_logs_is_refused(void **unused)
{
    (void)unused;
    static const double values[] = {1, 1, 1};
    fb_trainer_task task = scripted(net(0), values, 3);
    refused((fb_trainer_options){.max_epochs = 1, .monitor = "val_accuracy"}, &task, FB_E_ARG,
            "trainer: monitor \"val_accuracy\": validation has no such metric; it has val_score");
    task.valid = NULL;
    fb_trainer_task fresh = task_of(net(0));
    refused((fb_trainer_options){.patience = 1}, &fresh, FB_E_ARG,
            "trainer: a monitored value comes from validation, and the task has no `valid`");
}

/* --- checkpoints --- */

typedef struct whole {
    fb_module *model;
    char digest[17];
    int64_t steps, best;
} whole;

/* Everything that has a state: dropout, schedule, average, monitor. `epochs` and `steps` are where
 * the process ends. */
static bool save_async; /* in the background */

static whole run_whole(const char *dir, int64_t epochs, int64_t steps, int64_t patience)
{
    whole w = {.model = net(0.3)};
    fb_trainer_task task = task_of(w.model);
    task.schedule = fb_schedule_cosine(task.optimizer, 4 * EPOCH, NULL);
    task.valid = loader_of(BATCH, false);
    fb_trainer *t =
        OPEN(.max_epochs = epochs, .max_steps = steps, .ema_decay = 0.9, .clip_norm = 1,
             .patience = patience, .checkpoint = dir, .save_steps = 3, .save_async = save_async);
    fit(t, &task);
    fb_state_digest(fb_trainer_state(t), w.digest);
    w.steps = fb_trainer_steps(t);
    w.best = fb_trainer_best_step(t);
    fb_trainer_close(t);
    return w;
}

static void a_run_that_goes_on_has_the_bits_of_an_undisturbed_one(void **unused)
{
    (void)unused;
    /* Stopped after a step, and after an epoch, where a monitored value has been judged. */
    static const int64_t steps[] = {1, EPOCH - 1, EPOCH + 2, 3 * EPOCH + 3, 0, 0};
    static const int64_t epochs[] = {4, 4, 4, 4, 1, 3};
    whole plain = run_whole(NULL, 4, 0, 0), judged = run_whole(NULL, 4, 0, 3);
    assert_int_equal(plain.steps, 4 * EPOCH);
    assert_int_equal(strlen(plain.digest), 16);
    assert_string_not_equal(plain.digest, judged.digest);
    for (int i = 0; i < (int)(sizeof steps / sizeof *steps); i++) {
        char dir[128];
        int64_t patience = steps[i] ? 0 : 3;
        const whole *want = patience ? &judged : &plain;
        snprintf(dir, sizeof dir, "%s/%d", folder, i);
        whole w = run_whole(dir, epochs[i], steps[i], patience);
        assert_int_equal(w.steps, steps[i] ? steps[i] : epochs[i] * EPOCH);
        assert_string_not_equal(w.digest, want->digest);
        save_async = i % 2; /* what the other kind has saved */
        w = run_whole(dir, 4, 0, patience);
        assert_int_equal(w.steps, 4 * EPOCH);
        assert_string_equal(w.digest, want->digest);
        assert_int_equal(w.best, want->best);
    }
}

static void nothing_is_saved_or_read_without_a_folder_and_options_choose_the_rest(void **unused)
{
    (void)unused;
    fb_trainer_task task = task_of(net(0));
    fb_trainer *t = OPEN(.max_epochs = 3, .checkpoint = folder, .keep = -1, .save_every = 2);
    fit(t, &task);
    assert_false(is_there("step-%09lld", EPOCH));
    assert_true(is_there("step-%09lld", 2 * EPOCH));
    assert_true(is_there("step-%09lld", 3 * EPOCH)); /* the end */
    fb_trainer_close(t);
    task = task_of(net(0));
    refused((fb_trainer_options){.max_epochs = 4, .checkpoint = folder, .fresh = true}, &task,
            FB_E_STATE, "has checkpoints, and trainer.fresh asks to begin anew");
    setenv("FLAMBEAU_RUN_AGAIN", "1", 1); /* the launcher: they are this job's own */
    task = task_of(net(0));
    t = OPEN(.max_epochs = 4, .checkpoint = folder, .fresh = true, .keep = -1);
    assert_int_equal(fit(t, &task), 4 * EPOCH);
    fb_trainer_close(t);
    unsetenv("FLAMBEAU_RUN_AGAIN");
    char path[128], other[128];
    snprintf(path, sizeof path, "%s/step-%09d", folder, 2 * EPOCH);
    snprintf(other, sizeof other, "%s/other", folder);
    task = task_of(net(0));
    t = OPEN(.max_epochs = 4, .checkpoint = other, .from = path);
    assert_int_equal(fit(t, &task), 4 * EPOCH);
    assert_int_equal(fb_trainer_epochs(t), 4);
    fb_trainer_close(t);
    task = task_of(net(0));
    refused((fb_trainer_options){.max_epochs = 1, .memory_checkpoint = 1}, &task, FB_E_ARG,
            "trainer: memory_checkpoint needs a folder by which its copies are found again");
}

/* --- metrics, logs, predictions --- */

static fb_tensor *sample_number(fb_trainer *t, const fb_batch *b)
{
    (void)t;
    return fb_mean(fb_select(b->input, 1, 0), FB_ALL, false);
}

static void a_validation_is_the_mean_over_all_samples_of_all_ranks(void **unused)
{
    (void)unused;
    double sum = 0;
    for (int64_t i = 0; i < N; i++)
        sum += (double)(sinf((float)(3 * i)) + (float)(i % CLASSES == 0));
    fb_trainer_task task = {.model = net(0),
                            .valid_step = sample_number,
                            .valid = loader_of(12, false)}; /* 12 + 12 + 12 + 4 */
    fb_trainer *t = OPEN(0);
    assert_int_equal(fb_trainer_validate(t, &task), FB_OK);
    assert_true(fabs(fb_trainer_metric(t, "val_loss") - sum / N) < 1e-6);
    assert_int_equal(fb_trainer_test(t, &task, task.valid), FB_OK);
    assert_true(fabs(fb_trainer_metric(t, "test_loss") - sum / N) < 1e-6);
    assert_true(isnan(fb_trainer_metric(t, "val_accuracy")));
    fb_trainer_close(t);
}

static double answers[N];
static int answered[N];

static void take(fb_trainer *t, fb_tensor *y, const int64_t *index, int64_t n)
{
    float v[64];
    (void)t;
    fb_read(y, v, (size_t)fb_numel(y) * sizeof *v);
    for (int64_t i = 0; i < n; i++) {
        answered[index[i]]++;
        answers[index[i]] = (double)v[i * CLASSES];
    }
}

static void each_sample_is_predicted_once_with_the_models_output(void **unused)
{
    (void)unused;
    fb_trainer_task task = {.model = net(0.5)}; /* evaluation: nothing is dropped */
    fb_loader *l = loader_of(12, false);
    memset(answered, 0, sizeof answered);
    fb_trainer *t = OPEN(0);
    assert_int_equal(fb_trainer_predict(t, &task, l, NULL, take), FB_OK);
    fb_nn_eval(task.model);
    for (int64_t i = 0; i < N; i++) {
        float x[INPUTS];
        int64_t target;
        double n = fb_world_any(world, answered[i] == 1);
        assert_true(n == 1 && answered[i] <= 1);
        read_sample(NULL, i, (void *const[]){x, &target});
        fb_tensor *y = fb_nn_forward(task.model, fb_from(ctx, FB_F32, FB_SHAPE(1, INPUTS), x));
        float v[CLASSES];
        fb_read(y, v, sizeof v);
        if (answered[i])
            assert_true(fabs(answers[i] - (double)v[0]) < 1e-6);
    }
    assert_int_equal(fb_trainer_predict(t, &task, l, NULL, NULL), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "trainer: a prediction needs a loader and a function");
    fb_trainer_close(t);
}

static void the_file_of_the_log_has_a_line_for_each_report(void **unused)
{
    (void)unused;
    char path[128], text[1024] = "";
    snprintf(path, sizeof path, "%s/log", folder);
    fb_trainer_task task = task_of(net(0));
    task.valid = loader_of(BATCH, false);
    fb_trainer *t = OPEN(.max_epochs = 1, .log_every = 2, .log_file = path);
    fit(t, &task);
    fb_trainer_close(t);
    assert_int_equal(fb_world_barrier(world), FB_OK);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    int n = 0;
    for (const char *p = text; *p; p++)
        n += *p == '\n';
    assert_int_equal(n, 4); /* steps 2, 4 and 5, and the validation */
    assert_memory_equal(text, "{\"step\": 2, \"epoch\": 0, \"loss\": ", 32);
    assert_non_null(strstr(text, ", \"lr\": 0.05}\n"));
    assert_non_null(strstr(text, "{\"step\": 5, \"epoch\": 1, \"val_loss\": "));
    snprintf(path, sizeof path, "%s/no/folder", folder);
    if (fb_world_size(world) > 1)
        return; /* an error of one rank alone ends the job */
    refused((fb_trainer_options){.log_file = path}, &task, FB_E_IO, "trainer: log_file ");
}

int main(int argc, char **argv)
{
    fb_log_set(hear, NULL);
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(calls_come_in_order),
        CASE(schedules_step_with_steps_or_epochs),
        CASE(patience_ends_and_the_best_is_kept),
        CASE(a_rate_follows_the_monitored_value),
        CASE(more_is_better_if_the_mode_says_so),
        CASE(a_monitor_that_nobody_logs_is_refused),
        CASE(a_run_that_goes_on_has_the_bits_of_an_undisturbed_one),
        CASE(nothing_is_saved_or_read_without_a_folder_and_options_choose_the_rest),
        CASE(a_validation_is_the_mean_over_all_samples_of_all_ranks),
        CASE(each_sample_is_predicted_once_with_the_models_output),
        CASE(the_file_of_the_log_has_a_line_for_each_report),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
