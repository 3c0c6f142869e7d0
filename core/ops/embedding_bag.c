/* embedding_bag: shapes, backward, samples. */
#include <flambeau/core/ops/cast.h>
#include <flambeau/core/ops/create.h>
#include <flambeau/core/ops/embedding.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/half_priv.h"
#include "core/ops/index_priv.h"
#include "core/ops/scatter_priv.h"

/* weight [rows, dim], index [n], offsets [bags], factors [n] or NULL. Output 1: of maxima the row
 * that each came from, `rows` for none. */
fb_status fbi_infer_embedding_bag(fbi_call *c)
{
    fbi_attrs_embedding_bag *a = (fbi_attrs_embedding_bag *)c->attrs; /* infer completes it */
    const fb_tensor *w = c->in[0], *index = c->in[1], *offsets = c->in[2], *factors = c->in[3];
    fb_status st = fbi_need_float(c, 0);
    if (!st)
        st = fbi_need_index(c, 1);
    if (!st)
        st = fbi_need_index(c, 2);
    if (!st && factors)
        st = fbi_need_dtype(c, 3, (fb_dtype)w->dtype);
    if (st)
        return st;
    if (w->ndim != 2 || index->ndim != 1 || offsets->ndim != 1)
        return fbi_op_fail(c, FB_E_SHAPE,
                           "weight %s, index %s and offsets %s must be [rows, dim], [n] and [bags]",
                           fbi_text(w), fbi_text(index), fbi_text(offsets));
    if (factors && !fbi_same_shape(factors, index))
        return fbi_op_fail(c, FB_E_SHAPE, "factors %s are not as many as indices %s",
                           fbi_text(factors), fbi_text(index));
    if (a->mode < FB_BAG_SUM || a->mode > FB_BAG_MAX)
        return fbi_op_fail(c, FB_E_ARG, "%lld is no mode", (long long)a->mode);
    if (factors && a->mode != FB_BAG_SUM)
        return fbi_op_fail(c, FB_E_ARG, "factors are for sums only");
    if (index->numel && !offsets->numel)
        return fbi_op_fail(c, FB_E_SHAPE, "no bag for %lld indices", (long long)index->numel);
    a->rows = w->size[0];
    a->weighted = factors != NULL;
    fb_shape s = FB_SHAPE(offsets->size[0], w->size[1]);
    st = fbi_out(c, 0, (fb_dtype)w->dtype, s);
    return st ? st : fbi_out(c, 1, FB_I64, a->mode == FB_BAG_MAX ? s : FB_SHAPE(0));
}

/* offsets: the bag of each of n positions */
fb_status fbi_infer_bag_of(fbi_call *c)
{
    return fbi_out(c, 0, FB_I64, FB_SHAPE(((const fbi_attrs_bag_of *)c->attrs)->n));
}

/* Each maximum's gradient goes to its row; that of an empty bag to one behind the last. */
static fb_tensor *max_gradient(fbi_bw *bw, fb_tensor *g)
{
    int64_t rows = ((const fbi_attrs_embedding_bag *)bw->attrs)->rows;
    fb_tensor *at = fbi_bw_out(bw, 1);
    fb_tensor *zeros =
        at ? fb_zeros(bw->ctx, (fb_dtype)g->dtype, FB_SHAPE(rows + 1, g->size[1])) : NULL;
    fb_tensor *all = fbi_set_elements(zeros, 0, at, g, FBI_SET_SUM, true);
    return all ? fb_narrow(all, 0, 0, rows) : NULL;
}

/* [n, 1]: 1, but 0 where an index is the padding. */
static fb_tensor *present(fb_tensor *index, int64_t padding, fb_dtype dtype)
{
    fb_tensor *pad = fb_full(index->ctx, FB_I64, FB_SCALAR, (double)padding);
    fb_tensor *real = pad ? fb_ne(index, pad) : NULL;
    return real ? fb_to(fb_reshape(real, FB_SHAPE(index->numel, 1)), dtype) : NULL;
}

