/* attention and its backward in our own kernels: products, and one kernel a row between them.
 * Heads, or rows of a head, are taken together up to a size, and the weights are computed again by
 * backward: memory does not grow with [T, S]. Of F16 and BF16 operands the scores and sums are F32,
 * and the weights are rounded, as cuDNN does it, which is asked first (dnn_attention.cu). */
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
    int64_t most = scores_bytes() / (h.s * (q->dtype == FB_F64 ? 8 : 4));
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

/* x: a row of products; weights: what becomes of them, in dtype, and x itself if that is T's. lse:
 * the logarithm of their sum, or +inf where nothing takes part: backward finds zeros with that,
 * too.
 */
template <class T>
__global__ void attend_row(fbi_attend<T> a, const void *mask, T *x, void *weights, int dtype,
                           T *lse)
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
        fbi_store<T>(weights, dtype, blockIdx.x * a.s + j,
                     j < n ? fbi_e(w[j] - top) / sum * kept(a, row, j) : (T)0);
    if (threadIdx.x == 0)
        lse[blockIdx.x] = n ? top + fbi_ln(sum) : (T)INFINITY;
}

/* x: products that become weights as v met them; dx: gradients of those that become the products'.
 * Both are stored in dtype to w and dw. */
template <class T>
__global__ void attend_row_bwd(fbi_attend<T> a, const void *mask, const T *x, const T *dx, void *w,
                               void *dw, int dtype, const T *lse, const void *g, const void *y,
                               int64_t e)
{
    int64_t block = blockIdx.x, row = a.first + block, n = keys_seen(a, row);
    int64_t base = fbi_mask_row(a.mask, row), step = fbi_mask_step(a.mask);
    T dot = 0;
    for (int64_t j = threadIdx.x; j < e; j += blockDim.x)
        dot += fbi_load<T>(g, dtype, block * e + j) * fbi_load<T>(y, dtype, block * e + j);
    dot = fbi_join_block<fbi_add<T>>(dot);
    for (int64_t j = threadIdx.x; j < a.s; j += blockDim.x) {
        T v = 0, d = 0, f = 1;
        int64_t at = block * a.s + j;
        if (j < n) {
            f = kept(a, row, j);
            v = fbi_e(fbi_score(x[at], a.scale, a.mask, mask, base + j * step) - lse[block]);
            d = v * (dx[at] * f - dot) * a.scale;
        }
        fbi_store<T>(w, dtype, at, v * f);
        fbi_store<T>(dw, dtype, at, d);
    }
}

/* A matrix without gaps, which may be given transposed. */
struct fbi_operand {
    const void *p;
    bool transposed;
};

/* out[m, n] = a b for `batch` matrices of dtype, or added to it; wide: the result is F32. */
static fb_status multiply(const fbi_call *c, int64_t batch, int64_t m, int64_t n, int64_t k,
                          fbi_operand a, fbi_operand b, void *out, bool wide, bool add = false)
{
    fbi_cuda_mm g = {};
    g.dtype = (fb_dtype)c->in[0]->dtype;
    g.wide = wide && fbi_cuda_bytes(g.dtype) == 2;
    g.batch = batch;
    g.m = m, g.n = n, g.k = k;
    g.a_b = m * k, g.a_m = a.transposed ? 1 : k, g.a_k = a.transposed ? m : 1;
    g.b_b = k * n, g.b_k = b.transposed ? 1 : n, g.b_n = b.transposed ? k : 1;
    g.c_b = m * n, g.c_m = n;
    g.a = a.p, g.b = b.p, g.c = out;
    g.beta = add ? 1 : 0;
    return fbi_cuda_product(c, &g);
}

/* Elements `first` on of dense memory. */
static const char *from(const void *p, int dtype, int64_t first)
{
    return (const char *)p + first * fbi_cuda_bytes(dtype);
}

static char *from(void *p, int dtype, int64_t first)
{
    return (char *)p + first * fbi_cuda_bytes(dtype);
}

/* --- results --- */

/* Where a result goes without gaps and in `dtype`: its own memory, or some of `temps`, which `put`
 * copies. */
