/* Loss scaling: steps of finite gradients are as if there were none; the others are skipped, and
 * the scale follows PyTorch's rule. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <math.h>

#include "core/optim/optim_priv.h"

enum { N = 13 };

/* A parameter with its own optimizer. */
typedef struct learner {
    fb_tensor *p;
    fb_optimizer *opt;
} learner;

static learner learner_of(fb_context *ctx, double lr)
{
    float v[N];
    for (int i = 0; i < N; i++)
        v[i] = cosf((float)i);
    learner l = {fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(N), v), true),
                 fb_optim_sgd(ctx, NULL, FB_OPTS(fb_sgd_options, .lr = lr))};
    assert_int_equal(fb_optim_add_tensor(l.opt, "p", l.p), FB_OK);
    return l;
}

static void read(fb_tensor *t, float v[N])
{
    assert_int_equal(fb_read(t, v, N * sizeof *v), FB_OK);
}

/* d loss / d p = factor everywhere. */
static void backward(learner l, double factor)
{
    FB_SCOPE(fb_context_of(l.p));
    fb_tensor *loss = fb_sum(fb_mul_scalar(l.p, factor), FB_ALL, false);
    assert_int_equal(fb_backward(loss), FB_OK);
}

static void train(learner l, double factor)
{
    backward(l, factor);
    assert_int_equal(fb_optim_step(l.opt), FB_OK);
}

/* --- without overflow --- */

static void square(learner l, bool counted, bool last)
{
    fb_context *ctx = fb_context_of(l.p);
    FB_SCOPE(ctx);
    int64_t n = N;
    fb_context_batch(ctx, &(fb_batch_info){.first = !last, .last = last, .share = 0.5});
    fb_tensor *loss = fb_sum(fb_mul(fb_mul(l.p, l.p), l.p), FB_ALL, false);
    fb_tensor *count = counted ? fb_from(ctx, FB_I64, FB_SCALAR, &n) : NULL;
    assert_int_equal(fb_backward_with(loss, FB_OPTS(fb_backward_options, .count = count)), FB_OK);
    assert_int_equal(fb_optim_step(l.opt), FB_OK);
    fb_context_batch(ctx, NULL);
}

static void a_finite_step_has_the_bits_of_one_without(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) { /* counted or not, clipped or not */
        float v[2][N];
        double norm[2];
        for (int with = 0; with < 2; with++) {
            fb_context *ctx = check_open_device(1);
            learner l = learner_of(ctx, 0.1);
            if (with)
                assert_non_null(fb_optim_scaler(l.opt, NULL));
            if (kind & 2)
                fb_optim_clip_norm(l.opt, 0.3);
            for (int s = 0; s < 4; s++) {
                square(l, kind & 1, false);
                square(l, kind & 1, true);
            }
            read(l.p, v[with]);
            norm[with] = kind & 2 ? fb_optim_grad_norm(l.opt) : 0;
            assert_int_equal(fb_optim_steps(l.opt), 4);
            check_close(ctx);
        }
        assert_memory_equal(v[0], v[1], sizeof v[0]);
        assert_true(norm[0] == norm[1]);
    }
}

/* 1e-9 is nothing in F16; 65536 of it is something. */
static void small_gradients_survive_f16(void **state)
{
    (void)state;
    for (int with = 0; with < 2; with++) {
        fb_context *ctx = check_open_device(1);
        fb_tensor *p = fb_requires_grad(fb_zeros(ctx, FB_F32, FB_SHAPE(N)), true);
        fb_optimizer *opt = fb_optim_sgd(ctx, NULL, FB_OPTS(fb_sgd_options, .lr = 1));
        float v[N];
        fb_optim_add_tensor(opt, "p", p);
        if (with)
            assert_non_null(fb_optim_scaler(opt, NULL));
        fb_tensor *y = fb_to(fb_to(p, FB_F16), FB_F32);
        fb_backward(fb_sum(fb_mul_scalar(y, 1e-9), FB_ALL, false));
        fb_optim_step(opt);
        read(p, v);
        if (with)
            assert_true(fabs((double)v[0] + 1e-9) < 2e-12);
        else
            assert_true(v[0] == 0);
        check_close(ctx);
    }
}

/* --- the rule --- */

static void the_scale_follows_the_rule(void **state)
{
    (void)state;
    static const bool fine[] = {1, 1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1};
    enum { STEPS = sizeof fine };
    fb_context *ctx = check_open_device(1);
    learner l = learner_of(ctx, 1);
    fb_scaler *s = fb_optim_scaler(l.opt, FB_OPTS(fb_scaler_options, .scale = 256, .growth = 4,
                                                  .backoff = 0.25, .interval = 3));
    double scale = 256;
    int good = 0, skipped = 0;
    float before[N], after[N];
    for (int i = 0; i < STEPS; i++) {
        read(l.p, before);
        train(l, fine[i] ? 0.5 : 2e38); /* which the scale makes infinite */
        read(l.p, after);
        for (int k = 0; k < N; k++)
            assert_true(after[k] == before[k] - (fine[i] ? 0.5F : 0));
        scale *= fine[i] ? 1 : 0.25;
        good = fine[i] ? good + 1 : 0;
        skipped += !fine[i];
        if (good == 3) {
            scale *= 4;
            good = 0;
        }
        if (fb_scaler_value(s) != scale)
            fail_msg("after step %d the scale is %g, not %g", i, fb_scaler_value(s), scale);
    }
    assert_int_equal(fb_scaler_skipped(s), skipped);
    assert_int_equal(fb_optim_steps(l.opt), STEPS - skipped);
    check_close(ctx);
}

