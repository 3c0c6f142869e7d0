/* Convolution and pooling layers. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/pool.h>
#include <inttypes.h>
#include <math.h>

#include "core/nn/nn_priv.h"

typedef fb_tensor *(*conv_fn)(fb_tensor *x, fb_tensor *w, fb_tensor *b, const fb_conv_options *o);

/* A kind of layer: of nd dimensions, transposed or not. */
typedef struct conv_kind {
    const char *maker; /* the function of this name makes it */
    int nd;
    bool transposed;
    conv_fn fn;
    const fb_module_type *type;
} conv_kind;

typedef struct conv {
    fb_tensor *weight, *bias;
    fb_conv_options o;
    const conv_kind *kind;
} conv;

static const fb_field conv_fields[] = {FB_PARAM(conv, weight), FB_PARAM(conv, bias), {0}};

/* The padding that is not zeros goes around the input; "same" wants one more behind an even window.
 */
static fb_tensor *padded(const conv *c, fb_tensor *x, fb_conv_options *o)
{
    int nd = c->kind->nd;
    fb_shape pads = {2 * nd, {0}}, w = fb_shape_of(c->weight);
    for (int d = 0; d < nd; d++) {
        int64_t given = o->padding[d] ? o->padding[d] : o->padding[0];
        int64_t dilation = o->dilation[d] ? o->dilation[d] : o->dilation[0] ? o->dilation[0] : 1;
        int64_t both = o->same ? dilation * (w.d[2 + d] - 1) : 2 * given;
        int at = 2 * (nd - 1 - d);
        pads.d[at] = given == FB_ZERO_INT && !o->same ? 0 : both / 2;
        pads.d[at + 1] = given == FB_ZERO_INT && !o->same ? 0 : both - both / 2;
        o->padding[d] = FB_ZERO_INT;
    }
    o->same = false;
    return fb_pad(x, pads, o->padding_mode, 0);
}

static fb_tensor *conv_forward(fb_module *m, fb_tensor *x)
{
    const conv *c = m->self;
    fb_conv_options o = c->o;
    if (o.padding_mode != FB_PAD_CONSTANT && !c->kind->transposed)
        x = padded(c, x, &o);
    return x ? c->kind->fn(x, c->weight, c->bias, &o) : NULL;
}

#define CONV(name_, text)                        \
    static const fb_module_type name_##_type = { \
        .name = (text), .size = sizeof(conv), .fields = conv_fields, .forward = conv_forward}
CONV(conv1d, "Conv1d");
CONV(conv2d, "Conv2d");
CONV(conv3d, "Conv3d");
CONV(conv_transpose1d, "ConvTranspose1d");
CONV(conv_transpose2d, "ConvTranspose2d");
CONV(conv_transpose3d, "ConvTranspose3d");

#define KIND(name, nd, transposed)                                  \
    {                                                               \
        "fb_nn_" #name, (nd), (transposed), fb_##name, &name##_type \
    }
static const conv_kind kinds[] = {KIND(conv1d, 1, false),          KIND(conv2d, 2, false),
                                  KIND(conv3d, 3, false),          KIND(conv_transpose1d, 1, true),
                                  KIND(conv_transpose2d, 2, true), KIND(conv_transpose3d, 3, true)};

bool fbi_nn_is_conv2d(const fb_module *m)
{
    return m->type == &conv2d_type;
}

static fb_tensor *forward_with_relu(fb_module *m, void *x)
{
    const conv *c = m->self;
    fb_conv_options o = c->o;
    if (o.padding_mode != FB_PAD_CONSTANT)
        x = padded(c, x, &o);
    return x ? fb_conv2d_relu(x, c->weight, c->bias, &o) : NULL;
}

fb_tensor *fbi_nn_conv2d_relu(fb_module *m, fb_tensor *x)
{
    return fb_nn_call(m, forward_with_relu, x);
}

static fb_module *conv_new(fb_context *ctx, const conv_kind *kind, int64_t in, int64_t out,
                           int64_t k, const fb_conv_options *opts)
{
    if (!fbi_enter(ctx))
        return NULL;
    conv c = {.o = opts ? *opts : (fb_conv_options){.groups = 0}, .kind = kind};
    int64_t groups = c.o.groups ? c.o.groups : 1;
    if (in < 1 || out < 1 || k < 1 || groups < 1 || in % groups || out % groups) {
        fbi_fail(ctx, FB_E_ARG,
                 "%s: %" PRId64 " to %" PRId64 " channels, kernel %" PRId64 ", %" PRId64
                 " groups: all must be positive and groups divide both",
                 kind->maker, in, out, k, groups);
        return NULL;
    }
    fb_shape s = {2 + kind->nd,
                  {kind->transposed ? in : out, (kind->transposed ? out : in) / groups, k, k, k}};
    double fan_in = (double)s.d[1];
    for (int d = 0; d < kind->nd; d++)
        fan_in *= (double)k;
    c.weight = fb_nn_declare_param(ctx, FB_F32, s, fb_init_kaiming_uniform(sqrt(5)));
    if (c.weight && !c.o.no_bias)
        c.bias = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(out),
                                     fb_init_uniform(-1 / sqrt(fan_in), 1 / sqrt(fan_in)));
    return fb_nn_new(ctx, kind->type, &c);
}

fb_module *fb_nn_conv1d(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                        const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return conv_new(ctx, &kinds[0], in, out, k, opts);
}
fb_module *fb_nn_conv2d(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                        const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return conv_new(ctx, &kinds[1], in, out, k, opts);
}
fb_module *fb_nn_conv3d(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                        const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return conv_new(ctx, &kinds[2], in, out, k, opts);
}
fb_module *fb_nn_conv_transpose1d(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                                  const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return conv_new(ctx, &kinds[3], in, out, k, opts);
}
fb_module *fb_nn_conv_transpose2d(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                                  const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return conv_new(ctx, &kinds[4], in, out, k, opts);
}
fb_module *fb_nn_conv_transpose3d(fb_context *ctx, int64_t in, int64_t out, int64_t k,
                                  const fb_conv_options *opts)
{
    FBI_ENTRY(ctx);
    return conv_new(ctx, &kinds[5], in, out, k, opts);
}
