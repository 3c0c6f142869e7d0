/* Parts of images, mirrored or permuted: elements move, none is computed. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/transform_priv.h"

/* --- a window over an image: crop, centre crop, pad --- */

typedef struct crop {
    fb_transform base;
    int64_t height, width; /* of the result */
    fb_crop_options o;
} crop;

enum { LEFT, TOP, RIGHT, BOTTOM };

static fb_status check_fill(const fb_transform *t, const fbi_field *field, double fill, char *text,
                            size_t size)
{
    (void)t;
    char element[8];
    if (fbi_element(field->dtype, fill, element))
        return FB_OK;
    snprintf(text, size, "only zeros can be filled in");
    return FB_E_DTYPE;
}

static fb_status random_crop_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                                   char *text, size_t size)
{
    const crop *c = (const crop *)t;
    fbi_planes image;
    (void)step;
    fb_status st = fbi_field_planes(&fields->f[f], &image, text, size);
    if (st)
        return st;
    int64_t height = image.height + c->o.padding[TOP] + c->o.padding[BOTTOM];
    int64_t width = image.width + c->o.padding[LEFT] + c->o.padding[RIGHT];
    if (c->height > height || c->width > width) {
        snprintf(text, size, "%lld x %lld is asked for, the padded image is %lld x %lld",
                 (long long)c->height, (long long)c->width, (long long)height, (long long)width);
        return FB_E_SHAPE;
    }
    fbi_field_resize(&fields->f[f], c->height, c->width);
    return check_fill(t, &fields->f[f], c->o.fill, text, size);
}

static fb_status center_crop_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                                   char *text, size_t size)
{
    const crop *c = (const crop *)t;
    fbi_planes image;
    (void)step;
    fb_status st = fbi_field_planes(&fields->f[f], &image, text, size);
    if (st)
        return st;
    fbi_field_resize(&fields->f[f], c->height, c->width);
    return check_fill(t, &fields->f[f], c->o.fill, text, size);
}

static fb_status pad_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                           char *text, size_t size)
{
    const crop *c = (const crop *)t;
    fbi_planes image;
    (void)step;
    fb_status st = fbi_field_planes(&fields->f[f], &image, text, size);
    if (st)
        return st;
    fbi_field_resize(&fields->f[f], image.height + c->o.padding[TOP] + c->o.padding[BOTTOM],
                     image.width + c->o.padding[LEFT] + c->o.padding[RIGHT]);
    return check_fill(t, &fields->f[f], c->o.fill, text, size);
}

/* Which of n elements stands at place i, which may be outside; -1: the fill. */
static int64_t element_at(int64_t i, int64_t n, int mode)
{
    if (i >= 0 && i < n)
        return i;
    int64_t period = mode == FB_PADDING_REFLECT ? 2 * (n - 1) : 2 * n;
    switch ((fb_padding_mode)mode) {
    case FB_PADDING_CONSTANT:
        return -1;
    case FB_PADDING_EDGE:
        return i < 0 ? 0 : n - 1;
    case FB_PADDING_REFLECT:
    case FB_PADDING_SYMMETRIC:
        if (n == 1)
            return 0;
        i = (i % period + period) % period;
        return i < n ? i : mode == FB_PADDING_REFLECT ? period - i : period - 1 - i;
    }
    return -1;
}

/* A line of the window: its columns from `left` on. */
static void cut_line(const char *line, int64_t width, int64_t left, int64_t n, const crop *c,
                     const void *fill, size_t bytes, char *out)
{
    int64_t x = 0;
    while (x < n) {
        int64_t at = left + x;
        if (at >= 0 && at < width) { /* what is inside is one piece */
            int64_t run = width - at < n - x ? width - at : n - x;
            memcpy(out + (size_t)x * bytes, line + (size_t)at * bytes, (size_t)run * bytes);
            x += run;
            continue;
        }
        int64_t from = element_at(at, width, c->o.mode);
        memcpy(out + (size_t)x * bytes, from < 0 ? fill : line + (size_t)from * bytes, bytes);
        x++;
    }
}

