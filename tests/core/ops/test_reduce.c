/* Reductions against naive sums in double; bits that do not depend on threads; messages. */
#include <flambeau/core/ops/extreme.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "tests/core/ops/ops_test_priv.h"

enum { A = 3, B = 70, C = 5 };

static float data[A * B * C];

/* Sum over the masked dimensions of data [A, B, C], naively. Returns how many results. */
static int naive(unsigned mask, double *out)
{
    int na = mask & 1 ? 1 : A, nb = mask & 2 ? 1 : B, nc = mask & 4 ? 1 : C;
    memset(out, 0, (size_t)(na * nb * nc) * sizeof *out);
    for (int a = 0; a < A; a++)
        for (int b = 0; b < B; b++)
            for (int c = 0; c < C; c++)
                out[((a % na) * nb + b % nb) * nc + c % nc] += (double)data[(a * B + b) * C + c];
    return na * nb * nc;
}

static fb_shape dims_of(unsigned mask)
{
    fb_shape s = {0, {0}};
    for (int i = 0; i < 3; i++)
        if (mask & 1u << i)
            s.d[s.n++] = i;
    return s;
}

static void sums_and_means_are_right_over_any_dimensions(void **state)
{
    double want[A * B * C];
    fill(data, A * B * C, -1, 2);
    fb_tensor *x = fb_from(*state, FB_F32, FB_SHAPE(A, B, C), data);
    for (unsigned mask = 1; mask < 8; mask++) {
        int n = naive(mask, want);
        expect_values(fb_sum(x, dims_of(mask), false), want, n, 1e-5);
        fb_tensor *kept = fb_sum(x, dims_of(mask), true);
        assert_int_equal(fb_ndim(kept), 3);
        for (int i = 0; i < n; i++)
            want[i] /= (double)A * B * C / n;
        expect_values(fb_mean(x, dims_of(mask), true), want, n, 1e-5);
    }
    naive(7, want);
    expect_values(fb_sum(x, FB_ALL, false), want, 1, 1e-5);
}

static void a_permuted_input_gives_the_same_sums(void **state)
{
    double want[A * B * C];
    fill(data, A * B * C, -1, 2);
    fb_tensor *x = fb_permute(fb_from(*state, FB_F32, FB_SHAPE(A, B, C), data), FB_DIMS(2, 0, 1));
    int n = naive(2, want);
    fb_tensor *y = fb_sum(x, FB_DIMS(2), false);
    assert_int_equal(fb_size(y, 0), C);
    double turned[A * C];
    for (int a = 0; a < A; a++)
        for (int c = 0; c < C; c++)
            turned[c * A + a] = want[a * C + c];
    expect_values(y, turned, n, 1e-5);
}

static void variance_divides_by_n_or_by_n_minus_1(void **state)
{
    float v[4] = {1, 2, 4, 9};
    fb_tensor *x = fb_from(*state, FB_F32, FB_SHAPE(4), v);
    expect_values(fb_var(x, FB_ALL, true, false), (double[]){38.0 / 3}, 1, 1e-6);
    expect_values(fb_var(x, FB_ALL, false, false), (double[]){38.0 / 4}, 1, 1e-6);
}

static void extremes_find_value_and_first_index_and_nan_wins(void **state)
{
    float v[6] = {1, 5, 5, NAN, 2, -3};
    fb_tensor *x = fb_from(*state, FB_F32, FB_SHAPE(2, 3), v), *value, *index;
    assert_int_equal(fb_max_dim(x, 1, false, &value, &index), FB_OK);
    expect_ints(index, FB_I64, (int64_t[]){1, 0}, 16);
    float got[2];
    assert_int_equal(fb_read(value, got, sizeof got), FB_OK);
    assert_true(got[0] == 5 && isnan(got[1]));
    expect_ints(fb_argmin(x, 0, true), FB_I64, (int64_t[]){1, 1, 1}, 24);
    expect_values(fb_amin(fb_narrow(x, 0, 0, 1), FB_ALL, false), (double[]){1}, 1, 0);
}

