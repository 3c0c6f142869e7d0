/* Writing by index, masks and bags: equal indices in their order, and messages. */
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/embedding.h>
#include <flambeau/core/ops/mask.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/scatter.h>

#include "tests/core/ops/ops_test_priv.h"

static fb_tensor *ints(fb_context *ctx, int n, const int64_t *v)
{
    return fb_from(ctx, FB_I64, FB_SHAPE(n), v);
}

static fb_tensor *floats(fb_context *ctx, int n, const float *v)
{
    return fb_from(ctx, FB_F32, FB_SHAPE(n), v);
}

static void of_equal_indices_the_last_one_stays(void **state)
{
    fb_tensor *x = fb_zeros(*state, FB_F32, FB_SHAPE(3));
    fb_tensor *at = ints(*state, 5, (int64_t[]){1, 0, 1, 0, 1});
    fb_tensor *src = floats(*state, 5, (float[]){1, 2, 3, 4, 5});
    expect_values(fb_scatter(x, 0, at, src), (double[]){4, 5, 0}, 3, 0);
    expect_values(fb_index_copy(x, 0, at, src), (double[]){4, 5, 0}, 3, 0);
    expect_values(fb_index_put(x, FB_TENSORS(at), src, false), (double[]){4, 5, 0}, 3, 0);
    expect_values(fb_put(x, at, src, false), (double[]){4, 5, 0}, 3, 0);
    expect_values(x, (double[]){0, 0, 0}, 3, 0);
}

