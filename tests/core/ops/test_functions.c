/* Pointwise functions where they have kinks, poles and steps: values from their definitions, and
 * messages. */
#include "tests/core/ops/ops_test_priv.h"

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/op.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

typedef struct edge {
    const char *op;
    double x, y; /* y: the second operand, where there is one */
    double want;
    double a, b; /* scalars */
} edge;

static const edge edges[] = {
    {"exp2", 10, 0, 1024, 0, 0},
    {"exp2", -INFINITY, 0, 0, 0, 0},
    {"expm1", -INFINITY, 0, -1, 0, 0},
    {"expm1", 1e-10, 0, 1.00000000005e-10, 0, 0},
    {"log2", 0, 0, -INFINITY, 0, 0},
    {"log2", 1 / 1024.0, 0, -10, 0, 0},
    {"log10", -1, 0, NAN, 0, 0},
    {"asin", 1.5, 0, NAN, 0, 0},
    {"atanh", 1, 0, INFINITY, 0, 0},
    {"acosh", 0.5, 0, NAN, 0, 0},
    {"sinc", 0, 0, 1, 0, 0},
    {"erfinv", 1, 0, INFINITY, 0, 0},
    {"erfinv", -2, 0, NAN, 0, 0},
    {"lgamma", -2, 0, INFINITY, 0, 0},
    {"digamma", -2, 0, NAN, 0, 0},
    {"polygamma", 1, 0, 1.6449340668482264, 1, 0},
    {"entr", -1, 0, -INFINITY, 0, 0},
    {"entr", 0, 0, 0, 0, 0},
    {"trunc", -1.5, 0, -1, 0, 0},
    {"ceil", -1.5, 0, -1, 0, 0},
    {"floor", -1.5, 0, -2, 0, 0},
    {"round", 2.5, 0, 2, 0, 0},
    {"round", -3.5, 0, -4, 0, 0},
    {"frac", -1.25, 0, -0.25, 0, 0},
    {"sign", -7, 0, -1, 0, 0},
    {"sign", 0, 0, 0, 0, 0},
    {"hardswish", -3, 0, 0, 0, 0},
    {"hardswish", 4, 0, 4, 0, 0},
    {"hardsigmoid", 0, 0, 0.5, 0, 0},
    {"hardtanh", 5, 0, 2, -1, 2},
    {"hardtanh", NAN, 0, NAN, -1, 2},
    {"relu6", 7, 0, 6, 0, 0},
    {"mish", 0, 0, 0, 0, 0},
    {"softsign", -3, 0, -0.75, 0, 0},
    {"selu", -INFINITY, 0, -1.7580993408473766, 0, 0},
    {"celu", -INFINITY, 0, -0.5, 0.5, 0},
    {"hardshrink", 0.5, 0, 0, 0.5, 0},
    {"hardshrink", NAN, 0, NAN, 0.5, 0},
    {"softshrink", -2, 0, -1.5, 0.5, 0},
    {"threshold", 1, 0, 20, 1, 20},
    {"threshold", 1.5, 0, 1.5, 1, 20},
    {"logit", 0, 0, -INFINITY, -1, 0},
    {"logit", 0, 0, -1.0986122886681098, 0.25, 0},
    {"logsigmoid", -200, 0, -200, 0, 0},
    {"atan2", 0, -1, 3.1415926535897931, 0, 0},
    {"atan2", -1, 0, -1.5707963267948966, 0, 0},
    {"hypot", 3, 4, 5, 0, 0},
    {"fmod", -5, 3, -2, 0, 0},
    {"fmod", 5, 0, NAN, 0, 0},
    {"remainder", -5, 3, 1, 0, 0},
    {"remainder", 5, -3, -1, 0, 0},
    {"floor_divide", -5, 3, -2, 0, 0},
    {"floor_divide", 5, 0, INFINITY, 0, 0},
    {"copysign", 2, -0.0, -2, 0, 0},
    {"logaddexp", -INFINITY, -INFINITY, -INFINITY, 0, 0},
    {"logaddexp", 500, 500, 500.69314718055995, 0, 0},
    {"xlogy", 0, -1, 0, 0, 0},
    {"xlogy", 0, NAN, NAN, 0, 0},
    {"heaviside", 0, 0.5, 0.5, 0, 0},
    {"heaviside", 2, 0.5, 1, 0, 0},
    {"fmax", NAN, 2, 2, 0, 0},
    {"fmin", 2, NAN, 2, 0, 0},
    {"clamp_min", NAN, 2, NAN, 0, 0},
    {"clamp_max", 5, 2, 2, 0, 0},
    {"prelu", -2, 0.25, -0.5, 0, 0},
};

