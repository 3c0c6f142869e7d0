/* Distributions and activations made of uniform, normal and exponential. */
#include <flambeau/core/ops/random.h>

#include <math.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/extreme.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/scatter.h>
#include <flambeau/core/ops/softmax.h>

#include "core/ops/compose_priv.h"
#include "core/ops/create_priv.h"

static fb_tensor *uniform(const fbi_call *c, fb_shape size, int64_t dtype, double from, double to,
                          uint64_t key, uint64_t stream)
{
    fbi_attrs_uniform a = {size, dtype, from, to, key, stream};
    return fbi_run_made(FBI_SITE, c->ctx, FBI_OP_uniform, &a);
}

static fb_tensor *normal(const fbi_call *c, fb_shape size, int64_t dtype, double mean,
                         double deviation, uint64_t key, uint64_t stream)
{
    fbi_attrs_normal a = {size, dtype, mean, deviation, key, stream};
    return fbi_run_made(FBI_SITE, c->ctx, FBI_OP_normal, &a);
}

/* --- filled --- */

fb_status fbi_compose_log_normal(fbi_call *c)
{
    const fbi_attrs_log_normal *a = c->attrs;
    return fbi_composed(
        c, fb_exp(normal(c, a->size, a->dtype, a->mean, a->deviation, a->key, a->stream)));
}

fb_status fbi_compose_cauchy(fbi_call *c)
{
    const fbi_attrs_cauchy *a = c->attrs;
    if (!(a->sigma > 0))
        return fbi_op_fail(c, FB_E_ARG, "sigma %g is not above 0", a->sigma);
    fb_tensor *u = uniform(c, a->size, a->dtype, 0, 1, a->key, a->stream);
    fb_tensor *y = fb_tan(fb_mul_scalar(fb_add_scalar(u, -0.5), acos(-1)));
    return fbi_composed(c, fb_add_scalar(fb_mul_scalar(y, a->sigma), a->median));
}

/* How often one tries until the first success. */
fb_status fbi_compose_geometric(fbi_call *c)
{
    const fbi_attrs_geometric *a = c->attrs;
    if (!(a->p > 0 && a->p < 1))
        return fbi_op_fail(c, FB_E_ARG, "probability %g is not between 0 and 1", a->p);
    fb_tensor *u = uniform(c, a->size, a->dtype, 0, 1, a->key, a->stream);
    fb_tensor *y = fb_ceil(fb_mul_scalar(fb_log1p(fb_neg(u)), 1 / log1p(-a->p)));
    return fbi_composed(c, fb_clamp(y, 1, INFINITY));
}

/* --- of tensors --- */

fb_status fbi_compose_normal_of(fbi_call *c)
{
    const fbi_attrs_normal_of *a = c->attrs;
    fb_tensor *mean = c->in[0], *deviation = c->in[1];
    fb_shape s;
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = fbi_need_float(c, 1);
    if (st)
        return st;
    if (!fbi_broadcast(fb_shape_of(mean), fb_shape_of(deviation), &s))
        return fbi_op_fail(c, FB_E_SHAPE, "means %s and deviations %s cannot be broadcast",
                           fbi_text(mean), fbi_text(deviation));
    fb_tensor *z = normal(c, s, deviation->dtype, 0, 1, a->key, a->stream);
    return fbi_composed(c, fb_add(mean, fb_mul(deviation, z)));
}

fb_status fbi_compose_rrelu(fbi_call *c)
{
    const fbi_attrs_rrelu *a = c->attrs;
    fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (!(a->lower <= a->upper))
        return fbi_op_fail(c, FB_E_ARG, "slopes from %g to %g", a->lower, a->upper);
    fb_tensor *slope = uniform(c, fb_shape_of(x), x->dtype, a->lower, a->upper, a->key, a->stream);
    return fbi_composed(c, fb_where(fb_gt(x, fbi_scalar(x, 0)), x, fb_mul(x, slope)));
}

/* 1 at the largest of each line; the gradient is that of y. */
static fb_tensor *hardened(fb_tensor *y, int d)
{
    fb_tensor *at = fb_argmax(fb_detach(y), d, true);
    fb_tensor *hot = at ? fb_scatter_value(fb_zeros_like(y), d, at, 1) : NULL;
    return fb_add(fb_sub(hot, fb_detach(y)), y);
}

fb_status fbi_compose_gumbel_softmax(fbi_call *c)
{
    const fbi_attrs_gumbel_softmax *a = c->attrs;
    fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    int d = st ? -1 : fbi_dim_of(c, a->dim);
    if (d < 0)
        return st ? st : FB_E_ARG;
    if (!(a->tau > 0))
        return fbi_op_fail(c, FB_E_ARG, "tau %g is not above 0", a->tau);
    fbi_attrs_exponential e = {fb_shape_of(x), x->dtype, 1, a->key, a->stream};
    fb_tensor *g = fb_neg(fb_log(fbi_run_made(FBI_SITE, c->ctx, FBI_OP_exponential, &e)));
    fb_tensor *y = fb_softmax(fb_mul_scalar(fb_add(x, g), 1 / a->tau), d);
    return fbi_composed(c, a->hard && y && y->numel ? hardened(y, d) : y);
}

/* --- public --- */

fb_tensor *fb_log_normal(fb_context *ctx, fb_dtype dtype, fb_shape shape, double mean,
                         double deviation)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    fbi_attrs_log_normal a = {shape, (int64_t)dtype, mean, deviation, r.key, r.stream};
    return fbi_run_made(FBI_SITE, ctx, FBI_OP_log_normal, &a);
}

