/* ranks: 4 6 8 */
/* labels: cudasim */
/* Sums in fixed order between simulated cards of several nodes: the bits of one host that adds
 * everything up, in stages or flat, and what goes between the nodes for it. */
#include "tests/check.h"

#include <flambeau/comm/mpi.h>

#include "comm/link_priv.h"
#include "tests/comm/linked.h"
#include "tests/comm/sums.h"

static fb_world *world;
static fb_context *ctx;
static fb_group *all;
static bool flat;

static void sums_have_the_bits_of_one_host(void **state)
{
    (void)state;
    all_dtypes(all, 65, 0);
    all_dtypes(all, 5003, 0);
}

static void one_sum_has_the_bits_of_one_host(void **state)
{
    (void)state;
    one_sum(all, FB_F32, FB_F32, 1029, 0);
}

static void pieces_may_be_absent(void **state)
{
    (void)state;
    uint64_t half = 0;
    for (int k = 0; k < all->leaves->first[all->size / 2]; k++)
        half |= 1ull << k;
    const uint64_t absent[] = {0x5, half, ~half, ~0ull};
    for (int i = 0; i < 4; i++) {
        one_sum(all, FB_F32, FB_F32, 1029, absent[i]);
        one_sum(all, FB_F16, FB_F16, 1, absent[i]);
    }
}

static void reduce_scatter_has_the_bits_of_all_reduce(void **state)
{
    (void)state;
    static const fb_dtype dtypes[] = {FB_F32, FB_BF16};
    for (int d = 0; d < 2; d++) {
        one_scatter(all, dtypes[d], 1);
        one_scatter(all, dtypes[d], 1023);
    }
}

static void many_rounds_give_the_same_bits(void **state)
{
    (void)state;
    int64_t room = world->link_room;
    world->link_room = 20000;
    one_sum(all, FB_F32, FB_F32, 5003, 0x2);
    one_sum(all, FB_BF16, FB_BF16, 5003, 0);
    one_scatter(all, FB_BF16, 1301);
    world->link_room = room;
}

/* --- what is sent --- */

static const fbi_device_comm *library;
static int64_t sent; /* bytes to other nodes */

static fb_status count_and_start(fbi_link *link, const fbi_link_call *call)
{
    for (int i = 0; i < call->n && call->kind == FBI_LINK_EXCHANGE; i++) {
        const fbi_link_transfer *t = &call->transfers[i];
        if (t->out && world->peers[t->peer].node != world->node)
            sent += (int64_t)t->bytes;
    }
    return library->start(link, call);
}

/* Bytes that this node sends to others for a sum of n elements. */
static int64_t sent_for(fb_dtype dtype, int64_t n, bool scatter)
{
    FB_SCOPE(ctx);
    int64_t node = 0, *each = malloc((size_t)all->size * sizeof *each);
    fb_tensor *t = fb_ones(ctx, dtype, FB_SHAPE(n));
    sent = 0;
    if (scatter)
        assert_non_null(fb_reduce_scatter(all, t, FB_SUM));
    else
        assert_int_equal(fb_all_reduce_(all, t, FB_SUM), FB_OK);
    check_data(t);
    assert_int_equal(fbi_group_gather(all, "sent", &sent, sizeof sent, each), FB_OK);
    for (int r = 0; r < all->size; r++)
        node += world->peers[r].node == world->node ? each[r] : 0;
    free(each);
    return node;
}

/* Of B bytes a node sends B (N - 1) / N to the others, and as much back. Where all ranks send to
 * all, every one of its ranks does so. */
