/* The optimizers beside SGD and Adam: 100 steps with PyTorch's numbers (2.15, F64), threads,
 * halves, names of states, gradients that are clamped, maximized, scaled, not finite. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/pointwise.h>
#include <math.h>

#include "core/optim/optim_priv.h"

enum { N = 9, WEIGHT = 6, STEPS = 100, LONG = 40000 };

typedef fb_optimizer *(*maker)(fb_context *, fb_module *, const void *);

typedef struct trial {
    maker make;
    const char *name;
    const void *options;
    double after[N];
} trial;

static const trial trials[] = {
    {(maker)fb_optim_sgd,
     "sgd",
     &(fb_sgd_options){.lr = 0.05, .momentum = 0.8, .nesterov = true, .maximize = true},
     {0.333825689942, 1.14392961896, 2.16681274451, 3.55754066734, 4.9392281747, 6.20830539737,
      7.35221665848, 8.30076230769, 9.40602015401}},
    {(maker)fb_optim_adam,
     "adam",
     &(fb_adam_options){.lr = 0.01, .amsgrad = true, .maximize = true},
     {0.309348528755, 0.126717194799, -0.0171580817579, -0.0180245898146, 0.499412147791,
      0.569245630212, 0.502148897594, 0.130948003381, 0.358458194516}},
    {(maker)fb_optim_rmsprop,
     "rmsprop",
     NULL,
     {0.239133272841, 0.0273389009756, -0.832549424515, -0.620466913112, -0.580082709386,
      -0.187288906964, -0.945707730238, -1.11750301981, -1.12874484171}},
    {(maker)fb_optim_rmsprop,
     "rmsprop",
     &(fb_rmsprop_options){.lr = 0.02, .momentum = 0.9, .weight_decay = 0.1},
     {-0.00340353176588, -0.513702551431, -0.989336271785, -1.49930679095, -1.98210609904,
      -2.51635538971, -2.97074612257, -3.51500197931, -4.01348076438}},
    {(maker)fb_optim_rmsprop,
     "rmsprop",
     &(fb_rmsprop_options){.alpha = 0.9, .centered = true},
     {0.275291566656, 0.0257110909424, -0.54670698366, -0.47971291426, -0.304660847952,
      -0.0761377089716, -0.598420082378, -0.876081806842, -0.860249112362}},
    {(maker)fb_optim_rmsprop,
     "rmsprop",
     &(fb_rmsprop_options){.alpha = 0.9, .centered = true, .momentum = 0.5, .maximize = true},
     {0.340841345194, 0.193246982524, 0.327134140499, 0.296863306699, 1.01084918285, 1.03245817891,
      1.23308341579, 0.884465132115, 1.19816482811}},
    {(maker)fb_optim_adagrad,
     "adagrad",
     NULL,
     {0.294094041639, 0.0761622239613, -0.312496085602, -0.254196291002, 0.0730783745238,
      0.25062180176, -0.073370755847, -0.359956252839, -0.255905205326}},
    {(maker)fb_optim_adagrad,
     "adagrad",
     &(fb_adagrad_options){.lr = 0.1,
                           .lr_decay = 0.05,
                           .weight_decay = 0.1,
                           .initial_accumulator_value = 0.3,
                           .eps = 1e-6},
     {0.241997002154, 0.0791243128364, -0.427937791971, -0.371593102794, -0.181977677733,
      0.102033790225, -0.388273507388, -0.610390484498, -0.518456589164}},
    {(maker)fb_optim_adadelta,
     "adadelta",
     NULL,
     {0.290438695756, 0.0625113836884, -0.348918723662, -0.279506000968, 0.00196752232033,
      0.194456063454, -0.116312991706, -0.412396581611, -0.329584490339}},
    {(maker)fb_optim_adadelta,
     "adadelta",
     &(fb_adadelta_options){
         .lr = 0.5, .rho = 0.8, .eps = 1e-4, .weight_decay = 0.1, .maximize = true},
     {0.20971600052, 0.147256261096, 0.0816546094841, 0.0860437229914, 0.582758948527,
      0.642832199126, 0.539488483938, 0.246880244219, 0.447858461886}},
    {(maker)fb_optim_adamax,
     "adamax",
     NULL,
     {0.298146779887, 0.0740899514923, -0.286155776099, -0.247651675736, 0.101160264001,
      0.255209913885, -0.0399696670292, -0.34092875107, -0.227352824671}},
    {(maker)fb_optim_adamax,
     "adamax",
     &(fb_adamax_options){
         .lr = 0.02, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-4, .weight_decay = 0.1},
     {0.190215627802, -0.053322207587, -0.524663242002, -0.559539741987, -0.43650933243,
      -0.28050170461, -0.75834478997, -0.972983030014, -0.969306475756}},
    {(maker)fb_optim_nadam,
     "nadam",
     NULL,
     {0.298051304024, 0.0699567571185, -0.298508909177, -0.255179916979, 0.0707802702603,
      0.238954043795, -0.0750461470255, -0.363131529631, -0.271312468642}},
    {(maker)fb_optim_nadam,
     "nadam",
     &(fb_nadam_options){.lr = 0.02,
                         .beta1 = 0.8,
                         .beta2 = 0.95,
                         .weight_decay = 0.1,
                         .momentum_decay = 0.02,
                         .decoupled_weight_decay = true},
     {0.226720113174, -0.0401409889618, -0.581080800076, -0.554444814145, -0.506672420344,
      -0.313151487523, -0.797944738971, -1.02287512538, -1.06479662964}},
    {(maker)fb_optim_radam,
     "radam",
     NULL,
     {0.299940858211, 0.0805192719005, -0.26029122788, -0.222540993057, 0.13559077018,
      0.288727623804, 0.00745042520771, -0.292636679328, -0.176568908879}},
    {(maker)fb_optim_radam,
     "radam",
     &(fb_radam_options){.lr = 0.02,
                         .beta1 = 0.8,
                         .beta2 = 0.95,
                         .weight_decay = 0.1,
                         .decoupled_weight_decay = true,
                         .maximize = true},
     {0.247735479866, 0.148849338503, 0.0485801060152, 0.152869159885, 0.584400552667,
      0.714405522776, 0.670167027436, 0.442109949008, 0.617216602523}},
    {(maker)fb_optim_rprop,
     "rprop",
     NULL,
     {0.279964020703, 0.100222787884, -0.329195481341, -0.237827761232, 0.143566785873,
      0.312930272794, -0.035416593171, -0.304487176082, -0.169067273406}},
    {(maker)fb_optim_rprop,
     "rprop",
     &(fb_rprop_options){
         .lr = 0.1, .etaminus = 0.4, .etaplus = 1.3, .step_min = 1e-3, .step_max = 0.5},
     {0.088716, 0.228243648587, -1.01554661726, -0.449135298912, 0.128407780979, 0.394834865707,
      -0.598823584461, -0.909011605625, -1.01154822439}},
    {(maker)fb_optim_lion,
     "lion",
     &(fb_lion_options){.lr = 0.01, .weight_decay = 0.1},
     {0.252151062982, -0.00266096892835, -0.639097103863, -0.736752266784, -0.543753157235,
      -0.411443620409, -0.882927700966, -1.02636185861, -1.03167696169}},
    {(maker)fb_optim_lamb,
     "lamb",
     &(fb_lamb_options){.lr = 0.02, .weight_decay = 0.1},
     {0.209679524926, -0.111096187926, -0.68940130179, -0.723222870975, -0.807537632366,
      -0.64410748954, -0.94736076088, -1.14933904455, -1.28112327858}},
    {(maker)fb_optim_adafactor,
     "adafactor",
     NULL,
     {0.296231232054, 0.0716467217999, -0.286487542755, -0.267524126147, 0.0798055299465,
      0.229361002938, -0.0843698969557, -0.372470009574, -0.278425552713}},
    {(maker)fb_optim_adafactor,
     "adafactor",
     &(fb_adafactor_options){
         .lr = 0.02, .beta2_decay = -0.6, .eps1 = 1e-5, .eps2 = 1e-2, .d = 2, .weight_decay = 0.1},
     {0.243236113092, 0.0430603013792, -0.260715524918, -0.253696754891, 0.0144187775961,
      0.125435603097, -0.196681966693, -0.452833503188, -0.382125472503}},
    {(maker)fb_optim_muon,
     "muon",
     NULL,
     {0.309971546292, 0.0797563767602, -0.276868377616, -0.25539641607, 0.105738857854,
      0.246976128112, -0.0323112701121, -0.322810653317, -0.219042707567}},
    {(maker)fb_optim_muon,
     "muon",
     &(fb_muon_options){.lr = 0.02,
                        .weight_decay = 0.05,
                        .plain = true,
                        .rate = FB_MUON_MATCH_RMS_ADAMW,
                        .adamw_lr = 0.01},
     {0.584383258336, 0.10734593919, -0.594171556344, -0.504111115189, -0.132926995145,
      0.022427053619, -0.457702583945, -0.675634741545, -0.67425632356}},
};
enum { TRIALS = sizeof trials / sizeof *trials };

static double gradient(int step, int i)
{
    return sin(1.7 * i + 3.1 * step) + 0.05 * i;
}

static double start(int i)
{
    return 0.3 * cos(1.3 * i);
}

/* A matrix of WEIGHT elements and a vector of the rest. */
typedef struct bench {
    fb_context *ctx;
    fb_dtype dtype;
    fb_optimizer *opt;
    fb_tensor *weight, *bias;
} bench;

