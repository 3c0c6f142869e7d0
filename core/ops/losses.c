/* Losses of elements: composed of pointwise operators. */
#include <flambeau/core/ops/loss.h>

#include <math.h>

#include <flambeau/core/autograd/autograd.h>
#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/compose_priv.h"

fb_tensor *fbi_floor_through(fb_tensor *x, double least)
{
    fb_tensor *nought = x ? fb_sub(x, fb_detach(x)) : NULL;
    return fb_where(fb_lt(x, fbi_scalar(x, least)), fb_add_scalar(nought, least), x);
}

static fb_status need_same(const fbi_call *c)
{
    if (fbi_same_shape(c->in[0], c->in[1]))
        return FB_OK;
    return fbi_op_fail(c, FB_E_SHAPE, "input %s and target %s differ in shape", fbi_text(c->in[0]),
                       fbi_text(c->in[1]));
}

/* The values of t lie in lo .. hi; looked at where that needs no wait. */
static fb_status need_range(const fbi_call *c, fb_tensor *t, const char *what, double lo, double hi)
{
    if (!c->ctx->backend->host_memory || !t->numel)
        return FB_OK;
    FB_SCOPE(c->ctx);
    fb_no_grad(c->ctx);
    double least = fb_item(fb_amin(t, FB_ALL, false)), most = fb_item(fb_amax(t, FB_ALL, false));
    if (c->ctx->status)
        return c->ctx->status;
    if (!(least < lo) && !(most > hi))
        return FB_OK;
    return fbi_op_fail(c, FB_E_ARG, "%s %s goes from %g to %g, not within %g .. %g", what,
                       fbi_text(t), least, most, lo, hi);
}

/* --- differences --- */

fb_status fbi_compose_l1_loss(fbi_call *c)
{
    const fbi_attrs_l1_loss *a = c->attrs;
    fb_status st = fbi_need_loss(c, a->reduction);
    return st ? st : fbi_composed(c, fbi_reduced(fb_abs(fb_sub(c->in[0], c->in[1])), a->reduction));
}

/* d^2 / 2 up to |d| = delta, from there on straight: m (d - m / 2), m being d within the limits. */
static fb_tensor *huber(fb_tensor *d, double delta)
{
    fb_tensor *m = fb_clamp(d, -delta, delta);
    return fb_mul(m, fb_sub(d, fb_mul_scalar(m, 0.5)));
}

fb_status fbi_compose_huber_loss(fbi_call *c)
{
    const fbi_attrs_huber_loss *a = c->attrs;
    fb_status st = fbi_need_loss(c, a->reduction);
    if (st)
        return st;
    if (!(a->delta > 0))
        return fbi_op_fail(c, FB_E_ARG, "delta %g must be above 0", a->delta);
    return fbi_composed(c, fbi_reduced(huber(fb_sub(c->in[0], c->in[1]), a->delta), a->reduction));
}

fb_status fbi_compose_smooth_l1_loss(fbi_call *c)
{
    const fbi_attrs_smooth_l1_loss *a = c->attrs;
    fb_status st = fbi_need_loss(c, a->reduction);
    if (st)
        return st;
    if (!(a->beta >= 0))
        return fbi_op_fail(c, FB_E_ARG, "beta %g must be at least 0", a->beta);
    fb_tensor *d = fb_sub(c->in[0], c->in[1]);
    d = a->beta > 0 ? fb_mul_scalar(huber(d, a->beta), 1 / a->beta) : fb_abs(d);
    return fbi_composed(c, fbi_reduced(d, a->reduction));
}

/* --- probabilities --- */

fb_status fbi_compose_binary_cross_entropy(fbi_call *c)
{
    const fbi_attrs_binary_cross_entropy *a = c->attrs;
    fb_status st = fbi_need_loss(c, a->reduction);
    if (!st)
        st = need_same(c);
    if (!st)
        st = need_range(c, c->in[0], "input", 0, 1);
    if (st)
        return st;
    fb_tensor *loss = fb_bce(c->in[0], c->in[1]);
    return fbi_composed(c, fbi_reduced(c->in[2] ? fb_mul(loss, c->in[2]) : loss, a->reduction));
}

