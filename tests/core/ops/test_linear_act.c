/* Products and convolutions that end with an activation, against the two operators that they stand
 * for. */
#include "ops_test_priv.h"

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/nn/layers.h>
#include <flambeau/core/ops/conv.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "core/tensor/context_priv.h"

enum { M = 66, IN = 50, MIDDLE = 40, OUT = 24, GRADS = 5 };

/* --- what runs: the context's profiler --- */

static struct {
    int linear_act, linear_dact, linear, gelu, conv2d_relu, batch_norm_relu, relu;
} ran;

static void count(void *self, const fbi_trace_span *span)
{
    const char *name = span->name;
    (void)self;
    ran.linear_act += strcmp(name, "linear_act") == 0;
    ran.linear_dact += strcmp(name, "linear_dact") == 0;
    ran.linear += strcmp(name, "linear") == 0;
    ran.gelu += strcmp(name, "gelu") == 0;
    ran.conv2d_relu += strcmp(name, "conv2d_relu") == 0;
    ran.batch_norm_relu += strcmp(name, "batch_norm_relu") == 0;
    ran.relu += strcmp(name, "relu") == 0;
}

static void nothing(void *self)
{
    (void)self;
}

static fbi_trace counter = {.begin = count, .end = nothing};

static void listen(fb_context *ctx, bool on)
{
    static fbi_trace *before;
    if (on) {
        before = ctx->trace;
        memset(&ran, 0, sizeof ran);
    }
    ctx->trace = on ? &counter : before;
}

/* --- a chain: act(x w1' + b1) w2' + b2, and how it is written --- */

typedef enum way { TWO_OPERATORS, FUSED, FUSED_AND_HELD } way;

static double one_of(double x, int i)
{
    return x * (double)((i * 37 + 11) % 97 - 48) / 48;
}

static fb_tensor *leaf(fb_context *ctx, fb_shape shape, double size)
{
    static float v[MIDDLE * (IN + M)];
    for (int i = 0; i < fb_shape_numel(shape); i++)
        v[i] = (float)one_of(size, i);
    return fb_requires_grad(fb_from(ctx, FB_F32, shape, v), true);
}

static fb_tensor *activated(fb_tensor *x, fb_tensor *w, fb_tensor *b, fb_activation act, way how)
{
    if (how != TWO_OPERATORS)
        return fb_linear_act(x, w, b, act);
    fb_tensor *z = fb_linear(x, w, b);
    return act == FB_ACT_RELU ? fb_relu(z) : fb_gelu_tanh(z);
}

typedef struct results {
    float y[M * OUT], grad[GRADS][MIDDLE * (IN + M)];
} results;

static void chain(fb_context *ctx, fb_activation act, way how, results *r)
{
    FB_SCOPE(ctx);
    fb_tensor *in[GRADS] = {leaf(ctx, FB_SHAPE(6, 11, IN), 1), leaf(ctx, FB_SHAPE(MIDDLE, IN), 0.3),
                            leaf(ctx, FB_SHAPE(MIDDLE), 0.5), leaf(ctx, FB_SHAPE(OUT, MIDDLE), 0.4),
                            leaf(ctx, FB_SHAPE(OUT), 1)};
    fb_tensor *held = NULL, *y = NULL;
    {
        FB_SCOPE(ctx);
        fb_tensor *h = activated(in[0], in[1], in[2], act, how);
        fb_set(&held, how == FUSED_AND_HELD ? h : NULL);
        y = fb_keep(fb_linear(h, in[3], in[4]));
    }
    assert_int_equal(fb_read(y, r->y, sizeof r->y), FB_OK);
    assert_int_equal(fb_backward(fb_sum(fb_square(y), FB_ALL, false)), FB_OK);
    for (int i = 0; i < GRADS; i++) {
        fb_tensor *g = fb_grad_of(in[i]);
        assert_int_equal(fb_read(g, r->grad[i], (size_t)fb_numel(g) * sizeof(float)), FB_OK);
    }
    fb_set(&held, NULL);
}

static void near(const float *got, const float *want, int64_t n, double size, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= 2e-5 * size))
            fail_msg("%s[%d] is %.9g, not %.9g", what, (int)i, (double)got[i], (double)want[i]);
}

