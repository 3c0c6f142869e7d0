/* How many processors this process may use. */
#ifndef FLAMBEAU_CORE_BASE_THREADS_PRIV_H
#define FLAMBEAU_CORE_BASE_THREADS_PRIV_H

/* Processors in the affinity mask, limited by the cgroup's quota (rounded up); at least 1. */
int fbi_allowed_cores(void);

/* How many of `threads` OpenMP grants to the calling thread (OMP_THREAD_LIMIT and the like may
 * allow fewer); from now on it gets this many. oneDNN computes wrong numbers in a team shorter than
 * it believes, so a context never believes in more. At least 1. */
int fbi_granted_threads(int threads);

#endif
