/* Kernels that fill: constants, sequences, random numbers. Random words are those of the CPU; the
 * functions of normal numbers are CUDA's, within an ulp of the C library's. */
#include "core/cuda/kernel_priv.h"
#include "core/cuda/loop_priv.h"

static fb_status contiguous_target(const fbi_call *c)
{
    return c->out[0]->numel == 0 || fbi_cuda_contiguous(c->out[0])
               ? FB_OK
               : fbi_cuda_of(c->ctx)->core->fail(c->ctx, FB_E_ARG,
                                                 "%s: the target must be contiguous", c->op->name);
}

__global__ void fill_value(fbi_loop p, void *out, double value)
{
    FBI_EACH(i, p.n)
    {
        int64_t at[1];
        fbi_places(p, i, at, 1);
        fbi_store_double(out, p.dtype[0], at[0], value);
    }
}

FBI_CUDA_KERNEL(fill)
{
    const fb_tensor *o = c->out[0];
    double value = FBI_ATTRS(fill).value;
    fbi_loop p;
    fbi_cuda_loop(&p, &o, 1);
    if (p.n == 0)
        return FB_OK;
    if (value == 0 && !signbit(value) && fbi_cuda_dense(o))
        FBI_CUDA_TRY(c->ctx, cudaMemsetAsync(fbi_cuda_data(o), 0,
                                             (size_t)(o->numel * fbi_cuda_bytes(o->dtype)),
                                             fbi_cuda_of(c->ctx)->stream));
    else
        FBI_LAUNCH(c, fill_value, fbi_blocks(c->ctx, p.n), FBI_BLOCK, p, fbi_cuda_data(o), value);
    return FB_OK;
}

__global__ void fill_sequence(void *out, int dtype, int64_t n, fbi_attrs_sequence a)
{
    FBI_EACH(i, n)
    {
        int64_t left = a.n - 1 - i; /* from the end, if there is one that must be met */
        fbi_store_double(out, dtype, i,
                         left < i && a.n > 0 ? a.last - (double)left * a.step
                                             : a.start + (double)i * a.step);
    }
}

FBI_CUDA_KERNEL(sequence)
{
    const fbi_attrs_sequence &a = FBI_ATTRS(sequence);
    fb_tensor *o = c->out[0];
    fb_status st = contiguous_target(c);
    if (st || o->numel == 0)
        return st;
    FBI_LAUNCH(c, fill_sequence, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, fbi_cuda_data(o),
               (int)o->dtype, o->numel, a);
    return FB_OK;
}

static __device__ inline uint64_t word_of(uint64_t key, uint64_t stream, uint64_t i)
{
    uint32_t w[4];
    fbi_philox(key, stream, i / 2, w);
    return i % 2 ? (uint64_t)w[3] << 32 | w[2] : (uint64_t)w[1] << 32 | w[0];
}

/* hi > lo: integers in [lo, hi); else [0, 1) with 53 bits for F64, 24 for others. */
__global__ void fill_uniform(void *out, int dtype, int64_t n, uint64_t key, uint64_t stream,
                             int64_t lo, int64_t hi)
{
    if (hi > lo || dtype == FB_F64) {
        FBI_EACH(i, n)
        {
            uint64_t w = word_of(key, stream, (uint64_t)i);
            if (hi > lo) {
                int64_t v = (int64_t)((uint64_t)lo + __umul64hi(w, (uint64_t)hi - (uint64_t)lo));
                if (dtype == FB_F64)
                    ((double *)out)[i] = (double)v;
                else if (dtype >= FB_F32 && dtype <= FB_BF16)
                    fbi_store<float>(out, dtype, i, (float)v);
                else
                    fbi_store_int(out, dtype, i, v);
            } else {
                ((double *)out)[i] = fbi_u64_to_f64(w);
            }
        }
        return;
    }
    FBI_EACH(block, (n + 3) / 4)
    {
        uint32_t w[4];
        fbi_philox(key, stream, (uint64_t)block, w);
        for (int k = 0; k < 4 && block * 4 + k < n; k++)
            fbi_store<float>(out, dtype, block * 4 + k, fbi_u32_to_f32(w[k]));
    }
}

FBI_CUDA_KERNEL(randu)
{
    const fbi_attrs_randu &a = FBI_ATTRS(randu);
    fb_tensor *o = c->out[0];
    fb_status st = contiguous_target(c);
    if (st || o->numel == 0)
        return st;
    FBI_LAUNCH(c, fill_uniform, fbi_blocks(c->ctx, o->numel), FBI_BLOCK, fbi_cuda_data(o),
               (int)o->dtype, o->numel, a.key, a.stream, a.lo, a.hi);
    return FB_OK;
}

/* Box-Muller in double; see core/base/rng.c. */
__global__ void fill_normal(void *out, int dtype, int64_t n, uint64_t key, uint64_t stream)
{
    FBI_EACH(block, (n + 3) / 4)
    {
        uint32_t w[4];
        fbi_philox(key, stream, (uint64_t)block, w);
        for (int k = 0; k < 4; k += 2) {
            double u = ((double)w[k] + 0.5) * 0x1p-32;
            double angle = 6.283185307179586477 * ((double)w[k + 1] * 0x1p-32);
            double r = sqrt(-2.0 * log(u));
            if (block * 4 + k < n)
                fbi_store<double>(out, dtype, block * 4 + k, r * cos(angle));
            if (block * 4 + k + 1 < n)
                fbi_store<double>(out, dtype, block * 4 + k + 1, r * sin(angle));
        }
    }
}

FBI_CUDA_KERNEL(gauss)
{
    const fbi_attrs_gauss &a = FBI_ATTRS(gauss);
    fb_tensor *o = c->out[0];
    fb_status st = contiguous_target(c);
    if (st || o->numel == 0)
        return st;
    FBI_LAUNCH(c, fill_normal, fbi_blocks(c->ctx, (o->numel + 3) / 4), FBI_BLOCK, fbi_cuda_data(o),
               (int)o->dtype, o->numel, a.key, a.stream);
    return FB_OK;
}
