/* Kernels that fill: constants, sequences, random numbers. */
#include <string.h>

#include "core/base/rng_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/loop.h"
#include "core/ops/random_priv.h"

enum { CHUNK = 1024 };

/* Fill `n` values of compute dtype from element `first` on. */
typedef void (*fill_fn)(const void *attrs, uint64_t first, void *out, int64_t n);

/* out[0], row-major, in chunks through a buffer of dtype `as`. */
static fb_status fill_chunks(const fbi_call *c, fb_dtype as, fill_fn fn)
{
    fb_tensor *o = c->out[0];
    int64_t chunks = (o->numel + CHUNK - 1) / CHUNK,
            size = (int64_t)fb_dtype_size((fb_dtype)o->dtype);
    if (!fbi_contiguous(o))
        return fbi_op_fail(c, FB_E_ARG, "the target must be contiguous");
    if (!o->numel)
        return FB_OK;
    char *data = fbi_ptr(o);
    const void *attrs = c->attrs;
    int threads = o->numel < FBI_PAR_MIN ? 1 : c->threads;
    fb_dtype to = (fb_dtype)o->dtype;
    int64_t numel = o->numel;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int64_t k = 0; k < chunks; k++) {
        _Alignas(64) char buf[CHUNK * 8];
        int64_t first = k * CHUNK, n = numel - first < CHUNK ? numel - first : CHUNK;
        char *dst = data + first * size;
        fn(attrs, (uint64_t)first, to == as ? dst : buf, n);
        if (to != as)
            fbi_convert(dst, to, 1, buf, as, 1, n);
    }
    return FB_OK;
}

static void fill_rand_f32(const void *attrs, uint64_t first, void *out, int64_t n)
{
    const fbi_attrs_randu *a = attrs;
    fbi_rng_uniform_f32(a->key, a->stream, first, out, (size_t)n);
}

static void fill_rand_f64(const void *attrs, uint64_t first, void *out, int64_t n)
{
    const fbi_attrs_randu *a = attrs;
    fbi_rng_uniform_f64(a->key, a->stream, first, out, (size_t)n);
}

static void fill_randint(const void *attrs, uint64_t first, void *out, int64_t n)
{
    const fbi_attrs_randu *a = attrs;
    int64_t *o = out;
    uint64_t limit = (uint64_t)a->hi - (uint64_t)a->lo;
    for (int64_t i = 0; i < n; i++)
        o[i] = (int64_t)((uint64_t)a->lo +
                         fbi_rng_below(a->key, a->stream, first + (uint64_t)i, limit));
}

fb_status FBI_KERNEL(randu)(const fbi_call *c)
{
    const fbi_attrs_randu *a = c->attrs;
    if (a->hi > a->lo)
        return fill_chunks(c, FB_I64, fill_randint);
    bool f64 = c->out[0]->dtype == FB_F64;
    return fill_chunks(c, f64 ? FB_F64 : FB_F32, f64 ? fill_rand_f64 : fill_rand_f32);
}

static void fill_gauss_f32(const void *attrs, uint64_t first, void *out, int64_t n)
{
    const fbi_attrs_gauss *a = attrs;
    fbi_rng_normal_f32(a->key, a->stream, first, out, (size_t)n);
}

static void fill_gauss_f64(const void *attrs, uint64_t first, void *out, int64_t n)
{
    const fbi_attrs_gauss *a = attrs;
    fbi_rng_normal_f64(a->key, a->stream, first, out, (size_t)n);
}

fb_status FBI_KERNEL(gauss)(const fbi_call *c)
{
    bool f64 = c->out[0]->dtype == FB_F64;
    return fill_chunks(c, f64 ? FB_F64 : FB_F32, f64 ? fill_gauss_f64 : fill_gauss_f32);
}

static void fill_uniform(const void *attrs, uint64_t first, void *out, int64_t n)
{
    const fbi_attrs_uniform *a = attrs;
    double *o = out;
    for (int64_t i = 0; i < n; i++)
        o[i] = a->from + (a->to - a->from) * fbi_draw_unit(a->key, a->stream, first + (uint64_t)i);
}

fb_status FBI_KERNEL(uniform)(const fbi_call *c)
{
    return fill_chunks(c, FB_F64, fill_uniform);
}

static void fill_normal(const void *attrs, uint64_t first, void *out, int64_t n)
{
    const fbi_attrs_normal *a = attrs;
    double *o = out;
    for (int64_t i = 0; i < n; i++)
        o[i] = a->mean + a->deviation * fbi_draw_normal(a->key, a->stream, first + (uint64_t)i);
}

fb_status FBI_KERNEL(normal)(const fbi_call *c)
{
    return fill_chunks(c, FB_F64, fill_normal);
}

static void fill_exponential(const void *attrs, uint64_t first, void *out, int64_t n)
{
    const fbi_attrs_exponential *a = attrs;
    double *o = out;
    for (int64_t i = 0; i < n; i++)
        o[i] = -log1p(-fbi_draw_unit(a->key, a->stream, first + (uint64_t)i)) / a->rate;
}

fb_status FBI_KERNEL(exponential)(const fbi_call *c)
{
    return fill_chunks(c, FB_F64, fill_exponential);
}

static void fill_sequence(const void *attrs, uint64_t first, void *out, int64_t n)
{
    const fbi_attrs_sequence *a = attrs;
    double *o = out;
    for (int64_t i = 0; i < n; i++) { /* from the end, if there is one that must be met */
        int64_t at = (int64_t)first + i, left = a->n - 1 - at;
        o[i] = left < at && a->n > 0 ? a->last - (double)left * a->step
                                     : a->start + (double)at * a->step;
    }
}

fb_status FBI_KERNEL(sequence)(const fbi_call *c)
{
    return fill_chunks(c, FB_F64, fill_sequence);
}

static void inner_fill(void *out, const void *const *in, int64_t n, const void *attrs)
{
    (void)in;
    const double value = ((const fbi_attrs_fill *)attrs)->value;
    double *o = out;
    for (int64_t i = 0; i < n; i++)
        o[i] = value;
}

fb_status FBI_KERNEL(fill)(const fbi_call *c)
{
    fb_tensor *o = c->out[0];
    if (((const fbi_attrs_fill *)c->attrs)->value == 0 && fbi_dense(o) && o->numel) {
        memset(fbi_ptr(o), 0, (size_t)o->numel * fb_dtype_size((fb_dtype)o->dtype));
        return FB_OK;
    }
    return fbi_loop(c, 0, (fb_dtype[]){FB_F64}, inner_fill);
}
