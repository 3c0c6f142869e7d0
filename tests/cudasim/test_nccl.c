/* The simulated NCCL: right sums under every seed, and what is wrong on purpose is found. Ranks are
 * in one process here, except in one test. */
#include "tests/cudasim/planted.h"

#include <nccl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RANKS = 2, SEEDS = 12, COUNT = 100003, PARTS = RANKS * COUNT };

typedef struct rank {
    ncclComm_t comm;
    cudaStream_t stream;
    float *in, *out; /* PARTS elements each */
} rank;

static rank ranks[RANKS];

static float value_of(int r, int i)
{
    return (float)(i % 1000) + 1000.0f * (float)r;
}

/* What it answers once it is no longer in progress. */
static ncclResult_t settled(ncclComm_t c)
{
    ncclResult_t e = ncclInProgress;
    while (e == ncclInProgress)
        assert_int_equal(ncclCommGetAsyncError(c, &e), ncclSuccess);
    return e;
}

static void open_device(int r)
{
    float *host = malloc(PARTS * sizeof *host);
    for (int i = 0; i < PARTS; i++)
        host[i] = value_of(r, i);
    assert_int_equal(cudaSetDevice(r), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&ranks[r].stream, cudaStreamNonBlocking),
                     cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&ranks[r].in, PARTS * sizeof *host), cudaSuccess);
    assert_int_equal(cudaMalloc((void **)&ranks[r].out, PARTS * sizeof *host), cudaSuccess);
    assert_int_equal(cudaMemcpy(ranks[r].in, host, PARTS * sizeof *host, cudaMemcpyHostToDevice),
                     cudaSuccess);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess); /* other streams do not wait for it */
    free(host);
}

static void close_device(int r)
{
    assert_int_equal(cudaSetDevice(r), cudaSuccess);
    cudaFree(ranks[r].in);
    cudaFree(ranks[r].out);
    cudaStreamDestroy(ranks[r].stream);
}

static void open_ranks(int blocking)
{
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = blocking;
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    for (int r = 0; r < RANKS; r++)
        open_device(r);
    ncclGroupStart();
    for (int r = 0; r < RANKS; r++) {
        cudaSetDevice(r);
        assert_int_equal(ncclCommInitRankConfig(&ranks[r].comm, RANKS, id, r, &config),
                         ncclSuccess);
    }
    assert_int_equal(ncclGroupEnd(), blocking ? ncclSuccess : ncclInProgress);
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(settled(ranks[r].comm), ncclSuccess);
}

static void close_ranks(int how_many_comms)
{
    for (int r = 0; r < how_many_comms; r++)
        assert_int_equal(ncclCommFinalize(ranks[r].comm) == ncclSuccess, 0);
    for (int r = 0; r < how_many_comms; r++) {
        assert_int_equal(settled(ranks[r].comm), ncclSuccess);
        assert_int_equal(ncclCommDestroy(ranks[r].comm), ncclSuccess);
    }
    for (int r = 0; r < RANKS; r++)
        close_device(r);
}

static void abort_ranks(void)
{
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(ncclCommAbort(ranks[r].comm), ncclSuccess);
    for (int r = 0; r < RANKS; r++)
        close_device(r);
}

/* Launched, and complete as far as the host is concerned. */
static void launched(ncclResult_t e, int r)
{
    if (e == ncclInProgress)
        e = settled(ranks[r].comm);
    assert_int_equal(e, ncclSuccess);
}

static const float *result_of(int r)
{
    static float host[PARTS];
    assert_int_equal(cudaSetDevice(r), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(ranks[r].stream), cudaSuccess);
    assert_int_equal(cudaMemcpy(host, ranks[r].out, sizeof host, cudaMemcpyDeviceToHost),
                     cudaSuccess);
    return host;
}

static int begin_ranks(void **state)
{
    cudasim_set_timeout(30000);
    cudasim_nccl_fault(NULL);
    return begin(state);
}

typedef ncclResult_t (*start_fn)(int r);

