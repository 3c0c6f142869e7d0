/* cross_entropy, nll_loss and mse_loss: shapes, backward, samples. */
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/loss.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/softmax.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/compose_priv.h"
#include "core/ops/half_priv.h"

/* The three rows of cross entropy have the same attributes. */
typedef fbi_attrs_cross_entropy ce_attrs;

static int class_dim(const fb_tensor *logits)
{
    return logits->ndim > 1 ? 1 : 0;
}

/* Sizes of the target: those of the logits without the classes. */
static fb_shape items(const fb_tensor *logits)
{
    fb_shape s = {0, {0}};
    for (int i = 0; i < logits->ndim; i++)
        if (i != class_dim(logits))
            s.d[s.n++] = logits->size[i];
    return s;
}

static bool is_index(const fb_tensor *t)
{
    return t->dtype >= FB_I32 && t->dtype != FB_BOOL;
}

static fb_status check_reduction(const fbi_call *c, int64_t reduction)
{
    if (reduction >= FB_LOSS_MEAN && reduction <= FB_LOSS_NONE)
        return FB_OK;
    return fbi_op_fail(c, FB_E_ARG, "unknown reduction %lld", (long long)reduction);
}

static fb_status check_weight(const fbi_call *c, const fb_tensor *logits, const fb_tensor *weight)
{
    int64_t classes = logits->size[class_dim(logits)];
    if (weight && (weight->ndim != 1 || weight->size[0] != classes))
        return fbi_op_fail(c, FB_E_SHAPE, "weight %s does not fit %lld classes of input %s",
                           fbi_text(weight), (long long)classes, fbi_text(logits));
    if (weight && weight->dtype != logits->dtype)
        return fbi_op_fail(c, FB_E_DTYPE, "weight is %s, input is %s",
                           fb_dtype_name((fb_dtype)weight->dtype),
                           fb_dtype_name((fb_dtype)logits->dtype));
    return FB_OK;
}

fb_status fbi_need_classes(const fbi_call *c, int x, const fb_tensor *weight)
{
    const fb_tensor *logits = c->in[x], *target = c->in[x + 1];
    fb_status st = fbi_need_float(c, x);
    if (st)
        return st;
    if (logits->ndim == 0)
        return fbi_op_fail(c, FB_E_SHAPE, "input [] has no dimension of classes");
    fb_shape want = items(logits);
    if (!is_index(target))
        return fbi_op_fail(c, FB_E_DTYPE, "target must hold integer class indices, got %s",
                           fb_dtype_name((fb_dtype)target->dtype));
    if (!fb_shape_equal(want, fb_shape_of(target)))
        return fbi_op_fail(c, FB_E_SHAPE, "target %s does not fit input %s: expected %s",
                           fbi_text(target), fbi_text(logits), fbi_shape_text(c->ctx, want));
    return check_weight(c, logits, weight);
}

static fb_status check_smoothing(const fbi_call *c, double smoothing)
{
    if (smoothing >= 0 && smoothing <= 1)
        return FB_OK;
    return fbi_op_fail(c, FB_E_ARG, "label_smoothing %g is not in 0 .. 1", smoothing);
}

/* Logits, target and weight at positions x, x + 1, x + 2. */
static fb_status check_ce(const fbi_call *c, int x, const fb_tensor *weight)
{
    const ce_attrs *a = c->attrs;
    fb_status st = fbi_need_classes(c, x, weight);
    if (!st)
        st = check_smoothing(c, a->label_smoothing);
    return st ? st : check_reduction(c, a->reduction);
}

fb_status fbi_need_loss(const fbi_call *c, int64_t reduction)
{
    fb_status st = fbi_need_float(c, 0);
    return st ? st : check_reduction(c, reduction);
}

fb_tensor *fbi_reduced(fb_tensor *loss, int64_t reduction)
{
    return reduction == FB_LOSS_NONE  ? loss
           : reduction == FB_LOSS_SUM ? fb_sum(loss, FB_ALL, false)
                                      : fb_mean(loss, FB_ALL, false);
}

/* Outputs: the loss, and log(sum(exp(logits))) of each item for backward. */
fb_status fbi_infer_cross_entropy(fbi_call *c)
{
    const ce_attrs *a = c->attrs;
    fb_status st = check_ce(c, 0, c->in[2]);
    if (st)
        return st;
    fb_dtype dtype = (fb_dtype)c->in[0]->dtype;
    fb_shape s = items(c->in[0]);
    st = fbi_out(c, 0, dtype, a->reduction == FB_LOSS_NONE ? s : FB_SCALAR);
    return st ? st : fbi_out(c, 1, fbi_stat_dtype(c->in[0]), s);
}

