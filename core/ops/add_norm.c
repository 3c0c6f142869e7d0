/* add_layer_norm(x, weight, bias, residual): layer_norm of s = x + residual, s, means and rstd. */
#include <flambeau/core/ops/norm.h>

#include "core/ops/norm_priv.h"

#include <flambeau/core/ops/pointwise.h>

fb_status fbi_infer_add_layer_norm(fbi_call *c)
{
    const fbi_attrs_add_layer_norm *a = c->attrs;
    const fb_tensor *x = c->in[0], *r = c->in[3];
    fb_status st = fbi_need_float(c, 0);
    st = st ? st : fbi_need_dtype(c, 3, (fb_dtype)x->dtype);
    if (st)
        return st;
    if (!fbi_same_shape(x, r))
        return fbi_op_fail(c, FB_E_SHAPE, "input %s and residual %s differ", fbi_text(x),
                           fbi_text(r));
    if (a->dims < 1 || a->dims > x->ndim)
        return fbi_op_fail(c, FB_E_SHAPE, "%lld dimensions to normalise, input %s",
                           (long long)a->dims, fbi_text(x));
    fb_shape head = fb_shape_of(x);
    head.n -= (int)a->dims;
    st = fbi_norm_params(c, fbi_tail(x, a->dims), "end");
    for (int i = 0; i < 2 && !st; i++)
        st = fbi_out(c, i, (fb_dtype)x->dtype, fb_shape_of(x));
    for (int i = 2; i < 4 && !st; i++)
        st = fbi_out(c, i, fbi_stat_dtype(x), head);
    return st;
}

/* g, s, weight, gradient of s, mean, rstd -> ds, dweight, dbias */
fb_status fbi_infer_add_layer_norm_bwd(fbi_call *c)
{
    const fbi_attrs_add_layer_norm_bwd *a = c->attrs;
    const fb_tensor *s = c->in[1];
    fb_dtype dtype = (fb_dtype)(c->in[2] ? c->in[2] : s)->dtype;
    fb_status st = fbi_out(c, 0, (fb_dtype)s->dtype, fb_shape_of(s));
    for (int i = 1; i < 3 && !st; i++)
        st = fbi_out(c, i, dtype, fbi_tail(s, a->dims));
    return st;
}

/* The sum's gradient is that of both operands. */
static fb_status give_both(fbi_bw *bw, fb_tensor *ds)
{
    fb_status st = fbi_bw_needs(bw, 0) ? fbi_bw_give(bw, 0, ds) : FB_OK;
    return !st && fbi_bw_needs(bw, 3) ? fbi_bw_give(bw, 3, ds) : st;
}

fb_status fbi_bwd_add_layer_norm(fbi_bw *bw)
{
    const fbi_attrs_add_layer_norm *a = bw->attrs;
    if (bw->grad[2] || bw->grad[3])
        return fbi_bwd_ops_add_layer_norm(bw); /* somebody differentiates the statistics: rare */
    if (!bw->grad[0])
        return give_both(bw, bw->grad[1]);
    const fbi_attrs_add_layer_norm_bwd p = {.dims = a->dims};
    fb_tensor *in[6] = {bw->grad[0], fbi_bw_out(bw, 1), fbi_bw_in(bw, 1),
                        bw->grad[1], fbi_bw_out(bw, 2), fbi_bw_out(bw, 3)};
    fb_tensor *out[3];
    if (!in[1] || !in[4] || !in[5] || fbi_run(bw->ctx, FBI_OP_add_layer_norm_bwd, &p, in, 6, out))
        return bw->ctx->status;
    fb_status st = give_both(bw, out[0]);
    for (int i = 1; i < 3 && !st; i++)
        if (fbi_bw_needs(bw, i))
            st = fbi_bw_give(bw, i, out[i]);
    return st;
}

fb_status fbi_bwd_ops_add_layer_norm(fbi_bw *bw)
{
    const fbi_attrs_add_layer_norm *a = bw->attrs;
    fb_tensor *s = fbi_bw_out(bw, 1), *ds = NULL, *gs = fbi_exact(bw->grad[1]);
    fb_tensor *const grad[3] = {bw->grad[0], bw->grad[2], bw->grad[3]};
    fb_status st = s ? FB_OK : bw->ctx->status;
    if (!st && (grad[0] || grad[1] || grad[2]))
        st = fbi_layer_norm_ops(bw, s, grad, a->dims, a->eps, &ds);
    if (!st && gs)
        ds = ds ? fb_add(ds, gs) : gs;
    return st ? st : give_both(bw, fb_to(ds, (fb_dtype)s->dtype));
}

void fbi_sample_add_layer_norm(fbi_samples *s)
{
    const struct {
        fb_shape x, t;
        bool affine;
    } ok[] = {{FB_SHAPE(4, 7), FB_SHAPE(7), true},
              {FB_SHAPE(2, 3, 4), FB_SHAPE(3, 4), true},
              {FB_SHAPE(2, 6), FB_SHAPE(6), false}};
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        const fbi_attrs_add_layer_norm a = {.dims = ok[i].t.n, .eps = 1e-5};
        fbi_sample_in in[4] = {{.shape = ok[i].x, .lo = -2, .hi = 2},
                               {.shape = ok[i].t, .lo = 0.5, .hi = 1.5, .absent = !ok[i].affine},
                               {.shape = ok[i].t, .lo = -1, .hi = 1, .absent = !ok[i].affine},
                               {.shape = ok[i].x, .lo = -2, .hi = 2}};
        fbi_sample_add(s, &a, 4, in);
    }
    const fbi_attrs_add_layer_norm a = {.dims = 1, .eps = 1e-5};
    fbi_sample_in bad[4] = {{.shape = FB_SHAPE(4, 7), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(8), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(7), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(4, 7), .lo = -1, .hi = 1}};
    fbi_sample_bad(s, &a, 4, bad, FB_E_SHAPE,
                   "add_layer_norm: weight [8] does not fit the end of input [4, 7]");
    bad[3].shape = FB_SHAPE(7);
    fbi_sample_bad(s, &a, 4, bad, FB_E_SHAPE,
                   "add_layer_norm: input [4, 7] and residual [7] differ");
}

fb_tensor *fb_add_layer_norm(fb_tensor *x, fb_tensor *residual, fb_shape shape, fb_tensor *weight,
                             fb_tensor *bias, double eps, fb_tensor **sum)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (sum)
        *sum = NULL;
    else if (ctx)
        fbi_fail(ctx, FB_E_ARG, "add_layer_norm: sum is NULL: it is where x + residual goes");
    if (!sum || !fbi_tensor_check(ctx, x, "add_layer_norm", "x"))
        return NULL;
    if (!fbi_ends_in(x, shape)) {
        fbi_fail(ctx, FB_E_SHAPE, "add_layer_norm: input %s does not end in %s", fbi_text(x),
                 fbi_shape_text(ctx, shape));
        return NULL;
    }
    if (!fbi_tensor_check(ctx, residual, "add_layer_norm", "residual"))
        return NULL;
    FB_SCOPE(ctx);
    fb_dtype wide = fb_promote(fb_dtype_of(x), fb_dtype_of(residual));
    fb_tensor *in[4] = {fb_to(x, wide), weight, bias, fb_to(residual, wide)}, *out[4];
    const fbi_attrs_add_layer_norm a = {.dims = shape.n, .eps = eps};
    if (!in[0] || !in[3] || fbi_run(ctx, FBI_OP_add_layer_norm, &a, in, 4, out))
        return NULL;
    *sum = fb_keep(out[1]);
    return fb_keep(out[0]);
}
