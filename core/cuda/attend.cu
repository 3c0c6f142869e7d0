/* attention and its backward in our own kernels: products, and one kernel a row between them.
 * Heads, or rows of a head, are taken together up to a size, and the weights are computed again by
 * backward: memory does not grow with [T, S]. cuDNN is asked first (dnn_attention.cu). */
#include <stdlib.h>

#include "core/cuda/mask_priv.h"

/* Bytes of scores that are in memory at once. Their number decides in which pieces the gradients of
 * keys and values are summed, so it is a setting and does not depend on the memory that is free. */
static int64_t scores_bytes(void)
{
    const char *set = getenv("FLAMBEAU_ATTENTION_BYTES");
    int64_t bytes = set ? strtoll(set, NULL, 10) : 0;
    return bytes > 0 ? bytes : (int64_t)256 << 20;
}

/* n heads of keys [s, d] and values [s, e], each with `rows` queries: t for every head that shares
 * it. `step` heads are taken at once, with `piece` rows each; all rows if they are several. */
struct fbi_heads {
    int64_t n, rows, t, s, d, e, step, piece;
};

static fbi_heads heads_of(const fb_tensor *q, const fb_tensor *k, const fb_tensor *v)
{
    int last = q->ndim - 1;
    fbi_heads h = {};
    h.t = q->size[last - 1], h.s = k->size[last - 1];
    h.d = q->size[last], h.e = v->size[last];
    h.n = k->numel / (h.s * h.d); /* nothing is empty */
    h.rows = q->numel / (h.n * h.d);
    int64_t most = scores_bytes() / (h.s * fbi_cuda_bytes(q->dtype));
    h.piece = most < 1 ? 1 : most < h.rows ? most : h.rows;
    h.step = most < h.rows ? 1 : most / h.rows < h.n ? most / h.rows : h.n;
    return h;
}

/* What a score becomes. */
template <class T> struct fbi_attend {
    int64_t first, t, s; /* first: the row, among all queries, that block 0 does */
    T scale, keep;       /* keep: what weights that are not dropped are multiplied with */
    float drop;
    bool causal;
    uint64_t key, stream;
    fbi_mask mask;
};

template <class T>
static fbi_attend<T> attend_of(const fbi_attrs_attention &a, const fbi_heads &h,
                               const fb_tensor *mask)
{
    fbi_attend<T> r = {};
    r.t = h.t, r.s = h.s;
    r.scale = (T)a.scale;
    r.keep = a.dropout < 1 ? (T)(1 / (1 - a.dropout)) : (T)0;
    r.drop = (float)a.dropout;
    r.causal = a.causal != 0;
    r.key = a.key, r.stream = a.stream;
    r.mask = fbi_mask_of(mask);
    return r;
}

template <class T> static __device__ inline int64_t keys_seen(const fbi_attend<T> &a, int64_t row)
{
    int64_t n = row % a.t + 1;
    return a.causal && n < a.s ? n : a.s;
}

/* What dropout multiplies weight j of a row with: word row s + j of its stream, as the row dropout
 * would have it. */
template <class T> static __device__ inline T kept(const fbi_attend<T> &a, int64_t row, int64_t j)
{
    if (a.drop == 0)
        return 1;
    uint32_t w[4];
    int64_t i = row * a.s + j;
    fbi_philox(a.key, a.stream, (uint64_t)i / 4, w);
    uint32_t word = i & 2 ? (i & 1 ? w[3] : w[2]) : (i & 1 ? w[1] : w[0]);
    return fbi_u32_to_f32(word) < a.drop ? (T)0 : a.keep;
}

/* x: a row of products that becomes weights; lse: the logarithm of their sum, or +inf where nothing
 * takes part: backward finds zeros with that, too. */
template <class T> __global__ void attend_row(fbi_attend<T> a, const void *mask, T *x, T *lse)
{
    int64_t row = a.first + blockIdx.x, n = keys_seen(a, row);
    int64_t base = fbi_mask_row(a.mask, row), step = fbi_mask_step(a.mask);
    T *w = x + blockIdx.x * a.s, top = -(T)INFINITY, sum = 0;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x) {
        T v = fbi_score(w[j], a.scale, a.mask, mask, base + j * step);
        w[j] = v;
        top = fbi_larger<T>::join(top, v);
    }
    top = fbi_join_block<fbi_larger<T>>(top);
    if (top == -(T)INFINITY)
        n = 0;
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
        sum += fbi_e(w[j] - top);
    sum = fbi_join_block<fbi_add<T>>(sum);
    for (int64_t j = threadIdx.x; j < a.s; j += blockDim.x)
        w[j] = j < n ? fbi_e(w[j] - top) / sum * kept(a, row, j) : (T)0;
    if (threadIdx.x == 0)
        lse[blockIdx.x] = n ? top + fbi_ln(sum) : (T)INFINITY;
}

