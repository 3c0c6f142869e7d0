/* Schedules made of others: one after the other, or all at once; and what checkpoints see of all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/optim/schedule_priv.h"

const fbi_schedule_kind fbi_sequence = {.name = "sequence", .keeps_last = true};
const fbi_schedule_kind fbi_chain = {.name = "chain", .keeps_last = true};

/* Which of a sequence is at work. */
static int current(const fb_schedule *s)
{
    int i = 0;
    while (i < s->n_at && s->at[i] <= s->step)
        i++;
    return i;
}

fb_status fbi_joined_advance(fb_schedule *s)
{
    fb_status st = FB_OK;
    int i = current(s);
    if (s->kind == &fbi_chain)
        for (int k = 0; k < s->n_of && !st; k++)
            st = fbi_schedule_advance(s->of[k]);
    else if (i > 0 && s->at[i - 1] == s->step)
        st = fbi_schedule_restart(s->of[i]);
    else
        st = fbi_schedule_advance(s->of[i]);
    s->last = s->opt->lr;
    return st;
}

fb_status fbi_joined_restart(fb_schedule *s)
{
    fb_status st = FB_OK;
    bool chain = s->kind == &fbi_chain;
    for (int k = 0; k < s->n_of && !st; k++)
        if (chain && k > 0 && s->of[k]->kind->next) {
            s->of[k]->step = 0;
            st = fbi_schedule_set(s->of[k], s->of[k]->kind->next(s->of[k], s->opt->lr));
        } else if (chain || k == current(s)) {
            st = fbi_schedule_restart(s->of[k]);
        }
    s->last = s->opt->lr;
    return st;
}

static bool fit(fb_context *ctx, const char *name, fb_schedule *const *of, int n)
{
    for (int i = 0; i < n; i++) {
        const char *wrong = !of[i]                        ? "is NULL"
                            : of[i]->owner                ? "belongs to another schedule"
                            : of[i]->kind == &fbi_plateau ? "is a plateau, which needs metrics"
                            : of[i]->opt != of[0]->opt    ? "is of another optimizer"
                                                          : NULL;
        for (int k = 0; k < i && !wrong; k++)
            wrong = of[k] == of[i] ? "is there twice" : NULL;
        if (!wrong)
            continue;
        fbi_fail(ctx, FB_E_ARG, "fb_schedule_%s: schedule %d %s", name, i, wrong);
        return false;
    }
    return true;
}

/* A list of its own, and room for names; they are the context's no longer. */
static fb_schedule *join(fb_schedule *const *of, int n, fb_schedule init)
{
    fb_context *ctx = of[0]->ctx;
    init.of = malloc((size_t)n * sizeof(fb_schedule *));
    init.n_of = 0; /* until it is there */
    fb_schedule *s = NULL;
    if (init.of)
        s = fbi_schedule_new(of[0]->opt, init);
    else
        free(init.at);
    if (!s) {
        if (!ctx->status)
            fbi_fail(ctx, FB_E_NOMEM, "schedule: no memory");
        return NULL;
    }
    memcpy(s->of, of, (size_t)n * sizeof(fb_schedule *));
    s->n_of = n;
    for (int i = 0; i < n; i++) {
        fbi_context_forget(ctx, of[i]);
        of[i]->owner = s;
    }
    return s;
}

fb_schedule *fb_schedule_sequence(fb_schedule *const *of, int n, const int64_t *at)
{
    fb_context *ctx = of && n >= 1 && of[0] ? of[0]->ctx : NULL;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx) || !fit(ctx, "sequence", of, n))
        return NULL;
    for (int i = 0; i < n - 1; i++)
        if (!at || at[i] < (i ? at[i - 1] : 1)) {
            fbi_fail(ctx, FB_E_ARG,
                     "fb_schedule_sequence: %d schedules need %d positive steps in ascending order",
                     n, n - 1);
            return NULL;
        }
    fb_schedule init = {.kind = &fbi_sequence, .n_at = n - 1};
    init.at = malloc((size_t)n * sizeof *init.at);
    if (!init.at) {
        fbi_fail(ctx, FB_E_NOMEM, "schedule: no memory");
        return NULL;
    }
    if (n > 1)
        memcpy(init.at, at, (size_t)(n - 1) * sizeof *init.at);
    fb_schedule *s = join(of, n, init);
    if (!s)
        return NULL;
    s->opt->lr = s->opt->scheduled_lr = s->base;
    for (int i = 1; i < n; i++)
        of[i]->step = -1;
    fb_status st = fbi_joined_restart(s);
    return st ? NULL : s;
}

fb_schedule *fb_schedule_chain(fb_schedule *const *of, int n)
{
    fb_context *ctx = of && n >= 1 && of[0] ? of[0]->ctx : NULL;
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx) || !fit(ctx, "chain", of, n))
        return NULL;
    return join(of, n, (fb_schedule){.kind = &fbi_chain});
}

/* --- for checkpoints --- */

/* Those of s itself; returns how many. */
static int own_scalars(fb_schedule *s, fbi_scalar out[FBI_SCHEDULE_SCALARS])
{
    int n = 0;
    out[n++] = (fbi_scalar){.name = "step", .i = &s->step};
    out[n++] = (fbi_scalar){.name = "base_lr", .f = &s->base};
    if (s->kind->keeps_last)
        out[n++] = (fbi_scalar){.name = "last_lr", .f = &s->last};
    if (s->kind == &fbi_plateau) {
        out[n++] = (fbi_scalar){.name = "best", .f = &s->best};
        out[n++] = (fbi_scalar){.name = "bad", .i = &s->bad};
        out[n++] = (fbi_scalar){.name = "cooldown", .i = &s->cooldown};
    }
    return n;
}

/* Names of scalars of schedules within s begin with their numbers. */
int fbi_schedule_scalars(fb_schedule *s, fbi_scalar *out, int n)
{
    fbi_scalar own[FBI_SCHEDULE_SCALARS];
    int at = own_scalars(s, own);
    for (int i = 0; i < at && i < n; i++)
        out[i] = own[i];
    for (int k = 0; k < s->n_of; k++) {
        int more = fbi_schedule_scalars(s->of[k], NULL, 0);
        if (at + more <= n) {
            fb_schedule *of = s->of[k];
            fbi_schedule_scalars(of, out + at, more);
            char(*names)[FBI_SCALAR_NAME] = realloc(of->names, (size_t)more * sizeof *names);
            of->names = names ? names : of->names;
            for (int i = 0; i < more && names; i++) {
                char copy[FBI_SCALAR_NAME];
                snprintf(copy, sizeof copy, "%d.%s", k, out[at + i].name);
                memcpy(names[i], copy, sizeof copy);
                out[at + i].name = names[i];
            }
        }
        at += more;
    }
    return at;
}