static fb_tensor *values(fb_context *ctx, fb_dtype dtype, fb_shape shape, const double *v)
{
    return fb_to(fb_from(ctx, FB_F64, shape, v), dtype);
}

static fb_tensor *leaf(bench *b, fb_shape shape, int from, int n)
{
    double v[N];
    for (int i = 0; i < n; i++)
        v[i] = start(from + i);
    fb_tensor *t = fb_detach(values(b->ctx, b->dtype, shape, v));
    return fb_requires_grad(t, true);
}

static bench setup(int threads, fb_dtype dtype, const trial *t)
{
    bench b = {.ctx = check_open_device(threads), .dtype = dtype};
    b.opt = t->make(b.ctx, NULL, t->options);
    check_ok(b.ctx);
    b.weight = leaf(&b, FB_SHAPE(2, 3), 0, WEIGHT);
    b.bias = leaf(&b, FB_SHAPE(N - WEIGHT), WEIGHT, N - WEIGHT);
    assert_int_equal(fb_optim_add_tensor(b.opt, "weight", b.weight), FB_OK);
    assert_int_equal(fb_optim_add_tensor(b.opt, "bias", b.bias), FB_OK);
    return b;
}

/* Gradients in F64 that the dtype `as` has, too. */
static void give(bench *b, int step, fb_dtype as, double factor)
{
    double g[N];
    for (int i = 0; i < N; i++)
        g[i] = factor * gradient(step, i);
    FB_SCOPE(b->ctx);
    fb_tensor *w = fb_to(values(b->ctx, as, FB_SHAPE(2, 3), g), b->dtype);
    fb_tensor *v = fb_to(values(b->ctx, as, FB_SHAPE(N - WEIGHT), g + WEIGHT), b->dtype);
    assert_int_equal(fb_set_grad(b->weight, w), FB_OK);
    assert_int_equal(fb_set_grad(b->bias, v), FB_OK);
}

