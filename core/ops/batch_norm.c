/* batch_norm: shapes, derivatives, samples. */
#include <flambeau/core/ops/norm.h>

#include "core/ops/norm_priv.h"

#include <flambeau/core/ops/pointwise.h>
#include <flambeau/core/ops/reduce.h>
#include <flambeau/core/ops/view.h>

fb_status fbi_infer_batch_norm(fbi_call *c)
{
    const fb_tensor *x = c->in[0];
    fb_status st = fbi_need_float(c, 0);
    if (st)
        return st;
    if (x->ndim != 2 && x->ndim != 4)
        return fbi_op_fail(c, FB_E_SHAPE, "input [N, C] or [N, C, H, W] wanted, not %s",
                           fbi_text(x));
    st = fbi_norm_params(c, FB_SHAPE(x->size[1]), "channels");
    if (st)
        return st;
    if (x->numel == 0)
        return fbi_op_fail(c, FB_E_SHAPE, "no elements to normalise in input %s", fbi_text(x));
    st = x->ndim == 4 ? fbi_out_nhwc(c, 0, (fb_dtype)x->dtype, fb_shape_of(x))
                      : fbi_out(c, 0, (fb_dtype)x->dtype, fb_shape_of(x));
    for (int i = 1; i < 3 && !st; i++)
        st = fbi_out(c, i, fbi_stat_dtype(x), FB_SHAPE(x->size[1]));
    return st;
}

/* g, x, weight, mean, var -> dx, dweight, dbias */
fb_status fbi_infer_batch_norm_bwd(fbi_call *c)
{
    const fb_tensor *x = c->in[1];
    fb_dtype dtype = (fb_dtype)(c->in[2] ? c->in[2] : x)->dtype;
    fb_status st = x->ndim == 4 ? fbi_out_nhwc(c, 0, (fb_dtype)x->dtype, fb_shape_of(x))
                                : fbi_out(c, 0, (fb_dtype)x->dtype, fb_shape_of(x));
    for (int i = 1; i < 3 && !st; i++)
        st = fbi_out(c, i, dtype, FB_SHAPE(x->size[1]));
    return st;
}

fb_status fbi_bwd_batch_norm(fbi_bw *bw)
{
    const fbi_attrs_batch_norm *a = bw->attrs;
    if (!bw->grad[0] || bw->grad[1] || bw->grad[2])
        return fbi_bwd_ops_batch_norm(bw); /* somebody differentiates the statistics: rare */
    fbi_attrs_batch_norm_bwd p = {.eps = a->eps};
    return fbi_norm_bwd(bw, FBI_OP_batch_norm_bwd, &p);
}

fb_tensor *fbi_per_channel(fb_tensor *t, int ndim)
{
    fb_shape s = {ndim, {0}};
    for (int i = 0; i < ndim; i++)
        s.d[i] = t && i == 1 ? fb_numel(t) : 1;
    return t ? fb_reshape(t, s) : NULL;
}

fb_status fbi_bwd_ops_batch_norm(fbi_bw *bw)
{
    const fbi_attrs_batch_norm *a = bw->attrs;
    fb_tensor *saved = fbi_bw_in(bw, 0), *w = fbi_bw_in(bw, 1), *dx = NULL;
    fb_tensor *g = fbi_exact(bw->grad[0]), *x = fbi_exact(saved);
    fbi_norm_parts p;
    if (!x)
        return bw->ctx->status;
    fb_dtype narrow = (fb_dtype)saved->dtype, params = w ? (fb_dtype)w->dtype : narrow;
    fb_shape dims = x->ndim == 2 ? FB_SHAPE(0) : FB_SHAPE(0, 2, 3);
    double per = (double)x->numel / (double)x->size[1];
    if (!fbi_norm_parts_of(x, dims, a->eps, &p))
        return bw->ctx->status;
    fb_status st = FB_OK;
    if (g && fbi_bw_needs(bw, 0))
        dx = fbi_norm_dx(&p, w ? fb_mul(g, fbi_per_channel(w, x->ndim)) : g, dims);
    if (bw->grad[1] && fbi_bw_needs(bw, 0)) {
        fb_tensor *gm = fb_mul_scalar(fbi_per_channel(bw->grad[1], x->ndim), 1 / per);
        dx = fbi_sum_or(dx, fb_expand(gm, fb_shape_of(x)));
    }
    if (bw->grad[2] && fbi_bw_needs(bw, 0)) {
        fb_tensor *gv = fb_mul_scalar(fbi_per_channel(bw->grad[2], x->ndim), 2 / per);
        dx = fbi_sum_or(dx, fb_mul(p.centred, gv));
    }
    if (fbi_bw_needs(bw, 0) && (g || bw->grad[1] || bw->grad[2]))
        st = fbi_bw_give(bw, 0, fb_to(dx, narrow));
    if (!st && g && fbi_bw_needs(bw, 1))
        st = fbi_bw_give(bw, 1, fb_to(fb_sum(fb_mul(g, p.hat), dims, false), params));
    if (!st && g && fbi_bw_needs(bw, 2))
        st = fbi_bw_give(bw, 2, fb_to(fb_sum(g, dims, false), params));
    return st;
}