static void integers_sum_to_i64_and_any_and_all_give_bool(void **state)
{
    uint8_t v[4] = {200, 200, 0, 1};
    fb_tensor *x = fb_from(*state, FB_U8, FB_SHAPE(2, 2), v);
    expect_ints(fb_sum(x, FB_DIMS(1), false), FB_I64, (int64_t[]){400, 1}, 16);
    expect_ints(fb_any(x, FB_DIMS(1), false), FB_BOOL, (uint8_t[]){1, 1}, 2);
    expect_ints(fb_all(x, FB_DIMS(1), false), FB_BOOL, (uint8_t[]){1, 0}, 2);
}

static void an_empty_sum_is_zero_and_an_empty_maximum_is_an_error(void **state)
{
    fb_tensor *x = fb_from(*state, FB_F32, FB_SHAPE(0, 2), NULL);
    expect_values(fb_sum(x, FB_DIMS(0), false), (double[]){0, 0}, 2, 0);
    assert_null(fb_amax(x, FB_ALL, false));
    expect_error(*state, FB_E_SHAPE, "amax: input [0, 2] has no elements");
    x = fb_from(*state, FB_F32, FB_SHAPE(2), data);
    assert_null(fb_sum(x, FB_DIMS(1), false));
    expect_error(*state, FB_E_ARG, "sum: no dimension 1 in input [2]");
}

static void half_precision_is_summed_in_f32_and_given_back_narrow(void **state)
{
    float v[300];
    for (int i = 0; i < 300; i++)
        v[i] = 1;
    fb_tensor *x = fb_to(fb_from(*state, FB_F32, FB_SHAPE(300), v), FB_BF16);
    fb_tensor *y = fb_sum(x, FB_ALL, false); /* in BF16, 256 + 1 is 256 */
    assert_int_equal(fb_dtype_of(y), FB_BF16);
    assert_true(fb_item(y) == 300);
    fb_tensor *at = NULL;
    assert_int_equal(fb_max_dim(x, 0, false, NULL, &at), FB_OK);
    assert_int_equal(fb_item_int(at), 0);
}

static void bits_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    enum { N = 100003 };
    float *v = malloc(N * sizeof *v), all[2], columns[2][7], rows[2][3];
    assert_non_null(v);
    fill(v, N, -1, 1);
    for (int i = 0; i < 2; i++) {
        fb_context *ctx = fb_context_open(FB_OPTS(fb_context_options, .threads = i ? 3 : 1));
        assert_non_null(ctx);
        fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(N), v);
        all[i] = (float)fb_item(fb_sum(x, FB_ALL, false));
        x = fb_reshape(fb_narrow(x, 0, 0, 14000 * 7), FB_SHAPE(14000, 7));
        assert_int_equal(fb_read(fb_sum(x, FB_DIMS(0), false), columns[i], 28), FB_OK);
        x = fb_reshape(fb_narrow(fb_reshape(x, FB_SHAPE(98000)), 0, 0, 97998), FB_SHAPE(3, 32666));
        assert_int_equal(fb_read(fb_mean(x, FB_DIMS(1), false), rows[i], 12), FB_OK);
        assert_int_equal(fb_context_close(ctx), FB_OK);
    }
    assert_memory_equal(&all[0], &all[1], sizeof all[0]);
    assert_memory_equal(columns[0], columns[1], sizeof columns[0]);
    assert_memory_equal(rows[0], rows[1], sizeof rows[0]);
    free(v);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        T(sums_and_means_are_right_over_any_dimensions),
        T(a_permuted_input_gives_the_same_sums),
        T(variance_divides_by_n_or_by_n_minus_1),
        T(extremes_find_value_and_first_index_and_nan_wins),
        T(integers_sum_to_i64_and_any_and_all_give_bool),
        T(an_empty_sum_is_zero_and_an_empty_maximum_is_an_error),
        T(half_precision_is_summed_in_f32_and_given_back_narrow),
        cmocka_unit_test(bits_do_not_depend_on_the_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
