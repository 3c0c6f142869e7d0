/* infer, backward and samples of the pointwise rows. */
#include <math.h>

#include "core/autograd/pass_priv.h"
#include "core/ops/call_priv.h"
#include "core/ops/pointwise_priv.h"
#include "core/ops/sample_priv.h"

/* Whether the row has an integer form, which keeps the dtype (of one BOOL it makes I64); else
 * integers give F32. */
static bool fbi_keeps_integers(const fbi_opdef *d)
{
    static const bool kept[FBI_OP_COUNT] = {
#define UNARY_INT(name, f) [FBI_OP_##name] = true,
#define BINARY_INT         UNARY_INT
#define BITS               UNARY_INT
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"
    };
    return kept[d->op];
}

static bool no_alpha(const fbi_attrs_scalars *s)
{
    return s->a == 0;
}
static bool below_zero(const fbi_attrs_scalars *s)
{
    return !(s->a >= 0);
}
static bool no_order(const fbi_attrs_scalars *s)
{
    return !(s->a >= 0 && s->a <= 100 && floor(s->a) == s->a);
}
static bool crossed(const fbi_attrs_scalars *s)
{
    return s->a > s->b;
}

/* The rule that a row's scalars break, or NULL. */
static const char *fbi_refused(const fbi_call *c)
{
    static const struct {
        fbi_op op;
        bool (*refused)(const fbi_attrs_scalars *s);
        const char *rule;
    } rules[] = {
        {FBI_OP_celu, no_alpha, "alpha cannot be 0"},
        {FBI_OP_softshrink, below_zero, "lambda cannot be below 0"},
        {FBI_OP_polygamma, no_order, "the order is an integer from 0 to 100"},
        {FBI_OP_hardtanh, crossed, "the lower limit cannot be above the upper one"},
    };
    const fbi_attrs_scalars *s = c->attrs;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].op == c->op->op && rules[i].refused(s))
            return rules[i].rule;
    return NULL;
}

fb_status fbi_infer_unary(fbi_call *c)
{
    fb_dtype d = (fb_dtype)c->in[0]->dtype;
    const fbi_attrs_scalars *s = c->op->n_attrs ? c->attrs : NULL;
    if (s && fbi_refused(c))
        return fbi_op_fail(c, FB_E_ARG, "scalars %g and %g: %s", s->a, s->b, fbi_refused(c));
    if (!fb_dtype_is_float(d)) {
        bool keeps = d != FB_BOOL || c->op->op == FBI_OP_sign;
        d = !fbi_keeps_integers(c->op) ? FB_F32 : keeps ? d : FB_I64;
    }
    return fbi_out_like(c, 0, d, c->in[0]);
}

/* Of two operands, the one whose layout the result takes. */
static const fb_tensor *fbi_layout(const fbi_call *c)
{
    const fb_tensor *first = c->in[0];
    return fbi_contiguous(first) || fbi_dense(first) ? first : c->in[1];
}

fb_status fbi_infer_binary(fbi_call *c)
{
    fb_dtype d = (fb_dtype)c->in[0]->dtype;
    if (!fb_dtype_is_float(d)) {
        d = fbi_keeps_integers(c->op) ? d : FB_F32;
        bool numbers = c->op->op == FBI_OP_sub || c->op->op == FBI_OP_pow ||
                       c->op->op == FBI_OP_fmod || c->op->op == FBI_OP_remainder ||
                       c->op->op == FBI_OP_floor_divide;
        fb_status st = d == FB_BOOL && numbers ? fbi_need_numbers(c, 0) : FB_OK;
        if (st)
            return st;
    }
    return fbi_out_like(c, 0, d, fbi_layout(c));
}

fb_status fbi_infer_compare(fbi_call *c)
{
    return fbi_out_like(c, 0, FB_BOOL, fbi_layout(c));
}

fb_status fbi_infer_predicate(fbi_call *c)
{
    return fbi_out_like(c, 0, FB_BOOL, c->in[0]);
}

