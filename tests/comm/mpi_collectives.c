/* ranks: 1 2 3 4 */
/* Every collective against a naive reference, by shared memory and by messages. */
#include "tests/check.h"

#include <math.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/mpi.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>

#include "comm/shm_priv.h"

static fb_world *world;
static fb_context *ctx;
static fb_group *all;
static int rank, size;

/* What rank r has at element i: large and small values of both signs, so that order matters. */
static double value_of(int r, int64_t i)
{
    uint64_t x = (uint64_t)i * 2654435761u + (uint64_t)r * 40503u + 12345u;
    x ^= x >> 13;
    x *= 0x9E3779B97F4A7C15u;
    int exponent = (int)(x >> 60) - 8;
    double mantissa = (double)((x >> 8) & 0xffffff) / 0xffffff - 0.5;
    return ldexp(mantissa, exponent);
}

static void fill(fb_dtype dtype, int r, int64_t n, void *out)
{
    for (int64_t i = 0; i < n; i++) {
        double v = value_of(r, i);
        switch ((int)dtype) {
        case FB_F32:
            ((float *)out)[i] = (float)v;
            break;
        case FB_F64:
            ((double *)out)[i] = v;
            break;
        case FB_I32:
            ((int32_t *)out)[i] = (int32_t)(v * 10);
            break;
        case FB_I64:
            ((int64_t *)out)[i] = (int64_t)(v * 10);
            break;
        case FB_U8:
            ((uint8_t *)out)[i] = (uint8_t)(fabs(v) * 7);
            break;
        case FB_BOOL:
            ((uint8_t *)out)[i] = v > 0;
            break;
        default:
            fail();
        }
    }
}

static double at(fb_dtype dtype, const void *p, int64_t i)
{
    switch ((int)dtype) {
    case FB_F32:
        return (double)((const float *)p)[i];
    case FB_F64:
        return ((const double *)p)[i];
    case FB_I32:
        return ((const int32_t *)p)[i];
    case FB_I64:
        return (double)((const int64_t *)p)[i];
    default:
        return ((const uint8_t *)p)[i];
    }
}

static fb_tensor *tensor_of(fb_dtype dtype, int r, int64_t n)
{
    void *data = malloc((size_t)n * 8 + 8);
    fill(dtype, r, n, data);
    fb_tensor *t = fb_from(ctx, dtype, FB_SHAPE(n), data);
    free(data);
    return t;
}

static double reduced(fb_reduce_op op, fb_dtype dtype, int64_t i)
{
    double total = 0;
    for (int r = 0; r < size; r++) {
        double v = value_of(r, i);
        if (dtype == FB_I32 || dtype == FB_I64)
            v = (double)(int64_t)(v * 10);
        else if (dtype == FB_U8)
            v = (double)(uint8_t)(fabs(v) * 7);
        else if (dtype == FB_BOOL)
            v = v > 0;
        else if (dtype == FB_F32)
            v = (double)(float)v;
        if (r == 0)
            total = v;
        else if (op == FB_SUM)
            total += v;
        else if (op == FB_PROD)
            total *= v;
        else if (op == FB_MIN)
            total = fmin(total, v);
        else
            total = fmax(total, v);
    }
    if (dtype == FB_U8)
        total = (double)(uint8_t)(int64_t)total;
    if (dtype == FB_I32) /* integers wrap around */
        total = (double)(int32_t)(uint32_t)(uint64_t)(int64_t)total;
    return total;
}

static const int64_t lengths[] = {0, 1, 7, 1000, 1025, 70001, 1000003};

static void all_reduce_agrees_with_a_loop_over_ranks(void **state)
{
    (void)state;
    static const fb_dtype dtypes[] = {FB_F32, FB_F64, FB_I32, FB_I64, FB_U8, FB_BOOL};
    for (size_t d = 0; d < 6; d++)
        for (int op = FB_SUM; op <= FB_MAX; op++)
            for (size_t l = 0; l < 7; l++) {
                FB_SCOPE(ctx);
                fb_dtype dtype = dtypes[d];
                if ((dtype == FB_BOOL && op < FB_MIN) || (l == 6 && (op != FB_SUM || d > 1)))
                    continue;
                fb_tensor *t = tensor_of(dtype, rank, lengths[l]);
                assert_int_equal(fb_all_reduce_(all, t, (fb_reduce_op)op), FB_OK);
                const void *p = check_data(t);
                for (int64_t i = 0; i < lengths[l]; i++) {
                    double want = reduced((fb_reduce_op)op, dtype, i), got = at(dtype, p, i);
                    double tolerance = dtype == FB_F32 ? 1e-4 : dtype == FB_F64 ? 1e-12 : 0;
                    if (fabs(got - want) > tolerance * (1 + fabs(want)))
                        fail_msg("%s op %d n %lld: element %lld is %g, not %g",
                                 fb_dtype_name(dtype), op, (long long)lengths[l], (long long)i, got,
                                 want);
                }
            }
}

