/* ctc_loss against the sum over all paths in double; losses whose values the table's samples do not
 * see. */
#include <flambeau/core/ops/loss.h>

#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>

#include "tests/core/ops/ops_test_priv.h"

enum { T = 5, C = 3 };

/* Whether a path of classes, with blanks (0) and repetitions gone, is the labels. */
static bool spells(const int *path, int steps, const int64_t *labels, int n)
{
    int at = 0, last = 0;
    for (int t = 0; t < steps; t++) {
        if (path[t] && path[t] != last) {
            if (at == n || labels[at] != path[t])
                return false;
            at++;
        }
        last = path[t];
    }
    return at == n;
}

/* -log of the sum over the paths of `steps` steps, and how likely class c is at step t given the
 * labels.
 */
static double all_paths(const float *x, int steps, const int64_t *labels, int n, double share[T][C])
{
    double total = 0;
    memset(share, 0, sizeof(double[T][C]));
    int count = 1;
    for (int t = 0; t < steps; t++)
        count *= C;
    for (int k = 0; k < count; k++) {
        int path[T], left = k;
        double p = 1;
        for (int t = 0; t < steps; t++, left /= C) {
            path[t] = left % C;
            p *= exp((double)x[t * C + path[t]]);
        }
        if (!spells(path, steps, labels, n))
            continue;
        total += p;
        for (int t = 0; t < steps; t++)
            share[t][path[t]] += p;
    }
    for (int t = 0; t < T; t++)
        for (int c = 0; c < C; c++)
            share[t][c] /= total;
    return -log(total);
}

static const int64_t words[][2] = {{1, 2}, {1, 1}, {2, 0}, {0, 0}};
static const int64_t lengths[] = {2, 2, 1, 0}, steps[] = {5, 4, 5, 3};

static void the_loss_and_its_gradient_are_those_of_all_paths(void **state)
{
    fb_context *ctx = *state;
    float x[T * 4 * C], one[T * C];
    double share[T][C], grad[T * 4 * C], want[4];
    fill(x, T * 4 * C, -2, -0.2f);
    for (int n = 0; n < 4; n++) {
        for (int t = 0; t < T; t++)
            memcpy(one + t * C, x + (t * 4 + n) * C, sizeof(float[C]));
        want[n] = all_paths(one, (int)steps[n], words[n], (int)lengths[n], share);
        for (int t = 0; t < T; t++)
            for (int c = 0; c < C; c++)
                grad[(t * 4 + n) * C + c] = t < steps[n] ? -share[t][c] : 0;
    }
    fb_tensor *lp = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(T, 4, C), x), true);
    fb_tensor *loss = fb_ctc_loss(lp, fb_from(ctx, FB_I64, FB_SHAPE(4, 2), words),
                                  fb_from(ctx, FB_I64, FB_SHAPE(4), steps),
                                  fb_from(ctx, FB_I64, FB_SHAPE(4), lengths),
                                  FB_OPTS(fb_ctc_options, .reduction = FB_LOSS_NONE));
    expect_values(loss, want, 4, 1e-5);
    assert_int_equal(fb_backward(fb_sum(loss, FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(lp), grad, T * 4 * C, 1e-5);
}

static void labels_one_after_the_other_are_those_of_rows(void **state)
{
    fb_context *ctx = *state;
    float x[T * 4 * C];
    fill(x, T * 4 * C, -2, -0.2f);
    fb_tensor *lp = fb_from(ctx, FB_F32, FB_SHAPE(T, 4, C), x);
    fb_tensor *il = fb_from(ctx, FB_I64, FB_SHAPE(4), steps);
    fb_tensor *tl = fb_from(ctx, FB_I64, FB_SHAPE(4), lengths);
    fb_tensor *rows = fb_from(ctx, FB_I64, FB_SHAPE(4, 2), words);
    fb_tensor *line = fb_from(ctx, FB_I32, FB_SHAPE(5), ((int32_t[]){1, 2, 1, 1, 2}));
    double want = fb_item(fb_ctc_loss(lp, rows, il, tl, NULL));
    assert_true(fb_item(fb_ctc_loss(lp, line, il, tl, NULL)) == want);
}

static void a_sequence_that_is_too_short_costs_infinity_or_nothing(void **state)
{
    fb_context *ctx = *state;
    float x[2 * C];
    fill(x, 2 * C, -2, -0.2f);
    fb_tensor *lp = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(2, C), x), true);
    fb_tensor *t = fb_from(ctx, FB_I64, FB_SHAPE(2), ((int64_t[]){1, 1})); /* needs three steps */
    fb_tensor *two = fb_from(ctx, FB_I64, FB_SHAPE(1), ((int64_t[]){2}));
    assert_true(isinf(fb_item(fb_ctc_loss(lp, t, two, two, NULL))));
    fb_tensor *loss = fb_ctc_loss(lp, t, two, two, FB_OPTS(fb_ctc_options, .zero_infinity = true));
    assert_true(fb_item(loss) == 0);
    assert_int_equal(fb_backward(loss), FB_OK);
    expect_values(fb_grad_of(lp), (double[2 * C]){0}, 2 * C, 0);
}

