/* Stochastic gradient descent with momentum, as PyTorch's SGD. */
#include "core/optim/optimizer_priv.h"

static int n_states(const fb_optimizer *opt)
{
    return opt->sgd.momentum > FB_ZERO ? 1 : 0;
}

static fb_status update(const fb_optimizer *opt, const fbi_run *r)
{
    fbi_update u = fbi_update_of(r, FBI_UPDATE_SGD);
    u.lr = r->lr;
    u.weight_decay = r->weight_decay;
    u.momentum = opt->sgd.momentum;
    u.dampening = opt->sgd.dampening;
    u.nesterov = opt->sgd.nesterov;
    u.first = r->step == 1;
    return fbi_update_flat(opt->ctx, &u);
}

static fbi_method_numbers numbers(const fb_optimizer *opt)
{
    return (fbi_method_numbers){.kind = FBI_UPDATE_SGD,
                                .lr = opt->lr,
                                .momentum = opt->sgd.momentum,
                                .dampening = opt->sgd.dampening,
                                .nesterov = opt->sgd.nesterov};
}

const fbi_method fbi_sgd = {.name = "sgd",
                            .state_names = {"momentum"},
                            .n_states = n_states,
                            .update = update,
                            .numbers = numbers};

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
