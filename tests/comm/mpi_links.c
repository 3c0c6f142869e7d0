/* ranks: 2 3 4 */
/* labels: cudasim */
/* Collectives between simulated cards, a card for each rank, by NCCL: sums in its own order. */
#include "tests/check.h"

#include <math.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/world.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>

#include "comm/group_priv.h"
#include "core/ops/backend.h"
#include "tests/comm/linked.h"

static fb_world *world;
static fb_context *ctx;
static fb_group *all;
static int rank, size;

static const int64_t lengths[] = {0, 1, 7, 1000, 100003, 600001};
enum { LENGTHS = 6 };

/* What rank r has at element i. */
static double value_of(int r, int64_t i)
{
    return (double)((i * 7 + r * 13) % 101 - 50) / 8;
}

static fb_tensor *tensor_of(fb_dtype dtype, int r, int64_t n)
{
    float *data = malloc((size_t)n * sizeof *data + 1);
    for (int64_t i = 0; i < n; i++)
        data[i] = (float)value_of(r, i);
    fb_tensor *t = fb_to(fb_from(ctx, FB_F32, FB_SHAPE(n), data), dtype);
    free(data);
    return t;
}

static double reduced(fb_reduce_op op, int64_t i)
{
    double total = value_of(0, i);
    for (int r = 1; r < size; r++) {
        double v = value_of(r, i);
        total = op == FB_SUM ? total + v : op == FB_MIN ? fmin(total, v) : fmax(total, v);
    }
    return total;
}

/* As float: every value and sum here is exact in it. */
static const float *read_float(fb_tensor *t)
{
    return check_data(fb_to(t, FB_F32));
}

static void the_group_has_a_link(void **state)
{
    (void)state;
    assert_non_null(all->link);
}

static void reductions_agree_with_a_loop_over_ranks(void **state)
{
    (void)state;
    static const fb_dtype dtypes[] = {FB_F32, FB_F64, FB_F16, FB_BF16, FB_I32, FB_I64};
    static const fb_reduce_op ops[] = {FB_SUM, FB_MIN, FB_MAX};
    for (size_t d = 0; d < 6; d++)
        for (size_t o = 0; o < 3; o++)
            for (int l = 0; l < LENGTHS; l++) {
                FB_SCOPE(ctx);
                bool whole = dtypes[d] == FB_I32 || dtypes[d] == FB_I64;
                fb_tensor *t = tensor_of(FB_F32, rank, lengths[l]);
                t = fb_to(whole ? fb_mul_scalar(t, 8) : t, dtypes[d]);
                assert_int_equal(fb_all_reduce_(all, t, ops[o]), FB_OK);
                const float *p = read_float(t);
                for (int64_t i = 0; i < lengths[l]; i++) {
                    double want = reduced(ops[o], i) * (whole ? 8 : 1);
                    double tolerance = dtypes[d] == FB_BF16 ? 0.01 : 0;
                    if (fabs((double)p[i] - want) > tolerance * (1 + fabs(want)))
                        fail_msg("%s op %d n %lld: element %lld is %g, not %g",
                                 fb_dtype_name(dtypes[d]), (int)ops[o], (long long)lengths[l],
                                 (long long)i, (double)p[i], want);
                }
            }
}

static void nan_wins_in_minimum_and_maximum(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    float x[2] = {rank == size - 1 ? NAN : 1, 2};
    for (int op = FB_MIN; op <= FB_MAX; op++) {
        fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(2), x);
        assert_int_equal(fb_all_reduce_(all, t, (fb_reduce_op)op), FB_OK);
        const float *p = read_float(t);
        assert_true(isnan(p[0]) && p[1] == 2);
    }
}

static void parts_go_where_they_belong(void **state)
{
    (void)state;
    for (int l = 0; l < LENGTHS; l++) {
        FB_SCOPE(ctx);
        int64_t n = lengths[l];
        const float *p =
            read_float(fb_reduce_scatter(all, tensor_of(FB_F32, rank, n * size), FB_SUM));
        for (int64_t i = 0; i < n; i++)
            assert_true((double)p[i] == reduced(FB_SUM, rank * n + i));
        p = read_float(fb_all_gather(all, tensor_of(FB_F16, rank, n)));
        for (int64_t i = 0; i < n * size; i++)
            assert_true((double)p[i] == value_of((int)(i / n), i % n));
        p = read_float(fb_all_to_all(all, tensor_of(FB_F64, rank, n * size)));
        for (int64_t i = 0; i < n * size; i++)
            assert_true((double)p[i] == value_of((int)(i / n), rank * n + i % n));
        fb_tensor *t = tensor_of(FB_F32, rank, n);
        assert_int_equal(fb_broadcast_(all, t, size - 1), FB_OK);
        p = read_float(t);
        for (int64_t i = 0; i < n; i++)
            assert_true((double)p[i] == value_of(size - 1, i));
    }
}

