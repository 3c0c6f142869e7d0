/* Pooling of channels-last images: a thread an element of the result. */
#include "core/cuda/kernel_priv.h"

struct fbi_pool {
    int64_t n, c, h, w, oh, ow; /* of the larger and of the smaller image */
    int64_t k[2], stride[2], pad[2], dil[2];
    bool adaptive;
};

/* [begin, end) of a mean along one dimension, and how many elements it counts (with padding). */
struct fbi_span {
    int64_t begin, end, count;
};

static __device__ inline fbi_span span_of(const fbi_pool &p, int d, int64_t o)
{
    int64_t size = d ? p.w : p.h, cells = d ? p.ow : p.oh;
    if (p.adaptive) {
        fbi_span s = {o * size / cells, ((o + 1) * size + cells - 1) / cells, 0};
        s.count = s.end - s.begin;
        return s;
    }
    int64_t at = o * p.stride[d] - p.pad[d], end = at + p.k[d];
    fbi_span s = {at > 0 ? at : 0, end < size ? end : size, 0};
    s.count = (end < size + p.pad[d] ? end : size + p.pad[d]) - at;
    return s;
}

/* The cells [first, last] that may hold element `at`. */
static __device__ inline void cells_of(const fbi_pool &p, int d, int64_t at, int64_t *first,
                                       int64_t *last)
{
    int64_t size = d ? p.w : p.h, cells = d ? p.ow : p.oh;
    if (p.adaptive) {
        *first = at * cells / size;
        *last = ((at + 1) * cells + size - 1) / size - 1;
    } else {
        int64_t from = at + p.pad[d] - p.k[d] + 1;
        *first = from > 0 ? (from + p.stride[d] - 1) / p.stride[d] : 0;
        *last = (at + p.pad[d]) / p.stride[d];
    }
    *last = *last < cells - 1 ? *last : cells - 1;
}

template <class T> __global__ void max_pool(fbi_pool p, const T *x, T *y, int32_t *index)
{
    FBI_EACH(i, p.n * p.oh * p.ow * p.c)
    {
        int64_t c = i % p.c, ox = i / p.c % p.ow, oy = i / p.c / p.ow % p.oh;
        const T *image = x + i / p.c / p.ow / p.oh * p.h * p.w * p.c + c;
        bool first = true;
        T best = 0;
        int64_t at = 0;
        for (int64_t r = 0; r < p.k[0]; r++)
            for (int64_t s = 0; s < p.k[1]; s++) {
                int64_t iy = oy * p.stride[0] - p.pad[0] + r * p.dil[0];
                int64_t ix = ox * p.stride[1] - p.pad[1] + s * p.dil[1];
                if (iy < 0 || iy >= p.h || ix < 0 || ix >= p.w)
                    continue;
                T v = image[(iy * p.w + ix) * p.c];
                if (first || v > best || v != v) {
                    best = v;
                    at = iy * p.w + ix;
                    first = false;
                }
            }
        y[i] = best;
        index[i] = (int32_t)at;
    }
}

/* dx[index] += g: a thread a channel of an image, so that the order of the sums is fixed. */
template <class T> __global__ void max_pool_bwd(fbi_pool p, const T *g, const int32_t *index, T *dx)
{
    FBI_EACH(k, p.n * p.c)
    {
        int64_t n = k / p.c, c = k % p.c;
        T *image = dx + n * p.h * p.w * p.c + c;
        for (int64_t i = 0; i < p.h * p.w; i++)
            image[i * p.c] = 0;
        for (int64_t i = 0; i < p.oh * p.ow; i++) {
            int64_t at = (n * p.oh * p.ow + i) * p.c + c;
            image[index[at] * p.c] += g[at];
        }
    }
}

template <class T> __global__ void pick(fbi_pool p, const T *u, const int32_t *index, T *y)
{
    FBI_EACH(i, p.n * p.oh * p.ow * p.c)
    y[i] = u[(i / p.c / p.ow / p.oh * p.h * p.w + index[i]) * p.c + i % p.c];
}

template <class T> __global__ void mean_pool(fbi_pool p, const T *x, T *y)
{
    FBI_EACH(i, p.n * p.oh * p.ow * p.c)
    {
        int64_t c = i % p.c, ox = i / p.c % p.ow, oy = i / p.c / p.ow % p.oh;
        const T *image = x + i / p.c / p.ow / p.oh * p.h * p.w * p.c + c;
        fbi_span v = span_of(p, 0, oy), h = span_of(p, 1, ox);
        T sum = 0;
        for (int64_t iy = v.begin; iy < v.end; iy++)
            for (int64_t ix = h.begin; ix < h.end; ix++)
                sum += image[(iy * p.w + ix) * p.c];
        y[i] = sum * ((T)1 / (T)(v.count * h.count));
    }
}

