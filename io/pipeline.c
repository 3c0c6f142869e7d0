/* A loader's list of transforms: what becomes of each field, and one sample's way through it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "core/base/philox_priv.h"
#include "io/transform_priv.h"

enum { MAX_STEPS = 128 };

struct fbi_pipeline {
    fb_dataset *ds;
    fbi_fields before, after;
    int n_steps;
    fbi_step steps[MAX_STEPS];
    bool changes[FB_MAX_FIELDS]; /* some step writes the field */
    size_t room[FB_MAX_FIELDS];  /* bytes of the field where it is largest */
    size_t scratch;              /* that some step needs */
    bool pairs;
    size_t buffers[2][FB_MAX_FIELDS][2], step_scratch[2], all_scratch; /* of a thread */
    uint64_t hash;
    int n_used;
    fb_transform *used[MAX_STEPS];
};

/* --- opening --- */

/* The dataset's fields with all rows that are stored. */
static void fields_of(const fb_dataset *ds, fbi_fields *fields)
{
    *fields = (fbi_fields){.n = ds->n_fields};
    for (int f = 0; f < ds->n_fields; f++) {
        const fb_dataset_field *from = &ds->fields[f];
        fbi_field *to = &fields->f[f];
        fb_shape sample = fbi_dataset_deliver_shape(from);
        snprintf(to->name, sizeof to->name, "%s", ds->names[f]);
        to->dtype = from->dtype;
        to->varies = from->varies;
        to->scale = from->scale;
        to->shift = from->shift;
        if (from->varies)
            to->shape.d[to->shape.n++] = from->longest > 0 ? from->longest : 1;
        memcpy(to->shape.d + to->shape.n, sample.d, (size_t)sample.n * sizeof sample.d[0]);
        to->shape.n += sample.n;
    }
}

static const char *shape_text(const fbi_field *field, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "%s [", fb_dtype_name(field->dtype));
    for (int i = 0; i < field->shape.n && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%lld", i ? ", " : "",
                              (long long)field->shape.d[i]);
    if (n < size)
        snprintf(out + n, size - n, "]%s", field->varies ? ", varying" : "");
    return out;
}

static fb_status no_field(fb_context *ctx, const fbi_fields *fields, const fb_transform *t,
                          const char *name)
{
    char names[256] = "";
    for (int f = 0; f < fields->n; f++)
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", f ? ", " : "",
                 fields->f[f].name);
    return fbi_fail(ctx, FB_E_NOT_FOUND, "loader: transform %s: there is no field \"%s\", but %s",
                    t->name, name, names);
}

/* Every sample of the field has a size in bytes, and some elements. */
static bool has_size(const fbi_field *field)
{
    size_t bytes = fb_dtype_size(field->dtype);
    for (int i = 0; i < field->shape.n; i++)
        if (field->shape.d[i] < 1 ||
            __builtin_mul_overflow(bytes, (size_t)field->shape.d[i], &bytes))
            return false;
    return bytes <= PTRDIFF_MAX;
}

static void note_room(fbi_pipeline *p, int f, const fbi_field *field)
{
    size_t bytes = fbi_field_bytes(field);
    p->room[f] = bytes > p->room[f] ? bytes : p->room[f];
}

static fb_status add_step(fbi_pipeline *p, fb_context *ctx, const fb_transform *t, int number,
                          const char *name)
{
    char text[256] = "", what[160];
    fbi_fields *fields = &p->after, before = *fields;
    int f = fbi_fields_find(fields, name);
    if (f < 0)
        return no_field(ctx, fields, t, name);
    if (p->n_steps == MAX_STEPS)
        return fbi_fail(ctx, FB_E_ARG, "loader: more than %d transforms", MAX_STEPS);
    shape_text(&fields->f[f], what, sizeof what);
    fbi_step *step = &p->steps[p->n_steps];
    *step = (fbi_step){.t = t, .number = number, .n = 1, .in = {f}, .out = {f}};
    note_room(p, f, &fields->f[f]);
    fb_status st = t->kind->infer(t, fields, f, step, text, sizeof text);
    for (int k = 0; !st && k < step->n; k++)
        if (!has_size(&fields->f[step->out[k]])) {
            snprintf(text, sizeof text, "its result would have no elements, or too many");
            st = FB_E_SHAPE;
        }
    if (st)
        return fbi_fail(ctx, st, "loader: transform %s of field %s, %s: %s", t->name, name, what,
                        text);
    for (int k = 0; k < step->n; k++) {
        int out = step->out[k];
        step->before[k] = before.f[step->in[k]];
        step->after[k] = fields->f[out];
        p->changes[out] = true;
        note_room(p, out, &fields->f[out]);
    }
    p->scratch = step->scratch > p->scratch ? step->scratch : p->scratch;
    p->n_steps++;
    return FB_OK;
}

