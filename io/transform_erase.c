/* Parts of samples overwritten: rectangles of images, bands of spectrograms. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/transform_priv.h"

/* --- rectangles --- */

typedef struct erase {
    fb_transform base;
    fb_erasing_options o;
    int64_t size; /* cutout */
} erase;

static fb_status erase_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                             char *text, size_t size)
{
    const erase *e = (const erase *)t;
    fbi_planes image;
    char element[8];
    (void)step;
    fb_status st = fbi_field_planes(&fields->f[f], &image, text, size);
    if (st)
        return st;
    if (e->o.noise && fields->f[f].dtype != FB_F32) {
        snprintf(text, size, "noise needs F32: use fb_transform_to_float before it");
        return FB_E_DTYPE;
    }
    if (fbi_element(fields->f[f].dtype, e->o.value, element))
        return FB_OK;
    snprintf(text, size, "only zeros can be filled in");
    return FB_E_DTYPE;
}

/* Rows [top, bottom) and columns [left, right) of every plane. */
static void overwrite(const erase *e, fbi_call *call, int64_t top, int64_t bottom, int64_t left,
                      int64_t right)
{
    fb_value *out = call->out[0];
    fbi_planes image = fbi_value_planes(out);
    size_t bytes = fb_dtype_size(out->dtype);
    char element[8];
    fbi_element(out->dtype, e->o.value, element);
    for (int64_t p = 0; p < image.n; p++)
        for (int64_t y = top; y < bottom; y++) {
            int64_t at = (p * image.height + y) * image.width + left;
            for (int64_t x = 0; e->o.noise && x < right - left; x++)
                ((float *)out->data)[at + x] = (float)fb_rng_normal(call->rng, 0, 1);
            if (!e->o.noise)
                fbi_fill((char *)out->data + (size_t)at * bytes, element, bytes, right - left);
        }
}

static fb_status erase_run(const fb_transform *t, fbi_call *call)
{
    const erase *e = (const erase *)t;
    fb_rng *rng = call->rng;
    fbi_planes image = fbi_value_planes(call->in[0]);
    double area = (double)image.height * (double)image.width;
    fbi_value_copy(call->in[0], call->out[0]);
    if (fb_rng_uniform(rng, 0, 1) >= e->o.p)
        return FB_OK;
    for (int attempt = 0; attempt < 10; attempt++) {
        double part = area * fb_rng_uniform(rng, e->o.scale[0], e->o.scale[1]);
        double ratio = exp(fb_rng_uniform(rng, log(e->o.ratio[0]), log(e->o.ratio[1])));
        int64_t height = llrint(sqrt(part * ratio)), width = llrint(sqrt(part / ratio));
        if (height >= image.height || width >= image.width)
            continue;
        int64_t top = fb_rng_int(rng, 0, image.height - height + 1);
        int64_t left = fb_rng_int(rng, 0, image.width - width + 1);
        overwrite(e, call, top, top + height, left, left + width);
        break;
    }
    return FB_OK;
}

static int64_t between(int64_t x, int64_t most)
{
    return x < 0 ? 0 : x > most ? most : x;
}

static fb_status cutout_run(const fb_transform *t, fbi_call *call)
{
    const erase *e = (const erase *)t;
    fbi_planes image = fbi_value_planes(call->in[0]);
    fbi_value_copy(call->in[0], call->out[0]);
    int64_t top = fb_rng_int(call->rng, 0, image.height) - e->size / 2;
    int64_t left = fb_rng_int(call->rng, 0, image.width) - e->size / 2;
    overwrite(e, call, between(top, image.height), between(top + e->size, image.height),
              between(left, image.width), between(left + e->size, image.width));
    return FB_OK;
}

static const fbi_transform_kind erasing_kind = {
    .name = "random_erasing", .infer = erase_infer, .run = erase_run};
static const fbi_transform_kind cutout_kind = {
    .name = "cutout", .infer = erase_infer, .run = cutout_run};

static bool is_range(const double range[2], double least, double most)
{
    return range[0] >= least && range[0] <= range[1] && range[1] <= most;
}

fb_transform *fb_transform_random_erasing(fb_context *ctx, const fb_erasing_options *opts)
{
    FBI_ENTRY(ctx);
    fb_erasing_options o = opts ? *opts : (fb_erasing_options){0};
    o.p = o.p == 0 ? 0.5 : o.p;
    if (o.scale[0] == 0 && o.scale[1] == 0)
        o.scale[0] = 0.02, o.scale[1] = 0.33;
    if (o.ratio[0] == 0 && o.ratio[1] == 0)
        o.ratio[0] = 0.3, o.ratio[1] = 3.3;
    if (!(o.p >= 0 && o.p <= 1))
        return fbi_transform_refuse(ctx, &erasing_kind, "p = %g: 0 to 1 is needed", o.p);
    if (!is_range(o.scale, 0, 1) || !is_range(o.ratio, 1e-6, 1e6))
        return fbi_transform_refuse(ctx, &erasing_kind,
                                    "scale %g .. %g must lie in 0 .. 1, and ratio %g .. %g be "
                                    "positive, both from less to more",
                                    o.scale[0], o.scale[1], o.ratio[0], o.ratio[1]);
    erase *e = fbi_transform_new(ctx, &erasing_kind, sizeof *e);
    if (!e)
        return NULL;
    e->o = o;
    FBI_NOTE(&e->base, o.p, o.scale[0], o.scale[1], o.ratio[0], o.ratio[1], o.value, o.noise);
    return &e->base;
}

