/* ranks: 1 2 timeout: 400 labels: trainer */
/* The trainer: its limits, its steps, and what it refuses. */
#include "tests/launch/trainer_test_priv.h"

#include "core/tensor/context_priv.h"

/* --- how long --- */

static void whatever_limit_comes_first_ends_it(void **unused)
{
    (void)unused;
    assert_int_equal(STEPS(.max_epochs = 2), 2 * EPOCH);
    assert_int_equal(STEPS(.max_steps = 7), 7);
    assert_int_equal(STEPS(.max_epochs = 1, .max_steps = 7), EPOCH);
    assert_int_equal(STEPS(.max_epochs = 3, .max_steps = 2), 2);
    assert_int_equal(STEPS(.max_time = 1e-9), 1);
    assert_int_equal(STEPS(.fast_dev_run = 3), 3);
    assert_int_equal(STEPS(.fast_dev_run = 3, .max_steps = 2), 2);
    assert_int_equal(STEPS(.overfit_batches = 2, .max_epochs = 4), 8);
}

static void total_steps_are_those_of_the_nearest_limit(void **unused)
{
    (void)unused;
    static const struct {
        fb_trainer_options o;
        int64_t total;
    } cases[] = {{{.max_epochs = 2}, 2 * EPOCH},
                 {{.max_epochs = 2, .accumulate = 2}, 2 * 3},
                 {{.max_epochs = 2, .max_steps = 3}, 3},
                 {{.max_steps = 100}, 100},
                 {{.max_time = 5}, 0},
                 {{.overfit_batches = 2, .max_epochs = 3}, 6},
                 {{.fast_dev_run = 4, .max_epochs = 2}, 4}};
    fb_loader *l = loader_of(BATCH, false);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fb_trainer *t = open_with(cases[i].o);
        assert_int_equal(fb_trainer_total_steps(t, l), cases[i].total);
        fb_trainer_close(t);
    }
}

static fb_loader *seen_loader;
static bool seen[N];
static int validations;

static fb_tensor *loss_that_sees(fb_trainer *t, const fb_batch *b)
{
    int64_t n;
    const int64_t *index = fb_loader_indices(seen_loader, &n);
    for (int64_t i = 0; i < n; i++)
        seen[index[i]] = true;
    return loss_of(t, b);
}

static void overfitting_sees_the_first_batches_only_and_learns_them(void **unused)
{
    (void)unused;
    fb_trainer_task task = task_of(net(0));
    int64_t count = 0;
    memset(seen, 0, sizeof seen);
    seen_loader = task.train;
    task.step = loss_that_sees;
    fb_trainer *t =
        OPEN(.overfit_batches = 2, .max_epochs = 60, .log_every = 20, .checkpoint = folder);
    fit(t, &task);
    for (int i = 0; i < N; i++)
        count += seen[i];
    double all = 0;
    fb_meter *sum = fb_meter_open(ctx, "sum");
    fb_meter_add(sum, fb_full(ctx, FB_F64, FB_SCALAR, (double)count), 1);
    all = fb_meter_mean(sum) * fb_world_size(world);
    assert_true(all == 2 * BATCH);
    assert_true(fb_trainer_metric(t, "loss") < 0.2);
    assert_false(is_there("step-%09lld", 120));
    fb_trainer_close(t);
}

static fb_tensor *counting_validation(fb_trainer *t, const fb_batch *b)
{
    validations++;
    return loss_of(t, b);
}

static void a_trial_runs_everything_once_and_saves_nothing(void **unused)
{
    (void)unused;
    fb_trainer_task task = task_of(net(0));
    task.valid = loader_of(4, false);
    task.valid_step = counting_validation;
    validations = 0;
    fb_trainer *t = OPEN(.fast_dev_run = 2, .checkpoint = folder, .save_steps = 1);
    assert_int_equal(fit(t, &task), 2);
    assert_int_equal(validations, 2);
    assert_true(isfinite(fb_trainer_metric(t, "val_loss")));
    assert_false(is_there("step-%09lld", 1) || is_there("step-%09lld", 2));
    fb_trainer_close(t);
}

/* --- a step --- */

