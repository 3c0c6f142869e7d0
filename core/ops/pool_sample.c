/* Samples of the pools that others do. */
#include "core/ops/op_priv.h"

#define IMAGES(...)                                                         \
    {                                                                       \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -1, .hi = 1, .distinct = true \
    }
static const fb_shape one[2] = {{1, {3}}, {2, {3, 2}}}, two[2] = {{1, {2}}, {2, {2, 2}}};
static const fb_shape pads[2] = {{1, {1}}, {2, {1, 0}}};
static const fbi_sample_in images[2] = {IMAGES(1, 2, 8), IMAGES(1, 2, 5, 6)};
static const fbi_sample_in alone[2] = {IMAGES(2, 8), IMAGES(2, 5, 6)};

static void max_pool(fbi_samples *s, int nd, const char *large, const char *pad)
{
    int i = nd - 1;
    const fbi_attrs_max_pool1d ok[] = {
        {.kernel = two[i]},
        {.kernel = one[i], .stride = two[i], .padding = pads[i]},
        {.kernel = two[i], .stride = pads[i].n == 1 ? pads[0] : two[1], .dilation = two[i]},
        {.kernel = one[i], .stride = two[i], .ceil_mode = 1}};
    for (size_t k = 0; k < sizeof ok / sizeof ok[0]; k++)
        fbi_sample_add(s, &ok[k], 1, &images[i]);
    fbi_sample_add(s, &ok[0], 1, &alone[i]);
    fbi_attrs_max_pool1d bad = {.kernel = {nd, {9, 9}}};
    fbi_sample_bad(s, &bad, 1, &images[i], FB_E_SHAPE, large);
    bad = (fbi_attrs_max_pool1d){.kernel = two[i], .padding = two[i]};
    fbi_sample_bad(s, &bad, 1, &images[i], FB_E_ARG, pad);
}

void fbi_sample_max_pool1d(fbi_samples *s)
{
    max_pool(s, 1, "max_pool1d: a window of [9] is larger than the padded input [1, 2, 8]",
             "max_pool1d: padding 2 is not within");
}
void fbi_sample_max_pool2d(fbi_samples *s)
{
    max_pool(s, 2, "max_pool2d: a window of [9, 9] is larger than the padded input [1, 2, 5, 6]",
             "max_pool2d: padding 2 is not within");
}

static void avg_pool(fbi_samples *s, int nd, const char *large)
{
    int i = nd - 1;
    const fbi_attrs_avg_pool1d ok[] = {
        {.kernel = two[i], .count_include_pad = 1},
        {.kernel = one[i], .stride = two[i], .padding = pads[i], .count_include_pad = 1},
        {.kernel = one[i], .stride = two[i], .padding = pads[i], .ceil_mode = 1},
        {.kernel = two[i], .divisor_override = 3}};
    for (size_t k = 0; k < sizeof ok / sizeof ok[0]; k++)
        fbi_sample_add(s, &ok[k], 1, &images[i]);
    fbi_sample_add(s, &ok[0], 1, &alone[i]);
    fbi_sample_bad(s, &(fbi_attrs_avg_pool1d){.kernel = {nd, {9, 9}}}, 1, &images[i], FB_E_SHAPE,
                   large);
}

void fbi_sample_avg_pool1d(fbi_samples *s)
{
    avg_pool(s, 1, "avg_pool1d: a window of [9] is larger than the padded input [1, 2, 8]");
}
void fbi_sample_avg_pool2d(fbi_samples *s)
{
    avg_pool(s, 2, "avg_pool2d: a window of [9, 9] is larger than the padded input [1, 2, 5, 6]");
}

static void grid(fbi_samples *s, int nd, const char *text)
{
    int i = nd - 1;
    const fb_shape ok[2][3] = {{{1, {1}}, {1, {3}}, {1, {11}}},
                               {{2, {1, 1}}, {2, {3, 4}}, {2, {7, -1}}}};
    for (int k = 0; k < 3; k++)
        fbi_sample_add(s, &(fbi_attrs_adaptive_avg_pool1d){ok[i][k]}, 1, &images[i]);
    fbi_sample_add(s, &(fbi_attrs_adaptive_avg_pool1d){ok[i][1]}, 1, &alone[i]);
    fbi_sample_bad(s, &(fbi_attrs_adaptive_avg_pool1d){{nd, {0, 1}}}, 1, &images[i], FB_E_ARG,
                   text);
}

