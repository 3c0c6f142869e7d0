/* Convolutions and attention by the simulated cuDNN, which computes what a graph says: its graphs,
 * plans and layouts are those that a real one would get. */
#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include <flambeau/flambeau.h>

#include "tests/check.h"

/* A function of the simulator inside of the plug-in. */
static void (*simulated(const char *name))(void)
{
    char path[PATH_MAX];
    void (*function)(void) = NULL;
    snprintf(path, sizeof path, "%s/libflambeau_cudasim.so", getenv("FLAMBEAU_PLUGINS"));
    void *plugin = dlopen(path, RTLD_NOW | RTLD_NOLOAD), *symbol;
    assert_non_null(plugin);
    symbol = dlsym(plugin, name);
    memcpy(&function, &symbol, sizeof symbol);
    dlclose(plugin);
    return function;
}

/* Plans of cuDNN's that were queued so far. */
static int runs(void)
{
    unsigned long (*count)(void) = (unsigned long (*)(void))simulated("cudasim_cudnn_runs");
    return count ? (int)count() : -1;
}

static fb_context *open_card(void)
{
    fb_context *ctx = fb_context_open(NULL); /* FLAMBEAU_DEVICE says which */
    assert_non_null(ctx);
    assert_string_equal(fb_context_device(ctx), "cudasim:0");
    if (runs() < 0) { /* this build has found no headers of cuDNN's */
        fb_context_close(ctx);
        skip();
    }
    return ctx;
}

static int64_t numel(fb_shape s)
{
    int64_t n = 1;
    for (int i = 0; i < s.n; i++)
        n *= s.d[i];
    return n;
}

/* Numbers that BF16 holds, the same in every run. */
static fb_tensor *some(fb_context *ctx, fb_dtype dtype, fb_shape shape, uint32_t seed)
{
    int64_t n = numel(shape);
    double *v = calloc((size_t)n, sizeof *v);
    assert_non_null(v);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = ((double)(seed >> 25) - 64) / 64;
    }
    fb_tensor *t = fb_to(fb_from(ctx, FB_F64, shape, v), dtype);
    free(v);
    return t;
}

/* What is read of a result, and of the gradients; in double. */
enum { RESULTS = 4, ROOM = 20000 };
typedef struct values {
    int64_t n[RESULTS];
    double at[RESULTS][ROOM];
} values;

static void keep(values *v, int i, fb_tensor *t)
{
    v->n[i] = t ? fb_numel(t) : 0;
    assert_true(v->n[i] <= ROOM);
    if (t)
        assert_int_equal(
            fb_read(fb_to(fb_detach(t), FB_F64), v->at[i], (size_t)v->n[i] * sizeof(double)),
            FB_OK);
}

static void keep_only(values *v, fb_tensor *t)
{
    memset(v, 0, sizeof *v);
    keep(v, 0, t);
}

/* Within `bound` of the largest. */
static void agree(const values *got, const values *want, double bound)
{
    for (int k = 0; k < RESULTS; k++) {
        double top = 0;
        assert_int_equal(got->n[k], want->n[k]);
        for (int64_t i = 0; i < want->n[k]; i++)
            top = fmax(top, fabs(want->at[k][i]));
        for (int64_t i = 0; i < want->n[k]; i++)
            if (!(fabs(got->at[k][i] - want->at[k][i]) <= bound * top))
                fail_msg("result %d [%lld] is %.9g, not %.9g", k, (long long)i, got->at[k][i],
                         want->at[k][i]);
    }
}

static const struct {
    fb_dtype dtype;
    double bound; /* one rounding to it, and sums in another order */
} precisions[] = {{FB_F32, 1e-6}, {FB_F16, 1e-3}, {FB_BF16, 8e-3}};

/* --- convolutions --- */

typedef struct shape {
    int64_t n, c, h, w, k, r, s;
    bool bias, relu;
    fb_conv_options o;
} shape;