static void same(const results *got, const results *want)
{
    static const struct {
        const char *name;
        int64_t n;
        double size;
    } grads[GRADS] = {{"dx", (int64_t)M * IN, 30},
                      {"dw1", (int64_t)MIDDLE * IN, 200},
                      {"db1", MIDDLE, 200},
                      {"dw2", (int64_t)OUT * MIDDLE, 400},
                      {"db2", OUT, 400}};
    near(got->y, want->y, (int64_t)M * OUT, 10, "y");
    for (int i = 0; i < GRADS; i++)
        near(got->grad[i], want->grad[i], grads[i].n, grads[i].size, grads[i].name);
}

static void a_chain_has_the_values_and_gradients_of_its_operators(void **state)
{
    fb_context *ctx = *state;
    static results want, got;
    for (int act = FB_ACT_RELU; act <= FB_ACT_GELU_TANH; act++) {
        chain(ctx, act, TWO_OPERATORS, &want);
        listen(ctx, true);
        chain(ctx, act, FUSED, &got);
        listen(ctx, false);
        same(&got, &want);
        /* one product makes the gradient of the argument and that of the bias */
        assert_int_equal(ran.linear_act, 1 + 1); /* forward; the node's backward has its name */
        assert_int_equal(ran.linear_dact, 1);
    }
}

static void a_result_that_somebody_holds_keeps_its_own_gradient(void **state)
{
    fb_context *ctx = *state;
    static results want, got;
    for (int act = FB_ACT_RELU; act <= FB_ACT_GELU_TANH; act++) {
        chain(ctx, act, TWO_OPERATORS, &want);
        listen(ctx, true);
        chain(ctx, act, FUSED_AND_HELD, &got);
        listen(ctx, false);
        same(&got, &want);
        assert_int_equal(ran.linear_dact, 0);
    }
}

static void the_same_call_gives_the_same_bits(void **state)
{
    fb_context *ctx = *state;
    static results a, b;
    chain(ctx, FB_ACT_GELU_TANH, FUSED, &a);
    chain(ctx, FB_ACT_GELU_TANH, FUSED, &b);
    assert_memory_equal(a.y, b.y, sizeof a.y);
    assert_memory_equal(a.grad, b.grad, sizeof a.grad);
}

/* Two users of one result: the sum of their gradients reaches the activation. */
static void a_result_used_twice_gets_both_gradients(void **state)
{
    fb_context *ctx = *state;
    float got[2][8 * 4];
    for (int how = 0; how < 2; how++) {
        FB_SCOPE(ctx);
        fb_tensor *x = leaf(ctx, FB_SHAPE(8, 4), 1), *w = leaf(ctx, FB_SHAPE(8, 4), 0.7);
        fb_tensor *v = leaf(ctx, FB_SHAPE(3, 8), 0.9), *loss = NULL;
        {
            FB_SCOPE(ctx);
            fb_tensor *h = activated(x, w, NULL, FB_ACT_GELU_TANH, how ? FUSED : TWO_OPERATORS);
            fb_tensor *y = fb_sum(fb_square(fb_linear(h, v, NULL)), FB_ALL, false);
            loss = fb_keep(fb_add(y, fb_sum(h, FB_ALL, false)));
        }
        assert_int_equal(fb_backward(loss), FB_OK);
        assert_int_equal(fb_read(fb_grad_of(x), got[how], sizeof got[how]), FB_OK);
    }
    near(got[1], got[0], 32, 10, "dx");
}