/* The window whose first element stands at (top, left) of the image. */
static void cut(const crop *c, const fb_value *in, fb_value *out, int64_t top, int64_t left)
{
    fbi_planes from = fbi_value_planes(in), to = fbi_value_planes(out);
    size_t bytes = fb_dtype_size(in->dtype), line = (size_t)from.width * bytes;
    char fill[8], *write = out->data;
    fbi_element(in->dtype, c->o.fill, fill);
    for (int64_t p = 0; p < from.n; p++) {
        const char *plane = (const char *)in->data + (size_t)(p * from.height) * line;
        for (int64_t y = 0; y < to.height; y++, write += (size_t)to.width * bytes) {
            int64_t row = element_at(top + y, from.height, c->o.mode);
            if (row < 0)
                fbi_fill(write, fill, bytes, to.width);
            else
                cut_line(plane + (size_t)row * line, from.width, left, to.width, c, fill, bytes,
                         write);
        }
    }
}

static fb_status random_crop_run(const fb_transform *t, fbi_call *call)
{
    const crop *c = (const crop *)t;
    fbi_planes image = fbi_value_planes(call->in[0]);
    int64_t room_y = image.height + c->o.padding[TOP] + c->o.padding[BOTTOM] - c->height;
    int64_t room_x = image.width + c->o.padding[LEFT] + c->o.padding[RIGHT] - c->width;
    int64_t top = fb_rng_int(call->rng, 0, room_y + 1) - c->o.padding[TOP];
    int64_t left = fb_rng_int(call->rng, 0, room_x + 1) - c->o.padding[LEFT];
    cut(c, call->in[0], call->out[0], top, left);
    return FB_OK;
}

/* torchvision rounds halves to even where something is left out, and down where it is added. */
static int64_t margin(int64_t has, int64_t wanted)
{
    if (wanted > has)
        return -((wanted - has) / 2);
    int64_t rest = has - wanted, half = rest / 2;
    return half + (rest % 2 && half % 2);
}

static fb_status center_crop_run(const fb_transform *t, fbi_call *call)
{
    const crop *c = (const crop *)t;
    fbi_planes image = fbi_value_planes(call->in[0]);
    cut(c, call->in[0], call->out[0], margin(image.height, c->height),
        margin(image.width, c->width));
    return FB_OK;
}

static fb_status pad_run(const fb_transform *t, fbi_call *call)
{
    const crop *c = (const crop *)t;
    cut(c, call->in[0], call->out[0], -c->o.padding[TOP], -c->o.padding[LEFT]);
    return FB_OK;
}

static const fbi_transform_kind random_crop_kind = {
    .name = "random_crop", .infer = random_crop_infer, .run = random_crop_run};
static const fbi_transform_kind center_crop_kind = {
    .name = "center_crop", .infer = center_crop_infer, .run = center_crop_run};
static const fbi_transform_kind pad_kind = {.name = "pad", .infer = pad_infer, .run = pad_run};

static fb_transform *crop_new(fb_context *ctx, const fbi_transform_kind *kind, int64_t height,
                              int64_t width, const fb_crop_options *opts)
{
    enum { MOST = 1 << 20 };
    fb_crop_options o = opts ? *opts : (fb_crop_options){0};
    if (height < 1 || width < 1 || height > MOST || width > MOST)
        return fbi_transform_refuse(ctx, kind, "%lld x %lld: 1 to %d are needed", (long long)height,
                                    (long long)width, MOST);
    for (int i = 0; i < 4; i++)
        if (o.padding[i] < 0 || o.padding[i] > MOST)
            return fbi_transform_refuse(ctx, kind, "padding %lld: 0 to %d is needed",
                                        (long long)o.padding[i], MOST);
    if (o.mode < 0 || o.mode > FB_PADDING_SYMMETRIC)
        return fbi_transform_refuse(ctx, kind, "there is no padding mode %d", o.mode);
    crop *c = fbi_transform_new(ctx, kind, sizeof *c);
    if (!c)
        return NULL;
    c->height = height;
    c->width = width;
    c->o = o;
    FBI_NOTE(&c->base, (double)height, (double)width, (double)o.padding[0], (double)o.padding[1],
             (double)o.padding[2], (double)o.padding[3], o.mode, o.fill);
    return &c->base;
}

