/* ranks: 1 2
 * Saves by a thread: the values of the call are saved, whatever happens to them afterwards. */
#include <sys/stat.h>
#include <unistd.h>

#include <flambeau/comm/world.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/io/checkpoint.h>

#include "comm/group_priv.h"
#include "tests/io/io_test_priv.h"

enum { WIDE = 400000 }; /* a weight of several buckets */

static fb_world *world;
static fb_context *ctx;
static char folder[64]; /* the same on every rank */

typedef struct run {
    fb_module *m;
    fb_optimizer *opt;
    fb_ema *ema;
    fb_state *s;
    int64_t step;
    double rate;
} run;

static bool root(void)
{
    return fb_world_root(world);
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
    assert_int_equal(fb_world_barrier(world), FB_OK);
    if (root())
        remove_folder(folder);
    return 0;
}

static void train(run *r, int steps)
{
    for (int i = 0; i < steps; i++) {
        FB_SCOPE(ctx);
        fb_tensor *y = fb_nn_forward(r->m, fb_rand(ctx, FB_F32, FB_SHAPE(3, 5)));
        fb_backward(fb_mean(fb_mul(y, y), FB_ALL, false));
        fb_optim_step(r->opt);
        fb_ema_update(r->ema);
        r->step++;
        r->rate /= 2;
    }
    check_ok(ctx);
}

static void begin(run *r)
{
    *r = (run){.rate = 1};
    r->m = fb_nn_sequential(ctx, fb_nn_linear(ctx, 5, WIDE, NULL),
                            fb_nn_batch_norm1d(ctx, WIDE, NULL), fb_nn_linear(ctx, WIDE, 2, NULL));
    r->opt = fb_optim_adam(ctx, r->m, NULL);
    r->ema = fb_ema_open(r->m, 0.9);
    r->s = fb_state_open(ctx);
    fb_state_add(r->s, "model", r->m);
    fb_state_add(r->s, "optimizer", r->opt);
    fb_state_add(r->s, "ema", r->ema);
    fb_state_add(r->s, "step", &r->step);
    fb_state_add(r->s, "rate", &r->rate);
    train(r, 1);
}

static void end(run *r)
{
    fb_state_close(r->s);
    fb_ema_close(r->ema);
    fb_optim_close(r->opt);
    fb_nn_close(r->m);
}

static void save(run *r)
{
    assert_int_equal(fb_checkpoint_save_async(world, folder, r->s, NULL), FB_OK);
}

/* Resumed, the state has this digest. */
static void holds(run *r, const char *digest)
{
    char found[17];
    assert_int_equal(fb_checkpoint_resume(world, folder, r->s), FB_OK);
    check_ok(ctx);
    assert_string_equal(fb_state_digest(r->s, found), digest);
}

static void training_goes_on_and_the_values_of_the_call_are_saved(void **unused)
{
    (void)unused;
    run r;
    char digest[17], now[17];
    begin(&r);
    for (int i = 0; i < 3; i++) { /* the second time the memory of the copies is used again */
        fb_state_digest(r.s, digest);
        save(&r);
        train(&r, 2);
        assert_string_not_equal(fb_state_digest(r.s, now), digest);
        assert_int_equal(fb_checkpoint_wait(world), FB_OK);
        holds(&r, digest);
        train(&r, 1);
    }
    end(&r);
}

typedef fb_status (*change_fn)(fb_tensor *);

static fb_status by_operator(fb_tensor *t)
{
    return fb_fill_(t, 7);
}

static fb_status by_writing(fb_tensor *t)
{
    size_t bytes = (size_t)fb_numel(t) * sizeof(float);
    float *values = calloc(1, bytes);
    fb_status st = fb_write(t, values, bytes);
    free(values);
    return st;
}

static fb_status by_pointer(fb_tensor *t)
{
    float *values = fb_data_mut(t);
    for (int64_t i = 0; i < fb_numel(t); i++)
        values[i] = -1;
    return FB_OK;
}

