/* Norms composed of others: of groups, instances, mean squares, neighbouring channels, and
 * normalize. */
#include <flambeau/core/ops/norm.h>

#include <float.h>
#include <math.h>

#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/pool.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/norm_priv.h"

/* y (of F16 and BF16 in F32 if there are factors, to be rounded once) times weight plus bias, where
 * given, in the dtype of x. */
static fb_tensor *affine(fb_tensor *y, fb_tensor *weight, fb_tensor *bias, const fb_tensor *x)
{
    y = weight && y ? fb_mul(y, weight) : y;
    y = bias && y ? fb_add(y, bias) : y;
    return y ? fb_to(y, (fb_dtype)x->dtype) : NULL;
}

/* Both statistics of a row in one pass: layer_norm of x as [N, groups, rest]. */
static fb_status of_groups(fbi_call *c, int64_t groups, double eps)
{
    fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    int64_t n = x->size[0], rest = n ? x->numel / n / groups : 0;
    fb_tensor *wide = w || b ? fbi_exact(x) : x;
    fb_tensor *rows = wide ? fb_reshape(wide, FB_SHAPE(n, groups, rest)) : NULL;
    fb_tensor *y = rows ? fb_layer_norm(rows, FB_SHAPE(rest), NULL, NULL, eps) : NULL;
    y = y ? fb_reshape(y, fb_shape_of(x)) : NULL;
    w = w ? fbi_per_channel(w, x->ndim) : NULL;
    b = b ? fbi_per_channel(b, x->ndim) : NULL;
    return fbi_composed(c, affine(y, w, b, x));
}

static fb_status need_channels(const fbi_call *c, int dims)
{
    const fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (x->ndim < dims)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s has no %s", fbi_text(x),
                           dims > 2 ? "places beside its channels" : "channels");
    return c->n_in > 1 ? fbi_norm_params(c, FB_SHAPE(x->size[1]), "channels") : FB_OK;
}

fb_status fbi_compose_group_norm(fbi_call *c)
{
    const fbi_attrs_group_norm *a = c->attrs;
    const fb_tensor *x = c->in[0];
    fb_status st = need_channels(c, 2);
    if (st)
        return st;
    if (a->groups < 1 || x->size[1] % a->groups)
        return fbi_op_fail(c, FB_E_ARG, "%lld groups do not divide the channels of input %s",
                           (long long)a->groups, fbi_text(x));
    return of_groups(c, a->groups, a->eps);
}

fb_status fbi_compose_instance_norm(fbi_call *c)
{
    const fb_tensor *x = c->in[0];
    fb_status st = need_channels(c, 3);
    if (st)
        return st;
    if (x->numel == x->size[0] * x->size[1] && x->numel)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s has one place: no variance", fbi_text(x));
    return of_groups(c, x->size[1], ((const fbi_attrs_instance_norm *)c->attrs)->eps);
}

fb_status fbi_compose_rms_norm(fbi_call *c)
{
    const fbi_attrs_rms_norm *a = c->attrs;
    fb_tensor *x = c->in[0], *w = c->in[1];
    fb_status st = fbi_need_float(c, 0);
    if (!st && w)
        st = fbi_need_fitting(c, 1);
    if (st)
        return st;
    if (a->dims < 1 || a->dims > x->ndim)
        return fbi_op_fail(c, FB_E_SHAPE, "%lld dimensions to normalise, input %s",
                           (long long)a->dims, fbi_text(x));
    if (w && !fb_shape_equal(fb_shape_of(w), fbi_tail(x, a->dims)))
        return fbi_op_fail(c, FB_E_SHAPE, "weight %s does not fit the end of input %s", fbi_text(w),
                           fbi_text(x));
    fb_shape dims = {(int)a->dims, {0}};
    for (int i = 0; i < dims.n; i++)
        dims.d[i] = i - dims.n;
    double eps = a->eps != 0 ? a->eps : x->dtype == FB_F64 ? DBL_EPSILON : (double)FLT_EPSILON;
    fb_tensor *wide = fbi_exact(x);
    fb_tensor *mean = wide ? fb_mean(fb_square(wide), dims, true) : NULL;
    fb_tensor *y = mean ? fb_mul(wide, fb_rsqrt(fb_add_scalar(mean, eps))) : NULL;
    return fbi_composed(c, affine(y, w, NULL, x));
}

/* Means of squares over `size` channels around each, [N, C, rest]. */
static fb_tensor *around(fb_tensor *x, int64_t size)
{
    int64_t n = x->size[0], channels = x->size[1], rest = 1;
    for (int i = 2; i < x->ndim; i++)
        rest *= x->size[i];
    fb_tensor *y = fb_reshape(fb_square(x), FB_SHAPE(n, 1, channels, rest));
    y = y ? fb_pad(y, FB_SHAPE(0, 0, size / 2, (size - 1) / 2), FB_PAD_CONSTANT, 0) : NULL;
    y = y ? fb_avg_pool2d(y, size, 1, FB_OPTS(fb_conv_options, .stride = {1, 1, 1})) : NULL;
    return y ? fb_reshape(y, fb_shape_of(x)) : NULL;
}

fb_status fbi_compose_local_response_norm(fbi_call *c)
{
    const fbi_attrs_local_response_norm *a = c->attrs;
    fb_tensor *x = c->in[0];
    fb_status st = need_channels(c, 3);
    if (st)
        return st;
    if (a->size < 1)
        return fbi_op_fail(c, FB_E_ARG, "size %lld must be above 0", (long long)a->size);
    if (x->numel == 0)
        return fbi_composed(c, fb_clone(x));
    fb_tensor *base = fb_add_scalar(fb_mul_scalar(around(x, a->size), a->alpha), a->k);
    return fbi_composed(c, fb_div(x, fb_pow_scalar(base, a->beta)));
}