static fb_status add(fbi_pipeline *p, fb_context *ctx, fb_transform *t, int number)
{
    fb_status st = FB_OK;
    if (t->pairs && p->pairs)
        return fbi_fail(ctx, FB_E_ARG,
                        "loader: transform %s: the list mixes samples twice: use "
                        "fb_transform_one_of",
                        t->name);
    p->pairs = p->pairs || t->pairs;
    for (int i = 0; !st && i < t->n_fields; i++)
        st = add_step(p, ctx, t, number, t->fields[i]);
    if (st || p->n_used == MAX_STEPS)
        return st;
    fbi_transform_retain(t);
    p->used[p->n_used++] = t;
    return FB_OK;
}

/* Which steps are the last to write a field: they write into the batch. */
static void mark_last(fbi_pipeline *p)
{
    bool written[FB_MAX_FIELDS] = {false};
    for (int s = p->n_steps - 1; s >= 0; s--)
        for (int k = 0; k < p->steps[s].n; k++) {
            p->steps[s].last[k] = !written[p->steps[s].out[k]];
            written[p->steps[s].out[k]] = true;
        }
}

/* Where a thread's buffers lie: two for each field of a sample, the same for the one that it is
 * mixed with, and what the steps of both need. */
static void lay_out(fbi_pipeline *p)
{
    enum { ALIGN = 64 };
    size_t at = 0;
    for (int which = 0; which < 1 + p->pairs; which++) {
        for (int f = 0; f < p->after.n; f++)
            for (int b = 0; b < (p->changes[f] ? 2 : 1); b++) {
                p->buffers[which][f][b] = at;
                at += (p->room[f] + ALIGN - 1) / ALIGN * ALIGN;
            }
        p->step_scratch[which] = at;
        at += (p->scratch + ALIGN - 1) / ALIGN * ALIGN;
    }
    p->all_scratch = at;
}

static void hash(fbi_pipeline *p)
{
    for (int s = 0; s < p->n_steps; s++) {
        const fbi_step *step = &p->steps[s];
        const uint64_t parts[3] = {p->hash, step->t->hash, (uint64_t)step->out[0]};
        p->hash = XXH3_64bits(parts, sizeof parts);
    }
}

fbi_pipeline *fbi_pipeline_open(fb_dataset *ds, fb_transforms list, fbi_fields *fields)
{
    fb_context *ctx = ds->ctx;
    fbi_pipeline *p = calloc(1, sizeof *p);
    if (!p) {
        fbi_fail(ctx, FB_E_NOMEM, "loader: no memory for its transforms");
        return NULL;
    }
    p->ds = ds;
    fields_of(ds, &p->before);
    p->after = p->before;
    fb_status st = FB_OK;
    for (int f = 0; f < p->before.n; f++)
        note_room(p, f, &p->before.f[f]);
    for (int i = 0; !st && i < list.n; i++)
        st = list.t[i] ? add(p, ctx, list.t[i], i)
                       : fbi_fail(ctx, FB_E_ARG, "loader: transform %d of the list is NULL", i);
    mark_last(p);
    lay_out(p);
    hash(p);
    *fields = p->after;
    if (!st)
        return p;
    fbi_pipeline_close(p);
    return NULL;
}

void fbi_pipeline_close(fbi_pipeline *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_used; i++)
        fbi_transform_release(p->used[i]);
    free(p);
}

size_t fbi_pipeline_scratch(const fbi_pipeline *p)
{
    return p->all_scratch;
}

uint64_t fbi_pipeline_hash(const fbi_pipeline *p)
{
    return p->hash;
}

/* --- running --- */

/* A sample on its way: the one of the batch (0), or the one that it is mixed with (1), which stays
 * in its buffers. */
typedef struct fbi_walk {
    const fbi_pipeline *p;
    const fbi_pipeline_job *job;
    int which;
    fb_sample sample, other;
} fbi_walk;

static char *buffer(const fbi_walk *walk, int f, int b)
{
    return (char *)walk->job->scratch + walk->p->buffers[walk->which][f][b];
}

static void set_value(fb_value *value, const fbi_field *field, void *data, int64_t rows)
{
    *value = (fb_value){.field = field->name,
                        .dtype = field->dtype,
                        .shape = field->shape,
                        .varies = field->varies,
                        .rows = field->varies ? rows : 0,
                        .data = data};
}

static size_t row_bytes(const fb_value *value)
{
    return fbi_value_bytes(value) / (size_t)value->shape.d[0];
}

/* Zeros behind the rows that a sample of a field that varies has. */
static void pad(const fb_value *value)
{
    size_t has = row_bytes(value) * (size_t)value->rows;
    memset((char *)value->data + has, 0, fbi_value_bytes(value) - has);
}

/* The sample of the batch was read already. Rows are copied, so that zeros can stand behind them;
 * what does not vary is read where it is. */
static void begin(fbi_walk *walk)
{
    const fbi_pipeline_job *job = walk->job;
    walk->sample.index = job->index;
    for (int f = 0; f < walk->p->before.n; f++) {
        const fbi_field *field = &walk->p->before.f[f];
        fb_value *value = &walk->sample.fields[f];
        set_value(value, field, (void *)(uintptr_t)job->in[f], job->in_rows[f]);
        if (!field->varies)
            continue;
        value->data = buffer(walk, f, 0);
        memcpy(value->data, job->in[f], row_bytes(value) * (size_t)value->rows);
        pad(value);
    }
}

