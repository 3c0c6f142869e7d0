/* batch_norm and layer_norm. Channels are the columns of dense rows; sums have an order that only
 * the sizes decide. Where S is F16 or BF16, parameters and statistics are F32. */
#include "core/cuda/columns_priv.h"

/* --- layer_norm: a block a row, in groups of V elements --- */

template <class S, int V, class T = fbi_of<S>>
__global__ void layer(const S *x, int64_t cols, const T *w, const T *b, T eps, S *y, T *mean,
                      T *rstd, bool wide)
{
    const S *in = x + (int64_t)blockIdx.x * cols;
    S *out = y + (int64_t)blockIdx.x * cols;
    T sum = 0, squares = 0, v[V], weight[V], bias[V];
    FBI_EACH_GROUP(j, cols)
    {
        fbi_get<V>(v, in + j, wide);
        for (int i = 0; i < V; i++)
            sum += v[i];
    }
    T m = fbi_join_block<fbi_add<T>>(sum) / (T)cols;
    FBI_EACH_GROUP(j, cols)
    {
        fbi_get<V>(v, in + j, wide);
        for (int i = 0; i < V; i++)
            squares += (v[i] - m) * (v[i] - m);
    }
    T r = 1 / fbi_root(fbi_join_block<fbi_add<T>>(squares) / (T)cols + eps);
    FBI_EACH_GROUP(j, cols)
    {
        fbi_get<V>(v, in + j, wide);
        fbi_get_or<V>(weight, w, j, (T)1, wide);
        fbi_get_or<V>(bias, b, j, (T)0, wide);
        for (int i = 0; i < V; i++)
            v[i] = (v[i] - m) * r * weight[i] + bias[i];
        fbi_put<V>(out + j, v, wide);
    }
    if (threadIdx.x)
        return;
    mean[blockIdx.x] = m;
    rstd[blockIdx.x] = r;
}

/* dx = rstd (g w - mean(g w) - h mean(g w h)) with h = (x - mean) rstd */
template <class S, int V, class T = fbi_of<S>>
__global__ void layer_dx(const S *g, const S *x, int64_t cols, const T *w, const T *mean,
                         const T *rstd, S *dx, bool wide)
{
    int64_t at = (int64_t)blockIdx.x * cols;
    T m = mean[blockIdx.x], r = rstd[blockIdx.x], sum = 0, dot = 0, gv[V], xv[V], weight[V];
    FBI_EACH_GROUP(j, cols)
    {
        fbi_get<V>(gv, g + at + j, wide);
        fbi_get<V>(xv, x + at + j, wide);
        fbi_get_or<V>(weight, w, j, (T)1, wide);
        for (int i = 0; i < V; i++) {
            T gw = gv[i] * weight[i];
            sum += gw;
            dot += gw * ((xv[i] - m) * r);
        }
    }
    T a = fbi_join_block<fbi_add<T>>(sum) / (T)cols, b = fbi_join_block<fbi_add<T>>(dot) / (T)cols;
    FBI_EACH_GROUP(j, cols)
    {
        fbi_get<V>(gv, g + at + j, wide);
        fbi_get<V>(xv, x + at + j, wide);
        fbi_get_or<V>(weight, w, j, (T)1, wide);
        for (int i = 0; i < V; i++)
            gv[i] = (gv[i] * weight[i] - a - (xv[i] - m) * r * b) * r;
        fbi_put<V>(dx + at + j, gv, wide);
    }
}

/* sum g and sum g h over rows, for the gradients of bias and weight. */
template <class S> struct layer_params {
    typedef fbi_of<S> T;
    const S *g, *x;
    const T *mean, *rstd;
    int64_t cols;
    bool wide;
    template <int V> __device__ void at(int64_t i, int64_t j, T *v0, T *v1) const
    {
        fbi_get<V>(v0, g + i * cols + j, wide);
        fbi_get<V>(v1, x + i * cols + j, wide);
        for (int v = 0; v < V; v++)
            v1[v] = v0[v] * ((v1[v] - mean[i]) * rstd[i]);
    }
};

