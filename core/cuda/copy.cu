/* Kernels that move elements: cast, contiguous, copy, where, narrow_pad. */
#include "core/cuda/kernel_priv.h"
#include "core/cuda/loop_priv.h"

/* Through double or int64_t, by what is read: both hold every value of their kind. */
__global__ void convert(fbi_loop p, void *dst, const void *src)
{
    bool from_float = p.dtype[1] >= FB_F32 && p.dtype[1] <= FB_BF16;
    bool to_float = p.dtype[0] >= FB_F32 && p.dtype[0] <= FB_BF16;
    FBI_EACH(i, p.n)
    {
        int64_t at[2];
        fbi_places(p, i, at, 2);
        if (from_float) {
            double v = fbi_load<double>(src, p.dtype[1], at[1]);
            if (to_float)
                fbi_store<double>(dst, p.dtype[0], at[0], v);
            else if (p.dtype[0] == FB_BOOL)
                fbi_store_int(dst, FB_BOOL, at[0], v != 0);
            else
                fbi_store_int(dst, p.dtype[0], at[0], (int64_t)v);
            continue;
        }
        int64_t v = fbi_load_int(src, p.dtype[1], at[1]);
        if (p.dtype[1] == FB_BOOL)
            v = v != 0;
        if (p.dtype[0] == FB_F64)
            ((double *)dst)[at[0]] = (double)v;
        else if (to_float)
            fbi_store<float>(dst, p.dtype[0], at[0], (float)v);
        else
            fbi_store_int(dst, p.dtype[0], at[0], v);
    }
}

template <class T> __global__ void move(fbi_loop p, T *dst, const T *src)
{
    FBI_EACH(i, p.n)
    {
        int64_t at[2];
        fbi_places(p, i, at, 2);
        dst[at[0]] = src[at[1]];
    }
}

template <class T>
static fb_status run_move(const fbi_call *c, const fbi_loop &p, void *dst, const void *src)
{
    FBI_LAUNCH(c, move<T>, fbi_blocks(c->ctx, p.n), FBI_BLOCK, p, (T *)dst, (const T *)src);
    return FB_OK;
}

extern "C" fb_status fbi_cuda_copy_strided(const fbi_call *c, fb_tensor *dst, const fb_tensor *src)
{
    const fb_tensor *t[2] = {dst, src};
    fbi_loop p;
    fbi_cuda_loop(&p, t, 2);
    if (p.n == 0)
        return FB_OK;
    void *to = fbi_cuda_data(dst);
    const void *from = fbi_cuda_data(src);
    int64_t bytes = fbi_cuda_bytes(dst->dtype);
    if (dst->dtype != src->dtype) {
        FBI_LAUNCH(c, convert, fbi_blocks(c->ctx, p.n), FBI_BLOCK, p, to, from);
        return FB_OK;
    }
    if (p.ndim == 1 && p.stride[0][0] == 1 && p.stride[1][0] == 1) {
        if (to != from)
            FBI_CUDA_TRY(c->ctx,
                         cudaMemcpyAsync(to, from, (size_t)(p.n * bytes), cudaMemcpyDeviceToDevice,
                                         fbi_cuda_of(c->ctx)->stream));
        return FB_OK;
    }
    return bytes == 1   ? run_move<uint8_t>(c, p, to, from)
           : bytes == 2 ? run_move<uint16_t>(c, p, to, from)
           : bytes == 4 ? run_move<uint32_t>(c, p, to, from)
                        : run_move<uint64_t>(c, p, to, from);
}

FBI_CUDA_KERNEL(cast)
{
    return fbi_cuda_copy_strided(c, c->out[0], c->in[0]);
}

FBI_CUDA_KERNEL(contiguous)
{
    return fbi_cuda_copy_strided(c, c->out[0], c->in[0]);
}

FBI_CUDA_KERNEL(copy)
{
    return fbi_cuda_copy_strided(c, c->out[0], c->n_in > 1 && c->in[1] ? c->in[1] : c->in[0]);
}

FBI_CUDA_KERNEL(narrow_pad)
{
    const fbi_attrs_narrow_pad &a = FBI_ATTRS(narrow_pad);
    fb_tensor *o = c->out[0], part = *o;
    if (o->numel)
        FBI_CUDA_TRY(c->ctx, cudaMemsetAsync(fbi_cuda_data(o), 0,
                                             (size_t)(o->numel * fbi_cuda_bytes(o->dtype)),
                                             fbi_cuda_of(c->ctx)->stream));
    part.numel = c->in[0]->numel;
    part.size[a.dim] = c->in[0]->size[a.dim];
    part.offset += a.start * o->stride[a.dim];
    return fbi_cuda_copy_strided(c, &part, c->in[0]);
}

template <class T>
__global__ void choose(fbi_loop p, T *out, const uint8_t *mask, const T *x, const T *y)
{
    FBI_EACH(i, p.n)
    {
        int64_t at[4];
        fbi_places(p, i, at, 4);
        out[at[0]] = mask[at[1]] ? x[at[2]] : y[at[3]];
    }
}

template <class T> static fb_status run_where(const fbi_call *c)
{
    const fb_tensor *t[4] = {c->out[0], c->in[0], c->in[1], c->in[2]};
    fbi_loop p;
    fbi_cuda_loop(&p, t, 4);
    if (p.n == 0)
        return FB_OK;
    FBI_LAUNCH(c, choose<T>, fbi_blocks(c->ctx, p.n), FBI_BLOCK, p, (T *)fbi_cuda_data(t[0]),
               (const uint8_t *)fbi_cuda_data(t[1]), (const T *)fbi_cuda_data(t[2]),
               (const T *)fbi_cuda_data(t[3]));
    return FB_OK;
}

FBI_CUDA_KERNEL(where)
{
    int64_t bytes = fbi_cuda_bytes(c->out[0]->dtype);
    return bytes == 1   ? run_where<uint8_t>(c)
           : bytes == 2 ? run_where<uint16_t>(c)
           : bytes == 4 ? run_where<uint32_t>(c)
                        : run_where<uint64_t>(c);
}
