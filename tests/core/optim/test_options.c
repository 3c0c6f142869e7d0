/* The optimizers beside SGD and Adam: what they refuse, and whether their steps wait for a device.
 */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <math.h>

#include "core/optim/optim_priv.h"

typedef fb_optimizer *(*maker)(fb_context *, fb_module *, const void *);

static void wrong_options_are_named(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    const struct {
        maker make;
        const void *options;
        const char *text;
    } wrong[] = {
#define WRONG(n, text, ...) {(maker)fb_optim_##n, &(fb_##n##_options){__VA_ARGS__}, text}
        WRONG(rmsprop, "fb_optim_rmsprop: lr is -1; it must be finite and at least 0", .lr = -1),
        WRONG(rmsprop, "alpha is -0.5", .alpha = -0.5),
        WRONG(rmsprop, "momentum is -1", .momentum = -1),
        WRONG(rmsprop, "weight_decay is -2", .weight_decay = -2),
        WRONG(adagrad, "fb_optim_adagrad: lr_decay is -1", .lr_decay = -1),
        WRONG(adagrad, "initial_accumulator_value is -1", .initial_accumulator_value = -1),
        WRONG(adadelta, "fb_optim_adadelta: rho is 1; it must lie in [0, 1)", .rho = 1),
        WRONG(adadelta, "eps is -1", .eps = -1),
        WRONG(adamax, "fb_optim_adamax: beta1 is 1.5; it must lie in [0, 1)", .beta1 = 1.5),
        WRONG(nadam, "fb_optim_nadam: momentum_decay is -1", .momentum_decay = -1),
        WRONG(nadam, "lr is nan", .lr = NAN),
        WRONG(radam, "fb_optim_radam: beta2 is 1", .beta2 = 1),
        WRONG(rprop, "fb_optim_rprop: etaplus is 0.9; it must be finite and at least 1",
              .etaplus = 0.9),
        WRONG(rprop, "etaminus is 1", .etaminus = 1),
        WRONG(rprop, "step_max is 1; it must be finite and at least 2", .step_min = 2,
              .step_max = 1),
        WRONG(lion, "fb_optim_lion: beta2 is -1", .beta2 = -1),
        WRONG(lamb, "fb_optim_lamb: lr is inf", .lr = INFINITY),
        WRONG(adafactor, "fb_optim_adafactor: -beta2_decay is -0.5", .beta2_decay = 0.5),
        WRONG(adafactor, "d is 0.5; it must be finite and at least 1", .d = 0.5),
        WRONG(muon, "fb_optim_muon: ns_steps is 100; it must lie in [1, 100)", .ns_steps = 100),
        WRONG(muon, "rate is 7", .rate = (fb_muon_rate)7),
        WRONG(muon, "adamw_lr is -1", .adamw_lr = -1)};
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        assert_null(wrong[k].make(ctx, NULL, wrong[k].options));
        check_error(ctx, FB_E_ARG, wrong[k].text);
    }
    fb_optimizer *opt = fb_optim_lion(ctx, NULL, NULL);
    assert_int_equal(fb_optim_clip_value(opt, -1), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_optim_clip_value: limit is -1");
    assert_int_equal(fb_optim_clip_value(NULL, 1), FB_E_ARG);
    assert_null(fb_optim_step_closure(NULL, NULL, NULL));
    check_close(ctx);
}

static const struct {
    const char *name;
    maker make;
    bool waits; /* made of operators: the verdict on the gradients must be known */
} methods[] = {
#define METHOD(n, w)               \
    {                              \
#n, (maker)fb_optim_##n, w \
    }
    METHOD(sgd, false),      METHOD(adam, false),     METHOD(adamw, false),  METHOD(rmsprop, false),
    METHOD(adagrad, false),  METHOD(adadelta, false), METHOD(adamax, false), METHOD(nadam, false),
    METHOD(radam, false),    METHOD(rprop, false),    METHOD(lion, false),   METHOD(lamb, true),
    METHOD(adafactor, true), METHOD(muon, true)};

/* The host learns of a clipped step some steps later. */
static void loops_never_wait_for_a_device(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof methods / sizeof *methods; k++) {
        fb_context *ctx = check_open_device(1);
        fb_optimizer *opt = methods[k].make(ctx, NULL, NULL);
        const float v[] = {1, 2, 3, 4};
        fb_tensor *w = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(2, 2), v), true);
        assert_int_equal(fb_optim_add_tensor(opt, "w", w), FB_OK);
        assert_int_equal(fb_optim_clip_norm(opt, 1), FB_OK);
        for (int s = 0; s < 4; s++) {
            FB_SCOPE(ctx);
            assert_int_equal(fb_set_grad(w, fb_from(ctx, FB_F32, FB_SHAPE(2, 2), v)), FB_OK);
            uint64_t before = ctx->host_waits;
            assert_int_equal(fb_optim_step(opt), FB_OK);
            bool waited = ctx->host_waits != before;
            if (s > 0 && waited != (methods[k].waits && !ctx->backend->host_memory))
                fail_msg("%s %s", methods[k].name, waited ? "waits" : "does not wait");
        }
        assert_int_equal(fb_optim_steps(opt), 4);
        check_close(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_options_are_named),
        cmocka_unit_test(loops_never_wait_for_a_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
