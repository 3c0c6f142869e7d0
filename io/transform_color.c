/* Values of elements: to F32, normalised, colours changed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/transform_priv.h"

/* --- to float --- */

static fb_status to_float_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                                char *text, size_t size)
{
    (void)t;
    (void)step;
    (void)text;
    (void)size;
    fbi_field *field = &fields->f[f];
    field->dtype = FB_F32;
    field->scale = field->shift = 0;
    return FB_OK;
}

typedef struct to_float {
    fb_transform base;
} to_float;

static double usual_scale(fb_dtype dtype)
{
    return dtype == FB_U8 ? 1.0 / 255 : dtype == FB_I16 ? 1.0 / 32768 : 1;
}

static fb_status to_float_run(const fb_transform *t, fbi_call *call)
{
    (void)t;
    const fb_value *in = call->in[0];
    fb_dataset_field field = {.dtype = in->dtype, .shape = in->shape};
    field.scale = call->before->scale != 0 ? call->before->scale : usual_scale(in->dtype);
    field.shift = call->before->scale != 0 ? call->before->shift : 0;
    fbi_dataset_convert(&field, in->data, 1, call->out[0]->data);
    if (!in->varies || in->rows == in->shape.d[0])
        return FB_OK;
    int64_t all = fb_shape_numel(in->shape), has = all / in->shape.d[0] * in->rows;
    memset((float *)call->out[0]->data + has, 0, (size_t)(all - has) * sizeof(float));
    return FB_OK;
}

static const fbi_transform_kind to_float_kind = {
    .name = "to_float", .infer = to_float_infer, .run = to_float_run};

fb_transform *fb_transform_to_float(fb_context *ctx)
{
    FBI_ENTRY(ctx);
    to_float *t = fbi_transform_new(ctx, &to_float_kind, sizeof *t);
    return t ? &t->base : NULL;
}

/* --- normalize --- */

typedef struct normalize {
    fb_transform base;
    int n;
    float *mean, *std; /* one block */
} normalize;

static fb_status normalize_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                                 char *text, size_t size)
{
    const normalize *z = (const normalize *)t;
    const fbi_field *field = &fields->f[f];
    (void)step;
    if (field->dtype != FB_F32) {
        snprintf(text, size, "F32 is needed: use fb_transform_to_float before it");
        return FB_E_DTYPE;
    }
    if (z->n != 1 && (field->varies || !field->shape.n || field->shape.d[0] != z->n)) {
        snprintf(text, size, "it has means of %d channels", z->n);
        return FB_E_SHAPE;
    }
    return FB_OK;
}

static fb_status normalize_run(const fb_transform *t, fbi_call *call)
{
    const normalize *z = (const normalize *)t;
    const float *x = call->in[0]->data;
    float *y = call->out[0]->data;
    int64_t n = fb_shape_numel(call->in[0]->shape) / z->n;
    for (int c = 0; c < z->n; c++, x += n, y += n)
        for (int64_t i = 0; i < n; i++)
            y[i] = (x[i] - z->mean[c]) / z->std[c];
    return FB_OK;
}

static void normalize_free(fb_transform *t)
{
    free(((normalize *)t)->mean);
}

static const fbi_transform_kind normalize_kind = {
    .name = "normalize", .infer = normalize_infer, .run = normalize_run, .free = normalize_free};

fb_transform *fb_transform_normalize(fb_context *ctx, int n, const double *mean, const double *std)
{
    FBI_ENTRY(ctx);
    if (n < 1 || n > 1 << 20 || !mean || !std)
        return fbi_transform_refuse(ctx, &normalize_kind,
                                    "%d channels: 1 or more, with means and deviations", n);
    for (int c = 0; c < n; c++)
        if (!isfinite(mean[c]) || !(std[c] > 0 && std[c] < INFINITY))
            return fbi_transform_refuse(
                ctx, &normalize_kind,
                "mean %g and deviation %g of channel %d: a positive deviation is needed", mean[c],
                std[c], c);
    normalize *z = fbi_transform_new(ctx, &normalize_kind, sizeof *z);
    if (!z)
        return NULL;
    z->n = n;
    z->mean = malloc(2 * (size_t)n * sizeof *z->mean);
    if (!z->mean) {
        fbi_fail(ctx, FB_E_NOMEM, "transform normalize: no memory for %d channels", n);
        fb_transform_close(&z->base);
        return NULL;
    }
    z->std = z->mean + n;
    for (int c = 0; c < n; c++) {
        z->mean[c] = (float)mean[c];
        z->std[c] = (float)std[c];
        FBI_NOTE(&z->base, mean[c], std[c]);
    }
    return &z->base;
}

/* --- colour jitter --- */

typedef struct jitter {
    fb_transform base;
    fb_color_jitter_options o;
} jitter;

static fb_status jitter_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                              char *text, size_t size)
{
    const fbi_field *field = &fields->f[f];
    fbi_planes image;
    (void)t;
    fb_status st = fbi_field_planes(field, &image, text, size);
    if (st)
        return st;
    if (image.n != 1 && image.n != 3) {
        snprintf(text, size, "1 or 3 channels are needed");
        return FB_E_SHAPE;
    }
    if (field->dtype != FB_U8 && field->dtype != FB_F32) {
        snprintf(text, size, "U8 or F32 is needed: use fb_transform_to_float");
        return FB_E_DTYPE;
    }
    step->scratch = (size_t)fb_shape_numel(field->shape) * sizeof(float);
    return FB_OK;
}