static void a_probability_outside_of_0_to_1_is_named(void **state)
{
    (void)state;
    fb_context *ctx = fb_context_open(FB_OPTS(fb_context_options, .device = "cpu"));
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(2), ((float[]){0.5f, 1.5f}));
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(2), ((float[]){0, 1}));
    assert_null(fb_binary_cross_entropy(x, t, NULL, FB_LOSS_MEAN));
    expect_error(ctx, FB_E_ARG,
                 "binary_cross_entropy: input [2] goes from 0.5 to 1.5, not within 0 .. 1");
    fb_tensor *var = fb_from(ctx, FB_F32, FB_SHAPE(2), ((float[]){1, -1}));
    assert_null(fb_gaussian_nll_loss(x, t, var, NULL));
    expect_error(ctx, FB_E_ARG, "gaussian_nll_loss: variance [2] goes from -1 to 1, not within 0");
    assert_int_equal(fb_context_close(ctx), FB_OK);
}

static void certain_probabilities_have_finite_losses_and_slopes(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(4), ((float[]){0, 1, 0, 1}));
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(4), ((float[]){1, 0, 0, 1}));
    fb_requires_grad(x, true);
    fb_tensor *loss = fb_binary_cross_entropy(x, t, NULL, FB_LOSS_NONE);
    expect_values(loss, (double[]){100, 100, 0, 0}, 4, 1e-6);
    assert_int_equal(fb_backward(fb_sum(loss, FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(x), (double[]){-1e12, 1e12, 0, 0}, 4, 1e-6);
}

static fb_tensor *squared(fb_tensor *a, fb_tensor *b, void *user)
{
    ++*(int *)user;
    return fb_sum(fb_square(fb_sub(a, b)), FB_SHAPE(-1), false);
}

static fb_tensor *nothing(fb_tensor *a, fb_tensor *b, void *user)
{
    (void)a, (void)b, (void)user;
    return NULL;
}

static void triplets_take_a_distance_of_the_users(void **state)
{
    fb_context *ctx = *state;
    int calls = 0;
    fb_tensor *a = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){0, 0}));
    fb_tensor *p = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){1, 2}));
    fb_tensor *n = fb_from(ctx, FB_F32, FB_SHAPE(1, 2), ((float[]){2, 1}));
    const fb_triplet_options *swap = FB_OPTS(fb_triplet_options, .margin = 2, .swap = true);
    /* distances 5 and 5, and 2 between the examples */
    assert_true(fb_item(fb_triplet_margin_with_distance_loss(a, p, n, squared, &calls, NULL)) == 1);
    assert_true(fb_item(fb_triplet_margin_with_distance_loss(a, p, n, squared, &calls, swap)) == 5);
    assert_int_equal(calls, 5);
    assert_null(fb_triplet_margin_with_distance_loss(a, p, n, NULL, NULL, NULL));
    expect_error(ctx, FB_E_ARG, "triplet_margin_with_distance_loss: no function, margin 1");
    assert_null(fb_triplet_margin_with_distance_loss(a, p, n, nothing, NULL, NULL));
    expect_error(ctx, FB_E_ARG, "the distance function returned NULL");
}

static void a_batch_mean_is_for_kl_div_alone(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(2, 2), ((float[]){-1, -2, -3, -4}));
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(2, 2), ((float[]){1, 1, 1, 1}));
    assert_true(fb_item(fb_kl_div(x, t, false, FB_LOSS_BATCHMEAN)) == 5);
    assert_null(fb_l1_loss(x, t, FB_LOSS_BATCHMEAN));
    expect_error(ctx, FB_E_ARG, "l1_loss: unknown reduction 3");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        TEST(the_loss_and_its_gradient_are_those_of_all_paths),
        TEST(labels_one_after_the_other_are_those_of_rows),
        TEST(a_sequence_that_is_too_short_costs_infinity_or_nothing),
        TEST(a_probability_outside_of_0_to_1_is_named),
        TEST(certain_probabilities_have_finite_losses_and_slopes),
        TEST(triplets_take_a_distance_of_the_users),
        TEST(a_batch_mean_is_for_kl_div_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
