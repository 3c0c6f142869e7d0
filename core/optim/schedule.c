/* Rates as functions of the steps done, and of the rate before. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/optim/schedule_priv.h"

static const double pi = 3.14159265358979323846;

/* --- life --- */

void fbi_schedule_free(void *object)
{
    fb_schedule *s = object;
    for (int i = 0; i < s->n_of; i++)
        fbi_schedule_free(s->of[i]);
    free(s->of);
    free(s->at);
    free(s->names);
    free(s);
}

fb_status fbi_schedule_set(fb_schedule *s, double lr)
{
    fb_status st = fb_optim_set_lr(s->opt, lr);
    if (!st)
        s->last = s->opt->scheduled_lr = lr;
    return st;
}

fb_schedule *fbi_schedule_new(fb_optimizer *opt, fb_schedule init)
{
    fb_schedule *s = malloc(sizeof *s);
    if (!s) {
        fbi_fail(opt->ctx, FB_E_NOMEM, "schedule: no memory");
        free(init.at);
        free(init.of);
        return NULL;
    }
    *s = init;
    s->ctx = opt->ctx;
    s->opt = opt;
    if (opt->lr != opt->scheduled_lr)
        opt->base_lr = opt->lr;
    s->base = opt->base_lr;
    if (fbi_context_adopt(opt->ctx, s, fbi_schedule_free)) {
        free(init.at);
        free(init.of);
        free(s);
        return NULL;
    }
    s->last = opt->lr;
    bool sets = s->kind->rate || s->kind->next;
    if (sets && fbi_schedule_set(s, s->kind->next ? s->kind->next(s, opt->lr) : s->kind->rate(s))) {
        fb_schedule_close(s);
        return NULL;
    }
    return s;
}

bool fbi_schedule_free_to_use(const fb_schedule *s, const char *function)
{
    if (s->owner)
        fbi_fail(s->ctx, FB_E_STATE, "%s: %s belongs to a %s", function, s->kind->name,
                 s->owner->kind->name);
    return !s->owner;
}

void fb_schedule_close(fb_schedule *s)
{
    if (!s || !fbi_schedule_free_to_use(s, "fb_schedule_close"))
        return;
    fbi_context_forget(s->ctx, s);
    fbi_schedule_free(s);
}

/* --- steps --- */

fb_status fbi_schedule_advance(fb_schedule *s)
{
    s->step++;
    if (s->of)
        return fbi_joined_advance(s);
    double lr = s->kind->next ? s->kind->next(s, s->opt->lr) : s->kind->rate(s);
    return s->ctx->status ? s->ctx->status : fbi_schedule_set(s, lr);
}

fb_status fbi_schedule_restart(fb_schedule *s)
{
    s->step = 0;
    if (s->of)
        return fbi_joined_restart(s);
    return fbi_schedule_set(s, s->kind->rate ? s->kind->rate(s) : s->kind->next(s, s->opt->lr));
}

fb_status fb_schedule_step(fb_schedule *s)
{
    if (!s)
        return FB_E_ARG;
    fb_context *ctx = s->ctx;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return ctx->status;
    if (!fbi_schedule_free_to_use(s, "fb_schedule_step"))
        return ctx->status;
    if (s->kind == &fbi_plateau)
        return fbi_fail(ctx, FB_E_ARG,
                        "fb_schedule_step: a plateau needs a metric: fb_schedule_step_metric");
    if (ctx->in_step && !ctx->batch.last)
        return FB_OK;
    return fbi_schedule_advance(s);
}

double fb_schedule_lr(const fb_schedule *s)
{
    if (!s)
        return NAN;
    return s->kind->next || !s->kind->rate ? s->last : s->kind->rate(s);
}

/* --- kinds that do not look at the rate of now --- */

static double rate_step(const fb_schedule *s)
{
    return s->base * pow(s->a, (double)(s->step / s->total));
}

