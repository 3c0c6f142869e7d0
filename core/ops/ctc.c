/* ctc_loss. Its row `ctc` has a kernel for the recursion forwards and one for its gradient; the
 * gradient of operators, which create_graph runs, is the same recursion in F32 or F64 with -1e30
 * for -infinity.
 *
 * T steps, N items, C classes, S labels at most; a path goes through L = 2 S + 1 places: the
 * labels, and blanks around each of them. */
#include <flambeau/core/ops/loss.h>

#include <stdlib.h>

#include <flambeau/core/ops/arrange.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/join.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/scatter.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/compose_priv.h"
#include "core/ops/half_priv.h"

/* --- the row --- */

fb_status fbi_infer_ctc(fbi_call *c)
{
    const fb_tensor *x = c->in[0], *t = c->in[1];
    fb_status st = fbi_out(c, 0, (fb_dtype)x->dtype, FB_SHAPE(x->size[1]));
    return st ? st
              : fbi_out(c, 1, fbi_stat_dtype(x),
                        FB_SHAPE(x->size[1], x->size[0], 2 * t->size[1] + 1));
}

/* gradient, log_probs, targets, lengths of inputs, of targets, losses, log_alpha */
fb_status fbi_infer_ctc_bwd(fbi_call *c)
{
    return fbi_out(c, 0, (fb_dtype)c->in[1]->dtype, fb_shape_of(c->in[1]));
}

/* --- its gradient, of operators --- */

static const double NEVER = -1e30; /* in place of -infinity, whose derivatives are NaN */

typedef struct ctc_path {
    int64_t steps, places;
    fb_tensor *x;                    /* [T, N, L]: what each place emits */
    fb_tensor *at;                   /* I64 [T, N, L], of expanded steps: its class */
    fb_tensor *jumps;                /* BOOL [N, L]: may come from two places before */
    fb_tensor *there, *first, *last; /* BOOL [N, L]: places that the item has, begins, ends at */
    fb_tensor *length;               /* I64 [N, 1]: of the input */
    fb_tensor *never;
} ctc_path;

/* v [N, L] moved n places on (or back, n < 0). */
static fb_tensor *moved(const ctc_path *p, fb_tensor *v, int64_t n, double fill)
{
    fb_shape pads = n > 0 ? FB_SHAPE(n, 0) : FB_SHAPE(0, -n);
    fb_tensor *wide = fb_pad(v, pads, FB_PAD_CONSTANT, fill);
    return wide ? fb_narrow(wide, 1, n > 0 ? 0 : -n, p->places) : NULL;
}

/* Classes of the places: blank, label, blank, ... [N, L] */
static fb_tensor *classes_of(fb_tensor *targets, int64_t blank)
{
    fb_context *ctx = targets->ctx;
    int64_t items = targets->size[0], labels = targets->size[1];
    fb_tensor *blanks = fb_full(ctx, FB_I64, FB_SHAPE(items, labels), (double)blank);
    fb_tensor *pairs = fb_stack(FB_TENSORS(blanks, targets), 2);
    pairs = pairs ? fb_reshape(pairs, FB_SHAPE(items, 2 * labels)) : NULL;
    fb_tensor *end = fb_full(ctx, FB_I64, FB_SHAPE(items, 1), (double)blank);
    return pairs && end ? fb_cat(FB_TENSORS(pairs, end), 1) : NULL;
}

static bool path_of(fb_tensor *x, fb_tensor *targets, fb_tensor *input_len, fb_tensor *target_len,
                    int64_t blank, ctc_path *p)
{
    fb_context *ctx = x->ctx;
    int64_t n = x->size[1];
    *p = (ctc_path){.steps = x->size[0], .places = 2 * targets->size[1] + 1};
    fb_tensor *at = classes_of(targets, blank);
    fb_tensor *place = fb_arange(ctx, FB_I64, 0, (double)p->places, 1);
    fb_tensor *end = fb_mul_scalar(fb_reshape(target_len, FB_SHAPE(n, 1)), 2);
    p->length = fb_reshape(input_len, FB_SHAPE(n, 1));
    p->never = fbi_scalar(x, NEVER);
    if (!at || !place || !end || !p->length)
        return false;
    p->at = fb_expand(fb_reshape(at, FB_SHAPE(1, n, p->places)), FB_SHAPE(p->steps, n, p->places));
    p->x = p->at ? fb_gather(fb_clamp(x, NEVER, __builtin_inf()), 2, p->at) : NULL;
    fb_tensor *before = moved(p, at, 2, (double)blank);
    fb_tensor *second = fb_ge(place, fbi_scalar(place, 2));
    p->jumps = fb_logical_and(fb_ne(at, before), second);
    p->there = fb_le(place, end);
    p->first = fb_logical_and(fb_le(place, fbi_scalar(place, 1)), p->there);
    p->last = fb_logical_and(fb_ge(place, fb_add_scalar(end, -1)), p->there);
    return p->x && p->jumps && p->first && p->last;
}

