/* The other methods that are loops over elements: what they may be given, and their numbers. The
 * arithmetic is in core/ops/update_element_priv.h. */
#include "core/optim/optimizer_priv.h"

static int one(const fb_optimizer *opt)
{
    (void)opt;
    return 1;
}

static int two(const fb_optimizer *opt)
{
    (void)opt;
    return 2;
}

/* The mean, the square of the mean if it is centered, then the momentum if there is one. */
static int of_rmsprop(const fb_optimizer *opt)
{
    return 1 + opt->numbers.centered + (opt->numbers.momentum > FB_ZERO);
}

static const fbi_method rmsprop[2] = {
    {.name = "rmsprop", .state_names = {"square_avg", "momentum_buffer"}, .n_states = of_rmsprop},
    {.name = "rmsprop",
     .state_names = {"square_avg", "grad_avg", "momentum_buffer"},
     .n_states = of_rmsprop}};
static const fbi_method adagrad = {.name = "adagrad", .state_names = {"sum"}, .n_states = one};
static const fbi_method adadelta = {
    .name = "adadelta", .state_names = {"square_avg", "acc_delta"}, .n_states = two};
static const fbi_method adamax = {
    .name = "adamax", .state_names = {"exp_avg", "exp_inf"}, .n_states = two};
static const fbi_method nadam = {
    .name = "nadam", .state_names = {"exp_avg", "exp_avg_sq"}, .n_states = two};
static const fbi_method radam = {
    .name = "radam", .state_names = {"exp_avg", "exp_avg_sq"}, .n_states = two};
static const fbi_method rprop = {
    .name = "rprop", .state_names = {"prev", "step_size"}, .n_states = two, .safe = true};
static const fbi_method lion = {
    .name = "lion", .state_names = {"exp_avg"}, .n_states = one, .safe = true};

/* An optimizer, if none of the numbers is forbidden. */
#define CHECKED(method, m, decay, ...)                                     \
    (fbi_bounds_hold(ctx, (method), (const fbi_bound[]){__VA_ARGS__, {0}}) \
         ? fbi_optim_new(ctx, (method), model, &(m), (decay))              \
         : NULL)

fb_optimizer *fb_optim_rmsprop(fb_context *ctx, fb_module *model, const fb_rmsprop_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_rmsprop_options o = opts ? *opts : (fb_rmsprop_options){0};
    fbi_method_numbers m = {.kind = FBI_UPDATE_RMSPROP,
                            .lr = fbi_given(o.lr, 1e-2),
                            .momentum = o.momentum,
                            .beta2 = fbi_given(o.alpha, 0.99),
                            .eps = fbi_given(o.eps, 1e-8),
                            .centered = o.centered,
                            .maximize = o.maximize};
    return CHECKED(&rmsprop[o.centered], m, o.weight_decay, {"lr", m.lr, 0, 0},
                   {"eps", m.eps, 0, 0}, {"momentum", m.momentum, 0, 0},
                   {"weight_decay", o.weight_decay, 0, 0}, {"alpha", m.beta2, 0, 0});
}

fb_optimizer *fb_optim_adagrad(fb_context *ctx, fb_module *model, const fb_adagrad_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_adagrad_options o = opts ? *opts : (fb_adagrad_options){0};
    fbi_method_numbers m = {.kind = FBI_UPDATE_ADAGRAD,
                            .lr = fbi_given(o.lr, 1e-2),
                            .eps = fbi_given(o.eps, 1e-10),
                            .decay = o.lr_decay,
                            .low = o.initial_accumulator_value,
                            .maximize = o.maximize};
    return CHECKED(&adagrad, m, o.weight_decay, {"lr", m.lr, 0, 0}, {"lr_decay", m.decay, 0, 0},
                   {"weight_decay", o.weight_decay, 0, 0},
                   {"initial_accumulator_value", m.low, 0, 0}, {"eps", m.eps, 0, 0});
}

fb_optimizer *fb_optim_adadelta(fb_context *ctx, fb_module *model, const fb_adadelta_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_adadelta_options o = opts ? *opts : (fb_adadelta_options){0};
    fbi_method_numbers m = {.kind = FBI_UPDATE_ADADELTA,
                            .lr = fbi_given(o.lr, 1),
                            .beta2 = fbi_given(o.rho, 0.9),
                            .eps = fbi_given(o.eps, 1e-6),
                            .maximize = o.maximize};
    return CHECKED(&adadelta, m, o.weight_decay, {"lr", m.lr, 0, 0}, {"rho", m.beta2, 0, 1},
                   {"eps", m.eps, 0, 0}, {"weight_decay", o.weight_decay, 0, 0});
}

