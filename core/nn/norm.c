/* Normalising layers, and the running statistics of batch norm. */
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>
#include <inttypes.h>

#include "core/nn/nn_priv.h"
#include "core/ops/op_priv.h"
#include "core/tensor/device_priv.h"

typedef struct batch_norm {
    fb_tensor *weight, *bias;
    fb_tensor *running_mean, *running_var, *num_batches_tracked;
    int64_t channels;
    double eps, momentum;
    int min_dims, max_dims;
    bool relu;
} batch_norm;

/* One call: the norm of x, + residual where there is one, before a ReLU if asked for. */
typedef struct norm_call {
    fb_tensor *x, *residual;
    bool relu;
} norm_call;

static const fb_field batch_norm_fields[] = {FB_PARAM(batch_norm, weight),
                                             FB_PARAM(batch_norm, bias),
                                             FB_BUFFER(batch_norm, running_mean),
                                             FB_BUFFER(batch_norm, running_var),
                                             FB_BUFFER(batch_norm, num_batches_tracked),
                                             {0}};

static double element(const fb_tensor *t, int64_t i)
{
    return t->dtype == FB_F64 ? ((const double *)fbi_ptr(t))[i]
                              : (double)((const float *)fbi_ptr(t))[i];
}

/* running = (1 - momentum) * running + momentum * batch */
static void blend(fb_tensor *running, const fb_tensor *batch, double momentum)
{
    float *r = fbi_ptr(running);
    for (int64_t i = 0; i < running->numel; i++)
        r[i] = (float)((1 - momentum) * (double)r[i] + momentum * element(batch, i));
    fbi_bump(running);
}

/* out = in * factor, by the device's kernel. */
static fb_status scaled(fb_tensor *out, fb_tensor *in, double factor)
{
    fbi_attrs_scalars a = {factor, 0};
    return fbi_kernel_run(out->ctx, FBI_OP_mul_scalar, &a, &in, 1, &out, 1, 0);
}

/* The same on a device; products and sum are rounded to F32. */
static fb_status blend_on_device(fb_tensor *running, fb_tensor *batch, double momentum)
{
    FB_SCOPE(running->ctx);
    fb_tensor *part = fbi_empty(running->ctx, (fb_dtype)running->dtype, fb_shape_of(running));
    fb_status st = part ? scaled(part, batch, momentum) : running->ctx->status;
    if (!st)
        st = scaled(running, running, 1 - momentum);
    fbi_bump(running);
    return st ? st
              : fbi_kernel_run(running->ctx, FBI_OP_add, NULL, (fb_tensor *[]){running, part}, 2,
                               &running, 1, 0);
}

static fb_status update_on_device(batch_norm *b, fb_tensor *mean, fb_tensor *var)
{
    fb_tensor *count = b->num_batches_tracked;
    fbi_attrs_scalars one = {1, 0};
    fb_status st = blend_on_device(b->running_mean, mean, b->momentum);
    if (!st)
        st = blend_on_device(b->running_var, var, b->momentum);
    if (!st)
        st = fbi_kernel_run(count->ctx, FBI_OP_add_scalar, &one, &count, 1, &count, 1, 0);
    fbi_bump(count);
    return st;
}

static fb_status update_running(fb_module *m, fb_tensor *mean, fb_tensor *var)
{
    batch_norm *b = m->self;
    if (!m->ctx->backend->host_memory)
        return update_on_device(b, mean, var);
    blend(b->running_mean, mean, b->momentum);
    blend(b->running_var, var, b->momentum);
    *(int64_t *)fbi_ptr(b->num_batches_tracked) += 1;
    fbi_bump(b->num_batches_tracked);
    return FB_OK;
}

