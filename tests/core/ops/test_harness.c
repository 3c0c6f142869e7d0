/* Every row of the table: forward, gradients, layouts, messages, threads. */
#include "tests/core/ops/ops_test_priv.h"

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/sample_priv.h"

typedef struct row_call {
    const fbi_opdef *op;
    const fbi_sample *sample;
} row_call;

static uint32_t seed_of = 1;

static double next_double(void)
{
    seed_of = seed_of * 1664525u + 1013904223u;
    return (double)(seed_of >> 8) / 16777216.0;
}

static fb_tensor *make_input(fb_context *ctx, const fbi_sample_in *in, fb_dtype floats)
{
    fb_dtype d = in->dtype ? in->dtype : floats;
    int64_t n = fb_shape_numel(in->shape);
    double *v = calloc((size_t)n + 1, sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) {
        v[i] = in->lo + (in->hi - in->lo) * next_double();
        if (in->distinct) /* a permutation of equally spaced values */
            v[i] = in->lo + (in->hi - in->lo) * (double)((i * 7919 + 13) % n) / (double)n;
        if (!fb_dtype_is_float(d))
            v[i] = floor(v[i]);
    }
    fb_tensor *t = fb_from(ctx, FB_F64, in->shape, v);
    free(v);
    fb_no_grad(ctx);
    t = fb_to(t, d);
    fb_enable_grad(ctx);
    assert_non_null(t);
    return t;
}

static void make_inputs(fb_context *ctx, const fbi_sample *s, fb_dtype floats, fb_tensor **in)
{
    seed_of = 1;
    for (int i = 0; i < s->n_in; i++)
        in[i] = s->in[i].absent ? NULL : make_input(ctx, &s->in[i], floats);
}

static fb_status call_row(void *user, fb_tensors in, fb_tensor **out)
{
    const row_call *r = user;
    fb_context *ctx = NULL;
    for (int i = 0; i < in.n && !ctx; i++)
        ctx = fb_context_of(in.t[i]);
    return fbi_run(ctx, r->op->op, r->sample->attrs, in.t, in.n, out);
}

/* Run `each` for every good (or bad) sample of every row, in a scope of its own. */
typedef void (*each_fn)(fb_context *ctx, const row_call *r);

static void for_each(fb_context *ctx, bool good, each_fn each)
{
    fbi_samples *s = malloc(sizeof *s);
    assert_non_null(s);
    for (int k = 0; k < FBI_OP_COUNT; k++) {
        const fbi_opdef *d = &fbi_opdefs[k];
        if (!d->sample)
            continue;
        memset(s, 0, sizeof *s);
        s->op = d;
        d->sample(s);
        assert_true(s->n > 0);
        for (int i = 0; i < s->n; i++) {
            FB_SCOPE(ctx);
            row_call r = {d, &s->s[i]};
            if ((r.sample->status == FB_OK) == good)
                each(ctx, &r);
        }
    }
    free(s);
}

static bool random_row(const fbi_opdef *d)
{
    return (d->flags & FBI_RANDOM) != 0;
}

/* Mark floating inputs; false if the row has no derivative or works in F32 only. */
static bool mark_inputs(const row_call *r, fb_tensor **in)
{
    bool any = false;
    if (!r->op->bwd_ops || (r->op->flags & FBI_CPU_F32) || random_row(r->op))
        return false;
    for (int i = 0; i < r->sample->n_in; i++)
        if (in[i] && fb_dtype_of(in[i]) == FB_F64 && !r->sample->in[i].constant) {
            fb_requires_grad(in[i], true);
            any = true;
        }
    return any;
}

static void check_ok(fb_context *ctx, const row_call *r, fb_status st, const char *what)
{
    char msg[1024];
    if (st || !fb_ok(ctx)) {
        fb_error_take(ctx, msg, sizeof msg);
        fail_msg("%s of %s: %s", what, r->op->name, msg);
    }
}

static void gradient_of(fb_context *ctx, const row_call *r)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0};
    make_inputs(ctx, r->sample, FB_F64, in);
    if (!mark_inputs(r, in))
        return;
    fb_tensors t = {in, r->sample->n_in};
    check_ok(ctx, r, fb_gradcheck(call_row, (void *)r, t, r->op->n_out, NULL), "gradient");
}

