/* recurrence and its backward: a product and a kernel for each step, then the weights' gradients
 * elsewhere (core/ops/recurrent.c). A thread does one unit of one row. */
#include "core/cuda/kernel_priv.h"
#include "core/ops/recurrent_priv.h"

/* [T, N, ...] or [N, ...] with adjacent elements in its last dimension; p is NULL for one that is
 * not there. */
template <class T> struct fbi_states {
    T *p;
    int64_t step, row;
    __host__ __device__ T *at(int64_t t, int64_t n) const
    {
        return p ? p + t * step + n * row : NULL;
    }
};

/* False: the error is set. */
template <class T>
static bool states_of(const fb_tensor *t, fbi_temps &temps, fbi_states<const T> *s)
{
    *s = fbi_states<const T>{};
    if (!t || t->numel == 0)
        return true;
    int last = t->ndim - 1;
    bool near = t->stride[last] == 1 && t->stride[last - 1] >= t->size[last]; /* for products */
    s->p = (const T *)(near ? fbi_cuda_data(t) : temps.dense(t));
    s->row = near ? t->stride[last - 1] : t->size[last];
    s->step = last < 2 ? 0 : near ? t->stride[0] : t->size[1] * s->row;
    return s->p != NULL;
}

template <class T> static fbi_states<T> result_of(fb_tensor *t)
{
    fbi_states<T> s = {};
    if (t->numel == 0)
        return s;
    s.p = (T *)fbi_cuda_data(t);
    s.row = t->stride[t->ndim - 2];
    s.step = t->ndim > 2 ? t->stride[0] : 0;
    return s;
}

static __device__ inline float tangent(float x)
{
    return tanhf(x);
}
static __device__ inline double tangent(double x)
{
    return tanh(x);
}
template <class T> static __device__ inline T sigmoid(T x)
{
    T e = fbi_e(x < 0 ? x : -x);
    return (x < 0 ? e : (T)1) / ((T)1 + e);
}

/* One step of all rows. `now` and `earlier` are its time and that of the step before it, which is
 * -1 at the first one. part [N, G H]: the state's part of the gates; NULL: zeros. */
template <class T> struct fbi_rnn {
    int64_t n, h, now, earlier;
    int gates;
    const T *part, *bias;
    fbi_states<const T> x, h0, c0;
    fbi_states<T> y, c, saved;
    __device__ const T *h_before(int64_t row) const
    {
        return earlier < 0 ? h0.at(0, row) : y.at(earlier, row);
    }
    __device__ const T *c_before(int64_t row) const
    {
        return earlier < 0 ? c0.at(0, row) : c.at(earlier, row);
    }
};

/* --- forward: unit u of a row; p[k * h] is the state's part of gate k --- */

template <class T> static __device__ void lstm(const fbi_rnn<T> &r, int64_t row, int64_t u)
{
    const T *x = r.x.at(r.now, row) + u, *p = r.part ? r.part + row * 4 * r.h + u : NULL;
    const T *before = r.c_before(row);
    T v[4];
    for (int k = 0; k < 4; k++)
        v[k] = x[k * r.h] + (p ? p[k * r.h] : (T)0);
    T i = sigmoid(v[0]), f = sigmoid(v[1]), g = tangent(v[2]), o = sigmoid(v[3]);
    T c = f * (before ? before[u] : (T)0) + i * g;
    T *saved = r.saved.at(r.now, row) + u;
    saved[0] = i, saved[r.h] = f, saved[2 * r.h] = g, saved[3 * r.h] = o;
    r.c.at(r.now, row)[u] = c;
    r.y.at(r.now, row)[u] = o * tangent(c);
}

