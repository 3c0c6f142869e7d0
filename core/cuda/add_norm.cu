/* add_layer_norm: a block a row; F16 and BF16 are read and written as they are. */
#include "core/cuda/columns_priv.h"

/* s = x + r, y = (s - mean) rstd w + b; of the sums before they are rounded. */
template <class T>
__global__ void add_layer(const void *x, const void *r, int dtype, int64_t cols, const void *w,
                          const void *b, int params, T eps, void *s, void *y, T *mean, T *rstd)
{
    int64_t at = (int64_t)blockIdx.x * cols;
    T sum = 0, squares = 0;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
        T v = fbi_load<T>(x, dtype, at + j) + fbi_load<T>(r, dtype, at + j);
        fbi_store<T>(s, dtype, at + j, v);
        sum += v;
    }
    T m = fbi_join_block<fbi_add<T>>(sum) / (T)cols;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
        T v = fbi_load<T>(x, dtype, at + j) + fbi_load<T>(r, dtype, at + j) - m;
        squares += v * v;
    }
    T root = 1 / fbi_root(fbi_join_block<fbi_add<T>>(squares) / (T)cols + eps);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
        T v = (fbi_load<T>(x, dtype, at + j) + fbi_load<T>(r, dtype, at + j) - m) * root;
        v *= w ? fbi_load<T>(w, params, j) : (T)1;
        fbi_store<T>(y, dtype, at + j, v + (b ? fbi_load<T>(b, params, j) : (T)0));
    }
    if (threadIdx.x)
        return;
    mean[blockIdx.x] = m;
    rstd[blockIdx.x] = root;
}

/* ds = rstd (g w - mean(g w) - h mean(g w h)) + more, with h = (s - mean) rstd. */
template <class T>
__global__ void add_layer_dx(const void *g, const void *s, const void *more, int dtype,
                             int64_t cols, const void *w, int params, const T *mean, const T *rstd,
                             void *ds)
{
    int64_t at = (int64_t)blockIdx.x * cols;
    T m = mean[blockIdx.x], r = rstd[blockIdx.x], sum = 0, dot = 0;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
        T gw = fbi_load<T>(g, dtype, at + j) * (w ? fbi_load<T>(w, params, j) : (T)1);
        sum += gw;
        dot += gw * ((fbi_load<T>(s, dtype, at + j) - m) * r);
    }
    T a = fbi_join_block<fbi_add<T>>(sum) / (T)cols, b = fbi_join_block<fbi_add<T>>(dot) / (T)cols;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
        T gw = fbi_load<T>(g, dtype, at + j) * (w ? fbi_load<T>(w, params, j) : (T)1);
        T d = (gw - a - (fbi_load<T>(s, dtype, at + j) - m) * r * b) * r;
        fbi_store<T>(ds, dtype, at + j, more ? d + fbi_load<T>(more, dtype, at + j) : d);
    }
}

/* sum g and sum g h over rows, for the gradients of bias and weight. */
template <class T> struct add_layer_params {
    const void *g, *s;
    const T *mean, *rstd;
    int dtype;
    int64_t cols;
    template <int V> __device__ void at(int64_t i, int64_t j, T *v0, T *v1) const
    {
        *v0 = fbi_load<T>(g, dtype, i * cols + j);
        *v1 = *v0 * ((fbi_load<T>(s, dtype, i * cols + j) - mean[i]) * rstd[i]);
    }
};

template <class T> static fb_status forward(const fbi_call *c)
{
    fbi_temps temps(c);
    const void *p[4] = {NULL}; /* x, w, b, r */
    for (int i = 0; i < 4; i++)
        if (c->in[i] && !(p[i] = temps.dense(c->in[i])))
            return c->ctx->status;
    const fb_tensor *x = c->in[0], *w = c->in[1] ? c->in[1] : c->in[2];
    int64_t rows = c->out[2]->numel, cols = rows ? x->numel / rows : 0;
    if (rows == 0)
        return FB_OK;
    FBI_LAUNCH(c, add_layer<T>, rows, fbi_row_threads(cols), p[0], p[3], (int)x->dtype, cols, p[1],
               p[2], w ? (int)w->dtype : (int)FB_F32, (T)FBI_ATTRS(add_layer_norm).eps,
               fbi_cuda_data(c->out[1]), fbi_cuda_data(c->out[0]), (T *)fbi_cuda_data(c->out[2]),
               (T *)fbi_cuda_data(c->out[3]));
    return FB_OK;
}

template <class T> static fb_status backward(const fbi_call *c)
{
    fbi_temps temps(c);
    const void *p[6] = {NULL}; /* g, s, w, more, mean, rstd */
    for (int i = 0; i < 6; i++)
        if (c->in[i] && !(p[i] = temps.dense(c->in[i])))
            return c->ctx->status;
    const fb_tensor *s = c->in[1], *w = c->in[2];
    int64_t cols = c->out[1]->numel, rows = cols ? s->numel / cols : 0;
    if (rows)
        FBI_LAUNCH(c, add_layer_dx<T>, rows, fbi_row_threads(cols), p[0], p[1], p[3], (int)s->dtype,
                   cols, p[2], w ? (int)w->dtype : (int)FB_F32, (const T *)p[4], (const T *)p[5],
                   fbi_cuda_data(c->out[0]));
    T *db = temps.array<T>(cols), *dw = db ? temps.array<T>(cols) : NULL;
    if (!dw)
        return c->ctx->status;
    typedef add_layer_params<T> get;
    fb_status st = fbi_cuda_columns<get, T>(
        c, get{p[0], p[1], (const T *)p[4], (const T *)p[5], (int)s->dtype, cols}, p[0], p[1], 1,
        rows, cols, db, dw);
    st = st ? st : fbi_cuda_store_row(c, (const T *)dw, c->out[1]);
    return st ? st : fbi_cuda_store_row(c, (const T *)db, c->out[2]);
}

FBI_CUDA_KERNEL(add_layer_norm)
{
    return c->in[0]->dtype == FB_F64 ? forward<double>(c) : forward<float>(c);
}

FBI_CUDA_KERNEL(add_layer_norm_bwd)
{
    return c->in[1]->dtype == FB_F64 ? backward<double>(c) : backward<float>(c);
}
