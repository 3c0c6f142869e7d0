/* Strides and dtypes of the operands of an elementwise kernel, merged as far as all allow. */
#ifndef FLAMBEAU_CORE_CUDA_LOOP_PRIV_H
#define FLAMBEAU_CORE_CUDA_LOOP_PRIV_H

#include "core/cuda/cuda_priv.h"

enum { FBI_LOOP_ARGS = 4 }; /* the output and three inputs */

typedef struct fbi_loop {
    int64_t n;
    int ndim;  /* 1 and unit strides: flat */
    int width; /* elements in 16 bytes, or 0: not vectorised */
    uint8_t dtype[FBI_LOOP_ARGS];
    int64_t size[FB_MAX_DIMS]; /* innermost dimension is 0 */
    int64_t stride[FBI_LOOP_ARGS][FB_MAX_DIMS];
} fbi_loop;

#ifdef __cplusplus
extern "C" {
#endif
/* t[0] is the output; t[i] may be NULL. */
void fbi_cuda_loop(fbi_loop *p, const fb_tensor *const *t, int n_args);
#ifdef __cplusplus
}
#endif

#ifdef __cplusplus
/* Places of element i of the loop, in elements of each operand. */
static __device__ inline void fbi_places(const fbi_loop &p, int64_t i, int64_t *at, int n_args)
{
    if (p.ndim == 1) {
        for (int a = 0; a < n_args; a++)
            at[a] = i * p.stride[a][0];
        return;
    }
    for (int a = 0; a < n_args; a++)
        at[a] = 0;
    for (int d = 0; d < p.ndim; d++) {
        int64_t k = d + 1 < p.ndim ? i % p.size[d] : i;
        i /= p.size[d];
        for (int a = 0; a < n_args; a++)
            at[a] += k * p.stride[a][d];
    }
}
#endif
#endif
