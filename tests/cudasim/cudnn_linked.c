/* The simulated cuDNN as the plug-in finds it: linked, and not there where CUDASIM_CUDNN_VERSION is
 * not one that serves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cuda/cudnn_priv.h"
#include "core/cuda/library_priv.h"

const bool fbi_dnn_built = true;

bool fbi_cudnn_load(fbi_cudnn_api *api, char *why, size_t size)
{
#define ADDRESS(function) api->function = function;
    FBI_CUDNN_FUNCTIONS(ADDRESS)
#undef ADDRESS
    const char *asked = getenv("FLAMBEAU_CUDNN");
    if (asked && !strcmp(asked, "off")) {
        snprintf(why, size, "cuDNN is not used: FLAMBEAU_CUDNN=off");
        return false;
    }
    int version = (int)cudnnGetVersion();
    if (version >= fbi_cuda_cudnn.oldest && version < fbi_cuda_cudnn.before)
        return true;
    snprintf(why, size, "cuDNN is not used: the simulated one is version %d", version);
    return false;
}
