/* Schedules: PyTorch's rates and momenta (2.15) at some of 100 steps, rates after a resume, what is
 * refused. */
#include "tests/check.h"

#include <math.h>

#include "core/optim/optim_priv.h"

static double shrink(int64_t step, void *user)
{
    (void)user;
    return pow(0.97, (double)step);
}

static double wobble(int64_t step, void *user)
{
    (void)user;
    return step % 3 ? 0.95 : 1.05;
}

static double bell(double x, void *user)
{
    (void)user;
    return 1 / (1 + 0.1 * x);
}

static fb_schedule *make_step_lr(fb_optimizer *o)
{
    return fb_schedule_step_lr(o, 7, 0.5);
}

static fb_schedule *make_lambda(fb_optimizer *o)
{
    return fb_schedule_lambda(o, shrink, NULL);
}

static fb_schedule *make_multiplicative(fb_optimizer *o)
{
    return fb_schedule_multiplicative(o, wobble, NULL);
}

static fb_schedule *make_multistep(fb_optimizer *o)
{
    return fb_schedule_multistep(o, (const int64_t[]){5, 20, 20, 60}, 4, 0.3);
}

static fb_schedule *make_constant(fb_optimizer *o)
{
    return fb_schedule_constant(o, 0.25, 9);
}

static fb_schedule *make_linear(fb_optimizer *o)
{
    return fb_schedule_linear(o, 1.0 / 3, 0.8, 13);
}

static fb_schedule *make_exponential(fb_optimizer *o)
{
    return fb_schedule_exponential(o, 0.93);
}

static fb_schedule *make_polynomial(fb_optimizer *o)
{
    return fb_schedule_polynomial(o, 40, 1.7);
}

static fb_schedule *make_cosine_annealing(fb_optimizer *o)
{
    return fb_schedule_cosine_annealing(o, 17, 0.02);
}

static fb_schedule *make_cosine_annealing_0(fb_optimizer *o)
{
    return fb_schedule_cosine_annealing(o, 10, 0);
}

static fb_schedule *make_warm_restarts(fb_optimizer *o)
{
    return fb_schedule_warm_restarts(o, 6, 2, 0.01);
}

static fb_schedule *make_warm_restarts_1(fb_optimizer *o)
{
    return fb_schedule_warm_restarts(o, 9, 1, 0);
}

static fb_schedule *make_cyclic(fb_optimizer *o)
{
    return fb_schedule_cyclic(
        o, &(fb_cyclic_options){.base_lr = 0.01, .max_lr = 0.2, .up = 8, .down = 5});
}

static fb_schedule *make_cyclic_2(fb_optimizer *o)
{
    return fb_schedule_cyclic(o, &(fb_cyclic_options){.base_lr = 0.01,
                                                      .max_lr = 0.2,
                                                      .up = 8,
                                                      .mode = FB_CYCLE_TRIANGULAR2,
                                                      .base_momentum = 0.6,
                                                      .max_momentum = 0.95});
}

static fb_schedule *make_cyclic_exp(fb_optimizer *o)
{
    return fb_schedule_cyclic(o, &(fb_cyclic_options){.base_lr = 0.01,
                                                      .max_lr = 0.2,
                                                      .up = 4,
                                                      .down = 9,
                                                      .mode = FB_CYCLE_EXP_RANGE,
                                                      .gamma = 0.98,
                                                      .keep_momentum = true});
}

static fb_schedule *make_cyclic_scale(fb_optimizer *o)
{
    return fb_schedule_cyclic(
        o, &(fb_cyclic_options){
               .base_lr = 0.01, .max_lr = 0.2, .up = 4, .scale = bell, .scale_steps = true});
}

static fb_schedule *make_one_cycle(fb_optimizer *o)
{
    return fb_schedule_one_cycle(o, &(fb_one_cycle_options){.max_lr = 0.3, .total = 100});
}

