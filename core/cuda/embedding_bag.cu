/* Kernels of embedding_bag and bag_of. Bags are summed in the order of their indices. */
#include <flambeau/core/ops/embedding.h>

#include "core/cuda/kernel_priv.h"

/* Integers in 0 .. size - 1 of the call, or -1 with a note. */
struct fbi_bounded {
    int op, dtype;
    int64_t size;
    fbi_cuda_bad *bad;
    __device__ int64_t at(const void *p, int64_t i) const
    {
        int64_t v = fbi_load_int(p, dtype, i);
        if (v >= 0 && v < size)
            return v;
        fbi_note_bad(bad, op, v, i, size, 0);
        return -1;
    }
};

static fbi_bounded bounded(const fbi_call *c, int input, int64_t size)
{
    return fbi_bounded{c->op->op, c->in[input]->dtype, size, fbi_cuda_of(c->ctx)->bad};
}

struct fbi_bags {
    int64_t n, dim, bags, mode, padding, rows;
};

/* A thread an element of the result. */
template <class T>
__global__ void join_bags(fbi_bags s, fbi_bounded rows, fbi_bounded places, const T *w,
                          const void *index, const void *offsets, const T *factor, T *out,
                          int64_t *arg)
{
    FBI_EACH(e, s.bags * s.dim)
    {
        int64_t b = e / s.dim, k = e % s.dim, met = 0, from = s.rows;
        int64_t begin = places.at(offsets, b),
                end = b + 1 < s.bags ? places.at(offsets, b + 1) : s.n;
        if ((b == 0 && begin > 0) || end < begin) /* they begin at 0 and never fall */
            fbi_note_bad(places.bad, places.op, b == 0 && begin > 0 ? begin : end,
                         b + (end < begin), places.size, 0);
        T v = 0;
        for (int64_t i = begin; begin >= 0 && i < end; i++) {
            int64_t at = rows.at(index, i);
            if (at < 0 || at == s.padding)
                continue;
            T x = w[at * s.dim + k];
            if (s.mode != FB_BAG_MAX) {
                v += factor ? x * factor[i] : x;
            } else if (met == 0 || x > v) {
                v = x;
                from = at;
            }
            met++;
        }
        out[e] = s.mode == FB_BAG_MEAN && met > 0 ? v / (T)met : v;
        if (s.mode == FB_BAG_MAX)
            arg[e] = from;
    }
}

template <class T> static fb_status run_bags(const fbi_call *c)
{
    fbi_temps temps(c);
    const fbi_attrs_embedding_bag &a = FBI_ATTRS(embedding_bag);
    const fb_tensor *o = c->out[0], *w = c->in[0];
    fbi_bags s = {c->in[1]->numel, w->size[1],      c->in[2]->numel,
                  a.mode,          a.padding_index, w->size[0]};
    const void *table = temps.dense(w), *index = table ? temps.dense(c->in[1]) : NULL;
    const void *offsets = index ? temps.dense(c->in[2]) : NULL;
    const void *factor = offsets && c->in[3] ? temps.dense(c->in[3]) : NULL;
    if (!offsets || (c->in[3] && !factor))
        return c->ctx->status;
    FBI_LAUNCH(c, join_bags<T>, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, s, bounded(c, 1, s.rows),
               bounded(c, 2, s.n + 1), (const T *)table, index, offsets, (const T *)factor,
               (T *)fbi_cuda_data(o), (int64_t *)fbi_cuda_data(c->out[1]));
    return fbi_cuda_checked(c);
}

FBI_CUDA_KERNEL(embedding_bag)
{
    if (c->out[0]->numel == 0)
        return FB_OK;
    return c->out[0]->dtype == FB_F64 ? run_bags<double>(c) : run_bags<float>(c);
}

/* The last bag that begins at i or before. */
__global__ void find_bags(const void *offsets, int dtype, int64_t bags, int64_t n, int64_t *out)
{
    FBI_EACH(i, n)
    {
        int64_t lo = 0, hi = bags; /* the bag is in lo .. hi - 1 */
        while (hi - lo > 1) {
            int64_t middle = (lo + hi) / 2;
            if (fbi_load_int(offsets, dtype, middle) <= i)
                lo = middle;
            else
                hi = middle;
        }
        out[i] = lo;
    }
}

FBI_CUDA_KERNEL(bag_of)
{
    fbi_temps temps(c);
    const fb_tensor *o = c->out[0];
    const void *offsets = temps.dense(c->in[0]);
    if (!offsets)
        return c->ctx->status;
    if (o->numel)
        FBI_LAUNCH(c, find_bags, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, offsets,
                   (int)c->in[0]->dtype, c->in[0]->numel, o->numel, (int64_t *)fbi_cuda_data(o));
    return FB_OK;
}
