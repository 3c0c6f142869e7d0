/* A build without OpenMP: kernels run on the thread that calls them. */
#include "core/base/threads_priv.h"

int fbi_granted_threads(int threads)
{
    (void)threads;
    return 1;
}
