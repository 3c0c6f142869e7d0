/* The CUDA backend's state of a context, its errors and its memory. Included by C and by kernels.
 */
#ifndef FLAMBEAU_CORE_CUDA_CUDA_PRIV_H
#define FLAMBEAU_CORE_CUDA_CUDA_PRIV_H

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "core/ops/op_priv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The build says which of two plug-ins this is: FBI_CUDA_NAME is "cuda" or "cudasim", and
 * FBI_CUDA_EXACT_MEMORY whether allocations are passed through (see fbi_backend). */
extern const fbi_backend fbi_cuda_backend;

/* Sizes that say that something else than an index was wrong: `value` are the bits of a parameter,
 * or `position` is a row of weights. */
enum { FBI_BAD_PARAMETER = -1, FBI_BAD_ROW = -2 };

/* A wrong index, noted by a kernel and read by the host when it next waits. */
typedef struct fbi_cuda_bad {
    int lock, set;
    int op; /* fbi_op */
    int64_t value, position;
    int64_t size, ignore; /* of targets: ignore_index */
} fbi_cuda_bad;

enum { FBI_CUDA_STAGES = 2, FBI_CUDA_STAGE_BYTES = 4 << 20 };

/* Pinned memory that host data passes through, one copy behind the other; when it is full another
 * one is filled, and it again when its event has passed. */
typedef struct fbi_cuda_stage {
    char *host;
    size_t used;
    cudaEvent_t free;
} fbi_cuda_stage;

typedef struct fbi_cuda_plans fbi_cuda_plans;
typedef struct fbi_cuda_dnn fbi_cuda_dnn;

typedef struct fbi_cuda {
    const fbi_core_api *core;
    int index, blocks; /* blocks: of a grid that fills the card */
    bool blocking;     /* FLAMBEAU_CUDA_BLOCKING=1: wait after every kernel that checks indices */
    bool blocking_all; /* =all: after every kernel */
    cudaStream_t queues[FBI_QUEUE_COUNT];
    cudaStream_t stream; /* of them the compute queue */
    cudaEvent_t *events; /* that nobody waits for */
    int n_events, cap_events;
    fbi_wait_id dropped; /* a wait that a test takes out; FBI_WAIT_COUNT: none */
    size_t pinned;       /* bytes */
    fbi_cuda_stage stages[FBI_CUDA_STAGES];
    int next_stage;
    cublasLtHandle_t lt;
    size_t workspace_bytes; /* the most that a product may ask for */
    fbi_cuda_plans *plans;
    fbi_cuda_dnn *dnn;          /* NULL: not asked for so far */
    fbi_cuda_bad *bad;          /* device memory */
    int64_t *halted;            /* pinned: no step of an optimizer is applied any more */
    struct fbi_cuda_nccl *nccl; /* NULL: not asked for so far */
    fbi_trace ranges;           /* for profilers */
    const fbi_opdef
        *unchecked; /* the last operator whose indices nobody has looked at; NULL: none */
} fbi_cuda;

static inline fbi_cuda *fbi_cuda_of(const fb_context *ctx)
{
    return (fbi_cuda *)ctx->device;
}

/* The thread's current card: a thread may have contexts on several. */
fb_status fbi_cuda_use(fb_context *ctx);

/* --- errors (error.c) --- */

/* Note an error with its name, text, call and place; @return the status that stands for it. */
fb_status fbi_cuda_failed(fb_context *ctx, cudaError_t e, const char *call, const char *file,
                          int line);
fb_status fbi_cuda_lt_failed(fb_context *ctx, cublasStatus_t e, const char *call, const char *file,
                             int line);
/* What to do about an error, or "". */
const char *fbi_cuda_advice(cudaError_t e);