struct fbi_result {
    fb_tensor *t;
    int dtype;
    void *data; /* NULL: the error is set */
    fbi_temps temps;
    fbi_result(const fbi_call *c, fb_tensor *tensor, int type) : t(tensor), dtype(type), temps(c)
    {
        bool own = fbi_cuda_contiguous(t) && t->dtype == dtype;
        data = own ? fbi_cuda_data(t) : temps.get(t->numel * fbi_cuda_bytes(dtype));
    }
    fb_status put(const fbi_call *c)
    {
        fb_tensor dense = *t;
        int64_t step = 1;
        if (temps.n == 0)
            return FB_OK;
        for (int i = t->ndim - 1; i >= 0; i--) {
            dense.stride[i] = step;
            step *= t->size[i];
        }
        dense.dtype = (uint8_t)dtype;
        dense.offset = 0;
        dense.storage = temps.s[0];
        return fbi_cuda_copy_strided(c, t, &dense);
    }
};

/* --- forward --- */

template <class T> struct fbi_attend_data {
    const void *q, *k, *v, *mask;
    T *x, *lse;
    void *w, *y; /* w: weights, which may be in the place of the scores x */
};

template <class T>
static fb_status forward_piece(const fbi_call *c, const fbi_heads &h, fbi_attend<T> a,
                               const fbi_attend_data<T> &p, int64_t head, int64_t row)
{
    int64_t n = h.n - head < h.step ? h.n - head : h.step;
    int64_t m = h.rows - row < h.piece ? h.rows - row : h.piece;
    int dtype = c->in[0]->dtype;
    a.first = head * h.rows + row;
    fbi_operand q = {from(p.q, dtype, a.first * h.d), false};
    fbi_operand kt = {from(p.k, dtype, head * h.s * h.d), true}, w = {p.w, false};
    fbi_operand v = {from(p.v, dtype, head * h.s * h.e), false};
    fb_status st = multiply(c, n, m, h.s, h.d, q, kt, p.x, true);
    if (st)
        return st;
    FBI_LAUNCH(c, attend_row<T>, n * m, fbi_row_threads(h.s), a, p.mask, p.x, p.w, dtype,
               p.lse + a.first);
    return multiply(c, n, m, h.e, h.s, w, v, from(p.y, dtype, a.first * h.e), false);
}

template <class T> static fb_status forward(const fbi_call *c)
{
    fbi_heads h = heads_of(c->in[0], c->in[1], c->in[2]);
    fbi_attend<T> a = attend_of<T>(FBI_ATTRS(attention), h, c->in[3]);
    int dtype = c->in[0]->dtype;
    int64_t scores = h.step * h.piece * h.s;
    fbi_temps temps(c);
    fbi_result y(c, c->out[0], dtype);
    fbi_attend_data<T> p = {};
    p.y = y.data;
    p.q = p.y ? temps.dense(c->in[0]) : NULL;
    p.k = p.q ? temps.dense(c->in[1]) : NULL;
    p.v = p.k ? temps.dense(c->in[2]) : NULL;
    p.x = p.v ? temps.array<T>(scores) : NULL;
    p.w = p.x && dtype != fbi_dtype_of<T>::value ? temps.get(scores * fbi_cuda_bytes(dtype)) : p.x;
    if (!p.w)
        return c->ctx->status;
    p.lse = (T *)fbi_cuda_data(c->out[1]);
    p.mask = c->in[3] ? fbi_cuda_data(c->in[3]) : NULL;
    fb_status st = FB_OK;
    for (int64_t head = 0; head < h.n; head += h.step)
        for (int64_t row = 0; row < h.rows && !st; row += h.piece)
            st = forward_piece(c, h, a, p, head, row);
    return st ? st : y.put(c);
}

/* --- backward --- */

/* The operands, without gaps; NULL dw: the error is set. Where keys meet their rows in pieces,
 * their gradients are summed in T. */
