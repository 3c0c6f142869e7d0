/* Order: against the C library's sort and plain loops. */
#include "tests/core/ops/ops_test_priv.h"

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/sort.h>
#include <flambeau/core/ops/view.h>

enum { LONGEST = 1500 };
static float x[2 * LONGEST], got[2 * LONGEST];
static int64_t at[2 * LONGEST];

typedef struct element {
    float v;
    int64_t at;
} element;

static int descending;

/* NaN is the largest; equal ones by index. */
static int by_value(const void *p, const void *q)
{
    const element *a = p, *b = q;
    int order = isnan(a->v) || isnan(b->v) ? (isnan(a->v) != 0) - (isnan(b->v) != 0)
                                           : (a->v > b->v) - (a->v < b->v);
    order = descending ? -order : order;
    return order ? order : (a->at > b->at) - (a->at < b->at);
}

static void sorted_as_by_qsort(fb_context *ctx, int64_t n)
{
    static element want[LONGEST];
    fb_tensor *values, *indices;
    FB_SCOPE(ctx);
    fill(x, 2 * n, -20, 20);
    for (int64_t i = 0; i < 2 * n; i++)
        x[i] = i % 37 == 5 ? NAN : floorf(x[i]);
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(2, n), x);
    assert_int_equal(fb_sort(t, 1, descending, &values, &indices), FB_OK);
    assert_int_equal(fb_read(values, got, (size_t)(2 * n) * sizeof *got), FB_OK);
    assert_int_equal(fb_read(indices, at, (size_t)(2 * n) * sizeof *at), FB_OK);
    for (int64_t line = 0; line < 2; line++) {
        for (int64_t k = 0; k < n; k++)
            want[k] = (element){x[line * n + k], k};
        qsort(want, (size_t)n, sizeof *want, by_value);
        for (int64_t k = 0; k < n; k++) {
            float v = got[line * n + k];
            assert_int_equal(at[line * n + k], want[k].at);
            assert_true(v == want[k].v || (isnan(v) && isnan(want[k].v)));
        }
    }
}

static void lines_are_sorted_stably_with_nan_as_the_largest(void **state)
{
    static const int64_t lengths[] = {1, 2, 17, 300, 513, LONGEST};
    for (descending = 0; descending < 2; descending++)
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
            sorted_as_by_qsort(*state, lengths[i]);
}

static void columns_and_integers_are_sorted(void **state)
{
    fb_context *ctx = *state;
    int32_t v[6] = {3, 1, -2, 5, 0, 1}, want[6] = {-2, 1, 0, 1, 3, 5};
    int64_t from[6] = {1, 0, 2, 2, 0, 1};
    fb_tensor *values, *indices;
    assert_int_equal(fb_sort(fb_from(ctx, FB_I32, FB_SHAPE(3, 2), v), 0, false, &values, &indices),
                     FB_OK);
    expect_ints(values, FB_I32, want, sizeof want);
    expect_ints(indices, FB_I64, from, sizeof from);
}

static void selections_take_their_places_of_the_order(void **state)
{
    fb_context *ctx = *state;
    float v[6] = {3, 9, 1, 4, 9, 2};
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(6), v), *values, *indices;
    assert_int_equal(fb_topk(t, 3, 0, true, &values, &indices), FB_OK);
    expect_values(values, (double[]){9, 9, 4}, 3, 0);
    expect_ints(indices, FB_I64, (int64_t[]){1, 4, 3}, 24);
    assert_int_equal(fb_kthvalue(t, 2, 0, false, &values, &indices), FB_OK);
    expect_values(values, (double[]){2}, 1, 0);
    expect_ints(indices, FB_I64, (int64_t[]){5}, 8);
    assert_int_equal(fb_median(t, 0, true, &values, &indices), FB_OK);
    expect_values(values, (double[]){3}, 1, 0);
    assert_int_equal(fb_ndim(values), 1);
    assert_int_equal(fb_mode(t, 0, false, &values, &indices), FB_OK);
    expect_values(values, (double[]){9}, 1, 0);
    expect_ints(indices, FB_I64, (int64_t[]){4}, 8);
    expect_values(fb_quantile(t, 0.25, 0, false), (double[]){2.25}, 1, 1e-6);
    expect_ints(fb_argsort(t, 0, true), FB_I64, (int64_t[]){1, 4, 3, 0, 5, 2}, 48);
    assert_int_equal(fb_topk(t, 7, 0, true, &values, &indices), FB_E_ARG);
    expect_error(ctx, FB_E_ARG, "topk: no 7 values along dimension 0 of [6]");
    assert_int_equal(fb_kthvalue(t, 0, 0, false, &values, &indices), FB_E_ARG);
    expect_error(ctx, FB_E_ARG, "kthvalue: there is no value number 0");
}

