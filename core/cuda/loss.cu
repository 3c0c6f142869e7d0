/* Kernels of cross_entropy and mse_loss. Sums over items are one block's, in a fixed order. */
#include "core/cuda/columns_priv.h"

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

/* lse = log sum exp of each item, and its weighted loss. A block an item. */
template <class T>
__global__ void ce_items(fbi_ce<T> e, const T *x, const void *target, const T *weight, T *lse,
                         T *loss)
{
    int64_t item = blockIdx.x, at = e.first(item), step = e.l.inner, n = e.l.n;
    T top = fbi_larger<T>::first(), total = 0, spread = 0;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
        top = fbi_larger<T>::join(top, x[at + j * step]);
    top = fbi_join_block<fbi_larger<T>>(top);
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
        total += fbi_e(x[at + j * step] - top);
    total = fbi_join_block<fbi_add<T>>(total);
    T log_total = top + fbi_ln(total);
    if (e.smoothing > 0) {
        for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
            spread += (weight ? weight[j] : (T)1) * (log_total - x[at + j * step]);
        spread = fbi_join_block<fbi_add<T>>(spread);
    }
    if (threadIdx.x)
        return;
    int64_t t = e.target(target, item);
    lse[item] = log_total;
    T hit = t < 0 ? (T)0 : (weight ? weight[t] : (T)1) * (log_total - x[at + t * step]);
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

/* dx = s (k softmax - smoothing part - hit part), element by element. */
template <class T>
__global__ void ce_slopes(fbi_ce<T> e, int reduction, const T *g, const T *x, const void *target,
                          const T *weight, const T *lse, const T *sums, T *dx)
{
    T even = e.smoothing / (T)e.l.n, down = reduction == 0 ? sums[0] : (T)1;
    FBI_EACH(i, e.items() * e.l.n)
    {
        int64_t j = i / e.l.inner % e.l.n, o = i / e.l.inner / e.l.n;
        int64_t item = o * e.l.inner + i % e.l.inner, t = e.target(target, item);
        if (t < 0) {
            dx[i] = 0;
            continue;
        }
        T s = reduction == 2 ? g[item] : g[0] / down;
        T hit = (1 - e.smoothing) * (weight ? weight[t] : (T)1);
        T v = s * (hit + even * sums[1]) * fbi_e(x[i] - lse[item]);
        if (e.smoothing > 0)
            v -= s * even * (weight ? weight[j] : (T)1);
        dx[i] = j == t ? v - s * hit : v;
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
template <class T> struct fbi_ce_operands {
    fbi_ce<T> e;
    const T *x, *weight;
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
        x = (const T *)temps.dense(logits);
        target = x ? temps.dense(c->in[at + 1]) : NULL;
        weight = w && target ? (const T *)temps.dense(w) : NULL;
        sums = target ? temps.array<T>(2) : NULL;
        return sums && (weight || !w);
    }
};

template <class T> static fb_status ce_forward(const fbi_call *c)
{
    fbi_temps temps(c);
    fbi_ce_operands<T> o;
    if (!o.open(c, 0, temps))
        return c->ctx->status;
    T *out = (T *)fbi_cuda_data(c->out[0]), *lse = (T *)fbi_cuda_data(c->out[1]);
    T *loss = o.reduction == 2 ? out : temps.array<T>(o.items);
    if (!loss)
        return c->ctx->status;
    if (o.items)
        FBI_LAUNCH(c, ce_items<T>, o.items, fbi_row_threads(o.e.l.n), o.e, o.x, o.target, o.weight,
                   lse, loss);
    if (o.reduction == 2)
        return fbi_cuda_checked(c);
    FBI_LAUNCH(c, total_of<T>, 1, FBI_BLOCK, (const T *)loss, o.items, out);
    if (o.reduction == 0) {
        FBI_LAUNCH(c, ce_weights<T>, 1, FBI_BLOCK, o.e, o.target, o.weight, o.sums);
        FBI_LAUNCH(c, divide<T>, 1, 1, out, (const T *)o.sums);
    }
    return fbi_cuda_checked(c);
}

template <class T> static fb_status ce_backward(const fbi_call *c)
{
    fbi_temps temps(c);
    fbi_ce_operands<T> o;
    if (!o.open(c, 1, temps))
        return c->ctx->status;
    const void *g = temps.dense(c->in[0]), *lse = g ? temps.dense(c->in[4]) : NULL;
    if (!lse || o.items * o.e.l.n == 0)
        return c->ctx->status;
    FBI_LAUNCH(c, ce_weights<T>, 1, FBI_BLOCK, o.e, o.target, o.weight, o.sums);
    FBI_LAUNCH(c, ce_slopes<T>, fbi_blocks(c->ctx, o.items * o.e.l.n), FBI_BLOCK, o.e, o.reduction,
               (const T *)g, o.x, o.target, o.weight, (const T *)lse, (const T *)o.sums,
               (T *)fbi_cuda_data(c->out[0]));
    return fbi_cuda_checked(c);
}

template <class T> static fb_status ce_coef(const fbi_call *c)
{
    fbi_temps temps(c);
    fbi_ce_operands<T> o;
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
    return c->in[0]->dtype == FB_F64 ? ce_forward<double>(c) : ce_forward<float>(c);
}

FBI_CUDA_KERNEL(cross_entropy_bwd)
{
    return c->in[1]->dtype == FB_F64 ? ce_backward<double>(c) : ce_backward<float>(c);
}

FBI_CUDA_KERNEL(cross_entropy_coef)
{
    return c->in[0]->dtype == FB_F64 ? ce_coef<double>(c) : ce_coef<float>(c);
}

/* Squared differences of one row of n elements, for fbi_cuda_columns. */
template <class T> struct fbi_squared_difference {
    const T *x, *t;
    __device__ void operator()(int64_t i, int64_t, T *v0, T *) const
    {
        *v0 = (x[i] - t[i]) * (x[i] - t[i]);
    }
};

template <class T> __global__ void mse_items(const T *x, const T *t, int64_t n, T *out)
{
    FBI_EACH(i, n)
    out[i] = (x[i] - t[i]) * (x[i] - t[i]);
}

template <class T> __global__ void scale_one(T *out, T factor)
{
    *out *= factor;
}

template <class T>
__global__ void mse_slopes(const T *g, const T *x, const T *t, int64_t n, bool each, T k, T *dx)
{
    FBI_EACH(i, n)
    dx[i] = k * (x[i] - t[i]) * g[each ? i : 0];
}

template <class T> static fb_status mse(const fbi_call *c, int reduction)
{
    fbi_temps temps(c);
    const T *x = (const T *)temps.dense(c->in[0]);
    const T *t = x ? (const T *)temps.dense(c->in[1]) : NULL;
    T *out = (T *)fbi_cuda_data(c->out[0]);
    int64_t n = c->in[0]->numel;
    if (!t)
        return c->ctx->status;
    if (reduction == 2) {
        if (n)
            FBI_LAUNCH(c, mse_items<T>, fbi_blocks(c->ctx, n), FBI_BLOCK, x, t, n, out);
        return FB_OK;
    }
    fbi_squared_difference<T> get = {x, t};
    fb_status st =
        fbi_cuda_columns<fbi_squared_difference<T>, T>(c, get, x, t, 1, n, 1, out, (T *)NULL);
    if (!st && reduction == 0)
        FBI_LAUNCH(c, scale_one<T>, 1, 1, out, (T)(1 / (double)n));
    return st;
}

template <class T> static fb_status mse_backward(const fbi_call *c, int reduction)
{
    fbi_temps temps(c);
    const T *g = (const T *)temps.dense(c->in[0]);
    const T *x = g ? (const T *)temps.dense(c->in[1]) : NULL;
    const T *t = x ? (const T *)temps.dense(c->in[2]) : NULL;
    int64_t n = c->in[1]->numel;
    if (!t || n == 0)
        return c->ctx->status;
    T k = reduction == 0 ? 2 / (T)n : (T)2;
    FBI_LAUNCH(c, mse_slopes<T>, fbi_blocks(c->ctx, n), FBI_BLOCK, g, x, t, n, reduction == 2, k,
               (T *)fbi_cuda_data(c->out[0]));
    return FB_OK;
}

FBI_CUDA_KERNEL(mse_loss)
{
    int reduction = (int)FBI_ATTRS(mse_loss).reduction;
    return c->in[0]->dtype == FB_F64 ? mse<double>(c, reduction) : mse<float>(c, reduction);
}

FBI_CUDA_KERNEL(mse_loss_bwd)
{
    int reduction = (int)FBI_ATTRS(mse_loss_bwd).reduction;
    return c->in[1]->dtype == FB_F64 ? mse_backward<double>(c, reduction)
                                     : mse_backward<float>(c, reduction);
}
