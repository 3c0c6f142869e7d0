/* Kernels of cross_entropy and mse_loss. Sums over items are one block's, in a fixed order. */
#include "core/cuda/vector_priv.h"

/* Sizes and numbers of a cross entropy; a target outside of the classes that is not `ignore` counts
 * as ignored and is noted in `bad`. */
template <class T> struct fbi_ce {
    fbi_line l;
    int op, target_dtype;
    int64_t ignore;
    T smoothing;
    fbi_cuda_bad *bad;
    __device__ int64_t items() const { return l.outer * l.inner; }
    __device__ int64_t first(int64_t item) const
    {
        return item / l.inner * l.n * l.inner + item % l.inner;
    }
    /* -1: ignored. */
    __device__ int64_t target(const void *t, int64_t item) const
    {
        int64_t v = fbi_load_int(t, target_dtype, item);
        if (v == ignore)
            return -1;
        if (v >= 0 && v < l.n)
            return v;
        fbi_note_bad(bad, op, v, item, l.n, ignore);
        return -1;
    }
};

/* lse = log sum exp of each item, and its weighted loss. A block an item, whose classes are taken V
 * at a time. */
template <class S, int V, class T = fbi_of<S>>
__global__ void ce_items(fbi_ce<T> e, const S *x, const void *target, const T *weight, T *lse,
                         T *loss, bool wide)
{
    int64_t item = blockIdx.x, at = e.first(item), step = e.l.inner, n = e.l.n;
    T top = fbi_larger<T>::first(), total = 0, spread = 0, v[V], w[V];
    FBI_EACH_GROUP(j, n)
    {
        fbi_get<V>(v, x + at + j * step, wide);
        for (int i = 0; i < V; i++)
            top = fbi_larger<T>::join(top, v[i]);
    }
    top = fbi_join_block<fbi_larger<T>>(top);
    FBI_EACH_GROUP(j, n)
    {
        fbi_get<V>(v, x + at + j * step, wide);
        for (int i = 0; i < V; i++)
            total += fbi_e(v[i] - top);
    }
    total = fbi_join_block<fbi_add<T>>(total);
    T log_total = top + fbi_ln(total);
    if (e.smoothing > 0) {
        FBI_EACH_GROUP(j, n)
        {
            fbi_get<V>(v, x + at + j * step, wide);
            fbi_get_or<V>(w, weight, j, (T)1, wide);
            for (int i = 0; i < V; i++)
                spread += w[i] * (log_total - v[i]);
        }
        spread = fbi_join_block<fbi_add<T>>(spread);
    }
    if (threadIdx.x)
        return;
    int64_t t = e.target(target, item);
    lse[item] = log_total;
    T hit = t < 0 ? (T)0 : (weight ? weight[t] : (T)1) * (log_total - fbi_up(x[at + t * step]));
    loss[item] = t < 0 ? (T)0 : (1 - e.smoothing) * hit + e.smoothing / (T)n * spread;
}

/* out = sum of v over n items by one block. */
template <class T> __global__ void total_of(const T *v, int64_t n, T *out)
{
    T sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        sum += v[i];
    sum = fbi_join_block<fbi_add<T>>(sum);
    if (threadIdx.x == 0)
        *out = sum;
}

/* sums[0]: of the targets' weights, by which the mean divides; sums[1]: of the classes' weights. */
template <class T>
__global__ void ce_weights(fbi_ce<T> e, const void *target, const T *weight, T *sums)
{
    T used = 0, all = 0;
    for (int64_t i = threadIdx.x; i < e.items(); i += blockDim.x) {
        int64_t t = e.target(target, i);
        used += t < 0 ? (T)0 : weight ? weight[t] : (T)1;
    }
    for (int64_t j = threadIdx.x; j < e.l.n && weight; j += blockDim.x)
        all += weight[j];
    used = fbi_join_block<fbi_add<T>>(used);
    all = fbi_join_block<fbi_add<T>>(all);
    if (threadIdx.x)
        return;
    sums[0] = used;
    sums[1] = weight ? all : (T)e.l.n;
}

