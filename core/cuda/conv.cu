/* Convolutions of channels-last images as columns and matrix products: col[p, q] has a row p for
 * each place of the result and a column q for each (channel of the group, kernel row, column). */
#include "core/cuda/columns_priv.h"

enum { FBI_COLUMNS_BYTES = 256 << 20 }; /* images are taken together up to this */

struct fbi_conv {
    int64_t n, c, h, w, k, oh, ow, kh, kw, groups;
    int64_t stride[2], pad[2], dil[2];
    __host__ __device__ int64_t cg() const { return c / groups; }
    __host__ __device__ int64_t q() const { return cg() * kh * kw; }
    __host__ __device__ int64_t places() const { return oh * ow; }
};

template <class T>
__global__ void to_columns(fbi_conv p, const T *x, int64_t group, int64_t n, T *col)
{
    int64_t q = p.q();
    FBI_EACH(i, n * p.places() * q)
    {
        int64_t s = i % p.kw, r = i / p.kw % p.kh, c = i % q / (p.kw * p.kh), place = i / q;
        int64_t ox = place % p.ow, oy = place / p.ow % p.oh, image = place / p.ow / p.oh;
        int64_t y = oy * p.stride[0] - p.pad[0] + r * p.dil[0];
        int64_t xx = ox * p.stride[1] - p.pad[1] + s * p.dil[1];
        bool inside = y >= 0 && y < p.h && xx >= 0 && xx < p.w;
        col[i] = inside ? x[((image * p.h + y) * p.w + xx) * p.c + group * p.cg() + c] : (T)0;
    }
}

/* The sum of an element's columns, in the order of kernel rows and columns. */
template <class T>
__global__ void from_columns(fbi_conv p, const T *col, int64_t group, int64_t n, T *x)
{
    int64_t q = p.q(), cg = p.cg();
    FBI_EACH(i, n * p.h * p.w * cg)
    {
        int64_t c = i % cg, xx = i / cg % p.w, y = i / cg / p.w % p.h, image = i / cg / p.w / p.h;
        T sum = 0;
        for (int64_t r = 0; r < p.kh; r++)
            for (int64_t s = 0; s < p.kw; s++) {
                int64_t ty = y + p.pad[0] - r * p.dil[0], tx = xx + p.pad[1] - s * p.dil[1];
                int64_t oy = ty / p.stride[0], ox = tx / p.stride[1];
                if (ty < 0 || tx < 0 || ty % p.stride[0] || tx % p.stride[1] || oy >= p.oh ||
                    ox >= p.ow)
                    continue;
                sum += col[((image * p.oh + oy) * p.ow + ox) * q + (c * p.kh + r) * p.kw + s];
            }
        x[((image * p.h + y) * p.w + xx) * p.c + group * cg + c] = sum;
    }
}

template <class T> __global__ void add_bias(int64_t n, int64_t k, const T *bias, int64_t step, T *y)
{
    FBI_EACH(i, n)
    y[i] += bias[i % k * step];
}

/* A 1 x 1 kernel that moves nothing: the image is its own columns. */
static bool is_plain(const fbi_conv &p)
{
    return p.kh * p.kw == 1 && p.groups == 1 && p.stride[0] == 1 && p.stride[1] == 1 &&
           p.pad[0] == 0 && p.pad[1] == 0;
}

enum fbi_conv_kind { FORWARD, DATA, WEIGHT };

template <class T>
static fbi_cuda_mm product_of(const fbi_conv &p, fbi_conv_kind kind, int64_t places, T *col, T *w,
                              T *y)
{
    int64_t kg = p.k / p.groups, q = p.q();
    fbi_cuda_mm g = {};
    g.dtype = (fb_dtype)fbi_dtype_of<T>::value;
    g.batch = 1;
    switch (kind) {
    case FORWARD: /* y[places, kg] = col[places, q] w[kg, q]^T */
        g.m = places, g.n = kg, g.k = q;
        g.a = col, g.a_m = q, g.a_k = 1;
        g.b = w, g.b_k = 1, g.b_n = q;
        g.c = y, g.c_m = p.k;
        break;
    case DATA: /* col[places, q] = y[places, kg] w[kg, q] */
        g.m = places, g.n = q, g.k = kg;
        g.a = y, g.a_m = p.k, g.a_k = 1;
        g.b = w, g.b_k = q, g.b_n = 1;
        g.c = col, g.c_m = q;
        break;
    case WEIGHT: /* w[kg, q] = y[places, kg]^T col[places, q] */
        g.m = kg, g.n = q, g.k = places;
        g.a = y, g.a_m = 1, g.a_k = p.k;
        g.b = col, g.b_k = q, g.b_n = 1;
        g.c = w, g.c_m = q;
        break;
    }
    return g;
}