static fb_status fetch(fbi_walk *walk, int64_t index)
{
    const fbi_pipeline *p = walk->p;
    void *to[FB_MAX_FIELDS];
    int64_t rows[FB_MAX_FIELDS];
    for (int f = 0; f < p->before.n; f++) {
        to[f] = buffer(walk, f, 0);
        rows[f] = p->before.f[f].varies ? p->before.f[f].shape.d[0] : 1;
    }
    fb_status st = fbi_dataset_fetch(p->ds, index, to, rows, walk->job->text, walk->job->size);
    walk->sample.index = index;
    for (int f = 0; !st && f < p->before.n; f++) {
        set_value(&walk->sample.fields[f], &p->before.f[f], to[f], rows[f]);
        if (p->before.f[f].varies)
            pad(&walk->sample.fields[f]);
    }
    return st;
}

/* A step's numbers: by seed, epoch and sample, by which of several draws of it this is, and by the
 * step's place in the list. */
static fb_rng rng_of(const fbi_walk *walk, int number)
{
    uint64_t key = fbi_mix64(fbi_mix64(walk->job->seed) ^ (uint64_t)walk->job->epoch);
    key = fbi_mix64(key ^ (uint64_t)(2 * number + walk->which));
    if (walk->job->draw >= 0)
        key = fbi_mix64(key ^ ~(uint64_t)walk->job->draw);
    return fb_rng_make(key, (uint64_t)walk->job->index);
}

/* Where a step writes field k of its own: into the batch if that is the end, else where the field
 * is not now. What varies may have to be cut, so that it stays in buffers. */
static void *place_of(const fbi_walk *walk, const fbi_step *step, int k)
{
    int f = step->out[k];
    if (walk->which == 0 && step->last[k] && !step->after[k].varies)
        return walk->job->out[f];
    bool first_taken =
        f < walk->sample.n_fields && walk->sample.fields[f].data == buffer(walk, f, 0);
    return buffer(walk, f, first_taken);
}

static fb_status run_step(fbi_walk *walk, int s)
{
    const fbi_step *step = &walk->p->steps[s];
    fb_rng rng = rng_of(walk, step->number);
    fb_value result[FBI_STEP_FIELDS];
    fbi_call call = {.rng = &rng,
                     .sample = &walk->sample,
                     .before = step->before,
                     .scratch = (char *)walk->job->scratch + walk->p->step_scratch[walk->which],
                     .text = walk->job->text,
                     .size = walk->job->size,
                     .walk = walk,
                     .step = s};
    for (int k = 0; k < step->n; k++) {
        call.in[k] = &walk->sample.fields[step->in[k]];
        call.out[k] = &result[k];
        set_value(&result[k], &step->after[k], place_of(walk, step, k), call.in[k]->rows);
    }
    fb_status st = step->t->kind->run(step->t, &call);
    for (int k = 0; !st && k < step->n; k++) {
        int f = step->out[k];
        walk->sample.fields[f] = result[k];
        if (f >= walk->sample.n_fields)
            walk->sample.n_fields = f + 1;
    }
    return st;
}

static fb_status run_steps(fbi_walk *walk, int end)
{
    fb_status st = FB_OK;
    walk->sample.epoch = walk->job->epoch;
    walk->sample.n_fields = walk->p->before.n;
    for (int s = 0; !st && s < end; s++)
        st = run_step(walk, s);
    return st;
}

fb_status fbi_call_other(fbi_call *call, const fb_value *other[FBI_STEP_FIELDS])
{
    fbi_walk *mine = call->walk;
    const fbi_step *step = &mine->p->steps[call->step];
    fbi_walk walk = {.p = mine->p, .job = mine->job, .which = 1};
    fb_status st = fetch(&walk, fb_rng_int(call->rng, 0, mine->job->n));
    st = st ? st : run_steps(&walk, call->step);
    if (st)
        return st;
    mine->other = walk.sample;
    for (int k = 0; k < step->n; k++)
        other[k] = &mine->other.fields[step->in[k]];
    return FB_OK;
}

/* What is not in the batch yet: fields that no step writes, and those that vary. */
static void deliver(const fbi_pipeline_job *job, const fb_value *value, int f)
{
    if (value->data == job->out[f])
        return;
    size_t bytes = fbi_value_bytes(value);
    if (value->varies) {
        job->rows[f] = value->rows < job->rows[f] ? value->rows : job->rows[f];
        bytes = row_bytes(value) * (size_t)job->rows[f];
    }
    memcpy(job->out[f], value->data, bytes);
}

fb_status fbi_pipeline_run(const fbi_pipeline *p, const fbi_pipeline_job *job)
{
    fbi_walk walk = {.p = p, .job = job};
    begin(&walk);
    fb_status st = run_steps(&walk, p->n_steps);
    for (int f = 0; !st && f < p->after.n; f++)
        deliver(job, &walk.sample.fields[f], f);
    return st;
}
