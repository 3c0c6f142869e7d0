/* Kernels of take_masked, put_masked and masked_places. Each true element first gets its rank:
 * trues are counted chunk by chunk, the counts are summed up, and each chunk counts on from its
 * sum. */
#include "core/cuda/kernel_priv.h"
#include "core/cuda/note_priv.h"

enum { CHUNK = 64 }; /* elements of a thread */

__global__ void count_chunks(const uint8_t *mask, int64_t n, int64_t chunks, int64_t *counts)
{
    FBI_EACH(k, chunks)
    {
        int64_t count = 0, end = (k + 1) * CHUNK < n ? (k + 1) * CHUNK : n;
        for (int64_t i = k * CHUNK; i < end; i++)
            count += mask[i] != 0;
        counts[k] = count;
    }
}

/* counts become the sums of those before. One block, each thread a stretch. */
__global__ void sum_up(int64_t *counts, int64_t chunks)
{
    __shared__ int64_t part[FBI_BLOCK];
    int64_t per = (chunks + FBI_BLOCK - 1) / FBI_BLOCK, begin = threadIdx.x * per;
    int64_t end = begin + per < chunks ? begin + per : chunks, sum = 0;
    for (int64_t k = begin; k < end; k++)
        sum += counts[k];
    part[threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (unsigned t = 0; t < threadIdx.x; t++)
        sum += part[t];
    for (int64_t k = begin; k < end; k++) {
        int64_t count = counts[k];
        counts[k] = sum;
        sum += count;
    }
}

/* ranks[i]: how many are true before i; -1 where i is not. */
__global__ void rank_chunks(const uint8_t *mask, int64_t n, int64_t chunks, const int64_t *counts,
                            int64_t *ranks)
{
    FBI_EACH(k, chunks)
    {
        int64_t rank = counts[k], end = (k + 1) * CHUNK < n ? (k + 1) * CHUNK : n;
        for (int64_t i = k * CHUNK; i < end; i++)
            ranks[i] = mask[i] ? rank++ : -1;
    }
}

/* NULL: the error is set. n > 0 */
static const int64_t *ranks_of(const fbi_call *c, fbi_temps *temps, const fb_tensor *mask)
{
    int64_t n = mask->numel, chunks = (n + CHUNK - 1) / CHUNK;
    const uint8_t *m = (const uint8_t *)temps->dense(mask);
    int64_t *counts = m ? temps->array<int64_t>(chunks) : NULL;
    int64_t *ranks = counts ? temps->array<int64_t>(n) : NULL;
    auto run = [&]() -> fb_status {
        FBI_LAUNCH(c, count_chunks, fbi_blocks(c->ctx, chunks), FBI_BLOCK, m, n, chunks, counts);
        FBI_LAUNCH(c, sum_up, 1, FBI_BLOCK, counts, chunks);
        FBI_LAUNCH(c, rank_chunks, fbi_blocks(c->ctx, chunks), FBI_BLOCK, m, n, chunks,
                   (const int64_t *)counts, ranks);
        return FB_OK;
    };
    return ranks && !run() ? ranks : NULL;
}

template <class T>
__global__ void take(const int64_t *ranks, int64_t n, const T *x, T *out, int64_t size)
{
    FBI_EACH(i, n)
    {
        if (ranks[i] >= 0 && ranks[i] < size)
            out[ranks[i]] = x[i];
    }
}

template <class T> static fb_status run_take(const fbi_call *c)
{
    fbi_temps temps(c);
    const fb_tensor *mask = c->in[1], *o = c->out[0];
    const T *x = (const T *)temps.dense(c->in[0]);
    const int64_t *ranks = x ? ranks_of(c, &temps, mask) : NULL;
    if (!ranks)
        return c->ctx->status;
    FBI_LAUNCH(c, take<T>, fbi_blocks(c->ctx, mask->numel), FBI_BLOCK, ranks, mask->numel, x,
               (T *)fbi_cuda_data(o), o->numel);
    return FB_OK;
}

FBI_CUDA_KERNEL(take_masked)
{
    const fb_tensor *o = c->out[0];
    int64_t bytes = fbi_cuda_bytes(o->dtype);
    if (o->numel == 0)
        return FB_OK;
    FBI_CUDA_TRY(c->ctx, cudaMemsetAsync(fbi_cuda_data(o), 0, (size_t)(o->numel * bytes),
                                         fbi_cuda_of(c->ctx)->stream));
    if (c->in[1]->numel == 0)
        return FB_OK;
    return bytes == 1   ? run_take<uint8_t>(c)
           : bytes == 2 ? run_take<uint16_t>(c)
           : bytes == 4 ? run_take<uint32_t>(c)
                        : run_take<uint64_t>(c);
}

/* op: for the note on what is missing in the source */
template <class T>
__global__ void put(const int64_t *ranks, int64_t n, const T *src, int64_t size, T *out, int op,
                    fbi_cuda_bad *bad)
{
    FBI_EACH(i, n)
    {
        int64_t r = ranks[i];
        if (r >= size)
            fbi_note_bad(bad, op, r, i, size, 0);
        else if (r >= 0)
            out[i] = src[r];
    }
}

template <class T> static fb_status run_put(const fbi_call *c)
{
    fbi_temps temps(c);
    const fb_tensor *o = c->out[0];
    const T *src = (const T *)temps.dense(c->in[2]);
    const int64_t *ranks = src ? ranks_of(c, &temps, c->in[1]) : NULL;
    if (!ranks)
        return c->ctx->status;
    FBI_LAUNCH(c, put<T>, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, ranks, o->numel, src,
               c->in[2]->numel, (T *)fbi_cuda_data(o), fbi_noted_op(c), fbi_cuda_of(c->ctx)->bad);
    return fbi_cuda_checked(c);
}

FBI_CUDA_KERNEL(put_masked)
{
    const fb_tensor *o = c->out[0];
    int64_t bytes = fbi_cuda_bytes(o->dtype);
    fb_status st = fbi_cuda_copy_strided(c, c->out[0], c->in[0]);
    if (st || o->numel == 0)
        return st;
    return bytes == 1   ? run_put<uint8_t>(c)
           : bytes == 2 ? run_put<uint16_t>(c)
           : bytes == 4 ? run_put<uint32_t>(c)
                        : run_put<uint64_t>(c);
}

struct fbi_sizes {
    int ndim;
    int64_t size[FB_MAX_DIMS];
};

__global__ void write_places(const int64_t *ranks, int64_t n, fbi_sizes s, int64_t count,
                             int64_t *out)
{
    FBI_EACH(i, n)
    {
        if (ranks[i] < 0 || ranks[i] >= count)
            continue;
        int64_t rest = i;
        for (int d = s.ndim - 1; d >= 0; d--) {
            out[ranks[i] * s.ndim + d] = rest % s.size[d];
            rest /= s.size[d];
        }
    }
}

FBI_CUDA_KERNEL(masked_places)
{
    fbi_temps temps(c);
    const fb_tensor *mask = c->in[0], *o = c->out[0];
    fbi_sizes s = {};
    if (o->numel == 0 || mask->numel == 0)
        return FB_OK;
    const int64_t *ranks = ranks_of(c, &temps, mask);
    if (!ranks)
        return c->ctx->status;
    s.ndim = mask->ndim;
    for (int d = 0; d < s.ndim; d++)
        s.size[d] = mask->size[d];
    FBI_LAUNCH(c, write_places, fbi_blocks(c->ctx, mask->numel), FBI_BLOCK, ranks, mask->numel, s,
               o->size[0], (int64_t *)fbi_cuda_data(o));
    return FB_OK;
}