void fbi_sample_adaptive_avg_pool1d(fbi_samples *s)
{
    grid(s, 1, "adaptive_avg_pool1d: a grid of [0] cells over input [1, 2, 8]");
}
void fbi_sample_adaptive_avg_pool2d(fbi_samples *s)
{
    grid(s, 2, "adaptive_avg_pool2d: a grid of [0, 1] cells over input [1, 2, 5, 6]");
}
void fbi_sample_adaptive_max_pool1d(fbi_samples *s)
{
    grid(s, 1, "adaptive_max_pool1d: a grid of [0] cells over input [1, 2, 8]");
}
void fbi_sample_adaptive_max_pool2d(fbi_samples *s)
{
    grid(s, 2, "adaptive_max_pool2d: a grid of [0, 1] cells over input [1, 2, 5, 6]");
}

void fbi_sample_fractional_max_pool2d(fbi_samples *s)
{
    fbi_sample_in in[2] = {images[1],
                           {.shape = FB_SHAPE(1, 2, 2), .lo = 0.05, .hi = 0.95, .constant = true}};
    fbi_attrs_fractional_max_pool2d a = {.kernel = FB_SHAPE(2, 3), .output = FB_SHAPE(3, 2)};
    fbi_sample_add(s, &a, 2, in);
    a.output.d[0] = 5;
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE,
                   "fractional_max_pool2d: 5 windows of 2 elements in dimension 2 of");
    in[1].shape = FB_SHAPE(1, 2, 3);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE,
                   "fractional_max_pool2d: random numbers [1, 2, 3] do not fit");
}

/* Indices are few, so that no two are the same place of one image. */
static void unpool(fbi_samples *s, fb_shape x, fb_shape output, const char *text)
{
    fbi_sample_in in[2] = {{.shape = x, .lo = -1, .hi = 1},
                           {.shape = x, .dtype = FB_I64, .lo = 0, .hi = 4}};
    fbi_sample_add(s, &(fbi_attrs_max_unpool1d){output}, 2, in);
    in[1].shape.d[1] = 9;
    fbi_sample_bad(s, &(fbi_attrs_max_unpool1d){output}, 2, in, FB_E_SHAPE, text);
}

void fbi_sample_max_unpool1d(fbi_samples *s)
{
    unpool(s, FB_SHAPE(2, 3, 1), FB_SHAPE(4), "max_unpool1d: indices [2, 9, 1] do not fit");
}
void fbi_sample_max_unpool2d(fbi_samples *s)
{
    unpool(s, FB_SHAPE(2, 3, 1, 1), FB_SHAPE(2, 2), "max_unpool2d: indices [2, 9, 1, 1] do not");
}
void fbi_sample_max_unpool3d(fbi_samples *s)
{
    fbi_sample_in in[2] = {{.shape = FB_SHAPE(1, 2, 1, 1, 1), .lo = -1, .hi = 1},
                           {.shape = FB_SHAPE(1, 2, 1, 1, 1), .dtype = FB_I64, .lo = 8, .hi = 9}};
    unpool(s, FB_SHAPE(2, 3, 1, 1, 1), FB_SHAPE(2, 2, 1), "max_unpool3d: indices [2, 9, 1, 1, 1]");
    fbi_sample_add(s, &(fbi_attrs_max_unpool3d){FB_SHAPE(1, 3, 3)}, 2, in);
    fbi_sample_bad(s, &(fbi_attrs_max_unpool3d){FB_SHAPE(3, 3)}, 2, in, FB_E_ARG,
                   "max_unpool3d: a result of sizes [3, 3] for 3 dimensions");
}

static void lp_pool(fbi_samples *s, fb_shape x, fb_shape kernel, const char *text)
{
    fbi_sample_in in = {.shape = x, .lo = 0.2, .hi = 1};
    fbi_sample_add(s, &(fbi_attrs_lp_pool1d){2, kernel, {0}, 0}, 1, &in);
    fbi_sample_add(s, &(fbi_attrs_lp_pool1d){3, kernel, {0}, 1}, 1, &in);
    fbi_sample_bad(s, &(fbi_attrs_lp_pool1d){0, kernel, {0}, 0}, 1, &in, FB_E_ARG, text);
}

void fbi_sample_lp_pool1d(fbi_samples *s)
{
    lp_pool(s, FB_SHAPE(1, 2, 7), FB_SHAPE(2), "lp_pool1d: the norm is 0");
}
void fbi_sample_lp_pool2d(fbi_samples *s)
{
    lp_pool(s, FB_SHAPE(1, 2, 5, 4), FB_SHAPE(2, 2), "lp_pool2d: the norm is 0");
}
void fbi_sample_lp_pool3d(fbi_samples *s)
{
    lp_pool(s, FB_SHAPE(1, 1, 3, 4, 4), FB_SHAPE(2, 2, 2), "lp_pool3d: the norm is 0");
}
