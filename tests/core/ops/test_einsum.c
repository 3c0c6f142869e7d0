/* einsum against one loop over all subscripts, in double; products against matmul. */
#include "ops_test_priv.h"

#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/linalg.h>
#include <flambeau/core/ops/reduce.h>

enum { MOST = 4, ELEMENTS = 400 };

typedef struct sum {
    const char *in[MOST], *out; /* subscripts without an ellipsis */
    const char *equation;
    int n;
} sum;

static int64_t size_of(char letter)
{
    return 2 + letter % 3;
}

static fb_shape shape_of(const char *subscripts)
{
    fb_shape s = {0};
    for (; *subscripts; subscripts++)
        s.d[s.n++] = size_of(*subscripts);
    return s;
}

/* Row-major place of the element that the values of the letters name. */
static int64_t place(const char *subscripts, const int64_t *at)
{
    int64_t p = 0;
    for (; *subscripts; subscripts++)
        p = p * size_of(*subscripts) + at[(int)*subscripts];
    return p;
}

/* want[out] += product of all, over every value of every letter. */
static void plain(const sum *e, float x[MOST][ELEMENTS], double *want)
{
    char letters[64] = "";
    int64_t at[128] = {0}, total = 1;
    for (int i = 0; i < e->n; i++)
        for (const char *p = e->in[i]; *p; p++)
            if (!strchr(letters, *p)) {
                strncat(letters, p, 1);
                total *= size_of(*p);
            }
    for (int64_t k = 0; k < total; k++) {
        int64_t rest = k;
        double product = 1;
        for (const char *p = letters; *p; p++) {
            at[(int)*p] = rest % size_of(*p);
            rest /= size_of(*p);
        }
        for (int i = 0; i < e->n; i++)
            product *= (double)x[i][place(e->in[i], at)];
        want[place(e->out, at)] += product;
    }
}

static void check(fb_context *ctx, const sum *e)
{
    FB_SCOPE(ctx);
    static float x[MOST][ELEMENTS];
    double want[ELEMENTS] = {0};
    fb_tensor *in[MOST];
    for (int i = 0; i < e->n; i++) {
        fill(x[i], ELEMENTS, -1, 1.0f + (float)i);
        in[i] = fb_from(ctx, FB_F32, shape_of(e->in[i]), x[i]);
    }
    plain(e, x, want);
    fb_tensor *y = fb_einsum(e->equation, (fb_tensors){in, e->n});
    if (!y)
        fail_msg("%s: refused", e->equation);
    assert_true(fb_shape_equal(fb_shape_of(y), shape_of(e->out)));
    expect_values(y, want, fb_numel(y), 1e-4);
}

static void einsum_is_the_sum_over_all_subscripts(void **state)
{
    const sum sums[] = {
        {{"ij", "jk"}, "ik", "ij,jk->ik", 2},
        {{"ij", "jk"}, "ik", "ij,jk", 2},
        {{"ij", "jk"}, "ki", " i j , j k -> k i ", 2},
        {{"ba", "cb"}, "ac", "ba,cb", 2},
        {{"ii"}, "i", "ii->i", 1},
        {{"ii"}, "", "ii", 1},
        {{"iji"}, "ji", "iji->ji", 1},
        {{"ijk"}, "kj", "ijk->kj", 1},
        {{"bij", "bjk"}, "bik", "bij,bjk->bik", 2},
        {{"bij", "bjk"}, "kb", "bij,bjk->kb", 2},
        {{"i", "j"}, "ji", "i,j->ji", 2},
        {{"i", "i"}, "i", "i,i->i", 2},
        {{"i", "i"}, "", "i,i", 2},
        {{"ij", "jk", "kl"}, "il", "ij,jk,kl->il", 3},
        {{"ij", "kl", "jk", "l"}, "i", "ij,kl,jk,l->i", 4},
        {{"aB", "Bc"}, "ac", "aB,Bc", 2},
        {{"abij", "abjk"}, "abik", "...ij,...jk->...ik", 2},
        {{"abij", "bjk"}, "abik", "...ij,...jk", 2},
        {{"abi"}, "ab", "...i->...", 1},
        {{"abi"}, "i", "...i->i", 1},
    };
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++)
        check(*state, &sums[i]);
}

static void a_size_of_one_goes_with_any(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    const float a[3] = {1, 2, 3}, b[2] = {10, 20};
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(3, 1), a);
    fb_tensor *y = fb_from(ctx, FB_F32, FB_SHAPE(2), b);
    const double want[3] = {30, 60, 90};
    expect_values(fb_einsum("ij,j->i", FB_TENSORS(x, y)), want, 3, 0);
}