static ncclResult_t all_reduce(int r)
{
    return ncclAllReduce(ranks[r].in, ranks[r].out, COUNT, ncclFloat, ncclSum, ranks[r].comm,
                         ranks[r].stream);
}
static ncclResult_t reduce_scatter(int r)
{
    return ncclReduceScatter(ranks[r].in, ranks[r].out, COUNT, ncclFloat, ncclMax, ranks[r].comm,
                             ranks[r].stream);
}
static ncclResult_t all_gather(int r)
{
    return ncclAllGather(ranks[r].in, ranks[r].out, COUNT, ncclFloat, ranks[r].comm,
                         ranks[r].stream);
}
static ncclResult_t broadcast(int r)
{
    return ncclBroadcast(ranks[r].in, ranks[r].out, COUNT, ncclFloat, 1, ranks[r].comm,
                         ranks[r].stream);
}
/* All to all, to itself too. */
static ncclResult_t exchange(int r)
{
    assert_int_equal(ncclGroupStart(), ncclSuccess);
    for (int q = 0; q < RANKS; q++) {
        assert_int_equal(
            ncclSend(ranks[r].in + q * COUNT, COUNT, ncclFloat, q, ranks[r].comm, ranks[r].stream),
            ncclSuccess);
        assert_int_equal(
            ncclRecv(ranks[r].out + q * COUNT, COUNT, ncclFloat, q, ranks[r].comm, ranks[r].stream),
            ncclSuccess);
    }
    return ncclGroupEnd();
}

static float sum_at(int r, int i)
{
    (void)r;
    return value_of(0, i) + value_of(1, i);
}
static float largest_at(int r, int i)
{
    return value_of(1, r * COUNT + i);
}
static float gathered_at(int r, int i)
{
    (void)r;
    return value_of(i / COUNT, i % COUNT);
}
static float root_at(int r, int i)
{
    (void)r;
    return value_of(1, i);
}
static float exchanged_at(int r, int i)
{
    return value_of(i / COUNT, r * COUNT + i % COUNT);
}

static void every_collective_is_right_under_every_seed(void **state)
{
    (void)state;
    static const struct {
        start_fn start;
        float (*want)(int r, int i);
        int n;
    } rows[] = {{all_reduce, sum_at, COUNT},
                {reduce_scatter, largest_at, COUNT},
                {all_gather, gathered_at, PARTS},
                {broadcast, root_at, COUNT},
                {exchange, exchanged_at, PARTS}};
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        cudasim_set_seed(seed);
        open_ranks(0);
        for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
            for (int r = 0; r < RANKS; r++)
                launched(rows[k].start(r), r);
            for (int r = 0; r < RANKS; r++) {
                const float *got = result_of(r);
                for (int i = 0; i < rows[k].n; i++)
                    if (got[i] != rows[k].want(r, i))
                        fail_msg("seed %u, row %zu, rank %d: element %d is %g, not %g", seed, k, r,
                                 i, (double)got[i], (double)rows[k].want(r, i));
            }
        }
        close_ranks(RANKS);
    }
}

static void a_buffer_in_flight_is_reported_under_every_seed(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        cudaStream_t other;
        cudasim_set_seed(seed);
        open_ranks(0);
        for (int r = 0; r < RANKS; r++)
            launched(all_reduce(r), r);
        cudaSetDevice(0);
        assert_int_equal(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
        planted_add_one(ranks[0].in, COUNT, other);
        expect_finding("without waiting for ncclAllReduce");
        assert_int_equal(cudaStreamSynchronize(other), cudaSuccess);
        cudaStreamDestroy(other);
        close_ranks(RANKS);
    }
}

static void a_copy_that_waits_for_other_ranks_is_reported(void **state)
{
    (void)state;
    float host;
    open_ranks(0);
    for (int r = 0; r < RANKS; r++)
        launched(all_reduce(r), r);
    cudaSetDevice(0);
    must(
        cudaMemcpyAsync(&host, ranks[0].out, sizeof host, cudaMemcpyDeviceToHost, ranks[0].stream));
    expect_finding("to pageable memory waits for ncclAllReduce");
    assert_true(host == sum_at(0, 0));
    must(
        cudaMemcpyAsync(&host, ranks[0].out, sizeof host, cudaMemcpyDeviceToHost, ranks[0].stream));
    close_ranks(RANKS);
}

