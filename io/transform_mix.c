/* Two samples as one: mixup and cutmix, with soft targets. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/transform_priv.h"

typedef struct mix {
    fb_transform base;
    int64_t classes;
    double alpha, p;
    char target[FBI_NAME_BYTES];
} mix;

enum { INPUT, TARGET };

static bool is_class(const fbi_field *field)
{
    return !field->varies && fbi_is_whole(field->dtype) && fb_shape_numel(field->shape) == 1;
}

static fb_status infer_target(const mix *m, fbi_fields *fields, fbi_step *step, char *text,
                              size_t size)
{
    int f = fbi_fields_find(fields, m->target);
    if (f < 0) {
        snprintf(text, size, "there is no field \"%s\"", m->target);
        return FB_E_NOT_FOUND;
    }
    fbi_field *field = &fields->f[f];
    bool soft = field->dtype == FB_F32 && !field->varies && field->shape.n == 1 &&
                field->shape.d[0] == m->classes;
    if (f == step->out[INPUT] || (!soft && !is_class(field))) {
        snprintf(text, size, "field %s must be a class, an integer, or F32 [%lld]", m->target,
                 (long long)m->classes);
        return FB_E_SHAPE;
    }
    field->dtype = FB_F32;
    field->shape = FB_SHAPE(m->classes);
    field->scale = field->shift = 0;
    step->n = 2;
    step->in[TARGET] = step->out[TARGET] = f;
    return FB_OK;
}

static fb_status mixup_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                             char *text, size_t size)
{
    const fbi_field *field = &fields->f[f];
    if (field->varies || (field->dtype != FB_F32 && field->dtype != FB_U8)) {
        snprintf(text, size, "F32 or U8 of a fixed size is needed: use fb_transform_to_float");
        return FB_E_DTYPE;
    }
    return infer_target((const mix *)t, fields, step, text, size);
}

static fb_status cutmix_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                              char *text, size_t size)
{
    fbi_planes image;
    fb_status st = fbi_field_planes(&fields->f[f], &image, text, size);
    return st ? st : infer_target((const mix *)t, fields, step, text, size);
}

/* Gamma(a, 1) for a >= 1 (Marsaglia and Tsang 2000). */
static double gamma_large(fb_rng *rng, double a)
{
    double d = a - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = fb_rng_normal(rng, 0, 1), v = 1 + c * x;
        double u = 1 - fb_rng_uniform(rng, 0, 1);
        v = v * v * v;
        if (v > 0 && log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v;
    }
}

/* Beta(a, a). Small gammas are taken as logarithms: both may be below what a double can hold. */
static double draw_beta(fb_rng *rng, double a)
{
    double logs[2];
    for (int i = 0; i < 2; i++) {
        double boost = a < 1 ? log(1 - fb_rng_uniform(rng, 0, 1)) / a : 0;
        logs[i] = log(gamma_large(rng, a < 1 ? a + 1 : a)) + boost;
    }
    return 1 / (1 + exp(logs[1] - logs[0]));
}

/* out += share * the target's probabilities. */
static fb_status add_target(const mix *m, const fb_value *in, float share, fbi_call *call)
{
    float *out = call->out[TARGET]->data;
    if (in->dtype == FB_F32) {
        for (int64_t k = 0; k < m->classes; k++)
            out[k] += share * ((const float *)in->data)[k];
        return FB_OK;
    }
    int64_t k = fbi_value_whole(in, 0);
    if (k < 0 || k >= m->classes) {
        snprintf(call->text, call->size,
                 "transform %s: class %lld in a sample of the epoch, %lld were said to exist "
                 "(at sample %lld)",
                 m->base.name, (long long)k, (long long)m->classes, (long long)call->sample->index);
        return FB_E_ARG;
    }
    out[k] += share;
    return FB_OK;
}

static fb_status mix_targets(const mix *m, fbi_call *call, const fb_value *other, double share)
{
    memset(call->out[TARGET]->data, 0, fbi_value_bytes(call->out[TARGET]));
    fb_status st = add_target(m, call->in[TARGET], (float)share, call);
    return st || !other ? st : add_target(m, other, (float)(1 - share), call);
}

/* This sample alone. */
static fb_status leave(const mix *m, fbi_call *call)
{
    fbi_value_copy(call->in[INPUT], call->out[INPUT]);
    return mix_targets(m, call, NULL, 1);
}

static void blend(const fb_value *a, const fb_value *b, float share, fb_value *out)
{
    int64_t n = fb_shape_numel(a->shape);
    if (a->dtype == FB_F32) {
        const float *x = a->data, *y = b->data;
        for (int64_t i = 0; i < n; i++)
            ((float *)out->data)[i] = share * x[i] + (1 - share) * y[i];
        return;
    }
    const uint8_t *x = a->data, *y = b->data;
    for (int64_t i = 0; i < n; i++) /* positive: the half makes it round */
        ((uint8_t *)out->data)[i] =
            (uint8_t)(share * (float)x[i] + (1 - share) * (float)y[i] + 0.5f);
}

