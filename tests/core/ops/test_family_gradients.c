/* Gradients of reductions, softmax, losses, indexing and cat against differences in F64; backward
 * that records (create_graph) gives what the fast one gives. */
#include <flambeau/core/ops/embedding.h>
#include <flambeau/core/ops/extreme.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/softmax.h>

#include "tests/core/ops/ops_test_priv.h"

enum { R = 4, C = 6 };

typedef fb_tensor *(*function)(fb_context *ctx, fb_tensor *x);

static fb_tensor *sum_rows(fb_context *ctx, fb_tensor *x)
{
    (void)ctx;
    return fb_sum(x, FB_DIMS(1), false);
}

static fb_tensor *mean_columns(fb_context *ctx, fb_tensor *x)
{
    (void)ctx;
    return fb_mean(x, FB_DIMS(0), true);
}

static fb_tensor *var_rows(fb_context *ctx, fb_tensor *x)
{
    (void)ctx;
    return fb_var(x, FB_DIMS(-1), true, false);
}

static fb_tensor *amax_rows(fb_context *ctx, fb_tensor *x)
{
    (void)ctx;
    return fb_amax(x, FB_DIMS(1), false);
}

static fb_tensor *min_columns(fb_context *ctx, fb_tensor *x)
{
    fb_tensor *y = NULL;
    (void)ctx;
    return fb_min_dim(x, 0, false, &y, NULL) ? NULL : y;
}

static fb_tensor *softmax_rows(fb_context *ctx, fb_tensor *x)
{
    (void)ctx;
    return fb_softmax(x, 1);
}

static fb_tensor *log_softmax_columns(fb_context *ctx, fb_tensor *x)
{
    (void)ctx;
    return fb_log_softmax(x, 0);
}

static fb_tensor *smoothed_cross_entropy(fb_context *ctx, fb_tensor *x)
{
    fb_tensor *t = fb_from(ctx, FB_U8, FB_SHAPE(R), (uint8_t[R]){5, 0, 2, 2});
    fb_cross_entropy_options o = {.label_smoothing = 0.1, .reduction = FB_LOSS_NONE};
    return fb_cross_entropy(x, t, &o);
}

static fb_tensor *mean_cross_entropy(fb_context *ctx, fb_tensor *x)
{
    fb_tensor *t = fb_from(ctx, FB_I64, FB_SHAPE(R), (int64_t[R]){5, -100, 2, 2});
    return fb_cross_entropy(x, t, NULL);
}

static fb_tensor *square_error(fb_context *ctx, fb_tensor *x)
{
    (void)ctx;
    return fb_mse_loss(x, fb_softmax(x, 1), FB_OPTS(fb_mse_loss_options, .reduction = FB_LOSS_SUM));
}

static fb_tensor *rows_of_table(fb_context *ctx, fb_tensor *x)
{
    return fb_embedding(x, fb_from(ctx, FB_I32, FB_SHAPE(3), (int32_t[]){3, 1, 3}));
}

static fb_tensor *some_columns(fb_context *ctx, fb_tensor *x)
{
    return fb_index_select(x, 1, fb_from(ctx, FB_I32, FB_SHAPE(3), (int32_t[]){3, 1, 3}));
}

static fb_tensor *gathered(fb_context *ctx, fb_tensor *x)
{
    return fb_gather(x, 1, fb_from(ctx, FB_I64, FB_SHAPE(2, 2), (int64_t[]){5, 5, 0, 4}));
}

static fb_tensor *joined(fb_context *ctx, fb_tensor *x)
{
    (void)ctx;
    return fb_cat(FB_TENSORS(x, fb_softmax(x, 0), x), 1);
}

