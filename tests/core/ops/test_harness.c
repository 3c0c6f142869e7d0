/* timeout: 600
 * Every row of the table: gradients, messages, calls by name; pointwise rows against libm. */
#include "tests/core/ops/harness_priv.h"

#include <flambeau/core/ops/op.h>

#include "core/ops/attr_priv.h"

static void gradient_of(fb_context *ctx, const row_call *r)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0};
    harness_inputs(ctx, r->sample, FB_F64, in);
    if (!harness_mark(r, FB_F64, in))
        return;
    fb_tensors t = {in, r->sample->n_in};
    harness_ok(ctx, r, fb_gradcheck(harness_call, (void *)(uintptr_t)r, t, r->op->n_out, NULL),
               "gradient");
}

static void second_gradient_of(fb_context *ctx, const row_call *r)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0};
    harness_inputs(ctx, r->sample, FB_F64, in);
    if (!harness_mark(r, FB_F64, in))
        return;
    fb_tensors t = {in, r->sample->n_in};
    harness_ok(ctx, r, fb_gradgradcheck(harness_call, (void *)(uintptr_t)r, t, r->op->n_out, NULL),
               "second gradient");
}

static void fast_against_operators(fb_context *ctx, const row_call *r)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0};
    harness_results fast, ops;
    harness_inputs(ctx, r->sample, FB_F64, in);
    if (!harness_mark(r, FB_F64, in))
        return;
    harness_run(ctx, r, in, false, NULL, &fast);
    harness_run(ctx, r, in, true, NULL, &ops);
    harness_compare(r, &fast, &ops, (harness_tolerance){0, 0, 1e-10, 1e-10});
    harness_free(&fast);
    harness_free(&ops);
}

/* The sample's attributes as a caller by name would give them. */
static int attrs_by_name(const row_call *r, fb_attr *attrs)
{
    const char *at = r->sample->attrs;
    for (int k = 0; k < r->op->n_attrs; k++) {
        const fbi_attr_info *info = &r->op->attrs[k];
        int64_t i = 0;
        uint64_t u = 0;
        attrs[k] = (fb_attr){.name = info->name};
        if (info->type == 's')
            memcpy(&attrs[k].shape, at, sizeof(fb_shape));
        else if (info->type == 'f')
            memcpy(&attrs[k].number, at, sizeof(double));
        else if (info->type == 'u')
            attrs[k].number = (double)*(uint64_t *)memcpy(&u, at, sizeof u);
        else
            attrs[k].number = (double)*(int64_t *)memcpy(&i, at, sizeof i);
        at += info->type == 's' ? sizeof(fb_shape) : 8;
    }
    return r->op->n_attrs;
}

static void by_name(fb_context *ctx, const row_call *r)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0}, *out[2][HARNESS_OUT] = {{0}};
    fb_attr attrs[16];
    fb_tensors t = {in, r->sample->n_in};
    harness_inputs(ctx, r->sample, FB_F32, in);
    int n = attrs_by_name(r, attrs);
    harness_ok(ctx, r, harness_call((void *)(uintptr_t)r, t, out[0]), "forward");
    harness_ok(ctx, r, fb_op_call(ctx, r->op->name, t, attrs, n, out[1]), "call by name");
    harness_results a = {0}, b = {0};
    for (int k = 0; k < r->op->n_out; k++) {
        a.at[k] = harness_read(out[0][k]);
        b.at[k] = harness_read(out[1][k]);
    }
    harness_compare(r, &b, &a, (harness_tolerance){0, 0, 0, 0});
    harness_free(&a);
    harness_free(&b);
}

static void bad_sample(fb_context *ctx, const row_call *r)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0}, *out[HARNESS_OUT] = {0};
    char msg[1024];
    harness_inputs(ctx, r->sample, FB_F32, in);
    fb_status st = harness_call((void *)(uintptr_t)r, (fb_tensors){in, r->sample->n_in}, out);
    fb_status taken = fb_error_take(ctx, msg, sizeof msg);
    if (st != r->sample->status || taken != st || !strstr(msg, r->sample->text) || out[0])
        fail_msg("%s: status %d, not %d; \"%s\" should contain \"%s\"", r->op->name, st,
                 r->sample->status, msg, r->sample->text);
}

