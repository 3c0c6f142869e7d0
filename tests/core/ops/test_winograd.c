/* Winograd convolutions against plain loops in double; bits against threads and options. */
#include "ops_test_priv.h"

#include <flambeau/core/ops/conv.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

typedef struct shape {
    int n, c, h, w, k, ph, pw, stride;
} shape;

/* Channels around the multiples of every vector, images around the multiples of a tile, every
 * padding, both strides; few tiles and many channels, many tiles and few channels; one chunk of
 * tiles and several; results that are streamed. */
static const shape shapes[] = {
    {24, 64, 4, 4, 256, 1, 1, 1},  {3, 33, 13, 15, 47, 1, 1, 1},  {1, 16, 31, 30, 17, 0, 0, 1},
    {3, 31, 12, 7, 40, 2, 2, 1},   {2, 64, 7, 18, 65, 0, 2, 1},   {9, 20, 23, 24, 33, 1, 0, 1},
    {6, 48, 32, 31, 48, 1, 1, 1},  {40, 130, 4, 5, 140, 2, 1, 1}, {8, 64, 16, 16, 96, 1, 1, 2},
    {10, 65, 15, 23, 70, 1, 1, 2}, {6, 96, 32, 15, 64, 1, 1, 2},  {32, 150, 8, 8, 200, 1, 1, 2},
    {70, 72, 7, 8, 257, 1, 1, 2}};
enum { SHAPES = sizeof shapes / sizeof shapes[0], KINDS = 4 };

typedef struct result {
    int n[KINDS];
    float *got[KINDS]; /* y, dx, dw, db */
} result;

static int height(const shape *q)
{
    return (q->h + 2 * q->ph - 3) / q->stride + 1;
}
static int width(const shape *q)
{
    return (q->w + 2 * q->pw - 3) / q->stride + 1;
}

/* y = conv(x, w) + b and the gradients of sum(y * u), `passes` times. */
static result convolve(const fb_context_options *options, const shape *q, int passes)
{
    fb_context *ctx = fb_context_open(options);
    assert_non_null(ctx);
    int oh = height(q), ow = width(q);
    result r = {.n = {q->n * q->k * oh * ow, q->n * q->c * q->h * q->w, q->k * q->c * 9, q->k}};
    float *data = test_malloc(sizeof(float) * (size_t)(r.n[0] + r.n[1] + r.n[2] + r.n[3]));
    fill(data, r.n[0] + r.n[1] + r.n[2] + r.n[3], -1, 1);
    fb_tensor *u = fb_from(ctx, FB_F32, FB_SHAPE(q->n, q->k, oh, ow), data);
    fb_tensor *in[3] = {fb_from(ctx, FB_F32, FB_SHAPE(q->n, q->c, q->h, q->w), data + r.n[0]),
                        fb_from(ctx, FB_F32, FB_SHAPE(q->k, q->c, 3, 3), data + r.n[0] + r.n[1]),
                        fb_from(ctx, FB_F32, FB_SHAPE(q->k), data + r.n[0] + r.n[1] + r.n[2])};
    for (int i = 0; i < 3; i++)
        in[i] = fb_requires_grad(in[i], true);
    fb_tensor *out[KINDS] = {NULL};
    for (int i = 0; i < passes; i++) {
        out[0] = fb_conv2d(
            in[0], in[1], in[2],
            FB_OPTS(fb_conv_options, .stride = {q->stride},
                    .padding = {q->ph ? q->ph : FB_ZERO_INT, q->pw ? q->pw : FB_ZERO_INT}));
        assert_int_equal(fb_backward(fb_sum(fb_mul(out[0], u), FB_ALL, false)), FB_OK);
    }
    for (int i = 0; i < 3; i++)
        out[1 + i] = fb_grad_of(in[i]);
    for (int i = 0; i < KINDS; i++) {
        r.got[i] = test_malloc(sizeof(float) * (size_t)r.n[i]);
        assert_int_equal(fb_read(out[i], r.got[i], sizeof(float) * (size_t)r.n[i]), FB_OK);
    }
    test_free(data);
    assert_int_equal(fb_context_close(ctx), FB_OK);
    return r;
}