/* in: gradient, logits, target, weight, log-sum-exp */
fb_status fbi_infer_cross_entropy_bwd(fbi_call *c)
{
    return fbi_out(c, 0, (fb_dtype)c->in[1]->dtype, fb_shape_of(c->in[1]));
}

/* The gradient of the logits is g * (a * softmax(logits) - b): a [N, 1, d...], b like the logits.
 */
fb_status fbi_infer_cross_entropy_coef(fbi_call *c)
{
    fb_status st = check_ce(c, 0, c->in[2]);
    if (st)
        return st;
    fb_shape s = fb_shape_of(c->in[0]);
    st = fbi_out(c, 1, fbi_stat_dtype(c->in[0]), s);
    s.d[class_dim(c->in[0])] = 1;
    return st ? st : fbi_out(c, 0, fbi_stat_dtype(c->in[0]), s);
}

fb_status fbi_bwd_cross_entropy(fbi_bw *bw)
{
    const ce_attrs *a = bw->attrs;
    if (!bw->grad[0] || !fbi_bw_needs(bw, 0))
        return FB_OK;
    fbi_attrs_cross_entropy_bwd b = {a->ignore_index, a->label_smoothing, a->reduction};
    return FBI_BW_RUN(bw, 0, cross_entropy_bwd, &b, bw->grad[0], fbi_bw_in(bw, 0), fbi_bw_in(bw, 1),
                      fbi_bw_in(bw, 2), fbi_bw_out(bw, 1));
}

fb_status fbi_bwd_ops_cross_entropy(fbi_bw *bw)
{
    const ce_attrs *a = bw->attrs;
    if (!bw->grad[0] || !fbi_bw_needs(bw, 0))
        return FB_OK;
    fbi_attrs_cross_entropy_coef k = {a->ignore_index, a->label_smoothing, a->reduction};
    fb_tensor *x = fbi_bw_in(bw, 0), *g = bw->grad[0], *coef[2];
    fb_tensor *in[3] = {x, fbi_bw_in(bw, 1), fbi_bw_in(bw, 2)};
    fb_status st = fbi_run(bw->ctx, FBI_OP_cross_entropy_coef, &k, in, 3, coef);
    if (st)
        return st;
    if (a->reduction == FB_LOSS_NONE)
        g = fb_reshape(g, fb_shape_of(coef[0]));
    fb_tensor *p = fb_softmax(fbi_exact(x), class_dim(x));
    fb_tensor *d = fb_mul(fb_sub(fb_mul(p, coef[0]), coef[1]), g);
    return fbi_bw_give(bw, 0, fb_to(d, fb_dtype_of(x)));
}

/* --- of given log-probabilities, and of targets that are probabilities --- */

/* t [N, d...] as [N, 1, d...], [] as [1]: beside the classes. */
static fb_tensor *beside(fb_tensor *t, const fb_tensor *logits)
{
    return fb_unsqueeze(t, class_dim(logits));
}

/* The weight of each item's class, 0 where it is ignored. */
static fb_tensor *item_weights(const fbi_call *c, fb_tensor *at, fb_tensor *ignored)
{
    fb_tensor *w = c->in[2], *one = fbi_scalar(c->in[0], 1);
    fb_tensor *each = w && at ? fb_index_select(w, 0, fb_reshape(at, FB_SHAPE(at->numel))) : NULL;
    each = w ? (each ? fb_reshape(each, fb_shape_of(at)) : NULL) : one;
    return fb_where(ignored, fbi_scalar(c->in[0], 0), each);
}

fb_status fbi_compose_nll_loss(fbi_call *c)
{
    const fbi_attrs_nll_loss *a = c->attrs;
    fb_tensor *x = c->in[0];
    fb_status st = fbi_need_classes(c, 0, c->in[2]);
    if (!st)
        st = check_reduction(c, a->reduction);
    if (st)
        return st;
    fb_tensor *t = fb_to(c->in[1], FB_I64);
    fb_tensor *ignored = fb_eq(t, fbi_scalar(t, (double)a->ignore_index));
    fb_tensor *at = fb_where(ignored, fbi_scalar(t, 0), t), *w = item_weights(c, at, ignored);
    fb_tensor *p = at ? fb_gather(x, class_dim(x), beside(at, x)) : NULL;
    p = p ? fb_reshape(p, fb_shape_of(at)) : NULL;
    fb_tensor *loss = fb_where(ignored, fbi_scalar(x, 0), fb_neg(fb_mul(p, w)));
    if (a->reduction != FB_LOSS_MEAN)
        return fbi_composed(c, fbi_reduced(loss, a->reduction));
    return fbi_composed(c, fb_div(fb_sum(loss, FB_ALL, false), fb_sum(w, FB_ALL, false)));
}

