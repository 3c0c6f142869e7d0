/* He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv:1512.03385. */
#include "tests/bench/models/models.h"

/* Convolutions, each with its batch norm and a ReLU, before the last of which the input is added.
 */
typedef struct residual {
    fb_module *conv1, *bn1, *conv2, *bn2;
    fb_module *conv3, *bn3; /* NULL: two convolutions */
    fb_module *shortcut;    /* NULL: the input itself */
} residual;

static const fb_field residual_fields[] = {FB_CHILD(residual, conv1),    FB_CHILD(residual, bn1),
                                           FB_CHILD(residual, conv2),    FB_CHILD(residual, bn2),
                                           FB_CHILD(residual, conv3),    FB_CHILD(residual, bn3),
                                           FB_CHILD(residual, shortcut), {0}};

static fb_tensor *residual_forward(fb_module *m, fb_tensor *x)
{
    residual *self = fb_nn_self(m);
    fb_module *last = self->conv3 ? self->bn3 : self->bn2;
    fb_tensor *y = fb_nn_forward(self->bn1, fb_nn_forward(self->conv1, x)), *sum = NULL;
    y = fb_nn_forward(self->conv2, y);
    if (self->conv3)
        y = fb_nn_forward(self->conv3, fb_nn_forward(self->bn2, y));
    fb_tensor *input = self->shortcut ? fb_nn_forward(self->shortcut, x) : x;
    fb_nn_forward_n(last, FB_TENSORS(y, input), FB_OUTS(&sum));
    return sum;
}

static const fb_module_type residual_type = {.name = "Residual",
                                             .size = sizeof(residual),
                                             .fields = residual_fields,
                                             .forward = residual_forward};

typedef fb_module *(*conv_open)(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                                int64_t stride);

static fb_module *conv32_open(fb_context *ctx, int64_t in, int64_t out, int64_t k, int64_t stride)
{
    return fb_nn_conv2d(
        ctx, in, out, k,
        FB_OPTS(fb_conv_options, .stride = {stride}, .padding = {k / 2}, .no_bias = true));
}

static fb_module *shortcut(fb_context *ctx, conv_open conv, int64_t in, int64_t out, int64_t stride)
{
    if (in == out && stride == 1)
        return NULL;
    return fb_nn_sequential(ctx, conv(ctx, in, out, 1, stride), fb_nn_batch_norm2d(ctx, out, NULL));
}

/* A batch norm with a ReLU behind it. */
static fb_module *norm_relu(fb_context *ctx, int64_t channels)
{
    return fb_nn_batch_norm2d(ctx, channels, FB_OPTS(fb_norm_options, .relu = true));
}

static fb_module *basic(fb_context *ctx, int64_t in, int64_t out, int64_t stride)
{
    residual self = {.conv1 = conv32_open(ctx, in, out, 3, stride),
                     .bn1 = norm_relu(ctx, out),
                     .conv2 = conv32_open(ctx, out, out, 3, 1),
                     .bn2 = norm_relu(ctx, out),
                     .shortcut = shortcut(ctx, conv32_open, in, out, stride)};
    return fb_nn_new(ctx, &residual_type, &self);
}

fb_module *resnet18_open(fb_context *ctx)
{
    return fb_nn_sequential(
        ctx, conv32_open(ctx, 3, 64, 3, 1), fb_nn_batch_norm2d(ctx, 64, NULL), fb_nn_relu(ctx),
        basic(ctx, 64, 64, 1), basic(ctx, 64, 64, 1), basic(ctx, 64, 128, 2),
        basic(ctx, 128, 128, 1), basic(ctx, 128, 256, 2), basic(ctx, 256, 256, 1),
        basic(ctx, 256, 512, 2), basic(ctx, 512, 512, 1), fb_nn_adaptive_avg_pool2d(ctx, 1, 1),
        fb_nn_flatten(ctx), fb_nn_linear(ctx, 512, 10, NULL));
}

/* 1 x 1 to `width` channels, 3 x 3, 1 x 1 to four times as many. */
static fb_module *bottleneck(fb_context *ctx, int64_t in, int64_t width, int64_t stride)
{
    residual self = {.conv1 = conv16_open(ctx, in, width, 1, 1),
                     .bn1 = norm_relu(ctx, width),
                     .conv2 = conv16_open(ctx, width, width, 3, stride),
                     .bn2 = norm_relu(ctx, width),
                     .conv3 = conv16_open(ctx, width, 4 * width, 1, 1),
                     .bn3 = norm_relu(ctx, 4 * width),
                     .shortcut = shortcut(ctx, conv16_open, in, 4 * width, stride)};
    return fb_nn_new(ctx, &residual_type, &self);
}

/* A stage: its first block changes channels and, but in the first stage, halves the image. */
static fb_module *stage(fb_context *ctx, int64_t in, int64_t width, int64_t stride, int blocks)
{
    fb_module *all[6];
    for (int i = 0; i < blocks; i++)
        all[i] = bottleneck(ctx, i ? 4 * width : in, width, i ? 1 : stride);
    return fb_nn_sequential_n(ctx, (fb_modules){all, blocks});
}

fb_module *resnet50_open(fb_context *ctx, int64_t width, int64_t classes)
{
    return fb_nn_sequential(
        ctx, conv16_open(ctx, 3, width, 7, 2), fb_nn_batch_norm2d(ctx, width, NULL),
        fb_nn_relu(ctx),
        fb_nn_max_pool2d(ctx, 3, FB_OPTS(fb_conv_options, .stride = {2}, .padding = {1})),
        stage(ctx, width, width, 1, 3), stage(ctx, 4 * width, 2 * width, 2, 4),
        stage(ctx, 8 * width, 4 * width, 2, 6), stage(ctx, 16 * width, 8 * width, 2, 3),
        fb_nn_adaptive_avg_pool2d(ctx, 1, 1), fb_nn_flatten(ctx),
        linear16_open(ctx, 32 * width, classes, NULL));
}
