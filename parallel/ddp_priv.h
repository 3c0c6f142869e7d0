/* Inside of data parallelism. */
#ifndef FLAMBEAU_PARALLEL_DDP_PRIV_H
#define FLAMBEAU_PARALLEL_DDP_PRIV_H

#include <flambeau/parallel/ddp.h>

#include "comm/work_priv.h"
#include "core/optim/optim_priv.h"

typedef struct fbi_ddp fbi_ddp;

/* --- parallel/carry.c: sums of complete subtrees of this rank's leaves --- */

/* A complete subtree that waits for its sibling. */
typedef struct fbi_subtree {
    fbi_piece piece;
    void *data;       /* `n` elements of the accumulation dtype; NULL: all its leaves are absent */
    fbi_storage *own; /* where they lie; NULL: in the caller's memory */
} fbi_subtree;

typedef struct fbi_carry {
    fb_context *ctx;     /* buffers lie on its device */
    fb_dtype dtype, acc; /* of a leaf; of a sum: F32 for 16-bit leaves that are added here */
    int64_t n;
    fbi_subtree stack[FBI_MAX_PIECES];
    fbi_storage *room[FBI_MAX_PIECES + 1]; /* spare buffers */
    int depth, spare;
} fbi_carry;

void fbi_carry_close(fbi_carry *carry);
/* Put leaf number `leaf` on the stack; data NULL: absent. `keep`: data may be used in place until
 * the stack is cleared, else it is copied. Not FB_OK: the error is set. */
fb_status fbi_carry_push(fbi_carry *carry, int leaf, void *data, bool keep);
/* Forget all subtrees. */
void fbi_carry_clear(fbi_carry *carry);
/* The subtrees as the sources of a sum along the group's tree. */
void fbi_carry_sources(const fbi_carry *carry, fbi_task *task);

/* --- parallel/bucket.c: pieces of the flat gradients that are summed as one --- */

typedef struct fbi_bucket {
    struct fbi_block *block;
    int64_t begin, n;    /* elements of the block */
    int first, n_params; /* its parameters */
    int pending;         /* of them, how many this backward has not finished */
    fbi_carry carry;
    fb_work *work;
    bool launched;
} fbi_bucket;

/* One flat block and the sink of its parameters' gradients. */
typedef struct fbi_block {
    fbi_ddp *ddp;
    fbi_flat *flat;
    size_t size;       /* of an element */
    int first_used;    /* number of its first parameter among all */
    int *bucket_of;    /* [n_params] index in ddp->buckets */
    fbi_storage *kept; /* reduced gradients to which the next ones are added; NULL: none yet */
    fbi_grad_sink sink;
    struct fbi_block *next;
} fbi_block;

fb_status fbi_ddp_buckets_open(fbi_ddp *d);
void fbi_ddp_buckets_close(fbi_ddp *d);
/* Gradients of parameters first .. first + n that backward did not reach count as zero; what lies
 * in `data`, which is laid out as the block, is of an earlier step. */
fb_status fbi_ddp_clear_unused(const fbi_block *k, void *data, int first, int n);
/* Put the gradients in the blocks on the stacks as leaf d->leaf. */
fb_status fbi_ddp_push(fbi_ddp *d);
/* How many of its parameters are trained; 0: there is nothing to sum. */
int fbi_ddp_trained(const fbi_bucket *b);
/* Start the sum of a bucket: what lies on its stack, and (if a leaf is open) what lies in the
 * block. */
fb_status fbi_ddp_launch(fbi_ddp *d, fbi_bucket *b);
/* Start all that have not started, wait for all: the sums lie in the blocks. */
fb_status fbi_ddp_settle(fbi_ddp *d);
/* Forget what lies on the stacks and in the blocks. */
void fbi_ddp_forget(fbi_ddp *d);
/* Some parameter has a gradient that no step has used. */
bool fbi_ddp_live(const fbi_ddp *d);

/* --- parallel/statistics.c --- */

/* Statistics of one batch-norm layer. */
typedef struct fbi_norm {
    fb_module *layer;
    fbi_running running;
    int64_t at, n; /* place in the row of a leaf: n means, then n variances */
    fbi_stat_sink sink;
    fbi_ddp *ddp;
} fbi_norm;

typedef struct fbi_norms {
    fbi_norm *norm;
    int n;
    int64_t row;         /* statistics of one leaf, and the weight of each layer: doubles */
    fbi_storage *values; /* [row] of the open leaf, times share */
    fbi_storage *total;  /* [row] */
    fbi_carry carry;
    int leaf, next; /* open leaf, -1: none; the leaf that the stack waits for */
} fbi_norms;

fb_status fbi_ddp_norms_open(fbi_ddp *d);
void fbi_ddp_norms_close(fbi_ddp *d);
/* Sum over the leaves, into norms.total. */
fb_status fbi_ddp_norms_sum(fbi_ddp *d);
/* Update the running buffers from the sums, unless *fine (device memory; NULL: it is 1) is 0. */
fb_status fbi_ddp_norms_apply(fbi_ddp *d, const int64_t *fine);
/* Forget what leaves of this step gave. */
void fbi_ddp_norms_forget(fbi_ddp *d);

