/* Attention by its own row against products, a softmax and a dropout that are written out here, in
 * F64: every kind of mask, causal, dropout, heads that share keys. */
#include <flambeau/core/ops/attention.h>
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/dropout.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/softmax.h>
#include <flambeau/core/ops/split.h>
#include <flambeau/core/ops/view.h>

#include "tests/core/ops/ops_test_priv.h"

enum { MOST = 40000 };

static float numbers[MOST];

typedef struct kind {
    int64_t b, h, h_k, t, s, d, e;
    bool causal;
    fb_shape mask; /* n 0: none */
    bool adds;     /* the mask is of floats, and has a gradient if `learnt` */
    bool learnt;
    double dropout;
} kind;

enum { Q, K, V, MASK, OPERANDS };

/* The operands as leaves; transformers hand over [B, T, H, D], permuted. */
static void leaves_of(fb_context *ctx, const kind *k, fb_dtype dtype, fb_tensor **leaf)
{
    const fb_shape s[] = {FB_SHAPE(k->b, k->t, k->h, k->d), FB_SHAPE(k->b, k->s, k->h_k, k->d),
                          FB_SHAPE(k->b, k->s, k->h_k, k->e), k->mask};
    fill(numbers, MOST, -2, 2);
    for (int i = 0; i < OPERANDS; i++) {
        leaf[i] = NULL;
        if (s[i].n == 0)
            continue;
        fb_tensor *x = fb_from(ctx, FB_F32, s[i], numbers + 1000 * i);
        if (i == MASK && !k->adds)
            leaf[i] = fb_gt(x, fb_full(ctx, FB_F32, FB_SCALAR, -0.7));
        else
            leaf[i] = fb_requires_grad(fb_to(x, dtype), i != MASK || k->learnt);
    }
}

static fb_tensor *by_head(fb_tensor *x)
{
    return fb_permute(x, FB_DIMS(0, 2, 1, 3));
}

static fb_tensor *attend(const kind *k, fb_tensor **leaf)
{
    fb_sdpa_options o = {.causal = k->causal,
                         .mask = leaf[MASK],
                         .dropout = k->dropout,
                         .enable_gqa = k->h != k->h_k};
    return fb_scaled_dot_product_attention(by_head(leaf[Q]), by_head(leaf[K]), by_head(leaf[V]),
                                           &o);
}

/* What dropout multiplies the weights with: drawn on a CPU, from the same stream. */
static fb_tensor *kept(fb_context *ctx, const kind *k)
{
    static double f[MOST];
    int64_t n = k->b * k->h * k->t * k->s;
    assert_true(n <= MOST);
    fb_context *cpu = fb_context_open(&(fb_context_options){.device = "cpu"});
    fb_manual_seed(cpu, 77);
    fb_tensor *ones = fb_ones(cpu, FB_F64, FB_SHAPE(k->b, k->h, k->t, k->s));
    fb_tensor *drawn = k->dropout != 0 ? fb_dropout(ones, k->dropout) : ones;
    assert_int_equal(fb_read(drawn, f, (size_t)n * sizeof *f), FB_OK);
    assert_int_equal(fb_context_close(cpu), FB_OK);
    return fb_from(ctx, FB_F64, FB_SHAPE(k->b, k->h, k->t, k->s), f);
}

/* Each head as often as it is used: [B, H_k, S, D] -> [B, H, S, D] */
static fb_tensor *repeated(fb_tensor *x, int64_t h)
{
    int64_t each = h / fb_size(x, 1);
    fb_tensor *all[8];
    int n = 0;
    for (int64_t i = 0; i < fb_size(x, 1); i++)
        for (int64_t j = 0; j < each; j++)
            all[n++] = fb_narrow(x, 1, i, 1);
    return fb_cat((fb_tensors){all, n}, 1);
}

