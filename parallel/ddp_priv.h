/* Inside of data parallelism. */
#ifndef FLAMBEAU_PARALLEL_DDP_PRIV_H
#define FLAMBEAU_PARALLEL_DDP_PRIV_H

#include <flambeau/parallel/ddp.h>

#include "comm/work_priv.h"
#include "core/optim/optim_priv.h"

enum { FBI_STACK = FBI_MAX_PIECES + FBI_MAX_DEPTH };

/* A complete subtree of leaf gradients that waits for its sibling. */
typedef struct fbi_carry {
    fbi_piece piece;
    char *data; /* like the block's gradients */
} fbi_carry;

/* One flat block of gradients: its stack of subtrees, and the pieces in which it is summed. */
typedef struct fbi_block {
    fbi_flat *flat;
    size_t bytes; /* of an element */
    fbi_carry stack[FBI_STACK];
    int depth, made; /* made: entries of the stack that have memory */
    struct fbi_block *next;
} fbi_block;

/* Statistics of one batch-norm layer. */
typedef struct fbi_norm {
    fb_module *layer;
    fbi_running running;
    int64_t at, n; /* place in the row of a leaf: n means, then n variances */
    fbi_stat_sink sink;
    struct fbi_ddp *ddp;
} fbi_norm;

typedef struct fbi_ddp {
    fb_context *ctx;
    fb_group *group;
    fb_module *root;
    fbi_block *blocks;
    int64_t bucket_bytes;
    int leaf;     /* whose gradients lie in the blocks; -1: none */
    bool by_hand; /* no fb_context_batch: one leaf a rank, of equal weight */
    fbi_norm *norms;
    int n_norms;
    int64_t row;    /* statistics of one leaf */
    double *values; /* [shards][row] of own leaves */
    double *total;  /* [row] */
    bool have_stats;
    fbi_reducer reducer;
    fbi_backward_hook hook;
    fb_ddp_stats stats;
} fbi_ddp;

/* --- parallel/agree.c --- */
/* All ranks have the same parameters and buffers; those of rank 0 are sent to all. */
fb_status fbi_ddp_agree(fbi_ddp *d);

/* --- parallel/gradients.c --- */
/* The gradients in the blocks become a leaf of the tree. */
fb_status fbi_ddp_push(fbi_ddp *d);
/* Sum over all leaves, into the blocks; the stacks are empty afterwards. */
fb_status fbi_ddp_sum(fbi_ddp *d);
fb_status fbi_ddp_blocks_open(fbi_ddp *d);
void fbi_ddp_blocks_close(fbi_ddp *d);

/* --- parallel/statistics.c --- */
fb_status fbi_ddp_norms_open(fbi_ddp *d);
void fbi_ddp_norms_close(fbi_ddp *d);
/* Average over the leaves, update the running buffers. */
fb_status fbi_ddp_norms_update(fbi_ddp *d);

#endif
