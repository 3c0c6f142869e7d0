/* Kernels of sort, searchsorted and of mode's longest run. Sorting is Batcher's bitonic network
 * over pairs of a value and its index; equal values are ordered by index, so the order is stable
 * and the same in every run. Lines are padded to a power of two; within a tile the network works in
 * shared memory. */
#include "core/cuda/kernel_priv.h"

enum { TILE = 2 * FBI_BLOCK };

/* Pairs lie in two arrays, keys and places. A place of n or more is padding, which comes last. */

/* Whether a comes after b. NaN is the largest value. */
template <class T>
static __device__ inline bool after(T a, int64_t i, T b, int64_t j, int64_t n, bool down)
{
    if (i >= n || j >= n)
        return i >= n && (j < n || i > j);
    bool less = down ? a > b || (a != a && b == b) : a < b || (b != b && a == a);
    bool more = down ? b > a || (b != b && a == a) : b < a || (a != a && b == b);
    return more || (!less && i > j);
}

template <class T>
__global__ void load_pairs(const void *x, int dtype, fbi_line l, int64_t width, int64_t total,
                           T *key, int64_t *at)
{
    FBI_EACH(i, total)
    {
        int64_t line = i / width, k = i % width;
        int64_t from = line / l.inner * l.n * l.inner + line % l.inner + k * l.inner;
        key[i] = k < l.n && line < l.outer * l.inner ? fbi_load<T>(x, dtype, from) : (T)0;
        at[i] = k;
    }
}

/* Stages from..to of the network, as far as they stay within a tile. Runs ascend where bit `stage`
 * of the place in the line is 0. */
template <class T>
__global__ void sort_tiles(T *keys, int64_t *places, int64_t n, int64_t width, int64_t from,
                           int64_t to, bool down)
{
    __shared__ T key[TILE];
    __shared__ int64_t at[TILE];
    int64_t base = (int64_t)blockIdx.x * TILE;
    for (int k = threadIdx.x; k < TILE; k += FBI_BLOCK) {
        key[k] = keys[base + k];
        at[k] = places[base + k];
    }
    __syncthreads();
    for (int64_t stage = from; stage <= to; stage *= 2) {
        int64_t start = stage / 2 < TILE / 2 ? stage / 2 : TILE / 2;
        for (int d = (int)start; d > 0; d /= 2) {
            int i = 2 * d * (threadIdx.x / d) + threadIdx.x % d, j = i + d;
            bool up = ((base + i) % width & stage) == 0;
            if (after(key[i], at[i], key[j], at[j], n, down) == up) {
                T v = key[i];
                int64_t w = at[i];
                key[i] = key[j];
                at[i] = at[j];
                key[j] = v;
                at[j] = w;
            }
            __syncthreads();
        }
    }
    for (int k = threadIdx.x; k < TILE; k += FBI_BLOCK) {
        keys[base + k] = key[k];
        places[base + k] = at[k];
    }
}

/* One step between tiles. */
template <class T>
__global__ void sort_step(T *key, int64_t *at, int64_t n, int64_t width, int64_t total,
                          int64_t stage, int64_t d, bool down)
{
    FBI_EACH(t, total / 2)
    {
        int64_t i = 2 * d * (t / d) + t % d, j = i + d;
        bool up = (i % width & stage) == 0;
        if (after(key[i], at[i], key[j], at[j], n, down) == up) {
            T v = key[i];
            int64_t w = at[i];
            key[i] = key[j];
            at[i] = at[j];
            key[j] = v;
            at[j] = w;
        }
    }
}

template <class T>
__global__ void store_pairs(const T *key, const int64_t *at, fbi_line l, int64_t width,
                            void *values, int dtype, int64_t *indices)
{
    FBI_EACH(i, l.outer * l.n * l.inner)
    {
        int64_t k = i / l.inner % l.n, line = i / l.inner / l.n * l.inner + i % l.inner;
        fbi_store<T>(values, dtype, i, key[line * width + k]);
        indices[i] = at[line * width + k];
    }
}

