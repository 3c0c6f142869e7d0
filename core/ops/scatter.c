/* The rows that write at indices: shapes and backward. What is made of them: index_put.c. */
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/scatter.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/half_priv.h"
#include "core/ops/index_priv.h"
#include "core/ops/scatter_priv.h"

/* x, index [sizes of src], src or NULL: a value */
static fb_status infer(fbi_call *c, int64_t *dim)
{
    fb_status st = fbi_need_index(c, 1);
    *dim = *dim < 0 ? *dim + c->in[0]->ndim : *dim;
    if (!st && c->in[2] && c->in[2]->dtype != c->in[0]->dtype)
        return fbi_op_fail(c, FB_E_DTYPE, "the source is %s, x is %s",
                           fb_dtype_name((fb_dtype)c->in[2]->dtype),
                           fb_dtype_name((fb_dtype)c->in[0]->dtype));
    return st ? st : fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, fb_shape_of(c->in[0]));
}

fb_status fbi_infer_set_elements(fbi_call *c)
{
    return infer(c, &((fbi_attrs_set_elements *)c->attrs)->dim);
}

fb_status fbi_infer_join_elements(fbi_call *c)
{
    return infer(c, &((fbi_attrs_join_elements *)c->attrs)->dim);
}

fb_status fbi_infer_set_slices(fbi_call *c)
{
    return infer(c, &((fbi_attrs_set_slices *)c->attrs)->dim);
}

/* --- elements --- */

/* Of halves the derivatives go through F32. */
static fb_status give(fbi_bw *bw, int i, fb_tensor *g)
{
    return fbi_bw_give(bw, i, g ? fb_to(g, (fb_dtype)bw->grad[0]->dtype) : NULL);
}

fb_tensor *fbi_set_elements(fb_tensor *x, int64_t dim, fb_tensor *index, fb_tensor *src, int how,
                            bool self)
{
    fbi_attrs_set_elements a = {.dim = dim, .how = how, .self = self};
    return x && index ? FBI_RUN(set_elements, &a, x, index, src) : NULL;
}

/* x with zeros at index. */
static fb_tensor *cleared(fb_tensor *x, int64_t dim, fb_tensor *index)
{
    return fbi_set_elements(x, dim, index, NULL, FBI_SET_COPY, true);
}

/* How many elements each place of g is the mean of. */
static fb_tensor *counted(fb_tensor *g, const fbi_attrs_set_elements *a, fb_tensor *index)
{
    fb_tensor *base = fb_full_like(g, a->self ? 1 : 0);
    fb_tensor *one = fb_ones(g->ctx, (fb_dtype)g->dtype, fb_shape_of(index));
    fb_tensor *n = fbi_set_elements(base, a->dim, index, one, FBI_SET_SUM, true);
    fb_tensor *least = n ? fb_ones(g->ctx, (fb_dtype)g->dtype, FB_SCALAR) : NULL;
    return least ? fb_maximum(n, least) : NULL;
}

fb_status fbi_bwd_ops_set_elements(fbi_bw *bw)
{
    const fbi_attrs_set_elements *a = bw->attrs;
    fb_tensor *index = fbi_bw_in(bw, 1), *g = fbi_exact(bw->grad[0]);
    if (!index || !g)
        return bw->ctx->status;
    if (a->how == FBI_SET_MEAN) {
        fb_tensor *n = counted(g, a, index);
        g = n ? fb_div(g, n) : NULL;
    }
    bool kept = a->self && a->how != FBI_SET_COPY;
    fb_status st = g ? FB_OK : bw->ctx->status;
    if (!st && fbi_bw_needs(bw, 0))
        st = give(bw, 0, kept ? g : cleared(g, a->dim, index));
    return st || !fbi_bw_needs(bw, 2) ? st : give(bw, 2, fb_gather(g, (int)a->dim, index));
}

/* --- products and extremes of elements --- */

typedef struct joined { /* of a backward of join_elements */
    const fbi_attrs_join_elements *a;
    fb_tensor *x, *index, *src, *y, *g;
} joined;

static fb_tensor *join(const joined *j, fb_tensor *x, fb_tensor *src)
{
    fbi_attrs_join_elements a = *j->a;
    return x && src ? FBI_RUN(join_elements, &a, x, j->index, src) : NULL;
}

static fb_tensor *at_index(const joined *j, fb_tensor *t)
{
    return t ? fb_gather(t, (int)j->a->dim, j->index) : NULL;
}

static fb_tensor *zero_of(fb_tensor *t)
{
    return t ? fb_zeros(t->ctx, (fb_dtype)t->dtype, FB_SCALAR) : NULL;
}

