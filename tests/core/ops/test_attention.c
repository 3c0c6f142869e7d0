/* Attention by its own row against the products and the softmax that it stands for. */
#include <flambeau/core/ops/attention.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "tests/core/ops/ops_test_priv.h"

enum { B = 2, HEADS = 3, TIME = 77, WIDTH = 20, N = B * TIME * 3 * HEADS * WIDTH };

static float numbers[N];

/* [B, T, H D] -> [B, H, T, D] */
static fb_tensor *by_head(fb_tensor *x)
{
    fb_shape s = FB_SHAPE(B, TIME, HEADS, fb_size(x, 2) / HEADS);
    return fb_permute(fb_reshape(x, s), FB_DIMS(0, 2, 1, 3));
}

/* Of slices of one tensor, as a transformer has them; `masked`: the same by a mask, which the row
 * does not take. The gradient of x is that of the result's squares. */
static fb_tensor *attend(fb_tensor *x, bool causal, bool masked)
{
    fb_tensor *qkv[3];
    fb_chunk(x, 3, 2, qkv);
    fb_context *ctx = fb_context_of(x);
    fb_tensor *rows = fb_reshape(fb_arange(ctx, FB_I64, 0, TIME, 1), FB_SHAPE(TIME, 1));
    fb_tensor *mask = causal ? fb_ge(rows, fb_arange(ctx, FB_I64, 0, TIME, 1))
                             : fb_ge(rows, fb_zeros(ctx, FB_I64, FB_SHAPE(TIME)));
    fb_sdpa_options o = {.causal = causal && !masked, .mask = masked ? mask : NULL};
    fb_tensor *y =
        fb_scaled_dot_product_attention(by_head(qkv[0]), by_head(qkv[1]), by_head(qkv[2]), &o);
    y = fb_flatten(fb_permute(y, FB_DIMS(0, 2, 1, 3)), 2, 3);
    fb_backward(fb_sum(fb_mul(y, y), FB_ALL, false));
    return y;
}

static double furthest(fb_tensor *a, fb_tensor *b)
{
    fb_tensor *d = fb_abs(fb_sub(fb_to(fb_detach(a), FB_F64), fb_to(fb_detach(b), FB_F64)));
    return fb_item(fb_amax(d, FB_ALL, false));
}

static void agree(fb_context *ctx, fb_dtype dtype, bool causal, double bound)
{
    FB_SCOPE(ctx);
    fill(numbers, N, -2, 2);
    fb_tensor *all = fb_from(ctx, FB_F32, FB_SHAPE(B, TIME, 3 * HEADS * WIDTH), numbers);
    fb_tensor *x = fb_requires_grad(fb_to(all, dtype), true);
    fb_tensor *exact = fb_requires_grad(fb_detach(fb_to(all, FB_F64)), true);
    fb_tensor *y = attend(x, causal, false), *want = attend(exact, causal, true);
    assert_true(fb_ok(ctx));
    assert_true(furthest(y, want) < bound);
    assert_true(furthest(fb_grad_of(x), fb_grad_of(exact)) < 10 * bound);
}

static void blocks_of_rows_give_what_the_products_give(void **state)
{
    for (int causal = 0; causal < 2; causal++) {
        agree(*state, FB_F64, causal, 1e-12);
        agree(*state, FB_F32, causal, 2e-6);
    }
}

static void more_keys_than_rows_and_wider_values(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *q = fb_randn(ctx, FB_F64, FB_SHAPE(40, 16)),
              *k = fb_randn(ctx, FB_F64, FB_SHAPE(90, 16));
    fb_tensor *v = fb_randn(ctx, FB_F64, FB_SHAPE(90, 33));
    fb_tensor *all =
        fb_ge(fb_zeros(ctx, FB_I64, FB_SHAPE(40, 90)), fb_zeros(ctx, FB_I64, FB_SCALAR));
    fb_tensor *y = fb_scaled_dot_product_attention(q, k, v, NULL);
    fb_tensor *want =
        fb_scaled_dot_product_attention(q, k, v, FB_OPTS(fb_sdpa_options, .mask = all));
    assert_true(fb_ok(ctx));
    assert_true(furthest(y, want) < 1e-13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(blocks_of_rows_give_what_the_products_give, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(more_keys_than_rows_and_wider_values, open_context,
                                        close_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
