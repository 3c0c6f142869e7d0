/* What the CPU backend keeps for a context, in ctx->device. */
#ifndef FLAMBEAU_CORE_CPU_STATE_PRIV_H
#define FLAMBEAU_CORE_CPU_STATE_PRIV_H

#include "core/ops/backend.h"

typedef struct fbi_dnn fbi_dnn;

typedef struct fbi_cpu_work {
    char *data;
    size_t bytes;
} fbi_cpu_work;

typedef struct fbi_cpu_state {
    fbi_dnn *dnn;       /* NULL: not used yet */
    fbi_cpu_work *work; /* [works]: scratch memory that only one thread writes */
    int works;
    bool bf16; /* products of BF16 are the processor's */
    bool amx;  /* products of F32 too, on its tiles */
} fbi_cpu_state;

static inline fbi_cpu_state *fbi_cpu_state_of(fb_context *ctx)
{
    return ctx->device;
}

/* At least `bytes` for each of the first `threads` threads in state->work, 64-byte aligned, until
 * the next call. It stays where it is, in the cache of the thread's core: lines that another core
 * has read are slow to write. */
fb_status fbi_cpu_work_for(const fbi_call *c, int threads, size_t bytes);

#endif
