#include "io/transform_priv.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

/* --- the object --- */

static void free_transform(void *object)
{
    fb_transform *t = object;
    if (t->kind->free)
        t->kind->free(t);
    free(t);
}

static void closed_by_context(void *object)
{
    fbi_transform_release(object);
}

void *fbi_transform_new(fb_context *ctx, const fbi_transform_kind *kind, size_t size)
{
    if (!ctx || !fbi_enter(ctx))
        return NULL;
    fb_transform *t = calloc(1, size);
    if (!t) {
        fbi_fail(ctx, FB_E_NOMEM, "transform %s: no memory", kind->name);
        return NULL;
    }
    *t = (fb_transform){.ctx = ctx,
                        .kind = kind,
                        .name = kind->name,
                        .pairs = kind->pairs,
                        .names = kind->names,
                        .uses = 1,
                        .n_fields = 1,
                        .fields = {"input"}};
    fbi_transform_note_text(t, kind->name);
    if (!fbi_context_adopt(ctx, t, closed_by_context))
        return t;
    free(t);
    return NULL;
}

void *fbi_transform_refuse(fb_context *ctx, const fbi_transform_kind *kind, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (ctx && fbi_enter(ctx))
        fbi_fail(ctx, FB_E_ARG, "transform %s: %s", kind->name, text);
    return NULL;
}

void fbi_transform_note(fb_transform *t, const double *values, size_t n)
{
    t->hash = XXH3_64bits_withSeed(values, n * sizeof *values, t->hash);
}

void fbi_transform_note_text(fb_transform *t, const char *text)
{
    t->hash = XXH3_64bits_withSeed(text, strlen(text), t->hash);
}

void fbi_transform_retain(fb_transform *t)
{
    t->uses++;
}

void fbi_transform_release(fb_transform *t)
{
    if (t && --t->uses == 0)
        free_transform(t);
}

void fb_transform_close(fb_transform *t)
{
    if (!t)
        return;
    fbi_context_forget(t->ctx, t);
    fbi_transform_release(t);
}

fb_transform *fb_transform_on(fb_transform *t, const char *field)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    if (!fbi_enter(t->ctx))
        return t;
    if (!field || !*field || strlen(field) >= FBI_NAME_BYTES)
        return fbi_transform_refuse(t->ctx, t->kind, "a field's name has 1 to %d bytes",
                                    FBI_NAME_BYTES - 1);
    if (t->names)
        return fbi_transform_refuse(t->ctx, t->kind, "it says itself which fields it changes");
    if (t->named && t->n_fields == FB_MAX_FIELDS)
        return fbi_transform_refuse(t->ctx, t->kind, "more than %d fields", FB_MAX_FIELDS);
    if (!t->named)
        t->n_fields = 0;
    t->named = true;
    snprintf(t->fields[t->n_fields++], FBI_NAME_BYTES, "%s", field);
    return t;
}

/* --- fields and values --- */

int fbi_fields_find(const fbi_fields *fields, const char *name)
{
    for (int f = 0; name && f < fields->n; f++)
        if (!strcmp(fields->f[f].name, name))
            return f;
    return -1;
}

int fbi_fields_add(fbi_fields *fields, const char *name)
{
    if (fields->n == FB_MAX_FIELDS)
        return -1;
    fields->f[fields->n] = (fbi_field){0};
    snprintf(fields->f[fields->n].name, FBI_NAME_BYTES, "%s", name);
    return fields->n++;
}

size_t fbi_field_bytes(const fbi_field *field)
{
    return (size_t)fb_shape_numel(field->shape) * fb_dtype_size(field->dtype);
}

size_t fbi_value_bytes(const fb_value *value)
{
    return (size_t)fb_shape_numel(value->shape) * fb_dtype_size(value->dtype);
}

int64_t fbi_value_rows(const fb_value *value)
{
    return value->varies ? value->rows : value->shape.d[0];
}

bool fbi_is_whole(fb_dtype dtype)
{
    return dtype == FB_I64 || dtype == FB_I32 || dtype == FB_I16 || dtype == FB_U16 ||
           dtype == FB_I8 || dtype == FB_U8;
}

int64_t fbi_value_whole(const fb_value *value, int64_t i)
{
    const void *x = value->data;
    switch (value->dtype) {
    case FB_U8:
        return ((const uint8_t *)x)[i];
    case FB_I8:
        return ((const int8_t *)x)[i];
    case FB_U16:
        return ((const uint16_t *)x)[i];
    case FB_I16:
        return ((const int16_t *)x)[i];
    case FB_I32:
        return ((const int32_t *)x)[i];
    case FB_I64:
        return ((const int64_t *)x)[i];
    case FB_DTYPE_DEFAULT:
    case FB_F32:
    case FB_F64:
    case FB_F16:
    case FB_BF16:
    case FB_BOOL:
    case FB_DTYPE_COUNT:
        break;
    }
    return -1;
}

