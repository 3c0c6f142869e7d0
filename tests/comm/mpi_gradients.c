/* ranks: 1 2 3
 * Gradients through collectives: against the same sums in one process, and once more
 * differentiated. */
#include <math.h>

#include <flambeau/comm/collective.h>
#include <flambeau/comm/world.h>
#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>

#include "tests/check.h"

enum { N = 6 };

static fb_world *world;
static fb_context *ctx;
static fb_group *all;
static int rank, size;

static double x_of(int r, int64_t i)
{
    return 0.1 * (double)(i + 1) + r;
}

static double weight_of(int r, int64_t i)
{
    return 1 + 0.5 * (double)i - 0.25 * r;
}

static fb_tensor *leaf(int64_t n)
{
    double x[N * 8];
    for (int64_t i = 0; i < n; i++)
        x[i] = x_of(rank, i);
    return fb_requires_grad(fb_from(ctx, FB_F64, FB_SHAPE(n), x), true);
}

static fb_tensor *weights(int64_t n)
{
    double w[N * 8];
    for (int64_t i = 0; i < n; i++)
        w[i] = weight_of(rank, i);
    return fb_from(ctx, FB_F64, FB_SHAPE(n), w);
}

/* The gradient of the ranks' joint loss sum(w * y). */
static const double *gradient_of(fb_tensor *x, fb_tensor *y)
{
    assert_non_null(y);
    fb_backward(fb_sum(fb_mul(y, weights(fb_numel(y))), FB_ALL, false));
    check_ok(ctx);
    return check_data(fb_grad_of(x));
}

static void near(double got, double want)
{
    if (!(fabs(got - want) < 1e-12 * (1 + fabs(want))))
        fail_msg("%.17g, not %.17g", got, want);
}

static void all_reduce_sums_the_gradients(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(N);
    const double *g = gradient_of(x, fb_all_reduce(all, x, FB_SUM));
    for (int i = 0; i < N; i++) {
        double want = 0;
        for (int r = 0; r < size; r++)
            want += weight_of(r, i);
        near(g[i], want);
    }
}

static void all_gather_sums_what_came_back(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(N);
    const double *g = gradient_of(x, fb_all_gather(all, x));
    for (int i = 0; i < N; i++) {
        double want = 0;
        for (int r = 0; r < size; r++)
            want += weight_of(r, rank * N + i);
        near(g[i], want);
    }
    fb_tensor *s = fb_requires_grad(fb_full(ctx, FB_F64, FB_SCALAR, 3), true);
    g = gradient_of(s, fb_all_gather(all, s));
    assert_int_equal(fb_ndim(fb_grad_of(s)), 0);
}

static void reduce_scatter_gathers_the_gradients(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(N * size);
    const double *g = gradient_of(x, fb_reduce_scatter(all, x, FB_SUM));
    for (int i = 0; i < N * size; i++)
        near(g[i], weight_of(i / N, i % N));
}

static void all_to_all_sends_the_gradients_back(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(N * size);
    const double *g = gradient_of(x, fb_all_to_all(all, x));
    for (int i = 0; i < N * size; i++)
        near(g[i], weight_of(i / N, rank * N + i % N));
}

/* y = sum over ranks of x^2, L = sum of y^3 on each rank; the derivative of sum(dL/dx). */
static void a_second_derivative_goes_through_all_reduce(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(N), *g = NULL;
    fb_tensor *y = fb_all_reduce(all, fb_mul(x, x), FB_SUM);
    fb_tensor *loss = fb_sum(fb_mul(y, fb_mul(y, y)), FB_ALL, false);
    fb_gradients(FB_TENSORS(loss), FB_TENSORS(x),
                 FB_OPTS(fb_gradient_options, .create_graph = true), &g);
    assert_non_null(g);
    fb_backward(fb_sum(g, FB_ALL, false));
    check_ok(ctx);
    const double *h = check_data(fb_grad_of(x));
    for (int i = 0; i < N; i++) {
        double s = 0, sum_x = 0;
        for (int r = 0; r < size; r++) {
            s += x_of(r, i) * x_of(r, i);
            sum_x += x_of(r, i);
        }
        /* dL/dx_r = R * 3 s^2 * 2 x_r; its sum over ranks, differentiated by x of this rank */
        near(h[i], size * (12 * s * 2 * x_of(rank, i) * sum_x + 6 * s * s));
    }
}

static void only_sums_have_a_gradient(void **state)
{
    (void)state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(N);
    fb_tensor *y = fb_all_reduce(all, x, FB_MAX);
    assert_non_null(y);
    fb_backward(fb_sum(y, FB_ALL, false));
    check_error(ctx, FB_E_UNSUPPORTED, "all_reduce: only FB_SUM has a gradient");
    assert_int_equal(fb_world_barrier(world), FB_OK);
}

int main(int argc, char **argv)
{
    world = fb_world_open(&argc, &argv);
    ctx = fb_world_context(world);
    all = fb_world_group(world);
    rank = fb_world_rank(world);
    size = fb_world_size(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_reduce_sums_the_gradients),
        cmocka_unit_test(all_gather_sums_what_came_back),
        cmocka_unit_test(reduce_scatter_gathers_the_gradients),
        cmocka_unit_test(all_to_all_sends_the_gradients_back),
        cmocka_unit_test(a_second_derivative_goes_through_all_reduce),
        cmocka_unit_test(only_sums_have_a_gradient),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return fb_world_close(world) || failed;
}