fb_status fbi_compose_normalize(fbi_call *c)
{
    const fbi_attrs_normalize *a = c->attrs;
    fb_status st = fbi_need_float(c, 0);
    int d = st ? -1 : fbi_dim_of(c, a->dim);
    if (d < 0)
        return st ? st : FB_E_ARG;
    fb_tensor *size = fb_clamp(fb_norm(c->in[0], a->p, FB_SHAPE(d), true), a->eps, INFINITY);
    return fbi_composed(c, fb_div(c->in[0], size));
}

/* --- public --- */

fb_tensor *fb_group_norm(fb_tensor *x, int64_t groups, fb_tensor *weight, fb_tensor *bias,
                         double eps)
{
    return FBI_RUN(group_norm, (&(fbi_attrs_group_norm){groups, eps}), x, weight, bias);
}

fb_tensor *fb_instance_norm(fb_tensor *x, fb_tensor *weight, fb_tensor *bias, double eps)
{
    return FBI_RUN(instance_norm, (&(fbi_attrs_instance_norm){eps}), x, weight, bias);
}

fb_tensor *fb_rms_norm(fb_tensor *x, fb_shape shape, fb_tensor *weight, double eps)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, x, "rms_norm", "x"))
        return NULL;
    if (!fbi_ends_in(x, shape)) {
        fbi_fail(ctx, FB_E_SHAPE, "rms_norm: input %s does not end in %s", fbi_text(x),
                 fbi_shape_text(ctx, shape));
        return NULL;
    }
    return FBI_RUN(rms_norm, (&(fbi_attrs_rms_norm){shape.n, eps}), x, weight);
}

fb_tensor *fb_local_response_norm(fb_tensor *x, int64_t size, double alpha, double beta, double k)
{
    return FBI_RUN(local_response_norm, (&(fbi_attrs_local_response_norm){size, alpha, beta, k}),
                   x);
}

fb_tensor *fb_normalize(fb_tensor *x, double p, int dim, double eps)
{
    return FBI_RUN(normalize, (&(fbi_attrs_normalize){p, dim, eps}), x);
}

/* --- samples --- */

#define IN(low, high, ...)                                        \
    {                                                             \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = (low), .hi = (high) \
    }

void fbi_sample_group_norm(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 2, 6, 3), IN(0.5, 1.5, 6), IN(-1, 1, 6)};
    fbi_attrs_group_norm a = {.groups = 3, .eps = 1e-5};
    fbi_sample_add(s, &a, 3, in);
    in[0].shape = FB_SHAPE(3, 6);
    fbi_sample_add(s, &a, 3, in);
    in[0].shape = FB_SHAPE(2, 6, 2, 2);
    in[1].absent = in[2].absent = true;
    fbi_sample_add(s, &a, 3, in);
    a.groups = 4;
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "4 groups do not divide the channels of input");
    in[1] = (fbi_sample_in)IN(0.5, 1.5, 5);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "group_norm: weight [5] does not fit the channels");
    in[0].shape = FB_SHAPE(6);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "group_norm: input [6] has no channels");
}

void fbi_sample_instance_norm(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 2, 3, 4), IN(0.5, 1.5, 3), IN(-1, 1, 3)};
    fbi_attrs_instance_norm a = {.eps = 1e-5};
    fbi_sample_add(s, &a, 3, in);
    in[0].shape = FB_SHAPE(2, 3, 2, 3);
    in[1].absent = in[2].absent = true;
    fbi_sample_add(s, &a, 3, in);
    in[0].shape = FB_SHAPE(2, 3, 1);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "input [2, 3, 1] has one place: no variance");
    in[0].shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "input [2, 3] has no places beside its channels");
}

void fbi_sample_rms_norm(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(0.5, 2, 2, 3, 4), IN(0.5, 1.5, 4)};
    fbi_attrs_rms_norm a = {.dims = 1, .eps = 1e-6};
    fbi_sample_add(s, &a, 2, in);
    a = (fbi_attrs_rms_norm){.dims = 2};
    in[1].shape = FB_SHAPE(3, 4);
    fbi_sample_add(s, &a, 2, in);
    in[1].absent = true;
    fbi_sample_add(s, &a, 2, in);
    in[1] = (fbi_sample_in)IN(0.5, 1.5, 4);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "weight [4] does not fit the end of input [2, 3, 4]");
    a.dims = 4;
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "4 dimensions to normalise, input [2, 3, 4]");
}

void fbi_sample_local_response_norm(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(-2, 2, 2, 5, 3)};
    fbi_attrs_local_response_norm a = {.size = 3, .alpha = 0.5, .beta = 0.75, .k = 1};
    fbi_sample_add(s, &a, 1, in);
    a.size = 4;
    in[0].shape = FB_SHAPE(1, 5, 2, 2);
    fbi_sample_add(s, &a, 1, in);
    a.size = 0;
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "local_response_norm: size 0 must be above 0");
    in[0].shape = FB_SHAPE(2, 5);
    fbi_sample_bad(s, &a, 1, in, FB_E_SHAPE, "input [2, 5] has no places beside its channels");
}

void fbi_sample_normalize(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(0.5, 2, 3, 4)};
    const double ps[] = {2, 1, 3};
    fbi_attrs_normalize a = {.eps = 1e-12};
    for (int i = 0; i < 3; i++) {
        a.p = ps[i];
        a.dim = i % 2 ? -2 : 1;
        fbi_sample_add(s, &a, 1, in);
    }
    a.dim = 2;
    fbi_sample_bad(s, &a, 1, in, FB_E_ARG, "normalize: no dimension 2 in input [3, 4]");
}