static void a_sequence_of_layers_uses_it_and_never_for_the_exact_gelu(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *tanh_form = fb_nn_sequential(ctx, fb_nn_linear(ctx, 8, 16, NULL),
                                            fb_nn_gelu_tanh(ctx), fb_nn_linear(ctx, 16, 8, NULL),
                                            fb_nn_relu(ctx), fb_nn_linear(ctx, 8, 1, NULL));
    fb_module *exact = fb_nn_sequential(ctx, fb_nn_linear(ctx, 8, 16, NULL), fb_nn_gelu(ctx));
    fb_tensor *x = leaf(ctx, FB_SHAPE(5, 8), 2);
    listen(ctx, true);
    fb_tensor *y = fb_nn_forward(tanh_form, x);
    listen(ctx, false);
    assert_int_equal(ran.linear_act, 2);
    assert_int_equal(ran.linear, 1);
    fb_tensor *z = x;
    for (int i = 0; i < 5; i++)
        z = fb_nn_forward(fb_nn_list_at(tanh_form, i), z);
    float got[5], want[5];
    assert_int_equal(fb_read(y, got, sizeof got), FB_OK);
    assert_int_equal(fb_read(z, want, sizeof want), FB_OK);
    near(got, want, 5, 1, "y");

    listen(ctx, true);
    assert_non_null(fb_nn_forward(exact, x));
    listen(ctx, false);
    assert_int_equal(ran.linear_act, 0);
    assert_int_equal(ran.gelu, 1);
}

/* --- convolutions --- */

enum { IMAGES = 2 * 5 * 9 * 7, PLACES = 2 * 6 * 9 * 7, FILTERS = 6 * 5 * 3 * 3 };

typedef struct convolved {
    float y[PLACES], dx[IMAGES], dw[FILTERS], db[6];
} convolved;

/* seed_order: the gradient comes channels-first, as from a layer that flattens. */
static void convolve(fb_context *ctx, bool fused, bool seed_order, convolved *r)
{
    FB_SCOPE(ctx);
    fb_conv_options o = {.padding = {1}};
    fb_tensor *x = leaf(ctx, FB_SHAPE(2, 5, 9, 7), 1), *w = leaf(ctx, FB_SHAPE(6, 5, 3, 3), 0.7);
    fb_tensor *b = leaf(ctx, FB_SHAPE(6), 0.5), *y = NULL, *loss = NULL;
    {
        FB_SCOPE(ctx);
        y = fb_keep(fused ? fb_conv2d_relu(x, w, b, &o) : fb_relu(fb_conv2d(x, w, b, &o)));
        fb_tensor *u = fb_detach(leaf(ctx, FB_SHAPE(2, 6, 9, 7), 1));
        loss =
            fb_keep(fb_sum(seed_order ? fb_mul(fb_contiguous(y), u) : fb_square(y), FB_ALL, false));
    }
    assert_int_equal(fb_read(y, r->y, sizeof r->y), FB_OK);
    fb_drop(y);
    assert_int_equal(fb_backward(loss), FB_OK);
    assert_int_equal(fb_read(fb_grad_of(x), r->dx, sizeof r->dx), FB_OK);
    assert_int_equal(fb_read(fb_grad_of(w), r->dw, sizeof r->dw), FB_OK);
    assert_int_equal(fb_read(fb_grad_of(b), r->db, sizeof r->db), FB_OK);
}

static void a_convolution_that_ends_with_a_relu_is_the_two_operators(void **state)
{
    static convolved one, two;
    for (int order = 0; order < 2; order++) {
        convolve(*state, true, order, &one);
        convolve(*state, false, order, &two);
        near(one.y, two.y, PLACES, 1, "y");
        near(one.dx, two.dx, IMAGES, 10, "dx");
        near(one.dw, two.dw, FILTERS, 100, "dw");
        near(one.db, two.db, 6, 100, "db");
    }
}

static void a_sequence_of_convolutions_uses_it(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *m =
        fb_nn_sequential(ctx, fb_nn_conv2d(ctx, 5, 4, 3, NULL), fb_nn_relu(ctx),
                         fb_nn_conv2d(ctx, 4, 2, 3, NULL), fb_nn_gelu_tanh(ctx), fb_nn_relu(ctx));
    fb_tensor *x = leaf(ctx, FB_SHAPE(1, 5, 6, 6), 1);
    listen(ctx, true);
    fb_tensor *y = fb_nn_forward(m, x);
    listen(ctx, false);
    assert_int_equal(ran.conv2d_relu, 1);
    assert_int_equal(ran.relu, 1);
    fb_tensor *z = x;
    for (int i = 0; i < 5; i++)
        z = fb_nn_forward(fb_nn_list_at(m, i), z);
    float got[8], want[8];
    assert_int_equal(fb_read(y, got, sizeof got), FB_OK);
    assert_int_equal(fb_read(z, want, sizeof want), FB_OK);
    near(got, want, 8, 1, "y");
}