static const shape shapes[] = {
    {2, 8, 9, 7, 16, 3, 3, true, false, {.padding = {1}}},
    {2, 3, 11, 12, 8, 5, 3, false, false, {.stride = {2}, .padding = {2, 1}}},
    {1, 8, 10, 9, 8, 3, 3, true, false, {.groups = 4}},
    {2, 8, 9, 9, 8, 3, 3, false, false, {.groups = 8, .padding = {1}}},
    {1, 4, 12, 11, 8, 3, 2, true, false, {.dilation = {2, 3}}},
    {3, 16, 5, 6, 8, 1, 1, true, false, {.stride = {1}}},
    {2, 8, 9, 7, 16, 3, 3, true, true, {.padding = {1}}},
    {2, 8, 9, 7, 8, 3, 3, false, true, {.stride = {2}}},
};

static void convolve(fb_context *ctx, fb_dtype dtype, const shape *p, values *out)
{
    FB_SCOPE(ctx);
    int64_t groups = p->o.groups ? p->o.groups : 1;
    fb_tensor *x = fb_requires_grad(some(ctx, dtype, FB_SHAPE(p->n, p->c, p->h, p->w), 1), true);
    fb_tensor *w =
        fb_requires_grad(some(ctx, dtype, FB_SHAPE(p->k, p->c / groups, p->r, p->s), 2), true);
    fb_tensor *b = p->bias ? fb_requires_grad(some(ctx, dtype, FB_SHAPE(p->k), 3), true) : NULL;
    fb_tensor *y = p->relu ? fb_conv2d_relu(x, w, b, &p->o) : fb_conv2d(x, w, b, &p->o);
    check_ok(ctx);
    fb_backward(fb_sum(fb_mul(y, some(ctx, dtype, fb_shape_of(y), 4)), FB_ALL, false));
    keep(out, 0, y);
    keep(out, 1, fb_grad_of(x));
    keep(out, 2, fb_grad_of(w));
    keep(out, 3, b ? fb_grad_of(b) : NULL);
    check_ok(ctx);
}

static values got, want;

static void convolutions_of_every_kind_are_those_of_the_cpu(void **state)
{
    (void)state;
    fb_context *card = open_card(), *cpu = check_open(1);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        convolve(cpu, FB_F64, &shapes[i], &want);
        for (size_t k = 0; k < sizeof precisions / sizeof precisions[0]; k++) {
            int before = runs();
            convolve(card, precisions[k].dtype, &shapes[i], &got);
            assert_int_equal(runs() - before, 3);
            agree(&got, &want, precisions[k].bound);
        }
    }
    check_close(cpu);
    check_close(card);
}

static void gradients_of_a_weight_that_is_used_twice_are_added(void **state)
{
    (void)state;
    fb_context *ctxs[] = {check_open(1), open_card()};
    for (int i = 0; i < 2; i++) {
        FB_SCOPE(ctxs[i]);
        fb_conv_options o = {.padding = {1}};
        fb_tensor *x = some(ctxs[i], FB_F32, FB_SHAPE(1, 8, 6, 5), 1);
        fb_tensor *w = fb_requires_grad(some(ctxs[i], FB_F32, FB_SHAPE(8, 8, 3, 3), 2), true);
        for (int pass = 0; pass < 2; pass++)
            fb_backward(fb_sum(fb_conv2d(fb_conv2d(x, w, NULL, &o), w, NULL, &o), FB_ALL, false));
        keep_only(i ? &got : &want, fb_grad_of(w));
    }
    agree(&got, &want, 1e-6);
    check_close(ctxs[1]);
    check_close(ctxs[0]);
}