static fb_tensor *written_out(fb_context *ctx, const kind *k, fb_tensor **leaf)
{
    fb_tensor *key = repeated(by_head(leaf[K]), k->h), *v = repeated(by_head(leaf[V]), k->h);
    fb_tensor *x = fb_matmul(by_head(leaf[Q]), fb_transpose(key, 2, 3));
    x = fb_mul_scalar(x, 1 / sqrt((double)k->d));
    fb_tensor *never = fb_full(ctx, FB_F64, FB_SCALAR, -1e9), *takes_part = NULL;
    if (k->causal)
        takes_part = fb_ge(fb_reshape(fb_arange(ctx, FB_I64, 0, k->t, 1), FB_SHAPE(k->t, 1)),
                           fb_arange(ctx, FB_I64, 0, k->s, 1));
    else if (leaf[MASK] && !k->adds)
        takes_part = leaf[MASK];
    if (takes_part)
        x = fb_where(takes_part, x, never);
    else if (leaf[MASK])
        x = fb_add(x, leaf[MASK]);
    return fb_matmul(fb_mul(fb_softmax(x, -1), kept(ctx, k)), v);
}

static double furthest(fb_tensor *a, fb_tensor *b)
{
    fb_tensor *d = fb_abs(fb_sub(fb_to(fb_detach(a), FB_F64), fb_to(fb_detach(b), FB_F64)));
    return fb_item(fb_amax(d, FB_ALL, false));
}

/* The gradients are those of the sum of the result's squares. */
static void agree(fb_context *ctx, const kind *k, fb_dtype dtype, double bound)
{
    FB_SCOPE(ctx);
    fb_tensor *leaf[OPERANDS], *exact[OPERANDS];
    leaves_of(ctx, k, dtype, leaf);
    for (int i = 0; i < OPERANDS; i++) { /* of the same, rounded values */
        bool floats = leaf[i] && fb_dtype_is_float(fb_dtype_of(leaf[i]));
        exact[i] = floats ? fb_requires_grad(fb_to(fb_detach(leaf[i]), FB_F64), true) : leaf[i];
    }
    fb_manual_seed(ctx, 77);
    fb_tensor *y = attend(k, leaf), *want = written_out(ctx, k, exact);
    fb_backward(fb_sum(fb_mul(y, y), FB_ALL, false));
    fb_backward(fb_sum(fb_mul(want, want), FB_ALL, false));
    assert_true(fb_ok(ctx));
    assert_true(furthest(y, want) < bound);
    for (int i = 0; i < OPERANDS; i++)
        if (leaf[i] && (i != MASK || k->learnt))
            assert_true(furthest(fb_grad_of(leaf[i]), fb_grad_of(exact[i])) < 20 * bound);
}

static const kind kinds[] = {
    {2, 3, 3, 77, 77, 20, 20, .causal = false},
    {2, 3, 3, 77, 77, 20, 20, .causal = true},
    {1, 2, 2, 40, 90, 16, 33, .causal = false},
    {1, 2, 2, 40, 19, 16, 5, .causal = true},
    {2, 2, 2, 35, 50, 8, 12, .mask = {2, {35, 50}}},
    {2, 2, 2, 35, 50, 8, 12, .mask = {4, {2, 1, 1, 50}}}, /* padding */
    {2, 2, 2, 35, 50, 8, 12, .mask = {3, {2, 35, 50}}, .adds = true},
    {2, 2, 2, 35, 50, 8, 12, .mask = {3, {2, 1, 50}}, .adds = true, .learnt = true},
    {2, 3, 3, 35, 50, 8, 12, .causal = true, .dropout = 0.3},
    {2, 3, 3, 35, 33, 8, 12, .mask = {2, {35, 33}}, .adds = true, .dropout = 0.3},
    {2, 3, 3, 35, 33, 8, 12, .mask = {2, {1, 33}}, .adds = true, .learnt = true, .dropout = 0.3},
    {2, 6, 2, 21, 27, 8, 12, .causal = true},
    {2, 6, 1, 21, 27, 8, 12, .mask = {4, {1, 6, 21, 27}}, .dropout = 0.2},
    {2, 4, 2, 21, 27, 8, 12, .mask = {3, {4, 1, 27}}, .adds = true, .learnt = true},
    {1, 1, 1, 150, 199, 48, 17, .causal = true}, /* several blocks, none of them full */
    {1, 2, 1, 129, 70, 65, 16, .causal = true, .dropout = 0.3},
    {1, 1, 1, 81, 290, 7, 33, .mask = {2, {1, 290}}, .dropout = 0.3},
};

