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

/* How an optimizer updates flat memory, element by element (core/ops/update_priv.h). */
enum { FBI_MAX_STATES = 3 };
typedef enum fbi_update_kind {
    FBI_UPDATE_SGD,
    FBI_UPDATE_ADAM,
    FBI_UPDATE_RMSPROP,
    FBI_UPDATE_ADAGRAD,
    FBI_UPDATE_ADADELTA,
    FBI_UPDATE_ADAMAX,
    FBI_UPDATE_NADAM,
    FBI_UPDATE_RADAM,
    FBI_UPDATE_RPROP,
    FBI_UPDATE_LION,
    FBI_UPDATE_KINDS
} fbi_update_kind;

/* The numbers of a method that are the same for all parameters. */
typedef struct fbi_method_numbers {
    fbi_update_kind kind;
    double lr, momentum, dampening;
    double beta1, beta2, eps; /* RMSprop, Adadelta: beta2 is alpha, rho; Rprop: the two etas */
    double decay;             /* Adagrad: of the rate; NAdam: of the momentum */
    double low, high;         /* Rprop: of step sizes; Adagrad: low is the first sum */
    double limit;             /* elements of gradients are clamped to +-limit; 0: they are not */
    bool nesterov, decoupled, centered, maximize;
} fbi_method_numbers;

/* What the update of one parameter needs in this step. */
typedef struct fbi_factors {
    double scale; /* of the gradient */
    double lr, shrink, weight_decay;
    double step_size, per_root2, next_size; /* of the method: fbi_factors_of */
    int64_t first;
} fbi_factors;

/* Neighbouring parameters with equal numbers, updated in one pass. */
struct fbi_update {
    fbi_method_numbers m;
    fbi_factors f;
    fb_dtype dtype; /* F32 or F64; of gradients, and of `half`, F16 or BF16 too */
    int threads;
    int64_t n;
    void *p;                 /* parameters */
    uint16_t *half;          /* with F16 or BF16: the parameters, and `p` is more exact: F32 */
    const void *g;           /* gradients */
    void *s[FBI_MAX_STATES]; /* in the order of the method's names; NULL: it has fewer */
};

/* a = decay a + (1 - decay) x; F32 or F64. */
struct fbi_average {
    fb_dtype dtype;
    int threads;
    int64_t n;
    void *a;
    const void *x;
    double decay;
};

/* n elements in a row. */
struct fbi_flat_view {
    fb_dtype dtype; /* float */
    const void *data;
    int64_t n;
};

/* --- one step of an optimizer on a device. Nothing of it waits for the host: what the gradients
 * say, numbers of steps and rates stay in device memory, and the host reads them later. --- */

enum { FBI_CHUNK = 4096 }; /* elements that a block of threads does */

/* A run of gradients, or of what else must be finite, in a block of memory; in elements. `chunk`:
 * the first of its chunks, numbered through all spans of a step. */
typedef struct fbi_stretch {
    int64_t begin, n, chunk;
} fbi_stretch;
typedef struct fbi_chunk {
    double squares; /* their sum */
    int64_t bad;    /* some element is not finite */
} fbi_chunk;

/* What is to be measured of one block: `chunks` chunks from number `chunk` on, into out[chunk]. */
struct fbi_look {
    fb_dtype dtype; /* float */
    const void *data;
    const fbi_stretch *spans; /* all of the step, in device memory */
    int64_t n_spans, chunk, chunks;
    bool norm; /* else only whether they are finite */
    fbi_chunk *out;
};

/* Gradients that are counted and judged together: those of a model. */
typedef struct fbi_part {
    double norm2, scale; /* scale: 1 / count */
    double count;        /* 1: of losses that are means; NaN: a count was negative or not finite */
    int64_t bad;         /* the first span that is not finite; -1: none */
    int64_t fine;        /* no span is bad, or it does not matter */
} fbi_part;
struct fbi_ask {
    const fbi_chunk *of; /* n of them from number `chunk` on */
    int64_t chunk, n;
    const fbi_stretch *spans;
    int64_t n_spans;
    const double *count; /* device memory; NULL: `scale` is known */
    double scale;
    const fbi_loss_scale *loss_scale; /* to be divided by, too; NULL: none */
    bool finite;                      /* all must be */
    fbi_part *part;
};

/* A parameter: where it, its gradient and its state begin in their blocks. In device memory. */
typedef struct fbi_row {
    int64_t p, half, g, s[FBI_MAX_STATES], n;
    int64_t chunk; /* the first of its chunks, in the launch that updates it */
    int64_t part, entry;
    double lr_scale, weight_decay;
} fbi_row;
typedef struct fbi_verdict {
    double norm2, factor; /* factor: that clipping wants */
    int64_t apply;
} fbi_verdict;
/* From the parts to the verdict: it is applied if `apply` says so, every part is fine and has
 * counted something, and the norm is finite if max_norm is not 0. Then steps[entry] of each row
 * goes up, and its factors are made. */
