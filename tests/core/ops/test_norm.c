/* batch_norm, layer_norm, dropout and attention against plain loops in double. */
#include "ops_test_priv.h"

#include <flambeau/core/ops/attention.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/dropout.h>
#include <flambeau/core/ops/norm.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

/* One group of m values at x[at(i)]: normalise, and the gradients of sum(u y). */
static void plain_norm(const double *x, const double *w, const double *b, const double *u, int m,
                       double *y, double *dx, double *dw, double *db)
{
    double mean = 0, var = 0, sg = 0, sgh = 0;
    for (int i = 0; i < m; i++)
        mean += x[i] / m;
    for (int i = 0; i < m; i++)
        var += (x[i] - mean) * (x[i] - mean) / m;
    double r = 1 / sqrt(var + 1e-5);
    for (int i = 0; i < m; i++) {
        double h = (x[i] - mean) * r;
        y[i] = h * w[i] + b[i];
        sg += u[i] * w[i] / m;
        sgh += u[i] * w[i] * h / m;
        dw[i] += u[i] * h;
        db[i] += u[i];
    }
    for (int i = 0; i < m; i++)
        dx[i] = r * (u[i] * w[i] - sg - (x[i] - mean) * r * sgh);
}

static void layer_norm_and_its_gradients_match_plain_loops(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    enum { R = 9, D = 37 };
    float x[R * D], w[D], b[D], u[R * D];
    double y[R * D], dx[R * D], dw[D] = {0}, db[D] = {0}, wd[D], bd[D];
    fill(x, R * D, -2, 3);
    fill(w, D, 0.5f, 2);
    fill(b, D, -1, 1);
    fill(u, R * D, -1, 2);
    for (int j = 0; j < D; j++) {
        wd[j] = (double)w[j];
        bd[j] = (double)b[j];
    }
    for (int i = 0; i < R; i++) {
        double xd[D], ud[D];
        for (int j = 0; j < D; j++) {
            xd[j] = (double)x[i * D + j];
            ud[j] = (double)u[i * D + j];
        }
        plain_norm(xd, wd, bd, ud, D, y + i * D, dx + i * D, dw, db);
    }
    fb_tensor *tx = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(3, 3, D), x), true);
    fb_tensor *tw = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(D), w), true);
    fb_tensor *tb = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(D), b), true);
    fb_tensor *ty = fb_layer_norm(tx, FB_SHAPE(D), tw, tb, 1e-5);
    expect_values(ty, y, R * D, 1e-5);
    fb_tensor *tu = fb_from(ctx, FB_F32, FB_SHAPE(3, 3, D), u);
    assert_int_equal(fb_backward(fb_sum(fb_mul(ty, tu), FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(tx), dx, R * D, 1e-5);
    expect_values(fb_grad_of(tw), dw, D, 1e-5);
    expect_values(fb_grad_of(tb), db, D, 1e-5);
}

/* loss = sum(u y) + sum(u s) of y = layer_norm(s), s = x + r. */
static void add_layer_norm_is_the_norm_of_a_sum_and_the_sum(void **state)
{
    fb_context *ctx = *state;
    enum { ROWS = 90, M = 37 };
    static float x[ROWS * M], r[ROWS * M], u[ROWS * M], w[M], b[M];
    static double want[ROWS * M], s[ROWS * M];
    fill(x, ROWS * M, -2, 3);
    fill(r, ROWS * M, 1, 2);
    fill(u, ROWS * M, -1, 1);
    fill(w, M, 0.5, 1.5);
    fill(b, M, -1, 1);
    static float grads[2][4][ROWS * M];
    for (int fused = 0; fused < 2; fused++) {
        FB_SCOPE(ctx);
        fb_tensor *in[4] = {fb_from(ctx, FB_F32, FB_SHAPE(9, 10, M), x),
                            fb_from(ctx, FB_F32, FB_SHAPE(9, 10, M), r),
                            fb_from(ctx, FB_F32, FB_SHAPE(M), w),
                            fb_from(ctx, FB_F32, FB_SHAPE(M), b)};
        for (int i = 0; i < 4; i++)
            fb_requires_grad(in[i], true);
        fb_tensor *tu = fb_from(ctx, FB_F32, FB_SHAPE(9, 10, M), u), *sum = NULL, *y = NULL;
        if (fused) {
            y = fb_add_layer_norm(in[0], in[1], FB_SHAPE(M), in[2], in[3], 1e-5, &sum);
            expect_values(y, want, ROWS * M, 1e-6);
            expect_values(sum, s, ROWS * M, 0);
        } else {
            sum = fb_add(in[0], in[1]);
            y = fb_layer_norm(sum, FB_SHAPE(M), in[2], in[3], 1e-5);
            fb_tensor *wide[2] = {fb_to(y, FB_F64), fb_to(sum, FB_F64)};
            assert_int_equal(fb_read(wide[0], want, sizeof want), FB_OK);
            assert_int_equal(fb_read(wide[1], s, sizeof s), FB_OK);
        }
        fb_tensor *loss = fb_sum(fb_mul(tu, fb_add(y, sum)), FB_ALL, false);
        assert_int_equal(fb_backward(loss), FB_OK);
        for (int i = 0; i < 4; i++) {
            fb_tensor *g = fb_grad_of(in[i]);
            assert_int_equal(fb_read(g, grads[fused][i], (size_t)fb_numel(g) * sizeof(float)),
                             FB_OK);
        }
    }
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < (i < 2 ? ROWS * M : M); k++)
            assert_true(fabsf(grads[1][i][k] - grads[0][i][k]) <= 2e-5f);
}

