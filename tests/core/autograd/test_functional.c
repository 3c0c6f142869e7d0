/* Jacobians, Hessians and products with vectors. Numbers are those of torch.autograd.functional. */
#include "tests/core/autograd/leaves_priv.h"

#include <flambeau/core/autograd/functional.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>
#include <math.h>

static const double x_values[2] = {0.5, -1.5}, y_values[6] = {2, 0.25, -1, 0.5, 3, 1.5};
static const double u_values[2] = {1, 0.5}, w_values[6] = {0, 1, 2, -1, 0.5, 0.25};

static void inputs(fb_context *ctx, const double *x, const double *y, fb_tensor **in)
{
    in[0] = fb_from(ctx, FB_F64, FB_SHAPE(2), x);
    in[1] = fb_from(ctx, FB_F64, FB_SHAPE(2, 3), y);
}

/* x y + sum of sin(y) over rows: [3]; sum of x e^x: [] */
static fb_status two_outputs(void *user, fb_tensors in, fb_tensor **out)
{
    if (user)
        ++*(int *)user;
    fb_tensor *x = in.t[0], *y = in.t[1];
    out[0] = fb_add(fb_matmul(x, y), fb_sum(fb_sin(y), FB_SHAPE(0), false));
    out[1] = fb_sum(fb_mul(fb_exp(x), x), FB_ALL, false);
    return out[0] && out[1] ? FB_OK : FB_E_USER;
}

/* |x y|^2 e^(x[0]): [] */
static fb_status number(void *user, fb_tensors in, fb_tensor **out)
{
    (void)user;
    fb_tensor *p = fb_matmul(in.t[0], in.t[1]);
    fb_tensor *first = fb_sum(fb_narrow(in.t[0], 0, 0, 1), FB_ALL, false);
    out[0] = fb_mul(fb_sum(fb_mul(p, p), FB_ALL, false), fb_exp(first));
    return out[0] ? FB_OK : FB_E_USER;
}

static void expect(fb_tensor *t, fb_shape shape, const double *want)
{
    assert_non_null(t);
    assert_true(fb_shape_equal(fb_shape_of(t), shape));
    const double *got = check_data(t);
    for (int64_t i = 0; i < fb_numel(t); i++)
        if (!(fabs(got[i] - want[i]) <= 1e-9 * (1 + fabs(want[i]))))
            fail_msg("element %d: %.12g, not %.12g", (int)i, got[i], want[i]);
}

static const double j00[] = {2, 0.5, 0.25, 3, -1, 1.5};
static const double j01[] = {0.0838531634529, 0, 0, -0.62241743811, 0, 0, 0,
                             1.46891242171,   0, 0, -2.4899924966,  0, 0, 0,
                             1.04030230587,   0, 0, -1.42926279833};
static const double j10[] = {2.47308190605, -0.111565080074}, zeros[36];
static const double h00[] = {75.0425790867, -55.6443428861, -55.6443428861, 37.9205892261};
static const double h01[] = {4.53398349443, -21.2272863603, -15.250671754,  -11.1288685772,
                             20.4029257249, 18.5481142954,  0.82436063535,  4.9461638121,
                             2.47308190605, -1.6487212707,  -29.2648025549, -16.487212707};
static const double h10[] = {4.53398349443, 0.82436063535,  -21.2272863603, 4.9461638121,
                             -15.250671754, 2.47308190605,  -11.1288685772, -1.6487212707,
                             20.4029257249, -29.2648025549, 18.5481142954,  -16.487212707};

static void jacobians_have_the_sizes_of_outputs_and_inputs(void **state)
{
    fb_context *ctx = *state;
    for (int create = 0; create < 2; create++) {
        FB_SCOPE(ctx);
        int calls = 0;
        fb_tensor *in[2], *jac[4];
        inputs(ctx, x_values, y_values, in);
        fb_functional_options o = {.create_graph = create};
        fb_no_grad(ctx); /* which does not matter */
        assert_int_equal(fb_jacobian(two_outputs, &calls, (fb_tensors){in, 2}, 2, &o, jac), FB_OK);
        assert_int_equal(calls, 1);
        expect(jac[0], FB_SHAPE(3, 2), j00);
        expect(jac[1], FB_SHAPE(3, 2, 3), j01);
        expect(jac[2], FB_SHAPE(2), j10);
        expect(jac[3], FB_SHAPE(2, 3), zeros);
        assert_int_equal(fb_needs_grad(jac[0]), create);
        assert_false(fb_is_grad_enabled(ctx));
        assert_false(fb_needs_grad(in[0]));
    }
}