/* BOOL goes through the logical ones only. */
fb_status fbi_infer_bits(fbi_call *c)
{
    fb_dtype d = (fb_dtype)c->in[0]->dtype;
    bool logical = c->op->op == FBI_OP_bitwise_and || c->op->op == FBI_OP_bitwise_or ||
                   c->op->op == FBI_OP_bitwise_xor;
    if (fb_dtype_is_float(d))
        return fbi_op_fail(c, FB_E_DTYPE, "the operands are %s; needs integers%s", fb_dtype_name(d),
                           logical ? " or BOOL" : "");
    fb_status st = logical ? FB_OK : fbi_need_numbers(c, 0);
    return st ? st : fbi_out_like(c, 0, d, fbi_layout(c));
}

/* The rows follow each other: name, name_bwd, name_bwd2. */
fb_status fbi_bwd_ops_unary(fbi_bw *bw)
{
    fbi_op bwd = (fbi_op)(bw->op->op + 1);
    fb_tensor *s = bw->op->saves & FBI_IN0 ? fbi_bw_in(bw, 0)
                   : bw->op->saves         ? fbi_bw_out(bw, 0)
                                           : NULL;
    if (bw->op->saves && !s)
        return bw->ctx->status;
    fb_tensor *in[2] = {bw->grad[0], s};
    return fbi_bw_apply(bw, 0, bwd, bw->attrs, 2, in);
}

fb_status fbi_bwd_ops_unary_bwd(fbi_bw *bw)
{
    fbi_op bwd = bw->op->op, bwd2 = (fbi_op)(bw->op->op + 1);
    bool has_s = fbi_opdefs[bwd - 1].saves != 0;
    fb_tensor *gg = bw->grad[0], *s = has_s ? fbi_bw_in(bw, 1) : NULL;
    if (has_s && !s)
        return bw->ctx->status;
    if (fbi_bw_needs(bw, 0)) {
        fb_status st =
            fbi_bw_give(bw, 0, fbi_run1(bw->ctx->site, bwd, bw->attrs, 2, (fb_tensor *[]){gg, s}));
        if (st)
            return st;
    }
    if (!fbi_bw_needs(bw, 1))
        return FB_OK;
    fb_tensor *p = FBI_RUN(mul, NULL, gg, fbi_bw_in(bw, 0));
    return fbi_bw_give(bw, 1, fbi_run1(bw->ctx->site, bwd2, bw->attrs, 2, (fb_tensor *[]){p, s}));
}

static fb_status fbi_no_third(fbi_bw *bw, fbi_op op)
{
    return fbi_fail(bw->ctx, FB_E_UNSUPPORTED, "%s: its third derivative is not available",
                    fbi_opdefs[op].name);
}

fb_status fbi_bwd_ops_unary_bwd2(fbi_bw *bw)
{
    if (fbi_bw_needs(bw, 1))
        return fbi_no_third(bw, (fbi_op)(bw->op->op - 2));
    return fbi_bw_give(bw, 0,
                       fbi_run1(bw->ctx->site, bw->op->op, bw->attrs, 2,
                                (fb_tensor *[]){bw->grad[0], fbi_bw_in(bw, 1)}));
}

/* One kernel makes both gradients. */
static bool fbi_makes_both(const fbi_bw *bw, fb_tensor *const in[3])
{
    bool both = fbi_has_kernel(bw->ctx, FBI_OP_mul_bwd) &&
                (in[0]->dtype == FB_F32 || in[0]->dtype == FB_F64);
    for (int i = 0; i < 3 && both; i++)
        both = in[i]->dtype == in[0]->dtype && fbi_contiguous(in[i]);
    return both;
}

fb_status fbi_infer_mul_bwd(fbi_call *c)
{
    fb_status st = FB_OK;
    for (int i = 0; i < 2 && !st; i++) {
        if (c->out[i] && !fbi_contiguous(c->out[i]))
            c->out[i] = NULL; /* the kernel writes row by row */
        st = fbi_out(c, i, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[0]));
    }
    return st;
}