static fb_schedule *make_one_cycle_3(fb_optimizer *o)
{
    return fb_schedule_one_cycle(o, &(fb_one_cycle_options){.max_lr = 0.3,
                                                            .total = 110,
                                                            .pct_start = 0.4,
                                                            .linear = true,
                                                            .three_phase = true,
                                                            .div_factor = 10,
                                                            .final_div_factor = 100,
                                                            .base_momentum = 0.7,
                                                            .max_momentum = 0.9});
}

static fb_schedule *make_swa(fb_optimizer *o)
{
    return fb_schedule_swa(o, 0.02, 12, false);
}

static fb_schedule *make_swa_line(fb_optimizer *o)
{
    return fb_schedule_swa(o, 0.2, 30, true);
}

static fb_schedule *make_swa_0(fb_optimizer *o)
{
    return fb_schedule_swa(o, 0.2, 0, true);
}

static fb_schedule *make_sequence(fb_optimizer *o)
{
    return fb_schedule_sequence((fb_schedule *[]){fb_schedule_linear(o, 0.1, 1, 10),
                                                  fb_schedule_exponential(o, 0.9),
                                                  fb_schedule_constant(o, 0.5, 20),
                                                  fb_schedule_cosine_annealing(o, 15, 0.01)},
                                4, (const int64_t[]){10, 30, 60});
}

static fb_schedule *make_chain(fb_optimizer *o)
{
    return fb_schedule_chain(
        (fb_schedule *[]){fb_schedule_constant(o, 0.1, 12), fb_schedule_exponential(o, 0.95),
                          fb_schedule_multistep(o, (const int64_t[]){40}, 1, 0.5)},
        3);
}

static fb_schedule *make_chain_with_swa(fb_optimizer *o)
{
    return fb_schedule_chain(
        (fb_schedule *[]){fb_schedule_exponential(o, 0.97), fb_schedule_swa(o, 0.05, 20, false)},
        2);
}

enum { STEPS = 100, LOOKS = 7 };
static const int looks[LOOKS] = {0, 1, 5, 12, 31, 70, 99};

typedef struct trial {
    fb_schedule *(*make)(fb_optimizer *);
    const char *name;
    double lr[LOOKS], momentum[LOOKS]; /* momentum 0: it stays */
} trial;

