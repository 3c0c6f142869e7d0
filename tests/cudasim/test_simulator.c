/* The simulator finds what is wrong on purpose, and does not complain of what is right. */
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
void planted_no_barrier(float *x);
void planted_two_barriers(float *x);
void planted_not_in_mask(float *x);

/* Exactly this kind of finding; then it is forgotten. */
static void expect_finding(const char *text)
{
    if (!cudasim_findings() || !strstr(cudasim_last_finding(), text))
        fail_msg("wanted \"%s\", %d findings, the last: \"%s\"", text, cudasim_findings(),
                 cudasim_last_finding());
    cudasim_clear();
}

static int begin(void **state)
{
    (void)state;
    cudasim_quiet(1);
    cudasim_clear();
    cudasim_set_seed(1);
    return 0;
}

static int nothing_is_left(void **state)
{
    (void)state;
    return cudasim_findings() == 0 && cudasim_live() == 0 ? 0 : -1;
}

static float *device_floats(void)
{
    float *x = NULL, one[N];
    for (int i = 0; i < N; i++)
        one[i] = (float)i;
    assert_int_equal(cudaMalloc((void **)&x, BYTES), cudaSuccess);
    assert_int_equal(cudaMemcpy(x, one, BYTES, cudaMemcpyHostToDevice), cudaSuccess);
    return x;
}

static void a_kernel_that_waits_for_its_data_is_right_under_every_seed(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 16; seed++) {
        cudaStream_t a, b;
        cudaEvent_t done;
        float *x, host[N], back[N];
        cudasim_set_seed(seed);
        for (int i = 0; i < N; i++)
            host[i] = (float)i;
        assert_int_equal(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking), cudaSuccess);
        assert_int_equal(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking), cudaSuccess);
        assert_int_equal(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), cudaSuccess);
        assert_int_equal(cudaMallocAsync((void **)&x, BYTES, a), cudaSuccess);
        assert_int_equal(cudaMemcpyAsync(x, host, BYTES, cudaMemcpyHostToDevice, a), cudaSuccess);
        assert_int_equal(cudaEventRecord(done, a), cudaSuccess);
        assert_int_equal(cudaStreamWaitEvent(b, done, 0), cudaSuccess);
        planted_add_one(x, N, b);
        assert_int_equal(cudaMemcpyAsync(back, x, BYTES, cudaMemcpyDeviceToHost, b), cudaSuccess);
        assert_int_equal(cudaStreamSynchronize(b), cudaSuccess);
        for (int i = 0; i < N; i++)
            assert_true(back[i] == (float)i + 1);
        assert_int_equal(cudaFreeAsync(x, b), cudaSuccess);
        assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
        assert_int_equal(cudaEventDestroy(done), cudaSuccess);
        assert_int_equal(cudaStreamDestroy(a), cudaSuccess);
        assert_int_equal(cudaStreamDestroy(b), cudaSuccess);
        assert_int_equal(cudasim_findings(), 0);
    }
}

static void a_missing_event_wait_is_found_under_every_seed(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 16; seed++) {
        cudaStream_t a, b;
        float *x = device_floats();
        cudasim_set_seed(seed);
        assert_int_equal(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking), cudaSuccess);
        assert_int_equal(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking), cudaSuccess);
        planted_add_one(x, N, a);
        planted_add_one(x, N, b);
        expect_finding("without waiting for add_one queued on another stream");
        cudaDeviceSynchronize();
        cudaFree(x);
        cudaStreamDestroy(a);
        cudaStreamDestroy(b);
    }
}

static void a_missing_barrier_gives_a_wrong_result_under_some_seeds(void **state)
{
    (void)state;
    int wrong = 0;
    for (unsigned seed = 1; seed <= 16; seed++) {
        float *x = device_floats(), got[64];
        bool bad = false;
        cudasim_set_seed(seed);
        for (unsigned k = 0; k < seed; k++) /* other values than in the last round */
            planted_add_one(x, N, NULL);
        planted_no_barrier(x);
        cudaMemcpy(got, x, sizeof got, cudaMemcpyDeviceToHost);
        for (int i = 0; i < 64; i++)
            bad |= got[i] != (float)((i + 33) % 64) + (float)seed;
        wrong += bad;
        cudaFree(x);
    }
    assert_true(wrong >= 8);
}

static void a_barrier_in_two_branches_is_reported(void **state)
{
    (void)state;
    float *x = device_floats();
    planted_two_barriers(x);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    expect_finding("divergent __syncthreads");
    cudaFree(x);
}

static void a_lane_outside_of_its_mask_is_reported(void **state)
{
    (void)state;
    float *x = device_floats();
    planted_not_in_mask(x);
    cudaDeviceSynchronize();
    expect_finding("not in its own mask");
    cudaFree(x);
}

static void writes_out_of_bounds_and_after_free_are_reported(void **state)
{
    (void)state;
    float *x = device_floats();
    planted_add_one(x, N + 1, NULL);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    expect_finding("out-of-bounds write behind the allocation of 1024 bytes");
    cudaFree(x);
    planted_add_one(x, N, NULL);
    cudaDeviceSynchronize();
    expect_finding("use after free");
    cudaFree(x);
    expect_finding("double free");
}

static void host_memory_in_a_kernel_is_reported(void **state)
{
    (void)state;
    float host[N] = {0};
    planted_add_one(host, N, NULL);
    cudaDeviceSynchronize();
    expect_finding("is not device memory");
}

static void memory_freed_on_another_stream_is_reported(void **state)
{
    (void)state;
    cudaStream_t a, b;
    float *x;
    assert_int_equal(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaMallocAsync((void **)&x, BYTES, a), cudaSuccess);
    planted_add_one(x, N, a);
    cudaFreeAsync(x, b);
    expect_finding("is freed on a stream that does not wait for");
    cudaDeviceSynchronize();
    cudasim_clear();
    cudaStreamDestroy(a);
    cudaStreamDestroy(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, nothing_is_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_kernel_that_waits_for_its_data_is_right_under_every_seed),
        TEST(a_missing_event_wait_is_found_under_every_seed),
        TEST(a_missing_barrier_gives_a_wrong_result_under_some_seeds),
        TEST(a_barrier_in_two_branches_is_reported),
        TEST(a_lane_outside_of_its_mask_is_reported),
        TEST(writes_out_of_bounds_and_after_free_are_reported),
        TEST(host_memory_in_a_kernel_is_reported),
        TEST(memory_freed_on_another_stream_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
