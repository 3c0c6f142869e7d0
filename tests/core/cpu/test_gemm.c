/* Matrix products of all instruction sets against plain loops in double. */
#include "tests/core/ops/ops_test_priv.h"

#include "core/cpu/gemm_priv.h"

typedef fb_status (*product)(const fbi_call *c, const fbi_mm *g);

#if defined(__x86_64__)
fb_status fbi_cpu_gemm_v2(const fbi_call *c, const fbi_mm *g);
fb_status fbi_cpu_gemm_v3(const fbi_call *c, const fbi_mm *g);
fb_status fbi_cpu_gemm_v4(const fbi_call *c, const fbi_mm *g);
static const product products[] = {fbi_cpu_gemm_v2, fbi_cpu_gemm_v3, fbi_cpu_gemm_v4};
#else
static const product products[] = {fbi_cpu_gemm};
#endif

/* Products that this machine can run. */
static int levels(void)
{
    const char *isa = fbi_cpu_isa();
    return isa[1] == '0' ? 1 : isa[1] - '1';
}

/* --- a case: shape, how the operands lie in memory, what is added --- */

typedef enum layout { ROWS, TRANSPOSED, SPREAD, LAYOUTS } layout;

typedef struct example {
    fb_dtype dtype;
    int64_t batch, m, n, k;
    layout a, b;
    bool one_b; /* the same b for the whole batch */
    bool bias, add;
    int64_t gap; /* between rows of c */
} example;

enum { MOST = 1 << 20 };
static union {
    float f32[MOST];
    double f64[MOST];
    int64_t i64[MOST];
} a, b, c, before, bias;

static void put(void *x, fb_dtype d, int64_t i, int64_t value)
{
    if (d == FB_F32)
        ((float *)x)[i] = (float)value / 64;
    else if (d == FB_F64)
        ((double *)x)[i] = (double)value / 64;
    else
        ((int64_t *)x)[i] = value;
}

static double get(const void *x, fb_dtype d, int64_t i)
{
    return d == FB_F32   ? (double)((const float *)x)[i]
           : d == FB_F64 ? ((const double *)x)[i]
                         : (double)((const int64_t *)x)[i];
}

static void fill_all(fb_dtype d)
{
    uint32_t s = 7;
    for (int64_t i = 0; i < MOST; i++) {
        void *const all[] = {&a, &b, &before, &bias};
        for (int k = 0; k < 4; k++) {
            s = s * 1664525u + 1013904223u;
            put(all[k], d, i, (int64_t)(s >> 25) - 64);
        }
    }
}

static void strides(layout l, int64_t rows, int64_t cols, int64_t *row, int64_t *col, int64_t *item)
{
    *row = l == ROWS ? cols : l == TRANSPOSED ? 1 : 3 * cols + 1;
    *col = l == ROWS ? 1 : l == TRANSPOSED ? rows : 3;
    *item = l == SPREAD ? rows * (3 * cols + 1) : rows * cols;
}

static fbi_mm mm_of(const example *e)
{
    fbi_mm g = {.dtype = e->dtype,
                .batch = e->batch,
                .m = e->m,
                .n = e->n,
                .k = e->k,
                .c_m = e->n + e->gap,
                .c_b = e->m * (e->n + e->gap),
                .a = &a,
                .b = &b,
                .c = &c,
                .bias = e->bias ? &bias : NULL,
                .beta = e->add};
    strides(e->a, e->m, e->k, &g.a_m, &g.a_k, &g.a_b);
    strides(e->b, e->k, e->n, &g.b_k, &g.b_n, &g.b_b);
    if (e->one_b)
        g.b_b = 0;
    int64_t size = (int64_t)fb_dtype_size(e->dtype);
    assert_true(e->batch * g.a_b < MOST && e->batch * g.b_b < MOST && e->batch * g.c_b < MOST);
    memcpy(&c, &before, (size_t)(e->batch * g.c_b * size));
    return g;
}