static void step(bench *b, int s)
{
    give(b, s, b->dtype, 1);
    if (fb_optim_step(b->opt))
        fail_msg("%s", fb_error_message(b->ctx));
}

static void read(const bench *b, double *v)
{
    FB_SCOPE(b->ctx);
    fb_no_grad(b->ctx);
    fb_read(fb_to(b->weight, FB_F64), v, WEIGHT * sizeof *v);
    fb_read(fb_to(b->bias, FB_F64), v + WEIGHT, (N - WEIGHT) * sizeof *v);
}

static void hundred_steps_have_the_numbers_of_pytorch(void **state)
{
    (void)state;
    for (int k = 0; k < TRIALS; k++)
        for (int wide = 0; wide < 2; wide++) {
            bench b = setup(2, wide ? FB_F64 : FB_F32, &trials[k]);
            double v[N], most = wide ? 2e-11 : strcmp(trials[k].name, "muon") ? 2e-5 : 1e-3;
            for (int s = 1; s <= STEPS; s++)
                step(&b, s);
            read(&b, v);
            for (int i = 0; i < N; i++)
                if (!(fabs(v[i] - trials[k].after[i]) <= most * (0.1 + fabs(v[i]))))
                    fail_msg("%s (trial %d, %s): element %d is %.12g, PyTorch's %.12g",
                             trials[k].name, k, wide ? "F64" : "F32", i, v[i], trials[k].after[i]);
            assert_int_equal(fb_optim_steps(b.opt), STEPS);
            check_close(b.ctx);
        }
}

