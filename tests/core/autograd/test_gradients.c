/* fb_gradients: seeds, several outputs, inputs on the way, unused ones. Numbers are PyTorch's. */
#include "tests/core/autograd/leaves_priv.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <math.h>

static void expect(fb_tensor *t, double a, double b)
{
    assert_non_null(t);
    const float *v = check_data(t);
    if (!(fabs(v[0] - a) < 1e-5 && fabs(v[1] - b) < 1e-5))
        fail_msg("[%.7g, %.7g], not [%.7g, %.7g]", v[0], v[1], a, b);
}

/* x = [2, 3], y = x^2, z = x y = x^3 */
typedef struct cubes {
    fb_tensor *x, *y, *z;
} cubes;

static cubes cubes_of(fb_context *ctx)
{
    cubes c = {.x = leaf(ctx, 2, 3)};
    c.y = fb_mul(c.x, c.x);
    c.z = fb_mul(c.y, c.x);
    return c;
}

static void seeds_weigh_several_outputs(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    cubes c = cubes_of(ctx);
    fb_tensor *s = fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){1, -1}), *n = fb_sum(c.y, FB_ALL, 0);
    fb_tensor *two = fb_full(ctx, FB_F32, FB_SHAPE(2), 2), *g;
    fb_gradient_options o = {.seeds = FB_TENSORS(s, NULL, two), .retain_graph = true};
    /* d<s, z> + d(sum y) + d<2, y> = s 3x^2 + 2x + 4x */
    assert_int_equal(fb_gradients(FB_TENSORS(c.z, n, c.y), FB_TENSORS(c.x), &o, &g), FB_OK);
    expect(g, 12 + 12, -27 + 18);
    assert_null(fb_grad_of(c.x));
    o.seeds = FB_TENSORS(s, two); /* an output twice counts twice */
    assert_int_equal(fb_gradients(FB_TENSORS(c.y, c.y), FB_TENSORS(c.x), &o, &g), FB_OK);
    expect(g, 3 * 4, 1 * 6);
}

static void results_on_the_way_have_gradients(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    cubes c = cubes_of(ctx);
    fb_tensor *n = fb_sum(c.z, FB_ALL, false), *g[4];
    assert_int_equal(fb_gradients(FB_TENSORS(n), FB_TENSORS(c.y, c.x, c.z, c.y), NULL, g), FB_OK);
    expect(g[0], 2, 3);   /* by y: x */
    expect(g[1], 12, 27); /* by x: through y, too */
    expect(g[2], 1, 1);
    expect(g[3], 2, 3);
}

static void an_output_may_be_an_input(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    cubes c = cubes_of(ctx);
    fb_tensor *s = fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){5, 7}), *g[2];
    fb_gradient_options o = {.seeds = FB_TENSORS(s), .retain_graph = true};
    assert_int_equal(fb_gradients(FB_TENSORS(c.y), FB_TENSORS(c.y, c.x), &o, g), FB_OK);
    expect(g[0], 5, 7);
    expect(g[1], 20, 42);
    assert_int_equal(fb_gradients(FB_TENSORS(c.x), FB_TENSORS(c.x), &o, g), FB_OK);
    expect(g[0], 5, 7);
}

static fb_tensor *tenfold(fb_tensor *grad, void *user)
{
    ++*(int *)user;
    return fb_mul_scalar(grad, 10);
}

/* Always; PyTorch does it where the walk goes no further, and not in this case. */
static void hooks_are_applied_to_what_is_returned(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    cubes c = cubes_of(ctx);
    int calls = 0;
    fb_tensor *n = fb_sum(c.z, FB_ALL, false), *g[2];
    assert_non_null(fb_hook_grad(c.y, tenfold, &calls));
    assert_int_equal(fb_gradients(FB_TENSORS(n), FB_TENSORS(c.y, c.x), NULL, g), FB_OK);
    assert_int_equal(calls, 1);
    expect(g[0], 20, 30);
    expect(g[1], 4 + 80, 9 + 180); /* y + 10 x 2x */
}

static void unused_inputs_are_named_or_zeros(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    cubes c = cubes_of(ctx);
    fb_tensor *n = fb_sum(c.z, FB_ALL, false), *other = leaf(ctx, 1, 1), *plain, *g[3];
    plain = fb_ones(ctx, FB_F32, FB_SHAPE(2));
    fb_gradient_options o = {.retain_graph = true};
    assert_int_equal(fb_gradients(FB_TENSORS(n), FB_TENSORS(c.x, other), &o, g), FB_E_ARG);
    check_error(ctx, FB_E_ARG,
                "fb_gradients: the outputs do not depend on input 1 F32 [2]; set "
                "allow_unused");
    assert_null(g[0]);
    assert_null(g[1]);
    assert_int_equal(fb_gradients(FB_TENSORS(n), FB_TENSORS(c.x, plain), &o, g), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "no gradient is wanted of input 1 F32 [2]");
    o.allow_unused = true;
    assert_int_equal(fb_gradients(FB_TENSORS(n), FB_TENSORS(other, c.x, NULL), &o, g), FB_OK);
    assert_null(g[0]);
    expect(g[1], 12, 27);
    assert_null(g[2]);
    o = (fb_gradient_options){.retain_graph = true, .materialize_grads = true};
    assert_int_equal(fb_gradients(FB_TENSORS(n), FB_TENSORS(other, c.x, plain), &o, g), FB_OK);
    expect(g[0], 0, 0);
    expect(g[1], 12, 27);
    expect(g[2], 0, 0);
}