void fbi_sample_batch_norm(fbi_samples *s)
{
    const fbi_attrs_batch_norm a = {.eps = 1e-5};
    const fb_shape xs[] = {FB_SHAPE(4, 3, 2, 3), FB_SHAPE(6, 3), FB_SHAPE(3, 3, 1, 2)};
    for (size_t i = 0; i < sizeof xs / sizeof xs[0]; i++) {
        fbi_sample_in in[3] = {{.shape = xs[i], .lo = -2, .hi = 2},
                               {.shape = FB_SHAPE(3), .lo = 0.5, .hi = 1.5, .absent = i == 2},
                               {.shape = FB_SHAPE(3), .lo = -1, .hi = 1, .absent = i == 2}};
        fbi_sample_add(s, &a, 3, in);
    }
    fbi_sample_in bad[3] = {{.shape = FB_SHAPE(4, 3, 2, 3), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(4), .lo = -1, .hi = 1},
                            {.shape = FB_SHAPE(3), .lo = -1, .hi = 1}};
    fbi_sample_bad(s, &a, 3, bad, FB_E_SHAPE,
                   "batch_norm: weight [4] does not fit the channels of input [4, 3, 2, 3]");
}

fb_tensor *fb_batch_norm(fb_tensor *x, fb_tensor *weight, fb_tensor *bias, double eps,
                         fb_tensor **mean, fb_tensor **var)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (mean)
        *mean = NULL;
    if (var)
        *var = NULL;
    if (!fbi_tensor_check(ctx, x, "batch_norm", "x"))
        return NULL;
    fb_shape shape = fb_shape_of(x);
    bool image = shape.n == 2 || shape.n == 4;
    if (shape.n == 3)
        x = fb_unsqueeze(x, 3);
    else if (shape.n == 5) /* a volume is an image of more rows */
        x = fb_reshape(x, FB_SHAPE(shape.d[0], shape.d[1], shape.d[2] * shape.d[3], shape.d[4]));
    fb_tensor *in[3] = {x, weight, bias}, *out[3];
    if (fbi_run(ctx, FBI_OP_batch_norm, &(fbi_attrs_batch_norm){.eps = eps}, in, 3, out))
        return NULL;
    if (mean)
        *mean = out[1];
    else
        fb_drop(out[1]);
    if (var)
        *var = out[2];
    else
        fb_drop(out[2]);
    return image ? out[0] : fb_reshape(out[0], shape);
}

fb_tensor *fb_batch_norm_eval(fb_tensor *x, fb_tensor *weight, fb_tensor *bias, fb_tensor *mean,
                              fb_tensor *var, double eps)
{
    fb_context *ctx = fb_context_of(x);
    FBI_ENTRY(ctx);
    if (!fbi_tensor_check(ctx, x, "batch_norm_eval", "x") ||
        !fbi_tensor_check(ctx, mean, "batch_norm_eval", "mean") ||
        !fbi_tensor_check(ctx, var, "batch_norm_eval", "var"))
        return NULL;
    if (x->ndim < 2 || mean->numel != x->size[1] || var->numel != x->size[1]) {
        fbi_fail(ctx, FB_E_SHAPE,
                 "batch_norm_eval: statistics do not fit the channels: input %s, mean %s, var %s",
                 fbi_text(x), fbi_text(mean), fbi_text(var));
        return NULL;
    }
    /* One scale and one shift per channel: the image is read once. */
    fb_tensor *scale = fb_pow_scalar(fb_add_scalar(fbi_exact(var), eps), -0.5);
    if (weight)
        scale = fb_mul(scale, weight);
    fb_tensor *shift = fb_neg(fb_mul(mean, scale));
    if (bias)
        shift = fb_add(shift, bias);
    int n = x->ndim;
    fb_tensor *y = fb_add(fb_mul(x, fbi_per_channel(scale, n)), fbi_per_channel(shift, n));
    return fb_to(y, (fb_dtype)x->dtype);
}
