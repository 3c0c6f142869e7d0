/* Places of a mesh, for nodes as launchers fill them. */
#include "tests/check.h"

#include "comm/mesh_priv.h"

enum { MOST = 64 };

/* How many groups of an axis lie on more than one node. */
static int crossing(const int *node, int n_ranks, const int *sizes, int n, int axis,
                    const int *ranks)
{
    int stride = 1, crossing = 0;
    for (int i = axis + 1; i < n; i++)
        stride *= sizes[i];
    for (int p = 0; p < n_ranks; p++) {
        if (p / stride % sizes[axis])
            continue;
        bool several = false;
        for (int k = 1; k < sizes[axis]; k++)
            several = several || node[ranks[p + k * stride]] != node[ranks[p]];
        crossing += several;
    }
    return crossing;
}

static void place(const int *node, int n_ranks, const int *sizes, int n, int *ranks)
{
    bool seen[MOST] = {false};
    assert_true(fbi_mesh_place(node, n_ranks, sizes, n, ranks));
    for (int p = 0; p < n_ranks; p++) {
        assert_in_range(ranks[p], 0, n_ranks - 1);
        assert_false(seen[ranks[p]]);
        seen[ranks[p]] = true;
    }
}

static void ranks_that_fill_nodes_in_order_stay_in_order(void **state)
{
    (void)state;
    static const int node[8] = {0, 0, 0, 0, 1, 1, 1, 1};
    int ranks[8];
    place(node, 8, (const int[]){4, 2}, 2, ranks);
    for (int p = 0; p < 8; p++)
        assert_int_equal(ranks[p], p);
    place(node, 8, (const int[]){8}, 1, ranks);
    for (int p = 0; p < 8; p++)
        assert_int_equal(ranks[p], p);
}

/* mpirun --map-by node: rank r is on node r % 2. */
static void ranks_dealt_out_to_nodes_are_brought_together(void **state)
{
    (void)state;
    static const int node[8] = {0, 1, 0, 1, 0, 1, 0, 1}, sizes[3] = {2, 2, 2};
    static const int want[8] = {0, 2, 4, 6, 1, 3, 5, 7};
    int ranks[8];
    place(node, 8, sizes, 3, ranks);
    assert_memory_equal(ranks, want, sizeof want);
    assert_int_equal(crossing(node, 8, sizes, 3, 2, ranks), 0);
    assert_int_equal(crossing(node, 8, sizes, 3, 1, ranks), 0);
    assert_int_equal(crossing(node, 8, sizes, 3, 0, ranks), 4);
}

/* Two nodes of three: with pairs in order, ranks 2 and 3 would be one, and so would no other. */
static void only_what_is_left_over_lies_on_several_nodes(void **state)
{
    (void)state;
    static const int node[6] = {0, 0, 0, 1, 1, 1}, sizes[2] = {3, 2};
    static const int want[6] = {0, 1, 3, 4, 2, 5};
    int ranks[6];
    place(node, 6, sizes, 2, ranks);
    assert_memory_equal(ranks, want, sizeof want);
    assert_int_equal(crossing(node, 6, sizes, 2, 1, ranks), 1);
}

/* Nodes of 5, 7 and 4 ranks, groups of 4: 1 + 1 + 1 whole ones fit, and no placement has more. */
static void as_many_groups_as_can_be_are_in_a_node(void **state)
{
    (void)state;
    int node[16], sizes[2] = {4, 4}, ranks[16];
    for (int r = 0; r < 16; r++)
        node[r] = r < 5 ? 0 : r < 12 ? 1 : 2;
    place(node, 16, sizes, 2, ranks);
    assert_int_equal(crossing(node, 16, sizes, 2, 1, ranks), 1);
}

/* Every way of dealing 6 ranks out to 3 nodes, in pairs: the last axis crosses no more than it
 * must. */
static void no_dealing_makes_a_busy_group_cross_without_need(void **state)
{
    (void)state;
    static const int sizes[2] = {3, 2};
    for (int code = 0; code < 729; code++) {
        int node[6], count[3] = {0}, ranks[6], fit = 0;
        for (int r = 0, c = code; r < 6; r++, c /= 3)
            count[node[r] = c % 3]++;
        for (int k = 0; k < 3; k++)
            fit += count[k] / 2;
        place(node, 6, sizes, 2, ranks);
        assert_int_equal(crossing(node, 6, sizes, 2, 1, ranks), 3 - fit);
    }
}

static void sizes_are_filled_in_or_refused(void **state)
{
    (void)state;
    int open[3] = {2, 0, 3};
    assert_true(fbi_mesh_fit(open, 3, 24));
    assert_int_equal(open[1], 4);
    assert_true(fbi_mesh_fit((int[]){1, 0}, 2, 1));
    assert_true(fbi_mesh_fit((int[]){2, 4}, 2, 8));
    assert_false(fbi_mesh_fit((int[]){2, 3}, 2, 8));
    assert_false(fbi_mesh_fit((int[]){3, 0}, 2, 8));
    assert_false(fbi_mesh_fit((int[]){16, 0}, 2, 8));
    assert_false(fbi_mesh_fit((int[]){1 << 30, 1 << 30, 1 << 30, 0}, 4, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_that_fill_nodes_in_order_stay_in_order),
        cmocka_unit_test(ranks_dealt_out_to_nodes_are_brought_together),
        cmocka_unit_test(only_what_is_left_over_lies_on_several_nodes),
        cmocka_unit_test(as_many_groups_as_can_be_are_in_a_node),
        cmocka_unit_test(no_dealing_makes_a_busy_group_cross_without_need),
        cmocka_unit_test(sizes_are_filled_in_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
