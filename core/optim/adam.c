/* Adam and AdamW, as PyTorch computes them. */
#include "core/optim/optimizer_priv.h"

static int two(const fb_optimizer *opt)
{
    (void)opt;
    return 2;
}

static int three(const fb_optimizer *opt)
{
    (void)opt;
    return 3;
}

/* By whether there is a maximum. */
static const fbi_method adam[2] = {
    {.name = "adam", .state_names = {"exp_avg", "exp_avg_sq"}, .n_states = two},
    {.name = "adam",
     .state_names = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
     .n_states = three}};
static const fbi_method adamw[2] = {
    {.name = "adamw", .state_names = {"exp_avg", "exp_avg_sq"}, .n_states = two},
    {.name = "adamw",
     .state_names = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
     .n_states = three}};

static fb_optimizer *adam_new(fb_context *ctx, fb_module *model, const fb_adam_options *opts,
                              const fbi_method *methods, bool decoupled)
{
    if (!fbi_enter(ctx))
        return NULL;
    fb_adam_options o = opts ? *opts : (fb_adam_options){0};
    fbi_method_numbers m = {.kind = FBI_UPDATE_ADAM,
                            .lr = fbi_given(o.lr, 1e-3),
                            .beta1 = fbi_given(o.beta1, 0.9),
                            .beta2 = fbi_given(o.beta2, 0.999),
                            .eps = fbi_given(o.eps, 1e-8),
                            .decoupled = decoupled,
                            .maximize = o.maximize};
    if (!(m.lr >= 0) || !(m.beta1 >= 0 && m.beta1 < 1) || !(m.beta2 >= 0 && m.beta2 < 1) ||
        !(m.eps >= 0) || !(o.weight_decay >= 0)) {
        fbi_fail(
            ctx, FB_E_ARG,
            "fb_optim_%s: lr %g, betas %g %g, eps %g, weight_decay %g: betas must lie in [0, 1), "
            "the others must not be negative",
            methods->name, m.lr, m.beta1, m.beta2, m.eps, o.weight_decay);
        return NULL;
    }
    return fbi_optim_new(ctx, &methods[o.amsgrad], model, &m, o.weight_decay);
}

fb_optimizer *fb_optim_adam(fb_context *ctx, fb_module *model, const fb_adam_options *opts)
{
    FBI_ENTRY(ctx);
    return adam_new(ctx, model, opts, adam, false);
}

fb_optimizer *fb_optim_adamw(fb_context *ctx, fb_module *model, const fb_adamw_options *opts)
{
    FBI_ENTRY(ctx);
    return adam_new(ctx, model, opts, adamw, true);
}
