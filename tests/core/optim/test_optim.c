/* Optimizers against a naive reference in double; rules, clipping, spent gradients, schedules. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <math.h>

#include "core/optim/optim_priv.h"

enum { N = 70 };

typedef struct pair {
    fb_tensor *weight, *bias;
} pair;
static const fb_field pair_fields[] = {FB_PARAM(pair, weight), FB_PARAM(pair, bias), {0}};
static fb_tensor *pair_forward(fb_module *m, fb_tensor *x)
{
    (void)m;
    return x;
}
static const fb_module_type pair_type = {
    .name = "Pair", .size = sizeof(pair), .fields = pair_fields, .forward = pair_forward};

static fb_module *pair_new(fb_context *ctx)
{
    pair p = {.weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(7, 10), fb_init_normal(0, 1)),
              .bias = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(10), fb_init_normal(0, 1))};
    return fb_nn_new(ctx, &pair_type, &p);
}

static float gradient(int step, int i)
{
    return sinf((float)(step * 31 + i));
}

static void give_gradient(fb_context *ctx, fb_tensor *t, int step, float factor)
{
    float g[N];
    for (int i = 0; i < fb_numel(t); i++)
        g[i] = factor * gradient(step, i);
    FB_SCOPE(ctx);
    assert_int_equal(fb_set_grad(t, fb_from(ctx, FB_F32, fb_shape_of(t), g)), FB_OK);
}

static void read(fb_tensor *t, float *v)
{
    fb_read(t, v, sizeof(float) * (size_t)fb_numel(t));
}

typedef struct reference {
    double p[N], m[N], v[N], top[N];
} reference;

static void start(reference *r, fb_tensor *t)
{
    float v[N];
    memset(r, 0, sizeof *r);
    read(t, v);
    for (int i = 0; i < fb_numel(t); i++)
        r->p[i] = v[i];
}

static void compare(const reference *r, fb_tensor *t, const char *what)
{
    float v[N];
    read(t, v);
    for (int i = 0; i < fb_numel(t); i++)
        if (fabs(v[i] - r->p[i]) > 2e-6 * (1 + fabs(r->p[i])))
            fail_msg("%s: element %d is %.9g, reference %.9g", what, i, v[i], r->p[i]);
}

static void adam_matches_the_formula(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) { /* Adam, AdamW, each with and without amsgrad */
        bool w = kind & 1, ams = kind & 2;
        fb_context *ctx = check_open_device(2);
        fb_module *m = pair_new(ctx);
        fb_adam_options o = {.lr = 0.01, .weight_decay = 0.1, .amsgrad = ams};
        fb_optimizer *opt = w ? fb_optim_adamw(ctx, m, &o) : fb_optim_adam(ctx, m, &o);
        fb_tensor *t = fb_nn_param(m, "weight");
        reference r;
        start(&r, t);
        for (int s = 1; s <= 20; s++) {
            give_gradient(ctx, t, s, 1);
            give_gradient(ctx, fb_nn_param(m, "bias"), s, 1);
            assert_int_equal(fb_optim_step(opt), FB_OK);
            for (int i = 0; i < N; i++) {
                double g = gradient(s, i) + (w ? 0 : 0.1 * r.p[i]);
                r.p[i] -= w ? 0.01 * 0.1 * r.p[i] : 0;
                r.m[i] = 0.9 * r.m[i] + 0.1 * g;
                r.v[i] = 0.999 * r.v[i] + 0.001 * g * g;
                r.top[i] = fmax(r.top[i], r.v[i]);
                double v = (ams ? r.top[i] : r.v[i]) / (1 - pow(0.999, s));
                r.p[i] -= 0.01 * (r.m[i] / (1 - pow(0.9, s))) / (sqrt(v) + 1e-8);
            }
        }
        compare(&r, t, w ? "AdamW" : "Adam");
        assert_int_equal(fb_optim_steps(opt), 20);
        check_close(ctx);
    }
}

