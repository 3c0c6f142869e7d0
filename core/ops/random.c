/* Random numbers of distributions: shapes, samples. */
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/random.h>

#include "core/ops/create_priv.h"

/* --- filled --- */

fb_status fbi_infer_uniform(fbi_call *c)
{
    const fbi_attrs_uniform *a = c->attrs;
    if (!(a->from <= a->to))
        return fbi_op_fail(c, FB_E_ARG, "from %g to %g", a->from, a->to);
    return fbi_out_made(c, a->dtype, a->size, true);
}

fb_status fbi_infer_normal(fbi_call *c)
{
    const fbi_attrs_normal *a = c->attrs;
    if (!(a->deviation >= 0))
        return fbi_op_fail(c, FB_E_ARG, "deviation %g is not at least 0", a->deviation);
    return fbi_out_made(c, a->dtype, a->size, true);
}

fb_status fbi_infer_exponential(fbi_call *c)
{
    const fbi_attrs_exponential *a = c->attrs;
    if (!(a->rate > 0))
        return fbi_op_fail(c, FB_E_ARG, "rate %g is not above 0", a->rate);
    return fbi_out_made(c, a->dtype, a->size, true);
}

fb_status fbi_infer_randperm(fbi_call *c)
{
    const fbi_attrs_randperm *a = c->attrs;
    if (a->n < 0)
        return fbi_op_fail(c, FB_E_ARG, "n is %lld", (long long)a->n);
    return fbi_out_made(c, FB_I64, FB_SHAPE(a->n), false);
}

fb_tensor *fb_uniform(fb_context *ctx, fb_dtype dtype, fb_shape shape, double from, double to)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    return fbi_run_made(FBI_SITE, ctx, FBI_OP_uniform,
                        &(fbi_attrs_uniform){shape, (int64_t)dtype, from, to, r.key, r.stream});
}

fb_tensor *fb_normal(fb_context *ctx, fb_dtype dtype, fb_shape shape, double mean, double deviation)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    return fbi_run_made(
        FBI_SITE, ctx, FBI_OP_normal,
        &(fbi_attrs_normal){shape, (int64_t)dtype, mean, deviation, r.key, r.stream});
}

fb_tensor *fb_exponential(fb_context *ctx, fb_dtype dtype, fb_shape shape, double rate)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    return fbi_run_made(FBI_SITE, ctx, FBI_OP_exponential,
                        &(fbi_attrs_exponential){shape, (int64_t)dtype, rate, r.key, r.stream});
}

fb_tensor *fb_randperm(fb_context *ctx, int64_t n)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    return fbi_run_made(FBI_SITE, ctx, FBI_OP_randperm, &(fbi_attrs_randperm){n, r.key, r.stream});
}

/* --- drawn for each element of a tensor --- */

static fb_status infer_like(fbi_call *c)
{
    fb_status st = fbi_need_float(c, 0);
    return st ? st : fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[0]));
}

fb_status fbi_infer_bernoulli(fbi_call *c)
{
    return infer_like(c);
}

fb_status fbi_infer_poisson(fbi_call *c)
{
    return infer_like(c);
}

fb_status fbi_infer_gamma(fbi_call *c)
{
    return infer_like(c);
}

fb_status fbi_infer_multinomial(fbi_call *c)
{
    const fbi_attrs_multinomial *a = c->attrs;
    const fb_tensor *w = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (w->ndim != 1 && w->ndim != 2)
        return fbi_op_fail(c, FB_E_SHAPE, "weights %s must be [n] or [rows, n]", fbi_text(w));
    int64_t n = w->size[w->ndim - 1];
    if (a->count < 1 || n < 1 || (!a->replacement && a->count > n))
        return fbi_op_fail(c, FB_E_ARG, "%lld of %lld, %s replacement", (long long)a->count,
                           (long long)n, a->replacement ? "with" : "without");
    return fbi_out(c, 0, FB_I64,
                   w->ndim == 1 ? FB_SHAPE(a->count) : FB_SHAPE(w->size[0], a->count));
}

bool fbi_draws(fb_tensor *t, const char *op, fbi_rng_stream *r)
{
    fb_context *ctx = fb_context_of(t);
    if (!ctx || !fbi_enter(ctx) || !fbi_tensor_check(ctx, t, op, "the tensor"))
        return false;
    *r = fbi_next_stream(ctx);
    return true;
}

fb_tensor *fb_bernoulli(fb_tensor *p)
{
    fbi_rng_stream r;
    FBI_ENTRY(fb_context_of(p));
    if (!fbi_draws(p, "bernoulli", &r))
        return NULL;
    return FBI_RUN(bernoulli, (&(fbi_attrs_bernoulli){r.key, r.stream}), p);
}

fb_tensor *fb_poisson(fb_tensor *rate)
{
    fbi_rng_stream r;
    FBI_ENTRY(fb_context_of(rate));
    if (!fbi_draws(rate, "poisson", &r))
        return NULL;
    return FBI_RUN(poisson, (&(fbi_attrs_poisson){r.key, r.stream}), rate);
}

fb_tensor *fb_gamma(fb_tensor *shape)
{
    fbi_rng_stream r;
    FBI_ENTRY(fb_context_of(shape));
    if (!fbi_draws(shape, "gamma", &r))
        return NULL;
    return FBI_RUN(gamma, (&(fbi_attrs_gamma){r.key, r.stream}), shape);
}