static void nan_decides_the_median_and_not_the_nanmedian(void **state)
{
    fb_context *ctx = *state;
    float v[8] = {3, NAN, 1, 4, 5, 1, 2, 8}, one;
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(2, 4), v), *values, *indices;
    assert_int_equal(fb_median(t, 1, false, &values, &indices), FB_OK);
    assert_int_equal(fb_read(fb_select(values, 0, 0), &one, sizeof one), FB_OK);
    assert_true(isnan(one));
    expect_ints(indices, FB_I64, (int64_t[]){1, 2}, 16);
    assert_int_equal(fb_nanmedian(t, 1, false, &values, &indices), FB_OK);
    expect_values(values, (double[]){3, 2}, 2, 0);
    expect_ints(indices, FB_I64, (int64_t[]){0, 2}, 16);
}

static void searching_counts_what_lies_below(void **state)
{
    fb_context *ctx = *state;
    float v[4] = {1, 3, 3, 7}, w[5] = {0, 3, 4, 9, NAN};
    int32_t whole[2] = {3, 8};
    fb_tensor *sorted = fb_from(ctx, FB_F32, FB_SHAPE(4), v);
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(5), w);
    expect_ints(fb_searchsorted(sorted, t, false), FB_I64, (int64_t[]){0, 1, 3, 4, 4}, 40);
    expect_ints(fb_searchsorted(sorted, t, true), FB_I64, (int64_t[]){0, 3, 3, 4, 4}, 40);
    expect_ints(fb_bucketize(fb_from(ctx, FB_I32, FB_SHAPE(2), whole), sorted, true), FB_I64,
                (int64_t[]){3, 4}, 16);
    uint8_t found[5] = {0, 1, 0, 0, 0};
    expect_ints(fb_isin(t, sorted), FB_BOOL, found, sizeof found);
}

static void unique_values_come_with_their_places_and_counts(void **state)
{
    fb_context *ctx = *state;
    int64_t v[6] = {5, 2, 2, 5, 5, 9};
    fb_tensor *t = fb_from(ctx, FB_I64, FB_SHAPE(2, 3), v), *values, *inverse, *counts;
    assert_int_equal(fb_unique(t, &values, &inverse, &counts), FB_OK);
    expect_ints(values, FB_I64, (int64_t[]){2, 5, 9}, 24);
    expect_ints(inverse, FB_I64, (int64_t[]){1, 0, 0, 1, 1, 2}, 48);
    expect_ints(counts, FB_I64, (int64_t[]){2, 3, 1}, 24);
    assert_int_equal(fb_ndim(inverse), 2);
    assert_int_equal(fb_unique_consecutive(t, &values, &inverse, &counts), FB_OK);
    expect_ints(values, FB_I64, (int64_t[]){5, 2, 5, 9}, 32);
    expect_ints(counts, FB_I64, (int64_t[]){1, 2, 2, 1}, 32);
    expect_ints(inverse, FB_I64, (int64_t[]){0, 1, 1, 2, 2, 3}, 48);
}

static void numbers_are_counted_and_weighed(void **state)
{
    fb_context *ctx = *state;
    int64_t v[5] = {1, 3, 1, 1, 0};
    float w[5] = {0.5f, 2, 1, 1, 4}, y[6] = {0, 1, 2.5f, 4, 4, NAN};
    fb_tensor *t = fb_from(ctx, FB_I64, FB_SHAPE(5), v);
    expect_ints(fb_bincount(t, NULL, 0), FB_I64, (int64_t[]){1, 3, 0, 1}, 32);
    expect_ints(fb_bincount(t, NULL, 6), FB_I64, (int64_t[]){1, 3, 0, 1, 0, 0}, 48);
    expect_values(fb_bincount(t, fb_from(ctx, FB_F32, FB_SHAPE(5), w), 0), (double[]){4, 2.5, 0, 2},
                  4, 1e-6);
    expect_values(fb_histc(fb_from(ctx, FB_F32, FB_SHAPE(6), y), 4, 0, 4), (double[]){1, 1, 1, 2},
                  4, 0);
    assert_null(fb_histc(fb_from(ctx, FB_F32, FB_SHAPE(6), y), 4, 0, 0));
    expect_error(ctx, FB_E_ARG, "give a range");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        TEST(lines_are_sorted_stably_with_nan_as_the_largest),
        TEST(columns_and_integers_are_sorted),
        TEST(selections_take_their_places_of_the_order),
        TEST(nan_decides_the_median_and_not_the_nanmedian),
        TEST(searching_counts_what_lies_below),
        TEST(unique_values_come_with_their_places_and_counts),
        TEST(numbers_are_counted_and_weighed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