/* With a weight of the positive ones: (1 - t) x - (1 + (w - 1) t) log(sigmoid(x)). */
static fb_tensor *weighted_bce(fb_tensor *x, fb_tensor *t, fb_tensor *pos_weight)
{
    fb_tensor *w = fb_add_scalar(fb_mul(fb_add_scalar(pos_weight, -1), t), 1);
    fb_tensor *rest = fb_mul(fb_add_scalar(fb_neg(t), 1), x);
    return fb_sub(rest, fb_mul(w, fb_logsigmoid(x)));
}

fb_status fbi_compose_binary_cross_entropy_with_logits(fbi_call *c)
{
    const fbi_attrs_binary_cross_entropy_with_logits *a = c->attrs;
    fb_tensor *x = c->in[0], *t = c->in[1], *weight = c->in[2], *pos_weight = c->in[3];
    fb_status st = fbi_need_loss(c, a->reduction);
    if (!st)
        st = need_same(c);
    if (!st)
        st = fbi_need_numbers(c, 1);
    if (st)
        return st;
    fb_tensor *loss = pos_weight ? weighted_bce(x, t, pos_weight) : fb_bce_with_logits(x, t);
    return fbi_composed(c, fbi_reduced(weight ? fb_mul(loss, weight) : loss, a->reduction));
}

fb_status fbi_compose_kl_div(fbi_call *c)
{
    const fbi_attrs_kl_div *a = c->attrs;
    fb_tensor *x = c->in[0], *t = c->in[1];
    bool batch = a->reduction == FB_LOSS_BATCHMEAN;
    fb_status st = fbi_need_loss(c, batch ? FB_LOSS_SUM : a->reduction);
    if (st)
        return st;
    fb_tensor *loss =
        a->log_target ? fb_mul(fb_exp(t), fb_sub(t, x)) : fb_sub(fb_xlogy(t, t), fb_mul(t, x));
    if (!batch)
        return fbi_composed(c, fbi_reduced(loss, a->reduction));
    double n = x->ndim ? (double)x->size[0] : 1;
    return fbi_composed(c, fb_mul_scalar(fb_sum(loss, FB_ALL, false), 1 / n));
}

/* Stirling's approximation of log(t!), for t above 1. */
static fb_tensor *stirling(fb_tensor *t)
{
    fb_tensor *large = fb_gt(t, fbi_scalar(t, 1)), *u = fb_where(large, t, fbi_scalar(t, 1));
    fb_tensor *log_u = fb_log(u);
    fb_tensor *half = fb_mul_scalar(fb_add_scalar(log_u, log(2 * acos(-1))), 0.5);
    return fb_where(large, fb_add(fb_sub(fb_mul(u, log_u), u), half), fbi_scalar(t, 0));
}

fb_status fbi_compose_poisson_nll_loss(fbi_call *c)
{
    const fbi_attrs_poisson_nll_loss *a = c->attrs;
    fb_tensor *x = c->in[0], *t = c->in[1];
    fb_status st = fbi_need_loss(c, a->reduction);
    if (st)
        return st;
    t = fb_dtype_is_float((fb_dtype)t->dtype) ? t : fb_to(t, (fb_dtype)x->dtype);
    fb_tensor *loss = a->log_input ? fb_sub(fb_exp(x), fb_mul(t, x))
                                   : fb_sub(x, fb_mul(t, fb_log(fb_add_scalar(x, a->eps))));
    return fbi_composed(c, fbi_reduced(a->full ? fb_add(loss, stirling(t)) : loss, a->reduction));
}

/* The variance beside the input: one of each element, or of each row. */
static fb_tensor *variance_of(const fbi_call *c)
{
    fb_tensor *x = c->in[0], *var = c->in[2];
    fb_shape rows = fb_shape_of(x), v = fb_shape_of(var);
    if (fb_shape_equal(rows, v) || v.n == 0)
        return var;
    rows.n -= rows.n > 0;
    if (x->ndim && fb_shape_equal(rows, v))
        return fb_unsqueeze(var, -1);
    rows.d[rows.n++] = 1;
    if (x->ndim && fb_shape_equal(rows, v))
        return var;
    fbi_op_fail(c, FB_E_SHAPE, "variance %s does not fit input %s", fbi_text(var), fbi_text(x));
    return NULL;
}