template <class S, int V> static fb_status launch_layer(const fbi_call *c, const S *x, int64_t rows)
{
    typedef fbi_of<S> T;
    fbi_temps temps(c);
    const fb_tensor *weight = c->in[1], *bias = c->in[2];
    const T *w = weight ? fbi_as<T>(temps, weight) : NULL,
            *b = bias ? fbi_as<T>(temps, bias) : NULL;
    S *y = (S *)fbi_cuda_data(c->out[0]);
    int64_t cols = c->in[0]->numel / rows;
    if ((weight && !w) || (bias && !b))
        return c->ctx->status;
    FBI_LAUNCH(c, (layer<S, V>), rows, fbi_row_threads(cols), x, cols, w, b,
               (T)FBI_ATTRS(layer_norm).eps, y, (T *)fbi_cuda_data(c->out[1]),
               (T *)fbi_cuda_data(c->out[2]), fbi_aligned(x, y, w, b));
    return FB_OK;
}

template <class S> static fb_status layer_forward(const fbi_call *c)
{
    enum { W = fbi_storage_of<S>::width };
    fbi_temps temps(c);
    const S *x = (const S *)temps.dense(c->in[0]);
    int64_t rows = c->out[1]->numel;
    if (!x || rows == 0)
        return c->ctx->status;
    return c->in[0]->numel / rows % W == 0 ? launch_layer<S, W>(c, x, rows)
                                           : launch_layer<S, 1>(c, x, rows);
}

template <class S> static fb_status layer_backward(const fbi_call *c)
{
    typedef fbi_of<S> T;
    enum { W = fbi_storage_of<S>::width };
    fbi_temps temps(c);
    const S *g = (const S *)temps.dense(c->in[0]);
    const S *x = g ? (const S *)temps.dense(c->in[1]) : NULL;
    const T *w = x && c->in[2] ? fbi_as<T>(temps, c->in[2]) : NULL;
    const T *mean = x ? fbi_as<T>(temps, c->in[3]) : NULL;
    const T *rstd = mean ? fbi_as<T>(temps, c->in[4]) : NULL;
    T *dw = rstd ? fbi_result<T>(temps, c->out[1]) : NULL;
    T *db = dw ? fbi_result<T>(temps, c->out[2]) : NULL;
    S *dx = (S *)fbi_cuda_data(c->out[0]);
    int64_t rows = c->in[3]->numel, cols = rows ? c->in[1]->numel / rows : c->out[1]->numel;
    if (!db || (c->in[2] && !w))
        return c->ctx->status;
    bool wide = fbi_aligned(g, x, w, dx);
    if (rows && cols % W == 0)
        FBI_LAUNCH(c, (layer_dx<S, W>), rows, fbi_row_threads(cols), g, x, cols, w, mean, rstd, dx,
                   wide);
    else if (rows)
        FBI_LAUNCH(c, (layer_dx<S, 1>), rows, fbi_row_threads(cols), g, x, cols, w, mean, rstd, dx,
                   wide);
    typedef layer_params<S> get;
    fb_status st = fbi_cuda_columns<get, T, W>(c, get{g, x, mean, rstd, cols, wide}, g, x, 1, rows,
                                               cols, db, dw);
    st = st ? st : fbi_deliver(c, (const T *)dw, c->out[1]);
    return st ? st : fbi_deliver(c, (const T *)db, c->out[2]);
}

FBI_CUDA_KERNEL(layer_norm)
{
    return FBI_BY_STORAGE(c->in[0]->dtype, layer_forward, c);
}

FBI_CUDA_KERNEL(layer_norm_bwd)
{
    return FBI_BY_STORAGE(c->in[1]->dtype, layer_backward, c);
}

/* --- batch_norm --- */

template <class S> struct column_sum {
    typedef fbi_of<S> T;
    const S *x;
    int64_t cols;
    bool wide;
    template <int V> __device__ void at(int64_t i, int64_t j, T *v0, T *) const
    {
        fbi_get<V>(v0, x + i * cols + j, wide);
    }
};

