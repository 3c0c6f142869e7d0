/* matmul and linear against plain loops in double. */
#include "ops_test_priv.h"

#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/view.h>

/* c[m, n] = sum over k of a[i * am + p * ak] b[p * bk + j * bn] */
static void product(const float *a, int64_t am, int64_t ak, const float *b, int64_t bk, int64_t bn,
                    int64_t m, int64_t n, int64_t k, double *c)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double s = 0;
            for (int64_t p = 0; p < k; p++)
                s += (double)a[i * am + p * ak] * (double)b[p * bk + j * bn];
            c[i * n + j] = s;
        }
}

static void matmul_is_the_product_for_any_transposition(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    enum { M = 37, N = 70, K = 131 };
    static float a[M * K], b[K * N];
    static double want[M * N];
    fill(a, M * K, -1, 1);
    fill(b, K * N, -1, 2);
    for (int t = 0; t < 4; t++) {
        bool ta = t & 1, tb = t & 2;
        fb_tensor *x = fb_from(ctx, FB_F32, ta ? FB_SHAPE(K, M) : FB_SHAPE(M, K), a);
        fb_tensor *y = fb_from(ctx, FB_F32, tb ? FB_SHAPE(N, K) : FB_SHAPE(K, N), b);
        x = ta ? fb_transpose(x, 0, 1) : x;
        y = tb ? fb_transpose(y, 0, 1) : y;
        product(a, ta ? 1 : K, ta ? M : 1, b, tb ? 1 : N, tb ? K : 1, M, N, K, want);
        expect_values(fb_matmul(x, y), want, M * N, 2e-5);
        /* F64 takes the own kernel */
        fb_tensor *wide = fb_matmul(fb_to(x, FB_F64), fb_to(y, FB_F64));
        expect_values(fb_to(wide, FB_F32), want, M * N, 1e-6);
    }
}

static void matmul_broadcasts_batches_and_takes_vectors(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    float a[2 * 3 * 4 * 5], b[3 * 5 * 6];
    double want[2 * 3 * 4 * 6];
    fill(a, 120, -1, 1);
    fill(b, 90, -1, 2);
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(2, 3, 4, 5), a);
    fb_tensor *y = fb_from(ctx, FB_F32, FB_SHAPE(3, 5, 6), b);
    for (int i = 0; i < 6; i++)
        product(a + i * 20, 5, 1, b + i % 3 * 30, 6, 1, 4, 6, 5, want + i * 24);
    expect_values(fb_matmul(x, y), want, 144, 1e-5);

    fb_tensor *row = fb_from(ctx, FB_F32, FB_SHAPE(5), a);
    product(a, 5, 1, b, 6, 1, 1, 6, 5, want);
    fb_tensor *one = fb_matmul(row, fb_select(y, 0, 0));
    assert_int_equal(fb_ndim(one), 1);
    expect_values(one, want, 6, 1e-5);
    product(a, 5, 1, a, 1, 1, 24, 1, 5, want);
    fb_tensor *column = fb_matmul(x, row);
    assert_int_equal(fb_ndim(column), 3);
    expect_values(column, want, 24, 1e-5);
    fb_tensor *dot = fb_matmul(row, row);
    assert_int_equal(fb_ndim(dot), 0);
    expect_values(dot, want, 1, 1e-5);
}

static void linear_and_its_gradients_match_plain_loops(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    enum { M = 66, IN = 50, OUT = 33 };
    static float x[M * IN], w[OUT * IN], b[OUT], u[M * OUT];
    static double y[M * OUT], dx[M * IN], dw[OUT * IN], db[OUT];
    fill(x, M * IN, -1, 1);
    fill(w, OUT * IN, -1, 2);
    fill(b, OUT, -1, 1);
    fill(u, M * OUT, -2, 1);
    product(x, IN, 1, w, 1, IN, M, OUT, IN, y);
    product(u, OUT, 1, w, IN, 1, M, IN, OUT, dx);
    product(u, 1, OUT, x, IN, 1, OUT, IN, M, dw);
    for (int j = 0; j < OUT; j++)
        for (int i = 0; i < M; i++) {
            y[i * OUT + j] += (double)b[j];
            db[j] += (double)u[i * OUT + j];
        }
    fb_tensor *tx = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(6, 11, IN), x), true);
    fb_tensor *tw = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(OUT, IN), w), true);
    fb_tensor *tb = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(OUT), b), true);
    fb_tensor *tu = fb_from(ctx, FB_F32, FB_SHAPE(6, 11, OUT), u);
    fb_tensor *ty = fb_linear(tx, tw, tb);
    expect_values(ty, y, M * OUT, 1e-5);
    assert_int_equal(fb_backward(fb_sum(fb_mul(ty, tu), FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(tx), dx, M * IN, 1e-5);
    expect_values(fb_grad_of(tw), dw, OUT * IN, 1e-5);
    expect_values(fb_grad_of(tb), db, OUT, 1e-5);

    /* a second pass adds */
    assert_int_equal(fb_backward(fb_sum(fb_mul(fb_linear(tx, tw, tb), tu), FB_ALL, false)), FB_OK);
    for (int i = 0; i < OUT * IN; i++)
        dw[i] *= 2;
    expect_values(fb_grad_of(tw), dw, OUT * IN, 1e-5);
}

static void shapes_that_do_not_fit_are_named(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    static float zero[64 * 784];
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(64, 784), zero);
    fb_tensor *w = fb_from(ctx, FB_F32, FB_SHAPE(10, 700), zero);
    assert_null(fb_linear(x, w, NULL));
    expect_error(ctx, FB_E_SHAPE, "linear: inner sizes differ: [64, 784] x [10, 700]");
    assert_null(fb_matmul(x, w));
    expect_error(ctx, FB_E_SHAPE, "matmul: inner sizes differ: [64, 784] x [10, 700]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_is_the_product_for_any_transposition),
        cmocka_unit_test(matmul_broadcasts_batches_and_takes_vectors),
        cmocka_unit_test(linear_and_its_gradients_match_plain_loops),
        cmocka_unit_test(shapes_that_do_not_fit_are_named),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
