/* Functions that fill several places: their pieces and their messages; views by strides and what
 * lies on one another; pads against loops. */
#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/split.h>
#include <flambeau/core/ops/strided.h>
#include <flambeau/core/ops/view.h>

#include "tests/core/ops/ops_test_priv.h"

static fb_tensor *counting(fb_context *ctx, fb_shape s)
{
    float v[256];
    assert_true(fb_shape_numel(s) <= 256);
    for (int i = 0; i < 256; i++)
        v[i] = (float)i;
    return fb_from(ctx, FB_F32, s, v);
}

static void sizes_are(fb_tensor *const *t, int dim, const int64_t *want, int n)
{
    for (int i = 0; i < n; i++) {
        if (want[i] < 0)
            assert_null(t[i]);
        else
            assert_int_equal(fb_size(t[i], dim), want[i]);
    }
}

static void pieces_have_the_sizes_of_pytorchs(void **state)
{
    fb_tensor *x = counting(*state, FB_SHAPE(7, 2)), *p[8];
    assert_int_equal(fb_chunk(x, 5, 0, p), FB_OK);
    sizes_are(p, 0, (int64_t[]){2, 2, 2, 1, -1}, 5);
    assert_int_equal(fb_split(x, 3, 0, 3, p), FB_OK);
    sizes_are(p, 0, (int64_t[]){3, 3, 1}, 3);
    assert_int_equal(fb_tensor_split(x, 3, -2, p), FB_OK);
    sizes_are(p, 0, (int64_t[]){3, 2, 2}, 3);
    assert_int_equal(fb_tensor_split_at(x, (int64_t[]){2, -1, 20}, 3, 0, p), FB_OK);
    sizes_are(p, 0, (int64_t[]){2, 4, 1, 0}, 4);
    expect_values(p[1], (double[]){4, 5, 6, 7, 8, 9, 10, 11}, 8, 0);
    assert_int_equal(fb_split_with_sizes(x, (int64_t[]){4, 0, 3}, 3, 0, p), FB_OK);
    sizes_are(p, 0, (int64_t[]){4, 0, 3}, 3);
    assert_int_equal(fb_unbind(x, 1, 2, p), FB_OK);
    expect_values(p[1], (double[]){1, 3, 5, 7, 9, 11, 13}, 7, 0);
}

static void a_gradient_comes_back_from_every_piece(void **state)
{
    fb_tensor *x = fb_requires_grad(counting(*state, FB_SHAPE(5)), true), *p[3];
    assert_int_equal(fb_chunk(x, 3, 0, p), FB_OK);
    fb_tensor *sum = fb_mul_scalar(fb_sum(p[0], FB_ALL, false), 2);
    sum = fb_add(sum, fb_mul_scalar(fb_sum(p[2], FB_ALL, false), 3));
    assert_int_equal(fb_backward(sum), FB_OK);
    expect_values(fb_grad_of(x), (double[]){2, 2, 0, 0, 3}, 5, 0);
}

/* Of a result, whose pieces have one node: a piece that nobody uses, others twice; both
 * derivatives. */
static fb_status used_pieces(void *user, fb_tensors in, fb_tensor **out)
{
    fb_tensor *p[4];
    int dim = *(const int *)user;
    fb_status st = fb_split_with_sizes(fb_exp(in.t[0]), (int64_t[]){1, 3, 2, 1}, 4, dim, p);
    if (st)
        return st;
    fb_tensor *first = fb_mul(p[0], fb_sum(p[1], FB_ALL, false));
    out[0] =
        fb_add(fb_sum(fb_mul(first, p[0]), FB_ALL, false), fb_sum(fb_square(p[3]), FB_ALL, false));
    return FB_OK;
}

