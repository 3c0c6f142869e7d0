/* The simulated NCCL as the plug-in finds it: linked, and not there where CUDASIM_NCCL_VERSION is 0
 * or older than 2.18. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/cuda/nccl_priv.h"

bool fbi_nccl_load(fbi_nccl_api *api, char *why, size_t size)
{
    int version = 0;
#define ADDRESS(function) api->function = function;
    FBI_NCCL_FUNCTIONS(ADDRESS)
#undef ADDRESS
    const char *asked = getenv("FLAMBEAU_NCCL");
    if (asked && !strcmp(asked, "off")) {
        snprintf(why, size, "NCCL is not used: FLAMBEAU_NCCL=off");
        return false;
    }
    if (ncclGetVersion(&version) == ncclSuccess && version >= 21800)
        return true;
    snprintf(why, size, "NCCL is not used: the simulated one is version %d, 2.18 is needed",
             version);
    return false;
}
