/* The simulator finds what is wrong on purpose, and does not complain of what is right. */
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/cudasim/planted.h"

static void a_kernel_that_waits_for_its_data_is_right_under_every_seed(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 16; seed++) {
        cudaStream_t a, b;
        cudaEvent_t done;
        float *x, *host, back[N];
        cudasim_set_seed(seed);
        must(cudaMallocHost((void **)&host, BYTES));
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
        must(cudaFreeHost(host));
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

static void pointers_inside_structs_are_seen(void **state)
{
    (void)state;
    cudaStream_t a = new_stream(), b = new_stream();
    float *x = device_floats(), host[N] = {0};
    planted_add_one_inside(x, N, a);
    planted_add_one(x, N, b);
    expect_finding("without waiting for add_one_inside queued on another stream");
    must(cudaDeviceSynchronize());
    must(cudaFree(x));
    planted_add_one_inside(x, N, a);
    expect_finding("use after free");
    planted_add_one_inside(host, N, a);
    expect_finding("is not device memory");
    cudaDeviceSynchronize();
    cudasim_clear();
    must(cudaStreamDestroy(a));
    must(cudaStreamDestroy(b));
}

static void pageable_memory_in_asynchronous_copies_is_reported(void **state)
{
    (void)state;
    cudaStream_t s = new_stream();
    float *x = device_floats(), host[N] = {0};
    must(cudaMemcpyAsync(x, host, BYTES, cudaMemcpyHostToDevice, s));
    expect_finding("from pageable memory");
    host[3] = 7; /* a copy was made */
    must(cudaMemcpyAsync(host, x, BYTES, cudaMemcpyDeviceToHost, s));
    assert_true(host[3] == 0); /* and this one waits */
    must(cudaFree(x));
    must(cudaStreamDestroy(s));
}

static void a_result_that_is_looked_at_too_early_is_poison(void **state)
{
    (void)state;
    cudaStream_t s = new_stream();
    float *x = device_floats(), *host;
    must(cudaMallocHost((void **)&host, BYTES));
    for (int round = 0; round < 2; round++) { /* also where the last result lies */
        must(cudaMemcpyAsync(host, x, BYTES, cudaMemcpyDeviceToHost, s));
        assert_true(isnan(host[1]));
        must(cudaStreamSynchronize(s));
        assert_true(host[1] == 1);
    }
    must(cudaMemcpyAsync(x, host, BYTES, cudaMemcpyHostToDevice, s));
    must(cudaMemcpyAsync(host, x, BYTES, cudaMemcpyDeviceToHost, s)); /* still a source */
    must(cudaStreamSynchronize(s));
    assert_true(host[1] == 1);
    must(cudaFree(x));
    must(cudaFreeHost(host));
    must(cudaStreamDestroy(s));
}

static void memory_that_nobody_wrote_gives_nan(void **state)
{
    (void)state;
    float *x, got[N];
    must(cudaMalloc((void **)&x, BYTES));
    planted_add_one(x, N, NULL);
    must(cudaMemcpy(got, x, BYTES, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N; i++)
        assert_true(isnan(got[i]));
    planted_unwritten(x, 0);
    must(cudaMemcpy(got, x, BYTES, cudaMemcpyDeviceToHost));
    assert_true(got[0] == 1);
    planted_unwritten(x, 1);
    must(cudaMemcpy(got, x, BYTES, cudaMemcpyDeviceToHost));
    assert_true(!(fabsf(got[0]) < 1e30f));
    must(cudaFree(x));
}

static void events_and_streams_are_not_used_after_they_are_destroyed(void **state)
{
    (void)state;
    cudaStream_t s = new_stream();
    cudaEvent_t e = new_event();
    must(cudaEventRecord(e, s));
    must(cudaEventDestroy(e));
    assert_int_equal(cudaStreamWaitEvent(s, e, 0), cudaErrorInvalidResourceHandle);
    expect_finding("invalid or destroyed event");
    assert_int_equal(cudaEventSynchronize(e), cudaErrorInvalidResourceHandle);
    expect_finding("cudaEventSynchronize: invalid or destroyed event");
    assert_int_equal(cudaEventDestroy(e), cudaErrorInvalidResourceHandle);
    expect_finding("cudaEventDestroy: invalid or destroyed event");
    must(cudaStreamDestroy(s));
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorInvalidResourceHandle);
    expect_finding("invalid or destroyed stream");
    must(cudaDeviceSynchronize());
}

static void memory_freed_twice_in_the_order_of_streams_is_reported(void **state)
{
    (void)state;
    cudaStream_t s = new_stream();
    float *x;
    must(cudaMallocAsync((void **)&x, BYTES, s));
    must(cudaFreeAsync(x, s));
    assert_int_equal(cudaFreeAsync(x, s), cudaErrorInvalidValue);
    expect_finding("cudaFreeAsync: double free");
    planted_add_one(x, N, s);
    expect_finding("use after free");
    must(cudaDeviceSynchronize());
    must(cudaStreamDestroy(s));
}

static void launches_beyond_the_limits_of_a_card_fail(void **state)
{
    (void)state;
    static const struct {
        unsigned grid[3], block[3];
        size_t shared;
        cudaError_t want;
    } rows[] = {
        {{1, 1, 1}, {1024, 1, 1}, 48 << 10, cudaSuccess},
        {{1, 1, 1}, {1025, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {32, 32, 2}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {1, 1, 65}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {0, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{0, 1, 1}, {1, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 65536, 1}, {1, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 65536}, {1, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{0x80000000u, 1, 1}, {1, 1, 1}, 0, cudaErrorInvalidConfiguration},
        {{1, 1, 1}, {1, 1, 1}, (48 << 10) + 1, cudaErrorInvalidValue},
    };
    float *x = device_floats();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        planted_launch(x, rows[i].grid, rows[i].block, rows[i].shared);
        assert_int_equal(cudaGetLastError(), rows[i].want);
    }
    must(cudaFree(x));
}

/* The fault ends the process: a child's, without cmocka's handlers of signals. */
static void a_misaligned_address_ends_the_process(void **state)
{
    (void)state;
    int out[2], status = 0;
    char said[512] = "";
    must(cudaDeviceSynchronize());
    assert_int_equal(pipe(out), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(out[1], 2);
        execl("/proc/self/exe", "test_simulator", "misaligned", (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    for (ssize_t n = 0, got; (got = read(out[0], said + n, sizeof said - 1 - (size_t)n)) > 0;)
        n += got;
    close(out[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
    if (!strstr(said, "misaligned address in kernel misaligned") &&
        !strstr(said, "misaligned address 0x")) /* the sanitizer's words */
        fail_msg("said: %s", said);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        planted_misaligned(device_floats());
        return cudaDeviceSynchronize() != cudaSuccess;
    }
    const struct CMUnitTest tests[] = {
        TEST(a_kernel_that_waits_for_its_data_is_right_under_every_seed),
        TEST(a_missing_event_wait_is_found_under_every_seed),
        TEST(a_missing_barrier_gives_a_wrong_result_under_some_seeds),
        TEST(a_barrier_in_two_branches_is_reported),
        TEST(a_lane_outside_of_its_mask_is_reported),
        TEST(writes_out_of_bounds_and_after_free_are_reported),
        TEST(host_memory_in_a_kernel_is_reported),
        TEST(memory_freed_on_another_stream_is_reported),
        TEST(pointers_inside_structs_are_seen),
        TEST(pageable_memory_in_asynchronous_copies_is_reported),
        TEST(a_result_that_is_looked_at_too_early_is_poison),
        TEST(memory_that_nobody_wrote_gives_nan),
        TEST(events_and_streams_are_not_used_after_they_are_destroyed),
        TEST(memory_freed_twice_in_the_order_of_streams_is_reported),
        TEST(launches_beyond_the_limits_of_a_card_fail),
        TEST(a_misaligned_address_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