/* The variance as an estimate for the population: n / (n - 1). */
static fb_status unbias(fb_tensor *var, int64_t n)
{
    double factor = n > 1 ? (double)n / (double)(n - 1) : 1;
    if (!var->ctx->backend->host_memory)
        return scaled(var, var, factor);
    for (int64_t i = 0; i < var->numel; i++) {
        if (var->dtype == FB_F64)
            ((double *)fbi_ptr(var))[i] *= factor;
        else
            ((float *)fbi_ptr(var))[i] = (float)((double)((float *)fbi_ptr(var))[i] * factor);
    }
    return FB_OK;
}

/* What follows a norm that is not one row with it. */
static fb_tensor *finished(fb_tensor *y, const norm_call *c)
{
    y = c->residual ? fb_add(y, c->residual) : y;
    return c->relu ? fb_relu(y) : y;
}

/* By the statistics of the batch, which mean and var (NULL: not wanted) receive. */
static fb_tensor *of_batch(const batch_norm *b, const norm_call *c, fb_tensor **mean,
                           fb_tensor **var)
{
    if (c->relu)
        return fb_batch_norm_relu(c->x, b->weight, b->bias, c->residual, b->eps, mean, var);
    return finished(fb_batch_norm(c->x, b->weight, b->bias, b->eps, mean, var), c);
}

static fb_tensor *batch_norm_call(fb_module *m, void *args)
{
    batch_norm *b = m->self;
    const norm_call *c = args;
    fb_tensor *x = c->x;
    if (!x)
        return NULL;
    if (x->ndim < b->min_dims || x->ndim > b->max_dims || x->size[1] != b->channels) {
        fbi_fail(m->ctx, FB_E_SHAPE, "%s: input %s; it takes %d%s dimensions, the second %" PRId64,
                 m->type->name, fbi_text(x), b->min_dims, b->max_dims > b->min_dims ? " or 3" : "",
                 b->channels);
        return NULL;
    }
    if (c->residual && !fbi_same_shape(x, c->residual)) {
        fbi_fail(m->ctx, FB_E_SHAPE, "%s: input %s and residual %s differ", m->type->name,
                 fbi_text(x), fbi_text(c->residual));
        return NULL;
    }
    if (b->running_mean && !m->training)
        return finished(
            fb_batch_norm_eval(x, b->weight, b->bias, b->running_mean, b->running_var, b->eps), c);
    int64_t n = x->numel / b->channels;
    if (n < 2 && m->training) {
        fbi_fail(m->ctx, FB_E_SHAPE,
                 "%s: input %s has one value a channel: no variance in training", m->type->name,
                 fbi_text(x));
        return NULL;
    }
    if (!b->running_mean)
        return of_batch(b, c, NULL, NULL);
    fb_tensor *mean = NULL, *biased = NULL;
    fb_tensor *y = of_batch(b, c, &mean, &biased);
    if (m->ctx->recomputing) /* the first run of the checkpoint has counted this batch */
        return y;
    /* The operator may have kept its own variance for backward: change a copy. */
    fb_tensor *var = y ? fbi_empty(m->ctx, (fb_dtype)biased->dtype, fb_shape_of(biased)) : NULL;
    if (!var || m->ctx->backend->copy(m->ctx, fbi_ptr(var), fbi_ptr(biased),
                                      (size_t)var->numel * fb_dtype_size((fb_dtype)var->dtype)))
        return NULL;
    fb_status st = unbias(var, n);
    if (!st)
        st = m->sink ? m->sink->give(m->sink->self, m, mean, var) : update_running(m, mean, var);
    return st ? NULL : y;
}

static fb_tensor *batch_norm_forward(fb_module *m, fb_tensor *x)
{
    return batch_norm_call(m, &(norm_call){.x = x, .relu = ((batch_norm *)m->self)->relu});
}