void fbi_value_copy(const fb_value *in, fb_value *out)
{
    memcpy(out->data, in->data, fbi_value_bytes(in));
    out->rows = in->rows;
}

const fb_value *fb_sample_field(const fb_sample *sample, const char *name)
{
    for (int f = 0; sample && name && f < sample->n_fields; f++)
        if (!strcmp(sample->fields[f].field, name))
            return &sample->fields[f];
    return NULL;
}

fb_status fbi_field_planes(const fbi_field *field, fbi_planes *planes, char *text, size_t size)
{
    const fb_shape *s = &field->shape;
    if (field->varies || (s->n != 2 && s->n != 3)) {
        snprintf(text, size, "an image [channels, height, width] or [height, width] is needed");
        return FB_E_SHAPE;
    }
    *planes = (fbi_planes){s->n == 3 ? s->d[0] : 1, s->d[s->n - 2], s->d[s->n - 1]};
    return FB_OK;
}

fbi_planes fbi_value_planes(const fb_value *value)
{
    const fb_shape *s = &value->shape;
    return (fbi_planes){s->n == 3 ? s->d[0] : 1, s->d[s->n - 2], s->d[s->n - 1]};
}

void fbi_field_resize(fbi_field *field, int64_t height, int64_t width)
{
    field->shape.d[field->shape.n - 2] = height;
    field->shape.d[field->shape.n - 1] = width;
}

bool fbi_element(fb_dtype dtype, double x, void *out)
{
    double low = dtype == FB_I8 ? -128 : dtype == FB_I16 ? -32768 : dtype == FB_I32 ? -0x1p31 : 0;
    double high = dtype == FB_I8    ? 127
                  : dtype == FB_U8  ? 255
                  : dtype == FB_I16 ? 32767
                  : dtype == FB_U16 ? 65535
                                    : 0x1p31 - 1;
    double whole = rint(x < low ? low : x > high ? high : x);
    if (dtype == FB_F32)
        *(float *)out = (float)x;
    else if (dtype == FB_F64)
        *(double *)out = x;
    else if (dtype == FB_U8 || dtype == FB_I8)
        *(uint8_t *)out = (uint8_t)(int)whole;
    else if (dtype == FB_BOOL)
        *(uint8_t *)out = x != 0;
    else if (dtype == FB_I16 || dtype == FB_U16)
        *(uint16_t *)out = (uint16_t)(int)whole;
    else if (dtype == FB_I32)
        *(int32_t *)out = (int32_t)whole;
    else if (dtype == FB_I64)
        *(int64_t *)out = (int64_t)x;
    else
        memset(out, 0, fb_dtype_size(dtype));
    return x == 0 || (dtype != FB_F16 && dtype != FB_BF16);
}

void fbi_fill(void *out, const void *element, size_t bytes, int64_t n)
{
    char *to = out;
    for (int64_t i = 0; i < n; i++, to += bytes)
        memcpy(to, element, bytes);
}

void fbi_floats_from(const void *in, fb_dtype dtype, int64_t n, float *out)
{
    if (dtype == FB_F32)
        memcpy(out, in, (size_t)n * sizeof *out);
    else
        for (int64_t i = 0; i < n; i++)
            out[i] = ((const uint8_t *)in)[i];
}

void fbi_floats_to(const float *in, int64_t n, fb_dtype dtype, void *out)
{
    if (dtype == FB_F32)
        memcpy(out, in, (size_t)n * sizeof *in);
    else
        for (int64_t i = 0; i < n; i++) {
            float x = in[i] < 0 ? 0 : in[i] > 255 ? 255 : in[i];
            ((uint8_t *)out)[i] = (uint8_t)lrintf(x);
        }
}

/* --- a copy as a new field --- */

typedef struct copy {
    fb_transform base;
    char to[FBI_NAME_BYTES];
} copy;

static fb_status copy_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                            char *text, size_t size)
{
    const copy *c = (const copy *)t;
    if (fbi_fields_find(fields, c->to) >= 0) {
        snprintf(text, size, "there is a field \"%s\" already", c->to);
        return FB_E_ARG;
    }
    int to = fbi_fields_add(fields, c->to);
    if (to < 0) {
        snprintf(text, size, "more than %d fields", FB_MAX_FIELDS);
        return FB_E_ARG;
    }
    char name[FBI_NAME_BYTES];
    memcpy(name, fields->f[to].name, sizeof name);
    fields->f[to] = fields->f[f];
    memcpy(fields->f[to].name, name, sizeof name);
    step->out[0] = to;
    return FB_OK;
}