static void hessians_have_a_block_for_each_pair(void **state)
{
    fb_context *ctx = *state;
    double h11[36] = {0}, e = exp(0.5);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            for (int k = 0; k < 3; k++) /* 2 x_i x_j e, along k */
                h11[(i * 3 + k) * 6 + j * 3 + k] = 2 * x_values[i] * x_values[j] * e;
    for (int create = 0; create < 2; create++) {
        FB_SCOPE(ctx);
        fb_tensor *in[2], *hes[4];
        inputs(ctx, x_values, y_values, in);
        fb_functional_options o = {.create_graph = create};
        assert_int_equal(fb_hessian(number, NULL, (fb_tensors){in, 2}, &o, hes), FB_OK);
        expect(hes[0], FB_SHAPE(2, 2), h00);
        expect(hes[1], FB_SHAPE(2, 2, 3), h01);
        expect(hes[2], FB_SHAPE(2, 3, 2), h10);
        expect(hes[3], FB_SHAPE(2, 3, 2, 3), h11);
    }
}

static void products_with_vectors_are_pytorchs(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    static const double o0[] = {1.63872296543, -3.98647603269, -2.5939759982},
                        o1[] = {0.489665395127}, g0[] = {8.41924571815, -5.08469524022},
                        g1[] = {0.0838531634529, -2.93782484342, 0.520151152934,
                                -0.62241743811,  4.9799849932,   -0.714631399166},
                        t0[] = {2.87241743811, 1.97391617341, 1.47328891215},
                        t1[] = {2.41729936601}, g[] = {44.1290552611},
                        hv0[] = {21.459137789, -43.8972038324},
                        hv1[] = {7.41924571815,  -19.1663847719, -12.9836800068,
                                 -19.3724749307, 7.00706540048,  7.21315555931};
    static const double v_values[] = {1, -2, 0.5}, three = 3;
    fb_tensor *in[2], *u[2], *out[2], *res[2];
    inputs(ctx, x_values, y_values, in);
    inputs(ctx, u_values, w_values, u);
    fb_tensors at = {in, 2}, along = {u, 2};
    fb_tensor *v0 = fb_from(ctx, FB_F64, FB_SHAPE(3), v_values);
    fb_tensor *v1 = fb_from(ctx, FB_F64, FB_SCALAR, &three);
    assert_int_equal(fb_vjp(two_outputs, NULL, at, 2, FB_TENSORS(v0, v1), NULL, out, res), FB_OK);
    expect(out[0], FB_SHAPE(3), o0);
    expect(out[1], FB_SCALAR, o1);
    expect(res[0], FB_SHAPE(2), g0);
    expect(res[1], FB_SHAPE(2, 3), g1);
    assert_false(fb_needs_grad(out[0]) || fb_needs_grad(res[0]));
    assert_int_equal(fb_jvp(two_outputs, NULL, at, 2, along, NULL, out, res), FB_OK);
    expect(out[0], FB_SHAPE(3), o0);
    expect(res[0], FB_SHAPE(3), t0);
    expect(res[1], FB_SCALAR, t1);
    assert_false(fb_needs_grad(out[0]) || fb_needs_grad(res[0]));
    assert_int_equal(fb_hvp(number, NULL, at, along, NULL, out, res), FB_OK);
    expect(out[0], FB_SCALAR, g);
    expect(res[0], FB_SHAPE(2), hv0);
    expect(res[1], FB_SHAPE(2, 3), hv1);
    assert_int_equal(fb_hvp(number, NULL, at, along, NULL, NULL, res), FB_OK); /* nor the output */
    expect(res[0], FB_SHAPE(2), hv0);
}

static fb_status cube(void *user, fb_tensors in, fb_tensor **out)
{
    (void)user;
    out[0] = fb_mul(fb_mul(in.t[0], in.t[0]), in.t[0]);
    return out[0] ? FB_OK : FB_E_USER;
}

