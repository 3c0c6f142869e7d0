/* Data parallelism: every rank has the whole model and a share of each batch. */
#ifndef FLAMBEAU_PARALLEL_DDP_H
#define FLAMBEAU_PARALLEL_DDP_H

#include <flambeau/comm/group.h>
#include <flambeau/core/nn/module.h>

FB_BEGIN

typedef struct fb_ddp_options {
    int64_t bucket_bytes; /**< gradients are summed in pieces of about this size; 0: 1 MiB */
} fb_ddp_options;

/**
 * Attach a model to a data-parallel group, before the first step. Ranks must have built the same
 * parameters (FB_E_COMM names the rank and the parameter that differ); values and buffers of rank 0
 * are sent to all.
 *
 * From then on the backward of a step's last micro-batch sums the gradients over all leaves of the
 * step, while it still runs, in fixed order: the same bits for every number of ranks up to the
 * group's shards. A gradient is the sum over the leaves of gradient times share; if the losses are
 * sums (fb_backward_options.count) it is the plain sum, which fb_optim_step divides by the total
 * count. Batch-norm layers update their running statistics once per step, with the mean over all
 * leaves. fb_optim_step makes the ranks agree that they are at the same step, and skips the step on
 * all of them if a gradient is not finite.
 *
 * Without a loader (no fb_context_batch) each rank's backward is one leaf of equal weight. A step
 * has one backward per micro-batch; for several, see fb_ddp_no_sync.
 *
 * Collective. FB_E_STATE if the model is attached already or is not a root.
 *
 * Li et al.: PyTorch Distributed, arXiv:2006.15704.
 */
FB_API fb_status fb_ddp_attach(fb_group *group, fb_module *model, const fb_ddp_options *opts);

/**
 * With `on`, backward passes accumulate gradients on this rank only, any number of them in a
 * micro-batch; they are summed over the ranks by the next pass without, or by fb_optim_step.
 * FB_E_STATE if the model is not attached.
 */
FB_API fb_status fb_ddp_no_sync(fb_module *model, bool on);

typedef struct fb_ddp_stats {
    int64_t steps, buckets, bytes; /**< buckets: sums so far; bytes: of all gradients */
    int64_t early;                 /**< of these sums, how many began while backward still ran */
    int64_t skipped;               /**< steps whose gradients or batch statistics were not finite */
    double seconds;                /**< spent waiting for sums and for agreement */
} fb_ddp_stats;

/** What an attached model's reductions took so far. FB_E_STATE if it is not attached. */
FB_API fb_status fb_ddp_stats_of(fb_module *model, fb_ddp_stats *stats);

FB_END
#endif
