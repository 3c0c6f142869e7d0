/* Images resampled: other sizes, random parts, turned and sheared ones. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/resample_priv.h"
#include "io/transform_priv.h"

static bool computes(fb_dtype dtype)
{
    return dtype == FB_U8 || dtype == FB_F32;
}

/* U8 and F32 by filter; what else is whole are labels of pixels. */
static fb_status check_dtype(fb_dtype dtype, char *text, size_t size)
{
    if (computes(dtype) || (dtype != FB_F16 && dtype != FB_BF16 && dtype != FB_F64))
        return FB_OK;
    snprintf(text, size, "U8, F32 or another integer is needed: use fb_transform_to_float");
    return FB_E_DTYPE;
}

/* --- sizes --- */

typedef struct resize {
    fb_transform base;
    int64_t height, width;
    fb_resized_crop_options o; /* of a random part; resize has the last member alone */
} resize;

static fb_status resize_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                              char *text, size_t size)
{
    const resize *r = (const resize *)t;
    fbi_planes image;
    fb_status st = fbi_field_planes(&fields->f[f], &image, text, size);
    st = st ? st : check_dtype(fields->f[f].dtype, text, size);
    if (st)
        return st;
    step->scratch = fbi_resample_scratch(image.height, image.width, r->height, r->width);
    fbi_field_resize(&fields->f[f], r->height, r->width);
    return FB_OK;
}

/* A part of an image, in whole pixels. */
typedef struct part {
    int64_t top, left, height, width;
} part;

static void pick_nearest(const fb_value *in, fb_value *out, part p)
{
    fbi_planes from = fbi_value_planes(in), to = fbi_value_planes(out);
    size_t bytes = fb_dtype_size(in->dtype);
    char *write = out->data;
    for (int64_t c = 0; c < to.n; c++)
        for (int64_t y = 0; y < to.height; y++) {
            int64_t row = p.top + fbi_resample_nearest(y, to.height, 0, (double)p.height, p.height);
            int64_t at = (c * from.height + row) * from.width + p.left;
            for (int64_t x = 0; x < to.width; x++, write += bytes) {
                int64_t column = fbi_resample_nearest(x, to.width, 0, (double)p.width, p.width);
                memcpy(write, (const char *)in->data + (size_t)(at + column) * bytes, bytes);
            }
        }
}

/* A part as an image of its own: nothing outside of it counts. */
static void resize_part(const resize *r, fbi_call *call, part p)
{
    const fb_value *in = call->in[0];
    fb_value *out = call->out[0];
    if (r->o.resize.filter == FB_RESIZE_NEAREST || !computes(in->dtype)) {
        pick_nearest(in, out, p);
        return;
    }
    fbi_planes image = fbi_value_planes(in);
    size_t at = (size_t)(p.top * image.width + p.left) * fb_dtype_size(in->dtype);
    fbi_picture picture = {.data = (const char *)in->data + at,
                           .dtype = in->dtype,
                           .height = p.height,
                           .width = p.width,
                           .channels = image.n,
                           .row = image.width,
                           .column = 1,
                           .channel = image.height * image.width};
    fbi_resample(&picture, (fbi_box){0, 0, (double)p.height, (double)p.width}, &r->o.resize,
                 r->height, r->width, out->data, call->scratch);
}

static fb_status resize_run(const fb_transform *t, fbi_call *call)
{
    fbi_planes image = fbi_value_planes(call->in[0]);
    resize_part((const resize *)t, call, (part){0, 0, image.height, image.width});
    return FB_OK;
}

/* The middle, with a ratio within the limits: what torchvision takes if ten attempts fail. */
static part middle(const resize *r, fbi_planes image)
{
    double ratio = (double)image.width / (double)image.height;
    part p = {.height = image.height, .width = image.width};
    if (ratio < r->o.ratio[0])
        p.height = llrint((double)p.width / r->o.ratio[0]);
    else if (ratio > r->o.ratio[1])
        p.width = llrint((double)p.height * r->o.ratio[1]);
    p.height = p.height < 1 ? 1 : p.height;
    p.width = p.width < 1 ? 1 : p.width;
    p.top = (image.height - p.height) / 2;
    p.left = (image.width - p.width) / 2;
    return p;
}