/* In place of indices, how much of each item belongs to each class. */
fb_status fbi_compose_cross_entropy_probabilities(fbi_call *c)
{
    const fbi_attrs_cross_entropy_probabilities *a = c->attrs;
    fb_tensor *x = c->in[0], *t = c->in[1], *w = c->in[2];
    fb_status st = fbi_need_loss(c, a->reduction);
    if (!st)
        st = fbi_need_float(c, 1);
    if (!st)
        st = check_smoothing(c, a->label_smoothing);
    if (st)
        return st;
    if (x->ndim == 0 || !fbi_same_shape(x, t))
        return fbi_op_fail(c, FB_E_SHAPE, "probabilities %s do not fit input %s", fbi_text(t),
                           fbi_text(x));
    st = check_weight(c, x, w);
    if (st)
        return st;
    int dim = class_dim(x);
    double classes = (double)x->size[dim], even = a->label_smoothing;
    if (even > 0)
        t = fb_add_scalar(fb_mul_scalar(t, 1 - even), even / classes);
    fb_shape sizes = {.n = x->ndim};
    for (int i = 0; i < x->ndim; i++)
        sizes.d[i] = i == dim ? x->size[i] : 1;
    t = w ? fb_mul(t, fb_reshape(w, sizes)) : t;
    fb_tensor *loss = fb_neg(fb_sum(fb_mul(fb_log_softmax(x, dim), t), FB_SHAPE(dim), false));
    return fbi_composed(c, fbi_reduced(loss, a->reduction));
}

fb_status fbi_infer_mse_loss(fbi_call *c)
{
    const fbi_attrs_mse_loss *a = c->attrs;
    const fb_tensor *x = c->in[0], *t = c->in[1];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (!fbi_same_shape(x, t))
        return fbi_op_fail(c, FB_E_SHAPE, "input %s and target %s differ in shape", fbi_text(x),
                           fbi_text(t));
    if (x->dtype != t->dtype)
        return fbi_op_fail(c, FB_E_DTYPE, "input is %s, target is %s",
                           fb_dtype_name((fb_dtype)x->dtype), fb_dtype_name((fb_dtype)t->dtype));
    st = check_reduction(c, a->reduction);
    return st ? st
              : fbi_out(c, 0, (fb_dtype)x->dtype,
                        a->reduction == FB_LOSS_NONE ? fb_shape_of(x) : FB_SCALAR);
}

/* in: gradient, input, target; the gradient of the target is the same with these two swapped */
fb_status fbi_infer_mse_loss_bwd(fbi_call *c)
{
    return fbi_out(c, 0, (fb_dtype)c->in[1]->dtype, fb_shape_of(c->in[1]));
}

fb_status fbi_bwd_mse_loss(fbi_bw *bw)
{
    const fbi_attrs_mse_loss *a = bw->attrs;
    fbi_attrs_mse_loss_bwd b = {.reduction = a->reduction};
    fb_tensor *x = fbi_bw_in(bw, 0), *t = fbi_bw_in(bw, 1), *g = bw->grad[0];
    fb_status st = FB_OK;
    if (fbi_bw_needs(bw, 0))
        st = FBI_BW_RUN(bw, 0, mse_loss_bwd, &b, g, x, t);
    if (!st && fbi_bw_needs(bw, 1))
        st = FBI_BW_RUN(bw, 1, mse_loss_bwd, &b, g, t, x);
    return st;
}

fb_status fbi_bwd_ops_mse_loss(fbi_bw *bw)
{
    const fbi_attrs_mse_loss *a = bw->attrs;
    fb_tensor *x = fbi_bw_in(bw, 0), *t = fbi_bw_in(bw, 1);
    double k = a->reduction == FB_LOSS_MEAN ? 2.0 / (double)fb_numel(x) : 2.0;
    fb_tensor *d = fb_mul_scalar(fb_sub(fbi_exact(x), fbi_exact(t)), k);
    d = fb_to(fb_mul(d, fbi_exact(bw->grad[0])), fb_dtype_of(x));
    fb_status st = FB_OK;
    if (fbi_bw_needs(bw, 0))
        st = fbi_bw_give(bw, 0, d);
    if (!st && fbi_bw_needs(bw, 1))
        st = fbi_bw_give(bw, 1, fb_mul_scalar(d, -1));
    return st;
}