static double rate_cosine(const fb_schedule *s)
{
    int64_t warm = s->cosine.warmup;
    if (s->step < warm)
        return s->base * (double)s->step / (double)warm;
    double t = s->step >= s->total ? 1 : (double)(s->step - warm) / (double)(s->total - warm);
    double low = s->cosine.min_lr;
    return low + (s->base - low) * 0.5 * (1 + cos(pi * t));
}

static double rate_lambda(const fb_schedule *s)
{
    return s->base * s->fn(s->step, s->user);
}

static double rate_restarts(const fb_schedule *s)
{
    int64_t at = s->step, length = s->total, times = (int64_t)s->a;
    if (times == 1)
        at %= length;
    for (; at >= length; length *= times)
        at -= length;
    return s->b + (s->base - s->b) * (1 + cos(pi * (double)at / (double)length)) / 2;
}

/* --- kinds that multiply it --- */

static double next_multiplicative(fb_schedule *s, double lr)
{
    return s->step > 0 ? lr * s->fn(s->step, s->user) : lr;
}

static double rate_multistep(const fb_schedule *s)
{
    double lr = s->base;
    for (int i = 0; i < s->n_at; i++)
        lr *= s->at[i] <= s->step ? s->a : 1;
    return lr;
}

static double next_multistep(fb_schedule *s, double lr)
{
    for (int i = 0; i < s->n_at; i++)
        lr *= s->at[i] == s->step ? s->a : 1;
    return lr;
}

static double rate_constant(const fb_schedule *s)
{
    return s->step >= s->total ? s->base : s->base * s->a;
}

static double next_constant(fb_schedule *s, double lr)
{
    if (s->step == 0)
        return lr * s->a;
    if (s->step != s->total)
        return lr;
    return s->a > 0 ? lr / s->a : s->base;
}

static double rate_linear(const fb_schedule *s)
{
    double done = fmin((double)s->step / (double)s->total, 1);
    return s->base * (s->a + (s->b - s->a) * done);
}

static double next_linear(fb_schedule *s, double lr)
{
    if (s->step == 0)
        return lr * s->a;
    if (s->step > s->total)
        return lr;
    double before = (double)s->total * s->a + (double)(s->step - 1) * (s->b - s->a);
    return lr * (1 + (s->b - s->a) / before);
}

static double rate_exponential(const fb_schedule *s)
{
    return s->base * pow(s->a, (double)s->step);
}

static double next_exponential(fb_schedule *s, double lr)
{
    return s->step == 0 ? lr : lr * s->a;
}

static double left(const fb_schedule *s, int64_t step)
{
    return 1 - fmin((double)step / (double)s->total, 1);
}

static double rate_polynomial(const fb_schedule *s)
{
    return s->base * pow(left(s, s->step), s->a);
}

static double next_polynomial(fb_schedule *s, double lr)
{
    if (s->step == 0 || s->step > s->total)
        return lr;
    return lr * pow(left(s, s->step) / left(s, s->step - 1), s->a);
}

static double wave(const fb_schedule *s, int64_t step)
{
    return 1 + cos(pi * (double)step / (double)s->total);
}

static double rate_annealing(const fb_schedule *s)
{
    return s->b + (s->base - s->b) * wave(s, s->step) / 2;
}

/* At the bottom there is nothing to multiply. */
static double next_annealing(fb_schedule *s, double lr)
{
    if (s->step == 0)
        return lr;
    if ((s->step - 1 - s->total) % (2 * s->total) == 0)
        return lr + (s->base - s->b) * (1 - cos(pi / (double)s->total)) / 2;
    return s->b + (lr - s->b) * wave(s, s->step) / wave(s, s->step - 1);
}

/* Part of the way that is done. */
static double way(const fb_schedule *s, int64_t step)
{
    double t = fmin((double)step / (s->total > 1 ? (double)s->total : 1), 1);
    t = fmax(t, 0);
    return s->b > 0 ? t : (1 - cos(pi * t)) / 2;
}

