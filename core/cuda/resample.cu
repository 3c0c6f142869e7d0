/* Lines of a tensor resampled: a thread an element of the result. */
#include "core/cuda/kernel_priv.h"
#include "core/ops/resample_priv.h"

template <class T>
__global__ void resample(fbi_resampling r, int64_t outer, int64_t inner, const T *x, T *y)
{
    FBI_EACH(i, outer * r.out * inner)
    {
        const T *line = x + i / inner / r.out * r.in * inner + i % inner;
        fbi_taps t;
        fbi_resample_taps(&r, i / inner % r.out, &t);
        T sum = 0;
        for (int64_t k = 0; k < t.n; k++)
            sum += (T)fbi_resample_weight(&r, &t, k) *
                   line[fbi_resample_clamp(t.first + k, r.in) * inner];
        y[i] = sum;
    }
}

/* The sum over the outputs that took something of an element, in their order. */
template <class T>
__global__ void resample_bwd(fbi_resampling r, int64_t outer, int64_t inner, const T *g, T *dx)
{
    FBI_EACH(i, outer * r.in * inner)
    {
        int64_t at = i / inner % r.in;
        const T *line = g + i / inner / r.in * r.out * inner + i % inner;
        T sum = 0;
        for (int64_t o = fbi_resample_users(&r, at); o < r.out; o++) {
            fbi_taps t;
            fbi_resample_taps(&r, o, &t);
            if (fbi_resample_clamp(t.first, r.in) > at)
                break;
            for (int64_t k = 0; k < t.n; k++)
                if (fbi_resample_clamp(t.first + k, r.in) == at)
                    sum += (T)fbi_resample_weight(&r, &t, k) * line[o * inner];
        }
        dx[i] = sum;
    }
}

template <class T> static fb_status run_of(const fbi_call *c, bool back)
{
    const fbi_attrs_resample &a = FBI_ATTRS(resample);
    const fb_tensor *y = c->out[0];
    fbi_resampling r = fbi_resampling_of(&a);
    fbi_temps temps(c);
    int order[FB_MAX_DIMS];
    if (y->numel == 0)
        return FB_OK;
    for (int i = 0; i < y->ndim; i++) { /* falling strides of the output; of equal ones the first */
        int k = i;
        for (; k > 0 && y->stride[order[k - 1]] < y->stride[i]; k--)
            order[k] = order[k - 1];
        order[k] = i;
    }
    const T *x = (const T *)temps.packed(c->in[0], order);
    int64_t inner = y->stride[a.dim], outer = y->numel / inner / (back ? r.in : r.out);
    if (!x)
        return c->ctx->status;
    unsigned grid = fbi_blocks(c->ctx, y->numel);
    if (back)
        FBI_LAUNCH(c, resample_bwd<T>, grid, FBI_BLOCK, r, outer, inner, x, (T *)fbi_cuda_data(y));
    else
        FBI_LAUNCH(c, resample<T>, grid, FBI_BLOCK, r, outer, inner, x, (T *)fbi_cuda_data(y));
    return FB_OK;
}

FBI_CUDA_KERNEL(resample)
{
    return c->out[0]->dtype == FB_F64 ? run_of<double>(c, false) : run_of<float>(c, false);
}

FBI_CUDA_KERNEL(resample_bwd)
{
    return c->out[0]->dtype == FB_F64 ? run_of<double>(c, true) : run_of<float>(c, true);
}
