/* Distances and similarities of rows, and the losses that keep them apart by a margin. */
#include <flambeau/core/ops/loss.h>

#include <flambeau/core/ops/functions.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/scan.h>
#include <flambeau/core/ops/scatter.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/compose_priv.h"

static fb_status need_two_floats(const fbi_call *c)
{
    fb_status st = fbi_need_float(c, 0);
    return st ? st : fbi_need_float(c, 1);
}

/* --- of two tensors --- */

fb_status fbi_compose_cosine_similarity(fbi_call *c)
{
    const fbi_attrs_cosine_similarity *a = c->attrs;
    fb_tensor *x = c->in[0], *y = c->in[1];
    fb_shape s;
    fb_status st = need_two_floats(c);
    if (st)
        return st;
    if (!fbi_broadcast(fb_shape_of(x), fb_shape_of(y), &s))
        return fbi_op_fail(c, FB_E_SHAPE, "%s and %s cannot be broadcast", fbi_text(x),
                           fbi_text(y));
    int64_t d = a->dim < 0 ? a->dim + s.n : a->dim;
    if (d < 0 || d >= s.n)
        return fbi_op_fail(c, FB_E_ARG, "no dimension %lld in %s", (long long)a->dim,
                           fbi_shape_text(c->ctx, s));
    x = fb_shape_equal(s, fb_shape_of(x)) ? x : fb_expand(x, s);
    y = fb_shape_equal(s, fb_shape_of(y)) ? y : fb_expand(y, s);
    fb_shape dims = FB_SHAPE(d);
    fb_tensor *nx = fbi_floor_through(fb_norm(x, 2, dims, true), a->eps);
    fb_tensor *ny = fbi_floor_through(fb_norm(y, 2, dims, true), a->eps);
    return fbi_composed(c, fb_sum(fb_mul(fb_div(x, nx), fb_div(y, ny)), dims, false));
}

static fb_tensor *distance(fb_tensor *x, fb_tensor *y, double p, double eps, bool keepdim)
{
    return fb_norm(fb_add_scalar(fb_sub(x, y), eps), p, FB_SHAPE(-1), keepdim);
}

fb_status fbi_compose_pairwise_distance(fbi_call *c)
{
    const fbi_attrs_pairwise_distance *a = c->attrs;
    fb_status st = need_two_floats(c);
    if (!st && !c->in[0]->ndim && !c->in[1]->ndim)
        st = fbi_op_fail(c, FB_E_SHAPE, "inputs [] and [] are no rows");
    return st ? st : fbi_composed(c, distance(c->in[0], c->in[1], a->p, a->eps, a->keepdim != 0));
}

fb_status fbi_compose_margin_ranking_loss(fbi_call *c)
{
    const fbi_attrs_margin_ranking_loss *a = c->attrs;
    fb_status st = fbi_need_loss(c, a->reduction);
    if (st)
        return st;
    fb_tensor *ahead = fb_mul(c->in[2], fb_sub(c->in[0], c->in[1]));
    return fbi_composed(
        c, fbi_reduced(fb_relu(fb_add_scalar(fb_neg(ahead), a->margin)), a->reduction));
}

/* The cosine of rows; 1e-12 under the root, as PyTorch has it here. */
static fb_tensor *cosine(fb_tensor *x, fb_tensor *y)
{
    fb_shape last = FB_SHAPE(-1);
    fb_tensor *nx = fb_add_scalar(fb_sum(fb_square(x), last, false), 1e-12);
    fb_tensor *ny = fb_add_scalar(fb_sum(fb_square(y), last, false), 1e-12);
    return fb_div(fb_sum(fb_mul(x, y), last, false), fb_sqrt(fb_mul(nx, ny)));
}

fb_status fbi_compose_cosine_embedding_loss(fbi_call *c)
{
    const fbi_attrs_cosine_embedding_loss *a = c->attrs;
    fb_tensor *x = c->in[0], *y = c->in[1], *t = c->in[2];
    fb_status st = fbi_need_loss(c, a->reduction);
    if (!st)
        st = fbi_need_float(c, 1);
    if (st)
        return st;
    if (x->ndim < 1 || x->ndim > 2 || x->ndim != y->ndim || t->ndim != x->ndim - 1)
        return fbi_op_fail(c, FB_E_SHAPE,
                           "inputs %s and %s and target %s: [N, D] and [N], or [D] and []",
                           fbi_text(x), fbi_text(y), fbi_text(t));
    fb_tensor *cos = cosine(x, y), *nought = fbi_scalar(cos, 0);
    fb_tensor *near = fb_add_scalar(fb_neg(cos), 1),
              *apart = fb_relu(fb_add_scalar(cos, -a->margin));
    near = fb_where(fb_eq(t, fbi_scalar(t, 1)), near, nought);
    apart = fb_where(fb_eq(t, fbi_scalar(t, -1)), apart, nought);
    return fbi_composed(c, fbi_reduced(fb_add(near, apart), a->reduction));
}