/* What `flambeau ops` says of devices. */
static void a_device_has_every_kernel_but_lapacks(void **state)
{
    fb_context *ctx = *state;
    bool host = ctx->backend->host_memory;
    for (int k = 1; k < FBI_OP_COUNT; k++) {
        const fbi_opdef *d = &fbi_opdefs[k];
        bool expected = !d->compose && !(d->flags & FBI_VIEW) && (host || !(d->flags & FBI_LAPACK));
        if (fbi_has_kernel(ctx, d->op) != expected)
            fail_msg("%s: the device has %s kernel of it", d->name, expected ? "no" : "a");
    }
}

static void the_gradient_of_every_row_is_that_of_differences(void **state)
{
    harness_for_each(*state, true, gradient_of);
}

static void the_second_gradient_of_every_row_is_that_of_differences(void **state)
{
    harness_for_each(*state, true, second_gradient_of);
}

static void fast_backward_agrees_with_operators(void **state)
{
    harness_for_each(*state, true, fast_against_operators);
}

static void every_row_is_the_same_by_name(void **state)
{
    harness_for_each(*state, true, by_name);
}

static void every_bad_sample_is_refused_with_its_message(void **state)
{
    harness_for_each(*state, false, bad_sample);
}

/* --- forward of pointwise rows against libm --- */

#define V_C(x)         (x)
#define V_EXP(x)       exp(x)
#define V_LOG(x)       log(x)
#define V_LOG1P(x)     log1p(x)
#define V_EXPM1(x)     expm1(x)
#define V_SQRT(x)      sqrt(x)
#define V_SIN(x)       sin(x)
#define V_COS(x)       cos(x)
#define V_TANH(x)      tanh(x)
#define V_ERF(x)       erf(x)
#define V_SIGMOID(x)   (1 / (1 + exp(-(x))))
#define V_POW(x, y)    pow(x, y)
#define V_ABS(x)       fabs(x)
#define V_NCDF(x)      (0.5 * erfc(-(x)*0.70710678118654752440))
#define V_SOFTPLUS(x)  log1p(exp(x))
#define V_SEL(c, a, b) ((c) ? (a) : (b))

/* Functions of functions.def, from the C library or written another way. */
#define V(name, ...) v_##name(__VA_ARGS__)
#define V_INFINITY   INFINITY
#define SAME(name)                   \
    static double v_##name(double x) \
    {                                \
        return name(x);              \
    }
SAME(exp)
SAME(exp2)
SAME(expm1)
SAME(log)
SAME(log1p)
SAME(log2)
SAME(log10)
SAME(tan)
SAME(asin)
SAME(acos)
SAME(atan)
SAME(sinh)
SAME(cosh)
SAME(tanh)
SAME(asinh)
SAME(acosh)
SAME(atanh)
SAME(erfc)
SAME(lgamma)
SAME(trunc)
SAME(ceil)
SAME(floor)
SAME(rint)
SAME(fabs)

static double v_atan2(double a, double b)
{
    return atan2(a, b);
}
static double v_hypot(double a, double b)
{
    return hypot(a, b);
}
static double v_fmod(double a, double b)
{
    return fmod(a, b);
}
static double v_copysign(double a, double b)
{
    return copysign(a, b);
}
static double v_mod(double a, double b)
{
    return a - b * floor(a / b);
}
static double v_floor_divide(double a, double b)
{
    return floor(a / b);
}
static double v_logaddexp(double a, double b)
{
    return log(exp(a) + exp(b));
}
static double v_logaddexp2(double a, double b)
{
    return log2(exp2(a) + exp2(b));
}
static double v_logit(double x)
{
    return log(x) - log1p(-x);
}
static double v_logsigmoid(double x)
{
    return -log1p(exp(-x));
}
static double v_mish_t(double x)
{
    return tanh(log1p(exp(x)));
}
static double v_sinc(double x)
{
    return sin(acos(-1) * x) / (acos(-1) * x);
}
/* Where erf is x, by halving. */
static double v_erfinv(double x)
{
    double lo = -6, hi = 6;
    for (int i = 0; i < 100; i++)
        *(erf((lo + hi) / 2) < x ? &lo : &hi) = (lo + hi) / 2;
    return lo;
}
/* -gamma + the sum of 1 / k - 1 / (x + k - 1), the tail as an integral at its middles. */
static double v_digamma(double x)
{
    double sum = -0.57721566490153286, n = 20000;
    for (double k = 1; k <= n; k++)
        sum += 1 / k - 1 / (x + k - 1);
    return sum + log((n + x - 0.5) / (n + 0.5));
}
/* Of order 1: the sum of 1 / (x + k)^2, the tail likewise. */
static double v_polygamma(double order, double x)
{
    double sum = 0, n = 20000;
    assert_true(order == 1);
    for (double k = 0; k < n; k++)
        sum += 1 / ((x + k) * (x + k));
    return sum + 1 / (n + x - 0.5);
}
/* The mean of exp(x cos t) over a circle. */
static double v_i0(double x)
{
    double sum = 0;
    for (int i = 0; i < 64; i++)
        sum += exp(x * cos(acos(-1) * i / 32));
    return sum / 64;
}