static void transposed_convolutions_are_the_same_graph(void **state)
{
    (void)state;
    fb_context *ctxs[] = {check_open(1), open_card()};
    int before = runs();
    for (int i = 0; i < 2; i++) {
        FB_SCOPE(ctxs[i]);
        fb_conv_options o = {.stride = {2}, .padding = {1}};
        fb_tensor *x = some(ctxs[i], FB_F32, FB_SHAPE(2, 8, 4, 5), 1);
        fb_tensor *w = some(ctxs[i], FB_F32, FB_SHAPE(8, 4, 3, 3), 2);
        keep_only(i ? &got : &want, fb_conv_transpose2d(x, w, NULL, &o));
    }
    agree(&got, &want, 1e-6);
    assert_int_equal(runs() - before, 1);
    check_close(ctxs[1]);
    check_close(ctxs[0]);
}

static void f64_is_left_to_our_own_kernels(void **state)
{
    (void)state;
    fb_context *card = open_card(), *cpu = check_open(1);
    int before = runs();
    convolve(cpu, FB_F64, &shapes[0], &want);
    convolve(card, FB_F64, &shapes[0], &got);
    agree(&got, &want, 1e-13);
    assert_int_equal(runs() - before, 0);
    check_close(cpu);
    check_close(card);
}

static void a_shape_has_one_plan(void **state)
{
    (void)state;
    fb_context *card = open_card();
    int (*live)(void) = (int (*)(void))simulated("cudasim_live");
    convolve(card, FB_BF16, &shapes[0], &got);
    assert_int_equal(fb_context_sync(card), FB_OK);
    int before = live();
    convolve(card, FB_BF16, &shapes[0], &want);
    assert_int_equal(fb_context_sync(card), FB_OK);
    assert_int_equal(live(), before);
    agree(&got, &want, 0);
    check_close(card);
    assert_int_equal(live(), 0);
}

/* --- attention --- */

enum mask_kind { NO_MASK, BOOLS, PADDING, SUMS, A_DEAD_ROW };

typedef struct heads {
    int64_t b, h, t, s, d, e;
    bool causal;
    int64_t h_k; /* 0: h */
    enum mask_kind mask;
    double dropout;
} heads;

/* From [b, t, h, d], as a transformer has it. */
static fb_tensor *operand(fb_context *ctx, fb_dtype dtype, int64_t b, int64_t h, int64_t t,
                          int64_t d, uint32_t seed, fb_tensor **leaf)
{
    *leaf = fb_requires_grad(some(ctx, dtype, FB_SHAPE(b, t, h, d), seed), true);
    return fb_permute(*leaf, FB_DIMS(0, 2, 1, 3));
}

static fb_tensor *mask_of(fb_context *ctx, fb_dtype dtype, const heads *p)
{
    fb_shape of = p->mask == PADDING ? FB_SHAPE(p->b, 1, 1, p->s)
                  : p->mask == SUMS  ? FB_SHAPE(p->h, p->t, p->s)
                                     : FB_SHAPE(p->t, p->s);
    fb_tensor *x = some(ctx, FB_F64, of, 5), *low = fb_full(ctx, FB_F64, FB_SCALAR, -0.5);
    if (p->mask == NO_MASK)
        return NULL;
    if (p->mask == SUMS) /* a few of them are -inf */
        return fb_to(fb_where(fb_gt(x, low), x, fb_full(ctx, FB_F64, FB_SCALAR, -INFINITY)), dtype);
    fb_tensor *mask = fb_gt(x, low);
    if (p->mask == A_DEAD_ROW) {
        fb_tensor *rows = fb_reshape(fb_arange(ctx, FB_I64, 0, p->t, 1), FB_SHAPE(p->t, 1));
        mask = fb_where(fb_eq(rows, fb_full(ctx, FB_I64, FB_SCALAR, 2)),
                        fb_zeros(ctx, FB_BOOL, FB_SCALAR), mask);
    }
    return mask;
}