static const fb_op_description *describe(const char *name)
{
    static fb_op_description d;
    for (int i = 0; fb_op_info(i, &d); i++)
        if (!strcmp(d.name, name))
            return &d;
    fail_msg("there is no operator %s", name);
    return NULL;
}

static void functions_have_their_values_at_the_edges(void **state)
{
    fb_context *ctx = *state;
    for (size_t k = 0; k < sizeof edges / sizeof edges[0]; k++) {
        const edge *e = &edges[k];
        FB_SCOPE(ctx);
        for (int d = 0; d < 2; d++) {
            fb_dtype dtype = d ? FB_F64 : FB_F32;
            fb_tensor *in[2] = {fb_to(fb_from(ctx, FB_F64, FB_SCALAR, &e->x), dtype),
                                fb_to(fb_from(ctx, FB_F64, FB_SCALAR, &e->y), dtype)};
            fb_attr attrs[2] = {{.name = "a", .number = e->a}, {.name = "b", .number = e->b}};
            const fb_op_description *op = describe(e->op);
            fb_tensor *out = NULL;
            double got;
            assert_int_equal(fb_op_call(ctx, e->op, (fb_tensors){in, op->n_in}, attrs,
                                        op->n_attrs ? 2 : 0, &out),
                             FB_OK);
            assert_int_equal(fb_read(fb_to(out, FB_F64), &got, sizeof got), FB_OK);
            bool same = isnan(e->want) ? isnan(got)
                                       : got == e->want || fabs(got - e->want) <=
                                                               (d ? 1e-14 : 5e-7) * fabs(e->want);
            if (!same)
                fail_msg("%s(%g, %g): %.17g, not %.17g", e->op, e->x, e->y, got, e->want);
        }
    }
}

typedef fb_tensor *(*of_two)(fb_tensor *a, fb_tensor *b);

static void integers(fb_context *ctx, of_two f, int64_t a, int64_t b, int64_t want)
{
    int64_t got = 0;
    FB_SCOPE(ctx);
    fb_tensor *y = f(fb_from(ctx, FB_I64, FB_SCALAR, &a), fb_from(ctx, FB_I64, FB_SCALAR, &b));
    assert_non_null(y);
    assert_int_equal(fb_dtype_of(y), FB_I64);
    assert_int_equal(fb_read(y, &got, sizeof got), FB_OK);
    if (got != want)
        fail_msg("of %lld and %lld: %lld, not %lld", (long long)a, (long long)b, (long long)got,
                 (long long)want);
}

static void integers_are_divided_and_shifted_as_in_pytorch(void **state)
{
    fb_context *ctx = *state;
    integers(ctx, fb_floor_divide, -7, 2, -4);
    integers(ctx, fb_floor_divide, 7, -2, -4);
    integers(ctx, fb_floor_divide, INT64_MIN, -1, INT64_MIN);
    integers(ctx, fb_remainder, -7, 2, 1);
    integers(ctx, fb_remainder, INT64_MIN, -1, 0);
    integers(ctx, fb_fmod, -7, 2, -1);
    integers(ctx, fb_bitwise_left_shift, 1, 62, (int64_t)1 << 62);
    integers(ctx, fb_bitwise_left_shift, 1, 64, 0);
    integers(ctx, fb_bitwise_left_shift, 1, -1, 0);
    integers(ctx, fb_bitwise_right_shift, -5, 1, -3);
    integers(ctx, fb_bitwise_right_shift, -5, 70, -1);
    integers(ctx, fb_bitwise_xor, 6, 3, 5);
    integers(ctx, fb_gcd, -12, 18, 6);
    integers(ctx, fb_gcd, 0, 0, 0);
    integers(ctx, fb_lcm, -4, 6, 12);
    integers(ctx, fb_lcm, 0, 6, 0);
}