fb_status fbi_compose_gaussian_nll_loss(fbi_call *c)
{
    const fbi_attrs_gaussian_nll_loss *a = c->attrs;
    fb_status st = fbi_need_loss(c, a->reduction);
    if (!st)
        st = fbi_need_float(c, 2);
    if (!st && !(a->eps > 0))
        return fbi_op_fail(c, FB_E_ARG, "eps %g must be above 0", a->eps);
    if (!st)
        st = need_range(c, c->in[2], "variance", 0, INFINITY);
    fb_tensor *var = st ? NULL : variance_of(c);
    if (!var)
        return st ? st : c->ctx->status;
    var = fbi_floor_through(var, a->eps);
    fb_tensor *off = fb_square(fb_sub(c->in[0], c->in[1]));
    fb_tensor *loss = fb_mul_scalar(fb_add(fb_log(var), fb_div(off, var)), 0.5);
    if (a->full)
        loss = fb_add_scalar(loss, 0.5 * log(2 * acos(-1)));
    return fbi_composed(c, fbi_reduced(loss, a->reduction));
}

/* --- of labels that are 1 or -1 --- */

fb_status fbi_compose_soft_margin_loss(fbi_call *c)
{
    const fbi_attrs_soft_margin_loss *a = c->attrs;
    fb_status st = fbi_need_loss(c, a->reduction);
    return st ? st
              : fbi_composed(
                    c, fbi_reduced(fb_softplus(fb_neg(fb_mul(c->in[1], c->in[0]))), a->reduction));
}

fb_status fbi_compose_hinge_embedding_loss(fbi_call *c)
{
    const fbi_attrs_hinge_embedding_loss *a = c->attrs;
    fb_tensor *x = c->in[0], *t = c->in[1], *nought = fbi_scalar(x, 0);
    fb_status st = fbi_need_loss(c, a->reduction);
    if (st)
        return st;
    fb_tensor *apart = fb_relu(fb_add_scalar(fb_neg(x), a->margin));
    apart = fb_where(fb_ne(t, fbi_scalar(t, 1)), apart, nought);
    fb_tensor *near = fb_where(fb_ne(t, fbi_scalar(t, -1)), x, nought);
    return fbi_composed(c, fbi_reduced(fb_add(apart, near), a->reduction));
}

/* --- public --- */

fb_tensor *fb_l1_loss(fb_tensor *input, fb_tensor *target, fb_loss_reduction reduction)
{
    return FBI_RUN(l1_loss, (&(fbi_attrs_l1_loss){.reduction = reduction}), input, target);
}

fb_tensor *fb_smooth_l1_loss(fb_tensor *input, fb_tensor *target, double beta,
                             fb_loss_reduction reduction)
{
    fbi_attrs_smooth_l1_loss a = {.beta = beta, .reduction = reduction};
    return FBI_RUN(smooth_l1_loss, &a, input, target);
}

fb_tensor *fb_huber_loss(fb_tensor *input, fb_tensor *target, double delta,
                         fb_loss_reduction reduction)
{
    fbi_attrs_huber_loss a = {.delta = delta, .reduction = reduction};
    return FBI_RUN(huber_loss, &a, input, target);
}

fb_tensor *fb_binary_cross_entropy(fb_tensor *input, fb_tensor *target, fb_tensor *weight,
                                   fb_loss_reduction reduction)
{
    fbi_attrs_binary_cross_entropy a = {.reduction = reduction};
    return FBI_RUN(binary_cross_entropy, &a, input, target, weight);
}

fb_tensor *fb_binary_cross_entropy_with_logits(fb_tensor *input, fb_tensor *target,
                                               fb_tensor *weight, fb_tensor *pos_weight,
                                               fb_loss_reduction reduction)
{
    fbi_attrs_binary_cross_entropy_with_logits a = {.reduction = reduction};
    return FBI_RUN(binary_cross_entropy_with_logits, &a, input, target, weight, pos_weight);
}

