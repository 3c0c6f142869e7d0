/* Sequences: moved in time, windows of them, tokens masked. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/transform_priv.h"

static size_t row_bytes(const fb_value *value)
{
    return fbi_value_bytes(value) / (size_t)value->shape.d[0];
}

static fb_status check_rows(const fbi_field *field, char *text, size_t size)
{
    if (field->shape.n)
        return FB_OK;
    snprintf(text, size, "rows, [time] or [time, ...], are needed");
    return FB_E_SHAPE;
}

/* --- time shift --- */

typedef struct shift {
    fb_transform base;
    double most;
    fb_time_shift_options o;
} shift;

static fb_status shift_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                             char *text, size_t size)
{
    (void)t;
    (void)step;
    return check_rows(&fields->f[f], text, size);
}

static fb_status shift_run(const fb_transform *t, fbi_call *call)
{
    const shift *s = (const shift *)t;
    const fb_value *in = call->in[0];
    int64_t rows = fbi_value_rows(in);
    int64_t most = (int64_t)(s->most * (double)rows);
    int64_t by = fb_rng_int(call->rng, -most, most + 1);
    size_t row = row_bytes(in), ahead = (size_t)(by < 0 ? -by : by) * row;
    size_t all = (size_t)rows * row, stays = all - ahead;
    const char *from = in->data;
    char *to = call->out[0]->data;
    memset(to, 0, fbi_value_bytes(in));
    memcpy(by < 0 ? to : to + ahead, by < 0 ? from + ahead : from, stays);
    if (s->o.rolls)
        memcpy(by < 0 ? to + stays : to, by < 0 ? from : from + stays, ahead);
    return FB_OK;
}

static const fbi_transform_kind shift_kind = {
    .name = "time_shift", .infer = shift_infer, .run = shift_run};

fb_transform *fb_transform_time_shift(fb_context *ctx, double most,
                                      const fb_time_shift_options *opts)
{
    FBI_ENTRY(ctx);
    if (!(most >= 0 && most <= 1))
        return fbi_transform_refuse(ctx, &shift_kind, "%g of the length: 0 to 1 is needed", most);
    shift *s = fbi_transform_new(ctx, &shift_kind, sizeof *s);
    if (!s)
        return NULL;
    s->most = most;
    if (opts)
        s->o = *opts;
    FBI_NOTE(&s->base, most, s->o.rolls);
    return &s->base;
}

/* --- window --- */

typedef struct window {
    fb_transform base;
    int64_t rows;
} window;

static fb_status window_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                              char *text, size_t size)
{
    fbi_field *field = &fields->f[f];
    (void)step;
    fb_status st = check_rows(field, text, size);
    if (st)
        return st;
    field->shape.d[0] = ((const window *)t)->rows;
    field->varies = false;
    return FB_OK;
}

static fb_status window_run(const fb_transform *t, fbi_call *call)
{
    const fb_value *in = call->in[0];
    fb_value *out = call->out[0];
    int64_t wanted = ((const window *)t)->rows, has = fbi_value_rows(in);
    int64_t n = has < wanted ? has : wanted, first = fb_rng_int(call->rng, 0, has - n + 1);
    size_t row = row_bytes(in);
    memcpy(out->data, (const char *)in->data + (size_t)first * row, (size_t)n * row);
    memset((char *)out->data + (size_t)n * row, 0, (size_t)(wanted - n) * row);
    return FB_OK;
}

static const fbi_transform_kind window_kind = {
    .name = "random_window", .infer = window_infer, .run = window_run};

fb_transform *fb_transform_random_window(fb_context *ctx, int64_t rows)
{
    FBI_ENTRY(ctx);
    if (rows < 1)
        return fbi_transform_refuse(ctx, &window_kind, "%lld rows: at least 1 is needed",
                                    (long long)rows);
    window *w = fbi_transform_new(ctx, &window_kind, sizeof *w);
    if (!w)
        return NULL;
    w->rows = rows;
    FBI_NOTE(&w->base, (double)rows);
    return &w->base;
}

/* --- masked tokens --- */

typedef struct tokens {
    fb_transform base;
    int64_t mask, vocabulary;
    fb_mask_tokens_options o;
    int64_t *keep;
    char labels[FBI_NAME_BYTES];
} tokens;

enum { TOKENS, LABELS };

