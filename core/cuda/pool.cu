/* Pooling of channels-last images: a thread an element of the result. */
#include "core/cuda/kernel_priv.h"
#include "core/ops/pool_priv.h"

static __device__ inline int64_t places(const int64_t *size)
{
    return size[0] * size[1] * size[2];
}

/* Element i of [n, d, h, w, c] images of `size`. */
struct fbi_place {
    int64_t n, c, at[3];
};

static __device__ inline fbi_place place_of(const fbi_pool &p, const int64_t *size, int64_t i)
{
    fbi_place q;
    q.c = i % p.c;
    i /= p.c;
    for (int d = 2; d >= 0; d--) {
        q.at[d] = i % size[d];
        i /= size[d];
    }
    q.n = i;
    return q;
}

/* samples [n, c, 3] are where windows at random distances begin, else NULL. */
template <class T>
__global__ void max_pool(fbi_pool p, const T *x, const T *samples, T *y, int32_t *index)
{
    FBI_EACH(i, p.n * places(p.out) * p.c)
    {
        fbi_place o = place_of(p, p.out, i);
        const T *image = x + o.n * places(p.in) * p.c + o.c;
        fbi_span s[3];
        for (int d = 0; d < 3; d++) {
            if (!samples) {
                s[d] = fbi_pool_span(&p, d, o.at[d]);
                continue;
            }
            double u = (double)samples[(o.n * p.c + o.c) * 3 + d];
            s[d].begin = fbi_pool_random(&p, d, o.at[d], u, sizeof(T) == 4);
            s[d].end = s[d].begin + p.k[d];
            s[d].step = 1;
        }
        bool first = true;
        T best = 0;
        int64_t at = 0;
        for (int64_t z = s[0].begin; z < s[0].end; z += s[0].step)
            for (int64_t r = s[1].begin; r < s[1].end; r += s[1].step)
                for (int64_t q = s[2].begin; q < s[2].end; q += s[2].step) {
                    int64_t here = (z * p.in[1] + r) * p.in[2] + q;
                    T v = image[here * p.c];
                    if (first || v > best || v != v) {
                        best = v;
                        at = here;
                        first = false;
                    }
                }
        y[i] = best;
        index[i] = (int32_t)at;
    }
}

/* dx[index] += g, or = g: a thread a channel of an image, so that the order is fixed. `bad`: where
 * indices of a user that are out of range are noted; they are taken for none. */
template <class T>
__global__ void scatter(fbi_pool p, const T *g, const int32_t *index, bool add, int op,
                        fbi_cuda_bad *bad, T *dx)
{
    FBI_EACH(k, p.n * p.c)
    {
        int64_t n = k / p.c, c = k % p.c, in = places(p.in), out = places(p.out);
        T *image = dx + n * in * p.c + c;
        for (int64_t i = 0; i < in; i++)
            image[i * p.c] = 0;
        for (int64_t i = 0; i < out; i++) {
            int64_t from = (n * out + i) * p.c + c, at = index[from];
            if (at < 0 || at >= in) {
                fbi_note_bad(bad, op, at, from, in, 0);
                continue;
            }
            image[at * p.c] = add ? image[at * p.c] + g[from] : g[from];
        }
    }
}

template <class T> __global__ void pick(fbi_pool p, const T *u, const int32_t *index, T *y)
{
    FBI_EACH(i, p.n * places(p.out) * p.c)
    {
        int64_t n = i / p.c / places(p.out), at = index[i];
        bool inside = at >= 0 && at < places(p.in);
        y[i] = inside ? u[(n * places(p.in) + at) * p.c + i % p.c] : (T)0;
    }
}

template <class T> static __device__ inline T scale_of(const fbi_pool &p, const fbi_span *s)
{
    return (T)1 / (T)(p.divisor ? p.divisor : s[0].count * s[1].count * s[2].count);
}

template <class T> __global__ void mean_pool(fbi_pool p, const T *x, T *y)
{
    FBI_EACH(i, p.n * places(p.out) * p.c)
    {
        fbi_place o = place_of(p, p.out, i);
        const T *image = x + o.n * places(p.in) * p.c + o.c;
        fbi_span s[3];
        for (int d = 0; d < 3; d++)
            s[d] = fbi_pool_span(&p, d, o.at[d]);
        T sum = 0;
        for (int64_t z = s[0].begin; z < s[0].end; z++)
            for (int64_t r = s[1].begin; r < s[1].end; r++)
                for (int64_t q = s[2].begin; q < s[2].end; q++)
                    sum += image[((z * p.in[1] + r) * p.in[2] + q) * p.c];
        y[i] = sum * scale_of<T>(p, s);
    }
}

