/* Kernels of embedding, index_select, gather and their backwards. A wrong index is noted and taken
 * for none. Sums over equal indices are made after sorting (index, position), so that each place is
 * added to in the order of the positions. */
#include "core/cuda/kernel_priv.h"

/* Index j of the call, or -1 if it is out of range. */
struct fbi_indices {
    int op, dtype;
    int64_t size;
    fbi_cuda_bad *bad;
    __device__ int64_t at(const void *index, int64_t j) const
    {
        int64_t v = fbi_load_int(index, dtype, j);
        if (v >= 0 && v < size)
            return v;
        fbi_note_bad(bad, op, v, j, size, 0);
        return -1;
    }
};

static fbi_indices indices_of(const fbi_call *c, int64_t size)
{
    return fbi_indices{c->op->op, c->in[1]->dtype, size, fbi_cuda_of(c->ctx)->bad};
}

/* --- taking --- */

/* out[o, j, k] = x[o, index[j], k]; zeros at `blank`. */
template <class T>
__global__ void take(fbi_indices ix, fbi_line l, const T *x, const void *index, int64_t n,
                     int64_t blank, T *out)
{
    FBI_EACH(i, l.outer * n * l.inner)
    {
        int64_t k = i % l.inner, j = i / l.inner % n, o = i / l.inner / n, at = ix.at(index, j);
        out[i] = at < 0 || at == blank ? (T)0 : x[(o * l.n + at) * l.inner + k];
    }
}

template <class T> static fb_status run_take(const fbi_call *c, int64_t dim, int64_t blank)
{
    fbi_temps temps(c);
    fbi_line l = fbi_line_of(c->in[0], dim);
    const void *x = temps.dense(c->in[0]), *index = x ? temps.dense(c->in[1]) : NULL;
    if (!index)
        return c->ctx->status;
    if (c->out[0]->numel)
        FBI_LAUNCH(c, take<T>, fbi_blocks(c->ctx, c->out[0]->numel), FBI_BLOCK, indices_of(c, l.n),
                   l, (const T *)x, index, c->in[1]->numel, blank, (T *)fbi_cuda_data(c->out[0]));
    return fbi_cuda_checked(c);
}

static fb_status take_slices(const fbi_call *c, int64_t dim, int64_t blank)
{
    int64_t bytes = fbi_cuda_bytes(c->out[0]->dtype);
    return bytes == 1   ? run_take<uint8_t>(c, dim, blank)
           : bytes == 2 ? run_take<uint16_t>(c, dim, blank)
           : bytes == 4 ? run_take<uint32_t>(c, dim, blank)
                        : run_take<uint64_t>(c, dim, blank);
}

FBI_CUDA_KERNEL(embedding)
{
    const fbi_attrs_embedding &a = FBI_ATTRS(embedding);
    return take_slices(c, 0, a.blank ? a.padding_index : -1);
}

FBI_CUDA_KERNEL(index_select)
{
    return take_slices(c, FBI_ATTRS(index_select).dim, -1);
}

/* Sizes of an index tensor, and the strides of the tensor that it points into. */
struct fbi_walk {
    int ndim, dim;
    int64_t size[FB_MAX_DIMS], stride[FB_MAX_DIMS];
    /* Offset of the coordinates of element i other than that along dim. */
    __device__ int64_t base(int64_t i) const
    {
        int64_t at = 0;
        for (int d = ndim - 1; d >= 0; d--) {
            at += d == dim ? 0 : i % size[d] * stride[d];
            i /= size[d];
        }
        return at;
    }
};

static fbi_walk walk_of(const fb_tensor *index, const fb_tensor *t, int64_t dim)
{
    fbi_walk w = {};
    w.ndim = index->ndim;
    w.dim = (int)(dim < 0 ? dim + t->ndim : dim);
    for (int i = 0; i < w.ndim; i++) {
        w.size[i] = index->size[i];
        w.stride[i] = t->stride[i];
    }
    return w;
}