/* How many indices each bag has, at least 1: [bags, 1]. */
static fb_tensor *sizes_of(fb_tensor *bag, int64_t bags, fb_tensor *real)
{
    fb_tensor *zeros = fb_zeros(bag->ctx, (fb_dtype)real->dtype, FB_SHAPE(bags, 1));
    fb_tensor *n = fbi_set_slices(zeros, 0, bag, real, FBI_SET_SUM);
    fb_tensor *one = n ? fb_ones(bag->ctx, (fb_dtype)n->dtype, FB_SCALAR) : NULL;
    return one ? fb_maximum(n, one) : NULL;
}

/* Gradients of the table and the factors through g's rows, one for each index. */
static fb_status sum_gradients(fbi_bw *bw, fb_tensor *g, fb_dtype dtype)
{
    const fbi_attrs_embedding_bag *a = bw->attrs;
    fb_tensor *index = fbi_bw_in(bw, 1), *offsets = fbi_bw_in(bw, 2), *factors = NULL;
    fbi_attrs_bag_of b = {.n = index ? index->numel : 0};
    fb_tensor *bag = index && offsets ? FBI_RUN(bag_of, &b, offsets) : NULL;
    fb_tensor *real = bag ? present(index, a->padding_index, (fb_dtype)g->dtype) : NULL;
    if (real && a->mode == FB_BAG_MEAN) {
        fb_tensor *n = sizes_of(bag, g->size[0], real);
        g = n ? fb_div(g, n) : NULL;
    }
    fb_tensor *rows = real && g ? fb_index_select(g, 0, bag) : NULL;
    if (rows && a->weighted)
        factors = fbi_exact(fbi_bw_in(bw, 3));
    if (!rows || (a->weighted && !factors))
        return bw->ctx->status;
    fb_status st = FB_OK;
    if (fbi_bw_needs(bw, 0)) {
        fbi_attrs_embedding_bwd e = {.padding_index = a->padding_index, .rows = a->rows};
        fb_tensor *each = factors ? fb_mul(rows, fb_reshape(factors, FB_SHAPE(b.n, 1))) : rows;
        fb_tensor *gw = each ? FBI_RUN(embedding_bwd, &e, each, index) : NULL;
        st = fbi_bw_give(bw, 0, gw ? fb_to(gw, dtype) : NULL);
    }
    if (st || !factors || !fbi_bw_needs(bw, 3))
        return st;
    fb_tensor *taken = fb_embedding(fbi_exact(fbi_bw_in(bw, 0)), index);
    fb_tensor *each = taken ? fb_mul(fb_mul(rows, taken), real) : NULL;
    fb_tensor *gf = each ? fb_sum(each, FB_DIMS(1), false) : NULL;
    return fbi_bw_give(bw, 3, gf ? fb_to(gf, dtype) : NULL);
}

fb_status fbi_bwd_ops_embedding_bag(fbi_bw *bw)
{
    const fbi_attrs_embedding_bag *a = bw->attrs;
    fb_dtype dtype = (fb_dtype)bw->grad[0]->dtype;
    fb_tensor *g = fbi_exact(bw->grad[0]);
    if (!g)
        return bw->ctx->status;
    if (a->mode != FB_BAG_MAX)
        return sum_gradients(bw, g, dtype);
    fb_tensor *gw = max_gradient(bw, g);
    return fbi_bw_give(bw, 0, gw ? fb_to(gw, dtype) : NULL);
}

/* --- public --- */

/* Where the bags begin: what the caller says, or every `len` of [bags, len]. */
static fb_tensor *offsets_of(fb_tensor *index, fb_tensor *offsets, const fb_bag_options *o)
{
    fb_context *ctx = index->ctx;
    if (index->ndim == 2 && !offsets) {
        int64_t bags = index->size[0], len = index->size[1];
        fb_tensor *at = fb_arange(ctx, FB_I64, 0, (double)bags, 1);
        return at ? fb_mul_scalar(at, (double)len) : NULL;
    }
    if (index->ndim != 1 || !offsets || offsets->ndim != 1) {
        fbi_fail(ctx, FB_E_SHAPE,
                 "embedding_bag: index %s: two dimensions without offsets, or one with offsets "
                 "[bags]",
                 fbi_text(index));
        return NULL;
    }
    if (!o->include_last_offset)
        return offsets;
    if (offsets->size[0] == 0) {
        fbi_fail(ctx, FB_E_SHAPE, "embedding_bag: offsets [0] have no last one");
        return NULL;
    }
    return fb_narrow(offsets, 0, 0, offsets->size[0] - 1);
}

