/* fb_detect_anomaly: who made NaN or Inf, forward and backward, and what the messages say. */
#include "tests/core/autograd/leaves_priv.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/autograd/function.h>
#include <flambeau/core/ops/blend.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/softmax.h>
#include <flambeau/core/ops/view.h>
#include <math.h>

#include "core/autograd/node_priv.h"

static void backward_stops_at_the_operator_that_makes_nan(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_detect_anomaly(ctx);
    fb_tensor *x = leaf(ctx, 0, 1), *loss = total(fb_mul_scalar(fb_sqrt(x), 0));
    assert_int_equal(fb_backward(loss), FB_E_USER); /* 0 / sqrt(0) */
    char msg[1024];
    assert_int_equal(fb_error_take(ctx, msg, sizeof msg), FB_E_USER);
    static const char *const parts[] = {
        "fb_detect_anomaly: backward of sqrt (recorded at ",
        ", of F32 [2])",
        "made a gradient F32 [2] of input 0 that has 1 NaN among its 2 elements",
        "the gradients it was given had none",
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(msg, parts[i]))
            fail_msg("\"%s\" lacks \"%s\"", msg, parts[i]);
    assert_null(fb_grad_of(x));
}

static void without_the_mode_nothing_is_said(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = leaf(ctx, 0, 1);
    {
        FB_SCOPE(ctx);
        fb_detect_anomaly(ctx);
        assert_int_equal(fb_backward(total(fb_mul_scalar(x, 2))), FB_OK);
    }
    assert_int_equal(fb_backward(total(fb_mul_scalar(fb_sqrt(x), 0))), FB_OK);
    float g[2];
    assert_int_equal(fb_read(fb_grad_of(x), g, sizeof g), FB_OK);
    assert_true(isnan(g[0]));
    assert_true(g[1] == 2);
}

static void a_graph_recorded_outside_is_looked_at_too(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *loss = total(fb_sqrt(leaf(ctx, 0, 0)));
    fb_detect_anomaly(ctx);
    assert_int_equal(fb_backward(loss), FB_E_USER);
    check_error(ctx, FB_E_USER, "input 0 that has 2 Inf among its 2 elements");
}

static void the_first_result_that_is_nan_is_named(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_detect_anomaly(ctx);
    fb_context_label(ctx, "train.py:12");
    assert_null(fb_log(vector(ctx, -1, 2)));
    char msg[1024];
    assert_int_equal(fb_error_take(ctx, msg, sizeof msg), FB_E_USER);
    assert_non_null(strstr(msg, "fb_detect_anomaly: log, called at "));
    assert_non_null(strstr(msg, ", train.py:12, made an output 0 F32 [2] that has 1 NaN among its "
                                "2 elements; its inputs had none: F32 [2]"));
    fb_context_label(ctx, NULL);
    assert_null(fb_div(vector(ctx, 1, -1), vector(ctx, 0, 0)));
    check_error(ctx, FB_E_USER,
                "2 Inf among its 2 elements; its inputs had none: F32 [2], F32 [2]");
}

static void results_of_odd_inputs_are_not_blamed(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_detect_anomaly(ctx);
    fb_tensor *x = vector(ctx, INFINITY, 1), *n = vector(ctx, NAN, 1);
    assert_non_null(fb_mul_scalar(x, 2));
    assert_non_null(fb_log(n));
    assert_null(fb_sub(x, x)); /* Inf - Inf: NaN is new */
    check_error(ctx, FB_E_USER, "sub, called at");
}

static void a_fill_with_infinity_is_wanted(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_detect_anomaly(ctx);
    fb_tensor *x = leaf(ctx, 1, 2), *mask = fb_gt(x, vector(ctx, 1.5f, 1.5f));
    fb_tensor *y = fb_softmax(fb_masked_fill(x, mask, -INFINITY), 0);
    assert_int_equal(fb_backward(total(fb_mul(y, y))), FB_OK);
    check_ok(ctx);
}

static void changes_in_place_are_looked_at(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_detect_anomaly(ctx);
    fb_tensor *x = vector(ctx, 1e30f, 1);
    assert_int_equal(fb_mul_(x, x), FB_E_USER);
    check_error(ctx, FB_E_USER, "mul, called at");
    assert_int_equal(fb_mul_scalar_(x, 2), FB_OK); /* x[0] is Inf already */
}

static void rows_made_of_others_are_named_with_them(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_detect_anomaly(ctx);
    fb_tensor *x = leaf(ctx, 1, 2);
    assert_null(fb_std(fb_mul_scalar(x, 1e30), FB_ALL, true, false));
    check_error(ctx, FB_E_USER, "(in std)");
}

static fb_tensor *spoil(fb_tensor *grad, void *user)
{
    (void)user;
    return fb_mul_scalar(grad, NAN);
}

static void gradients_that_were_given_are_told_from_made_ones(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_detect_anomaly(ctx);
    fb_tensor *x = leaf(ctx, 1, 2), *y = fb_exp(x);
    assert_non_null(fb_hook_grad(y, spoil, NULL));
    assert_int_equal(fb_backward(total(y)), FB_E_USER);
    check_error(ctx, FB_E_USER, "the gradient F32 [2] of output 0 of exp (recorded at ");
    fb_tensor *z = fb_exp(x);
    fb_backward_options o = {.grad = vector(ctx, 1, INFINITY)};
    assert_int_equal(fb_backward_with(z, &o), FB_E_USER);
    check_error(ctx, FB_E_USER,
                "has 1 Inf among its 2 elements; it was given to backward, or a "
                "hook made it");
}