template <class T> __global__ void mean_pool_bwd(fbi_pool p, const T *g, T *dx)
{
    FBI_EACH(i, p.n * places(p.in) * p.c)
    {
        fbi_place o = place_of(p, p.in, i);
        const T *image = g + o.n * places(p.out) * p.c + o.c;
        int64_t first[3], last[3];
        for (int d = 0; d < 3; d++)
            fbi_pool_cells(&p, d, o.at[d], &first[d], &last[d]);
        T sum = 0;
        for (int64_t z = first[0]; z <= last[0]; z++)
            for (int64_t r = first[1]; r <= last[1]; r++)
                for (int64_t q = first[2]; q <= last[2]; q++) {
                    int64_t cell[3] = {z, r, q};
                    fbi_span s[3];
                    bool inside = true;
                    for (int d = 0; d < 3; d++) {
                        s[d] = fbi_pool_span(&p, d, cell[d]);
                        inside = inside && o.at[d] >= s[d].begin && o.at[d] < s[d].end;
                    }
                    if (inside)
                        sum += image[((z * p.out[1] + r) * p.out[2] + q) * p.c] * scale_of<T>(p, s);
                }
        dx[i] = sum;
    }
}

enum fbi_pool_job { MAX, RANDOM_MAX, MAX_BWD, UNPOOL, PICK, MEAN, MEAN_BWD };

template <class T> static fb_status run_of(const fbi_call *c, fbi_pool_job job, const fbi_pool &p)
{
    fbi_temps temps(c);
    const T *x = (const T *)temps.channels(c->in[0]), *samples = NULL;
    const int32_t *index = NULL;
    if (x && job == RANDOM_MAX)
        samples = (const T *)temps.dense(c->in[1]);
    else if (x && c->n_in > 1)
        index = (const int32_t *)temps.channels(c->in[1]);
    T *out = (T *)fbi_cuda_data(c->out[0]);
    if (!x || (c->n_in > 1 && !index && !samples) || c->out[0]->numel == 0)
        return c->ctx->status;
    unsigned grid = fbi_blocks(c->ctx, c->out[0]->numel);
    switch (job) {
    case MAX:
    case RANDOM_MAX:
        FBI_LAUNCH(c, max_pool<T>, grid, FBI_BLOCK, p, x, samples, out,
                   (int32_t *)fbi_cuda_data(c->out[1]));
        break;
    case MAX_BWD:
    case UNPOOL:
        FBI_LAUNCH(c, scatter<T>, fbi_blocks(c->ctx, p.n * p.c), FBI_BLOCK, p, x, index,
                   job == MAX_BWD, (int)c->op->op, fbi_cuda_of(c->ctx)->bad, out);
        return job == UNPOOL ? fbi_cuda_checked(c) : FB_OK;
    case PICK:
        FBI_LAUNCH(c, pick<T>, grid, FBI_BLOCK, p, x, index, out);
        break;
    case MEAN:
        FBI_LAUNCH(c, mean_pool<T>, grid, FBI_BLOCK, p, x, out);
        break;
    case MEAN_BWD:
        FBI_LAUNCH(c, mean_pool_bwd<T>, grid, FBI_BLOCK, p, x, out);
        break;
    }
    return FB_OK;
}

static fb_status run(const fbi_call *c, fbi_pool_job job, const fbi_pool &p)
{
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64   ? run_of<double>(c, job, p)
           : dtype == FB_F32 ? run_of<float>(c, job, p)
                             : run_of<int64_t>(c, job, p);
}

FBI_CUDA_KERNEL(max_pool3d)
{
    return run(c, MAX, fbi_pool_max(&FBI_ATTRS(max_pool3d), c->in[0], c->out[0]));
}

FBI_CUDA_KERNEL(adaptive_max_pool3d)
{
    return run(c, MAX, fbi_pool_of(c->in[0], c->out[0], FBI_POOL_CELLS));
}

FBI_CUDA_KERNEL(fractional_max_pool3d)
{
    return run(c, RANDOM_MAX,
               fbi_pool_fraction(&FBI_ATTRS(fractional_max_pool3d), c->in[0], c->out[0]));
}

FBI_CUDA_KERNEL(max_pool3d_bwd)
{
    return run(c, FBI_ATTRS(max_pool3d_bwd).unpool ? UNPOOL : MAX_BWD,
               fbi_pool_of(c->out[0], c->in[0], FBI_POOL_CELLS));
}

FBI_CUDA_KERNEL(max_pool3d_pick)
{
    return run(c, PICK, fbi_pool_of(c->in[0], c->out[0], FBI_POOL_CELLS));
}

FBI_CUDA_KERNEL(avg_pool3d)
{
    return run(c, MEAN, fbi_pool_mean(&FBI_ATTRS(avg_pool3d), c->in[0], c->out[0]));
}

FBI_CUDA_KERNEL(avg_pool3d_bwd)
{
    return run(c, MEAN_BWD, fbi_pool_mean(&FBI_ATTRS(avg_pool3d), c->out[0], c->in[0]));
}

FBI_CUDA_KERNEL(adaptive_avg_pool3d)
{
    return run(c, MEAN, fbi_pool_of(c->in[0], c->out[0], FBI_POOL_CELLS));
}

FBI_CUDA_KERNEL(adaptive_avg_pool3d_bwd)
{
    return run(c, MEAN_BWD, fbi_pool_of(c->out[0], c->in[0], FBI_POOL_CELLS));
}