static void a_sequence_of_batch_norms_uses_its_row(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_module *m = fb_nn_sequential(ctx, fb_nn_batch_norm2d(ctx, 5, NULL), fb_nn_relu(ctx),
                                    fb_nn_batch_norm2d(ctx, 5, NULL), fb_nn_gelu_tanh(ctx));
    fb_tensor *x = leaf(ctx, FB_SHAPE(2, 5, 6, 6), 1);
    for (int eval = 0; eval < 2; eval++) {
        listen(ctx, true);
        assert_non_null(fb_nn_forward(m, x));
        listen(ctx, false);
        assert_int_equal(ran.batch_norm_relu, !eval);
        assert_int_equal(ran.relu, eval);
        fb_nn_eval(m);
    }
}

/* --- infinite gradients: nothing where a ReLU is closed, as in PyTorch --- */

static void gradient_of(fb_tensor *y, fb_tensor *seed, fb_tensor *x, float got[2])
{
    fb_tensor *dx = NULL;
    assert_int_equal(fb_gradients(FB_TENSORS(y), FB_TENSORS(x),
                                  FB_OPTS(fb_gradient_options, .seeds = FB_TENSORS(seed)), &dx),
                     FB_OK);
    assert_int_equal(fb_read(dx, got, 2 * sizeof *got), FB_OK);
}

static void an_infinite_gradient_stops_at_a_closed_relu(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *b = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){-1, 2}), true);
    fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(1, 2, 3, 3));
    fb_tensor *w = fb_zeros(ctx, FB_F32, FB_SHAPE(2, 2, 1, 1));
    fb_tensor *seed = fb_full(ctx, FB_F32, FB_SHAPE(1, 2, 3, 3), INFINITY);
    fb_tensor *rows = fb_full(ctx, FB_F32, FB_SHAPE(1, 3, 3, 2), INFINITY);
    fb_tensor *y[4] = {fb_relu(b), fb_conv2d_relu(x, w, b, NULL), fb_conv2d_relu(x, w, b, NULL),
                       fb_linear_act(fb_ones(ctx, FB_F32, FB_SHAPE(4, 3)),
                                     fb_zeros(ctx, FB_F32, FB_SHAPE(2, 3)), b, FB_ACT_RELU)};
    fb_tensor *seeds[4] = {fb_full(ctx, FB_F32, FB_SHAPE(2), INFINITY), seed,
                           fb_permute(rows, FB_DIMS(0, 3, 1, 2)),
                           fb_full(ctx, FB_F32, FB_SHAPE(4, 2), INFINITY)};
    for (int i = 0; i < 4; i++) {
        float got[2];
        gradient_of(y[i], seeds[i], b, got);
        assert_true(got[0] == 0 && got[1] == INFINITY);
    }
}

static void a_relu_of_nan_passes_gradients(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){NAN, 0}), true);
    float got[2];
    gradient_of(fb_relu(x), fb_from(ctx, FB_F32, FB_SHAPE(2), (float[]){3, 3}), x, got);
    assert_true(got[0] == 3 && got[1] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_has_the_values_and_gradients_of_its_operators),
        cmocka_unit_test(a_result_that_somebody_holds_keeps_its_own_gradient),
        cmocka_unit_test(the_same_call_gives_the_same_bits),
        cmocka_unit_test(a_result_used_twice_gets_both_gradients),
        cmocka_unit_test(a_sequence_of_layers_uses_it_and_never_for_the_exact_gelu),
        cmocka_unit_test(a_convolution_that_ends_with_a_relu_is_the_two_operators),
        cmocka_unit_test(a_sequence_of_convolutions_uses_it),
        cmocka_unit_test(a_sequence_of_batch_norms_uses_its_row),
        cmocka_unit_test(an_infinite_gradient_stops_at_a_closed_relu),
        cmocka_unit_test(a_relu_of_nan_passes_gradients),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
