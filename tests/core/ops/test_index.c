/* embedding, index_select, gather, cat and stack against loops, with their gradients. */
#include <flambeau/core/ops/embedding.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "tests/core/ops/ops_test_priv.h"

/* Gradient of sum(y * weights 1, 2, 3 ...), so that every element has its own. */
static void back(fb_context *ctx, fb_tensor *y)
{
    int64_t n = fb_numel(y);
    float w[64];
    assert_true(n <= 64);
    for (int64_t i = 0; i < n; i++)
        w[i] = (float)(i + 1);
    fb_tensor *t = fb_from(ctx, FB_F32, fb_shape_of(y), w);
    assert_int_equal(fb_backward(fb_sum(fb_mul(y, t), FB_ALL, false)), FB_OK);
}

static void embedding_takes_rows_and_adds_their_gradients(void **state)
{
    float w[6] = {1, 2, 3, 4, 5, 6};
    fb_tensor *x = fb_requires_grad(fb_from(*state, FB_F32, FB_SHAPE(3, 2), w), true);
    fb_tensor *at = fb_from(*state, FB_I64, FB_SHAPE(3), (int64_t[]){2, 0, 2});
    fb_tensor *y = fb_embedding(x, at);
    expect_values(y, (double[]){5, 6, 1, 2, 5, 6}, 6, 0);
    back(*state, y);
    expect_values(fb_grad_of(x), (double[]){3, 4, 0, 0, 6, 8}, 6, 0);
    assert_int_equal(fb_set_grad(x, NULL), FB_OK);
    back(*state, fb_embedding_padded(x, at, 2));
    expect_values(fb_grad_of(x), (double[]){3, 4, 0, 0, 0, 0}, 6, 0);
}

static void an_index_out_of_range_is_named(void **state)
{
    float w[6] = {0};
    fb_tensor *x = fb_from(*state, FB_F32, FB_SHAPE(3, 2), w);
    fb_tensor *at = fb_from(*state, FB_I64, FB_SHAPE(2), (int64_t[]){1, -1});
    assert_null(fb_embedding(x, at));
    expect_error(*state, FB_E_ARG,
                 "embedding: index -1 at position 1 is out of range: the size is 3");
}

static void index_select_and_gather_follow_their_definitions(void **state)
{
    float v[6] = {1, 2, 3, 4, 5, 6};
    fb_tensor *x = fb_requires_grad(fb_from(*state, FB_F32, FB_SHAPE(2, 3), v), true);
    fb_tensor *at = fb_from(*state, FB_I32, FB_SHAPE(2), (int32_t[]){2, 2});
    fb_tensor *y = fb_index_select(x, 1, at);
    expect_values(y, (double[]){3, 3, 6, 6}, 4, 0);
    back(*state, y);
    expect_values(fb_grad_of(x), (double[]){0, 0, 3, 0, 0, 7}, 6, 0);
    assert_int_equal(fb_set_grad(x, NULL), FB_OK);
    at = fb_from(*state, FB_I64, FB_SHAPE(1, 2), (int64_t[]){1, 0});
    y = fb_gather(x, 0, at);
    expect_values(y, (double[]){4, 2}, 2, 0);
    back(*state, y);
    expect_values(fb_grad_of(x), (double[]){0, 2, 0, 1, 0, 0}, 6, 0);
}

static void cat_joins_any_number_and_splits_the_gradient(void **state)
{
    float v[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    fb_tensor *part[10];
    double want[55];
    for (int i = 0, n = 0; i < 10; i++) {
        part[i] = fb_requires_grad(fb_from(*state, FB_F32, FB_SHAPE(i + 1), v), true);
        for (int k = 0; k <= i; k++)
            want[n++] = k;
    }
    fb_tensor *y = fb_cat((fb_tensors){part, 10}, 0);
    expect_values(y, want, 55, 0);
    back(*state, y);
    expect_values(fb_grad_of(part[2]), (double[]){4, 5, 6}, 3, 0);
    fb_tensor *a = fb_from(*state, FB_F32, FB_SHAPE(2, 1), v);
    fb_tensor *b = fb_from(*state, FB_F32, FB_SHAPE(2, 2), v + 2);
    expect_values(fb_cat(FB_TENSORS(a, b), -1), (double[]){0, 2, 3, 1, 4, 5}, 6, 0);
    assert_null(fb_cat(FB_TENSORS(a, b), 0));
    expect_error(*state, FB_E_SHAPE, "cat: input 1 [2, 2] does not fit input 0 [2, 1] along 0");
}

static void stack_makes_a_dimension_where_told(void **state)
{
    float v[4] = {1, 2, 3, 4};
    fb_tensor *a = fb_from(*state, FB_F32, FB_SHAPE(2), v);
    fb_tensor *b = fb_from(*state, FB_F32, FB_SHAPE(2), v + 2);
    expect_values(fb_stack(FB_TENSORS(a, b), 0), (double[]){1, 2, 3, 4}, 4, 0);
    expect_values(fb_stack(FB_TENSORS(a, b), -1), (double[]){1, 3, 2, 4}, 4, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        T(embedding_takes_rows_and_adds_their_gradients),
        T(an_index_out_of_range_is_named),
        T(index_select_and_gather_follow_their_definitions),
        T(cat_joins_any_number_and_splits_the_gradient),
        T(stack_makes_a_dimension_where_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