static void second_gradient_of(fb_context *ctx, const row_call *r)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0};
    make_inputs(ctx, r->sample, FB_F64, in);
    if (!mark_inputs(r, in))
        return;
    fb_tensors t = {in, r->sample->n_in};
    check_ok(ctx, r, fb_gradgradcheck(call_row, (void *)r, t, r->op->n_out, NULL),
             "second gradient");
}

/* Gradients with ones as seeds, read into grads[i] (calloc'ed). */
static void read_gradients(fb_context *ctx, const row_call *r, fb_tensor **in, bool linked,
                           double **grads)
{
    FB_SCOPE(ctx);
    fb_tensor *out[16] = {0}, *g[FBI_SAMPLE_INPUTS] = {0}, *seed = NULL;
    check_ok(ctx, r, call_row((void *)r, (fb_tensors){in, r->sample->n_in}, out), "forward");
    if (!fb_needs_grad(out[0]))
        return;
    double *ones = malloc((size_t)(fb_numel(out[0]) + 1) * sizeof *ones);
    assert_non_null(ones);
    for (int64_t i = 0; i < fb_numel(out[0]); i++)
        ones[i] = 1 + (double)(i % 5);
    seed = fb_from(ctx, FB_F64, fb_shape_of(out[0]), ones);
    free(ones);
    fb_gradient_options o = {.seeds = {&seed, 1}, .create_graph = linked, .allow_unused = true};
    check_ok(ctx, r, fb_gradients((fb_tensors){out, 1}, (fb_tensors){in, r->sample->n_in}, &o, g),
             "gradients");
    for (int i = 0; i < r->sample->n_in; i++) {
        if (!g[i])
            continue;
        size_t bytes = (size_t)fb_numel(g[i]) * sizeof(double);
        grads[i] = calloc(1, bytes + 8);
        check_ok(ctx, r, fb_read(g[i], grads[i], bytes), "read");
    }
}

static void fast_against_operators(fb_context *ctx, const row_call *r)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0};
    make_inputs(ctx, r->sample, FB_F64, in);
    if (!mark_inputs(r, in))
        return;
    double *fast[FBI_SAMPLE_INPUTS] = {0}, *ops[FBI_SAMPLE_INPUTS] = {0};
    read_gradients(ctx, r, in, false, fast);
    read_gradients(ctx, r, in, true, ops);
    for (int i = 0; i < r->sample->n_in; i++) {
        for (int64_t k = 0; fast[i] && ops[i] && k < fb_numel(in[i]); k++)
            if (!(fabs(fast[i][k] - ops[i][k]) <= 1e-10 * (1 + fabs(ops[i][k]))))
                fail_msg("%s: gradient %d[%lld]: fast %.17g, of operators %.17g", r->op->name, i,
                         (long long)k, fast[i][k], ops[i][k]);
        free(fast[i]);
        free(ops[i]);
    }
}

/* Same values, reversed order of dimensions in memory. */
static fb_tensor *scatter_layout(fb_tensor *t)
{
    fb_shape back = {.n = fb_ndim(t)};
    for (int i = 0; i < back.n; i++)
        back.d[i] = back.n - 1 - i;
    fb_tensor *p = fb_clone(fb_permute(t, back));
    return fb_permute(p, back);
}

static void compare_outputs(const row_call *r, fb_tensor *const *a, fb_tensor *const *b, double tol)
{
    for (int k = 0; k < r->op->n_out; k++) {
        if (!a[k] || !b[k])
            continue;
        int64_t n = fb_numel(a[k]);
        assert_int_equal(n, fb_numel(b[k]));
        size_t bytes = (size_t)n * fb_dtype_size(fb_dtype_of(a[k]));
        char *x = calloc(1, bytes + 8), *y = calloc(1, bytes + 8);
        assert_int_equal(fb_read(a[k], x, bytes), FB_OK);
        assert_int_equal(fb_read(b[k], y, bytes), FB_OK);
        if (tol == 0 || fb_dtype_of(a[k]) != FB_F32) {
            if (memcmp(x, y, bytes))
                fail_msg("%s: output %d differs", r->op->name, k);
        } else {
            for (int64_t i = 0; i < n; i++) {
                double p = (double)((float *)(void *)x)[i], q = (double)((float *)(void *)y)[i];
                if (!(fabs(p - q) <= tol * (1 + fabs(q))))
                    fail_msg("%s: output %d[%lld] is %.9g, not %.9g", r->op->name, k, (long long)i,
                             p, q);
            }
        }
        free(x);
        free(y);
    }
}

