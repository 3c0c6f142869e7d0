/* Random numbers of a card are those of the CPU for the same key, and so are the masks of dropout:
 * a run may be compared with one on the other. */
#include "tests/check.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/attention.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/dropout.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <math.h>

static const fb_dtype floats[] = {FB_F32, FB_F64, FB_F16, FB_BF16};
static const int64_t sizes[] = {1, 3, 4, 255, 1030, 20011};
enum { FLOATS = 4, SIZES = 6, MOST = 20011 };

static fb_tensor *uniform(fb_context *ctx, fb_dtype dtype, int64_t n)
{
    return fb_rand(ctx, dtype, FB_SHAPE(n));
}

static fb_tensor *whole(fb_context *ctx, fb_dtype dtype, int64_t n)
{
    (void)dtype;
    return fb_randint(ctx, -7, ((int64_t)1 << 40) + 3, FB_SHAPE(n));
}

static fb_tensor *dropped(fb_context *ctx, fb_dtype dtype, int64_t n)
{
    return fb_dropout(fb_ones(ctx, dtype, FB_SHAPE(n)), 0.3);
}

static fb_tensor *gradient_of_dropped(fb_context *ctx, fb_dtype dtype, int64_t n)
{
    fb_tensor *x = fb_requires_grad(fb_ones(ctx, dtype, FB_SHAPE(n)), true);
    fb_tensor *seed = fb_ones(ctx, dtype, FB_SHAPE(n));
    fb_backward_with(fb_dropout(x, 0.3), FB_OPTS(fb_backward_options, .grad = seed));
    return fb_grad_of(x);
}

typedef fb_tensor *(*maker)(fb_context *ctx, fb_dtype dtype, int64_t n);
static const maker makers[] = {uniform, whole, dropped, gradient_of_dropped};

static void same_bits(fb_tensor *host, fb_tensor *card, int which)
{
    static char want[MOST * 8], got[MOST * 8];
    assert_int_equal(fb_dtype_of(host), fb_dtype_of(card));
    size_t bytes = (size_t)fb_numel(host) * fb_dtype_size(fb_dtype_of(host));
    assert_int_equal(fb_read(host, want, bytes), FB_OK);
    assert_int_equal(fb_read(card, got, bytes), FB_OK);
    if (memcmp(want, got, bytes) != 0)
        fail_msg("maker %d, %s, %lld elements: other bits", which, fb_dtype_name(fb_dtype_of(host)),
                 (long long)fb_numel(host));
}

/* One draw after the other, outside of steps and in two leaves of one. */
static void draws_have_the_bits_of_the_cpu(void **state)
{
    (void)state;
    fb_context *host = check_open(2), *card = check_open_device(1);
    for (int leaf = -1; leaf < 2; leaf++)
        for (int k = 0; k < 4; k++)
            for (int d = 0; d < FLOATS; d++)
                for (int i = 0; i < SIZES; i++) {
                    FB_SCOPE(host);
                    FB_SCOPE(card);
                    fb_batch_info at = {.step = 3, .shard = leaf, .last = true, .share = 1};
                    fb_context_batch(host, leaf < 0 ? NULL : &at);
                    fb_context_batch(card, leaf < 0 ? NULL : &at);
                    same_bits(makers[k](host, floats[d], sizes[i]),
                              makers[k](card, floats[d], sizes[i]), k);
                }
    check_close(card);
    check_close(host);
}

/* The logarithm and the cosine may differ in the last bit. */
static void normal_numbers_differ_by_an_ulp_at_most(void **state)
{
    (void)state;
    fb_context *host = check_open(1), *card = check_open_device(1);
    static float want[MOST], got[MOST];
    assert_int_equal(fb_read(fb_randn(host, FB_F32, FB_SHAPE(MOST)), want, sizeof want), FB_OK);
    assert_int_equal(fb_read(fb_randn(card, FB_F32, FB_SHAPE(MOST)), got, sizeof got), FB_OK);
    for (int i = 0; i < MOST; i++)
        assert_true(got[i] == want[i] || got[i] == nextafterf(want[i], got[i]));
    check_close(card);
    check_close(host);
}

enum { HEADS = 6, ROWS = 9, WIDTH = 8, SCORED = HEADS * ROWS * WIDTH };

/* Equal scores, and a power of two for each key: a sum tells which of them were dropped. */
static void attend(fb_context *ctx, float out[SCORED])
{
    FB_SCOPE(ctx);
    fb_shape shape = FB_SHAPE(2, HEADS / 2, ROWS, WIDTH);
    float values[SCORED];
    for (int i = 0; i < SCORED; i++)
        values[i] = (float)(1 << i / WIDTH % ROWS);
    fb_tensor *q = fb_zeros(ctx, FB_F32, shape), *v = fb_from(ctx, FB_F32, shape, values);
    fb_tensor *y =
        fb_scaled_dot_product_attention(q, q, v, FB_OPTS(fb_sdpa_options, .dropout = 0.4));
    assert_int_equal(fb_read(y, out, SCORED * sizeof *out), FB_OK);
}

static void attention_drops_the_same_scores(void **state)
{
    (void)state;
    fb_context *host = check_open(1), *card = check_open_device(1);
    float want[SCORED], got[SCORED];
    attend(host, want);
    attend(card, got);
    for (int i = 0; i < SCORED; i++)
        assert_true(fabsf(got[i] - want[i]) < 1e-3F);
    assert_true(want[0] != want[SCORED - 1]);
    check_close(card);
    check_close(host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_have_the_bits_of_the_cpu),
        cmocka_unit_test(normal_numbers_differ_by_an_ulp_at_most),
        cmocka_unit_test(attention_drops_the_same_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