fb_tensor *fb_cross_entropy(fb_tensor *logits, fb_tensor *target,
                            const fb_cross_entropy_options *opts)
{
    FBI_ENTRY(fb_context_of(logits));
    static const fb_cross_entropy_options defaults;
    const fb_cross_entropy_options *o = opts ? opts : &defaults;
    fbi_attrs_cross_entropy a = {.ignore_index = o->ignore_index,
                                 .label_smoothing = o->label_smoothing,
                                 .reduction = o->reduction};
    if (a.ignore_index == 0)
        a.ignore_index = -100;
    else if (a.ignore_index == FB_ZERO_INT)
        a.ignore_index = 0;
    fb_tensor *weight = o->weight;
    if (logits && weight && weight->dtype != logits->dtype)
        weight = fb_to(weight, (fb_dtype)logits->dtype);
    if (logits && target && fb_dtype_is_float((fb_dtype)target->dtype)) {
        fbi_attrs_cross_entropy_probabilities p = {.label_smoothing = o->label_smoothing,
                                                   .reduction = o->reduction};
        return FBI_RUN(cross_entropy_probabilities, &p, logits, target, weight);
    }
    fb_tensor *in[3] = {logits, target, weight}, *out[2] = {NULL, NULL};
    fb_context *ctx = fb_context_of(logits);
    if (ctx && fbi_run(ctx, FBI_OP_cross_entropy, &a, in, 3, out))
        return NULL;
    return out[0];
}

fb_tensor *fb_nll_loss(fb_tensor *log_probs, fb_tensor *target, fb_tensor *weight,
                       int64_t ignore_index, fb_loss_reduction reduction)
{
    FBI_ENTRY(fb_context_of(log_probs));
    fbi_attrs_nll_loss a = {.ignore_index = ignore_index, .reduction = reduction};
    if (log_probs && weight && weight->dtype != log_probs->dtype)
        weight = fb_to(weight, (fb_dtype)log_probs->dtype);
    return FBI_RUN(nll_loss, &a, log_probs, target, weight);
}

fb_tensor *fb_mse_loss(fb_tensor *input, fb_tensor *target, const fb_mse_loss_options *opts)
{
    FBI_ENTRY(fb_context_of(input));
    fbi_attrs_mse_loss a = {.reduction = opts ? opts->reduction : FB_LOSS_MEAN};
    if (input && target && input->dtype != target->dtype) {
        fb_dtype wide = fb_promote((fb_dtype)input->dtype, (fb_dtype)target->dtype);
        input = fb_to(input, wide);
        target = fb_to(target, wide);
    }
    return FBI_RUN(mse_loss, &a, input, target);
}

void fbi_sample_cross_entropy(fbi_samples *s)
{
    fbi_sample_in in[3] = {{.shape = FB_SHAPE(4, 7), .lo = -2, .hi = 2},
                           {.shape = FB_SHAPE(4), .dtype = FB_I64, .lo = 0, .hi = 7},
                           {.absent = true}};
    ce_attrs a = {.ignore_index = -100};
    fbi_sample_add(s, &a, 3, in);
    in[1].shape = FB_SHAPE(5);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "target [5] does not fit input [4, 7]: expected [4]");
    in[1] = (fbi_sample_in){.shape = FB_SHAPE(4), .dtype = FB_I64, .lo = 9, .hi = 10};
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "target 9 at index 0 is not in 0 .. 6");
    in[1] = (fbi_sample_in){.shape = FB_SHAPE(4), .dtype = FB_BOOL, .lo = 0, .hi = 2};
    fbi_sample_bad(s, &a, 3, in, FB_E_DTYPE, "target must hold integer class indices, got BOOL");
    in[1] = (fbi_sample_in){.shape = FB_SHAPE(4), .dtype = FB_U8, .lo = 0, .hi = 7};
    in[2] = (fbi_sample_in){.shape = FB_SHAPE(7), .lo = 0.5, .hi = 2, .constant = true};
    a = (ce_attrs){.ignore_index = 2, .label_smoothing = 0.1, .reduction = FB_LOSS_SUM};
    fbi_sample_add(s, &a, 3, in);
    a.reduction = FB_LOSS_NONE;
    in[0].shape = FB_SHAPE(2, 7, 3);
    in[1] = (fbi_sample_in){.shape = FB_SHAPE(2, 3), .dtype = FB_I32, .lo = 0, .hi = 7};
    fbi_sample_add(s, &a, 3, in);
    a.label_smoothing = 2;
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "label_smoothing 2 is not in 0 .. 1");
}