static fb_status fbi_bwd_mul(fbi_bw *bw)
{
    fb_tensor *in[3] = {bw->grad[0]}; /* and the operands of which a gradient reads */
    for (int i = 0; i < 2; i++)
        if (fbi_bw_needs(bw, 1 - i) && !(in[1 + i] = fbi_bw_in(bw, i)))
            return bw->ctx->status;
    if (in[1] && in[2] && !bw->linked && fbi_makes_both(bw, in))
        return fbi_bw_run_pair(bw, 0, 1, FBI_OP_mul_bwd, in, 3);
    for (int i = 0; i < 2; i++) {
        fb_status st = fbi_bw_apply(bw, i, FBI_OP_mul, NULL, 2, (fb_tensor *[]){in[0], in[2 - i]});
        if (st)
            return st;
    }
    return FB_OK;
}

/* The rows follow each other: name, _ga, _gb, _gaa, _gab, _gbb. */
fb_status fbi_bwd_ops_binary(fbi_bw *bw)
{
    fbi_op op = bw->op->op;
    fb_tensor *g = bw->grad[0];
    if (op == FBI_OP_mul)
        return fbi_bwd_mul(bw);
    if (op == FBI_OP_add || op == FBI_OP_sub) {
        fb_status st = fbi_bw_give(bw, 0, g);
        if (st || !fbi_bw_needs(bw, 1))
            return st;
        return fbi_bw_give(bw, 1, op == FBI_OP_add ? g : FBI_RUN(neg, NULL, g));
    }
    fb_tensor *a = fbi_bw_in(bw, 0), *b = fbi_bw_in(bw, 1);
    if (!a || !b)
        return bw->ctx->status;
    for (int i = 0; i < 2; i++) {
        if (!fbi_bw_needs(bw, i))
            continue;
        fb_tensor *in[3] = {g, a, b};
        fb_status st = fbi_bw_apply(bw, i, (fbi_op)((int)op + 1 + i), NULL, 3, in);
        if (st)
            return st;
    }
    return FB_OK;
}

fb_status fbi_bwd_ops_binary_g(fbi_bw *bw)
{
    fbi_op op = bw->op->op, row = op;
    while (fbi_opdefs[row].infer != fbi_infer_binary)
        row = (fbi_op)(row - 1);
    int which = (int)(op - row) - 1; /* 0: ga, 1: gb */
    fb_tensor *gg = bw->grad[0], *a = fbi_bw_in(bw, 1), *b = fbi_bw_in(bw, 2);
    if (!a || !b)
        return bw->ctx->status;
    fb_tensor *in[3] = {gg, a, b};
    fb_status st = FB_OK;
    if (fbi_bw_needs(bw, 0))
        st = fbi_bw_give(bw, 0, fbi_run1(bw->ctx->site, op, NULL, 3, in));
    if (st || (!fbi_bw_needs(bw, 1) && !fbi_bw_needs(bw, 2)))
        return st;
    in[0] = FBI_RUN(mul, NULL, gg, fbi_bw_in(bw, 0));
    for (int i = 0; i < 2 && !st; i++) /* ga: gaa, gab; gb: gab, gbb */
        if (fbi_bw_needs(bw, 1 + i))
            st = fbi_bw_give(
                bw, 1 + i,
                fbi_run1(bw->ctx->site, (fbi_op)((int)row + 3 + which + i), NULL, 3, in));
    return st;
}

fb_status fbi_bwd_ops_binary_gg(fbi_bw *bw)
{
    if (fbi_bw_needs(bw, 1) || fbi_bw_needs(bw, 2))
        return fbi_fail(bw->ctx, FB_E_UNSUPPORTED, "%s: its derivative is not available",
                        bw->op->name);
    return fbi_bw_give(bw, 0,
                       fbi_run1(bw->ctx->site, bw->op->op, NULL, 3,
                                (fb_tensor *[]){bw->grad[0], fbi_bw_in(bw, 1), fbi_bw_in(bw, 2)}));
}

/* --- where, cast, copies --- */