/* --- of three --- */

/* From the distances to a positive and to a negative example, and (or NULL) between these. */
static fb_tensor *triplet(fb_tensor *near, fb_tensor *far, fb_tensor *between, double margin,
                          int64_t reduction)
{
    far = between ? fb_minimum(far, between) : far;
    return fbi_reduced(fb_relu(fb_add_scalar(fb_sub(near, far), margin)), reduction);
}

fb_status fbi_compose_triplet_margin_loss(fbi_call *c)
{
    const fbi_attrs_triplet_margin_loss *a = c->attrs;
    fb_tensor *x = c->in[0], *pos = c->in[1], *neg = c->in[2];
    fb_status st = fbi_need_loss(c, a->reduction);
    for (int i = 1; i < 3 && !st; i++)
        st = fbi_need_float(c, i);
    if (st)
        return st;
    if (x->ndim == 0 || x->ndim != pos->ndim || x->ndim != neg->ndim)
        return fbi_op_fail(c, FB_E_SHAPE,
                           "anchor %s, positive %s and negative %s: of as many dimensions",
                           fbi_text(x), fbi_text(pos), fbi_text(neg));
    if (!(a->margin > 0))
        return fbi_op_fail(c, FB_E_ARG, "margin %g must be above 0", a->margin);
    fb_tensor *between = a->swap ? distance(pos, neg, a->p, a->eps, false) : NULL;
    if (a->swap && !between)
        return c->ctx->status;
    return fbi_composed(c, triplet(distance(x, pos, a->p, a->eps, false),
                                   distance(x, neg, a->p, a->eps, false), between, a->margin,
                                   a->reduction));
}

/* --- of classes --- */

fb_status fbi_compose_multi_margin_loss(fbi_call *c)
{
    const fbi_attrs_multi_margin_loss *a = c->attrs;
    fb_tensor *x = c->in[0], *w = c->in[2];
    fb_status st = fbi_need_loss(c, a->reduction);
    if (!st)
        st = fbi_need_classes(c, 0, w);
    if (st)
        return st;
    if (x->ndim > 2)
        return fbi_op_fail(c, FB_E_SHAPE, "input %s must be [N, C] or [C]", fbi_text(x));
    if (a->p != 1 && a->p != 2)
        return fbi_op_fail(c, FB_E_ARG, "p is %lld; needs 1 or 2", (long long)a->p);
    int64_t classes = x->size[x->ndim - 1];
    fb_tensor *t = fb_unsqueeze(fb_to(c->in[1], FB_I64), -1), *own = fb_gather(x, -1, t);
    fb_tensor *off = fb_relu(fb_add_scalar(fb_sub(x, own), a->margin));
    off = a->p == 2 ? fb_square(off) : off;
    if (w && t)
        off = fb_mul(off, fb_reshape(fb_index_select(w, 0, fb_reshape(t, FB_SHAPE(t->numel))),
                                     fb_shape_of(t)));
    fb_tensor *other = fb_ne(t, fb_arange(c->ctx, FB_I64, 0, (double)classes, 1));
    off = fb_sum(fb_where(other, off, fbi_scalar(x, 0)), FB_SHAPE(-1), false);
    return fbi_composed(c, fbi_reduced(fb_mul_scalar(off, 1 / (double)classes), a->reduction));
}

/* Each of the classes that the target lists, up to its first -1, against each that it does not. */
static fb_tensor *listed_against_others(fb_tensor *x, fb_tensor *t)
{
    fb_tensor *none = fbi_scalar(t, 0), *one = fbi_scalar(t, 1);
    fb_tensor *listed = fb_eq(fb_cumsum(fb_to(fb_lt(t, none), FB_I64), -1), none);
    fb_tensor *at = fb_where(listed, t, none), *counts = fb_to(listed, FB_I64);
    fb_tensor *base = t ? fb_zeros(t->ctx, FB_I64, fb_shape_of(t)) : NULL;
    fb_tensor *other = fb_lt(fb_scatter_add(base, -1, at, counts), one);
    fb_tensor *own = fb_gather(x, -1, at);
    fb_tensor *off = fb_sub(fb_unsqueeze(x, -2), fb_unsqueeze(own, -1));
    fb_tensor *counted = fb_logical_and(fb_unsqueeze(listed, -1), fb_unsqueeze(other, -2));
    off = fb_where(counted, fb_relu(fb_add_scalar(off, 1)), fbi_scalar(x, 0));
    return fb_sum(off, FB_SHAPE(-2, -1), false);
}

