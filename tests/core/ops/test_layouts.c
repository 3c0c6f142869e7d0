/* Every row with inputs that are not row-major: transposed, sliced, broadcast, empty; outputs and
 * gradients are those of row-major copies of the same values. */
#include "tests/core/ops/harness_priv.h"

#include <flambeau/core/ops/join.h>

/* Same values, reversed order of dimensions in memory. */
static fb_tensor *transposed(fb_tensor *t)
{
    fb_shape back = {.n = fb_ndim(t)};
    for (int i = 0; i < back.n; i++)
        back.d[i] = back.n - 1 - i;
    return fb_permute(fb_clone(fb_permute(t, back)), back);
}

/* Same values, from the middle of a larger tensor in every dimension. */
static fb_tensor *sliced(fb_tensor *t)
{
    for (int d = 0; d < fb_ndim(t); d++) {
        int64_t n = fb_size(t, d);
        fb_tensor *three[3] = {t, t, t};
        t = fb_narrow(fb_cat((fb_tensors){three, 3}, d), d, n, n);
    }
    return t;
}

/* The first slice of each dimension in turn, repeated with stride 0: other values. */
static fb_tensor *broadcast(fb_tensor *t)
{
    fb_shape s = fb_shape_of(t);
    for (int d = 0; d < s.n; d++)
        t = s.d[d] ? fb_narrow(t, d, 0, 1) : t;
    return fb_expand(t, s);
}

static fb_tensor *half_broadcast(fb_tensor *t)
{
    return fb_ndim(t) && fb_size(t, 0) ? fb_expand(fb_narrow(t, 0, 0, 1), fb_shape_of(t)) : t;
}

static harness_layout layout_of_pass;
static fb_dtype dtype_of_pass;

/* The same values, row-major. */
static fb_tensor *flat(fb_tensor *t)
{
    return fb_clone(layout_of_pass(t));
}

static void run_in(fb_context *ctx, const row_call *r, harness_layout layout, harness_results *res)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0};
    harness_inputs(ctx, r->sample, dtype_of_pass, in);
    for (int i = 0; i < r->sample->n_in; i++)
        in[i] = in[i] ? fb_detach(layout(in[i])) : NULL;
    harness_mark(r, dtype_of_pass, in);
    harness_run(ctx, r, in, false, layout, res);
}

static void same_in_layout(fb_context *ctx, const row_call *r)
{
    /* views of memory as it lies there: fb_reshape copies where there is none */
    if (r->op->op == FBI_OP_reshape || r->op->op == FBI_OP_as_strided)
        return;
    /* LAPACK has no BF16, and matrices of equal rows are singular */
    bool repeats = layout_of_pass == broadcast || layout_of_pass == half_broadcast;
    if ((r->op->flags & FBI_LAPACK) && (repeats || dtype_of_pass == FB_BF16))
        return;
    harness_results odd, plain;
    run_in(ctx, r, layout_of_pass, &odd);
    run_in(ctx, r, flat, &plain);
    double tol = dtype_of_pass == FB_F64 ? 1e-9 : 0x1p-7;
    harness_compare(r, &odd, &plain, (harness_tolerance){tol, tol, tol, tol});
    harness_free(&odd);
    harness_free(&plain);
}

static void in_layout(void **state, harness_layout layout)
{
    static const fb_dtype dtypes[] = {FB_F64, FB_BF16};
    layout_of_pass = layout;
    for (int i = 0; i < 2; i++) {
        dtype_of_pass = dtypes[i];
        harness_for_each(*state, true, same_in_layout);
    }
}

static void every_row_takes_transposed_inputs(void **state)
{
    in_layout(state, transposed);
}

static void every_row_takes_slices(void **state)
{
    in_layout(state, sliced);
}

static void every_row_takes_broadcast_inputs(void **state)
{
    in_layout(state, half_broadcast);
    in_layout(state, broadcast);
}

/* --- nothing --- */

static void runs_or_says_why(fb_context *ctx, const fbi_opdef *op, const fbi_sample *sample)
{
    FB_SCOPE(ctx);
    row_call r = {op, sample, ctx};
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0}, *out[HARNESS_OUT] = {0};
    char msg[1024];
    harness_inputs(ctx, sample, FB_F64, in);
    harness_mark(&r, FB_F64, in);
    fb_status st = harness_call(&r, (fb_tensors){in, sample->n_in}, out);
    if (st) {
        fb_status taken = fb_error_take(ctx, msg, sizeof msg);
        if (taken != st)
            fail_msg("%s: returned %s, recorded %s", op->name, fb_status_name(st),
                     fb_status_name(taken));
        if (strncmp(msg, op->name, strlen(op->name)))
            fail_msg("%s: the message is \"%s\"", op->name, msg);
        return;
    }
    harness_results res;
    harness_run(ctx, &r, in, false, NULL, &res);
    for (int i = 0; i < sample->n_in; i++)
        if (res.at[HARNESS_OUT + i].v && res.at[HARNESS_OUT + i].n != fb_numel(in[i]))
            fail_msg("%s: gradient %d has %lld elements, the input %lld", op->name, i,
                     (long long)res.at[HARNESS_OUT + i].n, (long long)fb_numel(in[i]));
    harness_free(&res);
    harness_run(ctx, &r, in, true, NULL, &res);
    harness_free(&res);
}

static void empty_inputs(fb_context *ctx, const row_call *r)
{
    for (int which = 0; which < 4; which++) { /* first or last size; of input 0 or of all */
        fbi_sample empty = *r->sample;
        for (int i = 0; i < (which & 1 ? empty.n_in : 1); i++) {
            fb_shape *s = &empty.in[i].shape;
            if (s->n)
                s->d[which & 2 ? s->n - 1 : 0] = 0;
        }
        runs_or_says_why(ctx, r->op, &empty);
    }
}

static void every_row_takes_nothing_or_says_why_not(void **state)
{
    harness_for_each(*state, true, empty_inputs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_row_takes_transposed_inputs, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(every_row_takes_slices, open_context, close_context),
        cmocka_unit_test_setup_teardown(every_row_takes_broadcast_inputs, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(every_row_takes_nothing_or_says_why_not, open_context,
                                        close_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
