/* L-BFGS in Rosenbrock's valley, with PyTorch's numbers (2.15, F64); what it refuses; closures. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/autocast.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>
#include <math.h>

#include "core/optim/optim_priv.h"

typedef struct valley {
    fb_context *ctx;
    fb_optimizer *opt;
    fb_tensor *x;
    bool breaks, silent, counts;
    int calls;
} valley;

/* Rosenbrock's, of three unknowns. */
static fb_tensor *rosenbrock(void *user)
{
    valley *v = user;
    v->calls++;
    if (v->silent)
        return NULL;
    fb_tensor *head = fb_narrow(v->x, 0, 0, 2), *tail = fb_narrow(v->x, 0, 1, 2);
    fb_tensor *bend = fb_mul_scalar(fb_square(fb_sub(tail, fb_square(head))), 100);
    fb_tensor *flat = fb_square(fb_add_scalar(fb_neg(head), 1));
    fb_tensor *loss = fb_sum(fb_add(bend, flat), FB_ALL, false);
    if (v->breaks && v->calls > 2)
        loss = fb_mul_scalar(loss, INFINITY);
    fb_status st = FB_OK;
    if (v->counts)
        st = fb_backward_with(loss, &(fb_backward_options){.count = fb_ones_like(loss)});
    else
        st = fb_backward(loss);
    return st ? NULL : loss;
}

static valley valley_of(fb_dtype dtype, const fb_lbfgs_options *o)
{
    static const double at[] = {-1.2, 1, -0.5};
    valley v = {.ctx = check_open_device(1)};
    v.opt = fb_optim_lbfgs(v.ctx, NULL, o);
    check_ok(v.ctx);
    fb_tensor *x = fb_to(fb_from(v.ctx, FB_F64, FB_SHAPE(3), at), dtype);
    v.x = fb_requires_grad(fb_detach(x), true);
    assert_int_equal(fb_optim_add_tensor(v.opt, "x", v.x), FB_OK);
    return v;
}

static void read3(const valley *v, double *x)
{
    FB_SCOPE(v->ctx);
    fb_no_grad(v->ctx);
    fb_read(fb_to(v->x, FB_F64), x, 3 * sizeof *x);
}

static void lbfgs_walks_as_pytorch_does(void **state)
{
    (void)state;
    static const double after[2][4] = {
        {-1.19677991918, 0.996863688602, -0.491091105308, 246.07202247938267},
        {-0.169533383503, 0.0136042332711, -0.0122663926244, 2.742785266412572}};
    for (int wolfe = 0; wolfe < 2; wolfe++)
        for (int wide = 0; wide < 2; wide++) {
            fb_lbfgs_options o = {
                .lr = wolfe ? 1 : 1e-3, .max_iter = 4, .history_size = 3, .strong_wolfe = wolfe};
            valley v = valley_of(wide ? FB_F64 : FB_F32, &o);
            double x[3], most = wide ? 1e-8 : 1e-3;
            fb_tensor *loss = NULL;
            for (int s = 0; s < 3; s++)
                loss = fb_optim_step_closure(v.opt, rosenbrock, &v);
            check_ok(v.ctx);
            assert_true(fabs(fb_item(loss) - after[wolfe][3]) < most * after[wolfe][3]);
            read3(&v, x);
            for (int i = 0; i < 3; i++)
                assert_true(fabs(x[i] - after[wolfe][i]) < most);
            assert_int_equal(fb_optim_steps(v.opt), 3);
            check_close(v.ctx);
        }
}

static void lbfgs_finds_the_bottom(void **state)
{
    (void)state;
    valley v = valley_of(FB_F64, &(fb_lbfgs_options){.strong_wolfe = true, .max_iter = 60});
    double x[3];
    fb_optim_step_closure(v.opt, rosenbrock, &v);
    read3(&v, x);
    for (int i = 0; i < 3; i++)
        assert_true(fabs(x[i] - 1) < 1e-6);
    check_close(v.ctx);
}

static void lbfgs_stays_where_a_loss_is_not_finite(void **state)
{
    (void)state;
    valley v = valley_of(FB_F64, &(fb_lbfgs_options){.strong_wolfe = true});
    double x[3];
    v.breaks = true;
    assert_non_null(fb_optim_step_closure(v.opt, rosenbrock, &v));
    read3(&v, x);
    for (int i = 0; i < 3; i++)
        assert_true(isfinite(x[i]));
    assert_int_equal(fb_optim_steps(v.opt), 0);
    check_close(v.ctx);
}