static void sgd_matches_the_formula(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) { /* plain, momentum, nesterov, dampening */
        fb_sgd_options o = {.lr = 0.1,
                            .momentum = kind ? 0.9 : 0,
                            .weight_decay = 0.01,
                            .nesterov = kind == 2,
                            .dampening = kind == 3 ? 0.5 : 0};
        fb_context *ctx = check_open_device(1);
        fb_module *m = pair_new(ctx);
        fb_optimizer *opt = fb_optim_sgd(ctx, m, &o);
        fb_tensor *t = fb_nn_param(m, "weight");
        reference r;
        start(&r, t);
        for (int s = 1; s <= 10; s++) {
            give_gradient(ctx, t, s, 1);
            assert_int_equal(fb_optim_step(opt), FB_OK);
            for (int i = 0; i < N; i++) {
                double g = gradient(s, i) + 0.01 * r.p[i];
                r.m[i] = s == 1 ? g : o.momentum * r.m[i] + (1 - o.dampening) * g;
                double d = kind == 0 ? g : kind == 2 ? g + o.momentum * r.m[i] : r.m[i];
                r.p[i] -= 0.1 * d;
            }
        }
        compare(&r, t, "SGD");
        check_close(ctx);
    }
}

static void a_step_spends_the_gradients(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = pair_new(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, NULL);
    fb_tensor *t = fb_nn_param(m, "weight");
    float a[N], b[N];
    give_gradient(ctx, t, 1, 1);
    fb_optim_step(opt);
    assert_non_null(fb_grad_of(t)); /* readable */
    assert_int_equal(t->leaf->state, FBI_GRAD_SPENT);
    read(t, a);
    fb_optim_step(opt); /* nothing new: nothing happens */
    read(t, b);
    assert_memory_equal(a, b, sizeof a);
    fb_optim_keep_grad(opt, true);
    give_gradient(ctx, t, 1, 1);
    fb_optim_step(opt);
    assert_int_equal(t->leaf->state, FBI_GRAD_LIVE);
    fb_optim_zero_grad(opt);
    assert_null(fb_grad_of(t));
    check_close(ctx);
}

static void only_the_last_micro_batch_acts(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = pair_new(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, NULL);
    fb_tensor *t = fb_nn_param(m, "weight");
    give_gradient(ctx, t, 1, 1);
    fb_context_batch(ctx, &(fb_batch_info){.first = true, .share = 0.5});
    fb_optim_step(opt);
    assert_int_equal(fb_optim_steps(opt), 0);
    fb_context_batch(ctx, &(fb_batch_info){.last = true, .share = 0.5});
    fb_optim_step(opt);
    assert_int_equal(fb_optim_steps(opt), 1);
    fb_context_batch(ctx, NULL);
    check_close(ctx);
}

static void clipping_bounds_the_joint_norm(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = pair_new(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_optim_clip_norm(opt, 0.5);
    fb_tensor *t = fb_nn_param(m, "weight"), *u = fb_nn_param(m, "bias");
    float a[N], b[N];
    read(t, a);
    give_gradient(ctx, t, 1, 3);
    give_gradient(ctx, u, 2, 3);
    fb_optim_step(opt);
    double sq = 0;
    for (int i = 0; i < N; i++)
        sq += 9 * pow(gradient(1, i), 2) + (i < 10 ? 9 * pow(gradient(2, i), 2) : 0);
    assert_true(fabs(fb_optim_grad_norm(opt) - sqrt(sq)) < 1e-5);
    read(t, b);
    for (int i = 0; i < N; i++)
        assert_true(fabs(a[i] - b[i] - 3 * gradient(1, i) * 0.5 / sqrt(sq)) < 1e-6);
    check_close(ctx);
}

static void the_last_rule_that_matches_holds(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = pair_new(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1, .weight_decay = 0.5));
    fb_optim_rule(opt, "*", FB_OPTS(fb_group_options, .only_1d = true, .no_decay = true));
    fb_optim_rule(opt, "wei*", FB_OPTS(fb_group_options, .lr_scale = 0.1));
    fb_tensor *t = fb_nn_param(m, "weight"), *u = fb_nn_param(m, "bias");
    float a[N], b[N], c[N], d[N];
    read(t, a);
    read(u, c);
    give_gradient(ctx, t, 1, 1);
    give_gradient(ctx, u, 1, 1);
    fb_optim_step(opt);
    read(t, b);
    read(u, d);
    assert_true(fabsf(b[1] - (a[1] - 0.1f * (gradient(1, 1) + 0.5f * a[1]))) < 1e-6f);
    assert_true(fabsf(d[1] - (c[1] - gradient(1, 1))) < 1e-6f);
    fb_optim_rule(opt, "*", FB_OPTS(fb_group_options, .frozen = true));
    give_gradient(ctx, t, 1, 1);
    fb_optim_step(opt);
    read(t, a);
    assert_memory_equal(a, b, sizeof a);
    check_close(ctx);
}

