/* Kernel of cat: each input is copied into its part of the result. */
#include "core/cuda/kernel_priv.h"

FBI_CUDA_KERNEL(cat)
{
    int64_t dim = FBI_ATTRS(cat).dim;
    fb_tensor part = *c->out[0];
    dim = dim < 0 ? dim + part.ndim : dim;
    for (int i = 0; i < c->n_in; i++) {
        part.size[dim] = c->in[i]->size[dim];
        part.numel = c->in[i]->numel;
        fb_status st = fbi_cuda_copy_strided(c, &part, c->in[i]);
        if (st)
            return st;
        part.offset += part.size[dim] * part.stride[dim];
    }
    return FB_OK;
}