static void lbfgs_refuses_what_a_line_search_cannot_have(void **state)
{
    (void)state;
    valley v = valley_of(FB_F32, NULL);
    assert_int_equal(fb_optim_step(v.opt), FB_E_STATE);
    check_error(v.ctx, FB_E_STATE, "call fb_optim_step_closure");
    assert_null(fb_optim_step_closure(v.opt, NULL, NULL));
    check_error(v.ctx, FB_E_ARG, "the closure is NULL");
    v.silent = true;
    assert_null(fb_optim_step_closure(v.opt, rosenbrock, &v));
    check_error(v.ctx, FB_E_USER, "the closure gave no loss");
    v.silent = false;
    v.counts = true;
    assert_null(fb_optim_step_closure(v.opt, rosenbrock, &v));
    check_error(v.ctx, FB_E_UNSUPPORTED, "fb_backward was given a count");
    v.counts = false;
    fb_optim_clip_norm(v.opt, 1);
    assert_null(fb_optim_step_closure(v.opt, rosenbrock, &v));
    check_error(v.ctx, FB_E_UNSUPPORTED, "cannot be clipped");
    fb_optim_clip_norm(v.opt, 0);
    fb_scaler *scaler = fb_optim_scaler(v.opt, NULL);
    assert_null(fb_optim_step_closure(v.opt, rosenbrock, &v));
    check_error(v.ctx, FB_E_UNSUPPORTED, "losses are scaled");
    fb_scaler_close(scaler);
    check_close(v.ctx);
    v = valley_of(FB_BF16, NULL);
    assert_null(fb_optim_step_closure(v.opt, rosenbrock, &v));
    check_error(v.ctx, FB_E_DTYPE, "x is BF16; all parameters must be F32");
    check_close(v.ctx);
}

/* The closure of a step in a region finds it; the step itself is F32's. */
static fb_tensor *noting(void *user)
{
    valley *v = user;
    v->silent = fb_autocast_dtype(v->ctx) != FB_BF16;
    return rosenbrock(user);
}

static void a_region_is_the_closures(void **state)
{
    (void)state;
    double x[2][3];
    for (int k = 0; k < 2; k++) {
        valley v = valley_of(FB_F32, &(fb_lbfgs_options){.strong_wolfe = true});
        if (k)
            fb_autocast(v.ctx, FB_BF16);
        assert_non_null(fb_optim_step_closure(v.opt, k ? noting : rosenbrock, &v));
        assert_int_equal(fb_autocast_dtype(v.ctx), k ? FB_BF16 : FB_F32);
        read3(&v, x[k]);
        check_close(v.ctx);
    }
    for (int i = 0; i < 3; i++) /* there are no products in the valley */
        assert_true(x[0][i] == x[1][i]);
}

static void a_closure_serves_every_optimizer(void **state)
{
    (void)state;
    valley v = valley_of(FB_F64, NULL);
    fb_optimizer *adam = fb_optim_adam(v.ctx, NULL, &(fb_adam_options){.lr = 0.01});
    assert_int_equal(fb_optim_add_tensor(adam, "x", v.x), FB_OK);
    double first = fb_item(fb_optim_step_closure(adam, rosenbrock, &v));
    for (int s = 0; s < 20; s++)
        fb_optim_step_closure(adam, rosenbrock, &v);
    assert_true(fb_item(fb_optim_step_closure(adam, rosenbrock, &v)) < first);
    assert_int_equal(v.calls, 22);
    check_close(v.ctx);
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    assert_null(fb_optim_lbfgs(ctx, NULL, &(fb_lbfgs_options){.max_iter = -1}));
    check_error(ctx, FB_E_ARG, "fb_optim_lbfgs: max_iter is -1; it must be finite and at least 1");
    assert_null(fb_optim_lbfgs(ctx, NULL, &(fb_lbfgs_options){.history_size = -3}));
    check_error(ctx, FB_E_ARG, "history_size is -3");
    assert_null(fb_optim_lbfgs(ctx, NULL, &(fb_lbfgs_options){.tolerance_grad = -1}));
    check_error(ctx, FB_E_ARG, "tolerance_grad is -1");
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lbfgs_walks_as_pytorch_does),
        cmocka_unit_test(lbfgs_finds_the_bottom),
        cmocka_unit_test(lbfgs_stays_where_a_loss_is_not_finite),
        cmocka_unit_test(lbfgs_refuses_what_a_line_search_cannot_have),
        cmocka_unit_test(a_region_is_the_closures),
        cmocka_unit_test(a_closure_serves_every_optimizer),
        cmocka_unit_test(wrong_options_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