static void accumulated_batches_are_one_large_batch(void **unused)
{
    (void)unused;
    fb_module *m[2] = {net(0), net(0)};
    for (int i = 0; i < 2; i++) {
        fb_trainer_task task = task_of(m[i]);
        task.optimizer = fb_optim_sgd(ctx, m[i], FB_OPTS(fb_sgd_options, .lr = 0.5));
        task.train = loader_of(i ? 2 * BATCH : BATCH, false);
        fb_trainer *t = OPEN(.max_epochs = 1, .accumulate = i ? 0 : 2);
        assert_int_equal(fit(t, &task), 3); /* 2 + 2 + 1 batches */
        assert_int_equal(fb_optim_steps(task.optimizer), 3);
        fb_trainer_close(t);
    }
    for (int i = 0; i < INPUTS * 8; i++)
        assert_true(fabs(parameter(m[0], "0.weight", i) - parameter(m[1], "0.weight", i)) < 1e-6);
}

static double drawn[64];
static int n_drawn;

static fb_tensor *loss_that_draws(fb_trainer *t, const fb_batch *b)
{
    drawn[n_drawn++ % 64] = fb_item(fb_rand(ctx, FB_F32, FB_SCALAR));
    return loss_of(t, b);
}

static void accumulated_batches_draw_other_random_numbers(void **unused)
{
    (void)unused;
    fb_trainer_task task = task_of(net(0));
    task.step = loss_that_draws;
    n_drawn = 0;
    fb_trainer *t = OPEN(.max_epochs = 1, .accumulate = 2);
    fit(t, &task);
    assert_int_equal(n_drawn, EPOCH);
    for (int i = 0; i < n_drawn; i++)
        for (int k = 0; k < i; k++)
            assert_true(drawn[i] != drawn[k]);
    fb_trainer_close(t);
}

static void clipping_bounds_a_step(void **unused)
{
    (void)unused;
    fb_module *m = net(0), *still = net(0);
    fb_trainer_task task = task_of(m);
    task.optimizer = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_trainer *t = OPEN(.max_steps = 1, .clip_norm = 1e-3);
    fit(t, &task);
    double moved = 0;
    static const char *const names[] = {"0.weight", "0.bias", "3.weight", "3.bias"};
    for (int k = 0; k < 4; k++)
        for (int i = 0; i < fb_numel(fb_nn_param(m, names[k])); i++)
            moved += pow(parameter(m, names[k], i) - parameter(still, names[k], i), 2);
    assert_true(sqrt(moved) > 0.9e-3 && sqrt(moved) < 1.01e-3);
    fb_trainer_close(t);
}

static int bad_step; /* from 0; -1: none */

static fb_tensor *loss_that_breaks(fb_trainer *t, const fb_batch *b)
{
    fb_tensor *loss = loss_of(t, b);
    return fb_trainer_steps(t) == bad_step ? fb_mul_scalar(loss, NAN) : loss;
}

static void a_step_that_is_not_finite_is_skipped_told_or_the_end(void **unused)
{
    (void)unused;
    for (int policy = 0; policy <= FB_NAN_STOP; policy++) {
        fb_trainer_task task = task_of(net(0));
        task.step = loss_that_breaks;
        bad_step = 3;
        lines[0] = '\0';
        fb_trainer *t = OPEN(.max_steps = 6, .on_nan = policy);
        fb_status st = fb_trainer_fit(t, &task);
        bool told = strstr(lines, "trainer: step 4: the gradients are not finite; the step was not "
                                  "applied (1 so far)") != NULL;
        assert_int_equal(told, policy == FB_NAN_WARN && fb_world_root(world));
        if (policy == FB_NAN_STOP) {
            assert_int_equal(st, FB_E_USER);
            check_error(ctx, FB_E_USER,
                        "trainer: step 4: the gradients are not finite, and "
                        "trainer.on_nan is stop; the step was not applied");
            assert_int_equal(fb_trainer_steps(t), 4);
        } else {
            assert_int_equal(st, FB_OK);
            assert_int_equal(fb_trainer_steps(t), 6);
            assert_int_equal(fb_optim_steps(task.optimizer), 5);
        }
        assert_true(isfinite(parameter(task.model, "0.weight", 0)));
        fb_trainer_close(t);
    }
}

