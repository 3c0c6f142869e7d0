/* attention and its backward in our own kernels: products, and one kernel a row between them. Heads
 * are taken together up to a size, and the weights are computed again by backward: no [T, S] tensor
 * is kept. cuDNN is asked first (dnn_attention.cu). */
#include "core/cuda/kernel_priv.h"

enum { FBI_SCORES_BYTES = 256 << 20 }; /* of heads that are taken together */

struct fbi_heads {
    int64_t n, step, t, s, d, e; /* step: heads at once */
};

static fbi_heads heads_of(const fb_tensor *q, const fb_tensor *k, const fb_tensor *v)
{
    int last = q->ndim - 1;
    fbi_heads h = {};
    h.t = q->size[last - 1], h.s = k->size[last - 1];
    h.d = q->size[last], h.e = v->size[last];
    h.n = q->numel / (h.t * h.d); /* nothing is empty */
    int64_t most = FBI_SCORES_BYTES / (h.t * h.s * fbi_cuda_bytes(q->dtype) + 1);
    h.step = most < 1 ? 1 : most < h.n ? most : h.n;
    return h;
}

static __device__ inline int64_t keys_seen(int64_t row, int64_t t, int64_t s, bool causal)
{
    int64_t n = row % t + 1;
    return causal && n < s ? n : s;
}

/* x: a row of scores that becomes weights; lse: the logarithm of their sum. */
template <class T>
__global__ void attend_row(T *x, T *lse, int64_t t, int64_t s, T scale, bool causal)
{
    int64_t row = blockIdx.x, n = keys_seen(row, t, s, causal);
    T *w = x + row * s, top = -(T)INFINITY, sum = 0;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
        top = fbi_larger<T>::join(top, w[j] * scale);
    top = fbi_join_block<fbi_larger<T>>(top);
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
        sum += fbi_e(w[j] * scale - top);
    sum = fbi_join_block<fbi_add<T>>(sum);
    for (int64_t j = threadIdx.x; j < s; j += blockDim.x)
        w[j] = j < n ? fbi_e(w[j] * scale - top) / sum : (T)0;
    if (threadIdx.x == 0)
        lse[row] = top + fbi_ln(sum);
}

/* x: scores that become weights; dx: gradients of the weights that become those of the scores. */
template <class T>
__global__ void attend_row_bwd(T *x, T *dx, const T *lse, const T *g, const T *y, int64_t t,
                               int64_t s, int64_t e, T scale, bool causal)
{
    int64_t row = blockIdx.x, n = keys_seen(row, t, s, causal);
    T *w = x + row * s, *dw = dx + row * s, dot = 0;
    for (int64_t j = threadIdx.x; j < e; j += blockDim.x)
        dot += g[row * e + j] * y[row * e + j];
    dot = fbi_join_block<fbi_add<T>>(dot);
    for (int64_t j = threadIdx.x; j < s; j += blockDim.x) {
        T v = j < n ? fbi_e(w[j] * scale - lse[row]) : (T)0;
        w[j] = v;
        dw[j] = j < n ? v * (dw[j] - dot) * scale : (T)0;
    }
}

/* c[m, n] = a b for `batch` matrices without gaps; a and b may be given transposed. */
template <class T>
static fb_status multiply(const fbi_call *c, int64_t batch, int64_t m, int64_t n, int64_t k,
                          const T *a, bool ta, const T *b, bool tb, T *out)
{
    fbi_cuda_mm g = {};
    g.dtype = (fb_dtype)fbi_dtype_of<T>::value;
    g.batch = batch;
    g.m = m, g.n = n, g.k = k;
    g.a_b = m * k, g.a_m = ta ? 1 : k, g.a_k = ta ? m : 1;
    g.b_b = k * n, g.b_k = tb ? 1 : n, g.b_n = tb ? k : 1;
    g.c_b = m * n, g.c_m = n;
    g.a = a, g.b = b, g.c = out;
    return fbi_cuda_product(c, &g);
}

/* Where a result without gaps goes: its own memory, or some of `temps` that `put` copies. */
template <class T> static T *result_of(const fb_tensor *t, fbi_temps &temps)
{
    return fbi_cuda_contiguous(t) ? (T *)fbi_cuda_data(t) : temps.array<T>(t->numel);
}

static fb_status put(const fbi_call *c, fb_tensor *t, const fbi_temps &temps)
{
    if (fbi_cuda_contiguous(t))
        return FB_OK;
    fb_tensor from = *t;
    int64_t step = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        from.stride[i] = step;
        step *= t->size[i];
    }
    from.offset = 0;
    from.storage = temps.s[temps.n - 1];
    return fbi_cuda_copy_strided(c, t, &from);
}