/* log of exp(a), exp(b), and exp(c) where `third`, together. */
static fb_tensor *together(const ctc_path *p, fb_tensor *a, fb_tensor *b, fb_tensor *c,
                           fb_tensor *third)
{
    return fb_logaddexp(fb_logaddexp(a, b), fb_where(third, c, p->never));
}

/* log_alpha of a step from that of the one before; NULL: of the first. */
static fb_tensor *forward_step(const ctc_path *p, fb_tensor *v, int64_t t)
{
    fb_tensor *x = fb_select(p->x, 0, t);
    if (!v)
        return fb_where(p->first, x, p->never);
    fb_tensor *come = together(p, v, moved(p, v, 1, NEVER), moved(p, v, 2, NEVER), p->jumps);
    return fb_where(p->there, fb_add(come, x), p->never);
}

/* What follows step t, without what it emits. */
static fb_tensor *backward_step(const ctc_path *p, fb_tensor *v, int64_t t)
{
    fb_tensor *nought = fbi_scalar(p->x, 0), *come = p->never;
    fb_tensor *now = p->length ? fbi_scalar(p->length, (double)t + 1) : NULL;
    if (v) {
        fb_tensor *e = fb_add(v, fb_select(p->x, 0, t + 1));
        fb_tensor *third = moved(p, p->jumps, -2, 0);
        come = together(p, e, moved(p, e, -1, NEVER), moved(p, e, -2, NEVER), third);
    }
    fb_tensor *ends = fb_logical_and(p->last, fb_eq(p->length, now));
    fb_tensor *goes_on = fb_logical_and(p->there, fb_gt(p->length, now));
    return fb_where(ends, nought, fb_where(goes_on, come, p->never));
}

/* How likely each place is at each step, given the labels: [T, N, L]. */
static fb_tensor *likely(const ctc_path *p, fb_tensor **rows)
{
    fb_tensor *a = NULL, *b = NULL, *total = NULL;
    for (int64_t t = 0; t < p->steps; t++) {
        a = forward_step(p, a, t);
        rows[t] = a;
    }
    for (int64_t t = p->steps - 1; t >= 0 && a; t--) {
        b = backward_step(p, b, t);
        rows[t] = fb_add(rows[t], b);
    }
    if (!a || !b)
        return NULL;
    total = fb_logsumexp(rows[0], FB_SHAPE(1), true);
    fb_tensor *can = fb_gt(total, fbi_scalar(total, NEVER / 10));
    total = fb_where(can, total, fbi_scalar(total, 0)); /* what cannot be has no gradient here */
    fb_tensor *all = fb_stack((fb_tensors){rows, (int)p->steps}, 0);
    return fb_exp(fb_sub(all, total));
}

static fb_status ctc_of_operators(fbi_bw *bw)
{
    const fbi_attrs_ctc *a = bw->attrs;
    fb_tensor *saved = fbi_bw_in(bw, 0), *x = fbi_exact(saved);
    fb_tensor *targets = fbi_bw_in(bw, 1), *il = fbi_bw_in(bw, 2), *tl = fbi_bw_in(bw, 3);
    ctc_path p;
    if (!x || !targets || !il || !tl)
        return bw->ctx->status;
    if (x->numel == 0)
        return fbi_bw_give(bw, 0, fb_mul_scalar(saved, 0));
    if (!path_of(x, targets, il, tl, a->blank, &p))
        return bw->ctx->status;
    fb_tensor **rows = calloc((size_t)p.steps, sizeof *rows);
    if (!rows)
        return fbi_fail(bw->ctx, FB_E_NOMEM, "ctc_loss: no memory for %lld steps",
                        (long long)p.steps);
    fb_tensor *prob = likely(&p, rows), *g = fbi_exact(bw->grad[0]);
    free(rows);
    g = g && prob ? fb_mul(prob, fb_neg(fb_reshape(g, FB_SHAPE(1, g->numel, 1)))) : NULL;
    fb_shape size = fb_shape_of(x);
    fbi_attrs_scatter_sum s = {.dim = 2, .size = size};
    g = g ? FBI_RUN(scatter_sum, &s, g, p.at) : NULL;
    return fbi_bw_give(bw, 0, g ? fb_to(g, (fb_dtype)saved->dtype) : NULL);
}