template <class T> __global__ void divide(T *out, const T *by)
{
    *out = *out / *by;
}

/* dx = s (k softmax - smoothing part - hit part) of an item with target t. */
template <class T> struct ce_slope {
    T s, k, even, hit, lse;
    int64_t t;
    __device__ ce_slope(const fbi_ce<T> &e, int reduction, const T *g, const void *target,
                        const T *weight, const T *lses, const T *sums, int64_t item)
        : s(0), k(0), even(0), hit(0), lse(0), t(e.target(target, item))
    {
        if (t < 0)
            return;
        even = e.smoothing / (T)e.l.n;
        s = reduction == 2 ? g[item] : g[0] / (reduction == 0 ? sums[0] : (T)1);
        hit = (1 - e.smoothing) * (weight ? weight[t] : (T)1);
        k = s * (hit + even * sums[1]);
        lse = lses[item];
    }
    __device__ T of(T x, int64_t j, T weight) const
    {
        if (t < 0)
            return 0;
        T v = k * fbi_e(x - lse);
        if (even > 0)
            v -= s * even * weight;
        return j == t ? v - s * hit : v;
    }
};

/* A block an item, whose classes lie side by side. */
template <class S, int V, class T = fbi_of<S>>
__global__ void ce_slopes(fbi_ce<T> e, int reduction, const T *g, const S *x, const void *target,
                          const T *weight, const T *lse, const T *sums, S *dx, bool wide)
{
    int64_t at = blockIdx.x * e.l.n;
    ce_slope<T> slope(e, reduction, g, target, weight, lse, sums, blockIdx.x);
    T v[V], w[V];
    FBI_EACH_GROUP(j, e.l.n)
    {
        fbi_get<V>(v, x + at + j, wide);
        fbi_get_or<V>(w, weight, j, (T)1, wide);
        for (int i = 0; i < V; i++)
            v[i] = slope.of(v[i], j + i, w[i]);
        fbi_put<V>(dx + at + j, v, wide);
    }
}

/* The same where they do not, element by element. */
template <class S, class T = fbi_of<S>>
__global__ void ce_slopes_apart(fbi_ce<T> e, int reduction, const T *g, const S *x,
                                const void *target, const T *weight, const T *lse, const T *sums,
                                S *dx)
{
    FBI_EACH(i, e.items() * e.l.n)
    {
        int64_t j = i / e.l.inner % e.l.n, item = i / e.l.inner / e.l.n * e.l.inner + i % e.l.inner;
        ce_slope<T> slope(e, reduction, g, target, weight, lse, sums, item);
        fbi_down(slope.of(fbi_up(x[i]), j, weight ? weight[j] : (T)1), &dx[i]);
    }
}

/* The gradient is g (a softmax - b): a an item, b an element. */
template <class T>
__global__ void ce_coefficients(fbi_ce<T> e, int reduction, const void *target, const T *weight,
                                const T *sums, T *a, T *b)
{
    T even = e.smoothing / (T)e.l.n, down = reduction == 0 ? sums[0] : (T)1;
    FBI_EACH(i, e.items() * e.l.n)
    {
        int64_t j = i / e.l.inner % e.l.n, o = i / e.l.inner / e.l.n;
        int64_t item = o * e.l.inner + i % e.l.inner, t = e.target(target, item);
        T s = t < 0 ? (T)0 : 1 / down;
        T hit = t < 0 ? (T)0 : (1 - e.smoothing) * (weight ? weight[t] : (T)1);
        b[i] = s * (even * (weight ? weight[j] : (T)1) + (j == t ? hit : (T)0));
        if (j == 0)
            a[item] = s * (hit + even * sums[1]);
    }
}