static void any_layout(fb_context *ctx, const row_call *r)
{
    if (random_row(r->op) || r->op->op == FBI_OP_reshape)
        return;
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0}, *odd[FBI_SAMPLE_INPUTS] = {0}, *a[16] = {0},
              *b[16] = {0};
    make_inputs(ctx, r->sample, FB_F32, in);
    for (int i = 0; i < r->sample->n_in; i++)
        odd[i] = in[i] ? scatter_layout(in[i]) : NULL;
    check_ok(ctx, r, call_row((void *)r, (fb_tensors){in, r->sample->n_in}, a), "forward");
    check_ok(ctx, r, call_row((void *)r, (fb_tensors){odd, r->sample->n_in}, b),
             "forward of transposed inputs");
    compare_outputs(r, a, b, 1e-5);
}

static void bad_sample(fb_context *ctx, const row_call *r)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0}, *out[16] = {0};
    char msg[1024];
    make_inputs(ctx, r->sample, FB_F32, in);
    fb_status st = call_row((void *)r, (fb_tensors){in, r->sample->n_in}, out);
    fb_status taken = fb_error_take(ctx, msg, sizeof msg);
    if (st != r->sample->status || taken != st || !strstr(msg, r->sample->text) || out[0])
        fail_msg("%s: status %d, not %d; \"%s\" should contain \"%s\"", r->op->name, st,
                 r->sample->status, msg, r->sample->text);
}

static void the_gradient_of_every_row_is_that_of_differences(void **state)
{
    for_each(*state, true, gradient_of);
}

static void the_second_gradient_of_every_row_is_that_of_differences(void **state)
{
    for_each(*state, true, second_gradient_of);
}

static void fast_backward_agrees_with_operators(void **state)
{
    for_each(*state, true, fast_against_operators);
}

static void every_row_takes_inputs_of_any_layout(void **state)
{
    for_each(*state, true, any_layout);
}

static void every_bad_sample_is_refused_with_its_message(void **state)
{
    for_each(*state, false, bad_sample);
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
    for (size_t k = 0; k < sizeof references / sizeof references[0]; k++) {
        FB_SCOPE(ctx);
        const fbi_opdef *d = &fbi_opdefs[references[k].op];
        float x[POINTS], y[POINTS], got[POINTS];
        fill(x, POINTS, (float)d->lo, (float)d->hi);
        for (int i = 0; i < POINTS; i++)
            y[i] = (float)(d->lo2 + (d->hi2 - d->lo2) * next_double());
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

/* --- threads --- */

static void two_threads_give_the_bits_of_one(void **state)
{
    fb_context *one = fb_context_open(&(fb_context_options){.threads = 1});
    fb_context *two = fb_context_open(&(fb_context_options){.threads = 2});
    (void)state;
    enum { N = 70001 };
    float *x = malloc(N * sizeof *x), *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);
    for (size_t k = 0; k < sizeof references / sizeof references[0]; k++) {
        const fbi_opdef *d = &fbi_opdefs[references[k].op];
        fbi_attrs_scalars attrs = {references[k].a, references[k].b};
        fill(x, N, (float)d->lo, (float)d->hi);
        for (int t = 0; t < 2; t++) {
            fb_context *ctx = t ? two : one;
            FB_SCOPE(ctx);
            fb_tensor *in[2] = {fb_from(ctx, FB_F32, FB_SHAPE(N), x)}, *out = NULL;
            in[1] = in[0];
            assert_int_equal(fbi_run(ctx, d->op, &attrs, in, references[k].n_in, &out), FB_OK);
            assert_int_equal(fb_read(out, t ? b : a, N * sizeof *a), FB_OK);
        }
        if (memcmp(a, b, N * sizeof *a))
            fail_msg("%s: two threads give other bits than one", d->name);
    }
    free(x);
    free(a);
    free(b);
    assert_int_equal(fb_context_close(one), FB_OK);
    assert_int_equal(fb_context_close(two), FB_OK);
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
        cmocka_unit_test_setup_teardown(every_row_takes_inputs_of_any_layout, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(every_bad_sample_is_refused_with_its_message, open_context,
                                        close_context),
        cmocka_unit_test(two_threads_give_the_bits_of_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