static void halves_are_added_in_float_and_rounded_once(void **state)
{
    (void)state;
    static const fb_dtype dtypes[] = {FB_F16, FB_BF16};
    for (int d = 0; d < 2; d++) {
        FB_SCOPE(ctx);
        fb_tensor *h = fb_to(tensor_of(FB_F32, rank, 3001), dtypes[d]);
        fb_tensor *wide = fb_to(h, FB_F32);
        assert_int_equal(fb_all_reduce_(all, h, FB_SUM), FB_OK);
        assert_int_equal(fb_all_reduce_(all, wide, FB_SUM), FB_OK);
        fb_tensor *want = fb_to(wide, dtypes[d]);
        assert_memory_equal(check_data(h), check_data(want), 3001 * 2);
    }
}

static void reduce_scatter_keeps_this_ranks_part(void **state)
{
    (void)state;
    for (size_t l = 1; l < 7; l++) {
        FB_SCOPE(ctx);
        int64_t n = lengths[l];
        fb_tensor *t = tensor_of(FB_F64, rank, n * size);
        fb_tensor *y = fb_reduce_scatter(all, t, FB_SUM);
        assert_non_null(y);
        assert_int_equal(fb_numel(y), n);
        const void *p = check_data(y);
        for (int64_t i = 0; i < n; i++)
            assert_true(fabs(at(FB_F64, p, i) - reduced(FB_SUM, FB_F64, rank * n + i)) < 1e-9);
    }
}

static void all_gather_concatenates_in_order_of_rank(void **state)
{
    (void)state;
    for (size_t l = 0; l < 7; l++) {
        FB_SCOPE(ctx);
        int64_t n = lengths[l];
        fb_tensor *y = fb_all_gather(all, tensor_of(FB_F32, rank, n));
        assert_non_null(y);
        assert_int_equal(fb_size(y, 0), n * size);
        const void *p = check_data(y);
        for (int r = 0; r < size; r++)
            for (int64_t i = 0; i < n; i++)
                assert_true(at(FB_F32, p, r * n + i) == (double)(float)value_of(r, i));
    }
    FB_SCOPE(ctx);
    fb_tensor *y = fb_all_gather(all, fb_full(ctx, FB_F32, FB_SCALAR, rank));
    assert_int_equal(fb_ndim(y), 1);
    for (int r = 0; r < size; r++)
        assert_true(at(FB_F32, check_data(y), r) == r);
}

static void all_to_all_transposes_ranks_and_parts(void **state)
{
    (void)state;
    for (size_t l = 0; l < 6; l++) {
        FB_SCOPE(ctx);
        int64_t n = lengths[l];
        fb_tensor *y = fb_all_to_all(all, tensor_of(FB_I64, rank, n * size));
        assert_non_null(y);
        const void *p = check_data(y);
        for (int r = 0; r < size; r++)
            for (int64_t i = 0; i < n; i++)
                assert_true(at(FB_I64, p, r * n + i) ==
                            (double)(int64_t)(value_of(r, rank * n + i) * 10));
    }
}

static void broadcast_gives_all_the_roots_values(void **state)
{
    (void)state;
    for (int root = 0; root < size; root++)
        for (size_t l = 0; l < 7; l++) {
            FB_SCOPE(ctx);
            fb_tensor *t = tensor_of(FB_F32, rank, lengths[l]);
            assert_int_equal(fb_broadcast_(all, t, root), FB_OK);
            const void *p = check_data(t);
            for (int64_t i = 0; i < lengths[l]; i++)
                assert_true(at(FB_F32, p, i) == (double)(float)value_of(root, i));
        }
}

static void a_ring_of_sends_and_receives_arrives(void **state)
{
    (void)state;
    if (size == 1)
        return;
    for (size_t l = 0; l < 7; l++) {
        FB_SCOPE(ctx);
        int next = (rank + 1) % size, before = (rank + size - 1) % size;
        fb_tensor *out = tensor_of(FB_F32, rank, lengths[l]);
        fb_tensor *in = fb_zeros(ctx, FB_F32, FB_SHAPE(lengths[l]));
        fb_work *sent = fb_send_async(all, out, next);
        assert_non_null(sent);
        assert_int_equal(fb_recv(all, in, before), FB_OK);
        assert_int_equal(fb_work_wait(sent), FB_OK);
        const void *p = check_data(in);
        for (int64_t i = 0; i < lengths[l]; i++)
            assert_true(at(FB_F32, p, i) == (double)(float)value_of(before, i));
    }
}

