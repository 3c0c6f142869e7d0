/* Kernels of im2col and fold. An element gathers its columns in the CPU's order. */
#include "core/cuda/kernel_priv.h"
#include "core/ops/window_priv.h"

template <class T>
__global__ void make_columns(fbi_attrs_im2col a, const T *x, T *out, int64_t n, int64_t oh,
                             int64_t ow)
{
    FBI_EACH(e, n)
    {
        int64_t q = e % ow, p = e / ow % oh, row = e / ow / oh;
        int64_t j = row % a.kw, i = row / a.kw % a.kh, plane = row / a.kw / a.kh;
        int64_t y = p * a.sh - a.ph + i * a.dh, z = q * a.sw - a.pw + j * a.dw;
        bool in = y >= 0 && y < a.h && z >= 0 && z < a.w;
        out[e] = in ? x[(plane * a.h + y) * a.w + z] : (T)0;
    }
}

/* The block whose element i of the kernel lies at `at`; -1: none. */
static __device__ inline int64_t block_at(int64_t at, int64_t i, int64_t stride, int64_t pad,
                                          int64_t dil, int64_t blocks)
{
    int64_t from = at + pad - i * dil;
    return from >= 0 && from % stride == 0 && from / stride < blocks ? from / stride : -1;
}

template <class T>
__global__ void make_images(fbi_attrs_fold a, const T *x, T *out, int64_t n, int64_t oh, int64_t ow)
{
    FBI_EACH(e, n)
    {
        int64_t z = e % a.w, y = e / a.w % a.h, plane = e / a.w / a.h;
        T sum = 0;
        for (int64_t i = 0; i < a.kh; i++) {
            int64_t p = block_at(y, i, a.sh, a.ph, a.dh, oh);
            for (int64_t j = 0; p >= 0 && j < a.kw; j++) {
                int64_t q = block_at(z, j, a.sw, a.pw, a.dw, ow);
                if (q >= 0)
                    sum += x[(((plane * a.kh + i) * a.kw + j) * oh + p) * ow + q];
            }
        }
        out[e] = sum;
    }
}

template <class T> static fb_status run_im2col(const fbi_call *c)
{
    fbi_temps temps(c);
    const fbi_attrs_im2col &a = FBI_ATTRS(im2col);
    const fb_tensor *o = c->out[0];
    const T *x = (const T *)temps.dense(c->in[0]);
    if (!x)
        return c->ctx->status;
    FBI_LAUNCH(c, make_columns<T>, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, a, x,
               (T *)fbi_cuda_data(o), o->numel, fbi_conv_size(a.h, a.kh, a.sh, a.ph, a.dh),
               fbi_conv_size(a.w, a.kw, a.sw, a.pw, a.dw));
    return FB_OK;
}

template <class T> static fb_status run_fold(const fbi_call *c)
{
    fbi_temps temps(c);
    const fbi_attrs_fold &a = FBI_ATTRS(fold);
    const fb_tensor *o = c->out[0];
    const T *x = (const T *)temps.dense(c->in[0]);
    if (!x)
        return c->ctx->status;
    FBI_LAUNCH(c, make_images<T>, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, a, x,
               (T *)fbi_cuda_data(o), o->numel, fbi_conv_size(a.h, a.kh, a.sh, a.ph, a.dh),
               fbi_conv_size(a.w, a.kw, a.sw, a.pw, a.dw));
    return FB_OK;
}

FBI_CUDA_KERNEL(im2col)
{
    if (c->out[0]->numel == 0)
        return FB_OK;
    return c->out[0]->dtype == FB_F64 ? run_im2col<double>(c) : run_im2col<float>(c);
}

FBI_CUDA_KERNEL(fold)
{
    if (c->out[0]->numel == 0)
        return FB_OK;
    return c->out[0]->dtype == FB_F64 ? run_fold<double>(c) : run_fold<float>(c);
}
