/* What tests ask of the simulator and tell it; the backend never needs it.
 *
 * Environment:
 *   CUDASIM_ORDER=lazy|eager    lazy (default): work runs when somebody waits, in a seeded order
 *   CUDASIM_SEED=n              0: natural order; default 1
 *   CUDASIM_DEVICES=n           default 2
 *   CUDASIM_FIRST=n             device 0 is card n of the machine: others do not see the same
 *   CUDASIM_CAPABILITY=n        of each device; default 90
 *   CUDASIM_MEM=bytes           of each device; default 1 GiB
 *   CUDASIM_FAIL=call:e[:n],..  the n-th call (without n: each) of that function gives error e;
 *                               "kernel" is the execution of one: nothing works after it
 *   CUDASIM_TIMEOUT_MS=n        no progress for so long is a finding; default 30000
 *   CUDASIM_TRACE=1             print what is executed
 *   CUDASIM_PROTECT=1           host code that touches device memory faults
 *   CUDASIM_RACES=0             no reports of unordered work on the same bytes
 *   CUDASIM_NCCL_FAULT=f        absent@R: rank R never joins; hang@R:N, error@R:N: its launch
 *                               number N never ends, or ends the communicator half-way
 *   CUDASIM_CUDNN_VERSION=n    what the library says of itself, e.g. 91900
 *   CUDASIM_NCCL_VERSION=n      what the library says of itself; 0: it is not there
 *   CUDASIM_LT_EPILOGUES=0      cuBLASLt has no epilogues
 *   CUDASIM_LT_FASTEST=n        which of its three algorithms is fast; default 0 */
#ifndef TESTS_CUDASIM_CUDASIM_H
#define TESTS_CUDASIM_CUDASIM_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Start the random choices again. */
void cudasim_set_seed(unsigned seed);
void cudasim_set_lazy(int lazy);
void cudasim_set_races(int on);
void cudasim_set_timeout(long ms);
void cudasim_set_protect(int on); /* for allocations from now on */
/* Mistakes found so far; a process that ends with some ends with status 86. */
int cudasim_findings(void);
const char *cudasim_last_finding(void);
/* Forget findings and the sticky error: for tests that expect one; quiet: do not print them. */
void cudasim_clear(void);
void cudasim_quiet(int quiet);
/* Allocations, streams, events, graphs, communicators and cuDNN's descriptors that are not freed.
 */
int cudasim_live(void);
/* Kernels executed so far. */
unsigned long cudasim_kernels(void);
/* Plans of cuDNN's queued so far. */
unsigned long cudasim_cudnn_runs(void);
/* CUDASIM_NCCL_FAULT from now on; NULL: none. */
void cudasim_nccl_fault(const char *fault);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