fb_tensor *fb_embedding_bag(fb_tensor *weight, fb_tensor *index, fb_tensor *offsets,
                            const fb_bag_options *opts)
{
    static const fb_bag_options none;
    const fb_bag_options *o = opts ? opts : &none;
    fb_context *ctx = fb_context_of(weight);
    FBI_ENTRY(ctx);
    if (!ctx || !fbi_enter(ctx) || !fbi_tensor_check(ctx, weight, "embedding_bag", "weight") ||
        !fbi_tensor_check(ctx, index, "embedding_bag", "index") ||
        (offsets && !fbi_tensor_check(ctx, offsets, "embedding_bag", "offsets")) ||
        (o->weights && !fbi_tensor_check(ctx, o->weights, "embedding_bag", "weights")))
        return NULL;
    FB_SCOPE(ctx);
    fb_tensor *begin = offsets_of(index, offsets, o);
    if (!begin)
        return NULL;
    fbi_attrs_embedding_bag a = {.mode = (int64_t)o->mode,
                                 .padding_index = o->pads ? o->padding_index : -1};
    if (o->pads && o->padding_index < 0)
        a.padding_index += weight->size[0];
    fb_tensor *factors = o->weights ? fb_ravel(o->weights) : NULL, *out[2];
    if (o->weights && !factors)
        return NULL;
    fb_tensor *in[4] = {weight, fb_ravel(index), begin, factors};
    return in[1] && !fbi_run(ctx, FBI_OP_embedding_bag, &a, in, 4, out) ? fb_keep(out[0]) : NULL;
}

/* --- samples --- */

#define REALS(...)                                        \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2 \
    }
#define INDEX(n, ...)                                                       \
    {                                                                       \
        .shape = FB_SHAPE(__VA_ARGS__), .dtype = FB_I64, .lo = 0, .hi = (n) \
    }

void fbi_sample_embedding_bag(fbi_samples *s)
{
    /* offsets that begin at 0: all bags but the last are empty */
    fbi_sample_in in[4] = {REALS(7, 3), INDEX(7, 5), INDEX(1, 2), {.absent = true}};
    fbi_attrs_embedding_bag a = {.padding_index = -1};
    for (a.mode = FB_BAG_SUM; a.mode <= FB_BAG_MAX; a.mode++) {
        in[0].distinct = a.mode == FB_BAG_MAX;
        fbi_sample_add(s, &a, 4, in);
    }
    in[0].distinct = false;
    a = (fbi_attrs_embedding_bag){.padding_index = 2, .mode = FB_BAG_MEAN};
    in[0].constant = true; /* the padding row gets no gradient, by definition */
    fbi_sample_add(s, &a, 4, in);
    in[0].constant = false;
    in[3] = (fbi_sample_in)REALS(5);
    a = (fbi_attrs_embedding_bag){.padding_index = -1};
    fbi_sample_add(s, &a, 4, in);
    a.mode = FB_BAG_MEAN;
    fbi_sample_bad(s, &a, 4, in, FB_E_ARG, "embedding_bag: factors are for sums only");
    in[3] = (fbi_sample_in)REALS(4);
    a.mode = FB_BAG_SUM;
    fbi_sample_bad(s, &a, 4, in, FB_E_SHAPE, "factors [4] are not as many as indices [5]");
    in[3].absent = true;
    in[2] = (fbi_sample_in)INDEX(1, 2);
    in[2].lo = 6;
    in[2].hi = 7;
    fbi_sample_bad(s, &a, 4, in, FB_E_ARG, "index 6 at position 0 is out of range: the size is 6");
    in[2] = (fbi_sample_in)INDEX(1, 2);
    in[1].lo = 7;
    in[1].hi = 8;
    fbi_sample_bad(s, &a, 4, in, FB_E_ARG, "index 7 at position 0 is out of range: the size is 7");
}
