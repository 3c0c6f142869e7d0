/* Rates as functions of the steps done. */
#include <math.h>
#include <stdlib.h>

#include "core/optim/optimizer_priv.h"

struct fb_schedule {
    fb_context *ctx; /* the optimizer may be closed first */
    fb_optimizer *opt;
    double base; /* rate when the schedule was made */
    int64_t step;
    double (*rate)(const fb_schedule *);
    int64_t every, total;
    double gamma;
    fb_cosine_options cosine;
    double (*fn)(int64_t step, void *user);
    void *user;
};

static double rate_step(const fb_schedule *s)
{
    return s->base * pow(s->gamma, (double)(s->step / s->every));
}

static double rate_cosine(const fb_schedule *s)
{
    int64_t warm = s->cosine.warmup;
    if (s->step < warm)
        return s->base * (double)s->step / (double)warm;
    double t = s->step >= s->total ? 1 : (double)(s->step - warm) / (double)(s->total - warm);
    double low = s->cosine.min_lr;
    return low + (s->base - low) * 0.5 * (1 + cos(3.14159265358979323846 * t));
}

static double rate_lambda(const fb_schedule *s)
{
    return s->base * s->fn(s->step, s->user);
}

static fb_schedule *schedule_new(fb_optimizer *opt, fb_schedule init)
{
    fb_schedule *s = malloc(sizeof *s);
    if (!s) {
        fbi_fail(opt->ctx, FB_E_NOMEM, "schedule: no memory");
        return NULL;
    }
    *s = init;
    s->ctx = opt->ctx;
    s->opt = opt;
    s->base = opt->lr;
    if (fbi_context_adopt(opt->ctx, s, free)) {
        free(s);
        return NULL;
    }
    opt->lr = s->rate(s);
    return s;
}

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
    return schedule_new(opt, (fb_schedule){.rate = rate_step, .every = every, .gamma = gamma});
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
    return schedule_new(opt, (fb_schedule){.rate = rate_cosine, .total = total, .cosine = o});
}

fb_schedule *fb_schedule_lambda(fb_optimizer *opt, double (*fn)(int64_t step, void *user),
                                void *user)
{
    if (!opt || !fbi_enter(opt->ctx))
        return NULL;
    FBI_ENTRY(opt->ctx);
    return schedule_new(opt, (fb_schedule){.rate = rate_lambda, .fn = fn, .user = user});
}

fb_status fb_schedule_step(fb_schedule *s)
{
    if (!s)
        return FB_E_ARG;
    fb_context *ctx = s->opt->ctx;
    if (!fbi_enter(ctx))
        return ctx->status;
    if (ctx->in_step && !ctx->batch.last)
        return FB_OK;
    s->step++;
    return fb_optim_set_lr(s->opt, s->rate(s));
}

double fb_schedule_lr(const fb_schedule *s)
{
    return s ? s->rate(s) : NAN;
}

void fb_schedule_close(fb_schedule *s)
{
    if (!s)
        return;
    fbi_context_forget(s->ctx, s);
    free(s);
}

int fbi_schedule_scalars(fb_schedule *s, fbi_scalar *out, int n)
{
    const fbi_scalar all[] = {{.name = "step", .i = &s->step}, {.name = "base_lr", .f = &s->base}};
    for (int i = 0; i < n && i < 2; i++)
        out[i] = all[i];
    return 2;
}