static float limited(float x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

/* ITU-R BT.601 luma with torchvision's digits. */
static float grey_of(const float *x, int64_t i, fbi_planes image)
{
    int64_t n = image.height * image.width;
    if (image.n == 1)
        return x[i];
    return 0.2989f * x[i] + 0.587f * x[n + i] + 0.114f * x[2 * n + i];
}

static void brightness(float *x, fbi_planes image, float factor)
{
    int64_t n = image.n * image.height * image.width;
    for (int64_t i = 0; i < n; i++)
        x[i] = limited(factor * x[i]);
}

static void contrast(float *x, fbi_planes image, float factor)
{
    int64_t n = image.height * image.width;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += grey_of(x, i, image);
    float rest = (1 - factor) * (float)(sum / (double)n);
    for (int64_t i = 0; i < image.n * n; i++)
        x[i] = limited(factor * x[i] + rest);
}

static void saturation(float *x, fbi_planes image, float factor)
{
    int64_t n = image.height * image.width;
    if (image.n == 1)
        return;
    for (int64_t i = 0; i < n; i++) {
        float rest = (1 - factor) * grey_of(x, i, image);
        for (int c = 0; c < 3; c++)
            x[c * n + i] = limited(factor * x[c * n + i] + rest);
    }
}

/* Through HSV and back (A. R. Smith 1978). `turn`: of a full circle. */
static void turn_hue(float rgb[3], float turn)
{
    float most = fmaxf(fmaxf(rgb[0], rgb[1]), rgb[2]), least = fminf(fminf(rgb[0], rgb[1]), rgb[2]);
    float range = most - least;
    if (range <= 0)
        return;
    float hue = most == rgb[0]   ? (rgb[1] - rgb[2]) / range
                : most == rgb[1] ? (rgb[2] - rgb[0]) / range + 2
                                 : (rgb[0] - rgb[1]) / range + 4;
    hue = hue / 6 + turn;
    hue = (hue - floorf(hue)) * 6;
    int sector = (int)hue % 6;
    float f = hue - floorf(hue), s = range / most;
    float p = limited(most * (1 - s)), q = limited(most * (1 - s * f));
    float t = limited(most * (1 - s * (1 - f)));
    const float v = most;
    const float table[6][3] = {{v, t, p}, {q, v, p}, {p, v, t}, {p, q, v}, {t, p, v}, {v, p, q}};
    memcpy(rgb, table[sector], sizeof table[sector]);
}

static void hue(float *x, fbi_planes image, float turn)
{
    int64_t n = image.height * image.width;
    if (image.n == 1)
        return;
    for (int64_t i = 0; i < n; i++) {
        float rgb[3] = {x[i], x[n + i], x[2 * n + i]};
        turn_hue(rgb, turn);
        for (int c = 0; c < 3; c++)
            x[c * n + i] = rgb[c];
    }
}

enum { CHANGES = 4 };

static fb_status jitter_run(const fb_transform *t, fbi_call *call)
{
    static void (*const changes[CHANGES])(float *, fbi_planes, float) = {brightness, contrast,
                                                                         saturation, hue};
    const fb_color_jitter_options *o = &((const jitter *)t)->o;
    const double by[CHANGES] = {o->brightness, o->contrast, o->saturation, o->hue};
    const fb_value *in = call->in[0];
    fbi_planes image = fbi_value_planes(in);
    float *x = call->scratch, factors[CHANGES];
    int64_t n = fb_shape_numel(in->shape);
    int order[CHANGES] = {0, 1, 2, 3};
    float unit = in->dtype == FB_U8 ? 255 : 1;
    for (int i = 0; i < CHANGES; i++) {
        double middle = i == CHANGES - 1 ? 0 : 1, low = middle - by[i];
        factors[i] =
            (float)fb_rng_uniform(call->rng, low < 0 && middle > 0 ? 0 : low, middle + by[i]);
    }
    for (int i = CHANGES - 1; i > 0; i--) {
        int64_t with = fb_rng_int(call->rng, 0, i + 1);
        int kept = order[i];
        order[i] = order[with];
        order[with] = kept;
    }
    fbi_floats_from(in->data, in->dtype, n, x);
    for (int64_t i = 0; unit != 1 && i < n; i++)
        x[i] /= unit;
    for (int i = 0; i < CHANGES; i++)
        if (by[order[i]] > 0)
            changes[order[i]](x, image, factors[order[i]]);
    for (int64_t i = 0; unit != 1 && i < n; i++)
        x[i] *= unit;
    fbi_floats_to(x, n, in->dtype, call->out[0]->data);
    return FB_OK;
}

static const fbi_transform_kind jitter_kind = {
    .name = "color_jitter", .infer = jitter_infer, .run = jitter_run};

fb_transform *fb_transform_color_jitter(fb_context *ctx, const fb_color_jitter_options *opts)
{
    FBI_ENTRY(ctx);
    fb_color_jitter_options o = opts ? *opts : (fb_color_jitter_options){0};
    if (!(o.brightness >= 0 && o.contrast >= 0 && o.saturation >= 0 && o.brightness < 1e6 &&
          o.contrast < 1e6 && o.saturation < 1e6 && o.hue >= 0 && o.hue <= 0.5))
        return fbi_transform_refuse(ctx, &jitter_kind,
                                    "brightness %g, contrast %g and saturation %g must not be "
                                    "negative, hue %g be in 0 .. 0.5",
                                    o.brightness, o.contrast, o.saturation, o.hue);
    jitter *j = fbi_transform_new(ctx, &jitter_kind, sizeof *j);
    if (!j)
        return NULL;
    j->o = o;
    FBI_NOTE(&j->base, o.brightness, o.contrast, o.saturation, o.hue);
    return &j->base;
}
