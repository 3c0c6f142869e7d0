/* Every row in F16 and BF16 against the same row in F64 on the same (rounded) values: outputs are
 * rounded once, so they lie within half a unit of the last place. */
#include "tests/core/ops/harness_priv.h"

static fb_dtype narrow; /* of this pass over the table */

/* The same values in F64; tensors of other dtypes stay. */
static void widened(fb_tensor **in, int n, fb_tensor **wide)
{
    for (int i = 0; i < n; i++)
        wide[i] = in[i] && fb_dtype_of(in[i]) == narrow ? fb_to(in[i], FB_F64) : in[i];
}

static double largest(const harness_results *r, int first, int end)
{
    double most = 0;
    for (int k = first; k < end; k++)
        for (int64_t i = 0; i < r->at[k].n; i++)
            most = fabs(r->at[k].v[i]) > most ? fabs(r->at[k].v[i]) : most;
    return most;
}

/* A card's attention rounds its weights, too, as that of cuDNN does: an error of the size of v. */
static bool rounds_inside(fb_context *ctx, fbi_op op)
{
    return op == FBI_OP_attention && strcmp(fb_context_device(ctx), "cpu") != 0;
}

static void half_against_double(fb_context *ctx, const row_call *r)
{
    fb_tensor *in[FBI_SAMPLE_INPUTS] = {0}, *wide[FBI_SAMPLE_INPUTS] = {0};
    if (r->op->op == FBI_OP_cast || r->op->op == FBI_OP_float_power || r->sample->n_in == 0)
        return;                      /* these say themselves what they give */
    if (r->op->flags & FBI_LAPACK) { /* as PyTorch */
        fb_tensor *out[HARNESS_OUT];
        harness_inputs(ctx, r->sample, narrow, in);
        if (harness_call((void *)(uintptr_t)r, (fb_tensors){in, r->sample->n_in}, out))
            expect_error(ctx, FB_E_DTYPE, "; needs F32 or F64");
        else
            assert_int_equal(r->op->op, FBI_OP_matrix_power); /* not all need LAPACK */
        return;
    }
    harness_results half, want, linked;
    harness_inputs(ctx, r->sample, narrow, in);
    widened(in, r->sample->n_in, wide);
    bool grads = harness_mark(r, narrow, in);
    if (grads)
        harness_mark(r, FB_F64, wide);
    harness_run(ctx, r, in, false, NULL, &half);
    harness_run(ctx, r, wide, false, NULL, &want);
    double unit = narrow == FB_BF16 ? 0x1p-8 : 0x1p-11; /* of the last place of 1, halved */
    double most = largest(&want, HARNESS_OUT, HARNESS_RESULTS);
    /* gradients are of outputs that were rounded when saved */
    harness_tolerance tol = {unit * 1.01, 1e-5, 8 * unit, 8 * unit * (1 + most)};
    if (rounds_inside(ctx, r->op->op))
        tol.out_a = 3 * unit;
    harness_compare(r, &half, &want, tol);
    for (int k = 0; k < HARNESS_RESULTS; k++)
        if (half.at[k].v && want.at[k].dtype == FB_F64 && half.at[k].dtype != narrow &&
            !(half.at[k].dtype == FB_F32 && k > 0 && k < HARNESS_OUT)) /* statistics */
            fail_msg("%s: result %d is %s", r->op->name, k, fb_dtype_name(half.at[k].dtype));
    if (grads) {
        harness_run(ctx, r, in, true, NULL, &linked);
        harness_compare(r, &linked, &want, tol);
        harness_free(&linked);
    }
    harness_free(&half);
    harness_free(&want);
}

static void every_row_is_rounded_once_in_bf16(void **state)
{
    narrow = FB_BF16;
    harness_for_each(*state, true, half_against_double);
}

static void every_row_is_rounded_once_in_f16(void **state)
{
    narrow = FB_F16;
    harness_for_each(*state, true, half_against_double);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_row_is_rounded_once_in_bf16, open_context,
                                        close_context),
        cmocka_unit_test_setup_teardown(every_row_is_rounded_once_in_f16, open_context,
                                        close_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