static const trial trials[] = {
    {make_step_lr, "step_lr", {0.1, 0.1, 0.1, 0.05, 0.00625, 9.765625e-05, 6.103515625e-06}, {0}},
    {make_lambda,
     "lambda",
     {0.1, 0.097, 0.08587340257, 0.0693842360995438, 0.0388976856486863, 0.0118582717502118,
      0.00490232040468099},
     {0}},
    {make_multiplicative,
     "multiplicative",
     {0.1, 0.095, 0.08552315625, 0.0806391680609551, 0.0554739003147297, 0.0275653383246459,
      0.016943565987404},
     {0}},
    {make_multistep, "multistep", {0.1, 0.1, 0.03, 0.03, 0.0027, 0.00081, 0.00081}, {0}},
    {make_constant, "constant", {0.025, 0.025, 0.025, 0.1, 0.1, 0.1, 0.1}, {0}},
    {make_linear,
     "linear",
     {0.0333333333333333, 0.0369230769230769, 0.0512820512820513, 0.0764102564102564, 0.08, 0.08,
      0.08},
     {0}},
    {make_exponential,
     "exponential",
     {0.1, 0.093, 0.06956883693, 0.0418596297479371, 0.0105431747570859, 0.000622022935921845,
      7.5824910583185e-05},
     {0}},
    {make_polynomial,
     "polynomial",
     {0.1, 0.0957872812329292, 0.0796918098694455, 0.0545339138869315, 0.0079197282666076, 0, 0},
     {0}},
    {make_cosine_annealing,
     "cosine_annealing",
     {0.1, 0.0993189239873561, 0.0841053854551703, 0.0358946145448297, 0.0940086854291846,
      0.0972988891761735, 0.0940086854291857},
     {0}},
    {make_cosine_annealing_0,
     "cosine_annealing 0",
     {0.1, 0.0975528258147577, 0.05, 0.00954915028125267, 0.00244717418524232, 0,
      0.0975528258147595},
     {0}},
    {make_warm_restarts,
     "warm_restarts",
     {0.1, 0.0939711431702998, 0.0160288568297003, 0.055, 0.0491263213500977, 0.0433531429703866,
      0.0980623151079494},
     {0}},
    {make_warm_restarts_1,
     "warm_restarts 1",
     {0.1, 0.0969846310392954, 0.0413175911166535, 0.075, 0.0586824088833465, 0.0116977778440511,
      0.1},
     {0}},
    {make_cyclic,
     "cyclic",
     {0.01, 0.03375, 0.12875, 0.048, 0.12875, 0.12875, 0.2},
     {0.9, 0.8875, 0.8375, 0.88, 0.8375, 0.8375, 0.8}},
    {make_cyclic_2,
     "cyclic 2",
     {0.01, 0.03375, 0.12875, 0.105, 0.021875, 0.01890625, 0.01111328125},
     {0.95, 0.90625, 0.73125, 0.775, 0.928125, 0.93359375, 0.94794921875}},
    {make_cyclic_exp,
     "cyclic exp",
     {0.01, 0.05655, 0.162662179015111, 0.0265662419455124, 0.100283715794675, 0.0510607026529384,
      0.024284419285716},
     {0}},
    {make_cyclic_scale,
     "cyclic scale",
     {0.01, 0.0531818181818182, 0.105, 0.0963636363636364, 0.0215853658536585, 0.021875,
      0.0230733944954128},
     {0.9, 0.877272727272727, 0.85, 0.854545454545455, 0.89390243902439, 0.89375,
      0.893119266055046}},
    {make_one_cycle,
     "one_cycle",
     {0.012, 0.0128441341697722, 0.0326125666318672, 0.117475919251792, 0.299396146514709,
      0.110095232787106, 1.2e-06},
     {0.95, 0.949706897857718, 0.942842858808379, 0.913376416926461, 0.850201285300238,
      0.913301842278334, 0.95}},
    {make_one_cycle_3,
     "one_cycle 3",
     {0.03, 0.0362790697674419, 0.0613953488372093, 0.105348837209302, 0.224651162790698,
      0.13046511627907, 0.0132130434782609},
     {0.9, 0.895348837209302, 0.876744186046512, 0.844186046511628, 0.755813953488372,
      0.825581395348837, 0.9}},
    {make_swa, "swa", {0.1, 0.0986370330515627, 0.0703527618041008, 0.02, 0.02, 0.02, 0.02}, {0}},
    {make_swa_line,
     "swa line",
     {0.1, 0.103333333333333, 0.116666666666667, 0.14, 0.2, 0.2, 0.2},
     {0}},
    {make_swa_0, "swa 0", {0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2}, {0}},
    {make_sequence, "sequence", {0.01, 0.019, 0.055, 0.081, 0.05, 0.0325, 0.0410942352531274}, {0}},
    {make_chain,
     "chain",
     {0.01, 0.0095, 0.007737809375, 0.0540360087662637, 0.020390682574579, 0.00137918452183875,
      0.000311606801070211},
     {0}},
    {make_chain_with_swa,
     "chain with swa",
     {0.1, 0.0967106760039857, 0.0803756572897408, 0.054436839650878, 0.05, 0.05, 0.05},
     {0}},
};
enum { TRIALS = sizeof trials / sizeof *trials };

static fb_optimizer *sgd(fb_context *ctx)
{
    return fb_optim_sgd(ctx, NULL, &(fb_sgd_options){.lr = 0.1, .momentum = 0.9});
}

static void near(const char *what, int k, int step, double got, double want)
{
    if (!(fabs(got - want) <= 1e-13 + 1e-12 * fabs(want)))
        fail_msg("%s (trial %d), step %d: %.15g, PyTorch's is %.15g", what, k, step, got, want);
}