static void a_stream_used_while_a_launch_is_in_progress_is_reported(void **state)
{
    (void)state;
    cudaEvent_t done;
    open_ranks(0);
    cudaSetDevice(0);
    assert_int_equal(cudaEventCreateWithFlags(&done, cudaEventDisableTiming), cudaSuccess);
    assert_int_equal(all_reduce(0), ncclInProgress); /* the first one makes connections */
    assert_int_equal(cudaEventRecord(done, ranks[0].stream), cudaSuccess);
    expect_finding("the stream is used while ncclAllReduce on it is in progress");
    assert_int_equal(all_reduce(0), ncclInvalidUsage);
    expect_finding("called while the communicator is in progress");
    cudaEventDestroy(done);
    abort_ranks();
}

static void ranks_that_call_different_things_wait_until_they_are_aborted(void **state)
{
    (void)state;
    cudasim_set_timeout(300);
    open_ranks(0);
    launched(all_reduce(0), 0);
    launched(ncclAllReduce(ranks[1].in, ranks[1].out, COUNT + 1, ncclFloat, ncclSum, ranks[1].comm,
                           ranks[1].stream),
             1);
    assert_int_equal(cudaStreamSynchronize(ranks[0].stream), cudaErrorLaunchTimeout);
    expect_finding("calls something else at this place");
    abort_ranks();
}

static void a_rank_that_never_calls_leaves_the_others_waiting_until_they_abort(void **state)
{
    (void)state;
    open_ranks(0);
    launched(all_reduce(0), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(cudaStreamQuery(ranks[0].stream), cudaErrorNotReady);
    assert_int_equal(ncclCommAbort(ranks[0].comm), ncclSuccess);
    assert_int_equal(cudaStreamSynchronize(ranks[0].stream), cudaSuccess);
    assert_int_equal(ncclCommAbort(ranks[1].comm), ncclSuccess);
    for (int r = 0; r < RANKS; r++)
        close_device(r);
}

static void an_error_in_the_middle_is_told_to_its_rank_only(void **state)
{
    (void)state;
    cudasim_nccl_fault("error@1:2");
    open_ranks(0);
    for (int k = 0; k < 2; k++)
        for (int r = 0; r < RANKS; r++)
            launched(all_reduce(r), r);
    ncclResult_t e = ncclSuccess;
    while (e == ncclSuccess)
        assert_int_equal(ncclCommGetAsyncError(ranks[1].comm, &e), ncclSuccess);
    assert_int_equal(e, ncclSystemError);
    assert_non_null(strstr(ncclGetLastError(ranks[1].comm), "injected"));
    assert_int_equal(cudaStreamQuery(ranks[1].stream), cudaErrorNotReady);
    abort_ranks();
}

static void a_rank_that_never_joins_keeps_the_others_in_progress(void **state)
{
    (void)state;
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclComm_t comm;
    ncclResult_t e;
    config.blocking = 0;
    cudasim_nccl_fault("absent@1");
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    cudaSetDevice(0);
    assert_int_equal(ncclCommInitRankConfig(&comm, RANKS, id, 0, &config), ncclInProgress);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(ncclCommGetAsyncError(comm, &e), ncclSuccess);
        assert_int_equal(e, ncclInProgress);
    }
    assert_int_equal(ncclCommAbort(comm), ncclSuccess);
}

static void two_ranks_on_one_card_are_refused(void **state)
{
    (void)state;
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclComm_t comm[RANKS];
    config.blocking = 0;
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    cudaSetDevice(0);
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(ncclCommInitRankConfig(&comm[r], RANKS, id, r, &config), ncclInProgress);
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(settled(comm[r]), ncclInvalidUsage);
        assert_non_null(strstr(ncclGetLastError(comm[r]), "Duplicate GPU"));
        assert_int_equal(ncclCommAbort(comm[r]), ncclSuccess);
    }
}

