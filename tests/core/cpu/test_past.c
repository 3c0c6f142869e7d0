/* Outputs that go past the caches: those of the same rows, in parts that do not. */
#include "tests/core/ops/ops_test_priv.h"

#include <flambeau/flambeau.h>

enum {
    ROWS = 1030,
    COLS = 8201,
    LINED = 8192,
    SHORT = 2048,
    PART = 103,
    CHANNELS = 1024
}; /* 34 MB of F32, and lines that begin within others; rows of whole lines */

typedef fb_tensor *(*row_fn)(fb_tensor *x, fb_tensor *y, fb_tensor *w);

static fb_tensor *sum_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)w;
    return fb_add(x, y);
}

static fb_tensor *gelu_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)y, (void)w;
    return fb_gelu(x);
}

static fb_tensor *normal_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)y;
    return fb_layer_norm(x, FB_SHAPE(COLS), w, w, 1e-5);
}

static fb_tensor *in_place_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)w;
    fb_tensor *t = fb_clone(x);
    return fb_add_(t, y) == FB_OK ? t : NULL;
}

/* Rows of whole lines. */
static fb_tensor *lined(fb_tensor *t)
{
    return fb_contiguous(fb_narrow(t, -1, 0, LINED));
}

static fb_tensor *lined_normal_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)y;
    return fb_layer_norm(lined(x), FB_SHAPE(LINED), lined(w), lined(w), 1e-5);
}

static fb_tensor *lined_normal_of_sum(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    fb_tensor *sum = NULL;
    return fb_add_layer_norm(lined(x), lined(y), FB_SHAPE(LINED), lined(w), NULL, 1e-5, &sum);
}

/* The gradient of x, where that of the result is g. */
static fb_tensor *slope(fb_tensor *result, fb_tensor *x, fb_tensor *g)
{
    fb_tensor *dx = NULL;
    fb_gradient_options o = {.seeds = FB_TENSORS(g)};
    return fb_gradients(FB_TENSORS(result), FB_TENSORS(x), &o, &dx) == FB_OK ? dx : NULL;
}

static fb_tensor *lined_normal_slope_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    fb_tensor *in = fb_requires_grad(lined(x), true);
    return slope(fb_layer_norm(in, FB_SHAPE(LINED), lined(w), NULL, 1e-5), in, lined(y));
}

static fb_tensor *gelu_slope_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)w;
    fb_tensor *in = fb_requires_grad(fb_clone(x), true);
    return slope(fb_gelu(in), in, y);
}

/* The gradients of both operands, side by side. */
static fb_tensor *product_slopes_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)w;
    fb_tensor *a = fb_requires_grad(fb_clone(x), true), *both[2] = {NULL};
    fb_tensor *b = fb_requires_grad(fb_clone(y), true);
    fb_gradient_options o = {.seeds = FB_TENSORS(x)};
    assert_int_equal(fb_gradients(FB_TENSORS(fb_mul(a, b)), FB_TENSORS(a, b), &o, both), FB_OK);
    return fb_cat((fb_tensors){both, 2}, 1);
}

/* Each row as rows that are short enough. */
static fb_tensor *short_rows(fb_tensor *t)
{
    return fb_reshape(lined(t), FB_SHAPE(fb_size(t, 0), LINED / SHORT, SHORT));
}

static fb_tensor *softmax_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)y, (void)w;
    return fb_softmax(short_rows(x), -1);
}

static fb_tensor *log_softmax_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)y, (void)w;
    return fb_log_softmax(short_rows(x), -1);
}

static fb_tensor *softmax_slope_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)w;
    fb_tensor *in = fb_requires_grad(short_rows(x), true);
    return slope(fb_softmax(in, -1), in, short_rows(y));
}

static fb_tensor *log_softmax_slope_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)w;
    fb_tensor *in = fb_requires_grad(short_rows(x), true);
    return slope(fb_log_softmax(in, -1), in, short_rows(y));
}

static const row_fn functions[] = {sum_of,
                                   gelu_of,
                                   normal_of,
                                   in_place_of,
                                   lined_normal_of,
                                   lined_normal_of_sum,
                                   lined_normal_slope_of,
                                   gelu_slope_of,
                                   product_slopes_of,
                                   softmax_of,
                                   log_softmax_of,
                                   softmax_slope_of,
                                   log_softmax_slope_of};

/* On so many threads, of x and y as they lie in memory. */
static void compare_parts(fb_context *c, fb_tensor *x, fb_tensor *y)
{
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++) {
        FB_SCOPE(c);
        fb_tensor *w = fb_select(x, 0, 0);
        fb_tensor *whole = functions[k](x, y, w);
        for (int64_t i = 0; i < ROWS; i += PART) {
            FB_SCOPE(c);
            fb_tensor *part = functions[k](fb_narrow(x, 0, i, PART), fb_narrow(y, 0, i, PART), w);
            fb_tensor *same = fb_contiguous(fb_narrow(whole, 0, i, PART));
            assert_non_null(part);
            assert_non_null(same);
            assert_memory_equal(fb_data(part), fb_data(same),
                                (size_t)fb_numel(part) * fb_dtype_size(fb_dtype_of(part)));
        }
    }
}

static fb_tensor *channels_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    (void)y;
    return fb_batch_norm(x, w, w, 1e-5, NULL, NULL);
}