fb_status fbi_bwd_ops_ctc(fbi_bw *bw)
{
    const fbi_attrs_ctc *a = bw->attrs;
    if (!bw->grad[0] || !fbi_bw_needs(bw, 0))
        return FB_OK;
    if (bw->linked)
        return ctc_of_operators(bw);
    fbi_attrs_ctc_bwd b = {.blank = a->blank};
    return FBI_BW_RUN(bw, 0, ctc_bwd, &b, bw->grad[0], fbi_bw_in(bw, 0), fbi_bw_in(bw, 1),
                      fbi_bw_in(bw, 2), fbi_bw_in(bw, 3), fbi_bw_out(bw, 0), fbi_bw_out(bw, 1));
}

/* --- the loss --- */

/* What the host knows of a call: lengths, and where each item's labels begin. */
typedef struct ctc_lengths {
    int64_t items, longest; /* longest: of the targets */
    int64_t *input, *target;
} ctc_lengths;

static fb_status need_lengths(const fbi_call *c, int i, const char *what, int64_t items,
                              int64_t most, int64_t *out)
{
    fb_tensor *t = c->in[i];
    if (fb_dtype_is_float((fb_dtype)t->dtype) || t->dtype == FB_BOOL)
        return fbi_op_fail(c, FB_E_DTYPE, "lengths of the %ss are %s; needs integers", what,
                           fb_dtype_name((fb_dtype)t->dtype));
    if (t->numel != items || t->ndim > 1)
        return fbi_op_fail(c, FB_E_SHAPE, "lengths of the %ss %s do not fit %lld items", what,
                           fbi_text(t), (long long)items);
    fb_status st = fb_read(fb_to(t, FB_I64), out, (size_t)items * sizeof *out);
    for (int64_t n = 0; n < items && !st; n++)
        if (out[n] < 0 || out[n] > most)
            st = fbi_op_fail(c, FB_E_ARG, "%s %lld has length %lld, not 0 .. %lld", what,
                             (long long)n, (long long)out[n], (long long)most);
    return st;
}

/* Labels as [N, S], 0 where an item has none, from that or from all of them one after the other. */
static fb_tensor *labels_of(const fbi_call *c, const ctc_lengths *l)
{
    fb_tensor *t = fb_to(c->in[1], FB_I64);
    int64_t n = l->items, s = l->longest, from = 0, width = t && t->ndim == 2 ? t->size[1] : 0;
    int64_t *at = t ? calloc((size_t)(n * s) + 1, sizeof *at) : NULL;
    bool *used = at ? calloc((size_t)(n * s) + 1, sizeof *used) : NULL;
    fb_tensor *y = NULL;
    if (!used)
        fbi_fail(c->ctx, FB_E_NOMEM, "ctc_loss: no memory for %lld labels", (long long)(n * s));
    for (int64_t i = 0; i < n && used; i++) {
        for (int64_t k = 0; k < l->target[i]; k++) {
            at[i * s + k] = (width ? i * width : from) + k;
            used[i * s + k] = true;
        }
        from += l->target[i];
    }
    if (used && t->numel == 0)
        y = fb_zeros(c->ctx, FB_I64, FB_SHAPE(n, s));
    else if (used)
        y = fb_where(fb_from(c->ctx, FB_BOOL, FB_SHAPE(n, s), used),
                     fb_take(t, fb_from(c->ctx, FB_I64, FB_SHAPE(n, s), at)), fbi_scalar(t, 0));
    free(used);
    free(at);
    return y;
}