static double next_swa(fb_schedule *s, double lr)
{
    int64_t step = s->total == 0 && s->step == 0 ? 1 : s->step;
    double before = way(s, step - 1), now = way(s, step);
    double from = before == 1 ? s->a : (lr - before * s->a) / (1 - before);
    return s->a * now + from * (1 - now);
}

static const fbi_schedule_kind step_kind = {.name = "step_lr", .rate = rate_step},
                               cosine_kind = {.name = "cosine", .rate = rate_cosine},
                               lambda_kind = {.name = "lambda", .rate = rate_lambda},
                               restarts_kind = {.name = "warm_restarts", .rate = rate_restarts},
                               multiplicative_kind = {"multiplicative", NULL, next_multiplicative,
                                                      true},
                               multistep_kind = {"multistep", rate_multistep, next_multistep, true},
                               constant_kind = {"constant", rate_constant, next_constant, true},
                               linear_kind = {"linear", rate_linear, next_linear, true},
                               exponential_kind = {"exponential", rate_exponential,
                                                   next_exponential, true},
                               polynomial_kind = {"polynomial", rate_polynomial, next_polynomial,
                                                  true},
                               annealing_kind = {"cosine_annealing", rate_annealing, next_annealing,
                                                 true},
                               swa_kind = {"swa", NULL, next_swa, true};

/* --- for users --- */

fb_schedule *fb_schedule_step_lr(fb_optimizer *opt, int64_t every, double gamma)
{
    if (!opt || !fbi_enter(opt->ctx))
        return NULL;
    FBI_ENTRY(opt->ctx);
    if (every < 1 || !(gamma >= 0)) {
        fbi_fail(opt->ctx, FB_E_ARG, "fb_schedule_step_lr: every %lld steps by %g",
                 (long long)every, gamma);
        return NULL;
    }
    return fbi_schedule_new(opt, (fb_schedule){.kind = &step_kind, .total = every, .a = gamma});
}

fb_schedule *fb_schedule_cosine(fb_optimizer *opt, int64_t total, const fb_cosine_options *opts)
{
    if (!opt || !fbi_enter(opt->ctx))
        return NULL;
    FBI_ENTRY(opt->ctx);
    fb_cosine_options o = opts ? *opts : (fb_cosine_options){0};
    if (o.warmup < 0 || total <= o.warmup) {
        fbi_fail(opt->ctx, FB_E_ARG, "fb_schedule_cosine: %lld steps in all, %lld of warm-up",
                 (long long)total, (long long)o.warmup);
        return NULL;
    }
    return fbi_schedule_new(opt, (fb_schedule){.kind = &cosine_kind, .total = total, .cosine = o});
}

static fb_schedule *of_function(fb_optimizer *opt, const fbi_schedule_kind *kind, fb_schedule_fn fn,
                                void *user)
{
    if (!opt || !fbi_enter(opt->ctx))
        return NULL;
    if (!fn) {
        fbi_fail(opt->ctx, FB_E_ARG, "fb_schedule_%s: the function is NULL", kind->name);
        return NULL;
    }
    return fbi_schedule_new(opt, (fb_schedule){.kind = kind, .fn = fn, .user = user});
}

fb_schedule *fb_schedule_lambda(fb_optimizer *opt, fb_schedule_fn fn, void *user)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    return of_function(opt, &lambda_kind, fn, user);
}

fb_schedule *fb_schedule_multiplicative(fb_optimizer *opt, fb_schedule_fn fn, void *user)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    return of_function(opt, &multiplicative_kind, fn, user);
}