fb_status fbi_compose_multilabel_margin_loss(fbi_call *c)
{
    const fbi_attrs_multilabel_margin_loss *a = c->attrs;
    fb_tensor *x = c->in[0], *t = c->in[1];
    fb_status st = fbi_need_loss(c, a->reduction);
    if (!st)
        st = fbi_need_dtype(c, 1, FB_I64);
    if (st)
        return st;
    if (x->ndim < 1 || x->ndim > 2 || !fbi_same_shape(x, t))
        return fbi_op_fail(c, FB_E_SHAPE, "input %s and target %s: both [N, C] or [C]", fbi_text(x),
                           fbi_text(t));
    double classes = (double)x->size[x->ndim - 1];
    fb_tensor *loss = fb_mul_scalar(listed_against_others(x, t), 1 / classes);
    return fbi_composed(c, fbi_reduced(loss, a->reduction));
}

fb_status fbi_compose_multilabel_soft_margin_loss(fbi_call *c)
{
    const fbi_attrs_multilabel_soft_margin_loss *a = c->attrs;
    fb_tensor *x = c->in[0], *t = c->in[1];
    fb_status st = fbi_need_loss(c, a->reduction);
    if (!st)
        st = fbi_need_numbers(c, 1);
    if (!st && x->ndim == 0)
        st = fbi_op_fail(c, FB_E_SHAPE, "input [] has no dimension of classes");
    if (st)
        return st;
    fb_tensor *loss = fb_bce_with_logits(x, t);
    loss = c->in[2] ? fb_mul(loss, c->in[2]) : loss;
    return fbi_composed(c, fbi_reduced(fb_mean(loss, FB_SHAPE(-1), false), a->reduction));
}

/* --- public --- */

fb_tensor *fb_cosine_similarity(fb_tensor *a, fb_tensor *b, int dim, double eps)
{
    return FBI_RUN(cosine_similarity, (&(fbi_attrs_cosine_similarity){dim, eps}), a, b);
}

fb_tensor *fb_pairwise_distance(fb_tensor *a, fb_tensor *b, double p, double eps, bool keepdim)
{
    return FBI_RUN(pairwise_distance, (&(fbi_attrs_pairwise_distance){p, eps, keepdim}), a, b);
}

fb_tensor *fb_margin_ranking_loss(fb_tensor *a, fb_tensor *b, fb_tensor *target, double margin,
                                  fb_loss_reduction reduction)
{
    fbi_attrs_margin_ranking_loss at = {.margin = margin, .reduction = reduction};
    return FBI_RUN(margin_ranking_loss, &at, a, b, target);
}

fb_tensor *fb_cosine_embedding_loss(fb_tensor *a, fb_tensor *b, fb_tensor *target, double margin,
                                    fb_loss_reduction reduction)
{
    fbi_attrs_cosine_embedding_loss at = {.margin = margin, .reduction = reduction};
    return FBI_RUN(cosine_embedding_loss, &at, a, b, target);
}

static fbi_attrs_triplet_margin_loss triplet_attrs(const fb_triplet_options *opts)
{
    static const fb_triplet_options none;
    const fb_triplet_options *o = opts ? opts : &none;
    return (fbi_attrs_triplet_margin_loss){.margin = o->margin == 0 ? 1 : o->margin,
                                           .p = o->p == 0 ? 2 : o->p,
                                           .eps = o->eps == 0 ? 1e-6 : o->eps,
                                           .swap = o->swap,
                                           .reduction = o->reduction};
}

fb_tensor *fb_triplet_margin_loss(fb_tensor *anchor, fb_tensor *positive, fb_tensor *negative,
                                  const fb_triplet_options *opts)
{
    fbi_attrs_triplet_margin_loss a = triplet_attrs(opts);
    return FBI_RUN(triplet_margin_loss, &a, anchor, positive, negative);
}