template <class S> struct column_squares {
    typedef fbi_of<S> T;
    const S *x;
    const T *mean;
    int64_t cols;
    bool wide;
    template <int V> __device__ void at(int64_t i, int64_t j, T *v0, T *) const
    {
        fbi_get<V>(v0, x + i * cols + j, wide);
        for (int v = 0; v < V; v++)
            v0[v] = (v0[v] - mean[j + v]) * (v0[v] - mean[j + v]);
    }
};

/* What of V elements of g passes a ReLU with the result y; all where there is none. */
template <int V, class S, class T>
static __device__ inline void let_through(T *g, const S *y, int64_t at, bool wide)
{
    T result[V];
    if (!y)
        return;
    fbi_get<V>(result, y + at, wide);
    for (int i = 0; i < V; i++)
        g[i] = result[i] <= 0 ? (T)0 : g[i];
}

/* sum g, sum g (x - mean), of the g that y lets through */
template <class S> struct column_dots {
    typedef fbi_of<S> T;
    const S *g, *x, *y;
    const T *mean;
    int64_t cols;
    bool wide;
    template <int V> __device__ void at(int64_t i, int64_t j, T *v0, T *v1) const
    {
        fbi_get<V>(v0, g + i * cols + j, wide);
        fbi_get<V>(v1, x + i * cols + j, wide);
        let_through<V>(v0, y, i * cols + j, wide);
        for (int v = 0; v < V; v++)
            v1[v] = v0[v] * (v1[v] - mean[j + v]);
    }
};

template <class T> __global__ void divide_all(T *v, int64_t n, T by)
{
    FBI_EACH(i, n)
    v[i] /= by;
}

/* w rstd of each channel */
template <class T>
__global__ void batch_scale(int64_t cols, const T *w, T eps, const T *var, T *scale)
{
    FBI_EACH(j, cols)
    scale[j] = (w ? w[j] : (T)1) / fbi_root(var[j] + eps);
}

/* With relu: the ReLU of the norm (+ r). */
template <class S, int V, class T = fbi_of<S>>
__global__ void batch(const S *x, const S *r, int64_t n, int64_t cols, const T *scale, const T *b,
                      const T *mean, bool relu, S *y, bool wide)
{
    FBI_EACH(k, n / V)
    {
        int64_t j = k % (cols / V) * V;
        T v[V], m[V], s[V], bias[V], more[V] = {0};
        fbi_get<V>(v, x + k * V, wide);
        fbi_get<V>(m, mean + j, wide);
        fbi_get<V>(s, scale + j, wide);
        fbi_get_or<V>(bias, b, j, (T)0, wide);
        if (r)
            fbi_get<V>(more, r + k * V, wide);
        for (int i = 0; i < V; i++) {
            v[i] = (v[i] - m[i]) * s[i] + bias[i] + more[i];
            v[i] = relu && v[i] <= 0 ? (T)0 : v[i];
        }
        fbi_put<V>(y + k * V, v, wide);
    }
}

/* What a batch norm has but its tensors. */
struct batch_kind {
    double eps;
    bool relu;
};

