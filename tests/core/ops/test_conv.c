/* conv2d and pooling against plain loops in double. */
#include "ops_test_priv.h"

#include <flambeau/core/ops/conv.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/pool.h>
#include <flambeau/core/ops/reduce.h>

typedef struct shape {
    int n, c, h, w, k, kh, kw, s, p, d, g, oh, ow;
} shape;

static shape sized(shape q)
{
    q.oh = (q.h + 2 * q.p - q.d * (q.kh - 1) - 1) / q.s + 1;
    q.ow = (q.w + 2 * q.p - q.d * (q.kw - 1) - 1) / q.s + 1;
    return q;
}

/* All three directions at once: y from x and w; dx and dw from u. */
static void plain_conv(const shape *q, const float *x, const float *w, const float *u, double *y,
                       double *dx, double *dw)
{
    int cg = q->c / q->g, kg = q->k / q->g;
    for (int n = 0; n < q->n; n++)
        for (int k = 0; k < q->k; k++)
            for (int i = 0; i < q->oh; i++)
                for (int j = 0; j < q->ow; j++)
                    for (int c = 0; c < cg; c++)
                        for (int r = 0; r < q->kh; r++)
                            for (int t = 0; t < q->kw; t++) {
                                int yy = i * q->s - q->p + r * q->d;
                                int xx = j * q->s - q->p + t * q->d;
                                if (yy < 0 || yy >= q->h || xx < 0 || xx >= q->w)
                                    continue;
                                int o = ((n * q->k + k) * q->oh + i) * q->ow + j;
                                int a = ((n * q->c + k / kg * cg + c) * q->h + yy) * q->w + xx;
                                int b = ((k * cg + c) * q->kh + r) * q->kw + t;
                                y[o] += (double)x[a] * (double)w[b];
                                dx[a] += (double)u[o] * (double)w[b];
                                dw[b] += (double)u[o] * (double)x[a];
                            }
}

static void check_conv(fb_context *ctx, shape given, fb_dtype dtype)
{
    FB_SCOPE(ctx);
    shape q = sized(given);
    int nx = q.n * q.c * q.h * q.w, nw = q.k * (q.c / q.g) * q.kh * q.kw;
    int ny = q.n * q.k * q.oh * q.ow;
    float *x = test_malloc(sizeof(float) * (size_t)(nx + nw + ny)), *w = x + nx, *u = w + nw;
    double *y = test_calloc((size_t)(nx + nw + ny + q.k), sizeof(double));
    double *dx = y + ny, *dw = dx + nx, *db = dw + nw;
    fill(x, nx, -1, 1);
    fill(w, nw, -1, 1.5f);
    fill(u, ny, -2, 1);
    plain_conv(&q, x, w, u, y, dx, dw);
    for (int o = 0; o < ny; o++) {
        int k = o / (q.oh * q.ow) % q.k;
        y[o] += (double)w[k % nw];
        db[k] += (double)u[o];
    }
    float *bias = test_malloc(sizeof(float) * (size_t)q.k);
    for (int k = 0; k < q.k; k++)
        bias[k] = w[k % nw];
    fb_tensor *t[3] = {fb_from(ctx, FB_F32, FB_SHAPE(q.n, q.c, q.h, q.w), x),
                       fb_from(ctx, FB_F32, FB_SHAPE(q.k, q.c / q.g, q.kh, q.kw), w),
                       fb_from(ctx, FB_F32, FB_SHAPE(q.k), bias)};
    for (int i = 0; i < 3; i++)
        t[i] = fb_requires_grad(fb_to(t[i], dtype), true);
    fb_tensor *tu = fb_to(fb_from(ctx, FB_F32, FB_SHAPE(q.n, q.k, q.oh, q.ow), u), dtype);
    fb_conv_options o = {.stride = {q.s}, .padding = {q.p}, .dilation = {q.d}, .groups = q.g};
    fb_tensor *ty = fb_conv2d(t[0], t[1], t[2], &o);
    expect_values(fb_to(ty, FB_F32), y, ny, 1e-4);
    for (int pass = 1; pass <= 2; pass++) { /* the second adds */
        ty = fb_conv2d(t[0], t[1], t[2], &o);
        assert_int_equal(fb_backward(fb_sum(fb_mul(ty, tu), FB_ALL, false)), FB_OK);
        expect_values(fb_to(fb_grad_of(t[0]), FB_F32), dx, nx, 1e-4);
        expect_values(fb_to(fb_grad_of(t[1]), FB_F32), dw, nw, 1e-4);
        expect_values(fb_to(fb_grad_of(t[2]), FB_F32), db, q.k, 1e-4);
        for (int i = 0; i < nx + nw + q.k; i++)
            dx[i] *= 2;
    }
    test_free(x);
    test_free(y);
    test_free(bias);
}