/* As under autocast: x is F32, what a block adds is BF16. */
static void add_layer_norm_promotes_as_a_sum_does(void **state)
{
    fb_context *ctx = *state;
    enum { ROWS = 5, M = 24 };
    float x[ROWS * M], r[ROWS * M];
    double want[ROWS * M];
    fill(x, ROWS * M, -2, 3);
    fill(r, ROWS * M, 1, 2);
    for (int swapped = 0; swapped < 2; swapped++) {
        FB_SCOPE(ctx);
        fb_tensor *f = fb_from(ctx, FB_F32, FB_SHAPE(ROWS, M), x);
        fb_tensor *h = fb_to(fb_from(ctx, FB_F32, FB_SHAPE(ROWS, M), r), FB_BF16);
        fb_requires_grad(f, true);
        fb_requires_grad(h, true);
        fb_tensor *sum = NULL;
        fb_tensor *y = fb_add_layer_norm(swapped ? h : f, swapped ? f : h, FB_SHAPE(M), NULL, NULL,
                                         1e-5, &sum);
        assert_int_equal(fb_dtype_of(y), FB_F32);
        fb_tensor *plain = fb_to(fb_add(f, h), FB_F64);
        assert_int_equal(fb_read(plain, want, sizeof want), FB_OK);
        expect_values(sum, want, ROWS * M, 0);
        assert_int_equal(fb_backward(fb_sum(fb_add(y, sum), FB_ALL, false)), FB_OK);
        assert_int_equal(fb_dtype_of(fb_grad_of(f)), FB_F32);
        assert_int_equal(fb_dtype_of(fb_grad_of(h)), FB_BF16);
    }
}