fb_schedule *fb_schedule_multistep(fb_optimizer *opt, const int64_t *steps, int n, double gamma)
{
    if (!opt || !fbi_enter(opt->ctx))
        return NULL;
    FBI_ENTRY(opt->ctx);
    bool ascending = n >= 1 && steps && steps[0] >= 0;
    for (int i = 1; i < n && ascending; i++)
        ascending = steps[i] >= steps[i - 1];
    if (!ascending || !(gamma >= 0)) {
        fbi_fail(opt->ctx, FB_E_ARG,
                 "fb_schedule_multistep: %d steps by %g: there must be one, none negative, in "
                 "ascending order, and gamma not negative",
                 n, gamma);
        return NULL;
    }
    int64_t *at = malloc((size_t)n * sizeof *at);
    if (!at) {
        fbi_fail(opt->ctx, FB_E_NOMEM, "schedule: no memory");
        return NULL;
    }
    memcpy(at, steps, (size_t)n * sizeof *at);
    return fbi_schedule_new(
        opt, (fb_schedule){.kind = &multistep_kind, .at = at, .n_at = n, .a = gamma});
}

/* One of these kinds, whose numbers are given in a sentence. */
static fb_schedule *of_numbers(fb_optimizer *opt, bool fine, fb_schedule init, const char *rule)
{
    if (!opt || !fbi_enter(opt->ctx))
        return NULL;
    if (!fine) {
        fbi_fail(opt->ctx, FB_E_ARG, "fb_schedule_%s: %s: total %lld, numbers %g and %g",
                 init.kind->name, rule, (long long)init.total, init.a, init.b);
        return NULL;
    }
    return fbi_schedule_new(opt, init);
}

fb_schedule *fb_schedule_constant(fb_optimizer *opt, double factor, int64_t total)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    return of_numbers(opt, total >= 1 && factor >= 0 && factor <= 1,
                      (fb_schedule){.kind = &constant_kind, .total = total, .a = factor},
                      "total must be positive, the factor in [0, 1]");
}

fb_schedule *fb_schedule_linear(fb_optimizer *opt, double first, double last, int64_t total)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    bool fine = total >= 1 && first > 0 && first <= 1 && last >= 0 && last <= 1;
    return of_numbers(opt, fine,
                      (fb_schedule){.kind = &linear_kind, .total = total, .a = first, .b = last},
                      "total must be positive, the first factor in (0, 1], the last in [0, 1]");
}

fb_schedule *fb_schedule_exponential(fb_optimizer *opt, double gamma)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    return of_numbers(opt, gamma >= 0, (fb_schedule){.kind = &exponential_kind, .a = gamma},
                      "gamma must not be negative");
}

fb_schedule *fb_schedule_polynomial(fb_optimizer *opt, int64_t total, double power)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    return of_numbers(opt, total >= 1 && power >= 0,
                      (fb_schedule){.kind = &polynomial_kind, .total = total, .a = power},
                      "total must be positive, the power not negative");
}

fb_schedule *fb_schedule_cosine_annealing(fb_optimizer *opt, int64_t total, double min_lr)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    return of_numbers(opt, total >= 1 && min_lr >= 0,
                      (fb_schedule){.kind = &annealing_kind, .total = total, .b = min_lr},
                      "total must be positive, min_lr not negative");
}

fb_schedule *fb_schedule_warm_restarts(fb_optimizer *opt, int64_t first, int64_t times,
                                       double min_lr)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    return of_numbers(
        opt, first >= 1 && times >= 1 && min_lr >= 0,
        (fb_schedule){.kind = &restarts_kind, .total = first, .a = (double)times, .b = min_lr},
        "both lengths must be positive, min_lr not negative");
}

fb_schedule *fb_schedule_swa(fb_optimizer *opt, double swa_lr, int64_t total, bool linear)
{
    FBI_ENTRY(opt ? opt->ctx : NULL);
    return of_numbers(opt, total >= 0 && swa_lr >= 0,
                      (fb_schedule){.kind = &swa_kind, .total = total, .a = swa_lr, .b = linear},
                      "neither total nor swa_lr may be negative");
}
