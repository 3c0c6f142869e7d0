/* New tensors: an empty one and a kernel that fills it. */
#include <math.h>
#include <stdlib.h>

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/strided.h>

#include "core/ops/create_priv.h"

/* --- shared --- */

/* The dtype asked for, if there is such a tensor; else 0 with the error set. */
static fb_dtype dtype_of(const fbi_call *c, int64_t dtype, fb_shape size, bool floats)
{
    fb_dtype d = dtype == FB_DTYPE_DEFAULT ? FB_F32 : (fb_dtype)dtype;
    if (fb_shape_numel(size) < 0)
        fbi_op_fail(c, FB_E_SHAPE, "%s is not a shape", fbi_shape_text(c->ctx, size));
    else if (!fb_dtype_size(d) || (floats && !fb_dtype_is_float(d)))
        fbi_op_fail(c, FB_E_DTYPE, "cannot make %s", fb_dtype_name(d));
    else
        return d;
    return FB_DTYPE_DEFAULT;
}

fb_status fbi_out_made(fbi_call *c, int64_t dtype, fb_shape size, bool floats)
{
    fb_dtype d = dtype_of(c, dtype, size, floats);
    return d ? fbi_out(c, 0, d, size) : c->ctx->status;
}

fb_tensor *fbi_run_made(const void *site, fb_context *ctx, fbi_op op, const void *attrs)
{
    fb_tensor *out[1] = {NULL};
    fbi_site_guard guard __attribute__((cleanup(fbi_site_end), unused)) = fbi_site_begin(ctx, site);
    return fbi_run(ctx, op, attrs, NULL, 0, out) ? NULL : out[0];
}

