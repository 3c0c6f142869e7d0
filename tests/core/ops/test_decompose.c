/* Decompositions: what they promise of their factors, in double; what they say of matrices that
 * they cannot take; and that LAPACK brings no threads. */
#include <dirent.h>

#include "ops_test_priv.h"

#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/decompose.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/strided.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/backend.h"

enum { B = 3, M = 7, N = 5 };

static bool can(fb_context *ctx)
{
    fb_tensor *t = fb_zeros(ctx, FB_F32, FB_SHAPE(1));
    return fbi_cpu_has_lapack() && !strcmp(fb_device_of(t), "cpu");
}

/* Numbers that repeat in no order. */
static fb_tensor *matrices(fb_context *ctx, int64_t rows, int64_t cols)
{
    static float x[B * M * M];
    fill(x, B * rows * cols, -1, 1);
    return fb_to(fb_from(ctx, FB_F32, FB_SHAPE(B, rows, cols), x), FB_F64);
}

static fb_tensor *identities(fb_context *ctx, int64_t n)
{
    return fb_diag_embed(fb_ones(ctx, FB_F64, FB_SHAPE(B, n)), 0, -2, -1);
}

static fb_tensor *mt(fb_tensor *t)
{
    return fb_transpose(t, -2, -1);
}

static void expect_equal(fb_tensor *a, fb_tensor *b)
{
    assert_true(fb_shape_equal(fb_shape_of(a), fb_shape_of(b)));
    double most = fb_item(fb_amax(fb_abs(fb_sub(a, b)), FB_ALL, false));
    if (!(most < 1e-12))
        fail_msg("they differ by %g", most);
}

static void factors_multiply_to_the_matrix(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    if (!can(ctx))
        skip();
    const int64_t sizes[][2] = {{M, N}, {N, M}, {N, N}};
    for (int i = 0; i < 3; i++) {
        int64_t m = sizes[i][0], n = sizes[i][1], k = m < n ? m : n;
        fb_tensor *a = matrices(ctx, m, n), *q, *r, *u, *s, *vh;
        for (int full = 0; full < 2; full++) {
            assert_int_equal(fb_qr(a, full, &q, &r), FB_OK);
            expect_equal(fb_matmul(q, r), a);
            expect_equal(fb_matmul(mt(q), q), identities(ctx, full ? m : k));
            expect_equal(fb_triu(r, 0), r);
            assert_int_equal(fb_svd(a, full, &u, &s, &vh), FB_OK);
            expect_equal(fb_matmul(mt(u), u), identities(ctx, full ? m : k));
            expect_equal(fb_matmul(vh, mt(vh)), identities(ctx, full ? n : k));
            fb_tensor *us = fb_mul(fb_narrow(u, -1, 0, k), fb_unsqueeze(s, -2));
            expect_equal(fb_matmul(us, fb_narrow(vh, -2, 0, k)), a);
        }
        expect_equal(fb_svdvals(a), s);
        fb_tensor *p = fb_pinv(a, 0);
        expect_equal(fb_matmul(fb_matmul(a, p), a), a);
        expect_equal(fb_matmul(fb_matmul(p, a), p), p);
        expect_equal(mt(fb_matmul(p, a)), fb_matmul(p, a));
        expect_equal(fb_lstsq(a, identities(ctx, m)), p);
    }
}

static void squares_are_solved_and_inverted(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    if (!can(ctx))
        skip();
    fb_tensor *a = fb_add(matrices(ctx, N, N), fb_mul_scalar(identities(ctx, N), 3));
    fb_tensor *b = matrices(ctx, N, M), *w, *v, *sign, *log_abs;
    expect_equal(fb_matmul(a, fb_solve(a, b)), b);
    expect_equal(fb_matmul(a, fb_inv(a)), identities(ctx, N));
    expect_equal(fb_matrix_power(a, -2), fb_inv(fb_matmul(a, a)));
    for (int upper = 0; upper < 2; upper++) {
        fb_tensor *t = upper ? fb_triu(a, 0) : fb_tril(a, 0);
        fb_triangular_options o = {.upper = upper};
        expect_equal(fb_matmul(t, fb_solve_triangular(a, b, &o)), b);
        o.right = true;
        expect_equal(fb_matmul(fb_solve_triangular(a, mt(b), &o), t), mt(b));
        fb_tensor *s = fb_matmul(a, mt(a)), *l = fb_cholesky(s, upper);
        expect_equal(upper ? fb_matmul(mt(l), l) : fb_matmul(l, mt(l)), s);
        expect_equal(fb_matmul(s, fb_cholesky_solve(b, l, upper)), b);
        expect_equal(fb_cholesky_inverse(l, upper), fb_inv(s));
        fb_tensor *sum = fb_add(a, mt(a)); /* symmetric */
        assert_int_equal(fb_eigh(sum, upper, &w, &v), FB_OK);
        expect_equal(fb_matmul(sum, v), fb_mul(v, fb_unsqueeze(w, -2)));
        expect_equal(fb_eigvalsh(sum, upper), w);
        /* the determinant is the product of the eigenvalues */
        assert_int_equal(fb_slogdet(s, &sign, &log_abs), FB_OK);
        fb_tensor *values = fb_eigvalsh(s, upper);
        expect_equal(log_abs, fb_sum(fb_log(values), FB_SHAPE(-1), false));
        expect_equal(sign, fb_ones(ctx, FB_F64, FB_SHAPE(B)));
        expect_equal(fb_logdet(s), log_abs);
        expect_equal(fb_mul_scalar(fb_log(fb_abs(fb_det(a))), 2), log_abs);
    }
}