static void batch_norm_and_its_gradients_match_plain_loops(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    enum { N = 4, C = 3, S = 30, M = N * S };
    float x[N * C * S], u[N * C * S], w[C], b[C];
    double y[N * C * S], dx[N * C * S], dw[C] = {0}, db[C] = {0}, mean[C] = {0};
    fill(x, N * C * S, -2, 3);
    fill(u, N * C * S, -1, 2);
    fill(w, C, 0.5f, 2);
    fill(b, C, -1, 1);
    for (int c = 0; c < C; c++) {
        double xd[M], ud[M], wd[M], bd[M], yd[M], dxd[M], dwd[M] = {0}, dbd[M] = {0};
        for (int i = 0; i < M; i++) {
            int at = (i / S * C + c) * S + i % S;
            xd[i] = (double)x[at];
            ud[i] = (double)u[at];
            wd[i] = (double)w[c];
            bd[i] = (double)b[c];
            mean[c] += xd[i] / M;
        }
        plain_norm(xd, wd, bd, ud, M, yd, dxd, dwd, dbd);
        for (int i = 0; i < M; i++) {
            int at = (i / S * C + c) * S + i % S;
            y[at] = yd[i];
            dx[at] = dxd[i];
            dw[c] += dwd[i];
            db[c] += dbd[i];
        }
    }
    fb_tensor *tx = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(N, C, 5, 6), x), true);
    fb_tensor *tw = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(C), w), true);
    fb_tensor *tb = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(C), b), true);
    fb_tensor *tu = fb_from(ctx, FB_F32, FB_SHAPE(N, C, 5, 6), u), *tm, *tv;
    fb_tensor *ty = fb_batch_norm(tx, tw, tb, 1e-5, &tm, &tv);
    expect_values(ty, y, N * C * S, 1e-5);
    expect_values(tm, mean, C, 1e-5);
    assert_int_equal(fb_backward(fb_sum(fb_mul(ty, tu), FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(tx), dx, N * C * S, 1e-5);
    expect_values(fb_grad_of(tw), dw, C, 1e-5);
    expect_values(fb_grad_of(tb), db, C, 1e-5);
    /* eval with the batch's own statistics is the same map */
    expect_values(fb_batch_norm_eval(tx, tw, tb, tm, tv, 1e-5), y, N * C * S, 1e-5);
}

/* loss = sum(u y): what fb_batch_norm_relu gives, or the operators one by one. */
typedef struct residual_call {
    fb_shape shape;
    fb_dtype dtype, residual; /* 0: no residual */
    bool turned;              /* the gradient comes channels-first */
} residual_call;

enum { RES_MOST = 2 * 35 * 4 * 3 * 5, RES_OUTS = 7 };

static void run_residual(fb_context *ctx, const residual_call *c, bool fused, fb_tensor *out[])
{
    static float x[RES_MOST], r[RES_MOST], u[RES_MOST], w[35], b[35];
    const fb_shape row = FB_SHAPE(c->shape.d[1]);
    fill(x, RES_MOST, -2, 3);
    fill(r, RES_MOST, -1, 1);
    fill(u, RES_MOST, -1, 2);
    fill(w, 35, -0.5f, 2);
    fill(b, 35, -1, 1);
    const float *from[4] = {x, w, b, r};
    fb_dtype dtypes[4] = {c->dtype, c->dtype == FB_F64 ? FB_F64 : FB_F32, 0, c->residual};
    fb_tensor *in[4] = {NULL}, *mean = NULL, *var = NULL, *y;
    dtypes[2] = dtypes[1];
    for (int i = 0; i < 4; i++)
        if (dtypes[i])
            in[i] = fb_requires_grad(
                fb_to(fb_from(ctx, FB_F32, i == 1 || i == 2 ? row : c->shape, from[i]), dtypes[i]),
                true);
    if (fused)
        y = fb_batch_norm_relu(in[0], in[1], in[2], in[3], 1e-5, &mean, &var);
    else
        y = fb_batch_norm(in[0], in[1], in[2], 1e-5, &mean, &var);
    if (!fused)
        y = fb_relu(in[3] ? fb_add(y, in[3]) : y);
    fb_tensor *tu = fb_to(fb_from(ctx, FB_F32, c->shape, u), fb_dtype_of(y));
    fb_tensor *loss = fb_sum(fb_mul(c->turned ? fb_contiguous(y) : y, tu), FB_ALL, false);
    assert_int_equal(fb_backward(loss), FB_OK);
    out[0] = fb_detach(y);
    out[1] = fb_detach(mean);
    out[2] = fb_detach(var);
    for (int i = 0; i < 4; i++)
        out[3 + i] = in[i] ? fb_grad_of(in[i]) : NULL;
}

static void batch_norm_relu_is_its_operators(void **state)
{
    fb_context *ctx = *state;
    const residual_call calls[] = {{FB_SHAPE(2, 35, 4, 3), FB_F32, FB_F32, false},
                                   {FB_SHAPE(2, 35, 4, 3), FB_F32, FB_F32, true},
                                   {FB_SHAPE(2, 35, 4, 3), FB_F32, 0, true},
                                   {FB_SHAPE(2, 35, 4, 3), FB_F64, FB_F64, false},
                                   {FB_SHAPE(2, 3, 4, 3, 5), FB_F32, FB_F32, false},
                                   {FB_SHAPE(2, 5, 9), FB_F32, FB_F32, false},
                                   {FB_SHAPE(9, 20), FB_F32, 0, false},
                                   {FB_SHAPE(9, 20), FB_BF16, FB_F32, false}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        FB_SCOPE(ctx);
        fb_tensor *got[RES_OUTS], *want[RES_OUTS];
        bool narrow = calls[i].dtype == FB_BF16; /* whose norm the operators round */
        run_residual(ctx, &calls[i], true, got);
        run_residual(ctx, &calls[i], false, want);
        for (int k = 0; k < RES_OUTS; k++) {
            assert_int_equal(!got[k], !want[k]);
            if (!got[k])
                continue;
            double d[RES_MOST];
            fb_tensor *wide = fb_to(want[k], FB_F64);
            assert_int_equal(fb_read(wide, d, (size_t)fb_numel(wide) * sizeof *d), FB_OK);
            expect_values(fb_to(got[k], FB_F32), d, (int)fb_numel(wide), narrow ? 0.1 : 2e-5);
        }
        assert_int_equal(fb_dtype_of(got[0]), narrow ? FB_F32 : calls[i].dtype);
    }
}

/* Where y is 0 nothing of an infinite gradient comes through; a NaN stays. */
static void batch_norm_relu_is_closed_at_zero(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(2, 2), (float[]){1, NAN, -1, 2});
    fb_tensor *r = fb_requires_grad(fb_zeros(ctx, FB_F32, FB_SHAPE(2, 2)), true), *dr = NULL;
    fb_tensor *y = fb_batch_norm_relu(x, NULL, NULL, r, 1e-5, NULL, NULL);
    fb_tensor *seed = fb_full(ctx, FB_F32, FB_SHAPE(2, 2), INFINITY);
    float v[4], g[4];
    assert_int_equal(fb_gradients(FB_TENSORS(y), FB_TENSORS(r),
                                  FB_OPTS(fb_gradient_options, .seeds = FB_TENSORS(seed)), &dr),
                     FB_OK);
    assert_int_equal(fb_read(y, v, sizeof v), FB_OK);
    assert_int_equal(fb_read(dr, g, sizeof g), FB_OK);
    assert_true(v[0] > 0.9f && v[2] == 0 && isnan(v[1]) && isnan(v[3]));
    assert_true(isinf(g[0]) && g[2] == 0 && isinf(g[1]));
}