/* (x) -> (y), or (x, residual) -> (y) */
static void batch_norm_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    norm_call c = {.relu = ((batch_norm *)m->self)->relu};
    if (in.n < 1 || in.n > 2 || out.n != 1) {
        fbi_fail(m->ctx, FB_E_ARG,
                 "%s: called with %d inputs and %d outputs: it makes y from x, or from x and "
                 "residual",
                 m->type->name, in.n, out.n);
        return;
    }
    c.x = in.t[0];
    c.residual = in.n > 1 ? in.t[1] : NULL;
    if (in.n < 2 || c.residual) /* else the error is set */
        *out.t[0] = batch_norm_call(m, &c);
}

fb_tensor *fbi_nn_batch_norm_relu(fb_module *m, fb_tensor *x)
{
    return fb_nn_call(m, batch_norm_call, &(norm_call){.x = x, .relu = true});
}

static const fb_module_type batch_norm2d_type = {.name = "BatchNorm2d",
                                                 .size = sizeof(batch_norm),
                                                 .fields = batch_norm_fields,
                                                 .forward = batch_norm_forward,
                                                 .forward_n = batch_norm_forward_n};
static const fb_module_type batch_norm1d_type = {.name = "BatchNorm1d",
                                                 .size = sizeof(batch_norm),
                                                 .fields = batch_norm_fields,
                                                 .forward = batch_norm_forward,
                                                 .forward_n = batch_norm_forward_n};

static bool is_batch_norm(const fb_module *m)
{
    return m->type->fields == batch_norm_fields;
}

bool fbi_nn_is_batch_norm(const fb_module *m)
{
    return m->type->forward == batch_norm_forward;
}

bool fbi_nn_mixes_samples(const fb_module *m)
{
    return is_batch_norm(m) && (m->training || !((const batch_norm *)m->self)->running_mean);
}

static fb_module *batch_norm_new(fb_context *ctx, const fb_module_type *type, int64_t channels,
                                 const fb_norm_options *opts, int min_dims, int max_dims)
{
    if (!fbi_enter(ctx))
        return NULL;
    if (channels < 1) {
        fbi_fail(ctx, FB_E_ARG, "%s: %" PRId64 " channels", type->name, channels);
        return NULL;
    }
    fb_norm_options o = opts ? *opts : (fb_norm_options){0};
    batch_norm b = {.channels = channels,
                    .eps = o.eps == 0 ? 1e-5 : o.eps,
                    .momentum = o.momentum == 0 ? 0.1 : o.momentum,
                    .min_dims = min_dims,
                    .max_dims = max_dims,
                    .relu = o.relu};
    fb_shape shape = FB_SHAPE(channels);
    fb_init one = fb_init_constant(1), zero = fb_init_zeros();
    if (!o.no_affine)
        b.weight = fb_nn_declare_param(ctx, FB_F32, shape, one);
    if (!o.no_affine && !o.no_bias)
        b.bias = fb_nn_declare_param(ctx, FB_F32, shape, zero);
    if (!o.no_stats) {
        b.running_mean = fb_nn_declare_buffer(ctx, FB_F32, shape, zero);
        b.running_var = fb_nn_declare_buffer(ctx, FB_F32, shape, one);
        b.num_batches_tracked = fb_nn_declare_buffer(ctx, FB_I64, FB_SCALAR, zero);
    }
    return fb_nn_new(ctx, type, &b);
}

static const fb_module_type batch_norm3d_type = {.name = "BatchNorm3d",
                                                 .size = sizeof(batch_norm),
                                                 .fields = batch_norm_fields,
                                                 .forward = batch_norm_forward,
                                                 .forward_n = batch_norm_forward_n};

fb_module *fb_nn_batch_norm3d(fb_context *ctx, int64_t channels, const fb_norm_options *opts)
{
    FBI_ENTRY(ctx);
    return batch_norm_new(ctx, &batch_norm3d_type, channels, opts, 5, 5);
}

fb_module *fb_nn_batch_norm2d(fb_context *ctx, int64_t channels, const fb_norm_options *opts)
{
    FBI_ENTRY(ctx);
    return batch_norm_new(ctx, &batch_norm2d_type, channels, opts, 4, 4);
}