fb_tensor *fb_kl_div(fb_tensor *input, fb_tensor *target, bool log_target,
                     fb_loss_reduction reduction)
{
    fbi_attrs_kl_div a = {.log_target = log_target, .reduction = reduction};
    return FBI_RUN(kl_div, &a, input, target);
}

fb_tensor *fb_poisson_nll_loss(fb_tensor *input, fb_tensor *target,
                               const fb_poisson_nll_options *opts)
{
    static const fb_poisson_nll_options none;
    const fb_poisson_nll_options *o = opts ? opts : &none;
    fbi_attrs_poisson_nll_loss a = {.log_input = !o->rates,
                                    .full = o->full,
                                    .eps = o->eps == 0 ? 1e-8 : o->eps,
                                    .reduction = o->reduction};
    return FBI_RUN(poisson_nll_loss, &a, input, target);
}

fb_tensor *fb_gaussian_nll_loss(fb_tensor *input, fb_tensor *target, fb_tensor *var,
                                const fb_gaussian_nll_options *opts)
{
    static const fb_gaussian_nll_options none;
    const fb_gaussian_nll_options *o = opts ? opts : &none;
    fbi_attrs_gaussian_nll_loss a = {
        .full = o->full, .eps = o->eps == 0 ? 1e-6 : o->eps, .reduction = o->reduction};
    return FBI_RUN(gaussian_nll_loss, &a, input, target, var);
}

fb_tensor *fb_soft_margin_loss(fb_tensor *input, fb_tensor *target, fb_loss_reduction reduction)
{
    fbi_attrs_soft_margin_loss a = {.reduction = reduction};
    return FBI_RUN(soft_margin_loss, &a, input, target);
}

fb_tensor *fb_hinge_embedding_loss(fb_tensor *input, fb_tensor *target, double margin,
                                   fb_loss_reduction reduction)
{
    fbi_attrs_hinge_embedding_loss a = {.margin = margin, .reduction = reduction};
    return FBI_RUN(hinge_embedding_loss, &a, input, target);
}

/* --- samples --- */

#define IN(low, high, ...)                                        \
    {                                                             \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = (low), .hi = (high) \
    }

/* Every reduction of good inputs; reductions that there are not; of integers. `reduction` lies in
 * the attributes. */
static void sampled(fbi_samples *s, const void *attrs, int64_t *reduction, int n,
                    const fbi_sample_in *in)
{
    for (*reduction = FB_LOSS_MEAN; *reduction <= FB_LOSS_NONE; ++*reduction)
        fbi_sample_add(s, attrs, n, in);
    *reduction = -1;
    fbi_sample_bad(s, attrs, n, in, FB_E_ARG, "unknown reduction -1");
    *reduction = FB_LOSS_MEAN;
    fbi_sample_in wrong[4];
    for (int i = 0; i < n; i++)
        wrong[i] = in[i];
    wrong[0].dtype = FB_I64;
    fbi_sample_bad(s, attrs, n, wrong, FB_E_DTYPE, "input 0 is I64; needs F32");
}

void fbi_sample_l1_loss(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(0.5, 2, 3, 5), IN(-2, 0, 3, 5)};
    fbi_attrs_l1_loss a = {0};
    sampled(s, &a, &a.reduction, 2, in);
    in[1].shape = FB_SHAPE(5);
    fbi_sample_add(s, &a, 2, in);
    in[1].shape = FB_SHAPE(4);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "l1_loss: [3, 5] and [4] cannot be broadcast");
}

void fbi_sample_smooth_l1_loss(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-2, 2, 3, 5), IN(-2, 2, 3, 5)};
    fbi_attrs_smooth_l1_loss a = {.beta = 1};
    sampled(s, &a, &a.reduction, 2, in);
    a.beta = 0.5;
    fbi_sample_add(s, &a, 2, in);
    a.beta = 0;
    fbi_sample_add(s, &a, 2, in);
    a.beta = -1;
    fbi_sample_bad(s, &a, 2, in, FB_E_ARG, "smooth_l1_loss: beta -1 must be at least 0");
}

void fbi_sample_huber_loss(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-2, 2, 3, 5), IN(-2, 2, 3, 5)};
    fbi_attrs_huber_loss a = {.delta = 0.7};
    sampled(s, &a, &a.reduction, 2, in);
    a.delta = 0;
    fbi_sample_bad(s, &a, 2, in, FB_E_ARG, "huber_loss: delta 0 must be above 0");
}

