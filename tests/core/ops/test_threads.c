/* Every row on inputs that are large enough for threads: outputs and gradients have the same bits
 * with one, two and three threads. Rows with flag THREAD_BITS in F64 only, which oneDNN leaves to
 * us. */
#include "tests/core/ops/harness_priv.h"

typedef struct large_call {
    fbi_op op;
    int sample;                     /* whose attributes and ranges are taken */
    fb_shape in[FBI_SAMPLE_INPUTS]; /* its inputs' sizes here */
} large_call;

#define REDUCTION(name)          \
    {                            \
        FBI_OP_##name, 1,        \
        {                        \
            FB_SHAPE(30, 70, 40) \
        }                        \
    }
static const large_call larges[] = {
    {FBI_OP_where, 0, {FB_SHAPE(300, 300), FB_SHAPE(300, 300), FB_SHAPE(300, 300)}},
    {FBI_OP_cast, 0, {FB_SHAPE(300, 300)}},
    {FBI_OP_contiguous, 0, {FB_SHAPE(50, 40, 50)}},
    {FBI_OP_copy, 0, {FB_SHAPE(300, 300), FB_SHAPE(300, 300)}},
    {FBI_OP_pad, 2, {FB_SHAPE(30, 40, 50)}},
    {FBI_OP_bernoulli, 0, {FB_SHAPE(300, 300)}},
    {FBI_OP_poisson, 0, {FB_SHAPE(300, 300)}},
    {FBI_OP_gamma, 0, {FB_SHAPE(300, 300)}},
    {FBI_OP_multinomial, 0, {FB_SHAPE(30, 3000)}},
    {FBI_OP_alpha_dropout, 0, {FB_SHAPE(300, 300)}},
    {FBI_OP_index_add, 0, {FB_SHAPE(100, 5, 200), FB_SHAPE(6), FB_SHAPE(100, 6, 200)}},
    {FBI_OP_index_copy, 0, {FB_SHAPE(100, 5, 200), FB_SHAPE(4), FB_SHAPE(100, 4, 200)}},
    {FBI_OP_embedding_bag, 0, {FB_SHAPE(7, 900), FB_SHAPE(100), FB_SHAPE(2), {0}}},
    {FBI_OP_flip, 0, {FB_SHAPE(50, 40, 50)}},
    {FBI_OP_tril, 0, {FB_SHAPE(300, 300)}},
    {FBI_OP_triu, 0, {FB_SHAPE(300, 300)}},
    {FBI_OP_softmax, 1, {FB_SHAPE(900, 100)}},
    {FBI_OP_softmax, 2, {FB_SHAPE(30, 70, 40)}},
    {FBI_OP_log_softmax, 1, {FB_SHAPE(900, 100)}},
    {FBI_OP_log_softmax, 2, {FB_SHAPE(30, 70, 40)}},
    {FBI_OP_matmul, 0, {FB_SHAPE(130, 300), FB_SHAPE(300, 90)}},
    {FBI_OP_matmul, 2, {FB_SHAPE(6, 50, 70), FB_SHAPE(6, 70, 60)}},
    {FBI_OP_linear, 0, {FB_SHAPE(500, 80), FB_SHAPE(90, 80), FB_SHAPE(90)}},
    {FBI_OP_linear_act, 0, {FB_SHAPE(500, 80), FB_SHAPE(90, 80), FB_SHAPE(90)}},
    {FBI_OP_linear_act, 1, {FB_SHAPE(500, 80), FB_SHAPE(90, 80), FB_SHAPE(90)}},
    {FBI_OP_cholesky, 1, {FB_SHAPE(40, 30, 30)}},
    {FBI_OP_solve_triangular, 0, {FB_SHAPE(40, 30, 30), FB_SHAPE(40, 30, 7)}},
    {FBI_OP_solve, 1, {FB_SHAPE(40, 30, 30), FB_SHAPE(40, 30, 7)}},
    {FBI_OP_inv, 0, {FB_SHAPE(40, 30, 30)}},
    {FBI_OP_det, 0, {FB_SHAPE(40, 30, 30)}},
    {FBI_OP_slogdet, 0, {FB_SHAPE(40, 30, 30)}},
    {FBI_OP_qr, 1, {FB_SHAPE(40, 30, 30)}},
    {FBI_OP_eigh, 1, {FB_SHAPE(40, 30, 30)}},
    {FBI_OP_svd, 1, {FB_SHAPE(40, 30, 30)}},
    {FBI_OP_lu_factor, 1, {FB_SHAPE(40, 30, 30)}},
    {FBI_OP_pinv, 1, {FB_SHAPE(40, 30, 30)}},
    REDUCTION(sum),
    {FBI_OP_sum, 0, {FB_SHAPE(100001)}},
    REDUCTION(mean),
    REDUCTION(var),
    {FBI_OP_var, 0, {FB_SHAPE(100001)}},
    REDUCTION(amax),
    REDUCTION(amin),
    REDUCTION(any),
    REDUCTION(all),
    REDUCTION(max_dim),
    REDUCTION(min_dim),
    REDUCTION(argmax),
    REDUCTION(argmin),
    REDUCTION(prod),
    REDUCTION(cumsum),
    REDUCTION(cumprod),
    REDUCTION(logcumsumexp),
    REDUCTION(cummax),
    REDUCTION(cummin),
    {FBI_OP_sort, 2, {FB_SHAPE(30, 70, 40)}},
    {FBI_OP_searchsorted, 0, {FB_SHAPE(4), FB_SHAPE(300, 300)}},
    {FBI_OP_cross_entropy, 0, {FB_SHAPE(9000, 7), FB_SHAPE(9000)}},
    {FBI_OP_ctc_loss, 2, {FB_SHAPE(7, 2000, 4), FB_SHAPE(2000, 3), FB_SHAPE(2000), FB_SHAPE(2000)}},
    {FBI_OP_mse_loss, 0, {FB_SHAPE(300, 300), FB_SHAPE(300, 300)}},
    {FBI_OP_embedding, 0, {FB_SHAPE(5, 900), FB_SHAPE(50, 2)}},
    {FBI_OP_index_select, 0, {FB_SHAPE(100, 4, 200), FB_SHAPE(6)}},
    {FBI_OP_gather, 0, {FB_SHAPE(20000, 4), FB_SHAPE(20000, 3)}},
    {FBI_OP_cat, 0, {FB_SHAPE(200, 30, 20), FB_SHAPE(200, 10, 20), FB_SHAPE(200, 40, 20)}},
    {FBI_OP_conv2d, 1, {FB_SHAPE(4, 8, 40, 40), FB_SHAPE(8, 8, 3, 3), FB_SHAPE(8)}},
    {FBI_OP_im2col, 0, {FB_SHAPE(2, 8, 40, 41)}},
    {FBI_OP_fold, 0, {FB_SHAPE(600, 12, 8)}},
    {FBI_OP_conv2d_relu, 1, {FB_SHAPE(4, 8, 40, 40), FB_SHAPE(8, 8, 3, 3), FB_SHAPE(8)}},
    {FBI_OP_max_pool3d, 1, {FB_SHAPE(4, 6, 10, 20, 20)}},
    {FBI_OP_adaptive_max_pool3d, 1, {FB_SHAPE(4, 6, 10, 20, 20)}},
    {FBI_OP_fractional_max_pool3d, 0, {FB_SHAPE(4, 6, 10, 20, 20), FB_SHAPE(4, 6, 3)}},
    {FBI_OP_avg_pool3d, 1, {FB_SHAPE(4, 6, 10, 20, 20)}},
    {FBI_OP_adaptive_avg_pool3d, 1, {FB_SHAPE(4, 6, 10, 20, 20)}},
    {FBI_OP_resample, 4, {FB_SHAPE(60, 50, 30)}},
    {FBI_OP_batch_norm, 0, {FB_SHAPE(16, 8, 20, 20), FB_SHAPE(8), FB_SHAPE(8)}},
    {FBI_OP_batch_norm_relu,
     0,
     {FB_SHAPE(16, 40, 20, 20), FB_SHAPE(40), FB_SHAPE(40), FB_SHAPE(16, 40, 20, 20)}},
    {FBI_OP_batch_norm_relu, 1, {FB_SHAPE(16, 8, 20, 20), FB_SHAPE(8), FB_SHAPE(8)}},
    {FBI_OP_layer_norm, 0, {FB_SHAPE(700, 100), FB_SHAPE(100), FB_SHAPE(100)}},
    {FBI_OP_add_layer_norm,
     0,
     {FB_SHAPE(700, 100), FB_SHAPE(100), FB_SHAPE(100), FB_SHAPE(700, 100)}},
    {FBI_OP_dropout, 0, {FB_SHAPE(300, 300)}},
    {FBI_OP_attention, 0, {FB_SHAPE(8, 70, 32), FB_SHAPE(8, 70, 32), FB_SHAPE(8, 70, 32)}},
    {FBI_OP_attention, 1, {FB_SHAPE(8, 70, 32), FB_SHAPE(8, 70, 32), FB_SHAPE(8, 70, 32)}},
    {FBI_OP_recurrence,
     6,
     {FB_SHAPE(9, 40, 96), FB_SHAPE(40, 24), FB_SHAPE(40, 24), FB_SHAPE(96), FB_SHAPE(96, 24)}},
    {FBI_OP_recurrence,
     9,
     {FB_SHAPE(9, 40, 72), FB_SHAPE(40, 24), FB_SHAPE(40, 24), FB_SHAPE(72), FB_SHAPE(72, 24)}},
    {FBI_OP_masked_softmax, 0, {FB_SHAPE(4, 150, 120), FB_SHAPE(4, 150, 120)}},
    {FBI_OP_masked_softmax, 1, {FB_SHAPE(4, 150, 120)}},
};
enum { LARGES = sizeof larges / sizeof larges[0], CONTEXTS = 3 };