static void works_in_flight_may_be_waited_for_in_any_order(void **state)
{
    (void)state;
    enum { N = 9 };
    FB_SCOPE(ctx);
    fb_work *work[N];
    fb_tensor *t[N];
    for (int k = 0; k < N; k++) {
        t[k] = tensor_of(FB_F64, rank, 5000 + 31000 * (k % 3));
        work[k] = fb_all_reduce_async(all, t[k], FB_SUM);
        assert_non_null(work[k]);
    }
    for (int k = 0; k < N; k++) {
        int which = rank % 2 ? k : N - 1 - k;
        assert_int_equal(fb_work_wait(work[which]), FB_OK);
        const void *p = check_data(t[which]);
        for (int64_t i = 0; i < fb_numel(t[which]); i++)
            assert_true(fabs(at(FB_F64, p, i) - reduced(FB_SUM, FB_F64, i)) < 1e-9);
    }
}

static void a_group_of_some_ranks_sums_over_them_only(void **state)
{
    (void)state;
    fb_group *part = fb_group_split(all, rank % 2, -rank);
    assert_non_null(part);
    int members = (size + 1 - rank % 2) / 2;
    assert_int_equal(fb_group_size(part), members);
    assert_int_equal(fb_group_rank(part), members - 1 - rank / 2);
    FB_SCOPE(ctx);
    fb_tensor *t = fb_full(ctx, FB_F32, FB_SHAPE(100000), rank);
    assert_int_equal(fb_all_reduce_(part, t, FB_SUM), FB_OK);
    double want = 0;
    for (int r = rank % 2; r < size; r += 2)
        want += r;
    assert_true(at(FB_F32, check_data(t), 99999) == want);
    assert_null(fb_group_split(all, -1, 0));
    check_ok(ctx);
    assert_int_equal(fb_group_barrier(part), FB_OK);
}

static void bytes_of_different_lengths_are_gathered(void **state)
{
    (void)state;
    char mine[64];
    size_t at_byte[9],
        n = (size_t)snprintf(mine, sizeof mine, "rank %d%.*s", rank, rank * 3, "..............");
    void *joined;
    assert_int_equal(fbi_group_all_gather_bytes(all, "test", mine, n, &joined, at_byte), FB_OK);
    for (int r = 0; r < size; r++) {
        char want[64];
        size_t k = (size_t)snprintf(want, sizeof want, "rank %d%.*s", r, r * 3, "..............");
        assert_int_equal(at_byte[r + 1] - at_byte[r], k);
        assert_memory_equal((char *)joined + at_byte[r], want, k);
    }
    free(joined);
    char *text = rank == size - 1 ? strdup("from the last") : NULL;
    size_t bytes = text ? strlen(text) + 1 : 0;
    assert_int_equal(fbi_group_broadcast_bytes(all, "test", (void **)&text, &bytes, size - 1),
                     FB_OK);
    assert_string_equal(text, "from the last");
    free(text);
}