fb_transform *fb_transform_random_crop(fb_context *ctx, int64_t height, int64_t width,
                                       const fb_crop_options *opts)
{
    FBI_ENTRY(ctx);
    return crop_new(ctx, &random_crop_kind, height, width, opts);
}

fb_transform *fb_transform_center_crop(fb_context *ctx, int64_t height, int64_t width,
                                       const fb_crop_options *opts)
{
    FBI_ENTRY(ctx);
    return crop_new(ctx, &center_crop_kind, height, width, opts);
}

fb_transform *fb_transform_pad(fb_context *ctx, const fb_crop_options *opts)
{
    FBI_ENTRY(ctx);
    return crop_new(ctx, &pad_kind, 1, 1, opts);
}

/* --- flips --- */

typedef struct flip {
    fb_transform base;
    double p;
} flip;

static fb_status flip_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                            char *text, size_t size)
{
    fbi_planes image;
    (void)t;
    (void)step;
    return fbi_field_planes(&fields->f[f], &image, text, size);
}

/* A line backwards; one loop for each size, so that the compiler knows it. */
#define REVERSE(type)                                           \
    do {                                                        \
        for (int64_t i = 0; i < n; i++)                         \
            ((type *)out)[i] = ((const type *)line)[n - 1 - i]; \
    } while (0)

/* Eight bytes at a time: those of a word are swapped by one instruction. */
static void reverse_bytes(const uint8_t *line, int64_t n, uint8_t *out)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, line + n - 8 - i, sizeof word);
        word = __builtin_bswap64(word);
        memcpy(out + i, &word, sizeof word);
    }
    for (; i < n; i++)
        out[i] = line[n - 1 - i];
}

static void reverse(const void *line, int64_t n, size_t bytes, void *out)
{
    if (bytes == 1)
        reverse_bytes(line, n, out);
    else if (bytes == 2)
        REVERSE(uint16_t);
    else if (bytes == 4)
        REVERSE(uint32_t);
    else
        REVERSE(uint64_t);
}

static fb_status horizontal_run(const fb_transform *t, fbi_call *call)
{
    const fb_value *in = call->in[0];
    fbi_planes image = fbi_value_planes(in);
    size_t bytes = fb_dtype_size(in->dtype), line = (size_t)image.width * bytes;
    if (fb_rng_uniform(call->rng, 0, 1) >= ((const flip *)t)->p) {
        fbi_value_copy(in, call->out[0]);
        return FB_OK;
    }
    for (int64_t y = 0; y < image.n * image.height; y++)
        reverse((const char *)in->data + (size_t)y * line, image.width, bytes,
                (char *)call->out[0]->data + (size_t)y * line);
    return FB_OK;
}

static fb_status vertical_run(const fb_transform *t, fbi_call *call)
{
    const fb_value *in = call->in[0];
    fbi_planes image = fbi_value_planes(in);
    size_t line = (size_t)image.width * fb_dtype_size(in->dtype);
    if (fb_rng_uniform(call->rng, 0, 1) >= ((const flip *)t)->p) {
        fbi_value_copy(in, call->out[0]);
        return FB_OK;
    }
    for (int64_t p = 0; p < image.n; p++)
        for (int64_t y = 0; y < image.height; y++)
            memcpy((char *)call->out[0]->data + (size_t)(p * image.height + y) * line,
                   (const char *)in->data +
                       (size_t)(p * image.height + image.height - 1 - y) * line,
                   line);
    return FB_OK;
}

static const fbi_transform_kind horizontal_kind = {
    .name = "random_horizontal_flip", .infer = flip_infer, .run = horizontal_run};
static const fbi_transform_kind vertical_kind = {
    .name = "random_vertical_flip", .infer = flip_infer, .run = vertical_run};

static fb_transform *flip_new(fb_context *ctx, const fbi_transform_kind *kind, double p)
{
    if (!(p >= 0 && p <= 1))
        return fbi_transform_refuse(ctx, kind, "p = %g: 0 to 1 is needed", p);
    flip *t = fbi_transform_new(ctx, kind, sizeof *t);
    if (!t)
        return NULL;
    t->p = p;
    FBI_NOTE(&t->base, p);
    return &t->base;
}