static const struct {
    const char *name;
    function f;
} functions[] = {
    {"sum", sum_rows},
    {"mean", mean_columns},
    {"var", var_rows},
    {"amax", amax_rows},
    {"min_dim", min_columns},
    {"softmax", softmax_rows},
    {"log_softmax", log_softmax_columns},
    {"cross_entropy, smoothed", smoothed_cross_entropy},
    {"cross_entropy, mean", mean_cross_entropy},
    {"mse_loss", square_error},
    {"embedding", rows_of_table},
    {"index_select", some_columns},
    {"gather", gathered},
    {"cat", joined},
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

static double start[R * C];

/* A scalar that depends on every element of f(x) in its own way, and curves. */
static fb_tensor *weighed(fb_context *ctx, function f, fb_tensor *x)
{
    double w[3 * R * C];
    fb_tensor *y = f(ctx, x);
    assert_non_null(y);
    for (int64_t i = 0; i < fb_numel(y); i++)
        w[i] = cos((double)i);
    fb_tensor *t = fb_mul(fb_mul(y, y), fb_from(ctx, FB_F64, fb_shape_of(y), w));
    return fb_sum(t, FB_ALL, false);
}

static double value_at(fb_context *ctx, function f, int moved, double by)
{
    double v[R * C];
    memcpy(v, start, sizeof v);
    v[moved] += by;
    return fb_item(weighed(ctx, f, fb_from(ctx, FB_F64, FB_SHAPE(R, C), v)));
}

static void begin(void)
{
    float v[R * C];
    fill(v, R * C, -2, 2);
    for (int i = 0; i < R * C; i++)
        start[i] = (double)v[i];
}

static void gradient(fb_context *ctx, function f, bool recorded, double *out)
{
    fb_tensor *x = fb_requires_grad(fb_from(ctx, FB_F64, FB_SHAPE(R, C), start), true), *g = NULL;
    fb_gradient_options o = {.create_graph = recorded};
    fb_status st = fb_gradients(FB_TENSORS(weighed(ctx, f, x)), FB_TENSORS(x), &o, &g);
    if (st)
        fail_msg("%s", fb_error_message(ctx));
    assert_int_equal(fb_read(g, out, R * C * sizeof *out), FB_OK);
}

static void gradients_are_those_of_differences(void **state)
{
    double g[R * C], h = 1e-5;
    begin();
    for (int k = 0; k < FUNCTIONS; k++) {
        gradient(*state, functions[k].f, false, g);
        for (int i = 0; i < R * C; i++) {
            double up = value_at(*state, functions[k].f, i, h);
            double d = (up - value_at(*state, functions[k].f, i, -h)) / (2 * h);
            if (!(fabs(d - g[i]) <= 1e-7 * (1 + fabs(d))))
                fail_msg("%s: gradient %d is %.12g, differences give %.12g", functions[k].name, i,
                         g[i], d);
        }
    }
}

static void a_recorded_backward_gives_the_same_gradients(void **state)
{
    double fast[R * C], recorded[R * C];
    begin();
    for (int k = 0; k < FUNCTIONS; k++) {
        gradient(*state, functions[k].f, false, fast);
        gradient(*state, functions[k].f, true, recorded);
        for (int i = 0; i < R * C; i++)
            if (!(fabs(fast[i] - recorded[i]) <= 1e-12 * (1 + fabs(fast[i]))))
                fail_msg("%s: gradient %d is %.15g, recorded %.15g", functions[k].name, i, fast[i],
                         recorded[i]);
    }
}

/* Sum of cos(i) * gradient[i], differentiated once more. */
static void second_derivatives_are_those_of_differences(void **state)
{
    double w[R * C], h = 1e-5;
    begin();
    for (int i = 0; i < R * C; i++)
        w[i] = sin((double)i + 1);
    for (int k = 0; k < FUNCTIONS; k++) {
        fb_context *ctx = *state;
        fb_tensor *x = fb_requires_grad(fb_from(ctx, FB_F64, FB_SHAPE(R, C), start), true);
        fb_tensor *g = NULL, *gg = NULL;
        fb_gradient_options o = {.create_graph = true};
        fb_gradients(FB_TENSORS(weighed(ctx, functions[k].f, x)), FB_TENSORS(x), &o, &g);
        fb_tensor *s = fb_sum(fb_mul(g, fb_from(ctx, FB_F64, FB_SHAPE(R, C), w)), FB_ALL, false);
        if (fb_gradients(FB_TENSORS(s), FB_TENSORS(x), NULL, &gg))
            fail_msg("%s: %s", functions[k].name, fb_error_message(ctx));
        double got[R * C], up[R * C], down[R * C], kept[R * C], along = 0, want = 0;
        assert_int_equal(fb_read(gg, got, sizeof got), FB_OK);
        memcpy(kept, start, sizeof kept);
        for (int i = 0; i < R * C; i++)
            start[i] = kept[i] + h * w[i];
        gradient(ctx, functions[k].f, false, up);
        for (int i = 0; i < R * C; i++)
            start[i] = kept[i] - h * w[i];
        gradient(ctx, functions[k].f, false, down);
        memcpy(start, kept, sizeof kept);
        for (int i = 0; i < R * C; i++) { /* the Hessian is symmetric: H w is both */
            along = got[i];
            want = (up[i] - down[i]) / (2 * h);
            if (!(fabs(along - want) <= 1e-6 * (1 + fabs(want))))
                fail_msg("%s: second derivative %d is %.12g, differences give %.12g",
                         functions[k].name, i, along, want);
        }
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)
    const struct CMUnitTest tests[] = {
        T(gradients_are_those_of_differences),
        T(a_recorded_backward_gives_the_same_gradients),
        T(second_derivatives_are_those_of_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