/* The second matrix of a batch of 2 x 2. */
static fb_tensor *second(fb_context *ctx, float a, float b, float c, float d)
{
    const float x[8] = {2, 0, 0, 2, a, b, c, d};
    return fb_from(ctx, FB_F32, FB_SHAPE(2, 2, 2), x);
}

static void bad_matrices_are_named_by_their_place(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    if (!can(ctx))
        skip();
    fb_tensor *singular = second(ctx, 1, 2, 2, 4), *one = fb_ones(ctx, FB_F32, FB_SHAPE(2, 1));
    assert_null(fb_cholesky(second(ctx, 1, 2, 2, 1), false));
    expect_error(ctx, FB_E_ARG,
                 "cholesky: item 1 of the batch [2, 2, 2] is not positive definite "
                 "(LAPACK's potrf: info 2)");
    assert_null(fb_inv(singular));
    expect_error(ctx, FB_E_ARG,
                 "inv: item 1 of the batch [2, 2, 2] is singular (LAPACK's getrf: info 2)");
    assert_null(fb_solve(singular, one));
    expect_error(ctx, FB_E_ARG, "solve: item 1 of the batch [2, 2, 2] is singular");
    assert_null(fb_svdvals(second(ctx, 1, NAN, 0, 1)));
    expect_error(ctx, FB_E_ARG, "svdvals: item 1 of [2, 2, 2] has values that are not finite");
    const double none[2] = {4, 0};
    expect_values(fb_det(singular), none, 2, 0);
    fb_tensor *leaf = fb_requires_grad(fb_detach(singular), true);
    assert_int_equal(fb_backward(fb_sum(fb_det(leaf), FB_ALL, false)), FB_E_ARG);
    expect_error(ctx, FB_E_ARG, "is singular");
    fb_tensor *tall = fb_ones(ctx, FB_F32, FB_SHAPE(3, 2)), *q;
    assert_int_equal(fb_qr(fb_requires_grad(tall, true), true, &q, NULL), FB_OK);
    assert_int_equal(fb_backward(fb_sum(q, FB_ALL, false)), FB_E_UNSUPPORTED);
    expect_error(ctx, FB_E_UNSUPPORTED, "a complete Q of more rows than columns has no derivative");
    assert_null(
        fb_solve(fb_ones(ctx, FB_F32, FB_SHAPE(2, 3, 3)), fb_ones(ctx, FB_F32, FB_SHAPE(3, 3, 1))));
    expect_error(ctx, FB_E_SHAPE, "solve: batch sizes do not broadcast: [2, 3, 3] and [3, 3, 1]");
}

static void a_device_or_build_without_lapack_says_so(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    if (can(ctx))
        skip();
    assert_null(fb_inv(fb_ones(ctx, FB_F32, FB_SHAPE(1, 1))));
    expect_error(ctx, FB_E_UNSUPPORTED,
                 fbi_cpu_has_lapack() ? "inv: the CPU alone has it: read its"
                                      : "inv: this build has no LAPACK");
}

static int threads(void)
{
    int n = 0;
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    for (struct dirent *e = readdir(tasks); e; e = readdir(tasks))
        n += e->d_name[0] != '.';
    closedir(tasks);
    return n;
}

static void lapack_brings_no_threads_of_its_own(void **state)
{
    (void)state;
    fb_context *ctx = fb_context_open(&(fb_context_options){.threads = 2});
    fb_tensor *a = fb_rand(ctx, FB_F64, FB_SHAPE(300, 300)), *u, *s, *vh;
    if (!can(ctx)) {
        assert_int_equal(fb_context_close(ctx), FB_OK);
        skip();
    }
    a = fb_add(fb_matmul(a, mt(a)), a); /* our threads are there now */
    int before = threads();
    assert_int_equal(fb_svd(a, false, &u, &s, &vh), FB_OK);
    assert_non_null(fb_inv(a));
    assert_non_null(fb_eigvalsh(a, false));
    assert_int_equal(threads(), before);
    assert_int_equal(fb_context_close(ctx), FB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(factors_multiply_to_the_matrix, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(squares_are_solved_and_inverted, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(bad_matrices_are_named_by_their_place, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(a_device_or_build_without_lapack_says_so, open_context,
                                        close_context),
        cmocka_unit_test(lapack_brings_no_threads_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
