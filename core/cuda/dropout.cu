/* dropout: element i survives if word i of the stream is large enough, as on the CPU. */
#include "core/cuda/kernel_priv.h"
#include "core/cuda/loop_priv.h"
#include "core/ops/dropout_priv.h"

/* Sizes in logical order, last dimension first, and strides of output and input. */
template <class T>
__global__ void drop(fbi_loop p, T *y, const T *x, uint64_t key, uint64_t stream, float limit,
                     T scale)
{
    FBI_EACH(block, (p.n + 3) / 4)
    {
        uint32_t w[4];
        fbi_philox(key, stream, (uint64_t)block, w);
        for (int k = 0; k < 4 && block * 4 + k < p.n; k++) {
            int64_t at[2];
            fbi_places(p, block * 4 + k, at, 2);
            y[at[0]] = fbi_u32_to_f32(w[k]) < limit ? (T)0 : x[at[1]] * scale;
        }
    }
}

template <class T> static fb_status run(const fbi_call *c)
{
    const fbi_attrs_dropout &a = FBI_ATTRS(dropout);
    const fb_tensor *x = c->in[0], *y = c->out[0];
    fbi_loop p = {};
    p.n = x->numel;
    p.ndim = x->ndim ? x->ndim : 1;
    p.size[0] = 1;
    for (int i = 0; i < x->ndim; i++) {
        int d = x->ndim - 1 - i;
        p.size[i] = x->size[d];
        p.stride[0][i] = y->stride[d];
        p.stride[1][i] = x->stride[d];
    }
    if (p.n == 0)
        return FB_OK;
    FBI_LAUNCH(c, drop<T>, fbi_blocks(c->ctx, (p.n + 3) / 4), FBI_BLOCK, p, (T *)fbi_cuda_data(y),
               (const T *)fbi_cuda_data(x), a.key, a.stream, (float)a.p,
               a.p < 1 ? (T)(1 / (1 - a.p)) : (T)0);
    return FB_OK;
}

FBI_CUDA_KERNEL(dropout)
{
    return c->in[0]->dtype == FB_F64 ? run<double>(c) : run<float>(c);
}

template <class T>
__global__ void drop_alpha(T *y, const T *x, int64_t n, uint64_t key, uint64_t stream, float limit,
                           fbi_alpha_numbers k)
{
    FBI_EACH(block, (n + 3) / 4)
    {
        uint32_t w[4];
        fbi_philox(key, stream, (uint64_t)block, w);
        for (int j = 0; j < 4 && block * 4 + j < n; j++) {
            T v = x[block * 4 + j] * (T)k.scale + (T)k.shift;
            y[block * 4 + j] = fbi_u32_to_f32(w[j]) < limit ? (T)k.dropped : v;
        }
    }
}

template <class T> static fb_status run_alpha(const fbi_call *c)
{
    fbi_temps temps(c);
    const fbi_attrs_alpha_dropout &a = FBI_ATTRS(alpha_dropout);
    int64_t n = c->out[0]->numel;
    const T *x = n ? (const T *)temps.dense(c->in[0]) : NULL;
    if (!x)
        return c->ctx->status;
    FBI_LAUNCH(c, drop_alpha<T>, fbi_blocks(c->ctx, (n + 3) / 4), FBI_BLOCK,
               (T *)fbi_cuda_data(c->out[0]), x, n, a.key, a.stream, (float)a.p,
               fbi_alpha_numbers_of(a.p));
    return FB_OK;
}

FBI_CUDA_KERNEL(alpha_dropout)
{
    return c->in[0]->dtype == FB_F64 ? run_alpha<double>(c) : run_alpha<float>(c);
}