static fb_status copy_run(const fb_transform *t, fbi_call *call)
{
    (void)t;
    fbi_value_copy(call->in[0], call->out[0]);
    return FB_OK;
}

static const fbi_transform_kind copy_kind = {
    .name = "copy", .names = true, .infer = copy_infer, .run = copy_run};

fb_transform *fb_transform_copy(fb_context *ctx, const char *from, const char *to)
{
    FBI_ENTRY(ctx);
    if (!from || !*from || !to || !*to || strlen(from) >= FBI_NAME_BYTES ||
        strlen(to) >= FBI_NAME_BYTES)
        return fbi_transform_refuse(ctx, &copy_kind, "a field's name has 1 to %d bytes",
                                    FBI_NAME_BYTES - 1);
    copy *c = fbi_transform_new(ctx, &copy_kind, sizeof *c);
    if (!c)
        return NULL;
    snprintf(c->base.fields[0], FBI_NAME_BYTES, "%s", from);
    snprintf(c->to, sizeof c->to, "%s", to);
    fbi_transform_note_text(&c->base, to);
    return &c->base;
}

/* --- one of several, or nothing --- */

enum { MAX_CHOICES = 32 };

typedef struct choice {
    fb_transform base;
    int n;
    fb_transform *of[MAX_CHOICES];
    double until[MAX_CHOICES]; /* sums of the probabilities; what is more than the last: nothing */
} choice;

static bool same_field(const fbi_field *a, const fbi_field *b)
{
    return a->dtype == b->dtype && a->varies == b->varies && fb_shape_equal(a->shape, b->shape) &&
           a->scale == b->scale && a->shift == b->shift;
}

static bool same_result(const fbi_fields *a, const fbi_step *first, const fbi_fields *b,
                        const fbi_step *second)
{
    bool same = a->n == b->n && first->n == second->n;
    for (int f = 0; same && f < a->n; f++)
        same = same_field(&a->f[f], &b->f[f]);
    for (int k = 0; same && k < first->n; k++)
        same = first->in[k] == second->in[k] && first->out[k] == second->out[k];
    return same;
}

static fb_status choice_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                              char *text, size_t size)
{
    const choice *c = (const choice *)t;
    bool always = c->until[c->n - 1] >= 1;
    fbi_fields before = *fields;
    fbi_step first = *step;
    for (int i = 0; i < c->n; i++) {
        fbi_fields now = before;
        fbi_step mine = first;
        fb_status st = c->of[i]->kind->infer(c->of[i], &now, f, &mine, text, size);
        if (st)
            return st;
        bool fits = always ? i == 0 || same_result(&now, &mine, fields, step)
                           : same_result(&now, &mine, &before, &first);
        if (!fits) {
            snprintf(text, size, "%s gives another shape, dtype or field than %s", c->of[i]->name,
                     always ? c->of[0]->name : "it gets");
            return FB_E_SHAPE;
        }
        mine.scratch = mine.scratch > step->scratch ? mine.scratch : step->scratch;
        *step = mine;
        *fields = now;
    }
    return FB_OK;
}

static fb_status choice_run(const fb_transform *t, fbi_call *call)
{
    const choice *c = (const choice *)t;
    double x = fb_rng_uniform(call->rng, 0, 1);
    for (int i = 0; i < c->n; i++)
        if (x < c->until[i])
            return c->of[i]->kind->run(c->of[i], call);
    fbi_value_copy(call->in[0], call->out[0]);
    return FB_OK;
}

static void choice_free(fb_transform *t)
{
    choice *c = (choice *)t;
    for (int i = 0; i < c->n; i++)
        fbi_transform_release(c->of[i]);
}

static const fbi_transform_kind apply_kind = {
    .name = "random_apply", .infer = choice_infer, .run = choice_run, .free = choice_free};
static const fbi_transform_kind one_of_kind = {
    .name = "one_of", .infer = choice_infer, .run = choice_run, .free = choice_free};

static fb_transform *choice_new(fb_context *ctx, const fbi_transform_kind *kind, fb_transforms list,
                                const double *until)
{
    choice *c = fbi_transform_new(ctx, kind, sizeof *c);
    if (!c)
        return NULL;
    const fb_transform *first = list.t[0];
    c->base.n_fields = first->n_fields;
    c->base.names = first->names;
    memcpy(c->base.fields, first->fields, sizeof first->fields);
    for (c->n = 0; c->n < list.n; c->n++) {
        c->of[c->n] = list.t[c->n];
        c->until[c->n] = until[c->n];
        fbi_transform_retain(list.t[c->n]);
        FBI_NOTE(&c->base, until[c->n], (double)(list.t[c->n]->hash >> 12));
        c->base.pairs = c->base.pairs || list.t[c->n]->pairs;
    }
    return &c->base;
}

