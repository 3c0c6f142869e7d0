/* Stochastic gradient descent with momentum, as PyTorch's SGD. */
#include "core/optim/optimizer_priv.h"

static int n_states(const fb_optimizer *opt)
{
    return opt->numbers.momentum > FB_ZERO ? 1 : 0;
}

static const fbi_method sgd = {
    .name = "sgd", .state_names = {"momentum"}, .n_states = n_states, .safe = true};

fb_optimizer *fb_optim_sgd(fb_context *ctx, fb_module *model, const fb_sgd_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_sgd_options o = opts ? *opts : (fb_sgd_options){0};
    o.lr = fbi_given(o.lr, 1e-3);
    if (!(o.lr >= 0) || !(o.momentum >= 0) || !(o.weight_decay >= 0)) {
        fbi_fail(ctx, FB_E_ARG,
                 "fb_optim_sgd: lr %g, momentum %g, weight_decay %g: none may be negative", o.lr,
                 o.momentum, o.weight_decay);
        return NULL;
    }
    if (o.nesterov && (o.momentum <= FB_ZERO || o.dampening != 0)) {
        fbi_fail(ctx, FB_E_ARG, "fb_optim_sgd: nesterov needs momentum and no dampening");
        return NULL;
    }
    fbi_method_numbers m = {.kind = FBI_UPDATE_SGD,
                            .lr = o.lr,
                            .momentum = o.momentum,
                            .dampening = o.dampening,
                            .nesterov = o.nesterov,
                            .maximize = o.maximize};
    return fbi_optim_new(ctx, &sgd, model, &m, o.weight_decay);
}
