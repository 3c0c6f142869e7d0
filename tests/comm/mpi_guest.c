/* ranks: 1 2 3
 * A guest leaves its host alone: MPI, signal handlers, affinity, rounding and denormal modes,
 * stderr. */
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/mpi.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/optim/optim.h>
#include <flambeau/parallel/ddp.h>

#include "tests/check.h"

static void hosts_handler(int number)
{
    (void)number;
}

/* The control and status word of the vector unit; 0 where there is none. */
static unsigned float_mode(void)
{
    unsigned mode = 0;
#if defined(__x86_64__)
    mode = __builtin_ia32_stmxcsr() & ~0x3fu; /* without the sticky flags */
#endif
    return mode;
}

static void set_float_mode(unsigned mode)
{
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr(mode);
#endif
    (void)mode;
}

typedef struct host {
    struct sigaction term, usr1;
    cpu_set_t cores;
    unsigned mode;
} host;

static host look(void)
{
    host h;
    memset(&h, 0, sizeof h);
    sigaction(SIGTERM, NULL, &h.term);
    sigaction(SIGUSR1, NULL, &h.usr1);
    sched_getaffinity(0, sizeof h.cores, &h.cores);
    h.mode = float_mode();
    return h;
}

static void check_host(const host *before)
{
    host now = look();
    assert_ptr_equal(now.term.sa_handler, before->term.sa_handler);
    assert_ptr_equal(now.usr1.sa_handler, before->usr1.sa_handler);
    assert_true(CPU_EQUAL(&now.cores, &before->cores));
    assert_int_equal(now.mode, before->mode);
}

static void a_training_step(fb_world *world)
{
    fb_context *ctx = fb_world_context(world);
    FB_SCOPE(ctx);
    fb_module *m = fb_nn_linear(ctx, 8, 8, NULL);
    fb_optimizer *opt = fb_optim_adam(ctx, m, NULL);
    assert_int_equal(fb_ddp_attach(fb_world_group(world), m, NULL), FB_OK);
    fb_tensor *y = fb_nn_forward(m, fb_randn(ctx, FB_F32, FB_SHAPE(4, 8)));
    fb_backward(fb_mean(fb_mul(y, y), FB_ALL, false));
    fb_optim_step(opt);
    check_ok(ctx);
}

static void the_host_finds_everything_as_it_was(void **state)
{
    (void)state;
    signal(SIGTERM, hosts_handler);
    set_float_mode(float_mode() |
                   0x8040u); /* flush to zero, denormals are zero: the host's choice */
    host before = look();
    for (int i = 0; i < 2; i++) {
        fb_world *world =
            fb_world_open_f(MPI_Comm_c2f(MPI_COMM_WORLD), FB_OPTS(fb_world_options, .threads = 1));
        assert_non_null(world);
        check_host(&before);
        a_training_step(world);
        check_host(&before);
        assert_int_equal(fb_world_close(world), FB_OK);
        check_host(&before);
    }
    set_float_mode(float_mode() & ~0x8040u);
    signal(SIGTERM, SIG_DFL);
}

static void the_host_goes_on_with_mpi(void **state)
{
    (void)state;
    int size, over = 1, one = 1, sum = 0, waiting = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Finalized(&over);
    assert_false(over);
    MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    assert_int_equal(sum, size);
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &waiting, MPI_STATUS_IGNORE);
    assert_false(waiting);
}

static void an_error_is_a_status_and_nothing_on_stderr(void **state)
{
    (void)state;
    char name[] = "/tmp/guest-XXXXXX";
    int file = mkstemp(name), stderr_was = dup(2);
    unlink(name);
    dup2(file, 2);
    fb_world *world = fb_world_open_comm(MPI_COMM_WORLD, NULL);
    fb_fail(fb_world_context(world), FB_E_USER, "the model has not converged");
    fb_status status = fb_world_close(world);
    dup2(stderr_was, 2);
    struct stat st;
    fstat(file, &st);
    close(file);
    assert_int_equal(status, FB_E_USER);
    assert_int_equal(st.st_size, 0);
}

static void keep_line(const char *line, void *user)
{
    snprintf(user, 256, "%s", line);
}

static void a_log_function_gets_the_lines(void **state)
{
    (void)state;
    char line[256] = "";
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    fb_world *world = fb_world_open_comm(
        MPI_COMM_WORLD, FB_OPTS(fb_world_options, .log = keep_line, .log_user = line));
    fb_fail(fb_world_context(world), FB_E_USER, "the model has not converged");
    assert_int_equal(fb_world_close(world), FB_E_USER);
    fb_log_set(NULL, NULL);
    assert_true(rank || strstr(line, "the model has not converged"));
}