static void a_quotient_of_integers_by_zero_is_refused(void **state)
{
    fb_context *ctx = *state;
    int64_t a[2] = {5, 6}, b[2] = {1, 0};
    fb_tensor *x = fb_from(ctx, FB_I64, FB_SHAPE(2), a), *y = fb_from(ctx, FB_I64, FB_SHAPE(2), b);
    if (strcmp(fb_context_device(ctx), "cpu")) /* a card would have to be waited for */
        return;
    assert_null(fb_remainder(x, y));
    expect_error(ctx, FB_E_ARG, "remainder: the divisor [2] has a 0");
    assert_null(fb_floor_divide(x, y));
    expect_error(ctx, FB_E_ARG, "floor_divide: the divisor [2] has a 0");
}

static void scalars_that_make_no_sense_are_refused(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(2));
    assert_null(fb_celu(x, 0));
    expect_error(ctx, FB_E_ARG, "celu: scalars 0 and 0: alpha cannot be 0");
    assert_null(fb_softshrink(x, -1));
    expect_error(ctx, FB_E_ARG, "softshrink: scalars -1 and 0: lambda cannot be below 0");
    assert_null(fb_polygamma(-1, x));
    expect_error(ctx, FB_E_ARG, "polygamma: scalars -1 and 0: the order is");
    assert_null(fb_hardtanh(x, 1, -1));
    expect_error(ctx, FB_E_ARG, "hardtanh: scalars 1 and -1: the lower limit");
}

static void bits_of_floats_are_refused(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(2)), *b = fb_ones(ctx, FB_BOOL, FB_SHAPE(2));
    assert_null(fb_bitwise_and(x, x));
    expect_error(ctx, FB_E_DTYPE, "bitwise_and: the operands are F32; needs integers or BOOL");
    assert_null(fb_bitwise_left_shift(b, b));
    expect_error(ctx, FB_E_DTYPE, "bitwise_left_shift: input 0 is BOOL; needs numbers");
    assert_non_null(fb_bitwise_and(b, b));
}

static void other_names_of_pytorch_are_known(void **state)
{
    fb_context *ctx = *state;
    static const char *const pairs[][2] = {
        {"arctan", "atan"}, {"negative", "neg"}, {"psi", "digamma"}};
    fb_tensor *x = fb_full(ctx, FB_F64, FB_SCALAR, 0.75), *y[2];
    for (int i = 0; i < 3; i++) {
        double got[2];
        for (int k = 0; k < 2; k++) {
            assert_int_equal(fb_op_call(ctx, pairs[i][k], (fb_tensors){&x, 1}, NULL, 0, &y[k]),
                             FB_OK);
            assert_int_equal(fb_read(y[k], &got[k], sizeof got[k]), FB_OK);
        }
        assert_true(got[0] == got[1]);
    }
    assert_int_equal(fb_op_call(ctx, "arcus", (fb_tensors){&x, 1}, NULL, 0, y), FB_E_NOT_FOUND);
    expect_error(ctx, FB_E_NOT_FOUND, "there is no operator \"arcus\"");
}

