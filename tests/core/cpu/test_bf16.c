/* Products of BF16 on the processor's units for them, against sums in double and against the path
 * without these units (FB_ISA=v4). */
#include "tests/core/ops/ops_test_priv.h"

#include <stdio.h>
#include <unistd.h>

#include <flambeau/flambeau.h>

#include "core/base/half.h"
#include "core/cpu/dnn_priv.h"
#include "core/cpu/gemm_priv.h"

#if defined(__x86_64__)
fb_status fbi_cpu_gemm_v4(const fbi_call *c, const fbi_mm *g);
#else
#define fbi_cpu_gemm_v4 fbi_cpu_gemm
#endif

/* --- the product itself --- */

typedef enum layout { ROWS, TRANSPOSED, SPREAD, WINDOWS } layout;

typedef struct example {
    int64_t batch, m, n, k;
    layout a, b;
    bool one_b, bias, add;
    int64_t gap; /* between rows of c */
} example;

enum { MOST = 1 << 20 };
static uint16_t a[MOST], b[MOST];
static float c[MOST], before[MOST], bias[MOST];

static void fill_all(void)
{
    static float x[MOST];
    fill(x, MOST, -2, 2);
    for (int64_t i = 0; i < MOST; i++) {
        a[i] = fbi_f32_to_bf16(x[i]);
        b[i] = fbi_f32_to_bf16(x[MOST - 1 - i]);
        before[i] = x[i] * 3;
        bias[i] = 1 - x[i];
    }
}

static void strides(layout l, int64_t rows, int64_t cols, int64_t *row, int64_t *col, int64_t *item)
{
    *row = l == ROWS ? cols : l == SPREAD ? 2 * cols : l == WINDOWS ? 3 : 1;
    *col = l == TRANSPOSED ? rows : l == SPREAD ? 2 : 1;
    *item = l == SPREAD ? 2 * rows * cols : rows * cols;
}

static fbi_mm mm_of(const example *e)
{
    fbi_mm g = {.dtype = FB_F32,
                .bf16 = true,
                .batch = e->batch,
                .m = e->m,
                .n = e->n,
                .k = e->k,
                .c_m = e->n + e->gap,
                .c_b = e->m * (e->n + e->gap),
                .a = a,
                .b = b,
                .c = c,
                .bias = e->bias ? bias : NULL,
                .beta = e->add};
    strides(e->a, e->m, e->k, &g.a_m, &g.a_k, &g.a_b);
    strides(e->b, e->k, e->n, &g.b_k, &g.b_n, &g.b_b);
    if (e->one_b)
        g.b_b = 0;
    assert_true(e->batch * g.a_b <= MOST && e->batch * g.b_b <= MOST && e->batch * g.c_b <= MOST);
    memcpy(c, before, sizeof c);
    return g;
}

static fb_status run(fb_context *ctx, int threads, const fbi_mm *g)
{
    const fbi_call call = {.ctx = ctx, .op = &fbi_opdefs[FBI_OP_matmul], .threads = threads};
    return fbi_cpu_gemm_v4(&call, g);
}

/* Products of BF16 are exact in F32; their sums are rounded k times. */
static void compare(const example *e, const fbi_mm *g)
{
    for (int64_t at = 0; at < e->batch * g->c_b; at++) {
        int64_t q = at / g->c_b, i = at % g->c_b / g->c_m, j = at % g->c_m;
        double want = e->add || j >= e->n ? (double)before[at] : 0, size = fabs(want);
        for (int64_t p = 0; p < e->k && j < e->n; p++) {
            double x = (double)fbi_bf16_to_f32(a[q * g->a_b + i * g->a_m + p * g->a_k]) *
                       (double)fbi_bf16_to_f32(b[q * g->b_b + p * g->b_k + j * g->b_n]);
            want += x;
            size += fabs(x);
        }
        want += j < e->n && e->bias ? (double)bias[j] : 0;
        double tol = j < e->n ? (size + 3) * 1.2e-7 * (4 + sqrt((double)e->k)) : 0;
        if (!(fabs((double)c[at] - want) <= tol))
            fail_msg("%lld x %lld x %lld, layouts %d %d: [%lld, %lld, %lld] is %.9g, not %.9g",
                     (long long)e->m, (long long)e->n, (long long)e->k, e->a, e->b, (long long)q,
                     (long long)i, (long long)j, (double)c[at], want);
    }
}