/* Of x^3 at 2, with respect to the leaf: 12, 12 and 6, each one time more. */
static void results_can_be_differentiated_again(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    double two = 2, want;
    fb_functional_options o = {.create_graph = true};
    fb_tensor *x = fb_requires_grad(fb_from(ctx, FB_F64, FB_SCALAR, &two), true), *r, *g;
    for (int k = 0; k < 5; k++) {
        fb_tensors in = FB_TENSORS(x);
        fb_status st = k == 0   ? fb_jacobian(cube, NULL, in, 1, &o, &r)
                       : k == 1 ? fb_vjp(cube, NULL, in, 1, (fb_tensors){0}, &o, NULL, &r)
                       : k == 2 ? fb_jvp(cube, NULL, in, 1, (fb_tensors){0}, &o, NULL, &r)
                       : k == 3 ? fb_hessian(cube, NULL, in, &o, &r)
                                : fb_hvp(cube, NULL, in, (fb_tensors){0}, &o, NULL, &r);
        assert_int_equal(st, FB_OK);
        want = 12;
        expect(r, FB_SCALAR, &want);
        assert_int_equal(fb_gradients(FB_TENSORS(r), FB_TENSORS(x), NULL, &g), FB_OK);
        want = k < 3 ? 12 : 6;
        expect(g, FB_SCALAR, &want);
    }
    assert_null(fb_grad_of(x));
}

static fb_status passes(void *user, fb_tensors in, fb_tensor **out)
{
    (void)user;
    out[0] = in.t[0];
    return FB_OK;
}

static void the_identity_has_derivatives_too(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    static const double eye[] = {1, 0, 0, 1};
    fb_tensor *in[2], *u[2], *r;
    inputs(ctx, x_values, y_values, in);
    inputs(ctx, u_values, w_values, u);
    assert_int_equal(fb_jacobian(passes, NULL, FB_TENSORS(in[0]), 1, NULL, &r), FB_OK);
    expect(r, FB_SHAPE(2, 2), eye);
    assert_int_equal(fb_jvp(passes, NULL, FB_TENSORS(in[0]), 1, FB_TENSORS(u[0]), NULL, NULL, &r),
                     FB_OK);
    expect(r, FB_SHAPE(2), u_values);
    assert_int_equal(fb_vjp(passes, NULL, FB_TENSORS(in[0]), 1, FB_TENSORS(u[0]), NULL, NULL, &r),
                     FB_OK);
    expect(r, FB_SHAPE(2), u_values);
}

static fb_status constant(void *user, fb_tensors in, fb_tensor **out)
{
    (void)user;
    out[0] = fb_ones(fb_context_of(in.t[0]), FB_F64, FB_SHAPE(0, 3));
    out[1] = fb_full(fb_context_of(in.t[0]), FB_I64, FB_SHAPE(3), 1);
    return FB_OK;
}

static void constants_and_empty_outputs_give_zeros(void **state)
{
    fb_context *ctx = *state;
    for (int create = 0; create < 2; create++) {
        FB_SCOPE(ctx);
        fb_tensor *in[2], *u[2], *jac[4], *t[2];
        inputs(ctx, x_values, y_values, in);
        inputs(ctx, u_values, w_values, u);
        fb_functional_options o = {.create_graph = create};
        assert_int_equal(fb_jacobian(constant, NULL, (fb_tensors){in, 2}, 2, &o, jac), FB_OK);
        expect(jac[0], FB_SHAPE(0, 3, 2), zeros);
        expect(jac[3], FB_SHAPE(3, 2, 3), zeros);
        fb_tensors v = {u, 2};
        assert_int_equal(fb_jvp(constant, NULL, (fb_tensors){in, 2}, 2, v, &o, NULL, t), FB_OK);
        expect(t[0], FB_SHAPE(0, 3), zeros);
        assert_int_equal(fb_item_int(fb_sum(t[1], FB_ALL, false)), 0);
    }
}

static fb_status fails(void *user, fb_tensors in, fb_tensor **out)
{
    (void)in;
    (void)out;
    return *(fb_status *)user;
}