static void conv2d_and_its_gradients_match_plain_loops(void **state)
{
    const shape cases[] = {
        {.n = 2, .c = 1, .h = 9, .w = 8, .k = 32, .kh = 3, .kw = 3, .s = 1, .p = 1, .d = 1, .g = 1},
        {.n = 2, .c = 16, .h = 9, .w = 8, .k = 8, .kh = 3, .kw = 3, .s = 2, .p = 1, .d = 1, .g = 1},
        {.n = 3, .c = 3, .h = 11, .w = 7, .k = 5, .kh = 5, .kw = 2, .s = 1, .p = 0, .d = 1, .g = 1},
        {.n = 1, .c = 6, .h = 8, .w = 8, .k = 4, .kh = 3, .kw = 3, .s = 1, .p = 2, .d = 2, .g = 2},
        {.n = 2, .c = 8, .h = 6, .w = 6, .k = 16, .kh = 1, .kw = 1, .s = 2, .p = 0, .d = 1, .g = 1},
        {.n = 2, .c = 8, .h = 6, .w = 6, .k = 8, .kh = 3, .kw = 3, .s = 1, .p = 1, .d = 1, .g = 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_conv(*state, cases[i], FB_F32);
        check_conv(*state, cases[i], FB_F64);
    }
}

static void conv2d_names_the_channels_that_do_not_fit(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    static float zero[8 * 3 * 32 * 32];
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(8, 3, 32, 32), zero);
    fb_tensor *w = fb_from(ctx, FB_F32, FB_SHAPE(16, 4, 3, 3), zero);
    assert_null(fb_conv2d(x, w, NULL, NULL));
    expect_error(ctx, FB_E_SHAPE,
                 "conv2d: input has 3 channels, weight expects 4: input [8, 3, 32, 32], "
                 "weight [16, 4, 3, 3]");
}

static void max_pool_takes_the_largest_and_sends_the_gradient_there(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    float x[2 * 3 * 5 * 6];
    double y[2 * 3 * 3 * 3], dx[2 * 3 * 5 * 6] = {0};
    fill(x, 180, -1, 1);
    for (int i = 0; i < 6; i++)
        for (int oy = 0; oy < 3; oy++)
            for (int ox = 0; ox < 3; ox++) {
                int best = -1;
                for (int r = 0; r < 9; r++) {
                    int iy = oy * 2 - 1 + r / 3, ix = ox * 2 - 1 + r % 3;
                    int at = i * 30 + iy * 6 + ix;
                    if (iy >= 0 && iy < 5 && ix >= 0 && ix < 6 && (best < 0 || x[at] > x[best]))
                        best = at;
                }
                y[(i * 3 + oy) * 3 + ox] = (double)x[best];
                dx[best] += 1;
            }
    fb_tensor *tx = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(2, 3, 5, 6), x), true);
    fb_tensor *ty =
        fb_max_pool2d(tx, 3, 3, FB_OPTS(fb_conv_options, .stride = {2}, .padding = {1}));
    expect_values(ty, y, 54, 0);
    assert_int_equal(fb_backward(fb_sum(ty, FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(tx), dx, 180, 0);
}

static void mean_pools_take_means(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    float x[2 * 4 * 4];
    double two[2 * 4] = {0}, all[2] = {0}, dx[32];
    fill(x, 32, -1, 1);
    for (int i = 0; i < 32; i++) {
        two[i / 16 * 4 + i % 16 / 8 * 2 + i % 4 / 2] += (double)x[i] / 4;
        all[i / 16] += (double)x[i] / 16;
        dx[i] = 1.0 / 4 + 1.0 / 16;
    }
    fb_tensor *tx = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(1, 2, 4, 4), x), true);
    fb_tensor *a = fb_avg_pool2d(tx, 2, 2, NULL), *b = fb_adaptive_avg_pool2d(tx, 1, 1);
    expect_values(a, two, 8, 1e-6);
    expect_values(b, all, 2, 1e-6);
    expect_values(fb_adaptive_avg_pool2d(tx, 2, 2), two, 8, 1e-6);
    assert_int_equal(fb_backward(fb_add(fb_sum(a, FB_ALL, false), fb_sum(b, FB_ALL, false))),
                     FB_OK);
    expect_values(fb_grad_of(tx), dx, 32, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv2d_and_its_gradients_match_plain_loops),
        cmocka_unit_test(conv2d_names_the_channels_that_do_not_fit),
        cmocka_unit_test(max_pool_takes_the_largest_and_sends_the_gradient_there),
        cmocka_unit_test(mean_pools_take_means),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