static void drop(result *r)
{
    for (int i = 0; i < KINDS; i++)
        test_free(r->got[i]);
}

/* Largest error over the root mean square of y, dx and dw. */
static void errors(const shape *q, const result *r, double error[3])
{
    int oh = height(q), ow = width(q);
    float *u = test_malloc(sizeof(float) * (size_t)(r->n[0] + r->n[1] + r->n[2] + r->n[3]));
    fill(u, r->n[0] + r->n[1] + r->n[2] + r->n[3], -1, 1);
    const float *x = u + r->n[0], *w = x + r->n[1], *b = w + r->n[2];
    double *want[3];
    for (int i = 0; i < 3; i++)
        want[i] = test_calloc((size_t)r->n[i], sizeof(double));
    for (int i = 0; i < r->n[0]; i++)
        want[0][i] = (double)b[i / (oh * ow) % q->k];
    for (int64_t i = 0; i < (int64_t)r->n[0] * q->c; i++) {
        int c = (int)(i % q->c), o = (int)(i / q->c);
        int k = o / (oh * ow) % q->k, n = o / (oh * ow * q->k);
        int y0 = o / ow % oh * q->stride - q->ph, x0 = o % ow * q->stride - q->pw;
        for (int t = 0; t < 9; t++) {
            int yy = y0 + t / 3, xx = x0 + t % 3;
            if (yy < 0 || yy >= q->h || xx < 0 || xx >= q->w)
                continue;
            int a = ((n * q->c + c) * q->h + yy) * q->w + xx, f = (k * q->c + c) * 9 + t;
            want[0][o] += (double)x[a] * (double)w[f];
            want[1][a] += (double)u[o] * (double)w[f];
            want[2][f] += (double)u[o] * (double)x[a];
        }
    }
    for (int i = 0; i < 3; i++) {
        double most = 0, squares = 0;
        for (int j = 0; j < r->n[i]; j++) {
            most = fmax(most, fabs((double)r->got[i][j] - want[i][j]));
            squares += want[i][j] * want[i][j];
        }
        error[i] = most / sqrt(squares / r->n[i]);
        test_free(want[i]);
    }
    test_free(u);
}

static void results_are_those_of_plain_sums_in_double(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        double error[3];
        result r = convolve(NULL, &shapes[i], 1);
        errors(&shapes[i], &r, error);
        for (int k = 0; k < 3; k++)
            if (!(error[k] < 1e-4))
                fail_msg("shape %d, result %d: error %g", i, k, error[k]);
        drop(&r);
    }
}

static bool same(const result *a, const result *b, int kind)
{
    return memcmp(a->got[kind], b->got[kind], sizeof(float) * (size_t)a->n[kind]) == 0;
}

static void bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        result one = convolve(FB_OPTS(fb_context_options, .threads = 1), &shapes[i], 1);
        for (int threads = 2; threads <= 3; threads++) {
            result more = convolve(FB_OPTS(fb_context_options, .threads = threads), &shapes[i], 1);
            for (int k = 0; k < KINDS; k++)
                if (!same(&one, &more, k))
                    fail_msg("shape %d, result %d differs with %d threads", i, k, threads);
            drop(&more);
        }
        drop(&one);
    }
}

/* Then these tests have tested something. */
static void exact_conv_has_other_bits_and_smaller_errors(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        double error[3];
        result r = convolve(NULL, &shapes[i], 1);
        result exact = convolve(FB_OPTS(fb_context_options, .exact_conv = true), &shapes[i], 1);
        errors(&shapes[i], &exact, error);
        for (int k = 0; k < 3; k++) {
            if (same(&r, &exact, k))
                fail_msg("shape %d, result %d: not by Winograd", i, k);
            /* A plain F32 sum of 5120 products errs by 4e-6 of their size, at most by some times
             * that. */
            if (!(error[k] < 3e-5))
                fail_msg("shape %d, result %d: error %g of a plain sum", i, k, error[k]);
        }
        drop(&r);
        drop(&exact);
    }
}

