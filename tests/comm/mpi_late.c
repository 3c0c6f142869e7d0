/* ranks: 2 3 */
/* Data that come in after their sender has said that it is closing, or while it waits in the next
 * call. MPI keeps no order between communicators or senders: here the last rank sees what others
 * sent it late, notices at once. */
#include "tests/check.h"

#include <flambeau/comm/collective.h>
#include <flambeau/comm/mpi.h>
#include <flambeau/core/ops/create.h>

#include "comm/world_priv.h"

enum { DATA_TAGS = 16, MOST = 64 };
static double late_s = 0.2; /* a rank that waits looks around every 0.05 s */
static struct late {
    MPI_Request request;
    double from;
} late[MOST];
static int n_late, rank, size;

int MPI_Irecv(void *buf, int n, MPI_Datatype type, int source, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    int rc = PMPI_Irecv(buf, n, type, source, tag, comm, request);
    if (tag >= DATA_TAGS && rank == size - 1 && n_late < MOST)
        late[n_late++] = (struct late){*request, fbi_now() + late_s};
    return rc;
}

int MPI_Test(MPI_Request *request, int *done, MPI_Status *status)
{
    for (int i = 0; i < n_late; i++) {
        if (late[i].request != *request)
            continue;
        *done = 0;
        if (fbi_now() < late[i].from)
            return MPI_SUCCESS;
        int rc = PMPI_Test(request, done, status);
        if (*done)
            late[i] = late[--n_late];
        return rc;
    }
    return PMPI_Test(request, done, status);
}

/* A sum of few elements, which travel with the signatures, or of many, is the last call. */
static void sum_and_leave(const char *comm, const char *per_node, int64_t n)
{
    setenv("FLAMBEAU_COMM", comm, 1);
    setenv("FLAMBEAU_RANKS_PER_NODE", per_node, 1);
    fb_world *world = fb_world_open_comm(MPI_COMM_WORLD, FB_OPTS(fb_world_options, .threads = 1));
    assert_non_null(world);
    fb_context *ctx = fb_world_context(world);
    {
        FB_SCOPE(ctx);
        fb_tensor *t = fb_full(ctx, FB_F32, FB_SHAPE(n), 1 + rank);
        fb_status status = fb_all_reduce_(fb_world_group(world), t, FB_SUM);
        if (status)
            fail_msg("rank %d: %s", rank, fb_error_message(ctx));
        const float *p = fb_data(t);
        for (int64_t i = 0; i < n; i++)
            assert_true(p[i] == (float)(size * (size + 1) / 2));
    }
    assert_int_equal(fb_world_close(world), FB_OK);
}

static void a_rank_of_the_same_node_may_close_before_its_data_are_in(void **state)
{
    (void)state;
    sum_and_leave("messages", "0", 8);
    sum_and_leave("messages", "0", 100001);
}

static void a_rank_of_another_node_may_close_before_its_data_are_in(void **state)
{
    (void)state;
    sum_and_leave("", "1", 8);
    sum_and_leave("", "1", 100001);
}

/* The last rank still waits for rank 0's data in the first sum, rank 0 waits for it in the second:
 * no circle of waits, whatever the patience with those. The launcher or rank 0 hears of ranks of
 * other nodes every 0.25 s. */
static void sum_twice(const char *comm, const char *per_node)
{
    late_s = 1;
    setenv("FLAMBEAU_STUCK_SECONDS", "0.1", 1);
    setenv("FLAMBEAU_COMM", comm, 1);
    setenv("FLAMBEAU_RANKS_PER_NODE", per_node, 1);
    fb_world *world = fb_world_open_comm(MPI_COMM_WORLD, FB_OPTS(fb_world_options, .threads = 1));
    assert_non_null(world);
    fb_context *ctx = fb_world_context(world);
    {
        FB_SCOPE(ctx);
        fb_tensor *t = fb_full(ctx, FB_F32, FB_SHAPE(8), 1);
        for (int i = 0; i < 2; i++)
            if (fb_all_reduce_(fb_world_group(world), t, FB_SUM))
                fail_msg("rank %d: %s", rank, fb_error_message(ctx));
        assert_true(*(const float *)fb_data(t) == (float)(size * size));
    }
    assert_int_equal(fb_world_close(world), FB_OK);
}

static void late_data_of_the_same_node_are_no_circle_of_waits(void **state)
{
    (void)state;
    sum_twice("messages", "0");
}

static void late_data_of_another_node_are_no_circle_of_waits(void **state)
{
    (void)state;
    sum_twice("", "1");
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rank_of_the_same_node_may_close_before_its_data_are_in),
        cmocka_unit_test(a_rank_of_another_node_may_close_before_its_data_are_in),
        cmocka_unit_test(late_data_of_the_same_node_are_no_circle_of_waits),
        cmocka_unit_test(late_data_of_another_node_are_no_circle_of_waits),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