template <class T>
__global__ void gather_elements(fbi_indices ix, fbi_walk w, const T *x, const void *index,
                                int64_t n, T *out)
{
    FBI_EACH(i, n)
    {
        int64_t at = ix.at(index, i);
        out[i] = at < 0 ? (T)0 : x[w.base(i) + at * w.stride[w.dim]];
    }
}

template <class T> static fb_status run_gather(const fbi_call *c)
{
    fbi_temps temps(c);
    const fb_tensor *x = c->in[0];
    fbi_walk w = walk_of(c->in[1], x, FBI_ATTRS(gather).dim);
    const void *index = temps.dense(c->in[1]);
    int64_t n = c->in[1]->numel;
    if (!index)
        return c->ctx->status;
    if (n)
        FBI_LAUNCH(c, gather_elements<T>, fbi_blocks(c->ctx, n), FBI_BLOCK,
                   indices_of(c, x->size[w.dim]), w, (const T *)fbi_cuda_data(x), index, n,
                   (T *)fbi_cuda_data(c->out[0]));
    return fbi_cuda_checked(c);
}

FBI_CUDA_KERNEL(gather)
{
    int64_t bytes = fbi_cuda_bytes(c->out[0]->dtype);
    return bytes == 1   ? run_gather<uint8_t>(c)
           : bytes == 2 ? run_gather<uint16_t>(c)
           : bytes == 4 ? run_gather<uint32_t>(c)
                        : run_gather<uint64_t>(c);
}

/* --- adding --- */

/* What is sorted: places in the upper word, so that equal ones keep their order. */
struct fbi_key {
    uint64_t place, position;
};

static const int64_t NOWHERE = -1; /* as uint64_t the last of all */

__global__ void keys_of_slices(fbi_indices ix, const void *index, int64_t n, int64_t skip,
                               int64_t padded, fbi_key *keys)
{
    FBI_EACH(i, padded)
    {
        int64_t at = i < n ? ix.at(index, i) : NOWHERE;
        keys[i] = fbi_key{(uint64_t)(at == skip ? NOWHERE : at), (uint64_t)i};
    }
}

__global__ void keys_of_elements(fbi_indices ix, fbi_walk w, const void *index, int64_t n,
                                 int64_t padded, fbi_key *keys)
{
    FBI_EACH(i, padded)
    {
        int64_t at = i < n ? ix.at(index, i) : NOWHERE;
        if (at >= 0)
            at = w.base(i) + at * w.stride[w.dim];
        keys[i] = fbi_key{(uint64_t)at, (uint64_t)i};
    }
}

/* One step of a bitonic sort: pairs at distance `half` in sequences of `length`. */
__global__ void sort_step(fbi_key *keys, int64_t pairs, int64_t length, int64_t half)
{
    FBI_EACH(k, pairs)
    {
        int64_t i = k / half * half * 2 + k % half, j = i + half;
        fbi_key a = keys[i], b = keys[j];
        bool above = a.place > b.place || (a.place == b.place && a.position > b.position);
        if (above == ((i & length) == 0)) {
            keys[i] = b;
            keys[j] = a;
        }
    }
}

static fb_status sort(const fbi_call *c, fbi_key *keys, int64_t padded)
{
    for (int64_t length = 2; length <= padded; length *= 2)
        for (int64_t half = length / 2; half > 0; half /= 2)
            FBI_LAUNCH(c, sort_step, fbi_blocks(c->ctx, padded / 2), FBI_BLOCK, keys, padded / 2,
                       length, half);
    return FB_OK;
}

/* out[o, place, k] += sum of g[o, position, k] over the run of keys that begins at i. */
template <class T>
__global__ void add_runs(const fbi_key *keys, int64_t n, fbi_line l, const T *g, int64_t positions,
                         T *out)
{
    FBI_EACH(t, l.outer * n * l.inner)
    {
        int64_t k = t % l.inner, i = t / l.inner % n, o = t / l.inner / n;
        uint64_t place = keys[i].place;
        if (place == (uint64_t)NOWHERE || (i > 0 && keys[i - 1].place == place))
            continue;
        T *to = out + (o * l.n + (int64_t)place) * l.inner + k, sum = *to;
        for (; i < n && keys[i].place == place; i++)
            sum += g[(o * positions + (int64_t)keys[i].position) * l.inner + k];
        *to = sum;
    }
}

