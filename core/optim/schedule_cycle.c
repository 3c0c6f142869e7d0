/* Schedules that change the momentum, too, and the one that listens to a metric. */
#include <math.h>

#include "core/optim/schedule_priv.h"

static const double pi = 3.14159265358979323846;

/* --- cyclic --- */

static double cycle_scale(const fb_schedule *s, double cycle)
{
    const fb_cyclic_options *o = &s->cyclic;
    if (o->scale)
        return o->scale(o->scale_steps ? (double)s->step : cycle, o->user);
    switch (o->mode) {
    case FB_CYCLE_TRIANGULAR:
        return 1;
    case FB_CYCLE_TRIANGULAR2:
        return 1 / pow(2, cycle - 1);
    case FB_CYCLE_EXP_RANGE:
        return pow(o->gamma, (double)s->step);
    }
    return 1;
}

/* How high the cycle is at this step, of its greatest height. */
static double height(const fb_schedule *s)
{
    double up = (double)s->cyclic.up, whole = up + (double)s->cyclic.down, ratio = up / whole;
    double cycle = floor(1 + (double)s->step / whole), x = 1 + (double)s->step / whole - cycle;
    double part = x <= ratio ? x / ratio : (x - 1) / (ratio - 1);
    return part * cycle_scale(s, cycle);
}

static double rate_cyclic(const fb_schedule *s)
{
    const fb_cyclic_options *o = &s->cyclic;
    double high = height(s);
    if (!o->keep_momentum)
        fb_optim_set_momentum(s->opt,
                              o->max_momentum - (o->max_momentum - o->base_momentum) * high);
    return o->base_lr + (o->max_lr - o->base_lr) * high;
}

/* --- one cycle --- */

static double between(const fb_schedule *s, double from, double to, double part)
{
    return s->cycle.linear ? (to - from) * part + from
                           : to + (from - to) / 2 * (cos(pi * part) + 1);
}

static double rate_one_cycle(const fb_schedule *s)
{
    const fb_one_cycle_options *o = &s->cycle;
    double step = (double)s->step, n = (double)o->total, up = o->pct_start * n - 1, begin = 0;
    double first = o->max_lr / o->div_factor, last = first / o->final_div_factor;
    double ends[3] = {up, o->three_phase ? 2 * o->pct_start * n - 2 : n - 1, n - 1};
    double lr[4] = {first, o->max_lr, o->three_phase ? first : last, last};
    double momentum[4] = {o->max_momentum, o->base_momentum, o->max_momentum, o->max_momentum};
    int phase = 0, phases = o->three_phase ? 3 : 2;
    if (s->step > o->total) {
        fbi_fail(s->ctx, FB_E_STATE, "fb_schedule_step: one_cycle: step %lld of %lld",
                 (long long)s->step, (long long)o->total);
        return s->last;
    }
    for (; phase < phases - 1 && step > ends[phase]; phase++)
        begin = ends[phase];
    double part = (step - begin) / (ends[phase] - begin);
    if (!o->keep_momentum)
        fb_optim_set_momentum(s->opt, between(s, momentum[phase], momentum[phase + 1], part));
    return between(s, lr[phase], lr[phase + 1], part);
}

static double next_cyclic(fb_schedule *s, double lr)
{
    (void)lr;
    return rate_cyclic(s);
}

static double next_one_cycle(fb_schedule *s, double lr)
{
    (void)lr;
    return rate_one_cycle(s);
}

static const fbi_schedule_kind cyclic_kind = {"cyclic", rate_cyclic, next_cyclic, true},
                               one_cycle_kind = {"one_cycle", rate_one_cycle, next_one_cycle, true};

/* The optimizer has a momentum, if it is to be changed; then checkpoints have it, too. */
static bool takes_momentum(fb_optimizer *opt, const fbi_schedule_kind *kind, bool keep, double low,
                           double high)
{
    if (keep)
        return true;
    if (!opt->momentum) {
        fbi_fail(opt->ctx, FB_E_UNSUPPORTED,
                 "fb_schedule_%s: %s has no momentum; set keep_momentum", kind->name,
                 opt->method->name);
        return false;
    }
    if (!(low >= 0 && low < 1 && high >= 0 && high < 1)) {
        fbi_fail(opt->ctx, FB_E_ARG, "fb_schedule_%s: momenta %g and %g; they must lie in [0, 1)",
                 kind->name, low, high);
        return false;
    }
    return true;
}

