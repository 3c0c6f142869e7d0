/* The tables of a step on a device: parts, spans to be measured, rows to be updated. They are made
 * anew for every step, and sent when they have changed. */
#include <stdlib.h>
#include <string.h>

#include "core/optim/optimizer_priv.h"
#include "core/tensor/device_priv.h"

static fb_status no_memory(const fb_optimizer *opt)
{
    return fbi_fail(opt->ctx, FB_E_NOMEM, "fb_optim_step: no memory for the tables of a step");
}

static int64_t chunks_of(int64_t n)
{
    return (n + FBI_CHUNK - 1) / FBI_CHUNK;
}

/* --- parts --- */

static fbi_plan_part *add_part(fb_optimizer *opt, fbi_plan *plan, fbi_part_key key)
{
    fbi_plan_part *parts = realloc(plan->parts, (size_t)(plan->n_parts + 1) * sizeof *plan->parts);
    if (!parts) {
        no_memory(opt);
        return NULL;
    }
    plan->parts = parts;
    fbi_plan_part *part = &parts[plan->n_parts++];
    *part = (fbi_plan_part){.key = key, .c = {.scale = 1, .apply = true}};
    part->c.count = key.tally ? key.tally->sum->data : NULL;
    return part;
}

/* Ask the reducer of every root once. One that leaves nothing to look at has decided by itself. */
static fb_status commit_all(fb_optimizer *opt, fbi_plan *plan, bool *apply, double *norm2)
{
    fb_status st = FB_OK;
    for (int s = 0; s < opt->n_sources && !st; s++) {
        fbi_reducer *r = fbi_optim_reducer(opt, s);
        fbi_part_key key = {.of = opt->sources[s].m};
        fbi_plan_part *part = r ? add_part(opt, plan, key) : NULL;
        if (!r)
            continue;
        if (!part)
            return opt->ctx->status;
        part->reducer = r;
        part->c.want_norm = opt->max_norm > 0;
        st = r->commit(r->self, &part->c);
        part->key.look = part->c.views != NULL;
        *apply &= part->c.apply;
        *norm2 += part->c.norm2 * part->c.scale * part->c.scale;
    }
    return st;
}

static int64_t part_of(fb_optimizer *opt, fbi_plan *plan, const fbi_entry *e)
{
    const fbi_reducer *r = e->of ? fbi_reducer_of(e->of) : NULL;
    const fbi_tally *tally = NULL;
    if (!r && fbi_entry_tally(e, &tally))
        return -1;
    for (int k = 0; k < plan->n_parts; k++)
        if (plan->parts[k].reducer == r && plan->parts[k].key.tally == tally)
            return k;
    fbi_part_key key = {.tally = tally, .look = opt->max_norm > 0 || plan->loss_scale};
    return add_part(opt, plan, key) ? plan->n_parts - 1 : -1;
}

/* --- spans --- */

static bool grow_spans(fbi_plan *plan, int64_t n)
{
    if (n <= plan->cap_spans)
        return true;
    fbi_stretch *spans = realloc(plan->spans, (size_t)n * sizeof *spans);
    plan->spans = spans ? spans : plan->spans;
    const char **names = realloc((void *)plan->names, (size_t)n * sizeof *names);
    plan->names = names ? names : plan->names;
    fbi_plan_look *looks = realloc(plan->looks, (size_t)n * sizeof *looks);
    plan->looks = looks ? looks : plan->looks;
    if (!spans || !names || !looks)
        return false;
    plan->cap_spans = n;
    return true;
}

static void add_span(fbi_plan *plan, fbi_plan_part *part, const fbi_named_view *v, bool norm)
{
    fbi_plan_look *last = plan->n_looks ? &plan->looks[plan->n_looks - 1] : NULL;
    int64_t chunks = chunks_of(v->n);
    plan->names[plan->n_spans] = v->name;
    plan->spans[plan->n_spans++] = (fbi_stretch){v->begin, v->n, plan->chunks};
    if (last && last->block == v->block && last->dtype == v->dtype && last->norm == norm)
        last->chunks += chunks;
    else
        plan->looks[plan->n_looks++] = (fbi_plan_look){.block = v->block,
                                                       .dtype = v->dtype,
                                                       .norm = norm,
                                                       .chunk = plan->chunks,
                                                       .chunks = chunks};
    plan->chunks += chunks;
    part->chunks += chunks;
}