static void an_average_follows_and_is_what_validation_sees(void **unused)
{
    (void)unused;
    fb_trainer_task task = task_of(net(0));
    double first = parameter(task.model, "0.weight", 3);
    task.valid = loader_of(BATCH, false);
    task.on_log = NULL;
    fb_trainer *t = OPEN(.max_steps = 1, .ema_decay = 0.75, .checkpoint = folder);
    fit(t, &task);
    double now = parameter(task.model, "0.weight", 3);
    double seen_loss = fb_trainer_metric(t, "val_loss");
    fb_trainer_close(t);
    assert_true(now != first);
    /* The model with the averaged values has that loss. */
    fb_module *avg = net(0);
    float v[64];
    static const char *const names[] = {"0.weight", "0.bias", "3.weight", "3.bias"};
    fb_module *start = net(0);
    for (int k = 0; k < 4; k++) {
        fb_tensor *p = fb_nn_param(avg, names[k]);
        for (int i = 0; i < fb_numel(p); i++)
            v[i] = (float)(0.75 * parameter(start, names[k], i) +
                           0.25 * parameter(task.model, names[k], i));
        fb_write(p, v, (size_t)fb_numel(p) * sizeof *v);
    }
    fb_trainer_task other = task_of(avg);
    other.valid = task.valid;
    t = OPEN(0);
    fb_trainer_validate(t, &other);
    assert_true(fabs(fb_trainer_metric(t, "val_loss") - seen_loss) < 1e-6);
    fb_trainer_close(t);
}

static fb_dtype computed_in; /* of a layer in the last step */

static fb_tensor *loss_that_looks(fb_trainer *t, const fb_batch *b)
{
    fb_tensor *y = fb_nn_forward(fb_trainer_model(t), b->input);
    computed_in = fb_dtype_of(y);
    return fb_cross_entropy(y, b->target, NULL);
}

static void halves_learn_with_a_scaler_where_it_is_needed(void **unused)
{
    (void)unused;
    static const fb_dtype half[] = {0, FB_F32, FB_BF16, FB_F16, FB_BF16, FB_F16};
    for (int p = FB_PRECISION_F32; p <= FB_PRECISION_F16_MIXED; p++) {
        fb_trainer_task task = task_of(bare_net(0));
        task.step = loss_that_looks;
        fb_trainer *t = OPEN(.max_epochs = 20, .precision = p, .log_every = 1);
        fit(t, &task);
        fb_dtype stored = p < FB_PRECISION_BF16_MIXED ? half[p] : FB_F32;
        assert_int_equal(fb_dtype_of(fb_nn_param(task.model, "0.weight")), stored);
        assert_int_equal(computed_in, half[p]);
        assert_int_equal(fb_autocast_dtype(ctx), FB_F32); /* after the steps */
        assert_true(fb_trainer_metric(t, "loss") < 0.8);  /* log 3 = 1.0986 */
        assert_int_equal(ctx->scaling.scaler != NULL, half[p] == FB_F16);
        fb_trainer_close(t);
        assert_null(ctx->scaling.scaler);
    }
    fb_trainer_task task = task_of(net(0));
    refused((fb_trainer_options){.precision = FB_PRECISION_BF16}, &task, FB_E_STATE, "fb_nn_to");
}

static fb_tensor *step_by_hand(fb_trainer *t, const fb_batch *b)
{
    fb_optimizer *opt = fb_trainer_user(t);
    fb_tensor *loss = loss_of(t, b);
    fb_backward(loss);
    fb_optim_step(opt);
    return fb_mul_scalar(loss, 0); /* what it reports */
}

static void a_manual_step_does_it_all_itself(void **unused)
{
    (void)unused;
    fb_trainer_task task = task_of(net(0));
    task.step = step_by_hand;
    task.manual = true;
    task.user = task.optimizer;
    fb_trainer *t = OPEN(.max_steps = 4, .log_every = 1);
    fit(t, &task);
    assert_int_equal(fb_optim_steps(task.optimizer), 4);
    assert_true(fb_trainer_metric(t, "loss") == 0);
    fb_trainer_close(t);
}

/* --- what is refused --- */

static fb_tensor *no_loss(fb_trainer *t, const fb_batch *b)
{
    (void)t;
    (void)b;
    return NULL;
}