template <class T> static __device__ void gru(const fbi_rnn<T> &r, int64_t row, int64_t u)
{
    const T *x = r.x.at(r.now, row) + u, *p = r.part ? r.part + row * 3 * r.h + u : NULL;
    const T *before = r.h_before(row);
    T own[3];
    for (int k = 0; k < 3; k++)
        own[k] = (p ? p[k * r.h] : (T)0) + (r.bias ? r.bias[k * r.h + u] : (T)0);
    T reset = sigmoid(x[0] + own[0]), z = sigmoid(x[r.h] + own[1]);
    T n = tangent(x[2 * r.h] + reset * own[2]);
    T *saved = r.saved.at(r.now, row) + u;
    saved[0] = reset, saved[r.h] = z, saved[2 * r.h] = n, saved[3 * r.h] = own[2];
    r.y.at(r.now, row)[u] = n + z * ((before ? before[u] : (T)0) - n);
}

template <class T, int KIND>
static __device__ void plain(const fbi_rnn<T> &r, int64_t row, int64_t u)
{
    T v = r.x.at(r.now, row)[u] + (r.part ? r.part[row * r.h + u] : (T)0);
    r.y.at(r.now, row)[u] = KIND == FBI_RNN_TANH ? tangent(v) : v > 0 || v != v ? v : (T)0;
}

template <class T, int KIND> __global__ void cells(fbi_rnn<T> r)
{
    FBI_EACH(i, r.n * r.h)
    {
        if (KIND == FBI_LSTM)
            lstm(r, i / r.h, i % r.h);
        else if (KIND == FBI_GRU)
            gru(r, i / r.h, i % r.h);
        else
            plain<T, KIND>(r, i / r.h, i % r.h);
    }
}

/* --- backward --- */

/* part [N, H]: the gradient from the step behind this one, and carry, past the gates of h or that
 * of c; NULL and not read at the last step. */
template <class T> struct fbi_rnn_back {
    fbi_rnn<T> r; /* what forward gave */
    fbi_states<const T> gy, gc;
    fbi_states<T> dx, down, before;
    T *carry;
};

template <class T>
static __device__ void lstm_back(const fbi_rnn_back<T> &b, int64_t row, int64_t u, T dh, T past)
{
    const fbi_rnn<T> &r = b.r;
    const T *saved = r.saved.at(r.now, row) + u, *c_before = r.c_before(row);
    const T *gc = b.gc.at(r.now, row);
    T i = saved[0], f = saved[r.h], g = saved[2 * r.h], o = saved[3 * r.h];
    T t = tangent(r.c.at(r.now, row)[u]);
    T dc = past + (gc ? gc[u] : (T)0) + dh * o * (1 - t * t);
    T *dx = b.dx.at(r.now, row) + u;
    dx[0] = dc * g * (i * (1 - i));
    dx[r.h] = dc * (c_before ? c_before[u] : (T)0) * (f * (1 - f));
    dx[2 * r.h] = dc * i * (1 - g * g);
    dx[3 * r.h] = dh * t * (o * (1 - o));
    b.carry[row * r.h + u] = dc * f;
}

template <class T>
static __device__ void gru_back(const fbi_rnn_back<T> &b, int64_t row, int64_t u, T dh, T past)
{
    const fbi_rnn<T> &r = b.r;
    const T *saved = r.saved.at(r.now, row) + u, *h_before = r.h_before(row);
    T reset = saved[0], z = saved[r.h], n = saved[2 * r.h], own = saved[3 * r.h];
    dh += past;
    T dn = dh * (1 - z) * (1 - n * n);
    T *dx = b.dx.at(r.now, row) + u, *down = b.down.at(r.now, row) + u;
    down[0] = dx[0] = dn * own * (reset * (1 - reset));
    down[r.h] = dx[r.h] = dh * ((h_before ? h_before[u] : (T)0) - n) * (z * (1 - z));
    dx[2 * r.h] = dn;
    down[2 * r.h] = dn * reset;
    b.carry[row * r.h + u] = dh * z;
}