static fb_status change_all(const char *name, fb_tensor *t, void *user)
{
    (void)name;
    FB_SCOPE(ctx);
    fb_no_grad(ctx);
    return ((change_fn *)user)[0](t);
}

static void every_way_to_change_a_parameter_waits_for_its_copy(void **unused)
{
    (void)unused;
    change_fn ways[] = {by_operator, by_writing, by_pointer}; /* pointers are for the host */
    int n = fb_data(fb_ones(ctx, FB_F32, FB_SCALAR)) ? 3 : 2;
    fb_error_take(ctx, NULL, 0);
    run r;
    char digest[17];
    begin(&r);
    for (int i = 0; i < n; i++) {
        FB_SCOPE(ctx);
        r.step++;
        fb_state_digest(r.s, digest);
        save(&r);
        assert_int_equal(fb_nn_each_param(r.m, change_all, &ways[i]), FB_OK);
        assert_int_equal(fb_checkpoint_wait(world), FB_OK);
        holds(&r, digest);
        train(&r, 1);
    }
    end(&r);
}

static void objects_may_go_before_they_are_on_the_disk(void **unused)
{
    (void)unused;
    run r, other;
    char digest[17];
    begin(&r);
    train(&r, 1); /* a step that the other one has not */
    fb_state_digest(r.s, digest);
    save(&r);
    end(&r);
    begin(&other); /* takes the memory of the first, were it free */
    holds(&other, digest);
    end(&other);
}

static void a_second_save_waits_for_the_first(void **unused)
{
    (void)unused;
    run r;
    char path[128], text[512];
    begin(&r);
    for (int i = 0; i < 2; i++) {
        save(&r);
        train(&r, 1);
    }
    assert_int_equal(fb_checkpoint_wait(world), FB_OK);
    assert_int_equal(fb_checkpoint_wait(world), FB_OK); /* nothing runs: that of before */
    for (int step = 1; step <= 2 && root(); step++) {
        snprintf(path, sizeof path, "%s/step-%09d", folder, step);
        if (!fb_checkpoint_verify(path, text, sizeof text))
            fail_msg("%s: %s", path, text);
    }
    end(&r);
}

static void a_save_that_fails_is_told_and_the_next_one_succeeds(void **unused)
{
    (void)unused;
    run r;
    begin(&r);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fb_checkpoint_save_async(world, "/proc/nowhere", r.s, NULL), FB_OK);
        train(&r, 1);
        check_ok(ctx);
    }
    assert_int_equal(fb_checkpoint_wait(world), FB_E_IO);
    check_ok(ctx);
    save(&r);
    assert_int_equal(fb_checkpoint_wait(world), FB_OK);
    end(&r);
}

static void nothing_to_wait_for_is_fine(void **unused)
{
    (void)unused;
    assert_int_equal(fb_checkpoint_wait(world), FB_OK);
    assert_int_equal(fb_checkpoint_save_async(world, folder, NULL, NULL), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "a state and a folder with a path");
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

/* The world's end waits, too. @return whether the last checkpoint is whole */
static bool closing_waits(fb_status *closed)
{
    run r;
    char path[128], text[512];
    make_folder(folder);
    begin(&r);
    save(&r);
    snprintf(path, sizeof path, "%s/step-%09d", folder, 1);
    *closed = fb_world_close(world);
    bool whole = fb_checkpoint_verify(path, text, sizeof text);
    remove_folder(folder);
    return whole;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    const struct CMUnitTest tests[] = {
        CASE(nothing_to_wait_for_is_fine),
        CASE(training_goes_on_and_the_values_of_the_call_are_saved),
        CASE(every_way_to_change_a_parameter_waits_for_its_copy),
        CASE(objects_may_go_before_they_are_on_the_disk),
        CASE(a_second_save_waits_for_the_first),
        CASE(a_save_that_fails_is_told_and_the_next_one_succeeds),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (fb_world_size(world) > 1)
        return fb_world_close(world) || failed;
    fb_status closed;
    bool whole = closing_waits(&closed);
    if (!whole)
        fprintf(stderr, "fb_world_close has not waited for the save\n");
    return closed || failed || !whole;
}