void fbi_sample_binary_cross_entropy(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(0.1, 0.9, 3, 5), IN(0.1, 0.9, 3, 5), {.absent = true}};
    fbi_attrs_binary_cross_entropy a = {0};
    sampled(s, &a, &a.reduction, 3, in);
    in[2] = (fbi_sample_in)IN(0.5, 2, 5);
    fbi_sample_add(s, &a, 3, in);
    in[1].shape = FB_SHAPE(5);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "input [3, 5] and target [5] differ in shape");
}

void fbi_sample_binary_cross_entropy_with_logits(fbi_samples *s)
{
    fbi_sample_in in[4] = {IN(-3, 3, 3, 5), IN(0.1, 0.9, 3, 5), {.absent = true}, {.absent = true}};
    fbi_attrs_binary_cross_entropy_with_logits a = {0};
    sampled(s, &a, &a.reduction, 4, in);
    in[3] = (fbi_sample_in)IN(0.5, 2, 5);
    fbi_sample_add(s, &a, 4, in);
    in[2] = (fbi_sample_in)IN(0.5, 2, 3, 1);
    fbi_sample_add(s, &a, 4, in);
    in[1].dtype = FB_BOOL;
    fbi_sample_bad(s, &a, 4, in, FB_E_DTYPE, "input 1 is BOOL; needs numbers");
    in[1].shape = FB_SHAPE(5);
    fbi_sample_bad(s, &a, 4, in, FB_E_SHAPE, "input [3, 5] and target [5] differ in shape");
}

void fbi_sample_kl_div(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-3, -0.5, 3, 5), IN(0.1, 0.9, 3, 5)};
    fbi_attrs_kl_div a = {0};
    sampled(s, &a, &a.reduction, 2, in);
    a.reduction = FB_LOSS_BATCHMEAN;
    fbi_sample_add(s, &a, 2, in);
    in[1] = (fbi_sample_in)IN(-3, -0.5, 5);
    a.log_target = 1;
    fbi_sample_add(s, &a, 2, in);
}

void fbi_sample_poisson_nll_loss(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(0.2, 2, 3, 5), IN(1.5, 4, 3, 5)};
    fbi_attrs_poisson_nll_loss a = {.log_input = 1, .eps = 1e-8};
    sampled(s, &a, &a.reduction, 2, in);
    a.log_input = 0;
    fbi_sample_add(s, &a, 2, in);
    a.full = 1;
    fbi_sample_add(s, &a, 2, in);
    in[1] = (fbi_sample_in){.shape = FB_SHAPE(5), .lo = 0, .hi = 4, .dtype = FB_I64};
    fbi_sample_add(s, &a, 2, in);
}

void fbi_sample_gaussian_nll_loss(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 3, 5), IN(-2, 2, 3, 5), IN(0.5, 2, 3, 5)};
    fbi_attrs_gaussian_nll_loss a = {.eps = 1e-6};
    sampled(s, &a, &a.reduction, 3, in);
    a.full = 1;
    in[2].shape = FB_SHAPE(3);
    fbi_sample_add(s, &a, 3, in);
    in[2].shape = FB_SHAPE(3, 1);
    fbi_sample_add(s, &a, 3, in);
    in[2].shape = FB_SHAPE(5);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "variance [5] does not fit input [3, 5]");
    a.eps = 0;
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "gaussian_nll_loss: eps 0 must be above 0");
}

void fbi_sample_soft_margin_loss(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-2, 2, 3, 5), IN(-1, 1, 3, 5)};
    fbi_attrs_soft_margin_loss a = {0};
    sampled(s, &a, &a.reduction, 2, in);
}

void fbi_sample_hinge_embedding_loss(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-2, 2, 3, 5), {.shape = FB_SHAPE(3, 5), .lo = -1, .hi = 2}};
    fbi_attrs_hinge_embedding_loss a = {.margin = 0.8};
    in[1].dtype = FB_I64;
    sampled(s, &a, &a.reduction, 2, in);
}