template <class T, int KIND> __global__ void cells_back(fbi_rnn_back<T> b)
{
    const fbi_rnn<T> &r = b.r;
    FBI_EACH(k, r.n * r.h)
    {
        int64_t row = k / r.h, u = k % r.h;
        const T *h_before = r.h_before(row);
        T dh = b.gy.at(r.now, row)[u] + (r.part ? r.part[k] : (T)0), past = r.part ? b.carry[k] : 0;
        T y = r.y.at(r.now, row)[u];
        b.before.at(r.now, row)[u] = h_before ? h_before[u] : (T)0;
        if (KIND == FBI_LSTM)
            lstm_back(b, row, u, dh, past);
        else if (KIND == FBI_GRU)
            gru_back(b, row, u, dh, past);
        else
            b.dx.at(r.now, row)[u] = dh * (KIND == FBI_RNN_TANH ? 1 - y * y : (T)(y > 0));
    }
}

/* The gradients of the first states. */
template <class T, int KIND>
__global__ void first_states(int64_t n, int64_t h, const T *part, const T *carry, T *dh, T *dc)
{
    FBI_EACH(i, n * h)
    {
        dh[i] = part[i] + (KIND == FBI_GRU ? carry[i] : (T)0);
        if (KIND == FBI_LSTM)
            dc[i] = carry[i];
    }
}

/* --- steps --- */

/* out [N, cols] = a [N, rows] w, or w's transpose; rows of a are `row` apart. */
template <class T>
static fb_status product(const fbi_call *c, int64_t n, const T *a, int64_t row,
                         const fbi_states<const T> &w, int64_t k, int64_t cols, bool transposed,
                         T *out)
{
    fbi_cuda_mm g = {};
    g.dtype = (fb_dtype)fbi_dtype_of<T>::value;
    g.batch = 1;
    g.m = n, g.n = cols, g.k = k;
    g.a_m = row, g.a_k = 1;
    g.b_k = transposed ? 1 : w.row, g.b_n = transposed ? w.row : 1;
    g.c_m = cols;
    g.a = a, g.b = w.p, g.c = out;
    return fbi_cuda_product(c, &g);
}

template <class T, int KIND> static fb_status forward(const fbi_call *c, bool reverse)
{
    fbi_temps temps(c);
    fbi_rnn<T> r = {};
    fbi_states<const T> w;
    int64_t steps = c->out[0]->size[0], way = reverse ? -1 : 1;
    r.n = c->out[0]->size[1], r.h = c->out[0]->size[2];
    r.gates = fbi_rnn_forms[KIND].gates;
    bool ok = states_of(c->in[0], temps, &r.x) && states_of(c->in[1], temps, &r.h0) &&
              states_of(c->in[2], temps, &r.c0) && states_of(c->in[4], temps, &w);
    r.bias = ok && c->in[3] ? (const T *)temps.dense(c->in[3]) : NULL;
    T *part = ok && (!c->in[3] || r.bias) ? temps.array<T>(r.n * r.gates * r.h) : NULL;
    if (!part)
        return c->ctx->status;
    r.y = result_of<T>(c->out[0]), r.c = result_of<T>(c->out[1]), r.saved = result_of<T>(c->out[2]);
    r.now = reverse ? steps - 1 : 0;
    r.earlier = -1;
    for (int64_t i = 0; i < steps; i++, r.earlier = r.now, r.now += way) {
        const T *h = i ? r.y.at(r.earlier, 0) : r.h0.p;
        int64_t row = i ? r.y.row : r.h0.row;
        r.part = h ? part : NULL;
        fb_status st = h ? product<T>(c, r.n, h, row, w, r.h, r.gates * r.h, true, part) : FB_OK;
        if (st)
            return st;
        FBI_LAUNCH(c, (cells<T, KIND>), fbi_blocks(c->ctx, r.n * r.h), FBI_BLOCK, r);
    }
    return FB_OK;
}

