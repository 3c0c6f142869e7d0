/* Stochastic gradient descent with momentum, as PyTorch's SGD. */
#include "core/optim/optimizer_priv.h"

static int n_states(const fb_optimizer *opt)
{
    return opt->sgd.momentum > FB_ZERO ? 1 : 0;
}

static void update(const fb_optimizer *opt, const fbi_run *r)
{
    fbi_update_sgd(r, &(fbi_sgd_numbers){.lr = r->lr,
                                         .weight_decay = r->weight_decay,
                                         .momentum = opt->sgd.momentum,
                                         .dampening = opt->sgd.dampening,
                                         .scale = r->scale,
                                         .nesterov = opt->sgd.nesterov,
                                         .first = r->step == 1});
}

const fbi_method fbi_sgd = {
    .name = "sgd", .state_names = {"momentum"}, .n_states = n_states, .update = update};

fb_optimizer *fb_optim_sgd(fb_context *ctx, fb_module *model, const fb_sgd_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fb_sgd_options o = opts ? *opts : (fb_sgd_options){0};
    o.lr = o.lr == 0 ? 1e-3 : o.lr;
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
    fb_optimizer *opt = fbi_optim_new(ctx, &fbi_sgd, model);
    if (!opt)
        return NULL;
    opt->sgd = o;
    opt->lr = o.lr;
    opt->weight_decay = o.weight_decay;
    return opt;
}