/* As those out of place; those that save their result have its gradient. */
static void functions_in_place(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *x = fb_full(ctx, FB_F32, FB_SHAPE(2), 2),
              *half = fb_full(ctx, FB_F32, FB_SCALAR, 0.5);
    assert_int_equal(fb_sub_(x, half), FB_OK);        /* 1.5 */
    assert_int_equal(fb_div_(x, half), FB_OK);        /* 3 */
    assert_int_equal(fb_add_scalar_(x, 0.75), FB_OK); /* 3.75 */
    assert_int_equal(fb_floor_(x), FB_OK);            /* 3 */
    assert_int_equal(fb_neg_(x), FB_OK);              /* -3 */
    assert_int_equal(fb_clamp_(x, -2.5, 0), FB_OK);   /* -2.5 */
    assert_int_equal(fb_round_(x), FB_OK);            /* -2 */
    assert_int_equal(fb_abs_(x), FB_OK);              /* 2 */
    expect_values(x, (double[]){2, 2}, 2, 0);
    fb_tensor *leaf = fb_full(ctx, FB_F32, FB_SHAPE(2), 1), *g = NULL;
    fb_requires_grad(leaf, true);
    fb_tensor *y = fb_mul_scalar(leaf, 2), *one = fb_ones(ctx, FB_F32, FB_SHAPE(2));
    assert_int_equal(fb_exp_(y), FB_OK);
    fb_gradient_options o = {.seeds = {&one, 1}};
    assert_int_equal(fb_gradients((fb_tensors){&y, 1}, (fb_tensors){&leaf, 1}, &o, &g), FB_OK);
    expect_values(g, (double[]){2 * exp(2), 2 * exp(2)}, 2, 1e-6);
    fb_tensor *whole = fb_ones(ctx, FB_I64, FB_SHAPE(2));
    assert_int_equal(fb_exp_(whole), FB_E_DTYPE);
    expect_error(ctx, FB_E_DTYPE, "exp: ");
}

/* --- gradients --- */

static void gradients_of(fb_tensor *y, fb_tensor *seed, fb_tensors x, fb_tensor **g)
{
    fb_gradient_options o = {.seeds = {&seed, 1}};
    assert_int_equal(fb_gradients((fb_tensors){&y, 1}, x, &o, g), FB_OK);
}

/* Nothing passes where a gate is closed, also if it is infinite, as in PyTorch. */
static void an_infinite_gradient_stops_at_a_closed_gate(void **state)
{
    fb_context *ctx = *state;
    static const struct {
        const char *op;
        double a, b, closed, open;
    } gates[] = {{"relu", 0, 0, -1, 1},
                 {"relu6", 0, 0, 7, 5},
                 {"clamp", -1, 2, 2.5, 1.5},
                 {"clamp", -1, 2, -1, -0.5},
                 {"hardtanh", -1, 2, 3, 0},
                 {"hardshrink", 0.5, 0, 0.25, 1},
                 {"softshrink", 0.5, 0, -0.25, -1},
                 {"threshold", 1, 20, 0.5, 1.5},
                 {"hardsigmoid", 0, 0, -4, 0},
                 {"hardswish", 0, 0, -4, 1}};
    enum { N = 37 }; /* vectors and what is left */
    for (size_t k = 0; k < 2 * sizeof gates / sizeof gates[0]; k++) {
        FB_SCOPE(ctx);
        const fb_op_description *op = describe(gates[k / 2].op);
        fb_attr attrs[2] = {{.name = "a", .number = gates[k / 2].a},
                            {.name = "b", .number = gates[k / 2].b}};
        fb_dtype dtype = k % 2 ? FB_F64 : FB_F32;
        double v[N], got[N];
        for (int i = 0; i < N; i++)
            v[i] = i % 3 ? gates[k / 2].closed : gates[k / 2].open;
        fb_tensor *x = fb_to(fb_from(ctx, FB_F64, FB_SHAPE(N), v), dtype), *y = NULL, *g = NULL;
        fb_requires_grad(x, true);
        assert_int_equal(
            fb_op_call(ctx, op->name, (fb_tensors){&x, 1}, attrs, op->n_attrs ? 2 : 0, &y), FB_OK);
        gradients_of(y, fb_full(ctx, dtype, FB_SHAPE(N), INFINITY), (fb_tensors){&x, 1}, &g);
        assert_int_equal(fb_read(fb_to(g, FB_F64), got, sizeof got), FB_OK);
        for (int i = 0; i < N; i++)
            if (got[i] != (i % 3 ? 0 : INFINITY))
                fail_msg("%s, element %d: %g", op->name, i, got[i]);
    }
}