fb_optimizer *fb_optim_adamax(fb_context *ctx, fb_module *model, const fb_adamax_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_adamax_options o = opts ? *opts : (fb_adamax_options){0};
    fbi_method_numbers m = {.kind = FBI_UPDATE_ADAMAX,
                            .lr = fbi_given(o.lr, 2e-3),
                            .beta1 = fbi_given(o.beta1, 0.9),
                            .beta2 = fbi_given(o.beta2, 0.999),
                            .eps = fbi_given(o.eps, 1e-8),
                            .maximize = o.maximize};
    return CHECKED(&adamax, m, o.weight_decay, {"lr", m.lr, 0, 0}, {"beta1", m.beta1, 0, 1},
                   {"beta2", m.beta2, 0, 1}, {"eps", m.eps, 0, 0},
                   {"weight_decay", o.weight_decay, 0, 0});
}

fb_optimizer *fb_optim_nadam(fb_context *ctx, fb_module *model, const fb_nadam_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_nadam_options o = opts ? *opts : (fb_nadam_options){0};
    fbi_method_numbers m = {.kind = FBI_UPDATE_NADAM,
                            .lr = fbi_given(o.lr, 2e-3),
                            .beta1 = fbi_given(o.beta1, 0.9),
                            .beta2 = fbi_given(o.beta2, 0.999),
                            .eps = fbi_given(o.eps, 1e-8),
                            .decay = fbi_given(o.momentum_decay, 4e-3),
                            .decoupled = o.decoupled_weight_decay,
                            .maximize = o.maximize};
    return CHECKED(&nadam, m, o.weight_decay, {"lr", m.lr, 0, 0}, {"beta1", m.beta1, 0, 1},
                   {"beta2", m.beta2, 0, 1}, {"eps", m.eps, 0, 0},
                   {"weight_decay", o.weight_decay, 0, 0}, {"momentum_decay", m.decay, 0, 0});
}

fb_optimizer *fb_optim_radam(fb_context *ctx, fb_module *model, const fb_radam_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_radam_options o = opts ? *opts : (fb_radam_options){0};
    fbi_method_numbers m = {.kind = FBI_UPDATE_RADAM,
                            .lr = fbi_given(o.lr, 1e-3),
                            .beta1 = fbi_given(o.beta1, 0.9),
                            .beta2 = fbi_given(o.beta2, 0.999),
                            .eps = fbi_given(o.eps, 1e-8),
                            .decoupled = o.decoupled_weight_decay,
                            .maximize = o.maximize};
    return CHECKED(&radam, m, o.weight_decay, {"lr", m.lr, 0, 0}, {"beta1", m.beta1, 0, 1},
                   {"beta2", m.beta2, 0, 1}, {"eps", m.eps, 0, 0},
                   {"weight_decay", o.weight_decay, 0, 0});
}

fb_optimizer *fb_optim_rprop(fb_context *ctx, fb_module *model, const fb_rprop_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_rprop_options o = opts ? *opts : (fb_rprop_options){0};
    fbi_method_numbers m = {.kind = FBI_UPDATE_RPROP,
                            .lr = fbi_given(o.lr, 1e-2),
                            .beta1 = fbi_given(o.etaminus, 0.5),
                            .beta2 = fbi_given(o.etaplus, 1.2),
                            .low = fbi_given(o.step_min, 1e-6),
                            .high = fbi_given(o.step_max, 50),
                            .maximize = o.maximize};
    return CHECKED(&rprop, m, 0, {"lr", m.lr, 0, 0}, {"etaminus", m.beta1, 0, 1},
                   {"etaplus", m.beta2, 1, 0}, {"step_min", m.low, 0, 0},
                   {"step_max", m.high, m.low, 0});
}

fb_optimizer *fb_optim_lion(fb_context *ctx, fb_module *model, const fb_lion_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_lion_options o = opts ? *opts : (fb_lion_options){0};
    fbi_method_numbers m = {.kind = FBI_UPDATE_LION,
                            .lr = fbi_given(o.lr, 1e-4),
                            .beta1 = fbi_given(o.beta1, 0.9),
                            .beta2 = fbi_given(o.beta2, 0.99),
                            .decoupled = true,
                            .maximize = o.maximize};
    return CHECKED(&lion, m, o.weight_decay, {"lr", m.lr, 0, 0}, {"beta1", m.beta1, 0, 1},
                   {"beta2", m.beta2, 0, 1}, {"weight_decay", o.weight_decay, 0, 0});
}