/* --- threads --- */

static void long_run(const trial *t, int threads, float *out)
{
    fb_context *ctx = check_open_device(threads);
    fb_optimizer *opt = t->make(ctx, NULL, t->options);
    static float v[LONG];
    for (int i = 0; i < LONG; i++)
        v[i] = (float)start(i);
    fb_tensor *w = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(200, LONG / 200), v), true);
    assert_int_equal(fb_optim_add_tensor(opt, "w", w), FB_OK);
    for (int s = 1; s <= 3; s++) {
        for (int i = 0; i < LONG; i++)
            v[i] = (float)gradient(s, i % 1000);
        FB_SCOPE(ctx);
        assert_int_equal(fb_set_grad(w, fb_from(ctx, FB_F32, fb_shape_of(w), v)), FB_OK);
        assert_int_equal(fb_optim_step(opt), FB_OK);
    }
    fb_read(w, out, sizeof v);
    check_close(ctx);
}

static void bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    static float one[LONG], three[LONG];
    for (int k = 0; k < TRIALS; k++) {
        long_run(&trials[k], 1, one);
        long_run(&trials[k], 3, three);
        if (strcmp(trials[k].name, "muon") && memcmp(one, three, sizeof one))
            fail_msg("%s (trial %d): other bits with three threads", trials[k].name, k);
    }
}

static void bits_do_not_depend_on_the_instruction_set(void **state)
{
    (void)state;
    static const char *const lower[] = {"v2", "v3"};
    static float best[LONG], less[LONG];
    for (int k = 0; k < TRIALS; k++)
        for (int i = 0; i < 2 && strcmp(lower[i], fbi_cpu_isa()) < 0; i++) {
            if (strstr("lamb adafactor muon", trials[k].name)) /* they have sums */
                continue;
            unsetenv("FB_ISA");
            long_run(&trials[k], 2, best);
            setenv("FB_ISA", lower[i], 1);
            long_run(&trials[k], 2, less);
            if (memcmp(best, less, sizeof best))
                fail_msg("%s (trial %d): other bits with %s", trials[k].name, k, lower[i]);
        }
    unsetenv("FB_ISA");
}

/* --- state --- */

typedef struct found {
    const char *wanted;
    fb_tensor *t;
    char all[512];
} found;

static fb_status note(const char *name, fb_tensor *t, void *user)
{
    found *f = user;
    if (f->wanted && !strcmp(name, f->wanted))
        f->t = t;
    strcat(strcat(f->all, name), " ");
    return FB_OK;
}