fb_transform *fb_transform_random_apply(fb_context *ctx, double p, fb_transform *t)
{
    FBI_ENTRY(ctx);
    if (!t)
        return NULL;
    if (!(p >= 0 && p <= 1))
        return fbi_transform_refuse(ctx, &apply_kind, "p = %g: 0 to 1 is needed", p);
    return choice_new(ctx, &apply_kind, (fb_transforms){&t, 1}, &p);
}

static bool same_fields(const fb_transform *a, const fb_transform *b)
{
    bool same = a->n_fields == b->n_fields;
    for (int f = 0; same && f < a->n_fields; f++)
        same = !strcmp(a->fields[f], b->fields[f]);
    return same;
}

fb_transform *fb_transform_one_of(fb_context *ctx, fb_transforms list, const double *probabilities)
{
    FBI_ENTRY(ctx);
    double until[MAX_CHOICES], sum = 0;
    if (list.n < 1 || list.n > MAX_CHOICES)
        return fbi_transform_refuse(ctx, &one_of_kind, "%d transforms: 1 to %d are needed", list.n,
                                    MAX_CHOICES);
    for (int i = 0; i < list.n; i++) {
        double p = probabilities ? probabilities[i] : 1;
        if (!list.t[i])
            return NULL;
        if (!(p >= 0 && p < INFINITY))
            return fbi_transform_refuse(ctx, &one_of_kind, "probability %g must not be negative",
                                        p);
        if (!same_fields(list.t[0], list.t[i]))
            return fbi_transform_refuse(ctx, &one_of_kind, "%s and %s change different fields",
                                        list.t[0]->name, list.t[i]->name);
        until[i] = sum += p;
    }
    if (!(sum > 0))
        return fbi_transform_refuse(ctx, &one_of_kind, "all probabilities are 0");
    for (int i = 0; i < list.n; i++)
        until[i] = i == list.n - 1 ? 1 : until[i] / sum;
    return choice_new(ctx, &one_of_kind, list, until);
}

/* --- a program's own --- */

typedef struct custom {
    fb_transform base;
    fb_transform_fn fn;
    void *user;
    fb_transform_custom_options o;
    char name[FBI_NAME_BYTES];
} custom;

static fb_status custom_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                              char *text, size_t size)
{
    const custom *c = (const custom *)t;
    fbi_field *field = &fields->f[f];
    (void)step;
    (void)text;
    (void)size;
    if (c->o.dtype != FB_DTYPE_DEFAULT && c->o.dtype != field->dtype) {
        field->dtype = c->o.dtype;
        field->scale = field->shift = 0;
    }
    if (c->o.shape.n)
        field->shape = c->o.shape;
    field->varies = field->varies && !c->o.fixed;
    return FB_OK;
}

static fb_status custom_run(const fb_transform *t, fbi_call *call)
{
    const custom *c = (const custom *)t;
    int rc = c->fn(c->user, call->sample, call->in[0], call->out[0], call->rng);
    if (!rc)
        return FB_OK;
    snprintf(call->text, call->size, "transform %s failed with %d at sample %lld", t->name, rc,
             (long long)call->sample->index);
    return FB_E_USER;
}

static const fbi_transform_kind custom_kind = {
    .name = "custom", .infer = custom_infer, .run = custom_run};

fb_transform *fb_transform_custom(fb_context *ctx, fb_transform_fn fn, void *user,
                                  const fb_transform_custom_options *opts)
{
    FBI_ENTRY(ctx);
    fb_transform_custom_options o = opts ? *opts : (fb_transform_custom_options){0};
    if (!fn)
        return fbi_transform_refuse(ctx, &custom_kind, "the function is NULL");
    if (o.dtype < FB_DTYPE_DEFAULT || o.dtype >= FB_DTYPE_COUNT)
        return fbi_transform_refuse(ctx, &custom_kind, "there is no dtype %d", (int)o.dtype);
    if (o.fixed && !o.shape.n)
        return fbi_transform_refuse(ctx, &custom_kind, "a fixed result needs a shape");
    for (int i = 0; i < o.shape.n; i++)
        if (o.shape.n > FB_MAX_DIMS || o.shape.d[i] < 1)
            return fbi_transform_refuse(ctx, &custom_kind, "every size must be at least 1");
    custom *c = fbi_transform_new(ctx, &custom_kind, sizeof *c);
    if (!c)
        return NULL;
    c->fn = fn;
    c->user = user;
    c->o = o;
    snprintf(c->name, sizeof c->name, "%s", o.name ? o.name : "custom");
    c->base.name = c->name;
    fbi_transform_note_text(&c->base, c->name);
    FBI_NOTE(&c->base, o.dtype, o.fixed, (double)fb_shape_numel(o.shape));
    return &c->base;
}