fb_tensor *fb_triplet_margin_with_distance_loss(fb_tensor *anchor, fb_tensor *positive,
                                                fb_tensor *negative, fb_distance fn, void *user,
                                                const fb_triplet_options *opts)
{
    fb_context *ctx = fb_context_of(anchor);
    fbi_attrs_triplet_margin_loss a = triplet_attrs(opts);
    FBI_ENTRY(ctx);
    if (!ctx || !fbi_enter(ctx))
        return NULL;
    if (!fn || !(a.margin > 0) || a.reduction < FB_LOSS_MEAN || a.reduction > FB_LOSS_NONE) {
        fbi_fail(ctx, FB_E_ARG,
                 "triplet_margin_with_distance_loss: %s, margin %g, reduction %d: needs a "
                 "function, a margin above 0 and a reduction",
                 fn ? "a function" : "no function", a.margin, (int)a.reduction);
        return NULL;
    }
    FB_SCOPE(ctx);
    fb_tensor *near = fn(anchor, positive, user), *far = near ? fn(anchor, negative, user) : NULL;
    fb_tensor *between = far && a.swap ? fn(positive, negative, user) : NULL;
    if (!far || (a.swap && !between)) {
        if (!ctx->status)
            fbi_fail(ctx, FB_E_ARG,
                     "triplet_margin_with_distance_loss: the distance function returned NULL");
        return NULL;
    }
    fb_tensor *loss = triplet(near, far, between, a.margin, a.reduction);
    return loss ? fb_keep(loss) : NULL;
}

fb_tensor *fb_multi_margin_loss(fb_tensor *input, fb_tensor *target, fb_tensor *weight, int p,
                                double margin, fb_loss_reduction reduction)
{
    FBI_ENTRY(fb_context_of(input));
    fbi_attrs_multi_margin_loss a = {.p = p, .margin = margin, .reduction = reduction};
    if (input && weight && weight->dtype != input->dtype)
        weight = fb_to(weight, (fb_dtype)input->dtype);
    return FBI_RUN(multi_margin_loss, &a, input, target, weight);
}

fb_tensor *fb_multilabel_margin_loss(fb_tensor *input, fb_tensor *target,
                                     fb_loss_reduction reduction)
{
    fbi_attrs_multilabel_margin_loss a = {.reduction = reduction};
    return FBI_RUN(multilabel_margin_loss, &a, input, target);
}

fb_tensor *fb_multilabel_soft_margin_loss(fb_tensor *input, fb_tensor *target, fb_tensor *weight,
                                          fb_loss_reduction reduction)
{
    fbi_attrs_multilabel_soft_margin_loss a = {.reduction = reduction};
    return FBI_RUN(multilabel_soft_margin_loss, &a, input, target, weight);
}

/* --- samples --- */

#define IN(low, high, ...)                                        \
    {                                                             \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = (low), .hi = (high) \
    }
#define INDEX(low, high, ...)                                                      \
    {                                                                              \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = (low), .hi = (high), .dtype = FB_I64 \
    }

void fbi_sample_cosine_similarity(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-2, 2, 3, 5), IN(-2, 2, 3, 5)};
    fbi_attrs_cosine_similarity a = {.dim = 1, .eps = 1e-8};
    fbi_sample_add(s, &a, 2, in);
    a.dim = -1;
    in[1].shape = FB_SHAPE(5);
    fbi_sample_add(s, &a, 2, in);
    a.dim = 2;
    fbi_sample_bad(s, &a, 2, in, FB_E_ARG, "cosine_similarity: no dimension 2 in [3, 5]");
    in[1].shape = FB_SHAPE(4);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "[3, 5] and [4] cannot be broadcast");
    in[1].dtype = FB_I64;
    fbi_sample_bad(s, &a, 2, in, FB_E_DTYPE, "input 1 is I64");
}

void fbi_sample_pairwise_distance(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(0.5, 2, 3, 5), IN(-2, 0, 3, 5)};
    const double ps[] = {2, 1, 3, 0.5};
    fbi_attrs_pairwise_distance a = {.eps = 1e-6};
    for (size_t i = 0; i < sizeof ps / sizeof ps[0]; i++) {
        a.p = ps[i];
        a.keepdim = i == 1;
        fbi_sample_add(s, &a, 2, in);
    }
    in[0].shape = in[1].shape = FB_SCALAR;
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "inputs [] and [] are no rows");
}

void fbi_sample_margin_ranking_loss(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 6), IN(-2, 2, 6), INDEX(-1, 2, 6)};
    fbi_attrs_margin_ranking_loss a = {.margin = 0.3};
    for (a.reduction = 0; a.reduction <= FB_LOSS_NONE; a.reduction++)
        fbi_sample_add(s, &a, 3, in);
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "margin_ranking_loss: unknown reduction 3");
    in[1].shape = FB_SHAPE(5);
    a.reduction = 0;
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "[6] and [5] cannot be broadcast");
}