template <class T> static fb_status sort_lines(const fbi_call *c, int64_t dim, bool down)
{
    fbi_temps temps(c);
    fbi_line l = fbi_line_of(c->in[0], dim);
    int64_t lines = l.outer * l.inner, width = 2;
    const void *x = temps.dense(c->in[0]);
    if (!x || c->in[0]->numel == 0)
        return c->ctx->status;
    while (width < l.n)
        width *= 2;
    int64_t total = (lines * width + TILE - 1) / TILE * TILE; /* several short lines a tile */
    T *key = temps.array<T>(total);
    int64_t *at = key ? temps.array<int64_t>(total) : (int64_t *)NULL;
    if (!at)
        return c->ctx->status;
    FBI_LAUNCH(c, (load_pairs<T>), fbi_blocks(c->ctx, total), FBI_BLOCK, x, (int)c->in[0]->dtype, l,
               width, total, key, at);
    FBI_LAUNCH(c, (sort_tiles<T>), total / TILE, FBI_BLOCK, key, at, l.n, width, (int64_t)2,
               width < TILE ? width : (int64_t)TILE, down);
    for (int64_t stage = 2 * TILE; stage <= width; stage *= 2) {
        for (int64_t d = stage / 2; d >= TILE; d /= 2)
            FBI_LAUNCH(c, (sort_step<T>), fbi_blocks(c->ctx, total / 2), FBI_BLOCK, key, at, l.n,
                       width, total, stage, d, down);
        FBI_LAUNCH(c, (sort_tiles<T>), total / TILE, FBI_BLOCK, key, at, l.n, width, stage, stage,
                   down);
    }
    FBI_LAUNCH(c, (store_pairs<T>), fbi_blocks(c->ctx, c->in[0]->numel), FBI_BLOCK, (const T *)key,
               (const int64_t *)at, l, width, fbi_cuda_data(c->out[0]), (int)c->out[0]->dtype,
               (int64_t *)fbi_cuda_data(c->out[1]));
    return FB_OK;
}

FBI_CUDA_KERNEL(sort)
{
    const fbi_attrs_sort &a = FBI_ATTRS(sort);
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64            ? sort_lines<double>(c, a.dim, a.descending != 0)
           : fbi_cuda_is_float(dtype) ? sort_lines<float>(c, a.dim, a.descending != 0)
                                      : sort_lines<int64_t>(c, a.dim, a.descending != 0);
}

/* How many of n ascending values lie below v, or with `right` below or at it. */
template <class T>
__global__ void search(const void *sorted, const void *x, int dtype, int64_t n, int64_t each,
                       int64_t count, bool right, int64_t *y)
{
    FBI_EACH(i, count)
    {
        T v = fbi_load<T>(x, dtype, i);
        int64_t line = i / each * n, low = 0, high = n;
        while (low < high) {
            int64_t middle = low + (high - low) / 2;
            T s = fbi_load<T>(sorted, dtype, line + middle);
            if (right ? s > v : s >= v)
                high = middle;
            else
                low = middle + 1;
        }
        y[i] = low;
    }
}

template <class T> static fb_status search_lines(const fbi_call *c)
{
    fbi_temps temps(c);
    const fb_tensor *sorted = c->in[0], *x = c->in[1];
    const void *s = temps.dense(sorted), *v = s || !sorted->numel ? temps.dense(x) : NULL;
    int64_t n = sorted->size[sorted->ndim - 1];
    int64_t each = sorted->ndim > 1 ? x->size[x->ndim - 1] : x->numel;
    if (!v || x->numel == 0)
        return c->ctx->status;
    FBI_LAUNCH(c, (search<T>), fbi_blocks(c->ctx, x->numel), FBI_BLOCK, s, v, (int)x->dtype, n,
               each, x->numel, FBI_ATTRS(searchsorted).right != 0,
               (int64_t *)fbi_cuda_data(c->out[0]));
    return FB_OK;
}

FBI_CUDA_KERNEL(searchsorted)
{
    int dtype = c->in[1]->dtype;
    return dtype == FB_F64            ? search_lines<double>(c)
           : fbi_cuda_is_float(dtype) ? search_lines<float>(c)
                                      : search_lines<int64_t>(c);
}

/* Where the first of the longest runs of equal values ends; a thread a line. */
template <class T> __global__ void longest(const void *x, int dtype, fbi_line l, int64_t *y)
{
    FBI_EACH(i, l.outer * l.inner)
    {
        int64_t at = i / l.inner * l.n * l.inner + i % l.inner, run = 0, best = 0, end = 0;
        T last = 0;
        for (int64_t k = 0; k < l.n; k++) {
            T v = fbi_load<T>(x, dtype, at + k * l.inner);
            run = k && v == last ? run + 1 : 1;
            last = v;
            if (run > best) {
                best = run;
                end = k;
            }
        }
        y[i] = end;
    }
}

template <class T> static fb_status longest_of(const fbi_call *c)
{
    fbi_temps temps(c);
    const void *x = temps.dense(c->in[0]);
    fbi_line l = fbi_line_of(c->in[0], FBI_ATTRS(longest_run).dim);
    if (!x || l.outer * l.inner == 0)
        return c->ctx->status;
    FBI_LAUNCH(c, (longest<T>), fbi_blocks(c->ctx, l.outer * l.inner), FBI_BLOCK, x,
               (int)c->in[0]->dtype, l, (int64_t *)fbi_cuda_data(c->out[0]));
    return FB_OK;
}

FBI_CUDA_KERNEL(longest_run)
{
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64            ? longest_of<double>(c)
           : fbi_cuda_is_float(dtype) ? longest_of<float>(c)
                                      : longest_of<int64_t>(c);
}
