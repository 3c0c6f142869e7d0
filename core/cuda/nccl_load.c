/* libnccl.so.2, found at run time. */
#include "core/cuda/library_priv.h"
#include "core/cuda/nccl_priv.h"

bool fbi_nccl_load(fbi_nccl_api *api, char *why, size_t size)
{
    static const fbi_cuda_symbol symbols[] = {
#define SYMBOL(function) FBI_CUDA_SYMBOL(fbi_nccl_api, function),
        FBI_NCCL_FUNCTIONS(SYMBOL)
#undef SYMBOL
    };
    return fbi_cuda_library_load(&fbi_cuda_nccl, api, symbols,
                                 (int)(sizeof symbols / sizeof symbols[0]), why, size);
}