static void attend(fb_context *ctx, fb_dtype dtype, const heads *p, values *out)
{
    FB_SCOPE(ctx);
    fb_tensor *leaf[3];
    int64_t h_k = p->h_k ? p->h_k : p->h;
    fb_tensor *q = operand(ctx, dtype, p->b, p->h, p->t, p->d, 1, &leaf[0]);
    fb_tensor *k = operand(ctx, dtype, p->b, h_k, p->s, p->d, 2, &leaf[1]);
    fb_tensor *v = operand(ctx, dtype, p->b, h_k, p->s, p->e, 3, &leaf[2]);
    fb_sdpa_options o = {.causal = p->causal,
                         .mask = mask_of(ctx, dtype, p),
                         .dropout = p->dropout,
                         .enable_gqa = h_k != p->h};
    fb_manual_seed(ctx, 7);
    fb_tensor *y = fb_scaled_dot_product_attention(q, k, v, &o);
    check_ok(ctx);
    fb_backward(fb_sum(fb_mul(y, some(ctx, dtype, fb_shape_of(y), 4)), FB_ALL, false));
    keep(out, 0, y);
    for (int i = 0; i < 3; i++)
        keep(out, 1 + i, fb_grad_of(leaf[i]));
    check_ok(ctx);
}

/* How many plans forward and backward queue. */
static void attention_is_right(const heads *p, fb_dtype dtype, double bound, int by_cudnn)
{
    fb_context *card = open_card(), *cpu = check_open(1);
    int before = runs();
    attend(cpu, FB_F64, p, &want);
    attend(card, dtype, p, &got);
    assert_int_equal(runs() - before, by_cudnn);
    agree(&got, &want, bound);
    check_close(cpu);
    check_close(card);
}

static void attention_in_halves_is_cudnns(void **state)
{
    (void)state;
    const heads all[] = {{2, 3, 20, 20, 16, 16, .causal = false},
                         {2, 3, 20, 20, 16, 16, .causal = true},
                         {1, 2, 9, 24, 8, 16, .causal = false},
                         {1, 2, 24, 9, 8, 8, .causal = true},
                         {2, 3, 20, 20, 16, 16, .causal = false, .mask = BOOLS},
                         {2, 3, 20, 13, 16, 16, .causal = false, .mask = PADDING},
                         {2, 3, 9, 20, 16, 8, .causal = false, .mask = SUMS},
                         {2, 3, 9, 20, 16, 8, .causal = false, .mask = A_DEAD_ROW},
                         {2, 4, 20, 20, 16, 16, .causal = true, .h_k = 2},
                         {1, 6, 20, 11, 16, 8, .causal = false, .h_k = 1, .mask = SUMS}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        attention_is_right(&all[i], FB_F16, 3e-3, 2);
        attention_is_right(&all[i], FB_BF16, 2e-2, 2);
    }
}

static void what_cudnn_refuses_is_ours(void **state)
{
    (void)state;
    const heads even = {2, 3, 20, 20, 16, 16, .causal = true},
                odd = {2, 2, 11, 13, 5, 7, .causal = true};
    const heads dropped = {2, 3, 20, 20, 16, 16, .causal = true, .dropout = 0.25};
    attention_is_right(&dropped, FB_BF16, 8e-3, 0);
    attention_is_right(&even, FB_F64, 1e-12, 0);
    attention_is_right(&even, FB_F32, 2e-6, 0);
    attention_is_right(&odd, FB_BF16, 8e-3, 0);
    attention_is_right(&odd, FB_F32, 2e-6, 0);
}

/* --- a library that is not there, or fails: children with those settings --- */

static int works(void)
{
    fb_context *ctx = fb_context_open(NULL);
    convolve(ctx, FB_BF16, &shapes[0], &got);
    printf("runs %d\n", runs());
    return fb_context_close(ctx);
}

