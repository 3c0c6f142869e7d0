/* Launches of kernels with and without mistakes (planted.cu), and the reading of findings. */
#ifndef TESTS_CUDASIM_PLANTED_H
#define TESTS_CUDASIM_PLANTED_H
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <cuda_runtime.h>

#include "tests/cudasim/cudasim.h"

enum { N = 256, BYTES = N * (int)sizeof(float) };

void planted_add_one(float *x, int n, cudaStream_t s);
void planted_add_one_inside(float *x, int n, cudaStream_t s); /* x is in a struct */
void planted_no_barrier(float *x);
void planted_two_barriers(float *x);
void planted_not_in_mask(float *x);
void planted_misaligned(float *x);       /* 16 bytes at x + 1 */
void planted_unwritten(float *x, int k); /* x[0] = element k of an array whose first is written */
void planted_launch(float *x, const unsigned grid[3], const unsigned block[3], size_t shared);

/* Exactly this kind of finding; then it is forgotten. */
static inline void expect_finding(const char *text)
{
    if (!cudasim_findings() || !strstr(cudasim_last_finding(), text))
        fail_msg("wanted \"%s\", %d findings, the last: \"%s\"", text, cudasim_findings(),
                 cudasim_last_finding());
    cudasim_clear();
}

static inline int begin(void **state)
{
    (void)state;
    cudasim_quiet(1);
    cudasim_clear();
    cudasim_set_seed(1);
    return 0;
}

static inline int nothing_is_left(void **state)
{
    (void)state;
    return cudasim_findings() == 0 && cudasim_live() == 0 ? 0 : -1;
}

static inline void must(cudaError_t e)
{
    assert_int_equal(e, cudaSuccess);
}

static inline cudaStream_t new_stream(void)
{
    cudaStream_t s;
    must(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

static inline cudaEvent_t new_event(void)
{
    cudaEvent_t e;
    must(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    return e;
}

/* `by` goes on after all that `after` has been asked for. */
static inline void follow(cudaStream_t by, cudaStream_t after)
{
    cudaEvent_t e = new_event();
    must(cudaEventRecord(e, after));
    must(cudaStreamWaitEvent(by, e, 0));
    must(cudaEventDestroy(e));
}

/* 0, 1, 2 ... on the device. */
static inline float *device_floats(void)
{
    float *x = NULL, one[N];
    for (int i = 0; i < N; i++)
        one[i] = (float)i;
    must(cudaMalloc((void **)&x, BYTES));
    must(cudaMemcpy(x, one, BYTES, cudaMemcpyHostToDevice));
    must(cudaDeviceSynchronize()); /* streams that do not block do not wait for it */
    return x;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, nothing_is_left)

#endif
