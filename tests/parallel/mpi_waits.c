/* ranks: 1 2 */
/* labels: cudasim */
/* A training step between simulated cards never waits for a card: the host runs ahead. */
#include <flambeau/flambeau.h>

#include "core/tensor/context_priv.h"
#include "tests/check.h"
#include "tests/comm/linked.h"

enum { IN = 6, OUT = 3, ROWS = 5, AHEAD = 8, MORE = 4 };

static fb_world *world;
static fb_context *ctx;

typedef struct training {
    fb_module *model;
    fb_optimizer *opt;
    fb_meter *meter;
    fb_tensor *x, *y, *n;
} training;

static training begin(void)
{
    training t = {.meter = fb_meter_open(ctx, "loss")};
    int64_t n = ROWS;
    t.model = fb_nn_sequential(ctx, fb_nn_linear(ctx, IN, 8, NULL),
                               fb_nn_batch_norm1d(ctx, 8, NULL), fb_nn_linear(ctx, 8, OUT, NULL));
    t.opt = fb_optim_adamw(ctx, t.model, FB_OPTS(fb_adamw_options, .weight_decay = 0.1));
    fb_optim_rule(t.opt, "*.bias", FB_OPTS(fb_group_options, .no_decay = true));
    fb_optim_clip_norm(t.opt, 0.5);
    fb_ddp_attach(fb_world_group(world), t.model, NULL);
    fb_set(&t.x, fb_randn(ctx, FB_F32, FB_SHAPE(ROWS, IN)));
    fb_set(&t.y, fb_randint(ctx, 0, OUT, FB_SHAPE(ROWS)));
    fb_set(&t.n, fb_from(ctx, FB_I64, FB_SCALAR, &n));
    check_ok(ctx);
    return t;
}

static void step(training *t, int64_t number, double factor)
{
    FB_SCOPE(ctx);
    fb_batch_info at = {.step = number,
                        .shard = fb_world_rank(world),
                        .first = true,
                        .last = true,
                        .share = 1.0 / fb_world_size(world)};
    fb_context_batch(ctx, &at);
    fb_tensor *loss = fb_cross_entropy(fb_nn_forward(t->model, t->x), t->y,
                                       FB_OPTS(fb_cross_entropy_options, .reduction = FB_LOSS_SUM));
    fb_backward_with(fb_mul_scalar(loss, factor), FB_OPTS(fb_backward_options, .count = t->n));
    fb_meter_add(t->meter, loss, ROWS);
    fb_optim_step(t->opt);
    fb_context_batch(ctx, NULL);
}

static void end(training *t)
{
    fb_set(&t->x, NULL);
    fb_set(&t->y, NULL);
    fb_set(&t->n, NULL);
    check_ok(ctx);
}

/* Eight steps may be on their way; then the host waits for the oldest one's verdict. */
static void the_host_runs_eight_steps_ahead_of_the_card(void **state)
{
    (void)state;
    training t = begin();
    step(&t, 0, 1);
    step(&t, 1, 1);
    assert_int_equal(fb_optim_steps(t.opt), 2);
    uint64_t before = ctx->host_waits;
    for (int i = 0; i < AHEAD; i++)
        step(&t, 2 + i, 1);
    assert_int_equal(ctx->host_waits, before);
    for (int i = 0; i < MORE; i++)
        step(&t, 2 + AHEAD + i, 1);
    assert_true(ctx->host_waits <= before + MORE);
    assert_int_equal(fb_optim_steps(t.opt), 2 + AHEAD + MORE);
    assert_true(ctx->host_waits > before); /* it is counted */
    assert_true(fb_meter_mean(t.meter) > 0);
    assert_true(fb_optim_grad_norm(t.opt) > 0);
    end(&t);
}

static void keep_line(const char *line, void *user)
{
    snprintf(user, 256, "%s", line);
}

/* Steps follow that know nothing of it, and are as if it had not been. */
static void a_step_that_is_skipped_is_told_later_by_its_number(void **state)
{
    (void)state;
    char line[256] = "";
    training t = begin();
    fb_ddp_stats stats;
    fb_log_set(keep_line, line);
    step(&t, 0, 1);
    for (int i = 1; i < 4; i++)
        step(&t, i, i == 2 ? 1e300 : 1);
    assert_int_equal(fb_optim_steps(t.opt), 3);
    fb_log_set(NULL, NULL);
    if (fb_world_root(world))
        assert_string_equal(line, "optim_step: epoch 0, step 2: the gradient of 2.bias is not "
                                  "finite; the step is skipped");
    fb_ddp_stats_of(t.model, &stats);
    assert_int_equal(stats.skipped, 1);
    end(&t);
}

int main(int argc, char **argv)
{
    int code = linked_world(&argc, &argv, NULL, &world);
    if (code)
        return code;
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_host_runs_eight_steps_ahead_of_the_card),
        cmocka_unit_test(a_step_that_is_skipped_is_told_later_by_its_number),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) != FB_OK || failed;
}