template <class T> static fb_status forward(const fbi_call *c)
{
    const fbi_attrs_attention &a = FBI_ATTRS(attention);
    fbi_heads h = heads_of(c->in[0], c->in[1], c->in[2]);
    fbi_temps temps(c);
    const T *q = (const T *)temps.dense(c->in[0]);
    const T *k = q ? (const T *)temps.dense(c->in[1]) : NULL;
    const T *v = k ? (const T *)temps.dense(c->in[2]) : NULL;
    T *x = v ? temps.array<T>(h.step * h.t * h.s) : NULL;
    T *y = x ? result_of<T>(c->out[0], temps) : NULL, *lse = (T *)fbi_cuda_data(c->out[1]);
    if (!y)
        return c->ctx->status;
    for (int64_t i = 0; i < h.n; i += h.step) {
        int64_t n = h.n - i < h.step ? h.n - i : h.step;
        fb_status st =
            multiply<T>(c, n, h.t, h.s, h.d, q + i * h.t * h.d, false, k + i * h.s * h.d, true, x);
        if (st)
            return st;
        FBI_LAUNCH(c, attend_row<T>, n * h.t, fbi_row_threads(h.s), x, lse + i * h.t, h.t, h.s,
                   (T)a.scale, a.causal != 0);
        st =
            multiply<T>(c, n, h.t, h.e, h.s, x, false, v + i * h.s * h.e, false, y + i * h.t * h.e);
        if (st)
            return st;
    }
    return put(c, c->out[0], temps);
}

/* The operands of backward, without gaps; NULL lse: the error is set. */
template <class T> struct fbi_attend_bwd {
    const T *g, *q, *k, *v, *y, *lse;
    T *x, *dx;
    fbi_attend_bwd(const fbi_call *c, const fbi_heads &h, fbi_temps &temps)
    {
        const void *in[6] = {};
        int i = 0;
        while (i < 6 && (in[i] = temps.dense(c->in[i])))
            i++;
        g = (const T *)in[0], q = (const T *)in[1], k = (const T *)in[2], v = (const T *)in[3];
        y = (const T *)in[4], lse = (const T *)in[5];
        x = lse ? temps.array<T>(h.step * h.t * h.s) : NULL;
        dx = x ? temps.array<T>(h.step * h.t * h.s) : NULL;
    }
};

template <class T> static fb_status backward(const fbi_call *c)
{
    const fbi_attrs_attention_bwd &a = FBI_ATTRS(attention_bwd);
    fbi_heads h = heads_of(c->in[1], c->in[2], c->in[3]);
    fbi_temps temps(c), for_q(c), for_k(c), for_v(c);
    fbi_attend_bwd<T> p(c, h, temps);
    T *dq = p.dx ? result_of<T>(c->out[0], for_q) : NULL;
    T *dk = dq ? result_of<T>(c->out[1], for_k) : NULL;
    T *dv = dk ? result_of<T>(c->out[2], for_v) : NULL;
    if (!dv)
        return c->ctx->status;
    fb_status st = FB_OK;
    for (int64_t i = 0; i < h.n && !st; i += h.step) {
        int64_t n = h.n - i < h.step ? h.n - i : h.step;
        const T *q = p.q + i * h.t * h.d, *k = p.k + i * h.s * h.d, *v = p.v + i * h.s * h.e;
        const T *g = p.g + i * h.t * h.e, *y = p.y + i * h.t * h.e;
        st = multiply<T>(c, n, h.t, h.s, h.d, q, false, k, true, p.x);
        if (!st)
            st = multiply<T>(c, n, h.t, h.s, h.e, g, false, v, true, p.dx);
        if (st)
            return st;
        FBI_LAUNCH(c, attend_row_bwd<T>, n * h.t, fbi_row_threads(h.s), p.x, p.dx, p.lse + i * h.t,
                   g, y, h.t, h.s, h.e, (T)a.scale, a.causal != 0);
        st = multiply<T>(c, n, h.t, h.d, h.s, p.dx, false, k, false, dq + i * h.t * h.d);
        if (!st)
            st = multiply<T>(c, n, h.s, h.d, h.t, p.dx, true, q, false, dk + i * h.s * h.d);
        if (!st)
            st = multiply<T>(c, n, h.s, h.e, h.t, p.x, true, g, false, dv + i * h.s * h.e);
    }
    if (!st)
        st = put(c, c->out[0], for_q);
    if (!st)
        st = put(c, c->out[1], for_k);
    return st ? st : put(c, c->out[2], for_v);
}

FBI_CUDA_KERNEL(attention)
{
    return c->in[0]->dtype == FB_F64 ? forward<double>(c) : forward<float>(c);
}

FBI_CUDA_KERNEL(attention_bwd)
{
    return c->in[0]->dtype == FB_F64 ? backward<double>(c) : backward<float>(c);
}
