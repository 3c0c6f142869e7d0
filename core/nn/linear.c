/* Linear and bilinear layers; weights that are shared. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/linalg.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/nn/nn_priv.h"

typedef struct linear {
    fb_tensor *weight, *bias;
} linear;

static const fb_field linear_fields[] = {FB_PARAM(linear, weight), FB_PARAM(linear, bias), {0}};

static fb_tensor *linear_forward(fb_module *m, fb_tensor *x)
{
    const linear *l = m->self;
    return fb_linear(x, l->weight, l->bias);
}

static const fb_module_type linear_type = {
    .name = "Linear", .size = sizeof(linear), .fields = linear_fields, .forward = linear_forward};

bool fbi_nn_is_linear(const fb_module *m)
{
    return m->type == &linear_type;
}

typedef struct act_args {
    fb_tensor *x;
    fb_activation act;
} act_args;

static fb_tensor *forward_with_act(fb_module *m, void *args)
{
    const linear *l = m->self;
    const act_args *a = args;
    return fb_linear_act(a->x, l->weight, l->bias, a->act);
}

fb_tensor *fbi_nn_linear_act(fb_module *m, fb_tensor *x, fb_activation act)
{
    return fb_nn_call(m, forward_with_act, &(act_args){x, act});
}

fb_tensor *fbi_nn_tied_weight(fb_context *ctx, const char *what, fb_module *of, fb_shape shape)
{
    for (const fb_field *f = of->type->fields; f && f->kind; f++) {
        fb_tensor *t = f->kind == FB_FIELD_PARAM ? *fbi_nn_slot(of, f) : NULL;
        if (!t || strcmp(f->name, "weight"))
            continue;
        if (!fb_shape_equal(fb_shape_of(t), shape)) {
            fbi_fail(ctx, FB_E_SHAPE, "%s: the tied weight is %s, needed %s", what, fbi_text(t),
                     fbi_shape_text(ctx, shape));
            return NULL;
        }
        if (!t->storage)
            fbi_tensor_ref(t); /* the field takes over the reference of a declared tensor */
        return t;
    }
    fbi_fail(ctx, FB_E_ARG, "%s: the tied %s has no weight", what, of->type->name);
    return NULL;
}

fb_module *fb_nn_linear(fb_context *ctx, int64_t in, int64_t out, const fb_linear_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    if (in < 1 || out < 1) {
        fbi_fail(ctx, FB_E_ARG, "fb_nn_linear: %" PRId64 " to %" PRId64 " features", in, out);
        return NULL;
    }
    fb_shape shape = FB_SHAPE(out, in);
    double bound = 1 / sqrt((double)in);
    linear l = {0};
    if (opts && opts->tie)
        l.weight = fbi_nn_tied_weight(ctx, "fb_nn_linear", opts->tie, shape);
    else
        l.weight = fb_nn_declare_param(ctx, FB_F32, shape, fb_init_kaiming_uniform(sqrt(5)));
    if (l.weight && !(opts && opts->no_bias))
        l.bias = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(out), fb_init_uniform(-bound, bound));
    return fb_nn_new(ctx, &linear_type, &l);
}

/* --- of two inputs --- */

typedef struct bilinear {
    fb_tensor *weight, *bias;
} bilinear;

static const fb_field bilinear_fields[] = {
    FB_PARAM(bilinear, weight), FB_PARAM(bilinear, bias), {0}};

static void bilinear_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    const bilinear *b = m->self;
    if (in.n != 2 || out.n != 1) {
        fbi_fail(m->ctx, FB_E_ARG,
                 "Bilinear: called with %d inputs and %d outputs: it makes y of (a, b)", in.n,
                 out.n);
        return;
    }
    *out.t[0] = fb_bilinear(in.t[0], in.t[1], b->weight, b->bias);
}

static const fb_module_type bilinear_type = {.name = "Bilinear",
                                             .size = sizeof(bilinear),
                                             .fields = bilinear_fields,
                                             .forward_n = bilinear_forward_n};

fb_module *fb_nn_bilinear(fb_context *ctx, int64_t in1, int64_t in2, int64_t out,
                          const fb_linear_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    if (in1 < 1 || in2 < 1 || out < 1) {
        fbi_fail(ctx, FB_E_ARG,
                 "fb_nn_bilinear: %" PRId64 " and %" PRId64 " to %" PRId64 " features", in1, in2,
                 out);
        return NULL;
    }
    double bound = 1 / sqrt((double)in1);
    fb_init init = fb_init_uniform(-bound, bound);
    bilinear b = {.weight = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(out, in1, in2), init)};
    if (!(opts && opts->no_bias))
        b.bias = fb_nn_declare_param(ctx, FB_F32, FB_SHAPE(out), init);
    return fb_nn_new(ctx, &bilinear_type, &b);
}
