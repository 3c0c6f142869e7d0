/* Kernels of softmax, log_softmax and their backwards: a block a line. */
#include "core/cuda/kernel_priv.h"

template <class T> __global__ void softmax(const T *x, T *y, fbi_line l, bool logs)
{
    int64_t at = blockIdx.x / l.inner * l.n * l.inner + blockIdx.x % l.inner, step = l.inner;
    T top = fbi_larger<T>::first(), total = 0;
    for (int64_t j = threadIdx.x; j < l.n; j += blockDim.x)
        top = fbi_larger<T>::join(top, x[at + j * step]);
    top = fbi_join_block<fbi_larger<T>>(top);
    for (int64_t j = threadIdx.x; j < l.n; j += blockDim.x)
        total += fbi_e(x[at + j * step] - top);
    total = fbi_join_block<fbi_add<T>>(total);
    T down = logs ? fbi_ln(total) : 1 / total;
    for (int64_t j = threadIdx.x; j < l.n; j += blockDim.x) {
        T v = x[at + j * step] - top;
        y[at + j * step] = logs ? v - down : fbi_e(v) * down;
    }
}

/* softmax: y (g - sum g y); log_softmax: g - exp(y) sum g */
template <class T> __global__ void softmax_bwd(const T *g, const T *y, T *dx, fbi_line l, bool logs)
{
    int64_t at = blockIdx.x / l.inner * l.n * l.inner + blockIdx.x % l.inner, step = l.inner;
    T total = 0;
    for (int64_t j = threadIdx.x; j < l.n; j += blockDim.x) {
        int64_t i = at + j * step;
        total += logs ? g[i] : g[i] * y[i];
    }
    total = fbi_join_block<fbi_add<T>>(total);
    for (int64_t j = threadIdx.x; j < l.n; j += blockDim.x) {
        int64_t i = at + j * step;
        dx[i] = logs ? g[i] - fbi_e(y[i]) * total : y[i] * (g[i] - total);
    }
}

template <class T> static fb_status forward(const fbi_call *c, int64_t dim, bool logs)
{
    fbi_temps temps(c);
    const void *x = temps.dense(c->in[0]);
    fbi_line l = fbi_line_of(c->in[0], dim);
    if (!x || c->in[0]->numel == 0)
        return c->ctx->status;
    FBI_LAUNCH(c, softmax<T>, l.outer * l.inner, fbi_row_threads(l.n), (const T *)x,
               (T *)fbi_cuda_data(c->out[0]), l, logs);
    return FB_OK;
}

template <class T> static fb_status backward(const fbi_call *c, int64_t dim, bool logs)
{
    fbi_temps temps(c);
    const void *g = temps.dense(c->in[0]), *y = g ? temps.dense(c->in[1]) : NULL;
    fbi_line l = fbi_line_of(c->in[0], dim);
    if (!y || c->in[0]->numel == 0)
        return c->ctx->status;
    FBI_LAUNCH(c, softmax_bwd<T>, l.outer * l.inner, fbi_row_threads(l.n), (const T *)g,
               (const T *)y, (T *)fbi_cuda_data(c->out[0]), l, logs);
    return FB_OK;
}

FBI_CUDA_KERNEL(softmax)
{
    int64_t dim = FBI_ATTRS(softmax).dim;
    return c->in[0]->dtype == FB_F64 ? forward<double>(c, dim, false)
                                     : forward<float>(c, dim, false);
}

FBI_CUDA_KERNEL(log_softmax)
{
    int64_t dim = FBI_ATTRS(log_softmax).dim;
    return c->in[0]->dtype == FB_F64 ? forward<double>(c, dim, true) : forward<float>(c, dim, true);
}

FBI_CUDA_KERNEL(softmax_bwd)
{
    int64_t dim = FBI_ATTRS(softmax_bwd).dim;
    return c->in[0]->dtype == FB_F64 ? backward<double>(c, dim, false)
                                     : backward<float>(c, dim, false);
}

FBI_CUDA_KERNEL(log_softmax_bwd)
{
    int64_t dim = FBI_ATTRS(log_softmax_bwd).dim;
    return c->in[0]->dtype == FB_F64 ? backward<double>(c, dim, true)
                                     : backward<float>(c, dim, true);
}
