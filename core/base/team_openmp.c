/* Threads that OpenMP really gives: see threads_priv.h. team_openmp_none.c is for builds without.
 */
#include "core/base/threads_priv.h"

#include <omp.h>

int fbi_granted_threads(int threads)
{
    int granted = 1;
    omp_set_dynamic(0);
    omp_set_num_threads(threads);
#pragma omp parallel num_threads(threads)
#pragma omp master
    granted = omp_get_num_threads();
    omp_set_num_threads(granted);
    return granted;
}