static int64_t padded_of(int64_t n)
{
    int64_t padded = 1;
    while (padded < n)
        padded *= 2;
    return padded;
}

static fb_status zero_output(const fbi_call *c)
{
    const fb_tensor *o = c->out[0];
    if (o->numel && c->beta == 0)
        FBI_CUDA_TRY(c->ctx, cudaMemsetAsync(fbi_cuda_data(o), 0,
                                             (size_t)(o->numel * fbi_cuda_bytes(o->dtype)),
                                             fbi_cuda_of(c->ctx)->stream));
    return FB_OK;
}

template <class T> static fb_status add_slices(const fbi_call *c, int64_t dim, int64_t skip)
{
    fbi_temps temps(c);
    fbi_line l = fbi_line_of(c->out[0], dim);
    int64_t n = c->in[1]->numel, padded = padded_of(n);
    const void *g = temps.dense(c->in[0]), *index = g ? temps.dense(c->in[1]) : NULL;
    fbi_key *keys = index ? temps.array<fbi_key>(padded) : NULL;
    fb_status st = keys ? zero_output(c) : c->ctx->status;
    if (st || n * l.outer * l.inner == 0)
        return st;
    FBI_LAUNCH(c, keys_of_slices, fbi_blocks(c->ctx, padded), FBI_BLOCK, indices_of(c, l.n), index,
               n, skip, padded, keys);
    st = sort(c, keys, padded);
    if (st)
        return st;
    FBI_LAUNCH(c, add_runs<T>, fbi_blocks(c->ctx, l.outer * n * l.inner), FBI_BLOCK,
               (const fbi_key *)keys, n, l, (const T *)g, n, (T *)fbi_cuda_data(c->out[0]));
    return fbi_cuda_checked(c);
}

FBI_CUDA_KERNEL(embedding_bwd)
{
    int64_t skip = FBI_ATTRS(embedding_bwd).padding_index;
    return c->out[0]->dtype == FB_F64 ? add_slices<double>(c, 0, skip)
                                      : add_slices<float>(c, 0, skip);
}

FBI_CUDA_KERNEL(index_sum)
{
    int64_t dim = FBI_ATTRS(index_sum).dim;
    return c->out[0]->dtype == FB_F64 ? add_slices<double>(c, dim, NOWHERE)
                                      : add_slices<float>(c, dim, NOWHERE);
}

template <class T> static fb_status scatter(const fbi_call *c)
{
    fbi_temps temps(c);
    fb_tensor *to = c->out[0];
    fbi_walk w = walk_of(c->in[1], to, FBI_ATTRS(scatter_sum).dim);
    int64_t n = c->in[1]->numel, padded = padded_of(n);
    const void *g = temps.dense(c->in[0]), *index = g ? temps.dense(c->in[1]) : NULL;
    fbi_key *keys = index ? temps.array<fbi_key>(padded) : NULL;
    fb_status st = keys ? zero_output(c) : c->ctx->status;
    if (st || n == 0)
        return st;
    FBI_LAUNCH(c, keys_of_elements, fbi_blocks(c->ctx, padded), FBI_BLOCK,
               indices_of(c, to->size[w.dim]), w, index, n, padded, keys);
    st = sort(c, keys, padded);
    if (st)
        return st;
    fbi_line l = {1, to->numel, 1};
    FBI_LAUNCH(c, add_runs<T>, fbi_blocks(c->ctx, n), FBI_BLOCK, (const fbi_key *)keys, n, l,
               (const T *)g, n, (T *)fbi_cuda_data(to));
    return fbi_cuda_checked(c);
}

FBI_CUDA_KERNEL(scatter_sum)
{
    return c->out[0]->dtype == FB_F64 ? scatter<double>(c) : scatter<float>(c);
}