/* Part of the numerics: it must not depend on what a node's environment says. */
static void all_ranks_round_to_tf32_or_none_as_rank_0_says(void **state)
{
    (void)state;
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (int i = 0; i < 2; i++) {
        fb_world *world = fb_world_open_comm(
            MPI_COMM_WORLD, FB_OPTS(fb_world_options, .allow_tf32 = (rank == 0) == (i == 0)));
        assert_int_equal(fb_context_allows_tf32(fb_world_context(world)), i == 0);
        assert_int_equal(fb_world_close(world), FB_OK);
    }
}

/* A rank's error while others wait is an error on all; the host's processes live on. */
static void ranks_that_disagree_are_told_and_live_on(void **state)
{
    (void)state;
    int size, rank;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    fb_world *world = fb_world_open_comm(MPI_COMM_WORLD, NULL);
    fb_context *ctx = fb_world_context(world);
    if (size > 1) {
        FB_SCOPE(ctx);
        fb_all_reduce_(fb_world_group(world), fb_zeros(ctx, FB_F32, FB_SHAPE(10 + (rank == 1))),
                       FB_SUM);
        assert_int_equal(fb_status_of(ctx), FB_E_COMM);
        assert_non_null(strstr(fb_error_message(ctx), "wants F32 [11]"));
    }
    assert_int_equal(fb_world_close(world), size > 1 ? FB_E_COMM : FB_OK);
    the_host_goes_on_with_mpi(state);
}

static void hosts_error(MPI_Comm *comm, int *code, ...)
{
    (void)comm;
    (void)code;
}

/* The host's communicator keeps its handler, and the world's communicator MPI's. */
static void the_hosts_error_handlers_stay(void **state)
{
    (void)state;
    MPI_Errhandler mine, found;
    MPI_Comm_create_errhandler(hosts_error, &mine);
    MPI_Comm comm;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, mine);
    fb_world *world = fb_world_open_comm(comm, NULL);
    a_training_step(world);
    for (int closed = 0; closed < 2; closed++) {
        MPI_Comm_get_errhandler(comm, &found);
        assert_true(found == mine);
        MPI_Errhandler_free(&found);
        MPI_Comm_get_errhandler(MPI_COMM_WORLD, &found);
        assert_true(found == MPI_ERRORS_ARE_FATAL);
        MPI_Errhandler_free(&found);
        if (!closed)
            assert_int_equal(fb_world_close(world), FB_OK);
    }
    MPI_Errhandler_free(&mine);
    MPI_Comm_free(&comm);
}

/* Odd and even ranks, each half in reverse order, are worlds of their own; the handle is Fortran's.
 */
static void a_part_of_the_host_is_a_world(void **state)
{
    (void)state;
    int size, rank, sub;
    MPI_Comm part;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, -rank, &part);
    MPI_Comm_rank(part, &sub);
    fb_world *world = fb_world_open_f(MPI_Comm_c2f(part), NULL);
    MPI_Comm_free(&part); /* the world has a duplicate */
    assert_int_equal(fb_world_rank(world), sub);
    int members = (size + 1 - rank % 2) / 2;
    assert_int_equal(fb_world_size(world), members);
    fb_context *ctx = fb_world_context(world);
    {
        FB_SCOPE(ctx);
        float mine = (float)rank;
        fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(1), &mine);
        fb_all_reduce_(fb_world_group(world), t, FB_SUM);
        assert_true(fb_item(t) == (double)(members * (members - 1) + members * (rank % 2)));
    }
    a_training_step(world);
    assert_int_equal(fb_world_close(world), FB_OK);
    the_host_goes_on_with_mpi(state);
}

/* Two worlds of one host live side by side, and close in any order. */
static void worlds_close_in_any_order(void **state)
{
    (void)state;
    fb_world *first = fb_world_open_comm(MPI_COMM_WORLD, NULL);
    fb_world *second = fb_world_open_comm(MPI_COMM_WORLD, NULL);
    a_training_step(second);
    a_training_step(first);
    assert_int_equal(fb_world_close(first), FB_OK);
    a_training_step(second);
    assert_int_equal(fb_world_close(second), FB_OK);
    the_host_goes_on_with_mpi(state);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_host_finds_everything_as_it_was),
        cmocka_unit_test(the_host_goes_on_with_mpi),
        cmocka_unit_test(an_error_is_a_status_and_nothing_on_stderr),
        cmocka_unit_test(a_log_function_gets_the_lines),
        cmocka_unit_test(all_ranks_round_to_tf32_or_none_as_rank_0_says),
        cmocka_unit_test(ranks_that_disagree_are_told_and_live_on),
        cmocka_unit_test(the_hosts_error_handlers_stay),
        cmocka_unit_test(a_part_of_the_host_is_a_world),
        cmocka_unit_test(worlds_close_in_any_order),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    MPI_Finalize();
    return failed;
}
