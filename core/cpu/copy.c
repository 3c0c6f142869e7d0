/* Kernels that move elements: cast, contiguous, copy, where, narrow_pad. */
#include <string.h>

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
    if (o->numel)
        memset(fbi_ptr(o), 0, (size_t)o->numel * fb_dtype_size((fb_dtype)o->dtype));
    part.numel = c->in[0]->numel;
    part.size[a->dim] = c->in[0]->size[a->dim];
    part.offset += a->start * o->stride[a->dim];
    if (part.numel)
        fbi_copy_strided(c->threads, &part, c->in[0]);
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