static part random_part(const resize *r, fb_rng *rng, fbi_planes image)
{
    double area = (double)image.height * (double)image.width;
    double low = log(r->o.ratio[0]), high = log(r->o.ratio[1]);
    for (int attempt = 0; attempt < 10; attempt++) {
        double wanted = area * fb_rng_uniform(rng, r->o.scale[0], r->o.scale[1]);
        double ratio = exp(fb_rng_uniform(rng, low, high));
        part p = {.height = llrint(sqrt(wanted / ratio)), .width = llrint(sqrt(wanted * ratio))};
        if (p.height < 1 || p.width < 1 || p.height > image.height || p.width > image.width)
            continue;
        p.top = fb_rng_int(rng, 0, image.height - p.height + 1);
        p.left = fb_rng_int(rng, 0, image.width - p.width + 1);
        return p;
    }
    return middle(r, image);
}

static fb_status resized_crop_run(const fb_transform *t, fbi_call *call)
{
    const resize *r = (const resize *)t;
    resize_part(r, call, random_part(r, call->rng, fbi_value_planes(call->in[0])));
    return FB_OK;
}

static const fbi_transform_kind resize_kind = {
    .name = "resize", .infer = resize_infer, .run = resize_run};
static const fbi_transform_kind resized_crop_kind = {
    .name = "random_resized_crop", .infer = resize_infer, .run = resized_crop_run};

static fb_transform *resize_new(fb_context *ctx, const fbi_transform_kind *kind, int64_t height,
                                int64_t width, const fb_resized_crop_options *o)
{
    enum { MOST = 1 << 16 };
    if (height < 1 || width < 1 || height > MOST || width > MOST)
        return fbi_transform_refuse(ctx, kind, "%lld x %lld: 1 to %d are needed", (long long)height,
                                    (long long)width, MOST);
    if (o->resize.filter < 0 || o->resize.filter > FB_RESIZE_BICUBIC)
        return fbi_transform_refuse(ctx, kind, "there is no filter %d", o->resize.filter);
    resize *r = fbi_transform_new(ctx, kind, sizeof *r);
    if (!r)
        return NULL;
    r->height = height;
    r->width = width;
    r->o = *o;
    FBI_NOTE(&r->base, (double)height, (double)width, o->scale[0], o->scale[1], o->ratio[0],
             o->ratio[1], o->resize.filter, o->resize.no_antialias);
    return &r->base;
}

fb_transform *fb_transform_resize(fb_context *ctx, int64_t height, int64_t width,
                                  const fb_resize_options *opts)
{
    FBI_ENTRY(ctx);
    fb_resized_crop_options o = {0};
    if (opts)
        o.resize = *opts;
    return resize_new(ctx, &resize_kind, height, width, &o);
}

fb_transform *fb_transform_random_resized_crop(fb_context *ctx, int64_t height, int64_t width,
                                               const fb_resized_crop_options *opts)
{
    FBI_ENTRY(ctx);
    fb_resized_crop_options o = opts ? *opts : (fb_resized_crop_options){0};
    if (o.scale[0] == 0 && o.scale[1] == 0)
        o.scale[0] = 0.08, o.scale[1] = 1;
    if (o.ratio[0] == 0 && o.ratio[1] == 0)
        o.ratio[0] = 3.0 / 4, o.ratio[1] = 4.0 / 3;
    if (!(o.scale[0] > 0 && o.scale[0] <= o.scale[1] && o.scale[1] <= 1))
        return fbi_transform_refuse(ctx, &resized_crop_kind,
                                    "scale %g .. %g must lie in 0 .. 1, from less to more",
                                    o.scale[0], o.scale[1]);
    if (!(o.ratio[0] >= 1e-6 && o.ratio[0] <= o.ratio[1] && o.ratio[1] <= 1e6))
        return fbi_transform_refuse(ctx, &resized_crop_kind,
                                    "ratio %g .. %g must be positive, from less to more",
                                    o.ratio[0], o.ratio[1]);
    return resize_new(ctx, &resized_crop_kind, height, width, &o);
}