static void frozen_parameters_stay_and_tied_ones_move_once(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = pair_new(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_optim_add_module(opt, "again", m);
    fb_nn_freeze(m, "bias");
    fb_tensor *t = fb_nn_param(m, "weight"), *u = fb_nn_param(m, "bias");
    float a[N], b[N], c[N], d[N];
    read(t, a);
    read(u, c);
    give_gradient(ctx, t, 1, 1);
    give_gradient(ctx, u, 1, 1);
    fb_optim_step(opt);
    read(t, b);
    read(u, d);
    assert_memory_equal(c, d, 10 * sizeof(float));
    assert_true(fabsf(b[3] - (a[3] - gradient(1, 3))) < 1e-6f);
    check_close(ctx);
}

static fb_status count_states(const char *name, fb_tensor *t, void *user)
{
    char *all = user;
    assert_non_null(t);
    strcat(all, name);
    strcat(all, " ");
    return FB_OK;
}

static void state_is_named_after_parameters(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_optimizer *opt = fb_optim_adam(ctx, pair_new(ctx), NULL);
    char all[512] = "";
    assert_int_equal(fbi_optim_each_state(opt, count_states, all), FB_OK);
    assert_string_equal(all, "bias.exp_avg bias.exp_avg_sq bias.step weight.exp_avg "
                             "weight.exp_avg_sq weight.step ");
    fbi_scalar s[2];
    assert_int_equal(fbi_optim_scalars(opt, s, 2), 2);
    assert_string_equal(s[0].name, "step");
    check_close(ctx);
}

static double half(int64_t step, void *user)
{
    (void)user;
    return step ? 0.5 : 1;
}

static void schedules_follow_their_formulas(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_optimizer *opt = fb_optim_sgd(ctx, NULL, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_schedule *s = fb_schedule_step_lr(opt, 2, 0.1);
    double want[] = {1, 0.1, 0.1, 0.01};
    for (int i = 0; i < 4; i++) {
        fb_schedule_step(s);
        assert_true(fabs(fb_optim_lr(opt) - want[i]) < 1e-12);
    }
    fb_schedule_close(s);
    fb_optim_set_lr(opt, 2);
    s = fb_schedule_cosine(opt, 14, FB_OPTS(fb_cosine_options, .warmup = 4, .min_lr = 1));
    assert_true(fb_optim_lr(opt) == 0);
    for (int i = 1; i <= 20; i++) {
        fb_schedule_step(s);
        double x = i < 4 ? 0.5 * i : i > 14 ? 1 : 1 + 0.5 * (1 + cos(M_PI * (i - 4) / 10));
        assert_true(fabs(fb_optim_lr(opt) - x) < 1e-12);
    }
    fb_schedule_close(s);
    fb_optim_set_lr(opt, 2);
    s = fb_schedule_lambda(opt, half, NULL);
    fb_schedule_step(s);
    assert_true(fb_schedule_lr(s) == 1);
    assert_null(fb_schedule_cosine(opt, 3, FB_OPTS(fb_cosine_options, .warmup = 3)));
    check_error(ctx, FB_E_ARG, "3 of warm-up");
    check_close(ctx);
}

static void the_moving_average_follows(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = pair_new(ctx);
    fb_ema *ema = fb_ema_open(m, 0.75);
    fb_tensor *t = fb_nn_param(m, "weight"), *a = fb_nn_param(fb_ema_module(ema), "weight");
    float v[N], w[N];
    read(a, v);
    float ones[N];
    for (int i = 0; i < N; i++)
        ones[i] = 1;
    fb_write(t, ones, sizeof ones);
    fb_ema_update(ema);
    read(a, w);
    for (int i = 0; i < N; i++)
        assert_true(fabsf(w[i] - (0.75f * v[i] + 0.25f)) < 1e-6f);
    fb_nn_close(m); /* the EMA holds it */
    fb_ema_update(ema);
    fb_ema_close(ema);
    check_close(ctx);
}

static void a_meter_weighs_by_samples(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_meter *meter = fb_meter_open(ctx, "loss");
    float one = 1, four = 4;
    fb_meter_add(meter, fb_from(ctx, FB_F32, FB_SCALAR, &one), 2);
    fb_meter_add(meter, fb_from(ctx, FB_F32, FB_SCALAR, &four), 1);
    assert_true(fb_meter_mean(meter) == 2);
    assert_true(isnan(fb_meter_mean(meter)));
    check_close(ctx);
}

enum { BIG = 70001 };

static void threads_do_not_change_bits(void **state)
{
    (void)state;
    static float v[2][BIG], g[BIG];
    double norm[2];
    for (int k = 0; k < 2; k++) {
        fb_context *ctx = check_open_device(k ? 3 : 1);
        pair p = {.weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(BIG), fb_init_normal(0, 1)),
                  .bias = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(BIG), fb_init_normal(0, 1))};
        fb_module *m = fb_nn_new(ctx, &pair_type, &p);
        fb_optimizer *opt = fb_optim_adamw(ctx, m, NULL);
        fb_optim_clip_norm(opt, 1);
        fb_tensor *t = fb_nn_param(m, "weight"), *u = fb_nn_param(m, "bias");
        for (int step = 0; step < 2; step++) {
            FB_SCOPE(ctx);
            for (int i = 0; i < BIG; i++)
                g[i] = gradient(step, i);
            fb_set_grad(t, fb_from(ctx, FB_F32, FB_SHAPE(BIG), g));
            fb_set_grad(u, fb_from(ctx, FB_F32, FB_SHAPE(BIG), g));
            fb_optim_step(opt);
        }
        norm[k] = fb_optim_grad_norm(opt);
        read(t, v[k]);
        check_close(ctx);
    }
    assert_true(norm[0] == norm[1] && norm[0] > 1);
    assert_memory_equal(v[0], v[1], sizeof v[0]);
}