static bool look_at(const fb_optimizer *opt, fbi_plan *plan, int k)
{
    fbi_plan_part *part = &plan->parts[k];
    const fbi_commit *c = &part->c;
    part->chunk = plan->chunks;
    if (!part->key.look)
        return true;
    if (!grow_spans(plan, plan->n_spans + c->n_views + plan->n_rows + 1))
        return false;
    for (int64_t i = 0; i < c->n_views; i++)
        add_span(plan, part, &c->views[i], true);
    if (c->also.n)
        add_span(plan, part, &c->also, false);
    for (int64_t i = 0; i < plan->n_rows && !part->reducer; i++) {
        const fbi_entry *e = opt->entries[plan->rows[i].entry];
        const fb_tensor *g = e->t->leaf->grad;
        fbi_named_view v = {e->name, g->storage, (fb_dtype)g->dtype, g->offset, g->numel};
        if (plan->rows[i].part == k)
            add_span(plan, part, &v, true);
    }
    return true;
}

/* --- rows --- */

static bool grow_rows(fbi_plan *plan, int64_t n)
{
    if (n <= plan->cap_rows)
        return true;
    fbi_row *rows = realloc(plan->rows, (size_t)n * sizeof *rows);
    plan->rows = rows ? rows : plan->rows;
    fbi_plan_run *runs = realloc(plan->runs, (size_t)n * sizeof *runs);
    plan->runs = runs ? runs : plan->runs;
    if (!rows || !runs)
        return false;
    plan->cap_rows = n;
    return true;
}

static bool same_blocks(const fbi_entry *a, const fbi_entry *b)
{
    bool same = a->composed == b->composed && a->t->storage == b->t->storage &&
                a->t->dtype == b->t->dtype &&
                a->t->leaf->grad->storage == b->t->leaf->grad->storage;
    for (int k = 0; k < FBI_STATES && same; k++)
        same = a->state[k] && b->state[k] ? a->state[k]->storage == b->state[k]->storage
                                          : !a->state[k] && !b->state[k];
    return same;
}

static void add_row(fbi_plan *plan, const fbi_entry *e, int64_t entry, int64_t part)
{
    fbi_plan_run *run = plan->n_runs ? &plan->runs[plan->n_runs - 1] : NULL;
    if (!run || !same_blocks(run->like, e)) {
        run = &plan->runs[plan->n_runs++];
        *run = (fbi_plan_run){.like = e, .row = plan->n_rows};
    }
    fbi_row *row = &plan->rows[plan->n_rows++];
    const fb_tensor *master = e->state[FBI_MASTER];
    *row = (fbi_row){.p = master ? master->offset : e->t->offset,
                     .half = e->t->offset,
                     .g = e->t->leaf->grad->offset,
                     .n = e->t->numel,
                     .chunk = run->chunks,
                     .part = part,
                     .entry = entry,
                     .lr_scale = e->lr_scale,
                     .weight_decay = e->weight_decay};
    for (int k = 0; k < FBI_MAX_STATES && e->state[k]; k++)
        row->s[k] = e->state[k]->offset;
    run->n++;
    run->chunks += chunks_of(row->n);
}

fb_status fbi_plan_make(fb_optimizer *opt, fbi_plan *plan, bool *apply, double *norm2)
{
    plan->n_parts = 0;
    plan->n_spans = plan->n_looks = plan->chunks = plan->n_rows = plan->n_runs = 0;
    plan->loss_scale = fbi_scaler_on_device(opt->ctx);
    if (opt->ctx->status)
        return opt->ctx->status;
    if (!grow_rows(plan, opt->n_entries + 1))
        return no_memory(opt);
    fb_status st = commit_all(opt, plan, apply, norm2);
    if (!st)
        st = fbi_optim_ready(opt);
    for (int64_t i = 0; i < opt->n_entries && !st; i++) {
        const fbi_entry *e = opt->entries[i];
        if (!fbi_entry_live(e))
            continue;
        int64_t part = part_of(opt, plan, e);
        if (part < 0)
            return opt->ctx->status;
        add_row(plan, e, i, part);
    }
    for (int k = 0; k < plan->n_parts && !st; k++)
        if (!look_at(opt, plan, k))
            st = no_memory(opt);
    return st;
}

/* --- sending --- */

static void forget_names(fbi_plan *plan)
{
    for (int64_t i = 0; i < plan->sent_spans && plan->sent_names; i++)
        free(plan->sent_names[i]);
    free(plan->sent_names);
    plan->sent_names = NULL;
    plan->sent_spans = 0;
}

static bool keep_names(fbi_plan *plan)
{
    forget_names(plan);
    plan->sent_names = calloc((size_t)plan->n_spans + 1, sizeof *plan->sent_names);
    if (!plan->sent_names)
        return false;
    plan->sent_spans = plan->n_spans;
    for (int64_t i = 0; i < plan->n_spans; i++) {
        plan->sent_names[i] = plan->names[i] ? strdup(plan->names[i]) : NULL;
        if (plan->names[i] && !plan->sent_names[i])
            return false;
    }
    return true;
}