static void run(fb_context *ctx, int level, int threads, const fbi_mm *g)
{
    const fbi_call call = {.ctx = ctx, .op = &fbi_opdefs[FBI_OP_matmul], .threads = threads};
    assert_int_equal(products[level](&call, g), FB_OK);
}

static void compare(const example *e, const fbi_mm *g, int level)
{
    fb_dtype d = e->dtype;
    double unit = d == FB_F32 ? 1.2e-7 : d == FB_F64 ? 2.3e-16 : 0;
    for (int64_t q = 0; q < e->batch; q++)
        for (int64_t i = 0; i < e->m; i++)
            for (int64_t j = 0; j < g->c_m; j++) {
                int64_t at = q * g->c_b + i * g->c_m + j;
                double was = get(&before, d, at), want = e->add ? was : 0, size = fabs(want);
                for (int64_t p = 0; p < e->k && j < e->n; p++) {
                    double x = get(&a, d, q * g->a_b + i * g->a_m + p * g->a_k) *
                               get(&b, d, q * g->b_b + p * g->b_k + j * g->b_n);
                    want += x;
                    size += fabs(x);
                }
                want = j >= e->n ? was : want + (e->bias ? get(&bias, d, j) : 0);
                double tol = j < e->n ? (size + 1) * unit * (4 + sqrt((double)e->k)) : 0;
                if (!(fabs(get(&c, d, at) - want) <= tol))
                    fail_msg("level %d, %s, %lld x %lld x %lld, layouts %d %d: [%lld, %lld] is "
                             "%.17g, not %.17g",
                             level, fb_dtype_name(d), (long long)e->m, (long long)e->n,
                             (long long)e->k, e->a, e->b, (long long)i, (long long)j,
                             get(&c, d, at), want);
            }
}

static void check(fb_context *ctx, const example *e, int threads)
{
    for (int level = 0; level < levels(); level++) {
        fbi_mm g = mm_of(e);
        run(ctx, level, threads, &g);
        compare(e, &g, level);
    }
}

/* --- tests --- */

static const fb_dtype dtypes[] = {FB_F32, FB_F64, FB_I64};

/* Layouts, bias and sum change from shape to shape. */
static void small_shapes_of_all_dtypes_are_sums_of_products(void **state)
{
    static const int64_t sizes[] = {1, 2, 3, 5, 8, 13, 31, 32, 33, 47, 64, 65};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (int d = 0; d < 3; d++) {
        fill_all(dtypes[d]);
        for (int i = 0, n = 0; i < SIZES * SIZES * SIZES; i++, n = n * 5 + i) {
            n &= 0xffff;
            check(*state,
                  &(example){.dtype = dtypes[d],
                             .batch = 1,
                             .m = sizes[i % SIZES],
                             .n = sizes[i / SIZES % SIZES],
                             .k = sizes[i / SIZES / SIZES],
                             .a = (layout)(n % LAYOUTS),
                             .b = (layout)(n / 3 % LAYOUTS),
                             .bias = n / 9 % 2,
                             .add = n / 18 % 2,
                             .gap = n / 36 % 3},
                  1 + n % 3);
        }
    }
}

static void large_shapes_are_cut_into_blocks_of_every_size(void **state)
{
    static const int64_t shapes[][3] = {
        {300, 70, 530},  {13, 33, 2100}, {5, 2100, 40},  {3, 17, 6150},  {150, 300, 517},
        {290, 65, 1030}, {24, 800, 100}, {1, 1030, 520}, {16, 16, 9001}, {1, 1, 5000},
        {60, 64, 4103},  {7, 300, 700},  {600, 3, 650},  {130, 5, 300}};
    fill_all(FB_F32);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int l = 0; l < 4; l++)
            check(*state,
                  &(example){.dtype = FB_F32,
                             .batch = 1,
                             .m = shapes[i][0],
                             .n = shapes[i][1],
                             .k = shapes[i][2],
                             .a = l % 2 ? TRANSPOSED : ROWS,
                             .b = l / 2 ? TRANSPOSED : ROWS,
                             .bias = l == 1,
                             .add = l == 2},
                  2);
}