static fb_status tokens_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                              char *text, size_t size)
{
    const tokens *m = (const tokens *)t;
    int labels = fbi_fields_find(fields, m->labels);
    if (!fbi_is_whole(fields->f[f].dtype) || labels == f) {
        snprintf(text, size, "tokens, of an integer dtype, and labels in another field are needed");
        return FB_E_DTYPE;
    }
    labels = labels < 0 ? fbi_fields_add(fields, m->labels) : labels;
    if (labels < 0) {
        snprintf(text, size, "more than %d fields", FB_MAX_FIELDS);
        return FB_E_ARG;
    }
    fbi_field *field = &fields->f[f], *other = &fields->f[labels];
    field->dtype = other->dtype = FB_I64;
    field->scale = field->shift = other->scale = other->shift = 0;
    other->shape = field->shape;
    other->varies = field->varies;
    step->n = 2;
    step->in[LABELS] = f;
    step->out[LABELS] = labels;
    return FB_OK;
}

static bool is_kept(const tokens *m, int64_t token)
{
    for (int i = 0; i < m->o.n_keep; i++)
        if (m->keep[i] == token)
            return true;
    return false;
}

/* What a token that was chosen becomes. */
static int64_t hidden(const tokens *m, int64_t token, fb_rng *rng)
{
    double x = fb_rng_uniform(rng, 0, 1);
    if (x < m->o.masked)
        return m->mask;
    return x < m->o.masked + m->o.random ? fb_rng_int(rng, 0, m->vocabulary) : token;
}

static fb_status tokens_run(const fb_transform *t, fbi_call *call)
{
    const tokens *m = (const tokens *)t;
    const fb_value *in = call->in[TOKENS];
    int64_t *out = call->out[TOKENS]->data, *labels = call->out[LABELS]->data;
    int64_t n = fb_shape_numel(in->shape), has = n;
    if (in->varies)
        has = n / in->shape.d[0] * in->rows;
    for (int64_t i = 0; i < n; i++) {
        int64_t token = fbi_value_whole(in, i);
        bool chosen = i < has && fb_rng_uniform(call->rng, 0, 1) < m->o.p && !is_kept(m, token);
        labels[i] = chosen ? token : m->o.ignore;
        out[i] = chosen ? hidden(m, token, call->rng) : token;
    }
    return FB_OK;
}

static void tokens_free(fb_transform *t)
{
    free(((tokens *)t)->keep);
}

static const fbi_transform_kind tokens_kind = {.name = "mask_tokens",
                                               .names = true,
                                               .infer = tokens_infer,
                                               .run = tokens_run,
                                               .free = tokens_free};

fb_transform *fb_transform_mask_tokens(fb_context *ctx, int64_t mask, int64_t vocabulary,
                                       const fb_mask_tokens_options *opts)
{
    FBI_ENTRY(ctx);
    fb_mask_tokens_options o = opts ? *opts : (fb_mask_tokens_options){0};
    o.p = o.p == 0 ? 0.15 : o.p;
    o.masked = o.masked == 0 ? 0.8 : o.masked;
    o.random = o.random == 0 ? 0.1 : o.random;
    o.ignore = o.ignore ? o.ignore : -100;
    o.labels = o.labels ? o.labels : "target";
    if (vocabulary < 1 || mask < 0)
        return fbi_transform_refuse(ctx, &tokens_kind, "mask %lld, vocabulary %lld",
                                    (long long)mask, (long long)vocabulary);
    if (!(o.p > 0 && o.p <= 1 && o.masked > 0 && o.random > 0 && o.masked + o.random <= 1 + 1e-12))
        return fbi_transform_refuse(ctx, &tokens_kind,
                                    "p %g, masked %g and random %g must be in 0 .. 1, the last "
                                    "two together as well",
                                    o.p, o.masked, o.random);
    if (o.n_keep < 0 || (o.n_keep && !o.keep) || !*o.labels || strlen(o.labels) >= FBI_NAME_BYTES)
        return fbi_transform_refuse(ctx, &tokens_kind, "%d tokens to keep, labels \"%s\"", o.n_keep,
                                    o.labels);
    tokens *m = fbi_transform_new(ctx, &tokens_kind, sizeof *m);
    if (!m)
        return NULL;
    m->mask = mask;
    m->vocabulary = vocabulary;
    m->o = o;
    snprintf(m->labels, sizeof m->labels, "%s", o.labels);
    m->keep = malloc((size_t)o.n_keep * sizeof *m->keep + 1);
    if (!m->keep) {
        fbi_fail(ctx, FB_E_NOMEM, "transform mask_tokens: no memory for %d tokens", o.n_keep);
        fb_transform_close(&m->base);
        return NULL;
    }
    fbi_transform_note_text(&m->base, m->labels);
    FBI_NOTE(&m->base, (double)mask, (double)vocabulary, o.p, o.masked, o.random, (double)o.ignore);
    for (int i = 0; i < o.n_keep; i++) {
        m->keep[i] = o.keep[i];
        FBI_NOTE(&m->base, (double)o.keep[i]);
    }
    return &m->base;
}