static fb_status wide(void *user, fb_tensors in, fb_tensor **out)
{
    (void)user;
    out[0] = fb_reshape(in.t[0], FB_SHAPE(1, 1, 1, 1, 1, 1, 1, 2));
    return out[0] ? FB_OK : FB_E_USER;
}

static fb_status sums(void *user, fb_tensors in, fb_tensor **out)
{
    (void)user;
    out[0] = fb_sum(in.t[0], FB_ALL, false);
    return FB_OK;
}

static void what_is_wrong_is_said(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *in[2], *r[4], *ints = fb_full(ctx, FB_I64, FB_SHAPE(2), 1);
    inputs(ctx, x_values, y_values, in);
    fb_tensors both = {in, 2}, x = FB_TENSORS(in[0]);
    fb_status st = FB_E_IO, ok = FB_OK;
    fb_functional_options strict = {.strict = true},
                          linked = {.strict = true, .create_graph = true};
    assert_int_equal(fb_jacobian(two_outputs, NULL, both, 0, NULL, r), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_jacobian: 2 inputs, 0 outputs");
    assert_int_equal(fb_jacobian(NULL, NULL, both, 1, NULL, r), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "the function is NULL");
    assert_int_equal(fb_jvp(cube, NULL, x, 1, x, NULL, NULL, NULL), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_jvp: the place for results is NULL");
    assert_int_equal(fb_vjp(cube, NULL, FB_TENSORS(in[0], NULL), 1, x, NULL, NULL, r), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_vjp: input 1 is NULL");
    assert_int_equal(fb_hessian(number, NULL, FB_TENSORS(in[0], ints), NULL, r), FB_E_DTYPE);
    check_error(ctx, FB_E_DTYPE, "fb_hessian: input 1 is I64, which has no derivative");
    assert_int_equal(fb_jvp(fails, &st, x, 1, x, NULL, NULL, r), FB_E_IO);
    check_error(ctx, FB_E_IO, "fb_jvp: the function failed");
    assert_int_equal(fb_jvp(fails, &ok, x, 1, x, NULL, NULL, r), FB_E_USER);
    check_error(ctx, FB_E_USER, "fb_jvp: the function left output 0 empty");
    assert_int_equal(fb_hessian(cube, NULL, x, NULL, r), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "fb_hessian: the function gave [2], not one element");
    assert_int_equal(fb_hvp(number, NULL, both, x, NULL, NULL, r), FB_E_ARG);
    check_error(ctx, FB_E_ARG, "fb_hvp: 1 vectors for 2 inputs");
    assert_int_equal(fb_vjp(cube, NULL, x, 1, FB_TENSORS(in[1]), NULL, NULL, r), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "fb_vjp: vector 0 is F64 [2, 3], output 0 is F64 [2]");
    assert_int_equal(fb_jacobian(wide, NULL, x, 1, NULL, r), FB_E_SHAPE);
    check_error(ctx, FB_E_SHAPE, "[1, 1, 1, 1, 1, 1, 1, 2] by [2] has more than 8 dimensions");
    assert_int_equal(fb_jacobian(two_outputs, NULL, both, 2, &strict, r), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "fb_jacobian: strict: output 1 does not depend on input 1");
    for (int i = 0; i < 4; i++)
        assert_null(r[i]);
    assert_int_equal(fb_jacobian(sums, NULL, x, 1, &linked, r), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "strict: the derivative of output 0 does not depend on input 0");
    assert_int_equal(fb_vjp(sums, NULL, both, 1, (fb_tensors){0}, &strict, NULL, r), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "fb_vjp: strict: no output depends on input 1");
    assert_int_equal(fb_hvp(sums, NULL, both, both, &strict, NULL, r), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "fb_hvp: strict: output 0 does not depend on input 1");
    assert_int_equal(fb_jvp(constant, NULL, x, 2, x, &strict, NULL, r), FB_E_STATE);
    check_error(ctx, FB_E_STATE, "fb_jvp: strict: output 0 depends on no input");
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(jacobians_have_the_sizes_of_outputs_and_inputs),
        T(hessians_have_a_block_for_each_pair),
        T(products_with_vectors_are_pytorchs),
        T(results_can_be_differentiated_again),
        T(the_identity_has_derivatives_too),
        T(constants_and_empty_outputs_give_zeros),
        T(what_is_wrong_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
