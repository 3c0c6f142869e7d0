/* Memory that graphs allocate: right uses are right under every seed, wrong ones are found. */
#include <math.h>

#include "tests/cudasim/planted.h"

static cudaStream_t stream, other;
static float *in, *out; /* persistent: 0, 1, 2 ..., and where results go */

static int open_streams(void **state)
{
    begin(state);
    stream = new_stream();
    other = new_stream();
    in = device_floats();
    out = device_floats();
    return 0;
}

static int close_streams(void **state)
{
    must(cudaDeviceSynchronize());
    must(cudaFree(in));
    must(cudaFree(out));
    must(cudaStreamDestroy(stream));
    must(cudaStreamDestroy(other));
    return nothing_is_left(state);
}

static void capture(void)
{
    must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
}

static cudaGraphExec_t captured(unsigned long long flags)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    must(cudaStreamEndCapture(stream, &graph));
    must(cudaGraphInstantiate(&exec, graph, flags));
    must(cudaGraphDestroy(graph));
    return exec;
}

static float *allocated(void)
{
    float *x = NULL;
    must(cudaMallocAsync((void **)&x, BYTES, stream));
    return x;
}

static void copy(float *to, const float *from)
{
    must(cudaMemcpyAsync(to, from, BYTES, cudaMemcpyDeviceToDevice, stream));
}

/* Every element of out is i + more, or NaN. */
static void expect_out(float more)
{
    float host[N];
    must(cudaStreamSynchronize(stream));
    must(cudaMemcpy(host, out, BYTES, cudaMemcpyDeviceToHost));
    for (int i = 0; i < N; i++)
        assert_true(isnan(more) ? isnan(host[i]) : host[i] == (float)i + more);
}

/* out = in + 1 by way of x, which is the graph's. */
static float *add_one_in_graph(void)
{
    float *x = allocated();
    copy(x, in);
    planted_add_one(x, N, stream);
    copy(out, x);
    return x;
}

static void replays_are_right_under_every_seed(void **state)
{
    (void)state;
    for (unsigned seed = 0; seed < 16; seed++) {
        cudasim_set_seed(seed);
        capture();
        float *x = add_one_in_graph();
        must(cudaFreeAsync(x, stream));
        cudaGraphExec_t exec = captured(0);
        for (int i = 0; i < 3; i++) {
            must(cudaMemsetAsync(out, 0, BYTES, stream));
            must(cudaGraphLaunch(exec, stream));
        }
        must(cudaGraphExecDestroy(exec)); /* although it has not run yet */
        expect_out(1);
        assert_int_equal(cudasim_findings(), 0);
    }
}

static void nothing_is_left_from_the_launch_before(void **state)
{
    (void)state;
    capture();
    float *x = allocated();
    copy(out, x);
    copy(x, in);
    must(cudaFreeAsync(x, stream));
    cudaGraphExec_t exec = captured(0);
    for (int i = 0; i < 2; i++) {
        must(cudaGraphLaunch(exec, stream));
        expect_out(NAN);
    }
    must(cudaGraphExecDestroy(exec));
}

static void memory_that_a_graph_does_not_free_outlives_it(void **state)
{
    (void)state;
    capture();
    float *x = add_one_in_graph();
    cudaGraphExec_t exec = captured(0);
    must(cudaGraphLaunch(exec, stream));
    planted_add_one(x, N, stream);
    copy(out, x);
    must(cudaGraphExecDestroy(exec));
    must(cudaFreeAsync(x, stream));
    expect_out(2);
    planted_add_one(x, N, stream);
    expect_finding("use after free");
}

static void a_launch_fails_while_memory_of_the_last_is_there(void **state)
{
    (void)state;
    capture();
    float *x = add_one_in_graph();
    cudaGraphExec_t exec = captured(0);
    must(cudaGraphLaunch(exec, stream));
    assert_int_equal(cudaGraphLaunch(exec, stream), cudaErrorInvalidValue);
    expect_finding("is still there from the launch before: free it first");
    must(cudaFreeAsync(x, stream));
    must(cudaGraphLaunch(exec, stream));
    expect_out(1);
    must(cudaFree(x));
    must(cudaGraphExecDestroy(exec));
}

static void a_graph_can_free_what_its_last_launch_left(void **state)
{
    (void)state;
    capture();
    float *x = add_one_in_graph();
    cudaGraphExec_t exec = captured(cudaGraphInstantiateFlagAutoFreeOnLaunch);
    for (int i = 0; i < 3; i++)
        must(cudaGraphLaunch(exec, stream));
    expect_out(1);
    must(cudaFreeAsync(x, stream));
    must(cudaGraphExecDestroy(exec));
}