static void same_bits(fb_context *const *ctx, const row_call *r, fb_dtype dtype)
{
    harness_results res[CONTEXTS];
    for (int t = 0; t < CONTEXTS; t++) {
        row_call mine = {r->op, r->sample, ctx[t]};
        FB_SCOPE(ctx[t]);
        fb_tensor *in[FBI_SAMPLE_INPUTS] = {0};
        harness_inputs(ctx[t], r->sample, dtype, in);
        harness_mark(r, dtype, in);
        harness_run(ctx[t], &mine, in, false, NULL, &res[t]);
    }
    for (int t = 1; t < CONTEXTS; t++)
        harness_compare(r, &res[t], &res[0], (harness_tolerance){0, 0, 0, 0});
    for (int t = 0; t < CONTEXTS; t++)
        harness_free(&res[t]);
}

/* Samples of the row in `all`; false: the row is not public, a view, which has no kernel, or has
 * its size among its attributes. */
static bool samples_of(fbi_op op, fbi_samples *all)
{
    const fbi_opdef *d = &fbi_opdefs[op];
    bool missing = (d->flags & FBI_LAPACK) && !fbi_cpu_has_lapack();
    if (!d->sample || (d->flags & FBI_VIEW) || d->n_in == 0 || missing)
        return false;
    memset(all, 0, sizeof *all);
    all->op = d;
    d->sample(all);
    return true;
}