static void rates_are_those_of_pytorch(void **state)
{
    (void)state;
    for (int k = 0; k < TRIALS; k++) {
        fb_context *ctx = check_open_device(1);
        fb_optimizer *opt = sgd(ctx);
        fb_schedule *s = trials[k].make(opt);
        check_ok(ctx);
        for (int t = 0, at = 0; t < STEPS; t++) {
            if (t == looks[at]) {
                double momentum = trials[k].momentum[0] > 0 ? trials[k].momentum[at] : 0.9;
                near(trials[k].name, k, t, fb_optim_lr(opt), trials[k].lr[at]);
                near(trials[k].name, k, t, fb_schedule_lr(s), trials[k].lr[at]);
                near("momentum", k, t, fb_optim_momentum(opt), momentum);
                at++;
            }
            if (t < STEPS - 1)
                assert_int_equal(fb_schedule_step(s), FB_OK);
        }
        check_close(ctx);
    }
}

static double metric(int i)
{
    return cos(i / 7.0) + 0.3 / (1 + i);
}

static const struct {
    fb_plateau_options o;
    double lr[LOOKS];
} plateaus[] = {
    {{.patience = 3}, {0.1, 0.1, 0.1, 0.1, 0.001, 1e-08, 1e-08}},
    {{.max = true, .factor = 0.5, .patience = 2, .cooldown = 4, .min_lr = 0.01},
     {0.1, 0.1, 0.05, 0.025, 0.01, 0.01, 0.01}},
    {{.factor = 0.7, .patience = -1, .threshold = 0.05, .absolute = true},
     {0.1, 0.1, 0.1, 0.1, 0.00282475249, 3.11973482284542e-08, 3.11973482284542e-08}},
    {{.max = true, .patience = 1, .threshold = 0.1, .absolute = true, .eps = 0.01},
     {0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01}},
};

static void plateaus_lower_the_rate_as_in_pytorch(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        fb_context *ctx = check_open_device(1);
        fb_optimizer *opt = sgd(ctx);
        fb_schedule *s = fb_schedule_plateau(opt, &plateaus[k].o);
        for (int t = 0, at = 0; t < STEPS; t++) {
            if (t == looks[at])
                near("plateau", k, t, fb_optim_lr(opt), plateaus[k].lr[at++]);
            assert_int_equal(fb_schedule_step_metric(s, metric(t)), FB_OK);
        }
        check_close(ctx);
    }
}

/* --- resume --- */

enum { MOST = 32 };

static int all_scalars(fb_optimizer *opt, fb_schedule *s, fbi_scalar *out)
{
    int n = fbi_optim_scalars(opt, out, MOST);
    return n + fbi_schedule_scalars(s, out + n, MOST - n);
}

static fb_schedule *make_plateau(fb_optimizer *o)
{
    return fb_schedule_plateau(o, &plateaus[1].o);
}

static void go(fb_schedule *s, bool plateau, int t)
{
    assert_int_equal(plateau ? fb_schedule_step_metric(s, metric(t)) : fb_schedule_step(s), FB_OK);
}