static void tasks_that_lack_something_are_refused(void **unused)
{
    (void)unused;
    const fb_trainer_options none = {0};
    fb_trainer_task full = task_of(net(0)), k = full;
    refused(none, NULL, FB_E_ARG, "trainer: a task with a `model` is needed");
    k.model = NULL;
    refused(none, &k, FB_E_ARG, "trainer: a task with a `model` is needed");
    k = full;
    k.step = NULL;
    refused(none, &k, FB_E_ARG, "trainer: the task has no `step`");
    k = full;
    k.train = NULL;
    refused(none, &k, FB_E_ARG, "trainer: the task has no `train`");
    k = full;
    k.optimizer = NULL;
    refused(none, &k, FB_E_ARG, "trainer: the task has no `optimizer`");
    k = full;
    k.valid = k.train;
    refused(none, &k, FB_E_ARG, "trainer: `train` and `valid` are one loader");
    k = full;
    k.step = no_loss;
    refused(none, &k, FB_E_USER, "trainer: step 0: `step` returned no loss");
    k = full;
    k.schedule_metric = true;
    refused(none, &k, FB_E_ARG, "trainer: schedule_metric: options.monitor names no metric");
    k = full;
    k.manual = true;
    refused((fb_trainer_options){.accumulate = 2}, &k, FB_E_ARG, "accumulate is for steps");
    fb_trainer *t = OPEN(.max_steps = 1);
    fit(t, &full);
    fb_trainer_task other = task_of(net(0));
    fb_trainer_fit(t, &other);
    check_error(ctx, FB_E_ARG, "trainer: another model than before: a trainer has one");
    fb_trainer_log(t, "x", fb_ones(ctx, FB_F32, FB_SCALAR));
    check_error(ctx, FB_E_STATE, "trainer: log: only a step has samples");
    fb_trainer_validate(t, &full);
    check_error(ctx, FB_E_ARG, "trainer: a validation needs a loader");
    fb_trainer_load(t, &full, "");
    check_error(ctx, FB_E_ARG, "trainer: load: \"best\", \"last\" or a path is needed");
    fb_trainer_close(t);
    t = fb_trainer_open_in(world, NULL, NULL, FB_OPTS(fb_trainer_options, .max_steps = -3));
    check_error(ctx, FB_E_ARG, "trainer: options: trainer.max_steps: \"-3\": a whole number");
    fb_trainer_close(t);
    assert_int_equal(fb_trainer_close(NULL), FB_E_ARG);
    assert_int_equal(fb_trainer_fit(NULL, &full), FB_E_ARG);
    assert_null(fb_trainer_context(NULL));
}

/* The last test: the world is not running after it. */
static void stop_after_two(fb_trainer *t)
{
    if (fb_trainer_steps(t) == 2)
        fb_trainer_stop(t);
}

static void a_wish_to_stop_is_heard_after_the_next_step_and_saved(void **unused)
{
    (void)unused;
    fb_trainer_task task = task_of(net(0));
    task.on_step = stop_after_two;
    fb_trainer *t = OPEN(.max_epochs = 3, .checkpoint = folder);
    assert_int_equal(fit(t, &task), 3);
    assert_true(is_there("step-%09lld", 3));
    assert_int_equal(fb_trainer_close(t), FB_OK);
}

int main(int argc, char **argv)
{
    fb_log_set(hear, NULL);
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(whatever_limit_comes_first_ends_it),
        CASE(total_steps_are_those_of_the_nearest_limit),
        CASE(overfitting_sees_the_first_batches_only_and_learns_them),
        CASE(a_trial_runs_everything_once_and_saves_nothing),
        CASE(accumulated_batches_are_one_large_batch),
        CASE(accumulated_batches_draw_other_random_numbers),
        CASE(clipping_bounds_a_step),
        CASE(a_step_that_is_not_finite_is_skipped_told_or_the_end),
        CASE(an_average_follows_and_is_what_validation_sees),
        CASE(halves_learn_with_a_scaler_where_it_is_needed),
        CASE(a_manual_step_does_it_all_itself),
        CASE(tasks_that_lack_something_are_refused),
        CASE(a_wish_to_stop_is_heard_after_the_next_step_and_saved),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