static void batch_norm_relu_says_what_does_not_fit(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(2, 3, 4, 1, 2)), *mean = x;
    fb_tensor *r = fb_ones(ctx, FB_F32, FB_SHAPE(2, 3, 2, 2, 2));
    assert_null(fb_batch_norm_relu(x, NULL, NULL, r, 1e-5, &mean, NULL));
    assert_null(mean);
    expect_error(ctx, FB_E_SHAPE,
                 "batch_norm_relu: input [2, 3, 4, 1, 2] and residual [2, 3, 2, 2, 2] differ");
}

/* Channels far from zero, with a first value far from the others, infinite, and all equal. */
static void statistics_of_a_batch_keep_their_digits(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    enum { R = 700, C = 4 };
    float *x = test_malloc(sizeof(float) * R * C);
    fill(x, R * C, -1, 1);
    for (int i = 0; i < R; i++) {
        x[i * C] += 1e4f;
        x[i * C + 3] = 7.25f;
    }
    x[1] = 1e6f;
    x[2] = -INFINITY;
    fb_tensor *tx = fb_from(ctx, FB_F32, FB_SHAPE(R, C), x), *mean, *var;
    assert_non_null(fb_batch_norm(tx, NULL, NULL, 1e-5, &mean, &var));
    float m[C], v[C];
    assert_int_equal(fb_read(mean, m, sizeof m), FB_OK);
    assert_int_equal(fb_read(var, v, sizeof v), FB_OK);
    for (int j = 0; j < C; j++) {
        double want[2] = {0, 0};
        for (int i = 0; i < R; i++)
            want[0] += (double)x[i * C + j] / R;
        for (int i = 0; i < R; i++)
            want[1] += ((double)x[i * C + j] - want[0]) * ((double)x[i * C + j] - want[0]) / R;
        if (j == 2) {
            assert_true(isinf(m[j]) && m[j] < 0 && isnan(v[j]));
            continue;
        }
        assert_true(fabs((double)m[j] - want[0]) <= 1e-7 * fabs(want[0]));
        assert_true(fabs((double)v[j] - want[1]) <= 1e-6 * want[1] + 1e-20);
    }
    test_free(x);
}

