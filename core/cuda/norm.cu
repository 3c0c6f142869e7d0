/* batch_norm and layer_norm. Channels are the columns of dense rows; sums have an order that only
 * the sizes decide. */
#include "core/cuda/columns_priv.h"

/* --- layer_norm: a block a row --- */

template <class T>
__global__ void layer(const T *x, int64_t cols, const T *w, const T *b, T eps, T *y, T *mean,
                      T *rstd)
{
    const T *in = x + (int64_t)blockIdx.x * cols;
    T *out = y + (int64_t)blockIdx.x * cols, sum = 0, squares = 0;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x)
        sum += in[j];
    T m = fbi_join_block<fbi_add<T>>(sum) / (T)cols;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x)
        squares += (in[j] - m) * (in[j] - m);
    T r = 1 / fbi_root(fbi_join_block<fbi_add<T>>(squares) / (T)cols + eps);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x)
        out[j] = (in[j] - m) * r * (w ? w[j] : (T)1) + (b ? b[j] : (T)0);
    if (threadIdx.x)
        return;
    mean[blockIdx.x] = m;
    rstd[blockIdx.x] = r;
}

/* dx = rstd (g w - mean(g w) - h mean(g w h)) with h = (x - mean) rstd */
template <class T>
__global__ void layer_dx(const T *g, const T *x, int64_t cols, const T *w, const T *mean,
                         const T *rstd, T *dx)
{
    int64_t at = (int64_t)blockIdx.x * cols;
    T m = mean[blockIdx.x], r = rstd[blockIdx.x], sum = 0, dot = 0;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
        T gw = g[at + j] * (w ? w[j] : (T)1);
        sum += gw;
        dot += gw * ((x[at + j] - m) * r);
    }
    T a = fbi_join_block<fbi_add<T>>(sum) / (T)cols, b = fbi_join_block<fbi_add<T>>(dot) / (T)cols;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
        T gw = g[at + j] * (w ? w[j] : (T)1);
        dx[at + j] = (gw - a - (x[at + j] - m) * r * b) * r;
    }
}

/* sum g and sum g h over rows, for the gradients of bias and weight. */
template <class T> struct layer_params {
    const T *g, *x, *mean, *rstd;
    int64_t cols;
    __device__ void operator()(int64_t i, int64_t j, T *v0, T *v1) const
    {
        *v0 = g[i * cols + j];
        *v1 = *v0 * ((x[i * cols + j] - mean[i]) * rstd[i]);
    }
};

template <class T> static fb_status layer_forward(const fbi_call *c)
{
    const fb_tensor *w = c->in[1], *b = c->in[2];
    fbi_temps temps(c);
    const void *x = temps.dense(c->in[0]), *wd = w && x ? temps.dense(w) : NULL;
    const void *bd = b && x ? temps.dense(b) : NULL;
    int64_t rows = c->out[1]->numel, cols = rows ? c->in[0]->numel / rows : 0;
    if (!x || (w && !wd) || (b && !bd) || rows == 0)
        return c->ctx->status;
    FBI_LAUNCH(c, layer<T>, rows, fbi_row_threads(cols), (const T *)x, cols, (const T *)wd,
               (const T *)bd, (T)FBI_ATTRS(layer_norm).eps, (T *)fbi_cuda_data(c->out[0]),
               (T *)fbi_cuda_data(c->out[1]), (T *)fbi_cuda_data(c->out[2]));
    return FB_OK;
}

template <class T> static fb_status layer_backward(const fbi_call *c)
{
    fbi_temps temps(c);
    const T *data[5] = {NULL};
    for (int i = 0; i < 5; i++)
        if (c->in[i] && !(data[i] = (const T *)temps.dense(c->in[i])))
            return c->ctx->status;
    int64_t rows = c->in[3]->numel, cols = rows ? c->in[1]->numel / rows : c->out[1]->numel;
    if (rows)
        FBI_LAUNCH(c, layer_dx<T>, rows, fbi_row_threads(cols), data[0], data[1], cols, data[2],
                   data[3], data[4], (T *)fbi_cuda_data(c->out[0]));
    layer_params<T> get = {data[0], data[1], data[3], data[4], cols};
    return fbi_cuda_columns<layer_params<T>, T>(c, get, data[0], data[1], 1, rows, cols,
                                                (T *)fbi_cuda_data(c->out[2]),
                                                (T *)fbi_cuda_data(c->out[1]));
}

FBI_CUDA_KERNEL(layer_norm)
{
    return c->in[0]->dtype == FB_F64 ? layer_forward<double>(c) : layer_forward<float>(c);
}

FBI_CUDA_KERNEL(layer_norm_bwd)
{
    return c->in[1]->dtype == FB_F64 ? layer_backward<double>(c) : layer_backward<float>(c);
}

/* --- batch_norm --- */

template <class T> struct column_sum {
    const T *x;
    int64_t cols;
    __device__ void operator()(int64_t i, int64_t j, T *v0, T *) const { *v0 = x[i * cols + j]; }
};

template <class T> struct column_squares {
    const T *x, *mean;
    int64_t cols;
    __device__ void operator()(int64_t i, int64_t j, T *v0, T *) const
    {
        T v = x[i * cols + j] - mean[j];
        *v0 = v * v;
    }
};