fb_transform *fb_transform_cutout(fb_context *ctx, int64_t size, double value)
{
    FBI_ENTRY(ctx);
    if (size < 1 || size > 1 << 20)
        return fbi_transform_refuse(ctx, &cutout_kind, "size %lld: 1 to %d is needed",
                                    (long long)size, 1 << 20);
    erase *e = fbi_transform_new(ctx, &cutout_kind, sizeof *e);
    if (!e)
        return NULL;
    e->size = size;
    e->o.value = value;
    FBI_NOTE(&e->base, (double)size, value);
    return &e->base;
}

/* --- bands --- */

typedef struct mask {
    fb_transform base;
    int64_t most;
    fb_spectrum_mask_options o;
} mask;

static fb_status mask_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                            char *text, size_t size)
{
    const fbi_field *field = &fields->f[f];
    (void)t;
    (void)step;
    if (field->dtype != FB_F32 || field->shape.n < 2) {
        snprintf(text, size,
                 "F32 [..., bands, frames] is needed, as of "
                 "fb_transform_mel_spectrogram");
        return FB_E_SHAPE;
    }
    return FB_OK;
}

/* As torchaudio draws it: a length in [0, most), and a place for it. */
static void draw_band(const mask *m, fb_rng *rng, int64_t n, int64_t band[2])
{
    double most = (double)m->most, limit = m->o.share * (double)n;
    double length = fb_rng_uniform(rng, 0, most < limit ? most : limit);
    double begin = fb_rng_uniform(rng, 0, (double)n - length);
    band[0] = between((int64_t)begin, n);
    band[1] = between((int64_t)begin + (int64_t)length, n);
}

/* Elements first .. last of an axis: `outer` times, `inner` neighbours each. */
static void write_band(float *x, int64_t outer, int64_t axis, int64_t inner, const int64_t band[2],
                       float value)
{
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = band[0] * inner; i < band[1] * inner; i++)
            x[o * axis * inner + i] = value;
}

static void mask_axis(const mask *m, fbi_call *call, int d, int64_t has)
{
    fb_value *out = call->out[0];
    const fb_shape *shape = &out->shape;
    int64_t outer = 1, inner = 1, band[2];
    for (int i = 0; i < shape->n; i++) {
        outer *= i < d ? shape->d[i] : 1;
        inner *= i > d ? shape->d[i] : 1;
    }
    fbi_value_copy(call->in[0], out);
    for (int i = 0; i < m->o.masks; i++) {
        draw_band(m, call->rng, has, band);
        write_band(out->data, outer, shape->d[d], inner, band, (float)m->o.value);
    }
}

static fb_status mask_time_run(const fb_transform *t, fbi_call *call)
{
    const fb_value *in = call->in[0];
    int d = in->varies ? 0 : in->shape.n - 1;
    mask_axis((const mask *)t, call, d, in->varies ? in->rows : in->shape.d[d]);
    return FB_OK;
}

static fb_status mask_bands_run(const fb_transform *t, fbi_call *call)
{
    const fb_value *in = call->in[0];
    int d = in->varies ? in->shape.n - 1 : in->shape.n - 2;
    mask_axis((const mask *)t, call, d, in->shape.d[d]);
    return FB_OK;
}

static const fbi_transform_kind time_kind = {
    .name = "time_masking", .infer = mask_infer, .run = mask_time_run};
static const fbi_transform_kind frequency_kind = {
    .name = "frequency_masking", .infer = mask_infer, .run = mask_bands_run};

static fb_transform *mask_new(fb_context *ctx, const fbi_transform_kind *kind, int64_t most,
                              const fb_spectrum_mask_options *opts)
{
    fb_spectrum_mask_options o = opts ? *opts : (fb_spectrum_mask_options){0};
    o.masks = o.masks ? o.masks : 1;
    o.share = o.share == 0 ? 1 : o.share;
    if (most < 1)
        return fbi_transform_refuse(ctx, kind, "%lld: at least 1 is needed", (long long)most);
    if (o.masks < 0 || !(o.share > 0 && o.share <= 1))
        return fbi_transform_refuse(ctx, kind, "%d masks of a share of %g: 1 or more, 0 to 1",
                                    o.masks, o.share);
    mask *m = fbi_transform_new(ctx, kind, sizeof *m);
    if (!m)
        return NULL;
    m->most = most;
    m->o = o;
    FBI_NOTE(&m->base, (double)most, o.masks, o.share, o.value);
    return &m->base;
}

fb_transform *fb_transform_time_masking(fb_context *ctx, int64_t most,
                                        const fb_spectrum_mask_options *opts)
{
    FBI_ENTRY(ctx);
    return mask_new(ctx, &time_kind, most, opts);
}

fb_transform *fb_transform_frequency_masking(fb_context *ctx, int64_t most,
                                             const fb_spectrum_mask_options *opts)
{
    FBI_ENTRY(ctx);
    return mask_new(ctx, &frequency_kind, most, opts);
}
