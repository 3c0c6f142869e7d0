/* Kernels of take_masked, put_masked and masked_places: one walk over the mask. */
#include "core/cpu/flat_priv.h"
#include "core/cpu/kernels_isa.h"
#include "core/cpu/loop.h"

fb_status FBI_KERNEL(take_masked)(const fbi_call *c)
{
    fbi_flat x = {0}, m = {0};
    fb_tensor *o = c->out[0];
    size_t b = fb_dtype_size((fb_dtype)o->dtype);
    bool ok = fbi_flat_of(c, c->in[0], &x) && fbi_flat_of(c, c->in[1], &m);
    int64_t rank = 0;
    char *out = fbi_ptr(o);
    for (int64_t i = 0; ok && i < c->in[1]->numel && rank < o->numel; i++)
        if (((const uint8_t *)m.p)[i])
            memcpy(out + (size_t)rank++ * b, (const char *)x.p + (size_t)i * b, b);
    if (ok && rank < o->numel)
        memset(out + (size_t)rank * b, 0, (size_t)(o->numel - rank) * b);
    fbi_flat_free(&x);
    fbi_flat_free(&m);
    return ok ? FB_OK : FB_E_NOMEM;
}

fb_status FBI_KERNEL(put_masked)(const fbi_call *c)
{
    fbi_flat m = {0}, src = {0};
    fb_tensor *o = c->out[0];
    size_t b = fb_dtype_size((fb_dtype)o->dtype);
    fb_status st =
        fbi_flat_of(c, c->in[1], &m) && fbi_flat_of(c, c->in[2], &src) ? FB_OK : FB_E_NOMEM;
    int64_t rank = 0, size = c->in[2]->numel;
    if (!st)
        fbi_copy_strided(c->threads, o, c->in[0]);
    for (int64_t i = 0; !st && i < o->numel; i++) {
        if (!((const uint8_t *)m.p)[i])
            continue;
        if (rank == size)
            st = fbi_op_fail(c, FB_E_ARG,
                             "index %lld at position %lld is out of range: the size is %lld",
                             (long long)rank, (long long)i, (long long)size);
        else
            memcpy((char *)fbi_ptr(o) + (size_t)i * b, (const char *)src.p + (size_t)rank++ * b, b);
    }
    fbi_flat_free(&m);
    fbi_flat_free(&src);
    return st;
}

fb_status FBI_KERNEL(masked_places)(const fbi_call *c)
{
    const fb_tensor *mask = c->in[0];
    fbi_flat m;
    if (!fbi_flat_of(c, mask, &m))
        return FB_E_NOMEM;
    int64_t *out = fbi_ptr(c->out[0]), *end = out + c->out[0]->numel;
    for (int64_t i = 0; i < mask->numel && out < end; i++) {
        if (!((const uint8_t *)m.p)[i])
            continue;
        int64_t rest = i;
        for (int d = mask->ndim - 1; d >= 0; d--) {
            out[d] = rest % mask->size[d];
            rest /= mask->size[d];
        }
        out += mask->ndim;
    }
    fbi_flat_free(&m);
    return FB_OK;
}