template <class S>
static fb_status batch_apply(const fbi_call *c, const batch_kind &kind, fbi_temps &temps,
                             const S *x, const fbi_of<S> *mean, const fbi_of<S> *var)
{
    typedef fbi_of<S> T;
    enum { W = fbi_storage_of<S>::width };
    int64_t n = c->in[0]->numel, cols = c->in[0]->size[1];
    const fb_tensor *weight = c->in[1], *bias = c->in[2], *residual = c->n_in > 3 ? c->in[3] : NULL;
    const T *w = weight ? fbi_as<T>(temps, weight) : NULL,
            *b = bias ? fbi_as<T>(temps, bias) : NULL;
    const S *r = residual ? (const S *)temps.channels(residual) : NULL;
    T *scale = temps.array<T>(cols);
    S *y = (S *)fbi_cuda_data(c->out[0]);
    if (!scale || (weight && !w) || (bias && !b) || (residual && !r))
        return c->ctx->status;
    bool wide = fbi_aligned(x, r, scale, b, mean, y);
    FBI_LAUNCH(c, batch_scale<T>, fbi_blocks(c->ctx, cols), FBI_BLOCK, cols, w, (T)kind.eps, var,
               scale);
    if (cols % W == 0)
        FBI_LAUNCH(c, (batch<S, W>), fbi_blocks(c->ctx, n / W), FBI_BLOCK, x, r, n, cols,
                   (const T *)scale, b, mean, kind.relu, y, wide);
    else
        FBI_LAUNCH(c, (batch<S, 1>), fbi_blocks(c->ctx, n), FBI_BLOCK, x, r, n, cols,
                   (const T *)scale, b, mean, kind.relu, y, wide);
    return FB_OK;
}

template <class S> static fb_status batch_forward(const fbi_call *c, const batch_kind &kind)
{
    typedef fbi_of<S> T;
    typedef column_sum<S> sum;
    typedef column_squares<S> squares;
    enum { W = fbi_storage_of<S>::width };
    int64_t cols = c->in[0]->size[1], rows = c->in[0]->numel / cols;
    fbi_temps temps(c);
    const S *x = (const S *)temps.channels(c->in[0]);
    T *mean = (T *)fbi_cuda_data(c->out[1]), *var = (T *)fbi_cuda_data(c->out[2]);
    if (!x)
        return c->ctx->status;
    unsigned few = fbi_blocks(c->ctx, cols);
    bool wide = fbi_aligned(x);
    fb_status st =
        fbi_cuda_columns<sum, T, W>(c, sum{x, cols, wide}, x, NULL, 1, rows, cols, mean, (T *)NULL);
    if (st)
        return st;
    FBI_LAUNCH(c, divide_all<T>, few, FBI_BLOCK, mean, cols, (T)rows);
    st = fbi_cuda_columns<squares, T, W>(c, squares{x, mean, cols, wide}, x, mean, 1, rows, cols,
                                         var, (T *)NULL);
    if (st)
        return st;
    FBI_LAUNCH(c, divide_all<T>, few, FBI_BLOCK, var, cols, (T)rows);
    return batch_apply<S>(c, kind, temps, x, mean, var);
}

/* What dx needs of a channel, from the sums of g and g (x - mean); dw and db. */
template <class T>
__global__ void batch_terms(int64_t cols, T rows, const T *w, T eps, const T *var, const T *sums,
                            T *terms, T *dw, T *db)
{
    FBI_EACH(j, cols)
    {
        T r = 1 / fbi_root(var[j] + eps), sg = sums[j], sgx = sums[cols + j];
        terms[j] = (w ? w[j] : (T)1) * r;
        terms[cols + j] = sg / rows;
        terms[2 * cols + j] = r * r * sgx / rows;
        dw[j] = sgx * r;
        db[j] = sg;
    }
}

/* dx = w rstd (g - sum g / M - h sum (g h) / M) of the g that y lets through, which goes to dr. */
template <class S, int V, class T = fbi_of<S>>
__global__ void batch_dx(const S *g, const S *x, const S *y, int64_t n, int64_t cols, const T *mean,
                         const T *terms, S *dx, S *dr, bool wide)
{
    FBI_EACH(k, n / V)
    {
        int64_t j = k % (cols / V) * V;
        T gv[V], xv[V], m[V], scale[V], even[V], along[V];
        fbi_get<V>(gv, g + k * V, wide);
        fbi_get<V>(xv, x + k * V, wide);
        let_through<V>(gv, y, k * V, wide);
        if (dr)
            fbi_put<V>(dr + k * V, gv, wide);
        fbi_get<V>(m, mean + j, wide);
        fbi_get<V>(scale, terms + j, wide);
        fbi_get<V>(even, terms + cols + j, wide);
        fbi_get<V>(along, terms + 2 * cols + j, wide);
        for (int i = 0; i < V; i++)
            gv[i] = scale[i] * (gv[i] - even[i] - (xv[i] - m[i]) * along[i]);
        fbi_put<V>(dx + k * V, gv, wide);
    }
}

