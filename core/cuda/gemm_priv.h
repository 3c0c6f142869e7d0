/* Plans of matrix products: what cuBLASLt is asked, and the algorithm that does it. */
#ifndef FLAMBEAU_CORE_CUDA_GEMM_PRIV_H
#define FLAMBEAU_CORE_CUDA_GEMM_PRIV_H

#include "core/cuda/cuda_priv.h"

/* Everything that a plan depends on, and nothing else: compared as bytes. Column-major, as cuBLASLt
 * sees it. */
typedef struct fbi_lt_key {
    int64_t m, n, k, batch, lda, ldb, ldc, stride_a, stride_b, stride_c;
    int32_t type, compute, ta, tb, epilogue;
    uint32_t align_a, align_b, align_c, align_bias, align_aux;
} fbi_lt_key;

typedef struct fbi_lt_plan {
    fbi_lt_key key;
    bool refused; /* cuBLASLt has no algorithm for it */
    cublasLtMatmulDescOpaque_t op;
    cublasLtMatrixLayoutOpaque_t a, b, c;
    cublasLtMatmulAlgo_t algo;
} fbi_lt_plan;

/* The operands of one product. */
typedef struct fbi_lt_data {
    const void *a, *b;
    void *bias, *aux; /* what the epilogue reads, or writes */
    void *c;
    float beta;
} fbi_lt_data;

/* The plan of a key, made if it is new. */
fb_status fbi_lt_plan_of(const fbi_call *c, const fbi_lt_key *key, const fbi_lt_data *data,
                         fbi_lt_plan **out);
/* Aim the plan at its operands and start it with this algorithm. */
fb_status fbi_lt_start(fb_context *ctx, fbi_lt_plan *p, const fbi_lt_data *data,
                       const cublasLtMatmulAlgo_t *algo);

#endif