static void a_split_orders_its_ranks_by_key(void **state)
{
    (void)state;
    ncclComm_t child[RANKS] = {NULL, NULL};
    ncclResult_t e = ncclSuccess;
    open_ranks(0);
    for (int r = 0; r < RANKS; r++)
        assert_int_equal(ncclCommSplit(ranks[r].comm, 3, -r, &child[r], NULL), ncclInProgress);
    assert_null(child[0]); /* made when the parent is no longer in progress */
    for (int left = RANKS; left;) {
        left = 0;
        for (int r = 0; r < RANKS; r++) {
            assert_int_equal(ncclCommGetAsyncError(ranks[r].comm, &e), ncclSuccess);
            left += e == ncclInProgress;
        }
    }
    for (int r = 0; r < RANKS; r++) {
        int n = 0;
        assert_int_equal(settled(child[r]), ncclSuccess);
        assert_int_equal(ncclCommUserRank(child[r], &n), ncclSuccess);
        assert_int_equal(n, RANKS - 1 - r);
        assert_int_equal(ncclCommAbort(child[r]), ncclSuccess);
    }
    close_ranks(RANKS);
}

static void a_communicator_that_is_gone_is_reported(void **state)
{
    (void)state;
    open_ranks(0);
    abort_ranks();
    assert_int_equal(all_reduce(0), ncclInvalidArgument);
    expect_finding("destroyed or aborted communicator");
}

/* The other process launches, and then waits for something that is no call of CUDA. */
static void other_process(int from_parent)
{
    ncclUniqueId id;
    char c;
    if (read(from_parent, &id, sizeof id) != sizeof id)
        _exit(1);
    cudasim_set_seed(5);
    open_device(1);
    if (ncclCommInitRank(&ranks[1].comm, RANKS, id, 1) != ncclSuccess ||
        all_reduce(1) != ncclSuccess)
        _exit(2);
    if (read(from_parent, &c, 1) != 1 || result_of(1)[17] != sum_at(1, 17))
        _exit(3);
    _exit(cudasim_findings() ? 4 : 0);
}

static void a_process_that_waits_elsewhere_does_its_part(void **state)
{
    (void)state;
    ncclUniqueId id;
    int pipes[2], status = -1;
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0)
        other_process(pipes[0]);
    assert_int_equal(ncclGetUniqueId(&id), ncclSuccess);
    assert_int_equal(write(pipes[1], &id, sizeof id), sizeof id);
    open_device(0);
    assert_int_equal(ncclCommInitRank(&ranks[0].comm, RANKS, id, 0), ncclSuccess);
    assert_int_equal(all_reduce(0), ncclSuccess);
    const float *got = result_of(0);
    for (int i = 0; i < COUNT; i++)
        assert_true(got[i] == sum_at(0, i));
    assert_int_equal(write(pipes[1], "!", 1), 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(ncclCommAbort(ranks[0].comm), ncclSuccess);
    close_device(0);
    close(pipes[0]);
    close(pipes[1]);
}

#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_ranks, nothing_is_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_process_that_waits_elsewhere_does_its_part), /* first: it forks */
        TEST(every_collective_is_right_under_every_seed),
        TEST(a_buffer_in_flight_is_reported_under_every_seed),
        TEST(a_copy_that_waits_for_other_ranks_is_reported),
        TEST(a_stream_used_while_a_launch_is_in_progress_is_reported),
        TEST(ranks_that_call_different_things_wait_until_they_are_aborted),
        TEST(a_rank_that_never_calls_leaves_the_others_waiting_until_they_abort),
        TEST(an_error_in_the_middle_is_told_to_its_rank_only),
        TEST(a_rank_that_never_joins_keeps_the_others_in_progress),
        TEST(two_ranks_on_one_card_are_refused),
        TEST(a_split_orders_its_ranks_by_key),
        TEST(a_communicator_that_is_gone_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