/* One block, many, whole ones and what is left: 1 row, 1 column, an odd k. */
static const int64_t shapes[][4] = {{1, 64, 64, 128},   {1, 17, 700, 165},  {1, 257, 17, 129},
                                    {1, 256, 256, 128}, {1, 129, 321, 133}, {1, 300, 270, 531},
                                    {1, 16, 2100, 140}, {3, 100, 90, 177},  {20, 65, 96, 197}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static example example_of(int shape, int way)
{
    return (example){.batch = shapes[shape][0],
                     .m = shapes[shape][1],
                     .n = shapes[shape][2],
                     .k = shapes[shape][3],
                     .a = way % 2 ? TRANSPOSED : ROWS,
                     .b = way / 2 % 2 ? TRANSPOSED : ROWS};
}

static void products_of_all_layouts_are_sums_of_products(void **state)
{
    for (int i = 0; i < SHAPES; i++)
        for (int way = 0; way < 4; way++) {
            example e = example_of(i, way);
            int what = i + way;
            e.bias = what % 2;
            e.add = what / 2 % 2;
            e.gap = what % 3;
            e.one_b = way == 3;
            fbi_mm g = mm_of(&e);
            assert_int_equal(run(*state, 1 + what % 3, &g), FB_OK);
            compare(&e, &g);
        }
}

static void threads_leave_the_bits_as_they_are(void **state)
{
    static float first[MOST];
    for (int i = 0; i < SHAPES; i++)
        for (int way = 0; way < 4; way++) {
            example e = example_of(i, way);
            fbi_mm g = mm_of(&e);
            size_t bytes = (size_t)(e.batch * g.c_b) * sizeof(float);
            for (int threads = 1; threads <= 5; threads += 2) {
                assert_int_equal(run(*state, threads, &g), FB_OK);
                if (threads == 1)
                    memcpy(first, c, bytes);
                assert_memory_equal(first, c, bytes);
            }
        }
}

/* The caller makes F32 copies then. */
static void other_products_are_left_to_f32(void **state)
{
    static const example all[] = {{.batch = 1, .m = 8, .n = 512, .k = 512},
                                  {.batch = 1, .m = 512, .n = 8, .k = 512},
                                  {.batch = 1, .m = 512, .n = 512, .k = 127},
                                  {.batch = 1, .m = 63, .n = 64, .k = 128},
                                  {.batch = 1, .m = 16, .n = 64, .k = 10000},
                                  {.batch = 1, .m = 100, .n = 100, .k = 200, .a = SPREAD},
                                  {.batch = 1, .m = 100, .n = 100, .k = 200, .b = SPREAD},
                                  {.batch = 1, .m = 100, .n = 100, .k = 200, .a = WINDOWS}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        fbi_mm g = mm_of(&all[i]);
        assert_int_equal(run(*state, 2, &g), FB_E_UNSUPPORTED);
        assert_int_equal(fb_status_of(*state), FB_OK);
        assert_memory_equal(c, before, sizeof c);
    }
}

static void an_element_depends_on_its_row_and_column_only(void **state)
{
    enum { M = 100, N = 90, K = 180, ROW = 17, COLUMN = 77 };
    example e = {.batch = 1, .m = M, .n = N, .k = K};
    fbi_mm g = mm_of(&e);
    a[ROW * K + 3] = fbi_f32_to_bf16(INFINITY);
    b[4 * N + COLUMN] = fbi_f32_to_bf16(NAN);
    assert_int_equal(run(*state, 2, &g), FB_OK);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            assert_true(j == COLUMN ? isnan(c[i * N + j])
                                    : (isinf(c[i * N + j]) != 0) == (i == ROW));
    fill_all();
}

/* --- operators, with and without the units --- */

enum { SAMPLES = 230, IN = 190, OUT = 170 };

static fb_context *context_of(const char *isa)
{
    if (isa)
        setenv("FB_ISA", isa, 1);
    fb_context *ctx = fb_context_open(FB_OPTS(fb_context_options, .device = "cpu", .threads = 2));
    unsetenv("FB_ISA");
    assert_non_null(ctx);
    return ctx;
}

/* How a factor lies in memory; units are not for the last one. */
typedef enum places { DENSE, PART_OF_ROWS, EVERY_OTHER, PLACES } places;

/* [rows, cols] */
static fb_tensor *factor(fb_context *ctx, int64_t rows, int64_t cols, int seed, places in)
{
    float *x = malloc((size_t)(2 * rows * cols) * sizeof *x);
    assert_non_null(x);
    fill(x, 2 * rows * cols, -1, 1);
    fb_tensor *t = fb_from(ctx, FB_F32, FB_SHAPE(rows, 2 * cols), x);
    free(x);
    t = fb_to(fb_roll(t, FB_DIMS(seed), FB_DIMS(1)), FB_BF16);
    t = in == EVERY_OTHER ? fb_select(fb_unflatten(t, 1, FB_SHAPE(cols, 2)), 2, 0)
                          : fb_narrow(t, 1, 0, cols);
    t = in == DENSE ? fb_contiguous(t) : t;
    assert_non_null(t);
    return fb_requires_grad(fb_detach(t), true);
}

typedef fb_tensor *(*product_fn)(fb_tensor *x, fb_tensor *w, fb_tensor *bias);

static fb_tensor *linear(fb_tensor *x, fb_tensor *w, fb_tensor *v)
{
    return fb_linear(x, w, v);
}

/* Gradients of x are added to. */
static fb_tensor *twice(fb_tensor *x, fb_tensor *w, fb_tensor *v)
{
    return fb_add(fb_linear(x, w, v), fb_linear(x, fb_relu(w), NULL));
}

static fb_tensor *linear_relu(fb_tensor *x, fb_tensor *w, fb_tensor *v)
{
    return fb_linear_act(x, w, v, FB_ACT_RELU);
}

static fb_tensor *linear_gelu(fb_tensor *x, fb_tensor *w, fb_tensor *v)
{
    return fb_linear_act(x, w, v, FB_ACT_GELU_TANH);
}

static fb_tensor *batched(fb_tensor *x, fb_tensor *w, fb_tensor *v)
{
    fb_tensor *two = fb_stack(FB_TENSORS(x, fb_neg(x)), 0);
    return fb_add(fb_matmul(two, fb_t(w)), v);
}

static const struct {
    const char *name;
    product_fn of;
} products[] = {{"linear", linear},
                {"linear twice", twice},
                {"linear relu", linear_relu},
                {"linear gelu", linear_gelu},
                {"batched", batched}};

/* The result and the three gradients, as F32. */
static void results_of(fb_context *ctx, product_fn of, fb_dtype dtype, places in_memory,
                       float **out, int64_t *n)
{
    FB_SCOPE(ctx);
    fb_tensor *x = factor(ctx, SAMPLES, IN, 3, in_memory), *w = factor(ctx, OUT, IN, 5, in_memory);
    fb_tensor *v = factor(ctx, 1, OUT, 7, DENSE), *grads[3];
    fb_tensor *in[3] = {x, w, fb_requires_grad(fb_detach(fb_select(v, 0, 0)), true)};
    for (int i = 0; i < 3 && dtype != FB_BF16; i++)
        in[i] = fb_requires_grad(fb_detach(fb_to(in[i], dtype)), true);
    fb_tensor *y = of(in[0], in[1], in[2]);
    fb_tensor *seed = fb_to(factor(ctx, fb_numel(y) / OUT, OUT, 11, DENSE), dtype);
    seed = fb_reshape(fb_detach(seed), fb_shape_of(y));
    assert_int_equal(fb_gradients(FB_TENSORS(y), (fb_tensors){in, 3},
                                  FB_OPTS(fb_gradient_options, .seeds = FB_TENSORS(seed)), grads),
                     FB_OK);
    fb_tensor *all[4] = {y, grads[0], grads[1], grads[2]};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(fb_dtype_of(all[i]), dtype);
        n[i] = fb_numel(all[i]);
        out[i] = malloc((size_t)n[i] * sizeof(float));
        assert_int_equal(fb_read(fb_to(all[i], FB_F32), out[i], (size_t)n[i] * sizeof(float)),
                         FB_OK);
    }
}