fb_module *fb_nn_batch_norm1d(fb_context *ctx, int64_t channels, const fb_norm_options *opts)
{
    FBI_ENTRY(ctx);
    return batch_norm_new(ctx, &batch_norm1d_type, channels, opts, 2, 3);
}

bool fbi_nn_norm_has_no_relu(fb_context *ctx, const char *maker, const fb_norm_options *opts)
{
    if (opts && opts->relu)
        fbi_fail(ctx, FB_E_ARG, "%s: relu is an option of batch norms: put fb_nn_relu behind it",
                 maker);
    return !opts || !opts->relu;
}

/* --- instance norm: a batch norm of each sample, with its fields --- */

/* The means over the batch of what each sample has, the variance as an estimate for all. */
static fb_status instance_statistics(fb_module *m, fb_tensor *x)
{
    FB_SCOPE(m->ctx);
    fb_no_grad(m->ctx);
    fb_tensor *wide = fb_to(x, x->dtype == FB_F64 ? FB_F64 : FB_F32), *mean = NULL, *var = NULL;
    fb_shape places = {.n = x->ndim - 2};
    for (int i = 0; i < places.n; i++)
        places.d[i] = i + 2;
    if (!wide || fb_var_mean(wide, places, true, false, &var, &mean))
        return m->ctx->status;
    mean = fb_mean(mean, FB_SHAPE(0), false);
    var = fb_mean(var, FB_SHAPE(0), false);
    if (!mean || !var)
        return m->ctx->status;
    return m->sink ? m->sink->give(m->sink->self, m, mean, var) : update_running(m, mean, var);
}

static fb_tensor *instance_norm_forward(fb_module *m, fb_tensor *x)
{
    const batch_norm *b = m->self;
    if (!x)
        return NULL;
    bool single = x->ndim == b->min_dims - 1;
    if ((!single && x->ndim != b->min_dims) || x->size[single ? 0 : 1] != b->channels) {
        fbi_fail(m->ctx, FB_E_SHAPE,
                 "%s: input %s; it takes %d dimensions (or %d, of one sample) with %" PRId64
                 " channels",
                 m->type->name, fbi_text(x), b->min_dims, b->min_dims - 1, b->channels);
        return NULL;
    }
    x = single ? fb_unsqueeze(x, 0) : x;
    bool kept = b->running_mean && !m->training;
    fb_tensor *y =
        !x     ? NULL
        : kept ? fb_batch_norm_eval(x, b->weight, b->bias, b->running_mean, b->running_var, b->eps)
               : fb_instance_norm(x, b->weight, b->bias, b->eps);
    if (y && b->running_mean && m->training && instance_statistics(m, x))
        return NULL;
    return y && single ? fb_squeeze(y, 0) : y;
}

static fb_module *instance_norm_new(fb_context *ctx, const fb_module_type *type, int64_t channels,
                                    const fb_instance_norm_options *opts, int dims)
{
    fb_instance_norm_options o = opts ? *opts : (fb_instance_norm_options){0};
    fb_norm_options n = {
        .eps = o.eps, .momentum = o.momentum, .no_affine = !o.affine, .no_stats = !o.stats};
    return batch_norm_new(ctx, type, channels, &n, dims, dims);
}

