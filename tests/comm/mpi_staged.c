/* ranks: 4 6 */
/* Sums over nodes: one of all ranks, two, and as many as there are ranks. All have the bits of one
 * host that adds everything up, and so the same. */
#include "tests/check.h"

#include <flambeau/comm/mpi.h>

#include "tests/comm/sums.h"

static fb_group *all;

static void sums_have_the_bits_of_one_host(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 3, 1029, 4096, 9001, 70003};
    for (int i = 0; i < 6; i++)
        all_dtypes(all, lengths[i], 0);
}

static void pieces_may_be_absent(void **state)
{
    (void)state;
    uint64_t first_node = 0;
    for (int k = 0; k < all->leaves->first[all->size / 2]; k++)
        first_node |= 1ull << k;
    all_dtypes(all, 9001, 0x5);         /* some */
    all_dtypes(all, 9001, first_node);  /* all of a node */
    all_dtypes(all, 9001, ~first_node); /* all of the others */
    all_dtypes(all, 9001, ~0ull);       /* all: zeros */
}

static void reduce_scatter_has_the_bits_of_all_reduce(void **state)
{
    (void)state;
    static const fb_dtype dtypes[] = {FB_F32, FB_F64, FB_F16, FB_BF16};
    static const int64_t lengths[] = {1, 5, 1023, 40001};
    for (int d = 0; d < 4; d++)
        for (int i = 0; i < 4; i++)
            one_scatter(all, dtypes[d], lengths[i]);
}

/* Several at once, of any length, and one small one that overtakes none. */
static void sums_in_flight_go_one_after_the_other(void **state)
{
    (void)state;
    enum { N = 6 };
    fb_context *ctx = fbi_group_context(all);
    FB_SCOPE(ctx);
    fb_work *work[N];
    fb_tensor *t[N];
    for (int k = 0; k < N; k++) {
        t[k] = fb_full(ctx, k % 2 ? FB_BF16 : FB_F32, FB_SHAPE(k == 3 ? 5 : 20001 + k), all->rank);
        work[k] = fb_all_reduce_async(all, t[k], FB_SUM);
        assert_non_null(work[k]);
    }
    for (int k = 0; k < N; k++)
        assert_int_equal(fb_work_wait(work[all->rank % 2 ? k : N - 1 - k]), FB_OK);
    for (int k = 0; k < N; k++) {
        int64_t last = fb_numel(t[k]) - 1;
        float got = k % 2 ? fbi_bf16_to_f32(((const uint16_t *)check_data(t[k]))[last])
                          : ((const float *)check_data(t[k]))[last];
        assert_true(got == (float)(all->size * (all->size - 1) / 2));
    }
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_the_bits_of_one_host),
        cmocka_unit_test(pieces_may_be_absent),
        cmocka_unit_test(reduce_scatter_has_the_bits_of_all_reduce),
        cmocka_unit_test(sums_in_flight_go_one_after_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Ranks of a node (0: all), leaves (0: one for each rank), and whether the sums of four and of six
 * ranks can go node by node: the leaves of each node must be an aligned subtree. */
typedef struct way {
    const char *per_node;
    int shards;
    bool four, six;
} way;

static int one_way(const way *how)
{
    setenv("FLAMBEAU_RANKS_PER_NODE", how->per_node, 1);
    fb_world *world = fb_world_open_comm(
        MPI_COMM_WORLD, FB_OPTS(fb_world_options, .threads = 1, .shards = how->shards));
    if (!world)
        return 1;
    all = fb_world_group(world);
    int failed = 0;
    if (fbi_staging_serves(all) != (all->size == 4 ? how->four : how->six)) {
        fprintf(stderr, "%d ranks, %s a node, %d leaves: wrongly %s\n", all->size, how->per_node,
                how->shards, fbi_staging_serves(all) ? "in stages" : "flat");
        failed = 1;
    }
    failed += run_all();
    return failed + (fb_world_close(world) != FB_OK);
}

int main(int argc, char **argv)
{
    static const way ways[] = {
        {"0", 0, false, false}, {"1", 0, false, false}, {"2", 0, true, true},
        {"2", 16, true, false}, {"2", 13, false, true}, {"3", 0, false, false},
    };
    int failed = 0;
    MPI_Init(&argc, &argv);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        failed += one_way(&ways[i]);
    MPI_Finalize();
    return failed != 0;
}