/* x: products that become weights as v met them; dx: gradients of those that become the products'.
 */
template <class T>
__global__ void attend_row_bwd(fbi_attend<T> a, const void *mask, T *x, T *dx, const T *lse,
                               const T *g, const T *y, int64_t e)
{
    int64_t block = blockIdx.x, row = a.first + block, n = keys_seen(a, row);
    int64_t base = fbi_mask_row(a.mask, row), step = fbi_mask_step(a.mask);
    T *w = x + block * a.s, *dw = dx + block * a.s, dot = 0;
    for (int64_t j = threadIdx.x; j < e; j += blockDim.x)
        dot += g[block * e + j] * y[block * e + j];
    dot = fbi_join_block<fbi_add<T>>(dot);
    for (int64_t j = threadIdx.x; j < a.s; j += blockDim.x) {
        T v = 0, d = 0, f = 1;
        if (j < n) {
            f = kept(a, row, j);
            v = fbi_e(fbi_score(w[j], a.scale, a.mask, mask, base + j * step) - lse[block]);
            d = v * (dw[j] * f - dot) * a.scale;
        }
        w[j] = v * f;
        dw[j] = d;
    }
}

/* out[m, n] = a b for `batch` matrices without gaps, or added to it; a and b may be given
 * transposed. */
template <class T>
static fb_status multiply(const fbi_call *c, int64_t batch, int64_t m, int64_t n, int64_t k,
                          const T *a, bool ta, const T *b, bool tb, T *out, bool add)
{
    fbi_cuda_mm g = {};
    g.dtype = (fb_dtype)fbi_dtype_of<T>::value;
    g.batch = batch;
    g.m = m, g.n = n, g.k = k;
    g.a_b = m * k, g.a_m = ta ? 1 : k, g.a_k = ta ? m : 1;
    g.b_b = k * n, g.b_k = tb ? 1 : n, g.b_n = tb ? k : 1;
    g.c_b = m * n, g.c_m = n;
    g.a = a, g.b = b, g.c = out;
    g.beta = add ? 1 : 0;
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

/* Operands of either row, without gaps. */
template <class T> struct fbi_attend_data {
    const T *q, *k, *v;
    const void *mask;
    T *x, *y, *lse; /* x: scores */
};

template <class T>
static fb_status forward_piece(const fbi_call *c, const fbi_heads &h, fbi_attend<T> a,
                               const fbi_attend_data<T> &p, int64_t head, int64_t row)
{
    int64_t n = h.n - head < h.step ? h.n - head : h.step;
    int64_t m = h.rows - row < h.piece ? h.rows - row : h.piece;
    a.first = head * h.rows + row;
    fb_status st = multiply<T>(c, n, m, h.s, h.d, p.q + a.first * h.d, false,
                               p.k + head * h.s * h.d, true, p.x, false);
    if (st)
        return st;
    FBI_LAUNCH(c, attend_row<T>, n * m, fbi_row_threads(h.s), a, p.mask, p.x, p.lse + a.first);
    return multiply<T>(c, n, m, h.e, h.s, p.x, false, p.v + head * h.s * h.e, false,
                       p.y + a.first * h.e, false);
}

template <class T> static fb_status forward(const fbi_call *c)
{
    fbi_heads h = heads_of(c->in[0], c->in[1], c->in[2]);
    fbi_attend<T> a = attend_of<T>(FBI_ATTRS(attention), h, c->in[3]);
    fbi_temps temps(c);
    fbi_attend_data<T> p = {};
    p.q = (const T *)temps.dense(c->in[0]);
    p.k = p.q ? (const T *)temps.dense(c->in[1]) : NULL;
    p.v = p.k ? (const T *)temps.dense(c->in[2]) : NULL;
    p.x = p.v ? temps.array<T>(h.step * h.piece * h.s) : NULL;
    p.y = p.x ? result_of<T>(c->out[0], temps) : NULL;
    if (!p.y)
        return c->ctx->status;
    p.lse = (T *)fbi_cuda_data(c->out[1]);
    p.mask = c->in[3] ? fbi_cuda_data(c->in[3]) : NULL;
    fb_status st = FB_OK;
    for (int64_t head = 0; head < h.n; head += h.step)
        for (int64_t row = 0; row < h.rows && !st; row += h.piece)
            st = forward_piece(c, h, a, p, head, row);
    return st ? st : put(c, c->out[0], temps);
}

/* The operands of backward, without gaps; NULL dv: the error is set. */
template <class T> struct fbi_attend_bwd {
    const T *q, *k, *v, *y, *lse, *g;
    const void *mask;
    T *x, *dx, *dq, *dk, *dv;
    fbi_temps temps, for_q, for_k, for_v;
    fbi_attend_bwd(const fbi_call *c, const fbi_heads &h)
        : mask(c->in[3] ? fbi_cuda_data(c->in[3]) : NULL), temps(c), for_q(c), for_k(c), for_v(c)
    {
        const void *in[7] = {};
        int i = 0;
        while (i < 7 && (i == 3 || (in[i] = temps.dense(c->in[i]))))
            i++;
        q = (const T *)in[0], k = (const T *)in[1], v = (const T *)in[2];
        y = (const T *)in[4], lse = (const T *)in[5], g = (const T *)in[6];
        x = g ? temps.array<T>(h.step * h.piece * h.s) : NULL;
        dx = x ? temps.array<T>(h.step * h.piece * h.s) : NULL;
        dq = dx ? result_of<T>(c->out[0], for_q) : NULL;
        dk = dq ? result_of<T>(c->out[1], for_k) : NULL;
        dv = dk ? result_of<T>(c->out[2], for_v) : NULL;
    }
};

template <class T>
static fb_status backward_piece(const fbi_call *c, const fbi_heads &h, fbi_attend<T> a,
                                const fbi_attend_bwd<T> &p, int64_t head, int64_t row)
{
    int64_t n = h.n - head < h.step ? h.n - head : h.step;
    int64_t m = h.rows - row < h.piece ? h.rows - row : h.piece;
    a.first = head * h.rows + row;
    const T *q = p.q + a.first * h.d, *g = p.g + a.first * h.e, *y = p.y + a.first * h.e;
    const T *k = p.k + head * h.s * h.d, *v = p.v + head * h.s * h.e;
    T *dk = p.dk + head * h.s * h.d, *dv = p.dv + head * h.s * h.e;
    fb_status st = multiply<T>(c, n, m, h.s, h.d, q, false, k, true, p.x, false);
    if (!st)
        st = multiply<T>(c, n, m, h.s, h.e, g, false, v, true, p.dx, false);
    if (st)
        return st;
    FBI_LAUNCH(c, attend_row_bwd<T>, n * m, fbi_row_threads(h.s), a, p.mask, p.x, p.dx,
               p.lse + a.first, g, y, h.e);
    st = multiply<T>(c, n, m, h.d, h.s, p.dx, false, k, false, p.dq + a.first * h.d, false);
    if (!st)
        st = multiply<T>(c, n, h.s, h.d, m, p.dx, true, q, false, dk, row > 0);
    return st ? st : multiply<T>(c, n, h.s, h.e, m, p.x, true, g, false, dv, row > 0);
}

template <class T> static fb_status backward(const fbi_call *c)
{
    fbi_heads h = heads_of(c->in[0], c->in[1], c->in[2]);
    fbi_attend<T> a = attend_of<T>(FBI_ATTRS(attention), h, c->in[3]); /* the same ones */
    fbi_attend_bwd<T> p(c, h);
    if (!p.dv)
        return c->ctx->status;
    fb_status st = FB_OK;
    for (int64_t head = 0; head < h.n; head += h.step)
        for (int64_t row = 0; row < h.rows && !st; row += h.piece)
            st = backward_piece(c, h, a, p, head, row);
    if (!st)
        st = put(c, c->out[0], p.for_q);
    if (!st)
        st = put(c, c->out[1], p.for_k);
    return st ? st : put(c, c->out[2], p.for_v);
}

FBI_CUDA_KERNEL(attention)
{
    return c->in[0]->dtype == FB_F64 ? forward<double>(c) : forward<float>(c);
}

FBI_CUDA_KERNEL(attention_bwd)
{
    return c->in[0]->dtype == FB_F64 ? backward<double>(c) : backward<float>(c);
}