static void compare_results(const char *what, float **got, float **want, const int64_t *n)
{
    for (int i = 0; i < 4; i++) {
        double most = 0;
        for (int64_t j = 0; j < n[i]; j++)
            most = fmax(most, fabs((double)want[i][j]));
        for (int64_t j = 0; j < n[i]; j++)
            if (!(fabs((double)got[i][j] - (double)want[i][j]) <= 0x1p-7 * most))
                fail_msg("%s, result %d: element %lld is %g, not %g", what, i, (long long)j,
                         (double)got[i][j], (double)want[i][j]);
    }
}

static void operators_and_their_gradients_are_those_of_double(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof products / sizeof *products; k++)
        for (int way = 0; way < 2 * PLACES; way++) {
            fb_context *ctx = context_of(way % 2 ? "v4" : NULL);
            float *got[4], *want[4];
            int64_t n[4];
            results_of(ctx, products[k].of, FB_BF16, (places)(way / 2), got, n);
            results_of(ctx, products[k].of, FB_F64, (places)(way / 2), want, n);
            compare_results(products[k].name, got, want, n);
            for (int i = 0; i < 4; i++) {
                free(got[i]);
                free(want[i]);
            }
            assert_int_equal(fb_context_close(ctx), FB_OK);
        }
}

/* Sums of elements that are `x` and `w`, and of gradients of results that are `g`. */
static void sums_of(fb_context *ctx, double x, double w, double g, float *y, float *dx, float *dw)
{
    FB_SCOPE(ctx);
    fb_tensor *grads[2];
    fb_tensor *in[2] = {fb_full(ctx, FB_BF16, FB_SHAPE(SAMPLES, IN), x),
                        fb_full(ctx, FB_BF16, FB_SHAPE(OUT, IN), w)};
    for (int i = 0; i < 2; i++)
        in[i] = fb_requires_grad(in[i], true);
    fb_tensor *out = fb_linear(in[0], in[1], NULL);
    fb_tensor *seed = fb_full(ctx, FB_BF16, FB_SHAPE(SAMPLES, OUT), g);
    assert_int_equal(fb_gradients(FB_TENSORS(out), (fb_tensors){in, 2},
                                  FB_OPTS(fb_gradient_options, .seeds = FB_TENSORS(seed)), grads),
                     FB_OK);
    fb_tensor *all[3] = {out, grads[0], grads[1]};
    float *to[3] = {y, dx, dw};
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            fb_read(fb_select(fb_select(fb_to(all[i], FB_F32), 0, 0), 0, 0), to[i], sizeof(float)),
            FB_OK);
}