static fb_status need_targets(const fbi_call *c, int64_t items, int64_t *most)
{
    const fb_tensor *t = c->in[1];
    if (fb_dtype_is_float((fb_dtype)t->dtype) || t->dtype == FB_BOOL)
        return fbi_op_fail(c, FB_E_DTYPE, "targets are %s; needs integers",
                           fb_dtype_name((fb_dtype)t->dtype));
    if (t->ndim != 1 && (t->ndim != 2 || t->size[0] != items))
        return fbi_op_fail(c, FB_E_SHAPE, "targets %s do not fit log-probabilities %s", fbi_text(t),
                           fbi_text(c->in[0]));
    *most = t->size[t->ndim - 1];
    return FB_OK;
}

static fb_status need_ctc(const fbi_call *c, ctc_lengths *l)
{
    const fbi_attrs_ctc_loss *a = c->attrs;
    const fb_tensor *x = c->in[0];
    int64_t most = 0, sum = 0;
    fb_status st = fbi_need_loss(c, a->reduction);
    if (st)
        return st;
    if (x->ndim != 2 && x->ndim != 3)
        return fbi_op_fail(c, FB_E_SHAPE, "log-probabilities %s must be [T, N, C] or [T, C]",
                           fbi_text(x));
    if (a->blank < 0 || a->blank >= x->size[x->ndim - 1])
        return fbi_op_fail(c, FB_E_ARG, "blank %lld is no class of log-probabilities %s",
                           (long long)a->blank, fbi_text(x));
    l->items = x->ndim == 3 ? x->size[1] : 1;
    l->input = calloc(2 * (size_t)l->items + 1, sizeof *l->input);
    if (!l->input)
        return fbi_fail(c->ctx, FB_E_NOMEM, "ctc_loss: no memory for %lld items",
                        (long long)l->items);
    l->target = l->input + l->items;
    st = need_targets(c, l->items, &most);
    if (!st)
        st = need_lengths(c, 2, "input", l->items, x->size[0], l->input);
    if (!st)
        st = need_lengths(c, 3, "target", l->items, most, l->target);
    for (int64_t n = 0; n < l->items && !st; n++) {
        l->longest = l->target[n] > l->longest ? l->target[n] : l->longest;
        sum += l->target[n];
    }
    if (!st && c->in[1]->ndim == 1 && sum != most)
        st = fbi_op_fail(c, FB_E_SHAPE, "targets %s: their lengths add up to %lld",
                         fbi_text(c->in[1]), (long long)sum);
    return st;
}

/* The losses of the items, [N]. */
static fb_tensor *each_loss(const fbi_call *c, const ctc_lengths *l)
{
    const fbi_attrs_ctc_loss *a = c->attrs;
    fb_tensor *x = c->in[0], *labels = labels_of(c, l);
    x = x->ndim == 2 ? fb_unsqueeze(x, 1) : x;
    fb_shape n = FB_SHAPE(l->items);
    fb_tensor *in[4] = {x, labels, fb_from(c->ctx, FB_I64, n, l->input),
                        fb_from(c->ctx, FB_I64, n, l->target)};
    fb_tensor *out[2] = {NULL, NULL};
    if (!x || !labels || !in[2] || !in[3] ||
        fbi_run(c->ctx, FBI_OP_ctc, &(fbi_attrs_ctc){.blank = a->blank}, in, 4, out))
        return NULL;
    return a->zero_infinity ? fb_where(fb_isinf(out[0]), fbi_scalar(out[0], 0), out[0]) : out[0];
}

/* The mean is that of the losses per label. */
static fb_tensor *mean_per_label(fb_tensor *loss, const ctc_lengths *l)
{
    for (int64_t i = 0; i < l->items; i++)
        l->target[i] = l->target[i] > 1 ? l->target[i] : 1;
    fb_tensor *per = fb_from(loss->ctx, FB_I64, FB_SHAPE(l->items), l->target);
    return fb_mean(fb_div(loss, fb_to(per, (fb_dtype)loss->dtype)), FB_ALL, false);
}

