/* Kernel of strided_sum: each place adds the elements that lie on it, in the CPU's order. */
#include "core/cuda/kernel_priv.h"
#include "core/ops/strided_priv.h"

template <class T> __global__ void sum_places(fbi_strided s, const T *g, T *out, int64_t n)
{
    FBI_EACH(p, n)
    {
        fbi_strided_walk w;
        T sum = 0;
        fbi_strided_begin(&s, &w, p);
        for (int64_t i; (i = fbi_strided_next(&s, &w)) >= 0;)
            sum += g[i];
        out[p] = sum;
    }
}

template <class T> static fb_status run_sum(const fbi_call *c, const fbi_strided &s)
{
    fbi_temps temps(c);
    const fb_tensor *o = c->out[0];
    const T *g = (const T *)temps.dense(c->in[0]);
    if (!g)
        return c->ctx->status;
    FBI_LAUNCH(c, sum_places<T>, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, s, g,
               (T *)fbi_cuda_data(o), o->numel);
    return FB_OK;
}

FBI_CUDA_KERNEL(strided_sum)
{
    const fbi_attrs_strided_sum &a = FBI_ATTRS(strided_sum);
    fb_tensor *o = c->out[0], part = *o;
    fbi_strided s = fbi_strided_of(a.sizes, a.strides, a.offset);
    if (o->numel == 0)
        return FB_OK;
    if (c->in[0]->numel && fbi_strided_overlaps(&s))
        return o->dtype == FB_F64 ? run_sum<double>(c, s) : run_sum<float>(c, s);
    FBI_CUDA_TRY(c->ctx,
                 cudaMemsetAsync(fbi_cuda_data(o), 0, (size_t)(o->numel * fbi_cuda_bytes(o->dtype)),
                                 fbi_cuda_of(c->ctx)->stream));
    part.ndim = (uint8_t)a.sizes.n;
    part.numel = c->in[0]->numel;
    part.offset += a.offset;
    for (int i = 0; i < a.sizes.n; i++) {
        part.size[i] = a.sizes.d[i];
        part.stride[i] = a.strides.d[i];
    }
    return part.numel ? fbi_cuda_copy_strided(c, &part, c->in[0]) : FB_OK;
}
