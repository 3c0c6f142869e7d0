/* First and second derivatives of the layers' operators against differences in F64. */
#include "ops_test_priv.h"

#include <flambeau/core/ops/attention.h>
#include <flambeau/core/ops/conv.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/norm.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/pool.h>

#define LAYER(name, expression)                                       \
    static fb_status name(void *user, fb_tensors in, fb_tensor **out) \
    {                                                                 \
        (void)user;                                                   \
        out[0] = (expression);                                        \
        return out[0] ? FB_OK : FB_E_USER;                            \
    }

#define T(i) in.t[i]
LAYER(products, fb_matmul(T(0), T(1)))
LAYER(affine, fb_linear(T(0), T(1), T(2)))
LAYER(convolution,
      fb_conv2d(T(0), T(1), T(2), FB_OPTS(fb_conv_options, .stride = {2}, .padding = {1})))
LAYER(transposed, fb_conv_transpose2d(T(0), T(1), T(2), FB_OPTS(fb_conv_options, .stride = {2})))
LAYER(largest, fb_square(fb_max_pool2d(T(0), 2, 2, NULL)))
LAYER(means, fb_square(fb_avg_pool2d(T(0), 2, 2, NULL)))
LAYER(cells, fb_square(fb_adaptive_avg_pool2d(T(0), 3, 2)))
LAYER(batch, fb_batch_norm(T(0), T(1), T(2), 1e-3, NULL, NULL))
LAYER(layer, fb_layer_norm(T(0), FB_SHAPE(4), T(1), T(2), 1e-3))
LAYER(attention,
      fb_scaled_dot_product_attention(T(0), T(1), T(2), FB_OPTS(fb_sdpa_options, .causal = true)))

static void derivatives_of_both_orders_are_those_of_differences(void **state)
{
    static const struct {
        fb_checkpoint_fn fn;
        int n;
        fb_shape in[3];
    } cases[] = {
        {products, 2, {{3, {2, 3, 4}}, {2, {4, 2}}}},
        {affine, 3, {{3, {2, 3, 4}}, {2, {3, 4}}, {1, {3}}}},
        {convolution, 3, {{4, {2, 2, 4, 4}}, {4, {2, 2, 3, 3}}, {1, {2}}}},
        {transposed, 3, {{4, {1, 2, 3, 3}}, {4, {2, 2, 2, 2}}, {1, {2}}}},
        {largest, 1, {{4, {1, 2, 4, 4}}}},
        {means, 1, {{4, {1, 2, 4, 4}}}},
        {cells, 1, {{4, {1, 2, 4, 5}}}},
        {batch, 3, {{4, {2, 2, 2, 3}}, {1, {2}}, {1, {2}}}},
        {layer, 3, {{2, {3, 4}}, {1, {4}}, {1, {4}}}},
        {attention, 3, {{3, {2, 3, 2}}, {3, {2, 3, 2}}, {3, {2, 3, 2}}}},
    };
    fb_context *ctx = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FB_SCOPE(ctx);
        fb_tensor *in[3];
        for (int j = 0; j < cases[i].n; j++) {
            float x[128];
            fill(x, 128, -1, 1.2f);
            fb_tensor *t = fb_from(ctx, FB_F32, cases[i].in[j], x + 7 * j);
            in[j] = fb_requires_grad(fb_to(t, FB_F64), true);
        }
        fb_tensors list = {in, cases[i].n};
        if (fb_gradcheck(cases[i].fn, NULL, list, 1, NULL) ||
            fb_gradgradcheck(cases[i].fn, NULL, list, 1, NULL))
            fail_msg("case %zu: %s", i, fb_error_message(ctx));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(derivatives_of_both_orders_are_those_of_differences),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