/* Numbers of very different sizes: the sum shows its order. */
static void sums_over_equal_indices_are_made_in_their_order(void **state)
{
    enum { M = 999 };
    float v[M], want[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    int64_t at[M];
    fill(v, M, -1, 1);
    for (int i = 0; i < M; i++) {
        v[i] *= i % 7 == 0 ? 1e6f : 1;
        at[i] = i * 31 % 4;
        want[at[i]] += v[i];
    }
    fb_tensor *x = fb_full(*state, FB_F32, FB_SHAPE(4), 0.5);
    fb_tensor *index = ints(*state, M, at), *src = floats(*state, M, v), *y[3];
    y[0] = fb_scatter_add(x, 0, index, src);
    y[1] = fb_index_add(x, 0, index, src, 1);
    y[2] = fb_index_put(x, FB_TENSORS(index), src, true);
    for (int k = 0; k < 3; k++) {
        float got[4];
        assert_int_equal(fb_read(y[k], got, sizeof got), FB_OK);
        assert_memory_equal(got, want, sizeof got);
    }
}

static void means_of_integers_are_rounded_down(void **state)
{
    fb_tensor *x = ints(*state, 2, (int64_t[]){-4, 5}), *at = ints(*state, 3, (int64_t[]){0, 0, 1});
    fb_tensor *src = ints(*state, 3, (int64_t[]){-1, -2, 2});
    fb_tensor *y = fb_scatter_reduce(x, 0, at, src, FB_SCATTER_MEAN, true);
    expect_ints(y, FB_I64, (int64_t[]){-3, 3}, 16);
    y = fb_scatter_reduce(x, 0, at, src, FB_SCATTER_MEAN, false);
    expect_ints(y, FB_I64, (int64_t[]){-2, 2}, 16);
}

static void a_product_with_zeros_has_the_gradient_of_the_others(void **state)
{
    fb_tensor *x = fb_requires_grad(floats(*state, 2, (float[]){2, 3}), true);
    fb_tensor *src = fb_requires_grad(floats(*state, 4, (float[]){0, 5, 0, 0}), true);
    fb_tensor *at = ints(*state, 4, (int64_t[]){0, 0, 1, 1});
    fb_tensor *y = fb_scatter_reduce(x, 0, at, src, FB_SCATTER_PROD, true);
    assert_int_equal(fb_backward(fb_sum(y, FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(src), (double[]){10, 0, 0, 0}, 4, 0);
    expect_values(fb_grad_of(x), (double[]){0, 0}, 2, 0);
}

static void an_index_out_of_range_is_named(void **state)
{
    fb_tensor *x = fb_zeros(*state, FB_F32, FB_SHAPE(3)), *y;
    fb_tensor *at = ints(*state, 2, (int64_t[]){1, 3}), *src = floats(*state, 2, (float[]){1, 2});
#define NAMED(call)                                                                             \
    do {                                                                                        \
        y = call;                                                                               \
        if (y) /* on a card the next wait tells */                                              \
            assert_int_equal(fb_context_sync(*state), FB_E_ARG);                                \
        expect_error(*state, FB_E_ARG, "index 3 at position 1 is out of range: the size is 3"); \
    } while (0)
    NAMED(fb_scatter(x, 0, at, src));
    NAMED(fb_index_add(x, 0, at, src, 1));
    NAMED(fb_index_put(x, FB_TENSORS(at), src, true));
    NAMED(fb_take(x, at));
    NAMED(fb_one_hot(at, 3));
}

static void where_there_is_nothing_there_are_no_places(void **state)
{
    fb_tensor *none = fb_zeros(*state, FB_F32, FB_SHAPE(3, 4)), *y = fb_nonzero(none);
    assert_non_null(y);
    assert_int_equal(fb_size(y, 0), 0);
    assert_int_equal(fb_size(y, 1), 2);
    y = fb_masked_select(none, fb_to(none, FB_BOOL));
    assert_int_equal(fb_numel(y), 0);
    y = fb_masked_scatter(none, fb_to(none, FB_BOOL), fb_zeros(*state, FB_F32, FB_SHAPE(0)));
    assert_int_equal(fb_numel(y), 12);
    y = fb_nonzero(fb_full(*state, FB_F32, FB_SCALAR, 2));
    assert_int_equal(fb_size(y, 0), 1);
    assert_int_equal(fb_size(y, 1), 0);
}

static void many_places_are_found_in_order(void **state)
{
    enum { M = 5000 };
    float v[M];
    int64_t want[M][2], got[M][2], n = 0;
    fill(v, M, -1, 1);
    for (int i = 0; i < M; i++) {
        v[i] = v[i] > 0.3f ? v[i] : 0;
        if (v[i] != 0) {
            want[n][0] = i / 50;
            want[n++][1] = i % 50;
        }
    }
    fb_tensor *y = fb_nonzero(fb_from(*state, FB_F32, FB_SHAPE(M / 50, 50), v));
    assert_int_equal(fb_size(y, 0), n);
    assert_int_equal(fb_read(y, got, (size_t)n * sizeof *got), FB_OK);
    assert_memory_equal(got, want, (size_t)n * sizeof *got);
}

static void bags_are_what_their_offsets_say(void **state)
{
    float w[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    fb_tensor *table = fb_from(*state, FB_F32, FB_SHAPE(4, 2), w);
    fb_tensor *at = ints(*state, 4, (int64_t[]){0, 3, 1, 2});
    fb_tensor *offsets = ints(*state, 4, (int64_t[]){0, 1, 1, 4});
    fb_bag_options o = {.include_last_offset = true};
    expect_values(fb_embedding_bag(table, at, offsets, &o), (double[]){1, 2, 0, 0, 15, 18}, 6, 0);
    o.mode = FB_BAG_MEAN;
    expect_values(fb_embedding_bag(table, at, offsets, &o), (double[]){1, 2, 0, 0, 5, 6}, 6, 1e-6);
    o.mode = FB_BAG_MAX;
    expect_values(fb_embedding_bag(table, at, offsets, &o), (double[]){1, 2, 0, 0, 7, 8}, 6, 0);
    assert_null(fb_embedding_bag(table, at, NULL, NULL));
    expect_error(*state, FB_E_SHAPE, "embedding_bag: index [4]: two dimensions without offsets");
    fb_tensor *y = fb_embedding_bag(table, at, ints(*state, 2, (int64_t[]){1, 2}), NULL);
    if (y)
        assert_int_equal(fb_context_sync(*state), FB_E_ARG);
    expect_error(*state, FB_E_ARG, "embedding_bag: ");
    y = fb_embedding_bag(table, at, ints(*state, 3, (int64_t[]){0, 2, 1}), NULL);
    if (y)
        assert_int_equal(fb_context_sync(*state), FB_E_ARG);
    expect_error(*state, FB_E_ARG, "embedding_bag: ");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        T(of_equal_indices_the_last_one_stays),
        T(sums_over_equal_indices_are_made_in_their_order),
        T(means_of_integers_are_rounded_down),
        T(a_product_with_zeros_has_the_gradient_of_the_others),
        T(an_index_out_of_range_is_named),
        T(where_there_is_nothing_there_are_no_places),
        T(many_places_are_found_in_order),
        T(bags_are_what_their_offsets_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