static void states_have_the_names_of_pytorch(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"square_avg", "square_avg"},
        {"square_avg momentum_buffer", "square_avg momentum_buffer"},
        {"square_avg grad_avg", "square_avg grad_avg"},
        {"square_avg grad_avg momentum_buffer", "square_avg grad_avg momentum_buffer"},
        {"sum", "sum"},
        {"sum", "sum"},
        {"square_avg acc_delta", "square_avg acc_delta"},
        {"square_avg acc_delta", "square_avg acc_delta"},
        {"exp_avg exp_inf", "exp_avg exp_inf"},
        {"exp_avg exp_inf", "exp_avg exp_inf"},
        {"exp_avg exp_avg_sq", "exp_avg exp_avg_sq"},
        {"exp_avg exp_avg_sq", "exp_avg exp_avg_sq"},
        {"exp_avg exp_avg_sq", "exp_avg exp_avg_sq"},
        {"exp_avg exp_avg_sq", "exp_avg exp_avg_sq"},
        {"prev step_size", "prev step_size"},
        {"prev step_size", "prev step_size"},
        {"exp_avg", "exp_avg"},
        {"exp_avg exp_avg_sq", "exp_avg exp_avg_sq"},
        {"row_var col_var", "variance"},
        {"row_var col_var", "variance"},
        {"momentum_buffer", "exp_avg exp_avg_sq"},
        {"momentum_buffer", "exp_avg exp_avg_sq"},
    };
    for (int k = 2; k < TRIALS; k++) {
        bench b = setup(1, FB_F32, &trials[k]);
        found f = {0};
        char want[512] = "";
        const char *const leaves[] = {"weight", "bias"};
        for (int i = 0; i < 2; i++) {
            char copy[128], *save = NULL;
            snprintf(copy, sizeof copy, "%s step", names[k - 2][i]);
            for (char *s = strtok_r(copy, " ", &save); s; s = strtok_r(NULL, " ", &save))
                snprintf(want + strlen(want), sizeof want - strlen(want), "%s.%s ", leaves[i], s);
        }
        assert_int_equal(fbi_optim_each_state(b.opt, note, &f), FB_OK);
        assert_string_equal(f.all, want);
        check_close(b.ctx);
    }
}

static void factors_of_a_matrix_are_its_rows_and_columns(void **state)
{
    (void)state;
    fb_adafactor_options o = {0};
    trial t = {(maker)fb_optim_adafactor, "adafactor", &o, {0}};
    bench b = setup(1, FB_F32, &t);
    found rows = {.wanted = "weight.row_var"}, cols = {.wanted = "weight.col_var"};
    assert_int_equal(fbi_optim_each_state(b.opt, note, &rows), FB_OK);
    assert_int_equal(fbi_optim_each_state(b.opt, note, &cols), FB_OK);
    assert_true(fb_size(rows.t, 0) == 2 && fb_size(rows.t, 1) == 1);
    assert_true(fb_size(cols.t, 0) == 1 && fb_size(cols.t, 1) == 3);
    check_close(b.ctx);
}

/* F32 parameters with gradients that a half has, from values that it has: bits of the master. */
static void masters_of_halves_have_the_bits_of_f32(void **state)
{
    (void)state;
    for (int k = 0; k < TRIALS; k++)
        for (int brain = 0; brain < 2; brain++) {
            fb_dtype half = brain ? FB_BF16 : FB_F16;
            bench a = setup(2, half, &trials[k]), b = setup(2, FB_F32, &trials[k]);
            double v[N];
            read(&a, v);
            {
                FB_SCOPE(b.ctx);
                fb_no_grad(b.ctx);
                fb_copy_(b.weight, fb_from(b.ctx, FB_F64, FB_SHAPE(2, 3), v));
                fb_copy_(b.bias, fb_from(b.ctx, FB_F64, FB_SHAPE(N - WEIGHT), v + WEIGHT));
            }
            for (int s = 1; s <= 5; s++) {
                give(&a, s, half, 1);
                give(&b, s, half, 1);
                assert_int_equal(fb_optim_step(a.opt), FB_OK);
                assert_int_equal(fb_optim_step(b.opt), FB_OK);
            }
            found f = {.wanted = "weight.master"};
            float master[WEIGHT], plain[WEIGHT];
            uint16_t rounded[WEIGHT], stored[WEIGHT];
            assert_int_equal(fbi_optim_each_state(a.opt, note, &f), FB_OK);
            fb_read(f.t, master, sizeof master);
            fb_read(b.weight, plain, sizeof plain);
            if (memcmp(master, plain, sizeof plain))
                fail_msg("%s (trial %d, %s): the master is not F32's parameter", trials[k].name, k,
                         fb_dtype_name(half));
            fb_read(fb_to(f.t, half), rounded, sizeof rounded);
            fb_read(a.weight, stored, sizeof stored);
            assert_memory_equal(rounded, stored, sizeof stored);
            check_close(a.ctx);
            check_close(b.ctx);
        }
}