/* Which shows that the units are used, and that FB_ISA=v4 turns them off. */
static void units_take_denormals_for_zero(void **state)
{
    (void)state;
    const double tiny = 0x1p-130, large = 0x1p100;
    for (int units = 0; units < 2; units++) {
        fb_context *ctx = context_of(units ? "v4_bf16" : "v4");
        float y, dx, dw, unused;
        assert_string_equal(fbi_cpu_kernels_of(ctx), units ? "v4_bf16" : "v4");
        sums_of(ctx, tiny, large, tiny, &y, &dx, &unused);
        sums_of(ctx, tiny, tiny, large, &unused, &unused, &dw);
        assert_true(units ? y == 0 : y > 0);
        assert_true(units ? dx == 0 : dx > 0);
        assert_true(units ? dw == 0 : dw > 0);
        assert_int_equal(fb_context_close(ctx), FB_OK);
    }
}

/* What opening a context says with FB_ISA=isa. */
static void message_with(const char *isa, char *text, size_t size)
{
    FILE *f = tmpfile();
    assert_non_null(f);
    int stays = dup(STDERR_FILENO);
    fflush(stderr);
    dup2(fileno(f), STDERR_FILENO);
    setenv("FB_ISA", isa, 1);
    fb_context *ctx = fb_context_open(FB_OPTS(fb_context_options, .device = "cpu"));
    unsetenv("FB_ISA");
    fflush(stderr);
    dup2(stays, STDERR_FILENO);
    close(stays);
    assert_null(ctx);
    rewind(f);
    text[fread(text, 1, size - 1, f)] = '\0';
    fclose(f);
}

static void unknown_kernels_are_named(void **state)
{
    (void)state;
    char text[512];
    message_with("v5", text, sizeof text);
    assert_non_null(strstr(text, "FB_ISA=v5: known are v2, v3, v4, v4_bf16 and v4_bf16_amx"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_all_layouts_are_sums_of_products),
        cmocka_unit_test(threads_leave_the_bits_as_they_are),
        cmocka_unit_test(other_products_are_left_to_f32),
        cmocka_unit_test(an_element_depends_on_its_row_and_column_only),
        cmocka_unit_test(operators_and_their_gradients_are_those_of_double),
        cmocka_unit_test(units_take_denormals_for_zero),
        cmocka_unit_test(unknown_kernels_are_named),
    };
    if (strncmp(fbi_cpu_isa(), "v4_bf16", 7) != 0) {
        puts("no units for BF16, or a build without oneDNN: skipped");
        return 77;
    }
    fill_all();
    return cmocka_run_group_tests(tests, open_context, close_context);
}
