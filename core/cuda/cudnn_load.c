/* libcudnn.so.9, found at run time. */
#include "core/cuda/cudnn_priv.h"
#include "core/cuda/library_priv.h"

const bool fbi_dnn_built = true;

bool fbi_cudnn_load(fbi_cudnn_api *api, char *why, size_t size)
{
    static const fbi_cuda_symbol symbols[] = {
#define SYMBOL(function) FBI_CUDA_SYMBOL(fbi_cudnn_api, function),
        FBI_CUDNN_FUNCTIONS(SYMBOL)
#undef SYMBOL
    };
    return fbi_cuda_library_load(&fbi_cuda_cudnn, api, symbols,
                                 (int)(sizeof symbols / sizeof symbols[0]), why, size);
}