static void mistakes_in_an_equation_are_named(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    float zero[12] = {0};
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(3, 4), zero);
    const struct {
        const char *equation, *message;
        fb_status status;
    } bad[] = {
        {"ij", "einsum: \"ij\": fewer lists of subscripts than operands", FB_E_ARG},
        {"ij,ij,ij", "more lists of subscripts than operands", FB_E_ARG},
        {"ij,i?", "\"?\" is no letter, one \"...\", comma or \"->\"", FB_E_ARG},
        {"ij,i....", "\".\" is no letter", FB_E_ARG},
        {"...i,...i...", "\".\" is no letter", FB_E_ARG},
        {"ij,ij->k", "\"k\" of the result is in no operand", FB_E_ARG},
        {"ij,ij->ii", "\"i\" is twice in the result", FB_E_ARG},
        {"ij,ij->i->j", "\"->\" and one result belong at its end", FB_E_ARG},
        {"ij,ij->i,j", "\"->\" and one result belong at its end", FB_E_ARG},
        {"ij,ji", "dimension 0 of operand 1 [3, 4] is not 4", FB_E_SHAPE},
        {"ij,ijk", "3 subscripts for operand 1 [3, 4]", FB_E_SHAPE},
        {"ij,i", "1 subscripts for operand 1 [3, 4]", FB_E_SHAPE},
        {"abcdefghijk,ij", "more than 8 subscripts", FB_E_ARG},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_null(fb_einsum(bad[i].equation, FB_TENSORS(x, x)));
        expect_error(ctx, bad[i].status, bad[i].message);
    }
    assert_null(fb_einsum("ij,ij", FB_TENSORS(x, NULL)));
    expect_error(ctx, FB_E_ARG, "einsum: an operand is NULL");
    assert_null(fb_einsum("ij,ij", FB_TENSORS(x, fb_to(x, FB_F64))));
    expect_error(ctx, FB_E_DTYPE, "einsum: input 1 is F64; needs F32");
    fb_tensor *wide = fb_from(ctx, FB_F32, FB_SHAPE(1, 1, 1, 1, 1), zero);
    assert_null(fb_einsum("abcde,fghij", FB_TENSORS(wide, wide)));
    expect_error(ctx, FB_E_ARG, "more than 8 dimensions of the result");
}

static void a_beta_of_zero_hides_the_input(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    const float nan[4] = {NAN, NAN, NAN, NAN}, a[4] = {1, 2, 3, 4};
    fb_tensor *input = fb_requires_grad(fb_from(ctx, FB_F32, FB_SHAPE(2, 2), nan), true);
    fb_tensor *x = fb_from(ctx, FB_F32, FB_SHAPE(2, 2), a);
    const double want[4] = {14, 20, 30, 44}, none[4] = {0};
    fb_tensor *y = fb_addmm(input, x, x, 0, 2);
    expect_values(y, want, 4, 0);
    assert_int_equal(fb_backward(fb_sum(y, FB_ALL, false)), FB_OK);
    expect_values(fb_grad_of(input), none, 4, 0);
}

static void a_chain_is_multiplied_in_any_number(void **state)
{
    fb_context *ctx = *state;
    FB_SCOPE(ctx);
    fb_tensor *t[5];
    const int64_t sizes[6] = {3, 7, 2, 9, 4, 5};
    static float x[5][63];
    for (int i = 0; i < 5; i++) {
        fill(x[i], 63, -1, 1.0f + (float)i);
        t[i] = fb_from(ctx, FB_F32, FB_SHAPE(sizes[i], sizes[i + 1]), x[i]);
    }
    for (int n = 2; n <= 5; n++) {
        fb_tensor *plain_product = fb_to(t[0], FB_F64);
        for (int i = 1; i < n; i++)
            plain_product = fb_matmul(plain_product, fb_to(t[i], FB_F64));
        double want[15 * 3];
        assert_int_equal(
            fb_read(plain_product, want, (size_t)fb_numel(plain_product) * sizeof(double)), FB_OK);
        expect_values(fb_multi_dot((fb_tensors){t, n}), want, fb_numel(plain_product), 1e-4);
    }
    assert_null(fb_multi_dot((fb_tensors){t, 1}));
    expect_error(ctx, FB_E_ARG, "multi_dot: 1 factors; 2 .. 32 are taken");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(einsum_is_the_sum_over_all_subscripts),
        cmocka_unit_test(a_size_of_one_goes_with_any),
        cmocka_unit_test(mistakes_in_an_equation_are_named),
        cmocka_unit_test(a_beta_of_zero_hides_the_input),
        cmocka_unit_test(a_chain_is_multiplied_in_any_number),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