#define FBI_CUDA_TRY(ctx, call)                                               \
    do {                                                                      \
        cudaError_t fbi_e_ = (call);                                          \
        if (fbi_e_ != cudaSuccess)                                            \
            return fbi_cuda_failed((ctx), fbi_e_, #call, __FILE__, __LINE__); \
    } while (0)
#define FBI_LT_TRY(ctx, call)                                                    \
    do {                                                                         \
        cublasStatus_t fbi_e_ = (call);                                          \
        if (fbi_e_ != CUBLAS_STATUS_SUCCESS)                                     \
            return fbi_cuda_lt_failed((ctx), fbi_e_, #call, __FILE__, __LINE__); \
    } while (0)

/* --- tensors --- */

static inline int64_t fbi_cuda_bytes(int dtype)
{
    static const uint8_t bytes[FB_DTYPE_COUNT] = {0, 4, 8, 2, 2, 4, 8, 1, 1, 1, 2, 2};
    return bytes[dtype];
}

/* First element. */
static inline void *fbi_cuda_data(const fb_tensor *t)
{
    return (char *)t->storage->data + t->offset * fbi_cuda_bytes(t->dtype);
}

static inline bool fbi_cuda_is_float(int dtype)
{
    return dtype >= FB_F32 && dtype <= FB_BF16;
}

const char *fbi_cuda_dtype_name(int dtype);
/* Row-major without gaps. */
bool fbi_cuda_contiguous(const fb_tensor *t);
/* Without gaps, in any order of dimensions. */
bool fbi_cuda_dense(const fb_tensor *t);

/* --- copies between host and device (copy_host.c) --- */

fb_status fbi_cuda_copy_in(fb_context *ctx, void *device, const void *host, size_t bytes);
fb_status fbi_cuda_copy_out(fb_context *ctx, void *host, const void *device, size_t bytes);
/* Wait for everything, and report what kernels found. */
fb_status fbi_cuda_sync(fb_context *ctx);
fb_status fbi_cuda_stages_open(fb_context *ctx, fbi_cuda *d);
void fbi_cuda_stages_close(fb_context *ctx);

/* --- queues, events, pinned memory (queue.c); see fbi_backend --- */

/* The only way to wait for an event, each place under its name (FBI_WAITS). */
fb_status fbi_cuda_wait_here(fb_context *ctx, fbi_wait_id at, cudaEvent_t event);
fb_status fbi_cuda_queues_open(fb_context *ctx, fbi_cuda *d);
void fbi_cuda_queues_close(fbi_cuda *d);
fb_status fbi_cuda_queue_sync(fb_context *ctx, fbi_queue queue);
fb_status fbi_cuda_queues_sync(fb_context *ctx);
void *fbi_cuda_event_record_on(fb_context *ctx, fbi_queue queue);
void fbi_cuda_event_drop(fb_context *ctx, void *event);
fb_status fbi_cuda_wait(fb_context *ctx, fbi_wait_id at, void *event);
void *fbi_cuda_host_alloc(fb_context *ctx, size_t bytes);
void fbi_cuda_host_free(fb_context *ctx, void *data);
fb_status fbi_cuda_copy_on(fb_context *ctx, fbi_queue queue, void *dst, const void *src,
                           size_t bytes);
/* From now on no step of an optimizer is applied. */
void fbi_cuda_halt(fb_context *ctx);
void fbi_cuda_memory(fb_context *ctx, fbi_device_memory *m);
void *fbi_cuda_stamp(fb_context *ctx);
double fbi_cuda_between(fb_context *ctx, void *a, void *b);

/* Ranges for profilers; false: nobody wants them (nvtx.c, or nvtx_none.c). */
bool fbi_cuda_trace(fbi_trace *trace);

/* --- for collectives: sums (combine.cu), batch statistics (statistics.cu); see fbi_backend --- */

bool fbi_cuda_event_done(fb_context *ctx, void *event);
fb_status fbi_cuda_combine(fb_context *ctx, int op, fb_dtype dtype, fb_dtype out_dtype,
                           const int16_t *program, int n, const void *const *operands, void *out,
                           int64_t count);
fb_status fbi_cuda_statistics(fb_context *ctx, const fbi_statistics *s);

/* --- between the cards of several ranks (nccl.c, nccl_none.c) --- */

extern const fbi_device_comm fbi_cuda_comm;
void fbi_cuda_comm_close(fbi_cuda *d);

/* --- matrix products (gemm.c) --- */

/* c[b][m, n] = a[b][m, k] b[b][k, n] (+ bias[n]) (+ c if beta): strides in elements. */
typedef struct fbi_cuda_mm {
    fb_dtype dtype; /* F32 F64 F16 BF16; I64 for fbi_cuda_product */
    bool wide;      /* F16 and BF16: the result is F32 */
    int64_t batch, m, n, k;
    int64_t a_b, a_m, a_k, b_b, b_k, b_n, c_b, c_m; /* c_n is 1 */
    const void *a, *b, *bias;
    void *c;
    float beta;
    cublasLtEpilogue_t epilogue; /* 0: none, or that of `bias` */
    void *aux;                   /* what it writes or reads beside c, in c's shape, dense */
} fbi_cuda_mm;

/* Whether cuBLASLt can read the operand: one of its strides is 1, and it is no broadcast. */
bool fbi_cuda_mm_operand(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride);
/* FB_E_UNSUPPORTED without an error on the context: cuBLASLt has not got this epilogue here, and
 * nothing was done. */
fb_status fbi_cuda_gemm(const fbi_call *c, const fbi_cuda_mm *g);
void fbi_cuda_plans_free(fbi_cuda *d);
/* See fbi_backend. */
fb_status fbi_cuda_tune(fb_context *ctx, void **choices, size_t *bytes);
fb_status fbi_cuda_choose(fb_context *ctx, const void *choices, size_t bytes);
/* The same for I64 too, no inner size, and the bias of F64 (linalg.cu). */
fb_status fbi_cuda_product(const fbi_call *c, const fbi_cuda_mm *g);

/* --- cuDNN (dnn.c; dnn_call_priv.h) --- */

void fbi_cuda_dnn_close(fbi_cuda *d);

/* linear_act and its backward by an epilogue, if cuBLASLt has it: see `first` in kernels.c. */
fb_status fbi_cuda_lt_linear_act(const fbi_call *c, bool *served);
fb_status fbi_cuda_lt_linear_dact(const fbi_call *c, bool *served);

/* --- kernels --- */

/* Elements of one shape, any dtypes and strides. */
fb_status fbi_cuda_copy_strided(const fbi_call *c, fb_tensor *dst, const fb_tensor *src);
/* The table (kernels.c). */
extern const fbi_kernel fbi_cuda_kernels[FBI_OP_COUNT];
/* A step of an optimizer (optim.cu); see core/ops/backend.h. */
fb_status fbi_cuda_measure(fb_context *ctx, const fbi_look *look);
fb_status fbi_cuda_ask(fb_context *ctx, const fbi_ask *ask);
fb_status fbi_cuda_judge(fb_context *ctx, const fbi_judgement *j);
fb_status fbi_cuda_sweep(fb_context *ctx, const fbi_sweep *s);
fb_status fbi_cuda_advance(fb_context *ctx, fbi_loss_scale *scale);
fb_status fbi_cuda_average(fb_context *ctx, const fbi_average *a);
fb_status fbi_cuda_add_to(fb_context *ctx, double *sum, fb_dtype dtype, const void *x,
                          double factor, bool count);

#ifdef __cplusplus
}
#endif
#endif
