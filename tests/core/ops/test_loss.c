/* softmax and losses against naive formulas in double, with their gradients. */
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/softmax.h>

#include "tests/core/ops/ops_test_priv.h"

enum { N = 5, C = 37, D = 3 };

static float logits[N * C * D];
static double naive_grad[N * C * D];

/* log-softmax of class j of item (n, d), classes at stride `inner`. */
static double log_p(const float *x, int inner, int j)
{
    double sum = 0;
    for (int k = 0; k < C; k++)
        sum += exp((double)x[k * inner]);
    return (double)x[j * inner] - log(sum);
}

typedef struct problem {
    int inner;
    const int64_t *target;
    const float *weight;
    int64_t ignore;
    double smoothing;
} problem;

/* Mean loss and its gradient, from the definition. */
static double naive(const problem *p)
{
    double total = 0, down = 0;
    for (int i = 0; i < N * p->inner; i++)
        if (p->target[i] != p->ignore)
            down += p->weight ? (double)p->weight[p->target[i]] : 1;
    for (int i = 0; i < N * p->inner; i++) {
        int at = i / p->inner * C * p->inner + i % p->inner;
        for (int j = 0; j < C; j++)
            naive_grad[at + j * p->inner] = 0;
        if (p->target[i] == p->ignore)
            continue;
        for (int j = 0; j < C; j++) {
            double w = p->weight ? (double)p->weight[j] : 1;
            double q = w * (p->smoothing / C + (j == p->target[i] ? 1 - p->smoothing : 0)) / down;
            total -= q * log_p(logits + at, p->inner, j);
            for (int k = 0; k < C; k++)
                naive_grad[at + k * p->inner] +=
                    q * (exp(log_p(logits + at, p->inner, k)) - (k == j));
        }
    }
    return total;
}

static void check(fb_context *ctx, const problem *p, fb_shape shape, fb_shape items)
{
    fill(logits, N * C * D, -3, 3);
    double want = naive(p);
    fb_tensor *x = fb_requires_grad(fb_from(ctx, FB_F32, shape, logits), true);
    fb_tensor *t = fb_from(ctx, FB_I64, items, p->target);
    fb_tensor *w = p->weight ? fb_from(ctx, FB_F32, FB_SHAPE(C), p->weight) : NULL;
    fb_tensor *loss =
        fb_cross_entropy(x, t,
                         FB_OPTS(fb_cross_entropy_options, .weight = w, .ignore_index = p->ignore,
                                 .label_smoothing = p->smoothing));
    expect_values(loss, &want, 1, 1e-5);
    assert_int_equal(fb_backward(loss), FB_OK);
    expect_values(fb_grad_of(x), naive_grad, N * C * p->inner, 1e-5);
}

static void cross_entropy_and_its_gradient_are_right(void **state)
{
    problem p = {1, (int64_t[]){0, 36, 5, 5, 17}, NULL, -100, 0};
    check(*state, &p, FB_SHAPE(N, C), FB_SHAPE(N));
    p.smoothing = 0.1;
    check(*state, &p, FB_SHAPE(N, C), FB_SHAPE(N));
}

static void weights_ignored_targets_and_more_dimensions_work(void **state)
{
    float weight[C];
    fill(weight, C, 0.5f, 2);
    int64_t target[N * D];
    for (int i = 0; i < N * D; i++)
        target[i] = i * 7 % C;
    problem p = {D, target, weight, 14, 0.2};
    check(*state, &p, FB_SHAPE(N, C, D), FB_SHAPE(N, D));
}

static void targets_of_any_width_give_the_same_loss(void **state)
{
    fill(logits, N * C, -3, 3);
    fb_tensor *x = fb_from(*state, FB_F32, FB_SHAPE(N, C), logits);
    uint8_t u8[N] = {0, 36, 5, 5, 17};
    int32_t i32[N] = {0, 36, 5, 5, 17};
    fb_tensor *a = fb_cross_entropy(x, fb_from(*state, FB_U8, FB_SHAPE(N), u8), NULL);
    fb_tensor *b = fb_cross_entropy(x, fb_from(*state, FB_I32, FB_SHAPE(N), i32), NULL);
    assert_true(fb_item(a) == fb_item(b));
}

