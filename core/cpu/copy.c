/* Kernels that move elements: cast, contiguous, copy, where, narrow_pad. */
#include <string.h>

#include "core/base/stream_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/loop.h"

static void copy_into(const fbi_call *c, const fb_tensor *src)
{
    fbi_copy_strided(c->threads, c->out[0], src);
}

fb_status FBI_KERNEL(cast)(const fbi_call *c)
{
    copy_into(c, c->in[0]);
    return FB_OK;
}

fb_status FBI_KERNEL(contiguous)(const fbi_call *c)
{
    copy_into(c, c->in[0]);
    return FB_OK;
}

fb_status FBI_KERNEL(copy)(const fbi_call *c)
{
    copy_into(c, c->in[1] ? c->in[1] : c->in[0]);
    return FB_OK;
}

fb_status FBI_KERNEL(narrow_pad)(const fbi_call *c)
{
    const fbi_attrs_narrow_pad *a = c->attrs;
    fb_tensor *o = c->out[0], part = *o;
    const fb_tensor *x = c->in[0];
    bool dense = fbi_contiguous(o) && fbi_contiguous(x);
    int64_t inner = o->stride[a->dim] * (int64_t)fb_dtype_size((fb_dtype)o->dtype);
    int64_t whole = inner * o->size[a->dim], len = dense ? inner * x->size[a->dim] : 0;
    int64_t rows = whole ? o->numel * (int64_t)fb_dtype_size((fb_dtype)o->dtype) / whole : 0;
    int64_t before = dense ? inner * a->start : whole, after = whole - before - len;
    char *to = o->numel ? fbi_ptr(o) : NULL;
    const char *from = x->numel ? fbi_ptr(x) : NULL;
    int threads = o->numel > FBI_PAR_MIN ? c->threads : 1;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            fbi_stream(to + i * whole, NULL, (size_t)before);
            fbi_stream(to + i * whole + before, from + i * len, (size_t)len);
            fbi_stream(to + i * whole + before + len, NULL, (size_t)after);
        }
        fbi_stream_end();
    }
    part.numel = x->numel;
    part.size[a->dim] = x->size[a->dim];
    part.offset += a->start * o->stride[a->dim];
    if (part.numel && !dense)
        fbi_copy_strided(c->threads, &part, x);
    return FB_OK;
}

#define WHERE(T)                                                                          \
    static void where_##T(void *out, const void *const *in, int64_t n, const void *attrs) \
    {                                                                                     \
        (void)attrs;                                                                      \
        T *o = out;                                                                       \
        const uint8_t *m = in[0];                                                         \
        const T *a = in[1], *b = in[2];                                                   \
        _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) o[i] = m[i] ? a[i] : b[i];   \
    }
WHERE(uint8_t)
WHERE(uint16_t)
WHERE(uint32_t)
WHERE(uint64_t)

fb_status FBI_KERNEL(where)(const fbi_call *c)
{
    fb_dtype d = (fb_dtype)c->out[0]->dtype;
    size_t bytes = fb_dtype_size(d);
    fbi_inner fn = bytes == 1   ? where_uint8_t
                   : bytes == 2 ? where_uint16_t
                   : bytes == 4 ? where_uint32_t
                                : where_uint64_t;
    return fbi_loop(c, 3, (fb_dtype[]){d, FB_BOOL, d, d}, fn);
}
