/* Kernels that move 16 bytes at a time: the bits of results and gradients do not depend on whether
 * memory begins at a multiple of 16 bytes, and they are those of the CPU in F64, rounded. */
#include <math.h>

#include <flambeau/flambeau.h>

#include "tests/check.h"

enum { MOST = 3 * 2048 };

static double number(int64_t i, int salt)
{
    return sin((double)i * 1.7 + salt) * 1.5;
}

static fb_dtype rounded; /* what all numbers of a case are rounded to */

static fb_tensor *numbers(fb_context *ctx, fb_dtype dtype, int64_t n, int salt)
{
    double v[MOST + 1];
    for (int64_t i = 0; i < n; i++)
        v[i] = number(i, salt);
    fb_tensor *t = fb_from(ctx, FB_F64, FB_SHAPE(n), v);
    return fb_to(fb_to(t, rounded), dtype);
}

/* A parameter in the dtype of x. */
static fb_tensor *row(fb_tensor *x, int salt)
{
    return numbers(fb_context_of(x), fb_dtype_of(x), fb_size(x, -1), salt);
}

static fb_tensor *targets(fb_tensor *x)
{
    int64_t t[MOST], n = fb_size(x, 0);
    for (int64_t i = 0; i < n; i++)
        t[i] = i % 5 == 4 ? -100 : i * 7 % fb_size(x, 1);
    return fb_from(fb_context_of(x), FB_I64, FB_SHAPE(n), t);
}

static fb_tensor *softmax(fb_tensor *x)
{
    return fb_softmax(x, -1);
}
static fb_tensor *softmax_of_columns(fb_tensor *x)
{
    return fb_softmax(x, 0);
}
static fb_tensor *log_softmax(fb_tensor *x)
{
    return fb_log_softmax(x, -1);
}
static fb_tensor *layer_norm(fb_tensor *x)
{
    return fb_layer_norm(x, FB_SHAPE(fb_size(x, -1)), row(x, 3), row(x, 4), 1e-5);
}
static fb_tensor *plain_layer_norm(fb_tensor *x)
{
    return fb_layer_norm(x, FB_SHAPE(fb_size(x, -1)), NULL, NULL, 1e-5);
}
static fb_tensor *add_layer_norm(fb_tensor *x)
{
    fb_tensor *sum = NULL;
    return fb_add_layer_norm(x, x, FB_SHAPE(fb_size(x, -1)), row(x, 3), row(x, 4), 1e-5, &sum);
}
static fb_tensor *batch_norm(fb_tensor *x)
{
    fb_tensor *mean, *var;
    return fb_batch_norm(x, row(x, 3), row(x, 4), 1e-1, &mean, &var);
}
static fb_tensor *batch_norm_relu(fb_tensor *x)
{
    return fb_batch_norm_relu(x, row(x, 3), row(x, 4), NULL, 1e-1, NULL, NULL);
}
static fb_tensor *batch_norm_add_relu(fb_tensor *x)
{
    return fb_batch_norm_relu(x, row(x, 3), row(x, 4), x, 1e-1, NULL, NULL);
}
static fb_tensor *cross_entropy(fb_tensor *x)
{
    return fb_cross_entropy(
        x, targets(x),
        FB_OPTS(fb_cross_entropy_options, .weight = fb_abs(row(x, 5)), .label_smoothing = 0.25));
}
static fb_tensor *cross_entropies(fb_tensor *x)
{
    return fb_cross_entropy(x, targets(x),
                            FB_OPTS(fb_cross_entropy_options, .reduction = FB_LOSS_NONE));
}
static fb_tensor *mse(fb_tensor *x)
{
    return fb_mse_loss(x, fb_neg(x), NULL);
}
static fb_tensor *mses(fb_tensor *x)
{
    return fb_mse_loss(x, fb_neg(x), FB_OPTS(fb_mse_loss_options, .reduction = FB_LOSS_NONE));
}
static fb_tensor *sum_of_rows(fb_tensor *x)
{
    return fb_sum(x, FB_SHAPE(1), false);
}
static fb_tensor *mean_of_columns(fb_tensor *x)
{
    return fb_mean(x, FB_SHAPE(0), false);
}
static fb_tensor *variance(fb_tensor *x)
{
    return fb_var(x, FB_SHAPE(1), true, false);
}
static fb_tensor *largest(fb_tensor *x)
{
    return fb_amax(x, FB_SHAPE(1), false);
}
static fb_tensor *gelu(fb_tensor *x)
{
    return fb_gelu(x);
}