fb_tensor *fb_multinomial(fb_tensor *weights, int64_t count, bool replacement)
{
    fbi_rng_stream r;
    FBI_ENTRY(fb_context_of(weights));
    if (!fbi_draws(weights, "multinomial", &r))
        return NULL;
    fbi_attrs_multinomial a = {count, replacement, r.key, r.stream};
    return FBI_RUN(multinomial, &a, weights);
}

fb_tensor *fb_rand_like(fb_tensor *t)
{
    FBI_ENTRY(fb_context_of(t));
    return t ? fb_rand(t->ctx, (fb_dtype)t->dtype, fb_shape_of(t)) : NULL;
}

fb_tensor *fb_randn_like(fb_tensor *t)
{
    FBI_ENTRY(fb_context_of(t));
    return t ? fb_randn(t->ctx, (fb_dtype)t->dtype, fb_shape_of(t)) : NULL;
}

fb_tensor *fb_randint_like(fb_tensor *t, int64_t lo, int64_t hi)
{
    FBI_ENTRY(fb_context_of(t));
    return t ? fb_randint(t->ctx, lo, hi, fb_shape_of(t)) : NULL;
}

/* --- samples --- */

#define ATTRS(row, ...) (&(fbi_attrs_##row){__VA_ARGS__})

void fbi_sample_uniform(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(uniform, FB_SHAPE(3, 5), FB_F32, -1, 2, 1, 2), 0, NULL);
    fbi_sample_add(s, ATTRS(uniform, FB_SHAPE(7), FB_BF16, 0, 1, 1, 2), 0, NULL);
    fbi_sample_bad(s, ATTRS(uniform, FB_SHAPE(3), FB_F32, 2, 1, 1, 2), 0, NULL, FB_E_ARG,
                   "uniform: from 2 to 1");
    fbi_sample_bad(s, ATTRS(uniform, FB_SHAPE(3), FB_I64, 0, 1, 1, 2), 0, NULL, FB_E_DTYPE,
                   "uniform: cannot make I64");
    fbi_sample_bad(s, ATTRS(uniform, FB_SHAPE(-3), FB_F32, 0, 1, 1, 2), 0, NULL, FB_E_SHAPE,
                   "uniform: [-3] is not a shape");
}

void fbi_sample_normal(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(normal, FB_SHAPE(3, 5), FB_F64, -1, 2, 1, 2), 0, NULL);
    fbi_sample_bad(s, ATTRS(normal, FB_SHAPE(3), FB_F32, 0, -1, 1, 2), 0, NULL, FB_E_ARG,
                   "normal: deviation -1 is not at least 0");
}

void fbi_sample_exponential(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(exponential, FB_SHAPE(3, 5), FB_F16, 2, 1, 2), 0, NULL);
    fbi_sample_bad(s, ATTRS(exponential, FB_SHAPE(3), FB_F32, 0, 1, 2), 0, NULL, FB_E_ARG,
                   "exponential: rate 0 is not above 0");
}

void fbi_sample_randperm(fbi_samples *s)
{
    fbi_sample_add(s, ATTRS(randperm, 12, 1, 2), 0, NULL);
    fbi_sample_add(s, ATTRS(randperm, 0, 1, 2), 0, NULL);
    fbi_sample_bad(s, ATTRS(randperm, -1, 1, 2), 0, NULL, FB_E_ARG, "randperm: n is -1");
}

/* Parameters in lo .. hi, and one that is not allowed. */
#define OF_TENSOR(row, from, to, bad, text)                                                       \
    void fbi_sample_##row(fbi_samples *s)                                                         \
    {                                                                                             \
        fbi_sample_in in = {.shape = FB_SHAPE(4, 5), .lo = (from), .hi = (to), .constant = true}; \
        fbi_sample_add(s, ATTRS(row, 1, 2), 1, &in);                                              \
        in.lo = in.hi = (bad);                                                                    \
        fbi_sample_bad(s, ATTRS(row, 1, 2), 1, &in, FB_E_ARG, text);                              \
        in.dtype = FB_I64;                                                                        \
        fbi_sample_bad(s, ATTRS(row, 1, 2), 1, &in, FB_E_DTYPE, #row ": input 0 is I64");         \
    }
OF_TENSOR(bernoulli, 0, 1, 1.5, "bernoulli: 1.5 at position 0 is no probability: 0 .. 1")
OF_TENSOR(poisson, 0, 30, -1, "poisson: -1 at position 0 is no rate: finite, at least 0")
OF_TENSOR(gamma, 0.1, 5, -0.5, "gamma: -0.5 at position 0 is no shape: finite, above 0")

void fbi_sample_multinomial(fbi_samples *s)
{
    fbi_sample_in in = {.shape = FB_SHAPE(3, 7), .hi = 2, .constant = true};
    fbi_sample_add(s, ATTRS(multinomial, 9, 1, 1, 2), 1, &in);
    fbi_sample_add(s, ATTRS(multinomial, 4, 0, 1, 2), 1, &in);
    fbi_sample_bad(s, ATTRS(multinomial, 8, 0, 1, 2), 1, &in, FB_E_ARG,
                   "multinomial: 8 of 7, without replacement");
    in.lo = in.hi = -1;
    fbi_sample_bad(s, ATTRS(multinomial, 4, 1, 1, 2), 1, &in, FB_E_ARG,
                   "multinomial: -1 at position 0 is no weight: finite, at least 0");
    in.lo = in.hi = 0;
    fbi_sample_bad(s, ATTRS(multinomial, 4, 1, 1, 2), 1, &in, FB_E_ARG,
                   "multinomial: row 0 has too few weights above 0");
}