static void one_graph_frees_what_another_allocates(void **state)
{
    (void)state;
    capture();
    float *x = add_one_in_graph();
    cudaGraphExec_t makes = captured(0);
    capture();
    copy(out, x);
    must(cudaFreeAsync(x, stream));
    cudaGraphExec_t frees = captured(0);
    for (int i = 0; i < 2; i++) {
        must(cudaGraphLaunch(makes, stream));
        must(cudaGraphLaunch(frees, stream));
        expect_out(1);
    }
    assert_int_equal(cudaGraphLaunch(frees, stream), cudaErrorInvalidValue);
    expect_finding("which is not allocated");
    must(cudaGraphExecDestroy(makes));
    must(cudaGraphExecDestroy(frees));
}

static void memory_of_a_graph_is_not_there_between_its_launches(void **state)
{
    (void)state;
    capture();
    float *x = add_one_in_graph();
    must(cudaFreeAsync(x, stream));
    cudaGraphExec_t exec = captured(0);
    must(cudaGraphLaunch(exec, stream));
    must(cudaStreamSynchronize(stream));
    planted_add_one(x, N, stream);
    expect_finding("is memory of a graph, which has it from its cudaMallocAsync to its");
    assert_int_equal(cudaFreeAsync(x, stream), cudaErrorInvalidValue);
    expect_finding("double free");
    must(cudaGraphExecDestroy(exec));
}

static void a_use_after_the_free_in_a_graph_is_found(void **state)
{
    (void)state;
    capture();
    float *x = allocated();
    must(cudaFreeAsync(x, stream));
    planted_add_one(x, N, stream);
    expect_finding("used after its cudaFreeAsync in the graph");
    must(cudaGraphExecDestroy(captured(0)));
}

static void a_use_that_does_not_follow_the_allocation_is_found(void **state)
{
    (void)state;
    capture();
    follow(other, stream); /* too early */
    float *x = allocated();
    planted_add_one(x, N, other);
    expect_finding("but this does not follow its cudaMallocAsync");
    follow(stream, other);
    must(cudaGraphExecDestroy(captured(0)));
}

static void a_free_that_does_not_wait_is_found(void **state)
{
    (void)state;
    capture();
    float *x = allocated();
    follow(other, stream);
    planted_add_one(x, N, other);
    must(cudaFreeAsync(x, stream));
    expect_finding("is freed in the graph without waiting for add_one");
    follow(stream, other);
    must(cudaGraphExecDestroy(captured(0)));
}

static void a_capture_frees_only_memory_of_graphs_and_only_once(void **state)
{
    (void)state;
    float *x;
    must(cudaMallocAsync((void **)&x, BYTES, stream));
    capture();
    assert_int_equal(cudaFreeAsync(x, stream), cudaErrorInvalidValue);
    expect_finding("is not memory of a graph");
    float *y = allocated();
    must(cudaFreeAsync(y, stream));
    assert_int_equal(cudaFreeAsync(y, stream), cudaErrorInvalidValue);
    expect_finding("double free");
    must(cudaGraphExecDestroy(captured(0)));
    must(cudaFreeAsync(x, stream));
}

static void a_graph_with_memory_has_one_instance(void **state)
{
    (void)state;
    cudaGraph_t graph;
    cudaGraphExec_t first, second;
    capture();
    must(cudaFreeAsync(allocated(), stream));
    must(cudaStreamEndCapture(stream, &graph));
    must(cudaGraphInstantiate(&first, graph, 0));
    assert_int_equal(cudaGraphInstantiate(&second, graph, 0), cudaErrorNotSupported);
    expect_finding("has one instance at a time");
    must(cudaGraphExecDestroy(first));
    must(cudaGraphInstantiate(&second, graph, 0));
    must(cudaGraphExecDestroy(second));
    must(cudaGraphDestroy(graph));
}

static void a_launch_that_does_not_wait_for_the_free_is_found(void **state)
{
    (void)state;
    capture();
    float *x = add_one_in_graph();
    cudaGraphExec_t exec = captured(0);
    must(cudaGraphLaunch(exec, stream));
    follow(other, stream);
    must(cudaFreeAsync(x, other));
    must(cudaGraphLaunch(exec, stream));
    expect_finding("without waiting for cudaFreeAsync queued on another stream");
    must(cudaStreamSynchronize(other));
    cudaStreamSynchronize(stream);
    cudasim_clear();
    must(cudaFree(x));
    must(cudaGraphExecDestroy(exec));
}

#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_streams, close_streams)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(replays_are_right_under_every_seed),
        TEST(nothing_is_left_from_the_launch_before),
        TEST(memory_that_a_graph_does_not_free_outlives_it),
        TEST(a_launch_fails_while_memory_of_the_last_is_there),
        TEST(a_graph_can_free_what_its_last_launch_left),
        TEST(one_graph_frees_what_another_allocates),
        TEST(memory_of_a_graph_is_not_there_between_its_launches),
        TEST(a_use_after_the_free_in_a_graph_is_found),
        TEST(a_use_that_does_not_follow_the_allocation_is_found),
        TEST(a_free_that_does_not_wait_is_found),
        TEST(a_capture_frees_only_memory_of_graphs_and_only_once),
        TEST(a_graph_with_memory_has_one_instance),
        TEST(a_launch_that_does_not_wait_for_the_free_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