/* Rows far from zero, with a first value far from the others, infinite, and all equal. */
static void a_row_keeps_its_digits(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    enum { R = 4, D = 75 };
    float x[R * D], y[R * D];
    fill(x, R * D, -1, 1);
    for (int j = 0; j < D; j++) {
        x[j] += 1e4f;
        x[3 * D + j] = 7.25f;
    }
    x[D] = 1e6f;
    x[2 * D + 20] = -INFINITY;
    fb_tensor *ty =
        fb_layer_norm(fb_from(ctx, FB_F32, FB_SHAPE(R, D), x), FB_SHAPE(D), NULL, NULL, 1e-5);
    assert_int_equal(fb_read(ty, y, sizeof y), FB_OK);
    /* A card has the mean in F32: half a unit in the last place of 1e4, deviation 0.6. */
    const double bound = strcmp(fb_device_of(ty), "cpu") ? 2e-3 : 1e-6;
    for (int i = 0; i < R; i++) {
        double xd[D], ones[D], zeros[D] = {0}, want[D], dx[D], dw[D] = {0}, db[D] = {0};
        for (int j = 0; j < D; j++) {
            xd[j] = (double)x[i * D + j];
            ones[j] = 1;
        }
        plain_norm(xd, ones, zeros, zeros, D, want, dx, dw, db);
        for (int j = 0; j < D; j++) {
            double v = (double)y[i * D + j];
            assert_true(i == 2 ? isnan(v) : fabs(v - want[j]) <= bound * (1 + fabs(want[j])));
        }
    }
}

static void dropout_scales_what_it_keeps_and_masks_the_gradient_alike(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    enum { N = 4000 };
    static float x[N], y[N], g[N];
    for (int i = 0; i < N; i++)
        x[i] = 1;
    fb_tensor *tx = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(40, 100), x), true);
    fb_tensor *ty = fb_dropout(tx, 0.25);
    assert_int_equal(fb_backward(fb_sum(ty, FB_ALL, false)), FB_OK);
    assert_int_equal(fb_read(ty, y, sizeof y), FB_OK);
    assert_int_equal(fb_read(fb_grad_of(tx), g, sizeof g), FB_OK);
    int kept = 0;
    for (int i = 0; i < N; i++) {
        assert_true(y[i] == 0 || fabsf(y[i] - 4.0f / 3) < 1e-6f);
        assert_true(y[i] == g[i]);
        kept += y[i] != 0;
    }
    assert_true(kept > 2850 && kept < 3150);
    assert_ptr_equal(fb_dropout(tx, 0), tx);
}

static void attention_matches_plain_loops(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    enum { H = 2, T = 5, D = 4 };
    float q[H * T * D], k[H * T * D], v[H * T * D];
    fill(q, H * T * D, -1, 1);
    fill(k, H * T * D, -1, 2);
    fill(v, H * T * D, -2, 1);
    for (int causal = 0; causal < 2; causal++) {
        double y[H * T * D] = {0};
        for (int h = 0; h < H; h++)
            for (int t = 0; t < T; t++) {
                double p[T], sum = 0;
                int n = causal ? t + 1 : T;
                for (int s = 0; s < n; s++) {
                    double dot = 0;
                    for (int d = 0; d < D; d++)
                        dot += (double)q[(h * T + t) * D + d] * (double)k[(h * T + s) * D + d];
                    sum += p[s] = exp(dot / 2);
                }
                for (int s = 0; s < n; s++)
                    for (int d = 0; d < D; d++)
                        y[(h * T + t) * D + d] += p[s] / sum * (double)v[(h * T + s) * D + d];
            }
        fb_tensor *tq = fb_from(ctx, FB_F32, FB_SHAPE(1, H, T, D), q);
        fb_tensor *tk = fb_from(ctx, FB_F32, FB_SHAPE(1, H, T, D), k);
        fb_tensor *tv = fb_from(ctx, FB_F32, FB_SHAPE(1, H, T, D), v);
        expect_values(
            fb_scaled_dot_product_attention(tq, tk, tv, FB_OPTS(fb_sdpa_options, .causal = causal)),
            y, H * T * D, 1e-5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layer_norm_and_its_gradients_match_plain_loops),
        cmocka_unit_test(add_layer_norm_is_the_norm_of_a_sum_and_the_sum),
        cmocka_unit_test(add_layer_norm_promotes_as_a_sum_does),
        cmocka_unit_test(batch_norm_and_its_gradients_match_plain_loops),
        cmocka_unit_test(batch_norm_relu_is_its_operators),
        cmocka_unit_test(batch_norm_relu_is_closed_at_zero),
        cmocka_unit_test(batch_norm_relu_says_what_does_not_fit),
        cmocka_unit_test(statistics_of_a_batch_keep_their_digits),
        cmocka_unit_test(a_row_keeps_its_digits),
        cmocka_unit_test(dropout_scales_what_it_keeps_and_masks_the_gradient_alike),
        cmocka_unit_test(attention_matches_plain_loops),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