static fb_status refuse(void *self, fbi_commit *c)
{
    ++*(int *)self;
    c->apply = false;
    return FB_OK;
}

static fb_status half_of(void *self, fbi_commit *c)
{
    (void)self;
    c->norm2 = 100;
    c->scale = 0.5;
    return FB_OK;
}

static void the_reducer_decides(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_module *m = pair_new(ctx);
    fb_optimizer *opt = fb_optim_sgd(ctx, m, FB_OPTS(fb_sgd_options, .lr = 1));
    fb_tensor *t = fb_nn_param(m, "weight");
    float a[N], b[N];
    int calls = 0;
    fbi_reducer no = {.self = &calls, .root = m, .commit = refuse};
    fbi_reducer scaled = {.root = m, .commit = half_of};
    assert_int_equal(fbi_reducer_set(m, &no), FB_OK);
    read(t, a);
    give_gradient(ctx, t, 1, 1);
    fb_optim_step(opt);
    read(t, b);
    assert_memory_equal(a, b, sizeof a);
    assert_int_equal(calls, 1);
    assert_int_equal(fb_optim_steps(opt), 0);
    assert_int_equal(t->leaf->state, FBI_GRAD_SPENT);
    fbi_reducer_set(m, NULL);
    fbi_reducer_set(m, &scaled);
    fb_optim_clip_norm(opt, 1000);
    give_gradient(ctx, t, 1, 1);
    fb_optim_step(opt);
    read(t, b);
    assert_true(fb_optim_grad_norm(opt) == 5);
    assert_true(fabsf(a[2] - b[2] - 0.5f * gradient(1, 2)) < 1e-6f);
    check_close(ctx);
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    assert_null(fb_optim_adam(ctx, NULL, FB_OPTS(fb_adam_options, .beta1 = 1)));
    check_error(ctx, FB_E_ARG, "betas must lie in [0, 1)");
    assert_null(fb_optim_sgd(ctx, NULL, FB_OPTS(fb_sgd_options, .nesterov = true)));
    check_error(ctx, FB_E_ARG, "nesterov needs momentum");
    float v = 1;
    fb_optimizer *opt = fb_optim_sgd(ctx, NULL, NULL);
    fb_optim_add_tensor(opt, "x", fb_from(ctx, FB_F32, FB_SCALAR, &v));
    check_error(ctx, FB_E_ARG, "requires a gradient");
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adam_matches_the_formula),
        cmocka_unit_test(sgd_matches_the_formula),
        cmocka_unit_test(a_step_spends_the_gradients),
        cmocka_unit_test(only_the_last_micro_batch_acts),
        cmocka_unit_test(clipping_bounds_the_joint_norm),
        cmocka_unit_test(the_last_rule_that_matches_holds),
        cmocka_unit_test(frozen_parameters_stay_and_tied_ones_move_once),
        cmocka_unit_test(state_is_named_after_parameters),
        cmocka_unit_test(schedules_follow_their_formulas),
        cmocka_unit_test(the_moving_average_follows),
        cmocka_unit_test(a_meter_weighs_by_samples),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(the_reducer_decides),
        cmocka_unit_test(wrong_options_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