/* The numbers of a checkpoint, put into a schedule and an optimizer that have just been made. */
static void a_resume_has_the_same_rates(void **state)
{
    (void)state;
    for (int k = 0; k <= TRIALS; k++)
        for (int stop = 3; stop < 60; stop += 28) {
            fb_schedule *(*make)(fb_optimizer *) = k < TRIALS ? trials[k].make : make_plateau;
            fb_context *ctx = check_open_device(1);
            fb_optimizer *a = sgd(ctx), *b = sgd(ctx);
            fb_schedule *one = make(a), *two = make(b);
            fbi_scalar from[MOST], to[MOST];
            for (int t = 0; t < stop; t++)
                go(one, k == TRIALS, t);
            int n = all_scalars(a, one, from);
            assert_int_equal(all_scalars(b, two, to), n);
            for (int i = 0; i < n; i++) {
                assert_string_equal(from[i].name, to[i].name);
                for (int j = 0; j < i; j++) /* names tell them apart */
                    assert_true(i < 3 || j < 3 || strcmp(from[i].name, from[j].name));
                if (from[i].i)
                    *to[i].i = *from[i].i;
                else
                    *to[i].f = *from[i].f;
            }
            for (int t = stop; t < STEPS - 1; t++) {
                if (fb_optim_lr(a) != fb_optim_lr(b) ||
                    fb_schedule_lr(one) != fb_schedule_lr(two) ||
                    fb_optim_momentum(a) != fb_optim_momentum(b))
                    fail_msg("trial %d, stopped at %d: step %d has another rate", k, stop, t);
                go(one, k == TRIALS, t);
                go(two, k == TRIALS, t);
            }
            check_close(ctx);
        }
}

static void two_schedules_multiply_as_a_chain_does(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_optimizer *a = sgd(ctx), *b = sgd(ctx);
    fb_schedule *one = fb_schedule_linear(a, 0.5, 1, 10), *two = fb_schedule_exponential(a, 0.9);
    fb_schedule *parts[] = {fb_schedule_linear(b, 0.5, 1, 10), fb_schedule_exponential(b, 0.9)};
    fb_schedule *chain = fb_schedule_chain(parts, 2);
    for (int t = 0; t < 20; t++) {
        fb_schedule_step(one);
        fb_schedule_step(two);
        fb_schedule_step(chain);
        assert_true(fb_optim_lr(a) == fb_optim_lr(b));
    }
    check_close(ctx);
}

static void a_rate_that_is_set_is_a_new_beginning(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_optimizer *opt = sgd(ctx);
    fb_schedule_close(fb_schedule_constant(opt, 0.5, 5)); /* leaves 0.05 */
    fb_schedule_close(fb_schedule_step_lr(opt, 3, 0.1));
    assert_true(fb_optim_lr(opt) == 0.1);
    fb_optim_set_lr(opt, 0.02);
    fb_schedule *s = fb_schedule_step_lr(opt, 3, 0.1);
    assert_true(fb_schedule_lr(s) == 0.02);
    check_close(ctx);
}

/* --- what is refused --- */

static void refused(fb_context *ctx, const fb_schedule *s, const char *text)
{
    assert_null(s);
    check_error(ctx, FB_E_ARG, text);
}