/* The call of the table, or the n-th large one of a pointwise row; false: there is none. */
static bool enlarged(const fbi_samples *all, int n, fbi_sample *out)
{
    if (all->op->flags & FBI_POINTWISE) {
        *out = all->s[0];
        for (int i = 0; i < out->n_in; i++)
            out->in[i].shape = FB_SHAPE(100001);
        return n == 0;
    }
    for (int k = 0; k < LARGES; k++)
        if (larges[k].op == all->op->op && n-- == 0) {
            *out = all->s[larges[k].sample];
            assert_int_equal(out->status, FB_OK);
            for (int i = 0; i < out->n_in; i++)
                out->in[i].shape = larges[k].in[i];
            return true;
        }
    return false;
}

static void threads_do_not_show_in_the_bits_of_any_row(void **state)
{
    static fbi_samples all;
    static fbi_sample large;
    fb_context *ctx[CONTEXTS];
    (void)state;
    for (int t = 0; t < CONTEXTS; t++)
        ctx[t] = fb_context_open(&(fb_context_options){.threads = t + 1});
    for (int k = 0; k < FBI_OP_COUNT; k++) {
        if (!samples_of((fbi_op)k, &all))
            continue;
        int n = 0;
        for (; enlarged(&all, n, &large); n++) {
            row_call r = {all.op, &large, NULL};
            same_bits(ctx, &r, FB_F64);
            if (!(all.op->flags & FBI_THREAD_BITS))
                same_bits(ctx, &r, FB_F32);
        }
        if (!n && !all.op->compose)
            fail_msg("%s: the table has no large call of it", all.op->name);
    }
    for (int t = 0; t < CONTEXTS; t++)
        assert_int_equal(fb_context_close(ctx[t]), FB_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_do_not_show_in_the_bits_of_any_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
