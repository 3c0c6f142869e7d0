/* The only seam between the engine and a device: kernels here, memory in core/tensor/device_priv.h.
 * A backend includes this file, never a higher room; nobody above includes a backend's header. */
#ifndef FLAMBEAU_CORE_OPS_BACKEND_H
#define FLAMBEAU_CORE_OPS_BACKEND_H

#include "core/tensor/device_priv.h"

typedef struct fbi_opdef fbi_opdef;

/* One call of a kernel: shapes are inferred, outputs allocated. */
typedef struct fbi_call {
    fb_context *ctx;
    const fbi_opdef *op;
    const void *attrs;
    fb_tensor **in, **out; /* in[i] may be NULL where the row says optional */
    uint16_t n_in;
    uint8_t n_out;
    bool inplace; /* out[0] is in[0] */
    int threads;  /* kernels never ask OpenMP how many there are */
    float beta;   /* 0: out = result; 1: out += result (rows with flag BETA only) */
} fbi_call;

/* Neighbouring parameters with equal numbers, updated in one pass, element by element. */
enum { FBI_MAX_STATES = 3 };
typedef enum fbi_update_kind {
    FBI_UPDATE_SGD,
    FBI_UPDATE_ADAM,
    FBI_UPDATE_AVERAGE
} fbi_update_kind;
struct fbi_update {
    fbi_update_kind kind;
    fb_dtype dtype; /* F32 or F64 */
    int threads;
    int64_t n;
    void *p;                 /* parameters, or the averages */
    const void *g;           /* gradients, or what is averaged */
    void *s[FBI_MAX_STATES]; /* SGD: momentum or NULL; ADAM: m, v, and the largest v or NULL */
    double scale;            /* of the gradients */
    double weight_decay;     /* added to the gradient */
    double lr, momentum, dampening;  /* SGD */
    bool nesterov, first;            /* SGD; first: there is no momentum yet */
    double shrink, step_size;        /* ADAM; parameters are multiplied by shrink first */
    double beta1, beta2, root2, eps; /* ADAM; root2: sqrt(1 - beta2^step) */
    double decay;                    /* AVERAGE: p = decay p + (1 - decay) g */
};

/* n elements in a row. */
struct fbi_flat_view {
    fb_dtype dtype; /* float */
    const void *data;
    int64_t n;
};

/* Ways to join two elements, and the code of a program that joins the two newest operands; k >= 0
 * takes operand k. */
enum { FBI_COMBINE_SUM = 1, FBI_COMBINE_PROD, FBI_COMBINE_MIN, FBI_COMBINE_MAX };
enum { FBI_COMBINE_JOIN = -1 };

/* Statistics of one batch-norm layer of n channels, in double. Either row += share * (mean, var),
 * or (total not NULL) what all leaves gave goes into the running buffers: running = (1 - momentum)
 * running + momentum row / total, and one more batch is counted; nothing happens if *total is 0. */
struct fbi_statistics {
    int64_t n;
    double *row; /* [2 n]: means, then variances */
    double share, momentum;
    const double *total;
    float *mean, *var;
    int64_t *count; /* may be NULL */
};

/* What a plug-in may call of the core; it links nothing of ours. */
typedef struct fbi_core_api {
    int abi;
    fb_status (*fail)(fb_context *ctx, fb_status status, const char *fmt, ...);
    fbi_storage *(*storage_new)(fb_context *ctx, size_t bytes);
    void (*storage_unref)(fb_context *ctx, fbi_storage *s);
    fb_tensor *(*tensor_new)(fb_context *ctx);
    void (*tensor_unref)(fb_tensor *t);
    fbi_rng_stream (*next_stream)(fb_context *ctx);
} fbi_core_api;

/* The CPU backend, always linked in (core/cpu/backend.c). */
extern const fbi_backend fbi_backend_cpu;
/* The best kernels of this machine: "v2", "v3" or "v4" of x86-64, "v0" elsewhere. */
const char *fbi_cpu_isa(void);
/* The kernels that a context uses, in the same names; "" if it is not on the CPU. */
const char *fbi_cpu_kernels_of(const fb_context *ctx);
/* Version of the oneDNN that is loaded, e.g. "2.6.0"; "none" without it. */
void fbi_dnn_version(char *out, size_t size);

#endif