static void half_precision_logits_are_computed_in_f32(void **state)
{
    float v[4] = {1, 2, 3, 0}; /* exact in BF16 */
    fb_tensor *x = fb_to(fb_from(*state, FB_F32, FB_SHAPE(1, 4), v), FB_BF16);
    fb_requires_grad(x, true);
    fb_tensor *t = fb_from(*state, FB_I64, FB_SHAPE(1), (int64_t[]){2});
    fb_tensor *loss = fb_cross_entropy(x, t, NULL);
    double sum = exp(-2.0) + exp(-1.0) + 1 + exp(-3.0), want = log(sum);
    assert_int_equal(fb_dtype_of(loss), FB_BF16); /* as in PyTorch */
    expect_values(fb_to(loss, FB_F32), &want, 1, 0x1p-9);
    assert_int_equal(fb_backward(loss), FB_OK);
    double grad[4] = {exp(-2.0) / sum, exp(-1.0) / sum, 1 / sum - 1, exp(-3.0) / sum};
    expect_values(fb_to(fb_grad_of(x), FB_F32), grad, 4, 4e-3);
}

static void a_target_out_of_range_is_named(void **state)
{
    fb_tensor *x = fb_from(*state, FB_F32, FB_SHAPE(N, C), logits);
    int64_t target[N] = {0, 1, 37, 3, 4};
    fb_tensor *t = fb_from(*state, FB_I64, FB_SHAPE(N), target);
    assert_null(fb_cross_entropy(x, t, NULL));
    expect_error(*state, FB_E_ARG,
                 "cross_entropy: target 37 at index 2 is not in 0 .. 36 and not ignore_index -100");
}

static void softmax_is_right_along_any_dimension(void **state)
{
    double p[N * C * D], lp[N * C * D];
    fill(logits, N * C * D, -30, 30);
    fb_tensor *x = fb_from(*state, FB_F32, FB_SHAPE(N, C, D), logits);
    for (int i = 0; i < N * C * D; i++) {
        int j = i / D % C, at = i - j * D;
        lp[i] = log_p(logits + at, D, j);
        p[i] = exp(lp[i]);
    }
    expect_values(fb_softmax(x, 1), p, N * C * D, 1e-6);
    expect_values(fb_log_softmax(x, 1), lp, N * C * D, 1e-6);
    x = fb_from(*state, FB_F32, FB_SHAPE(N * D, C), logits);
    for (int i = 0; i < N * C * D; i++)
        lp[i] = log_p(logits + i / C * C, 1, i % C);
    expect_values(fb_log_softmax(x, -1), lp, N * C * D, 1e-6);
}

static void mse_loss_and_both_gradients_are_right(void **state)
{
    float a[3] = {1, 2, 4}, b[3] = {0, 2, 7};
    fb_tensor *x = fb_requires_grad(fb_from(*state, FB_F32, FB_SHAPE(3), a), true);
    fb_tensor *t = fb_requires_grad(fb_from(*state, FB_F32, FB_SHAPE(3), b), true);
    fb_tensor *loss = fb_mse_loss(x, t, NULL);
    expect_values(loss, (double[]){10.0 / 3}, 1, 1e-6);
    assert_int_equal(fb_backward(loss), FB_OK);
    expect_values(fb_grad_of(x), (double[]){2.0 / 3, 0, -2}, 3, 1e-6);
    expect_values(fb_grad_of(t), (double[]){-2.0 / 3, 0, 2}, 3, 1e-6);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        T(cross_entropy_and_its_gradient_are_right),
        T(weights_ignored_targets_and_more_dimensions_work),
        T(targets_of_any_width_give_the_same_loss),
        T(half_precision_logits_are_computed_in_f32),
        T(a_target_out_of_range_is_named),
        T(softmax_is_right_along_any_dimension),
        T(mse_loss_and_both_gradients_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