/* Operands of the three rows: logits at position x, target and weight behind. */
template <class S> struct fbi_ce_operands {
    typedef fbi_of<S> T;
    enum { W = fbi_storage_of<S>::width };
    fbi_ce<T> e;
    const S *x;
    const T *weight;
    const void *target;
    T *sums;
    int64_t items;
    int reduction;
    bool open(const fbi_call *c, int at, fbi_temps &temps)
    {
        const fbi_attrs_cross_entropy &a = FBI_ATTRS(cross_entropy); /* of all three rows */
        const fb_tensor *logits = c->in[at], *w = c->in[at + 2];
        e.l = fbi_line_of(logits, logits->ndim > 1 ? 1 : 0);
        e.op = c->op->op;
        e.target_dtype = c->in[at + 1]->dtype;
        e.ignore = a.ignore_index;
        e.smoothing = (T)a.label_smoothing;
        e.bad = fbi_cuda_of(c->ctx)->bad;
        reduction = (int)a.reduction;
        items = e.l.outer * e.l.inner;
        x = (const S *)temps.dense(logits);
        target = x ? temps.dense(c->in[at + 1]) : NULL;
        weight = w && target ? fbi_as<T>(temps, w) : NULL;
        sums = target ? temps.array<T>(2) : NULL;
        return sums && (weight || !w);
    }
    bool in_groups() const { return e.l.inner == 1 && e.l.n % W == 0; }
};

/* The loss of each item. */
template <class S>
static fb_status ce_losses(const fbi_call *c, const fbi_ce_operands<S> &o, fbi_of<S> *loss)
{
    typedef fbi_of<S> T;
    enum { W = fbi_storage_of<S>::width };
    T *lse = (T *)fbi_cuda_data(c->out[1]);
    unsigned threads = fbi_row_threads(o.e.l.n);
    if (o.items && o.in_groups())
        FBI_LAUNCH(c, (ce_items<S, W>), o.items, threads, o.e, o.x, o.target, o.weight, lse, loss,
                   fbi_aligned(o.x, o.weight));
    else if (o.items)
        FBI_LAUNCH(c, (ce_items<S, 1>), o.items, threads, o.e, o.x, o.target, o.weight, lse, loss,
                   false);
    return FB_OK;
}

template <class S> static fb_status ce_forward(const fbi_call *c)
{
    typedef fbi_of<S> T;
    fbi_temps temps(c);
    fbi_ce_operands<S> o;
    if (!o.open(c, 0, temps))
        return c->ctx->status;
    T *out = fbi_result<T>(temps, c->out[0]);
    T *loss = o.reduction == 2 || !out ? out : temps.array<T>(o.items);
    if (!loss)
        return c->ctx->status;
    fb_status st = ce_losses<S>(c, o, loss);
    if (st)
        return st;
    if (o.reduction != 2)
        FBI_LAUNCH(c, total_of<T>, 1, FBI_BLOCK, (const T *)loss, o.items, out);
    if (o.reduction == 0) {
        FBI_LAUNCH(c, ce_weights<T>, 1, FBI_BLOCK, o.e, o.target, o.weight, o.sums);
        FBI_LAUNCH(c, divide<T>, 1, 1, out, (const T *)o.sums);
    }
    st = fbi_deliver(c, (const T *)out, c->out[0]);
    return st ? st : fbi_cuda_checked(c);
}

template <class S> static fb_status ce_backward(const fbi_call *c)
{
    typedef fbi_of<S> T;
    enum { W = fbi_storage_of<S>::width };
    fbi_temps temps(c);
    fbi_ce_operands<S> o;
    if (!o.open(c, 1, temps))
        return c->ctx->status;
    const T *g = fbi_as<T>(temps, c->in[0]), *lse = g ? fbi_as<T>(temps, c->in[4]) : NULL;
    S *dx = (S *)fbi_cuda_data(c->out[0]);
    int64_t n = o.items * o.e.l.n;
    if (!lse || n == 0)
        return c->ctx->status;
    const T *sums = o.sums;
    bool wide = fbi_aligned(o.x, o.weight, dx);
    FBI_LAUNCH(c, ce_weights<T>, 1, FBI_BLOCK, o.e, o.target, o.weight, o.sums);
    if (o.in_groups())
        FBI_LAUNCH(c, (ce_slopes<S, W>), o.items, fbi_row_threads(o.e.l.n), o.e, o.reduction, g,
                   o.x, o.target, o.weight, lse, sums, dx, wide);
    else if (o.e.l.inner == 1)
        FBI_LAUNCH(c, (ce_slopes<S, 1>), o.items, fbi_row_threads(o.e.l.n), o.e, o.reduction, g,
                   o.x, o.target, o.weight, lse, sums, dx, false);
    else
        FBI_LAUNCH(c, ce_slopes_apart<S>, fbi_blocks(c->ctx, n), FBI_BLOCK, o.e, o.reduction, g,
                   o.x, o.target, o.weight, lse, sums, dx);
    return fbi_cuda_checked(c);
}