/* --- gradients --- */

static void gradients_that_are_not_finite_skip_the_step(void **state)
{
    (void)state;
    for (int k = 0; k < TRIALS; k++) {
        bench a = setup(1, FB_F32, &trials[k]), b = setup(1, FB_F32, &trials[k]);
        double x[N], y[N];
        assert_int_equal(fb_optim_clip_norm(a.opt, 1e6), FB_OK);
        assert_int_equal(fb_optim_clip_norm(b.opt, 1e6), FB_OK);
        step(&a, 1);
        step(&b, 1);
        give(&a, 2, FB_F32, INFINITY); /* 0 * inf is NaN */
        assert_int_equal(fb_optim_step(a.opt), FB_OK);
        step(&a, 2);
        step(&b, 2);
        assert_int_equal(fb_optim_steps(a.opt), 2);
        read(&a, x);
        read(&b, y);
        if (memcmp(x, y, sizeof x))
            fail_msg("%s (trial %d): a step that was skipped left something", trials[k].name, k);
        check_close(a.ctx);
        check_close(b.ctx);
    }
}

static void clamped_gradients_are_gradients_within_the_limit(void **state)
{
    (void)state;
    for (int k = 0; k < TRIALS; k++) {
        bench a = setup(1, FB_F64, &trials[k]), b = setup(1, FB_F64, &trials[k]);
        double x[N], y[N], g[N];
        assert_int_equal(fb_optim_clip_value(a.opt, 0.5), FB_OK);
        for (int s = 1; s <= 3; s++) {
            step(&a, s);
            for (int i = 0; i < N; i++)
                g[i] = fmin(fmax(gradient(s, i), -0.5), 0.5);
            FB_SCOPE(b.ctx);
            fb_set_grad(b.weight, fb_from(b.ctx, FB_F64, FB_SHAPE(2, 3), g));
            fb_set_grad(b.bias, fb_from(b.ctx, FB_F64, FB_SHAPE(N - WEIGHT), g + WEIGHT));
            assert_int_equal(fb_optim_step(b.opt), FB_OK);
        }
        read(&a, x);
        read(&b, y);
        assert_memory_equal(x, y, sizeof x);
        check_close(a.ctx);
        check_close(b.ctx);
    }
}

/* By a power of two, so no bit is lost; the infinite step in between is told by the scaler. */
static void every_method_divides_by_the_scale_of_losses(void **state)
{
    (void)state;
    for (int k = 0; k < TRIALS; k++) {
        bench a = setup(1, FB_F32, &trials[k]), b = setup(1, FB_F32, &trials[k]);
        double x[N], y[N];
        assert_non_null(fb_optim_scaler(a.opt, &(fb_scaler_options){.scale = 1024}));
        for (int s = 1; s <= 4; s++) {
            give(&a, s, FB_F32, 1024);
            assert_int_equal(fb_optim_step(a.opt), FB_OK);
            step(&b, s);
            if (s != 2)
                continue;
            give(&a, s, FB_F32, INFINITY);
            assert_int_equal(fb_optim_step(a.opt), FB_OK);
        }
        assert_int_equal(fb_optim_steps(a.opt), 4);
        read(&a, x);
        read(&b, y);
        if (memcmp(x, y, sizeof x))
            fail_msg("%s (trial %d): other bits under a scale", trials[k].name, k);
        check_close(a.ctx);
        check_close(b.ctx);
    }
}