static fb_tensor *leaf_of(fb_context *ctx, fb_shape shape, const double *v)
{
    return fb_requires_grad(fb_to(fb_from(ctx, FB_F64, shape, v), FB_F32), true);
}

/* Of operands side by side, of one that is both, of one that lies otherwise, and into gradients
 * that are there already. */
static void a_product_gives_both_gradients(void **state)
{
    fb_context *ctx = *state;
    double a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {7, -8, 9, -10, 11, -12};
    double turned[6] = {7, -10, -8, 11, 9, -12}; /* b as [3, 2], seen as [2, 3] */
    fb_shape shape = FB_SHAPE(2, 3);
    fb_tensor *p = leaf_of(ctx, shape, a), *q = leaf_of(ctx, shape, b), *g[2] = {NULL};
    fb_tensor *one = fb_ones(ctx, FB_F32, shape);
    gradients_of(fb_mul(p, q), one, FB_TENSORS(p, q), g);
    expect_values(g[0], b, 6, 0);
    expect_values(g[1], a, 6, 0);
    gradients_of(fb_mul(p, p), one, FB_TENSORS(p), g);
    expect_values(g[0], (double[]){2, 4, 6, 8, 10, 12}, 6, 0);
    fb_tensor *t = fb_t(fb_detach(leaf_of(ctx, FB_SHAPE(3, 2), turned)));
    fb_requires_grad(t, true);
    gradients_of(fb_mul(p, t), one, FB_TENSORS(p, t), g);
    expect_values(g[0], b, 6, 0);
    expect_values(g[1], a, 6, 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fb_backward(fb_sum(fb_mul(p, q), FB_ALL, false)), FB_OK);
    assert_int_equal(fb_backward(fb_sum(fb_mul(q, q), FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(p), (double[]){14, -16, 18, -20, 22, -24}, 6, 0);
    expect_values(fb_grad_of(q), (double[]){16, -12, 24, -12, 32, -12}, 6, 0);
}

/* What no gradient reads may change. */
static void a_product_reads_only_what_its_gradients_need(void **state)
{
    fb_context *ctx = *state;
    fb_tensor *x = fb_requires_grad(fb_full(ctx, FB_F32, FB_SHAPE(2), 3), true), *g = NULL;
    fb_tensor *doubled = fb_mul_scalar(x, 2), *mask = fb_full(ctx, FB_F32, FB_SHAPE(2), 5);
    fb_tensor *y = fb_mul(doubled, mask);
    assert_int_equal(fb_mul_scalar_(doubled, 7), FB_OK);
    gradients_of(y, fb_ones(ctx, FB_F32, FB_SHAPE(2)), FB_TENSORS(x), &g);
    expect_values(g, (double[]){10, 10}, 2, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(functions_have_their_values_at_the_edges, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(integers_are_divided_and_shifted_as_in_pytorch,
                                        open_context, close_context),
        cmocka_unit_test_setup_teardown(a_quotient_of_integers_by_zero_is_refused, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(scalars_that_make_no_sense_are_refused, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(bits_of_floats_are_refused, open_context, close_context),
        cmocka_unit_test_setup_teardown(other_names_of_pytorch_are_known, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(functions_in_place, open_context, close_context),
        cmocka_unit_test_setup_teardown(an_infinite_gradient_stops_at_a_closed_gate, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(a_product_gives_both_gradients, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(a_product_reads_only_what_its_gradients_need, open_context,
                                        close_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