template <class S> static fb_status ce_coef(const fbi_call *c)
{
    typedef fbi_of<S> T;
    fbi_temps temps(c);
    fbi_ce_operands<S> o;
    if (!o.open(c, 0, temps) || o.items * o.e.l.n == 0)
        return c->ctx->status;
    FBI_LAUNCH(c, ce_weights<T>, 1, FBI_BLOCK, o.e, o.target, o.weight, o.sums);
    FBI_LAUNCH(c, ce_coefficients<T>, fbi_blocks(c->ctx, o.items * o.e.l.n), FBI_BLOCK, o.e,
               o.reduction, o.target, o.weight, (const T *)o.sums, (T *)fbi_cuda_data(c->out[0]),
               (T *)fbi_cuda_data(c->out[1]));
    return fbi_cuda_checked(c);
}

FBI_CUDA_KERNEL(cross_entropy)
{
    return FBI_BY_STORAGE(c->in[0]->dtype, ce_forward, c);
}

FBI_CUDA_KERNEL(cross_entropy_bwd)
{
    return FBI_BY_STORAGE(c->in[1]->dtype, ce_backward, c);
}

FBI_CUDA_KERNEL(cross_entropy_coef)
{
    return FBI_BY_STORAGE(c->in[0]->dtype, ce_coef, c);
}

/* --- mse_loss --- */

/* Elements that one block of threads sums. */
static const int64_t MSE_BLOCK = 8192;