void fbi_sample_mse_loss(fbi_samples *s)
{
    fbi_sample_in in[2] = {{.shape = FB_SHAPE(3, 5), .lo = -2, .hi = 2},
                           {.shape = FB_SHAPE(3, 5), .lo = -2, .hi = 2}};
    for (int r = FB_LOSS_MEAN; r <= FB_LOSS_NONE; r++)
        fbi_sample_add(s, &(fbi_attrs_mse_loss){.reduction = r}, 2, in);
    in[1].shape = FB_SHAPE(5);
    fbi_sample_bad(s, &(fbi_attrs_mse_loss){0}, 2, in, FB_E_SHAPE,
                   "input [3, 5] and target [5] differ in shape");
}

void fbi_sample_nll_loss(fbi_samples *s)
{
    fbi_sample_in in[3] = {{.shape = FB_SHAPE(4, 7), .lo = -3, .hi = -0.5},
                           {.shape = FB_SHAPE(4), .dtype = FB_I64, .lo = 0, .hi = 7},
                           {.absent = true}};
    fbi_attrs_nll_loss a = {.ignore_index = -100};
    fbi_sample_add(s, &a, 3, in);
    in[2] = (fbi_sample_in){.shape = FB_SHAPE(7), .lo = 0.5, .hi = 2, .constant = true};
    for (a.reduction = 0; a.reduction <= FB_LOSS_NONE; a.reduction++) {
        a.ignore_index = 2;
        fbi_sample_add(s, &a, 3, in);
    }
    a.reduction = FB_LOSS_MEAN;
    in[0].shape = FB_SHAPE(2, 7, 3);
    in[1] = (fbi_sample_in){.shape = FB_SHAPE(2, 3), .dtype = FB_U8, .lo = 0, .hi = 7};
    fbi_sample_add(s, &a, 3, in);
    in[2].absent = true;
    in[0].shape = FB_SHAPE(7);
    in[1].shape = FB_SCALAR;
    fbi_sample_add(s, &a, 3, in);
    in[1].lo = 9;
    in[1].hi = 10;
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "nll_loss: index 9 at position 0 is out of range");
    in[1].shape = FB_SHAPE(2);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE,
                   "nll_loss: target [2] does not fit input [7]: expected []");
    in[1].dtype = FB_BOOL;
    fbi_sample_bad(s, &a, 3, in, FB_E_DTYPE, "target must hold integer class indices, got BOOL");
    a.reduction = 3;
    in[1] = (fbi_sample_in){.shape = FB_SCALAR, .dtype = FB_I64, .lo = 0, .hi = 7};
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "nll_loss: unknown reduction 3");
}

void fbi_sample_cross_entropy_probabilities(fbi_samples *s)
{
    fbi_sample_in in[3] = {{.shape = FB_SHAPE(4, 5), .lo = -2, .hi = 2},
                           {.shape = FB_SHAPE(4, 5), .lo = 0.1, .hi = 1},
                           {.absent = true}};
    fbi_attrs_cross_entropy_probabilities a = {0};
    fbi_sample_add(s, &a, 3, in);
    in[0].shape = in[1].shape = FB_SHAPE(2, 5, 3);
    in[2] = (fbi_sample_in){.shape = FB_SHAPE(5), .lo = 0.5, .hi = 2, .constant = true};
    a.label_smoothing = 0.1;
    for (a.reduction = 0; a.reduction <= FB_LOSS_NONE; a.reduction++)
        fbi_sample_add(s, &a, 3, in);
    a.reduction = 0;
    in[1].shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "probabilities [2, 3] do not fit input [2, 5, 3]");
    in[1].shape = FB_SHAPE(2, 5, 3);
    in[2].shape = FB_SHAPE(4);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "weight [4] does not fit 5 classes");
    a.label_smoothing = -1;
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "label_smoothing -1 is not in 0 .. 1");
}