fb_tensor *fb_cauchy(fb_context *ctx, fb_dtype dtype, fb_shape shape, double median, double sigma)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    fbi_attrs_cauchy a = {shape, (int64_t)dtype, median, sigma, r.key, r.stream};
    return fbi_run_made(FBI_SITE, ctx, FBI_OP_cauchy, &a);
}

fb_tensor *fb_geometric(fb_context *ctx, fb_dtype dtype, fb_shape shape, double p)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    fbi_attrs_geometric a = {shape, (int64_t)dtype, p, r.key, r.stream};
    return fbi_run_made(FBI_SITE, ctx, FBI_OP_geometric, &a);
}

fb_tensor *fb_normal_of(fb_tensor *mean, fb_tensor *deviation)
{
    fbi_rng_stream r;
    FBI_ENTRY(fb_context_of(mean));
    if (!fbi_draws(mean, "normal_of", &r))
        return NULL;
    return FBI_RUN(normal_of, (&(fbi_attrs_normal_of){r.key, r.stream}), mean, deviation);
}

fb_tensor *fb_rrelu(fb_tensor *x, double lower, double upper)
{
    fbi_rng_stream r;
    FBI_ENTRY(fb_context_of(x));
    if (!fbi_draws(x, "rrelu", &r))
        return NULL;
    return FBI_RUN(rrelu, (&(fbi_attrs_rrelu){lower, upper, r.key, r.stream}), x);
}

fb_tensor *fb_gumbel_softmax(fb_tensor *x, double tau, bool hard, int dim)
{
    fbi_rng_stream r;
    FBI_ENTRY(fb_context_of(x));
    if (!fbi_draws(x, "gumbel_softmax", &r))
        return NULL;
    fbi_attrs_gumbel_softmax a = {tau, hard, dim, r.key, r.stream};
    return FBI_RUN(gumbel_softmax, &a, x);
}

/* --- samples --- */

#define ATTRS(row, ...) (&(fbi_attrs_##row){__VA_ARGS__})

void fbi_sample_log_normal(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(log_normal, FB_SHAPE(3, 5), FB_F64, 0, 0.5, 1, 2), 0, NULL);
    fbi_sample_bad(s, ATTRS(log_normal, FB_SHAPE(3), FB_F32, 0, -1, 1, 2), 0, NULL, FB_E_ARG,
                   "log_normal: deviation -1 is not at least 0");
}

void fbi_sample_cauchy(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(cauchy, FB_SHAPE(3, 5), FB_F64, 1, 0.5, 1, 2), 0, NULL);
    fbi_sample_bad(s, ATTRS(cauchy, FB_SHAPE(3), FB_F32, 0, 0, 1, 2), 0, NULL, FB_E_ARG,
                   "cauchy: sigma 0 is not above 0");
}

void fbi_sample_geometric(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(geometric, FB_SHAPE(3, 5), FB_F64, 0.3, 1, 2), 0, NULL);
    fbi_sample_bad(s, ATTRS(geometric, FB_SHAPE(3), FB_F32, 1, 1, 2), 0, NULL, FB_E_ARG,
                   "geometric: probability 1 is not between 0 and 1");
    fbi_sample_bad(s, ATTRS(geometric, FB_SHAPE(3), FB_I64, 0.5, 1, 2), 0, NULL, FB_E_DTYPE,
                   "geometric: cannot make I64");
}

void fbi_sample_normal_of(fbi_samples *s)
{
    fbi_sample_in in[2] = {{.shape = FB_SHAPE(3, 5), .lo = -2, .hi = 2},
                           {.shape = FB_SHAPE(5), .lo = 0.5, .hi = 2}};
    fbi_sample_add(s, ATTRS(normal_of, 1, 2), 2, in);
    in[1].shape = FB_SHAPE(4);
    fbi_sample_bad(s, ATTRS(normal_of, 1, 2), 2, in, FB_E_SHAPE,
                   "normal_of: means [3, 5] and deviations [4] cannot be broadcast");
}

void fbi_sample_rrelu(fbi_samples *s)
{
    fbi_sample_in in[1] = {{.shape = FB_SHAPE(3, 5), .lo = -2, .hi = 2}};
    fbi_sample_add(s, ATTRS(rrelu, 0.1, 0.3, 1, 2), 1, in);
    fbi_sample_bad(s, ATTRS(rrelu, 0.4, 0.3, 1, 2), 1, in, FB_E_ARG,
                   "rrelu: slopes from 0.4 to 0.3");
}

void fbi_sample_gumbel_softmax(fbi_samples *s)
{
    fbi_sample_in in[1] = {{.shape = FB_SHAPE(3, 5), .lo = -2, .hi = 2}};
    fbi_sample_add(s, ATTRS(gumbel_softmax, 0.7, 0, -1, 1, 2), 1, in);
    in[0].constant = true; /* the gradient of a hard one is not its own */
    fbi_sample_add(s, ATTRS(gumbel_softmax, 0.7, 1, 0, 1, 2), 1, in);
    fbi_sample_bad(s, ATTRS(gumbel_softmax, 0, 0, -1, 1, 2), 1, in, FB_E_ARG,
                   "gumbel_softmax: tau 0 is not above 0");
    fbi_sample_bad(s, ATTRS(gumbel_softmax, 1, 0, 2, 1, 2), 1, in, FB_E_ARG,
                   "gumbel_softmax: no dimension 2 in input [3, 5]");
}