/* Its error goes to stderr. */
static int fails(void)
{
    fb_context *ctx = fb_context_open(NULL);
    fb_tensor *x = fb_ones(ctx, FB_F32, FB_SHAPE(1, 8, 5, 5));
    fb_tensor *y = fb_conv2d(x, fb_ones(ctx, FB_F32, FB_SHAPE(8, 8, 3, 3)), NULL, NULL);
    if (y)
        printf("sum %g\n", fb_item(fb_sum(y, FB_ALL, false)));
    return fb_context_close(ctx) == FB_OK ? 0 : 1;
}

enum { SAID = 4096 };

/* What a child with that setting prints. */
static void run(const char *what, const char *setting, char said[SAID])
{
    char self[PATH_MAX], command[2 * PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    snprintf(command, sizeof command, "env %s %s %s 2>&1", setting, self, what);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t used = fread(said, 1, SAID - 1, f);
    said[used] = '\0';
    pclose(f);
}

static void expect(const char *what, const char *setting, const char *text)
{
    char said[SAID];
    run(what, setting, said);
    if (!strstr(said, text))
        fail_msg("%s: no \"%s\" in: %s", setting, text, said);
}

static void expect_none(const char *what, const char *setting, const char *text)
{
    char said[SAID];
    run(what, setting, said);
    if (strstr(said, text))
        fail_msg("%s: \"%s\" in: %s", setting, text, said);
}

static void without_the_library_our_own_kernels_serve(void **state)
{
    (void)state;
    check_close(open_card()); /* skips */
    expect("works", "A=B", "runs 3");
    expect("works", "FLAMBEAU_CUDNN=off", "runs 0");
    expect("works", "CUDASIM_CUDNN_VERSION=8907", "runs 0");
    expect("works", "CUDASIM_CUDNN_VERSION=100000", "runs 0");
    expect("works", "CUDASIM_FAIL=cudnnCreate:4000", "runs 0");
    /* What is missing is said; what was wanted is not. */
    expect("works", "CUDASIM_CUDNN_VERSION=8907",
           "flambeau: cuDNN is not used: the simulated one is version 8907");
    expect("works", "CUDASIM_FAIL=cudnnCreate:4000",
           "flambeau: cuDNN is not used: CUDNN_STATUS_INTERNAL_ERROR of cudnnCreate: asked for by "
           "the test; without it convolutions and attention run on");
    expect_none("works", "FLAMBEAU_CUDNN=off", "cuDNN is not used");
    expect_none("works", "A=B", "cuDNN is not used");
}

static void a_plan_that_cannot_be_made_leaves_the_call_to_our_own_kernels(void **state)
{
    (void)state;
    check_close(open_card()); /* skips */
    expect("fails", "CUDASIM_FAIL=cudnnBackendSetAttribute:2000", "sum 5184");
    expect("fails", "CUDASIM_FAIL=cudnnBackendFinalize:3000:9", "sum 5184");
}

static void an_error_while_running_is_told_with_name_text_and_call(void **state)
{
    (void)state;
    check_close(open_card()); /* skips */
    expect("fails", "CUDASIM_FAIL=cudnnBackendExecute:5000",
           "conv2d: cudasim:0: cuDNN: CUDNN_STATUS_EXECUTION_FAILED of cudnnBackendExecute: asked "
           "for by the test");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return !strcmp(argv[1], "works") ? works() : fails();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutions_of_every_kind_are_those_of_the_cpu),
        cmocka_unit_test(gradients_of_a_weight_that_is_used_twice_are_added),
        cmocka_unit_test(transposed_convolutions_are_the_same_graph),
        cmocka_unit_test(f64_is_left_to_our_own_kernels),
        cmocka_unit_test(a_shape_has_one_plan),
        cmocka_unit_test(attention_in_halves_is_cudnns),
        cmocka_unit_test(what_cudnn_refuses_is_ours),
        cmocka_unit_test(without_the_library_our_own_kernels_serve),
        cmocka_unit_test(a_plan_that_cannot_be_made_leaves_the_call_to_our_own_kernels),
        cmocka_unit_test(an_error_while_running_is_told_with_name_text_and_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
