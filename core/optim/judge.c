/* A step on a device: gradients are measured, judged and used there, one launch after the other.
 * The host waits for none of it; it learns later whether the step was applied. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "core/optim/optimizer_priv.h"
#include "core/tensor/device_priv.h"

/* --- where things lie on the board --- */

static fbi_verdict *verdict_of(const fbi_plan *plan)
{
    return plan->board->data;
}

static fbi_part *parts_of(const fbi_plan *plan)
{
    return (fbi_part *)(void *)(verdict_of(plan) + 1);
}

static fbi_factors *factors_of(const fbi_plan *plan)
{
    return (fbi_factors *)(void *)(parts_of(plan) + plan->n_parts);
}

static fbi_chunk *chunks_of(const fbi_plan *plan)
{
    return (fbi_chunk *)(void *)(factors_of(plan) + plan->n_rows);
}

static const fbi_stretch *spans_of(const fbi_plan *plan)
{
    const char *table = plan->table->data;
    return (const fbi_stretch *)(const void *)(table +
                                               (size_t)plan->n_parts * sizeof(fbi_part_key));
}

static const fbi_row *rows_of(const fbi_plan *plan)
{
    return (const fbi_row *)(const void *)(spans_of(plan) + plan->n_spans);
}

/* --- asking --- */

static fb_status measure(fb_optimizer *opt, const fbi_plan *plan)
{
    fb_context *ctx = opt->ctx;
    fb_status st = FB_OK;
    for (int64_t i = 0; i < plan->n_looks && !st; i++) {
        const fbi_plan_look *l = &plan->looks[i];
        st = ctx->backend->measure(ctx, &(fbi_look){.dtype = l->dtype,
                                                    .data = l->block->data,
                                                    .spans = spans_of(plan),
                                                    .n_spans = plan->n_spans,
                                                    .chunk = l->chunk,
                                                    .chunks = l->chunks,
                                                    .norm = l->norm,
                                                    .out = chunks_of(plan)});
    }
    for (int k = 0; k < plan->n_parts && !st; k++) {
        const fbi_plan_part *p = &plan->parts[k];
        st = ctx->backend->ask(ctx, &(fbi_ask){.of = chunks_of(plan),
                                               .chunk = p->chunk,
                                               .n = p->chunks,
                                               .spans = spans_of(plan),
                                               .n_spans = plan->n_spans,
                                               .count = p->c.count,
                                               .scale = p->c.scale,
                                               .loss_scale = plan->loss_scale,
                                               .finite = p->reducer || plan->loss_scale,
                                               .part = parts_of(plan) + k});
    }
    return st;
}

static fb_status judge(fb_optimizer *opt, const fbi_plan *plan, bool apply, double norm2)
{
    fb_context *ctx = opt->ctx;
    fbi_judgement j = {.parts = parts_of(plan),
                       .n_parts = plan->n_parts,
                       .norm2 = norm2,
                       .max_norm = opt->max_norm,
                       .apply = apply,
                       .loss_scale = plan->loss_scale,
                       .verdict = verdict_of(plan),
                       .rows = rows_of(plan),
                       .n_rows = plan->n_rows,
                       .steps = plan->steps->data,
                       .factors = factors_of(plan),
                       .method = fbi_numbers_now(opt)};
    fb_status st = ctx->backend->judge(ctx, &j);
    for (int k = 0; k < plan->n_parts && !st; k++) {
        const fbi_reducer *r = plan->parts[k].reducer;
        if (plan->parts[k].key.look && r)
            st = r->judged(r->self, &parts_of(plan)[k].fine);
    }
    return st;
}

static fb_status sweep(fb_optimizer *opt, const fbi_plan *plan)
{
    fb_context *ctx = opt->ctx;
    fb_status st = FB_OK;
    for (int64_t i = 0; i < plan->n_runs && !st; i++) {
        const fbi_plan_run *run = &plan->runs[i];
        if (run->like->composed)
            continue;
        const fb_tensor *t = run->like->t, *master = run->like->state[FBI_MASTER];
        fbi_sweep s = {.method = fbi_numbers_now(opt),
                       .dtype = (fb_dtype)t->dtype,
                       .rows = rows_of(plan) + run->row,
                       .factors = factors_of(plan) + run->row,
                       .n_rows = run->n,
                       .chunks = run->chunks,
                       .verdict = verdict_of(plan),
                       .p = master ? master->storage->data : t->storage->data,
                       .half = master ? t->storage->data : NULL,
                       .g = t->leaf->grad->storage->data};
        for (int k = 0; k < FBI_MAX_STATES; k++)
            s.s[k] = run->like->state[k] ? run->like->state[k]->storage->data : NULL;
        st = ctx->backend->sweep(ctx, &s);
    }
    for (int64_t i = 0; i < plan->n_rows; i++)
        fbi_bump(opt->entries[plan->rows[i].entry]->t);
    return st;
}

/* --- learning --- */

static void learn_part(fb_optimizer *opt, const fbi_part_key *key, const fbi_part *part,
                       const fb_batch_info *at)
{
    const fbi_reducer *r = key->of ? fbi_reducer_of(key->of) : NULL;
    if (!(part->count >= 0 && part->count <= DBL_MAX))
        fbi_fail(opt->ctx, FB_E_ARG,
                 "fb_optim_step: a count given to fb_backward was negative or not finite; the step "
                 "was not applied");
    if (!part->fine && r && r->learned)
        r->learned(r->self, at, part->bad < 0 ? NULL : opt->plan.sent_names[part->bad]);
}