#define UNARY(name, f, df, ddf, save, ...)                 \
    static double ref_##name(double x, double a, double b) \
    {                                                      \
        (void)a, (void)b;                                  \
        return f;                                          \
    }
#define UNARY_S UNARY
#define BINARY(name, f, ...)                                    \
    static double ref_##name(double a, double b, double unused) \
    {                                                           \
        (void)unused;                                           \
        return f;                                               \
    }
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"

typedef double (*reference)(double, double, double);
static const struct {
    fbi_op op;
    int n_in;
    double a, b;
    reference f;
} references[] = {
#define UNARY(name, ...)                                     {FBI_OP_##name, 1, 0, 0, ref_##name},
#define UNARY_S(name, f, df, ddf, save, lo, hi, a0, b0, ulp) {FBI_OP_##name, 1, a0, b0, ref_##name},
#define BINARY(name, ...)                                    {FBI_OP_##name, 2, 0, 0, ref_##name},
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
};

enum { POINTS = 1000 };

static void pointwise_rows_are_libms_within_their_bound(void **state)
{
    fb_context *ctx = *state;
    uint32_t seed = 1;
    for (size_t k = 0; k < sizeof references / sizeof references[0]; k++) {
        FB_SCOPE(ctx);
        const fbi_opdef *d = &fbi_opdefs[references[k].op];
        float x[POINTS], y[POINTS], got[POINTS];
        fill(x, POINTS, (float)d->lo, (float)d->hi);
        for (int i = 0; i < POINTS; i++)
            y[i] = (float)(d->lo2 + (d->hi2 - d->lo2) * fbi_sample_random(&seed));
        fbi_attrs_scalars attrs = {references[k].a, references[k].b};
        fb_tensor *in[2] = {fb_from(ctx, FB_F32, FB_SHAPE(POINTS), x),
                            fb_from(ctx, FB_F32, FB_SHAPE(POINTS), y)};
        fb_tensor *out = NULL;
        assert_int_equal(fbi_run(ctx, d->op, &attrs, in, references[k].n_in, &out), FB_OK);
        assert_int_equal(fb_read(out, got, sizeof got), FB_OK);
        for (int i = 0; i < POINTS; i++) {
            double want =
                references[k].n_in == 1
                    ? references[k].f((double)x[i], (double)(float)attrs.a, (double)(float)attrs.b)
                    : references[k].f((double)x[i], (double)y[i], 0);
            double size = fabs(want) > 1e-30 ? fabs(want) : 1e-30;
            double ulps = fabs((double)got[i] - want) / (size * 0x1p-23);
            /* near a zero of f the error is that of the values it is a difference of */
            if (ulps > d->ulp + 1 && fabs((double)got[i] - want) > 1e-6)
                fail_msg("%s(%g): %.9g, not %.9g: %.1f ulp", d->name, (double)x[i], (double)got[i],
                         want, ulps);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pointwise_rows_are_libms_within_their_bound, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(the_gradient_of_every_row_is_that_of_differences,
                                        open_context, close_context),
        cmocka_unit_test_setup_teardown(the_second_gradient_of_every_row_is_that_of_differences,
                                        open_context, close_context),
        cmocka_unit_test_setup_teardown(fast_backward_agrees_with_operators, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(a_device_has_every_kernel_but_lapacks, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(every_row_is_the_same_by_name, open_context, close_context),
        cmocka_unit_test_setup_teardown(every_bad_sample_is_refused_with_its_message, open_context,
                                        close_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