template <class S> static fb_status batch_backward(const fbi_call *c, const batch_kind &kind)
{
    typedef fbi_of<S> T;
    typedef column_dots<S> dots;
    enum { W = fbi_storage_of<S>::width };
    int64_t n = c->in[1]->numel, cols = c->in[1]->size[1], rows = n / cols;
    fbi_temps temps(c);
    const S *g = (const S *)temps.channels(c->in[0]);
    const S *x = g ? (const S *)temps.channels(c->in[1]) : NULL;
    const S *y = x && kind.relu ? (const S *)temps.channels(c->in[5]) : NULL;
    const T *w = x && c->in[2] ? fbi_as<T>(temps, c->in[2]) : NULL;
    const T *mean = x ? fbi_as<T>(temps, c->in[3]) : NULL;
    const T *var = mean ? fbi_as<T>(temps, c->in[4]) : NULL;
    T *sums = var ? temps.array<T>(5 * cols) : NULL, *terms = sums + 2 * cols;
    T *dw = sums ? fbi_result<T>(temps, c->out[1]) : NULL;
    T *db = dw ? fbi_result<T>(temps, c->out[2]) : NULL;
    S *dx = (S *)fbi_cuda_data(c->out[0]);
    S *dr = c->n_out > 3 ? (S *)fbi_cuda_data(c->out[3]) : NULL;
    if (!db || (c->in[2] && !w) || (kind.relu && !y))
        return c->ctx->status;
    bool wide = fbi_aligned(g, x, y, mean, terms, dx, dr);
    fb_status st = fbi_cuda_columns<dots, T, W>(c, dots{g, x, y, mean, cols, wide}, g, x, 1, rows,
                                                cols, sums, sums + cols);
    if (st)
        return st;
    FBI_LAUNCH(c, batch_terms<T>, fbi_blocks(c->ctx, cols), FBI_BLOCK, cols, (T)rows, w,
               (T)kind.eps, var, (const T *)sums, terms, dw, db);
    if (cols % W == 0)
        FBI_LAUNCH(c, (batch_dx<S, W>), fbi_blocks(c->ctx, n / W), FBI_BLOCK, g, x, y, n, cols,
                   mean, (const T *)terms, dx, dr, wide);
    else
        FBI_LAUNCH(c, (batch_dx<S, 1>), fbi_blocks(c->ctx, n), FBI_BLOCK, g, x, y, n, cols, mean,
                   (const T *)terms, dx, dr, wide);
    st = fbi_deliver(c, (const T *)dw, c->out[1]);
    return st ? st : fbi_deliver(c, (const T *)db, c->out[2]);
}

FBI_CUDA_KERNEL(batch_norm)
{
    const batch_kind kind = {FBI_ATTRS(batch_norm).eps, false};
    return FBI_BY_STORAGE(c->in[0]->dtype, batch_forward, c, kind);
}

FBI_CUDA_KERNEL(batch_norm_bwd)
{
    const batch_kind kind = {FBI_ATTRS(batch_norm_bwd).eps, false};
    return FBI_BY_STORAGE(c->in[1]->dtype, batch_backward, c, kind);
}

FBI_CUDA_KERNEL(batch_norm_relu)
{
    const batch_kind kind = {FBI_ATTRS(batch_norm_relu).eps, true};
    return FBI_BY_STORAGE(c->in[0]->dtype, batch_forward, c, kind);
}

FBI_CUDA_KERNEL(batch_norm_relu_bwd)
{
    const batch_kind kind = {FBI_ATTRS(batch_norm_relu_bwd).eps, true};
    return FBI_BY_STORAGE(c->in[1]->dtype, batch_backward, c, kind);
}