#define RUN_MADE(row, ctx, ...) \
    fbi_run_made(FBI_SITE, ctx, FBI_OP_##row, (&(fbi_attrs_##row){__VA_ARGS__}))

/* A new tensor, filled by the kernel of `op`. */
static fb_status filled(fbi_call *c, int64_t dtype, fb_shape size, bool floats, fbi_op op,
                        const void *attrs)
{
    fb_dtype d = dtype_of(c, dtype, size, floats);
    fb_tensor *t = d ? fbi_empty(c->ctx, d, size) : NULL;
    if (t && fbi_kernel_run(c->ctx, op, attrs, NULL, 0, &t, 1, 0))
        t = NULL;
    return fbi_composed(c, t);
}

/* --- constants --- */

static fb_status constant(fbi_call *c, int64_t dtype, fb_shape size, double value)
{
    return filled(c, dtype, size, false, FBI_OP_fill, &(fbi_attrs_fill){.value = value});
}

fb_status fbi_compose_full(fbi_call *c)
{
    const fbi_attrs_full *a = c->attrs;
    return constant(c, a->dtype, a->size, a->value);
}

fb_status fbi_compose_zeros(fbi_call *c)
{
    const fbi_attrs_zeros *a = c->attrs;
    return constant(c, a->dtype, a->size, 0);
}

fb_status fbi_compose_ones(fbi_call *c)
{
    const fbi_attrs_ones *a = c->attrs;
    return constant(c, a->dtype, a->size, 1);
}

static fb_status constant_like(fbi_call *c, double value)
{
    return constant(c, c->in[0]->dtype, fb_shape_of(c->in[0]), value);
}

fb_status fbi_compose_full_like(fbi_call *c)
{
    return constant_like(c, ((const fbi_attrs_full_like *)c->attrs)->value);
}

fb_status fbi_compose_zeros_like(fbi_call *c)
{
    return constant_like(c, 0);
}

fb_status fbi_compose_ones_like(fbi_call *c)
{
    return constant_like(c, 1);
}

fb_status fbi_compose_eye(fbi_call *c)
{
    const fbi_attrs_eye *a = c->attrs;
    fb_status st = constant(c, a->dtype, FB_SHAPE(a->rows, a->cols), 0);
    fb_tensor *line = st ? NULL : fb_diagonal(c->out[0], 0, 0, 1);
    return line ? fb_fill_(line, 1) : c->ctx->status;
}

/* --- sequences --- */

fb_status fbi_compose_arange(fbi_call *c)
{
    const fbi_attrs_arange *a = c->attrs;
    double n = ceil((a->end - a->start) / a->step);
    if (a->step == 0 || !(n >= 0) || n > 1e15)
        return fbi_op_fail(c, FB_E_ARG, "from %g to %g by %g", a->start, a->end, a->step);
    return filled(c, a->dtype, FB_SHAPE((int64_t)n), false, FBI_OP_sequence,
                  &(fbi_attrs_sequence){.start = a->start, .step = a->step});
}

/* Equal distances from both ends, as PyTorch makes them: the last is `end` itself. */
static fb_status spaced(fbi_call *c, int64_t dtype, double start, double end, int64_t n)
{
    if (n < 0)
        return fbi_op_fail(c, FB_E_ARG, "%lld numbers", (long long)n);
    fbi_attrs_sequence a = {.start = start, .last = end, .n = n > 1 ? n : 0};
    a.step = n > 1 ? (end - start) / (double)(n - 1) : 0;
    return filled(c, dtype, FB_SHAPE(n), false, FBI_OP_sequence, &a);
}

fb_status fbi_compose_linspace(fbi_call *c)
{
    const fbi_attrs_linspace *a = c->attrs;
    return spaced(c, a->dtype, a->start, a->end, a->n);
}

fb_status fbi_compose_logspace(fbi_call *c)
{
    const fbi_attrs_logspace *a = c->attrs;
    fb_dtype d = dtype_of(c, a->dtype, FB_SHAPE(0), false);
    fb_status st = d ? spaced(c, FB_F64, a->start, a->end, a->n) : c->ctx->status;
    if (st)
        return st;
    fb_tensor *base = fb_full(c->ctx, FB_F64, FB_SCALAR, a->base);
    fb_tensor *y = base ? fb_pow(base, c->out[0]) : NULL;
    return fbi_composed(c, y ? fb_to(y, d) : NULL);
}

/* Rows and columns of the elements with lo <= column - row <= hi, made on the host. */
static fb_status triangle(fbi_call *c, int64_t rows, int64_t cols, int64_t lo, int64_t hi)
{
    int64_t n = 0, all;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &all) || all > INT32_MAX)
        return fbi_op_fail(c, FB_E_ARG, "a matrix of %lld rows and %lld columns", (long long)rows,
                           (long long)cols);
    for (int64_t i = 0; i < all; i++)
        n += i % cols - i / cols >= lo && i % cols - i / cols <= hi;
    int64_t *at = malloc((size_t)(n ? n : 1) * 2 * sizeof *at), k = 0;
    if (!at)
        return fbi_op_fail(c, FB_E_NOMEM, "no memory for %lld places", (long long)n);
    for (int64_t i = 0; i < all; i++)
        if (i % cols - i / cols >= lo && i % cols - i / cols <= hi) {
            at[k] = i / cols;
            at[n + k++] = i % cols;
        }
    fb_tensor *t = fb_from(c->ctx, FB_I64, FB_SHAPE(2, n), at);
    free(at);
    return fbi_composed(c, t);
}

fb_status fbi_compose_tril_indices(fbi_call *c)
{
    const fbi_attrs_tril_indices *a = c->attrs;
    return triangle(c, a->rows, a->cols, INT64_MIN, a->offset);
}

fb_status fbi_compose_triu_indices(fbi_call *c)
{
    const fbi_attrs_triu_indices *a = c->attrs;
    return triangle(c, a->rows, a->cols, a->offset, INT64_MAX);
}

/* --- random --- */

fb_status fbi_compose_rand(fbi_call *c)
{
    const fbi_attrs_rand *a = c->attrs;
    return filled(c, a->dtype, a->size, true, FBI_OP_randu,
                  &(fbi_attrs_randu){.key = a->key, .stream = a->stream});
}

fb_status fbi_compose_randn(fbi_call *c)
{
    const fbi_attrs_randn *a = c->attrs;
    return filled(c, a->dtype, a->size, true, FBI_OP_gauss,
                  &(fbi_attrs_gauss){.key = a->key, .stream = a->stream});
}

fb_status fbi_compose_randint(fbi_call *c)
{
    const fbi_attrs_randint *a = c->attrs;
    fbi_attrs_randu b = {.key = a->key, .stream = a->stream, .lo = a->lo, .hi = a->hi};
    if (a->hi <= a->lo)
        return fbi_op_fail(c, FB_E_ARG, "no integer from %lld below %lld", (long long)a->lo,
                           (long long)a->hi);
    return filled(c, FB_I64, a->size, false, FBI_OP_randu, &b);
}

