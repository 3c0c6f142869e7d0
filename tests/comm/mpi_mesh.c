/* ranks: 1 4 6 */
/* Meshes on one node and on pretended ones: coordinates, groups along axes, the map, mistakes. */
#include "tests/check.h"

#include <unistd.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/mesh.h>
#include <flambeau/comm/mpi.h>
#include <flambeau/core/ops/create.h>

static fb_world *world;
static fb_context *ctx;
static int rank, size;

static bool open_world(const char *per_node)
{
    setenv("FLAMBEAU_RANKS_PER_NODE", per_node, 1);
    world = fb_world_open_comm(MPI_COMM_WORLD, FB_OPTS(fb_world_options, .threads = 1));
    ctx = fb_world_context(world);
    rank = fb_world_rank(world);
    size = fb_world_size(world);
    return world != NULL;
}

/* What a group's ranks have, as one number: rank r of the world has bit r. */
static int64_t members(fb_group *group)
{
    FB_SCOPE(ctx);
    fb_tensor *t = fb_full(ctx, FB_I64, FB_SCALAR, (double)(1 << rank));
    assert_int_equal(fb_all_reduce_(group, t, FB_SUM), FB_OK);
    return fb_item_int(t);
}

static void every_axis_has_its_groups(void **state)
{
    (void)state;
    int last = size % 2 ? 1 : 2;
    fb_mesh *mesh = fb_mesh_open(world, (fb_axis[]){{"data", 0}, {"tensor", last}}, 2);
    assert_non_null(mesh);
    int d = fb_mesh_coord(mesh, "data"), t = fb_mesh_coord(mesh, "tensor");
    assert_int_equal(fb_mesh_size(mesh, "data"), size / last);
    assert_int_equal(fb_mesh_size(mesh, "tensor"), last);
    assert_int_equal(fb_mesh_rank(mesh, (int[]){d, t}, 2), rank);
    int64_t along_data = 0, along_tensor = 0;
    for (int k = 0; k < size / last; k++)
        along_data |= 1 << fb_mesh_rank(mesh, (int[]){k, t}, 2);
    for (int k = 0; k < last; k++)
        along_tensor |= 1 << fb_mesh_rank(mesh, (int[]){d, k}, 2);
    assert_int_equal(members(fb_mesh_group(mesh, "data")), along_data);
    assert_int_equal(members(fb_mesh_group(mesh, "tensor")), along_tensor);
    assert_int_equal(fb_group_rank(fb_mesh_group(mesh, "data")), d);
    assert_int_equal(fb_group_rank(fb_mesh_group(mesh, "tensor")), t);
    assert_int_equal(fb_mesh_close(mesh), FB_OK);
}

/* Sums along one axis, then along the other, are sums over all: the grid has no holes. */
static void three_axes_divide_the_ranks(void **state)
{
    (void)state;
    fb_mesh *mesh = fb_mesh_open(
        world, (fb_axis[]){{"pipeline", 1}, {"data", 0}, {"tensor", size % 2 ? 1 : 2}}, 3);
    assert_non_null(mesh);
    FB_SCOPE(ctx);
    fb_tensor *t = fb_full(ctx, FB_I64, FB_SHAPE(3), (double)(1 << rank));
    const char *const axes[] = {"tensor", "pipeline", "data"};
    for (int i = 0; i < 3; i++)
        assert_int_equal(fb_all_reduce_(fb_mesh_group(mesh, axes[i]), t, FB_SUM), FB_OK);
    assert_int_equal(((const int64_t *)check_data(t))[2], (1 << size) - 1);
    /* left to the world */
}

static void the_map_says_who_is_where(void **state)
{
    (void)state;
    if (size != 6)
        return;
    char map[2048], host[64] = "", want[2048];
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    fb_mesh *mesh = fb_mesh_open(world, (fb_axis[]){{"data", 0}, {"tensor", 2}}, 2);
    assert_non_null(mesh);
    int nodes = size / fb_world_local_size(world);
    if (nodes == 2) /* nodes of three */
        snprintf(want, sizeof want,
                 "mesh data 3 x tensor 2: 6 ranks on 2 nodes; data crosses nodes, tensor crosses "
                 "nodes\n"
                 "data 0, tensor 0-1: ranks 0 1 on node 0 (%s)\n"
                 "data 1, tensor 0-1: ranks 3 4 on node 1 (%s)\n"
                 "data 2, tensor 0-1: ranks 2 on node 0 (%s), 5 on node 1 (%s)\n",
                 host, host, host, host);
    else
        snprintf(want, sizeof want,
                 "mesh data 3 x tensor 2: 6 ranks on %d node%s; data %s, tensor within a node\n"
                 "data 0, tensor 0-1: ranks 0 1 on node 0 (%s)\n"
                 "data 1, tensor 0-1: ranks 2 3 on node %d (%s)\n"
                 "data 2, tensor 0-1: ranks 4 5 on node %d (%s)\n",
                 nodes, nodes == 1 ? "" : "s", nodes == 1 ? "within a node" : "crosses nodes", host,
                 nodes == 1 ? 0 : 1, host, nodes == 1 ? 0 : 2, host);
    int64_t n = fb_mesh_to_string(mesh, map, sizeof map);
    assert_string_equal(map, want);
    assert_int_equal(n, strlen(want));
    assert_int_equal(fb_mesh_to_string(mesh, map, 10), n);
    assert_string_equal(map, "mesh data");
    assert_int_equal(fb_mesh_to_string(mesh, NULL, 0), n);
    assert_int_equal(fb_mesh_print(mesh), FB_OK);
    assert_int_equal(fb_mesh_close(mesh), FB_OK);
}