/* --- parallel/weights.c --- */

/* Of the slice of the weights that this step looks at. */
uint64_t fbi_ddp_weights_hash(const fbi_ddp *d);
/* FB_OK if all ranks have the same; else the verdict names one that differs from most. */
fb_status fbi_ddp_weights_compare(const fbi_ddp *d, const uint64_t *hashes);

/* --- parallel/pace.c --- */

typedef struct fbi_pace {
    double *busy;         /* [2 * ranks]: seconds of this window; room */
    double window, began; /* seconds; when it began */
    double since, waited; /* end of the last step, and world's waited_s then; 0: none */
    int steps, named;     /* of this window; who was slow in the last one, -1: nobody */
} fbi_pace;

bool fbi_ddp_pace_open(fbi_ddp *d);
/* Seconds for which this rank has computed since the last step. */
double fbi_ddp_pace_busy(const fbi_ddp *d);
/* What a rank of the group has told. */
void fbi_ddp_pace_note(fbi_ddp *d, int rank, double busy);
/* All have told, and the step ends. */
void fbi_ddp_pace_step(fbi_ddp *d);
/* Who takes longest, if that is much longer than the median, which goes to *middle; else -1. */
int fbi_slowest(const double *busy, int n, double *room, double *middle);

/* --- parallel/tune.c --- */

/* At the end of the first step: all ranks take over rank 0's algorithms, if the context tunes.
 * Collective. */
fb_status fbi_ddp_tune(fbi_ddp *d);

/* --- the rest --- */

struct fbi_ddp {
    fb_context *ctx;
    fb_group *group;
    fb_module *root;
    fbi_block *blocks;
    fbi_bucket *buckets;
    int n_buckets, n_params;
    int64_t bucket_bytes;
    uint64_t layout; /* hash of names, shapes and dtypes: the ranks agree on it at every step */
    bool *used;      /* [n_params]: these gradients reached it */

    /* the leaf whose gradients lie in the blocks */
    bool open, absent; /* absent: its share is 0, it contributes nothing */
    int leaf, next;    /* next: leaf that the stacks wait for */
    int64_t step;      /* of fb_context_batch; -1: without */
    bool summed;       /* the blocks hold sums over the ranks: nothing is left to sum */
    bool kept;         /* older sums are to be added to them */

    /* what the losses of these gradients count */
    double *counts, *leaf_counts; /* [n_leaves]; [shards], of all ranks */
    bool counted, plain;          /* some backward gave a count; some other gave none */
    fbi_storage *count; /* on a device, instead: [n_leaves] doubles, and the total behind them */

    /* this backward */
    bool in_pass, sums, no_sync; /* sums: buckets leave as they become ready */
    int next_bucket;

    char *packets; /* room of the exchange at a step */
    size_t packet_bytes;
    fbi_flat_view *views; /* room for what is looked at: [n_params + 1] */
    fbi_named_view *named;
    double *squares;
    uint64_t *hashes; /* of the ranks' weights: [ranks] */
    fbi_pace pace;

    fbi_norms norms;
    fbi_reducer reducer;
    fbi_backward_hook hook;
    fb_ddp_stats stats;
};

/* --- parallel/agree.c --- */

/* All ranks have the same parameters and buffers; those of rank 0 are sent to all. */
fb_status fbi_ddp_agree(fbi_ddp *d);

/* --- parallel/pass.c: what a backward means for the gradients --- */

void fbi_ddp_begin(void *self);
void fbi_ddp_prepare(void *self, fbi_leaf *leaf);
void fbi_ddp_ready(void *self, fbi_leaf *leaf);
fb_status fbi_ddp_finished(void *self);
/* The leaf that the context works on. */
int fbi_ddp_leaf(const fbi_ddp *d);
bool fbi_ddp_is_absent(const fbi_ddp *d);

/* The optimizer's zero_grad. */
void fbi_ddp_zeroed(void *self);

/* --- parallel/commit.c --- */
fb_status fbi_ddp_commit_open(fbi_ddp *d);
void fbi_ddp_commit_close(fbi_ddp *d);
fb_status fbi_ddp_commit(void *self, fbi_commit *c);
fb_status fbi_ddp_judged(void *self, const int64_t *fine);
void fbi_ddp_learned(void *self, const fb_batch_info *at, const char *name);
/* --- parallel/count.c: counts of losses, where the host does not know them --- */
/* Nothing has been counted yet. */
fb_status fbi_ddp_count_clear(fbi_ddp *d);
/* The backward that runs counts for the open leaf. */
fb_status fbi_ddp_count_add(fbi_ddp *d);
/* Sum over all leaves and ranks; *total is in device memory. */
fb_status fbi_ddp_count_sum(fbi_ddp *d, const double **total);

#endif
