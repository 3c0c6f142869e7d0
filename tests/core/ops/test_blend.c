/* Functions that are no rows: comparisons of whole tensors, shapes and dtypes of others, equal
 * pieces, tables whose rows are held down. Limits that meet or are NaN. */
#include <flambeau/core/ops/blend.h>

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/embedding.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/sort.h>
#include <flambeau/core/ops/split.h>
#include <flambeau/core/ops/view.h>

#include "tests/core/ops/ops_test_priv.h"

static fb_tensor *line(fb_context *ctx, const float *v, int n)
{
    return fb_from(ctx, FB_F32, FB_SHAPE(n), v);
}
#define LINE(...) line(*state, (float[]){__VA_ARGS__}, FB_COUNT(__VA_ARGS__))

static void tensors_are_compared_whole(void **state)
{
    fb_tensor *a = LINE(1, 2, NAN), *b = LINE(1, 2.00001f, NAN), *c = LINE(1, 2);
    assert_false(fb_allclose(a, b, 1e-4, 0, false));
    assert_true(fb_allclose(a, b, 1e-4, 0, true));
    assert_false(fb_allclose(a, b, 1e-7, 0, true));
    assert_false(fb_equal(a, a)); /* NaN is not itself */
    assert_true(fb_equal(c, LINE(1, 2)));
    assert_false(fb_equal(c, LINE(1, 3)));
    assert_false(fb_equal(c, fb_reshape(c, FB_SHAPE(2, 1))));
    assert_false(fb_allclose(a, c, 1e-4, 0, true));
    expect_error(*state, FB_E_SHAPE, "isclose: [3] and [2] cannot be broadcast");
}

static void shapes_and_dtypes_of_others_are_taken(void **state)
{
    fb_tensor *x = LINE(1, 2, 3, 4), *to = fb_zeros(*state, FB_I32, FB_SHAPE(2, 2));
    assert_int_equal(fb_ndim(fb_reshape_as(x, to)), 2);
    assert_int_equal(fb_size(fb_view_as(x, to), 1), 2);
    assert_int_equal(fb_dtype_of(fb_type_as(x, to)), FB_I32);
    expect_values(fb_expand_as(LINE(1, 2), to), (double[]){1, 2, 1, 2}, 4, 0);
    assert_null(fb_view_as(x, LINE(1, 2)));
    expect_error(*state, FB_E_SHAPE, "[2]");
}

static void pieces_of_equal_size_are_asked_for_by_direction(void **state)
{
    fb_tensor *x = fb_reshape(fb_arange(*state, FB_F32, 0, 8, 1), FB_SHAPE(2, 2, 2)), *p[2];
    assert_int_equal(fb_vsplit(x, 2, p), FB_OK);
    expect_values(p[1], (double[]){4, 5, 6, 7}, 4, 0);
    assert_int_equal(fb_hsplit(x, 2, p), FB_OK);
    expect_values(fb_contiguous(p[1]), (double[]){2, 3, 6, 7}, 4, 0);
    assert_int_equal(fb_dsplit(x, 2, p), FB_OK);
    expect_values(fb_contiguous(p[1]), (double[]){1, 3, 5, 7}, 4, 0);
    assert_int_equal(fb_hsplit(LINE(1, 2, 3, 4), 2, p), FB_OK);
    expect_values(p[1], (double[]){3, 4}, 2, 0);
    assert_int_equal(fb_vsplit(LINE(1, 2, 3, 4), 2, p), FB_E_SHAPE);
    expect_error(*state, FB_E_SHAPE, "vsplit: 2 pieces of equal size of dimension 0 of [4], which");
    assert_int_equal(fb_dsplit(fb_reshape(x, FB_SHAPE(2, 4)), 2, p), FB_E_SHAPE);
    expect_error(*state, FB_E_SHAPE, "dsplit: 2 pieces of equal size of dimension 2 of [2, 4]");
    assert_int_equal(fb_hsplit(LINE(1, 2, 3), 2, p), FB_E_SHAPE);
    expect_error(*state, FB_E_SHAPE, "hsplit: 2 pieces of equal size of dimension 0 of [3]");
    assert_null(p[0]);
}

static void rows_that_are_used_are_held_down(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *w = fb_from(ctx, FB_F32, FB_SHAPE(3, 2), ((float[]){3, 4, 0.3f, 0.4f, 6, 8}));
    fb_tensor *i = fb_from(ctx, FB_I64, FB_SHAPE(3), ((int64_t[]){0, 1, 0}));
    fb_requires_grad(w, true);
    assert_int_equal(fb_embedding_renorm_(w, i, 1, 2), FB_OK);
    expect_values(w, (double[]){0.6, 0.8, 0.3, 0.4, 6, 8}, 6, 1e-6);
    i = fb_from(ctx, FB_I64, FB_SHAPE(1), ((int64_t[]){3}));
    assert_int_not_equal(fb_embedding_renorm_(w, i, 1, 2), FB_OK);
    expect_error(ctx, FB_E_ARG, "index 3 at position 0 is out of range: the size is 3");
    assert_int_not_equal(fb_embedding_renorm_(LINE(1, 2), i, 1, 2), FB_OK);
    expect_error(ctx, FB_E_SHAPE, "embedding_renorm_: weight must be [rows, dim], got [2]");
}