fb_schedule *fb_schedule_cyclic(fb_optimizer *opt, const fb_cyclic_options *opts)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    if (!opt || !fbi_enter(opt->ctx))
        return NULL;
    fb_cyclic_options o = opts ? *opts : (fb_cyclic_options){0};
    o.up = o.up ? o.up : 2000;
    o.down = o.down ? o.down : o.up;
    o.gamma = fbi_given(o.gamma, 1);
    o.base_momentum = fbi_given(o.base_momentum, 0.8);
    o.max_momentum = fbi_given(o.max_momentum, 0.9);
    if (!(o.base_lr >= 0) || !(o.max_lr > 0) || o.up < 1 || o.down < 1 || !(o.gamma >= 0) ||
        (int)o.mode < 0 || o.mode > FB_CYCLE_EXP_RANGE) {
        fbi_fail(opt->ctx, FB_E_ARG,
                 "fb_schedule_cyclic: base_lr %g, max_lr %g, %lld steps up, %lld down, mode %d, "
                 "gamma %g: rates and gamma must not be negative, max_lr and steps positive",
                 o.base_lr, o.max_lr, (long long)o.up, (long long)o.down, (int)o.mode, o.gamma);
        return NULL;
    }
    if (!takes_momentum(opt, &cyclic_kind, o.keep_momentum, o.base_momentum, o.max_momentum))
        return NULL;
    opt->cycles_momentum |= !o.keep_momentum;
    return fbi_schedule_new(opt, (fb_schedule){.kind = &cyclic_kind, .cyclic = o});
}

fb_schedule *fb_schedule_one_cycle(fb_optimizer *opt, const fb_one_cycle_options *opts)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    if (!opt || !fbi_enter(opt->ctx))
        return NULL;
    fb_one_cycle_options o = opts ? *opts : (fb_one_cycle_options){0};
    o.pct_start = fbi_given(o.pct_start, 0.3);
    o.div_factor = fbi_given(o.div_factor, 25);
    o.final_div_factor = fbi_given(o.final_div_factor, 1e4);
    o.base_momentum = fbi_given(o.base_momentum, 0.85);
    o.max_momentum = fbi_given(o.max_momentum, 0.95);
    if (!(o.max_lr > 0) || o.total < 1 || !(o.pct_start >= 0 && o.pct_start <= 1) ||
        !(o.div_factor > 0) || !(o.final_div_factor > 0)) {
        fbi_fail(opt->ctx, FB_E_ARG,
                 "fb_schedule_one_cycle: max_lr %g, total %lld, pct_start %g, div_factor %g, "
                 "final_div_factor %g: all must be positive, pct_start in [0, 1]",
                 o.max_lr, (long long)o.total, o.pct_start, o.div_factor, o.final_div_factor);
        return NULL;
    }
    if (!takes_momentum(opt, &one_cycle_kind, o.keep_momentum, o.base_momentum, o.max_momentum))
        return NULL;
    opt->cycles_momentum |= !o.keep_momentum;
    return fbi_schedule_new(opt, (fb_schedule){.kind = &one_cycle_kind, .cycle = o});
}

/* --- plateau --- */

const fbi_schedule_kind fbi_plateau = {.name = "plateau", .keeps_last = true};

fb_schedule *fb_schedule_plateau(fb_optimizer *opt, const fb_plateau_options *opts)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    if (!opt || !fbi_enter(opt->ctx))
        return NULL;
    fb_plateau_options o = opts ? *opts : (fb_plateau_options){0};
    o.factor = fbi_given(o.factor, 0.1);
    o.patience = o.patience == -1 ? 0 : o.patience == 0 ? 10 : o.patience;
    o.threshold = fbi_given(o.threshold, 1e-4);
    o.eps = fbi_given(o.eps, 1e-8);
    if (!(o.factor >= 0 && o.factor < 1) || o.patience < 0 || o.cooldown < 0 || !(o.min_lr >= 0)) {
        fbi_fail(opt->ctx, FB_E_ARG,
                 "fb_schedule_plateau: factor %g, patience %lld, cooldown %lld, min_lr %g: the "
                 "factor must lie in [0, 1), the others must not be negative",
                 o.factor, (long long)o.patience, (long long)o.cooldown, o.min_lr);
        return NULL;
    }
    return fbi_schedule_new(
        opt,
        (fb_schedule){.kind = &fbi_plateau, .plateau = o, .best = o.max ? -INFINITY : INFINITY});
}

static bool better(const fb_plateau_options *o, double now, double best)
{
    double by = o->max ? o->threshold : -o->threshold;
    double limit = o->absolute ? best + by : best * (1 + by);
    return o->max ? now > limit : now < limit;
}

fb_status fb_schedule_step_metric(fb_schedule *s, double metric)
{
    if (!s)
        return FB_E_ARG;
    FBI_ENTRY(s->ctx);
    if (!fbi_enter(s->ctx))
        return s->ctx->status;
    if (s->kind != &fbi_plateau)
        return fbi_fail(s->ctx, FB_E_ARG,
                        "fb_schedule_step_metric: %s needs no metric: fb_schedule_step",
                        s->kind->name);
    if (isnan(metric))
        return fbi_fail(s->ctx, FB_E_ARG, "fb_schedule_step_metric: the metric is NaN");
    const fb_plateau_options *o = &s->plateau;
    bool good = better(o, metric, s->best);
    s->step++;
    s->best = good ? metric : s->best;
    s->bad = good || s->cooldown > 0 ? 0 : s->bad + 1;
    s->cooldown -= s->cooldown > 0;
    double lr = s->last = s->opt->lr;
    if (s->bad <= o->patience)
        return FB_OK;
    s->cooldown = o->cooldown;
    s->bad = 0;
    double lower = fmax(lr * o->factor, o->min_lr);
    return lr - lower > o->eps ? fbi_schedule_set(s, lower) : FB_OK;
}