static void a_node_sends_what_one_rank_would(void **state)
{
    (void)state;
    const fbi_backend *real = ctx->backend;
    fbi_backend backend = *real;
    fbi_device_comm counting = *real->comm;
    library = real->comm;
    counting.start = count_and_start;
    backend.comm = &counting;
    ctx->backend = &backend;
    int64_t n = 64 * all->size * 6, mine = fb_world_local_size(world), nodes = world->nodes;
    bool even = !flat && mine * nodes == all->size && (mine & (mine - 1)) == 0;
    int64_t once = even ? n * (nodes - 1) / nodes : n * mine * (all->size - mine) / all->size;
    const int64_t got[] = {sent_for(FB_F32, n, false), sent_for(FB_F32, n, true),
                           sent_for(FB_BF16, n, false)};
    ctx->backend = real;
    assert_int_equal(got[0], 2 * 4 * once);
    assert_int_equal(got[1], 4 * once);
    /* Sums of 16-bit numbers are F32 until they are complete. */
    bool wide = even && nodes > 1 && mine > 1;
    assert_int_equal(got[2], ((wide ? 4 : 2) + 2) * once);
}

/* --- */

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_the_bits_of_one_host),
        cmocka_unit_test(pieces_may_be_absent),
        cmocka_unit_test(reduce_scatter_has_the_bits_of_all_reduce),
        cmocka_unit_test(many_rounds_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

static int run_traffic(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sum_has_the_bits_of_one_host),
        cmocka_unit_test(a_node_sends_what_one_rank_would),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Ranks of a node, leaves, and whether those of each node are a subtree on four, six and eight
 * ranks. */
typedef struct way {
    const char *per_node;
    int shards;
    bool four, six, eight;
} way;

/* Other stages for the sums of the open world. */
static bool restage(int block, int radix)
{
    for (int i = 0; i < 2; i++) {
        fbi_stages_free(all->stages[i]);
        all->stages[i] = fbi_stages_new(i ? all->leaves : all->flat, all->rank, block, radix);
    }
    return all->stages[0] && all->stages[1];
}

static void count_lines(const char *line, void *said)
{
    if (strstr(line, "not node by node: that needs the same number of ranks on each node"))
        ++*(int *)said;
    else
        fprintf(stderr, "%s\n", line);
}

static int one_way(const way *how)
{
    int said = 0, failed = 0;
    setenv("FLAMBEAU_RANKS_PER_NODE", how->per_node, 1);
    world = fb_world_open_comm(MPI_COMM_WORLD,
                               FB_OPTS(fb_world_options, .threads = 1, .shards = how->shards,
                                       .log = count_lines, .log_user = &said));
    int code = linked_code(world);
    if (code)
        return code;
    ctx = fb_world_context(world);
    all = fb_world_group(world);
    bool wanted = all->size == 4 ? how->four : all->size == 6 ? how->six : how->eight;
    bool speaks = !wanted && world->nodes > 1 && world->nodes < all->size && all->rank == 0;
    if (!all->link || fbi_stages_serve(all) != wanted || said != speaks) {
        fprintf(stderr, "%d ranks, %s a node, %d leaves: %s, said %d times\n", all->size,
                how->per_node, how->shards, fbi_stages_serve(all) ? "in stages" : "flat", said);
        failed = 1;
    }
    flat = false;
    failed += run_traffic();
    failed += wanted && run_all();
    flat = true;
    failed += !restage(0, 0) || run_traffic();
    if (world->nodes == all->size) /* more of them than go into one stage */
        failed += !restage(1, 2) || run_all();
    fb_log_set(NULL, NULL);
    return failed + (fb_world_close(world) != FB_OK);
}

int main(int argc, char **argv)
{
    static const way ways[] = {
        {"1", 16, false, false, false}, {"2", 8, true, false, true},
        {"2", 13, false, true, false},  {"3", 64, false, true, false},
        {"4", 16, false, false, true},
    };
    int failed = 0, rank;
    char device[32];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    snprintf(device, sizeof device, "cudasim:%d", rank); /* each node would begin with card 0 */
    linked_cards();
    setenv("FLAMBEAU_DEVICE", device, 1);
    for (size_t i = 0; i < sizeof ways / sizeof *ways && failed != 77; i++)
        failed += one_way(&ways[i]);
    MPI_Finalize();
    return failed == 77 ? 77 : failed != 0;
}
