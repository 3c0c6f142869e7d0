/* index_select, gather: shapes, backward, samples. */
#include <flambeau/core/ops/index.h>

#include "core/ops/index_priv.h"

/* --- index_select --- */

fb_status fbi_infer_index_select(fbi_call *c)
{
    fbi_attrs_index_select *a = (fbi_attrs_index_select *)c->attrs; /* infer completes it */
    int d = fbi_dim_of(c, a->dim);
    fb_status st = d < 0 ? FB_E_ARG : fbi_need_index(c, 1);
    if (st)
        return st;
    if (c->in[1]->ndim != 1)
        return fbi_op_fail(c, FB_E_SHAPE, "index must have one dimension, got %s",
                           fbi_text(c->in[1]));
    fb_shape s = a->size = fb_shape_of(c->in[0]);
    s.d[d] = c->in[1]->size[0];
    return fbi_out(c, 0, (fb_dtype)c->in[0]->dtype, s);
}

/* in: gradient, index: its slices added into zeros of `size` */
fb_status fbi_infer_index_sum(fbi_call *c)
{
    fb_status st = fbi_need_float(c, 0);
    return st ? st
              : fbi_out(c, 0, (fb_dtype)c->in[0]->dtype,
                        ((const fbi_attrs_index_sum *)c->attrs)->size);
}

fb_status fbi_bwd_ops_index_select(fbi_bw *bw)
{
    const fbi_attrs_index_select *a = bw->attrs;
    fbi_attrs_index_sum b = {.dim = a->dim, .size = a->size};
    return fbi_bw_give(bw, 0, FBI_RUN(index_sum, &b, bw->grad[0], fbi_bw_in(bw, 1)));
}

fb_status fbi_bwd_ops_index_sum(fbi_bw *bw)
{
    const fbi_attrs_index_sum *a = bw->attrs;
    return fbi_bw_give(bw, 0, fb_index_select(bw->grad[0], (int)a->dim, fbi_bw_in(bw, 1)));
}

/* --- gather --- */

fb_status fbi_infer_gather(fbi_call *c)
{
    fbi_attrs_gather *a = (fbi_attrs_gather *)c->attrs; /* infer completes it */
    const fb_tensor *x = c->in[0], *index = c->in[1];
    int d = fbi_dim_of(c, a->dim);
    fb_status st = d < 0 ? FB_E_ARG : fbi_need_index(c, 1);
    if (st)
        return st;
    bool fits = index->ndim == x->ndim;
    for (int i = 0; fits && i < x->ndim; i++)
        fits = i == d || index->size[i] <= x->size[i];
    if (!fits)
        return fbi_op_fail(c, FB_E_SHAPE, "index %s does not fit input %s along dimension %d",
                           fbi_text(index), fbi_text(x), d);
    a->size = fb_shape_of(x);
    return fbi_out(c, 0, (fb_dtype)x->dtype, fb_shape_of(index));
}

/* in: gradient, index: each element added into zeros of `size` */
fb_status fbi_infer_scatter_sum(fbi_call *c)
{
    fb_status st = fbi_need_float(c, 0);
    return st ? st
              : fbi_out(c, 0, (fb_dtype)c->in[0]->dtype,
                        ((const fbi_attrs_scatter_sum *)c->attrs)->size);
}

fb_status fbi_bwd_ops_gather(fbi_bw *bw)
{
    const fbi_attrs_gather *a = bw->attrs;
    fbi_attrs_scatter_sum b = {.dim = a->dim, .size = a->size};
    return fbi_bw_give(bw, 0, FBI_RUN(scatter_sum, &b, bw->grad[0], fbi_bw_in(bw, 1)));
}

fb_status fbi_bwd_ops_scatter_sum(fbi_bw *bw)
{
    const fbi_attrs_scatter_sum *a = bw->attrs;
    return fbi_bw_give(bw, 0, fb_gather(bw->grad[0], (int)a->dim, fbi_bw_in(bw, 1)));
}

/* --- public --- */

fb_tensor *fb_index_select(fb_tensor *x, int dim, fb_tensor *index)
{
    return FBI_RUN(index_select, (&(fbi_attrs_index_select){.dim = dim}), x, index);
}

fb_tensor *fb_gather(fb_tensor *x, int dim, fb_tensor *index)
{
    return FBI_RUN(gather, (&(fbi_attrs_gather){.dim = dim}), x, index);
}

/* --- samples --- */

#define REALS(...)                                        \
    {                                                     \
        .shape = FB_SHAPE(__VA_ARGS__), .lo = -2, .hi = 2 \
    }
#define INDEX(n, ...)                                                       \
    (fbi_sample_in)                                                         \
    {                                                                       \
        .shape = FB_SHAPE(__VA_ARGS__), .dtype = FB_I64, .lo = 0, .hi = (n) \
    }

void fbi_sample_index_select(fbi_samples *s)
{
    fbi_sample_in in[2] = {REALS(3, 4, 2), INDEX(4, 6)};
    fbi_attrs_index_select a = {.dim = 1};
    fbi_sample_add(s, &a, 2, in);
    a.dim = -3;
    in[1].hi = 3;
    fbi_sample_add(s, &a, 2, in);
    in[1].shape = FB_SHAPE(2, 2);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE, "index must have one dimension, got [2, 2]");
}

void fbi_sample_gather(fbi_samples *s)
{
    fbi_sample_in in[2] = {REALS(3, 4), INDEX(4, 3, 2)};
    fbi_attrs_gather a = {.dim = 1};
    fbi_sample_add(s, &a, 2, in);
    in[1] = INDEX(3, 5, 2);
    a.dim = 0;
    fbi_sample_add(s, &a, 2, in);
    in[1] = INDEX(3, 5, 6);
    fbi_sample_bad(s, &a, 2, in, FB_E_SHAPE,
                   "index [5, 6] does not fit input [3, 4] along dimension 0");
}
