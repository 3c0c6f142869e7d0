/* NCCL as the backend's fbi_device_comm. */
#ifndef FLAMBEAU_CORE_CUDA_NCCL_PRIV_H
#define FLAMBEAU_CORE_CUDA_NCCL_PRIV_H

#include <nccl.h>

#include "core/cuda/cuda_priv.h"

#define FBI_NCCL_FUNCTIONS(X) \
    X(ncclGetVersion)         \
    X(ncclGetUniqueId)        \
    X(ncclCommInitRankConfig) \
    X(ncclCommSplit)          \
    X(ncclCommGetAsyncError)  \
    X(ncclCommFinalize)       \
    X(ncclCommDestroy)        \
    X(ncclCommAbort)          \
    X(ncclGetErrorString)     \
    X(ncclGetLastError)       \
    X(ncclGroupStart)         \
    X(ncclGroupEnd)           \
    X(ncclAllReduce)          \
    X(ncclReduceScatter)      \
    X(ncclAllGather)          \
    X(ncclBroadcast)          \
    X(ncclSend)               \
    X(ncclRecv)

typedef struct fbi_nccl_api {
#define FBI_NCCL_MEMBER(function) __typeof__(function) *function;
    FBI_NCCL_FUNCTIONS(FBI_NCCL_MEMBER)
#undef FBI_NCCL_MEMBER
} fbi_nccl_api;

/* The functions of the library that is there (nccl_load.c), or of the simulated one
 * (tests/cudasim/nccl_linked.c). False: `why` says why there is none. */
bool fbi_nccl_load(fbi_nccl_api *api, char *why, size_t size);

#endif
