/* Products of F32 on the tiles of AMX, against sums in double and against vectors (FB_ISA=v4). */
#include "tests/core/ops/ops_test_priv.h"

#include <stdio.h>

#include <flambeau/flambeau.h>

#include "core/cpu/gemm_priv.h"

#if defined(__x86_64__)
fb_status fbi_cpu_gemm_v4(const fbi_call *c, const fbi_mm *g);
#else
#define fbi_cpu_gemm_v4 fbi_cpu_gemm
#endif

typedef enum layout { ROWS, TRANSPOSED, SPREAD, LAYOUTS } layout;

typedef struct example {
    int64_t batch, m, n, k;
    layout a, b;
    bool bias, add;
    int64_t gap; /* between rows of c */
} example;

enum { MOST = 1 << 21 };
static float a[MOST], b[MOST], c[MOST], other[MOST], before[MOST], bias[MOST];

/* Contexts with tiles and without. */
typedef struct pair {
    fb_context *tiles, *vectors;
} pair;

static fb_context *context_of(const char *isa, int threads)
{
    setenv("FB_ISA", isa, 1);
    fb_context *ctx =
        fb_context_open(FB_OPTS(fb_context_options, .device = "cpu", .threads = threads));
    unsetenv("FB_ISA");
    assert_non_null(ctx);
    assert_string_equal(fbi_cpu_kernels_of(ctx), isa);
    return ctx;
}

static int open_pair(void **state)
{
    static pair p;
    p = (pair){context_of("v4_bf16_amx", 2), context_of("v4_bf16", 2)};
    *state = &p;
    return 0;
}

static int close_pair(void **state)
{
    pair *p = *state;
    assert_int_equal(fb_context_close(p->tiles), FB_OK);
    assert_int_equal(fb_context_close(p->vectors), FB_OK);
    return 0;
}

static void fill_all(void)
{
    fill(a, MOST, -2, 2);
    fill(b, MOST, -1, 1);
    fill(before, MOST, -3, 3);
    fill(bias, MOST, -3, 3);
}

static void strides(layout l, int64_t rows, int64_t cols, int64_t *row, int64_t *col, int64_t *item)
{
    *row = l == ROWS ? cols + 5 : l == TRANSPOSED ? 1 : 2 * cols;
    *col = l == ROWS ? 1 : l == TRANSPOSED ? rows + 3 : 2;
    *item = l == ROWS ? rows * (cols + 5) : l == TRANSPOSED ? cols * (rows + 3) : 2 * rows * cols;
}

