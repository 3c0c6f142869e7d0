/* masked_softmax: scale, mask and softmax of attention scores, a block a row. */
#include "core/cuda/mask_priv.h"

/* y = softmax(x scale + mask) over the first n of `cols` elements, the rest zero. */
template <class T>
__global__ void masked(const T *x, const void *mask, fbi_mask m, T *y, int64_t steps, int64_t cols,
                       T scale, bool causal)
{
    int64_t row = blockIdx.x, seen = row % steps + 1, n = causal && seen < cols ? seen : cols;
    int64_t base = fbi_mask_row(m, row), step = fbi_mask_step(m);
    const T *in = x + row * cols;
    T *out = y + row * cols, top = -(T)INFINITY, total = 0;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
        top = fbi_larger<T>::join(top, fbi_score(in[j], scale, m, mask, base + j * step));
    top = fbi_join_block<fbi_larger<T>>(top);
    if (top == -(T)INFINITY)
        n = 0; /* nothing takes part */
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
        total += fbi_e(fbi_score(in[j], scale, m, mask, base + j * step) - top);
    total = fbi_join_block<fbi_add<T>>(total);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x)
        out[j] =
            j < n ? fbi_e(fbi_score(in[j], scale, m, mask, base + j * step) - top) / total : (T)0;
}

/* dx = scale y (g - sum g y) */
template <class T> __global__ void masked_bwd(const T *g, const T *y, T *dx, int64_t cols, T scale)
{
    int64_t at = (int64_t)blockIdx.x * cols;
    T total = 0;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x)
        total += g[at + j] * y[at + j];
    total = fbi_join_block<fbi_add<T>>(total);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x)
        dx[at + j] = scale * y[at + j] * (g[at + j] - total);
}

template <class T> static fb_status forward(const fbi_call *c)
{
    const fbi_attrs_masked_softmax &a = FBI_ATTRS(masked_softmax);
    const fb_tensor *x = c->in[0], *mask = c->in[1];
    fbi_temps temps(c);
    const void *data = temps.dense(x);
    if (!data || x->numel == 0)
        return c->ctx->status;
    fbi_mask m = fbi_mask_of(mask);
    int64_t cols = x->size[x->ndim - 1], rows = x->numel / cols, steps = x->size[x->ndim - 2];
    FBI_LAUNCH(c, masked<T>, rows, fbi_row_threads(cols), (const T *)data,
               mask ? (const void *)fbi_cuda_data(mask) : NULL, m, (T *)fbi_cuda_data(c->out[0]),
               steps, cols, (T)a.scale, a.causal != 0);
    return FB_OK;
}

template <class T> static fb_status backward(const fbi_call *c)
{
    const fb_tensor *x = c->in[0];
    fbi_temps temps(c);
    const void *g = temps.dense(x), *y = g ? temps.dense(c->in[1]) : NULL;
    if (!y || x->numel == 0)
        return c->ctx->status;
    int64_t cols = x->size[x->ndim - 1];
    FBI_LAUNCH(c, masked_bwd<T>, x->numel / cols, fbi_row_threads(cols), (const T *)g, (const T *)y,
               (T *)fbi_cuda_data(c->out[0]), cols, (T)FBI_ATTRS(masked_softmax_bwd).scale);
    return FB_OK;
}

FBI_CUDA_KERNEL(masked_softmax)
{
    return c->in[0]->dtype == FB_F64 ? forward<double>(c) : forward<float>(c);
}

FBI_CUDA_KERNEL(masked_softmax_bwd)
{
    return c->in[0]->dtype == FB_F64 ? backward<double>(c) : backward<float>(c);
}