fb_transform *fb_transform_random_horizontal_flip(fb_context *ctx, double p)
{
    FBI_ENTRY(ctx);
    return flip_new(ctx, &horizontal_kind, p);
}

fb_transform *fb_transform_random_vertical_flip(fb_context *ctx, double p)
{
    FBI_ENTRY(ctx);
    return flip_new(ctx, &vertical_kind, p);
}

/* --- permute --- */

typedef struct permute {
    fb_transform base;
    fb_shape order;
} permute;

static fb_status permute_infer(const fb_transform *t, fbi_fields *fields, int f, fbi_step *step,
                               char *text, size_t size)
{
    const fb_shape order = ((const permute *)t)->order;
    fbi_field *field = &fields->f[f];
    (void)step;
    if (field->varies || field->shape.n != order.n) {
        snprintf(text, size, "%d dimensions of fixed size are needed", order.n);
        return FB_E_SHAPE;
    }
    fb_shape before = field->shape;
    for (int i = 0; i < order.n; i++)
        field->shape.d[i] = before.d[order.d[i]];
    return FB_OK;
}

/* n elements, `along` bytes from each to the next. */
#define GATHER(type)                                              \
    do {                                                          \
        for (int64_t i = 0; i < n; i++, read += along)            \
            ((type *)out)[i] = *(const type *)(const void *)read; \
    } while (0)

static void gather(const char *read, int64_t n, size_t along, size_t bytes, void *out)
{
    if (bytes == 1)
        GATHER(uint8_t);
    else if (bytes == 2)
        GATHER(uint16_t);
    else if (bytes == 4)
        GATHER(uint32_t);
    else
        GATHER(uint64_t);
}

static fb_status permute_run(const fb_transform *t, fbi_call *call)
{
    const fb_shape order = ((const permute *)t)->order;
    const fb_value *in = call->in[0];
    const fb_shape *shape = &call->out[0]->shape;
    size_t bytes = fb_dtype_size(in->dtype), stride[FB_MAX_DIMS], along[FB_MAX_DIMS];
    int last = order.n - 1;
    stride[last] = bytes;
    for (int i = last - 1; i >= 0; i--)
        stride[i] = stride[i + 1] * (size_t)in->shape.d[i + 1];
    for (int i = 0; i <= last; i++)
        along[i] = stride[order.d[i]];
    const char *read = in->data;
    char *write = call->out[0]->data;
    int64_t line = shape->d[last], lines = fb_shape_numel(*shape) / line, at[FB_MAX_DIMS] = {0};
    for (int64_t i = 0; i < lines; i++, write += (size_t)line * bytes) {
        gather(read, line, along[last], bytes, write);
        for (int d = last - 1; d >= 0; d--) {
            read += along[d];
            if (++at[d] < shape->d[d])
                break;
            read -= along[d] * (size_t)at[d];
            at[d] = 0;
        }
    }
    return FB_OK;
}

static const fbi_transform_kind permute_kind = {
    .name = "permute", .infer = permute_infer, .run = permute_run};

fb_transform *fb_transform_permute(fb_context *ctx, fb_shape order)
{
    FBI_ENTRY(ctx);
    unsigned seen = 0;
    for (int i = 0; i < order.n && order.n <= FB_MAX_DIMS; i++)
        if (order.d[i] >= 0 && order.d[i] < order.n)
            seen |= 1u << order.d[i];
    if (order.n < 1 || order.n > FB_MAX_DIMS || seen != (1u << order.n) - 1)
        return fbi_transform_refuse(ctx, &permute_kind,
                                    "each of the dimensions 0, 1, ... is needed once");
    permute *t = fbi_transform_new(ctx, &permute_kind, sizeof *t);
    if (!t)
        return NULL;
    t->order = order;
    for (int i = 0; i < order.n; i++)
        FBI_NOTE(&t->base, (double)order.d[i]);
    return &t->base;
}
