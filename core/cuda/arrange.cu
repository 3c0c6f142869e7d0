/* Kernels of flip, tril, triu, extend and its backward. Sums are in the CPU's order. */
#include "core/cuda/kernel_priv.h"
#include "core/ops/extend_priv.h"

FBI_CUDA_KERNEL(flip)
{
    fb_shape dims = FBI_ATTRS(flip).dims;
    fb_tensor backwards = *c->in[0];
    for (int i = 0; i < dims.n && backwards.numel; i++) {
        int64_t d = dims.d[i];
        backwards.offset += (backwards.size[d] - 1) * backwards.stride[d];
        backwards.stride[d] = -backwards.stride[d];
    }
    return fbi_cuda_copy_strided(c, c->out[0], &backwards);
}

template <class T>
__global__ void keep_triangle(const T *x, T *out, int64_t n, int64_t rows, int64_t cols,
                              int64_t diagonal, bool upper)
{
    FBI_EACH(i, n)
    {
        int64_t above = i % cols - i / cols % rows;
        out[i] = (upper ? above >= diagonal : above <= diagonal) ? x[i] : (T)0;
    }
}

template <class T>
static fb_status run_triangle(const fbi_call *c, const void *x, int64_t diagonal, bool upper)
{
    const fb_tensor *o = c->out[0];
    FBI_LAUNCH(c, keep_triangle<T>, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, (const T *)x,
               (T *)fbi_cuda_data(o), o->numel, o->size[o->ndim - 2], o->size[o->ndim - 1],
               diagonal, upper);
    return FB_OK;
}

static fb_status triangle(const fbi_call *c, int64_t diagonal, bool upper)
{
    fbi_temps temps(c);
    if (c->out[0]->numel == 0)
        return FB_OK;
    const void *x = temps.dense(c->in[0]);
    int64_t bytes = fbi_cuda_bytes(c->out[0]->dtype);
    if (!x)
        return c->ctx->status;
    return bytes == 1   ? run_triangle<uint8_t>(c, x, diagonal, upper)
           : bytes == 2 ? run_triangle<uint16_t>(c, x, diagonal, upper)
           : bytes == 4 ? run_triangle<uint32_t>(c, x, diagonal, upper)
                        : run_triangle<uint64_t>(c, x, diagonal, upper);
}

FBI_CUDA_KERNEL(tril)
{
    return triangle(c, FBI_ATTRS(tril).diagonal, false);
}

FBI_CUDA_KERNEL(triu)
{
    return triangle(c, FBI_ATTRS(triu).diagonal, true);
}

/* --- extend --- */

template <class T>
__global__ void extend_all(fbi_attrs_extend a, const T *x, T *out, int dtype, int64_t n)
{
    FBI_EACH(o, n)
    {
        int64_t rest = o, at = 0, step = 1;
        for (int d = a.size.n - 1; d >= 0 && at >= 0; d--) {
            int64_t i = rest % a.size.d[d] - a.before.d[d];
            i = a.from.d[d] ? fbi_extend_source(a.mode, i, a.from.d[d]) : -1;
            at = i < 0 ? -1 : at + i * step;
            step *= a.from.d[d];
            rest /= a.size.d[d];
        }
        if (at >= 0)
            out[o] = x[at];
        else
            fbi_store_double(out, dtype, o, a.value);
    }
}

template <class T> static fb_status run_extend(const fbi_call *c, const void *x)
{
    const fb_tensor *o = c->out[0];
    FBI_LAUNCH(c, extend_all<T>, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, FBI_ATTRS(extend),
               (const T *)x, (T *)fbi_cuda_data(o), (int)o->dtype, o->numel);
    return FB_OK;
}

FBI_CUDA_KERNEL(extend)
{
    fbi_temps temps(c);
    if (c->out[0]->numel == 0)
        return FB_OK;
    const void *x = temps.dense(c->in[0]);
    int64_t bytes = fbi_cuda_bytes(c->out[0]->dtype);
    if (!x)
        return c->ctx->status;
    return bytes == 1   ? run_extend<uint8_t>(c, x)
           : bytes == 2 ? run_extend<uint16_t>(c, x)
           : bytes == 4 ? run_extend<uint32_t>(c, x)
                        : run_extend<uint64_t>(c, x);
}

static __device__ inline int64_t target(const fbi_attrs_extend_bwd &a, int d, int64_t i, int64_t k)
{
    return fbi_extend_target(a.mode, i, k, a.before.d[d], a.from.d[d], a.size.d[d]);
}

/* Each element of the input walks over those that come from it, the last dimension fastest. */
template <class T>
__global__ void extend_back(fbi_attrs_extend_bwd a, const T *g, T *out, int64_t n)
{
    FBI_EACH(e, n)
    {
        int64_t i[FB_MAX_DIMS], k[FB_MAX_DIMS], at[FB_MAX_DIMS], rest = e;
        bool more = true;
        for (int d = a.from.n - 1; d >= 0; d--) {
            i[d] = rest % a.from.d[d];
            rest /= a.from.d[d];
            k[d] = 0;
            at[d] = target(a, d, i[d], 0);
            more = more && at[d] >= 0;
        }
        T sum = 0;
        while (more) {
            int64_t place = 0;
            for (int d = 0; d < a.from.n; d++)
                place = place * a.size.d[d] + at[d];
            sum += g[place];
            more = false;
            for (int d = a.from.n - 1; d >= 0 && !more; d--) {
                at[d] = target(a, d, i[d], ++k[d]);
                more = at[d] >= 0;
                if (more)
                    break;
                k[d] = 0;
                at[d] = target(a, d, i[d], 0);
            }
        }
        out[e] = sum;
    }
}

template <class T> static fb_status run_back(const fbi_call *c)
{
    fbi_temps temps(c);
    const fb_tensor *o = c->out[0];
    const T *g = (const T *)temps.dense(c->in[0]);
    if (!g)
        return c->ctx->status;
    FBI_LAUNCH(c, extend_back<T>, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, FBI_ATTRS(extend_bwd), g,
               (T *)fbi_cuda_data(o), o->numel);
    return FB_OK;
}

FBI_CUDA_KERNEL(extend_bwd)
{
    if (c->out[0]->numel == 0)
        return FB_OK;
    return c->out[0]->dtype == FB_F64 ? run_back<double>(c) : run_back<float>(c);
}