fb_status fbi_infer_where(fbi_call *c)
{
    fb_status st = fbi_need_dtype(c, 0, FB_BOOL);
    if (!st)
        st = fbi_need_dtype(c, 2, (fb_dtype)c->in[1]->dtype);
    if (!st && (!fbi_same_shape(c->in[0], c->in[1]) || !fbi_same_shape(c->in[1], c->in[2])))
        st = fbi_op_fail(c, FB_E_SHAPE, "%s, %s and %s differ", fbi_text(c->in[0]),
                         fbi_text(c->in[1]), fbi_text(c->in[2]));
    return st ? st : fbi_out_like(c, 0, (fb_dtype)c->in[1]->dtype, c->in[1]);
}

fb_status fbi_bwd_ops_where(fbi_bw *bw)
{
    fb_tensor *m = fbi_bw_in(bw, 0), *g = bw->grad[0], *zero = fbi_grad_full(g, 0);
    if (!m || !zero)
        return bw->ctx->status;
    fb_status st = FB_OK;
    if (fbi_bw_needs(bw, 1))
        st = fbi_bw_give(bw, 1, FBI_RUN(where, NULL, m, g, zero));
    if (!st && fbi_bw_needs(bw, 2))
        st = fbi_bw_give(bw, 2, FBI_RUN(where, NULL, m, zero, g));
    return st;
}

fb_status fbi_infer_cast(fbi_call *c)
{
    fbi_attrs_cast *a = (fbi_attrs_cast *)c->attrs;
    int64_t d = a->dtype;
    if (d <= FB_DTYPE_DEFAULT || d >= FB_DTYPE_COUNT)
        return fbi_op_fail(c, FB_E_DTYPE, "no dtype has the number %lld", (long long)d);
    a->from = c->in[0]->dtype; /* for backward */
    return fbi_out_like(c, 0, (fb_dtype)d, c->in[0]);
}

fb_status fbi_bwd_ops_cast(fbi_bw *bw)
{
    fb_dtype from = (fb_dtype)((const fbi_attrs_cast *)bw->attrs)->from;
    return fbi_bw_give(bw, 0, fbi_cast_to(bw->grad[0], from));
}

fb_status fbi_infer_contiguous(fbi_call *c)
{
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[0]));
}

fb_status fbi_bwd_ops_contiguous(fbi_bw *bw)
{
    return fbi_bw_give(bw, 0, bw->grad[0]);
}

fb_status fbi_infer_copy(fbi_call *c)
{
    const fb_tensor *from = c->in[1];
    fb_status st = from ? fbi_need_dtype(c, 1, (fb_dtype)c->in[0]->dtype) : FB_OK;
    if (!st && from && !fbi_same_shape(c->in[0], from))
        st = fbi_op_fail(c, FB_E_SHAPE, "%s into %s", fbi_text(from), fbi_text(c->in[0]));
    if (st)
        return st;
    return fbi_out_like(c, 0, (fb_dtype)c->in[0]->dtype, c->in[0]);
}

/* The target's old value is gone; the source gets the gradient. */
fb_status fbi_bwd_ops_copy(fbi_bw *bw)
{
    return fbi_bw_give(bw, 1, bw->grad[0]);
}

fb_status fbi_infer_fill(fbi_call *c)
{
    return fbi_out_like(c, 0, (fb_dtype)c->in[0]->dtype, c->in[0]);
}

/* --- samples --- */

#define IN(low, high, ...)                                        \
    {                                                             \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = (low), .hi = (high) \
    }

static void fbi_sample_unary(fbi_samples *s, const fbi_attrs_scalars *attrs, double lo, double hi)
{
    fbi_sample_in in[1] = {IN(lo, hi, 3, 5)};
    fbi_sample_add(s, attrs, 1, in);
    in[0].shape = FB_SCALAR;
    fbi_sample_add(s, attrs, 1, in);
    in[0].dtype = FB_I64;
    fbi_attrs_scalars refused = {s->op->op == FBI_OP_celu ? 0 : -1, -2};
    fbi_call c = {.op = s->op, .attrs = &refused};
    if (attrs && fbi_refused(&c))
        fbi_sample_bad(s, &refused, 1, in, FB_E_ARG, fbi_refused(&c));
    if (attrs && attrs->a != (double)(int64_t)attrs->a && fbi_keeps_integers(s->op))
        fbi_sample_bad(s, attrs, 1, in, FB_E_DTYPE, "is no integer and the tensor is I64");
}