static fb_tensor *channels_slope_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    fb_tensor *in = fb_requires_grad(fb_clone(x), true);
    return slope(fb_batch_norm(in, w, w, 1e-5, NULL, NULL), in, y);
}

static fb_tensor *channels_relu_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    return fb_batch_norm_relu(x, w, w, y, 1e-5, NULL, NULL);
}

static fb_tensor *channels_relu_slope_of(fb_tensor *x, fb_tensor *y, fb_tensor *w)
{
    fb_tensor *in = fb_requires_grad(fb_clone(x), true);
    return slope(fb_batch_norm_relu(in, w, w, NULL, 1e-5, NULL, NULL), in, y);
}

/* The same, where channels and not rows are on their own. */
static void compare_channels(fb_context *c, fb_tensor *x, fb_tensor *y)
{
    static const row_fn each[] = {channels_of, channels_slope_of, channels_relu_of,
                                  channels_relu_slope_of};
    for (size_t k = 0; k < sizeof each / sizeof *each; k++) {
        FB_SCOPE(c);
        fb_tensor *w = fb_contiguous(fb_select(x, 0, 0)), *whole = each[k](x, y, w);
        for (int64_t j = 0; j < LINED; j += CHANNELS) {
            FB_SCOPE(c);
            fb_tensor *part =
                each[k](fb_contiguous(fb_narrow(x, 1, j, CHANNELS)),
                        fb_contiguous(fb_narrow(y, 1, j, CHANNELS)), fb_narrow(w, 0, j, CHANNELS));
            fb_tensor *same = fb_contiguous(fb_narrow(whole, 1, j, CHANNELS));
            assert_non_null(part);
            assert_memory_equal(fb_data(part), fb_data(same),
                                (size_t)fb_numel(part) * fb_dtype_size(fb_dtype_of(part)));
        }
    }
}

static void a_large_output_is_that_of_its_parts(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        fb_context *c =
            fb_context_open(FB_OPTS(fb_context_options, .device = "cpu", .threads = threads));
        {
            FB_SCOPE(c);
            fb_tensor *x = fb_randn(c, FB_F32, FB_SHAPE(ROWS, COLS));
            fb_tensor *y = fb_randn(c, FB_F32, FB_SHAPE(ROWS, COLS));
            compare_parts(c, x, y);
            compare_parts(c, fb_to(x, FB_F64), fb_to(y, FB_F64));
            compare_parts(c, fb_to(x, FB_BF16), fb_to(y, FB_BF16));
            fb_tensor *turned = fb_t(fb_contiguous(fb_t(y)));
            compare_parts(c, x, turned);
            compare_channels(c, lined(x), lined(y));
        }
        assert_int_equal(fb_context_close(c), FB_OK);
    }
}

/* --- wide vectors: the bits of narrow ones --- */

/* In F32, of operands that reach where results overflow, vanish or are no numbers. */
static void on_level(const char *level, row_fn fn, float *to, bool *is_there)
{
    static const float edges[] = {INFINITY, -INFINITY, NAN,   0.0f,    -0.0f,  1e-40f, -1e-40f,
                                  13.2f,    -13.2f,    88.8f, -103.9f, -87.4f, 3e38f,  -3e38f};
    setenv("FB_ISA", level, 1);
    fb_context *c = fb_context_open(FB_OPTS(fb_context_options, .device = "cpu", .threads = 2));
    unsetenv("FB_ISA");
    *is_there = c != NULL;
    if (!c)
        return;
    {
        FB_SCOPE(c);
        fb_tensor *x = fb_mul_scalar(fb_randn(c, FB_F32, FB_SHAPE(ROWS, LINED)), 10);
        fb_tensor *y = fb_randn(c, FB_F32, FB_SHAPE(ROWS, LINED));
        memcpy(fb_data_mut(x), edges, sizeof edges);
        fb_tensor *z = fn(x, y, NULL);
        assert_non_null(z);
        assert_int_equal(fb_numel(z), (int64_t)ROWS * LINED);
        memcpy(to, fb_data(z), (size_t)fb_numel(z) * sizeof *to);
    }
    assert_int_equal(fb_context_close(c), FB_OK);
}

static void wide_vectors_have_the_bits_of_narrow_ones(void **state)
{
    (void)state;
    static const row_fn each[] = {gelu_of,        gelu_slope_of,    softmax_of,
                                  log_softmax_of, softmax_slope_of, log_softmax_slope_of};
    float *got[2];
    bool is_there = true;
    for (int i = 0; i < 2; i++)
        assert_non_null(got[i] = malloc(sizeof(float) * ROWS * LINED));
    for (size_t k = 0; k < sizeof each / sizeof *each && is_there; k++) {
        on_level("v3", each[k], got[0], &is_there);
        if (is_there)
            on_level("v4", each[k], got[1], &is_there);
        for (int64_t i = 0; i < (int64_t)ROWS * LINED && is_there; i++)
            if (memcmp(&got[0][i], &got[1][i], sizeof(float)))
                fail_msg("function %zu, element %lld: %a and %a", k, (long long)i,
                         (double)got[0][i], (double)got[1][i]);
    }
    for (int i = 0; i < 2; i++)
        free(got[i]);
    if (!is_there)
        skip(); /* no AVX-512 here */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_output_is_that_of_its_parts),
        cmocka_unit_test(wide_vectors_have_the_bits_of_narrow_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
