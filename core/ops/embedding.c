/* embedding: shapes, backward, samples. */
#include <flambeau/core/ops/embedding.h>
#include <flambeau/core/ops/index.h>
#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/scatter.h>
#include <flambeau/core/ops/view.h>

#include "core/ops/index_priv.h"

/* blank (in a backward of the backward): rows at padding_index come out as zeros. */
fb_status fbi_infer_embedding(fbi_call *c)
{
    fbi_attrs_embedding *a = (fbi_attrs_embedding *)c->attrs; /* infer completes it */
    const fb_tensor *w = c->in[0], *index = c->in[1];
    fb_status st = fbi_need_index(c, 1);
    if (st)
        return st;
    if (w->ndim != 2)
        return fbi_op_fail(c, FB_E_SHAPE, "weight must be [rows, dim], got %s", fbi_text(w));
    if (index->ndim == FB_MAX_DIMS)
        return fbi_op_fail(c, FB_E_SHAPE, "index %s has too many dimensions", fbi_text(index));
    a->rows = w->size[0];
    fb_shape s = fb_shape_of(index);
    s.d[s.n++] = w->size[1];
    return fbi_out(c, 0, (fb_dtype)w->dtype, s);
}

/* in: gradient [index..., dim], index */
fb_status fbi_infer_embedding_bwd(fbi_call *c)
{
    const fbi_attrs_embedding_bwd *a = c->attrs;
    const fb_tensor *g = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    return st ? st : fbi_out(c, 0, (fb_dtype)g->dtype, FB_SHAPE(a->rows, g->size[g->ndim - 1]));
}

fb_status fbi_bwd_ops_embedding(fbi_bw *bw)
{
    const fbi_attrs_embedding *a = bw->attrs;
    fbi_attrs_embedding_bwd b = {.padding_index = a->padding_index, .rows = a->rows};
    return FBI_BW_APPLY(bw, 0, embedding_bwd, &b, bw->grad[0], fbi_bw_in(bw, 1));
}

fb_status fbi_bwd_ops_embedding_bwd(fbi_bw *bw)
{
    const fbi_attrs_embedding_bwd *a = bw->attrs;
    fbi_attrs_embedding b = {.padding_index = a->padding_index, .blank = 1};
    return fbi_bw_give(bw, 0, FBI_RUN(embedding, &b, bw->grad[0], fbi_bw_in(bw, 1)));
}

fb_tensor *fb_embedding(fb_tensor *weight, fb_tensor *index)
{
    return FBI_RUN(embedding, (&(fbi_attrs_embedding){.padding_index = -1}), weight, index);
}

fb_tensor *fb_embedding_padded(fb_tensor *weight, fb_tensor *index, int64_t padding_index)
{
    fbi_attrs_embedding a = {.padding_index = padding_index};
    return FBI_RUN(embedding, &a, weight, index);
}

#define REALS(...)                                        \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2 \
    }
#define INDEX(n, ...)                                                       \
    (fbi_sample_in)                                                         \
    {                                                                       \
        .shape = FB_SHAPE(__VA_ARGS__), .dtype = FB_I64, .lo = 0, .hi = (n) \
    }

void fbi_sample_embedding(fbi_samples *s)
{
    fbi_sample_in in[2] = {REALS(5, 3), INDEX(5, 4, 2)};
    fbi_attrs_embedding a = {.padding_index = -1};
    fbi_sample_add(s, &a, 2, in);
    a.padding_index = 2;
    in[0].constant = true; /* the padding row gets no gradient, by definition */
    in[1].dtype = FB_U8;
    fbi_sample_add(s, &a, 2, in);
    in[1].lo = 7;
    in[1].hi = 8;
    fbi_sample_bad(s, &a, 2, in, FB_E_ARG, "index 7 at position 0 is out of range: the size is 5");
}

fb_status fb_embedding_renorm_(fb_tensor *weight, fb_tensor *index, double max_norm, double p)
{
    fb_context *ctx = fb_context_of(weight);
    FBI_ENTRY(ctx);
    if (!ctx || !fbi_enter(ctx))
        return ctx && ctx->status ? ctx->status : FB_E_ARG;
    if (!fbi_tensor_check(ctx, weight, "embedding_renorm_", "weight") ||
        !fbi_tensor_check(ctx, index, "embedding_renorm_", "index"))
        return ctx->status;
    if (weight->ndim != 2)
        return fbi_fail(ctx, FB_E_SHAPE, "embedding_renorm_: weight must be [rows, dim], got %s",
                        fbi_text(weight));
    FB_SCOPE(ctx);
    fb_no_grad(ctx);
    fb_tensor *at = fb_reshape(index, FB_SHAPE(index->numel));
    fb_tensor *rows = fb_renorm(at ? fb_index_select(weight, 0, at) : NULL, p, 0, max_norm);
    fb_tensor *all = rows ? fb_index_copy(weight, 0, at, rows) : NULL;
    return all ? fb_copy_(weight, all) : ctx->status;
}