fb_status fbi_infer_randu(fbi_call *c)
{
    return fbi_op_fail(c, FB_E_STATE, "fills a given tensor");
}
fb_status fbi_infer_gauss(fbi_call *c)
{
    return fbi_op_fail(c, FB_E_STATE, "fills a given tensor");
}
fb_status fbi_infer_sequence(fbi_call *c)
{
    return fbi_op_fail(c, FB_E_STATE, "fills a given tensor");
}

/* --- public --- */

fb_tensor *fb_empty(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    FBI_ENTRY(ctx);
    if (!fbi_enter(ctx))
        return NULL;
    fbi_call c = {.ctx = ctx, .op = &(fbi_opdef){.name = "empty"}};
    fb_dtype d = dtype_of(&c, dtype, shape, false);
    return d ? fbi_empty(ctx, d, shape) : NULL;
}

fb_tensor *fb_full(fb_context *ctx, fb_dtype dtype, fb_shape shape, double value)
{
    return RUN_MADE(full, ctx, shape, (int64_t)dtype, value);
}

fb_tensor *fb_zeros(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    return RUN_MADE(zeros, ctx, shape, (int64_t)dtype);
}

fb_tensor *fb_ones(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    return RUN_MADE(ones, ctx, shape, (int64_t)dtype);
}

fb_tensor *fb_eye(fb_context *ctx, fb_dtype dtype, int64_t rows, int64_t cols)
{
    return RUN_MADE(eye, ctx, rows, cols, (int64_t)dtype);
}

fb_tensor *fb_arange(fb_context *ctx, fb_dtype dtype, double start, double end, double step)
{
    return RUN_MADE(arange, ctx, start, end, step, (int64_t)dtype);
}

fb_tensor *fb_linspace(fb_context *ctx, fb_dtype dtype, double start, double end, int64_t n)
{
    return RUN_MADE(linspace, ctx, start, end, n, (int64_t)dtype);
}

fb_tensor *fb_logspace(fb_context *ctx, fb_dtype dtype, double start, double end, int64_t n,
                       double base)
{
    return RUN_MADE(logspace, ctx, start, end, n, base, (int64_t)dtype);
}

fb_tensor *fb_tril_indices(fb_context *ctx, int64_t rows, int64_t cols, int64_t offset)
{
    return RUN_MADE(tril_indices, ctx, rows, cols, offset);
}

fb_tensor *fb_triu_indices(fb_context *ctx, int64_t rows, int64_t cols, int64_t offset)
{
    return RUN_MADE(triu_indices, ctx, rows, cols, offset);
}

fb_tensor *fb_rand(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    const void *site = FBI_SITE;
    if (!fbi_enter(ctx))
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    fbi_attrs_rand a = {shape, (int64_t)dtype, r.key, r.stream};
    return fbi_run_made(site, ctx, FBI_OP_rand, &a);
}

fb_tensor *fb_randn(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    const void *site = FBI_SITE;
    if (!fbi_enter(ctx))
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    fbi_attrs_randn a = {shape, (int64_t)dtype, r.key, r.stream};
    return fbi_run_made(site, ctx, FBI_OP_randn, &a);
}

fb_tensor *fb_randint(fb_context *ctx, int64_t lo, int64_t hi, fb_shape shape)
{
    const void *site = FBI_SITE;
    if (!fbi_enter(ctx))
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    fbi_attrs_randint a = {lo, hi, shape, r.key, r.stream};
    return fbi_run_made(site, ctx, FBI_OP_randint, &a);
}

fb_tensor *fb_full_like(fb_tensor *t, double value)
{
    return FBI_RUN(full_like, (&(fbi_attrs_full_like){.value = value}), t);
}

fb_tensor *fb_zeros_like(fb_tensor *t)
{
    return FBI_RUN(zeros_like, NULL, t);
}

fb_tensor *fb_ones_like(fb_tensor *t)
{
    return FBI_RUN(ones_like, NULL, t);
}

fb_tensor *fb_empty_like(fb_tensor *t)
{
    FBI_ENTRY(fb_context_of(t));
    return t ? fb_empty(t->ctx, (fb_dtype)t->dtype, fb_shape_of(t)) : NULL;
}