static void maximizing_is_minimizing_the_negative(void **state)
{
    (void)state;
    const struct {
        maker make;
        const void *down, *up;
    } pairs[] = {
#define PAIR(n)                                                           \
    {                                                                     \
        (maker) fb_optim_##n, &(fb_##n##_options){0}, &(fb_##n##_options) \
        {                                                                 \
            .maximize = true                                              \
        }                                                                 \
    }
        PAIR(sgd),      PAIR(adam),   PAIR(adamw),    PAIR(rmsprop), PAIR(adagrad),
        PAIR(adadelta), PAIR(adamax), PAIR(nadam),    PAIR(radam),   PAIR(rprop),
        PAIR(lion),     PAIR(lamb),   PAIR(adafactor)};
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++) {
        trial down = {pairs[k].make, "", pairs[k].down, {0}};
        trial up = {pairs[k].make, "", pairs[k].up, {0}};
        bench a = setup(1, FB_F32, &down), b = setup(1, FB_F32, &up);
        double x[N], y[N];
        for (int s = 1; s <= 5; s++) {
            step(&a, s);
            give(&b, s, FB_F32, -1);
            assert_int_equal(fb_optim_step(b.opt), FB_OK);
        }
        read(&a, x);
        read(&b, y);
        assert_memory_equal(x, y, sizeof x);
        check_close(a.ctx);
        check_close(b.ctx);
    }
}

static void rules_say_what_muon_leaves_to_adamw(void **state)
{
    (void)state;
    fb_muon_options muon = {.adamw_lr = 0.01};
    fb_adamw_options adamw = {.lr = 0.01, .weight_decay = 0.1};
    trial of[] = {{(maker)fb_optim_muon, "muon", &muon, {0}},
                  {(maker)fb_optim_adamw, "adamw", &adamw, {0}}};
    bench a = setup(1, FB_F32, &of[0]), b = setup(1, FB_F32, &of[1]);
    double x[N], y[N];
    assert_int_equal(fb_optim_rule(a.opt, "weight", &(fb_group_options){.adamw = true}), FB_OK);
    for (int s = 1; s <= 5; s++) {
        step(&a, s);
        step(&b, s);
    }
    read(&a, x);
    read(&b, y);
    for (int i = 0; i < N; i++)
        assert_true(fabs(x[i] - y[i]) < 1e-6);
    check_close(a.ctx);
    check_close(b.ctx);
}

static void momentum_can_be_changed_where_there_is_one(void **state)
{
    (void)state;
    for (int k = 0; k < TRIALS; k++) {
        bench b = setup(1, FB_F32, &trials[k]);
        bool none = strstr("adagrad adadelta rprop adafactor", trials[k].name) != NULL;
        if (none) {
            assert_true(isnan(fb_optim_momentum(b.opt)));
            assert_int_equal(fb_optim_set_momentum(b.opt, 0.5), FB_E_UNSUPPORTED);
            check_error(b.ctx, FB_E_UNSUPPORTED, "has no momentum");
        } else {
            assert_int_equal(fb_optim_set_momentum(b.opt, 0.5), FB_OK);
            assert_true(fb_optim_momentum(b.opt) == 0.5);
            assert_int_equal(fb_optim_set_momentum(b.opt, 1), FB_E_ARG);
            check_error(b.ctx, FB_E_ARG, "momentum is 1; it must lie in [0, 1)");
        }
        check_close(b.ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hundred_steps_have_the_numbers_of_pytorch),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(states_have_the_names_of_pytorch),
        cmocka_unit_test(factors_of_a_matrix_are_its_rows_and_columns),
        cmocka_unit_test(masters_of_halves_have_the_bits_of_f32),
        cmocka_unit_test(gradients_that_are_not_finite_skip_the_step),
        cmocka_unit_test(clamped_gradients_are_gradients_within_the_limit),
        cmocka_unit_test(every_method_divides_by_the_scale_of_losses),
        cmocka_unit_test(maximizing_is_minimizing_the_negative),
        cmocka_unit_test(rules_say_what_muon_leaves_to_adamw),
        cmocka_unit_test(momentum_can_be_changed_where_there_is_one),
        cmocka_unit_test(bits_do_not_depend_on_the_instruction_set), /* changes FB_ISA */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