static void gradients_of_a_results_pieces_are_joined(void **state)
{
    fb_context *ctx = *state;
    for (int dim = 0; dim < 2; dim++) {
        fb_shape s = dim ? FB_SHAPE(2, 7) : FB_SHAPE(7, 2);
        fb_tensor *x = fb_mul_scalar(fb_to(counting(ctx, s), FB_F64), 0.1);
        x = fb_requires_grad(fb_detach(x), true);
        assert_int_equal(fb_gradcheck(used_pieces, &dim, FB_TENSORS(x), 1, NULL), FB_OK);
        assert_int_equal(fb_gradgradcheck(used_pieces, &dim, FB_TENSORS(x), 1, NULL), FB_OK);
    }
    fb_tensor *x = fb_requires_grad(counting(ctx, FB_SHAPE(4)), true), *p[2];
    assert_int_equal(fb_chunk(x, 2, 0, p), FB_OK); /* of a leaf: one backward for each piece */
    assert_int_equal(fb_backward(fb_sum(p[0], FB_ALL, false)), FB_OK);
    assert_int_equal(fb_backward(fb_sum(p[1], FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(x), (double[]){1, 1, 1, 1}, 4, 0);
}

static void a_wrong_number_of_places_is_named(void **state)
{
    fb_tensor *x = counting(*state, FB_SHAPE(7, 2)), *p[8];
    p[0] = x;
    assert_int_equal(fb_split(x, 3, 0, 2, p), FB_E_ARG);
    assert_null(p[0]);
    expect_error(*state, FB_E_ARG,
                 "split: dimension 0 of [7, 2] has 3 pieces of size 3, out has 2 places");
    assert_int_equal(fb_split(x, 0, 0, 2, p), FB_E_ARG);
    expect_error(*state, FB_E_ARG, "split: pieces of size 0 of dimension 0 of [7, 2]");
    assert_int_equal(fb_unbind(x, 0, 2, p), FB_E_ARG);
    expect_error(*state, FB_E_ARG, "unbind: dimension 0 of [7, 2] for 2 places");
    assert_int_equal(fb_chunk(x, 0, 0, p), FB_E_ARG);
    expect_error(*state, FB_E_ARG, "chunk: 0 pieces of dimension 0 of [7, 2]");
    assert_int_equal(fb_tensor_split(x, 0, 0, p), FB_E_ARG);
    expect_error(*state, FB_E_ARG, "tensor_split: 0 pieces of dimension 0 of [7, 2]");
    assert_int_equal(fb_split_with_sizes(x, (int64_t[]){4, 4}, 2, 0, p), FB_E_SHAPE);
    expect_error(*state, FB_E_SHAPE, "split_with_sizes: the sizes add up to 8");
    assert_int_equal(fb_split_with_sizes(x, (int64_t[]){8, -1}, 2, 0, p), FB_E_ARG);
    expect_error(*state, FB_E_ARG, "split_with_sizes: size 1 is -1");
    assert_int_equal(fb_chunk(x, 2, 2, p), FB_E_ARG);
    expect_error(*state, FB_E_ARG, "chunk");
}

static void grids_vary_along_one_dimension_each(void **state)
{
    fb_tensor *a = counting(*state, FB_SHAPE(2)), *b = counting(*state, FB_SHAPE(3)), *g[2];
    assert_int_equal(fb_meshgrid(FB_TENSORS(a, b), false, g), FB_OK);
    expect_values(g[0], (double[]){0, 0, 0, 1, 1, 1}, 6, 0);
    assert_int_equal(fb_meshgrid(FB_TENSORS(a, b), true, g), FB_OK);
    expect_values(g[0], (double[]){0, 1, 0, 1, 0, 1}, 6, 0);
    assert_int_equal(fb_meshgrid(FB_TENSORS(a, fb_reshape(b, FB_SHAPE(3, 1))), true, g),
                     FB_E_SHAPE);
    expect_error(*state, FB_E_SHAPE, "meshgrid: input 1 [3, 1] is no vector");
    assert_int_equal(fb_broadcast_tensors(FB_TENSORS(a, b), g), FB_E_SHAPE);
    expect_error(*state, FB_E_SHAPE, "broadcast_tensors: input 1 [3] cannot be broadcast");
    assert_int_equal(fb_broadcast_tensors(FB_TENSORS(a, NULL), g), FB_E_ARG);
    expect_error(*state, FB_E_ARG, "broadcast_tensors: input 1 is NULL");
}

static void places_that_several_elements_see_get_the_sum_of_their_gradients(void **state)
{
    fb_tensor *x = fb_requires_grad(counting(*state, FB_SHAPE(5)), true);
    fb_tensor *windows = fb_unfold(x, 0, 3, 1);
    expect_values(windows, (double[]){0, 1, 2, 1, 2, 3, 2, 3, 4}, 9, 0);
    assert_int_equal(fb_backward(fb_sum(windows, FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(x), (double[]){1, 2, 3, 2, 1}, 5, 0);
    assert_int_equal(fb_set_grad(x, NULL), FB_OK);
    /* every place of a row that was repeated by strides gets the gradient once */
    fb_tensor *twice = fb_expand(fb_reshape(x, FB_SHAPE(1, 5)), FB_SHAPE(2, 5));
    fb_tensor *odd = fb_as_strided(twice, FB_SHAPE(2), FB_SHAPE(2), 1);
    expect_values(odd, (double[]){1, 3}, 2, 0);
    assert_int_equal(fb_backward(fb_sum(odd, FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(x), (double[]){0, 1, 0, 1, 0}, 5, 0);
}

static void slices_are_repeated_as_often_as_their_numbers_say(void **state)
{
    fb_tensor *x = counting(*state, FB_SHAPE(3, 2));
    fb_tensor *n = fb_from(*state, FB_I32, FB_SHAPE(3), (int32_t[]){2, 0, 1});
    expect_values(fb_repeat_interleave_each(x, n, 0), (double[]){0, 1, 0, 1, 4, 5}, 6, 0);
    assert_null(fb_repeat_interleave_each(x, n, 1));
    expect_error(*state, FB_E_SHAPE, "repeat_interleave: repeats [3] of I32 must be an integer");
    n = fb_from(*state, FB_I32, FB_SHAPE(3), (int32_t[]){2, -3, 1});
    assert_null(fb_repeat_interleave_each(x, n, 0));
    expect_error(*state, FB_E_ARG, "repeat_interleave: -3 repeats at position 1");
}

/* Coordinate i of a line of n beyond its ends. */
static int64_t beyond(fb_pad_mode mode, int64_t i, int64_t n)
{
    if (mode == FB_PAD_REPLICATE)
        return i < 0 ? 0 : i >= n ? n - 1 : i;
    if (mode == FB_PAD_REFLECT)
        return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
    return (i + 10 * n) % n;
}

static void pads_are_those_of_a_loop(void **state)
{
    fb_tensor *x = counting(*state, FB_SHAPE(3, 4, 5));
    for (int mode = FB_PAD_REFLECT; mode <= FB_PAD_CIRCULAR; mode++) {
        double want[3 * 7 * 9];
        for (int64_t e = 0; e < 3 * 7 * 9; e++) {
            int64_t k = beyond((fb_pad_mode)mode, e % 9 - 3, 5);
            int64_t j = beyond((fb_pad_mode)mode, e / 9 % 7 - 1, 4);
            want[e] = (double)((e / 63 * 4 + j) * 5 + k);
        }
        expect_values(fb_pad(x, FB_SHAPE(3, 1, 1, 2), (fb_pad_mode)mode, 0), want, 3 * 7 * 9, 0);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        T(pieces_have_the_sizes_of_pytorchs),
        T(a_gradient_comes_back_from_every_piece),
        T(gradients_of_a_results_pieces_are_joined),
        T(a_wrong_number_of_places_is_named),
        T(grids_vary_along_one_dimension_each),
        T(places_that_several_elements_see_get_the_sum_of_their_gradients),
        T(slices_are_repeated_as_often_as_their_numbers_say),
        T(pads_are_those_of_a_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