static const struct {
    const char *name;
    fb_tensor *(*run)(fb_tensor *x);
} cases[] = {{"softmax", softmax},
             {"softmax of columns", softmax_of_columns},
             {"log_softmax", log_softmax},
             {"layer_norm", layer_norm},
             {"layer_norm without parameters", plain_layer_norm},
             {"add_layer_norm", add_layer_norm},
             {"batch_norm", batch_norm},
             {"batch_norm_relu", batch_norm_relu},
             {"batch_norm_relu of a sum", batch_norm_add_relu},
             {"cross_entropy", cross_entropy},
             {"cross_entropy of each", cross_entropies},
             {"mse_loss", mse},
             {"mse_loss of each", mses},
             {"sum of rows", sum_of_rows},
             {"mean of columns", mean_of_columns},
             {"var", variance},
             {"amax", largest},
             {"gelu", gelu}};
enum { CASES = sizeof cases / sizeof cases[0] };

/* A result and the gradient of its input; both as F64, too. */
typedef struct result {
    int64_t n_y, n_dx;
    unsigned char y_bits[MOST * 8], dx_bits[MOST * 8];
    double y[MOST], dx[MOST];
} result;

static void keep(fb_tensor *t, int64_t *n, unsigned char *bits, double *values)
{
    *n = fb_numel(t);
    fb_tensor *wide = fb_to(t, FB_F64);
    assert_int_equal(fb_read(t, bits, (size_t)*n * fb_dtype_size(fb_dtype_of(t))), FB_OK);
    assert_int_equal(fb_read(wide, values, (size_t)*n * sizeof(double)), FB_OK);
}

/* x begins `shift` elements into its memory. */
static void run(fb_context *ctx, int which, fb_dtype dtype, int64_t rows, int64_t cols,
                int64_t shift, result *r)
{
    FB_SCOPE(ctx);
    int64_t n = rows * cols;
    fb_tensor *base = fb_zeros(ctx, dtype, FB_SHAPE(n + shift));
    assert_int_equal(fb_copy_(fb_narrow(base, 0, shift, n), numbers(ctx, dtype, n, 1)), FB_OK);
    fb_tensor *x = fb_reshape(fb_narrow(base, 0, shift, n), FB_SHAPE(rows, cols));
    assert_non_null(fb_requires_grad(x, true));
    fb_tensor *y = cases[which].run(x);
    check_ok(ctx);
    fb_tensor *g = fb_reshape(numbers(ctx, dtype, fb_numel(y), 2), fb_shape_of(y));
    assert_int_equal(fb_backward_with(y, FB_OPTS(fb_backward_options, .grad = g)), FB_OK);
    keep(fb_detach(y), &r->n_y, r->y_bits, r->y);
    keep(fb_grad_of(x), &r->n_dx, r->dx_bits, r->dx);
    check_ok(ctx);
}

static double largest_of(const double *v, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(v[i]));
    return most;
}

static void compare(const char *what, const char *name, fb_dtype dtype, const double *got,
                    const double *want, int64_t n, double tolerance)
{
    double unit = largest_of(want, n) * tolerance;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= unit))
            fail_msg("%s of %s in %s, element %lld: %.9g, but %.9g on the CPU in F64", what, name,
                     fb_dtype_name(dtype), (long long)i, got[i], want[i]);
}

static void check_case(fb_context *ctx, fb_context *cpu, int which, fb_dtype dtype, int64_t rows,
                       int64_t cols)
{
    static const double tolerance[] = {
        [FB_F32] = 4e-6, [FB_F64] = 1e-13, [FB_F16] = 2e-3, [FB_BF16] = 1.6e-2};
    static result plain, shifted, want;
    size_t size = fb_dtype_size(dtype);
    const char *name = cases[which].name;
    rounded = dtype;
    run(ctx, which, dtype, rows, cols, 0, &plain);
    run(ctx, which, dtype, rows, cols, 1, &shifted);
    run(cpu, which, FB_F64, rows, cols, 0, &want);
    if (memcmp(plain.y_bits, shifted.y_bits, (size_t)plain.n_y * size) != 0 ||
        memcmp(plain.dx_bits, shifted.dx_bits, (size_t)plain.n_dx * size) != 0)
        fail_msg("%s in %s of [%d, %d] has other bits where memory begins elsewhere", name,
                 fb_dtype_name(dtype), (int)rows, (int)cols);
    compare("result", name, dtype, plain.y, want.y, want.n_y, tolerance[dtype]);
    compare("gradient", name, dtype, plain.dx, want.dx, want.n_dx, tolerance[dtype]);
}

static void bits_do_not_depend_on_where_memory_begins(void **state)
{
    (void)state;
    static const fb_dtype dtypes[] = {FB_F32, FB_F64, FB_F16, FB_BF16};
    static const int64_t sizes[][2] = {{70, 24}, {70, 23}, {3, 2048}};
    fb_context *ctx = check_open_device(1), *cpu = check_open(1);
    for (int d = 0; d < 4; d++)
        for (int s = 0; s < 3; s++)
            for (int i = 0; i < CASES; i++)
                check_case(ctx, cpu, i, dtypes[d], sizes[s][0], sizes[s][1]);
    check_close(cpu);
    check_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_where_memory_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
