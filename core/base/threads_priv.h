/* How many processors this process may use. */
#ifndef FLAMBEAU_CORE_BASE_THREADS_PRIV_H
#define FLAMBEAU_CORE_BASE_THREADS_PRIV_H

/* Processors in the affinity mask, limited by the cgroup's quota (rounded up); at least 1. */
int fbi_allowed_cores(void);

#endif