static void learn(fb_optimizer *opt, const fbi_pending *p)
{
    const fbi_part *parts = (const fbi_part *)(const void *)(p->found + 1);
    const fbi_part_key *keys = (const fbi_part_key *)(const void *)opt->plan.sent;
    const fb_batch_info *at = p->in_step ? &p->at : NULL;
    bool fine = p->apply;
    for (int k = 0; k < opt->plan.sent_parts; k++) {
        learn_part(opt, &keys[k], &parts[k], at);
        fine &= parts[k].fine && parts[k].count > 0;
    }
    if (p->clip)
        opt->grad_norm = sqrt(p->found->norm2);
    if (p->clip && fine && !isfinite(opt->grad_norm))
        fbi_skipped(at, ++opt->skipped, "the norm of the gradients is %g", opt->grad_norm);
    opt->steps += p->found->apply;
}

static void take_oldest(fb_optimizer *opt, fb_status st)
{
    fbi_plan *plan = &opt->plan;
    if (!st && !opt->ctx->status)
        learn(opt, &plan->pending[plan->first]);
    plan->first = (plan->first + 1) % FBI_VERDICTS;
    plan->n_pending--;
}

/* What is there already. */
static fb_status look_back(fb_optimizer *opt)
{
    fbi_plan *plan = &opt->plan;
    while (plan->n_pending &&
           opt->ctx->backend->event_done(opt->ctx, plan->pending[plan->first].event))
        take_oldest(opt, FB_OK);
    return opt->ctx->status;
}

/* All but the newest `most`. */
static fb_status wait_for(fb_optimizer *opt, int most)
{
    fbi_plan *plan = &opt->plan;
    while (plan->n_pending > most)
        take_oldest(opt, opt->ctx->backend->wait(opt->ctx, FBI_WAIT_VERDICT,
                                                 plan->pending[plan->first].event));
    return opt->ctx->status;
}

fb_status fbi_optim_settle(fb_optimizer *opt)
{
    return wait_for(opt, 0);
}

/* The verdict is on its way to the host; whoever is FBI_VERDICTS steps ahead waits. */
static fb_status note(fb_optimizer *opt, fbi_plan *plan, bool apply)
{
    fb_context *ctx = opt->ctx;
    /* Nothing on the device can be against it, and nobody here asks. */
    bool sure = opt->max_norm <= 0 && !opt->method->composed;
    for (int k = 0; k < plan->n_parts; k++)
        sure &= !plan->parts[k].key.look && !plan->parts[k].c.count;
    if (sure) {
        opt->steps += apply;
        return FB_OK;
    }
    fb_status st = wait_for(opt, FBI_VERDICTS - 1);
    size_t bytes = sizeof(fbi_verdict) + (size_t)plan->n_parts * sizeof(fbi_part);
    int slot = (plan->first + plan->n_pending) % FBI_VERDICTS;
    fbi_pending *p = &plan->pending[slot];
    *p = (fbi_pending){.found = (fbi_verdict *)(void *)(plan->pinned + (size_t)slot * bytes),
                       .apply = apply,
                       .clip = opt->max_norm > 0,
                       .in_step = ctx->in_step,
                       .at = ctx->batch};
    if (!st)
        st = ctx->backend->copy_on(ctx, FBI_QUEUE_COMPUTE, p->found, plan->board->data, bytes);
    p->event = st ? NULL : ctx->backend->event_record_on(ctx, FBI_QUEUE_COMPUTE);
    plan->n_pending += p->event != NULL;
    return st ? st : ctx->status;
}

/* What is made of operators, once the verdict is known. */
static fb_status compose_all(fb_optimizer *opt, const fbi_plan *plan)
{
    fb_status st = fbi_judge_fetch(opt);
    int last = (plan->first + FBI_VERDICTS - 1) % FBI_VERDICTS;
    const fbi_verdict *v = plan->pending[last].found;
    const fbi_part *parts = (const fbi_part *)(const void *)(v + 1);
    for (int64_t i = 0; i < plan->n_rows && !st && v->apply; i++) {
        fbi_entry *e = opt->entries[plan->rows[i].entry];
        e->scale = parts[plan->rows[i].part].scale * v->factor;
        if (e->composed)
            st = fbi_compose(opt, e);
    }
    return st;
}

fb_status fbi_judge_step(fb_optimizer *opt)
{
    fbi_plan *plan = &opt->plan;
    bool apply = true;
    double norm2 = 0;
    fb_status st = look_back(opt);
    if (!st)
        st = fbi_plan_make(opt, plan, &apply, &norm2);
    if (!st)
        st = fbi_plan_send(opt, plan);
    if (!st)
        st = measure(opt, plan);
    if (!st)
        st = judge(opt, plan, apply, norm2);
    if (!st)
        st = sweep(opt, plan);
    if (!st)
        st = note(opt, plan, apply);
    return st || !opt->method->composed ? st : compose_all(opt, plan);
}

fb_status fbi_judge_fetch(fb_optimizer *opt)
{
    fbi_plan *plan = &opt->plan;
    fb_status st = fbi_optim_settle(opt);
    if (!plan->steps)
        return st;
    size_t bytes = (size_t)plan->n_steps * sizeof(int64_t);
    int64_t *steps = malloc(bytes + 1);
    if (!st && !steps)
        st = fbi_fail(opt->ctx, FB_E_NOMEM, "optimizer: no memory for numbers of steps");
    if (!st)
        st = opt->ctx->backend->copy_out(opt->ctx, steps, plan->steps->data, bytes);
    for (int64_t i = 0; i < plan->n_steps && !st; i++)
        opt->entries[i]->step = steps[i];
    free(steps);
    fbi_storage_unref(opt->ctx, plan->steps);
    plan->steps = NULL;
    return st;
}
