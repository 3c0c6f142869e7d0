/* Kernels of max_dim, min_dim, argmax, argmin: a thread a line. */
#include "core/cuda/kernel_priv.h"

/* First index of the extreme value; NaN wins. values may be NULL. */
template <class T, bool LARGEST>
__global__ void find(const void *x, int dtype, fbi_line l, void *values, int64_t *at)
{
    FBI_EACH(i, l.outer * l.inner)
    {
        int64_t line = i / l.inner * l.n * l.inner + i % l.inner, where = 0;
        T best = fbi_load<T>(x, dtype, line);
        for (int64_t j = 1; j < l.n && best == best; j++) {
            T v = fbi_load<T>(x, dtype, line + j * l.inner);
            if ((LARGEST ? v > best : v < best) || v != v) {
                best = v;
                where = j;
            }
        }
        at[i] = where;
        if (values)
            fbi_store<T>(values, dtype, i, best);
    }
}

template <class T, bool LARGEST>
static fb_status run(const fbi_call *c, int64_t dim, fb_tensor *values, fb_tensor *indices)
{
    fbi_temps temps(c);
    const void *x = temps.dense(c->in[0]);
    fbi_line l = fbi_line_of(c->in[0], dim);
    if (!x || l.outer * l.inner == 0)
        return c->ctx->status;
    FBI_LAUNCH(c, (find<T, LARGEST>), fbi_blocks(c->ctx, l.outer * l.inner), FBI_BLOCK, x,
               (int)c->in[0]->dtype, l, values ? fbi_cuda_data(values) : (void *)NULL,
               (int64_t *)fbi_cuda_data(indices));
    return FB_OK;
}

template <bool LARGEST>
static fb_status extreme(const fbi_call *c, int64_t dim, fb_tensor *values, fb_tensor *indices)
{
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64            ? run<double, LARGEST>(c, dim, values, indices)
           : fbi_cuda_is_float(dtype) ? run<float, LARGEST>(c, dim, values, indices)
                                      : run<int64_t, LARGEST>(c, dim, values, indices);
}

FBI_CUDA_KERNEL(max_dim)
{
    return extreme<true>(c, FBI_ATTRS(max_dim).dim, c->out[0], c->out[1]);
}

FBI_CUDA_KERNEL(min_dim)
{
    return extreme<false>(c, FBI_ATTRS(min_dim).dim, c->out[0], c->out[1]);
}

FBI_CUDA_KERNEL(argmax)
{
    return extreme<true>(c, FBI_ATTRS(argmax).dim, NULL, c->out[0]);
}

FBI_CUDA_KERNEL(argmin)
{
    return extreme<false>(c, FBI_ATTRS(argmin).dim, NULL, c->out[0]);
}