/* t, with 1 where `mask` is true. */
static fb_tensor *ones_where(fb_tensor *mask, fb_tensor *t)
{
    fb_tensor *one = t ? fb_ones(t->ctx, (fb_dtype)t->dtype, FB_SCALAR) : NULL;
    return mask && one ? fb_where(mask, one, t) : NULL;
}

/* The product of all but one: the whole divided by it, or made without it where it is zero. */
static fb_status bwd_prod(fbi_bw *bw, const joined *j)
{
    fb_tensor *x_zero = fb_eq(j->x, zero_of(j->x)), *src_zero = fb_eq(j->src, zero_of(j->src));
    if (!x_zero || !src_zero)
        return bw->ctx->status;
    fb_dtype dtype = (fb_dtype)j->x->dtype;
    fb_tensor *zeros = at_index(j, fbi_set_elements(fb_zeros_like(j->x), j->a->dim, j->index,
                                                    fb_to(src_zero, dtype), FBI_SET_SUM, true));
    fb_tensor *one = fb_ones(bw->ctx, dtype, FB_SCALAR);
    fb_tensor *lonely = zeros && one ? fb_mul(src_zero, fb_eq(zeros, one)) : NULL;
    fb_tensor *x1 = ones_where(x_zero, j->x), *src1 = ones_where(lonely, j->src);
    fb_tensor *without_x = join(j, x1, j->src), *without_src = join(j, j->x, src1);
    if (!without_x || !without_src)
        return bw->ctx->status;
    fb_tensor *gx = fb_div(fb_mul(j->g, without_x), x1);
    if (gx && !j->a->self)
        gx = cleared(gx, j->a->dim, j->index);
    fb_status st = give(bw, 0, gx);
    if (st)
        return st;
    fb_tensor *whole = fb_div(at_index(j, fb_mul(j->g, j->y)), ones_where(src_zero, j->src));
    fb_tensor *part = at_index(j, fb_mul(j->g, without_src));
    return give(bw, 2, whole && part ? fb_where(lonely, part, whole) : NULL);
}

/* Those that are the extreme share its gradient. */
static fb_status bwd_extreme(fbi_bw *bw, const joined *j)
{
    fb_dtype dtype = (fb_dtype)j->x->dtype;
    fb_tensor *mine = fb_to(fb_eq(j->x, j->y), dtype);
    fb_tensor *theirs = fb_to(fb_eq(j->src, at_index(j, j->y)), dtype);
    if (mine && !j->a->self)
        mine = cleared(mine, j->a->dim, j->index);
    fb_tensor *n = fbi_set_elements(mine, j->a->dim, j->index, theirs, FBI_SET_SUM, true);
    if (!n)
        return bw->ctx->status;
    fb_tensor *one = fb_ones(bw->ctx, dtype, FB_SCALAR);
    fb_tensor *part = one ? fb_div(j->g, fb_maximum(n, one)) : NULL;
    fb_status st = give(bw, 0, part ? fb_mul(mine, part) : NULL);
    return st ? st : give(bw, 2, part ? fb_mul(theirs, at_index(j, part)) : NULL);
}

fb_status fbi_bwd_ops_join_elements(fbi_bw *bw)
{
    joined j = {.a = bw->attrs,
                .x = fbi_exact(fbi_bw_in(bw, 0)),
                .index = fbi_bw_in(bw, 1),
                .src = fbi_exact(fbi_bw_in(bw, 2)),
                .y = fbi_exact(fbi_bw_out(bw, 0)),
                .g = fbi_exact(bw->grad[0])};
    if (!j.x || !j.index || !j.src || !j.y)
        return bw->ctx->status;
    return j.a->how == FBI_SET_PROD ? bwd_prod(bw, &j) : bwd_extreme(bw, &j);
}

/* --- slices --- */

fb_tensor *fbi_set_slices(fb_tensor *x, int64_t dim, fb_tensor *index, fb_tensor *src, int how)
{
    fbi_attrs_set_slices a = {.dim = dim, .how = how};
    return x && index ? FBI_RUN(set_slices, &a, x, index, src) : NULL;
}

fb_status fbi_bwd_ops_set_slices(fbi_bw *bw)
{
    const fbi_attrs_set_slices *a = bw->attrs;
    fb_tensor *index = fbi_bw_in(bw, 1), *g = bw->grad[0];
    if (!index)
        return bw->ctx->status;
    fb_status st = FB_OK;
    if (fbi_bw_needs(bw, 0))
        st = fbi_bw_give(
            bw, 0,
            a->how == FBI_SET_SUM ? g : fbi_set_slices(g, a->dim, index, NULL, FBI_SET_COPY));
    if (st || !fbi_bw_needs(bw, 2))
        return st;
    return fbi_bw_give(bw, 2, fb_index_select(g, (int)a->dim, index));
}