struct fbi_judgement {
    const fbi_part *parts;
    int64_t n_parts;
    double norm2, max_norm; /* norm2: of gradients that the host has measured */
    bool apply;
    fbi_loss_scale *loss_scale; /* learns whether all parts are fine; NULL: nobody does */
    fbi_verdict *verdict;
    const fbi_row *rows;
    int64_t n_rows;
    int64_t *steps;
    fbi_factors *factors;
    fbi_method_numbers method;
};
/* Then the rows of some blocks are updated, unless the verdict is against it. */
struct fbi_sweep {
    fbi_method_numbers method;
    fb_dtype dtype; /* of parameters and gradients; F16 and BF16: `p` is F32, see fbi_update */
    const fbi_row *rows;
    const fbi_factors *factors;
    int64_t n_rows, chunks;
    const fbi_verdict *verdict;
    void *p, *s[FBI_MAX_STATES];
    uint16_t *half;
    const void *g;
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
    double *row;    /* [2 n]: means, then variances */
    double *weight; /* += share */
    double share, momentum;
    const double *total;
    const int64_t *fine; /* of fbi_part: 0: nothing happens; NULL: all is well */
    float *mean, *var;
    int64_t *count; /* may be NULL */
};

/* --- collectives between the devices of several ranks, in the order of FBI_QUEUE_COMM --- */

enum { FBI_LINK_ID_BYTES = 128, FBI_LINK_CARD_BYTES = 64, FBI_LINK_OPERANDS = 8 };

typedef enum fbi_link_kind {
    FBI_LINK_ALL_REDUCE,
    FBI_LINK_REDUCE_SCATTER,
    FBI_LINK_ALL_GATHER,
    FBI_LINK_BROADCAST,
    FBI_LINK_EXCHANGE
} fbi_link_kind;

/* Of an exchange: bytes to a rank, or from it. */
typedef struct fbi_link_transfer {
    int peer;
    bool out;
    void *data;
    size_t bytes;
} fbi_link_transfer;

typedef struct fbi_link_call {
    fbi_link_kind kind;
    int op, root; /* op: FBI_COMBINE_SUM, ... */
    fb_dtype dtype;
    int64_t count; /* elements that a rank brings; of a reduce-scatter: that it gets */
    const void *src;
    void *dst;
    const fbi_link_transfer *transfers; /* of an exchange: all at once */
    int n;
} fbi_link_call;

typedef struct fbi_link fbi_link; /* this rank's end of a communicator */

/* The library that does it. No call waits for other ranks. FB_AGAIN: what was asked for is in
 * progress, and nothing may follow until `poll` says FB_OK. What goes wrong is in `reason`; no
 * error is set on the context. */
struct fbi_device_comm {
    const char *library; /* "NCCL" */
    /* Whether the library can be used. `card`: which card this is, the same text for all its users.
     */
    bool (*usable)(fb_context *ctx, char card[FBI_LINK_CARD_BYTES]);
    const char *(*reason)(fb_context *ctx);
    /* One rank makes an id, all ranks join with it. */
    fb_status (*new_id)(fb_context *ctx, void *id);
    fb_status (*join)(fb_context *ctx, const void *id, int rank, int size, fbi_link **link);
    /* Part of a link: all its ranks call it, those with the same colour form one, in the order of
     * the keys; colour -1: none. *link is to be polled like one that joins. */
    fb_status (*split)(fbi_link *parent, int color, int key, fbi_link **link);
    fb_status (*poll)(fbi_link *link);
    /* Whether its reductions mean what ours do. */
    bool (*reduces)(int op, fb_dtype dtype);
    fb_status (*start)(fbi_link *link, const fbi_link_call *call);
    /* fbi_backend.combine of at most FBI_LINK_OPERANDS, in the order of FBI_QUEUE_COMM; sets an
     * error. */
    fb_status (*combine)(fb_context *ctx, int op, fb_dtype dtype, fb_dtype out_dtype,
                         const int16_t *program, int n, const void *const *operands, void *out,
                         int64_t count);
    /* Whether all that FBI_QUEUE_COMM was asked for has happened. */
    bool (*idle)(fb_context *ctx);
    /* End of a link: all its ranks call `finish`, poll, and then close it. */
    fb_status (*finish)(fbi_link *link);
    void (*close)(fbi_link *link);
    /* What runs on these links ends, with wrong results, and they are gone. */
    void (*abort)(fb_context *ctx, fbi_link **links, int n);
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
/* The best kernels of this machine: "v2", "v3" or "v4" of x86-64, with "_bf16" and "_bf16_amx" what
 * the processor multiplies by itself; "v0" elsewhere. Better ones come later in the alphabet. */
const char *fbi_cpu_isa(void);
/* The kernels that a context uses, in the same names; "" if it is not on the CPU. */
const char *fbi_cpu_kernels_of(const fb_context *ctx);
/* In the host's memory. */
void fbi_cpu_update(const fb_context *ctx, const fbi_update *u);
/* Whether this build has LAPACK, which rows with flag LAPACK need. */
bool fbi_cpu_has_lapack(void);
/* Version of the oneDNN that is loaded, e.g. "2.6.0"; "none" without it. */
void fbi_dnn_version(char *out, size_t size);

#endif