void fbi_sample_cosine_embedding_loss(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 6, 4), IN(-2, 2, 6, 4), INDEX(-1, 2, 6)};
    fbi_attrs_cosine_embedding_loss a = {.margin = -0.2};
    for (a.reduction = 0; a.reduction <= FB_LOSS_NONE; a.reduction++)
        fbi_sample_add(s, &a, 3, in);
    a.reduction = 0;
    in[0].shape = in[1].shape = FB_SHAPE(4);
    in[2].shape = FB_SCALAR;
    fbi_sample_add(s, &a, 3, in);
    in[2].shape = FB_SHAPE(4);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "inputs [4] and [4] and target [4]");
}

void fbi_sample_triplet_margin_loss(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 4, 3), IN(-2, 2, 4, 3), IN(-2, 2, 4, 3)};
    fbi_attrs_triplet_margin_loss a = {.margin = 1, .p = 2, .eps = 1e-6};
    for (a.reduction = 0; a.reduction <= FB_LOSS_NONE; a.reduction++)
        fbi_sample_add(s, &a, 3, in);
    a.reduction = 0;
    a.swap = 1;
    a.p = 1;
    fbi_sample_add(s, &a, 3, in);
    a.margin = 0;
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "triplet_margin_loss: margin 0 must be above 0");
    in[1].shape = FB_SHAPE(3);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "anchor [4, 3], positive [3] and negative [4, 3]");
}

void fbi_sample_multi_margin_loss(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 4, 5), INDEX(0, 5, 4), {.absent = true}};
    fbi_attrs_multi_margin_loss a = {.p = 1, .margin = 1};
    for (a.reduction = 0; a.reduction <= FB_LOSS_NONE; a.reduction++)
        fbi_sample_add(s, &a, 3, in);
    a.reduction = 0;
    a.p = 2;
    in[2] = (fbi_sample_in){.shape = FB_SHAPE(5), .lo = 0.5, .hi = 2, .constant = true};
    fbi_sample_add(s, &a, 3, in);
    in[0].shape = FB_SHAPE(5);
    in[1].shape = FB_SCALAR;
    fbi_sample_add(s, &a, 3, in);
    a.p = 3;
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "multi_margin_loss: p is 3; needs 1 or 2");
    a.p = 1;
    in[1].lo = 7;
    in[1].hi = 8;
    fbi_sample_bad(s, &a, 3, in, FB_E_ARG, "multi_margin_loss: index 7 at position 0");
    in[0].shape = FB_SHAPE(2, 5, 3);
    in[1].shape = FB_SHAPE(2, 3);
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "input [2, 5, 3] must be [N, C] or [C]");
}

void fbi_sample_multilabel_margin_loss(fbi_samples *s)
{
    fbi_sample_in in[2] = {IN(-2, 2, 4, 5), INDEX(-1, 5, 4, 5)};
    fbi_attrs_multilabel_margin_loss a = {0};
    for (a.reduction = 0; a.reduction <= FB_LOSS_NONE; a.reduction++)
        fbi_sample_add(s, &a, 2, in);
    a.reduction = 0;
    in[0].shape = in[1].shape = FB_SHAPE(5);
    fbi_sample_add(s, &a, 2, in);
    in[1].lo = 7;
    in[1].hi = 8;
    fbi_sample_bad(s, &a, 2, in, FB_E_ARG, "multilabel_margin_loss: index 7 at position 0");
    in[1].shape = FB_SHAPE(4);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "input [5] and target [4]: both [N, C] or [C]");
    in[1].dtype = FB_I32;
    fbi_sample_bad(s, &a, 2, in, FB_E_DTYPE, "input 1 is I32; needs I64");
}

void fbi_sample_multilabel_soft_margin_loss(fbi_samples *s)
{
    fbi_sample_in in[3] = {IN(-2, 2, 4, 5), IN(0.1, 0.9, 4, 5), {.absent = true}};
    fbi_attrs_multilabel_soft_margin_loss a = {0};
    for (a.reduction = 0; a.reduction <= FB_LOSS_NONE; a.reduction++)
        fbi_sample_add(s, &a, 3, in);
    a.reduction = 0;
    in[2] = (fbi_sample_in)IN(0.5, 2, 5);
    fbi_sample_add(s, &a, 3, in);
    in[0].shape = FB_SCALAR;
    fbi_sample_bad(s, &a, 3, in, FB_E_SHAPE, "input [] has no dimension of classes");
}