static void parameters_and_labels_are_named(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_detect_anomaly(ctx);
    fb_tensor *w = leaf(ctx, 0, 1);
    w->leaf->name = strdup("fc.weight");
    fb_context_label(ctx, "train.f90:120");
    fb_tensor *loss = total(fb_sqrt(w));
    fb_context_label(ctx, NULL);
    assert_int_equal(fb_backward(loss), FB_E_USER);
    char msg[1024];
    assert_int_equal(fb_error_take(ctx, msg, sizeof msg), FB_E_USER);
    assert_non_null(strstr(msg, "of input 0, the parameter fc.weight that has 1 Inf"));
    assert_non_null(strstr(msg, ", at train.f90:120, of F32 [2])"));
}

static fb_status root(void *user, fb_tensors in, fb_tensor **out)
{
    (void)user;
    out[0] = fb_sqrt(in.t[0]);
    return FB_OK;
}

static void what_a_checkpoint_runs_is_named(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_detect_anomaly(ctx);
    fb_tensor *x = leaf(ctx, 0, 1), *y;
    assert_int_equal(fb_checkpoint_call(root, NULL, FB_TENSORS(x), 1, &y), FB_OK);
    assert_int_equal(fb_backward(total(y)), FB_E_USER);
    check_error(ctx, FB_E_USER, "backward of sqrt");
}

static fb_status pass_forward(fb_call *call, fb_tensors in, fb_tensor **out)
{
    (void)call;
    out[0] = fb_mul_scalar(in.t[0], 1);
    return FB_OK;
}

static fb_status wrong_backward(fb_call *call, fb_tensors g, fb_tensor **grad_in)
{
    (void)call;
    grad_in[0] = fb_full(fb_context_of(g.t[0]), FB_F32, FB_SHAPE(2), INFINITY);
    return FB_OK;
}

static void custom_functions_are_named(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_detect_anomaly(ctx);
    fb_function f = {"my_layer", 1, pass_forward, wrong_backward, false};
    fb_tensor *x = leaf(ctx, 0, 1), *y;
    assert_int_equal(fb_function_apply(ctx, &f, NULL, 0, FB_TENSORS(x), &y), FB_OK);
    assert_int_equal(fb_backward(total(y)), FB_E_USER);
    check_error(ctx, FB_E_USER, "backward of my_layer (recorded at ");
}

static void sound_programs_have_their_gradients(void **state)
{
    fb_context *ctx = *state;
    float got[2][6];
    for (int k = 0; k < 2; k++) {
        FB_SCOPE(ctx);
        if (k)
            fb_detect_anomaly(ctx);
        float v[6] = {0.5f, -1, 2, 0.25f, 1, -3};
        fb_tensor *w = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(2, 3), v), true);
        fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(4, 2));
        fb_tensor *y = fb_softmax(fb_relu(fb_matmul(x, w)), 1);
        assert_int_equal(fb_backward(total(fb_mul(y, fb_matmul(x, w)))), FB_OK);
        assert_int_equal(fb_read(fb_grad_of(w), got[k], sizeof got[k]), FB_OK);
    }
    for (int i = 0; i < 6; i++)
        assert_float_equal(got[0][i], got[1][i], 1e-6);
}

static void odd_elements_are_counted_in_every_dtype(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    static const fb_dtype dtypes[] = {FB_F32, FB_F64, FB_F16, FB_BF16};
    float v[8] = {NAN, INFINITY, -INFINITY, 0, -0.0f, 65504, 1e-7f, -NAN};
    for (int d = 0; d < 4; d++) {
        fb_tensor *x = fb_to(fb_from(ctx, FB_F32, FB_SHAPE(2, 4), v), dtypes[d]);
        fbi_oddity odd = fbi_odd(x);
        assert_int_equal(odd.nan, 2);
        assert_int_equal(odd.inf, 2);
        odd = fbi_odd(fb_narrow(x, 1, 1, 2)); /* with gaps */
        assert_int_equal(odd.nan, 0);
        assert_int_equal(odd.inf, 2);
        odd = fbi_odd(fb_transpose(x, 0, 1));
        assert_int_equal(odd.nan, 2);
    }
    fbi_oddity odd = fbi_odd(fb_full(ctx, FB_I32, FB_SHAPE(3), -1));
    assert_int_equal(odd.nan + odd.inf, 0);
    check_ok(ctx);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(backward_stops_at_the_operator_that_makes_nan),
        T(without_the_mode_nothing_is_said),
        T(a_graph_recorded_outside_is_looked_at_too),
        T(the_first_result_that_is_nan_is_named),
        T(results_of_odd_inputs_are_not_blamed),
        T(a_fill_with_infinity_is_wanted),
        T(changes_in_place_are_looked_at),
        T(rows_made_of_others_are_named_with_them),
        T(gradients_that_were_given_are_told_from_made_ones),
        T(parameters_and_labels_are_named),
        T(what_a_checkpoint_runs_is_named),
        T(custom_functions_are_named),
        T(sound_programs_have_their_gradients),
        T(odd_elements_are_counted_in_every_dtype),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