/* y and the gradient of x are those that PyTorch 2.15 gives. */
static void limited(fb_tensor *y, fb_tensor *x, const double *want, const double *grad)
{
    int n = (int)fb_numel(x);
    float got[8], slope[8];
    assert_int_equal(fb_read(y, got, (size_t)n * sizeof *got), FB_OK);
    assert_int_equal(fb_backward(fb_sum(y, FB_ALL, false)), FB_OK);
    assert_int_equal(fb_read(fb_grad_of(x), slope, (size_t)n * sizeof *slope), FB_OK);
    for (int i = 0; i < n; i++) {
        assert_true((double)got[i] == want[i] || (isnan(got[i]) && isnan(want[i])));
        assert_true((double)slope[i] == grad[i]);
    }
}

static void limits_have_pytorchs_gradients(void **state)
{
    fb_tensor *x = fb_requires_grad(LINE(-1, 1, 0, 2, NAN), true);
    limited(fb_clamp(x, -1, 1), x, (double[]){-1, 1, 0, 1, NAN}, (double[]){0, 0, 1, 0, 0});
    fb_tensor *z = fb_requires_grad(LINE(-1, 0.5f), true);
    limited(fb_clamp(z, 1, -1), z, (double[]){-1, -1}, (double[]){0, 0});
    z = fb_requires_grad(LINE(-1, 0.5f), true);
    limited(fb_clamp(z, NAN, 1), z, (double[]){NAN, NAN}, (double[]){0, 0});
    z = fb_requires_grad(LINE(-1, 1, 0, NAN), true);
    limited(fb_hardtanh(z, -1, 1), z, (double[]){-1, 1, 0, NAN}, (double[]){0, 0, 1, 0});
    z = fb_requires_grad(LINE(1, 2, 0, 1, NAN), true);
    fb_tensor *b = fb_requires_grad(LINE(1, 1, 1, NAN, 1), true);
    limited(fb_clamp_min(z, b), z, (double[]){1, 2, 1, NAN, NAN}, (double[]){0.5, 1, 0, 1, 1});
    expect_values(fb_grad_of(b), (double[]){0.5, 0, 1, 1, 1}, 5, 0);
    z = fb_requires_grad(LINE(1, 2, 0, 1, NAN), true);
    b = fb_requires_grad(LINE(1, 1, 1, NAN, 1), true);
    limited(fb_clamp_max(z, b), z, (double[]){1, 1, 0, NAN, NAN}, (double[]){0.5, 0, 1, 1, 1});
    expect_values(fb_grad_of(b), (double[]){0.5, 1, 0, 1, 1}, 5, 0);
    z = fb_requires_grad(LINE(1, 2, 0, 1, NAN), true);
    b = fb_requires_grad(LINE(1, 1, 1, NAN, 1), true);
    limited(fb_maximum(z, b), z, (double[]){1, 2, 1, NAN, NAN}, (double[]){0.5, 1, 0, 1, 1});
    expect_values(fb_grad_of(b), (double[]){0.5, 0, 1, 1, 1}, 5, 0);
}

static void signs_of_truth_are_truth(void **state)
{
    fb_tensor *t = fb_from(*state, FB_BOOL, FB_SHAPE(2), ((bool[]){true, false}));
    expect_ints(fb_sign(t), FB_BOOL, ((bool[]){true, false}), sizeof(bool[2]));
}

static void different_slices_are_found(void **state)
{
    fb_context *ctx = *state;
    float v[] = {2, 1, 1, 5, 2, 1, 1, 0};
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(4, 2), v), *y, *inverse, *counts;
    assert_int_equal(fb_unique_dim(x, 0, &y, &inverse, &counts), FB_OK);
    assert_int_equal(fb_size(y, 0), 3);
    expect_values(y, (double[]){1, 0, 1, 5, 2, 1}, 6, 0);
    expect_ints(inverse, FB_I64, ((int64_t[]){2, 1, 2, 0}), 32);
    expect_ints(counts, FB_I64, ((int64_t[]){1, 1, 2}), 24);
    assert_int_equal(fb_unique_dim(fb_transpose(x, 0, 1), 1, &y, NULL, NULL), FB_OK);
    expect_values(y, (double[]){1, 1, 2, 0, 5, 1}, 6, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        TEST(tensors_are_compared_whole),
        TEST(shapes_and_dtypes_of_others_are_taken),
        TEST(pieces_of_equal_size_are_asked_for_by_direction),
        TEST(rows_that_are_used_are_held_down),
        TEST(limits_have_pytorchs_gradients),
        TEST(signs_of_truth_are_truth),
        TEST(different_slices_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