template <class T, int KIND> static fb_status backward(const fbi_call *c, bool reverse)
{
    fbi_temps temps(c);
    fbi_rnn_back<T> b = {};
    fbi_rnn<T> &r = b.r;
    fbi_states<const T> w, saved, y, memory;
    int64_t steps = c->in[6]->size[0], way = reverse ? -1 : 1;
    r.n = c->in[6]->size[1], r.h = c->in[6]->size[2];
    r.gates = fbi_rnn_forms[KIND].gates;
    bool ok = states_of(c->in[0], temps, &b.gy) && states_of(c->in[1], temps, &b.gc) &&
              states_of(c->in[2], temps, &r.h0) && states_of(c->in[3], temps, &r.c0) &&
              states_of(c->in[4], temps, &w) && states_of(c->in[5], temps, &saved) &&
              states_of(c->in[6], temps, &y) && states_of(c->in[7], temps, &memory);
    fbi_temps more(c);
    T *part = ok ? more.array<T>(r.n * r.h) : NULL;
    b.carry = part ? more.array<T>(r.n * r.h) : NULL;
    if (!b.carry)
        return c->ctx->status;
    r.saved = fbi_states<T>{(T *)saved.p, saved.step, saved.row}; /* they are read only */
    r.y = fbi_states<T>{(T *)y.p, y.step, y.row};
    r.c = fbi_states<T>{(T *)memory.p, memory.step, memory.row};
    b.dx = result_of<T>(c->out[0]), b.down = result_of<T>(c->out[1]);
    b.before = result_of<T>(c->out[2]);
    fbi_states<T> own = b.down.p ? b.down : b.dx;
    unsigned blocks = fbi_blocks(c->ctx, r.n * r.h);
    int64_t first = reverse ? steps - 1 : 0;
    for (int64_t i = steps - 1; i >= 0; i--) {
        r.now = first + i * way;
        r.earlier = i ? r.now - way : -1;
        r.part = i + 1 < steps ? part : NULL;
        FBI_LAUNCH(c, (cells_back<T, KIND>), blocks, FBI_BLOCK, b);
        fb_status st =
            product<T>(c, r.n, own.at(r.now, 0), own.row, w, r.gates * r.h, r.h, false, part);
        if (st)
            return st;
    }
    FBI_LAUNCH(c, (first_states<T, KIND>), blocks, FBI_BLOCK, r.n, r.h, (const T *)part,
               (const T *)b.carry, (T *)fbi_cuda_data(c->out[3]), (T *)fbi_cuda_data(c->out[4]));
    return FB_OK;
}

typedef fb_status (*fbi_rnn_run)(const fbi_call *, bool);

FBI_CUDA_KERNEL(recurrence)
{
    static const fbi_rnn_run runs[2][FBI_RNN_KINDS] = {
        {forward<float, FBI_RNN_TANH>, forward<float, FBI_RNN_RELU>, forward<float, FBI_LSTM>,
         forward<float, FBI_GRU>},
        {forward<double, FBI_RNN_TANH>, forward<double, FBI_RNN_RELU>, forward<double, FBI_LSTM>,
         forward<double, FBI_GRU>}};
    const fbi_attrs_recurrence &a = FBI_ATTRS(recurrence);
    bool wide = c->in[0]->dtype == FB_F64;
    return c->out[0]->numel ? runs[wide][a.kind](c, a.reverse != 0) : FB_OK;
}

FBI_CUDA_KERNEL(recurrence_bwd)
{
    static const fbi_rnn_run runs[2][FBI_RNN_KINDS] = {
        {backward<float, FBI_RNN_TANH>, backward<float, FBI_RNN_RELU>, backward<float, FBI_LSTM>,
         backward<float, FBI_GRU>},
        {backward<double, FBI_RNN_TANH>, backward<double, FBI_RNN_RELU>, backward<double, FBI_LSTM>,
         backward<double, FBI_GRU>}};
    const fbi_attrs_recurrence_bwd &a = FBI_ATTRS(recurrence_bwd);
    bool wide = c->in[6]->dtype == FB_F64;
    return c->in[6]->numel ? runs[wide][a.kind](c, a.reverse != 0) : FB_OK;
}