static void mistakes_of_the_caller_are_errors_that_can_be_taken(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *t = fb_zeros(ctx, FB_F32, FB_SHAPE(size + 1, 2));
    if (size > 1) {
        assert_null(fb_reduce_scatter(all, t, FB_SUM));
        check_error(ctx, FB_E_SHAPE, "no multiple of the group's");
    }
    assert_int_equal(fb_broadcast_(all, t, size), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "broadcast_: root is");
    assert_int_equal(fb_send(all, t, rank), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "is this rank itself");
    fb_tensor *b = fb_zeros(ctx, FB_BOOL, FB_SHAPE(3));
    assert_int_equal(fb_all_reduce_(all, b, FB_SUM), FB_E_DTYPE);
    check_error(ctx, FB_E_DTYPE, "all_reduce: FB_SUM of BOOL is not defined");
    assert_int_equal(fb_all_reduce_(NULL, t, FB_SUM), FB_E_ARG);
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

static void any_is_true_everywhere_if_it_is_anywhere(void **state)
{
    (void)state;
    assert_true(fb_world_any(world, rank == size - 1));
    assert_false(fb_world_any(world, false));
}

static void all_is_true_everywhere_if_it_is_on_each(void **state)
{
    (void)state;
    assert_true(fb_world_all(world, true));
    assert_true(fb_world_all(world, rank == size - 1) == (size == 1));
    assert_false(fb_world_all(world, false));
    assert_false(fb_world_all(NULL, true));
}

static void a_value_that_differs_is_named_on_every_rank(void **state)
{
    (void)state;
    assert_int_equal(fb_world_agree(world, "the seed", 42), FB_OK);
    assert_int_equal(fb_world_agree(NULL, "the seed", 42), FB_E_ARG);
    assert_int_equal(fb_world_agree(world, NULL, 42), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "a name for the value is needed");
    if (size == 1)
        return;
    /* In a camp of two halves the lower rank is right. */
    assert_int_equal(fb_world_agree(world, "the seed", rank == 1 ? 0xabcdef0123456789u : 42),
                     FB_E_COMM);
    check_error(ctx, FB_E_COMM, "has 0xabcdef0123456789, ");
    assert_int_equal(fb_world_agree(world, "the seed", rank), FB_E_COMM);
    check_error(ctx, FB_E_COMM, "rank 0 have 0");
}

static void a_timeout_is_a_number(void **state)
{
    (void)state;
    assert_int_equal(fb_group_set_timeout(all, 0.0 / 0.0), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "the time is no number");
    assert_int_equal(fb_group_set_timeout(NULL, 1), FB_E_ARG);
    assert_int_equal(fb_group_set_timeout(all, -1), FB_OK);
    assert_int_equal(fb_group_barrier(all), FB_OK);
    assert_int_equal(fb_group_set_timeout(all, 0), FB_OK);
}

/* A hash of results, to compare transports; 0: a sum failed. */
static uint64_t digest(void)
{
    uint64_t h = 1;
    for (size_t l = 1; l < 7; l++) {
        FB_SCOPE(ctx);
        fb_tensor *t = tensor_of(FB_F32, rank, lengths[l]);
        if (fb_all_reduce_(all, t, FB_SUM)) {
            fprintf(stderr, "rank %d: %s\n", rank, fb_error_message(ctx));
            return 0;
        }
        const uint32_t *p = check_data(t);
        for (int64_t i = 0; p && i < lengths[l]; i++)
            h = (h ^ p[i]) * 0x100000001b3u;
    }
    return h;
}

/* Streaming stores instead of plain ones, or the reverse: which they are depends on the machine. */
static void the_other_stores_give_the_same_bits(void **state)
{
    (void)state;
    if (!all->shm)
        return;
    uint64_t before = digest();
    all->shm->streams = !all->shm->streams;
    all_reduce_agrees_with_a_loop_over_ranks(NULL);
    all_to_all_transposes_ranks_and_parts(NULL);
    assert_true(digest() == before);
    all->shm->streams = !all->shm->streams;
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_reduce_agrees_with_a_loop_over_ranks),
        cmocka_unit_test(halves_are_added_in_float_and_rounded_once),
        cmocka_unit_test(reduce_scatter_keeps_this_ranks_part),
        cmocka_unit_test(all_gather_concatenates_in_order_of_rank),
        cmocka_unit_test(all_to_all_transposes_ranks_and_parts),
        cmocka_unit_test(broadcast_gives_all_the_roots_values),
        cmocka_unit_test(a_ring_of_sends_and_receives_arrives),
        cmocka_unit_test(works_in_flight_may_be_waited_for_in_any_order),
        cmocka_unit_test(a_group_of_some_ranks_sums_over_them_only),
        cmocka_unit_test(bytes_of_different_lengths_are_gathered),
        cmocka_unit_test(mistakes_of_the_caller_are_errors_that_can_be_taken),
        cmocka_unit_test(any_is_true_everywhere_if_it_is_anywhere),
        cmocka_unit_test(all_is_true_everywhere_if_it_is_on_each),
        cmocka_unit_test(a_value_that_differs_is_named_on_every_rank),
        cmocka_unit_test(a_timeout_is_a_number),
        cmocka_unit_test(the_other_stores_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* One way of talking: FLAMBEAU_COMM and FLAMBEAU_RANKS_PER_NODE. */
static int one_transport(const char *comm, const char *per_node, uint64_t *hash)
{
    setenv("FLAMBEAU_COMM", comm, 1);
    setenv("FLAMBEAU_RANKS_PER_NODE", per_node, 1);
    world = fb_world_open_comm(MPI_COMM_WORLD, FB_OPTS(fb_world_options, .threads = 1));
    if (!world)
        return 1;
    ctx = fb_world_context(world);
    all = fb_world_group(world);
    rank = fb_world_rank(world);
    size = fb_world_size(world);
    int failed = run_all();
    *hash = digest();
    return failed + (fb_world_close(world) != FB_OK);
}

int main(int argc, char **argv)
{
    static const char *const ways[][2] = {
        {"", "0"},         /* shared memory */
        {"messages", "0"}, /* messages within a node */
        {"", "1"},         /* each rank a node */
        {"", "2"},         /* two ranks a node: sums in stages with 4 ranks */
    };
    uint64_t hash[4] = {0};
    int failed = 0;
    MPI_Init(&argc, &argv);
    for (int i = 0; i < 4; i++) {
        failed += one_transport(ways[i][0], ways[i][1], &hash[i]);
        if (hash[i] != hash[0]) {
            fprintf(stderr, "transport %d gives other bits than shared memory\n", i);
            failed++;
        }
    }
    MPI_Finalize();
    return failed != 0;
}
