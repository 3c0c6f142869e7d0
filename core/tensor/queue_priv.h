/* Queues of a device, who waits for whom, and storage that several of them use. */
#ifndef FLAMBEAU_CORE_TENSOR_QUEUE_PRIV_H
#define FLAMBEAU_CORE_TENSOR_QUEUE_PRIV_H

#include "core/tensor/tensor_priv.h"

/* Queues of a device: what one is asked for it does in order; events order it between several. The
 * CPU has one and does everything at once. */
typedef enum fbi_queue {
    FBI_QUEUE_COMPUTE, /* kernels; what is said to be "in order" without a name */
    FBI_QUEUE_COPY,    /* batches on their way to the device */
    FBI_QUEUE_COMM,    /* collectives */
    FBI_QUEUE_COUNT,
    FBI_QUEUE_HOST = FBI_QUEUE_COUNT /* as one who waits: the calling thread */
} fbi_queue;

/* Every place where a queue or the host waits for an event: X(name, who waits, when). Without any
 * of them results are wrong, which tests/core/cuda/test_waits.c shows for each
 * (FLAMBEAU_CUDA_DROP_WAIT=name, in the simulator only). */
#define FBI_WAITS(X)                                                         \
    X(STAGE, HOST, "before a pinned stage of fb_write is filled again")      \
    X(REUSE_COMPUTE, COMPUTE, "before memory that others used is given out") \
    X(REUSE_COPY, COPY, "the same, of memory that the copy queue fills")     \
    X(BATCH, COMPUTE, "before a batch is read")                              \
    X(SLOT, HOST, "before the loader fills a pinned slot again")             \
    X(VERDICT, HOST, "before what a step found is looked at")                \
    X(COLLECTIVE_INPUT, COMM, "before a collective reads its sources")       \
    X(COLLECTIVE_RESULT, COMPUTE, "before the result of one is used")

typedef enum fbi_wait_id {
#define FBI_WAIT_NAME(name, who, when) FBI_WAIT_##name,
    FBI_WAITS(FBI_WAIT_NAME)
#undef FBI_WAIT_NAME
        FBI_WAIT_COUNT
} fbi_wait_id;

/* Memory in the order of `queue`: COMPUTE or COPY. NULL: error is set. */
fbi_storage *fbi_storage_new_on(fb_context *ctx, fbi_queue queue, size_t bytes);
/* `queue` works on s until `event`, which belongs to s from now on: s may be released at any time,
 * and whoever gets its memory next waits for the event, on the device. */
fb_status fbi_storage_used_by(fb_context *ctx, fbi_storage *s, fbi_queue queue, void *event);

#endif
