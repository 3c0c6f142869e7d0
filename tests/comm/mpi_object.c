/* ranks: 1 2 4 */
/* Bytes of any length to one rank, to all, and from one to all; by shared memory and by messages.
 */
#include "tests/check.h"

#include <flambeau/comm/mpi.h>
#include <flambeau/comm/object.h>

static fb_world *world;
static fb_context *ctx;
static fb_group *all;
static int rank, size;

/* Byte i of what rank r brings. */
static unsigned char byte_of(int r, size_t i)
{
    return (unsigned char)(i * 31 + (i >> 12) + (size_t)r * 7 + 1);
}

static unsigned char *bytes_of(int r, size_t n)
{
    unsigned char *data = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        data[i] = byte_of(r, i);
    return data;
}

static void assert_bytes(const fb_object *o, int r, size_t n)
{
    assert_int_equal(o->bytes, n);
    const unsigned char *p = o->data;
    for (size_t i = 0; i < n; i++)
        if (p[i] != byte_of(r, i))
            fail_msg("rank %d: byte %zu of %zu of rank %d is wrong", rank, i, n, r);
    assert_int_equal(p[n], 0);
}

/* Lengths of the ranks: nothing, short, uneven, and more than goes at once. */
static size_t length_of(int kind, int r)
{
    static const size_t lengths[] = {0, 5, 5000, 200000};
    return kind < 4 ? lengths[kind] + (size_t)(kind ? r : 0) : r % 2 ? 1500001u : 0;
}

static void gathered(int root)
{
    for (int kind = 0; kind < 5; kind++) {
        fb_object got[8];
        size_t n = length_of(kind, rank);
        unsigned char *mine = bytes_of(rank, n);
        bool receives = root < 0 || root == rank;
        assert_int_equal(
            fb_group_object_gather(all, n ? mine : NULL, n, root, receives ? got : NULL), FB_OK);
        free(mine);
        for (int r = 0; receives && r < size; r++)
            assert_bytes(&got[r], r, length_of(kind, r));
        if (receives)
            fb_objects_free(got, size);
    }
}

static void one_rank_gets_the_bytes_of_all(void **state)
{
    (void)state;
    for (int root = 0; root < size; root++)
        gathered(root);
}

static void all_ranks_get_the_bytes_of_all(void **state)
{
    (void)state;
    gathered(-1);
}

static void all_ranks_get_the_bytes_of_one(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 17, 300001};
    for (int root = 0; root < size; root++)
        for (int k = 0; k < 3; k++) {
            unsigned char *mine = bytes_of(root, lengths[k]);
            mine[lengths[k]] = 0;
            fb_object o = {NULL, 99};
            if (rank == root)
                o = (fb_object){lengths[k] ? mine : NULL, lengths[k]};
            assert_int_equal(fb_group_object_broadcast(all, &o, root), FB_OK);
            if (rank != root)
                assert_bytes(&o, root, lengths[k]);
            if (rank != root)
                fb_objects_free(&o, 1);
            free(mine);
        }
}

static void mistakes_are_named(void **state)
{
    (void)state;
    fb_object o[8];
    assert_int_equal(fb_group_object_gather(all, "x", 1, size, o), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "object_gather: root is ");
    assert_int_equal(fb_group_object_gather(all, "x", 1, -2, o), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "object_gather: root is -2, the group has ranks 0 to ");
    assert_int_equal(fb_group_object_gather(all, NULL, 3, -1, o), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "object_gather: 3 bytes at NULL");
    assert_int_equal(fb_group_object_gather(all, "x", 1, -1, NULL), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "object_gather: all is NULL");
    assert_int_equal(fb_group_object_broadcast(all, o, -1), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "object_broadcast: root is -1");
    assert_int_equal(fb_group_object_broadcast(all, NULL, 0), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "object_broadcast: object is NULL");
    o[0] = (fb_object){NULL, 4};
    assert_int_equal(fb_group_object_broadcast(all, o, rank), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "object_broadcast: the root's data is NULL");
    assert_int_equal(fb_group_object_gather(NULL, "x", 1, 0, o), FB_E_ARG);
    assert_int_equal(fb_group_object_broadcast(NULL, o, 0), FB_E_ARG);
    fb_objects_free(NULL, 3);
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

/* More than any machine has: an error on every rank, and the group goes on. */
static void no_room_is_an_error_on_every_rank(void **state)
{
    (void)state;
    size_t n = rank == size - 1 ? (size_t)1 << 48 : 1;
    char byte = 1;
    fb_object got[8];
    assert_int_equal(fb_group_object_gather(all, &byte, n, 0, got), FB_E_NOMEM);
    check_error(ctx, FB_E_NOMEM, "object_gather: no memory for 281474976710656 bytes of rank ");
    if (size > 1) {
        fb_object o = {&byte, n};
        assert_int_equal(fb_group_object_broadcast(all, &o, size - 1), FB_E_NOMEM);
        check_error(ctx, FB_E_NOMEM, "object_broadcast: no memory for 281474976710656 bytes");
    }
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_gets_the_bytes_of_all),
        cmocka_unit_test(all_ranks_get_the_bytes_of_all),
        cmocka_unit_test(all_ranks_get_the_bytes_of_one),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(no_room_is_an_error_on_every_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    static const char *const ways[] = {"0", "1", "2"}; /* ranks of a node; 0: all of them */
    int failed = 0;
    MPI_Init(&argc, &argv);
    for (int i = 0; i < 3; i++) {
        setenv("FLAMBEAU_RANKS_PER_NODE", ways[i], 1);
        world = fb_world_open_comm(MPI_COMM_WORLD, FB_OPTS(fb_world_options, .threads = 1));
        ctx = fb_world_context(world);
        all = fb_world_group(world);
        rank = fb_world_rank(world);
        size = fb_world_size(world);
        failed += world ? run_all() + (fb_world_close(world) != FB_OK) : 1;
    }
    MPI_Finalize();
    return failed != 0;
}
