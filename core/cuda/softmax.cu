/* Kernels of softmax, log_softmax and their backwards: a block a line, in groups of V elements
 * where these are side by side. */
#include "core/cuda/vector_priv.h"

static __device__ inline int64_t line_start(const fbi_line &l)
{
    return blockIdx.x / l.inner * l.n * l.inner + blockIdx.x % l.inner;
}

template <class S, int V>
__global__ void softmax(const S *x, S *y, fbi_line l, bool logs, bool wide)
{
    typedef fbi_of<S> T;
    int64_t at = line_start(l), step = l.inner;
    T top = fbi_larger<T>::first(), total = 0, v[V];
    FBI_EACH_GROUP(j, l.n)
    {
        fbi_get<V>(v, x + at + j * step, wide);
        for (int i = 0; i < V; i++)
            top = fbi_larger<T>::join(top, v[i]);
    }
    top = fbi_join_block<fbi_larger<T>>(top);
    FBI_EACH_GROUP(j, l.n)
    {
        fbi_get<V>(v, x + at + j * step, wide);
        for (int i = 0; i < V; i++)
            total += fbi_e(v[i] - top);
    }
    total = fbi_join_block<fbi_add<T>>(total);
    T down = logs ? fbi_ln(total) : 1 / total;
    FBI_EACH_GROUP(j, l.n)
    {
        fbi_get<V>(v, x + at + j * step, wide);
        for (int i = 0; i < V; i++)
            v[i] = logs ? v[i] - top - down : fbi_e(v[i] - top) * down;
        fbi_put<V>(y + at + j * step, v, wide);
    }
}

/* softmax: y (g - sum g y); log_softmax: g - exp(y) sum g */
template <class S, int V>
__global__ void softmax_bwd(const S *g, const S *y, S *dx, fbi_line l, bool logs, bool wide)
{
    typedef fbi_of<S> T;
    int64_t at = line_start(l), step = l.inner;
    T total = 0, v[V], w[V];
    FBI_EACH_GROUP(j, l.n)
    {
        fbi_get<V>(v, g + at + j * step, wide);
        fbi_get<V>(w, y + at + j * step, wide);
        for (int i = 0; i < V; i++)
            total += logs ? v[i] : v[i] * w[i];
    }
    total = fbi_join_block<fbi_add<T>>(total);
    FBI_EACH_GROUP(j, l.n)
    {
        fbi_get<V>(v, g + at + j * step, wide);
        fbi_get<V>(w, y + at + j * step, wide);
        for (int i = 0; i < V; i++)
            v[i] = logs ? v[i] - fbi_e(w[i]) * total : w[i] * (v[i] - total);
        fbi_put<V>(dx + at + j * step, v, wide);
    }
}

template <class S, int V>
static fb_status launch_forward(const fbi_call *c, const S *x, const fbi_line &l, bool logs)
{
    S *y = (S *)fbi_cuda_data(c->out[0]);
    FBI_LAUNCH(c, (softmax<S, V>), l.outer * l.inner, fbi_row_threads(l.n), x, y, l, logs,
               fbi_aligned(x, y));
    return FB_OK;
}

template <class S, int V>
static fb_status launch_backward(const fbi_call *c, const S *g, const S *y, const fbi_line &l,
                                 bool logs)
{
    S *dx = (S *)fbi_cuda_data(c->out[0]);
    FBI_LAUNCH(c, (softmax_bwd<S, V>), l.outer * l.inner, fbi_row_threads(l.n), g, y, dx, l, logs,
               fbi_aligned(g, y, dx));
    return FB_OK;
}

template <class S> static bool in_groups(const fbi_line &l)
{
    return l.inner == 1 && l.n % fbi_storage_of<S>::width == 0;
}

template <class S> static fb_status forward(const fbi_call *c, int64_t dim, bool logs)
{
    enum { W = fbi_storage_of<S>::width };
    fbi_temps temps(c);
    const S *x = (const S *)temps.dense(c->in[0]);
    fbi_line l = fbi_line_of(c->in[0], dim);
    if (!x || c->in[0]->numel == 0)
        return c->ctx->status;
    return in_groups<S>(l) ? launch_forward<S, W>(c, x, l, logs)
                           : launch_forward<S, 1>(c, x, l, logs);
}

template <class S> static fb_status backward(const fbi_call *c, int64_t dim, bool logs)
{
    enum { W = fbi_storage_of<S>::width };
    fbi_temps temps(c);
    const S *g = (const S *)temps.dense(c->in[0]);
    const S *y = g ? (const S *)temps.dense(c->in[1]) : NULL;
    fbi_line l = fbi_line_of(c->in[0], dim);
    if (!y || c->in[0]->numel == 0)
        return c->ctx->status;
    return in_groups<S>(l) ? launch_backward<S, W>(c, g, y, l, logs)
                           : launch_backward<S, 1>(c, g, y, l, logs);
}

FBI_CUDA_KERNEL(softmax)
{
    return FBI_BY_STORAGE(c->in[0]->dtype, forward, c, FBI_ATTRS(softmax).dim, false);
}

FBI_CUDA_KERNEL(log_softmax)
{
    return FBI_BY_STORAGE(c->in[0]->dtype, forward, c, FBI_ATTRS(log_softmax).dim, true);
}

FBI_CUDA_KERNEL(softmax_bwd)
{
    return FBI_BY_STORAGE(c->in[0]->dtype, backward, c, FBI_ATTRS(softmax_bwd).dim, false);
}

FBI_CUDA_KERNEL(log_softmax_bwd)
{
    return FBI_BY_STORAGE(c->in[0]->dtype, backward, c, FBI_ATTRS(log_softmax_bwd).dim, true);
}
