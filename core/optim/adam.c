/* Adam and AdamW, as PyTorch computes them. */
#include <math.h>

#include "core/optim/optimizer_priv.h"

static int n_states(const fb_optimizer *opt)
{
    return opt->adam.amsgrad ? 3 : 2;
}

static fb_status update(const fb_optimizer *opt, const fbi_run *r)
{
    const fb_adam_options *o = &opt->adam;
    bool decoupled = opt->method == &fbi_adamw;
    double t = (double)r->step;
    fbi_update u = fbi_update_of(r, FBI_UPDATE_ADAM);
    u.shrink = decoupled ? 1 - r->lr * r->weight_decay : 1;
    u.weight_decay = decoupled ? 0 : r->weight_decay;
    u.step_size = r->lr / (1 - pow(o->beta1, t));
    u.beta1 = o->beta1;
    u.beta2 = o->beta2;
    u.root2 = sqrt(1 - pow(o->beta2, t));
    u.eps = o->eps;
    return fbi_update_flat(opt->ctx, &u);
}

static fbi_method_numbers numbers(const fb_optimizer *opt)
{
    const fb_adam_options *o = &opt->adam;
    return (fbi_method_numbers){.kind = FBI_UPDATE_ADAM,
                                .lr = opt->lr,
                                .beta1 = o->beta1,
                                .beta2 = o->beta2,
                                .eps = o->eps,
                                .decoupled = opt->method == &fbi_adamw};
}

const fbi_method fbi_adam = {.name = "adam",
                             .state_names = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
                             .n_states = n_states,
                             .update = update,
                             .numbers = numbers};
const fbi_method fbi_adamw = {.name = "adamw",
                              .state_names = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
                              .n_states = n_states,
                              .update = update,
                              .numbers = numbers};

static fb_optimizer *adam_new(fb_context *ctx, fb_module *model, const fb_adam_options *opts,
                              const fbi_method *method)
{
    if (!fbi_enter(ctx))
        return NULL;
    fb_adam_options o = opts ? *opts : (fb_adam_options){0};
    o.lr = o.lr == 0 ? 1e-3 : o.lr;
    o.beta1 = o.beta1 == 0 ? 0.9 : o.beta1;
    o.beta2 = o.beta2 == 0 ? 0.999 : o.beta2;
    o.eps = o.eps == 0 ? 1e-8 : o.eps;
    if (!(o.lr >= 0) || !(o.beta1 >= 0 && o.beta1 < 1) || !(o.beta2 >= 0 && o.beta2 < 1) ||
        !(o.eps >= 0) || !(o.weight_decay >= 0)) {
        fbi_fail(
            ctx, FB_E_ARG,
            "fb_optim_%s: lr %g, betas %g %g, eps %g, weight_decay %g: betas must lie in [0, 1), "
            "the others must not be negative",
            method->name, o.lr, o.beta1, o.beta2, o.eps, o.weight_decay);
        return NULL;
    }
    fb_optimizer *opt = fbi_optim_new(ctx, method, model);
    if (!opt)
        return NULL;
    opt->adam = o;
    opt->lr = o.lr;
    opt->weight_decay = o.weight_decay;
    return opt;
}

fb_optimizer *fb_optim_adam(fb_context *ctx, fb_module *model, const fb_adam_options *opts)
{
    FBI_ENTRY(ctx);
    return adam_new(ctx, model, opts, &fbi_adam);
}

fb_optimizer *fb_optim_adamw(fb_context *ctx, fb_module *model, const fb_adamw_options *opts)
{
    FBI_ENTRY(ctx);
    return adam_new(ctx, model, opts, &fbi_adamw);
}