fb_status fbi_compose_ctc_loss(fbi_call *c)
{
    const fbi_attrs_ctc_loss *a = c->attrs;
    ctc_lengths l = {0};
    fb_status st = need_ctc(c, &l);
    fb_tensor *loss = st ? NULL : each_loss(c, &l);
    if (loss && a->reduction == FB_LOSS_MEAN)
        loss = mean_per_label(loss, &l);
    else if (loss && a->reduction == FB_LOSS_SUM)
        loss = fb_sum(loss, FB_ALL, false);
    else if (loss && c->in[0]->ndim == 2)
        loss = fb_reshape(loss, FB_SCALAR);
    free(l.input);
    return st ? st : fbi_composed(c, loss);
}

fb_tensor *fb_ctc_loss(fb_tensor *log_probs, fb_tensor *targets, fb_tensor *input_lengths,
                       fb_tensor *target_lengths, const fb_ctc_options *opts)
{
    static const fb_ctc_options none;
    const fb_ctc_options *o = opts ? opts : &none;
    fbi_attrs_ctc_loss a = {
        .blank = o->blank, .zero_infinity = o->zero_infinity, .reduction = o->reduction};
    return FBI_RUN(ctc_loss, &a, log_probs, targets, input_lengths, target_lengths);
}

/* --- samples --- */

#define INDEX(low, high, ...)                                                      \
    {                                                                              \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = (low), .hi = (high), .dtype = FB_I64 \
    }

void fbi_sample_ctc_loss(fbi_samples *s)
{
    fbi_sample_in in[4] = {{.shape = FB_SHAPE(7, 3, 4), .lo = -2.5, .hi = -0.5},
                           INDEX(1, 4, 3, 3),
                           INDEX(6, 8, 3),
                           INDEX(1, 4, 3)};
    fbi_attrs_ctc_loss a = {0};
    for (a.reduction = 0; a.reduction <= FB_LOSS_NONE; a.reduction++)
        fbi_sample_add(s, &a, 4, in);
    a = (fbi_attrs_ctc_loss){.blank = 3, .zero_infinity = 1, .reduction = FB_LOSS_NONE};
    in[1] = (fbi_sample_in)INDEX(0, 3, 3, 3);
    in[2].lo = 2; /* too short for some */
    fbi_sample_add(s, &a, 4, in);
    in[0].shape = FB_SHAPE(5, 4);
    in[1] = (fbi_sample_in)INDEX(0, 3, 2);
    in[2] = (fbi_sample_in)INDEX(5, 6, 1);
    in[3] = (fbi_sample_in)INDEX(2, 3, 1);
    fbi_sample_add(s, &a, 4, in);
    in[3] = (fbi_sample_in)INDEX(1, 2, 1);
    fbi_sample_bad(s, &a, 4, in, FB_E_SHAPE, "targets [2]: their lengths add up to 1");
    in[3].shape = FB_SHAPE(2);
    fbi_sample_bad(s, &a, 4, in, FB_E_SHAPE, "lengths of the targets [2] do not fit 1 items");
    in[2].lo = in[2].hi = 9;
    fbi_sample_bad(s, &a, 4, in, FB_E_ARG, "ctc_loss: input 0 has length 9, not 0 .. 5");
    in[2].dtype = FB_F32;
    fbi_sample_bad(s, &a, 4, in, FB_E_DTYPE, "lengths of the inputs are F32; needs integers");
    in[1].shape = FB_SHAPE(2, 2);
    fbi_sample_bad(s, &a, 4, in, FB_E_SHAPE, "targets [2, 2] do not fit log-probabilities [5, 4]");
    in[1].dtype = FB_F32;
    fbi_sample_bad(s, &a, 4, in, FB_E_DTYPE, "targets are F32; needs integers");
    a.blank = 4;
    fbi_sample_bad(s, &a, 4, in, FB_E_ARG, "blank 4 is no class of log-probabilities [5, 4]");
    in[0].shape = FB_SHAPE(5);
    fbi_sample_bad(s, &a, 4, in, FB_E_SHAPE, "log-probabilities [5] must be [T, N, C] or [T, C]");
    a = (fbi_attrs_ctc_loss){0};
    in[0].shape = FB_SHAPE(5, 4);
    in[1] = (fbi_sample_in)INDEX(9, 10, 2);
    in[2] = (fbi_sample_in)INDEX(5, 6, 1);
    in[3] = (fbi_sample_in)INDEX(2, 3, 1);
    fbi_sample_bad(s, &a, 4, in, FB_E_ARG, "ctc_loss: index 9 at position 0 is out of range");
}