/* x: the image or its gradient, y: the result or its gradient; one of x, w, y is written. */
template <class T>
static fb_status convolve(const fbi_call *c, const fbi_conv &p, fbi_conv_kind kind, T *x, T *w,
                          T *y, float beta)
{
    int64_t one = p.places() * p.q(), image = p.h * p.w * p.c;
    int64_t most = FBI_COLUMNS_BYTES / (one * (int64_t)sizeof(T) + 1);
    int64_t step = most < 1 ? 1 : most < p.n ? most : p.n;
    bool plain = is_plain(p);
    fbi_temps temps(c);
    T *own = plain ? NULL : temps.array<T>(step * one);
    if (!plain && !own)
        return c->ctx->status;
    for (int64_t i = 0; i < p.n; i += step)
        for (int64_t g = 0; g < p.groups; g++) {
            int64_t n = p.n - i < step ? p.n - i : step;
            T *col = plain ? x + i * image : own, *images = x + i * image;
            fbi_cuda_mm mm =
                product_of<T>(p, kind, n * p.places(), col, w + g * (p.k / p.groups) * p.q(),
                              y + i * p.places() * p.k + g * (p.k / p.groups));
            mm.beta = kind != WEIGHT ? 0 : i > 0 ? 1 : beta;
            if (kind != DATA && !plain)
                FBI_LAUNCH(c, to_columns<T>, fbi_blocks(c->ctx, n * one), FBI_BLOCK, p,
                           (const T *)images, g, n, col);
            fb_status st = fbi_cuda_product(c, &mm);
            if (st)
                return st;
            if (kind == DATA && !plain)
                FBI_LAUNCH(c, from_columns<T>, fbi_blocks(c->ctx, n * p.h * p.w * p.cg()),
                           FBI_BLOCK, p, (const T *)col, g, n, images);
        }
    return FB_OK;
}

static fbi_conv sizes(const fb_tensor *x, const fb_tensor *w, const fb_tensor *y,
                      const fbi_attrs_conv2d &a)
{
    fbi_conv p = {};
    p.n = x->size[0], p.c = x->size[1], p.h = x->size[2], p.w = x->size[3];
    p.k = y->size[1], p.oh = y->size[2], p.ow = y->size[3];
    p.kh = w->size[2], p.kw = w->size[3];
    p.groups = a.groups;
    p.stride[0] = a.sh, p.stride[1] = a.sw;
    p.pad[0] = a.ph, p.pad[1] = a.pw;
    p.dil[0] = a.dh, p.dil[1] = a.dw;
    return p;
}

/* The attributes of all three rows begin with those of conv2d. */
#define FBI_CONV_ATTRS FBI_ATTRS(conv2d)

template <class T> static fb_status forward(const fbi_call *c)
{
    const fb_tensor *b = c->in[2], *y = c->out[0];
    fbi_temps temps(c);
    fbi_conv p = sizes(c->in[0], c->in[1], y, FBI_CONV_ATTRS);
    T *x = (T *)temps.channels(c->in[0]), *w = x ? (T *)temps.dense(c->in[1]) : NULL;
    T *out = (T *)fbi_cuda_data(y);
    if (!w || y->numel == 0)
        return c->ctx->status;
    fb_status st = convolve<T>(c, p, FORWARD, x, w, out, 0);
    if (!st && b)
        FBI_LAUNCH(c, add_bias<T>, fbi_blocks(c->ctx, y->numel), FBI_BLOCK, y->numel, p.k,
                   (const T *)fbi_cuda_data(b), b->stride[0], out);
    return st;
}

template <class T> static fb_status backward_data(const fbi_call *c)
{
    fbi_temps temps(c);
    fbi_conv p = sizes(c->out[0], c->in[1], c->in[0], FBI_CONV_ATTRS);
    T *g = (T *)temps.channels(c->in[0]), *w = g ? (T *)temps.dense(c->in[1]) : NULL;
    if (!w || c->out[0]->numel == 0)
        return c->ctx->status;
    return convolve<T>(c, p, DATA, (T *)fbi_cuda_data(c->out[0]), w, g, 0);
}

template <class T> static fb_status backward_weight(const fbi_call *c)
{
    fbi_temps temps(c);
    fb_tensor *w = c->out[0];
    fbi_conv p = sizes(c->in[1], w, c->in[0], FBI_CONV_ATTRS);
    T *g = (T *)temps.channels(c->in[0]), *x = g ? (T *)temps.channels(c->in[1]) : NULL;
    if (!x)
        return c->ctx->status;
    if (p.n == 0 && c->beta == 0 && w->numel)
        FBI_CUDA_TRY(c->ctx, cudaMemsetAsync(fbi_cuda_data(w), 0, (size_t)w->numel * sizeof(T),
                                             fbi_cuda_of(c->ctx)->stream));
    return convolve<T>(c, p, WEIGHT, x, (T *)fbi_cuda_data(w), g, c->beta);
}

FBI_CUDA_KERNEL(conv2d)
{
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64   ? forward<double>(c)
           : dtype == FB_F32 ? forward<float>(c)
                             : forward<int64_t>(c);
}

FBI_CUDA_KERNEL(conv2d_bwd_data)
{
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64   ? backward_data<double>(c)
           : dtype == FB_F32 ? backward_data<float>(c)
                             : backward_data<int64_t>(c);
}

FBI_CUDA_KERNEL(conv2d_bwd_weight)
{
    int dtype = c->in[0]->dtype;
    return dtype == FB_F64   ? backward_weight<double>(c)
           : dtype == FB_F32 ? backward_weight<float>(c)
                             : backward_weight<int64_t>(c);
}

template <class S> static fb_status backward_bias(const fbi_call *c)
{
    fbi_temps temps(c);
    const fb_tensor *g = c->in[0];
    const S *data = (const S *)temps.channels(g);
    int64_t k = g->size[1];
    return data ? fbi_cuda_column_sums<S>(c, data, g->size[0] * g->size[2] * g->size[3], k, k, 1)
                : c->ctx->status;
}

FBI_CUDA_KERNEL(conv2d_bwd_bias)
{
    return FBI_BY_STORAGE(c->in[0]->dtype, backward_bias, c);
}