static void a_ring_of_sends_and_receives_arrives(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *out = tensor_of(FB_F32, rank, 5000), *in = fb_zeros(ctx, FB_F32, FB_SHAPE(5000));
    int before = (rank + size - 1) % size;
    fb_work *sent = fb_send_async(all, out, (rank + 1) % size);
    assert_int_equal(fb_recv(all, in, before), FB_OK);
    assert_int_equal(fb_work_wait(sent), FB_OK);
    const float *p = read_float(in);
    for (int64_t i = 0; i < 5000; i++)
        assert_true((double)p[i] == value_of(before, i));
}

/* Kernels before, in between and after: each must wait for what it needs, and nothing more. */
static void kernels_and_works_take_turns(void **state)
{
    (void)state;
    enum { N = 12 };
    FB_SCOPE(ctx);
    fb_work *work[N];
    fb_tensor *t[N], *other = fb_zeros(ctx, FB_F32, FB_SHAPE(1000));
    for (int k = 0; k < N; k++) {
        t[k] = fb_mul_scalar(tensor_of(FB_F32, rank, 1000 * (k + 1)), k + 1);
        work[k] = fb_all_reduce_async(all, t[k], FB_SUM);
        other = fb_add_scalar(other, 1);
    }
    for (int k = 0; k < N; k++) {
        int which = rank % 2 ? k : N - 1 - k;
        assert_int_equal(fb_work_wait(work[which]), FB_OK);
        const float *p = read_float(fb_mul_scalar(t[which], 2));
        for (int64_t i = 0; i < 1000 * (which + 1); i++)
            assert_true((double)p[i] == 2 * (which + 1) * reduced(FB_SUM, i));
    }
    assert_true(read_float(other)[999] == N);
}

static void a_work_is_done_without_being_waited_for(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *t = fb_ones(ctx, FB_F32, FB_SHAPE(100));
    fb_work *work = fb_all_reduce_async(all, t, FB_SUM);
    while (!fb_work_done(work))
        check_ok(ctx);
    assert_int_equal(fb_work_wait(work), FB_OK);
    assert_true(read_float(t)[99] == (float)size);
}

static void parts_of_the_group_have_links_of_their_own(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_group *part = fb_group_split(all, rank % 2, -rank);
    assert_non_null(part);
    assert_true((part->link != NULL) == (fb_group_size(part) > 1));
    fb_tensor *t = fb_full(ctx, FB_F32, FB_SHAPE(5000), rank);
    fb_tensor *whole = fb_full(ctx, FB_F32, FB_SHAPE(5000), rank);
    fb_work *a = fb_all_reduce_async(part, t, FB_SUM), *b = fb_all_reduce_async(all, whole, FB_SUM);
    assert_int_equal(fb_work_wait(b), FB_OK);
    assert_int_equal(fb_work_wait(a), FB_OK);
    double want = 0;
    for (int r = rank % 2; r < size; r += 2)
        want += r;
    assert_true((double)read_float(t)[4999] == want);
    assert_true((double)read_float(whole)[4999] == size * (size - 1) / 2);
    assert_null(fb_group_split(all, -1, 0));
    check_ok(ctx);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_group_has_a_link),
        cmocka_unit_test(reductions_agree_with_a_loop_over_ranks),
        cmocka_unit_test(nan_wins_in_minimum_and_maximum),
        cmocka_unit_test(parts_go_where_they_belong),
        cmocka_unit_test(a_ring_of_sends_and_receives_arrives),
        cmocka_unit_test(kernels_and_works_take_turns),
        cmocka_unit_test(a_work_is_done_without_being_waited_for),
        cmocka_unit_test(parts_of_the_group_have_links_of_their_own),
    };
    int code = linked_world(&argc, &argv, NULL, &world);
    if (code)
        return code;
    ctx = fb_world_context(world);
    all = fb_world_group(world);
    rank = fb_world_rank(world);
    size = fb_world_size(world);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) != FB_OK || failed;
}