static void wrong_numbers_are_named(void **state)
{
    (void)state;
    fb_context *ctx = check_open_device(1);
    fb_optimizer *o = sgd(ctx), *other = sgd(ctx);
    const int64_t down[] = {5, 3};
    refused(ctx, fb_schedule_lambda(o, NULL, NULL), "fb_schedule_lambda: the function is NULL");
    refused(ctx, fb_schedule_multiplicative(o, NULL, NULL),
            "fb_schedule_multiplicative: the function is NULL");
    refused(ctx, fb_schedule_multistep(o, down, 2, 0.1), "fb_schedule_multistep: 2 steps by 0.1");
    refused(ctx, fb_schedule_constant(o, 1.5, 5), "the factor in [0, 1]: total 5, numbers 1.5");
    refused(ctx, fb_schedule_linear(o, 0, 1, 5), "the first factor in (0, 1]");
    refused(ctx, fb_schedule_exponential(o, -1), "fb_schedule_exponential: gamma must not");
    refused(ctx, fb_schedule_polynomial(o, 0, 1), "fb_schedule_polynomial: total must be positive");
    refused(ctx, fb_schedule_cosine_annealing(o, 0, 0), "fb_schedule_cosine_annealing: total must");
    refused(ctx, fb_schedule_warm_restarts(o, 5, 0, 0), "both lengths must be positive");
    refused(ctx, fb_schedule_swa(o, -1, 5, false), "neither total nor swa_lr may be negative");
    refused(ctx, fb_schedule_cyclic(o, NULL), "fb_schedule_cyclic: base_lr 0, max_lr 0");
    refused(ctx, fb_schedule_cyclic(o, &(fb_cyclic_options){.max_lr = 1, .mode = (fb_cycle)9}),
            "mode 9");
    refused(ctx, fb_schedule_cyclic(o, &(fb_cyclic_options){.max_lr = 1, .max_momentum = 2}),
            "fb_schedule_cyclic: momenta 0.8 and 2");
    refused(ctx, fb_schedule_one_cycle(o, &(fb_one_cycle_options){.max_lr = 1}),
            "fb_schedule_one_cycle: max_lr 1, total 0");
    refused(ctx, fb_schedule_plateau(o, &(fb_plateau_options){.factor = 1}),
            "fb_schedule_plateau: factor 1, patience 10");
    fb_optimizer *rprop = fb_optim_rprop(ctx, NULL, NULL);
    assert_null(fb_schedule_one_cycle(rprop, &(fb_one_cycle_options){.max_lr = 1, .total = 5}));
    check_error(ctx, FB_E_UNSUPPORTED, "rprop has no momentum; set keep_momentum");
    fb_schedule *a = fb_schedule_exponential(o, 0.5), *b = fb_schedule_exponential(other, 0.5);
    fb_schedule *plateau = fb_schedule_plateau(o, NULL);
    refused(ctx, fb_schedule_chain((fb_schedule *[]){a, b}, 2),
            "schedule 1 is of another optimizer");
    refused(ctx, fb_schedule_chain((fb_schedule *[]){a, a}, 2), "schedule 1 is there twice");
    refused(ctx, fb_schedule_chain((fb_schedule *[]){a, NULL}, 2), "schedule 1 is NULL");
    refused(ctx, fb_schedule_sequence((fb_schedule *[]){a, plateau}, 2, down),
            "schedule 1 is a plateau, which needs metrics");
    fb_schedule *c = fb_schedule_exponential(o, 0.5), *d = fb_schedule_exponential(o, 0.5);
    refused(ctx, fb_schedule_sequence((fb_schedule *[]){a, c, d}, 3, down),
            "3 schedules need 2 positive steps in ascending order");
    assert_non_null(fb_schedule_chain((fb_schedule *[]){c, d}, 2));
    refused(ctx, fb_schedule_chain((fb_schedule *[]){a, c}, 2),
            "fb_schedule_chain: schedule 1 belongs to another schedule");
    assert_int_equal(fb_schedule_step(c), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "fb_schedule_step: exponential belongs to a chain");
    fb_schedule_close(d);
    check_error(ctx, FB_E_STATE, "fb_schedule_close: exponential belongs to a chain");
    assert_int_equal(fb_schedule_step(plateau), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "a plateau needs a metric");
    assert_int_equal(fb_schedule_step_metric(a, 1), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "exponential needs no metric");
    assert_int_equal(fb_schedule_step_metric(plateau, NAN), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "the metric is NaN");
    fb_schedule *one =
        fb_schedule_one_cycle(other, &(fb_one_cycle_options){.max_lr = 1, .total = 5});
    for (int t = 0; t < 5; t++)
        assert_int_equal(fb_schedule_step(one), FB_OK);
    assert_int_equal(fb_schedule_step(one), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "one_cycle: step 6 of 5");
    assert_null(fb_schedule_exponential(NULL, 1));
    assert_true(isnan(fb_schedule_lr(NULL)));
    fb_schedule_close(NULL);
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_those_of_pytorch),
        cmocka_unit_test(plateaus_lower_the_rate_as_in_pytorch),
        cmocka_unit_test(a_resume_has_the_same_rates),
        cmocka_unit_test(two_schedules_multiply_as_a_chain_does),
        cmocka_unit_test(a_rate_that_is_set_is_a_new_beginning),
        cmocka_unit_test(wrong_numbers_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