/* Keys of the parts, spans, rows; NULL: no memory. */
static char *written(const fbi_plan *plan, size_t *bytes)
{
    size_t keys = (size_t)plan->n_parts * sizeof(fbi_part_key);
    size_t spans = (size_t)plan->n_spans * sizeof(fbi_stretch);
    size_t rows = (size_t)plan->n_rows * sizeof(fbi_row);
    char *text = malloc(keys + spans + rows + 1);
    *bytes = keys + spans + rows;
    for (int k = 0; k < plan->n_parts && text; k++)
        memcpy(text + (size_t)k * sizeof(fbi_part_key), &plan->parts[k].key, sizeof(fbi_part_key));
    if (text && spans)
        memcpy(text + keys, plan->spans, spans);
    if (text && rows)
        memcpy(text + keys + spans, plan->rows, rows);
    return text;
}

static bool is_known(const fbi_plan *plan, const char *text, size_t bytes)
{
    return plan->sent && plan->sent_parts == plan->n_parts && plan->sent_spans == plan->n_spans &&
           plan->sent_bytes == bytes && memcmp(plan->sent, text, bytes) == 0;
}

static fb_status make_room(fb_optimizer *opt, fbi_plan *plan, size_t bytes)
{
    fb_context *ctx = opt->ctx;
    size_t board = sizeof(fbi_verdict) + (size_t)plan->n_parts * sizeof(fbi_part) +
                   (size_t)plan->n_rows * sizeof(fbi_factors) +
                   (size_t)plan->chunks * sizeof(fbi_chunk);
    fbi_storage_unref(ctx, plan->table);
    fbi_storage_unref(ctx, plan->board);
    plan->table = fbi_storage_new(ctx, bytes ? bytes : 1);
    plan->board = plan->table ? fbi_storage_new(ctx, board) : NULL;
    if (!plan->board)
        return ctx->status;
    if (plan->n_parts <= plan->room)
        return FB_OK;
    size_t each = sizeof(fbi_verdict) + (size_t)plan->n_parts * sizeof(fbi_part);
    if (plan->pinned)
        ctx->backend->host_free(ctx, plan->pinned);
    plan->pinned = ctx->backend->host_alloc(ctx, FBI_VERDICTS * each);
    plan->room = plan->pinned ? plan->n_parts : 0;
    return plan->pinned ? FB_OK : ctx->status;
}

static fb_status send_tables(fb_optimizer *opt, fbi_plan *plan)
{
    size_t bytes;
    char *text = written(plan, &bytes);
    if (!text)
        return no_memory(opt);
    if (is_known(plan, text, bytes)) {
        free(text);
        return FB_OK;
    }
    fb_status st = fbi_optim_settle(opt); /* what is on its way is about the old tables */
    free(plan->sent);
    plan->sent = text;
    plan->sent_bytes = bytes;
    plan->sent_parts = plan->n_parts;
    if (!st && !keep_names(plan))
        st = no_memory(opt);
    if (!st)
        st = make_room(opt, plan, bytes);
    if (!st)
        st = opt->ctx->backend->copy_in(opt->ctx, plan->table->data, text, bytes);
    if (!st)
        return FB_OK;
    free(plan->sent);
    plan->sent = NULL;
    return st;
}

static fb_status send_steps(fb_optimizer *opt, fbi_plan *plan)
{
    if (plan->steps && plan->n_steps == opt->n_entries)
        return FB_OK;
    fb_status st = fbi_judge_fetch(opt);
    size_t bytes = (size_t)opt->n_entries * sizeof(int64_t);
    int64_t *steps = malloc(bytes + 1);
    if (!st && !steps)
        st = no_memory(opt);
    for (int64_t i = 0; i < opt->n_entries && !st; i++)
        steps[i] = opt->entries[i]->step;
    fbi_storage *s = st ? NULL : fbi_storage_new(opt->ctx, bytes ? bytes : 1);
    if (s)
        st = opt->ctx->backend->copy_in(opt->ctx, s->data, steps, bytes);
    free(steps);
    plan->steps = s;
    plan->n_steps = opt->n_entries;
    return s ? st : opt->ctx->status;
}

fb_status fbi_plan_send(fb_optimizer *opt, fbi_plan *plan)
{
    fb_status st = send_tables(opt, plan);
    return st ? st : send_steps(opt, plan);
}

void fbi_plan_free(fb_optimizer *opt, fbi_plan *plan)
{
    fb_context *ctx = opt->ctx;
    fbi_optim_settle(opt);
    fbi_storage_unref(ctx, plan->table);
    fbi_storage_unref(ctx, plan->board);
    fbi_storage_unref(ctx, plan->steps);
    if (plan->pinned)
        ctx->backend->host_free(ctx, plan->pinned);
    forget_names(plan);
    free(plan->sent);
    free(plan->parts);
    free(plan->spans);
    free((void *)plan->names);
    free(plan->looks);
    free(plan->rows);
    free(plan->runs);
}