static void every_kind_is_what_is_written_out(void **state)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        agree(*state, &kinds[i], FB_F64, 1e-12);
        agree(*state, &kinds[i], FB_F32, 2e-6);
    }
}

static void halves_are_rounded_once(void **state)
{
    for (size_t i = 6; i < sizeof kinds / sizeof kinds[0]; i += 2)
        agree(*state, &kinds[i], FB_BF16, 0.02);
}

/* On a card scores are made in pieces that have a bound; here of a few rows. */
static void long_sequences_go_in_pieces(void **state)
{
    setenv("FLAMBEAU_ATTENTION_BYTES", "3000", 1);
    for (size_t i = 5; i < sizeof kinds / sizeof kinds[0]; i += 3)
        agree(*state, &kinds[i], FB_F32, 2e-6);
    setenv("FLAMBEAU_ATTENTION_BYTES", "30000", 1);
    agree(*state, &kinds[11], FB_F32, 2e-6);
    unsetenv("FLAMBEAU_ATTENTION_BYTES");
}

static void rows_of_which_nothing_takes_part_are_zeros(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *x = fb_requires_grad(fb_randn(ctx, FB_F32, FB_SHAPE(3, 4)), true);
    float add[9] = {0, 1, 2, -INFINITY, -INFINITY, -INFINITY, 1, -INFINITY, 0}, got[12];
    fb_tensor *sums = fb_from(ctx, FB_F32, FB_SHAPE(3, 3), add);
    fb_tensor *bools = fb_gt(sums, fb_full(ctx, FB_F32, FB_SCALAR, -1000));
    fb_tensor *masks[] = {sums, bools};
    for (int i = 0; i < 2; i++) {
        fb_tensor *y =
            fb_scaled_dot_product_attention(x, x, x, FB_OPTS(fb_sdpa_options, .mask = masks[i]));
        fb_backward(fb_sum(fb_mul(y, y), FB_ALL, false));
        assert_int_equal(fb_read(y, got, sizeof got), FB_OK);
        assert_true(fabs((double)got[0]) > 0 && fabs((double)got[8]) > 0);
        for (int j = 4; j < 8; j++)
            assert_true(got[j] == 0);
        assert_true(fb_item(fb_sum(fb_abs(fb_grad_of(x)), FB_ALL, false)) < 1000); /* no NaN */
    }
}

static void a_nan_reaches_all_of_its_row_and_no_other(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    float of_q[12] = {1, 2, 0, 1, NAN, 1, 1, 1, 0, 1, 2, 3}, got[12];
    fb_tensor *q = fb_from(ctx, FB_F32, FB_SHAPE(3, 4), of_q);
    fb_tensor *x = fb_randn(ctx, FB_F32, FB_SHAPE(3, 4));
    assert_int_equal(fb_read(fb_scaled_dot_product_attention(q, x, x, NULL), got, sizeof got),
                     FB_OK);
    for (int j = 0; j < 12; j++)
        assert_int_equal(isnan(got[j]) != 0, j / 4 == 1);
}

/* As in PyTorch; q of one sequence, k and v of another number of heads. */
static void leading_dimensions_broadcast(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *q = fb_randn(ctx, FB_F64, FB_SHAPE(2, 3, 5, 4));
    fb_tensor *k = fb_randn(ctx, FB_F64, FB_SHAPE(1, 3, 6, 4));
    fb_tensor *all = fb_expand(k, FB_SHAPE(2, 3, 6, 4));
    fb_tensor *y = fb_scaled_dot_product_attention(q, k, k, NULL);
    assert_true(furthest(y, fb_scaled_dot_product_attention(q, all, all, NULL)) < 1e-13);
    fb_tensor *none =
        fb_scaled_dot_product_attention(q, fb_narrow(all, 2, 0, 0), fb_narrow(all, 2, 0, 0), NULL);
    assert_true(fb_item(fb_sum(fb_abs(none), FB_ALL, false)) == 0);
}

/* q, k and v of one tensor's memory, in any order, whose gradients are then made in one piece; a
 * hook holds on to that of k, and q is used once more. */
static fb_tensor *hold(fb_tensor *grad, void *user)
{
    fb_set(user, grad);
    return grad;
}

