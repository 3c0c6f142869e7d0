/* Plans of matrix products: what cuBLASLt is asked, and the algorithm that does it. */
#ifndef FLAMBEAU_CORE_CUDA_GEMM_PRIV_H
#define FLAMBEAU_CORE_CUDA_GEMM_PRIV_H

#include "core/cuda/cuda_priv.h"

/* Everything that a plan depends on, and nothing else: compared as bytes. Column-major, as cuBLASLt
 * sees it. */
typedef struct fbi_lt_key {
    int64_t m, n, k, batch, lda, ldb, ldc, stride_a, stride_b, stride_c;
    int32_t type, type_c, compute, ta, tb, epilogue; /* type: of a and b */
    uint32_t align_a, align_b, align_c, align_bias, align_aux, zero;
} fbi_lt_key;

typedef struct fbi_lt_plan {
    fbi_lt_key key;
    bool refused; /* cuBLASLt has no algorithm for it */
    bool timed;   /* the algorithm is the fastest of several */
    cublasLtMatmulDescOpaque_t op;
    cublasLtMatrixLayoutOpaque_t a, b, c;
    cublasLtMatmulAlgo_t algo;
    size_t workspace; /* bytes that it needs */
} fbi_lt_plan;

/* A plan's algorithm, for other ranks. */
typedef struct fbi_lt_choice {
    fbi_lt_key key;
    cublasLtMatmulAlgo_t algo;
} fbi_lt_choice;

/* Open addressing, at most half full; emptied when there are FBI_LT_MOST plans. */
enum { FBI_LT_SLOTS = 8192, FBI_LT_MOST = 4096 };

struct fbi_cuda_plans {
    int n, n_choices;
    fbi_lt_plan *slots[FBI_LT_SLOTS];
    fbi_lt_choice *choices; /* that rank 0 made: new plans look here first */
};

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
/* Aim the plan at its operands and start it. */
fb_status fbi_lt_start(fb_context *ctx, fbi_lt_plan *p, const fbi_lt_data *data);
/* At most `want` algorithms, the best guess first; *n is 0 where there is none. */
fb_status fbi_lt_candidates(fb_context *ctx, fbi_lt_plan *p, int want,
                            cublasLtMatmulHeuristicResult_t *found, int *n);
/* The plans of a context, made if there are none. NULL: the error is set. */
fbi_cuda_plans *fbi_lt_plans_of(fb_context *ctx);

/* --- gemm_tune.c --- */

/* Keep the fastest algorithm for a new plan, if the context times at once. */
fb_status fbi_lt_time(fb_context *ctx, fbi_lt_plan *p);
/* Use what rank 0 has chosen for the plan, if it has. */
fb_status fbi_lt_adopt(fb_context *ctx, fbi_lt_plan *p);

#endif