/* sum g, sum g (x - mean) */
template <class T> struct column_dots {
    const T *g, *x, *mean;
    int64_t cols;
    __device__ void operator()(int64_t i, int64_t j, T *v0, T *v1) const
    {
        *v0 = g[i * cols + j];
        *v1 = *v0 * (x[i * cols + j] - mean[j]);
    }
};

template <class T> __global__ void divide_all(T *v, int64_t n, T by)
{
    FBI_EACH(i, n)
    v[i] /= by;
}

template <class T>
__global__ void batch(const T *x, int64_t n, int64_t cols, const T *w, int64_t w_step, const T *b,
                      int64_t b_step, T eps, const T *mean, const T *var, T *y)
{
    FBI_EACH(i, n)
    {
        int64_t j = i % cols;
        T scale = (w ? w[j * w_step] : (T)1) / fbi_root(var[j] + eps);
        y[i] = (x[i] - mean[j]) * scale + (b ? b[j * b_step] : (T)0);
    }
}

template <class T> static fb_status batch_forward(const fbi_call *c)
{
    typedef column_sum<T> sum;
    typedef column_squares<T> squares;
    const fb_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    int64_t cols = x->size[1], rows = x->numel / cols;
    fbi_temps temps(c);
    const T *data = (const T *)temps.channels(x);
    T *mean = (T *)fbi_cuda_data(c->out[1]), *var = (T *)fbi_cuda_data(c->out[2]);
    if (!data)
        return c->ctx->status;
    unsigned few = fbi_blocks(c->ctx, cols);
    fb_status st =
        fbi_cuda_columns<sum, T>(c, sum{data, cols}, data, NULL, 1, rows, cols, mean, (T *)NULL);
    if (st)
        return st;
    FBI_LAUNCH(c, divide_all<T>, few, FBI_BLOCK, mean, cols, (T)rows);
    st = fbi_cuda_columns<squares, T>(c, squares{data, mean, cols}, data, mean, 1, rows, cols, var,
                                      (T *)NULL);
    if (st)
        return st;
    FBI_LAUNCH(c, divide_all<T>, few, FBI_BLOCK, var, cols, (T)rows);
    FBI_LAUNCH(c, batch<T>, fbi_blocks(c->ctx, x->numel), FBI_BLOCK, data, x->numel, cols,
               w ? (const T *)fbi_cuda_data(w) : (const T *)NULL, w ? w->stride[0] : 0,
               b ? (const T *)fbi_cuda_data(b) : (const T *)NULL, b ? b->stride[0] : 0,
               (T)FBI_ATTRS(batch_norm).eps, (const T *)mean, (const T *)var,
               (T *)fbi_cuda_data(c->out[0]));
    return FB_OK;
}

/* dx = w rstd (g - sum g / M - h sum (g h) / M); dw and db are made of the sums on the way. */
template <class T>
__global__ void batch_dx(const T *g, const T *x, int64_t n, int64_t cols, T rows, const T *w,
                         int64_t w_step, T eps, const T *mean, const T *var, const T *sg,
                         const T *sgx, T *dx, T *dw, T *db)
{
    FBI_EACH(i, n)
    {
        int64_t j = i % cols;
        T r = 1 / fbi_root(var[j] + eps), scale = (w ? w[j * w_step] : (T)1) * r;
        dx[i] = scale * (g[i] - sg[j] / rows - (x[i] - mean[j]) * r * r * sgx[j] / rows);
        if (i >= cols)
            continue;
        dw[j] = sgx[j] * r;
        db[j] = sg[j];
    }
}

template <class T> static fb_status batch_backward(const fbi_call *c)
{
    typedef column_dots<T> dots;
    const fb_tensor *x = c->in[1], *w = c->in[2];
    int64_t cols = x->size[1], rows = x->numel / cols;
    fbi_temps temps(c);
    const T *g = (const T *)temps.channels(c->in[0]);
    const T *data = g ? (const T *)temps.channels(x) : NULL;
    const T *mean = data ? (const T *)temps.dense(c->in[3]) : NULL;
    const T *var = mean ? (const T *)temps.dense(c->in[4]) : NULL;
    T *sums = var ? temps.array<T>(2 * cols) : NULL;
    if (!sums)
        return c->ctx->status;
    fb_status st = fbi_cuda_columns<dots, T>(c, dots{g, data, mean, cols}, g, data, 1, rows, cols,
                                             sums, sums + cols);
    if (st)
        return st;
    FBI_LAUNCH(c, batch_dx<T>, fbi_blocks(c->ctx, x->numel), FBI_BLOCK, g, data, x->numel, cols,
               (T)rows, w ? (const T *)fbi_cuda_data(w) : (const T *)NULL, w ? w->stride[0] : 0,
               (T)FBI_ATTRS(batch_norm_bwd).eps, mean, var, (const T *)sums,
               (const T *)(sums + cols), (T *)fbi_cuda_data(c->out[0]),
               (T *)fbi_cuda_data(c->out[1]), (T *)fbi_cuda_data(c->out[2]));
    return FB_OK;
}

FBI_CUDA_KERNEL(batch_norm)
{
    return c->in[0]->dtype == FB_F64 ? batch_forward<double>(c) : batch_forward<float>(c);
}

FBI_CUDA_KERNEL(batch_norm_bwd)
{
    return c->in[1]->dtype == FB_F64 ? batch_backward<double>(c) : batch_backward<float>(c);
}
