/* Kernels of embedding, index_select, gather and their backwards. A wrong index is noted and taken
 * for none. Sums over equal indices are made after sorting (index, position), so that each place is
 * added to in the order of the positions. */
#include "core/cuda/index_priv.h"

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
        FBI_LAUNCH(c, take<T>, fbi_blocks(c->ctx, c->out[0]->numel), FBI_BLOCK,
                   fbi_indices_of(c, l.n), l, (const T *)x, index, c->in[1]->numel, blank,
                   (T *)fbi_cuda_data(c->out[0]));
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
    fbi_walk w = fbi_walk_of(c->in[1], x, FBI_ATTRS(gather).dim);
    const void *index = temps.dense(c->in[1]);
    int64_t n = c->in[1]->numel;
    if (!index)
        return c->ctx->status;
    if (n)
        FBI_LAUNCH(c, gather_elements<T>, fbi_blocks(c->ctx, n), FBI_BLOCK,
                   fbi_indices_of(c, x->size[w.dim]), w, (const T *)fbi_cuda_data(x), index, n,
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

/* out[o, place, k] += sum of g[o, position, k] over the run of keys that begins at i. */
template <class T>
__global__ void add_runs(const fbi_key *keys, int64_t n, fbi_line l, const T *g, int64_t positions,
                         T *out)
{
    FBI_EACH(t, l.outer * n * l.inner)
    {
        int64_t k = t % l.inner, i = t / l.inner % n, o = t / l.inner / n;
        uint64_t place = keys[i].place;
        if (place == (uint64_t)FBI_NOWHERE || (i > 0 && keys[i - 1].place == place))
            continue;
        T *to = out + (o * l.n + (int64_t)place) * l.inner + k, sum = *to;
        for (; i < n && keys[i].place == place; i++)
            sum += g[(o * positions + (int64_t)keys[i].position) * l.inner + k];
        *to = sum;
    }
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
    int64_t n = c->in[1]->numel, padded = fbi_padded_of(n);
    const void *g = temps.dense(c->in[0]), *index = g ? temps.dense(c->in[1]) : NULL;
    fbi_key *keys = index ? temps.array<fbi_key>(padded) : NULL;
    fb_status st = keys ? zero_output(c) : c->ctx->status;
    if (st || n * l.outer * l.inner == 0)
        return st;
    FBI_LAUNCH(c, fbi_keys_of_slices, fbi_blocks(c->ctx, padded), FBI_BLOCK, fbi_indices_of(c, l.n),
               index, n, skip, padded, keys);
    st = fbi_sort_keys(c, keys, padded);
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
    return c->out[0]->dtype == FB_F64 ? add_slices<double>(c, dim, FBI_NOWHERE)
                                      : add_slices<float>(c, dim, FBI_NOWHERE);
}

template <class T> static fb_status scatter(const fbi_call *c)
{
    fbi_temps temps(c);
    fb_tensor *to = c->out[0];
    fbi_walk w = fbi_walk_of(c->in[1], to, FBI_ATTRS(scatter_sum).dim);
    int64_t n = c->in[1]->numel, padded = fbi_padded_of(n);
    const void *g = temps.dense(c->in[0]), *index = g ? temps.dense(c->in[1]) : NULL;
    fbi_key *keys = index ? temps.array<fbi_key>(padded) : NULL;
    fb_status st = keys ? zero_output(c) : c->ctx->status;
    if (st || n == 0)
        return st;
    FBI_LAUNCH(c, fbi_keys_of_elements, fbi_blocks(c->ctx, padded), FBI_BLOCK,
               fbi_indices_of(c, to->size[w.dim]), w, index, n, padded, keys);
    st = fbi_sort_keys(c, keys, padded);
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
