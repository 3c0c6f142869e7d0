/* ranks: 1 2 3
 * A job whose run directory or folder of checkpoints another one has taken writes no more there. */
#include <flambeau/comm/mpi.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/io/checkpoint.h>
#include <flambeau/io/memory.h>

#include "comm/group_priv.h"
#include "io/lease_priv.h"
#include "tests/io/io_test_priv.h"

static char folder[64], run[64]; /* the same on every rank */

static void share(fb_world *world, char path[64])
{
    if (fb_world_root(world))
        make_folder(path);
    assert_int_equal(fbi_group_broadcast(fb_world_group(world), "test", path, 64, 0), FB_OK);
}

/* A job saves, another takes the folder or the run directory, the first may not save again, nor
 * (one rank) begin with copies in memory. */
static void try(fb_world *world, const char *taken)
{
    fb_context *ctx = fb_world_context(world);
    int64_t value = 1;
    fb_state *state = fb_state_open(ctx);
    fb_state_add(state, "value", &value);
    fb_module *model = fb_nn_linear(ctx, 2, 2, NULL);
    fb_optimizer *opt = fb_optim_sgd(ctx, model, NULL); /* it knows the step */
    fb_state_add_module(state, "model", model);
    fb_state_add_optimizer(state, "optimizer", opt);
    assert_int_equal(fb_checkpoint_save(world, folder, state), FB_OK);
    if (fb_world_root(world)) {
        assert_int_equal(fbi_lease_saved(run), 0);
        fbi_lease newer;
        assert_true(fbi_lease_take(taken, &newer));
    }
    value = 2;
    fb_status (*again)(fb_world *, const char *, fb_state *) =
        fb_world_size(world) == 1 ? fb_checkpoint_remember : fb_checkpoint_save;
    assert_int_not_equal(again(world, folder, state), FB_OK);
    char text[512];
    fb_status st = fb_error_take(ctx, text, sizeof text);
    assert_int_equal(st, fb_world_root(world) ? FB_E_STATE : FB_E_COMM);
    assert_non_null(strstr(text, taken));
    assert_non_null(strstr(text, "has taken over (generation 2"));
    if (fb_world_root(world)) {
        int n;
        free(fbi_checkpoint_list(folder, &n));
        assert_int_equal(n, 1); /* the first one, and nothing of the second */
        char path[128];
        assert_true(fb_checkpoint_latest(folder, path, sizeof path));
        assert_int_equal(fbi_lease_saved(run), 0);
    }
    fb_state_close(state);
    fb_optim_close(opt);
    fb_nn_close(model);
}

/* A world has ended its collectives after the first error: one case a process. It is a guest, so
 * that MPI can still be left in order. */
int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    fb_world *world = fb_world_open_comm(MPI_COMM_WORLD, NULL);
    share(world, folder);
    share(world, run);
    bool whole_run = fb_world_size(world) != 2; /* the run directory, or the folder */
    if (fb_world_root(world)) {
        fbi_lease own;
        char lease[64];
        assert_true(fbi_lease_take(run, &own));
        snprintf(lease, sizeof lease, "%lld %s", (long long)own.generation, own.id);
        setenv(FBI_RUN_LEASE, lease, 1);
        setenv(FBI_RUN_DIR, run, 1);
    }
    try(world, whole_run ? run : folder);
    fb_world_close(world); /* of a world with an error: not FB_OK */
    MPI_Barrier(MPI_COMM_WORLD);
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0) {
        remove_folder(folder);
        remove_folder(run);
    }
    return MPI_Finalize();
}