/* --- affine --- */

typedef struct affine {
    fb_transform base;
    fb_affine_options o;
} affine;

static fb_status affine_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                              char *text, size_t size)
{
    fbi_planes image;
    (void)t;
    (void)step;
    fb_status st = fbi_field_planes(&fields->f[f], &image, text, size);
    return st ? st : check_dtype(fields->f[f].dtype, text, size);
}

/* From a place of the result to one of the image, both from the middle: x' = m[0] x + m[1] y +
 * m[2], y' = m[3] x + m[4] y + m[5]. The inverse of translate * rotate * shear * scale. */
static void draw_matrix(const affine *a, fb_rng *rng, fbi_planes image, double m[6])
{
    const double degree = 0.017453292519943295;
    double angle = degree * fb_rng_uniform(rng, -a->o.degrees, a->o.degrees);
    double most_x = a->o.translate[0] * (double)image.width;
    double most_y = a->o.translate[1] * (double)image.height;
    double move_x = rint(fb_rng_uniform(rng, -most_x, most_x));
    double move_y = rint(fb_rng_uniform(rng, -most_y, most_y));
    double scale = fb_rng_uniform(rng, a->o.scale[0], a->o.scale[1]);
    double shear_x = degree * fb_rng_uniform(rng, -a->o.shear[0], a->o.shear[0]);
    double shear_y = degree * fb_rng_uniform(rng, -a->o.shear[1], a->o.shear[1]);
    double c = cos(angle - shear_y) / cos(shear_y), s = sin(angle - shear_y) / cos(shear_y);
    m[0] = (cos(angle) - s * tan(shear_x)) / scale;
    m[1] = (sin(angle) + c * tan(shear_x)) / scale;
    m[3] = -s / scale;
    m[4] = c / scale;
    m[2] = -(m[0] * move_x + m[1] * move_y);
    m[5] = -(m[3] * move_x + m[4] * move_y);
}

/* Where an element comes from: four neighbours (-1: outside, where `fill` stands), their shares. */
typedef struct origin {
    int64_t at[4];
    float share[4];
} origin;

static int64_t place(fbi_planes image, double x, double y)
{
    bool inside = x >= 0 && y >= 0 && x < (double)image.width && y < (double)image.height;
    return inside ? (int64_t)y * image.width + (int64_t)x : -1;
}

static origin four_around(fbi_planes image, double x, double y)
{
    double left = floor(x), top = floor(y);
    float dx = (float)(x - left), dy = (float)(y - top);
    return (origin){.at = {place(image, left, top), place(image, left + 1, top),
                           place(image, left, top + 1), place(image, left + 1, top + 1)},
                    .share = {(1 - dx) * (1 - dy), dx * (1 - dy), (1 - dx) * dy, dx * dy}};
}

/* Element `to` of every plane, of U8 or F32. */
#define BLEND(type, finish)                                                                  \
    do {                                                                                     \
        const type *read = in->data;                                                         \
        type *write = (type *)out->data + to;                                                \
        for (int64_t p = 0; p < image.n; p++, read += pixels, write += pixels) {             \
            float sum = 0;                                                                   \
            for (int k = 0; k < 4; k++)                                                      \
                sum += from->share[k] * (from->at[k] < 0 ? fill : (float)read[from->at[k]]); \
            *write = finish;                                                                 \
        }                                                                                    \
    } while (0)

static void put_blend(const fb_value *in, fb_value *out, fbi_planes image, const origin *from,
                      int64_t to, float fill)
{
    int64_t pixels = image.height * image.width;
    if (in->dtype == FB_F32)
        BLEND(float, sum);
    else
        BLEND(uint8_t, (uint8_t)lrintf(sum < 0 ? 0 : sum > 255 ? 255 : sum));
}

