/* New tensors: an empty one and a kernel that fills it. */
#include <flambeau/core/ops/create.h>

#include <math.h>

#include "core/ops/op_priv.h"

static fb_tensor *fbi_make(fb_context *ctx, const char *name, fb_dtype dtype, fb_shape shape,
                           bool floats)
{
    if (!fbi_enter(ctx))
        return NULL;
    dtype = dtype == FB_DTYPE_DEFAULT ? FB_F32 : dtype;
    if (fb_shape_numel(shape) < 0) {
        fbi_fail(ctx, FB_E_SHAPE, "%s: %s is not a shape", name, fbi_shape_text(ctx, shape));
        return NULL;
    }
    if (!fb_dtype_size(dtype) || (floats && !fb_dtype_is_float(dtype))) {
        fbi_fail(ctx, FB_E_DTYPE, "%s: cannot make %s", name, fb_dtype_name(dtype));
        return NULL;
    }
    return fbi_empty(ctx, dtype, shape);
}

static fb_tensor *fbi_filled(fb_tensor *t, fbi_op op, const void *attrs)
{
    return t && !fbi_kernel_run(t->ctx, op, attrs, NULL, 0, &t, 1, 0) ? t : NULL;
}

fb_tensor *fb_empty(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    FBI_ENTRY(ctx);
    return fbi_make(ctx, "empty", dtype, shape, false);
}

fb_tensor *fb_full(fb_context *ctx, fb_dtype dtype, fb_shape shape, double value)
{
    FBI_ENTRY(ctx);
    return fbi_filled(fbi_make(ctx, "full", dtype, shape, false), FBI_OP_fill,
                      &(fbi_attrs_fill){.value = value});
}

fb_tensor *fb_zeros(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    FBI_ENTRY(ctx);
    return fb_full(ctx, dtype, shape, 0);
}

fb_tensor *fb_ones(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    FBI_ENTRY(ctx);
    return fb_full(ctx, dtype, shape, 1);
}

fb_tensor *fb_arange(fb_context *ctx, fb_dtype dtype, double start, double end, double step)
{
    FBI_ENTRY(ctx);
    double n = ceil((end - start) / step);
    if (step == 0 || !(n >= 0) || n > 1e15) {
        if (fbi_enter(ctx))
            fbi_fail(ctx, FB_E_ARG, "arange: from %g to %g by %g", start, end, step);
        return NULL;
    }
    return fbi_filled(fbi_make(ctx, "arange", dtype, FB_SHAPE((int64_t)n), false), FBI_OP_arange,
                      &(fbi_attrs_arange){.start = start, .step = step});
}

fb_tensor *fb_rand(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    FBI_ENTRY(ctx);
    fb_tensor *t = fbi_make(ctx, "rand", dtype, shape, true);
    if (!t)
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    return fbi_filled(t, FBI_OP_randu, &(fbi_attrs_randu){.key = r.key, .stream = r.stream});
}

fb_tensor *fb_randn(fb_context *ctx, fb_dtype dtype, fb_shape shape)
{
    FBI_ENTRY(ctx);
    fb_tensor *t = fbi_make(ctx, "randn", dtype, shape, true);
    if (!t)
        return NULL;
    fbi_rng_stream r = fbi_next_stream(ctx);
    return fbi_filled(t, FBI_OP_randn, &(fbi_attrs_randn){.key = r.key, .stream = r.stream});
}

fb_tensor *fb_randint(fb_context *ctx, int64_t lo, int64_t hi, fb_shape shape)
{
    FBI_ENTRY(ctx);
    fb_tensor *t = fbi_make(ctx, "randint", FB_I64, shape, false);
    if (!t)
        return NULL;
    if (hi <= lo) {
        fbi_fail(ctx, FB_E_ARG, "randint: no integer from %lld below %lld", (long long)lo,
                 (long long)hi);
        return NULL;
    }
    fbi_rng_stream r = fbi_next_stream(ctx);
    return fbi_filled(t, FBI_OP_randu,
                      &(fbi_attrs_randu){.key = r.key, .stream = r.stream, .lo = lo, .hi = hi});
}

fb_tensor *fb_full_like(fb_tensor *t, double value)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    return fb_full(t->ctx, (fb_dtype)t->dtype, fb_shape_of(t), value);
}

fb_tensor *fb_zeros_like(fb_tensor *t)
{
    if (!t)
        return NULL;
    FBI_ENTRY(t->ctx);
    return fb_full_like(t, 0);
}

fb_status fbi_infer_randu(fbi_call *c)
{
    return fbi_op_fail(c, FB_E_STATE, "fills a given tensor");
}
fb_status fbi_infer_randn(fbi_call *c)
{
    return fbi_op_fail(c, FB_E_STATE, "fills a given tensor");
}
fb_status fbi_infer_arange(fbi_call *c)
{
    return fbi_op_fail(c, FB_E_STATE, "fills a given tensor");
}