static void what_is_wrong_is_said(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    cubes c = cubes_of(ctx);
    fb_tensor *one = fb_ones(ctx, FB_F32, FB_SCALAR), *plain = fb_ones(ctx, FB_F32, FB_SHAPE(2)),
              *g;
    assert_int_equal(fb_gradients(FB_TENSORS(c.y), FB_TENSORS(c.x), NULL, &g), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "the output is [2], not one element; give its gradient");
    fb_gradient_options o = {.seeds = FB_TENSORS(one)};
    assert_int_equal(fb_gradients(FB_TENSORS(c.y), FB_TENSORS(c.x), &o, &g), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "gradient F32 [] for an output F32 [2]");
    assert_int_equal(fb_gradients(FB_TENSORS(c.y, c.z), FB_TENSORS(c.x), &o, &g), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "1 seeds for 2 outputs");
    o.seeds = FB_TENSORS(plain, plain);
    assert_int_equal(fb_gradients(FB_TENSORS(c.y, plain), FB_TENSORS(c.x), &o, &g), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "fb_gradients: output 1 does not depend on anything");
    assert_int_equal(fb_gradients(FB_TENSORS(c.y, NULL), FB_TENSORS(c.x), &o, &g), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "output 1 is NULL");
    o.seeds = FB_TENSORS(plain);
    assert_int_equal(fb_gradients(FB_TENSORS(c.z), FB_TENSORS(NULL), &o, &g), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "input 0 is NULL");
    assert_int_equal(fb_gradients(FB_TENSORS(c.z), FB_TENSORS(c.x), &o, &g), FB_OK);
    assert_int_equal(fb_gradients(FB_TENSORS(c.z), FB_TENSORS(c.x), &o, &g), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "was freed by an earlier backward");
    assert_null(g);
}

/* Gradients are linear in the seeds, and with create_graph those may have a graph themselves. */
static void seeds_are_differentiable(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    cubes c = cubes_of(ctx);
    fb_tensor *u = leaf(ctx, 0, 0), *v = leaf(ctx, 1, 10), *g[2], *t;
    fb_gradient_options o = {.seeds = FB_TENSORS(u, u), .create_graph = true};
    assert_int_equal(fb_gradients(FB_TENSORS(c.z, c.x), FB_TENSORS(c.x), &o, g), FB_OK);
    fb_gradient_options p = {.seeds = FB_TENSORS(v)};
    assert_int_equal(fb_gradients(FB_TENSORS(g[0]), FB_TENSORS(u), &p, &t), FB_OK);
    expect(t, 12 + 1, 270 + 10);
    /* x itself: the seed comes through as it is and still leads to its leaf */
    o.seeds = FB_TENSORS(u);
    assert_int_equal(fb_gradients(FB_TENSORS(c.x), FB_TENSORS(c.x), &o, g), FB_OK);
    assert_int_equal(fb_gradients(FB_TENSORS(g[0]), FB_TENSORS(u), &p, &t), FB_OK);
    expect(t, 1, 10);
}

static fb_status times_w(void *user, fb_tensors in, fb_tensor **out)
{
    out[0] = fb_mul(in.t[0], *(fb_tensor **)user);
    return out[0] ? FB_OK : FB_E_USER;
}

/* w is used before, within and after a checkpoint, whose own walk must not end the search for w. */
static void leaves_are_found_on_both_sides_of_a_checkpoint(void **state)
{
    fb_context *ctx = *state;
    for (int leaf_input = 0; leaf_input < 2; leaf_input++) {
        FB_SCOPE(ctx);
        fb_tensor *x = leaf(ctx, 2, 3), *w = leaf(ctx, 5, 7), *y, *g[3];
        fb_tensor *h = leaf_input ? x : fb_mul(x, w), *n;
        assert_int_equal(fb_checkpoint_call(times_w, &w, FB_TENSORS(h), 1, &y), FB_OK);
        n = fb_sum(fb_add(fb_mul(y, w), h), FB_ALL, false); /* x w^2 + x, or x w^3 + x w */
        assert_int_equal(fb_gradients(FB_TENSORS(n), FB_TENSORS(x, w, h), NULL, g), FB_OK);
        if (leaf_input) {
            expect(g[0], 26, 50);
            expect(g[1], 20, 42);
            expect(g[2], 26, 50);
        } else {
            expect(g[0], 130, 350);
            expect(g[1], 2 * (75 + 1), 3 * (147 + 1));
            expect(g[2], 26, 50);
        }
        assert_null(fb_grad_of(w));
    }
}

static void only_what_leads_to_the_inputs_is_freed(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *a = leaf(ctx, 1, 2), *b = leaf(ctx, 3, 4), *g;
    fb_tensor *y = fb_exp(a), *z = fb_exp(b), *n = fb_sum(fb_add(y, z), FB_ALL, false);
    assert_int_equal(fb_gradients(FB_TENSORS(n), FB_TENSORS(a), NULL, &g), FB_OK);
    expect(g, exp(1), exp(2));
    fb_gradient_options o = {.seeds = FB_TENSORS(b)};
    assert_int_equal(fb_gradients(FB_TENSORS(z), FB_TENSORS(b), &o, &g), FB_OK);
    const float *v = check_data(g);
    assert_float_equal(v[0], 3 * exp(3), 1e-3);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(seeds_weigh_several_outputs),
        T(results_on_the_way_have_gradients),
        T(an_output_may_be_an_input),
        T(hooks_are_applied_to_what_is_returned),
        T(unused_inputs_are_named_or_zeros),
        T(what_is_wrong_is_said),
        T(seeds_are_differentiable),
        T(leaves_are_found_on_both_sides_of_a_checkpoint),
        T(only_what_leads_to_the_inputs_is_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