/* A block's sum of squared differences; of those `total_of` makes one. */
template <class S, int V, class T = fbi_of<S>>
__global__ void mse_blocks(const S *x, const S *t, int64_t n, T *part, bool wide)
{
    int64_t begin = blockIdx.x * MSE_BLOCK, left = n - begin < MSE_BLOCK ? n - begin : MSE_BLOCK;
    T sum = 0, v[V], w[V];
    FBI_EACH_GROUP(j, left)
    {
        fbi_get<V>(v, x + begin + j, wide);
        fbi_get<V>(w, t + begin + j, wide);
        for (int i = 0; i < V; i++)
            sum += (v[i] - w[i]) * (v[i] - w[i]);
    }
    sum = fbi_join_block<fbi_add<T>>(sum);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

template <class S, int V, class T = fbi_of<S>>
__global__ void mse_items(const S *x, const S *t, int64_t n, S *out, bool wide)
{
    FBI_EACH(k, n / V)
    {
        T v[V], w[V];
        fbi_get<V>(v, x + k * V, wide);
        fbi_get<V>(w, t + k * V, wide);
        for (int i = 0; i < V; i++)
            v[i] = (v[i] - w[i]) * (v[i] - w[i]);
        fbi_put<V>(out + k * V, v, wide);
    }
}

template <class T> __global__ void scale_one(T *out, T factor)
{
    *out *= factor;
}

template <class S, int V, class T = fbi_of<S>>
__global__ void mse_slopes(const S *g, const S *x, const S *t, int64_t n, bool each, T k, S *dx,
                           bool wide)
{
    T one = each ? (T)0 : fbi_up(g[0]);
    FBI_EACH(i, n / V)
    {
        T v[V], w[V], slope[V];
        fbi_get<V>(v, x + i * V, wide);
        fbi_get<V>(w, t + i * V, wide);
        if (each)
            fbi_get<V>(slope, g + i * V, wide);
        for (int j = 0; j < V; j++)
            v[j] = k * (v[j] - w[j]) * (each ? slope[j] : one);
        fbi_put<V>(dx + i * V, v, wide);
    }
}

template <class S>
static fb_status mse_each(const fbi_call *c, const S *x, const S *t, int64_t n, S *out)
{
    enum { W = fbi_storage_of<S>::width };
    bool wide = fbi_aligned(x, t, out);
    if (n && n % W == 0)
        FBI_LAUNCH(c, (mse_items<S, W>), fbi_blocks(c->ctx, n / W), FBI_BLOCK, x, t, n, out, wide);
    else if (n)
        FBI_LAUNCH(c, (mse_items<S, 1>), fbi_blocks(c->ctx, n), FBI_BLOCK, x, t, n, out, wide);
    return FB_OK;
}

template <class S> static fb_status mse(const fbi_call *c, int reduction)
{
    typedef fbi_of<S> T;
    enum { W = fbi_storage_of<S>::width };
    fbi_temps temps(c);
    const S *x = (const S *)temps.dense(c->in[0]);
    const S *t = x ? (const S *)temps.dense(c->in[1]) : NULL;
    int64_t n = c->in[0]->numel, blocks = (n + MSE_BLOCK - 1) / MSE_BLOCK;
    if (!t)
        return c->ctx->status;
    if (reduction == 2)
        return mse_each<S>(c, x, t, n, (S *)fbi_cuda_data(c->out[0]));
    T *out = fbi_result<T>(temps, c->out[0]), *part = out ? temps.array<T>(blocks) : NULL;
    if (!part)
        return c->ctx->status;
    if (n && n % W == 0)
        FBI_LAUNCH(c, (mse_blocks<S, W>), blocks, FBI_BLOCK, x, t, n, part, fbi_aligned(x, t));
    else if (n)
        FBI_LAUNCH(c, (mse_blocks<S, 1>), blocks, FBI_BLOCK, x, t, n, part, false);
    FBI_LAUNCH(c, total_of<T>, 1, FBI_BLOCK, (const T *)part, blocks, out);
    if (reduction == 0)
        FBI_LAUNCH(c, scale_one<T>, 1, 1, out, (T)(1 / (double)n));
    return fbi_deliver(c, (const T *)out, c->out[0]);
}

template <class S> static fb_status mse_backward(const fbi_call *c, int reduction)
{
    typedef fbi_of<S> T;
    enum { W = fbi_storage_of<S>::width };
    fbi_temps temps(c);
    const S *g = (const S *)temps.dense(c->in[0]);
    const S *x = g ? (const S *)temps.dense(c->in[1]) : NULL;
    const S *t = x ? (const S *)temps.dense(c->in[2]) : NULL;
    S *dx = (S *)fbi_cuda_data(c->out[0]);
    int64_t n = c->in[1]->numel;
    bool each = reduction == 2, wide = fbi_aligned(x, t, dx, each ? g : NULL);
    if (!t || n == 0)
        return c->ctx->status;
    T k = reduction == 0 ? 2 / (T)n : (T)2;
    if (n % W == 0)
        FBI_LAUNCH(c, (mse_slopes<S, W>), fbi_blocks(c->ctx, n / W), FBI_BLOCK, g, x, t, n, each, k,
                   dx, wide);
    else
        FBI_LAUNCH(c, (mse_slopes<S, 1>), fbi_blocks(c->ctx, n), FBI_BLOCK, g, x, t, n, each, k, dx,
                   false);
    return FB_OK;
}

FBI_CUDA_KERNEL(mse_loss)
{
    return FBI_BY_STORAGE(c->in[0]->dtype, mse, c, (int)FBI_ATTRS(mse_loss).reduction);
}

FBI_CUDA_KERNEL(mse_loss_bwd)
{
    return FBI_BY_STORAGE(c->in[1]->dtype, mse_backward, c, (int)FBI_ATTRS(mse_loss_bwd).reduction);
}