static void two_optimizers_divide_by_the_same(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    learner a = learner_of(ctx, 1), b = learner_of(ctx, 1);
    fb_scaler *s = fb_optim_scaler(a.opt, NULL);
    float start[N], v[N];
    read(a.p, start);
    backward(a, 1e38);
    backward(b, 0.25);
    fb_optim_step(a.opt); /* infinite */
    fb_optim_step(b.opt); /* although the scale will fall */
    read(a.p, v);
    assert_memory_equal(v, start, sizeof v);
    read(b.p, v);
    for (int i = 0; i < N; i++)
        assert_true(v[i] == start[i] - 0.25F);
    assert_true(fb_scaler_value(s) == 32768);
    check_close(ctx);
}

static void no_step_waits(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    learner l = learner_of(ctx, 1e-3);
    assert_non_null(fb_optim_scaler(l.opt, NULL));
    train(l, 1);
    train(l, 1);
    assert_int_equal(fb_optim_steps(l.opt), 2);
    uint64_t before = ctx->host_waits;
    for (int i = 0; i < 8; i++)
        train(l, i % 2 ? 1e38 : 1);
    assert_int_equal(ctx->host_waits, before);
    assert_int_equal(fb_optim_steps(l.opt), 6);
    check_close(ctx);
}

/* --- the rest --- */

static void a_checkpoint_has_its_numbers(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    learner l = learner_of(ctx, 1);
    fb_scaler *s = fb_optim_scaler(l.opt, FB_OPTS(fb_scaler_options, .interval = 3));
    fbi_scalar all[8];
    train(l, 1);
    train(l, 1e38);
    train(l, 1);
    train(l, 1);
    int n = fbi_scaler_scalars(s, all, 8), seen = 0;
    for (int i = 0; i < n; i++) {
        if (!strcmp(all[i].name, "scale")) {
            assert_true(*all[i].f == 32768);
            *all[i].f = 8; /* as a resume does */
            seen++;
        } else if (!strcmp(all[i].name, "skipped")) {
            assert_int_equal(*all[i].i, 1);
            seen++;
        }
    }
    assert_int_equal(seen, 2);
    assert_true(fb_scaler_value(s) == 8);
    train(l, 1); /* the third good one in a row */
    assert_true(fb_scaler_value(s) == 16);
    check_close(ctx);
}

static void a_closed_scaler_scales_nothing(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    learner l = learner_of(ctx, 1);
    float g[N];
    fb_scaler *s = fb_optim_scaler(l.opt, FB_OPTS(fb_scaler_options, .scale = 8));
    backward(l, 3);
    read(fb_grad_of(l.p), g);
    assert_true(g[0] == 24);
    fb_optim_zero_grad(l.opt);
    fb_scaler_close(s);
    backward(l, 3);
    read(fb_grad_of(l.p), g);
    assert_true(g[0] == 3);
    fb_scaler_close(NULL);
    check_close(ctx);
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    static const fb_scaler_options wrong[] = {
        {.scale = -1}, {.scale = 1e300}, {.growth = 0.5}, {.backoff = 2}, {.interval = -1}};
    fb_context *ctx = check_open_device(1);
    learner l = learner_of(ctx, 1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_null(fb_optim_scaler(l.opt, &wrong[i]));
        check_error(ctx, FB_E_ARG, "growth at least 1, backoff in (0, 1]");
    }
    assert_non_null(fb_optim_scaler(l.opt, NULL));
    assert_null(fb_optim_scaler(l.opt, NULL));
    check_error(ctx, FB_E_STATE, "the context has a scaler");
    assert_null(fb_optim_scaler(NULL, NULL));
    assert_true(isnan(fb_scaler_value(NULL)));
    assert_int_equal(fb_scaler_skipped(NULL), 0);
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_finite_step_has_the_bits_of_one_without),
        cmocka_unit_test(small_gradients_survive_f16),
        cmocka_unit_test(the_scale_follows_the_rule),
        cmocka_unit_test(two_optimizers_divide_by_the_same),
        cmocka_unit_test(no_step_waits),
        cmocka_unit_test(a_checkpoint_has_its_numbers),
        cmocka_unit_test(a_closed_scaler_scales_nothing),
        cmocka_unit_test(wrong_options_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