static fbi_mm mm_of(const example *e)
{
    fbi_mm g = {.dtype = FB_F32,
                .batch = e->batch ? e->batch : 1,
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
    assert_true(g.batch * g.a_b <= MOST && g.batch * g.b_b <= MOST && g.batch * g.c_b <= MOST);
    return g;
}

static size_t bytes_of(const fbi_mm *g)
{
    return (size_t)(g->batch * g->c_b) * sizeof(float);
}

static void run(fb_context *ctx, int threads, fbi_mm *g, float *to)
{
    const fbi_call call = {.ctx = ctx, .op = &fbi_opdefs[FBI_OP_matmul], .threads = threads};
    memcpy(to, before, bytes_of(g));
    g->c = to;
    assert_int_equal(fbi_cpu_gemm_v4(&call, g), FB_OK);
}

/* Element (i, j) of item q in double, and the sum of its terms' sizes. */
static double sum_of(const fbi_mm *g, int64_t q, int64_t i, int64_t j, double *size)
{
    double was = g->beta != 0 ? (double)before[q * g->c_b + i * g->c_m + j] : 0;
    double sum = was + (g->bias ? (double)bias[j] : 0);
    *size = fabs(was) + (g->bias ? fabs((double)bias[j]) : 0);
    for (int64_t p = 0; p < g->k; p++) {
        double x = (double)a[q * g->a_b + i * g->a_m + p * g->a_k] *
                   (double)b[q * g->b_b + p * g->b_k + j * g->b_n];
        sum += x;
        *size += fabs(x);
    }
    return sum;
}

/* Squares of the errors of both, of every seventh element. */
static void errors_of(const fbi_mm *g, double *tiles, double *vectors)
{
    *tiles = *vectors = 0;
    for (int64_t at = 0; at < g->batch * g->m * g->n; at += 7) {
        int64_t j = at % g->n, i = at / g->n % g->m, q = at / g->n / g->m;
        int64_t to = q * g->c_b + i * g->c_m + j;
        double size, want = sum_of(g, q, i, j, &size), x = (double)c[to] - want;
        double y = (double)other[to] - want;
        assert_true(fabs(x) <= size * 0x1p-22);
        *tiles += x * x;
        *vectors += y * y;
    }
}

static const example shapes[] = {{.m = 96, .n = 128, .k = 64},
                                 {.m = 97, .n = 113, .k = 110},
                                 {.m = 300, .n = 70, .k = 530, .gap = 3},
                                 {.m = 100, .n = 130, .k = 64},
                                 {.m = 257, .n = 65, .k = 1030},
                                 {.m = 128, .n = 600, .k = 512},
                                 {.m = 70, .n = 1000, .k = 96},
                                 {.m = 96, .n = 100, .k = 5000},
                                 {.batch = 5, .m = 110, .n = 90, .k = 80}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Of all layouts, with and without a bias and what was there before. */
static void errors_are_smaller_than_those_of_vectors(void **state)
{
    const pair *p = *state;
    for (int s = 0; s < SHAPES; s++)
        for (int way = 0; way < LAYOUTS * LAYOUTS; way++) {
            example e = shapes[s];
            e.a = (layout)(way % LAYOUTS);
            e.b = (layout)(way / LAYOUTS);
            e.bias = way % 2;
            e.add = way % 4 == 2;
            fbi_mm g = mm_of(&e);
            run(p->tiles, 2, &g, c);
            run(p->vectors, 2, &g, other);
            assert_memory_not_equal(c, other, bytes_of(&g)); /* tiles were used */
            double tiles, vectors;
            errors_of(&g, &tiles, &vectors);
            if (!(tiles < vectors))
                fail_msg("%lld x %lld x %lld, layouts %d %d: rms error %g, of vectors %g",
                         (long long)e.m, (long long)e.n, (long long)e.k, e.a, e.b, sqrt(tiles),
                         sqrt(vectors));
            for (int64_t i = 0; i < g.m; i++) /* between rows nothing is written */
                assert_memory_equal(c + i * g.c_m + g.n, before + i * g.c_m + g.n,
                                    (size_t)e.gap * sizeof *c);
        }
}

static void threads_leave_the_bits_as_they_are(void **state)
{
    const pair *p = *state;
    for (int s = 0; s < SHAPES; s++)
        for (int threads = 2; threads < 6; threads++) {
            example e = shapes[s];
            e.a = (layout)(threads % LAYOUTS);
            e.add = threads % 2;
            fbi_mm g = mm_of(&e);
            run(p->tiles, 1, &g, other);
            run(p->tiles, threads, &g, c);
            assert_memory_equal(c, other, bytes_of(&g));
        }
}

static void small_and_narrow_products_are_left_to_vectors(void **state)
{
    static const example all[] = {{.m = 30, .n = 30, .k = 30},
                                  {.m = 15, .n = 900, .k = 900},
                                  {.m = 900, .n = 15, .k = 900},
                                  {.m = 900, .n = 900, .k = 9},
                                  {.m = 96, .n = 128, .k = 64, .bias = true, .add = true}};
    const pair *p = *state;
    for (size_t s = 0; s < sizeof all / sizeof *all; s++) {
        fbi_mm g = mm_of(&all[s]);
        run(p->tiles, 2, &g, c);
        run(p->vectors, 2, &g, other);
        assert_memory_equal(c, other, bytes_of(&g));
    }
}

/* Where vectors give NaN or an infinity tiles do, and nowhere else. */
static void infinities_stay_where_they_are(void **state)
{
    const pair *p = *state;
    for (int way = 0; way < LAYOUTS * LAYOUTS; way++) {
        example e = {.m = 110, .n = 100, .k = 600};
        e.a = (layout)(way % LAYOUTS);
        e.b = (layout)(way / LAYOUTS);
        e.bias = way % 2;
        fbi_mm g = mm_of(&e);
        a[3 * g.a_m + 5 * g.a_k] = INFINITY;
        a[40 * g.a_m + 599 * g.a_k] = NAN;
        a[99 * g.a_m] = 0x1.ffffp127f; /* infinite as a BF16 */
        b[7 * g.b_k + 33 * g.b_n] = -INFINITY;
        b[550 * g.b_k + 89 * g.b_n] = -0x1.ffffp127f;
        for (int64_t k = 0; k < e.k;
             k++) /* products are finite: a row and a column that are small */
            a[50 * g.a_m + k * g.a_k] = b[k * g.b_k + 60 * g.b_n] = 0x1p-10f;
        run(p->tiles, 2, &g, c);
        run(p->vectors, 2, &g, other);
        for (int64_t i = 0; i < g.m * g.n; i++) {
            double x = (double)c[i], y = (double)other[i];
            if (isfinite(y))
                assert_true(fabs(x - y) <= fabs(y) * 1e-5 + 1e-3);
            else
                assert_true(isnan(y) ? isnan(x) : x == y);
        }
        fill_all();
    }
}

static void denormals_are_zero(void **state)
{
    const pair *p = *state;
    fbi_mm g = mm_of(&(example){.m = 96, .n = 128, .k = 64});
    for (int64_t i = 0; i < MOST; i++)
        a[i] = 0x1p-130f;
    run(p->tiles, 2, &g, c);
    run(p->vectors, 2, &g, other);
    for (int64_t i = 0; i < g.m * g.n; i++)
        assert_true(c[i] == 0 && other[i] != 0);
    fill_all();
}

/* --- recurrent layers --- */

enum { STEPS = 6, BATCH = 40, IN = 24, MOST_UNITS = 96, SIZE = STEPS * BATCH * MOST_UNITS };

/* Outputs and the gradient of the inputs. */
static void recurrent(const char *isa, int threads, bool lstm, fb_dtype dtype, int64_t units,
                      double *y, double *dx)
{
    fb_context *ctx = context_of(isa, threads); /* a new one draws the same weights */
    fb_module *m = lstm ? fb_nn_lstm(ctx, IN, units, NULL) : fb_nn_gru(ctx, IN, units, NULL);
    assert_non_null(m);
    fb_nn_to(m, dtype);
    fb_tensor *x = fb_to(fb_from(ctx, FB_F32, FB_SHAPE(STEPS, BATCH, IN), a), dtype), *out = NULL;
    fb_tensor *w = fb_to(fb_from(ctx, FB_F32, FB_SHAPE(STEPS, BATCH, units), b), dtype);
    fb_requires_grad(x, true);
    assert_int_equal(fb_nn_forward_n(m, FB_TENSORS(x), FB_OUTS(&out)), FB_OK);
    assert_int_equal(fb_backward(fb_sum(fb_mul(out, w), FB_ALL, false)), FB_OK);
    fb_tensor *all[] = {fb_to(fb_detach(out), FB_F64), fb_to(fb_grad_of(x), FB_F64)};
    assert_int_equal(fb_read(all[0], y, (size_t)fb_numel(all[0]) * sizeof *y), FB_OK);
    assert_int_equal(fb_read(all[1], dx, (size_t)fb_numel(all[1]) * sizeof *dx), FB_OK);
    assert_int_equal(fb_context_close(ctx), FB_OK);
}

static double distance(const double *x, const double *y, int64_t n)
{
    double sum = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (x[i] - y[i]) * (x[i] - y[i]);
        size += y[i] * y[i];
    }
    return sqrt(sum / size);
}

static void recurrent_layers_are_those_of_double(void **state)
{
    (void)state;
    static double want[2][SIZE], have[2][SIZE], again[2][SIZE];
    const char *vectors = "v4_bf16", *tiles = "v4_bf16_amx";
    for (int way = 0; way < 4; way++) {
        int64_t units = way % 2 ? 80 : 96, n = STEPS * BATCH * units, n_x = STEPS * BATCH * IN;
        bool lstm = way / 2;
        recurrent(vectors, 2, lstm, FB_F64, units, want[0], want[1]);
        recurrent(vectors, 2, lstm, FB_F32, units, again[0], again[1]);
        recurrent(tiles, 2, lstm, FB_F32, units, have[0], have[1]);
        assert_memory_not_equal(have[0], again[0], (size_t)n * sizeof(double)); /* tiles are used */
        assert_true(distance(have[0], want[0], n) < 3e-7);
        assert_true(distance(have[1], want[1], n_x) < 3e-6);
        for (int threads = 1; threads < 5; threads += 2) {
            recurrent(tiles, threads, lstm, FB_F32, units, again[0], again[1]);
            assert_memory_equal(again[0], have[0], (size_t)n * sizeof(double));
            assert_memory_equal(again[1], have[1], (size_t)n_x * sizeof(double));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_are_smaller_than_those_of_vectors),
        cmocka_unit_test(threads_leave_the_bits_as_they_are),
        cmocka_unit_test(small_and_narrow_products_are_left_to_vectors),
        cmocka_unit_test(infinities_stay_where_they_are),
        cmocka_unit_test(denormals_are_zero),
        cmocka_unit_test(recurrent_layers_are_those_of_double),
    };
    if (strcmp(fbi_cpu_isa(), "v4_bf16_amx") != 0) {
        puts("no tiles for F32: skipped");
        return 77;
    }
    fill_all();
    return cmocka_run_group_tests(tests, open_pair, close_pair);
}