template <class T> __global__ void mean_pool_bwd(fbi_pool p, const T *g, T *dx)
{
    FBI_EACH(i, p.n * p.h * p.w * p.c)
    {
        int64_t c = i % p.c, x = i / p.c % p.w, y = i / p.c / p.w % p.h, n = i / p.c / p.w / p.h;
        int64_t y0, y1, x0, x1;
        cells_of(p, 0, y, &y0, &y1);
        cells_of(p, 1, x, &x0, &x1);
        T sum = 0;
        for (int64_t oy = y0; oy <= y1; oy++)
            for (int64_t ox = x0; ox <= x1; ox++) {
                fbi_span v = span_of(p, 0, oy), h = span_of(p, 1, ox);
                if (y >= v.begin && y < v.end && x >= h.begin && x < h.end)
                    sum += g[((n * p.oh + oy) * p.ow + ox) * p.c + c] *
                           ((T)1 / (T)(v.count * h.count));
            }
        dx[i] = sum;
    }
}

enum fbi_pool_kind { MAX, MAX_BWD, PICK, MEAN, MEAN_BWD };

template <class T> static fb_status run_of(const fbi_call *c, fbi_pool_kind kind, const fbi_pool &p)
{
    fbi_temps temps(c);
    const T *x = (const T *)temps.channels(c->in[0]);
    const int32_t *index = NULL;
    if (x && c->n_in > 1)
        index = (const int32_t *)temps.channels(c->in[1]);
    T *out = (T *)fbi_cuda_data(c->out[0]);
    if (!x || (c->n_in > 1 && !index) || c->out[0]->numel == 0)
        return c->ctx->status;
    unsigned grid = fbi_blocks(c->ctx, c->out[0]->numel);
    switch (kind) {
    case MAX:
        FBI_LAUNCH(c, max_pool<T>, grid, FBI_BLOCK, p, x, out, (int32_t *)fbi_cuda_data(c->out[1]));
        break;
    case MAX_BWD:
        FBI_LAUNCH(c, max_pool_bwd<T>, fbi_blocks(c->ctx, p.n * p.c), FBI_BLOCK, p, x, index, out);
        break;
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

static fb_status run(const fbi_call *c, fbi_pool_kind kind, const fbi_pool &p)
{
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64   ? run_of<double>(c, kind, p)
           : dtype == FB_F32 ? run_of<float>(c, kind, p)
                             : run_of<int64_t>(c, kind, p);
}

static fbi_pool sizes(const fb_tensor *big, const fb_tensor *small)
{
    fbi_pool p = {};
    p.n = big->size[0], p.c = big->size[1], p.h = big->size[2], p.w = big->size[3];
    p.oh = small->size[2], p.ow = small->size[3];
    return p;
}

FBI_CUDA_KERNEL(max_pool2d)
{
    const fbi_attrs_max_pool2d &a = FBI_ATTRS(max_pool2d);
    fbi_pool p = sizes(c->in[0], c->out[0]);
    p.k[0] = a.kh, p.k[1] = a.kw;
    p.stride[0] = a.sh, p.stride[1] = a.sw;
    p.pad[0] = a.ph, p.pad[1] = a.pw;
    p.dil[0] = a.dh, p.dil[1] = a.dw;
    return run(c, MAX, p);
}

FBI_CUDA_KERNEL(max_pool2d_bwd)
{
    return run(c, MAX_BWD, sizes(c->out[0], c->in[0]));
}

FBI_CUDA_KERNEL(max_pool2d_pick)
{
    return run(c, PICK, sizes(c->in[0], c->out[0]));
}

/* Both rows of windows have the same attributes. */
static void set_windows(fbi_pool *p, const fbi_attrs_avg_pool2d &a)
{
    p->k[0] = a.kh, p->k[1] = a.kw;
    p->stride[0] = a.sh, p->stride[1] = a.sw;
    p->pad[0] = a.ph, p->pad[1] = a.pw;
}

FBI_CUDA_KERNEL(avg_pool2d)
{
    fbi_pool p = sizes(c->in[0], c->out[0]);
    set_windows(&p, FBI_ATTRS(avg_pool2d));
    return run(c, MEAN, p);
}

FBI_CUDA_KERNEL(avg_pool2d_bwd)
{
    fbi_pool p = sizes(c->out[0], c->in[0]);
    set_windows(&p, FBI_ATTRS(avg_pool2d));
    return run(c, MEAN_BWD, p);
}

FBI_CUDA_KERNEL(adaptive_avg_pool2d)
{
    fbi_pool p = sizes(c->in[0], c->out[0]);
    p.adaptive = true;
    return run(c, MEAN, p);
}

FBI_CUDA_KERNEL(adaptive_avg_pool2d_bwd)
{
    fbi_pool p = sizes(c->out[0], c->in[0]);
    p.adaptive = true;
    return run(c, MEAN_BWD, p);
}