static void refused(const fb_axis *axes, int n, const char *words)
{
    assert_null(fb_mesh_open(world, axes, n));
    check_error(ctx, FB_E_ARG, words);
}

static void axes_that_do_not_fit_are_named(void **state)
{
    (void)state;
    char words[128];
    snprintf(words, sizeof words,
             "mesh_open: data 7 x tensor 3 does not divide the world's %d rank", size);
    refused((fb_axis[]){{"data", 7}, {"tensor", 3}}, 2, words);
    snprintf(words, sizeof words, "mesh_open: data x tensor 7 does not divide the world's %d",
             size);
    refused((fb_axis[]){{"data", 0}, {"tensor", 7}}, 2, words);
    refused((fb_axis[]){{"data", 0}, {"data", 1}}, 2, "mesh_open: two axes have the name data");
    refused((fb_axis[]){{"data", 0}, {"tensor", 0}}, 2,
            "mesh_open: axes data and tensor have size 0: one of them at most");
    refused((fb_axis[]){{"data", -2}}, 1, "mesh_open: axis data has size -2: give the number");
    refused((fb_axis[]){{NULL, 2}}, 1, "mesh_open: axis 0 has no name");
    refused((fb_axis[]){{"", 2}}, 1, "mesh_open: axis 0 has no name");
    refused((fb_axis[]){{"a name that has more than 31 bytes", 0}}, 1,
            "axis 0 has too long a name");
    refused((fb_axis[]){{"data", 0}}, 9, "mesh_open: 9 axes: a mesh has 1 to 8");
    refused((fb_axis[]){{"data", 0}}, 0, "mesh_open: 0 axes: a mesh has 1 to 8");
    refused(NULL, 2, "mesh_open: 0 axes: a mesh has 1 to 8");
}

static void questions_about_what_is_not_there_are_errors(void **state)
{
    (void)state;
    fb_mesh *mesh = fb_mesh_open(world, (fb_axis[]){{"data", 0}, {"tensor", 1}}, 2);
    assert_non_null(mesh);
    assert_null(fb_mesh_group(mesh, "tensr"));
    check_error(ctx, FB_E_ARG, "mesh_group: no axis tensr: the mesh is data ");
    assert_null(fb_mesh_group(mesh, NULL));
    check_error(ctx, FB_E_ARG, "mesh_group: no axis without a name: the mesh is data ");
    assert_int_equal(fb_mesh_coord(mesh, "x"), 0);
    check_error(ctx, FB_E_ARG, "mesh_coord: no axis x");
    assert_int_equal(fb_mesh_size(mesh, "x"), 1);
    check_error(ctx, FB_E_ARG, "mesh_size: no axis x");
    assert_int_equal(fb_mesh_rank(mesh, (int[]){size, 0}, 2), -1);
    check_error(ctx, FB_E_ARG, "mesh_rank: data is ");
    assert_int_equal(fb_mesh_rank(mesh, (int[]){0}, 1), -1);
    check_error(ctx, FB_E_ARG, "mesh_rank: 1 coordinates: the mesh has 2 axes");
    assert_int_equal(fb_mesh_rank(mesh, NULL, 2), -1);
    check_error(ctx, FB_E_ARG, "mesh_rank: 0 coordinates");
    assert_int_equal(fb_mesh_close(mesh), FB_OK);
    assert_null(fb_mesh_open(NULL, (fb_axis[]){{"data", 0}}, 1));
    assert_null(fb_mesh_group(NULL, "data"));
    assert_int_equal(fb_mesh_coord(NULL, "data"), 0);
    assert_int_equal(fb_mesh_size(NULL, "data"), 1);
    assert_int_equal(fb_mesh_rank(NULL, NULL, 0), -1);
    assert_int_equal(fb_mesh_to_string(NULL, NULL, 0), 0);
    assert_int_equal(fb_mesh_print(NULL), FB_E_ARG);
    assert_int_equal(fb_mesh_close(NULL), FB_E_ARG);
}

static void ranks_that_want_other_axes_are_told_apart(void **state)
{
    (void)state;
    if (size == 1)
        return;
    fb_axis axes[] = {{"data", 0}, {rank == 1 ? "model" : "tensor", 1}};
    char words[160];
    snprintf(words, sizeof words, ") wants data %d x model 1, rank 0 wants data %d x tensor 1",
             size, size);
    assert_null(fb_mesh_open(world, axes, 2));
    check_error(ctx, FB_E_COMM, words);
    fb_mesh *mesh = fb_mesh_open(world, (fb_axis[]){{"data", 0}}, 1); /* the world goes on */
    assert_non_null(mesh);
    assert_int_equal(members(fb_mesh_group(mesh, "data")), (1 << size) - 1);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_axis_has_its_groups),
        cmocka_unit_test(three_axes_divide_the_ranks),
        cmocka_unit_test(the_map_says_who_is_where),
        cmocka_unit_test(axes_that_do_not_fit_are_named),
        cmocka_unit_test(questions_about_what_is_not_there_are_errors),
        cmocka_unit_test(ranks_that_want_other_axes_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    static const char *const nodes[] = {"0", "2", "3"};
    int failed = 0;
    MPI_Init(&argc, &argv);
    for (int i = 0; i < 3; i++) {
        failed += !open_world(nodes[i]);
        failed += world ? run_all() + (fb_world_close(world) != FB_OK) : 0;
    }
    MPI_Finalize();
    return failed != 0;
}