#define INSTANCE_NORM(fn, text, dims)                                                              \
    static const fb_module_type fn##_type = {.name = text,                                         \
                                             .size = sizeof(batch_norm),                           \
                                             .fields = batch_norm_fields,                          \
                                             .forward = instance_norm_forward};                    \
    fb_module *fb_nn_##fn(fb_context *ctx, int64_t channels, const fb_instance_norm_options *opts) \
    {                                                                                              \
        FBI_ENTRY(ctx);                                                                            \
        return instance_norm_new(ctx, &fn##_type, channels, opts, dims);                           \
    }
INSTANCE_NORM(instance_norm1d, "InstanceNorm1d", 3)
INSTANCE_NORM(instance_norm2d, "InstanceNorm2d", 4)
INSTANCE_NORM(instance_norm3d, "InstanceNorm3d", 5)

/* --- for DDP --- */

typedef struct norm_walk {
    fbi_norm_visit fn;
    void *user;
} norm_walk;

static fb_status visit_norm(const char *path, fb_module *m, void *user)
{
    (void)path;
    const norm_walk *w = user;
    if (!is_batch_norm(m))
        return FB_OK;
    const batch_norm *b = m->self;
    if (!b->running_mean)
        return FB_OK;
    return w->fn(m,
                 (fbi_running){.mean = b->running_mean,
                               .var = b->running_var,
                               .count = b->num_batches_tracked,
                               .momentum = b->momentum},
                 w->user);
}

fb_status fbi_nn_each_norm(fb_module *root, fbi_norm_visit fn, void *user)
{
    fb_status st = fb_nn_materialize(root);
    return st ? st : fbi_nn_each_module(root, visit_norm, &(norm_walk){.fn = fn, .user = user});
}

void fbi_nn_set_stat_sink(fb_module *layer, const fbi_stat_sink *sink)
{
    layer->sink = sink;
}

/* --- layer norm --- */

typedef struct layer_norm {
    fb_tensor *weight, *bias;
    fb_shape shape;
    double eps;
} layer_norm;

static const fb_field layer_norm_fields[] = {
    FB_PARAM(layer_norm, weight), FB_PARAM(layer_norm, bias), {0}};

static fb_tensor *layer_norm_forward(fb_module *m, fb_tensor *x)
{
    const layer_norm *l = m->self;
    return fb_layer_norm(x, l->shape, l->weight, l->bias, l->eps);
}

/* (x) -> (y), or (x, residual) -> (y, x + residual) */
static void layer_norm_forward_n(fb_module *m, fb_tensors in, fb_outs out)
{
    const layer_norm *l = m->self;
    if (in.n == 1 && out.n == 1)
        *out.t[0] = layer_norm_forward(m, in.t[0]);
    else if (in.n == 2 && out.n == 2)
        *out.t[0] =
            fb_add_layer_norm(in.t[0], in.t[1], l->shape, l->weight, l->bias, l->eps, out.t[1]);
    else
        fbi_fail(m->ctx, FB_E_ARG,
                 "LayerNorm: called with %d inputs and %d outputs: it makes y from x, or y and "
                 "x + residual from x and residual",
                 in.n, out.n);
}

static const fb_module_type layer_norm_type = {.name = "LayerNorm",
                                               .size = sizeof(layer_norm),
                                               .fields = layer_norm_fields,
                                               .forward = layer_norm_forward,
                                               .forward_n = layer_norm_forward_n};

fb_module *fb_nn_layer_norm(fb_context *ctx, fb_shape shape, const fb_norm_options *opts)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx) || !fbi_nn_norm_has_no_relu(ctx, "fb_nn_layer_norm", opts))
        return NULL;
    if (shape.n < 1 || fb_shape_numel(shape) < 1) {
        fbi_fail(ctx, FB_E_ARG, "fb_nn_layer_norm: shape %s", fbi_shape_text(ctx, shape));
        return NULL;
    }
    fb_norm_options o = opts ? *opts : (fb_norm_options){0};
    layer_norm l = {.shape = shape, .eps = o.eps == 0 ? 1e-5 : o.eps};
    if (!o.no_affine)
        l.weight = fb_nn_declare_param(ctx, FB_F32, shape, fb_init_constant(1));
    if (!o.no_affine && !o.no_bias)
        l.bias = fb_nn_declare_param(ctx, FB_F32, shape, fb_init_zeros());
    return fb_nn_new(ctx, &layer_norm_type, &l);
}

bool fbi_nn_is_norm(const fb_module *m)
{
    return is_batch_norm(m) || m->type == &layer_norm_type;
}
