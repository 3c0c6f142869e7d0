/* Gradients: accumulation, retained and freed graphs, versions, hooks, modes, custom functions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/autograd/function.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/view.h>

#include "core/autograd/node_priv.h"

static int open_context(void **state)
{
    *state = fb_context_open(NULL);
    return *state ? 0 : -1;
}

static int close_context(void **state)
{
    return fb_context_close(*state) == FB_OK ? 0 : -1;
}

static fb_tensor *leaf(fb_context *ctx, float v)
{
    return fb_requires_grad(fb_from(ctx, FB_F32, FB_SCALAR, &v), true);
}

static void expect_error(fb_context *ctx, fb_status status, const char *text)
{
    char msg[1024];
    assert_int_equal(fb_error_take(ctx, msg, sizeof msg), status);
    if (!strstr(msg, text))
        fail_msg("\"%s\" does not contain \"%s\"", msg, text);
}

static void expect(fb_tensor *t, double want)
{
    assert_non_null(t);
    double got = fb_item(t);
    if (!(fabs(got - want) <= 1e-5 * (1 + fabs(want))))
        fail_msg("%.9g, not %.9g", got, want);
}

static void gradients_of_two_passes_add_up(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(ctx, 3);
    assert_null(fb_grad_of(x));
    assert_int_equal(fb_backward(fb_mul(x, x)), FB_OK);
    expect(fb_grad_of(x), 6);
    assert_int_equal(fb_backward(fb_mul_scalar(x, 2)), FB_OK);
    expect(fb_grad_of(x), 8);
    fb_set_grad(x, NULL);
    assert_null(fb_grad_of(x));
}

static void a_freed_graph_is_named(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(ctx, 3), *y = fb_exp(x);
    assert_int_equal(fb_backward_with(y, &(fb_backward_options){.retain_graph = true}), FB_OK);
    assert_int_equal(fb_backward(y), FB_OK);
    expect(fb_grad_of(x), 2 * exp(3));
    assert_int_equal(fb_backward(y), FB_E_STATE);
    expect_error(ctx, FB_E_STATE, "through exp");
}

static void a_change_in_place_of_a_saved_tensor_is_found(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(ctx, 3), *c = fb_full(ctx, FB_F32, FB_SCALAR, 2), *y = fb_mul(x, c);
    assert_int_equal(fb_mul_scalar_(c, 5), FB_OK);
    assert_int_equal(fb_backward(y), FB_E_STATE);
    expect_error(ctx, FB_E_STATE, "backward of mul");
}

static void in_place_operators_are_recorded(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(ctx, 3), *y = fb_mul_scalar(x, 2);
    assert_int_equal(fb_mul_scalar_(y, 5), FB_OK);
    assert_int_equal(fb_add_(y, x), FB_OK);
    expect(y, 33);
    assert_int_equal(fb_backward(y), FB_OK);
    expect(fb_grad_of(x), 11);
    assert_int_equal(fb_mul_scalar_(x, 2), FB_E_STATE);
    expect_error(ctx, FB_E_STATE, "leaf");
}

static void broadcast_gradients_are_summed(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    float b[3] = {1, 2, 3}, got[3];
    fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(4, 3));
    fb_tensor *bias = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(3), b), true);
    fb_tensor *y = fb_mul(x, bias);
    assert_int_equal(
        fb_backward_with(y, &(fb_backward_options){.grad = fb_ones(ctx, FB_F32, FB_SHAPE(4, 3))}),
        FB_OK);
    assert_int_equal(fb_read(fb_grad_of(bias), got, sizeof got), FB_OK);
    for (int i = 0; i < 3; i++)
        assert_float_equal(got[i], 4, 0);
}

static void higher_derivatives_follow(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(ctx, 2), *y = fb_mul(fb_mul(x, x), x), *g1, *g2, *g3;
    fb_gradient_options o = {.create_graph = true};
    assert_int_equal(fb_gradients(FB_TENSORS(y), FB_TENSORS(x), &o, &g1), FB_OK);
    assert_int_equal(fb_gradients(FB_TENSORS(g1), FB_TENSORS(x), &o, &g2), FB_OK);
    assert_int_equal(fb_gradients(FB_TENSORS(g2), FB_TENSORS(x), &o, &g3), FB_OK);
    expect(g1, 12);
    expect(g2, 12);
    expect(g3, 6);
    assert_null(fb_grad_of(x));
}

static void an_unused_input_is_an_error_unless_allowed(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(ctx, 2), *z = leaf(ctx, 1), *y = fb_exp(x), *g[2];
    fb_gradient_options o = {.allow_unused = true, .retain_graph = true};
    assert_int_equal(fb_gradients(FB_TENSORS(y), FB_TENSORS(x, z), &o, g), FB_OK);
    assert_null(g[1]);
    assert_int_equal(fb_gradients(FB_TENSORS(y), FB_TENSORS(x, z), NULL, g), FB_E_ARG);
    expect_error(ctx, FB_E_ARG, "input 1");
}

static void modes_end_with_their_scope(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(ctx, 2);
    {
        FB_SCOPE(ctx);
        fb_no_grad(ctx);
        assert_false(fb_needs_grad(fb_exp(x)));
        fb_enable_grad(ctx);
        assert_true(fb_needs_grad(fb_exp(x)));
        fb_no_grad(ctx);
    }
    assert_true(fb_is_grad_enabled(ctx));
    assert_false(fb_needs_grad(fb_detach(fb_exp(x))));
}

static fb_tensor *doubled(fb_tensor *grad, void *user)
{
    ++*(int *)user;
    return fb_mul_scalar(grad, 2);
}

static void hooks_see_the_complete_gradient_and_may_replace_it(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    int calls = 0;
    fb_tensor *x = leaf(ctx, 3), *y = fb_mul_scalar(x, 1);
    assert_non_null(fb_hook_grad(x, doubled, &calls));
    fb_hook *h = fb_hook_grad(y, doubled, &calls);
    fb_hook_remove(h);
    assert_int_equal(fb_backward(fb_add(fb_mul(y, y), x)), FB_OK);
    assert_int_equal(calls, 1);
    expect(fb_grad_of(x), 14);
}

typedef struct counts {
    int prepared, ready;
    double at_ready;
} counts;

static void on_prepare(void *self, fbi_leaf *l)
{
    (void)l;
    ((counts *)self)->prepared++;
}

static void on_ready(void *self, fbi_leaf *l)
{
    ((counts *)self)->ready++;
    ((counts *)self)->at_ready = fb_item(l->grad);
}

static void a_sink_is_ready_once_when_all_has_arrived(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    counts c = {0};
    fbi_grad_sink sink = {&c, on_prepare, on_ready};
    fb_tensor *x = leaf(ctx, 3);
    x->leaf->sink = &sink;
    assert_int_equal(fb_backward(fb_add(fb_mul(x, x), fb_exp(x))), FB_OK);
    assert_int_equal(c.prepared, 1);
    assert_int_equal(c.ready, 1);
    assert_float_equal(c.at_ready, 6 + exp(3), 1e-4);
    x->leaf->sink = NULL;
}

static void the_share_of_the_batch_scales_the_gradient(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(ctx, 3);
    fb_batch_info batch = {.share = 0.25};
    assert_int_equal(fb_backward_with(fb_mul_scalar(x, 2), &(fb_backward_options){.batch = &batch}),
                     FB_OK);
    expect(fb_grad_of(x), 0.5);
}

static fb_status cube_forward(fb_call *call, fb_tensors in, fb_tensor **out)
{
    fb_call_save(call, 0, in.t[0]);
    out[0] = fb_pow_scalar(in.t[0], 3);
    return FB_OK;
}

static fb_status cube_backward(fb_call *call, fb_tensors g, fb_tensor **grad_in)
{
    fb_tensor *x = fb_call_saved(call, 0);
    grad_in[0] = fb_mul(g.t[0], fb_mul_scalar(fb_mul(x, x), 3));
    return FB_OK;
}

static void custom_functions_have_derivatives_of_higher_order(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_function cube = {"cube", 1, cube_forward, cube_backward, false};
    fb_tensor *x = leaf(ctx, 2), *y, *g1, *g2;
    assert_int_equal(fb_function_apply(ctx, &cube, NULL, 0, FB_TENSORS(x), &y), FB_OK);
    fb_gradient_options o = {.create_graph = true};
    assert_int_equal(fb_gradients(FB_TENSORS(y), FB_TENSORS(x), &o, &g1), FB_OK);
    assert_int_equal(fb_gradients(FB_TENSORS(g1), FB_TENSORS(x), NULL, &g2), FB_OK);
    expect(g1, 12);
    expect(g2, 12);
    cube.once_differentiable = true;
    assert_int_equal(fb_function_apply(ctx, &cube, NULL, 0, FB_TENSORS(x), &y), FB_OK);
    assert_int_equal(fb_gradients(FB_TENSORS(y), FB_TENSORS(x), &o, &g1), FB_E_UNSUPPORTED);
    expect_error(ctx, FB_E_UNSUPPORTED, "cube");
}

static fb_status segment(void *user, fb_tensors in, fb_tensor **out)
{
    fb_tensor *noise = fb_rand(fb_context_of(in.t[0]), FB_F32, FB_SCALAR);
    out[0] = fb_mul(fb_mul(fb_exp(in.t[0]), *(fb_tensor **)user), noise);
    return FB_OK;
}

static void a_checkpoint_gives_the_gradients_of_the_plain_run(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    double g[2][3];
    for (int k = 0; k < 2; k++) {
        fb_manual_seed(ctx, 7);
        fb_tensor *x = leaf(ctx, 0.5f), *w = leaf(ctx, 3), *y;
        fb_tensor *in = fb_mul_scalar(x, 2);
        if (k)
            assert_int_equal(fb_checkpoint_call(segment, &w, FB_TENSORS(in), 1, &y), FB_OK);
        else
            assert_int_equal(segment(&w, FB_TENSORS(in), &y), FB_OK);
        fb_rand(ctx, FB_F32, FB_SCALAR) == NULL ? fail() : (void)0;
        assert_int_equal(fb_backward(fb_add(y, w)), FB_OK);
        g[k][0] = fb_item(fb_grad_of(x));
        g[k][1] = fb_item(fb_grad_of(w));
        g[k][2] = fb_item(fb_rand(ctx, FB_F32, FB_SCALAR));
    }
    assert_memory_equal(g[0], g[1], sizeof g[0]);
}

static void deep_graphs_are_walked_and_dropped_without_recursion(void **state)
{
    fb_context *ctx = *state;
    fb_memory_stats before, after;
    fb_memory_stats_of(ctx, &before);
    {
        FB_SCOPE(ctx);
        fb_tensor *x = leaf(ctx, 1);
        for (int k = 0; k < 2; k++) {
            fb_tensor *y = x;
            for (int i = 0; i < 100000; i++) {
                fb_tensor *next = fb_add_scalar(y, 0);
                if (y != x)
                    fb_drop(y);
                y = next;
            }
            if (k == 0)
                assert_int_equal(fb_backward(y), FB_OK);
        }
        expect(fb_grad_of(x), 1);
    }
    fb_memory_stats_of(ctx, &after);
    assert_int_equal(after.nodes, before.nodes);
    assert_int_equal(after.handles, before.handles);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(gradients_of_two_passes_add_up),
        T(a_freed_graph_is_named),
        T(a_change_in_place_of_a_saved_tensor_is_found),
        T(in_place_operators_are_recorded),
        T(broadcast_gradients_are_summed),
        T(higher_derivatives_follow),
        T(an_unused_input_is_an_error_unless_allowed),
        T(modes_end_with_their_scope),
        T(hooks_see_the_complete_gradient_and_may_replace_it),
        T(a_sink_is_ready_once_when_all_has_arrived),
        T(the_share_of_the_batch_scales_the_gradient),
        T(custom_functions_have_derivatives_of_higher_order),
        T(a_checkpoint_gives_the_gradients_of_the_plain_run),
        T(deep_graphs_are_walked_and_dropped_without_recursion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