static fb_tensor *of_parts(fb_tensor *const *part, const int *order, fb_tensor **seen)
{
    fb_tensor *x[3];
    for (int i = 0; i < 3; i++)
        x[i] = by_head(fb_reshape(part[order[i]], FB_SHAPE(2, 21, 3, 8)));
    if (seen)
        fb_hook_grad(x[1], hold, seen);
    fb_tensor *y =
        fb_scaled_dot_product_attention(x[0], x[1], x[2], FB_OPTS(fb_sdpa_options, .causal = true));
    return fb_sum(fb_mul(fb_mul(y, y), x[0]), FB_ALL, false);
}

static void packed_operands_have_the_gradients_of_separate_ones(void **state)
{
    fb_context *ctx = *state;
    const int orders[3][3] = {{0, 1, 2}, {2, 0, 1}, {1, 1, 0}};
    fb_tensor *seen = NULL;
    for (int dim = 0; dim < 3; dim++)
        for (int i = 0; i < 3; i++) {
            FB_SCOPE(ctx);
            fb_shape s = FB_SHAPE(2, 21, 24);
            s.d[dim] *= 3;
            fb_tensor *leaf[2], *part[3], *apart[3];
            fb_tensor *values = fb_randn(ctx, FB_F32, s);
            for (int k = 0; k < 2; k++)
                leaf[k] = fb_requires_grad(fb_mul_scalar(values, 1), true);
            fb_chunk(fb_mul_scalar(leaf[0], 1), 3, dim, part);
            for (int k = 0; k < 3; k++)
                apart[k] =
                    fb_mul_scalar(fb_narrow(leaf[1], dim, k * s.d[dim] / 3, s.d[dim] / 3), 1);
            fb_backward(of_parts(part, orders[i], &seen));
            fb_backward(of_parts(apart, orders[i], NULL));
            assert_true(fb_ok(ctx));
            assert_true(furthest(fb_grad_of(leaf[0]), fb_grad_of(leaf[1])) < 1e-5);
            assert_int_equal(fb_size(seen, 1), 3);
        }
    fb_set(&seen, NULL);
}

static void wrong_calls_are_told_why(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *q = fb_ones(ctx, FB_F32, FB_SHAPE(2, 6, 5, 4));
    fb_tensor *k = fb_ones(ctx, FB_F32, FB_SHAPE(2, 4, 5, 4));
    fb_tensor *m = fb_ones(ctx, FB_F32, FB_SHAPE(5, 7)), *i = fb_ones(ctx, FB_I64, FB_SHAPE(5, 5));
    const struct {
        fb_tensor *k;
        fb_sdpa_options o;
        fb_status status;
        const char *text;
    } wrong[] = {
        {k, {.enable_gqa = true}, FB_E_SHAPE, "attention: the heads of k and v must divide those"},
        {k, {.scale = 1}, FB_E_SHAPE, "[2, 6, 5, 4]"},
        {q, {.mask = m}, FB_E_SHAPE, "[5, 7]"},
        {q, {.mask = i}, FB_E_DTYPE, "attention: a mask of BOOL or F32 wanted, not I64"},
        {q, {.mask = m, .causal = true}, FB_E_ARG, "attention: a mask or causal, not both"},
        {q, {.dropout = -1}, FB_E_ARG, "attention: dropout = -1 is not within 0 .. 1"},
    };
    for (size_t w = 0; w < sizeof wrong / sizeof wrong[0]; w++) {
        assert_null(fb_scaled_dot_product_attention(q, wrong[w].k, wrong[w].k, &wrong[w].o));
        expect_error(ctx, wrong[w].status, wrong[w].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kind_is_what_is_written_out, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(halves_are_rounded_once, open_context, close_context),
        cmocka_unit_test_setup_teardown(long_sequences_go_in_pieces, open_context, close_context),
        cmocka_unit_test_setup_teardown(rows_of_which_nothing_takes_part_are_zeros, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(a_nan_reaches_all_of_its_row_and_no_other, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(leading_dimensions_broadcast, open_context, close_context),
        cmocka_unit_test_setup_teardown(packed_operands_have_the_gradients_of_separate_ones,
                                        open_context, close_context),
        cmocka_unit_test_setup_teardown(wrong_calls_are_told_why, open_context, close_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