static void batches_of_every_length_are_shared_out(void **state)
{
    for (int d = 0; d < 3; d++) {
        fill_all(dtypes[d]);
        for (int64_t batch = 1; batch < 20; batch += 3)
            for (int threads = 1; threads < 5; threads++)
                check(*state,
                      &(example){.dtype = dtypes[d],
                                 .batch = batch,
                                 .m = 30,
                                 .n = 40,
                                 .k = 37,
                                 .one_b = batch % 2,
                                 .a = batch % 4 ? ROWS : TRANSPOSED},
                      threads);
    }
}

static void sums_of_nothing_are_the_bias(void **state)
{
    for (int d = 0; d < 3; d++)
        for (int way = 0; way < 4; way++) {
            fill_all(dtypes[d]);
            check(*state,
                  &(example){.dtype = dtypes[d],
                             .batch = 2,
                             .m = 14,
                             .n = 35,
                             .bias = way % 2,
                             .add = way / 2},
                  1);
        }
}

/* Copies c to `to`, or compares with what is there. */
static void keep(fb_context *ctx, int level, int threads, const example *e, float *to, bool first)
{
    fbi_mm g = mm_of(e);
    run(ctx, level, threads, &g);
    size_t bytes = (size_t)(e->batch * g.c_b) * sizeof(float);
    if (first)
        memcpy(to, &c, bytes);
    else
        assert_memory_equal(to, &c, bytes);
}

static void threads_and_wider_vectors_leave_the_bits_as_they_are(void **state)
{
    static const example all[] = {{.m = 512, .n = 96, .k = 200},
                                  {.m = 30, .n = 1000, .k = 600},
                                  {.m = 37, .n = 70, .k = 5000},
                                  {.m = 1, .n = 900, .k = 1000},
                                  {.m = 333, .n = 333, .k = 333},
                                  {.m = 16, .n = 16, .k = 9001},
                                  {.m = 5, .n = 900, .k = 700},
                                  {.m = 900, .n = 3, .k = 701},
                                  {.batch = 3, .m = 99, .n = 64, .k = 130}};
    static float first[MOST];
    fill_all(FB_F32);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int way = 0; way < 4; way++) {
            example e = all[i];
            e.dtype = FB_F32;
            e.batch = e.batch ? e.batch : 1;
            e.a = way % 2 ? TRANSPOSED : ROWS;
            e.b = way / 2 ? TRANSPOSED : ROWS;
            for (int level = 0; level < levels(); level++)
                for (int threads = 1; threads <= 7; threads++) /* v2 has no fused multiply-add */
                    keep(*state, level, threads, &e, first, threads == 1 && level < 2);
        }
}

static void an_element_depends_on_its_row_and_column_only(void **state)
{
    enum { M = 40, N = 50, K = 20, ROW = 17, COLUMN = 33 };
    fill_all(FB_F32);
    for (int level = 0; level < levels(); level++) {
        example e = {.dtype = FB_F32, .batch = 1, .m = M, .n = N, .k = K};
        fbi_mm g = mm_of(&e);
        a.f32[ROW * K + 3] = INFINITY;
        b.f32[4 * N + COLUMN] = NAN;
        run(*state, level, 1, &g);
        for (int i = 0; i < M; i++)
            for (int j = 0; j < N; j++)
                assert_int_equal(isfinite(c.f32[i * N + j]) != 0, i != ROW && j != COLUMN);
        fill_all(FB_F32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_shapes_of_all_dtypes_are_sums_of_products),
        cmocka_unit_test(large_shapes_are_cut_into_blocks_of_every_size),
        cmocka_unit_test(batches_of_every_length_are_shared_out),
        cmocka_unit_test(sums_of_nothing_are_the_bias),
        cmocka_unit_test(threads_and_wider_vectors_leave_the_bits_as_they_are),
        cmocka_unit_test(an_element_depends_on_its_row_and_column_only),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