static void gradients_of_two_passes_add_up(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        result once = convolve(NULL, &shapes[i], 1), twice = convolve(NULL, &shapes[i], 2);
        for (int k = 1; k < KINDS; k++)
            for (int j = 0; j < once.n[k]; j++)
                assert_true(twice.got[k][j] == 2 * once.got[k][j]);
        drop(&once);
        drop(&twice);
    }
}

/* A NaN and an infinity among the inputs: what they reach is what relu makes of it. */
static void relu_is_that_of_the_plain_results(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        const shape *q = &shapes[i];
        fb_context *ctx = fb_context_open(NULL);
        int n = q->n * q->c * q->h * q->w, results = q->n * q->k * height(q) * width(q);
        float *data = test_malloc(sizeof(float) * (size_t)(n + q->k * q->c * 9));
        fill(data, n + q->k * q->c * 9, -1, 1);
        data[n / 2] = NAN;
        data[0] = INFINITY;
        fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(q->n, q->c, q->h, q->w), data);
        fb_tensor *w = fb_from(ctx, FB_F32, FB_SHAPE(q->k, q->c, 3, 3), data + n);
        const fb_conv_options *o =
            FB_OPTS(fb_conv_options, .stride = {q->stride},
                    .padding = {q->ph ? q->ph : FB_ZERO_INT, q->pw ? q->pw : FB_ZERO_INT});
        size_t size = sizeof(float) * (size_t)results;
        float *want = test_malloc(size), *got = test_malloc(size);
        assert_int_equal(fb_read(fb_relu(fb_conv2d(x, w, NULL, o)), want, size), FB_OK);
        assert_int_equal(fb_read(fb_conv2d_relu(x, w, NULL, o), got, size), FB_OK);
        int nans = 0, zeros = 0;
        for (int j = 0; j < results; j++) {
            nans += isnan(want[j]);
            zeros += want[j] == 0;
            if (isnan(want[j]) ? !isnan(got[j]) : memcmp(&want[j], &got[j], sizeof(float)) != 0)
                fail_msg("shape %d, result %d: %g instead of %g", i, j, (double)got[j],
                         (double)want[j]);
        }
        assert_true(nans > 0 && zeros > 0);
        test_free(data);
        test_free(want);
        test_free(got);
        assert_int_equal(fb_context_close(ctx), FB_OK);
    }
}

/* Results of 36 MiB go past the caches on every processor, those of half as many images on some. */
static void results_past_the_caches_are_those_of_fewer_images(void **state)
{
    (void)state;
    enum { N = 64, C = 32, K = 64, H = 48 };
    fb_context *ctx = fb_context_open(NULL);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(N, C, H, H));
    fb_tensor *w = fb_randn(ctx, FB_F32, FB_SHAPE(K, C, 3, 3));
    const fb_conv_options *o = FB_OPTS(fb_conv_options, .padding = {1});
    size_t half = sizeof(float) * N / 2 * K * H * H;
    char *whole = test_malloc(2 * half), *part = test_malloc(half);
    assert_int_equal(fb_read(fb_conv2d(x, w, NULL, o), whole, 2 * half), FB_OK);
    for (int i = 0; i < 2; i++) {
        fb_tensor *images = fb_narrow(x, 0, i * N / 2, N / 2);
        assert_int_equal(fb_read(fb_conv2d(images, w, NULL, o), part, half), FB_OK);
        assert_memory_equal(part, whole + (size_t)i * half, half);
    }
    test_free(whole);
    test_free(part);
    assert_int_equal(fb_context_close(ctx), FB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relu_is_that_of_the_plain_results),
        cmocka_unit_test(results_past_the_caches_are_those_of_fewer_images),
        cmocka_unit_test(results_are_those_of_plain_sums_in_double),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(exact_conv_has_other_bits_and_smaller_errors),
        cmocka_unit_test(gradients_of_two_passes_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