/* --- public --- */

fb_tensor *fb_scatter(fb_tensor *x, int dim, fb_tensor *index, fb_tensor *src)
{
    return FBI_RUN(scatter, (&(fbi_attrs_scatter){.dim = dim}), x, index, src);
}

fb_tensor *fb_scatter_value(fb_tensor *x, int dim, fb_tensor *index, double value)
{
    fbi_attrs_scatter_value a = {.dim = dim, .value = value};
    return FBI_RUN(scatter_value, &a, x, index);
}

fb_tensor *fb_scatter_add(fb_tensor *x, int dim, fb_tensor *index, fb_tensor *src)
{
    return FBI_RUN(scatter_add, (&(fbi_attrs_scatter_add){.dim = dim}), x, index, src);
}

fb_tensor *fb_scatter_reduce(fb_tensor *x, int dim, fb_tensor *index, fb_tensor *src,
                             fb_scatter_reduction how, bool include_self)
{
    fbi_attrs_scatter_reduce a = {.dim = dim, .how = (int64_t)how, .include_self = include_self};
    return FBI_RUN(scatter_reduce, &a, x, index, src);
}

fb_tensor *fb_index_copy(fb_tensor *x, int dim, fb_tensor *index, fb_tensor *src)
{
    return FBI_RUN(index_copy, (&(fbi_attrs_index_copy){.dim = dim}), x, index, src);
}

fb_tensor *fb_index_add(fb_tensor *x, int dim, fb_tensor *index, fb_tensor *src, double alpha)
{
    return FBI_RUN(index_add, (&(fbi_attrs_index_add){.dim = dim, .alpha = alpha}), x, index, src);
}

fb_tensor *fb_index_fill(fb_tensor *x, int dim, fb_tensor *index, double value)
{
    return FBI_RUN(index_fill, (&(fbi_attrs_index_fill){.dim = dim, .value = value}), x, index);
}

fb_tensor *fb_index_reduce(fb_tensor *x, int dim, fb_tensor *index, fb_tensor *src,
                           fb_scatter_reduction how, bool include_self)
{
    fbi_attrs_index_reduce a = {.dim = dim, .how = (int64_t)how, .include_self = include_self};
    return FBI_RUN(index_reduce, &a, x, index, src);
}

/* A call of a row whose inputs are `first` and then the indices. */
static fb_tensor *run_indices(const void *site, fbi_op op, const void *attrs,
                              fb_tensor *const *first, int n, fb_tensors indices)
{
    fb_tensor *in[FB_MAX_DIMS + 2];
    fb_context *ctx = fb_context_of(first[0]);
    if (ctx && (indices.n < 1 || indices.n > FB_MAX_DIMS)) {
        FBI_ENTRY(ctx);
        if (fbi_enter(ctx))
            fbi_fail(ctx, FB_E_ARG, "%s: %d indices", fbi_opdefs[op].name, indices.n);
        return NULL;
    }
    for (int i = 0; ctx && i < n; i++)
        in[i] = first[i];
    for (int i = 0; ctx && i < indices.n; i++)
        in[n + i] = indices.t[i];
    return ctx ? fbi_run1(site, op, attrs, n + indices.n, in) : NULL;
}

fb_tensor *fb_index(fb_tensor *x, fb_tensors indices)
{
    return run_indices(FBI_SITE, FBI_OP_index, NULL, &x, 1, indices);
}

fb_tensor *fb_index_put(fb_tensor *x, fb_tensors indices, fb_tensor *values, bool accumulate)
{
    fbi_attrs_index_put a = {.accumulate = accumulate};
    return run_indices(FBI_SITE, FBI_OP_index_put, &a, (fb_tensor *[]){x, values}, 2, indices);
}

fb_tensor *fb_take(fb_tensor *x, fb_tensor *index)
{
    return FBI_RUN(take, NULL, x, index);
}

fb_tensor *fb_put(fb_tensor *x, fb_tensor *index, fb_tensor *src, bool accumulate)
{
    return FBI_RUN(put, (&(fbi_attrs_put){.accumulate = accumulate}), x, index, src);
}

fb_tensor *fb_take_along_dim(fb_tensor *x, fb_tensor *index, int dim)
{
    return FBI_RUN(take_along_dim, (&(fbi_attrs_take_along_dim){.dim = dim}), x, index);
}

fb_tensor *fb_one_hot(fb_tensor *index, int64_t classes)
{
    return FBI_RUN(one_hot, (&(fbi_attrs_one_hot){.classes = classes}), index);
}