template <class T> struct fbi_attend_bwd {
    const void *q, *k, *v, *y, *g, *mask;
    const T *lse;
    T *x, *dx;
    void *w, *dw; /* may be in the place of x and dx */
    fbi_temps temps, more;
    fbi_result dq, dk, dv;
    static int sums(const fbi_call *c, const fbi_heads &h)
    {
        return h.piece < h.rows ? fbi_dtype_of<T>::value : c->in[0]->dtype;
    }
    fbi_attend_bwd(const fbi_call *c, const fbi_heads &h)
        : mask(c->in[3] ? fbi_cuda_data(c->in[3]) : NULL), temps(c), more(c),
          dq(c, c->out[0], c->in[0]->dtype), dk(c, c->out[1], sums(c, h)),
          dv(c, c->out[2], sums(c, h))
    {
        int64_t scores = h.step * h.piece * h.s, bytes = fbi_cuda_bytes(c->in[0]->dtype);
        bool rounded = c->in[0]->dtype != fbi_dtype_of<T>::value;
        const void *in[7] = {};
        int i = dq.data && dk.data && dv.data ? 0 : 7;
        while (i < 7 && (i == 3 || (in[i] = temps.dense(c->in[i]))))
            i++;
        q = in[0], k = in[1], v = in[2], y = in[4], lse = (const T *)in[5], g = in[6];
        x = g ? temps.array<T>(scores) : NULL;
        dx = x ? temps.array<T>(scores) : NULL;
        w = dx && rounded ? more.get(scores * bytes) : x;
        dw = w && rounded ? more.get(scores * bytes) : dx;
    }
};

template <class T>
static fb_status backward_piece(const fbi_call *c, const fbi_heads &h, fbi_attend<T> a,
                                const fbi_attend_bwd<T> &p, int64_t head, int64_t row)
{
    int64_t n = h.n - head < h.step ? h.n - head : h.step, keys = head * h.s;
    int64_t m = h.rows - row < h.piece ? h.rows - row : h.piece;
    int dtype = c->in[0]->dtype;
    bool wide = p.dk.dtype != dtype, add = row > 0;
    a.first = head * h.rows + row;
    fbi_operand q = {from(p.q, dtype, a.first * h.d), false};
    fbi_operand g = {from(p.g, dtype, a.first * h.e), false};
    fbi_operand k = {from(p.k, dtype, keys * h.d), false}, kt = {k.p, true};
    fbi_operand vt = {from(p.v, dtype, keys * h.e), true};
    fbi_operand wt = {p.w, true}, dw = {p.dw, false}, dwt = {p.dw, true};
    fb_status st = multiply(c, n, m, h.s, h.d, q, kt, p.x, true);
    if (!st)
        st = multiply(c, n, m, h.s, h.e, g, vt, p.dx, true);
    if (st)
        return st;
    FBI_LAUNCH(c, attend_row_bwd<T>, n * m, fbi_row_threads(h.s), a, p.mask, (const T *)p.x,
               (const T *)p.dx, p.w, p.dw, dtype, p.lse + a.first, g.p,
               (const void *)from(p.y, dtype, a.first * h.e), h.e);
    st = multiply(c, n, m, h.d, h.s, dw, k, from(p.dq.data, dtype, a.first * h.d), false);
    if (!st)
        st =
            multiply(c, n, h.s, h.d, m, dwt, q, from(p.dk.data, p.dk.dtype, keys * h.d), wide, add);
    return st ? st
              : multiply(c, n, h.s, h.e, m, wt, g, from(p.dv.data, p.dv.dtype, keys * h.e), wide,
                         add);
}

template <class T> static fb_status backward(const fbi_call *c)
{
    fbi_heads h = heads_of(c->in[0], c->in[1], c->in[2]);
    fbi_attend<T> a = attend_of<T>(FBI_ATTRS(attention), h, c->in[3]); /* the same ones */
    fbi_attend_bwd<T> p(c, h);
    if (!p.dw)
        return c->ctx->status;
    fb_status st = FB_OK;
    for (int64_t head = 0; head < h.n; head += h.step)
        for (int64_t row = 0; row < h.rows && !st; row += h.piece)
            st = backward_piece(c, h, a, p, head, row);
    st = st ? st : p.dq.put(c);
    st = st ? st : p.dk.put(c);
    return st ? st : p.dv.put(c);
}

FBI_CUDA_KERNEL(attention)
{
    return c->in[0]->dtype == FB_F64 ? forward<double>(c) : forward<float>(c);
}

FBI_CUDA_KERNEL(attention_bwd)
{
    return c->in[0]->dtype == FB_F64 ? backward<double>(c) : backward<float>(c);
}