static void fbi_sample_two(fbi_samples *s, double alo, double ahi, double blo, double bhi)
{
    fbi_sample_in in[2] = {IN(alo, ahi, 3, 4), IN(blo, bhi, 3, 4)};
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = FB_SHAPE(4);
    fbi_sample_add(s, NULL, 2, in);
    in[0].shape = FB_SHAPE(2, 3, 1);
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = FB_SHAPE(3, 5, 2);
    fbi_sample_bad(s, NULL, 2, in, FB_E_SHAPE, "cannot be broadcast");
}

#define UNARY(name, f, df, ddf, save, lo, hi, ulp) \
    void fbi_sample_unary_##name(fbi_samples *s)   \
    {                                              \
        fbi_sample_unary(s, NULL, lo, hi);         \
    }
#define UNARY_S(name, f, df, ddf, save, lo, hi, a0, b0, ulp)       \
    void fbi_sample_unary_##name(fbi_samples *s)                   \
    {                                                              \
        fbi_sample_unary(s, &(fbi_attrs_scalars){a0, b0}, lo, hi); \
    }
#define BINARY(name, f, fa, fb, faa, fab, fbb, save, alo, ahi, blo, bhi, ulp) \
    void fbi_sample_binary_##name(fbi_samples *s)                             \
    {                                                                         \
        fbi_sample_two(s, alo, ahi, blo, bhi);                                \
    }
#include "core/ops/ops_begin.h"
#include "core/ops/ops.def"
#include "core/ops/ops_end.h"

void fbi_sample_compare(fbi_samples *s)
{
    fbi_sample_two(s, -2, 2, -2, 2);
}

void fbi_sample_predicate(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(-2, 2, 3, 4)};
    fbi_sample_add(s, NULL, 1, in);
    in[0].dtype = FB_I64;
    fbi_sample_add(s, NULL, 1, in);
    in[0].dtype = FB_BOOL;
    fbi_sample_add(s, NULL, 1, in);
}

void fbi_sample_bits(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-9, 9, 3, 4), IN(0, 7, 4)};
    in[0].dtype = in[1].dtype = FB_I64;
    fbi_sample_add(s, NULL, 2, in);
    in[0].dtype = in[1].dtype = FB_I32;
    in[0].shape = FB_SHAPE(2, 3, 1);
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = FB_SHAPE(2, 5, 4);
    fbi_sample_bad(s, NULL, 2, in, FB_E_SHAPE, "cannot be broadcast");
    in[0].dtype = FB_F32;
    in[1].shape = in[0].shape;
    fbi_sample_bad(s, NULL, 2, in, FB_E_DTYPE, "needs integers");
}

void fbi_sample_where(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(0, 2, 3, 4), IN(-2, 2, 3, 4), IN(-2, 2, 3, 4)};
    in[0].dtype = FB_BOOL;
    fbi_sample_add(s, NULL, 3, in);
    in[0].dtype = FB_I64;
    fbi_sample_bad(s, NULL, 3, in, FB_E_DTYPE, "needs BOOL");
}

void fbi_sample_cast(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(-2, 2, 3, 4)};
    in[0].dtype = FB_F64;
    fbi_sample_add(s, &(fbi_attrs_cast){.dtype = FB_F64}, 1, in);
    fbi_sample_bad(s, &(fbi_attrs_cast){.dtype = 99}, 1, in, FB_E_DTYPE, "number 99");
}

void fbi_sample_contiguous(fbi_samples *s)
{
    fbi_sample_in in[1] = {IN(-2, 2, 2, 3, 4)};
    fbi_sample_add(s, NULL, 1, in);
}

void fbi_sample_copy(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-2, 2, 3, 4), IN(-2, 2, 3, 4)};
    fbi_sample_add(s, NULL, 2, in);
    in[1].shape = FB_SHAPE(2, 4);
    fbi_sample_bad(s, NULL, 2, in, FB_E_SHAPE, "copy: [2, 4] into [3, 4]");
}