static fb_status mixup_run(const fb_transform *t, fbi_call *call)
{
    const mix *m = (const mix *)t;
    const fb_value *other[FBI_STEP_FIELDS];
    if (fb_rng_uniform(call->rng, 0, 1) >= m->p)
        return leave(m, call);
    double share = draw_beta(call->rng, m->alpha);
    fb_status st = fbi_call_other(call, other);
    if (st)
        return st;
    blend(call->in[INPUT], other[INPUT], (float)share, call->out[INPUT]);
    return mix_targets(m, call, other[TARGET], share);
}

static int64_t limit(int64_t x, int64_t most)
{
    return x < 0 ? 0 : x > most ? most : x;
}

static fb_status cutmix_run(const fb_transform *t, fbi_call *call)
{
    const mix *m = (const mix *)t;
    const fb_value *other[FBI_STEP_FIELDS];
    fb_value *out = call->out[INPUT];
    if (fb_rng_uniform(call->rng, 0, 1) >= m->p)
        return leave(m, call);
    fbi_planes image = fbi_value_planes(call->in[INPUT]);
    double half = 0.5 * sqrt(1 - draw_beta(call->rng, m->alpha));
    int64_t y = fb_rng_int(call->rng, 0, image.height), x = fb_rng_int(call->rng, 0, image.width);
    int64_t half_y = (int64_t)(half * (double)image.height);
    int64_t half_x = (int64_t)(half * (double)image.width);
    int64_t top = limit(y - half_y, image.height), bottom = limit(y + half_y, image.height);
    int64_t left = limit(x - half_x, image.width), right = limit(x + half_x, image.width);
    fb_status st = fbi_call_other(call, other);
    if (st)
        return st;
    size_t bytes = fb_dtype_size(out->dtype);
    fbi_value_copy(call->in[INPUT], out);
    for (int64_t p = 0; p < image.n; p++)
        for (int64_t row = top; row < bottom; row++) {
            size_t at = (size_t)((p * image.height + row) * image.width + left) * bytes;
            memcpy((char *)out->data + at, (const char *)other[INPUT]->data + at,
                   (size_t)(right - left) * bytes);
        }
    double cut = (double)((bottom - top) * (right - left));
    return mix_targets(m, call, other[TARGET], 1 - cut / (double)(image.height * image.width));
}

static const fbi_transform_kind mixup_kind = {
    .name = "mixup", .pairs = true, .names = true, .infer = mixup_infer, .run = mixup_run};
static const fbi_transform_kind cutmix_kind = {
    .name = "cutmix", .pairs = true, .names = true, .infer = cutmix_infer, .run = cutmix_run};

static fb_transform *mix_new(fb_context *ctx, const fbi_transform_kind *kind, int64_t classes,
                             const fb_mixup_options *opts)
{
    fb_mixup_options o = opts ? *opts : (fb_mixup_options){0};
    o.alpha = o.alpha == 0 ? 1 : o.alpha;
    o.p = o.p == 0 ? 1 : o.p;
    o.target = o.target ? o.target : "target";
    if (classes < 1 || classes > 1 << 28)
        return fbi_transform_refuse(ctx, kind, "%lld classes", (long long)classes);
    if (!(o.alpha > 0 && o.alpha < 1e6) || !(o.p >= 0 && o.p <= 1))
        return fbi_transform_refuse(ctx, kind, "alpha = %g must be positive, p = %g be in 0 .. 1",
                                    o.alpha, o.p);
    if (!*o.target || strlen(o.target) >= FBI_NAME_BYTES)
        return fbi_transform_refuse(ctx, kind, "a field's name has 1 to %d bytes",
                                    FBI_NAME_BYTES - 1);
    mix *m = fbi_transform_new(ctx, kind, sizeof *m);
    if (!m)
        return NULL;
    m->classes = classes;
    m->alpha = o.alpha;
    m->p = o.p;
    snprintf(m->target, sizeof m->target, "%s", o.target);
    fbi_transform_note_text(&m->base, m->target);
    FBI_NOTE(&m->base, (double)classes, o.alpha, o.p);
    return &m->base;
}

fb_transform *fb_transform_mixup(fb_context *ctx, int64_t classes, const fb_mixup_options *opts)
{
    FBI_ENTRY(ctx);
    return mix_new(ctx, &mixup_kind, classes, opts);
}

fb_transform *fb_transform_cutmix(fb_context *ctx, int64_t classes, const fb_mixup_options *opts)
{
    FBI_ENTRY(ctx);
    return mix_new(ctx, &cutmix_kind, classes, opts);
}