static void put_nearest(const fb_value *in, fb_value *out, fbi_planes image, int64_t from,
                        int64_t to, double fill)
{
    size_t bytes = fb_dtype_size(in->dtype), plane = (size_t)(image.height * image.width) * bytes;
    for (int64_t p = 0; p < image.n; p++) {
        char *write = (char *)out->data + (size_t)p * plane + (size_t)to * bytes;
        if (from < 0)
            fbi_element(in->dtype, fill, write);
        else
            memcpy(write, (const char *)in->data + (size_t)p * plane + (size_t)from * bytes, bytes);
    }
}

static fb_status affine_run(const fb_transform *t, fbi_call *call)
{
    const affine *a = (const affine *)t;
    const fb_value *in = call->in[0];
    fbi_planes image = fbi_value_planes(in);
    double m[6], middle_x = ((double)image.width - 1) / 2,
                 middle_y = ((double)image.height - 1) / 2;
    draw_matrix(a, call->rng, image, m);
    bool blends = a->o.filter == FB_RESIZE_BILINEAR && computes(in->dtype);
    for (int64_t y = 0; y < image.height; y++)
        for (int64_t x = 0; x < image.width; x++) {
            double dx = (double)x - middle_x, dy = (double)y - middle_y;
            double from_x = m[0] * dx + m[1] * dy + m[2] + middle_x;
            double from_y = m[3] * dx + m[4] * dy + m[5] + middle_y;
            int64_t to = y * image.width + x;
            if (!blends) {
                int64_t from = place(image, rint(from_x), rint(from_y));
                put_nearest(in, call->out[0], image, from, to, a->o.fill);
                continue;
            }
            origin from = four_around(image, from_x, from_y);
            put_blend(in, call->out[0], image, &from, to, (float)a->o.fill);
        }
    return FB_OK;
}

static const fbi_transform_kind affine_kind = {
    .name = "random_affine", .infer = affine_infer, .run = affine_run};

fb_transform *fb_transform_random_affine(fb_context *ctx, const fb_affine_options *opts)
{
    FBI_ENTRY(ctx);
    fb_affine_options o = opts ? *opts : (fb_affine_options){0};
    if (o.scale[0] == 0 && o.scale[1] == 0)
        o.scale[0] = o.scale[1] = 1;
    if (!(o.degrees >= 0 && o.degrees <= 180))
        return fbi_transform_refuse(ctx, &affine_kind, "degrees = %g: 0 to 180 is needed",
                                    o.degrees);
    if (!(o.scale[0] > 0 && o.scale[0] <= o.scale[1] && o.scale[1] <= 1e6))
        return fbi_transform_refuse(ctx, &affine_kind,
                                    "scale %g .. %g must be positive, from less to more",
                                    o.scale[0], o.scale[1]);
    for (int i = 0; i < 2; i++)
        if (!(o.translate[i] >= 0 && o.translate[i] <= 1 && o.shear[i] >= 0 && o.shear[i] < 90))
            return fbi_transform_refuse(ctx, &affine_kind,
                                        "translate %g and shear %g: 0 to 1, and 0 to 90 are needed",
                                        o.translate[i], o.shear[i]);
    if (o.filter != FB_RESIZE_BILINEAR && o.filter != FB_RESIZE_NEAREST)
        return fbi_transform_refuse(ctx, &affine_kind, "filter %d: bilinear or nearest is needed",
                                    o.filter);
    affine *a = fbi_transform_new(ctx, &affine_kind, sizeof *a);
    if (!a)
        return NULL;
    a->o = o;
    FBI_NOTE(&a->base, o.degrees, o.translate[0], o.translate[1], o.scale[0], o.scale[1],
             o.shear[0], o.shear[1], o.filter, o.fill);
    return &a->base;
}
